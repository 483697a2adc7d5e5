"""What an answer that is kept as text stands for: the value that the request's `response_format` asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..chat import ChatCompletionResult, ChatRequest
from ..errors import SchemaMismatch
from ..schema import parse_reply

_JSON = ("json_object", "json_schema")


def wants_json(request: ChatRequest) -> bool:
    """Return whether a request asks for an answer in JSON, whose value `parsed` then is."""
    wanted = request.params.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") in _JSON


def with_value(result: ChatCompletionResult, request: ChatRequest) -> ChatCompletionResult | None:
    """Return a kept answer with its value in `parsed`; None if it is not, or no more, what the request asks for."""
    if not wants_json(request) or result.tool_calls:
        return result
    try:
        return replace(result, parsed=parse_reply(result.content, request.params["response_format"]))
    except SchemaMismatch:
        return None
