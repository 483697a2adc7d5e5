"""Anthropic's error bodies, turned into the typed errors. Source: Anthropic's API reference, errors; its SDK's types."""

from __future__ import annotations

import json
from typing import Any

from ...errors import ApiStatusError, ContentFiltered, ContextTooLong, Overloaded, QuotaExhausted
from ..status import status_error

STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status of each type of error, which an error inside a stream does not have."""

_QUOTA_WORDS = ("credit balance is too low", "usage limits", "spend limit")
"""How a 400 says that the account is at its end; newer ones say it in a code that ends with "spend_limit_reached"."""


def reply_error(status: int, body: bytes | str, data: Any, request_id: str | None) -> ApiStatusError:
    """Return the typed error for an error body.

    Args:
        status: Of the reply; a 2xx stands for an error inside one, whose type then tells the status.
        body: As it came.
        data: The same, decoded; None if it is no JSON.
        request_id: From the headers; None leaves it to the body.
    """
    message: Any = None
    kind: str | None = None
    code: str | None = None
    if isinstance(data, dict):
        inner = data.get("error")
        source = inner if isinstance(inner, dict) else data
        message = inner if isinstance(inner, str) and inner else source.get("message") or data.get("detail")
        kind = _word(source.get("type")) if source is inner else None
        details = source.get("details")
        code = (_word(details.get("error_code")) if isinstance(details, dict) else None) or _word(source.get("code"))
        request_id = request_id or _word(data.get("request_id"))
    if not message:
        message = body if isinstance(body, str) else body[:500].decode("utf-8", "replace")
    elif not isinstance(message, str):
        message = json.dumps(message, ensure_ascii=False)
    if 200 <= status < 300:
        status = STATUSES.get(kind or "", status)
    return status_error(
        status,
        body,
        message=message,
        code=code or kind,
        request_id=request_id,
        family=_family(status, kind, code or "", message),
    )


def _family(status: int, kind: str | None, code: str, message: str) -> type[ApiStatusError] | None:
    """Return the class of an error where its status does not tell it."""
    if kind == "overloaded_error":
        return Overloaded
    if kind == "billing_error" or code.endswith("spend_limit_reached"):
        return QuotaExhausted
    if status in (400, 403):
        said = message.lower()
        if any(words in said for words in _QUOTA_WORDS):
            return QuotaExhausted
        if "content filtering policy" in said:
            return ContentFiltered
        if "exceed context limit" in said:  # input and max_tokens together
            return ContextTooLong
    return None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
