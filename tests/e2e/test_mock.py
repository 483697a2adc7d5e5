"""The mock server over real sockets, with clients from the standard library."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

from flexllm.mock import MockServer, ReceivedRequest, Reply
from flexllm.mock.responder import ordinary_reply

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
PATIENCE = 60.0
"""Seconds until a failing test gives up."""


def body(prompt: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}).encode()


@contextmanager
def client(server: MockServer) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        yield connection


def ask(
    connection: http.client.HTTPConnection,
    content: bytes | None = None,
    *,
    method: str = "POST",
    path: str = CHAT,
    headers: dict[str, str] | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection.request(method, path, content, headers or {})
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def ask_once(server: MockServer, content: bytes | None = None, **options: Any) -> tuple[int, bytes]:
    with client(server) as connection:
        status, _, answer = ask(connection, content, **options)
        return status, answer


def prompts_with_200(server: MockServer, count: int) -> list[bool]:
    with client(server) as connection:
        return [ask(connection, body(f"p{at}"))[0] == 200 for at in range(count)]


def raw(server: MockServer, *pieces: bytes) -> bytes:
    """Send bytes, a moment apart, and return everything up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01)
        return read_to_end(connection)


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def post(content: bytes, *headers: str) -> bytes:
    lines = (f"POST {CHAT} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *headers, "", "")
    return "\r\n".join(lines).encode() + content


def wait_for(server: MockServer, name: str, number: int) -> None:
    """Wait for what happens in the server without a reply to tell of it."""
    assert eventually(lambda: server.stats()[name] == number), server.stats()  # type: ignore[literal-required]


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


# ---------------------------------------------------------------------------------------------------- answers


def test_a_completion_is_the_same_on_every_server(server: MockServer) -> None:
    with MockServer(seed=7) as other:
        assert ask_once(server, body()) == ask_once(other, body())
    expected = ordinary_reply(ReceivedRequest(method="POST", path=CHAT, body=body()))
    assert ask_once(server, body()) == (200, expected.body)


def test_every_reply_has_its_own_request_id(server: MockServer) -> None:
    with client(server) as connection:
        replies = [ask(connection, body())[1] for _ in range(3)]
    assert len({headers["x-request-id"] for headers in replies}) == 3
    assert all(headers["openai-processing-ms"] == "0" for headers in replies)


def test_a_stream_arrives_as_chunks_of_server_sent_events(server: MockServer) -> None:
    answer = raw(server, post(body(stream=True), "Connection: close"))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in head
    assert b"transfer-encoding: chunked" in head
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert chunks.pop() == b""
    assert chunks[-1] == b"data: [DONE]\n\n"
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in chunks)


def test_a_stream_and_a_whole_answer_carry_the_same_text_and_usage(server: MockServer) -> None:
    whole = json.loads(ask_once(server, body())[1])
    _, stream = ask_once(server, body(stream=True, stream_options={"include_usage": True}))
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert events[-1]["usage"] == whole["usage"]


def test_a_stream_arrives_piece_by_piece() -> None:
    with MockServer(token_delay=30) as server, client(server) as connection:
        connection.request("POST", CHAT, body(stream=True))
        assert b'"role":"assistant"' in connection.getresponse().readline()
        assert server.stats()["answered"] == 0


def test_a_token_delay_is_kept() -> None:
    with MockServer(token_delay=0.02) as server:
        started = time.monotonic()
        assert ask_once(server, body(stream=True))[1].endswith(b"data: [DONE]\n\n")
        assert time.monotonic() - started >= 0.04


def test_models_are_listed() -> None:
    with MockServer(model="a", models=("b", "a")) as server:
        status, answer = ask_once(server, method="GET", path="/v1/models")
        assert status == 200
        assert [model["id"] for model in json.loads(answer)["data"]] == ["a", "b"]


def test_errors_have_openai_bodies(server: MockServer) -> None:
    asked = {
        400: ask_once(server, b"{"),
        404: ask_once(server, body(), path="/v1/nothing"),
        405: ask_once(server, method="GET"),
    }
    for status, (received, answer) in asked.items():
        assert received == status
        assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}


def test_a_connection_goes_on_after_errors(server: MockServer) -> None:
    with client(server) as connection:
        assert [ask(connection, content)[0] for content in (b"{", b"", body())] == [400, 400, 200]
    assert server.stats()["connections"] == 1


