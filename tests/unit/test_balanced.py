"""Several endpoints as one: who is asked, who waits for whom, and that no place and no wake-up is ever lost.

Endpoints have no network. Where one thread is enough, whoever waits moves the clock; where several meet, the clock stands.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from fake_endpoint import SECRET, FakeTransport, Middle, PlainProvider, Reply, events, ok
from fakes import LONGEST_WAIT, FakeClock, eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.backends import Attempts, Endpoint, PoolOptions
from flexllm.backends.balanced import Balancer
from flexllm.backends.reasons import LONG_COOLING
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk
from flexllm.errors import (
    AllEndpointsFailed,
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    RequestCancelled,
    RequestError,
    ServerError,
    StreamBroken,
)
from flexllm.limits import Gate, RateLimit
from flexllm.limits.line import Turn
from flexllm.retry import RetryPolicy
from flexllm.wire import HttpRequest, HttpResponse, Target

REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], "some-model")


class Server(FakeTransport):
    """A transport that gives the same answer for ever: a reply, an error to raise, or what a function returns.

    Attributes:
        answer: May be changed at any time; None is an ordinary answer.
    """

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def _next(self, request: HttpRequest, *about: Any) -> Any:
        self.sent.append(request)
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return Reply(events("Hello", "END")) if request.body == b"stream" else ok()
        return answer


class Bench:
    """A balancer over endpoints called a, b, c, ..., and attempts over it.

    Args:
        answers: What each server gives.
        concurrency: Of each endpoint, or one number for all.
        retries, total: The retry policy; pauses without spread, from 4 seconds.
        options: Those of the pool.
    """

    def __init__(
        self,
        *answers: Any,
        concurrency: int | tuple[int, ...] = 2,
        retries: int = 3,
        total: float | None = 600.0,
        weights: tuple[float, ...] = (),
        clock: Callable[[], float] | None = None,
        sleep: Callable[[Turn], object] = Turn.sleep,
        **options: Any,
    ) -> None:
        self.clock = FakeClock()
        self.servers = [Server(answer) for answer in answers]
        each = (concurrency,) * len(answers) if isinstance(concurrency, int) else concurrency
        time_of = clock or self.clock
        self.endpoints = [
            Endpoint(
                PlainProvider(),
                Target(base_url=f"http://{name}/v1", api_key=SECRET),
                server,  # type: ignore[arg-type]
                Gate(RateLimit(concurrency=places, adaptive=False), clock=time_of),
                weight=weights[position] if weights else 1.0,
                clock=time_of,
            )
            for position, (name, server, places) in enumerate(zip("abcdefgh", self.servers, each, strict=False))
        ]
        self.distribute = options.pop("distribute", True)
        self.balancer = Balancer(self.endpoints, PoolOptions(**options), clock=time_of, sleep=sleep)
        retry = RetryPolicy(retry_times=retries, retry_delay=4.0, total_timeout=total)
        self.attempts = Attempts(
            self.balancer, retry, distribute=self.distribute, rng=Middle(), sleep=self.clock.sleep, clock=time_of
        )

    def name(self, endpoint: Endpoint) -> str:
        return "abcdefgh"[self.endpoints.index(endpoint)]

    def take(self, *failed: Endpoint, cancel: CancelToken | None = None, until: float | None = None) -> Endpoint:
        return self.balancer.take(failed, cancel, until, self.distribute)

    def turns(self, number: int) -> str:
        """Who is asked, one after the other."""
        names = ""
        for _ in range(number):
            endpoint = self.take()
            names += self.name(endpoint)
            self.balancer.give(endpoint, None)
        return names

    def fill(self, number: int) -> str:
        """Who is asked, all at the same time."""
        return "".join(self.name(self.take()) for _ in range(number))

    def complete(self, cancel: CancelToken | None = None) -> ChatCompletionResult:
        return self.attempts.complete(REQUEST, cancel)

    def fail(self, cancel: CancelToken | None = None) -> Any:
        with pytest.raises(FlexLLMError) as caught:
            self.complete(cancel)
        return caught.value

    @property
    def sent(self) -> list[int]:
        return [len(server.sent) for server in self.servers]

    def states(self) -> list[str]:
        return [one.state for one in self.balancer.health()]

    def is_idle(self) -> bool:
        """Nothing is taken, and nobody waits."""
        balancer = self.balancer
        is_free = not any(balancer._taken.values()) and not balancer._taken_in_all
        return is_free and not balancer._line and not balancer._waiting

    def waiting(self, number: int) -> bool:
        """Wait until so many stand in line, each with its time set."""
        return eventually(lambda: len(self.balancer._line) == number)


class Patience:
    """Whoever waits moves the clock by the time that it was told to wait at most.

    Attributes:
        waits: Those times, in order.
        meanwhile: Called when somebody waits, before the clock moves.
    """

    def __init__(self) -> None:
        self.clock: FakeClock
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self._seconds: dict[Turn, float] = {}

    def of(self, bench: Bench) -> Bench:
        self.clock = bench.clock
        return bench

    def sleep(self, turn: Turn) -> None:
        self.waits.append(turn.seconds)
        assert len(self.waits) < 1000, "it polls"
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if turn.seconds < math.inf:
            self.clock.advance(turn.seconds)


class Told:
    """Notes down how long each that waits was told to sleep at most, and lets it sleep until it is woken."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def sleep(self, turn: Turn) -> None:
        self.seconds.append(turn.seconds)
        Turn.sleep(turn)


