"""A line of threads that wait: each sleeps on a lock of its own until it is woken or its time has come."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator


class Line:
    """Turns in the order in which they are served. Not locked: whoever owns it has a lock."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()
        self._again = 0  # how many at its head were served before

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, turn: Turn) -> bool:
        return turn in self._turns

    def __iter__(self) -> Iterator[Turn]:
        return iter(tuple(self._turns))

    @property
    def first(self) -> Turn:
        """Whoever is served next. There must be somebody."""
        return self._turns[0]

    def join(self, turn: Turn) -> None:
        """Put a turn at the end; one that is there `again`, before all that are not."""
        place = self._again if turn.again else len(self._turns)
        # The count first, here and below: Ctrl-C, which comes after a call, then finds both done or none.
        self._again += turn.again
        self._turns.insert(place, turn)

    def leave(self, turn: Turn) -> None:
        """Take a turn out, wherever it stands. It must stand there."""
        self._again -= turn.again
        self._turns.remove(turn)

    def wake_first(self) -> None:
        """Have whoever is next look whether it may go."""
        if self._turns:
            self._turns[0].wake()


class Turn:
    """One thread's place in a line. All but `sleep` and `stop` are called under the lock of the line's owner.

    Attributes:
        again: It is served before those that are not.
        is_over: Its thread has been told to stop waiting.
        wakes_at: When its thread looks whether it may go, on the owner's clock: not before if nobody wakes it. In the
            past, its thread is awake. For the owner's use.
        seconds: How long its sleep may last at most; `math.inf` until it is woken.
    """

    __slots__ = ("_lock", "again", "is_over", "seconds", "wakes_at")

    def __init__(self, again: bool = False) -> None:
        self.again = again
        self.is_over = False
        self.wakes_at = -math.inf
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._lock.acquire()

    def prepare(self, seconds: float) -> None:
        """Say how long the next sleep may last at most; `math.inf` until it is woken."""
        self._lock.acquire(blocking=False)  # it may have been woken while it was awake
        self.seconds = seconds

    def sleep(self) -> None:
        """Sleep until `wake`, or for as long as was prepared. It may also end early, for no reason."""
        if not self.is_over:
            self._lock.acquire(timeout=min(self.seconds, threading.TIMEOUT_MAX) if self.seconds < math.inf else -1.0)

    def wake(self) -> None:
        """End the sleep, or the next one if it has been prepared."""
        try:
            self._lock.release()
        except RuntimeError:  # it is not asleep
            pass

    def stop(self) -> None:
        """End the wait for good. Takes no lock: it may be called by whoever holds the owner's, and by a finalizer."""
        self.is_over = True  # before the wake: a sleep that is just beginning sees the one or the other
        self.wake()
