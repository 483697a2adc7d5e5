"""Server-sent events out of byte pieces that are cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.sse import ServerSentEvent, parse_events


def events(*pieces: bytes) -> list[ServerSentEvent]:
    return list(parse_events(pieces))


def data(*pieces: bytes) -> list[str]:
    return [event.data for event in events(*pieces)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces, cut at these places; the same place twice gives an empty piece."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_every_line_end_of_the_standard_ends_a_line(end: bytes) -> None:
    assert data(b"data: a" + end + end + b"data: b" + end + end) == ["a", "b"]


def test_a_line_end_cut_between_cr_and_lf_is_one_line_end() -> None:
    assert data(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == ["a\nb"]
    assert data(b"data: a\r\n\r", b"\ndata: b\r\n\r", b"\n") == ["a", "b"]
    assert data(b"data: a\r", b"", b"\ndata: b\r\n\r\n") == ["a\nb"]


def test_an_event_cut_off_by_cr_does_not_wait_for_an_lf() -> None:
    assert data(b"data: a\r\r", b"data: b\r\r") == ["a", "b"]


def test_several_data_lines_are_joined_with_lf() -> None:
    assert data(b"data: a\ndata:\ndata: b\n\n") == ["a\n\nb"]


def test_one_blank_after_the_colon_belongs_to_the_colon() -> None:
    assert data(b"data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\n") == ["a", "a", " a", "\ta"]


def test_comments_and_unknown_fields_are_read_over() -> None:
    stream = b": OPENROUTER PROCESSING\n\n:\n\nid: 7\nretry: 100\nfoo: bar\nfoo\ndata: a\n: in between\ndata: b\n\n"
    assert data(stream) == ["a\nb"]


def test_a_field_without_a_colon_has_an_empty_value() -> None:
    assert data(b"data\n\n") == [""]


def test_event_names_hold_for_one_event() -> None:
    assert events(b"event: ping\ndata: {}\n\ndata: x\n\nevent: lost\n\ndata: y\n\n") == [
        ServerSentEvent("ping", "{}"),
        ServerSentEvent("", "x"),
        ServerSentEvent("", "y"),
    ]


def test_empty_lines_make_no_events() -> None:
    assert data(b"\n\n\r\n\r\rdata: a\n\n\n\n") == ["a"]


@pytest.mark.parametrize("pieces", [[b"\xef\xbb\xbfdata: a\n\n"], [b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"]])
def test_a_byte_order_mark_at_the_start_is_read_over(pieces: list[bytes]) -> None:
    assert data(*pieces) == ["a"]


def test_a_byte_order_mark_elsewhere_is_text() -> None:
    assert data(b"data: \xef\xbb\xbfa\n\n") == ["\ufeffa"]


@pytest.mark.parametrize("pieces", [[], [b""], [b"\n"], [b"\xef\xbb"], [b"\xef\xbb\xbf"], [b": only talk\n\n"]])
def test_a_stream_without_data_has_no_events(pieces: list[bytes]) -> None:
    assert events(*pieces) == []


def test_characters_cut_between_pieces_are_put_together() -> None:
    stream = "data: ü€😀\n\n".encode()
    assert data(*(stream[place : place + 1] for place in range(len(stream)))) == ["ü€😀"]


def test_line_ends_of_unicode_are_text() -> None:
    text = "a\u2028b\u0085c\x0bd\x0ce\u2029f"
    assert data(f"data: {text}\n\n".encode()) == [text]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert data(b"data: a\xff\n\n") == ["a\ufffd"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_a_last_event_without_its_empty_line_is_handed_on(end: bytes) -> None:
    assert data(b"data: a\n\ndata: [DONE]" + end) == ["a", "[DONE]"]


def test_several_events_in_one_piece_are_several_events() -> None:
    assert data(b"data: a\n\ndata: b\n\ndata: c\n\n") == ["a", "b", "c"]


def test_each_event_is_handed_on_before_the_next_piece_is_asked_for() -> None:
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate([b"data: a\n\n", b"data: b\r\r", b"data: c\r\n\r\n", b"data: d\r\n\r"]):
            asked.append(number)
            yield piece

    stream = parse_events(pieces())
    for number, text in enumerate("abcd"):
        assert next(stream).data == text
        assert asked == list(range(number + 1))


def test_a_long_line_in_many_pieces_is_one_event() -> None:
    text = "x" * 200_000
    stream = f"data: {text}\n\n".encode()
    assert data(*(stream[start : start + 1000] for start in range(0, len(stream), 1000))) == [text]


LINES = st.sampled_from(
    [
        "data: a",
        "data:b",
        "data",
        "data: ü€😀",
        "event: e",
        "event",
        "id: 1",
        ": comment",
        "",
        "",
        "\ufeff",
        "data: [DONE]",
    ]
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.lists(st.integers(0, 200), max_size=12))
def test_a_stream_cut_at_any_bytes_gives_the_same_events(lines: list[tuple[str, str]], places: list[int]) -> None:
    stream = "".join(line + end for line, end in lines).encode()
    assert events(*cut(stream, places)) == events(stream)
    assert events(*(stream[place : place + 1] for place in range(len(stream)))) == events(stream)


TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.lists(TEXT, min_size=1), ENDS)))
def test_any_data_comes_out_as_it_went_in(written: list[tuple[list[str], str]]) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines, end in written)
    assert data(stream.encode()) == ["\n".join(lines) for lines, _ in written]


def test_a_line_of_megabytes_in_small_pieces_is_put_together_once() -> None:
    """Whoever looks at the whole line again with each piece needs minutes for this one: pictures come so."""
    picture = b"x" * 8_000_000
    stream = b"data: " + picture + b"\n\n"
    assert data(*(stream[start : start + 1_000] for start in range(0, len(stream), 1_000))) == [picture.decode()]
