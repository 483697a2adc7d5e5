"""One chain without anybody who answers: what it asks next, and how it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeClock

from flexllm.batch.items import BatchResultItem, result_item
from flexllm.chain.context import Context, StepResponse
from flexllm.chain.monitor import ChainEvent
from flexllm.chain.run import ChainLimits, ChainRun, Turn
from flexllm.chain.steps import LinearStep, Step, StepGraph
from flexllm.chat import ChatCompletionResult, Usage
from flexllm.errors import BatchStopped, FlexLLMError, InputError, RateLimited, RequestTimeout


def ask(context: Context) -> str:
    return f"about {context.query}"


def item(outcome: ChatCompletionResult | FlexLLMError | str) -> BatchResultItem:
    return result_item(0, ChatCompletionResult(outcome) if isinstance(outcome, str) else outcome, None)


class Chain:
    """A chain of some steps, and what is told of it."""

    def __init__(self, *steps: Step, first: str = "", limits: ChainLimits | None = None, linear: bool = False) -> None:
        graph = StepGraph()
        if linear:
            graph.link(steps, None)
        else:
            for step in steps:
                graph.add(step)
        self.context = Context("Q")
        self.events: list[ChainEvent] = []
        self.clock = FakeClock()
        self.run = ChainRun(
            graph, first or steps[0].name, self.context, limits or ChainLimits(), self.events.append, clock=self.clock
        )

    def next(self, turn: Turn, outcome: Any = "yes") -> Turn | None:
        """Answer a turn as a job would."""
        return self.run.follow(turn) if self.run.record(turn, item(outcome)) is not None else None

    def failed(self, turn: Turn | None) -> str:
        """Return what a turn that stands for a failure says, after the job has given it back."""
        assert turn is not None
        assert turn.error is not None
        assert self.run.record(turn, item(InputError("row 7 cannot be asked"))) is None
        assert self.context.error is turn.error
        assert self.context.final_response is None
        return str(turn.error)

    def kinds(self) -> list[str]:
        return [f"{event.kind} {event.step_name}" if event.step_name else event.kind for event in self.events]


# --- on its way


def test_a_linear_chain_asks_one_step_after_the_other_and_ends() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    chain = Chain(
        LinearStep("a", ask, {"temperature": 0}),
        LinearStep("b", lambda context: [{"role": "user", "content": f"more than {context.get('a')}"}]),
        linear=True,
    )
    first = chain.run.begin()
    assert (first.step_name, first.ordinal, first.messages, first.params) == ("a", 0, "about Q", {"temperature": 0})
    second = chain.next(first, ChatCompletionResult("one", usage, cost=0.5, latency=0.25))
    assert second is not None
    assert (second.step_name, second.ordinal, second.params) == ("b", 1, None)
    assert second.messages == [{"role": "user", "content": "more than one"}]
    assert chain.next(second, ChatCompletionResult("two", cached=True)) is None

    context = chain.context
    assert (context.final_response, context.error) == ("two", None)
    assert [one.step_name for one in context.history] == ["a", "b"]
    assert (context.history[0].usage, context.history[0].cost, context.history[0].seconds) == (usage, 0.5, 0.25)
    assert [one.cached for one in context.history] == [False, True]
    assert context.history[1].messages == [{"role": "user", "content": "more than one"}]
    assert chain.kinds() == [
        "chain_start", "step_start a", "step_end a", "step_start b", "step_end b", "chain_end",
    ]  # fmt: skip
    assert chain.events[2].result is context.history[0]


def test_a_step_chooses_by_its_answer_and_the_context() -> None:
    seen: list[tuple[Any, Any]] = []

    def choose(response: Any, context: Context) -> str | None:
        seen.append((response, context.get_last_response()))
        context.custom_data["tries"] = context.custom_data.get("tries", 0) + 1
        return "again" if "no" in response else None

    chain = Chain(Step("a", ask, choose), Step("again", ask, choose))
    turn = chain.next(chain.run.begin(), "no, not yet")
    assert turn is not None
    assert turn.step_name == "again"
    assert chain.next(turn, "yes") is None
    assert seen == [("no, not yet",) * 2, ("yes",) * 2]
    assert chain.context.custom_data == {"tries": 2}


def test_a_step_without_a_function_ends_the_chain() -> None:
    chain = Chain(Step("a", ask), Step("b", ask))

    assert chain.next(chain.run.begin()) is None
    assert chain.context.final_response == "yes"


def test_a_step_of_a_linear_chain_may_go_elsewhere() -> None:
    chain = Chain(
        Step("a", ask, lambda response, context: "c"), LinearStep("b", ask), LinearStep("c", ask), linear=True
    )
    turn = chain.next(chain.run.begin())

    assert turn is not None
    assert turn.step_name == "c"


# --- ends that are none


def test_a_step_that_is_not_answered_ends_its_chain_and_is_named() -> None:
    chain = Chain(Step("a", ask))
    error = RateLimited("busy", status=429)

    assert chain.next(chain.run.begin(), error) is None
    failure = chain.context.error
    assert failure is not None
    assert (str(failure), failure.step, failure.reason, failure.error) == ("step 'a': busy", "a", "request", error)
    assert chain.kinds()[2:] == ["step_error a", "chain_error a"]
    assert chain.events[2].error is error


def test_a_step_that_takes_too_long_is_told_as_a_time_out() -> None:
    chain = Chain(Step("a", ask))
    chain.next(chain.run.begin(), RequestTimeout("too late"))

    assert chain.kinds()[2:] == ["step_timeout a", "chain_error a"]


def test_messages_that_cannot_be_asked_are_the_functions_fault() -> None:
    chain = Chain(Step("a", ask))
    turn = chain.run.begin()
    turn.refused = InputError("messages are empty")

    assert chain.next(turn, InputError("row 3 cannot be asked: messages are empty")) is None
    assert chain.context.error is not None
    assert (str(chain.context.error), chain.context.error.reason) == ("step 'a': messages are empty", "function")


def broken(context: Context) -> str:
    return context.custom_data["missing"]


def test_a_function_that_raises_ends_its_chain_and_says_where() -> None:
    chain = Chain(Step("a", broken))
    turn = chain.run.begin()
    said = chain.failed(turn)

    assert said.startswith("step 'a': prepare_messages_fn raised KeyError: 'missing' (test_chain_run.py, broken, ")
    assert turn.error is not None
    assert (turn.error.step, turn.error.reason, type(turn.error.__cause__)) == ("a", "function", KeyError)
    assert chain.kinds() == ["chain_start", "step_start a", "step_error a", "chain_error a"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda response: None, "step 'a': get_next_step_fn raised TypeError: .*positional argument"),
        (lambda response, context: response["x"], "step 'a': get_next_step_fn raised TypeError: string indices"),
        (
            lambda response, context: 7,
            "step 'a': get_next_step_fn must give the name of a step, or None .* of type int",
        ),
        (lambda response, context: sys.exit(3), "step 'a': get_next_step_fn raised SystemExit: 3"),
        (lambda response, context: "bb", "after step 'a': there is no step 'bb'; there are: 'a', 'solve'"),
        (
            lambda response, context: "solv",
            "after step 'a': there is no step 'solv'; did you mean 'solve'\\? There are:",
        ),
    ],
)
def test_a_next_step_that_is_none_ends_the_chain(function: Callable[..., Any], said: str) -> None:
    chain = Chain(Step("a", ask, function), Step("solve", ask))
    turn = chain.next(chain.run.begin())

    with pytest.raises(FlexLLMError, match=said):
        raise FlexLLMError(chain.failed(turn))
    assert len(chain.context.history) == 1
    assert chain.kinds()[-1] == "chain_error a"


async def later(*args: Any) -> str:
    return "later"


def test_an_error_that_cannot_be_shown_ends_its_chain_alone() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise self

    class Long(Exception):
        def __str__(self) -> str:
            return "x" * 100_000

    for error in (Odd(), Long()):

        def stumble(context: Context, error: Exception = error) -> str:
            raise error

        shown = str(Chain(Step("a", stumble)).run.begin().error)
        assert f"prepare_messages_fn raised {type(error).__name__}: " in shown
        assert len(shown) < 2_000


def test_a_step_may_go_on_to_a_linear_chain_by_its_name() -> None:
    graph = StepGraph()
    graph.link([LinearStep("first", ask)], "review")
    graph.add(Step("route", ask, lambda response, context: "review"))
    run = ChainRun(graph, "route", Context("q"), ChainLimits(), lambda event: None)
    turn = run.begin()
    run.record(turn, item("x"))

    following = run.follow(turn)
    assert following is not None
    assert following.step_name == "first"


def test_an_answer_within_messages_is_kept_as_a_text_alone() -> None:
    answer = StepResponse(ChatCompletionResult("text", body=b"{}"))
    given = [{"role": "user", "content": [{"type": "text", "text": answer}]}, {"role": "user", "content": answer}]
    chain = Chain(Step("a", lambda context: given))
    chain.next(chain.run.begin())

    (step,) = chain.context.history
    assert [type(step.messages[0]["content"][0]["text"]), type(step.messages[1]["content"])] == [str, str]
    assert step.messages == given


def test_an_asynchronous_function_is_told_to_be_a_plain_one() -> None:
    for step in (Step("a", later), Step("a", ask, later)):  # type: ignore[arg-type]
        chain = Chain(step)
        turn: Turn | None = chain.run.begin()
        assert turn is not None
        with contextlib.suppress(AssertionError):
            turn = turn if turn.error is not None else chain.next(turn)
        assert "is asynchronous; it is called in a thread of its own, so make it a plain function" in chain.failed(turn)


def test_a_chain_that_goes_round_is_bounded() -> None:
    chain = Chain(
        Step("a", ask, lambda response, context: "b"),
        Step("b", ask, lambda response, context: "a"),
        limits=ChainLimits(max_steps=5),
    )
    turn: Turn | None = chain.run.begin()
    for _time in range(5):
        assert turn is not None
        assert turn.error is None
        turn = chain.next(turn)

    assert chain.failed(turn) == "the chain has not ended after 5 steps (max_steps); the last were b, a, b, a"
    assert chain.context.error is not None
    assert (chain.context.error.reason, chain.context.error.step) == ("max_steps", "a")


def test_a_chain_of_just_so_many_steps_is_allowed() -> None:
    chain = Chain(LinearStep("a", ask), LinearStep("b", ask), linear=True, limits=ChainLimits(max_steps=2))
    turn = chain.next(chain.run.begin())
    assert turn is not None
    assert chain.next(turn) is None
    assert chain.context.error is None


def test_a_chain_whose_time_is_over_begins_no_further_step() -> None:
    chain = Chain(
        LinearStep("a", ask), LinearStep("b", ask), LinearStep("c", ask), linear=True,
        limits=ChainLimits(chain_timeout=10.0),
    )  # fmt: skip
    turn = chain.run.begin()
    chain.clock.now += 9.0
    second = chain.next(turn)
    assert second is not None
    assert second.error is None
    chain.clock.now += 1.0

    assert chain.failed(chain.next(second)) == (
        "the time of the chain is over: 10 s (chain_timeout); step 'c' was not begun"
    )
    assert chain.context.get("b") == "yes"
    assert chain.kinds()[-1] == "chain_timeout b"


def test_a_chain_that_is_stopped_with_the_run_keeps_what_it_has() -> None:
    chain = Chain(LinearStep("a", ask), LinearStep("b", ask), linear=True)
    chain.next(chain.run.begin())
    stopped = BatchStopped("stopped with 1 of 2 rows answered", reason="budget")
    chain.run.stop(stopped)

    assert chain.context.error is not None
    assert (chain.context.error.reason, chain.context.error.error, chain.context.error.step) == (
        "stopped",
        stopped,
        "b",
    )
    assert chain.context.get("a") == "yes"