@pytest.fixture
def patience() -> Patience:
    return Patience()


class Threads:
    """Runs each call in a thread that does not outlive a failing test."""

    def submit(self, call: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(call(*args, **options))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future


@pytest.fixture
def threads() -> Threads:
    return Threads()


def soon(future: Future[Any]) -> Any:
    return future.result(LONGEST_WAIT)


def broken() -> Exception:
    return ConnectionFailed("nothing came back")


def status(code: int, text: str = "no", **headers: str) -> HttpResponse:
    return ok(text, code, **headers)


def cool(bench: Bench, *positions: int, error: Callable[[], Exception] = broken, times: int = 3) -> None:
    """Have endpoints fail as often as it takes for them to be left alone."""
    for position in positions:
        for _ in range(times):
            with bench.balancer._lock:
                bench.balancer._reserve(bench.endpoints[position])
            bench.balancer.give(bench.endpoints[position], error())


# --- options


@pytest.mark.parametrize(
    "options",
    [
        {"fallback": "yes"},
        {"total_concurrency_limit": 0},
        {"total_concurrency_limit": True},
        {"total_concurrency_limit": 2.5},
        {"total_max_qps": 0},
        {"total_max_qps": "10"},
        {"load_balance": "fastest"},
        {"load_balance": None},
        {"failure_threshold": 0},
        {"recovery_time": -1},
        {"recovery_time": math.nan},
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Bench(None, None, **options)


# --- strategies


def test_round_robin_takes_each_in_turn() -> None:
    assert Bench(None, None, None).turns(7) == "abcabca"


def test_weighted_goes_by_weight() -> None:
    bench = Bench(None, None, weights=(3.0, 1.0), load_balance="weighted", concurrency=10)
    bench.balancer.router._rng.seed(1)
    counts = Counter(bench.turns(400))

    assert 2.0 < counts["a"] / counts["b"] < 4.5


def test_random_takes_all() -> None:
    bench = Bench(None, None, None, load_balance="random")
    bench.balancer.router._rng.seed(1)

    assert min(Counter(bench.turns(300)).values()) > 60


def test_fallback_takes_the_first_that_is_well() -> None:
    bench = Bench(None, None, load_balance="fallback")

    assert bench.turns(3) == "aaa"
    cool(bench, 0)
    assert bench.turns(3) == "bbb"


def test_least_busy_goes_by_latency_and_by_free_places() -> None:
    bench = Bench(None, None, None, load_balance="least_busy", concurrency=(4, 4, 8))
    for endpoint, latency in zip(bench.endpoints, (0.8, 0.2, 0.2), strict=True):
        endpoint.passages.latency = latency

    assert Counter(bench.fill(9)) == {"c": 6, "b": 3}  # two places at c are worth one at b, and a is too slow


@pytest.mark.parametrize("strategy", ["round_robin", "weighted", "random", "least_busy"])
def test_rows_go_where_there_is_room(strategy: str) -> None:
    bench = Bench(None, None, None, load_balance=strategy, concurrency=(1, 4, 2))

    assert Counter(bench.fill(7)) == {"a": 1, "b": 4, "c": 2}


def test_an_undistributed_row_waits_for_the_endpoint_that_the_strategy_names(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=1, distribute=False)
    first = bench.take()
    bench.balancer.give(bench.take(), None)
    waiting = threads.submit(bench.take)

    assert bench.waiting(1)  # although b is free
    bench.balancer.give(first, None)
    assert bench.name(soon(waiting)) == "a"


def test_fallback_waits_for_the_first_even_if_the_second_is_free(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=1, load_balance="fallback")
    first = bench.take()
    waiting = threads.submit(bench.take)

    assert bench.waiting(1)
    bench.balancer.give(first, None)
    assert bench.name(soon(waiting)) == "a"


@pytest.mark.parametrize("options", [{"load_balance": "fallback"}, {"distribute": False}])
def test_who_waits_for_one_endpoint_goes_elsewhere_when_it_fails(threads: Threads, options: dict[str, Any]) -> None:
    bench = Bench(None, None, concurrency=1, failure_threshold=1, **options)
    first = bench.take()
    if options.get("distribute") is False:
        bench.balancer.give(bench.take(), None)
    waiting = threads.submit(bench.take)
    assert bench.waiting(1)

    bench.balancer.give(first, broken())

    assert bench.name(soon(waiting)) == "b"


def test_fallback_goes_back_to_the_first_when_it_is_well_again(threads: Threads) -> None:
    bench = Bench(None, None, None, concurrency=1, load_balance="fallback", failure_threshold=1)
    late = bench.take()
    cool(bench, 0, 2, times=1)
    assert bench.name(bench.take()) == "b"
    waiting = threads.submit(bench.take)
    assert bench.waiting(1)

    bench.balancer.give(late, None)  # sent before it failed, and answered now

    assert bench.name(soon(waiting)) == "a"


# --- limits over all


def test_the_total_limit_holds_over_all(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=2, total_concurrency_limit=1)
    only = bench.take()
    waiting = threads.submit(bench.take)

    assert bench.waiting(1)
    bench.balancer.give(only, None)
    bench.balancer.give(soon(waiting), None)
    assert bench.is_idle()


def test_the_total_rate_is_exact(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, concurrency=2, total_max_qps=4, sleep=patience.sleep))
    starts = []
    for _ in range(9):
        starts.append(bench.clock.now)
        bench.complete()

    bench.complete()
    assert bench.clock.now - starts[0] == pytest.approx(9 / 4)
    assert sorted(bench.sent) == [5, 5]


def slow(bench: Bench, patience: Patience, position: int, **limits: Any) -> None:
    """Give an endpoint a gate that lets requests through at a rate."""
    limit = RateLimit(concurrency=4, **{"adaptive": False, **limits})
    bench.endpoints[position].gate = Gate(limit, clock=bench.clock, sleep=patience.sleep)


def test_a_row_does_not_wait_for_the_rate_of_one_endpoint_while_another_is_free(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, sleep=patience.sleep))
    slow(bench, patience, 0, max_qps=0.1)
    for _ in range(6):
        bench.complete()
    assert bench.sent == [1, 5]

    bench.clock.advance(10.0)
    for _ in range(2):
        bench.complete()
    assert bench.sent == [2, 6]
    assert patience.waits == []


def test_no_more_rows_go_to_a_slow_endpoint_than_its_rate_lets_through_soon(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, concurrency=4, sleep=patience.sleep))
    slow(bench, patience, 0, max_qps=1.0)

    assert "".join(bench.name(bench.take()) for _ in range(6)) == "ababbb"


