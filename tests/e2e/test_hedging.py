"""Slow rows that are sent once more: the first answer counts, both requests are counted, and nothing of it by default."""

from __future__ import annotations

import pytest
from fakes import eventually

from flexllm import HedgePolicy, LLMClient, LLMClientPool
from flexllm.mock import MockServer, ReceivedRequest, Reply

pytestmark = pytest.mark.slow

ROWS = [f"row {number}" for number in range(60)]
SLOW = [f"slow {number}" for number in range(20)]
"""So many that some of them meet either endpoint of a pool."""
POLICY = HedgePolicy(quantile=0.9, at_least=10, at_most=1.0)
"""Any number may be sent once more: on a busy machine, chance makes rows slow before the one that is meant."""


def slow_once(start: str, seconds: float):
    """Hold up the first request for a row that starts so; all others are answered after a moment."""
    met = []

    def reply(request: ReceivedRequest) -> Reply | None:
        if request.json()["messages"][-1]["content"].startswith(start) and not met:
            met.append(request)
            return Reply(delay=seconds)
        return Reply(delay=0.02)

    return reply


def is_idle(server: MockServer) -> bool:
    stats = server.stats()
    return stats["received"] == stats["answered"] + stats["failed"]


def test_a_slow_row_is_sent_once_more_and_the_first_answer_counts() -> None:
    with MockServer(script=slow_once("row 50", 30.0)) as server:
        with LLMClient("m", server.base_url, concurrency_limit=4, hedge=POLICY) as client:
            result = client.chat_completions_batch_sync(ROWS, show_progress=False, return_usage=True)
            health = client.stats["endpoints"][0]
        assert eventually(lambda: server.stats()["failed"] >= 1)  # the slow one was broken off, and not waited for
        prompts = server.stats()["prompts"]

    assert result.summary["success"] == 60
    assert prompts["row 50"] == 2
    assert (result[50].attempts, result[50].hedged) == (2, 1)
    hedged = sum(answer.hedged for answer in result)
    assert result.summary["hedged"] == health["hedged"] == hedged >= 1
    # A second request may be broken off before it leaves, when the first answer comes in that very moment.
    assert all(prompts[row] in (1, 1 + answer.hedged) for row, answer in zip(ROWS, result, strict=True))
    assert result.summary["retries"] == 0
    # What the other request took is not told; it is counted as much again.
    assert result.summary["total_tokens"] == sum(one.usage.total_tokens * (1 + one.hedged) for one in result)


def test_the_second_request_goes_to_another_endpoint_and_the_first_connection_is_closed() -> None:
    with MockServer(script=slow_once("slow", 30.0)) as slow, MockServer(delay=0.02) as sound:
        endpoints = [{"base_url": slow.base_url}, {"base_url": sound.base_url}]
        with LLMClientPool(endpoints, model="m", concurrency_limit=2, hedge=POLICY) as pool:
            result = pool.chat_completions_batch_sync(ROWS + SLOW, show_progress=False)
        assert result.summary["success"] == 80
        assert eventually(
            lambda: is_idle(slow) and slow.stats()["failed"] >= 1
        )  # the server sees the end of a connection late


def test_a_pool_whose_places_are_all_taken_sends_slow_rows_once_more_too() -> None:
    with MockServer(script=slow_once("slow", 30.0)) as slow, MockServer(delay=0.02) as sound:
        endpoints = [{"base_url": slow.base_url}, {"base_url": sound.base_url}]
        prompts = [*ROWS, *SLOW, *(f"later {number}" for number in range(300))]
        with LLMClientPool(endpoints, model="m", concurrency_limit=2, hedge=0.9) as pool:
            result = pool.chat_completions_batch_sync(prompts, show_progress=False)

        assert result.summary["success"] == 380
        assert eventually(
            lambda: slow.stats()["failed"] >= 1
        )  # the one that was held up was broken off, and not waited for


def test_nothing_is_sent_twice_by_default() -> None:
    with MockServer(script=slow_once("row 50", 0.5)) as server, LLMClient("m", server.base_url) as client:
        result = client.chat_completions_batch_sync(ROWS, show_progress=False)
        assert (result.summary["hedged"], server.stats()["received"]) == (0, 60)
