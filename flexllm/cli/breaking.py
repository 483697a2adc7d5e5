"""Where a line of running text may end: behind a word, and between letters that take two cells, but for punctuation.

Imported when help is shown, not when the parser is made.
"""

from __future__ import annotations

import re
from textwrap import TextWrapper

from ..terminal import width as cells_of

_CLOSING = frozenset("，。、；：？！）》」』】〉〕％…—”’,.;:?!)]}%")
"""Never at the beginning of a line, behind a letter of two cells."""
_OPENING = frozenset("（《「『【〈〔“‘([{")
"""Never at its end, in front of one."""

_FILLER = "\0"
"""Behind each letter of two cells while lines are broken, so that its length is its width."""
_STRETCHES = re.compile(rf"(?:[^{_FILLER}]{_FILLER})+|(?:[^{_FILLER}](?!{_FILLER}))+")
"""Letters of two cells, and all others."""


class Breaker(TextWrapper):
    """Breaks text into lines of so many cells. Where every letter takes one cell, it does what `textwrap` does.

    Args:
        cells: Of a line, its indent included.
        indent: In front of each line.
    """

    def __init__(self, cells: int, *, indent: str = "") -> None:
        super().__init__(width=cells, initial_indent=indent, subsequent_indent=indent)

    def wrap(self, text: str) -> list[str]:
        """Return the lines."""
        return [line.replace(_FILLER, "") for line in super().wrap(_filled(text))]

    def _split(self, text: str) -> list[str]:
        """Return the pieces between which a line may end. `TextWrapper` calls it."""
        pieces: list[str] = []
        for stretch in _STRETCHES.findall(text):
            for piece in _pairs(stretch) if stretch[1:2] == _FILLER else super()._split(stretch):
                if pieces and _belong_together(pieces[-1].rstrip(_FILLER)[-1:], piece[0]):
                    pieces[-1] += piece
                else:
                    pieces.append(piece)
        return pieces


def _filled(text: str) -> str:
    return text if text.isascii() else "".join(one + _FILLER * (cells_of(one) - 1) for one in text)


def _pairs(stretch: str) -> list[str]:
    return [stretch[start : start + 2] for start in range(0, len(stretch), 2)]


def _belong_together(left: str, right: str) -> bool:
    return left != " " and right != " " and (right in _CLOSING or left in _OPENING)
