"""How much room a text takes in a terminal."""

from __future__ import annotations

import pytest

from flexllm.terminal import padded, width


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("cost", 4), ("é", 1), ("e\u0301", 1), ("费用", 4), ("回答的 token", 12), ("：", 2), ("ｱ", 1), ("💰", 2)],
)
def test_a_letter_takes_the_columns_that_it_has(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(("text", "shown"), [("ab", "ab  "), ("费", "费  "), ("费用", "费用"), ("费用了", "费用了")])
def test_blanks_fill_what_is_left_of_the_columns(text: str, shown: str) -> None:
    assert padded(text, 4) == shown
