"""What is asked and answered, as values: a request, its result, and the pieces of a stream.

No wire format is known here; providers translate. The public names are those of the user's document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError
from .language import _
from .messages import Message
from .pages import answer_page


class Usage(dict[str, Any]):
    """Token counts of one reply: a mapping that is JSON-able, with the common counts as attributes too.

    Keys: `prompt_tokens`, `completion_tokens`, `total_tokens` (always there); `cached_tokens`, `cache_write_tokens` and
    `reasoning_tokens` where the server tells them; and whatever else it sent, under its own names. On every provider
    tokens read from a cache and written to one are part of `prompt_tokens`, and reasoning is part of
    `completion_tokens`.
    """

    __slots__ = ()

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the request."""
        return int(self["prompt_tokens"])

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply, reasoning included."""
        return int(self["completion_tokens"])

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return int(self["total_tokens"])

    @property
    def cached_tokens(self) -> int:
        """Tokens of the request that the server had in its cache; 0 if it does not tell."""
        return int(self.get("cached_tokens", 0))

    @property
    def cache_write_tokens(self) -> int:
        """Tokens of the request that the server put into its cache; 0 if it does not tell."""
        return int(self.get("cache_write_tokens", 0))

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reply that are thinking; 0 if the server does not tell."""
        return int(self.get("reasoning_tokens", 0))


@dataclass(slots=True)
class ToolCall:
    """A call of a tool that the model asks for.

    Attributes:
        id: Names the call; the tool's answer repeats it as `tool_call_id`.
        type: "function", or "custom" for a tool that takes free text.
        function: `{"name": ..., "arguments": "<JSON text>"}`; of a custom tool, `arguments` is the free text.
    """

    id: str
    type: str
    function: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the call as it stands in an assistant message."""
        if self.type == "custom":
            custom = {"name": self.function.get("name"), "input": self.function.get("arguments")}
            return {"id": self.id, "type": "custom", "custom": custom}
        return {"id": self.id, "type": self.type, "function": self.function}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One conversation to be continued.

    Attributes:
        messages: Checked messages, in the form of `messages.normalise_messages`.
        model: The model to ask.
        params: Request parameters in OpenAI's words (`temperature`, `max_tokens`, `tools`, `response_format`, ...), which
            a provider says in its own; the provider's native fields, which pass unchanged; and `thinking`, the one switch
            for all providers: None, False, True, a strength ("minimal", "low", "medium", "high"), a budget in tokens, or
            the provider's own object.
    """

    messages: Sequence[Message]
    model: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError(_("no model is named: give model=... to the client or to this call"))


@dataclass(frozen=True, slots=True)
class ChatCompletionResult:
    """The model's answer to one request. `str(result)` is the text.

    Attributes:
        content: The text; "" where the model only called tools.
        usage: Token counts, None if the server sent none.
        reasoning_content: What the model thought aloud, None if it did not.
        tool_calls: The calls it asks for, None if there are none.
        finish_reason: "stop", "length", "tool_calls", "content_filter", "error", or a word of the server's that is none
            of these.
        model: The model that answered, by its own name.
        request_id: The server's id of this request, for its support.
        latency: Seconds from sending to the last byte, of the attempt that succeeded.
        cached: The answer came from the response cache, or is that of an equal row; it cost nothing.
        body: The untouched body as it came; None for a stream, and for a row read back from a file that does not keep it.
        attempts: How many times the request was sent until it was answered; hedged ones are counted.
        hedged: How many of these were sent beside another, which was slow, and billed. `usage` is that of the answer alone:
            what the other took is not told, and is about as much again.
        native_finish_reason: The finish reason in the provider's own word.
        native: What the provider demands back unchanged when the conversation goes on (signed thinking, say), by the
            provider's name; None where there is no such thing.
        parsed: The content as the value that `response_format` asked for; None where none was.
        endpoint: The base URL that answered; None if unknown.
        cost: US dollars of all attempts of this row that were billed, as far as that can be known; None where no price is
            known for the model, and 0.0 for an answer from the cache.
        cost_estimated: The part of `cost` that no usage bears out: attempts that broke off, replies without usage.
    """

    content: str
    usage: Usage | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    finish_reason: str | None = None
    model: str | None = None
    request_id: str | None = None
    latency: float | None = None
    cached: bool = False
    body: bytes | None = field(default=None, repr=False)
    attempts: int = 1
    native_finish_reason: str | None = None
    native: Mapping[str, Any] | None = field(default=None, repr=False)
    parsed: Any = None
    hedged: int = 0
    endpoint: str | None = None
    cost: float | None = None
    cost_estimated: float = 0.0

    @property
    def assistant_message(self) -> Message:
        """This turn as a message, to be put behind the others when the conversation goes on.

        What the provider wants back unchanged is in it: `reasoning_content` and, under `native`, signed content. Another
        provider than the one that made it is not sent either.
        """
        message: Message = {"role": "assistant", "content": self.content or (None if self.tool_calls else "")}
        if self.reasoning_content:
            message["reasoning_content"] = self.reasoning_content
        if self.tool_calls:
            message["tool_calls"] = [call.as_dict() for call in self.tool_calls]
        if self.native:
            message["native"] = dict(self.native)
        return message

    @property
    def raw(self) -> Any:
        """The untouched body, decoded from JSON anew at each use, as most are never looked at, and a batch keeps many."""
        return None if self.body is None else json.loads(self.body)

    @property
    def data(self) -> Any:
        """The older name of `raw`."""
        return self.raw

    def __str__(self) -> str:
        return self.content

    def _repr_html_(self) -> str:
        """Return the answer for notebooks, its thinking folded and its tokens and cost in one quiet line."""
        return answer_page(self)


