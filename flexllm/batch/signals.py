"""Ctrl-C, SIGTERM and SIGHUP while a batch runs: the first asks it to stop cleanly, the second is obeyed at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from ..cancel import CancelToken

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal that would have ended the process at once, where something is to be put in order before.

    Attributes:
        signal: Its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising `Terminated`. Where this is the handler, `StopSignals` takes its place for a while."""
    raise Terminated(number)


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, raise_terminated)


class StopSignals:
    """Catches these signals inside its block, where nobody else does; elsewhere, and off the main thread, nothing.

    Attributes:
        received: The signal that came, None if none did.
    """

    def __init__(self, cancel: CancelToken) -> None:
        self.received: int | None = None
        self._cancel = cancel
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if signal.getsignal(number) in _DEFAULTS:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._restore()

    def raise_received(self) -> None:
        """Do what the signal would have done: raise KeyboardInterrupt, or let the process end by it."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            os.kill(os.getpid(), self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            self._cancel.request_stop()
            return
        self._restore()
        self.received = number
        self.raise_received()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
