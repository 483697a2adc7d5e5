"""One connection to the file of answers, by way of sqlitedict, made fit for a library that must never hang or shout.

sqlitedict runs each connection in a thread of its own. As it comes, that thread dies of a COMMIT that fails while its
callers wait for ever, prints tracebacks, logs each error at level ERROR, and leaves nothing safe from a power cut.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import quote

from sqlitedict import SqliteDict, SqliteMultithread  # type: ignore[import-untyped]

from ..errors import CacheError
from ..language import _

TABLE = "answers"
Row = tuple[Any, ...]
FileId = tuple[int, int]
"""Device and inode: which file a path means just now."""

PULSE = 0.5
"""Seconds after which a caller looks whether the thread that it waits for still lives."""

CLOSE_PATIENCE = 5.0
"""Seconds that a connection gets to put its log in order. What it does not manage, the next one to open the file does."""

_silent = logging.Logger("flexllm.cache.sqlitedict")
_silent.disabled = True


def file_id(path: Path) -> FileId | None:
    """Return which file `path` means now, None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def connect(path: str | Path, patience: float) -> sqlite3.Connection:
    """Return a connection to a file that exists, in which each statement is a transaction of its own.

    Texts are read as bytes, so that a damaged one fails where it is decoded, and there alone.

    Args:
        patience: Seconds to wait for another process's lock.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    address = f"file:{quote(os.fspath(path))}?mode=rw"  # rw: only `disk.prepare` makes files
    connection = sqlite3.connect(address, timeout=patience, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.text_factory = bytes
        connection.execute("PRAGMA trusted_schema=OFF")  # a planted trigger or view may not call functions
        connection.execute("PRAGMA cache_size=-65536")  # up to 64 MiB: digests lie all over the index
        connection.execute("PRAGMA synchronous=NORMAL")  # in WAL mode: a power cut takes the newest, nothing else
    except BaseException:  # Ctrl-C too: nobody else can close it
        connection.close()
        raise
    return connection


class _Thread(SqliteMultithread):  # type: ignore[misc]
    """sqlitedict's thread around one connection, whose end is noticed by those who wait for it."""

    def __init__(self, filename: str, patience: float, within: float) -> None:
        self._patience, self._within = patience, within
        self._failure: BaseException | None = None
        self._connection: sqlite3.Connection | None = None
        super().__init__(filename, autocommit=False, journal_mode="WAL", outer_stack=False)
        with self._lock:  # which the thread lets go of when it is connected, or is not
            if self._failure is not None:
                raise self._failure

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        try:
            self._connection = connection = connect(self.filename, self._patience)
        except BaseException as error:
            self._failure = error
            raise
        return connection, connection.cursor()

    def run(self) -> None:
        self.log = _silent  # here, not in __init__, which sets it and starts the thread in one go
        try:
            super().run()
        except BaseException as error:  # whatever it was: `select` raises it in the thread that waits
            self._failure = error
        finally:
            if self._connection is not None:
                self._connection.close()  # which is done already, unless the thread died

    def select(self, req: str, arg: Sequence[Any] | None = None, within: float | None = None) -> Iterator[Row]:
        """Yield the rows of a statement; raise what went wrong, TimeoutError if that takes longer than it may."""
        within = self._within if within is None else within
        answers: Queue[Any] = Queue()
        self.execute(req, arg, answers)
        waited = 0.0
        while True:
            try:
                row = answers.get(timeout=PULSE)
            except Empty:
                waited += PULSE
                if not self.is_alive() and answers.empty():
                    raise self._failure or sqlite3.OperationalError(_("the connection is gone")) from None
                if waited >= within:
                    raise TimeoutError(_("the disk did not answer within {within:g} s", within=within)) from None
                continue
            self.check_raise_error()
            if not isinstance(row, tuple):
                return
            yield row


class _Dict(SqliteDict):  # type: ignore[misc]
    """The table, as sqlitedict sees it: text keys, and values that are JSON text already."""

    def __init__(self, path: Path, patience: float, within: float) -> None:
        self._patience, self._within = patience, within
        super().__init__(
            str(path), tablename=TABLE, journal_mode="WAL", encode=str, decode=bytes.decode, outer_stack=False
        )

    def _new_conn(self) -> _Thread:
        return _Thread(self.filename, self._patience, self._within)


class Lane:
    """One connection, opened on first use, that takes one statement at a time. May be shared by threads.

    Args:
        path: The file, which exists.
        patience: Seconds to wait for another process's lock.
        within: Seconds after which a statement is given up.

    Attributes:
        is_shut: Statements are refused at once, those too that wait for their turn already.
    """

    def __init__(self, path: Path, *, patience: float, within: float) -> None:
        self.is_shut = False
        self._path, self._patience, self._within = path, patience, within
        self._lock = threading.Lock()
        self._dict: _Dict | None = None

    def ask(self, statement: str, values: Sequence[Any] = (), *, for_long: bool = False) -> list[Row]:
        """Run one statement and return its rows.

        Args:
            for_long: It may take as long as it takes.

        Raises:
            CacheError: The lane is shut.
            Exception: Of whatever kind: sqlite3.Error, OSError, RuntimeError of sqlitedict and of threading.
        """
        with self._lock:
            if self.is_shut:
                raise CacheError(_("it is off for this process"))
            if self._dict is None:
                try:
                    self._dict = _Dict(self._path, self._patience, self._within)
                except RuntimeError:  # there can be no more threads, as at the end of the interpreter
                    return self._ask_here(statement, values)
            return list(self._dict.conn.select(statement, values, math.inf if for_long else None))

    def _ask_here(self, statement: str, values: Sequence[Any]) -> list[Row]:
        with closing(connect(self._path, self._patience)) as connection:
            return connection.execute(statement, values).fetchall()

    def hold(self, seconds: float) -> bool:
        """Close the connection and let nobody open it until `release`. Return False if that took too long."""
        if not self._lock.acquire(timeout=seconds):
            return False
        if self._let_go(seconds):
            return True
        self._lock.release()
        return False

    def release(self) -> None:
        """Take back `hold`."""
        self._lock.release()

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        with self._lock:
            self._let_go(CLOSE_PATIENCE)

    def forget(self) -> None:
        """Drop the connection without touching it: it is the parent's, and so is its queue, whose lock may be held."""
        if self._dict is not None:
            self._dict.conn = None

    def _let_go(self, seconds: float) -> bool:
        """Close, and return whether that was done within some seconds.

        The file may have been put aside: SQLite's last connection removes the log beside a file by its name, but not
        where that name means another file by now.
        """
        if self._dict is None:
            return True
        table, self._dict = self._dict, None
        thread, table.conn = table.conn, None
        thread.close(force=True)  # the other way waits for a thread that may be dead
        thread.join(seconds)
        return not thread.is_alive()
