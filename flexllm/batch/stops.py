"""When a batch ends itself: what its failed rows tell of the rows to come, and the sentence that says so.

Values and counts alone: the job hands in each failed row, and stops the run when there is a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import (
    AllEndpointsFailed,
    ApiStatusError,
    BatchStopped,
    BudgetExceededError,
    ConnectionFailed,
    FlexLLMError,
    MalformedResponse,
    NotFound,
    PermissionDenied,
    RequestTimeout,
    ServerError,
)
from ..language import _, with_semicolons
from ..retry import blame
from .progress import Tally

ALIKE_ROWS = 3
"""Rows that meet the same wrong key, address, model or empty account before it is believed: one may be a hiccup of the
server, and each further one may cost money or a lock-out."""

FEWEST_UNREACHED = 10
"""Rows that find no server, at least, before a run that never had an answer gives up; twice the workers if that is more,
for all that are under way at a bad moment fail together."""

FEWEST_UNANSWERED = 20
"""The same for a run that the server had answered: it may be starting again; four times the workers if that is more."""

SHARE_FROM = 20
"""Settled rows from which on a share of them means something."""

Reason = Literal["fatal", "failures", "max_time", "budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a run is to stop.

    Attributes:
        why: A clause for the sentence.
        error: The error that decided, None if none did.
    """

    reason: Reason
    why: str
    error: FlexLLMError | None = None

    def as_error(self, tally: Tally, output: Path | None) -> BatchStopped:
        """Return what the caller is told at the end of the run: what happened, how far it got, how to go on."""
        parts = [self._what_happened(tally.success, tally.total), *self._how_to_go_on(output)]
        return BatchStopped(with_semicolons(parts), reason=self.reason, error=self.error)

    def _what_happened(self, done: int, total: int | None) -> str:
        if total is None:
            return _("stopped with {done:,} rows answered: {why}", done=done, why=self.why)
        return _("stopped with {done:,} of {total:,} rows answered: {why}", done=done, total=total, why=self.why)

    def _how_to_go_on(self, output: Path | None) -> Iterator[str]:
        if output is None:
            return
        if self.reason == "budget":  # whose error says how
            yield _("then only rows without an answer in {output} are asked", output=output)
        elif self.error is None:
            yield _("run the same again: only rows without an answer in {output} are asked", output=output)
        else:
            yield _(
                "once that is mended, run the same again: only rows without an answer in {output} are asked",
                output=output,
            )


def out_of_time(max_time: float) -> Verdict:
    """Return the verdict for a run whose time is over."""
    return Verdict(reason="max_time", why=_("max_time={seconds:g} seconds are over", seconds=max_time))


def out_of_budget(error: BudgetExceededError) -> Verdict:
    """Return the verdict for a run of which the next row may cost more than is left."""
    return Verdict(reason="budget", why=str(error), error=error)


