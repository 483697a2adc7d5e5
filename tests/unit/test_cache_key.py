"""The names of requests: what changes them, what does not, and what pictures count for."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.cache.key import KeyScope, RequestKeys, cache_key, is_deterministic, messages_hash
from flexllm.chat import ChatRequest
from flexllm.digest import digest_messages
from flexllm.errors import InputError
from flexllm.media.options import MediaOptions
from flexllm.request import make_request

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OTHER_PNG = PNG + b"more"
WAV = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"


def keys(scope: KeyScope | None = None, **media: Any) -> RequestKeys:
    return RequestKeys(scope or KeyScope("openai"), MediaOptions(**media))


def digest(messages: Any, model: str = "m", **params: Any) -> int:
    return keys().digest(make_request(messages, model, params))


def picture(source: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image", "image": source, **more}]}]


def uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


# --- every field counts

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts},
        optional={"name": texts, "tool_call_id": texts, "extra": values},
    ),
    min_size=1,
    max_size=3,
)
requests = st.builds(
    ChatRequest,
    messages,
    st.sampled_from(["m", "gpt-4o", "名"]),
    st.dictionaries(st.sampled_from(["temperature", "seed", "stop", "tools", "metadata"]), values, max_size=4),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value at which something stands."""
    found = [path]
    for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += places(value[name], (*path, name))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def fields_of(request: ChatRequest) -> dict[str, Any]:
    return {"messages": list(request.messages), "model": request.model, "params": dict(request.params)}


