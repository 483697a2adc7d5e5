"""A JSON schema as a tree: its subschemas, where its references lead, and whether OpenAI's strict mode takes it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

_ONE = frozenset(
    {
        *("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else"),
        *("unevaluatedItems", "unevaluatedProperties"),
    }
)
_LISTS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems", "items"})
_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})

NOT_STRICT = frozenset(
    {
        *("default", "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"),
        *("minLength", "maxLength", "minProperties", "maxProperties", "patternProperties", "propertyNames"),
        *("prefixItems", "contains", "minContains", "maxContains", "uniqueItems"),
        *("unevaluatedProperties", "unevaluatedItems"),
    }
)
"""Keywords that strict mode refuses. Source: OpenAI's guide to structured outputs."""

STRICT_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""Source: as above."""

STRICT_LEVELS = 10
STRICT_PROPERTIES = 5000
"""How deep a schema may nest, and how many properties there may be in all. Source: as above."""


def subschemas(node: Schema) -> Iterator[dict[str, Any]]:
    """Yield the schemas that stand directly in this one: not in its examples, constants and defaults."""
    for keyword, value in node.items():
        found: list[Any] = []
        if isinstance(value, dict):
            found = list(value.values()) if keyword in _NAMED else [value] if keyword in _ONE else []
        elif isinstance(value, list) and keyword in _LISTS:
            found = value
        yield from (child for child in found if isinstance(child, dict))


def every_schema(root: Schema) -> Iterator[Schema]:
    """Yield a schema and all that stand in it, at any depth."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(subschemas(node))


def references(root: Schema) -> Iterator[str]:
    """Yield every reference in a schema, such as "#/$defs/Node"."""
    for node in every_schema(root):
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(node.get(keyword), str):
                yield node[keyword]


def resolve(root: Schema, reference: str) -> Any:
    """Return what a reference such as "#/$defs/Node" leads to.

    Raises:
        LookupError: It leads nowhere, or is none of this form.
    """
    start, *steps = unquote(reference).split("/")
    if start != "#":
        raise LookupError(reference)
    found: Any = root
    for step in steps:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found[key]
        elif isinstance(found, list) and key.isdecimal():
            found = found[int(key)]
        else:
            raise LookupError(reference)
    return found


def inline_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose root is no mere reference to one of its `$defs`, as OpenAI asks; others are returned as is."""
    reference, defs = schema.get("$ref"), schema.get("$defs")
    if not isinstance(reference, str) or not isinstance(defs, dict):
        return schema
    root = resolve(schema, reference)
    rest = {name: one for name, one in defs.items() if one is not root}
    if reference in references({"$defs": defs}):  # it is recursive
        rest = defs
    return {**root, "$defs": rest} if rest else dict(root)


def is_strict(schema: Schema) -> bool:
    """Return whether OpenAI takes a schema with `"strict": true`.

    Where it is doubtful the answer is no: without the flag the same schema is still followed, as well as the model can.
    """
    if schema.get("type") != "object":
        return False
    nodes = list(every_schema(schema))
    properties = [node["properties"] for node in nodes if isinstance(node.get("properties"), dict)]
    if sum(map(len, properties)) > STRICT_PROPERTIES:
        return False
    try:
        return all(map(_is_strict_node, nodes)) and _levels(schema, schema, {}) <= STRICT_LEVELS
    except RecursionError:
        return False


def _is_strict_node(node: Schema) -> bool:
    if not NOT_STRICT.isdisjoint(node):
        return False
    if "$ref" in node:
        return len(node) == 1
    kinds = _kinds(node)
    if ("object" in kinds or "properties" in node) and not _is_closed(node):
        return False
    if "array" in kinds and not isinstance(node.get("items"), dict):
        return False
    if "format" in node and str(node["format"]) not in STRICT_FORMATS:
        return False
    return not {"type", "anyOf", "enum", "const"}.isdisjoint(node)


def _kinds(node: Schema) -> list[Any]:
    return node["type"] if isinstance(node.get("type"), list) else [node.get("type")]


def _is_closed(node: Schema) -> bool:
    """Return whether an object must have all of its properties, and no others."""
    properties, required = node.get("properties", {}), node.get("required", [])
    if node.get("additionalProperties") is not False or not isinstance(properties, dict):
        return False
    return isinstance(required, list) and len(required) == len(properties) and all(n in required for n in properties)


def _levels(root: Schema, node: Schema, known: dict[str, int]) -> int:
    """Return how many objects, lists and unions stand in each other. One that leads back to itself counts once.

    OpenAI does not say what it counts as a level; this is the most that it can be.
    """
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference not in known:
            known[reference] = 0
            try:
                target = resolve(root, reference)
            except LookupError:
                return STRICT_LEVELS + 1
            known[reference] = _levels(root, target, known) if isinstance(target, dict) else 0
        return known[reference]
    inner = subschemas({key: value for key, value in node.items() if key not in ("$defs", "definitions")})
    deepest = max((_levels(root, child, known) for child in inner), default=0)
    kinds = _kinds(node)
    return deepest + ("object" in kinds or "array" in kinds or "anyOf" in node)
