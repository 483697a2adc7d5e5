"""What is not asked again over real sockets: answers from the cache, answers of equal rows, prompts that begin alike."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flexllm import ChatCompletionResult, LLMClient, ResponseCacheConfig
from flexllm.cache import ResponseCache
from flexllm.media.options import MediaOptions
from flexllm.mock import MockServer, ReceivedRequest, Reply


def numbered() -> Callable[[ReceivedRequest], Reply]:
    """Answer each request with a number of its own, so that two samples differ."""
    numbers = itertools.count()

    def answer(request: ReceivedRequest) -> Reply:
        return Reply(body=completion(f"sample {next(numbers)}"))

    return answer


def completion(text: str, **choice: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }).encode()  # fmt: skip


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(script=numbered()) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> ResponseCacheConfig:
    return ResponseCacheConfig(enabled=True, cache_dir=tmp_path / "cache")


def client_of(server: MockServer, **options: Any) -> LLMClient:
    return LLMClient(**{"model": "m", "base_url": server.base_url, "retry_times": 0, "concurrency_limit": 8, **options})


def batch(server: MockServer, rows: Any, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
    with client_of(server, **(client or {})) as made:
        return made.chat_completions_batch_sync(rows, *args, **{"show_progress": False, **options})


def prompt(request: ReceivedRequest) -> str:
    text: str = request.json()["messages"][-1]["content"]
    return text


# --- the cache, one call


def test_an_equal_request_is_answered_from_the_cache_and_says_so(
    server: MockServer, cache: ResponseCacheConfig
) -> None:
    with client_of(server, cache=cache, price="1,2") as client:
        first = client.chat_completions_sync("a", temperature=0.5, return_usage=True)
        second = client.chat_completions_sync("a", temperature=0.5, return_usage=True)

    assert isinstance(first, ChatCompletionResult)
    assert isinstance(second, ChatCompletionResult)
    assert (first.content, first.cached, first.cost) == ("sample 0", False, pytest.approx(20e-6))
    assert (second.content, second.cached, second.cost) == ("sample 0", True, 0.0)
    assert len(server.requests) == 1


def test_a_later_client_finds_what_an_earlier_one_bought(server: MockServer, cache: ResponseCacheConfig) -> None:
    for _ in range(2):
        with client_of(server, cache=cache) as client:
            assert client.chat_completions_sync("a") == "sample 0"

    assert len(server.requests) == 1


@pytest.mark.parametrize("other", [{"temperature": 0.7}, {"model": "n"}, {"max_tokens": 5}, {"thinking": True}])
def test_another_parameter_is_another_request(
    server: MockServer, cache: ResponseCacheConfig, other: dict[str, Any]
) -> None:
    with client_of(server, cache=cache) as client:
        assert client.chat_completions_sync("a") == "sample 0"
        assert client.chat_completions_sync("a", **other) == "sample 1"


def test_skip_cache_neither_looks_nor_keeps(server: MockServer, cache: ResponseCacheConfig) -> None:
    with client_of(server, cache=cache) as client:
        assert client.chat_completions_sync("a", skip_cache=True) == "sample 0"
        assert client.chat_completions_sync("a") == "sample 1"
        assert client.chat_completions_sync("a", skip_cache=True) == "sample 2"
        assert client.chat_completions_sync("a") == "sample 1"
        assert "".join(client.chat_completions_stream_sync("a", skip_cache=True)) == "sample 3"


def test_a_raw_answer_is_asked_again_unless_its_body_was_kept(server: MockServer, cache: ResponseCacheConfig) -> None:
    with client_of(server, cache=cache) as client:
        client.chat_completions_sync("a")
        raw = client.chat_completions_sync("a", return_raw=True)
        again = client.chat_completions_sync("a", return_raw=True)

    assert raw.raw["choices"][0]["message"]["content"] == "sample 1"
    assert again.cached
    assert again.raw == raw.raw


def test_bodies_are_kept_where_the_caller_said_so(server: MockServer, cache: ResponseCacheConfig) -> None:
    with client_of(server, cache=replace(cache, store_raw=True)) as client:
        client.chat_completions_sync("a")
        assert client.chat_completions_sync("a", return_raw=True).cached

    assert len(server.requests) == 1


def test_a_client_that_is_closed_leaves_its_answers_on_disk_also_where_the_cache_is_not_its_own(
    server: MockServer, cache: ResponseCacheConfig
) -> None:
    with ResponseCache(cache) as shared, ResponseCache(cache) as other:
        with client_of(server, cache=shared) as client:
            client.chat_completions_sync("a")
            key = client.cache_key("a")
        assert other.get(key) is not None


def test_a_stream_is_kept_when_it_is_whole_and_comes_back_as_one_piece(cache: ResponseCacheConfig) -> None:
    with MockServer() as server, client_of(server, cache=cache) as client:
        first = list(client.chat_completions_stream_sync("tell a story", return_usage=True))
        second = list(client.chat_completions_stream_sync("tell a story", return_usage=True))

    assert len(first) > 2
    assert len(second) == 2
    assert "".join(first[:-1]) == second[0]
    assert second[1].cached
    assert second[1].usage == first[-1].usage
    assert len(server.requests) == 1


def test_a_stream_that_is_left_is_not_kept(cache: ResponseCacheConfig) -> None:
    with MockServer() as server, client_of(server, cache=cache) as client:
        pieces = client.chat_completions_stream_sync("tell a story")
        next(pieces)
        pieces.close()
        assert client.chat_completions_sync("tell a story", return_usage=True).cached is False


@pytest.mark.parametrize(
    "body",
    [
        completion("half an ans", finish_reason="length"),
        completion(""),
        completion("I must not", finish_reason="content_filter"),
        completion("", message={"role": "assistant", "content": None, "refusal": "no"}),
    ],
)
def test_cut_empty_and_refused_answers_are_not_kept_unless_asked_for(body: bytes, cache: ResponseCacheConfig) -> None:
    with MockServer(script=lambda request: Reply(body=body)) as server:
        for config, requests in ((cache, 2), (ResponseCacheConfig(True, 0, cache.cache_dir, store_incomplete=True), 3)):
            with client_of(server, cache=config) as client:
                client.chat_completions_sync("a")
                client.chat_completions_sync("a")
            assert len(server.requests) == requests


def test_an_error_is_not_kept(cache: ResponseCacheConfig) -> None:
    replies = iter([Reply(status=400), Reply(body=completion("yes"))])
    with MockServer(script=lambda request: next(replies)) as server, client_of(server, cache=cache) as client:
        with pytest.raises(Exception, match="400"):
            client.chat_completions_sync("a")
        assert client.chat_completions_sync("a") == "yes"


def test_an_answer_with_a_schema_comes_back_with_its_value(cache: ResponseCacheConfig) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    with (
        MockServer(script=lambda request: Reply(body=completion('{"n": 7}'))) as server,
        client_of(server, cache=cache) as client,
    ):
        for is_cached in (False, True):
            result = client.chat_completions_sync("a", response_format=schema, return_usage=True)
            assert (result.parsed, result.cached) == ({"n": 7}, is_cached)


def test_an_answer_of_the_wrong_form_is_not_kept(cache: ResponseCacheConfig) -> None:
    with MockServer(script=lambda request: Reply(body=completion("no JSON"))) as server:
        with client_of(server, cache=cache, on_invalid="keep") as client:
            for _ in range(2):
                client.chat_completions_sync("a", response_format={"type": "json_object"})
        assert len(server.requests) == 2


def test_a_changed_picture_is_another_request(server: MockServer, cache: ResponseCacheConfig, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    ask = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": str(picture)}}]}]
    with client_of(server, cache=cache) as client:
        picture.write_bytes(b"\x89PNG\r\n\x1a\none")
        assert client.chat_completions_sync(ask) == "sample 0"
        assert client.chat_completions_sync(ask) == "sample 0"
        picture.write_bytes(b"\x89PNG\r\n\x1a\nanother")
        assert client.chat_completions_sync(ask) == "sample 1"


def test_what_changes_an_answer_changes_the_key_and_nothing_else_does() -> None:
    def key(**options: Any) -> str:
        made = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key": "k", **options}
        with LLMClient(**made) as client:
            return client.cache_key("a")

    def pool(*names: str) -> str:
        endpoints = [{"base_url": f"http://127.0.0.1:{ord(name)}/v1", "model": name} for name in names]
        with LLMClient(endpoints=endpoints) as client:
            return client.cache_key("a")

    same = [
        {}, {"base_url": "http://127.0.0.1:2/v1"}, {"api_key": "other"}, {"headers": {"X-Title": "mine"}},
        {"timeout": 3.0}, {"provider": "openai"}, {"media": MediaOptions(max_bytes=1000)},
    ]  # fmt: skip
    assert len({key(**options) for options in same}) == 1
    assert key(headers={"OpenAI-Beta": "x=1"}) == key(headers={"openai-beta": "x=1"})
    others = [
        {"model": "n"}, {"provider": "gemini"}, {"provider": "claude"}, {"headers": {"openai-beta": "x=1"}},
        {"headers": {"openai-beta": "x=2"}},
    ]  # fmt: skip
    assert len({key(), *(key(**options) for options in others)}) == 1 + len(others)
    assert pool("m", "n") == pool("n", "m") != pool("m", "o")
    assert pool("m") == pool("m", "m") == key()


def test_a_model_at_another_address_is_the_same_unless_said_otherwise(tmp_path: Path) -> None:
    with MockServer(script=numbered()) as one, MockServer(script=numbered()) as other:
        for by_endpoint, asked in ((False, 0), (True, 1)):
            config = ResponseCacheConfig(True, 0, tmp_path / str(by_endpoint), by_endpoint=by_endpoint)
            for server in (one, other):
                with client_of(server, cache=config) as client:
                    client.chat_completions_sync("a")
            assert len(other.requests) == asked


# --- the cache, a batch


def test_a_batch_is_answered_from_the_cache_row_by_row(
    server: MockServer, cache: ResponseCacheConfig, tmp_path: Path
) -> None:
    first = batch(server, ["a", "b", "c"], client={"cache": cache, "price": "1,1"})
    second = batch(
        server,
        ["c", "d", "a"],
        tmp_path / "out.jsonl",
        client={"cache": cache, "price": "1,1"},
        return_cost_report=True,
    )

    answers, report = second
    assert answers[0] == first[2]
    assert answers[2] == first[0]
    assert answers[1] == "sample 3"
    assert [item.status for item in answers.items] == ["cached", "success", "cached"]
    assert (answers.summary["cached"], answers.summary["success"]) == (2, 3)
    assert len(server.requests) == 4
    assert (report.request_count, report.cached_requests) == (1, 2)
    assert report.total_cost == pytest.approx(15e-6)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["cached", "success", "cached"]


def test_equal_rows_are_samples_of_their_own_and_each_is_found_again(
    server: MockServer, cache: ResponseCacheConfig
) -> None:
    first = batch(server, ["a"] * 5, client={"cache": cache})
    second = batch(server, ["a"] * 7, client={"cache": cache})

    assert len(set(first)) == 5
    assert list(second[:5]) == list(first)
    assert len(set(second)) == 7
    assert len(server.requests) == 7


@pytest.mark.parametrize("make", [list, iter, lambda rows: (row for row in rows)])
def test_lists_and_generators_are_looked_up_alike(
    server: MockServer, cache: ResponseCacheConfig, make: Callable[[list[str]], Any]
) -> None:
    rows = [f"row {index}" for index in range(700)]
    first = batch(server, make(rows), client={"cache": cache})
    second = batch(server, make(rows), client={"cache": cache})

    assert list(first) == list(second)
    assert second.summary["cached"] == 700
    assert len(server.requests) == 700


def test_a_generator_may_wait_for_the_answers_of_rows_that_it_gave(
    server: MockServer, cache: ResponseCacheConfig
) -> None:
    came = threading.Semaphore(0)

    def rows() -> Iterator[str]:
        for index in range(20):
            yield f"row {index}"
            assert came.acquire(timeout=60)

    with client_of(server, cache=cache) as client:
        for _ in client.iter_chat_completions_batch_sync(rows()):
            came.release()

    assert len(server.requests) == 20


def test_a_batch_that_skips_the_cache_asks_every_row(server: MockServer, cache: ResponseCacheConfig) -> None:
    batch(server, ["a", "b"], client={"cache": cache})
    again = batch(server, ["a", "b"], client={"cache": cache}, skip_cache=True)

    assert again.summary["cached"] == 0
    assert len(server.requests) == 4


@pytest.mark.slow
def test_what_one_process_bought_another_one_finds(server: MockServer, cache: ResponseCacheConfig) -> None:
    code = (
        "import sys; from flexllm import LLMClient, ResponseCacheConfig\n"
        "client = LLMClient('m', sys.argv[1], cache=ResponseCacheConfig(True, 0, sys.argv[2]))\n"  # and never closed
        "print(client.chat_completions_sync('a'), *client.chat_completions_batch_sync(['b', 'c'], show_progress=False))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, server.base_url, str(cache.cache_dir)],
            check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
        ).stdout
        for _ in range(2)
    ]  # fmt: skip

    assert said[0] == said[1]
    assert "sample" in said[0]
    assert len(server.requests) == 3


# --- equal rows


def test_a_thousand_rows_of_a_hundred_prompts_are_a_hundred_requests_at_temperature_0(server: MockServer) -> None:
    rows = [f"prompt {index % 100}" for index in range(1000)]

    shared = batch(server, rows, temperature=0, return_usage=True)
    assert len(server.requests) == 100
    assert set(Counter(map(prompt, server.requests)).values()) == {1}
    assert all(len({str(shared[place]) for place in range(start, 1000, 100)}) == 1 for start in range(100))
    assert [shared.summary[name] for name in ("shared", "cached", "success")] == [900, 0, 1000]
    assert shared.summary["total_tokens"] == 100 * 15

    samples = batch(server, rows)
    assert len(server.requests) == 1100
    assert len(set(samples)) == 1000


def test_share_is_the_callers_word(server: MockServer) -> None:
    assert len(set(batch(server, ["a"] * 10, share=True))) == 1
    assert len(set(batch(server, ["a"] * 10, share=False, temperature=0))) == 10
    assert len(server.requests) == 11


def test_shared_rows_are_in_the_file_and_a_second_run_asks_nothing(server: MockServer, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = batch(server, ["a", "b", "a", "a"], path, temperature=0)
    again = batch(server, ["a", "b", "a", "a"], path, temperature=0)

    assert list(first) == list(again)
    assert len(server.requests) == 2
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["output"] for row in rows] == list(first)
    assert [row["status"] for row in rows] == ["success", "success", "cached", "cached"]


@dataclass
class Number:
    n: int


def test_a_row_that_gets_an_answer_of_an_earlier_run_gets_its_value_too(tmp_path: Path) -> None:
    with MockServer(script=lambda request: Reply(body=completion('{"n": 7}'))) as server:
        for rows in (["a"], ["a", "a"]):
            options: dict[str, Any] = {"temperature": 0, "response_format": Number, "return_usage": True}
            results = batch(server, rows, tmp_path / "out.jsonl", **options)
            assert [result.parsed for result in results] == [Number(7)] * len(rows)
        assert len(server.requests) == 1


def test_a_class_that_takes_no_answer_any_more_does_not_end_the_run(tmp_path: Path) -> None:
    trouble: list[Exception] = []

    @dataclass
    class Moody:
        n: int

        def __post_init__(self) -> None:
            if trouble:
                raise trouble[0]

    with MockServer(script=lambda request: Reply(body=completion('{"n": 7}'))) as server:
        for parsed in (Moody(7), None):
            options: dict[str, Any] = {"response_format": Moody, "return_usage": True}
            (result,) = batch(server, ["a"], tmp_path / "out.jsonl", **options)
            assert (result.content, result.parsed) == ('{"n": 7}', parsed)
            trouble.append(ZeroDivisionError())
        assert len(server.requests) == 1


def test_rows_that_fail_with_another_one_are_no_failures_of_their_own() -> None:
    def script(request: ReceivedRequest) -> Reply:
        return Reply(status=400) if prompt(request) == "bad" else Reply(body=completion("yes"))

    rows = [*(f"row {index}" for index in range(30)), *["bad"] * 60, *(f"later {index}" for index in range(300))]
    with MockServer(script=script) as server:
        result, report = batch(server, rows, temperature=0, fail_over=0.5, return_cost_report=True)

    assert (result.summary["success"], result.summary["failed"], result.summary["stopped"]) == (330, 60, None)
    assert report.failed_requests == 1


def test_equal_rows_of_one_that_fails_fail_alike_and_are_asked_once_more_by_the_next_run(tmp_path: Path) -> None:
    replies = iter([Reply(status=400)])
    script = lambda request: next(replies, None) or Reply(body=completion("well"))  # noqa: E731
    with MockServer(script=script) as server:
        first = batch(server, ["a"] * 5, tmp_path / "out.jsonl", temperature=0)
        assert list(first) == [None] * 5
        assert first.summary["failed"] == 5
        second = batch(server, ["a"] * 5, tmp_path / "out.jsonl", temperature=0)
        assert list(second) == ["well"] * 5
        assert len(server.requests) == 2


# --- prompts that begin alike


def test_rows_that_begin_alike_follow_the_first_of_them() -> None:
    stories = {name: f"{name} " * 2000 for name in ("alpha", "beta", "gamma")}
    rows = [
        [{"role": "system", "content": stories[name]}, {"role": "user", "content": f"question {number}"}]
        for number in range(10)
        for name in stories
    ]
    with MockServer(script=lambda request: Reply(body=completion("yes"), delay=0.2)) as server:
        with client_of(server) as client:
            assert len(list(client.iter_chat_completions_batch_sync(rows, order="prefix"))) == 30
        arrived = [(request.json()["messages"][0]["content"].split()[0], request.time) for request in server.requests]

    assert len(arrived) == 30
    for name in stories:
        first, second, *_ = (time for story, time in arrived if story == name)
        assert second - first > 0.19, "only the first may come before it has an answer"


def test_any_number_of_equal_rows_may_wait_while_all_are_put_in_order(server: MockServer) -> None:
    result = batch(server, ["a"] * 6000, temperature=0, order="prefix")

    assert result.summary["shared"] == 5999
    assert len(server.requests) == 1


def test_the_order_of_rows_does_not_change_what_comes_back(server: MockServer, tmp_path: Path) -> None:
    rows = [f"{'abc'[index % 3] * 5000} {index}" for index in range(30)]
    result = batch(server, rows, tmp_path / "out.jsonl", order="prefix")

    assert result.summary["success"] == 30
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["index"] for row in written] == list(range(30))
    assert [row["output"] for row in written] == list(result)
