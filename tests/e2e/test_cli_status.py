"""`flexllm status`: what a run has done, asked from another shell, while it goes on and after it was killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import PROGRAM, at, rows_of, run, write_questions
from fakes import eventually

from flexllm.batch.lock import birth
from flexllm.batch.status import StatusFile
from flexllm.batch.tally import Tally
from flexllm.cli.main import main
from flexllm.mock import MockServer

pytestmark = pytest.mark.slow

BATCH = ("batch", "in.jsonl", "-o", "out.jsonl", "--status-file", "status.json")


class Told(NamedTuple):
    """What the command said in this process."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str) -> Told:
        capfd.readouterr()
        return Told(main(["status", *arguments]), *capfd.readouterr())

    return ask


@contextmanager
def under_way(server: MockServer, rows: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a batch until so many rows are in its file."""
    process = subprocess.Popen(
        [*PROGRAM, *BATCH, "-c", "2"], env={**os.environ, **at(server)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out = Path("out.jsonl")
        assert eventually(lambda: out.exists() and out.read_bytes().count(b"\n") >= rows)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_is_watched_while_it_goes_on_and_its_death_is_noticed(folder: Path, ask: Any) -> None:
    write_questions(folder / "in.jsonl", 600)
    with MockServer(delay=0.1) as server, under_way(server, 6) as process:
        told, of_file, again = ask("out.jsonl", "--json"), ask("status.json", "--json"), ask("out.jsonl")
        for one in (told, of_file):
            assert one.code == 1
            assert (one.data["state"], one.data["total"], one.data["complete"]) == ("running", 600, False)
            assert (one.data["holder"]["pid"], one.data["holder"]["alive"]) == (process.pid, True)
            assert one.data["failed"] == 0
        assert told.data["success"] + told.data["missing"] == 600
        assert told.data["success"] >= 6
        assert told.data["requests_per_second"] > 0
        assert told.data["eta_seconds"] > 0
        first, second, third, *_ = again.out.splitlines()
        assert first.startswith(f"out.jsonl: a run is writing it (process {process.pid} on ")
        assert second.endswith(" to come")
        assert "rows a second, about " in third
        process.kill()
        process.wait()

    for name in ("out.jsonl", "status.json"):
        dead = ask(name, "--json")
        assert (dead.code, dead.data["state"], dead.data["total"]) == (1, "died", 600)
        text = ask(name).out
        assert "the last run was killed before its end" in text
        assert "run the same command again" in text
    assert Path("out.jsonl.lock").exists()


def test_a_second_run_with_the_same_status_file_is_refused_before_it_starts(folder: Path, ask: Any) -> None:
    write_questions(folder / "in.jsonl", 600)
    other = ("batch", "in.jsonl", "-o", "other.jsonl", "--status-file", "./status.json")
    with MockServer(delay=0.1) as server, MockServer() as idle, under_way(server, 2) as process:
        refused = run(*other, "--log-file", "run.log", env=at(idle))
        assert refused.code == 5
        assert refused.sentence.startswith(
            f"flexllm: the status file status.json is being written by process {process.pid}"
        )
        assert refused.sentence.endswith("; wait for it, or name another status file")
        assert not idle.requests
        assert "ends with exit code 5" in Path("run.log").read_text()
        assert not list(folder.glob("other*"))
        assert ask("status.json", "--json").data["holder"]["pid"] == process.pid
        process.kill()
        process.wait()
        assert run(*other, "-q", env=at(idle)).code == 0  # a dead one holds nothing
    assert ask("status.json").out.startswith(f"{folder}/other.jsonl: the run is done, exit code 0")


def test_a_run_that_finds_its_status_file_taken_at_its_first_row_sends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_questions(folder / "in.jsonl", 20)
    begin, parent = StatusFile.begin, os.getppid()

    def too_late(self: StatusFile, tally: Tally) -> None:
        write_status(pid=parent, host=socket.gethostname(), born=birth(parent))
        begin(self, tally)

    monkeypatch.setattr(StatusFile, "begin", too_late)
    with MockServer() as server:
        assert main([*BATCH, "--base-url", server.base_url, "-m", "mock-model"]) == 5
        assert not server.requests
    assert f"the status file status.json is being written by process {parent} on" in capsys.readouterr().err
    assert json.loads(Path("status.json").read_text())["pid"] == parent


def test_a_run_that_is_through_has_no_more_to_tell_than_its_rows(folder: Path, ask: Any) -> None:
    write_questions(folder / "in.jsonl", 3)
    with MockServer() as server:
        assert run(*BATCH, "-q", env=at(server)).code == 0
    told = ask("out.jsonl", "--json")
    assert (told.code, told.data["state"], told.data["success"], told.data["complete"]) == (0, "ended", 3, None)
    assert "3 rows answered, of how many, the file does not tell" in ask("out.jsonl").out
    told = ask("status.json", "--json")
    assert (told.code, told.data["state"], told.data["success"], told.data["complete"]) == (0, "done", 3, True)
    assert ask("status.json").out.splitlines()[0].endswith("/out.jsonl: the run is done, exit code 0")


def test_errors_are_told_by_class_with_an_example(folder: Path, ask: Any) -> None:
    write_questions(folder / "in.jsonl", 4)
    with MockServer(script=["bad_request"]) as server:
        assert run(*BATCH, "-q", "-c", "1", env=at(server)).code == 1
    for name in ("out.jsonl", "status.json"):
        told = ask(name, "--json")
        assert (told.code, told.data["success"], told.data["failed"]) == (1, 3, 1)
        [(kind, seen)] = told.data["errors"].items()
        assert (kind, seen["count"], seen["examples"][0]["row"]) == ("BadRequest", 1, 0)
        assert "1 failed with BadRequest: row 0: " in ask(name).out


def test_why_a_run_stopped_is_told(folder: Path, ask: Any) -> None:
    write_questions(folder / "in.jsonl", 4)
    with MockServer() as server:
        assert run(*BATCH, "-q", "-c", "1", "--max-requests", "2", env=at(server)).code == 7
    told = ask("status.json")
    assert told.code == 1
    assert "the run stopped before the end of its input, exit code 7" in told.out
    assert "2 of 4 rows answered, 2 missing" in told.out
    assert "stopped with 2 of 4 rows answered: " in told.out


def test_a_torn_line_damage_and_the_file_beside_are_told(folder: Path, ask: Any) -> None:
    row = '{"index": 0, "output": "a", "status": "success", "metadata": null, "usage": null}\n'
    Path("out.jsonl").write_text(f"{row}what\n{row[:30]}")
    Path("out.aside.jsonl").write_text(row * 2)
    told = ask("out.jsonl")
    assert told.code == 1
    assert "damaged lines: 1; the next run keeps them aside" in told.out
    assert "the last line is torn" in told.out
    assert "lines of earlier inputs: 2, in out.aside.jsonl" in told.out
    assert ask("out.jsonl", "--json").data["torn"] is True
    assert len(rows_of("out.aside.jsonl")) == 2


def write_status(**fields: Any) -> None:
    known = {"version": 1, "state": "running", "pid": 4711, "host": "elsewhere", "output": "out.jsonl"}
    Path("status.json").write_text(json.dumps({**known, **fields}))


def test_of_a_run_on_another_machine_it_is_told_when_it_last_wrote_something(ask: Any) -> None:
    write_status(started="2026-01-31T03:00:00Z", updated_unix=time.time() - 7200, total=9, success=3, failed=0)
    told = ask("status.json")
    assert told.code == 1
    assert told.out.splitlines()[0] == (
        "out.jsonl: a run is writing it (process 4711 on elsewhere, since 2026-01-31T03:00:00Z); from here nobody can "
        "tell whether it still goes on, but it wrote this 2 h 0 min ago"
    )


def test_a_status_file_in_which_others_wrote_is_told_as_far_as_it_says_something(ask: Any) -> None:
    write_status(total="ten", success=2, errors={"A": 5, "B": {"count": "x", "examples": [3]}}, updated_unix="now")
    assert ask("status.json").out.splitlines()[1:] == ["2 rows answered", "0 failed with B"]
    write_status(state=5, pid="x", host=7, output=8, success=None, cost="x", total_tokens=5, errors=[1])
    assert ask("status.json").out.startswith("8: 5\n0 rows answered\n5 tokens")
    write_status(requests_per_second=1.5, eta_seconds="soon", total=-5, stopped=["x"])
    assert "1.5 rows a second\n" in ask("status.json").out


@pytest.mark.parametrize("name", ["answers.csv", "answers.tsv", "answers.csv.gz", "answers.jsonl.gz"])
def test_of_another_form_of_output_its_checkpoint_is_read(ask: Any, name: str) -> None:
    Path(f"{name}.jsonl").write_text('{"index": 0, "output": "a", "status": "success"}\n')
    told = ask(name, "--json")
    assert (told.code, told.data["success"], told.data["checkpoint"]) == (0, 1, f"{name}.jsonl")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.jsonl", "none.jsonl does not exist; name the output file of a batch, or its status file"),
        ("none.csv", "none.csv does not exist"),
        ("in.csv", "in.csv is no output file of a batch: "),
        ("in.jsonl", "in.jsonl is no output file of a batch: no line of it has an index and an output"),
        ("out.aside.jsonl", "ask for that one: flexllm status out.jsonl"),
        (".", ". is a folder; name the output file"),
        ("folder.jsonl", "folder.jsonl is a folder"),
        ("", "is a folder"),
    ],
)
def test_another_file_is_a_sentence(ask: Any, name: str, words: str) -> None:
    Path("in.csv").write_text("q\nwhat\n")
    Path("in.jsonl").write_text('{"q": "what"}\n')
    Path("folder.jsonl").mkdir()
    told = ask(name)
    assert (told.code, told.out) == (9, "")
    [sentence] = told.err.splitlines()
    assert sentence.startswith("flexllm: ")
    assert words in sentence
