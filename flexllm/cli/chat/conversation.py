"""What has been said so far: questions and answers in turn, and the system message in front. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ...language import _
from ...messages import Message, normalise_messages

CUT = "[The answer was cut off here.]"
"""Put behind what came of an answer that the user ended, so that the model knows that it did not end there by itself."""

_SYSTEM = ("system", "developer")


class Conversation:
    """The messages of one chat.

    Args:
        system: The system message; None or "" is none.

    Attributes:
        messages: Without the system message.
        system: It applies to what is asked next.
    """

    def __init__(self, system: str | None = None) -> None:
        self.messages: list[Message] = []
        self.system = system

    def asking(self, content: Any) -> list[Message]:
        """Return what is sent to ask something; nothing is kept of it yet."""
        return [*self._in_front(), *self.messages, {"role": "user", "content": content}]

    def add(self, content: Any, answer: Message) -> None:
        """Keep a question, and the answer to it: its text alone where the rest could not be sent back.

        That is where a tool is called, for nobody here tells what it gave, and providers refuse to go on without; and
        where a text holds half a character.
        """
        if answer.get("tool_calls") or not _is_whole(answer):
            answer = {"role": "assistant", "content": _made_whole(answer["content"])}
        self.messages += [{"role": "user", "content": content}, answer]

    def add_cut(self, content: Any, text: str) -> None:
        """Keep a question, and what came of an answer that was cut off."""
        self.add(content, {"role": "assistant", "content": f"{text}\n{CUT}"})

    def undo(self) -> Any:
        """Forget the last question and what came after it. Return its content, None if there is no question."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position]["role"] == "user":
                content = self.messages[position]["content"]
                del self.messages[position:]
                return content
        return None

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages.clear()

    @property
    def is_answered(self) -> bool:
        """Whether the last question, if there is one, has its answer."""
        return not self.messages or self.messages[-1]["role"] != "user"

    def as_json(self, model: str) -> dict[str, Any]:
        """Return the conversation as it is saved. `flexllm batch` reads such an object as a row, too."""
        return {"model": model, "messages": [*self._in_front(), *self.messages]}

    def load(self, value: Any) -> None:
        """Take on a conversation: an object with `messages`, or a list of messages. The old one is forgotten.

        Raises:
            InputError: It is none; nothing is changed.
        """
        messages = value.get("messages") if isinstance(value, Mapping) else value
        if not isinstance(messages, list):
            raise InputError(_("it holds no conversation: an object with 'messages', or a list of messages, is needed"))
        checked = normalise_messages(messages) if messages else []
        checked = [
            one for one in checked if one["role"] not in _SYSTEM or one["content"]
        ]  # providers refuse empty ones
        first = checked[0] if checked else {}
        has_system = first.get("role") in _SYSTEM and isinstance(first.get("content"), str)
        self.system = first["content"] if has_system else None
        self.messages = checked[1:] if has_system else checked

    def _in_front(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []


def _is_whole(answer: Message) -> bool:
    """Return whether an answer holds no half of a character, which models do send and nobody takes back."""
    try:
        json.dumps(answer, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def _made_whole(text: str) -> str:
    """Return a text with two halves of a character joined, and a mark in the place of one alone."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
