"""Files behind a question: what becomes text, what becomes a part, and what is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cli.attachments import Attachments, piped_in
from flexllm.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20)
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(question: str, *names: str) -> Any:
    attached = Attachments()
    for name in names:
        attached.add(name)
    return attached.content(question)


def refused(name: str, most: int | None = None, stdin: io.BytesIO | None = None) -> str:
    with pytest.raises(InputError) as caught:
        Attachments(most).add(name, stdin)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    return sentence


def test_a_text_stands_behind_the_question_between_tags_with_its_name(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("print(1)\n")
    (folder / "b.txt").write_text("größer")

    assert content("What?", "src/a.py", "b.txt") == (
        'What?\n\n<file name="src/a.py">\nprint(1)\n</file>\n\n<file name="b.txt">\ngrößer\n</file>'
    )
    assert content("", "b.txt") == '<file name="b.txt">\ngrößer\n</file>'


def test_no_text_can_close_its_own_frame(folder: Path) -> None:
    (folder / "a.xml").write_text("<file></file>")
    (folder / "b.txt").write_text("</file_>")

    assert content("?", "a.xml", "b.txt") == (
        '?\n\n<file__ name="a.xml">\n<file></file>\n</file__>\n\n<file__ name="b.txt">\n</file_>\n</file__>'
    )


@given(st.lists(st.text(alphabet=st.sampled_from("<>/file_ \n"), min_size=1, max_size=30), min_size=1, max_size=3))
def test_what_is_between_the_tags_is_always_the_text(texts: list[str]) -> None:
    attached = Attachments()
    attached.texts = [(f"{number}.txt", text) for number, text in enumerate(texts)]
    whole = attached.content("")
    assert isinstance(whole, str)

    tag = whole[1 : whole.index(" name=")]
    inside = [piece.split(">\n", 1)[1] for piece in whole.split(f"</{tag}>")[:-1]]
    assert inside == [text if text.endswith("\n") else f"{text}\n" for text in texts]


def test_a_name_cannot_break_out_of_its_quotes(folder: Path) -> None:
    name = 'a"> <b>.txt'
    (folder / name).write_text("x")
    assert content("", name).startswith('<file name="a&quot;&gt; &lt;b&gt;.txt">')


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("größer".encode("utf-16"), "größer"),
        ("\ufeffgrößer".encode("utf-16-be"), "größer"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        (b"<!doctype html><p>", "<!doctype html><p>"),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)
def test_texts_of_several_kinds_are_read(folder: Path, data: bytes, text: str) -> None:
    (folder / "x.dat").write_bytes(data)
    assert content("", "x.dat") == f'<file name="x.dat">\n{text}\n</file>'


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [("a.png", PNG, "image"), ("b", PNG, "image"), ("c.wav", WAV, "audio"), ("d.mp4", MP4, "video")],
)
def test_a_medium_is_a_part_in_front_of_the_question(folder: Path, name: str, data: bytes, kind: str) -> None:
    (folder / name).write_bytes(data)
    assert content("What is it?", name) == [
        {"type": kind, kind: Path(name)},
        {"type": "text", "text": "What is it?"},
    ]
    assert content("", name) == [{"type": kind, kind: Path(name)}]


def test_a_document_keeps_its_name(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "paper.pdf").write_bytes(PDF)
    [part, _] = content("Sum it up", "sub/paper.pdf")
    assert part == {"type": "file", "file": Path("sub/paper.pdf"), "filename": "paper.pdf"}


def test_a_pipe_is_read_once_and_held(folder: Path) -> None:
    attached = Attachments()
    attached.add("-", io.BytesIO(PNG))
    attached.add("-", io.BytesIO(PDF))
    attached.add("-", io.BytesIO(b"text"))
    assert attached.parts == [
        {"type": "image", "image": PNG},
        {"type": "file", "file": PDF, "filename": "file.pdf"},
    ]
    assert attached.texts == [("standard input", "text")]


def test_a_named_pipe_is_a_file_as_any_other(folder: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    assert content("", f"/dev/fd/{reading}") == f'<file name="/dev/fd/{reading}">\nthrough a pipe\n</file>'
    os.close(reading)


def test_a_medium_may_be_given_by_url() -> None:
    url = "https://example.com/a.jpg?size=1#x"
    assert content("What?", url) == [{"type": "image", "image": url}, {"type": "text", "text": "What?"}]
    assert content("", "gs://bucket/talk.mp3") == [{"type": "audio", "audio": "gs://bucket/talk.mp3"}]


def test_a_file_url_is_a_path(folder: Path) -> None:
    (folder / "a b.txt").write_text("x")
    url = f"file://{folder}/a%20b.txt"
    assert content("", url) == f'<file name="{url}">\nx\n</file>'


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("none.txt", None, "'none.txt' does not exist"),
        ("empty.txt", b"", "'empty.txt' is empty"),
        ("latin.txt", "größer".encode("latin-1"), "'latin.txt' is text, but not UTF-8 (byte 3); convert it first"),
        ("nul.bin", b"\x00\x01\x02", "'nul.bin' is neither text nor a picture"),
        ("nul.txt", b"\x00\xff", "'nul.txt' is neither text nor a picture"),
        ("odd", "größer".encode("utf-16") + b"\x00", "'odd' is damaged UTF-16"),
        (".", None, "it is a folder"),
        ("file://elsewhere/a.txt", None, "names the host 'elsewhere'"),
        ("https://example.com/page", None, "does not end like a picture"),
        ("https://example.com/page.html", None, "does not end like a picture"),
        ("https://user:secret@example.com/page", None, "'https://example.com/page'"),
        ("-", None, "standard input is closed"),
    ],
)
def test_what_cannot_be_attached_is_refused_with_its_name(
    folder: Path, name: str, data: bytes | None, words: str
) -> None:
    if data is not None:
        (folder / name).write_bytes(data)
    assert words in refused(name)
    assert "secret" not in refused(name)


def test_a_file_may_not_be_too_large(folder: Path) -> None:
    (folder / "a.txt").write_text("12345")
    assert "more than 4 bytes" in refused("a.txt", most=4)
    assert "more than 4 bytes" in refused("/dev/zero", most=4)
    assert "more than 4 bytes" in refused("-", most=4, stdin=io.BytesIO(b"12345"))
    Attachments(5).add("a.txt")


def test_a_name_that_is_no_text_can_be_attached(folder: Path) -> None:
    name = os.fsdecode(b"a\xff.txt")
    (folder / name).write_text("x")
    assert content("", name).startswith('<file name="a?.txt">')


# --- what is piped in


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"  plain \n", "plain"),
        (b"", ""),
        (b"\n \n", ""),
        ("größer".encode("latin-1"), "gr��er"),  # a pipe promises no encoding
        ("café".encode("latin-1"), "caf�"),
        ("你好".encode("utf-16"), "你好"),  # without any zero byte
        (b"\xff\xfex", "��x"),  # it only begins so
        ("\ufeffplain".encode(), "plain"),
        ("größer".encode("utf-16"), "größer"),
    ],
)
def test_a_piped_text_is_part_of_the_question(data: bytes, text: str) -> None:
    attached = Attachments()
    assert attached.add_piped(io.BytesIO(data)) == text
    assert (attached.texts, attached.parts) == ([], [])


def test_a_piped_medium_is_a_part() -> None:
    attached = Attachments()
    assert attached.add_piped(io.BytesIO(PNG)) == ""
    assert attached.parts == [{"type": "image", "image": PNG}]


def test_a_pipe_that_would_not_wait_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, encoding="utf-8") as stdin, open(writing, "wb") as parent:
        monkeypatch.setattr("sys.stdin", stdin)
        stream = piped_in()
        assert stream is stdin.buffer
        assert os.get_blocking(reading)
        assert piped_in(["-"]) is None
        parent.write(b"whole")
        parent.close()
        assert Attachments().add_piped(stream) == "whole"


def test_other_bytes_are_not_taken_for_a_question() -> None:
    with pytest.raises(InputError, match="standard input is neither text nor"):
        Attachments().add_piped(io.BytesIO(b"\x00\x01\x02\x03"))
    with pytest.raises(InputError, match="standard input is damaged UTF-16"):
        Attachments().add_piped(io.BytesIO(b"\xff\xfex\x00y"))
