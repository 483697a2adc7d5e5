"""What people are told when a budget lets no further request pass: every limit, with and without requests under way."""

from __future__ import annotations

import pytest

from flexllm.cost.options import Limits
from flexllm.cost.refusals import explain
from flexllm.cost.spend import Spend

NOTHING = Spend()
SPENT = Spend(0.9, 1_000, 98_000)
WANTED = Spend(0.25, 1, 4_200)
UNDER_WAY = Spend(0.05, 2, 1_500)

REQUESTS = Limits(requests=1_000)
TOKENS = Limits(tokens=100_000)
DOLLARS = Limits(dollars=1.0)

RAISE_REQUESTS = "raise the limit with max_requests or --max-requests to go on"
RAISE_TOKENS = "raise the limit with max_tokens of CostTrackerConfig, max_total_tokens or --max-total-tokens to go on"
RAISE_DOLLARS = "raise the limit with budget_limit, max_cost or --max-cost to go on"


@pytest.mark.parametrize(
    ("limits", "spent", "wanted", "reserved", "said"),
    [
        (Limits(requests=999), SPENT, NOTHING, NOTHING, f"1,000 of 999 requests are sent; {RAISE_REQUESTS}"),
        (
            REQUESTS, SPENT, WANTED, NOTHING,
            f"1,000 of 1,000 requests are sent, and the next request was not sent; {RAISE_REQUESTS}",
        ),
        (
            REQUESTS, Spend(0, 998, 0), WANTED, UNDER_WAY,
            f"998 of 1,000 requests are sent, and the next request was not sent; {RAISE_REQUESTS}",
        ),
        (Limits(tokens=97_000), SPENT, NOTHING, UNDER_WAY, f"98,000 of 97,000 tokens are used; {RAISE_TOKENS}"),
        (
            TOKENS, SPENT, WANTED, NOTHING,
            "98,000 of 100,000 tokens are used, and the next request, which may take 4,200, was not sent; "
            f"{RAISE_TOKENS}",
        ),
        (
            TOKENS, SPENT, WANTED, UNDER_WAY,
            "98,000 of 100,000 tokens are used, 1,500 are reserved, and the next request, which may take 4,200, was not "
            f"sent; {RAISE_TOKENS}",
        ),
        (Limits(dollars=0.5), SPENT, NOTHING, UNDER_WAY, f"$0.90 of the budget of $0.50 is spent; {RAISE_DOLLARS}"),
        (
            DOLLARS, SPENT, WANTED, NOTHING,
            f"$0.90 of the budget of $1.00 is spent, and the next request, which may cost $0.25, was not sent; {RAISE_DOLLARS}",
        ),
        (
            DOLLARS, SPENT, WANTED, UNDER_WAY,
            "$0.90 of the budget of $1.00 is spent, $0.05 is reserved, and the next request, which may cost $0.25, was not "
            f"sent; {RAISE_DOLLARS}",
        ),
    ],
)  # fmt: skip
def test_a_refusal_tells_of_the_limit_that_is_in_the_way(
    limits: Limits, spent: Spend, wanted: Spend, reserved: Spend, said: str
) -> None:
    assert explain(limits, spent, wanted, reserved) == said


def test_of_several_limits_requests_go_first_and_dollars_last() -> None:
    every = Limits(dollars=0.5, requests=1, tokens=1)
    assert explain(every, SPENT, WANTED, NOTHING).startswith("1,000 of 1 requests")
    assert explain(Limits(dollars=0.5, tokens=1), SPENT, WANTED, NOTHING).startswith("98,000 of 1 tokens")
