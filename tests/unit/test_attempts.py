"""The retry loop: how many attempts, at what times, whom they are sent to, and what comes of them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_endpoint import REQUEST, SECRET, CountingGate, Middle, PlainProvider, Reply, Setup, events, ok
from fakes import WatchClock, eventually

from flexllm.backends.attempts import Attempts
from flexllm.backends.choice import OneEndpoint
from flexllm.backends.endpoint import Endpoint
from flexllm.backends.hedge import HedgePolicy, Hedging
from flexllm.batch.items import BatchItem
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, Chunk, Usage
from flexllm.engines.threads import _answer
from flexllm.errors import (
    AllEndpointsFailed,
    ApiStatusError,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    QuotaExhausted,
    RateLimited,
    RequestCancelled,
    RequestError,
    RequestTimeout,
    ServerError,
    StreamBroken,
)
from flexllm.health import EndpointHealth
from flexllm.limits import Permit, RateLimit
from flexllm.limits.line import Turn as PlaceInLine
from flexllm.prices import Price, PriceOptions
from flexllm.sse import ServerSentEvent
from flexllm.tokens import estimate_prompt_tokens
from flexllm.wire import Headers, HttpResponse

# --- attempts ---------------------------------------------------------------------------------------------------------


def test_an_answer_at_the_first_attempt_is_handed_on() -> None:
    setup = Setup(ok())
    result = setup.complete()
    assert (result.content, result.attempts, result.latency) == ("Hello", 1, 0.5)
    assert (setup.sleeps, setup.gate.taken, setup.gate.held) == ([], 1, 0)
    assert [request.url for request in setup.transport.sent] == ["http://host/v1/say"]


@pytest.mark.parametrize(
    "failure",
    [ConnectionFailed("x"), RequestTimeout("x"), ok("x", 500), ok("x", 503), ok("x", 408), ok("bad")],
    ids=str,
)
def test_what_may_go_away_is_asked_again_until_it_does(failure: Any) -> None:
    setup = Setup(failure, failure, ok())
    result = setup.complete()
    assert (result.content, result.attempts) == ("Hello", 3)
    assert setup.sleeps == [2.0, 4.0]
    assert len(set(setup.transport.sent)) == 1
    assert len(setup.transport.sent) == 3


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_there_are_no_more_attempts_than_one_and_the_retries(retries: int) -> None:
    setup = Setup(*[ok("busy", 503)] * 9, retries=retries)
    error = setup.fail()
    assert len(setup.transport.sent) == setup.gate.taken == retries + 1
    assert len(setup.sleeps) == retries
    assert error.attempts == retries + 1


def test_the_last_error_is_the_one_that_is_raised() -> None:
    error = Setup(ConnectionFailed("first"), ok("second", 500), ok("third", 502)).fail()
    assert isinstance(error, ServerError)
    assert "third" in str(error)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ok("wrong", 400), BadRequest),
        (ok("wrong", 404), ApiStatusError),
        (ok("quota", 429), QuotaExhausted),
        (ok("broke", 402), QuotaExhausted),
        (ok("moved", 308), ApiStatusError),
        (ok("wait", 429, retry_after="601"), RateLimited),
        (ok("never mind", 500, x_should_retry="false"), ServerError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_will_not_go_away_is_asked_once(failure: Any, kind: type[RequestError]) -> None:
    setup = Setup(failure, ok())
    error = setup.fail()
    assert isinstance(error, kind)
    assert (len(setup.transport.sent), error.attempts, setup.sleeps) == (1, 1, [])


def test_the_servers_word_makes_a_refusal_worth_another_attempt() -> None:
    assert Setup(ok("odd", 400, x_should_retry="true"), ok()).complete().attempts == 2


def test_errors_that_are_not_of_one_request_pass_at_once() -> None:
    setup = Setup(ConfigError("wrong proxy"), ok())
    with pytest.raises(ConfigError):
        setup.complete()
    assert (len(setup.transport.sent), setup.gate.held) == (1, 0)


@pytest.mark.parametrize(
    "failure", [ConnectionFailed("x", endpoint="elsewhere"), ok("x", 500), ok("bad"), ok("x", 400)]
)
def test_every_error_names_endpoint_model_and_attempts(failure: Any) -> None:
    error = Setup(failure, failure, retries=1).fail()
    assert (error.endpoint, error.model) == ("http://host/v1", "some-model")
    assert error.attempts == (1 if isinstance(error, BadRequest) else 2)


# --- pauses -----------------------------------------------------------------------------------------------------------


WISHES = pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after": "0"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "Thu, 01 Jan 2015 00:00:00 GMT"}, None),
    ],
)


@WISHES
@pytest.mark.parametrize("status", [500, 502])
def test_the_wish_of_a_server_that_failed_is_waited_out_by_the_row(
    headers: dict[str, str], seconds: float | None, status: int
) -> None:
    setup = Setup(ok("oops", status, **headers), ok())
    assert setup.complete().attempts == 2
    assert (setup.sleeps, setup.gate.waits) == ([seconds or 2.0], [])


@WISHES
@pytest.mark.parametrize("status", [429, 529])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_wish_of_a_server_that_refuses_is_waited_out_in_its_gate(
    headers: dict[str, str], seconds: float | None, status: int, streamed: bool
) -> None:
    replies = [Reply(b"busy", status=status, **headers), Reply(events("END"))]
    setup = Setup(*replies) if streamed else Setup(ok("busy", status, **headers), ok())
    result = setup.stream()[-1] if streamed else setup.complete()
    assert result.attempts == 2
    assert (setup.sleeps, setup.gate.waits) == ([], [pytest.approx(seconds or 4.0)])


def test_a_503_is_a_refusal_where_it_says_when_to_come_back() -> None:
    setup = Setup(ok("busy", 503, retry_after="7"), ok("busy", 503), ok())
    assert setup.complete().attempts == 3
    assert (setup.gate.waits, setup.sleeps) == ([pytest.approx(7.0)], [4.0])
    health = setup.endpoint.health()
    assert (health.sent, health.answered, health.failed, health.refused) == (3, 1, 2, 1)


def test_what_a_provider_reads_from_the_body_beats_the_header() -> None:
    class Knowing(PlainProvider):
        def error(self, response: HttpResponse) -> ApiStatusError:
            error = super().error(response)
            error.retry_after = 11.0
            return error

    setup = Setup(ok("busy", 429, retry_after="7"), ok("oops", 500, retry_after="7"), ok(), provider=Knowing())
    assert setup.complete().attempts == 3
    assert (setup.gate.waits, setup.sleeps) == ([pytest.approx(11.0)], [11.0])


def test_a_row_that_was_refused_goes_before_those_that_were_never_sent() -> None:
    seen: list[bool] = []

    class Noting(CountingGate):
        def enter(self, permit: Permit) -> None:
            seen.append(permit.again)
            super().enter(permit)

    setup = Setup(ok("busy", 429), ok())
    setup.endpoint.gate = Noting(setup.clock)
    setup.complete()
    assert seen == [False, True]


# --- the time of a row ------------------------------------------------------------------------------------------------


def test_no_attempt_has_longer_than_what_is_left_for_all() -> None:
    setup = Setup(ok("x", 500), ok("x", 500), ok(), total=60.0)
    setup.transport.watch = lambda: setup.clock.advance(20.0)
    assert setup.complete().attempts == 3
    assert setup.transport.seconds == [60.0, 60.0 - 20.0 - 2.0, 60.0 - 20.0 - 2.0 - 20.0 - 4.0]


def test_without_a_limit_each_attempt_has_its_own_alone() -> None:
    setup = Setup(ok("x", 500), ok(), total=None)
    setup.transport.watch = lambda: setup.clock.advance(1e6)
    assert setup.complete().attempts == 2
    assert setup.transport.seconds == [None, None]


@pytest.mark.parametrize(
    "failure", [ok("x", 500, retry_after="4"), ok("x", 429, retry_after="4"), RequestTimeout("too slow")], ids=repr
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_no_attempt_starts_when_the_time_for_all_is_over(failure: Any, streamed: bool) -> None:
    if streamed and not isinstance(failure, Exception):
        failure = Reply(b"x", status=failure.status, retry_after="4")
    setup = Setup(failure, failure, ok(), total=50.0, retries=9)
    setup.transport.watch = lambda: setup.clock.advance(22.0)
    error = setup.stream()[-1] if streamed else setup.fail()
    assert len(setup.transport.sent) == error.attempts == 2
    assert str(error).endswith("; no time is left of the 50 s for all attempts (total_timeout)")
    assert setup.clock.now < 1050.0, "it waited for what could not be"


@pytest.mark.parametrize("status", [429, 500])
def test_a_pause_that_takes_all_of_the_time_is_not_begun(status: int) -> None:
    setup = Setup(ok("busy", status, retry_after="50"), ok(), total=50.0)
    error = setup.fail()
    assert (error.attempts, setup.sleeps, setup.gate.waits) == (1, [], [])
    assert str(error).endswith("(total_timeout)")


def test_a_gate_that_stays_closed_is_waited_for_until_the_time_is_over_and_no_longer() -> None:
    """Another row's refusal closes it for longer than this one knew."""
    setup = Setup(ok("x", 429, retry_after="5"), ok(), total=50.0)
    once = threading.Event()

    def close_for_longer() -> None:
        if not once.is_set():
            once.set()
            with pytest.raises(RateLimited), setup.gate.permit():
                raise RateLimited("x", status=429, retry_after=100.0)

    setup.gate._free += 1
    setup.transport.watch = close_for_longer
    error = setup.fail()
    assert isinstance(error, RateLimited)
    assert isinstance(error.__cause__, RequestTimeout)
    assert (error.attempts, setup.clock.now, len(setup.transport.sent)) == (1, 1050.0, 1)
    assert str(error).endswith("(total_timeout)")


