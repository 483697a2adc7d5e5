"""Words that are put into a language late: when they are said, and in English for a model."""

from __future__ import annotations

import pickle

import pytest
from foreign import speak_chinese, speak_english

from flexllm.language import mark
from flexllm.words import Words, cut, english

FRUIT = mark("an apple")


def test_words_are_said_in_the_language_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(FRUIT)
    assert str(words) == "an apple"
    speak_chinese(monkeypatch)
    assert str(words) == "字 字"
    assert words.in_english() == english(words) == "an apple"
    speak_english()
    assert str(words) == "an apple"


def test_words_among_the_values_of_others_are_said_in_the_same_language(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(mark("{what} or {count:,} pears, not {name}"), what=Words(FRUIT), count=1_000, name='"x"')
    speak_chinese(monkeypatch)
    assert str(words) == '字 字 字 1,000 字, 字 "x"'
    assert words.in_english() == 'an apple or 1,000 pears, not "x"'


def test_a_text_without_values_keeps_its_braces() -> None:
    assert str(Words("{a} of {}")) == Words("{a} of {}").in_english() == "{a} of {}"


def test_plain_text_is_the_same_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_chinese(monkeypatch)
    assert english("as a class says it") == "as a class says it"


def test_words_are_cut_after_they_are_put_into_a_language(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(mark("one of {values}"), values="1, 2, 3", most=8)
    assert str(words) == "one of …"
    speak_chinese(monkeypatch)
    assert str(words) == "字 字 1, …"
    assert words.in_english() == "one of …"
    assert [cut("abc", limit) for limit in (2, 3)] == ["a…", "abc"]


def test_words_stand_in_an_f_string_and_pickle() -> None:
    words = Words(mark("{one}: {two}"), one=1, two=Words(FRUIT), most=20)
    assert f"{pickle.loads(pickle.dumps(words))}" == "1: an apple"