class StopRules:
    """Decides, failed row by failed row in completion order, whether the run has to stop.

    An answer costs nothing here: that there was one is seen in the counts when the next row fails. Rows that an earlier
    run settled say nothing, nor do rows that cannot be asked.

    - Errors that every further row would meet: after `ALIKE_ROWS` of one class, status and code without an answer in
      between; after as many as there are workers if it may yet be the row's own fault, for such refusals come faster than
      answers. Where a pool may still have a good endpoint, one of its endpoints alone does not decide so soon.
    - No server: after `FEWEST_UNREACHED` rows (or twice the workers) if none was ever reached.
    - No answer any more, whatever the server says instead: after `FEWEST_UNANSWERED` rows (or four times the workers).
    - `fail_over`: looked at whenever a row fails, from `SHARE_FROM` rows on.

    A row that failed in an earlier run and fails again in a way that may be its own fault says nothing either. Such rows
    come first when a run is gone on with, one after the other, and would stop it each time at the same place.

    Args:
        workers: Requests under way at the same time, at most.
        endpoints: How many endpoints answer.
        fail_over: The share of failed rows above which the run stops, None for no limit.
    """

    def __init__(self, *, workers: int = 1, endpoints: int = 1, fail_over: float | None = None) -> None:
        self._most_unreached = max(FEWEST_UNREACHED, 2 * workers)
        self._most_unanswered = max(FEWEST_UNANSWERED, 4 * workers)
        self._most_alike = max(ALIKE_ROWS, workers)
        self._is_pool = endpoints > 1
        self._fail_over = fail_over
        self._failed = self._left_out = self._answered = 0
        self._was_reached = False
        self._unanswered = 0  # rows in a row, as are those alike
        self._alike: dict[tuple[object, ...], int] = {}

    def failed(
        self, error: FlexLLMError, tally: Tally, *, was_asked: bool = True, is_new: bool = True
    ) -> Verdict | None:
        """Take note of a failed row, which `tally` counts already. Return a verdict if the run has to stop.

        Args:
            was_asked: The row could be read, and was sent on its way.
            is_new: No earlier run asked it.
        """
        self._failed += 1
        if not was_asked or (not is_new and _may_be_its_own(error)):
            self._left_out += 1
            return None
        answered = tally.asked - self._failed - tally.cached - tally.shared  # by a server
        if answered != self._answered:
            self._answered = answered
            self._is_reached_again()
        return self._judged(error) or self._over_share(error, tally)

    def _judged(self, error: FlexLLMError) -> Verdict | None:
        fault = blame(error)
        if fault == "request":
            if isinstance(error, (ApiStatusError, MalformedResponse)):  # key, account and address are good, then
                self._is_reached_again()
            return None
        self._unanswered += 1
        self._was_reached = self._was_reached or not _found_nobody(error)
        if fault == "endpoint":
            alike = self._count_alike(error)
            if alike >= (self._most_alike if _may_be_its_own(error) else ALIKE_ROWS) and self._is_everywhere(error):
                why = _("every further row would fail as the last {count} did ({error})", count=alike, error=error)
                return Verdict(reason="fatal", why=why, error=error)
        if not self._was_reached and self._unanswered >= self._most_unreached:
            why = _("the first {count} rows brought no reply at all ({error})", count=self._unanswered, error=error)
            return Verdict(reason="fatal", why=why, error=error)
        if self._unanswered >= self._most_unanswered:
            why = _(
                "the last {count} rows failed without an answer in between ({error})",
                count=self._unanswered, error=error,
            )  # fmt: skip
            return Verdict(reason="fatal", why=why, error=error)
        return None

    def _count_alike(self, error: FlexLLMError) -> int:
        """Count an error that the endpoint is to be blamed for; return how many of its kind there were."""
        kind = type(error), getattr(error, "status", None), str(getattr(error, "code", None))
        self._alike[kind] = count = self._alike.get(kind, 0) + 1
        return count

    def _is_everywhere(self, error: FlexLLMError) -> bool:
        """Return whether no other endpoint could have answered."""
        return not self._is_pool or isinstance(error, AllEndpointsFailed)

    def _is_reached_again(self) -> None:
        self._was_reached = True
        self._unanswered = 0
        self._alike.clear()

    def _over_share(self, error: FlexLLMError, tally: Tally) -> Verdict | None:
        failed, asked = self._failed - self._left_out, tally.asked - self._left_out
        if self._fail_over is None or asked < SHARE_FROM or failed / asked <= self._fail_over:
            return None
        why = _(
            "{failed:,} of {asked:,} rows failed, more than fail_over={share} allows; the last: {error}",
            failed=failed, asked=asked, share=self._fail_over, error=error,
        )  # fmt: skip
        return Verdict(reason="failures", why=why, error=error)


def _may_be_its_own(error: FlexLLMError) -> bool:
    """Return whether a row may have brought its failure about: some are refused or never answered for what they hold."""
    if isinstance(error, AllEndpointsFailed):
        return any(map(_may_be_its_own, error.errors))
    return isinstance(error, _OWN_FAULTS) or blame(error) == "request"


_OWN_FAULTS = (PermissionDenied, NotFound, RequestTimeout, ServerError, MalformedResponse)


def _found_nobody(error: FlexLLMError) -> bool:
    """Return whether nothing came back, from no endpoint."""
    if isinstance(error, AllEndpointsFailed):
        return all(isinstance(one, ConnectionFailed) for one in error.errors)
    return isinstance(error, ConnectionFailed)
