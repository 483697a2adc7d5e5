"""Replies that are cut or do not fit: kept, refused, or asked for once more with more tokens."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import replace
from typing import Any

import pytest
from fakes import Answer, FakeBackend
from hypothesis import given
from hypothesis import strategies as st

from flexllm.backends.structured import StructuredBackend
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk, ToolCall, Usage
from flexllm.errors import (
    AllEndpointsFailed,
    BadRequest,
    BudgetExceededError,
    ConfigError,
    FlexLLMError,
    InputError,
    RejectedReply,
    ReplyTruncated,
    RequestCancelled,
    RequestTimeout,
    SchemaMismatch,
    ServerError,
)
from flexllm.health import EndpointHealth
from flexllm.providers import find_provider
from flexllm.replies import ReplyPolicy
from flexllm.schema import as_response_format
from flexllm.wire import Target

PLACE = "http://127.0.0.1:8000/v1"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GOOD, BAD, HALF = '{"n": 1}', '{"n": "one"}', '{"n": '

KEEP, ERROR, RETRY = (ReplyPolicy(on_truncated=one) for one in ("keep", "error", "retry"))


def text_request(**params: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": "tell me"}], "m", params)


def json_request(repair: bool = False, **params: Any) -> ChatRequest:
    return text_request(response_format=as_response_format(SCHEMA, repair), **params)


def whole(content: str = "once upon a time", **fields: Any) -> ChatCompletionResult:
    return ChatCompletionResult(content, finish_reason=fields.pop("finish_reason", "stop"), **fields)


def cut(content: str = "once upon", **fields: Any) -> ChatCompletionResult:
    return whole(content, finish_reason="length", **fields)


def usage(prompt: int, completion: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def ask(
    policy: ReplyPolicy, asked: ChatRequest, *answers: Answer, cancel: CancelToken | None = None
) -> tuple[ChatCompletionResult | FlexLLMError, list[ChatRequest]]:
    """Return the result or the error, and the requests that were sent."""
    below = FakeBackend(*answers)
    try:
        return StructuredBackend(below, endpoint=PLACE, policy=policy).complete(asked, cancel), below.requests
    except FlexLLMError as error:
        return error, below.requests


def streamed(policy: ReplyPolicy, asked: ChatRequest, answer: Answer) -> tuple[list[Any], FlexLLMError | None, int]:
    """Return what a stream yields, the error that ends it, and how many requests it took."""
    below, pieces = FakeBackend(answer), []
    try:
        for piece in StructuredBackend(below, endpoint=PLACE, policy=policy).stream(asked):
            pieces.append(piece)
    except FlexLLMError as error:
        return pieces, error, len(below.requests)
    return pieces, None, len(below.requests)


# --- the value


def test_cut_replies_are_kept_and_invalid_ones_are_errors_by_default() -> None:
    assert ReplyPolicy() == ReplyPolicy(on_truncated="keep", on_invalid="error")


@pytest.mark.parametrize("name", ["on_truncated", "on_invalid"])
@pytest.mark.parametrize("value", ["ignore", "", "KEEP", None, True, 1, ["keep"], {}])
def test_a_policy_that_is_none_is_refused_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ReplyPolicy(**{name: value})
    assert str(caught.value) == f"{name}={value!r} must be one of 'keep', 'error', 'retry'"


def test_a_policy_pickles() -> None:
    policy = ReplyPolicy(on_truncated="retry", on_invalid="keep")
    assert pickle.loads(pickle.dumps(policy)) == policy


# --- cut: kept


def test_a_cut_reply_is_kept_as_it_is() -> None:
    answer = cut()
    assert ask(KEEP, text_request(), answer) == (answer, [text_request()])
    assert StructuredBackend(FakeBackend(answer)).complete(text_request()) is answer


@pytest.mark.parametrize("policy", [KEEP, ERROR, RETRY])
@pytest.mark.parametrize("reason", ["stop", "tool_calls", "content_filter", "error", None, "max_length"])
def test_a_reply_that_is_not_cut_passes_untouched(policy: ReplyPolicy, reason: str | None) -> None:
    answer = whole(finish_reason=reason)
    below = FakeBackend(answer)
    assert StructuredBackend(below, policy=policy).complete(text_request()) is answer
    assert len(below.requests) == 1


# --- cut: an error


def test_a_cut_reply_as_an_error_carries_what_is_known_of_it() -> None:
    answer = cut(usage=usage(3, 16), request_id="r-1", attempts=2)
    error, sent = ask(ERROR, text_request(max_tokens=16), answer)
    assert isinstance(error, ReplyTruncated)
    assert str(error) == "the answer was cut at the token limit after 16 tokens; raise max_tokens"
    assert (error.content, error.usage) == ("once upon", usage(3, 16))
    assert (error.endpoint, error.model, error.attempts, error.request_id) == (PLACE, "m", 2, "r-1")
    assert len(sent) == 1
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


CALL = ToolCall("c", "function", {"name": "f", "arguments": '{"a": '})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (cut(), "the answer was cut at the token limit; raise max_tokens"),
        (cut("", usage=usage(1, 9)), "the answer was cut at the token limit after 9 tokens; raise max_tokens"),
        (cut("", tool_calls=[CALL]), "the answer was cut at the token limit; raise max_tokens"),
        (
            cut("\n", reasoning_content="hm", usage=usage(1, 9)),
            "thinking reached the token limit after 9 tokens, before any answer; raise max_tokens, or let it think less",
        ),
        (
            cut("", usage=Usage(usage(1, 9), reasoning_tokens=9)),
            "thinking reached the token limit after 9 tokens, before any answer; raise max_tokens, or let it think less",
        ),
        (
            cut("", usage=Usage(usage(1, 9), reasoning_tokens=0)),
            "the answer was cut at the token limit after 9 tokens; raise max_tokens",
        ),
        (cut("so", reasoning_content="hm"), "the answer was cut at the token limit; raise max_tokens"),
        (
            cut(native_finish_reason="model_context_window_exceeded", usage=usage(1, 9)),
            "the answer was cut where the model's context ends after 9 tokens; shorten the messages",
        ),
        (
            cut(native_finish_reason="model_length"),
            "the answer was cut where the model's context ends; shorten the messages",
        ),
        (cut(cached=True), "the answer was cut at the token limit; raise max_tokens"),
    ],
)
def test_the_error_says_what_was_cut_and_what_to_do(answer: ChatCompletionResult, said: str) -> None:
    error, _ = ask(ERROR, text_request(), answer)
    assert (type(error), str(error)) == (ReplyTruncated, said)


# --- cut: asked once more


def test_a_second_reply_that_is_whole_is_the_answer_with_what_both_took() -> None:
    first = cut(usage=usage(3, 16), latency=1.0, attempts=2, request_id="r-1")
    second = whole(usage=usage(3, 20), latency=2.0, attempts=3, request_id="r-2", native={"a": 1})
    asked = text_request(max_tokens=16, seed=1)
    answer, sent = ask(RETRY, asked, first, second)
    assert answer == replace(second, usage=usage(6, 36), latency=3.0, attempts=5)
    assert sent == [asked, text_request(max_tokens=32, seed=1)]
    assert asked.params == {"max_tokens": 16, "seed": 1}


@pytest.mark.parametrize(
    ("given_params", "sent_params"),
    [
        ({"max_tokens": 8}, {"max_tokens": 16}),
        ({"max_completion_tokens": 8}, {"max_completion_tokens": 16}),
        ({"maxOutputTokens": 8}, {"maxOutputTokens": 16}),
        ({"max_output_tokens": 8}, {"max_output_tokens": 16}),
        ({"max_tokens": 8, "max_completion_tokens": 10}, {"max_tokens": 16, "max_completion_tokens": 20}),
        (
            {"generationConfig": {"maxOutputTokens": 8, "topK": 1}},
            {"generationConfig": {"maxOutputTokens": 16, "topK": 1}},
        ),
        ({"generation_config": {"max_output_tokens": 8}}, {"generation_config": {"max_output_tokens": 16}}),
        ({"max_tokens": None, "max_completion_tokens": 8}, {"max_tokens": None, "max_completion_tokens": 16}),
        # no limit of the caller's: the reply's length tells what the provider's or the server's was
        ({}, {"max_tokens": 10}),
        ({"max_tokens": None}, {"max_tokens": 10}),
        ({"max_tokens": -1}, {"max_tokens": 10}),
        ({"max_tokens": "8"}, {"max_tokens": 10}),
        ({"max_tokens": True}, {"max_tokens": 10}),
        ({"generationConfig": {"topK": 1}}, {"generationConfig": {"topK": 1}, "max_tokens": 10}),
        ({"generationConfig": "odd"}, {"generationConfig": "odd", "max_tokens": 10}),
    ],
)
def test_the_second_request_has_twice_the_tokens_by_the_callers_own_word(
    given_params: dict[str, Any], sent_params: dict[str, Any]
) -> None:
    _, sent = ask(RETRY, text_request(**given_params), cut(usage=usage(1, 5)), whole())
    assert [one.params for one in sent] == [given_params, sent_params]
    assert sent[1].messages is sent[0].messages


@given(limit=st.integers(1, 10**12), came=st.integers(0, 10**12))
def test_a_limit_is_doubled_however_many_tokens_came(limit: int, came: int) -> None:
    _, sent = ask(RETRY, text_request(max_tokens=limit), cut(usage=usage(1, came)), whole())
    assert sent[1].params == {"max_tokens": 2 * limit}


@pytest.mark.parametrize(
    "answer",
    [
        cut(),
        cut(usage=usage(1, 0)),
        cut(usage=Usage()),
        cut(usage=Usage(completion_tokens=None)),
        cut(usage=usage(1, 5), native_finish_reason="model_context_window_exceeded"),
        cut(usage=usage(1, 5), native_finish_reason="model_length"),
    ],
)
def test_nothing_is_asked_again_where_more_tokens_cannot_be_said_or_do_not_help(answer: ChatCompletionResult) -> None:
    below = FakeBackend(answer)
    assert StructuredBackend(below, policy=RETRY).complete(text_request()) is answer
    assert len(below.requests) == 1


def test_a_second_reply_that_is_cut_too_is_kept_and_says_so() -> None:
    second = cut("once upon a", usage=usage(3, 32), attempts=1)
    answer, sent = ask(RETRY, text_request(max_tokens=16), cut(usage=usage(3, 16)), second, whole())
    assert answer == replace(second, usage=usage(6, 48), attempts=2)
    assert len(sent) == 2


@pytest.mark.parametrize(
    "second",
    [
        cut("", reasoning_content="still thinking", usage=usage(3, 32)),
        whole("I", finish_reason="content_filter", usage=usage(3, 32)),
        whole("once", finish_reason="error", usage=usage(3, 32)),
        whole(" \n", usage=usage(3, 32)),
    ],
)
def test_a_second_reply_that_comes_to_less_leaves_the_first_with_what_both_took(second: ChatCompletionResult) -> None:
    first = cut(usage=usage(3, 16), latency=1.0, request_id="r-1")
    answer, _ = ask(RETRY, text_request(max_tokens=16), first, replace(second, latency=2.0))
    assert answer == replace(first, usage=usage(6, 48), latency=3.0, attempts=2)


def test_a_reply_that_was_all_thinking_gives_way_to_one_that_is_not_less() -> None:
    first, second = cut("", reasoning_content="hm", usage=usage(1, 5)), cut("", reasoning_content="hm, hm")
    answer, _ = ask(RETRY, text_request(), first, second)
    assert isinstance(answer, ChatCompletionResult)
    assert answer.reasoning_content == "hm, hm"
    answer, _ = ask(RETRY, text_request(), first, cut("well"))
    assert isinstance(answer, ChatCompletionResult)
    assert answer.content == "well"


def test_cut_tool_calls_are_asked_for_again() -> None:
    done = whole("", tool_calls=[replace(CALL, function={"name": "f", "arguments": "{}"})], finish_reason="tool_calls")
    answer, sent = ask(RETRY, text_request(), cut("", tool_calls=[CALL], usage=usage(1, 5)), done)
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.tool_calls, len(sent)) == (done.tool_calls, 2)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (BadRequest("max_tokens is too large", status=400, attempts=1), 3),
        (ServerError("oh", status=500, attempts=4), 6),
        (RequestTimeout("too slow", attempts=2), 4),
        (AllEndpointsFailed("all", errors=[ServerError("oh", status=500)], attempts=5), 7),
        (InputError("that cannot be said"), 2),
    ],
)
def test_a_second_request_that_fails_leaves_the_first_reply(error: FlexLLMError, attempts: int) -> None:
    first = cut(usage=usage(3, 16), latency=1.0, attempts=2)
    answer, sent = ask(RETRY, text_request(), first, error)
    assert answer == replace(first, attempts=attempts)
    assert len(sent) == 2


def test_a_stop_before_the_second_request_is_over_leaves_the_first_reply_which_is_paid_for() -> None:
    first = cut(HALF, usage=usage(3, 9), cost=0.25)
    assert ask(RETRY, text_request(), first, RequestCancelled("stopped", attempts=0))[0] == first
    answer, _ = ask(
        ReplyPolicy(on_invalid="retry"), json_request(max_tokens=9), first, RequestCancelled("stopped", attempts=0)
    )
    assert isinstance(answer, SchemaMismatch)
    assert (answer.cost, answer.attempts, answer.usage) == (0.25, 1, usage(3, 9))


def test_a_budget_that_forbids_the_second_request_leaves_the_first_reply() -> None:
    first = cut(usage=usage(3, 16), cost=0.25)
    assert ask(RETRY, text_request(), first, BudgetExceededError("enough"))[0] == first
    answer, _ = ask(ReplyPolicy(on_invalid="retry"), json_request(max_tokens=9), first, BudgetExceededError("enough"))
    assert isinstance(answer, SchemaMismatch)
    assert answer.cost == 0.25


def test_both_requests_are_paid_for() -> None:
    answer, _ = ask(RETRY, text_request(), cut(usage=usage(3, 16), cost=0.25), whole(cost=0.5, cost_estimated=0.1))
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.cost, answer.cost_estimated) == (0.75, 0.1)


def test_what_a_failed_second_request_was_billed_is_part_of_the_first() -> None:
    error = RequestTimeout("late")
    error.cost = 0.5
    answer, _ = ask(RETRY, text_request(), cut(usage=usage(3, 16), cost=0.25), error)
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.cost, answer.cost_estimated) == (0.75, 0.5)


def test_a_reply_from_the_cache_is_treated_the_same_and_was_paid_for() -> None:
    first = cut(usage=usage(3, 16), cached=True)
    answer, _ = ask(RETRY, text_request(), first, whole(usage=usage(3, 20)))
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.usage, answer.cached) == (usage(3, 20), False)


def test_both_requests_can_be_cancelled() -> None:
    seen = []

    class Keeping(FakeBackend):
        def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
            seen.append(cancel)
            return super().complete(request, cancel)

    token = CancelToken()
    StructuredBackend(Keeping(cut(usage=usage(1, 5)), whole()), policy=RETRY).complete(text_request(), token)
    policy = ReplyPolicy(on_invalid="retry")
    StructuredBackend(Keeping(BAD, GOOD), policy=policy).complete(json_request(), token)
    assert seen == [token] * 4


def test_a_second_request_is_logged_by_the_first_ones_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flexllm")
    ask(RETRY, text_request(), cut(usage=usage(1, 5), request_id="r-1"), BadRequest("too many", status=400))
    assert caplog.messages == [
        "request r-1 was cut at the token limit; it is sent again with more tokens",
        "request r-1 keeps its cut answer: with more tokens came too many",
    ]


# --- cut, where JSON was asked for


@pytest.mark.parametrize("on_invalid", ["keep", "error", "retry"])
def test_a_cut_reply_as_an_error_comes_before_its_form(on_invalid: Any) -> None:
    policy = ReplyPolicy(on_truncated="error", on_invalid=on_invalid)
    for repair in (False, True):
        error, sent = ask(policy, json_request(repair), cut(HALF))
        assert (type(error), len(sent)) == (ReplyTruncated, 1)


def test_a_reply_that_fits_though_it_was_cut_is_still_a_cut_one() -> None:
    assert isinstance(ask(ERROR, json_request(), cut(GOOD))[0], ReplyTruncated)
    assert len(ask(RETRY, json_request(max_tokens=4), cut(GOOD), whole(GOOD))[1]) == 2


def test_a_reply_that_more_tokens_made_whole_is_parsed() -> None:
    answer, sent = ask(RETRY, json_request(max_tokens=4), cut(HALF), whole(GOOD))
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.parsed, answer.attempts) == ({"n": 1}, 2)
    assert sent[1].params == {**sent[0].params, "max_tokens": 8}


@pytest.mark.parametrize("second", [cut(HALF), whole(BAD), ServerError("oh", status=500)])
@pytest.mark.parametrize("on_invalid", ["error", "retry"])
def test_one_retry_is_all_whether_cut_or_invalid(second: Answer, on_invalid: Any) -> None:
    policy = ReplyPolicy(on_truncated="retry", on_invalid=on_invalid)
    error, sent = ask(policy, json_request(max_tokens=4), cut(HALF, usage=usage(1, 4)), second, whole(GOOD))
    assert isinstance(error, SchemaMismatch)
    assert str(error).endswith("(after one retry)")
    assert (error.attempts, len(sent)) == (2, 2)


def test_a_cut_reply_that_cannot_be_longer_is_kept_where_both_are_to_be_kept() -> None:
    policy = ReplyPolicy(on_truncated="retry", on_invalid="keep")
    second = cut(HALF)
    answer, _ = ask(policy, json_request(max_tokens=4), cut("{"), second)
    assert answer == replace(second, attempts=2)


def test_a_reply_that_is_whole_now_may_still_be_repaired() -> None:
    answer, sent = ask(RETRY, json_request(repair=True, max_tokens=4), cut(HALF), whole(BAD), whole(GOOD))
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.parsed, answer.attempts, len(sent)) == ({"n": 1}, 3, 3)
    assert sent[2].messages[1]["content"] == BAD


def test_a_repaired_reply_that_is_cut_is_an_error_of_that_kind() -> None:
    second = cut(HALF, usage=usage(2, 8), request_id="r-2")
    error, _ = ask(ERROR, json_request(repair=True), whole(BAD, usage=usage(1, 4)), second)
    assert isinstance(error, ReplyTruncated)
    assert "after 8 tokens" in str(error)
    assert (error.content, error.usage, error.attempts, error.request_id) == (HALF, usage(3, 12), 2, "r-2")
    assert isinstance(error.__cause__, SchemaMismatch)


# --- invalid


def test_an_invalid_reply_is_kept_without_a_value() -> None:
    answer = whole(BAD, usage=usage(1, 2))
    policy = ReplyPolicy(on_invalid="keep")
    assert ask(policy, json_request(), answer) == (answer, [json_request()])
    assert ask(policy, json_request(), cut(HALF))[0] == cut(HALF)


def test_the_same_is_asked_again_for_an_invalid_reply() -> None:
    first = whole(BAD, usage=usage(1, 2), latency=1.0, request_id="r-1")
    second = whole(GOOD, usage=usage(1, 3), latency=0.5, request_id="r-2")
    asked = json_request(max_tokens=9)
    answer, sent = ask(ReplyPolicy(on_invalid="retry"), asked, first, second)
    assert answer == replace(second, parsed={"n": 1}, usage=usage(2, 5), latency=1.5, attempts=2)
    assert sent == [asked, asked]


def test_an_invalid_reply_that_was_cut_is_asked_for_with_more_tokens() -> None:
    answer, sent = ask(ReplyPolicy(on_invalid="retry"), json_request(max_tokens=9), cut(HALF), whole(GOOD))
    assert isinstance(answer, ChatCompletionResult)
    assert (answer.parsed, sent[1].params["max_tokens"]) == ({"n": 1}, 18)


def test_an_invalid_reply_that_cannot_be_longer_is_not_asked_for_again() -> None:
    error, sent = ask(ReplyPolicy(on_invalid="retry"), json_request(), cut(HALF))
    assert isinstance(error, SchemaMismatch)
    assert len(sent) == 1


def test_a_second_reply_that_is_invalid_is_the_error() -> None:
    first, second = whole(BAD, usage=usage(1, 2)), whole("no {", usage=usage(1, 3), request_id="r-2")
    error, sent = ask(ReplyPolicy(on_invalid="retry"), json_request(), first, second, GOOD)
    assert isinstance(error, SchemaMismatch)
    assert str(error).startswith("the reply is not JSON: ")
    assert str(error).endswith("(after one retry)")
    assert (error.content, error.usage, error.attempts, error.request_id) == ("no {", usage(2, 5), 2, "r-2")
    assert isinstance(error.__cause__, SchemaMismatch)
    assert error.__cause__.content == BAD
    assert len(sent) == 2


def test_a_retry_that_fails_leaves_the_mismatch() -> None:
    failed = ServerError("oh", status=500, attempts=4)
    error, _ = ask(ReplyPolicy(on_invalid="retry"), json_request(), whole(BAD, usage=usage(1, 2)), failed)
    assert isinstance(error, SchemaMismatch)
    assert (error.content, error.usage, error.attempts) == (BAD, usage(1, 2), 5)
    assert error.__cause__ is failed


def test_with_repair_the_round_of_repair_is_the_retry() -> None:
    error, sent = ask(ReplyPolicy(on_invalid="retry"), json_request(repair=True), BAD, BAD, GOOD)
    assert isinstance(error, SchemaMismatch)
    assert str(error).endswith("(after one round of repair)")
    assert [len(one.messages) for one in sent] == [1, 3]


def test_a_repaired_reply_that_is_still_invalid_is_kept_where_that_is_said() -> None:
    second = whole("no {", usage=usage(1, 3))
    answer, _ = ask(ReplyPolicy(on_invalid="keep"), json_request(repair=True), whole(BAD, usage=usage(1, 2)), second)
    assert answer == replace(second, usage=usage(2, 5), attempts=2)


# --- what the providers make of it


@pytest.mark.parametrize(
    ("provider", "params", "limit"),
    [
        ("openai", {"max_tokens": 8}, ("max_tokens", 16)),
        ("openai", {}, ("max_tokens", 10)),
        ("claude", {"max_completion_tokens": 8}, ("max_tokens", 16)),
        ("claude", {}, ("max_tokens", 10)),
        ("gemini", {"max_tokens": 8}, ("maxOutputTokens", 16)),
        ("gemini", {"max_tokens": 8, "generationConfig": {"maxOutputTokens": 4}}, ("maxOutputTokens", 8)),
        ("gemini", {"max_output_tokens": 8}, ("maxOutputTokens", 16)),
        ("gemini", {"generation_config": {"topK": 1}}, ("maxOutputTokens", 10)),
    ],
)
def test_every_provider_is_told_the_larger_limit(provider: str, params: dict[str, Any], limit: tuple[str, int]) -> None:
    _, sent = ask(RETRY, text_request(**params), cut(usage=usage(1, 5)), whole())
    asked, base_url = find_provider(provider, PLACE, "m")
    body = asked.build(sent[1], Target(base_url=base_url, api_key="k"), stream=False).body
    assert body is not None
    said = json.loads(body)
    name, tokens = limit
    assert said.get("generationConfig", said)[name] == tokens


# --- streams


@pytest.mark.parametrize("policy", [KEEP, RETRY])
def test_a_cut_stream_is_kept_where_a_retry_is_wanted_too(policy: ReplyPolicy) -> None:
    answer = cut(usage=usage(1, 5))
    assert streamed(policy, text_request(), answer) == ([Chunk(content="once upon"), answer], None, 1)


@pytest.mark.parametrize("asked", [text_request(), json_request()])
def test_a_cut_stream_as_an_error_ends_in_it_behind_its_text(asked: ChatRequest) -> None:
    pieces, error, _ = streamed(ERROR, asked, cut(usage=usage(1, 5), request_id="r-1", attempts=2))
    assert pieces == [Chunk(content="once upon")]
    assert isinstance(error, ReplyTruncated)
    assert (error.content, error.usage, error.endpoint, error.model) == ("once upon", usage(1, 5), PLACE, "m")
    assert (error.request_id, error.attempts) == ("r-1", 2)


def test_a_whole_stream_passes_where_a_cut_one_is_an_error() -> None:
    assert streamed(ERROR, text_request(), whole("so")) == ([Chunk(content="so"), whole("so")], None, 1)


def test_an_invalid_stream_is_kept_where_that_is_said() -> None:
    policy = ReplyPolicy(on_invalid="keep")
    assert streamed(policy, json_request(), whole(BAD)) == ([Chunk(content=BAD), whole(BAD)], None, 1)


@pytest.mark.parametrize("on_invalid", ["error", "retry"])
def test_an_invalid_stream_is_an_error_and_never_asked_again(on_invalid: Any) -> None:
    pieces, error, sent = streamed(ReplyPolicy(on_invalid=on_invalid), json_request(), whole(BAD))
    assert (pieces, type(error), sent) == ([Chunk(content=BAD)], SchemaMismatch, 1)


@pytest.mark.parametrize("policy", [KEEP, RETRY])
def test_a_cut_stream_of_json_that_is_kept_is_still_checked(policy: ReplyPolicy) -> None:
    pieces, error, _ = streamed(policy, json_request(), cut(HALF))
    assert pieces == [Chunk(content=HALF)]
    assert str(error).startswith("the answer was cut at the token limit; raise max_tokens (the reply is not JSON: ")
    assert streamed(policy, json_request(), cut(GOOD))[0][-1] == replace(cut(GOOD), parsed={"n": 1})


# --- all together


REPLIES = [
    cut(HALF),
    cut("", reasoning_content="hm"),
    whole(BAD),
    whole(GOOD),
    cut(GOOD),
    ServerError("oh", status=500),
]


@given(
    policy=st.builds(
        ReplyPolicy,
        on_truncated=st.sampled_from(["keep", "error", "retry"]),
        on_invalid=st.sampled_from(["keep", "error", "retry"]),
    ),
    repair=st.booleans(),
    is_json=st.booleans(),
    replies=st.lists(st.sampled_from(REPLIES), min_size=4, max_size=4),
)
def test_whatever_comes_every_request_is_counted_and_there_are_few(
    policy: ReplyPolicy, repair: bool, is_json: bool, replies: list[Any]
) -> None:
    counted = [replace(one, usage=usage(1, 1)) if isinstance(one, ChatCompletionResult) else one for one in replies]
    asked = json_request(repair, max_tokens=4) if is_json else text_request(max_tokens=4)
    outcome, sent = ask(policy, asked, *counted)
    assert len(sent) <= 2 + repair
    if isinstance(outcome, (ChatCompletionResult, RejectedReply)):
        answered = sum(isinstance(one, ChatCompletionResult) for one in counted[: len(sent)])
        assert outcome.attempts == len(sent)
        assert outcome.usage == usage(answered, answered)
    else:
        assert outcome in replies[: len(sent)]
    if isinstance(outcome, ChatCompletionResult) and outcome.finish_reason == "length":
        assert policy.on_truncated != "error"
    if isinstance(outcome, ChatCompletionResult) and is_json and policy.on_invalid != "keep":
        assert outcome.parsed == {"n": 1}


def test_health_is_that_of_what_is_below() -> None:
    class Healthy(FakeBackend):
        def health(self) -> tuple[EndpointHealth, ...]:
            return (EndpointHealth(place=PLACE),)

    assert StructuredBackend(Healthy()).health() == (EndpointHealth(place=PLACE),)
