"""Content parts as callers write them become canonical and JSON-able; what already is stays the same object."""

from __future__ import annotations

import base64
import copy
import io
import json
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import InputError
from flexllm.media.parts import as_messages
from flexllm.media.sources import Form, encoded, form_of
from flexllm.messages import normalise_messages

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"
MP4 = b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00mp41"
PDF = b"%PDF-1.7\n"
PNG_URI, WAV_URI = encoded(PNG, "image/png"), encoded(WAV, "audio/wav")
MP4_URI, PDF_URI = encoded(MP4, "video/mp4"), encoded(PDF, "application/pdf")


def part_of(part: Any) -> Any:
    """Send one part through, and make sure that the caller's own is not changed and the outcome is JSON-able."""
    before = repr(part)
    given = [{"role": "user", "content": [part]}]
    done = as_messages(given)
    assert repr(part) == before
    assert given == [{"role": "user", "content": [part]}]
    json.dumps(done)
    normalise_messages(done)
    return done[0]["content"][0]


CANONICAL = [
    {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}},
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}, "uuid": "1"},
    {"type": "image_url", "image_url": {"url": "photos/a.png"}},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": None},
    {"type": "image_url"},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "audio_url", "audio_url": {"url": "https://example.org/a.wav"}},
    {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}, "fps": 2},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URI}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "refusal", "refusal": "no"},
    {"type": "thinking", "thinking": "hm", "signature": "abc"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}, "cache_control": {}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}, "title": "t"},
    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {"type": "file"}}]},
    {"type": "video", "video": ["https://example.org/1.jpg", "2.jpg"], "fps": 2},
    {"type": "image"},
    {"type": "audio", "id": "audio_1"},
    {"type": "something_new", "data": [1, 2]},
    {"no": "type"},
    {"type": 5},
]


@pytest.mark.parametrize("part", CANONICAL, ids=range(len(CANONICAL)))
def test_a_canonical_native_or_unknown_part_is_left_alone(part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [part]}]
    before = copy.deepcopy(messages)
    assert as_messages(messages) is messages
    assert messages == before


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        {"role": "user", "content": "hello"},
        [{"role": "user", "content": "hello"}],
        ({"role": "user", "content": "hello"},),
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "user"}],
        [],
        [None, 5, "text", {"content": 5}, {"content": {"type": "text"}}],
        None,
        5,
        b"bytes",
    ],
)
def test_what_holds_no_parts_comes_back_as_it_is(messages: Any) -> None:
    assert as_messages(messages) is messages


def test_one_message_is_taken_as_a_list_of_one() -> None:
    done = as_messages({"role": "user", "content": ["hello", PNG], "name": "me"})
    assert done == {
        "role": "user",
        "name": "me",
        "content": [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": PNG_URI}}],
    }


def test_only_the_message_that_needs_it_is_made_anew() -> None:
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "user", "content": [PNG]},
    )
    done = as_messages(messages)
    assert (done[0] is messages[0], done[1] is messages[1], done[2] is messages[2]) == (True, True, False)


def test_a_tuple_of_parts_becomes_a_list_and_any_mapping_a_part() -> None:
    assert part_of(MappingProxyType({"type": "image", "url": "a.png"})) == {
        "type": "image_url",
        "image_url": {"url": "a.png"},
    }
    done = as_messages([{"role": "user", "content": ({"type": "text", "text": "hello"},)}])
    assert done == [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]


