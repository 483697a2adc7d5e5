"""Files that are replaced as a whole: what is kept of the old one, and what a failure leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexllm.files import check_replaceable, remove_leftovers, replace_file

ROOT = Path(__file__).parents[2]


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o604)
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_while_written(file: Path) -> list[str]:
    """Return the names of what lies beside a file while it is replaced by the same content."""
    found: list[str] = []

    def pieces() -> Iterator[bytes]:
        found.extend(one.name for one in file.parent.iterdir() if one.name.startswith("."))
        yield b"old"

    replace_file(file, pieces())
    return found


def killed_while_writing(file: Path) -> None:
    """Have another process replace a file, which is killed meanwhile."""
    code = (
        "import os, signal, sys\n"
        "from flexllm.files import replace_file\n"
        "replace_file(sys.argv[1], (os.kill(os.getpid(), signal.SIGKILL) for _ in (1,)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, check=False).returncode == -9


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.usefixtures("umask")
def test_a_new_file_is_as_any_new_file_is(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", [b"n", b"ew"])
    assert ((tmp_path / "file").read_text(), mode(tmp_path / "file")) == ("new", 0o640)
    assert names(tmp_path) == ["file"]


@pytest.mark.usefixtures("umask")
def test_a_file_that_is_there_keeps_its_mode_whatever_the_umask(file: Path) -> None:
    replace_file(file, [b"new"])
    assert (file.read_text(), mode(file)) == ("new", 0o604)


def test_a_mode_that_was_asked_for_holds_whatever_the_old_one_was(file: Path) -> None:
    replace_file(file, [b"new"], mode=0o600)
    assert (file.read_text(), mode(file)) == ("new", 0o600)


def test_nobody_may_read_the_new_content_who_may_not_read_the_old(file: Path) -> None:
    file.chmod(0o600)

    def pieces() -> Iterator[bytes]:
        for one in file.parent.iterdir():
            assert not mode(one) & 0o077, one
        yield b"new"

    replace_file(file, pieces())
    assert file.read_text() == "new"


def test_the_owner_is_kept_as_far_as_that_is_allowed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid():
        pytest.skip("only root may give files away")
    os.chown(file, 12345, 54321)
    file.chmod(0o4755)
    replace_file(file, [b"new"])
    assert (file.stat().st_uid, file.stat().st_gid, mode(file)) == (12345, 54321, 0o4755)

    def refused(*arguments: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    replace_file(file, [b"newer"])
    assert (file.read_text(), file.stat().st_uid) == ("newer", 0)


def test_a_symbolic_link_stays_one_or_is_replaced(tmp_path: Path, file: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link"
    link.symlink_to("../file")
    replace_file(link, [b"followed"])
    assert (link.is_symlink(), file.read_text(), mode(file)) == (True, "followed", 0o604)
    replace_file(link, [b"replaced"], follow=False)
    assert (link.is_symlink(), link.read_text(), file.read_text()) == (False, "replaced", "followed")
    assert (names(tmp_path), names(tmp_path / "links")) == (["file", "links"], ["link"])


def test_a_link_that_leads_nowhere_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link", [b"new"])
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "real").read_text()) == (True, "new")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt(), ValueError("no")])
def test_a_source_that_breaks_off_leaves_the_file_as_it_was(file: Path, error: BaseException) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise error

    with pytest.raises(type(error)):
        replace_file(file, pieces())
    assert (file.read_text(), names(file.parent)) == ("old", ["file"])


@pytest.mark.parametrize("call", ["fsync", "fchmod", "replace"])
def test_whatever_fails_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(file, [b"new"])
    assert (file.read_text(), names(file.parent)) == ("old", ["file"])


def test_the_content_is_on_the_disk_before_the_file_has_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fsync(descriptor: int) -> None:
        [temporary] = file.parent.glob(".*")
        seen.append((temporary.read_text(), file.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(file, [b"new"])
    assert seen == [("new", "old")]
    replace_file(file, [b"newer"], sync=False)
    assert len(seen) == 1


def test_a_name_that_somebody_has_taken_before_us_is_not_written_to(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)  # as if the name could be guessed
    precious = file.with_name("precious")
    precious.write_text("precious")
    [temporary] = names_while_written(file)
    file.with_name(temporary).symlink_to(precious)
    with pytest.raises(FileExistsError):
        replace_file(file, [b"new"])
    with pytest.raises(FileExistsError):
        check_replaceable(file)
    assert (file.read_text(), precious.read_text()) == ("old", "precious")


def test_to_see_whether_a_file_could_be_written_leaves_no_trace(tmp_path: Path, file: Path) -> None:
    check_replaceable(file)
    check_replaceable(tmp_path / "new")
    assert (file.read_text(), names(tmp_path)) == ("old", ["file"])
    with pytest.raises(FileNotFoundError):
        check_replaceable(tmp_path / "none" / "new")


# --- what those who were killed leave


@pytest.mark.slow
def test_what_a_killed_writer_left_is_removed_and_no_more(tmp_path: Path, file: Path) -> None:
    other = tmp_path / ("x" * 255)  # as long as a name can be
    for one in (file, other):
        killed_while_writing(one)
    assert (file.read_text(), len(names(tmp_path))) == ("old", 3)
    remove_leftovers(other)
    assert len(names(tmp_path)) == 2
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link").symlink_to(file)
    remove_leftovers(tmp_path / "links" / "link", follow=False)
    assert len(names(tmp_path)) == 3
    remove_leftovers(tmp_path / "links" / "link")
    assert names(tmp_path) == ["file", "links"]


def test_the_temporary_file_of_a_writer_who_lives_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.replace

    def pieces() -> Iterator[bytes]:
        yield b"n"
        remove_leftovers(file)
        yield b"ew"

    def late(*names: Any) -> None:
        remove_leftovers(file)
        rename(*names)

    monkeypatch.setattr(os, "replace", late)
    replace_file(file, pieces())
    assert (file.read_text(), names(file.parent)) == ("new", ["file"])


def test_a_writer_whose_file_was_taken_for_a_leftover_begins_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock
    taken: list[Path] = []

    def late(descriptor: int, how: int) -> None:
        if not taken:
            taken.extend(file.parent.glob(".*"))
            taken[0].unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    replace_file(file, [b"new"])
    assert (len(taken), file.read_text(), names(file.parent)) == (1, "new", ["file"])


def test_where_nobody_can_lock_files_are_written_and_nothing_is_removed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [temporary] = names_while_written(file)
    file.with_name(temporary).touch()

    def without(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", without)
        replace_file(file, [b"new"])
        remove_leftovers(file)
        assert (file.read_text(), names(file.parent)) == ("new", [temporary, "file"])
    remove_leftovers(file)
    assert names(file.parent) == ["file"]


def test_of_what_is_no_file_nothing_is_removed_or_waited_for(tmp_path: Path, file: Path) -> None:
    [temporary] = names_while_written(file)
    os.mkfifo(tmp_path / temporary)
    (tmp_path / temporary.replace(".tmp", "-2.tmp")).mkdir()
    (tmp_path / temporary.replace(".tmp", "-3.tmp")).symlink_to(file)
    remove_leftovers(file)
    remove_leftovers(tmp_path / "none" / "file")
    assert (len(names(tmp_path)), file.read_text()) == (4, "old")
