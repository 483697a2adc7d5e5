"""Code blocks in a reply: the fences of Markdown, read as CommonMark has them, and as models write them.

Source: https://spec.commonmark.org/0.31.2/#fenced-code-blocks. Three things are taken more lightly: a fence may stand as far
in as it likes, the lines of a block in a list need not stand as far in as the list does, and the fence that closes the last
block may stand behind its last line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

UNKNOWN = "unknown"
"""The language of a block that names none."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+\Z")
# Quotes and list items that begin on the line, blanks, the fence, its info string. Nothing behind the fence can fail to match,
# so there is nothing to go back for.
_OPENING = re.compile(r"((?:[ \t]*(?:>|(?:[-+*]|[0-9]{1,9}[.)])(?=[ \t])))*[ \t]*)(`{3,}|~{3,})(.*)", re.DOTALL)
_QUOTED = re.compile(r"[ \t]*> ?")
_END_OF_LANGUAGE = re.compile(r"[\s,:;]")
_TAB = 4
_FARTHEST = 3
"""Columns that a closing fence may stand farther in than its block does."""


class Block(NamedTuple):
    """A block of code.

    Attributes:
        start, end: Where its lines are in the text, fences included.
        language: As its info string names it, in small letters; UNKNOWN where it names none.
        code: Its lines without the fences, and without the quote marks and the blanks that these have in front of them. The
            line end in front of the closing fence is the fence's.
        is_closed: False where the text, or the quote around it, ended first.
    """

    start: int
    end: int
    language: str
    code: str
    is_closed: bool


def code_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks that hold any code, in order. A block that is not closed ends with the text: it was cut."""
    return (block for block in _blocks(text) if block.code.strip())


def _blocks(text: str) -> Iterator[Block]:
    block: _OpenBlock | None = None
    for match in _LINE.finditer(text):
        line, place = match[0], match.start()
        if block is not None:
            inner = _without_quotes(line, block.quotes)
            if inner is not None and not block.is_closed_by(inner):
                block.lines.append(_outdented(inner, block.columns))
                continue
            closed, block = block, None
            yield closed.ended(place if inner is None else match.end(), is_closed=inner is not None)
            if inner is not None:
                continue
        block = _opened(line, place)
    if block is not None:
        yield block.ended(len(text), is_closed=False)


@dataclass(slots=True)
class _OpenBlock:
    """A block whose end has not come yet; `columns` is how far in its fence stands, within `quotes` quotes."""

    start: int
    quotes: int
    columns: int
    fence: str
    info: str
    lines: list[str] = field(default_factory=list)

    def is_closed_by(self, line: str) -> bool:
        mark = line.strip(" \t\r\n")
        return (
            len(mark) >= len(self.fence)
            and mark == self.fence[0] * len(mark)
            and _columns(line[: line.index(mark[0])]) <= self.columns + _FARTHEST
        )

    def ended(self, end: int, *, is_closed: bool) -> Block:
        is_closed = is_closed or self._takes_off_late_fence()
        code = "".join(self.lines)
        for ending in ("\r\n", "\n", "\r"):
            if code.endswith(ending):
                code = code[: -len(ending)]
                break
        return Block(self.start, end, _language(self.info), code, is_closed)

    def _takes_off_late_fence(self) -> bool:
        """Take the fence off that stands behind the last line of code instead of below it. Return whether one does."""
        last = next((at for at in reversed(range(len(self.lines))) if not self.lines[at].isspace()), -1)
        line = self.lines[last].rstrip(" \t\r\n") if last >= 0 else ""
        code = line.rstrip(self.fence[0])
        if len(line) - len(code) < len(self.fence) or not code.strip() or self.fence[0] * 2 in code:
            return False  # none, or code within a line of a text that was cut
        self.lines[last:] = [code]
        return True


def _opened(line: str, place: int) -> _OpenBlock | None:
    """Return the block that a line opens, None if it opens none."""
    if "```" not in line and "~~~" not in line:
        return None
    opening = _OPENING.match(line)
    if opening is None or (opening[2][0] == "`" and "`" in opening[3]):  # code within a line
        return None
    _before, quote, inner = opening[1].rpartition(">")
    inner = inner[1:] if quote and inner.startswith(" ") else inner
    return _OpenBlock(place, opening[1].count(">"), _columns(inner), opening[2], opening[3])


def _without_quotes(line: str, quotes: int) -> str | None:
    """Return what a line holds within a number of quotes, None if it does not stand in as many."""
    place = 0
    for _unused in range(quotes):
        mark = _QUOTED.match(line, place)
        if mark is None:
            return None
        place = mark.end()
    return line[place:]


def _columns(blanks: str) -> int:
    """Return how wide a text is, whose tabs reach to the next stop."""
    width = 0
    for letter in blanks:
        width += _TAB - width % _TAB if letter == "\t" else 1
    return width


def _outdented(line: str, columns: int) -> str:
    """Return a line with as much of its blanks taken off as it has of `columns`."""
    place = width = 0
    while width < columns and place < len(line) and line[place] in " \t":
        width += _TAB - width % _TAB if line[place] == "\t" else 1
        place += 1
    return " " * max(0, width - columns) + line[place:]


def _language(info: str) -> str:
    """Return the language that an info string names: its first word, also in the writing of Pandoc, {.python}."""
    words = info.replace("{", " ").replace("}", " ").split(maxsplit=1)
    name = _END_OF_LANGUAGE.split(words[0].lstrip("."), maxsplit=1)[0] if words else ""
    return name.lower() or UNKNOWN
