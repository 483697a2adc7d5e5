"""OpenAI's chat completions, and every server that speaks them: DeepSeek, Qwen, vLLM, Ollama and many more.

What their servers differ in is in `dialects`; how a request is said to them in `requests`, what replies say in
`replies`, streams in `stream`. Source of the wire facts: OpenAI's API reference and its SDK's models;
dialects as noted where they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ...chat import ChatCompletionResult, ChatRequest, Chunk
from ...errors import ApiStatusError, MalformedResponse
from ...language import _
from ...media.options import MediaWants
from ...sse import ServerSentEvent
from ...wire import NO_KEY, Headers, HttpRequest, HttpResponse, Target
from ..base import common_headers, decode_body, encode_body, json_or_none, refuse_stream, request_id_of, with_own
from ..status import redirect_error
from .dialects import GATEWAY, UNKNOWN, Dialect, continuing_url, dialect_of
from .models import is_closed
from .replies import (
    REQUEST_ID_HEADERS,
    calls_of,
    details_of,
    finish_of,
    hidden_error,
    read_error,
    texts_of,
    usage_of,
)
from .requests import adapt_messages, adapt_params, is_plain
from .stream import read_chunks

DEFAULT_BASE_URL = "https://api.openai.com/v1"

NOT_FOR_CHAT = frozenset({"embedding", "image", "audio", "video", "rerank", "moderation", "transcribe"})
"""Types of models, as Together lists them, that do not chat."""


class OpenAIProvider:
    """Speaks `POST {base_url}/chat/completions`."""

    name = "openai"
    needs_key = False
    request_id_headers: tuple[str, ...] = REQUEST_ID_HEADERS

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the request; what its server knows by OpenAI's words, and its own fields, go into the body unchanged."""
        dialect, url, headers = _prepared(target, stream)
        payload: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.params}
        if stream:
            payload["stream"] = True
            # Without it OpenAI sends no usage in a stream at all.
            if dialect.stream_options:
                payload.setdefault("stream_options", {"include_usage": True})
        else:
            refuse_stream(payload)
        if not is_plain(request.messages, dialect):
            served = GATEWAY if dialect is UNKNOWN and is_closed(request.model) else dialect
            if adapt_messages(payload, served) and dialect.continues_at_beta:
                url = f"{continuing_url(target.base_url)}/chat/completions"
        if not dialect.watched.isdisjoint(request.params):
            adapt_params(payload, dialect, stream=stream)
        return HttpRequest("POST", url, headers, encode_body(payload))

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a completion."""
        data = decode_body(response, REQUEST_ID_HEADERS)
        request_id = request_id_of(response.headers, REQUEST_ID_HEADERS)
        if not isinstance(data, dict):
            raise MalformedResponse(
                _("the reply is not an object but {kind}", kind=type(data).__name__), request_id=request_id
            )
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
        if choice is None or "error" in data or "base_resp" in data or "error" in choice:
            error = hidden_error(data, choice, response.headers, response.body)
            if error is not None:
                raise error
        if choice is None:
            raise MalformedResponse(_("the reply holds no choices"), request_id=request_id)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise MalformedResponse(_("the reply's first choice holds no message"), request_id=request_id)
        content, reasoning, refused = texts_of(message)
        finish_reason, native_finish_reason = finish_of(choice)
        calls = None
        if message.get("tool_calls") or message.get("function_call"):
            calls = calls_of(message, str(data.get("id") or "") or response.body)
        if finish_reason == "stop":
            finish_reason = "tool_calls" if calls else "content_filter" if refused else "stop"
        elif finish_reason is None and calls:
            finish_reason = "tool_calls"
        details = details_of(message) if "reasoning_details" in message else None
        model = data.get("model")
        return ChatCompletionResult(
            content,
            usage_of(data.get("usage")),
            reasoning,
            calls,
            finish_reason,
            model if isinstance(model, str) else None,
            request_id,
            response.elapsed,
            False,
            response.body,
            1,
            native_finish_reason,
            {self.name: details} if details else None,
        )

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream up to `[DONE]`, or to its end if a finish reason has come (some servers send no end mark)."""
        return read_chunks(events, self.name)

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read an error reply in any of the shapes that compatible servers use."""
        if 300 <= response.status < 400:
            return redirect_error(response, request_id_of(response.headers, REQUEST_ID_HEADERS))
        data = json_or_none(response.body)
        return read_error(response.status, response.headers, response.body, data)

    def models_request(self, target: Target, page: str | None) -> HttpRequest:
        """Return the request for `GET {base_url}/models`, which has no pages."""
        url = f"{target.base_url}/models{dialect_of(target.base_url).models_query}"
        return HttpRequest("GET", url, _headers(target, False), b"")

    def models(self, response: HttpResponse) -> tuple[list[str], str | None]:
        """Read the list, which some servers send without the object around it; those that say so do not chat."""
        data = decode_body(response, REQUEST_ID_HEADERS)
        listed = data.get("data") if isinstance(data, dict) else data
        if not isinstance(listed, list):
            error = hidden_error(data, None, response.headers, response.body) if isinstance(data, dict) else None
            if error is not None:
                raise error
            request_id = request_id_of(response.headers, REQUEST_ID_HEADERS)
            raise MalformedResponse(_("the list of models holds no list"), request_id=request_id)
        return [str(one["id"]) for one in listed if isinstance(one, dict) and one.get("id") and _chats(one)], None

    def media(self, target: Target) -> MediaWants:
        """Return what the server wants; most fetch remote URLs themselves."""
        return dialect_of(target.base_url).media

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether a body holds choices."""
        return "choices" in body


@lru_cache(maxsize=256)
def _prepared(target: Target, stream: bool) -> tuple[Dialect, str, Headers]:
    """Return what is the same for all requests to a target: who it is, the URL, the headers."""
    return dialect_of(target.base_url), f"{target.base_url}/chat/completions", _headers(target, stream)


def _headers(target: Target, stream: bool) -> Headers:
    return with_own((("Authorization", f"Bearer {target.api_key or NO_KEY}"), *common_headers(stream)), target)


def _chats(model: Mapping[str, Any]) -> bool:
    """Whether nothing says that a model does not chat. Together tells its type, Mistral what it can."""
    powers = model.get("capabilities")
    if isinstance(powers, dict) and powers.get("completion_chat") is False:
        return False
    return not (isinstance(model.get("type"), str) and model["type"] in NOT_FOR_CHAT)
