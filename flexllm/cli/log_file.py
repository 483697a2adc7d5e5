"""The log file of a command: appended line by line, and never a reason for a run to end."""

from __future__ import annotations

import logging
import os
import stat
import time
from copy import copy

from ..controls import one_line
from ..language import _

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # no waiting for a FIFO


class Worded(logging.Formatter):
    """Words the library's records, which stand in English where they are made, in the language in use."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record. One of the program itself, which is worded already, is named "flexllm"."""
        if record.name.startswith("flexllm.") and isinstance(record.msg, str):
            record = copy(record)  # other handlers have it in English
            record.msg = _(record.msg)
        return super().format(record)


class LogFile(logging.Handler):
    """Appends each line with one write, so that the lines of several processes do not mix.

    A line is `2026-01-31T03:00:00.123Z INFO 4711 the message`: the time is UTC, the number is the process. A message of
    several lines becomes several lines, each with all of that. When the file is moved away, as `logrotate` does, the next
    line begins a new one. A full disk loses lines and ends nothing.

    Raises:
        OSError: The file cannot be opened for writing.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(Worded())
        self._path = os.path.abspath(path)
        self._descriptor = os.open(self._path, _FLAGS, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        """Append what was said."""
        if self._descriptor < 0:
            return
        try:
            self._follow_the_name()
            os.write(self._descriptor, self._lines_of(record).encode("utf-8", "backslashreplace"))
        except (OSError, ValueError, TypeError):  # full, or a message that does not fit its arguments
            pass

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.acquire()
        try:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)
        finally:
            self.release()
        super().close()

    def _lines_of(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        start = f"{moment}.{int(record.created * 1000) % 1000:03d}Z {record.levelname} {os.getpid()} "
        text = self.format(record)
        return "".join(f"{start}{one_line(line)}\n" for line in text.splitlines() if line.strip())

    def _follow_the_name(self) -> None:
        """Open the file anew if another one, or none, has its name by now."""
        mine = os.fstat(self._descriptor)
        if not stat.S_ISREG(mine.st_mode):
            return
        try:
            if os.path.samestat(mine, os.stat(self._path)):
                return
        except FileNotFoundError:
            pass
        descriptor = os.open(self._path, _FLAGS, 0o666)
        os.close(self._descriptor)
        self._descriptor = descriptor
