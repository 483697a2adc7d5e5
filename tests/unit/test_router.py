"""Which provider is chosen, and how failures, time and successes move its state. No clock but a fake one."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fakes import FakeClock
from generated import examples
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flexllm.errors import ConfigError
from flexllm.router import STRATEGIES, ProviderConfig, ProviderRouter, create_router_from_urls

EAST = ProviderConfig("https://east.example/v1")
WEST = ProviderConfig("https://west.example/v1")
NORTH = ProviderConfig("https://north.example/v1")
THREE = [EAST, WEST, NORTH]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def router(
    clock: Callable[[], float], providers: list[ProviderConfig] = THREE, strategy: str = "round_robin", **more: Any
) -> ProviderRouter[ProviderConfig]:
    return ProviderRouter(providers, strategy, clock=clock, rng=random.Random(7), **more)


def cool(one: ProviderRouter[ProviderConfig], *providers: ProviderConfig) -> None:
    """Fail each as often as the default threshold."""
    for provider in providers:
        for _ in range(3):
            one.mark_failed(provider)


def take(one: ProviderRouter[ProviderConfig], number: int) -> list[ProviderConfig]:
    return [one.get_next() for _ in range(number)]


# --- what it is made of ---


def test_a_provider_is_made_by_position_as_specified() -> None:
    provider = ProviderConfig("https://east.example/v1", "sk-1", 2.0, "some-model", False)
    assert (provider.base_url, provider.api_key, provider.weight) == ("https://east.example/v1", "sk-1", 2.0)
    assert (provider.model, provider.enabled) == ("some-model", False)
    assert ProviderConfig("http://h") == ProviderConfig("http://h", "EMPTY", 1.0, None, True)


def test_a_provider_pickles_and_hashes() -> None:
    provider = ProviderConfig("https://east.example/v1", "sk-1", 2.0)
    assert pickle.loads(pickle.dumps(provider)) == provider
    assert len({provider, ProviderConfig("https://east.example/v1", "sk-1", 2.0)}) == 1


def test_the_repr_of_a_provider_masks_its_key() -> None:
    shown = repr(ProviderConfig("https://east.example/v1", "sk-abcdefghijklmnopqrstuvwxyz", 2.0))
    assert "abcdefghijkl" not in shown
    assert shown == (
        "ProviderConfig('https://east.example/v1', api_key='sk-a...wxyz', weight=2.0, model=None, enabled=True)"
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"base_url": ""}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"base_url": "east.example"}, "base_url"),
        ({"base_url": "ftp://east.example"}, "base_url"),
        ({"base_url": "https://user:secret@east.example"}, "base_url"),
        ({"base_url": "https://east.example?key=secret"}, "base_url"),
        ({"api_key": None}, "api_key"),
        ({"api_key": "secret\n"}, "api_key"),
        ({"api_key": "secret-ключ"}, "api_key"),
        ({"weight": -1}, "weight=-1"),
        ({"weight": "2"}, "weight='2'"),
        ({"weight": None}, "weight=None"),
        ({"weight": True}, "weight=True"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"weight": float("inf")}, "weight=inf"),
        ({"weight": 10**400}, "weight=1000"),
        ({"model": ""}, "model=''"),
        ({"model": 3}, "model=3"),
        ({"enabled": "false"}, "enabled='false'"),
        ({"enabled": None}, "enabled=None"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ProviderConfig(**{"base_url": "https://east.example/v1", **fields})
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"providers": []}, "providers"),
        ({"providers": None}, "providers"),
        ({"providers": [ProviderConfig("http://h", enabled=False)]}, "providers"),
        ({"providers": ["http://h"]}, "providers[0] is a str"),
        ({"providers": [EAST, None]}, "providers[1] is a NoneType"),
        ({"providers": [EAST, WEST, EAST]}, "twice"),
        ({"strategy": "fastest"}, "strategy='fastest'"),
        ({"strategy": None}, "strategy=None"),
        ({"strategy": ["random"]}, "strategy=['random']"),
        ({"strategy": "least_busy"}, "load"),
        ({"failure_threshold": 0}, "failure_threshold=0"),
        ({"failure_threshold": 2.5}, "failure_threshold=2.5"),
        ({"failure_threshold": True}, "failure_threshold=True"),
        ({"failure_threshold": "3"}, "failure_threshold='3'"),
        ({"recovery_time": -1}, "recovery_time=-1"),
        ({"recovery_time": None}, "recovery_time=None"),
        ({"recovery_time": float("nan")}, "recovery_time=nan"),
    ],
)
def test_a_wrong_argument_of_the_router_is_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ProviderRouter(**{"providers": THREE, **arguments})
    assert named in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        ProviderRouter(THREE, "fastest")
    assert all(strategy in str(caught.value) for strategy in STRATEGIES)


def test_anything_with_a_weight_can_be_held_and_a_wrong_one_is_named_by_its_place() -> None:
    @dataclass
    class Endpoint:
        weight: Any

    endpoint = Endpoint(1)
    assert ProviderRouter([endpoint]).get_next() is endpoint
    with pytest.raises(ConfigError, match=r"providers\[1\]\.weight=-2 "):
        ProviderRouter([endpoint, Endpoint(-2)])


def test_disabled_providers_are_left_out(clock: FakeClock) -> None:
    off = ProviderConfig("https://off.example/v1", enabled=False)
    one = router(clock, [off, EAST, off, WEST])
    assert take(one, 4) == [EAST, WEST, EAST, WEST]
    assert one.stats["total"] == 2
    with pytest.raises(ConfigError):
        one.mark_failed(off)


@pytest.mark.parametrize("method", ["mark_success", "mark_failed", "release_probe", "state", "returns_in"])
def test_a_provider_that_it_does_not_hold_is_refused_without_its_key(clock: FakeClock, method: str) -> None:
    stranger = ProviderConfig(EAST.base_url, "sk-secret")
    with pytest.raises(ConfigError, match="does not hold that ProviderConfig") as caught:
        getattr(router(clock), method)(stranger)
    assert "secret" not in str(caught.value)


def test_a_router_is_made_from_urls() -> None:
    one = create_router_from_urls(["http://a/v1", "http://b/v1"], api_key="sk-1", strategy="fallback")
    assert one.get_next() == ProviderConfig("http://a/v1", "sk-1")
    assert one.stats["strategy"] == "fallback"
    assert [provider.base_url for provider in take(create_router_from_urls(iter(["http://a", "http://b"])), 3)] == [
        "http://a",
        "http://b",
        "http://a",
    ]


@pytest.mark.parametrize("urls", ["http://a/v1", b"http://a", None, 3, [], [None], ["a"]])
def test_what_is_no_list_of_urls_is_refused(urls: Any) -> None:
    with pytest.raises(ConfigError):
        create_router_from_urls(urls)


# --- strategies ---


def test_round_robin_takes_each_in_turn(clock: FakeClock) -> None:
    assert take(router(clock), 7) == [*THREE, *THREE, EAST]


def test_round_robin_goes_on_over_the_healthy_ones(clock: FakeClock) -> None:
    one = router(clock)
    one.get_next()
    cool(one, WEST)
    assert take(one, 4) == [NORTH, EAST, NORTH, EAST]


def test_round_robin_gives_a_neighbour_of_those_left_out_no_more_than_others(clock: FakeClock) -> None:
    one = router(clock)
    cool(one, EAST)
    assert Counter(take(one, 100)) == {WEST: 50, NORTH: 50}


def test_round_robin_stays_even_where_the_choice_is_narrowed_now_and_then(clock: FakeClock) -> None:
    one = router(clock)
    draw = random.Random(1)
    counts: Counter[ProviderConfig | None] = Counter()
    for _ in range(3000):
        full = draw.choice(THREE)
        counts[one.choose(lambda provider, full=full: provider is not full)] += 1  # type: ignore[misc]
    assert all(abs(counts[provider] - 1000) < 60 for provider in THREE)


def test_round_robin_does_not_make_up_for_the_time_away(clock: FakeClock) -> None:
    one = router(clock)
    cool(one, EAST)
    take(one, 100)
    clock.advance(60)
    assert one.get_next() is EAST
    one.mark_success(EAST)
    assert Counter(take(one, 30)) == {EAST: 10, WEST: 10, NORTH: 10}


def test_weighted_goes_by_weight(clock: FakeClock) -> None:
    one, three, six = (ProviderConfig("http://h", weight=weight) for weight in (1, 3, 6.0))
    counts = Counter(take(router(clock, [one, three, six], "weighted"), 10_000))
    assert [round(counts[provider] / 1000) for provider in (one, three, six)] == [1, 3, 6]


def test_weighted_asks_weight_zero_only_if_nothing_else_is_left(clock: FakeClock) -> None:
    spare = ProviderConfig("http://spare", weight=0)
    one = router(clock, [spare, EAST, WEST], "weighted")
    assert set(take(one, 500)) == {EAST, WEST}
    cool(one, EAST, WEST)
    assert set(take(one, 5)) == {spare}


def test_weighted_chooses_among_zero_weights_by_chance(clock: FakeClock) -> None:
    spares = [ProviderConfig(f"http://spare{number}", weight=0) for number in range(2)]
    counts = Counter(take(router(clock, spares, "weighted"), 2000))
    assert all(900 < counts[spare] < 1100 for spare in spares)


@pytest.mark.parametrize("weight", [1.7e308, 5e-324, 10**300])
def test_extreme_weights_are_still_shares(clock: FakeClock, weight: float) -> None:
    pair = [ProviderConfig(f"http://h{number}", weight=weight) for number in range(2)]
    counts = Counter(take(router(clock, pair, "weighted"), 2000))
    assert all(900 < counts[provider] < 1100 for provider in pair)


def test_random_goes_by_chance_and_not_by_weight(clock: FakeClock) -> None:
    light, heavy = ProviderConfig("http://h", weight=0), ProviderConfig("http://h", weight=9)
    counts = Counter(take(router(clock, [light, heavy], "random"), 2000))
    assert all(900 < counts[provider] < 1100 for provider in (light, heavy))


@pytest.mark.parametrize("strategy", ["weighted", "random"])
def test_the_same_seed_gives_the_same_choices(clock: FakeClock, strategy: str) -> None:
    assert take(router(clock, strategy=strategy), 50) == take(router(clock, strategy=strategy), 50)


def test_fallback_takes_the_first_that_can_be_asked(clock: FakeClock) -> None:
    one = router(clock, strategy="fallback")
    assert set(take(one, 5)) == {EAST}
    cool(one, EAST)
    assert set(take(one, 5)) == {WEST}
    cool(one, WEST)
    assert set(take(one, 5)) == {NORTH}
    clock.advance(60)
    assert take(one, 3) == [EAST, WEST, NORTH], "the first two are probed by one request each"
    one.mark_success(EAST)
    assert set(take(one, 5)) == {EAST}


def test_least_busy_takes_the_smallest_load_for_its_weight(clock: FakeClock) -> None:
    strong = ProviderConfig("http://strong", weight=4)
    loads = {EAST: 2.0, WEST: 3.0, strong: 6.0}
    one = router(clock, [EAST, WEST, strong], "least_busy", load=loads.__getitem__)
    assert one.get_next() is strong
    loads[strong] = 9.0
    assert one.get_next() is EAST
    assert one.choose(lambda provider: provider is not EAST) is strong


def test_least_busy_asks_weight_zero_last(clock: FakeClock) -> None:
    spare = ProviderConfig("http://spare", weight=0)
    one = router(clock, [spare, EAST], "least_busy", load=lambda provider: 0.0 if provider is spare else 1e300)
    assert one.get_next() is EAST
    cool(one, EAST)
    assert one.get_next() is spare


def test_least_busy_takes_equal_loads_in_turn(clock: FakeClock) -> None:
    assert take(router(clock, strategy="least_busy", load=lambda provider: 0.0), 5) == [*THREE, EAST, WEST]


def test_least_busy_probes_one_that_is_due_whatever_its_old_load(clock: FakeClock) -> None:
    one = router(clock, strategy="least_busy", load=lambda provider: 100.0 if provider is NORTH else 1.0)
    cool(one, NORTH)
    clock.advance(60)
    assert take(one, 3) == [NORTH, EAST, WEST]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_is_chosen_who_is_not_among_those_asked_for(clock: FakeClock, strategy: str) -> None:
    one = router(clock, strategy=strategy, load=lambda provider: 1.0)
    assert {one.choose(lambda provider: provider is WEST) for _ in range(20)} == {WEST}
    assert one.choose(lambda provider: False) is None
    cool(one, WEST)
    assert one.choose(lambda provider: provider is WEST) is None
    assert {one.choose() for _ in range(50)} <= {EAST, NORTH}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_single_provider_is_given_whatever_happens(clock: FakeClock, strategy: str) -> None:
    one = router(clock, [EAST], strategy, load=lambda provider: 1.0)
    for _ in range(10):
        assert one.get_next() is EAST
        one.mark_failed(EAST)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_when_all_cool_the_one_that_is_due_back_first_is_given(clock: FakeClock, strategy: str) -> None:
    one = router(clock, strategy=strategy, load=lambda provider: 1.0)
    for provider in (NORTH, EAST, WEST):
        cool(one, provider)
        clock.advance(1)
    assert one.choose() is None
    assert take(one, 3) == [NORTH, NORTH, NORTH]
    assert one.state(NORTH) == "cooling", "it is asked before its time, and not as a probe"


def test_when_all_are_due_back_at_once_they_are_given_in_turn(clock: FakeClock) -> None:
    one = router(clock)
    cool(one, *THREE)
    assert take(one, 4) == [*THREE, EAST]


def test_two_equal_providers_stay_two(clock: FakeClock) -> None:
    first, second = ProviderConfig("http://h"), ProviderConfig("http://h")
    assert first == second
    one = router(clock, [first, second])
    assert [provider is first for provider in take(one, 4)] == [True, False, True, False]
    cool(one, first)
    assert (one.state(first), one.state(second)) == ("cooling", "ready")
    assert all(provider is second for provider in take(one, 3))
    assert [provider is second for provider in one.get_all_healthy()] == [True]


# --- states ---


def test_failures_in_a_row_cool_a_provider_at_the_threshold(clock: FakeClock) -> None:
    one = router(clock, failure_threshold=2, recovery_time=30)
    assert one.mark_failed(EAST) is False
    assert one.state(EAST) == "ready"
    assert one.mark_failed(EAST) is True
    assert (one.state(EAST), one.returns_in(EAST)) == ("cooling", 30.0)
    assert one.get_all_healthy() == [WEST, NORTH]


def test_a_success_in_between_starts_the_count_afresh(clock: FakeClock) -> None:
    one = router(clock, failure_threshold=2)
    for _ in range(5):
        one.mark_failed(EAST)
        assert one.mark_success(EAST) is False
    assert one.state(EAST) == "ready"


def test_failures_are_counted_for_each_provider_alone(clock: FakeClock) -> None:
    one = router(clock, failure_threshold=2)
    for provider in THREE:
        one.mark_failed(provider)
        one.mark_success(NORTH)
    assert one.get_all_healthy() == THREE


COOLING_OVER = 60.0


def as_cooling(one: ProviderRouter[ProviderConfig], clock: FakeClock) -> None:
    cool(one, EAST)


def as_due(one: ProviderRouter[ProviderConfig], clock: FakeClock) -> None:
    cool(one, EAST)
    clock.advance(COOLING_OVER)


def as_probing(one: ProviderRouter[ProviderConfig], clock: FakeClock) -> None:
    as_due(one, clock)
    assert one.get_next() is EAST


def as_forgotten(one: ProviderRouter[ProviderConfig], clock: FakeClock) -> None:
    as_probing(one, clock)
    clock.advance(COOLING_OVER)


def as_ready(one: ProviderRouter[ProviderConfig], clock: FakeClock) -> None:
    pass


Event = Callable[[ProviderRouter[ProviderConfig]], object]
EVENTS: dict[str, Event] = {
    "success": lambda one: one.mark_success(EAST),
    "failure": lambda one: one.mark_failed(EAST),
    "failure for 10": lambda one: one.mark_failed(EAST, cool_for=10),
    "failure for 600": lambda one: one.mark_failed(EAST, cool_for=600),
    "choice": lambda one: one.choose(lambda provider: provider is EAST) is EAST,
    "release": lambda one: one.release_probe(EAST),
}


@pytest.mark.parametrize(
    ("start", "event", "answer", "state", "returns_in"),
    [
        (as_ready, "success", False, "ready", 0),
        (as_ready, "failure", False, "ready", 0),
        (as_ready, "failure for 10", True, "cooling", 10),
        (as_ready, "failure for 600", True, "cooling", 600),
        (as_ready, "choice", True, "ready", 0),
        (as_ready, "release", None, "ready", 0),
        (as_cooling, "success", True, "ready", 0),
        (as_cooling, "failure", False, "cooling", 60),
        (as_cooling, "failure for 10", False, "cooling", 60),
        (as_cooling, "failure for 600", True, "cooling", 600),
        (as_cooling, "choice", False, "cooling", 60),
        (as_cooling, "release", None, "cooling", 60),
        (as_due, "success", True, "ready", 0),
        (as_due, "failure", False, "cooling", 0),
        (as_due, "failure for 10", True, "cooling", 10),
        (as_due, "choice", True, "probing", 60),
        (as_due, "release", None, "cooling", 0),
        (as_probing, "success", True, "ready", 0),
        (as_probing, "failure", True, "cooling", 60),
        (as_probing, "failure for 10", True, "cooling", 10),
        (as_probing, "failure for 600", True, "cooling", 600),
        (as_probing, "choice", False, "probing", 60),
        (as_probing, "release", None, "cooling", 0),
        (as_forgotten, "success", True, "ready", 0),
        (as_forgotten, "failure", True, "cooling", 60),
        (as_forgotten, "choice", True, "probing", 60),
        (as_forgotten, "release", None, "cooling", 0),
    ],
)
def test_each_event_moves_each_state_as_the_table_says(
    clock: FakeClock, start: Callable[..., None], event: str, answer: bool | None, state: str, returns_in: float
) -> None:
    one = router(clock, strategy="fallback")
    start(one, clock)
    assert EVENTS[event](one) is answer
    assert (one.state(EAST), one.returns_in(EAST)) == (state, returns_in)
    assert (EAST in one.get_all_healthy()) == (returns_in == 0)


def test_one_request_alone_probes_a_provider_that_is_due(clock: FakeClock) -> None:
    one = router(clock)
    cool(one, EAST)
    clock.advance(59.999)
    assert EAST not in take(one, 6)
    clock.advance(0.001)
    assert take(one, 6).count(EAST) == 1
    assert one.state(EAST) == "probing"
    one.mark_success(EAST)
    assert take(one, 6).count(EAST) == 2


def test_a_probe_that_fails_cools_again_without_a_threshold(clock: FakeClock) -> None:
    one = router(clock)
    as_probing(one, clock)
    assert one.mark_failed(EAST) is True
    assert one.returns_in(EAST) == 60.0
    assert EAST not in take(one, 6)
    clock.advance(60)
    assert take(one, 6).count(EAST) == 1


def test_a_provider_that_came_back_has_the_whole_threshold_again(clock: FakeClock) -> None:
    one = router(clock)
    as_probing(one, clock)
    one.mark_success(EAST)
    one.mark_failed(EAST)
    one.mark_failed(EAST)
    assert one.state(EAST) == "ready"


def test_a_probe_that_nobody_settles_can_be_tried_again(clock: FakeClock) -> None:
    one = router(clock)
    as_probing(one, clock)
    clock.advance(59)
    assert EAST not in take(one, 6)
    clock.advance(1)
    assert take(one, 6).count(EAST) == 1


def test_a_released_probe_goes_to_the_next_request(clock: FakeClock) -> None:
    one = router(clock)
    as_probing(one, clock)
    one.release_probe(EAST)
    assert take(one, 6).count(EAST) == 1


def test_the_failures_of_requests_sent_before_do_not_lengthen_the_cooling(clock: FakeClock) -> None:
    one = router(clock)
    cool(one, EAST)
    clock.advance(50)
    for _ in range(20):
        one.mark_failed(EAST)
    assert one.returns_in(EAST) == 10.0


def test_recovery_time_zero_leaves_nobody_alone(clock: FakeClock) -> None:
    one = router(clock, recovery_time=0)
    cool(one, *THREE)
    assert one.get_all_healthy() == THREE
    assert set(take(one, 3)) == set(THREE)


@pytest.mark.parametrize("cool_for", [-1, float("nan"), float("inf"), "60", True])
def test_a_time_to_cool_that_is_none_is_refused_and_changes_nothing(clock: FakeClock, cool_for: Any) -> None:
    one = router(clock, failure_threshold=1)
    with pytest.raises(ConfigError, match="cool_for"):
        one.mark_failed(EAST, cool_for=cool_for)
    assert one.stats["providers"][0]["failures"] == 0


def test_the_next_return_is_that_of_the_first_who_is_not_ready(clock: FakeClock) -> None:
    one = router(clock)
    assert one.next_return() is None
    cool(one, EAST)
    one.mark_failed(WEST, cool_for=10)
    assert one.next_return() == 10.0
    assert one.next_return(lambda provider: provider is EAST) == 60.0
    assert one.next_return(lambda provider: provider is NORTH) is None
    assert one.next_return(lambda provider: False) is None
    clock.advance(11)
    assert one.next_return() == 0.0
    assert one.choose(lambda provider: provider is WEST) is WEST
    assert one.next_return() == 49.0, "a probe is given up after as long as a cooling takes"


def test_stats_tell_the_state_without_keys(clock: FakeClock) -> None:
    secret = ProviderConfig("https://east.example/v1", "sk-secret", 2, "some-model")
    one = router(clock, [secret, WEST], "weighted")
    cool(one, secret)
    one.mark_failed(WEST)
    assert one.stats == {
        "total": 2,
        "healthy": 1,
        "strategy": "weighted",
        "providers": [
            {
                "base_url": "https://east.example/v1",
                "model": "some-model",
                "weight": 2,
                "state": "cooling",
                "failures": 3,
                "returns_in": 60.0,
            },
            {
                "base_url": "https://west.example/v1",
                "model": None,
                "weight": 1.0,
                "state": "ready",
                "failures": 1,
                "returns_in": 0.0,
            },
        ],
    }
    assert "secret" not in json.dumps(one.stats) + repr(one)


# --- threads and processes ---


def in_threads(number: int, work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # carried to the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(number)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that a missing lock shows
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


@pytest.mark.parametrize("ask", [ProviderRouter.get_next, ProviderRouter.choose])
def test_many_threads_get_even_turns(clock: FakeClock, ask: Callable[..., ProviderConfig]) -> None:
    one = router(clock)
    taken: list[ProviderConfig] = []
    in_threads(16, lambda: taken.extend([ask(one) for _ in range(300)]))
    assert Counter(taken) == {EAST: 1600, WEST: 1600, NORTH: 1600}


@pytest.mark.parametrize("ask", [ProviderRouter.get_next, ProviderRouter.choose])
def test_one_of_many_threads_gets_the_probe(clock: FakeClock, ask: Callable[..., ProviderConfig]) -> None:
    one = router(clock, [EAST, WEST])
    cool(one, EAST)
    taken: list[ProviderConfig] = []
    start = threading.Barrier(8, lambda: clock.advance(60))

    def work() -> None:
        for _ in range(20):
            start.wait(60)
            taken.extend([ask(one) for _ in range(5)])

    in_threads(8, work)
    assert Counter(taken) == {EAST: 20, WEST: 780}


def test_no_failure_is_lost_between_threads(clock: FakeClock) -> None:
    one = router(clock, failure_threshold=10**9)

    def fail() -> None:
        for _ in range(500):
            one.mark_failed(EAST)

    in_threads(16, fail)
    assert one.stats["providers"][0]["failures"] == 8000


def test_functions_of_the_caller_may_use_the_router(clock: FakeClock) -> None:
    def load(provider: ProviderConfig) -> float:
        return one.returns_in(provider)

    one = router(clock, strategy="least_busy", load=load)
    chosen: list[ProviderConfig | None] = []

    def work() -> None:
        chosen.append(one.choose(lambda provider: one.state(provider) == "ready"))
        one.next_return(lambda provider: one.state(provider) == "ready")
        chosen.append(one.get_next())

    in_threads(1, work)
    assert chosen == [EAST, WEST]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_neither_for_a_lock_nor_for_a_probe_of_its_parent(clock: FakeClock) -> None:
    one = router(clock)
    as_probing(one, clock)
    cool(one, WEST)
    with one._lock:  # as another thread may in that moment
        child = os.fork()
        if not child:
            signal.alarm(10)
            states = [one.choose(lambda provider: provider is EAST) is EAST, one.state(WEST) == "cooling"]
            os._exit(0 if all(states) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.state(EAST) == "probing"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_choose_as_its_parent_does() -> None:
    one = ProviderRouter([ProviderConfig(f"http://h{number}") for number in range(100)], "random")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(10)
        os.write(write, json.dumps([provider.base_url for provider in take(one, 20)]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        theirs = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert len(theirs) == 20
    assert [provider.base_url for provider in take(one, 20)] != theirs


# --- any order of events, against a model ---


@dataclass
class Model:
    """What a provider's state should be, told as a story: when it began to cool, for how long, and when it was probed."""

    failures: int = 0
    cooled_at: float | None = None
    cools_for: float = 0.0
    probed_at: float | None = None


