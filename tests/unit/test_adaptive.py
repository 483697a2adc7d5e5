"""What the learned rate does: rule by rule under a hand-moved clock, then against simulated servers behind a gate."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.limits.adaptive import (
    FIRST_GUESS,
    FIRST_QUIET,
    LONGEST_QUIET,
    MIN_RATE,
    OPENING_RATE,
    STRAY_FALL,
    AdaptiveRate,
)

# ---------------------------------------------------------------- rules


class Traffic:
    """A gate with one request at a time, answered at once, and a clock that only it moves."""

    def __init__(self, rate: AdaptiveRate | None = None) -> None:
        self.rate = rate or AdaptiveRate()
        self.now = 100.0

    def accepted(self, count: int = 1, *, every: float | None = None) -> Traffic:
        """Let requests through at the pace in force, or one `every` so many seconds."""
        for _ in range(count):
            pace = self.rate.rate
            self.now += 1 / pace if every is None else every
            self.rate.accepted(self.now, self.now, pace)
        return self

    def accepted_for(self, seconds: float) -> Traffic:
        end = self.now + seconds
        while self.now < end:
            self.accepted()
        return self

    def refused(self, *, pause: float = 1.0) -> Traffic:
        pace = self.rate.rate
        self.now += 1e-3 if pace == math.inf else 1 / pace
        self.rate.refused(self.now, self.now, pace)
        self.now += pause
        return self

    def met(self, ceiling: float) -> Traffic:
        """Climb until the pace is above `ceiling`, where the server refuses."""
        self.refused()
        while self.rate.rate <= ceiling:
            self.accepted()
        return self.refused()


def test_the_start_is_finite_and_nothing_is_learned():
    rate = AdaptiveRate()

    assert rate.rate == OPENING_RATE
    assert rate.learned is None
    assert rate.refusals == 0


def test_a_server_that_never_refuses_sets_free_within_fifty_acceptances_and_milliseconds():
    traffic = Traffic()
    start = traffic.now
    accepted = 0
    while traffic.rate.rate < math.inf:
        traffic.accepted()
        accepted += 1

    assert 20 <= accepted <= 50
    assert traffic.now - start < 0.05
    assert traffic.rate.learned is None


def test_the_opening_pace_never_falls_while_all_is_accepted():
    rate = AdaptiveRate()
    paces = []
    for i in range(40):
        rate.accepted(i * 0.01, i * 0.01 - 0.005, rate.rate)
        paces.append(rate.rate)

    assert paces == sorted(paces)


def test_a_refusal_at_the_very_start_guesses_a_small_pace_and_no_ceiling():
    traffic = Traffic().accepted(1).refused()

    assert traffic.rate.rate == FIRST_GUESS
    assert traffic.rate.learned is None


def test_a_refusal_of_the_very_first_request_is_survived():
    assert Traffic().refused().rate.rate == FIRST_GUESS


def test_acceptances_on_their_way_mend_the_first_guess():
    rate = AdaptiveRate()
    rate.accepted(1.0, 0.0, OPENING_RATE)
    rate.refused(1.01, 0.01, OPENING_RATE)
    for i in range(30):
        rate.accepted(1.02 + i / 40, 0.02 + i / 150, OPENING_RATE)

    assert 25 < rate.rate < 40


def test_acceptances_on_their_way_mend_no_later_fall():
    traffic = Traffic().met(40.0)
    rate = traffic.rate.rate
    for _ in range(100):
        traffic.rate.accepted(traffic.now, traffic.now - 1.5, 41.0)

    assert traffic.rate.rate == rate


def test_acceptances_on_their_way_mend_no_guess_that_was_tried_since():
    traffic = Traffic().accepted(1).refused().accepted(1)
    rate, sent = traffic.rate.rate, traffic.now - 1.6
    for _ in range(100):
        traffic.rate.accepted(traffic.now, sent, OPENING_RATE)

    assert traffic.rate.rate == rate


def test_after_a_guess_the_pace_doubles_in_about_a_second():
    traffic = Traffic().accepted(1).refused().accepted_for(4)
    before = traffic.rate.rate
    traffic.accepted_for(1)

    assert 1.6 < traffic.rate.rate / before < 2.1


def test_the_pause_after_a_guess_does_not_count_as_traffic_that_nobody_sent():
    traffic = Traffic().accepted(1).refused(pause=60.0).accepted_for(4)

    assert traffic.rate.rate > 5 * FIRST_GUESS


def test_slow_traffic_takes_several_acceptances_to_double():
    traffic = Traffic().accepted(1).refused().accepted(3)

    assert FIRST_GUESS < traffic.rate.rate < 2 * FIRST_GUESS


def test_a_refusal_in_a_climb_teaches_the_ceiling_and_falls_just_below_it():
    traffic = Traffic().met(40.0)

    assert traffic.rate.learned == pytest.approx(40.0, rel=0.03)
    assert 0.85 * traffic.rate.learned < traffic.rate.rate < traffic.rate.learned
    assert traffic.rate.refusals == 2


def test_a_refusal_after_free_running_falls_just_below_what_was_accepted():
    traffic = Traffic().accepted(50)
    traffic.accepted(1000, every=1 / 300).refused()

    assert traffic.rate.learned == pytest.approx(300, rel=0.05)
    assert 0.9 * 300 < traffic.rate.rate < 300


def test_the_pace_holds_below_the_ceiling_through_a_quiet_time():
    traffic = Traffic().met(40.0)
    ceiling = traffic.rate.learned
    assert ceiling is not None
    traffic.accepted_for(5)
    for _ in range(10):
        traffic.accepted_for(1)
        assert 0.92 * ceiling < traffic.rate.rate < 0.98 * ceiling


def test_the_ceiling_is_passed_only_after_a_long_quiet_time():
    traffic = Traffic().met(40.0)
    start, ceiling = traffic.now, traffic.rate.learned
    assert ceiling is not None
    while traffic.rate.rate < ceiling:
        traffic.accepted()

    assert FIRST_QUIET < traffic.now - start < FIRST_QUIET + 10


def seconds_until_a_try(traffic: Traffic, ceiling: float) -> float:
    start = traffic.now
    while traffic.rate.rate <= ceiling:
        traffic.accepted()
    return traffic.now - start


def test_each_failed_try_makes_the_next_one_rarer_up_to_a_limit():
    traffic = Traffic().met(40.0)
    waits = []
    for _ in range(4):
        waits.append(seconds_until_a_try(traffic, 40.0))
        traffic.refused()

    assert waits[1] > 1.7 * waits[0]
    assert waits[2] > waits[1]
    assert waits[3] == pytest.approx(LONGEST_QUIET, abs=6)


def test_after_several_falls_in_a_row_the_ceiling_is_tried_early():
    traffic = Traffic().met(40.0).refused().refused()
    learned = traffic.rate.learned
    assert learned is not None
    assert learned < 20

    assert seconds_until_a_try(traffic, learned) < 15


def test_a_try_far_above_the_old_ceiling_is_a_new_ceiling_and_forgets_the_failed_ones():
    traffic = Traffic().met(40.0)
    for _ in range(3):
        seconds_until_a_try(traffic, 40.0)
        traffic.refused()
    seconds_until_a_try(traffic, 60.0)
    traffic.refused()

    assert traffic.rate.learned == pytest.approx(60, rel=0.05)
    assert seconds_until_a_try(traffic, 60.0) < FIRST_QUIET + 10


def test_a_limit_that_was_lifted_sets_free_again():
    traffic = Traffic().met(40.0)
    start = traffic.now
    while traffic.rate.rate < math.inf:
        traffic.accepted()

    assert traffic.now - start < FIRST_QUIET + 30
    assert traffic.rate.learned is None
    traffic.accepted(2000, every=1 / 500).refused()
    assert traffic.rate.learned == pytest.approx(500, rel=0.05)


def test_refusals_of_requests_sent_before_a_fall_belong_to_it():
    traffic = Traffic().met(40.0)
    after, learned, sent = traffic.rate.rate, traffic.rate.learned, traffic.now - 1.5
    for i in range(20):
        traffic.rate.refused(traffic.now + i / 100, sent + i / 100, 40.0)

    assert traffic.rate.rate == after
    assert traffic.rate.learned == learned
    assert traffic.rate.refusals == 22


def test_refusals_that_go_on_halve_the_pace():
    traffic = Traffic().met(40.0)
    for _ in range(3):
        before = traffic.rate.rate
        traffic.refused()
        assert traffic.rate.rate == pytest.approx(before / 2)


def test_a_stray_refusal_among_a_hundred_acceptances_costs_a_twentieth_and_not_half():
    traffic = Traffic().met(40.0).accepted_for(10)
    before = traffic.rate.rate
    traffic.accepted(100).refused()
    assert traffic.rate.rate > 0.9 * before
    traffic.accepted_for(4)

    assert traffic.rate.rate > 0.92 * before


def test_bad_luck_after_seconds_of_acceptances_keeps_the_ceiling_and_costs_little():
    traffic = Traffic().met(40.0)
    traffic.accepted_for(10.0)
    pace, ceiling = traffic.rate.rate, traffic.rate.learned

    traffic.refused()

    assert traffic.rate.learned == ceiling
    assert pace * (1 - 2 * STRAY_FALL) < traffic.rate.rate < pace


def test_bad_luck_that_goes_on_makes_the_distance_grow_and_the_pace_still_comes_back():
    traffic = Traffic().met(40.0)
    ceiling = traffic.rate.learned
    paces = []
    for _ in range(5):
        traffic.accepted_for(10.0).refused()
        paces.append(traffic.rate.rate)

    assert paces == sorted(paces, reverse=True)
    assert 0.85 * ceiling < paces[-1] < 0.92 * ceiling
    assert traffic.accepted_for(50.0).rate.rate > paces[-1] + STRAY_FALL * ceiling


def test_one_refusal_soon_after_a_calm_time_is_bad_luck_too_but_not_a_second():
    traffic = Traffic().met(40.0)
    ceiling = traffic.rate.learned
    traffic.accepted_for(10.0).refused()
    traffic.accepted(50).refused()
    assert traffic.rate.learned == ceiling

    traffic.accepted(50).refused()

    assert traffic.rate.learned < 0.97 * ceiling


def test_a_refusal_soon_after_a_fall_is_no_bad_luck():
    traffic = Traffic().met(40.0)
    pace = traffic.rate.rate
    traffic.accepted(50)

    traffic.refused()

    assert traffic.rate.learned <= pace * 1.05
    assert traffic.rate.rate < 0.95 * pace


def test_endless_refusals_end_at_the_smallest_rate():
    traffic = Traffic()
    for _ in range(100):
        traffic.refused()

    assert traffic.rate.rate == MIN_RATE


def test_a_server_that_counts_by_windows_is_known_by_its_long_closures():
    """100 requests were accepted in 1 s of every 10: the limit is nearer 10 a second than 100."""
    traffic = Traffic().accepted(50)
    traffic.accepted(200, every=0.01).refused(pause=9.0)
    traffic.accepted(100, every=0.01).refused(pause=9.0)

    assert 10 < traffic.rate.rate < 40


def test_traffic_far_below_the_pace_raises_it_to_no_more_than_twice_itself():
    traffic = Traffic().met(100.0).refused().refused().refused()
    assert traffic.rate.rate < 20
    for _ in range(2000):
        traffic.accepted(every=0.1)

    assert traffic.rate.rate <= 21


def test_a_lone_refusal_leaves_a_quiet_client_air():
    traffic = Traffic()
    traffic.accepted(300, every=5.0).refused()
    assert traffic.rate.rate >= 1.0
    for _ in range(50):
        traffic.accepted(10, every=5.0).refused()
        assert traffic.rate.rate >= 1.2 - 1e-2


def test_a_busy_client_refused_at_the_pace_of_its_traffic_learns_the_traffic_and_not_the_pace():
    traffic = Traffic().met(1000.0)
    traffic.accepted(600, every=1 / 50).refused()

    assert traffic.rate.rate < 101


def test_a_hint_caps_the_rate_until_it_runs_out():
    traffic = Traffic().accepted(50)
    traffic.rate.hint(traffic.now, 7.0, traffic.now + 5)
    assert traffic.rate.rate == 7.0
    assert traffic.rate.at(traffic.now + 4.9) == 7.0
    assert traffic.rate.at(traffic.now + 5) == math.inf


def test_a_reply_after_the_end_of_a_hint_lifts_it():
    traffic = Traffic().accepted(50)
    traffic.rate.hint(traffic.now, 7.0, traffic.now + 1)
    traffic.accepted(9)

    assert traffic.rate.rate == math.inf


def test_a_later_hint_replaces_an_earlier_one():
    traffic = Traffic().accepted(50)
    traffic.rate.hint(traffic.now, 7.0, traffic.now + 5)
    traffic.rate.hint(traffic.now, 9.0, traffic.now + 1)

    assert traffic.rate.rate == 9.0
    assert traffic.rate.at(traffic.now + 2) == math.inf


def test_a_hint_never_raises_above_what_refusals_taught():
    traffic = Traffic().met(40.0)
    before = traffic.rate.rate
    traffic.rate.hint(traffic.now, 1000.0, traffic.now + 60)

    assert traffic.rate.rate == before


def test_a_hint_above_the_ceiling_speeds_the_way_back_up():
    plain, told = Traffic().met(40.0), Traffic().met(40.0)
    told.rate.hint(told.now, 1000.0, told.now + 600)

    assert seconds_until_a_try(told, 45.0) < 0.6 * seconds_until_a_try(plain, 45.0)


@pytest.mark.parametrize("rate", [0.0, -3.0, -math.inf])
def test_a_hint_of_nothing_leaves_the_smallest_rate(rate):
    traffic = Traffic()
    traffic.rate.hint(traffic.now, rate, traffic.now + 5)

    assert traffic.rate.rate == MIN_RATE


def test_a_hint_that_is_no_number_is_ignored():
    traffic = Traffic()
    traffic.rate.hint(traffic.now, 7.0, traffic.now + 5)
    traffic.rate.hint(traffic.now, math.nan, traffic.now - 5)

    assert traffic.rate.rate == 7.0


# ---------------------------------------------------------------- any history

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["accepted"] * 6 + ["refused"] * 2 + ["hint"]),
        st.sampled_from([1e-4, 1e-3, 0.02, 0.3, 2.0, 60.0]) | st.floats(0.0, 100.0),  # until it happens
        st.sampled_from([0.0, 0.01, 0.5, 5.0])
        | st.floats(0.0, 100.0),  # how long the reply took; how long a hint is good
        st.sampled_from([None, math.inf, 0.05, 1.0]) | st.floats(1e-3, 1e6),  # pace, None as told; rate of a hint
        st.integers(1, 60),
    ),
    max_size=80,
)


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(EVENTS)
def test_after_any_history_the_rate_is_a_sane_number_and_episodes_count_once(events):
    rate, now = AdaptiveRate(), 1000.0
    hint, hint_until, refusals, fell_at = math.inf, -math.inf, 0, -math.inf
    for kind, after, took, value, times in events:
        for _ in range(times):
            now += after
            pace = rate.rate if value is None else value
            own = rate.at(now)
            if kind == "accepted":
                rate.accepted(now, now - took, pace)
                assert rate.rate >= min(own, hint if now < hint_until else math.inf) * (1 - 1e-12)
            elif kind == "hint":
                hint, hint_until = max(pace, MIN_RATE), now + took
                rate.hint(now, pace, hint_until)
            else:
                refusals += 1
                rate.refused(now, now - took, pace)
                if now - took <= fell_at:
                    assert rate.rate == own
                else:
                    fell_at = now
                    assert rate.rate < math.inf
            assert rate.rate >= MIN_RATE
            assert now >= hint_until or rate.rate <= hint
            assert rate.learned is None or MIN_RATE <= rate.learned < math.inf
            assert rate.refusals == refusals


# ---------------------------------------------------------------- simulated servers


class BucketServer:
    """Accepts `rate` a second and `burst` at once; refuses above and asks for a second's pause."""

    def __init__(self, rate: float | Callable[[float], float], burst: int) -> None:
        self._rate = rate if callable(rate) else lambda now: rate
        self._burst = burst
        self._next = -math.inf

    def refuses(self, now: float) -> float | None:
        rate = self._rate(now)
        start = max(self._next, now)
        if start - now > (self._burst - 1) / rate + 1e-9:
            return 1.0
        self._next = start + 1 / rate
        return None

    def answered(self) -> None:
        """Nothing is freed by an answer."""


