"""The status file: what a run has done so far, as JSON for whoever watches it.

It is replaced as a whole by a rename, so that no reader ever sees half of it; while the run goes on at most once a second,
on the job's own thread, and at the end with the exit code. A disk that does not take it ends no run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError, OutputLocked
from ..files import remove_leftovers, replace_file
from ..language import _
from ..system_errors import reason_of
from .lock import birth, is_alive
from .tally import Tally

FORMAT = 1
"""The `version` that a status file has. Names may be added to it; what a name means stays."""

WRITE_SECONDS = 1.0
MOST_BYTES = 1 << 20
"""A file that is larger is no status file."""

_WRITER = ("pid", "host", "born")

State = Literal["running", "done", "stopped", "interrupted", "failed"]
"""`done`: every row that was to be asked is settled, be it by an error. `stopped`: the run ended itself before its input
did, and says why in `stopped`. `interrupted`: a signal ended it. `failed`: an error did, which is in `error`."""


class StatusFile:
    """Keeps the file up to date. Called by one thread; stands among a job's `Progress`.

    Two runs cannot share a file: each would hide the other. What a run that was killed left beside it is removed.

    Args:
        path: The file. A symbolic link is followed.
        facts: What else stands in it: `input`, `output`, `model`.
        clock: Unix time in seconds.

    Raises:
        OutputLocked: Another run is writing it, as far as can be seen from here; the message says which.
        CheckpointError: It cannot be written. Nothing was sent yet, as above.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._real = Path(os.path.realpath(path))
        self._clock = clock
        self._tally: Tally | None = None
        self._started = self._began = clock()
        self._written = float("-inf")
        pid = os.getpid()
        self._facts = {"version": FORMAT, "pid": pid, "host": socket.gethostname(), "born": birth(pid), **facts}
        self._is_ours = False
        there = read_status(self._real)
        self._refuse_to_share(there)
        self._check(is_status=there is not None)
        self._is_ours = True

    # --- as a job's progress

    def begin(self, tally: Tally) -> None:
        """Write the first counts.

        Raises:
            OutputLocked: Another run has begun at the same time as this one, and has the file.
        """
        there = read_status(self._real)
        self._is_ours = there is None or all(there.get(name) == self._facts[name] for name in _WRITER)
        self._refuse_to_share(None if self._is_ours else there)
        self._is_ours = True
        self._tally = tally
        self._began = self._clock()
        self._write("running")

    def update(self, tally: Tally) -> None:
        """Write the counts, if the last are old enough."""
        if self._clock() - self._written >= WRITE_SECONDS:
            self._write("running")

    def say(self, text: str) -> None:
        """Do nothing: sentences are for people."""

    def close(self) -> None:
        """Write the counts that the run ends with."""
        self._write("running")

    # --- the end

    def end(self, exit_code: int, error: str | None) -> None:
        """Write how the command ended.

        Args:
            error: Why it failed, as a sentence.
        """
        self._write(self._state(exit_code, error), exit_code, error)

    def _state(self, exit_code: int, error: str | None) -> State:
        tally = self._tally
        if exit_code > 128:
            return "interrupted"
        if error is not None:
            return "failed"
        return "done" if not exit_code or (tally is not None and tally.is_complete) else "stopped"

    def _refuse_to_share(self, there: Mapping[str, Any] | None) -> None:
        """Raise OutputLocked if the run that a status file tells of goes on."""
        if there is not None and there["state"] == "running" and is_running(there) is True:
            told = _(
                "the status file {path} is being written by process {pid} on {host} since {since}; wait for it, or name "
                "another status file",
                path=self._path, pid=there["pid"], host=there.get("host"), since=there.get("started"),
            )  # fmt: skip
            raise OutputLocked(told)

    def _check(self, *, is_status: bool) -> None:
        """Write the first state; never over what is no status file."""
        try:
            found = os.stat(self._real) if self._real.exists() else None
            if found is not None and not stat.S_ISREG(found.st_mode):
                raise CheckpointError(
                    _("the status file {path} is there already and is no file; name another one", path=self._path)
                )
            if found is not None and found.st_size and not is_status:
                told = _(
                    "the status file {path} is there already and holds something else; nothing was changed: name another "
                    "one, or move this one away",
                    path=self._path,
                )
                raise CheckpointError(told)
            self._replace(self._content("running", None, None))
        except OSError as error:
            told = _(
                "the status file {path} cannot be written: {reason}; name another one",
                path=self._path, reason=reason_of(error),
            )  # fmt: skip
            raise CheckpointError(told) from error
        remove_leftovers(self._real, follow=False)

    def _write(self, state: State, exit_code: int | None = None, error: str | None = None) -> None:
        self._written = self._clock()
        if self._is_ours:
            with contextlib.suppress(OSError):  # a full disk, say; the next try may do better
                self._replace(self._content(state, exit_code, error), sync=exit_code is not None)

    def _replace(self, content: bytes, *, sync: bool = False) -> None:
        replace_file(self._real, (content,), sync=sync, follow=False)

    def _content(self, state: State, exit_code: int | None, error: str | None) -> bytes:
        now = self._clock()
        fields = {
            **self._facts,
            "state": state,
            "exit_code": exit_code,
            "error": error,
            "started": utc(self._started),
            "started_unix": round(self._started, 3),
            "updated": utc(now),
            "updated_unix": round(now, 3),
            **self._counts(now, state),
        }
        return (json.dumps(fields, ensure_ascii=False, indent=2, default=str) + "\n").encode("utf-8", "replace")

    def _counts(self, now: float, state: State) -> dict[str, Any]:
        tally = self._tally or Tally()
        elapsed = now - self._began
        rate = tally.asked / elapsed if elapsed > 0 else 0.0
        left = None if tally.total is None else max(0, tally.total - tally.done)
        return {
            "total": tally.total,
            "success": tally.success,
            "failed": tally.failed,
            "cached": tally.cached,
            "shared": tally.shared,
            "resumed": tally.resumed,
            "retries": tally.retries,
            "requests_per_second": round(rate, 3),
            "eta_seconds": round(left / rate, 1) if state == "running" and left is not None and rate else None,
            "prompt_tokens": tally.prompt_tokens,
            "completion_tokens": tally.completion_tokens,
            "total_tokens": tally.total_tokens,
            "cost": tally.cost,
            "unpriced": tally.unpriced,
            "errors_by_class": dict(tally.errors_by_class),
            "errors": tally.errors(),
            "stopped": tally.stopped,
        }


def utc(moment: float) -> str:
    """Return a Unix time as ISO 8601 has it: 2026-01-31T03:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def read_status(path: Path) -> dict[str, Any] | None:
    """Return what a status file holds; None if there is none, or it is something else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe is to wait for its writer
            return None
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        found = json.loads(content) if len(content) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(name in found for name in ("version", "state", "pid", "output")):
        return None
    return found


def is_running(status: Mapping[str, Any]) -> bool | None:
    """Return whether the process that wrote a status file is there; None if it runs on another machine."""
    return is_alive(status.get("pid"), status.get("host"), status.get("born"))
