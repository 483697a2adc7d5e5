"""From what a caller writes to a request: messages in any form, parameters in their checked form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flexllm.errors import ConfigError, InputError
from flexllm.request import make_params, make_request


@dataclass
class City:
    name: str


def test_a_text_is_a_conversation() -> None:
    request = make_request("Hi", "m", {"temperature": 0})
    assert (request.messages, request.model) == ([{"role": "user", "content": "Hi"}], "m")
    assert request.params == {"temperature": 0}


def test_messages_and_parameters_that_need_no_change_are_not_copied() -> None:
    messages: list[Any] = [{"role": "user", "content": "Hi"}]
    params = {"temperature": 0}
    request = make_request(messages, "m", params)
    assert request.params is params
    assert request.messages[0] is messages[0]


def test_bytes_in_a_part_become_json() -> None:
    content = [{"type": "image_url", "image_url": {"url": b"\x89PNG\r\n\x1a\n0000"}}, "What is it?"]
    request = make_request([{"role": "user", "content": content}], "m", {})
    image, text = request.messages[0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "What is it?"}


def test_a_part_of_no_kind_is_refused() -> None:
    with pytest.raises(InputError, match="message 0, part 0"):
        make_request([{"role": "user", "content": [7]}], "m", {})  # type: ignore[list-item]


def test_a_class_becomes_a_response_format_that_remembers_it() -> None:
    given: dict[str, Any] = {"response_format": City, "repair": True, "seed": 1}
    made = make_params(given)
    assert made["response_format"]["type"] == "json_schema"
    assert (made["response_format"].kind, made["response_format"].repair) == (City, True)
    assert set(made) == {"response_format", "seed"}
    assert set(given) == {"response_format", "repair", "seed"}
    assert make_params(made)["response_format"].repair


def test_no_response_format_is_not_sent() -> None:
    assert make_params({"response_format": None, "seed": 1, "repair": False}) == {"seed": 1}
    assert make_params({"repair": False}) == {}


def test_there_is_nothing_to_repair_without_a_response_format() -> None:
    with pytest.raises(ConfigError, match="repair=True"):
        make_params({"repair": True})


def test_the_fields_of_an_extra_body_are_parameters_like_others() -> None:
    assert make_params({"seed": 1, "extra_body": {"top_k": 2}, "skip_cache": True}) == {"seed": 1, "top_k": 2}
    with pytest.raises(ConfigError, match="extra_body must be an object, not list"):
        make_params({"extra_body": [1]})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("timeout", 5, "give it to the client"),
        ("api_key", "sk-secret-secret", "give it to the client"),
        ("on_truncated", "retry", "give it to the client"),
        ("on_invalid", "keep", "give it to the client"),
        ("hedge", 0.95, "give it to the client"),
        ("adaptive", False, "give it to the client"),
        ("max_qps", 10, "give it to the client"),
        ("fail_over", 0.0, "it is for a whole batch: give it to chat_completions_batch"),
        ("max_time", 60, "it is for a whole batch: give it to chat_completions_batch"),
        ("extra_headers", {"a": "b"}, "give headers to the client"),
        ("output_file", "a.jsonl", "this call does not take it"),
        ("return_raw", True, "this call does not take it"),
    ],
)
def test_a_word_that_means_something_elsewhere_is_not_sent(name: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is no parameter of a request: {said}") as caught:
        make_params({name: value})
    assert "secret" not in str(caught.value)
    assert make_params({name: None}) == {}
