"""One batch, whatever runs it: what is known is resumed, what is new is asked, written, counted and shown.

Three threads meet here and share nothing that both change: the reader claims rows, the engine's workers answer them, and
the caller's own thread takes results, writes them, counts and shows.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest
from ..digest import digest_messages, digest_settings
from ..errors import (
    BatchStopped,
    CheckpointError,
    ConfigError,
    FlexLLMError,
    InputError,
    RejectedReply,
    SchemaMismatch,
)
from ..schema import parse_reply
from .checkpoint import Checkpoint, CheckpointOptions
from .items import BatchItem, BatchResultItem, Engine, RowSource, missing_items, result_item
from .known import Claim
from .lines import make_key, read_item
from .progress import Health, ProgressOptions, Tally, make_progress, no_endpoints
from .stops import StopRules, Verdict, out_of_time

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
        max_time: Seconds for the run, from the making of the job; then nothing new is asked. None is not limited.
        fail_over: The share of failed rows, of those that this run asked, above which it stops: looked at whenever a row
            fails, from the 20th row on. Rows that failed in an earlier run and fail again do not count. None is not
            limited.
    """

    output: Path | None = None
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    progress: ProgressOptions = field(default_factory=ProgressOptions)
    grace: float = 10.0
    limit: int | None = None
    give_resumed: bool = True
    max_time: float | None = None
    fail_over: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit={self.limit!r} must be a whole number of at least 1")
        if not (isinstance(self.grace, (int, float)) and self.grace >= 0):
            raise ConfigError(f"grace={self.grace!r} must be a number of seconds, 0 or more")
        if self.max_time is not None and not (_is_number(self.max_time) and self.max_time > 0):
            raise ConfigError(f"max_time={self.max_time!r} must be a number of seconds above 0, or None for no limit")
        if self.fail_over is not None and not (_is_number(self.fail_over) and 0 < self.fail_over <= 1):
            raise ConfigError(
                f"fail_over={self.fail_over!r} must be a share above 0 and up to 1, such as 0.1, or None for no limit"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class BatchJob:
    """Runs one input through an engine, once.

    Args:
        engine: Answers what must be asked.
        options: Output file, progress and limits; the file is opened and locked here and closed when `run` ends.
        cancel: Stopping it ends the job, with everything answered in the file. The job stops it when its rules say so.
        workers: Requests that the engine has under way at the same time, at most.
        health: Tells how the endpoints do.

    Attributes:
        tally: The counts so far.
        is_complete: Every row of the input (of its first `limit` rows) is settled.
        stopped: Why the job ended itself before its input did, once `run` has ended; None if it did not.
    """

    def __init__(
        self,
        engine: Engine,
        options: BatchOptions,
        cancel: CancelToken,
        *,
        workers: int = 1,
        health: Health = no_endpoints,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self.is_complete = False
        self.stopped: BatchStopped | None = None
        self._engine = engine
        self._cancel = cancel
        self._options = options
        self._limit = options.limit
        self._limited = self._read_all = self._is_counted = False
        self._unwritten: list[BatchItem] = []
        self._passed_over = self._passed_over_counted = 0
        self._rows_read = 0
        self._give_resumed = options.give_resumed
        self._clock = clock
        self._started = clock()  # reading the output file counts
        self._elapsed = 0.0
        self._settings: tuple[str, Any, int] = ("", None, 0)
        self._health = health
        self._rules = StopRules(workers=workers, endpoints=len(health()), fail_over=options.fail_over)
        self._verdict: Verdict | None = None
        self._endpoints: list[dict[str, Any]] = []
        if options.max_time is not None:
            cancel.stop_after(options.max_time)
        self._progress = make_progress(options.progress, health=health)
        self._checkpoint: Checkpoint | None = None
        if options.output is not None:
            self._checkpoint = Checkpoint(options.output, options.checkpoint, self._progress.say)

    def run(self, rows: RowSource) -> Iterator[BatchResultItem]:
        """Yield each row as it is settled. Closing the iterator stops the job and keeps what is under way.

        A job that ends itself ends as any other: `stopped` says why, and the rows that were not asked are not yielded.

        Raises:
            CheckpointError: The output file cannot be written; what could be was.
            Whatever the input raises, after everything under way has been written.
        """
        self.tally.total = rows.total if self._limit is None else min(self._limit, rows.total or self._limit)
        self._is_counted = rows.total is not None
        if self._checkpoint is not None:
            self._checkpoint.notices_changes = rows.is_uniform
        log.info("a batch of %s rows begins; output: %s", self.tally.total, self._options.output)
        groups = self._engine.run(self._items(rows))
        try:
            for group in groups:
                yield from self._settle(group)
                self._progress.update(self._count_passed_over())
            self._conclude()
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
            self._endpoints = [one.as_dict() for one in self._health()]
            log.info(
                "the batch ends after %.1f s: %d rows answered, %d failed, %d of them by earlier runs",
                self._elapsed, self.tally.success, self.tally.failed, self.tally.resumed,
            )  # fmt: skip

    def unasked_items(self, given: Iterable[BatchResultItem]) -> Iterator[BatchResultItem]:
        """Yield, in input order, an item with the error `stopped` for each row that has none because the job ended itself.

        Args:
            given: What `run` yielded, in any order. No item is made up if the input's length was unknown.
        """
        if self.stopped is None or not self._is_counted:
            return iter(())
        return missing_items(given, self.tally.total or 0, self.stopped)

    def summary(self) -> dict[str, Any]:
        """Return the counts of the run. `elapsed` is in seconds; tokens and errors are those of this run.

        `stopped` is the sentence of `stopped`, or None. `errors` has for each class of error its count and, as examples,
        the first few rows. `endpoints` tells how each did at the end, as `EndpointHealth.as_dict` has it.
        """
        tally = self.tally
        return {
            "total": self._rows_read if tally.total is None else tally.total,
            "success": tally.success,
            "failed": tally.failed,
            "cached": tally.cached,
            "resumed": tally.resumed,
            "retries": tally.retries,
            "hedged": tally.hedged,
            "elapsed": round(self._elapsed, 3),
            "requests_per_second": round(tally.asked / self._elapsed, 2) if self._elapsed else 0.0,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "total_tokens": tally.total_tokens,
            "errors_by_class": dict(tally.errors_by_class),
            "errors": tally.errors(),
            "endpoints": self._endpoints,
            "changed": self._checkpoint.changed if self._checkpoint is not None else 0,
            "complete": self.is_complete,
            "stopped": None if self.stopped is None else str(self.stopped),
        }

    # --- the reader's thread

    def _items(self, rows: RowSource) -> Iterator[BatchItem]:
        for index, row in enumerate(rows):
            if index == self._limit:
                self._limited = True
                break
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
        self._read_all = True

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
        place, success = claim.place, claim.success
        return BatchItem(index, request, metadata, key, source, place, success, None, claim.failed_before)

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
        tally, outcome, times = self.tally, item.outcome, 1
        assert outcome is not None
        if isinstance(outcome, FlexLLMError):
            self._count_failed(outcome, item)
            usage = outcome.usage if isinstance(outcome, RejectedReply) else None  # which was paid for, too
        else:
            tally.success += 1
            tally.cached += outcome.cached
            tally.retries += outcome.attempts - 1 - outcome.hedged
            tally.hedged += outcome.hedged
            usage, times = outcome.usage, 1 + outcome.hedged
        if usage is not None:
            tally.prompt_tokens += usage["prompt_tokens"] * times
            tally.completion_tokens += usage["completion_tokens"] * times
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

    def _count_failed(self, error: FlexLLMError, item: BatchItem) -> None:
        tally = self.tally
        if tally.count_error(error, item.index):
            self._progress.say(f"first {type(error).__name__}, in row {item.index}: {error}")
        log.debug("row %d failed (request %s): %s", item.index, getattr(error, "request_id", None), error)
        is_new = item.request is not None and not item.failed_before
        verdict = self._rules.failed(error, tally, was_asked=item.request is not None, is_new=is_new)
        if verdict is not None and not self._cancel.stopped:
            self._verdict = verdict
            log.info("the batch is stopped: %s", verdict.why)
            self._cancel.stop()

    def _conclude(self) -> None:
        """Everything has come back: put the file in order if every row is settled; else say why it is not."""
        if self._cancel.timed_out and self._options.max_time is not None:
            self._verdict = self._verdict or out_of_time(self._options.max_time)
        tally, verdict = self._count_passed_over(), self._verdict
        self.is_complete = not self._cancel.stopped or (verdict is not None and self._is_all_settled())
        if self.is_complete:
            tally.total = self._rows_read  # what was counted before may have been an estimate
        self._progress.update(tally)
        if self._checkpoint is not None and self.is_complete and self._rows_read:
            self._checkpoint.finish(limited=self._limited or not self._read_all)
        if verdict is not None and not self.is_complete:
            self.stopped = verdict.as_error(tally, self._options.output)
            self._progress.say(str(self.stopped))

    def _is_all_settled(self) -> bool:
        """Return whether the job was stopped too late to leave a row out."""
        return self.tally.done == (self._rows_read if self._read_all else self.tally.total)


def _with_value(item: BatchResultItem, request: ChatRequest | None) -> BatchResultItem:
    """Fill in what an answer from the file stands for; the file keeps its text alone."""
    wanted = request.params.get("response_format") if request is not None else None
    is_json = isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")
    if wanted and is_json and item.result is not None and not item.result.tool_calls:
        with contextlib.suppress(SchemaMismatch):  # it matched once; a changed class is no reason to ask again
            item.result = replace(item.result, parsed=parse_reply(item.result.content, wanted))
    return item
