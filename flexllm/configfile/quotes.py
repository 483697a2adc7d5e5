"""Texts in double quotes, as YAML has them."""

from __future__ import annotations

_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def double_quoted(text: str) -> str:
    """Return a text in double quotes.

    Not as JSON has it: a letter beyond the first 65,536, which JSON may write as a pair of escapes, is two letters in YAML.
    """
    return '"' + "".join(_ESCAPES.get(one, one) if one.isprintable() else _escaped(ord(one)) for one in text) + '"'


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
