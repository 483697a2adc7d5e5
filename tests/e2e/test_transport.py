"""The transport over real sockets on loopback: both of its routes, and what servers and networks do to them."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import io
import os
import pickle
import signal
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3
from fakes import (
    CLOSE,
    LONGEST_WAIT,
    READ,
    READ_HEAD,
    RESET,
    ScriptedServer,
    Sleep,
    Step,
    chunked,
    eventually,
    http_reply,
    unused_port,
)

import flexllm.transport.direct
from flexllm.cancel import CancelToken
from flexllm.errors import (
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    RequestCancelled,
    RequestTimeout,
    TlsFailed,
)
from flexllm.http1 import BrokenReply, NothingReceived
from flexllm.transport import Transport, TransportOptions, allow_connections, translate
from flexllm.wire import HttpRequest, HttpResponse

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"
SLACK = 10.0
"""Seconds that a busy machine may add to a time limit before a test calls it broken."""

ROUTES = pytest.mark.parametrize("route", ["direct", "session"])


def request(
    server: ScriptedServer | str, body: bytes = b'{"model":"m"}', path: str = "/v1/chat/completions", **headers: str
) -> HttpRequest:
    url = server if isinstance(server, str) else server.url
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    own = (
        ("Authorization", f"Bearer {SECRET}"),
        ("Content-Type", "application/json"),
        ("Accept-Encoding", "gzip, deflate"),
    )
    return HttpRequest("POST", url + path, own + given, body)


@contextlib.contextmanager
def transport(route: str = "direct", **options: Any) -> Iterator[Transport]:
    """A transport that goes the direct route, or through a session of the caller's own."""
    with requests.Session() as session:
        one = Transport(
            TransportOptions(**{"timeout": LONGEST_WAIT, **options}), session if route == "session" else None
        )
        try:
            yield one
        finally:
            one.close()


def took(started: float) -> float:
    return time.monotonic() - started


def failure(one: Transport, sent: HttpRequest, cancel: CancelToken | None = None) -> FlexLLMError:
    with pytest.raises(FlexLLMError) as caught:
        one.send(sent, cancel)
    assert SECRET not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def stream_of(one: Transport, sent: HttpRequest, cancel: CancelToken | None = None) -> bytes:
    with one.stream(sent, cancel) as reply:
        return b"".join(reply.pieces())


# --- what is sent -----------------------------------------------------------------------------------------------------


@ROUTES
def test_head_and_body_arrive_as_they_were_given(route: str) -> None:
    body = "Grüße 😀".encode() * 100
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        one.send(request(server, body, X_Own="1"))
        head, _, came = server.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
        assert came == body
        assert len(headers) == len(lines) - 1, "a header is there twice"
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert headers["content-length"] == str(len(body))
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert headers["content-type"] == "application/json"
        assert headers["x-own"] == "1"


def test_the_direct_route_sends_what_it_was_given_and_nothing_else() -> None:
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport() as one:
        one.send(HttpRequest("POST", f"{server.url}/a?b=c&d", (("A", "1"), ("B", "ü")), b"x"))
        assert server.requests == [
            f"POST /a?b=c&d HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nA: 1\r\nB: ü\r\nContent-Length: 1\r\n\r\nx".encode(
                "latin-1"
            )
        ]


@ROUTES
def test_a_host_of_the_callers_own_replaces_ours(route: str) -> None:
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        one.send(request(server, Host="inside.example"))
        assert server.requests[0].lower().count(b"\r\nhost: ") == 1
        assert b"\r\nHost: inside.example\r\n" in server.requests[0]


@ROUTES
def test_a_url_without_a_path_asks_for_the_root(route: str) -> None:
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        one.send(request(server, path=""))
        assert server.requests[0].startswith(b"POST / HTTP/1.1\r\n")


@ROUTES
def test_a_get_is_sent_too(route: str) -> None:
    with ScriptedServer([READ, http_reply(b"[]")]) as server, transport(route) as one:
        assert one.send(HttpRequest("GET", f"{server.url}/models", (), b"")).body == b"[]"
        assert server.requests[0].startswith(b"GET /models HTTP/1.1\r\n")


@ROUTES
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\r\n\r\nGET / HTTP/1.1"])
def test_a_header_that_holds_a_line_end_is_refused_and_not_repeated(route: str, value: str) -> None:
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        for headers in ({"X_Own": SECRET + value}, {SECRET + value: "x"}):
            assert isinstance(failure(one, request(server, **headers)), ConfigError)
        assert server.requests == []


@ROUTES
def test_a_header_that_http_cannot_carry_is_refused(route: str) -> None:
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        assert isinstance(failure(one, request(server, X_Own=f"{SECRET}€")), ConfigError)


# --- replies: both routes say the same --------------------------------------------------------------------------------

BODY = b'{"choices":[{"message":{"content":"' + b"Hello. " * 2000 + b'"}}]}'
CHUNKED = "Transfer-Encoding: chunked"


