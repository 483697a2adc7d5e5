"""A stream of OpenAI's chat completions, read piece by piece; nothing waits for what comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...chat import Chunk, ToolCallDelta
from ...errors import MalformedResponse
from ...language import _
from ...sse import ServerSentEvent
from ..base import event_data, made_id
from .replies import (
    arguments_of,
    details_of,
    finish_of,
    function_of,
    hidden_error,
    read_error,
    texts_of,
    usage_of,
)

Json = Mapping[str, Any]

_USUAL_TIERS = (None, "", "auto", "default")
"""What `service_tier` says of replies at the usual price."""


def read_chunks(events: Iterator[ServerSentEvent], provider: str) -> Iterator[Chunk]:
    """Yield the pieces of a stream up to `[DONE]`, or to its end if a finish reason has come (some send no end mark).

    Args:
        provider: The name under which `native` items stand.
    """
    reader = _Reader(provider)
    is_done = has_reason = False
    for event in events:
        if event.data == "[DONE]":
            is_done = True
            break
        data = event_data(event)
        if event.name == "error":
            raise read_error(200, {}, event.data, data)
        choice = _first_choice(data.get("choices"))
        if choice is None or "error" in data or "base_resp" in data or "error" in choice:
            error = hidden_error(data, choice, {}, event.data)
            if error is not None:
                raise error
        chunk = reader.chunk(data, choice, event.data)
        has_reason = has_reason or chunk.finish_reason is not None
        yield chunk
    if not (is_done or has_reason):
        raise MalformedResponse(_("the stream ended without its end mark"))
    late = reader.details.take()
    reason = "tool_calls" if reader.has_called and not has_reason else None
    if late or reason:
        yield Chunk(finish_reason=reason, native={provider: late} if late else None)


def _first_choice(choices: Any) -> Json | None:
    """Return what a piece adds to the first answer; with `n` above 1 the others come in between."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):
                return choice
    return None


class _Reader:
    """Reads the pieces of one stream, and remembers what later ones need of earlier ones."""

    def __init__(self, provider: str) -> None:
        self.details = _Details()
        self._provider = provider
        self._numbers = _CallNumbers()
        self._seed: str | None = None
        self._answered = False
        self._refused = False

    @property
    def has_called(self) -> bool:
        """Whether a call of a tool has begun."""
        return self._numbers.are_any

    def chunk(self, data: Json, choice: Json | None, text: str) -> Chunk:
        """Return what one event adds."""
        usage, model = usage_of(data.get("usage")), data.get("model")
        if usage is not None and data.get("service_tier") not in _USUAL_TIERS:
            usage.setdefault(
                "service_tier", data["service_tier"]
            )  # it tells the price, and a stream has no body to keep
        model = model if isinstance(model, str) else None
        if choice is None:
            return Chunk(usage=usage or _groq_usage(data), model=model)
        finish_reason, native_finish_reason = finish_of(choice)
        if finish_reason and usage is None:
            usage = usage_of(choice.get("usage")) or _groq_usage(data)  # Kimi puts it into the choice
        delta = choice.get("delta")
        content, reasoning, calls = "", None, ()  # type: tuple[str, str | None, tuple[ToolCallDelta, ...]]
        if isinstance(delta, dict):
            content, reasoning, refused = texts_of(delta)
            self._refused = self._refused or refused
            if delta.get("tool_calls") or delta.get("function_call"):
                calls = self._calls(delta, str(data.get("id") or text))
            self._answered = self._answered or bool(calls) or bool(content and not refused)
            if "reasoning_details" in delta:
                self.details.add(delta)
        if finish_reason == "stop" and self._refused and not self._answered:
            finish_reason = "content_filter"
        items = self.details.take() if finish_reason else None
        return Chunk(
            content,
            reasoning or "",
            calls,
            finish_reason,
            usage,
            model,
            native_finish_reason,
            {self._provider: items} if items else None,
        )

    def _calls(self, delta: Json, seed: str) -> tuple[ToolCallDelta, ...]:
        calls = delta.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            function = delta.get("function_call")  # what came before tools
            calls = [{"index": 0, "function": function}] if isinstance(function, dict) else []
        deltas = []
        for call in calls:
            if not isinstance(call, dict):
                continue
            function, index = function_of(call), call.get("index")
            call_id = str(call["id"]) if call.get("id") else None
            name = str(function["name"]) if function.get("name") else None
            number, starts = self._numbers.number(index if type(index) is int else None, call_id, name)
            if starts and call_id is None:
                self._seed = self._seed or seed
                call_id = made_id(self._seed, number)
            kind = "custom" if isinstance(call.get("custom"), dict) else "function"
            deltas.append(ToolCallDelta(number, call_id, name, arguments_of(function), kind))
        return tuple(deltas)


def _groq_usage(data: Json) -> Any:
    """Return the usage that Groq's last piece brings unasked."""
    own = data.get("x_groq")
    return usage_of(own.get("usage")) if isinstance(own, dict) else None


class _CallNumbers:
    """Numbers the tool calls of one stream. Some servers leave `index` out, some send the same one for every call."""

    def __init__(self) -> None:
        self._ids: dict[int, str | None] = {}
        self._latest: dict[int | None, int] = {}

    @property
    def are_any(self) -> bool:
        """Whether a call has been numbered."""
        return bool(self._ids)

    def number(self, index: int | None, call_id: str | None, name: str | None) -> tuple[int, bool]:
        """Return the number of the call that a piece belongs to, and whether the piece starts it.

        A piece starts a new call where its index is new, or, with an index that is not, where it brings another id and
        a name. Without an index, another id or, failing ids, a name starts a new call.
        """
        latest = self._latest.get(index)
        if latest is not None:
            known = self._ids[latest]
            if index is None:
                starts = call_id != known if call_id else bool(name)
            else:
                starts = bool(call_id and name and known and call_id != known)
            if not starts:
                self._ids[latest] = known or call_id
                return latest, False
        number = index if index is not None and index not in self._ids else max(self._ids, default=-1) + 1
        self._ids[number] = call_id
        self._latest[index] = number
        return number, True


class _Details:
    """Puts the pieces of `reasoning_details` together: texts of one index grow, everything else is an item of its own."""

    _GROWING = ("text", "summary")

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []

    def add(self, delta: Json) -> None:
        """Take in the pieces of one event."""
        for piece in details_of(delta):
            begun = self._begun(piece)
            if begun is None:
                self._items.append(dict(piece))
                continue
            for word, value in piece.items():
                if word in self._GROWING and isinstance(value, str) and isinstance(begun.get(word), str):
                    begun[word] += value
                elif value is not None:
                    begun[word] = value

    def _begun(self, piece: Json) -> dict[str, Any] | None:
        """Return the item that a piece continues: the last one of its type and index, if that type grows."""
        if piece.get("type") not in ("reasoning.text", "reasoning.summary"):
            return None
        for item in reversed(self._items):
            if item.get("type") == piece["type"] and item.get("index") == piece.get("index"):
                ids = item.get("id"), piece.get("id")
                return item if None in ids or ids[0] == ids[1] else None
        return None

    def take(self) -> list[dict[str, Any]] | None:
        """Return the items that came since they were last taken, None if there are none."""
        items, self._items = self._items, []
        return items or None
