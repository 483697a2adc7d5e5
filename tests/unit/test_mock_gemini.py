"""The Gemini dialect: what is answered, streamed, counted, listed and refused. No socket."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.mock import ReceivedRequest, Reply, gemini
from flexllm.mock.gemini.models import family, is_thinking
from flexllm.mock.gemini.signatures import DUMMY, call_signature, text_signature

NEW, OLD = "gemini-3.8-flash", "gemini-2.5-flash"
V1BETA = "/v1beta/models"
VERTEX = "/v1beta1/projects/p/locations/global/publishers/google/models"
ASKED = {"role": "user", "parts": [{"text": "Name a river in Asia, please."}]}
NUMBERS = {
    "type": "OBJECT",
    "properties": {"a": {"type": "INTEGER"}, "b": {"type": "STRING", "enum": ["x", "y"]}, "c": {"type": "BOOLEAN"}},
    "required": ["a", "b"],
}
TOOLS = [{"functionDeclarations": [{"name": "add", "parameters": NUMBERS}, {"name": "sub.two"}]}]
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def call(name: str = "add", signature: str | None = DUMMY.decode(), **more: Any) -> dict[str, Any]:
    signed = {} if signature is None else {"thoughtSignature": signature}
    return {"functionCall": {"name": name, "args": {"a": 1}, **more}, **signed}


def result(name: str = "add", **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"result": "2"}, **more}}


def send(
    body: object,
    name: str = NEW,
    action: str = "generateContent",
    *,
    root: str = V1BETA,
    query: str = "",
    **options: Any,
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = ReceivedRequest(method="POST", path=f"{root}/{name}:{action}", query=query, body=raw)
    return gemini.reply(request, (), options.get("token_delay", 0.0))


def answer(body: object = None, name: str = NEW, **options: Any) -> Any:
    reply = send({"contents": [ASKED]} if body is None else body, name, **options)
    assert reply.status == 200, reply.body
    return json.loads(reply.body or b"")


def ask(*contents: Any, name: str = NEW, root: str = V1BETA, **fields: Any) -> Any:
    """The parsed answer to these contents, or to the usual question."""
    return answer({"contents": list(contents) or [ASKED], **fields}, name, root=root)


def parts(whole: Any) -> Any:
    return whole["candidates"][0]["content"].get("parts", [])


def text(whole: Any) -> str:
    return "".join(part.get("text", "") for part in parts(whole) if not part.get("thought"))


def chunks(body: object = None, name: str = NEW, **options: Any) -> list[Any]:
    """The parsed events of a stream."""
    reply = send(body or {"contents": [ASKED]}, name, "streamGenerateContent", query="alt=sse", **options)
    assert reply.status == 200, reply.body
    blocks = b"".join(piece for _, piece in reply.pieces or ()).decode().split("\r\n\r\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


def refusal(body: object, name: str = NEW, **options: Any) -> Any:
    """The error of a 400."""
    reply = send(body, name, **options)
    assert reply.status == 400, reply.body
    error = json.loads(reply.body or b"")["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    return error


def field(error: Any) -> str:
    found = error["details"][0]["fieldViolations"][0]["field"]
    assert isinstance(found, str)
    return found


# ---------------------------------------------------------------------------------------------------- answers


def test_an_answer_has_the_fields_that_google_sends() -> None:
    whole = ask(name=OLD)
    assert set(whole) == {"candidates", "usageMetadata", "modelVersion", "responseId"}
    assert whole["modelVersion"] == OLD
    (candidate,) = whole["candidates"]
    assert (candidate["index"], candidate["finishReason"], candidate["content"]["role"]) == (0, "STOP", "model")
    assert "Name a river in Asia, please." in text(whole)


def test_the_same_request_gets_the_same_answer_on_any_machine() -> None:
    # Literal values, computed with b2sum(1): who has recorded replies would notice a change.
    assert ask() == ask()
    assert text(ask()) == 'Mock answer 8c90859c89be: you wrote "Name a river in Asia, please.". There is little to add.'


def test_both_spellings_are_the_same_request() -> None:
    camel = {
        "contents": [user("Describe add", PICTURE, {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/c"}})],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "maxOutputTokens": 500,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "tools": [{"functionDeclarations": [{"name": "add", "parametersJsonSchema": {"type": "object"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}},
    }

    def snake(value: Any) -> Any:
        if isinstance(value, list):
            return [snake(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): snake(one) for name, one in value.items()}

    assert snake(camel) != camel
    assert answer(snake(camel)) == answer(camel)
    assert answer(snake(camel))["candidates"][0]["content"]["parts"][1]["functionCall"]["name"] == "add"


def test_what_protocol_buffers_are_lenient_about_is_accepted() -> None:
    tidy = {
        "contents": [{"parts": [{"text": "hello"}]}],
        "generationConfig": {
            "topK": 40,
            "topP": 0.5,
            "maxOutputTokens": 900,
            "thinkingConfig": {"thinkingLevel": "LOW"},
        },
    }
    loose = {
        "contents": {"parts": {"text": "hello", "thought": None}},
        "systemInstruction": None,
        "generationConfig": {
            "topK": 40.0,
            "topP": "0.5",
            "max_output_tokens": "900",
            "thinkingConfig": {"thinking_level": "low"},
        },
    }
    assert answer(loose) == answer(tidy)


@pytest.mark.parametrize(
    "other",
    [
        {"contents": [user("Name a lake.")]},
        {"generationConfig": {"temperature": 0.5}},
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}},
    ],
)
def test_a_different_request_gets_a_different_answer(other: dict[str, Any]) -> None:
    assert text(answer({"contents": [ASKED], **other})) != text(ask())
    assert answer({"contents": [ASKED], **other})["responseId"] != ask()["responseId"]


@pytest.mark.parametrize("config", [{"thinkingConfig": {"includeThoughts": True}}, {"maxOutputTokens": 4000}])
def test_how_an_answer_is_shown_does_not_change_what_it_says(config: dict[str, Any]) -> None:
    assert text(ask(generationConfig=config)) == text(ask())


def test_a_limit_cuts_and_counts_the_thoughts() -> None:
    thoughts = ask()["usageMetadata"]["thoughtsTokenCount"]
    short = ask(generationConfig={"maxOutputTokens": thoughts + 3})
    assert short["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert text(short) == text(ask())[:12]
    assert short["usageMetadata"]["candidatesTokenCount"] == 3


def test_a_limit_used_up_by_thinking_leaves_no_parts() -> None:
    short = ask(generationConfig={"maxOutputTokens": 5})
    assert short["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]
    assert short["usageMetadata"]["thoughtsTokenCount"] == 5
    assert "candidatesTokenCount" not in short["usageMetadata"]


def test_a_stop_sequence_ends_the_text() -> None:
    whole = ask(generationConfig={"stopSequences": ["never", "you wrote"]})
    assert text(whole).endswith(": ")
    assert whole["candidates"][0]["finishReason"] == "STOP"


def test_each_candidate_has_its_own_text() -> None:
    whole = ask(generationConfig={"candidateCount": 3})
    texts = [candidate["content"]["parts"][0]["text"] for candidate in whole["candidates"]]
    assert len(set(texts)) == 3
    assert texts[0] == text(ask())
    assert [candidate["index"] for candidate in whole["candidates"]] == [0, 1, 2]


def test_a_blocked_prompt_has_feedback_and_no_candidates() -> None:
    whole = ask(user("This is a BLOCKED PROMPT."))
    assert whole["promptFeedback"]["blockReason"] == "SAFETY"
    assert "candidates" not in whole
    assert whole["usageMetadata"]["totalTokenCount"] == whole["usageMetadata"]["promptTokenCount"]
    assert chunks({"contents": [user("This is a BLOCKED PROMPT.")]}) == [whole]


def test_text_beyond_ascii_survives() -> None:
    assert "黄河 и Волга" in text(ask(user("黄河 и Волга")))
    assert "\ud800" in text(ask(user("half \ud800")))


def test_vertex_answers_with_its_own_extras() -> None:
    whole = ask(root=VERTEX)
    assert whole["createTime"]
    assert whole["usageMetadata"]["trafficType"] == "ON_DEMAND"
    assert text(whole) == text(ask())


# ---------------------------------------------------------------------------------------------------- thoughts


def test_thoughts_are_shown_when_asked_for() -> None:
    whole = ask(generationConfig={"thinkingConfig": {"includeThoughts": True}})
    thought, said = parts(whole)
    assert thought["thought"] is True
    assert "thought" not in said
    assert "thoughtSignature" not in thought
    assert [set(part) for part in parts(ask())] == [{"text", "thoughtSignature"}]


@pytest.mark.parametrize(
    ("name", "config", "thinks"),
    [
        (NEW, {}, True),
        (NEW, {"thinkingLevel": "LOW"}, True),
        ("gemini-3-flash-preview", {"thinkingLevel": "MINIMAL"}, False),
        ("gemini-3-flash-preview", {"thinkingBudget": 0}, False),
        (OLD, {}, True),
        (OLD, {"thinkingBudget": 0}, False),
        (OLD, {"thinkingBudget": -1}, True),
        ("gemini-2.5-flash-lite", {}, False),
        ("gemini-2.5-flash-lite", {"thinkingBudget": 512}, True),
        ("gemini-2.5-pro", {"thinkingBudget": 128}, True),
        ("gemini-2.0-flash", {}, False),
        ("gemma-3-27b-it", {}, False),
        ("gemini-2.5-flash-image", {}, False),
        ("gemini-2.5-flash-preview-tts", {}, False),
        ("gemini-1.5-pro", {}, False),
        ("gemini-5-new", {}, True),
        ("mock-model", {}, False),
        ("mock-model", {"includeThoughts": True}, True),
        ("mock-model", {"thinkingLevel": "XHIGH"}, True),
    ],
)
def test_thoughts_are_counted_whenever_the_model_thinks(name: str, config: dict[str, Any], thinks: bool) -> None:
    whole = ask(name=name, **({"generationConfig": {"thinkingConfig": config}} if config else {}))
    assert ("thoughtsTokenCount" in whole["usageMetadata"]) is thinks
    assert is_thinking(family(name), config) is thinks


@pytest.mark.parametrize(
    ("name", "config", "named", "root"),
    [
        (OLD, {"thinkingLevel": "LOW"}, "thinking_level", V1BETA),
        (OLD, {"thinkingBudget": 24577}, "thinking_budget", V1BETA),
        (OLD, {"thinkingBudget": -2}, "thinking_budget", V1BETA),
        ("gemini-2.5-pro", {"thinkingBudget": 0}, "thinking_budget", V1BETA),
        ("gemini-2.5-pro", {"thinkingBudget": 127}, "thinking_budget", V1BETA),
        ("gemini-2.5-pro", {"thinkingBudget": 32769}, "thinking_budget", V1BETA),
        (NEW, {"thinkingLevel": "MINIMAL"}, "thinking_level", V1BETA),
        (NEW, {"thinkingLevel": "XHIGH"}, "thinking_level", V1BETA),
        (NEW, {"thinkingLevel": "LOW", "thinkingBudget": 100}, "thinking_budget", V1BETA),
        (NEW, {"thinkingBudget": 0}, "thinking_budget", V1BETA),
        ("gemini-3-pro-preview", {"thinkingLevel": "MEDIUM"}, "thinking_level", V1BETA),
        ("gemini-3-pro-preview", {"thinkingLevel": "MINIMAL"}, "thinking_level", VERTEX),
        ("gemini-3.1-pro-preview", {"thinkingBudget": 0}, "thinking_budget", V1BETA),
        ("gemini-4-argon", {"thinkingLevel": "MINIMAL"}, "thinking_level", V1BETA),
        ("mock-model", {"thinkingLevel": "LOW", "thinkingBudget": 100}, "thinking_budget", V1BETA),
        ("gemini-2.0-flash", {"includeThoughts": True}, "thinking_config", V1BETA),
        ("gemma-3-27b-it", {"thinkingBudget": 0}, "thinking_config", V1BETA),
    ],
)
def test_a_thinking_config_is_held_to_the_family(name: str, config: dict[str, Any], named: str, root: str) -> None:
    body = {"contents": [ASKED], "generationConfig": {"thinkingConfig": config}}
    assert field(refusal(body, name, root=root)).endswith(named)


@pytest.mark.parametrize(
    ("name", "config", "root"),
    [
        ("gemini-2.5-pro", {"thinkingBudget": -1}, V1BETA),
        ("gemini-3-pro-preview", {"thinkingLevel": "HIGH"}, V1BETA),
        ("gemini-3.5-flash", {"thinkingLevel": "MINIMAL"}, V1BETA),
        ("gemini-3.1-pro-preview", {"thinkingBudget": 0}, VERTEX),
        (NEW, {"thinkingLevel": "medium"}, V1BETA),
        *(
            (name, {"thinkingBudget": budget}, V1BETA)
            for name, low, high in (
                ("gemini-2.5-flash", 1, 24576),
                ("gemini-2.5-flash-lite", 1, 24576),
                ("gemini-2.5-pro", 128, 32768),
            )
            for budget in (low, high, -1)
        ),
    ],
)
def test_what_a_family_allows_is_accepted(name: str, config: dict[str, Any], root: str) -> None:
    assert ask(name=name, root=root, generationConfig={"thinkingConfig": config})["candidates"]


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("gemini-2.5-flash", ""),
        ("gemini-2.5-pro", ""),
        ("gemini-3-flash-preview", "MINIMAL LOW MEDIUM HIGH"),
        ("gemini-3.5-flash", "MINIMAL LOW MEDIUM HIGH"),
        ("gemini-3.7-flash", "LOW MEDIUM HIGH"),
        ("gemini-3.8-flash", "LOW MEDIUM HIGH"),
        ("gemini-3.1-pro-preview", "LOW MEDIUM HIGH"),
        ("gemini-4-argon", "LOW MEDIUM HIGH"),
        ("gemini-4-carbon", "LOW MEDIUM HIGH"),
        ("gemini-3-pro-preview", "LOW HIGH"),
        ("gemini-2.0-flash", ""),
        ("gemini-2.5-flash-image", ""),
    ],
)
def test_a_model_takes_the_levels_of_its_family(name: str, levels: str) -> None:
    taken = []
    for level in ("MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"):
        body = {"contents": [ASKED], "generationConfig": {"thinkingConfig": {"thinkingLevel": level}}}
        if send(body, name).status == 200:
            taken.append(level)
    assert " ".join(taken) == levels


@pytest.mark.parametrize(
    "category", ["HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY", "JAILBREAK"]
)
def test_safety_settings_are_taken(category: str) -> None:
    for threshold in ("OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"):
        setting = {"category": f"HARM_CATEGORY_{category}", "threshold": threshold}
        assert ask(safetySettings=[setting])["candidates"]


# ---------------------------------------------------------------------------------------------------- functions


def test_a_function_named_in_the_question_is_called() -> None:
    (part,) = parts(ask(user("Please add these."), tools=TOOLS))
    assert part["functionCall"]["name"] == "add"
    assert part["functionCall"]["args"] == {"a": 1, "b": "x"}
    assert part["thoughtSignature"]


def test_two_functions_named_are_called_in_parallel_and_the_first_is_signed() -> None:
    whole = ask(user("sub.two then add"), tools=TOOLS)
    assert [part["functionCall"]["name"] for part in parts(whole)] == ["sub.two", "add"]
    assert ["thoughtSignature" in part for part in parts(whole)] == [True, False]
    assert len({part["functionCall"]["id"] for part in parts(whole)}) == 2
    assert whole["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    ("question", "calling", "called"),
    [
        ("hello", {"mode": "ANY"}, ["add"]),
        ("hello", {"mode": "ANY", "allowedFunctionNames": ["sub.two"]}, ["sub.two"]),
        ("add", {"mode": "ANY", "allowedFunctionNames": ["sub.two"]}, ["sub.two"]),
        ("add", {"mode": "NONE"}, []),
        ("add", {"mode": "AUTO"}, ["add"]),
        ("add", {"mode": "VALIDATED"}, ["add"]),
        ("add", {"mode": "VALIDATED", "allowedFunctionNames": ["sub.two"]}, []),
        ("hello", {"mode": "AUTO"}, []),
        ("address and adds", {}, []),
    ],
)
def test_the_mode_decides_which_functions_are_called(question: str, calling: dict[str, Any], called: list[str]) -> None:
    whole = ask(user(question), tools=TOOLS, toolConfig={"functionCallingConfig": calling})
    assert [part["functionCall"]["name"] for part in parts(whole) if "functionCall" in part] == called


def test_arguments_follow_a_json_schema_too() -> None:
    schema = {
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
        "type": "object",
        "properties": {"points": {"type": "array", "items": {"$ref": "#/$defs/point"}}},
        "required": ["points"],
        "additionalProperties": False,
    }
    tools = [{"functionDeclarations": [{"name": "plot", "parametersJsonSchema": schema}]}]
    (part,) = parts(ask(user("plot it"), tools=tools))
    assert part["functionCall"]["args"] == {"points": [{"x": 1}]}


@pytest.mark.parametrize(
    ("name", "root", "has_id", "is_signed"),
    [(NEW, V1BETA, True, True), (NEW, VERTEX, False, True), ("gemini-2.0-flash", V1BETA, False, False)],
)
def test_calls_have_ids_and_signatures_where_the_service_gives_them(
    name: str, root: str, has_id: bool, is_signed: bool
) -> None:
    (part,) = parts(ask(user("add"), name=name, root=root, tools=TOOLS))
    assert ("id" in part["functionCall"]) is has_id
    assert ("thoughtSignature" in part) is is_signed


@pytest.mark.parametrize("name", [NEW, OLD, "gemini-2.0-flash", "mock-model"])
@pytest.mark.parametrize("mode", ["AUTO", "ANY"])
def test_a_round_trip_of_functions_ends_in_text(name: str, mode: str) -> None:
    fields = {"tools": TOOLS, "toolConfig": {"functionCallingConfig": {"mode": mode}}}
    question = user("add and sub.two")
    called = ask(question, name=name, **fields)["candidates"][0]["content"]
    calls = [part["functionCall"] for part in called["parts"]]
    assert len(calls) == 2
    results = user(*(result(one["name"], **({"id": one["id"]} if "id" in one else {})) for one in calls))
    assert "Mock answer" in text(ask(question, called, results, name=name, **fields))


def test_a_call_that_does_not_fit_the_limit_is_left_out() -> None:
    question = user("add")
    thoughts = ask(question, tools=TOOLS)["usageMetadata"]["thoughtsTokenCount"]
    short = ask(question, tools=TOOLS, generationConfig={"maxOutputTokens": thoughts + 2})
    assert short["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]


# ---------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["responseSchema", "responseJsonSchema"])
def test_json_is_valid_for_its_schema(name: str) -> None:
    schema = NUMBERS if name == "responseSchema" else json.loads(json.dumps(NUMBERS).lower())
    config = {"responseMimeType": "application/json", name: schema}
    assert json.loads(text(ask(generationConfig=config))) == {"a": 1, "b": "x"}


def test_json_without_a_schema_is_an_object() -> None:
    assert isinstance(json.loads(text(ask(generationConfig={"responseMimeType": "application/json"}))), dict)


def test_an_enum_is_a_bare_value() -> None:
    schema = {"type": "STRING", "enum": ["red wine", "white wine"]}
    assert text(ask(generationConfig={"responseMimeType": "text/x.enum", "responseSchema": schema})) == "red wine"


# ---------------------------------------------------------------------------------------------------- streams

STREAMED = [
    {},
    {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    {"generationConfig": {"candidateCount": 2}},
    {"generationConfig": {"maxOutputTokens": 30}},
    {"generationConfig": {"maxOutputTokens": 5}},
    {"contents": [user("add and sub.two")], "tools": TOOLS},
]


@pytest.mark.parametrize("root", [V1BETA, VERTEX])
@pytest.mark.parametrize("name", [NEW, OLD, "gemini-2.0-flash"])
@pytest.mark.parametrize("fields", STREAMED[:1] + STREAMED[2:])
def test_the_pieces_of_a_stream_make_up_the_whole_answer(fields: dict[str, Any], name: str, root: str) -> None:
    body = {"contents": [ASKED], **fields}
    assert joined(chunks(body, name, root=root)) == answer(body, name, root=root)


@settings(max_examples=30)
@given(
    asked=st.text(min_size=1, max_size=60),
    limit=st.integers(1, 80),
    candidates=st.integers(1, 3),
    is_shown=st.booleans(),
    name=st.sampled_from([NEW, OLD, "gemini-2.0-flash", "mock-model"]),
)
def test_whatever_is_asked_a_stream_adds_up(asked: str, limit: int, candidates: int, is_shown: bool, name: str) -> None:
    config: dict[str, Any] = {"maxOutputTokens": limit, "candidateCount": candidates}
    if name != "gemini-2.0-flash":
        config["thinkingConfig"] = {"includeThoughts": is_shown}
    body = {"contents": [user(asked)], "generationConfig": config}
    whole, events = answer(body, name), chunks(body, name)
    assert joined(events) == whole
    for usage in (event["usageMetadata"] for event in events):
        assert usage["totalTokenCount"] == add_up(usage)


def test_thoughts_are_streamed_before_the_text() -> None:
    body = {"contents": [ASKED], **STREAMED[1]}
    assert joined(chunks(body)) == answer(body)
    kinds = [bool(part.get("thought")) for chunk in chunks(body) for part in parts(chunk)]
    assert kinds == sorted(kinds, reverse=True)
    assert len(set(kinds)) == 2


def joined(events: list[Any]) -> Any:
    """The answer that a stream adds up to, joined by the rules of the API and by nothing of the mock's."""
    candidates: dict[int, Any] = {}
    for event in events:
        for candidate in event["candidates"]:
            whole = candidates.setdefault(
                candidate["index"], {"content": {"role": "model"}, "index": candidate["index"]}
            )
            if "finishReason" in candidate:
                assert "finishReason" not in whole
                whole["finishReason"] = candidate["finishReason"]
            for part in candidate["content"].get("parts", []):
                so_far = whole["content"].setdefault("parts", [])
                if so_far and "text" in part and so_far[-1].get("thought") == part.get("thought"):
                    so_far[-1] = {**so_far[-1], **part, "text": so_far[-1]["text"] + part["text"]}
                else:
                    so_far.append(part)
    return {**events[-1], "candidates": list(candidates.values())}


