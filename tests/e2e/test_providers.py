"""Every provider through the public face against the mock server, which is strict about what it is sent."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flexllm import (
    AuthenticationFailed,
    BadRequest,
    ChatCompletionResult,
    Chunk,
    ClaudeClient,
    ConfigError,
    GeminiClient,
    InputError,
    LLMClient,
    MllmClient,
    OpenAIClient,
    Overloaded,
    RateLimited,
    RequestTimeout,
    SchemaMismatch,
    StreamBroken,
)
from flexllm.mock import MockServer, Reply
from flexllm.mock.responder import ordinary_reply

KEY = "sk-mock-Zx81hTq0LmN4vBs7"


class Kind(NamedTuple):
    """A provider as its users make it, with a model that thinks and calls tools."""

    name: str
    client: type[LLMClient]
    model: str
    path: str

    def make(self, server: MockServer, **options: Any) -> LLMClient:
        given: dict[str, Any] = {"api_key": KEY, "retry_times": 0, "timeout": 20, "model": self.model, **options}
        return self.client(base_url=f"{server.url}{self.path}", **given)


KINDS = [
    Kind("openai", OpenAIClient, "qwen3-30b", "/v1"),
    Kind("claude", ClaudeClient, "claude-sonnet-4-6", ""),
    Kind("gemini", GeminiClient, "gemini-3.8-flash", ""),
]
every = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tell the {name} of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weather", "population")
]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(api_key=KEY) as running:
        yield running


def whole(client: LLMClient, messages: Any, **params: Any) -> ChatCompletionResult:
    result = client.chat_completions_sync(messages, return_usage=True, **params)
    assert isinstance(result, ChatCompletionResult)
    return result


def chunks(client: LLMClient, messages: Any, **params: Any) -> tuple[list[Chunk], ChatCompletionResult]:
    *pieces, last = client.stream_chunks_sync(messages, **params)
    assert isinstance(last, ChatCompletionResult)
    return [piece for piece in pieces if isinstance(piece, Chunk)], last


# --- one ------------------------------------------------------------------------------------------------------------


@every
def test_a_question_is_answered(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        result = whole(client, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}])
    assert "Hello there" in result.content
    assert (result.finish_reason, result.attempts, result.cached) == ("stop", 1, False)
    assert result.usage is not None
    assert result.usage.total_tokens == result.usage.prompt_tokens + result.usage.completion_tokens > 0
    assert result.model == kind.model
    assert result.request_id
    assert result.raw == result.data
    assert json.loads(result.body or b"") == result.raw


@every
def test_a_stream_is_the_answer_in_pieces(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        answer = whole(client, "Tell me a story")
        pieces, streamed = chunks(client, "Tell me a story")
        texts = list(client.chat_completions_stream_sync("Tell me a story"))
    assert "".join(map(str, texts)) == answer.content == streamed.content
    assert len(texts) > 1
    assert len(pieces) >= len(texts)
    assert streamed.usage == answer.usage
    for name in ("finish_reason", "native_finish_reason", "model", "tool_calls", "reasoning_content"):
        assert getattr(streamed, name) == getattr(answer, name), name
    assert bool(streamed.native) == bool(answer.native)  # Gemini signs a streamed text in a part of its own
    assert streamed.request_id


@every
def test_the_token_limit_is_a_finish_reason(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        result = whole(client, "Tell me a long story", max_tokens=3)
        assert (result.finish_reason, chunks(client, "Tell me a long story", max_tokens=3)[1].finish_reason) == (
            "length",
            "length",
        )
    assert result.native_finish_reason in ("length", "max_tokens", "MAX_TOKENS")


@every
def test_the_awaitable_face_gives_the_same(server: MockServer, kind: Kind) -> None:
    async def ask() -> Any:
        async with kind.make(server) as client:
            streamed = [piece async for piece in client.chat_completions_stream("Hello")]
            events = [piece async for piece in client.stream_chunks("Hello")]
            return await client.chat_completions("Hello"), "".join(map(str, streamed)), events[-1]

    answer, streamed, last = asyncio.run(ask())
    assert answer == streamed == last.content


@every
def test_the_models_are_listed(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        assert client.model_list() == ["mock-model"]


@every
def test_a_long_list_of_models_is_read_to_its_end(kind: Kind) -> None:
    names = tuple(f"model-{number}" for number in range(1500))
    with MockServer(models=names) as server, kind.make(server) as client:
        assert client.model_list() == ["mock-model", *names]


@every
def test_a_batch_is_resumed(server: MockServer, kind: Kind, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    questions = [f"Question {number} of {kind.name}" for number in range(12)]
    with kind.make(server) as client:
        first = client.chat_completions_batch_sync(questions[:8], output_file=output, show_progress=False)
        before = len(server.requests)
        second = client.chat_completions_batch_sync(questions, output_file=output, show_progress=False)
    assert all(question in answer for question, answer in zip(questions, second, strict=True))
    assert list(first) == list(second)[:8]
    assert len(server.requests) - before == 4


# --- tools ----------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("thinking", [None, True], ids=["plain", "thinking"])
def test_a_tool_is_called_and_its_answer_is_heard(
    server: MockServer, kind: Kind, streamed: bool, thinking: bool | None
) -> None:
    def ask(client: LLMClient, messages: Any) -> ChatCompletionResult:
        if streamed:
            return chunks(client, messages, tools=TOOLS, thinking=thinking)[1]
        return whole(client, messages, tools=TOOLS, thinking=thinking)

    with kind.make(server) as client:
        conversation: list[Any] = [{"role": "user", "content": "Use the weather tool and the population tool"}]
        called = ask(client, conversation)
        calls = called.tool_calls or []
        assert [call.function["name"] for call in calls] == ["weather", "population"]
        assert (called.finish_reason, len({call.id for call in calls})) == ("tool_calls", 2)
        assert all("city" in json.loads(call.function["arguments"]) for call in calls)
        assert bool(called.reasoning_content) == bool(thinking)
        conversation.append(json.loads(json.dumps(called.assistant_message)))  # as if it had been kept in a file
        conversation += [{"role": "tool", "tool_call_id": call.id, "content": f"It is {call.id}"} for call in calls]
        answer = ask(client, conversation)
        assert (answer.finish_reason, answer.tool_calls) == ("stop", None)
        conversation += [answer.assistant_message, {"role": "user", "content": "Thank you"}]
        assert "Thank you" in ask(client, conversation).content


@every
def test_a_tool_can_be_forced_and_forbidden(server: MockServer, kind: Kind) -> None:
    named = {"type": "function", "function": {"name": "population"}}
    with kind.make(server) as client:
        forced = whole(client, "Hello", tools=TOOLS, tool_choice="required")
        chosen = whole(client, "Hello", tools=TOOLS, tool_choice=named)
        free = whole(client, "Hello", tools=TOOLS, tool_choice="auto")
        none = whole(client, "Use the weather tool", tools=TOOLS, tool_choice="none")
    assert forced.tool_calls
    assert [call.function["name"] for call in chosen.tool_calls or ()] == ["population"]
    assert (free.tool_calls, none.tool_calls) == (None, None)


def test_a_conversation_moves_from_one_provider_to_the_next(server: MockServer) -> None:
    conversation: list[Any] = [{"role": "system", "content": "Be brief."}]
    for turn in range(2):
        for kind in KINDS:
            with kind.make(server) as client:
                conversation.append({"role": "user", "content": f"Use the weather tool, turn {turn}"})
                called = whole(client, conversation, tools=TOOLS, thinking=True)
                assert called.tool_calls
                conversation.append(called.assistant_message)
                for call in called.tool_calls:
                    conversation.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny"})
                answer = whole(client, conversation, tools=TOOLS, thinking=True)
                assert answer.content
                conversation.append(answer.assistant_message)


# --- thinking -------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("thinking", [True, "minimal", "low", "medium", "high"])
def test_a_model_thinks_when_it_is_told_to(server: MockServer, kind: Kind, thinking: Any) -> None:
    with kind.make(server) as client:
        result = whole(client, "Why?", thinking=thinking)
        pieces, streamed = chunks(client, "Why?", thinking=thinking)
    assert result.reasoning_content
    assert streamed.reasoning_content == result.reasoning_content
    assert any(piece.reasoning_content for piece in pieces)
    assert result.usage is not None
    assert 0 < result.usage.reasoning_tokens <= result.usage.completion_tokens
    thoughts = client.parse_thoughts(result)
    assert thoughts == {"thought": result.reasoning_content, "answer": result.content}
    assert client.parse_thoughts(result.raw) == thoughts == client.parse_thoughts(pieces)
    assert type(client).parse_thoughts("Yes.") == {"thought": "", "answer": "Yes."}


@every
def test_a_model_does_not_think_when_it_is_told_not_to(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        assert whole(client, "Why?", thinking=False).reasoning_content is None


@every
def test_nonsense_for_thinking_is_refused_before_anything_is_sent(server: MockServer, kind: Kind) -> None:
    before = len(server.requests)
    with kind.make(server) as client, pytest.raises(InputError, match="thinking='a lot' is not understood"):
        client.chat_completions_sync("Why?", thinking="a lot")
    assert len(server.requests) == before


# --- structured output ----------------------------------------------------------------------------------------------


@dataclass
class City:
    name: str
    inhabitants: int
    rivers: list[str]


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "inhabitants": {"type": "integer"}},
    "required": ["name", "inhabitants"],
    "additionalProperties": False,
}


@every
def test_a_dataclass_is_asked_for_and_given(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client:
        result = whole(client, "A city, please", response_format=City)
        _, streamed = chunks(client, "A city, please", response_format=City)
        items = client.chat_completions_batch_sync(
            ["A city, please"] * 2, response_format=City, show_progress=False
        ).items
    assert isinstance(result.parsed, City)
    assert streamed.parsed == result.parsed
    assert [item.result.parsed for item in items if item.result] == [result.parsed] * 2


@every
def test_a_pydantic_model_is_asked_for_and_given(server: MockServer, kind: Kind) -> None:
    pydantic = pytest.importorskip("pydantic")
    town = pydantic.create_model("Town", name=(str, ...), inhabitants=(int, ...))
    with kind.make(server) as client:
        assert isinstance(whole(client, "A town, please", response_format=town).parsed, town)


@every
def test_a_schema_as_a_dictionary_is_asked_for_and_given(server: MockServer, kind: Kind) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
    with kind.make(server) as client:
        for given in (SCHEMA, wanted):
            parsed = whole(client, "A city, please", response_format=given).parsed
            assert (set(parsed), type(parsed["inhabitants"])) == ({"name", "inhabitants"}, int)


SAID = {
    "openai": lambda text: {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]},
    "claude": lambda text: {
        "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 2},
    },
    "gemini": lambda text: {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]
    },
}  # fmt: skip


def said(kind: Kind, *texts: str) -> list[Reply]:
    return [Reply(body=json.dumps(SAID[kind.name](text)).encode()) for text in texts]


@every
def test_json_without_a_schema_is_parsed_too(kind: Kind) -> None:
    with MockServer(script=said(kind, '```json\n{"a": [1]}\n```')) as server, kind.make(server) as client:
        result = whole(client, "Reply with JSON, please", response_format={"type": "json_object"})
    assert result.parsed == {"a": [1]}


@every
def test_a_reply_that_does_not_match_is_an_error_with_the_reply(kind: Kind) -> None:
    with MockServer(script=said(kind, '{"name": "Ulm"}')) as server, kind.make(server) as client:
        with pytest.raises(SchemaMismatch) as caught:
            client.chat_completions_sync("A city", response_format=SCHEMA)
        assert caught.value.content == '{"name": "Ulm"}'
        assert len(server.requests) == 1


@every
def test_a_reply_that_does_not_match_is_mended_once_when_asked_for(kind: Kind) -> None:
    good = '{"name": "Ulm", "inhabitants": 126000}'
    with MockServer(script=said(kind, "Ulm, I think", good)) as server, kind.make(server) as client:
        result = whole(client, "A city", response_format=SCHEMA, repair=True)
        assert result.parsed == {"name": "Ulm", "inhabitants": 126000}
        assert (result.attempts, len(server.requests)) == (2, 2)
        assert b"Ulm, I think" in server.requests[-1].body


# --- media ----------------------------------------------------------------------------------------------------------


def png() -> bytes:
    """Return a picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0abc")) + chunk(b"IEND", b"")