def test_what_makes_an_attempt_late_keeps_it_from_being_sent() -> None:
    setup = Setup(ok("x", 500), ok(), total=50.0, authorise=lambda: setup.clock.advance(60.0) or ())
    error = setup.fail()
    assert isinstance(error, ServerError)
    assert (error.attempts, len(setup.transport.sent), setup.gate.held) == (1, 1, 0)
    assert str(error).endswith("(total_timeout)")


def test_the_time_of_a_row_begins_when_it_is_first_sent() -> None:
    setup = Setup(ok("x", 500), ok(), total=50.0)
    with pytest.raises(RateLimited), setup.gate.permit():
        raise RateLimited("x", status=429, retry_after=300.0)
    assert setup.complete().attempts == 2
    assert (setup.gate.waits, setup.transport.seconds) == ([pytest.approx(300.0)], [50.0, 48.0])


def test_a_stream_has_the_time_of_a_row_until_its_first_piece() -> None:
    reply = Reply(b": waiting\n\n", events("a"), lambda: setup.clock.advance(1e6), events("b", "END"))
    setup = Setup(ok("x", 500), reply, total=60.0)
    setup.transport._answers[0] = Reply(b"x", status=500)
    stream = setup.attempts.stream(REQUEST)
    assert not reply.lifted
    assert next(stream).content == "a"
    assert reply.lifted
    assert [getattr(one, "content", one) for one in stream] == ["b", "ab"]
    assert setup.transport.seconds == [60.0, 58.0]


