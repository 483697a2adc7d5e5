"""The OpenAI dialect: what is answered, streamed and refused. No socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flexllm.mock import ReceivedRequest, openai
from flexllm.mock.responder import dialect_of, ordinary_reply

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river in Asia, please."}]


def chat_request(**fields: Any) -> ReceivedRequest:
    body = {"model": "m", "messages": MESSAGES, **fields}
    return ReceivedRequest(method="POST", path="/v1/chat/completions", body=json.dumps(body).encode())


def chat(**fields: Any) -> Any:
    """The parsed completion or error body for these fields."""
    return json.loads(ordinary_reply(chat_request(**fields)).body or b"")


def text(**fields: Any) -> str:
    content = chat(**fields)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def events(**fields: Any) -> list[Any]:
    """The parsed events of a stream, without [DONE], which must be the last."""
    pieces = ordinary_reply(chat_request(stream=True, **fields)).pieces or ()
    blocks = b"".join(piece for _, piece in pieces).decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


# ---------------------------------------------------------------------------------------------------- completions


def test_a_completion_has_every_field_openai_sends() -> None:
    reply = chat()
    assert set(reply) == {
        "id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"
    }  # fmt: skip
    assert reply["object"] == "chat.completion"
    assert reply["id"].startswith("chatcmpl-")
    assert reply["model"] == "m"
    (choice,) = reply["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    message = choice["message"]
    assert (message["role"], message["refusal"], message["annotations"]) == ("assistant", None, [])


def test_the_same_request_gets_the_same_answer_on_any_machine() -> None:
    # Literal values, computed with b2sum(1): who has recorded replies would notice a change.
    assert chat() == chat()
    assert chat()["id"] == "chatcmpl-dfacade4dcac8c67bc26739170dd5519"
    assert text() == 'Mock answer da9312d50a0f: you wrote "Name a river in Asia, please.". There is little to add.'


def test_the_layout_of_the_json_does_not_matter() -> None:
    tight = b'{"messages":[{"content":"a","role":"user"}],"model":"m"}'
    loose = b'{ "model": "m", "messages": [ {"role": "user", "content": "a"} ] }'
    replies = [
        ordinary_reply(ReceivedRequest(method="POST", path="/v1/chat/completions", body=body))
        for body in (tight, loose)
    ]
    assert replies[0] == replies[1]


@pytest.mark.parametrize(
    "other", [{"model": "m2"}, {"temperature": 0.5}, {"messages": [{"role": "user", "content": "Name a lake."}]}]
)
def test_a_different_request_gets_a_different_answer(other: dict[str, Any]) -> None:
    assert text(**other) != text()
    assert chat(**other)["id"] != chat()["id"]


def test_the_text_repeats_words_of_the_last_user_message() -> None:
    assert "Name a river in Asia, please." in text()
    parts = [{"type": "text", "text": "What is"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    assert '"What is"' in text(messages=[{"role": "user", "content": parts}])


def test_a_long_prompt_does_not_make_a_long_answer() -> None:
    assert len(text(messages=[{"role": "user", "content": "word " * 5000}])) < 300
    assert len(text(messages=[{"role": "user", "content": "x" * 50_000}])) < 300


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_gives_the_beginning_of_the_answer(name: str) -> None:
    reply = chat(**{name: 3})
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["content"] == text()[:12]
    assert reply["usage"]["completion_tokens"] == 3


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    assert chat(max_tokens=1000) == chat()


def test_each_of_n_choices_has_its_own_text() -> None:
    choices = chat(n=3)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3
    assert choices[0]["message"]["content"] == text()


def test_usage_adds_up_and_follows_the_length() -> None:
    usage = chat()["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == 3 + 4 + 3 + 4 + 8  # reply, two messages, 9 and 29 characters
    assert usage["completion_tokens"] == -(-len(text()) // 4)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert chat(n=2)["usage"]["completion_tokens"] > usage["completion_tokens"]


def test_usage_does_not_count_base64_as_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    content = [{"type": "text", "text": "abcd"}, image]
    assert chat(messages=[{"role": "user", "content": content}])["usage"]["prompt_tokens"] == 3 + 4 + 1 + 85


def test_text_beyond_ascii_survives() -> None:
    assert "黄河 и Волга" in text(messages=[{"role": "user", "content": "黄河 и Волга"}])
    assert "\ud800" in text(messages=[{"role": "user", "content": "half \ud800"}])  # cannot be UTF-8, so is escaped


# ---------------------------------------------------------------------------------------------------- streams


def test_a_stream_carries_the_text_of_the_whole_answer() -> None:
    chunks = events()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text()
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len(chunks) > 4
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {chat()["id"]}


def test_a_stream_says_nothing_of_usage_unless_asked() -> None:
    assert not any("usage" in chunk for chunk in events())


def test_a_stream_ends_with_a_usage_chunk_if_asked() -> None:
    *chunks, last = events(stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == chat()["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_a_limited_stream_ends_with_length() -> None:
    chunks = events(max_tokens=5)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text()[:20]


def test_a_stream_of_several_choices_carries_the_text_of_each() -> None:
    chunks = events(n=2)
    for choice in chat(n=2)["choices"]:
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(part["delta"].get("content", "") for part in mine) == choice["message"]["content"]
        assert mine[-1]["finish_reason"] == "stop"


def test_a_stream_pauses_between_the_pieces_of_text() -> None:
    pieces = ordinary_reply(chat_request(stream=True), token_delay=0.25).pieces or ()
    assert [pause for pause, _ in pieces][:3] == [0.0, 0.0, 0.25]  # role, first words, further words
    assert [pause for pause, _ in pieces][-2:] == [0.0, 0.0]  # finish, [DONE]


# ---------------------------------------------------------------------------------------- tools, thinking, structure


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASK_WEATHER = [{"role": "user", "content": "Ask get_weather."}]


def choice(**fields: Any) -> Any:
    return chat(**fields)["choices"][0]


def test_a_named_tool_is_called_with_what_its_schema_requires() -> None:
    called = choice(messages=ASK_WEATHER, tools=[CLOCK, WEATHER])
    assert (called["finish_reason"], called["message"]["content"]) == ("tool_calls", None)
    (call,) = called["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"city"}'}


def test_after_a_result_comes_text_even_if_a_tool_is_forced() -> None:
    call = choice(messages=ASK_WEATHER, tools=[WEATHER])["message"]
    result = {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "rain"}
    done = choice(messages=[*ASK_WEATHER, call, result], tools=[WEATHER], tool_choice="required")
    assert (done["finish_reason"], "tool_calls" in done["message"]) == ("stop", False)
    again = choice(messages=[*ASK_WEATHER, call, result, *ASK_WEATHER], tools=[WEATHER])
    assert again["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("required", "get_weather"),
        ("auto", None),
        ({"type": "function", "function": {"name": "clock"}}, "clock"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]},
            },
            "clock",
        ),
    ],
)
def test_a_choice_forces_a_tool(wanted: Any, name: str | None) -> None:
    calls = choice(tools=[WEATHER, CLOCK], tool_choice=wanted)["message"].get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == ([name] if name else [])


def test_a_call_is_cut_by_the_limit() -> None:
    cut = choice(messages=ASK_WEATHER, tools=[WEATHER], max_tokens=4)
    assert cut["finish_reason"] == "length"
    assert cut["message"]["tool_calls"][0]["function"]["arguments"] == '{"cit'
    assert choice(messages=ASK_WEATHER, tools=[WEATHER], max_tokens=1)["message"]["content"] == ""


def test_thoughts_are_shown_counted_and_limited() -> None:
    whole = chat(enable_thinking=True)
    thought = whole["choices"][0]["message"]["reasoning_content"]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == -(-len(thought) // 4)
    cut = choice(enable_thinking=True, max_tokens=5)
    assert (cut["finish_reason"], cut["message"]["content"]) == ("length", "")
    assert cut["message"]["reasoning_content"] == thought[:20]


@pytest.mark.parametrize("hidden", [{"reasoning": {"effort": "low", "exclude": True}}, {"include_reasoning": False}])
def test_thoughts_can_be_hidden(hidden: dict[str, Any]) -> None:
    whole = chat(**{"reasoning_effort": "low", **hidden})
    assert "reasoning_content" not in whole["choices"][0]["message"]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "thinks"),
    [
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"chat_template_kwargs": {"thinking": True}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"other": True}}, False),
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"reasoning": {}}, True),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"enabled": False}}, False),
    ],
)
def test_thinking_is_switched_in_every_way_of_the_dialect(fields: dict[str, Any], thinks: bool) -> None:
    assert ("reasoning_content" in choice(**fields)["message"]) == thinks


def test_one_switch_that_is_off_is_off() -> None:
    assert "reasoning_content" not in choice(enable_thinking=False, reasoning_effort="high")["message"]


def test_a_schema_is_obeyed_and_streamed_in_pieces() -> None:
    schema = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]}
    asked = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert json.loads(text(response_format=asked)) == {"river": "river"}
    assert text(response_format={"type": "text"})
    joined = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in events(response_format=asked))
    assert joined == text(response_format=asked)


def test_a_stop_sequence_ends_the_text_and_does_not_change_it() -> None:
    whole = text()
    assert text(stop="Asia") == whole.partition("Asia")[0]
    assert text(stop=["little", "Asia"]) == whole.partition("Asia")[0]
    assert text(stop=["not there"]) == whole
    assert choice(stop="Asia")["finish_reason"] == "stop"


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [*MESSAGES, {"role": "robot", "content": "a"}]}, "messages[2].role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
    ],
)
def test_a_wrong_body_is_refused_and_the_param_named(fields: dict[str, Any], param: str) -> None:
    reply = ordinary_reply(chat_request(**fields))
    error = json.loads(reply.body or b"")["error"]
    assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert param.split("[")[0] in error["message"] or param.endswith(".role")


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
STRICT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def user(*parts: Any) -> Any:
    return {"role": "user", "content": list(parts)}


def assistant(**fields: Any) -> Any:
    return {"role": "assistant", "content": None, **fields}


def tool(**function: Any) -> Any:
    return {"type": "function", "function": {"name": "f", **function}}


def shaped(schema: Any, **more: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema, **more}}


def nested(levels: int) -> Any:
    """A strict schema of objects in objects."""
    inner = nested(levels - 1) if levels > 1 else {"type": "string"}
    return {**STRICT, "properties": {"n": inner}}


def refused(openai_dialect: str, fields: dict[str, Any]) -> Any:
    """The error for these fields; it names the param in its message."""
    reply = ordinary_reply(chat_request(**fields), openai_dialect=openai_dialect)
    error = json.loads(reply.body or b"")["error"]
    assert (reply.status, error["type"]) == (400, "invalid_request_error")
    return error


BOTH = [
    ({"invented": 1}, "invented", "unknown_parameter"),
    ({"max_token": 1}, "max_token", "unknown_parameter"),
    ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
    ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"n": 10**400}, "n", "integer_above_max_value"),
    ({"seed": "a"}, "seed", "invalid_type"),
    ({"stop": [1]}, "stop[0]", "invalid_type"),
    ({"stop": []}, "stop", "empty_array"),
    ({"logit_bias": {"50256": 101}}, "logit_bias.50256", "decimal_above_max_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "integer_above_max_value"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort", "invalid_value"),
    ({"verbosity": "loud"}, "verbosity", "invalid_value"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"metadata": {str(at): "" for at in range(17)}}, "metadata", "object_above_max_length"),
    ({"safety_identifier": "x" * 129}, "safety_identifier", "string_above_max_length"),
    ({"stream": True, "stream_options": {"include_usages": True}}, "stream_options.include_usages", "unknown_parameter"),
    # messages
    ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages[0].mood", "unknown_parameter"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "empty_array"),
    ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text", "missing_required_parameter"),
    ({"messages": [user({"type": "text", "text": None})]}, "messages[0].content[0].text", "missing_required_parameter"),
    ({"messages": [user({"type": "smell", "smell": "x"})]}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": [user({"type": "image_url"})]}, "messages[0].content[0].image_url", "missing_required_parameter"),
    ({"messages": [user({"type": "image_url", "image_url": {}})]}, "messages[0].content[0].image_url.url",
     "missing_required_parameter"),
    ({"messages": [user({"type": "image_url", "image_url": {"url": "a", "detail": "fine"}})]},
     "messages[0].content[0].image_url.detail", "invalid_value"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
     "messages[0].content[0].type", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
    ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[CALL])]}, "messages[2].tool_calls", "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[CALL]), MESSAGES[1]]}, "messages[2].tool_calls", "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[CALL, {**CALL, "id": "call_2"}]), RESULT]},
     "messages[2].tool_calls", "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[CALL]), MESSAGES[1], RESULT]}, "messages[2].tool_calls",
     "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[CALL]), RESULT, RESULT]}, "messages[4].role", "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[{**CALL, "type": "f"}])]}, "messages[2].tool_calls[0].type",
     "invalid_value"),
    ({"messages": [*MESSAGES, assistant(tool_calls=[{**CALL, "function": {"name": "f", "arguments": {}}}])]},
     "messages[2].tool_calls[0].function.arguments", "invalid_type"),
    # tools
    ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [tool(name="a b")]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [tool(name="x" * 65)]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [tool(input_schema={})]}, "tools[0].function.input_schema", "unknown_parameter"),
    ({"tools": [tool(parameters={"type": "string"})]}, "tools[0].function.parameters", "invalid_function_parameters"),
    ({"tools": [tool(strict=True, parameters={**STRICT, "additionalProperties": True})]},
     "tools[0].function.parameters", "invalid_function_parameters"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tools": [tool()], "tool_choice": "some"}, "tool_choice", "invalid_value"),
    ({"tools": [tool()], "tool_choice": {"type": "tool", "name": "f"}}, "tool_choice.type", "invalid_value"),
    ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice",
     "invalid_value"),
    # structured output
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_object"}}, "messages", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    ({"response_format": shaped(STRICT, name="a b")}, "response_format.json_schema.name", "invalid_value"),
    ({"response_format": shaped({**STRICT, "required": []})}, "response_format", "invalid_json_schema"),
    ({"response_format": shaped({"type": "array", "items": STRICT})}, "response_format", "invalid_json_schema"),
    ({"response_format": shaped({**STRICT, "properties": {"n": {"oneOf": []}}})}, "response_format",
     "invalid_json_schema"),
    ({"response_format": shaped({**STRICT, "properties": {"n": {"type": "string", "minLength": 1}}})},
     "response_format", "invalid_json_schema"),
    ({"response_format": shaped({**STRICT, "properties": {"n": {"type": "object"}}})}, "response_format",
     "invalid_json_schema"),
    ({"response_format": shaped({**STRICT, "properties": {"n": {"$ref": "#", "title": "a"}}})}, "response_format",
     "invalid_json_schema"),
    ({"response_format": shaped(None)}, "response_format", "invalid_json_schema"),
    ({"response_format": shaped(nested(11))}, "response_format", "invalid_json_schema"),
]  # fmt: skip


@pytest.mark.parametrize("openai_dialect", ["any", "openai"])
@pytest.mark.parametrize(("fields", "param", "code"), BOTH)
def test_what_no_server_takes_is_refused(fields: dict[str, Any], param: str, code: str, openai_dialect: str) -> None:
    error = refused(openai_dialect, fields)
    assert (error["param"], error["code"]) == (param, code)
    assert any(name in error["message"] for name in (param, param.split("[")[0], "role 'tool'", "function 'f'"))


FOREIGN = [
    ({"enable_thinking": True}, "enable_thinking", "unknown_parameter"),
    ({"chat_template_kwargs": {"thinking": True}}, "chat_template_kwargs", "unknown_parameter"),
    ({"thinking": {"type": "enabled"}}, "thinking", "unknown_parameter"),
    ({"reasoning": {"effort": "low"}}, "reasoning", "unknown_parameter"),
    ({"top_k": 20}, "top_k", "unknown_parameter"),
    ({"reasoning_effort": "ultra"}, "reasoning_effort", "invalid_value"),
    ({"service_tier": "gold"}, "service_tier", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
    ({"tools": []}, "tools", "empty_array"),
    ({"tool_choice": "none"}, "tool_choice", "invalid_value"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", "invalid_value"),
    ({"tools": [tool(parameters={"properties": {}})]}, "tools[0].function.parameters", "invalid_function_parameters"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "invalid_parameter_combination"),
    ({"messages": [*MESSAGES, assistant(content="a", reasoning_content="b"), MESSAGES[1]]},
     "messages[2].reasoning_content", "unknown_parameter"),
    ({"messages": [*MESSAGES, assistant(content="a", prefix=True)]}, "messages[2].prefix", "unknown_parameter"),
    ({"messages": [*MESSAGES, assistant(content="a", tool_calls=[])]}, "messages[2].tool_calls", "empty_array"),
    ({"messages": [user({"type": "video_url", "video_url": {"url": "a"}})]}, "messages[0].content[0].type",
     "invalid_value"),
    ({"messages": [user({"type": "image_url", "image_url": "data:,a"})]}, "messages[0].content[0].image_url",
     "invalid_type"),
    ({"messages": [user({"type": "input_audio", "input_audio": {"data": "a", "format": "ogg"}})]},
     "messages[0].content[0].input_audio.format", "invalid_value"),
    ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats",
     "unknown_parameter"),
    ({"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}, "tools[0].type", "invalid_value"),
    ({"response_format": {"type": "structural_tag", "structures": []}}, "response_format.type", "invalid_value"),
    ({"messages": [user({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}})]},
     "messages[0].content[0].cache_control", "unknown_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "code"), FOREIGN)
def test_what_other_servers_take_openai_itself_refuses(fields: dict[str, Any], param: str, code: str) -> None:
    assert ordinary_reply(chat_request(**fields)).status == 200
    error = refused("openai", fields)
    assert (error["param"], error["code"]) == (param, code)


def test_a_message_is_continued_or_a_new_one_begun() -> None:
    asked = {"messages": [*MESSAGES, assistant(content="a")], "continue_final_message": True}
    assert ordinary_reply(chat_request(**asked, add_generation_prompt=False)).status == 200
    assert refused("any", {**asked, "add_generation_prompt": True})["param"] == "continue_final_message"


def test_openai_says_it_in_its_own_words() -> None:
    assert refused("openai", {"top_k": 1})["message"] == "Unrecognized request argument supplied: top_k"
    wrong = refused("any", {"n": 200})["message"]
    assert wrong == "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 200 instead."
    wrong = refused("any", {"messages": [{"role": "user", "content": 3}]})["message"]
    assert wrong == (
        "Invalid type for 'messages[0].content': expected one of a string or an array, but got an integer instead."
    )
    wrong = refused("any", {"response_format": shaped({**STRICT, "additionalProperties": True})})["message"]
    assert wrong == (
        "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be supplied and "
        "to be false."
    )


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "o3", "max_tokens": 5}, "max_tokens", "unsupported_parameter"),
        ({"model": "gpt-5.1", "max_tokens": 5}, "max_tokens", "unsupported_parameter"),
        ({"model": "gpt-6-luna", "temperature": 1}, "temperature", "unsupported_parameter"),
        ({"model": "gpt-5-mini", "logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"model": "gpt-5.1", "reasoning_effort": "low", "top_p": 0.5}, "top_p", "unsupported_parameter"),
        ({"model": "o4-mini", "stop": "a"}, "stop", "unsupported_parameter"),
        ({"model": "gpt-5", "reasoning_effort": "none"}, "reasoning_effort", "unsupported_value"),
        ({"model": "gpt-6-astra", "reasoning_effort": "none"}, "reasoning_effort", "unsupported_value"),
        ({"model": "gpt-6-luna", "reasoning_effort": "minimal"}, "reasoning_effort", "unsupported_value"),
        ({"model": "gpt-5.6-sol", "reasoning_effort": "max"}, "reasoning_effort", "unsupported_value"),
        ({"model": "gpt-5-pro", "reasoning_effort": "low"}, "reasoning_effort", "unsupported_value"),
        ({"model": "gpt-4.1", "reasoning_effort": "low"}, "reasoning_effort", "unknown_parameter"),
    ],
)
def test_models_of_openai_differ_in_what_they_take(fields: dict[str, Any], param: str, code: str) -> None:
    assert ordinary_reply(chat_request(**fields)).status == 200
    error = refused("openai", fields)
    assert (error["param"], error["code"]) == (param, code)
    assert param in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt-5.1", "temperature": 0.5},
        {"model": "gpt-6-luna", "reasoning_effort": "none", "temperature": 0.5, "max_completion_tokens": 5},
        {"model": "gpt-4.1", "max_tokens": 5, "temperature": 0.5, "stop": "a"},
        {"model": "gpt-5-nano", "reasoning_effort": "minimal"},
        {"model": "gpt-5-chat-latest", "temperature": 0.5, "max_tokens": 5},
        {"temperature": None, "tools": None, "stop": None, "n": None, "response_format": None, "stream": None},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}]}, *MESSAGES]},
        {"messages": [*MESSAGES, {**chat()["choices"][0]["message"]}, MESSAGES[1]]},
        {"messages": [*MESSAGES, assistant(tool_calls=[CALL]), {**RESULT, "name": "f"}]},
        {"messages": [*MESSAGES, assistant(function_call={"name": "f", "arguments": "{"}),
                      {"role": "function", "name": "f", "content": "a"}]},
        {"messages": [user({"type": "file", "file": {"file_id": "file-1"}})]},
        {"tools": [tool(strict=True, parameters=STRICT), {"type": "custom", "custom": {"name": "shell"}}]},
        {"tools": [tool()], "tool_choice": "none", "parallel_tool_calls": False},
        {"response_format": shaped(STRICT)},
        {"response_format": shaped(nested(10))},
        {"response_format": shaped({"type": "object", "properties": {"n": {}}}, strict=None)},
        {"metadata": {"a": "b"}, "store": True, "prompt_cache_options": {"mode": "explicit", "ttl": "30m"}},
    ],
)  # fmt: skip
def test_what_openai_takes_is_taken_by_both(fields: dict[str, Any]) -> None:
    for openai_dialect in ("any", "openai"):
        reply = ordinary_reply(chat_request(**fields), openai_dialect=openai_dialect)
        assert reply.status == 200, reply.body


CALLED = assistant(tool_calls=[CALL])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": shaped(STRICT)}, "response_format"),
        ({"tools": [tool()], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"messages": [*MESSAGES, CALLED, RESULT], "tools": [tool()]}, "messages[2].reasoning_content"),
        (
            {"messages": [*MESSAGES, {**CALLED, "reasoning_content": ""}, RESULT, assistant(content="Yes"), *MESSAGES]},
            "messages[4].reasoning_content",
        ),
    ],
)
def test_deepseek_refuses_more_while_it_thinks(fields: dict[str, Any], param: str) -> None:
    assert ordinary_reply(chat_request(**fields)).status == 200
    assert refused("any", {"model": "deepseek-flash", **fields})["param"] == param
    is_schema = param == "response_format"  # which it does not have at all
    off = ordinary_reply(chat_request(model="deepseek-flash", thinking={"type": "disabled"}, **fields))
    assert off.status == (400 if is_schema else 200)


def test_deepseek_thinks_unless_told_not_to_and_wants_its_thoughts_back() -> None:
    whole = choice(model="deepseek-v4-pro", messages=ASK_WEATHER, tools=[WEATHER])["message"]
    assert whole["reasoning_content"].startswith("Mock thought ")
    result = {"role": "tool", "tool_call_id": whole["tool_calls"][0]["id"], "content": "rain"}
    history = [*ASK_WEATHER, whole, result]
    assert choice(model="deepseek-v4-pro", messages=history, tools=[WEATHER])["finish_reason"] == "stop"
    assert "reasoning_content" not in choice(model="deepseek-flash", thinking={"type": "disabled"})["message"]
    assert "reasoning_content" not in choice(model="deepseek-ai/DeepSeek-V3.1")["message"]


def test_kimi_k3_cannot_be_told_not_to_think() -> None:
    assert refused("any", {"model": "kimi-k3", "reasoning_effort": "none"})["param"] == "reasoning_effort"
    assert ordinary_reply(chat_request(model="kimi-k3", reasoning_effort="max")).status == 200
    assert ordinary_reply(chat_request(model="kimi-k2.6", thinking={"type": "disabled"})).status == 200


@pytest.mark.parametrize(
    ("asked", "reported"),
    [({}, "default"), ({"service_tier": "auto"}, "default"), ({"service_tier": "fast"}, "priority"),
     ({"service_tier": "flex"}, "flex")],
)  # fmt: skip
def test_the_tier_that_was_used_is_reported(asked: dict[str, Any], reported: str) -> None:
    assert json.loads(ordinary_reply(chat_request(**asked)).body or b"")["service_tier"] == reported


def test_kimi_cannot_be_forced() -> None:
    asked = {"model": "kimi-k2.6", "tools": [tool()]}
    assert refused("any", {**asked, "tool_choice": "required"})["param"] == "tool_choice"
    assert ordinary_reply(chat_request(**asked, tool_choice="auto")).status == 200


def test_a_model_of_another_api_is_not_found() -> None:
    reply = ordinary_reply(chat_request(model="gpt-5.5-pro"), openai_dialect="openai")
    assert (reply.status, json.loads(reply.body or b"")["error"]["param"]) == (404, "model")


def test_both_strictnesses_answer_a_plain_request_alike() -> None:
    assert ordinary_reply(chat_request(), openai_dialect="openai") == ordinary_reply(chat_request())


def test_an_assistant_message_with_tool_calls_needs_no_content() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
    assert ordinary_reply(chat_request(messages=[*MESSAGES, turn, result])).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model": NaN}', b"[" * 100_000, b"[]", b"null", b"3"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    reply = ordinary_reply(ReceivedRequest(method="POST", path="/v1/chat/completions", body=body))
    assert reply.status == 400
    assert "JSON" in json.loads(reply.body or b"")["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
def test_the_version_in_the_path_may_be_missing(path: str) -> None:
    request = ReceivedRequest(method="POST", path=path, body=chat_request().body)
    assert dialect_of(request).is_chat(path)
    assert ordinary_reply(request) == ordinary_reply(chat_request())


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("POST", "/v1/completions", 404, None),
        ("POST", "/v1/chat/completions/", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/v1/models/a", 404, None),
    ],
)
def test_a_wrong_path_or_method_gets_an_error_body(method: str, path: str, status: int, allow: str | None) -> None:
    reply = ordinary_reply(ReceivedRequest(method=method, path=path), models=("a",))
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert json.loads(reply.body or b"")["error"]["message"]


def test_models_are_listed() -> None:
    body = json.loads(ordinary_reply(ReceivedRequest(method="GET", path="/v1/models"), models=("a", "b")).body or b"")
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["a", "b"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 502, 503, 529])
def test_every_failure_has_a_message_and_a_type(status: int) -> None:
    reply = openai.failure(status)
    error = json.loads(reply.body or b"")["error"]
    assert reply.status == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]


def test_the_key_is_read_from_the_bearer_header_alone() -> None:
    def key(value: str) -> str | None:
        return openai.key(ReceivedRequest(method="GET", path="/", headers={"authorization": value}))

    assert [key("Bearer k"), key("bearer k"), key("Basic k"), key("Bearer "), key("")] == ["k", "k", None, None, None]


def prompt(body: bytes) -> str | None:
    return openai.prompt(ReceivedRequest(method="POST", path="/v1/chat/completions", body=body))


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b"{}", b'{"messages": 3}', b'{"messages": [3]}'])
def test_a_body_without_user_message_has_no_prompt(body: bytes) -> None:
    assert prompt(body) is None


def test_the_prompt_is_the_text_of_the_last_user_message() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": "two"}]
    question, answer = {"role": "user", "content": parts}, {"role": "assistant", "content": "no"}
    assert prompt(chat_request(messages=[*MESSAGES, question, answer]).body) == "one\ntwo"
