"""What callers may write as messages, and what becomes of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from flexllm.errors import InputError
from flexllm.messages import ROLES, normalise_messages

USER = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_a_text_is_one_user_message() -> None:
    assert normalise_messages("Hi") == [USER]


def test_an_empty_text_is_a_message_too() -> None:
    assert normalise_messages("") == [{"role": "user", "content": ""}]


def test_one_message_is_a_conversation() -> None:
    assert normalise_messages(USER) == [USER]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_of_messages_is_taken_in_order(kind: type) -> None:
    assert normalise_messages(kind([SYSTEM, USER])) == [SYSTEM, USER]


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_any_mapping_is_a_message_and_comes_out_as_a_dictionary(kind: Any) -> None:
    message: Mapping[str, Any] = kind(USER)
    for given in (message, [message]):
        (out,) = normalise_messages(given)
        assert type(out) is dict
        assert out == USER


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_of_the_api_is_taken(role: str) -> None:
    assert normalise_messages([{"role": role, "content": "x"}]) == [{"role": role, "content": "x"}]


def test_unknown_fields_and_parts_pass_unchanged() -> None:
    message = {
        "role": "user",
        "name": "Ann",
        "content": [{"type": "text", "text": "a"}, {"type": "future", "x": [1]}, "bare"],
        "cache_control": {"type": "ephemeral"},
    }
    assert normalise_messages([message]) == [message]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ],
)
def test_messages_of_a_tool_conversation_pass_unchanged(message: dict[str, Any]) -> None:
    assert normalise_messages([USER, message]) == [USER, message]


def test_the_callers_objects_are_not_changed() -> None:
    given = [dict(USER), {"role": "user", "content": [{"type": "text", "text": "x"}]}]
    before = copy.deepcopy(given)
    out = normalise_messages(given, system="Be brief.")
    out.append({"role": "user", "content": "more"})
    assert given == before


def test_a_system_text_goes_in_front() -> None:
    assert normalise_messages("Hi", system="Be brief.") == [SYSTEM, USER]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_system_text_gives_way_to_the_conversations_own(role: str, position: int) -> None:
    conversation = [USER, USER]
    conversation.insert(position, {"role": role, "content": "Own."})
    assert normalise_messages(conversation, system="Be brief.") == conversation


def test_an_empty_system_text_is_a_system_text() -> None:
    assert normalise_messages("Hi", system="")[0] == {"role": "system", "content": ""}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, r"not nothing \(null\)"),
        (3, "not int"),
        (b"Hi", "not bytes"),
        ({"role", "content"}, "not set"),
        ([], "at least one"),
        ((), "at least one"),
        (["Hi"], "message 0 must be an object .* not str"),
        ([USER, None], r"message 1 must be an object .* not nothing \(null\)"),
        ([USER, {"content": "x"}], "message 1 has the role None"),
        ([USER, {"role": "bot", "content": "x"}], "message 1 has the role 'bot'; known are assistant, developer"),
        ([{"role": "user"}], r"message 0 \(role 'user'\) has no content"),
        ([{"role": "tool", "content": None}], r"message 0 \(role 'tool'\) has no content"),
        ([{"role": "user", "content": 5}], "message 0 has content of type int"),
        ([{"role": "user", "content": {"type": "text"}}], "message 0 has content of type dict"),
        ([{"role": "user", "content": ["a", 5]}], "message 0, part 1 must be an object or a text, not int"),
        ([{"role": ["user"], "content": "x"}], "message 0 has the role"),
        ([{"role": {}, "content": "x"}], "message 0 has the role"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        normalise_messages(given)
