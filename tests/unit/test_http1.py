"""HTTP/1.1 replies out of byte pieces that are cut anywhere, and what is not a reply."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest
from fakes import chunked, http_reply
from hypothesis import given
from hypothesis import strategies as st

from flexllm.http1 import MAX_HEAD, BrokenReply, NothingReceived, Reply


class Wire:
    """Gives pieces as a socket would, and knows what was left unread."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        return next(self._pieces, b"")


class Read(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


def read(*pieces: bytes) -> Read:
    reply = Reply(Wire(*pieces))
    body = reply.body()
    return Read(reply.status, reply.headers, body, reply.reusable)


def read_in_pieces(*pieces: bytes) -> Read:
    reply = Reply(Wire(*pieces))
    body = b"".join(reply.pieces())
    return Read(reply.status, reply.headers, body, reply.reusable)


READERS = pytest.mark.parametrize("reader", [read, read_in_pieces], ids=["whole", "pieces"])
Reader = Callable[..., Read]


def single(stream: bytes) -> list[bytes]:
    return [stream[place : place + 1] for place in range(len(stream))]


def raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


# --- heads ------------------------------------------------------------------------------------------------------------


@READERS
def test_a_plain_reply_is_read(reader: Reader) -> None:
    stream = http_reply(b'{"a":1}', "Content-Type: application/json", "X-Request-Id: req_1")
    headers = {"content-type": "application/json", "x-request-id": "req_1", "content-length": "7"}
    assert reader(stream) == Read(200, headers, b'{"a":1}', True)
    assert reader(*single(stream)) == reader(stream)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 404", 404),
        ("HTTP/1.1 503 ", 503),
        ("HTTP/1.0 200 OK", 200),
        ("HTTP/1.1 429 Too Many Requests, so wait", 429),
        ("HTTP/1.1 200 Schön", 200),
    ],
)
def test_status_lines_with_and_without_a_reason_are_read(line: str, status: int) -> None:
    assert Reply(Wire(f"{line}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))).status == status


def test_header_names_are_lowered_and_values_stripped() -> None:
    headers = Reply(Wire(b"HTTP/1.1 200 OK\r\nX-A:1\r\nx-B: \t 2 \t\r\nX-EMPTY:\r\nX-C: a: b\r\n\r\n")).headers
    assert headers == {"x-a": "1", "x-b": "2", "x-empty": "", "x-c": "a: b"}


def test_repeated_headers_are_joined() -> None:
    headers = Reply(
        Wire(b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nVia: x\r\nset-cookie: b\r\nSET-COOKIE: c\r\n\r\n")
    ).headers
    assert headers == {"set-cookie": "a, b, c", "via": "x"}


def test_a_reply_without_headers_is_a_reply() -> None:
    assert read(b"HTTP/1.1 200 OK\r\n\r\nrest") == Read(200, {}, b"rest", False)


@pytest.mark.parametrize("cuts", [False, True])
def test_interim_replies_are_read_over(cuts: bool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    stream = interim + http_reply(b"x")
    assert read(*(single(stream) if cuts else [stream])) == Read(200, {"content-length": "1"}, b"x", True)


def test_a_switch_of_protocols_is_a_final_reply_without_a_body() -> None:
    assert read(b"HTTP/1.1 101 Switching Protocols\r\n\r\nother") == Read(101, {}, b"", False)


@pytest.mark.parametrize("pieces", [[], [b""]])
def test_nothing_at_all_is_told_from_a_broken_reply(pieces: list[bytes]) -> None:
    with pytest.raises(NothingReceived):
        Reply(Wire(*pieces))


@pytest.mark.parametrize("length", range(1, len("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
def test_a_head_cut_anywhere_is_broken(length: int) -> None:
    with pytest.raises(BrokenReply, match="middle of the head"):
        Reply(Wire(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[:length]))


@pytest.mark.parametrize(
    "start",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP\r\n",
        b"<html>",
        b"h",
        b"HTTQ",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_what_does_not_speak_http_is_shown_as_it_starts(start: bytes) -> None:
    wire = Wire(start, b"never asked for")
    with pytest.raises(BrokenReply, match=r"does not speak HTTP/1\.1.* b"):
        Reply(wire)
    assert wire.asked == 1


def test_a_head_without_end_is_given_up() -> None:
    endless = iter(lambda: b"X-More: " + b"x" * 8192 + b"\r\n", None)
    pieces: Iterator[bytes] = iter([b"HTTP/1.1 200 OK\r\n"])
    with pytest.raises(BrokenReply, match=f"longer than {MAX_HEAD}"):
        Reply(lambda: next(pieces, None) or next(endless))


def test_a_large_head_that_ends_is_read() -> None:
    value = "x" * 100_000
    assert (
        Reply(Wire(*[http_reply(b"", f"X-Large: {value}")[at : at + 7000] for at in range(0, 101_000, 7000)])).headers[
            "x-large"
        ]
        == value
    )


# --- bodies: framing --------------------------------------------------------------------------------------------------


@READERS
def test_a_counted_body_ends_where_its_count_ends(reader: Reader) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
    for pieces in ([head + b"0123456789"], [head, b"0123456789"], [head + b"012", b"345", b"6789"]):
        assert reader(*pieces)[2:] == (b"0123456789", True)


@READERS
def test_more_than_the_count_is_cut_off_and_the_connection_not_trusted(reader: Reader) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    assert reader(head + b"abcdef")[2:] == (b"abc", False)
    assert reader(head, b"abcdef")[2:] == (b"abc", False)
    assert reader(head + b"ab", b"cd")[2:] == (b"abc", False)


@READERS
def test_an_empty_counted_body_is_empty(reader: Reader) -> None:
    assert reader(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")[2:] == (b"", True)


@READERS
@pytest.mark.parametrize("length", ["3, 3", "3,3", "3"])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_count_that_is_repeated_is_the_count(reader: Reader, length: str, repeated: bool) -> None:
    line = f"Content-Length: {length}\r\n" * (2 if repeated else 1)
    assert reader(f"HTTP/1.1 200 OK\r\n{line}\r\nabc".encode())[2:] == (b"abc", True)


@READERS
@pytest.mark.parametrize("length", ["3, 4", "-3", "+3", "3.0", "0x3", "", "abc", "\xb2", "3\xb2", "9" * 5000, "1_0"])
def test_a_count_that_is_no_number_is_broken(reader: Reader, length: str) -> None:
    with pytest.raises(BrokenReply, match="Content-Length"):
        reader(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nabc".encode("latin-1"))


@READERS
@pytest.mark.parametrize("came", [0, 1, 9])
def test_a_counted_body_that_ends_early_is_broken_and_says_where(reader: Reader, came: int) -> None:
    with pytest.raises(BrokenReply, match=f"after {came} of 10 bytes"):
        reader(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"x" * came)


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@READERS
@pytest.mark.parametrize(
    "framed",
    [
        chunked(b"Hello", b", ", b"world"),
        chunked(b"Hello, world"),
        b'5\r\nHello\r\n7;name=value;other="x"\r\n, world\r\n0\r\n\r\n',
        b"05\r\nHello\r\n0007\r\n, world\r\n000\r\n\r\n",
        b"c \r\nHello, world\r\n0\r\n\r\n",
        b"C\r\nHello, world\r\n0\r\n\r\n",
        chunked(b"Hello, world", end=b"0\r\nX-Checksum: abc\r\nX-More: d\r\n\r\n"),
        chunked(b"Hello, world", end=b"0;last\r\n\r\n"),
        b"c\nHello, world\n0\n\n",
    ],
)
def test_a_chunked_body_is_put_together(reader: Reader, framed: bytes) -> None:
    stream = CHUNKED_HEAD + framed
    expected = (b"Hello, world", True)
    assert reader(stream)[2:] == expected
    assert reader(*single(stream))[2:] == expected


@READERS
def test_chunked_wins_over_a_count(reader: Reader) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert reader(head + chunked(b"Hello"))[2:] == (b"Hello", True)


@READERS
def test_bytes_after_a_chunked_body_make_the_connection_untrusted(reader: Reader) -> None:
    assert reader(CHUNKED_HEAD + chunked(b"Hello") + b"HTTP/1.1 200")[2:] == (b"Hello", False)


@READERS
@pytest.mark.parametrize("size", [b"", b"x", b"-5", b"-1", b"5-", b"\xb2", b"1 2", b";ext", b"--", b"Hello"])
def test_a_chunk_size_that_is_no_number_is_broken(reader: Reader, size: bytes) -> None:
    with pytest.raises(BrokenReply, match="chunk"):
        reader(CHUNKED_HEAD + size + b"\r\nHello\r\n0\r\n\r\n")


@READERS
def test_a_chunk_longer_than_announced_is_broken(reader: Reader) -> None:
    with pytest.raises(BrokenReply, match="longer than announced"):
        reader(CHUNKED_HEAD + b"3\r\nHello\r\n0\r\n\r\n")


@READERS
@pytest.mark.parametrize("length", range(len(chunked(b"Hello", b"world"))))
def test_a_chunked_body_cut_anywhere_is_broken(reader: Reader, length: int) -> None:
    with pytest.raises(BrokenReply, match="before the end of the body"):
        reader(CHUNKED_HEAD + chunked(b"Hello", b"world")[:length])


def test_a_chunk_line_without_end_is_given_up() -> None:
    pieces = iter([CHUNKED_HEAD])
    with pytest.raises(BrokenReply, match="does not end"):
        Reply(lambda: next(pieces, b"5;" + b"x" * 9000)).body()


@READERS
def test_other_transfer_encodings_are_refused(reader: Reader) -> None:
    with pytest.raises(BrokenReply, match="'gzip, chunked'"):
        reader(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")


@READERS
def test_a_body_without_framing_goes_to_the_end_of_the_connection(reader: Reader) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    assert reader(head, b"Hello, ", b"world")[2:] == (b"Hello, world", False)
    assert reader(head + b"Hello")[2:] == (b"Hello", False)
    assert reader(head)[2:] == (b"", False)


@READERS
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_statuses_without_a_body_wait_for_none(reader: Reader, status: str) -> None:
    wire = Wire(f"HTTP/1.1 {status}\r\n\r\n".encode())
    reply = Reply(wire)
    assert (reply.body(), reply.reusable, wire.asked) == (b"", True, 1)
    assert reader(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n".encode())[2:] == (
        b"",
        True,
    )


# --- bodies: compression ----------------------------------------------------------------------------------------------

TEXT = b'{"choices":[{"message":{"content":"' + b"Hello, world. " * 50 + b'"}}]}'
CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "stored deflate": ("deflate", lambda body: b"\x01" + len(body).to_bytes(2, "little")
                       + (len(body) ^ 0xFFFF).to_bytes(2, "little") + body),
    "identity": ("identity", bytes),
    "empty": ("", bytes),
}  # fmt: skip


@READERS
@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_bodies_are_decoded(reader: Reader, coding: str) -> None:
    name, encode = CODINGS[coding]
    stream = http_reply(encode(TEXT), f"Content-Encoding: {name}")
    assert reader(stream)[2:] == (TEXT, True)
    assert reader(*single(stream))[2:] == (TEXT, True)


@READERS
@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("wbits", [zlib.MAX_WBITS, 9, -zlib.MAX_WBITS, -9])
def test_deflate_is_recognised_with_and_without_its_wrapper(reader: Reader, level: int, wbits: int) -> None:
    encoder = zlib.compressobj(level, wbits=wbits)
    body = encoder.compress(TEXT) + encoder.flush()
    assert reader(http_reply(body, "Content-Encoding: deflate")).body == TEXT


@READERS
def test_a_compressed_body_of_several_parts_is_read_to_its_end(reader: Reader) -> None:
    body = gzip.compress(b"Hello, ") + gzip.compress(b"wor") + gzip.compress(b"ld")
    stream = http_reply(body, "Content-Encoding: gzip")
    assert reader(stream)[2:] == (b"Hello, world", True)
    assert reader(*single(stream))[2:] == (b"Hello, world", True)


@READERS
def test_an_empty_compressed_body_is_empty(reader: Reader) -> None:
    assert reader(http_reply(b"", "Content-Encoding: gzip")).body == b""
    assert reader(http_reply(gzip.compress(b""), "Content-Encoding: gzip")).body == b""


@READERS
def test_a_compressed_body_that_ends_early_is_broken(reader: Reader) -> None:
    with pytest.raises(BrokenReply, match="compressed body ends early"):
        reader(http_reply(gzip.compress(TEXT)[:-9], "Content-Encoding: gzip"))


@READERS
def test_a_compressed_body_that_is_not_compressed_is_broken(reader: Reader) -> None:
    with pytest.raises(BrokenReply, match="cannot be decoded"):
        reader(http_reply(TEXT, "Content-Encoding: gzip"))


@READERS
def test_a_compressed_body_with_a_wrong_checksum_is_broken(reader: Reader) -> None:
    body = bytearray(gzip.compress(TEXT))
    body[-8] ^= 0xFF
    with pytest.raises(BrokenReply, match="cannot be decoded"):
        reader(http_reply(bytes(body), "Content-Encoding: gzip"))


@READERS
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "compress"])
def test_codings_that_were_not_asked_for_are_named(reader: Reader, coding: str) -> None:
    with pytest.raises(BrokenReply, match=coding):
        reader(http_reply(b"x", f"Content-Encoding: {coding}"))


def test_compressed_pieces_are_handed_on_as_they_come() -> None:
    encoder = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = encoder.compress(b"first") + encoder.flush(zlib.Z_SYNC_FLUSH)
    rest = encoder.compress(b"second") + encoder.flush()
    wire = Wire(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(first, end=b""),
        chunked(rest),
    )  # fmt: skip
    pieces = Reply(wire).pieces()
    assert next(pieces) == b"first"
    assert wire.asked == 2
    assert b"".join(pieces) == b"second"


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        (b"Content-Length: 6\r\n", lambda piece: piece),
        (b"Transfer-Encoding: chunked\r\n", lambda piece: chunked(piece, end=b"")),
        (b"", lambda piece: piece),
    ],
    ids=["counted", "chunked", "to the end"],
)
def test_each_piece_is_handed_on_before_the_next_is_asked_for(head: bytes, frame: Callable[[bytes], bytes]) -> None:
    wire = Wire(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", frame(b"ab"), frame(b"cd"), frame(b"ef"), b"0\r\n\r\n")
    pieces = Reply(wire).pieces()
    for number, piece in enumerate([b"ab", b"cd", b"ef"]):
        assert next(pieces) == piece
        assert wire.asked == number + 2


def test_what_came_with_the_head_is_the_first_piece() -> None:
    wire = Wire(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd")
    pieces = Reply(wire).pieces()
    assert (next(pieces), wire.asked) == (b"ab", 1)


def test_a_body_that_is_not_read_to_its_end_leaves_the_connection_unusable() -> None:
    reply = Reply(Wire(http_reply(b"")[:-4].replace(b": 0", b": 4") + b"\r\n\r\nab", b"cd"))
    assert next(reply.pieces()) == b"ab"
    assert reply.reusable is False


# --- keep-alive -------------------------------------------------------------------------------------------------------


@READERS
@pytest.mark.parametrize(
    ("version", "connection", "reusable"),
    [
        ("HTTP/1.1", None, True),
        ("HTTP/1.1", "keep-alive", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "Close", False),
        ("HTTP/1.1", "keep-alive, close", False),
        ("HTTP/1.1", "upgrade", True),
        ("HTTP/1.0", None, False),
        ("HTTP/1.0", "keep-alive", True),
        ("HTTP/1.0", "Keep-Alive", True),
        ("HTTP/1.0", "close", False),
        ("HTTP/1.0", "upgrade", False),
    ],
)
@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_connection_is_used_again_as_the_version_and_the_server_say(
    reader: Reader, version: str, connection: str | None, reusable: bool, framing: str
) -> None:
    headers = [f"Connection: {connection}"] if connection else []
    if framing == "counted":
        stream = http_reply(b"Hello", *headers, version=version)
    else:
        stream = http_reply(chunked(b"Hello"), "Transfer-Encoding: chunked", *headers, version=version, framed=False)
    assert reader(stream)[2:] == (b"Hello", reusable)


def test_before_its_body_is_read_a_reply_does_not_call_its_connection_usable() -> None:
    assert Reply(Wire(http_reply(b"Hello"))).reusable is False


# --- any reply, cut anywhere ------------------------------------------------------------------------------------------

VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc", "Zs"]), max_size=8)


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid reply's bytes, and the body that it stands for."""
    body = draw(st.binary(max_size=60))
    coding, encode = draw(st.sampled_from(list(CODINGS.values())))
    encoded = encode(body) if body or coding != "deflate" else zlib.compress(body)
    headers = [f"X-{number}: {value}" for number, value in enumerate(draw(st.lists(VALUES, max_size=3)))]
    headers += [f"Content-Encoding: {coding}"] if coding else []
    headers += draw(st.sampled_from([[], ["Connection: close"], ["Connection: keep-alive"]]))
    framing = draw(st.sampled_from(["counted", "chunked", "to the end"]))
    if framing == "chunked":
        places = sorted(draw(st.lists(st.integers(0, len(encoded)), max_size=4)))
        pieces = [encoded[start:end] for start, end in zip([0, *places], [*places, len(encoded)], strict=True)]
        trailer = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nX-T: 1\r\n\r\n", b"00;e=1\r\n\r\n"]))
        encoded = chunked(*filter(None, pieces), end=trailer)
        headers.append("Transfer-Encoding: chunked")
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.0"]))
    return interim + http_reply(encoded, *headers, version=version, framed=framing == "counted"), body


@given(replies(), st.lists(st.integers(0, 400), max_size=10))
def test_any_reply_cut_at_any_bytes_reads_the_same(reply: tuple[bytes, bytes], places: list[int]) -> None:
    stream, body = reply
    whole = read(stream)
    assert (whole.status, whole.body) == (200, body)
    edges = sorted({0, *(place % len(stream) for place in places), len(stream)})
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    for reader in (read, read_in_pieces):
        assert reader(*pieces) == whole
        assert reader(*single(stream)) == whole


@given(replies(), st.integers(0, 10_000))
def test_any_reply_that_ends_early_is_an_error_or_ends_with_the_connection(
    reply: tuple[bytes, bytes], length: int
) -> None:
    stream, body = reply
    cut = stream[: length % len(stream)]
    try:
        came = read(cut)
    except (NothingReceived, BrokenReply):
        return
    head = stream.split(b"\r\n\r\n")[stream.startswith(b"HTTP/1.1 100")].lower()
    assert b"content-length" not in head
    assert b"chunked" not in head
    assert body.startswith(came.body)
    assert not came.reusable


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.booleans())
def test_garbage_is_an_error_of_ours_and_never_hangs(garbage: bytes, places: list[int], in_body: bool) -> None:
    stream = (CHUNKED_HEAD if in_body else b"HTTP/1.1 200 OK\r\n") + garbage
    edges = sorted({0, *(place % len(stream) for place in places), len(stream)})
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    try:
        read(*pieces)
    except (NothingReceived, BrokenReply):
        pass


@given(st.text("0123456789abcdefABCDEF-+_xX ;\r\n\xb2", max_size=40))
def test_no_line_of_sizes_is_more_than_a_broken_reply(sizes: str) -> None:
    try:
        read(CHUNKED_HEAD + sizes.encode("latin-1"))
    except BrokenReply:
        pass
