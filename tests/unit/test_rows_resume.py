"""Inputs of all kinds through a job that is run again: what was answered is found, however the input is written now."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from fakes import FakeEngine

from flexllm.batch.inputs import Input
from flexllm.batch.job import BatchJob
from flexllm.batch.openai_rows import OwnSettingsRows
from flexllm.batch.options import BatchOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.batch.rows import FileRows, RowReader
from flexllm.batch.shapes import Fields
from flexllm.cancel import CancelToken
from flexllm.templates import UserTemplate

TABLE = [("q", "id"), ("one", "1"), ("two\nlines", "2"), ('th"ree', "3"), ("one", "4")]


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.jsonl"


def written(rows: Sequence[tuple[str, ...]], delimiter: str = ",", end: str = "\n") -> bytes:
    return "".join(
        delimiter.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + end for row in rows
    ).encode()


def asked(path: Path, data: bytes, kind: str = "csv", **reading: Any) -> list[str]:
    """Run a job over an input; return what it asks."""
    source = Input(cast(BinaryIO, io.BufferedReader(io.BytesIO(data))), "in", kind)
    reader = RowReader(source, "in", parse=source.parse, **reading)
    rows: FileRows = FileRows(reader, "m", {}, None)
    if reader.shape == "openai_batch":
        rows = OwnSettingsRows(reader, "m", {}, None, flags={}, keeps_model=False)
    return run(path, rows)


def run(path: Path, rows: FileRows) -> list[str]:
    engine = FakeEngine(lambda item: item.request.messages[-1]["content"].upper())
    how = BatchOptions(output=path, progress=ProgressOptions(show=False), give_resumed=False)
    job = BatchJob(engine, how, CancelToken())
    for _ in job.run(rows):
        pass
    assert job.is_complete
    return [item.request.messages[-1]["content"] for item in engine.sold if item.request is not None]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_table_is_answered_once(path: Path) -> None:
    data = written(TABLE)
    assert sorted(asked(path, data)) == sorted(row[0] for row in TABLE[1:])
    assert asked(path, data) == []
    assert [(line["output"], line["metadata"]) for line in lines(path)] == [
        (question.upper(), {"id": number}) for question, number in TABLE[1:]
    ]


@pytest.mark.parametrize(
    "again",
    [
        written(TABLE, ";", "\r\n"),
        b"\xef\xbb\xbf" + written(TABLE, "\t"),
        gzip.compress(written(TABLE)),
        written(TABLE).replace(b'"1"', b"1").replace(b'"q"', b" q "),
        written(TABLE, end="\n\n"),
    ],
    ids=["semicolons", "tabs", "compressed", "unquoted", "blank lines"],
)
def test_a_table_that_is_saved_otherwise_asks_for_the_same(path: Path, again: bytes) -> None:
    asked(path, written(TABLE))
    assert asked(path, again) == []


def test_rows_that_move_keep_their_answers(path: Path) -> None:
    asked(path, written(TABLE))
    moved = [TABLE[0], *random.Random(7).sample(TABLE[1:], 4)]
    assert asked(path, written([*moved, ("new", "5")])) == ["new"]
    assert [(line["output"], line["metadata"]["id"]) for line in lines(path)] == [
        (question.upper(), number) for question, number in [*moved[1:], ("new", "5")]
    ]


def test_a_new_column_is_metadata_of_the_answers_that_are_there(path: Path) -> None:
    asked(path, written(TABLE))
    wider = [(*row, f"x{number}") for number, row in enumerate(TABLE)]
    assert asked(path, written(wider)) == []
    assert [line["metadata"]["x0"] for line in lines(path)] == ["x1", "x2", "x3", "x4"]


def test_the_same_rows_in_another_kind_of_file_ask_for_the_same(path: Path) -> None:
    asked(path, written(TABLE))
    objects = [dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]]
    assert asked(path, json.dumps(objects).encode(), "jsonl") == []
    assert asked(path, "\n".join(map(json.dumps, objects)).encode(), "jsonl") == []


def test_a_bad_row_of_a_table_fails_alone_and_is_mended_later(path: Path) -> None:
    data = written(TABLE)
    asked(path, data.replace(b'"two\nlines","2"', b'"two lines"'))
    assert [line["status"] for line in lines(path)] == ["success", "error", "success", "success"]
    assert lines(path)[1]["error"]["message"] == ("row 1 cannot be asked: 1 cell where the first line names 2 columns")
    assert asked(path, data) == ["two\nlines"]


@pytest.mark.parametrize(
    "otherwise",
    [{"template": UserTemplate("<{content}>")}, {"template": UserTemplate("{id}")}, {"fields": Fields("id")}],
)
def test_another_question_of_the_same_line_is_asked(path: Path, otherwise: dict[str, Any]) -> None:
    asked(path, written(TABLE))
    assert len(asked(path, written(TABLE), **otherwise)) == 4
    assert asked(path, written(TABLE), **otherwise) == []


def test_fields_that_are_kept_are_added_to_the_answers_that_are_there(path: Path) -> None:
    asked(path, written(TABLE))
    assert asked(path, written(TABLE), keeps_fields=True) == []
    assert [line["metadata"] for line in lines(path)] == [dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]]


@pytest.mark.parametrize("keeps_fields", [False, True])
def test_a_row_that_cannot_be_asked_keeps_its_metadata(path: Path, keeps_fields: bool) -> None:
    data = b"".join(
        json.dumps({"custom_id": name, "tag": 1, **more}).encode() + b"\n"
        for name, more in (
            ("fine", {"url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "a"}]}}),
            ("no parameter", {"body": {"messages": [{"role": "user", "content": "b"}], "timeout": 3}}),
            ("no role", {"body": {"messages": [{"role": "nobody", "content": "b"}]}}),
            ("no question", {"url": "/v1/embeddings", "body": {}}),
        )
    )
    for _ in range(2):
        asked(path, data + b"no row\n", "jsonl", keeps_fields=keeps_fields)
        found = [line["metadata"] for line in lines(path)]
        assert [one and (one["custom_id"], one["tag"], "body" in one) for one in found] == [
            ("fine", 1, False), ("no parameter", 1, False), ("no role", 1, False), ("no question", 1, True), None,
        ]  # fmt: skip


def body_lines(*bodies: dict[str, Any]) -> bytes:
    rows = (
        {"custom_id": str(number), "body": {"messages": [{"role": "user", "content": "hi"}], **body}}
        for number, body in enumerate(bodies)
    )
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def test_a_row_with_settings_of_its_own_is_answered_once(path: Path) -> None:
    data = body_lines({"model": "a"}, {"model": "b"}, {"model": "a", "seed": 1}, {"model": "a"})
    assert len(asked(path, data, "jsonl")) == 4
    assert asked(path, data, "jsonl") == []
    assert [line["metadata"] for line in lines(path)] == [{"custom_id": str(number)} for number in range(4)]


def test_a_change_of_one_rows_settings_asks_that_row_alone(path: Path) -> None:
    asked(path, body_lines({"model": "a"}, {"model": "b"}, {"seed": 1}), "jsonl")
    assert len(asked(path, body_lines({"model": "a"}, {"model": "c"}, {"seed": 1}), "jsonl")) == 1
