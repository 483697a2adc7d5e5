"""Templates around user messages, and what a client puts into each request that says nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm import LLMClient
from flexllm.errors import ConfigError, InputError
from flexllm.request import RequestDefaults, make_request, request_defaults
from flexllm.templates import UserTemplate


def asked(template: str, *messages: dict[str, Any]) -> list[Any]:
    return [message["content"] for message in UserTemplate(template).around(list(messages))]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_template_is_put_around_every_user_message_and_no_other() -> None:
    messages = ({"role": "system", "content": "s"}, user("a"), {"role": "assistant", "content": "b"}, user("c"))
    assert asked("<{content}>", *messages) == ["s", "<a>", "b", "<c>"]
    assert [message["content"] for message in messages] == ["s", "a", "b", "c"], "the caller's own are as they were"


def test_of_a_message_in_parts_the_first_text_is_meant() -> None:
    picture = {"type": "image_url", "image_url": {"url": "u"}}
    parts = [picture, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert asked("<{content}>", user(parts)) == [[picture, {"type": "text", "text": "<a>"}, parts[2]]]
    assert asked("<{content}>", user([picture])) == [[picture]]
    assert asked("<{content}>", user(["a", "b"])) == [["<a>", "b"]]


def test_braces_that_hold_no_name_are_the_callers_own() -> None:
    assert asked('{"answer": {content}, "n": {1}}', user("a")) == ['{"answer": a, "n": {1}}']
    assert asked("{{content}} is {content}", user("a")) == ["{content} is a"]


@given(st.text())
def test_what_is_asked_is_never_read_as_a_template(text: str) -> None:
    assert asked("[{content}]", user(text)) == [f"[{text}]"]


def test_fields_of_a_row_fill_places_and_what_is_no_text_becomes_json() -> None:
    template = UserTemplate("{city}: {data} {ok}")
    assert template.needs_fields
    assert (
        template.fill({"city": "Köln", "data": {"ä": [1]}, "ok": None})
        == f"Köln: {json.dumps({'ä': [1]}, ensure_ascii=False)} null"
    )
    with pytest.raises(InputError, match=r"\{data\}"):
        template.fill({"city": "Köln", "ok": 1})


@pytest.mark.parametrize("text", ["", "no place", "{}", "{1}", "{{content}}", "{a b}"])
def test_a_template_without_a_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no place"):
        UserTemplate(text)


def test_what_a_request_says_goes_before_what_holds_for_all() -> None:
    defaults = RequestDefaults(
        system="s", user_template=UserTemplate("<{content}>"), params={"temperature": 0, "top_p": 1}
    )
    request = make_request("a", "m", {"temperature": 0.5}, defaults)
    assert request.params == {"temperature": 0.5, "top_p": 1}
    assert request.messages == [{"role": "system", "content": "s"}, user("<a>")]
    own = make_request([{"role": "system", "content": "mine"}, user("a")], "m", {}, defaults)
    assert own.messages[0]["content"] == "mine"


def test_a_caller_who_says_nothing_has_no_defaults() -> None:
    assert request_defaults(None, None, {}) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"user_template": "{question}"}, r"\{question\}, which only the fields of rows can fill"),
        ({"user_template": 1}, "user_template must be a text"),
        ({"system": 1}, "system must be a text"),
        ({"params": 1}, "params must be a mapping"),
        ({"params": {"max_qps": 1}}, "max_qps is no parameter of a request"),
    ],
)
def test_a_client_refuses_defaults_that_cannot_be_used(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        LLMClient("m", "http://127.0.0.1:9/v1", **options)
