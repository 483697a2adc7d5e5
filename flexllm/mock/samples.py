"""Small values for a JSON schema: the arguments of invented tool calls, and structured answers.

Covers what tools and structured outputs are written with: types, enums, objects, arrays, alternatives, references, bounds
and the common formats; Google's spelling (`STRING`, `nullable`) too. A `pattern` is not obeyed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEEP = 6  # levels; below, arrays are empty and the plainest alternative is taken, so that recursive schemas end
DEEPEST = 64  # levels; below, there is nothing: such a schema has no value that ends
MANY = 500  # values; then everything counts as deep
MOST = 20_000  # values; then there is nothing more
MAX_LENGTH = 10_000  # characters of a string, items of an array: a schema may ask for more than memory holds
FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "mock@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: object, name: str = "text") -> Any:
    """Return a value that is valid for a schema; the same one every time.

    Args:
        schema: A JSON schema or Google's subset of OpenAPI. What is no schema allows everything, and gives a text.
        name: What a plain string says; for the properties of an object, their names.
    """
    return _Sampler(schema).value(schema, name, 0)


class _Sampler:
    """Knows the whole schema, for references, and how much it has made of it."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._made = 0

    def _is_deep(self, depth: int) -> bool:
        return depth >= DEEP or self._made > MANY

    def value(self, schema: object, name: str, depth: int) -> Any:
        self._made += 1
        if not isinstance(schema, Mapping):
            return name
        if depth > DEEPEST or self._made > MOST:
            return None
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if _list(schema, "enum"):
            return schema["enum"][0]
        for way in ("anyOf", "any_of", "oneOf"):
            if _list(schema, way):
                return self.value(self._alternative(schema, schema[way], depth), name, depth + 1)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return _number(schema, is_whole=kind == "integer")
        return (
            {"boolean": True, "null": None}.get(kind, _string(schema, name))
            if kind != "string"
            else _string(schema, name)
        )

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """Follow a reference, and fold `allOf` into one schema."""
        for _ in range(DEEP):  # a chain of references that comes back to itself ends too
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            target = self._target(reference)
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **rest}
        parts = _list(schema, "allOf")
        if not parts or depth > 2 * DEEP:
            return schema
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            if isinstance(part, Mapping):
                _merge(merged, self._resolved(part, depth + 1))
        return merged

    def _target(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _alternative(self, schema: Mapping[str, Any], ways: Sequence[Any], depth: int) -> object:
        """Return the first alternative; deep down, the plainest one."""
        shared = {key: value for key, value in schema.items() if key not in ("anyOf", "any_of", "oneOf", "type")}
        chosen = ways[0]
        if self._is_deep(depth):
            chosen = min(ways, key=self._weight)
        return {**shared, **chosen} if isinstance(chosen, Mapping) else chosen

    def _weight(self, schema: object) -> int:
        if not isinstance(schema, Mapping):
            return 1
        return {"null": 0, "object": 3, "array": 2}.get(_kind(self._resolved(schema, 0)), 1)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        names = [name for name in _list(schema, "required") if isinstance(name, str)]
        return {name: self.value(properties.get(name), name, depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        fixed = _list(schema, "prefixItems")
        if fixed:
            return [self.value(item, name, depth + 1) for item in fixed]
        least = _whole(schema.get("minItems", schema.get("min_items")), 0)
        most = _whole(schema.get("maxItems", schema.get("max_items")), 1)
        count = max(least, 0 if self._is_deep(depth) else min(1, most))
        return [self.value(schema.get("items"), name, depth + 1) for _ in range(min(count, MAX_LENGTH))]


def _list(schema: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else ()


def _merge(merged: dict[str, Any], part: Mapping[str, Any]) -> None:
    for key, value in part.items():
        if key == "properties" and isinstance(merged.get(key), Mapping) and isinstance(value, Mapping):
            merged[key] = {**merged[key], **value}
        elif key == "required" and isinstance(merged.get(key), list) and isinstance(value, list):
            merged[key] = list(dict.fromkeys([*merged[key], *value]))
        else:
            merged[key] = value


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the JSON type that a schema asks for, in lower case; of several the first that is not null."""
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    lower = [name.lower() for name in names if isinstance(name, str)]
    for name in lower:
        if name != "null":
            return name
    if lower:
        return "null"
    return "object" if "properties" in schema else "array" if "items" in schema or "prefixItems" in schema else "string"


def _whole(value: object, default: int) -> int:
    try:
        return max(0, int(value)) if isinstance(value, (int, float, str)) else default  # Google writes "3"
    except (ValueError, OverflowError):
        return default


def _number(schema: Mapping[str, Any], *, is_whole: bool) -> float:
    """Return 1 or, if it is not allowed, the allowed number nearest to it that is easy to find."""
    low, high = _bound(schema, "inimum", 1), _bound(schema, "aximum", -1)
    step = _finite(schema.get("multipleOf")) or (1 if is_whole else 0)
    value: float = 1
    if low is not None and value < low:
        value = low
    if high is not None and value > high:
        value = high
    if step > 1e-9:
        value = math.floor(value / step) * step
        value = value + step if low is not None and value < low else value
    elif low is not None and high is not None and not low <= value <= high:
        value = (low + high) / 2
    return int(value) if is_whole or value == int(value) else value


def _bound(schema: Mapping[str, Any], ending: str, direction: int) -> float | None:
    """Return the lowest or highest number allowed; next to an exclusive bound, one beyond it."""
    bound, exclusive = _finite(schema.get("m" + ending)), schema.get("exclusiveM" + ending)
    beyond = _finite(exclusive)
    if beyond is not None:
        return beyond + direction
    return bound + direction if bound is not None and exclusive is True else bound


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -1e300 < value < 1e300 else None


def _string(schema: Mapping[str, Any], name: str) -> str:
    value = FORMATS.get(str(schema.get("format")), name)
    least = min(_whole(schema.get("minLength", schema.get("min_length")), 0), MAX_LENGTH)
    most = _whole(schema.get("maxLength", schema.get("max_length")), max(least, len(value)))
    return value.ljust(least, "x")[:most]