def test_a_piece_that_says_nothing_is_not_the_first() -> None:
    class Opening(PlainProvider):
        def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
            yield Chunk(model="m")
            yield from super().chunks(events)

    reply = Reply(events("a", "END"))
    stream = Setup(reply, provider=Opening()).attempts.stream(REQUEST)
    assert (next(stream).content, reply.lifted) == ("", False)
    assert (next(stream).content, reply.lifted) == ("a", True)


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_stopped_token_sends_nothing() -> None:
    setup = Setup(ok())
    token = CancelToken()
    token.stop()
    error = setup.fail(token)
    assert isinstance(error, RequestCancelled)
    assert (error.attempts, error.endpoint, error.model) == (0, "http://host/v1", "some-model")
    assert (setup.transport.sent, setup.gate.held) == ([], 0)


def test_a_stop_during_the_pause_ends_it_and_tells_what_had_happened() -> None:
    setup = Setup(ok("x", 500), ok("y", 502), ok())
    token = CancelToken()
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 2:
            token.stop()
        return token.stopped

    token.wait = wait  # type: ignore[method-assign]
    error = setup.fail(token)
    assert isinstance(error, RequestCancelled)
    assert error.attempts == 2
    assert isinstance(error.__cause__, ServerError)
    assert (pauses, len(setup.transport.sent), setup.gate.held) == ([2.0, 4.0], 2, 0)


def stopped_in_a_thread(setup: Setup) -> list[RequestError]:
    """The errors of a thread that is stopped after its first request."""
    token, sent = CancelToken(), threading.Event()
    setup.transport.watch = sent.set
    errors: list[RequestError] = []
    thread = threading.Thread(target=lambda: errors.append(setup.fail(token)), daemon=True)
    thread.start()
    assert sent.wait(60.0)
    token.stop()
    thread.join(10.0)
    return errors


def test_a_stop_wakes_a_thread_from_its_pause() -> None:
    setup = Setup(ok("x", 500, retry_after="300"), ok())
    (error,) = stopped_in_a_thread(setup)
    assert isinstance(error, RequestCancelled)
    assert len(setup.transport.sent) == 1


def test_a_stop_wakes_a_thread_that_was_refused_and_waits_in_the_gate() -> None:
    setup = Setup(ok("x", 429, retry_after="300"), ok())
    setup.gate._sleep = PlaceInLine.sleep
    (error,) = stopped_in_a_thread(setup)
    assert isinstance(error, RequestCancelled)
    assert (error.attempts, error.endpoint, len(setup.transport.sent)) == (1, "http://host/v1", 1)


def test_a_stop_while_waiting_for_a_permit_counts_the_attempts_before() -> None:
    setup = Setup(ok("x", 500), ok())
    token = CancelToken()

    def stop_before_the_second_permit() -> None:
        setup.gate.enter = enter  # type: ignore[method-assign]

    def enter(permit: Permit) -> None:
        raise RequestCancelled("stopped while waiting for its turn", attempts=0)

    setup.transport.watch = stop_before_the_second_permit
    token.wait = lambda seconds: False  # type: ignore[method-assign]
    error = setup.fail(token)
    assert isinstance(error, RequestCancelled)
    assert error.attempts == 1


