"""The output file as a file: locked, appended to, read at places, replaced as a whole. It knows lines, not rows.

What it guarantees: a line that `append` has returned for is in the kernel, and after `flush_interval` seconds on the disk;
the file is never shorter by an answered line than it was, at no instant; a failed write leaves whole lines only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError
from ..fork import forget_in_child
from ..language import _, mark
from ..system_errors import reason_of
from .lock import OutputLock

READ_BYTES = 1 << 18


class OutputFile:
    """Open and locked from construction to `close`. One thread writes; any may read. A forked child cannot write.

    Args:
        path: The file; its folder must exist. A symbolic link is followed.
        flush_interval: Seconds at most between a write and its `fsync`; 0 syncs every write.

    Raises:
        OutputLocked: Another run is writing it.
        CheckpointError: It cannot be opened for writing.
    """

    _descriptor = -1

    def __init__(self, path: Path, flush_interval: float) -> None:
        self.path = path
        self._real = Path(os.path.realpath(path))
        _check(path, self._real)
        self._lock = OutputLock(self._real)
        try:
            self._descriptor = os.open(self._real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self._lock.release()
            raise cannot_write(path, error) from error
        self.end = os.fstat(self._descriptor).st_size
        self._syncer = _Syncer(self._descriptor, flush_interval)
        self._reader = LineReader(self._real)
        forget_in_child(self)

    def __del__(self) -> None:
        if self._descriptor >= 0:  # of a batch that was prepared and never run; it must not stay locked
            self.close()

    def _after_fork_in_child(self) -> None:
        if self._descriptor >= 0:  # two writers would write on the same place
            os.close(self._descriptor)
            self._descriptor = -1

    # --- reading

    def lines(self) -> Iterator[bytes]:
        """Yield every line as it stands, with its end; the last may lack it."""
        with open(self._real, "rb", buffering=READ_BYTES) as file:
            yield from file

    def line_at(self, offset: int) -> bytes:
        """Return the line that starts at `offset`."""
        return self._reader.line_at(offset)

    # --- writing

    def announce(self, total: int | None) -> None:
        """Sign the lock with what the run is about: the rows of its input, if known, and where its own lines begin."""
        self._lock.sign(total=total, start=self.end)

    def append(self, data: bytes) -> int:
        """Write whole lines at the end and return where they start.

        Raises:
            CheckpointError: The disk is full, or worse. The file ends where it ended before.
        """
        if self._syncer.error is not None:
            raise self._failed(_NOT_SYNCED, self._syncer.error)
        start = self.end
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:] if written else data, start + written)
            self._syncer.wrote()
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            raise cannot_write(self.path, error) from error
        self.end = start + written
        return start

    def truncate(self, offset: int) -> None:
        """Cut off everything from `offset` on."""
        try:
            os.ftruncate(self._descriptor, offset)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.end = offset

    def replace(self, lines: Iterable[bytes]) -> None:
        """Replace the whole content: a temporary file beside it, read back and compared, then an atomic rename.

        Raises:
            CheckpointError: It could not be done. The file is as it was.
        """
        temporary = self._real.with_name(f"{self._real.name}.tmp")
        try:
            with open(temporary, "wb", buffering=READ_BYTES) as file:
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._descriptor).st_mode))
                check = size = 0
                for line in lines:
                    check = zlib.crc32(line, check)
                    size += len(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if _check_of(temporary) != (check, size):
                raise CheckpointError(
                    _("{temporary} does not read back as it was written; the disk may be failing", temporary=temporary)
                )
            self._syncer.pause()
            os.replace(temporary, self._real)
            _sync_folder(self._real.parent)
            descriptor = os.open(self._real, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(_NOT_ORDERED, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        os.close(self._descriptor)
        self._descriptor = self._syncer.descriptor = descriptor
        self.end = size
        self._reader.close()

    def close(self) -> None:
        """Sync, close and unlock. May be called twice.

        Raises:
            CheckpointError: The disk did not take what was written. The lock is gone all the same.
        """
        self._reader.close()
        if self._descriptor < 0:
            return
        try:
            self._syncer.close()
        except OSError as error:
            raise self._failed(_NOT_SYNCED, error) from error
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            self._lock.release()

    def _failed(self, text: str, error: OSError) -> CheckpointError:
        return CheckpointError(_(text, path=self.path, reason=reason_of(error)))


_NOT_SYNCED = mark("{path} cannot be written to disk: {reason}")
_NOT_ORDERED = mark("{path} cannot be put in order (every answer is still in it): {reason}")


class OutputView:
    """An output file as it stands, to be looked at: nothing is locked or written, whatever its user would mend.

    A run may be writing it meanwhile, or put it in order: this stays with what was there when it was opened, but for the
    lines that are written until they are read.

    Args:
        path: The file, which need not exist. A symbolic link is followed.

    Raises:
        CheckpointError: It cannot be read, or no run could write there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        real = Path(os.path.realpath(path))
        _check(path, real)
        self._file: BinaryIO | None = None
        try:
            self._file = open(real, "rb", buffering=READ_BYTES)  # noqa: SIM115 (closed in close)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise cannot_read(path, error) from error

    def lines(self) -> Iterator[bytes]:
        """Yield every line as it stands, with its end; the last may lack it."""
        if self._file is not None:
            self._file.seek(0)
            yield from self._file

    def line_at(self, offset: int) -> bytes:
        """Return the line that starts at `offset`, b"" if there is none."""
        if self._file is None:
            return b""
        self._file.seek(offset)
        return self._file.readline()

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()

    def announce(self, total: int | None) -> None:
        """Announce nothing."""

    def append(self, data: bytes) -> int:
        """Write nothing, and return 0."""
        return 0

    def truncate(self, offset: int) -> None:
        """Cut off nothing."""

    def replace(self, lines: Iterable[bytes]) -> None:
        """Replace nothing."""