@pytest.mark.parametrize("fields", STREAMED)
def test_usage_grows_from_chunk_to_chunk(fields: dict[str, Any]) -> None:
    body = {"contents": [ASKED], **fields}
    usages = [chunk["usageMetadata"] for chunk in chunks(body)]
    assert [add_up(usage) for usage in usages] == [usage["totalTokenCount"] for usage in usages]
    made = [usage.get("candidatesTokenCount", 0) for usage in usages]
    assert made == sorted(made)
    assert usages[-1] == answer(body)["usageMetadata"]


def test_vertex_lists_what_was_made_in_every_chunk() -> None:
    body = {"contents": [ASKED], **STREAMED[1]}
    usages = [chunk["usageMetadata"] for chunk in chunks(body, root=VERTEX)]
    listed = [sum(one["tokenCount"] for one in usage.get("candidatesTokensDetails", ())) for usage in usages]
    assert listed == [usage.get("candidatesTokenCount", 0) for usage in usages]
    assert listed[0] == 0 < listed[-1]


def test_a_streamed_text_is_signed_on_an_empty_part_at_the_end() -> None:
    last = chunks()[-1]
    (part,) = parts(last)
    assert part["text"] == ""
    assert part["thoughtSignature"]
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert not any("thoughtSignature" in part for chunk in chunks()[:-1] for part in parts(chunk))
    assert not any("thoughtSignature" in part for chunk in chunks(name=OLD) for part in parts(chunk))


