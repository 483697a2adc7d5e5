"""The two ways in which a chat goes: with a person at a terminal, or with lines that come through a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from ...language import _
from ..output import complain, talk
from .commands import Commands
from .editor import Entry
from .session import ChatSession


def converse(session: ChatSession, commands: Commands, read_entry: Callable[[], Entry], opening: str | None) -> None:
    """Answer what a person enters, until he has enough. Whatever goes wrong is told, and the chat goes on.

    Args:
        opening: Asked before anything is read.

    Raises:
        OSError: Standard output cannot be written.
    """
    if opening is not None:
        _take(session, commands, Entry(opening, False))
    for entry in _entries(read_entry):
        _take(session, commands, entry)
        if commands.has_ended:
            return


def _take(session: ChatSession, commands: Commands, entry: Entry) -> None:
    """Do what an entry says, or ask it. Ctrl-C ends that, and no more."""
    content: object = entry.text
    try:
        if entry.may_be_command and entry.text.startswith("/"):
            content = entry.text[1:] if entry.text.startswith("//") else commands.obey(entry.text)
        if content is not None:
            session.ask_and_tell(content)
            talk("")
    except KeyboardInterrupt:  # in a command, or once more while the first was being told
        talk("")


def _entries(read_entry: Callable[[], Entry]) -> Iterator[Entry]:
    """Yield what is entered that is not empty. Ctrl-C clears what is being entered."""
    was_cleared = False
    while True:
        try:
            entry = read_entry()
            entry.text.encode()  # half a character is left of one that was deleted byte by byte
        except EOFError:
            talk("")
            return
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):  # pressed once more while it is told
                talk("\n" + _("[Ctrl-D or /exit ends the chat.]") if was_cleared else "")
            was_cleared = True
            continue
        except UnicodeError:
            complain(_("that line is not in the terminal's encoding; it is left out"))
            continue
        was_cleared = False
        if entry.text:
            yield entry


def answer_lines(session: ChatSession, lines: Iterable[str]) -> None:
    """Answer each line as it comes; nothing in a line is a command.

    Raises:
        FlexLLMError: A request failed; the lines behind it are not asked.
    """
    for line in lines:
        session.ask(line)


def lines_of(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a pipe as they come, without blank ones. What is not UTF-8 is read all the same."""
    for line in stream:
        text = line.decode("utf-8", "replace").strip().removeprefix("\ufeff")
        if text:
            yield text
