"""Shapes of requests as tables: what they let through, and the first fault that they name."""

from __future__ import annotations

from typing import Any

import pytest

from flexllm.mock.checks import (
    Fault,
    anything,
    array,
    boolean,
    either,
    integer,
    mapping,
    number,
    rule,
    ruled,
    table,
    tagged,
    text,
)

ROW = table(
    {"a": integer(1, 5), "b": text(allowed=("x", "y")), "c": array(text(least=1), least=1, most=2)}, required=("a",)
)
SHAPES = {"circle": table({"type": text(), "r": number(0)}, required=("r",)), "dot": anything}


@pytest.mark.parametrize(
    ("value", "kind", "place"),
    [
        ({"a": 1}, None, None),
        ({"a": 5, "b": "x", "c": ["k"]}, None, None),
        ({"a": 1, "b": None, "c": None}, None, None),
        ([], "type", ()),
        (None, "type", ()),
        ({}, "missing", ("a",)),
        ({"a": None}, "missing", ("a",)),
        ({"a": 1, "z": 1}, "unknown", ("z",)),
        ({"a": 1, "z": None}, "unknown", ("z",)),
        ({"a": 0}, "range", ("a",)),
        ({"a": 6}, "range", ("a",)),
        ({"a": 1.0}, "type", ("a",)),
        ({"a": True}, "type", ("a",)),
        ({"a": 1, "b": "z"}, "value", ("b",)),
        ({"a": 1, "b": 1}, "type", ("b",)),
        ({"a": 1, "c": []}, "length", ("c",)),
        ({"a": 1, "c": ["k", "k", "k"]}, "length", ("c",)),
        ({"a": 1, "c": ["k", ""]}, "length", ("c", 1)),
        ({"a": 1, "c": ["k", None]}, "type", ("c", 1)),
    ],
)  # fmt: skip
def test_a_table_names_its_first_fault(value: Any, kind: str | None, place: tuple[str | int, ...] | None) -> None:
    fault = ROW(value)
    assert (fault and fault.kind, fault and fault.place) == (kind, place)


@pytest.mark.parametrize(
    ("value", "kind", "place"),
    [
        ({"type": "circle", "r": 0}, None, None),
        ({"type": "dot", "any": "thing"}, None, None),
        ({}, "missing", ("type",)),
        ({"type": "line"}, "value", ("type",)),
        ({"type": ["dot"]}, "type", ("type",)),
        ({"type": "circle"}, "missing", ("r",)),
        ({"type": "circle", "r": -1}, "range", ("r",)),
        ("dot", "type", ()),
    ],
)
def test_a_tag_chooses_the_shape(value: Any, kind: str | None, place: tuple[str | int, ...] | None) -> None:
    fault = tagged("type", SHAPES)(value)
    assert (fault and fault.kind, fault and fault.place) == (kind, place)


def test_a_tag_can_be_a_step_of_the_way() -> None:
    fault = tagged("type", SHAPES, is_in_place=True)({"type": "circle"})
    assert fault is not None
    assert fault.place == ("circle", "r")


def test_a_value_of_several_types_has_a_shape_for_each() -> None:
    shape = either(string=text(least=1), array=array(boolean), number=number(0))
    assert [shape(value) for value in ("a", [True], 1, 0.5)] == [None] * 4
    assert [fault and fault.kind for fault in map(shape, ("", [1], -1))] == ["length", "type", "range"]
    wrong = shape({})
    assert wrong is not None
    assert wrong.expected == "string or array or number"
    assert shape(True) is not None  # no number, whatever Python says


def test_free_names_and_open_tables_take_further_fields() -> None:
    free = mapping(integer(), most=2, key=text(most=3))
    assert free({"a": 1}) is None
    assert [fault and fault.kind for fault in map(free, ({"a": 1, "b": 1, "c": 1}, {"long": 1}, {"a": ""}, []))] == [
        "length", "length", "type", "type"
    ]  # fmt: skip
    assert table({"a": integer()}, is_open=True)({"a": 1, "b": 2}) is None


def test_a_pattern_must_match_all_of_the_text() -> None:
    shape = text(pattern="[a-z]+")
    assert shape("abc") is None
    assert [fault and fault.kind for fault in map(shape, ("abc\n", "a b", ""))] == ["pattern"] * 3


def test_rules_are_asked_of_values_that_have_the_shape() -> None:
    asked = []

    def even(value: Any) -> Fault | None:
        asked.append(value)
        return rule("must be even", code="odd") if value % 2 else None

    shape = table({"n": ruled(integer(), even)})
    assert shape({"n": "x"}) == Fault("type", "integer", "x", ("n",))
    assert shape({"n": 2}) is None
    assert shape({"n": 3}) == Fault("rule", "must be even", None, ("n",), code="odd")
    assert asked == [2, 3]
