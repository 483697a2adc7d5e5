"""Why a budget lets no further request pass, for people: which limit is in the way, what is spent of it, and what to do."""

from __future__ import annotations

from typing import NamedTuple

from ..language import _, mark
from .options import Limits
from .spend import Spend


class _Texts(NamedTuple):
    """What is said of one limit.

    Attributes:
        spent: That it is used up.
        refused: And that a request was not sent for it.
        waiting: And that requests under way have reserved some of it.
    """

    spent: str
    refused: str
    waiting: str


_REQUESTS_REFUSED = mark(
    "{spent:,} of {limit:,} requests are sent, and the next request was not sent; raise the limit with max_requests or "
    "--max-requests to go on"
)
_OF_REQUESTS = _Texts(
    mark("{spent:,} of {limit:,} requests are sent; raise the limit with max_requests or --max-requests to go on"),
    _REQUESTS_REFUSED,
    _REQUESTS_REFUSED,
)

_OF_TOKENS = _Texts(
    mark(
        "{spent:,} of {limit:,} tokens are used; raise the limit with max_tokens of CostTrackerConfig, max_total_tokens or "
        "--max-total-tokens to go on"
    ),
    mark(
        "{spent:,} of {limit:,} tokens are used, and the next request, which may take {wanted:,}, was not sent; raise the "
        "limit with max_tokens of CostTrackerConfig, max_total_tokens or --max-total-tokens to go on"
    ),
    mark(
        "{spent:,} of {limit:,} tokens are used, {reserved:,} are reserved, and the next request, which may take "
        "{wanted:,}, was not sent; raise the limit with max_tokens of CostTrackerConfig, max_total_tokens or "
        "--max-total-tokens to go on"
    ),
)

_OF_DOLLARS = _Texts(
    mark(
        "{spent} of the budget of {limit} is spent; raise the limit with budget_limit, max_cost or --max-cost to go on"
    ),
    mark(
        "{spent} of the budget of {limit} is spent, and the next request, which may cost {wanted}, was not sent; raise the "
        "limit with budget_limit, max_cost or --max-cost to go on"
    ),
    mark(
        "{spent} of the budget of {limit} is spent, {reserved} is reserved, and the next request, which may cost {wanted}, "
        "was not sent; raise the limit with budget_limit, max_cost or --max-cost to go on"
    ),
)


def explain(limits: Limits, spent: Spend, amount: Spend, reserved: Spend) -> str:
    """Return for people which limit is in the way, what is spent of it, and what to do.

    Args:
        amount: What the request would take that was not sent for it; nothing if there is none.
        reserved: For requests under way.
    """
    in_all = spent.plus(reserved).plus(amount)
    if limits.requests is not None and in_all.requests > limits.requests:
        text = _text(_OF_REQUESTS, amount, reserved)
        return _(text, spent=spent.requests, limit=limits.requests)
    if limits.tokens is not None and in_all.tokens > limits.tokens:
        text = _text(_OF_TOKENS, amount, reserved)
        return _(text, spent=spent.tokens, limit=limits.tokens, reserved=reserved.tokens, wanted=amount.tokens)
    text = _text(_OF_DOLLARS, amount, reserved)
    return _(
        text,
        spent=_dollars(spent.dollars),
        limit=_dollars(limits.dollars or 0.0),
        reserved=_dollars(reserved.dollars),
        wanted=_dollars(amount.dollars),
    )


def _text(texts: _Texts, amount: Spend, reserved: Spend) -> str:
    if amount == Spend():
        return texts.spent
    return texts.waiting if reserved.requests else texts.refused


def _dollars(amount: float) -> str:
    """Return an amount with as many digits as tell something, and two at least."""
    whole, _point, rest = f"{amount:,.6f}".partition(".")
    return f"${whole}.{rest.rstrip('0'):0<2}"
