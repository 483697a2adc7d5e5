"""The file of answers with its two connections, and what is done when it cannot be used: a warning, and no more.

Readers and the writer have a connection each, for a reader of a write-ahead log need not wait for a writer.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from ..errors import CacheError
from ..fork import forget_in_child
from ..language import _, mark
from ..system_errors import reason_of
from . import disk
from .connection import FileId, Lane, Row, file_id

READ_PATIENCE = 5.0
"""Seconds that a reader, for whom a request waits, gives another process that locks the whole file."""

WRITE_PATIENCE = 20.0
"""Seconds that the writer, for whom nobody waits, gives other processes that write."""

GIVE_UP = 60.0
"""Seconds after which a disk that does not answer is taken for gone."""

FORK_PATIENCE = 1.0
"""Seconds that a fork waits for a statement under way."""

TRIES = 3
"""How often a statement is tried: another process may put the file aside at any time, and we once ourselves."""

_log = logging.getLogger(__name__)


class AnswerFile:
    """The file of answers in a folder; opened, and made if need be, on first use. May be shared by threads.

    A forked child opens it anew. SQLite's own state would tell it that it holds the locks that its parent holds, so all
    connections are closed for the moment of a fork; where that is not possible, the child does without the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / disk.NAME
        self._warned = self._is_off = False
        self._renew()
        forget_in_child(self)
        _known.add(self)

    def _renew(self) -> None:
        self._repair = threading.Lock()
        self._reader = Lane(self.path, patience=READ_PATIENCE, within=GIVE_UP)
        self._writer = Lane(self.path, patience=WRITE_PATIENCE, within=GIVE_UP)
        self._reader.is_shut = self._writer.is_shut = self._is_off
        self._file: FileId | None = None
        self._has_repaired = False
        self._is_repair_held = False
        self._held: list[Lane] = []

    def _after_fork_in_child(self) -> None:
        unsafe = not self._is_repair_held or len(self._held) < 2
        for lane in (self._reader, self._writer):
            lane.forget()
        self._renew()
        if unsafe:
            self._turn_off(_("it was busy when this process was forked"))

    def hold_for_fork(self) -> None:
        """Close the connections and keep them closed, as far as they can be had in a few seconds."""
        self._is_repair_held = self._repair.acquire(timeout=FORK_PATIENCE)
        self._held = [lane for lane in (self._reader, self._writer) if lane.hold(FORK_PATIENCE)]

    def release_after_fork(self) -> None:
        """Take back `hold_for_fork`, in the parent."""
        held, self._held = self._held, []
        for lane in held:
            lane.release()
        if self._is_repair_held:
            self._is_repair_held = False
            self._repair.release()

    @property
    def may_write(self) -> bool:
        """Whether there is any use in asking `write`."""
        return not self._writer.is_shut

    @property
    def exists(self) -> bool:
        """Whether there is a file yet."""
        return os.path.exists(self.path)

    def read(self, statement: str, values: Sequence[object]) -> list[Row] | None:
        """Return the rows of a query: none where the file cannot be used, None where they are too large for SQLite."""
        try:
            return [] if self._reader.is_shut else self._ask(self._reader, statement, values)
        except CacheError as error:
            if isinstance(error.__cause__, sqlite3.DataError):
                return None
            self._turn_off(str(error))
            return []

    def write(self, statement: str, values: Sequence[object]) -> None:
        """Run a statement that changes something, or do nothing where the file cannot be written."""
        try:
            if not self._writer.is_shut:
                self._ask(self._writer, statement, values)
        except CacheError as error:
            self._writer.is_shut = True
            self._warn(mark("the response cache in %s takes no more answers: %s"), self.path.parent, error)

    def demand(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Run a statement of any kind, for somebody who wants to know.

        Raises:
            CacheError: The file cannot be used.
        """
        try:
            return self._ask(self._writer, statement, values, for_long=True)
        except CacheError as error:
            folder = self.path.parent
            raise CacheError(
                _("the response cache in {folder} cannot be used: {error}", folder=folder, error=error)
            ) from error

    def close(self) -> None:
        """Close both connections; the next use opens them again."""
        self._reader.close()
        self._writer.close()

    def _ask(self, lane: Lane, statement: str, values: Sequence[object], *, for_long: bool = False) -> list[Row]:
        for is_last in (*[False] * (TRIES - 1), True):
            self._make_ready()
            seen = self._file
            try:
                return lane.ask(statement, values, for_long=for_long)
            except Exception as error:  # of sqlite3, sqlitedict, threading or the system: none may reach a row
                lane.close()
                if disk.is_damage(error):
                    self._put_aside(seen)
                elif is_last or (file_id(self.path) == seen and not _is_passing(error)):
                    reason = reason_of(error) if isinstance(error, OSError) else str(error)
                    raise CacheError(reason or type(error).__name__) from error
        raise CacheError(_("it is put aside again and again by other processes"))

    def _make_ready(self) -> None:
        if self._file is not None and file_id(self.path) == self._file:
            return
        with self._repair:
            if self._file is not None and file_id(self.path) == self._file:
                return
            self.close()
            self._file, aside = disk.prepare(self.path)
            if aside is not None:
                self._tell_of(aside)

    def _put_aside(self, seen: FileId | None) -> None:
        with self._repair:
            if self._file != seen:
                return
            if self._has_repaired:
                raise CacheError(_("it was damaged a second time"))
            self._has_repaired = True
            self._file = None
            try:
                aside = disk.put_aside(self.path, seen)
            except OSError as error:
                reason = reason_of(error)
                raise CacheError(_("it is damaged and cannot be put aside: {reason}", reason=reason)) from error
            self.close()  # now that the path means another file, so that they touch neither
            if aside is not None:
                self._tell_of(aside)

    def _tell_of(self, aside: Path) -> None:
        self._warn(
            mark("the response cache in %s was damaged: it is %s now, and a new one is begun"), aside.parent, aside.name
        )

    def _turn_off(self, reason: str) -> None:
        self._is_off = self._reader.is_shut = self._writer.is_shut = True
        self._warn(mark("the response cache in %s is off for this process: %s"), self.path.parent, reason)

    def _warn(self, message: str, *values: object) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _log.log(level, message, *values)


def _is_passing(error: BaseException) -> bool:
    """Return whether another try may help: somebody changed the file between our look at it and the statement."""
    return isinstance(error, sqlite3.OperationalError) and any(
        words in str(error) for words in ("no such table", "unable to open", "schema")
    )


_known: weakref.WeakSet[AnswerFile] = weakref.WeakSet()
_forks = threading.RLock()  # threads fork one after the other: what is held is written down in one place


def _before_fork() -> None:
    _forks.acquire()
    for one in list(_known):
        one.hold_for_fork()


def _in_parent() -> None:
    for one in list(_known):
        one.release_after_fork()
    _forks.release()


def _in_child() -> None:
    global _forks
    _forks = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