@every
def test_a_picture_goes_along_from_wherever_it_is(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(png())
    encoded = base64.b64encode(png()).decode()
    sources: list[Any] = [path, str(path), path.as_uri(), f"data:image/png;base64,{encoded}", png(), bytearray(png())]
    image = pytest.importorskip("PIL.Image")
    with MockServer() as server, kind.make(server) as client, image.open(path) as picture:
        for source in sources:
            content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": source}}]
            assert client.chat_completions_sync([{"role": "user", "content": content}])
            assert encoded.encode() in server.requests[-1].body
        content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture}}]
        assert client.chat_completions_sync([{"role": "user", "content": content}])
        assert b"iVBORw0KGgo" in server.requests[-1].body  # as every PNG begins in base64


def test_the_older_face_takes_pictures_and_gives_texts(server: MockServer, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(png())
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": str(path)}}]
    messages = [{"role": "user", "content": content}]
    with MllmClient(model="m", base_url=server.base_url, api_key=KEY) as client:
        texts = client.call_llm_sync([messages, "Hello"], show_progress=False)
        assert texts == asyncio.run(client.call_llm([messages, "Hello"], show_progress=False))
    assert "What is it?" in texts[0]
    assert "Hello" in texts[1]


@every
def test_a_picture_that_is_not_there_is_an_error_before_anything_is_sent(server: MockServer, kind: Kind) -> None:
    before = len(server.requests)
    content = [{"type": "image_url", "image_url": {"url": "no/such/cat.png"}}]
    with kind.make(server) as client, pytest.raises(InputError, match=r"no/such/cat\.png"):
        client.chat_completions_sync([{"role": "user", "content": content}])
    assert len(server.requests) == before


# --- errors ---------------------------------------------------------------------------------------------------------


@every
def test_a_wrong_key_is_told_apart(server: MockServer, kind: Kind) -> None:
    with kind.make(server, api_key="sk-wrong-0123456789abcdef") as client:
        with pytest.raises(AuthenticationFailed) as caught:
            client.chat_completions_sync("Hello")
        assert "sk-wrong-0123456789abcdef" not in str(caught.value)
        assert bool(caught.value.request_id) == (kind.name != "gemini")  # which names answers, not errors
        with pytest.raises(AuthenticationFailed):
            client.model_list()


@every
@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, Overloaded), (400, BadRequest)])
def test_an_error_is_typed_whole_and_streamed(kind: Kind, status: int, error: type[Exception]) -> None:
    with MockServer(error_rate=1, error_status=status) as server, kind.make(server) as client:
        with pytest.raises(error) as caught:
            client.chat_completions_sync("Hello")
        assert (caught.value.status, caught.value.model) == (status, kind.model)  # type: ignore[attr-defined]
        with pytest.raises(error):
            list(client.chat_completions_stream_sync("Hello"))


