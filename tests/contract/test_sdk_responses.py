"""Every reply in `tests/data` against the types of the official SDKs: what we take for a real reply, they must take too.

Judged twice: by the SDKs' own pydantic models, strictly, and by a walk of the same types that refuses unknown fields too.
Replies of dialects, and those broken on purpose, are marked here with the reason and the place.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import IO, Any, ClassVar, Literal, NamedTuple

import pytest

# Older ones do not know the services' newest fields and words.
pytest.importorskip("openai", minversion="3")
pytest.importorskip("anthropic", minversion="2")
pytest.importorskip("google.genai", minversion="3")

import anthropic.types
import openai.types.chat
import openai.types.shared
import pydantic
from anthropic.types.shared.error_response import ErrorResponse
from contract.sdk_types import (
    UNKNOWN,
    WRONG,
    Complaint,
    Json,
    Kind,
    Marks,
    Payload,
    complaints,
    load,
    needless,
    twins,
    unmarked,
)
from google.genai import errors as google_errors
from google.genai import types as google_types
from typing_extensions import NotRequired, Required, TypedDict

from flexllm.sse import parse_events

# --- whose types ------------------------------------------------------------------------------------------------------


class OpenAIError(TypedDict):
    error: openai.types.shared.ErrorObject


class Ping(pydantic.BaseModel):
    """Sent by Anthropic to keep a stream alive; the SDK drops it without a look."""

    type: Literal["ping"]


GoogleStatus = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
]
"""Source: google.rpc.Code."""


class OpenAIModels(TypedDict):
    object: Literal["list"]
    data: list[openai.types.Model]


class AnthropicModels(TypedDict):
    data: list[anthropic.types.ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


MODELS = {"openai": ("OpenAI", OpenAIModels), "claude": ("Anthropic", AnthropicModels)}
"""By folder: how the sources of the service's own lists begin, and their type. Google's SDK gives the fields of a model
other names than they have in the reply, so there is nothing to compare with."""


class GoogleErrorFields(TypedDict):
    """The SDK has no type for it. Source: google.rpc.Status and Google's API design guide (AIP-193)."""

    code: int
    message: str
    status: GoogleStatus
    details: NotRequired[list[dict[str, Any]]]


class GoogleError(TypedDict):
    """Alone, or in a list of one, where a stream was asked for without `alt=sse`: the SDK takes both."""

    error: GoogleErrorFields


class Sdk(NamedTuple):
    """The types of one SDK, and where in a reply anything may stand."""

    reply: Kind
    event: Kind
    error: Kind
    keeps_unknown: bool
    open_places: frozenset[str] = frozenset()


SDKS = {
    "openai": Sdk(
        openai.types.chat.ChatCompletion, openai.types.chat.ChatCompletionChunk, OpenAIError, keeps_unknown=True
    ),
    "claude": Sdk(
        anthropic.types.Message,
        anthropic.types.RawMessageStreamEvent | Ping,
        ErrorResponse,
        keeps_unknown=True,
        open_places=frozenset({"content[].input"}),
    ),
    "gemini": Sdk(
        google_types.GenerateContentResponse,
        google_types.GenerateContentResponse,
        GoogleError | list[GoogleError],
        keeps_unknown=False,
        open_places=frozenset(
            {"candidates[].content.parts[].functionCall.args", "candidates[].content.parts[].functionResponse.response"}
        ),
    ),
}
FOLDERS = [folder for folder in SDKS if load(folder)]

# --- what is strange --------------------------------------------------------------------------------------------------

COUNTS = "counts and prices under a server's own names"
ERROR_BESIDE = "gateways and OpenRouter: an error beside the choices, or in one"
FINISH = "a server's own word, or none"
MINIMAX = "MiniMax: how it went, beside or in place of a reply"
NO_ID = "gateways that leave out what tells tool calls apart"
OBJECT = "gateways: arguments as an object"
PARTS = "Mistral: content as a list of parts"
REASONING = "the reasoning itself, which OpenAI does not give"

