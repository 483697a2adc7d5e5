"""JSON as Google's servers read it into protocol buffers: both spellings of a name, and a fault for what does not fit.

Knows the rules and not one message: those are tables in the dialect's own modules. A message is read into a plain
dict with camelCase names, in which nothing is null and what repeats is a list.

Source: the JSON mapping of protocol buffers (protobuf.dev/programming-guides/json), and error bodies of Google's APIs.
"""

from __future__ import annotations

import binascii
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

MAX_DEPTH = 100  # messages within messages; the limit of protocol buffers
MAX_SHOWN = 60  # characters of a wrong value that an error repeats

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


class Fault(NamedTuple):
    """What is wrong with a request: the field, in snake_case as Google's errors spell it, and a sentence."""

    field: str
    description: str


def broken_rule(field: str, reason: str, request: str = "GenerateContentRequest") -> Fault:
    """Return the fault of a request whose shape is right. `request`: the name of its message."""
    return Fault(field, f"* {request}.{field}: {reason}")


class Reader:
    """Collects the faults of one request. `surface` picks the fields that exist on that face of the service."""

    __slots__ = ("depth", "faults", "surface")

    def __init__(self, surface: str) -> None:
        self.surface = surface
        self.faults: list[Fault] = []
        self.depth = 0

    def fault(self, place: str, description: str) -> None:
        """Keep a fault."""
        self.faults.append(Fault(place, description))

    def too_deep(self, place: str) -> None:
        """Keep the fault of a value that holds values that hold values, and so on."""
        self.fault(place, f"Message too deep. Max recursion depth reached for key '{place[:MAX_SHOWN]}'")

    def wrong_value(self, place: str, kind: str, value: object) -> None:
        """Keep the fault of a value that is not of its kind."""
        self.fault(place, f"Invalid value at '{place}' ({kind}), {shown(value)}")

    def wrong_name(self, place: str, name: str, reason: str) -> None:
        """Keep the fault of a name that a message does not have, or not in that shape."""
        where = f" at '{place}'" if place else ""
        shown_name = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
        self.fault(place, f'Invalid JSON payload received. Unknown name "{shown_name}"{where}: {reason}')


class Kind(Protocol):
    """How one kind of value is read."""

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the value; keep a fault and return None if it is not of this kind. `value` is not None."""


class Scalar:
    """A string, number, truth value or base64 text. `of` returns the value, or raises `ValueError`."""

    __slots__ = ("_of", "name")

    def __init__(self, name: str, of: Callable[[Any], object]) -> None:
        self.name = name
        self._of = of

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the value as Python has it; a number that came as a string becomes a number."""
        try:
            return self._of(value)
        except ValueError as error:
            if isinstance(value, dict):
                reader.fault(place, f"Invalid value at '{place}' ({self.name}), Starting an object on a scalar field")
            else:
                reader.fault(place, f"Invalid value at '{place}' ({self.name}), {str(error) or shown(value)}")
        return None


