"""What a run cost and used, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..amounts import dollars
from ..language import _, plural
from ..markup import MOST_ROWS, Html, quiet, strong, table, whole


@dataclass(frozen=True, slots=True)
class CostLine:
    """The share of one model or one endpoint in a report.

    Attributes:
        cost: US dollars; None where no price is known.
        requests: That were answered.
        input_tokens, output_tokens: Of these, and of replies that were paid for and rejected.
        unpriced_requests: Of the requests those whose price is not known; they are not in `cost`.
    """

    cost: float | None
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced_requests: int = 0


@dataclass(frozen=True, slots=True)
class CostReport:
    """Tokens and, where prices are known, US dollars of a number of requests.

    Attributes:
        total_cost: US dollars of all that was billed, attempts that failed included; 0.0 as long as no price is known.
        total_input_tokens, total_output_tokens: Bought ones: those of `cached_requests` are not in it.
        request_count: Requests that a server answered; `cached_requests` are not in it.
        model: The model that was asked, "" for several.
        cached_requests: Answered for nothing: from the response cache, or with the answer of an equal row.
        failed_requests: Not answered.
        unpriced_requests: Of `request_count` those whose price is not known; they are not in `total_cost`.
        estimated_cost: The part of `total_cost` that no usage bears out: attempts that broke off, replies without usage.
        cached_tokens, cache_write_tokens: Of the input those that the provider had in its own cache, or put there.
        reasoning_tokens: Of the output.
        by_model, by_endpoint: The shares, by the model that was asked and by base URL: that of the endpoint which gave the
            last reply has all that its row took. What rows took that no endpoint of a pool answered is in no share.
        price_date: The day, as YYYY-MM-DD, that the table of prices is of; "" if unknown.
    """

    total_cost: float = 0.0
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    request_count: int = 0
    model: str = ""
    cached_requests: int = field(default=0, kw_only=True)
    failed_requests: int = field(default=0, kw_only=True)
    unpriced_requests: int = field(default=0, kw_only=True)
    estimated_cost: float = field(default=0.0, kw_only=True)
    cached_tokens: int = field(default=0, kw_only=True)
    cache_write_tokens: int = field(default=0, kw_only=True)
    reasoning_tokens: int = field(default=0, kw_only=True)
    by_model: Mapping[str, CostLine] = field(default_factory=dict, kw_only=True, hash=False)
    by_endpoint: Mapping[str, CostLine] = field(default_factory=dict, kw_only=True, hash=False)
    price_date: str = field(default="", kw_only=True)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.total_input_tokens + self.total_output_tokens

    @property
    def avg_cost_per_request(self) -> float:
        """US dollars; 0.0 when there were no requests."""
        return self.total_cost / self.request_count if self.request_count else 0.0

    @property
    def avg_input_tokens(self) -> float:
        """0.0 when there were no requests."""
        return self.total_input_tokens / self.request_count if self.request_count else 0.0

    @property
    def avg_output_tokens(self) -> float:
        """0.0 when there were no requests."""
        return self.total_output_tokens / self.request_count if self.request_count else 0.0

    @property
    def is_priced(self) -> bool:
        """Whether `total_cost` says something, which it does if a price was known or nothing was bought."""
        return self.total_cost > 0 or self.unpriced_requests < self.request_count or not self.request_count

    def summary(self) -> dict[str, Any]:
        """Return the fields and the sum of tokens, JSON-able."""
        return {
            "total_cost": self.total_cost,
            "total_input_tokens": self.total_input_tokens,
            "total_output_tokens": self.total_output_tokens,
            "total_tokens": self.total_tokens,
            "request_count": self.request_count,
            "model": self.model,
            "cached_requests": self.cached_requests,
            "failed_requests": self.failed_requests,
            "unpriced_requests": self.unpriced_requests,
            "estimated_cost": self.estimated_cost,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "by_model": {name: _as_dict(line) for name, line in self.by_model.items()},
            "by_endpoint": {name: _as_dict(line) for name, line in self.by_endpoint.items()},
            "price_date": self.price_date,
        }

    def __str__(self) -> str:
        """Return a few lines for people."""
        lines = [self._headline(), *self._notes()]
        for shares in (self.by_model, self.by_endpoint):
            if len(shares) > 1:
                lines += [f"{_shown(name)}: {_line_text(line)}" for name, line in shares.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return a table of the models and endpoints, for notebooks; it takes the page's own colours."""
        tables = (
            _table(name, shares)
            for name, shares in ((_("model"), self.by_model), (_("endpoint"), self.by_endpoint))
            if shares
        )
        return whole(strong(self._headline()), *(quiet([note]) for note in self._notes()), *tables)

    def _headline(self) -> str:
        used = _used(self.request_count, self.total_input_tokens, self.total_output_tokens)
        if self.model:
            used = _("{used} ({model})", used=used, model=_shown(self.model))
        return _("{used}: {cost}", used=used, cost=dollars(self.total_cost)) if self.is_priced else used

    def _notes(self) -> Iterator[str]:
        """Yield what is to be known of the numbers, as far as there is something."""
        if self.unpriced_requests:
            yield self._unpriced()
        if self.estimated_cost > 0:
            yield _(
                "{cost} of it is estimated: attempts that broke off, replies without token counts, rates that are not sure",
                cost=dollars(self.estimated_cost),
            )
        if self.cached_tokens or self.cache_write_tokens or self.reasoning_tokens:
            yield _(
                "of the input {read:,} from the provider's cache and {written:,} written to it, of the output {thinking:,} "
                "thinking",
                read=self.cached_tokens,
                written=self.cache_write_tokens,
                thinking=self.reasoning_tokens,
            )
        if self.cached_requests:
            rows = self.cached_requests + self.request_count + self.failed_requests
            yield _(
                "{cached:,} of {rows:,} rows ({share:.0%}) answered for nothing, by the cache or an equal row",
                cached=self.cached_requests,
                rows=rows,
                share=self.cached_requests / rows,
            )
        if self.failed_requests:
            yield _("{count:,} failed", count=self.failed_requests)
        if self.price_date and self.is_priced:
            yield _("prices of {day}", day=self.price_date)

    def _unpriced(self) -> str:
        unpriced, answered = self.unpriced_requests, self.request_count
        named = ", ".join(_shown(name) for name, line in self.by_model.items() if line.unpriced_requests)
        if models := named or _shown(self.model):
            return plural(
                "price unknown for {unpriced:,} of {count:,} request ({models}); not in the sum",
                "price unknown for {unpriced:,} of {count:,} requests ({models}); not in the sum",
                answered, unpriced=unpriced, models=models,
            )  # fmt: skip
        return plural(
            "price unknown for {unpriced:,} of {count:,} request; not in the sum",
            "price unknown for {unpriced:,} of {count:,} requests; not in the sum",
            answered, unpriced=unpriced,
        )  # fmt: skip


