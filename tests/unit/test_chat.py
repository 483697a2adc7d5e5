"""The chat values, and how the pieces of a stream add up."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.chat import (
    ChatCompletionResult,
    ChatRequest,
    Chunk,
    ChunkCollector,
    ToolCall,
    ToolCallDelta,
    Usage,
    collect,
)
from flexllm.errors import ConfigError


def usage(prompt: int = 9, completion: int = 2, **details: Any) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **details)


def test_usage_is_a_mapping_with_the_three_counts_as_attributes() -> None:
    one = usage(prompt_tokens_details={"cached_tokens": 4})
    assert (one.prompt_tokens, one.completion_tokens, one.total_tokens) == (9, 2, 11)
    assert one["prompt_tokens_details"]["cached_tokens"] == 4
    assert json.loads(json.dumps(one)) == one


def test_a_request_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no model"):
        ChatRequest([{"role": "user", "content": "Hi"}], "")


def test_results_are_made_by_position_in_the_order_of_the_document() -> None:
    call = ToolCall("call_1", "function", {"name": "f", "arguments": "{}"})
    result = ChatCompletionResult("text", usage(), "thought", [call], "tool_calls")
    assert (result.content, result.usage, result.reasoning_content) == ("text", usage(), "thought")
    assert (result.tool_calls, result.finish_reason) == ([call], "tool_calls")
    assert str(result) == "text"


def test_a_result_of_text_alone_knows_nothing_else() -> None:
    result = ChatCompletionResult("text")
    assert (result.usage, result.tool_calls, result.reasoning_content, result.finish_reason) == (None,) * 4
    assert (result.cached, result.attempts, result.raw) == (False, 1, None)


def test_raw_has_an_older_name_and_stays_out_of_the_representation() -> None:
    result = ChatCompletionResult("text", body=b'{"huge": "body"}')
    assert result.data == result.raw == {"huge": "body"}
    assert "huge" not in repr(result)


def test_a_tool_call_is_made_by_position_and_goes_back_as_it_came() -> None:
    call = ToolCall("call_1", "function", {"name": "f", "arguments": '{"a":1}'})
    assert call.as_dict() == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":1}'},
    }


@pytest.mark.parametrize(
    "value",
    [
        ChatRequest([{"role": "user", "content": "Hi"}], "m", {"temperature": 0}),
        ChatCompletionResult("text", usage(), body=b'{"a": 1}'),
        ToolCall("a", "function", {"name": "f", "arguments": ""}),
        Chunk(content="a", tool_calls=(ToolCallDelta(0, "a", "f", "{}"),), usage=usage()),
        usage(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_values_pickle_and_compare(value: object) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert type(again) is type(value)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_nothing_adds_up_to_an_empty_result() -> None:
    assert collect([]) == ChatCompletionResult("")


def test_texts_are_joined_in_order() -> None:
    pieces = [Chunk(content="Hel"), Chunk(reasoning_content="hm"), Chunk(content="lo"), Chunk(reasoning_content=".")]
    result = collect(pieces)
    assert (result.content, result.reasoning_content) == ("Hello", "hm.")


def test_the_text_so_far_can_be_read_at_any_time() -> None:
    collector = ChunkCollector()
    seen = []
    for piece in ("a", "b", "", "c"):
        collector.add(Chunk(content=piece))
        seen.append(collector.content)
    assert seen == ["a", "ab", "ab", "abc"]


def test_the_last_word_on_usage_model_and_end_counts() -> None:
    result = collect(
        [
            Chunk(model="m", usage=usage(1, 1)),
            Chunk(finish_reason="length", model="m-1"),
            Chunk(usage=usage(9, 2)),
            Chunk(),
        ]
    )
    assert (result.finish_reason, result.model, result.usage) == ("length", "m-1", usage(9, 2))


def test_tool_calls_grow_by_index() -> None:
    result = collect(
        [
            Chunk(tool_calls=(ToolCallDelta(0, "call_1", "f"),)),
            Chunk(tool_calls=(ToolCallDelta(1, "call_2", "g", '{"b"'),)),
            Chunk(tool_calls=(ToolCallDelta(0, arguments='{"a":'), ToolCallDelta(1, arguments=":2}"))),
            Chunk(tool_calls=(ToolCallDelta(0, arguments="1}"),)),
            Chunk(finish_reason="tool_calls"),
        ]
    )
    assert result.tool_calls == [
        ToolCall("call_1", "function", {"name": "f", "arguments": '{"a":1}'}),
        ToolCall("call_2", "function", {"name": "g", "arguments": '{"b":2}'}),
    ]


def test_an_id_and_a_name_that_are_repeated_are_kept_once() -> None:
    delta = ToolCallDelta(0, "call_1", "f", "1")
    result = collect([Chunk(tool_calls=(delta,)), Chunk(tool_calls=(delta,))])
    assert result.tool_calls == [ToolCall("call_1", "function", {"name": "f", "arguments": "11"})]


def test_tool_calls_stand_in_the_order_of_their_indexes() -> None:
    pieces = [Chunk(tool_calls=(ToolCallDelta(index, f"call_{index}", "f"),)) for index in (10, 2, 0)]
    assert [call.id for call in collect(pieces).tool_calls or ()] == ["call_0", "call_2", "call_10"]


@pytest.mark.parametrize(
    ("said", "meant"), [("stop", "tool_calls"), ("tool_calls", "tool_calls"), ("length", "length")]
)
def test_a_stop_with_tool_calls_means_tool_calls(said: str, meant: str) -> None:
    pieces = [Chunk(tool_calls=(ToolCallDelta(0, "a", "f"),)), Chunk(finish_reason=said)]
    assert collect(pieces).finish_reason == meant


def test_what_only_the_sender_knows_goes_into_the_result() -> None:
    collector = ChunkCollector()
    result = collector.result(latency=1.5, request_id="r", attempts=2)
    assert (result.latency, result.request_id, result.attempts) == (1.5, "r", 2)


@given(st.lists(st.text(max_size=5)), st.lists(st.text(max_size=5)))
def test_any_cut_of_a_text_adds_up_to_the_text(contents: list[str], thoughts: list[str]) -> None:
    pieces = [Chunk(content=piece) for piece in contents] + [Chunk(reasoning_content=piece) for piece in thoughts]
    result = collect(pieces)
    assert result.content == "".join(contents)
    assert (result.reasoning_content or "") == "".join(thoughts)
