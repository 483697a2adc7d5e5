"""The log file of a command: what it takes down, in which form, and that it ends no run."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexllm.cli.log_file import LogFile
from flexllm.cli.logs import on_end, record, set_up_logging, tell_end
from flexllm.cli.output import ERROR, talk
from flexllm.controls import one_line, without_controls

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) (\d+) (.*)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.log"


@pytest.fixture
def args(path: Path) -> Iterator[argparse.Namespace]:
    args = argparse.Namespace(command="ask", verbose=False, quiet=True, log_file=str(path))
    yield args
    tell_end(args, 0, None)


def taken_down(path: Path) -> list[tuple[str, str]]:
    """Return the level and the text of each line, which must be of the form that is promised."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        matched = LINE.fullmatch(line)
        assert matched is not None, line
        assert matched[2] == str(os.getpid())
        lines.append((matched[1], matched[3]))
    return lines


def test_it_has_what_was_said_and_how_the_command_ended(
    args: argparse.Namespace, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(args)
    talk("2 of 2 rows answered")
    talk("flexllm: the server is gone", level=ERROR)
    logging.getLogger("flexllm.backends").info("attempt %d failed", 1)
    logging.getLogger("flexllm.backends").debug("nobody cares")
    tell_end(args, 6, "the server is gone")
    assert taken_down(path) == [
        ("INFO", "flexllm ask begins"),
        ("INFO", "2 of 2 rows answered"),
        ("ERROR", "flexllm: the server is gone"),
        ("INFO", "attempt 1 failed"),
        ("ERROR", "flexllm ask ends with exit code 6"),
    ]
    assert "attempt" not in capsys.readouterr().err


def test_it_is_appended_to(args: argparse.Namespace, path: Path) -> None:
    path.write_text("2026-01-01T00:00:00.000Z INFO 1 of yesterday\n")
    set_up_logging(args)
    assert path.read_text().startswith("2026-01-01T00:00:00.000Z INFO 1 of yesterday\n2")


def test_without_the_option_nothing_is_kept(path: Path) -> None:
    set_up_logging(argparse.Namespace(command="ask", verbose=False, quiet=False, log_file=None))
    record("nobody hears it")
    assert not path.exists()


def test_after_the_end_nothing_is_taken_down(args: argparse.Namespace, path: Path) -> None:
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    set_up_logging(args)
    tell_end(args, 0, None)
    record("too late")
    assert taken_down(path)[-1] == ("INFO", "flexllm ask ends with exit code 0")
    assert logging.getLogger().level == before[0]
    assert not any(isinstance(handler, LogFile) for handler in logging.getLogger().handlers)


def test_each_line_of_a_message_is_a_line_of_the_log(args: argparse.Namespace, path: Path) -> None:
    set_up_logging(args)
    record("to go on:\n  flexllm batch\r\n\x1b[31mred\x00 half a character: \ud800", logging.WARNING)
    assert taken_down(path)[1:] == [
        ("WARNING", "to go on:"),
        ("WARNING", "  flexllm batch"),
        ("WARNING", "\\x1b[31mred\\x00 half a character: \\ud800"),
    ]


def test_a_log_that_was_moved_away_is_begun_anew(args: argparse.Namespace, path: Path) -> None:
    set_up_logging(args)
    path.rename(path.with_name("run.log.1"))
    record("a new day")
    assert taken_down(path) == [("INFO", "a new day")]
    assert taken_down(path.with_name("run.log.1")) == [("INFO", "flexllm ask begins")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_ends_nothing(args: argparse.Namespace) -> None:
    args.log_file = "/dev/full"
    set_up_logging(args)
    record("lost")


@pytest.mark.parametrize("name", ["none/run.log", "."])
def test_a_log_that_cannot_be_written_is_a_sentence(args: argparse.Namespace, tmp_path: Path, name: str) -> None:
    args.log_file = str(tmp_path / name)
    with pytest.raises(OSError, match=r"the log file .* cannot be written: .*; name another one"):
        set_up_logging(args)


def test_a_pipe_that_nobody_reads_is_not_waited_for(args: argparse.Namespace, path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="cannot be written"):
        set_up_logging(args)


def test_that_one_cannot_be_told_of_the_end_leaves_nobody_out() -> None:
    args, told = argparse.Namespace(), []

    def fails(code: int, sentence: str | None) -> None:
        raise OSError("the disk is full")

    on_end(args, lambda code, sentence: told.append((code, sentence)))
    on_end(args, fails)
    tell_end(args, 9, "why")
    tell_end(args, 0, None)
    assert told == [(9, "why")]


def test_control_characters_are_spelled_out() -> None:
    assert without_controls("a\tb\nc\r\x1b[0m\x9b\x7f é 日本 💰") == "a\tb\nc\\x0d\\x1b[0m\\x9b\\x7f é 日本 💰"
    assert one_line("a\tb\nc\u2028d\r") == "a b c\\u2028d\\x0d"
