"""What requests cost, limited before they are sent and counted when they have come back, in front of any backend."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, ChunkCollector
from ..cost.bill import bill, count, lost
from ..cost.budget import Budget, Reservation
from ..cost.demand import Demand, Demands
from ..cost.spend import Spend
from ..cost.tracker import CostTracker
from ..errors import AllEndpointsFailed, FlexLLMError, RequestCancelled, RequestError
from ..health import EndpointHealth
from ..language import _
from ..prices import ModelPrice, price_unknown
from ..tokens import BYTES_PER_TOKEN
from .base import Leave, RepeatingBackend


class MeteredBackend:
    """Reserves in every tracker's budget what a request may take, asks, and settles what it took. May be shared by threads.

    Args:
        below: Answers, and says what that cost.
        trackers: Each counts, and may limit, everything that is asked here; those that are not enabled are left out.
        price_of: Finds the price of a model, None where it is unknown. It is asked once for each model.
    """

    def __init__(
        self,
        below: RepeatingBackend,
        trackers: Sequence[CostTracker],
        price_of: Callable[[str], ModelPrice | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.below = below
        self.clock = clock
        self.trackers = [one for one in dict.fromkeys(trackers) if one.enabled]
        # Everybody waits at the budgets in one order, in whichever order clients were given them: else two requests might
        # each hold what the other waits for.
        limited = {id(one.budget): one.budget for one in self.trackers if one.budget is not None}
        self.budgets = [limited[key] for key in sorted(limited)]
        self.limits_dollars = any(budget.limits.dollars is not None for budget in self.budgets)
        self.limits_tokens = any(budget.limits.tokens is not None for budget in self.budgets)
        self.demands = Demands()
        self._price_of = price_of
        self._prices: dict[str, ModelPrice | None] = {}

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer, after waiting until the budgets have room for it.

        Raises:
            BudgetExceededError: A budget does not allow it; nothing was sent.
            PriceUnknown: There is a budget in dollars, and nobody knows what the model costs; nothing was sent.
        """
        passage = _Passage(self, request)
        try:
            passage.enter(cancel)
            result = self.below.complete(request, cancel, passage.leave())
            passage.answered(result)
        except BaseException as error:
            passage.broke_off(error, None)
            raise
        finally:
            passage.release()  # what Ctrl-C may have left
        return result

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces, then the whole. What arrived of a stream that breaks off, or is left, counts.

        Errors are those of `complete`; all of this happens when the first piece is asked for.
        """
        passage = _Passage(self, request)
        collector = ChunkCollector()
        try:
            passage.enter(cancel)
            for piece in self.below.stream(request, cancel, passage.leave()):
                if isinstance(piece, ChatCompletionResult):
                    passage.answered(piece)  # before it is handed on: who stops reading here has got his answer
                else:
                    collector.add(piece)
                yield piece
            passage.left(collector.result())  # which no backend should make necessary
        except BaseException as error:
            passage.broke_off(error, collector.result())
            raise
        finally:
            passage.release()  # what Ctrl-C may have left

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below offers."""
        return self.below.models(cancel)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how the endpoints below do."""
        return self.below.health()

    def close(self) -> None:
        """Close what is below."""
        self.below.close()

    def price_of(self, model: str) -> ModelPrice | None:
        """Return the price of a model, None if it is unknown."""
        try:
            return self._prices[model]
        except KeyError:
            price = self._prices[model] = self._price_of(model)
            return price


class _Passage:
    """One request on its way through the budgets. What it took is settled once, by whatever is called first."""

    __slots__ = ("_actual", "_backend", "_demand", "_held", "_is_over", "_is_sent", "_request")

    def __init__(self, backend: MeteredBackend, request: ChatRequest) -> None:
        self._backend = backend
        self._request = request
        self._demand = _NOTHING_KNOWN
        self._held: list[tuple[Budget, Reservation]] = []
        self._is_sent = self._is_over = False
        self._actual = Spend()

    def enter(self, cancel: CancelToken | None) -> None:
        """Reserve what the request may take in one budget after the other."""
        backend, request = self._backend, self._request
        if backend.budgets:
            if backend.limits_dollars:
                price = backend.price_of(request.model)
                if price is None:
                    raise price_unknown(request.model)
                self._demand = backend.demands.of(request, price.at(backend.clock()), price.provider)
            elif backend.limits_tokens:
                self._demand = backend.demands.of(request, None)
            # All of them first, then one by one: Ctrl-C may come at any point, and each that is held is given back.
            self._held = [(budget, Reservation(self._demand)) for budget in backend.budgets]
            for budget, reservation in self._held:
                budget.enter(reservation, cancel)
        self._is_sent = True

    def leave(self) -> Leave | None:
        """Return what is asked before the request is sent once more, None where there is nothing to heed."""
        return self if self._held else None

    def again(self, lost: float) -> bool:
        """Return whether every budget has room for another attempt beside what the last was billed for nothing."""
        return all(budget.extend(reservation, lost) for budget, reservation in self._held)

    def beside(self) -> bool:
        """Return whether every budget has room for a second request."""
        return all(budget.extend(reservation) for budget, reservation in self._held)

    def answered(self, result: ChatCompletionResult) -> None:
        """Settle what an answer took, and count it."""
        if result.cached:
            self._settle(Spend())
        else:
            output, prompt = _tokens_of(result)
            known = self._demand.prompt if prompt is None else prompt
            # What was sent beside it is not told, and took about as much.
            tokens = (known + output) * (1 + result.hedged)
            self._settle(Spend(self._cost_of(result), max(result.attempts, 1), tokens), output, prompt)
        for tracker in self._backend.trackers:
            tracker.answered(result, self._request.model)

    def left(self, arrived: ChatCompletionResult) -> None:
        """Settle and count what arrived of a stream that its caller did not read to its end: it was made all the same."""
        if not self._is_over:
            billed = bill(arrived, self._request, self._price(), self._backend.clock())
            self.answered(replace(arrived, cost=billed.cost, cost_estimated=billed.estimated))

    def broke_off(self, error: BaseException, arrived: ChatCompletionResult | None) -> None:
        """Settle and count what a request took that did not get its answer.

        Args:
            arrived: What came of a stream, None if it is none.
        """
        if self._is_over or not self._is_sent:
            return
        if isinstance(error, GeneratorExit) and arrived is not None:
            self.left(arrived)
        else:
            self._failed(error if isinstance(error, FlexLLMError) else self._interrupted(arrived), arrived)

    def release(self) -> None:
        """Give back what is still held."""
        for budget, reservation in self._held:
            if reservation.is_held:
                budget.settle(reservation, self._actual)

    def _failed(self, error: FlexLLMError, arrived: ChatCompletionResult | None) -> None:
        if not isinstance(error, (RequestError, AllEndpointsFailed)):  # it could not be made into a request
            self._settle(Spend())
            return
        output, prompt = (0, None) if arrived is None else _tokens_of(arrived)
        tokens = output + (self._demand.prompt if prompt is None else prompt) if output or error.cost else 0
        self._settle(Spend(error.cost, error.attempts, tokens))
        if error.cost or not isinstance(error, RequestCancelled):  # one that was stopped in time has not failed
            for tracker in self._backend.trackers:
                tracker.failed(error, self._request.model)

    def _interrupted(self, arrived: ChatCompletionResult | None) -> RequestCancelled:
        """Return the error that stands for Ctrl-C, or for a defect: the request was probably on the wire."""
        error = RequestCancelled(_("interrupted before it was answered"), model=self._request.model)
        error.cost = lost(self._request, arrived, self._price(), self._backend.clock())
        return error

    def _cost_of(self, result: ChatCompletionResult) -> float:
        if result.cost is None and self._backend.limits_dollars:
            return bill(result, self._request, self._price(), self._backend.clock()).cost or 0.0
        return result.cost or 0.0

    def _price(self) -> ModelPrice | None:
        return self._backend.price_of(self._request.model)

    def _settle(self, actual: Spend, output: int | None = None, prompt: int | None = None) -> None:
        self._actual, self._is_over = actual, True
        for budget, reservation in self._held:
            budget.settle(reservation, actual, output=output, prompt=prompt)


_NOTHING_KNOWN = Demand()


def _tokens_of(result: ChatCompletionResult) -> tuple[int, int | None]:
    """Return the tokens of a reply, estimated if the server did not count, and of its prompt, None then."""
    if result.usage:
        prompt, output = count(result.usage.get("prompt_tokens")), count(result.usage.get("completion_tokens"))
        if prompt or output:
            return output, prompt
    text = result.content + (result.reasoning_content or "")
    for call in result.tool_calls or ():
        text += str(call.function.get("arguments"))
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN), None
