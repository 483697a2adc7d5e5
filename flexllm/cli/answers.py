"""Answers on their way to standard output: piece by piece or whole, and what is to be said of them."""

from __future__ import annotations

import sys

from ..language import _
from .output import is_terminal, print_data, print_json, whisper

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..chat import ChatCompletionResult, Chunk

_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"
FIELDS = (
    "content", "reasoning_content", "finish_reason", "model", "usage", "cost", "endpoint", "request_id", "latency",
    "attempts",
)  # fmt: skip


def add_printing_options(parser: argparse.ArgumentParser, no_stream: str) -> None:
    """Add the options that say how answers are printed; `no_stream` is the help of --no-stream."""
    parser.add_argument("--no-stream", action="store_true", help=no_stream)
    parser.add_argument(
        "--show-thinking",
        action="store_true",
        help=_("print what the model thinks to standard error, as far as it tells"),
    )


class AnswerPrinter:
    """Prints one answer after the other.

    Args:
        show_thinking: Print what the model thinks to standard error, in front of the answer.

    Attributes:
        arrived: The text of the answer that is printed now, as far as it came.
    """

    def __init__(self, *, show_thinking: bool = False) -> None:
        self.arrived = ""
        self._show_thinking = show_thinking
        self._thinks = False

    def stream(self, pieces: Iterable[Chunk | ChatCompletionResult]) -> ChatCompletionResult | None:
        """Print an answer as it comes, and return the whole, which is the last of the pieces.

        Its line is ended also where it breaks off: what is then said gets its own.
        """
        from ..chat import ChatCompletionResult

        self.arrived, result = "", None
        try:
            for piece in pieces:
                if isinstance(piece, ChatCompletionResult):
                    result = piece
                    continue
                if piece.reasoning_content and self._show_thinking:
                    self._think(piece.reasoning_content)
                if piece.content:
                    self._end_thought()
                    self.arrived += piece.content
                    print_text(piece.content, end="")
        except BaseException:  # Ctrl-C too: what is said next begins a line, in the terminal's own colours
            self._end_thought()
            if self.arrived:
                print_data("")
            raise
        self._end_thought()
        print_data("")
        if result is not None:
            remark(result)
        return result

    def whole(self, result: ChatCompletionResult) -> None:
        """Print an answer that is complete."""
        if result.reasoning_content and self._show_thinking:
            self._think(result.reasoning_content)
            self._end_thought()
        print_text(result.content)
        remark(result)

    def _think(self, text: str) -> None:
        shows = is_terminal(sys.stderr)
        if shows and not self._thinks:
            whisper(_DIM)
        self._thinks = True
        whisper(_harmless(text) if shows else text)

    def _end_thought(self) -> None:
        if self._thinks:
            self._thinks = False
            whisper(f"{_PLAIN if is_terminal(sys.stderr) else ''}\n\n")


def remark(result: ChatCompletionResult) -> None:
    """Say what is not as it should be with an answer."""
    import logging

    for sentence in _remarks(result):
        logging.getLogger(__name__).warning(sentence)


def _remarks(result: ChatCompletionResult) -> Iterator[str]:
    if result.finish_reason == "length":
        yield _("the answer was cut at the token limit; --max-tokens N allows more")
    elif result.finish_reason == "content_filter":
        yield _("the provider's filter cut the answer")
    elif result.finish_reason == "error":
        yield _("the server says that the answer ended with an error")
    if result.tool_calls and not result.content:
        yield _("the model calls a tool instead of answering; --json shows the call")
    elif not result.content.strip():
        yield _("the answer is empty")


def print_answer_json(result: ChatCompletionResult, **more: Any) -> None:
    """Print an answer with all that is known of it."""
    print_json(answer_fields(result) | more)


def answer_fields(result: ChatCompletionResult) -> dict[str, Any]:
    """Return an answer with all that is known of it, JSON-able."""
    calls = [call.as_dict() for call in result.tool_calls or ()]
    return {name: getattr(result, name) for name in FIELDS} | {"tool_calls": calls or None}


def print_text(text: str, end: str = "\n") -> None:
    """Print what a model wrote; on a terminal without what would steer it."""
    print_data(_harmless(text) if is_terminal(sys.stdout) else text, end)


def _harmless(text: str) -> str:
    """Return a text that a terminal only shows: what a model says may not move the cursor or type into the shell."""
    from ..controls import without_controls

    return without_controls(text.replace("\r", ""))
