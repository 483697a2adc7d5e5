"""One chat while it lasts: the conversation, whom it is with, and what becomes of each question."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from ...chat import ChatCompletionResult, Chunk
from ...errors import FlexLLMError, InputError
from ...language import _
from ...messages import Message
from ..answers import AnswerPrinter
from ..output import complain, talk
from .conversation import Conversation


class Asked(Protocol):
    """What answers."""

    def stream(
        self, messages: Sequence[Message], params: Mapping[str, Any]
    ) -> Generator[Chunk | ChatCompletionResult, None, None]:
        """Yield an answer in pieces, then the whole."""

    def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> ChatCompletionResult:
        """Return an answer."""

    def close(self) -> None:
        """Close connections."""


class Partner(NamedTuple):
    """Whom one talks with.

    Attributes:
        name: The model, as the user knows it.
        place: Where it is asked, for people.
        params: Of each request.
        system: What the configuration has for it as a system message.
    """

    client: Asked
    name: str
    place: str
    params: Mapping[str, Any]
    system: str | None = None


class ChatSession:
    """One chat.

    Args:
        meet: Returns the partner of a name, None being the first one.
        system: The user's own system message; None leaves it to the configuration.
        streams: Whether answers are printed as they come.
        show: Prints a whole answer.

    Raises:
        ConfigError: From `meet`: there is no such partner.
    """

    def __init__(
        self,
        meet: Callable[[str | None], Partner],
        printer: AnswerPrinter,
        *,
        system: str | None = None,
        streams: bool = True,
        show: Callable[[ChatCompletionResult], None] | None = None,
    ) -> None:
        self._meet = meet
        self._printer = printer
        self._show = show or printer.whole
        self._streams = streams
        self._own_system = system is not None
        self._failed: Any = None
        self.partner = meet(None)
        self.conversation = Conversation(self.partner.system if system is None else system)

    def close(self) -> None:
        """Close the partner's connections."""
        self.partner.client.close()

    def ask(self, content: Any) -> None:
        """Ask, print the answer and keep both. Of an answer without any text nothing is kept.

        Raises:
            FlexLLMError: The request failed. The conversation is as it was; `retry` asks once more.
            KeyboardInterrupt: The user ended the answer; what came of it is kept, marked as cut.
        """
        self._failed = content
        messages = self.conversation.asking(content)
        try:
            result = self._answer(messages)
        except KeyboardInterrupt:
            if self._printer.arrived.strip():
                self._failed = None
                self.conversation.add_cut(content, self._printer.arrived)
            raise
        if result is not None and result.content.strip():
            self._failed = None
            self.conversation.add(content, result.assistant_message)

    def ask_and_tell(self, content: Any) -> None:
        """Ask; whatever goes wrong is told in a sentence, and the chat goes on."""
        is_cut = False
        try:
            self.ask(content)
        except KeyboardInterrupt:
            is_cut = True
        except FlexLLMError as error:
            complain(error)
        if self._failed is not None:
            talk(_("[The question is taken back; /retry asks it again.]"))
        elif is_cut:
            talk(_("[Cut off; what came is kept. /undo forgets it, /retry asks again.]"))

    def retry(self) -> Any:
        """Return the question that failed, else the last one, which is taken back with its answer, else None."""
        return self._failed if self._failed is not None else self.conversation.undo()

    def clear(self) -> None:
        """Forget all that was said; the system message stays."""
        self._failed = None
        self.conversation.clear()

    def load(self, value: Any, name: str) -> None:
        """Go on with a conversation that was saved, its system message included.

        Args:
            name: Where it was, for errors.

        Raises:
            InputError: It is none; the old one stays.
        """
        try:
            self.conversation.load(value)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        self._failed, self._own_system = None, True

    def set_system(self, text: str | None) -> None:
        """Set the system message for what is asked next; None removes it."""
        self._own_system = True
        self.conversation.system = text

    def switch(self, name: str) -> None:
        """Go on with another partner; the conversation stays.

        Raises:
            ConfigError: There is none of this name; the old one stays.
        """
        partner = self._meet(name)
        old, self.partner = self.partner, partner
        if not self._own_system:
            self.conversation.system = partner.system
        old.client.close()

    # --- inside

    def _answer(self, messages: list[Message]) -> ChatCompletionResult | None:
        self._printer.arrived = ""
        client, params = self.partner.client, self.partner.params
        if self._streams and not params.get("response_format"):
            with closing(client.stream(messages, params)) as pieces:  # or an interrupt leaves it running
                return self._printer.stream(pieces)
        result = client.complete(messages, params)
        self._show(result)
        return result
