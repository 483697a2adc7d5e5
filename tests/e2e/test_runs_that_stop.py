"""Runs that end by themselves, as a Python caller sees them: the list stays as long as the input, and nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexllm import AuthenticationFailed, BatchStopped, LLMClient, QuotaExhausted
from flexllm.mock import MockServer

pytestmark = pytest.mark.slow

ROWS = [f"question {number}" for number in range(200)]


@pytest.fixture
def dry() -> Iterator[MockServer]:
    """A server whose account is empty after twenty answers."""
    with MockServer(script=[*[None] * 20, *["quota"] * 1000]) as server:
        yield server


def test_the_rows_that_were_not_asked_have_an_error_and_their_metadata(dry: MockServer) -> None:
    with LLMClient("m", dry.base_url, concurrency_limit=1) as client:
        results, summary = client.chat_completions_batch_sync(
            ROWS, show_progress=False, return_summary=True, metadata_list=list(range(200))
        )

    assert len(results) == len(results.items) == 200
    assert [item.index for item in results.items] == [item.metadata for item in results.items] == list(range(200))
    assert sum(answer is not None for answer in results) == summary["success"] == 20
    assert {type(item.error) for item in results.items[20:23]} == {QuotaExhausted}
    assert {type(item.error) for item in results.items[30:]} == {BatchStopped}
    assert summary["stopped"].startswith("stopped with 20 of 200 rows answered: every further row would fail")
    assert summary["complete"] is False
    assert 23 <= dry.stats()["received"] <= 30  # what was taken up before the third was looked at


def test_the_next_run_asks_only_what_has_no_answer(dry: MockServer, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with LLMClient("m", dry.base_url, concurrency_limit=2) as client:
        first = client.chat_completions_batch_sync(ROWS, path, show_progress=False)
        dry.set_script(None)
        before = dry.stats()["received"]
        second = client.chat_completions_batch_sync(ROWS, path, show_progress=False)

    assert first.summary["success"] == 20
    assert (second.summary["success"], second.summary["resumed"], second.summary["stopped"]) == (200, 20, None)
    assert dry.stats()["received"] - before == 180


def test_an_iterator_ends_with_the_reason(dry: MockServer) -> None:
    items = []
    with LLMClient("m", dry.base_url, concurrency_limit=1) as client, pytest.raises(BatchStopped) as caught:
        for item in client.iter_chat_completions_batch_sync(iter(ROWS)):
            items.append(item)

    assert sum(item.error is None for item in items) == 20
    assert (caught.value.reason, type(caught.value.error)) == ("fatal", QuotaExhausted)


def test_an_awaited_batch_stops_as_well() -> None:
    async def ask() -> BatchStopped:
        with MockServer(api_key="another") as server:
            async with LLMClient("m", server.base_url, "this", concurrency_limit=2) as client:
                results = await client.chat_completions_batch(ROWS, show_progress=False)
                assert server.stats()["received"] < 12
        error = results.items[-1].error
        assert isinstance(error, BatchStopped)
        return error

    assert isinstance(asyncio.run(ask()).error, AuthenticationFailed)


def test_the_time_of_a_run_is_a_normal_end() -> None:
    with MockServer(delay=0.1) as server, LLMClient("m", server.base_url, concurrency_limit=2) as client:
        result = client.chat_completions_batch_sync(ROWS, show_progress=False, max_time=1.5, grace=10.0)
        items = list(client.iter_chat_completions_batch_sync(ROWS, max_time=1.5, grace=10.0))

    assert 2 <= result.summary["success"] < 40
    assert "max_time=1.5 seconds are over" in result.summary["stopped"]
    assert all(item.error is None for item in items)


def test_the_share_of_failed_rows_at_which_a_run_stops() -> None:
    with MockServer(faults={"bad_request": 0.5}) as server, LLMClient("m", server.base_url) as client:
        result = client.chat_completions_batch_sync(ROWS, show_progress=False, fail_over=0.3)

    assert "more than fail_over=0.3 allows" in result.summary["stopped"]
    assert server.stats()["received"] < 100


def test_a_log_tells_of_each_attempt_that_failed_with_the_servers_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flexllm")
    with (
        MockServer(script=["server_error"]) as server,
        LLMClient("m", server.base_url, "a-key-that-nobody-sees", retry_delay=0.01) as client,
    ):
        client.chat_completions_sync("hello")

    [told] = [record.getMessage() for record in caplog.records if "attempt 1" in record.getMessage()]
    assert "HTTP 500" in told
    assert "request id req_0_00000001" in told
    assert "a-key-that-nobody-sees" not in caplog.text
