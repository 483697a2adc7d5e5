"""Tables for people: columns that stand below each other, also where letters are twice as wide."""

from __future__ import annotations

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(lines: Sequence[Sequence[str]], indent: str = "") -> str:
    """Return lines of as many cells each as a text. Columns that are empty in all of them are left out."""
    columns = [column for column in range(len(lines[0])) if any(line[column] for line in lines)] if lines else []
    widths = {column: max(width(line[column]) for line in lines) for column in columns}
    shown = []
    for line in lines:
        cells = [line[column] + " " * (widths[column] - width(line[column])) for column in columns]
        shown.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(shown)


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def one_line(text: str, most: int = 60) -> str:
    """Return a text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
