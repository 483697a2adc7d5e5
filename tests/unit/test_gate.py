"""The gate under a fake clock: exact rates, what a refusal does, and who is let in when. Threads: test_gate_threads.py."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cancel import CancelToken
from flexllm.errors import (
    ApiStatusError,
    ConnectionFailed,
    MalformedResponse,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestCancelled,
    RequestTimeout,
    ServerError,
)
from flexllm.limits import Cost, Gate, Passages, Permit, RateLimit, is_refusal
from flexllm.limits.bucket import LATE_SECONDS
from flexllm.limits.hints import HEAR_EVERY
from flexllm.limits.line import Turn
from flexllm.limits.traffic import FIRST_BACKOFF, LAST_BACKOFF, Traffic
from flexllm.retry import MAX_RETRY_AFTER

OPENAI_HINT = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "30",
    "x-ratelimit-reset-requests": "15s",
}
"""Two requests a second, for a quarter of a minute."""


class Setup:
    """A gate whose threads sleep on a clock that their sleep moves: one thread sees what many see one after the other.

    Args:
        late: Seconds by which they wake up too late.
    """

    def __init__(self, *, late: Callable[[], float] = lambda: 0.0, **limits: Any) -> None:
        self.clock = FakeClock()
        self.late = late
        self.gate = Gate(RateLimit(**limits), clock=self.clock, sleep=self.sleep)

    def sleep(self, turn: Turn) -> None:
        assert turn.seconds < math.inf, "nobody would ever wake it"
        self.clock.sleep(max(turn.seconds, 1e-9) + self.late())  # a smaller step would not move a clock that says 1000

    def again(self, **limits: Any) -> Setup:
        """Another gate of the same account."""
        other = Setup.__new__(Setup)
        other.clock, other.late = self.clock, self.late
        traffic = self.gate.traffic
        other.gate = Gate(RateLimit(**limits), traffic=traffic, clock=self.clock, sleep=other.sleep)
        return other

    def passes(
        self, count: int = 1, *, tokens: tuple[int, int] = (0, 0), took: tuple[int, int] | None = None, **options: Any
    ) -> list[float]:
        """Send requests that are answered at once; return when they passed, since the clock began."""
        starts = []
        for _ in range(count):
            with self.gate.permit(cost=Cost(*tokens), **options) as permit:
                starts.append(permit.sent_at - 1000.0)
                usage = took or tokens
                permit.accept({"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)})
        return starts

    def fails(self, error: BaseException, headers: dict[str, str] | None = None, **options: Any) -> None:
        with contextlib.suppress(type(error)), self.gate.permit(**options) as permit:
            if headers is not None:
                permit.hear(headers, getattr(error, "status", 200))
            raise error

    @property
    def closed_for(self) -> float:
        return self.gate.closed_for()


def refusal(retry_after: float | None = None) -> RateLimited:
    return RateLimited("too many", status=429, retry_after=retry_after)


def mean_rate(starts: list[float]) -> float:
    return (len(starts) - 1) / (starts[-1] - starts[0])


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(
    ("limits", "per_second"),
    [
        ({"max_qps": 100}, 100.0),
        ({"max_qps": 0.3}, 0.3),
        ({"max_qps": 7, "burst": 1}, 7.0),
        ({"max_rpm": 600}, 10.0),
        ({"max_rpm": 1}, 1 / 60),
        ({"max_qps": 3, "max_rpm": 60}, 1.0),
        ({"max_qps": 0.5, "max_rpm": 600}, 0.5),
        ({"max_tpm": 60_000}, 10.0),  # of 100 tokens each
        ({"max_input_tpm": 36_000}, 10.0),  # of 60
        ({"max_output_tpm": 24_000}, 10.0),  # of 40
        ({"max_tpm": 60_000, "max_input_tpm": 3_600, "max_output_tpm": 24_000}, 1.0),
        ({"max_qps": 2, "max_tpm": 60_000}, 2.0),
    ],
)
def test_the_tightest_limit_is_kept_to_exactly(limits: dict[str, Any], per_second: float, adaptive: bool) -> None:
    setup = Setup(adaptive=adaptive, **limits)
    assert mean_rate(setup.passes(200, tokens=(60, 40))) == pytest.approx(per_second, rel=1e-9)


def test_starts_are_spread_evenly() -> None:
    starts = Setup(max_rpm=120).passes(5)
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])


def test_a_burst_is_for_requests_and_comes_before_the_rate() -> None:
    setup = Setup(max_qps=2, burst=3)
    assert setup.passes(5) == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("limits", "ahead", "seconds"),
    [
        ({}, 1000, 0.0),
        ({"max_qps": 2}, 0, 0.5),
        ({"max_qps": 2}, 3, 2.0),
        ({"max_qps": 2, "burst": 4}, 2, 0.0),
        ({"max_qps": 2, "burst": 4}, 4, 1.0),
        ({"max_qps": 2, "max_rpm": 60}, 3, 4.0),
        ({"max_tpm": 600}, 2, 30.0),
        ({"max_input_tpm": 600}, 0, 5.0),
    ],
)
def test_a_gate_tells_when_its_rates_let_one_more_pass(limits: dict[str, Any], ahead: int, seconds: float) -> None:
    setup = Setup(adaptive=False, **limits)
    setup.passes(tokens=(50, 50))

    assert setup.gate.passes_in(ahead) == pytest.approx(seconds)


def test_a_learned_rate_tells_when_one_more_may_pass() -> None:
    setup = Setup()
    setup.fails(refusal(7.0))

    assert setup.gate.passes_in(0) == 7.0
    assert setup.gate.passes_in(6) == pytest.approx(7.0 + 6 / setup.gate.traffic.learned.rate)


def test_without_limits_nobody_sleeps() -> None:
    setup = Setup(adaptive=False)
    setup.passes(100)
    assert setup.clock.sleeps == []


def test_a_failed_request_pays_like_an_answered_one() -> None:
    setup = Setup(max_qps=1)
    for error in (ServerError("broken", status=500), ConnectionFailed("gone"), KeyError("ours")):
        setup.fails(error)
    assert setup.clock.sleeps == pytest.approx([1.0, 1.0])


@pytest.mark.slow
@given(
    st.integers(1, 100),
    st.none() | st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.2, 0.49, 2.0]),
)
def test_late_wake_ups_change_neither_the_average_nor_the_busiest_second(
    rate: int, burst: int | None, chance: random.Random, latest: float
) -> None:
    setup = Setup(max_qps=rate, burst=burst, late=lambda: chance.uniform(0.0, latest) / rate)
    starts = setup.passes(rate + 40)
    allowed = rate + (burst or 1)
    for begin, beyond in zip(starts, starts[allowed:], strict=False):
        assert beyond >= begin + 1.0 - 1e-9
    if latest < 0.5:
        took = (len(starts) - (burst or 1)) / rate
        assert starts[-1] == pytest.approx(took, abs=0.5 / rate + 1e-6)


@given(st.integers(1, 500), st.lists(st.floats(0.0, 3.0), min_size=2, max_size=60))
def test_whatever_the_arrivals_the_rate_is_never_beaten(rate: int, pauses: list[float]) -> None:
    setup = Setup(max_qps=rate, adaptive=False)
    starts = []
    for pause in pauses:
        setup.clock.advance(pause / rate)
        starts += setup.passes()
    for number, begin in enumerate(starts):
        for later in range(number + 1, len(starts)):
            assert starts[later] >= begin + (later - number) / rate - 1e-9


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_row_larger_than_a_minute_goes_alone_and_at_once() -> None:
    setup = Setup(max_tpm=6_000)
    assert setup.passes(tokens=(1_000_000, 0), took=(10_000, 0)) == [0.0]
    assert setup.passes(tokens=(100, 0)) == pytest.approx([100.0])


def test_an_estimate_is_corrected_by_the_reply() -> None:
    setup = Setup(max_tpm=6_000)
    assert setup.passes(3, tokens=(500, 500), took=(50, 50)) == pytest.approx([0.0, 1.0, 2.0])
    setup = Setup(max_tpm=6_000)
    assert setup.passes(3, tokens=(50, 50), took=(500, 500)) == pytest.approx([0.0, 10.0, 20.0])


def test_input_and_output_are_corrected_apart() -> None:
    setup = Setup(max_input_tpm=6_000, max_output_tpm=600)
    assert setup.passes(3, tokens=(100, 100), took=(400, 10)) == pytest.approx([0.0, 4.0, 8.0])


@pytest.mark.parametrize("usage", [None, {}])
def test_without_usage_the_estimate_stands(usage: dict[str, int] | None) -> None:
    setup = Setup(max_tpm=6_000)
    with setup.gate.permit(cost=Cost(300, 0)) as permit:
        permit.accept(usage)
    assert setup.passes() == pytest.approx([3.0])


def test_a_failed_request_keeps_what_it_was_estimated_at() -> None:
    setup = Setup(max_tpm=6_000)
    setup.fails(ConnectionFailed("gone"), cost=Cost(300, 0))
    assert setup.passes() == pytest.approx([3.0])


def test_without_a_cost_no_tokens_are_counted() -> None:
    setup = Setup(max_tpm=60, adaptive=False)
    for _ in range(3):
        with setup.gate.permit() as permit:
            permit.accept({"prompt_tokens": 1_000_000, "completion_tokens": 1})
    assert setup.clock.sleeps == []


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "closes"),
    [
        (RateLimited("x", status=429), True),
        (Overloaded("x", status=529), True),
        (Overloaded("x", status=503, retry_after=2.0), True),
        (Overloaded("x", status=503), False),
        (Overloaded("x", status=503, retry_after=0.0), False),
        (ServerError("x", status=500, retry_after=2.0), False),
        (QuotaExhausted("x", status=429), False),
        (ApiStatusError("x", status=418), False),
        (MalformedResponse("x"), False),
        (ConnectionFailed("x"), False),
        (RequestTimeout("x"), False),
        (GeneratorExit(), False),
    ],
)
def test_what_closes_the_gate(error: BaseException, closes: bool) -> None:
    setup = Setup()
    setup.fails(error)
    assert is_refusal(error) == closes
    assert bool(setup.closed_for) == closes


def test_a_refusal_holds_everybody_back_for_as_long_as_the_server_asks() -> None:
    setup = Setup(concurrency=3, adaptive=False)
    with setup.gate.permit(), setup.gate.permit():  # they are on their way
        setup.fails(refusal(7.5))
        assert setup.closed_for == 7.5
        assert setup.passes() == [7.5]
    assert setup.closed_for == 0.0


def test_the_longer_of_two_wishes_counts() -> None:
    setup = Setup()
    with contextlib.suppress(RateLimited), setup.gate.permit():
        setup.fails(refusal(30.0))
        raise refusal(2.0)
    assert setup.closed_for == 30.0


def test_a_wish_that_nobody_waits_for_does_not_close() -> None:
    setup = Setup()
    setup.fails(refusal(MAX_RETRY_AFTER + 1))
    assert setup.closed_for == 0.0
    setup.fails(refusal(MAX_RETRY_AFTER))
    assert setup.closed_for == MAX_RETRY_AFTER


@pytest.mark.parametrize("adaptive", [True, False])
def test_without_a_wish_the_pause_doubles_while_refusals_go_on(adaptive: bool) -> None:
    setup = Setup(adaptive=adaptive)
    pauses = []
    for _ in range(9):
        setup.fails(refusal())
        pauses.append(setup.closed_for)
        setup.clock.advance(setup.closed_for)
    assert pauses == [min(FIRST_BACKOFF * 2**n, LAST_BACKOFF) for n in range(9)]
    setup.passes()
    setup.clock.advance(1.0)
    setup.fails(refusal())
    assert setup.closed_for == FIRST_BACKOFF


def test_the_first_pause_is_what_the_caller_chose() -> None:
    setup = Setup()
    for seconds in (0.25, 0.5, 1.0):
        with contextlib.suppress(RateLimited), setup.gate.permit() as permit:
            permit.backoff = 0.25
            raise refusal()
        assert setup.closed_for == pytest.approx(seconds)
        setup.clock.advance(setup.closed_for)


def test_refusals_of_what_was_on_its_way_are_one_episode() -> None:
    setup = Setup(adaptive=False)
    *refused, answered = [setup.gate.permit().__enter__() for _ in range(9)]
    for permit in refused:
        setup.clock.advance(0.1)
        permit.__exit__(RateLimited, refusal(), None)
    assert setup.closed_for == pytest.approx(FIRST_BACKOFF - 0.7)
    setup.clock.advance(5.0)
    answered.accept(None)  # was sent before: no sign that refusals are over
    answered.__exit__(None, None, None)
    setup.fails(refusal())
    assert setup.closed_for == 2 * FIRST_BACKOFF


def test_a_rate_header_says_how_long_to_wait_where_retry_after_does_not() -> None:
    used_up = {**OPENAI_HINT, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "4s"}
    setup = Setup()
    setup.fails(refusal(), headers=used_up)
    assert setup.closed_for == pytest.approx(4.0)
    setup = Setup()
    setup.fails(refusal(1.5), headers=used_up)
    assert setup.closed_for == 1.5


def test_a_limited_gate_opens_without_a_rush() -> None:
    setup = Setup(max_qps=10, adaptive=False, late=lambda: 0.02)
    setup.fails(refusal(5.0))
    starts = setup.passes(3)
    assert starts == pytest.approx([5.02, 5.12, 5.22])  # not made up for: nobody had taken a start before


# --- the learned rate -------------------------------------------------------------------------------------------------


def learn(setup: Setup, allowed: float, seconds: float) -> None:
    """Send to a server that refuses whatever comes sooner than `allowed` a second after the last, and asks for 1 s."""
    next_at, end = -math.inf, setup.clock.now + seconds
    while setup.clock.now < end:
        with contextlib.suppress(RateLimited), setup.gate.permit() as permit:
            if setup.clock.now < next_at - 1e-9:
                raise refusal(1.0)
            next_at = setup.clock.now + 1 / allowed
            permit.accept(None)


def test_an_accepted_rate_is_found_and_kept_below() -> None:
    setup = Setup()
    learn(setup, 40.0, 30.0)
    learned = setup.gate.learned()
    assert learned is not None
    assert 38.0 < learned < 44.0
    assert 36.0 < (setup.gate.rate() or 0.0) <= 41.0
    setup.clock.advance(setup.closed_for)
    starts = setup.passes(20)
    assert mean_rate(starts) == pytest.approx(setup.gate.rate(), rel=0.05)


def hinted(setup: Setup, rate: int) -> None:
    """Have the server say that it allows so many requests a second for ten seconds."""
    limit, remaining = str(rate * 60), str(rate * 50)
    setup.passes(60)
    with setup.gate.permit() as permit:
        permit.hear(
            {
                "x-ratelimit-limit-requests": limit,
                "x-ratelimit-remaining-requests": remaining,
                "x-ratelimit-reset-requests": "50s",
            }
        )
        permit.accept(None)


@pytest.mark.parametrize(("rate", "is_made_up_for"), [(20, False), (100, False), (250, True), (1000, True)])
def test_late_wake_ups_are_made_up_for_where_a_learned_rate_is_high(rate: int, is_made_up_for: bool) -> None:
    setup = Setup()
    hinted(setup, rate)
    setup.late = lambda: 0.6 / rate
    starts = setup.passes(200)
    assert mean_rate(starts) == pytest.approx(rate if is_made_up_for else rate / 1.6, rel=0.01)


@pytest.mark.parametrize("rate", [20, 1000])
def test_a_learned_rate_does_not_bunch_after_a_closure(rate: int) -> None:
    setup = Setup()
    hinted(setup, rate)
    setup.gate.traffic.closed_until = setup.clock.now + 5.0  # as a refusal has it, which would lower the rate too
    starts = setup.passes(4)
    assert [later - one for one, later in itertools.pairwise(starts)] == pytest.approx([1 / rate] * 3, rel=1e-3)


def test_max_qps_is_the_ceiling_of_what_is_learned_and_min_qps_the_floor() -> None:
    setup = Setup(max_qps=20)
    learn(setup, 40.0, 10.0)
    assert setup.gate.rate() == 20.0
    setup = Setup(min_qps=60)
    learn(setup, 40.0, 10.0)
    assert setup.gate.rate() == 60.0
    setup.clock.advance(5.0)
    assert mean_rate(setup.passes(5)) == pytest.approx(60.0)


def test_without_adaptive_only_the_closure_is_obeyed() -> None:
    setup = Setup(adaptive=False)
    learn(setup, 40.0, 5.0)
    assert (setup.gate.rate(), setup.gate.learned()) == (None, None)
    with setup.gate.permit() as permit:
        permit.hear(OPENAI_HINT)
        permit.accept(None)
    assert setup.gate.rate() is None


def test_what_one_gate_learned_holds_for_all_of_the_account_that_learn() -> None:
    setup = Setup()
    learn(setup, 10.0, 20.0)
    other, deaf = setup.again(concurrency=3), setup.again(adaptive=False)
    assert other.gate.learned() == setup.gate.learned()
    assert other.gate.rate() == setup.gate.rate()
    assert deaf.gate.rate() is None
    setup.clock.advance(5.0)
    setup.passes()
    now = setup.clock.now - 1000.0
    assert deaf.passes() == [now]
    assert other.passes()[0] == pytest.approx(now + 1 / (setup.gate.rate() or 0.0), rel=0.01)


def test_a_hint_slows_down_and_runs_out() -> None:
    setup = Setup(adaptive=True)
    setup.passes(60)
    assert setup.gate.rate() is None
    with setup.gate.permit() as permit:
        permit.hear(OPENAI_HINT)
        permit.accept(None)
    assert setup.gate.rate() == pytest.approx(2.0)
    assert mean_rate(setup.passes(10)) == pytest.approx(2.0)
    setup.clock.advance(61.0)
    assert setup.gate.rate() is None
    before = len(setup.clock.sleeps)
    setup.passes(10)
    assert len(setup.clock.sleeps) == before


def test_a_hint_of_tokens_is_read_by_what_requests_took() -> None:
    setup = Setup()
    setup.passes(60, tokens=(80, 20))
    with setup.gate.permit() as permit:
        permit.hear(
            {
                "x-ratelimit-limit-tokens": "12000",
                "x-ratelimit-remaining-tokens": "6000",
                "x-ratelimit-reset-tokens": "20s",
            }
        )
        permit.accept({"total_tokens": 100})
    assert setup.gate.rate() == pytest.approx(3.0)


def test_hints_are_read_now_and_then_and_those_of_refusals_always() -> None:
    setup = Setup()
    setup.passes(60)
    for headers, seconds, read in [
        (OPENAI_HINT, 0.0, True),
        (OPENAI_HINT, HEAR_EVERY * 0.9, False),
        (OPENAI_HINT, HEAR_EVERY * 1.1, True),
    ]:
        setup.clock.advance(seconds)
        permit = setup.gate.permit()
        permit.sent_at = setup.clock.now
        permit.hear(headers)
        assert (permit.hint is not None) == read
        permit.hear(headers, 429)
        assert permit.hint is not None


def test_a_refused_reply_is_heard_too() -> None:
    setup = Setup()
    setup.passes(60)
    setup.fails(refusal(0.5), headers=OPENAI_HINT)
    assert setup.gate.rate() == pytest.approx(2.0)


def test_a_rate_that_was_slow_when_the_last_left_does_not_hold_the_next_back() -> None:
    setup = Setup()
    slow = {**OPENAI_HINT, "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "300s"}
    setup.passes(60)
    with setup.gate.permit() as permit:
        permit.hear(slow)
        permit.accept(None)
    assert setup.gate.rate() == pytest.approx(59 / 60)
    setup.clock.advance(HEAR_EVERY)
    with setup.gate.permit() as permit:
        permit.hear(OPENAI_HINT)
        permit.accept(None)
    sent_at = setup.clock.now
    setup.passes()
    assert setup.clock.now - sent_at == pytest.approx(0.5)


@pytest.mark.parametrize(("held_up", "counts"), [(0.0, 0.0), (0.005, 0.005), (0.02, LATE_SECONDS), (5.0, LATE_SECONDS)])
def test_a_request_that_was_held_up_on_its_way_keeps_its_distance_from_the_next(held_up: float, counts: float) -> None:
    setup = Setup()
    hinted(setup, 20)
    setup.clock.advance(1.0)
    with setup.gate.permit() as permit:
        departure = permit.departure
        assert departure is not None
        let_in = setup.clock.now - 1000.0
        setup.clock.advance(held_up)
        departure()
        assert setup.passes() == pytest.approx([max(let_in + held_up, let_in + counts + 0.05)])


@pytest.mark.parametrize("limits", [{"adaptive": False}, {"max_qps": 5}, {"min_qps": 500}])
def test_nobody_needs_to_know_of_a_departure_where_no_low_rate_was_learned(limits: dict[str, Any]) -> None:
    with Setup(**limits).gate.permit() as permit:
        assert permit.departure is None


# --- permits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, KeyError(), KeyboardInterrupt(), GeneratorExit(), refusal(1.0)])
def test_however_a_block_ends_the_permit_comes_back(error: BaseException | None) -> None:
    setup = Setup(concurrency=2)
    passages = Passages()
    with contextlib.suppress(BaseException), setup.gate.permit(passages=passages):
        assert (setup.gate.free, passages.in_flight) == (1, 1)
        if error is not None:
            raise error
    assert (setup.gate.free, passages.in_flight) == (2, 0)


def test_a_stop_ends_the_wait_at_once_and_takes_nothing() -> None:
    setup, cancel, passages = Setup(max_qps=0.001), CancelToken(), Passages()
    setup.passes()
    cancel.stop()
    with pytest.raises(RequestCancelled) as caught, setup.gate.permit(cancel, passages=passages):
        raise AssertionError("it was let in")
    assert caught.value.attempts == 0
    assert (setup.clock.sleeps, setup.gate.free, setup.gate.waiting) == ([], 10, 0)
    assert (passages.sent, passages.in_flight, passages.failed) == (0, 0, 0)
    assert cancel._listeners == set()
    assert setup.passes() == [1000.0]


def test_the_wait_ends_when_its_time_is_over() -> None:
    setup, passages = Setup(max_qps=0.1), Passages()
    setup.passes()
    with pytest.raises(RequestTimeout) as caught, setup.gate.permit(until=setup.clock.now + 4.0, passages=passages):
        raise AssertionError("it was let in")
    assert caught.value.attempts == 0
    assert setup.clock.sleeps == [4.0]
    assert (setup.gate.free, setup.gate.waiting, passages.sent) == (10, 0, 0)
    assert setup.passes(until=setup.clock.now + 6.5) == pytest.approx([10.0])


def test_an_interrupt_while_it_sleeps_takes_nothing() -> None:
    setup, passages = Setup(max_qps=1, concurrency=1), Passages()
    setup.passes()

    def interrupted() -> float:
        setup.late = lambda: 0.0
        raise KeyboardInterrupt

    setup.late = interrupted
    with pytest.raises(KeyboardInterrupt), setup.gate.permit(passages=passages):
        raise AssertionError("it was let in")
    assert (setup.gate.free, setup.gate.waiting, passages.in_flight, passages.sent) == (1, 0, 0, 0)
    assert setup.passes() == [1.0]


def test_passages_tell_what_became_of_requests() -> None:
    setup, passages = Setup(), Passages()
    for error in (ServerError("first", status=500), refusal(1.0), RequestCancelled("stopped"), KeyError("ours")):
        setup.fails(error, passages=passages)
    with setup.gate.permit(passages=passages) as permit:
        setup.clock.advance(2.0)
        permit.accept(None)
    assert (passages.sent, passages.answered, passages.failed, passages.refused) == (5, 1, 2, 1)
    assert (passages.latency, passages.last_error, passages.in_flight) == (2.0, "too many", 0)
    with setup.gate.permit(passages=passages) as permit:
        setup.clock.advance(12.0)
        permit.accept(None)
    assert passages.latency == pytest.approx(3.0)
    setup.gate.count_hedged(passages)
    assert passages.hedged == 1


def test_the_pace_of_a_permit_is_what_was_let_in() -> None:
    def pace(**limits: Any) -> float:
        setup = Setup(**limits)
        with setup.gate.permit() as permit:
            return permit.pace

    assert pace(adaptive=False) == math.inf
    assert pace(adaptive=False, max_qps=3) == 3
    assert pace(max_qps=3) == 3
    assert pace() == Traffic().learned.rate
    assert pace(min_qps=500) == 500
    assert pace(min_qps=500, max_qps=500) == 500


def test_the_rate_that_is_shown_is_the_tightest() -> None:
    assert Setup(adaptive=False).gate.rate() is None
    assert Setup(adaptive=False, max_rpm=30).gate.rate() == 0.5
    assert Setup(max_qps=7, max_rpm=6000).gate.rate() == 7.0


def test_headers_of_a_gate_that_does_not_learn_are_not_read() -> None:
    permit: Permit = Setup(adaptive=False).gate.permit()
    permit.hear(OPENAI_HINT)
    assert permit.hint is None
