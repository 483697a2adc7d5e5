"""What is wrong with a reply, and where; and the words in which it is told, the same ones for every way of checking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import reduce
from typing import Any

from ..language import mark
from ..words import Words, cut

Path = tuple[str | int, ...]
"""The keys and positions that lead from the whole reply to one of its values."""

MOST_SHOWN = 120
"""Characters of a reply that a message shows; a reply may be long, and may be confidential."""

KINDS: dict[str, Words | str] = {
    "string": Words(mark("a string")),
    "integer": Words(mark("a whole number")),
    "number": Words(mark("a number")),
    "boolean": Words(mark("true or false")),
    "null": "null",
    "array": Words(mark("a list")),
    "object": Words(mark("an object")),
}
"""JSON's types in words."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Mismatch(Exception):
    """A reply is not what was asked for. Raised and caught inside this room; the outside sees `SchemaMismatch`.

    Attributes:
        path: Where in the reply.
        problem: What is wrong there.
    """

    def __init__(self, path: Path, problem: Words | str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem


class WrongKind(Mismatch):
    """A value is of another kind altogether: a text where an object is expected.

    Attributes:
        expected: What is expected there.
    """

    def __init__(self, path: Path, expected: Words | str, value: Any) -> None:
        problem = Words(mark("{expected} is expected, not {value}"), expected=expected, value=show(value))
        super().__init__(path, problem)
        self.expected = expected


def placed(path: Path, problem: Words | str) -> Words:
    """Return the words for what is wrong at a place of a reply."""
    return Words(mark("at {path}: {problem}"), path=json_path(path), problem=problem)


def listed(problems: Iterable[Words | str]) -> Words | str:
    """Return the words for several problems. At least one is needed."""
    return reduce(lambda one, another: Words(mark("{one}; {another}"), one=one, another=another), problems)


def missing(names: Iterable[str]) -> Words:
    """Return the words for properties that should be there. At least one name is needed."""
    shown = [show(name) for name in names]
    if len(shown) == 1:
        return Words(mark("the property {name} is missing"), name=shown[0])
    return Words(mark("the properties {names} are missing"), names=cut(", ".join(shown), MOST_SHOWN))


def unknown(names: Iterable[str]) -> Words:
    """Return the words for properties that should not be there. At least one name is needed."""
    shown = [show(name) for name in names]
    if len(shown) == 1:
        return Words(mark("the property {name} is not known"), name=shown[0])
    return Words(mark("the properties {names} are not known"), names=cut(", ".join(shown), MOST_SHOWN))


def one_of(values: Iterable[Any]) -> Words | str:
    """Return the words for a choice among JSON values."""
    shown = [show(value) for value in values]
    return shown[0] if len(shown) == 1 else Words(mark("one of {values}"), values=", ".join(shown), most=MOST_SHOWN)


def any_of(expected: Iterable[Words | str]) -> Words | str:
    """Return the words for what may be one thing or another. At least one is needed."""
    return reduce(lambda one, other: Words(mark("{one} or {other}"), one=one, other=other, most=MOST_SHOWN), expected)


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
