"""One run at a time for each output file.

The lock lies on a file of its own beside the output, since putting the output in order replaces the output itself. The
kernel drops it when its owner dies, however that happens, so a dead owner's lock is simply taken over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, OutputLocked
from ..fork import forget_in_child
from ..language import _
from ..system_errors import reason_of
from .beside import lock_of


class OutputLock:
    """Held from construction to `release`.

    Args:
        output: The output file; the lock lies at `NAME.lock` beside it.

    Raises:
        OutputLocked: Another process, or another batch of this one, holds it; the message says who.
        CheckpointError: The lock file cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self._path = lock_of(output)
        self._descriptor = -1
        self._signature: dict[str, Any] = {}
        while self._descriptor < 0:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                signature = _signature(descriptor)
                os.close(descriptor)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    reason = _("{path} cannot be locked: {reason}", path=self._path, reason=reason_of(error))
                    raise CheckpointError(reason) from error
                raise OutputLocked(_who_locks(output, signature)) from None
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:  # its last owner removed it between our open and our lock
                os.close(descriptor)
        self.sign()
        forget_in_child(self)

    def release(self) -> None:
        """Remove the lock file and let go of it; in this order, so that nobody locks a file that is about to go."""
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def _after_fork_in_child(self) -> None:
        if self._descriptor >= 0:  # the parent's: a child that lives longer must not keep it
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            output, reason = self._path.with_suffix(""), reason_of(error)
            raise CheckpointError(
                _("{output} cannot be written: {reason} ({lock})", output=output, reason=reason, lock=self._path)
            ) from error

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def sign(self, **facts: Any) -> None:
        """Write down who holds the lock, for those who look; `facts` are what he has to tell of his run."""
        pid, now = os.getpid(), time.time()
        self._signature = {
            "pid": pid,
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
            "since_unix": round(now, 3),
            "born": birth(pid),
            **self._signature,
            **facts,
        }
        content = json.dumps(self._signature).encode()
        with contextlib.suppress(OSError):  # a full disk takes the name of the holder, not the lock
            # Who looks meanwhile finds this signature or the one before, never half of one: blanks cover the rest of it.
            os.pwrite(self._descriptor, content.ljust(os.fstat(self._descriptor).st_size), 0)
            os.ftruncate(self._descriptor, len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock, or held it when he died.

    Attributes:
        pid: His process; None if the lock file does not tell.
        host: The machine that it runs on.
        since: When he took the lock, in that machine's local time, for people.
        since_unix: The same in Unix seconds.
        total: Rows of the run's input.
        start: Where in the output file, in bytes, the lines of his run begin.
        is_alive: Whether the process is there; None where that cannot be seen from here.
    """

    pid: int | None = None
    host: str = ""
    since: str = ""
    since_unix: float | None = None
    total: int | None = None
    start: int | None = None
    is_alive: bool | None = None


def lock_holder(output: Path) -> Holder | None:
    """Return who holds the lock of an output file, None if there is no lock. The lock is not touched."""
    try:
        signature = json.loads(lock_of(output).read_bytes()[:1000])
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return Holder()
    if not isinstance(signature, dict):
        return Holder()
    pid, host, born = (signature.get(name) for name in ("pid", "host", "born"))
    return Holder(
        pid=_whole(pid),
        host=str(host or ""),
        since=str(signature.get("since") or ""),
        since_unix=_seconds(signature.get("since_unix")),
        total=_whole(signature.get("total")),
        start=_whole(signature.get("start")),
        is_alive=is_alive(pid, host, born),
    )


def is_alive(pid: Any, host: Any, born: Any = None) -> bool | None:
    """Return whether a process is there; None where nobody here can tell, since it runs on another machine.

    Args:
        born: What `birth` said of it when it was there; the number of a dead process is given to others.
    """
    if _whole(pid) is None or pid < 1 or host != socket.gethostname():
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    now = birth(pid)
    return now != 0 and (now is None or _whole(born) is None or now == born)


def birth(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks; 0 if it has ended and waits to be buried, None if unknown.

    Source: proc(5), /proc/PID/stat, fields 3 and 22. Other systems than Linux have no such file.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _signature(descriptor: int) -> Any:
    try:
        return json.loads(os.pread(descriptor, 1000, 0))
    except (OSError, ValueError):
        return None


def _who_locks(output: Path, signature: Any) -> str:
    """Return what is told of a file that somebody else is writing, as far as he has signed."""
    try:
        return _(
            "{output} is being written by process {pid} on {host} since {since}; wait for it, or name another output file",
            output=output, pid=signature["pid"], host=signature["host"], since=signature["since"],
        )  # fmt: skip
    except (KeyError, TypeError):
        return _(
            "{output} is being written by another process; wait for it, or name another output file", output=output
        )