def test_a_stream_pauses_between_its_pieces() -> None:
    pieces = send({"contents": [ASKED]}, action="streamGenerateContent", query="alt=sse", token_delay=0.25).pieces or ()
    assert [pause for pause, _ in pieces] == [0.0] + [0.25] * (len(pieces) - 1)
    assert len(pieces) > 3


def test_without_alt_sse_a_stream_is_one_array() -> None:
    reply = send({"contents": [ASKED]}, action="streamGenerateContent")
    assert reply.headers["content-type"] == "application/json; charset=UTF-8"
    assert json.loads(b"".join(piece for _, piece in reply.pieces or ())) == chunks()
    refused = send({"contents": []}, action="streamGenerateContent")
    assert json.loads(refused.body or b"")[0]["error"]["status"] == "INVALID_ARGUMENT"


# ---------------------------------------------------------------------------------------------------- usage


def add_up(usage: Any) -> int:
    names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    return sum(usage.get(name, 0) for name in names)


def test_usage_counts_what_was_sent_and_made() -> None:
    whole = ask(user("x" * 40, PICTURE), systemInstruction={"parts": [{"text": "y" * 8}]})
    usage = whole["usageMetadata"]
    assert usage["promptTokenCount"] == 10 + 2 + 258
    assert {one["modality"]: one["tokenCount"] for one in usage["promptTokensDetails"]} == {"TEXT": 12, "IMAGE": 258}
    assert usage["candidatesTokenCount"] == -(-len(text(whole)) // 4)
    assert usage["totalTokenCount"] == add_up(usage)


def test_hidden_thoughts_are_counted_all_the_same() -> None:
    shown = ask(generationConfig={"thinkingConfig": {"includeThoughts": True}})
    assert shown["usageMetadata"] == ask()["usageMetadata"]
    assert shown["usageMetadata"]["thoughtsTokenCount"] == -(-len(parts(shown)[0]["text"]) // 4)


def test_cached_content_is_part_of_the_prompt() -> None:
    usage = ask(cachedContent="cachedContents/abc")["usageMetadata"]
    assert usage["promptTokenCount"] == ask()["usageMetadata"]["promptTokenCount"] + usage["cachedContentTokenCount"]
    assert usage["totalTokenCount"] == add_up(usage)


def test_tokens_are_counted_as_usage_counts_them() -> None:
    contents = [user("x" * 40, PICTURE)]
    asked = {"contents": contents, "systemInstruction": {"parts": [{"text": "y" * 8}]}}
    assert answer({"contents": contents}, action="countTokens")["totalTokens"] == 268
    inner = {"generateContentRequest": {"model": f"models/{NEW}", **asked}}
    counted = answer(inner, action="countTokens")
    assert counted["totalTokens"] == 270
    assert counted["promptTokensDetails"][1] == {"modality": "IMAGE", "tokenCount": 258}
    assert answer(asked, action="countTokens", root=VERTEX)["totalTokens"] == 270
    assert field(refusal(asked, action="countTokens")) == ""  # the developer API wants it inside
    assert answer({"contents": [model("so far")]}, action="countTokens")["totalTokens"] == 2


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"generateContentRequest": {"contents": [ASKED]}}, "generate_content_request.model"),
        (
            {"generateContentRequest": {"model": "m", "contents": [ASKED]}, "contents": [ASKED]},
            "generate_content_request",
        ),
        ({"generateContentRequest": {"model": "m", "contents": []}}, "contents"),
        ({"contents": [user({})]}, "contents[0].parts[0].data"),
    ],
)
def test_what_cannot_be_counted_is_refused(body: dict[str, Any], named: str) -> None:
    assert field(refusal(body, action="countTokens")) == named


