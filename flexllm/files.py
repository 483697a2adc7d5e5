"""Files that are replaced as a whole: whoever reads one finds the old or the new, and a failure leaves the old."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

_BUFFER = 1 << 18
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a lock of some file systems asks for writing


def replace_file(
    path: str | os.PathLike[str],
    pieces: Iterable[bytes],
    *,
    mode: int | None = None,
    sync: bool = True,
    follow: bool = True,
) -> None:
    """Replace a file, or make it: a temporary one beside it, then an atomic rename.

    Args:
        pieces: The content; what they raise leaves everything as it was.
        mode: Permissions of the file, less what the umask takes away, whatever those of the old one were. None: mode and,
            as far as that is allowed, owner of the old one, or those of any new file.
        sync: Have the content on the disk before the rename, for a crash must not leave an empty file.
        follow: A symbolic link stays one, and what it leads to is replaced. Else it is replaced itself.

    Raises:
        OSError: It could not be done; what was there is still there, and nothing else is.
    """
    place = _place(path, follow)
    was = _found(place) if mode is None else None
    if mode is None:
        mode = 0o666 if was is None else stat.S_IMODE(was.st_mode)
    temporary, descriptor = _create_beside(place, mode)
    try:
        with open(os.dup(descriptor), "wb", buffering=_BUFFER) as file:
            file.writelines(pieces)
            if was is not None:
                _take_after(descriptor, was)
            file.flush()
            if sync:
                os.fsync(descriptor)
        os.replace(temporary, place)
    except BaseException:  # also an interrupt leaves nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)  # until now its lock has told that the temporary file has a writer


def check_replaceable(path: str | os.PathLike[str], *, follow: bool = True) -> None:
    """See whether `replace_file` could write, and leave no trace. Raises OSError if it could not."""
    temporary, descriptor = _create_beside(_place(path, follow), 0o600)
    try:
        temporary.unlink()
    finally:
        os.close(descriptor)


def remove_leftovers(path: str | os.PathLike[str], *, follow: bool = True) -> None:
    """Remove the temporary files that writers of this file left when they were killed.

    Those of the living stay. What cannot be removed stays too: nothing is raised.
    """
    place = _place(path, follow)
    with contextlib.suppress(OSError):
        for found in place.parent.glob(f"{_start_of_name(place)}*{_END_OF_NAME}"):
            with contextlib.suppress(OSError):
                _remove_unless_held(found)


def _place(path: str | os.PathLike[str], follow: bool) -> Path:
    return Path(os.path.realpath(path) if follow else path)


def _found(place: Path) -> os.stat_result | None:
    try:
        return os.stat(place)
    except FileNotFoundError:
        return None


def _create_beside(place: Path, mode: int) -> tuple[Path, int]:
    """Make a file that was not there, under a name that nobody can guess, open it and lock it.

    Not by `tempfile`, which keeps others from reading it: without a mode of its own it is to be as any new file is.
    """
    while True:
        temporary = place.with_name(f"{_start_of_name(place)}{os.urandom(8).hex()}{_END_OF_NAME}")
        descriptor = os.open(temporary, _NEW, mode)
        with contextlib.suppress(OSError):  # there are file systems without locks; on these nothing is removed
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(temporary):
            return temporary, descriptor
        os.close(descriptor)  # somebody took it for a leftover before it was locked


def _start_of_name(place: Path) -> str:
    """Return how the temporary files for a file begin: not with its name, which may be as long as names can be."""
    return f".flexllm-{blake2b(os.fsencode(place.name), digest_size=6).hexdigest()}-"


_END_OF_NAME = ".tmp"


def _remove_unless_held(temporary: Path) -> None:
    """Remove a temporary file whose writer is gone: the kernel has dropped his lock. Raises OSError if he is there."""
    descriptor = os.open(temporary, _OLD)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.unlink()
    finally:
        os.close(descriptor)


def _take_after(descriptor: int, was: os.stat_result) -> None:
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (was.st_uid, was.st_gid):
        with contextlib.suppress(OSError):  # only root may give files away
            os.fchown(descriptor, was.st_uid, was.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(was.st_mode))  # behind the owner, whose change takes bits away
