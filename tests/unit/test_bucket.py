"""The token bucket: starting times by arithmetic, whatever the clock does."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.limits import TokenBucket
from flexllm.limits.bucket import LATE_SECONDS


def start(bucket: TokenBucket, now: float, units: float = 1.0, late: float = 0.0, in_line: bool = False) -> float:
    """When something that comes at `now`, or stood in line before, starts, if its holder wakes up so much too late."""
    wait = bucket.wait(now)
    if wait > 0.0:
        now += wait + late
    bucket.take(now, units, since=-math.inf if wait > 0.0 or in_line else None)
    return now


def test_starts_have_exact_distances() -> None:
    bucket = TokenBucket(4.0)
    assert [start(bucket, 100.0) for _ in range(5)] == [100.0, 100.25, 100.5, 100.75, 101.0]


def test_a_pause_earns_no_more_than_one_start_without_burst() -> None:
    bucket = TokenBucket(4.0)
    start(bucket, 0.0)
    assert [start(bucket, 100.0) for _ in range(3)] == [100.0, 100.25, 100.5]


def test_a_burst_starts_at_once_and_then_comes_the_rate() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [start(bucket, 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_a_burst_fills_up_again_one_interval_at_a_time() -> None:
    bucket = TokenBucket(2.0, 3)
    for _ in range(3):
        start(bucket, 0.0)
    assert [start(bucket, 1.0) for _ in range(3)] == [1.0, 1.0, 1.5]


def test_a_late_comer_pays_nothing_for_the_time_that_passed() -> None:
    bucket = TokenBucket(1.0)
    assert [start(bucket, now) for now in (0.0, 0.4, 5.0, 5.9)] == pytest.approx([0.0, 1.0, 5.0, 6.0])


def test_who_wakes_late_does_not_make_the_next_late() -> None:
    bucket = TokenBucket(10.0)
    assert [start(bucket, 0.0, late=0.02) for _ in range(4)] == pytest.approx([0.0, 0.12, 0.22, 0.32])


def test_who_would_have_come_later_is_not_made_up_for() -> None:
    bucket = TokenBucket(10.0)
    bucket.take(5.0, since=4.98)
    assert bucket.wait(5.0) == pytest.approx(0.08)
    bucket.take(9.0, since=-math.inf)
    assert bucket.wait(9.0) == pytest.approx(0.05)


def test_what_is_too_late_to_be_made_up_for_is_lost() -> None:
    bucket = TokenBucket(10.0)
    start(bucket, 0.0)
    start(bucket, 0.0, late=0.5)  # at 0.6 instead of 0.1: half an interval of it is made up for
    assert start(bucket, 0.0) == pytest.approx(0.65)


def test_500_a_second_are_reached_by_threads_that_wake_8_ms_late() -> None:
    bucket = TokenBucket(500.0)
    now = 0.0
    starts = [now := start(bucket, now, late=0.008, in_line=True) for _ in range(1001)]
    assert 1000 / (starts[-1] - starts[0]) == pytest.approx(500.0, rel=0.005)


def test_the_larger_passes_alone_and_is_paid_for_by_who_comes_after() -> None:
    bucket = TokenBucket(100.0)
    assert start(bucket, 0.0, 1_000_000.0) == 0.0
    assert bucket.wait(0.0) == pytest.approx(10_000.0)


def test_a_correction_gives_back_what_was_not_used_and_takes_what_was() -> None:
    bucket = TokenBucket(100.0)
    bucket.take(0.0, 1000.0)
    bucket.correct(-900.0)
    assert bucket.wait(0.0) == pytest.approx(1.0)
    bucket.correct(400.0)
    assert bucket.wait(0.0) == pytest.approx(5.0)


def test_what_is_given_back_late_earns_no_burst() -> None:
    bucket = TokenBucket(100.0)
    bucket.take(0.0, 1000.0)
    bucket.correct(-1000.0)
    assert [start(bucket, 50.0, 100.0) for _ in range(3)] == [50.0, 51.0, 52.0]


RATES = st.floats(0.1, 2000.0) | st.sampled_from([1.0, 7.0, 10.0, 100.0, 101.0, 500.0, 1000.0])
ARRIVALS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.3, 0.99, 1.0, 1.5, 40.0]), st.floats(0.0, 2.0)), min_size=2, max_size=150
)
"""Pauses before arrivals, and latenesses of wake-ups, both in intervals."""


@given(RATES, st.none() | st.integers(1, 20), ARRIVALS)
def test_no_window_holds_more_than_rate_and_burst_allow(
    rate: float, burst: int | None, arrivals: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    made_up = 0.5 / rate if burst else max(0.5 / rate, LATE_SECONDS - 0.5 / rate)
    now, starts = 0.0, []
    for pause, late in arrivals:
        now = start(bucket, now + pause / rate, late=late / rate)
        starts.append(now)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            most = (burst or 1) + (starts[last] - begin + made_up) * rate
            assert last - first + 1 <= most + 1e-6


@pytest.mark.slow
@given(
    st.integers(1, 200) | st.sampled_from([500, 1000]),
    st.none() | st.integers(1, 10),
    st.randoms(use_true_random=False),
    st.floats(0.0, 3.0),
)
def test_no_second_holds_more_than_a_whole_rate_and_its_burst(
    rate: int, burst: int | None, chance: random.Random, latest: float
) -> None:
    bucket = TokenBucket(rate, burst)
    now, starts = 0.0, []
    for _ in range(2 * rate + 20):
        now = start(bucket, now, late=chance.uniform(0.0, latest) / rate, in_line=chance.random() < 0.9)
        starts.append(now)
    allowed = rate + (burst or max(1, math.ceil(rate * LATE_SECONDS)))
    for begin, beyond in zip(starts, starts[allowed:], strict=False):
        assert beyond >= begin + 1.0 - 1e-9


@given(RATES, st.integers(50, 300), st.floats(0.0, 0.99))
def test_the_average_stays_while_wake_ups_are_not_too_late(rate: float, count: int, share: float) -> None:
    bucket = TokenBucket(rate)
    late = share * max(0.5 / rate, LATE_SECONDS - 0.5 / rate)
    starts = [now := start(bucket, 0.0)]
    for _ in range(count - 1):
        starts.append(now := start(bucket, now, late=late, in_line=True))
    took = starts[-1] - starts[0]
    assert (count - 1) / rate - 1e-6 <= took <= (count - 1) / rate + late + 1e-6
