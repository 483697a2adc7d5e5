"""Data to standard output, talk to standard error."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any


def print_data(text: str, end: str = "\n") -> None:
    """Print data, at once. Half a character, which models do send, becomes a question mark."""
    sys.stdout.write(_printable(text, sys.stdout.encoding) + end)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """Print data as indented JSON."""
    import json

    print_data(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def talk(text: str) -> None:
    """Tell the user a sentence."""
    if sys.stderr is not None:
        sys.stderr.write(_printable(text, sys.stderr.encoding) + "\n")
        sys.stderr.flush()


def _printable(text: str, encoding: str | None) -> str:
    encoding = encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
