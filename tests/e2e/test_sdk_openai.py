"""The official `openai` package against the mock: what it sends is accepted, and what it reads is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flexllm.mock import MockServer, ReceivedRequest, Reply
from flexllm.mock.responder import dialect_of

openai = pytest.importorskip("openai")
pydantic = pytest.importorskip("pydantic")

ASK = [{"role": "user", "content": "Name a river in Asia."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
            "required": ["city", "unit"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@contextmanager
def client(server: MockServer, **options: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key="key", max_retries=0, **options) as client:
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(models=("second",)) as server:
        yield server


@pytest.fixture
def completions(server: MockServer) -> Iterator[Any]:
    with client(server) as one:
        yield one.chat.completions


@pytest.fixture
def own_completions() -> Iterator[Any]:
    """Of a server that is as strict as OpenAI itself."""
    with MockServer(openai_dialect="openai") as server, client(server) as one:
        yield one.chat.completions


# ---------------------------------------------------------------------------------------------------- text


def test_a_chat_has_text_usage_and_a_request_id(completions: Any) -> None:
    done = completions.create(model="m", messages=ASK)
    assert done.choices[0].message.content.startswith("Mock answer ")
    assert done.choices[0].finish_reason == "stop"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
    assert done._request_id.startswith("req_")


def test_a_stream_carries_the_same_text_and_usage(completions: Any) -> None:
    done = completions.create(model="m", messages=ASK)
    stream = completions.create(model="m", messages=ASK, stream=True, stream_options={"include_usage": True})
    with stream:
        *chunks, last = stream
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == done.choices[0].message.content
    assert (last.choices, last.usage) == ([], done.usage)


def test_the_stream_helper_ends_with_the_whole_completion(completions: Any) -> None:
    with completions.stream(model="m", messages=ASK) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == completions.create(model="m", messages=ASK).choices[0].message.content


def test_a_stop_sequence_and_a_limit_end_the_text(completions: Any) -> None:
    whole = completions.create(model="m", messages=ASK).choices[0].message.content
    stopped = completions.create(model="m", messages=ASK, stop=["you wrote"]).choices[0]
    assert (stopped.finish_reason, stopped.message.content) == ("stop", whole[: whole.index("you wrote")])
    cut = completions.create(model="m", messages=ASK, max_completion_tokens=2).choices[0]
    assert (cut.finish_reason, cut.message.content) == ("length", whole[:8])


# ---------------------------------------------------------------------------------------------------- tools


def test_a_whole_round_with_a_tool(completions: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "Please use get_weather for Oslo."}]
    called = completions.create(model="m", messages=messages, tools=[WEATHER]).choices[0]
    assert (called.finish_reason, called.message.content) == ("tool_calls", None)
    (call,) = called.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "city", "unit": "C"})
    messages += [called.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answered = completions.create(model="m", messages=messages, tools=[WEATHER]).choices[0]
    assert (answered.finish_reason, answered.message.tool_calls) == ("stop", None)
    assert answered.message.content


def test_two_named_tools_are_called_at_once_unless_forbidden(completions: Any) -> None:
    asked: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "Use clock, then get_weather."}],
        "tools": [WEATHER, CLOCK],
    }
    both = completions.create(**asked).choices[0].message.tool_calls
    assert [call.function.name for call in both] == ["clock", "get_weather"]
    assert len({call.id for call in both}) == 2
    one = completions.create(**asked, parallel_tool_calls=False).choices[0].message.tool_calls
    assert [call.function.name for call in one] == ["clock"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_weather"),
        ({"type": "function", "function": {"name": "clock"}}, "clock"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "clock"}}],
                },
            },
            "clock",
        ),
        ("auto", None),
        ("none", None),
    ],
)
def test_a_choice_forces_a_tool(completions: Any, choice: Any, name: str | None) -> None:
    done = completions.create(model="m", messages=ASK, tools=[WEATHER, CLOCK], tool_choice=choice)
    calls = done.choices[0].message.tool_calls
    assert [call.function.name for call in calls or ()] == ([name] if name else [])


def test_a_streamed_tool_call_comes_in_pieces_that_join(completions: Any) -> None:
    asked: dict[str, Any] = {"model": "m", "messages": ASK, "tools": [WEATHER], "tool_choice": "required"}
    with completions.create(**asked, stream=True) as stream:
        pieces = [chunk.choices[0].delta.tool_calls[0] for chunk in stream if chunk.choices[0].delta.tool_calls]
    assert len(pieces) > 2
    assert pieces[0].function.name == "get_weather"
    whole = completions.create(**asked).choices[0].message.tool_calls[0]
    assert pieces[0].id == whole.id
    assert "".join(piece.function.arguments for piece in pieces) == whole.function.arguments
    with completions.stream(**asked) as helper:
        final = helper.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.arguments == whole.function.arguments


def test_a_custom_tool_gets_text(completions: Any) -> None:
    tool = {"type": "custom", "custom": {"name": "shell"}}
    done = completions.create(model="m", messages=ASK, tools=[tool], tool_choice="required")
    (call,) = done.choices[0].message.tool_calls
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "shell", "shell")


# ---------------------------------------------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    "extra",
    [
        {"reasoning_effort": "high"},
        {"enable_thinking": True},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"chat_template_kwargs": {"thinking": True}},
        {"thinking": {"type": "enabled"}},
        {"reasoning": {"max_tokens": 2000}},
    ],
)
def test_thinking_is_switched_on_in_every_way(completions: Any, extra: dict[str, Any]) -> None:
    done = completions.create(model="m", messages=ASK, extra_body=extra)
    assert done.choices[0].message.reasoning_content.startswith("Mock thought ")
    assert 0 < done.usage.completion_tokens_details.reasoning_tokens < done.usage.completion_tokens
    with completions.create(model="m", messages=ASK, extra_body=extra, stream=True) as stream:
        deltas = [chunk.choices[0].delta for chunk in stream]
    thought = [getattr(delta, "reasoning_content", None) for delta in deltas]
    assert "".join(filter(None, thought)) == done.choices[0].message.reasoning_content
    assert sum(piece is not None for piece in thought) > 1


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"reasoning_effort": "none"},
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
    ],
)
def test_without_the_switch_nothing_is_thought(completions: Any, extra: dict[str, Any]) -> None:
    done = completions.create(model="m", messages=ASK, extra_body=extra)
    assert not hasattr(done.choices[0].message, "reasoning_content")
    assert done.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_reasoning_model_of_openai_counts_thoughts_but_does_not_show_them(own_completions: Any) -> None:
    done = own_completions.create(model="gpt-6-luna", messages=ASK)
    assert not hasattr(done.choices[0].message, "reasoning_content")
    assert done.usage.completion_tokens_details.reasoning_tokens > 0
    quiet = own_completions.create(model="gpt-6-luna", messages=ASK, reasoning_effort="none", temperature=0.5)
    assert quiet.usage.completion_tokens_details.reasoning_tokens == 0


# ---------------------------------------------------------------------------------------------------- structure


def test_parse_gives_an_instance_of_the_class(own_completions: Any) -> None:
    class Leaf(pydantic.BaseModel):
        kind: str
        weights: list[float]

    class Tree(pydantic.BaseModel):
        name: str
        age: int
        leaf: Leaf | None
        tags: list[str]

    done = own_completions.parse(model="m", messages=ASK, response_format=Tree)
    assert isinstance(done.choices[0].message.parsed, Tree)
    with own_completions.stream(model="m", messages=ASK, response_format=Tree) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == done.choices[0].message.parsed


def test_parse_reads_the_arguments_of_strict_tools(own_completions: Any) -> None:
    class Query(pydantic.BaseModel):
        table: str
        limit: int

    tool = openai.pydantic_function_tool(Query)
    done = own_completions.parse(model="m", messages=ASK, tools=[tool], tool_choice="required")
    assert isinstance(done.choices[0].message.tool_calls[0].function.parsed_arguments, Query)


def test_json_mode_gives_an_object(completions: Any) -> None:
    asked = [{"role": "user", "content": "Answer in JSON."}]
    done = completions.create(model="m", messages=asked, response_format={"type": "json_object"})
    assert isinstance(json.loads(done.choices[0].message.content), dict)


# ---------------------------------------------------------------------------------------------------- types

ASKED: list[dict[str, Any]] = [
    {},
    {"n": 2, "max_tokens": 3},
    {"tools": [WEATHER, CLOCK], "tool_choice": "required"},
    {"reasoning_effort": "low"},
    {"model": "gpt-6-luna", "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
]


def raw(ending: Any = None, **fields: Any) -> bytes:
    """What the mock sends for these fields, and if the answer ends in this way."""
    body = json.dumps({"model": "m", "messages": ASK, **fields}).encode()
    request = ReceivedRequest(method="POST", path="/v1/chat/completions", body=body)
    reply = dialect_of(request).reply(request, (), 0.0, ending)
    return reply.body or b"".join(piece for _, piece in reply.pieces or ())


@pytest.mark.parametrize("fields", ASKED)
@pytest.mark.parametrize("ending", [None, "length", "refusal"])
def test_replies_are_valid_for_the_types_of_the_package(ending: str | None, fields: dict[str, Any]) -> None:
    openai.types.chat.ChatCompletion.model_validate_json(raw(ending, **fields), strict=True)
    stream = raw(ending, **fields, stream=True, stream_options={"include_usage": True}).decode()
    *events, end, nothing = (event.removeprefix("data: ") for event in stream.split("\n\n"))
    assert (end, nothing) == ("[DONE]", "")
    for event in events:
        openai.types.chat.ChatCompletionChunk.model_validate_json(event, strict=True)


# ---------------------------------------------------------------------------------------------------- the rest


def test_models_are_listed(server: MockServer) -> None:
    with client(server) as one:
        assert [model.id for model in one.models.list()] == ["mock-model", "second"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_a_status_becomes_its_exception_with_the_request_id(status: int, error: type[Exception]) -> None:
    with MockServer(script=[Reply(status=status)]) as server, client(server) as one, pytest.raises(error) as caught:
        one.chat.completions.create(model="m", messages=ASK)
    assert caught.value.status_code == status
    assert caught.value.request_id == "req_0_00000001"
    assert caught.value.type


def test_a_wrong_field_is_named_in_the_exception(own_completions: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="enable_thinking") as caught:
        own_completions.create(model="m", messages=ASK, extra_body={"enable_thinking": True})
    assert (caught.value.param, caught.value.code) == ("enable_thinking", "unknown_parameter")


def test_a_wrong_key_is_an_authentication_error() -> None:
    with MockServer(api_key="right") as server, client(server) as one, pytest.raises(openai.AuthenticationError):
        one.chat.completions.create(model="m", messages=ASK)


def test_an_error_event_inside_a_stream_is_raised() -> None:
    pieces = ((0.0, b'data: {"error":{"message":"boom"}}\n\n'),)
    script = [Reply(headers={"content-type": "text/event-stream"}, pieces=pieces)]
    with MockServer(script=script) as server, client(server) as one:
        stream = one.chat.completions.create(model="m", messages=ASK, stream=True)
        with stream, pytest.raises(openai.APIError, match="boom"):
            list(stream)


# ---------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("rate_limited", openai.RateLimitError, "rate_limit_exceeded"),
        ("quota", openai.RateLimitError, "insufficient_quota"),
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("payment", openai.APIStatusError, "invalid_request_error"),
        ("forbidden", openai.PermissionDeniedError, "unsupported_country_region_territory"),
        ("not_found", openai.NotFoundError, "model_not_found"),
        ("bad_request", openai.BadRequestError, "unsupported_value"),
        ("context_too_long", openai.BadRequestError, "context_length_exceeded"),
        ("server_error", openai.InternalServerError, "server_error"),
        ("bad_gateway", openai.InternalServerError, None),
        ("unavailable", openai.InternalServerError, "server_is_overloaded"),
        ("overloaded", openai.InternalServerError, "provider_overloaded"),
        ("reset", openai.APIConnectionError, None),
    ],
)
def test_a_fault_becomes_its_exception(fault: str, error: type[Exception], code: str | None) -> None:
    with MockServer(script=[fault]) as server, client(server) as one, pytest.raises(error) as caught:
        one.chat.completions.create(model="m", messages=ASK)
    assert caught.value.code == code


def test_a_hang_ends_with_the_patience_of_the_client() -> None:
    hanging = MockServer(script=["hang"])
    with hanging as server, client(server, timeout=0.1) as one, pytest.raises(openai.APITimeoutError):
        one.chat.completions.create(model="m", messages=ASK)


@pytest.mark.parametrize(("fault", "has_text"), [("overloaded_stream", False), ("broken_stream", True)])
def test_an_overload_inside_a_stream_is_raised(fault: str, has_text: bool) -> None:
    with MockServer(script=[fault]) as server, client(server) as one:
        text = ""
        stream = one.chat.completions.create(model="m", messages=ASK, stream=True)
        with stream, pytest.raises(openai.APIError, match="overloaded") as caught:
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        assert caught.value.code == "server_is_overloaded"
        assert bool(text) == has_text


def test_rate_headers_are_read_from_the_raw_reply() -> None:
    with MockServer(rate_limit=10, rate_burst=600, rate_headers=True) as server, client(server) as one:
        headers = one.chat.completions.with_raw_response.create(model="m", messages=ASK).headers
        assert headers["x-ratelimit-limit-requests"] == "600"
        assert headers["x-ratelimit-remaining-requests"] == "599"
