"""What may be given as `response_format`, and what becomes of a reply to it."""

from __future__ import annotations

import contextlib
import copy
import datetime
import enum
import itertools
import json
import logging
import pickle
import re
import subprocess
import sys
from dataclasses import InitVar, asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Optional, TypeVar, Union

import jsonschema
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

import flexllm
from flexllm.digest import digest_settings
from flexllm.errors import ConfigError, SchemaMismatch
from flexllm.schema import ResponseFormat, as_response_format, check_format, parse_reply, validation

# --- shapes


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Tag:
    """A word that sorts things."""

    name: Annotated[str, "in lower case"]
    weight: float = 1.0


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)


@dataclass(kw_only=True)
class Everything:
    text: str
    whole: int
    number: float
    truth: bool
    nothing: None
    anything: Any
    literal: Literal["a", 1, True, None]
    colour: Colour
    level: Level
    items: list[Point]
    pair: tuple[int, ...]
    table: dict[str, Tag]
    maybe: Point | None
    older: Optional[Union[int, str]]  # noqa: UP007, UP045
    day: datetime.date
    moment: datetime.datetime
    described: Annotated[Tag, "what it is about"]
    bare: list  # type: ignore[type-arg]
    open: dict  # type: ignore[type-arg]
    constant: ClassVar[int] = 3
    made: int = field(default=0, init=False)


EVERYTHING: dict[str, Any] = {
    "text": "é 😀",
    "whole": 3,
    "number": 2,
    "truth": True,
    "nothing": None,
    "anything": {"a": [1]},
    "literal": 1,
    "colour": "blue",
    "level": 2,
    "items": [{"x": 1, "y": 2}],
    "pair": [1, 2, 3],
    "table": {"k": {"name": "n", "weight": 0.5}},
    "maybe": None,
    "older": "z",
    "day": "2024-02-29",
    "moment": "2024-02-29T23:59:00.25Z",
    "described": {"name": "d"},
    "bare": [1, "a"],
    "open": {"b": 1},
}


class Model(pydantic.BaseModel):
    n: int
    note: str | None = None
    tags: list[Tag] = []


