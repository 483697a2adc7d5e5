"""The Gemini dialect: the developer API and Vertex AI, content whole and streamed, token counts, models, errors.

Pure functions, as `replies.Dialect` asks for them. An answer follows from the request alone, so that it is the same on
every machine. Source: Google's API reference and error bodies, and the requests of its Python SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..replies import ReceivedRequest, Reply, Step, dump_json, parse_json
from .answers import fragments, prompt_usage, question_text, response, token_details
from .models import model_card, page, publisher_card
from .protojson import Fault
from .requests import read_count, read_request

MOST_FAULTS = 20  # named in one refusal
_TYPE = "type.googleapis.com/google.rpc."
RETRY_SECONDS = 1  # the same as the mock's usual Retry-After
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
QUERY_NAMES = {"alt", "$alt", "key", "prettyPrint", "fields", "quotaUser", "$.xgafv", "access_token", "oauth_token"}
LIST_NAMES = {"pageSize", "page_size", "pageToken", "page_token", "filter", "view"}

_MODEL = r"(?P<model>[^/:]+)(?::(?P<action>\w+))?"
_PROJECT = r"projects/[^/]+/locations/[^/]+/"
_DEVELOPER = re.compile(rf"/(?P<version>v1|v1beta)/(?:models|(?:models|tunedModels)/{_MODEL})")
_VERTEX = re.compile(rf"/(?P<version>v1|v1beta1)/(?P<project>{_PROJECT})?publishers/google/models(?:/{_MODEL})?")
_ENDPOINT = re.compile(rf"/(?P<version>v1|v1beta1)/(?P<project>{_PROJECT})endpoints/{_MODEL}")  # of a tuned model
_CHAT_ACTIONS = ("generateContent", "streamGenerateContent")


class _Route(NamedTuple):
    """What a path asks for. `model` and `action` are "" where it has none."""

    is_vertex: bool
    version: str
    has_project: bool
    model: str
    action: str

    @property
    def surface(self) -> str:
        """Which of the request tables holds."""
        if self.is_vertex:
            return "vertex"
        return "developer" if self.version == "v1beta" else "developer_v1"


@lru_cache(maxsize=256)
def _route(path: str) -> _Route | None:
    path = unquote(path)
    match = _DEVELOPER.fullmatch(path)
    if match is not None:
        return _Route(False, match["version"], False, match["model"] or "", match["action"] or "")
    match = _VERTEX.fullmatch(path) or _ENDPOINT.fullmatch(path)
    if match is None:
        return None
    return _Route(True, match["version"], bool(match["project"]), match["model"] or "", match["action"] or "")


# ---------------------------------------------------------------------------------------------------- the dialect


def claims(request: ReceivedRequest) -> bool:
    """Whether a request is in this dialect: by its path or, where OpenAI has the same one, by the way its key came."""
    path = request.path
    if path.startswith(("/v1beta", "/v1/projects/", "/v1/tunedModels/")) or "/publishers/" in path:
        return True
    _, models, rest = path.partition("/models/")
    if models and request.method == "POST" and ":" in unquote(rest):
        return True
    is_list = path == "/v1/models" or path.startswith("/v1/models/")
    return is_list and ("x-goog-api-key" in request.headers or "key" in _query(request))


def is_chat(path: str) -> bool:
    """Whether a POST there asks for content."""
    route = _route(path)
    return route is not None and route.action in _CHAT_ACTIONS


def key(request: ReceivedRequest) -> str | None:
    """Return the key: with a project's path the bearer token, else the API key from its header or the query."""
    route = _route(request.path)
    found = None
    if route is None or not route.has_project:
        found = request.headers.get("x-goog-api-key") or _query(request).get("key")
    if found is None and route is not None and route.is_vertex:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        found = token.strip() if scheme.lower() == "bearer" else None
    return found or None


def prompt(request: ReceivedRequest) -> str | None:
    """Return the text of the last user turn that has any, or None if there is none."""
    body = parse_json(request.body)
    contents: Any = body.get("contents") if isinstance(body, dict) else None
    try:
        return question_text(contents if isinstance(contents, list) else [contents])
    except (AttributeError, TypeError):  # of another shape altogether: the reply will say so
        return None


def headers(request_id: str, seconds: float) -> Mapping[str, str]:
    """Return what Google sends with every reply: nothing that names the request."""
    return {"server-timing": f"gfet4t7; dur={round(seconds * 1000)}", "vary": "Origin, X-Origin, Referer"}


def failure(status: int, message: str | None = None) -> Reply:
    """Return an error, with the usual name and message of its status; a 429 says when to come again."""
    name, usual = ERRORS.get(status, ("UNKNOWN", f"The mock server was asked to answer {status}."))
    details: list[dict[str, object]] = []
    if status == 429:
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
        }
        details = [
            {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]},
            {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{RETRY_SECONDS}s"},
        ]
    return _error(status, name, message or usual, details)


def unauthorized(request: ReceivedRequest) -> Reply:
    """Return the refusal of a wrong or missing key, which is another one on each face of the service."""
    route = _route(request.path)
    if route is not None and route.is_vertex:
        return failure(401)
    if key(request) is None:
        return failure(403, UNREGISTERED)
    info = {
        "@type": f"{_TYPE}ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return _error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [info])


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float) -> Reply:
    """Return the content or its stream, the count, the list or model, or the 4xx that Google would give."""
    route = _route(request.path)
    if route is None:
        return failure(404, f"Method not found: {request.method} {request.path}")
    if request.query:
        unknown = next((name for name in _query(request) if name not in _known_query(route)), None)
        if unknown is not None:
            bound = f"Cannot bind query parameter. Field '{unknown}' could not be found in request message."
            return _refusal([Fault("", f'Invalid JSON payload received. Unknown name "{unknown}": {bound}')])
    if request.method in ("GET", "HEAD") and not route.action:
        return _model_reply(route, models) if route.model else _list_reply(route, models, _query(request))
    action = _ACTIONS.get(route.action)
    if request.method != "POST" or action is None:
        return failure(404, f"Method not found: {request.method} {request.path}")
    return action(request, route, token_delay)


