"""Inline thinking: which text is thought and which is answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.thoughts import split_thoughts

CASES = {
    "no tags": ("Just an answer.", "", "Just an answer."),
    "blanks of an answer without thinking stay": ("  a\n", "", "  a\n"),
    "empty": ("", "", ""),
    "one block": ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
    "blank before the block": ("\n <think>Hm.</think>Yes.", "Hm.", "Yes."),
    "empty block": ("<think>\n\n</think>\n\nYes.", "", "Yes."),
    "two blocks": ("<think>One.</think>\n<think>Two.</think>Yes.", "One.\n\nTwo.", "Yes."),
    "not closed": ("<think>Hm, and then", "Hm, and then", ""),
    "opening tag missing": ("Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
    "thinking": ("<thinking>Hm.</thinking>Yes.", "Hm.", "Yes."),
    "thought": ("<thought>Hm.</thought>Yes.", "Hm.", "Yes."),
    "reasoning": ("<reasoning>Hm.</reasoning>Yes.", "Hm.", "Yes."),
    "capitals": ("<THINK>Hm.</Think>Yes.", "Hm.", "Yes."),
    "Kimi": ("◁think▷Hm.◁/think▷Yes.", "Hm.", "Yes."),
    "Kimi, opening tag missing": ("Hm.◁/think▷Yes.", "Hm.", "Yes."),
    "a block further on is the answer's": ("See: <think>x</think>", "", "See: <think>x</think>"),
    "tags in code": ("Write `<think>` and `</think>`.", "", "Write `<think>` and `</think>`."),
    "tags in a code block": ("```\n</think>\n```", "", "```\n</think>\n```"),
    "another tag within": ("<think>a </thinking> b</think>c", "a </thinking> b", "c"),
    "a tag in the answer behind the block": ("<think>a</think>Say <think>b</think>", "a", "Say <think>b</think>"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_text_is_split(name: str) -> None:
    text, thought, answer = CASES[name]
    assert split_thoughts(text) == (thought, answer)


@given(st.text(), st.text())
def test_what_was_put_together_comes_apart_again(thought: str, answer: str) -> None:
    thought, answer = thought.replace("<", "").strip(), answer.replace("<", "").strip()
    answer = answer.replace("◁", "")
    assert split_thoughts(f"<think>{thought}</think>{answer}") == (thought, answer)


@given(st.text(alphabet="<>/think `\n◁▷a"))
def test_nothing_makes_it_stumble_and_no_letter_is_invented(text: str) -> None:
    thought, answer = split_thoughts(text)
    assert set(thought + answer) <= set(text) | {"\n"}
