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
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from .replies import ReceivedRequest, Reply, Step, dump_json

T = TypeVar("T")

CREATED_UNIX = 1767225600  # 2026-01-01: every `created` is the same, so that replies do not depend on the clock
CHARACTERS_PER_TOKEN = 4  # English prose; a rough estimate on purpose, see wire formats 8.3
MESSAGE_TOKENS = 4  # overhead per message; with REPLY_TOKENS the figure OpenAI published for its chat markup
REPLY_TOKENS = 3
IMAGE_TOKENS = 85  # OpenAI's price of a low-detail image; base64 is never counted as text
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
WITHOUT_CONTENT = ("tool_calls", "function_call", "refusal", "audio")  # an assistant message with one may have none
MAX_CHOICES = 128
REMARKS = (
    "That seems clear enough.",
    "There is little to add.",
    "In short: yes, with care.",
    "More detail would help, but this will do.",
)
# Status -> message, type, code. Source: wire formats 1.8.
ERRORS: dict[int, tuple[str, str, str]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests. Please try again later.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", "server_error"),
    503: ("The server is currently overloaded. Please try again later.", "server_error", "server_is_overloaded"),
}
JSON_KINDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object"}

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


def prompt(body: object) -> str | None:
    """Return the text of the last user message, or None if there is none."""
    messages = body.get("messages") if isinstance(body, dict) else None
    for message in reversed(messages if isinstance(messages, list) else []):
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


def other(request: ReceivedRequest, models: Sequence[str]) -> Reply:
    """Return the model list, one model, or a 404 or 405."""
    path = request.path.removeprefix("/v1")
    if not is_chat(path) and path != "/models" and not path.startswith("/models/"):
        return _error(404, f"Invalid URL ({request.method} {request.path})", None, "unknown_url")
    allowed = "POST" if is_chat(path) else "GET"
    if request.method != allowed:
        refusal = _error(405, f"Not allowed to {request.method} on {request.path}.", None, "method_not_supported")
        return replace(refusal, headers={"allow": allowed})
    if path == "/models":
        return Reply(body=dump_json({"object": "list", "data": [_model(model) for model in models]}))
    model = unquote(path.removeprefix("/models/"))
    if model not in models:
        return _error(404, f"The model '{model}' does not exist.", "model", "model_not_found")
    return Reply(body=dump_json(_model(model)))