class WindowServer:
    """Accepts `allowed` in each window of `width` seconds; a refusal asks for the rest of the window."""

    def __init__(self, allowed: int, width: float) -> None:
        self._allowed, self._width = allowed, width
        self._window, self._count = -1, 0

    def refuses(self, now: float) -> float | None:
        window = int(now // self._width)
        if window != self._window:
            self._window, self._count = window, 0
        if self._count >= self._allowed:
            return (window + 1) * self._width - now
        self._count += 1
        return None

    def answered(self) -> None:
        """Nothing is freed by an answer."""


class CrowdServer:
    """Refuses when `room` requests are under way."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._inside = 0

    def refuses(self, now: float) -> float | None:
        if self._inside >= self._room:
            return 1.0
        self._inside += 1
        return None

    def answered(self) -> None:
        self._inside -= 1


class Simulation:
    """Workers behind a gate in simulated time.

    The gate spaces departures by 1/rate, counted from the actual ones, and is closed for as long as a refusal asks.
    A worker that had to wait wakes up late: 0.2 ms on average, in one case of a hundred by 5 to 15 ms more.
    """

    def __init__(self, server, workers: int, latency: float, *, seed: int = 1, told: bool = True, travel: float = 0.0):
        self.rate = AdaptiveRate()
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self._server, self._free, self._latency, self._told, self._travel = server, workers, latency, told, travel
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[float, ...]]] = []
        self._order: Iterator[int] = itertools.count()
        self._opens = self._next = 0.0
        self._waiting = False
        self._backoff, self._backed_off_at = 1.0, -1.0

    def run(self, seconds: float) -> Simulation:
        self._wait(0.0)
        while self._events[0][0] <= seconds:
            now, _, act, args = heapq.heappop(self._events)
            act(now, *args)
        return self

    def throughput(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self.accepted) / (end - start)

    def refused_share(self) -> float:
        return len(self.refused) / (len(self.refused) + len(self.accepted))

    def _at(self, when: float, act: Callable[..., None], *args: float) -> None:
        heapq.heappush(self._events, (when, next(self._order), act, args))

    def _wait(self, now: float) -> None:
        if self._waiting or not self._free:
            return
        self._waiting = True
        start = max(self._opens, self._next)
        self._at(start + self._lateness() if start > now else now, self._pass)

    def _lateness(self) -> float:
        late = self._rng.expovariate(1 / 0.0002)
        return late + self._rng.uniform(0.005, 0.015) if self._rng.random() < 0.01 else late

    def _pass(self, now: float) -> None:
        self._waiting = False
        if max(self._opens, self._next) <= now:
            self._free -= 1
            pace = self.rate.rate
            self._next = now + 1 / pace
            self._at(now + (self._rng.expovariate(1 / self._travel) if self._travel else 0.0), self._arrive, now, pace)
        self._wait(now)

    def _arrive(self, now: float, sent_at: float, pace: float) -> None:
        pause = self._server.refuses(now)
        if pause is None:
            self._at(now + self._latency + 1e-5, self._accept, sent_at, pace)
        else:
            self._at(now + self._latency + 1e-5, self._refuse, sent_at, pace, pause)

    def _accept(self, now: float, sent_at: float, pace: float) -> None:
        self._server.answered()
        self.rate.accepted(now, sent_at, pace)
        self.accepted.append(now)
        self._backoff = 1.0
        self._answered(now)

    def _refuse(self, now: float, sent_at: float, pace: float, pause: float) -> None:
        if not self._told:
            pause = 0.0
            if sent_at > self._backed_off_at:
                pause, self._backoff, self._backed_off_at = self._backoff, self._backoff * 2, now
        self._opens = max(self._opens, now + pause)
        self.rate.refused(now, sent_at, pace)
        self.refused.append(now)
        self._answered(now)

    def _answered(self, now: float) -> None:
        self._free += 1
        self._wait(now)


@pytest.mark.parametrize("workers", [10, 64, 200])
@pytest.mark.parametrize("latency", [0.0, 0.05, 0.5])
def test_forty_a_second_without_burst_are_used_to_0_92_with_few_refusals(latency, workers):
    possible = min(40.0, workers / latency if latency else math.inf)
    for seed in range(3):
        run = Simulation(BucketServer(40, 1), workers, latency, seed=seed).run(60)

        assert run.throughput(10, 60) >= 0.92 * possible
        assert run.refused_share() <= 0.04
        assert run.rate.rate <= 2.1 * possible


@pytest.mark.parametrize("seed", range(4))
def test_forty_a_second_are_used_to_0_85_where_the_way_to_the_server_jitters_too(seed):
    run = Simulation(BucketServer(40, 1), 64, 0.05, seed=seed, travel=0.0001).run(60)

    assert run.throughput(10, 60) >= 0.85 * 40
    assert run.refused_share() <= 0.04


def test_forty_a_second_are_used_to_0_9_where_the_server_does_not_say_how_long_to_wait():
    run = Simulation(BucketServer(40, 1), 64, 0.05, told=False).run(60)

    assert run.throughput(10, 60) >= 0.9 * 40
    assert run.refused_share() <= 0.04


@pytest.mark.parametrize(("burst", "share"), [(1, 0.9), (10, 0.95)])
def test_five_a_second_are_used(burst, share):
    run = Simulation(BucketServer(5, burst), 64, 0.05).run(120)

    assert run.throughput(20, 120) >= share * 5
    assert run.refused_share() <= 0.1


def test_one_in_two_seconds_is_used():
    run = Simulation(BucketServer(0.5, 1), 10, 0.5).run(600)

    assert run.throughput(60, 600) >= 0.9 * 0.5
    assert run.refused_share() <= 0.1


@pytest.mark.parametrize("burst", [10, 40])
def test_a_server_with_a_burst_is_used_and_its_burst_not_taken_for_its_rate(burst):
    run = Simulation(BucketServer(40, burst), 64, 0.05).run(60)

    assert run.throughput(10, 60) >= 0.9 * 40
    assert run.refused_share() <= 0.04
    assert run.rate.rate < 1.3 * 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "burst", "share"), [(400, 1, 0.7), (400, 10, 0.85), (2000, 1, 0.25), (2000, 10, 0.65)]
)
def test_high_limits_are_used_as_far_as_late_wake_ups_allow(limit, burst, share):
    """A lateness of 0.3 ms is an eighth of the interval at 400 a second, and more than half of it at 2000."""
    run = Simulation(BucketServer(limit, burst), 200, 0.05).run(60)

    assert run.throughput(10, 60) >= share * limit
    assert run.refused_share() <= 0.01


@pytest.mark.parametrize("latency", [0.05, 0.5])
def test_a_fixed_window_is_filled_and_hardly_overrun_once_it_is_known(latency):
    run = Simulation(WindowServer(100, 10.0), 64, latency).run(200)

    assert run.throughput(40, 200) >= 0.9 * 10
    assert sum(at > 40 for at in run.refused) <= 0.06 * 1600


@pytest.mark.parametrize(("workers", "latency"), [(64, 0.05), (200, 0.5)])
def test_a_limit_that_changes_is_followed_down_in_seconds_and_up_within_ninety(workers, latency):
    server = BucketServer(lambda now: 40 if now < 60 else 20 if now < 120 else 80, 1)
    run = Simulation(server, workers, latency).run(240)

    assert run.throughput(30, 60) >= 0.85 * 40
    assert run.throughput(70, 120) >= 0.8 * 20
    assert sum(65 < at < 70 for at in run.refused) <= 5
    assert run.throughput(210, 240) >= 0.85 * 80


def test_a_server_with_room_for_so_many_is_used_to_0_7():
    run = Simulation(CrowdServer(8), 64, 0.5).run(60)

    assert run.throughput(10, 60) >= 0.7 * 8 / 0.5


def test_a_server_without_a_limit_is_not_held_back():
    run = Simulation(BucketServer(10_000, 100), 8, 0.001).run(0.15)

    assert run.rate.rate == math.inf
    assert run.accepted[40] < 0.1
    assert not run.refused
