"""Replies that become values on their way up, and the one round in which the model may correct itself."""

from __future__ import annotations

import gc
import json
import pickle
import weakref
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from fakes import FakeBackend
from foreign import LETTER, speak_chinese

from flexllm.backends.structured import StructuredBackend
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk, ToolCall, Usage
from flexllm.errors import ConfigError, RateLimited, RequestCancelled, RequestError, RequestTimeout, SchemaMismatch
from flexllm.replies import ReplyPolicy
from flexllm.schema import ResponseFormat, as_response_format

PLACE = "http://127.0.0.1:8000/v1"


@dataclass
class Answer:
    n: int


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GOOD, BAD = '{"n": 1}', '{"n": "one"}'


def request(response_format: Any = Answer, repair: bool = False, **params: Any) -> ChatRequest:
    made = as_response_format(response_format, repair)
    return ChatRequest([{"role": "user", "content": "how many?"}], "m", {"response_format": made, **params})


def plain_request(response_format: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": "how many?"}], "m", {"response_format": response_format})


def result(content: str, **fields: Any) -> ChatCompletionResult:
    return ChatCompletionResult(content, finish_reason=fields.pop("finish_reason", "stop"), **fields)


def usage(prompt: int, completion: int, **more: Any) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **more)


def refused(backend: StructuredBackend, asked: ChatRequest) -> SchemaMismatch:
    with pytest.raises(SchemaMismatch) as caught:
        backend.complete(asked)
    return caught.value


# --- what passes


@pytest.mark.parametrize("params", [{}, {"response_format": None}, {"temperature": 0}])
def test_a_request_for_text_passes_untouched(params: dict[str, Any]) -> None:
    answer = result(BAD)
    asked = ChatRequest([{"role": "user", "content": "hi"}], "m", params)
    below = FakeBackend(answer)
    assert StructuredBackend(below).complete(asked) is answer
    assert list(StructuredBackend(below).stream(asked)) == [Chunk(content=BAD), answer]
    assert below.requests == [asked, asked]


@pytest.mark.parametrize("response_format", [{"type": "text"}, {"type": "structural_tag"}, "json", ["json_object"], {}])
def test_a_format_that_is_not_json_is_left_to_the_server(response_format: Any) -> None:
    answer = result("not json")
    asked = plain_request(response_format)
    assert StructuredBackend(FakeBackend(answer)).complete(asked) is answer
    assert list(StructuredBackend(FakeBackend(answer)).stream(asked))[-1] is answer


def test_tool_calls_and_filtered_answers_have_no_value() -> None:
    calls = [ToolCall("1", "function", {"name": "f", "arguments": "{}"})]
    for answer in (
        result("", tool_calls=calls, finish_reason="tool_calls"),
        result("{", finish_reason="content_filter"),
    ):
        below = FakeBackend(answer)
        assert StructuredBackend(below).complete(request(repair=True)) is answer
        assert len(below.requests) == 1
        assert list(StructuredBackend(FakeBackend(answer)).stream(request()))[-1] is answer


# --- what becomes a value


@pytest.mark.parametrize(
    ("response_format", "value"),
    [(Answer, Answer(1)), (SCHEMA, {"n": 1}), ({"type": "json_object"}, {"n": 1})],
)
def test_a_reply_is_parsed(response_format: Any, value: Any) -> None:
    answer = result(GOOD, usage=usage(3, 4), request_id="r", reasoning_content="hm")
    asked = request(response_format)
    assert StructuredBackend(FakeBackend(answer)).complete(asked) == replace(answer, parsed=value)
    assert list(StructuredBackend(FakeBackend(answer)).stream(asked)) == [
        Chunk(content=GOOD),
        replace(answer, parsed=value),
    ]


def test_a_plain_dict_from_a_file_is_enforced() -> None:
    asked = plain_request({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}})
    assert StructuredBackend(FakeBackend(GOOD)).complete(asked).parsed == {"n": 1}
    assert "at $.n" in str(refused(StructuredBackend(FakeBackend(BAD)), asked))


