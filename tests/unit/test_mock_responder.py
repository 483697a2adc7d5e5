"""Which reply a request gets, and the mock's rate limit. No socket."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock import MockOptions, ReceivedRequest, Reply, anthropic, gemini, openai
from flexllm.mock.limits import TokenBucket
from flexllm.mock.replies import REQUEST_ID
from flexllm.mock.responder import OPENAI_DIALECTS, Responder, dialect_of, ordinary_reply


def test_a_burst_of_one_never_lets_two_through_at_once() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=16, burst=1, clock=clock)
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.advance(1)  # a rest saves up no more than the burst
    assert [bucket.take(), bucket.take()] == [True, False]


def test_a_bucket_keeps_its_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=16, burst=4, clock=clock)
    passed = 0
    for _ in range(640):  # ten seconds, asked four times as often as allowed
        clock.advance(1 / 64)
        passed += bucket.take()
    assert 160 <= passed <= 164


# ---------------------------------------------------------------------------------------------------- dialects


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "dialect"),
    [
        ("GET", "/", "", {}, openai),
        ("POST", "/v1/chat/completions", "", {}, openai),
        ("POST", "/chat/completions", "", {"x-goog-api-key": "k"}, openai),
        ("GET", "/v1/models", "", {}, openai),
        ("GET", "/v1/models", "", {"authorization": "Bearer k"}, openai),
        ("POST", "/v1/messages", "", {}, anthropic),
        ("POST", "/v1/messages/count_tokens", "", {}, anthropic),
        ("GET", "/v1/models", "limit=2", {"anthropic-version": "2023-06-01"}, anthropic),
        ("POST", "/v1beta/models/gemini-3-pro:generateContent", "", {}, gemini),
        ("POST", "/v1/models/gemini-3-pro:streamGenerateContent", "alt=sse", {}, gemini),
        ("GET", "/v1/models", "", {"x-goog-api-key": "k"}, gemini),
        ("GET", "/v1/models", "key=k", {}, gemini),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/m:generateContent", "", {}, gemini),
    ],
)
def test_a_request_finds_its_dialect(method: str, path: str, query: str, headers: Any, dialect: Any) -> None:
    assert dialect_of(ReceivedRequest(method=method, path=path, query=query, headers=headers)) is dialect


def test_an_option_says_how_strict_the_openai_dialect_is() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "enable_thinking": True}
    request = ReceivedRequest(method="POST", path="/v1/chat/completions", body=json.dumps(body).encode())
    statuses = {}
    for openai_dialect in ("any", "openai"):
        responder = Responder(MockOptions(openai_dialect=openai_dialect), None)
        statuses[openai_dialect] = responder.answer(request)[0].status
    assert statuses == {"any": 200, "openai": 400}


def sent(request: ReceivedRequest, reply: Reply | None = None) -> bytes:
    """The bytes of the second reply of a server with this script."""
    responder = Responder(MockOptions(seed=7), None if reply is None else [None, reply])
    responder.answer(request)
    return b"".join(data for _, data in responder.answer(request)[1].steps)


def test_the_body_of_an_error_carries_the_id_of_the_headers() -> None:
    request = ReceivedRequest(method="POST", path="/v1/messages", body=b"{")
    for answer in (sent(request), sent(request, Reply(status=529))):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nrequest-id: req_7_00000002\r\n" in head
        assert json.loads(body)["request_id"] == "req_7_00000002"
        assert f"content-length: {len(body)}".encode() in head


def test_the_place_of_the_id_is_left_alone_in_an_answer() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": REQUEST_ID}]}
    request = ReceivedRequest(method="POST", path="/v1/chat/completions", body=json.dumps(body).encode())
    assert REQUEST_ID.encode() in sent(request)


# ---------------------------------------------------------------------------------------------------- robustness

FUNCTION = {
    "name": "f",
    "parameters": {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]},
    "strict": False,
}
OPENAI_BODY: dict[str, Any] = {
    "model": "gpt-6-luna",
    "messages": [
        {"role": "system", "content": "a"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "json f"}, {"type": "image_url", "image_url": {"url": "a"}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "a"},
        {"role": "user", "content": "use f"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}, {"type": "custom", "custom": {"name": "c"}}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "thinking": {"type": "enabled"},
    "reasoning": {"effort": "low"},
    "chat_template_kwargs": {"thinking": True},
    "max_tokens": 50,
    "n": 2,
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"1": 1},
    "metadata": {"a": "b"},
}
ANTHROPIC_BODY: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 3000,
    "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "use f"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "b"}]},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "b"}]}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "text", "text": "use f"},
            ],
        },
    ],
    "tools": [
        {"name": "f", "input_schema": FUNCTION["parameters"]},
        {"type": "web_search_20260318", "name": "web_search"},
    ],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "disabled"},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}},
    "stop_sequences": ["a"],
    "stream": True,
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value inside a value."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from places(item, (*place, step))


def put(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(body)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed


NAMES = st.sampled_from(
    ["type", "role", "content", "text", "name", "id", "function", "custom", "required", "enum", "source", "tools"]
)
WORDS = st.sampled_from(
    ["", " ", "a", "f", "text", "function", "custom", "user", "tool", "auto", "none", "json_object"]
)
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS, st.just(10**400)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", OPENAI_BODY),
        ("/v1/messages", ANTHROPIC_BODY),
        ("/v1/messages/count_tokens", {**ANTHROPIC_BODY, "max_tokens": None, "stream": None, "stop_sequences": None}),
    ],
)
@given(data=st.data())
def test_no_body_is_too_odd_for_an_answer(path: str, body: Any, data: st.DataObject) -> None:
    changed = body
    for _ in range(data.draw(st.integers(1, 3))):
        changed = put(changed, data.draw(st.sampled_from(list(places(changed)))), data.draw(ODD))
    headers = {"anthropic-version": "2023-06-01"}
    try:
        request = ReceivedRequest(method="POST", path=path, headers=headers, body=json.dumps(changed).encode())
    except ValueError:  # more digits than Python writes
        return
    for openai_dialect in OPENAI_DIALECTS:
        reply = ordinary_reply(request, openai_dialect=openai_dialect)
        assert reply.status in (200, 400, 404)
        dialect_of(request).prompt(request)
        assert reply.status == 200 or json.loads(reply.body or b"")["error"]["message"]


def test_the_bodies_that_are_changed_are_right_to_begin_with() -> None:
    for path, body in (("/v1/chat/completions", OPENAI_BODY), ("/v1/messages", ANTHROPIC_BODY)):
        headers = {"anthropic-version": "2023-06-01"}
        request = ReceivedRequest(method="POST", path=path, headers=headers, body=json.dumps(body).encode())
        assert ordinary_reply(request).status == 200
