"""One endpoint: its retry loop, permits and streams, over a transport and a provider that only pretend."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from flexllm.backends.endpoint import Endpoint
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk
from flexllm.errors import (
    ApiStatusError,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    InputError,
    MalformedResponse,
    QuotaExhausted,
    RateLimited,
    RequestCancelled,
    RequestError,
    RequestTimeout,
    ServerError,
    StreamBroken,
)
from flexllm.limits import Gate, RateLimit
from flexllm.media.options import MediaWants
from flexllm.providers.status import status_error
from flexllm.retry import RetryPolicy
from flexllm.sse import ServerSentEvent
from flexllm.wire import Headers, HttpRequest, HttpResponse, Target

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"
REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], "some-model")


class PlainProvider:
    """A wire format of its own: the body is the text; "bad" is malformed, "quota" has no credit."""

    name = "plain"
    needs_key = False
    request_id_headers: tuple[str, ...] = ("request-id", "x-request-id")

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        if request.params.get("refuse"):
            raise InputError("cannot be expressed")
        headers = (("Key", target.api_key), *target.headers)
        return HttpRequest("POST", f"{target.base_url}/say", headers, b"stream" if stream else b"")

    def parse(self, response: HttpResponse) -> ChatCompletionResult:
        text = response.body.decode()
        if text.lstrip().startswith("{"):
            text = json.loads(text)["text"]
        if text == "bad":
            raise MalformedResponse("not what was promised")
        return ChatCompletionResult(text, latency=response.elapsed)

    def chunks(self, events: Iterator[ServerSentEvent]) -> Iterator[Chunk]:
        for event in events:
            if event.data == "END":
                return
            if event.data == "bad":
                raise MalformedResponse("not what was promised", request_id="req_bad")
            yield Chunk(content=event.data, request_id="of a piece" if event.data == "named" else None)
        raise MalformedResponse("the stream ended without its end mark")

    def error(self, response: HttpResponse) -> ApiStatusError:
        text = response.body.decode()
        code = "insufficient_quota" if text == "quota" else text if "key" in text else None
        return status_error(response.status, response.body, message=text, code=code, request_id="req_1")

    def models_request(self, target: Target, page: str | None) -> HttpRequest:
        return HttpRequest("GET", f"{target.base_url}/models?page={page}", (), b"")

    def models(self, response: HttpResponse) -> tuple[list[str], str | None]:
        *ids, page = response.body.decode().split(",")
        return ids, page or None

    def media(self, target: Target) -> MediaWants:
        return MediaWants()

    def owns(self, body: Mapping[str, Any]) -> bool:
        return False


class Reply:
    """What a stream starts with; `pieces` holds bytes to hand on, errors to raise and functions to call."""

    def __init__(self, *pieces: bytes | Exception | Callable[[], object], status: int = 200, **headers: str) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        self.closed = False
        self._pieces = pieces

    def pieces(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                piece()

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """Answers with what it was made with, in order: replies, or errors to raise."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.sent: list[HttpRequest] = []
        self.closed = False
        self.watch: Callable[[], object] = lambda: None

    def _next(self, request: HttpRequest) -> Any:
        self.sent.append(request)
        self.watch()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, request: HttpRequest, cancel: CancelToken | None = None) -> HttpResponse:
        response: HttpResponse = self._next(request)
        return response

    @contextlib.contextmanager
    def stream(self, request: HttpRequest, cancel: CancelToken | None = None) -> Iterator[Reply]:
        reply: Reply = self._next(request)
        try:
            yield reply
        finally:
            reply.close()

    def close(self) -> None:
        self.closed = True


class CountingGate(Gate):
    """A gate that knows how many permits were taken and are held."""

    def __init__(self) -> None:
        super().__init__(RateLimit(concurrency=1))
        self.taken = self.held = 0

    def acquire(self, cancel: CancelToken | None = None) -> None:
        super().acquire(cancel)
        self.taken += 1
        self.held += 1

    def release(self) -> None:
        self.held -= 1
        super().release()


