"""What Anthropic answers, whole or in pieces, turned into a result, chunks or the typed error.

All content blocks of a turn are kept as they came (`native`) where one of them must be sent back unchanged when the
conversation goes on: signed thinking, the server's own tools, whatever is unknown here.
Source: Anthropic's API reference, messages, streaming and errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...chat import ChatCompletionResult, Chunk, ToolCall, ToolCallDelta, Usage
from ...errors import MalformedResponse
from ...language import _
from ...sse import ServerSentEvent
from ...wire import HttpResponse
from ..base import count, decode_body, event_data, made_id, make_usage, request_id_of
from .errors import reply_error
from .messages import NAME
from .parts import Block

REQUEST_ID_HEADERS = ("request-id", "x-request-id")

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",  # the server's own tools paused: send the turn back to go on
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_reply(response: HttpResponse) -> ChatCompletionResult:
    """Read a complete reply.

    Raises:
        MalformedResponse: It is no message.
        ApiStatusError: It is an error.
    """
    data = decode_body(response, REQUEST_ID_HEADERS)
    request_id = request_id_of(response.headers, REQUEST_ID_HEADERS)
    if not isinstance(data, dict):
        raise MalformedResponse(
            _("the reply is not an object but {kind}", kind=type(data).__name__), request_id=request_id
        )
    if data.get("error") or data.get("type") == "error":
        raise reply_error(response.status, response.body, data, request_id)
    content = data.get("content")
    if not isinstance(content, list):
        raise MalformedResponse(_("the reply holds no content"), request_id=request_id)
    blocks = [block for block in content if isinstance(block, dict)]
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    is_replayed = False
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block.get("text")))
            continue
        if kind == "tool_use":
            calls.append(_call(block, data.get("id"), len(calls)))
        elif kind == "thinking":
            thoughts.append(_text(block.get("thinking")))
        is_replayed = is_replayed or _must_be_replayed(block)
    native_finish_reason, finish_reason = _finish_reasons(data.get("stop_reason"))
    model = data.get("model")
    return ChatCompletionResult(
        "".join(texts),
        _usage(data.get("usage")),
        "".join(thoughts) or None,
        calls or None,
        "tool_calls" if calls and finish_reason == "stop" else finish_reason,
        model if isinstance(model, str) else None,
        request_id,
        response.elapsed,
        False,
        response.body,
        native_finish_reason=native_finish_reason,
        native={NAME: blocks} if is_replayed else None,
    )


def read_stream(events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
    """Read a stream up to `message_stop`.

    Raises:
        MalformedResponse: It ends before, or an event cannot be read.
        ApiStatusError: An event holds an error.
    """
    message = _Message()
    for event in events:
        if event.data in ("", "[DONE]") or event.data.isspace():  # keep-alives; a habit of proxies
            continue
        data = event_data(event)
        kind = data.get("type") or event.name
        if kind == "error" or data.get("error"):
            raise reply_error(200, event.data, data, None)
        if kind == "message_stop":
            native = message.native()
            if native is not None:
                yield Chunk(native={NAME: native})
            return
        chunk = message.take(kind, data)
        if chunk is not None:
            yield chunk
    raise MalformedResponse(_("the stream ended without its end mark"))


class _Message:
    """One message as its pieces come."""

    def __init__(self) -> None:
        self._id: Any = None
        self._usage: dict[str, Any] = {}
        self._blocks: list[_StreamedBlock] = []
        self._open: dict[int, _StreamedBlock] = {}
        self._calls = 0

    def take(self, kind: Any, data: Mapping[str, Any]) -> Chunk | None:
        """Return what an event adds, None if that is nothing. Events of other kinds than the known are read over."""
        if kind == "content_block_delta":
            return self._delta(data)
        if kind == "content_block_start":
            return self._start(data)
        if kind == "content_block_stop":
            block = self._open.pop(_index(data), None)
            rest = block.rest() if block is not None else None
            return Chunk(tool_calls=(rest,)) if rest is not None else None
        if kind == "message_delta":
            return self._end(data)
        if kind == "message_start":
            return self._begin(data)
        return None

    def native(self) -> list[Block] | None:
        """Return all blocks, if one of them must be sent back unchanged."""
        blocks = [block.whole() for block in self._blocks]
        return blocks if any(_must_be_replayed(block) for block in blocks) else None

    def _begin(self, data: Mapping[str, Any]) -> Chunk | None:
        message = data.get("message")
        if not isinstance(message, dict):
            return None
        self._id = message.get("id")
        self._add_usage(message.get("usage"))
        model = message.get("model")
        return Chunk(model=model if isinstance(model, str) else None, usage=self._total())

    def _start(self, data: Mapping[str, Any]) -> Chunk | None:
        start = data.get("content_block")
        if not isinstance(start, dict):
            return None
        block = self._opened(_index(data), start)
        kind = start.get("type")
        if kind == "text" and start.get("text"):
            return Chunk(content=_text(start["text"]))
        if kind == "thinking" and start.get("thinking"):
            return Chunk(reasoning_content=_text(start["thinking"]))
        if kind == "tool_use":
            block.call, self._calls = self._calls, self._calls + 1
            call = _call(start, self._id, block.call)
            return Chunk(tool_calls=(ToolCallDelta(block.call, call.id, call.function["name"]),))
        return None

    def _opened(self, index: int, start: Block) -> _StreamedBlock:
        block = self._open[index] = _StreamedBlock(start)
        self._blocks.append(block)
        return block

    def _delta(self, data: Mapping[str, Any]) -> Chunk | None:
        delta = data.get("delta")
        if not isinstance(delta, dict):
            return None
        kind = delta.get("type")
        block = self._open.get(_index(data))
        if kind == "text_delta":
            text = _text(delta.get("text"))
            (block or self._opened(_index(data), {"type": "text", "text": ""})).texts.append(text)
            return Chunk(content=text) if text else None
        if kind == "thinking_delta":
            text = _text(delta.get("thinking"))
            (block or self._opened(_index(data), {"type": "thinking", "thinking": ""})).texts.append(text)
            return Chunk(reasoning_content=text) if text else None
        if block is None:
            return None
        if kind == "input_json_delta":
            text = _text(delta.get("partial_json"))
            block.texts.append(text)
            return Chunk(tool_calls=(ToolCallDelta(block.call, arguments=text),)) if text and block.call >= 0 else None
        if kind == "signature_delta":
            block.signature = delta.get("signature")
        elif kind == "citations_delta":
            block.citations.append(delta.get("citation"))
        return None

    def _end(self, data: Mapping[str, Any]) -> Chunk:
        delta = data.get("delta")
        native_finish_reason, finish_reason = _finish_reasons(
            delta.get("stop_reason") if isinstance(delta, dict) else None
        )
        self._add_usage(data.get("usage"))
        unstopped = [block.rest() for block in self._open.values()]
        self._open.clear()
        return Chunk(
            tool_calls=tuple(rest for rest in unstopped if rest is not None),
            finish_reason=finish_reason,
            usage=self._total(),
            native_finish_reason=native_finish_reason,
        )

    def _add_usage(self, usage: Any) -> None:
        """Take in counts, which are totals: the later ones replace the earlier."""
        if isinstance(usage, dict):
            self._usage.update({name: number for name, number in usage.items() if number is not None})

    def _total(self) -> Usage | None:
        return _usage(self._usage) if self._usage else None


class _StreamedBlock:
    """A content block as its pieces come.

    Attributes:
        texts: The pieces of its text, its thinking or the JSON of its input.
        call: The number of the tool call that it is, -1 if it is none.
    """

    __slots__ = ("call", "citations", "signature", "start", "texts")

    def __init__(self, start: Block) -> None:
        self.start = start
        self.texts: list[str] = []
        self.signature: Any = None
        self.citations: list[Any] = []
        self.call = -1

    def rest(self) -> ToolCallDelta | None:
        """Return the arguments of a call that came at once, or not at all: {} is meant then."""
        if self.call < 0 or any(self.texts):
            return None
        return ToolCallDelta(self.call, arguments=_arguments(self.start.get("input")))

    def whole(self) -> Block:
        """Return the block as it would stand in a whole reply."""
        block, text = dict(self.start), "".join(self.texts)
        kind = block.get("type")
        if text and kind in ("text", "thinking"):
            block[kind] = _text(block.get(kind)) + text
        elif text:
            block["input"] = _parsed(text)
        if self.signature is not None:
            block["signature"] = self.signature
        if self.citations:
            block["citations"] = [*(block.get("citations") or ()), *self.citations]
        return block


def _index(data: Mapping[str, Any]) -> int:
    index = data.get("index")
    return index if isinstance(index, int) else 0


def _must_be_replayed(block: Mapping[str, Any]) -> bool:
    """Whether a block says more than text and a plain tool call do."""
    kind = block.get("type")
    if kind == "tool_use":
        caller = block.get("caller")
        is_direct = not isinstance(caller, dict) or caller.get("type") == "direct"
        return not is_direct or bool(block.get("toolset_name"))
    return kind != "text"


def _call(block: Mapping[str, Any], message_id: Any, position: int) -> ToolCall:
    call_id = str(block.get("id") or made_id(str(message_id or ""), position))
    return ToolCall(
        call_id, "function", {"name": str(block.get("name") or ""), "arguments": _arguments(block.get("input"))}
    )


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)


def _parsed(text: str) -> Any:
    """Return the input of a tool; an empty one where it was cut off."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _finish_reasons(native: Any) -> tuple[str | None, str | None]:
    """Return the server's word and the common one."""
    if not isinstance(native, str) or not native:
        return None, None
    return native, FINISH_REASONS.get(native, native)


def _text(text: Any) -> str:
    return text if isinstance(text, str) else ""


def _usage(usage: Any) -> Usage | None:
    """Return the counts. Anthropic's input tokens are only those that neither came from the cache nor went into it."""
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    details = usage.get("output_tokens_details")
    return make_usage(
        usage,
        prompt=count(usage.get("input_tokens")) + count(read) + count(written),
        completion=count(usage.get("output_tokens")),
        total=0,
        cached=read,
        cache_write=written,
        reasoning=details.get("thinking_tokens") if isinstance(details, dict) else None,
    )
