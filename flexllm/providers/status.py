"""A provider's error reply, turned into the typed error that it is. What to do about each stands here, once for all."""

from __future__ import annotations

import re

from ..errors import (
    ApiStatusError,
    AuthenticationFailed,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ServerError,
)
from ..language import _, mark, with_semicolons
from ..wire import HttpResponse

BODY_SHOWN = 2_000
"""Characters of an error body that an error keeps."""

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "exceeded_current_quota_error",  # Kimi, as error.type
        "Arrearage",  # DashScope
        "1113",  # Z.ai: balance exhausted; 1308 to 1321: plan exhausted
        *(str(code) for code in range(1308, 1322)),
    }
)
"""Codes of a 4xx that waiting does not cure. Source: provider documentation."""

FILTER_CODES = frozenset({"content_policy_violation", "data_inspection_failed", "DataInspectionFailed"})
MODEL_CODES = frozenset({"model_not_found"})
"""Codes of a model that is not there, which some compatible servers send as a 400. Source: OpenAI's error codes."""

CONTEXT_CODES = frozenset({"context_length_exceeded"})
CONTEXT_WORDS = (
    "maximum context length",
    "reduce the length of the messages",
    "prompt is too long",
    "exceeds the maximum number of tokens",
)
"""How servers without a code put it. Source: replies of OpenRouter, vLLM and Groq; of Anthropic; of Gemini."""


BUSY_WORDS = ("overloaded", "over capacity")
"""How servers say in a 500 that they have too much to do. Source: replies of compatible servers."""

HINTS: dict[type[ApiStatusError], str] = {
    AuthenticationFailed: mark("check the API key, and that it belongs to this server"),
    PermissionDenied: mark("the API key is not allowed to do this"),
    NotFound: mark("check base_url (with its version path, such as /v1) and the name of the model"),
    QuotaExhausted: mark("the account has no credit or quota left; waiting does not help"),
    ContextTooLong: mark("shorten the messages, or lower max_tokens"),
}
"""What to do, by what happened."""

_TITLE = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)


def status_error(
    status: int,
    body: bytes | str,
    *,
    message: str,
    code: str | None,
    request_id: str | None,
    family: type[ApiStatusError] | None = None,
    retry_after: float | None = None,
) -> ApiStatusError:
    """Return the typed error for a status, a provider's code and its message.

    What the headers say of retrying is the same for all providers: the endpoint reads it.

    Args:
        status: A 2xx stands for an error inside a reply that calls itself a success. It then becomes a 500, which is
            asked again, or a 400 where asking again does not help.
        family: The class of the error where the provider knows better than status and code tell.
        retry_after: Seconds that the body asks to wait; None if it does not say.
    """
    text = body if isinstance(body, str) else body[: BODY_SHOWN * 4].decode("utf-8", "replace")
    said = " ".join(message.split())[:500]
    if said.startswith("<"):  # a proxy's page; its title is all that it says
        title = _TITLE.search(said)
        said = _("an HTML page")
        if title:
            said = _("{title} (an HTML page, not an API's answer)", title=title[1].strip())
    if 200 <= status < 300:
        is_final = family is not None and not issubclass(family, (RateLimited, ServerError))
        is_final = is_final or code in QUOTA_CODES or code in FILTER_CODES or _is_too_long(code, said)
        status = 400 if is_final else 500
    family = family or _family(status, code, said)
    said = said or _("no message")
    if family in HINTS:
        hint = _(HINTS[family])
        said = with_semicolons([said.rstrip("."), hint])
    return family(
        f"HTTP {status}{f' ({code})' if code else ''}: {said}",
        status=status,
        code=code,
        body=text[:BODY_SHOWN],
        retry_after=retry_after,
        request_id=request_id,
    )


def redirect_error(response: HttpResponse, request_id: str | None) -> ApiStatusError:
    """Return the error for a 3xx: requests go where the caller says, and nowhere else."""
    said = _(
        "the server redirects ({status}) to {place}; give that as base_url if it is right",
        status=response.status,
        place=response.headers.get("location", _("another place")),
    )
    return status_error(404, response.body, message=said, code=None, request_id=request_id)


def _family(status: int, code: str | None, message: str) -> type[ApiStatusError]:
    if status == 402 or (code in QUOTA_CODES and 400 <= status < 500):
        return QuotaExhausted
    if status < 500 and _is_too_long(code, message):
        return ContextTooLong
    if code in FILTER_CODES:
        return ContentFiltered
    if code in MODEL_CODES and 400 <= status < 500:
        return NotFound
    exact = {401: AuthenticationFailed, 403: PermissionDenied, 404: NotFound, 429: RateLimited}
    if status in exact:
        return exact[status]
    if status >= 500:
        is_busy = status in (503, 529) or any(words in message.lower() for words in BUSY_WORDS)
        return Overloaded if is_busy else ServerError
    return BadRequest if status >= 400 else ApiStatusError


def _is_too_long(code: str | None, message: str) -> bool:
    return code in CONTEXT_CODES or any(words in message for words in CONTEXT_WORDS)
