"""How an answer is written down, and which answers are worth it.

JSON alone, never pickle: reading a cache file must not be able to run code. The time and the model stand first in each
entry, in a fixed form, so that SQL can read them without JSON functions, which older SQLite libraries lack.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from ..chat import ChatCompletionResult, ToolCall, Usage
from ..errors import CacheError
from ..language import _

NOT_KEPT = frozenset({"length", "content_filter", "error"})
"""Finish reasons of answers that would be a pity to get again."""

_OPTIONAL = ("reasoning_content", "finish_reason", "native_finish_reason", "request_id", "latency", "endpoint")
"""Fields that stand in an entry under their own names where they are not None."""

_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def encode(result: ChatCompletionResult, at: float, *, with_body: bool) -> str:
    """Return an answer as JSON text, which is valid UTF-8: `{"at":...,"model":...,"content":...`, then what else there is.

    A text with half a character (a lone surrogate), which UTF-8 cannot say and JSON's escapes cannot tell from a whole
    one if two meet, goes as Base64 of its bytes, under `packed`.

    Args:
        at: When it was made, Unix time in seconds.
        with_body: Write the reply's untouched body too, where there is one.

    Raises:
        CacheError: It cannot be written as JSON.
    """
    head: dict[str, Any] = {"at": float(at), "model": result.model, "content": result.content}
    try:
        text = _plain(head | _rest(result, with_body))
    except (TypeError, ValueError, RecursionError) as error:
        raise CacheError(_("an answer cannot be written as JSON: {error}", error=error)) from error
    try:
        text.encode()
    except UnicodeEncodeError:
        packed = b64encode(text.encode("utf-8", "surrogatepass")).decode()
        return _ascii(head | {"content": "", "packed": packed})
    return text


def _rest(result: ChatCompletionResult, with_body: bool) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    for name in _OPTIONAL:
        value = getattr(result, name)
        if value is not None:
            rest[name] = value
    if result.usage is not None:
        rest["usage"] = result.usage
    if result.tool_calls is not None:
        rest["tool_calls"] = [[call.id, call.type, call.function] for call in result.tool_calls]
    if result.native is not None:
        rest["native"] = dict(result.native)
    if with_body and result.body is not None:
        try:
            rest["body"] = result.body.decode()
        except UnicodeDecodeError:
            rest["body64"] = b64encode(result.body).decode()
    return rest


def decode(entry: Mapping[str, Any], *, with_body: bool = True) -> ChatCompletionResult:
    """Return the answer of an entry, as one that nobody asked for: `cached`, for nothing, in no attempt.

    Args:
        entry: What `encode` wrote, read as JSON. Its containers go into the result.
        with_body: Give the body too, where the entry has one.

    Raises:
        CacheError: It is no such entry.
    """
    try:
        if "packed" in entry:
            entry = json.loads(b64decode(entry["packed"], validate=True).decode("utf-8", "surrogatepass"))
        content, usage, calls, get = entry["content"], entry.get("usage"), entry.get("tool_calls"), entry.get
        if type(content) is not str:
            raise TypeError(_("its content is no text"))
        return ChatCompletionResult(
            content=content,
            usage=None if usage is None else Usage(usage),
            reasoning_content=get("reasoning_content"),
            tool_calls=None if calls is None else [ToolCall(*call) for call in calls],
            finish_reason=get("finish_reason"),
            model=get("model"),
            request_id=get("request_id"),
            latency=get("latency"),
            cached=True,
            body=_body(entry) if with_body else None,
            attempts=0,
            native_finish_reason=get("native_finish_reason"),
            native=get("native"),
            endpoint=get("endpoint"),
            cost=0.0,
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CacheError(_("an entry of the response cache is damaged: {error}", error=error)) from error


def _body(entry: Mapping[str, Any]) -> bytes | None:
    if "body" in entry:
        text: str = entry["body"]
        return text.encode()
    return b64decode(entry["body64"], validate=True) if "body64" in entry else None


def is_storable(result: ChatCompletionResult, wants_json: bool, *, incomplete: bool) -> bool:
    """Return whether an answer should be kept for those who ask the same again.

    Not one that comes from the cache already: writing it anew would keep it young for ever.

    Args:
        wants_json: The caller's `response_format` asks for JSON; an answer that is none, and calls no tool, is not kept.
        incomplete: Keep cut, refused, empty and unfitting answers too. An error is no answer even so.
    """
    if result.cached or result.finish_reason == "error":
        return False
    if incomplete:
        return True
    if result.finish_reason in NOT_KEPT:
        return False
    if result.tool_calls:
        return True
    return bool(result.content.strip()) and not (wants_json and result.parsed is None)
