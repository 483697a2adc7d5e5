"""Gemini's `generateContent`, of the Gemini API and of Vertex AI: reading replies, streams, errors and lists of models.

What is sent is made in `requests` and `contents`. Source: Gemini and Vertex AI API references, Google's SDK.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ...chat import ChatCompletionResult, ChatRequest, Chunk
from ...errors import ApiStatusError, InputError, MalformedResponse
from ...language import _
from ...media.options import MediaWants
from ...sse import ServerSentEvent
from ...wire import NO_KEY, Headers, HttpRequest, HttpResponse, Target
from ..base import (
    common_headers,
    decode_body,
    encode_body,
    event_data,
    json_or_none,
    refuse_stream,
    request_id_of,
    with_own,
)
from ..status import redirect_error
from .contents import NAME
from .parts import READ_URLS
from .replies import (
    StreamReader,
    candidate_of,
    candidate_parts,
    finish_of,
    read_parts,
    reply_error,
    text_or_none,
    usage_of,
)
from .requests import build_body

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
VERSION = "v1beta"
"""What a base URL without a version path is asked for; the newest fields are not in v1."""

PUBLISHER = "/publishers/google"

_VERSIONED = re.compile(r"/v\d+((alpha|beta)\d*)?$")
_VERTEX_HOST = re.compile(r"(.*-)?aiplatform\.(googleapis\.com|[a-z]+\.rep\.googleapis\.com)")


class GeminiProvider:
    """Speaks `POST {base_url}/models/{model}:generateContent`."""

    name = NAME
    needs_key = True
    request_id_headers: tuple[str, ...] = ("x-request-id", "x-goog-request-id")

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the request; a field `model` among the parameters wins."""
        if not stream:
            refuse_stream(request.params)
        model = str(request.params.get("model") or request.model)
        place = _place(target.base_url)
        url = _model_url(place, model) + (":streamGenerateContent?alt=sse" if stream else ":generateContent")
        body = build_body(request, model, on_vertex=place.is_vertex)
        return HttpRequest("POST", url, _headers(target, stream), encode_body(body))

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a reply, of which the first candidate counts. A blocked prompt is a result without content."""
        data = decode_body(response, self.request_id_headers)
        request_id = self._request_id(response)
        if isinstance(data, list) and len(data) == 1:
            data = data[0]
        if not isinstance(data, dict):
            raise MalformedResponse(
                _("the reply is not an object but {kind}", kind=type(data).__name__), request_id=request_id
            )
        if data.get("error"):
            raise reply_error(response.status, response.body, data, request_id)
        candidate = candidate_of(data)
        finish, native_finish = finish_of(data, candidate)
        if candidate is None and finish is None:
            raise MalformedResponse(_("the reply holds no candidates"), request_id=request_id)
        parts = candidate_parts(candidate)
        response_id = text_or_none(data.get("responseId"))
        read = read_parts(parts, response_id)
        return ChatCompletionResult(
            read.content,
            usage_of(data.get("usageMetadata")),
            read.reasoning or None,
            read.calls or None,
            "tool_calls" if read.calls and finish == "stop" else finish,
            text_or_none(data.get("modelVersion")),
            request_id or response_id,
            response.elapsed,
            False,
            response.body,
            1,
            native_finish,
            {NAME: parts} if read.is_special else None,
        )

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream to its end, which has no mark: it is whole if a finish reason or a block has come.

        What must be sent back unchanged comes last, in a piece of its own.
        """
        reader = StreamReader()
        for event in events:
            if event.data == "[DONE]":  # some gateways send it, as OpenAI does
                continue
            data = event_data(event)
            if data.get("error") or event.name == "error":
                raise reply_error(200, event.data, data, None)
            yield reader.chunk(data)
        if not reader.is_finished:
            raise MalformedResponse(_("the stream ended without its end mark"))
        native = reader.native()
        if native:
            yield Chunk(native={NAME: native})

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read an error reply: an object, the same in a list, a proxy's page, or nothing."""
        request_id = self._request_id(response)
        if 300 <= response.status < 400:
            return redirect_error(response, request_id)
        data = json_or_none(response.body)
        return reply_error(response.status, response.body, data, request_id)

    def models_request(self, target: Target, page: str | None) -> HttpRequest:
        """Return the request for the list; on Vertex AI it belongs to no project."""
        place = _place(target.base_url)
        query = [] if place.is_vertex else ["pageSize=1000"]
        if page:
            query.append(f"pageToken={quote(page, safe='')}")
        url = f"{place.listing}/models{'?' if query else ''}{'&'.join(query)}"
        return HttpRequest("GET", url, _headers(target, False), b"")

    def models(self, response: HttpResponse) -> tuple[list[str], str | None]:
        """Read the list of the Gemini API, less what cannot generate content, or of Vertex AI, which does not tell."""
        data = decode_body(response, self.request_id_headers)
        if isinstance(data, dict) and data.get("error"):
            raise reply_error(response.status, response.body, data, self._request_id(response))
        listed = data.get("models", data.get("publisherModels")) if isinstance(data, dict) else None
        if data == {}:  # an empty list is not written at all
            return [], None
        if not isinstance(listed, list):
            raise MalformedResponse(_("the list of models holds no list"), request_id=self._request_id(response))
        names = [
            one["name"] for one in listed if isinstance(one, dict) and text_or_none(one.get("name")) and _can_chat(one)
        ]
        return [_listed_name(name) for name in names], text_or_none(data.get("nextPageToken"))

    def media(self, target: Target) -> MediaWants:
        """Return what the server wants: everything inside the request, but for what it reads at `READ_URLS` itself."""
        return _WANTS

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether a body holds candidates, or tells why there are none."""
        return "candidates" in body or "promptFeedback" in body

    def _request_id(self, response: HttpResponse) -> str | None:
        return request_id_of(response.headers, self.request_id_headers)


_WANTS = MediaWants(
    inline_remote=frozenset({"image", "audio", "video", "file"}),
    takes_urls=READ_URLS,
    image_types=frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}),
)


# --- where to ask ------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """What a base URL says: where models are asked, where they are listed, and whether it is Vertex AI."""

    root: str
    listing: str
    is_vertex: bool


@lru_cache(maxsize=256)
def _place(base_url: str) -> _Place:
    """Read a base URL: a version path is added where there is none, and Google's models to a bare one of Vertex AI."""
    root = base_url
    is_vertex = root.endswith(PUBLISHER)
    if not is_vertex and _VERTEX_HOST.fullmatch(urlsplit(root).hostname or ""):
        is_vertex = True
        root += ("" if urlsplit(root).path else "/v1") + PUBLISHER
    if is_vertex:
        return _Place(root, root.partition("/projects/")[0].removesuffix(PUBLISHER) + PUBLISHER, True)
    if not _VERSIONED.search(root):
        root += f"/{VERSION}"
    return _Place(root, root, False)


