"""The face of a provider, and the few things that several of them share. Pure: no socket, no clock, no file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..errors import (
    ApiStatusError,
    AuthenticationFailed,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    InputError,
    MalformedResponse,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ServerError,
)
from ..sse import ServerSentEvent
from ..wire import HttpRequest, HttpResponse, Target

BODY_SHOWN = 2_000
"""Characters of an error body that an error keeps."""


class Provider(Protocol):
    """Translates between chat values and one wire format; does nothing else."""

    name: str

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the HTTP request that asks `target`. Raises InputError for what cannot be expressed."""

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a complete 2xx reply. Raises MalformedResponse, or the error that the body holds."""

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream. Raises the error that an event holds, and MalformedResponse if the end mark is missing."""

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read a reply that is not 2xx."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """Return a request body as compact JSON in UTF-8.

    Raises:
        InputError: A value is not JSON-able, or a text holds half a character (a lone surrogate).
    """
    try:
        return _encode(payload).encode()
    except UnicodeEncodeError as error:
        where = f"a lone surrogate at {error.start}"
        raise InputError(f"a text holds half a character ({where}); repair the input") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the request cannot be written as JSON: {error}") from None


def decode_body(response: HttpResponse) -> Any:
    """Return a reply's body as JSON.

    Raises:
        MalformedResponse: It is something else; the message shows its start.
    """
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):  # the latter where it is nested a thousand deep
        shown = response.body[:80].decode("utf-8", "replace")
        kind = response.headers.get("content-type", "no content type")
        raise MalformedResponse(
            f"the server answered {response.status} with something that is not JSON ({kind}): {shown!r}",
            request_id=response.headers.get("x-request-id"),
        ) from None


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
CONTEXT_CODES = frozenset({"context_length_exceeded"})
CONTEXT_WORDS = ("maximum context length", "reduce the length of the messages")
"""How servers without a code put it. Source: replies of OpenRouter, vLLM and Groq."""


HINTS: dict[type[ApiStatusError], str] = {
    AuthenticationFailed: "check the API key, and that it belongs to this server",
    PermissionDenied: "the API key is not allowed to do this",
    NotFound: "check base_url (with its version path, such as /v1) and the name of the model",
    QuotaExhausted: "the account has no credit or quota left; waiting does not help",
    ContextTooLong: "shorten the messages, or lower max_tokens",
}
"""What to do, by what happened."""

_TITLE = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)


def status_error(
    status: int, body: bytes | str, *, message: str, code: str | None, request_id: str | None
) -> ApiStatusError:
    """Return the typed error for a status, a provider's code and its message.

    What the headers say of retrying is the same for all providers: the endpoint reads it.

    Args:
        status: A 2xx stands for an error inside a reply that calls itself a success. It then becomes a 500, which is
            asked again, or a 400 where asking again does not help.
    """
    text = body if isinstance(body, str) else body[: BODY_SHOWN * 4].decode("utf-8", "replace")
    said = " ".join(message.split())[:500]
    if said.startswith("<"):  # a proxy's page; its title is all that it says
        title = _TITLE.search(said)
        said = f"{title[1].strip()} (an HTML page, not an API's answer)" if title else "an HTML page"
    if 200 <= status < 300:
        status = 400 if code in QUOTA_CODES or code in FILTER_CODES or _is_too_long(code, said) else 500
    family = _family(status, code, said)
    hint = ""
    if family in HINTS:
        hint, said = f"; {HINTS[family]}", said.rstrip(".")
    return family(
        f"HTTP {status}{f' ({code})' if code else ''}: {said or 'no message'}{hint}",
        status=status,
        code=code,
        body=text[:BODY_SHOWN],
        request_id=request_id,
    )


def _family(status: int, code: str | None, message: str) -> type[ApiStatusError]:
    if status == 402 or (code in QUOTA_CODES and 400 <= status < 500):
        return QuotaExhausted
    if status < 500 and _is_too_long(code, message):
        return ContextTooLong
    if code in FILTER_CODES:
        return ContentFiltered
    exact = {401: AuthenticationFailed, 403: PermissionDenied, 404: NotFound, 429: RateLimited}
    if status in exact:
        return exact[status]
    if status in (503, 529):
        return Overloaded
    if status >= 500:
        return ServerError
    return BadRequest if status >= 400 else ApiStatusError


def _is_too_long(code: str | None, message: str) -> bool:
    return code in CONTEXT_CODES or any(words in message for words in CONTEXT_WORDS)
