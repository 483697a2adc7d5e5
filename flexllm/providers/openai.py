"""OpenAI's chat completions, and every server that speaks them: DeepSeek, Qwen, vLLM, Ollama and many more.

Source of the wire facts: OpenAI's API reference and its SDK's models; dialects as noted where they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..chat import ChatCompletionResult, ChatRequest, Chunk, ToolCall, ToolCallDelta, Usage
from ..errors import ApiStatusError, InputError, MalformedResponse
from ..sse import ServerSentEvent
from ..wire import NO_KEY, Headers, HttpRequest, HttpResponse, Target
from .base import decode_body, encode_body, status_error

DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider:
    """Speaks `POST {base_url}/chat/completions`."""

    name = "openai"

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the request; the caller's parameters go into the body unchanged."""
        payload = {"model": request.model, "messages": request.messages, **request.params}
        if stream:
            payload["stream"] = True
            # Without it OpenAI sends no usage in a stream at all.
            payload.setdefault("stream_options", {"include_usage": True})
        elif payload.get("stream"):
            raise InputError(
                "stream=True is no parameter of a call that awaits a whole answer; use the one that streams"
            )
        url = f"{target.base_url}/chat/completions"
        return HttpRequest("POST", url, _headers(target, stream), encode_body(payload))

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a completion."""
        data = decode_body(response)
        request_id = response.headers.get("x-request-id")
        if not isinstance(data, dict):
            raise MalformedResponse(f"the reply is not an object but {type(data).__name__}", request_id=request_id)
        if data.get("error"):
            raise _error(response.status, response.headers, response.body, data)
        choices = data.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            if data.get("object") == "error":
                raise _error(response.status, response.headers, response.body, data)
            raise MalformedResponse("the reply holds no choices", request_id=request_id)
        choice = choices[0]
        message = choice.get("message")
        if not isinstance(message, dict):
            raise MalformedResponse("the reply's first choice holds no message", request_id=request_id)
        content, reasoning = _texts(message)
        calls = _tool_calls(message.get("tool_calls"))
        finish_reason = choice.get("finish_reason")
        return ChatCompletionResult(
            content,
            _usage(data.get("usage")),
            reasoning,
            calls,
            "tool_calls" if calls and finish_reason == "stop" else finish_reason,
            data.get("model"),
            request_id,
            response.elapsed,
            False,
            response.body,
        )

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream up to `[DONE]`, or to its end if a finish reason has come (some servers send no end mark)."""
        finished = False
        numbers = _CallNumbers()
        for event in events:
            if event.data == "[DONE]":
                return
            try:
                data = json.loads(event.data)
            except (ValueError, RecursionError):
                raise MalformedResponse(f"a piece of the stream is not JSON: {event.data[:80]!r}") from None
            if not isinstance(data, dict):
                raise MalformedResponse(f"a piece of the stream is not an object: {event.data[:80]!r}")
            if data.get("error") or data.get("object") == "error" or event.name == "error":
                raise _error(200, {}, event.data, data)
            chunk = _chunk(data, numbers)
            finished = finished or bool(chunk.finish_reason)
            yield chunk
        if not finished:
            raise MalformedResponse("the stream ended without its end mark")

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read an error reply in any of the shapes that compatible servers use."""
        if 300 <= response.status < 400:
            place = response.headers.get("location", "another place")
            said = f"the server redirects ({response.status}) to {place}; give that as base_url if it is right"
            request_id = response.headers.get("x-request-id")
            return status_error(404, response.body, message=said, code=None, request_id=request_id)
        try:
            data = json.loads(response.body)
        except (ValueError, RecursionError):
            data = None
        return _error(response.status, response.headers, response.body, data)


def _headers(target: Target, stream: bool) -> Headers:
    own = (
        ("Authorization", f"Bearer {target.api_key or NO_KEY}"),
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if stream else "application/json"),
        ("Accept-Encoding", "identity" if stream else "gzip, deflate"),
        ("User-Agent", "flexllm"),
    )
    if not target.headers:
        return own
    given = {name.lower() for name, _ in target.headers}
    return tuple(pair for pair in own if pair[0].lower() not in given) + target.headers


def _texts(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return a message's text and what the model thought.

    DeepSeek and Qwen call it `reasoning_content`, vLLM and Ollama `reasoning`; Mistral sends a list of parts.
    """
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
        reasoning = reasoning or "".join(_joined(thought) for thought in thoughts)
        content = _joined([part for part in parts if part.get("type") == "text"])
    if content is None:
        content = message.get("refusal") or ""
    return str(content), str(reasoning) if reasoning else None