def test_rows_that_all_rates_hold_up_keep_to_them(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, sleep=patience.sleep))
    for position in (0, 1):
        slow(bench, patience, position, max_qps=0.1)
    start = bench.clock.now
    for _ in range(6):
        bench.complete()

    assert bench.clock.now - start == pytest.approx(20.0)
    assert bench.sent == [3, 3]
    assert bench.is_idle()


def test_a_row_that_waited_for_the_rate_does_not_go_to_an_endpoint_that_failed_meanwhile(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, total_max_qps=0.1, failure_threshold=1, sleep=patience.sleep))
    bench.complete()  # at a
    bench.complete()  # at b
    patience.meanwhile = lambda: cool(bench, 0, times=1)

    bench.complete()

    assert bench.sent == [1, 2]
    assert bench.is_idle()


def test_a_row_that_was_never_sent_waits_for_the_rate_as_long_as_it_takes(patience: Patience) -> None:
    bench = patience.of(Bench(None, total_max_qps=0.01, total=30.0, sleep=patience.sleep))
    for _ in range(3):
        bench.complete()

    assert bench.sent == [3]


def test_the_wait_for_the_rate_is_not_taken_from_the_time_of_a_row_that_was_never_sent(patience: Patience) -> None:
    bench = patience.of(Bench(None, concurrency=5, total_max_qps=0.01, sleep=patience.sleep))
    endpoint = bench.take()
    patience.meanwhile = lambda: bench.balancer.router.mark_failed(endpoint, cool_for=103.0)
    assert (
        bench.take(until=bench.clock() + 10.0) is endpoint
    )  # after 100 s for the rate, and 3 s until it is well again


def test_a_cancel_while_waiting_for_the_rate_frees_the_place(patience: Patience) -> None:
    bench = patience.of(Bench(None, total_max_qps=0.01, sleep=patience.sleep))
    bench.complete()
    cancel = CancelToken()
    patience.meanwhile = cancel.stop

    with pytest.raises(RequestCancelled):
        bench.complete(cancel)

    assert bench.sent == [1]
    assert bench.is_idle()


# --- rows that fail


def test_a_failed_row_goes_on_at_once_to_an_endpoint_that_has_not_failed_it() -> None:
    bench = Bench(broken(), broken(), None)
    result = bench.complete()

    assert result.attempts == 3
    assert bench.sent == [1, 1, 1]
    assert bench.clock.sleeps == []


@pytest.mark.parametrize(("endpoints", "retries", "sent"), [(2, 3, 4), (2, 0, 2), (3, 1, 3), (3, 5, 6), (1, 2, 3)])
def test_the_retry_budget_is_shared(endpoints: int, retries: int, sent: int) -> None:
    bench = Bench(*[broken()] * endpoints, retries=retries, failure_threshold=10)
    error = bench.fail()

    assert sum(bench.sent) == sent
    assert max(bench.sent) - min(bench.sent) <= 1
    assert error.attempts == sent
    assert isinstance(error, ConnectionFailed if endpoints == 1 else AllEndpointsFailed)
    assert bench.is_idle()


def test_pauses_begin_when_every_endpoint_has_failed_the_row() -> None:
    bench = Bench(broken(), broken(), retries=3, failure_threshold=10)
    bench.fail()

    assert bench.clock.sleeps == [4.0, 8.0]


def test_without_fallback_a_row_stays_where_it_is() -> None:
    bench = Bench(broken(), None, fallback=False, retries=2, failure_threshold=10)

    assert isinstance(bench.fail(), ConnectionFailed)
    assert bench.sent == [3, 0]


def test_a_refused_request_is_sent_nowhere_else_and_harms_no_endpoint() -> None:
    bench = Bench(status(400), None, failure_threshold=1)

    assert isinstance(bench.fail(), BadRequest)
    assert bench.sent == [1, 0]
    assert bench.states() == ["ready", "ready"]


def test_a_request_that_cannot_be_built_harms_no_endpoint() -> None:
    bench = Bench(None, None, failure_threshold=1)
    request = ChatRequest([{"role": "user", "content": "Hi"}], "some-model", {"refuse": True})
    with pytest.raises(FlexLLMError, match="cannot be expressed"):
        bench.attempts.complete(request)

    assert bench.sent == [0, 0]
    assert bench.states() == ["ready", "ready"]
    assert bench.is_idle()


