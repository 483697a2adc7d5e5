"""Values made for JSON schemas are valid for them, and no schema is too odd."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock.samples import MAX_LENGTH, sample

jsonschema = pytest.importorskip("jsonschema")

NODE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["name", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "text"),
        ({"type": "integer"}, 1),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "number"]}, 1),
        ({"enum": ["C", "F"]}, "C"),
        ({"const": 0}, 0),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "array", "minItems": 3}, ["text"] * 3),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "object"}, {}),
        ({"properties": {"a": {}, "b": {"type": "integer"}}, "required": ["b"]}, {"b": 1}),
        ({"properties": {"city": {"type": "string"}}, "required": ["city"]}, {"city": "city"}),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"required": ["a"]}], "type": "object"}, {"a": 1}),
        ({"type": "INTEGER"}, 1),  # Google's spelling
        ({"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "2"}, ["text", "text"]),
        ({}, "text"),
        (True, "text"),
    ],
)
def test_a_small_value_is_made(schema: Any, value: Any) -> None:
    assert sample(schema) == value


@pytest.mark.parametrize(
    "schema",
    [
        NODE,
        {"type": "string", "minLength": 3, "maxLength": 3},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "uuid", "minLength": 1},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "exclusiveMinimum": 5},
        {"type": "integer", "maximum": -3},
        {"type": "integer", "minimum": 1.5, "maximum": 2.5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "minimum": 7, "multipleOf": 2.5},
        {"type": "integer", "minimum": 10, "multipleOf": 7},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
        {"oneOf": [{"type": "object", "required": ["k"], "properties": {"k": {"const": "a"}}}, {"type": "null"}]},
        {"type": "object", "properties": {"a/b~c": {"const": 1}, "r": {"$ref": "#/properties/a~1b~0c"}}, "required": ["r"]},
        {"allOf": [{"$ref": "#/$defs/a"}, {"required": ["y"]}], "$defs": {"a": {"properties": {"y": {"type": "null"}}}}},
    ],
)  # fmt: skip
def test_the_value_is_valid_for_its_schema(schema: Any) -> None:
    jsonschema.Draft202012Validator(schema).validate(sample(schema))


def schemas() -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
                  st.integers(-50, 50), st.integers(0, 9)),
        st.builds(lambda low, more: {"type": "number", "minimum": low, "exclusiveMaximum": low + more},
                  st.integers(-50, 50), st.integers(1, 9)),
        st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
                  st.integers(0, 9), st.integers(0, 9)),
        st.lists(st.one_of(st.integers(), st.text(), st.none()), min_size=1).map(lambda values: {"enum": values}),
    )  # fmt: skip

    def bigger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        named = st.dictionaries(st.text(max_size=5), inner, max_size=4)
        objects = named.map(lambda fields: {"type": "object", "properties": fields, "required": [*fields][::2]})
        arrays = st.builds(
            lambda of, least: {"type": "array", "items": of, "minItems": least}, inner, st.integers(0, 3)
        )
        ways = st.lists(inner, min_size=1, max_size=3).map(lambda several: {"anyOf": several})
        return objects | arrays | ways

    return st.recursive(leaves, bigger, max_leaves=12)


@given(schemas())
def test_made_values_are_valid(schema: Any) -> None:
    value = sample(schema)
    jsonschema.Draft202012Validator(schema).validate(value)
    assert value == sample(json.loads(json.dumps(schema)))


KEYWORDS = st.sampled_from(
    ["type", "enum", "anyOf", "oneOf", "allOf", "$ref", "properties", "required", "items", "prefixItems", "minItems",
     "maxItems", "minimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "format", "const"]
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
    st.sampled_from(["object", "array", "integer", "#", "#/properties/a", 1e308, 1e-320, 10**300]),
)  # fmt: skip


@given(st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4)))
def test_no_schema_is_too_odd(schema: Any) -> None:
    sample(schema)


def test_a_schema_without_a_finite_value_ends_all_the_same() -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]}
    assert "a" in sample(endless)


def test_a_schema_cannot_ask_for_more_than_memory_holds() -> None:
    assert len(sample({"type": "string", "minLength": 10**12})) == MAX_LENGTH
    assert len(sample({"type": "array", "minItems": 10**12})) == MAX_LENGTH
