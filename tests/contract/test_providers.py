"""Every provider against the payloads in `tests/data/<provider>/`: one suite for all, so a new provider is a new folder.

What a file holds tells what it is for:

    {"source", "request": {"messages", "model", "params"?, "stream"?}, "target"?: {"base_url"?, "api_key"?, "headers"?},
     "expected_body", "expected_headers"?, "expected_url"?}
    {"source", "request": ..., "target"?, "expected_error": "a piece of the InputError's message"}
    {"source", "response": {"status", "headers", "body"}, "expected": {...}}    a body that is no text is sent as JSON
    {"source", "stream": "raw text", "expected": {...}}
    {"source", "models": {"status", "headers", "body"}, "expected": {"ids": [...], "page": null}}

`expected` gives the fields of the result; those it leaves out are empty, but for `native_finish_reason`, `native` and
`assistant_message`, which are looked at only where they are given. `expected.error` gives the class of the error, a piece
of its message, and its other attributes. A stream with an error may also have `content`: what came before it. A field
`"strange"` says why the official SDK's types do not accept what stands in a file: a dialect, or broken on purpose.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import flexllm.errors
from flexllm.chat import ChatCompletionResult, ChatRequest, ChunkCollector
from flexllm.errors import ApiStatusError, ConfigError, FlexLLMError, InputError, MalformedResponse, RequestError
from flexllm.providers import find_provider
from flexllm.providers.base import Provider
from flexllm.sse import parse_events
from flexllm.wire import NO_KEY, HttpResponse, Target

DATA = Path(__file__).parent.parent / "data"
PROVIDERS = sorted(folder.name for folder in DATA.iterdir() if folder.is_dir() and any(folder.glob("*.json")))
SECRET = "sk-proj-Zx81hTq0LmN4vBs7"

Payload = dict[str, Any]


def load(path: Path) -> Payload:
    payload: Payload = json.loads(path.read_text())
    return payload


def payloads(kind: str) -> list[Any]:
    return [
        pytest.param(folder, load(path), id=f"{folder}-{path.stem}")
        for folder in PROVIDERS
        for path in sorted((DATA / folder).glob("*.json"))
        if kind in load(path)
    ]


def provider_of(folder: str) -> Provider:
    return find_provider(folder, None)[0]


def response_of(payload: Payload) -> HttpResponse:
    given = payload["response"]
    body = given["body"] if isinstance(given["body"], str) else json.dumps(given["body"], ensure_ascii=False)
    return HttpResponse(given["status"], given["headers"], body.encode(), 0.25)


def read(provider: Provider, response: HttpResponse) -> ChatCompletionResult:
    """Read a reply as a backend does."""
    if 200 <= response.status < 300:
        return provider.parse(response)
    raise provider.error(response)


def fields(result: ChatCompletionResult) -> Payload:
    """The fields of a result that say something, as a payload gives them."""
    calls = None
    if result.tool_calls is not None:
        calls = [{"id": call.id, "type": call.type, "function": call.function} for call in result.tool_calls]
    found = {
        "content": result.content,
        "reasoning_content": result.reasoning_content,
        "tool_calls": calls,
        "finish_reason": result.finish_reason,
        "usage": result.usage,
        "model": result.model,
        "request_id": result.request_id,
    }
    return {name: value for name, value in found.items() if value is not None}


SELDOM = ("native_finish_reason", "native", "assistant_message")


def check(payload: Payload, result: ChatCompletionResult) -> None:
    expected = payload["expected"]
    assert fields(result) == {
        name: value for name, value in expected.items() if value is not None and name not in SELDOM
    }
    for name in SELDOM:
        if name in expected:
            assert getattr(result, name) == expected[name], name


def check_error(expected: Payload, error: BaseException) -> None:
    assert type(error).__name__ == expected["class"]
    assert isinstance(error, RequestError)
    assert expected.get("message", "") in str(error)
    for name in ("status", "code", "request_id", "retry_after"):
        if name in expected:
            assert getattr(error, name) == expected[name], name


class Collected:
    """What came of a stream: the result so far, and the error that ended it, if one did."""

    def __init__(self, provider: Provider, pieces: list[bytes]) -> None:
        collector = ChunkCollector()
        self.error: FlexLLMError | None = None
        self.pieces = 0
        try:
            for chunk in provider.chunks(parse_events(pieces)):
                collector.add(chunk)
                self.pieces += 1
        except FlexLLMError as error:
            self.error = error
        self.result = collector.result()

    def same(self) -> tuple[Any, ...]:
        return self.result, self.pieces, type(self.error), str(self.error)


# --- the payloads themselves ------------------------------------------------------------------------------------------


def test_there_are_payloads_for_every_provider_in_the_registry() -> None:
    with pytest.raises(ConfigError) as caught:
        find_provider("no such provider", None)
    registered = str(caught.value).partition("there are: auto, ")[2].split(", ")
    assert registered == PROVIDERS


@pytest.mark.parametrize("folder", PROVIDERS)
def test_every_payload_names_its_source_and_is_of_one_kind(folder: str) -> None:
    for path in (DATA / folder).glob("*.json"):
        payload = load(path)
        assert payload["source"].strip(), path.name
        assert len({"request", "response", "stream", "models"} & payload.keys()) == 1, path.name


# --- requests ---------------------------------------------------------------------------------------------------------


def build(folder: str, payload: Payload, **target: Any) -> tuple[Any, dict[str, str], Target]:
    asked = dict(payload["request"])
    stream = asked.pop("stream", False)
    settings = {**payload.get("target", {}), **target}
    headers = tuple((name, value) for name, value in settings.pop("headers", ()))
    provider, base_url = find_provider(folder, settings.pop("base_url", "http://host.example:8000/base/v1"))
    whom = Target(base_url=base_url, headers=headers, **settings)
    http_request = provider.build(ChatRequest(**asked), whom, stream=stream)
    names = [name.lower() for name, _ in http_request.headers]
    assert len(names) == len(set(names)), "a header is there twice"
    return http_request, dict(http_request.headers), whom


BUILT = [one for one in payloads("request") if "expected_body" in one.values[1]]
REFUSED = [one for one in payloads("request") if "expected_error" in one.values[1]]


@pytest.mark.parametrize(("folder", "payload"), REFUSED)
def test_what_a_provider_cannot_take_is_refused_before_it_is_sent(folder: str, payload: Payload) -> None:
    assert "expected_body" not in payload
    with pytest.raises(InputError) as caught:
        build(folder, payload)
    assert payload["expected_error"] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("folder", "payload"), BUILT)
def test_a_request_is_built(folder: str, payload: Payload) -> None:
    http_request, headers, target = build(folder, payload)
    assert json.loads(http_request.body) == payload["expected_body"]
    assert http_request.method == "POST"
    assert http_request.url == payload.get("expected_url", http_request.url)
    assert http_request.url.startswith(target.base_url + "/") or "expected_url" in payload
    assert headers["Content-Type"] == "application/json"
    for name, value in payload.get("expected_headers", {}).items():
        assert headers[name] == value


@pytest.mark.parametrize(("folder", "payload"), BUILT)
def test_a_request_is_compact_utf8_and_the_same_every_time(folder: str, payload: Payload) -> None:
    http_request, _, _ = build(folder, payload)
    assert http_request == build(folder, payload)[0]
    compact = json.dumps(json.loads(http_request.body), ensure_ascii=False, separators=(",", ":"))
    assert http_request.body.decode() == compact


@pytest.mark.parametrize(("folder", "payload"), payloads("request"))
def test_building_does_not_change_what_was_asked(folder: str, payload: Payload) -> None:
    before = json.dumps(payload)
    with contextlib.suppress(InputError):
        build(folder, payload)
    assert json.dumps(payload) == before


@pytest.mark.parametrize(("folder", "payload"), BUILT)
def test_the_key_stands_in_a_header_and_nowhere_else(folder: str, payload: Payload) -> None:
    http_request, headers, target = build(folder, payload, api_key=SECRET)
    if not {"authorization", "x-api-key", "x-goog-api-key"} & {name.lower() for name, _ in target.headers}:
        assert any(SECRET in value for value in headers.values())
    assert SECRET.encode() not in http_request.body
    assert SECRET not in http_request.url
    assert SECRET not in repr(http_request)


@pytest.mark.parametrize("folder", PROVIDERS)
def test_what_is_not_json_or_half_a_character_is_refused_before_it_is_sent(folder: str) -> None:
    provider, base_url = find_provider(folder, None)
    target = Target(base_url=base_url, api_key=SECRET)
    for content, params in (
        ("ok", {"x": object()}),
        ("ok", {"x": {1, 2}}),
        ("ok", {"x": float("nan")}),
        ("ok", {"x": float("-inf")}),
        ("half \ud83d", {}),
    ):
        request = ChatRequest([{"role": "user", "content": content}], "m", params)
        with pytest.raises(InputError):
            provider.build(request, target, stream=False)


@pytest.mark.parametrize("folder", PROVIDERS)
def test_a_provider_is_named_as_it_is_registered_and_knows_where_it_lives(folder: str) -> None:
    provider, base_url = find_provider(folder, None)
    assert provider.name == folder
    assert Target(base_url=base_url).base_url == base_url
    assert find_provider(folder, "http://own/v1")[1] == "http://own/v1"


def test_without_a_name_openais_format_is_spoken() -> None:
    assert find_provider("auto", None)[0].name == "openai"


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "payload"), payloads("response"))
def test_a_reply_is_read(folder: str, payload: Payload) -> None:
    response = response_of(payload)
    if "error" in payload["expected"]:
        with pytest.raises(RequestError) as caught:
            read(provider_of(folder), response)
        check_error(payload["expected"]["error"], caught.value)
        return
    result = read(provider_of(folder), response)
    check(payload, result)
    assert result.raw == json.loads(response.body)
    assert result.latency == response.elapsed
    assert (result.cached, result.attempts) == (False, 1)
    assert pickle.loads(pickle.dumps(result)) == result


ERRORS = [one for one in payloads("response") if "error" in one.values[1]["expected"]]


@pytest.mark.parametrize(("folder", "payload"), ERRORS)
def test_an_error_keeps_the_body_and_is_short_and_pickles(folder: str, payload: Payload) -> None:
    response = response_of(payload)
    with pytest.raises(RequestError) as caught:
        read(provider_of(folder), response)
    error = caught.value
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    if isinstance(error, ApiStatusError):
        assert error.body == response.body.decode()[:2000]


@pytest.mark.parametrize("folder", PROVIDERS)
@pytest.mark.parametrize("status", [400, 500])
def test_a_huge_error_body_is_cut(folder: str, status: int) -> None:
    error = provider_of(folder).error(HttpResponse(status, {}, "ü".encode() * 1_000_000))
    assert len(error.body) <= 2000
    assert len(str(error)) < 700


@pytest.mark.parametrize("folder", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequest"),
        (401, "AuthenticationFailed"),
        (402, "QuotaExhausted"),
        (403, "PermissionDenied"),
        (404, "NotFound"),
        (405, "BadRequest"),
        (413, "BadRequest"),
        (418, "BadRequest"),
        (422, "BadRequest"),
        (429, "RateLimited"),
        (500, "ServerError"),
        (501, "ServerError"),
        (502, "ServerError"),
        (503, "Overloaded"),
        (504, "ServerError"),
        (520, "ServerError"),
        (529, "Overloaded"),
        (302, "NotFound"),
        (101, "ApiStatusError"),
    ],
)
def test_a_status_alone_decides_the_class_where_the_body_says_nothing(folder: str, status: int, kind: str) -> None:
    for body in (b"", b"<html></html>", b"{}", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"error":null}'):
        error = provider_of(folder).error(HttpResponse(status, {}, body))
        assert type(error).__name__ == kind
        assert error.status == (404 if status == 302 else status)


JUNK = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "text", "\ud83d", [], [None], ["a"], {}, {"a": 1}, [{}], [[]], 10**30]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def spoilt(value: Any, place: tuple[Any, ...], junk: Any) -> Any:
    if not place:
        return junk
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[place[0]] = spoilt(value[place[0]], place[1:], junk)
    return copied


def spoils(body: Any) -> st.SearchStrategy[Any]:
    return st.builds(lambda place, junk: spoilt(body, place, junk), st.sampled_from(list(places(body))), JUNK)


REPLIES = [one for one in payloads("response") if not isinstance(one.values[1]["response"]["body"], str)]


@settings(max_examples=examples(200))
@given(st.sampled_from(REPLIES).flatmap(lambda one: st.tuples(st.just(one), spoils(one.values[1]["response"]["body"]))))
def test_whatever_stands_in_a_reply_it_is_read_or_an_error_of_ours(given: tuple[Any, Any]) -> None:
    (folder, payload), body = given[0].values, given[1]
    response = HttpResponse(payload["response"]["status"], payload["response"]["headers"], json.dumps(body).encode())
    try:
        result = read(provider_of(folder), response)
    except (ApiStatusError, MalformedResponse):
        return
    assert isinstance(result.content, str)
    assert all(isinstance(call.function["arguments"], str) for call in result.tool_calls or ())


@pytest.mark.parametrize("folder", PROVIDERS)
def test_a_reply_nested_beyond_reason_is_malformed(folder: str) -> None:
    body = b'{"choices":' + b"[" * 100_000
    for status in (200, 500):
        with pytest.raises(RequestError):
            read(provider_of(folder), HttpResponse(status, {}, body))
    assert isinstance(Collected(provider_of(folder), [b"data: " + body]).error, MalformedResponse)


@pytest.mark.parametrize("folder", PROVIDERS)
def test_a_request_nested_beyond_reason_is_refused(folder: str) -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    provider, base_url = find_provider(folder, None)
    request = ChatRequest([{"role": "user", "content": "Hi"}], "m", {"x": nested})
    with pytest.raises(InputError):
        provider.build(request, Target(base_url=base_url), stream=False)


# --- lists of models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "payload"), payloads("models"))
def test_a_list_of_models_is_read(folder: str, payload: Payload) -> None:
    response = response_of({"response": payload["models"]})
    if "error" in payload["expected"]:
        with pytest.raises(RequestError) as caught:
            provider_of(folder).models(response)
        check_error(payload["expected"]["error"], caught.value)
        return
    ids, page = provider_of(folder).models(response)
    assert {"ids": ids, "page": page} == payload["expected"]


@pytest.mark.parametrize("folder", PROVIDERS)
def test_the_list_of_models_is_asked_for_with_the_key_in_a_header(folder: str) -> None:
    provider, base_url = find_provider(folder, None)
    for page in (None, "next-1"):
        asked = provider.models_request(Target(base_url=base_url, api_key=SECRET), page)
        assert (asked.method, asked.body) == ("GET", b"")
        assert any(SECRET in value for _, value in asked.headers)
        assert SECRET not in asked.url
        assert asked.url.startswith("https://")


@pytest.mark.parametrize("folder", PROVIDERS)
def test_a_provider_knows_its_own_replies_and_no_others(folder: str) -> None:
    for name, payload in (one.values for one in payloads("response")):
        body = payload["response"]["body"]
        if "content" in payload["expected"] and isinstance(body, dict):
            assert provider_of(folder).owns(body) == (name == folder)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "payload"), payloads("stream"))
def test_a_stream_is_read(folder: str, payload: Payload) -> None:
    came = Collected(provider_of(folder), [payload["stream"].encode()])
    if "error" in payload["expected"]:
        assert came.error is not None, "it was read without an error"
        check_error(payload["expected"]["error"], came.error)
        assert came.result.content == payload["expected"].get("content", "")
        return
    assert came.error is None, repr(came.error)
    check(payload, came.result)


@pytest.mark.parametrize(("folder", "payload"), payloads("stream"))
def test_a_stream_in_single_bytes_is_the_same_stream(folder: str, payload: Payload) -> None:
    stream = payload["stream"].encode()
    whole = Collected(provider_of(folder), [stream])
    assert Collected(provider_of(folder), [stream[at : at + 1] for at in range(len(stream))]).same() == whole.same()


STREAMS = payloads("stream")
LONGEST = [
    one
    for folder in PROVIDERS
    for one in sorted(
        (one for one in STREAMS if one.values[0] == folder), key=lambda one: -len(one.values[1]["stream"])
    )[:3]
]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "payload"), LONGEST)
def test_a_stream_cut_in_two_at_every_byte_is_the_same_stream(folder: str, payload: Payload) -> None:
    stream = payload["stream"].encode()
    whole = Collected(provider_of(folder), [stream]).same()
    for at in range(len(stream) + 1):
        assert Collected(provider_of(folder), [stream[:at], stream[at:]]).same() == whole, at


@settings(max_examples=examples(300))
@given(st.sampled_from(STREAMS), st.lists(st.floats(0, 1), max_size=8))
def test_a_stream_cut_anywhere_is_the_same_stream(one: Any, places: list[float]) -> None:
    folder, payload = one.values
    stream = payload["stream"].encode()
    cuts = [0, *sorted(round(place * len(stream)) for place in places), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(cuts)]
    assert Collected(provider_of(folder), pieces).same() == Collected(provider_of(folder), [stream]).same()


def check_early_end(folder: str, payload: Payload, length: int) -> None:
    stream = payload["stream"].encode()
    came = Collected(provider_of(folder), [stream[:length]])
    assert Collected(provider_of(folder), [stream]).result.content.startswith(came.result.content)
    if came.error is None:
        assert came.result.finish_reason or b"[DONE]" in stream[:length]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "payload"), LONGEST)
def test_a_stream_that_ends_at_any_byte_is_an_error_or_had_its_finish(folder: str, payload: Payload) -> None:
    for length in range(len(payload["stream"].encode())):
        check_early_end(folder, payload, length)


@settings(max_examples=examples(300))
@given(st.sampled_from(STREAMS), st.floats(0, 1, exclude_max=True))
def test_a_stream_that_ends_anywhere_is_an_error_or_had_its_finish(one: Any, place: float) -> None:
    folder, payload = one.values
    check_early_end(folder, payload, int(place * len(payload["stream"].encode())))


def stream_bodies(text: str) -> list[Any]:
    bodies = []
    for event in parse_events([text.encode()]):
        try:
            bodies.append(json.loads(event.data))
        except ValueError:
            bodies.append(event.data)
    return bodies


@settings(max_examples=examples(100))
@given(
    st.sampled_from(STREAMS).flatmap(
        lambda one: st.tuples(st.just(one), spoils(stream_bodies(one.values[1]["stream"])))
    )
)
def test_whatever_stands_in_a_stream_it_is_read_or_an_error_of_ours(given: tuple[Any, Any]) -> None:
    (folder, _), bodies = given[0].values, given[1]
    events = bodies if isinstance(bodies, list) else [bodies]
    text = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    came = Collected(provider_of(folder), [text.encode("utf-8", "replace")])
    assert came.error is None or isinstance(came.error, (ApiStatusError, MalformedResponse))
    assert isinstance(came.result.content, str)


def test_every_class_that_payloads_expect_exists() -> None:
    for kind in ("response", "stream"):
        for one in payloads(kind):
            error = one.values[1]["expected"].get("error")
            assert error is None or issubclass(getattr(flexllm.errors, error["class"]), FlexLLMError)


def test_the_customary_key_is_sent_where_none_is_given() -> None:
    provider, base_url = find_provider("openai", None)
    request = ChatRequest([{"role": "user", "content": "Hi"}], "m")
    headers = dict(provider.build(request, Target(base_url=base_url, api_key=""), stream=False).headers)
    assert headers["Authorization"] == f"Bearer {NO_KEY}"