def test_an_abort_while_sending_counts_the_attempt_and_is_not_asked_again() -> None:
    setup = Setup(ok("x", 500), RequestCancelled("stopped while its reply was awaited"), ok())
    token = CancelToken()
    token.wait = lambda seconds: False  # type: ignore[method-assign]
    error = setup.fail(token)
    assert isinstance(error, RequestCancelled)
    assert (error.attempts, len(setup.transport.sent)) == (2, 2)


def test_a_stopped_token_begins_no_stream() -> None:
    setup = Setup(Reply(events("a", "END")))
    token = CancelToken()
    token.stop()
    (error,) = setup.stream(token)
    assert isinstance(error, RequestCancelled)
    assert (error.attempts, setup.transport.sent, setup.gate.held) == (0, [], 0)


def test_an_aborted_stream_is_cancelled_and_not_broken() -> None:
    setup = Setup(Reply(events("a"), RequestCancelled("stopped while its reply was awaited")))
    text, error = setup.stream()
    assert text == "a"
    assert type(error) is RequestCancelled
    assert (error.attempts, error.endpoint) == (1, "http://host/v1")
    assert error.__cause__ is None


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionFailed("x"),
        RequestTimeout("x"),
        Reply(b"x", status=500),
        Reply(b"x", status=503),
        Reply(events("bad")),
        Reply(b""),
        Reply(b": comment\n\n", ConnectionFailed("cut")),
        Reply(ConnectionFailed("cut")),
    ],
    ids=repr,
)
def test_until_the_first_piece_a_stream_is_asked_again(failure: Any) -> None:
    setup = Setup(failure, failure, Reply(events("a", "END")))
    text, result = setup.stream()
    assert (text, result.content, result.attempts) == ("a", "a", 3)
    assert (setup.gate.taken, setup.gate.held, setup.sleeps) == (3, 0, [2.0, 4.0])


@pytest.mark.parametrize("last", [ConnectionFailed("cut"), RequestTimeout("late"), events("bad"), b""], ids=repr)
def test_after_the_first_piece_a_broken_stream_is_not_asked_again(last: Any) -> None:
    setup = Setup(ConnectionFailed("first"), Reply(events("Once", " upon"), last), Reply(events("a", "END")))
    *pieces, error = setup.stream()
    assert pieces == ["Once", " upon"]
    assert type(error) is StreamBroken
    assert error.partial == "Once upon"
    assert (error.attempts, error.endpoint, error.model) == (2, "http://host/v1", "some-model")
    assert isinstance(error.__cause__, RequestError)
    assert str(error.__cause__) in str(error)
    assert (len(setup.transport.sent), setup.gate.held) == (2, 0)


def test_a_broken_stream_keeps_the_servers_id() -> None:
    assert Setup(Reply(events("a", "bad"))).stream()[-1].request_id == "req_bad"


def test_a_refused_stream_is_not_asked_again() -> None:
    setup = Setup(Reply(b"wr", b"ong", status=400), Reply(events("a", "END")))
    (error,) = setup.stream()
    assert isinstance(error, BadRequest)
    assert "wrong" in str(error)
    assert (error.attempts, len(setup.transport.sent)) == (1, 1)


def test_a_piece_that_says_nothing_does_not_keep_a_stream_from_being_asked_again() -> None:
    class Opening(PlainProvider):
        def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
            yield Chunk(model="m")
            yield from super().chunks(events)

    setup = Setup(Reply(b": opening\n\n", ConnectionFailed("cut")), Reply(events("a", "END")))
    setup.endpoint._provider = Opening()
    *pieces, result = setup.stream()
    assert pieces == ["", "", "a"]
    assert (result.content, result.attempts) == ("a", 2)


def test_what_arrived_before_a_stream_broke_is_on_the_error() -> None:
    *_, error = Setup(Reply(events("Hel", "lo"), ConnectionFailed("gone"), x_request_id="req_9")).stream()
    assert isinstance(error, StreamBroken)
    assert (error.partial, error.result.content, error.request_id) == ("Hello", "Hello", "req_9")


def test_a_stream_that_broke_has_the_id_that_stood_in_its_pieces() -> None:
    *_, error = Setup(Reply(events("named"), ConnectionFailed("gone"))).stream()
    assert (error.request_id, error.result.request_id) == ("of a piece", "of a piece")


# --- whom to ask ------------------------------------------------------------------------------------------------------


