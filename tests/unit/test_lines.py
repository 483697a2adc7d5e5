"""Lines of an output file: what was answered is what is read back, whatever an answer or its metadata hold."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm import errors
from flexllm.batch.items import BatchItem, BatchResultItem, Outcome
from flexllm.batch.lines import encode_line, is_answer, make_key, read_checked, read_item, with_index, write_line
from flexllm.chat import ChatCompletionResult, ChatRequest, ToolCall, Usage

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Wie geht's?"}]
REQUEST = ChatRequest(MESSAGES, "m", {"temperature": 0})
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)


def item(outcome: Outcome, metadata: Any = None, **fields: Any) -> BatchItem:
    return BatchItem(4, REQUEST, metadata, outcome=outcome, **fields)


def line(
    outcome: Outcome, metadata: Any = None, save_input: bool | str = True, save_raw: bool = False
) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(write_line(item(outcome, metadata), save_input, save_raw))
    return row


def there_and_back(outcome: Outcome, metadata: Any = None) -> BatchResultItem:
    return read_item(line(outcome, metadata), 4)


texts = st.text(st.characters(codec=None))  # half characters included
functions = st.builds(lambda n, a: {"name": n, "arguments": a}, texts, texts)
counts = st.integers(0, 10**6)
usages = st.builds(lambda p, c: Usage(prompt_tokens=p, completion_tokens=c, total_tokens=p + c), counts, counts)
results = st.builds(
    ChatCompletionResult,
    content=texts,
    usage=st.none() | usages,
    reasoning_content=st.none() | texts,
    tool_calls=st.none()
    | st.lists(
        st.builds(ToolCall, st.text(), st.sampled_from(["function", "custom"]), functions),
        min_size=1,
        max_size=2,
    ),
    finish_reason=st.none() | st.sampled_from(["stop", "length", "tool_calls"]),
    model=st.none() | st.text(),
    request_id=st.none() | st.text(),
    latency=st.none() | st.integers(0, 10**6).map(lambda number: number / 10_000),
    cached=st.booleans(),
    attempts=st.integers(1, 4),
    hedged=st.integers(0, 1),
    native_finish_reason=st.sampled_from(["stop", "end_turn", "MAX_TOKENS"]),
    native=st.none() | st.just({"claude": [{"type": "thinking", "thinking": "", "signature": "EqQB"}]}),
).map(lambda result: result if result.tool_calls else replace(result, native=None))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(results, json_values)
def test_an_answer_is_read_back_as_it_was_written(result: ChatCompletionResult, metadata: Any) -> None:
    back = there_and_back(result, metadata)
    assert back.result == result
    assert (back.content, back.usage, back.latency) == (result.content, result.usage, result.latency)
    assert (back.index, back.metadata, back.resumed) == (4, metadata, True)
    assert back.status == ("cached" if result.cached else "success")


def test_what_a_provider_demands_back_is_kept_while_its_tools_wait_and_not_longer() -> None:
    signed = {"claude": [{"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}]}
    calls = [ToolCall("toolu_1", "function", {"name": "f", "arguments": "{}"})]
    waiting = there_and_back(ChatCompletionResult("", tool_calls=calls, native=signed)).result
    assert waiting is not None
    assert waiting.assistant_message["native"] == signed
    assert "native" not in line(ChatCompletionResult("Done.", native=signed))


def test_a_reply_that_does_not_match_its_schema_is_kept_for_it_is_paid() -> None:
    error = errors.SchemaMismatch("no JSON", content="Sorry, \ud83d", usage=USAGE)
    back = there_and_back(error).error
    assert isinstance(back, errors.SchemaMismatch)
    assert (back.content, back.usage) == ("Sorry, \ud83d", USAGE)
    assert "content" not in line(errors.SchemaMismatch("empty"))["error"]


def test_the_common_finish_reason_is_not_written_twice() -> None:
    said = ChatCompletionResult("Gut.", finish_reason="stop", native_finish_reason="stop")
    assert "native_finish_reason" not in line(said)
    assert there_and_back(said).result == said


@given(results, json_values)
def test_a_line_is_one_line_of_utf_8(result: ChatCompletionResult, metadata: Any) -> None:
    data = write_line(item(result, metadata), True, False)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    data.decode()


def test_a_line_has_the_fields_of_the_specification_first() -> None:
    row = line(ChatCompletionResult("Gut.", USAGE), {"id": "001"})
    assert list(row)[:6] == ["index", "output", "status", "input", "metadata", "usage"]
    assert row["index"] == 4
    assert row["output"] == "Gut."
    assert row["status"] == "success"
    assert row["input"] == MESSAGES
    assert row["metadata"] == {"id": "001"}
    assert row["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_text_is_written_as_people_read_it() -> None:
    assert "你好, ça va — 😀".encode() in write_line(item(ChatCompletionResult("你好, ça va — 😀")), True, False)


def test_a_call_of_a_tool_alone_is_an_answer() -> None:
    calls = [ToolCall("call_1", "function", {"name": "f", "arguments": '{"a": 1}'})]
    result = ChatCompletionResult("", tool_calls=calls, finish_reason="tool_calls", native_finish_reason="tool_calls")
    row = line(result)
    assert row["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert read_item(row, 4).result == result


def test_the_key_and_the_source_are_written_where_there_are_some() -> None:
    row = json.loads(write_line(item(ChatCompletionResult("a"), key=make_key(1, 2, 3), source=10), True, False))
    assert row["key"] == f"{1:032x}-{2:016x}-3"
    assert row["source"] == f"{10:032x}"
    assert {"key", "source"}.isdisjoint(line(ChatCompletionResult("a")))


def test_the_input_is_saved_as_asked() -> None:
    assert line(ChatCompletionResult("a"), save_input="last")["input"] == MESSAGES[-1:]
    assert "input" not in line(ChatCompletionResult("a"), save_input=False)


def test_the_reply_is_saved_when_asked() -> None:
    result = ChatCompletionResult("a", body=b'{"id": "x"}')
    assert "raw" not in line(result)
    row = line(result, save_raw=True)
    assert row["raw"] == {"id": "x"}
    back = read_item(row, 4).result
    assert back is not None
    assert back.raw == {"id": "x"}


# --- failed rows


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited("slow down", status=429, code="rate_limit", attempts=4, request_id="req_1"),
        errors.ServerError("oops", status=500),
        errors.ConnectionFailed("nobody there", attempts=2),
        errors.InputError("row 4 cannot be asked: not JSON"),
        errors.MalformedResponse("no choices"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_class_and_details(error: errors.FlexLLMError) -> None:
    back = there_and_back(error).error
    assert type(back) is type(error)
    assert str(back) == str(error)
    for name in ("status", "code", "attempts", "request_id"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_a_failed_row_has_no_output_and_tells_why() -> None:
    row = line(errors.RateLimited("slow down", status=429, attempts=4, request_id="req_1"), {"id": 7})
    assert (row["status"], row["output"], row["metadata"]) == ("error", None, {"id": 7})
    assert row["error"] == {
        "class": "RateLimited",
        "message": "slow down",
        "status_code": 429,
        "request_id": "req_1",
        "attempts": 4,
    }


def test_a_row_that_could_not_be_read_is_written_too() -> None:
    row = json.loads(write_line(BatchItem(2, outcome=errors.InputError("not JSON")), True, False))
    assert (row["index"], row["status"], "input" in row) == (2, "error", False)


@pytest.mark.parametrize("error", [None, "a text, as other tools write it", {"class": "Unheard"}, ["odd"]])
def test_an_error_of_another_tool_is_still_an_error(error: object) -> None:
    back = read_item({"index": 0, "output": None, "status": "error", "error": error}, 0)
    assert back.status == "error"
    assert isinstance(back.error, errors.RequestError)


# --- metadata that JSON does not know


class Opaque:
    def __str__(self) -> str:
        return "opaque"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def depth(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("metadata", "written"),
    [
        ({"at": datetime.date(2026, 1, 2)}, {"at": "2026-01-02"}),
        ({"thing": Opaque()}, {"thing": "opaque"}),
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_metadata_that_json_does_not_know_become_text(metadata: Any, written: Any) -> None:
    assert line(ChatCompletionResult("paid"), metadata)["metadata"] == written


@pytest.mark.parametrize(
    "metadata",
    [circle(), depth(100_000), Mute(), {"a": Mute()}, {(1, 2): "a"}, {"half \ud800": {(1, 2): "b"}}, b"\xff"],
    ids=["circle", "depth", "mute", "mute inside", "pair as key", "half and pair", "bytes"],
)
def test_an_answer_is_written_whatever_its_metadata(metadata: Any) -> None:
    row = line(ChatCompletionResult("paid"), metadata)
    assert row["output"] == "paid"
    assert row["metadata"]  # something is left of them


# --- lines as they are written again


def keyed_line(outcome: Outcome, metadata: Any = None) -> bytes:
    one = item(outcome, metadata)
    one.key, one.source = make_key(2**127, 3, 4), 5
    return write_line(one, True, False)


@given(results, st.integers(0, 10**9))
def test_a_new_index_changes_nothing_else(result: ChatCompletionResult, index: int) -> None:
    before = keyed_line(result)
    after = with_index(before, index)
    check = json.loads(after)["check"]
    assert json.loads(after) == {**json.loads(before), "index": index, "check": check}
    assert after.endswith(b"\n")
    assert read_checked(after) == read_checked(before) is not None


@given(results, st.integers(0, 10**9), st.integers(1, 255))
def test_a_changed_byte_is_noticed_before_the_line_is_decoded(
    result: ChatCompletionResult, place: int, change: int
) -> None:
    line = bytearray(keyed_line(result))
    assert read_checked(bytes(line)) is not None
    line[place % (len(line) - 1)] ^= change
    assert read_checked(bytes(line)) is None


def test_an_error_is_no_answer_by_its_check_too() -> None:
    failed = keyed_line(errors.RateLimited("slow down", status=429), {"status": "success"})
    checked = read_checked(failed)
    assert checked is not None
    assert not checked[0]
    assert not is_answer(json.loads(failed))


def test_a_line_with_its_index_elsewhere_gets_the_new_one_too() -> None:
    other = b'{"output": "a", "index": 3, "note": "\xc3\xa9"}\n'
    row = json.loads(with_index(other, 5))
    assert row.pop("check")
    assert row == {"output": "a", "index": 5, "note": "é"}


def test_a_decoded_line_is_encoded_as_it_was() -> None:
    data = write_line(item(ChatCompletionResult("half \ud83d"), {"id": 1}), True, False)
    assert json.loads(encode_line(json.loads(data))) == json.loads(data)


# --- lines of older files


def test_a_line_without_status_is_an_answer() -> None:
    back = read_item({"index": 3, "output": "a", "input": MESSAGES}, 3)
    assert (back.status, back.content, back.usage) == ("success", "a", None)


def test_a_line_of_flexllm_0_17_is_read() -> None:
    back = read_item(
        {
            "index": 1,
            "output": "a",
            "status": "success",
            "usage": {"prompt_tokens": 1, "total_tokens": 2},
            "params": {},
        },
        1,
    )
    assert back.content == "a"
    assert back.usage == {"prompt_tokens": 1, "total_tokens": 2}
