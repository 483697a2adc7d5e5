"""The folder and the file of answers: made, looked at before it is used, and put aside when it is damaged.

All of it happens under a lock on the folder itself, which the kernel drops when its owner dies, and which leaves no file
behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import CacheError
from ..language import _
from ..system_errors import reason_of
from .connection import TABLE, FileId, connect, file_id

NAME = "answers.sqlite"

PATIENCE = 5.0
"""Seconds to wait for another process that looks at the file, or locks it."""

STEP = 0.02
"""Seconds between two looks at a lock on the folder."""

MAGIC = b"SQLite format 3\0"

FAR = frozenset(
    [
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    ]
)
"""File systems that several machines share. SQLite's write-ahead log needs memory that all users of a file share.

Source: SQLite's documentation, "Write-Ahead Logging", section 1: "WAL does not work over a network filesystem".
"""

_DAMAGED = (11, 26)  # SQLITE_CORRUPT and SQLITE_NOTADB
_DAMAGED_WORDS = ("malformed", "not a database")  # Python 3.10 does not tell the codes


class Damaged(CacheError):
    """The file is no database, or not one of answers."""


def is_damage(error: BaseException) -> bool:
    """Return whether an error of SQLite says that the file is damaged. One that cannot even be read says so too."""
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int) and code >= 0:
        return code & 0xFF in _DAMAGED
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    # No words at all: SQLite quoted what is no text, and Python 3.10 drops that.
    return not str(error) or any(words in str(error) for words in _DAMAGED_WORDS)


def prepare(path: Path) -> tuple[FileId, Path | None]:
    """See to it that there is a sound file of answers at `path`, in a folder of ours.

    The folder is made with mode 0700 and the file with 0600; those that are there keep theirs. A file that is damaged is
    put aside under another name, and a new one begun.

    Returns:
        Which file it is, and where the damaged one is now, None if there was none.

    Raises:
        CacheError: There can be none; the message says why.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = _file_system(path.parent)
        if kind in FAR:
            raise CacheError(
                _("it is on a network file system ({kind}); name a local folder with cache_dir", kind=kind)
            )
        with _folder_lock(path.parent):
            aside = None
            try:
                _look_at(path)
            except Damaged:
                aside = _put_aside(path)
                _look_at(path)
            found = file_id(path)
    except OSError as error:
        raise CacheError(reason_of(error)) from error
    except (sqlite3.Error, ValueError) as error:  # a null in the path is a ValueError
        raise CacheError(str(error)) from error
    if found is None:
        raise CacheError(_("the file of answers is gone as soon as it is made"))
    return found, aside


def put_aside(path: Path, seen: FileId | None) -> Path | None:
    """Put the damaged file at `path` aside, unless somebody else did: then it is not the one that was `seen`.

    Raises:
        OSError, CacheError: It cannot be done.
    """
    with _folder_lock(path.parent):
        return _put_aside(path) if file_id(path) == seen else None


def _look_at(path: Path) -> None:
    """Make the file if there is none; check that it is a database in WAL mode with a table of answers.

    Raises:
        Damaged: It is not.
        sqlite3.Error, OSError: It cannot be told.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) not in (MAGIC, b""):
            raise Damaged(_("it is not a database"))
    try:
        connection = connect(path, PATIENCE)
        try:
            _see_to_table(connection)
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise


def _see_to_table(connection: sqlite3.Connection) -> None:
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{TABLE}")')]
    if columns not in ([], [b"key", b"value"]):
        raise Damaged(_("its table is another program's"))
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != b"wal":
        said = mode.decode(errors="replace")
        raise CacheError(_("SQLite cannot keep a write-ahead log there (it says {said})", said=said))
    connection.execute(f'CREATE TABLE IF NOT EXISTS "{TABLE}" (key TEXT PRIMARY KEY, value BLOB)')
    connection.execute(f'SELECT key, value FROM "{TABLE}" ORDER BY key LIMIT 1').fetchall()


def _put_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{path}-wal", f"{aside}-wal")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-shm")
    return aside


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ends_at = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() >= ends_at:
                raise CacheError(_("another process holds a lock on the folder"))
            time.sleep(STEP)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough while a forked child has it open too
    finally:
        os.close(descriptor)


def _file_system(folder: Path) -> str:
    """Return the name of the file system that holds a folder, "" where the kernel does not tell (not Linux)."""
    try:
        device = os.stat(folder).st_dev
        numbers = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                head, _, tail = line.partition(" - ")
                if head.split()[2:3] == [numbers]:
                    return tail.split(maxsplit=1)[0]
    except (OSError, IndexError):
        pass
    return ""