STRANGE: Marks = {
    ("gemini", ""): (
        "a proxy's own page or line",
        "error_308_redirect",
        "error_404_html",
        "error_500_empty",
        "error_502_html",
        "stream_done_mark_and_comments",
    ),
    ("gemini", "error"): ("gateways", "error_400_text", "error_403_message_alone"),
    ("gemini", "message"): ("gateways", "error_403_message_alone"),
    ("gemini", "error.details[]"): ("broken on purpose", "error_429_details_odd"),
    ("openai", "*"): (
        "another envelope, or none",
        "reply_200_with_context_error",
        "reply_200_with_error_and_status",
        "reply_minimax_1*",
        "reply_minimax_2*",
        "reply_smallest_useful",
        "stream_delta_missing",
        "stream_error_event_named",
        "stream_error_event_of_old_vllm",
        "stream_minimax_error",
        "stream_smallest",
    ),
    ("openai", ""): ("a proxy's own line", "stream_talk_after_done"),
    ("openai", "base_resp"): (MINIMAX, "reply_minimax_*", "stream_minimax_*"),
    ("openai", "choices[].delta.content"): (PARTS, "stream_content_as_parts", "stream_thinking_parts_mistral"),
    ("openai", "choices[].delta.reasoning"): (REASONING, "stream_reasoning", "stream_reasoning_details"),
    ("openai", "choices[].delta.reasoning_content"): (REASONING, "stream_reasoning_content"),
    ("openai", "choices[].delta.reasoning_details"): (REASONING, "stream_reasoning_details*"),
    ("openai", "choices[].delta.tool_calls[].function.arguments"): (OBJECT, "stream_tool_call_arguments_as_object"),
    ("openai", "choices[].delta.tool_calls[].index"): (NO_ID, "stream_tool_call*_without_index"),
    ("openai", "choices[].error"): (ERROR_BESIDE, "reply_choice_error_*", "stream_choice_error_openrouter"),
    ("openai", "choices[].finish_reason"): (
        FINISH,
        "reply_choice_error_openrouter",
        "reply_finish_*",
        "stream_choice_error_openrouter",
        "stream_error_event_of_openrouter",
        "stream_finish_*",
    ),
    ("openai", "choices[].message.content"): (PARTS, "reply_content_as_parts*", "reply_thinking_and_text_mistral"),
    ("openai", "choices[].message.reasoning"): (REASONING, "reply_reasoning", "reply_reasoning_with_details"),
    ("openai", "choices[].message.reasoning_content"): (
        REASONING,
        "reply_only_reasoning",
        "reply_reasoning_content",
        "reply_reasoning_null",
    ),
    ("openai", "choices[].message.reasoning_details"): (
        REASONING,
        "reply_minimax_reasoning_details",
        "reply_reasoning_with_details",
    ),
    ("openai", "choices[].message.tool_calls[]"): (OBJECT, "reply_tool_call_arguments_as_object"),
    ("openai", "choices[].message.tool_calls[].id"): (NO_ID, "reply_tool_calls_without_ids"),
    ("openai", "choices[].native_finish_reason"): (
        "OpenRouter: the word of the model's own server",
        "reply_finish_native_openrouter",
        "stream_finish_native_openrouter",
    ),
    ("openai", "choices[].usage"): (COUNTS, "stream_usage_kimi_in_the_choice"),
    ("openai", "error"): (
        ERROR_BESIDE,
        "reply_200_with_error_as_text",
        "reply_created_without_choices_error_null",
        "stream_error_event_as_text",
        "stream_error_event_of_openrouter",
    ),
    ("openai", "error.code"): ("gateways: the status as the code", "stream_error_event"),
    ("openai", "error.type"): ("gateways", "reply_200_with_error_and_status_as_text", "stream_error_event_quota"),
    ("openai", "provider"): ("OpenRouter", "reply_reasoning_with_details"),
    ("openai", "usage.cache_write_tokens"): (COUNTS, "reply_usage_cached_null_at_the_top"),
    ("openai", "usage.cached_tokens"): (COUNTS, "reply_usage_cached_*"),
    ("openai", "usage.completion_time"): (COUNTS, "reply_usage_groq"),
    ("openai", "usage.completion_tokens"): (
        "gateways: numbers as texts and floats",
        "reply_usage_negative_and_garbage",
        "reply_usage_odd_numbers",
    ),
    ("openai", "usage.cost"): (COUNTS, "reply_reasoning_with_details", "reply_usage_cache_write_openrouter"),
    ("openai", "usage.cost_details"): (COUNTS, "reply_usage_cache_write_openrouter"),
    ("openai", "usage.is_byok"): (COUNTS, "reply_reasoning_with_details"),
    ("openai", "usage.prompt_cache_hit_tokens"): (COUNTS, "reply_reasoning_content", "reply_usage_cached_deepseek"),
    ("openai", "usage.prompt_cache_miss_tokens"): (COUNTS, "reply_reasoning_content", "reply_usage_cached_deepseek"),
    ("openai", "usage.prompt_time"): (COUNTS, "reply_usage_groq"),
    ("openai", "usage.prompt_tokens"): ("gateways: numbers as texts", "reply_usage_odd_numbers"),
    ("openai", "usage.queue_time"): (COUNTS, "reply_usage_groq"),
    ("openai", "usage.reasoning_tokens"): (
        COUNTS,
        "reply_usage_cached_null_at_the_top",
        "reply_usage_reasoning_outside_at_the_top",
    ),
    ("openai", "usage.total_time"): (COUNTS, "reply_usage_groq"),
    ("openai", "usage.total_tokens"): (
        "gateways: left out, null, no number",
        "reply_usage_negative_and_garbage",
        "reply_usage_odd_numbers",
        "reply_usage_without_total",
    ),
    ("openai", "x_groq"): (COUNTS, "stream_usage_groq"),
}
"""Only for payloads that do not say it themselves, in their field "strange"."""

