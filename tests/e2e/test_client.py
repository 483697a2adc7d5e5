"""The client over real sockets, with the mock server as witness: what it received decides, not what the client says."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fakes import CLOSE, READ, ScriptedServer, eventually, http_reply, unused_port

from flexllm import (
    BatchResultItem,
    ChatCompletionResult,
    ConnectionFailed,
    LLMClient,
    OutputLocked,
    StreamBroken,
)
from flexllm.mock import MockServer, Reply

PATIENCE = 30.0
"""Seconds until a failing test gives up."""


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient(**{"model": "mock-model", "base_url": server.base_url, "retry_times": 0, **options})


async def soon(claim: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(eventually, claim)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


# --- one


def test_one_call_gives_the_text(server: MockServer) -> None:
    with client_of(server) as client:
        text = client.chat_completions_sync("What is 1 + 1?")
        same = client.chat_completions_sync([{"role": "user", "content": "What is 1 + 1?"}])

    assert isinstance(text, str)
    assert "What is 1 + 1?" in text
    assert text == same


@pytest.mark.parametrize("flag", ["return_usage", "return_raw"])
def test_one_call_gives_the_whole_result(server: MockServer, flag: str) -> None:
    with client_of(server) as client:
        text = client.chat_completions_sync("Hello")
        result = client.chat_completions_sync("Hello", **{flag: True})

    assert isinstance(result, ChatCompletionResult)
    assert str(result) == result.content == text
    assert result.usage is not None
    assert result.usage["total_tokens"] == result.usage["prompt_tokens"] + result.usage["completion_tokens"] > 0
    assert (result.finish_reason, result.model, result.attempts, result.cached) == ("stop", "mock-model", 1, False)
    assert result.request_id
    assert result.latency is not None
    assert 0 < result.latency < PATIENCE
    assert result.data["choices"][0]["message"]["content"] == text


def test_the_model_is_that_of_the_call(server: MockServer) -> None:
    with client_of(server, model=None) as client:
        result = client.chat_completions_sync("Hello", model="another", return_usage=True)

    assert isinstance(result, ChatCompletionResult)
    assert result.model == "another"
    assert server.requests[0].json()["model"] == "another"


def test_headers_and_key_reach_the_server(server: MockServer) -> None:
    with client_of(server, api_key="sk-mine", headers={"X-Team": "blue", "User-Agent": "ours/1"}) as client:
        client.chat_completions_sync("Hello")

    headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer sk-mine"
    assert (headers["x-team"], headers["user-agent"]) == ("blue", "ours/1")


# --- stream


def test_a_stream_gives_pieces_as_they_arrive() -> None:
    pieces = [f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n" for text in ("one ", "two ")]
    end = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    head = http_reply(b"", "Content-Type: text/event-stream", "Connection: close", framed=False)
    got_first = threading.Event()
    steps = [READ, head, pieces[0].encode(), got_first, pieces[1].encode(), end.encode(), CLOSE]

    with ScriptedServer(steps) as server, LLMClient("m", f"{server.url}/v1", retry_times=0) as client:
        stream = client.chat_completions_stream_sync("Hello")
        assert next(stream) == "one "
        got_first.set()  # the rest is still to come
        assert list(stream) == ["two "]


def test_a_stream_adds_up_to_the_same_text(server: MockServer) -> None:
    with client_of(server) as client:
        pieces = list(client.chat_completions_stream_sync("Hello"))
        whole = client.chat_completions_sync("Hello")

    assert len(pieces) > 1
    assert "".join(map(str, pieces)) == whole
    assert server.requests[0].json()["stream"] is True


def test_a_stream_ends_with_the_result_if_usage_is_asked_for(server: MockServer) -> None:
    with client_of(server) as client:
        *pieces, last = client.chat_completions_stream_sync("Hello", return_usage=True)

    assert all(isinstance(piece, str) for piece in pieces)
    assert isinstance(last, ChatCompletionResult)
    assert last.content == "".join(map(str, pieces))
    assert last.usage is not None
    assert last.usage["completion_tokens"] > 0
    assert last.finish_reason == "stop"


def test_leaving_a_stream_early_frees_its_connection_and_its_permit() -> None:
    with MockServer(token_delay=0.5) as server, client_of(server, concurrency_limit=1) as client:
        for _ in client.chat_completions_stream_sync("Hello"):
            break

        assert eventually(lambda: server.stats()["open_connections"] == 0)
        assert client.chat_completions_sync("Next")


def test_a_stream_that_breaks_gives_what_had_arrived() -> None:
    reply = Reply(cut="body")
    with MockServer(script=[reply]) as server, client_of(server, retry_times=3) as client:
        pieces: list[Any] = []
        with pytest.raises(StreamBroken) as caught:
            pieces.extend(client.chat_completions_stream_sync("Hello, what is a token bucket?"))

    assert caught.value.partial
    assert server.stats()["received"] == 1  # it had begun, so it is not asked again


# --- while an event loop is running in the same thread, as in a notebook


def test_every_sync_method_works_inside_a_running_event_loop(server: MockServer, tmp_path: Path) -> None:
    async def notebook() -> None:
        with client_of(server) as client:
            assert client.chat_completions_sync("Hello")
            assert "".join(map(str, client.chat_completions_stream_sync("Hello")))
            results = client.chat_completions_batch_sync(["a", "b"], tmp_path / "out.jsonl", show_progress=False)
            assert all(results)
            items = list(client.iter_chat_completions_batch_sync(["a", "b", "c"]))
            assert sorted(item.index for item in items) == [0, 1, 2]

    asyncio.run(notebook())

    assert server.stats()["answered"] == 7


# --- awaited


def test_every_awaitable_twin_does_the_same(server: MockServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            assert await client.chat_completions("Hello") == client.chat_completions_sync("Hello")
            result = await client.chat_completions("Hello", return_usage=True)
            assert isinstance(result, ChatCompletionResult)
            pieces = [piece async for piece in client.chat_completions_stream("Hello", return_usage=True)]
            assert isinstance(pieces[-1], ChatCompletionResult)
            assert pieces[-1].content == "".join(map(str, pieces[:-1])) == result.content
            results, summary = await client.chat_completions_batch(
                ["a", "b"], tmp_path / "out.jsonl", show_progress=False, return_summary=True
            )
            assert results == client.chat_completions_batch_sync(["a", "b"], show_progress=False)
            assert summary["success"] == 2
            items = [item async for item in client.iter_chat_completions_batch(["a", "b"])]
            assert sorted(item.content or "" for item in items) == sorted(results)

    asyncio.run(main())


def test_an_awaited_call_raises_what_the_sync_one_does() -> None:
    async def main() -> None:
        async with LLMClient("m", f"http://127.0.0.1:{unused_port()}/v1", retry_times=0) as client:
            with pytest.raises(ConnectionFailed):
                await client.chat_completions("Hello")
            with pytest.raises(ConnectionFailed):
                async for _ in client.chat_completions_stream("Hello"):
                    pass

    asyncio.run(main())


class CountingExecutor(ThreadPoolExecutor):
    """The event loop's default executor, watched."""

    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.submitted += 1
        return super().submit(*args, **kwargs)


