"""The mock's replies as values: what they say, and the bytes they become. No socket."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from flexllm.mock.replies import (
    OPENAI,
    InvalidJson,
    ReceivedRequest,
    Reply,
    Step,
    dialect_of,
    dump_json,
    ordinary_reply,
    parse_json,
    wire_plan,
)

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


def sent(steps: Sequence[Step]) -> bytes:
    return b"".join(data for _, data in steps)


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
    opening, remark = text().split(". ")
    assert opening == 'Mock answer da9312d50a0f: you wrote "Name a river in Asia, please."'
    assert remark == "More detail would help, but this will do."


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


def test_a_stream_of_several_choices_sends_them_in_turns() -> None:
    chunks = events(n=2)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order[:4] == [0, 1, 0, 1]
    wholes = [choice["message"]["content"] for choice in chat(n=2)["choices"]]
    for index, whole in enumerate(wholes):
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(delta.get("content", "") for delta in deltas) == whole


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
        ("DELETE", "/v1/models/a", 405, "GET"),
        ("POST", "/v1/completions", 404, None),
        ("POST", "/v1/chat/completions/", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/v1/models/unknown", 404, None),
    ],
)
def test_a_wrong_path_or_method_gets_an_error_body(method: str, path: str, status: int, allow: str | None) -> None:
    reply = ordinary_reply(ReceivedRequest(method=method, path=path), models=("a",))
    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert json.loads(reply.body or b"")["error"]["message"]


def test_models_are_listed_and_found_by_id() -> None:
    models = ("a", "org/b")
    listed = ordinary_reply(ReceivedRequest(method="GET", path="/v1/models"), models=models)
    body = json.loads(listed.body or b"")
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["a", "org/b"]
    for path in ("/v1/models/org/b", "/v1/models/org%2Fb"):
        found = ordinary_reply(ReceivedRequest(method="GET", path=path), models=models)
        assert json.loads(found.body or b"") == body["data"][1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 502, 503, 529])
def test_every_failure_has_a_message_and_a_type(status: int) -> None:
    reply = OPENAI.failure(status, None)
    error = json.loads(reply.body or b"")["error"]
    assert reply.status == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]


def test_the_key_is_read_from_the_bearer_header_alone() -> None:
    def key(value: str) -> str | None:
        return OPENAI.key(ReceivedRequest(method="GET", path="/", headers={"authorization": value}))

    assert [key("Bearer k"), key("bearer k"), key("Basic k"), key("Bearer "), key("")] == ["k", "k", None, None, None]


@pytest.mark.parametrize("body", [None, [], {}, {"messages": 3}, {"messages": [3]}, InvalidJson(reason="")])
def test_a_body_without_user_message_has_no_prompt(body: object) -> None:
    assert OPENAI.prompt(body) is None


def test_the_prompt_is_the_text_of_the_last_user_message() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": "two"}]
    assert OPENAI.prompt({"messages": [*MESSAGES, {"role": "user", "content": parts}]}) == "one\ntwo"
    assert OPENAI.prompt({"messages": [*MESSAGES, {"role": "assistant", "content": "no"}]}) == MESSAGES[1]["content"]


# ---------------------------------------------------------------------------------------------------- the wire


def test_a_plain_reply_is_one_write_with_content_length() -> None:
    plan = wire_plan(Reply(body=b"{}"), {"x-request-id": "r"})
    assert plan.steps == [
        (0.0, b"HTTP/1.1 200 OK\r\nx-request-id: r\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    ]
    assert (plan.ending, plan.is_cut) == ("keep", False)


def test_headers_of_the_reply_replace_the_usual_ones_in_any_case() -> None:
    data = sent(wire_plan(Reply(body=b"", headers={"Content-Type": "text/html"}), {}).steps)
    assert data.lower().count(b"content-type") == 1
    assert b"Content-Type: text/html\r\n" in data


def test_an_unknown_status_is_sent_all_the_same() -> None:
    assert sent(wire_plan(Reply(status=529, body=b""), {}).steps).startswith(b"HTTP/1.1 529 Unknown\r\n")


def test_pieces_become_chunks_with_their_pauses() -> None:
    plan = wire_plan(Reply(pieces=((0.0, b"ab"), (0.5, b"c"), (0.25, b""))), {})
    assert [pause for pause, _ in plan.steps] == [0.0, 0.5, 0.25]
    assert plan.steps[0][1].endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
    assert [data for _, data in plan.steps[1:]] == [b"1\r\nc\r\n", b"0\r\n\r\n"]


def test_a_body_that_ends_with_the_connection_has_neither_length_nor_chunks() -> None:
    plan = wire_plan(Reply(body=b"abc", framing="close"), {})
    head, body = sent(plan.steps).split(b"\r\n\r\n")
    assert body == b"abc"
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert plan.ending == "close"


def test_http_1_0_gets_no_chunks() -> None:
    plan = wire_plan(Reply(pieces=((0.0, b"ab"),)), {}, is_http10=True)
    assert sent(plan.steps).endswith(b"connection: close\r\n\r\nab")
    assert plan.ending == "close"


def test_http_1_0_is_told_that_the_connection_stays() -> None:
    plan = wire_plan(Reply(body=b"ab"), {}, is_http10=True, keep_alive=True)
    assert b"connection: keep-alive\r\n" in sent(plan.steps)
    assert plan.ending == "keep"


def test_a_head_request_gets_no_body() -> None:
    data = sent(wire_plan(Reply(body=b"abc"), {}, head_only=True).steps)
    assert data.endswith(b"content-length: 3\r\n\r\n")


@pytest.mark.parametrize("pieces", [((0.0, b"abc"),), ((0.0, b"a"), (0.0, b"b"), (0.0, b"c"))])
def test_gzip_compresses_the_body(pieces: tuple[Step, ...]) -> None:
    head, body = sent(wire_plan(Reply(pieces=pieces, gzip=True, framing="length"), {}).steps).split(b"\r\n\r\n", 1)
    assert b"content-encoding: gzip" in head
    assert b"content-length: %d" % len(body) in head
    assert gzip.decompress(body) == b"abc"


def test_an_unannounced_close_looks_like_keep_alive() -> None:
    plan = wire_plan(Reply(body=b"", close=True), {})
    assert plan.ending == "close"
    assert not plan.is_cut
    assert b"connection" not in sent(plan.steps)


def test_cut_at_the_start_sends_nothing() -> None:
    plan = wire_plan(Reply(body=b"abc", cut="start", delay=0.5), {})
    assert plan.steps == [(0.5, b"")]
    assert (plan.ending, plan.is_cut) == ("close", True)


def test_cut_in_the_head_sends_half_of_it() -> None:
    whole = sent(wire_plan(Reply(body=b""), {}).steps)
    plan = wire_plan(Reply(body=b"", cut="head", reset=True), {})
    assert sent(plan.steps) == whole[: len(whole) // 2]
    assert plan.ending == "reset"


@pytest.mark.parametrize(("cut_at", "kept"), [(None, b"abc"), (0, b""), (1, b"a"), (99, b"abcdef")])
def test_cut_in_the_body_sends_the_asked_part(cut_at: int | None, kept: bytes) -> None:
    plan = wire_plan(Reply(body=b"abcdef", cut="body", cut_at=cut_at), {})
    assert sent(plan.steps).endswith(b"content-length: 6\r\n\r\n" + kept)
    assert plan.is_cut


def test_a_stream_is_cut_at_any_byte_with_its_pauses_kept() -> None:
    reply = Reply(pieces=((0.0, b"one"), (0.5, b"two"), (0.5, b"three")))
    body = b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
    for at in range(len(body) + 1):
        steps = wire_plan(Reply(pieces=reply.pieces, cut="body", cut_at=at), {}).steps
        assert sent(steps).split(b"\r\n\r\n", 1)[1] == body[:at]
        assert sum(pause for pause, _ in steps) == (0.0 if at <= 8 else 0.5 if at <= 16 else 1.0)


def test_a_drip_sends_single_bytes() -> None:
    plan = wire_plan(Reply(body=b"abc", drip=0.1), {})
    assert [data for _, data in plan.steps[1:]] == [b"a", b"b", b"c"]
    assert [pause for pause, _ in plan.steps[1:]] == [0.1, 0.1, 0.1]
    assert len(plan.steps[0][1]) > 1


def test_a_drip_of_the_head_too_sends_nothing_but_single_bytes() -> None:
    plan = wire_plan(Reply(body=b"abc", drip=0.1, drip_head=True, delay=1.0), {})
    assert {len(data) for _, data in plan.steps} == {1}
    assert plan.steps[0][0] == pytest.approx(1.1)


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 100},
        {"status": 600},
        {"delay": -1},
        {"drip": -0.1},
        {"cut": "tail"},
        {"cut_at": -1},
        {"framing": "gzip"},
        {"body": b"", "pieces": ()},
    ],
)
def test_a_wrong_reply_is_refused_with_its_field(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))}.*allowed"):
        Reply(**fields)


def test_values_pickle_and_the_request_shows_no_key() -> None:
    request = ReceivedRequest(method="GET", path="/", query="key=secret", headers={"authorization": "Bearer secret"})
    assert pickle.loads(pickle.dumps(request)) == request
    assert pickle.loads(pickle.dumps(Reply(cut="body"))) == Reply(cut="body")
    assert "secret" not in repr(request)


def test_a_request_parses_its_body() -> None:
    assert chat_request().json()["model"] == "m"
    with pytest.raises(ValueError, match="Expecting"):
        ReceivedRequest(method="GET", path="/").json()


def test_json_is_compact_utf8() -> None:
    assert dump_json({"a": "é"}) == b'{"a":"\xc3\xa9"}'
    assert parse_json(b'{"a": 1}') == {"a": 1}