# ---------------------------------------------------------------------------------------------------- strictness


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": "f", **fields}]}]}


def calling(**fields: Any) -> dict[str, Any]:
    return {"tools": TOOLS, "toolConfig": {"functionCallingConfig": fields}}


def contents(*turns: Any) -> dict[str, Any]:
    return {"contents": list(turns)}


def as_json(schema: Any) -> dict[str, Any]:
    return config(responseMimeType="application/json", responseSchema=schema)


GOOD = text_signature("ab" * 16)
OTHERS = base64.b64encode(b"the signature of another service").decode()
DEEP: Any = {"type": "STRING"}
for _ in range(120):
    DEEP = {"type": "ARRAY", "items": DEEP}

REFUSED: list[tuple[dict[str, Any], str]] = [
    # names
    ({"message": []}, 'Unknown name "message": Cannot find field.'),
    ({"generation_config": {"temp": 1}}, "Unknown name \"temp\" at 'generation_config': Cannot find field."),
    (config(max_tokens=5), "Unknown name \"max_tokens\" at 'generation_config'"),
    (config(thinkingConfig={"budget": 5}), "at 'generation_config.thinking_config'"),
    (contents({**ASKED, "name": "x"}), "Unknown name \"name\" at 'contents[0]'"),
    (contents(user({"type": "text", "text": "x"})), "Unknown name \"type\" at 'contents[0].parts[0]'"),
    (contents(user({"inlineData": {"mime": "image/png"}})), "at 'contents[0].parts[0].inline_data'"),
    (tool(strict=True), "Unknown name \"strict\" at 'tools[0].function_declarations[0]'"),
    ({"tools": [{"type": "function"}]}, "Unknown name \"type\" at 'tools[0]'"),
    ({"toolConfig": {"mode": "AUTO"}}, "Unknown name \"mode\" at 'tool_config'"),
    ({"safetySettings": [{"category": "HARM_CATEGORY_JAILBREAK", "level": 1}]}, "at 'safety_settings[0]'"),
    (config(maxOutputTokens=5, max_output_tokens=5), "'maxOutputTokens' is already set"),
    # types
    ({"contents": "hello"}, "Invalid value at 'contents'"),
    ({"contents": [ASKED, "hello"]}, "Invalid value at 'contents[1]'"),
    ({"contents": [ASKED, None]}, "Invalid value at 'contents[1]'"),
    ({"contents": [[ASKED]]}, "Invalid value at 'contents[0]'"),
    (contents({"role": "user", "parts": ["hello"]}), "Invalid value at 'contents[0].parts[0]'"),
    (contents({"role": 3, "parts": [{"text": "x"}]}), "Invalid value at 'contents[0].role' (TYPE_STRING), 3"),
    (contents(user({"text": 3})), "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 3"),
    (contents(user({"text": {"a": 1}})), "Starting an object on a scalar field"),
    (contents(user({"text": ["a"]})), "Proto field is not repeating, cannot start list."),
    ({"systemInstruction": "Be brief."}, "Invalid value at 'system_instruction'"),
    ({"systemInstruction": [{"parts": []}]}, 'Unknown name "system_instruction": Proto field is not repeating'),
    (config(temperature="hot"), "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"hot\""),
    (config(temperature=True), "'generation_config.temperature' (TYPE_FLOAT)"),
    (config(maxOutputTokens=1.5), "'generation_config.max_output_tokens' (TYPE_INT32)"),
    (config(maxOutputTokens=2**31), "'generation_config.max_output_tokens' (TYPE_INT32)"),
    (config(topK=1.5), "'generation_config.top_k' (TYPE_INT32)"),
    (config(seed="abc"), "'generation_config.seed' (TYPE_INT32)"),
    (config(stopSequences=["a", 3]), "'generation_config.stop_sequences[1]' (TYPE_STRING)"),
    (config(responseLogprobs="yes"), "'generation_config.response_logprobs' (TYPE_BOOL)"),
    ({"labels": ["a"]}, "Invalid value at 'labels'"),
    ({"labels": {"a": 1}}, "Invalid value at 'labels[a]'"),
    # enums
    (config(mediaResolution="HIGH"), "'generation_config.media_resolution'"),
    (config(responseModalities=["SMELL"]), "'generation_config.response_modalities[0]'"),
    (config(thinkingConfig={"thinkingLevel": "HUGE"}), "'generation_config.thinking_config.thinking_level'"),
    ({"safetySettings": [{"category": "HARASSMENT", "threshold": "OFF"}]}, "'safety_settings[0].category'"),
    (
        {"safetySettings": [{"category": "HARM_CATEGORY_JAILBREAK", "threshold": "BLOCK_SOME"}]},
        "'safety_settings[0].threshold'",
    ),
    (calling(mode="required"), "'tool_config.function_calling_config.mode'"),
    ({"serviceTier": "fast"}, "'service_tier'"),
    # what only another face of the service knows
    ({"safetySettings": [{"category": "HARM_CATEGORY_JAILBREAK", "method": "SEVERITY"}]}, 'Unknown name "method"'),
    ({"modelArmorConfig": {}}, 'Unknown name "modelArmorConfig"'),
    (config(audioTimestamp=True), 'Unknown name "audioTimestamp"'),
    # contents
    ({"contents": None}, "GenerateContentRequest.contents: contents is not specified"),
    ({"contents": [], "systemInstruction": {"parts": [{"text": "x"}]}}, "contents is not specified"),
    (contents({"role": "user"}), "contents[0].parts: contents.parts must not be empty"),
    (contents({"role": "user", "parts": []}), "contents[0].parts: contents.parts must not be empty"),
    (contents(user({})), "contents[0].parts[0].data: required oneof field 'data'"),
    (contents(user("")), "contents[0].parts[0].data: required oneof field 'data'"),
    (contents(user({"thought": True})), "contents[0].parts[0].data"),
    (contents(user({"text": "x", **PICTURE})), "'contents[0].parts[0]' (oneof), oneof field 'data' is already set"),
    (contents({**ASKED, "role": "assistant"}), "contents[0].role: Please use a valid role: user, model."),
    (contents(ASKED, {**ASKED, "role": "system"}), "contents[1].role: Please use a valid role"),
    (contents(model("hello"), ASKED), "contents[0].role: Please ensure that the conversation starts with a user turn"),
    ({"systemInstruction": {"parts": []}}, "system_instruction.parts: "),
    ({"systemInstruction": {"parts": [PICTURE]}}, "system_instruction.parts[0].data"),
    # media
    (contents(user({"inlineData": {"data": "AAAA"}})), "contents[0].parts[0].inline_data.mime_type"),
    (contents(user({"inlineData": {"mimeType": "png", "data": "AAAA"}})), "Unsupported MIME type: png"),
    (contents(user({"inlineData": {"mimeType": "image/png"}})), "contents[0].parts[0].inline_data.data"),
    (contents(user({"inlineData": {"mimeType": "application/octet-stream", "data": "AAAA"}})), "Unsupported MIME type"),
    (
        contents(user({"inlineData": {"mimeType": "image/png", "data": "%%%"}})),
        '(TYPE_BYTES), Base64 decoding failed for "%%%"',
    ),
    (contents(user({"inlineData": {"mimeType": "image/png", "data": "AAAAA"}})), "inline_data.data' (TYPE_BYTES)"),
    (contents(user({"inlineData": {"mimeType": "image/png", "data": "data:image/png;base64,AAAA"}})), "(TYPE_BYTES)"),
    (contents(user({"fileData": {"mimeType": "image/png"}})), "contents[0].parts[0].file_data.file_uri"),
    (contents(user({"fileData": {"fileUri": "files/abc"}})), "Invalid or unsupported file uri"),
    (contents(user({"text": "x", "videoMetadata": {"fps": 1}})), "contents[0].parts[0].video_metadata"),
    # function calls and responses
    (contents(ASKED, model(call())), "contents[1].parts: Please ensure that a function call turn is followed"),
    (contents(ASKED, model(call()), ASKED), "contents[2].parts: Please ensure that the number of function response"),
    (contents(ASKED, model(call()), ASKED, user(result())), "contents[2].parts: Please ensure that the number"),
    (
        contents(ASKED, model(call(), call("g", None)), user(result())),
        "contents[2].parts: Please ensure that the number",
    ),
    (contents(ASKED, model(call()), user(result(), result())), "contents[2].parts: Please ensure that the number"),
    (contents(ASKED, model(call(), call("g", None)), user(result()), user(result("g"))), "contents[2].parts: Please"),
    (contents(ASKED, user(result())), "contents[1].parts: Please ensure that function response turn comes immediately"),
    (contents(ASKED, model(call()), user(result("other"))), "contents[2].parts[0].function_response.name"),
    (
        contents(ASKED, model(call(), call("g", None)), user(result(), result())),
        "contents[2].parts[1].function_response.name",
    ),
    (contents(ASKED, model(call(id="1")), user(result(id="2"))), "contents[2].parts[0].function_response.id"),
    (contents(user(call())), "contents[0].parts[0].function_call: A function call belongs to a model turn"),
    (contents(ASKED, model(call()), model(result())), "contents[2].parts[0].function_response"),
    (contents(ASKED, model(call("a b")), user(result("a b"))), "contents[1].parts[0].function_call.name"),
    (contents(ASKED, model({"functionCall": {}})), "contents[1].parts[0].function_call.name: Name cannot be empty."),
    (
        contents(ASKED, model({"functionCall": {"name": "f", "args": "{}"}})),
        "'contents[1].parts[0].function_call.args'",
    ),
    (
        contents(ASKED, model(call()), user({"functionResponse": {"response": {}}})),
        "contents[2].parts[0].function_response.name: Name cannot be empty.",
    ),
    (
        contents(ASKED, model(call()), user({"functionResponse": {"name": "add"}})),
        "contents[2].parts[0].function_response.response",
    ),
    (
        contents(ASKED, model(call()), user({"functionResponse": {"name": "add", "response": "2"}})),
        "Invalid value at 'contents[2].parts[0].function_response.response' (type.googleapis.com/google.protobuf.Struct)",
    ),
    (
        contents(ASKED, model(call()), user(result(parts=[{"inlineData": {"data": "AAAA"}}]))),
        "contents[2].parts[0].function_response.parts[0].inline_data.mime_type",
    ),
    (
        contents(ASKED, model(call()), user(result(parts=[{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]))),
        "function_response.parts[0].inline_data.mime_type: Unsupported MIME type in a function response: audio/wav",
    ),
    # signatures
    (contents(ASKED, model(call(signature=None)), user(result())), "is missing a thought_signature"),
    (contents(ASKED, model(call(signature="")), user(result())), "contents[1].parts[0].thought_signature"),
    (contents(ASKED, model(call(signature="%")), user(result())), "thought_signature' (TYPE_BYTES)"),
    (contents(ASKED, model(call(signature=OTHERS)), user(result())), "Thought signature is not valid."),
    (contents(ASKED, model(call(signature=GOOD)), user(result())), "Thought signature is not valid."),
    (
        contents(ASKED, model(call()), user(result()), model(call(signature=None)), user(result())),
        "contents[3].parts[0]",
    ),
    (
        contents(ASKED, model(call(signature=call_signature("ab" * 16, "add", {"a": 2}))), user(result())),
        "contents[1].parts[0].thought_signature: Thought signature is not valid.",
    ),
    (contents(ASKED, model({"text": "x", "thoughtSignature": OTHERS})), "contents[1].parts[0].thought_signature"),
    # settings
    (config(temperature=2.1), "generation_config.temperature"),
    (config(temperature=-0.1), "generation_config.temperature"),
    (config(topP=1.1), "generation_config.top_p"),
    (config(topK=0), "generation_config.top_k"),
    (config(candidateCount=0), "generation_config.candidate_count"),
    (config(candidateCount=9), "generation_config.candidate_count"),
    (config(maxOutputTokens=0), "generation_config.max_output_tokens"),
    (config(maxOutputTokens=-5), "generation_config.max_output_tokens"),
    (config(presencePenalty=2), "generation_config.presence_penalty"),
    (config(frequencyPenalty=-2.1), "generation_config.frequency_penalty"),
    (config(stopSequences=list("abcdef")), "generation_config.stop_sequences"),
    (config(stopSequences=["a", ""]), "generation_config.stop_sequences"),
    (config(logprobs=3), "generation_config.logprobs"),
    (config(responseLogprobs=True, logprobs=21), "generation_config.logprobs"),
    ({"safetySettings": [{"category": "HARM_CATEGORY_JAILBREAK"}]}, "safety_settings[0].threshold"),
    ({"safetySettings": [{"threshold": "OFF"}]}, "safety_settings[0].category"),
    ({"cachedContent": "cachedContents/a", "tools": TOOLS}, "cached_content"),
    ({"cachedContent": "cachedContents/a", "systemInstruction": {"parts": [{"text": "x"}]}}, "cached_content"),
    # formats
    (config(responseMimeType="json"), "generation_config.response_mime_type: allowed mimetypes are"),
    (config(responseSchema=NUMBERS), "generation_config.response_schema"),
    (config(responseMimeType="text/plain", responseSchema=NUMBERS), "generation_config.response_schema"),
    (config(responseJsonSchema={"type": "object"}), "generation_config.response_json_schema"),
    (
        config(responseMimeType="application/json", responseSchema=NUMBERS, responseJsonSchema={"type": "object"}),
        "generation_config.response_json_schema: only one of",
    ),
    (config(responseMimeType="application/json", responseJsonSchema="x"), "generation_config.response_json_schema"),
    (config(responseMimeType="text/x.enum"), "generation_config.response_schema"),
    (
        config(responseMimeType="text/x.enum", responseSchema={"type": "STRING"}),
        "generation_config.response_schema.enum",
    ),
    (as_json({"type": "OBJECT", "additionalProperties": False}), 'Unknown name "additionalProperties"'),
    (as_json({"$ref": "#/$defs/a"}), "Unknown name \"$ref\" at 'generation_config.response_schema'"),
    (as_json({"type": ["STRING", "NULL"]}), 'Unknown name "type" at'),
    (as_json({"type": "text"}), "Invalid value at 'generation_config.response_schema.type'"),
    (as_json({"properties": {"a": {"type": "STRING"}}}), "generation_config.response_schema.type"),
    (as_json({"type": "ARRAY"}), "generation_config.response_schema.items: missing field."),
    (as_json({"type": "INTEGER", "enum": ["1"]}), "generation_config.response_schema.enum"),
    (as_json({"type": "STRING", "enum": [1]}), "'generation_config.response_schema.enum[0]' (TYPE_STRING)"),
    (as_json({"type": "OBJECT", "required": ["a"]}), "response_schema.required[0]: property is not defined"),
    (as_json({"type": "OBJECT", "propertyOrdering": ["a"]}), "response_schema.property_ordering[0]"),
    (as_json({"type": "OBJECT", "properties": {"a": {"type": "ARRAY"}}}), "response_schema.properties[a].items"),
    (as_json({"anyOf": [{"type": "STRING"}, {"type": "ARRAY"}]}), "response_schema.any_of[1].items"),
    (as_json({"type": "ARRAY", "items": {"const": 1}}), "at 'generation_config.response_schema.items'"),
    (as_json(DEEP), "Message too deep."),
    # tools
    ({"tools": [{}]}, "tools[0].tool_type"),
    ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].function_declarations[0].name: Name cannot be empty."),
    (tool(name="a b"), "tools[0].function_declarations[0].name: Invalid function name."),
    (tool(name="1a"), "tools[0].function_declarations[0].name: Invalid function name."),
    (tool(name="a" * 129), "tools[0].function_declarations[0].name: Invalid function name."),
    ({"tools": [*TOOLS, *TOOLS]}, "tools[1].function_declarations[0].name: Duplicate function declaration found: add"),
    (
        tool(parameters=NUMBERS, parametersJsonSchema={"type": "object"}),
        "function_declarations[0].parameters_json_schema",
    ),
    (tool(parameters={"type": "STRING"}), "function_declarations[0].parameters.type"),
    (
        tool(parameters={"type": "object", "additionalProperties": False}),
        "at 'tools[0].function_declarations[0].parameters'",
    ),
    (tool(parametersJsonSchema={"type": "string"}), "function_declarations[0].parameters_json_schema.type"),
    (tool(parametersJsonSchema={"type": "thing"}), "function_declarations[0].parameters_json_schema.type"),
    (tool(parametersJsonSchema=["a"]), "function_declarations[0].parameters_json_schema"),
    (
        tool(parametersJsonSchema={"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}),
        "parameters_json_schema.properties[a].$ref",
    ),
    (tool(parametersJsonSchema={"type": "object", "required": "a"}), "parameters_json_schema.required"),
    (tool(parametersJsonSchema={"type": "object", "anyOf": []}), "parameters_json_schema.anyOf"),
    (tool(parametersJsonSchema={"type": "object", "properties": ["a"]}), "parameters_json_schema.properties"),
    (
        tool(parametersJsonSchema={"type": "object", "properties": {"a": "string"}}),
        "parameters_json_schema.properties[a]",
    ),
    ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "tool_config.function_calling_config"),
    (calling(mode="AUTO", allowedFunctionNames=["add"]), "function_calling_config.allowed_function_names"),
    (calling(mode="ANY", allowedFunctionNames=["other"]), "function_calling_config.allowed_function_names[0]"),
]


@pytest.mark.parametrize(
    ("change", "named"), REFUSED, ids=[f"{at}-{said[-40:]}" for at, (_, said) in enumerate(REFUSED)]
)
def test_what_the_service_refuses_is_refused_with_the_field(change: dict[str, Any], named: str) -> None:
    body = {"contents": [ASKED], **change}
    assert named in refusal(body)["message"]
    assert refusal(body, action="streamGenerateContent", query="alt=sse") == refusal(body)


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"functionDeclarations": [{"name": "add"}], "googleSearch": {}}]},
        {"tools": [*TOOLS, {"codeExecution": {}}]},
        {**config(responseMimeType="application/json"), "tools": TOOLS},
        contents(ASKED, model(call()), user(result(parts=[PICTURE]))),
    ],
)
def test_what_needs_generation_3_is_refused_before(change: dict[str, Any]) -> None:
    body = {"contents": [ASKED], **change}
    assert field(refusal(body, OLD))
    assert answer(body, NEW)
    assert answer(body, "mock-model")


