"""The official `anthropic` package against the mock: what it sends is accepted, and what it reads is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flexllm.mock import MockServer, ReceivedRequest, Reply
from flexllm.mock.responder import dialect_of

anthropic = pytest.importorskip("anthropic")
pydantic = pytest.importorskip("pydantic")

ASK = [{"role": "user", "content": "Name a river in Asia."}]
PLAIN: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": ASK}
THINKING: dict[str, Any] = {**PLAIN, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}}
WEATHER = {
    "name": "get_weather",
    "description": "Weather by city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
        "required": ["city", "unit"],
    },
}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}


@contextmanager
def client(server: MockServer, **options: Any) -> Iterator[Any]:
    options = {"api_key": "key", **options}
    with anthropic.Anthropic(base_url=server.url, max_retries=0, **options) as client:
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(model="claude-sonnet-5-5", models=("claude-haiku-5-5", "claude-opus-5-5")) as server:
        yield server


@pytest.fixture
def messages(server: MockServer) -> Iterator[Any]:
    with client(server) as one:
        yield one.messages


def joined(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# ---------------------------------------------------------------------------------------------------- text


def test_a_message_has_text_usage_and_a_request_id(messages: Any) -> None:
    done = messages.create(**PLAIN)
    assert joined(done).startswith("Mock answer ")
    assert (done.role, done.model, done.stop_reason, done.stop_sequence) == (
        "assistant", "claude-haiku-4-5", "end_turn", None
    )  # fmt: skip
    assert done.usage.input_tokens > 0
    assert done.usage.output_tokens > 0
    assert done.usage.cache_read_input_tokens == 0
    assert done._request_id.startswith("req_")


def test_a_raw_stream_has_the_events_in_order(messages: Any) -> None:
    with messages.create(**PLAIN, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]  # the SDK keeps pings to itself
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert len(kinds) > 7
    assert events[0].message.content == []
    done = messages.create(**PLAIN)
    assert "".join(event.delta.text for event in events[2:-3]) == joined(done)
    assert events[-2].usage.output_tokens == done.usage.output_tokens
    assert events[-2].delta.stop_reason == "end_turn"


def test_the_stream_helper_ends_with_the_whole_message(messages: Any) -> None:
    with messages.stream(**PLAIN) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    done = messages.create(**PLAIN)
    assert text == joined(done)
    assert joined(final) == text
    assert (final.id, final.stop_reason, final.usage.output_tokens) == (
        done.id, done.stop_reason, done.usage.output_tokens
    )  # fmt: skip


def test_a_stop_sequence_and_a_limit_end_the_text(messages: Any) -> None:
    whole = joined(messages.create(**PLAIN))
    stopped = messages.create(**PLAIN, stop_sequences=["you wrote"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "you wrote")
    assert joined(stopped) == whole[: whole.index("you wrote")]
    cut = messages.create(**{**PLAIN, "max_tokens": 2})
    assert (cut.stop_reason, joined(cut), cut.usage.output_tokens) == ("max_tokens", whole[:8], 2)


def test_a_pdf_an_image_and_a_system_text_are_taken(messages: Any) -> None:
    content = [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}},
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
    ]
    asked = {**PLAIN, "messages": [{"role": "user", "content": content}]}
    assert "What is this?" in joined(messages.create(**asked, system=[{"type": "text", "text": "Be brief."}]))


# ---------------------------------------------------------------------------------------------------- tools


def test_a_whole_round_with_two_tools_at_once(messages: Any) -> None:
    asked: dict[str, Any] = {**PLAIN, "tools": [WEATHER, CLOCK]}
    history: list[Any] = [{"role": "user", "content": "Use clock, then get_weather."}]
    called = messages.create(**{**asked, "messages": history})
    assert called.stop_reason == "tool_use"
    assert [(block.type, block.name, block.input) for block in called.content] == [
        ("tool_use", "clock", {}),
        ("tool_use", "get_weather", {"city": "city", "unit": "C"}),
    ]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "rain"} for block in called.content]
    history += [{"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
    answered = messages.create(**{**asked, "messages": history})
    assert answered.stop_reason == "end_turn"
    assert "Use clock" in joined(answered)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "any"}, ["get_weather"]),
        ({"type": "tool", "name": "clock"}, ["clock"]),
        ({"type": "auto"}, []),
        ({"type": "none"}, []),
    ],
)
def test_a_choice_forces_a_tool(messages: Any, choice: Any, names: list[str]) -> None:
    done = messages.create(**PLAIN, tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [block.name for block in done.content if block.type == "tool_use"] == names


def test_parallel_use_can_be_forbidden(messages: Any) -> None:
    asked = {**PLAIN, "messages": [{"role": "user", "content": "Use clock, then get_weather."}]}
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    done = messages.create(**asked, tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [block.name for block in done.content] == ["clock"]


def test_a_streamed_tool_call_comes_in_pieces_that_join(messages: Any) -> None:
    asked = {**PLAIN, "tools": [WEATHER], "tool_choice": {"type": "any"}}
    with messages.stream(**asked) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 1
    done = messages.create(**asked)
    assert json.loads("".join(pieces)) == done.content[0].input
    assert (final.content, final.stop_reason) == (done.content, "tool_use")


# ---------------------------------------------------------------------------------------------------- thinking


def test_a_thought_comes_signed_and_is_counted(messages: Any) -> None:
    done = messages.create(**THINKING)
    thought, text = done.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert thought.thinking.startswith("Mock thought ")
    assert thought.signature
    assert 0 < done.usage.output_tokens_details.thinking_tokens < done.usage.output_tokens
    with messages.stream(**THINKING) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("thinking") > 1
    assert kinds.count("signature") == 1
    assert final.content[0] == thought
    assert joined(final) == text.text


def test_a_signed_thought_goes_back_with_its_tool_call_and_a_changed_one_is_refused(messages: Any) -> None:
    asked = {**THINKING, "tools": [WEATHER]}
    history: list[Any] = [{"role": "user", "content": "Use get_weather."}]
    called = messages.create(**{**asked, "messages": history})
    assert [block.type for block in called.content] == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": called.content[1].id, "content": "rain"}
    history += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    assert messages.create(**{**asked, "messages": history}).stop_reason == "end_turn"
    called.content[0].thinking += "!"
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature`"):
        messages.create(**{**asked, "messages": history})


def test_a_thought_that_is_not_shown_goes_back_all_the_same(messages: Any) -> None:
    asked = {**PLAIN, "model": "claude-opus-5-5", "thinking": {"type": "adaptive", "display": "omitted"}}
    done = messages.create(**asked)
    assert done.content[0].thinking == ""
    history = [*ASK, {"role": "assistant", "content": done.content}, *ASK]
    assert messages.create(**{**asked, "messages": history}).stop_reason == "end_turn"


def test_newer_models_think_unless_told_not_to(messages: Any) -> None:
    asked = {**PLAIN, "model": "claude-haiku-5-5"}
    assert [block.type for block in messages.create(**asked).content] == ["thinking", "text"]
    quiet = messages.create(**asked, thinking={"type": "disabled"})
    assert [block.type for block in quiet.content] == ["text"]


# ---------------------------------------------------------------------------------------------------- structure


def test_parse_gives_an_instance_of_the_class(messages: Any) -> None:
    class Leaf(pydantic.BaseModel):
        kind: str
        weight: float

    class Tree(pydantic.BaseModel):
        name: str
        age: int
        leaves: list[Leaf]

    done = messages.parse(**PLAIN, output_format=Tree)
    assert isinstance(done.parsed_output, Tree)


def test_a_schema_of_ones_own_is_obeyed(messages: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 5}},
        "required": ["n"],
        "additionalProperties": False,
    }
    done = messages.create(**PLAIN, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert json.loads(joined(done)) == {"n": 5}


# ---------------------------------------------------------------------------------------------------- types

ASKED: list[dict[str, Any]] = [
    PLAIN,
    THINKING,
    {**PLAIN, "max_tokens": 3},
    {**PLAIN, "stop_sequences": ["you"]},
    {**PLAIN, "model": "claude-sonnet-5", "tools": [WEATHER, CLOCK], "tool_choice": {"type": "any"}},
]


def raw(path: str = "/v1/messages", method: str = "POST", ending: Any = None, **fields: Any) -> bytes:
    """What the mock sends for these fields, and if the answer ends in this way."""
    headers = {"anthropic-version": "2026-10-21"}
    request = ReceivedRequest(method=method, path=path, headers=headers, body=json.dumps(fields).encode())
    reply = dialect_of(request).reply(request, ("claude-haiku-4-5", "mock-model"), 0.0, ending)
    return reply.body or b"".join(piece for _, piece in reply.pieces or ())


@pytest.mark.parametrize("fields", ASKED)
@pytest.mark.parametrize("ending", [None, "length", "refusal"])
def test_replies_are_valid_for_the_types_of_the_package(ending: str | None, fields: dict[str, Any]) -> None:
    anthropic.types.Message.model_validate_json(raw(**fields, ending=ending), strict=True)
    events = pydantic.TypeAdapter(anthropic.types.RawMessageStreamEvent)
    for event in raw(**fields, ending=ending, stream=True).decode().strip().split("\n\n"):
        if not event.startswith("event: ping"):  # the package has no type for it
            events.validate_json(event.partition("\ndata: ")[2], strict=True)


def test_the_models_list_is_valid_for_the_types_of_the_package() -> None:
    for model in json.loads(raw("/v1/models", "GET"))["data"]:
        anthropic.types.ModelInfo.model_validate_json(json.dumps(model), strict=True)


# ---------------------------------------------------------------------------------------------------- the rest


def test_tokens_are_counted_as_they_are_charged(messages: Any) -> None:
    asked = {"model": "claude-haiku-4-5", "messages": ASK, "system": "Be brief.", "tools": [WEATHER]}
    counted = messages.count_tokens(**asked).input_tokens
    assert counted == messages.create(**asked, max_tokens=10).usage.input_tokens > 10


def test_models_are_listed_page_by_page(server: MockServer) -> None:
    with client(server) as one:
        first = one.models.list(limit=2)
        assert [model.id for model in first.data] == ["claude-sonnet-5-5", "claude-haiku-5-5"]
        assert first.has_more
        assert [model.id for model in first] == ["claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5"]
        model = one.models.retrieve("claude-sonnet-5-5")
        assert model.capabilities.thinking.types.between_tools.supported
        assert not model.capabilities.thinking.types.disabled.supported
        with pytest.raises(anthropic.NotFoundError, match="claude-x"):
            one.models.retrieve("claude-x")


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (409, anthropic.ConflictError, "conflict_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_a_status_becomes_its_exception_with_the_request_id(status: int, error: type[Exception], kind: str) -> None:
    with MockServer(script=[Reply(status=status)]) as server, client(server) as one, pytest.raises(error) as caught:
        one.messages.create(**PLAIN)
    assert caught.value.status_code == status
    assert caught.value.request_id == caught.value.body["request_id"] == "req_0_00000001"
    assert caught.value.body["error"]["type"] == kind


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ({"api_key": "right"}, True),
        ({"api_key": None, "auth_token": "right"}, True),
        ({"api_key": "wrong"}, False),
        ({"api_key": "right", "default_headers": {"x-api-key": "right", "Authorization": "Bearer right"}}, False),
        ({"default_headers": {"x-api-key": "right", "Authorization": anthropic.Omit()}}, True),
    ],
)
def test_a_key_is_checked_in_either_header_but_not_in_both(options: dict[str, Any], works: bool) -> None:
    with MockServer(api_key="right") as server, client(server, **options) as one:
        if works:
            assert one.messages.create(**PLAIN).content
        else:
            with pytest.raises(anthropic.AuthenticationError):
                one.messages.create(**PLAIN)


@pytest.mark.parametrize(("version", "works"), [("2023-06-01", True), ("2026-10-21", False)])
def test_the_newer_version_takes_no_sampling_parameters(server: MockServer, version: str, works: bool) -> None:
    with client(server, default_headers={"anthropic-version": version}) as one:
        if works:
            assert one.messages.create(**PLAIN, extra_body={"temperature": 0.5}).content
        else:
            with pytest.raises(anthropic.BadRequestError, match="temperature: Extra inputs are not permitted"):
                one.messages.create(**PLAIN, extra_body={"temperature": 0.5})


def test_an_error_event_inside_a_stream_is_raised() -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    script = [Reply(headers={"content-type": "text/event-stream"}, pieces=((0.0, event),))]
    with MockServer(script=script) as server, client(server) as one:
        stream = one.messages.create(**PLAIN, stream=True)
        with stream, pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            list(stream)


# ---------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        ("rate_limited", anthropic.RateLimitError, "rate_limit_error"),
        ("quota", anthropic.BadRequestError, "invalid_request_error"),
        ("unauthorized", anthropic.AuthenticationError, "authentication_error"),
        ("payment", anthropic.APIStatusError, "billing_error"),
        ("forbidden", anthropic.PermissionDeniedError, "permission_error"),
        ("not_found", anthropic.NotFoundError, "not_found_error"),
        ("bad_request", anthropic.BadRequestError, "invalid_request_error"),
        ("context_too_long", anthropic.BadRequestError, "invalid_request_error"),
        ("server_error", anthropic.InternalServerError, "api_error"),
        ("unavailable", anthropic.InternalServerError, "api_error"),
        ("overloaded", anthropic.InternalServerError, "overloaded_error"),
        ("broken_stream", anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_a_fault_becomes_its_exception(fault: str, error: type[Exception], kind: str) -> None:
    with MockServer(script=[fault]) as server, client(server) as one, pytest.raises(error) as caught:
        one.messages.create(**PLAIN)
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id == caught.value.body["request_id"]


@pytest.mark.parametrize(("fault", "has_text"), [("overloaded_stream", False), ("broken_stream", True)])
def test_an_overload_inside_a_stream_is_raised(fault: str, has_text: bool) -> None:
    with MockServer(script=[fault]) as server, client(server) as one, one.messages.stream(**PLAIN) as stream:
        pieces = []
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            for piece in stream.text_stream:
                pieces.append(piece)
        assert bool(pieces) == has_text


def test_a_refusal_and_a_length_stop_are_told() -> None:
    with MockServer(script=["refusal", "length"]) as server, client(server) as one:
        refused, cut = one.messages.create(**PLAIN), one.messages.create(**PLAIN)
    assert (refused.stop_reason, refused.content, refused.stop_details.type) == ("refusal", [], "refusal")
    assert cut.stop_reason == "max_tokens"
    assert joined(cut)
