"""One endpoint: permit, build, send, parse, inside the only retry loop of the house."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from urllib.parse import urlsplit

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, ChunkCollector, as_chunk
from ..errors import ApiStatusError, MalformedResponse, RequestCancelled, RequestError, StreamBroken
from ..limits import Gate
from ..providers.base import Provider
from ..retry import RetryPolicy, parse_retry_after, parse_should_retry
from ..sse import parse_events
from ..transport import HttpStream, Transport
from ..wire import HttpResponse, Target, mask_key

log = logging.getLogger(__name__)

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
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._provider = provider
        self._target = target
        self._transport = transport
        self._gate = gate
        self._retry = retry
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._place = urlsplit(target.base_url)._replace(query="", fragment="").geturl()

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer, after as many attempts as the retry policy allows."""
        http_request = self._provider.build(request, self._target, stream=False)
        attempt = 1
        while True:
            try:
                with self._gate.permit(cancel):
                    if cancel is not None and cancel.stopped:
                        raise RequestCancelled("stopped before it was sent", attempts=0)
                    response = self._transport.send(http_request, cancel)
                if response.status != 200:
                    self._check(response)
                result = self._provider.parse(response)
                return result if attempt == 1 else replace(result, attempts=attempt)
            except RequestError as error:
                self._pause(error, request, attempt, cancel)
                attempt += 1

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield pieces, then the whole. Until the first piece is handed on, failed attempts are repeated."""
        http_request = self._provider.build(request, self._target, stream=True)
        attempt = 1
        while True:
            collector = ChunkCollector()
            began = False
            started = time.monotonic()
            try:
                with self._gate.permit(cancel):
                    if cancel is not None and cancel.stopped:
                        raise RequestCancelled("stopped before it was sent", attempts=0)
                    with self._transport.stream(http_request, cancel) as reply:
                        for chunk in self._chunks(reply):
                            collector.add(chunk)
                            began = began or bool(chunk.content or chunk.reasoning_content or chunk.tool_calls)
                            yield chunk
                        request_id = reply.headers.get("x-request-id")
                yield collector.result(latency=time.monotonic() - started, request_id=request_id, attempts=attempt)
                return
            except RequestError as error:
                if began and not isinstance(error, RequestCancelled):
                    self._told(error, request, attempt)
                    raise self._told(_broken(error, collector), request, attempt) from error
                self._pause(error, request, attempt, cancel)
                attempt += 1

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

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
            return self._provider.chunks(parse_events(pieces))
        return iter([as_chunk(self._provider.parse(HttpResponse(reply.status, reply.headers, b"".join(pieces))))])

    def _check(self, response: HttpResponse) -> None:
        if 200 <= response.status < 300:
            return
        error = self._provider.error(response)
        if error.retry_after is None:  # a provider may know better, from the body
            error.retry_after = parse_retry_after(response.headers, time.time())
        error.should_retry = parse_should_retry(response.headers)
        raise error

    def _pause(self, error: RequestError, request: ChatRequest, attempt: int, cancel: CancelToken | None) -> None:
        """Wait until the next attempt may be made, or raise `error` if there should be none."""
        self._told(error, request, attempt)
        if isinstance(error, RequestCancelled):
            raise error
        delay = self._retry.delay(error, attempt, self._rng)
        if delay is None:
            raise error
        log.info("attempt %d at %s failed (%s); the next in %.1f s", attempt, self._place, error, delay)
        if cancel is None:
            self._sleep(delay)
        elif cancel.wait(delay):
            stopped = RequestCancelled(f"stopped before attempt {attempt + 1}")
            raise self._told(stopped, request, attempt) from error

    def _told(self, error: RequestError, request: ChatRequest, attempt: int) -> RequestError:
        error.endpoint = self._place
        error.model = request.model
        # A request that was stopped on its way to an attempt was not sent by it: such an error counts none.
        error.attempts = attempt if error.attempts else attempt - 1
        if isinstance(error, (ApiStatusError, MalformedResponse)):  # said by a provider, which knows no place
            error.args = (f"{self._place}: {error}",)
        key = self._target.api_key
        if len(key) >= SHORTEST_KEY:  # some gateways repeat the key that they refuse
            error.args = tuple(str(text).replace(key, mask_key(key)) for text in error.args)
            if isinstance(error, ApiStatusError):
                error.body = error.body.replace(key, mask_key(key))
        return error


def _broken(error: RequestError, collector: ChunkCollector) -> StreamBroken:
    partial = collector.content
    return StreamBroken(
        f"the stream ended early, after {len(partial)} characters: {error}",
        partial=partial,
        request_id=error.request_id,
    )
