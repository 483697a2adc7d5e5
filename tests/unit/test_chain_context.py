"""What a chain's functions see: answers that are texts, contexts that are a caller's own, and how a chain went."""

from __future__ import annotations

import copy
import json
import pickle
from collections import defaultdict
from typing import Any

import pytest

from flexllm.chain.context import Context, StepResponse, StepResult, as_context, without_texts
from flexllm.chain.results import slim
from flexllm.chat import ChatCompletionResult, ToolCall, Usage
from flexllm.errors import ChainError, ConfigError, RateLimited

USAGE = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)


def answered(name: str, text: str, **more: Any) -> StepResult:
    response = StepResponse(ChatCompletionResult(text))
    return StepResult(step_name=name, messages=[{"role": "user", "content": "?"}], response=response, **more)


# --- answers


def test_an_answer_is_a_text_in_every_way() -> None:
    response = StepResponse(ChatCompletionResult('  {"a": 1} OK '))

    assert isinstance(response, str)
    assert response.strip().endswith("OK")
    assert "OK" in response
    assert f"<{response}>" == '<  {"a": 1} OK >'
    assert response == '  {"a": 1} OK '
    assert json.dumps([response]) == json.dumps(['  {"a": 1} OK '])
    assert hash(response) == hash(str(response))
    assert json.loads(response.strip()[:-3]) == {"a": 1}


def test_an_answer_has_the_fields_of_its_result() -> None:
    call = ToolCall("1", "function", {"name": "f", "arguments": "{}"})
    result = ChatCompletionResult("", USAGE, "hm", [call], "tool_calls", cost=0.5)
    response = StepResponse(result)

    assert (response, response.content, bool(response)) == ("", "", False)
    assert (response.usage, response.reasoning_content, response.cost) == (USAGE, "hm", 0.5)
    assert response.tool_calls == [call]
    assert response.assistant_message == result.assistant_message
    assert response.result is result
    with pytest.raises(AttributeError, match="no_such_field"):
        response.no_such_field  # noqa: B018


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_answers_and_contexts_are_copied_and_pickled_with_all_they_have(again: Any) -> None:
    error = ChainError("no", step="b", reason="request", error=RateLimited("busy"))
    context = Context("q", [answered("a", "text", usage=USAGE)], {"x": [1]}, error=error)
    made = again(context)

    assert made.get("a") == "text"
    assert made.history[0].response.result == ChatCompletionResult("text")
    assert (made.query, made.custom_data, made.usage) == ("q", {"x": [1]}, USAGE)
    assert (str(made.error), made.error.step) == ("no", "b")


# --- contexts


def test_a_context_finds_answers_by_the_name_of_their_step() -> None:
    context = Context("q", [answered("a", "first"), answered("b", "B"), answered("a", "again")], {"x": 1, "b": 2})

    assert context.get_response_by_step("a") == "again"
    assert context.get_response_by_step("c") is None
    assert context.get_last_response() == "again"
    assert context.get("a") == "again"
    assert (context.get("b"), context.get("x"), context.get("y"), context.get("y", 0)) == ("B", 1, None, 0)
    assert Context().get_last_response() is None


def test_an_empty_answer_is_an_answer() -> None:
    context = Context("q", [answered("a", "")], {"a": "mine"})

    assert context.get("a") == ""


def test_a_summary_tells_how_the_chain_went_and_is_json() -> None:
    context = Context("q", [answered("a", "A", usage=USAGE, cost=0.25, seconds=1.0), answered("b", "B", usage=None)])
    context.history[1].cached = context.history[1].resumed = True
    summary = context.get_execution_summary()

    assert summary == json.loads(json.dumps(summary))
    assert (summary["status"], summary["path"], summary["total_steps"]) == ("running", ["a", "b"], 2)
    assert (summary["total_tokens"], summary["cost"], summary["seconds"]) == (15, None, 1.0)
    assert (summary["cached_steps"], summary["resumed_steps"], summary["error"]) == (1, 1, None)
    context.history[1].cost = 0.0
    context.final_response = context.get_last_response()
    assert (context.get_execution_summary()["status"], context.cost) == ("success", 0.25)
    context.error = ChainError("no", step="b")
    assert context.get_execution_summary()["status"] == "error"
    assert context.get_execution_summary()["error"] == {"class": "ChainError", "message": "no", "step": "b"}


