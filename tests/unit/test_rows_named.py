"""Rows whose question, system message or whole text the caller names, and rows that keep all their fields."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.rows import LINES_TRIED, FileRows, RowReader
from flexllm.batch.shapes import FORMATS, Fields
from flexllm.errors import ConfigError, InputError
from flexllm.templates import UserTemplate

SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def as_lines(*rows: Any) -> list[bytes]:
    return [row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows]


def reader(*rows: Any, **options: Any) -> RowReader:
    if isinstance(options.get("template"), str):
        options["template"] = UserTemplate(options["template"])
    return RowReader(as_lines(*rows), "in.jsonl", **options)


def read(*rows: Any, **options: Any) -> list[tuple[list[Any], Any]]:
    made = reader(*rows, **options)
    return [made.read(line) for line in made]


def problem(bad: Any, *, good: Any, **options: Any) -> str:
    """Return what is said of a bad row among good ones, which must stay what they are."""
    made = reader(good, bad, good, **options)
    first, line, last = made
    with pytest.raises(InputError) as caught:
        made.read(line)
    assert made.read(first) == made.read(last)
    return str(caught.value)


# --- a field for the question, one for the system message


def test_the_question_is_in_the_field_that_is_named() -> None:
    row = {"text": "What?", "q": "not this", "id": 1, "system": "Be brief."}
    assert read(row, fields=Fields("text")) == [([SYSTEM, user("What?")], {"q": "not this", "id": 1})]


def test_a_named_field_is_no_question_of_how_the_row_looks() -> None:
    row = {"messages": [user("no")], "instruction": "no", "title": "yes"}
    assert read(row, fields=Fields("title"))[0][0] == [user("yes")]


def test_the_system_message_is_in_the_field_that_is_named() -> None:
    row = {"q": "What?", "role": "Be brief.", "system": "metadata now"}
    assert read(row, fields=Fields(None, "role")) == [([SYSTEM, user("What?")], {"system": "metadata now"})]


def test_a_conversation_may_have_its_system_message_in_a_field() -> None:
    bare, own = {"messages": [user("a")], "s": "Be brief."}, {"messages": [SYSTEM, user("a")], "s": "other"}
    assert [messages for messages, _ in read(bare, own, fields=Fields(None, "s"))] == [[SYSTEM, user("a")]] * 2
    assert read(bare)[0] == ([user("a")], {"s": "Be brief."})


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_system_field_gives_way_to_the_message_for_all(nothing: str | None) -> None:
    rows = ({"q": "a", "s": nothing}, {"q": "b", "s": "Own."})
    first, second = read(*rows, fields=Fields(None, "s"), system="Be brief.")
    assert [first[0][0], second[0][0]["content"]] == [SYSTEM, "Own."]


def test_a_row_without_the_named_field_is_bad_and_says_what_it_has() -> None:
    good = {"text": "a", "s": "b"}
    said = problem({"txt": "a", "s": "b"}, good=good, fields=Fields("text", "s"))
    assert said == "no 'text' in this row, only 'txt', 's'"
    said = problem({"text": "a"}, good=good, fields=Fields("text", "s"))
    assert said == "no 's' in this row, only 'text'"
    assert problem({}, good=good, fields=Fields("text", "s")) == "no 'text' in this row, only none"
    assert "and 4 more" in problem(dict.fromkeys(map(str, range(12))), good=good, fields=Fields("text", "s"))


@pytest.mark.parametrize("value", [7, None, ["a"], {"a": 1}, True])
def test_a_question_that_is_no_text_is_bad(value: Any) -> None:
    said = problem({"text": value}, good={"text": "a"}, fields=Fields("text"))
    assert said == f"'text' must be a text, not {type(value).__name__}"


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        (Fields("text"), "'text'"),
        (Fields("content"), "'content'"),
        (Fields("q", "s"), "'q' and 's'"),
        (Fields(None, "s"), "'s'"),
    ],
)
def test_an_input_without_the_named_fields_is_refused_before_anything_is_sent(fields: Fields, missing: str) -> None:
    with pytest.raises(InputError) as caught:
        reader({"id": 1}, b"{torn", {"q": "a", "id": 2}, fields=fields)
    said = str(caught.value)
    assert said == f"in.jsonl: no row has {missing} (the first: its fields are 'id'); nothing was sent"


def test_one_row_that_fits_is_enough() -> None:
    made = reader({"id": 1}, b"{torn", {"text": "a"}, fields=Fields("text"))
    assert len(list(made)) == 3


def test_the_search_for_a_fitting_row_comes_to_an_end() -> None:
    count = 0

    def lines() -> Iterable[bytes]:
        nonlocal count
        while True:
            count += 1
            yield b'{"q": "a"}\n'

    with pytest.raises(InputError):
        RowReader(lines(), "in.jsonl", fields=Fields("text"))
    assert count <= LINES_TRIED + 1


@pytest.mark.parametrize("shape", [shape for shape in FORMATS if shape not in ("auto", "simple")])
def test_a_field_for_the_question_and_another_format_do_not_go_together(shape: str) -> None:
    with pytest.raises(ConfigError, match=f"rows of the format {shape} have their own field"):
        reader({"text": "a"}, shape=shape, fields=Fields("text"))
    assert read({"text": "a"}, shape="simple", fields=Fields("text"))[0][0] == [user("a")]


# --- templates


def test_a_template_is_put_around_each_question() -> None:
    conversation = [SYSTEM, user("a"), {"role": "assistant", "content": "x"}, user("b")]
    row = {"messages": conversation, "id": 1}
    wanted = [SYSTEM, user("<a>"), {"role": "assistant", "content": "x"}, user("<b>")]
    assert read(row, template="<{content}>") == [(wanted, {"id": 1})]
    assert read({"instruction": "Do.", "input": "this"}, template="{content}!") == [([user("Do.\n\nthis!")], {})]


def test_a_template_may_take_fields_beside_the_question() -> None:
    row = {"q": "What?", "lang": "French", "system": "Be brief.", "n": 3, "tags": ["a"]}
    ((messages, metadata),) = read(row, template="In {lang}, {n} times {tags}: {content} {{q}} {")
    assert messages == [SYSTEM, user('In French, 3 times ["a"]: What? {q} {')]
    assert metadata == {"lang": "French", "n": 3, "tags": ["a"]}


def test_a_template_goes_around_the_text_of_a_message_in_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    row = {"messages": [{"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}], "lang": "French"}
    ((messages, _),) = read(row, template="{lang}: {content}")
    assert messages[0]["content"] == [picture, {"type": "text", "text": "French: What?"}]


def test_without_a_place_for_the_question_the_fields_make_it() -> None:
    row = {"title": "Rain", "style": "haiku", "q": "not asked", "id": 7}
    assert read(row, template="A {style} about {title}") == [
        ([user("A haiku about Rain")], {"q": "not asked", "id": 7})
    ]


def test_a_system_field_that_the_template_asks_for_is_asked_there_alone() -> None:
    assert read({"system": "x", "t": "y"}, template="{system} {t}")[0][0] == [user("x y")]
    assert read({"system": "Be brief.", "t": "y"}, template="{t}")[0][0] == [SYSTEM, user("y")]


def test_a_field_that_is_called_content_gives_way_to_the_question() -> None:
    assert read({"q": "a", "content": "b"}, template="{content}")[0][0] == [user("a")]
    assert read({"q": "a", "content": "b", "x": "c"}, template="{x} {content}")[0][0] == [user("c a")]
    assert read({"content": "b"}, template="<{content}>", fields=Fields("content"))[0][0] == [user("<b>")]


def test_what_a_row_brings_is_never_taken_for_a_place() -> None:
    row = {"q": "{b} {content}", "a": "{b}", "b": "no"}
    assert read(row, template="{a} {content}")[0][0] == [user("{b} {b} {content}")]


@pytest.mark.parametrize("template", ["{title}: {content}", "{title}"])
def test_a_row_that_cannot_fill_the_template_is_bad(template: str) -> None:
    said = problem({"q": "a", "id": 1}, good={"q": "a", "title": "b"}, template=template)
    assert said == "the template has {title}, and this row has no such field, only 'q', 'id'"


@pytest.mark.parametrize("template", ["{titel}: {content}", "{titel}", "{q} {titel}"])
def test_a_template_that_no_row_can_fill_is_refused_before_anything_is_sent(template: str) -> None:
    with pytest.raises(InputError, match=r"no row has .*'titel' \(the first") as caught:
        reader({"q": "a", "title": "b"}, template=template)
    assert str(caught.value).endswith("(the first: its fields are 'q', 'title'); nothing was sent")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fields": Fields("q")}, "the question in the field 'q' would not be asked"),
        ({"shape": "openai_chat"}, "the question of rows of the format openai_chat would not be asked"),
        ({"shape": "simple"}, "the question of rows of the format simple would not be asked"),
    ],
)
def test_a_template_that_would_lose_the_question_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        reader({"q": "a", "title": "b"}, template="{title}", **options)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, max_size=3))
def test_any_fields_fill_a_template_as_they_stand(values: list[str]) -> None:
    first, second, question = values
    row = {"a": first, "b": second, "q": question}
    assert read(row, template="{a}|{content}|{b}")[0][0] == [user(f"{first}|{question}|{second}")]


# --- all fields


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"q": "a", "system": "b", "id": 1}, {}),
        ({"id": 1, "instruction": "a", "input": "b", "system": "c", "output": "d"}, {}),
        ({"text": "a", "s": "b", "id": None}, {"fields": Fields("text", "s")}),
        ({"x": "a", "y": [1]}, {"template": "{x}"}),
    ],
)
def test_kept_fields_are_the_row_as_it_stands(row: dict[str, Any], options: dict[str, Any]) -> None:
    ((_, metadata),) = read(row, keeps_fields=True, **options)
    assert list(metadata.items()) == list(row.items())


def test_a_conversation_is_kept_as_its_last_question() -> None:
    conversation = [user("a"), {"role": "assistant", "content": "x"}, user("b"), {"role": "assistant", "content": "y"}]
    assert read({"messages": conversation, "id": 1}, keeps_fields=True)[0][1] == {"id": 1, "input": "b"}
    assert read({"messages": conversation, "input": 1}, keeps_fields=True)[0][1] == {"input": 1, "question": "b"}
    parts = [{"type": "text", "text": "c"}, {"type": "image_url", "image_url": {"url": "https://a/b"}}, "d"]
    ((_, metadata),) = read({"messages": [{"role": "user", "content": parts}]}, keeps_fields=True)
    assert metadata == {"input": "c\nd"}
    assert read({"messages": [SYSTEM], "id": 1}, keeps_fields=True)[0][1] == {"id": 1}


def test_what_is_kept_is_the_question_without_the_template() -> None:
    assert read({"messages": [user("a")]}, keeps_fields=True, template="<{content}>")[0][1] == {"input": "a"}


# --- names of lines


def test_a_line_that_is_read_otherwise_has_another_name() -> None:
    row = {"q": "a", "text": "b", "s": "c"}
    ways: list[dict[str, Any]] = [
        {},
        {"fields": Fields("text")},
        {"fields": Fields("s")},
        {"fields": Fields(None, "s")},
        {"fields": Fields(None, "text")},
        {"template": "{content}"},
        {"template": "{content} "},
        {"template": "{text}"},
        {"keeps_fields": True},
    ]
    names = [FileRows(reader(row, **way), "m", {}).source(as_lines(row)[0]) for way in ways]
    assert len(set(names)) == len(ways)


def test_a_line_that_is_read_as_ever_has_the_name_that_files_know_it_by() -> None:
    """Answers of earlier versions are found by these."""
    readings = [reader({"q": "a"}).reading, reader({"q": "a"}, system="x").reading]
    assert [one.hex() for one in readings] == ["2b4317fe9844fded7f17156c90f05d6d", "ae024fd25388bf88a5ad70ed294c9f3d"]
    assert all(len(one) == 16 for one in readings)


def test_odd_words_in_options_are_no_stumbling_block() -> None:
    odd = ["\udcff", "\0", "a\0b", '"', ""]
    readings = [reader({"q": "a", one: "x"}, system=one, fields=Fields(None, one)).reading for one in odd]
    assert all(one != other for one, other in pairwise(readings))
