"""Which requests are slow, and how many of them may be sent once more."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import ConfigError
from flexllm.limits.slowness import FRESH, SHORTEST, WINDOW, HedgePolicy, Slowness


def taught(*latencies: float, **options: Any) -> Slowness:
    slowness = Slowness(HedgePolicy(**options))
    for took in latencies:
        slowness.learn(took)
    return slowness


@pytest.mark.parametrize(
    "options",
    [
        {"quantile": 0},
        {"quantile": 1},
        {"quantile": 95},
        {"quantile": math.nan},
        {"quantile": "0.95"},
        {"at_least": 0},
        {"at_least": WINDOW + 1},
        {"at_least": 2.5},
        {"at_most": 0},
        {"at_most": 1.5},
        {"at_most": math.nan},
        {"at_most": None},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_and_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name}="):
        HedgePolicy(**options)


def test_nothing_is_slow_before_enough_replies_are_known() -> None:
    assert taught(*[1.0] * 19).patience == math.inf
    assert taught(*[1.0] * 20).patience == 1.0


def test_patience_is_the_quantile() -> None:
    assert taught(*range(1, 101), at_least=100, quantile=0.9).patience == 90
    assert taught(*range(100, 0, -1), at_least=100, quantile=0.5).patience == 50
    assert taught(7.0, at_least=1, quantile=0.01).patience == 7.0


def test_patience_is_never_shorter_than_a_threads_start_is_worth() -> None:
    assert taught(*[0.0001] * 20).patience == SHORTEST


def test_what_is_slow_follows_a_server_that_changes() -> None:
    slowness = taught(*[10.0] * WINDOW, *[1.0] * WINDOW, quantile=0.9)
    assert slowness.patience == 1.0


def test_it_tells_when_requests_are_slow_much_sooner_than_before() -> None:
    slowness = taught(*[10.0] * 19)
    assert slowness.learn(10.0)  # from never to 10 s
    assert not any(slowness.learn(9.9) for _ in range(WINDOW))
    assert sum(slowness.learn(1.0) for _ in range(2 * WINDOW)) == 1
    assert not any(slowness.learn(50.0) for _ in range(2 * WINDOW))


@given(
    st.lists(st.floats(min_value=0.02, max_value=600.0), min_size=1, max_size=2 * WINDOW),
    st.floats(min_value=0.01, max_value=0.99),
    st.integers(min_value=1, max_value=50),
)
def test_patience_is_a_latency_that_was_seen_in_the_window_and_not_long_ago_the_quantile(
    latencies: list[float], quantile: float, at_least: int
) -> None:
    slowness = taught(*latencies, quantile=quantile, at_least=at_least)
    if len(latencies) < at_least:
        assert slowness.patience == math.inf
        return
    stale = math.ceil(min(WINDOW, len(latencies)) * FRESH)  # latencies at most that it may not have looked at
    assert slowness.patience in latencies[-WINDOW - stale :]
    below = sum(took <= slowness.patience for took in latencies[-WINDOW:])
    assert below >= quantile * min(WINDOW, len(latencies)) - 2 * stale - 1


def test_a_hedge_has_to_be_earned() -> None:
    slowness = Slowness(HedgePolicy(at_most=0.25))
    for _ in range(3):
        slowness.earn()
    assert not slowness.has_credit
    slowness.earn()
    assert slowness.has_credit
    slowness.spend()
    assert not slowness.has_credit
    slowness.refund()
    assert slowness.has_credit


def test_a_long_good_time_saves_credit_for_one_window_only() -> None:
    slowness = Slowness(HedgePolicy(at_most=0.5))
    for _ in range(100 * WINDOW):
        slowness.earn()
    spent = 0
    while slowness.has_credit:
        slowness.spend()
        spent += 1
    assert spent == WINDOW // 2


def test_even_the_smallest_share_allows_a_hedge_in_the_end() -> None:
    slowness = Slowness(HedgePolicy(at_most=2**-12))
    for _ in range(2**12):
        slowness.earn()
    assert slowness.has_credit


@given(st.floats(min_value=0.001, max_value=1.0), st.lists(st.booleans(), max_size=500))
def test_the_share_that_is_hedged_never_exceeds_the_budget(at_most: float, tried: list[bool]) -> None:
    slowness = Slowness(HedgePolicy(at_most=at_most))
    hedged = 0
    for number, wanted in enumerate(tried, 1):
        slowness.earn()
        if wanted and slowness.has_credit:
            slowness.spend()
            hedged += 1
        assert hedged <= at_most * number + 1e-6