def deflated(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


REPLIES: dict[str, list[Step]] = {
    "plain": [http_reply(BODY, "Content-Type: application/json", "X-Request-Id: req_1")],
    "empty": [http_reply(b"")],
    "large": [http_reply(BODY * 100)],
    "in two parts": [http_reply(BODY)[:-100], Sleep(0.02), http_reply(BODY)[-100:]],
    "head and body apart": [http_reply(BODY)[: -len(BODY)], Sleep(0.02), BODY],
    "cut inside the head": [http_reply(BODY)[:20], Sleep(0.02), http_reply(BODY)[20:]],
    "chunked": [http_reply(chunked(BODY[:10], BODY[10:99], BODY[99:]), CHUNKED, framed=False)],
    "chunked with trailers": [http_reply(chunked(BODY, end=b"0\r\nX-T: 1\r\n\r\n"), CHUNKED, framed=False)],
    "chunked in parts": [
        http_reply(b"", CHUNKED, framed=False), chunked(b"Hel", end=b""), Sleep(0.02), b"2\r", Sleep(0.02),
        b"\nlo\r\n0\r\n\r\n",
    ],
    "to the end of the connection": [http_reply(BODY, framed=False), CLOSE],
    "nothing to the end of the connection": [http_reply(b"", framed=False), CLOSE],
    "HTTP/1.0": [http_reply(BODY, version="HTTP/1.0"), CLOSE],
    "connection close": [http_reply(BODY, "Connection: close"), CLOSE],
    "gzip": [http_reply(gzip.compress(BODY), "Content-Encoding: gzip")],
    "gzip of several members": [http_reply(gzip.compress(b"Hello, ") + gzip.compress(b"world"), "Content-Encoding: gzip")],
    "gzip chunked": [http_reply(chunked(gzip.compress(BODY)), CHUNKED, "Content-Encoding: gzip", framed=False)],
    "gzip to the end": [http_reply(gzip.compress(BODY), "Content-Encoding: gzip", framed=False), CLOSE],
    "deflate": [http_reply(zlib.compress(BODY), "Content-Encoding: deflate")],
    "raw deflate": [http_reply(deflated(BODY), "Content-Encoding: deflate")],
    "no content": [http_reply(b"", status="204 No Content", framed=False)],
    "not modified": [http_reply(b"", status="304 Not Modified", framed=False)],
    "interim reply": [http_reply(b"", status="100 Continue", framed=False), Sleep(0.02), http_reply(BODY)],
    "bad request": [http_reply(b'{"error":{"message":"no"}}', status="400 Bad Request")],
    "rate limited": [http_reply(b"", "Retry-After: 7", status="429 Too Many Requests")],
    "server error": [http_reply(b"<html></html>", status="502 Bad Gateway")],
    "no reason phrase": [http_reply(b"x", status="200")],
    "redirect": [http_reply(b"", "Location: http://127.0.0.1:1/elsewhere", status="307 Temporary Redirect")],
    "repeated headers": [http_reply(b"x", "Via: a", "X-A:  b  ", "via: c")],
    "latin-1 header": [http_reply(b"x", "X-Name: Gr\xfc\xdfe")],
    "strange bytes": [http_reply(bytes(range(256)))],
}  # fmt: skip
SESSION_HEADERS = {"date", "server"}


@pytest.mark.parametrize("how", REPLIES)
def test_both_routes_read_the_same_reply(how: str) -> None:
    answers: list[tuple[int, dict[str, str], bytes]] = []
    streams: list[tuple[int, dict[str, str], bytes]] = []
    with ScriptedServer([READ, *REPLIES[how]]) as server:
        for route in ("direct", "session"):
            with transport(route) as one:
                response = one.send(request(server))
                answers.append((response.status, dict(response.headers), response.body))
                assert 0.0 <= response.elapsed < LONGEST_WAIT
            with transport(route) as one, one.stream(request(server)) as reply:
                streams.append((reply.status, dict(reply.headers), b"".join(reply.pieces())))
    assert answers[0] == answers[1] == streams[0] == streams[1]


BROKEN: dict[str, list[Step]] = {
    "closed without a reply": [CLOSE],
    "reset without a reply": [RESET],
    "closed in the body": [http_reply(BODY)[:-5], CLOSE],
    "reset in the body": [http_reply(BODY)[:-5], Sleep(0.05), RESET],
    "closed in a chunk": [http_reply(chunked(BODY)[:50], CHUNKED, framed=False), CLOSE],
    "closed between chunks": [http_reply(chunked(BODY, end=b""), CHUNKED, framed=False), CLOSE],
    "not HTTP": [b"220 mail.example ESMTP\r\n", CLOSE],
    "chunk size": [http_reply(b"xyz\r\nab", CHUNKED, framed=False), CLOSE],
    "not gzip": [http_reply(BODY, "Content-Encoding: gzip")],
}


def test_a_head_that_ends_early_is_a_failed_connection() -> None:
    # By the session route it is not: http.client takes the end of a connection for the end of a head.
    with ScriptedServer([READ, http_reply(BODY)[:20], CLOSE]) as server, transport() as one:
        assert "middle of the head" in str(failure(one, request(server)))


@ROUTES
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_reply_is_a_failed_connection_by_either_route(route: str, how: str) -> None:
    with ScriptedServer([READ, *BROKEN[how]]) as server, transport(route) as one:
        error = failure(one, request(server))
        assert type(error) is ConnectionFailed
        assert error.endpoint == server.url
        assert server.url in str(error)
        with pytest.raises(ConnectionFailed):
            stream_of(one, request(server))
        assert server.connections == 2


def test_a_compressed_body_that_ends_early_is_broken() -> None:
    with (
        ScriptedServer([READ, http_reply(gzip.compress(BODY)[:-8], "Content-Encoding: gzip")]) as server,
        transport() as one,
    ):
        assert "compressed body ends early" in str(failure(one, request(server)))


# --- connections ------------------------------------------------------------------------------------------------------


@ROUTES
@pytest.mark.parametrize("how", ["plain", "chunked", "gzip", "bad request", "no content"])
def test_a_connection_is_used_again(route: str, how: str) -> None:
    with ScriptedServer([READ, *REPLIES[how]] * 3) as server, transport(route) as one:
        for _ in range(3):
            one.send(request(server))
        assert server.connections == 1


@ROUTES
def test_a_stream_that_was_read_to_its_end_gives_its_connection_back(route: str) -> None:
    stream = http_reply(chunked(b"data: a\n\n", b"data: [DONE]\n\n"), CHUNKED, framed=False)
    with ScriptedServer([READ, stream] * 3) as server, transport(route) as one:
        for _ in range(2):
            assert stream_of(one, request(server)) == b"data: a\n\ndata: [DONE]\n\n"
        one.send(request(server))
        assert server.connections == 1


@ROUTES
@pytest.mark.parametrize("how", ["connection close", "HTTP/1.0", "to the end of the connection"])
def test_a_connection_that_ends_is_not_used_again(route: str, how: str) -> None:
    with ScriptedServer([READ, *REPLIES[how]]) as server, transport(route) as one:
        assert {one.send(request(server)).body for _ in range(3)} == {BODY}
        assert server.connections == 3


def test_bytes_beyond_a_reply_are_not_taken_for_the_next_one() -> None:
    with (
        ScriptedServer([READ, http_reply(b"one") + http_reply(b"forged")], [READ, http_reply(b"two")]) as server,
        transport() as one,
    ):
        assert one.send(request(server)).body == b"one"
        assert one.send(request(server)).body == b"two"


@ROUTES
def test_a_stream_that_is_left_early_does_not_leave_its_rest_to_the_next(route: str) -> None:
    first = http_reply(chunked(b"a", b"b" * 100_000), CHUNKED, framed=False)
    with ScriptedServer([READ, first], [READ, http_reply(b"second")]) as server, transport(route) as one:
        with one.stream(request(server)) as reply:
            assert next(iter(reply.pieces()))[:1] == b"a"
        assert one.send(request(server)).body == b"second"
        assert server.connections == 2


@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_a_stream_that_is_left_just_before_its_end_gives_its_connection_back(pause: float) -> None:
    first = http_reply(chunked(b"data: [DONE]\n\n", end=b""), CHUNKED, framed=False)
    with (
        ScriptedServer([READ, first, Sleep(pause), b"0\r\n\r\n", READ, http_reply(b"second")]) as server,
        transport() as one,
    ):
        with one.stream(request(server)) as reply:
            assert next(iter(reply.pieces())) == b"data: [DONE]\n\n"
        assert one.send(request(server)).body == b"second"
        assert server.connections == 1


@pytest.mark.parametrize("rest", [Sleep(30.0), *[[step for _ in range(500) for step in (b"1\r\nx\r\n", Sleep(0.01))]]])
def test_a_stream_that_is_left_early_does_not_wait_for_the_server(rest: Any) -> None:
    first = http_reply(chunked(b"a", end=b""), CHUNKED, framed=False)
    steps = rest if isinstance(rest, list) else [rest]
    with (
        ScriptedServer([READ, first, *steps], [READ, http_reply(b"second")]) as server,
        transport(timeout=30.0) as one,
    ):
        started = time.monotonic()
        with one.stream(request(server)) as reply:
            assert next(iter(reply.pieces())) == b"a"
        assert one.send(request(server)).body == b"second"
        assert took(started) < SLACK
        assert server.connections == 2


STALE = [READ, http_reply(b"one"), CLOSE]


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=repr)
@pytest.mark.parametrize("age", [0.0, 5.0], ids=["fresh", "idle for long"])
def test_a_connection_closed_while_idle_costs_no_error(end: Step, age: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if age:
        monkeypatch.setattr(flexllm.transport.direct, "FRESH_SECONDS", -1.0)
    with ScriptedServer([READ, http_reply(b"one"), end], [READ, http_reply(b"two")]) as server, transport() as one:
        assert one.send(request(server)).body == b"one"
        time.sleep(0.05)  # the end reaches us
        assert one.send(request(server)).body == b"two"
        assert server.connections == 2
        assert len(server.requests) == 2


def test_a_request_taken_by_a_connection_that_then_closes_is_sent_once_more() -> None:
    with (
        ScriptedServer([READ, http_reply(b"one"), READ, CLOSE], [READ, http_reply(b"two")]) as server,
        transport() as one,
    ):
        assert one.send(request(server)).body == b"one"
        assert one.send(request(server)).body == b"two"
        assert (server.connections, len(server.requests)) == (2, 3)


def test_it_is_sent_once_more_and_not_twice() -> None:
    with ScriptedServer([READ, http_reply(b"one"), READ, CLOSE], [READ, CLOSE]) as server, transport() as one:
        one.send(request(server))
        assert "without a reply" in str(failure(one, request(server)))
        assert (server.connections, len(server.requests)) == (2, 3)


def test_on_a_new_connection_nothing_is_sent_twice() -> None:
    with ScriptedServer([READ, CLOSE]) as server, transport() as one:
        assert "without a reply" in str(failure(one, request(server)))
        assert (server.connections, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", http_reply(b"abc")[:-1]])
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=repr)
def test_after_a_byte_of_the_reply_nothing_is_sent_twice(start: bytes, end: Step) -> None:
    conversation = [READ, http_reply(b"one"), READ, start, Sleep(0.05), end]
    with ScriptedServer(conversation) as server, transport() as one:
        one.send(request(server))
        assert type(failure(one, request(server))) is ConnectionFailed
        assert (server.connections, len(server.requests)) == (1, 2)


def test_many_threads_share_connections() -> None:
    with ScriptedServer([READ, http_reply(b"ok")] * 200) as server, transport() as one:
        bodies: list[bytes] = []

        def work() -> None:
            for _ in range(10):
                bodies.append(one.send(request(server)).body)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONGEST_WAIT)
        assert bodies == [b"ok"] * 80
        assert server.connections <= 8


