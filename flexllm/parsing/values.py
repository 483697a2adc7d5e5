"""A written value and what it stands for: JSON, a Python literal, or JSON with trailing commas and comments.

Reading takes time in proportion to the text, whatever that is, and a fixed depth of the stack: `ast.literal_eval` is not asked,
for its compiler may take any amount of both for what it then refuses.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from .strings import json_string, python_string

MOST_NESTED = 200
"""Brackets within brackets, of a value that is not JSON; JSON may be as deep as Python's own reader follows."""

LONGEST_NUMBER = 4_300
"""Digits. Python's own limit (`sys.int_info.default_max_str_digits`); the time for more grows with their square."""

MOST_ALIKE = 50
"""Keys of one hash, other than texts: numbers can be chosen so that all have the same, and a dict compares each with each."""


class NotReadable(Exception):
    """A text is no value.

    Attributes:
        place: How far it made sense.
    """

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def read_value(text: str) -> Any:
    """Return the value that a text is as a whole: read as JSON, as a Python literal, or as JSON that is taken lightly.

    `NaN` and `Infinity` are read as Python's json does. Of a Python literal everything but complex numbers is known. Taken
    lightly, JSON may have commas behind the last member, comments (`//`, `/* */`, `#`), line ends within strings, and
    Python's words and quotes.

    Raises:
        NotReadable: It is none of these.
    """
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        pass
    farthest = 0
    for reads in (_read_python, _read_lightly):
        try:
            return reads(text)
        except NotReadable as error:
            farthest = max(farthest, error.place)
    raise NotReadable(farthest)


def _read_python(text: str) -> Any:
    return _build(text, _joined(_tokens(text, _PYTHON, _PYTHON_WORDS, python_string)))


def _read_lightly(text: str) -> Any:
    return _build(text, _tokens(text, _LIGHT, _WORDS, json_string))


# --- tokens


def _pattern(comment: str, line_end: str) -> re.Pattern[str]:
    def quoted(quote: str) -> str:
        plain = rf"[^{quote}\\{line_end}]*"
        return rf"{quote}{plain}(?:\\(?:\r\n|[\s\S]){plain})*{quote}"

    def tripled(quote: str) -> str:
        return rf"{quote * 3}[^{quote}\\]*(?:(?:\\[\s\S]|{quote}{{1,2}}(?!{quote}))[^{quote}\\]*)*{quote * 3}"

    strings = "|".join((tripled('"'), tripled("'"), quoted('"'), quoted("'")))
    digits = "[0-9][0-9_]*"
    return re.compile(
        rf"(?P<mark>[\[\](){{}},:])|(?P<skipped>\s+|{comment})|(?P<string>[rRbBuU]{{0,2}}(?:{strings}))"
        rf"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
        rf"|(?:{digits}(?:\.[0-9_]*)?|\.{digits})(?:[eE][+-]?{digits})?))|(?P<word>[+-]?[A-Za-z]+)"
    )


_PYTHON = _pattern(r"\#[^\r\n]*", r"\r\n")
_LIGHT = _pattern(r"\#[^\r\n]*|//[^\r\n]*|/\*[\s\S]*?\*/", "")
_PYTHON_WORDS = {"None": None, "True": True, "False": False}
_WORDS = _PYTHON_WORDS | {
    "null": None, "true": True, "false": False,
    "NaN": float("nan"), "Infinity": float("inf"), "+Infinity": float("inf"), "-Infinity": float("-inf"),
}  # fmt: skip

_Token = tuple[str, Any, int]
"""A mark itself or "", the value that it is otherwise, and where it begins."""


def _tokens(
    text: str, pattern: re.Pattern[str], words: dict[str, Any], string: Callable[[str], str | bytes]
) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        match = pattern.match(text, place)
        if match is None:
            raise NotReadable(place)
        kind, written, start, place = match.lastgroup, match[0], place, match.end()
        try:
            if kind == "mark":
                yield written, None, start
            elif kind == "string":
                yield "", string(written), start
            elif kind == "number":
                yield "", _number(written), start
            elif kind == "word":
                yield "", words[written], start
        except (ValueError, KeyError):
            raise NotReadable(start) from None