class Leaf(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    kind: Literal["leaf"]
    day: datetime.date


class Branch(pydantic.BaseModel):
    """Grows."""

    kind: Literal["branch"]
    parts: list[Annotated[Branch | Leaf, pydantic.Field(discriminator="kind")]]
    main: Annotated[Leaf, pydantic.Field(description="the first one")] | None = None


SCHEMA: dict[str, Any] = {
    "title": "My answer!",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
    "required": ["n", "s"],
    "additionalProperties": False,
}


def schema_of(thing: Any) -> dict[str, Any]:
    schema = as_response_format(thing)["json_schema"]["schema"]
    assert isinstance(schema, dict)
    return schema


def read(value: Any, thing: Any) -> Any:
    return parse_reply(json.dumps(value), as_response_format(thing))


def complaint(value: Any, thing: Any) -> str:
    with pytest.raises(SchemaMismatch) as caught:
        read(value, thing)
    return str(caught.value)


# --- the form that is sent


def test_a_dataclass_is_asked_for_as_openai_writes_it() -> None:
    assert as_response_format(Tag) == {
        "type": "json_schema",
        "json_schema": {
            "name": "Tag",
            "schema": {
                "type": "object",
                "description": "A word that sorts things.",
                "properties": {
                    "name": {"type": "string", "description": "in lower case"},
                    "weight": {"type": "number"},
                },
                "required": ["name", "weight"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }


def test_a_dataclass_without_a_docstring_has_no_description() -> None:
    assert "description" not in schema_of(Point)


def test_every_supported_annotation_has_its_schema() -> None:
    schema = schema_of(Everything)
    point, tag = {"$ref": "#/$defs/Point"}, {"$ref": "#/$defs/Tag"}
    null = {"type": "null"}
    assert schema["properties"] == {
        "text": {"type": "string"},
        "whole": {"type": "integer"},
        "number": {"type": "number"},
        "truth": {"type": "boolean"},
        "nothing": null,
        "anything": {},
        "literal": {
            "anyOf": [
                {"type": "string", "enum": ["a"]},
                {"type": "integer", "enum": [1]},
                {"type": "boolean", "enum": [True]},
                {"type": "null", "enum": [None]},
            ]
        },
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "level": {"type": "integer", "enum": [1, 2]},
        "items": {"type": "array", "items": point},
        "pair": {"type": "array", "items": {"type": "integer"}},
        "table": {"type": "object", "additionalProperties": tag},
        "maybe": {"anyOf": [point, null]},
        "older": {"anyOf": [{"type": "integer"}, {"type": "string"}, null]},
        "day": {"type": "string", "format": "date"},
        "moment": {"type": "string", "format": "date-time"},
        "described": {"anyOf": [tag], "description": "what it is about"},
        "bare": {"type": "array", "items": {}},
        "open": {"type": "object", "additionalProperties": True},
    }
    assert schema["required"] == list(schema["properties"])
    assert set(schema["$defs"]) == {"Point", "Tag"}


def test_a_recursive_dataclass_stands_at_the_root_and_in_its_definitions() -> None:
    schema = schema_of(Node)
    assert schema["type"] == "object"
    assert schema["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert schema["$defs"]["Node"]["properties"] == schema["properties"]


def test_a_recursive_class_inside_a_function_is_found() -> None:
    @dataclass
    class Chain:
        next: Chain | None

    assert read({"next": {"next": None}}, Chain) == Chain(Chain(None))


def test_classes_of_one_name_have_definitions_of_their_own() -> None:
    first, second = make_dataclass("Same", [("a", int)]), make_dataclass("Same", [("b", str)])
    both = make_dataclass("Both", [("one", first), ("two", second), ("again", first)])
    properties = schema_of(both)["properties"]
    assert [properties[name]["$ref"] for name in ("one", "two", "again")] == [
        "#/$defs/Same",
        "#/$defs/Same_2",
        "#/$defs/Same",
    ]
    assert read({"one": {"a": 1}, "two": {"b": ""}, "again": {"a": 2}}, both) == both(first(1), second(""), first(2))


def test_a_name_is_made_of_the_letters_that_openai_allows() -> None:
    names = [
        as_response_format(make_dataclass(name, [("a", int)]))["json_schema"]["name"]
        for name in ("Größe", "答案", "x" * 80)
    ]
    assert names == ["Gr_e", "answer", "x" * 64]
    assert as_response_format({"type": "object", "title": "?!"})["json_schema"]["name"] == "answer"


def test_an_unnamed_annotation_is_called_answer() -> None:
    inner = as_response_format(list[Point])["json_schema"]
    assert inner["name"] == "answer"
    assert inner["schema"]["items"] == {"$ref": "#/$defs/Point"}
    assert inner["strict"] is False, "OpenAI takes an object at the root alone"


def test_a_bare_schema_is_wrapped_and_named_by_its_title() -> None:
    made = as_response_format(SCHEMA)
    assert made == {"type": "json_schema", "json_schema": {"name": "My_answer", "schema": SCHEMA, "strict": True}}
    assert made.kind is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"properties": {"a": {"type": "integer"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"enum": ["a", "b"]},
        {"type": ["object", "null"]},
        {"type": "array", "items": {"type": "string"}},
    ],
)
def test_a_bare_schema_that_is_not_strict_leaves_strict_out(schema: dict[str, Any]) -> None:
    assert as_response_format(schema) == {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "a b", "schema": {"type": "object"}, "strict": True, "x": 1}},
        {"type": "json_schema", "json_schema": {"name": "a"}},
        {"type": "json_schema", "schema": {"type": "object"}},
        {"type": "structural_tag", "structures": [], "triggers": ["<"]},
        {"type": "json_object", "schema": {"type": "object"}},
    ],
)
def test_a_dict_in_openai_form_is_sent_unchanged(fields: dict[str, Any]) -> None:
    before = copy.deepcopy(fields)
    assert as_response_format(fields) == before == fields


def test_strict_is_off_for_a_dataclass_that_strict_mode_cannot_say() -> None:
    for annotation in (dict[str, int], Any, dict):
        loose = make_dataclass("Loose", [("a", annotation)])
        assert as_response_format(loose)["json_schema"]["strict"] is False


def test_a_formats_schema_may_be_changed_without_changing_the_next_one() -> None:
    schema_of(Point)["properties"].clear()
    assert list(schema_of(Point)["properties"]) == ["x", "y"]


def test_a_model_is_asked_for_in_the_strict_form() -> None:
    made = as_response_format(Model)
    schema = made["json_schema"]["schema"]
    assert made["json_schema"]["name"] == "Model"
    assert made["json_schema"]["strict"] is True
    assert schema["required"] == ["n", "note", "tags"]
    assert schema["additionalProperties"] is False
    assert "default" not in json.dumps(schema)


def test_a_union_with_a_discriminator_becomes_any_of_and_nothing_stands_beside_a_reference() -> None:
    made = as_response_format(Branch)
    text = json.dumps(made)
    assert "oneOf" not in text
    assert "discriminator" not in text
    assert made["json_schema"]["strict"] is True
    assert strict_faults(made["json_schema"]["schema"]) == []


# --- what strict means, said a second time


_ANYWHERE = {"type", "description", "title", "enum", "const", "anyOf", "$defs"}
_WITH = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"format", "pattern"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


def strict_faults(node: Any) -> list[str]:
    """What OpenAI's strict mode would refuse: a list of what is allowed, where the code has one of what is not."""
    faults = [] if node.get("type") == "object" else ["the root is no object"]
    faults += _faults(node, "root")
    if _deepest(node, node, ()) > 10:
        faults.append("it is too deep")
    return faults


def _faults(node: Any, where: str) -> list[str]:
    if "$ref" in node:
        return [] if set(node) == {"$ref"} else [f"{where} has something beside $ref"]
    kind = node.get("type")
    faults = [] if kind is not None or "anyOf" in node else [f"{where} names no type"]
    extra = set(node) - _ANYWHERE - _WITH.get(str(kind), set())
    faults += [f"{where} has {keyword}" for keyword in sorted(extra)]
    if kind == "object" and node.get("additionalProperties") is not False:
        faults.append(f"{where} is open")
    if kind == "object" and sorted(node.get("required", [])) != sorted(node.get("properties", {})):
        faults.append(f"{where} has optional properties")
    if kind == "array" and "items" not in node:
        faults.append(f"{where} has no items")
    for name, child in [*_children(node), *node.get("$defs", {}).items()]:
        faults += _faults(child, f"{where}.{name}")
    return faults


def _children(node: Any) -> list[tuple[str, Any]]:
    unions = [(str(number), child) for number, child in enumerate(node.get("anyOf", ()))]
    return [*node.get("properties", {}).items(), *unions, *([("items", node["items"])] if "items" in node else [])]


def _deepest(root: Any, node: Any, path: tuple[str, ...]) -> int:
    name = node.get("$ref")
    if name is not None:
        return 0 if name in path else _deepest(root, root["$defs"][name.split("/")[-1]], (*path, name))
    inner = [_deepest(root, child, path) for _, child in _children(node)]
    return max(inner, default=0) + (node.get("type") in ("object", "array") or "anyOf" in node)


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def nested(levels: int) -> dict[str, Any]:
    schema = closed(a={"type": "string"})
    for _ in range(levels - 1):
        schema = closed(a=schema)
    return schema


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (closed(), True),
        (closed(a={"type": "integer", "minimum": 1}), True),
        (closed(a={"enum": ["x"]}), True),
        (closed(a={"type": ["string", "null"]}), True),
        (closed(a={"type": "array", "items": {"type": "string"}}), True),
        (closed(default={"type": "string"}, minLength={"type": "integer"}), True),
        ({**closed(a={"$ref": "#"})}, True),
        ({**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": closed()}}, True),
        (nested(10), True),
        (nested(11), False),
        (closed(a={"type": "array", "items": {"type": "array", "items": nested(7)}}), True),
        (closed(a={"type": "array", "items": {"type": "array", "items": nested(8)}}), False),
        (closed(a={"anyOf": [nested(8), {"type": "null"}]}), True),
        (closed(a={"anyOf": [nested(9), {"type": "null"}]}), False),
        ({**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": nested(9)}}, True),
        ({**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": nested(10)}}, False),
        ({**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": closed(a={"$ref": "#/$defs/A"})}}, True),
        pytest.param(
            closed(**{f"p{number}": {"type": "null"} for number in range(5000)}), True, marks=pytest.mark.slow
        ),
        pytest.param(
            closed(**{f"p{number}": {"type": "null"} for number in range(5001)}), False, marks=pytest.mark.slow
        ),
        ({"type": "object", "properties": {}}, False),
        ({**closed(a={"type": "string"}), "required": []}, False),
        ({**closed(a={"type": "string"}), "required": ["b"]}, False),
        ({**closed(a={"type": "string"}), "additionalProperties": True}, False),
        (closed(a={"type": "string", "default": ""}), False),
        (closed(a={"type": "string", "minLength": 1}), False),
        (closed(a={"type": "string", "format": "uri"}), False),
        (closed(a={"type": "array"}), False),
        (closed(a={"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}), False),
        (closed(a={"oneOf": [{"type": "string"}]}), False),
        (closed(a={"allOf": [{"type": "string"}]}), False),
        (closed(a={}), False),
        (closed(a={"type": "object"}), False),
        (closed(a={"type": ["object", "null"]}), False),
        ({**closed(a={"$ref": "#/$defs/A", "description": "x"}), "$defs": {"A": closed()}}, False),
        ({**closed(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"type": "object"}}}, False),
        ({"anyOf": [closed()]}, False),
    ],
)
def test_strict_is_set_where_the_rules_are_kept(schema: dict[str, Any], strict: bool) -> None:
    assert ("strict" in as_response_format(schema)["json_schema"]) is strict


# --- a value of its own


@pytest.mark.parametrize("kind", [Point, Model, list[Point], Point | Tag, None])
def test_a_format_survives_pickling_and_copying(kind: Any) -> None:
    made = as_response_format(SCHEMA if kind is None else kind, repair=True)
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made), made.copy()):
        assert type(other) is ResponseFormat
        assert (other, other.kind, other.repair) == (made, kind, True)


def test_a_format_is_written_and_digested_as_the_plain_dict() -> None:
    made = as_response_format(Point, repair=True)
    plain = json.loads(json.dumps(made))
    assert type(plain) is dict
    assert plain == made
    assert digest_settings("m", {"response_format": made}) == digest_settings("m", {"response_format": plain})
    assert "repair" not in json.dumps(made)


def test_a_format_is_taken_as_it_is_and_may_gain_repair() -> None:
    made = as_response_format(Point)
    assert (made.repair, as_response_format(made).repair) == (False, False)
    again = as_response_format(made, repair=True)
    assert (again, again.kind, again.repair, made.repair) == (made, Point, True, False)
    assert as_response_format(again).repair is True


# --- what is refused before anything is sent

T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Needs:
    seed: InitVar[int]
    a: int


@dataclass
class Lost:
    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Empty(enum.Enum):
    pass


class Odd(enum.Enum):
    A = (1, 2)


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (complex, "complex"),
        (set[int], "set[int]"),
        (dict[int, str], "dict[int, str]"),
        (tuple[int, str], "tuple[int, str]"),
        (list[bytes], "bytes"),
        (datetime.time, "time"),
        (Path, "Path"),
        (Model, "Model"),
        (Box[int], "Box[int]"),
        (Empty, "Empty"),
        (Odd, "Odd.A"),
        (Literal[b"x"], "b'x'"),
        (Annotated[object, []], "object"),
        ([], "[]"),
    ],
)
def test_a_field_that_has_no_json_form_is_named(annotation: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        as_response_format(make_dataclass("Answer", [("good", int), ("bad", annotation)]))
    assert "Answer.bad" in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Box, "Box.content is of type ~T"), (Needs, "Needs cannot be made from its fields"), (Lost, "'Nowhere' is not")],
)
def test_a_dataclass_that_cannot_be_filled_is_refused(kind: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        as_response_format(kind)


@pytest.mark.parametrize(
    "value", [None, 3, True, "json_object", b"x", [SCHEMA], int, dict, Colour, Point(1, 2), Box[int]]
)
def test_what_is_no_response_format_is_refused_with_what_is(value: Any) -> None:
    with pytest.raises(ConfigError, match="give a dict in OpenAI's form, a JSON schema, a dataclass"):
        as_response_format(value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "has no 'type'"),
        ({"schema": {}}, "has no 'type'"),
        ({"type": None}, "has no 'type'"),
        ({"type": "json_schema", "json_schema": "x"}, "must be an object with 'name' and 'schema', not \"x\""),
        ({"type": "json_schema", "json_schema": SCHEMA}, "under 'schema'"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": "x"}}, "under 'schema'"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, r"at \$.properties.a.type: 'strin'"),
        ({"type": "json_schema", "json_schema": {"schema": {"required": "a"}}}, r"at \$.required: 'a'"),
        ({"type": "string", "pattern": "("}, r"at \$.pattern"),
        ({"type": "object", "properties": {"a": int}}, "cannot be written as JSON"),
        ({"$ref": "https://example.com/s.json"}, 'refers to "https://example.com/s.json", which it does not hold'),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}}, 'refers to "#/\\$defs/A"'),
        ({"type": "array", "items": {"$ref": "#/type/0"}}, 'refers to "#/type/0"'),
    ],
)
def test_a_dict_that_cannot_be_used_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        as_response_format(fields)