@pytest.mark.parametrize(("connections", "opened"), [(16, 16), (10, 22)])
def test_idle_connections_are_kept_up_to_the_number_asked_for(connections: int, opened: int) -> None:
    together = threading.Barrier(16)

    def meet(sock: socket.socket) -> None:
        together.wait(LONGEST_WAIT)

    with ScriptedServer([READ, meet, http_reply(b"ok")] * 2) as server, transport(connections=connections) as one:
        for _ in range(2):
            threads = [threading.Thread(target=one.send, args=(request(server),)) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONGEST_WAIT)
        assert server.connections == opened


def test_closing_closes_idle_connections_and_leaves_the_transport_usable() -> None:
    ended = threading.Event()

    def wait_for_the_end(sock: socket.socket) -> None:
        if not sock.recv(1):
            ended.set()

    with (
        ScriptedServer([READ, http_reply(b"one"), wait_for_the_end], [READ, http_reply(b"two")]) as server,
        transport() as one,
    ):
        one.send(request(server))
        one.close()
        assert ended.wait(LONGEST_WAIT)
        assert one.send(request(server)).body == b"two"


def test_closing_does_not_wait_for_a_stream_to_close_what_is_idle() -> None:
    ended = threading.Event()

    def wait_for_the_end(sock: socket.socket) -> None:
        if not sock.recv(1):
            ended.set()

    first = http_reply(chunked(b"a", end=b""), CHUNKED, framed=False)
    with (
        ScriptedServer([READ, first, ended, chunked(b"b")], [READ, http_reply(b"two"), wait_for_the_end]) as server,
        transport() as one,
        one.stream(request(server)) as reply,
    ):
        one.send(request(server))
        one.close()
        assert ended.wait(LONGEST_WAIT)
        assert b"".join(reply.pieces()) == b"ab"


def test_what_a_server_says_on_an_idle_connection_is_not_the_next_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flexllm.transport.direct, "FRESH_SECONDS", -1.0)
    goodbye = http_reply(b"idle for too long", status="408 Request Timeout")
    got_one, said = threading.Event(), threading.Event()
    idle = [READ, http_reply(b"one"), got_one, goodbye, lambda sock: said.set(), CLOSE]
    with ScriptedServer(idle, [READ, http_reply(b"two")]) as server, transport() as one:
        assert one.send(request(server)).body == b"one"
        got_one.set()
        assert said.wait(LONGEST_WAIT)
        time.sleep(0.05)  # it reaches us
        assert one.send(request(server)).body == b"two"


# --- time limits ------------------------------------------------------------------------------------------------------


@ROUTES
@pytest.mark.parametrize(
    "slow",
    [
        [Sleep(30.0)],
        [http_reply(BODY)[:20], Sleep(30.0)],
        [http_reply(BODY)[:-10], Sleep(30.0)],
        [http_reply(b"", CHUNKED, framed=False), b"5\r\nab", Sleep(30.0)],
        [step for byte in http_reply(b"x" * 1_000) for step in (bytes([byte]), Sleep(0.02))],
        [http_reply(b"x" * 1_000)[:-1_000], *[step for _ in range(1_000) for step in (b"x", Sleep(0.02))]],
        [http_reply(b"", CHUNKED, framed=False), *[step for _ in range(1_000) for step in (b"1\r\nx\r\n", Sleep(0.02))]],
        [http_reply(b"", framed=False), *[step for _ in range(1_000) for step in (b"x", Sleep(0.02))]],
        [step for _ in range(1_000) for step in (b"HTTP/1.1 100 Continue\r\n\r\n", Sleep(0.02))],
    ],
    ids=[
        "nothing", "half a head", "half a body", "half a chunk", "drip of the head", "drip of the body", "drip of chunks",
        "drip without an end", "drip of interim replies",
    ],
)  # fmt: skip
def test_a_reply_has_its_time_limit_as_a_whole(route: str, slow: list[Step]) -> None:
    with ScriptedServer([READ, *slow]) as server, transport(route, timeout=0.12) as one:
        started = time.monotonic()
        error = failure(one, request(server))
        assert 0.1 <= took(started) < 0.12 + SLACK
        assert type(error) is RequestTimeout
        assert "within 0.12 s; raise timeout" in str(error)
        assert error.endpoint == server.url


def test_the_time_limit_holds_again_on_a_connection_that_was_used_before() -> None:
    with (
        ScriptedServer([READ, Sleep(0.1), http_reply(b"one"), READ, Sleep(30.0)]) as server,
        transport(timeout=1.0) as one,
    ):
        assert one.send(request(server)).body == b"one"
        started = time.monotonic()
        assert type(failure(one, request(server))) is RequestTimeout
        assert 0.95 <= took(started) < 1.0 + SLACK
        assert server.connections == 1


@pytest.mark.slow
def test_a_time_limit_is_not_taken_over_by_the_next_request() -> None:
    first, rest = http_reply(b"one")[:-1], http_reply(b"one")[-1:]
    with (
        ScriptedServer([READ, Sleep(0.9), first, Sleep(0.02), rest, READ, Sleep(0.9), http_reply(b"two")]) as server,
        transport(timeout=1.6) as one,
    ):
        assert [one.send(request(server)).body for _ in range(2)] == [b"one", b"two"]
        assert server.connections == 1


