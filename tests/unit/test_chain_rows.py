"""Chains as the rows of a job: what is asked in which order, what an output file has of them, and how they are gone on with."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from fakes import LONGEST_WAIT, Cut, FakeBackend, FakeEngine

from flexllm.batch.items import BatchItem
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.cancel import CancelToken
from flexllm.chain.client import _as_they_end
from flexllm.chain.context import Context
from flexllm.chain.monitor import ChainEvent, as_monitor
from flexllm.chain.rows import ChainRows, walkable
from flexllm.chain.run import ChainLimits
from flexllm.chain.steps import LinearStep, Step, StepGraph
from flexllm.client.batches import OpenBatch
from flexllm.engines.threads import ThreadEngine
from flexllm.errors import BadRequest, BatchStopped, ConfigError, InputError


def plan(context: Context) -> str:
    return f"plan {context.query}"


def solve(context: Context) -> str:
    return f"solve {context.query} by {context.get('plan')}"


def shared(context: Context) -> str:
    return "the same for all"


def check(context: Context) -> str:
    return f"check {context.query} {context.custom_data.get('lang', '')}: {context.get('plan')}, {context.get('solve')}"


def linear(*functions: Callable[[Context], Any]) -> list[Step]:
    return [LinearStep(name, function) for name, function in zip(("plan", "solve", "check"), functions, strict=False)]


USUAL = linear(plan, solve, check)
SHARED = linear(plan, shared, check)


class Shop:
    """Runs chains over one output file, and counts what it sells. Each answer is another one.

    Attributes:
        sold: How often each prompt was answered.
        rows: Of the last run.
        job: Of the last run.
    """

    def __init__(
        self,
        path: Path | None = None,
        answer: Callable[[str], Any] | None = None,
        see: Callable[[Any], object] = lambda item: None,
    ) -> None:
        self.path = path
        self.sold: Counter[str] = Counter()
        self.events: list[ChainEvent] = []
        self._answer = answer
        self._see = see
        self._numbers = itertools.count()

    def run(
        self,
        chains: Iterable[Any],
        steps: Iterable[Step] = USUAL,
        *,
        cut_after: int | None = None,
        most_open: int = 4,
        limits: ChainLimits | None = None,
        metadata_list: Any = None,
        params: Any = None,
        **checkpoint: Any,
    ) -> list[Context]:
        """Return the contexts as they end."""
        graph, cancel = StepGraph(), CancelToken()
        first = graph.link(list(steps), None)
        self.events = []
        options = BatchOptions(
            output=self.path,
            checkpoint=CheckpointOptions(flush_interval=1_000.0, **checkpoint),
            progress=ProgressOptions(show=False),
        )
        self.job = BatchJob(FakeEngine(self._sell, cut_after=cut_after), options, cancel)
        conversations = ListRows((), "m", params or {})
        self.rows = ChainRows(
            graph, first, chains, conversations, limits=limits or ChainLimits(), tell=as_monitor(self.events.append),
            cancel=cancel, most_open=most_open, metadata_list=metadata_list,
        )  # fmt: skip
        return list(_as_they_end(OpenBatch(self.job, cancel, conversations, 1), self.rows))

    def _sell(self, item: BatchItem) -> Any:
        assert item.request is not None
        self._see(item)
        prompt = item.request.messages[-1]["content"]
        self.sold[prompt] += 1
        return f"answer {next(self._numbers)}" if self._answer is None else self._answer(prompt)

    def lines(self) -> list[dict[str, Any]]:
        assert self.path is not None
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "out.jsonl")


def by_query(contexts: list[Context]) -> dict[str, Context]:
    return {context.query: context for context in contexts}


# --- one run


def test_every_chain_goes_through_its_steps_each_made_of_the_answers_before_it() -> None:
    shop = Shop(answer=lambda prompt: f"<{prompt}>")
    contexts = by_query(shop.run(["A", "B"]))

    assert contexts["B"].get("plan") == "<plan B>"
    assert contexts["B"].get("solve") == "<solve B by <plan B>>"
    assert contexts["B"].final_response == "<check B : <plan B>, <solve B by <plan B>>>"
    assert contexts["A"].history[0].messages == [{"role": "user", "content": "plan A"}]
    assert (contexts["A"].index, contexts["B"].index, shop.rows.total, shop.rows.started) == (0, 1, 6, 2)
    assert set(shop.sold.values()) == {1}


def test_no_chain_at_all_is_no_error(shop: Shop) -> None:
    assert shop.run([]) == []


def test_the_finished_file_has_chain_after_chain(shop: Shop) -> None:
    shop.run(["A", {"query": "B", "metadata": "mine"}, Context("C")], metadata_list=[None, None, {"id": 3}])

    rows = shop.lines()
    names = [(row["metadata"]["chain"], row["metadata"]["ordinal"], row["metadata"]["step"]) for row in rows]
    assert names == [(chain, at, name) for chain in range(3) for at, name in enumerate(("plan", "solve", "check"))]
    assert [row["index"] for row in rows] == list(range(9))
    assert [row["metadata"].get("metadata") for row in rows[::3]] == [None, "mine", {"id": 3}]
    assert rows[1]["input"] == [{"role": "user", "content": f"solve A by {rows[0]['output']}"}]


def test_few_chains_are_under_way_at_the_same_time_and_the_input_is_read_lazily() -> None:
    shop, read = Shop(), itertools.count()
    started = ended = most = 0

    def chains() -> Iterator[str]:
        for number in range(50):
            next(read)
            yield f"chain {number}"

    contexts = shop.run(chains(), most_open=3)
    for event in shop.events:
        started += event.kind == "chain_start"
        ended += event.kind == "chain_end"
        most = max(most, started - ended)
    assert (len(contexts), started, ended) == (50, 50, 50)
    assert most <= 3
    assert shop.rows.total is None


def test_parameters_are_those_of_the_step_above_those_of_the_call() -> None:
    seen: list[Any] = []
    shop = Shop(see=lambda item: seen.append((item.request.model, dict(item.request.params))))
    steps = [LinearStep("plan", plan), LinearStep("solve", solve, {"temperature": 1, "model": "n"})]
    shop.run(["A"], steps, params={"temperature": 0, "top_p": 1})

    assert seen == [("m", {"temperature": 0, "top_p": 1}), ("n", {"temperature": 1, "top_p": 1})]


def test_functions_run_one_at_a_time_in_a_thread_of_their_own() -> None:
    threads: set[str] = set()
    busy = threading.Lock()

    def watched(context: Context) -> str:
        assert busy.acquire(blocking=False)
        threads.add(threading.current_thread().name)
        busy.release()
        return f"{context.query} {len(context.history)}"

    shop = Shop()
    assert all(context.error is None for context in shop.run(list("ABCDEFGH"), linear(watched, watched, watched)))
    assert threads == {"flexllm-steps"}


def test_functions_see_the_context_variables_of_the_caller() -> None:
    variable: ContextVar[str] = ContextVar("mine")
    variable.set("his value")

    (context,) = Shop(answer=lambda prompt: prompt).run(["A"], linear(lambda context: variable.get("none")))
    assert context.final_response == "his value"


def test_functions_may_wait_for_each_other_in_several_threads() -> None:
    barrier = threading.Barrier(2)

    def meet(context: Context) -> str:
        barrier.wait(LONGEST_WAIT)
        return context.query

    contexts = Shop().run(["A", "B"], linear(meet), limits=ChainLimits(function_threads=2))
    assert [context.error for context in contexts] == [None, None]


# --- resumed


@pytest.mark.parametrize("steps", [USUAL, SHARED])
@pytest.mark.parametrize("cut_after", range(13))
def test_a_run_that_is_cut_off_anywhere_is_gone_on_with_where_it_was(
    shop: Shop, steps: list[Step], cut_after: int
) -> None:
    chains = ["A", "B", {"query": "A"}, {"query": "A", "custom_data": {"lang": "de"}}]
    with suppress(Cut):
        shop.run(chains, steps, cut_after=cut_after)
    first = {context.index: context.as_dict() for context in shop.run(chains, steps)}
    assert shop.sold.total() == 12
    again = {context.index: context.as_dict() for context in shop.run(chains, steps)}

    assert shop.sold.total() == 12
    assert {index: one["final_response"] for index, one in first.items()} == {
        index: one["final_response"] for index, one in again.items()
    }
    assert all(one["resumed_steps"] == 3 for one in again.values())
    for chain in range(4):
        plan, solve, check = shop.lines()[3 * chain : 3 * chain + 3]
        assert check["input"][0]["content"].endswith(f": {plan['output']}, {solve['output']}")


@pytest.mark.parametrize("cut_after", range(1, 12))
def test_chains_may_be_given_in_another_order_and_left_out(shop: Shop, cut_after: int) -> None:
    with suppress(Cut):
        shop.run(["A", "B", "C", "D"], SHARED, cut_after=cut_after)
    shop.run(["D", "B", "A"], SHARED)
    shop.run(["C", "A", "D", "B"], SHARED)

    assert sum(count for prompt, count in shop.sold.items() if prompt != "the same for all") == 8
    assert shop.sold["the same for all"] <= 4


def test_lines_that_were_written_anew_for_another_order_leave_no_second_copy(shop: Shop) -> None:
    with suppress(Cut):
        shop.run(["A", "B"], cut_after=4)
    with suppress(Cut):
        shop.run(["B", "A"], cut_after=1)
    shop.run(["A", "B"])

    assert shop.sold.total() == 6
    assert shop.path is not None
    assert [entry.name for entry in shop.path.parent.iterdir()] == [shop.path.name]


def test_what_functions_wrote_is_made_again_by_the_same_answers(shop: Shop) -> None:
    def choose(response: str, context: Context) -> str | None:
        context.custom_data.setdefault("seen", []).append(str(response))
        return "again" if len(context.custom_data["seen"]) < 4 else None

    def again(context: Context) -> str:
        return f"again {context.query}"  # the same request each time: four samples

    steps = [Step("again", again, choose)]
    mine = [Context("A", custom_data={"x": 1})]
    with suppress(Cut):
        shop.run(mine, steps, cut_after=3)
    (context,) = shop.run(mine, steps)

    assert shop.sold == {"again A": 4}
    assert context.custom_data == {"x": 1, "seen": [f"answer {number}" for number in range(4)]}
    assert [one.resumed for one in context.history] == [True, True, True, False]
    assert mine[0].custom_data == {"x": 1}


def test_a_changed_function_buys_what_follows_and_a_change_back_finds_it(shop: Shop) -> None:
    changed = linear(plan, lambda context: f"solve {context.query} differently", check)
    (before,) = shop.run(["A"])
    (after,) = shop.run(["A"], changed)
    assert [one.resumed for one in after.history] == [True, False, False]
    (again,) = shop.run(["A"])

    assert again.final_response == before.final_response
    assert shop.sold.total() == 5


def test_a_step_that_is_put_before_the_others_costs_itself_alone(shop: Shop) -> None:
    shop.run(["A", "B"], linear(plan, shared))
    steps = [LinearStep("greet", lambda context: f"hello {context.query}"), *linear(plan, shared)]
    shop.run(["A", "B"], steps)

    assert shop.sold.total() == 6


def test_other_data_that_change_no_request_cost_nothing(shop: Shop) -> None:
    shop.run([Context("A", custom_data={"time": 1}), Context("B", custom_data={"time": 1})])
    shop.run([Context("A", custom_data={"time": 2}), Context("B", custom_data={"time": 2})])

    assert shop.sold.total() == 6


def test_data_that_json_does_not_know_are_no_reason_to_buy_again(shop: Shop) -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    for _run in range(2):
        shop.run(
            [
                Context("A", custom_data={"lock": threading.Lock(), 1: object()}),
                Context("B\ud800", custom_data={"f": plan}),
            ],
            linear(lambda context: f"plan {context.query[:1]}"),
        )

    assert shop.sold == {"plan A": 1, "plan B": 1}


# --- failures


def test_a_chain_that_fails_stops_no_other_and_its_row_says_why(shop: Shop) -> None:
    def stumble(context: Context) -> str:
        return context.custom_data["doc"]

    contexts = by_query(shop.run(["A", Context("B", custom_data={"doc": "D"})], linear(plan, stumble)))
    error = contexts["A"].error

    assert contexts["B"].final_response is not None
    assert error is not None
    assert "step 'solve': prepare_messages_fn raised KeyError: 'doc'" in str(error)
    rows = shop.lines()
    assert [row["status"] for row in rows] == ["success", "error", "success", "success"]
    assert rows[1]["metadata"] == {"chain": 0, "ordinal": 1, "step": "solve"}
    assert "chain 0, step 'solve': prepare_messages_fn raised KeyError: 'doc'" in rows[1]["error"]["message"]
    assert (shop.job.tally.success, shop.job.tally.failed) == (3, 1)

    shop.run(["A", "B"], linear(plan, lambda context: f"mended {context.query}"))
    assert shop.sold == {"plan A": 1, "plan B": 1, "D": 1, "mended A": 1, "mended B": 1}
    assert [row["status"] for row in shop.lines()] == ["success"] * 4


@pytest.mark.parametrize("messages", [None, [], 7, [{"role": "user"}], [{"content": object()}]])
def test_messages_that_cannot_be_asked_fail_their_chain_alone(shop: Shop, messages: Any) -> None:
    contexts = by_query(shop.run(["A", "B"], linear(lambda context: messages if context.query == "A" else "fine")))

    assert contexts["B"].error is None
    assert contexts["A"].error is not None
    assert (contexts["A"].error.step, contexts["A"].error.reason) == ("plan", "function")
    assert str(contexts["A"].error).startswith("step 'plan': ")
    assert isinstance(contexts["A"].error.error, InputError)


def test_a_refused_request_fails_its_chain_and_is_asked_again_by_the_next_run(shop: Shop) -> None:
    refuses = [True]
    shop._answer = lambda prompt: BadRequest("no", status=400) if prompt == "plan A" and refuses[0] else prompt.upper()
    contexts = by_query(shop.run(["A", "B"], linear(plan, solve)))
    assert contexts["A"].error is not None
    assert (str(contexts["A"].error), contexts["A"].error.reason) == ("step 'plan': no", "request")

    refuses[0] = False
    (kept, _other) = sorted(shop.run(["A", "B"], linear(plan, solve), retry_failed=False), key=lambda one: one.index)
    assert kept.error is not None
    contexts = by_query(shop.run(["A", "B"], linear(plan, solve)))
    assert contexts["A"].final_response == "SOLVE A BY PLAN A"
    assert (shop.sold["plan A"], shop.sold["plan B"], shop.sold.total()) == (2, 1, 5)


def test_an_input_that_fails_ends_the_run_with_its_error_and_keeps_what_was_answered(shop: Shop) -> None:
    def chains() -> Iterator[str]:
        yield "A"
        yield "B"
        raise OSError("the disk has gone")

    with pytest.raises(OSError, match="the disk has gone"):
        shop.run(chains(), most_open=2)
    assert shop.sold.total() >= 3
    assert [row["status"] for row in shop.lines()] == ["success"] * shop.sold.total()
    with pytest.raises(ConfigError, match="chain 1 must be given as a Context"):
        shop.run(iter(["A", 7]))


def test_what_a_function_does_to_its_context_harms_no_other_chain(shop: Shop) -> None:
    def clear(context: Context) -> str:
        query, context.index = context.query, 99
        context.history.clear()
        return query

    contexts = shop.run(["A", "B"], linear(clear, clear))
    assert [context.final_response for context in contexts] == ["answer 2", "answer 3"]
    assert [row["metadata"]["chain"] for row in shop.lines()] == [0, 0, 1, 1]


def test_an_input_that_can_be_walked_over_once_is_walked_over_once() -> None:
    class Bar:
        """A progress bar around a generator."""

        def __init__(self) -> None:
            self._given = iter(["A", "B"])

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[str]:
            yield from self._given

    assert walkable(Bar()) == ["A", "B"]
    given = ("A", "B")
    assert walkable(given) is given


# --- stopped


def test_a_function_that_does_not_come_back_holds_no_stopped_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexllm.chain.rows.PATIENCE", 0.01)
    cancel, released = CancelToken(), threading.Event()

    def hang(context: Context) -> str:
        if context.history:
            cancel.stop()
            released.wait(LONGEST_WAIT)
        return "?"

    job = BatchJob(
        ThreadEngine(FakeBackend("yes"), workers=2, cancel=cancel, grace=0.0),
        BatchOptions(progress=ProgressOptions(show=False)),
        cancel,
    )
    graph, conversations = StepGraph(), ListRows((), "m", {})
    first = graph.link(linear(hang, hang), None)
    rows = ChainRows(
        graph, first, ["A", "B", "C"], conversations, limits=ChainLimits(), tell=as_monitor(None), cancel=cancel,
        most_open=2,
    )  # fmt: skip
    ended = list(_as_they_end(OpenBatch(job, cancel, conversations, 2), rows))
    left = list(rows.left(BatchStopped("stopped")))
    released.set()

    assert ended == []
    assert [(context.query, context.index) for context in left] == [("A", 0), ("B", 1), ("C", 2)]
    assert {context.error.reason for context in left if context.error} == {"stopped"}
    assert left[2].history == []


def stopped_at_once(answers: int, chains: Iterable[str], steps: list[Step]) -> tuple[BatchJob, list[Context]]:
    """Run chains whose time is over as soon as so many requests are under way; all of these are answered."""
    cancel = CancelToken()

    def time_is_over() -> None:
        cancel.timed_out = True
        cancel.stop()

    together = threading.Barrier(answers, action=time_is_over)

    def answer(_request: Any) -> str:
        together.wait(LONGEST_WAIT)
        return "yes"

    job = BatchJob(
        ThreadEngine(FakeBackend(answer), workers=answers, cancel=cancel),
        BatchOptions(progress=ProgressOptions(show=False), max_time=1_000.0),
        cancel,
    )
    graph, conversations = StepGraph(), ListRows((), "m", {})
    first = graph.link(steps, None)
    rows = ChainRows(
        graph, first, chains, conversations, limits=ChainLimits(), tell=as_monitor(None), cancel=cancel, most_open=9
    )
    ended = list(_as_they_end(OpenBatch(job, cancel, conversations, answers), rows))
    return job, [*ended, *(rows.left(job.stopped) if job.stopped is not None else ())]


def test_a_run_whose_time_is_over_is_not_complete_though_all_that_was_asked_is_answered() -> None:
    for steps in (linear(plan, solve), [Step("plan", plan, lambda response, context: "plan")]):
        job, contexts = stopped_at_once(2, ["A", "B"], steps)

        assert job.stopped is not None
        assert job.stopped.reason == "max_time"
        assert job.summary()["complete"] is False
        assert [len(context.history) for context in contexts] == [1, 1]
        assert {context.error.reason for context in contexts if context.error} == {"stopped"}


def test_a_chain_whose_last_step_is_answered_while_the_run_stops_has_come_to_its_end() -> None:
    for steps in (linear(plan), [Step("plan", plan, lambda response, context: None)]):
        _job, contexts = stopped_at_once(2, ["A", "B"], steps)
        assert [(context.final_response, context.error) for context in contexts] == [("yes", None)] * 2


def test_a_chain_that_would_go_on_while_the_run_stops_is_not_told_that_a_step_begins() -> None:
    prepared: list[str] = []

    def second(context: Context) -> str:
        prepared.append(context.query)
        return "?"

    stopped_at_once(1, ["A"], linear(plan, second))
    assert prepared == []


def test_a_monitor_sees_chains_that_an_earlier_run_paid_for(shop: Shop) -> None:
    shop.run(["A"])
    shop.run(["A"])

    ends = [event.result for event in shop.events if event.kind == "step_end"]
    assert [one.resumed for one in ends if one is not None] == [True] * 3
    assert [event.kind for event in shop.events][-1] == "chain_end"
