"""The shape of a request, written as a table: what each field may be, and the first thing that is wrong.

A shape is a function of a value that returns None or a `Fault`; the functions here make shapes, and a dialect composes
them once, at import, so that a check costs a few dictionary look-ups. A dialect's own rule is a function of that kind too.
How a fault is said is the dialect's matter. Everywhere, null in an optional field means that the field is not there.

    CHAT = table({"model": text(least=1), "n": integer(1, 128), "stop": either(string=text(), array=array(text()))},
                 required=("model",))
    fault = CHAT(body)  # Fault(kind="range", place=("n",), ...) or None
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

Place = tuple[str | int, ...]
"""The way from the body to a value: names of fields and positions in arrays."""


class Fault(NamedTuple):
    """What is wrong with a value.

    Attributes:
        kind: "missing": a required field is not there. "unknown": there is no such field. "type": not the JSON type
            that `expected` names. "value": not one of `allowed`. "range": a number beyond `bounds`. "length": an array or
            a text that is longer or shorter than `bounds`. "pattern": a text that does not match; `expected` is the
            pattern. "rule": anything else; `expected` is then the whole sentence.
        expected: JSON types, such as "string" or "string or array"; or see `kind`.
        value: What was there.
        place: Where, as seen from the value that was checked.
        code: The dialect's own name for this fault, if a rule has one.
    """

    kind: Literal["missing", "unknown", "type", "value", "range", "length", "pattern", "rule"]
    expected: str = ""
    value: Any = None
    place: Place = ()
    allowed: tuple[str, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    code: str | None = None

    def inside(self, *place: str | int) -> Fault:
        """Return the same fault, seen from the value that holds the checked one at `place`."""
        return self._replace(place=(*place, *self.place))


Shape = Callable[[Any], Fault | None]

_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def json_type(value: object) -> str:
    """Return the name of a parsed value's JSON type; a number without fraction is an integer."""
    return _JSON_TYPES.get(type(value), "null")


def rule(sentence: str, *place: str | int, code: str | None = None, value: object = None) -> Fault:
    """Return the fault of a broken rule."""
    return Fault("rule", sentence, value, place, code=code)


def anything(value: object) -> None:
    """Allow every value."""


def boolean(value: object) -> Fault | None:
    """Allow true and false."""
    return None if type(value) is bool else Fault("type", "boolean", value)


def integer(low: int | None = None, high: int | None = None) -> Shape:
    """Return the shape of a whole number; the bounds are allowed themselves."""

    def check(value: Any) -> Fault | None:
        if type(value) is not int:
            return Fault("type", "integer", value)
        if (low is not None and value < low) or (high is not None and value > high):
            return Fault("range", "integer", value, bounds=(low, high))
        return None

    return check


def number(low: float | None = None, high: float | None = None) -> Shape:
    """Return the shape of a number; the bounds are allowed themselves."""

    def check(value: Any) -> Fault | None:
        if type(value) not in (int, float):
            return Fault("type", "number", value)
        if (low is not None and value < low) or (high is not None and value > high):
            return Fault("range", "number", value, bounds=(low, high))
        return None

    return check


def text(
    *, allowed: Collection[str] = (), pattern: str | None = None, least: int = 0, most: int | None = None
) -> Shape:
    """Return the shape of a string. `pattern` must match all of it; `least` and `most` are characters."""
    values = tuple(allowed)
    compiled = None if pattern is None else re.compile(pattern)

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return Fault("type", "string", value)
        if values and value not in values:
            return Fault("value", "string", value, allowed=values)
        if len(value) < least or (most is not None and len(value) > most):
            return Fault("length", "string", value, bounds=(least, most))
        if compiled is not None and compiled.fullmatch(value) is None:
            return Fault("pattern", pattern or "", value)
        return None

    return check


def array(of: Shape, *, least: int = 0, most: int | None = None) -> Shape:
    """Return the shape of an array whose items all have one shape."""

    def check(value: Any) -> Fault | None:
        if type(value) is not list:
            return Fault("type", "array", value)
        if len(value) < least or (most is not None and len(value) > most):
            return Fault("length", "array", value, bounds=(least, most))
        for at, item in enumerate(value):
            fault = of(item)
            if fault is not None:
                return fault.inside(at)
        return None

    return check


def mapping(of: Shape, *, most: int | None = None, key: Shape = anything) -> Shape:
    """Return the shape of an object with any names, each of the shape `key`."""

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return Fault("type", "object", value)
        if most is not None and len(value) > most:
            return Fault("length", "object", value, bounds=(0, most))
        for name, item in value.items():
            fault = key(name) or of(item)
            if fault is not None:
                return fault.inside(name)
        return None

    return check


def table(fields: Mapping[str, Shape], *, required: Collection[str] = (), is_open: bool = False) -> Shape:
    """Return the shape of an object with these fields and, unless it `is_open`, no others.

    A required field that is null counts as missing.
    """
    shapes = dict(fields)
    needed = tuple(required)

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return Fault("type", "object", value)
        for name in needed:
            if value.get(name) is None:
                return Fault("missing", place=(name,))
        for name, item in value.items():
            shape = shapes.get(name)
            if shape is None:
                if not is_open:
                    return Fault("unknown", value=item, place=(name,))
            elif item is not None:
                fault = shape(item)
                if fault is not None:
                    return fault.inside(name)
        return None

    return check


def tagged(tag: str, shapes: Mapping[str, Shape], *, is_in_place: bool = False) -> Shape:
    """Return the shape of an object whose field `tag` says which of the shapes it has.

    Args:
        tag: The field's name.
        shapes: By the value of that field.
        is_in_place: Whether that value is a step of the way to faults inside, as in messages of pydantic.
    """
    tags = tuple(shapes)

    def check(value: Any) -> Fault | None:
        if type(value) is not dict:
            return Fault("type", "object", value)
        name = value.get(tag)
        if name is None:
            return Fault("missing", place=(tag,))
        shape = shapes.get(name) if type(name) is str else None
        if shape is None:
            kind: Literal["value", "type"] = "value" if type(name) is str else "type"
            return Fault(kind, "string", name, (tag,), allowed=tags)
        fault = shape(value)
        return fault.inside(name) if is_in_place and fault is not None else fault

    return check


def either(
    *,
    string: Shape | None = None,
    array: Shape | None = None,
    object: Shape | None = None,
    boolean: Shape | None = None,
    number: Shape | None = None,
) -> Shape:
    """Return the shape of a value that may be of several JSON types, each with its own shape."""
    given = {"string": string, "array": array, "object": object, "boolean": boolean, "number": number}
    named = {name: shape for name, shape in given.items() if shape is not None}
    types = {str: string, list: array, dict: object, bool: boolean, int: number, float: number}
    shapes = {kind: shape for kind, shape in types.items() if shape is not None}
    expected = " or ".join(named)

    def check(value: Any) -> Fault | None:
        shape = shapes.get(type(value))
        return Fault("type", expected, value) if shape is None else shape(value)

    return check


def ruled(shape: Shape, *rules: Shape) -> Shape:
    """Return a shape with further rules, asked in turn of values that have the shape."""

    def check(value: Any) -> Fault | None:
        fault = shape(value)
        for further in rules:
            if fault is not None:
                break
            fault = further(value)
        return fault

    return check