def test_the_error_of_all_names_each_with_its_reason() -> None:
    bench = Bench(broken(), status(500, "out of order"), retries=0)
    error = bench.fail()

    assert [type(one) for one in error.errors] == [ConnectionFailed, ServerError]
    assert "all 2 endpoints" in str(error)
    assert "http://a/v1" in str(error)
    assert "nothing came back" in str(error)
    assert "http://b/v1" in str(error)
    assert "out of order" in str(error)
    assert SECRET not in str(error)


def test_the_error_of_some_says_why_the_others_were_not_asked() -> None:
    bench = Bench(broken(), None, retries=0)
    cool(bench, 1, error=lambda: AuthenticationFailed("wrong key", status=401), times=1)
    error = bench.fail()

    assert "1 of 2 endpoints failed" in str(error)
    assert "http://b/v1 is left alone for 3600 s (wrong key)" in str(error)


# --- streams


def test_a_stream_goes_on_elsewhere_before_its_first_piece() -> None:
    bench = Bench(broken(), Reply(broken()), None)
    pieces = list(bench.attempts.stream(REQUEST))

    assert [one.content for one in pieces if isinstance(one, Chunk)] == ["Hello"]
    assert isinstance(pieces[-1], ChatCompletionResult)
    assert pieces[-1].attempts == 3
    assert bench.is_idle()


def test_a_stream_goes_nowhere_else_after_its_first_piece() -> None:
    bench = Bench(Reply(events("Hel"), broken()), None, failure_threshold=1)
    seen = []
    with pytest.raises(StreamBroken) as caught:
        for one in bench.attempts.stream(REQUEST):
            seen.append(one)

    assert [one.content for one in seen if isinstance(one, Chunk)] == ["Hel"]
    assert caught.value.partial == "Hel"
    assert bench.sent == [1, 0]
    assert bench.states() == ["cooling", "ready"]
    assert bench.is_idle()


def test_a_stream_that_is_left_gives_its_place_back() -> None:
    bench = Bench(Reply(events("Hel", "lo", "END")), concurrency=1)
    stream = bench.attempts.stream(REQUEST)
    next(stream)
    assert not bench.is_idle()

    stream.close()  # type: ignore[attr-defined]

    assert bench.is_idle()
    assert bench.states() == ["ready"]


# --- cooling and coming back


def test_an_endpoint_that_fails_is_left_alone_probed_by_one_and_comes_back() -> None:
    bench = Bench(broken(), None, failure_threshold=3, recovery_time=60.0)
    while bench.states()[0] == "ready":
        bench.complete()
    assert bench.sent[0] == 3

    bench.clock.advance(59.9)
    assert bench.turns(4) == "bbbb"
    bench.clock.advance(0.1)
    probe = bench.take()
    assert bench.name(probe) == "a"
    assert bench.states()[0] == "probing"
    assert bench.turns(4) == "bbbb"

    bench.balancer.give(probe, broken())
    assert bench.turns(4) == "bbbb"
    bench.clock.advance(60.0)
    probe = bench.take()
    assert bench.name(probe) == "a"
    bench.balancer.give(probe, None)
    assert Counter(bench.turns(8)) == {"a": 4, "b": 4}


def test_a_probe_that_hangs_is_followed_by_another() -> None:
    bench = Bench(None, None, recovery_time=60.0)
    cool(bench, 0)
    bench.clock.advance(60.0)
    hanging = bench.take()
    assert bench.name(hanging) == "a"
    assert bench.turns(2) == "bb"
    bench.clock.advance(60.0)

    second = bench.take()
    assert bench.name(second) == "a"
    bench.balancer.give(second, None)
    assert bench.states()[0] == "ready"
    bench.balancer.give(hanging, broken())
    assert bench.states()[0] == "ready"


def test_a_cancelled_probe_leaves_the_next_row_to_try() -> None:
    bench = Bench(None, None)
    cool(bench, 0)
    bench.clock.advance(60.0)
    bench.balancer.give(bench.take(), RequestCancelled("stopped"))

    assert bench.states()[0] == "cooling"
    assert bench.turns(2) == "ba"


@pytest.mark.parametrize(("code", "text"), [(401, "who?"), (402, "pay"), (403, "no"), (404, "where?"), (429, "quota")])
def test_an_endpoint_that_answers_nobody_is_left_alone_for_long(code: int, text: str) -> None:
    bench = Bench(status(code, text), None, recovery_time=60.0, retries=0)

    assert bench.complete().attempts == 2
    assert [bench.complete().attempts for _ in range(4)] == [1] * 4
    assert bench.sent == [1, 5]
    assert bench.balancer.health()[0].returns_in == LONG_COOLING
    bench.clock.advance(LONG_COOLING)
    assert bench.take() is bench.endpoints[0]


def test_an_endpoint_is_left_alone_for_as_long_as_it_asks_if_nobody_would_wait_so_long() -> None:
    bench = Bench(status(429, retry_after="86400"), None)
    bench.complete()

    assert bench.balancer.health()[0].returns_in == 86400
    assert bench.turns(3) == "bbb"


def test_that_an_endpoint_is_left_alone_is_said_once_for_all_that_were_on_their_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(None, None, failure_threshold=1, recovery_time=0.5)
    under_way = [bench.take() for _ in range(4)]
    for endpoint in under_way:
        bench.balancer.give(endpoint, AuthenticationFailed("wrong key", status=401))

    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"http://{name}/v1 is left alone for 3600 s: wrong key" for name in "ab"]


