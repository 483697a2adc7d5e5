"""MIME types from bytes: each format by its signature, and never a wrong word on what only looks like one."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.media.sniff import OCTETS, kind_of, mime_of, sniff, suffix_of, type_of_name

EBML = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82"


def iso(*brands: bytes) -> bytes:
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(body) + 8) + b"ftyp" + body + struct.pack(">I", 8) + b"mdat"


FILES = [
    (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR", "image/png"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
    (b"\xff\xd8\xff\xe1\x00\x10Exif\x00", "image/jpeg"),
    (b"GIF89a\x01\x00\x01\x00", "image/gif"),
    (b"GIF87a\x01\x00\x01\x00", "image/gif"),
    (b"RIFF\x1a\x00\x00\x00WEBPVP8L", "image/webp"),
    (b"BM" + struct.pack("<IIII", 58, 0, 54, 40) + bytes(36), "image/bmp"),
    (b"II*\x00\x08\x00\x00\x00", "image/tiff"),
    (b"MM\x00*\x00\x00\x00\x08", "image/tiff"),
    (iso(b"heic", b"mif1", b"heic"), "image/heic"),
    (iso(b"mif1", b"heic", b"miaf"), "image/heic"),
    (iso(b"mif1", b"miaf"), "image/heif"),
    (iso(b"avif", b"mif1", b"avif"), "image/avif"),
    (iso(b"mif1", b"avif"), "image/avif"),
    (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    (b"<svg viewBox='0 0 1 1'></svg>", "image/svg+xml"),
    (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav"),
    (b"ID3\x04\x00\x00\x00\x00\x00\x00", "audio/mpeg"),
    (b"\xff\xfb\x90\x64\x00", "audio/mpeg"),
    (b"\xff\xf3\x40\xc4\x00", "audio/mpeg"),
    (b"\xff\xf1\x50\x80\x00", "audio/aac"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),
    (b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead", "audio/ogg"),
    (b"OggS\x00\x02" + bytes(20) + b"\x01\x13\x80theora", "video/ogg"),
    (b"FORM\x00\x00\x00\x1aAIFFCOMM", "audio/aiff"),
    (iso(b"M4A ", b"M4A ", b"mp42"), "audio/mp4"),
    (iso(b"isom", b"iso2", b"mp41"), "video/mp4"),
    (iso(b"qt  "), "video/quicktime"),
    (iso(b"3gp4"), "video/3gpp"),
    (EBML + b"\x84webm", "video/webm"),
    (EBML + b"\x88matroska", "video/x-matroska"),
    (b"RIFF\x24\x00\x00\x00AVI LIST", "video/x-msvideo"),
    (b"\x00\x00\x01\xba\x44", "video/mpeg"),
    (b"\x00\x00\x01\xb3\x14", "video/mpeg"),
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "application/pdf"),
    (b"\xef\xbb\xbf\r\n%PDF-1.4\n", "application/pdf"),
    (b"PK\x03\x04\x14\x00", "application/zip"),
    (b"plain words", "text/plain"),
    ("Grüße, 世界".encode(), "text/plain"),
    ("\ufeffwith a mark".encode(), "text/plain"),
    (b"<!DOCTYPE html>\n<title>Not found</title>", "text/html"),
    (b"\n<HTML><body>", "text/html"),
]


@pytest.mark.parametrize(("data", "mime"), FILES, ids=[f"{mime}-{number}" for number, (_, mime) in enumerate(FILES)])
def test_the_first_bytes_of_a_file_tell_its_type(data: bytes, mime: str) -> None:
    assert sniff(data) == mime


@pytest.mark.parametrize(
    "text",
    [
        "BM means bitmap, and this sentence does not",
        "ID3 is a tag",
        "GIF is a format",
        "RIFF 1234WAVE?"[:5],
        "II*",
        "OggS!",
    ],
)
def test_a_text_that_begins_like_a_signature_is_a_text(text: str) -> None:
    assert sniff(text.encode()) == "text/plain"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01\x02\x03",
        b"\xff\xfe\x68\x00\x69\x00",  # UTF-16: not the frame of an MP3
        b"\xfe\xff\x00\x68",
        b"\xff\xff\xff\xff",
        b"\x80\x81\x82",
        b"caf\xe9 in Latin-1",
        b"text with a \x00 inside",
    ],
)
def test_of_unknown_bytes_nothing_is_said(data: bytes) -> None:
    assert sniff(data) is None


def test_a_head_that_is_cut_inside_a_character_is_still_text() -> None:
    whole = "世界".encode()
    assert {sniff(whole[:end]) for end in range(1, len(whole) + 1)} == {"text/plain"}


@given(st.binary(max_size=300))
def test_sniffing_takes_any_bytes(data: bytes) -> None:
    found = sniff(data)
    assert found is None or "/" in found
    assert "/" in mime_of(data)


@given(st.sampled_from([data for data, _ in FILES]), st.integers(0, 60), st.binary(max_size=4))
def test_sniffing_takes_any_file_that_is_cut_and_spoilt(data: bytes, end: int, tail: bytes) -> None:
    assert "/" in mime_of(data[:end] + tail)


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text))
def test_every_text_without_a_nul_is_text_of_some_kind(text: str) -> None:
    data = text.encode(errors="ignore")
    assert not data or sniff(data) is not None


@pytest.mark.parametrize(
    ("data", "name", "declared", "mime"),
    [
        (b'{"a": 1}', "rows.json", "", "application/json"),
        (b"a,b", "rows.CSV", "", "text/csv"),
        (b"# Title", "README.md", "", "text/markdown"),
        (b"<p>", "page.html", "", "text/html"),
        (b"a,b", "rows", "text/csv; charset=utf-8", "text/csv"),
        (b"a,b", "rows.md", "text/csv", "text/markdown"),
        (b"words", "photo.png", "image/png", "text/plain"),
        (b"\x89PNG\r\n\x1a\n", "photo.jpg", "image/jpeg", "image/png"),
        (b"PK\x03\x04", "report.docx", "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"PK\x03\x04", "report.png", "", "application/zip"),
        (zlib.compress(b"x"), "clip.amr", "", "audio/amr"),
        (b"\x00\x01", "", "Application/X-Thing", "application/x-thing"),
        (b"\x00\x01", "", "", OCTETS),
    ],
)
def test_name_and_declaration_say_only_what_bytes_cannot(data: bytes, name: str, declared: str, mime: str) -> None:
    assert mime_of(data, name, declared) == mime


def test_names_and_kinds() -> None:
    assert type_of_name("a/b.tar/photo.JPEG") == "image/jpeg"
    assert type_of_name("noth.ing/photo") is None
    assert [kind_of(mime) for mime in ("image/png", "audio/wav", "video/mp4", "text/plain")] == [
        "image",
        "audio",
        "video",
        "file",
    ]
    assert (suffix_of("application/pdf"), suffix_of("application/x-thing")) == (".pdf", "")
