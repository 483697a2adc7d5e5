"""Chains over real sockets: what they give, what they cost, and that gate, cache, budget and stop are those of any batch."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run
from fakes import eventually

from flexllm import (
    AuthenticationFailed,
    BadRequest,
    BatchResult,
    BatchStopped,
    BudgetExceededError,
    ChainError,
    ChainOfThoughtClient,
    Context,
    CostTrackerConfig,
    LinearStep,
    LLMClient,
    LLMClientPool,
    PriceUnknown,
    RequestTimeout,
    ResponseCacheConfig,
    Step,
)
from flexllm.mock import MockServer, ReceivedRequest, Reply

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient(**{"model": "m", "base_url": server.base_url, "retry_times": 0, "concurrency_limit": 4, **options})


def three_steps(client: LLMClient, **options: Any) -> ChainOfThoughtClient:
    """A chain of three steps, each made of the answer before it."""
    chains = ChainOfThoughtClient(client, **options)
    chains.create_linear_chain(
        [
            LinearStep("plan", lambda context: f"plan {context.query}"),
            LinearStep("solve", lambda context: f"solve {context.query}: {context.get('plan')}"),
            LinearStep("check", lambda context: f"check {context.query}: {context.get('solve')}"),
        ],
        name="usual",
    )
    return chains


def batch(server: MockServer, chains: Any, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
    with client_of(server, **(client or {})) as made:
        return three_steps(made).execute_chains_batch_sync(
            "usual", chains, *args, **{"show_progress": False, **options}
        )


def queries(count: int) -> list[str]:
    return [f"no. {number}" for number in range(count)]


def completion(text: str | None = None, **message: Any) -> bytes:
    return json.dumps({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }).encode()  # fmt: skip


def prompt(request: ReceivedRequest) -> str:
    text: str = request.json()["messages"][-1]["content"]
    return text


# --- one chain


def test_one_chain_is_run_to_its_end(server: MockServer) -> None:
    mine = Context("riddle")
    with client_of(server, price="1,2") as client:
        context = three_steps(client).execute_chain_sync("usual", mine)

    assert [prompt(request) for request in server.requests] == [one.messages[-1]["content"] for one in context.history]
    assert context.final_response == context.get_last_response() == context.get("check")
    assert context.get_execution_summary()["path"] == ["plan", "solve", "check"]
    assert context.cost == pytest.approx(sum(one.response.cost for one in context.history))
    assert context.usage.total_tokens == sum(one.usage.total_tokens for one in context.history if one.usage)
    assert mine == Context("riddle")


def test_a_chain_may_begin_anywhere_and_go_on_from_another_ones_end(server: MockServer) -> None:
    with client_of(server) as client:
        chains = three_steps(client)
        first = chains.execute_chain_sync("plan", "riddle")
        second = chains.execute_chain_sync("check", first)

    assert [one.step_name for one in second.history] == ["plan", "solve", "check", "check"]
    assert len(first.history) == 3


def test_a_step_may_be_a_conversation_and_answer_with_tools() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    replies = iter([completion(None, tool_calls=[call]), completion("found")])

    def follow(context: Context) -> list[Any]:
        step = context.history[-1]
        return [
            *step.messages,
            step.response.assistant_message,
            {"role": "tool", "tool_call_id": "1", "content": "here"},
        ]

    with MockServer(script=lambda request: Reply(body=next(replies))) as server, client_of(server) as client:
        chains = ChainOfThoughtClient(client)
        chains.add_step(
            Step("ask", lambda context: context.query, lambda reply, context: "use" if reply.tool_calls else None)
        )
        chains.add_step(Step("use", follow))
        context = chains.execute_chain_sync("ask", "where?")
        sent = server.requests[1].json()["messages"]

    assert context.final_response == "found"
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]


def test_an_answer_can_be_put_into_the_next_messages_as_it_is(server: MockServer) -> None:
    with client_of(server) as client:
        chains = ChainOfThoughtClient(client)
        chains.create_linear_chain([
            LinearStep("a", lambda context: "first"),
            LinearStep("b", lambda context: [{"role": "user", "content": context.get("a")}]),
        ])  # fmt: skip
        context = chains.execute_chain_sync()

    assert prompt(server.requests[1]) == context.get("a")


def test_a_chain_that_fails_raises_with_what_it_had() -> None:
    with (
        MockServer(script=lambda request: "bad_request" if "solve" in prompt(request) else None) as server,
        client_of(server) as client,
        pytest.raises(ChainError, match="step 'solve': ") as caught,
    ):
        three_steps(client).execute_chain_sync("usual", "riddle")

    error = caught.value
    assert (error.step, error.reason) == ("solve", "request")
    assert isinstance(error.error, BadRequest)
    assert isinstance(error.__cause__, BadRequest)
    assert error.context.get("plan") is not None
    assert error.context.final_response is None


def stumble(response: str, context: Context) -> str:
    return context.custom_data["nothing"]


def test_a_function_that_raises_is_shown_with_its_own_traceback(server: MockServer) -> None:
    with client_of(server) as client, pytest.raises(ChainError) as caught:
        chains = ChainOfThoughtClient(client)
        chains.add_step(Step("a", lambda context: "?", stumble))
        chains.execute_chain_sync()

    assert isinstance(caught.value.__cause__, KeyError)
    assert "in stumble" in "".join(traceback.format_exception(caught.value))


def test_one_chain_with_an_output_file_is_resumed(server: MockServer, path: Path) -> None:
    with client_of(server) as client:
        chains = three_steps(client)
        first = chains.execute_chain_sync("usual", "riddle", path)
        second = chains.execute_chain_sync("usual", "riddle", path)

    assert server.stats()["received"] == 3
    assert second.final_response == first.final_response
    assert [one.resumed for one in second.history] == [True] * 3


# --- many


def test_a_batch_gives_contexts_in_input_order_and_counts_chains_and_steps(server: MockServer) -> None:
    result, summary, report = batch(
        server, queries(20), client={"price": "1,2"}, return_summary=True, return_cost_report=True,
        metadata_list=[{"id": number} for number in range(20)],
    )  # fmt: skip

    assert isinstance(result, BatchResult)
    assert [context.query for context in result] == queries(20)
    assert [context.metadata for context in result] == [{"id": number} for number in range(20)]
    assert [item.content for item in result.items] == [context.final_response for context in result]
    assert (summary["total"], summary["success"], summary["failed"], summary["complete"]) == (20, 20, 0, True)
    assert (summary["steps"]["total"], summary["steps"]["success"]) == (60, 60)
    assert report.request_count == 60
    assert report.total_cost == pytest.approx(summary["cost"]) == pytest.approx(sum(one.cost for one in result))
    assert {step.response.result.body for context in result for step in context.history} == {None}
    assert "success=20" in repr(result)
    assert "no. 0" in result._repr_html_()
    result.raise_for_errors()
    assert server.stats()["received"] == 60
    json.dumps([context.as_dict() for context in result])


def test_the_clients_gate_holds_for_the_steps_of_all_chains() -> None:
    with MockServer(delay=0.01) as server:
        batch(server, queries(20), client={"concurrency_limit": 3})
        assert server.stats()["peak_in_flight"] <= 3


def test_failed_chains_do_not_stop_the_others_and_are_named(path: Path) -> None:
    def script(request: ReceivedRequest) -> str | None:
        return "bad_request" if prompt(request).startswith("solve no. 3:") else None

    with MockServer(script=script) as server:
        result = batch(server, queries(8), path)
        assert list(result.errors) == [3]
        assert (result.errors[3].step, result[3].get("plan") is not None, result[3].final_response) == (
            "solve",
            True,
            None,
        )
        assert result.summary["failed"] == 1
        server.set_script(None)
        again = batch(server, queries(8), path)

        assert again.errors == {}
        assert again[3].get("plan") == result[3].get("plan")
        assert server.stats()["received"] == 8 * 3 + 1


def test_without_history_the_results_are_small_and_tell_their_figures(server: MockServer) -> None:
    result = batch(server, queries(2), keep_history=False)

    assert all(context.final_response and context.usage.total_tokens > 30 for context in result)
    assert [one.response for one in result[0].history] == ["", "", ""]


def test_chains_can_be_taken_as_they_end_and_the_loop_be_left(server: MockServer) -> None:
    server.change(delay=0.01)

    def endless() -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"no. {number}"

    with client_of(server) as client:
        seen = []
        chains = three_steps(client).iter_chains_batch_sync("usual", endless())
        for context in chains:
            seen.append(context.index)
            if len(seen) == 5:
                break
        chains.close()  # type: ignore[attr-defined]
        assert len(set(seen)) == 5
        assert server.stats()["received"] < 100


# --- the cache, and equal rows


def test_equal_steps_are_answered_from_the_cache(server: MockServer, tmp_path: Path) -> None:
    cache = ResponseCacheConfig(enabled=True, cache_dir=tmp_path / "cache")
    first = batch(server, queries(30), client={"cache": cache})
    second = batch(server, queries(30), client={"cache": cache})
    with client_of(server, cache=cache) as client:
        single = three_steps(client).execute_chain_sync("usual", "no. 7")

    assert [one.final_response for one in second] == [one.final_response for one in first]
    assert (second.summary["cached"], second.summary["steps"]["cached"]) == (30, 90)
    assert [one.cached for one in single.history] == [True] * 3
    assert server.stats()["received"] == 90


def test_equal_steps_are_bought_once_at_temperature_0(server: MockServer, path: Path) -> None:
    for _run in range(2):
        result = batch(server, ["the same"] * 10, path, temperature=0)
        assert len({one.final_response for one in result}) == 1
    assert server.stats()["received"] == 3


# --- money and time


def test_a_budget_is_for_all_steps_of_all_chains_and_all_runs_of_the_file(server: MockServer, path: Path) -> None:
    result = batch(server, queries(20), path, max_requests=25)

    assert server.stats()["received"] == 25
    assert result.summary["stopped"] is not None
    assert result.summary["complete"] is False
    assert {error.reason for error in result.errors.values()} == {"stopped"}
    assert isinstance(result.errors[19].error, BatchStopped)
    assert len(result) == 20
    assert batch(server, queries(20), path, max_requests=25).summary["complete"] is False
    assert server.stats()["received"] == 25
    assert batch(server, queries(20), path).errors == {}
    assert server.stats()["received"] == 60


def test_a_budget_in_dollars_needs_a_price(server: MockServer) -> None:
    with pytest.raises(PriceUnknown):
        batch(server, ["a"], client={"model": "nobody-knows"}, max_cost=1.0)
    assert server.stats()["received"] == 0


def test_the_clients_own_budget_stops_a_chain(server: MockServer) -> None:
    tracker = CostTrackerConfig(max_requests=2)
    with client_of(server, cost_tracker=tracker) as client:
        with pytest.raises(ChainError) as caught:
            three_steps(client).execute_chain_sync("usual", "riddle")
        assert client.cost_report.request_count == 2

    assert caught.value.reason == "stopped"
    assert isinstance(caught.value.error, BudgetExceededError)
    assert str(caught.value).startswith("step 'check': ")
    assert len(caught.value.context.history) == 2


def test_a_wrong_key_stops_the_batch_early() -> None:
    with MockServer(api_key="right") as server:
        result = batch(server, queries(50))

        assert server.stats()["received"] < 20
        assert len(result.errors) == 50
        assert isinstance(result.errors[0].error, AuthenticationFailed)
        with pytest.raises(BatchStopped), client_of(server) as client:
            list(three_steps(client).iter_chains_batch_sync("usual", queries(50)))


def test_a_step_that_takes_longer_than_its_time_fails_its_chain() -> None:
    events: list[str] = []
    with (
        MockServer(script=lambda request: "hang" if "solve no. 1:" in prompt(request) else None) as server,
        client_of(server, retry_times=3) as client,
    ):
        chains = three_steps(client, step_timeout=0.3, monitor=lambda event: events.append(event.kind))
        result = chains.execute_chains_batch_sync("usual", queries(3), show_progress=False)

    assert list(result.errors) == [1]
    assert isinstance(result.errors[1].error, RequestTimeout)
    assert events.count("step_timeout") == 1
    assert events.count("chain_end") == 2


def test_retries_are_those_of_the_client() -> None:
    with MockServer(script=["server_error", None, "server_error", None, None]) as server:
        with client_of(server, retry_times=1, retry_delay=0.0) as client:
            three_steps(client).execute_chain_sync("usual", "riddle")
        assert server.stats()["received"] == 5


# --- any client, any caller


def test_a_pool_answers_chains(path: Path) -> None:
    with MockServer() as one, MockServer() as other:
        endpoints = [{"base_url": server.base_url, "model": "m"} for server in (one, other)]
        with LLMClientPool(endpoints) as pool:
            result = three_steps(pool).execute_chains_batch_sync("usual", queries(20), path, show_progress=False)
        assert result.errors == {}
        assert one.stats()["received"] + other.stats()["received"] == 60
        assert min(one.stats()["received"], other.stats()["received"]) > 0


def test_steps_may_name_their_models(server: MockServer) -> None:
    with client_of(server, model=None) as client:
        chains = ChainOfThoughtClient(client)
        chains.create_linear_chain(
            [LinearStep(name, lambda context: "?", {"model": name}) for name in ("small", "large")]
        )
        chains.execute_chain_sync()

    assert [request.json()["model"] for request in server.requests] == ["small", "large"]


def test_awaitable_names_do_the_same(server: MockServer, path: Path) -> None:
    async def main() -> tuple[Any, ...]:
        async with client_of(server) as client:
            chains = three_steps(client)
            one = await chains.execute_chain("usual", "no. 0")
            many = await chains.execute_chains_batch("usual", queries(5), path, show_progress=False)
            streamed = [context.query async for context in chains.iter_chains_batch("usual", queries(3))]
            return one, many, sorted(streamed)

    one, many, streamed = asyncio.run(main())
    assert one.final_response == many[0].final_response
    assert streamed == queries(3)


def test_an_awaited_batch_that_is_cancelled_keeps_what_was_answered(server: MockServer, path: Path) -> None:
    server.change(delay=0.02)

    async def main() -> None:
        async with client_of(server) as client:
            task = asyncio.ensure_future(
                three_steps(client).execute_chains_batch("usual", queries(200), path, show_progress=False)
            )
            while not path.exists() or path.read_bytes().count(b"\n") < 10:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    lines = path.read_bytes().count(b"\n")
    assert 10 <= lines < 600
    assert server.stats()["answered"] == lines


@pytest.mark.slow
def test_ctrl_c_leaves_every_answer_in_the_file(server: MockServer, path: Path) -> None:
    server.change(delay=0.2)
    program = (
        "import sys; from flexllm import *\n"
        "chains = ChainOfThoughtClient(LLMClient('m', sys.argv[1], concurrency_limit=4))\n"
        "chains.create_linear_chain([LinearStep(str(at), lambda context: f'{context.query} {len(context.history)}')\n"
        "    for at in range(3)])\n"
        "chains.execute_chains_batch_sync(None, map(str, range(100)), sys.argv[2], show_progress=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, server.base_url, str(path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        assert eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= 6)
        process.send_signal(signal.SIGINT)
        _said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
    assert server.stats()["answered"] == path.read_bytes().count(b"\n")


def test_status_counts_steps_as_rows(server: MockServer, path: Path) -> None:
    batch(server, queries(4), path)
    done = run("status", str(path), "--json")

    assert done.code == 0
    assert done.data["success"] == 12


def test_an_ordinary_batch_and_chains_take_each_others_equal_answers(server: MockServer, path: Path) -> None:
    with client_of(server) as client:
        client.chat_completions_batch_sync([f"plan {query}" for query in queries(3)], path, show_progress=False)
        three_steps(client).execute_chains_batch_sync("usual", queries(3), path, show_progress=False)
        assert server.stats()["received"] == 9
        client.chat_completions_batch_sync([f"plan {query}" for query in queries(3)], path, show_progress=False)
        three_steps(client).execute_chains_batch_sync("usual", queries(3), path, show_progress=False)

    assert server.stats()["received"] == 9
