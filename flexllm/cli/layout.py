"""How help is laid out: as argparse does it, but by the cells of a terminal, also in a language that writes without blanks."""

from __future__ import annotations

import argparse
import re

from ..language import _
from ..terminal import width as cells_of

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any


class Layout(argparse.HelpFormatter):
    """Breaks lines where they are full in cells, not in letters. English is as argparse lays it out."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        if text.isascii():  # it is laid out the same, sooner
            return super()._split_lines(text, width)
        from .breaking import Breaker

        return Breaker(width).wrap(_on_one_line(text))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.isascii():
            return super()._fill_text(text, width, indent)
        from .breaking import Breaker

        return Breaker(width, indent=indent).fill(_on_one_line(text))

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None) -> str:
        """Return the usage, its further lines below the first: argparse moves them in by the letters of the prefix."""
        prefix = _("usage: ") if prefix is None else prefix
        stand_in = "\0" * cells_of(prefix)
        return super()._format_usage(usage, actions, groups, stand_in).replace(stand_in, prefix, 1)


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text, flags=re.ASCII).strip()