def test_a_useless_schema_is_refused_before_anything_is_sent() -> None:
    below = FakeBackend(GOOD)
    asked = plain_request({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}})
    with pytest.raises(ConfigError):
        StructuredBackend(below).complete(asked)
    with pytest.raises(ConfigError):
        StructuredBackend(below).stream(asked)
    assert below.requests == []


def test_what_is_sent_is_the_plain_form_without_repair() -> None:
    below = FakeBackend(GOOD)
    StructuredBackend(below).complete(request(repair=True, temperature=0.5))
    sent = json.loads(json.dumps(below.requests[0].params))
    assert sent == {"response_format": as_response_format(Answer), "temperature": 0.5}
    assert "repair" not in json.dumps(sent)


def test_the_token_reaches_the_backend_below() -> None:
    class Keeping(FakeBackend):
        seen: list[Any] = []  # noqa: RUF012

        def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
            self.seen.append(cancel)
            return super().complete(request, cancel)

    token = CancelToken()
    StructuredBackend(Keeping(BAD, GOOD)).complete(request(repair=True), token)
    list(StructuredBackend(Keeping(GOOD)).stream(request(), token))
    assert Keeping.seen == [token] * 3


def test_closing_closes_what_is_below() -> None:
    below = FakeBackend()
    StructuredBackend(below).close()
    assert below.closed


# --- what does not fit


def test_a_mismatch_carries_what_is_known_of_the_request() -> None:
    below = FakeBackend(result(BAD, usage=usage(3, 4), attempts=2, request_id="r-1", model="m-2024"))
    error = refused(StructuredBackend(below, endpoint=PLACE), request())
    assert str(error) == 'the reply does not match the schema at $.n: a whole number is expected, not "one"'
    assert (error.content, error.usage) == (BAD, usage(3, 4))
    assert (error.endpoint, error.model, error.attempts, error.request_id) == (PLACE, "m", 2, "r-1")
    assert len(below.requests) == 1
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_an_answer_that_broke_off_says_why() -> None:
    broken = ChatCompletionResult("", finish_reason="error", native_finish_reason="MALFORMED_FUNCTION_CALL")
    error = refused(StructuredBackend(FakeBackend(broken)), request())
    assert str(error) == "the answer broke off: MALFORMED_FUNCTION_CALL (the reply is empty, where JSON was asked for)"


@pytest.mark.parametrize("repair", [False, True])
def test_an_answer_cut_at_the_token_limit_says_so_and_is_not_repaired(repair: bool) -> None:
    below = FakeBackend(result('{"n": 1', finish_reason="length"))
    error = refused(StructuredBackend(below), request(repair=repair))
    assert str(error).startswith("the answer was cut at the token limit; raise max_tokens (the reply is not JSON: ")
    assert len(below.requests) == 1


def test_an_answer_that_ends_just_at_the_limit_is_an_answer() -> None:
    answer = result(GOOD, finish_reason="length")
    assert StructuredBackend(FakeBackend(answer)).complete(request()).parsed == Answer(1)


def test_an_error_from_below_passes() -> None:
    with pytest.raises(RateLimited):
        StructuredBackend(FakeBackend(RateLimited("slow down", status=429))).complete(request(repair=True))


# --- the repair round


def test_repair_shows_the_model_its_reply_and_what_is_wrong_with_it() -> None:
    native = {"signature": "s"}
    below = FakeBackend(result(BAD, native=native), GOOD)
    asked = request(repair=True, temperature=0)
    assert StructuredBackend(below).complete(asked).parsed == Answer(1)
    first, second = below.requests
    assert first is asked
    assert (second.model, second.params) == (asked.model, asked.params)
    assert list(second.messages[:-1]) == [
        {"role": "user", "content": "how many?"},
        {"role": "assistant", "content": BAD, "native": native},
    ]
    assert second.messages[-1] == {
        "role": "user",
        "content": "That cannot be used: the reply does not match the schema at $.n: a whole number is expected, not "
        '"one". Reply with the corrected JSON alone, without any other text.',
    }
    assert list(asked.messages) == [{"role": "user", "content": "how many?"}]


