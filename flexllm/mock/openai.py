"""The OpenAI dialect: chat completions, whole and streamed, the model list, and error bodies.

Pure functions, as `replies.Dialect` asks for them. An answer follows from the request alone, so that it is the same on
every machine. Source: wire formats, sections 1 and 9.1.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .replies import ReceivedRequest, Reply, Step, dump_json, parse_json

CREATED_UNIX = 1767225600  # 2026-01-01: every `created` is the same, so that replies do not depend on the clock
CHARACTERS_PER_TOKEN = 4  # English prose; a rough estimate on purpose, see wire formats 8.3
MESSAGE_TOKENS = 4  # overhead per message; with REPLY_TOKENS the figure OpenAI published for its chat markup
REPLY_TOKENS = 3
IMAGE_TOKENS = 85  # OpenAI's price of a low-detail image; base64 is never counted as text
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
WITHOUT_CONTENT = ("tool_calls", "function_call", "refusal", "audio")  # an assistant message with one may have none
MAX_CHOICES = 128
# Status -> message, type, code. Source: wire formats 1.8.
ERRORS: dict[int, tuple[str, str, str]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests. Please try again later.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", "server_error"),
    503: ("The server is currently overloaded. Please try again later.", "server_error", "server_is_overloaded"),
}
FIELDS: dict[str, type[Any]] = {
    "model": str,
    "messages": list,
    "n": int,
    "max_tokens": int,
    "max_completion_tokens": int,
    "stream": bool,
    "stream_options": dict,
}
REQUIRED = ("model", "messages")
JSON_KINDS = {str: "a string", bool: "a boolean", int: "an integer", list: "an array", dict: "an object"}

_CANONICAL_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def is_chat(path: str) -> bool:
    """Whether a POST there asks for a completion; the version may be missing."""
    return path.removeprefix("/v1") == "/chat/completions"


def key(request: ReceivedRequest) -> str | None:
    """Return the bearer key."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def headers(request_id: str, seconds: float) -> Mapping[str, str]:
    """Return what OpenAI sends with every reply."""
    return {
        "x-request-id": request_id,
        "openai-processing-ms": str(round(seconds * 1000)),
        "openai-version": "2020-10-01",
    }


def prompt(request: ReceivedRequest) -> str | None:
    """Return the text of the last user message, or None if there is none."""
    body = parse_json(request.body)
    messages = body.get("messages") if isinstance(body, dict) else None
    return _prompt(messages) if isinstance(messages, list) else None


def _prompt(messages: Sequence[object]) -> str | None:
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _content_text(message.get("content"))
    return None


def _content_text(content: object) -> str:
    """Return the text of a message; several text parts are joined with a newline."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def failure(status: int, message: str | None = None) -> Reply:
    """Return an error, with the usual message, type and code of its status."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    usual, kind, code = ERRORS.get(status, (f"The mock server was asked to answer {status}.", kind, None))
    return _error(status, message or usual, None, code, kind)


def _error(
    status: int, message: str, param: str | None, code: str | None, kind: str = "invalid_request_error"
) -> Reply:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body=dump_json({"error": error}))


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float) -> Reply:
    """Return the completion or its stream, the model list, or the 4xx that OpenAI would give."""
    path = request.path.removeprefix("/v1")
    allowed = {"/chat/completions": "POST", "/models": "GET"}.get(path)
    if allowed is None:
        return _error(404, f"Invalid URL ({request.method} {request.path})", None, "unknown_url")
    if request.method != allowed:
        refusal = _error(405, f"Not allowed to {request.method} on {request.path}.", None, "method_not_supported")
        return replace(refusal, headers={"allow": allowed})
    if path == "/models":
        shared = {"object": "model", "created": CREATED_UNIX, "owned_by": "flexllm-mock"}
        return Reply(body=dump_json({"object": "list", "data": [{"id": model, **shared} for model in models]}))
    body = parse_json(request.body)
    if not isinstance(body, dict):
        return _error(400, "We could not parse the JSON body of your request as an object.", None, None)
    fault = next(_faults(body), None)
    return _chat(body, token_delay) if fault is None else _error(400, *fault)


# ------------------------------------------------------------------------------------------------ checking a request

_Fault = tuple[str, str, str]  # message, param, code


def _faults(body: Mapping[str, Any]) -> Iterator[_Fault]:
    """Yield what OpenAI would refuse. Only the first counts: those behind it may follow from it."""
    for name, kind in FIELDS.items():
        value = body.get(name)
        if not value and name in REQUIRED:
            yield f"Missing required parameter: '{name}'.", name, "missing_required_parameter"
        if value is None:
            continue
        if type(value) is not kind:
            yield f"Invalid type for '{name}': expected {JSON_KINDS[kind]}.", name, "invalid_type"
        if kind is int and (value < 1 or (name == "n" and value > MAX_CHOICES)):
            yield f"Invalid '{name}': {value} is out of range.", name, "invalid_value"
    for at, message in enumerate(body["messages"]):
        yield from _message_faults(message, f"messages[{at}]")
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "'stream_options' is only allowed when 'stream' is enabled.", "stream_options", "invalid_value"


