"""The status file of a run: what stands in it, when it is written, and that nobody sees half of it."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock

from flexllm.batch import status
from flexllm.batch.lock import birth
from flexllm.batch.status import StatusFile, read_status
from flexllm.batch.tally import Tally
from flexllm.errors import CheckpointError, OutputLocked, RateLimited

FACTS = {"input": "/data/in.jsonl", "output": "/data/out.jsonl", "model": "m"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_800_000_000.0)


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_it_is_there_before_the_first_row(path: Path, clock: FakeClock) -> None:
    StatusFile(path, FACTS, clock=clock)
    found = told(path)
    assert (found["version"], found["state"], found["pid"], found["host"]) == (
        1, "running", os.getpid(), socket.gethostname(),
    )  # fmt: skip
    assert (found["started"], found["started_unix"]) == ("2027-01-15T08:00:00Z", 1_800_000_000.0)
    assert (found["total"], found["exit_code"], found["eta_seconds"]) == (None, None, None)
    assert {name: found[name] for name in FACTS} == FACTS


def test_it_is_written_at_most_once_a_second(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    tally, renames = Tally(total=100), 0
    file = StatusFile(path, FACTS, clock=clock)
    file.begin(tally)
    rename = os.replace

    def counted(*names: Any) -> None:
        nonlocal renames
        renames += 1
        rename(*names)

    monkeypatch.setattr("os.replace", counted)
    for _ in range(50):
        clock.advance(0.1)
        tally.success += 1
        file.update(tally)
    assert renames in (4, 5)  # tenths of a second add up to a little less than whole ones
    assert 40 <= told(path)["success"] <= 50


def test_rate_and_remaining_time_are_those_of_this_run(path: Path, clock: FakeClock) -> None:
    file = StatusFile(path, FACTS, clock=clock)
    clock.advance(30.0)  # an output file that was long to read
    tally = Tally(total=100, success=40, resumed=40)
    file.begin(tally)
    clock.advance(5.0)
    tally.success += 10
    tally.failed += 10
    file.update(tally)
    found = told(path)
    assert (found["requests_per_second"], found["eta_seconds"]) == (4.0, 10.0)
    assert (found["success"], found["failed"], found["resumed"]) == (50, 10, 40)
    assert found["updated_unix"] - found["started_unix"] == 35.0


def test_errors_are_there_by_class_with_examples(path: Path, clock: FakeClock) -> None:
    file, tally = StatusFile(path, FACTS, clock=clock), Tally(total=2)
    file.begin(tally)
    tally.count_error(RateLimited("slow down", status=429, request_id="req_1", attempts=3), 7)
    file.close()
    found = told(path)
    assert found["errors_by_class"] == {"RateLimited": 1}
    assert found["errors"]["RateLimited"]["examples"] == [{"row": 7, "message": "slow down", "request_id": "req_1"}]
    assert found["retries"] == 2


@pytest.mark.parametrize(
    ("code", "error", "is_complete", "stopped", "state"),
    [
        (0, None, True, None, "done"),
        (1, None, True, None, "done"),  # every row is settled; some failed
        (8, None, False, "max_time=5 seconds are over", "stopped"),
        (143, None, False, None, "interrupted"),
        (130, "interrupted", False, None, "interrupted"),
        (9, "out.jsonl cannot be written", False, None, "failed"),
    ],
)
def test_how_it_ended(
    path: Path, clock: FakeClock, code: int, error: str | None, is_complete: bool, stopped: str | None, state: str
) -> None:
    file, tally = StatusFile(path, FACTS, clock=clock), Tally(total=1)
    file.begin(tally)
    tally.is_complete, tally.stopped = is_complete, stopped
    file.end(code, error)
    found = told(path)
    assert (found["state"], found["exit_code"], found["error"], found["stopped"]) == (state, code, error, stopped)
    assert found["eta_seconds"] is None


def test_an_error_before_the_first_row_is_told_too(path: Path, clock: FakeClock) -> None:
    StatusFile(path, FACTS, clock=clock).end(5, "out.jsonl is being written by process 7")
    assert (told(path)["state"], told(path)["exit_code"]) == ("failed", 5)


def test_two_runs_cannot_share_a_file(path: Path, clock: FakeClock) -> None:
    StatusFile(path, FACTS, clock=clock).begin(Tally(total=3))
    before = path.read_bytes()
    with pytest.raises(
        OutputLocked, match=rf"status\.json is being written by process {os.getpid()} on .* since 2027-"
    ):
        StatusFile(path, {**FACTS, "output": "/data/other.jsonl"}, clock=clock)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["status.json"]


def test_of_two_runs_that_begin_at_once_the_last_to_write_has_the_file(path: Path, clock: FakeClock) -> None:
    first = StatusFile(path, FACTS, clock=clock)
    parent = os.getppid()
    path.write_text(json.dumps({**told(path), "pid": parent, "born": birth(parent)}))
    others = path.read_bytes()
    with pytest.raises(OutputLocked, match=f"by process {parent} on"):
        first.begin(Tally(total=3))
    clock.advance(5.0)
    first.update(Tally(total=3))
    first.close()
    first.end(5, "the status file is being written")
    assert path.read_bytes() == others


@pytest.mark.parametrize("fields", [{"state": "done"}, {"pid": 2**30}, {"host": "elsewhere"}, {"born": 7}, None])
def test_a_file_that_nobody_writes_any_more_is_taken_over_at_the_first_row(
    path: Path, clock: FakeClock, fields: dict[str, Any] | None
) -> None:
    file = StatusFile(path, FACTS, clock=clock)
    if fields is None:
        path.unlink()
    else:
        path.write_text(json.dumps({**told(path), **fields}))
    file.begin(Tally(total=3))
    file.end(0, None)
    assert (told(path)["pid"], told(path)["born"], told(path)["state"]) == (os.getpid(), birth(os.getpid()), "done")


def test_the_file_of_a_process_that_died_is_taken_over(path: Path, clock: FakeClock) -> None:
    StatusFile(path, FACTS, clock=clock)
    path.write_text(json.dumps({**told(path), "pid": 2**30, "success": 5}))
    StatusFile(path, FACTS, clock=clock).end(3, "no model")
    assert (told(path)["pid"], told(path)["success"], told(path)["state"]) == (os.getpid(), 0, "failed")


def test_what_a_run_that_was_killed_left_beside_it_is_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary: list[Path] = []
    rename = os.replace

    def seen(*names: Any) -> None:
        temporary.append(names[0])
        rename(*names)

    monkeypatch.setattr(os, "replace", seen)
    StatusFile(path, FACTS).end(0, None)
    for one in temporary:
        one.write_text("half of")
    StatusFile(path, FACTS)
    assert [one.name for one in path.parent.iterdir()] == ["status.json"]


def test_a_full_disk_ends_no_run(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tally = StatusFile(path, FACTS, clock=clock), Tally(total=3)
    file.begin(tally)
    before = path.read_bytes()

    def full(*names: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        clock.advance(5.0)
        file.update(tally)
        file.close()
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["status.json"]
    file.end(0, None)
    assert told(path)["state"] == "done"


@pytest.mark.parametrize("name", ["none/status.json", "folder", "/dev/null"])
def test_a_file_that_cannot_be_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"the status file .* (cannot be written|is no file).*; name another one"):
        StatusFile(tmp_path / name, FACTS)


@pytest.mark.parametrize(
    "content", [b"models: []\n", b'{"index": 0, "output": "paid for"}\n', b"{}", b"\xff\x00", b"x" * 2_000_000]
)
def test_a_file_of_something_else_is_not_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is there already and holds something else; nothing was changed: name"):
        StatusFile(path, FACTS)
    assert path.read_bytes() == content
    assert [one.name for one in path.parent.iterdir()] == ["status.json"]


def test_an_empty_file_and_that_of_an_earlier_run_are_replaced_with_their_mode(path: Path) -> None:
    path.touch(0o600)
    StatusFile(path, FACTS).end(0, None)
    path.chmod(0o640)
    StatusFile(path, FACTS).end(3, "no model")
    assert (told(path)["state"], path.stat().st_mode & 0o777) == ("failed", 0o640)


def test_a_symbolic_link_stays_one(tmp_path: Path, path: Path, clock: FakeClock) -> None:
    path.symlink_to(tmp_path / "real.json")
    StatusFile(path, FACTS, clock=clock).end(0, None)
    assert path.is_symlink()
    assert told(tmp_path / "real.json")["state"] == "done"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"index": 0, "output": "a"}\n', b'{"version": 1}', b"\xff"])
def test_other_files_are_no_status_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_status(path) is None


def test_a_pipe_is_no_status_file_and_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert read_status(path) is None


def test_a_huge_file_is_not_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StatusFile(path, FACTS)
    assert read_status(path) is not None
    monkeypatch.setattr(status, "MOST_BYTES", 100)
    assert read_status(path) is None
