"""The values of the wire: what a target accepts, and that none of them shows a key."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from flexllm.errors import ConfigError
from flexllm.wire import NO_KEY, HttpRequest, HttpResponse, Target, mask_key

SECRET = "sk-proj-Zx81hTq0LmN4vBs7"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://localhost:11434/v1//", "http://localhost:11434/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("HTTPS://Host.example/v1", "HTTPS://Host.example/v1"),
        ("https://host", "https://host"),
    ],
)
def test_a_base_url_is_kept_without_its_last_slash(given: str, kept: str) -> None:
    assert Target(base_url=given).base_url == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "api.openai.com/v1",
        "ftp://host/v1",
        "https://",
        "https:///v1",
        "http://[::1/v1",
        "http://host:port/v1",
        "http://host:99999/v1",
        "http://host /v1",
        "http://host/v1 ",
        " http://host/v1",
        "http://host/v1\n",
        "http://host/v1 HTTP/1.1\r\nX-Evil: 1\r\n",
        "http://host/\tv1",
        "http://bücher.example/v1",
        "http://host/ü",
        None,
        b"http://host/v1",
        8000,
    ],
)
def test_a_base_url_that_cannot_be_asked_is_refused_by_name(given: Any) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        Target(base_url=given)


@pytest.mark.parametrize("end", [f"?key={SECRET}", "?", f"#{SECRET}"])
def test_a_base_url_behind_which_no_path_can_stand_is_refused_without_repeating_it(end: str) -> None:
    with pytest.raises(ConfigError, match="base_url holds a query or a fragment") as caught:
        Target(base_url=f"https://host/v1{end}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("start", ["https://me:", "ftp://me:", "https://", "https://me me:"])
@pytest.mark.parametrize("place", ["host/v1", "host:port/v1", "", "[::1"])
def test_a_user_name_in_the_base_url_is_refused_without_repeating_it(start: str, place: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        Target(base_url=f"{start}{SECRET}@{place}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\n", "line\r", "tab\t", "schlüssel", "\x7f", "\x00"])
def test_a_key_that_a_header_cannot_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key") as caught:
        Target(base_url="https://host", api_key=key)
    assert key not in str(caught.value)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="api_key"):
        Target(base_url="https://host", api_key=None)  # type: ignore[arg-type]


def test_a_target_without_a_key_has_the_customary_one() -> None:
    assert Target(base_url="https://host").api_key == NO_KEY == "EMPTY"


def test_the_representation_of_a_target_masks_key_and_header_values() -> None:
    target = Target(base_url="https://host", api_key=SECRET, headers=(("X-Token", "hidden-too"),))
    shown = f"{target!r} {target}"
    assert SECRET not in shown
    assert "hidden-too" not in shown
    assert "X-Token" in shown


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("", ""),
        (NO_KEY, NO_KEY),
        ("short", "***"),
        ("x" * 15, "***"),
        ("abcdefghijklmnop", "abcd...mnop"),
        ("k" * 39, "kkkk...kkkk"),
        ("0123456789" * 4, "012345678901234...6789"),
    ],
)
def test_masking_shows_both_ends_of_a_long_key_and_nothing_of_a_short_one(key: str, shown: str) -> None:
    assert mask_key(key) == shown


@pytest.mark.parametrize("length", range(1, 80))
def test_masking_never_shows_half_of_a_key(length: int) -> None:
    assert len(mask_key("k" * length).replace("*", "").replace(".", "")) <= max(0, length / 2)


def test_the_representations_of_request_and_reply_show_neither_headers_nor_body() -> None:
    request = HttpRequest("POST", "http://host/v1", (("Authorization", f"Bearer {SECRET}"),), b"my prompt")
    reply = HttpResponse(200, {"set-cookie": SECRET}, b"my answer", 0.5)
    assert repr(request) == "HttpRequest(POST http://host/v1, 9 bytes)"
    assert repr(reply) == "HttpResponse(200, 9 bytes, 0.500 s)"


@pytest.mark.parametrize(
    "value",
    [
        Target(base_url="https://host", api_key=SECRET, headers=(("a", "b"),)),
        HttpRequest("POST", "http://host/v1", (("a", "b"),), b"body"),
        HttpResponse(200, {"a": "b"}, b"body", 0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_values_pickle_and_compare(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_target_changes_by_replace_and_is_checked_again() -> None:
    target = Target(base_url="https://host/v1")
    assert replace(target, api_key="k").base_url == "https://host/v1"
    with pytest.raises(ConfigError):
        replace(target, base_url="host")
