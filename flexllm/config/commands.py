"""Keys that a command prints, such as a password store's: `api_key_cmd`."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence

from ..errors import ConfigError
from ..language import _
from ..system_errors import reason_of

PATIENCE = 30.0
"""Seconds that a command has: enough to unlock a password store by hand."""

_SHOWN = 200
"""Letters of a command's last words that a message repeats."""

_known: dict[str | tuple[str, ...], str] = {}
_lock = threading.Lock()


def key_of_command(command: str | Sequence[str], where: str, *, patience: float = PATIENCE) -> str:
    """Return the first line that a command prints. It runs once in the life of this process.

    Args:
        command: A text for /bin/sh, or the words of a command.
        where: File and line, for people.

    Raises:
        ConfigError: It cannot be run, fails, prints nothing or takes too long; what it printed is in no message, but for
            the last line of its standard error.
    """
    name = command if isinstance(command, str) else tuple(command)
    with _lock:  # two clients that are made at once ask the password store once
        if name not in _known:
            _known[name] = _run(name, f"{where}: api_key_cmd", patience)
        return _known[name]


def _run(command: str | tuple[str, ...], what: str, patience: float) -> str:
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(
            _("{what} cannot be run: {program!r}: {reason}", what=what, program=words[0], reason=reason)
        ) from None
    with process:
        try:
            out, said = process.communicate(timeout=patience)
        except BaseException as error:  # an interrupt too: nobody waits for the key any more
            process.kill()
            # Not read to the end: a child of the command's own may hold the other end for as long as it likes.
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ConfigError(
                _("{what} did not end within {patience:g} seconds; try it in a shell", what=what, patience=patience)
            ) from None
    if process.returncode:
        raise ConfigError(_ending(what, process.returncode) + _last_words(said))
    key = out.strip().partition("\n")[0].strip()
    if not key:
        raise ConfigError(_("{what} printed no key", what=what) + _last_words(said))
    return key


def _ending(what: str, code: int) -> str:
    if code < 0:
        return _("{what} was ended by signal {number}", what=what, number=-code)
    return _("{what} ended with exit code {code}", what=what, code=code)


def _last_words(said: str) -> str:
    lines = said.strip().splitlines()
    last = "".join(letter for letter in lines[-1] if letter.isprintable())[:_SHOWN].strip() if lines else ""
    return f": {last}" if last else ""