def test_a_probe_that_fails_is_said_and_a_short_time_is_not_rounded_away(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(None, failure_threshold=1, recovery_time=0.5)
    for _ in range(2):
        bench.balancer.give(bench.take(), broken())
        bench.clock.advance(0.5)

    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["http://a/v1 is left alone for 0.5 s: nothing came back"] * 2


def test_no_key_is_logged_that_a_server_repeats(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(status(401, f"the key {SECRET} is wrong"), None)
    with caplog.at_level(logging.INFO, "flexllm"):
        bench.complete()

    assert "is left alone" in caplog.text
    assert SECRET not in caplog.text


def test_a_refusal_closes_one_endpoint_and_is_no_failure() -> None:
    bench = Bench(status(429, retry_after="5"), None, failure_threshold=1, concurrency=4)

    assert bench.complete().attempts == 2
    assert bench.states() == ["waiting", "ready"]
    assert bench.turns(4) == "bbbb"
    bench.clock.advance(5.0)
    assert Counter(bench.turns(4)) == {"a": 2, "b": 2}


def test_while_all_cool_the_first_to_return_is_waited_for(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, recovery_time=60.0, sleep=patience.sleep))
    cool(bench, 0)
    bench.clock.advance(20.0)
    cool(bench, 1)

    assert bench.complete().attempts == 1
    assert bench.sent == [1, 0]
    assert patience.waits == [40.0]


def test_while_all_are_closed_the_first_to_open_is_waited_for(patience: Patience) -> None:
    bench = patience.of(
        Bench(status(429, retry_after="9"), status(429, retry_after="7"), retries=0, sleep=patience.sleep)
    )
    bench.fail()
    for server in bench.servers:
        server.answer = None

    bench.complete()
    assert bench.sent == [1, 2]
    assert patience.waits == [7.0]


def test_a_row_fails_at_once_if_none_returns_in_its_time(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, recovery_time=60.0, total=59.0, sleep=patience.sleep))
    cool(bench, 0)
    cool(bench, 1, error=lambda: AuthenticationFailed("wrong key", status=401), times=1)
    error = bench.fail()

    assert isinstance(error, AllEndpointsFailed)
    assert "no endpoint can be asked within 59 s" in str(error)
    assert "http://a/v1 is left alone for 60 s (nothing came back)" in str(error)
    assert "http://b/v1 is left alone for 3600 s (wrong key)" in str(error)
    assert error.attempts == 0
    assert bench.sent == [0, 0]
    assert patience.waits == []
    assert bench.is_idle()


def test_a_refusal_is_the_reason_where_all_are_closed(patience: Patience) -> None:
    bench = patience.of(Bench(status(429, "slow down", retry_after="50"), retries=0, total=30.0, sleep=patience.sleep))
    bench.fail()

    assert "is left alone for 50 s (HTTP 429: slow down)" in str(bench.fail())


def test_a_reason_is_forgotten_once_the_endpoint_answers(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, concurrency=1, sleep=patience.sleep))
    cool(bench, 0, 1, times=1)
    assert bench.turns(1) == "a"
    held = bench.take(), bench.take()
    with pytest.raises(AllEndpointsFailed) as caught:
        bench.take(*held, until=bench.clock.now + 30.0)

    assert "http://a/v1 is busy; http://b/v1 is busy (nothing came back)" in str(caught.value)


def test_a_row_that_was_sent_counts_its_attempts_when_none_returns_in_its_time(patience: Patience) -> None:
    bench = patience.of(Bench(broken(), recovery_time=60.0, total=50.0, failure_threshold=1, sleep=patience.sleep))
    error = bench.fail()

    assert error.attempts == 1
    assert bench.sent == [1]
    assert [type(one) for one in getattr(error, "errors", [error])] == [ConnectionFailed]


def test_whoever_waits_does_not_give_up_while_a_probe_is_under_way(threads: Threads) -> None:
    bench = Bench(None, recovery_time=60.0)
    cool(bench, 0)
    bench.clock.advance(60.0)
    probe = bench.take(until=bench.clock.now + 10)
    waiting = [threads.submit(bench.take, until=bench.clock.now + 10) for _ in range(2)]
    assert bench.waiting(2)

    bench.balancer.give(probe, None)

    assert [soon(one) for one in waiting] == [bench.endpoints[0]] * 2


def test_with_a_probe_that_fails_those_give_up_who_have_no_time_left(threads: Threads) -> None:
    bench = Bench(None, recovery_time=60.0)
    cool(bench, 0)
    bench.clock.advance(60.0)
    probe = bench.take(until=bench.clock.now + 10)
    waiting = [threads.submit(bench.take, until=bench.clock.now + 10) for _ in range(3)]
    assert bench.waiting(3)

    bench.balancer.give(probe, broken())

    for one in waiting:
        assert isinstance(one.exception(LONGEST_WAIT), AllEndpointsFailed)
    assert bench.is_idle()


def test_a_row_without_fallback_does_not_wait_for_endpoints_that_it_cannot_use(patience: Patience) -> None:
    bench = patience.of(
        Bench(broken(), None, fallback=False, failure_threshold=1, recovery_time=60.0, total=50.0, sleep=patience.sleep)
    )
    error = bench.fail()

    assert patience.waits == []
    assert error.attempts == 1
    assert bench.sent == [1, 0]


# --- waiting in line


