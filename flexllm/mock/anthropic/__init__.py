"""The Anthropic dialect: messages, whole and streamed, token counts, the models list, and error bodies.

Pure functions, as `replies.Dialect` asks for them. What is refused is in `requests` and `rules`, how in `errors`.
Source: Anthropic's API reference, messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from ..answers import Answer, Question, answer, json_text
from ..replies import Ending, ReceivedRequest, Reply, Step, dump_json, parse_json
from ..texts import digest, json_pieces, pieces, token_estimate
from .errors import broken, failure, model, overload, rate_headers, refused, two_keys, unauthorized
from .models import model_info
from .requests import VERSIONS, refusal
from .rules import is_own_tool, request_fault, thinks
from .signatures import sign

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
    "unauthorized",
]

ORGANIZATION = "00000000-0000-4000-8000-000000000000"
MAX_BODY = 32 * 1024 * 1024  # bytes
DELIVERY = ("stream", "max_tokens", "stop_sequences")
MESSAGE_TOKENS = 4  # overhead per message, a round figure
MEDIA_TOKENS = 1500  # an image or a document; base64 is never counted as text
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use", "refusal": "refusal"}
DEFAULT_LIMIT, MAX_LIMIT = 20, 1000  # models per page


def claims(request: ReceivedRequest) -> bool:
    """Whether a request is in this dialect. The models list has the same path elsewhere: the version header decides."""
    path = request.path
    if path.startswith("/v1/messages"):
        return True
    return path.startswith("/v1/models") and "anthropic-version" in request.headers


def is_chat(path: str) -> bool:
    """Whether a POST there asks for a message."""
    return path == "/v1/messages"


def key(request: ReceivedRequest) -> str | None:
    """Return the key, from either of its two headers; None if both are there."""
    own, bearer = request.headers.get("x-api-key"), request.headers.get("authorization")
    if (own is None) == (bearer is None):
        return None
    scheme, _, value = ("bearer", "", own) if bearer is None else bearer.partition(" ")
    return value if value and scheme.lower() == "bearer" else None


def headers(request_id: str, seconds: float) -> Mapping[str, str]:
    """Return what Anthropic sends with every reply."""
    return {"request-id": request_id, "anthropic-organization-id": ORGANIZATION}


def prompt(request: ReceivedRequest) -> str | None:
    """Return the text of the last user message that has one, or None; what tools gave back is no text of the user's."""
    body = parse_json(request.body)
    messages = body.get("messages") if isinstance(body, dict) else None
    return _prompt(messages) if isinstance(messages, list) else None


def _prompt(messages: Sequence[object]) -> str | None:
    is_asked = False
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            is_asked = True
            text = _content_text(message.get("content"))
            if text:
                return text
    return "" if is_asked else None