ACCEPTED: list[dict[str, Any]] = [
    contents({"parts": [{"text": "no role"}]}),
    contents(ASKED, ASKED, model("a"), model("b"), ASKED),
    contents(ASKED, model("prefill")),
    contents(ASKED, model(call()), {**user(result()), "role": "function"}),
    contents(ASKED, model(call(), call(signature=None)), user(result(), result())),
    contents(ASKED, model(call(signature=None)), user(result(), "and now?")),
    # A client that keeps a stream piece by piece:
    contents(ASKED, model(call()), model(call("g", None)), user(result(), result("g"))),
    contents(ASKED, model(call(signature=base64.b64encode(DUMMY).decode())), user(result())),
    contents(ASKED, model(call(signature=base64.urlsafe_b64encode(DUMMY).decode().rstrip("="))), user(result())),
    contents(ASKED, model(call(signature=None)), user(result()), model("done"), ASKED),  # not in the current turn
    contents(ASKED, model(call(signature=OTHERS)), user(result()), model("done"), ASKED),
    contents(ASKED, model({"text": "", "thoughtSignature": GOOD}), ASKED),
    contents(ASKED, model({"text": "thinking", "thought": True}, {"text": "x", "thoughtSignature": GOOD})),
    contents(ASKED, model({"functionCall": {"name": "f"}, "thoughtSignature": DUMMY.decode()}), user(result("f"))),
    contents(user(PICTURE, {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}, "videoMetadata": {"fps": 2}})),
    contents(user({**PICTURE, "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}})),
    config(
        temperature=2, topP=1, topK="40", candidateCount=8, maxOutputTokens=1, stopSequences=list("abcde"), seed=-1,
        presencePenalty=-2, frequencyPenalty=1.99, responseLogprobs=True, logprobs=20, responseModalities=["TEXT"],
        mediaResolution="MEDIA_RESOLUTION_LOW", speechConfig={"languageCode": "en"}, responseMimeType="text/plain",
    ),
    as_json({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "maxItems": "3"}}}),
    as_json({"anyOf": [{"type": "STRING", "nullable": True}, {"type": "INTEGER", "minimum": 1}]}),
    tool(parametersJsonSchema={"type": "object", "properties": {"a": True}, "additionalProperties": False}),
    tool(parametersJsonSchema={"type": "object", "properties": {"a": {"type": ["string", "null"]}}}),
    {"tools": [{"googleSearch": {}}], "serviceTier": "flex", "labels": {"a": "b"}, "store": False},
    {"model": f"models/{NEW}", "tools": [], "safetySettings": []},
]  # fmt: skip