def _as_dict(line: CostLine) -> dict[str, Any]:
    return {
        "cost": line.cost,
        "requests": line.requests,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "unpriced_requests": line.unpriced_requests,
    }


def _used(requests: int, input_tokens: int, output_tokens: int) -> str:
    return plural(
        "{count:,} request, {input:,} input and {output:,} output tokens",
        "{count:,} requests, {input:,} input and {output:,} output tokens",
        requests, input=input_tokens, output=output_tokens,
    )  # fmt: skip


def _shown(name: str) -> str:
    """Return a model's name or an address on one line, and not longer than that."""
    name = " ".join(name.split())
    return name if len(name) <= 80 else f"{name[:79]}…"


def _line_cost(line: CostLine) -> str:
    if line.cost is None:
        return _("price unknown")
    cost = dollars(line.cost)
    if not line.unpriced_requests:
        return cost
    return _("{cost}, {count:,} unpriced", cost=cost, count=line.unpriced_requests)


def _line_text(line: CostLine) -> str:
    used = _used(line.requests, line.input_tokens, line.output_tokens)
    return _("{used}, {cost}", used=used, cost=_line_cost(line))


def _table(kind: str, shares: Mapping[str, CostLine]) -> Html:
    rows = [
        (_shown(name), f"{line.requests:,}", f"{line.input_tokens:,}", f"{line.output_tokens:,}", _line_cost(line))
        for name, line in islice(shares.items(), MOST_ROWS)
    ]
    names = (kind, _("requests"), _("input tokens"), _("output tokens"), _("cost"))
    return table(names, rows, {1, 2, 3, 4}, len(shares) - len(rows))