@pytest.mark.parametrize(
    ("short", "canonical"),
    [
        ({"type": "image_url", "image_url": "a.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}),
        ({"type": "image_url", "image_url": PNG}, {"type": "image_url", "image_url": {"url": PNG_URI}}),
        (
            {"type": "image_url", "image_url": {"url": Path("b/a.png"), "detail": "low"}, "uuid": "1"},
            {"type": "image_url", "image_url": {"url": "b/a.png", "detail": "low"}, "uuid": "1"},
        ),
        ({"type": "image", "image": "a.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}),
        ({"type": "image", "image": {"url": "a.png"}}, {"type": "image_url", "image_url": {"url": "a.png"}}),
        ({"type": "image", "image": None, "url": "a.png"}, {"type": "image_url", "image_url": {"url": "a.png"}}),
        ({"type": "image", "path": Path("a.png")}, {"type": "image_url", "image_url": {"url": "a.png"}}),
        ({"type": "image", "url": "https://e.org/a"}, {"type": "image_url", "image_url": {"url": "https://e.org/a"}}),
        (
            {"type": "image", "data": bytearray(PNG), "detail": "high", "cache_control": {"type": "ephemeral"}},
            {
                "type": "image_url",
                "image_url": {"url": PNG_URI, "detail": "high"},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        (
            {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"},
            {"type": "image_url", "image_url": {"url": "iVBORw0KGgo="}},
        ),
        (
            {"type": "image", "image": "file:///a.png", "min_pixels": 9},
            {"type": "image_url", "image_url": {"url": "file:///a.png"}, "min_pixels": 9},
        ),
        ({"type": "audio", "audio": "a.wav"}, {"type": "input_audio", "input_audio": {"data": "a.wav"}}),
        (
            {"type": "audio", "data": "AAAA", "format": "mp3"},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
        (
            {"type": "audio", "audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
        ({"type": "audio", "data": memoryview(WAV)}, {"type": "input_audio", "input_audio": {"data": WAV_URI}}),
        ({"type": "input_audio", "input_audio": WAV}, {"type": "input_audio", "input_audio": {"data": WAV_URI}}),
        (
            {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": WAV_URI, "format": "wav"}},
        ),
        ({"type": "audio_url", "audio_url": {"url": WAV}}, {"type": "audio_url", "audio_url": {"url": WAV_URI}}),
        ({"type": "video", "video": "a.mp4", "fps": 2}, {"type": "video_url", "video_url": {"url": "a.mp4"}, "fps": 2}),
        ({"type": "video", "data": MP4}, {"type": "video_url", "video_url": {"url": MP4_URI}}),
        ({"type": "video_url", "video_url": MP4}, {"type": "video_url", "video_url": {"url": MP4_URI}}),
        (
            {"type": "video", "video": (PNG, Path("2.png"), "3.png"), "fps": 1},
            {"type": "video", "video": [PNG_URI, "2.png", "3.png"], "fps": 1},
        ),
        ({"type": "file", "path": "b/a.pdf"}, {"type": "file", "file": {"file_data": "b/a.pdf"}}),
        ({"type": "file", "file": Path("b/a.pdf")}, {"type": "file", "file": {"file_data": "b/a.pdf"}}),
        ({"type": "file", "file": {"path": "b/a.pdf"}}, {"type": "file", "file": {"file_data": "b/a.pdf"}}),
        ({"type": "file", "file": PDF}, {"type": "file", "file": {"file_data": PDF_URI, "filename": "file.pdf"}}),
        (
            {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
            {"type": "file", "file": {"file_data": PDF_URI, "filename": "a.pdf"}},
        ),
        (
            {"type": "file", "data": PDF, "filename": "a.pdf"},
            {"type": "file", "file": {"file_data": PDF_URI, "filename": "a.pdf"}},
        ),
    ],
)
def test_a_short_part_becomes_the_canonical_one(short: Any, canonical: Any) -> None:
    assert part_of(short) == canonical


@pytest.mark.parametrize(
    ("bare", "canonical"),
    [
        ("words", {"type": "text", "text": "words"}),
        ("", {"type": "text", "text": ""}),
        (PNG, {"type": "image_url", "image_url": {"url": PNG_URI}}),
        (WAV, {"type": "input_audio", "input_audio": {"data": WAV_URI}}),
        (MP4, {"type": "video_url", "video_url": {"url": MP4_URI}}),
        (PDF, {"type": "file", "file": {"file_data": PDF_URI, "filename": "file.pdf"}}),
        (b"words", {"type": "file", "file": {"file_data": encoded(b"words", "text/plain"), "filename": "file.txt"}}),
        (Path("b/a.PNG"), {"type": "image_url", "image_url": {"url": "b/a.PNG"}}),
        (PurePosixPath("a.mp3"), {"type": "input_audio", "input_audio": {"data": "a.mp3"}}),
        (Path("a.mov"), {"type": "video_url", "video_url": {"url": "a.mov"}}),
        (Path("a.docx"), {"type": "file", "file": {"file_data": "a.docx"}}),
        (Path("Makefile"), {"type": "file", "file": {"file_data": "Makefile"}}),
    ],
)
def test_what_stands_among_the_parts_by_itself_becomes_a_part(bare: Any, canonical: Any) -> None:
    assert part_of(bare) == canonical


@pytest.mark.parametrize(
    "path", [Path("AAAA") / ("B" * 63 + "="), Path("/9j/4AAQSkZJRgABAQAAAQABAAD/2w=="), Path("a=")]
)
def test_a_path_object_stays_a_path_even_if_its_text_looks_like_something_else(path: Path) -> None:
    text = part_of({"type": "image", "image": path})["image_url"]["url"]
    assert form_of(text) is Form.LOCAL
    assert Path(text) == path or text == f"/.{path}"


class Picture:
    """Behaves as an image of Pillow, as far as one can see from outside."""

    mode, size = "RGB", (1, 1)

    def save(self, file: io.BytesIO, form: str) -> None:
        assert form == "PNG"
        file.write(PNG)


def test_an_image_object_becomes_a_png() -> None:
    pytest.importorskip("PIL")
    for part in (
        Picture(),
        {"type": "image", "image": Picture()},
        {"type": "image_url", "image_url": {"url": Picture()}},
    ):
        assert part_of(part) == {"type": "image_url", "image_url": {"url": PNG_URI}}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image", "image": b""}, "message 1, part 2: the bytes object is empty"),
        (
            {"type": "image", "image": WAV},
            "message 1, part 2: the bytes object is not an image: its bytes are audio/wav",
        ),
        ({"type": "audio", "audio": PNG}, "not audio: its bytes are image/png"),
        ({"type": "video", "video": PDF}, "not a video: its bytes are application/pdf"),
        ({"type": "image", "image": 5}, "the image is given as int"),
        ({"type": "audio", "path": ["a.wav"]}, "the audio is given as list"),
        ({"type": "image_url", "image_url": {"url": {"nested": "x"}}}, "the image is given as dict"),
        ({"type": "file", "file": {"file_data": 1.5}}, "the file is given as float"),
        ({"type": "video", "video": ["1.jpg", 2]}, "the image is given as int"),
    ],
)
def test_what_is_no_source_is_refused_by_its_place(part: Any, reason: str) -> None:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": ["a", "b", part]}]
    with pytest.raises(InputError, match="message 1, part 2: ") as caught:
        as_messages(messages)
    assert reason in str(caught.value)


@pytest.mark.parametrize("part", [None, 5, ["a.png"], object])
def test_what_is_no_part_at_all_is_left_to_the_check_of_messages(part: Any) -> None:
    messages = [{"role": "user", "content": [part]}]
    assert as_messages(messages) is messages
    with pytest.raises(InputError, match="must be an object or a text"):
        normalise_messages(messages)


def test_a_second_pass_changes_nothing() -> None:
    once = as_messages([{"role": "user", "content": ["a", PNG, PDF, Path("a.wav"), {"type": "video", "video": [PNG]}]}])
    assert as_messages(once) is once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["image", "image_url", "url", "path", "data", "audio", "file", "video", "source", "detail"])
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["image", "image_url", "audio", "input_audio", "video", "file", "text", "new"])},
) | st.builds(
    lambda kind, rest: {"type": kind, **rest},
    st.sampled_from(["image", "image_url", "audio", "input_audio", "video", "video_url", "file", "text", "new"]),
    st.dictionaries(KEYS, JSON | st.binary(max_size=8), max_size=3),
)


@given(PARTS)
def test_any_part_is_made_canonical_or_refused(part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [part]}]
    try:
        done = as_messages(messages)
    except InputError:
        return
    assert as_messages(done) is done
    assert done[0]["content"][0]["type"]
