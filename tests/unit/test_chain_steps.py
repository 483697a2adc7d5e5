"""Steps, how they follow on each other, and who is told of them."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from flexllm import ChainOfThoughtClient, ChatCompletionResult, LinearStep, LLMClient, Step, StepResponse, StepResult
from flexllm.chain.context import Context
from flexllm.chain.monitor import EVENTS, ChainEvent, LoggingMonitor, as_monitor
from flexllm.chain.run import ChainLimits
from flexllm.chain.steps import StepGraph
from flexllm.errors import ChainError, ConfigError


def ask(context: Context) -> str:
    return context.query


def choose(response: str, context: Context) -> str | None:
    return None


def linear(*names: str) -> list[Step]:
    return [LinearStep(name, ask) for name in names]


# --- steps


def test_a_step_is_made_by_position() -> None:
    step = Step("a", ask, choose, {"temperature": 0})

    assert (step.name, step.prepare_messages_fn, step.get_next_step_fn) == ("a", ask, choose)
    assert step.model_params == {"temperature": 0}
    assert LinearStep("a", ask, {"temperature": 0}).model_params == {"temperature": 0}
    assert pickle.loads(pickle.dumps(step)) == step
    assert pickle.loads(pickle.dumps(LinearStep("a", ask))) == LinearStep("a", ask)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", ask), "name='' must be a text"),
        ((None, ask), "name=None must be a text"),
        (("a", "ask"), "step 'a': prepare_messages_fn must be a function, not of type str"),
        (("a", None), "step 'a': prepare_messages_fn must be a function, not of type NoneType"),
        (("a", ask, "b"), "step 'a': get_next_step_fn must be a function, not of type str"),
        (("a", ask, None, [1]), "step 'a': model_params must be a mapping of request parameters, not of type list"),
        (("a", ask, None, {"timeout": 3}), "step 'a': timeout is no parameter of a request"),
    ],
)
def test_a_step_that_cannot_work_is_refused_at_once(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Step(*arguments)


def test_a_step_keeps_its_own_copy_of_the_parameters() -> None:
    params = {"temperature": 0}
    step = Step("a", ask, model_params=params)
    params["temperature"] = 1

    assert step.model_params == {"temperature": 0}


# --- graphs


def test_linear_steps_follow_on_each_other() -> None:
    graph = StepGraph()

    assert graph.link(linear("a", "b", "c"), None) == "a"
    assert [graph.follower(name) for name in "abc"] == ["b", "c", None]
    assert (graph.start(None), graph.start("b"), graph.length_from("a"), graph.length_from("b")) == ("a", "b", 3, 2)


def test_a_linear_chain_may_have_a_name() -> None:
    graph = StepGraph()
    graph.add(LinearStep("first of all", ask))

    assert graph.link(linear("a", "b"), "both") == "both"
    assert graph.start("both") == "a"
    assert graph.start(None) == "first of all"


def test_where_a_step_chooses_nobody_knows_the_length() -> None:
    graph = StepGraph()
    graph.link([LinearStep("a", ask), Step("b", ask, choose), LinearStep("c", ask)], None)

    assert (graph.length_from("a"), graph.length_from("c")) == (None, 1)


def test_a_linear_chain_cannot_go_round() -> None:
    graph = StepGraph()
    step = LinearStep("a", ask)
    with pytest.raises(ConfigError, match="step 'a' stands in two linear chains"):
        graph.link([step, LinearStep("b", ask), step], None)
    assert list(graph) == []  # all of them, or none


def test_a_step_may_end_two_chains_but_not_go_on_differently() -> None:
    graph, end = StepGraph(), LinearStep("end", ask)
    graph.link([LinearStep("a", ask), end], None)
    graph.link([LinearStep("b", ask), end], None)

    assert (graph.follower("a"), graph.follower("b"), graph.follower("end")) == ("end", "end", None)
    with pytest.raises(ConfigError, match="step 'end' stands in two linear chains"):
        graph.link([end, LinearStep("c", ask)], None)


def test_a_name_stands_for_one_step_alone() -> None:
    graph = StepGraph()
    graph.link(linear("a"), "chain")
    for wrong in ("a", "chain"):
        with pytest.raises(ConfigError, match=f"there is a step or chain '{wrong}' already"):
            graph.add(LinearStep(wrong, choose))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="already"):
            graph.link(linear("b"), wrong)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others() -> None:
    graph = StepGraph()
    graph.link(linear("plan", "solve"), None)

    with pytest.raises(ConfigError, match="there is no step 'plam'; did you mean 'plan'\\? There are: 'plan', 'solve'"):
        graph.start("plam")
    with pytest.raises(ConfigError, match="there is no step 'xyz'; there are: 'plan', 'solve'"):
        graph.start("xyz")
    with pytest.raises(ConfigError, match="initial_step_name must be the name of a step, not of type list"):
        graph.start(["plan"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no step yet"):
        StepGraph().start(None)


# --- the client


@pytest.fixture
def client() -> Any:
    with LLMClient("m", "http://127.0.0.1:1/v1") as client:
        yield client


def test_a_client_takes_steps_in_several_ways(client: LLMClient) -> None:
    chains = ChainOfThoughtClient(openai_client=client)
    chains.add_step(Step("a", ask))
    chains.add_steps(linear("b", "c"))

    assert chains.create_linear_chain(iter(linear("d", "e"))) == "d"
    assert chains.step_names == ["a", "b", "c", "d", "e"]
    assert "steps=['a', 'b', 'c', 'd', 'e']" in repr(chains)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 0}, "max_steps=0 must be a whole number of at least 1"),
        ({"max_steps": True}, "max_steps=True must be a whole number"),
        ({"function_threads": 0}, "function_threads=0 must be a whole number"),
        ({"step_timeout": 0}, "step_timeout=0 must be a number of seconds above 0"),
        ({"chain_timeout": "1"}, "chain_timeout='1' must be a number of seconds above 0"),
        ({"monitor": 7}, "monitor must be a function of an event, or have methods such as on_step_end"),
    ],
)
def test_wrong_options_are_refused(client: LLMClient, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ChainOfThoughtClient(client, **options)


@pytest.mark.parametrize("given", [None, "http://127.0.0.1", object()])
def test_what_is_no_client_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="client must be an LLMClient, a pool or another client"):
        ChainOfThoughtClient(given)


def test_two_names_for_the_client_are_one_too_many(client: LLMClient) -> None:
    with pytest.raises(ConfigError, match="two names for one thing"):
        ChainOfThoughtClient(client, openai_client=client)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda chains: chains.add_step("a"), "a step must be a Step or a LinearStep, not of type str"),
        (lambda chains: chains.add_steps(Step("b", ask)), "steps must be a list of steps, not of type Step"),
        (lambda chains: chains.create_linear_chain([]), "a chain needs at least one step"),
        (lambda chains: chains.execute_chain_sync("b"), "there is no step 'b'"),
        (lambda chains: chains.execute_chains_batch_sync("a", "query"), "contexts must be a list .* not of type str"),
        (lambda chains: chains.execute_chains_batch_sync("a", Context()), "contexts must be a list"),
        (lambda chains: chains.execute_chains_batch_sync("a", {"query": 1}), "contexts must be a list"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q", 7]), "chain 1 must be given as a Context"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], metadata_list=[]), "one entry for each chain"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], metadata_list="x"), "one entry for each chain"),
        (
            lambda chains: chains.execute_chain_sync("a", "q", max_steps=3),
            "max_steps is no parameter .* ChainOfThoughtClient",
        ),
        (
            lambda chains: chains.execute_chain_sync("a", "q", keep_history=True),
            "keep_history is for execute_chains_batch",
        ),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], order="prefix"), "order='prefix' needs all rows"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], retry_failed="only"), "retry_failed='only'"),
        (
            lambda chains: chains.execute_chains_batch_sync("a", ["q"], params_list=[{}]),
            "give each Step its model_params",
        ),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], on_change="fail"), "on_change='fail' is not for"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], return_usage=True), "return_usage: each step's"),
        (lambda chains: chains.execute_chains_batch_sync("a", ["q"], "out.csv"), "must end in .jsonl"),
        (
            lambda chains: chains.iter_chains_batch_sync("a", ["q"], return_summary=True),
            "return_summary is no parameter",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_sent(client: LLMClient, call: Any, said: str) -> None:
    chains = ChainOfThoughtClient(client)
    chains.add_step(Step("a", ask))

    with pytest.raises(ConfigError, match=said):
        call(chains)


# --- limits and monitors


def test_limits_have_usual_values() -> None:
    limits = ChainLimits()

    assert (limits.max_steps, limits.step_timeout, limits.chain_timeout, limits.function_threads) == (50, None, None, 1)


def test_a_monitor_is_a_function_or_an_object_with_some_methods() -> None:
    class Mine:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_step_end(self, event: ChainEvent) -> None:
            self.seen.append(event.kind)

    seen: list[str] = []
    mine = Mine()
    for kind in EVENTS:
        event = ChainEvent(kind=kind, context=Context())  # type: ignore[arg-type]
        as_monitor(mine)(event)
        as_monitor(lambda event: seen.append(event.kind))(event)
        as_monitor(None)(event)

    assert mine.seen == ["step_end"]
    assert seen == list(EVENTS)


def test_a_monitor_that_fails_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def monitor(event: ChainEvent) -> None:
        raise KeyError("mine")

    with caplog.at_level(logging.WARNING):
        as_monitor(monitor)(ChainEvent(kind="chain_end", context=Context()))

    assert "the monitor failed at chain_end: KeyError: 'mine'" in caplog.text


def test_the_logging_monitor_logs_failures_as_warnings(caplog: pytest.LogCaptureFixture) -> None:
    monitor = LoggingMonitor()
    response = StepResponse(ChatCompletionResult("A"))
    answered = StepResult(step_name="plan", messages=[], response=response, seconds=1.5)
    with caplog.at_level(logging.INFO):
        monitor(ChainEvent(kind="step_start", context=Context(index=3), step_name="plan"))
        monitor(ChainEvent(kind="step_end", context=Context(index=3), step_name="plan", result=answered))
        monitor(ChainEvent(kind="chain_error", context=Context(index=3), step_name="plan", error=ChainError("no")))

    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "chain 3: step_start 'plan'"),
        ("INFO", "chain 3: step_end 'plan' in 1.50 s"),
        ("WARNING", "chain 3: chain_error 'plan': no"),
    ]
