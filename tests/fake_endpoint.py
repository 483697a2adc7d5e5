"""An endpoint without a network: a provider with a wire format of its own, and a transport that only pretends."""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fakes import FakeClock

from flexllm.backends import Attempts, Endpoint
from flexllm.backends.choice import OneEndpoint
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk
from flexllm.errors import ApiStatusError, InputError, MalformedResponse, RequestError
from flexllm.limits import Gate, Permit, RateLimit
from flexllm.limits.line import Turn as PlaceInLine
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaWants
from flexllm.providers.status import status_error
from flexllm.retry import RetryPolicy
from flexllm.sse import ServerSentEvent
from flexllm.wire import Headers, HttpRequest, HttpResponse, Target

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"
REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], "some-model")


class PlainProvider:
    """A wire format of its own: the body is the text; "bad" is malformed, "quota" has no credit.

    Attributes:
        asked: The requests that it was to translate.
    """

    name = "plain"
    needs_key = False
    request_id_headers: tuple[str, ...] = ("request-id", "x-request-id")

    def __init__(self, **wants: Any) -> None:
        self.asked: list[ChatRequest] = []
        self._wants = MediaWants(**wants)

    def build(self, request: ChatRequest, target: Target, *, stream: bool) -> HttpRequest:
        self.asked.append(request)
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
        return self._wants

    def owns(self, body: Mapping[str, Any]) -> bool:
        return False


class Reply:
    """What a stream starts with; `pieces` holds bytes to hand on, errors to raise and functions to call."""

    def __init__(self, *pieces: bytes | Exception | Callable[[], object], status: int = 200, **headers: str) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        self.closed = self.lifted = False
        self._pieces = pieces

    def __repr__(self) -> str:
        return f"Reply({', '.join(map(repr, self._pieces))}, status={self.status})"

    def pieces(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                piece()

    def lift_limit(self) -> None:
        self.lifted = True

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """Answers with what it was made with, in order.

    Args:
        answers: Replies, errors to raise, or functions of the token that return one of these.

    Attributes:
        sent: What was asked.
        seconds: How long each of it was allowed to take.
        watch: Called when something is sent.
    """

    timeout = 120.0

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.sent: list[HttpRequest] = []
        self.seconds: list[float | None] = []
        self.closed = False
        self.watch: Callable[[], object] = lambda: None

    def _next(
        self,
        request: HttpRequest,
        cancel: CancelToken | None,
        seconds: float | None,
        departed: Callable[[], object] | None,
    ) -> Any:
        self.sent.append(request)
        if departed is not None:
            departed()
        self.seconds.append(seconds)
        self.watch()
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(cancel)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(
        self,
        request: HttpRequest,
        cancel: CancelToken | None = None,
        seconds: float | None = None,
        departed: Callable[[], object] | None = None,
    ) -> HttpResponse:
        response: HttpResponse = self._next(request, cancel, seconds, departed)
        return response

    @contextlib.contextmanager
    def stream(
        self,
        request: HttpRequest,
        cancel: CancelToken | None = None,
        seconds: float | None = None,
        departed: Callable[[], object] | None = None,
    ) -> Iterator[Reply]:
        reply: Reply = self._next(request, cancel, seconds, departed)
        try:
            yield reply
        finally:
            reply.close()

    def close(self) -> None:
        self.closed = True


class CountingGate(Gate):
    """A gate that knows how many permits were taken and are held. Who has to wait in it moves the clock.

    Attributes:
        waits: Seconds that were waited in it, in order.
    """

    def __init__(self, clock: FakeClock, limit: RateLimit | None = None) -> None:
        super().__init__(limit or RateLimit(concurrency=1, adaptive=False), clock=clock, sleep=self._pass_time)
        self.taken = self.held = 0
        self._count_lock = threading.Lock()
        self.waits: list[float] = []

    def enter(self, permit: Permit) -> None:
        super().enter(permit)
        with self._count_lock:
            self.taken += 1
            self.held += 1

    def leave(self, permit: Permit, error: BaseException | None) -> None:
        super().leave(permit, error)
        with self._count_lock:
            self.held -= 1

    def _pass_time(self, turn: PlaceInLine) -> None:
        assert 0.0 < turn.seconds < math.inf, "it waits for somebody who will not come"
        self.waits.append(turn.seconds)
        self._clock.advance(turn.seconds)  # type: ignore[attr-defined]


class Middle(random.Random):
    """Spreads nothing: the lower end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Setup:
    """Attempts at one endpoint, and everything around it that a test looks at.

    Args:
        answers: Of the transport.
        retries, delay, total: The retry policy.
        more: Further options of the endpoint.

    Attributes:
        sleeps: Seconds of the pauses that the loop made.
    """

    def __init__(
        self,
        *answers: Any,
        retries: int = 2,
        delay: float = 4.0,
        total: float | None = 600.0,
        headers: Headers = (),
        media: MediaStore | None = None,
        provider: PlainProvider | None = None,
        limit: RateLimit | None = None,
        **more: Any,
    ) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport(*answers)
        self.gate = CountingGate(self.clock, limit)
        self.sleeps: list[float] = []
        self.endpoint = Endpoint(
            provider or PlainProvider(),
            Target(base_url="http://host/v1", api_key=SECRET, headers=headers),
            self.transport,  # type: ignore[arg-type]
            self.gate,
            media,
            clock=self.clock,
            **more,
        )
        self.attempts = Attempts(
            OneEndpoint(self.endpoint),
            RetryPolicy(retry_times=retries, retry_delay=delay, total_timeout=total),
            rng=Middle(),
            sleep=self.sleep,
            clock=self.clock,
        )

    def sleep(self, seconds: float) -> None:
        assert self.gate.held == 0, "a pause holds a permit"
        self.sleeps.append(seconds)
        self.clock.advance(seconds)

    def complete(self, cancel: CancelToken | None = None) -> ChatCompletionResult:
        return self.attempts.complete(REQUEST, cancel)

    def fail(self, cancel: CancelToken | None = None) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.complete(cancel)
        return caught.value

    def stream(self, cancel: CancelToken | None = None) -> list[Any]:
        """The texts of the pieces, then the result, then the error, whatever there is."""
        seen: list[Any] = []
        try:
            for one in self.attempts.stream(REQUEST, cancel):
                seen.append(one.content if isinstance(one, Chunk) else one)
        except RequestError as error:
            seen.append(error)
        return seen


def ok(text: str = "Hello", status: int = 200, **headers: str) -> HttpResponse:
    """Return a whole reply."""
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode(), 0.5)


def events(*texts: str) -> bytes:
    """Return the bytes of events of a stream."""
    return "".join(f"data: {text}\n\n" for text in texts).encode()