READ_BY_NOBODY = {
    ("openai", "reply_choices_empty"): "the types allow an empty list",
    ("gemini", "reply_candidates_empty"): "in protocol buffers every field may be left out",
    ("gemini", "reply_candidates_null"): "in protocol buffers every field may be left out",
    ("gemini", "reply_empty_object"): "in protocol buffers every field may be left out",
}
"""What we call malformed, though the types allow it."""

# --- judging ----------------------------------------------------------------------------------------------------------

KINDS = ("response", "stream", "error")

NOT_JSON = Complaint("", WRONG, "no JSON")


def said_wrong(payload: Payload) -> str | None:
    """The class of the error that we make of a payload."""
    found: str | None = payload["expected"].get("error", {}).get("class")
    return found


def replies(folder: str, kind: str) -> list[Any]:
    """The payloads with a reply ("response", "error") or a stream."""
    found = []
    for stem, payload in load(folder).items():
        status = payload.get("response", {}).get("status", 0)
        its_kind = "stream" if "stream" in payload else "response" if 200 <= status < 300 else "error" if status else ""
        if its_kind == kind:
            found.append(pytest.param(folder, stem, payload, id=f"{folder}-{stem}"))
    return found


def all_of(kind: str) -> list[Any]:
    return [one for folder in FOLDERS for one in replies(folder, kind)]


def text_of(payload: Payload) -> str:
    body = payload["response"]["body"]
    return body if isinstance(body, str) else json.dumps(body)


def judge(text: str, *kinds: Kind) -> list[Complaint]:
    """Return the complaints about a text by the kind that has the fewest."""
    try:
        value = json.loads(text)
    except ValueError:
        return [NOT_JSON]
    return min((complaints(value, kind) for kind in kinds), key=len)


@functools.cache
def adapter(kind: Kind) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def pydantic_accepts(text: str, kind: Kind) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Google's enums warn of a value that they do not know, and make it up
        try:
            adapter(kind).validate_json(text, strict=True)
        except (pydantic.ValidationError, UserWarning):
            return False
    return True


def events_of(folder: str, payload: Payload) -> Iterator[tuple[str, str]]:
    """The events of a stream that should be what the service promises: name and data."""
    events = [(event.name, event.data) for event in parse_events([payload["stream"].encode()])]
    events = [event for event in events if not (folder == "openai" and event[1] == "[DONE]")]
    if said_wrong(payload) == "MalformedResponse" and events and judge(events[-1][1], dict):
        events.pop()  # cut off on purpose
    yield from events


# --- replies ----------------------------------------------------------------------------------------------------------