def test_who_waits_is_served_in_order(threads: Threads) -> None:
    bench = Bench(None, concurrency=1)
    held = bench.take()
    served: list[int] = []

    def wait(number: int) -> None:
        endpoint = bench.take()
        served.append(number)
        bench.balancer.give(endpoint, None)

    waiting = []
    for number in range(4):
        waiting.append(threads.submit(wait, number))
        assert bench.waiting(number + 1)
    bench.balancer.give(held, None)
    for one in waiting:
        soon(one)

    assert served == [0, 1, 2, 3]
    assert bench.is_idle()


def test_a_row_that_failed_elsewhere_goes_before_those_that_were_never_sent(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=1)
    a, b = bench.endpoints
    held = {bench.take(), bench.take()}
    assert held == {a, b}
    fresh = threads.submit(bench.take)
    assert bench.waiting(1)
    again = threads.submit(bench.take, a)
    assert bench.waiting(2)

    bench.balancer.give(b, None)
    assert soon(again) is b
    assert not fresh.done()
    bench.balancer.give(a, None)
    assert soon(fresh) is a


def test_a_row_that_waits_for_one_endpoint_does_not_keep_others_from_another(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=1)
    a, b = bench.endpoints
    assert {bench.take(), bench.take()} == {a, b}
    picky = threads.submit(bench.take, a)  # only b has not failed it
    assert bench.waiting(1)
    bench.balancer.give(a, None)  # which it does not need

    other = threads.submit(bench.take)

    assert soon(other) is a
    assert not picky.done()
    bench.balancer.give(b, None)
    assert soon(picky) is b


def test_who_waits_for_room_is_told_when_an_endpoint_closes_meanwhile(threads: Threads) -> None:
    told = Told()
    bench = Bench(status(429, retry_after="5"), concurrency=1, retries=0, sleep=told.sleep)
    held = bench.take()
    cancel = CancelToken()
    waiting = threads.submit(bench.take, cancel=cancel)
    assert eventually(lambda: told.seconds == [math.inf])

    with pytest.raises(RequestError), bench.endpoints[0].gate.permit() as permit:
        error = PlainProvider().error(status(429, retry_after="5"))
        error.retry_after = 5.0
        assert permit.is_held
        raise error
    bench.balancer.give(held, error)

    assert eventually(lambda: told.seconds[-1] == 5.0)  # else it would sleep for ever, with nobody to wake it
    cancel.stop()
    assert isinstance(waiting.exception(LONGEST_WAIT), RequestCancelled)


def test_who_waits_for_room_is_told_when_an_endpoint_cools_meanwhile(threads: Threads) -> None:
    told = Told()
    bench = Bench(None, concurrency=1, recovery_time=60.0, failure_threshold=1, sleep=told.sleep)
    held = bench.take()
    cancel = CancelToken()
    waiting = threads.submit(bench.take, cancel=cancel)
    assert eventually(lambda: told.seconds == [math.inf])

    bench.balancer.give(held, broken())

    assert eventually(lambda: told.seconds[-1] == 60.0)
    cancel.stop()
    assert isinstance(waiting.exception(LONGEST_WAIT), RequestCancelled)


def test_when_the_first_in_line_leaves_the_next_keeps_an_eye_on_the_clock(threads: Threads) -> None:
    told = Told()
    bench = Bench(None, recovery_time=60.0, failure_threshold=1, sleep=told.sleep)
    cool(bench, 0, times=1)
    first, second = CancelToken(), CancelToken()
    leaving = threads.submit(bench.take, cancel=first)
    assert eventually(lambda: told.seconds == [60.0])
    staying = threads.submit(bench.take, cancel=second)
    assert eventually(lambda: told.seconds == [60.0, math.inf])

    first.stop()

    assert isinstance(leaving.exception(LONGEST_WAIT), RequestCancelled)
    assert eventually(lambda: told.seconds[2:] == [60.0])
    second.stop()
    assert isinstance(staying.exception(LONGEST_WAIT), RequestCancelled)
    assert bench.is_idle()


def test_when_the_first_in_line_is_served_the_next_keeps_an_eye_on_the_clock(threads: Threads) -> None:
    told = Told()
    bench = Bench(None, None, concurrency=1, recovery_time=60.0, failure_threshold=1, sleep=told.sleep)
    held = bench.take()
    cool(bench, 1, times=1)
    first = threads.submit(bench.take)
    assert eventually(lambda: told.seconds == [60.0])
    cancel = CancelToken()
    second = threads.submit(bench.take, cancel=cancel)
    assert eventually(lambda: told.seconds == [60.0, math.inf])

    bench.balancer.give(held, None)

    assert soon(first) is held
    assert eventually(lambda: told.seconds[2:] == [60.0])
    cancel.stop()
    assert isinstance(second.exception(LONGEST_WAIT), RequestCancelled)


def test_a_row_that_was_never_sent_waits_for_room_as_long_as_it_takes(patience: Patience) -> None:
    bench = patience.of(Bench(None, concurrency=1, sleep=patience.sleep))
    held = bench.take()

    def nothing() -> None:
        patience.meanwhile = nothing if len(patience.waits) < 2 else lambda: bench.balancer.give(held, None)

    patience.meanwhile = nothing
    assert bench.take(until=bench.clock.now + 30.0) is held
    assert len(patience.waits) == 3


