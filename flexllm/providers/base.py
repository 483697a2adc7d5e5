"""The face of a provider, and the few things that all of them share. Pure: no socket, no clock, no file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Protocol

from ..chat import ChatCompletionResult, ChatRequest, Chunk, Usage
from ..errors import ApiStatusError, InputError, MalformedResponse
from ..language import _
from ..media.options import MediaWants
from ..sse import ServerSentEvent
from ..wire import Headers, HttpRequest, HttpResponse, Target


class Provider(Protocol):
    """Translates between chat values and one wire format; does nothing else.

    Attributes:
        name: As registered; also the key of what `native` holds for this provider.
        needs_key: Whether its own service cannot be asked without a key.
        request_id_headers: Reply headers that name a request, the best first.
    """

    name: str
    needs_key: bool
    request_id_headers: tuple[str, ...]

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        """Return the HTTP request that asks `target`. Raises InputError for what cannot be expressed."""

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        """Read a complete 2xx reply. Raises MalformedResponse, or the error that the body holds."""

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        """Read a stream. Raises the error that an event holds, and MalformedResponse if the end mark is missing."""

    def error(self, response: HttpResponse) -> ApiStatusError:
        """Read a reply that is not 2xx."""

    def models_request(self, target: Target, page: str | None) -> HttpRequest:
        """Return the request for the list of models, from its beginning or from a page that `models` named."""

    def models(self, response: HttpResponse) -> tuple[list[str], str | None]:
        """Read the ids of a list of models that can chat, and the name of its next page, None if it was the last."""

    def media(self, target: Target) -> MediaWants:
        """Return in what form pictures, sounds, videos and files must stand in a request to `target`."""

    def owns(self, body: Mapping[str, Any]) -> bool:
        """Whether a reply's body, decoded, is in this provider's format."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_decode = json.JSONDecoder().decode


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """Return a request body as compact JSON in UTF-8.

    Raises:
        InputError: A value is not JSON-able, or a text holds half a character (a lone surrogate).
    """
    try:
        return _encode(payload).encode()
    except UnicodeEncodeError as error:
        reason = _(
            "a text holds half a character (a lone surrogate at {position}); repair the input", position=error.start
        )
        raise InputError(reason) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(_("the request cannot be written as JSON: {error}", error=error)) from None


def decode_body(response: HttpResponse, id_headers: tuple[str, ...] = ("x-request-id",)) -> Any:
    """Return a reply's body as JSON.

    Args:
        id_headers: Reply headers that name a request, the best first.

    Raises:
        MalformedResponse: It is something else; the message shows its start.
    """
    try:
        return _decode(response.body.decode())  # as json.loads does it, without a look at every possible encoding
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):  # the latter where it is nested a thousand deep
        shown = response.body[:80].decode("utf-8", "replace")
        reason = _(
            "the server answered {status} with something that is not JSON ({content_type}): {shown!r}",
            status=response.status,
            content_type=response.headers.get("content-type", _("no content type")),
            shown=shown,
        )
        raise MalformedResponse(reason, request_id=request_id_of(response.headers, id_headers)) from None


def json_or_none(body: bytes) -> Any:
    """Return an error's body decoded, None if it is no JSON: proxies answer with pages of their own."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def event_data(event: ServerSentEvent) -> dict[str, Any]:
    """Return one piece of a stream as the object that it is; a list of that one object counts too (Gemini's errors).

    Raises:
        MalformedResponse: It is something else; the message shows its start.
    """
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        raise MalformedResponse(_("a piece of the stream is not JSON: {data!r}", data=event.data[:80])) from None
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        raise MalformedResponse(_("a piece of the stream is not an object: {data!r}", data=event.data[:80]))
    return data


def request_id_of(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the server's id of a request, from the first of these headers that is there."""
    for name in names:
        if name in headers:
            return headers[name]
    return None


def with_own(headers: Headers, target: Target) -> Headers:
    """Return a provider's headers with those of the target, which replace them by name."""
    if not target.headers:
        return headers
    given = {name.lower() for name, _value in target.headers}
    return tuple(pair for pair in headers if pair[0].lower() not in given) + target.headers


def common_headers(stream: bool) -> Headers:
    """Return the headers that a chat request carries to any provider."""
    return (
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if stream else "application/json"),
        ("Accept-Encoding", "identity" if stream else "gzip, deflate"),
        ("User-Agent", "flexllm"),
    )


def refuse_stream(params: Mapping[str, Any]) -> None:
    """Raise InputError if a call that awaits a whole answer is given stream=True."""
    if params.get("stream"):
        raise InputError(
            _("stream=True is no parameter of a call that awaits a whole answer; use the one that streams")
        )


def count(number: Any) -> int:
    """Return a token count that may be missing, null, negative, a float or a text; 0 if it is none."""
    if type(number) is int:
        return number if number > 0 else 0
    try:
        return max(0, int(float(number)))
    except (TypeError, ValueError, OverflowError):
        return 0


def make_usage(
    native: Mapping[str, Any],
    *,
    prompt: int,
    completion: int,
    total: int,
    cached: Any = None,
    cache_write: Any = None,
    reasoning: Any = None,
) -> Usage:
    """Return token counts in the common words, with the provider's own beside them.

    Args:
        native: The provider's own usage object.
        prompt: Tokens of the request, those read from a cache or written to one included.
        completion: Tokens of the reply, thinking included.
        total: Their sum as the provider gives it; 0 if it does not.
        cached, cache_write, reasoning: As the provider gives them; None leaves them out.
    """
    usage = Usage(native, prompt_tokens=prompt, completion_tokens=completion, total_tokens=total or prompt + completion)
    if cached is not None:
        usage["cached_tokens"] = count(cached)
    if cache_write is not None:
        usage["cache_write_tokens"] = count(cache_write)
    if reasoning is not None:
        usage["reasoning_tokens"] = count(reasoning)
    return usage


MADE_ID = "made_"
"""What the id of a tool call begins with that the server gave none. It is not sent back."""


def made_id(seed: str | bytes, position: int) -> str:
    """Return an id for the tool call at a position of the reply that `seed` stands for; the same every time."""
    digest = blake2b(seed.encode("utf-8", "replace") if isinstance(seed, str) else seed, digest_size=6)
    return f"{MADE_ID}{digest.hexdigest()}_{position}"