class Middle(random.Random):
    """Spreads nothing: the lower end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Setup:
    """An endpoint, and everything around it that a test looks at."""

    def __init__(
        self,
        *answers: Any,
        retries: int = 2,
        delay: float = 4.0,
        base_url: str = "http://host/v1",
        authorise: Callable[[], Headers] | None = None,
        headers: Headers = (),
    ) -> None:
        self.transport = FakeTransport(*answers)
        self.gate = CountingGate()
        self.sleeps: list[float] = []
        self.endpoint = Endpoint(
            PlainProvider(),
            Target(base_url=base_url, api_key=SECRET, headers=headers),
            self.transport,  # type: ignore[arg-type]
            self.gate,
            RetryPolicy(retry_times=retries, retry_delay=delay),
            authorise=authorise,
            rng=Middle(),
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        assert self.gate.held == 0, "a pause holds a permit"
        self.sleeps.append(seconds)

    def complete(self, cancel: CancelToken | None = None) -> ChatCompletionResult:
        return self.endpoint.complete(REQUEST, cancel)

    def fail(self, cancel: CancelToken | None = None) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.complete(cancel)
        return caught.value

    def stream(self, cancel: CancelToken | None = None) -> list[Any]:
        """The texts of the pieces, then the result, then the error, whatever there is."""
        seen: list[Any] = []
        try:
            for one in self.endpoint.stream(REQUEST, cancel):
                seen.append(one.content if isinstance(one, Chunk) else one)
        except RequestError as error:
            seen.append(error)
        return seen


def ok(text: str = "Hello", status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode(), 0.5)


def events(*texts: str) -> bytes:
    return "".join(f"data: {text}\n\n" for text in texts).encode()


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_an_answer_at_the_first_attempt_is_handed_on() -> None:
    setup = Setup(ok())
    result = setup.complete()
    assert (result.content, result.attempts, result.latency) == ("Hello", 1, 0.5)
    assert (setup.sleeps, setup.gate.taken, setup.gate.held) == ([], 1, 0)
    assert [request.url for request in setup.transport.sent] == ["http://host/v1/say"]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_an_answer(status: int) -> None:
    assert Setup(ok(status=status)).complete().content == "Hello"


@pytest.mark.parametrize(
    "failure",
    [ConnectionFailed("x"), RequestTimeout("x"), ok("x", 500), ok("x", 429), ok("x", 408), ok("x", 529), ok("bad")],
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


def test_what_cannot_be_built_takes_no_permit() -> None:
    setup = Setup(ok())
    request = ChatRequest(REQUEST.messages, "m", {"refuse": True})
    with pytest.raises(InputError):
        setup.endpoint.complete(request)
    with pytest.raises(InputError):
        next(setup.endpoint.stream(request))
    assert (setup.gate.taken, setup.transport.sent) == (0, [])


# --- pauses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after": "0"}, 2.0),
        ({"retry_after": "soon"}, 2.0),
        ({"retry_after": "Thu, 01 Jan 2015 00:00:00 GMT"}, 2.0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_servers_wish_is_waited_out(headers: dict[str, str], seconds: float, status: int) -> None:
    setup = Setup(ok("busy", status, **headers), ok())
    assert setup.complete().attempts == 2
    assert setup.sleeps == [seconds]


def test_the_servers_wish_stands_on_the_error() -> None:
    error = Setup(ok("busy", 429, retry_after="3600", x_should_retry="true")).fail()
    assert isinstance(error, RateLimited)
    assert (error.retry_after, error.should_retry) == (3600.0, True)


def test_what_a_provider_reads_from_the_body_beats_the_header() -> None:
    class Knowing(PlainProvider):
        def error(self, response: HttpResponse) -> ApiStatusError:
            error = super().error(response)
            error.retry_after = 11.0
            return error

    setup = Setup(ok("busy", 429, retry_after="7"), ok())
    setup.endpoint._provider = Knowing()
    assert setup.complete().attempts == 2
    assert setup.sleeps == [11.0]


def test_a_permit_is_held_while_sending_and_not_while_parsing() -> None:
    setup = Setup(ok(), ok())
    held: list[int] = []

    class Watching(PlainProvider):
        def parse(self, response: HttpResponse) -> ChatCompletionResult:
            held.append(setup.gate.held)
            return super().parse(response)

    setup.endpoint._provider = Watching()
    setup.transport.watch = lambda: held.append(setup.gate.held)
    setup.complete()
    assert held == [1, 0]


def test_a_permit_comes_back_whatever_happens() -> None:
    for failure in (ConnectionFailed("x"), ConfigError("x"), KeyError("a bug"), ok("x", 500), ok("bad")):
        setup = Setup(failure, retries=0)
        with pytest.raises((RequestError, ConfigError, KeyError)):
            setup.complete()
        assert (setup.gate.held, setup.gate._free) == (0, 1)


# --- what errors tell -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [ConnectionFailed("x", endpoint="elsewhere"), ok("x", 500), ok("bad"), ok("x", 400)]
)
def test_every_error_names_endpoint_model_and_attempts(failure: Any) -> None:
    error = Setup(failure, failure, retries=1).fail()
    assert (error.endpoint, error.model) == ("http://host/v1", "some-model")
    assert error.attempts == (1 if isinstance(error, BadRequest) else 2)


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


def test_closing_closes_the_transport() -> None:
    setup = Setup()
    setup.endpoint.close()
    assert setup.transport.closed


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


def test_a_stop_wakes_a_thread_from_its_pause() -> None:
    setup = Setup(ok("x", 429, retry_after="600"), ok())
    token = CancelToken()
    errors: list[RequestError] = []
    thread = threading.Thread(target=lambda: errors.append(setup.fail(token)), daemon=True)
    thread.start()
    token.stop()
    thread.join(10.0)
    assert isinstance(errors[0], RequestCancelled)


def test_a_stop_while_waiting_for_a_permit_counts_the_attempts_before() -> None:
    setup = Setup(ok("x", 500), ok())
    token = CancelToken()

    def stop_before_the_second_permit() -> None:
        setup.gate.acquire = acquire  # type: ignore[method-assign]

    def acquire(cancel: CancelToken | None = None) -> None:
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
    stream = Setup(reply).endpoint.stream(REQUEST)
    first = next(stream)
    assert (first.content, came) == ("a", [])
    assert next(stream).content == "b"
    assert came == ["after a"]


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionFailed("x"),
        RequestTimeout("x"),
        Reply(b"x", status=500),
        Reply(b"x", status=429),
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


def test_the_servers_wish_holds_for_streams() -> None:
    setup = Setup(Reply(b"busy", status=429, retry_after="7"), Reply(events("END")))
    assert setup.stream()[-1].attempts == 2
    assert setup.sleeps == [7.0]


def test_a_stream_of_any_2xx_is_a_stream() -> None:
    assert Setup(Reply(events("a", "END"), status=202)).stream()[0] == "a"


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


def test_a_permit_is_held_until_the_last_piece_and_not_by_the_result() -> None:
    setup = Setup(Reply(events("a", "b", "END")))
    held = []
    for _ in setup.endpoint.stream(REQUEST):
        held.append(setup.gate.held)
    assert held == [1, 1, 0]


def test_a_stream_that_is_left_early_gives_everything_back() -> None:
    reply = Reply(events("a", "b", "END"))
    setup = Setup(reply)
    stream = setup.endpoint.stream(REQUEST)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert reply.closed
    assert setup.gate.held == 0


def test_a_stream_that_is_never_begun_takes_nothing() -> None:
    setup = Setup(Reply(events("a", "END")))
    setup.endpoint.stream(REQUEST)
    assert (setup.gate.taken, setup.transport.sent) == (0, [])


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


def test_what_arrived_before_a_stream_broke_is_on_the_error() -> None:
    *_, error = Setup(Reply(events("Hel", "lo"), ConnectionFailed("gone"), x_request_id="req_9")).stream()
    assert isinstance(error, StreamBroken)
    assert (error.partial, error.result.content, error.request_id) == ("Hello", "Hello", "req_9")


def test_a_stream_that_broke_has_the_id_that_stood_in_its_pieces() -> None:
    *_, error = Setup(Reply(events("named"), ConnectionFailed("gone"))).stream()
    assert (error.request_id, error.result.request_id) == ("of a piece", "of a piece")


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


# --- who is asking ----------------------------------------------------------------------------------------------------


def test_a_result_of_a_stream_has_the_id_from_the_providers_own_header() -> None:
    *_, result = Setup(Reply(events("Hi", "END"), x_request_id="other", request_id="own")).stream()
    assert result.request_id == "own"


def test_each_attempt_carries_a_token_that_is_good_then() -> None:
    tokens = iter(["one", "two", "three"])
    setup = Setup(ok("x", 500), ok("x", 500), ok(), authorise=lambda: (("Authorization", next(tokens)),))
    assert setup.complete().attempts == 3
    assert [dict(request.headers)["Authorization"] for request in setup.transport.sent] == ["one", "two", "three"]


def test_headers_of_who_is_asking_may_be_a_mapping() -> None:
    setup = Setup(ok(), authorise=lambda: {"Authorization": "Bearer one"})  # type: ignore[arg-type, return-value]
    setup.complete()
    assert dict(setup.transport.sent[0].headers)["Authorization"] == "Bearer one"


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
    assert setup.endpoint.models() == ["a", "b", "c"]
    assert [request.url.partition("=")[2] for request in setup.transport.sent] == ["None", "second", "second"]


def test_a_list_of_models_without_end_is_left() -> None:
    setup = Setup(*[ok(f"m{page},page-{page}") for page in range(200)])
    assert len(setup.endpoint.models()) == len(setup.transport.sent) == 100


def test_a_page_of_models_that_leads_back_to_itself_is_read_once() -> None:
    setup = Setup(ok("a,next"), ok("b,next"), ok("b,next"))
    assert setup.endpoint.models() == ["a", "b"]
