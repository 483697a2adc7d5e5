"""Control characters, spelled out: a server's error message may hold any, and goes to a terminal or into a log file."""

from __future__ import annotations

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0)) if code not in (9, 10)}
_CONTROL.update({0x2028: "\\u2028", 0x2029: "\\u2029"})


def without_controls(text: str) -> str:
    """Return a text in which control characters are spelled out; its lines and tabs stay."""
    return text if text.isprintable() else text.translate(_CONTROL)


def one_line(text: str) -> str:
    """Return a text on one line, with its control characters spelled out."""
    return text if text.isprintable() else " ".join(text.translate({9: " "}).split("\n")).translate(_CONTROL)