@every
def test_what_is_refused_names_the_field(server: MockServer, kind: Kind) -> None:
    with kind.make(server) as client, pytest.raises(BadRequest, match="no_such_field"):
        client.chat_completions_sync("Hello", no_such_field=1)


@every
@pytest.mark.parametrize("cut_at", [400, 900])
def test_a_stream_that_breaks_off_keeps_what_arrived(kind: Kind, cut_at: int) -> None:
    with MockServer(script=lambda _: Reply(cut="body")) as server, kind.make(server) as client:
        seen: list[str] = []
        with pytest.raises(StreamBroken) as caught:
            for piece in client.chat_completions_stream_sync("Tell me a story of many words, and slowly"):
                seen.append(str(piece))
        assert seen
        assert caught.value.partial == "".join(seen) == caught.value.result.content


BUSY = {
    "openai": b'data: {"error": {"message": "busy", "type": "server_error", "code": 503}}\n\n',
    "claude": b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n',
    "gemini": b'data: {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}\r\n\r\n',
}
EVENTS = {"content-type": "text/event-stream"}


def begun(request: Any, pieces: int) -> tuple[Any, ...]:
    """Return the first pieces of the ordinary stream, as far as the text has begun."""
    ordinary = ordinary_reply(request).pieces or ()
    first = next(at for at, (_, data) in enumerate(ordinary) if b"Mock" in data)
    return tuple(ordinary[: first + pieces])


