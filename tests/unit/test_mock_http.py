"""HTTP as the mock reads and writes it: bytes in, requests out; replies in, timed bytes out. No socket."""

from __future__ import annotations

import gzip
import time
from collections.abc import Sequence

import pytest

from flexllm.mock import ReceivedRequest, Reply
from flexllm.mock.http import BadHttp, RequestReader, wire_plan
from flexllm.mock.replies import Step


def sent(steps: Sequence[Step]) -> bytes:
    return b"".join(data for _, data in steps)


def read(*pieces: bytes) -> list[ReceivedRequest]:
    """The requests found when these pieces arrive one after the other."""
    reader, found = RequestReader(), []
    for piece in pieces:
        reader.buffer += piece
        while (request := reader.take()) is not None:
            found.append(request)
    return found


# ---------------------------------------------------------------------------------------------------- requests

REQUEST = b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two:  2 \r\nContent-Length: 4\r\n\r\nbody"


def test_a_request_is_kept_as_it_arrived() -> None:
    (request,) = read(REQUEST)
    assert (request.method, request.path, request.query, request.body) == ("POST", "/a%20b", "c=d", b"body")
    assert request.headers == {"host": "x", "x-two": "1, 2", "content-length": "4"}
    assert abs(request.time - time.monotonic()) < 60
    assert abs(request.time_unix - time.time()) < 60


def test_a_request_may_be_cut_anywhere() -> None:
    for at in range(1, len(REQUEST)):
        (request,) = read(REQUEST[:at], REQUEST[at:])
        assert (request.path, request.body) == ("/a%20b", b"body")
    assert len(read(*(REQUEST[at : at + 1] for at in range(len(REQUEST))))) == 1


def test_requests_may_follow_one_another_in_one_piece() -> None:
    assert len(read(b"\r\n" + REQUEST * 3 + REQUEST[:-1])) == 3


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"what is this\r\n\r\n", 400),
        (b"what is this\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),  # a TLS client
        (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_what_is_no_request_is_refused_as_soon_as_that_is_clear(request_bytes: bytes, status: int) -> None:
    with pytest.raises(BadHttp) as caught:
        read(request_bytes)
    assert caught.value.status == status


# ---------------------------------------------------------------------------------------------------- replies


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


def test_a_head_request_gets_no_body() -> None:
    data = sent(wire_plan(Reply(body=b"abc"), {}, head_only=True).steps)
    assert data.endswith(b"content-length: 3\r\n\r\n")


@pytest.mark.parametrize("pieces", [((0.0, b"abc"),), ((0.0, b"a"), (0.0, b"b"), (0.0, b"c"))])
def test_gzip_compresses_the_body(pieces: tuple[Step, ...]) -> None:
    head, body = sent(wire_plan(Reply(pieces=pieces, gzip=True, framing="length"), {}).steps).split(b"\r\n\r\n", 1)
    assert b"content-encoding: gzip" in head
    assert b"content-length: %d" % len(body) in head
    assert gzip.decompress(body) == b"abc"


def test_a_client_that_closes_is_told_so() -> None:
    plan = wire_plan(Reply(body=b"ab"), {}, keep_alive=False)
    assert b"connection: close\r\n" in sent(plan.steps)
    assert plan.ending == "close"


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