def _number(written: str) -> int | float:
    """Return a number. Raises ValueError if it is none of Python's, or too long."""
    if len(written) > LONGEST_NUMBER:
        raise ValueError
    if written.lstrip("+-")[:2].lower() in ("0x", "0o", "0b"):
        return int(written, 0)
    return float(written) if any(letter in written for letter in ".eE") else int(written, 0)


def _joined(tokens: Iterator[_Token]) -> Iterator[_Token]:
    """Yield strings that stand one behind the other as one, as Python does."""
    parts: list[Any] = []
    first = 0
    for token in tokens:
        mark, value, place = token
        if not mark and isinstance(value, str | bytes):
            if parts and type(parts[0]) is not type(value):
                raise NotReadable(place)
            first = first if parts else place
            parts.append(value)
            continue
        if parts:
            yield "", type(parts[0])().join(parts), first
            parts = []
        yield token
    if parts:
        yield "", type(parts[0])().join(parts), first


def _json_number(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(written: str) -> Any:
        if len(written) > LONGEST_NUMBER:
            raise ValueError
        return convert(written)

    return read


_JSON = json.JSONDecoder(parse_int=_json_number(int), parse_float=_json_number(float))


# --- the value of tokens

_NOTHING: Any = object()
_CLOSES = {"]": "[", "}": "{", ")": "("}


def _build(text: str, tokens: Iterator[_Token]) -> Any:
    opened: list[_Collection] = []
    last = _NOTHING  # a value that waits to be told what it is of
    for mark, value, place in tokens:
        if not mark:
            if last is not _NOTHING:
                raise NotReadable(place)
            last = value
        elif mark in "[{(":
            if last is not _NOTHING or len(opened) == MOST_NESTED:
                raise NotReadable(place)
            opened.append(_Collection(mark))
        elif not opened:
            raise NotReadable(place)
        elif mark in _CLOSES:
            last = opened.pop().closed(mark, last, place)
        else:
            opened[-1].take(mark, last, place)
            last = _NOTHING
    if opened or last is _NOTHING:
        raise NotReadable(len(text))
    return last


class _Collection:
    """What stands between two brackets, as far as it has come."""

    __slots__ = ("bracket", "has_comma", "key", "keys", "members")

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.members: list[Any] = []
        self.keys: list[Any] = []
        self.key = _NOTHING
        self.has_comma = False

    def take(self, mark: str, value: Any, place: int) -> None:
        """Take in the value in front of a comma or a colon."""
        if value is _NOTHING:
            raise NotReadable(place)
        if mark == ",":
            self.has_comma = True
            self._add(value)
        elif self.bracket == "{" and self.key is _NOTHING:
            self.key = value
        else:
            raise NotReadable(place)

    def closed(self, mark: str, value: Any, place: int) -> Any:
        """Return the whole, the last value of which has no comma behind it; or the comma no value."""
        if _CLOSES[mark] != self.bracket or (value is _NOTHING and self.key is not _NOTHING):
            raise NotReadable(place)
        if value is not _NOTHING:
            self._add(value)
        if self.bracket == "[":
            return self.members
        if self.bracket == "(":
            return self.members[0] if len(self.members) == 1 and not self.has_comma else tuple(self.members)
        if self.keys and len(self.keys) != len(self.members):
            raise NotReadable(place)
        if not _can_be_keys(self.keys or self.members):
            raise NotReadable(place)
        return dict(zip(self.keys, self.members, strict=True)) if self.keys or not self.members else set(self.members)

    def _add(self, value: Any) -> None:
        if self.key is not _NOTHING:
            self.keys.append(self.key)
            self.key = _NOTHING
        self.members.append(value)


def _can_be_keys(keys: list[Any]) -> bool:
    try:
        hashes = Counter(hash(key) for key in keys if type(key) is not str)
    except TypeError:  # a list is none
        return False
    return not hashes or max(hashes.values()) <= MOST_ALIKE
