"""Answers to requests at one endpoint or at several: as a whole or as a stream, with a second request where one is slow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..errors import FlexLLMError, RequestCancelled, RequestError
from ..health import EndpointHealth
from ..retry import RetryPolicy
from .base import Leave
from .beside import Second
from .choice import Choice
from .endpoint import MOST_PAGES, Endpoint
from .hedge import Hedged, HedgePolicy, Hedging, Leg
from .row import Row, Terms


class Attempts(Terms):
    """Answers each row with as many attempts as its budget allows, at one endpoint or at several. A backend.

    Args:
        hedge: Which requests are sent once more because they are slow; None for none.

    The other arguments are those of `Terms`.
    """

    def __init__(
        self,
        choice: Choice,
        retry: RetryPolicy,
        *,
        model: str | None = None,
        hedge: HedgePolicy | None = None,
        distribute: bool = True,
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(choice, retry, model=model, distribute=distribute, rng=rng, sleep=sleep, clock=clock)
        self._hedging = Hedging(hedge) if hedge is not None else None

    def complete(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> ChatCompletionResult:
        """Return the answer.

        Args:
            leave: Asked before each further attempt; None allows them.

        Raises:
            RequestError: The last attempt's, or one that no further attempt can change.
            AllEndpointsFailed: Every attempt at several endpoints failed.
        """
        row = Row(self, request, cancel, leave=leave)
        for endpoint in row:
            with row:
                if self._hedging is None:
                    result = endpoint.complete(self.request_for(endpoint, request), row)
                else:
                    result = self._hedged(self._hedging, endpoint, request, row)
        return result if row.requests == 1 else row.summed(result)

    def stream(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield pieces, then the whole. Until the first piece is handed on, failed attempts are repeated."""
        row = Row(self, request, cancel, leave=leave)
        for endpoint in row:
            with row:
                result = yield from endpoint.stream(self.request_for(endpoint, request), row)
        # Who stops reading here has got his answer: the endpoint has been given back, and is well.
        yield result if row.requests == 1 else row.summed(result)

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return the ids of the models that the endpoints offer, each once.

        Raises:
            RequestError: No endpoint told; the first one's error.
        """
        ids: dict[str, None] = {}
        errors: list[FlexLLMError] = []
        for endpoint in self.choice.endpoints:
            try:
                ids.update(dict.fromkeys(self._models_of(endpoint, cancel)))
            except RequestError as error:
                if isinstance(error, RequestCancelled):
                    raise
                errors.append(error)
        if len(errors) == len(self.choice.endpoints):
            raise errors[0]
        return list(ids)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how each endpoint does."""
        return self.choice.health()

    def close(self) -> None:
        """Close idle connections."""
        if self._hedging is not None:
            self._hedging.close()
        for endpoint in self.choice.endpoints:
            endpoint.close()

    def _hedged(self, hedging: Hedging, endpoint: Endpoint, request: ChatRequest, row: Row) -> ChatCompletionResult:
        """Make one attempt, of two requests if the first is slow."""
        outer = row.cancel
        seconds: list[Second] = []

        def first(leg: Leg) -> ChatCompletionResult:
            row.cancel, row.on_sent = leg, leg.sent
            try:
                return endpoint.complete(self.request_for(endpoint, request), row)
            finally:
                row.cancel, row.on_sent = outer, None

        def second() -> Callable[[Leg], ChatCompletionResult] | None:
            other = self.choice.spare(endpoint) if row.may_have_second() else None
            if other is None:
                return None
            beside = Second(other)
            seconds.append(beside)
            asked, model = self.request_for(other, request), request.model
            return lambda leg: beside.ask(self.choice, asked, model, row.beside(leg), leg)

        hedged: Hedged[ChatCompletionResult] | None = None
        try:
            hedged = hedging.run(first, second, outer)
        finally:
            if seconds and (seconds[0].was_sent if hedged is None else hedged.requests > 1):
                row.hedged(hedged, seconds[0])
        return hedged.answer

    def _models_of(self, endpoint: Endpoint, cancel: CancelToken | None) -> list[str]:
        """Return what one server offers, all pages of it."""
        ids: list[str] = []
        page: str | None = None
        pages: set[str | None] = set()
        while page not in pages and len(pages) < MOST_PAGES:
            pages.add(page)
            row = Row(self, None, cancel, only=endpoint)
            for _reply in row:
                with row:
                    found, page = endpoint.models(row, page)
            ids += found
            if page is None:
                break
        return ids
