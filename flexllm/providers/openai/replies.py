"""What replies of servers that speak OpenAI's chat completions say: text, thinking, tool calls, usage, errors.

No server is asked who it is: each field says in which dialect it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...chat import ToolCall, Usage
from ...errors import ApiStatusError, ContentFiltered, QuotaExhausted
from ..base import count, made_id, make_usage, request_id_of
from ..status import QUOTA_CODES, status_error

REQUEST_ID_HEADERS = (
    "x-request-id",
    "apim-request-id",  # Azure
    "x-ds-trace-id",  # DeepSeek
    "x-siliconcloud-trace-id",
    "x-generation-id",  # OpenRouter
)

FINISH_REASONS = {
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "sensitive": "content_filter",
    "refusal": "content_filter",
    "insufficient_system_resource": "error",
    "network_error": "error",
}
"""Words of dialects (Together, Mistral, Z.ai, DeepSeek, gateways to Claude) in the common ones; others stay."""

MINIMAX_STATUSES = {
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    2013: 400,
    2049: 401,
    2056: 402,
}
"""What MiniMax's `base_resp.status_code` means; any other but 0 is a failure of the server. Source: its API reference."""
_MINIMAX_FILTERED = (1026, 1027)

Json = Mapping[str, Any]


def texts_of(message: Json) -> tuple[str, str | None, bool]:
    """Return a message's text, what the model thought, and whether the text is a refusal.

    DeepSeek and Qwen call thinking `reasoning_content`, vLLM and Ollama `reasoning`; Mistral sends a list of parts;
    MiniMax, and OpenRouter beside `reasoning`, `reasoning_details`. The text of an answer in sound is its transcript.
    """
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if type(content) is not str:
        if isinstance(content, list):
            parts = [part for part in content if isinstance(part, dict)]
            thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
            reasoning = reasoning or "".join(_joined(thought) for thought in thoughts)
            content = _joined([part for part in parts if part.get("type") == "text"])
        else:
            content = "" if content is None else str(content)
            audio = message.get("audio")
            if not content and isinstance(audio, dict):
                content = str(audio.get("transcript") or "")
    if not reasoning and "reasoning_details" in message:
        details = details_of(message)
        reasoning = "".join(str(item.get("text") or item.get("summary") or "") for item in details)
    if not content and message.get("refusal"):
        return str(message["refusal"]), str(reasoning) if reasoning else None, True
    return content, str(reasoning) if reasoning else None, False


def _joined(parts: Any) -> str:
    """Return the texts of a list of parts, or what already is a text."""
    if isinstance(parts, list):
        return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
    return parts if isinstance(parts, str) else ""


def details_of(message: Json) -> list[dict[str, Any]]:
    """Return the items of `reasoning_details`, which OpenRouter and MiniMax want back as they are."""
    details = message.get("reasoning_details")
    return [item for item in details if isinstance(item, dict)] if isinstance(details, list) else []


def finish_of(choice: Json) -> tuple[str | None, str | None]:
    """Return why a reply ended, in the common word and in the server's own; OpenRouter passes on that of the model's."""
    reason = choice.get("finish_reason")
    if type(reason) is not str or not reason:
        return None, None
    native = choice.get("native_finish_reason")
    return FINISH_REASONS.get(reason, reason), native if isinstance(native, str) and native else reason


def usage_of(usage: Any) -> Usage | None:
    """Return token counts in the common words, None if there are none.

    Tokens read from a cache have three names: OpenAI's, DeepSeek's and Kimi's. xAI counts thinking apart from
    `completion_tokens`, which its total shows.
    """
    if not isinstance(usage, dict):
        return None
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens"))
    cached = write = reasoning = None
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        cached, write = details.get("cached_tokens"), details.get("cache_write_tokens")
    details = usage.get("completion_tokens_details")
    if isinstance(details, dict):
        reasoning = details.get("reasoning_tokens")
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")
        if cached is None and "cached_tokens" in usage:
            cached = usage["cached_tokens"] or 0
    if write is None and "cache_write_tokens" in usage:
        write = usage["cache_write_tokens"] or 0
    if reasoning is None and "reasoning_tokens" in usage:
        reasoning = usage["reasoning_tokens"] or 0
    if reasoning and total > prompt + completion:
        outside = count(reasoning)
        completion += outside if total == prompt + completion + outside else 0
    return make_usage(
        usage, prompt=prompt, completion=completion, total=total, cached=cached, cache_write=write, reasoning=reasoning
    )


