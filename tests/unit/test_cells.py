"""Cells with types, as JSON and as words."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.cells import is_nothing, plain
from flexllm.batch.shapes import Cells, Prompt, field_shape, named_shape, template_shape
from flexllm.errors import InputError
from flexllm.templates import UserTemplate


class Word(str):
    __slots__ = ()


class Nothing:
    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        (None, None),
        ("", ""),
        (Word("a"), "a"),
        (True, True),
        (2**70, 2**70),
        (0.1, 0.1),
        (math.nan, None),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (Nothing(), None),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.datetime(2026, 3, 1), "2026-03-01T00:00:00"),
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(hours=1), "1:00:00"),
        (b"\xff\x00", "/wA="),
        ([1, (math.nan,), b""], [1, [None], ""]),
        ({1: {"a": decimal.Decimal(2)}}, {"1": {"a": "2"}}),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_a_cell_is_what_json_can_hold(cell: Any, written: Any) -> None:
    made = plain(cell)
    assert made == written
    assert type(made) is type(written)
    json.dumps(made, allow_nan=False)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_what_json_holds_stays_what_it_is(cell: Any) -> None:
    assert plain(cell) == cell


def test_numbers_of_numpy_and_what_pandas_calls_missing() -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    cells = [numpy.int64(2**62), numpy.float64("nan"), numpy.bool_(True), numpy.array([1, 2]), numpy.float32(0.5)]
    assert [plain(cell) for cell in cells] == [2**62, None, True, [1, 2], 0.5]
    assert [plain(cell) for cell in (pandas.NA, pandas.NaT, pandas.Timestamp("2026-03-01 12:00"))] == [
        None, None, "2026-03-01T12:00:00",
    ]  # fmt: skip
    assert [is_nothing(cell) for cell in (pandas.NA, pandas.NaT, numpy.nan, numpy.array([1, 2]), "")] == [
        True, True, True, False, False,
    ]  # fmt: skip


# --- what is asked


def test_a_number_is_asked_as_it_reads() -> None:
    row = Cells(q=42, x=1.5, yes=True, tags=["é"], none=None, text="t")
    assert [field_shape(name)(row)[0] for name in row if name != "none"] == ["42", "1.5", "true", '["é"]', "t"]
    asked, used = template_shape(UserTemplate("{q}/{x}/{none}/{text}"))(row)
    assert (asked, used) == ("42/1.5//t", ("q", "x", "none", "text"))


def test_an_empty_cell_is_no_question() -> None:
    with pytest.raises(InputError, match="'q' is empty in this row"):
        field_shape("q")(Cells(q=None))


def test_a_number_that_is_no_cell_of_a_table_is_no_question_either() -> None:
    with pytest.raises(InputError, match="'q' must be a text, not int"):
        field_shape("q")({"q": 42})


def test_the_input_of_an_instruction_may_be_a_number_or_missing() -> None:
    shape = named_shape("alpaca")
    assert shape(Cells(instruction="double", input=2))[0] == "double\n\n2"
    assert shape(Cells(instruction="double", input=None))[0] == "double"


def test_a_prompt_is_asked_word_for_word() -> None:
    assert template_shape(Prompt("a {q} {{q}} {content}"))({}) == ("a {q} {{q}} {content}", ())