def test_a_schema_that_holds_itself_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema}
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        as_response_format(schema)


@pytest.mark.parametrize("levels", [200, 500, 5000])
def test_a_schema_that_nests_too_deeply_is_refused_or_used(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in ("with jsonschema", "without"):
        try:
            assert "strict" not in as_response_format(nested(levels))["json_schema"]
        except ConfigError as error:
            assert "nest" in str(error) or "recursion" in str(error)  # noqa: PT017
        monkeypatch.setitem(sys.modules, "jsonschema", None)


@pytest.mark.parametrize(
    "schema",
    [
        {"definitions": {"a/b": {"type": "string"}}, "$ref": "#/definitions/a~1b"},
        {"$defs": {"A": {"$anchor": "here", "type": "string"}}, "$ref": "#here"},
        {"$id": "https://example.com/s", "$defs": {"A": {"$id": "a", "type": "string"}}, "$ref": "a"},
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/anyOf/0"}}]},
    ],
)
def test_references_inside_the_schema_are_followed(schema: dict[str, Any]) -> None:
    assert read("x", schema) == "x"
    assert complaint(3, schema)


@pytest.mark.filterwarnings("ignore")  # the one that jsonschema gives when it fetches would stop it
def test_nothing_is_fetched_even_where_it_could_be(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"type": "string"}')
    with pytest.raises(ConfigError, match=r'refers to "b.json", which it does not hold'):
        read(3, {"$id": (tmp_path / "a.json").as_uri(), "$ref": "b.json"})


def test_an_example_is_not_taken_for_a_reference() -> None:
    schema = {"type": "object", "properties": {"$ref": {"type": "string"}}, "examples": [{"$ref": "x"}]}
    assert read({"$ref": "y"}, schema) == {"$ref": "y"}


# --- reading


@pytest.mark.parametrize(
    "text",
    [
        '{"x":1,"y":2}',
        ' \n{"x": 1, "y": 2}\r\n ',
        '```json\n{"x": 1, "y": 2}\n```',
        '```JSON\r\n{"x": 1, "y": 2}\r\n```\n',
        '\n```\n{"x": 1, "y": 2}\n```',
        '```json{"x": 1, "y": 2}```',
        '{"x": 1.0, "y": 2e0}',
    ],
)
def test_blanks_and_one_fence_around_the_json_are_tolerated(text: str) -> None:
    assert parse_reply(text, as_response_format(Point)) == Point(1, 2)


def test_a_fence_inside_a_text_is_left_alone() -> None:
    assert parse_reply('```json\n{"a": "```x```"}\n```', {"type": "json_object"}) == {"a": "```x```"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the reply is empty, where JSON was asked for"),
        (" \n", "the reply is empty"),
        ("```json\n```", "the reply is empty"),
        ("```", "is not JSON"),
        ('Sure! {"x": 1}', 'Expecting value at line 1, column 1, near "Sure! {'),
        ('{"x": 1,\n "y": }', "at line 2, column 7"),
        ('{"x": 1, "y": 2} and so on', "Extra data"),
        ('```json\n{"x": 1}\n```\n```json\n{"y": 2}\n```', "is not JSON"),
        ('{"x": NaN, "y": 1}', "NaN is no number of JSON's"),
        ('{"x": -Infinity, "y": 1}', "-Infinity is no number"),
        ('{"x": 1e999, "y": 1}', "1e999 is no number"),
        ("{'x': 1}", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("thing", [Point, Model, SCHEMA, {"type": "json_object"}])
def test_a_reply_that_is_not_json_is_told_from_one_that_does_not_fit(text: str, words: str, thing: Any) -> None:
    with pytest.raises(SchemaMismatch, match=re.escape(words)) as caught:
        parse_reply(text, as_response_format(thing))
    assert caught.value.content == text
    assert len(str(caught.value)) < 250


def test_every_supported_annotation_is_read() -> None:
    value = read(EVERYTHING, Everything)
    assert value == Everything(
        text="é 😀",
        whole=3,
        number=2.0,
        truth=True,
        nothing=None,
        anything={"a": [1]},
        literal=1,
        colour=Colour.BLUE,
        level=Level.HIGH,
        items=[Point(1, 2)],
        pair=(1, 2, 3),
        table={"k": Tag("n", 0.5)},
        maybe=None,
        older="z",
        day=datetime.date(2024, 2, 29),
        moment=datetime.datetime(2024, 2, 29, 23, 59, 0, 250_000, tzinfo=datetime.timezone.utc),
        described=Tag("d"),
        bare=[1, "a"],
        open={"b": 1},
    )
    assert type(value.number) is float
    assert type(value.literal) is int


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": 3}, "at $.text: a string is expected, not 3"),
        ({"whole": 3.5}, "at $.whole: a whole number is expected, not 3.5"),
        ({"whole": True}, "at $.whole: a whole number is expected, not true"),
        ({"number": "1"}, 'at $.number: a number is expected, not "1"'),
        ({"number": 10**400}, "at $.number: a number is expected"),
        ({"number": False}, "at $.number: a number is expected, not false"),
        ({"truth": 1}, "at $.truth: true or false is expected, not 1"),
        ({"nothing": 0}, "at $.nothing: null is expected, not 0"),
        ({"literal": "b"}, 'at $.literal: one of "a", 1, true, null is expected, not "b"'),
        ({"literal": False}, "at $.literal: one of"),
        ({"colour": "green"}, 'at $.colour: one of "red", "blue" is expected, not "green"'),
        ({"level": True}, "at $.level: one of 1, 2 is expected, not true"),
        ({"items": {"x": 1}}, 'at $.items: a list is expected, not {"x": 1}'),
        ({"items": [{"x": 1, "y": 2}, {"x": 1}]}, 'at $.items[1]: the property "y" is missing'),
        ({"items": [{}]}, 'at $.items[0]: the properties "x", "y" are missing'),
        ({"pair": [1, 2, "3"]}, 'at $.pair[2]: a whole number is expected, not "3"'),
        ({"table": {"a b": {"name": 1}}}, 'at $.table["a b"].name: a string is expected, not 1'),
        ({"table": []}, "at $.table: an object is expected, not []"),
        ({"maybe": 3}, "at $.maybe: an object or null is expected, not 3"),
        ({"maybe": {"x": 1, "y": 2, "z": 3}}, 'at $.maybe: the property "z" is not known'),
        ({"maybe": {"x": 1, "y": []}}, "at $.maybe.y: a whole number is expected, not []"),
        ({"older": 1.5}, "at $.older: a whole number or a string or null is expected, not 1.5"),
        ({"day": "2023-02-29"}, "at $.day: a date such as 2024-12-31 is expected"),
        ({"day": "20230201"}, "at $.day: a date such as"),
        ({"moment": "yesterday"}, "at $.moment: a date and time such as 2024-12-31T23:59:00Z is expected"),
        ({"moment": "2024-02-29T24:59:00Z"}, "at $.moment: a date and time"),
        ({"made": 1}, 'at $: the property "made" is not known'),
        ({"": 1}, 'at $: the property "" is not known'),
    ],
)
def test_a_mismatch_says_where_and_what_was_expected(change: dict[str, Any], words: str) -> None:
    assert f"the reply does not match the schema {words}" in complaint({**EVERYTHING, **change}, Everything)


def test_a_message_shows_little_of_a_long_reply() -> None:
    long = "secret " * 10_000
    for value in ({"x": long, "y": 1}, {"x": 1, "y": 1, long: 1}, [long], long, {"x": [1] * 10_000, "y": 2}):
        for thing in (Point, list[dict[str, int]], closed(x={"type": "integer"}, y={"type": "integer"})):
            assert len(complaint(value, thing)) < 400
    assert len(complaint({"n": long, "note": [long] * 50}, Model)) < 600


def test_a_message_can_be_printed_whatever_the_reply_holds() -> None:
    complaint({"x": "\ud800", "y": 1}, Point).encode()
    complaint({"n": 3, "s": ["\ud800"]}, SCHEMA).encode()


def test_fields_with_a_default_may_be_absent() -> None:
    assert read({"value": 1}, Node) == Node(1, [])
    assert read({"name": "a"}, Tag) == Tag("a", 1.0)
    assert read({"n": 1}, Model) == Model(n=1)


def test_a_union_prefers_the_option_that_needs_no_default() -> None:
    wide, narrow = make_dataclass("Wide", [("x", int), ("y", int, 0)]), make_dataclass("Narrow", [("x", int)])
    assert read({"x": 1}, Union[wide, narrow]) == narrow(1)  # noqa: UP007
    assert read({"x": 1, "y": 2}, Union[wide, narrow]) == wide(1, 2)  # noqa: UP007
    assert read([{"x": 1}], list[Union[wide, Point]]) == [wide(1)]  # noqa: UP007


def test_a_union_complains_about_the_option_that_came_furthest() -> None:
    shallow, deep = make_dataclass("Shallow", [("a", int)]), make_dataclass("Deep", [("a", list[Point])])
    value = {"a": [{"x": 1, "y": "z"}]}
    for kind in (Union[shallow, deep], Union[deep, shallow]):  # noqa: UP007
        assert "at $.a[0].y: a whole number is expected" in complaint(value, kind)


def test_a_union_is_read_in_the_order_in_which_it_is_written() -> None:
    day = datetime.date(2024, 1, 2)
    assert read(["2024-01-02"], list[datetime.date | str]) == [day]
    assert read(["2024-01-02"], list[str | datetime.date]) == ["2024-01-02"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-01-02T03:04:05", datetime.datetime(2024, 1, 2, 3, 4, 5)),
        ("2024-01-02 03:04", datetime.datetime(2024, 1, 2, 3, 4)),
        ("2024-01-02t03:04:05.1z", datetime.datetime(2024, 1, 2, 3, 4, 5, 100_000, tzinfo=datetime.timezone.utc)),
        (
            "2024-01-02T03:04:05.123456789+05:30",
            datetime.datetime(
                2024, 1, 2, 3, 4, 5, 123_456, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))
            ),
        ),
    ],
)
def test_moments_are_read_alike_on_every_python(text: str, meant: datetime.datetime) -> None:
    assert read([text], list[datetime.datetime]) == [meant]


