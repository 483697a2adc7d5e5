"""One endpoint: one attempt, its permit, its streams and what its errors tell, over a transport that only pretends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_endpoint import REQUEST, SECRET, PlainProvider, Reply, Setup, events, ok

from flexllm.backends.turn import Turn
from flexllm.chat import ChatCompletionResult, ChatRequest, Usage
from flexllm.errors import (
    ApiStatusError,
    ConfigError,
    ConnectionFailed,
    InputError,
    MalformedResponse,
    RateLimited,
    RequestError,
)
from flexllm.limits import Permit, RateLimit
from flexllm.wire import HttpResponse

# --- an attempt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_an_answer(status: int) -> None:
    assert Setup(ok(status=status)).complete().content == "Hello"


def test_what_cannot_be_built_takes_no_permit() -> None:
    setup = Setup(ok())
    request = ChatRequest(REQUEST.messages, "m", {"refuse": True})
    with pytest.raises(InputError):
        setup.attempts.complete(request)
    with pytest.raises(InputError):
        next(setup.attempts.stream(request))
    assert (setup.gate.taken, setup.transport.sent) == (0, [])


def test_a_permit_is_held_while_sending_and_parsing() -> None:
    setup = Setup(ok())
    held: list[int] = []

    class Watching(PlainProvider):
        def parse(self, response: HttpResponse) -> ChatCompletionResult:
            held.append(setup.gate.held)
            return super().parse(response)

    setup.endpoint._provider = Watching()
    setup.transport.watch = lambda: held.append(setup.gate.held)
    setup.complete()
    assert (held, setup.gate.held) == ([1, 1], 0)


def test_a_permit_comes_back_whatever_happens() -> None:
    for failure in (ConnectionFailed("x"), ConfigError("x"), KeyError("a bug"), ok("x", 500), ok("bad")):
        setup = Setup(failure, retries=0)
        with pytest.raises((RequestError, ConfigError, KeyError)):
            setup.complete()
        assert (setup.gate.held, setup.gate.free) == (0, 1)
        assert setup.endpoint.passages.in_flight == 0


def test_closing_closes_the_transport() -> None:
    setup = Setup()
    setup.endpoint.close()
    assert setup.transport.closed


def test_an_endpoint_that_is_lent_counts_for_itself_and_is_not_closed() -> None:
    setup = Setup(ok(), ok())
    lent = setup.endpoint.lent("own")
    lent.complete(REQUEST, Turn(None))
    lent.close()
    assert not setup.transport.closed
    assert (lent.health().sent, lent.health().model) == (1, "own")
    assert (setup.endpoint.health().sent, setup.endpoint.health().model) == (0, None)
    assert setup.gate.taken == 1, "the limits are those of the server"


def test_the_health_of_an_endpoint_tells_what_became_of_its_requests() -> None:
    setup = Setup(ok("x", 500), ok("x", 429), ok())
    setup.transport.watch = lambda: setup.clock.advance(3.0)
    setup.complete()
    health = setup.endpoint.health()
    assert (health.place, health.state, health.in_flight) == ("http://host/v1", "ready", 0)
    assert (health.sent, health.answered, health.failed, health.refused) == (3, 1, 2, 1)
    assert health.latency == pytest.approx(3.0)
    assert health.last_error is not None


def test_an_endpoint_whose_server_asked_to_wait_is_waiting() -> None:
    setup = Setup(ok("x", 429, retry_after="30"), retries=0)
    setup.fail()
    health = setup.endpoint.health()
    assert (health.state, health.returns_in) == ("waiting", pytest.approx(30.0))
    setup.clock.advance(31.0)
    assert setup.endpoint.health().state == "ready"


def test_tokens_are_estimated_before_a_request_and_put_right_by_its_reply() -> None:
    costs: list[Any] = []

    class Counting(PlainProvider):
        def parse(self, response: HttpResponse) -> ChatCompletionResult:
            return ChatCompletionResult("Hi", usage=Usage(prompt_tokens=40, completion_tokens=7))

    setup = Setup(ok(), ok(), provider=Counting(), limit=RateLimit(concurrency=1, max_tpm=1e6, adaptive=False))
    enter = setup.gate.enter

    def note(permit: Permit) -> None:
        costs.append(permit.cost)
        enter(permit)

    setup.gate.enter = note  # type: ignore[method-assign]
    for _ in range(2):
        setup.attempts.complete(replace(REQUEST, params={"max_tokens": 100}))
    first, second = costs
    assert 0 < first.output <= 100
    assert first.input == first.estimated
    assert second.estimated == first.estimated
    assert second.input > first.input, "the server counted more than was estimated"


# --- what errors tell -------------------------------------------------------------------------------------------------


def test_the_servers_wish_stands_on_the_error() -> None:
    error = Setup(ok("busy", 429, retry_after="3600", x_should_retry="true")).fail()
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.should_retry) == (3600.0, True)


def test_the_servers_id_stands_on_the_error() -> None:
    assert Setup(ok("x", 400)).fail().request_id == "req_1"


def test_no_error_shows_the_key() -> None:
    for failure in (ConnectionFailed("x"), ok("x", 500), ok("bad"), ok("x", 401)):
        error = Setup(failure, retries=0).fail()
        assert SECRET not in f"{error} {error!r} {vars(error)}"


def test_a_key_that_the_server_repeats_is_masked() -> None:
    error = Setup(ok(f"wrong key: {SECRET}", 401)).fail()
    assert isinstance(error, ApiStatusError)
    assert SECRET not in f"{error} {error!r} {vars(error)}"
    assert "wrong key: sk-p...vBs7" in str(error)
    assert "wrong key: sk-p...vBs7" in error.body
    assert error.code == "wrong key: sk-p...vBs7"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_token_that_the_server_repeats_is_masked(streamed: bool) -> None:
    token = "ya29.a0AfH6SMBx81hTq0LmN4vBs7"
    answer = Reply(f"wrong token: {token}".encode(), status=401) if streamed else ok(f"wrong token: {token}", 401)
    setup = Setup(answer, authorise=lambda: (("Authorization", f"Bearer {token}"),))
    error = setup.stream()[-1] if streamed else setup.fail()
    assert isinstance(error, ApiStatusError)
    assert token not in f"{error} {error!r} {vars(error)}"
    assert "wrong token: ya29...vBs7" in error.body


def test_a_key_in_a_header_that_the_server_repeats_is_masked() -> None:
    own = "tok-5Fh29Kd83Ls0QwErTy61"
    setup = Setup(
        ok(f"wrong key: {own}, beta-2025-01-01", 401), headers=(("X-API-Key", own), ("beta", "beta-2025-01-01"))
    )
    error = setup.fail()
    assert own not in f"{error} {error!r} {vars(error)}"
    assert "beta-2025-01-01" in str(error)


def test_a_key_that_the_server_repeats_in_a_stream_is_masked_in_the_cause_too() -> None:
    setup = Setup(Reply(events("a"), ConnectionFailed(f"the proxy hates {SECRET}")))
    error = setup.stream()[-1]
    assert SECRET not in f"{error} {error.__cause__}"


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_hands_on_its_pieces_and_then_the_whole() -> None:
    reply = Reply(events("Hel", "lo"), events("END"), x_request_id="req_7")
    setup = Setup(reply)
    *pieces, result = setup.stream()
    assert pieces == ["Hel", "lo"]
    assert (result.content, result.request_id, result.attempts) == ("Hello", "req_7", 1)
    assert result.latency >= 0.0
    assert reply.closed
    assert setup.transport.sent[0].body == b"stream"


def test_pieces_are_handed_on_as_they_come() -> None:
    came: list[str] = []
    reply = Reply(events("a"), lambda: came.append("after a"), events("b", "END"), lambda: came.append("after b"))
    stream = Setup(reply).attempts.stream(REQUEST)
    first = next(stream)
    assert (first.content, came) == ("a", [])
    assert next(stream).content == "b"
    assert came == ["after a"]


def test_a_stream_of_any_2xx_is_a_stream() -> None:
    assert Setup(Reply(events("a", "END"), status=202)).stream()[0] == "a"


def test_a_permit_is_held_until_the_last_piece_and_not_by_the_result() -> None:
    setup = Setup(Reply(events("a", "b", "END")))
    held = []
    for _ in setup.attempts.stream(REQUEST):
        held.append(setup.gate.held)
    assert held == [1, 1, 0]


def test_a_stream_that_is_left_early_gives_everything_back() -> None:
    reply = Reply(events("a", "b", "END"))
    setup = Setup(reply)
    stream = setup.attempts.stream(REQUEST)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert reply.closed
    assert setup.gate.held == 0


def test_a_stream_that_is_never_begun_takes_nothing() -> None:
    setup = Setup(Reply(events("a", "END")))
    setup.attempts.stream(REQUEST)
    assert (setup.gate.taken, setup.transport.sent) == (0, [])


@pytest.mark.parametrize("pieces", [[b'{"text": "Hello"}'], [b"\n", b" \r\n{", b'"text":', b' "Hello"}']])
def test_a_whole_answer_in_place_of_a_stream_is_its_one_piece(pieces: list[bytes]) -> None:
    text, result = Setup(Reply(*pieces, content_type="application/json")).stream()
    assert (text, result.content) == ("Hello", "Hello")


def test_an_error_in_place_of_a_stream_is_that_error() -> None:
    setup = Setup(Reply(b'{"text": "bad"}'), Reply(events("a", "END")))
    assert setup.stream()[-1].attempts == 2
    (error,) = Setup(Reply(b'{"text": "bad"}'), retries=0).stream()
    assert type(error) is MalformedResponse


def test_empty_lines_before_the_events_of_a_stream_are_read_over() -> None:
    assert Setup(Reply(b"\r\n", b"\n", events("a", "END"))).stream()[0] == "a"


@pytest.mark.parametrize("page", [b"<html>log in</html>", b'\n[{"a": 1}]', b"busy"])
def test_what_is_no_stream_at_all_is_shown(page: bytes) -> None:
    *_, error = Setup(Reply(page, content_type="text/html"), retries=0).stream()
    assert isinstance(error, MalformedResponse)
    assert "answered 200 with something that is not a stream of events (text/html)" in str(error)
    assert repr(page.decode()) in str(error)


@pytest.mark.parametrize("begun", [b"", b" \n", b": keep-alive\n\n", b"event: ping\n\n", b"\xef\xbb\xbfdata"])
def test_a_stream_that_ends_before_its_first_event_is_told_as_one(begun: bytes) -> None:
    *_, error = Setup(Reply(begun, content_type="text/event-stream"), retries=0).stream()
    assert "without its end mark" in str(error)


def test_a_result_of_a_stream_has_the_id_from_the_providers_own_header() -> None:
    *_, result = Setup(Reply(events("Hi", "END"), x_request_id="other", request_id="own")).stream()
    assert result.request_id == "own"


# --- who is asking ----------------------------------------------------------------------------------------------------


def test_headers_of_who_is_asking_may_be_a_mapping() -> None:
    setup = Setup(ok(), authorise=lambda: {"Authorization": "Bearer one"})  # type: ignore[arg-type, return-value]
    setup.complete()
    assert dict(setup.transport.sent[0].headers)["Authorization"] == "Bearer one"
