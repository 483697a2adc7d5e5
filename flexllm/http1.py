"""One HTTP/1.1 reply, read from whatever gives bytes: status, headers, body. No socket, no clock.

Reading a reply this way costs a tenth of what the standard library's `email.parser` takes for the headers alone, and
every byte passes one place, where the transport keeps its deadlines. Source: RFC 9112.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator

from .language import _, mark

Receive = Callable[[], bytes]
"""Returns the next bytes as they arrive, b"" at the end of the connection."""

MAX_HEAD = 262_144
"""Bytes. Real heads stay below 16 KiB; what is longer is no HTTP server."""

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) (\d{3})(?: |$)")
_MAX_DIGITS = 18  # of a body's length; what is longer is no length, and Python refuses to read thousands of digits
_BODYLESS = frozenset({204, 304})

_CUT_IN_A_CHUNK = mark("the connection was closed in the middle of a chunk, before the end of the body")
_CUT_BETWEEN_CHUNKS = mark("the connection was closed between two chunks, before the end of the body")


class NothingReceived(Exception):
    """The connection ended before the first byte of a reply: it may have been stale."""


class BrokenReply(Exception):
    """What came is not a complete HTTP/1.1 reply; the message says in what way."""


class Reply:
    """One reply. The head is read on construction; then either `body` or `pieces` once.

    Attributes:
        status: The HTTP status of the final reply (1xx ones are read over).
        headers: Names in lower case; repeated headers joined with ", ".
        reusable: After the body: the connection may carry another request.
    """

    __slots__ = ("_buffer", "_keep_alive", "_receive", "headers", "reusable", "status")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._buffer = b""
        self.reusable = False
        while True:
            self._read_head()
            if self.status >= 200 or self.status == 101:
                break

    def _read_head(self) -> None:
        buffer = self._buffer or self._receive()
        if not buffer:
            raise NothingReceived
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > MAX_HEAD:
                raise BrokenReply(_("its head is longer than {max_head} bytes", max_head=MAX_HEAD))
            if not _looks_like_http(buffer):
                raise BrokenReply(_("it does not speak HTTP/1.1: its reply starts with {buffer!r}", buffer=buffer[:40]))
            more = self._receive()
            if not more:
                raise BrokenReply(_("the connection was closed in the middle of the head"))
            buffer += more
        lines = buffer[:end].decode("latin-1").split("\r\n")
        matched = _STATUS_LINE.match(lines[0])
        if matched is None:
            raise BrokenReply(_("it does not speak HTTP/1.1: its reply starts with {buffer!r}", buffer=buffer[:40]))
        self.status = int(matched[2])
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _colon, value = line.partition(":")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        self.headers = headers
        self._buffer = buffer[end + 4 :]
        connection = headers.get("connection")
        if connection is None:
            self._keep_alive = matched[1] == "1"
        else:
            words = connection.lower()
            self._keep_alive = "close" not in words and (matched[1] == "1" or "keep-alive" in words)

    def body(self) -> bytes:
        """Read the whole body and decode it.

        Raises:
            BrokenReply: It ends early, or cannot be decoded.
        """
        length = self.headers.get("content-length")
        buffer = self._buffer
        if (
            length == str(len(buffer))
            and "transfer-encoding" not in self.headers
            and "content-encoding" not in self.headers
        ):  # the whole reply came in one go, as most do
            self.reusable = self._keep_alive
            return buffer
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield the decoded body as it arrives, never waiting to fill a piece.

        Raises:
            BrokenReply: It ends early, or cannot be decoded.
        """
        encoding = self.headers.get("content-encoding", "").lower()
        framed = self._framed()
        if encoding in ("", "identity"):
            yield from framed
        elif encoding in ("gzip", "x-gzip", "deflate"):
            yield from _inflated(framed)
        else:
            raise BrokenReply(_("its body is compressed with {encoding!r}, which was not asked for", encoding=encoding))

    def _framed(self) -> Iterator[bytes]:
        """Yield the body's bytes without their framing, and find out whether the connection can be used again."""
        transfer = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in _BODYLESS or self.status == 101:
            self.reusable = self._keep_alive and self.status != 101 and not self._buffer
        elif transfer:
            if transfer != "chunked":
                raise BrokenReply(
                    _("its body has the transfer encoding {transfer!r}, which was not asked for", transfer=transfer)
                )
            yield from self._chunks()
        elif length is not None:
            yield from self._counted(length)
        else:
            if self._buffer:
                yield self._buffer
            while piece := self._receive():
                yield piece

    def _counted(self, length: str) -> Iterator[bytes]:
        counts = set(length.replace(" ", "").split(","))  # a repeated header with the same number is allowed
        text = counts.pop()
        if counts or not text.isdecimal() or len(text) > _MAX_DIGITS:
            raise BrokenReply(_("its Content-Length is {length!r}", length=length))
        missing = total = int(text)
        piece = self._buffer
        while True:
            if len(piece) > missing:
                yield piece[:missing]
                return  # more than was announced: this connection is not to be trusted
            missing -= len(piece)
            if piece:
                yield piece
            if not missing:
                break
            piece = self._receive()
            if not piece:
                came = total - missing
                raise BrokenReply(
                    _("the connection was closed after {came} of {total} bytes of the body", came=came, total=total)
                )
        self.reusable = self._keep_alive

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line().split(b";", 1)[0].strip()
            try:
                missing = int(line, 16)
            except ValueError:
                raise BrokenReply(_("a chunk of its body has the size {line!r}", line=line[:20])) from None
            if missing <= 0:
                if missing < 0:
                    raise BrokenReply(_("a chunk of its body has the size {line!r}", line=line[:20]))
                break
            while missing:
                if not self._buffer:
                    self._buffer = self._more(_CUT_IN_A_CHUNK)
                piece, self._buffer = self._buffer[:missing], self._buffer[missing:]
                missing -= len(piece)
                yield piece
            if self._line():
                raise BrokenReply(_("a chunk of its body is longer than announced"))
        while self._line():  # trailers
            pass
        self.reusable = self._keep_alive and not self._buffer

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BrokenReply(_("a line of its chunked body does not end"))
            self._buffer += self._more(_CUT_BETWEEN_CHUNKS)
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")

    def _more(self, cut: str) -> bytes:
        """Return the next bytes; where there are none the reply is broken, and `cut` says in what way."""
        piece = self._receive()
        if not piece:
            raise BrokenReply(_(cut))
        return piece


def _looks_like_http(start: bytes) -> bool:
    return start[:5] == b"HTTP/"[: len(start)]


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode gzip or deflate; "deflate" means zlib by the standard and bare deflate by habit."""
    decoder = None
    for piece in pieces:
        while piece:
            if decoder is None or (decoder.eof and piece[:1] == b"\x1f"):  # gzip may come in several members
                bare = piece[0] & 0x0F != 8 and piece[:1] != b"\x1f"
                decoder = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            elif decoder.eof:
                break  # padding
            try:
                decoded = decoder.decompress(piece)
            except zlib.error as error:
                raise BrokenReply(_("its compressed body cannot be decoded ({error})", error=error)) from error
            if decoded:
                yield decoded
            piece = decoder.unused_data
    if decoder is not None and not decoder.eof:
        raise BrokenReply(_("its compressed body ends early"))
