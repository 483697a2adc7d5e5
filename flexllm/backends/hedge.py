"""Hedging: a request slower than nearly all of its peers is sent once more, and the first answer wins.

Knows neither requests nor endpoints: it is handed two callables for each attempt, runs the first in the calling thread,
decides when the second is due, and breaks off whichever loses. Whom the second asks is the retry loop's business.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from ..cancel import CancelToken
from ..errors import FlexLLMError
from ..fork import forget_in_child
from ..limits.slowness import HedgePolicy, Slowness

__all__ = ["HedgePolicy", "Hedged", "Hedging", "Leg"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Winner = Literal["first", "second"]

MOST_THREADS = 64
"""Second requests under way at the same time."""

IDLE_SECONDS = 10.0
"""How long the watcher stays when it has nothing to wait for, so that a client that nobody closed leaves no thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedged(Generic[T]):
    """The answer of whichever was first.

    Attributes:
        answer: What the winner returned.
        latency: Seconds that the winner took, from when it was sent.
        winner: Whose answer it is.
        requests: How many were sent, 1 or 2. A second that was still waiting for its permit was not sent.
        failed: What the other ended in by itself while it could still have won; None if it was cut off, or if there
            was none. A server counts a request that was cut off, and mostly none that it refused.
    """

    answer: T
    latency: float
    winner: Winner = "first"
    requests: int = 1
    failed: BaseException | None = None


