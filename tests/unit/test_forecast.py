"""What a batch will take: counted as a job would count, reckoned from what answers tell, and nothing is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.checkpoint import Checkpoint
from flexllm.batch.forecast import make_forecast
from flexllm.batch.items import BatchItem
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.outlook import Forecast, Pace
from flexllm.batch.output import OutputFile, OutputView
from flexllm.batch.progress import ProgressOptions
from flexllm.batch.reuse import Reuse
from flexllm.batch.rows import FileRows, RowReader
from flexllm.batch.seen import FEWEST, Range, Seen
from flexllm.batch.survey import MOST_LINES
from flexllm.cache import ResponseCacheConfig
from flexllm.cache.key import KeyScope, RequestKeys
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Usage
from flexllm.errors import CheckpointError, InputError, ServerError
from flexllm.messages import normalise_messages
from flexllm.prices import ModelPrice, Price, Tier
from flexllm.tokens import FIRST_COMPLETION, estimate_prompt_tokens

QUIET = ProgressOptions(show=False)
DOLLARS = ModelPrice(model="m", price=Price(input=2.0, output=10.0), date="2026-11-22")
"""Two dollars for a million tokens in, ten for a million out."""


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def file_rows(questions: Iterable[str | bytes], params: Mapping[str, Any] | None = None, model: str = "m") -> FileRows:
    lines = [one if isinstance(one, bytes) else json.dumps({"q": one}).encode() + b"\n" for one in questions]
    return FileRows(RowReader(lines, "in.jsonl", shape="simple"), model, params or {}, len(lines))


def at(prices: Sequence[ModelPrice | None]) -> Callable[[str], Sequence[ModelPrice | None]]:
    return lambda model: prices


def options(path: Path | None = None, **more: Any) -> BatchOptions:
    kept = {name: more.pop(name) for name in ("retry_failed", "on_change", "save_input") if name in more}
    return BatchOptions(output=path, checkpoint=CheckpointOptions(**kept), progress=QUIET, **more)


def answer(prompt: int, completion: int, **more: Any) -> ChatCompletionResult:
    return ChatCompletionResult("a", usage(prompt, completion), **more)


def usage(prompt: int, completion: int, **more: Any) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **more)


def buy(rows: FileRows, how: BatchOptions, give: Any) -> FakeEngine:
    """Run a batch, in which `give` is the outcome of each row or makes it of the item."""
    engine = FakeEngine(give if callable(give) else lambda item: give)
    for _ in BatchJob(engine, how, CancelToken()).run(rows):
        pass
    return engine


def estimate(question: str, params: Mapping[str, Any] | None = None) -> int:
    return estimate_prompt_tokens(ChatRequest(normalise_messages(question), "m", params or {}))


def reuse(**more: Any) -> Reuse:
    return Reuse(RequestKeys(KeyScope("openai")), **more)


class FakeCache:
    """Knows an answer to every request whose number, in the order in which they are looked up, is in `known`."""

    def __init__(self, known: Sequence[int], result: ChatCompletionResult) -> None:
        self._known = known
        self._result = result
        self._numbers: Iterator[int] = iter(range(1_000_000))
        self.config = ResponseCacheConfig()
        self.put_in: list[str] = []

    def get_many(self, keys: Sequence[str], *, with_body: bool = False) -> dict[str, ChatCompletionResult]:
        return {key: self._result for key in keys if next(self._numbers) in self._known}

    def put(self, key: str, result: ChatCompletionResult, *, with_body: bool = False) -> None:
        self.put_in.append(key)


# --- what is counted


def test_without_an_output_file_everything_is_to_be_bought() -> None:
    forecast = make_forecast(file_rows(["a", "b", "c"]), options())

    assert (forecast.rows, forecast.to_buy, forecast.done, forecast.failed) == (3, 3, 0, 0)


def test_rows_that_are_answered_are_not_to_be_bought(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), "yes")

    forecast = make_forecast(file_rows(["a", "b", "c"]), options(path))
    assert (forecast.rows, forecast.done, forecast.to_buy) == (3, 2, 1)


@pytest.mark.parametrize("retry_failed", [True, False])
def test_rows_that_failed_are_to_be_bought_unless_their_errors_stand(path: Path, retry_failed: bool) -> None:
    buy(file_rows(["a", "b"]), options(path), ServerError("no"))

    forecast = make_forecast(file_rows(["a", "b"]), options(path, retry_failed=retry_failed))
    assert (forecast.failed, forecast.to_buy) == ((0, 2) if retry_failed else (2, 0))


def test_rows_that_cannot_be_read_are_not_to_be_bought() -> None:
    forecast = make_forecast(file_rows(["a", b"{torn\n", b'{"q": 7}\n']), options())

    assert (forecast.rows, forecast.failed, forecast.to_buy) == (3, 2, 1)


def test_rows_beyond_the_limit_do_not_count() -> None:
    assert make_forecast(file_rows(["a", "b", "c"]), options(limit=2)).rows == 2


def test_a_sample_is_not_heeded_for_it_is_the_whole_that_is_asked_for() -> None:
    assert make_forecast(file_rows(["a", "b", "c"]), options(sample=1)).to_buy == 3


def test_rows_answered_with_other_settings_are_told(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), "yes")

    forecast = make_forecast(file_rows(["a", "b"], {"temperature": 0.5}), options(path))
    assert (forecast.changed, forecast.done, forecast.to_buy) == (2, 0, 2)
    assert "2 were answered with other settings" in str(forecast)
    kept = make_forecast(file_rows(["a", "b"], {"temperature": 0.5}), options(path, on_change="keep"))
    assert (kept.done, kept.to_buy) == (2, 0)
    with pytest.raises(CheckpointError, match="another model or other parameters"):
        make_forecast(file_rows(["a", "b"], {"temperature": 0.5}), options(path, on_change="fail"))


def test_where_rows_have_parameters_of_their_own_each_is_another_row(path: Path) -> None:
    rows, others = (
        ListRows(["a", "b"], "m", {}, params_list=[{"seed": seed}, {"seed": seed, "tools": [{"big": "word " * 900}]}])
        for seed in (1, 2)
    )
    engine = FakeEngine(lambda item: answer(30, 7))
    for _ in BatchJob(engine, options(path), CancelToken()).run(rows):
        pass

    forecast = make_forecast(others, options(path))
    assert (forecast.changed, forecast.to_buy) == (0, 2)
    again = ListRows(["a", "b", "c"], "m", {}, params_list=[{"seed": 1}, None, {"tools": [{"big": "word " * 900}]}])
    forecast = make_forecast(again, options(path))
    assert forecast.done == 1
    assert forecast.rests_on["prompt_tokens"] == "estimated from the texts"  # who knows with which parameters it was


def test_equal_rows_are_bought_once_where_they_are_shared() -> None:
    questions = ["a", "b"] * 500

    shared = make_forecast(file_rows(questions), options(), reuse=reuse(share=True))
    assert (shared.rows, shared.to_buy, shared.shared) == (1_000, 2, 998)
    assert make_forecast(file_rows(questions), options(), reuse=reuse()).to_buy == 1_000
    cold = make_forecast(file_rows(questions, {"temperature": 0}), options(), reuse=reuse())
    assert (cold.to_buy, cold.shared) == (2, 998)


def test_more_equal_rows_than_may_wait_do_not_stop_it() -> None:
    rows = ListRows(["a"] * 10_000, "m", {})

    assert make_forecast(rows, options(), reuse=reuse(share=True)).shared == 9_999


def test_what_is_in_the_cache_is_not_to_be_bought_and_nothing_is_put_there() -> None:
    cache = FakeCache([0, 2], answer(100, 7, cached=True, cost=0.0))

    forecast = make_forecast(file_rows(["a", "b", "c"]), options(), reuse=reuse(cache=cache))
    assert (forecast.cached, forecast.to_buy) == (2, 1)
    assert cache.put_in == []
    assert forecast.completion_tokens.expected == 7
    assert "2 answers in the cache" in forecast.rests_on["completion_tokens"]


def test_equals_of_a_cached_row_cost_nothing_too() -> None:
    cache = FakeCache([0], answer(100, 7, cached=True, cost=0.0))

    forecast = make_forecast(file_rows(["a", "a", "b"]), options(), reuse=reuse(cache=cache, share=True))
    assert (forecast.cached, forecast.shared, forecast.to_buy) == (1, 1, 1)


@pytest.mark.parametrize("kept", [3, 65_536])
def test_it_counts_as_the_job_then_asks(path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr("flexllm.batch.reuse.KEPT", kept)
    questions = [f"{number % 7} {number // 30}" for number in range(200)]
    params = {"temperature": 0}
    buy(file_rows(questions[:50], params), options(path), "yes")

    forecast = make_forecast(file_rows(questions, params), options(path), reuse=reuse())
    engine = FakeEngine(lambda item: "yes")
    job = BatchJob(engine, options(path), CancelToken(), reuse=reuse())
    for _ in job.run(file_rows(questions, params)):
        pass
    assert forecast.to_buy == len(engine.sold)
    assert forecast.shared == job.tally.shared
    assert forecast.done == job.tally.resumed


@pytest.mark.slow
@given(
    before=st.lists(st.integers(0, 6), max_size=12),
    after=st.lists(st.integers(0, 6), max_size=12),
    failing=st.sets(st.integers(0, 6), max_size=3),
    cold=st.booleans(),
    share=st.sampled_from([None, True, False]),
    retry_failed=st.booleans(),
    limit=st.one_of(st.none(), st.integers(1, 12)),
    cached=st.one_of(st.none(), st.lists(st.integers(0, 12))),
)
def test_whatever_is_there_it_counts_as_the_job_then_asks(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[int],
    after: list[int],
    failing: set[int],
    cold: bool,
    share: bool | None,
    retry_failed: bool,
    limit: int | None,
    cached: list[int] | None,
) -> None:
    path = tmp_path_factory.mktemp("run") / "out.jsonl"
    params = {"temperature": 0 if cold else 1}

    def give(item: BatchItem) -> ChatCompletionResult | ServerError:
        return ServerError("no") if int(question(item)) in failing else answer(20, 7)

    def sparing() -> Reuse:
        hit = answer(100, 7, cached=True, cost=0.0)
        return reuse(share=share, cache=None if cached is None else FakeCache(cached, hit))

    how = options(path, retry_failed=retry_failed, limit=limit)
    buy(file_rows(map(str, before), params), options(path), give)
    content = path.read_bytes() if path.exists() else None

    forecast = make_forecast(file_rows(map(str, after), params), how, reuse=sparing())
    assert (path.read_bytes() if path.exists() else None) == content
    engine = FakeEngine(lambda item: answer(20, 7))
    job = BatchJob(engine, how, CancelToken(), reuse=sparing())
    for _ in job.run(file_rows(map(str, after), params)):
        pass
    tally = job.tally
    assert forecast.to_buy == len(engine.sold)
    assert (forecast.cached, forecast.shared) == (tally.cached, tally.shared)
    assert forecast.done + forecast.failed == tally.resumed
    assert forecast.rows == job.summary()["total"]


# --- that nothing is touched


def test_nothing_is_created(path: Path) -> None:
    make_forecast(file_rows(["a"]), options(path))

    assert list(path.parent.iterdir()) == []


def test_nothing_is_changed_not_even_what_a_run_would_mend(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), "yes")
    torn = path.read_bytes()[:-9]
    path.write_bytes(torn)

    forecast = make_forecast(file_rows(["b", "a"]), options(path))
    assert (forecast.done, forecast.to_buy) == (1, 1)
    assert path.read_bytes() == torn
    assert [one.name for one in path.parent.iterdir()] == ["out.jsonl"]


def test_a_run_that_is_writing_the_output_does_not_mind(path: Path) -> None:
    buy(file_rows(["a"]), options(path), "yes")
    running = OutputFile(path, 1.0)
    try:
        before = sorted(path.parent.iterdir())
        running.append(b'{"index": 1, "output": "ha')
        assert make_forecast(file_rows(["a", "b"]), options(path)).done == 1
        assert sorted(path.parent.iterdir()) == before
    finally:
        running.close()


def test_a_view_stays_with_what_was_there_when_a_run_puts_the_file_in_order(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    view = OutputView(path)
    running = OutputFile(path, 1.0)
    running.replace([b"other\n"])
    running.close()

    assert list(view.lines()) == [b"one\n", b"two\n"]
    assert view.line_at(4) == b"two\n"
    view.close()
    view.close()


def test_answers_in_the_file_beside_are_seen(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), "yes")
    buy(file_rows(["c"]), options(path), "yes")
    assert path.with_name("out.aside.jsonl").exists()

    assert make_forecast(file_rows(["a", "b", "c"]), options(path)).done == 3


@pytest.mark.parametrize("what", ["no folder", "a folder", "not ours"])
def test_an_output_that_no_run_could_use_is_refused(path: Path, what: str) -> None:
    if what == "no folder":
        path = path.parent / "none" / "out.jsonl"
    elif what == "a folder":
        path.mkdir()
    else:
        path.write_text("a diary\n")

    with pytest.raises(CheckpointError):
        make_forecast(file_rows(["a"]), options(path))
    assert not path.is_file() or path.read_text() == "a diary\n"


def test_the_view_is_closed_also_when_the_input_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")
    closed = []
    close = Checkpoint.close
    monkeypatch.setattr(Checkpoint, "close", lambda self: closed.append(self) or close(self))

    with pytest.raises(ZeroDivisionError):
        make_forecast(ListRows(_failing(), "m", {}), options(path))
    assert len(closed) == 1


def _failing() -> Iterator[str]:
    yield "a"
    raise ZeroDivisionError


# --- tokens


def test_prompts_are_estimated_and_answers_guessed_before_any_was_seen() -> None:
    forecast = make_forecast(file_rows(["hello there"] * 4), options())

    expected = 4 * estimate("hello there")
    assert forecast.prompt_tokens.expected == expected
    assert forecast.prompt_tokens.low < expected < forecast.prompt_tokens.worst
    assert forecast.completion_tokens.expected == 4 * FIRST_COMPLETION
    assert forecast.completion_tokens.low < 4 * FIRST_COMPLETION < forecast.completion_tokens.worst
    assert forecast.rests_on["prompt_tokens"] == "estimated from the texts"
    assert forecast.rests_on["completion_tokens"] == "no answers seen yet: a guess"


@pytest.mark.parametrize(
    ("params", "worst"),
    [
        ({"max_tokens": 30}, 30),
        ({"max_completion_tokens": 30, "n": 3}, 90),
        ({"generationConfig": {"maxOutputTokens": 12}}, 12),
    ],
)
def test_the_worst_is_what_max_tokens_allows(params: dict[str, Any], worst: int) -> None:
    forecast = make_forecast(file_rows(["a", "b"], params), options())

    assert forecast.completion_tokens.worst == 2 * worst
    assert forecast.completion_tokens.low <= forecast.completion_tokens.expected <= 2 * worst
    assert f"at worst {worst:,} each" in forecast.rests_on["completion_tokens"]


def test_each_row_keeps_its_own_max_tokens() -> None:
    rows = ListRows(["a", "b", "c"], "m", {}, params_list=[{"max_tokens": 10}, {"max_tokens": 2_000}, None])

    assert make_forecast(rows, options()).completion_tokens.worst == 10 + 2_000 + 4_096


def test_answers_that_were_seen_tell_how_long_the_others_will_be(path: Path) -> None:
    lengths = iter([10, 20, 30, 40, 50, 60, 70, 80, 90, 100] * 5)
    first = [f"question {number}" for number in range(50)]
    buy(file_rows(first), options(path), lambda item: answer(2 * estimate(question(item)), next(lengths)))

    rest = [f"other question {number}" for number in range(150)]
    forecast = make_forecast(file_rows(first + rest), options(path))
    completions = forecast.completion_tokens
    assert completions.expected == pytest.approx(150 * 55)
    assert 150 * 40 < completions.low < 150 * 55
    assert completions.worst == pytest.approx(150 * 100)  # the longest of nineteen in twenty
    expected = 2 * sum(map(estimate, rest))
    assert forecast.prompt_tokens == (pytest.approx(expected), pytest.approx(expected), pytest.approx(expected))
    assert forecast.rests_on["completion_tokens"] == "50 answers in out.jsonl"
    assert forecast.rests_on["prompt_tokens"] == "estimated from the texts, corrected by 50 answers in out.jsonl"


def question(item: BatchItem) -> str:
    assert item.request is not None
    text: str = item.request.messages[-1]["content"]
    return text


@pytest.mark.parametrize("save_input", ["last", False])
def test_prompts_that_the_file_does_not_hold_whole_correct_nothing(path: Path, save_input: str | bool) -> None:
    conversation = [{"role": "system", "content": "long " * 500}, {"role": "user", "content": "a"}]
    line = json.dumps({"messages": conversation}).encode() + b"\n"
    reader = RowReader([line], "in.jsonl", shape="openai_chat")
    buy(FileRows(reader, "m", {}, 1), options(path, save_input=save_input), answer(5_000, 7))

    forecast = make_forecast(
        FileRows(RowReader([line, line], "in.jsonl", shape="openai_chat"), "m", {}, 2), options(path)
    )
    assert (forecast.done, forecast.to_buy) == (1, 1)
    assert forecast.rests_on["prompt_tokens"] == "estimated from the texts"
    assert forecast.completion_tokens.expected == 7


def test_a_sample_is_called_one(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), answer(10, 7))

    forecast = make_forecast(file_rows(["a", "b", "c"]), options(path), sampled=2)
    assert forecast.rests_on["completion_tokens"] == "2 sampled answers"
    mixed = make_forecast(file_rows(["a", "b", "c"]), options(path), sampled=1)
    assert mixed.rests_on["completion_tokens"] == "2 answers in out.jsonl"


def test_answers_without_usage_tell_nothing(path: Path) -> None:
    outcomes = iter([ChatCompletionResult("a"), answer(0, 0)])
    buy(file_rows(["a", "b"]), options(path), lambda item: next(outcomes))

    forecast = make_forecast(file_rows(["a", "b", "c"]), options(path))
    assert (forecast.done, forecast.to_buy) == (2, 1)
    assert forecast.rests_on["completion_tokens"] == "no answers seen yet: a guess"


def test_of_many_answers_only_some_are_read_and_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [f"question {number}" for number in range(MOST_LINES + 500)]
    buy(file_rows(questions), options(path), answer(10, 7))
    read = []
    monkeypatch.setattr(Checkpoint, "read", lambda self, place: read.append(place) or {"usage": usage(10, 7)})

    forecast = make_forecast(file_rows([*questions, "new"]), options(path))
    assert len(read) == len(set(read)) == MOST_LINES
    assert forecast.rests_on["completion_tokens"] == "2,000 of 2,500 answers in out.jsonl"


def test_lines_that_somebody_changes_meanwhile_are_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buy(file_rows(["a", "b"]), options(path), answer(10, 7))
    monkeypatch.setattr(OutputView, "line_at", lambda self, offset: b"torn")

    forecast = make_forecast(file_rows(["a", "b", "c"]), options(path))
    assert forecast.done == 2
    assert forecast.rests_on["completion_tokens"] == "no answers seen yet: a guess"


# --- dollars


def test_the_cost_is_that_of_the_tokens() -> None:
    forecast = make_forecast(file_rows(["a"] * 10, {"max_tokens": 100}), options(), prices=at([DOLLARS]), now=0.0)

    prompt = 10 * estimate("a")
    assert forecast.cost is not None
    assert forecast.cost.expected == pytest.approx((prompt * 2 + 10 * 100 * 10) / 1e6)
    assert forecast.cost.worst == pytest.approx((prompt * 1.25 * 2 + 10 * 100 * 10) / 1e6)
    assert forecast.rests_on["cost"] == "m: $2 in, $10 out per million, 2026-11-22"


def test_a_price_of_the_users_own_is_called_so() -> None:
    price = ModelPrice(model="m", price=Price(input=0.5, output=1.5), uncertain=True)

    forecast = make_forecast(file_rows(["a"]), options(), prices=at([price]))
    assert forecast.rests_on["cost"] == "m: $0.5 in, $1.5 out per million, as given, not confirmed"


@pytest.mark.parametrize("prices", [[], [None], [DOLLARS, None]])
def test_an_unknown_price_is_unknown(prices: list[ModelPrice | None]) -> None:
    forecast = make_forecast(file_rows(["a"]), options(), prices=at(prices))

    assert forecast.cost is None
    assert "unknown" in forecast.rests_on["cost"]
    assert "cost                   unknown" in str(forecast)


def test_endpoints_with_several_prices_make_a_range() -> None:
    dear = ModelPrice(model="m", price=Price(input=4.0, output=20.0))
    forecast, cheap = (
        make_forecast(file_rows(["a"], {"max_tokens": 10}), options(), prices=at(prices), now=0.0)
        for prices in ([DOLLARS, dear], [DOLLARS, DOLLARS])
    )

    assert forecast.cost is not None
    assert cheap.cost is not None
    assert forecast.cost.low == cheap.cost.low
    assert forecast.cost.expected == pytest.approx(1.5 * cheap.cost.expected)
    assert forecast.cost.worst == pytest.approx(2 * cheap.cost.worst)
    assert forecast.rests_on["cost"] == "between the prices of 2 endpoints"


def test_the_price_is_that_of_the_moment() -> None:
    price = ModelPrice(model="m", price=Price(input=1.0, output=1.0), changes=((100.0, Price(input=9.0, output=9.0)),))
    before, after = (make_forecast(file_rows(["a"]), options(), prices=at([price]), now=now) for now in (99.0, 100.0))

    assert before.cost is not None
    assert after.cost is not None
    assert after.cost.expected == pytest.approx(9 * before.cost.expected)


def test_long_prompts_cost_what_their_tier_says() -> None:
    price = Price(input=1.0, output=10.0, tiers=(Tier(above=1_000, input=3.0, output=30.0),))
    long, short = "word " * 2_000, "word"
    rows = file_rows([long, short, short], {"max_tokens": 10})
    forecast = make_forecast(rows, options(), prices=at([ModelPrice(model="m", price=price)]), now=0.0)

    assert forecast.cost is not None
    dollars = (estimate(long) * 3 + 2 * estimate(short) * 1 + 10 * 30 + 20 * 10) / 1e6
    assert forecast.cost.expected == pytest.approx(dollars)


def test_each_row_costs_what_its_own_model_does() -> None:
    dear = ModelPrice(model="dear", price=Price(input=4.0, output=20.0))
    prices = {"m": [DOLLARS], "dear": [dear], "unknown": [None]}

    def forecast(*models: str) -> Forecast:
        rows = ListRows(
            ["a"] * len(models), "m", {"max_tokens": 10}, params_list=[{"model": model} for model in models]
        )
        return make_forecast(rows, options(), prices=prices.__getitem__, now=0.0)

    mixed, cheap = forecast("m", "dear", "dear"), forecast("m", "m", "m")
    assert mixed.cost is not None
    assert cheap.cost is not None
    assert mixed.cost == pytest.approx(cheap.cost.times(5 / 3))
    assert mixed.rests_on["cost"] == "at the prices of 2 models"
    assert forecast("m", "unknown").cost is None
    assert forecast("m", "unknown").rests_on["cost"] == "the price is unknown: unknown"


def test_a_price_for_each_request_is_added() -> None:
    price = ModelPrice(model="m", price=Price(input=0.0, output=0.0, request=0.25))

    assert make_forecast(file_rows(["a", "b"]), options(), prices=at([price])).cost == (0.5, 0.5, 0.5)


def test_what_the_provider_has_in_its_cache_makes_the_rest_cheaper(path: Path) -> None:
    price = ModelPrice(model="m", price=Price(input=2.0, output=0.0, cached_input=0.0))
    result = ChatCompletionResult("a", usage(100, 5, cached_tokens=50))
    buy(file_rows([f"question {number}" for number in range(10)]), options(path), result)

    questions = [f"question {number}" for number in range(20)]
    forecast = make_forecast(file_rows(questions), options(path), prices=at([price]), now=0.0)
    assert forecast.cost is not None
    plain = forecast.prompt_tokens.times(2 / 1e6)
    assert forecast.cost.expected == pytest.approx(plain.expected / 2)
    assert forecast.cost.worst == pytest.approx(plain.worst)  # it may be gone


def test_nothing_left_to_buy_costs_nothing(path: Path) -> None:
    buy(file_rows(["a"]), options(path), "yes")

    forecast = make_forecast(file_rows(["a"]), options(path), prices=at([None]))
    assert (forecast.cost, forecast.seconds) == ((0.0, 0.0, 0.0), 0.0)
    assert str(forecast) == "1 row: 1 answered by earlier runs, 0 to buy"


# --- time


def test_the_time_is_that_of_the_strictest_limit(path: Path) -> None:
    buy(file_rows(["a", "b"]), options(path), answer(10, 100, latency=2.0))
    questions = ["a", "b", *(f"question {number}" for number in range(100))]

    def seconds(**limits: Any) -> float | None:
        return make_forecast(file_rows(questions), options(path), pace=Pace(**limits)).seconds

    assert seconds(concurrency=10) == pytest.approx(100 * 2.0 / 10)
    assert seconds(concurrency=1_000) == pytest.approx(2.0)
    assert seconds(concurrency=10, requests=0.5) == pytest.approx(200.0)
    assert seconds(concurrency=10, requests=50.0) == pytest.approx(20.0)
    assert seconds(concurrency=10, output_tokens=10.0) == pytest.approx(100 * 100 / 10)


def test_the_time_is_unknown_where_nothing_tells() -> None:
    forecast = make_forecast(file_rows(["a"]), options(), pace=Pace(concurrency=4))

    assert forecast.seconds is None
    assert "time                   unknown" in str(forecast)


def test_a_rate_alone_tells_how_long_it_takes_at_least() -> None:
    forecast = make_forecast(file_rows(["a"] * 120), options(), pace=Pace(requests=1.0))

    assert forecast.seconds == 120.0
    assert forecast.rests_on["seconds"] == "60 requests a minute; how long an answer takes is not known yet"


# --- how it is told


def a_forecast(**changed: Any) -> Forecast:
    values: dict[str, Any] = {
        "rows": 1_000, "done": 300, "failed": 1, "cached": 10, "shared": 40, "to_buy": 649, "changed": 0,
        "prompt_tokens": Range(90_000.4, 100_000.0, 120_000.0), "completion_tokens": Range(1.0, 2.0, 3.0),
        "cost": Range(0.5, 1.25, 20.0), "seconds": 4_000.0, "rests_on": {"cost": "a price"},
    }  # fmt: skip
    return Forecast(**{**values, **changed})


def test_it_reads_well() -> None:
    assert str(a_forecast()).splitlines() == [
        "1,000 rows: 300 answered by earlier runs, 10 in the cache, 40 equal to another row, "
        "1 that cannot be asked or failed for good, 649 to buy",
        "  tokens of the prompts  about 100.0k, 90.0k to 120.0k",
        "  tokens of the answers  about 2, 1 to 3",
        "  cost                   about $1.25, $0.5000 to $20.00 (a price)",
        "  time                   about 67 min",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.6, "60 s"), (150.0, "2 min"), (9_000.0, "2 h 30 min"), (400_000.0, "4.6 days")],
)
def test_times_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert f"about {text}" in str(a_forecast(seconds=seconds))


def test_it_is_json_able() -> None:
    told = json.loads(json.dumps(a_forecast().as_dict(), allow_nan=False))

    assert told["prompt_tokens"] == {"low": 90_000, "expected": 100_000, "worst": 120_000}
    assert told["cost"] == {"low": 0.5, "expected": 1.25, "worst": 20.0}
    assert (told["to_buy"], told["seconds"], told["rests_on"]) == (649, 4_000.0, {"cost": "a price"})
    assert json.loads(json.dumps(a_forecast(cost=None, seconds=None).as_dict()))["cost"] is None


# --- what answers tell


counts = st.integers(min_value=0, max_value=10**12)
usages = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "cached_tokens", "cost"]),
        st.one_of(counts, st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers(max_value=-1)),
    ),
)


@given(
    st.lists(st.tuples(usages, st.one_of(st.none(), st.integers(1, 10**9)), st.one_of(st.none(), st.floats()))),
    st.integers(1, 10**7),
)
def test_whatever_answers_tell_the_numbers_are_in_order(
    answers: list[tuple[Any, int | None, float | None]], rows: int
) -> None:
    seen = Seen()
    for told, estimated, latency in answers:
        seen.add(told, estimated=estimated, latency=latency)

    completion, factor = seen.completion(rows), seen.prompt_factor(rows)
    assert 0 <= completion.low <= completion.expected <= completion.worst
    assert 0 <= factor.low <= factor.expected <= factor.worst
    assert seen.latency is None or seen.latency > 0
    assert seen.cost_factor(Price(input=1.0, output=2.0, cached_input=0.1), "openai") >= 0


@given(st.lists(st.integers(1, 5_000), min_size=FEWEST, max_size=200), st.integers(1, 100_000))
def test_more_answers_tell_more_closely(lengths: list[int], rows: int) -> None:
    few, many = Seen(), Seen()
    for length in lengths:
        few.add(usage(1, length))
    for length in lengths * 4:
        many.add(usage(1, length))

    assert many.completion(rows).expected == pytest.approx(few.completion(rows).expected)
    assert many.completion(rows).low >= few.completion(rows).low - 1e-6


@pytest.mark.parametrize(
    "told",
    [None, "many", [], {}, usage(10, -5), {"prompt_tokens": 10}, {"prompt_tokens": 1, "completion_tokens": 2.5},
     {"prompt_tokens": 1, "completion_tokens": True}, {"prompt_tokens": None, "completion_tokens": None}],
)  # fmt: skip
def test_what_is_no_count_tells_nothing(told: object) -> None:
    seen = Seen()

    assert not seen.add(told, estimated=10)
    assert len(seen) == 0
    assert seen.completion(10) == Seen().completion(10)


def test_answers_are_never_expected_to_be_shorter_than_the_shortest_seen() -> None:
    seen = Seen()
    for length in (10, 10, 10, 10, 10, 50_000):
        seen.add(usage(1, length))

    assert seen.completion(1).low == 10


def test_few_answers_say_little() -> None:
    seen = Seen()
    seen.add(usage(10, 100), estimated=10)

    assert seen.completion(1_000) == (50.0, 100.0, 200.0)
    assert seen.prompt_factor(1_000).low < 1.0 < seen.prompt_factor(1_000).worst


def test_an_input_that_cannot_be_understood_is_refused() -> None:
    with pytest.raises(InputError, match="no row can be understood"):
        FileRows(RowReader([b"{}\n"], "in.jsonl"), "m", {}, 1)