def test_a_row_that_failed_does_not_wait_for_room_beyond_its_time(patience: Patience) -> None:
    bench = patience.of(Bench(None, None, concurrency=1, sleep=patience.sleep))
    held = bench.take(), bench.take()
    with pytest.raises(AllEndpointsFailed, match="is busy"):
        bench.take(held[0], until=bench.clock.now + 30.0)

    assert bench.clock.now == 1030.0


def test_a_cancel_ends_the_wait_and_leaves_no_trace(threads: Threads) -> None:
    bench = Bench(None, concurrency=1)
    held = bench.take()
    cancel = CancelToken()
    waiting = threads.submit(bench.take, cancel=cancel)
    behind = threads.submit(bench.take)
    assert bench.waiting(2)

    cancel.stop()
    assert isinstance(waiting.exception(LONGEST_WAIT), RequestCancelled)
    assert not cancel._listeners
    bench.balancer.give(held, None)
    bench.balancer.give(soon(behind), None)
    assert bench.is_idle()


def test_a_token_that_is_stopped_already_does_not_wait() -> None:
    bench = Bench(None, concurrency=1)
    held = bench.take()
    cancel = CancelToken()
    cancel.stop()
    with pytest.raises(RequestCancelled):
        bench.take(cancel=cancel)

    bench.balancer.give(held, None)
    assert bench.is_idle()


def test_a_stop_needs_no_lock_and_so_never_waits_for_one(threads: Threads) -> None:
    """A batch that nobody reads any more is stopped by the garbage collector, in any thread."""
    bench, cancel = Bench(None, concurrency=1), CancelToken()
    held = bench.take()
    waiting = threads.submit(bench.take, cancel=cancel)
    assert bench.waiting(1)
    with bench.balancer._lock:
        threads.submit(cancel.stop).result(LONGEST_WAIT)
    assert isinstance(waiting.exception(LONGEST_WAIT), RequestCancelled)
    bench.balancer.give(held, None)
    assert bench.is_idle()


def test_a_stream_that_the_garbage_collector_closes_under_a_lock_gives_its_place_back(threads: Threads) -> None:
    bench = Bench(None, None, concurrency=1)
    balancer, router = bench.balancer, bench.balancer.router
    for endpoint in bench.endpoints:
        router.mark_failed(endpoint, cool_for=1.0)
    bench.clock.advance(2.0)  # both are due: each stream is a probe

    def collected_under_the_lock() -> None:
        for lock in (balancer._lock, router._lock):
            pieces = bench.attempts.stream(REQUEST)
            next(pieces)
            with lock:
                pieces.close()  # type: ignore[attr-defined]

    threads.submit(collected_under_the_lock).result(LONGEST_WAIT)
    balancer._settle()  # as the thread does that held the lock
    assert bench.is_idle()
    assert bench.states() == ["cooling", "cooling"], "due, and no longer probing"


def test_a_stream_that_the_garbage_collector_closes_waits_for_no_lock_of_another_thread(threads: Threads) -> None:
    """Who holds it may wait for one that the collecting thread holds."""
    bench = Bench(None, concurrency=1)
    pieces = bench.attempts.stream(REQUEST)
    next(pieces)
    with bench.balancer._lock:
        threads.submit(pieces.close).result(LONGEST_WAIT)  # type: ignore[attr-defined]
    bench.balancer._settle()  # as the thread does that held the lock
    assert bench.is_idle()


def test_who_waits_gets_the_place_of_a_stream_that_was_closed_while_he_looked(threads: Threads) -> None:
    bench = Bench(None, concurrency=1)
    pieces = bench.attempts.stream(REQUEST)
    next(pieces)
    serve = bench.balancer._serve

    def collected_meanwhile() -> None:
        serve()
        pieces.close()  # type: ignore[attr-defined]

    bench.balancer._serve = collected_meanwhile  # type: ignore[method-assign]
    endpoint = threads.submit(bench.take).result(LONGEST_WAIT)
    bench.balancer.give(endpoint, None)
    assert bench.is_idle()


def test_a_stream_that_is_left_at_its_result_has_freed_its_place_and_counts_as_answered() -> None:
    bench = Bench(None, concurrency=1, failure_threshold=2)
    bench.balancer.router.mark_failed(bench.endpoints[0])
    pieces = bench.attempts.stream(REQUEST)
    assert next(piece for piece in pieces if isinstance(piece, ChatCompletionResult)).content == "Hello"
    assert bench.is_idle()
    bench.balancer.router.mark_failed(bench.endpoints[0])
    assert bench.states() == ["ready"], "the failures were not in a row"


@pytest.mark.parametrize("is_served", [False, True])
def test_ctrl_c_ends_the_wait_and_frees_what_was_given(patience: Patience, is_served: bool) -> None:
    bench = patience.of(Bench(None, concurrency=1, sleep=patience.sleep))
    held = bench.take()

    def interrupt() -> None:
        if is_served:
            bench.balancer.give(held, None)
        raise KeyboardInterrupt

    patience.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.take()

    if not is_served:
        bench.balancer.give(held, None)
    assert bench.is_idle()


def test_a_probe_given_to_a_row_that_was_interrupted_goes_to_the_next(patience: Patience) -> None:
    bench = patience.of(Bench(None, concurrency=1, total_concurrency_limit=1, recovery_time=60.0, sleep=patience.sleep))
    held = bench.take()
    bench.balancer.router.mark_failed(held, cool_for=10.0)

    def interrupt() -> None:
        bench.clock.advance(10.0)
        bench.balancer.give(held, RequestCancelled("stopped"))
        assert bench.states() == ["probing"]
        raise KeyboardInterrupt

    patience.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.take()

    assert bench.is_idle()
    waited = len(patience.waits)
    assert bench.take() is held
    assert len(patience.waits) == waited


