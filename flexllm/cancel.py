"""How a caller stops work that is under way in other threads: one token, handed down from room to room.

`stop` is soft: nothing new starts, waits end at once, what is on the wire may finish within a grace. `abort` is hard:
connections that are being read are shut down, which frees the threads that read them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Breaker = Callable[[], object]
"""Breaks off one exchange; called from another thread, at most once, and must not block."""


class CancelToken:
    """Tells the threads that work for one caller to stop. May be shared by threads.

    Attributes:
        stopped: Nothing new should start.
        aborted: What is under way is being broken off.
        stop_requested: A signal handler asked for `stop`; whoever is woken for it calls it.
        timed_out: Nobody asked: the time that `stop_after` set was over.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stopped = False
        self.aborted = False
        self.stop_requested = False
        self.timed_out = False
        self._event = threading.Event()
        self._breakers: set[Breaker] = set()
        self._listeners: set[Breaker] = set()
        self._wakers: list[Breaker] = []
        self._clock = clock
        self._stopped_at = 0.0
        self._all_told = False
        self._ends_at: float | None = None

    def stop(self) -> None:
        """Let nothing new start, and end every wait. Not for signal handlers: it takes a lock."""
        if self._all_told:
            return
        if not self.stopped:
            self._stopped_at = self._clock()
            self._event.set()  # first: should Ctrl-C come in between, the next call does all of it again
            self.stopped = True
        for listener in list(self._listeners):
            listener()
        self._all_told = True  # last, for the same reason: else those that were not told would wait for ever

    def abort(self) -> None:
        """Stop, and break off what is on the wire."""
        self.stop()
        self.aborted = True
        for breaker in list(self._breakers):
            breaker()

    def stopped_for(self) -> float:
        """Return the seconds since `stop`, 0.0 if it was not called."""
        return self._clock() - self._stopped_at if self.stopped else 0.0

    def stop_after(self, seconds: float) -> None:
        """Set a time, in seconds from now, from which on `heed` calls `stop`. Nothing is woken by it."""
        self._ends_at = self._clock() + seconds

    def time_left(self) -> float | None:
        """Return the seconds until `stop_after` is over, at least 0.0; None if it was not called."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._clock())

    def heed(self) -> bool:
        """Call `stop` if a signal handler asked for it or the time is over. Return whether it is stopped."""
        if not self.stopped:
            if self.stop_requested:
                self.stop()
            elif self._ends_at is not None and self._clock() >= self._ends_at:
                self.timed_out = True
                self.stop()
        return self.stopped

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake at once on `stop`. Return whether it was called."""
        return self._event.wait(seconds)

    def on_stop(self, listener: Breaker) -> None:
        """Call `listener` when `stop` is called; at once if it already was."""
        self._listeners.add(listener)
        if self.stopped:
            listener()

    def child(self) -> CancelToken:
        """Return a token that is stopped, softly, when this one is stopped or aborted."""
        token = CancelToken(clock=self._clock)
        self.on_stop(token.stop)
        return token

    def off_stop(self, listener: Breaker) -> None:
        """Take back what `on_stop` registered."""
        self._listeners.discard(listener)

    def request_stop(self) -> None:
        """Ask for `stop` from a signal handler: takes no lock, and wakes who registered with `on_request`."""
        self.stop_requested = True
        for waker in self._wakers:
            waker()

    def on_request(self, waker: Breaker) -> None:
        """Call `waker` when `request_stop` is called; it runs in a signal handler, so it must take no lock."""
        self._wakers = [*self._wakers, waker]
        if self.stop_requested:
            waker()

    def off_request(self, waker: Breaker) -> None:
        """Take back what `on_request` registered."""
        self._wakers = [one for one in self._wakers if one != waker]

    def hold(self, breaker: Breaker) -> None:
        """Register what breaks off an exchange that starts now; the exchange calls `release` when it is over."""
        self._breakers.add(breaker)
        if self.aborted:
            breaker()

    def release(self, breaker: Breaker) -> None:
        """Take back what `hold` registered."""
        self._breakers.discard(breaker)


_current: ContextVar[CancelToken | None] = ContextVar("flexllm_cancel", default=None)


def current() -> CancelToken | None:
    """Return the token under which this thread works for an asynchronous caller, None for a plain call."""
    return _current.get()


@contextmanager
def under(token: CancelToken) -> Iterator[None]:
    """Make `token` the current one, for calls made inside the block and in contexts copied there."""
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)
