"""What the input options of `flexllm batch` mean for the rows, with files and configurations beside them."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flexllm.batch.shapes import FORMATS
from flexllm.chat import ChatRequest
from flexllm.cli.batch.input import BatchInput, add_input_options, read_template
from flexllm.cli.request_options import add_request_options
from flexllm.config import ResolvedEndpoint
from flexllm.errors import ConfigError, InputError

HI = [{"role": "user", "content": "hi"}]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("input", nargs="?")
    made.add_argument("-m", "--model")
    add_input_options(made)
    add_request_options(made)
    return made


def batch_input(*arguments: str, keeps_fields: bool = False) -> BatchInput:
    return BatchInput(parser().parse_args(arguments), keeps_fields=keeps_fields)


def endpoint(**said: Any) -> ResolvedEndpoint:
    return ResolvedEndpoint(model="m", base_url=None, source="a test", **said)


def read(
    *arguments: str,
    to: ResolvedEndpoint | None = None,
    params: Mapping[str, Any] | None = None,
    keeps_fields: bool = False,
) -> list[tuple[ChatRequest, Any]]:
    source = batch_input(*arguments, keeps_fields=keeps_fields)
    rows = source.rows(to or endpoint(), "m", params or {})
    return [rows.read(line) for line in rows]


def questions(*arguments: str, **options: Any) -> list[Any]:
    return [request.messages[-1]["content"] for request, _ in read(*arguments, **options)]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: Mapping[str, Any] | str) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def test_the_parser_knows_the_formats_that_the_reader_knows() -> None:
    (format_option,) = (one for one in parser()._actions if one.dest == "format")
    assert tuple(format_option.choices or ()) == FORMATS


def test_the_help_can_be_printed() -> None:
    text = parser().format_help()
    assert "{content} is the question" in " ".join(text.split())


# --- which file, and how


def test_rows_are_read_anew_at_each_call() -> None:
    source = batch_input(write("in.jsonl", {"q": "a"}, {"q": "b"}))
    for _ in range(2):
        rows = source.rows(None, "m", {})
        assert (rows.total, rows.never_waits, len(list(rows))) == (2, True, 2)
    assert (source.name, source.is_pipe) == ("in.jsonl", False)


def test_a_table_has_as_many_rows_as_it_has() -> None:
    Path("in.csv").write_text('q,id\n"a\n\nb",1\n\nragged\n', encoding="utf-8")
    rows = batch_input("in.csv").rows(None, "m", {})
    assert rows.total == len(list(rows)) == 2


def test_the_input_type_goes_before_the_name() -> None:
    write("in.txt", "q,id", "a,1")
    write("in.csv", {"q": "b"})
    assert questions("in.txt", "--input-type", "csv") == ["a"]
    assert questions("in.csv", "--input-type", "jsonl") == ["b"]
    with pytest.raises(InputError, match=r"in\.txt: no row can be understood"):
        read("in.txt")


@pytest.mark.parametrize("name", ["in.csv.gz", "in.CSV.GZ", "in.csv"])
def test_a_compressed_table_is_read(name: str) -> None:
    Path(name).write_bytes(gzip.compress(b"q\na\n"))
    assert questions(name) == ["a"]


def test_a_damaged_file_is_refused_before_its_first_row_goes_on() -> None:
    data = gzip.compress(b"".join(b'{"q": "%d"}\n' % number for number in range(10_000)))
    Path("in.jsonl.gz").write_bytes(data[:-20])
    with pytest.raises(InputError, match=r"in\.jsonl\.gz ends too early"):
        batch_input("in.jsonl.gz").rows(None, "m", {})


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere.jsonl", "cannot be read: No such file"), (".", "is a folder without pictures")]
)
def test_a_file_that_cannot_be_read_is_told_at_once(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        batch_input(name)


def test_without_a_file_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    reading, writing = os.pipe()
    os.write(writing, b"q;id\na;1\n")
    os.close(writing)
    kept = os.dup(0)
    try:
        os.dup2(reading, 0)
        source = batch_input("-", "--input-type", "csv")
        rows = source.rows(None, "m", {})
        assert (rows.total, rows.never_waits) == (None, False)
        assert [rows.read(line)[1] for line in rows] == [{"id": "1"}]
        with pytest.raises(InputError, match="standard input is a pipe, which can be read only once"):
            source.rows(None, "m", {})
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)


def test_a_terminal_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    for stdin in (terminal, None):
        monkeypatch.setattr("sys.stdin", stdin)
        for arguments in ((), ("-",)):
            with pytest.raises(InputError, match="no input: name a file of questions, or pipe one in"):
                batch_input(*arguments)


def test_a_named_pipe_is_a_pipe() -> None:
    os.mkfifo("fifo")
    assert batch_input("fifo").is_pipe


def test_the_input_is_not_written_over() -> None:
    source = batch_input(write("in.jsonl", {"q": "a"}))
    os.link("in.jsonl", "link.jsonl")
    os.symlink("in.jsonl", "symlink.jsonl")
    for name in ("in.jsonl", "link.jsonl", "symlink.jsonl"):
        with pytest.raises(InputError, match=f"{name} is both input and output; name another output file"):
            source.refuse_as_output(name)
    source.refuse_as_output("other.jsonl")
    batch_input("/dev/null").refuse_as_output("/dev/null")


def test_what_is_redirected_is_not_written_over_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    write("in.jsonl", {"q": "a"})
    kept = os.dup(0)
    try:
        with open("in.jsonl", "rb") as file:
            os.dup2(file.fileno(), 0)
        with pytest.raises(InputError, match=r"in\.jsonl is both input and output"):
            batch_input().refuse_as_output("in.jsonl")
    finally:
        os.dup2(kept, 0)
        os.close(kept)


# --- system messages and templates: the options before the configuration


def test_an_option_goes_before_the_configuration() -> None:
    name, to = write("in.jsonl", {"q": "a"}), endpoint(system="Theirs.", user_template="<{content}>")

    def asked(*arguments: str) -> list[str]:
        ((request, _),) = read(name, *arguments, to=to)
        return [message["content"] for message in request.messages]

    assert asked() == ["Theirs.", "<a>"]
    assert asked("--system", "Mine.") == ["Mine.", "<a>"]
    assert asked("--user-template", "({content})") == ["Theirs.", "(a)"]
    assert asked("--system", "", "--user-template", "") == ["a"]


def test_a_template_of_the_configuration_may_take_fields() -> None:
    name, to = write("in.jsonl", {"title": "Rain"}), endpoint(user_template="A poem about {title}")
    assert questions(name, to=to) == ["A poem about Rain"]


def test_a_template_may_stand_in_a_file() -> None:
    name = write("in.jsonl", {"q": "a"})
    for data, wanted in (
        (b"<\n{content}>\n", "<\na>"),
        (b"{content}\r\n", "a"),
        (b"\xef\xbb\xbf{content}", "a"),
        (b"{content}\n\n", "a\n"),
    ):
        Path("t.txt").write_bytes(data)
        assert questions(name, "--user-template", "@t.txt") == [wanted]
    assert questions(name, "--user-template", "@@{content}") == ["@a"]


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (None, InputError, "the template t.txt cannot be read: No such file"),
        (b"{content} \xff", InputError, "the template t.txt is not UTF-8"),
        (b"x" * 1_000_001, InputError, "the template t.txt is larger than a megabyte"),
        (b"", ConfigError, "the template t.txt is empty"),
        (b"no place", ConfigError, "user_template has no place"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(data: bytes | None, kind: type[Exception], reason: str) -> None:
    if data is not None:
        Path("t.txt").write_bytes(data)
    with pytest.raises(kind, match=reason):
        batch_input(write("in.jsonl", {"q": "a"}), "--user-template", "@t.txt")


def test_no_template_is_none() -> None:
    assert read_template("") is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--user-field", ""), "--user-field is given but empty"),
        (("--system-field", " "), "--system-field is given but empty"),
        (("--user-field", "x", "--format", "alpaca"), "rows of the format alpaca have their own field"),
        (("--user-field", "x", "--user-template", "{y}"), "the question in the field 'x' would not be asked"),
        (("--user-template", "plain"), "user_template has no place"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        batch_input(write("in.jsonl", {"q": "a"}), *arguments)


def test_fields_are_named() -> None:
    Path("in.csv").write_text("titel;rolle;nr\nWas?;Kurz.;1\n", encoding="utf-8")
    ((request, metadata),) = read("in.csv", "--user-field", "titel", "--system-field", "rolle")
    assert [message["content"] for message in request.messages] == ["Kurz.", "Was?"]
    assert metadata == {"nr": "1"}
    ((_, metadata),) = read("in.csv", "--user-field", "titel", "--system-field", "rolle", keeps_fields=True)
    assert metadata == {"titel": "Was?", "rolle": "Kurz.", "nr": "1"}


# --- rows with settings of their own


def body_rows() -> str:
    body = {"model": "theirs", "messages": HI, "temperature": 1, "seed": 1}
    return write("in.jsonl", {"custom_id": "a", "url": "/v1/chat/completions", "body": body})


def test_a_rows_own_settings_stand_between_the_options_and_the_configuration() -> None:
    params = {"temperature": 3, "top_p": 3, "seed": 3}  # as the command makes them: with its options among them
    ((request, metadata),) = read(body_rows(), "--temperature", "3", params=params)
    assert (request.model, metadata) == ("theirs", {"custom_id": "a"})
    assert request.params == {"temperature": 3, "top_p": 3, "seed": 1}


def test_the_model_that_is_named_is_asked_instead_of_the_rows_own() -> None:
    ((request, _),) = read(body_rows(), "-m", "mine")
    assert request.model == "m"


def test_the_endpoints_of_a_pool_have_their_own_names_for_the_model() -> None:
    rows = batch_input(body_rows()).rows(None, "pool", {})
    assert [rows.read(line)[0].model for line in rows] == ["pool"]


# --- data of real use


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ({"messages": [{"role": "system", "content": "s"}, *HI], "id": "gsm8k-0000", "answer": "18"}, {"id", "answer"}),
        ({"question": "hi", "answer": "#### 18"}, {"answer"}),
        ({"instruction": "hi", "input": "", "id": "seed_task_0", "task": "t"}, {"id", "task"}),
    ],
)
def test_the_shapes_of_public_data_sets_need_no_option(first: dict[str, Any], others: set[str]) -> None:
    ((request, metadata),) = read(write("in.jsonl", first))
    assert request.messages[-1] == HI[0]
    assert set(metadata) == others
