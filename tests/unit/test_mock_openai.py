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
    assert dialect_of(path).is_chat(path)
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