# --- second requests


def test_a_second_request_goes_to_another_endpoint_with_room() -> None:
    bench = Bench(None, None, None, concurrency=1)
    busy = bench.take()
    others = {bench.balancer.spare(busy), bench.balancer.spare(busy)}

    assert others == set(bench.endpoints) - {busy}


def test_where_all_are_full_a_second_request_waits_in_the_gate_of_another() -> None:
    bench = Bench(None, None, concurrency=1)
    busy, other = bench.take(), bench.take()

    assert bench.balancer.spare(busy) is other
    bench.balancer.give(other, None)
    bench.balancer.give(other, None)
    bench.balancer.give(busy, None)
    assert bench.turns(4).count("a") == 2


def test_a_second_request_is_no_probe() -> None:
    bench = Bench(None, None)
    cool(bench, 1)
    bench.clock.advance(60.0)

    assert bench.balancer.spare(bench.endpoints[0]) is None


def test_the_only_endpoint_gets_the_second_request_too() -> None:
    bench = Bench(None, concurrency=2)
    busy = bench.take()

    assert bench.balancer.spare(busy) is busy


def test_a_second_request_respects_the_total_limit() -> None:
    bench = Bench(None, None, total_concurrency_limit=1)

    assert bench.balancer.spare(bench.take()) is None


def test_an_answer_to_what_was_sent_before_a_key_was_refused_brings_nothing_back() -> None:
    bench = Bench(None, None)
    a = bench.endpoints[0]
    bench.balancer.give(bench.take(), None)
    taken = [bench.balancer.take((), None, None) for _ in range(4)]
    asked = [one for one in taken if one is a]
    bench.balancer.give(asked[0], AuthenticationFailed("no", status=401))
    bench.balancer.give(asked[1], None)

    assert bench.balancer.router.state(a) == "cooling"


def test_two_endpoints_of_one_place_that_fail_are_two() -> None:
    bench = Bench(status(401, "no"), status(401, "no"))
    twins = [bench.endpoints[0], bench.endpoints[0].lent(None)]
    attempts = Attempts(
        Balancer(twins, PoolOptions(), clock=bench.clock), RetryPolicy(retry_times=0), clock=bench.clock
    )
    with pytest.raises(AllEndpointsFailed, match="all 2 endpoints failed, after 2 attempts"):
        attempts.complete(ChatRequest([{"role": "user", "content": "hi"}], "m"))


# --- odd pools


def test_a_pool_of_one_endpoint_fails_with_its_own_error() -> None:
    bench = Bench(status(500, "out of order"), retries=1, failure_threshold=10)
    error = bench.fail()

    assert isinstance(error, ServerError)
    assert error.attempts == 2


def test_the_same_account_twice_is_two_endpoints() -> None:
    bench = Bench(None)
    twice = (bench.endpoints[0], bench.endpoints[0].lent("m"))
    balancer = Balancer(twice, PoolOptions(), clock=bench.clock)

    assert {balancer.take((), None, None), balancer.take((), None, None)} == set(twice)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_every_place_free() -> None:
    bench = Bench(None, concurrency=1)
    held = bench.take()
    bench.balancer._lock.acquire()  # by a thread that the child does not have
    child = os.fork()
    if child == 0:
        os._exit(0 if bench.take() is held else 1)
    bench.balancer._lock.release()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- many threads


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1_000_000),
    endpoints=st.integers(1, 4),
    concurrency=st.integers(1, 3),
    strategy=st.sampled_from(["round_robin", "weighted", "random", "fallback", "least_busy"]),
    options=st.fixed_dictionaries(
        {
            "fallback": st.booleans(),
            "distribute": st.booleans(),
            "failure_threshold": st.integers(1, 4),
            "recovery_time": st.sampled_from([0.0, 0.002, 0.01]),
            "total_concurrency_limit": st.none() | st.integers(1, 4),
            "total_max_qps": st.none() | st.just(5000.0),
        }
    ),
)
@pytest.mark.slow
def test_whatever_fails_and_is_cancelled_nothing_stays_taken_and_nobody_waits(
    seed: int, endpoints: int, concurrency: int, strategy: str, options: dict[str, Any]
) -> None:
    rng = random.Random(seed)

    def answer() -> Any:
        chance = rng.random()
        if chance < 0.7:
            return None
        if chance < 0.8:
            return status(429, retry_after_ms="2")
        return broken() if chance < 0.95 else status(500)

    bench = Bench(
        *[answer] * endpoints, concurrency=concurrency, clock=time.monotonic, retries=2, total=5.0,
        load_balance=strategy, **options,
    )  # fmt: skip
    bench.attempts.retry = RetryPolicy(retry_times=2, retry_delay=0.001, total_timeout=5.0)
    tokens = [CancelToken() for _ in range(60)]
    left = Counter(range(60))

    def row(number: int) -> None:
        try:
            bench.complete(tokens[number])
        except FlexLLMError:
            pass
        del left[number]

    threads = Threads()
    running = [threads.submit(row, number) for number in range(60)]
    for number in rng.sample(range(60), 15):
        tokens[number].stop()
    for one in running:
        soon(one)

    assert not left
    assert bench.is_idle()
    assert all(one.gate._free == one.gate.limit.concurrency for one in bench.endpoints)
    assert not any(token._listeners for token in tokens)