class Leg(CancelToken):
    """What each of the two is handed: the token that breaks it off, told in return when its request goes out.

    Attributes:
        sent_at: When that was, by the clock of the hedging; None before.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.sent_at: float | None = None

    def sent(self) -> None:
        """Count the time from now on. To be called past the gate, since waiting there says nothing about the server.

        A request that never calls it is never slow.
        """
        if self.sent_at is None:
            self.sent_at = self._clock()

    def took(self) -> float:
        """Return the seconds since it was sent, 0.0 if it was not."""
        return 0.0 if self.sent_at is None else self._clock() - self.sent_at

    def follow(self, outer: CancelToken | None) -> None:
        """Be stopped with `outer`, and aborted with it."""
        if outer is not None:
            outer.on_stop(self.stop)
            outer.hold(self.abort)

    def leave(self, outer: CancelToken | None) -> None:
        """Take back what `follow` did."""
        if outer is not None:
            outer.off_stop(self.stop)
            outer.release(self.abort)


class _Race(Leg, Generic[T]):
    """The leg of the first, and what there is to know of the second.

    Guarded by the lock of the hedging, but for `second_over`.

    Attributes:
        second: The other leg, from when it is due.
        second_over: Set when the second has ended, or need not be awaited.
        winner: Which answered first. (Not the leg itself: a race that held itself would wait for the garbage collector.)
        answer, latency: The second's, if it is the winner.
        failed: What the second ended in otherwise.
    """

    def __init__(self, hedging: Hedging, choose: Callable[[], Callable[[Leg], T] | None], outer: CancelToken | None):
        super().__init__(hedging._clock)
        self._hedging = hedging
        self.choose = choose
        self.outer = outer
        self.second: Leg | None = None
        self.second_over: threading.Event
        self.winner: Winner | None = None
        self.answer: T
        self.latency = 0.0
        self.failed: BaseException | None = None

    def sent(self) -> None:
        if self.sent_at is None:
            super().sent()
            self._hedging._on_sent(self)

    @property
    def requests(self) -> int:
        return 1 if self.second is None or self.second.sent_at is None else 2


class Hedging:
    """Runs attempts, and sends the slow ones once more. One for each client; may be shared by threads.

    A request that answers in time is run by its caller alone: no thread is woken for it, and one lock is taken when it
    ends. One thread, started when it is first needed, sleeps until the oldest request under way becomes slow.

    What counts as slow is a quantile of the times that first requests took. One that was cut off, because its second
    had answered, counts with the time it had taken by then, and so does one that failed when it was slow already: what
    they would have taken is more, but they stand above the quantile as they should. Were they left out, or the times
    of their seconds taken instead, the slow ones would vanish from the window and ever more would look slow. That only
    a share may be sent once more (`HedgePolicy.at_most`) is also what shows when a server has become slow altogether.

    Args:
        policy: Which are slow, and how many may be sent once more.
        wait: Waits on a condition, as `threading.Condition.wait` does.
    """

    def __init__(
        self,
        policy: HedgePolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], bool] = threading.Condition.wait,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._slowness = Slowness(policy)
        self._start_afresh()
        forget_in_child(self)

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._under_way: dict[_Race[Any], None] = {}  # sent, not slow yet; in the order of sending
        self._threads = 0
        self._watcher: threading.Thread | None = None
        self._is_on_call = self.patience is not None  # whoever sends next has to wake the watcher
        self._is_short = False  # one is slow, and there is no credit or no thread for it

    def _after_fork_in_child(self) -> None:
        self._start_afresh()

    @property
    def patience(self) -> float | None:
        """Seconds after which a request is sent once more; None while too few replies are known."""
        patience = self._slowness.patience
        return patience if patience < math.inf else None

    def run(
        self,
        first: Callable[[Leg], T],
        second: Callable[[], Callable[[Leg], T] | None],
        cancel: CancelToken | None = None,
    ) -> Hedged[T]:
        """Run one attempt, and another beside it if it is slow. Return the answer that comes first.

        If one of the two fails, the other one's answer counts.

        Args:
            first: Run in the calling thread. It calls `Leg.sent` when the request goes out, and obeys the leg as any
                token: if the second answers before it, the leg is aborted.
            second: Called once if the first is slow, in another thread: chooses whom to ask and returns what is then
                run there in the same way as the first, or None if nobody should be asked; it is not asked again.
            cancel: Stops and aborts both.

        Raises:
            FlexLLMError: What the first raised, if no answer came. If the second failed too, its error is the context.
        """
        race: _Race[T] = _Race(self, second, cancel)
        try:
            race.follow(cancel)
            answer = first(race)
            latency = self._end(race, answered=True)
            return (
                Hedged(answer=answer, latency=latency) if race.second is None else self._decided(race, answer, latency)
            )
        except FlexLLMError as error:
            has_lost = race.winner is not None
            self._end(race, answered=False)
            if race.second is None:
                raise
            self._await_second(race)
            if race.winner == "second":
                return Hedged(
                    answer=race.answer,
                    latency=race.latency,
                    winner="second",
                    requests=race.requests,
                    failed=None if has_lost else error.with_traceback(None),
                )
            if race.failed is not None and race.failed is not error:
                error.__context__ = race.failed
            raise
        except BaseException:  # Ctrl-C, or a defect, which must not hide behind the second's answer
            self._end(race, answered=False)
            if race.second is not None:
                race.second.abort()
            raise
        finally:
            race.leave(cancel)

    def close(self) -> None:
        """End the watcher. What was sent ends by itself; requests that come later start it anew."""
        with self._changed:
            watcher, self._watcher = self._watcher, None
            self._is_on_call, self._is_short = self.patience is not None, False
            self._changed.notify_all()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()

    # --- in the calling thread

    def _on_sent(self, race: _Race[Any]) -> None:
        self._under_way[race] = None  # no lock: one step of a dict
        if self._is_on_call:  # in this order: the watcher first says so and then looks whether anything is under way
            with self._changed:
                self._wake()

    def _end(self, race: _Race[T], *, answered: bool) -> float:
        """Note that the first has ended. Return the seconds that it took."""
        took = race.took()
        with self._changed:
            self._under_way.pop(race, None)
            if answered and race.winner is None:
                race.winner = "first"
            if race.sent_at is not None:
                self._slowness.earn()
                if answered or race.second is not None or took >= self._slowness.patience:
                    self._learn(took)
                self._wake_if_short()
        return took

    def _learn(self, took: float) -> None:
        if self._slowness.learn(took):
            self._is_on_call = True
            if self._under_way:
                self._wake()

    def _await_second(self, race: _Race[T]) -> None:
        """Wait until the second has ended, or until both are broken off: it may be where nothing breaks it off."""
        assert race.second is not None
        wake = race.second_over.set
        try:
            if race.outer is not None:
                race.outer.hold(wake)
            race.second_over.wait()
        except BaseException:  # Ctrl-C: nobody waits for the second one any more
            race.second.abort()
            raise
        finally:
            if race.outer is not None:
                race.outer.release(wake)

    def _decided(self, race: _Race[T], answer: T, latency: float) -> Hedged[T]:
        """Return the winner's answer where the first answered and a second was chosen."""
        assert race.second is not None
        if race.winner == "second":
            return Hedged(answer=race.answer, latency=race.latency, winner="second", requests=race.requests)
        failed = race.failed  # before it is cut off, which is no failure of its own
        race.second.abort()
        return Hedged(answer=answer, latency=latency, requests=race.requests, failed=failed)

    # --- in the watcher

    def _wake(self) -> None:
        if self._watcher is not None:
            self._changed.notify_all()
            return
        watcher = threading.Thread(target=self._watch, name="flexllm-hedge-watcher", daemon=True)
        self._watcher = watcher
        try:
            watcher.start()
        except RuntimeError as error:  # the system's limit; the next request tries again
            self._watcher = None
            log.warning("slow requests are not sent once more now: no thread can be started (%s)", error)

    def _wake_if_short(self) -> None:
        if self._is_short and self._has_room():
            self._wake()

    def _has_room(self) -> bool:
        return self._slowness.has_credit and self._threads < MOST_THREADS

    def _watch(self) -> None:
        """Send what is slow once more: the life of the watcher."""
        was_idle = False
        while True:
            with self._changed:
                if self._watcher is not threading.current_thread():
                    return
                slow, seconds = self._look()
                if not slow:
                    if seconds is None and was_idle:
                        self._watcher = None
                        return
                    woken = self._wait(self._changed, IDLE_SECONDS if seconds is None else seconds)
                    was_idle = seconds is None and not woken
            for race in slow:
                self._start_second(race)

    def _look(self) -> tuple[list[_Race[Any]], float | None]:
        """Take what is slow out of what is under way. Return it, and the seconds until the next, None if unknown."""
        self._is_short = False
        self._is_on_call = True
        races = list(self._under_way)
        self._is_on_call = not races
        slow: list[_Race[Any]] = []
        for race in races:
            remaining = self._slowness.patience - race.took()
            if remaining > 0:
                return slow, remaining
            if not self._has_room():
                self._is_short = True
                return slow, None
            del self._under_way[race]
            self._slowness.spend()
            self._threads += 1
            race.second, race.second_over = Leg(self._clock), threading.Event()
            slow.append(race)
        return slow, None

    def _start_second(self, race: _Race[Any]) -> None:
        try:
            threading.Thread(target=self._run_second, args=(race,), name="flexllm-hedge", daemon=True).start()
        except RuntimeError as error:  # the system's limit
            log.warning("a slow request is not sent once more: no thread can be started (%s)", error)
            self._end_second(race, None)

    # --- in the thread of a second

    def _run_second(self, race: _Race[Any]) -> None:
        leg = race.second
        assert leg is not None
        leg.follow(race.outer)
        answer: object = None
        failed: BaseException | None = None
        ask: Callable[[Leg], object] | None = None
        try:
            ask = None if leg.stopped else race.choose()
            answer = None if ask is None else ask(leg)
        except BaseException as error:  # told to the calling thread, whatever it is
            failed = error.with_traceback(None)
            if not isinstance(error, FlexLLMError):  # a defect, which must not hide behind the first's answer
                log.warning("a second request failed with an unexpected %s: %s", type(error).__name__, error)
        finally:
            leg.leave(race.outer)
        if ask is None or failed is not None:
            self._end_second(race, failed)
        else:
            self._win(race, leg, answer)

    def _win(self, race: _Race[Any], leg: Leg, answer: object) -> None:
        latency = leg.took()
        with self._changed:
            is_winner = race.winner is None
            if is_winner:
                race.winner, race.answer, race.latency = "second", answer, latency
        self._end_second(race, None)
        if is_winner:
            race.abort()

    def _end_second(self, race: _Race[Any], failed: BaseException | None) -> None:
        with self._changed:
            race.failed = failed
            self._threads -= 1
            if race.second is not None and race.second.sent_at is None:
                self._slowness.refund()
            self._wake_if_short()
        race.second_over.set()
