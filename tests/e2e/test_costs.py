"""What a run costs and may cost, over real sockets: prices, reports, the file, budgets that hold with many threads."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flexllm import (
    BatchStopped,
    BudgetExceededError,
    ClaudeClient,
    ConfigError,
    CostTracker,
    CostTrackerConfig,
    LLMClient,
    PriceUnknown,
    ReplyTruncated,
    RequestTimeout,
    SchemaMismatch,
)
from flexllm.mock import MockServer, ReceivedRequest, Reply

PER_TOKEN = 1000 / 1e6
"""US dollars for each token of a reply at the price "0,1000": 20 of them are $0.02."""

QUESTION = "a " * 190
"""About the hundred tokens that `saying(100, ...)` counts."""


def completion(prompt_tokens: int, completion_tokens: int, **more: Any) -> bytes:
    return json.dumps({
        "id": "c", "object": "chat.completion", "created": 1, "model": more.pop("model", "m"),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": more.pop("content", "yes")},
                     "finish_reason": more.pop("finish_reason", "stop")}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
                  "total_tokens": prompt_tokens + completion_tokens, **more},
    }).encode()  # fmt: skip


def saying(*args: int, **more: Any) -> Callable[[ReceivedRequest], Reply]:
    body = completion(*args, **more)
    return lambda request: Reply(body=body)


def of_random_length(least: int, most: int, delay: float = 0.0) -> Callable[[ReceivedRequest], Reply]:
    chance, lock = random.Random(7), threading.Lock()

    def answer(request: ReceivedRequest) -> Reply:
        with lock:
            tokens = chance.randint(least, most)
        return Reply(body=completion(0, tokens), delay=delay)

    return answer


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(script=saying(100, 10)) as server:
        yield server


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient(**{"model": "m", "base_url": server.base_url, "retry_times": 0, "retry_delay": 0.01, **options})


def batch(server: MockServer, rows: Any, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
    with client_of(server, **(client or {})) as made:
        return made.chat_completions_batch_sync(rows, *args, **{"show_progress": False, **options})


def spent_in(path: Path) -> float:
    return sum(json.loads(line).get("cost") or 0.0 for line in path.read_text().splitlines())


# --- what a reply costs


def test_a_known_model_has_its_price_from_the_table(server: MockServer) -> None:
    with client_of(server, model="gpt-4o") as client:
        result = client.chat_completions_sync("a", return_usage=True)

    assert result.cost == pytest.approx(100 * 2.5e-6 + 10 * 10e-6)
    assert result.endpoint == server.base_url


def test_an_unknown_model_costs_nobody_knows_what(server: MockServer) -> None:
    results, report = batch(server, ["a", "b"], return_usage=True, return_cost_report=True)

    assert [result.cost for result in results] == [None, None]
    assert results.summary["cost"] is None
    assert (report.total_cost, report.unpriced_requests) == (0.0, 2)
    assert "unknown" in str(report)


@pytest.mark.parametrize("price", ["1,2,0.1", {"input": 1, "output": 2, "cached_input": 0.1}], ids=["text", "mapping"])
def test_the_callers_own_price_counts(price: Any) -> None:
    with (
        MockServer(script=saying(100, 10, prompt_tokens_details={"cached_tokens": 60})) as server,
        client_of(server, price=price) as client,
    ):
        result = client.chat_completions_sync("a", return_usage=True)

    assert result.cost == pytest.approx((40 * 1 + 60 * 0.1 + 10 * 2) / 1e6)


def test_prices_by_name_are_for_the_models_of_that_name(server: MockServer) -> None:
    with client_of(server, prices={"m": "1,1", "n": "2,2"}) as client:
        costs = [client.chat_completions_sync("a", model=name, return_usage=True).cost for name in ("m", "n", "o")]

    assert costs == [pytest.approx(110e-6), pytest.approx(220e-6), None]


def test_what_the_server_says_that_it_costs_beats_every_table() -> None:
    with MockServer(script=saying(100, 10, cost=0.0042)) as server, client_of(server) as client:
        assert client.chat_completions_sync("a", return_usage=True).cost == 0.0042


def test_every_way_of_asking_has_its_cost(server: MockServer) -> None:
    with MockServer() as mock, client_of(mock, price="1,1") as client:
        *_, streamed = client.chat_completions_stream_sync("tell a story", return_usage=True)
        one = client.chat_completions_sync("tell a story", return_usage=True)
        (item,) = client.chat_completions_batch_sync(["tell a story"], show_progress=False).items
        assert streamed.cost == one.cost == item.result.cost == pytest.approx(one.usage.total_tokens / 1e6)
        with ClaudeClient(api_key="sk-any", model="claude-sonnet-5-5", base_url=mock.url) as claude:
            result = claude.chat_completions_sync("a", return_usage=True)
            usage = result.usage
            assert result.cost == pytest.approx(usage.prompt_tokens * 2e-6 + usage.completion_tokens * 10e-6)


def test_each_endpoint_of_a_pool_has_its_own_price() -> None:
    with MockServer(script=saying(100, 10)) as one, MockServer(script=saying(100, 10)) as other:
        endpoints = [
            {"base_url": one.base_url, "price": "1,1"},
            {"base_url": other.base_url, "price": "3,3", "model": "dear"},
        ]
        with LLMClient("m", endpoints=endpoints, retry_times=0) as pool:
            results, report = pool.chat_completions_batch_sync(
                ["a"] * 20, show_progress=False, return_usage=True, return_cost_report=True
            )

    assert {result.endpoint: result.cost for result in results} == {
        one.base_url: pytest.approx(110e-6),
        other.base_url: pytest.approx(330e-6),
    }
    assert set(report.by_endpoint) == {one.base_url, other.base_url}
    assert report.total_cost == pytest.approx(sum(result.cost for result in results))


# --- attempts that were billed without an answer


def test_a_reply_that_was_refused_for_its_form_is_paid_for() -> None:
    with (
        MockServer(script=saying(100, 10)) as server,
        client_of(server, price="1,1", on_invalid="retry") as client,
        pytest.raises(SchemaMismatch) as caught,
    ):
        client.chat_completions_sync("a", response_format={"type": "json_object"})

    assert caught.value.cost == pytest.approx(2 * 110e-6)


def test_a_cut_reply_that_counts_as_failed_is_in_the_report_and_the_file(tmp_path: Path) -> None:
    with MockServer(script=saying(100, 10, finish_reason="length")) as server:
        results, report = batch(
            server, ["a"], tmp_path / "out.jsonl", client={"price": "1,1", "on_truncated": "error"},
            return_cost_report=True,
        )  # fmt: skip

    assert isinstance(results.errors[0], ReplyTruncated)
    assert report.total_cost == results.summary["cost"] == pytest.approx(110e-6)
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert row["error"]["cost"] == pytest.approx(110e-6)


def test_an_attempt_that_timed_out_was_probably_billed(server: MockServer) -> None:
    replies = iter([Reply(body=completion(100, 10), delay=60.0), Reply(body=completion(100, 10))])
    with (
        MockServer(script=lambda request: next(replies)) as slow,
        client_of(slow, price="1,1", timeout=1.5, retry_times=1) as client,
    ):
        result = client.chat_completions_sync("a " * 400, return_usage=True)

    assert result.attempts == 2
    assert result.cost == pytest.approx(110e-6 + result.cost_estimated)
    assert 100e-6 < result.cost_estimated < 400e-6


def test_attempts_that_brought_nothing_are_not_billed(server: MockServer) -> None:
    replies = iter([Reply(status=500), Reply(status=429), Reply(body=completion(100, 10))])
    with (
        MockServer(script=lambda request: next(replies)) as server,
        client_of(server, price="1,1", retry_times=3) as client,
    ):
        result = client.chat_completions_sync("a", return_usage=True)

    assert (result.attempts, result.cost, result.cost_estimated) == (3, pytest.approx(110e-6), 0.0)


def test_a_row_that_timed_out_for_good_still_has_a_cost() -> None:
    with MockServer(script=lambda request: Reply(body=completion(1, 1), delay=60.0)) as server:
        results, report = batch(server, ["a " * 400], client={"price": "1,1", "timeout": 0.3}, return_cost_report=True)

    assert isinstance(results.errors[0], RequestTimeout)
    assert report.total_cost == report.estimated_cost > 0


# --- reports


def test_the_report_has_what_the_document_says(server: MockServer) -> None:
    results, summary, report = batch(
        server, ["a", "b", "c", "d"], client={"model": "gpt-4o"}, return_summary=True, return_cost_report=True
    )

    assert report.total_cost == summary["cost"] == pytest.approx(4 * (100 * 2.5e-6 + 10 * 10e-6))
    assert (report.total_input_tokens, report.total_output_tokens, report.total_tokens) == (400, 40, 440)
    assert (report.request_count, report.avg_input_tokens, report.avg_output_tokens) == (4, 100.0, 10.0)
    assert report.avg_cost_per_request == pytest.approx(report.total_cost / 4)
    assert report.model == "gpt-4o"
    assert report.price_date
    assert json.loads(json.dumps(report.summary()))["total_cost"] == report.total_cost
    assert "$0.0014" in str(report)
    assert report._repr_html_().startswith("<")


def test_each_line_of_the_file_has_its_cost(server: MockServer, tmp_path: Path) -> None:
    batch(server, ["a", "b"], tmp_path / "out.jsonl", client={"price": "1,1"})
    again = batch(server, ["a", "b"], tmp_path / "out.jsonl", client={"price": "1,1"}, return_usage=True)

    assert spent_in(tmp_path / "out.jsonl") == pytest.approx(220e-6)
    assert [result.cost for result in again] == [pytest.approx(110e-6)] * 2
    assert again.summary["cost"] == 0.0, "this run bought nothing"


def test_the_progress_shows_the_cost(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    batch(server, ["a", "b"], client={"price": "1,5"}, show_progress=True, track_cost=True)

    assert "💰 $0.0003" in capsys.readouterr().err


# --- budgets


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 8, 64])
def test_a_budget_is_spent_but_for_less_than_a_row(threads: int, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with MockServer(script=of_random_length(1, 20, delay=0.002)) as server:
        result = batch(
            server, [f"row {index}" for index in range(3000)], path, max_cost=1.0, max_tokens=20,
            client={"price": "0,1000", "concurrency_limit": threads},
        )  # fmt: skip

        assert 0.98 <= result.summary["cost"] <= 1.0 + 1e-9
        assert result.summary["success"] == len(server.requests) < 3000
    assert spent_in(path) == pytest.approx(result.summary["cost"])
    assert "budget" in result.summary["stopped"]
    assert {type(error) for error in result.errors.values()} == {BatchStopped}
    assert {error.reason for error in result.errors.values()} == {"budget"}


def test_earlier_runs_of_the_same_file_count_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    path, rows = tmp_path / "out.jsonl", [f"row {index}" for index in range(40)]
    with MockServer(script=saying(0, 10)) as server:
        options = {"max_tokens": 10, "client": {"price": "0,1000", "concurrency_limit": 4}}
        first = batch(server, rows, path, max_cost=0.1, **options)
        assert (first.summary["success"], len(server.requests)) == (10, 10)
        second = batch(server, rows, path, max_cost=0.1, **options)
        assert (second.summary["success"], len(server.requests)) == (10, 10)
        third = batch(server, rows, path, max_cost=0.25, **options)
        assert (third.summary["success"], len(server.requests)) == (25, 25)
        fourth = batch(server, rows, path, **options)
        assert (fourth.summary["success"], len(server.requests)) == (40, 40)
        assert fourth.summary["complete"]


def test_what_failed_rows_took_counts_after_they_were_answered_and_the_file_was_put_in_order(tmp_path: Path) -> None:
    path, rows = tmp_path / "out.jsonl", [f"row {index}" for index in range(10)]
    replies = iter(range(10**6))

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(body=completion(0, 10, finish_reason="length" if next(replies) < 10 else "stop"))

    options: dict[str, Any] = {
        "max_tokens": 10, "client": {"price": "0,1000", "on_truncated": "error", "concurrency_limit": 1},
    }  # fmt: skip
    with MockServer(script=answer) as server:
        batch(server, rows, path, **options)  # $0.10, and no answer
        batch(server, rows, path, **options)
        assert len(path.read_text().splitlines()) == 10
        batch(server, rows, path, **options)
        assert len(server.requests) == 20
        more = batch(server, [*rows, *(f"more {index}" for index in range(10))], path, max_cost=0.25, **options)

        assert (more.summary["success"], len(server.requests)) == (15, 25)
        assert "$0.25 of the budget of $0.25 is spent" in more.summary["stopped"]
        more = batch(server, rows, path, max_requests=24, **options)
        assert len(server.requests) == 25


@pytest.mark.parametrize(("limit", "rows"), [({"max_requests": 7}, 7), ({"max_total_tokens": 500}, 4)])
def test_requests_and_tokens_can_be_limited_without_any_price(
    server: MockServer, limit: dict[str, int], rows: int
) -> None:
    result = batch(server, [f"{QUESTION}{index}" for index in range(50)], max_tokens=10, **limit)

    assert len(server.requests) == result.summary["success"] == rows


@pytest.mark.parametrize("threads", [1, 8, 64])
def test_requests_that_are_sent_again_are_within_their_limit_too(threads: int, tmp_path: Path) -> None:
    chance, lock = random.Random(1), threading.Lock()

    def answer(request: ReceivedRequest) -> Reply:
        with lock:
            return Reply(status=500) if chance.random() < 0.4 else Reply(body=completion(100, 10))

    rows, path = [f"row {index}" for index in range(400)], tmp_path / "out.jsonl"
    with MockServer(script=answer) as server:
        options = {"client": {"retry_times": 3, "retry_delay": 0.001, "concurrency_limit": threads}}
        first = batch(server, rows, path, max_requests=100, **options)
        assert len(server.requests) == 100
        assert "100 of 100 requests are sent" in first.summary["stopped"]
        second = batch(server, rows, path, max_requests=150, **options)
        assert len(server.requests) == 150
        assert second.summary["success"] > first.summary["success"]


def test_a_budget_holds_where_one_endpoint_is_dear_in_its_prompts_and_the_other_in_its_replies() -> None:
    with MockServer(script=of_random_length(15, 20)) as one, MockServer(script=of_random_length(15, 20)) as other:
        endpoints = [{"base_url": one.base_url, "price": "1000,0"}, {"base_url": other.base_url, "price": "0,999"}]
        with LLMClient("m", endpoints=endpoints, retry_times=0, concurrency_limit=32) as pool:
            result = pool.chat_completions_batch_sync(
                ["a"] * 2000, show_progress=False, max_cost=0.5, max_tokens=20, share=False
            )

    assert 0.45 <= result.summary["cost"] <= 0.5 + 1e-9


def test_no_answer_is_lost_where_a_budget_ends_between_the_two_requests_of_a_row(tmp_path: Path) -> None:
    chance, lock = random.Random(1), threading.Lock()

    def answer(request: ReceivedRequest) -> Reply:
        with lock:
            reason = "length" if chance.random() < 0.5 else "stop"
        return Reply(body=completion(0, 10, finish_reason=reason), delay=0.002)

    path = tmp_path / "out.jsonl"
    with MockServer(script=answer) as server:
        result = batch(
            server, [f"row {index}" for index in range(300)], path, max_requests=100, max_tokens=10,
            client={"price": "0,1000", "concurrency_limit": 64, "on_truncated": "retry"},
        )  # fmt: skip

        assert len(server.requests) == 100
    assert result.summary["cost"] == pytest.approx(1.0)
    assert spent_in(path) == pytest.approx(1.0)


def test_without_max_tokens_the_outputs_seen_tell_what_to_reserve() -> None:
    with MockServer(script=of_random_length(15, 20, delay=0.005)) as server:
        result = batch(
            server, [f"row {index}" for index in range(500)], max_cost=1.0,
            client={"price": "0,1000", "concurrency_limit": 16},
        )  # fmt: skip

    assert 0.9 <= result.summary["cost"] <= 1.1


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(server: MockServer, tmp_path: Path) -> None:
    with pytest.raises(PriceUnknown, match="price"):
        batch(server, ["a"], tmp_path / "out.jsonl", max_cost=1.0)
    with pytest.raises(LookupError, match="price"):
        client_of(server, cost_tracker=CostTrackerConfig.with_budget(1.0))

    assert server.requests == []
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("value", [-1, "1", True, float("nan")])
def test_a_budget_must_be_an_amount(server: MockServer, value: Any) -> None:
    with pytest.raises(ConfigError):
        batch(server, ["a"], max_cost=value, client={"price": "1,1"})


def test_single_calls_keep_to_the_clients_budget(server: MockServer) -> None:
    warnings: list[tuple[float, float]] = []
    config = CostTrackerConfig.with_budget(350e-6, warning=200e-6, on_warning=lambda *told: warnings.append(told))
    with client_of(server, price="1,1", cost_tracker=config) as client:
        for _ in range(3):
            client.chat_completions_sync("a", max_tokens=10)
        with pytest.raises(BudgetExceededError) as caught:
            for _ in range(3):
                client.chat_completions_sync("a", max_tokens=10)
        assert client.cost_report.total_cost == pytest.approx(330e-6)

    assert (caught.value.current_cost, caught.value.budget_limit) == (pytest.approx(330e-6), 350e-6)
    assert len(server.requests) == 3
    assert warnings == [(pytest.approx(220e-6), 200e-6)]


def test_a_stream_keeps_to_the_clients_budget_too() -> None:
    with (
        MockServer() as server,
        client_of(server, price="0,1000", cost_tracker=CostTrackerConfig.with_budget(0.06)) as client,
    ):
        list(client.chat_completions_stream_sync("tell a story", max_tokens=20))
        assert client.cost_report.total_cost > 0
        with pytest.raises(BudgetExceededError):
            for _ in range(5):
                list(client.chat_completions_stream_sync("tell a story", max_tokens=20))
        assert client.cost_report.total_cost <= 0.06


def test_tracking_only_counts_and_never_stops(server: MockServer) -> None:
    with client_of(server, price="1,1", cost_tracker=CostTrackerConfig.tracking_only()) as client:
        client.chat_completions_sync("a")
        client.chat_completions_batch_sync(["b", "c"], show_progress=False)
        assert client.cost_report.total_cost == pytest.approx(330e-6)
        assert client.cost_report.request_count == 3


def test_clients_can_share_one_tracker(server: MockServer) -> None:
    tracker = CostTracker(CostTrackerConfig.with_budget(350e-6))
    with (
        client_of(server, price="1,1", cost_tracker=tracker) as one,
        client_of(server, price="1,1", cost_tracker=tracker) as other,
    ):
        for client in (one, other, one):
            client.chat_completions_sync("a", max_tokens=10)
        with pytest.raises(BudgetExceededError):
            other.chat_completions_sync("a", max_tokens=10)

    assert tracker.get_report().request_count == 3


def test_a_batch_within_a_clients_budget_ends_with_all_answers_kept(server: MockServer, tmp_path: Path) -> None:
    options = {"price": "1,1", "cost_tracker": CostTrackerConfig.with_budget(1200e-6), "concurrency_limit": 4}
    result = batch(server, [QUESTION] * 30, tmp_path / "out.jsonl", client=options, max_tokens=10)

    assert result.summary["success"] == len(server.requests) == 10
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10
    assert "budget" in result.summary["stopped"]


def test_the_iterator_just_ends_when_the_budget_is_spent(server: MockServer) -> None:
    with client_of(server, price="1,1") as client:
        items = list(client.iter_chat_completions_batch_sync([QUESTION] * 30, max_cost=500e-6, max_tokens=10))

    assert len(items) == 4


def test_a_second_request_that_the_budget_forbids_leaves_the_first_answer(tmp_path: Path) -> None:
    with MockServer(script=saying(0, 10, finish_reason="length")) as server:
        options = {"price": "0,1000", "on_truncated": "retry", "concurrency_limit": 1}
        result = batch(server, ["a", "b"], client=options, max_cost=0.025, max_tokens=10)

    assert result[0] == "yes"
    assert result.summary["cost"] == pytest.approx(0.01 * len(server.requests))
    assert len(server.requests) <= 2


# --- before anything is paid


def test_a_forecast_tells_what_a_batch_will_take_and_sends_nothing(server: MockServer, tmp_path: Path) -> None:
    path, rows = tmp_path / "out.jsonl", [f"{QUESTION}{index}" for index in range(30)]
    with client_of(server, price="1,1") as client:
        client.chat_completions_batch_sync(rows[:10], path, show_progress=False)
        asked = len(server.requests)
        forecast = client.forecast_batch_sync(rows, output_jsonl=path, max_cost=1.0, return_summary=True)
        assert len(server.requests) == asked
        after = client.chat_completions_batch_sync(rows, path, show_progress=False)

    assert (forecast.rows, forecast.done, forecast.to_buy) == (30, 10, 20)
    assert forecast.cost is not None
    assert forecast.cost.expected == pytest.approx(after.summary["cost"], rel=0.05)
    assert "20 to buy" in str(forecast)


def test_a_forecast_with_a_budget_needs_a_price(server: MockServer) -> None:
    with client_of(server) as client:
        assert client.forecast_batch_sync(["a"]).cost is None
        with pytest.raises(PriceUnknown):
            client.forecast_batch_sync(["a"], max_cost=1.0)


def test_a_run_that_goes_on_knows_how_long_the_replies_are(tmp_path: Path) -> None:
    path, rows = tmp_path / "out.jsonl", [f"row {index}" for index in range(60)]
    with MockServer(script=saying(0, 30)) as server:
        options = {"client": {"price": "0,1000", "concurrency_limit": 4}}
        batch(server, rows[:10], path, **options)  # $0.30
        again = batch(server, rows, path, max_cost=0.95, **options)

    assert again.summary["success"] == 31, "30 tokens each are expected, and not 4096: a scout would have gone over it"
    assert spent_in(path) == pytest.approx(0.93)


def test_a_pool_names_the_model_whose_price_is_unknown(server: MockServer) -> None:
    endpoints = [
        {"base_url": server.base_url, "price": "1,1", "model": "a"},
        {"base_url": server.base_url, "model": "b"},
    ]
    with LLMClient(endpoints=endpoints) as pool, pytest.raises(PriceUnknown, match="'b'"):
        pool.chat_completions_batch_sync(["a"], max_cost=1.0, show_progress=False)
