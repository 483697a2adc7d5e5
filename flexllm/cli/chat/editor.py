"""Lines from a person at a terminal: editing and history where Python has readline, several lines as one message."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from ..output import is_terminal, whisper

HISTORY_PATH = "~/.flexllm/chat_history"
MOST_KEPT = 1000
"""Entries of the history; what is older is dropped when a chat begins."""
_MOST_BYTES = 100_000_000

BLOCK = '"""'
_PROMPT, _FURTHER = "> ", "... "


class Entry(NamedTuple):
    """What a person has entered.

    Attributes:
        may_be_command: It was typed, as a line of its own; a block or a pasted text is what it says.
    """

    text: str
    may_be_command: bool


def read_entry(read_line: Callable[[str], str]) -> Entry:
    """Return the next entry, its lines put together.

    Args:
        read_line: Shows a prompt and returns a line; pasted text may hold several.

    Raises:
        EOFError: There is no more. In the middle of an entry it ends the entry.
    """
    first = read_line(_PROMPT)
    if "\n" in first:
        return Entry(first.strip(), False)
    further = _until_eof(read_line)
    start = first.strip()
    if start.startswith(BLOCK):
        return Entry(_block(start[len(BLOCK) :], further), False)
    lines = [first]
    while _goes_on(lines[-1]):
        lines[-1] = lines[-1][:-1]
        line = next(further, None)
        if line is None:
            break
        lines.append(line)
    return Entry("\n".join(lines).strip(), True)


def _block(text: str, further: Iterator[str]) -> str:
    while not text.rstrip().endswith(BLOCK):
        line = next(further, None)
        if line is None:
            return text.strip("\n")
        text += f"\n{line}"
    return text.rstrip()[: -len(BLOCK)].strip("\n")


def _goes_on(line: str) -> bool:
    """Return whether a line ends with a backslash that is not itself written with one."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _until_eof(read_line: Callable[[str], str]) -> Iterator[str]:
    with contextlib.suppress(EOFError):
        while True:
            yield read_line(_FURTHER)


class History:
    """What was entered, in this chat and in earlier ones: a file of JSON texts, one a line, for its owner alone.

    Nobody's chat fails for its sake: what cannot be read or written is left out.
    """

    def __init__(self, path: str = HISTORY_PATH) -> None:
        self._path = os.path.expanduser(path)
        self.entries: list[str] = []
        with contextlib.suppress(OSError):
            with open(self._path, "rb") as file:
                lines = file.read(_MOST_BYTES).splitlines()
            self.entries = list(_decoded(lines[-MOST_KEPT:]))
            if len(lines) > 2 * MOST_KEPT:  # not at every start: another chat may be adding to it
                self._write(self.entries, os.O_TRUNC)

    def add(self, text: str) -> None:
        """Keep an entry, unless it is the same as the one before."""
        if self.entries and self.entries[-1] == text:
            return
        self.entries.append(text)
        with contextlib.suppress(OSError):
            self._write([text], os.O_APPEND)

    def _write(self, entries: Sequence[str], how: int) -> None:
        if self._path.startswith("~"):  # there is no home
            return
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write("".join(f"{json.dumps(one)}\n" for one in entries).encode())


def _decoded(lines: Sequence[bytes]) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, str):
                yield entry


class Editor:
    """Reads entries at the terminal.

    Args:
        completions: What Tab may make of the line up to the cursor.
        history: Where entries are kept; None keeps them as long as the chat lasts.
    """

    def __init__(self, completions: Callable[[str], list[str]], history: History | None) -> None:
        self._history = history
        self._last: str | None = None
        self._readline = _readline() if is_terminal(sys.stdin, sys.stdout) else None
        if self._readline is not None:
            _set_up(self._readline, completions, history.entries if history is not None else ())

    def entry(self) -> Entry:
        """Return the next entry.

        Raises:
            EOFError: The user ends the chat.
            KeyboardInterrupt: The user clears what is being entered.
        """
        entry = read_entry(self._line)
        kept = entry.text
        if not entry.may_be_command and kept.startswith("/") and "\n" not in kept:
            kept = f"/{kept}"  # fetched back it is a line as any other
        if kept and kept != self._last:
            self._last = kept
            if self._readline is not None:
                _remember(self._readline, kept)
            if self._history is not None:
                self._history.add(kept)
        return entry

    def _line(self, prompt: str) -> str:
        if self._readline is not None:
            return _edited(self._readline, prompt)
        if is_terminal(sys.stdin, sys.stdout):
            return input(prompt)
        whisper(prompt)  # standard output is for the answers alone
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


def _readline() -> Any:
    """Return the module, None where Python was built without it."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def _set_up(readline: Any, completions: Callable[[str], list[str]], entries: Sequence[str]) -> None:
    is_libedit = getattr(readline, "backend", None) == "editline" or "libedit" in (readline.__doc__ or "")
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            line = readline.get_line_buffer()[: readline.get_endidx()]
            found[:] = [one[readline.get_begidx() :] for one in completions(line)]
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n")
    readline.set_completer(complete)
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    if not is_libedit:
        readline.parse_and_bind("set enable-bracketed-paste on")
        # With LC_ALL=C, where Python reads UTF-8 all the same, these would be keys pressed with Alt.
        for setting in ("input-meta on", "output-meta on", "convert-meta off"):
            readline.parse_and_bind(f"set {setting}")
    readline.set_auto_history(False)  # an entry of several lines is one
    readline.clear_history()
    for one in entries:
        _remember(readline, one)


def _remember(readline: Any, entry: str) -> None:
    """Add to what the arrow keys fetch back, but for what the terminal's encoding does not have."""
    with contextlib.suppress(ValueError):
        readline.add_history(entry)


class _Suspended(Exception):
    """The user pressed Ctrl-Z; the message is the line as far as it is written."""


def _edited(readline: Any, prompt: str) -> str:
    """Return a line. After Ctrl-Z the shell has the terminal as it was, and `fg` brings back the line.

    Python has readline ignore signals; left to itself it would stop with the terminal as the editor needs it, and go on
    with the terminal as the shell needs it.
    """
    line = ""
    while True:
        try:
            with _suspending(readline):
                readline.set_startup_hook(partial(readline.insert_text, line))
                return input(prompt)
        except _Suspended as suspended:
            line = str(suspended)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when the shell lets it go on


@contextlib.contextmanager
def _suspending(readline: Any) -> Iterator[None]:
    """Have Ctrl-Z raise `_Suspended`, which leaves readline, unless whoever started the program has it do nothing."""

    def suspend(number: int, frame: object) -> NoReturn:
        raise _Suspended(readline.get_line_buffer())

    before = signal.getsignal(signal.SIGTSTP)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
        readline.set_startup_hook(None)