class Turns:
    """A choice that hands out endpoints in order, and keeps how their attempts ended."""

    attempts_at_least = 1

    def __init__(self, *endpoints: Endpoint, failing: Exception | None = None) -> None:
        self.endpoints = endpoints
        self.ended: list[tuple[Endpoint, BaseException | None]] = []
        self.said: list[str] = []
        self.taken: list[list[Endpoint]] = []
        self._next = list(endpoints)
        self._failing = failing

    def take(
        self, failed: Sequence[Endpoint], cancel: CancelToken | None, until: float | None, distribute: bool = True
    ) -> Endpoint:
        self.taken.append(list(failed))
        if not self._next and self._failing is not None:
            raise self._failing
        return self._next.pop(0)

    def give(self, endpoint: Endpoint, error: BaseException | None) -> None:
        self.ended.append((endpoint, error))
        self.said.append(str(error))

    def has_other(self, failed: Sequence[Endpoint], until: float | None) -> bool:
        return bool(self._next)

    def spare(self, busy: Endpoint) -> Endpoint | None:
        return self._next.pop(0) if self._next else None

    def verdict(self, failed: Sequence[Endpoint], errors: Sequence[RequestError], attempts: int) -> FlexLLMError:
        return AllEndpointsFailed("all", errors=errors, attempts=attempts)

    def health(self) -> tuple[EndpointHealth, ...]:
        return tuple(one.health() for one in self.endpoints)


def through(choice: Turns, setup: Setup, model: str | None = None) -> Attempts:
    """Attempts at what a choice says, with the policy and clock of a setup."""
    return Attempts(choice, setup.attempts.retry, model=model, rng=Middle(), sleep=setup.sleep, clock=setup.clock)


def test_a_row_goes_on_elsewhere_without_a_pause() -> None:
    one, other = Setup(ok("x", 500, retry_after="60")), Setup(ok())
    choice = Turns(one.endpoint, other.endpoint)
    assert through(choice, one).complete(REQUEST).attempts == 2
    assert (one.sleeps, choice.taken) == ([], [[], [one.endpoint]])
    assert [(endpoint, type(error)) for endpoint, error in choice.ended] == [
        (one.endpoint, ServerError),
        (other.endpoint, type(None)),
    ]


def test_what_another_endpoint_may_take_is_asked_there() -> None:
    one, other = Setup(ok("no", 401)), Setup(ok())
    assert through(Turns(one.endpoint, other.endpoint), one).complete(REQUEST).attempts == 2


def test_what_no_endpoint_can_change_is_asked_once() -> None:
    one, other = Setup(ok("no", 400)), Setup(ok())
    with pytest.raises(AllEndpointsFailed):
        through(Turns(one.endpoint, other.endpoint), one).complete(REQUEST)
    assert other.transport.sent == []


def test_the_budget_is_shared_by_all_endpoints() -> None:
    setups = [Setup(ok("x", 500), retries=2) for _ in range(5)]
    choice = Turns(*(setup.endpoint for setup in setups))
    with pytest.raises(AllEndpointsFailed) as caught:
        through(choice, setups[0]).complete(REQUEST)
    assert (caught.value.attempts, len(caught.value.errors)) == (3, 3)
    assert sum(len(setup.transport.sent) for setup in setups) == 3


def test_each_endpoint_is_asked_for_its_own_model_where_the_pools_is_meant() -> None:
    for asked, sent in (("some-model", "own"), ("special", "special")):
        setup = Setup(ok(), model="own")
        request = replace(REQUEST, model=asked)
        through(Turns(setup.endpoint), setup, model="some-model").complete(request)
        assert setup.endpoint._provider.asked[0].model == sent  # type: ignore[attr-defined]


def test_no_key_reaches_whoever_notes_failures_down() -> None:
    for reply in (ok(f"wrong key: {SECRET}", 401), ConnectionFailed(f"the proxy hates {SECRET}"), ok(SECRET, 429)):
        setup = Setup(reply, retries=0)
        choice = Turns(setup.endpoint)
        with pytest.raises(AllEndpointsFailed):
            through(choice, setup).complete(REQUEST)
        assert SECRET not in choice.said[0]
        assert SECRET not in str(setup.endpoint.health())
        assert "sk-p...vBs7" in str(setup.endpoint.health().last_error)


def test_a_choice_that_finds_nobody_is_told_with_what_the_row_has_met() -> None:
    setup = Setup(ok("x", 500))
    nobody = AllEndpointsFailed("no endpoint can be asked within 3 s", attempts=0)
    with pytest.raises(AllEndpointsFailed, match="within 3 s") as caught:
        through(Turns(setup.endpoint, failing=nobody), setup).complete(REQUEST)
    assert caught.value.attempts == 1
    assert [type(error) for error in caught.value.errors] == [ServerError]


def test_a_stop_while_a_place_is_waited_for_counts_the_attempts_before() -> None:
    setup = Setup(ok("x", 500))
    stopped = RequestCancelled("stopped while waiting for its turn", attempts=0)
    with pytest.raises(RequestCancelled) as caught:
        through(Turns(setup.endpoint, failing=stopped), setup).complete(REQUEST)
    assert (caught.value.attempts, caught.value.model) == (1, "some-model")


