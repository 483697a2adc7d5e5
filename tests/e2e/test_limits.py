"""The limits as the server sees them: what it received when, and how much of it at the same time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import eventually

from flexllm import LLMClient, RateLimited, RequestError
from flexllm.mock import MockServer, Reply

QPS = 10
BURST = 1
pytestmark = pytest.mark.slow


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient("mock-model", server.base_url, **{"retry_times": 0, "retry_delay": 0.01, **options})


def too_early(server: MockServer, started: float) -> list[int]:
    """Return which requests came before `QPS` allowed so many since the start.

    No second is counted by itself: a busy machine holds requests up on their way, so that they come together with later
    ones. None comes sooner than it was let go.
    """
    times = [request.time for request in server.requests]
    return [number for number, time_ in enumerate(times) if number + 1 > BURST + QPS * (time_ - started + 0.01)]


def test_no_second_sees_more_than_max_qps_and_its_burst_retries_included() -> None:
    """A server that always fails, and sixteen threads that ask again after 10 ms: a peer was measured at 71."""
    with MockServer(error_rate=1.0) as server:
        started = time.monotonic()
        client = client_of(server, concurrency_limit=16, max_qps=QPS, retry_times=1)
        results = client.chat_completions_batch_sync([f"question {n}" for n in range(16)], show_progress=False)

    assert results == [None] * 16
    assert {error.attempts for error in results.errors.values() if isinstance(error, RequestError)} == {2}
    assert server.stats()["received"] == 32
    assert too_early(server, started) == []


def test_single_batched_and_awaited_calls_pass_the_same_gate() -> None:
    async def ask(client: LLMClient) -> None:
        await asyncio.gather(*(client.chat_completions(f"awaited {n}") for n in range(8)))

    with MockServer(delay=0.1) as server, ThreadPoolExecutor(18) as threads:
        client = client_of(server, concurrency_limit=4)
        calls = [threads.submit(client.chat_completions_sync, f"single {n}") for n in range(16)]
        batch = [f"batched {n}" for n in range(16)]
        calls.append(threads.submit(client.chat_completions_batch_sync, batch, show_progress=False))
        calls.append(threads.submit(asyncio.run, ask(client)))
        for call in calls:
            call.result(30.0)

    stats = server.stats()
    assert stats["answered"] == 40
    assert stats["peak_in_flight"] == 4
    assert stats["peak_connections"] == 4


def test_max_qps_holds_over_threads() -> None:
    with MockServer() as server, ThreadPoolExecutor(8) as threads:
        started = time.monotonic()
        client = client_of(server, concurrency_limit=8, max_qps=QPS)
        list(threads.map(client.chat_completions_sync, [f"question {n}" for n in range(20)]))

    assert too_early(server, started) == []


def test_two_clients_of_one_account_keep_to_max_qps_together() -> None:
    with MockServer() as server, ThreadPoolExecutor(16) as threads:
        started = time.monotonic()
        clients = [client_of(server, concurrency_limit=8, max_qps=QPS) for _ in range(2)]
        list(threads.map(lambda n: clients[n % 2].chat_completions_sync(f"question {n}"), range(24)))

    assert len(server.requests) == 24
    assert too_early(server, started) == []


def test_two_clients_of_one_account_never_exceed_its_concurrency_together() -> None:
    with MockServer(delay=0.05) as server, ThreadPoolExecutor(16) as threads:
        clients = [client_of(server, concurrency_limit=3) for _ in range(2)]
        list(threads.map(lambda n: clients[n % 2].chat_completions_sync(f"question {n}"), range(24)))

    assert server.stats()["answered"] == 24
    assert server.stats()["peak_in_flight"] <= 3


def test_a_refusal_that_one_client_saw_holds_the_others_of_the_account_back() -> None:
    """Also one with limits of its own; not one with another key."""
    with (
        MockServer(script=[Reply(status=429, headers={"Retry-After": "1"})]) as server,
        ThreadPoolExecutor(3) as threads,
    ):
        one, same, limited = (
            client_of(server),
            client_of(server),
            client_of(server, concurrency_limit=2, adaptive=False),
        )
        with pytest.raises(RateLimited):
            one.chat_completions_sync("refused")
        calls = [threads.submit(client.chat_completions_sync, "later") for client in (one, same, limited)]
        for call in calls:
            call.result(30.0)

    refused, *later = [request.time for request in server.requests]
    assert len(later) == 3
    assert min(later) >= refused + 1.0


def test_a_refusal_holds_no_other_account_back() -> None:
    with (
        MockServer(script=[Reply(status=429, headers={"Retry-After": "20"})]) as server,
        ThreadPoolExecutor(1) as threads,
    ):
        one, other = client_of(server, api_key="key-of-one"), client_of(server, api_key="key-of-another")
        with pytest.raises(RateLimited):
            one.chat_completions_sync("refused")
        assert threads.submit(other.chat_completions_sync, "at once").result(15.0)


def test_a_row_that_was_refused_waits_in_the_gate_and_goes_before_the_others() -> None:
    refusals = [Reply(status=429, headers={"Retry-After": "1"})]
    with MockServer(script=refusals) as server:
        client = client_of(server, concurrency_limit=1, retry_times=1)
        results = client.chat_completions_batch_sync(["first", "second", "third"], show_progress=False)

    assert all(results)
    asked = [request.json()["messages"][0]["content"] for request in server.requests]
    assert asked[:2] == ["first", "first"]
    assert server.requests[1].time >= server.requests[0].time + 1.0


def test_a_call_that_waits_for_its_retry_holds_no_permit() -> None:
    """A back-off costs the caller's own thread; another call passes meanwhile, even with a single permit."""
    with MockServer(script=[Reply(status=500)]) as server, ThreadPoolExecutor(1) as threads:
        client = client_of(server, concurrency_limit=1, retry_times=1, retry_delay=4.0)
        failing = threads.submit(client.chat_completions_sync, "fails at first")
        assert eventually(lambda: server.stats()["failed"] == 1)
        client.chat_completions_sync("passes")
        assert not failing.done()
        failing.result(60.0)

    assert [request.json()["messages"][0]["content"] for request in server.requests] == [
        "fails at first",
        "passes",
        "fails at first",
    ]