def _model(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": CREATED_UNIX, "owned_by": "flexllm-mock"}


def chat(request: ReceivedRequest, body: object, token_delay: float) -> Reply:
    """Return the completion or its stream, or the 400 that OpenAI would give."""
    if not isinstance(body, dict):
        return _error(400, "We could not parse the JSON body of your request as an object.", None, None)
    try:
        _check_body(body)
    except _WrongBody as wrong:
        return _error(400, *wrong.args)
    answer = _answer(body)
    if not body.get("stream"):
        return Reply(body=dump_json(_completion(answer)))
    with_usage = (body.get("stream_options") or {}).get("include_usage") is True
    stream_headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(headers=stream_headers, pieces=tuple(_events(answer, with_usage, token_delay)))


# ------------------------------------------------------------------------------------------------ checking a request


class _WrongBody(Exception):
    """The request is refused; the arguments are message, param and code of the error body."""


def _check_body(body: Mapping[str, Any]) -> None:
    """Raise `_WrongBody` for the first fault found."""
    _checked(body.get("model") or None, str, "model")
    messages = _checked(body.get("messages"), list, "messages")
    if not messages:
        raise _WrongBody("Invalid 'messages': empty array. Expected at least one message.", "messages", "empty_array")
    for at, message in enumerate(messages):
        _check_message(message, f"messages[{at}]")
    for name in ("n", "max_tokens", "max_completion_tokens"):
        number = body.get(name)
        if number is None:
            continue
        if _checked(number, int, name) < 1 or (name == "n" and number > MAX_CHOICES):
            allowed = f"1 to {MAX_CHOICES}" if name == "n" else "at least 1"
            raise _WrongBody(f"Invalid '{name}': {number}. Expected {allowed}.", name, "invalid_value")
    if body.get("stream") is not None:
        _checked(body["stream"], bool, "stream")
    if body.get("stream_options") is not None:
        _checked(body["stream_options"], dict, "stream_options")
        if not body.get("stream"):
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise _WrongBody(message, "stream_options", None)


def _check_message(message: object, place: str) -> None:
    fields = _checked(message, dict, place)
    role, content = _checked(fields.get("role"), str, f"{place}.role"), fields.get("content")
    if role not in ROLES:
        supported = ", ".join(f"'{known}'" for known in ROLES)
        message = f"Invalid value: '{role}'. Supported values are: {supported}."
        raise _WrongBody(message, f"{place}.role", "invalid_value")
    if isinstance(content, str):
        return
    if content is None and role == "assistant" and any(fields.get(name) for name in WITHOUT_CONTENT):
        return
    for at, part in enumerate(_checked(content, list, f"{place}.content")):
        part_place = f"{place}.content[{at}]"
        _checked(_checked(part, dict, part_place).get("type"), str, f"{part_place}.type")


def _checked(value: object, kind: type[T], param: str) -> T:
    """Return the value if it is there and of this kind of JSON."""
    if value is None:
        raise _WrongBody(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        is_not = f"expected {JSON_KINDS[kind]}, but got {JSON_KINDS[type(value)]} instead"
        raise _WrongBody(f"Invalid type for '{param}': {is_not}.", param, "invalid_type")
    return value


# ---------------------------------------------------------------------------------------------------- making an answer


class _Answer(NamedTuple):
    model: str
    digest: str
    choices: Sequence[tuple[str, str]]  # text, finish reason
    usage: Mapping[str, object]

    def envelope(self, kind: str) -> dict[str, object]:
        return {
            "id": f"chatcmpl-{self.digest}",
            "object": kind,
            "created": CREATED_UNIX,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
        }


def _answer(body: Mapping[str, Any]) -> _Answer:
    digest = _digest(body)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    end = None if limit is None else limit * CHARACTERS_PER_TOKEN
    choices = []
    for at in range(body.get("n") or 1):
        text = _reply_text(f"{digest}{at or ''}", prompt(body) or "")
        choices.append((text[:end], "stop" if text == text[:end] else "length"))
    return _Answer(body["model"], digest, choices, _usage(body["messages"], [text for text, _ in choices]))


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
    return f'Mock answer {number}: you wrote "{words}". {REMARKS[int(number, 16) % len(REMARKS)]}'


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


def _completion(answer: _Answer) -> dict[str, object]:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        for index, (text, finish_reason) in enumerate(answer.choices)
    ]
    return {**answer.envelope("chat.completion"), "choices": choices, "usage": answer.usage}


def _events(answer: _Answer, with_usage: bool, token_delay: float) -> Iterator[Step]:
    """Yield the events of a stream: roles, texts (the choices in turns), finish reasons, usage if asked, [DONE]."""
    envelope = answer.envelope("chat.completion.chunk")
    no_usage: dict[str, object] = {"usage": None} if with_usage else {}

    def event(index: int, delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: %b\n\n" % dump_json({**envelope, "choices": [choice], **no_usage})

    for index in range(len(answer.choices)):
        yield 0.0, event(index, {"role": "assistant", "content": "", "refusal": None})
    for turn, pieces in enumerate(zip_longest(*(_pieces(text) for text, _ in answer.choices))):
        for index, piece in enumerate(pieces):
            if piece is not None:
                yield (token_delay if turn and not index else 0.0), event(index, {"content": piece})
    for index, (_, finish_reason) in enumerate(answer.choices):
        yield 0.0, event(index, {}, finish_reason)
    if with_usage:
        yield 0.0, b"data: %b\n\n" % dump_json({**envelope, "choices": [], "usage": answer.usage})
    yield 0.0, b"data: [DONE]\n\n"


def _pieces(text: str) -> list[str]:
    """Cut a text after every third word; joined, the pieces are the text."""
    return re.findall(r"\s*(?:\S+\s*){1,3}", text)
