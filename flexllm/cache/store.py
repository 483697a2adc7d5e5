"""The response cache: answers by key, in memory and in a file that threads and processes share.

Whoever asks never waits for a write, and never learns that a disk is full or a file damaged: an answer that cannot be
found is bought, one that cannot be kept is not. `admin` looks after the file; which key a request has is not known here.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from ..chat import ChatCompletionResult
from ..errors import CacheError, ConfigError
from ..fork import forget_in_child
from ..language import _
from . import admin
from .admin import CacheEntry, CacheStats
from .codec import decode, encode
from .connection import TABLE
from .file import AnswerFile
from .front import Front
from .options import ResponseCacheConfig

BATCH = 512
"""Answers that are written without waiting for more."""

DELAY = 0.5
"""Seconds that an answer waits for others to be written with."""

LINGER = 5.0
"""Seconds after which a writer with nothing to do ends: a store that nobody uses can then be collected."""

MOST_KEYS = 990
MOST_ROWS = 400
"""Per statement: libraries before SQLite 3.32 take 999 values at most."""

_ONE = f'SELECT value FROM "{TABLE}" WHERE key = ?'
_WINDOW = f"""SELECT '[' || group_concat('["' || key || '",' || value || ']') || ']' FROM "{TABLE}" WHERE key IN """

_log = logging.getLogger(__name__)


class ResponseCache:
    """Answers that were paid for, by the key of their request. May be shared by threads, and opens on first use.

    A forked child opens its own. What is put in is found at once, is on disk within about half a second, and is written
    by `close` and at the end of the interpreter too. `config.enabled` is for whoever decides to have a cache: this one
    works.

    Args:
        config: Where, and for how long.
        clock: Unix time in seconds.

    Attributes:
        hits: Answers that were found.
        misses: Answers that were not.
    """

    def __init__(self, config: ResponseCacheConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.hits = 0
        self.misses = 0
        self._clock = clock
        try:
            self._file = AnswerFile(config.path)
        except RuntimeError as error:  # pathlib's, for "~"
            folder = str(config.cache_dir)
            raise ConfigError(_("cache_dir={folder!r} cannot be found: {error}", folder=folder, error=error)) from error
        self._renew()
        forget_in_child(self)
        _open.add(self)

    def _renew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._writing = threading.Lock()
        self._front = Front(self.config.memory)
        self._thread: threading.Thread | None = None

    def _after_fork_in_child(self) -> None:
        self._renew()  # what waits is written by the parent

    @property
    def exists(self) -> bool:
        """Whether there is a file already, and looking into it makes none."""
        return self._file.exists

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.config.path)!r}, ttl={self.config.ttl:g})"

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def get(self, key: str, *, with_body: bool = False) -> ChatCompletionResult | None:
        """Return the answer for a key, None if there is none, or none that is young enough.

        Args:
            key: ASCII text.
            with_body: Give the reply's body too, if the answer was kept with it; `body` is None if it was not.
        """
        with self._changed:
            text = self._front.find(key)
        result = self._read(text, with_body)
        if result is None:  # not in memory, or too old: another process may have a newer one
            result = self._from_disk(key, with_body)
        self._count(result is not None, result is None)
        return result

    def get_many(self, keys: Iterable[str], *, with_body: bool = False) -> dict[str, ChatCompletionResult]:
        """Return the answers for those of many keys that have one: one look at the disk for some hundred keys.

        What is found on disk is not kept in memory, as a batch asks for each of its rows once.
        """
        wanted = list(dict.fromkeys(keys))
        with self._changed:
            texts = {key: self._front.find(key) for key in wanted}
        found = {}
        for key, text in texts.items():
            result = self._read(text, with_body)
            if result is not None:
                found[key] = result
        missing = [key for key in wanted if key not in found and key.isascii()]
        for start in range(0, len(missing), MOST_KEYS):
            found.update(self._window(missing[start : start + MOST_KEYS], with_body))
        self._count(len(found), len(wanted) - len(found))
        return found

    def put(self, key: str, result: ChatCompletionResult, *, with_body: bool = False) -> None:
        """Keep an answer. Never raises, and never waits for the disk.

        Args:
            key: ASCII text.
            with_body: Keep the reply's body too.
        """
        try:
            text = encode(result, self._clock(), with_body=with_body)
            if key.isascii():
                self._add(key, text)
        except Exception as error:  # whatever it is: the answer is there, and is worth more than its copy
            _log.debug("an answer is not kept: %s", error)

    def flush(self) -> None:
        """Write what is not on disk by now, and return when it is, or cannot be."""
        with self._changed:
            waiting = self._front.waiting  # and not what others put in meanwhile, without an end
        for _part in range(0, waiting, MOST_ROWS):
            if not self._write_some():
                break

    def close(self) -> None:
        """Write what is not on disk yet and close the file. It opens again when it is used again."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(DELAY)  # it may be at work; `flush` waits for that anyway
        self.flush()
        self._file.close()

    def stats(self) -> CacheStats:
        """Return what is in the file. Raises CacheError if it cannot be read."""
        self.flush()
        return admin.stats(self._file, self.config.ttl, self._clock())

    def prune(self, *, older_than: float | None = None, everything: bool = False, max_bytes: int | None = None) -> int:
        """Remove answers and make the file smaller. Without arguments, those that are too old by `config.ttl`.

        Args:
            older_than: Remove those that were made more than so many seconds ago.
            everything: Remove all.
            max_bytes: Remove the oldest until the file has at most this size, or nothing is left.

        Returns:
            How many were removed.

        Raises:
            CacheError: The file cannot be used.
        """
        self.flush()
        if older_than is None and max_bytes is None and self.config.ttl:
            older_than = self.config.ttl
        before = None if older_than is None else self._clock() - older_than
        removed = admin.prune(self._file, before=before, everything=everything, max_bytes=max_bytes)
        with self._changed:
            self._front.clear()
        return removed

    def entries(self, *, newest_first: bool = False) -> Iterator[CacheEntry]:
        """Yield all answers of the file, the oldest or the newest first; those too that are too old by now.

        Raises:
            CacheError: The file cannot be read.
        """
        self.flush()
        return admin.entries(self._file, newest_first=newest_first)

    def _count(self, hits: int, misses: int) -> None:
        with self._changed:
            self.hits += hits
            self.misses += misses

    def _from_disk(self, key: str, with_body: bool) -> ChatCompletionResult | None:
        rows = self._file.read(_ONE, (key,)) if key.isascii() else None
        try:
            text = _text(rows[0][0]) if rows else None
        except ValueError:
            return None
        result = self._read(text, with_body)
        if text is not None and result is not None:
            with self._changed:
                self._front.keep(key, text)
        return result

    def _read(self, text: str | None, with_body: bool) -> ChatCompletionResult | None:
        if text is None:
            return None
        try:
            return self._fresh(json.loads(text), with_body)
        except (ValueError, RecursionError):
            return None

    def _fresh(self, entry: Any, with_body: bool) -> ChatCompletionResult | None:
        """Return the answer of an entry, None if it is damaged or too old. One from the future is as old as it is new."""
        try:
            ttl = self.config.ttl
            if ttl and abs(self._clock() - entry["at"]) >= ttl:
                return None
            return decode(entry, with_body=with_body)
        except (CacheError, TypeError, KeyError) as error:
            _log.debug("%s", error)
            return None

    def _window(self, keys: list[str], with_body: bool) -> dict[str, ChatCompletionResult]:
        """Read many at once. sqlitedict hands on row by row, each time waking a thread, so they come as one row."""
        rows = self._file.read(f"{_WINDOW}({','.join('?' * len(keys))})", keys)
        try:
            entries = dict(json.loads(_text(rows[0][0]) or "[]")) if rows else {}
        except (ValueError, TypeError, RecursionError):  # one of them is damaged
            rows = None
        if rows is None:
            entries = {key: entry for key in keys if (entry := self._entry_alone(key)) is not None}
        found = {}
        for key, entry in entries.items():
            result = self._fresh(entry, with_body)
            if result is not None:
                found[key] = result
        return found

    def _entry_alone(self, key: str) -> Any:
        rows = self._file.read(_ONE, (key,))
        try:
            return json.loads(_text(rows[0][0]) or "null") if rows else None
        except (ValueError, RecursionError):
            return None

    def _add(self, key: str, text: str) -> None:
        with self._changed:
            if not self._file.may_write:
                self._front.keep(key, text)
                return
            self._front.wait(key, text)
            if self._thread is None:
                _see_to_the_end()
                thread = threading.Thread(target=self._write_behind, name="flexllm-cache", daemon=True)
                self._thread = thread  # first: `start` lets it run
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the end of the interpreter: `flush` writes it
                    self._thread = None
            elif self._front.waiting in (1, BATCH):
                self._changed.notify()

    def _write_behind(self) -> None:
        """Write what waits, some at a time, until there was nothing for a while."""
        me = threading.current_thread()
        while True:
            with self._changed:
                waited = self._changed.wait_for(lambda: self._front.waiting or self._thread is not me, LINGER)
                if not waited or self._thread is not me:
                    if self._thread is me:
                        self._thread = None
                    return
                self._changed.wait_for(lambda: self._front.waiting >= BATCH or self._thread is not me, DELAY)
            try:
                while self._write_some() == MOST_ROWS:
                    pass
            except Exception as error:  # a thread that dies of it would leave the rest unwritten
                _log.debug("answers could not be written: %s", error)

    def _write_some(self) -> int:
        """Write the first of those that wait; return how many these were. What cannot be written is let go."""
        with self._writing:
            with self._changed:
                batch = self._front.batch(MOST_ROWS)
            if batch:
                rows = ",".join(["(?,?)"] * len(batch))
                values = [value for pair in batch for value in pair]
                self._file.write(f'REPLACE INTO "{TABLE}" (key, value) VALUES {rows}', values)
                with self._changed:
                    self._front.written(batch)
            return len(batch)


def _text(value: bytes | None) -> str | None:
    """Return what SQLite gave, which is bytes, as text. Raises ValueError if it is damaged."""
    return None if value is None else bytes(value).decode()


_open: weakref.WeakSet[ResponseCache] = weakref.WeakSet()


def _close_all() -> None:
    for one in list(_open):
        try:
            one.close()
        except Exception as error:  # nobody is left to mend it, and others are to be closed too
            _log.debug("a cache could not be closed: %s", error)


def _see_to_the_end() -> None:
    """Have what waits written when a child of multiprocessing ends: before Python 3.13 it ends without `atexit`, and
    later it forgets what its parent registered there."""
    global _seen_to
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if _seen_to != os.getpid() and process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=0)
    _seen_to = os.getpid()


_seen_to = 0
atexit.register(_close_all)
