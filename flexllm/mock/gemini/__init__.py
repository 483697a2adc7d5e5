"""The Gemini dialect: the developer API and Vertex AI, content whole and streamed, token counts, models, errors.

Pure functions, as `replies.Dialect` asks for them. An answer follows from the request alone, so that it is the same on
every machine. Source: Google's API reference and error bodies, and the requests of its Python SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from ..replies import Ending, ReceivedRequest, Reply, Step, dump_json, parse_json
from .answers import fragments, prompt_usage, question_text, response, token_details
from .errors import JSON, UNREGISTERED, broken, failure, model, overload, rate_headers, refusal, refused
from .models import model_card, page, publisher_card
from .protojson import Fault
from .requests import read_count, read_request
from .routes import Route, route_of

__all__ = [
    "broken",
    "claims",
    "failure",
    "headers",
    "is_chat",
    "key",
    "model",
    "overload",
    "prompt",
    "rate_headers",
    "refused",
    "reply",
    "unauthorized",
]

QUERY_NAMES = {"alt", "$alt", "key", "prettyPrint", "fields", "quotaUser", "$.xgafv", "access_token", "oauth_token"}
LIST_NAMES = {"pageSize", "page_size", "pageToken", "page_token", "filter", "view"}

_CHAT_ACTIONS = ("generateContent", "streamGenerateContent")


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
    route = route_of(path)
    return route is not None and route.action in _CHAT_ACTIONS


def key(request: ReceivedRequest) -> str | None:
    """Return the key: with a project's path the bearer token, else the API key from its header or the query."""
    route = route_of(request.path)
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


def unauthorized(request: ReceivedRequest) -> Reply:
    """Return the refusal of a wrong or missing key, which is another one on each face of the service."""
    route = route_of(request.path)
    is_developer = route is None or not route.is_vertex
    return failure(403, UNREGISTERED) if is_developer and key(request) is None else refused("unauthorized", request)


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None = None) -> Reply:
    """Return the content or its stream, the count, the list or model, or the 4xx that Google would give."""
    route = route_of(request.path)
    if route is None:
        return failure(404, f"Method not found: {request.method} {request.path}")
    if request.query:
        unknown = next((name for name in _query(request) if name not in _known_query(route)), None)
        if unknown is not None:
            bound = f"Cannot bind query parameter. Field '{unknown}' could not be found in request message."
            return refusal([Fault("", f'Invalid JSON payload received. Unknown name "{unknown}": {bound}')])
    if request.method in ("GET", "HEAD") and not route.action:
        return _model_reply(route, models) if route.model else _list_reply(route, models, _query(request))
    action = _ACTIONS.get(route.action)
    if request.method != "POST" or action is None:
        return failure(404, f"Method not found: {request.method} {request.path}")
    return action(request, route, token_delay, ending)


# ---------------------------------------------------------------------------------------------------- models


def _query(request: ReceivedRequest) -> dict[str, str]:
    return dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}


def _known_query(route: Route) -> set[str]:
    return QUERY_NAMES if route.model else QUERY_NAMES | LIST_NAMES


def _list_reply(route: Route, models: Sequence[str], query: Mapping[str, str]) -> Reply:
    if route.has_project:
        return failure(404, "Method not found: models are listed without a project in the path.")
    size = query.get("pageSize", query.get("page_size", "0"))
    if not re.fullmatch(r"[0-9]{1,9}", size):
        return refusal([Fault("page_size", f"Invalid value at 'page_size' (TYPE_INT32), {size[:60]}")])
    token = query.get("pageToken", query.get("page_token", ""))
    name, card = ("publisherModels", publisher_card) if route.is_vertex else ("models", model_card)
    listed = page(models, name, card, int(size), token)
    if listed is None:
        return refusal([Fault("page_token", "* ListModelsRequest.page_token: Page token is not valid.")])
    return Reply(body=dump_json(listed), headers=JSON)


def _model_reply(route: Route, models: Sequence[str]) -> Reply:
    if route.model not in models:
        reason = f"models/{route.model} is not found for API version {route.version}"
        return failure(404, f"{reason}. Call ListModels to see the list of available models.")
    card = publisher_card if route.is_vertex else model_card
    return Reply(body=dump_json(card(route.model)), headers=JSON)


# ---------------------------------------------------------------------------------------------------- content

_Read = Callable[[Mapping[str, Any], str, str], tuple[dict[str, Any], list[Fault]]]


def _body(request: ReceivedRequest, route: Route, read: _Read) -> dict[str, Any] | Reply:
    """Return the request as it is read, or its refusal."""
    body = parse_json(request.body)
    if not isinstance(body, dict):
        reason = "Root element must be a message." if body is not None else "Unexpected end of string or token."
        return refusal([Fault("", f"Invalid JSON payload received. {reason}")])
    asked, faults = read(body, route.surface, route.model)
    return refusal(faults) if faults else asked


def _generate(request: ReceivedRequest, route: Route, token_delay: float, ending: Ending | None) -> Reply:
    asked = _body(request, route, read_request)
    if isinstance(asked, Reply):
        return asked
    whole = response(asked, route.model, route.is_vertex, ending)
    return Reply(body=dump_json(whole), headers=JSON, tokens=whole["usageMetadata"]["totalTokenCount"])


def _stream(request: ReceivedRequest, route: Route, token_delay: float, ending: Ending | None) -> Reply:
    query = _query(request)
    is_sse = query.get("alt", query.get("$alt")) == "sse"
    asked = _body(request, route, read_request)
    if isinstance(asked, Reply):
        # What is streamed as one array is refused as one, too.
        return asked if is_sse else replace(asked, body=b"[%b]" % (asked.body or b""))
    whole = response(asked, route.model, route.is_vertex, ending)
    events, tokens = fragments(whole), whole["usageMetadata"]["totalTokenCount"]
    if is_sse:
        stream_headers = {"content-type": "text/event-stream", "content-disposition": "attachment"}
        return Reply(headers=stream_headers, pieces=tuple(_events(events, token_delay)), tokens=tokens)
    return Reply(headers=JSON, pieces=tuple(_array(events, token_delay)), tokens=tokens)


def _events(chunks: Iterator[Mapping[str, Any]], token_delay: float) -> Iterator[Step]:
    for at, chunk in enumerate(chunks):
        yield (token_delay if at else 0.0), b"data: %b\r\n\r\n" % dump_json(chunk)


def _array(chunks: Iterator[Mapping[str, Any]], token_delay: float) -> Iterator[Step]:
    for at, chunk in enumerate(chunks):
        yield (token_delay if at else 0.0), (b",\r\n" if at else b"[") + dump_json(chunk)
    yield 0.0, b"]"


def _count(request: ReceivedRequest, route: Route, token_delay: float, ending: Ending | None) -> Reply:
    asked = _body(request, route, read_count)
    if isinstance(asked, Reply):
        return asked
    tokens = prompt_usage(asked)
    details = token_details(tokens)
    count = sum(number for name, number in tokens.items() if name != "CACHED")
    cached = {"cachedContentTokenCount": tokens["CACHED"]} if "CACHED" in tokens else {}
    return Reply(body=dump_json({"totalTokens": count, **cached, "promptTokensDetails": details}), headers=JSON)


_ACTIONS: dict[str, Callable[[ReceivedRequest, Route, float, Ending | None], Reply]] = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "countTokens": _count,
}
