"""A JSON schema as Anthropic's structured outputs take it, which is less than JSON Schema allows.

Objects must be closed. Bounds of numbers, lengths and counts are not enforced, nor are formats but for a few: they move
into the description, where the model reads them, as Anthropic's own SDK does it. Whoever wants them kept validates the
reply against the schema given.
Source: Anthropic's API reference, structured outputs; the SDK's transform_schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...language import _

Schema = Mapping[str, Any]

_BOUNDS = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "maxItems", "uniqueItems", "minContains", "maxContains"),
        *("minProperties", "maxProperties"),
    }
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SCHEMAS = ("items", "not", "if", "then", "else", "contains", "additionalItems", "propertyNames")


def closed_schema(schema: Schema, what: str) -> dict[str, Any]:
    """Return a schema in Anthropic's form; the caller's is not changed.

    Args:
        schema: Any JSON schema.
        what: Whose schema it is, for errors.

    Raises:
        InputError: An object is open to properties that it does not name, or the schema is nested too deep.
    """
    try:
        return _closed(schema, what)
    except RecursionError:
        raise InputError(_("the JSON schema of {what} is nested too deep", what=what)) from None


def _closed(schema: Schema, place: str) -> dict[str, Any]:
    closed: dict[str, Any] = {}
    bounds = []
    for word, value in schema.items():
        at = f"{place}/{word}"
        if word in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
            closed[word] = {name: _inner(one, f"{at}/{name}") for name, one in value.items()}
        elif word in _LISTS_OF_SCHEMAS and isinstance(value, (list, tuple)):
            # Of what matches several branches of oneOf the server knows nothing.
            word = "anyOf" if word == "oneOf" and "anyOf" not in schema else word
            closed[word] = [_inner(one, f"{at}/{number}") for number, one in enumerate(value)]
        elif word in _SCHEMAS:
            closed[word] = _inner(value, at)
        elif word in _BOUNDS or _is_not_enforced(word, value):
            bounds.append(f"{word}: {json.dumps(value, default=str)}")
        else:
            closed[word] = value
    if _is_object(schema) and closed.setdefault("additionalProperties", False) is not False:
        raise InputError(
            _(
                "the JSON schema of {place} is open: Claude takes no other additionalProperties than false; "
                "name the properties, or use an array of key and value",
                place=place[:120],
            )
        )
    if bounds:
        closed["description"] = " ".join(filter(None, [str(schema.get("description") or ""), f"({', '.join(bounds)})"]))
    return closed


def _is_not_enforced(word: str, value: Any) -> bool:
    return (word == "minItems" and value not in (0, 1)) or (word == "format" and value not in _FORMATS)


def _inner(schema: Any, place: str) -> Any:
    return _closed(schema, place) if isinstance(schema, Mapping) else schema


def _is_object(schema: Schema) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
