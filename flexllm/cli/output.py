"""Data to standard output, talk to standard error."""

from __future__ import annotations

import errno
import sys

from ..language import _
from ..system_errors import reason_of

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any, TextIO


INFO, ERROR = 20, 40
"""As `logging` numbers them, without an import that most commands do not need."""


def is_terminal(*streams: TextIO | None) -> bool:
    """Return whether all of these are terminals; one that is closed is none."""
    return all(stream is not None and stream.isatty() for stream in streams)


def standard_output() -> TextIO:
    """Return standard output. Raises OSError where the caller has closed it: Python then has none at all."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, _("standard output is closed"))
    return sys.stdout


def print_data(text: str, end: str = "\n", *, at_once: bool = True) -> None:
    """Print data, at once or with what is printed next. Half a character, which models do send, becomes a question mark."""
    stream = standard_output()
    try:
        stream.write(_printable(text, stream.encoding) + end)
        if at_once:
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def print_report(text: str) -> None:
    """Print our own words as data, with one for the sign of money where the sign cannot be written."""
    print_data(_worded(text, standard_output().encoding))


def print_bytes(data: bytes) -> None:
    """Print data as it stands, at once. Raises OSError, as `print_data` does."""
    stream = standard_output()
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> OSError:
    return OSError(error.errno, _("standard output cannot be written: {reason}", reason=reason_of(error)))


def print_json(value: Any) -> None:
    """Print data as indented JSON."""
    print_data(as_json(value, indent=2))


def as_json(value: Any, indent: int | None = None) -> str:
    """Return data as JSON that people can read: letters as they are, but no character that steers a terminal.

    Where standard output has not all of the letters, they are spelled out: data must not lose any.
    """
    import json

    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    try:
        text.encode((sys.stdout is not None and sys.stdout.encoding) or "utf-8")
    except UnicodeEncodeError:  # also for half a character, which models do send
        text = json.dumps(value, indent=indent, default=str)
    return text.translate(_CONTROLS)


_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Which JSON allows as they are; those below 32 it does not."""


def talk(text: str, end: str = "\n", *, level: int = INFO) -> None:
    """Tell the user a sentence, and the log file if there is one; where nobody can be told, say nothing.

    Args:
        level: What it is to the log file, as `logging` numbers it.
    """
    from ..controls import without_controls
    from .logs import record

    text = without_controls(text)
    record(text, level)
    if sys.stderr is not None:
        whisper(_worded(text, sys.stderr.encoding) + end)


def complain(error: BaseException | str) -> None:
    """Tell the user what went wrong."""
    talk(f"flexllm: {error}", level=ERROR)


def whisper(text: str) -> None:
    """Write to standard error what is nothing for the log file; where nobody can be told, do not."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(_printable(text, sys.stderr.encoding))
            sys.stderr.flush()
        except (OSError, ValueError):  # full, or its reader is gone; closed
            pass


def _worded(text: str, encoding: str | None) -> str:
    """Return a sentence with a word for the sign of money, where the sign cannot be written."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return text.replace("💰", _("cost"))  # as the progress line does
    return text


def _printable(text: str, encoding: str | None) -> str:
    """Return a text with question marks for what cannot be written, but dots for the sign that something was left out."""
    encoding = encoding or "utf-8"
    if "…" in text and not "…".encode(encoding, "ignore"):
        text = text.replace("…", "...")
    return text.encode(encoding, "replace").decode(encoding)
