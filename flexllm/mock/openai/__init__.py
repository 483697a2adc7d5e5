"""The OpenAI dialect: chat completions, whole and streamed, the model list, and error bodies.

Pure functions, as `replies.Dialect` asks for them. An answer follows from the request alone, so that it is the same on
every machine. Here any server of the dialect is meant, vLLM and DeepSeek as well; `only` is OpenAI itself. What is
refused is in `requests`, how in `errors`. Source: OpenAI's API reference, chat completions, and those of the other servers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..answers import Answer, Call, Question, answer
from ..replies import Ending, ReceivedRequest, Reply, Step, dump_json, parse_json
from ..texts import digest, json_pieces, pieces, token_estimate
from .errors import broken, error_reply, failure, model, overload, rate_headers, refused, unauthorized
from .models import effort_of
from .requests import refusal, request_fault, tool_name
from .servers import thinks

__all__ = [
    "broken",
    "claims",
    "failure",
    "headers",
    "is_chat",
    "key",
    "model",
    "overload",
    "prompt",
    "rate_headers",
    "refused",
    "reply",
    "reply_of",
    "unauthorized",
]

CREATED_UNIX = 1767225600  # 2026-01-01: every `created` is the same, so that replies do not depend on the clock
MESSAGE_TOKENS = 4  # overhead per message; with REPLY_TOKENS the figure OpenAI published for its chat markup
REPLY_TOKENS = 3
IMAGE_TOKENS = 85  # OpenAI's price of a low-detail image; base64 is never counted as text
DELIVERY = ("stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "stop")
TIERS = {"auto": "default", "fast": "priority"}  # asked for -> reported; others are reported as they are
FINISH_REASONS = {"stop": "stop", "length": "length", "calls": "tool_calls", "refusal": "content_filter"}


def claims(request: ReceivedRequest) -> bool:
    """Whether a request is in this dialect: all of them are that no other dialect claims."""
    return True


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


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None = None) -> Reply:
    """Return the completion or its stream, the model list, or the 4xx that a server of the dialect would give."""
    return reply_of(request, models, token_delay, ending, is_own=False)


def reply_of(
    request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None, *, is_own: bool
) -> Reply:
    """Return the reply of OpenAI itself if `is_own`, otherwise that of any server of the dialect."""
    path = request.path.removeprefix("/v1")
    allowed = {"/chat/completions": "POST", "/models": "GET"}.get(path)
    if allowed is None:
        return error_reply(404, f"Invalid URL ({request.method} {request.path})", None, "unknown_url")
    if request.method != allowed:
        not_allowed = error_reply(
            405, f"Not allowed to {request.method} on {request.path}.", None, "method_not_supported"
        )
        return replace(not_allowed, headers={"allow": allowed})
    if path == "/models":
        shared = {"object": "model", "created": CREATED_UNIX, "owned_by": "flexllm-mock"}
        return Reply(body=dump_json({"object": "list", "data": [{"id": model, **shared} for model in models]}))
    body = parse_json(request.body)
    if not isinstance(body, dict):
        return error_reply(400, "We could not parse the JSON body of your request as an object.", None, None)
    fault = request_fault(body, is_own=is_own)
    if fault is None:
        return _chat(body, token_delay, ending, is_own)
    return error_reply(404 if fault.code == "model_not_found" else 400, *refusal(fault))


# ---------------------------------------------------------------------------------------------------- making an answer


def _chat(body: Mapping[str, Any], token_delay: float, ending: Ending | None, is_own: bool) -> Reply:
    completion = _completion(body, ending, is_own)
    tokens = completion["usage"]["total_tokens"]
    if not body.get("stream"):
        return Reply(body=dump_json(completion), tokens=tokens)
    with_usage = (body.get("stream_options") or {}).get("include_usage") is True
    stream_headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(headers=stream_headers, pieces=tuple(_events(completion, with_usage, token_delay)), tokens=tokens)


def _completion(body: Mapping[str, Any], ending: Ending | None, is_own: bool) -> dict[str, Any]:
    mark = digest(body, DELIVERY)
    tier = body.get("service_tier") or "default"
    question = _question(body, mark, is_own)
    if ending is not None:
        question = question._replace(ending=ending)
    answers = [answer(question)]
    answers += [answer(question._replace(digest=f"{mark}{at}")) for at in range(1, body.get("n") or 1)]
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": _message(one, mark, body, is_own),
            "logprobs": None,
            "finish_reason": "stop" if _is_spoken_refusal(one, body) else FINISH_REASONS[one.ending],
        }
        for index, one in enumerate(answers)
    ]
    return {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": CREATED_UNIX,
        "model": body["model"],
        "choices": choices,
        "usage": _usage(body["messages"], answers),
        "service_tier": TIERS.get(tier, tier),
        "system_fingerprint": "fp_mock",
    }


def _question(body: Mapping[str, Any], mark: str, is_own: bool) -> Question:
    messages = body["messages"]
    asked = _prompt(messages) or ""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    thinking = effort_of(body) is not None if is_own else thinks(body)
    if len(body) == 2:  # model and messages: the plain request, whose cost the measurements feel
        return Question(digest=mark, asked=asked, thinks=thinking)
    tools = {name: _parameters(tool) for tool in body.get("tools") or () if (name := tool_name(tool))}
    choice = body.get("tool_choice")
    stop = body.get("stop")
    return Question(
        digest=mark,
        asked=asked,
        tools=_allowed(tools, choice),
        forced=_forced(tools, choice),
        may_call=choice != "none",
        is_parallel=body.get("parallel_tool_calls") is not False and not _is_named(choice),
        has_results=messages[-1]["role"] == "tool",
        thinks=thinking,
        schema=_text_schema(body.get("response_format")),
        limit=limit,
        stops=(stop,) if isinstance(stop, str) else stop or (),
    )


def _parameters(tool: Mapping[str, Any]) -> object:
    """Return the schema of a function's arguments; None for a custom tool, which takes any text."""
    return None if tool["type"] == "custom" else tool["function"].get("parameters") or {"type": "object"}


