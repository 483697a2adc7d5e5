"""What the gates of one account share: buckets, pauses, and hints read as requests."""

from __future__ import annotations

import gc
import math

import pytest

from flexllm.limits.hints import RateHint
from flexllm.limits.traffic import FIRST_BACKOFF, LAST_BACKOFF, Traffic

NOW = 1000.0


def freed() -> Traffic:
    """A traffic whose rate is not limited any more."""
    traffic = Traffic()
    for _ in range(60):
        traffic.learned.accepted(NOW, NOW, traffic.learned.rate)
    assert traffic.learned.rate == math.inf
    return traffic


def test_a_bucket_is_shared_by_kind_rate_and_burst_while_somebody_holds_it() -> None:
    traffic = Traffic()
    bucket = traffic.bucket("qps", 5.0)
    assert traffic.bucket("qps", 5) is bucket
    others = [traffic.bucket("qps", 5.0, 2), traffic.bucket("qps", 6.0), traffic.bucket("input", 5.0)]
    assert len({id(one) for one in [bucket, *others]}) == 4
    bucket.take(NOW)
    del bucket
    gc.collect()
    assert traffic.bucket("qps", 5.0).wait(NOW) < 0.0


def refuse(traffic: Traffic, now: float, sent_at: float, wish: float | None = None) -> float:
    traffic.refuse(now, sent_at, 10.0, wish)
    return traffic.closed_until - now


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_without_a_wish_pauses_double_up_to_the_longest(nothing: float | None) -> None:
    traffic, now, pauses = Traffic(), NOW, []
    for _ in range(2000):
        pauses.append(refuse(traffic, now, now, nothing))
        now += pauses[-1] + 0.1
    assert pauses[:7] == pytest.approx([FIRST_BACKOFF * 2**n for n in range(6)] + [LAST_BACKOFF])
    assert pauses[6:] == pytest.approx([LAST_BACKOFF] * 1994)


def test_a_wish_is_obeyed_to_the_letter_and_never_shortens_another() -> None:
    traffic = Traffic()
    assert refuse(traffic, NOW, NOW, 0.25) == 0.25
    assert refuse(traffic, NOW + 0.1, NOW, 20.0) == 20.0
    assert refuse(traffic, NOW + 0.2, NOW + 0.15, 5.0) == pytest.approx(19.9)


def test_an_episode_counts_once_however_many_were_on_their_way() -> None:
    traffic = Traffic()
    assert refuse(traffic, NOW, NOW - 1.0) == FIRST_BACKOFF
    for late in range(1, 50):
        assert refuse(traffic, NOW + late / 100, NOW - 0.5) == pytest.approx(FIRST_BACKOFF - late / 100)
    assert refuse(traffic, NOW + 2.0, NOW + 1.0) == 2 * FIRST_BACKOFF
    assert traffic.learned.refusals == 51


def test_only_what_was_sent_since_shows_that_refusals_are_over() -> None:
    traffic = Traffic()
    refuse(traffic, NOW, NOW - 1.0)
    traffic.accept(NOW - 0.5, None)
    assert refuse(traffic, NOW + 2.0, NOW + 1.0) == 2 * FIRST_BACKOFF
    traffic.accept(NOW + 5.0, None)
    assert refuse(traffic, NOW + 7.0, NOW + 6.0) == FIRST_BACKOFF


def test_a_hint_of_requests_is_taken_as_it_is() -> None:
    traffic = freed()
    traffic.hint(NOW, RateHint(requests_per_second=3.0, good_for=10.0))
    assert (traffic.learned.at(NOW + 9.9), traffic.learned.at(NOW + 10.0)) == (3.0, math.inf)


def test_a_hint_of_tokens_is_divided_by_what_a_request_takes() -> None:
    traffic = freed()
    traffic.hint(NOW, RateHint(tokens_per_second=300.0, good_for=10.0))
    assert traffic.learned.at(NOW) == math.inf  # nobody knows yet what that means
    for tokens in (0, 100, 100, 100):
        traffic.accept(NOW, {"total_tokens": tokens})
    traffic.hint(NOW, RateHint(tokens_per_second=300.0, good_for=10.0))
    assert traffic.learned.at(NOW) == pytest.approx(3.0)


def test_the_tighter_of_two_hints_counts() -> None:
    traffic = freed()
    traffic.accept(NOW, {"total_tokens": 100})
    traffic.hint(NOW, RateHint(requests_per_second=2.0, tokens_per_second=300.0, good_for=10.0))
    assert traffic.learned.at(NOW) == pytest.approx(2.0)
    traffic.hint(NOW, RateHint(requests_per_second=5.0, tokens_per_second=300.0, good_for=10.0))
    assert traffic.learned.at(NOW) == pytest.approx(3.0)


def test_a_hint_that_only_says_how_long_to_wait_is_no_rate() -> None:
    traffic = freed()
    traffic.hint(NOW, RateHint(wait=5.0, good_for=10.0))
    assert traffic.learned.at(NOW) == math.inf


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": None}, {"prompt_tokens": 4}])
def test_a_usage_without_a_total_tells_nothing(usage: dict[str, int] | None) -> None:
    traffic = freed()
    traffic.accept(NOW, usage)
    traffic.hint(NOW, RateHint(tokens_per_second=300.0, good_for=10.0))
    assert traffic.learned.at(NOW) == math.inf
