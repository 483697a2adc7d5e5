"""Objects that stand in the prose of a reply without a fence: `{...}`, and lists of them, told by their brackets alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A list counts where an object is first in it: "[1]" and "[here]" are a note and a link. How many blanks are passed over is
# limited, for nobody means more, and each bracket looks ahead by itself.
_START = re.compile(r"\{|\[(?=[\s\[]{0,200}\{)")
# What may stand in front of a string, and the string; or a bracket. A quote anywhere else is an apostrophe or an inch. A
# string ends on its line: one that does not is no string, and so each line is looked through twice at most.
_TOKEN = re.compile(
    r"([{\[(,:])\s*(?:\"[^\"\\\r\n]*(?:\\.[^\"\\\r\n]*)*\"|'[^'\\\r\n]*(?:\\.[^'\\\r\n]*)*')?|[}\]]|\\."
)
_CLOSES = {"}": "{", "]": "["}


def bare_objects(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where objects, and lists that begin with one, stand between two places of a text: the outermost balanced ones.

    A bracket that is never closed is prose. Brackets in strings do not count.
    """
    found: list[tuple[int, int]] = []
    opened: list[
        tuple[str, int, bool]
    ] = []  # the bracket, where, and whether an object or a list of objects begins there
    place = start
    while place < end:
        if not opened:
            begin = _START.search(text, place, end)
            place = end if begin is None else begin.start()
        token = _TOKEN.search(text, place, end)
        if token is None:
            break
        mark, at, place = token[0][0], token.start(), token.end()
        if mark in "{[":
            begins = mark == "{" or _START.match(text, at, end) is not None
            opened.append((mark, at, begins))
        elif mark in _CLOSES:
            _close(opened, found, _CLOSES[mark], place)
    return iter(found)


def _close(opened: list[tuple[str, int, bool]], found: list[tuple[int, int]], mark: str, end: int) -> None:
    """Take note of what a closing bracket closes. One that nothing waits for is prose."""
    if mark == "[" and opened[-1][0] != "[":
        return
    while opened:
        bracket, start, begins = opened.pop()
        if bracket == mark:
            if begins:
                while found and found[-1][0] > start:
                    found.pop()  # it is within
                found.append((start, end))
            return
