"""`flexllm batch` with tables and pictures: workbooks, Parquet files, folders; and that a table keeps what it held."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import at, in_process, in_shell, rows_of
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import png, write_pictures

from flexllm.cli.exits import CONFIG, DONE, FAILED, FILES
from flexllm.mock import MockServer, Reply

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as started:
        yield started


@pytest.fixture(autouse=True)
def folder(server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in at(server).items():
        monkeypatch.setenv(name, value)
    server.reset()
    return tmp_path


def asked(server: MockServer) -> list[Any]:
    return [json.loads(request.body)["messages"][-1]["content"] for request in server.requests]


# --- workbooks and Parquet files


def workbook(name: str, **sheets: list[list[Any]]) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    book = openpyxl.Workbook(write_only=True)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(name)


def sheet_of(name: str) -> list[dict[str, Any]]:
    import openpyxl

    columns, *rows = openpyxl.load_workbook(name).active.iter_rows(values_only=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
def test_a_row_without_a_question_is_not_bought(folder: Path, server: MockServer, capsys: Capture, name: str) -> None:
    tab = "," if name == "in.csv" else "\t"
    (folder / name).write_text(
        "\n".join(f"{number}{tab}{text}" for number, text in [("id", "q"), (1, ""), (2, "two"), (3, " ")])
    )
    assert in_process(capsys, "batch", name, "-q", "-o", "out.csv").code == FAILED
    assert asked(server) == ["two"]
    rows = list(csv.DictReader((folder / "out.csv").read_text("utf-8-sig").splitlines()))
    assert [row["error"].removeprefix("InputError: ") for row in rows] == [
        "row 0 cannot be asked: 'q' is empty in this row", "", "row 2 cannot be asked: 'q' is empty in this row",
    ]  # fmt: skip


def test_a_workbook_is_answered_by_a_workbook_and_goes_on(server: MockServer, capsys: Capture) -> None:
    rows = [["id", "question", "output"], [1, "one", "x"], [2, 42, None], [3, None, "y"]]
    workbook("in.xlsx", first=rows, second=[["question"], ["other"]])
    command = ("batch", "in.xlsx", "--user-field", "question", "-q", "-o")
    assert in_process(capsys, *command, "out.xlsx", "-n", "1").code == DONE
    assert in_process(capsys, *command, "out.xlsx").code == FAILED
    assert sorted(asked(server)) == ["42", "one"]
    found = sheet_of("out.xlsx")
    assert [(row["id"], row["question"], row["input.output"], row["status"]) for row in found] == [
        (1, "one", "x", "success"), (2, 42, None, "success"), (3, None, "y", "error"),
    ]  # fmt: skip
    assert '"42"' in found[1]["output"]
    assert found[2]["error"] == "InputError: row 2 cannot be asked: 'question' is empty in this row"
    assert in_process(capsys, *command, "other.csv", "--sheet", "second").code == DONE
    assert asked(server)[-1] == "other"
    assert sorted(os.listdir()) == ["in.xlsx", "other.csv", "other.csv.jsonl", "out.xlsx", "out.xlsx.jsonl"]


def test_a_parquet_file_is_answered_by_a_parquet_file(server: MockServer, capsys: Capture) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"id": [1, 2], "q": ["a", "b"], "x": [0.5, None]}), "in.parquet")
    assert in_process(capsys, "batch", "in.parquet", "-o", "out.parquet", "-q").code == DONE
    found = parquet.read_table("out.parquet")
    assert found.column_names[:4] == ["id", "q", "x", "output"]
    assert found.select(["id", "q", "x"]).to_pylist() == [{"id": 1, "q": "a", "x": 0.5}, {"id": 2, "q": "b", "x": None}]
    assert all(f'"{question}"' in answer for question, answer in zip("ab", found["output"].to_pylist(), strict=True))
    assert in_process(capsys, "batch", "in.parquet", "-o", "out.parquet", "-q").code == DONE
    assert sorted(asked(server)) == ["a", "b"]


def test_a_workbook_cannot_come_through_a_pipe(server: MockServer) -> None:
    workbook("in.xlsx", first=[["q"], ["a"]])
    done = in_shell('cat in.xlsx | "$@"', "batch", "-o", "out.jsonl", "--input-type", "csv", env=at(server))
    assert (done.code, asked(server)) == (FILES, [])
    assert "standard input is a workbook or a zip archive; save the sheet as CSV" in done.sentence
    done = in_shell('"$@" <in.xlsx', "batch", "-o", "out.jsonl", "-q", env=at(server))
    assert (done.code, asked(server)) == (DONE, ["a"]), "a file is a file, wherever it comes in"


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("openpyxl", ("in.xlsx", "-o", "out.jsonl")),
        ("openpyxl", ("in.csv", "-o", "out.xlsx")),
        ("pyarrow", ("in.parquet", "-o", "out.jsonl")),
        ("pyarrow", ("in.csv", "-o", "out.parquet")),
    ],
)
def test_without_its_package_a_file_is_one_sentence_with_the_command(
    server: MockServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch, package: str, arguments: tuple[str, ...]
) -> None:
    Path("in.csv").write_text("q\na\n", encoding="utf-8")
    Path("in.parquet").write_bytes(b"PAR1")
    if package == "openpyxl":
        workbook("in.xlsx", first=[["q"], ["a"]])
    monkeypatch.setitem(sys.modules, package, None)
    done = in_process(capsys, "batch", *arguments)
    named = next(name for name in arguments if name.endswith(("xlsx", "parquet")))
    assert (done.code, asked(server)) == (CONFIG, [])
    assert done.sentence == f"flexllm: {named} needs {package}; install it with pip install 'flexllm[table]'"
    assert not Path("out.jsonl").exists()


def test_text_tables_need_no_package(server: MockServer, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pandas", "openpyxl", "pyarrow"):
        monkeypatch.setitem(sys.modules, package, None)
    Path("in.csv").write_text("q\na\n", encoding="utf-8")
    assert in_process(capsys, "batch", "in.csv", "-o", "out.csv", "-q").code == DONE


# --- pictures


def test_a_folder_of_pictures_is_answered_by_a_table(server: MockServer, capsys: Capture, folder: Path) -> None:
    write_pictures(folder / "photos", "b.png", "a.png", "sub/c.png")
    (folder / "photos" / "no.png").write_text("no picture")
    command = ("batch", "photos/", "-o", "out.csv", "--prompt", "Describe this picture", "-q")
    dry = in_process(capsys, *command, "--dry-run", "--json")
    assert (dry.data["to_buy"], asked(server)) == (4, [])
    assert in_process(capsys, *command).code == FAILED
    with open("out.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["status"]) for row in rows] == [
        ("a.png", "success"), ("b.png", "success"), ("no.png", "error"), ("sub/c.png", "success"),
    ]  # fmt: skip
    assert "'photos/no.png' is not an image" in rows[2]["error"]
    assert {content[1]["text"] for content in asked(server)} == {"Describe this picture"}
    assert len({content[0]["image_url"]["url"] for content in asked(server)}) == 3
    (folder / "photos" / "no.png").write_bytes(png(9))
    (folder / "photos" / "new.png").write_bytes(png(10))
    assert in_process(capsys, *command).code == DONE
    assert len(asked(server)) == 5, "the new one, and the one that failed"
    assert [row["metadata"]["file"] for row in rows_of("out.csv.jsonl")] == [
        "a.png", "b.png", "new.png", "no.png", "sub/c.png",
    ]  # fmt: skip


def test_pictures_of_a_table_lie_beside_it(server: MockServer, capsys: Capture, folder: Path) -> None:
    write_pictures(folder / "data", "a.png")
    (folder / "data" / "in.csv").write_text("q,photo\none,a.png\ntwo,gone.png\nthree,\n", encoding="utf-8")
    done = in_process(capsys, "batch", "data/in.csv", "-o", "out.jsonl", "--image-field", "photo", "-q")
    assert done.code == FAILED
    assert sorted(content if isinstance(content, str) else content[1]["text"] for content in asked(server)) == [
        "one",
        "three",
    ]
    rows = rows_of("out.jsonl")
    assert [row["status"] for row in rows] == ["success", "error", "success"]
    assert "the file 'data/gone.png'" in rows[1]["error"]["message"]
    assert rows[0]["input"][0]["content"][0]["image_url"]["url"] == "data/a.png", "its path, and not all of it"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("photos",), CONFIG, "nothing is asked about them: give --prompt TEXT"),
        (("empty", "--prompt", "x"), FILES, "empty is a folder without pictures; nothing was sent"),
        (("in.csv", "--prompt", "x"), CONFIG, "name a folder of pictures, or --image-field"),
        (("in.csv", "--image-field", "x"), FILES, "in.csv: no row has 'x', only 'q'; nothing was sent"),
        (("in.csv", "--image-field", "qq"), FILES, "did you mean 'q'?"),
    ],
)
def test_a_wrong_way_to_pictures_is_one_sentence(
    server: MockServer, capsys: Capture, folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    write_pictures(folder / "photos", "a.png")
    (folder / "empty").mkdir()
    (folder / "in.csv").write_text("q\na\n", encoding="utf-8")
    done = in_process(capsys, "batch", *arguments, "-o", "out.jsonl")
    assert (done.code, asked(server)) == (code, [])
    assert said in done.sentence


# --- what a table held, it holds


def echo(request: Any) -> Reply | None:
    """Answer with the very text that was asked."""
    if not request.path.endswith("/chat/completions"):
        return None
    text = json.loads(request.body)["messages"][-1]["content"]
    message = {"role": "assistant", "content": text}
    body = {"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return Reply(body=json.dumps(body).encode())


UNREADABLE = "" if sys.version_info >= (3, 11) else "\0"
"""What the csv module of Python 3.10 refuses to read."""

CELLS = st.text(
    st.one_of(st.sampled_from("\"',;=\t\r\n \\"), st.characters(codec="utf-8", exclude_characters=UNREADABLE)),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=examples(20))
@given(
    rows=st.lists(st.tuples(CELLS.filter(str.strip), CELLS, CELLS), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t"),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_any_texts_go_through_a_table_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], delimiter: str, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("generated")
    with open(folder / "in.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("question", "a", "b"), *rows])
    with MockServer(script=echo) as server:
        command = [
            "batch",
            str(folder / "in.csv"),
            "--user-field",
            "question",
            "-o",
            str(folder / f"out{suffix}"),
            "-q",
        ]
        with pytest.MonkeyPatch.context() as patched:
            for name, value in at(server).items():
                patched.setenv(name, value)
            from flexllm.cli.main import main

            assert main(command) == DONE
    with open(folder / f"out{suffix}", encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
    assert [(row["question"], row["a"], row["b"]) for row in found] == rows
    assert [row["output"] for row in found] == [question for question, _a, _b in rows]
