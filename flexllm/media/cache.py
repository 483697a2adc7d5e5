"""Texts that are made once and kept, least recently used first to go, in a bounded number of bytes."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from ..cancel import CancelToken
from ..errors import RequestCancelled
from ..fork import forget_in_child
from ..language import _

PATIENCE = 0.1
"""Seconds after which a thread that waits for another's work looks whether its own caller has given up."""


class OnceCache:
    """Keeps texts by key, and makes each once even where many threads ask at the same time.

    May be shared by threads; a forked child starts with an empty one.

    Args:
        max_bytes: The most that is kept, counted in characters of ASCII texts.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, str] = OrderedDict()
        self._under_way: dict[Hashable, _Work] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], str], cancel: CancelToken | None = None) -> str:
        """Return the text of a key, made by `make` if it is not kept.

        Raises:
            RequestCancelled: `cancel` was stopped while another thread's work was awaited.
            Exception: Whatever `make` raised, here or in the thread that was waited for; failures are not kept.
        """
        while True:
            with self._lock:
                text = self._kept.get(key)
                if text is not None:
                    self._kept.move_to_end(key)
                    return text
                work = self._under_way.get(key)
                if work is None:
                    mine = self._under_way[key] = _Work()
            if work is None:
                return self._make(key, mine, make)
            work.wait(cancel)
            if work.text is not None:
                return work.text
            if work.error is not None:
                raise copy.copy(work.error) from work.error  # each thread's own: callers add to errors
            # Whoever made it was interrupted, which says nothing about it: have a try ourselves.

    def _make(self, key: Hashable, work: _Work, make: Callable[[], str]) -> str:
        try:
            text = work.text = make()
            self._keep(key, text)
            return text
        except RequestCancelled:
            raise
        except Exception as error:  # for those who wait, whatever it is
            work.error = error
            raise
        finally:
            with self._lock:
                self._under_way.pop(key, None)
            work.done.set()

    def _keep(self, key: Hashable, text: str) -> None:
        if len(text) > self._max_bytes:
            return
        with self._lock:
            self._kept[key] = text
            self._bytes += len(text)
            while self._bytes > self._max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)


class _Work:
    """One text that is being made."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.text: str | None = None
        self.error: Exception | None = None

    def wait(self, cancel: CancelToken | None) -> None:
        while not self.done.wait(None if cancel is None else PATIENCE):
            if cancel is not None and cancel.stopped:
                raise RequestCancelled(_("stopped while a medium was awaited"), attempts=0)
