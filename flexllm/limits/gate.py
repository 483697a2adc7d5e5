"""The gate: the one semaphore through which every attempt passes, first attempts and retries alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..cancel import CancelToken
from ..errors import RequestCancelled, RequestTimeout
from ..fork import forget_in_child
from ..language import _
from ..retry import MAX_RETRY_AFTER
from .bucket import LATE_SECONDS, MANY
from .line import Line, Turn
from .options import RateLimit, per_second
from .passages import Cost, GateClosed, Passages, is_refusal
from .permit import Permit
from .traffic import Traffic

WORTH_WAKING = 0.001
"""Seconds that a thread must gain by it: a learned rate that rises shortens its sleep a little with every reply."""


class Gate:
    """Lets requests through, as many and as fast as its limits allow, in the order in which they came.

    May be shared by threads. Those that wait sleep on locks of their own, and only the first of them has a time to wake
    up at: nobody polls. A request that is sent again goes before those that were never sent.

    Args:
        traffic: Shared by the gates of one endpoint and key; None makes one of its own.
        sleep: Sleeps for `Turn.seconds` at most, and less if the turn is woken.
    """

    def __init__(
        self,
        limit: RateLimit,
        *,
        traffic: Traffic | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[Turn], object] = Turn.sleep,
    ) -> None:
        self.limit = limit
        self._clock = clock
        self._sleep = sleep
        self.traffic = traffic or Traffic()
        self._learned = self.traffic.learned if limit.adaptive else None
        self._floor, self.ceiling = limit.min_qps or 0.0, limit.max_qps or math.inf
        self._requests = [
            self.traffic.bucket(kind, rate, limit.burst)
            for kind, rate in (("qps", limit.max_qps), ("rpm", per_second(limit.max_rpm)))
            if rate is not None
        ]
        self._tokens = [
            (kind, self.traffic.bucket(kind, rate))
            for kind, rate in (
                ("total", per_second(limit.max_tpm)),
                ("input", per_second(limit.max_input_tpm)),
                ("output", per_second(limit.max_output_tpm)),
            )
            if rate is not None
        ]
        self._buckets = [*self._requests, *(bucket for _, bucket in self._tokens)]
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._free = self.limit.concurrency
        self._line = Line()

    def permit(
        self,
        cancel: CancelToken | None = None,
        *,
        cost: Cost | None = None,
        again: bool = False,
        until: float | None = None,
        passages: Passages | None = None,
    ) -> Permit:
        """Return a context manager that holds one permit inside its block, and waits for it as long as it takes.

        Args:
            cancel: Stopping it ends the wait.
            cost: What the request will probably take; needed where tokens are limited.
            again: It was sent before.
            until: When to give up waiting, on this gate's clock.
            passages: Where to count what becomes of it.

        Entering raises `RequestCancelled` if `cancel` is stopped before the permit comes, and `RequestTimeout` when
        `until` has come; both with `attempts` 0, for nothing was sent.
        """
        return Permit(self, cancel, cost, again, until, passages)

    @property
    def free(self) -> int:
        """How many permits nobody holds."""
        return self._free

    @property
    def waiting(self) -> int:
        """How many threads stand in its line."""
        return len(self._line)

    def closed_for(self) -> float:
        """Return the seconds for which nothing passes because the server asked for it; 0.0 if it is open."""
        return max(0.0, self.traffic.closed_until - self._clock())

    def passes_in(self, ahead: int) -> float:
        """Return the seconds until its rates let one more request pass, after as many as are `ahead` of it."""
        if self._is_free():
            return 0.0
        with self.traffic.lock:
            now = self._clock()
            learned = math.inf if self._learned is None else max(self._learned.at(now), self._floor)
            waits = [max(0.0, self._wait(now)) + ahead / learned]
            waits += [bucket.wait_behind(now, ahead) for bucket in self._requests]
            waits += [bucket.wait_behind(now, ahead * self.traffic.mean_tokens) for _, bucket in self._tokens]
            return max(waits)

    def _is_free(self) -> bool:
        is_paced = self._buckets or (self._learned is not None and self._learned.rate < math.inf)
        return not is_paced and self.traffic.closed_until <= self._clock()

    def rate(self) -> float | None:
        """Return how many requests a second may start now, as set or as learned; None is not limited."""
        with self.traffic.lock:
            rate = min([self._pace(self._clock()), *(1.0 / bucket.interval for bucket in self._requests)])
        return None if rate == math.inf else rate

    def learned(self) -> float | None:
        """Return the rate above which the server refused; None if it did not, or nothing is to be learned."""
        return None if self._learned is None else self._learned.learned

    def count_hedged(self, passages: Passages) -> None:
        """Count a request that was sent a second time."""
        with self.traffic.lock:
            passages.hedged += 1

    # --- for permits

    def enter(self, permit: Permit) -> None:
        turn = None
        try:
            with self.traffic.lock:
                now = self._clock()
                is_open = self._free > len(self._line) and self._wait(now) <= 0.0
                if is_open and (not self._line or self.passes_in(len(self._line)) <= WORTH_WAKING):
                    # Also past a line that nothing holds up any more: its threads are waking up, one after the other, and
                    # whoever joined it would keep it going for ever.
                    self._admit(permit, now)
                    return
            turn = Turn(permit.again)
            self._stand_in_line(turn, permit)
        except BaseException:  # the end of the wait, or Ctrl-C at any point of this
            self._abandon(turn, permit)
            raise

    def leave(self, permit: Permit, error: BaseException | None) -> None:
        traffic = self.traffic
        with traffic.lock:
            now = self._clock()
            # No call among these three, hence no Ctrl-C.
            self._free += 1
            permit.is_held = False
            if permit.passages is not None:
                permit.passages.in_flight -= 1
            try:
                if permit.is_accepted:
                    self._note_answer(permit, now)
                elif error is not None:
                    self._note_failure(permit, error, now)
            finally:
                for rouse in traffic.waiting:
                    rouse(now)

    def space(self, permit: Permit) -> None:
        """Count the learned rate from now: a request that was held up on its way to the wire lets the next not bunch."""
        traffic = self.traffic
        with traffic.lock:
            departed = min(self._clock(), permit.sent_at + LATE_SECONDS)  # connecting takes all of them longer
            traffic.sent_at = max(traffic.sent_at, departed)
            traffic.next_at = max(traffic.next_at, traffic.sent_at + 1.0 / permit.pace)

    # --- under the lock

    def _note_answer(self, permit: Permit, now: float) -> None:
        if permit.passages is not None:
            permit.passages.note_answer(now - permit.sent_at)
        if self._tokens:
            self._correct(permit)
        self.traffic.accept(permit.sent_at, permit.usage)
        if self._learned is not None:
            self._learned.accepted(now, permit.sent_at, permit.pace)
            if permit.hint is not None:
                self.traffic.hint(now, permit.hint)

    def _note_failure(self, permit: Permit, error: BaseException, now: float) -> None:
        if permit.passages is not None:
            permit.passages.note_failure(error)
        if is_refusal(error):
            self._refuse(permit, error, now)

    def _refuse(self, permit: Permit, error: BaseException, now: float) -> None:
        wish: float | None = getattr(error, "retry_after", None)
        if wish is not None and wish > MAX_RETRY_AFTER:
            return  # nobody waits for so long; each row fails with what the server said
        if not wish and permit.hint is not None:
            wish = permit.hint.wait
        self.traffic.refuse(now, permit.sent_at, permit.pace, wish, permit.backoff)
        if permit.hint is not None:
            self.traffic.hint(now, permit.hint)

    def _pace(self, now: float) -> float:
        """Return the requests a second that may start, as set or as learned within its bounds; inf is not limited."""
        learned = self._learned
        if learned is None or learned.rate >= self.ceiling:
            return self.ceiling
        return min(max(learned.at(now), self._floor), self.ceiling)

    def _wait(self, now: float) -> float:
        """Return the seconds until the next request may start; not above 0.0 if it may start now."""
        traffic = self.traffic
        wait = traffic.closed_until - now
        if self._learned is not None and self._learned.rate < self.ceiling:
            # The rate may have risen since `next_at` was said, and gates with another floor go by other rates.
            gap = min(traffic.next_at, traffic.sent_at + 1.0 / self._pace(now)) - now
            if gap > wait:
                wait = gap
        for bucket in self._buckets:
            gap = bucket.wait(now)
            if gap > wait:
                wait = gap
        return wait

    def _admit(self, permit: Permit, now: float, *, waited: bool = False) -> None:
        self._free, permit.is_held = self._free - 1, True
        if permit.passages is not None:
            permit.passages.in_flight += 1
            permit.passages.sent += 1
        permit.sent_at, permit.pace = now, self.ceiling
        since = self.traffic.closed_until if waited else now
        if self._learned is not None and self._learned.rate < self.ceiling:
            permit.pace = pace = self._pace(now)
            if pace < self.ceiling:  # else the bucket of `max_qps` sees to it
                start = now
                if waited and pace >= MANY:
                    start = min(max(self.traffic.next_at, since, now - LATE_SECONDS), now)
                self.traffic.sent_at, self.traffic.next_at = start, start + 1.0 / pace
        for bucket in self._requests:
            bucket.take(now, since=since)
        if self._tokens and permit.cost is not None:
            for kind, bucket in self._tokens:
                bucket.take(now, permit.cost.of(kind), since=since)

    def _correct(self, permit: Permit) -> None:
        """Put right what was estimated."""
        if permit.cost is None or not permit.usage:
            return
        took = Cost(permit.usage.get("prompt_tokens") or 0, permit.usage.get("completion_tokens") or 0)
        for kind, bucket in self._tokens:
            bucket.correct(took.of(kind) - permit.cost.of(kind))

    def _rouse(self, now: float) -> None:
        """Wake the first in line if it may go sooner than it would look by itself."""
        if self._free > 0 and self._line:
            goes_at = now + max(0.0, self._wait(now))
            if goes_at < self._line.first.wakes_at - WORTH_WAKING:
                self._line.first.wake()

    # --- in line

    def _stand_in_line(self, turn: Turn, permit: Permit) -> None:
        cancel = permit.cancel
        with self.traffic.lock:
            self.traffic.waiting.add(self._rouse)
            self._line.join(turn)
        try:
            if cancel is not None:
                cancel.on_stop(turn.stop)
            while not self._is_let_in(turn, permit):
                self._sleep(turn)
        finally:
            if cancel is not None:
                cancel.off_stop(turn.stop)

    def _is_let_in(self, turn: Turn, permit: Permit) -> bool:
        """Let the first in line in if it may pass; else tell it how long to sleep."""
        with self.traffic.lock:
            now = self._clock()
            if turn.is_over:
                self._part(turn)
                raise RequestCancelled(_("stopped while waiting for its turn; it was not sent"), attempts=0)
            if permit.until is not None and now >= permit.until:
                self._part(turn)
                raise RequestTimeout(_("its time was over before its turn came; it was not sent"), attempts=0)
            if permit.may_leave and self.traffic.closed_until > now:
                self._part(turn)
                raise GateClosed
            seconds = math.inf if permit.until is None else permit.until - now
            if self._line.first is turn and self._free > 0:
                wait = self._wait(now)
                if wait <= 0.0:
                    self._part(turn)
                    self._admit(permit, now, waited=True)
                    return True
                seconds = min(seconds, wait)
            turn.wakes_at = now + seconds
            turn.prepare(seconds)
            return False

    def _part(self, turn: Turn) -> None:
        """Take a turn out of the line, if it stands there, and have the next one look."""
        if turn in self._line:
            self._line.leave(turn)
        self._line.wake_first()
        if not self._line:
            self.traffic.waiting.discard(self._rouse)

    def _abandon(self, turn: Turn | None, permit: Permit) -> None:
        """Undo whatever was done for a permit, so that nobody else waits for it in vain."""
        with self.traffic.lock:
            if permit.is_held:  # it was let in at the last moment
                self._free, permit.is_held = self._free + 1, False
                if permit.passages is not None:
                    permit.passages.in_flight -= 1
                    permit.passages.sent -= 1
            if turn is not None:
                self._part(turn)
            else:
                self._line.wake_first()