@lru_cache(maxsize=512)
def _model_url(place: _Place, model: str) -> str:
    """Return a model's URL. Tuned models have collections of their own, in Vertex AI as endpoints of a project."""
    for prefix in ("publishers/google/models/", "models/", "google/"):
        model = model.removeprefix(prefix)
    root, collection, name = place.root, "models", model
    if model.startswith("tunedModels/"):
        collection, _slash, name = model.partition("/")
    elif place.is_vertex and model.startswith("endpoints/"):
        root = root.removesuffix(PUBLISHER)
        collection, _slash, name = model.partition("/")
    elif place.is_vertex and model.startswith("projects/"):
        root = place.listing.removesuffix(PUBLISHER)
        collection, _slash, name = model.rpartition("/")
    try:
        return f"{root}/{quote(collection)}/{quote(name, safe='')}"
    except UnicodeEncodeError:
        raise InputError(_("the name of the model holds half a character (a lone surrogate)")) from None


def _headers(target: Target, stream: bool) -> Headers:
    """Return the headers; a key goes along unless there is none, or the target brings an access token of its own."""
    key = target.api_key
    headers = common_headers(stream)
    if key and key != NO_KEY and not any(name.lower() == "authorization" for name, _value in target.headers):
        headers = (("x-goog-api-key", key), *headers)
    return with_own(headers, target)


def _can_chat(listed: Mapping[str, Any]) -> bool:
    methods = listed.get("supportedGenerationMethods")
    return not isinstance(methods, list) or "generateContent" in methods


def _listed_name(name: str) -> str:
    return name.rpartition("/")[2] if name.startswith("publishers/") else name.removeprefix("models/")
