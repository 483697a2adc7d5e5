"""Files that are made from an output file: what stands in them, when they are written, and that none is ever half."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import Cut, FakeEngine
from hypothesis import example, given
from hypothesis import strategies as st

from flexllm.batch import views
from flexllm.batch.items import BatchItem
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.batch.sinks import FailureSink, LineSink
from flexllm.batch.views import OWN_COLUMNS, LinesView, TableView, check_view, column_names
from flexllm.cancel import CancelToken
from flexllm.errors import CheckpointError, RateLimited

QUIET = ProgressOptions(show=False)


UNREADABLE = "" if sys.version_info >= (3, 11) else "\0"
"""What the csv module of Python 3.10 refuses to read."""

ODD = st.one_of(st.sampled_from("\"',;=\t\r\n \\"), st.characters(codec="utf-8", exclude_characters=UNREADABLE))
"""Characters, those that mean something in a table above all."""


def answer(item: BatchItem) -> Any:
    assert item.request is not None
    question = item.request.messages[-1]["content"]
    return RateLimited("too many", status=429) if question.startswith("bad") else f"to {question}"


def run(
    path: Path | None, *questions: str, cut_after: int | None = None, model: str = "m", **more: Any
) -> list[BatchItem]:
    """Run a batch whose rows have their question as metadata `q`; return what was asked."""
    sinks, made = more.pop("sinks", ()), more.pop("views", ())
    limit = more.pop("limit", None)
    options = BatchOptions(
        output=path, checkpoint=CheckpointOptions(flush_interval=1_000.0, **more), progress=QUIET, limit=limit
    )
    engine = FakeEngine(answer, cut_after=cut_after)
    job = BatchJob(engine, options, CancelToken(), sinks=sinks, views=made)
    try:
        list(job.run(ListRows(list(questions), model, {}, [{"q": question} for question in questions])))
    except Cut:
        pass
    return engine.sold


def table(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    separator = "\t" if ".tsv" in path.name else ","
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))


def column(path: Path, name: str) -> list[str]:
    return [row[name] for row in table(path)]


def lines_of(*rows: dict[str, Any]) -> list[bytes]:
    return [json.dumps(row).encode() + b"\n" for row in rows]


# --- what stands in a table


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.csv.gz", "OUT.TSV.GZ"])
def test_a_table_has_the_fields_of_the_input_and_then_ours(tmp_path: Path, name: str) -> None:
    view = tmp_path / name
    TableView(view).write(
        lines_of(
            {"index": 0, "output": "yes", "status": "success", "metadata": {"id": 1, "tags": ["a", "é"]}, "model": "m",
             "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "cost": 0.0000355},
            {"index": 1, "output": None, "status": "error", "metadata": {"id": None, "note": True},
             "error": {"class": "RateLimited", "message": "too many", "cost": 0.25}},
        )
    )  # fmt: skip
    raw = gzip.decompress(view.read_bytes()) if name.lower().endswith(".gz") else view.read_bytes()
    separator = "\t" if "tsv" in name.lower() else ","
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=separator))
    assert rows == [
        ["id", "tags", "note", *OWN_COLUMNS],
        ["1", '["a", "é"]', "", "yes", "success", "", "m", "3", "4", "0.0000355"],
        ["", "", "true", "", "error", "RateLimited: too many", "", "", "", "0.25"],
    ]
    assert raw.startswith(b"\xef\xbb\xbf") is ("csv" in name)
    assert raw.endswith(b"\r\n") is ("csv" in name)


def test_a_field_with_a_name_of_ours_gets_another() -> None:
    assert column_names(["output", "q", "input.output", "cost"]) == [
        "input.input.output",
        "q",
        "input.output",
        "input.cost",
    ]


def test_metadata_that_are_no_object_are_a_column(tmp_path: Path) -> None:
    TableView(tmp_path / "t.csv").write(lines_of({"index": 0, "output": "a", "status": "success", "metadata": [1]}))
    assert column(tmp_path / "t.csv", "metadata") == ["[1]"]


@given(
    rows=st.lists(st.lists(st.text(ODD, max_size=8), min_size=2, max_size=2), max_size=5),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
@example(rows=[["a\rb", "\r"], ["", "\r\n"]], suffix=".csv")
@example(rows=[["a\rb", "\t"], ["", '"']], suffix=".tsv")
def test_whatever_a_text_holds_it_is_read_back(
    rows: list[list[str]], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    view = tmp_path_factory.getbasetemp() / f"generated{suffix}"
    TableView(view).write(
        lines_of(
            *({"index": 0, "output": output, "status": "success", "metadata": {"f": field}} for field, output in rows)
        )
    )
    assert [[row["f"], row["output"]] for row in table(view)] == rows


def test_half_a_character_becomes_a_question_mark(tmp_path: Path) -> None:
    TableView(tmp_path / "t.csv").write([b'{"index": 0, "output": "a\\ud83d", "status": "success"}\n'])
    assert column(tmp_path / "t.csv", "output") == ["a?"]


def test_the_same_lines_compressed_are_the_same_bytes(tmp_path: Path) -> None:
    lines = lines_of({"index": 0, "output": "a"})
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        LinesView(tmp_path / name).write(lines)
    one, other = ((tmp_path / name).read_bytes() for name in ("a.jsonl.gz", "b.jsonl.gz"))
    assert one == other
    assert one[4:8] == bytes(4)  # no time stands in it
    assert gzip.decompress(one) == b"".join(lines)


# --- when it is written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.jsonl"


@pytest.fixture
def view(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def test_a_table_is_in_the_order_of_the_input_with_failed_rows_too(path: Path, view: Path) -> None:
    run(path, "a", "bad", "c", views=[TableView(view)])
    assert [(row["q"], row["output"], row["status"]) for row in table(view)] == [
        ("a", "to a", "success"), ("bad", "", "error"), ("c", "to c", "success"),
    ]  # fmt: skip


def test_a_run_that_is_cut_writes_what_there_is(path: Path, view: Path) -> None:
    run(path, "a", "b", "c", cut_after=2, views=[TableView(view)])
    assert column(view, "q") == ["a", "b"]


def test_a_run_that_is_cut_early_keeps_what_earlier_ones_answered(path: Path, view: Path) -> None:
    run(path, "bad a", "b", "c", "d", views=[TableView(view)])
    run(path, "bad a", "b", "c", "d", cut_after=0, views=[TableView(view)])
    assert column(view, "q") == ["b", "c", "d"]


def test_rows_that_were_taken_out_of_the_input_are_taken_out_of_the_table(path: Path, view: Path) -> None:
    run(path, "a", "b", "c", views=[TableView(view)])
    run(path, "c", "a", views=[TableView(view)])
    assert column(view, "q") == ["c", "a"]


def test_a_limited_run_keeps_the_rest_in_the_table(path: Path, view: Path) -> None:
    run(path, "a", "b", "c", views=[TableView(view)])
    run(path, "a", "b", "c", limit=1, views=[TableView(view)])
    assert column(view, "q") == ["a", "b", "c"]


def test_rows_that_are_asked_anew_stand_once_in_the_table(path: Path, view: Path) -> None:
    run(path, "a", "b", views=[TableView(view)])
    run(path, "a", "b", model="other", cut_after=1, views=[TableView(view)])
    assert column(view, "q") == ["a", "b"]
    run(path, "a", "b", model="third", limit=1, views=[TableView(view)])
    assert column(view, "q") == ["a", "b"]


def test_failed_rows_are_the_very_lines_of_the_output_file(path: Path, tmp_path: Path) -> None:
    errors = tmp_path / "bad.jsonl"
    run(path, "a", "bad b", "c", "bad d", views=[LinesView(errors, failed_alone=True)])
    assert errors.read_bytes().splitlines() == [path.read_bytes().splitlines()[number] for number in (1, 3)]


def test_failed_rows_that_are_left_alone_are_among_them_and_answered_ones_go(path: Path, tmp_path: Path) -> None:
    errors = tmp_path / "bad.jsonl"
    run(path, "a", "bad b")
    run(path, "a", "bad b", retry_failed=False, views=[LinesView(errors, failed_alone=True)])
    assert errors.read_bytes() == path.read_bytes().splitlines(keepends=True)[1]
    run(path, "a", "b", views=[LinesView(errors, failed_alone=True)])
    assert errors.read_bytes() == b""


def test_a_second_interrupt_does_not_wait_for_a_view(path: Path, view: Path) -> None:
    cancel = CancelToken()

    def interrupted(data: bytes) -> None:
        cancel.stop()
        raise KeyboardInterrupt

    options = BatchOptions(output=path, progress=QUIET)
    job = BatchJob(FakeEngine(answer), options, cancel, sinks=[LineSink(interrupted)], views=[TableView(view)])
    with pytest.raises(KeyboardInterrupt):
        list(job.run(ListRows(["a"], "m", {})))
    assert len(path.read_bytes().splitlines()) == 1
    assert not view.exists()


# --- never half, never something else


def test_a_view_that_cannot_be_written_is_told_and_every_answer_is_in_the_output_file(
    path: Path, view: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view.write_text("as it was")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full(TableView):
        def write(self, lines: Any) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(views.os, "fsync", full)
                super().write(lines)

    with pytest.raises(CheckpointError) as caught:
        run(path, "a", "b", views=[Full(view)])
    assert str(caught.value) == (
        f"{view} cannot be written: No space left on device; every answer that was saved is in {path}, and the same "
        "command makes the file anew"
    )
    assert len(path.read_bytes().splitlines()) == 2
    assert view.read_text() == "as it was"
    assert sorted(one.name for one in view.parent.iterdir()) == ["out.csv", "out.csv.jsonl"]


def test_a_view_that_fails_after_the_run_did_does_not_hide_why_the_run_failed(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = BatchOptions(output=path, progress=QUIET)
    job = BatchJob(
        FakeEngine(answer, cut_after=1), options, CancelToken(), views=[TableView(tmp_path / "none" / "t.csv")]
    )
    with caplog.at_level(logging.WARNING), pytest.raises(Cut):
        list(job.run(ListRows(["a", "b"], "m", {})))
    assert "t.csv cannot be written: No such file" in caplog.text
    assert not path.with_name("out.csv.jsonl.lock").exists()


@pytest.mark.parametrize("content", [b"", b'{"index": 7, "output": null, "status": "error", "input": []}\n'])
def test_a_file_of_failed_rows_may_be_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    check_view(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(content))
    check_view(tmp_path / "bad.jsonl.gz")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bad.jsonl", "bad.jsonl.gz"]


@pytest.mark.parametrize("content", [b"mine", b'{"index": 7, "output": "", "status": "success"}\n', b"\x1f\x8b half"])
def test_a_file_of_something_else_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    for name in ("bad.jsonl", "bad.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="holds something else"):
            check_view(tmp_path / name)


def test_a_table_without_its_output_file_is_not_replaced(view: Path, path: Path) -> None:
    check_view(view, path)
    view.write_text("mine")
    with pytest.raises(CheckpointError, match=r"out\.csv is there already, and out\.csv\.jsonl"):
        check_view(view, path)
    path.touch()
    check_view(view, path)


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("folder", "no regular file"), ("pipe", "no regular file"), ("none/t.csv", "does not exist")):
        with pytest.raises(CheckpointError, match=words):
            check_view(tmp_path / name)


# --- sinks


def test_a_sink_gets_the_lines_that_the_output_file_gets(path: Path) -> None:
    pieces: list[bytes] = []
    run(path, "a", "bad", sinks=[LineSink(pieces.append)])
    assert b"".join(pieces) == path.read_bytes()


def test_a_sink_gets_no_rows_of_earlier_runs(path: Path) -> None:
    run(path, "a")
    pieces: list[bytes] = []
    run(path, "a", "b", sinks=[LineSink(pieces.append, save_input=False)])
    [row] = [json.loads(line) for line in b"".join(pieces).splitlines()]
    assert (row["output"], "input" in row) == ("to b", False)


def test_failed_rows_are_kept_where_there_is_no_output_file(tmp_path: Path) -> None:
    errors = tmp_path / "bad.jsonl"
    run(None, "a", "bad b", sinks=[FailureSink(LinesView(errors))])
    [row] = [json.loads(line) for line in errors.read_bytes().splitlines()]
    assert (row["index"], row["status"], row["metadata"]) == (1, "error", {"q": "bad b"})


def test_a_sink_that_fails_ends_the_run_and_no_sink_gets_any_more(tmp_path: Path) -> None:
    taken: list[bytes] = []

    def gone(data: bytes) -> None:
        raise BrokenPipeError

    errors = tmp_path / "bad.jsonl"
    sinks = [LineSink(taken.append), LineSink(gone), FailureSink(LinesView(errors))]
    with pytest.raises(BrokenPipeError):
        run(None, "bad a", "b", "c", sinks=sinks)
    assert len(taken) == 1
    assert errors.read_bytes() == b""


def test_a_failing_sink_costs_the_output_file_nothing(path: Path) -> None:
    def gone(data: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(path, "a", "b", sinks=[LineSink(gone)])
    assert [json.loads(line)["output"] for line in path.read_bytes().splitlines()][:1] == ["to a"]
