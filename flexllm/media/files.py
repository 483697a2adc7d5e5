"""Local files as sources of media: from a path or file:// URL to bytes, with errors that say what is wrong with it."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple
from urllib.parse import unquote

from ..errors import InputError
from ..language import _, mark
from ..system_errors import reason_of
from ..words import Words
from .sources import check_size, shown


class LocalFile(NamedTuple):
    """A file as it is now: a changed file is another value."""

    path: str
    modified_ns: int
    size: int
    inode: int


def path_of(source: str) -> str:
    """Return the path that a path or file:// URL names; "~" is the home folder. Raises InputError for a wrong URL."""
    if source[:7].lower() != "file://":
        return os.path.expanduser(source)
    host, slash, rest = source[7:].partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        reason = _(
            "{url} names the host {host!r}; a local file is file:///absolute/path, with three slashes",
            url=shown(source), host=host,
        )  # fmt: skip
        raise InputError(reason)
    return f"/{unquote(rest)}"


def find_file(source: str, max_bytes: int) -> LocalFile:
    """Return what a path or file:// URL leads to.

    Raises:
        InputError: There is no such file, it is not a plain file, is empty or too big.
    """
    path = path_of(source)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or letters that no file system can hold
        raise InputError(_complaint(path, error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(_("{place} is a folder, not a file", place=_place(path)))
    if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
        raise InputError(_("{place} is not a plain file but a device, pipe or socket", place=_place(path)))
    if not status.st_size:
        raise InputError(_("{place} is empty", place=_place(path)))
    check_size(status.st_size, max_bytes, _place(path))
    return LocalFile(os.path.abspath(path), status.st_mtime_ns, status.st_size, status.st_ino)


def read_file(path: str, max_bytes: int) -> bytes:
    """Return a file's bytes. Raises InputError if it cannot be read, or has grown beyond `max_bytes`."""
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(_complaint(path, error)) from error
    if len(data) > max_bytes:
        place = _place(path)
        raise InputError(_("{place} has more bytes than max_bytes={max_bytes}", place=place, max_bytes=max_bytes))
    return data


def _complaint(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return _("{place} does not exist", place=_place(path))
    reason = reason_of(error) if isinstance(error, OSError) else _("it holds a character that no path can")
    return _("{place} cannot be read: {reason}", place=_place(path), reason=reason)


def _place(path: str) -> Words:
    short = repr(path if len(path) <= 200 else f"{path[:197]}...")
    if os.path.isabs(path):
        return Words(mark("the file {path}"), path=short)
    return Words(mark("the file {path} (in the working directory {folder})"), path=short, folder=os.getcwd())
