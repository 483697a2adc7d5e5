"""Items in groups, for what is cheaper to ask about many: without holding back one that is there for one that is not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from ..cancel import CancelToken

T = TypeVar("T")


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of `size`, the last one shorter.

    What the iterable raises is raised after the items that it gave before.
    """
    iterator = iter(items)
    while True:
        window: list[T] = []
        error: BaseException | None = None
        try:
            for item in islice(iterator, size):
                window.append(item)  # not list(...), which would lose what was there before an error
        except BaseException as raised:  # whatever it is: what came before it goes first
            error = raised
        if window:
            yield window
        if error is not None:
            raise error
        if len(window) < size:
            return


def read_ahead(items: Iterable[T], size: int, cancel: CancelToken) -> Iterator[list[T]]:
    """Yield items in lists of what is there, at least one and at most `size`, read on a thread of their own.

    For an iterable that may wait, be it for what becomes of the items that it gave. Ends on `cancel`, also where the
    iterable never gives the next item; the thread is then left behind in it.
    """
    ahead = _Ahead(items, size, cancel)
    try:
        ahead.start()
    except RuntimeError:  # the system's limit of threads: nothing is lost but the reading in bulk
        yield from ([item] for item in items)
        return
    cancel.on_stop(ahead.wake)
    try:
        while window := ahead.take():
            yield window
        if ahead.error is not None:
            raise ahead.error
    finally:
        cancel.off_stop(ahead.wake)
        ahead.close()


class _Ahead(Generic[T]):
    """What a thread has read and nobody has taken yet.

    Attributes:
        error: What the iterable raised.
    """

    def __init__(self, items: Iterable[T], size: int, cancel: CancelToken) -> None:
        self.error: BaseException | None = None
        self._items = items
        self._size = size
        self._cancel = cancel
        self._changed = threading.Condition()
        self._read: list[T] = []
        self._is_over = self._is_closed = False

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._run, name="flexllm-read-ahead", daemon=True).start()

    def take(self) -> list[T]:
        """Return what there is, after waiting for it; nothing at the end, and once it is cancelled."""
        with self._changed:
            while not (self._read or self._is_over or self._cancel.stopped):
                self._changed.wait()
            if self._cancel.stopped:
                return []
            taken, self._read = self._read, []
            self._changed.notify_all()
            return taken

    def wake(self) -> None:
        """Have everybody look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Read nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # raised again where the items are taken
            self.error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            while len(self._read) >= self._size and not self._is_closed:
                self._changed.wait()
            if not self._is_closed:
                self._read.append(item)
                self._changed.notify_all()
            return not self._is_closed
