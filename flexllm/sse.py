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
    pending = b""
    skip_lf = False
    at_start = True
    for piece in pieces:
        if not piece:
            continue
        if skip_lf and piece[:1] == b"\n":
            piece = piece[1:]
        pending += piece
        if at_start:
            if len(pending) < len(_BOM) and _BOM.startswith(pending):
                continue
            pending = pending[len(_BOM) :] if pending.startswith(_BOM) else pending
            at_start = False
        start = 0
        for end in _LINE_END.finditer(pending):
            yield pending[start : end.start()]
            start = end.end()
        skip_lf = start == len(pending) and pending.endswith(b"\r")
        pending = pending[start:]
    if pending:
        yield pending