@every
def test_overload_inside_a_stream_is_asked_again_before_the_first_piece(kind: Kind) -> None:
    busy = Reply(headers=EVENTS, pieces=((0.0, BUSY[kind.name]),))
    with MockServer(script=[busy, busy]) as server:
        with kind.make(server, retry_times=2, retry_delay=0.01) as client:
            assert "Hello" in "".join(map(str, client.chat_completions_stream_sync("Hello")))
        assert len(server.requests) == 3


@every
def test_overload_inside_a_stream_is_not_asked_again_after_the_first_piece(kind: Kind) -> None:
    def broken(request: Any) -> Reply:
        return Reply(headers=EVENTS, pieces=(*begun(request, 2), (0.0, BUSY[kind.name])))

    with MockServer(script=broken) as server:
        with kind.make(server, retry_times=2, retry_delay=0.01) as client, pytest.raises(StreamBroken) as caught:
            list(client.chat_completions_stream_sync("Hello there, how are you?"))
        assert len(server.requests) == 1
    assert isinstance(caught.value.__cause__, Overloaded)
    assert caught.value.partial.startswith("Mock answer")


@every
@pytest.mark.slow
@pytest.mark.parametrize("limit", ["timeout", "stream_timeout"])
def test_a_stream_that_falls_silent_or_lasts_too_long_is_ended(kind: Kind, limit: str) -> None:
    def endless(request: Any) -> Reply:
        pause = ((30.0, b":\n\n"),) if limit == "timeout" else tuple((0.05, b":\n\n") for _ in range(400))
        return Reply(headers=EVENTS, pieces=(*begun(request, 1), *pause))

    options = {"timeout": 1.0} if limit == "timeout" else {"timeout": 15, "stream_timeout": 1.5}
    with (
        MockServer(script=endless) as server,
        kind.make(server, **options) as client,
        pytest.raises(StreamBroken) as caught,
    ):
        list(client.chat_completions_stream_sync("Hello"))
    assert isinstance(caught.value.__cause__, RequestTimeout)
    assert caught.value.partial.startswith("Mock")