def test_a_place_that_does_not_come_in_time_leaves_what_the_row_has_met() -> None:
    setup = Setup(ok("x", 500))
    late = RequestTimeout("its time was over before its turn came", attempts=0)
    with pytest.raises(AllEndpointsFailed) as caught:
        through(Turns(setup.endpoint, failing=late), setup).complete(REQUEST)
    assert str(caught.value.errors[0]).endswith("(total_timeout)")
    with pytest.raises(RequestTimeout) as first:
        through(Turns(failing=late), setup).complete(REQUEST)
    assert first.value is late


# --- two requests at once ---------------------------------------------------------------------------------------------


class Hedged:
    """Attempts that are hedged under a fake clock; ten seconds are slow.

    Args:
        first, second: What the first and the second request meet.
        then: What comes after them.
    """

    def __init__(self, first: Any, second: Any, *then: Any, elsewhere: bool = False, **options: Any) -> None:
        self.clock = WatchClock()
        self.second_is_sent = threading.Event()
        limit = RateLimit(concurrency=2, adaptive=False)
        two = [self._slow(first), self._as_second(second)]
        self.one = Setup(ok("warm"), *(two[:1] if elsewhere else two), *then, limit=limit, **options)
        self.other = Setup(*(two[1:] if elsewhere else ()), limit=limit, **options)
        self.choice: Any = OneEndpoint(self.one.endpoint)
        if elsewhere:
            self.choice = Turns(self.one.endpoint, self.one.endpoint, self.other.endpoint)
        self.attempts = Attempts(
            self.choice, self.one.attempts.retry, rng=Middle(), sleep=self.one.sleep, clock=self.one.clock
        )
        policy = HedgePolicy(at_least=1, at_most=1.0)
        self.attempts._hedging = Hedging(policy, clock=self.clock, wait=self.clock.wait)
        assert self.attempts.complete(REQUEST).content == "warm"
        self.gates = (self.one.gate, self.other.gate)

    def _slow(self, answer: Any) -> Callable[[CancelToken], Any]:
        def first(cancel: CancelToken) -> Any:
            self.clock.advance(10.0)
            assert self.second_is_sent.wait(60.0)
            return answer(cancel) if callable(answer) else answer

        return first

    def _as_second(self, answer: Any) -> Callable[[CancelToken], Any]:
        def second(cancel: CancelToken) -> Any:
            self.second_is_sent.set()
            return answer(cancel) if callable(answer) else answer

        return second

    def run(self, cancel: CancelToken | None = None) -> ChatCompletionResult:
        try:
            return self.attempts.complete(REQUEST, cancel)
        finally:
            self.attempts.close()
            assert eventually(lambda: not any(gate.held for gate in self.gates)), "a permit was lost"


def hang(cancel: CancelToken) -> Exception:
    """Wait as a transport does, until it is broken off."""
    gone = threading.Event()
    cancel.hold(gone.set)
    assert gone.wait(60.0), "nobody broke it off"
    return RequestCancelled("stopped while its reply was awaited")


@pytest.mark.parametrize(("first", "second"), [(ok("first"), hang), (hang, ok("second"))], ids=["first", "second"])
def test_whichever_of_two_requests_answers_is_the_answer_and_both_count(first: Any, second: Any) -> None:
    hedged = Hedged(first, second)
    result = hedged.run()
    assert result.content == ("first" if second is hang else "second")
    assert result.attempts == 2
    assert len(hedged.one.transport.sent) == 3
    health = hedged.one.endpoint.health()
    assert (health.sent, health.answered, health.hedged, health.in_flight) == (3, 2, 1, 0)


def test_an_answer_that_comes_in_time_is_asked_for_once() -> None:
    hedged = Hedged(hang, hang)
    hedged.one.transport._answers[:] = [ok("quick")]
    result = hedged.run()
    assert (result.content, result.attempts, hedged.one.endpoint.health().hedged) == ("quick", 1, 0)


def test_the_second_request_goes_elsewhere_and_each_endpoint_is_told_its_own() -> None:
    hedged = Hedged(hang, ok("second"), elsewhere=True)
    assert hedged.run().content == "second"
    assert (len(hedged.one.transport.sent), len(hedged.other.transport.sent)) == (2, 1)
    ended = dict(hedged.choice.ended[1:])
    assert ended[hedged.other.endpoint] is None
    cut_off = ended[hedged.one.endpoint]
    assert isinstance(cut_off, RequestCancelled)
    assert cut_off.attempts == 0, "whoever was cut off has proved nothing"
    assert (hedged.one.endpoint.health().hedged, hedged.other.endpoint.health().hedged) == (1, 0)


