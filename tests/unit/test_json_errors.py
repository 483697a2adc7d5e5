"""What is said of a text that is no JSON."""

from __future__ import annotations

import json

import pytest
from foreign import LETTER, speak_chinese

from flexllm.json_errors import why_no_json

BROKEN = [
    "", "{", "[1 2]", '{"a" 1}', "{a: 1}", "1 2", "[1,]", '{"a": 1,}', '"\\x"', '"\\u12"', '"a\nb"', '"a',
]  # fmt: skip


def broken(text: str) -> json.JSONDecodeError:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    return caught.value


@pytest.mark.parametrize("text", BROKEN)
def test_each_reason_is_known_and_stays_as_it_is_in_english(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = broken(text)
    assert why_no_json(error) in error.msg

    speak_chinese(monkeypatch)
    assert LETTER in why_no_json(error)


def test_a_reason_that_nobody_knows_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_chinese(monkeypatch)

    assert why_no_json(json.JSONDecodeError("Another: one", "", 0)) == "Another: one"
