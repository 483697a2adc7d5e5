"""Folders of pictures: which files in them are pictures, and these files as the rows of an input.

A row is `{"file": NAME}`, with the name below the folder; the picture itself is read when its row is asked, and no earlier.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ConfigError, InputError
from ..language import _
from ..media.sniff import kind_of, type_of_name
from ..system_errors import reason_of
from .shapes import Row
from .tables import TableRow, parse_table, table_lines

FILE = "file"
"""The field of a row that names its picture."""

_DRAWN = "image/svg+xml"
"""No pixels, and no provider takes it as a picture."""


def image_files(folder: str, *, recursive: bool = True, extensions: Iterable[str] | None = None) -> list[str]:
    """Return the names of the pictures in a folder, below it, in the order of their letters: the same each time.

    Hidden files and folders are left out. A link to a file counts as the file; a folder that is a link is not entered, so
    that no walk goes round in circles. What is a picture, its suffix says; whether it is one, shows when it is read.

    Args:
        recursive: Folders in it are looked into too.
        extensions: Suffixes that count, with or without their dot, in any case of letters. None: those of all pictures.

    Raises:
        InputError: The folder, or one in it, cannot be read.
        ConfigError: `extensions` are none.
    """
    suffixes = None if extensions is None else _suffixes(extensions)
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        below = os.path.relpath(place, folder)
        found += [
            name if below == os.curdir else os.path.join(below, name)
            for name in names
            if not name.startswith(".") and _is_picture(name, suffixes) and os.path.isfile(os.path.join(place, name))
        ]
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
    return sorted(found)


class FolderInput:
    """A folder of pictures as an `Input`: its pictures are its rows. It may be walked over again.

    Args:
        name: Its path, and what messages call it.

    Raises:
        InputError: It cannot be read, or there are no pictures in it.
    """

    kind = "folder"

    def __init__(self, name: str, *, recursive: bool = True) -> None:
        self._files = image_files(name, recursive=recursive)
        if not self._files:
            raise InputError(_("{folder} is a folder without pictures; nothing was sent", folder=name))

    def __iter__(self) -> Iterator[bytes]:
        """Yield a line of JSON for each picture."""
        return table_lines(map(_row, self._files))

    def count(self) -> int:
        """Return how many pictures there are."""
        return len(self._files)

    def parse(self, line: bytes) -> Row:
        """Return the row that a line is. Raises InputError if the name of its file is no text."""
        return parse_table(line)


def _row(name: str) -> TableRow:
    try:
        name.encode()
    except UnicodeEncodeError:
        return _("the name of the file {name} is not UTF-8; rename it", name=ascii(name))
    return {FILE: name}


def _is_picture(name: str, suffixes: frozenset[str] | None) -> bool:
    if suffixes is not None:
        return os.path.splitext(name)[1].lower() in suffixes
    mime = type_of_name(name)
    return mime is not None and mime != _DRAWN and kind_of(mime) == "image"


def _suffixes(extensions: Any) -> frozenset[str]:
    words = [extensions] if isinstance(extensions, str) else list(extensions)
    if not words or not all(isinstance(word, str) and word.strip(". ") for word in words):
        raise ConfigError(
            _("extensions={extensions!r} must be suffixes of files, such as ['jpg', 'png']", extensions=extensions)
        )
    return frozenset(f".{word.strip().lstrip('.').lower()}" for word in words)


def _refuse(error: OSError) -> None:
    folder = os.fspath(error.filename)
    raise InputError(_("the folder {folder} cannot be read: {reason}", folder=folder, reason=reason_of(error)))
