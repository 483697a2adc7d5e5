"""Errors of the Gemini dialect: those of a status, those with words of their own, and the one inside a stream.

Source: Google's API reference and error bodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..hints import first_half, seconds_text
from ..replies import Allowance, ReceivedRequest, Refusal, Reply, Step, dump_json
from .protojson import Fault
from .routes import Route, route_of

MOST_FAULTS = 20  # named in one refusal
JSON = {"content-type": "application/json; charset=UTF-8"}
_TYPE = "type.googleapis.com/google.rpc."
# Status -> its name, message. What is not here: see `failure`.
ERRORS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: (
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
    ),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    409: ("ABORTED", "The operation was aborted."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    499: ("CANCELLED", "The operation was cancelled."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    501: ("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
UNREGISTERED = (
    "Method doesn't allow unregistered callers (callers without established identity). "
    "Please use API Key or other form of API consumer identity to call this API."
)
WRONG_KEY = "API key not valid. Please pass a valid API key."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
QUOTA_DELAY = 22.0  # seconds that Google asks to wait even if the quota of a day is used up
TOO_LONG = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
OF_A_MINUTE = {
    "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
    "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
}
OF_A_DAY = {
    "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
    "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    "quotaValue": "250",
}


def failure(status: int, message: str | None = None, retry_after: float | None = None) -> Reply:
    """Return an error, with the usual name and message of its status; a detail says when to come again, no header."""
    name, usual = ERRORS.get(status, ("UNKNOWN", f"The mock server was asked to answer {status}."))
    details = [_quota_failure(OF_A_MINUTE)] if status == 429 else []
    if retry_after is not None:
        details.append(_retry_info(retry_after))
    return _error(status, name, message or usual, details)


def refused(kind: Refusal, request: ReceivedRequest) -> Reply:
    """Return an error in Google's own words."""
    route = route_of(request.path)
    if kind == "unauthorized":
        return failure(401) if _is_vertex(route) else _wrong_key()
    if kind == "not_found":
        return failure(404, _no_model(route))
    if kind == "quota":
        return _error(429, "RESOURCE_EXHAUSTED", QUOTA, [_quota_failure(OF_A_DAY), _retry_info(QUOTA_DELAY)])
    return failure(400, TOO_LONG if kind == "context_too_long" else None)


def model(request: ReceivedRequest) -> str | None:
    """Return the name of the model in the path, or None if there is none."""
    route = route_of(request.path)
    return route.model or None if route is not None else None


def refusal(faults: Sequence[Fault]) -> Reply:
    """Return the 400 for what is wrong with a request, each fault in a line."""
    faults = faults[:MOST_FAULTS]
    violations = [{"field": fault.field, "description": fault.description} for fault in faults]
    details = [{"@type": f"{_TYPE}BadRequest", "fieldViolations": violations}]
    return _error(400, "INVALID_ARGUMENT", "\n".join(fault.description for fault in faults), details)


def overload() -> Reply:
    """Return an overload: there is no error inside a 200 that is not streamed."""
    return failure(503)


def broken(pieces: Sequence[Step], is_begun: bool, request_id: str) -> Sequence[Step]:
    """Return a stream that an overload ends: at once, or in the middle of the text. A stream may be one array."""
    is_array = pieces[0][1].startswith(b"[")
    # A part that is text and nothing else comes first: thoughts and calls end otherwise.
    before = first_half(pieces, b'"}],"role":"model"}', b'"parts":[') if is_begun else []
    error = failure(503).body or b""
    if is_array:
        return [*before, (0.0, (b",\r\n" if before else b"[") + error), (0.0, b"]")]
    return [*before, (0.0, b"data: %b\r\n\r\n" % error)]


def rate_headers(requests: Allowance | None, tokens: Allowance | None, now_unix: float) -> Mapping[str, str]:
    """Return nothing: Google tells of no limit before it is reached."""
    return {}


def _is_vertex(route: Route | None) -> bool:
    return route is not None and route.is_vertex


def _error(status: int, name: str, message: str, details: Sequence[Mapping[str, object]] = ()) -> Reply:
    error: dict[str, object] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return Reply(status=status, body=dump_json({"error": error}), headers=JSON)


def _wrong_key() -> Reply:
    info = {
        "@type": f"{_TYPE}ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return _error(400, "INVALID_ARGUMENT", WRONG_KEY, [info])


def _no_model(route: Route | None) -> str | None:
    if route is None:
        return None
    if route.is_vertex:
        return f"Publisher Model `{route.model}` was not found or your project does not have access to it."
    reason = f"models/{route.model} is not found for API version {route.version}"
    return f"{reason}, or is not supported for {route.action}. Call ListModels to see the list of available models."


def _quota_failure(violation: Mapping[str, str]) -> dict[str, object]:
    return {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}


def _retry_info(seconds: float) -> dict[str, object]:
    return {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{seconds_text(seconds)}s"}
