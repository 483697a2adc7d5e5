"""Batches from Python over real sockets: what comes back, what a second call gives, and how a loop may be left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, eventually, unused_port

from flexllm import (
    BadRequest,
    BatchFailed,
    BatchResult,
    ChatCompletionResult,
    CheckpointError,
    ConfigError,
    ConnectionFailed,
    InputError,
    LLMClient,
    RateLimited,
    ServerError,
)
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.batch.stops import FEWEST_UNANSWERED, FEWEST_UNREACHED
from flexllm.cancel import CancelToken
from flexllm.mock import MockServer, ReceivedRequest, Reply


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient(**{"model": "m", "base_url": server.base_url, "retry_times": 0, "retry_delay": 0.01, **options})


def batch(
    server: MockServer, conversations: Any, *args: Any, client: dict[str, Any] | None = None, **options: Any
) -> Any:
    with client_of(server, **(client or {})) as made:
        return made.chat_completions_batch_sync(conversations, *args, **{"show_progress": False, **options})


def prompt(request: ReceivedRequest) -> str:
    text: str = request.json()["messages"][-1]["content"]
    return text


def failing(status: int, *prompts: str) -> MockServer:
    return MockServer(script=lambda request: Reply(status=status) if prompt(request) in prompts else None)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sent(server: MockServer) -> list[str]:
    return [prompt(request) for request in server.requests]


# --- what comes back


def test_a_batch_is_a_list_of_texts_in_input_order(server: MockServer) -> None:
    questions = [f"question {number}" for number in range(50)]
    results = batch(server, questions)
    assert isinstance(results, list)
    assert len(results) == 50
    assert all(question in text for question, text in zip(questions, results, strict=True))
    assert results == batch(server, questions, client={"concurrency_limit": 1})
    assert json.loads(json.dumps(results)) == results


def test_rows_may_be_texts_messages_or_conversations(server: MockServer) -> None:
    message = {"role": "user", "content": "same"}
    texts = batch(server, ["same", message, [message], (message,)])
    assert len(set(texts)) == 1


def test_the_items_tell_more(server: MockServer) -> None:
    results = batch(server, ["a", "b"], metadata_list=[{"id": 1}, "second"])
    assert [item.index for item in results.items] == [0, 1]
    assert [item.content for item in results.items] == list(results)
    assert [item.metadata for item in results.items] == [{"id": 1}, "second"]
    assert {(item.status, item.error, item.resumed) for item in results.items} == {("success", None, False)}
    for item in results.items:
        assert item.usage["total_tokens"] == item.usage["prompt_tokens"] + item.usage["completion_tokens"] > 0
        assert 0 < item.latency < 10
        assert item.result.request_id
    assert results.errors == {}
    results.raise_for_errors()


def test_with_usage_each_element_is_a_whole_result(server: MockServer) -> None:
    results = batch(server, ["a", "b"], return_usage=True)
    assert all(isinstance(result, ChatCompletionResult) for result in results)
    assert [str(result) for result in results] == batch(server, ["a", "b"])


def test_summary_and_cost_report_come_as_a_tuple(server: MockServer) -> None:
    results, summary, report = batch(server, ["a", "b"], return_summary=True, return_cost_report=True)
    assert isinstance(results, BatchResult)
    assert summary is results.summary
    assert (summary["total"], summary["success"], summary["failed"], summary["cached"]) == (2, 2, 0, 0)
    assert summary["elapsed"] > 0
    assert report.total_tokens == summary["total_tokens"] == sum(item.usage["total_tokens"] for item in results.items)
    assert (report.request_count, report.model) == (2, "m")


def test_parameters_go_to_the_server_those_of_a_row_first(server: MockServer) -> None:
    batch(server, ["a", "b"], temperature=0.5, params_list=[{"temperature": 0.9, "seed": 1}, {"model": "other"}])
    bodies = {prompt(request): request.json() for request in server.requests}
    assert {name: bodies["a"].get(name) for name in ("model", "temperature", "seed")} == {
        "model": "m",
        "temperature": 0.9,
        "seed": 1,
    }
    assert {name: bodies["b"].get(name) for name in ("model", "temperature", "seed")} == {
        "model": "other",
        "temperature": 0.5,
        "seed": None,
    }


def test_an_empty_batch_is_an_empty_list(server: MockServer, path: Path) -> None:
    results, summary = batch(server, [], path, return_summary=True)
    assert (list(results), summary["total"]) == ([], 0)


def test_any_iterable_is_a_batch(server: MockServer) -> None:
    assert len(batch(server, (f"question {number}" for number in range(20)))) == 20
    assert len(batch(server, {"a": 1, "b": 2}.keys())) == 2


@pytest.mark.parametrize("conversation", ["one question", {"role": "user", "content": "one question"}])
def test_one_conversation_is_no_list_of_them(server: MockServer, conversation: Any) -> None:
    with pytest.raises(ConfigError, match="messages_list must be a list of conversations"):
        batch(server, conversation)
    assert sent(server) == []


# --- rows that fail


def test_a_failed_row_is_none_and_its_error_is_typed() -> None:
    with failing(429, "b") as server:
        results = batch(server, ["a", "b", "c"], client={"retry_times": 2})
        assert server.stats()["prompts"] == {"a": 1, "b": 3, "c": 1}
    assert [text is None for text in results] == [False, True, False]
    assert list(results.errors) == [1]
    error = results.errors[1]
    assert isinstance(error, RateLimited)
    assert (error.status, error.attempts, error.model) == (429, 3, "m")
    assert error.request_id
    assert (results.items[1].status, results.items[1].error, results.items[1].content) == ("error", error, None)
    assert (results.summary["failed"], results.summary["retries"]) == (1, 2)
    assert results.summary["errors_by_class"] == {"RateLimited": 1}


def test_errors_can_be_raised() -> None:
    with failing(500, "b", "c") as server:
        results = batch(server, ["a", "b", "c"])
    with pytest.raises(BatchFailed, match="2 of 3 rows failed; the first is row 1") as caught:
        results.raise_for_errors()
    assert caught.value.errors == results.errors
    assert isinstance(caught.value.__cause__, ServerError)


def test_with_usage_a_failed_row_is_none_too() -> None:
    with failing(400, "b") as server:
        results = batch(server, ["a", "b"], return_usage=True)
    assert results[1] is None
    assert isinstance(results.errors[1], BadRequest)


@pytest.mark.parametrize(
    "bad", [[], None, 7, [{"role": "robot", "content": "x"}], [{"content": "x"}], ["text in a list"], "half \ud83d"]
)
def test_messages_that_cannot_be_sent_cost_their_row_alone(server: MockServer, path: Path, bad: Any) -> None:
    for _ in range(2):
        results = batch(server, ["a", bad, "c"], path)
        assert [text is None for text in results] == [False, True, False]
        assert isinstance(results.errors[1], InputError)
    assert sorted(sent(server)) == ["a", "c"]
    assert [row["status"] for row in rows_of(path)] == ["success", "error", "success"]


def test_half_a_character_without_a_file_costs_its_row_alone(server: MockServer) -> None:
    results = batch(server, ["a", "half \ud83d", "c"])
    assert results[0]
    assert results[2]


def test_a_parameter_that_json_does_not_know_costs_its_row_alone(server: MockServer, path: Path) -> None:
    for output in (None, path):
        results = batch(server, ["a", "b"], output, params_list=[{}, {"stop": {1, 2}}])
        assert [text is None for text in results] == [False, True]


# --- resumed


def replies(request: ReceivedRequest) -> Reply | None:
    """Answer with all that an answer can hold."""
    messages = {
        "tools": {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}},
                {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        "thoughts": {"role": "assistant", "content": "So be it.", "reasoning_content": "Let me think…"},
        "half": {"role": "assistant", "content": "half \ud83d"},
        "empty": {"role": "assistant", "content": ""},
    }
    message = messages.get(prompt(request))
    if message is None:
        return None
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "details": {"reasoning_tokens": 3}}
    finish = "tool_calls" if "tool_calls" in message else "stop"
    body = {"model": "m-2026", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
    return Reply(body=json.dumps(body).encode())


EVERYTHING = ["plain", "tools", "thoughts", "half", "empty"]


def without_times(result: ChatCompletionResult | None) -> Any:
    if result is None:
        return None
    names = ("content", "usage", "reasoning_content", "tool_calls", "finish_reason", "model", "request_id", "attempts")
    return {name: getattr(result, name) for name in names}


def test_a_resumed_row_is_what_the_first_call_gave(path: Path) -> None:
    with MockServer(script=replies) as server:
        first = batch(server, EVERYTHING, path, return_usage=True, metadata_list=[{"id": 1}, 2, None, "x", [1]])
        second = batch(server, EVERYTHING, path, return_usage=True, metadata_list=[{"id": 1}, 2, None, "x", [1]])
        assert server.stats()["received"] == len(EVERYTHING)
    assert [without_times(result) for result in second] == [without_times(result) for result in first]
    assert [result.latency for result in second] == pytest.approx([result.latency for result in first], abs=1e-4)
    assert [type(result.usage) for result in second] == [type(result.usage) for result in first]
    assert first[1].tool_calls[0].function == {"name": "f", "arguments": '{"a": "é"}'}
    assert first[2].reasoning_content == "Let me think…"
    assert [item.metadata for item in second.items] == [{"id": 1}, 2, None, "x", [1]]
    assert all(item.resumed for item in second.items)
    assert not any(item.resumed for item in first.items)
    assert (second.summary["success"], second.summary["resumed"], second.summary["total_tokens"]) == (5, 5, 0)


def test_the_whole_reply_comes_back_if_it_was_saved(server: MockServer, path: Path) -> None:
    first, second = (batch(server, ["a"], path, return_usage=True, save_raw=True) for _ in range(2))
    assert second[0].raw == first[0].raw
    assert second[0].raw["object"] == "chat.completion"


def test_a_resumed_error_is_what_the_first_call_gave(path: Path) -> None:
    with failing(429, "b") as server:
        first = batch(server, ["a", "b"], path)
        second = batch(server, ["a", "b"], path, retry_failed=False)
        assert server.stats()["prompts"] == {"a": 1, "b": 1}
    assert type(second.errors[1]) is RateLimited
    assert str(second.errors[1]) == str(first.errors[1])
    assert second.errors[1].status == 429
    assert second.errors[1].request_id == first.errors[1].request_id


def test_a_failed_row_is_asked_again(path: Path) -> None:
    with failing(500, "b") as server:
        batch(server, ["a", "b"], path)
    with MockServer() as server:
        results = batch(server, ["a", "b"], path)
        assert sent(server) == ["b"]
    assert all(results)
    assert [row["status"] for row in rows_of(path)] == ["success", "success"]


def test_a_batch_goes_on_with_another_server(path: Path) -> None:
    with MockServer() as server:
        batch(server, ["a"], path)
    with MockServer() as other:
        assert all(batch(other, ["a", "b"], path, client={"api_key": "another"}))
        assert sent(other) == ["b"]


def test_a_changed_model_is_asked_again_unless_it_is_told_otherwise(server: MockServer, path: Path) -> None:
    (first,) = batch(server, ["a"], path)
    (kept,) = batch(server, ["a"], path, model="other", on_change="keep")
    assert kept == first
    with pytest.raises(CheckpointError, match="on_change"):
        batch(server, ["a"], path, model="other", on_change="fail")
    results = batch(server, ["a"], path, model="other")
    assert results[0] != first
    assert results.summary["changed"] == 1
    assert [request.json()["model"] for request in server.requests] == ["m", "other"]


def test_rows_with_parameters_of_their_own_resume(server: MockServer, path: Path) -> None:
    seeds = [{"seed": seed} for seed in range(10)]
    first = batch(server, ["same"] * 10, path, params_list=seeds)
    assert len(set(first)) == 10
    second = batch(server, ["same"] * 11, path, params_list=[{"seed": 10}, *seeds[::-1]])
    assert list(second[1:]) == list(first[::-1])
    assert server.stats()["received"] == 11


def test_the_older_name_of_the_output_file_is_taken(server: MockServer, path: Path) -> None:
    batch(server, ["a"], output_jsonl=path)
    batch(server, ["a"], output_jsonl=str(path))
    assert sent(server) == ["a"]


@pytest.mark.slow
def test_an_interrupted_batch_resumes_as_a_whole(path: Path) -> None:
    """Ctrl-C while it waits: what is under way is finished and written, and KeyboardInterrupt comes after that."""
    questions = [f"question {number}" for number in range(100)]
    with MockServer(delay=0.3) as server, client_of(server, concurrency_limit=4) as client:

        def interrupt() -> None:
            eventually(lambda: server.stats()["answered"] >= 10)  # and it takes long until all are
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.chat_completions_batch_sync(questions, path, show_progress=False)
        thread.join()
        stats = server.stats()
        assert 10 <= stats["answered"] == stats["received"] == len(rows_of(path)) < 100
        server.change(delay=0.0)
        results = client.chat_completions_batch_sync(questions, path, show_progress=False)
        assert results.summary["resumed"] == stats["answered"]
        assert set(server.stats()["prompts"].values()) == {1}
    assert all(results)


# --- ending itself


def job_of(client: LLMClient, path: Path, cancel: CancelToken | None = None, **options: Any) -> BatchJob:
    progress = ProgressOptions(show=False)
    return client.batch_job(BatchOptions(output=path, progress=progress, **options), cancel or CancelToken())


def conversations(count: int) -> ListRows:
    return ListRows([f"question {number}" for number in range(count)], "m", {})


def failing_after(
    count: int, failure: Reply, notice: Callable[[], object] | None = None
) -> Callable[[ReceivedRequest], Reply | None]:
    """Answer so many requests; all others get the failure, and are noticed."""
    numbers = itertools.count(1)

    def script(request: ReceivedRequest) -> Reply | None:
        if next(numbers) <= count:
            return None
        if notice is not None:
            notice()
        return failure

    return script


def once(action: Callable[[], object]) -> Callable[[], object]:
    """Return what does something the first time alone."""
    actions = [action]
    return lambda: actions.pop()() if actions else None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_batch_that_the_server_lets_nobody_in_for_asks_a_few_rows(path: Path, status: int) -> None:
    with (
        MockServer(script=lambda request: Reply(status=status)) as server,
        client_of(server, concurrency_limit=4) as client,
    ):
        job = job_of(client, path)
        items = list(job.run(conversations(200)))
        received = server.stats()["received"]
    assert 3 <= received < 50  # those that were on their way
    assert len(items) == len(rows_of(path)) == received
    assert job.stopped is not None
    assert job.stopped.reason == "fatal"
    assert "stopped with 0 of 200 rows answered: every further row would fail as the last" in str(job.stopped)
    assert len(list(job.unasked_items(items))) == 200 - received
    with MockServer() as server, client_of(server) as client:
        job = job_of(client, path)
        assert len(list(job.run(conversations(200)))) == 200
        assert server.stats()["received"] == 200
    assert (job.stopped, job.is_complete) == (None, True)


def test_what_was_answered_before_the_credit_ran_out_is_not_asked_again(path: Path) -> None:
    script = failing_after(20, Reply(status=402))
    with MockServer(script=script) as server, client_of(server, concurrency_limit=4) as client:
        job = job_of(client, path)
        list(job.run(conversations(100)))
        answered = [row["index"] for row in rows_of(path) if row["status"] == "success"]
        assert len(answered) == 20
        assert "stopped with 20 of 100 rows answered" in job.summary()["stopped"]
    with MockServer() as server, client_of(server) as client:
        list(job_of(client, path).run(conversations(100)))
        assert server.stats()["received"] == 80
    assert [(row["index"], row["status"]) for row in rows_of(path)] == [(index, "success") for index in range(100)]


def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(path: Path) -> None:
    with MockServer() as server, client_of(server, concurrency_limit=4) as client:
        job = job_of(client, path)
        items = []
        for item in job.run(conversations(500)):
            items.append(item)
            if len(items) == 50:
                server.close()
    failed = sum(item.status == "error" for item in items)
    assert FEWEST_UNANSWERED <= failed < FEWEST_UNANSWERED + 50
    assert job.stopped is not None
    assert (job.stopped.reason, type(job.stopped.error)) == ("fatal", ConnectionFailed)
    with MockServer() as server, client_of(server) as client:
        assert all(item.content for item in job_of(client, path).run(conversations(500)))
        assert server.stats()["received"] == 500 - (len(items) - failed)


def test_nobody_there_ends_the_run_after_a_few_rows(path: Path) -> None:
    base_url = f"http://127.0.0.1:{unused_port()}/v1"
    with LLMClient(model="m", base_url=base_url, retry_times=0, concurrency_limit=2) as client:
        job = job_of(client, path)
        items = list(job.run(conversations(1_000)))
    assert FEWEST_UNREACHED <= len(items) < FEWEST_UNREACHED + 50
    assert "rows brought no reply at all" in str(job.stopped)


def test_too_many_refused_rows_end_the_run(path: Path) -> None:
    def script(request: ReceivedRequest) -> Reply | None:
        return Reply(status=400) if int(prompt(request).split()[1]) % 2 else None

    with MockServer(script=script) as server, client_of(server, concurrency_limit=4) as client:
        job = job_of(client, path, fail_over=0.2)
        items = list(job.run(conversations(1_000)))
    assert len(items) < 100
    assert job.stopped is not None
    assert (job.stopped.reason, type(job.stopped.error)) == ("failures", BadRequest)
    assert all(item.content or item.status == "error" for item in items)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stuck", [Reply(delay=60.0), Reply(drip=0.5), Reply(drip=0.5, drip_head=True)], ids=["hang", "drip", "drip head"]
)
def test_a_batch_whose_time_is_over_ends_although_the_server_hangs(path: Path, stuck: Reply) -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)
    script = failing_after(20, stuck, once(lambda: clock.advance(60.0)))
    with MockServer(script=script) as server, client_of(server, concurrency_limit=4) as client:
        job = job_of(client, path, cancel, max_time=0.05, grace=1.0)
        items = list(job.run(conversations(100)))
    assert len(items) == len(rows_of(path)) == 20
    assert job.stopped is not None
    assert (job.stopped.reason, job.stopped.error, job.is_complete) == ("max_time", None, False)
    with MockServer() as server, client_of(server) as client:
        job = job_of(client, path, max_time=600.0)
        assert sum(item.resumed for item in job.run(conversations(100))) == 20
        assert server.stats()["received"] == 80
    assert (job.stopped, job.is_complete) == (None, True)


def test_what_is_under_way_when_the_time_is_over_may_finish(path: Path) -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)
    script = failing_after(3, Reply(delay=0.15), once(lambda: clock.advance(60.0)))
    with MockServer(script=script, delay=0.15) as server, client_of(server, concurrency_limit=4) as client:
        job = job_of(client, path, cancel, max_time=0.02)
        items = list(job.run(conversations(100)))
        assert server.stats()["answered"] == server.stats()["received"] == len(items) == len(rows_of(path)) < 100
    told = f"stopped with {len(items)} of 100 rows answered: max_time=0.02 seconds are over"
    assert str(job.stopped).startswith(told)


# --- as they finish


def test_items_come_as_they_finish() -> None:
    def script(request: ReceivedRequest) -> Reply | None:
        return Reply(delay=60.0) if prompt(request) == "slow" else None

    with MockServer(script=script) as server, client_of(server) as client:
        items = client.iter_chat_completions_batch_sync(["slow", "a", "b"], grace=0.0)
        assert sorted(item.index for item in itertools.islice(items, 2)) == [1, 2]
        items.close()  # type: ignore[attr-defined]


def test_an_endless_generator_is_read_a_little_ahead(server: MockServer) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield f"question {read}"

    with client_of(server, concurrency_limit=4) as client:
        items = client.iter_chat_completions_batch_sync(endless())
        taken = list(itertools.islice(items, 200))
        assert len({item.index for item in taken}) == 200
        assert read <= 200 + 4 * 4 + 4
        items.close()  # type: ignore[attr-defined]
    assert eventually(lambda: server.stats()["open_connections"] == 0)


@pytest.mark.slow
def test_leaving_the_loop_keeps_what_was_under_way(path: Path) -> None:
    questions = [f"question {number}" for number in range(100)]
    with MockServer(delay=0.01) as server, client_of(server, concurrency_limit=4) as client:
        for item in client.iter_chat_completions_batch_sync(questions, path):
            if item.index >= 10:
                break
        del item
        gc.collect()
        stats = server.stats()
        assert stats["answered"] == stats["received"] == len(rows_of(path)) < 100
        rest = list(client.iter_chat_completions_batch_sync(questions, path))
        assert sum(item.resumed for item in rest) == stats["answered"]
        assert set(server.stats()["prompts"].values()) == {1}
    assert len(rest) == 100


def test_an_iterator_that_is_never_read_does_not_keep_the_file(server: MockServer, path: Path) -> None:
    with client_of(server) as client:
        items = client.iter_chat_completions_batch_sync(["a"], path)
        del items
        gc.collect()
        assert all(client.chat_completions_batch_sync(["a"], path, show_progress=False))


def test_an_error_in_the_loop_is_the_callers_and_the_file_is_kept(path: Path) -> None:
    with MockServer(delay=0.01) as server, client_of(server, concurrency_limit=4) as client:
        with pytest.raises(ZeroDivisionError):
            for item in client.iter_chat_completions_batch_sync([f"question {n}" for n in range(50)], path):
                _ = 1 / (item.index - item.index)
        gc.collect()
        assert eventually(lambda: not path.with_name("out.jsonl.lock").exists())
        assert len(rows_of(path)) == server.stats()["answered"] > 0


def test_what_the_generator_raises_comes_after_its_rows(server: MockServer, path: Path) -> None:
    def broken() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise LookupError("the source is gone")

    came = []
    with client_of(server) as client, pytest.raises(LookupError, match="the source is gone"):
        for item in client.iter_chat_completions_batch_sync(broken(), path):
            came.append(item.index)
    assert sorted(came) == [0, 1, 2]
    assert len(rows_of(path)) == 3


def test_a_generator_with_fewer_metadata_is_told_after_its_rows(server: MockServer) -> None:
    with client_of(server) as client, pytest.raises(ValueError, match="metadata_list has 2 entries"):
        list(client.iter_chat_completions_batch_sync((str(n) for n in range(5)), metadata_list=[1, 2]))
    assert sorted(sent(server)) == ["0", "1"]


# --- while an event loop is running


def test_a_batch_runs_while_an_event_loop_runs_in_the_same_thread(server: MockServer, path: Path) -> None:
    async def notebook() -> Any:
        return batch(server, ["a", "b"], path, return_usage=True)

    assert len(asyncio.run(notebook())) == 2


def test_two_batches_at_the_same_time_do_not_mix(server: MockServer, tmp_path: Path) -> None:
    async def main() -> list[Any]:
        async with client_of(server, concurrency_limit=8) as client:
            calls = (
                client.chat_completions_batch(
                    [f"{name} {number}" for number in range(30)], tmp_path / f"{name}.jsonl", show_progress=False
                )
                for name in "ab"
            )
            return await asyncio.gather(*calls)

    for name, results in zip("ab", asyncio.run(main()), strict=True):
        assert all(f'"{name} {number}"' in text for number, text in enumerate(results))
        assert len(rows_of(tmp_path / f"{name}.jsonl")) == 30


# --- as a value


def test_a_short_text_stands_for_a_batch() -> None:
    with failing(500, "b") as server:
        results = batch(server, ["a", "b", "c"])
    assert repr(results).startswith("BatchResult(total=3, success=2, failed=1, elapsed=")
    assert len(repr(results)) < 100


def test_a_notebook_shows_a_table_of_the_first_rows() -> None:
    with failing(400, "bad") as server:
        html = batch(server, ["<b>bold</b>", "bad", *map(str, range(98))])._repr_html_()
    assert "&lt;b&gt;bold" in html
    assert "<b>bold" not in html
    assert "BadRequest" in html
    assert html.count("<tr>") == 11  # a head and ten rows
    assert "and 90 more rows" in html


def test_a_batch_can_be_pickled() -> None:
    with failing(500, "b") as server:
        results = batch(server, ["a", "b"])
    copy = pickle.loads(pickle.dumps(results))
    assert isinstance(copy, BatchResult)
    assert (list(copy), copy.summary, [item.content for item in copy.items]) == (
        list(results), results.summary, [item.content for item in results.items],
    )  # fmt: skip
    assert str(copy.errors[1]) == str(results.errors[1])