def judged(folder: str, payload: Payload) -> list[Complaint]:
    """Return the complaints about a payload by the types that it should obey.

    An error within a reply of status 200, or a stream, may be one of the SDK's errors, unless the payload says that it is
    strange there.
    """
    sdk = SDKS[folder]
    or_error = (sdk.error,) if said_wrong(payload) and "strange" not in payload else ()
    if "stream" in payload:
        found = []
        for event, data in events_of(folder, payload):
            found += (said := judge(data, sdk.event, *or_error))
            if folder == "claude" and said != [NOT_JSON] and event != json.loads(data).get("type"):
                found.append(Complaint("event", WRONG, event))  # the SDK goes by the event's name
        return found
    if not 200 <= payload["response"]["status"] < 300:
        return judge(text_of(payload), sdk.error)
    return judge(text_of(payload), sdk.reply, *or_error)


@pytest.mark.parametrize(("folder", "stem", "payload"), all_of("response"))
def test_a_reply_is_what_the_sdks_types_say(folder: str, stem: str, payload: Payload) -> None:
    if (folder, stem) in READ_BY_NOBODY:
        assert (said_wrong(payload), judged(folder, payload)) == ("MalformedResponse", [])
    elif said_wrong(payload) == "MalformedResponse":
        assert judged(folder, payload) != []
    else:
        assert unmarked(folder, stem, judged(folder, payload), STRANGE) == []


@pytest.mark.parametrize(("folder", "stem", "payload"), all_of("stream"))
def test_an_event_of_a_stream_is_what_the_sdks_types_say(folder: str, stem: str, payload: Payload) -> None:
    found = judged(folder, payload)
    if found or said_wrong(payload) != "MalformedResponse":  # or it is what is left out that is wrong
        assert unmarked(folder, stem, found, STRANGE) == []


def models_of_the_service() -> list[Any]:
    return [
        pytest.param(payload, kind, id=f"{folder}-{stem}")
        for folder, (source, kind) in MODELS.items()
        for stem, payload in load(folder).items()
        if "models" in payload and payload["source"].startswith(source) and "error" not in payload["expected"]
    ]


@pytest.mark.parametrize(("payload", "kind"), models_of_the_service())
def test_a_list_of_models_is_what_the_sdks_types_say(payload: Payload, kind: Kind) -> None:
    assert complaints(payload["models"]["body"], kind) == []


def errors_of_the_service() -> list[Any]:
    """Whose errors are no model of OpenAI's, a payload's source tells; there are too many of them to be marked."""
    return [one for one in all_of("error") if one.values[0] != "openai" or one.values[2]["source"].startswith("OpenAI")]


@pytest.mark.parametrize(("folder", "stem", "payload"), errors_of_the_service())
def test_an_error_body_is_what_the_sdks_types_say(folder: str, stem: str, payload: Payload) -> None:
    assert unmarked(folder, stem, judged(folder, payload), STRANGE) == []


@pytest.mark.parametrize(
    ("stem", "payload"),
    [one.values[1:] for one in all_of("error") if one.values[0] == "gemini" and not judged("gemini", one.values[2])],
)
def test_googles_sdk_reads_the_same_message_and_status(stem: str, payload: Payload) -> None:
    body = json.loads(text_of(payload))
    error = google_errors.APIError(payload["response"]["status"], body)
    fields = (body[0] if isinstance(body, list) else body)["error"]
    assert (error.message, error.status, error.code) == (fields["message"], fields["status"], fields["code"])


@pytest.mark.parametrize(("folder", "place"), STRANGE)
def test_a_mark_gives_a_reason_and_each_payload_that_it_names_needs_it(folder: str, place: str) -> None:
    assert STRANGE[folder, place][0].strip()
    assert needless(folder, place, STRANGE, found_in(folder)) == []


@functools.cache
def found_in(folder: str) -> dict[str, list[Complaint]]:
    return {one.values[1]: judged(folder, one.values[2]) for kind in KINDS for one in replies(folder, kind)}


# --- the judge --------------------------------------------------------------------------------------------------------


def texts_and_kinds(folder: str) -> Iterator[tuple[str, Kind]]:
    for one in replies(folder, "response"):
        yield text_of(one.values[2]), SDKS[folder].reply
    for one in replies(folder, "stream"):
        yield from ((data, SDKS[folder].event) for _, data in events_of(folder, one.values[2]))


class Named(TypedDict, total=False):
    name: Required[str]
    size: float


