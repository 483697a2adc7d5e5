"""From the annotations of a dataclass to shapes. What JSON schema and the providers cannot say is refused by name."""

from __future__ import annotations

import datetime
import inspect
import math
import re
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from ..language import _, mark
from ..words import Words
from .mismatch import KINDS
from .shapes import Choices, Described, Either, Many, Record, Scalar, Shape, Table

SUPPORTED = mark(
    "str, int, float, bool, None, Any, Literal, Enum, date, datetime, list, dict[str, ...], tuple[X, ...], unions, "
    "Annotated and dataclasses"
)


def is_class(thing: object) -> TypeGuard[type[Any]]:
    """Return whether this is a class. On Python 3.10 isinstance says so of `list[int]` too."""
    return isinstance(thing, type) and get_origin(thing) is None


def is_record(thing: object) -> TypeGuard[type[Any]]:
    """Return whether this is a dataclass (the class, not one of its objects)."""
    return is_class(thing) and is_dataclass(thing)


def shape_of(annotation: Any) -> Shape:
    """Return the shape of an annotation.

    Raises:
        ConfigError: Naming the class and the field that has no JSON form.
    """
    return _Reader().shape(annotation, "response_format")


def definition_name(name: str) -> str:
    """Return a name of at most 64 letters, digits, underscores and hyphens, "" if nothing is left of it.

    Source: OpenAI's API reference, `json_schema.name`.
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64]


class _Reader:
    """Reads annotations; knows the dataclasses met so far, since they may contain each other."""

    def __init__(self) -> None:
        self._records: dict[type[Any], Record] = {}

    def shape(self, annotation: Any, where: str) -> Shape:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._annotated(arguments, where)
        if origin is Union or origin is types.UnionType:
            return Either(tuple(self.shape(one, where) for one in arguments))
        if origin is Literal:
            return Choices(tuple(_choice(one, where) for one in arguments))
        if annotation is list or origin is list:
            return Many(self._item(arguments, where), list)
        if annotation is tuple or (origin is tuple and arguments[1:] in ((), (...,))):
            return Many(self._item(arguments, where), tuple)
        if annotation is dict or (origin is dict and arguments[:1] in ((), (str,))):
            return Table(self._item(arguments[1:], where))
        if is_record(annotation):
            return self._record(annotation)
        if is_class(annotation) and issubclass(annotation, Enum):
            return self._enum(annotation, where)
        try:
            return _SCALARS[annotation]
        except (KeyError, TypeError):  # the latter: not hashable
            raise _no_form(annotation, where) from None

    def _item(self, arguments: tuple[Any, ...], where: str) -> Shape:
        return self.shape(arguments[0] if arguments else Any, where)

    def _annotated(self, arguments: tuple[Any, ...], where: str) -> Shape:
        shape = self.shape(arguments[0], where)
        words = next((one for one in arguments[1:] if isinstance(one, str) and one), None)
        return shape if words is None else Described(shape, words)

    def _enum(self, kind: type[Enum], where: str) -> Shape:
        if not len(kind):
            raise ConfigError(_("{where} is of type {kind}, which has no values", where=where, kind=kind.__qualname__))
        return Choices(tuple(_choice(one, where) for one in kind))

    def _record(self, kind: type[Any]) -> Record:
        if kind not in self._records:
            record = self._records[kind] = Record(self._unused_name(kind), kind, _description(kind))
            hints = _hints(kind)
            given = [one for one in fields(kind) if one.init]
            for one in given:
                record.fields[one.name] = self.shape(hints[one.name], f"{kind.__qualname__}.{one.name}")
                if one.default is not MISSING or one.default_factory is not MISSING:
                    record.optional.add(one.name)
            _check_buildable(kind, list(record.fields))
        return self._records[kind]

    def _unused_name(self, kind: type[Any]) -> str:
        name = definition_name(kind.__name__) or "Object"
        used = {record.name for record in self._records.values()}
        number = 2
        unused = name
        while unused in used:
            unused = f"{name}_{number}"
            number += 1
        return unused


def _hints(kind: type[Any]) -> dict[str, Any]:
    try:
        try:
            return get_type_hints(kind, include_extras=True)
        except NameError:  # a class inside a function may at least name itself
            return get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        reason = _(
            "the annotations of {kind} cannot be read: {error}; define what they name in the module",
            kind=kind.__qualname__, error=error,
        )  # fmt: skip
        raise ConfigError(reason) from error


def _check_buildable(kind: type[Any], names: list[str]) -> None:
    try:
        inspect.signature(kind).bind(**dict.fromkeys(names))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            _("{kind} cannot be made from its fields alone: {error}", kind=kind.__qualname__, error=error)
        ) from None


def _description(kind: type[Any]) -> str:
    """Return a class's docstring, but not the signature that `dataclass` writes where there is none."""
    text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
    return "" if text.startswith(f"{kind.__name__}(") else text


def _no_form(annotation: Any, where: str) -> ConfigError:
    kind = annotation.__qualname__ if is_class(annotation) else repr(annotation)
    known = _(SUPPORTED)
    return ConfigError(
        _(
            "{where} is of type {kind}, which has no JSON form here; known are {known}",
            where=where,
            kind=kind,
            known=known,
        )
    )


def _choice(option: Any, where: str) -> tuple[Any, Any]:
    """Return the JSON value of an option, and the option."""
    value = option.value if isinstance(option, Enum) else option
    if value is None or isinstance(value, bool):
        return value, option
    if isinstance(value, (int, str)):
        return (int(value) if isinstance(value, int) else str.__str__(value)), option  # without its subclass
    if isinstance(value, float) and math.isfinite(value):
        return float(value), option
    reason = _(
        "{where} may be {option!r}, which has no JSON form; texts, numbers, true, false and null have one",
        where=where, option=option,
    )  # fmt: skip
    raise ConfigError(reason)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _whole(value: Any) -> int:
    """JSON does not tell 3.0 from 3."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _nothing(value: Any) -> None:
    if value is not None:
        raise ValueError


def _anything(value: Any) -> Any:
    return value


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def _date(value: Any) -> datetime.date:
    if not _DATE.fullmatch(_text(value)):
        raise ValueError
    return datetime.date.fromisoformat(value)


def _datetime(value: Any) -> datetime.datetime:
    """Python's own reading differs from one version to the next, and the oldest knows no "Z"."""
    matched = _DATETIME.fullmatch(_text(value))
    if matched is None:
        raise ValueError
    day, clock, fraction, zone = matched.groups()
    seconds = clock if len(clock) > 5 else f"{clock}:00"
    return datetime.datetime.fromisoformat(
        f"{day}T{seconds}.{(fraction or '0'):0<6.6}{'+00:00' if zone in ('Z', 'z') else zone or ''}"
    )


_NULL = Scalar({"type": "null"}, KINDS["null"], _nothing)
_SCALARS: dict[Any, Shape] = {
    str: Scalar({"type": "string"}, KINDS["string"], _text),
    int: Scalar({"type": "integer"}, KINDS["integer"], _whole),
    float: Scalar({"type": "number"}, KINDS["number"], _number),
    bool: Scalar({"type": "boolean"}, KINDS["boolean"], _truth),
    None: _NULL,
    type(None): _NULL,
    Any: Scalar({}, Words(mark("anything")), _anything),
    datetime.date: Scalar({"type": "string", "format": "date"}, Words(mark("a date such as 2024-12-31")), _date),
    datetime.datetime: Scalar(
        {"type": "string", "format": "date-time"},
        Words(mark("a date and time such as 2024-12-31T23:59:00Z")),
        _datetime,
    ),
}