def test_a_context_as_a_dictionary_has_the_texts_too_and_is_json() -> None:
    context = Context("q", [answered("a", "A")], {"x": [1]}, metadata={"id": 7})
    fields = json.loads(json.dumps(context.as_dict()))

    assert fields["steps"][0]["response"] == "A"
    assert fields["steps"][0]["messages"] == [{"role": "user", "content": "?"}]
    assert (fields["custom_data"], fields["metadata"], fields["final_response"]) == ({"x": [1]}, {"id": 7}, None)


@pytest.mark.parametrize("given", ["q", {"query": "q"}, Context("q"), {"query": "q", "custom_data": {}}])
def test_a_chain_may_be_given_in_several_forms(given: Any) -> None:
    assert as_context(given, 3, "m") == Context("q", index=3, metadata="m")


def test_nothing_given_is_an_empty_context() -> None:
    assert as_context(None, 0) == Context()


@pytest.mark.parametrize("given", [7, ["q"], b"q"])
def test_what_is_no_chain_is_refused_with_its_number(given: Any) -> None:
    with pytest.raises(ConfigError, match="chain 4 must be given as a Context, a text or a mapping"):
        as_context(given, 4)


def test_a_chain_with_a_wrong_field_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match="chain 4 has 'question', which is not known; there are: query, custom_data"):
        as_context({"question": "q"}, 4)
    with pytest.raises(
        ConfigError, match="the custom_data of chain 4 must be a mapping of names to values, not of type list"
    ):
        as_context(Context("q", custom_data=[1]), 4)  # type: ignore[arg-type]


def test_no_data_and_no_history_are_empty_ones() -> None:
    assert as_context({"query": "q", "custom_data": None}, 0) == Context("q")
    assert as_context(Context("q", history=None), 0) == Context("q")  # type: ignore[arg-type]


def test_data_that_hold_themselves_and_mappings_of_the_standard_library_are_copied() -> None:
    ring: dict[str, Any] = {"list": []}
    ring["list"].append(ring)
    mine = Context("q", custom_data={"ring": ring, "seen": defaultdict(list, a=[1])})
    made = as_context(mine, 0)
    made.custom_data["seen"]["b"].append(2)
    made.custom_data["seen"]["a"].append(3)

    assert made.custom_data["ring"]["list"][0] is made.custom_data["ring"] is not ring
    assert mine.custom_data["seen"] == {"a": [1]}
    assert type(made.custom_data["seen"]) is defaultdict


def test_steps_of_another_context_keep_their_bodies() -> None:
    mine = StepResult(step_name="old", messages=[], response=StepResponse(ChatCompletionResult("O", body=b"{}")))
    made = slim(as_context(Context("q", [mine]), 0), keep_history=True)

    assert made.history[0].response.result.body is None
    assert mine.response.result.body == b"{}"


def test_a_callers_own_context_stays_as_it_is() -> None:
    class Handle:
        """Something that cannot be copied."""

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError

    handle = Handle()
    mine = Context("q", [answered("old", "O")], {"list": [1, {"x": {1}}], "handle": handle}, metadata="mine")
    made = as_context(mine, 0)
    made.history.append(answered("a", "A"))
    made.custom_data["list"][1]["x"].add(2)
    made.custom_data["new"] = 1

    assert mine.custom_data == {"list": [1, {"x": {1}}], "handle": handle}
    assert len(mine.history) == 1
    assert made.custom_data["handle"] is handle
    assert (made.metadata, made.get("old")) == ("mine", "O")


def test_a_context_that_has_been_run_can_be_run_again() -> None:
    mine = Context("q", final_response=StepResponse(ChatCompletionResult("A")), error=ChainError("no"), index=9)

    assert as_context(mine, 1) == Context("q", index=1)


def test_steps_without_texts_keep_their_figures() -> None:
    (step,) = without_texts([answered("a", "A" * 1000, usage=USAGE, cost=0.5, seconds=2.0, cached=True)])

    assert (step.response, list(step.messages)) == ("", [])
    assert (step.step_name, step.usage, step.cost, step.seconds, step.cached) == ("a", USAGE, 0.5, 2.0, True)
