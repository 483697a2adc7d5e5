"""Replies and streams of Claude: a stream is the whole reply in pieces, handed on as they come; errors are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatRequest, Chunk, collect
from flexllm.errors import ApiStatusError, MalformedResponse
from flexllm.providers.claude import ClaudeProvider
from flexllm.sse import ServerSentEvent
from flexllm.wire import HttpResponse, Target

CLAUDE = ClaudeProvider()
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def call(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": arguments}


def message(*content: Any, stop_reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": list(content),
        "stop_reason": stop_reason,
        "usage": {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 9},
        **more,
    }


def parse(body: Any) -> Any:
    return CLAUDE.parse(HttpResponse(200, {}, json.dumps(body).encode()))


def event(kind: str, **fields: Any) -> ServerSentEvent:
    return ServerSentEvent(kind, json.dumps({"type": kind, **fields}))


def cut(value: str, sizes: Iterator[int]) -> Iterator[str]:
    while value:
        size = next(sizes)
        yield value[:size]
        value = value[size:]


BEGUN = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "server_tool_use": {"input": {}}}
BEGUN["tool_use"] = BEGUN["server_tool_use"]


def streamed(whole: dict[str, Any], sizes: Iterator[int]) -> Iterator[ServerSentEvent]:
    """The events in which a whole reply is streamed, its texts cut to pieces of these sizes."""
    usage = whole["usage"]
    yield event(
        "message_start", message={**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    )
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        yield event("content_block_start", index=index, content_block={**block, **BEGUN.get(kind, {})})
        yield event("ping")
        deltas: list[dict[str, Any]] = []
        if kind in ("text", "thinking"):
            deltas = [{"type": f"{kind}_delta", kind: piece} for piece in cut(block[kind], sizes)]
        if kind == "thinking":
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        if block.get("input"):
            written = json.dumps(block["input"], ensure_ascii=False)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in cut(written, sizes)]
        for delta in deltas:
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    yield event(
        "message_delta", delta={"stop_reason": whole["stop_reason"]}, usage={"output_tokens": usage["output_tokens"]}
    )
    yield event("message_stop")


def forever(size: int) -> Iterator[int]:
    while True:
        yield size


JSON = st.dictionaries(
    st.sampled_from(["a", "ü", '"']), st.one_of(st.integers(), st.text(max_size=8), st.none()), max_size=3
)
BLOCKS = st.one_of(
    st.text(max_size=12).map(text),
    st.builds(lambda thought: {**THINKING, "thinking": thought}, st.text(max_size=12)),
    st.just({"type": "redacted_thinking", "data": "Em8K"}),
    st.builds(lambda inner: {**call("toolu_1"), "input": inner}, JSON),
    st.builds(lambda inner: {"type": "tool_use", "name": "no_id", "input": inner}, JSON),
    st.builds(lambda inner: {"type": "server_tool_use", "id": "s", "name": "web_search", "input": inner}, JSON),
    st.just({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
    st.just({"type": "brand_new", "text": "not the answer"}),
)
REASONS = ["end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn", "refusal", "brand_new"]


@pytest.mark.slow
@settings(max_examples=examples(200))
@given(st.lists(BLOCKS, max_size=5), st.sampled_from(REASONS), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_stream_adds_up_to_the_whole_reply(blocks: list[Any], reason: str, sizes: list[int]) -> None:
    whole = message(*blocks, stop_reason=reason)
    endless = (sizes[at % len(sizes)] for at in range(10**9))
    came = collect(CLAUDE.chunks(streamed(whole, endless)))
    assert came == replace(parse(whole), body=None, latency=None)


def test_a_piece_is_handed_on_before_the_next_event_is_read() -> None:
    read = 0

    def events() -> Iterator[ServerSentEvent]:
        nonlocal read
        for one in streamed(message(THINKING, text("abc"), call("t", a=1), stop_reason="tool_use"), forever(1)):
            read += 1
            yield one

    said: dict[str, int] = {}
    for chunk in CLAUDE.chunks(events()):
        for piece in (chunk.reasoning_content, chunk.content, *(one.arguments or one.name for one in chunk.tool_calls)):
            if piece:
                said.setdefault(piece, read)
    # message_start, start, ping, then "H", "m", ".", the signature, stop; start, ping, then the text; and so on.
    assert {piece: said[piece] for piece in ("H", "m", ".", "a", "b", "c", "f")} == {
        "H": 4, "m": 5, ".": 6, "a": 11, "b": 12, "c": 13, "f": 15,
    }  # fmt: skip


def test_nothing_is_read_behind_the_end_mark() -> None:
    def events() -> Iterator[ServerSentEvent]:
        yield from streamed(message(text("Hi")), forever(9))
        raise AssertionError("read on")

    assert collect(CLAUDE.chunks(events())).content == "Hi"


def test_the_prompt_is_counted_from_the_beginning() -> None:
    first = next(iter(CLAUDE.chunks(streamed(message(text("Hi")), forever(9)))))
    assert (first.model, first.content) == ("claude-sonnet-5-5", "")
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.usage.cached_tokens) == (12, 5)


def test_what_must_be_sent_back_comes_whole_and_last() -> None:
    chunks = list(CLAUDE.chunks(streamed(message(THINKING, text("Hi"), call("t", a=1)), forever(2))))
    assert [chunk.native for chunk in chunks if chunk.native] == [{"claude": [THINKING, text("Hi"), call("t", a=1)]}]
    assert chunks[-1] == Chunk(native=chunks[-1].native)


@pytest.mark.parametrize(
    ("blocks", "is_kept"),
    [
        ([text("Hi")], False),
        ([text("Hi"), call("t")], False),
        ([{**call("t"), "caller": {"type": "direct"}}], False),
        ([{**text("Hi"), "citations": [{"type": "char_location"}]}], False),
        ([{**call("t"), "caller": {"type": "code_execution_20250825", "tool_id": "s"}}], True),
        ([{**call("t"), "toolset_name": "browser"}], True),
        ([text("Hi"), THINKING], True),
        ([{"type": "thinking", "thinking": "Hm."}], True),
        ([{"type": "redacted_thinking", "data": "x"}], True),
        ([{"type": "container_upload", "file_id": "f"}], True),
        ([{"type": "brand_new"}], True),
        ([{"no": "type"}], True),
    ],
)
def test_a_turn_is_kept_whole_where_a_block_must_be_sent_back(blocks: list[Any], is_kept: bool) -> None:
    result = parse(message(*blocks))
    assert result.native == ({"claude": blocks} if is_kept else None)


def test_a_turn_that_is_sent_back_is_the_one_that_came() -> None:
    blocks = [THINKING, {"type": "redacted_thinking", "data": "Em8K"}, text("Hi"), call("toolu_1", größe=[1, None])]
    whole = message(*blocks, stop_reason="tool_use")
    for result in (parse(whole), collect(CLAUDE.chunks(streamed(whole, forever(3))))):
        conversation = [
            {"role": "user", "content": "Go"},
            result.assistant_message,
            {"role": "tool", "tool_call_id": "toolu_1", "content": "1"},
        ]
        target = Target(base_url="https://api.anthropic.com", api_key="k")
        sent = json.loads(CLAUDE.build(ChatRequest(conversation, "claude-sonnet-5-5"), target, stream=False).body)
        assert sent["messages"][1] == {"role": "assistant", "content": blocks}


def test_a_made_id_is_good_for_the_answer() -> None:
    result = parse(
        message({"type": "tool_use", "name": "f", "input": {}}, {"type": "tool_use", "name": "g", "input": {}})
    )
    first, second = result.tool_calls
    assert first.id != second.id
    answers = [{"role": "tool", "tool_call_id": one.id, "content": "1"} for one in (first, second)]
    conversation = [{"role": "user", "content": "Go"}, result.assistant_message, *answers]
    target = Target(base_url="https://api.anthropic.com", api_key="k")
    sent = json.loads(CLAUDE.build(ChatRequest(conversation, "claude-sonnet-5-5"), target, stream=False).body)
    assert [block["id"] for block in sent["messages"][1]["content"]] == [first.id, second.id]


def test_a_call_that_was_cut_off_keeps_what_came_of_it() -> None:
    events = [
        event("message_start", message=message()),
        event("content_block_start", index=0, content_block=THINKING),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block=call("t")),
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a": "b'}),
        event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 3}),
        event("message_stop"),
    ]
    result = collect(CLAUDE.chunks(iter(events)))
    assert result.finish_reason == "length"
    assert result.tool_calls is not None
    assert result.tool_calls[0].function == {"name": "f", "arguments": '{"a": "b'}
    assert result.native == {"claude": [THINKING, call("t")]}


def test_a_call_that_is_never_stopped_has_its_arguments_once() -> None:
    events = [
        event("message_start", message=message()),
        event("content_block_start", index=0, content_block=call("t", a=1)),
        event("message_delta", delta={}, usage={"output_tokens": 2}),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3}),
        event("message_stop"),
    ]
    result = collect(CLAUDE.chunks(iter(events)))
    assert [one.function for one in result.tool_calls or ()] == [{"name": "f", "arguments": '{"a": 1}'}]


@pytest.mark.parametrize("text_of_error", ["Something went wrong", ""])
def test_an_error_event_is_told_apart_by_its_type(text_of_error: str) -> None:
    kinds = {
        "invalid_request_error": (400, "BadRequest"),
        "authentication_error": (401, "AuthenticationFailed"),
        "billing_error": (402, "QuotaExhausted"),
        "permission_error": (403, "PermissionDenied"),
        "not_found_error": (404, "NotFound"),
        "conflict_error": (409, "BadRequest"),
        "request_too_large": (413, "BadRequest"),
        "rate_limit_error": (429, "RateLimited"),
        "api_error": (500, "ServerError"),
        "timeout_error": (504, "ServerError"),
        "overloaded_error": (529, "Overloaded"),
        "brand_new_error": (500, "ServerError"),
    }
    for kind, expected in kinds.items():
        fields = {"error": {"type": kind, "message": text_of_error}, "request_id": "req_7"}
        with pytest.raises(ApiStatusError) as caught:
            collect(CLAUDE.chunks(iter([event("error", **fields)])))
        error = caught.value
        assert (error.status, type(error).__name__, error.code, error.request_id) == (*expected, kind, "req_7")


@pytest.mark.parametrize(
    ("status", "fields", "kind"),
    [
        (400, {"message": "Your credit balance is too low"}, "QuotaExhausted"),
        (400, {"message": "You have reached your specified API usage limits."}, "QuotaExhausted"),
        (400, {"message": "The organization's spend limit is reached"}, "QuotaExhausted"),
        (429, {"message": "x", "details": {"error_code": "contract_spend_limit_reached"}}, "QuotaExhausted"),
        (402, {"message": "x", "details": {"error_code": "linked_organization_spend_limit_reached"}}, "QuotaExhausted"),
        (429, {"message": "You are near your usage limits", "details": None}, "RateLimited"),
        (400, {"message": "prompt is too long: 3 tokens > 2 maximum"}, "ContextTooLong"),
        (413, {"message": "prompt is too long"}, "ContextTooLong"),
        (400, {"message": "input length and `max_tokens` exceed context limit: 1 + 2 > 2"}, "ContextTooLong"),
        (400, {"message": "Output blocked by content filtering policy"}, "ContentFiltered"),
        (503, {"message": "x", "type": "overloaded_error"}, "Overloaded"),
        (500, {"message": "credit balance is too low", "type": "api_error"}, "ServerError"),
    ],
)
def test_an_error_is_told_apart_by_its_text_where_nothing_else_tells(
    status: int, fields: dict[str, Any], kind: str
) -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", **fields}}
    error = CLAUDE.error(HttpResponse(status, {}, json.dumps(body).encode()))
    assert (type(error).__name__, error.status) == (kind, status)


def test_a_finer_code_stands_before_the_type() -> None:
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "m", "details": {"error_code": "fine"}},
    }
    assert CLAUDE.error(HttpResponse(400, {}, json.dumps(body).encode())).code == "fine"


@pytest.mark.parametrize("data", ["", "  ", "[DONE]"])
def test_data_that_says_nothing_is_read_over(data: str) -> None:
    events = list(streamed(message(text("Hi")), forever(9)))
    events.insert(2, ServerSentEvent("ping", data))
    assert collect(CLAUDE.chunks(iter(events))).content == "Hi"


def test_a_stream_without_its_end_mark_is_broken_even_where_its_finish_has_come() -> None:
    events = list(streamed(message(text("Hi")), forever(9)))[:-1]
    with pytest.raises(MalformedResponse, match="without its end mark"):
        collect(CLAUDE.chunks(iter(events)))