def test_a_connection_that_timed_out_is_not_used_again() -> None:
    timed_out = threading.Event()
    with (
        ScriptedServer([READ, timed_out, http_reply(b"late")], [READ, http_reply(b"new")]) as server,
        transport(timeout=0.5) as one,
    ):
        failure(one, request(server))
        timed_out.set()
        assert one.send(request(server)).body == b"new"


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel answers no further ones."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.skipif(not Path("/proc/net").exists(), reason="a full queue drops connections on Linux")
@ROUTES
def test_connecting_has_its_own_time_limit(route: str) -> None:
    with deaf_port() as port, transport(route, connect_timeout=0.15) as one:
        started = time.monotonic()
        error = failure(one, request(f"http://127.0.0.1:{port}"))
        assert 0.1 <= took(started) < 0.15 + SLACK
        assert type(error) is RequestTimeout
        assert "did not take the connection within 0.15 s" in str(error)


def test_a_handshake_that_hangs_counts_as_connecting() -> None:
    with ScriptedServer([Sleep(30.0)]) as server, transport(connect_timeout=0.15) as one:
        started = time.monotonic()
        error = failure(one, request(server.url.replace("http:", "https:")))
        assert took(started) < 0.3 + SLACK
        assert type(error) is RequestTimeout
        assert "did not take the connection within 0.15 s" in str(error)


@pytest.mark.slow
@ROUTES
def test_a_stream_may_take_longer_than_its_longest_gap(route: str) -> None:
    drip = [step for _ in range(8) for step in (chunked(b"x", end=b""), Sleep(0.2))]
    with (
        ScriptedServer([READ, http_reply(b"", CHUNKED, framed=False), *drip, b"0\r\n\r\n"]) as server,
        transport(route, timeout=1.2) as one,
    ):
        assert stream_of(one, request(server)) == b"x" * 8


@ROUTES
@pytest.mark.parametrize("before", [[], [chunked(b"x", end=b"")]], ids=["no piece", "a piece"])
def test_a_gap_in_a_stream_has_its_limit(route: str, before: list[Step]) -> None:
    with (
        ScriptedServer([READ, http_reply(b"", CHUNKED, framed=False), *before, Sleep(30.0)]) as server,
        transport(route, timeout=0.4) as one,
    ):
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match=r"sent nothing more for 0\.4 s; raise timeout"):
            stream_of(one, request(server))
        assert 0.35 <= took(started) < 0.4 + SLACK


@ROUTES
def test_the_head_of_a_stream_has_the_limit_of_a_gap(route: str) -> None:
    with ScriptedServer([READ, Sleep(30.0)]) as server, transport(route, timeout=0.15) as one:
        started = time.monotonic()
        with pytest.raises(RequestTimeout):
            stream_of(one, request(server))
        assert 0.1 <= took(started) < 0.15 + SLACK


@ROUTES
@pytest.mark.parametrize("hangs", [False, True], ids=["drips", "hangs"])
def test_a_whole_stream_has_its_limit_where_one_is_set(route: str, hangs: bool) -> None:
    drip: list[Step] = [step for _ in range(500) for step in (chunked(b"x", end=b""), Sleep(0.05))]
    rest: list[Step] = [chunked(b"x", end=b""), Sleep(30.0)] if hangs else drip
    with (
        ScriptedServer([READ, http_reply(b"", CHUNKED, framed=False), *rest]) as server,
        transport(route, stream_timeout=0.15) as one,
    ):
        started = time.monotonic()
        with pytest.raises(RequestTimeout) as caught:
            stream_of(one, request(server))
        assert 0.1 <= took(started) < 0.3 + SLACK
        assert "stream_timeout" in str(caught.value)


# --- what is left of a row's time -------------------------------------------------------------------------------------

HEAD = http_reply(b"", CHUNKED, framed=False)
COMMENTS: list[Step] = [step for _ in range(1_000) for step in (chunked(b": wait\n\n", end=b""), Sleep(0.03))]
SILENT: dict[str, list[Step]] = {
    "hangs": [Sleep(30.0)],
    "drips its head": [b"HTTP/1.1 200 OK\r\nX-A: ", *(step for _ in range(1_000) for step in (b"a", Sleep(0.03)))],
    "hangs in its body": [HEAD, chunked(b"x", end=b""), Sleep(30.0)],
    "drips its body": [HEAD, *COMMENTS],
}


@ROUTES
@pytest.mark.parametrize("how", SILENT)
def test_a_reply_has_no_longer_than_what_is_left_of_its_row(route: str, how: str) -> None:
    with ScriptedServer([READ, *SILENT[how]]) as server, transport(route, timeout=25.0) as one:
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match=r"did not complete its reply within 0\.4 s; raise total_timeout"):
            one.send(request(server), None, 0.4)
        assert 0.35 <= took(started) < 0.4 + SLACK


@ROUTES
def test_the_time_of_a_row_does_not_lengthen_that_of_an_attempt(route: str) -> None:
    with ScriptedServer([READ, Sleep(30.0)]) as server, transport(route, timeout=0.15) as one:
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match=r"within 0\.15 s; raise timeout if"):
            one.send(request(server), None, 25.0)
        assert took(started) < 0.15 + SLACK


@pytest.mark.slow
@ROUTES
def test_a_time_that_was_cut_short_is_not_taken_over_by_the_next_request(route: str) -> None:
    late = [READ, Sleep(0.8), http_reply(b"late")]
    with ScriptedServer([READ, http_reply(b"soon"), *late]) as server, transport(route) as one:
        assert one.send(request(server), None, 0.6).body == b"soon"
        assert one.send(request(server)).body == b"late"


@pytest.mark.skipif(not Path("/proc/net").exists(), reason="a full queue drops connections on Linux")
@ROUTES
def test_connecting_too_has_no_longer_than_what_is_left(route: str) -> None:
    with deaf_port() as port, transport(route, timeout=25.0, connect_timeout=20.0) as one:
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="total_timeout"):
            one.send(request(f"http://127.0.0.1:{port}"), None, 0.2)
        with (
            pytest.raises(RequestTimeout, match="total_timeout"),
            one.stream(request(f"http://127.0.0.1:{port}"), None, 0.2),
        ):
            pass
        assert took(started) < 0.4 + SLACK


@ROUTES
@pytest.mark.parametrize("how", ["hangs", "drips its head", "hangs in its body", "drips its body"])
def test_until_its_first_piece_a_stream_has_what_is_left_of_its_row(route: str, how: str) -> None:
    """Pieces of bytes are not pieces of an answer: a server may send comments for ever."""
    with ScriptedServer([READ, *SILENT[how]]) as server, transport(route, timeout=25.0) as one:
        started = time.monotonic()
        with (
            pytest.raises(RequestTimeout, match=r"brought nothing within 0\.4 s; raise total_timeout"),
            one.stream(request(server), None, 0.4) as reply,
        ):
            for _ in reply.pieces():
                pass
        assert 0.35 <= took(started) < 0.4 + SLACK


@pytest.mark.slow
@ROUTES
def test_after_its_first_piece_a_stream_has_all_the_time_again(route: str) -> None:
    """Gaps too may be longer than what was left until the first."""
    rest = [Sleep(0.8), chunked(b"second", end=b""), Sleep(0.2), chunked(b"last")]
    with (
        ScriptedServer([READ, HEAD, chunked(b"first", end=b""), *rest]) as server,
        transport(route) as one,
        one.stream(request(server), None, 0.6) as reply,
    ):
        pieces = iter(reply.pieces())
        assert next(pieces) == b"first"
        reply.lift_limit()
        assert b"".join(pieces) == b"secondlast"