@pytest.mark.parametrize("change", ACCEPTED)
def test_what_the_service_takes_is_taken(change: dict[str, Any]) -> None:
    assert answer({"contents": [ASKED], **change})["candidates"]


def test_several_wrong_names_are_told_at_once() -> None:
    error = refusal({"contents": [ASKED], "a": 1, "generationConfig": {"b": 1}})
    assert [one["field"] for one in error["details"][0]["fieldViolations"]] == ["", "generation_config"]
    assert error["message"].count("\n") == 1
    many = refusal({f"name{at}": 1 for at in range(1000)})
    assert len(many["details"][0]["fieldViolations"]) == 20


def test_an_error_repeats_no_whole_prompt() -> None:
    secret = "s" * 5000
    for change in ({"contents": secret}, {"systemInstruction": secret}, {secret: 1}, {"labels": {secret: 1}}):
        assert len(refusal({"contents": [ASKED], **change})["message"]) < 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b'{"contents": NaN}', b"\xff", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    assert "Invalid JSON payload received." in refusal(body)["message"]


@pytest.mark.parametrize(
    "put",
    [
        lambda deep: config(responseMimeType="application/json", responseJsonSchema=deep),
        lambda deep: tool(parametersJsonSchema={"type": "object", "properties": {"a": deep}}),
        lambda deep: contents(ASKED, model({"functionCall": {"name": "f", "args": deep}}), user(result("f"))),
        lambda deep: contents(deep),
        lambda deep: config(temperature=deep),
        lambda deep: config(temperature=[deep]),
        lambda deep: {"labels": {"a": deep}},
    ],
)
def test_what_has_no_bottom_is_refused(put: Callable[[Any], dict[str, Any]]) -> None:
    for levels in (120, 400, 900, 5000):
        body = json.dumps({"contents": [ASKED], **put("DEEP")}).encode()
        nested = b'{"items":' * levels + b'"string"' + b"}" * levels
        assert refusal(body.replace(b'"DEEP"', nested), "mock-model")["message"]


