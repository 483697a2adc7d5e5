"""Errors of the Anthropic dialect: those of a status, those with words of their own, and the one inside a stream.

Source: Anthropic's API reference, errors and rate limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from math import ceil

from ..hints import first_half, seconds_text
from ..replies import REQUEST_ID, Allowance, ReceivedRequest, Refusal, Reply, Step, dump_json, parse_json

# Status -> type, message.
ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    409: ("conflict_error", "The request conflicts with the state of the resource."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}

# A limit of spending is no 429 here: waiting for a moment does not help.
QUOTA = "You have reached your specified API usage limits. You will regain access on 2027-01-01 at 00:00 UTC."
TOO_LONG = "prompt is too long: 200001 tokens > 200000 maximum"


def failure(status: int, message: str | None = None, retry_after: float | None = None) -> Reply:
    """Return an error, with the usual type and message of its status; Retry-After says when to come again."""
    kind, usual = ERRORS.get(status, ("api_error" if status >= 500 else "invalid_request_error", None))
    said = message or usual or f"The mock server was asked to answer {status}."
    headers = {} if retry_after is None else {"retry-after": seconds_text(retry_after)}
    return Reply(status=status, headers=headers, body=_body(kind, said))


def _body(kind: str, message: str) -> bytes:
    error = {"type": kind, "message": message, "details": None}
    return dump_json({"type": "error", "error": error, "request_id": REQUEST_ID})


def model(request: ReceivedRequest) -> str | None:
    """Return the name of the model that a request asks for, or None if there is none."""
    body = parse_json(request.body)
    name = body.get("model") if isinstance(body, dict) else None
    return name if isinstance(name, str) else None


def two_keys(headers: Mapping[str, str]) -> Reply | None:
    """Return the refusal of a request with both forms of a key, or None."""
    if "x-api-key" in headers and "authorization" in headers:
        return failure(401, "x-api-key and authorization: send one of these headers, not both")
    return None


def unauthorized(request: ReceivedRequest) -> Reply:
    """Return the refusal of a wrong or missing key, or of two keys."""
    return two_keys(request.headers) or failure(401)


def refused(kind: Refusal, request: ReceivedRequest) -> Reply:
    """Return an error in Anthropic's own words."""
    if kind == "unauthorized":
        return failure(401)
    if kind == "not_found":
        return failure(404, f"model: {model(request)}")
    return failure(400, {"quota": QUOTA, "context_too_long": TOO_LONG}.get(kind))


def overload() -> Reply:
    """Return an overload: there is no error inside a 200 that is not streamed."""
    return failure(529)


def broken(pieces: Sequence[Step], is_begun: bool, request_id: str) -> Sequence[Step]:
    """Return a stream that an overload ends: after the ping, or in the middle of the text."""
    before = first_half(pieces, b'"type":"text_delta"', b"event: content_block_delta") if is_begun else pieces[:2]
    body = _body(*ERRORS[529]).replace(REQUEST_ID.encode(), request_id.encode())
    return [*before, (0.0, b"event: error\ndata: %b\n\n" % body)]


def rate_headers(requests: Allowance | None, tokens: Allowance | None, now_unix: float) -> Mapping[str, str]:
    """Return anthropic-ratelimit-* headers, with the moment when all is there again; tokens left in round thousands."""
    headers = {}
    for name, one in (("requests", requests), ("tokens", tokens)):
        if one is not None:
            at = datetime.fromtimestamp(ceil(now_unix + one.reset), timezone.utc)
            remaining = round(one.remaining, -3) if name == "tokens" else one.remaining
            headers[f"anthropic-ratelimit-{name}-limit"] = str(one.limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
            headers[f"anthropic-ratelimit-{name}-reset"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers
