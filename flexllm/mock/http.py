"""HTTP/1.1 as the mock speaks it: bytes in, requests out, and a reply as a plan of what to send when.

Knows no socket, so that every byte can be tested without one. Source: RFC 9112.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

from .replies import ReceivedRequest, Reply, Step

MAX_HEAD = 64 * 1024  # bytes
MAX_BODY = 64 * 1024 * 1024  # bytes; more is a 413

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9]\.[0-9])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,15}")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


# ---------------------------------------------------------------------------------------------------- requests


class BadHttp(Exception):
    """What arrived is not a request that can be answered; the connection cannot go on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestReader:
    """Cuts a stream of bytes, added to `buffer` as they come, into requests."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._head: Mapping[str, Any] | None = None  # of the request whose body has not all arrived

    def take(self) -> ReceivedRequest | None:
        """Return the next complete request, or None if it has not all arrived; raise `BadHttp` if it never will."""
        head = self._head = self._head or self._take_head()
        if head is None:
            return None
        length = _body_length(head["headers"])
        if len(self.buffer) < length:
            return None
        body = bytes(self.buffer[:length])
        del self.buffer[:length]
        self._head = None
        return ReceivedRequest(**head, body=body, time=time.monotonic(), time_unix=time.time())

    def _take_head(self) -> dict[str, Any] | None:
        buffer = self.buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request is to be ignored
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(buffer) > MAX_HEAD):
            raise BadHttp(431, f"The head of the request is larger than {MAX_HEAD} bytes.")
        if end < 0:
            self._check_beginning()
            return None
        lines = buffer[:end].decode("latin-1").split("\r\n")
        del buffer[: end + 4]
        return _parse_head(lines)

    def _check_beginning(self) -> None:
        """Refuse at once what can never become a request, so that a TLS client, say, need not wait for a timeout."""
        line, newline, _ = self.buffer.partition(b"\n")
        if newline and not (line.endswith(b"\r") and _REQUEST_LINE.fullmatch(line[:-1].decode("latin-1"))):
            raise BadHttp(400, "The request line is not HTTP.")
        if line and not line[:1].isalpha():
            raise BadHttp(400, "This is not HTTP.")


def _parse_head(lines: list[str]) -> dict[str, Any]:
    """Return fields of a `ReceivedRequest`."""
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise BadHttp(400, "The request line is not HTTP.")
    method, target, version = match.groups()
    if version != "1.1":
        raise BadHttp(505, "Only HTTP/1.1 is spoken here.")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadHttp(400, "A header line is malformed.")
        name, value = header[1].lower(), header[2]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "host" not in headers:
        raise BadHttp(400, "The Host header is missing.")
    path, _, query = target.partition("?")
    return {"method": method, "path": path, "query": query, "headers": headers}


def _body_length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadHttp(501, "Requests are read with a Content-Length alone.")
    length = headers.get("content-length", "0")
    if not _NUMBER.fullmatch(length):
        raise BadHttp(400, "Content-Length is not a number.")
    if int(length) > MAX_BODY:
        raise BadHttp(413, f"The body of the request is larger than {MAX_BODY} bytes.")
    return int(length)


# ---------------------------------------------------------------------------------------------------- replies


class WirePlan(NamedTuple):
    """What to write and when, and what then becomes of the connection.

    `is_cut`: the reply is not whole. `has_head`: its head is.
    """

    steps: Sequence[Step]
    ending: Literal["keep", "close", "reset"]
    is_cut: bool
    has_head: bool = True


def wire_plan(
    reply: Reply, headers: Mapping[str, str], *, keep_alive: bool = True, head_only: bool = False
) -> WirePlan:
    """Return the bytes of a reply, faults included.

    Args:
        reply: A reply with `body` or `pieces`; neither is an empty body.
        headers: The headers that every reply carries. Those of `reply` replace them.
        keep_alive: Whether the client wants the connection to stay.
        head_only: The request was HEAD.
    """
    pieces: Sequence[Step] = ((0.0, reply.body or b""),) if reply.pieces is None else reply.pieces
    if reply.gzip:
        pieces = _gzipped(pieces)
    framing = reply.framing or ("length" if reply.pieces is None else "chunked")
    stays = keep_alive and framing != "close"
    head = [(reply.delay, _head(reply, headers, pieces, framing, stays))]
    body = [] if head_only else _framed(pieces, framing)
    if reply.cut == "start":
        head, body = [(reply.delay, b"")], []
    elif reply.cut == "head":
        head, body = _first(head, reply.cut_at), []
    elif reply.cut == "body":
        body = _first(body, reply.cut_at)
    if reply.drip:
        head = list(_dripped(head, reply.drip)) if reply.drip_head else head
        body = list(_dripped(body, reply.drip))
    steps = _merged([*head, *body])
    if reply.cut:
        return WirePlan(steps, "reset" if reply.reset else "close", is_cut=True, has_head=reply.cut == "body")
    return WirePlan(steps, "keep" if stays and not reply.close else "close", is_cut=False)


def _head(reply: Reply, headers: Mapping[str, str], pieces: Sequence[Step], framing: str, stays: bool) -> bytes:
    usual = {**headers, "content-type": "application/json"}
    if framing == "length":
        usual["content-length"] = str(sum(len(piece) for _, piece in pieces))
    elif framing == "chunked":
        usual["transfer-encoding"] = "chunked"
    if not stays:
        usual["connection"] = "close"
    if reply.gzip:
        usual["content-encoding"] = "gzip"
    lines = {name: f"{name}: {value}\r\n" for name, value in usual.items()}
    if reply.headers:
        lines.update({name.lower(): f"{name}: {value}\r\n" for name, value in reply.headers.items()})
    phrase = _PHRASES.get(reply.status, "Unknown")
    return f"HTTP/1.1 {reply.status} {phrase}\r\n{''.join(lines.values())}\r\n".encode("latin-1", "replace")


def _framed(pieces: Sequence[Step], framing: str) -> list[Step]:
    if framing != "chunked":
        return list(pieces)
    # An empty chunk would end the body, so an empty piece is a pause and nothing else.
    chunks = [(pause, b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"") for pause, piece in pieces]
    return [*chunks, (0.0, b"0\r\n\r\n")]


def _gzipped(pieces: Sequence[Step]) -> list[Step]:
    """Compress piece by piece, each readable as soon as it has arrived."""
    compressor = zlib.compressobj(wbits=31)  # 31: gzip framing, with a zero time stamp
    last = len(pieces) - 1
    return [
        (pause, compressor.compress(piece) + compressor.flush(zlib.Z_FINISH if at == last else zlib.Z_SYNC_FLUSH))
        for at, (pause, piece) in enumerate(pieces)
    ]


def _first(steps: Sequence[Step], count: int | None) -> list[Step]:
    """Return the first `count` bytes of the steps; half of them if None."""
    left = sum(len(data) for _, data in steps) // 2 if count is None else count
    kept: list[Step] = []
    for pause, data in steps:
        kept.append((pause, data[:left]))
        left -= len(data)
        if left <= 0:
            break
    return kept


def _dripped(steps: Iterable[Step], seconds: float) -> Iterator[Step]:
    for pause, data in steps:
        for at in range(len(data)):
            yield (seconds if at else pause + seconds), data[at : at + 1]


def _merged(steps: Sequence[Step]) -> list[Step]:
    """Join what is sent without a pause: one write instead of many."""
    merged: list[Step] = []
    for pause, data in steps:
        if pause or not merged:
            merged.append((pause, data))
        else:
            wait, joined = merged[-1]
            merged[-1] = (wait, joined + data)
    return merged
