"""The mock's faults over real sockets, told over HTTP while it runs, and several mocks at once."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import LONGEST_WAIT, eventually

from flexllm.mock import MockServer, Reply
from flexllm.mock.faults import FAULTS

ROOT = Path(__file__).parents[2]
TURN = {"role": "user", "content": "hello"}
CONTENT = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
GEMINI = "/v1beta/models/gemini-2.0-flash"
ASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", "/v1/chat/completions", {"model": "gpt-4o", "messages": [TURN]}),
    "anthropic": ("/v1/messages", "/v1/messages", {"model": "claude-3", "max_tokens": 500, "messages": [TURN]}),
    "gemini": (f"{GEMINI}:generateContent", f"{GEMINI}:streamGenerateContent?alt=sse", CONTENT),
}


def post(dialect: str = "openai", stream: bool = False, prompt: str = "hello") -> bytes:
    whole, streamed, fields = ASKED[dialect]
    body = json.dumps({**fields, "stream": True} if stream and dialect != "gemini" else fields).encode()
    body = body.replace(b'"hello"', json.dumps(prompt).encode())
    path = streamed if stream else whole
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nanthropic-version: 2023-06-01\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def asked(server: MockServer, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT) as connection:
        connection.sendall(request)
        yield connection


def answer(server: MockServer, request: bytes) -> tuple[int, bytes]:
    """The status and the body of a reply, read as HTTP says."""
    with asked(server, request) as connection, closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        return response.status, response.read()


def statuses(server: MockServer, count: int, prompt: str = "hello") -> list[int]:
    return [answer(server, post(prompt=prompt))[0] for _ in range(count)]


def tell(port: int, path: str, value: Any = None, method: str = "POST") -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)) as connection:
        connection.request(method, path, None if value is None else json.dumps(value))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def wait_for(server: MockServer, name: str, number: int) -> None:
    """Wait for what happens in the server without a reply to tell of it."""
    assert eventually(lambda: server.stats()[name] == number), server.stats()  # type: ignore[literal-required]


every_dialect = pytest.mark.parametrize("dialect", ASKED)
every_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# ---------------------------------------------------------------------------------------------------- faults

WHOLE = [name for name in FAULTS if name not in ("hang", "drip", "reset", "slow_close")]


@every_dialect
@every_way
def test_a_reply_with_a_fault_is_http_all_the_same_and_the_next_one_is_right(dialect: str, stream: bool) -> None:
    with MockServer(script=WHOLE) as server, ExitStack() as stack:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT)
        stack.callback(connection.close)
        for name in [*WHOLE, None]:
            head, _, body = post(dialect, stream).partition(b"\r\n\r\n")
            connection.request("POST", head.split()[1].decode(), body, {"anthropic-version": "2023-06-01"})
            response = connection.getresponse()
            assert response.read() or name == "empty"
            status = response.status
        assert status == 200
        stats = server.stats()
        assert (stats["connections"], stats["received"]) == (1, len(WHOLE) + 1)
        assert stats["faults"] == dict.fromkeys(WHOLE, 1)
        assert sum(stats["statuses"].values()) == stats["answered"] + stats["failed"] == len(WHOLE) + 1


@every_dialect
@every_way
def test_a_hang_holds_the_client_till_it_leaves(dialect: str, stream: bool) -> None:
    with MockServer(script=["hang"]) as server:
        with asked(server, post(dialect, stream)) as connection:
            wait_for(server, "received", 1)
            connection.settimeout(0.05)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert server.stats()["failed"] == 0
        wait_for(server, "failed", 1)
        stats = server.stats()
        assert (stats["faults"], stats["statuses"]) == ({"hang": 1}, {})


def test_a_hang_ends_by_itself_when_its_time_is_over() -> None:
    with MockServer(script=["hang"], hang_seconds=0.02) as server, asked(server, post()) as connection:
        assert connection.recv(1) == b""
        wait_for(server, "failed", 1)


def test_who_leaves_before_the_head_has_got_no_status() -> None:
    with MockServer(script=[None, Reply(delay=30)]) as server:
        with asked(server, post()) as connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(post())
            wait_for(server, "received", 2)
        wait_for(server, "failed", 1)
        assert server.stats()["statuses"] == {"200": 1}


@pytest.mark.slow
def test_a_drip_comes_byte_by_byte() -> None:
    with MockServer(script=["drip"]) as server:
        with asked(server, post()) as connection:
            received = b""
            while not received.partition(b"\r\n\r\n")[2]:
                received += connection.recv(65536)
            assert len(received.partition(b"\r\n\r\n")[2]) < 20  # of some hundred: two come in a second
        wait_for(server, "failed", 1)
        assert server.stats()["statuses"] == {"200": 1}


@every_dialect
@every_way
def test_a_reset_comes_after_a_part_of_the_body(dialect: str, stream: bool) -> None:
    with MockServer(script=["reset"]) as server, asked(server, post(dialect, stream)) as connection:
        with pytest.raises(ConnectionResetError):
            while connection.recv(65536):
                pass
        assert server.stats()["failed"] == 1
        assert server.stats()["statuses"] == {"200": 1}


@every_dialect
@every_way
def test_a_slow_close_has_sent_all_and_keeps_the_connection(dialect: str, stream: bool) -> None:
    with MockServer(script=[None, "slow_close"]) as server:
        _, whole = answer(server, post(dialect, stream))
        with asked(server, post(dialect, stream)) as connection:
            received = b""
            while not received.endswith(b"\r\n\r\n" + whole):
                received += connection.recv(65536)
            assert b"content-length" not in received.partition(b"\r\n\r\n")[0]
            assert server.stats()["answered"] == 1  # the end of the connection, and so of the reply, is still to come
        wait_for(server, "answered", 2)  # who leaves before has all of it


def test_truncated_json_is_read_to_its_end() -> None:
    with MockServer(script=["truncated_json"]) as server:
        status, body = answer(server, post())
        assert status == 200
        assert answer(server, post())[1].startswith(body)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(body)


def test_shares_are_the_same_for_every_server_with_their_seed() -> None:
    runs = []
    for seed in (1, 1, 2):
        with MockServer(faults="unavailable:0.3,payment:0.2", seed=seed) as server:
            runs.append(statuses(server, 40))
    assert runs[0] == runs[1] != runs[2]
    assert {200, 402, 503} == set(runs[0])


# ---------------------------------------------------------------------------------------------------- limits


def test_a_limit_of_those_under_way_is_free_again_when_they_leave() -> None:
    with MockServer(concurrency_limit=1, script={"slow": ["hang"]}) as server:
        with asked(server, post(prompt="slow")):
            wait_for(server, "received", 1)
            status, body = answer(server, post())
            assert (status, "at most 1" in json.loads(body)["error"]["message"]) == (429, True)
        wait_for(server, "failed", 2)
        assert statuses(server, 3) == [200, 200, 200]
        assert server.stats()["statuses"] == {"429": 1, "200": 3}


def test_tokens_are_limited_across_requests() -> None:
    with MockServer(token_rate_limit=50) as server:
        assert statuses(server, 2) == [200, 429]


# ---------------------------------------------------------------------------------------------------- told over HTTP


def test_a_server_is_told_what_to_answer_while_it_runs() -> None:
    with MockServer() as server:
        assert tell(server.port, "/mock/script", {"row 3": ["server_error", {"status": 418}]}) == (200, {})
        assert statuses(server, 3, "row 3") == [500, 418, 200]
        assert statuses(server, 1, "row 4") == [200]
        assert tell(server.port, "/mock/options", {"faults": "payment:1"}) == (200, {})
        assert statuses(server, 2) == [402, 402]
        assert server.options.faults == "payment:1"
        status, body = tell(server.port, "/mock/options", {"faults": "hangs:1"})
        assert (status, "no fault 'hangs'" in body["error"]["message"]) == (400, True)
        assert tell(server.port, "/mock/reset", {}) == (200, {})
        assert tell(server.port, "/mock/requests", method="GET")[1]["faults"] == {}


def test_the_same_is_told_in_python() -> None:
    with MockServer() as server:
        server.set_script(["forbidden"])
        assert statuses(server, 2) == [403, 200]
        server.change(error_rate=1, error_status=503)
        assert statuses(server, 1) == [503]
        with pytest.raises(ValueError, match="no fault 'hangs'"):
            server.set_script(["hangs"])
        with pytest.raises(ValueError, match="'port' is no option that can change"):
            server.change(port=3)
        with pytest.raises(ValueError, match="error_rate is 2"):
            server.change(error_rate=2)
        assert server.options.error_rate == 1
    assert statuses_after_a_new_start(server) == [200]


def statuses_after_a_new_start(server: MockServer) -> list[int]:
    with server:
        return statuses(server, 1)


def test_a_limit_that_changes_holds_at_once() -> None:
    with MockServer() as server:
        assert statuses(server, 2) == [200, 200]
        tell(server.port, "/mock/options", {"rate_limit": 0.001, "retry_after": None})
        assert statuses(server, 2) == [200, 429]
        tell(server.port, "/mock/options", {"rate_limit": None})
        assert statuses(server, 2) == [200, 200]


def test_a_mock_in_another_process_is_scripted_too() -> None:
    options = ("--faults", "unavailable:1", "--retry-after", "none", "--rate-headers", "--rate-limit", "1000")
    command = [sys.executable, "-m", "flexllm", "mock", "-p", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
            tell(port, "/mock/script", ["rate_limited", {"status": 418, "body": "tea"}])
            found = []
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)) as connection:
                for _ in range(3):
                    connection.request("POST", ASKED["openai"][0], json.dumps(ASKED["openai"][2]))
                    response = connection.getresponse()
                    found.append((response.status, response.read() == b"tea"))
                    assert response.headers["retry-after"] is None
                    assert response.headers["x-ratelimit-limit-requests"] == "60000"
            assert found == [(429, False), (418, True), (503, False)]
            assert tell(port, "/mock/requests", method="GET")[1]["statuses"] == {"429": 1, "418": 1, "503": 1}
        finally:
            process.terminate()


# ---------------------------------------------------------------------------------------------------- several at once


def test_several_servers_live_side_by_side_each_with_its_own_faults_and_counts() -> None:
    names = ["unavailable", "payment", "forbidden", "server_error", None]
    expected = [503, 402, 403, 500, 200]
    with ExitStack() as stack:
        servers = [stack.enter_context(MockServer(faults=f"{name}:1" if name else {})) for name in names]
        assert len({server.port for server in servers}) == len(servers)
        found: list[list[int]] = [[] for _ in servers]

        def ask(at: int) -> None:
            found[at] = statuses(servers[at], 20, prompt=f"server {at}")

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(len(servers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[status] * 20 for status in expected]
        servers[0].change(faults={})
        servers[1].close()
        assert [statuses(server, 1) for server in (servers[0], servers[2])] == [[200], [403]]
        for at, server in enumerate(servers):
            assert server.stats()["prompts"].pop(f"server {at}") == 20
            assert server.stats()["received"] == 20 + (at in (0, 2))
        with pytest.raises(ConnectionRefusedError):
            statuses(servers[1], 1)


def test_a_server_that_was_stopped_comes_back_at_its_port() -> None:
    with MockServer() as server:
        assert statuses(server, 1) == [200]
        port = server.port
    with MockServer(port=port, script=[Reply(status=418)]) as server:
        assert statuses(server, 2) == [418, 200]