def test_what_a_class_itself_refuses_is_a_mismatch() -> None:
    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError(f"{self.n} is odd")

    assert "the reply does not match the schema at $[1]: 3 is odd" in complaint([{"n": 2}, {"n": 3}], list[Even])
    with pytest.raises(SchemaMismatch) as caught:
        read({"n": 3}, Even)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_models_first_problems_are_told() -> None:
    assert complaint({"n": "x"}, Model).startswith(
        "the reply does not match the schema at $.n: Input should be a valid integer"
    )
    told = complaint({"n": "x", "note": 3, "tags": [{"name": 1}, {"weight": "y"}]}, Model)
    assert "at $.note: " in told
    assert "at $.tags[0].name: " in told
    assert told.endswith("; and 2 more")
    assert "Field required" in complaint({}, Model)


def test_a_model_that_is_strict_reads_dates_and_its_discriminator() -> None:
    value = {"kind": "branch", "parts": [{"kind": "leaf", "day": "2024-01-02"}, {"kind": "branch", "parts": []}]}
    branch = read(value, Branch)
    assert branch.parts[0] == Leaf(kind="leaf", day=datetime.date(2024, 1, 2))
    assert "$.parts[0]" in complaint({"kind": "branch", "parts": [{"kind": "twig"}]}, Branch)