def test_a_wrong_key_is_refused() -> None:
    with MockServer(api_key="right-key") as server, client(server) as connection:
        keys = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer right-key"}]
        assert [ask(connection, body(), headers=headers)[0] for headers in keys] == [401, 401, 200]
        status, _, answer = ask(connection, method="GET", path="/v1/models")
        assert (status, json.loads(answer)["error"]["code"]) == (401, "invalid_api_key")
        assert "right-key" not in repr(server.options)


def test_a_delay_is_kept() -> None:
    with MockServer(delay=(0.05, 0.06)) as server:
        started = time.monotonic()
        assert ask_once(server, body())[0] == 200
        assert time.monotonic() - started >= 0.05


def test_delays_run_side_by_side() -> None:
    with MockServer(delay=0.2) as server:
        threads = [threading.Thread(target=ask_once, args=(server, body())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.stats()["answered"] == 20
        assert server.stats()["peak_in_flight"] > 1


# ---------------------------------------------------------------------------------------------------- failures


def test_injected_failures_follow_the_seed() -> None:
    runs = []
    for seed in (1, 1, 2):
        with MockServer(error_rate=0.5, seed=seed) as server:
            runs.append(prompts_with_200(server, 40))
    assert runs[0] == runs[1] != runs[2]
    assert 5 < sum(runs[0]) < 35


def test_an_injected_failure_has_the_asked_status_and_a_body() -> None:
    with MockServer(error_rate=1, error_status=503) as server:
        status, answer = ask_once(server, body())
        assert (status, json.loads(answer)["error"]["code"]) == (503, "server_is_overloaded")
        assert ask_once(server, b"{")[0] == 400  # no failure is spent on a request that is wrong by itself
        assert server.stats()["failed"] == 2


def test_above_the_rate_limit_comes_429_with_retry_after() -> None:
    with MockServer(rate_limit=0.01, retry_after=2.5) as server, client(server) as connection:
        assert ask(connection, body())[0] == 200
        status, headers, answer = ask(connection, body())
        assert (status, headers["retry-after"]) == (429, "2.5")
        assert json.loads(answer)["error"]["code"] == "rate_limit_exceeded"
        assert ask(connection, method="GET", path="/v1/models")[0] == 200


def test_the_rate_limit_lets_through_again_later() -> None:
    with MockServer(rate_limit=2) as server, client(server) as connection:
        assert ask(connection, body())[0] == 200
        assert eventually(lambda: ask(connection, body())[0] == 429)
        assert eventually(lambda: ask(connection, body())[0] == 200)


def test_a_rate_burst_comes_through_at_once() -> None:
    with MockServer(rate_limit=0.01, rate_burst=3) as server:
        assert prompts_with_200(server, 5) == [True, True, True, False, False]


# ---------------------------------------------------------------------------------------------------- dialects

MESSAGES = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}


def message_body(prompt: str = "hello", **fields: Any) -> bytes:
    return body(prompt, max_tokens=100, **fields)


def test_a_message_is_answered_and_counted_in_its_own_dialect(server: MockServer) -> None:
    with client(server) as connection:
        status, headers, answer = ask(connection, message_body(), path=MESSAGES, headers=VERSION)
        assert (status, json.loads(answer)["type"]) == (200, "message")
        assert headers["request-id"] == "req_0_00000001"
        assert headers["anthropic-organization-id"]
        assert "x-request-id" not in headers
        status, headers, answer = ask(connection, b"{", path=MESSAGES, headers=VERSION)
        assert (status, json.loads(answer)["request_id"]) == (400, headers["request-id"])
        ask(connection, message_body(), path=f"{MESSAGES}/count_tokens", headers=VERSION)
    stats = server.stats()
    assert (stats["received"], stats["answered"], stats["failed"], stats["prompts"]) == (2, 1, 1, {"hello": 1})


def test_a_message_is_streamed_as_named_events(server: MockServer) -> None:
    status, stream = ask_once(server, message_body(stream=True), path=MESSAGES, headers=VERSION)
    names = [line[7:] for line in stream.decode().splitlines() if line.startswith("event: ")]
    assert (status, names[0], names[-1]) == (200, "message_start", "message_stop")
    assert server.stats()["answered"] == 1


def test_failures_have_the_form_of_the_dialect() -> None:
    with MockServer(error_rate=1, error_status=529) as server:
        status, answer = ask_once(server, message_body(), path=MESSAGES, headers=VERSION)
        assert (status, json.loads(answer)["error"]["type"]) == (529, "overloaded_error")
    with MockServer(rate_limit=0.01, retry_after=2) as server, client(server) as connection:
        assert ask(connection, message_body(), path=MESSAGES, headers=VERSION)[0] == 200
        status, headers, answer = ask(connection, message_body(), path=MESSAGES, headers=VERSION)
        assert (status, headers["retry-after"], json.loads(answer)["error"]["type"]) == (429, "2", "rate_limit_error")


def test_the_key_is_read_as_the_dialect_has_it() -> None:
    with MockServer(api_key="right") as server, client(server) as connection:
        for path, name, value, status in (
            (MESSAGES, "x-api-key", "right", 200),
            (MESSAGES, "Authorization", "Bearer right", 200),
            (MESSAGES, "x-api-key", "wrong", 401),
            (MESSAGES, "Cookie", "right", 401),
            (CHAT, "x-api-key", "right", 401),
        ):
            content = message_body() if path == MESSAGES else body()
            assert ask(connection, content, path=path, headers={**VERSION, name: value})[0] == status


def test_the_same_path_lists_models_in_three_dialects() -> None:
    with MockServer(model="a") as server, client(server) as connection:
        lists = []
        for headers in ({}, VERSION, {"x-goog-api-key": "k"}):
            lists.append(json.loads(ask(connection, method="GET", path="/v1/models", headers=headers)[2]))
    assert [lists[0]["object"], lists[1]["last_id"], lists[2]["models"][0]["name"]] == ["list", "a", "models/a"]


# ---------------------------------------------------------------------------------------------------- scripts


def test_a_list_script_is_used_up_one_reply_per_request() -> None:
    script = [Reply(status=503), None, Reply(status=429, headers={"Retry-After": "3"})]
    with MockServer(script=script) as server, client(server) as connection:
        assert [ask(connection, body())[0] for _ in range(4)] == [503, 200, 429, 200]


def test_a_scripted_status_gets_the_usual_error_body() -> None:
    with MockServer(script=[Reply(status=429, headers={"Retry-After": "3"})]) as server, client(server) as connection:
        _, headers, answer = ask(connection, body())
        assert headers["Retry-After"] == "3"
        assert json.loads(answer)["error"]["code"] == "rate_limit_exceeded"


def test_a_function_script_sees_the_request() -> None:
    def script(request: ReceivedRequest) -> Reply | None:
        if request.method == "POST" and request.json()["messages"][-1]["content"] == "odd":
            return Reply(status=418, headers={"Content-Type": "text/html"}, body=b"<p>")
        return None

    with MockServer(script=script) as server, client(server) as connection:
        assert ask(connection, body("even"))[0] == 200
        status, headers, answer = ask(connection, body("odd"))
        assert (status, headers["content-type"], answer) == (418, "text/html", b"<p>")


def test_a_script_that_fails_gives_a_500_that_says_so() -> None:
    def script(request: ReceivedRequest) -> Reply | None:
        raise KeyError("oops")

    with MockServer(script=script) as server:
        status, answer = ask_once(server, body())
        assert status == 500
        assert "oops" in json.loads(answer)["error"]["message"]
        assert ask_once(server, body())[0] == 500


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_at_the_start_gives_no_byte(stream: bool, reset: bool) -> None:
    with MockServer(script=[Reply(cut="start", reset=reset)]) as server, client(server) as connection:
        expected = ConnectionResetError if reset else http.client.RemoteDisconnected
        with pytest.raises(expected):
            ask(connection, body(stream=stream))
        assert ask(connection, body(stream=stream))[0] == 200  # http.client connects anew
        stats = server.stats()
        assert (stats["received"], stats["answered"], stats["failed"]) == (2, 1, 1)
        assert (stats["prompts"], stats["answered_prompts"]) == ({"hello": 2}, {"hello": 1})


def test_a_cut_in_the_head_ends_inside_it() -> None:
    with MockServer(script=[Reply(cut="head", cut_at=20)]) as server:
        assert raw(server, post(body())) == b"HTTP/1.1 200 OK\r\ndat"


def test_a_cut_in_the_body_gives_the_first_half() -> None:
    whole = ordinary_reply(ReceivedRequest(method="POST", path=CHAT, body=body())).body or b""
    with MockServer(script=[Reply(cut="body")]) as server, client(server) as connection:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(connection, body())
        assert caught.value.partial == whole[: len(whole) // 2]
        assert server.stats()["failed"] == 1


def test_a_cut_in_a_stream_gives_the_events_before_it() -> None:
    pieces = ((0.0, b"data: 1\n\n"), (0.02, b"data: 2\n\n"), (0.02, b"data: 3\n\n"))
    with MockServer(script=[Reply(pieces=pieces, cut="body", cut_at=33)]) as server:
        answer = raw(server, post(body(stream=True)))
        assert answer.split(b"\r\n\r\n", 1)[1] == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n9\r\nda"


def test_an_unannounced_close_leaves_a_stale_connection() -> None:
    with MockServer(script=[Reply(close=True)]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(post(body()))
            answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection:" not in answer.split(b"\r\n\r\n")[0].lower()
        assert server.stats()["answered"] == 1


def test_a_body_may_end_with_the_connection() -> None:
    with MockServer(script=[Reply(framing="close")]) as server, client(server) as connection:
        status, headers, answer = ask(connection, body())
        assert (status, headers["content-length"], headers["connection"]) == (200, None, "close")
        assert json.loads(answer)["object"] == "chat.completion"


def test_chunks_have_the_chosen_boundaries() -> None:
    pieces = ((0.0, b'{"a'), (0.0, b'": "\xc3'), (0.0, b'\xa9"}'))
    with MockServer(script=[Reply(pieces=pieces)]) as server:
        answer = raw(server, post(body(), "Connection: close"))
        expected = b'3\r\n{"a\r\n5\r\n": "\xc3\r\n3\r\n\xa9"}\r\n0\r\n\r\n'
        assert answer.split(b"\r\n\r\n", 1)[1] == expected


@pytest.mark.parametrize("stream", [False, True])
def test_gzip_is_readable(stream: bool) -> None:
    with MockServer(script=[Reply(gzip=True)]) as server, client(server) as connection:
        _, headers, compressed = ask(connection, body(stream=stream))
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(compressed) == ask(connection, body(stream=stream))[2]


def test_a_drip_takes_its_time_for_every_byte() -> None:
    with MockServer(script=[Reply(body=b"0123456789" * 3, drip=0.001)]) as server:
        started = time.monotonic()
        assert ask_once(server, body()) == (200, b"0123456789" * 3)
        assert time.monotonic() - started >= 0.03


def test_a_drip_may_take_the_head_too() -> None:
    with MockServer(script=[Reply(drip=0.001, drip_head=True, cut="head", cut_at=15)]) as server:
        started = time.monotonic()
        assert raw(server, post(body())) == b"HTTP/1.1 200 OK"
        assert time.monotonic() - started >= 0.015


def test_a_delayed_head_comes_late() -> None:
    with MockServer(script=[Reply(delay=0.08)]) as server:
        started = time.monotonic()
        assert ask_once(server, body())[0] == 200
        assert time.monotonic() - started >= 0.08


def test_a_pause_holds_after_a_client_that_reads_slowly() -> None:
    large = b"x" * 16_000_000  # more than the kernel takes at once
    with MockServer(script=[Reply(pieces=((0.0, large), (0.1, b"end")))]) as server, client(server) as connection:
        started = time.monotonic()
        connection.request("POST", CHAT, body())
        response = connection.getresponse()
        assert server.stats()["answered"] == 0
        assert response.read() == large + b"end"
        assert time.monotonic() - started >= 0.1
        assert server.stats()["answered"] == 1


@pytest.mark.parametrize("linger", [b"\0" * 8, b"\1\0\0\0\0\0\0\0"], ids=["FIN", "RST"])
def test_a_client_that_leaves_is_counted_as_failed(linger: bytes) -> None:
    with MockServer(delay=30) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(post(body()))
            wait_for(server, "received", 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        wait_for(server, "open_connections", 0)
        assert server.stats()["failed"] == 1


# ---------------------------------------------------------------------------------------------------- HTTP


@pytest.mark.parametrize("request_bytes", [b"what is this\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"], ids=["text", "TLS"])
def test_bad_http_is_answered_and_the_connection_closed(server: MockServer, request_bytes: bytes) -> None:
    head, _, content = raw(server, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head
    assert json.loads(content)["error"]["message"]
    assert server.requests == []


def test_a_client_that_sends_too_much_still_reads_its_413(server: MockServer) -> None:
    status, _ = ask_once(server, b" " * (64 * 1024 * 1024 + 1))
    assert status == 413


def test_a_request_may_arrive_byte_by_byte(server: MockServer) -> None:
    request = post(body(), "Connection: close")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(request)):
            connection.sendall(request[at : at + 1])
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.stats()["prompts"] == {"hello": 1}


def test_pipelined_requests_are_answered_in_order() -> None:
    with MockServer(script=[Reply(body=b"first", delay=0.05), Reply(body=b"second"), Reply(body=b"third")]) as server:
        answer = raw(server, b"\r\n" + post(body()) + post(body()) + post(body(), "Connection: close"))
        places = [answer.index(word) for word in (b"first", b"second", b"third")]
        assert places == sorted(places)
        assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_flood_of_pipelined_requests_is_answered_whole(server: MockServer) -> None:
    count = 3000  # about 400 kB of requests, more than is read ahead
    request = post(body("x" * 20))
    answers = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * (count - 1),))
        sender.start()
        while answers.count(b"HTTP/1.1 200 OK") < count - 1:
            answers += connection.recv(1 << 20)
        sender.join()
        connection.sendall(post(body(), "Connection: close"))
        read_to_end(connection)
    assert server.stats()["answered"] == count


def test_head_gets_no_body(server: MockServer) -> None:
    with client(server) as connection:
        assert ask(connection, method="HEAD")[0] == 405
        assert ask(connection, body())[0] == 200


# ---------------------------------------------------------------------------------------------------- counts


def test_counts_tell_what_was_received(server: MockServer) -> None:
    with client(server) as connection:
        for prompt in ("a", "b", "a"):
            ask(connection, body(prompt))
        ask(connection, b"{")
        ask(connection, method="GET", path="/v1/models")
        status, _, answer = ask(connection, method="GET", path="/mock/requests")
        assert status == 200
        stats = json.loads(answer)
        assert stats == server.stats()
    first, *_, last = server.requests[:4]
    assert (stats.pop("first_at"), stats.pop("last_at")) == (first.time_unix, last.time_unix)
    assert stats.pop("rate") == 3 / (last.time - first.time)
    assert 1 <= stats.pop("peak_per_second") <= 4  # as long as the machine took
    assert stats == {
        "received": 4,
        "answered": 3,
        "failed": 1,
        "open_connections": 1,
        "peak_connections": 1,
        "connections": 1,
        "peak_in_flight": 1,
        "statuses": {"200": 3, "400": 1},
        "faults": {},
        "models": {"m": 3},
        "prompts": {"a": 2, "b": 1},
        "answered_prompts": {"a": 2, "b": 1},
        "truncated": False,
    }


def test_in_flight_and_connections_have_peaks() -> None:
    with MockServer(delay=30) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for connection in connections:
            connection.sendall(post(body()))
        wait_for(server, "received", 5)
        for connection in connections:
            connection.close()
        wait_for(server, "open_connections", 0)
        stats = server.stats()
        assert (stats["peak_in_flight"], stats["peak_connections"], stats["failed"]) == (5, 5, 5)


def test_requests_are_kept_as_they_arrived(server: MockServer) -> None:
    ask_once(server, body(), path=CHAT + "?a=%20", headers={"X-Custom": "Value"})
    (request,) = server.requests
    assert (request.method, request.path, request.query) == ("POST", CHAT, "a=%20")
    assert request.headers["x-custom"] == "Value"
    assert (request.body, request.json()) == (body(), json.loads(body()))
    assert abs(request.time - time.monotonic()) < 60


@pytest.mark.slow
def test_the_requests_kept_are_bounded(server: MockServer) -> None:
    content = body("x" * 12_000_000)
    with client(server) as connection:
        for _ in range(7):
            ask(connection, content)
    assert server.stats()["received"] == 7
    assert len(server.requests) == 5  # 64 MiB hold five bodies of 12 MB


@pytest.mark.parametrize("way", ["http", "python"])
def test_reset_forgets_and_begins_the_failures_again(way: str) -> None:
    with MockServer(error_rate=0.5) as server:
        before = prompts_with_200(server, 20)
        wait_for(server, "open_connections", 0)
        if way == "http":
            assert ask_once(server, method="POST", path="/mock/reset") == (200, b"{}")
            wait_for(server, "open_connections", 0)
        else:
            server.reset()
        stats = server.stats()
        assert (stats["received"], stats["connections"], stats["prompts"]) == (0, 0, {})
        assert server.requests == []
        assert prompts_with_200(server, 20) == before


def test_a_reset_does_not_count_what_was_under_way() -> None:
    with MockServer(delay=0.1) as server, client(server) as connection:
        connection.request("POST", CHAT, body())
        wait_for(server, "received", 1)
        server.reset()
        assert connection.getresponse().status == 200
        stats = server.stats()
        assert (stats["received"], stats["answered"], stats["open_connections"]) == (0, 0, 1)


def test_the_reports_refuse_other_methods_and_paths(server: MockServer) -> None:
    assert ask_once(server, method="POST", path="/mock/requests")[0] == 405
    assert ask_once(server, method="GET", path="/mock/reset")[0] == 405
    assert ask_once(server, method="GET", path="/mock/other")[0] == 404


# ---------------------------------------------------------------------------------------------------- life


def test_urls_name_the_port(server: MockServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.base_url == f"{server.url}/v1"
    assert MockServer(host="0.0.0.0", port=80).url == "http://127.0.0.1:80"
    assert MockServer(host="::1", port=80).base_url == "http://[::1]:80/v1"


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the threads that were started since; meanwhile one of another test may have ended."""
    return set(threading.enumerate()) - before


def test_close_frees_the_port_and_the_thread() -> None:
    server = MockServer()
    before = set(threading.enumerate())
    server.start()
    server.start()  # once is enough
    [thread] = new_threads(before)
    with client(server) as idle:
        assert ask(idle, body())[0] == 200
        server.close()
        server.close()
        assert not thread.is_alive()
        assert select.select([idle.sock], [], [], PATIENCE)[0]  # the end of the connection has arrived
    assert server.stats()["answered"] == 1  # readable after the end
    with MockServer(port=server.port) as successor:
        assert ask_once(successor, body())[0] == 200


def test_close_does_not_wait_for_replies_under_way() -> None:
    with MockServer(delay=60) as server:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        connection.sendall(post(body()))
        wait_for(server, "received", 1)
    with closing(connection):
        assert connection.recv(100) == b""
    assert server.stats()["failed"] == 1
    assert server.stats()["open_connections"] == 0


def test_two_servers_stand_side_by_side() -> None:
    with MockServer() as one, MockServer() as two:
        assert one.port != two.port
        ask_once(one, body("one"))
        ask_once(two, body("two"))
        assert (one.stats()["prompts"], two.stats()["prompts"]) == ({"one": 1}, {"two": 1})


def test_a_port_in_use_is_an_error_at_once(server: MockServer) -> None:
    with pytest.raises(OSError, match="in use"):
        MockServer(port=server.port).start()


def test_a_server_that_never_started_has_no_counts() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        MockServer().stats()


def test_serve_forever_ends_when_another_thread_closes() -> None:
    server = MockServer()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    assert eventually(lambda: server.port)
    assert ask_once(server, body())[0] == 200
    server.close()
    serving.join(PATIENCE)
    assert not serving.is_alive()


SERVE_FOREVER = """
import signal, threading, time
from flexllm.mock import MockServer

def announce():  # not before signals are heeded
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)
    print(server.port, flush=True)

with MockServer() as server:
    threading.Thread(target=announce).start()
    server.serve_forever()
print("ended", server.stats()["answered"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE_FOREVER],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            assert ask(connection, body())[0] == 200
            process.send_signal(number)
            output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "ended 1\n", "")


@pytest.mark.slow
def test_2000_connections_are_held_without_a_thread_each() -> None:
    count = 2000
    needed = 2 * count + 200  # both ends are in this process
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files; the hard limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    before = set(threading.enumerate())
    connections: list[socket.socket] = []
    try:
        with MockServer() as server:
            for _ in range(count):
                connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            request = post(body())
            for _ in range(2):
                for connection in connections:
                    connection.sendall(request)
                for connection in connections:
                    assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
            stats = server.stats()
            assert (stats["open_connections"], stats["connections"]) == (count, count)
            assert stats["answered"] == 2 * count
            assert len(new_threads(before)) == 1
    finally:
        for connection in connections:
            connection.close()