def test_an_endpoint_that_failed_is_blamed_though_the_second_answered() -> None:
    answered = threading.Event()

    def late(cancel: CancelToken) -> HttpResponse:
        assert answered.wait(60.0)
        return ok("second")

    hedged = Hedged(ok("x", 500), late, elsewhere=True)
    judged = hedged.one.gate.leave

    def leave(permit: Permit, error: BaseException | None) -> None:
        judged(permit, error)
        answered.set()

    hedged.one.gate.leave = leave  # type: ignore[method-assign]
    assert hedged.run().content == "second"
    assert isinstance(dict(hedged.choice.ended[1:])[hedged.one.endpoint], ServerError)


def test_two_that_fail_are_two_attempts_and_one_of_the_budget() -> None:
    hedged = Hedged(ok("x", 500), ok("y", 502), ok("third"), retries=1)
    result = hedged.run()
    assert (result.content, result.attempts, hedged.one.sleeps) == ("third", 3, [2.0])


def test_the_error_of_two_tells_of_both_and_shows_no_key() -> None:
    hedged = Hedged(ok("x", 400), ConnectionFailed(f"the proxy hates {SECRET}"))
    with pytest.raises(BadRequest) as caught:
        hedged.run()
    other = caught.value.__context__
    assert isinstance(other, ConnectionFailed)
    assert (caught.value.attempts, other.endpoint, other.model) == (2, "http://host/v1", "some-model")
    assert "the proxy hates sk-p...vBs7" in str(other)


def test_an_abort_breaks_off_both_requests() -> None:
    token = CancelToken()
    hedged = Hedged(hang, lambda leg: token.abort() or hang(leg))
    with pytest.raises(RequestCancelled) as caught:
        hedged.run(token)
    assert caught.value.attempts == 2


# --- what requests without an answer were billed ----------------------------------------------------------------------

PRICED = PriceOptions(price=Price(input=1e6, output=0.0))
"""A dollar for each token of a prompt."""

PROMPT = float(estimate_prompt_tokens(REQUEST))


def dear(factor: float) -> PriceOptions:
    return PriceOptions(price=Price(input=factor * 1e6, output=0.0))


def timed_out(text: str) -> RequestTimeout:
    """An error that comes when the server is at work on the request."""
    error = RequestTimeout(text)
    error.was_sent = True
    return error


def counted(tokens: int) -> HttpResponse:
    return ok(f"{tokens} tokens")


class Counting(PlainProvider):
    """Reads how many tokens a prompt had from the answer, where it says so."""

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        result = super().parse(response)
        number = result.content.split()[0]
        prompt = int(number) if number.isdigit() else 0
        return replace(result, usage=Usage(prompt_tokens=prompt, completion_tokens=0, total_tokens=prompt))


@pytest.mark.parametrize(("first", "second"), [(counted(7), hang), (hang, counted(7))], ids=["first", "second"])
def test_of_two_requests_the_one_that_was_cut_off_costs_what_its_own_endpoint_asks(first: Any, second: Any) -> None:
    hedged = Hedged(first, second, elsewhere=True, prices=PRICED, provider=Counting())
    hedged.other.endpoint._own_prices = dear(10.0)
    result = hedged.run()
    assert (result.cost, result.hedged) == (7.0 + 70.0, 1)
    assert result.cost_estimated == (70.0 if second is hang else 7.0)


def test_a_second_request_that_timed_out_was_billed_though_the_first_answered() -> None:
    ended = threading.Event()

    def late(cancel: CancelToken) -> HttpResponse:
        assert ended.wait(60.0)
        return counted(7)

    hedged = Hedged(late, timed_out("x"), elsewhere=True, prices=PRICED, provider=Counting())
    run = hedged.attempts._hedging._end_second  # type: ignore[union-attr]

    def end(race: Any, failed: BaseException | None) -> None:
        run(race, failed)
        ended.set()

    hedged.attempts._hedging._end_second = end  # type: ignore[union-attr,method-assign]
    result = hedged.run()
    assert (result.attempts, result.hedged) == (2, 0)
    assert result.cost == 7.0 + PROMPT


def test_two_requests_that_both_time_out_were_both_billed() -> None:
    hedged = Hedged(timed_out("x"), timed_out("y"), prices=PRICED, retries=0)
    with pytest.raises(RequestTimeout) as caught:
        hedged.run()
    assert (caught.value.attempts, caught.value.cost) == (2, 2 * PROMPT)


