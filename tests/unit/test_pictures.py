"""Pictures beside the text of a row: from a cell to the parts of a message, and what the options make of them."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pictures import png

from flexllm.batch.pictures import picture_parts, with_pictures
from flexllm.chat import ChatRequest
from flexllm.cli.batch.input import BatchInput, add_input_options
from flexllm.cli.request_options import add_request_options
from flexllm.config import ResolvedEndpoint
from flexllm.errors import ConfigError, InputError

PNG = png(1)
BASE64 = base64.b64encode(PNG).decode()


def urls(cell: Any, folder: str = "") -> list[str]:
    parts = picture_parts(cell, folder)
    assert {part["type"] for part in parts} <= {"image_url"}
    return [part["image_url"]["url"] for part in parts]


@pytest.mark.parametrize(
    ("cell", "folder", "found"),
    [
        ("a.png", "", ["a.png"]),
        ("a.png", "photos", ["photos/a.png"]),
        ("./a.png", "./photos/", ["photos/a.png"]),
        ("../a.png", "photos/x", ["photos/a.png"]),
        ("  a.png ", "photos", ["photos/a.png"]),
        ("/abs/a.png", "photos", ["/abs/a.png"]),
        (Path("a.png"), "photos", ["photos/a.png"]),
        ("file:///abs/a.png", "photos", ["file:///abs/a.png"]),
        ("https://example.com/a.png", "photos", ["https://example.com/a.png"]),
        ("gs://bucket/a.png", "photos", ["gs://bucket/a.png"]),
        ("data:image/png;base64,AAAA", "photos", ["data:image/png;base64,AAAA"]),
        (BASE64, "photos", [BASE64]),
        (["a.png", Path("b.png")], "photos", ["photos/a.png", "photos/b.png"]),
        ({"bytes": None, "path": "a.png"}, "photos", ["photos/a.png"]),
        ({"bytes": BASE64, "path": "a.png"}, "photos", [BASE64]),
        (PNG, "photos", [f"data:image/png;base64,{BASE64}"]),
        ("", "photos", []),
        ("  ", "photos", []),
        (None, "photos", []),
        ([], "photos", []),
        ({}, "photos", []),
    ],
)
def test_a_cell_names_its_pictures(cell: Any, folder: str, found: list[str]) -> None:
    assert urls(cell, folder) == found


def test_the_home_folder_is_meant_by_its_sign() -> None:
    assert urls("~/a.png", "photos") == [str(Path.home() / "a.png")]


@pytest.mark.parametrize("cell", [7, 0.5, object(), b"no picture"])
def test_what_is_no_picture_is_told(cell: Any) -> None:
    with pytest.raises(InputError, match="message 0, part 0: "):
        picture_parts(cell, "")


def test_an_object_that_names_no_picture_is_told_and_not_asked_without() -> None:
    with pytest.raises(
        InputError, match="an object with a picture has it as 'bytes' or as 'path', and this one has 'url'"
    ):
        picture_parts({"url": "https://example.com/a.png"}, "")


PART = {"type": "image_url", "image_url": {"url": "a.png"}}


def test_pictures_stand_in_front_of_the_last_question() -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    parts = [{"type": "text", "text": "c"}]
    for content in ("c", parts):
        assert with_pictures([*talk, {"role": "user", "content": content}], [PART]) == [
            *talk, {"role": "user", "content": [PART, *parts]},
        ]  # fmt: skip
    assert with_pictures([{"role": "user", "content": ""}], [PART]) == [{"role": "user", "content": [PART]}]
    with pytest.raises(InputError, match="no message of the user"):
        with_pictures([{"role": "system", "content": "a"}], [PART])


# --- the options


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("b.png", "a.png", "sub/c.png"):
        (tmp_path / "photos" / name).write_bytes(PNG)
    return tmp_path


def batch_input(*arguments: str, keeps_fields: bool = False) -> BatchInput:
    parser = argparse.ArgumentParser()
    parser.add_argument("input", nargs="?")
    parser.add_argument("-m", "--model")
    add_input_options(parser)
    add_request_options(parser)
    return BatchInput(parser.parse_args(arguments), keeps_fields=keeps_fields)


def read(*arguments: str, template: str | None = None, keeps_fields: bool = False) -> list[tuple[ChatRequest, Any]]:
    endpoint = ResolvedEndpoint(
        model="m", base_url="http://localhost/v1", user_template=template, source="the configuration"
    )
    rows = batch_input(*arguments, keeps_fields=keeps_fields).rows(endpoint, "m", {})
    return [rows.read(line) for line in rows]


def write(name: str, *rows: Mapping[str, Any]) -> str:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return name


def asked(request: ChatRequest) -> tuple[list[str], str]:
    """Return the pictures and the text of the last message."""
    content = request.messages[-1]["content"]
    if isinstance(content, str):
        return [], content
    return [part["image_url"]["url"] for part in content[:-1]], content[-1]["text"]


def test_each_picture_of_a_folder_is_a_row() -> None:
    for name in ("photos", "photos/", "./photos"):
        found = read(name, "--prompt", "Describe {this}", "--system", "Be brief.")
        assert [asked(request) for request, _ in found] == [
            ([f"photos/{name}"], "Describe {this}") for name in ("a.png", "b.png", "sub/c.png")
        ]
        assert [metadata for _, metadata in found] == [{"file": "a.png"}, {"file": "b.png"}, {"file": "sub/c.png"}]
        assert found[0][0].messages[0] == {"role": "system", "content": "Be brief."}
    assert len(read("photos", "--prompt", "x", "--no-recursive")) == 2


def test_a_template_may_ask_and_name_the_file() -> None:
    assert asked(read("photos", "--user-template", "Is this {file}?")[0][0]) == (["photos/a.png"], "Is this a.png?")


def test_the_template_of_the_configuration_goes_around_the_prompt() -> None:
    assert asked(read("photos", "--prompt", "x {y}", template="<{content}>")[0][0])[1] == "<x {y}>"
    assert asked(read("photos", template="What is {file}?")[0][0])[1] == "What is a.png?"
    with pytest.raises(ConfigError, match="places for fields, which --prompt does not fill"):
        read("photos", "--prompt", "x", template="{lang}: {content}")


def test_a_field_names_pictures_relative_to_the_input() -> None:
    write(
        "photos/in.jsonl",
        {"q": "one?", "photo": "a.png"},
        {"q": "two?", "photo": ["b.png", "sub/c.png"]},
        {"q": "3", "photo": ""},
    )
    found = read("photos/in.jsonl", "--image-field", "photo")
    assert [asked(request) for request, _ in found] == [
        (["photos/a.png"], "one?"), (["photos/b.png", "photos/sub/c.png"], "two?"), ([], "3"),
    ]  # fmt: skip
    assert found[0][1] == {"photo": "a.png"}


def test_the_same_may_be_asked_about_the_picture_of_each_row() -> None:
    Path("in.csv").write_text("id,photo\n1,photos/a.png\n2,\n", encoding="utf-8")
    rows = batch_input("in.csv", "--image-field", "photo", "--prompt", "What?", keeps_fields=True).rows(None, "m", {})
    first, second = rows
    request, metadata = rows.read(first)
    assert (asked(request), metadata) == ((["photos/a.png"], "What?"), {"id": "1", "photo": "photos/a.png"})
    with pytest.raises(InputError, match="'photo' is empty in this row"):
        rows.read(second)


def test_a_row_without_the_field_costs_itself_alone() -> None:
    write("in.jsonl", {"q": "a"}, {"q": "b", "photo": "x.png"})
    rows = batch_input("in.jsonl", "--image-field", "photo").rows(None, "m", {})
    first, second = rows
    with pytest.raises(InputError, match="no 'photo' in this row, only 'q'"):
        rows.read(first)
    assert asked(rows.read(second)[0]) == (["x.png"], "b")
    assert rows.metadata_of(first) == {}


def test_a_field_that_no_row_has_is_told_with_the_nearest() -> None:
    write("in.jsonl", {"q": "a", "photo": "x.png"})
    with pytest.raises(InputError, match=r"in\.jsonl: no row has 'foto'; did you mean 'photo'\? nothing was sent"):
        read("in.jsonl", "--image-field", "foto")
    with pytest.raises(InputError, match=r"in\.jsonl: no row has 'z', only 'q', 'photo'; nothing was sent"):
        read("in.jsonl", "--image-field", "z")


def test_rows_are_known_by_line_field_and_folder() -> None:
    write("in.jsonl", {"q": "a", "one": "x.png", "two": "x.png"})
    known = set()
    for arguments in (
        ("--image-field", "one"),
        ("--image-field", "two"),
        ("--image-field", "one", "--prompt", "p"),
        (),
    ):
        rows = batch_input("in.jsonl", *arguments).rows(None, "m", {})
        known.add(rows.source(next(iter(rows))))
    Path("photos/in.jsonl").write_bytes(Path("in.jsonl").read_bytes())
    rows = batch_input("photos/in.jsonl", "--image-field", "one").rows(None, "m", {})
    known.add(rows.source(next(iter(rows))))
    assert len(known) == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("photos",), "photos is a folder of pictures, and nothing is asked about them: give --prompt TEXT"),
        (("photos", "--user-template", "<{content}>"), "nothing is asked about them"),
        (("photos", "--prompt", " "), "--prompt is given but empty"),
        (
            ("photos", "--prompt", "x", "--user-field", "y"),
            "--user-field is for rows with fields, and photos is a folder",
        ),
        (("photos", "--prompt", "x", "--format", "simple"), "--format is for rows with fields"),
        (("photos", "--prompt", "x", "--sheet", "y"), "--sheet is for rows with fields"),
        (
            ("photos", "--prompt", "x", "--user-template", "{file}"),
            "--prompt is the whole question; leave it or --user-t",
        ),
        (("in.jsonl", "--prompt", "x"), "name a folder of pictures, or --image-field"),
        (("in.jsonl", "--image-field", ""), "--image-field is given but empty"),
        (("in.jsonl", "--recursive"), r"--recursive is for folders, and in\.jsonl is none"),
        (("in.jsonl", "--sheet", "y"), r"--sheet is for workbooks, and in\.jsonl is none"),
        (("body.jsonl", "--image-field", "y"), "rows of the format openai_batch hold their pictures themselves"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    write("in.jsonl", {"q": "a"})
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    write("body.jsonl", {"custom_id": "1", "url": "/v1/chat/completions", "body": body})
    with pytest.raises(ConfigError, match=reason):
        read(*arguments)
