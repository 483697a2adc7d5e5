"""Counts, amounts, prices, durations and sizes on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from flexllm.cli.units import (
    amount,
    count,
    duration,
    nearest_are,
    number,
    positive,
    price,
    quantile,
    share,
    shown_size,
    size,
    whole,
)
from flexllm.prices import Price


def test_counts() -> None:
    assert [count(text) for text in ("1", "007", "1000000")] == [1, 7, 1_000_000]


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1.0", "1e3", "1_000", "1k", "１", " 1"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no whole number of at least 1"):
        count(text)


def test_numbers() -> None:
    assert [whole(text) for text in ("0", "7")] == [0, 7]
    assert [number(text) for text in ("0", "0.5", "1e3")] == [0.0, 0.5, 1000.0]
    assert [positive(text) for text in ("1", ".5")] == [1.0, 0.5]
    assert [share(text) for text in ("0.1", "1")] == [0.1, 1.0]
    assert quantile("0.95") == 0.95


@pytest.mark.parametrize(
    ("kind", "texts", "said"),
    [
        (whole, ["", "-1", "1.0", "many"], "is no whole number of at least 0"),
        (number, ["", "-0.1", "nan", "inf", "many"], "is no number of at least 0"),
        (positive, ["", "0", "-1", "nan", "inf"], "is no number above 0"),
        (share, ["", "0", "1.1", "-1", "nan"], "is no share: give a number above 0 and up to 1"),
        (quantile, ["", "0", "1", "nan"], "is no quantile: give a number between 0 and 1"),
    ],
)
def test_what_is_out_of_range_is_refused(kind: Callable[[str], float], texts: list[str], said: str) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            kind(text)


def test_amounts() -> None:
    assert [amount(text) for text in ("0", "5", "0.5", ".5", "$5", "1e-3")] == [0.0, 5.0, 0.5, 0.5, 5.0, 0.001]


@pytest.mark.parametrize("text", ["", "$", "-1", "five", "1,5", "nan", "inf", "1e999", "5 EUR"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no amount of US dollars; give a number"):
        amount(text)


def test_prices() -> None:
    assert price("0.5,1.5") == Price(input=0.5, output=1.5)
    assert price(" 0.5, 1.5, 0 ") == Price(input=0.5, output=1.5, cached_input=0.0)


@pytest.mark.parametrize("text", ["", "1", "1,2,3,4", "1,", ",", "a,b", "-1,2", "1,-2", "nan,1", "1,inf", "$1,$2"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no price; give US dollars per million tokens as IN,OUT"):
        price(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1y", "1e3", "nan", "inf", "1.", ".5h", "1 2", "7D", "１"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("1000", 1_000), ("64K", 65_536), ("64kb", 65_536), ("1.5M", 1_572_864), ("2G", 2 << 30), ("1t", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1", "5X", "1e3", "nan", "1,5M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        size(text)


@pytest.mark.parametrize(("names", "text"), [(["a"], "the nearest is a"), (["a", "b"], "the nearest are a, b")])
def test_of_one_name_there_are_not_several(names: list[str], text: str) -> None:
    assert nearest_are(names) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1_023, "1023 bytes"),
        (1_024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_sizes_are_told_as_people_read_them(count: int, text: str) -> None:
    assert shown_size(count) == text
