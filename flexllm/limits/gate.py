"""How many requests may be under way, and how many may start per second: one gate, shared by threads.

The gate is the semaphore through which every attempt passes, first attempts and retries alike.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..cancel import CancelToken
from ..errors import ConfigError, RequestCancelled
from ..fork import forget_in_child

DEFAULT_CONCURRENCY = 10
"""The number that the user's document gives for `concurrency_limit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How fast one endpoint may be asked.

    Attributes:
        concurrency: Requests under way at the same time.
        max_qps: Requests that start per second; None is not limited.
        burst: Requests that may start at once after a pause, when `max_qps` is set.
    """

    concurrency: int = DEFAULT_CONCURRENCY
    max_qps: float | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise ConfigError(f"concurrency_limit={self.concurrency!r} must be a whole number of at least 1")
        if self.max_qps is not None and not (isinstance(self.max_qps, (int, float)) and self.max_qps > 0):
            raise ConfigError(f"max_qps={self.max_qps!r} must be above 0, or None for no limit")
        if not isinstance(self.burst, int) or self.burst < 1:
            raise ConfigError(f"burst={self.burst!r} must be a whole number of at least 1")


class TokenBucket:
    """Hands out starting times, `rate` a second, in the order in which they are asked for.

    Instead of counting tokens it keeps the time at which the bucket would be full again (the generic cell rate
    algorithm): no thread refills it, nobody polls, and two callers never get the same time. Not locked: its gate is.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._tolerance = self._interval * (burst - 1)
        self._next = float("-inf")

    def reserve(self, now: float) -> float:
        """Take one token and return the seconds from `now` at which its holder may start."""
        start = max(now, self._next - self._tolerance)
        self._next = max(self._next, start) + self._interval
        return start - now


class Gate:
    """Lets requests through: at most `concurrency` at a time, at most `max_qps` starting per second.

    May be shared by threads. Waiting threads sleep on a lock of their own and are served in order; nobody polls.
    """

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._bucket = TokenBucket(limit.max_qps, limit.burst) if limit.max_qps else None
        self._free = limit.concurrency
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._free = self._limit.concurrency
        self._lock = threading.Lock()
        self._waiting = deque()

    def permit(self, cancel: CancelToken | None = None) -> _Permit:
        """Return a context manager that holds one permit inside its block and waits for it as long as it takes.

        Entering raises `RequestCancelled` if `cancel` is stopped before the permit comes.
        """
        return _Permit(self, cancel)

    def acquire(self, cancel: CancelToken | None = None) -> None:
        """Take a permit; `release` gives it back. `permit` does both and is the safer way."""
        with self._lock:
            turn = None
            if self._free:
                self._free -= 1
            else:
                turn = threading.Lock()
                turn.acquire()
                self._waiting.append(turn)
        if turn is not None:
            self._await(turn, cancel)
        if self._bucket is not None:
            with self._lock:
                delay = self._bucket.reserve(self._clock())
            if delay > 0:
                self._sleep(delay, cancel)

    def release(self) -> None:
        """Give a permit back: to whoever waits longest, if anybody does."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _await(self, turn: threading.Lock, cancel: CancelToken | None) -> None:
        if cancel is None:
            self._take(turn, ())
            return

        def give_up() -> None:
            with self._lock:
                if turn in self._waiting:  # else a permit is on its way to us: taken below, given back there
                    self._waiting.remove(turn)
                    refused.append(True)  # before it can look
                    turn.release()

        refused: list[bool] = []
        cancel.on_stop(give_up)
        try:
            self._take(turn, refused)
        finally:
            cancel.off_stop(give_up)
        if refused:
            raise _cancelled()

    def _take(self, turn: threading.Lock, refused: Sequence[bool]) -> None:
        """Wait for a turn. An interrupt leaves the queue, or hands on the permit that came at the same moment."""
        try:
            turn.acquire()
        except BaseException:
            with self._lock:
                waits = turn in self._waiting
                if waits:
                    self._waiting.remove(turn)
            if not waits and not refused:
                self.release()
            raise

    def _sleep(self, seconds: float, cancel: CancelToken | None) -> None:
        """Sleep while holding a permit, which is given back if the sleep does not come to its end."""
        try:
            if cancel is None:
                time.sleep(seconds)
            elif cancel.wait(seconds):
                raise _cancelled()
        except BaseException:
            self.release()
            raise


class _Permit:
    """One passage through a gate. A class, not a generator: it stands on the way of every request."""

    __slots__ = ("_cancel", "_gate")

    def __init__(self, gate: Gate, cancel: CancelToken | None) -> None:
        self._gate = gate
        self._cancel = cancel

    def __enter__(self) -> None:
        self._gate.acquire(self._cancel)

    def __exit__(self, *exc_info: object) -> None:
        self._gate.release()


def _cancelled() -> RequestCancelled:
    return RequestCancelled("stopped while waiting for its turn; it was not sent", attempts=0)