@ROUTES
@pytest.mark.parametrize("rest", [[Sleep(30.0)], COMMENTS], ids=["hangs", "drips"])
def test_after_its_first_piece_a_stream_keeps_the_limit_of_the_whole(route: str, rest: list[Step]) -> None:
    with (
        ScriptedServer([READ, HEAD, chunked(b"first", end=b""), *rest]) as server,
        transport(route, timeout=25.0, stream_timeout=0.6) as one,
    ):
        started = time.monotonic()
        with (
            pytest.raises(RequestTimeout, match=r"not complete within 0\.6 s; raise stream_timeout"),
            one.stream(request(server), None, 0.5) as reply,
        ):
            for _ in reply.pieces():
                reply.lift_limit()
        assert 0.55 <= took(started) < 0.6 + SLACK


@ROUTES
def test_after_its_first_piece_a_stream_keeps_the_limit_of_a_gap(route: str) -> None:
    with (
        ScriptedServer([READ, HEAD, chunked(b"first", end=b""), Sleep(30.0)]) as server,
        transport(route, timeout=0.5) as one,
    ):
        started = time.monotonic()
        with (
            pytest.raises(RequestTimeout, match=r"sent nothing more for 0\.5 s; raise timeout"),
            one.stream(request(server), None, 25.0) as reply,
        ):
            for _ in reply.pieces():
                reply.lift_limit()
        assert 0.45 <= took(started) < 0.5 + SLACK


def test_a_session_reads_on_no_longer_than_what_was_left() -> None:
    """Its thread cannot be ended from outside; it must not wait for a whole `timeout` more."""
    with ScriptedServer([READ, Sleep(30.0)]) as server, transport("session", timeout=25.0) as one:
        with pytest.raises(RequestTimeout):
            one.send(request(server), None, 0.1)
        assert eventually(lambda: not [one for one in threading.enumerate() if one.name == "flexllm-session"], 15.0)


# --- pieces -----------------------------------------------------------------------------------------------------------


@ROUTES
@pytest.mark.parametrize("framing", ["chunked", "to the end", "gzip"])
def test_a_piece_is_handed_on_before_the_next_is_sent(route: str, framing: str) -> None:
    got_first = threading.Event()
    encoder = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = encoder.compress(b"first") + encoder.flush(zlib.Z_SYNC_FLUSH)
    last = encoder.compress(b"last") + encoder.flush()
    conversations: dict[str, list[Step]] = {
        "chunked": [http_reply(b"", CHUNKED, framed=False), chunked(b"first", end=b""), got_first, chunked(b"last")],
        "to the end": [http_reply(b"first", framed=False), got_first, b"last", CLOSE],
        "gzip": [
            http_reply(b"", CHUNKED, "Content-Encoding: gzip", framed=False), chunked(first, end=b""), got_first,
            chunked(last),
        ],
    }  # fmt: skip
    with (
        ScriptedServer([READ, *conversations[framing]]) as server,
        transport(route, timeout=5.0) as one,
        one.stream(request(server)) as reply,
    ):
        pieces = iter(reply.pieces())
        assert next(pieces) == b"first"
        got_first.set()
        assert b"".join(pieces) == b"last"


@ROUTES
def test_a_stream_that_breaks_raises_inside_the_block(route: str) -> None:
    broken = http_reply(chunked(b"first", end=b""), CHUNKED, framed=False)
    came: list[bytes] = []

    def read() -> None:
        with one.stream(request(server)) as reply:
            for piece in reply.pieces():
                came.append(piece)

    with ScriptedServer([READ, broken, CLOSE]) as server, transport(route) as one:
        with pytest.raises(ConnectionFailed):
            read()
        assert came == [b"first"]


# --- hosts that cannot be asked ---------------------------------------------------------------------------------------


@ROUTES
def test_a_port_at_which_nothing_listens_is_named(route: str) -> None:
    port = unused_port()
    with transport(route) as one:
        error = failure(one, request(f"http://127.0.0.1:{port}"))
        assert type(error) is ConnectionFailed
        assert f"nothing listens at http://127.0.0.1:{port}" in str(error)


@ROUTES
def test_a_name_that_does_not_exist_is_named(route: str) -> None:
    with transport(route) as one:
        error = failure(one, request("http://no-such-host.invalid:1234"))
        assert type(error) is ConnectionFailed
        assert "'no-such-host.invalid' cannot be found" in str(error)


@ROUTES
@pytest.mark.parametrize("url", ["http://a..b", "http://" + "a" * 70 + ".invalid", "http://*.invalid", "http://"])
def test_a_name_that_cannot_exist_is_an_error_of_ours(route: str, url: str) -> None:
    with transport(route, connect_timeout=2.0) as one:
        assert isinstance(failure(one, request(url)), (ConfigError, ConnectionFailed))


# --- TLS --------------------------------------------------------------------------------------------------------------


@ROUTES
def test_a_certificate_of_ones_own_is_refused_and_the_way_out_named(route: str, tls: ssl.SSLContext) -> None:
    with ScriptedServer([READ, http_reply(b"ok")], tls=tls) as server, transport(route) as one:
        error = failure(one, request(server))
        assert type(error) is TlsFailed
        assert "verify=" in str(error)
        assert "REQUESTS_CA_BUNDLE" in str(error)
        assert server.requests == []


@ROUTES
def test_a_certificate_of_ones_own_is_taken_where_it_is_given(
    route: str, tls: ssl.SSLContext, certificate: Path
) -> None:
    conversation = [READ, http_reply(b"one"), READ, http_reply(chunked(b"two"), CHUNKED, framed=False)]
    with ScriptedServer(conversation, tls=tls) as server, transport(route, verify=str(certificate)) as one:
        assert one.send(request(server)).body == b"one"
        assert stream_of(one, request(server)) == b"two"
        assert server.connections == 1


