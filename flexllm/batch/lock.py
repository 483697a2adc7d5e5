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
from pathlib import Path

from ..errors import CheckpointError, OutputLocked
from ..fork import forget_in_child


class OutputLock:
    """Held from construction to `release`.

    Args:
        output: The output file; the lock lies at `NAME.lock` beside it.

    Raises:
        OutputLocked: Another process, or another batch of this one, holds it; the message says who.
        CheckpointError: The lock file cannot be made.
    """

    def __init__(self, output: Path) -> None:
        self._path = output.with_name(f"{output.name}.lock")
        self._descriptor = -1
        while self._descriptor < 0:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = _holder(descriptor)
                os.close(descriptor)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise CheckpointError(f"{self._path} cannot be locked: {error.strerror}") from error
                raise OutputLocked(
                    f"{output} is being written by {holder}; wait for it, or name another output file"
                ) from None
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:  # its last owner removed it between our open and our lock
                os.close(descriptor)
        self._sign()
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
            raise CheckpointError(
                f"{self._path.with_suffix('')} cannot be written: {error.strerror} ({self._path})"
            ) from error

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _sign(self) -> None:
        signature = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with contextlib.suppress(OSError):  # a full disk takes the name of the holder, not the lock
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(signature).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        signature = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {signature['pid']} on {signature['host']} since {signature['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
