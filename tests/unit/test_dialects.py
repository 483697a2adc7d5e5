"""Whom a base URL belongs to, and what follows from that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flexllm.chat import ChatRequest
from flexllm.providers.openai import OpenAIProvider
from flexllm.providers.openai.dialects import DIALECTS, continuing_url, dialect_of
from flexllm.providers.openai.models import base_name, openai_powers
from flexllm.wire import Target

PLACES = {
    "https://api.openai.com/v1": "openai",
    "https://eu.api.openai.com/v1": "openai",
    "https://API.OpenAI.com:443/v1": "openai",
    "https://api.openai.com./v1": "openai",
    "https://mine.openai.azure.com/openai/v1": "azure",
    "https://api.deepseek.com": "deepseek",
    "https://api.deepseek.com/beta": "deepseek",
    "https://dashscope.aliyuncs.com/compatible-mode/v1": "dashscope",
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "dashscope",
    "https://api.siliconflow.cn/v1": "siliconflow",
    "https://api.siliconflow.com/v1": "siliconflow",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://api.moonshot.ai/v1": "moonshot",
    "https://api.moonshot.cn/v1": "moonshot",
    "https://api.z.ai/api/paas/v4": "zai",
    "https://open.bigmodel.cn/api/coding/paas/v4": "zai",
    "https://api.x.ai/v1": "xai",
    "https://api.mistral.ai/v1": "mistral",
    "https://api.groq.com/openai/v1": "groq",
    "https://api.together.xyz/v1": "together",
    "https://api.fireworks.ai/inference/v1": "fireworks",
    "https://api.cerebras.ai/v1": "cerebras",
    "https://api.minimax.io/v1": "minimax",
    "https://ark.cn-beijing.volces.com/api/v3": "doubao",
    "https://api.perplexity.ai": "perplexity",
    "https://generativelanguage.googleapis.com/v1beta/openai": "gemini",
    "https://api.anthropic.com/v1": "anthropic",
    "http://localhost:11434/v1": "ollama",
    "http://[::1]:11434/v1": "ollama",
    "https://ollama.com/v1": "ollama",
    "http://localhost:8000/v1": "vllm",
    "https://gateway.example/v1": "vllm",
    "https://notopenai.com/v1": "vllm",
    "https://api.openai.com.evil.example/v1": "vllm",
    "https://x.ai.example/v1": "vllm",
    "https://linux.ai/v1": "vllm",
    "http://127.0.0.1/api.openai.com/v1": "vllm",
}


@pytest.mark.parametrize(("base_url", "name"), PLACES.items())
def test_a_server_is_known_by_its_host_or_port(base_url: str, name: str) -> None:
    assert dialect_of(base_url).name == name
    assert dialect_of(base_url) is DIALECTS[name]


def test_every_dialect_has_a_server() -> None:
    assert set(PLACES.values()) == set(DIALECTS)


@pytest.mark.parametrize("no_url", ["", "nonsense", "http://[half", "http://host:99999/v1"])
def test_what_is_no_url_is_an_unknown_host(no_url: str) -> None:
    assert dialect_of(no_url).name == "vllm"


@pytest.mark.parametrize(
    ("base_url", "beta"),
    [
        ("https://api.deepseek.com", "https://api.deepseek.com/beta"),
        ("https://api.deepseek.com/v1", "https://api.deepseek.com/beta"),
        ("https://api.deepseek.com/beta", "https://api.deepseek.com/beta"),
    ],
)
def test_deepseek_continues_a_message_at_its_beta(base_url: str, beta: str) -> None:
    assert continuing_url(base_url) == beta


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-5.1", "gpt-5.1"),
        ("GPT-4o", "gpt-4o"),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", "gpt-4.1-mini-2025-04-14"),
        ("accounts/fireworks/models/glm-5", "glm-5"),
    ],
)
def test_a_models_name_is_taken_out_of_what_stands_around_it(model: str, name: str) -> None:
    assert base_name(model) == name


@pytest.mark.parametrize("model", ["gpt-oss-120b", "openai/gpt-oss-20b", "qwen3-8b", "my-deployment", "gpt-neo", "o"])
def test_other_makers_models_are_not_taken_for_openais(model: str) -> None:
    assert openai_powers(model) is None


def test_who_fetches_what() -> None:
    provider = OpenAIProvider()

    def wants(name: str) -> Any:
        return provider.media(Target(base_url=next(url for url, whose in PLACES.items() if whose == name)))

    assert wants("ollama").inline_remote == {"image", "audio"}
    assert wants("ollama").image_types == {"image/jpeg", "image/png", "image/webp"}
    assert wants("openai").inline_remote == {"audio", "file"}
    assert wants("openrouter").inline_remote == {"audio"}
    assert wants("dashscope").audio_as_uri
    assert wants("dashscope").inline_remote == wants("vllm").inline_remote == frozenset()


@pytest.mark.parametrize("base_url", PLACES)
def test_a_plain_request_is_the_same_for_every_server(base_url: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Well?"},
    ]
    params = {"stop": ["\n"], "max_tokens": 9, "top_k": 4, "service_tier": "auto"}
    built = OpenAIProvider().build(ChatRequest(messages, "some-model", params), Target(base_url=base_url), stream=False)
    assert json.loads(built.body) == {"model": "some-model", "messages": messages, **params}
    assert built.url == f"{base_url}/chat/completions"


def test_targets_that_differ_in_the_key_alone_do_not_mix() -> None:
    provider, request = OpenAIProvider(), ChatRequest([{"role": "user", "content": "Hi"}], "m")
    for key in ("one", "two", "one"):
        headers = dict(provider.build(request, Target(base_url="http://h/v1", api_key=key), stream=False).headers)
        assert headers["Authorization"] == f"Bearer {key}"
        streamed = dict(provider.build(request, Target(base_url="http://h/v1", api_key=key), stream=True).headers)
        assert (headers["Accept"], streamed["Accept"]) == ("application/json", "text/event-stream")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.siliconflow.cn/v1", "https://api.siliconflow.cn/v1/models?type=text&sub_type=chat"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1/models"),
    ],
)
def test_siliconflow_is_asked_for_models_that_chat(base_url: str, url: str) -> None:
    assert OpenAIProvider().models_request(Target(base_url=base_url), None).url == url