def calls_of(message: Json, seed: str | bytes) -> list[ToolCall] | None:
    """Return the calls of tools in a message, None if there are none.

    Args:
        seed: Stands for the reply, in the ids of calls that have none.
    """
    calls = message.get("tool_calls")
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if not found and isinstance(message.get("function_call"), dict):  # what came before tools
        found = [{"function": message["function_call"]}]
    return [_call(call, seed, position) for position, call in enumerate(found)] or None


def _call(call: Json, seed: str | bytes, position: int) -> ToolCall:
    function = function_of(call)
    return ToolCall(
        str(call.get("id") or made_id(seed, position)),
        str(call.get("type") or "function"),
        {"name": str(function.get("name") or ""), "arguments": arguments_of(function)},
    )


def function_of(call: Json) -> Json:
    """Return a call's name and arguments; those of a custom tool are free text, called `input`."""
    custom = call.get("custom")
    if isinstance(custom, dict):
        return {"name": custom.get("name"), "arguments": custom.get("input")}
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def arguments_of(function: Json) -> str:
    """Return arguments as JSON text; some gateways send an object."""
    arguments = function.get("arguments")
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def hidden_error(data: Any, choice: Any, headers: Mapping[str, str], body: bytes | str) -> ApiStatusError | None:
    """Return the error in a reply that calls itself a success, None if there is none.

    Servers put it beside the choices, OpenRouter into the choice too, old vLLM in place of both, MiniMax into
    `base_resp`.
    """
    if data.get("error") or data.get("object") == "error":
        return read_error(200, headers, body, data)
    if choice is not None and choice.get("error"):
        return read_error(200, headers, body, choice)
    answer = data.get("base_resp")
    code = count(answer.get("status_code")) if isinstance(answer, dict) else 0
    if not code:
        return None
    return status_error(
        MINIMAX_STATUSES.get(code, 500),
        body,
        message=str(answer.get("status_msg") or ""),
        code=str(code),
        request_id=request_id_of(headers, REQUEST_ID_HEADERS),
        family=ContentFiltered if code in _MINIMAX_FILTERED else None,
    )


def read_error(status: int, headers: Mapping[str, str], body: bytes | str, data: Any) -> ApiStatusError:
    """Read an error body. Its message stands in `error.message`, `error`, `message`, `detail`, or is the whole text."""
    message: Any = None
    code: Any = None
    family: type[ApiStatusError] | None = None
    if isinstance(data, list) and data:  # Gemini's compatible layer wraps the object in a list
        data = data[0]
    if isinstance(data, dict):
        inner = data.get("error")
        source = inner if isinstance(inner, dict) else data
        message = (inner if isinstance(inner, str) else None) or source.get("message")
        message = message or data.get("message") or data.get("detail")
        code = source.get("code")
        if re.fullmatch("[45][0-9][0-9]", str(code)):
            status = int(code) if 200 <= status < 300 else status  # the status that a 200 hides
            code = None
        kind = _kind(source)
        if kind in QUOTA_CODES and status < 500:  # Kimi says it by the type, whatever the code
            family = QuotaExhausted
        code = (code if isinstance(code, (str, int)) else None) or kind
    if message is None:
        message = body if isinstance(body, str) else body[:500].decode("utf-8", "replace")
    elif not isinstance(message, str):
        message = json.dumps(message, ensure_ascii=False)
    return status_error(
        status,
        body,
        message=message,
        code=None if code is None else str(code),
        request_id=request_id_of(headers, REQUEST_ID_HEADERS),
        family=family,
    )


def _kind(source: Json) -> str | None:
    """Return what kind of error it is where no code says so. OpenRouter puts that, and moderation, into `metadata`."""
    metadata = source.get("metadata")
    if isinstance(metadata, dict):
        if metadata.get("reasons") or metadata.get("flagged_input"):
            return "content_policy_violation"
        if isinstance(metadata.get("error_type"), str):
            return str(metadata["error_type"])
    kind = source.get("type")
    return kind if isinstance(kind, str) else None