JUNK = [None, True, 0, -1, 1.5, "", "x", "user", [], {}, [None], [[]], [{}], {"a": None}, {"type": "object"}, 1e300]


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for name, one in inner for found in places(one, (*place, name)))]


def replaced(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    if not place:
        return other
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], other)
    return changed


@given(st.data())
def test_a_request_with_junk_in_it_is_answered_or_refused(data: st.DataObject) -> None:
    body: Any = {"contents": [ASKED], **data.draw(st.sampled_from(ACCEPTED))}
    for _ in range(data.draw(st.integers(1, 2))):
        body = replaced(body, data.draw(st.sampled_from(places(body))), data.draw(st.sampled_from(JUNK)))
    for root, name, action in ((V1BETA, NEW, "generateContent"), (VERTEX, OLD, "countTokens")):
        assert send(body, name, action, root=root).status in (200, 400)


def test_many_messages_side_by_side_are_not_too_deep() -> None:
    assert ask(*[user(f"line {at}") for at in range(300)])["candidates"]


@pytest.mark.parametrize("name", ["temperature", "seed", "topK"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400, '"1e999"'])
def test_a_number_that_is_too_large_is_refused(name: str, number: str) -> None:
    body = b'{"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"%b": %b}}' % (
        name.encode(),
        number.encode(),
    )
    assert f"at 'generation_config.{'top_k' if name == 'topK' else name}'" in refusal(body)["message"]


def test_previews_need_the_beta_version() -> None:
    body = contents(user({**PICTURE, "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}))
    assert 'Unknown name "mediaResolution"' in refusal(body, root="/v1/models")["message"]
    assert answer(contents(ASKED), root="/v1/models")["candidates"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (contents({"parts": [{"text": "no role"}]}), "contents[0].role: Please use a valid role"),
        ({"store": True}, 'Unknown name "store"'),
        (
            contents(user({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}})),
            "file_data.file_uri",
        ),
    ],
)
def test_vertex_refuses_what_only_the_developer_api_takes(change: dict[str, Any], named: str) -> None:
    body = {"contents": [ASKED], **change}
    assert named in refusal(body, root=VERTEX)["message"]
    assert answer(body)["candidates"]


def test_vertex_takes_what_the_developer_api_refuses() -> None:
    setting = {"category": "HARM_CATEGORY_JAILBREAK", "threshold": "OFF", "method": "SEVERITY"}
    body = {"contents": [ASKED], "safetySettings": [setting], **config(audioTimestamp=True, topK=1.5)}
    assert answer(body, root=VERTEX)["candidates"]
    assert refusal(body)


# ---------------------------------------------------------------------------------------------------- signatures


def test_the_mock_knows_its_own_signatures_again() -> None:
    question = user("add and sub.two")
    turn = ask(question, tools=TOOLS)["candidates"][0]["content"]
    results = user(result("add"), result("sub.two"))
    assert ask(question, turn, results, tools=TOOLS)["candidates"]
    turn["parts"][0]["functionCall"]["args"]["a"] = 5
    error = refusal({"contents": [question, turn, results], "tools": TOOLS})
    assert field(error) == "contents[1].parts[0].thought_signature"


def test_a_signature_may_come_back_in_the_url_safe_alphabet() -> None:
    for at in range(20):  # among them are some with + or /
        turn = ask(user(f"add {at}"), tools=TOOLS)["candidates"][0]["content"]
        part = turn["parts"][0]
        part["thoughtSignature"] = part["thoughtSignature"].replace("+", "-").replace("/", "_").rstrip("=")
        assert ask(user(f"add {at}"), turn, user(result()), tools=TOOLS)["candidates"]


def test_signatures_are_not_demanded_before_generation_3() -> None:
    for name in (OLD, "gemini-2.0-flash", "mock-model"):
        assert ask(ASKED, model(call(signature=None)), user(result()), name=name)["candidates"]


# ---------------------------------------------------------------------------------------------------- paths


def get(path: str, query: str = "", *, models: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> tuple[int, Any]:
    reply = gemini.reply(ReceivedRequest(method="GET", path=path, query=query), models, 0.0)
    return reply.status, json.loads(reply.body or b"")


@pytest.mark.parametrize(
    "root",
    [
        "/v1/models",
        "/v1beta/models",
        "/v1/publishers/google/models",
        "/v1beta1/publishers/google/models",
        "/v1/projects/my-project/locations/us-central1/publishers/google/models",
        "/v1beta1/projects/my-project/locations/global/publishers/google/models",
    ],
)
def test_every_documented_path_answers(root: str) -> None:
    assert ask(root=root)["candidates"]
    assert chunks(root=root)
    assert answer(action="countTokens", root=root)["totalTokens"]
    assert gemini.is_chat(f"{root}/m:generateContent")
    assert gemini.is_chat(f"{root}/m:streamGenerateContent")
    assert not gemini.is_chat(f"{root}/m:countTokens")
    assert not gemini.is_chat(root)


@pytest.mark.parametrize("root", ["/v1/tunedModels", "/v1beta/tunedModels", "/v1/projects/p/locations/l/endpoints"])
def test_tuned_models_answer_under_their_own_paths(root: str) -> None:
    assert ask(root=root, name="123")["modelVersion"] == "123"
    assert chunks(root=root, name="123")
    assert gemini.claims(ReceivedRequest(method="POST", path=f"{root}/123:generateContent"))


def test_a_path_may_be_percent_encoded() -> None:
    request = ReceivedRequest(
        method="POST", path="/v1/models/my%20model%3AgenerateContent", body=b'{"contents": {"parts": {"text": "x"}}}'
    )
    assert gemini.claims(request)
    assert gemini.is_chat(request.path)
    assert json.loads(gemini.reply(request, (), 0.0).body or b"")["modelVersion"] == "my model"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1beta/models"),
        ("GET", "/v1beta/tunedModels"),
        ("POST", "/v1/endpoints/123:generateContent"),
        ("POST", "/v1beta/models/m"),
        ("POST", "/v1beta/models/m:embedThis"),
        ("GET", "/v1beta/models/m:generateContent"),
        ("DELETE", "/v1beta/models/m"),
        ("POST", "/v2/models/m:generateContent"),
        ("POST", "/v1beta/models/:generateContent"),
        ("POST", "/v1beta1/models/m:generateContent"),
        ("POST", "/v1beta/projects/p/locations/l/publishers/google/models/m:generateContent"),
        ("POST", "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict"),
        ("GET", "/v1/projects/p/locations/l/publishers/google/models"),
        ("GET", "/v1beta/files"),
    ],
)
def test_other_paths_are_not_found_in_googles_words(method: str, path: str) -> None:
    reply = gemini.reply(ReceivedRequest(method=method, path=path, body=b"{}"), (), 0.0)
    assert reply.status == 404
    assert json.loads(reply.body or b"")["error"]["status"] == "NOT_FOUND"


