"""Byte pieces as they arrive, turned into server-sent events; pure.

Source: WHATWG HTML, section 9.2 (event stream format): lines end in CR LF, LF or CR, a line that starts with a colon is
a comment, several `data` lines of one event are joined with LF. Two deliberate leniencies: an event that the end of the
stream cuts off before its empty line is still handed on, and `id` and `retry` are read over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """One event: its name ("" where the server gave none) and its data."""

    name: str
    data: str


def parse_events(pieces: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield each event as soon as its last byte has arrived.

    Args:
        pieces: The body as it comes, cut at any byte, also inside a character or between CR and LF.
    """
    name = ""
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield ServerSentEvent(name, "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value.decode("utf-8", "replace"))
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    if data:
        yield ServerSentEvent(name, "\n".join(data))


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends. A CR at the end of a piece ends its line now: an LF that follows is skipped."""
    begun: list[bytes] = []  # of a line whose end has not come; a picture is a line of megabytes, in hundreds of pieces
    skip_lf = False
    for piece in _without_bom(pieces):
        if not piece:
            continue
        if skip_lf and piece[:1] == b"\n":
            piece = piece[1:]
        start = 0
        for end in _LINE_END.finditer(piece):
            line = piece[start : end.start()]
            if begun:
                line, begun = b"".join((*begun, line)), []
            yield line
            start = end.end()
        skip_lf = piece.endswith(b"\r")
        if start < len(piece):
            begun.append(piece[start:])
    if begun:
        yield b"".join(begun)


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, but for a byte order mark at the very beginning."""
    rest = iter(pieces)
    start = b""
    for piece in rest:
        start += piece
        if len(start) >= len(_BOM) or not _BOM.startswith(start):
            break
    yield start.removeprefix(_BOM)
    yield from rest