def test_half_a_character_in_a_models_reply_is_a_mismatch() -> None:
    for text in ('{"n": 1, "note": "\\ud800"}', '{"n": 1, "note": "\ud800"}'):
        with pytest.raises(SchemaMismatch):
            parse_reply(text, as_response_format(Model))


def test_pydantic_reads_what_it_alone_knows() -> None:
    class Row(typing_extensions.TypedDict):
        n: int

    @pydantic.dataclasses.dataclass
    class Checked:
        n: Annotated[int, pydantic.Field(ge=1)]

    assert read({"n": 1}, Row) == {"n": 1}
    assert read([{"n": 1}], list[Model]) == [Model(n=1)]
    assert read({"n": 1}, Model | Branch) == Model(n=1)
    assert read({"n": 1}, Checked) == Checked(1)
    assert schema_of(Checked)["properties"]["n"]["minimum"] == 1
    assert "greater than or equal to 1" in complaint({"n": 0}, Checked)


def test_an_annotation_that_pydantic_cannot_read_either_is_refused() -> None:
    class Opaque:
        pass

    with pytest.raises(ConfigError, match="has no JSON schema"):
        as_response_format(list[Opaque])


# --- schemas given as dictionaries


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        (SCHEMA, {"n": "1", "s": None}, 'at $.n: a whole number is expected, not "1"'),
        (SCHEMA, {"n": 1}, 'at $: the property "s" is missing'),
        (SCHEMA, {"n": 1, "s": "", "t": 1, "u": 2}, 'at $: the properties "t", "u" are not known'),
        (SCHEMA, {"n": 1, "s": 2}, "at $.s: 2 does not fit any of the forms that the schema has"),
        (SCHEMA, [], "at $: an object is expected, not []"),
        ({"type": ["string", "null"]}, 3, "at $: a string or null is expected, not 3"),
        ({"enum": ["a", None]}, "b", 'at $: one of "a", null is expected, not "b"'),
        ({"properties": {"v": {"const": 2}}}, {"v": 1}, "at $.v: 2 is expected, not 1"),
        ({"type": "string", "pattern": "^a+$"}, "b", 'at $: "b" does not satisfy pattern: "^a+$"'),
        ({"type": "array", "items": {"minimum": 3}}, [4, 1], "at $[1]: 1 does not satisfy minimum: 3"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}], "type": "number"}, 3, "3 fits more than one"),
        ({"type": "object", "properties": {"a": False}}, {"a": 1}, "1 is not allowed"),
        ({"items": {"not": {"type": "null"}}}, [None], "at $[0]: null is not allowed"),
        (
            {"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": False},
            {"b": 1},
            'at $: {"b": 1} does not satisfy additionalProperties: false',
        ),
    ],
)
def test_a_dict_schema_is_enforced(schema: dict[str, Any], value: Any, words: str) -> None:
    assert words in complaint(value, schema)


