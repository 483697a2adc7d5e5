"""Tables for people: columns that stand below each other, also where letters are twice as wide."""

from __future__ import annotations

from ..terminal import width

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def table(lines: Sequence[Sequence[str]], indent: str = "", *, right: Container[int] = ()) -> str:
    """Return lines of as many cells each as a text. Columns that are empty in all of them are left out.

    Args:
        right: The columns whose cells stand at the right, as numbers do.
    """
    columns = [column for column in range(len(lines[0])) if any(line[column] for line in lines)] if lines else []
    widths = {column: max(width(line[column]) for line in lines) for column in columns}
    shown = []
    for line in lines:
        cells = []
        for column in columns:
            blanks = " " * (widths[column] - width(line[column]))
            cells.append(blanks + line[column] if column in right else line[column] + blanks)
        shown.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(shown)


def shortened(text: str, most: int = 60) -> str:
    """Return a text on one line, cut where it takes more than `most` columns of a terminal."""
    line = " ".join(text.split())
    if width(line) <= most:
        return line
    from itertools import accumulate

    return f"{line[: sum(columns < most for columns in accumulate(map(width, line)))]}…"
