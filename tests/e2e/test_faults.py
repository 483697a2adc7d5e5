"""Every failure that the mock knows, met by a single call, a stream, a batch and a pool, in each provider's words.

One row meets the failure each time it is asked, all others are answered. The table names what that row ends in, how often
it was sent, and what the other rows felt of it; the mock's own counts are the witness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import flexllm
from flexllm import LLMClient, LLMClientPool
from flexllm.errors import FlexLLMError
from flexllm.mock import MockServer

pytestmark = pytest.mark.slow

STRUCK = "the row that is struck"
RETRIES = 2
ALL = RETRIES + 1
WAIT = 1.0
"""Seconds that a 429 asks to wait: time enough to see that it is waited for."""

LONG_WAIT = 60.0
"""The same where another endpoint is asked meanwhile."""

IMPATIENT = {"hang", "drip", "slow_close"}
"""What ends at a time limit."""

LIMITS: dict[bool, dict[str, Any]] = {
    False: {"timeout": 60.0, "total_timeout": 120.0},
    True: {"timeout": 2.0, "total_timeout": 12.0},
}
"""Time limits: those that are never reached, and those for what hangs or drips, which are reached within seconds."""

MODELS = {"openai": "gpt-4o", "claude": "claude-sonnet-5-5", "gemini": "gemini-3.8-flash"}


class Fate(NamedTuple):
    """What becomes of the row that is struck.

    Attributes:
        ends_in: The class of its error, or the finish reason of its answer.
        sent: How often it is sent by a client with two retries.
        elsewhere: Whether another endpoint of a pool is asked for it, and answers.
        felt: What other rows feel: "nothing", or "a pause" while the gate is closed for all.
        state: Of the endpoint in a pool, after that one row.
    """

    ends_in: str
    sent: int
    elsewhere: bool
    felt: str = "nothing"
    state: str = "ready"


REFUSED = Fate("", 1, elsewhere=True, state="cooling")
PASSING = Fate("", ALL, elsewhere=True)

FATES: dict[str, Fate] = {
    "rate_limited": PASSING._replace(ends_in="RateLimited", felt="a pause", state="waiting"),
    "quota": REFUSED._replace(ends_in="QuotaExhausted"),
    "unauthorized": REFUSED._replace(ends_in="AuthenticationFailed"),
    "payment": REFUSED._replace(ends_in="QuotaExhausted"),
    "forbidden": REFUSED._replace(ends_in="PermissionDenied"),
    "not_found": REFUSED._replace(ends_in="NotFound"),
    "bad_request": Fate("BadRequest", 1, elsewhere=False),
    "context_too_long": Fate("ContextTooLong", 1, elsewhere=False),
    "server_error": PASSING._replace(ends_in="ServerError"),
    "bad_gateway": PASSING._replace(ends_in="ServerError"),
    "unavailable": PASSING._replace(ends_in="Overloaded"),
    "overloaded": PASSING._replace(ends_in="Overloaded", felt="a pause", state="waiting"),
    "overloaded_stream": PASSING._replace(ends_in="Overloaded"),
    "broken_stream": PASSING._replace(ends_in="Overloaded"),
    "hang": PASSING._replace(ends_in="RequestTimeout"),
    "drip": PASSING._replace(ends_in="RequestTimeout"),
    "reset": PASSING._replace(ends_in="ConnectionFailed"),
    "truncated_json": PASSING._replace(ends_in="MalformedResponse"),
    "html": PASSING._replace(ends_in="MalformedResponse"),
    "empty": PASSING._replace(ends_in="MalformedResponse"),
    "refusal": Fate("content_filter", 1, elsewhere=False),
    "length": Fate("length", 1, elsewhere=False),
    "slow_close": PASSING._replace(ends_in="RequestTimeout"),
}
BROKEN = Fate("StreamBroken", 1, elsewhere=False)
STREAMED: dict[str, Fate] = {
    "broken_stream": BROKEN,  # some of it has been handed on
    "reset": BROKEN,
    "truncated_json": BROKEN,
    "slow_close": Fate("stop", 1, elsewhere=False),  # its events say where it ends
    "drip": Fate("RequestTimeout", 1, elsewhere=True),  # no gap is too long, but no piece comes within the row's time
}
"""Where a stream fares otherwise."""

PAUSING = FATES["overloaded"]
AT: dict[tuple[str, str, str], Fate] = {
    # Anthropic has no error inside a 200 that is not streamed; it says 529, also inside streams.
    ("claude", "single", "overloaded_stream"): PAUSING,
    ("claude", "single", "broken_stream"): PAUSING,
    ("claude", "stream", "overloaded_stream"): PAUSING,
    # Nothing but its end tells where a stream of Gemini's ends.
    ("gemini", "stream", "slow_close"): BROKEN,
}
"""Where a provider fares otherwise."""


def fate_of(fault: str, way: str, provider: str = "openai") -> Fate:
    usual = STREAMED.get(fault, FATES[fault]) if way == "stream" else FATES[fault]
    return AT.get((provider, way, fault), usual)


@contextmanager
def one_of(fault: str, provider: str, **options: Any) -> Iterator[tuple[MockServer, LLMClient]]:
    """Give a server that strikes one row with a fault, and a client for it."""
    with struck(fault) as server, LLMClient(**at(server, provider), **settings(fault), **options) as client:
        yield server, client


def struck(fault: str, wait: float = WAIT) -> MockServer:
    return MockServer(script={STRUCK: [fault] * 20}, retry_after=wait)


def at(server: MockServer, provider: str) -> dict[str, Any]:
    url = server.base_url if provider == "openai" else server.url
    return {"base_url": url, "model": MODELS[provider], "provider": provider, "api_key": "a-key-of-some-length"}


def settings(fault: str) -> dict[str, Any]:
    # The pause after a refusal that names no time begins with this, and must still be on when its state is looked at.
    retry_delay = 0.3 if FATES[fault].state == "waiting" else 0.01
    return {"retry_times": RETRIES, "retry_delay": retry_delay, **LIMITS[fault in IMPATIENT]}


def times_sent(server: MockServer) -> int:
    return server.stats()["prompts"].get(STRUCK, 0)


def ending(ask: Any) -> tuple[str, int]:
    """Return what a call ends in, and the attempts that it tells of."""
    try:
        result = ask()
    except FlexLLMError as error:
        return type(error).__name__, getattr(error, "attempts", 0)
    return result.finish_reason, result.attempts


def streamed(client: LLMClient, prompt: str) -> Any:
    return list(client.stream_chunks_sync(prompt))[-1]


def meet_single(fault: str, provider: str) -> None:
    fate = fate_of(fault, "single", provider)
    with one_of(fault, provider) as (server, client):
        ended = ending(lambda: client.chat_completions_sync(STRUCK, return_usage=True))

        assert (*ended, times_sent(server)) == (fate.ends_in, fate.sent, fate.sent)
        assert client.stats["endpoints"][0]["state"] == ("waiting" if fate.felt == "a pause" else "ready")
        other = client.chat_completions_sync("another row", return_usage=True)
        assert (other.finish_reason, other.attempts) == ("stop", 1)


def meet_stream(fault: str, provider: str) -> None:
    fate = fate_of(fault, "stream", provider)
    with one_of(fault, provider) as (server, client):
        ended = ending(lambda: streamed(client, STRUCK))

        assert (*ended, times_sent(server)) == (fate.ends_in, fate.sent, fate.sent)
        other = streamed(client, "another row")
        assert (other.finish_reason, other.attempts) == ("stop", 1)


def meet_batch(fault: str) -> None:
    fate = FATES[fault]
    prompts = [f"row {number}" for number in range(6)]
    prompts[3] = STRUCK
    with one_of(fault, "openai", concurrency_limit=3) as (server, client):
        result = client.chat_completions_batch_sync(prompts, show_progress=False)
        sent = server.stats()["prompts"]

    item = result.items[3]
    ended = type(item.error).__name__ if item.error is not None else item.result.finish_reason
    assert (ended, sent[STRUCK]) == (fate.ends_in, fate.sent)
    others = [one for one in result.items if one.index != 3]
    assert all(one.status == "success" and sent[prompts[one.index]] == 1 for one in others)
    assert result.summary["stopped"] is None
    [health] = result.summary["endpoints"]
    assert health["refused"] == (ALL if fate.felt == "a pause" else 0)
    if item.error is not None:
        [(kind, told)] = result.summary["errors"].items()
        assert (kind, told["count"], told["examples"][0]["row"]) == (fate.ends_in, 1, 3)


def meet_pool(fault: str, way: str) -> None:
    fate = fate_of(fault, way)
    with struck(fault, LONG_WAIT) as server, MockServer() as sound:
        endpoints = [at(server, "openai"), at(sound, "openai")]
        with LLMClientPool(endpoints, load_balance="fallback", **settings(fault)) as pool:
            if way == "batch":
                ended = ending(lambda: result_of(pool))
            elif way == "stream":
                ended = ending(lambda: streamed(pool, STRUCK))
            else:
                ended = ending(lambda: pool.chat_completions_sync(STRUCK, return_usage=True))
            state = pool.stats["endpoints"][0]["state"]

        expected = ("stop", 2) if fate.elsewhere else (fate.ends_in, 1)
        assert (*ended, times_sent(server), times_sent(sound)) == (*expected, 1, int(fate.elsewhere))
        assert state == fate.state


def result_of(pool: LLMClient) -> Any:
    [item] = pool.chat_completions_batch_sync([STRUCK], show_progress=False).items
    if item.error is not None:
        raise item.error
    return item.result


MEETINGS: dict[str, Callable[..., None]] = {
    "test_a_single_call": meet_single,
    "test_a_stream": meet_stream,
    "test_a_batch": meet_batch,
    "test_a_pool": meet_pool,
}


@pytest.fixture(scope="module")
def _known() -> dict[str, Future[None]]:
    return {}


@pytest.fixture
def met(request: pytest.FixtureRequest, _known: dict[str, Future[None]]) -> dict[str, Future[None]]:
    """The meetings of this run by the names of their tests. They were side by side, for most of the time they wait.

    All are over when the first test begins: between two tests the environment changes, in which a thread may be reading.
    """
    if not _known:
        with ThreadPoolExecutor(12) as threads:
            _known.update(
                (item.name, threads.submit(MEETINGS[item.originalname], **item.callspec.params))
                for item in request.session.items
                if isinstance(item, pytest.Function) and item.module is request.module and item.originalname in MEETINGS
            )
    return _known


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("fault", FATES)
def test_a_single_call(fault: str, provider: str, met: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
    met[request.node.name].result()


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("fault", FATES)
def test_a_stream(fault: str, provider: str, met: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
    met[request.node.name].result()


@pytest.mark.parametrize("fault", FATES)
def test_a_batch(fault: str, met: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
    met[request.node.name].result()


@pytest.mark.parametrize("way", ["single", "stream", "batch"])
@pytest.mark.parametrize("fault", FATES)
def test_a_pool(fault: str, way: str, met: dict[str, Future[None]], request: pytest.FixtureRequest) -> None:
    met[request.node.name].result()


def test_every_failure_of_the_mock_stands_in_the_table() -> None:
    from flexllm.mock.faults import FAULTS

    assert set(FATES) == set(FAULTS)


def test_every_ending_of_the_table_is_an_error_or_a_reason_to_finish() -> None:
    reasons = {"stop", "length", "content_filter"}
    for fate in (*FATES.values(), *STREAMED.values(), *AT.values()):
        assert fate.ends_in in reasons or issubclass(getattr(flexllm, fate.ends_in), FlexLLMError)
