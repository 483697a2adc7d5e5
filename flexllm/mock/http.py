"""HTTP/1.1 as the mock speaks it: bytes in, requests out, and a reply as a plan of what to send when.

Knows no socket and no clock, so that every byte can be tested without one. Source: RFC 9112.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from .replies import Reply, Step

MAX_HEAD = 64 * 1024  # bytes
MAX_BODY = 64 * 1024 * 1024  # bytes; more is a 413

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9]\.[0-9])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_NUMBER = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


# ---------------------------------------------------------------------------------------------------- requests


class BadHttp(Exception):
    """What arrived is not a request that can be answered; the connection cannot go on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head(NamedTuple):
    """The head of a request: names of headers in lower case, `length` of the body in bytes, None if in chunks."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keep_alive: bool
    length: int | None


class RequestReader:
    """Cuts a stream of bytes, added to `buffer` as they come, into requests."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._head: Head | None = None

    def take(self) -> tuple[Head, bytes] | None:
        """Return the next complete request, or None if it has not all arrived; raise `BadHttp` if it never will."""
        head = self._head = self._head or self._take_head()
        found = None if head is None else _find_body(self.buffer, head.length)
        if head is None or found is None:
            return None
        body, end = found
        del self.buffer[:end]
        self._head = None
        return head, body

    def _take_head(self) -> Head | None:
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


def _parse_head(lines: list[str]) -> Head:
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
    if not path.startswith("/"):  # the absolute form, as a client sends it to a proxy
        path = urlsplit(path).path or "/"
    keep_alive = "close" not in headers.get("connection", "").lower()
    return Head(method, path, query, headers, keep_alive, _body_length(headers))


def _body_length(headers: Mapping[str, str]) -> int | None:
    length, encoding = headers.get("content-length", "0"), headers.get("transfer-encoding")
    if encoding is not None:
        if "content-length" in headers:
            raise BadHttp(400, "Content-Length and Transfer-Encoding exclude each other.")
        if encoding.lower() != "chunked":
            raise BadHttp(501, "The only transfer encoding known here is chunked.")
        return None
    if not _NUMBER.fullmatch(length):
        raise BadHttp(400, "Content-Length is not a number.")
    return _checked_size(int(length))


def _checked_size(size: int) -> int:
    if size > MAX_BODY:
        raise BadHttp(413, f"The body of the request is larger than {MAX_BODY} bytes.")
    return size


def _find_body(buffer: bytearray, length: int | None) -> tuple[bytes, int] | None:
    """Return the body that the buffer begins with, and where it ends; None if it has not all arrived."""
    if length is None:
        return _find_chunks(buffer)
    return (bytes(buffer[:length]), length) if len(buffer) >= length else None


def _find_chunks(buffer: bytearray) -> tuple[bytes, int] | None:
    """Like `_find_body`. Begins anew each time, without memory: requests in chunks are rare, and small."""
    body = bytearray()
    at = 0
    while (line_end := buffer.find(b"\r\n", at)) >= 0:
        match = _CHUNK_SIZE.fullmatch(buffer, at, line_end)
        if match is None:
            raise BadHttp(400, "The size of a chunk is not a number.")
        size = int(match[1], 16)
        _checked_size(len(body) + size)
        if size == 0:
            trailer_end = buffer.find(b"\r\n\r\n", line_end)
            return None if trailer_end < 0 else (bytes(body), trailer_end + 4)
        chunk_end = line_end + 2 + size
        at = chunk_end + 2
        if len(buffer) < at:
            return None
        if buffer[chunk_end:at] != b"\r\n":
            raise BadHttp(400, "A chunk is longer than its size.")
        body += buffer[line_end + 2 : chunk_end]
    return None


# ---------------------------------------------------------------------------------------------------- replies


class WirePlan(NamedTuple):
    """What to write and when, and what then becomes of the connection. `is_cut`: the reply is not whole."""

    steps: Sequence[Step]
    ending: Literal["keep", "close", "reset"]
    is_cut: bool


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
        return WirePlan(steps, "reset" if reply.reset else "close", is_cut=True)
    return WirePlan(steps, "keep" if stays and not reply.close else "close", is_cut=False)


def _head(reply: Reply, headers: Mapping[str, str], pieces: Sequence[Step], framing: str, stays: bool) -> bytes:
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
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
    lines.update({name.lower(): f"{name}: {value}\r\n" for name, value in reply.headers.items()})
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
    group: list[bytes] = []
    wait = 0.0
    for pause, data in steps:
        if pause:
            if group or wait:
                merged.append((wait, b"".join(group)))
            wait, group = pause, []
        group.append(data)
    merged.append((wait, b"".join(group)))
    return merged
