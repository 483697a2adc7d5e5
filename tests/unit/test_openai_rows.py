"""Rows as OpenAI's Batch API takes them: each with its own model and parameters. Source: OpenAI's API reference, Batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flexllm.batch.openai_rows import OwnSettingsRows, names_model
from flexllm.batch.rows import RowReader
from flexllm.batch.shapes import Fields
from flexllm.chat import ChatRequest
from flexllm.errors import ConfigError, FlexLLMError, InputError
from flexllm.templates import UserTemplate

HI = [{"role": "user", "content": "hi"}]


def row(custom_id: str = "row-1", **body: Any) -> dict[str, Any]:
    body = {"model": "gpt-6-luna", "messages": HI, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def make(
    *rows: Any,
    model: str = "default-model",
    params: dict[str, Any] | None = None,
    flags: dict[str, Any] | None = None,
    keeps_model: bool = False,
    **options: Any,
) -> OwnSettingsRows:
    reader = RowReader([json.dumps(one).encode() for one in rows], "in.jsonl", **options)
    return OwnSettingsRows(reader, model, params or {}, len(rows), flags=flags or {}, keeps_model=keeps_model)


def requests(*rows: Any, **options: Any) -> list[ChatRequest]:
    source = make(*rows, **options)
    return [source.read(line)[0] for line in source]


def test_a_line_of_a_batch_file_is_known_and_read() -> None:
    source = make(row(temperature=0, seed=7))
    request, metadata = source.read(next(iter(source)))
    assert (request.messages, request.model, request.params) == (HI, "gpt-6-luna", {"temperature": 0, "seed": 7})
    assert metadata == {"custom_id": "row-1"}


@pytest.mark.parametrize(
    ("one", "shape"),
    [
        (row(), "openai_batch"),
        ({"custom_id": "a", "body": {"messages": HI}}, "openai_batch"),
        ({"url": "/v1/chat/completions", "body": {"messages": HI}}, "openai_batch"),
        ({**row(), "messages": HI}, "openai_chat"),
        ({"body": "a letter", "url": "https://example.org", "q": "What?"}, "simple"),
        ({"body": {}, "instruction": "Do."}, "alpaca"),
    ],
)
def test_the_shape_is_found_from_body_and_what_stands_beside_it(one: dict[str, Any], shape: str) -> None:
    assert RowReader([json.dumps(one).encode()], "in.jsonl").shape == shape


def test_a_rows_own_words_go_before_the_defaults_and_below_the_flags() -> None:
    (request,) = requests(
        row(temperature=1, top_p=0.5), params={"temperature": 2, "top_p": 2, "seed": 2}, flags={"temperature": 3}
    )
    assert request.params == {"temperature": 3, "top_p": 0.5, "seed": 2}


@pytest.mark.parametrize(
    ("body", "params", "flags", "wanted"),
    [
        ({"max_completion_tokens": 1}, {"max_tokens": 2}, {}, {"max_completion_tokens": 1}),
        ({"max_completion_tokens": 1}, {}, {"max_tokens": 3}, {"max_tokens": 3}),
        ({"max_tokens": 1}, {"max_completion_tokens": 2}, {}, {"max_tokens": 1}),
        ({}, {"max_tokens": 2}, {}, {"max_tokens": 2}),
        ({}, {"max_completion_tokens": 2}, {"max_tokens": 3}, {"max_tokens": 3}),
    ],
)
def test_a_limit_goes_before_one_by_another_name(
    body: dict[str, Any], params: dict[str, Any], flags: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert requests(row(**body), params=params, flags=flags)[0].params == wanted


def test_a_rows_own_model_is_asked_unless_the_caller_names_one() -> None:
    rows = (row(), row(model=None), row(model="other"))
    assert [request.model for request in requests(*rows)] == ["gpt-6-luna", "default-model", "other"]
    assert [request.model for request in requests(*rows, keeps_model=True)] == ["default-model"] * 3


def test_a_row_without_any_model_costs_itself_alone() -> None:
    source = make(row(), row(model=None), model="")
    named, unnamed = source
    assert source.read(named)[0].model == "gpt-6-luna"
    with pytest.raises(InputError, match="no 'model' in the 'body' of this row, and none is set"):
        source.read(unnamed)


def test_whether_the_first_row_names_its_model_is_asked_without_losing_a_line() -> None:
    rows = [{"custom_id": "no body"}, row(model=None), row()]
    lines = [b"no JSON", *(json.dumps(one).encode() for one in rows)]
    reader = RowReader(lines, "in.jsonl", shape="openai_batch")
    assert reader.first(names_model) is False
    assert list(reader) == lines
    assert RowReader(lines[:2], "in.jsonl", shape="openai_batch").first(names_model) is None
    assert RowReader(lines[3:], "in.jsonl").first(names_model) is True


def test_how_an_answer_travels_is_no_parameter() -> None:
    assert requests(row(stream=True, stream_options={"include_usage": True}))[0].params == {}


def test_what_a_body_asks_for_is_checked_as_everywhere() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    (request,) = requests(row(response_format=schema))
    assert request.params["response_format"] is not schema
    source = make(row(), row(timeout=3), row())
    first, bad, last = source
    with pytest.raises(ConfigError, match="timeout is no parameter of a request"):
        source.read(bad)
    assert source.read(first)[0] == source.read(last)[0]


def test_rows_that_are_asked_alike_share_one_value() -> None:
    """What is the same object is digested once."""
    first, second, other, again = requests(row("1", seed=1), row("2", seed=1), row("3", seed=2), row("4", seed=1))
    assert first.params is second.params
    assert [request.params["seed"] for request in (first, second, other, again)] == [1, 1, 2, 1]


def test_such_rows_are_known_by_their_content_alone() -> None:
    source = make(row())
    assert not source.is_uniform
    assert source.source(b"line") is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"custom_id": "a"}, "no 'body' in this row; the file was read as openai_batch"),
        ({"custom_id": "a", "body": None}, "no 'body' in this row"),
        ({"custom_id": "a", "body": [1]}, "'body' must be an object, not list"),
        ({**row(), "url": "/v1/embeddings"}, "'url' is '/v1/embeddings'; only /v1/chat/completions can be asked"),
        ({**row(), "url": "/v1/responses"}, "'url' is '/v1/responses'"),
        ({**row(), "url": 7}, "'url' is 7"),
        ({"custom_id": "a", "body": {"input": "hi"}}, "no 'messages' in the 'body' of this row"),
        (row(messages="hi"), "'messages' in 'body' must be a list, not str"),
        (row(messages=[]), "messages are empty"),
        (row(model=""), "'model' in 'body' must be a name, not ''"),
        (row(model=["a"]), r"'model' in 'body' must be a name, not \['a'\]"),
        ({"q": "a"}, "no 'body' in this row"),
    ],
)
def test_a_bad_row_costs_itself_alone(bad: dict[str, Any], reason: str) -> None:
    source = make(row("1"), bad, row("2"))
    first, line, last = source
    with pytest.raises(FlexLLMError, match=reason) as caught:
        source.read(line)
    assert isinstance(caught.value, InputError)
    assert [source.read(one)[1] for one in (first, last)] == [{"custom_id": "1"}, {"custom_id": "2"}]


@pytest.mark.parametrize("url", [None, "/chat/completions", "/v4/chat/completions"])
def test_the_paths_of_other_services_are_the_same_question(url: str | None) -> None:
    assert requests({**row(), "url": url})[0].messages == HI


def test_system_template_and_kept_fields_hold_for_these_rows_too() -> None:
    source = make({**row(), "tag": "x"}, system="Be brief.", template=UserTemplate("<{content}>"), keeps_fields=True)
    request, metadata = source.read(next(iter(source)))
    assert request.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<hi>"}]
    assert metadata == {"custom_id": "row-1", "tag": "x", "input": "hi"}


def test_a_row_may_have_its_system_message_beside_the_body() -> None:
    (request,) = requests({**row(), "s": "Be brief."}, fields=Fields(None, "s"))
    assert request.messages[0] == {"role": "system", "content": "Be brief."}
