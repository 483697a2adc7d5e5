"""Which provider is asked: by its name, by what a base URL tells, by the model's name."""

from __future__ import annotations

import json

import pytest

from flexllm.chat import ChatCompletionResult, Chunk
from flexllm.errors import ConfigError, InputError
from flexllm.providers import find_provider, thoughts_of

BY_URL = {
    "https://api.openai.com/v1": "openai",
    "https://api.deepseek.com": "openai",
    "https://api.deepseek.com/anthropic": "claude",
    "https://dashscope.aliyuncs.com/compatible-mode/v1": "openai",
    "http://localhost:11434/v1": "openai",
    "http://gpu-7:8000/v1/": "openai",
    "https://openrouter.ai/api/v1": "openai",
    "https://api.anthropic.com": "claude",
    "https://api.anthropic.com/": "claude",
    "https://api.anthropic.com/v1": "claude",
    "https://API.Anthropic.com/v1/": "claude",
    "https://gateway.example/anthropic": "claude",
    "https://gateway.example/anthropic/v1/": "claude",
    "https://generativelanguage.googleapis.com": "gemini",
    "https://generativelanguage.googleapis.com/v1beta": "gemini",
    "https://generativelanguage.googleapis.com/v1beta/openai": "openai",
    "https://generativelanguage.googleapis.com/v1beta/openai/": "openai",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google": "gemini",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi": "openai",
    "https://aiplatform.googleapis.com/v1/publishers/google": "gemini",
    "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/locations/eu/publishers/google": "gemini",
    "http://127.0.0.1:4000/v1beta": "gemini",
    "https://api.anthropic.com.evil.example/v1": "openai",
    "https://example.com/api.anthropic.com/v1": "openai",
}


@pytest.mark.parametrize("model", [None, "gpt-4o", "claude-sonnet-5-5", "gemini-3.8-flash"])
@pytest.mark.parametrize("base_url", BY_URL)
def test_what_a_base_url_tells_wins_over_the_models_name(base_url: str, model: str | None) -> None:
    provider, url = find_provider("auto", base_url, model)
    assert (provider.name, url) == (BY_URL[base_url], base_url)


BY_MODEL = {
    "claude-sonnet-5-5": "claude",
    "claude-haiku-4-5-20251001": "claude",
    "gemini-2.5-flash": "gemini",
    "gpt-6-luna": "openai",
    "deepseek-flash": "openai",
    "anthropic/claude-sonnet-5-5": "openai",
    "": "openai",
    None: "openai",
}


@pytest.mark.parametrize("base_url", [None, "", "http://127.0.0.1:8000", "https://gateway.example/"])
@pytest.mark.parametrize("model", BY_MODEL)
def test_a_base_url_that_tells_nothing_leaves_it_to_the_models_name(base_url: str | None, model: str | None) -> None:
    assert find_provider("auto", base_url, model)[0].name == BY_MODEL[model]


@pytest.mark.parametrize("model", BY_MODEL)
def test_a_gateway_with_a_path_speaks_openais_format_whatever_the_model(model: str | None) -> None:
    assert find_provider("auto", "https://gateway.example/v1", model)[0].name == "openai"


@pytest.mark.parametrize("name", ["openai", "gemini", "claude"])
def test_a_name_wins_over_everything(name: str) -> None:
    for base_url in (None, *BY_URL):
        provider, url = find_provider(name, base_url, "claude-sonnet-5-5")
        assert provider.name == name
        assert url == base_url or (base_url is None and url.startswith("https://"))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'antropic' is not known; there are: auto, claude, gemini, openai"):
        find_provider("antropic", None)


# --- thoughts ---------------------------------------------------------------------------------------------------------

OPENAI = {"choices": [{"message": {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}}]}
INLINE = {"choices": [{"message": {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}}]}
VLLM = {"choices": [{"message": {"content": "Yes.", "reasoning": "Hm."}}]}
CLAUDE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Yes."}],
}
GEMINI = {"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "Yes."}]}}]}
MESSAGE = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


@pytest.mark.parametrize(
    "data",
    [
        OPENAI,
        INLINE,
        VLLM,
        CLAUDE,
        GEMINI,
        MESSAGE,
        {"role": "model", **GEMINI["candidates"][0]["content"]},
        json.dumps(CLAUDE).encode(),
        "<think>Hm.</think>Yes.",
        ChatCompletionResult("Yes.", reasoning_content="Hm."),
        ChatCompletionResult("<think>Hm.</think>Yes."),
        ["<thi", "nk>H", "m.</th", "ink>", "Yes."],
        [Chunk(reasoning_content="H"), Chunk(reasoning_content="m."), Chunk(content="Yes.")],
        [Chunk(content="<think>Hm.</"), Chunk(content="think>Yes."), Chunk(finish_reason="stop")],
        [Chunk(content="x"), ChatCompletionResult("Yes.", reasoning_content="Hm.")],
    ],
    ids=repr,
)
def test_thoughts_are_found_wherever_they_stand(data: object) -> None:
    assert thoughts_of(data) == {"thought": "Hm.", "answer": "Yes."}  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [{}, {"model": "m"}, 1, None, b"Yes.", b"[1]", [1], [OPENAI], [None]])
def test_what_holds_no_thoughts_is_refused(data: object) -> None:
    with pytest.raises(InputError, match="thoughts are read from"):
        thoughts_of(data)  # type: ignore[arg-type]


def test_an_answer_without_thinking_is_all_answer() -> None:
    assert thoughts_of("Yes.") == {"thought": "", "answer": "Yes."}
    assert thoughts_of([]) == {"thought": "", "answer": ""}


def test_spoken_and_inline_thinking_are_both_there() -> None:
    both = ChatCompletionResult("<think>More.</think>Yes.", reasoning_content="Hm.")
    assert thoughts_of(both) == {"thought": "Hm.\n\nMore.", "answer": "Yes."}
