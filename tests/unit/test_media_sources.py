"""What a source's text is, and data URIs as providers read them."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import InputError
from flexllm.media.files import path_of
from flexllm.media.sources import Form, checked_uri, decoded, encoded, form_of, shown

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = (
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("data:image/png;base64,AAAA", Form.DATA_URI),
        ("DATA:,x", Form.DATA_URI),
        ("http://example.org/a.png", Form.REMOTE),
        ("HTTPS://example.org", Form.REMOTE),
        ("file:///a/b.png", Form.LOCAL),
        ("gs://bucket/a.png", Form.OTHER_SCHEME),
        ("fileid://file-1", Form.OTHER_SCHEME),
        ("photo.png", Form.LOCAL),
        ("data/photo.png", Form.LOCAL),
        ("data/photos/photo", Form.LOCAL),
        ("/home/me/photos/holiday", Form.LOCAL),
        ("cache/" + "0123456789abcdef" * 4 + "ab", Form.LOCAL),  # 72 letters that base64 could hold
        ("~/photo", Form.LOCAL),
        ("", Form.LOCAL),
        ("AAAA", Form.LOCAL),
        (b64(PNG), Form.BASE64),
        (b64(WAV), Form.BASE64),
        (b64(b"ab"), Form.BASE64),  # it ends in "="
        (b64(b"\xff\xd8\xff\xe0" + bytes(8)), Form.BASE64),  # it begins with "/9j/", as a path could
        ("A" * 4100, Form.BASE64),  # no path is so long
        ("A" * 4000, Form.LOCAL),
        (b64(PNG) + ".png", Form.LOCAL),
        ("C:/photo.png", Form.LOCAL),
    ],
)
def test_a_source_is_told_from_its_text(source: str, form: Form) -> None:
    assert form_of(source) is form


@given(st.text(max_size=80))
def test_every_text_is_some_source_and_can_be_shown(source: str) -> None:
    assert form_of(source) in Form
    assert len(shown(source)) < 900


@pytest.mark.parametrize("data", [PNG, WAV, b"%PDF-1.7 and more", b"\xff\xfb\x90\x64" + bytes(40)])
def test_base64_of_a_known_file_is_never_taken_for_a_path(data: bytes) -> None:
    for cut in range(len(data) - 4, len(data)):
        assert form_of(b64(data[:cut])) is Form.BASE64


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///tmp/a%20b.png", "/tmp/a b.png"),
        ("file:///tmp/100%.png", "/tmp/100%.png"),
        ("file:///tmp/a#b?c.png", "/tmp/a#b?c.png"),
        ("FILE://localhost/tmp/a.png", "/tmp/a.png"),
        ("file:///tmp/%E4%B8%96.png", "/tmp/世.png"),
    ],
)
def test_a_file_url_names_a_path(url: str, path: str) -> None:
    assert path_of(url) == path


@pytest.mark.parametrize("url", ["file://images/cat.png", "file://server/share/cat.png", "file://cat.png"])
def test_a_file_url_with_a_host_is_explained(url: str) -> None:
    with pytest.raises(InputError, match="three slashes"):
        path_of(url)


def test_the_home_folder_may_be_written_short(clean_environment: object) -> None:
    assert path_of("~/a.png") == f"{clean_environment}/a.png"


def test_errors_show_no_payload_no_credentials_and_no_query() -> None:
    assert shown("https://me:secret@example.org/a.png?sig=secret#secret") == "'https://example.org/a.png'"
    assert shown(encoded(PNG, "image/png")) == "the data URI"
    assert shown(b64(PNG)) == "the base64 data"
    assert len(shown("x/" * 1000)) < 210


def test_a_good_data_uri_is_the_same_object() -> None:
    for uri in (encoded(PNG, "image/png"), f"data:image/png;charset=x;base64,{b64(PNG)}"):
        assert checked_uri(uri, "image", 1000) is uri
    pdf = encoded(b"%PDF-1.7", "application/pdf")
    assert checked_uri(pdf, "file", 1000) is pdf


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/jpeg;base64,{b64(PNG)}",
        f"data:image/jpg;base64,{b64(PNG)}",
        f"data:;base64,{b64(PNG)}",
        f"data:application/octet-stream;base64,{b64(PNG)}",
        f"DATA:image/PNG;BASE64,{b64(PNG)}",
        f"data:image/png;base64,{b64(PNG)[:76]}\r\n{b64(PNG)[76:]}",
        f"data:image/png;base64,{b64(PNG).rstrip('=')}",
        "data:image/png;base64," + b64(PNG).replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
)
def test_an_image_in_another_dress_becomes_plain_base64_with_its_true_type(uri: str) -> None:
    assert checked_uri(uri, "image", 1000) == encoded(PNG, "image/png")


def test_a_text_in_a_data_uri_becomes_base64() -> None:
    assert checked_uri("data:text/csv,a%2Cb", "file", 100) == encoded(b"a,b", "text/csv")
    assert checked_uri("data:,Grüße", "file", 100) == encoded("Grüße".encode(), "text/plain")
    assert decoded(checked_uri("data:,\ud800", "file", 100))[0] == b"\xed\xa0\x80"


def test_an_image_of_an_unknown_format_keeps_the_type_that_it_is_given() -> None:
    uri = encoded(b"\x00\x01\x02", "image/x-thing")
    assert checked_uri(uri, "image", 100) is uri


@pytest.mark.parametrize(
    ("uri", "kind", "reason"),
    [
        ("data:image/png;base64", "image", "not complete"),
        ("data:image/png;base64,", "image", "is empty"),
        (encoded(b"%PDF-1.7", "image/png"), "image", "not an image: its bytes are application/pdf"),
        (encoded(WAV, "audio/wav"), "image", "not an image: its bytes are audio/wav"),
        ("data:image/png;base64,?!?!", "image", "not base64"),
        ("data:image/png;base64,世界世界", "image", "not base64"),
        ("data:application/pdf;base64,JVBERi0", "file", None),
        ("data:;base64,AAAA", "image", "of no known image format"),
        (encoded(bytes(101), "image/png"), "image", "has 101 bytes, more than max_bytes=100"),
        (encoded(bytes(100), "image/png"), "image", None),
    ],
)
def test_a_data_uri_that_cannot_be_used_is_refused_with_the_reason(uri: str, kind: str, reason: str | None) -> None:
    if reason is None:
        checked_uri(uri, kind, 100)
    else:
        with pytest.raises(InputError, match=re.escape(reason)) as caught:
            checked_uri(uri, kind, 100)
        assert not str(caught.value).endswith(".")


@given(st.binary(max_size=40), st.sampled_from(["image", "audio", "video", "file"]))
def test_any_data_uri_is_checked_or_refused(data: bytes, kind: str) -> None:
    try:
        uri = checked_uri(encoded(data, "image/png"), kind, 100)
    except InputError:
        return
    assert decoded(uri)[0] == data


@given(st.text(max_size=60))
def test_any_text_behind_data_is_checked_or_refused(text: str) -> None:
    try:
        assert checked_uri(f"data:{text}", "file", 1000).startswith("data:")
    except InputError:
        pass