def _is_named(choice: object) -> bool:
    return isinstance(choice, dict) and choice["type"] != "allowed_tools"


def _allowed(tools: Mapping[str, Any], choice: Any) -> Mapping[str, Any]:
    if not isinstance(choice, dict):
        return tools
    names = [tool_name(choice)] if _is_named(choice) else map(tool_name, choice["allowed_tools"]["tools"])
    return {name: tools[name] for name in names if name in tools}


def _forced(tools: Mapping[str, Any], choice: Any) -> Sequence[str]:
    if isinstance(choice, dict):
        is_forced = _is_named(choice) or choice["allowed_tools"]["mode"] == "required"
        return tuple(_allowed(tools, choice)) if is_forced else ()
    return tuple(tools) if choice in ("required", "any") else ()


def _text_schema(asked: Mapping[str, Any] | None) -> object:
    if asked is None or asked["type"] == "text":
        return None
    if asked["type"] == "json_schema":
        return asked["json_schema"].get("schema") or True
    return asked["type"] == "json_object" or None


def _is_spoken_refusal(one: Answer, body: Mapping[str, Any]) -> bool:
    """Whether the model itself refuses, as it does where it owes a schema; elsewhere a filter takes the text away."""
    return one.ending == "refusal" and (body.get("response_format") or {}).get("type") == "json_schema"


def _shows_reasoning(body: Mapping[str, Any]) -> bool:
    reasoning = body.get("reasoning")
    is_excluded = isinstance(reasoning, dict) and reasoning.get("exclude") is True
    return body.get("include_reasoning") is not False and not is_excluded


def _message(one: Answer, mark: str, body: Mapping[str, Any], is_own: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": one.text, "refusal": None, "annotations": []}
    if one.ending == "refusal":
        is_spoken = _is_spoken_refusal(one, body)
        message.update(content=None if is_spoken else "", refusal=one.text if is_spoken else None)
    if one.thought and not is_own and _shows_reasoning(body):
        message["reasoning_content"] = one.thought
    if one.calls:
        kinds = {tool_name(tool): tool["type"] for tool in body["tools"]}
        message["content"] = None
        message["tool_calls"] = [
            _call(call, kinds[call.name], f"call_{mark[:24]}{at}") for at, call in enumerate(one.calls)
        ]
    return message


def _call(call: Call, kind: str, call_id: str) -> dict[str, Any]:
    field = "input" if kind == "custom" else "arguments"
    return {"id": call_id, "type": kind, kind: {"name": call.name, field: call.arguments}}


def _usage(messages: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> dict[str, object]:
    prompt_tokens = REPLY_TOKENS
    for message in messages:
        content = message.get("content")
        prompt_tokens += MESSAGE_TOKENS + token_estimate(_content_text(content))
        if isinstance(content, list):
            prompt_tokens += IMAGE_TOKENS * sum(part["type"] not in ("text", "refusal") for part in content)
    reasoning_tokens = completion_tokens = 0
    for one in answers:
        thought, made = one.tokens()
        reasoning_tokens += thought
        completion_tokens += made
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
    }


# ---------------------------------------------------------------------------------------------------- streams


def _events(completion: Mapping[str, Any], with_usage: bool, token_delay: float) -> Iterator[Step]:
    """Yield the events of a stream: for each choice role, pieces and finish reason; usage if asked; [DONE]."""
    envelope = {**completion, "object": "chat.completion.chunk"}
    usage = envelope.pop("usage")
    if with_usage:
        envelope["usage"] = None

    def event(index: int, delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: %b\n\n" % dump_json({**envelope, "choices": [choice]})

    for choice in completion["choices"]:
        index, message = choice["index"], choice["message"]
        content = None if message["content"] is None else ""
        yield 0.0, event(index, {"role": "assistant", "content": content, "refusal": None})
        for at, delta in enumerate(_deltas(message)):
            yield (token_delay if at else 0.0), event(index, delta)
        yield 0.0, event(index, {}, choice["finish_reason"])
    if with_usage:
        yield 0.0, b"data: %b\n\n" % dump_json({**envelope, "choices": [], "usage": usage})
    yield 0.0, b"data: [DONE]\n\n"


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message in pieces: thought, text or refusal, and for each call its name and then its arguments."""
    for name in ("reasoning_content", "content", "refusal"):
        for piece in pieces(message.get(name) or ""):
            yield {name: piece}
    for at, call in enumerate(message.get("tool_calls") or ()):
        kind = call["type"]
        field = "input" if kind == "custom" else "arguments"
        yield {"tool_calls": [{**call, "index": at, kind: {**call[kind], field: ""}}]}
        for piece in json_pieces(call[kind][field]):
            yield {"tool_calls": [{"index": at, kind: {field: piece}}]}