class Enum:
    """One of a few names, in any case; returned in the case of the table."""

    __slots__ = ("_known", "name")

    def __init__(self, name: str, values: Sequence[str]) -> None:
        self.name = f"type.googleapis.com/{name}"
        self._known = {value.upper(): value for value in values}

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the name."""
        known = self._known.get(value.upper()) if isinstance(value, str) else None
        if known is None:
            reader.wrong_value(place, self.name, value)
        return known


class Repeated:
    """A list. A value that stands alone is a list of one: Google's own examples leave the brackets out."""

    __slots__ = ("_of",)

    def __init__(self, of: Kind) -> None:
        self._of = of

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the list."""
        if not isinstance(value, list):
            return [self._of.read(value, place, reader)]
        read = []
        for at, one in enumerate(value):
            if one is None or isinstance(one, list):
                reader.wrong_value(f"{place}[{at}]", "an element of a list", one)
            else:
                read.append(self._of.read(one, f"{place}[{at}]", reader))
        return read


class Map:
    """An object whose names are the caller's own."""

    __slots__ = ("_of",)

    def __init__(self, of: Kind) -> None:
        self._of = of

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the object."""
        if not isinstance(value, dict):
            reader.wrong_value(place, "a map", value)
            return None
        return {
            name: self._of.read(one, f"{place}[{name[:MAX_SHOWN]}]", reader)
            for name, one in value.items()
            if one is not None
        }


class Message:
    """An object whose fields are known.

    Args:
        name: The full name of the message's type.
        oneof: Fields of which a message may hold one alone; their name in the errors is `data`.
    """

    def __init__(self, name: str, *, oneof: Sequence[str] = ()) -> None:
        self.name = f"type.googleapis.com/{name}"
        self._oneof = frozenset(oneof)
        self._common: dict[str, tuple[str, str, Kind]] = {}
        self._by_surface: dict[str, dict[str, tuple[str, str, Kind]]] = {}

    def define(self, fields: Mapping[str, Kind], **only: Mapping[str, Kind]) -> Message:
        """Set the fields, by camelCase name, and further ones that exist on one surface `only`; return the message.

        A step of its own, so that a message can hold itself.
        """
        self._common = _by_both_spellings(fields)
        self._by_surface = {surface: _by_both_spellings({**fields, **more}) for surface, more in only.items()}
        return self

    def read(self, value: object, place: str, reader: Reader) -> Any:
        """Return the fields that are not null."""
        if not isinstance(value, dict):
            if isinstance(value, list):
                parent, _, name = place.rpartition(".")
                reader.wrong_name(parent, name, "Proto field is not repeating, cannot start list.")
            else:
                reader.wrong_value(place, self.name, value)
            return None
        if reader.depth >= MAX_DEPTH:
            reader.too_deep(place)
            return None
        reader.depth += 1
        read = self._fields(value, place, reader)
        reader.depth -= 1
        return read

    def _fields(self, value: Mapping[str, object], place: str, reader: Reader) -> dict[str, Any]:
        known = self._by_surface.get(reader.surface, self._common)
        read: dict[str, Any] = {}
        data = ""
        for name, one in value.items():
            field = known.get(name)
            if field is None:
                reader.wrong_name(place, name, "Cannot find field.")
                continue
            if one is None:
                continue
            camel, snake, kind = field
            if camel in read:
                reader.fault(place, f"Invalid value at '{place}', '{camel}' is already set. Cannot set '{name}'")
            elif camel in self._oneof:
                if data:
                    reason = f"oneof field 'data' is already set. Cannot set '{camel}'"
                    reader.fault(place, f"Invalid value at '{place}' (oneof), {reason}")
                data = camel
            if isinstance(one, list) and isinstance(kind, (Scalar, Enum)):
                reader.wrong_name(place, name, "Proto field is not repeating, cannot start list.")
            else:
                read[camel] = kind.read(one, f"{place}.{snake}" if place else snake, reader)
        return read


def _by_both_spellings(fields: Mapping[str, Kind]) -> dict[str, tuple[str, str, Kind]]:
    table = {}
    for camel, kind in fields.items():
        snake = re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", camel)
        table[camel] = table[snake] = (camel, snake, kind)
    return table


def shown(value: object) -> str:
    """Return a value as an error repeats it: no more than its beginning, for it may be a prompt or a picture."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def base64_bytes(text: str) -> bytes:
    """Return what base64 text stands for, in the usual or the URL-safe alphabet, padded or not.

    Raises `ValueError` if it is not base64.
    """
    if not _BASE64.fullmatch(text):
        raise ValueError("not base64")
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(bare + "=" * (-len(bare) % 4))


# ---------------------------------------------------------------------------------------------------- scalars


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _bytes(value: object) -> str:
    """Checked, and left as it is: a picture is not needed decoded."""
    text = _string(value)
    try:
        base64_bytes(text)
    except ValueError:
        raise ValueError(f"Base64 decoding failed for {shown(text)}") from None
    return text


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _number(value: object) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    if not -sys.float_info.max <= value <= sys.float_info.max:  # 1e999 is read as infinity
        raise ValueError
    return value


def _integer(value: object, bits: int) -> int:
    number = int(value) if isinstance(value, str) and value.removeprefix("-").isdecimal() else _number(value)
    if number != int(number) or not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError
    return int(number)


def _int32(value: object) -> int:
    return _integer(value, 32)


def _int64(value: object) -> int:
    return _integer(value, 64)


STRING = Scalar("TYPE_STRING", _string)
BYTES = Scalar("TYPE_BYTES", _bytes)
BOOL = Scalar("TYPE_BOOL", _bool)
FLOAT = Scalar("TYPE_FLOAT", _number)
INT32 = Scalar("TYPE_INT32", _int32)
INT64 = Scalar("TYPE_INT64", _int64)


class _Struct:
    """An object that the service does not look into."""

    def read(self, value: object, place: str, reader: Reader) -> Any:
        if not isinstance(value, dict):
            reader.wrong_value(place, "type.googleapis.com/google.protobuf.Struct", value)
        return VALUE.read(value, place, reader)


class _Value:
    """Any JSON, as deep as messages may be."""

    def read(self, value: object, place: str, reader: Reader) -> Any:
        level = [value]
        for _ in range(MAX_DEPTH):
            level = [inner for one in level for inner in _inside(one)]
            if not level:
                return value
        reader.too_deep(place)
        return None


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


STRUCT: Kind = _Struct()
VALUE: Kind = _Value()
