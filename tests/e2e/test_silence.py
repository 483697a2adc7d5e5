"""What goes well says nothing: no text for people is made, or looked up, for a request that is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from gettext import NullTranslations
from pathlib import Path
from typing import Any

import pytest
from foreign import speak

from flexllm import CostTrackerConfig, LLMClient, LLMClientPool, ResponseCacheConfig
from flexllm.media.inline import inline_messages
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaOptions, MediaWants
from flexllm.media.parts import as_messages
from flexllm.media.sources import encoded
from flexllm.mock import MockServer, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Eavesdropper(NullTranslations):
    """Has no texts, and writes down which are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def gettext(self, message: str) -> str:
        self.heard.append(message)
        return message

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        self.heard.append(msgid2)
        return msgid1 if n == 1 else msgid2


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    listener = Eavesdropper()
    speak(monkeypatch, listener)
    return listener.heard


def options(server: MockServer, **more: Any) -> dict[str, Any]:
    return {"model": "mock-model", "base_url": server.base_url, **more}


def completion(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()


def test_the_eavesdropper_hears_what_goes_wrong(heard: list[str]) -> None:
    with pytest.raises(ValueError, match="retry_times"):
        LLMClient("m", base_url="http://127.0.0.1:1", retry_times=-1)
    assert len(heard) == 1


def test_an_answer_makes_no_text(server: MockServer, heard: list[str], tmp_path: Path) -> None:
    more = {
        "cache": ResponseCacheConfig(enabled=True, cache_dir=str(tmp_path)),
        "cost_tracker": CostTrackerConfig(budget_limit=10.0),
        "price": "1,2",
        "max_qps": 1000,
    }
    with LLMClient(**options(server, **more)) as client:
        first = client.chat_completions_sync("Hello", return_raw=True)
        again = client.chat_completions_sync("Hello", return_raw=True)
    assert (first.cached, again.cached) == (False, True)
    assert heard == []


def test_a_stream_makes_no_text(server: MockServer, heard: list[str]) -> None:
    with LLMClient(**options(server)) as client:
        assert "".join(client.chat_completions_stream_sync("Hello"))
    assert heard == []


@pytest.mark.parametrize("form", ["path", "URI", "base64", "bytes"])
def test_a_medium_makes_no_text(heard: list[str], tmp_path: Path, form: str) -> None:
    path, uri = tmp_path / "a.png", encoded(PNG, "image/png")
    path.write_bytes(PNG)
    source = {"path": path, "URI": uri, "base64": uri.partition(",")[2], "bytes": PNG}[form]
    messages = as_messages([{"role": "user", "content": ["What is this?", {"type": "image", "image": source}]}])
    with_media = inline_messages(messages, MediaStore(MediaOptions()), MediaWants())
    assert with_media[0]["content"][1] == {"type": "image_url", "image_url": {"url": uri}}
    assert heard == []


@dataclass
class Cat:
    lives: int


@dataclass
class Dog:
    tricks: list[str]


@pytest.mark.parametrize(
    "reply", ['{"lives": 9}', '```json\n{"tricks": ["sit"]}\n```', '<think>{no</think>{"lives": 9}']
)
def test_a_value_makes_no_text_even_where_one_form_of_several_fits(
    server: MockServer, heard: list[str], reply: str
) -> None:
    server.set_script([Reply(body=completion(reply))])
    with LLMClient(**options(server)) as client:
        parsed = client.chat_completions_sync("Which?", response_format=Cat | Dog, return_raw=True).parsed
    assert isinstance(parsed, (Cat, Dog))
    assert heard == []


def test_a_pool_makes_no_text(server: MockServer, heard: list[str]) -> None:
    with MockServer() as other:
        endpoints = [options(server), options(other)]
        with LLMClientPool(endpoints=endpoints, load_balance="round_robin") as pool:
            for _unused in range(4):
                pool.chat_completions_sync("Hello")
    assert heard == []


@pytest.mark.parametrize("body", [b"a chunk", b"several chunks " * 2_000])
def test_a_reply_in_chunks_makes_no_text(body: bytes, heard: list[str]) -> None:
    from flexllm.http1 import Reply as Wire

    half = len(body) // 2
    chunk = (b"%x" % len(body), b"\r\n", body[:half], body[half:], b"\r\n0\r", b"\n\r\n")
    pieces = iter((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *chunk))
    assert Wire(lambda: next(pieces, b"")).body() == body
    assert heard == []
