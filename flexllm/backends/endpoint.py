"""One endpoint: permit, build, send, parse, inside the only retry loop of the house."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, ChunkCollector, as_chunk
from ..errors import ApiStatusError, MalformedResponse, RequestCancelled, RequestError, StreamBroken
from ..limits import Gate
from ..providers.base import Provider, request_id_of
from ..retry import RetryPolicy, parse_retry_after, parse_should_retry
from ..sse import ServerSentEvent, parse_events
from ..transport import HttpStream, Transport
from ..wire import KEY_HEADERS, Headers, HttpRequest, HttpResponse, Target, mask_key

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_PAGES = 100
"""Pages of a list of models that are read; a server that never ends its list must not hold us."""

SHORTEST_KEY = 8
"""Characters from which on a key is masked in what a server says; shorter ones ("EMPTY") are in ordinary words too."""


class Endpoint:
    """Answers requests from one base URL. May be shared by threads.

    Args:
        provider: Translates.
        target: Whom to ask.
        transport: Carries; closed by `close`.
        gate: Every attempt passes it.
        retry: How often, after what pause.
        authorise: Gives headers for each attempt anew, for servers that know their callers by short-lived tokens.
        sleep: Used for pauses when there is no token to wait on.
    """

    def __init__(
        self,
        provider: Provider,
        target: Target,
        transport: Transport,
        gate: Gate,
        retry: RetryPolicy,
        *,
        authorise: Callable[[], Headers | Mapping[str, str]] | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._provider = provider
        self._target = target
        self._transport = transport
        self._gate = gate
        self._retry = retry
        self._authorise = authorise
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._token: Headers = ()  # the latest that `authorise` gave

    @property
    def place(self) -> str:
        """The base URL, fit for people's eyes."""
        return self._target.base_url

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer, after as many attempts as the retry policy allows."""
        result, attempts = self._ask(
            lambda target: self._provider.build(request, target, stream=False),
            self._provider.parse,
            request.model,
            cancel,
        )
        return result if attempts == 1 else replace(result, attempts=attempts)

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return the ids of the models that the server offers, all pages of them."""
        ids: list[str] = []
        page: str | None = None
        pages: set[str | None] = set()
        while page not in pages and len(pages) < MOST_PAGES:
            pages.add(page)
            ask = partial(self._provider.models_request, page=page)
            (found, page), _attempts = self._ask(ask, self._provider.models, None, cancel)
            ids += found
            if page is None:
                break
        return ids

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield pieces, then the whole. Until the first piece is handed on, failed attempts are repeated."""
        attempt = 1
        while True:
            collector = ChunkCollector()
            began = False
            started = time.monotonic()
            request_id: str | None = None
            try:
                http_request = self._provider.build(request, self._target_now(), stream=True)
                with self._gate.permit(cancel):
                    if cancel is not None and cancel.stopped:
                        raise RequestCancelled("stopped before it was sent", attempts=0)
                    with self._transport.stream(http_request, cancel) as reply:
                        request_id = request_id_of(reply.headers, self._provider.request_id_headers)
                        for chunk in self._chunks(reply):
                            collector.add(chunk)
                            began = began or bool(chunk.content or chunk.reasoning_content or chunk.tool_calls)
                            yield chunk
                yield collector.result(latency=time.monotonic() - started, request_id=request_id, attempts=attempt)
                return
            except RequestError as error:
                error.request_id = error.request_id or request_id
                if began and not isinstance(error, RequestCancelled):
                    self._told(error, request.model, attempt)
                    arrived = collector.result(
                        latency=time.monotonic() - started, request_id=request_id, attempts=attempt
                    )
                    raise self._told(_broken(error, arrived), request.model, attempt) from error
                self._pause(error, request.model, attempt, cancel)
                attempt += 1

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _ask(
        self,
        build: Callable[[Target], HttpRequest],
        read: Callable[[HttpResponse], T],
        model: str | None,
        cancel: CancelToken | None,
    ) -> tuple[T, int]:
        """Return what `read` makes of the reply, and the number of attempts that it took."""
        http_request: HttpRequest | None = None
        attempt = 1
        while True:
            try:
                if http_request is None or self._authorise is not None:
                    http_request = build(self._target_now())
                with self._gate.permit(cancel):
                    if cancel is not None and cancel.stopped:
                        raise RequestCancelled("stopped before it was sent", attempts=0)
                    response = self._transport.send(http_request, cancel)
                if response.status != 200:
                    self._check(response)
                return read(response), attempt
            except RequestError as error:
                self._pause(error, model, attempt, cancel)
                attempt += 1

    def _target_now(self) -> Target:
        """Return whom to ask, with a token that is good now if tokens are how one is known there."""
        if self._authorise is None:
            return self._target
        given = self._authorise()
        self._token = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
        return replace(self._target, headers=(*self._token, *self._target.headers))

    def _chunks(self, reply: HttpStream) -> Iterator[Chunk]:
        """Read a stream.

        Some proxies answer with an error as a plain JSON object and status 200, some servers with the whole answer: such
        a body is read as the reply to a plain request.
        """
        pieces = reply.pieces()
        if not 200 <= reply.status < 300:
            self._check(HttpResponse(reply.status, reply.headers, b"".join(pieces)))
        start = b""
        for piece in pieces:
            start += piece
            if not start.isspace():
                break
        pieces = chain((start,), pieces)
        if start.lstrip()[:1] != b"{":
            return self._provider.chunks(_events(pieces, start, reply))
        return iter([as_chunk(self._provider.parse(HttpResponse(reply.status, reply.headers, b"".join(pieces))))])

    def _check(self, response: HttpResponse) -> None:
        if 200 <= response.status < 300:
            return
        error = self._provider.error(response)
        if error.retry_after is None:  # a provider may know better, from the body
            error.retry_after = parse_retry_after(response.headers, time.time())
        error.should_retry = parse_should_retry(response.headers)
        raise error

    def _pause(self, error: RequestError, model: str | None, attempt: int, cancel: CancelToken | None) -> None:
        """Wait until the next attempt may be made, or raise `error` if there should be none."""
        self._told(error, model, attempt)
        if isinstance(error, RequestCancelled):
            raise error
        delay = self._retry.delay(error, attempt, self._rng)
        if delay is None:
            raise error
        log.info("attempt %d at %s failed (%s); the next in %.1f s", attempt, self.place, error, delay)
        if cancel is None:
            self._sleep(delay)
        elif cancel.wait(delay):
            stopped = RequestCancelled(f"stopped before attempt {attempt + 1}")
            raise self._told(stopped, model, attempt) from error

    def _told(self, error: RequestError, model: str | None, attempt: int) -> RequestError:
        error.endpoint = self.place
        error.model = model
        # A request that was stopped on its way to an attempt was not sent by it: such an error counts none.
        error.attempts = attempt if error.attempts else attempt - 1
        if isinstance(error, (ApiStatusError, MalformedResponse)):  # said by a provider, which knows no place
            error.args = (f"{self.place}: {error}",)
        for secret in self._secrets():  # some gateways repeat the key that they refuse
            masked = mask_key(secret)
            error.args = tuple(str(text).replace(secret, masked) for text in error.args)
            if isinstance(error, ApiStatusError):
                error.body = error.body.replace(secret, masked)
                error.code = error.code.replace(secret, masked) if isinstance(error.code, str) else error.code
        return error

    def _secrets(self) -> list[str]:
        """Return what nobody may see: the key, and the keys and tokens in headers."""
        headers = (*self._target.headers, *self._token)
        found = [value.rpartition(" ")[2] for name, value in headers if name.lower() in KEY_HEADERS]
        return [secret for secret in (self._target.api_key, *found) if len(secret) >= SHORTEST_KEY]


def _events(pieces: Iterator[bytes], start: bytes, reply: HttpStream) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream. Raises MalformedResponse if it is none at all, such as a page for people."""
    began = False
    for event in parse_events(pieces):
        began = True
        yield event
    if not began and start.strip() and not _LINE_OF_A_STREAM.match(start):
        raise MalformedResponse(
            f"the server answered {reply.status} with something that is not a stream of events "
            f"({reply.headers.get('content-type', 'no content type')}): {start[:80].decode('utf-8', 'replace')!r}; check "
            "base_url (with its version path, such as /v1)"
        )


_LINE_OF_A_STREAM = re.compile(rb"\s*(\xef\xbb\xbf)?(:|data|event|id|retry)")


def _broken(error: RequestError, arrived: ChatCompletionResult) -> StreamBroken:
    return StreamBroken(
        f"the stream ended early, after {len(arrived.content)} characters: {error}",
        partial=arrived.content,
        result=arrived,
        request_id=error.request_id or arrived.request_id,
    )