def test_a_certificate_may_stand_in_the_environment(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with ScriptedServer([READ, http_reply(b"one")], tls=tls) as server:
        with transport() as one:
            assert one.send(request(server)).body == b"one"
        with transport(trust_env=False) as one:
            assert type(failure(one, request(server))) is TlsFailed


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@ROUTES
def test_certificates_go_unchecked_where_that_is_asked_for(route: str, tls: ssl.SSLContext) -> None:
    with ScriptedServer([READ, http_reply(b"ok")], tls=tls) as server, transport(route, verify=False) as one:
        assert one.send(request(server)).body == b"ok"


@ROUTES
def test_a_bundle_that_is_not_there_is_a_wrong_option(route: str, tls: ssl.SSLContext) -> None:
    with (
        ScriptedServer([READ, http_reply(b"ok")], tls=tls) as server,
        transport(route, verify="/no/such/bundle.pem") as one,
    ):
        error = failure(one, request(server))
        assert isinstance(error, ConfigError)
        assert "/no/such/bundle.pem" in str(error)


@ROUTES
def test_tls_at_a_port_that_does_not_speak_it_says_so(route: str) -> None:
    with (
        ScriptedServer([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", CLOSE]) as server,
        transport(route) as one,
    ):
        error = failure(one, request(server.url.replace("http:", "https:")))
        assert type(error) is ConnectionFailed
        assert "TLS" in str(error)


@ROUTES
def test_plain_http_at_a_tls_port_is_a_failed_connection(route: str, tls: ssl.SSLContext) -> None:
    with ScriptedServer([READ, http_reply(b"ok")], tls=tls) as server, transport(route) as one:
        assert isinstance(failure(one, request(server.url.replace("https:", "http:"))), ConnectionFailed)


def test_an_abort_frees_a_thread_that_reads_from_a_tls_connection(tls: ssl.SSLContext, certificate: Path) -> None:
    with ScriptedServer([READ, Sleep(30.0)], tls=tls) as server, transport(verify=str(certificate)) as one:
        aborted(one, server)


# --- proxies ----------------------------------------------------------------------------------------------------------

TARGET = "http://model.invalid:8000"
"""Can be reached through a proxy alone."""


def through_proxy(one: Transport, proxy: ScriptedServer) -> None:
    assert one.send(request(TARGET)).body == b"by proxy"
    assert stream_of(one, request(TARGET)) == b"by proxy"
    for came in proxy.requests:
        assert came.startswith(b"POST http://model.invalid:8000/v1/chat/completions HTTP/1.1\r\n")
        assert b"\r\nHost: model.invalid:8000\r\n" in came


@ROUTES
def test_a_proxy_that_is_given_is_used(route: str) -> None:
    with (
        ScriptedServer([READ, http_reply(b"by proxy")] * 2) as proxy,
        transport(route, proxies={"http": proxy.url}) as one,
    ):
        through_proxy(one, proxy)


@ROUTES
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_in_the_environment_is_used(route: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer([READ, http_reply(b"by proxy")] * 2) as proxy:
        monkeypatch.setenv(name, proxy.url)
        with transport(route) as one:
            through_proxy(one, proxy)


@ROUTES
def test_hosts_that_need_no_proxy_are_asked_directly(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer([READ, http_reply(b"by proxy")]) as proxy, ScriptedServer([READ, http_reply(b"ok")]) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "other.example,127.0.0.1")
        with transport(route) as one:
            assert one.send(request(server)).body == b"ok"
            assert one.send(request(TARGET)).body == b"by proxy"
        assert (proxy.connections, server.connections) == (1, 1)


def test_an_environment_that_is_not_trusted_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(trust_env=False) as one:
        assert one.send(request(server)).body == b"ok"


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer([READ, http_reply(b"ok")] * 2) as server, transport() as one:
        assert one.send(request(server)).body == b"ok"
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
        assert one.send(request(server)).body == b"ok"
    with ScriptedServer([READ, http_reply(b"by proxy")] * 2) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with transport() as one:
            assert one.send(request(TARGET)).body == b"by proxy"
            monkeypatch.delenv("HTTP_PROXY")
            assert one.send(request(TARGET)).body == b"by proxy"


def test_a_key_in_netrc_is_not_put_in_the_place_of_ours(clean_environment: Path) -> None:
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password not-this\n")
    netrc.chmod(0o600)
    with ScriptedServer([READ, http_reply(b"ok")] * 2) as server:
        for proxies in (None, {"http": server.url}):
            with transport(proxies=proxies) as one:
                one.send(request(server))
    assert [f"Authorization: Bearer {SECRET}".encode() in came for came in server.requests] == [True, True]


@ROUTES
def test_a_proxy_that_is_not_there_is_a_failed_connection_and_its_password_not_shown(route: str) -> None:
    proxy = f"http://me:{SECRET}@127.0.0.1:{unused_port()}"
    with transport(route, proxies={"http": proxy}) as one:
        error = failure(one, request(TARGET))
        assert type(error) is ConnectionFailed
        assert "proxy" in str(error)
        assert SECRET not in repr(TransportOptions(proxies={"http": proxy}))


@ROUTES
def test_a_proxy_may_be_named_without_its_scheme(route: str) -> None:
    with (
        ScriptedServer([READ, http_reply(b"by proxy")] * 2) as proxy,
        transport(route, proxies={"http": f"127.0.0.1:{proxy.port}"}) as one,
    ):
        through_proxy(one, proxy)


@ROUTES
@pytest.mark.parametrize("place", ["127.0.0.1:port", "", ":8080", "[::1"])
def test_a_proxy_with_a_wrong_url_is_a_wrong_option_and_its_password_not_shown(route: str, place: str) -> None:
    with transport(route, proxies={"http": f"http://me:{SECRET}@{place}"}) as one:
        error = failure(one, request(TARGET))
        assert isinstance(error, ConfigError)
        assert "proxy" in str(error)


def test_a_proxy_that_refuses_a_tunnel_is_a_failed_connection() -> None:
    with (
        ScriptedServer([READ, http_reply(b"", status="403 Forbidden"), CLOSE]) as proxy,
        transport(proxies={"https": proxy.url}) as one,
    ):
        error = failure(one, request("https://model.invalid"))
        assert type(error) is ConnectionFailed
        assert "proxy" in str(error)
        assert proxy.requests[0].startswith(b"CONNECT model.invalid:443 HTTP/1.")


# --- a session of the caller's own ------------------------------------------------------------------------------------


def test_a_session_of_the_callers_own_brings_its_headers_and_is_not_closed() -> None:
    with ScriptedServer([READ, http_reply(b"ok")] * 3) as server, requests.Session() as session:
        session.headers["X-Tenant"] = "blue"
        one = Transport(TransportOptions(), session)
        one.send(request(server))
        one.close()
        assert session.get(server.url).text == "ok"
        assert b"\r\nX-Tenant: blue\r\n" in server.requests[0]
        assert server.connections == 1


@pytest.mark.parametrize(
    "raw",
    [io.BytesIO, lambda body: urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)],
    ids=["file", "urllib3"],
)
def test_an_adapter_of_the_callers_own_carries_the_request(raw: Callable[[bytes], Any]) -> None:
    class Answering(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
            response = requests.Response()
            response.status_code = 200
            response.raw = raw(f"carried {request.method}".encode())
            response.headers["X-Carried-By"] = "me"
            return response

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("http://", Answering())
        one = Transport(TransportOptions(), session)
        response = one.send(request("http://model.invalid"))
        assert (response.status, response.headers, response.body) == (200, {"x-carried-by": "me"}, b"carried POST")
        assert stream_of(one, request("http://model.invalid")) == b"carried POST"


def test_a_reply_without_a_body_from_an_adapter_ends() -> None:
    class Empty(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
            response = requests.Response()
            response.status_code = 204
            response.raw = urllib3.HTTPResponse(b"not a file", preload_content=False)
            return response

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("http://", Empty())
        assert Transport(TransportOptions(), session).send(request("http://model.invalid")).body == b""


def test_the_authentication_of_a_session_stands_where_we_have_no_key() -> None:
    with ScriptedServer([READ, http_reply(b"ok")] * 2) as server, requests.Session() as session:
        session.auth = ("me", "secret")
        one = Transport(TransportOptions(), session)
        one.send(HttpRequest("POST", server.url, (("Authorization", "Bearer EMPTY"),), b""))
        assert b"\r\nAuthorization: Basic " in server.requests[0]


def test_the_proxies_and_certificates_of_a_session_are_kept(tls: ssl.SSLContext, certificate: Path) -> None:
    with requests.Session() as session, ScriptedServer([READ, http_reply(b"by proxy")] * 2) as proxy:
        session.proxies["http"] = proxy.url
        session.verify = str(certificate)
        one = Transport(TransportOptions(), session)
        through_proxy(one, proxy)
        with ScriptedServer([READ, http_reply(b"ok")], tls=tls) as server:
            assert one.send(request(server)).body == b"ok"


def test_a_session_does_not_follow_redirects_with_our_key() -> None:
    with ScriptedServer([READ, http_reply(b"caught")]) as elsewhere:
        redirect = http_reply(b"", f"Location: {elsewhere.url}/", status="307 Temporary Redirect")
        with ScriptedServer([READ, redirect]) as server:
            for route in ("direct", "session"):
                with transport(route) as one:
                    assert one.send(request(server)).status == 307
        assert elsewhere.connections == 0


# --- aborting ---------------------------------------------------------------------------------------------------------


def aborted(one: Transport, server: ScriptedServer, streaming: bool = False, pieces: int = 0) -> None:
    """Abort a request that waits for its reply, or for a further piece of it."""
    token = CancelToken()
    came = 0

    def abort_when_it_waits() -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        while (not server.requests or came < pieces) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # so that it waits; if it does not yet, the abort counts all the same
        token.abort()

    def read() -> None:
        nonlocal came
        with one.stream(request(server), token) as reply:
            for _ in reply.pieces():
                came += 1

    thread = threading.Thread(target=abort_when_it_waits)
    thread.start()
    started = time.monotonic()
    with pytest.raises(RequestCancelled):
        read() if streaming else one.send(request(server), token)
    assert took(started) < SLACK
    thread.join(LONGEST_WAIT)
    assert token._breakers == set()


@ROUTES
@pytest.mark.parametrize(
    "came", [b"", http_reply(BODY)[:20], http_reply(BODY)[:-5]], ids=["nothing", "a head", "a body"]
)
def test_an_abort_frees_a_thread_that_waits_for_a_reply(route: str, came: bytes) -> None:
    with ScriptedServer([READ, came, Sleep(30.0)]) as server, transport(route, timeout=30.0) as one:
        aborted(one, server)


@ROUTES
def test_an_abort_frees_a_thread_that_waits_for_the_head_of_a_stream(route: str) -> None:
    with ScriptedServer([READ, Sleep(30.0)]) as server, transport(route, timeout=30.0) as one:
        aborted(one, server, streaming=True)


@ROUTES
def test_an_abort_frees_a_thread_that_waits_for_a_piece(route: str) -> None:
    first = http_reply(chunked(b"x", end=b""), CHUNKED, framed=False)
    with ScriptedServer([READ, first, Sleep(30.0)]) as server, transport(route, timeout=30.0) as one:
        aborted(one, server, streaming=True, pieces=1)


@ROUTES
def test_an_abort_ends_a_stream_that_never_stops_talking(route: str) -> None:
    drip = [step for _ in range(2_000) for step in (chunked(b"x", end=b""), Sleep(0.02))]
    with (
        ScriptedServer([READ, http_reply(b"", CHUNKED, framed=False), *drip]) as server,
        transport(route, timeout=30.0) as one,
    ):
        aborted(one, server, streaming=True, pieces=3)


def test_an_abort_ends_a_stream_whose_adapter_cannot_be_shut_down() -> None:
    token = CancelToken()

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            time.sleep(0.005)
            return b"x"

    class Talking(requests.adapters.BaseAdapter):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
            response = requests.Response()
            response.status_code = 200
            response.raw = Endless()
            return response

        def close(self) -> None:
            pass

    def read(one: Transport) -> None:
        with one.stream(request("http://model.invalid"), token) as reply:
            for number, _ in enumerate(reply.pieces()):
                if number == 3:
                    token.abort()
                assert number < 100

    with requests.Session() as session:
        session.mount("http://", Talking())
        with pytest.raises(RequestCancelled):
            read(Transport(TransportOptions(), session))


@ROUTES
def test_an_aborted_token_lets_nothing_out(route: str) -> None:
    token = CancelToken()
    token.abort()
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        with pytest.raises(RequestCancelled):
            one.send(request(server), token)
        with pytest.raises(RequestCancelled), one.stream(request(server), token):
            raise AssertionError("it was handed out")


@ROUTES
def test_a_stop_lets_what_is_under_way_come_to_its_end(route: str) -> None:
    token = CancelToken()
    with ScriptedServer([READ, lambda sock: token.stop(), http_reply(b"ok")]) as server, transport(route) as one:
        assert one.send(request(server), token).body == b"ok"


def test_an_abort_does_not_resend_on_a_new_connection() -> None:
    token = CancelToken()
    with (
        ScriptedServer([READ, http_reply(b"one"), READ, lambda sock: token.abort(), Sleep(30.0)]) as server,
        transport(timeout=30.0) as one,
    ):
        one.send(request(server), token)
        with pytest.raises(RequestCancelled):
            one.send(request(server), token)
        assert (server.connections, len(server.requests)) == (1, 2)


def test_a_token_keeps_nothing_of_a_request_that_is_over() -> None:
    token = CancelToken()
    with ScriptedServer([READ, http_reply(b"ok")] * 2, [READ, CLOSE]) as server, transport() as one:
        one.send(request(server), token)
        stream_of(one, request(server), token)
        one.close()
        failure(one, request(server), token)
    assert token._breakers == set()


# --- large bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=repr)
def test_a_refusal_that_comes_while_a_large_body_is_sent_is_read(end: Step) -> None:
    refusal = http_reply(b'{"error":"too large"}', status="413 Content Too Large")
    early: list[Step] = [READ_HEAD, refusal, Sleep(0.1), end]
    with ScriptedServer(early, [READ, http_reply(b"ok")]) as server, transport() as one:
        response = one.send(request(server, b"x" * 30_000_000))
        assert (response.status, response.body) == (413, b'{"error":"too large"}')
        assert one.send(request(server)).body == b"ok"
        assert server.connections == 2


@ROUTES
def test_a_large_body_arrives_whole(route: str) -> None:
    body = os.urandom(1000) * 5000
    with ScriptedServer([READ, http_reply(b"ok")]) as server, transport(route) as one:
        assert one.send(request(server, body)).body == b"ok"
        assert server.requests[0].endswith(b"\r\n\r\n" + body)


def read_slowly(sock: socket.socket) -> None:
    """Take four megabytes a second: always some, and never all of it in time."""
    while sock.recv(200_000):
        time.sleep(0.05)


LARGE = b"x" * 60_000_000


@ROUTES
@pytest.mark.parametrize("reads", [read_slowly, Sleep(30.0)], ids=["slowly", "not at all"])
def test_a_server_that_does_not_take_the_body_in_time_is_given_up(route: str, reads: Step) -> None:
    with ScriptedServer([READ_HEAD, reads]) as server, transport(route, timeout=0.15) as one:
        started = time.monotonic()
        assert type(failure(one, request(server, LARGE))) is RequestTimeout
        assert 0.1 <= took(started) < 0.3 + SLACK


def test_over_tls_too_a_body_has_to_be_taken_in_time(tls: ssl.SSLContext, certificate: Path) -> None:
    with (
        ScriptedServer([READ_HEAD, read_slowly], tls=tls) as server,
        transport(timeout=0.3, verify=str(certificate)) as one,
    ):
        started = time.monotonic()
        assert type(failure(one, request(server, LARGE))) is RequestTimeout
        assert 0.25 <= took(started) < 0.6 + SLACK


@ROUTES
def test_for_a_stream_a_body_has_the_limit_of_a_gap(route: str) -> None:
    with ScriptedServer([READ_HEAD, read_slowly]) as server, transport(route, timeout=0.15) as one:
        started = time.monotonic()
        with pytest.raises(RequestTimeout):
            stream_of(one, request(server, LARGE))
        assert 0.1 <= took(started) < 0.3 + SLACK


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@ROUTES
def test_a_forked_child_has_connections_of_its_own_and_leaves_the_parents_alone(route: str) -> None:
    with ScriptedServer([READ, http_reply(b"ok")] * 4) as server, transport(route) as one:
        one.send(request(server))
        child = os.fork()
        if not child:
            signal.alarm(60)
            with contextlib.suppress(BaseException):
                if one.send(request(server)).body == b"ok" and one.send(request(server)).body == b"ok":
                    one.close()
                    os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == 2
        assert one.send(request(server)).body == b"ok"
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_a_lock_is_held_and_a_request_under_way_harms_neither() -> None:
    go_on = threading.Event()
    with ScriptedServer([READ, go_on, http_reply(b"slow")], [READ, http_reply(b"ok")]) as server, transport() as one:
        bodies: list[bytes] = []
        thread = threading.Thread(target=lambda: bodies.append(one.send(request(server)).body))
        thread.start()
        while not server.requests:
            time.sleep(0.01)
        with one._lock:
            child = os.fork()
            if not child:
                signal.alarm(60)
                with contextlib.suppress(BaseException):
                    os._exit(0 if one.send(request(server)).body == b"ok" else 1)
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        thread.join(LONGEST_WAIT)
        assert bodies == [b"slow"]


# --- foreign errors ---------------------------------------------------------------------------------------------------


def foreign(module: Any) -> list[type[Exception]]:
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    return [kind for kind in kinds if issubclass(kind, Exception) and not issubclass(kind, Warning)]


FOREIGN = list(
    dict.fromkeys([*foreign(requests.exceptions), *foreign(urllib3.exceptions), NothingReceived, BrokenReply])
)


def made(kind: type[Exception]) -> Exception:
    """An error of this class, whatever its constructor wants."""
    words = "words"
    for arguments in (
        [words],
        [None, words],
        [None, None, words],
        [0, 0],
        [words, OSError(words)],
        [words, words, 0],
        [SimpleNamespace(tell=lambda: 0, length_remaining=1), b"words"],
    ):
        with contextlib.suppress(TypeError, AttributeError):
            error = kind(*arguments)
            str(error)
            return error
    raise AssertionError(f"{kind} wants something else")


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_the_http_libraries_becomes_one_of_ours(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def send(self, *args: Any) -> Any:
            raise made(kind)

    one = Transport(TransportOptions())
    monkeypatch.setattr(one, "_route", lambda url: Failing())
    error = failure(one, request("http://user@host.example:8000"))
    assert isinstance(error, (ConnectionFailed, ConfigError))
    assert "http://host.example:8000" in str(error)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (requests.exceptions.ConnectTimeout("x"), RequestTimeout, "did not take the connection within 10 s"),
        (requests.exceptions.ReadTimeout("x"), RequestTimeout, "within 120 s; raise timeout"),
        (TimeoutError("timed out"), RequestTimeout, "raise timeout"),
        (urllib3.exceptions.ReadTimeoutError(None, None, "x"), RequestTimeout, "raise timeout"),  # type: ignore[arg-type]
        (requests.exceptions.SSLError("x"), ConnectionFailed, "TLS"),
        (ssl.SSLError(1, "wrong version number"), ConnectionFailed, "TLS"),
        (ssl.SSLCertVerificationError(1, "self-signed"), TlsFailed, "verify="),
        (requests.exceptions.ProxyError("x"), ConnectionFailed, "proxy"),
        (requests.exceptions.InvalidProxyURL("x"), ConfigError, "proxy"),
        (requests.exceptions.InvalidURL("x"), ConfigError, "cannot be asked"),
        (requests.exceptions.InvalidURL(f"http://me:{SECRET}@host is odd"), ConfigError, "host is odd"),
        (requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."), ConfigError, "SOCKS"),
        (socket.gaierror(-2, "Name or service not known"), ConnectionFailed, "cannot be found"),
        (ConnectionRefusedError(111, "refused"), ConnectionFailed, "nothing listens"),
        (ConnectionResetError(104, "reset"), ConnectionFailed, "without a reply"),
        (NothingReceived(), ConnectionFailed, "without a reply"),
        (BrokenReply("its body is odd"), ConnectionFailed, "is broken: its body is odd"),
        (OSError(24, "Too many open files"), ConnectionFailed, "ulimit -n"),
        (OSError(101, "Network is unreachable"), ConnectionFailed, "Network is unreachable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_says_what_happened_and_what_to_do(error: Exception, kind: type[FlexLLMError], said: str) -> None:
    ours = translate(error, "http://host.example/v1", TransportOptions())
    assert type(ours) is kind
    assert said in str(ours)
    assert SECRET not in str(ours)


def test_a_server_that_leaves_in_the_middle_of_a_stream_is_not_said_to_have_been_silent() -> None:
    ours = translate(ConnectionResetError(104, "reset"), "http://host.example/v1", TransportOptions(), begun=True)
    assert "closed the connection before its stream was complete" in str(ours)


def wrapped(cause: BaseException) -> list[Exception]:
    """The forms in which requests and urllib3 pass on a socket's error."""
    new = urllib3.exceptions.NewConnectionError(None, f"Failed to establish a new connection: {cause}")  # type: ignore[arg-type]
    new.__cause__ = cause
    tried = urllib3.exceptions.MaxRetryError(None, "/", new)  # type: ignore[arg-type]
    return [new, tried, requests.exceptions.ConnectionError(tried)]


@pytest.mark.parametrize("form", range(3))
@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "nothing listens"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
    ids=["refused", "files", "network"],
)
def test_a_wrapped_error_is_recognised(form: int, cause: Exception, said: str) -> None:
    ours = translate(wrapped(cause)[form], "http://host.example/v1", TransportOptions())
    assert type(ours) is ConnectionFailed
    assert said in str(ours)


@pytest.mark.parametrize("outer", [ssl.SSLCertVerificationError(1, "x"), TimeoutError(), BrokenReply("x")], ids=repr)
def test_an_error_that_the_caller_was_handling_is_not_mistaken_for_ours(outer: Exception) -> None:
    with transport() as one:
        try:
            raise outer
        except Exception:
            error = failure(one, request(f"http://127.0.0.1:{unused_port()}"))
    assert type(error) is ConnectionFailed
    assert "nothing listens" in str(error)


def test_a_bug_is_not_disguised_as_a_failed_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def send(self, *args: Any) -> Any:
            raise ZeroDivisionError

    one = Transport(TransportOptions())
    monkeypatch.setattr(one, "_route", lambda url: Failing())
    with pytest.raises(ZeroDivisionError):
        one.send(request("http://host"))


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "stream_timeout"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "30", 1e20])
def test_a_time_limit_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        TransportOptions(**{name: value})


def test_only_a_whole_stream_may_go_without_a_limit() -> None:
    assert TransportOptions(stream_timeout=None).stream_timeout is None
    for name in ("timeout", "connect_timeout"):
        with pytest.raises(ConfigError, match=name):
            TransportOptions(**{name: None})  # type: ignore[arg-type]


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    resource = pytest.importorskip("resource")
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: chosen.append(both))
    return chosen


@pytest.mark.parametrize(
    ("soft", "hard", "chosen"),
    [(1024, 4096, []), (256, 4096, [(564, 4096)]), (256, -1, [(564, -1)]), (-1, -1, []), (564, 564, [])],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed(
    soft: int, hard: int, chosen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    came = limits(monkeypatch, soft, hard)
    allow_connections(500)
    assert came == chosen


def test_a_limit_of_open_files_that_cannot_be_raised_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits(monkeypatch, 256, 300) == []
    with pytest.raises(ConfigError, match=r"concurrency_limit=500 .* 300: lower concurrency_limit to 236"):
        allow_connections(500)


def test_the_response_is_a_value_like_any_other() -> None:
    with ScriptedServer([READ, http_reply(b"ok", "X-A: 1")]) as server, transport() as one:
        response = one.send(request(server))
        assert isinstance(response, HttpResponse)
        assert pickle.loads(pickle.dumps(response)) == response
