"""The output file as a file: what is appended, replaced and refused, and what a bad disk does to it."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flexllm.batch.output import OutputFile, append_beside
from flexllm.errors import CheckpointError, OutputLocked

NEVER = 1_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def files_beside(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SmallDisk:
    """Stands for `os.pwrite` on a disk that takes `room` more bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._pwrite = os.pwrite

    def __call__(self, descriptor: int, data: bytes, offset: int) -> int:
        if data and not self.room:
            raise no_space()
        written = self._pwrite(descriptor, bytes(data)[: self.room], offset)
        self.room -= written
        return written


class SyncRecorder:
    """Stands for `os.fsync` and keeps what was in the file when it was called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seen: list[bytes] = []
        self.called = threading.Event()
        self.error: OSError | None = None

    def __call__(self, descriptor: int) -> None:
        self.seen.append(self._path.read_bytes())
        self.called.set()
        if self.error is not None:
            raise self.error


# --- appending and reading


def test_what_is_appended_is_in_the_file_at_once(path: Path) -> None:
    output = OutputFile(path, NEVER)
    assert output.append(b"one\n") == 0
    assert output.append(b"two\nthree\n") == 4
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    output.close()


def test_a_file_is_gone_on_with_at_its_end(path: Path) -> None:
    path.write_bytes(b"one\n")
    output = OutputFile(path, NEVER)
    assert output.append(b"two\n") == 4
    output.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_lines_are_read_as_they_stand(path: Path) -> None:
    path.write_bytes(b"one\r\n\n\xff\ntorn")
    output = OutputFile(path, NEVER)
    assert list(output.lines()) == [b"one\r\n", b"\n", b"\xff\n", b"torn"]
    output.close()


def test_a_line_is_read_where_it_starts_also_after_more_was_appended(path: Path) -> None:
    output = OutputFile(path, NEVER)
    places = [output.append(b"line %d\n" % number) for number in range(3)]
    assert output.line_at(places[1]) == b"line 1\n"
    places.append(output.append(b"line 3\n"))
    assert [output.line_at(place) for place in reversed(places)] == [b"line 3\n", b"line 2\n", b"line 1\n", b"line 0\n"]
    output.close()


def test_threads_read_without_disturbing_each_other(path: Path) -> None:
    output = OutputFile(path, NEVER)
    places = [output.append(b"line %d\n" % number) for number in range(2)]
    others: list[threading.Thread] = []

    def disturb(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_name == "line_at" and event == "line":
            others.append(threading.Thread(target=output.line_at, args=(places[1],)))
            others[-1].start()
            others[-1].join(0.01)  # it may have to wait for us
        return disturb

    sys.settrace(disturb)
    try:
        line = output.line_at(places[0])
    finally:
        sys.settrace(None)
    for other in others:
        other.join()
    output.close()
    assert others
    assert line == b"line 0\n"


def test_the_end_is_cut_off(path: Path) -> None:
    path.write_bytes(b"one\ntorn")
    output = OutputFile(path, NEVER)
    output.truncate(4)
    assert output.append(b"two\n") == 4
    output.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_write_that_takes_a_part_is_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, bytes(data)[:3], offset))
    output = OutputFile(path, NEVER)
    output.append(b"a line of some length\n")
    output.append(b"two\n")
    output.close()
    assert path.read_bytes() == b"a line of some length\ntwo\n"


# --- a full disk


@pytest.mark.parametrize("room", range(9))
def test_a_full_disk_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    output = OutputFile(path, NEVER)
    output.append(b"one\n")
    disk = SmallDisk(room)
    monkeypatch.setattr(os, "pwrite", disk)
    with pytest.raises(CheckpointError, match=r"out\.jsonl cannot be written: No space left on device"):
        output.append(b"two\nthree\n")
    assert path.read_bytes() == b"one\n"
    disk.room = 100
    assert output.append(b"four\n") == 4
    output.close()
    assert path.read_bytes() == b"one\nfour\n"


def test_a_full_disk_stops_the_replacing_and_leaves_the_file_as_it_was(path: Path) -> None:
    def lines() -> Iterator[bytes]:
        yield b"two\n"
        raise no_space()

    output = OutputFile(path, NEVER)
    output.append(b"one\ntwo\n")
    with pytest.raises(CheckpointError, match=r"every answer is still in it.*No space left"):
        output.replace(lines())
    assert path.read_bytes() == b"one\ntwo\n"
    output.append(b"three\n")
    output.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert files_beside(path) == {"out.jsonl"}


# --- replacing


def test_the_content_is_replaced_and_appended_to(path: Path) -> None:
    output = OutputFile(path, NEVER)
    output.append(b"two\none\n")
    output.line_at(0)
    output.replace([b"one\n", b"two\n"])
    assert path.read_bytes() == b"one\ntwo\n"
    assert output.line_at(4) == b"two\n"
    assert output.append(b"three\n") == 8
    output.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert files_beside(path) == {"out.jsonl"}


def test_the_content_is_replaced_by_its_own_lines(path: Path) -> None:
    output = OutputFile(path, NEVER)
    places = [output.append(line) for line in (b"b\n", b"a\n", b"c\n")]
    output.replace(output.line_at(places[number]) for number in (1, 0, 2))
    output.close()
    assert path.read_bytes() == b"a\nb\nc\n"


def test_an_old_temporary_file_is_no_hindrance(path: Path) -> None:
    path.with_name("out.jsonl.tmp").write_bytes(b"left by a run that was killed, and longer than what is written now\n")
    output = OutputFile(path, NEVER)
    output.replace([b"one\n"])
    output.close()
    assert path.read_bytes() == b"one\n"
    assert files_beside(path) == {"out.jsonl"}


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_the_mode_is_kept(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    output = OutputFile(path, NEVER)
    output.append(b"one\n")
    output.replace([b"one\n"])
    output.close()
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_symbolic_link_stays_one(path: Path) -> None:
    target = path.with_name("elsewhere.jsonl")
    path.symlink_to(target)
    output = OutputFile(path, NEVER)
    output.append(b"two\none\n")
    output.replace([b"one\n", b"two\n"])
    output.close()
    assert path.is_symlink()
    assert target.read_bytes() == b"one\ntwo\n"
    assert files_beside(path) == {"out.jsonl", "elsewhere.jsonl"}


def test_a_link_and_its_target_have_one_lock(path: Path) -> None:
    link = path.with_name("link.jsonl")
    link.symlink_to(path)
    output = OutputFile(path, NEVER)
    with pytest.raises(OutputLocked):
        OutputFile(link, NEVER)
    output.close()


def test_a_disk_that_keeps_something_else_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        temporary = path.with_name("out.jsonl.tmp")
        if temporary.exists():
            temporary.write_bytes(b"onf\n")

    output = OutputFile(path, NEVER)
    output.append(b"one\n")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError, match="does not read back"):
        output.replace([b"one\n"])
    output.close()
    assert path.read_bytes() == b"one\n"
    assert files_beside(path) == {"out.jsonl"}


def test_the_new_content_is_on_the_disk_before_it_takes_the_place_of_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = OutputFile(path, NEVER)
    output.append(b"old\n")
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record(name: str, real: Callable[..., object]) -> Callable[..., None]:
        def call(*args: object) -> None:
            events.append(name)
            real(*args)

        return call

    monkeypatch.setattr(os, "fsync", record("fsync", fsync))
    monkeypatch.setattr(os, "replace", record("replace", replace))
    output.replace([b"new\n"])
    assert events == ["fsync", "replace", "fsync"]  # the file, its new name, the folder
    output.close()


# --- what cannot be an output file


def test_a_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "results.jsonl"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"results\.jsonl is a folder; name a file in it"):
        OutputFile(folder, NEVER)
    assert files_beside(folder) == {"results.jsonl"}


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the folder .*missing does not exist"):
        OutputFile(tmp_path / "missing" / "out.jsonl", NEVER)


def test_a_pipe_is_refused_without_waiting_for_its_reader(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        OutputFile(path, NEVER)


def test_a_device_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "null.jsonl"
    link.symlink_to("/dev/null")
    with pytest.raises(CheckpointError, match="not a regular file"):
        OutputFile(link, NEVER)


def test_a_link_to_itself_is_refused(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(CheckpointError, match=r"out\.jsonl cannot be written"):
        OutputFile(path, NEVER)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written: File name too long"):
        OutputFile(tmp_path / ("x" * 300 + ".jsonl"), NEVER)


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.lock"])
def test_a_folder_that_cannot_be_written_in_is_told(path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real_open = os.open

    def refusing(file: str | Path, flags: int, *args: int) -> int:
        if os.path.basename(file) == name and flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(file, flags, *args)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(CheckpointError, match=r"out\.jsonl cannot be written: Permission denied"):
        OutputFile(path, NEVER)
    monkeypatch.undo()
    OutputFile(path, NEVER).close()  # and it left no lock


# --- syncing


def test_without_an_interval_every_write_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SyncRecorder(path)
    monkeypatch.setattr(os, "fsync", recorder)
    output = OutputFile(path, 0.0)
    output.append(b"one\n")
    output.append(b"two\n")
    assert recorder.seen == [b"one\n", b"one\ntwo\n"]
    output.close()


def test_what_is_written_is_synced_within_the_interval(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SyncRecorder(path)
    monkeypatch.setattr(os, "fsync", recorder)
    output = OutputFile(path, 0.002)
    for line in (b"one\n", b"two\n"):
        recorder.called.clear()
        output.append(line)
        assert recorder.called.wait(60.0)
    assert recorder.seen[-1] == b"one\ntwo\n"
    output.close()


def test_writes_do_not_wait_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SyncRecorder(path)
    monkeypatch.setattr(os, "fsync", recorder)
    output = OutputFile(path, NEVER)
    for _ in range(100):
        output.append(b"line\n")
    assert recorder.seen == []
    output.close()
    assert recorder.seen == [b"line\n" * 100]


def test_a_failed_sync_is_told_by_the_next_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SyncRecorder(path)
    recorder.error = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(os, "fsync", recorder)
    output = OutputFile(path, 0.0)
    with pytest.raises(CheckpointError, match="Input/output error"):
        output.append(b"one\n")
    monkeypatch.undo()
    output.close()


def test_a_failed_sync_at_the_end_is_told_and_the_lock_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = SyncRecorder(path)
    recorder.error = OSError(errno.EIO, os.strerror(errno.EIO))
    output = OutputFile(path, NEVER)
    output.append(b"one\n")
    monkeypatch.setattr(os, "fsync", recorder)
    with pytest.raises(CheckpointError, match="Input/output error"):
        output.close()
    monkeypatch.undo()
    OutputFile(path, NEVER).close()


@pytest.mark.parametrize("interval", [1e12, float("inf")])
def test_an_interval_may_be_longer_than_a_clock_counts(path: Path, interval: float) -> None:
    output = OutputFile(path, interval)
    output.append(b"one\n")
    output.close()
    assert path.read_bytes() == b"one\n"


def test_closing_twice_is_closing_once(path: Path) -> None:
    output = OutputFile(path, NEVER)
    output.close()
    output.close()
    assert files_beside(path) == {"out.jsonl"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_file_alone(path: Path) -> None:
    output = OutputFile(path, NEVER)
    output.append(b"one\n")
    child = os.fork()
    if not child:
        code = 1
        try:
            with pytest.raises(CheckpointError):
                output.append(b"of the child\n")
            output.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    output.append(b"two\n")
    output.close()
    assert path.read_bytes() == b"one\ntwo\n"


# --- the file beside


def test_the_file_beside_is_made_and_added_to(path: Path) -> None:
    assert append_beside(path, [b"one\n"]) == 1
    assert append_beside(path, iter([b"two\n", b"three\n"])) == 2
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_torn_line_in_the_file_beside_is_closed_first(path: Path) -> None:
    path.write_bytes(b"one\nto")
    append_beside(path, [b"three\n"])
    assert path.read_bytes() == b"one\nto\nthree\n"


def test_a_file_beside_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        append_beside(tmp_path, [b"one\n"])


def test_a_full_disk_keeps_what_the_file_beside_held(path: Path) -> None:
    def lines() -> Iterator[bytes]:
        yield b"two\n"
        raise no_space()

    path.write_bytes(b"one\n")
    with pytest.raises(CheckpointError, match="No space left"):
        append_beside(path, lines())
    assert path.read_bytes().startswith(b"one\n")