def test_a_dict_schema_gives_the_decoded_json() -> None:
    assert read({"n": 1, "s": None}, SCHEMA) == {"n": 1, "s": None}
    assert parse_reply('{"n": 1, "s": ""}', dict(as_response_format(SCHEMA))) == {"n": 1, "s": ""}


def test_the_name_of_a_format_is_not_enforced() -> None:
    assert read("never", {"type": "string", "format": "date"}) == "never"


def test_a_schema_of_an_older_draft_is_read_as_such() -> None:
    pair = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "string"}]}
    assert read(["a", 1], pair) == ["a", 1]
    assert "at $[0]" in complaint([1], pair)


@pytest.mark.parametrize(
    "text",
    [
        '<think>Is it {"x": 0}?</think>{"x": 1, "y": 2}',
        '<think>\nHm.\n</think>\n\n```json\n{"x": 1, "y": 2}\n```',
        'Hm, the template began this.</think>{"x": 1, "y": 2}',
    ],
)
def test_thinking_in_front_of_the_json_is_not_part_of_it(text: str) -> None:
    assert parse_reply(text, as_response_format(Point)) == Point(1, 2)


def test_tags_inside_the_json_are_its_own() -> None:
    for text in ('{"a": "</think>"}', '"<think>Hm.</think>"'):
        assert parse_reply(text, {"type": "json_object"}) == json.loads(text)