# --- choosing -------------------------------------------------------------------------------------------------------


@every
def test_the_models_name_chooses_where_the_base_url_says_nothing(server: MockServer, kind: Kind) -> None:
    with LLMClient(model=kind.model, base_url=server.url + ("/v1" if kind.name == "openai" else ""), api_key=KEY) as it:
        assert "Hello" in str(it.chat_completions_sync("Hello"))
    paths = {"openai": "/v1/chat/completions", "claude": "/v1/messages", "gemini": ":generateContent"}
    assert server.requests[-1].path.endswith(paths[kind.name])


@pytest.mark.parametrize("client", [ClaudeClient, GeminiClient])
def test_a_provider_that_needs_a_key_says_so(client: type[LLMClient]) -> None:
    with pytest.raises(ConfigError, match="api_key is missing"):
        client()
    with pytest.raises(ValueError, match="api_key"):
        client(api_key="")


def test_vertex_ai_is_asked_with_a_token_of_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    oauth = pytest.importorskip("google.oauth2.credentials")
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    place = "projects/some-project/locations/europe-west4/publishers/google"
    options = {
        "use_vertex_ai": True,
        "credentials": oauth.Credentials(token="ya29.token"),
        "project_id": "some-project",
    }
    with MockServer(api_key="ya29.token") as server:
        with GeminiClient(**options, model="gemini-3.8-flash", base_url=f"{server.url}/v1/{place}") as client:
            assert "Hello" in str(client.chat_completions_sync("Hello"))
            assert "Hello" in "".join(map(str, client.chat_completions_stream_sync("Hello")))
            assert server.requests[0].path == f"/v1/{place}/models/gemini-3.8-flash:generateContent"
            assert client.model_list() == ["mock-model"]
        sent = [
            {name: one.headers.get(name) for name in ("authorization", "x-goog-api-key")} for one in server.requests
        ]
        assert sent == [{"authorization": "Bearer ya29.token", "x-goog-api-key": None}] * 3
    assert "ya29" not in repr(client)
    regional = GeminiClient(**options, location="europe-west4")
    assert regional._options.base_url == f"https://europe-west4-aiplatform.googleapis.com/v1/{place}"
    everywhere = GeminiClient(**options, location="global")
    assert everywhere._options.base_url.startswith("https://aiplatform.googleapis.com/v1/projects/some-project/")  # type: ignore[union-attr]


def test_vertex_ai_takes_a_key_or_credentials_and_not_both() -> None:
    with pytest.raises(ConfigError, match="not with both"):
        GeminiClient(api_key=KEY, use_vertex_ai=True, project_id="p")
    with pytest.raises(ConfigError, match="use_vertex_ai=True"):
        GeminiClient(api_key=KEY, project_id="p")
    express = GeminiClient(api_key=KEY, use_vertex_ai=True)
    assert express._options.base_url == "https://aiplatform.googleapis.com/v1/publishers/google"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("https://proxy.example", "https://proxy.example/v1/projects/p/locations/eu/publishers/google"),
        ("https://proxy.example/vertex/", "https://proxy.example/vertex/v1/projects/p/locations/eu/publishers/google"),
        ("https://proxy.example/v1beta1", "https://proxy.example/v1beta1/projects/p/locations/eu/publishers/google"),
        (
            "https://proxy.example/v1/projects/q/locations/us",
            "https://proxy.example/v1/projects/q/locations/us/publishers/google",
        ),
        ("https://proxy.example/v9/publishers/google", "https://proxy.example/v9/publishers/google"),
    ],
)
def test_a_proxy_of_vertex_ai_is_told_project_and_location(given: str, asked: str) -> None:
    oauth = pytest.importorskip("google.oauth2.credentials")
    options = {"use_vertex_ai": True, "credentials": oauth.Credentials(token="ya29.token"), "project_id": "p"}
    client = GeminiClient(**options, location="eu", base_url=given)
    assert client._options.base_url == asked


def test_vertex_ai_behind_a_proxy_takes_a_key_too() -> None:
    with MockServer(api_key=KEY) as server:
        options = {"api_key": KEY, "use_vertex_ai": True, "model": "gemini-3.8-flash"}
        with GeminiClient(**options, base_url=server.url) as client:
            assert "Hello" in str(client.chat_completions_sync("Hello"))
        assert server.requests[-1].path == "/v1/publishers/google/models/gemini-3.8-flash:generateContent"


def test_a_location_is_never_dropped_in_silence() -> None:
    with pytest.raises(ConfigError, match="leave api_key or location out"):
        GeminiClient(api_key=KEY, use_vertex_ai=True, location="europe-west4")
    with pytest.raises(ConfigError, match="location can be given for Vertex AI alone; give use_vertex_ai=True"):
        GeminiClient(api_key=KEY, location="europe-west4")


@every
def test_a_client_of_one_provider_asks_no_other(server: MockServer, kind: Kind) -> None:
    with kind.make(server, provider="auto") as client:
        assert "Hello" in str(client.chat_completions_sync("Hello"))
    other = "claude" if kind.name == "openai" else "openai"
    with pytest.raises(ConfigError, match=f"provider='{other}' is not what {kind.client.__name__} asks; use LLMClient"):
        kind.make(server, provider=other)


@pytest.mark.parametrize(
    "options",
    [{"model": 3}, {"model": "m", "media": {"allow_private": True}}, {"auth": "Bearer x"}, {"headers": "a: b"}],
)
def test_an_option_of_a_wrong_type_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{list(options)[-1]}"):
        LLMClient(base_url="http://localhost:8000/v1", **options)


def test_the_version_of_the_api_is_sent() -> None:
    with MockServer() as server:
        with ClaudeClient(api_key=KEY, model="claude-haiku-4-5", base_url=server.url) as client:
            client.chat_completions_sync("Hello", temperature=0.5)
        assert server.requests[-1].headers["anthropic-version"] == "2023-06-01"
        with ClaudeClient(
            api_key=KEY, model="claude-haiku-4-5", base_url=server.url, api_version="2026-10-21"
        ) as client:
            client.chat_completions_sync("Hello")
            assert server.requests[-1].headers["anthropic-version"] == "2026-10-21"
            with pytest.raises(InputError, match="temperature"):
                client.chat_completions_sync("Hello", temperature=0.5)
