"""The time of a row over all its attempts, through a client and against real servers that hang and drip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fakes import READ, ScriptedServer, Sleep, Step, chunked, http_reply

from flexllm import LLMClient
from flexllm.errors import RequestTimeout, ServerError, StreamBroken

SLACK = 10.0
"""Seconds that a busy machine may add to a time limit before a test calls it broken."""

TOTAL = 0.8
HEAD = http_reply(b"", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", framed=False)
ROLE = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
END = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def dripping(piece: bytes) -> list[Step]:
    return [step for _ in range(1_000) for step in (piece, Sleep(0.03))]


COMMENTS = dripping(chunked(b": keep-alive\n\n", end=b""))


@pytest.fixture(params=["direct", "session"])
def session(request: pytest.FixtureRequest) -> Iterator[requests.Session | None]:
    if request.param == "direct":
        yield None
        return
    with requests.Session() as one:
        yield one


def client(server: ScriptedServer, session: requests.Session | None, **options: Any) -> LLMClient:
    given: dict[str, Any] = {
        "timeout": 25.0, "total_timeout": TOTAL, "retry_times": 3, "retry_delay": 0.0, "session": session, **options,
    }  # fmt: skip
    return LLMClient(base_url=f"{server.url}/v1", model="m", api_key="EMPTY", **given)


ENDLESS: dict[str, list[Step]] = {
    "comments": [HEAD, *COMMENTS],
    "comments after a role": [HEAD, chunked(ROLE, end=b""), *COMMENTS],
    "nothing": [Sleep(30.0)],
    "nothing after the head": [HEAD, Sleep(30.0)],
}


@pytest.mark.parametrize("how", ENDLESS)
def test_a_stream_that_never_comes_to_its_first_piece_is_given_up(how: str, session: requests.Session | None) -> None:
    with ScriptedServer([READ, *ENDLESS[how]]) as server, client(server, session) as llm:
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="total_timeout") as caught:
            list(llm.chat_completions_stream_sync([{"role": "user", "content": "Hi"}]))
        assert TOTAL - 0.05 <= time.monotonic() - started < TOTAL + SLACK
        assert (caught.value.attempts, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("body", [dripping(b"x"), [Sleep(30.0)]], ids=["drips", "hangs"])
def test_all_attempts_together_have_the_time_of_a_row(body: list[Step], session: requests.Session | None) -> None:
    failed = [READ, http_reply(b"{}", status="500 Oops")]
    slow = [READ, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *body]
    with ScriptedServer([*failed, *failed, *slow]) as server, client(server, session) as llm:
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match=r"no time is left of the 0\.8 s") as caught:
            llm.chat_completions_sync("Hi")
        assert TOTAL - 0.05 <= time.monotonic() - started < TOTAL + SLACK
        assert (caught.value.attempts, len(server.requests)) == (3, 3)


def test_a_pause_that_is_longer_than_the_time_is_not_begun(session: requests.Session | None) -> None:
    with (
        ScriptedServer([READ, http_reply(b"{}", "Retry-After: 25", status="500 Oops")]) as server,
        client(server, session, total_timeout=20.0) as llm,
    ):
        started = time.monotonic()
        with pytest.raises(ServerError, match=r"no time is left of the 20 s"):
            llm.chat_completions_sync("Hi")
        assert time.monotonic() - started < SLACK
        assert len(server.requests) == 1


@pytest.mark.slow
def test_a_stream_that_has_begun_has_all_the_time_it_needs(session: requests.Session | None) -> None:
    drip = [step for _ in range(8) for step in (chunked(TEXT, end=b""), Sleep(0.15))]
    with ScriptedServer([READ, HEAD, *drip, chunked(END)]) as server, client(server, session) as llm:
        assert "".join(llm.chat_completions_stream_sync("Hi")) == "Hi" * 8


@pytest.mark.parametrize(
    ("option", "said"), [("timeout", "sent nothing more for"), ("stream_timeout", "was not complete within")]
)
def test_a_stream_that_has_begun_keeps_its_other_limits(
    option: str, said: str, session: requests.Session | None
) -> None:
    rest = [Sleep(30.0)] if option == "timeout" else COMMENTS
    with (
        ScriptedServer([READ, HEAD, chunked(TEXT, end=b""), *rest]) as server,
        client(server, session, total_timeout=None, **{option: 0.8}) as llm,
    ):
        started = time.monotonic()
        pieces = llm.chat_completions_stream_sync("Hi")
        assert next(pieces) == "Hi"
        with pytest.raises(StreamBroken, match=said) as caught:
            list(pieces)
        assert caught.value.partial == "Hi"
        assert time.monotonic() - started < 0.8 + SLACK
