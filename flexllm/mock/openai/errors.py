"""Errors of the OpenAI dialect: those of a status, those with words of their own, and those inside a 200.

Source: OpenAI's API reference, error codes and rate limits; where OpenAI has no such status, DeepSeek's and OpenRouter's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..hints import duration_text, first_half, seconds_text
from ..replies import Allowance, ReceivedRequest, Refusal, Reply, Step, dump_json, parse_json

# Status -> message, type, code.
ERRORS: dict[int, tuple[str, str, str]] = {
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    402: ("Insufficient Balance", "unknown_error", "invalid_request_error"),
    403: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests. Please try again later.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", "server_error"),
    503: ("The server is currently overloaded. Please try again later.", "server_error", "server_is_overloaded"),
    529: ("The provider is overloaded. Please try again later.", "server_error", "provider_overloaded"),
}
QUOTA = "You exceeded your current quota, please check your plan and billing details."
TOO_LONG = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 128001 tokens. "
    "Please reduce the length of the messages."
)
_SAID = (b'"delta":{"content":"', b'"delta":{"refusal":"', b'"delta":{"tool_calls":', b'"delta":{"reasoning')


def failure(status: int, message: str | None = None, retry_after: float | None = None) -> Reply:
    """Return an error, with the usual message, type and code of its status; Retry-After says when to come again."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    usual, kind, code = ERRORS.get(status, (f"The mock server was asked to answer {status}.", kind, None))
    reply = error_reply(status, message or usual, None, code, kind)
    return reply if retry_after is None else replace(reply, headers={"retry-after": seconds_text(retry_after)})


def error_reply(
    status: int, message: str, param: str | None, code: str | None, kind: str = "invalid_request_error"
) -> Reply:
    """Return an error with these fields."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body=dump_json({"error": error}))


def model(request: ReceivedRequest) -> str | None:
    """Return the name of the model that a request asks for, or None if there is none."""
    body = parse_json(request.body)
    name = body.get("model") if isinstance(body, dict) else None
    return name if isinstance(name, str) else None


def unauthorized(request: ReceivedRequest) -> Reply:
    """Return the refusal of a wrong or missing key."""
    return failure(401)


def refused(kind: Refusal, request: ReceivedRequest) -> Reply:
    """Return an error in OpenAI's own words."""
    if kind == "unauthorized":
        return failure(401)
    if kind == "not_found":
        return failure(404, f"The model `{model(request)}` does not exist or you do not have access to it.")
    if kind == "quota":
        return error_reply(429, QUOTA, None, "insufficient_quota", "insufficient_quota")
    if kind == "context_too_long":
        return error_reply(400, TOO_LONG, "messages", "context_length_exceeded")
    return error_reply(400, "Unsupported value: this model does not support the request.", None, "unsupported_value")


def overload() -> Reply:
    """Return an overload inside a 200: OpenRouter's way when the provider behind it fails."""
    return replace(failure(503), status=200)


def broken(pieces: Sequence[Step], is_begun: bool, request_id: str) -> Sequence[Step]:
    """Return a stream that an overload ends, without [DONE]: after the role, or in the middle of the text."""
    before = first_half(pieces, *_SAID) if is_begun else pieces[:1]
    return [*before, (0.0, b"data: %b\n\n" % (failure(503).body or b""))]


def rate_headers(requests: Allowance | None, tokens: Allowance | None, now_unix: float) -> Mapping[str, str]:
    """Return x-ratelimit-* headers, with the time until all is there again as a duration."""
    headers = {}
    for name, one in (("requests", requests), ("tokens", tokens)):
        if one is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(one.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(one.remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration_text(one.reset)
    return headers
