"""Google's own SDK talks to the mock, as it would to the developer API and to Vertex AI."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flexllm.mock import MockServer, ReceivedRequest, Reply, gemini
from flexllm.mock.responder import ordinary_reply

genai = pytest.importorskip("google.genai")
errors = pytest.importorskip("google.genai.errors")
types = pytest.importorskip("google.genai.types")
pydantic = pytest.importorskip("pydantic")
credentials = pytest.importorskip("google.oauth2.credentials")

NEW, OLD = "gemini-3.8-flash", "gemini-2.5-flash"
ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "parameters_json_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
SQUARE = {
    "name": "square",
    "parameters": {"type": "OBJECT", "properties": {"a": {"type": "NUMBER"}}, "required": ["a"]},
}
PNG = b"\x89PNG\r\n\x1a\n\xff\xfe\xfd"


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(model=NEW, models=(OLD, *(f"model-{number}" for number in range(5)))) as server:
        yield server


@pytest.fixture
def client(server: MockServer) -> Iterator[Any]:
    with developer(server) as client:
        yield client


@pytest.fixture
def vertex(server: MockServer) -> Iterator[Any]:
    with on_vertex(server) as client:
        yield client


def developer(server: MockServer, key: str = "k", **options: Any) -> Any:
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=server.url, **options))


def on_vertex(server: MockServer, token: str = "k") -> Any:
    return genai.Client(
        vertexai=True,
        project="my-project",
        location="us-central1",
        credentials=credentials.Credentials(token),
        http_options=types.HttpOptions(base_url=server.url),
    )


def tools(*declarations: dict[str, Any], **fields: Any) -> Any:
    """A config with these functions, which the SDK is not to call by itself."""
    return types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=list(declarations))],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        **fields,
    )


# ---------------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("model", [NEW, OLD, "models/gemini-2.0-flash", "mock-model"])
def test_content_is_generated(server: MockServer, version: str, model: str) -> None:
    with developer(server, api_version=version) as client:
        response = client.models.generate_content(model=model, contents="Name a river.")
    assert "Name a river." in response.text
    assert response.candidates[0].finish_reason == types.FinishReason.STOP
    assert response.model_version == model.removeprefix("models/")
    usage = response.usage_metadata
    parts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count or 0)
    assert usage.total_token_count == sum(parts)
    assert server.requests[0].path == f"/{version}/models/{response.model_version}:generateContent"


def test_a_stream_carries_the_whole_answer(client: Any) -> None:
    whole = client.models.generate_content(model=NEW, contents="Name a river.")
    chunks = list(client.models.generate_content_stream(model=NEW, contents="Name a river."))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert len(chunks) > 3
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert chunks[-1].response_id == whole.response_id


def test_every_setting_that_the_sdk_has_is_understood(client: Any, server: MockServer) -> None:
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        candidate_count=2,
        max_output_tokens=500,
        stop_sequences=["never"],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        response_logprobs=True,
        logprobs=3,
        response_modalities=["TEXT"],
        media_resolution=types.MediaResolution.MEDIA_RESOLUTION_LOW,
        speech_config="Kore",
        service_tier="flex",
        labels={"team": "a"},
        safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="low"),
        tools=[types.Tool(function_declarations=[ADD, SQUARE]), types.Tool(google_search=types.GoogleSearch())],
        tool_config={"function_calling_config": {"mode": "NONE"}},
    )
    response = client.models.generate_content(model=NEW, contents="Name a river.", config=config)
    assert len(response.candidates) == 2
    assert b"thinking_level" in server.requests[0].body  # the SDK mixes both spellings


def test_pictures_and_files_are_taken(client: Any) -> None:
    parts = [
        "What is this?",
        types.Part.from_bytes(data=PNG, mime_type="image/png"),
        types.Part.from_uri(file_uri="https://example.com/a.pdf", mime_type="application/pdf"),
    ]
    usage = client.models.generate_content(model=NEW, contents=parts).usage_metadata
    assert {one.modality.name for one in usage.prompt_tokens_details} == {"TEXT", "IMAGE", "DOCUMENT"}


def test_a_chat_goes_on(client: Any, server: MockServer) -> None:
    chat = client.chats.create(model=NEW)
    assert "Name a river." in chat.send_message("Name a river.").text
    assert "Name a lake." in "".join(chunk.text for chunk in chat.send_message_stream("Name a lake."))
    assert "Thank you." in chat.send_message("Thank you.").text  # signed texts, one of them streamed, come back
    sent = server.requests[-1].json()["contents"]
    assert [content["role"] for content in sent if content["role"] == "user"] == ["user"] * 3
    signed = [at for at, content in enumerate(sent) if "thoughtSignature" in content["parts"][-1]]
    assert signed == [1, len(sent) - 2]


def test_thoughts_come_as_parts_of_their_own(client: Any) -> None:
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    whole = client.models.generate_content(model=OLD, contents="Name a river.", config=config)
    thought, answer = whole.candidates[0].content.parts
    assert thought.thought
    assert not answer.thought
    assert whole.text == answer.text
    assert whole.usage_metadata.thoughts_token_count > 0
    streamed = ""
    for chunk in client.models.generate_content_stream(model=OLD, contents="Name a river.", config=config):
        streamed += "".join(part.text for part in chunk.candidates[0].content.parts if part.thought)
    assert streamed == thought.text


def test_a_limit_ends_the_answer(client: Any) -> None:
    config = types.GenerateContentConfig(max_output_tokens=4)
    response = client.models.generate_content(model=OLD, contents="Name a river.", config=config)
    assert response.text is None  # all of it went into thinking
    assert response.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


def test_a_blocked_prompt_says_why(client: Any) -> None:
    response = client.models.generate_content(model=NEW, contents="BLOCKED PROMPT")
    assert response.candidates is None
    assert response.prompt_feedback.block_reason == types.BlockedReason.SAFETY
    (chunk,) = client.models.generate_content_stream(model=NEW, contents="BLOCKED PROMPT")
    assert chunk.prompt_feedback.block_reason == types.BlockedReason.SAFETY


# ---------------------------------------------------------------------------------------------------- formats


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_a_pydantic_class_is_filled(client: Any) -> None:
    class River(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        name: str
        length: int | None
        colours: list[Colour]

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=list[River])
    response = client.models.generate_content(model=NEW, contents="Name rivers.", config=config)
    (river,) = response.parsed
    assert isinstance(river, River)
    assert river.colours == [Colour.RED]
    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=River.model_json_schema()
    )
    River.model_validate_json(client.models.generate_content(model=NEW, contents="Name one.", config=config).text)


def test_an_enum_is_chosen(client: Any) -> None:
    config = types.GenerateContentConfig(response_mime_type="text/x.enum", response_schema=Colour)
    assert client.models.generate_content(model=NEW, contents="Which?", config=config).parsed is Colour.RED


# ---------------------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize("model", [NEW, OLD])
@pytest.mark.parametrize("face", ["client", "vertex"])
def test_functions_are_called_and_answered(model: str, face: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(face)
    question = types.UserContent("First add, then square.")
    called = client.models.generate_content(model=model, contents=question, config=tools(ADD, SQUARE))
    calls = called.function_calls
    assert [(call.name, call.args) for call in calls] == [("add", {"a": 1, "b": 1}), ("square", {"a": 1})]
    assert [bool(call.id) for call in calls] == [model == NEW and face == "client"] * 2
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": 2}))
        for call in calls
    ]
    history = [question, called.candidates[0].content, types.Content(role="user", parts=results)]
    assert (
        "Mock answer" in client.models.generate_content(model=model, contents=history, config=tools(ADD, SQUARE)).text
    )


def test_a_missing_signature_is_noticed(client: Any) -> None:
    question = types.UserContent("Please add.")
    turn = client.models.generate_content(model=NEW, contents=question, config=tools(ADD)).candidates[0].content
    turn.parts[0].thought_signature = None
    result = types.Content(role="user", parts=[types.Part.from_function_response(name="add", response={"result": 2})])
    with pytest.raises(errors.ClientError, match="missing a thought_signature"):
        client.models.generate_content(model=NEW, contents=[question, turn, result], config=tools(ADD))
    turn.parts[0].thought_signature = b"skip_thought_signature_validator"
    assert client.models.generate_content(model=NEW, contents=[question, turn, result], config=tools(ADD)).text


def test_the_sdk_calls_python_functions_by_itself(client: Any, server: MockServer) -> None:
    asked: list[str] = []

    def weather(city: str) -> str:
        """Tells the weather."""
        asked.append(city)
        return "sunny"

    config = types.GenerateContentConfig(tools=[weather])
    response = client.models.generate_content(model=NEW, contents="The weather, please.", config=config)
    assert "Mock answer" in response.text
    assert asked == ["city"]
    assert server.stats()["answered"] == 2


@pytest.mark.parametrize("mode", ["ANY", "NONE"])
def test_the_mode_is_obeyed(client: Any, mode: str) -> None:
    config = tools(ADD, SQUARE, tool_config={"function_calling_config": {"mode": mode}})
    calls = client.models.generate_content(model=NEW, contents="Then square.", config=config).function_calls or []
    assert [call.name for call in calls] == (["square"] if mode == "ANY" else [])


def test_functions_of_a_streamed_chat_are_answered(client: Any) -> None:
    chat = client.chats.create(model=NEW, config=tools(ADD, SQUARE))
    calls = [call for chunk in chat.send_message_stream("add and square") for call in chunk.function_calls or ()]
    results = [types.Part.from_function_response(name=call.name, response={"result": 2}) for call in calls]
    assert len(results) == 2
    assert "Mock answer" in chat.send_message(results).text


def test_function_calls_are_streamed_whole(client: Any) -> None:
    chunks = list(
        client.models.generate_content_stream(model=NEW, contents="add and square", config=tools(ADD, SQUARE))
    )
    calls = [part.function_call for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert [(call.name, bool(call.args)) for call in calls] == [("add", True), ("square", True)]


# ---------------------------------------------------------------------------------------------------- tokens and models


def test_tokens_are_counted(client: Any, vertex: Any) -> None:
    assert client.models.count_tokens(model=NEW, contents="x" * 40).total_tokens == 10
    config = types.CountTokensConfig(system_instruction="y" * 8)
    assert vertex.models.count_tokens(model=NEW, contents="x" * 40, config=config).total_tokens == 12


def test_models_are_listed_over_pages(client: Any, server: MockServer) -> None:
    pager = client.models.list(config={"page_size": 3})
    assert [model.name for model in pager.page] == [f"models/{name}" for name in (NEW, OLD, "model-0")]
    names = [model.name.removeprefix("models/") for model in pager]
    assert names == list(server.options.model_ids)
    assert "generateContent" in pager.page[0].supported_actions
    assert len(server.requests) == 3


def test_a_model_is_described(client: Any, vertex: Any) -> None:
    model = client.models.get(model=NEW)
    assert (model.name, model.thinking, model.input_token_limit) == (f"models/{NEW}", True, 1048576)
    assert vertex.models.get(model=NEW).name == f"publishers/google/models/{NEW}"


# ---------------------------------------------------------------------------------------------------- Vertex AI


def test_vertex_generates_and_streams(vertex: Any, server: MockServer) -> None:
    whole = vertex.models.generate_content(model=NEW, contents="Name a river.")
    chunks = list(vertex.models.generate_content_stream(model=NEW, contents="Name a river."))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert whole.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND
    assert whole.create_time is not None
    root = "/v1beta1/projects/my-project/locations/us-central1/publishers/google/models"
    assert server.requests[0].path == f"{root}/{NEW}:generateContent"
    assert server.requests[1].query == "alt=sse"


def test_vertex_lists_models(vertex: Any) -> None:
    names = [model.name for model in vertex.models.list(config={"page_size": 4})]
    assert names[:2] == [f"publishers/google/models/{NEW}", f"publishers/google/models/{OLD}"]
    assert len(names) == 7


def test_express_mode_needs_a_key_and_no_project() -> None:
    with MockServer(api_key="k") as server:
        options = types.HttpOptions(base_url=server.url)
        with genai.Client(vertexai=True, api_key="k", http_options=options) as client:
            assert client.models.generate_content(model=NEW, contents="Name a river.").text
        assert server.requests[0].path == f"/v1beta1/publishers/google/models/{NEW}:generateContent"


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("connect", "code", "status", "reasons"),
    [(developer, 400, "INVALID_ARGUMENT", ["API_KEY_INVALID"]), (on_vertex, 401, "UNAUTHENTICATED", [])],
)
def test_a_wrong_key_is_refused_as_google_does(
    connect: Callable[..., Any], code: int, status: str, reasons: list[str]
) -> None:
    with MockServer(api_key="right") as server:
        with connect(server, "wrong") as client, pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model=NEW, contents="hello")
        assert (caught.value.code, caught.value.status) == (code, status)
        assert [one["reason"] for one in caught.value.details["error"].get("details", ())] == reasons
        with connect(server, "right") as client:
            assert client.models.generate_content(model=NEW, contents="hello").text
            assert list(client.models.list())


def test_a_wrong_request_is_refused_with_the_field(client: Any) -> None:
    for stream in (False, True):
        with pytest.raises(errors.ClientError) as caught:
            ask = client.models.generate_content_stream if stream else client.models.generate_content
            list(ask(model=NEW, contents="hello", config={"temperature": 3}))
        assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
        assert "generation_config.temperature" in caught.value.message


@pytest.mark.parametrize(
    ("status", "kind", "name"),
    [
        (403, "ClientError", "PERMISSION_DENIED"),
        (404, "ClientError", "NOT_FOUND"),
        (429, "ClientError", "RESOURCE_EXHAUSTED"),
        (500, "ServerError", "INTERNAL"),
        (503, "ServerError", "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_raise_the_errors_of_the_sdk(status: int, kind: str, name: str, stream: bool) -> None:
    with MockServer(script=[Reply(status=status)]) as server, developer(server) as client:
        ask = client.models.generate_content_stream if stream else client.models.generate_content
        with pytest.raises(errors.APIError) as caught:
            list(ask(model=NEW, contents="hello"))
        assert (type(caught.value).__name__, caught.value.code, caught.value.status) == (kind, status, name)
        assert caught.value.message
        assert client.models.generate_content(model=NEW, contents="hello").text


def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    def break_off(request: ReceivedRequest) -> Reply:
        first = (ordinary_reply(request).pieces or ())[0]
        return Reply(pieces=(first, (0.0, b"data: %b\r\n\r\n" % (gemini.failure(503).body or b""))))

    with MockServer(script=break_off) as server, developer(server) as client:
        stream = client.models.generate_content_stream(model=NEW, contents="hello")
        assert next(stream).text
        with pytest.raises(errors.ServerError) as caught:
            next(stream)
        assert (caught.value.code, caught.value.status) == (503, "UNAVAILABLE")


def test_the_asynchronous_client_is_served_too(server: MockServer) -> None:
    async def ask() -> tuple[str, str]:
        async with developer(server).aio as client:
            whole = await client.models.generate_content(model=NEW, contents="hello")
            stream = await client.models.generate_content_stream(model=NEW, contents="hello")
            return whole.text, "".join([chunk.text async for chunk in stream])

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def test_a_rate_limit_says_when_to_come_again() -> None:
    with MockServer(rate_limit=0.01) as server, developer(server) as client:
        assert client.models.generate_content(model=NEW, contents="hello").text
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model=NEW, contents="hello")
        assert caught.value.code == 429
        waits = [one for one in caught.value.details["error"]["details"] if one["@type"].endswith("RetryInfo")]
        assert [one["retryDelay"] for one in waits] == ["1s"]


def test_a_model_that_is_not_listed_is_not_found(client: Any) -> None:
    with pytest.raises(errors.ClientError) as caught:
        client.models.get(model="nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_chats_are_counted_as_requests_with_their_prompts(client: Any, server: MockServer) -> None:
    client.models.generate_content(model=NEW, contents="one")
    list(client.models.generate_content_stream(model=NEW, contents="two"))
    client.models.count_tokens(model=NEW, contents="three")
    assert server.stats()["answered_prompts"] == {"one": 1, "two": 1}


# ---------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ("rate_limited", 429, "RESOURCE_EXHAUSTED"),
        ("quota", 429, "RESOURCE_EXHAUSTED"),
        ("unauthorized", 400, "INVALID_ARGUMENT"),
        ("forbidden", 403, "PERMISSION_DENIED"),
        ("not_found", 404, "NOT_FOUND"),
        ("bad_request", 400, "INVALID_ARGUMENT"),
        ("context_too_long", 400, "INVALID_ARGUMENT"),
        ("server_error", 500, "INTERNAL"),
        ("unavailable", 503, "UNAVAILABLE"),
        ("overloaded_stream", 503, "UNAVAILABLE"),
        ("broken_stream", 503, "UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_becomes_its_exception(fault: str, code: int, status: str, stream: bool) -> None:
    with MockServer(script=[fault]) as server, developer(server) as client:
        ask = client.models.generate_content_stream if stream else client.models.generate_content
        with pytest.raises(errors.APIError) as caught:
            list(ask(model=NEW, contents="hello"))
        assert (caught.value.code, caught.value.status) == (code, status)


def test_a_refusal_and_a_length_stop_are_told() -> None:
    with MockServer(script=["refusal", "length"]) as server, developer(server) as client:
        refused = client.models.generate_content(model=OLD, contents="hello").candidates[0]
        assert (refused.finish_reason, refused.content) == (types.FinishReason.SAFETY, None)
        assert refused.safety_ratings[0].blocked
        cut = client.models.generate_content(model=OLD, contents="hello")
        assert cut.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
        assert cut.text