@pytest.mark.slow
def test_sixty_four_gathered_calls_are_all_in_flight_at_once() -> None:
    """Also where the event loop's default executor has fewer threads; it is neither used nor replaced."""
    usual = CountingExecutor(2, thread_name_prefix="usual")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(usual)
        async with client_of(server, concurrency_limit=64) as client:
            held = [asyncio.create_task(client.chat_completions(f"held {n}")) for n in range(64)]
            while server.stats()["received"] < 64:
                await asyncio.sleep(0.01)
            for call in held:
                call.cancel()
            await asyncio.wait(held)
            server.change(delay=0.0)
            answers = await asyncio.gather(*(client.chat_completions(f"question {n}") for n in range(64)))
        for number, answer in enumerate(answers):
            assert f'"question {number}"' in str(answer)
        assert usual.submitted == 0
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("usual")

    with MockServer(delay=60.0) as server:  # the first is not answered before the last is sent
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert server.stats()["peak_in_flight"] == 64


def test_the_event_loop_goes_on_while_calls_are_awaited() -> None:
    async def main() -> None:
        async with client_of(server) as client:
            call = asyncio.create_task(client.chat_completions("Hello"))
            assert await soon(lambda: server.stats()["received"] == 1)
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert not call.done()
            call.cancel()
            await asyncio.wait([call])

    with MockServer(delay=60.0) as server:
        asyncio.run(main())


