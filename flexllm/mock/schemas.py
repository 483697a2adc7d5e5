"""What services ask of a JSON schema before they promise to answer by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .checks import Fault, Place, rule

MAX_LEVELS = 10  # of nesting under OpenAI's strict mode
MAX_PROPERTIES = 5000
# What OpenAI's strict mode does not know. Source: OpenAI's guide to structured outputs.
NOT_STRICT = (
    "default", "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "minLength",
    "maxLength", "minProperties", "maxProperties", "patternProperties", "propertyNames", "unevaluatedProperties",
    "unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems",
)  # fmt: skip

_OF_ONE = ("items", "not", "if", "then", "else", "contains", "propertyNames", "additionalProperties")
_OF_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_OF_NAMED = ("properties", "$defs", "definitions", "patternProperties")


def subschemas(schema: object, place: Place = ()) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield a schema and every schema inside it, each with its place."""
    waiting: list[tuple[Place, object]] = [(place, schema)]
    while waiting:
        where, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield where, node
        waiting += [((*where, name), node[name]) for name in _OF_ONE if name in node]
        for name in _OF_MANY:
            if isinstance(node.get(name), list):
                waiting += [((*where, name, at), inner) for at, inner in enumerate(node[name])]
        for name in _OF_NAMED:
            if isinstance(node.get(name), dict):
                waiting += [((*where, name, key), inner) for key, inner in node[name].items()]


def is_of_objects(schema: Mapping[str, Any]) -> bool:
    """Whether a schema describes objects."""
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or (kind is None and "properties" in schema)
    )


def open_object(schema: object) -> Place | None:
    """Return the place of an object that does not say `additionalProperties: false`, or None."""
    for place, node in subschemas(schema):
        if is_of_objects(node) and node.get("additionalProperties") is not False:
            return place
    return None


def strict_fault(schema: object) -> Fault | None:
    """Return what OpenAI's strict mode would refuse; the sentence says it as OpenAI does, from "In context" on."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return rule(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'.")
    count = 0
    for place, node in subschemas(schema):
        sentence = _strict_sentence(node)
        if sentence is not None:
            return rule(f"In context={_context(place)}, {sentence}")
        count += len(node["properties"]) if isinstance(node.get("properties"), dict) else 0
        if sum(step in ("properties", "items", "anyOf") for step in place) > MAX_LEVELS:
            return rule(f"the schema exceeds {MAX_LEVELS} levels of nesting.")
    return rule(f"the schema exceeds {MAX_PROPERTIES} object properties.") if count > MAX_PROPERTIES else None


def _strict_sentence(node: Mapping[str, Any]) -> str | None:
    for name in NOT_STRICT:
        if name in node:
            return f"'{name}' is not permitted."
    if "$ref" in node and len(node) > 1:
        others = sorted(set(node) - {"$ref"})
        return f"$ref cannot have keywords {set(others)}."
    if not is_of_objects(node):
        return None
    if node.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    required = node.get("required")
    names = required if isinstance(required, list) else []
    properties = node.get("properties")
    for name in properties if isinstance(properties, dict) else ():
        if name not in names:
            return (
                "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{name}'."
            )
    return None


def _context(place: Place) -> str:
    """Return a place as OpenAI writes it: a Python tuple."""
    return repr(tuple(str(step) for step in place))
