"""The command line as a user drives it: through pipes, on a terminal, or with no terminal at all."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexllm.mock import MockServer

ROOT = Path(__file__).parents[1]
PROGRAM = (sys.executable, str(ROOT / "bin" / "flexllm"))
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

UNHEARD = 3.0
"""Seconds after which a signal was not heard, however busy the machine is."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence that an error is, with nothing on standard output."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("flexllm")
        assert self.out == ""
        return lines[0]

    @property
    def data(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


def at(server: MockServer, **variables: str) -> dict[str, str]:
    """Return the environment that names a server and a model."""
    return {"FLEXLLM_BASE_URL": server.base_url, "FLEXLLM_MODEL": "mock-model", **variables}


def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str | None = None, program: Sequence[str] = PROGRAM
) -> Done:
    """Run a command; without `stdin` its standard input is empty."""
    done = subprocess.run(
        [*program, *arguments], env={**os.environ, **(env or {})}, input=stdin or "", capture_output=True,
        encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def in_shell(script: str, *arguments: str, env: Mapping[str, str]) -> Done:
    """Run a command by a line of shell, in which it is "$@"."""
    return run(*arguments, env=env, program=("sh", "-c", script, "sh", *PROGRAM))


def in_process(capsys: Any, *arguments: str) -> Done:
    """Run a command in this process, ten times as fast: for what needs no terminal, pipe or signal."""
    from flexllm.cli.main import main

    interval, longest = sys.getswitchinterval(), csv.field_size_limit()  # which a command sets for its own process
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.setswitchinterval(interval)
        csv.field_size_limit(longest)
    seen = capsys.readouterr()
    assert "Traceback" not in seen.err, seen.err
    return Done(code, seen.out, seen.err)


class Terminal:
    """A command whose three streams are a terminal, and a person in front of it.

    Args:
        env: Besides the test's own environment.
        program: Instead of flexllm, such as a shell.

    Attributes:
        times: When each piece of what it shows came.
        code: The command's exit code, once `end` has been called.

    Use as `with Terminal("chat") as terminal:`; what is still running at the end is killed.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        size: tuple[int, int] = (24, 100),
    ) -> None:
        self._terminal, its_end = pty.openpty()
        fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        self._process = subprocess.Popen(
            [*program, *arguments], env={**os.environ, "TERM": "xterm", **(env or {})},
            stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(its_end)
        self._seen = b""
        self._looked_at = 0
        self.times: list[float] = []
        self.code: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    @property
    def raw(self) -> str:
        """All that the terminal was sent."""
        return self._seen.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """The same without colours and the like."""
        return _CONTROL.sub("", self.raw)

    @property
    def echoes(self) -> bool:
        """Whether the terminal itself shows what is typed, as it does for a shell, and not for an editor of lines."""
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        """Type a text; "\\r" is the return key, "\\x03" Ctrl-C, "\\x04" Ctrl-D, "\\t" Tab."""
        os.write(self._terminal, text.encode())

    def line(self, text: str) -> None:
        """Type a line."""
        self.type(f"{text}\r")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the command."""
        self._process.send_signal(number)

    def press(self, key: str, wanted: str) -> None:
        """Press Ctrl-C or Ctrl-Z until it is heard: see `until_heard`."""
        self.until_heard(lambda: self.type(key), wanted)

    def until_heard(self, send: Callable[[], object], wanted: str) -> None:
        """Send a signal until it has its effect: Python does not hear one at the very moment when it begins to wait."""
        for _ in range(10):
            send()
            with contextlib.suppress(AssertionError):
                self.expect(wanted, UNHEARD)
                return
        raise AssertionError(f"the signal is not heard; the terminal shows:\n{self.text}")

    def expect(self, wanted: str, patience: float = PATIENCE) -> str:
        """Wait until a text is shown behind what was expected before; return what is shown up to its end."""
        end = time.monotonic() + patience
        while (found := self.text.find(wanted, self._looked_at)) < 0:
            if not self._read(end):
                raise AssertionError(f"{wanted!r} did not come; the terminal shows:\n{self.text[self._looked_at :]}")
        before, self._looked_at = self._looked_at, found + len(wanted)
        return self.text[before : self._looked_at]

    def end(self) -> int:
        """Wait for the command's end; return its exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        self.code = self._process.wait(PATIENCE)
        assert "Traceback" not in self.text, self.text
        return self.code

    def _read(self, end: float) -> bool:
        """Take in what comes. Return False when nothing more will come."""
        if not select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            piece = os.read(self._terminal, 65_536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self._seen += piece
        self.times.append(time.monotonic())
        return bool(piece)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def write_rows(path: Path, *rows: Mapping[str, Any]) -> str:
    """Write JSON lines; return the path as a text."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return str(path)


def write_questions(path: Path, count: int) -> str:
    """Write rows that ask something; return the path as a text."""
    return write_rows(path, *({"q": f"question {number}", "id": number} for number in range(count)))


def rows_of(name: str | Path) -> list[dict[str, Any]]:
    """Return the lines of an output file, decoded."""
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