def test_cancelling_a_call_frees_its_thread_its_permit_and_its_connection() -> None:
    async def main() -> None:
        async with client_of(server, concurrency_limit=1) as client:
            call = asyncio.create_task(client.chat_completions("Hello"))
            assert await soon(lambda: server.stats()["received"] == 1)
            started = time.monotonic()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert time.monotonic() - started < PATIENCE
            assert await soon(lambda: server.stats()["open_connections"] == 0)
            assert await client.chat_completions("Next")

    with MockServer(script=[Reply(delay=60.0)]) as server:
        asyncio.run(main())


def test_cancelling_a_call_that_waits_for_a_thread_does_not_wait_for_the_others() -> None:
    """A client with one permit has nine threads here; the tenth call has none."""

    async def main() -> None:
        async with client_of(server, concurrency_limit=1) as client:
            busy = [asyncio.create_task(client.chat_completions(f"busy {n}")) for n in range(9)]
            assert await soon(lambda: server.stats()["received"] == 1)
            started = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.chat_completions("late"), 0.05)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(_whole(client.chat_completions_stream("late")), 0.05)
            assert time.monotonic() - started < PATIENCE
            assert not any(call.done() for call in busy)
            for call in busy:
                call.cancel()
            await asyncio.wait(busy)

    with MockServer(delay=60.0) as server:
        asyncio.run(main())
        assert "late" not in server.stats()["prompts"]