def turned(value: Any) -> Any:
    """The same value with the keys of all its objects in reverse order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(list(value))}
    return [turned(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=30)
@given(requests, st.data())
def test_any_change_to_any_field_is_another_request(request: ChatRequest, data: st.DataObject) -> None:
    fields = copy.deepcopy(fields_of(request))
    path = data.draw(st.sampled_from([("model",), *(one for one in places(fields) if len(one) > 1)]))
    within, name = at(fields, path[:-1]), path[-1]
    old = within[name]
    may_go = isinstance(within, dict) and name not in ("role", "content", "model")
    if may_go and data.draw(st.booleans()):
        del within[name]
    else:
        new = within[name] = data.draw(_another(path))
        if json.dumps(new, sort_keys=True) == json.dumps(old, sort_keys=True):
            return
        if path[0] == "params" and len(path) == 2 and {type(new), type(old)} == {int, float} and new == old:
            return
    assert keys().digest(ChatRequest(**fields)) != keys().digest(request)


def _another(path: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """What may stand at a place of a request."""
    if path == ("model",):
        return texts.filter(bool)
    if path[0] == "messages" and len(path) == 2:
        return st.fixed_dictionaries({"role": st.just("user"), "content": texts})
    return texts if path[0] == "messages" and path[-1] in ("role", "content") else values


@settings(max_examples=30)
@given(requests)
def test_neither_the_order_of_keys_nor_the_kind_of_list_nor_identity_counts(request: ChatRequest) -> None:
    name = keys()
    fields = turned(copy.deepcopy(fields_of(request)))
    again = ChatRequest(tuple(fields["messages"]), fields["model"], fields["params"])
    assert name.digest(again) == name.digest(request) == keys().digest(request)
    assert name.digest(request, digest_messages(request.messages)) == name.digest(request)


@settings(max_examples=30)
@given(requests, requests)
def test_requests_that_differ_have_different_names_also_where_one_follows_the_other(
    one: ChatRequest, other: ChatRequest
) -> None:
    name = keys()
    same = turned(fields_of(one)) == turned(fields_of(other))
    if not same or json.dumps(fields_of(one), sort_keys=True) == json.dumps(fields_of(other), sort_keys=True):
        assert (name.digest(one) == name.digest(other)) == same
        assert (name.digest(one) == name.digest(other)) == same


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        (KeyScope("openai"), KeyScope("claude")),
        (KeyScope("openai"), KeyScope("openai", endpoints=("http://a",))),
        (KeyScope("openai", endpoints=("http://a",)), KeyScope("openai", endpoints=("http://b",))),
        (KeyScope("claude"), KeyScope("claude", headers=(("anthropic-beta", "x"),))),
        (KeyScope("claude", headers=(("a", "x"),)), KeyScope("claude", headers=(("a", "y"),))),
        (KeyScope("openai"), KeyScope("openai", media="x")),
    ],
)
def test_everything_in_the_scope_counts(scope: KeyScope, other: KeyScope) -> None:
    request = make_request("hello", "m", {})
    assert keys(scope).digest(request) != keys(other).digest(request)


def test_the_order_of_endpoints_and_the_case_of_header_names_do_not_count() -> None:
    request = make_request("hello", "m", {})
    one = KeyScope("claude", ("http://a", "http://b"), (("X-One", "1"), ("x-two", "2")))
    other = KeyScope("claude", ("http://b", "http://a"), (("x-two", "2"), ("x-one", "1")))
    assert keys(one).digest(request) == keys(other).digest(request)


@pytest.mark.slow
def test_a_digest_has_128_bits_and_is_the_same_in_every_process() -> None:
    code = (
        "from flexllm.cache.key import *; from flexllm.chat import ChatRequest\n"
        "print(RequestKeys(KeyScope('openai')).digest(ChatRequest([{'role': 'user', 'content': 'é'}], 'm', {'a': 1})))\n"
        "print(messages_hash('é', temperature=0))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    number, name = told.pop().split()
    assert int(number) == digest("é", a=1)
    assert name == messages_hash("é", temperature=0)
    assert 0 < int(number) < 1 << 128


def test_the_name_of_a_request_stays_as_it_is_from_release_to_release() -> None:
    """What is stored is found again. Where this must change, KEY_VERSION changes with it."""
    request = make_request([{"role": "user", "content": "hi"}], "gpt-4o", {"temperature": 0})
    assert cache_key(keys().digest(request)) == "9068217f4b50b9d8564e991b5564adec"


def test_a_whole_number_is_the_same_parameter_with_and_without_a_point() -> None:
    assert digest("a", temperature=0) == digest("a", temperature=0.0)
    assert digest("a", temperature=0) != digest("a", temperature=False)
    assert digest("a", temperature=1) != digest("a", temperature="1")


def test_a_class_and_its_schema_count() -> None:
    one = {"type": "object", "properties": {"a": {"type": "string"}}}
    other = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert digest("a", response_format=one) == digest("a", response_format=copy.deepcopy(one))
    assert len({digest("a"), digest("a", response_format=one), digest("a", response_format=other)}) == 3


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_json_does_not_know_has_no_name(value: object) -> None:
    with pytest.raises(InputError, match="JSON"):
        keys().digest(ChatRequest([{"role": "user", "content": "a"}], "m", {"stop": value}))
    with pytest.raises(InputError, match="JSON"):
        keys().digest(ChatRequest([{"role": "user", "content": "a", "x": value}], "m", {}))


def test_half_a_character_has_no_name() -> None:
    with pytest.raises(InputError, match="half a character"):
        keys().digest(make_request("\ud800", "m", {}))


def test_what_is_nested_too_deeply_has_no_name() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for request in (
        ChatRequest([{"role": "user", "content": "a", "x": deep}], "m", {}),
        ChatRequest([{"role": "user", "content": "a"}], "m", {"x": deep}),
    ):
        with pytest.raises(InputError, match="nested too deeply"):
            keys().digest(request)


def test_a_failed_request_leaves_nothing_behind_for_the_next() -> None:
    name = keys()
    good = make_request("a", "m", {"seed": 1})
    params: dict[str, Any] = {"seed": {1}}
    with pytest.raises(InputError):
        name.digest(ChatRequest(good.messages, "m", params))
    assert name.digest(good) == keys().digest(good)
    with pytest.raises(InputError):
        name.digest(ChatRequest(good.messages, "m", params))


def test_the_same_parameters_of_another_model_are_another_request() -> None:
    name, params = keys(), {"seed": 1}
    one, other = (ChatRequest([{"role": "user", "content": "a"}], model, params) for model in ("m", "n"))
    assert name.digest(one) != name.digest(other)


def test_threads_that_ask_with_different_settings_get_their_own_names() -> None:
    name = keys()
    asked = [make_request("a", f"m{number % 3}", {"seed": number}) for number in range(8)]
    right = [keys().digest(request) for request in asked]
    wrong: list[int] = []

    def ask(number: int) -> None:
        for turn in range(500):
            place = (number + turn) % len(asked)
            if name.digest(asked[place]) != right[place]:
                wrong.append(place)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


# --- media


def test_a_changed_picture_is_another_request_and_a_moved_one_is_not(tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    first.write_bytes(PNG)
    second.write_bytes(PNG)
    before = digest(picture(first))
    assert digest(picture(second)) == before == digest(picture(f"file://{first}")) == digest(picture(PNG))
    assert digest(picture(uri(PNG, "image/png"))) == before
    assert digest(picture(base64.b64encode(PNG).decode())) == before
    first.write_bytes(OTHER_PNG)
    assert digest(picture(first)) != before


def test_a_picture_changed_between_two_rows_is_seen_by_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    name, request = keys(), make_request(picture(path), "m", {})
    before = name.digest(request)
    path.write_bytes(OTHER_PNG)
    assert name.digest(request) != before
    assert name.digest(request, digest_messages(request.messages)) == name.digest(request)


def test_a_file_that_many_rows_show_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    reads: list[str] = []

    def read(path: str, max_bytes: int) -> bytes:
        reads.append(path)
        return PNG

    monkeypatch.setattr("flexllm.cache.key.read_file", read)
    name = keys()
    named = {name.digest(make_request(picture(path), "m", {"seed": seed})) for seed in range(5)}
    assert len(named) == 5
    assert reads == [str(path)]


def test_what_is_behind_a_url_counts_by_its_url() -> None:
    assert digest(picture("https://x/a.png")) == digest(picture("https://x/a.png"))
    assert digest(picture("https://x/a.png")) != digest(picture("https://x/b.png"))
    assert digest(picture("gs://x/a.png")) != digest(picture("gs://x/b.png"))


def test_what_stands_beside_a_picture_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    named = [digest(picture(path)), digest(picture(path, detail="low")), digest(picture(path, x=1))]
    named.append(digest([{"role": "user", "content": [picture(path)[0]["content"][1]]}]))
    assert len(set(named)) == 4


def test_the_declared_type_of_data_counts_where_the_bytes_do_not_tell_it() -> None:
    def file(source: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "file", "file": {"file_data": source, "filename": "x"}}]}]

    assert digest(file(uri(b"a,b", "text/csv"))) != digest(file(uri(b"a,b", "text/plain")))
    assert digest(picture(uri(PNG, "image/jpeg"))) == digest(picture(uri(PNG, "image/png")))  # it is sent as what it is


def test_the_name_of_a_document_counts_since_it_is_sent(tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_bytes(b"the same")
    one, two = ([{"role": "user", "content": [tmp_path / name]}] for name in ("one.txt", "two.txt"))
    assert digest(one) != digest(two)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: {"type": "audio", "audio": path},
        lambda path: {"type": "input_audio", "input_audio": {"data": path, "format": "wav"}},
        lambda path: {"type": "audio_url", "audio_url": {"url": path}},
        lambda path: {"type": "video_url", "video_url": {"url": path}},
        lambda path: {"type": "video", "video": [path, "https://x/frame.png"]},
        lambda path: {"type": "file", "file": {"file_data": path}},
    ],
)
def test_every_kind_of_part_counts_by_its_content(tmp_path: Path, make: Callable[[str], Any]) -> None:
    path = tmp_path / "x.bin"
    named = set()
    for data in (WAV, WAV + b"\0\0"):
        path.write_bytes(data)
        named.add(digest([{"role": "user", "content": [make(str(path))]}]))
    assert len(named) == 2


def test_bare_base64_that_looks_like_a_path_counts_as_it_stands() -> None:
    def sound(data: str) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]}]

    assert digest(sound("AAAABBBB")) == digest(sound("AAAABBBB"))
    assert digest(sound("AAAABBBB")) != digest(sound("AAAACCCC"))


@pytest.mark.parametrize("source", ["nowhere.png", "data:image/png", "data:image/png;base64,!!!!", "data:,"])
def test_a_medium_that_cannot_be_read_counts_as_it_is_written(source: str) -> None:
    assert digest(picture(source)) == digest(picture(source))
    assert digest(picture(source)) != digest(picture(source + "x"))


def test_a_file_that_must_not_be_read_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    name, request = keys(local_files=False), make_request(picture(path), "m", {})
    before = name.digest(request)
    path.write_bytes(OTHER_PNG)
    assert name.digest(request) == before


def test_the_size_to_which_pictures_are_scaled_counts() -> None:
    pytest.importorskip("PIL")
    sizes = (keys(), keys(max_image_side=64), keys(max_image_side=32))
    for source in (PNG, uri(PNG, "image/png"), "https://x/a.png"):
        request = make_request(picture(source), "m", {})
        assert len({name.digest(request) for name in sizes}) == 3


@pytest.mark.parametrize("content", ["a", [{"type": "audio_url", "audio_url": {"url": "https://x/a.wav"}}]])
def test_the_size_to_which_pictures_are_scaled_does_not_count_where_there_is_none(content: Any) -> None:
    pytest.importorskip("PIL")
    request = make_request([{"role": "user", "content": content}], "m", {})
    assert keys().digest(request) == keys(max_image_side=64).digest(request)


def test_a_digest_in_the_place_of_a_picture_is_not_that_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    name = keys()
    request = make_request(picture(path), "m", {})
    named = {"type": "image/png", "digest": hashlib.blake2b(PNG, digest_size=16).hexdigest()}
    (message,) = picture(path)
    parts = [message["content"][0], {"type": "image_url", "image_url": {"url": named}}]
    forged = replace(request, messages=[{**message, "content": parts}])
    assert name.digest(forged) != name.digest(request)


def test_parts_of_text_alone_need_no_second_digest() -> None:
    request = make_request([{"role": "user", "content": [{"type": "text", "text": "a"}]}], "m", {})
    assert keys().digest(request, digest_messages(request.messages)) == keys().digest(request)


# --- keys


def test_the_keys_of_equal_requests_differ_by_their_number() -> None:
    named = [cache_key(7, number) for number in range(12)] + [cache_key(8), cache_key((1 << 128) - 1, 3)]
    assert len(set(named)) == len(named)
    assert cache_key(7) == cache_key(7, 0) == "0" * 31 + "7"
    assert all(set(one) <= set("0123456789abcdef-") for one in named)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": -0.0}, True),
        ({}, False),
        ({"temperature": None}, False),
        ({"temperature": False}, False),
        ({"temperature": "0"}, False),
        ({"temperature": 0.1}, False),
        ({"seed": 0, "top_p": 0}, False),
        ({"generationConfig": {"temperature": 0}}, True),
        ({"generation_config": {"temperature": 0}}, True),
        ({"generationConfig": {"temperature": 1}}, False),
        ({"generationConfig": None}, False),
        ({"temperature": 0, "generationConfig": {"temperature": 1}}, False),
        ({"temperature": 0, "generationConfig": {"seed": 1}}, True),
    ],
)
def test_only_an_explicit_temperature_of_0_asks_for_one_answer(params: dict[str, Any], expected: bool) -> None:
    assert is_deterministic(ChatRequest([{"role": "user", "content": "a"}], "m", params)) is expected


# --- the public hash


def test_messages_hash_takes_messages_in_every_form() -> None:
    one = messages_hash("hello")
    assert one == messages_hash({"role": "user", "content": "hello"})
    assert one == messages_hash([{"content": "hello", "role": "user"}])
    assert len(one) == 32
    assert int(one, 16)


def test_messages_hash_tells_model_and_parameters_apart() -> None:
    named = [
        messages_hash("a"),
        messages_hash("b"),
        messages_hash("a", "any"),
        messages_hash("a", "gpt-4o"),
        messages_hash("a", temperature=0),
        messages_hash("a", temperature=1),
        messages_hash("a", response_format={"type": "json_object"}),
    ]
    assert len(set(named)) == len(named)


def test_messages_hash_changes_with_a_local_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    before = messages_hash(picture(path))
    assert before == messages_hash(picture(PNG))
    path.write_bytes(OTHER_PNG)
    assert messages_hash(picture(path)) != before


def test_messages_hash_says_what_is_wrong_with_messages() -> None:
    with pytest.raises(InputError, match="empty"):
        messages_hash([])
