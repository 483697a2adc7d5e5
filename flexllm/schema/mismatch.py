"""What is wrong with a reply, and where; and the words in which it is told, the same ones for every way of checking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ..language import _, mark

Path = tuple[str | int, ...]
"""The keys and positions that lead from the whole reply to one of its values."""

MOST_SHOWN = 120
"""Characters of a reply that a message shows; a reply may be long, and may be confidential."""

KINDS = {
    "string": "a string",
    "integer": mark("a whole number"),
    "number": "a number",
    "boolean": mark("true or false"),
    "null": "null",
    "array": "a list",
    "object": mark("an object"),
}
"""JSON's types in words."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Mismatch(Exception):
    """A reply is not what was asked for. Raised and caught inside this room; the outside sees `SchemaMismatch`.

    Attributes:
        path: Where in the reply.
        problem: What is wrong there, in words.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"at {json_path(self.path)}: {self.problem}"


class WrongKind(Mismatch):
    """A value is of another kind altogether: a text where an object is expected.

    Attributes:
        expected: What is expected there, in words.
    """

    def __init__(self, path: Path, expected: str, value: Any) -> None:
        super().__init__(path, _("{cut} is expected, not {show}", cut=cut(expected, MOST_SHOWN), show=show(value)))
        self.expected = expected


def missing(names: Iterable[str]) -> str:
    """Return the words for properties that should be there. At least one name is needed."""
    return _of_properties(names, "missing")


def unknown(names: Iterable[str]) -> str:
    """Return the words for properties that should not be there. At least one name is needed."""
    return _of_properties(names, _("not known"))


def _of_properties(names: Iterable[str], claim: str) -> str:
    shown = [show(name) for name in names]
    subject = _("the property") if len(shown) == 1 else _("the properties")
    return f"{subject} {cut(', '.join(shown), MOST_SHOWN)} {'is' if len(shown) == 1 else 'are'} {claim}"


def one_of(values: Iterable[Any]) -> str:
    """Return the words for a choice among JSON values."""
    shown = [show(value) for value in values]
    return shown[0] if len(shown) == 1 else _("one of {shown}", shown=", ".join(shown))


def json_path(path: Path) -> str:
    """Return a path as `$.items[2].price`; keys that are no plain names stand in brackets and quotes."""
    steps = ["$"]
    for step in path:
        if isinstance(step, str) and _PLAIN_KEY.fullmatch(step):
            steps.append(f".{step}")
        else:
            steps.append(f"[{show(step)}]")
    return cut("".join(steps), MOST_SHOWN)


def show(value: Any, limit: int = MOST_SHOWN // 2) -> str:
    """Return a value as JSON of at most `limit` characters; half characters are escaped, so that it can be printed."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return cut(text.encode(errors="backslashreplace").decode(), limit)


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with its end left out where it is longer."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
