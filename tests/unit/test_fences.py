"""The first code block of an answer, as models write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cli.fences import first_code_block


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)"),
        ("```\na\n```\n```\nb\n```", "a"),
        ("~~~sh\nls\n~~~", "ls"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```"),  # a longer fence holds shorter ones
        ("~~~\n```\n~~~", "```"),
        ("```\ncut off\nhere\n", "cut off\nhere"),  # not closed: it ends with the answer
        ("```\n\n```\n```\nsecond\n```", "second"),  # an empty one is none
        ("1. Do:\n\n   ```sh\n   ls\n     -l\n   ```", "ls\n  -l"),  # as far in as its fence
        ("- a\n      ```\n      deep\n      ```", "deep"),
        ("```\n  kept\n\n  blanks\n```   ", "  kept\n\n  blanks"),
        ("``` with `ticks` ```\n```\nreal\n```", "real"),  # code in a line is no fence
        ("```js\r\nlet a\r\n```", "let a"),
        ("<think>```\nno\n```</think>Yes:\n```\nyes\n```", "yes"),
        ("```````\nseven\n```````", "seven"),
        ("```python title=\"a.py\"\nx\n```", "x"),
    ],
)  # fmt: skip
def test_the_first_block_that_holds_code_counts(answer: str, code: str) -> None:
    assert first_code_block(answer) == code


@pytest.mark.parametrize(
    "answer", ["", "no code", "`inline` only", "```", "```\n```", "``\nnot\n``", "<think>```\na\n```"]
)
def test_an_answer_without_code_has_none(answer: str) -> None:
    assert first_code_block(answer) is None


@given(st.text(alphabet="ab \t`~\n\x0c\u2028", max_size=60), st.sampled_from("`~"))
def test_a_fence_longer_than_all_within_keeps_any_code_as_it_is(code: str, mark: str) -> None:
    fence = mark * 61
    found = first_code_block(f"Before.\n{fence}\n{code}\n{fence}\nAfter.")

    assert (found or "") == (code if code.strip() else "")
