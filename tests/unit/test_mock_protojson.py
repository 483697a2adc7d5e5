"""JSON as Google's servers read it: both spellings, lenient values, and faults that name the field."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock.gemini.protojson import (
    BOOL,
    BYTES,
    FLOAT,
    INT32,
    INT64,
    STRING,
    STRUCT,
    VALUE,
    Enum,
    Map,
    Message,
    Reader,
    Repeated,
    base64_bytes,
    shown,
)

TREE = Message("test.Tree", oneof=("leafText", "leafNumber"))
TREE.define(
    {
        "leafText": STRING,
        "leafNumber": FLOAT,
        "isRed": BOOL,
        "smallCount": INT32,
        "largeCount": INT64,
        "rawData": BYTES,
        "treeKind": Enum("test.Kind", ("OAK", "ash")),
        "branches": Repeated(TREE),
        "namedTrees": Map(TREE),
        "anyObject": STRUCT,
        "anyThing": VALUE,
    },
    garden={"ownerName": STRING},
)


def read(value: Any, surface: str = "wood") -> tuple[Any, list[str]]:
    reader = Reader(surface)
    return TREE.read(value, "", reader), [fault.description for fault in reader.faults]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"leaf_text": "a", "is_red": True}, {"leafText": "a", "isRed": True}),
        ({"leafText": None, "branches": None}, {}),
        ({"smallCount": 3.0, "largeCount": "9007199254740993"}, {"smallCount": 3, "largeCount": 9007199254740993}),
        ({"smallCount": "-5", "leafNumber": "1.5e3"}, {"smallCount": -5, "leafNumber": 1500.0}),
        ({"treeKind": "oak"}, {"treeKind": "OAK"}),
        ({"treeKind": "ASH"}, {"treeKind": "ash"}),
        ({"branches": {"is_red": False}}, {"branches": [{"isRed": False}]}),
        ({"branches": [{}, {"leaf_text": ""}]}, {"branches": [{}, {"leafText": ""}]}),
        ({"named_trees": {"some_name": {"is_red": True}}}, {"namedTrees": {"some_name": {"isRed": True}}}),
        ({"any_object": {"snake_case": [None]}}, {"anyObject": {"snake_case": [None]}}),
        ({"any_thing": [1, None]}, {"anyThing": [1, None]}),
    ],
)
def test_a_message_is_read_with_camel_case_names(given: Any, expected: Any) -> None:
    assert read(given) == (expected, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "cannot start list"),
        ("tree", "Invalid value at '' (type.googleapis.com/test.Tree), \"tree\""),
        ({"leaftext": "a"}, 'Invalid JSON payload received. Unknown name "leaftext": Cannot find field.'),
        ({"branches": [{"x": 1}]}, "Unknown name \"x\" at 'branches[0]': Cannot find field."),
        ({"namedTrees": {"a": {"x": 1}}}, "Unknown name \"x\" at 'named_trees[a]': Cannot find field."),
        ({"leafText": 1}, "Invalid value at 'leaf_text' (TYPE_STRING), 1"),
        ({"branches": [{"leafText": {}}]}, "'branches[0].leaf_text' (TYPE_STRING), Starting an object on a scalar"),
        ({"isRed": "true"}, "Invalid value at 'is_red' (TYPE_BOOL), \"true\""),
        ({"isRed": 1}, "'is_red' (TYPE_BOOL)"),
        ({"smallCount": True}, "'small_count' (TYPE_INT32)"),
        ({"smallCount": 2**31}, "'small_count' (TYPE_INT32)"),
        ({"smallCount": "1.0.0"}, "'small_count' (TYPE_INT32)"),
        ({"smallCount": float("inf")}, "'small_count' (TYPE_INT32)"),
        ({"smallCount": "-"}, "'small_count' (TYPE_INT32)"),
        ({"largeCount": 2**63}, "'large_count' (TYPE_INT64)"),
        ({"largeCount": "9" * 6000}, "'large_count' (TYPE_INT64)"),
        ({"leafNumber": "NaN"}, "'leaf_number' (TYPE_FLOAT)"),
        ({"leafNumber": ""}, "'leaf_number' (TYPE_FLOAT)"),
        ({"leafNumber": 10**400}, "'leaf_number' (TYPE_FLOAT)"),
        ({"rawData": "a"}, "'raw_data' (TYPE_BYTES), Base64 decoding failed for \"a\""),
        ({"rawData": "a=b="}, "'raw_data' (TYPE_BYTES)"),
        ({"treeKind": "ELM"}, "Invalid value at 'tree_kind' (type.googleapis.com/test.Kind), \"ELM\""),
        ({"treeKind": 1}, "'tree_kind'"),
        ({"treeKind": ["OAK"]}, 'Unknown name "treeKind": Proto field is not repeating, cannot start list.'),
        ({"leafText": "a", "leafNumber": 1}, "(oneof), oneof field 'data' is already set. Cannot set 'leafNumber'"),
        ({"isRed": True, "is_red": True}, "'isRed' is already set. Cannot set 'is_red'"),
        ({"branches": [None]}, "Invalid value at 'branches[0]'"),
        ({"anyObject": []}, "'any_object' (type.googleapis.com/google.protobuf.Struct)"),
        ({"namedTrees": []}, "Invalid value at 'named_trees' (a map)"),
        ({"ownerName": "a"}, 'Unknown name "ownerName"'),
    ],
)
def test_what_does_not_fit_is_a_fault_with_its_place(given: Any, said: str) -> None:
    _, (fault,) = read(given)
    assert said in fault


def test_some_fields_exist_on_one_surface_alone() -> None:
    assert read({"owner_name": "a", "is_red": True}, "garden") == ({"ownerName": "a", "isRed": True}, [])


def test_every_fault_is_kept() -> None:
    assert len(read({"a": 1, "b": 2, "branches": [{"c": 3}, {"d": 4}]})[1]) == 4


@pytest.mark.parametrize("name", ["branches", "any_thing", "named_trees"])
def test_depth_has_a_limit(name: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = {}
        for _ in range(levels):
            value = {name: value}
        return value

    assert read(nested(50))[1] == []
    _, (fault,) = read(nested(250))
    assert fault.startswith("Message too deep.")


@given(st.binary(max_size=40))
def test_base64_comes_in_both_alphabets_padded_or_not(data: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(data).decode()
        assert base64_bytes(text) == base64_bytes(text.rstrip("=")) == data


@given(st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text()), st.dictionaries(st.text(), st.none())))
def test_what_is_shown_is_short(value: Any) -> None:
    assert len(shown(value)) < 70
