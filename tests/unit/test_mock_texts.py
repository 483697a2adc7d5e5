"""The words of invented answers: cut into pieces, counted, and looked for in questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock.texts import cut_at, digest, json_pieces, named_in, pieces, reply_text, thought_text, token_estimate


@given(st.text())
def test_joined_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == "".join(json_pieces(text)) == text
    assert all(pieces(text))
    assert all(json_pieces(text))


def test_a_text_comes_three_words_at_a_time() -> None:
    assert pieces("one two  three\nfour five") == ["one two  three\n", "four five"]
    assert pieces("   ") == ["   "]
    assert pieces("") == []


def test_tokens_are_quarters_of_the_text_rounded_up() -> None:
    assert [token_estimate("x" * length) for length in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_what_is_left_out_does_not_change_the_digest() -> None:
    assert digest({"a": 1, "stream": True}, ("stream",)) == digest({"a": 1}, ())
    assert digest({"a": 1, "b": 2}, ()) == digest({"b": 2, "a": 1}, ())
    assert digest({"a": 1}, ()) != digest({"a": 2}, ())
    assert len(digest({"a": "\ud800"}, ())) == 32  # half a character is a question too


def test_answer_and_thought_repeat_the_first_words_alone() -> None:
    long = "word " * 1000 + "x" * 1000
    assert max(len(reply_text("d", long)), len(thought_text("d", long))) < 400
    assert reply_text("d", "a") != reply_text("e", "a")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Use clock.", ["clock"]),
        ("first get_weather, then clock", ["get_weather", "clock"]),
        ("clock clock get_weather", ["clock", "get_weather"]),
        ("clockwork, o'clock-ish, get_weather_now", []),
        ("(clock)", ["clock"]),
        ("a+b", ["a+b"]),
        ("", []),
    ],
)
def test_a_name_is_found_as_a_word(asked: str, found: list[str]) -> None:
    assert named_in(asked, ["get_weather", "clock", "a+b"]) == found


def test_a_text_ends_before_the_first_stop_that_occurs() -> None:
    assert cut_at("one two three", ["three", "two"]) == ("one ", "two")
    assert cut_at("one two", ["", "four"]) == ("one two", None)
    assert cut_at("one", []) == ("one", None)