@dataclass
class Person:
    name: str
    children: list[Person] | None
    age: Literal[1, 2] | bool


@pytest.mark.parametrize(
    ("response_format", "reply", "problem"),
    [
        (SCHEMA, BAD, "the reply does not match the schema at $.n: a whole number is expected, not \"one\""),
        (SCHEMA, "{}", 'the reply does not match the schema at $: the property "n" is missing'),
        (Answer, '{"a": 1, "b": 2}', 'the reply does not match the schema at $: the properties "a", "b" are not known'),
        (Answer, "Well", 'the reply is not JSON: Expecting value at line 1, column 1, near "Well"'),
        (Answer, '{"n": NaN}', "the reply is not JSON: NaN is no number of JSON's"),
        (Answer, " ", "the reply is empty, where JSON was asked for"),
        (
            Person,
            '{"name": "x", "children": 3, "age": 1}',
            "the reply does not match the schema at $.children: a list or null is expected, not 3",
        ),
        (
            Person,
            '{"name": "x", "children": null, "age": "old"}',
            'the reply does not match the schema at $.age: one of 1, 2 or true or false is expected, not "old"',
        ),
        (
            {"anyOf": [{"type": "string"}, {"not": {}}]},
            "3",
            "the reply does not match the schema at $: 3 does not fit any of the forms that the schema has",
        ),
        (
            {"type": "object", "minProperties": 1},
            "{}",
            "the reply does not match the schema at $: {} does not satisfy minProperties: 1",
        ),
    ],
)  # fmt: skip
def test_a_model_is_told_in_english_what_people_are_told_in_their_language(
    response_format: Any, reply: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"That cannot be used: {problem}. Reply with the corrected JSON alone, without any other text."
    asked = request(response_format, repair=True)
    in_english = FakeBackend(reply, reply)
    assert str(refused(StructuredBackend(in_english), asked)) == f"{problem} (after one round of repair)"
    speak_chinese(monkeypatch)
    in_chinese = FakeBackend(reply, reply)
    error = refused(StructuredBackend(in_chinese), asked)
    assert in_english.requests[1].messages[-1]["content"] == told
    assert in_chinese.requests[1].messages[-1]["content"] == told
    assert LETTER in str(error)
    assert "the reply" not in str(error)
    assert "expected" not in str(error)


def test_a_model_whose_answer_broke_off_is_told_so() -> None:
    below = FakeBackend(result("{", finish_reason="error", native_finish_reason="MALFORMED"), GOOD)
    StructuredBackend(below).complete(request(repair=True))
    told = below.requests[1].messages[-1]["content"]
    assert told.startswith("That cannot be used: the answer broke off: MALFORMED (the reply is not JSON: ")


def test_a_check_that_changes_its_mind_is_repaired_all_the_same() -> None:
    answers = iter([False, True, True])

    @dataclass
    class Moody:
        n: int

        def __post_init__(self) -> None:
            if not next(answers):
                raise ValueError("not today")

    below = FakeBackend(GOOD, GOOD)
    assert StructuredBackend(below).complete(request(Moody, repair=True)).parsed.n == 1
    assert "does not match the schema. Reply" in below.requests[1].messages[-1]["content"]


def test_repair_adds_up_what_both_requests_took() -> None:
    first = usage(10, 5, prompt_tokens_details={"cached_tokens": 8, "audio": None}, cost=0.25, tier="a", flag=True)
    second = usage(20, 7, prompt_tokens_details={"cached_tokens": 9, "text": 1}, cost=0.5, tier="b", flag=True)
    below = FakeBackend(
        result(BAD, usage=first, latency=1.0, attempts=2, request_id="r-1", model="a"),
        result(GOOD, usage=second, latency=0.5, attempts=3, request_id="r-2", model="b"),
    )
    answer = StructuredBackend(below).complete(request(repair=True))
    assert type(answer.usage) is Usage
    assert answer.usage == usage(
        30,
        12,
        prompt_tokens_details={"cached_tokens": 17, "audio": None, "text": 1},
        cost=0.75,
        tier="b",
        flag=True,
    )
    assert (answer.latency, answer.attempts, answer.request_id, answer.model) == (1.5, 5, "r-2", "b")
    assert (first["prompt_tokens"], second["prompt_tokens"]) == (10, 20), "the results below keep their own"


@pytest.mark.parametrize("kind", [RequestTimeout, RequestCancelled])
@pytest.mark.parametrize("policy", ["repair", "retry"])
def test_a_second_request_that_ends_in_an_error_leaves_the_first_paid_for(
    policy: str, kind: type[RequestError]
) -> None:
    error = kind("no answer")
    error.cost = 0.5
    below = FakeBackend(result(BAD, cost=0.25, attempts=2), error)
    replies = ReplyPolicy(on_invalid="retry" if policy == "retry" else "error")
    with pytest.raises(RequestError) as caught:
        StructuredBackend(below, policy=replies).complete(request(repair=policy == "repair"))
    assert (caught.value.cost, caught.value.attempts) == (0.75, 3)


def test_a_rejected_reply_names_the_endpoint_of_a_pool_that_gave_it() -> None:
    error = refused(StructuredBackend(FakeBackend(result(BAD, endpoint="http://two"))), request())
    assert error.endpoint == "http://two"


@pytest.mark.parametrize(
    ("first", "second", "sum_of_both"),
    [(None, None, None), (usage(1, 2), None, usage(1, 2)), (None, usage(3, 4), usage(3, 4))],
)
def test_repair_counts_what_is_known(first: Usage | None, second: Usage | None, sum_of_both: Usage | None) -> None:
    answer = StructuredBackend(FakeBackend(result(BAD, usage=first), result(GOOD, usage=second))).complete(
        request(repair=True)
    )
    assert (answer.usage, answer.latency, answer.attempts) == (sum_of_both, None, 2)


@pytest.mark.parametrize(
    ("cached", "counted", "is_cached"),
    [
        ((True, False), usage(3, 4), False),
        ((False, True), usage(1, 2), False),
        ((True, True), usage(3, 4), True),
        ((False, False), usage(4, 6), False),
    ],
)
def test_repair_counts_a_reply_from_the_cache_as_paid(
    cached: tuple[bool, bool], counted: Usage, is_cached: bool
) -> None:
    below = FakeBackend(
        result(BAD, usage=usage(1, 2), cached=cached[0]), result(GOOD, usage=usage(3, 4), cached=cached[1])
    )
    answer = StructuredBackend(below).complete(request(repair=True))
    assert (answer.usage, answer.cached) == (counted, is_cached)


def test_a_second_reply_that_does_not_fit_is_the_error() -> None:
    below = FakeBackend(
        result(BAD, usage=usage(1, 2), request_id="r-1"), result("still {", usage=usage(3, 4), request_id="r-2"), GOOD
    )
    error = refused(StructuredBackend(below, endpoint=PLACE), request(repair=True))
    assert str(error).startswith("the reply is not JSON: ")
    assert str(error).endswith("(after one round of repair)")
    assert (error.content, error.usage) == ("still {", usage(4, 6))
    assert (error.endpoint, error.model, error.attempts, error.request_id) == (PLACE, "m", 2, "r-2")
    assert isinstance(error.__cause__, SchemaMismatch)
    assert error.__cause__.content == BAD
    assert len(below.requests) == 2


def test_a_second_reply_that_is_cut_says_so() -> None:
    below = FakeBackend(BAD, result("{", finish_reason="length"))
    assert "raise max_tokens" in str(refused(StructuredBackend(below), request(repair=True)))


def test_a_second_reply_that_was_filtered_is_returned_with_what_both_took() -> None:
    below = FakeBackend(result(BAD, usage=usage(1, 2)), result("", usage=usage(3, 4), finish_reason="content_filter"))
    answer = StructuredBackend(below).complete(request(repair=True))
    assert (answer.parsed, answer.finish_reason, answer.usage) == (None, "content_filter", usage(4, 6))


def test_an_error_of_the_second_request_is_raised_as_it_is() -> None:
    error = RateLimited("slow down", status=429)
    with pytest.raises(RateLimited) as caught:
        StructuredBackend(FakeBackend(BAD, error)).complete(request(repair=True))
    assert caught.value is error


def test_a_stop_before_the_repair_leaves_the_mismatch_of_the_reply_that_is_paid_for() -> None:
    below = FakeBackend(result(BAD, usage=usage(1, 2), cost=0.25), RequestCancelled("stopped", attempts=0))
    error = refused(StructuredBackend(below), request(repair=True))
    assert (error.content, error.cost, error.attempts, error.usage) == (BAD, 0.25, 1, usage(1, 2))


def test_repair_works_for_json_mode_and_dict_schemas() -> None:
    for response_format, bad in (({"type": "json_object"}, "Sure!"), (SCHEMA, BAD)):
        below = FakeBackend(bad, GOOD)
        assert StructuredBackend(below).complete(request(response_format, repair=True)).parsed == {"n": 1}


# --- streams


def test_a_streams_text_arrives_before_its_mismatch() -> None:
    below = FakeBackend(result(BAD, usage=usage(3, 4), request_id="r-1", attempts=2))
    pieces = StructuredBackend(below, endpoint=PLACE).stream(request())
    assert next(pieces) == Chunk(content=BAD)
    with pytest.raises(SchemaMismatch) as caught:
        next(pieces)
    error = caught.value
    assert (error.content, error.usage, error.endpoint, error.model) == (BAD, usage(3, 4), PLACE, "m")
    assert (error.request_id, error.attempts) == ("r-1", 2)


def test_a_stream_cannot_be_repaired_and_says_so_at_once() -> None:
    below = FakeBackend(GOOD)
    with pytest.raises(ConfigError, match="repair=True cannot be used with a stream"):
        StructuredBackend(below).stream(request(repair=True))
    assert below.requests == []


def test_a_stream_that_is_left_closes_what_is_below() -> None:
    closed = []

    class Leaving(FakeBackend):
        def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Any:
            try:
                yield Chunk(content="{")
                yield result(GOOD)
            finally:
                closed.append(True)

    pieces = StructuredBackend(Leaving()).stream(request())
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_a_result_with_its_value_pickles() -> None:
    answer = StructuredBackend(FakeBackend(GOOD)).complete(request())
    assert pickle.loads(pickle.dumps(answer)) == answer
    assert isinstance(pickle.loads(pickle.dumps(request())).params["response_format"], ResponseFormat)


@pytest.mark.parametrize("on_invalid", ["keep", "retry"])
def test_a_reply_that_did_not_fit_is_free_as_soon_as_its_row_has_ended(on_invalid: Any) -> None:
    """Without rings of errors, tracebacks and frames, which only the garbage collector would find."""

    class Params(dict[str, Any]):
        """A dictionary that can be watched."""

    below = FakeBackend(result("no JSON"), result(GOOD))
    backend = StructuredBackend(below, policy=ReplyPolicy(on_invalid=on_invalid))
    params = Params(response_format={"type": "json_object"})
    forgotten = weakref.ref(params)
    gc.disable()
    try:
        answer = backend.complete(ChatRequest([{"role": "user", "content": "hi"}], "m", params))
        below.requests.clear()
        del params
        assert answer.parsed == (None if on_invalid == "keep" else {"n": 1})
        assert forgotten() is None
    finally:
        gc.enable()
