"""The Anthropic dialect: what is answered, streamed and refused. No socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flexllm.mock import ReceivedRequest, Reply, anthropic
from flexllm.mock.anthropic.models import model_info
from flexllm.mock.anthropic.signatures import is_signed, sign
from flexllm.mock.responder import dialect_of, ordinary_reply

OLD, NEW = "2023-06-01", "2026-10-21"
ASK = {"role": "user", "content": "Name a river in Asia, please."}
TOOL = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
CLOSED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
BUDGET = {"type": "enabled", "budget_tokens": 1024}
TINY = "iVBORw0K"


def request(
    *, path: str = "/v1/messages", version: str | None = OLD, headers: dict[str, str] | None = None, **fields: Any
) -> ReceivedRequest:
    body = {"model": "m", "max_tokens": 2000, "messages": [ASK], **fields}
    body = {name: value for name, value in body.items() if value is not ...}
    names = {"anthropic-version": version} if version else {}
    return ReceivedRequest(
        method="POST", path=path, headers={**names, **(headers or {})}, body=json.dumps(body).encode()
    )


def reply(**fields: Any) -> Reply:
    return ordinary_reply(request(**fields))


def message(**fields: Any) -> Any:
    """The parsed message, or error body."""
    return json.loads(reply(**fields).body or b"")


def text(**fields: Any) -> str:
    return "".join(block["text"] for block in message(**fields)["content"] if block["type"] == "text")


def events(**fields: Any) -> list[Any]:
    """The parsed events of a stream; each has its name in front."""
    pieces = reply(stream=True, **fields).pieces or ()
    blocks = b"".join(piece for _, piece in pieces).decode().split("\n\n")
    assert blocks.pop() == ""
    parsed = []
    for block in blocks:
        name, data = block.split("\n")
        parsed.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"
    return parsed


def refused(**fields: Any) -> str:
    """The message of the 400 for these fields."""
    answer = reply(**fields)
    body = json.loads(answer.body or b"")
    assert (answer.status, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert isinstance(body["error"]["message"], str)
    return body["error"]["message"]


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> Any:
    return {"role": "assistant", "content": list(blocks)}


def said(words: str, **more: Any) -> Any:
    return {"type": "text", "text": words, **more}


def use(call_id: str = "toolu_1", **more: Any) -> Any:
    return {"type": "tool_use", "id": call_id, "name": "get_weather", "input": {}, **more}


def result(call_id: str = "toolu_1", **more: Any) -> Any:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "rain", **more}


def image(**source: Any) -> Any:
    return user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TINY, **source}})


def document(**source: Any) -> Any:
    return user({"type": "document", "source": source})


def marked(count: int) -> Any:
    return [said("a", cache_control={"type": "ephemeral"}) for _ in range(count)]


# ---------------------------------------------------------------------------------------------------- messages


def test_a_message_has_every_field_anthropic_sends() -> None:
    whole = message()
    assert set(whole) == {
        "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "usage"
    }  # fmt: skip
    assert (whole["type"], whole["role"], whole["model"]) == ("message", "assistant", "m")
    assert whole["id"].startswith("msg_")
    assert (whole["stop_reason"], whole["stop_sequence"], whole["stop_details"]) == ("end_turn", None, None)
    assert [block["type"] for block in whole["content"]] == ["text"]
    assert whole["usage"]["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}


def test_the_same_request_gets_the_same_answer_on_any_machine() -> None:
    # Literal values, computed with b2sum(1): who has recorded replies would notice a change.
    assert message() == message()
    assert message()["id"] == "msg_a9d0011f523d31e04c6b7d86"
    assert text() == 'Mock answer a5e473a0d3be: you wrote "Name a river in Asia, please.". There is little to add.'
    assert message(version=NEW) == message()


@pytest.mark.parametrize("other", [{"model": "m2"}, {"temperature": 0.5}, {"system": "Be brief."}])
def test_a_different_request_gets_a_different_answer(other: dict[str, Any]) -> None:
    assert text(**other) != text()
    assert message(**other)["id"] != message()["id"]


def test_delivery_and_limits_do_not_change_the_words() -> None:
    assert message(max_tokens=3)["content"] == [said(text()[:12])]
    assert message(max_tokens=3)["stop_reason"] == "max_tokens"
    assert message(max_tokens=3)["usage"]["output_tokens"] == 3
    assert message(max_tokens=0)["content"] == []
    cut = message(stop_sequences=["never said", "you wrote"])
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("stop_sequence", "you wrote")
    assert cut["content"] == [said(text().partition("you wrote")[0])]


def test_usage_counts_messages_system_and_tools_but_no_base64() -> None:
    assert message()["usage"]["input_tokens"] == 4 + 8  # one message of 29 characters
    assert message(system="abcd")["usage"]["input_tokens"] == 4 + 8 + 1
    assert message(system=[said("abcd")])["usage"]["input_tokens"] == 4 + 8 + 1
    large = image(data="A" * 40_000)
    assert message(messages=[large])["usage"]["input_tokens"] == 4 + 1500
    assert message(tools=[TOOL])["usage"]["input_tokens"] > 12
    called = [
        ASK,
        assistant(use(input={"a": 1})),
        user(result(content="x" * 40)),
    ]  # get_weather{"a":1} has 18 characters
    assert message(messages=called)["usage"]["input_tokens"] == 3 * 4 + 8 + 5 + 10
    assert message()["usage"]["output_tokens"] == -(-len(text()) // 4)


def test_tokens_are_counted_without_a_limit() -> None:
    counted = ordinary_reply(request(path="/v1/messages/count_tokens", max_tokens=..., tools=[TOOL]))
    assert json.loads(counted.body or b"") == {"input_tokens": message(tools=[TOOL])["usage"]["input_tokens"]}
    assert "max_tokens: Extra inputs" in refused(path="/v1/messages/count_tokens")


# ---------------------------------------------------------------------------------------------------- tools


def test_a_named_tool_is_called_with_what_its_schema_requires() -> None:
    called = message(messages=[{"role": "user", "content": "Ask get_weather."}], tools=[CLOCK, TOOL])
    (block,) = called["content"]
    assert block.pop("id").startswith("toolu_")
    assert block == {"type": "tool_use", "name": "get_weather", "input": {"city": "city"}}
    assert called["stop_reason"] == "tool_use"


@pytest.mark.parametrize("words", ["forget_weather", "get_weather_now", "the weather", ""])
def test_a_tool_is_not_called_by_half_its_name(words: str) -> None:
    asked = [{"role": "user", "content": f"Well, {words}"}]
    assert message(messages=asked, tools=[TOOL])["stop_reason"] == "end_turn"


def test_after_a_result_comes_text_even_if_a_tool_is_forced() -> None:
    asked = {"role": "user", "content": "Ask get_weather."}
    history = [asked, assistant(use()), user(result())]
    for choice in ({"type": "auto"}, {"type": "any"}):
        done = message(messages=history, tools=[TOOL], tool_choice=choice)
        assert (done["stop_reason"], len(done["content"])) == ("end_turn", 1)
        assert "Ask get_weather." in done["content"][0]["text"]
    again = [asked, assistant(use()), user(result(), said("And get_weather once more."))]
    assert message(messages=again, tools=[TOOL])["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("choice", "name"), [({"type": "any"}, "get_weather"), ({"type": "tool", "name": "clock"}, "clock")]
)
def test_a_choice_forces_a_tool(choice: Any, name: str) -> None:
    assert [block["name"] for block in message(tools=[TOOL, CLOCK], tool_choice=choice)["content"]] == [name]


def test_a_call_cut_by_the_limit_is_no_whole_object() -> None:
    cut = message(tools=[TOOL], tool_choice={"type": "any"}, max_tokens=4)
    assert (cut["stop_reason"], cut["content"][0]["input"]) == ("max_tokens", {})


# ---------------------------------------------------------------------------------------------------- thinking


def test_a_thought_comes_first_signed_and_counted() -> None:
    whole = message(thinking=BUDGET)
    thought, answer = whole["content"]
    assert (thought["type"], answer["type"]) == ("thinking", "text")
    assert is_signed(thought["thinking"], thought["signature"])
    assert whole["usage"]["output_tokens_details"]["thinking_tokens"] == -(-len(thought["thinking"]) // 4)
    assert message()["usage"]["output_tokens_details"]["thinking_tokens"] == 0


@pytest.mark.parametrize(
    ("model", "thinking", "thinks"),
    [
        ("m", None, False),
        ("m", {"type": "adaptive"}, True),
        ("m", {"type": "disabled"}, False),
        ("claude-sonnet-4-6", None, False),
        ("claude-sonnet-5", None, True),
        ("claude-haiku-5-5", None, True),
        ("claude-fable-5-2", None, True),
        ("claude-sonnet-5-5", {"type": "between_tools"}, False),
    ],
)
def test_who_thinks(model: str, thinking: Any, thinks: bool) -> None:
    kinds = [block["type"] for block in message(model=model, thinking=thinking)["content"]]
    assert kinds == (["thinking", "text"] if thinks else ["text"])


def test_the_limit_counts_thoughts() -> None:
    cut = message(model="claude-sonnet-5", max_tokens=4)
    (block,) = cut["content"]
    assert (block["type"], len(block["thinking"]), cut["stop_reason"]) == ("thinking", 16, "max_tokens")


def test_a_hidden_thought_has_a_signature_of_its_own() -> None:
    blocks = [
        message(thinking={"type": "adaptive", "display": "omitted"}, system=name)["content"][0] for name in ("a", "b")
    ]
    assert [block["thinking"] for block in blocks] == ["", ""]
    assert blocks[0]["signature"] != blocks[1]["signature"]
    assert all(is_signed("", block["signature"]) for block in blocks)


@pytest.mark.parametrize("signature", ["", "EqQB", "ä", "bW9jaw==", sign("b", "0" * 32), sign("a", "0" * 32)[:-2]])
def test_a_signature_of_something_else_is_none(signature: str) -> None:
    assert is_signed("a", sign("a", "0" * 32))
    assert not is_signed("a", signature)


# ---------------------------------------------------------------------------------------------------- streams


def test_a_stream_carries_the_text_of_the_whole_message() -> None:
    parsed = events()
    kinds = [event["type"] for event in parsed]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert kinds.count("content_block_delta") == len(kinds) - 6 > 2
    assert "".join(event["delta"]["text"] for event in parsed if event["type"] == "content_block_delta") == text()
    start = parsed[0]["message"]
    assert (start["id"], start["content"], start["stop_reason"]) == (message()["id"], [], None)
    assert start["usage"]["output_tokens"] == 1
    final = parsed[-2]
    assert final["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    assert message()["usage"].items() >= final["usage"].items()


def test_a_stream_carries_thought_signature_and_arguments_in_pieces() -> None:
    parsed = events(thinking={"type": "adaptive"}, tools=[TOOL], tool_choice={"type": "any"})
    whole = message(thinking={"type": "adaptive"}, tools=[TOOL], tool_choice={"type": "any"})
    starts = [event for event in parsed if event["type"] == "content_block_start"]
    assert [start["index"] for start in starts] == [0, 1]
    assert starts[0]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert starts[1]["content_block"] == {**whole["content"][1], "input": {}}
    deltas = [event["delta"] for event in parsed if event["type"] == "content_block_delta"]
    joined = {
        name: [delta[name] for delta in deltas if name in delta] for name in ("thinking", "signature", "partial_json")
    }
    assert {delta["type"] for delta in deltas} == {"thinking_delta", "signature_delta", "input_json_delta"}
    assert "".join(joined["thinking"]) == whole["content"][0]["thinking"]
    assert joined["signature"] == [whole["content"][0]["signature"]]
    assert json.loads("".join(joined["partial_json"])) == {"city": "city"}
    assert all(len(joined[name]) > 1 for name in ("thinking", "partial_json"))
    assert parsed[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_tool_without_arguments_is_streamed_as_an_empty_object() -> None:
    parsed = events(tools=[CLOCK], tool_choice={"type": "any"})
    assert [event["delta"]["partial_json"] for event in parsed if event["type"] == "content_block_delta"] == ["{}"]


def test_a_stream_pauses_between_pieces_alone() -> None:
    pieces = ordinary_reply(request(stream=True), token_delay=0.25).pieces or ()
    pauses = {name: [] for name in ("delta", "other")}  # type: dict[str, list[float]]
    for pause, piece in pieces:
        pauses["delta" if b"event: content_block_delta" in piece else "other"].append(pause)
    assert pauses["delta"][:2] == [0.0, 0.25]
    assert set(pauses["other"]) == {0.0}


# ---------------------------------------------------------------------------------------------------- refusals


TURNS = [ASK, assistant(use()), user(result())]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        # the shape
        ({"model": ...}, "model: Field required"),
        ({"max_tokens": ...}, "max_tokens: Field required"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"messages": ...}, "messages: Field required"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": "hello"}, "messages: Input should be a valid array"),
        ({"messages": ["hello"]}, "messages.0: Input should be an object"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role: Input should be 'user', 'assistant'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{**ASK, "name": "x"}]}, "name: Extra inputs are not permitted"),
        ({"messages": [user(said("a"), {"type": "video"})]}, "content.1.type: Input should be 'text'"),
        ({"messages": [user(use())]}, "content.0.type: Input should be 'text'"),
        ({"messages": [ASK, assistant(result())]}, "content.0.type: Input should be 'text'"),
        ({"n": 2}, "n: Extra inputs are not permitted"),
        ({"stream_options": {}}, "stream_options: Extra inputs are not permitted"),
        ({"stop": "a"}, "stop: Extra inputs are not permitted"),
        ({"stop_sequences": "a"}, "stop_sequences: Input should be a valid array"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"top_p": -1}, "top_p: Input should be greater than or equal to 0"),
        ({"metadata": {"user": "a"}}, "metadata.user: Extra inputs are not permitted"),
        ({"service_tier": "flex"}, "service_tier: Input should be 'auto' or 'standard_only'"),
        ({"system": 3}, "system: Input should be a valid string or a valid array"),
        ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
        # texts
        ({"messages": [user()]}, "messages.0.content: all messages must have non-empty content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content: all messages must have non-empty"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages.0.content: text content blocks must contain"),
        ({"messages": [user(said(""))]}, "messages.0.content.0.text: text content blocks must be non-empty"),
        ({"messages": [ASK, assistant(use()), user(result(content=[said("")]))]}, "content.0.content.0.text: text"),
        ({"system": [said("")]}, "system.0.text: text content blocks must be non-empty"),
        # who speaks
        ({"messages": [assistant(said("a")), ASK]}, 'messages: first message must use the "user" role'),
        ({"messages": [ASK, assistant(said("a "))]}, "messages: final assistant content cannot end with trailing"),
        ({"messages": [ASK, assistant(said("a"))], "model": "claude-sonnet-4-6"}, "does not support assistant message"),
        ({"messages": [ASK, assistant(said("a"))], "thinking": BUDGET}, "cannot be continued when thinking is enabled"),
        (
            {"messages": [{"role": "system", "content": "a"}, ASK], "model": "claude-opus-4-7"},
            "messages.0.role: Input should be 'user' or 'assistant'",
        ),
        (
            {"messages": [{"role": "system", "content": "a"}, ASK], "model": "claude-sonnet-4-5"},
            "messages.0.role: Input should be 'user' or 'assistant'",
        ),
        # media
        ({"messages": [image(media_type="image/bmp")]}, "image.source.base64.media_type: Input should be 'image/jpeg'"),
        ({"messages": [image(data="data:image/png;base64,AAAA")]}, "source.base64.data: Invalid base64 data"),
        ({"messages": [image(data="")]}, "source.base64.data: String should have at least 1 character"),
        ({"messages": [image(type="url")]}, "source.url.url: Field required"),
        (
            {"messages": [document(type="base64", media_type="text/plain", data="YQ==")]},
            "document.source.base64.media_type: Input should be 'application/pdf'",
        ),
        # tools and their results
        ({"messages": [ASK, assistant(use()), ASK]}, "messages.1.content.0: `tool_use` ids were found without"),
        ({"messages": [ASK, assistant(use())]}, "messages.1.content.0: `tool_use` ids were found without"),
        ({"messages": [ASK, assistant(use(), use("toolu_2")), user(result())]}, "immediately after: toolu_2"),
        ({"messages": [user(result())]}, "messages.0.content.0: unexpected `tool_use_id` found"),
        ({"messages": [*TURNS, assistant(said("a")), user(result())]}, "messages.4.content.0: unexpected `tool_use_id`"),
        ({"messages": [ASK, assistant(use()), user(result(), result())]}, "each tool_use must have a single result"),
        ({"messages": [ASK, assistant(use()), user(said("a"), result())]}, "blocks must come first"),
        ({"messages": [ASK, assistant(use()), ASK, user(result())]}, "blocks must come first"),
        ({"messages": [*TURNS, assistant(use()), user(result())]}, "messages.3.content.0.id: `tool_use` ids must be"),
        ({"messages": [ASK, assistant(use("a.b")), user(result("a.b"))]}, "tool_use.id: String should match pattern"),
        ({"messages": [ASK, assistant(use(input="{}")), user(result())]}, "tool_use.input: Input should be an object"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name: String should match"),
        ({"tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        ({"tools": [{"name": "a", "input_schema": {"type": "string"}}]}, "input_schema.type: Input should be 'object'"),
        ({"tools": [{"name": "a", "input_schema": {"type": "object", "anyOf": []}}]}, "at the top level"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools.0.type: Input should be 'custom'"),
        ({"tools": [{**CLOCK, "parameters": {}}]}, "tools.0.custom.parameters: Extra inputs are not permitted"),
        ({"tools": [CLOCK, CLOCK]}, "tools: Tool names must be unique."),
        ({"tools": [{**TOOL, "strict": True}]}, "tools.0.custom.input_schema: For 'object' type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified while providing `tools`"),
        ({"tools": [CLOCK], "tool_choice": "auto"}, "tool_choice: Input should be an object"),
        ({"tools": [CLOCK], "tool_choice": {"type": "required"}}, "tool_choice.type: Input should be 'auto', 'any'"),
        ({"tools": [CLOCK], "tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
        ({"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "f"}}, "Tool 'f' not found in provided tools"),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "any"}, "thinking": BUDGET},
            "tool_choice.type: Thinking may not be enabled when tool_choice forces tool use.",
        ),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "any"}, "model": "claude-sonnet-5-5"},
            "tool_choice.type: tool_choice that forces tool use is not supported",
        ),
        # thinking
        ({"thinking": {"type": "on"}}, "thinking.type: Input should be 'enabled', 'adaptive'"),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        ({"thinking": {**BUDGET, "budget_tokens": 1023}}, "budget_tokens: Input should be greater than or equal to 1024"),
        ({"thinking": BUDGET, "max_tokens": 1024}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 5000}}, "thinking.adaptive.budget_tokens: Extra inputs"),
        ({"thinking": BUDGET, "model": "claude-opus-4-7"}, 'Use "thinking.type.adaptive"'),
        ({"thinking": {"type": "adaptive"}, "model": "claude-haiku-4-5-20251001"}, '"thinking.type.adaptive" is not'),
        ({"thinking": {"type": "disabled"}, "model": "claude-sonnet-5-5"}, '"thinking.type.disabled" is not supported'),
        ({"thinking": {"type": "disabled"}, "model": "claude-opus-5-5"}, '"thinking.type.disabled" is not supported'),
        ({"thinking": {"type": "between_tools"}, "model": "claude-opus-5"}, '"thinking.type.between_tools" is not'),
        ({"thinking": BUDGET, "temperature": 0.5}, "temperature: `temperature` may only be set to 1"),
        ({"thinking": BUDGET, "top_k": 5}, "top_k: `top_k` must be unset"),
        ({"thinking": BUDGET, "top_p": 0.5}, "top_p: `top_p` must be greater than or equal to 0.95"),
        (
            {"messages": [ASK, assistant({"type": "thinking", "thinking": "a"}), ASK]},
            "messages.1.content.0.thinking.signature: Field required",
        ),
        (
            {"messages": [ASK, assistant({"type": "thinking", "thinking": "a", "signature": "EqQB"}), ASK]},
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
        ({"messages": TURNS, "tools": [TOOL], "thinking": BUDGET}, "Expected `thinking` or `redacted_thinking`"),
        # models
        ({"model": "claude-opus-4-7", "temperature": 1}, "temperature: `temperature` is not supported by this model"),
        ({"model": "claude-sonnet-4-5", "max_tokens": 64001}, "max_tokens: 64001 > 64000, which is the maximum"),
        ({"model": "claude-sonnet-4-6", "max_tokens": 128001}, "max_tokens: 128001 > 128000, which is the maximum"),
        ({"model": "claude-sonnet-4-5", "output_config": {"effort": "low"}}, "output_config.effort: This model does not"),
        ({"model": "claude-opus-4-6", "output_config": {"effort": "xhigh"}}, "output_config.effort: Input should be 'low'"),
        (
            {"model": "claude-haiku-5-5", "output_config": {"effort": "max"}, "thinking": {"type": "disabled"}},
            "output_config.effort: effort above 'high'",
        ),
        ({"output_config": {"effort": "minimal"}}, "output_config.effort: Input should be 'low', 'medium'"),
        # schemas and the cache
        (
            {"output_config": {"format": {"type": "json_schema", "schema": TOOL["input_schema"]}}},
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"anyOf": [CLOSED, {"type": "object"}]}}}},
            "output_config.format.schema.anyOf.1: For 'object' type",
        ),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.json_schema.schema: Field required"),
        (
            {"model": "claude-opus-4-0", "output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
            "output_config.format: This model does not support structured outputs",
        ),
        ({"system": marked(3), "messages": [user(*marked(2))]}, "A maximum of 4 blocks with cache_control"),
        ({"messages": [ASK, assistant(use()), user(result(content=marked(5)))]}, "Found 5."),
        ({"system": [said("a", cache_control={"type": "forever"})]}, "cache_control.type: Input should be 'ephemeral'"),
        ({"system": [said("a", cache_control={"type": "ephemeral", "ttl": "2h"})]}, "cache_control.ttl: Input should be"),
    ],
)  # fmt: skip
def test_what_anthropic_refuses_is_refused_and_the_field_named(fields: dict[str, Any], words: str) -> None:
    assert words in refused(**fields)


THOUGHT = {"type": "thinking", "thinking": "a", "signature": sign("a", "0" * 32)}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [ASK, ASK]},
        {"messages": [user(said("a")), assistant(said("b")), assistant(said("c")), ASK]},
        {"messages": [ASK, assistant(said("The river is"))], "model": "claude-sonnet-4-5"},
        {"messages": [ASK, {"role": "assistant", "content": ""}]},
        {"messages": [ASK, assistant({"type": "server_tool_use", "id": "s"}, said("So"))], "model": "claude-opus-5"},
        {"messages": [ASK, assistant(use(), use("toolu_2")), user(result("toolu_2"), result(), said("go on"))]},
        {"messages": [ASK, assistant(use()), user(result()), user(said("go on"))]},
        {"messages": [ASK, assistant(use()), user(result(content=None, is_error=True))]},
        {"messages": [ASK, assistant(THOUGHT, use()), user(result())], "thinking": BUDGET, "tools": [TOOL]},
        {"messages": [ASK, assistant({"type": "redacted_thinking", "data": "x"}, said("a")), ASK]},
        {
            "messages": [ASK, assistant({"type": "redacted_thinking", "data": "x"}, use()), user(result())],
            "thinking": BUDGET,
        },
        {"messages": [{"role": "system", "content": "a"}, ASK], "model": "claude-opus-4-8"},
        {"messages": [{"role": "system", "content": "a"}, ASK], "model": "claude-opus-5"},
        {"messages": [{"role": "system", "content": "a"}, ASK]},
        {"messages": [image()], "system": None, "tools": None, "stop_sequences": None},
        {"thinking": {"type": "adaptive"}, "tools": [CLOCK], "tool_choice": {"type": "any"}},
        {"thinking": BUDGET, "temperature": 1, "top_p": 0.95},
        {"thinking": BUDGET, "model": "claude-sonnet-4-6"},
        {"thinking": {"type": "disabled"}, "model": "claude-sonnet-5", "output_config": {"effort": "max"}},
        {"temperature": 0.5, "model": "claude-3-5-haiku-latest"},
        {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
        {"tools": [{**TOOL, "strict": True, "input_schema": CLOSED}]},
        {"tools": [CLOCK], "tool_choice": {"type": "none"}},
        {"tools": [CLOCK], "tool_choice": {"type": "auto"}, "model": "claude-sonnet-5-5"},
        {"output_config": {"effort": "high", "format": {"type": "json_schema", "schema": CLOSED}}},
        {"system": marked(3), "messages": [user(*marked(1))]},
        *({"messages": [image(media_type=f"image/{kind}")]} for kind in ("jpeg", "png", "gif", "webp")),
        {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "file_1"}})]},
        {"messages": [user({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}})]},
        {"messages": [user({**image()["content"][0], "transformations": {"oversized_image": "downsize"}})]},
        {
            "messages": [
                user(
                    {
                        **document(type="text", media_type="text/plain", data="a")["content"][0],
                        "citations": {"enabled": True},
                    }
                )
            ]
        },
        {"messages": [user({"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}, "context": "c"})]},
        {"messages": [user({"type": "document", "source": {"type": "content", "content": [said("a")]}, "title": "t"})]},
        {"messages": [user({"type": "search_result", "source": "s", "title": "t", "content": [said("a")]})]},
        {"inference_geo": "us", "container": "c", "diagnostics": {}, "speed": "fast", "service_tier": "standard_only"},
    ],
)
def test_what_anthropic_takes_is_taken(fields: dict[str, Any]) -> None:
    assert reply(**fields).status == 200, reply(**fields).body


LEVELS = "low medium high xhigh max"
UP_TO_HIGH = "low medium high"
# What a model takes: types of thinking; efforts; efforts while thinking is off; and, if it takes it, sampling, a prefill,
# a schema, a forced tool.
MODELS = {
    "claude-3-7-sonnet-latest": ("enabled disabled", "", "", "sampling prefill forced"),
    "claude-sonnet-4-0": ("enabled disabled", "", "", "sampling prefill forced"),
    "claude-opus-4-1": ("enabled disabled", "", "", "sampling prefill schema forced"),
    "claude-haiku-4-5": ("enabled disabled", "", "", "sampling prefill schema forced"),
    "claude-sonnet-4-5": ("enabled disabled", "", "", "sampling prefill schema forced"),
    "claude-opus-4-5": ("enabled disabled", UP_TO_HIGH, UP_TO_HIGH, "sampling prefill schema forced"),
    "claude-opus-4-6": ("enabled adaptive disabled", "low medium high max", "low medium high max",
                        "sampling schema forced"),
    "claude-sonnet-4-6": ("enabled adaptive disabled", "low medium high max", "low medium high max",
                          "sampling schema forced"),
    "claude-opus-4-7": ("adaptive disabled", LEVELS, LEVELS, "schema forced"),
    "claude-opus-4-8": ("adaptive disabled", LEVELS, LEVELS, "schema forced"),
    "claude-sonnet-5": ("adaptive disabled", LEVELS, LEVELS, "schema forced"),
    "claude-opus-5": ("adaptive disabled", LEVELS, UP_TO_HIGH, "schema forced"),
    "claude-haiku-5-5": ("adaptive disabled", LEVELS, UP_TO_HIGH, "schema forced"),
    "claude-sonnet-5-5": ("adaptive between_tools", LEVELS, UP_TO_HIGH, "schema"),
    "claude-opus-5-5": ("adaptive", LEVELS, "", "schema"),
    "claude-fable-5": ("adaptive", LEVELS, "", "schema forced"),
    "claude-fable-5-1": ("adaptive", LEVELS, "", "schema"),
    "claude-fable-5-2": ("adaptive", LEVELS, "", "schema"),
    "claude-mythos-5-2": ("adaptive", LEVELS, "", "schema"),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_each_model_takes_what_anthropic_says_it_takes(model: str) -> None:
    def taken(**asked: dict[str, Any]) -> str:
        return " ".join(name for name, fields in asked.items() if reply(model=model, **fields).status == 200)

    kinds: dict[str, dict[str, Any]] = {kind: {"type": kind} for kind in ("adaptive", "disabled", "between_tools")}
    kinds = {"enabled": BUDGET, **kinds}
    thinking, efforts, quiet_efforts, more = MODELS[model]
    off = {"thinking": {"type": thinking.split()[-1]}}
    assert taken(**{kind: {"thinking": value} for kind, value in kinds.items()}) == thinking
    assert taken(**{effort: {"output_config": {"effort": effort}} for effort in LEVELS.split()}) == efforts
    if "disabled" in thinking or "between_tools" in thinking:
        asked = {effort: {"output_config": {"effort": effort}, **off} for effort in LEVELS.split()}
        assert taken(**asked) == quiet_efforts
    assert more == taken(
        sampling={"temperature": 0.5},
        prefill={"messages": [ASK, assistant(said("a"))]},
        schema={"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        forced={"tools": [CLOCK], "tool_choice": {"type": "any"}},
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 1}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 1}, "top_k: Extra inputs are not permitted"),
        (
            {"messages": [ASK, assistant({"type": "document", "source": {"type": "url", "url": "https://a"}}), ASK]},
            "messages.1.content.0.type: `document` blocks are not permitted",
        ),
        (
            {"messages": [user(said("a", citations=[{"type": "char_location"}]))]},
            "messages.0.content.0.text.citations: Extra inputs are not permitted",
        ),
    ],
)
def test_the_newer_version_refuses_more(fields: dict[str, Any], words: str) -> None:
    assert reply(version=OLD, **fields).status == 200
    assert words in refused(version=NEW, **fields)


def test_the_newer_version_takes_documents_of_the_user_and_texts_without_citations() -> None:
    paper = document(type="text", media_type="text/plain", data="a")
    for asked in (paper, user(said("a", citations=[])), user(said("a", citations=None))):
        assert reply(version=NEW, messages=[asked]).status == 200


def test_an_answer_follows_the_schema_that_is_asked_for() -> None:
    wanted = {"format": {"type": "json_schema", "schema": CLOSED}}
    assert [*json.loads(text(output_config=wanted))] == ["n"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000, b"[]", b"null", b"3"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    asked = ReceivedRequest(method="POST", path="/v1/messages", headers={"anthropic-version": OLD}, body=body)
    answer = ordinary_reply(asked)
    assert answer.status == 400
    assert "JSON" in json.loads(answer.body or b"")["error"]["message"]


def test_a_body_that_is_too_large_is_refused() -> None:
    asked = request(messages=[image(data="A" * 4 * 9_000_000)])
    answer = ordinary_reply(asked)
    assert (answer.status, json.loads(answer.body or b"")["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("version", "headers", "status", "words"),
    [
        (None, {}, 400, "anthropic-version: header is required"),
        ("2023-01-01", {}, 400, 'anthropic-version: "2023-01-01" is not a valid version'),
        (OLD, {"x-api-key": "k", "authorization": "Bearer k"}, 401, "not both"),
    ],
)
def test_headers_are_checked(version: str | None, headers: dict[str, str], status: int, words: str) -> None:
    answer = reply(version=version, headers=headers)
    assert answer.status == status
    assert words in json.loads(answer.body or b"")["error"]["message"]


# ---------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/messages", 405, "POST"),
        ("GET", "/v1/messages/count_tokens", 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("POST", "/v1/messages/batches", 404, None),
        ("GET", "/v1/models/c", 404, None),
        ("GET", "/v1/models/a", 200, None),
    ],
)
def test_a_wrong_path_or_method_gets_an_error_body(method: str, path: str, status: int, allow: str | None) -> None:
    asked = ReceivedRequest(method=method, path=path, headers={"anthropic-version": NEW})
    answer = ordinary_reply(asked, models=("a",))
    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert (json.loads(answer.body or b"")["type"] == "error") == (status != 200)


def listed(query: str) -> tuple[list[str], bool]:
    asked = ReceivedRequest(method="GET", path="/v1/models", query=query, headers={"anthropic-version": NEW})
    body = json.loads(ordinary_reply(asked, models=("a", "b", "c")).body or b"")
    ids = [model["id"] for model in body["data"]]
    assert (body["first_id"], body["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, body["has_more"]


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", (["a", "b", "c"], False)),
        ("limit=2", (["a", "b"], True)),
        ("limit=2&after_id=b", (["c"], False)),
        ("limit=1&before_id=c", (["b"], True)),
        ("after_id=c", ([], False)),
        ("lifecycle=retired", ([], False)),
    ],
)
def test_models_are_listed_in_pages(query: str, page: tuple[list[str], bool]) -> None:
    assert listed(query) == page


def test_a_page_has_20_models_unless_it_is_asked_for_more() -> None:
    for query, count in (("", 20), ("limit=1000", 30)):
        asked = ReceivedRequest(method="GET", path="/v1/models", query=query, headers={"anthropic-version": NEW})
        listed = json.loads(ordinary_reply(asked, models=[f"m{at}" for at in range(30)]).body or b"")
        assert (len(listed["data"]), listed["has_more"]) == (count, count < 30)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=z", "before_id=z"])
def test_a_page_that_cannot_be_is_refused(query: str) -> None:
    asked = ReceivedRequest(method="GET", path="/v1/models", query=query, headers={"anthropic-version": NEW})
    answer = ordinary_reply(asked, models=("a",))
    assert answer.status == 400
    assert json.loads(answer.body or b"")["error"]["message"].startswith(query.partition("=")[0])


def test_a_model_tells_what_it_takes() -> None:
    card = model_info("claude-opus-4-6-20260101")
    types = {name: kind["supported"] for name, kind in card["capabilities"]["thinking"]["types"].items()}
    assert types == {"enabled": True, "adaptive": True, "disabled": True, "between_tools": False}
    assert card["capabilities"]["effort"]["xhigh"] == {"supported": False}
    assert (card["line"], card["max_tokens"]) == ("opus", 128_000)
    assert model_info("claude-haiku-4-5")["capabilities"]["effort"]["supported"] is False


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 418, 429, 500, 503, 504, 529])
def test_every_failure_has_a_type_and_a_message(status: int) -> None:
    answer = anthropic.failure(status)
    body = json.loads(answer.body or b"")
    assert answer.status == status
    assert set(body) == {"type", "error", "request_id"}
    assert body["error"]["type"].endswith(("_error", "_too_large"))
    assert body["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"x-api-key": "k"}, "k"),
        ({"authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer k"}, "k"),
        ({"authorization": "Basic k"}, None),
        ({"x-api-key": ""}, None),
        ({"x-api-key": "k", "authorization": "Bearer k"}, None),
        ({}, None),
    ],
)
def test_the_key_is_in_one_of_two_headers(headers: dict[str, str], key: str | None) -> None:
    assert anthropic.key(ReceivedRequest(method="GET", path="/", headers=headers)) == key


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([ASK], "Name a river in Asia, please."),
        ([user(said("one"), {"type": "image"}, said("two"))], "one\ntwo"),
        (TURNS, "Name a river in Asia, please."),
        ([user(result())], ""),
        ([assistant(said("a"))], None),
        ([3], None),
        (3, None),
    ],
)
def test_the_prompt_is_the_last_text_of_the_user(messages: Any, prompt: str | None) -> None:
    assert anthropic.prompt(request(messages=messages)) == prompt


@pytest.mark.parametrize(
    ("path", "headers", "is_ours"),
    [
        ("/v1/messages", {}, True),
        ("/v1/messages/count_tokens", {}, True),
        ("/v1/models", {"anthropic-version": NEW}, True),
        ("/v1/models/a", {"anthropic-version": NEW}, True),
        ("/v1/models", {}, False),
        ("/v1/chat/completions", {"anthropic-version": NEW}, False),
    ],
)
def test_a_request_finds_its_dialect(path: str, headers: dict[str, str], is_ours: bool) -> None:
    asked = ReceivedRequest(method="GET", path=path, headers=headers)
    assert (dialect_of(asked) is anthropic) == is_ours