def test_a_reply_that_only_thinks_is_said_to_be_empty() -> None:
    for text in ("<think>Hm.", "<think>Hm.</think>"):
        with pytest.raises(SchemaMismatch, match="is empty") as caught:
            parse_reply(text, as_response_format(Point))
        assert caught.value.content == text


def test_json_without_a_schema_is_only_decoded() -> None:
    for fields in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a"}}):
        assert parse_reply("[1, 2.5]", fields) == [1, 2.5]


def test_without_jsonschema_dict_schemas_are_decoded_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setattr(validation, "_warnings", itertools.count())
    made = as_response_format({**SCHEMA, "description": "without"})
    with caplog.at_level(logging.WARNING, "flexllm"):
        assert [parse_reply('{"n": "wrong"}', made) for _ in range(3)] == [{"n": "wrong"}] * 3
    assert [record.getMessage() for record in caplog.records] == [
        'replies are not checked against their JSON schema: that needs pip install "flexllm[schema]"'
    ]
    with pytest.raises(SchemaMismatch):
        parse_reply("{", made)
    with pytest.raises(ConfigError, match="which it does not hold"):
        as_response_format({"$ref": "#/$defs/Missing"})


def test_a_repair_that_cannot_know_what_to_mend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    for wanted in (SCHEMA, {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}):
        with pytest.raises(ConfigError, match=r'repair=True with a JSON schema.* pip install "flexllm\[schema\]"'):
            as_response_format(wanted, repair=True)
    assert as_response_format({"type": "json_object"}, repair=True).repair
    assert as_response_format(Point, repair=True).repair


