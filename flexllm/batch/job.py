"""One batch, whatever runs it: what is known is resumed, what is new is asked, written, counted and shown.

Three threads meet here and share nothing that both change: the reader claims rows, the engine's workers answer them, and
the caller's own thread takes results, writes them, counts and shows.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from ..cache.values import with_value
from ..cancel import CancelToken
from ..chat import ChatCompletionResult
from ..cost.counter import CostCounter
from ..errors import (
    BatchStopped,
    BudgetExceededError,
    CheckpointError,
    FlexLLMError,
)
from ..language import _, plural
from .checkpoint import Checkpoint
from .items import BatchItem, BatchResultItem, Engine, Outcome, RowSource, missing_items, result_item
from .lines import read_item
from .options import ONLY, BatchOptions
from .prefixes import PrefixOrder
from .progress import Health, Tally, make_progress, no_endpoints
from .reading import Reader
from .reuse import MOST_WAITING, Reuse
from .sinks import Outlets, Sink, View
from .stops import StopRules, Verdict, out_of_budget, out_of_time

log = logging.getLogger(__name__)


class BatchJob:
    """Runs one input through an engine, once.

    Args:
        engine: Answers what must be asked.
        options: Output file, progress and limits; the file is opened and locked here and closed when `run` ends.
        cancel: Stopping it ends the job, with everything answered in the file. The job stops it when its rules say so.
        workers: Requests that the engine has under way at the same time, at most.
        health: Tells how the endpoints do.
        reuse: Spares requests for rows whose answers are there already; None asks each row.
        sinks: Take the rows that this run settles, in completion order. One that raises OSError ends the run, and nothing
            is given to any of them from then on.
        views: Written from the output file at the end of the run, however it ends; but not if it is to end at once.

    Attributes:
        tally: The counts so far.
        costs: What the run has cost so far.
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
        reuse: Reuse | None = None,
        sinks: Sequence[Sink] = (),
        views: Sequence[View] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self.costs = CostCounter()
        self.is_complete = False
        self.stopped: BatchStopped | None = None
        self._engine = engine
        self._cancel = cancel
        self._options = options
        self._reuse = reuse
        self._outlets = Outlets(sinks, views)
        self._order = PrefixOrder(cancel) if options.order == "prefix" else None
        self._is_counted = False
        self._unwritten: list[BatchItem] = []
        self._passed_over = 0  # of those that the reader passed over, how many are counted
        self._clock = clock
        self._started = clock()  # reading the output file counts
        self._elapsed = 0.0
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
        self._reader = Reader(
            self._checkpoint, limit=options.limit, give_resumed=options.give_resumed, sample=options.sample
        )

    def run(self, rows: RowSource) -> Generator[BatchResultItem, None, None]:
        """Yield each row as it is settled. Closing the iterator stops the job and keeps what is under way.

        A job that ends itself ends as any other: `stopped` says why, and the rows that were not asked are not yielded.

        Raises:
            CheckpointError: The output file, or a view, cannot be written; what could be was.
            OSError: What a sink raised.
            Whatever the input raises, after everything under way has been written.
        """
        limit = self._options.limit
        self.tally.total = rows.total if limit is None else min(limit, rows.total or limit)
        self._is_counted = rows.total is not None
        groups = self._engine.run(self._items(rows))
        has_failed, is_at_once = True, False
        try:
            self._begin(rows)
            for group in groups:
                yield from self._tell(self._settle(group))
                self.tally.count_cost(self.costs)
                self._progress.update(self._count_passed_over())
            self._conclude(rows)
            has_failed = False
        except BaseException as error:  # also Ctrl-C, and the caller's leaving: what is under way is paid for
            is_stopping = self._cancel.stopped or self._cancel.stop_requested
            is_at_once = is_stopping and isinstance(error, KeyboardInterrupt)  # the second says so
            if not is_at_once:
                self._finish_under_way(groups)
            raise
        finally:
            groups.close()
            self._elapsed = self._clock() - self._started
            self._progress.close()
            try:
                if not is_at_once:
                    self._outlets.end(self._checkpoint, has_failed=has_failed)
            finally:
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
        """Return the counts of the run. `elapsed` is in seconds; tokens, cost and errors are those of this run.

        `cost` is in US dollars, None where no price is known. `stopped` is the sentence of `stopped`, or None. `errors` has
        for each class of error its count and, as examples, the first few rows. `endpoints` tells how each did at the end,
        as `EndpointHealth.as_dict` has it.
        """
        tally = self.tally
        return {
            "total": self._reader.rows_read if tally.total is None else tally.total,
            "success": tally.success,
            "failed": tally.failed,
            "cached": tally.cached,
            "shared": tally.shared,
            "resumed": tally.resumed,
            "retries": tally.retries,
            "hedged": tally.hedged,
            "elapsed": round(self._elapsed, 3),
            "requests_per_second": round(tally.asked / self._elapsed, 2) if self._elapsed else 0.0,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "total_tokens": tally.total_tokens,
            "cost": 0.0 if tally.cost is None and not tally.unpriced else tally.cost,
            "cost_estimated": self.costs.estimated,
            "unpriced": tally.unpriced,
            "errors_by_class": dict(tally.errors_by_class),
            "errors": tally.errors(),
            "endpoints": self._endpoints,
            "changed": self._checkpoint.changed if self._checkpoint is not None else 0,
            "complete": self.is_complete,
            "stopped": None if self.stopped is None else str(self.stopped),
        }

    # --- the caller's thread

    def _begin(self, rows: RowSource) -> None:
        """Tell everybody that it begins."""
        if self._checkpoint is not None:
            self._checkpoint.notices_changes = rows.is_uniform
            self._checkpoint.announce(self.tally.total)
        self._progress.begin(self.tally)
        if self.tally.total is None:
            log.info("a batch begins; output: %s", self._options.output)
        else:
            log.info("a batch of %d rows begins; output: %s", self.tally.total, self._options.output)

    def _count_passed_over(self) -> Tally:
        """Add the answered rows that the reader did not hand on: in a long resume nearly all of them."""
        new = self._reader.passed_over - self._passed_over
        self._passed_over += new
        self.tally.resumed += new
        self.tally.success += new
        return self.tally

    def _items(self, rows: RowSource) -> Iterator[BatchItem]:
        """Return what the engine is to do: in the order that is asked for, without what needs no request."""
        items: Iterator[BatchItem] = self._reader.items(rows)
        if self._reuse is not None:
            items = self._reuse.items(
                items,
                never_waits=rows.never_waits,
                most_waiting=MOST_WAITING if self._order is None else None,  # it reads all before the first is asked
                recall=None if self._checkpoint is None else self._recall,
            )
        return items if self._order is None else self._order.items(items)

    def _recall(self, item: BatchItem, index: int) -> Outcome | None:
        """Return what the output file has for a row that asks for the same as another one."""
        assert self._checkpoint is not None
        row = self._checkpoint.equal(item.key, index) if item.key else None
        if row is None:
            return None
        found = read_item(row, item.index)
        if found.result is not None and item.request is not None:
            return with_value(found.result, item.request) or found.result  # it matched once, as in `_resumed`
        return found.result or found.error

    def _settle(self, group: list[BatchItem]) -> list[BatchItem]:
        """Write what came back, and return it with the rows that its answers settle too."""
        if self._reuse is not None or self._order is not None:
            group = self._with_others(group)
        if any(type(item.outcome) is BudgetExceededError for item in group):
            group = self._within_budget(group)
        if self._checkpoint is not None:
            self._write(self._checkpoint, group)
        self._outlets.take(group)
        return group

    def _with_others(self, group: list[BatchItem]) -> list[BatchItem]:
        reuse, order = self._reuse, self._order
        others: list[BatchItem] = []
        for item in group:
            if reuse is not None:
                others += reuse.settle(item)
            if order is not None:
                order.settle(item)
        return group + others if others else group

    def _within_budget(self, group: list[BatchItem]) -> list[BatchItem]:
        """Leave out the rows that the budget did not allow to be asked: they are as if the run had not come to them."""
        for item in group:
            if isinstance(item.outcome, BudgetExceededError):
                self._stop(out_of_budget(item.outcome))
                break
        return [item for item in group if not isinstance(item.outcome, BudgetExceededError)]

    def _tell(self, group: list[BatchItem]) -> Iterator[BatchResultItem]:
        """Count what came back, and yield what the caller sees of it."""
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
        """Stop, and write what still comes; where nobody takes it, break it off.

        Raises:
            CheckpointError: It could not be written, in a last try neither.
        """
        self._cancel.stop()
        if self._checkpoint is None and not self._outlets.are_open:
            self._cancel.abort()  # nobody will see these answers
            return
        try:
            for group in groups:
                with contextlib.suppress(CheckpointError):  # told below, if it still fails
                    self._settle(group)
        except Exception as error:  # the input's own: what ends the run is another error, or the caller's leaving
            log.warning("the input failed while the batch was being stopped: %s", error)
        finally:
            if self._checkpoint is not None:
                self._save_rest(self._checkpoint)

    def _save_rest(self, checkpoint: Checkpoint) -> None:
        """Write what could not be written before, one by one: on a full disk there may be room for some."""
        while self._unwritten:
            try:
                checkpoint.write(self._unwritten[:1])
            except CheckpointError as error:
                paid = sum(isinstance(item.outcome, ChatCompletionResult) for item in self._unwritten)
                told = plural(
                    "{error}; {count} answer could not be saved", "{error}; {count} answers could not be saved", paid, error=error
                )  # fmt: skip
                raise CheckpointError(told) from error
            del self._unwritten[0]

    def _answered(self, item: BatchItem) -> BatchResultItem:
        tally, outcome, costs = self.tally, item.outcome, self.costs
        assert outcome is not None
        model = item.request.model if item.request is not None else ""
        if isinstance(outcome, FlexLLMError):
            if not item.shared:
                costs.failed(outcome, model)
            self._count_failed(outcome, item)
        else:
            tally.success += 1
            if outcome.cached:
                tally.cached += not item.shared
                tally.shared += item.shared
            else:
                tally.retries += outcome.attempts - 1 - outcome.hedged
                tally.hedged += outcome.hedged
            costs.answered(outcome, model)
        return result_item(item.index, outcome, item.metadata)

    def _resumed(self, item: BatchItem) -> BatchResultItem | None:
        assert self._checkpoint is not None
        tally = self.tally
        tally.resumed += 1
        if item.answered:
            tally.success += 1
        else:
            tally.failed += 1
        if not self._options.give_resumed and item.request is None and not item.place & 1:
            return None
        row = self._checkpoint.resume(item)
        if not self._options.give_resumed:
            return None
        settled = read_item(row, item.index)
        if settled.result is not None and item.request is not None:
            # It matched once: where it does not any more, a changed class is no reason to ask again.
            settled.result = with_value(settled.result, item.request) or settled.result
        return settled

    def _count_failed(self, error: FlexLLMError, item: BatchItem) -> None:
        tally = self.tally
        if tally.count_error(error, item.index, was_asked=item.request is not None):
            self._progress.say(
                _("first {kind}, in row {index}: {error}", kind=type(error).__name__, index=item.index, error=error)
            )
        log.debug("row %d failed (request %s): %s", item.index, getattr(error, "request_id", None), error)
        was_asked = item.request is not None and not item.shared
        verdict = self._rules.failed(error, tally, was_asked=was_asked, is_new=was_asked and not item.failed_before)
        if verdict is not None:
            self._stop(verdict)

    def _stop(self, verdict: Verdict) -> None:
        if not self._cancel.stopped:
            self._verdict = verdict
            log.info("the batch is stopped: %s", verdict.why)
            self._cancel.stop()

    def _conclude(self, rows: RowSource) -> None:
        """Everything has come back: put the file in order if every row is settled; else say why it is not."""
        if self._cancel.timed_out and self._options.max_time is not None:
            self._verdict = self._verdict or out_of_time(self._options.max_time)
        tally, verdict = self._count_passed_over(), self._verdict
        reader = self._reader
        self.is_complete = not self._cancel.stopped or (verdict is not None and self._is_all_settled())
        tally.is_complete = self.is_complete = self.is_complete and not reader.has_left_out
        if self.is_complete:
            tally.total = reader.rows_read  # what was counted before may have been an estimate
        self._progress.update(tally)
        if self._checkpoint is not None and self.is_complete and reader.rows_read:
            order = None if rows.owners is None else rows.owners.order()
            self._checkpoint.finish(limited=reader.is_limited or not reader.has_read_all, order=order)
        asks_failed_alone = self._options.checkpoint.retry_failed == ONLY
        if asks_failed_alone and reader.has_read_all and not reader.retried and not tally.failed:
            self._progress.say(_("no row of the input failed in an earlier run; nothing was asked"))
        if verdict is not None and not self.is_complete:
            self.stopped = verdict.as_error(tally, self._options.output)
            tally.stopped = str(self.stopped)
            self._progress.say(tally.stopped)

    def _is_all_settled(self) -> bool:
        """Return whether the job was stopped too late to leave a row out."""
        return self.tally.done == (self._reader.rows_read if self._reader.has_read_all else self.tally.total)
