"""How answers are written down for the response cache, and which are worth it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cache.codec import decode, encode, is_storable
from flexllm.chat import ChatCompletionResult, ToolCall, Usage
from flexllm.errors import CacheError

AT = 1_795_000_000.25

texts = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["", "\ud800", "\ud83d\ude00", "😀", "a\0b", '","content":"', "\u2028"]
)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(ToolCall, texts, st.sampled_from(["function", "custom"]), st.dictionaries(texts, values, max_size=2))
results = st.builds(
    ChatCompletionResult,
    content=texts,
    usage=st.none() | st.builds(Usage, st.dictionaries(texts, values, max_size=4)),
    reasoning_content=st.none() | texts,
    tool_calls=st.none() | st.lists(calls, max_size=2),
    finish_reason=st.none() | texts,
    model=st.none() | texts,
    request_id=st.none() | texts,
    latency=st.none() | st.floats(0, 1e6),
    body=st.none() | st.binary(max_size=20) | texts.map(lambda text: text.encode("utf-8", "replace")),
    attempts=st.integers(0, 5),
    native_finish_reason=st.none() | texts,
    native=st.none() | st.dictionaries(texts, values, max_size=2),
    hedged=st.integers(0, 2),
    endpoint=st.none() | texts,
    cost=st.none() | st.floats(0, 10),
    cost_estimated=st.floats(0, 10),
)


def kept(result: ChatCompletionResult) -> ChatCompletionResult:
    """The same answer, as it comes from the cache."""
    return replace(result, cached=True, cost=0.0, cost_estimated=0.0, attempts=0, hedged=0, parsed=None)


@pytest.mark.slow
@given(results)
def test_an_answer_comes_back_equal(result: ChatCompletionResult) -> None:
    text = encode(result, AT, with_body=True)
    text.encode()  # SQLite keeps UTF-8
    entry = json.loads(text)
    assert entry["at"] == AT
    back = decode(entry)
    assert back == kept(result)
    assert type(back.usage) is (Usage if result.usage is not None else type(None))


@given(st.builds(ChatCompletionResult, content=texts, model=st.none() | st.text(max_size=9) | st.just(',"content":')))
def test_time_model_and_content_stand_first_in_that_order(result: ChatCompletionResult) -> None:
    text = encode(result, AT, with_body=False)
    model = text[text.index(',"model":') + 9 : text.index(',"content":')]
    assert text.startswith(f'{{"at":{AT},"model":')
    assert json.loads(model) == result.model


def test_every_field_of_an_answer_is_either_kept_or_that_of_an_answer_from_the_cache() -> None:
    full = ChatCompletionResult(
        "c", Usage(prompt_tokens=1), "r", [ToolCall("i", "function", {"name": "n"})], "stop", "m", "q", 1.5, False,
        b"{}", 3, "end_turn", {"claude": [1]}, {"x": 1}, 1, "http://e", 0.5, 0.25,
    )  # fmt: skip
    assert [f.name for f in fields(full) if not getattr(full, f.name)] == ["cached"]
    assert decode(json.loads(encode(full, AT, with_body=True))) == kept(full)


def test_a_body_is_kept_on_request_alone_and_given_on_request_alone() -> None:
    for body in (b'{"a": "\xe4\xb8\x96"}', b"\xff\x00"):
        result = ChatCompletionResult("x", body=body)
        without, full = encode(result, AT, with_body=False), json.loads(encode(result, AT, with_body=True))
        assert "body" not in without
        assert decode(json.loads(without)).body is None
        assert decode(full).body == body
        assert decode(full, with_body=False).body is None


def test_texts_are_readable_in_the_file() -> None:
    assert '"content":"世界"' in encode(ChatCompletionResult("世界"), AT, with_body=False)


@pytest.mark.parametrize(
    "result",
    [
        ChatCompletionResult("x", Usage(prompt_tokens=float("nan"))),
        ChatCompletionResult("x", Usage(prompt_tokens=float("inf"))),
        ChatCompletionResult("x", native={"claude": b"bytes"}),
        ChatCompletionResult("x", native={"claude": {1, 2}}),
    ],
)
def test_what_is_no_json_is_refused(result: ChatCompletionResult) -> None:
    with pytest.raises(CacheError, match="cannot be written as JSON"):
        encode(result, AT, with_body=True)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"at": 1.0},
        {"at": 1.0, "content": None},
        {"at": 1.0, "content": 5},
        {"at": 1.0, "content": "x", "usage": 5},
        {"at": 1.0, "content": "x", "usage": "ab"},
        {"at": 1.0, "content": "x", "tool_calls": [["only an id"]]},
        {"at": 1.0, "content": "x", "tool_calls": 1},
        {"at": 1.0, "content": "x", "body": 1},
        {"at": 1.0, "content": "x", "body64": "@"},
        {"at": 1.0, "content": "", "packed": "@"},
        {"at": 1.0, "content": "", "packed": "eA=="},
        [],
        "text",
        7,
        None,
    ],
)
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    with pytest.raises(CacheError, match="damaged"):
        decode(entry)


CALL = ToolCall("1", "function", {"name": "f", "arguments": "{}"})


@pytest.mark.parametrize(
    ("result", "wants_json", "usual", "incomplete"),
    [
        (ChatCompletionResult("yes", finish_reason="stop"), False, True, True),
        (ChatCompletionResult("yes"), False, True, True),
        (ChatCompletionResult("yes", finish_reason="a word of the server's"), False, True, True),
        (ChatCompletionResult("", tool_calls=[CALL], finish_reason="tool_calls"), False, True, True),
        (ChatCompletionResult("", tool_calls=[CALL], finish_reason="tool_calls"), True, True, True),
        (ChatCompletionResult("{}", finish_reason="stop", parsed={}), True, True, True),
        (ChatCompletionResult("0", finish_reason="stop", parsed=0), True, True, True),
        (ChatCompletionResult("cut", finish_reason="length"), False, False, True),
        (ChatCompletionResult("", tool_calls=[CALL], finish_reason="length"), False, False, True),
        (ChatCompletionResult("I cannot", finish_reason="content_filter"), False, False, True),
        (ChatCompletionResult("", finish_reason="stop"), False, False, True),
        (ChatCompletionResult(" \n", finish_reason="stop"), False, False, True),
        (ChatCompletionResult("", tool_calls=[], finish_reason="stop"), False, False, True),
        (ChatCompletionResult("", reasoning_content="thought", finish_reason="stop"), False, False, True),
        (ChatCompletionResult("no JSON", finish_reason="stop"), True, False, True),
        (ChatCompletionResult("half", finish_reason="error"), False, False, False),
        (ChatCompletionResult("yes", finish_reason="stop", cached=True), False, False, False),
    ],
)
def test_whole_answers_are_kept_others_on_request_errors_never(
    result: ChatCompletionResult, wants_json: bool, usual: bool, incomplete: bool
) -> None:
    assert is_storable(result, wants_json, incomplete=False) is usual
    assert is_storable(result, wants_json, incomplete=True) is incomplete
