"""One endpoint: one attempt at a time, through its gate. Whether there is another, and where, is not decided here."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, Usage, as_chunk, set_origin
from ..cost.bill import bill, lost
from ..errors import ApiStatusError, ConnectionFailed, MalformedResponse, RequestCancelled, RequestError
from ..health import EndpointHealth, State
from ..language import _
from ..limits import Cost, Gate, Passages, Permit
from ..media.inline import has_parts, inline_messages
from ..media.load import MediaStore
from ..prices import ModelPrice, PriceOptions, price_of
from ..providers.base import Provider, request_id_of
from ..providers.credits import Balance, find_service
from ..retry import parse_retry_after, parse_should_retry
from ..sse import ServerSentEvent, parse_events
from ..tokens import OutputEstimate, PromptEstimate, corrections, estimate_prompt_tokens, max_tokens_of
from ..transport import HttpStream, Transport
from ..wire import KEY_HEADERS, Headers, HttpRequest, HttpResponse, Target, mask_key
from .turn import Turn

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_PAGES = 100
"""Pages of a list of models that are read; a server that never ends its list must not hold us."""

SHORTEST_KEY = 8
"""Characters from which on a key is masked in what a server says; shorter ones ("EMPTY") are in ordinary words too."""

Authorise = Callable[[], Headers | Mapping[str, str]]


class Endpoint:
    """Asks one base URL. May be shared by threads.

    Args:
        provider: Translates.
        target: Whom to ask.
        transport: Carries; closed by `close`.
        gate: Every attempt passes it.
        media: Reads and keeps media, which are put inline before a request is built.
        model: Asked here instead of the pool's own; None asks for what the request names.
        weight: Its share, where a pool goes by weights.
        authorise: Gives headers for each attempt anew, for servers that know their callers by short-lived tokens.
        prices: Prices of the caller's own; else those of the table.
    """

    def __init__(
        self,
        provider: Provider,
        target: Target,
        transport: Transport,
        gate: Gate,
        media: MediaStore | None = None,
        *,
        model: str | None = None,
        weight: float = 1.0,
        authorise: Authorise | None = None,
        prices: PriceOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gate = gate
        self.model = model
        self.weight = weight
        self.passages = Passages()
        self._provider = provider
        self._target = target
        self._transport = transport
        self._media = media
        self._wants = provider.media(target) if media is not None else None
        self._authorise = authorise
        self._counts_tokens = gate.limit.counts_tokens
        self._clock = clock
        self._prompts, self._outputs = PromptEstimate(), OutputEstimate()
        self._limited: tuple[Mapping[str, Any] | None, int | None] = None, None
        self._is_lent = False
        self._token: Headers = ()  # the latest that `authorise` gave
        self._own_prices = prices
        self._prices: dict[str, ModelPrice | None] = {}

    @property
    def place(self) -> str:
        """The base URL, fit for people's eyes."""
        return self._target.base_url

    @property
    def provider_name(self) -> str:
        """The name of its provider, as registered."""
        return self._provider.name

    def answering_headers(self) -> Headers:
        """Return the headers that change what is answered: versions, and features that are asked for by header."""
        return tuple((name.lower(), value) for name, value in self._target.headers if name.lower() in _ANSWERING)

    def complete(self, request: ChatRequest, turn: Turn) -> ChatCompletionResult:
        """Return the answer to one attempt."""
        if has_parts(request.messages):
            request = self._inlined(request, turn)
        http_request = self._provider.build(request, self._target_now(), stream=False)
        with self._permit(turn, request) as permit:
            response = self._send(http_request, permit, turn)
            result = self._provider.parse(response)
            permit.accept(result.usage)
        if permit.cost is not None:
            self._learn(permit.cost, result.usage)
        self._price(result, request)
        return result

    def stream(self, request: ChatRequest, turn: Turn) -> Generator[Chunk, None, ChatCompletionResult]:
        """Yield the pieces of one attempt; return the whole. `turn` is told when the first has come."""
        if has_parts(request.messages):
            request = self._inlined(request, turn)
        http_request = self._provider.build(request, self._target_now(), stream=True)
        with self._permit(turn, request) as permit:
            if turn.cancel is not None and turn.cancel.stopped:
                raise RequestCancelled(_("stopped before it was sent"), attempts=0)
            collector = turn.begin_stream()
            seconds = turn.seconds_to_first_piece(self._transport.timeout)
            with self._transport.stream(http_request, turn.cancel, seconds, permit.departure) as reply:
                permit.hear(reply.headers, reply.status)
                turn.request_id = request_id_of(reply.headers, self._provider.request_id_headers)
                for chunk in self._chunks(reply):
                    collector.add(chunk)
                    if not turn.has_begun and (chunk.content or chunk.reasoning_content or chunk.tool_calls):
                        turn.has_begun = True
                        reply.lift_limit()
                    yield chunk
            result = turn.arrived()
            permit.accept(result.usage)
        if permit.cost is not None:
            self._learn(permit.cost, result.usage)
        self._price(result, request)
        return result

    def price_of(self, model: str) -> ModelPrice | None:
        """Return what a model costs here, None if nobody knows."""
        try:
            return self._prices[model]
        except KeyError:
            price = self._prices[model] = price_of(model, self._target.base_url, self._own_prices)
            return price

    def lost(self, request: ChatRequest, error: RequestError, turn: Turn) -> float:
        """Return the US dollars that an attempt was probably billed which broke off; 0.0 if it did not get so far."""
        was_sent = error.was_sent if isinstance(error, ConnectionFailed) else False
        if isinstance(error, RequestCancelled):
            was_sent = error.attempts > 0
        arrived = turn.arrived() if turn.has_begun else None
        if not was_sent and arrived is None:
            return 0.0
        return lost(request, arrived, self.price_of(request.model), time.time())

    def cost_like(self, request: ChatRequest, result: ChatCompletionResult) -> float:
        """Return the US dollars that a reply like another one would cost here; 0.0 if nobody knows."""
        return bill(result, request, self.price_of(request.model), time.time()).cost or 0.0

    def models(self, turn: Turn, page: str | None = None) -> tuple[list[str], str | None]:
        """Return a page of the models that the server offers, and what the next one is asked by; None at the last."""
        http_request = self._provider.models_request(self._target_now(), page=page)
        with self._permit(turn, None) as permit:
            found = self._provider.models(self._send(http_request, permit, turn))
            permit.accept(None)
        return found

    def balance(self, cancel: CancelToken | None = None) -> Balance:
        """Return what is left of the account whose key asks here. It is asked once, past the gate, and not again."""
        service = find_service(self._target.base_url)
        replies: list[HttpResponse] = []
        try:
            first, *others = service.requests(self._target.api_key)
            replies.append(self._transport.send(first, cancel))
            for http_request in others:  # which may fail
                with contextlib.suppress(RequestError):
                    replies.append(self._transport.send(http_request, cancel))
            return service.read(replies)
        except RequestError as error:
            self.mask(error)
            raise

    def lent(self, model: str | None) -> Endpoint:
        """Return this endpoint for another owner: the same connections and gate, with counts of its own."""
        lent = copy.copy(self)
        lent.model, lent.passages, lent._is_lent = model, Passages(), True
        return lent

    def close(self) -> None:
        """Close idle connections, unless they are somebody else's."""
        if not self._is_lent:
            self._transport.close()

    def health(self, state: State = "ready", returns_in: float = 0.0) -> EndpointHealth:
        """Return how it does. What a pool thinks of it, the pool says."""
        gate, passages = self.gate, self.passages
        closed_for = gate.closed_for()
        return EndpointHealth(
            place=self.place,
            model=self.model,
            state="waiting" if closed_for and state == "ready" else state,
            in_flight=passages.in_flight,
            sent=passages.sent,
            answered=passages.answered,
            failed=passages.failed,
            refused=passages.refused,
            hedged=passages.hedged,
            latency=passages.latency,
            rate=gate.rate(),
            learned=gate.learned(),
            returns_in=max(returns_in, closed_for),
            last_error=None if passages.last_error is None else self._masked(passages.last_error),
        )

    def count_hedged(self) -> None:
        """Count a request that was sent a second time because it was slow here."""
        self.gate.count_hedged(self.passages)

    def told(self, error: RequestError, model: str | None, attempts: int) -> RequestError:
        """Fill in what only this room knows, and mask what nobody may see.

        Args:
            attempts: How often the row was sent, this time included.
        """
        error.endpoint = self.place
        error.model = model
        # A request that was stopped on its way to an attempt was not sent by it: such an error counts none.
        error.attempts = attempts if error.attempts else attempts - 1
        if isinstance(error, (ApiStatusError, MalformedResponse)):  # said by a provider, which knows no place
            error.args = (f"{self.place}: {error}",)
        self.mask(error)
        return error

    def mask(self, error: RequestError) -> None:
        """Mask in an error what nobody may see: some gateways repeat the key that they refuse."""
        error.args = tuple(self._masked(str(text)) for text in error.args)
        if isinstance(error, ApiStatusError):
            error.body = self._masked(error.body)
            error.code = self._masked(error.code) if isinstance(error.code, str) else error.code

    # --- inside

    def _price(self, result: ChatCompletionResult, request: ChatRequest) -> None:
        if result.usage is not None:
            corrections.learn(request, result.usage)
        cost, estimated = bill(result, request, self.price_of(request.model), time.time())
        set_origin(result, self._target.base_url, cost, estimated)

    def _permit(self, turn: Turn, request: ChatRequest | None) -> Permit:
        cost = self._cost_of(request) if self._counts_tokens and request is not None else None
        again, passages = turn.number > 1, self.passages
        return Permit(self.gate, turn.cancel, cost, again, turn.until, passages, turn.backoff, turn.may_leave)

    def _send(self, http_request: HttpRequest, permit: Permit, turn: Turn) -> HttpResponse:
        """Send, and return a reply that calls itself a success."""
        cancel = turn.cancel
        if cancel is not None and cancel.stopped:
            raise RequestCancelled(_("stopped before it was sent"), attempts=0)
        response = self._transport.send(http_request, cancel, turn.seconds_left(), permit.departure)
        permit.hear(response.headers, response.status)
        if response.status != 200:
            self._check(response)
        return response

    def _cost_of(self, request: ChatRequest) -> Cost:
        estimated = estimate_prompt_tokens(request)
        params, limit = self._limited
        if request.params is not params:  # those of the row before, in most batches
            limit = max_tokens_of(request.params)
            self._limited = request.params, limit
        return Cost(self._prompts.expect(estimated), self._outputs.expect(limit), estimated)

    def _learn(self, cost: Cost, usage: Usage | None) -> None:
        # Not locked: two replies that meet here may cost one of them its weight in a running mean, and no more.
        if usage is not None:
            self._prompts.seen(cost.estimated, usage["prompt_tokens"])
            self._outputs.seen(usage["completion_tokens"])

    def _inlined(self, request: ChatRequest, turn: Turn) -> ChatRequest:
        """Return the request with every medium as this provider wants it: read once for all attempts."""
        if self._media is None or self._wants is None:
            return request
        known = turn.inlined = turn.inlined if turn.inlined is not None else {}
        messages = known.get(self)
        if messages is None:
            try:
                messages = inline_messages(request.messages, self._media, self._wants, turn.cancel)
            except RequestError as error:
                error.attempts = 0  # no endpoint is to blame for it, and asking another would not help
                raise
            known[self] = messages
        return request if messages is request.messages else replace(request, messages=messages)

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

    def _masked(self, text: str) -> str:
        for secret in self._secrets():
            text = text.replace(secret, mask_key(secret))
        return text

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
        reason = _(
            "the server answered {status} with something that is not a stream of events ({content_type}): {start!r}; check "
            "base_url (with its version path, such as /v1)",
            status=reply.status,
            content_type=reply.headers.get("content-type") or _("no content type"),
            start=start[:80].decode("utf-8", "replace"),
        )
        raise MalformedResponse(reason)


_ANSWERING = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
"""Headers by which a server answers differently, in small letters. Source: the API references of Anthropic and OpenAI."""

_LINE_OF_A_STREAM = re.compile(rb"\s*(\xef\xbb\xbf)?(:|data|event|id|retry)")
