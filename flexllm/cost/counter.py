"""Adds up what rows cost and took, one after the other: for a run's report, and for its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chat import ChatCompletionResult
from ..errors import AllEndpointsFailed, RejectedReply, RequestError
from .bill import count
from .report import CostLine, CostReport
from .spend import Spend


class CostCounter:
    """What rows cost so far, by model and endpoint. Not locked: one thread fills it, or whoever shares it has a lock.

    A row costs about a microsecond.

    Attributes:
        is_priced: The price of any row so far was known.
        estimated: US dollars of the cost that no usage bears out.
        unpriced: Answers of which nobody knows the price.
        input_tokens, output_tokens: That were bought: hedged ones and those of rejected replies too.
    """

    def __init__(self) -> None:
        self.is_priced = False
        self.estimated = 0.0
        self.unpriced = self.input_tokens = self.output_tokens = 0
        self._dollars = 0.0
        self._sent = self._answered = self._cached = self._failed = 0
        self._read = self._written = self._reasoning = 0
        self._models: dict[str, _Line] = {}
        self._endpoints: dict[str, _Line] = {}

    @property
    def cost(self) -> float | None:
        """US dollars, as far as prices are known; None as long as none is."""
        return self._dollars if self.is_priced else None

    @property
    def spend(self) -> Spend:
        """Dollars, requests (every attempt, those that failed and hedged ones too) and tokens so far."""
        return Spend(self._dollars, self._sent, self.input_tokens + self.output_tokens)

    def answered(self, result: ChatCompletionResult, model: str) -> None:
        """Take in an answer.

        An answer from the response cache is counted as that alone: neither its tokens nor its cost were bought.

        Args:
            model: As it was asked for; servers name it in more than one way.
        """
        if result.cached:
            self._cached += 1
            return
        cost = result.cost
        self._sent += result.attempts
        self._answered += 1
        if cost is None:
            self.unpriced += 1
        else:
            self.is_priced = True
            self._dollars += cost
            self.estimated += result.cost_estimated
        # What a hedged request took beside the answer is not told, and is about as much again.
        tokens = self._take(result.usage, 1 + result.hedged) if result.usage else (0, 0)
        _line(self._models, model).answered(cost, *tokens)
        if result.endpoint is not None:
            _line(self._endpoints, result.endpoint).answered(cost, *tokens)

    def failed(self, error: BaseException, model: str) -> None:
        """Take in a row that failed: what its attempts were billed, and the tokens of replies that were rejected.

        Args:
            model: As it was asked for.
        """
        self._failed += 1
        if not isinstance(error, (RequestError, AllEndpointsFailed)):
            return
        self._sent += error.attempts
        rejected = [one for one in _each(error) if isinstance(one, RejectedReply)]
        prompt = completion = 0
        for reply in rejected:
            if reply.usage:
                more = self._take(reply.usage, 1)
                prompt, completion = prompt + more[0], completion + more[1]
        if error.cost:
            self.is_priced = True
            self._dollars += error.cost
            self.estimated += max(0.0, error.cost - sum(reply.cost for reply in rejected))
        if error.cost or prompt or completion:
            _line(self._models, model).add(error.cost, prompt, completion)
            endpoint = error.endpoint if isinstance(error, RequestError) else None
            if endpoint is not None:
                _line(self._endpoints, endpoint).add(error.cost, prompt, completion)

    def report(self, model: str = "", *, price_date: str = "") -> CostReport:
        """Return everything so far.

        Args:
            model: The model that was asked; if it is not given, and there was one alone, that one.
            price_date: The day of the prices, as YYYY-MM-DD.
        """
        if not model and len(self._models) == 1:
            model = next(iter(self._models))
        return CostReport(
            total_cost=self._dollars,
            total_input_tokens=self.input_tokens,
            total_output_tokens=self.output_tokens,
            request_count=self._answered,
            model=model,
            cached_requests=self._cached,
            failed_requests=self._failed,
            unpriced_requests=self.unpriced,
            estimated_cost=self.estimated,
            cached_tokens=self._read,
            cache_write_tokens=self._written,
            reasoning_tokens=self._reasoning,
            by_model={name: line.value() for name, line in self._models.items()},
            by_endpoint={name: line.value() for name, line in self._endpoints.items()},
            price_date=price_date,
        )

    def _take(self, usage: Mapping[str, Any], times: int) -> tuple[int, int]:
        """Add the tokens of a reply, and return those of its prompt and its completion."""
        get = usage.get
        prompt, completion = count(get("prompt_tokens")) * times, count(get("completion_tokens")) * times
        self.input_tokens += prompt
        self.output_tokens += completion
        self._read += count(get("cached_tokens")) * times
        self._written += count(get("cache_write_tokens")) * times
        self._reasoning += count(get("reasoning_tokens")) * times
        return prompt, completion


class _Line:
    """The sums of one model or endpoint."""

    __slots__ = ("cost", "input", "is_priced", "output", "requests", "unpriced")

    def __init__(self) -> None:
        self.cost = 0.0
        self.requests = self.unpriced = self.input = self.output = 0
        self.is_priced = False

    def answered(self, cost: float | None, prompt: int, completion: int) -> None:
        """Add an answer; None is one without a price."""
        self.requests += 1
        self.input += prompt
        self.output += completion
        if cost is None:
            self.unpriced += 1
        else:
            self.is_priced = True
            self.cost += cost

    def add(self, cost: float, prompt: int, completion: int) -> None:
        """Add what a row took that was not answered."""
        self.is_priced = self.is_priced or cost > 0
        self.cost += cost
        self.input += prompt
        self.output += completion

    def value(self) -> CostLine:
        """Return the sums."""
        cost = self.cost if self.is_priced else None
        return CostLine(cost, self.requests, self.input, self.output, self.unpriced)


def _line(lines: dict[str, _Line], name: str) -> _Line:
    line = lines.get(name)
    if line is None:
        line = lines[name] = _Line()
    return line


def _each(error: RequestError | AllEndpointsFailed) -> tuple[RequestError, ...]:
    return tuple(error.errors) if isinstance(error, AllEndpointsFailed) else (error,)