def _content_text(content: object) -> str:
    """Return the text of a message; several blocks are joined with a newline."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None = None) -> Reply:
    """Return the message or its stream, the count, the models, or the 4xx that Anthropic would give."""
    wrong_headers = _header_refusal(request.headers)
    if wrong_headers is not None:
        return wrong_headers
    if request.path == "/v1/models" or request.path.startswith("/v1/models/"):
        return _models(request, models) if request.method == "GET" else _not_allowed(request, "GET")
    if request.path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return failure(404)
    if request.method != "POST":
        return _not_allowed(request, "POST")
    if len(request.body) > MAX_BODY:
        return failure(413)
    body = parse_json(request.body)
    if not isinstance(body, dict):
        return failure(400, "The request body is not valid JSON: an object is expected")
    is_count = request.path.endswith("/count_tokens")
    fault = request_fault(body, request.headers["anthropic-version"], is_count=is_count)
    if fault is not None:
        return failure(400, refusal(fault))
    if is_count:
        return Reply(body=dump_json({"input_tokens": _input_tokens(body)}))
    return _chat(body, token_delay, ending)


def _header_refusal(headers: Mapping[str, str]) -> Reply | None:
    doubled = two_keys(headers)
    if doubled is not None:
        return doubled
    version = headers.get("anthropic-version")
    if version is None:
        return failure(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        return failure(400, f'anthropic-version: "{version[:40]}" is not a valid version')
    return None


def _not_allowed(request: ReceivedRequest, allowed: str) -> Reply:
    error = failure(405, f"Method Not Allowed: {request.method} on {request.path}")
    return Reply(status=405, body=error.body, headers={"allow": allowed})


# ---------------------------------------------------------------------------------------------------- models


def _models(request: ReceivedRequest, models: Sequence[str]) -> Reply:
    if request.path != "/v1/models":
        name = unquote(request.path.removeprefix("/v1/models/"))
        return Reply(body=dump_json(model_info(name))) if name in models else failure(404, f"model: {name}")
    query = {name: values[-1] for name, values in parse_qs(request.query).items()}
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LIMIT:
        return failure(400, f"limit: Input should be a valid integer between 1 and {MAX_LIMIT}")
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in models:
            return failure(400, f"{name}: there is no model with this id")
    return _page(_listed(models, query), int(limit), is_backward="before_id" in query)


def _listed(models: Sequence[str], query: Mapping[str, str]) -> Sequence[str]:
    if query.get("lifecycle", "active") != "active":
        return ()
    listed = list(models)
    if "after_id" in query:
        listed = listed[listed.index(query["after_id"]) + 1 :]
    if query.get("before_id") in listed:
        listed = listed[: listed.index(query["before_id"])]
    return listed


def _page(models: Sequence[str], limit: int, *, is_backward: bool) -> Reply:
    page = models[-limit:] if is_backward else models[:limit]
    listed = {
        "data": [model_info(name) for name in page],
        "has_more": len(page) < len(models),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }
    return Reply(body=dump_json(listed))


# ---------------------------------------------------------------------------------------------------- making an answer


def _chat(body: Mapping[str, Any], token_delay: float, ending: Ending | None) -> Reply:
    message = _message(body, ending)
    tokens = message["usage"]["input_tokens"] + message["usage"]["output_tokens"]
    if not body.get("stream"):
        whole = {**message, "content": [_whole(block) for block in message["content"]]}
        return Reply(body=dump_json(whole), tokens=tokens)
    stream_headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(headers=stream_headers, pieces=tuple(_events(message, token_delay)), tokens=tokens)


def _message(body: Mapping[str, Any], ending: Ending | None) -> dict[str, Any]:
    """Return the message; the input of a tool is still JSON text in it, perhaps half of it."""
    mark = digest(body, DELIVERY)
    one = answer(_question(body, mark, ending))
    is_hidden = (body.get("thinking") or {}).get("display") == "omitted"
    return {
        "id": f"msg_{mark[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": list(_blocks(one, mark, is_hidden)),
        "stop_reason": "stop_sequence" if one.stop is not None else STOP_REASONS[one.ending],
        "stop_sequence": one.stop,
        "stop_details": _stop_details(one),
        "usage": _usage(body, one),
    }


def _stop_details(one: Answer) -> Mapping[str, object] | None:
    if one.ending != "refusal":
        return None
    return {"type": "refusal", "category": "general_harms", "explanation": one.text}


def _question(body: Mapping[str, Any], mark: str, ending: Ending | None) -> Question:
    messages = body["messages"]
    choice = body.get("tool_choice") or {"type": "auto"}
    tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools") or () if is_own_tool(tool)}
    if choice["type"] == "tool":
        tools = {name: schema for name, schema in tools.items() if name == choice["name"]}
    wanted = (body.get("output_config") or {}).get("format")
    last = messages[-1]["content"]
    return Question(
        digest=mark,
        asked=_prompt(messages) or "",
        tools=tools,
        forced=tuple(tools) if choice["type"] in ("any", "tool") else (),
        may_call=choice["type"] != "none",
        is_parallel=not choice.get("disable_parallel_tool_use") and choice["type"] != "tool",
        has_results=not _content_text(last) and any(block["type"] == "tool_result" for block in last),
        thinks=thinks(body),
        schema=None if wanted is None else wanted["schema"],
        limit=body["max_tokens"],
        stops=body.get("stop_sequences") or (),
        ending=ending,
    )


def _blocks(one: Answer, mark: str, is_hidden: bool) -> Iterator[dict[str, Any]]:
    if one.thought:
        shown = "" if is_hidden else one.thought
        yield {"type": "thinking", "thinking": shown, "signature": sign(shown, mark)}
    if one.text and one.ending != "refusal":
        yield {"type": "text", "text": one.text}
    for at, call in enumerate(one.calls):
        yield {"type": "tool_use", "id": f"toolu_{mark[:22]}{at}", "name": call.name, "input": call.arguments}


def _whole(block: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**block, "input": _parsed(block["input"])} if block["type"] == "tool_use" else block


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:  # a limit cut it
        return {}


def _usage(body: Mapping[str, Any], one: Answer) -> dict[str, Any]:
    thought, made = one.tokens()
    return {
        "input_tokens": _input_tokens(body),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"thinking_tokens": thought},
        "service_tier": "standard",
    }


def _input_tokens(body: Mapping[str, Any]) -> int:
    count = _block_tokens(body.get("system"))
    for message in body["messages"]:
        count += MESSAGE_TOKENS + _block_tokens(message["content"])
    if body.get("tools"):
        count += token_estimate(json_text(body["tools"]))
    return count


def _block_tokens(content: Any) -> int:
    """Return the tokens of a content: a text, or blocks that may hold further ones."""
    if isinstance(content, str):
        return token_estimate(content)
    count = 0
    for block in content or ():
        kind = block["type"]
        if kind == "text":
            count += token_estimate(block["text"])
        elif kind == "tool_use":
            count += token_estimate(block["name"] + json_text(block["input"]))
        elif kind == "tool_result":
            count += _block_tokens(block.get("content"))
        elif kind in ("image", "document"):
            count += MEDIA_TOKENS
    return count


# ---------------------------------------------------------------------------------------------------- streams


def _events(message: Mapping[str, Any], token_delay: float) -> Iterator[Step]:
    """Yield the events of a stream: start, ping, each block in pieces, the reason of the end with usage, stop."""
    usage = message["usage"]
    start = {**usage, "output_tokens": min(1, usage["output_tokens"])}
    del start["output_tokens_details"]
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": start}
    yield 0.0, _event("message_start", message=begun)
    yield 0.0, _event("ping")
    pause = 0.0  # none before the first piece
    for index, block in enumerate(message["content"]):
        empty, deltas = _cut_up(block)
        yield 0.0, _event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield pause, _event("content_block_delta", index=index, delta=delta)
            pause = token_delay
        yield 0.0, _event("content_block_stop", index=index)
    ending = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    counted = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    counts = {name: usage[name] for name in (*counted, "output_tokens_details")}
    yield 0.0, _event("message_delta", delta=ending, usage=counts)
    yield 0.0, _event("message_stop")


def _event(name: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), dump_json({"type": name, **fields}))


def _cut_up(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return a block as it begins, and what is added to it piece by piece."""
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in json_pieces(block["input"])]
    return {**block, "input": {}}, deltas