class Sized(TypedDict):
    type: Literal["sized"]
    size: NotRequired[int]


class Received(pydantic.BaseModel):
    shape: str


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, int, [": wrong"]),
        (1, bool, [": wrong"]),
        (1.0, int, [": wrong"]),
        (1, float, []),
        (None, str, [": wrong"]),
        (None, str | None, []),
        (1, Literal[1], []),
        (True, Literal[1], [": wrong"]),
        ("b", Literal["a"], [": wrong"]),
        ("stop", google_types.FinishReason, [": wrong"]),
        ("STOP", google_types.FinishReason, []),
        ("AAE=", bytes, []),
        ("AAE", bytes, [": wrong"]),
        ("2026-01-31T12:00:00.5Z", datetime, []),
        ("soon", datetime, [": wrong"]),
        ("a file", IO[bytes], [": wrong"]),
        ([1, "a", 2, "b"], Iterable[int], ["[]: wrong", "[]: wrong"]),
        ("text", Sequence[str], [": wrong"]),
        ({"a": 1, "b": "c"}, dict[str, str], ["a: wrong"]),
        ([{"name": "a"}, {"size": 1}], list[Named], ["[].name: missing"]),
        ({"name": "a", "size": "b", "more": {}}, Named, ["size: wrong", "more: unknown"]),
        ({}, Sized, ["type: missing"]),
        ({"type": "sized", "size": "b"}, Named | Sized | str, ["size: wrong"]),
        ({"type": "other"}, Sized | str, [": wrong"]),
        ([1], str | list[str], ["[]: wrong"]),
        ({"shape": "a"}, Received | str, []),
        ({"shape": "a"}, Received | Named | str, ["name: missing", "shape: unknown"]),  # sent, not received
        ({"any": [None]}, Any, []),
    ],
)
def test_the_walk_finds_what_is_wrong_and_where(value: Json, kind: Kind, expected: list[str]) -> None:
    assert [f"{one.place}: {one.fault}" for one in complaints(value, kind)] == expected


def test_the_walk_refuses_an_annotation_that_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="does not know"):
        complaints("a", ClassVar[str])


def test_a_mark_that_no_payload_needs_is_found() -> None:
    marks = {("f", "a"): ("why", "x", "y*", "z"), ("f", "*"): ("why", "x", "z")}
    found = {"x": [Complaint("a", UNKNOWN)], "y1": [Complaint("b", UNKNOWN)], "z": []}
    assert needless("f", "a", marks, found) == ["y*", "z"]
    assert needless("f", "*", marks, found) == ["z"]


def test_a_payload_that_calls_itself_strange_and_is_not_is_found() -> None:
    folder, stem = next((folder, stem) for folder in FOLDERS for stem, one in load(folder).items() if "strange" in one)
    assert unmarked(folder, stem, [Complaint("anywhere", UNKNOWN)], {}) == []
    assert "take the word away" in unmarked(folder, stem, [], {})[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_pydantic_judges_as_the_walk_does(folder: str) -> None:
    """But for unknown fields, which two of the SDKs keep."""
    judged = 0
    for text, kind in dict.fromkeys(texts_and_kinds(folder)):
        found = judge(text, kind)
        if SDKS[folder].keeps_unknown:
            found = [one for one in found if one.fault != UNKNOWN]
        assert pydantic_accepts(text, kind) is (not found), (text[:300], [*map(str, found)])
        judged += 1
    assert judged > 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_twin_of_a_good_reply_with_one_fault_is_refused(folder: str) -> None:
    refused = 0
    for one in replies(folder, "response"):
        text, kind = text_of(one.values[2]), SDKS[folder].reply
        if judge(text, kind):
            continue
        for twin in twins(json.loads(text), (), SDKS[folder].open_places.__contains__):
            assert complaints(twin.body, kind), f"{one.id}: {twin.fault}"
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_there_are_good_replies_streams_and_errors_to_judge(folder: str) -> None:
    for kind in KINDS:
        good = [one for one in replies(folder, kind) if not judged(folder, one.values[2])]
        assert len(good) > 3, kind


def test_what_nobody_reads_is_there() -> None:
    assert [stem for folder, stem in READ_BY_NOBODY if stem not in load(folder)] == []
