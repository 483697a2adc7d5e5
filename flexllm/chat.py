"""What is asked and answered, as values: a request, its result, and the pieces of a stream.

No wire format is known here; providers translate. The public names are those of the user's document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigError
from .messages import Message


class Usage(dict[str, Any]):
    """Token counts of one reply: a mapping that is JSON-able, with the three common counts as attributes too.

    Keys: `prompt_tokens`, `completion_tokens`, `total_tokens` (always there), and whatever details the server sent.
    Cached input is part of `prompt_tokens`, reasoning is part of `completion_tokens`.
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


@dataclass(slots=True)
class ToolCall:
    """A call of a tool that the model asks for.

    Attributes:
        id: Names the call; the tool's answer repeats it as `tool_call_id`.
        type: "function".
        function: `{"name": ..., "arguments": "<JSON text>"}`.
    """

    id: str
    type: str
    function: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the call as it stands in an assistant message."""
        return {"id": self.id, "type": self.type, "function": self.function}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One conversation to be continued.

    Attributes:
        messages: Checked messages, in the form of `messages.normalise_messages`.
        model: The model to ask.
        params: Request parameters, which go to the API unchanged (`temperature`, `max_tokens`, ...).
    """

    messages: Sequence[Message]
    model: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("no model is named: give model=... to the client or to this call")


@dataclass(frozen=True, slots=True)
class ChatCompletionResult:
    """The model's answer to one request. `str(result)` is the text.

    Attributes:
        content: The text; "" where the model only called tools.
        usage: Token counts, None if the server sent none.
        reasoning_content: What the model thought aloud, None if it did not.
        tool_calls: The calls it asks for, None if there are none.
        finish_reason: "stop", "length", "tool_calls", "content_filter" or the server's own word.
        model: The model that answered, by its own name.
        request_id: The server's id of this request, for its support.
        latency: Seconds from sending to the last byte, of the attempt that succeeded.
        cached: The answer came from the response cache.
        body: The untouched body as it came; None for a stream, and for a row read back from a file that does not keep it.
        attempts: How many times the request was sent until it was answered.
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

    @property
    def raw(self) -> Any:
        """The untouched body, decoded from JSON anew at each use: most are never looked at, and a batch keeps many."""
        return None if self.body is None else json.loads(self.body)

    @property
    def data(self) -> Any:
        """The older name of `raw`."""
        return self.raw

    def __str__(self) -> str:
        return self.content


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call in a stream; pieces with the same `index` belong together."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed answer; every field is what this piece adds, or empty."""

    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None


def as_chunk(result: ChatCompletionResult) -> Chunk:
    """Return a whole answer as the one piece of a stream."""
    calls = enumerate(result.tool_calls or ())
    return Chunk(
        content=result.content,
        reasoning_content=result.reasoning_content or "",
        tool_calls=tuple(
            ToolCallDelta(index, call.id, call.function["name"], call.function["arguments"]) for index, call in calls
        ),
        finish_reason=result.finish_reason,
        usage=result.usage,
        model=result.model,
    )


class ChunkCollector:
    """Adds the pieces of one stream up to a `ChatCompletionResult`."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._model: str | None = None

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
            call = self._calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or delta.id or ""
            call["name"] = call["name"] or delta.name or ""
            call["arguments"] += delta.arguments
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model

    def result(
        self, *, latency: float | None = None, request_id: str | None = None, attempts: int = 1
    ) -> ChatCompletionResult:
        """Return everything taken in so far as one result."""
        calls = [
            ToolCall(call["id"], "function", {"name": call["name"], "arguments": call["arguments"]})
            for _, call in sorted(self._calls.items())
        ]
        return ChatCompletionResult(
            content=self.content,
            usage=self._usage,
            reasoning_content="".join(self._reasoning) or None,
            tool_calls=calls or None,
            finish_reason="tool_calls" if calls and self._finish_reason == "stop" else self._finish_reason,
            model=self._model,
            request_id=request_id,
            latency=latency,
            attempts=attempts,
        )


def collect(chunks: Iterable[Chunk]) -> ChatCompletionResult:
    """Add all pieces of a stream up to its result."""
    collector = ChunkCollector()
    for chunk in chunks:
        collector.add(chunk)
    return collector.result()