class LineReader:
    """Reads lines at places. May be shared by threads; `close` lets the next reading open the file anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def line_at(self, offset: int) -> bytes:
        """Return the line that starts at `offset`."""
        with self._lock:
            if self._file is None:
                self._file = open(self._path, "rb", buffering=READ_BYTES)  # noqa: SIM115 (closed in close)
            self._file.seek(offset)
            return self._file.readline()

    def close(self) -> None:
        """Close the file, if it is open."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


class _Syncer:
    """Calls `fsync` at most `interval` seconds after a write, on a thread of its own: rows do not wait for the disk."""

    def __init__(self, descriptor: int, interval: float) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None

    def wrote(self) -> None:
        if self._interval <= 0:
            os.fsync(self.descriptor)
            return
        if not self._dirty.is_set():
            self._dirty.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flexllm-fsync", daemon=True)
                self._thread.start()

    def pause(self) -> None:
        """Return when no sync is under way and none is due: the file is about to be replaced by a synced one."""
        with self._busy:
            self._dirty.clear()

    def close(self) -> None:
        self._closing.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()
        os.fsync(self.descriptor)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._closing.wait(self._interval)
            with self._busy:
                if self._dirty.is_set() and not self._closing.is_set():
                    self._dirty.clear()
                    try:
                        os.fsync(self.descriptor)
                    except OSError as error:  # told by the next append
                        self.error = error
                        return


def append_beside(path: Path, lines: Iterable[bytes]) -> int:
    """Append whole lines to another file and sync it; return how many. A torn line at its end is closed first.

    Raises:
        CheckpointError: It could not be done; what the file held is still there.
    """
    count = 0
    try:
        with open(path, "ab+", buffering=READ_BYTES) as file:
            start = file.seek(0, os.SEEK_END)
            if start:
                file.seek(start - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            for line in lines:
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error
    return count


def cannot_read(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file that the system does not let us read."""
    return CheckpointError(_("{path} cannot be read: {reason}", path=path, reason=reason_of(error)))


def cannot_write(path: Path, error: OSError) -> CheckpointError:
    """Return the error for a file that the system does not let us write."""
    return CheckpointError(_("{path} cannot be written: {reason}", path=path, reason=reason_of(error)))


def _check(path: Path, real: Path) -> None:
    """Raise CheckpointError if there can be no output file; `real` is where symbolic links lead."""
    folder = real.parent
    if not folder.is_dir():
        raise CheckpointError(
            _("{path} cannot be written: the folder {folder} does not exist", path=path, folder=folder)
        )
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    if stat.S_ISDIR(mode):
        raise CheckpointError(
            _("{path} is a folder; name a file in it, such as {example}", path=path, example=path / "out.jsonl")
        )
    if not stat.S_ISREG(mode):
        raise CheckpointError(_("{path} is not a regular file; a batch that resumes needs one", path=path))


def _check_of(path: Path) -> tuple[int, int]:
    check = size = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            check = zlib.crc32(block, check)
            size += len(block)
    return check, size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
