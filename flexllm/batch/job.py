"""One batch, whatever runs it: what is known is resumed, what is new is asked, written, counted and shown.

Three threads meet here and share nothing that both change: the reader claims rows, the engine's workers answer them, and
the caller's own thread takes results, writes them, counts and shows.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest
from ..digest import digest_messages, digest_settings
from ..errors import CheckpointError, ConfigError, FlexLLMError, InputError, RejectedReply, SchemaMismatch
from ..schema import parse_reply
from .checkpoint import Checkpoint, CheckpointOptions
from .items import BatchItem, BatchResultItem, Engine, RowSource, result_item
from .known import Claim
from .lines import make_key, read_item
from .progress import ProgressOptions, Tally, make_progress

log = logging.getLogger(__name__)

SHOWN_EVERY = 4096
"""Of the rows that nobody asks to see because an earlier run answered them, each so many-th travels to the progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How one batch is run.

    Attributes:
        output: The output file, None for none.
        checkpoint: How it is written and resumed.
        progress: What is shown.
        grace: Seconds that requests under way may take to finish when the batch is stopped.
        limit: Take only so many rows of the input; None takes all.
        give_resumed: Whether rows of earlier runs are given too, read back from the file.
    """

    output: Path | None = None
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    progress: ProgressOptions = field(default_factory=ProgressOptions)
    grace: float = 10.0
    limit: int | None = None
    give_resumed: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit={self.limit!r} must be a whole number of at least 1")
        if not (isinstance(self.grace, (int, float)) and self.grace >= 0):
            raise ConfigError(f"grace={self.grace!r} must be a number of seconds, 0 or more")


class BatchJob:
    """Runs one input through an engine, once.

    Args:
        engine: Answers what must be asked.
        options: Output file, progress and limits; the file is opened and locked here and closed when `run` ends.
        cancel: Stopping it ends the job, with everything answered in the file.

    Attributes:
        tally: The counts so far.
        is_complete: Every row of the input (of its first `limit` rows) is settled.
    """

    def __init__(
        self,
        engine: Engine,
        options: BatchOptions,
        cancel: CancelToken,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self.is_complete = False
        self._engine = engine
        self._cancel = cancel
        self._limit = options.limit
        self._limited = False
        self._unwritten: list[BatchItem] = []
        self._passed_over = self._passed_over_counted = 0
        self._rows_read = 0
        self._give_resumed = options.give_resumed
        self._clock = clock
        self._started = clock()  # reading the output file counts
        self._elapsed = 0.0
        self._settings: tuple[str, Any, int] = ("", None, 0)
        self._progress = make_progress(options.progress)
        self._checkpoint: Checkpoint | None = None
        if options.output is not None:
            self._checkpoint = Checkpoint(options.output, options.checkpoint, self._progress.say)

    def run(self, rows: RowSource) -> Iterator[BatchResultItem]:
        """Yield each row as it is settled. Closing the iterator stops the job and keeps what is under way.

        Raises:
            CheckpointError: The output file cannot be written; what could be was.
            Whatever the input raises, after everything under way has been written.
        """
        self.tally.total = rows.total if self._limit is None else min(self._limit, rows.total or self._limit)
        if self._checkpoint is not None:
            self._checkpoint.notices_changes = rows.is_uniform
        groups = self._engine.run(self._items(rows))
        try:
            for group in groups:
                yield from self._settle(group)
                self._progress.update(self._count_passed_over())
            self.is_complete = not self._cancel.stopped
            if self.is_complete:
                self.tally.total = self._rows_read  # what was counted before may have been an estimate
            self._progress.update(self._count_passed_over())
            if self._checkpoint is not None and self.is_complete and self._rows_read:
                self._checkpoint.finish(limited=self._limited)
        except BaseException as error:  # also Ctrl-C, and the caller's leaving: what is under way is paid for
            is_stopping = self._cancel.stopped or self._cancel.stop_requested
            if not (is_stopping and isinstance(error, KeyboardInterrupt)):  # the second says: at once
                self._finish_under_way(groups)
            raise
        finally:
            groups.close()
            self._elapsed = self._clock() - self._started
            self._progress.close()
            if self._checkpoint is not None:
                self._checkpoint.close()

    def summary(self) -> dict[str, Any]:
        """Return the counts of the run. `elapsed` is in seconds; tokens are those of this run, not of resumed rows."""
        tally = self.tally
        return {
            "total": self._rows_read if tally.total is None else tally.total,
            "success": tally.success,
            "failed": tally.failed,
            "cached": tally.cached,
            "resumed": tally.resumed,
            "retries": tally.retries,
            "elapsed": round(self._elapsed, 3),
            "requests_per_second": round(tally.asked / self._elapsed, 2) if self._elapsed else 0.0,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "total_tokens": tally.total_tokens,
            "errors_by_class": dict(tally.errors_by_class),
            "changed": self._checkpoint.changed if self._checkpoint is not None else 0,
            "complete": self.is_complete,
        }

    # --- the reader's thread

    def _items(self, rows: RowSource) -> Iterator[BatchItem]:
        for index, row in enumerate(rows):
            if index == self._limit:
                self._limited = True
                return
            self._rows_read = index + 1
            source = claim = None
            if self._checkpoint is not None:
                source = rows.source(row)
                if source is not None:
                    claim = self._checkpoint.claim_source(source, rows.settings)
            if claim is None or claim.place < 0 or not claim.is_own_line:
                yield self._item(index, row, rows, source, claim)
            elif self._give_resumed or claim.place & 1 or not claim.success or not index % SHOWN_EVERY:
                yield BatchItem(index, source=source, place=claim.place, answered=claim.success)
            else:
                self._passed_over += 1

    def _item(self, index: int, row: Any, rows: RowSource, source: int | None, claim: Claim | None) -> BatchItem:
        checkpoint = self._checkpoint
        try:
            request, metadata = rows.read(row)
            if checkpoint is None:
                return BatchItem(index, request, metadata)
            digest, settings = digest_messages(request.messages), self._settings_of(request)
        except (InputError, ConfigError) as error:
            if checkpoint is not None and claim is None:
                checkpoint.claim_nothing()
            return BatchItem(index, outcome=InputError(f"row {index} cannot be asked: {error}"))
        claim = claim or checkpoint.claim(digest, settings)
        key = make_key(digest, settings, claim.occurrence)
        return BatchItem(index, request, metadata, key, source, claim.place, claim.success)

    def _settings_of(self, request: ChatRequest) -> int:
        """Return the digest of a request's settings; that of the row before, if they are the same objects."""
        model, params, settings = self._settings
        if params is not request.params or model != request.model:
            settings = digest_settings(request.model, request.params)
            self._settings = (request.model, request.params, settings)
        return settings

    # --- the caller's thread

    def _count_passed_over(self) -> Tally:
        """Add the answered rows that the reader did not hand on: in a long resume nearly all of them."""
        new = self._passed_over - self._passed_over_counted
        self._passed_over_counted += new
        self.tally.resumed += new
        self.tally.success += new
        return self.tally

    def _settle(self, group: list[BatchItem]) -> Iterator[BatchResultItem]:
        if self._checkpoint is not None:
            self._write(self._checkpoint, group)
        for item in group:
            settled = self._resumed(item) if item.outcome is None else self._answered(item)
            if settled is not None:
                yield settled

    def _write(self, checkpoint: Checkpoint, group: list[BatchItem]) -> None:
        self._unwritten += [item for item in group if item.outcome is not None]
        if self._unwritten:
            checkpoint.write(self._unwritten)
            self._unwritten = []

    def _finish_under_way(self, groups: Iterator[list[BatchItem]]) -> None:
        """Stop, and write what still comes; without a file, break it off.

        Raises:
            CheckpointError: It could not be written, in a last try neither.
        """
        self._cancel.stop()
        if self._checkpoint is None:
            self._cancel.abort()  # nobody will see these answers
            return
        try:
            for group in groups:
                with contextlib.suppress(CheckpointError):  # told below, if it still fails
                    self._write(self._checkpoint, group)
        except Exception as error:  # the input's own: what ends the run is another error, or the caller's leaving
            log.warning("the input failed while the batch was being stopped: %s", error)
        finally:
            self._save_rest(self._checkpoint)

    def _save_rest(self, checkpoint: Checkpoint) -> None:
        """Write what could not be written before, one by one: on a full disk there may be room for some."""
        while self._unwritten:
            try:
                checkpoint.write(self._unwritten[:1])
            except CheckpointError as error:
                paid = sum(isinstance(item.outcome, ChatCompletionResult) for item in self._unwritten)
                raise CheckpointError(f"{error}; {paid} answers could not be saved") from error
            del self._unwritten[0]

    def _answered(self, item: BatchItem) -> BatchResultItem:
        tally, outcome = self.tally, item.outcome
        assert outcome is not None
        if isinstance(outcome, FlexLLMError):
            tally.failed += 1
            tally.retries += max(0, getattr(outcome, "attempts", 1) - 1)
            self._count_error(outcome, item.index)
            usage = outcome.usage if isinstance(outcome, RejectedReply) else None  # which was paid for, too
        else:
            tally.success += 1
            tally.cached += outcome.cached
            tally.retries += outcome.attempts - 1
            usage = outcome.usage
        if usage is not None:
            tally.prompt_tokens += usage["prompt_tokens"]
            tally.completion_tokens += usage["completion_tokens"]
        return result_item(item.index, outcome, item.metadata)

    def _resumed(self, item: BatchItem) -> BatchResultItem | None:
        assert self._checkpoint is not None
        tally = self.tally
        tally.resumed += 1
        if item.answered:
            tally.success += 1
        else:
            tally.failed += 1
        if not self._give_resumed and item.request is None and not item.place & 1:
            return None
        row = self._checkpoint.resume(item)
        return _with_value(read_item(row, item.index), item.request) if self._give_resumed else None

    def _count_error(self, error: FlexLLMError, index: int) -> None:
        kind = type(error).__name__
        seen = self.tally.errors_by_class.get(kind, 0)
        self.tally.errors_by_class[kind] = seen + 1
        if not seen:
            self._progress.say(f"first {kind}, in row {index}: {error}")


def _with_value(item: BatchResultItem, request: ChatRequest | None) -> BatchResultItem:
    """Fill in what an answer from the file stands for; the file keeps its text alone."""
    wanted = request.params.get("response_format") if request is not None else None
    is_json = isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")
    if wanted and is_json and item.result is not None and not item.result.tool_calls:
        with contextlib.suppress(SchemaMismatch):  # it matched once; a changed class is no reason to ask again
            item.result = replace(item.result, parsed=parse_reply(item.result.content, wanted))
    return item
