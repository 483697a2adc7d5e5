"""One run at a time for each output file, and who holds the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flexllm.batch.lock import OutputLock, is_alive, lock_holder
from flexllm.errors import CheckpointError, OutputLocked

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from flexllm.batch.lock import OutputLock, is_alive, lock_holder
lock = OutputLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@contextmanager
def another_process(output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that holds the lock until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def test_a_second_batch_of_this_process_is_refused(output: Path) -> None:
    lock = OutputLock(output)
    with pytest.raises(OutputLocked, match=rf"out\.jsonl is being written by process {os.getpid()} on .* since 2"):
        OutputLock(output)
    lock.release()


def test_a_released_lock_can_be_taken_again(output: Path) -> None:
    for _ in range(3):
        OutputLock(output).release()


def test_a_released_lock_leaves_no_file(output: Path) -> None:
    lock = OutputLock(output)
    lock.release()
    lock.release()
    assert list(output.parent.iterdir()) == []


def test_outputs_beside_each_other_have_locks_of_their_own(output: Path) -> None:
    locks = [OutputLock(output), OutputLock(output.with_name("other.jsonl"))]
    for lock in locks:
        lock.release()


def test_a_lock_file_that_nobody_holds_is_no_hindrance(output: Path) -> None:
    lock_file = output.with_name("out.jsonl.lock")
    lock_file.write_text('{"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}')
    lock = OutputLock(output)
    with pytest.raises(OutputLocked, match=f"process {os.getpid()} "):
        OutputLock(output)
    lock.release()
    assert not lock_file.exists()


def test_a_lock_file_that_says_nothing_still_locks(output: Path) -> None:
    lock = OutputLock(output)
    output.with_name("out.jsonl.lock").write_bytes(b"")
    with pytest.raises(OutputLocked, match="by another process;"):
        OutputLock(output)
    lock.release()


def test_a_lock_file_that_cannot_be_made_is_told(output: Path) -> None:
    output.with_name("out.jsonl.lock").mkdir()
    with pytest.raises(CheckpointError, match=r"out\.jsonl cannot be written"):
        OutputLock(output)


def test_a_lock_whose_file_was_removed_does_not_lock_the_next_one_out(output: Path) -> None:
    lock = OutputLock(output)
    output.with_name("out.jsonl.lock").unlink()
    other = OutputLock(output)
    other.release()
    lock.release()


@pytest.mark.slow
def test_another_process_is_refused_until_the_owner_is_done(output: Path) -> None:
    with another_process(output) as owner:
        with pytest.raises(OutputLocked, match=f"by process {owner.pid} on"):
            OutputLock(output)
        owner.communicate()
    OutputLock(output).release()


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_taken_over(output: Path) -> None:
    with another_process(output) as owner:
        owner.kill()
        assert owner.wait() == -signal.SIGKILL
    assert output.with_name("out.jsonl.lock").exists()
    lock = OutputLock(output)
    with pytest.raises(OutputLocked, match=f"process {os.getpid()} "):
        OutputLock(output)
    lock.release()
    assert list(output.parent.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_hold_its_parents_lock(output: Path) -> None:
    lock = OutputLock(output)
    ready, go_on = os.pipe()
    child = os.fork()
    if not child:
        os.close(go_on)
        os.read(ready, 1)  # until the parent is done
        os._exit(0)
    try:
        lock.release()
        OutputLock(output).release()
    finally:
        os.close(go_on)
        os.close(ready)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_release_its_parents_lock(output: Path) -> None:
    lock = OutputLock(output)
    child = os.fork()
    if not child:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(OutputLocked):
        OutputLock(output)
    lock.release()


def test_who_looks_sees_the_holder_and_what_he_tells_of_his_run(output: Path) -> None:
    assert lock_holder(output) is None
    lock = OutputLock(output)
    lock.sign(total=12, start=340)
    holder = lock_holder(output)
    lock.release()
    assert holder is not None
    assert (holder.pid, holder.total, holder.start, holder.is_alive) == (os.getpid(), 12, 340, True)
    assert lock_holder(output) is None


@pytest.mark.parametrize("before", ["", json.dumps({"pid": 1, "host": "another", "since": "2026", "more": "x" * 300})])
def test_who_looks_while_the_lock_is_signed_sees_a_whole_signature(
    output: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    output.with_name("out.jsonl.lock").write_text(before)
    seen = []

    def watched(call: Any) -> Any:
        def instead(*arguments: Any) -> Any:
            done = call(*arguments)
            seen.append(lock_holder(output))
            return done

        return instead

    monkeypatch.setattr(os, "pwrite", watched(os.pwrite))
    monkeypatch.setattr(os, "ftruncate", watched(os.ftruncate))
    lock = OutputLock(output)
    lock.sign(total=12)
    content = output.with_name("out.jsonl.lock").read_bytes()
    lock.release()
    assert [one and one.pid for one in seen] == [os.getpid()] * len(seen)
    assert seen
    assert content == content.strip()  # nothing is left of what stood there before


def test_a_holder_on_another_machine_may_live(output: Path) -> None:
    output.with_name("out.jsonl.lock").write_text('{"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}')
    holder = lock_holder(output)
    assert holder is not None
    assert (holder.host, holder.is_alive) == ("elsewhere", None)


@pytest.mark.slow
def test_a_process_that_was_killed_is_dead_before_and_after_it_is_buried(output: Path) -> None:
    with another_process(output) as owner:
        holder = lock_holder(output)
        assert holder is not None
        assert holder.is_alive
        owner.kill()
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        holder = lock_holder(output)
        assert holder is not None
        assert holder.is_alive is False
        assert is_alive(owner.pid, holder.host) is False  # as an older lock tells it
        owner.wait()
        holder = lock_holder(output)
        assert holder is not None
        assert holder.is_alive is False