async def _whole(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


def test_cancelling_a_call_that_waits_for_its_permit_lets_the_others_pass() -> None:
    async def main() -> None:
        async with client_of(server, concurrency_limit=1) as client:
            first = asyncio.create_task(client.chat_completions("first"))
            assert await soon(lambda: server.stats()["received"] == 1)
            second = asyncio.create_task(client.chat_completions("second"))
            third = asyncio.create_task(client.chat_completions("third"))
            await asyncio.sleep(0.02)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            first.cancel()
            assert "third" in str(await third)

    with MockServer(script={"first": Reply(delay=60.0)}) as server:
        asyncio.run(main())
        assert set(server.stats()["prompts"]) == {"first", "third"}


@pytest.mark.slow
def test_cancelling_an_awaited_batch_stops_it_cleanly(tmp_path: Path) -> None:
    """When CancelledError arrives, what was answered is in the file, nothing was broken off, and the lock is gone."""
    output = tmp_path / "out.jsonl"
    questions = [f"question {number}" for number in range(200)]

    async def main() -> None:
        async with client_of(server, concurrency_limit=8) as client:
            batch = asyncio.create_task(client.chat_completions_batch(questions, output, show_progress=False))
            assert await soon(lambda: server.stats()["answered"] >= 30)
            batch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await batch
            stats = server.stats()
            assert 30 <= stats["answered"] == stats["received"] < 200
            assert len(rows_of(output)) == stats["answered"]
            assert not lock_of(output).exists()
            server.change(delay=0.0)
            results = await client.chat_completions_batch(questions, output, show_progress=False)
            assert results.summary["resumed"] == stats["answered"]

    with MockServer(delay=0.3) as server:
        asyncio.run(main())
        assert server.stats()["prompts"] == dict.fromkeys(questions, 1)
    assert [row["index"] for row in rows_of(output)] == list(range(200))


@pytest.mark.slow
def test_leaving_an_async_iterator_early_stops_the_rest_and_keeps_the_file(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    endless = (f"question {number}" for number in iter(int, 1))

    async def main() -> None:
        async with client_of(server, concurrency_limit=4) as client:
            async with aclosing(client.iter_chat_completions_batch(endless, output)) as items:
                seen = 0
                async for item in items:
                    assert isinstance(item, BatchResultItem)
                    seen += 1
                    if seen == 10:
                        break
            stats = server.stats()
            assert 10 <= stats["answered"] == stats["received"] == len(rows_of(output))
            assert not lock_of(output).exists()

    with MockServer(delay=0.02) as server:
        asyncio.run(main())


@pytest.mark.slow
def test_an_async_iterator_that_is_just_left_has_ended_when_the_loop_has(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"

    async def main() -> None:
        client = client_of(server, concurrency_limit=4)
        async for _ in client.iter_chat_completions_batch((f"question {n}" for n in itertools.count()), output):
            break

    with MockServer(delay=0.02) as server:
        asyncio.run(main())
        stats = server.stats()
        assert stats["answered"] == stats["received"] == len(rows_of(output)) > 0
    assert not lock_of(output).exists()


def test_leaving_an_async_stream_early_frees_its_connection_and_its_permit() -> None:
    async def main() -> None:
        async with client_of(server, concurrency_limit=1) as client:
            async with aclosing(client.chat_completions_stream("Hello")) as pieces:
                async for _ in pieces:
                    break
            assert await soon(lambda: server.stats()["open_connections"] == 0)
            assert await client.chat_completions("Next")

    with MockServer(token_delay=0.5) as server:
        asyncio.run(main())


def test_an_async_iterator_reads_only_a_little_ahead_of_its_caller(server: MockServer) -> None:
    """An endless input is paid for only as far as somebody takes the answers."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"question {read}"

    async def main() -> None:
        client = client_of(server, concurrency_limit=2)
        async with client, aclosing(client.iter_chat_completions_batch(endless())) as items:
            async for _ in items:
                break
            before = -1
            while before != read:  # until it has come to rest
                before = read
                await asyncio.sleep(0.1)
            assert read < 600

    asyncio.run(main())


# --- shared


def test_a_client_may_be_shared_by_threads(server: MockServer) -> None:
    with client_of(server, concurrency_limit=8) as client, ThreadPoolExecutor(16) as threads:
        questions = [f"thread question {number}" for number in range(16 * 20)]
        answers = list(threads.map(client.chat_completions_sync, questions))

    for question, answer in zip(questions, answers, strict=True):
        assert f'"{question}"' in str(answer)
    stats = server.stats()
    assert stats["prompts"] == dict.fromkeys(questions, 1)
    assert stats["peak_connections"] <= 8
    assert stats["connections"] <= 8  # every one was used again and again


def test_two_batches_of_one_client_may_run_at_once(server: MockServer, tmp_path: Path) -> None:
    with client_of(server, concurrency_limit=4) as client, ThreadPoolExecutor(2) as threads:

        def batch(name: str) -> Any:
            rows = [f"{name} {number}" for number in range(50)]
            return client.chat_completions_batch_sync(rows, tmp_path / f"{name}.jsonl", show_progress=False)

        first, second = threads.map(batch, ("first", "second"))

    assert all('"first ' in text for text in first)
    assert all('"second ' in text for text in second)
    assert server.stats()["peak_in_flight"] <= 4


def test_a_second_batch_on_the_same_output_is_refused(server: MockServer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with client_of(server) as client:
        items = client.iter_chat_completions_batch_sync(["a", "b"], output)
        next(items)
        with pytest.raises(OutputLocked, match=str(os.getpid())):
            client.chat_completions_batch_sync(["a", "b"], output)
        items.close()  # type: ignore[attr-defined]
        assert len(client.chat_completions_batch_sync(["a", "b"], output, show_progress=False)) == 2


# --- the end


def test_close_may_be_called_twice_and_the_client_opens_anew(server: MockServer) -> None:
    client = client_of(server)
    client.chat_completions_sync("Hello")
    client.close()
    client.close()
    assert eventually(lambda: server.stats()["open_connections"] == 0)

    assert client.chat_completions_sync("Again")
    assert asyncio.run(_awaited(client))
    client.close()
    asyncio.run(client.aclose())
    assert eventually(lambda: server.stats()["open_connections"] == 0)


async def _awaited(client: LLMClient) -> Any:
    return await client.chat_completions("And again")


def test_leaving_the_with_block_closes_the_connections(server: MockServer) -> None:
    with client_of(server) as client:
        client.chat_completions_sync("Hello")
        assert server.stats()["open_connections"] == 1
    assert eventually(lambda: server.stats()["open_connections"] == 0)


def test_what_is_under_way_in_other_threads_survives_close() -> None:
    with MockServer(delay=0.1) as server, ThreadPoolExecutor(4) as threads:
        client = client_of(server)
        calls = [threads.submit(client.chat_completions_sync, f"question {number}") for number in range(4)]
        assert eventually(lambda: server.stats()["received"] == 4)
        client.close()
        assert all(call.result(PATIENCE) for call in calls)
        assert eventually(lambda: server.stats()["open_connections"] == 0)


def test_threads_of_awaited_calls_end_with_the_client(server: MockServer) -> None:
    async def main() -> None:
        async with client_of(server) as client:
            await client.chat_completions("Hello")

    asyncio.run(main())

    assert eventually(lambda: not any(t.name.startswith("flexllm-") for t in threading.enumerate()))


# --- in a process of its own


def run_script(script: str, server: MockServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, server.base_url, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


FORK = """
import asyncio, os, sys, threading
from flexllm import LLMClient

client = LLMClient("mock-model", sys.argv[1], retry_times=0, timeout=10)
client.chat_completions_sync("before")
asyncio.run(client.chat_completions("before, awaited"))

def locks():
    backend = client._backend
    while hasattr(backend, "_below"):
        backend = backend._below
    endpoint, = backend.choice.endpoints
    return [client._lock, endpoint.gate.traffic.lock, endpoint._transport._lock]

if "held" in sys.argv:
    held, done = threading.Event(), threading.Event()
    def hold():
        for lock in locks():
            lock.acquire()
        held.set()
        done.wait()
        for lock in locks():
            lock.release()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

child = os.fork()
if child and "held" in sys.argv:
    done.set()
    holder.join()
name = "parent" if child else "child"
for number in range(5):
    assert f'"{name} {number}"' in client.chat_completions_sync(f"{name} {number}")
assert f'"{name}, awaited"' in asyncio.run(client.chat_completions(f"{name}, awaited"))
results = client.chat_completions_batch_sync([f"{name} of a batch {n}" for n in range(5)], show_progress=False)
assert all(f'"{name} of a batch' in text for text in results), results
if not child:
    os._exit(0)
_, status = os.waitpid(child, 0)
print("child", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("locks", ["free", "held"])
def test_after_a_fork_parent_and_child_answer_on_connections_of_their_own(server: MockServer, locks: str) -> None:
    """Held: another thread of the parent had the client's locks at the moment of the fork, and is gone in the child."""
    done = run_script(FORK, server, locks)

    assert (done.stdout, done.stderr) == ("child 0\n", "")
    stats = server.stats()
    assert stats["answered"] == stats["received"] == 2 + 2 * 11
    assert stats["failed"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_never_writes_on_its_parents_sockets(server: MockServer) -> None:
    script = """
import os, sys
from flexllm import LLMClient

client = LLMClient("mock-model", sys.argv[1], retry_times=0)
client.chat_completions_sync("before")
child = os.fork()
if child:
    os.waitpid(child, 0)
client.chat_completions_sync("parent" if child else "child")
if not child:
    os._exit(0)
"""
    done = run_script(script, server)

    assert done.stderr == ""
    assert server.stats()["connections"] == 2  # the parent's, used twice, and one of the child
    assert server.stats()["answered"] == 3


@pytest.mark.slow
def test_nothing_is_printed_unless_somebody_listens(server: MockServer) -> None:
    script = """
import sys
from flexllm import FlexLLMError, LLMClient

client = LLMClient("mock-model", sys.argv[1], api_key="sk-wrong", retry_times=1, retry_delay=0.0)
for ask in (client.chat_completions_sync, lambda text: list(client.chat_completions_stream_sync(text))):
    try:
        ask("Hello")
    except FlexLLMError:
        pass
client.chat_completions_batch_sync(["a", "b"], show_progress=False)
"""
    with MockServer(error_rate=1.0) as failing:
        done = run_script(script, failing)
        assert failing.stats()["received"] == 8

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
