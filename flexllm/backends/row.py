"""The only retry loop of the house: choose an endpoint, let it try, judge what came of it, pause, and again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest
from ..errors import (
    AllEndpointsFailed,
    FlexLLMError,
    NotFound,
    PermissionDenied,
    RequestCancelled,
    RequestError,
    StreamBroken,
    release_frames,
)
from ..language import _, plural
from ..limits import GateClosed, is_refusal
from ..retry import RetryPolicy, blame
from .base import Leave
from .beside import CutOff, Second, summed
from .choice import Choice, OneEndpoint
from .endpoint import Endpoint
from .hedge import Hedged
from .turn import Turn

log = logging.getLogger(__name__)


class Terms:
    """What all rows of a client have in common: whom they may be sent to, how often, and in whose name.

    Args:
        choice: Says whom to ask.
        retry: How often, after what pause, and for how long.
        model: What stands for an endpoint's own model in requests to a pool; None sends every name as it is.
        distribute: See `Choice.take`.
        sleep: Used for pauses when there is no token to wait on.
    """

    def __init__(
        self,
        choice: Choice,
        retry: RetryPolicy,
        *,
        model: str | None = None,
        distribute: bool = True,
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.choice = choice
        self.only = choice.endpoints[0] if isinstance(choice, OneEndpoint) else None  # then nobody need be asked whom
        self.retry = retry
        self.rng = rng or random.Random()
        self.sleep = sleep
        self.clock = clock
        self.distributes = distribute
        self._model = model

    def is_own_model(self, model: str | None) -> bool:
        """Return whether a request asks each endpoint for its own model, and not for one that its caller names."""
        return model is None or self._model is None or model == self._model

    def request_for(self, endpoint: Endpoint, request: ChatRequest) -> ChatRequest:
        """Return the request as this endpoint is asked: for its own model, unless the caller names another."""
        if endpoint.model is None or request.model != self._model or request.model == endpoint.model:
            return request
        return replace(request, model=endpoint.model)


class Row(Turn):
    """A row in its loop. Iterating gives an endpoint for each attempt; each is made inside `with row`, which ends the
    loop when it brings an answer, and raises when there is to be no further attempt."""

    requests = 0  # attempts, and what was sent beside them
    _endpoint: Endpoint
    _errors: tuple[RequestError, ...] = ()
    _failed: tuple[Endpoint, ...] = ()
    _pause = 0.0
    _is_over = False
    _lost: BaseException | None = None  # what the first request ended in where the second one answered
    _spent = 0.0  # US dollars that requests without an answer were probably billed
    _noted = 0.0  # of these, what its leave was told
    _cut_off: tuple[CutOff, ...] = ()

    def __init__(
        self,
        terms: Terms,
        request: ChatRequest | None,
        cancel: CancelToken | None,
        *,
        only: Endpoint | None = None,
        leave: Leave | None = None,
    ) -> None:
        super().__init__(cancel, terms.retry.total_timeout, terms.clock)
        self._terms = terms
        self._request = request
        self._model = None if request is None else request.model
        self._only = only or terms.only
        self._leave = leave
        self.may_leave = self._only is None
        self.backoff = terms.retry.retry_delay

    def may_have_second(self) -> bool:
        """Return whether the budget allows a second request beside the one under way."""
        return self._leave is None or self._leave.beside()

    def hedged(self, hedged: Hedged[ChatCompletionResult] | None, second: Second) -> None:
        """Count a second request that was sent beside the attempt's own; None if neither brought an answer."""
        self.requests += 1
        self._endpoint.count_hedged()
        if hedged is None:
            self._note_lost(second.endpoint, second.ended or RequestCancelled("broken off, with the first"))
            return
        loser = second.endpoint
        if hedged.winner == "second":
            loser = self._endpoint
            # An endpoint whose request was cut off has proved nothing, one that failed has.
            self._lost = hedged.failed or RequestCancelled("cut off, for the second was quicker", attempts=0)
        if hedged.failed is not None:
            self._note_lost(loser, hedged.failed)
        elif self._request is not None:
            self._cut_off += (CutOff(loser, self._terms.request_for(loser, self._request)),)

    def summed(self, result: ChatCompletionResult) -> ChatCompletionResult:
        """Return the answer with what all of the row's requests took."""
        return summed(result, self.requests, self._spent, self._cut_off)

    def _note_lost(self, endpoint: Endpoint, error: BaseException) -> None:
        if self._request is not None and isinstance(error, RequestError):
            self._spent += endpoint.lost(self._terms.request_for(endpoint, self._request), error, self)

    def __iter__(self) -> Row:
        return self

    def __next__(self) -> Endpoint:
        if self._is_over:
            raise StopIteration
        if self._pause:
            self._wait()
        if self._only is None:
            self.shares = max(1, self._terms.choice.attempts_at_least - len({*self._failed}))
        self._endpoint = self._only or self._take()  # no call from here on, hence no Ctrl-C: its place would be lost
        self.number += 1
        self.requests += 1
        return self._endpoint

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            self._is_over = True
            if self._only is None:
                self._give(self._lost)
            return False
        if self._only is None:
            self._give(error)
        if isinstance(error, GateClosed):  # it was not sent: the choice finds another, or waits
            self.number -= 1
            self.requests -= 1
            return True
        if not isinstance(error, RequestError):
            return False
        self._note_lost(self._endpoint, error)
        final = self._judge(error)
        if final is None:
            release_frames(error)
            return True
        self._errors = ()
        if self._spent and isinstance(final, (RequestError, AllEndpointsFailed)):
            final.cost = self._spent
        if final is error:
            return False
        try:
            raise final from error
        finally:
            del final, error  # else this frame, which their tracebacks hold, would hold them

    def _take(self) -> Endpoint:
        try:
            terms = self._terms
            return terms.choice.take(self._failed, self.cancel, self._patience(), terms.distributes)
        except AllEndpointsFailed as error:
            error.attempts, error.errors, error.cost = self.requests, list(self._errors) or error.errors, self._spent
            raise
        except RequestCancelled as error:
            error.attempts, error.model, error.cost = self.requests, self._model, self._spent
            raise
        except RequestError as error:  # it had to wait for too long
            if not self._errors:
                raise
            raise self._out_of_time() from error

    def _give(self, ended: BaseException | None) -> None:
        if isinstance(ended, RequestError):
            self._endpoint.mask(ended)  # before anybody notes it down
        if isinstance(ended, (NotFound, PermissionDenied)) and not self._terms.is_own_model(self._model):
            ended = RequestCancelled("the caller's model is not there", attempts=0)  # which is no fault of the endpoint
        self._terms.choice.give(self._endpoint, ended)

    def _judge(self, error: RequestError) -> FlexLLMError | None:
        """Return what the row fails with, or None after setting the pause before the next attempt."""
        if not error.attempts and not isinstance(error, RequestCancelled):
            # It was not sent, and neither the server nor the moment is to blame; or the time was over in the gate.
            if not self._errors:
                return error
            is_late = self.until is not None and self._terms.clock() >= self.until
            return self._out_of_time() if is_late else self._verdict()
        error.request_id = error.request_id or self.request_id
        self._endpoint.told(error, self._model, self.requests)
        if isinstance(error, RequestCancelled):
            return error
        if self.has_begun:
            return self._broken(error)
        self._errors += (error,)
        self._failed += (self._endpoint,)
        pause = self._pause_after(error)
        if pause is None:
            return self._verdict()
        if self.until is not None and self._terms.clock() + pause >= self.until:
            return self._out_of_time()
        if self._leave is not None and not self._leave.again(self._spent - self._noted):
            error.args = (_("{error}; the budget allows no further attempt", error=error),)
            return self._verdict()
        self._noted = self._spent
        log.info(
            "attempt %d at %s failed (%s); the next in %.1f s (request id %s)",
            self.number, self._endpoint.place, error, pause, error.request_id,
        )  # fmt: skip
        self._pause = 0.0 if is_refusal(error) else pause  # its gate waits, and keeps the order
        return None

    def _pause_after(self, error: RequestError) -> float | None:
        """Return the seconds until the next attempt, None if there is to be none."""
        terms, kind = self._terms, blame(error)
        choice, retry = terms.choice, terms.retry
        if kind == "request" or self.number >= max(retry.retry_times + 1, choice.attempts_at_least):
            return None
        if self._only is None and choice.has_other(self._failed, self._patience() if kind == "endpoint" else None):
            return 0.0
        return retry.delay(error, self.number, terms.rng)

    def _verdict(self) -> FlexLLMError:
        if self._only is not None:
            return self._errors[-1]
        return self._terms.choice.verdict(self._failed, self._errors, self.requests)

    def _out_of_time(self) -> FlexLLMError:
        error, total = self._errors[-1], self._terms.retry.total_timeout
        said = _(
            "{error}; no time is left of the {total:g} s for all attempts (total_timeout)", error=error, total=total
        )
        error.args = (said,)
        return self._verdict()

    def _patience(self) -> float | None:
        """Return when to give up waiting for an endpoint; the row's time has not begun before it is first sent."""
        total = self._terms.retry.total_timeout
        return self._terms.clock() + total if self.until is None and total is not None else self.until

    def _wait(self) -> None:
        pause, self._pause = self._pause, 0.0
        if self.cancel is None:
            self._terms.sleep(pause)
        elif self.cancel.wait(pause):
            stopped = RequestCancelled(_("stopped before attempt {number}", number=self.number + 1))
            raise self._endpoint.told(stopped, self._model, self.requests) from self._errors[-1]

    def _broken(self, error: RequestError) -> StreamBroken:
        arrived = self.arrived()
        reason = plural(
            "the stream ended early, after {count} character: {error}",
            "the stream ended early, after {count} characters: {error}",
            len(arrived.content), error=error,
        )  # fmt: skip
        broken = StreamBroken(
            reason,
            partial=arrived.content,
            result=arrived,
            request_id=error.request_id or arrived.request_id,
        )
        self._endpoint.told(broken, self._model, self.requests)
        return broken
