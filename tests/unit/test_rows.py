"""Input rows in three shapes: how each is known, what it asks, and what a bad line costs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.rows import LINES_TRIED, FileRows, RowReader
from flexllm.errors import ConfigError, InputError

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def as_lines(*rows: Any) -> list[bytes]:
    return [row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows]


def reader(*rows: Any, **options: Any) -> RowReader:
    return RowReader(as_lines(*rows), "in.jsonl", **options)


def read(*rows: Any, **options: Any) -> list[tuple[list[Any], Any]]:
    made = reader(*rows, **options)
    return [made.read(line) for line in made]


def messages(*rows: Any, **options: Any) -> list[list[Any]]:
    return [row_messages for row_messages, _ in read(*rows, **options)]


# --- the three shapes


def test_openai_chat_rows_give_their_messages_and_keep_the_rest() -> None:
    conversation = [SYSTEM, user("Hi"), {"role": "assistant", "content": "Hello."}, user("And?")]
    row = {"id": "001", "messages": conversation, "temperature": 0.7, "model": "x", "tools": []}
    assert read(row) == [(conversation, {"id": "001", "temperature": 0.7, "model": "x", "tools": []})]


def test_alpaca_rows_ask_the_instruction() -> None:
    row = {"instruction": "Name a colour.", "input": "", "output": "Red", "id": 3}
    assert read(row) == [([user("Name a colour.")], {"output": "Red", "id": 3})]


def test_alpaca_rows_ask_the_instruction_about_their_input() -> None:
    assert messages({"instruction": "Translate.", "input": "Hello"}) == [[user("Translate.\n\nHello")]]
    assert messages({"instruction": "Translate.", "input": None}) == [[user("Translate.")]]
    assert messages({"instruction": "Translate."}) == [[user("Translate.")]]


@pytest.mark.parametrize("name", ["q", "question", "prompt"])
def test_simple_rows_ask_their_question(name: str) -> None:
    assert read({name: "What?", "answer": "42"}) == [([user("What?")], {"answer": "42"})]


@pytest.mark.parametrize("row", [{"q": "What?"}, {"instruction": "Do."}])
def test_a_row_may_bring_a_system_message(row: dict[str, str]) -> None:
    ((conversation, metadata),) = read({**row, "system": "Be brief."})
    assert conversation[0] == SYSTEM
    assert len(conversation) == 2
    assert metadata == {}


def test_of_several_question_fields_the_first_known_is_asked() -> None:
    assert read({"prompt": "p", "question": "x", "q": "short"}) == [([user("short")], {"prompt": "p", "question": "x"})]


def test_rows_of_a_file_may_name_the_question_differently() -> None:
    assert messages({"q": "a"}, {"prompt": "b"}) == [[user("a")], [user("b")]]


# --- the system message of the command line


@pytest.mark.parametrize("row", [{"q": "What?"}, {"instruction": "What?"}, {"messages": [user("What?")]}])
def test_a_system_message_is_added_where_a_row_has_none(row: dict[str, Any]) -> None:
    assert messages(row, system="Be brief.") == [[SYSTEM, user("What?")]]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_row_with_a_system_message_keeps_its_own(role: str) -> None:
    conversation = [{"role": role, "content": "Mine."}, user("What?")]
    assert messages({"messages": conversation}, system="Be brief.") == [conversation]
    assert messages({"q": "What?", "system": "Mine."}, system="Be brief.")[0][0]["content"] == "Mine."


# --- detection


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": []}, "openai_chat"),
        ({"messages": [], "instruction": "", "q": ""}, "openai_chat"),
        ({"instruction": "", "question": ""}, "alpaca"),
        ({"prompt": ""}, "simple"),
    ],
)
def test_the_shape_is_found_from_the_fields(row: dict[str, Any], shape: str) -> None:
    assert reader(row).shape == shape


def test_the_shape_is_found_from_the_first_row_that_tells() -> None:
    made = reader(b"{torn\n", {"id": 1}, {"instruction": "Do."}, {"q": "x"})
    assert made.shape == "alpaca"
    assert len(list(made)) == 4


def test_nothing_is_read_beyond_the_row_that_tells() -> None:
    def lines() -> Iterable[bytes]:
        yield b'{"q": "a"}\n'
        raise AssertionError("read too far")

    assert RowReader(lines(), "pipe").shape == "simple"


@pytest.mark.parametrize("rows", [(), (b"\n", b"  \r\n"), (b"\xef\xbb\xbf",)])
def test_an_empty_input_is_told(rows: tuple[bytes, ...]) -> None:
    with pytest.raises(InputError, match=r"in\.jsonl holds no rows; nothing was sent"):
        reader(*rows)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a", "id": 1}, "its fields are 'text', 'id'"),
        ({}, "its fields are none"),
        (b"question,answer\n", "not JSON: Expecting value at column 1"),
        ([1, 2], "not a JSON object but list"),
    ],
)
def test_an_input_that_cannot_be_understood_is_told_before_anything_is_sent(row: Any, reason: str) -> None:
    with pytest.raises(InputError, match="no row can be understood") as caught:
        reader(row, row)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("'question' or 'prompt'; nothing was sent")


def test_a_wrong_file_is_not_read_to_its_end() -> None:
    read_lines = 0

    def lines() -> Iterable[bytes]:
        nonlocal read_lines
        while True:
            read_lines += 1
            yield b'{"no": "question"}\n'

    with pytest.raises(InputError):
        RowReader(lines(), "in.jsonl")
    assert read_lines <= LINES_TRIED + 1


def test_a_shape_that_is_named_is_not_searched_for() -> None:
    assert messages({"instruction": "no", "question": "yes"}, shape="simple") == [[user("yes")]]
    with pytest.raises(ConfigError, match="format='csv' is not known"):
        reader({"q": "a"}, shape="csv")


# --- lines as files have them


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    assert messages(b'\xef\xbb\xbf{"q": "a"}\n', b'{"q": "b"}\n') == [[user("a")], [user("b")]]


def test_blank_lines_and_the_lines_of_other_systems_are_fine() -> None:
    assert messages(b"\n", b'{"q": "a"}\r\n', b"\r\n", b"  \t\n", b'  {"q": "b"}  \n', b'{"q": "c"}') == [
        [user("a")],
        [user("b")],
        [user("c")],
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_as_such(encoding: str) -> None:
    text = '{"q": "a"}\n' if encoding == "utf-16" else '\ufeff{"q": "a"}\n'
    with pytest.raises(InputError, match="is UTF-16; convert it to UTF-8"):
        RowReader(text.encode(encoding).splitlines(keepends=True), "in.jsonl")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_asked_as_it_stands(text: str) -> None:
    line = json.dumps({"q": text}, ensure_ascii=False).encode() + b"\n"
    assert messages(line) == [[user(text)]]


# --- bad lines

GOOD = {"q": "good"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"q": "torn\n', "not JSON: Unterminated string"),
        (b'{"q": "a"} {"q": "b"}\n', "something follows at column"),
        (b'{"q": "\xff"}\n', "not UTF-8 at byte 8"),
        (b'"text"\n', "not a JSON object but str"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (b'{"id": 1}\n', "no 'question' in this row; the file was read as simple"),
        (b'{"q": 7}\n', "'q' must be a text, not int"),
        (b'{"q": null}\n', "'q' must be a text, not NoneType"),
        (b'{"q": "a", "system": 7}\n', "'system' must be a text, not int"),
    ],
)
def test_a_bad_line_is_told_and_the_others_are_read(line: bytes, reason: str) -> None:
    made = reader(GOOD, line, GOOD)
    first, bad, last = made
    with pytest.raises(InputError) as caught:
        made.read(bad)
    assert reason in str(caught.value)
    assert made.read(first) == made.read(last) == ([user("good")], {})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": "Hi"}, "'messages' must be a list, not str"),
        ({"messages": []}, "messages are empty"),
        ({"messages": [{"role": "user"}]}, "message 0 (role 'user') has no content"),
        ({"messages": [user("a"), {"role": "robot", "content": "b"}]}, "message 1 has the role 'robot'"),
        ({"q": "a"}, "no 'messages' in this row; the file was read as openai_chat"),
    ],
)
def test_a_bad_conversation_is_told(row: dict[str, Any], reason: str) -> None:
    made = reader({"messages": [user("good")]}, row)
    with pytest.raises(InputError) as caught:
        made.read(list(made)[1])
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": 7}, "'instruction' must be a text"),
        ({"instruction": "a", "input": {}}, "'input' must be a text"),
    ],
)
def test_a_bad_instruction_is_told(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(row)


# --- as the source of a batch


def rows(*given_rows: Any, model: str = "m", params: dict[str, Any] | None = None, **options: Any) -> FileRows:
    return FileRows(reader(*given_rows, **options), model, params or {}, None)


def test_a_row_becomes_a_request_with_the_parameters_of_all() -> None:
    source = rows({"q": "a", "id": 1, "temperature": 2}, model="gpt", params={"temperature": 0})
    request, metadata = source.read(next(iter(source)))
    assert (request.messages, request.model, request.params) == ([user("a")], "gpt", {"temperature": 0})
    assert metadata == {"id": 1, "temperature": 2}


def test_a_line_has_the_same_name_wherever_it_is_read() -> None:
    first, second = rows(GOOD, {"q": "b"}), rows({"q": "b"}, GOOD)
    assert [first.source(line) for line in first] == [second.source(line) for line in second][::-1]


def test_a_line_that_is_read_differently_has_another_name() -> None:
    line = b'{"instruction": "a", "q": "b"}'
    readings: list[dict[str, str]] = [{}, {"system": "x"}, {"system": "y"}, {"shape": "simple"}]
    assert len({rows(line, **options).source(line) for options in readings}) == 4


def test_settings_are_model_and_parameters() -> None:
    names = {
        rows(GOOD, model=model, params=params).settings
        for model in ("a", "b")
        for params in ({}, {"temperature": 0}, {"temperature": 1})
    }
    assert len(names) == 6
    assert rows(GOOD, params={"a": 1, "b": 2}).settings == rows(GOOD, params={"b": 2, "a": 1}).settings
