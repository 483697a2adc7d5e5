"""Anthropic's Messages API, and the servers of other makers that speak it too.

Here is the face alone. Requests are built in `requests`, replies read in `replies`; what a model can
do stands in `models`. Source: Anthropic's API reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ...chat import ChatCompletionResult, ChatRequest, Chunk
from ...errors import ApiStatusError, MalformedResponse
from ...language import _
from ...media.options import MediaWants
from ...sse import ServerSentEvent
from ...wire import NO_KEY, Headers, HttpRequest, HttpResponse, Target
from ..base import common_headers, decode_body, encode_body, json_or_none, request_id_of, with_own
from ..status import redirect_error
from .errors import reply_error
from .messages import NAME
from .parts import IMAGE_TYPES
from .replies import REQUEST_ID_HEADERS, read_reply, read_stream
from .requests import build_body

DEFAULT_BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
"""The version of the API that is asked for, unless the target names another in its header `anthropic-version`."""

_OAUTH_KEY = "sk-ant-oat"
_OAUTH_BETA = "oauth-2025-04-20"
_PAGE_SIZE = 1000


class ClaudeProvider:
    """Speaks `POST {base_url}/v1/messages`; a base URL that ends in /v1 is taken as it is."""

    name = NAME
    needs_key = True
    request_id_headers: tuple[str, ...] = REQUEST_ID_HEADERS

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the request. Raises InputError for what Anthropic, or the model named, cannot take."""
        body = build_body(request, version=_version(target), stream=stream)
        return HttpRequest("POST", _url(target, "messages"), _headers(target, stream), encode_body(body))

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a message."""
        return read_reply(response)

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream up to `message_stop`."""
        return read_stream(events)

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read an error reply; what is not Anthropic's, such as a proxy's page, is told by its status."""
        request_id = request_id_of(response.headers, REQUEST_ID_HEADERS)
        if 300 <= response.status < 400:
            return redirect_error(response, request_id)
        data = json_or_none(response.body)
        return reply_error(response.status, response.body, data, request_id)

    def models_request(self, target: Target, page: str | None) -> HttpRequest:
        """Return the request for a page of the list; a page is named by the last id of the one before."""
        after = f"&after_id={quote(page, safe='')}" if page else ""
        return HttpRequest("GET", f"{_url(target, 'models')}?limit={_PAGE_SIZE}{after}", _headers(target, False), b"")

    def models(self, response: HttpResponse) -> tuple[list[str], str | None]:
        """Read a page of the list of models."""
        data = decode_body(response, REQUEST_ID_HEADERS)
        listed = data.get("data") if isinstance(data, dict) else data
        if not isinstance(listed, list):
            request_id = request_id_of(response.headers, REQUEST_ID_HEADERS)
            if isinstance(data, dict) and data.get("error"):
                raise reply_error(response.status, response.body, data, request_id)
            raise MalformedResponse(_("the list of models holds no list"), request_id=request_id)
        ids = [str(one["id"]) for one in listed if isinstance(one, dict) and one.get("id")]
        page = data.get("last_id") if isinstance(data, dict) and data.get("has_more") else None
        return ids, str(page) if page else None

    def media(self, target: Target) -> MediaWants:
        """Return that remote pictures and documents are fetched by the server, and which pictures it takes."""
        return MediaWants(image_types=IMAGE_TYPES)

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether a body holds content blocks."""
        return isinstance(body.get("content"), list)


def _url(target: Target, what: str) -> str:
    base = target.base_url
    return f"{base}/{what}" if base.endswith("/v1") else f"{base}/v1/{what}"


def _version(target: Target) -> str:
    for name, value in target.headers:
        if name.lower() == "anthropic-version":
            return value
    return VERSION


def _headers(target: Target, stream: bool) -> Headers:
    """Return the headers, with one form of the key: both at once are refused by some servers."""
    key = target.api_key or NO_KEY
    given = {name.lower() for name, _value in target.headers}
    common = (("anthropic-version", VERSION), *common_headers(stream))
    if given & {"x-api-key", "authorization"}:
        return with_own(common, target)
    if not key.startswith(_OAUTH_KEY):
        return with_own((("x-api-key", key), *common), target)
    headers = with_own((("Authorization", f"Bearer {key}"), *common), target)
    betas = [value for name, value in headers if name.lower() == "anthropic-beta"]
    others = tuple(pair for pair in headers if pair[0].lower() != "anthropic-beta")
    if not any(_OAUTH_BETA in value for value in betas):
        betas.append(_OAUTH_BETA)
    return (*others, ("anthropic-beta", ",".join(betas)))