def _message_faults(message: object, place: str) -> Iterator[_Fault]:
    if not isinstance(message, dict):
        yield f"Invalid type for '{place}': expected an object.", place, "invalid_type"
        return
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        yield f"Invalid role {role!r}. Supported values are: {', '.join(ROLES)}.", f"{place}.role", "invalid_value"
    if isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                name = f"{place}.content[{at}]"
                yield f"Invalid type for '{name}': expected an object with a 'type'.", name, "invalid_type"
        return
    may_lack = role == "assistant" and any(message.get(name) for name in WITHOUT_CONTENT)
    if not isinstance(content, str) and not (content is None and may_lack):
        name = f"{place}.content"
        yield f"Invalid type for '{name}': expected a string or an array of objects.", name, "invalid_type"


# ---------------------------------------------------------------------------------------------------- making an answer


def _chat(body: Mapping[str, Any], token_delay: float) -> Reply:
    completion = _completion(body)
    if not body.get("stream"):
        return Reply(body=dump_json(completion))
    with_usage = (body.get("stream_options") or {}).get("include_usage") is True
    stream_headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(headers=stream_headers, pieces=tuple(_events(completion, with_usage, token_delay)))


def _completion(body: Mapping[str, Any]) -> dict[str, Any]:
    digest = _digest(body)
    asked = _prompt(body["messages"]) or ""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    end = None if limit is None else limit * CHARACTERS_PER_TOKEN
    wholes = [_reply_text(f"{digest}{at or ''}", asked) for at in range(body.get("n") or 1)]
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": whole[:end], "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop" if whole == whole[:end] else "length",
        }
        for index, whole in enumerate(wholes)
    ]
    return {
        "id": f"chatcmpl-{digest}",
        "object": "chat.completion",
        "created": CREATED_UNIX,
        "model": body["model"],
        "choices": choices,
        "usage": _usage(body["messages"], [whole[:end] for whole in wholes]),
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    }


def _digest(body: Mapping[str, Any]) -> str:
    """Return 32 hexadecimal digits of what is asked.

    How the answer is to be sent and where it is to end do not count, so a stream carries the text of the whole
    answer, and a short limit gives its beginning. Nor does the layout of the JSON.
    """
    delivery = ("stream", "stream_options", "max_tokens", "max_completion_tokens", "n")
    asked = {name: value for name, value in body.items() if name not in delivery}
    return hashlib.blake2b(_CANONICAL_ENCODER.encode(asked).encode(), digest_size=16).hexdigest()


def _reply_text(digest: str, asked: str) -> str:
    number = hashlib.blake2b(digest.encode(), digest_size=6).hexdigest()
    words = " ".join(word[:24] for word in asked.split(None, 10)[:10])
    return f'Mock answer {number}: you wrote "{words}". There is little to add.'


def _usage(messages: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> dict[str, object]:
    prompt_tokens = REPLY_TOKENS
    for message in messages:
        content = message.get("content")
        prompt_tokens += MESSAGE_TOKENS + _token_estimate(_content_text(content))
        if isinstance(content, list):
            prompt_tokens += IMAGE_TOKENS * sum(part["type"] not in ("text", "refusal") for part in content)
    completion_tokens = sum(_token_estimate(text) for text in texts)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _token_estimate(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)  # rounded up


def _events(completion: Mapping[str, Any], with_usage: bool, token_delay: float) -> Iterator[Step]:
    """Yield the events of a stream: for each choice role, text and finish reason; usage if asked; [DONE]."""
    envelope = {**completion, "object": "chat.completion.chunk"}
    usage = envelope.pop("usage")
    if with_usage:
        envelope["usage"] = None

    def event(index: int, delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: %b\n\n" % dump_json({**envelope, "choices": [choice]})

    for choice in completion["choices"]:
        index = choice["index"]
        yield 0.0, event(index, {"role": "assistant", "content": "", "refusal": None})
        for at, piece in enumerate(_pieces(choice["message"]["content"])):
            yield (token_delay if at else 0.0), event(index, {"content": piece})
        yield 0.0, event(index, {}, choice["finish_reason"])
    if with_usage:
        yield 0.0, b"data: %b\n\n" % dump_json({**envelope, "choices": [], "usage": usage})
    yield 0.0, b"data: [DONE]\n\n"


def _pieces(text: str) -> list[str]:
    """Cut a text after every third word; joined, the pieces are the text."""
    return re.findall(r"\s*(?:\S+\s*){1,3}", text)