class Pool(RuleBasedStateMachine):
    """A router and a model of it that is asked the same."""

    RECOVERY = 8.0
    PROVIDERS = st.integers(0, 3)

    @initialize(strategy=st.sampled_from(STRATEGIES), threshold=st.integers(1, 3))
    def start(self, strategy: str, threshold: int) -> None:
        self.clock = FakeClock(0.0)
        self.threshold = threshold
        self.strategy = strategy
        # All alike, the last of no weight: only identity tells them apart.
        self.providers = [ProviderConfig("http://h", weight=weight) for weight in (1, 1, 1, 0)]
        self.router = ProviderRouter(
            self.providers,
            strategy,
            threshold,
            self.RECOVERY,
            clock=self.clock,
            rng=random.Random(3),
            load=lambda provider: 1.0,
        )
        self.models = [Model() for _ in self.providers]

    def left(self, model: Model) -> float:
        """Seconds until it can be asked."""
        if model.probed_at is not None:
            return max(0.0, model.probed_at + self.RECOVERY - self.clock.now)
        if model.cooled_at is not None:
            return max(0.0, model.cooled_at + model.cools_for - self.clock.now)
        return 0.0

    def position(self, provider: ProviderConfig) -> int:
        return next(number for number, one in enumerate(self.providers) if one is provider)

    def was_chosen(self, model: Model) -> None:
        if model.cooled_at is not None and self.left(model) == 0:
            model.probed_at = self.clock.now

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 8.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(allowed=st.sets(PROVIDERS))
    def choose(self, allowed: set[int]) -> None:
        able = {number for number in allowed if self.left(self.models[number]) == 0}
        chosen = self.router.choose(lambda provider: self.position(provider) in allowed)
        if chosen is None:
            assert not able
            return
        number = self.position(chosen)
        assert number in able
        if self.strategy == "fallback":
            assert number == min(able)
        if self.strategy == "weighted" and able != {3}:
            assert number != 3
        self.was_chosen(self.models[number])

    @rule()
    def get_next(self) -> None:
        model = self.models[self.position(self.router.get_next())]
        assert self.left(model) == min(self.left(one) for one in self.models)
        self.was_chosen(model)

    @rule(number=PROVIDERS)
    def success(self, number: int) -> None:
        came_back = self.router.mark_success(self.providers[number])
        assert came_back == (self.models[number].cooled_at is not None)
        self.models[number] = Model()

    @rule(number=PROVIDERS, times=st.integers(1, 3))
    def failure(self, number: int, times: int) -> None:
        for _ in range(times):
            self.fail_once(self.models[number], self.router.mark_failed(self.providers[number]))

    def fail_once(self, model: Model, cools: bool) -> None:
        model.failures += 1
        is_first = model.cooled_at is None and model.failures >= self.threshold
        assert cools == (is_first or model.probed_at is not None)
        if cools:
            model.cooled_at, model.cools_for, model.probed_at = self.clock.now, self.RECOVERY, None

    @rule(number=PROVIDERS, seconds=st.sampled_from([0.0, 2.0, 100.0]))
    def failure_for_long(self, number: int, seconds: float) -> None:
        model = self.models[number]
        model.failures += 1
        is_longer = (
            model.cooled_at is None
            or model.probed_at is not None
            or self.clock.now + seconds > model.cooled_at + model.cools_for
        )
        assert self.router.mark_failed(self.providers[number], cool_for=seconds) == is_longer
        if is_longer:
            model.cooled_at, model.cools_for, model.probed_at = self.clock.now, seconds, None

    @rule(number=PROVIDERS)
    def release(self, number: int) -> None:
        model = self.models[number]
        assume(model.cooled_at is not None)
        self.router.release_probe(self.providers[number])
        if model.probed_at is not None:
            model.cooled_at, model.cools_for, model.probed_at = self.clock.now, 0.0, None

    @invariant()
    def router_and_model_agree(self) -> None:
        for provider, model, told in zip(self.providers, self.models, self.router.stats["providers"], strict=True):
            left = self.left(model)
            state = (
                "ready"
                if model.cooled_at is None
                else "probing"
                if model.probed_at is not None and left > 0
                else "cooling"
            )
            assert (self.router.state(provider), self.router.returns_in(provider)) == (state, left)
            assert (told["state"], told["returns_in"], told["failures"]) == (state, left, model.failures)
        waits = [self.left(model) for model in self.models if model.cooled_at is not None]
        assert self.router.next_return() == min(waits, default=None)
        healthy = [self.position(one) for one in self.router.get_all_healthy()]
        assert healthy == [number for number, model in enumerate(self.models) if self.left(model) == 0]


TestAnyOrderOfEvents = pytest.mark.slow(Pool.TestCase)
TestAnyOrderOfEvents.settings = settings(max_examples=examples(80), stateful_step_count=40)