# ---------------------------------------------------------------------------------------------------- errors


def _error(status: int, name: str, message: str, details: Sequence[Mapping[str, object]] = ()) -> Reply:
    error: dict[str, object] = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return Reply(status=status, body=dump_json({"error": error}), headers=_JSON)


def _refusal(faults: Sequence[Fault]) -> Reply:
    """Return the 400 for what is wrong with a request, each fault in a line."""
    faults = faults[:MOST_FAULTS]
    violations = [{"field": fault.field, "description": fault.description} for fault in faults]
    details = [{"@type": f"{_TYPE}BadRequest", "fieldViolations": violations}]
    return _error(400, "INVALID_ARGUMENT", "\n".join(fault.description for fault in faults), details)


_JSON = {"content-type": "application/json; charset=UTF-8"}


# ---------------------------------------------------------------------------------------------------- models


def _query(request: ReceivedRequest) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}


def _known_query(route: _Route) -> set[str]:
    return QUERY_NAMES if route.model else QUERY_NAMES | LIST_NAMES


def _list_reply(route: _Route, models: Sequence[str], query: Mapping[str, str]) -> Reply:
    if route.has_project:
        return failure(404, "Method not found: models are listed without a project in the path.")
    size = query.get("pageSize", query.get("page_size", "0"))
    if not re.fullmatch(r"[0-9]{1,9}", size):
        return _refusal([Fault("page_size", f"Invalid value at 'page_size' (TYPE_INT32), {size[:60]}")])
    token = query.get("pageToken", query.get("page_token", ""))
    name, card = ("publisherModels", publisher_card) if route.is_vertex else ("models", model_card)
    listed = page(models, name, card, int(size), token)
    if listed is None:
        return _refusal([Fault("page_token", "* ListModelsRequest.page_token: Page token is not valid.")])
    return Reply(body=dump_json(listed), headers=_JSON)


def _model_reply(route: _Route, models: Sequence[str]) -> Reply:
    if route.model not in models:
        reason = f"models/{route.model} is not found for API version {route.version}"
        return failure(404, f"{reason}. Call ListModels to see the list of available models.")
    card = publisher_card if route.is_vertex else model_card
    return Reply(body=dump_json(card(route.model)), headers=_JSON)


# ---------------------------------------------------------------------------------------------------- content

_Read = Callable[[Mapping[str, Any], str, str], tuple[dict[str, Any], list[Fault]]]


def _body(request: ReceivedRequest, route: _Route, read: _Read) -> dict[str, Any] | Reply:
    """Return the request as it is read, or its refusal."""
    body = parse_json(request.body)
    if not isinstance(body, dict):
        reason = "Root element must be a message." if body is not None else "Unexpected end of string or token."
        return _refusal([Fault("", f"Invalid JSON payload received. {reason}")])
    asked, faults = read(body, route.surface, route.model)
    return _refusal(faults) if faults else asked


def _generate(request: ReceivedRequest, route: _Route, token_delay: float) -> Reply:
    asked = _body(request, route, read_request)
    if isinstance(asked, Reply):
        return asked
    return Reply(body=dump_json(response(asked, route.model, route.is_vertex)), headers=_JSON)


def _stream(request: ReceivedRequest, route: _Route, token_delay: float) -> Reply:
    query = _query(request)
    is_sse = query.get("alt", query.get("$alt")) == "sse"
    asked = _body(request, route, read_request)
    if isinstance(asked, Reply):
        # What is streamed as one array is refused as one, too.
        return asked if is_sse else replace(asked, body=b"[%b]" % (asked.body or b""))
    events = fragments(response(asked, route.model, route.is_vertex))
    if is_sse:
        stream_headers = {"content-type": "text/event-stream", "content-disposition": "attachment"}
        return Reply(headers=stream_headers, pieces=tuple(_events(events, token_delay)))
    return Reply(headers=_JSON, pieces=tuple(_array(events, token_delay)))


def _events(chunks: Iterator[Mapping[str, Any]], token_delay: float) -> Iterator[Step]:
    for at, chunk in enumerate(chunks):
        yield (token_delay if at else 0.0), b"data: %b\r\n\r\n" % dump_json(chunk)


def _array(chunks: Iterator[Mapping[str, Any]], token_delay: float) -> Iterator[Step]:
    for at, chunk in enumerate(chunks):
        yield (token_delay if at else 0.0), (b",\r\n" if at else b"[") + dump_json(chunk)
    yield 0.0, b"]"


def _count(request: ReceivedRequest, route: _Route, token_delay: float) -> Reply:
    asked = _body(request, route, read_count)
    if isinstance(asked, Reply):
        return asked
    tokens = prompt_usage(asked)
    details = token_details(tokens)
    count = sum(number for name, number in tokens.items() if name != "CACHED")
    cached = {"cachedContentTokenCount": tokens["CACHED"]} if "CACHED" in tokens else {}
    return Reply(body=dump_json({"totalTokens": count, **cached, "promptTokensDetails": details}), headers=_JSON)


_ACTIONS: dict[str, Callable[[ReceivedRequest, _Route, float], Reply]] = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "countTokens": _count,
}
