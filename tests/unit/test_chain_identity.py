"""Which chain is which: by what its caller gave."""

from __future__ import annotations

from typing import Any

import pytest

from flexllm.chain.context import Context
from flexllm.chain.identity import Identities, numbers_of


def number(context: Context) -> int:
    return Identities().number(context)


def test_the_same_chain_has_the_same_number_on_every_machine() -> None:
    assert number(Context("A", custom_data={"b": 1, "a": [2]})) == number(Context("A", custom_data={"a": [2], "b": 1}))
    assert number(Context("A", custom_data={"a": [2]})) == 0x34E148ED26AB8844
    assert 0 <= number(Context("A")) < 2**64


@pytest.mark.parametrize(
    "other", [Context("B"), Context("A", custom_data={"x": 1}), Context("A", custom_data={"x": None})]
)
def test_another_chain_has_another_number(other: Context) -> None:
    assert number(other) != number(Context("A"))


def test_what_belongs_to_one_run_alone_does_not_count() -> None:
    assert number(Context("A", index=3, metadata={"id": 1})) == number(Context("A"))
    assert number(Context("A", custom_data={"f": object()})) == number(Context("A", custom_data={"f": object()}))


def test_equal_chains_are_told_apart_by_their_number_among_each_other() -> None:
    identities = Identities()
    equal = [identities.number(Context("A")) for _time in range(3)]
    other = identities.number(Context("B"))

    assert len({*equal, other}) == 4
    assert equal[0] == number(Context("A"))
    assert numbers_of([Context("B"), Context("A"), Context("A"), Context("A")]) == {*equal, other}


@pytest.mark.parametrize("data", [{1: "a", "b": 2}, {"half": "\ud800"}])
def test_odd_data_have_a_number_too(data: dict[Any, Any]) -> None:
    assert number(Context("A", custom_data=data)) == number(Context("A", custom_data=data))