def test_models_are_listed_page_by_page() -> None:
    names, query = [], "pageSize=2"
    for _ in range(3):
        status, listed = get(V1BETA, query)
        assert status == 200
        names += [one["name"] for one in listed["models"]]
        query = f"pageSize=2&pageToken={listed.get('nextPageToken')}"
    assert names == [f"models/{letter}" for letter in "abcde"]
    assert "nextPageToken" not in listed
    assert "nextPageToken" not in get(V1BETA, "pageSize=5")[1]
    assert len(get(V1BETA)[1]["models"]) == 5
    assert len(get(V1BETA, models=tuple(f"m{at}" for at in range(70)))[1]["models"]) == 50


def test_a_model_is_described() -> None:
    status, card = get(f"{V1BETA}/a")
    assert (status, card["name"]) == (200, "models/a")
    assert "generateContent" in card["supportedGenerationMethods"]
    assert card["inputTokenLimit"] > card["outputTokenLimit"] > 0
    assert get(f"{V1BETA}/gemini-2.0-flash", models=("gemini-2.0-flash",))[1]["thinking"] is False
    assert get("/v1/publishers/google/models/a")[1]["name"] == "publishers/google/models/a"
    status, error = get(f"{V1BETA}/z")
    assert (status, error["error"]["status"]) == (404, "NOT_FOUND")
    assert "models/z is not found for API version v1beta" in error["error"]["message"]


def test_vertex_lists_publisher_models() -> None:
    status, listed = get("/v1beta1/publishers/google/models", "pageSize=3")
    assert status == 200
    assert [one["name"] for one in listed["publisherModels"]] == [f"publishers/google/models/{name}" for name in "abc"]
    assert get("/v1beta1/publishers/google/models", f"pageToken={listed['nextPageToken']}")[1]["publisherModels"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("pageSize=x", "page_size"),
        ("pageSize=-1", "page_size"),
        ("pageToken=x", "page_token"),
        ("pageToken=page-99", "page_token"),
        ("pageToken=page-0", "page_token"),
        ("limit=3", 'Unknown name "limit": Cannot bind query parameter.'),
    ],
)
def test_a_wrong_query_is_refused(query: str, named: str) -> None:
    status, body = get(V1BETA, query)
    assert status == 400
    assert named in body["error"]["message"]


CLAIMED = {
    "POST /v1beta/models/m:generateContent": True,
    "GET /v1beta/nothing": True,
    "GET /v1beta1/publishers/google/models": True,
    "POST /v1/models/m:generateContent": True,
    "POST /v1/models/m%3AgenerateContent": True,
    "POST /v1/projects/p/locations/l/publishers/google/models/m:countTokens": True,
    "GET /v1/models": False,
    "GET /v1/models/m": False,
    "GET /v1/models/ft:gpt-4o:org::id": False,
    "GET /v1/models?key=k": True,
    "GET /v1/models?pageSize=1&key=k": True,
    "POST /v1/chat/completions?key=k": False,
    "GET /v1/models+": True,
    "GET /v1/models/m+": True,
    "POST /v1/messages+": False,
}


@pytest.mark.parametrize("line", CLAIMED)
def test_requests_are_claimed_by_path_or_by_the_way_the_key_came(line: str) -> None:
    method, _, target = line.removesuffix("+").partition(" ")
    path, _, query = target.partition("?")
    headers = {"x-goog-api-key": "k"} if line.endswith("+") else {}
    request = ReceivedRequest(method=method, path=path, query=query, headers=headers)
    assert gemini.claims(request) is CLAIMED[line]


# ---------------------------------------------------------------------------------------------------- keys and errors

BEARER, GOOGLE = {"authorization": "Bearer k"}, {"x-goog-api-key": "k"}


@pytest.mark.parametrize(
    ("path", "headers", "query", "key"),
    [
        ("/v1beta/models", GOOGLE, "", "k"),
        ("/v1beta/models", {}, "key=k", "k"),
        ("/v1beta/models", {"x-goog-api-key": ""}, "key=k%2F", "k/"),
        ("/v1beta/models", BEARER, "", None),
        ("/v1beta/models", {}, "", None),
        (VERTEX + "/m:generateContent", BEARER, "", "k"),
        (VERTEX + "/m:generateContent", {"authorization": "Basic k"}, "", None),
        (VERTEX + "/m:generateContent", GOOGLE, "", None),
        (VERTEX + "/m:generateContent", {}, "key=k", None),
        ("/v1/publishers/google/models", GOOGLE, "", "k"),
        ("/v1/publishers/google/models", BEARER, "", "k"),
        ("/nothing", GOOGLE, "", "k"),
    ],
)
def test_the_key_comes_where_each_face_expects_it(
    path: str, headers: dict[str, str], query: str, key: str | None
) -> None:
    assert gemini.key(ReceivedRequest(method="GET", path=path, headers=headers, query=query)) == key


@pytest.mark.parametrize(
    ("path", "headers", "status", "name"),
    [
        ("/v1beta/models", GOOGLE, 400, "INVALID_ARGUMENT"),
        ("/v1beta/models", {}, 403, "PERMISSION_DENIED"),
        (VERTEX, BEARER, 401, "UNAUTHENTICATED"),
        (VERTEX, {}, 401, "UNAUTHENTICATED"),
    ],
)
def test_a_wrong_key_is_refused_as_each_face_does(path: str, headers: dict[str, str], status: int, name: str) -> None:
    reply = gemini.unauthorized(ReceivedRequest(method="GET", path=path, headers=headers))
    error = json.loads(reply.body or b"")["error"]
    assert (reply.status, error["code"], error["status"]) == (status, status, name)
    assert [one["reason"] for one in error.get("details", [])] == (["API_KEY_INVALID"] if status == 400 else [])


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (418, "UNKNOWN"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (529, "UNKNOWN"),
    ],
)
def test_every_failure_has_googles_form(status: int, name: str) -> None:
    reply = gemini.failure(status)
    error = json.loads(reply.body or b"")["error"]
    assert (reply.status, error["code"], error["status"]) == (status, status, name)
    assert error["message"]
    assert json.loads(gemini.failure(status, "No.").body or b"")["error"]["message"] == "No."


def test_a_rate_limit_says_when_to_come_again() -> None:
    details = json.loads(gemini.failure(429, retry_after=2.5).body or b"")["error"]["details"]
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"} in details
    assert b"RetryInfo" not in (gemini.failure(429).body or b"")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"contents": 3}', b'{"contents": [3]}', b'{"contents": [{"parts": [{"text": 3}]}]}']
)
def test_a_body_without_question_has_no_prompt(body: bytes) -> None:
    assert gemini.prompt(ReceivedRequest(method="POST", path="/", body=body)) is None


def test_the_prompt_is_the_text_of_the_last_question() -> None:
    def prompt(*turns: Any) -> str | None:
        return gemini.prompt(ReceivedRequest(method="POST", path="/", body=json.dumps({"contents": turns}).encode()))

    assert prompt(user("a"), model("b"), user("c", PICTURE, "d")) == "c\nd"
    assert prompt(user("a"), model(call()), user(result())) == "a"
    assert prompt({"parts": {"text": "a"}}) == "a"
    assert prompt({"role": None, "parts": [{"text": None}]}) is None