def set_origin(result: ChatCompletionResult, endpoint: str, cost: float | None, estimated: float) -> None:
    """Fill in who answered and what it cost, before anybody else has seen the result.

    A copy would take longer than all that the reply is read with; the constructor sets frozen fields in the same way.
    """
    object.__setattr__(result, "endpoint", endpoint)
    if cost is not None:
        object.__setattr__(result, "cost", cost)
        if estimated:
            object.__setattr__(result, "cost_estimated", estimated)


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call in a stream; pieces with the same `index` belong together. `type` stands in the first."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    type: str = "function"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed answer; every field is what this piece adds, or empty.

    `native` holds, by the provider's name, items to be added to those that came before. `request_id` is there where the
    provider names a request in its pieces rather than in a header.
    """

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    native_finish_reason: str | None = None
    native: Mapping[str, Sequence[Any]] | None = None
    request_id: str | None = None


def as_chunk(result: ChatCompletionResult) -> Chunk:
    """Return a whole answer as the one piece of a stream."""
    calls = enumerate(result.tool_calls or ())
    return Chunk(
        content=result.content,
        reasoning_content=result.reasoning_content or "",
        tool_calls=tuple(
            ToolCallDelta(index, call.id, call.function["name"], call.function["arguments"], call.type)
            for index, call in calls
        ),
        finish_reason=result.finish_reason,
        usage=result.usage,
        model=result.model,
        native_finish_reason=result.native_finish_reason,
        native=result.native,
        request_id=result.request_id,
    )


class ChunkCollector:
    """Adds the pieces of one stream up to a `ChatCompletionResult`."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._model: str | None = None
        self._native_finish_reason: str | None = None
        self._native: dict[str, list[Any]] = {}
        self._request_id: str | None = None

    @property
    def content(self) -> str:
        """The text so far."""
        return "".join(self._content)

    def add(self, chunk: Chunk) -> None:
        """Take in the next piece."""
        if chunk.content:
            self._content.append(chunk.content)
        if chunk.reasoning_content:
            self._reasoning.append(chunk.reasoning_content)
        for delta in chunk.tool_calls:
            call = self._calls.setdefault(delta.index, {"id": "", "name": "", "type": delta.type})
            call["id"] = call["id"] or delta.id or ""
            call["name"] = call["name"] or delta.name or ""
            self._arguments.setdefault(delta.index, []).append(delta.arguments)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model
        self._native_finish_reason = chunk.native_finish_reason or self._native_finish_reason
        self._request_id = chunk.request_id or self._request_id
        if chunk.native:
            for name, items in chunk.native.items():
                self._native.setdefault(name, []).extend(items)

    def result(
        self, *, latency: float | None = None, request_id: str | None = None, attempts: int = 1
    ) -> ChatCompletionResult:
        """Return everything taken in so far as one result."""
        calls = [
            ToolCall(call["id"], call["type"], {"name": call["name"], "arguments": "".join(self._arguments[index])})
            for index, call in sorted(self._calls.items())
        ]
        return ChatCompletionResult(
            content=self.content,
            usage=self._usage,
            reasoning_content="".join(self._reasoning) or None,
            tool_calls=calls or None,
            finish_reason="tool_calls" if calls and self._finish_reason == "stop" else self._finish_reason,
            model=self._model,
            request_id=request_id or self._request_id,
            latency=latency,
            attempts=attempts,
            native_finish_reason=self._native_finish_reason,
            native=self._native or None,
        )


def collect(chunks: Iterable[Chunk]) -> ChatCompletionResult:
    """Add all pieces of a stream up to its result."""
    collector = ChunkCollector()
    for chunk in chunks:
        collector.add(chunk)
    return collector.result()