def _joined(parts: Any) -> str:
    """Return the texts of a list of parts, or what already is a text."""
    if isinstance(parts, list):
        return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
    return parts if isinstance(parts, str) else ""


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    total = _count(usage.get("total_tokens")) or prompt + completion
    return Usage(usage, prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)


def _count(number: Any) -> int:
    """Return a count that may be missing, null, a float or a text in some dialect."""
    if type(number) is int:
        return max(0, number)
    try:
        return max(0, int(float(number)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _tool_calls(calls: Any) -> list[ToolCall] | None:
    if not isinstance(calls, list) or not calls:
        return None
    return [
        ToolCall(
            str(call.get("id") or f"call_{position}"),
            str(call.get("type") or "function"),
            {"name": str(function.get("name") or ""), "arguments": _arguments(function.get("arguments"))},
        )
        for position, call in enumerate(calls)
        if isinstance(call, dict)
        for function in [_function(call)]
    ]


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call's name and arguments; those of a custom tool are free text, called `input`."""
    custom = call.get("custom")
    if isinstance(custom, dict):
        return {"name": custom.get("name"), "arguments": custom.get("input")}
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def _arguments(arguments: Any) -> str:
    """Return arguments as JSON text; some gateways send an object."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


class _CallNumbers:
    """Numbers the tool calls of one stream. Some servers leave `index` out, some send the same one for every call."""

    def __init__(self) -> None:
        self._ids: dict[int, str | None] = {}
        self._latest: dict[int | None, int] = {}

    def number(self, index: int | None, call_id: str | None, name: str | None) -> int:
        """Return the number of the call that a piece belongs to.

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
                return latest
        number = index if index is not None and index not in self._ids else max(self._ids, default=-1) + 1
        self._ids[number] = call_id
        self._latest[index] = number
        return number


def _chunk(data: Mapping[str, Any], numbers: _CallNumbers) -> Chunk:
    usage = _usage(data.get("usage"))
    model = data.get("model")
    choice = _first_choice(data.get("choices"))
    if choice is None:
        return Chunk(usage=usage, model=model)
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return Chunk(finish_reason=choice.get("finish_reason"), usage=usage, model=model)
    content, reasoning = _texts(delta)
    return Chunk(
        content=content,
        reasoning_content=reasoning or "",
        tool_calls=_deltas(delta["tool_calls"], numbers) if delta.get("tool_calls") else (),
        finish_reason=choice.get("finish_reason"),
        usage=usage,
        model=model,
    )


def _first_choice(choices: Any) -> Mapping[str, Any] | None:
    """Return what a piece adds to the first answer; with `n` above 1 the others come in between."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):
                return choice
    return None


def _deltas(calls: Any, numbers: _CallNumbers) -> tuple[ToolCallDelta, ...]:
    deltas = []
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict):
            continue
        function = _function(call)
        index = call.get("index")
        call_id = str(call["id"]) if call.get("id") else None
        name = str(function["name"]) if function.get("name") else None
        number = numbers.number(index if isinstance(index, int) else None, call_id, name)
        deltas.append(ToolCallDelta(number, call_id, name, _arguments(function.get("arguments"))))
    return tuple(deltas)


def _error(status: int, headers: Mapping[str, str], body: bytes | str, data: Any) -> ApiStatusError:
    """Read an error body. Its message stands in `error.message`, `error`, `message`, `detail`, or is the whole text."""
    message: Any = None
    code: Any = None
    if isinstance(data, list) and data:  # Gemini's compatible layer wraps the object in a list
        data = data[0]
    if isinstance(data, dict):
        inner = data.get("error")
        source = inner if isinstance(inner, dict) else data
        message = (inner if isinstance(inner, str) else None) or source.get("message") or data.get("detail")
        code = source.get("code")
        if re.fullmatch("[45][0-9][0-9]", str(code)):
            status = int(code) if 200 <= status < 300 else status  # the status that a 200 hides
            code = None
        code = code or _kind(source)
    if message is None:
        message = body if isinstance(body, str) else body[:500].decode("utf-8", "replace")
    elif not isinstance(message, str):
        message = json.dumps(message, ensure_ascii=False)
    return status_error(
        status, body, message=message, code=None if code is None else str(code), request_id=headers.get("x-request-id")
    )


def _kind(source: Mapping[str, Any]) -> str | None:
    """Return what kind of error it is where no code says so. OpenRouter puts that, and moderation, into `metadata`."""
    metadata = source.get("metadata")
    if isinstance(metadata, dict):
        if isinstance(metadata.get("error_type"), str):
            return str(metadata["error_type"])
        if metadata.get("reasons"):
            return "content_policy_violation"
    kind = source.get("type")
    return kind if isinstance(kind, str) else None