class Budgeted:
    """Allows so many further requests, and keeps what it is told."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.lost: list[float | None] = []

    def again(self, lost: float) -> bool:
        self.lost.append(lost)
        return len(self.lost) <= self.allowed

    def beside(self) -> bool:
        self.lost.append(None)
        return len(self.lost) <= self.allowed


def test_a_further_attempt_needs_the_leave_of_the_budget_which_is_told_what_was_lost() -> None:
    leave = Budgeted(2)
    setup = Setup(timed_out("x"), ok("x", 500), timed_out("y"), retries=9, prices=PRICED)
    with pytest.raises(RequestTimeout, match="the budget allows no further attempt") as caught:
        setup.attempts.complete(REQUEST, None, leave)
    assert leave.lost == [PROMPT, 0.0, PROMPT]
    assert (caught.value.attempts, caught.value.cost) == (3, 2 * PROMPT)


def test_a_second_request_beside_the_first_needs_the_leave_of_the_budget() -> None:
    hedged = Hedged(ok("first"), hang)
    hedged.second_is_sent.set()
    leave = Budgeted(0)
    try:
        asked = hedged.attempts._hedging
        assert asked is not None
        hedged.one.transport._answers[0] = lambda cancel: (
            hedged.clock.advance(10.0),
            eventually(lambda: leave.lost),
            ok("first"),
        )[-1]
        result = hedged.attempts.complete(REQUEST, None, leave)
    finally:
        hedged.attempts.close()
    assert (result.content, result.attempts, leave.lost) == ("first", 1, [None])


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_pool", [False, True])
@pytest.mark.parametrize("last", [ok("x", 500), ok("x", 400), None], ids=["in vain", "refused", "answered"])
def test_a_row_with_failed_attempts_is_free_as_soon_as_it_has_ended(last: Any, is_pool: bool) -> None:
    """Without rings of errors, tracebacks and frames, which only the garbage collector would find."""

    class Params(dict[str, Any]):
        """A dictionary that can be watched."""

    setup = Setup(ConnectionFailed("gone"), ok("x", 500), last or ok(), retries=2, delay=0.0)
    backend = through(Turns(*[setup.endpoint] * 3), setup) if is_pool else setup.attempts
    row = BatchItem(0, replace(REQUEST, params=Params()))
    params = weakref.ref(row.request.params)  # type: ignore[union-attr]
    gc.disable()
    try:
        _answer(backend, row, CancelToken())
        row.request = None
        setup.endpoint._provider.asked.clear()
        assert isinstance(row.outcome, ChatCompletionResult) == (last is None)
        assert params() is None
    finally:
        gc.enable()


def test_an_error_that_is_raised_still_shows_where_it_came_from() -> None:
    error = Setup(ConnectionFailed("first"), ok("x", 500), retries=1).fail()
    assert error.__traceback__ is not None
    assert error.__context__ is None


# --- who is asking ----------------------------------------------------------------------------------------------------


def test_each_attempt_carries_a_token_that_is_good_then() -> None:
    tokens = iter(["one", "two", "three"])
    setup = Setup(ok("x", 500), ok("x", 500), ok(), authorise=lambda: (("Authorization", next(tokens)),))
    assert setup.complete().attempts == 3
    assert [dict(request.headers)["Authorization"] for request in setup.transport.sent] == ["one", "two", "three"]


def test_a_token_that_cannot_be_had_is_asked_for_again_like_an_answer() -> None:
    answers: list[Any] = [ConnectionFailed("no token"), (("Authorization", "good"),)]

    def authorise() -> Headers:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    setup = Setup(ok(), authorise=authorise)
    assert setup.complete().attempts == 2
    assert (len(setup.transport.sent), setup.gate.taken) == (1, 1)


# --- models -----------------------------------------------------------------------------------------------------------


def test_all_pages_of_the_models_are_read_and_each_may_be_asked_for_again() -> None:
    setup = Setup(ok("a,b,second"), ok("busy", 503), ok("c,"))
    assert setup.attempts.models() == ["a", "b", "c"]
    assert [request.url.partition("=")[2] for request in setup.transport.sent] == ["None", "second", "second"]


def test_a_list_of_models_without_end_is_left() -> None:
    setup = Setup(*[ok(f"m{page},page-{page}") for page in range(200)])
    assert len(setup.attempts.models()) == len(setup.transport.sent) == 100


def test_a_page_of_models_that_leads_back_to_itself_is_read_once() -> None:
    setup = Setup(ok("a,next"), ok("b,next"), ok("b,next"))
    assert setup.attempts.models() == ["a", "b"]


def test_a_pool_offers_the_models_of_all_its_endpoints_each_once() -> None:
    one, broken, other = Setup(ok("a,b,")), Setup(ok("no", 401)), Setup(ok("b,c,"))
    choice = Turns(one.endpoint, broken.endpoint, other.endpoint)
    assert through(choice, one).models() == ["a", "b", "c"]
    assert choice.ended == [], "who lists models proves nothing of how rows fare"


def test_the_models_of_a_pool_cannot_be_told_where_no_endpoint_tells() -> None:
    one, other = Setup(ok("no", 401)), Setup(ok("x", 400))
    with pytest.raises(ApiStatusError, match="no") as caught:
        through(Turns(one.endpoint, other.endpoint), one).models()
    assert (caught.value.status, caught.value.attempts) == (401, 1)


def test_closing_closes_every_endpoint() -> None:
    one, other = Setup(), Setup()
    through(Turns(one.endpoint, other.endpoint), one).close()
    assert one.transport.closed
    assert other.transport.closed
