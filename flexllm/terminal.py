"""How much room a text takes in a terminal, where some letters are twice as wide as others."""

from __future__ import annotations


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def padded(text: str, columns: int) -> str:
    """Return a text with as many blanks behind it as fill these columns of a terminal."""
    return text + " " * (columns - width(text))