def test_dataclasses_are_checked_without_anything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_all = [complaint(value, Everything) for value in ({}, {**EVERYTHING, "whole": "x"})]
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert [complaint(value, Everything) for value in ({}, {**EVERYTHING, "whole": "x"})] == with_all
    assert read({"x": 1, "y": 2}, Point) == Point(1, 2)
    assert read([{"x": 1, "y": 2}], list[Point]) == [Point(1, 2)]
    with pytest.raises(ConfigError, match="set"):
        as_response_format(list[set[int]])
    with pytest.raises(ConfigError, match="pydantic installed"):
        as_response_format(Model)


def test_check_format_refuses_what_a_file_may_hold() -> None:
    check_format({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}})
    check_format({"type": "text"})
    with pytest.raises(ConfigError):
        check_format({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}})


def test_the_standard_library_alone_is_enough() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(flexllm.__file__).parent.parent)!r})\n"
        "from dataclasses import dataclass\n"
        "from flexllm.schema import as_response_format, parse_reply\n"
        "@dataclass\nclass A:\n    n: int\n"
        "assert parse_reply('{\"n\": 1}', as_response_format(A)) == A(1)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- generated


SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (None, st.none()),
    (datetime.date, st.dates()),
    (datetime.datetime, st.datetimes(timezones=st.sampled_from([None, datetime.timezone.utc]))),
    (Literal["a", "", 3, None], st.sampled_from(["a", "", 3, None])),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Point, st.builds(Point, st.integers(), st.integers())),
    (Node, st.recursive(st.builds(Node, st.integers()), lambda node: st.builds(Node, st.integers(), st.lists(node)))),
    (Annotated[Tag, "words"], st.builds(Tag, st.text(), st.floats(-10, 10))),
]


def _larger(pairs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def record(named: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        kind = make_dataclass("Made", [(f"f{number}", one[0]) for number, one in enumerate(named)])
        return kind, st.builds(kind, *(one[1] for one in named))

    return st.one_of(
        pairs.map(lambda pair: (list[pair[0]], st.lists(pair[1], max_size=3))),
        pairs.map(lambda pair: (tuple[pair[0], ...], st.lists(pair[1], max_size=3).map(tuple))),
        pairs.map(lambda pair: (dict[str, pair[0]], st.dictionaries(st.text(), pair[1], max_size=3))),
        pairs.map(lambda pair: (Optional[pair[0]], st.none() | pair[1])),  # noqa: UP045
        st.lists(pairs, max_size=3).map(record),
    )


ANNOTATED = st.recursive(st.sampled_from(SIMPLE), _larger, max_leaves=6)


def written(value: Any) -> str:
    def odd(one: Any) -> Any:
        return one.value if isinstance(one, enum.Enum) else one.isoformat()

    return json.dumps(asdict(value), default=odd)


@pytest.mark.slow
@given(st.data())
def test_any_value_of_any_dataclass_comes_back_from_its_json(data: st.DataObject) -> None:
    annotation, values = data.draw(ANNOTATED)
    made = make_dataclass("Answer", [("value", annotation), ("after", list[annotation])])
    value = made(data.draw(values), data.draw(st.lists(values, max_size=2)))
    assert parse_reply(written(value), as_response_format(made)) == value


@pytest.mark.slow
@given(st.data())
def test_the_schema_of_any_dataclass_admits_its_values_and_is_strict_if_it_says_so(data: st.DataObject) -> None:
    annotation, values = data.draw(ANNOTATED)
    made = make_dataclass("Answer", [("value", annotation)])
    inner = as_response_format(made)["json_schema"]
    jsonschema.Draft202012Validator.check_schema(inner["schema"])
    jsonschema.validate(json.loads(written(made(data.draw(values)))), inner["schema"], jsonschema.Draft202012Validator)
    assert inner["strict"] is (strict_faults(inner["schema"]) == [])


@dataclass
class Inner:
    a: int | None
    b: Literal["x", 1]


@dataclass
class Outer:
    a: list[Inner]
    b: Inner | bool
    x: float


_keys = st.sampled_from(["a", "b", "x"])
_some_json = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, "x", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)
_inner_json = st.fixed_dictionaries(
    {"a": st.sampled_from([None, 1, 2.0]) | _some_json, "b": st.sampled_from(["x", 1, 1.0, True]) | _some_json}
)
_outer_json = st.fixed_dictionaries(
    {"a": st.lists(_inner_json, max_size=2), "b": _inner_json | st.booleans(), "x": st.sampled_from([1, 1.5, False])}
)


@given(_outer_json | _some_json)
def test_a_dataclass_accepts_what_jsonschema_accepts(value: Any) -> None:
    made = as_response_format(Outer)
    accepted = jsonschema.Draft202012Validator(made["json_schema"]["schema"]).is_valid(value)
    try:
        parse_reply(json.dumps(value), made)
    except SchemaMismatch:
        assert not accepted
    else:
        assert accepted


@given(st.text() | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u`json \n'))
def test_any_text_gives_a_value_or_a_mismatch(text: str) -> None:
    for thing in (Outer, Model, SCHEMA, {"type": "json_object"}):
        with contextlib.suppress(SchemaMismatch):
            parse_reply(text, as_response_format(thing))
