"""OpenAI's chat completions and their dialects, where payloads would say it badly: tables, rules, streams and wholes."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.chat import ChatCompletionResult, ChatRequest, collect
from flexllm.errors import InputError
from flexllm.messages import normalise_messages
from flexllm.providers.openai import OpenAIProvider
from flexllm.providers.openai.dialects import DIALECTS
from flexllm.providers.thinking import LEVELS
from flexllm.sse import ServerSentEvent
from flexllm.wire import HttpResponse, Target

PROVIDER = OpenAIProvider()
URLS = {
    "openai": "https://api.openai.com/v1",
    "azure": "https://mine.openai.azure.com/openai/v1",
    "deepseek": "https://api.deepseek.com",
    "dashscope": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "siliconflow": "https://api.siliconflow.cn/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "moonshot": "https://api.moonshot.ai/v1",
    "zai": "https://api.z.ai/api/paas/v4",
    "xai": "https://api.x.ai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "together": "https://api.together.xyz/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "minimax": "https://api.minimax.io/v1",
    "doubao": "https://ark.cn-beijing.volces.com/api/v3",
    "perplexity": "https://api.perplexity.ai",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "anthropic": "https://api.anthropic.com/v1",
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://gpu.example:8000/v1",
}
HI = [{"role": "user", "content": "Hi"}]


def built(who: str, model: str, messages: Any = None, *, stream: bool = False, **params: Any) -> dict[str, Any]:
    request = ChatRequest(messages or HI, model, params)
    body: dict[str, Any] = json.loads(PROVIDER.build(request, Target(base_url=URLS[who]), stream=stream).body)
    return body


def tried(who: str, model: str, messages: Any = None, **params: Any) -> dict[str, Any] | str:
    """The body, or why there is none: one line."""
    try:
        return built(who, model, messages, **params)
    except InputError as error:
        return str(error)


def said(who: str, model: str, thinking: Any, **params: Any) -> dict[str, Any] | None:
    """What stands in a request because of `thinking`; None where it is refused."""
    body = tried(who, model, thinking=thinking, **params)
    if isinstance(body, str):
        assert "thinking" in body
        return None
    return {word: value for word, value in body.items() if word not in ("model", "messages", *params)}


def test_every_dialect_is_asked_here() -> None:
    assert URLS.keys() == DIALECTS.keys()


# --- OpenAI's models: one row for each line of the table in its documentation -------------------------------------------

LOW_MAX = "low medium high xhigh max"
MODELS = [  # model, strengths, whether it thinks by default, whether it can be turned off
    ("gpt-6.2-astra", LOW_MAX, True, False),
    ("gpt-6.2-sol", LOW_MAX, True, False),
    ("gpt-6-astra", LOW_MAX, True, False),
    ("gpt-6.1-sol", LOW_MAX, True, False),
    ("gpt-6.1-terra", LOW_MAX, True, True),
    ("gpt-6-sol", LOW_MAX, True, True),
    ("gpt-6-luna", LOW_MAX, True, True),
    ("gpt-6-luna-2026-06-01", LOW_MAX, True, True),
    ("gpt-5.6", "low medium high xhigh", True, True),
    ("gpt-5.6-mini", "low medium high xhigh", True, True),
    ("gpt-5.5", "low medium high xhigh", True, True),
    ("gpt-5.5-pro", "medium high xhigh", True, False),
    ("gpt-5.4-pro", "medium high xhigh", True, False),
    ("gpt-5.2-pro", "medium high xhigh", True, False),
    ("gpt-5.4", "low medium high xhigh", False, True),
    ("gpt-5.4-nano", "low medium high xhigh", False, True),
    ("gpt-5.3", "low medium high xhigh", False, True),
    ("gpt-5.2-2025-12-11", "low medium high xhigh", False, True),
    ("gpt-5.1", "low medium high", False, True),
    ("gpt-5.1-chat-latest", "medium", True, False),
    ("gpt-5", "minimal low medium high", True, False),
    ("gpt-5-mini", "minimal low medium high", True, False),
    ("gpt-5-nano-2025-08-07", "minimal low medium high", True, False),
    ("gpt-5-pro", "high", True, False),
    ("o1", "low medium high", True, False),
    ("o3", "low medium high", True, False),
    ("o3-mini", "low medium high", True, False),
    ("o4-mini-2025-04-16", "low medium high", True, False),
    ("gpt-7-astra", LOW_MAX, True, False),  # the newest known stands for those to come
    ("gpt-7-luna", LOW_MAX, True, True),
]
OLDER = [
    "gpt-4.1",
    "gpt-4o",
    "gpt-4o-mini-2024-07-18",
    "gpt-4",
    "gpt-3.5-turbo",
    "chatgpt-4o-latest",
    "gpt-5-chat-latest",
]


@pytest.mark.parametrize("who", ["openai", "azure"])
@pytest.mark.parametrize(("model", "levels", "by_default", "can_stop"), MODELS)
def test_openais_models_are_told_what_they_can(
    who: str, model: str, levels: str, by_default: bool, can_stop: bool
) -> None:
    known = levels.split()
    assert said(who, model, None) == {}
    assert said(who, model, False) == ({"reasoning_effort": "none"} if can_stop else None)
    assert said(who, model, 0) == said(who, model, "none") == said(who, model, False)
    assert said(who, model, True) == ({} if by_default else {"reasoning_effort": "medium"})
    assert said(who, model, 1024) is None
    for number, level in enumerate(LEVELS):
        nearest = next((one for one in LEVELS[number:] if one in known), known[-1])
        assert said(who, model, level) == {"reasoning_effort": nearest}
    assert said(who, f"openai/{model}", "high") == said(who, model, "high")


@pytest.mark.parametrize("model", OLDER)
def test_models_that_never_think_are_told_nothing_and_take_everything(model: str) -> None:
    assert said("openai", model, False) == {}
    assert said("openai", model, True) is said("openai", model, "low") is said("openai", model, 9) is None
    given = {"max_tokens": 9, "temperature": 0, "stop": "x", "logprobs": True}
    assert said("openai", model, None, **given) == {}


@pytest.mark.parametrize(("model", "by_default", "can_stop"), [(row[0], row[2], row[3]) for row in MODELS])
def test_sampling_is_refused_exactly_while_a_model_thinks(model: str, by_default: bool, can_stop: bool) -> None:
    def takes(**params: Any) -> bool:
        return isinstance(tried("openai", model, **params), dict)

    assert takes(top_p=0.5) is not by_default
    assert takes(top_p=0.5, reasoning_effort="none")
    assert not takes(top_p=0.5, reasoning_effort="high")
    assert not takes(top_p=0.5, thinking="high")
    if can_stop:
        assert takes(top_p=0.5, thinking=False)
    assert built("openai", model, max_tokens=5)["max_completion_tokens"] == 5
    assert "top_p" not in built("openai", model, top_p=None, thinking="high")


@pytest.mark.parametrize(
    ("word", "value", "neutral"),
    [
        ("temperature", 0, 1),
        ("top_p", 0.9, 1.0),
        ("presence_penalty", 0.5, 0),
        ("frequency_penalty", -1, 0.0),
        ("logprobs", True, False),
        ("top_logprobs", 2, None),
        ("logit_bias", {"5": 1}, {}),
    ],
)
def test_each_sampling_parameter_is_refused_by_name_or_dropped(word: str, value: Any, neutral: Any) -> None:
    with pytest.raises(InputError, match=f"o3 takes no {word} while it thinks"):
        built("openai", "o3", **{word: value})
    assert built("openai", "o3", **{word: neutral}) == built("openai", "o3")
    assert built("vllm", "o3", **{word: value})[word] == value  # somebody else's server


# --- the others ---------------------------------------------------------------------------------------------------------

ENABLED, DISABLED = {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}
TABLE: list[tuple[str, str, Any, dict[str, Any] | None]] = [
    ("deepseek", "deepseek-v4-pro", False, DISABLED),
    ("deepseek", "deepseek-v4-pro", True, ENABLED),
    *(
        ("deepseek", "deepseek-v4-pro", given, {**ENABLED, "reasoning_effort": sent})
        for given, sent in (("minimal", "low"), ("low", "low"), ("medium", "high"), ("high", "high"), ("max", "max"))
    ),
    ("dashscope", "qwen3.5-plus", True, {"enable_thinking": True}),
    ("dashscope", "qwen3.5-plus", "minimal", {"enable_thinking": True, "thinking_budget": 1024}),
    ("dashscope", "qwen3.5-plus", "max", {"enable_thinking": True, "thinking_budget": 32768}),
    ("dashscope", "qwq-plus", False, None),
    ("dashscope", "qwen3-8b", True, None),
    ("dashscope", "qwen3-30b-a3b", "low", None),
    ("dashscope", "qwen3-8b", False, {"enable_thinking": False}),
    ("dashscope", "qwen3-max", True, {"enable_thinking": True}),
    ("siliconflow", "zai-org/GLM-5.1", "xhigh", {"enable_thinking": True, "reasoning_effort": "max"}),
    ("siliconflow", "Qwen/Qwen3-8B", 32769, None),
    ("siliconflow", "Qwen/Qwen3-8B", 128, {"enable_thinking": True, "thinking_budget": 128}),
    ("moonshot", "kimi-k2.5", False, DISABLED),
    ("moonshot", "kimi-k2.6", True, ENABLED),
    ("moonshot", "kimi-k2.6", "low", None),
    ("moonshot", "kimi-k3", False, None),
    ("moonshot", "kimi-k3", True, {}),
    ("moonshot", "kimi-k3", "minimal", {"reasoning_effort": "low"}),
    ("moonshot", "kimi-k4", "xhigh", {"reasoning_effort": "max"}),
    ("moonshot", "kimi-k2-thinking", False, None),
    ("moonshot", "kimi-k2-0905-preview", False, {}),
    ("moonshot", "moonshot-v1-8k", True, None),
    ("zai", "glm-4.6", False, DISABLED),
    ("zai", "glm-5", "high", None),
    ("zai", "glm-5.1", True, ENABLED),
    ("zai", "glm-5.2", False, DISABLED),
    ("zai", "glm-5.2", "medium", {**ENABLED, "reasoning_effort": "high"}),
    ("zai", "glm-5.3", False, None),
    ("zai", "glm-5.3", "low", {**ENABLED, "reasoning_effort": "low"}),
    ("zai", "glm-4-plus", True, None),
    ("zai", "glm-4.1v-thinking-flash", False, None),
    ("xai", "grok-4.3", False, {"reasoning_effort": "none"}),
    ("xai", "grok-4.3", "xhigh", {"reasoning_effort": "high"}),
    ("xai", "grok-4.5", False, None),
    ("xai", "grok-4.6", "minimal", {"reasoning_effort": "low"}),
    ("xai", "grok-4.7", "xhigh", {"reasoning_effort": "xhigh"}),
    ("xai", "grok-5", "max", {"reasoning_effort": "xhigh"}),
    ("xai", "grok-4", True, {}),
    ("xai", "grok-4-0709", False, None),
    ("xai", "grok-4-1-fast-non-reasoning", False, {}),
    ("xai", "grok-4-1-fast-non-reasoning", True, None),
    ("xai", "grok-3", False, {}),
    ("xai", "grok-3-mini", "low", None),
    ("mistral", "mistral-medium-latest", "low", {"reasoning_effort": "high"}),
    ("mistral", "magistral-small-latest", "high", None),
    ("mistral", "magistral-small-latest", False, None),
    ("groq", "qwen/qwen3-32b", False, {"reasoning_effort": "none"}),
    ("groq", "openai/gpt-oss-20b", "max", {"reasoning_effort": "high"}),
    ("together", "zai-org/GLM-5", True, {"reasoning": {"enabled": True}}),
    ("fireworks", "accounts/fireworks/models/glm-5", "xhigh", {"reasoning_effort": "high"}),
    ("cerebras", "gpt-oss-120b", "low", {"reasoning_effort": "low"}),
    ("minimax", "MiniMax-M2.5", True, {"reasoning_split": True}),
    ("minimax", "MiniMax-M2.5", "low", None),
    ("doubao", "doubao-seed-2-0-pro", True, ENABLED),
    ("doubao", "ep-20260101-abcde", "minimal", {**ENABLED, "reasoning_effort": "low"}),
    ("perplexity", "sonar-reasoning-pro", False, None),
    ("perplexity", "sonar", False, {}),
    ("gemini", "gemini-2.5-flash", "max", {"reasoning_effort": "high"}),
    ("gemini", "gemini-3.8-flash", False, None),
    ("gemini", "gemini-2.0-flash", False, {}),
    ("gemini", "meta/llama-4", False, {"reasoning_effort": "none"}),
    ("anthropic", "claude-haiku-4-5", False, DISABLED),
    ("anthropic", "claude-haiku-4-5", True, {"thinking": {"type": "enabled", "budget_tokens": 10_000}}),
    ("anthropic", "claude-haiku-4-5", 1023, None),
    ("ollama", "gpt-oss:20b", "medium", {"reasoning_effort": "medium"}),
    ("ollama", "qwen3:4b", True, {}),
    ("ollama", "qwen3:4b", 100, None),
    ("openrouter", "x/y", 0, {"reasoning": {"enabled": False}}),
    ("openrouter", "x/y", "MAX", {"reasoning": {"effort": "max"}}),
    ("vllm", "openai/gpt-oss-120b", "max", {"reasoning_effort": "high"}),
    ("vllm", "google/gemma-4-31b", "low", {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": True}}),
    ("vllm", "ibm-granite/granite-4.1", False, {"chat_template_kwargs": {"thinking": False}}),
    ("vllm", "deepseek-ai/DeepSeek-V3.1", 500, {"thinking_token_budget": 500, "chat_template_kwargs": {"thinking": True}}),
    ("vllm", "gpt-5.1", True, {"reasoning_effort": "medium"}),
    ("vllm", "gpt-6-astra", False, None),
]  # fmt: skip


@pytest.mark.parametrize(("who", "model", "thinking", "expected"), TABLE)
def test_each_server_is_told_to_think_in_its_own_words(
    who: str, model: str, thinking: Any, expected: dict[str, Any] | None
) -> None:
    assert said(who, model, thinking) == expected


@pytest.mark.parametrize("who", URLS)
@pytest.mark.parametrize("thinking", [None, False, True, *LEVELS, 2048, {"type": "enabled"}])
def test_any_thinking_is_said_or_refused_and_never_left_as_it_was(who: str, thinking: Any) -> None:
    fields = said(who, "some-model", thinking)
    if thinking is None:
        assert fields == {}
    elif fields is not None:
        assert isinstance(fields.get("thinking", {}), dict)


@pytest.mark.parametrize("who", URLS)
@pytest.mark.parametrize("native", ["reasoning_effort", "enable_thinking", "thinking_budget", "reasoning"])
def test_thinking_and_a_native_field_for_it_are_one_too_many(who: str, native: str) -> None:
    given: dict[str, Any] = {native: "low"}
    with pytest.raises(InputError, match=f"thinking and {native} are both given"):
        built(who, "some-model", thinking=True, **given)
    assert built(who, "some-model", thinking=None, **given)[native] == "low"


REFUSED_PARTS = {
    "image_url": "",
    "input_audio": "deepseek",
    "audio_url": "deepseek",
    "video_url": "openai azure deepseek ollama",
    "video": "openai azure deepseek ollama openrouter",
    "file": "azure deepseek dashscope ollama vllm",
}
WHOLE_PARTS: dict[str, Any] = {
    "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
    "input_audio": {"data": "SUQz", "format": "mp3"},
    "audio_url": {"url": "data:audio/mp3;base64,SUQz"},
    "video_url": {"url": "data:video/mp4;base64,AAAA"},
    "video": ["https://media.example/1.jpg"],
    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
}


@pytest.mark.parametrize("kind", REFUSED_PARTS)
@pytest.mark.parametrize("who", URLS)
def test_a_part_is_refused_by_the_servers_that_do_not_take_it(who: str, kind: str) -> None:
    messages = [{"role": "user", "content": [{"type": kind, kind: WHOLE_PARTS[kind]}]}]
    body = tried(who, "some-model", messages)
    assert isinstance(body, str) is (who in REFUSED_PARTS[kind].split())
    assert isinstance(body, dict) or f"takes no part of type {kind!r}" in body


@pytest.mark.parametrize("who", URLS)
def test_the_developer_is_named_where_that_role_is_known(who: str) -> None:
    sent = built(who, "some-model", [{"role": "developer", "content": "Be brief."}, *HI])["messages"][0]["role"]
    assert sent == ("developer" if who in ("openai", "azure", "openrouter") else "system")


STRENGTHS = {  # of models of which nothing more is known
    **dict.fromkeys(("groq", "together", "fireworks", "cerebras", "doubao", "perplexity"), "low medium high"),
    **dict.fromkeys(("deepseek", "moonshot"), "low high max"),
    **dict.fromkeys(("openrouter", "vllm", "openai", "azure"), "minimal low medium high xhigh max"),
    "ollama": "low medium high max",
    "gemini": "minimal low medium high",
    "mistral": "high",
}


@pytest.mark.parametrize("who", STRENGTHS)
def test_a_strength_that_a_server_does_not_know_becomes_the_next_that_it_does(who: str) -> None:
    known = STRENGTHS[who].split()
    for number, level in enumerate(LEVELS):
        nearest = next((one for one in LEVELS[number:] if one in known), known[-1])
        fields = said(who, "some-model", level) or {}
        assert fields.get("reasoning_effort") == nearest or fields.get("reasoning") == {"effort": nearest}


@pytest.mark.parametrize(("word", "value"), [("logprobs", True), ("top_logprobs", 2), ("logit_bias", {"5": 1})])
def test_mistral_is_not_sent_what_it_would_refuse(word: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"Mistral has no {word}"):
        built("mistral", "mistral-medium-latest", **{word: value})


FOREIGN = {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}], "annotations": []}


@pytest.mark.parametrize(
    ("who", "left"),
    [("openai", {"annotations"}), ("azure", {"annotations"}), ("mistral", set()), ("vllm", set(FOREIGN))],
)
def test_fields_of_other_servers_replies_are_left_out_where_they_are_refused(who: str, left: set[str]) -> None:
    said = {"role": "assistant", "content": "Yes"}
    sent = built(who, "m", [*HI, {**said, **FOREIGN}, *HI])["messages"][1]
    assert sent == {**said, **{word: FOREIGN[word] for word in left}}


@pytest.mark.parametrize("word", ["think", "format", "options", "keep_alive", "chat_template_kwargs", "n"])
def test_ollama_is_not_sent_what_it_would_ignore(word: str) -> None:
    with pytest.raises(InputError, match=f"Ollama has no {word}"):
        built("ollama", "qwen3:4b", **{word: {"a": 1}})
    assert word not in built("ollama", "qwen3:4b", **{word: None})
    assert built("groq", "qwen3:4b", **{word: {"a": 1}})[word] == {"a": 1}


@pytest.mark.parametrize("nonsense", ["", "lots", -1, 1.5, [], object()])
def test_what_is_no_thinking_at_all_is_refused(nonsense: Any) -> None:
    with pytest.raises(InputError, match="is not understood"):
        built("vllm", "m", thinking=nonsense)


# --- conversations: any of valid messages -------------------------------------------------------------------------------

TEXT = st.sampled_from(["", "Hi", "Grüße, 世界", " "])
PARTS = st.sampled_from(
    [
        "bare",
        {"type": "text", "text": "Hi"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": "https://media.example/a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,UklGRg=="}},
        {"type": "video_url", "video_url": {"url": "https://media.example/a.mp4"}},
        {"type": "video", "video": ["https://media.example/1.jpg"]},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "file", "file": None},
        {"type": "brand_new"},
        {},
    ]
)
CONTENT = st.one_of(TEXT, st.lists(PARTS, max_size=3))
PREFIX = st.sampled_from([{}, {}, {}, {"prefix": True}, {"prefix": False}])
NATIVE = st.sampled_from(
    [
        {},
        {"native": None},
        {"native": {"openai": [{"type": "reasoning.text", "text": "a"}], "claude": [1]}},
        {"native": 3},
    ]
)
REASONING = st.sampled_from([{}, {"reasoning_content": "Hm."}, {"reasoning_content": None}, {"reasoning": "Own."}])
CALLS = st.sampled_from(
    [
        {},
        {"tool_calls": None},
        {"tool_calls": []},
        *(
            {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}]}
            for arguments in ("{}", "", None, {"a": 1}, "{broken")
        ),
        {"tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
        {"tool_calls": [{}, None]},
    ]
)


def merged(*pieces: dict[str, Any]) -> dict[str, Any]:
    return {word: value for piece in pieces for word, value in piece.items()}


TURNS = st.lists(
    st.one_of(
        st.builds(lambda text: {"role": "system", "content": text}, CONTENT),
        st.builds(lambda text: {"role": "developer", "content": text}, TEXT),
        st.builds(lambda content, prefix: {"role": "user", "content": content, **prefix}, CONTENT, PREFIX),
        st.builds(
            lambda content, *more: merged({"role": "assistant", "content": content}, *more),
            st.one_of(st.none(), CONTENT),
            CALLS,
            NATIVE,
            REASONING,
            PREFIX,
        ),
        st.builds(lambda text: {"role": "tool", "tool_call_id": "call_1", "content": text}, TEXT),
    ),
    min_size=1,
    max_size=5,
)


def check_messages(who: str, asked: list[dict[str, Any]], body: dict[str, Any]) -> None:
    """The rules that every server has, and those of this one."""
    dialect, sent = DIALECTS[who], body["messages"]
    assert sent
    texts = [one["role"] for one in asked if one["role"] not in ("system", "developer")]
    assert [one["role"] for one in sent if one["role"] not in ("system", "developer")] == texts
    for position, one in enumerate(sent):
        assert "native" not in one
        assert one["role"] != "developer" or dialect.has_developer
        assert one.get("tool_calls", True), "an empty list of calls"
        content = one.get("content")
        assert content is not None or one.get("tool_calls") or one.get("refusal")
        assert content != []
        for part in content if isinstance(content, list) else ():
            assert isinstance(part, dict)
            assert part.get("type") not in dialect.refused_parts
            if part.get("type") == "image_url":
                assert ":" in part["image_url"]["url"]
        for call in one.get("tool_calls", ()):
            function = call.get("function") if call else None
            assert function is None or (isinstance(function["arguments"], str) and function["arguments"])
        if "prefix" in one or "partial" in one:
            assert position == len(sent) - 1
            assert one["role"] == "assistant"
            assert dialect.prefix in one
        if dialect.reasoning_back is None:
            assert "reasoning_content" not in one
        if "reasoning_details" in one:
            assert dialect.details_back
    if dialect.one_system:
        plain = [one["role"] == "system" and isinstance(one["content"], str) for one in sent[:2]]
        assert plain != [True, True] or any(len(one) != 2 for one in sent[:2])


@pytest.mark.slow
@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from(sorted(URLS)), TURNS)
def test_any_conversation_is_sent_by_the_servers_rules_or_refused(who: str, messages: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(messages)
    body = tried(who, "some-model", messages)
    if isinstance(body, dict):
        check_messages(who, before, body)
    else:
        assert "\n" not in body
        assert len(body) < 400
    assert messages == before


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "thinking": st.sampled_from([None, True, False, "low", 500, {"type": "enabled"}]),
        "max_tokens": st.sampled_from([None, 100, 1000]),
        "max_completion_tokens": st.sampled_from([None, 100, 1000]),
        "temperature": st.sampled_from([None, 0, 1]),
        "seed": st.sampled_from([None, 7]),
        "n": st.sampled_from([None, 1, 2]),
        "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
        "tool_choice": st.sampled_from([None, "auto", "none", "required", {"type": "function"}]),
        "response_format": st.sampled_from(
            [None, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}, "junk"]
        ),
        "reasoning_effort": st.sampled_from([None, "low"]),
        "chat_template_kwargs": st.sampled_from([None, {}, {"thinking": False}, "junk"]),
        "logprobs": st.booleans(),
    },
)
MODEL = st.sampled_from(["gpt-5", "gpt-6-luna", "gpt-4o", "deepseek-flash", "qwen3-8b", "kimi-k3", "some-model"])


@pytest.mark.slow
@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from(sorted(URLS)), MODEL, PARAMS, st.booleans())
def test_any_parameters_are_sent_as_the_server_knows_them_or_refused(
    who: str, model: str, params: dict[str, Any], stream: bool
) -> None:
    before = copy.deepcopy(params)
    body = tried(who, model, stream=stream, **params)
    if isinstance(body, str):
        assert len(body) < 400
    else:
        dialect = DIALECTS[who]
        assert isinstance(body.get("thinking", {}), dict)
        assert not set(dialect.renamed) & body.keys()
        assert not set(dialect.refused_words) & body.keys()
        assert ("stream_options" in body) == (stream and dialect.stream_options)
        for word in ("max_tokens", "max_completion_tokens"):  # what was asked is there, by one name or the other
            if params.get(word):
                assert params[word] in (body.get("max_tokens"), body.get("max_completion_tokens")) or (
                    params.get("max_tokens") and params.get("max_completion_tokens")
                )
    assert params == before


# --- replies ------------------------------------------------------------------------------------------------------------


def parse(body: dict[str, Any], headers: dict[str, str] | None = None) -> ChatCompletionResult:
    return PROVIDER.parse(HttpResponse(200, headers or {}, json.dumps(body).encode()))


def message_of(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice]}


def test_a_call_without_id_has_the_same_one_every_time_and_another_in_another_reply() -> None:
    calls = [{"type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fg"]
    bodies = [{**message_of(tool_calls=calls), "id": one} for one in ("chatcmpl-1", "chatcmpl-2", None, 7)]
    ids = [[call.id for call in parse(body).tool_calls or ()] for body in bodies]
    assert ids == [[call.id for call in parse(body).tool_calls or ()] for body in bodies]
    flat = [one for row in ids for one in row]
    assert len(set(flat)) == len(flat) == 8
    assert all(one.startswith("made_") for one in flat)


@pytest.mark.parametrize(
    ("who", "fields"),
    [
        ("deepseek", {"reasoning_content": "Hm."}),
        ("moonshot", {"reasoning_content": "Hm."}),
        ("openrouter", {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
        ("ollama", {"reasoning": "Hm."}),
        ("vllm", {"reasoning": "Hm.", "reasoning_content": "Hm."}),
        ("openai", {}),
        ("groq", {}),
    ],
)
def test_a_turn_goes_back_as_its_server_wants_it(who: str, fields: dict[str, Any]) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    result = parse(message_of(content=None, reasoning="Hm.", reasoning_details=details, tool_calls=[call]))
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    sent = built(who, "some-model", [*HI, result.assistant_message, answer])["messages"]
    assert sent[1] == {"role": "assistant", "content": None, "tool_calls": [call], **fields}
    assert sent[2] == answer


def test_the_first_of_the_headers_that_name_a_request_does() -> None:
    body = message_of(content="Hi")
    assert parse(body, {"x-generation-id": "g", "x-request-id": "r"}).request_id == "r"
    assert parse(body, {"x-generation-id": "g", "x-ds-trace-id": "d"}).request_id == "d"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_body_in_another_encoding_of_json_is_read_too(encoding: str) -> None:
    body = json.dumps(message_of(content="Grüße")).encode(encoding)
    assert PROVIDER.parse(HttpResponse(200, {}, body)).content == "Grüße"


# --- a stream is the whole in pieces ------------------------------------------------------------------------------------

PIECES = st.lists(st.sampled_from(["a", "b ", "ü", "\n", ""]), max_size=4)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "function_call", "sensitive", "eos", "brand_new", "error"])
USAGES = st.sampled_from(
    [
        None,
        {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 16,
         "completion_tokens_details": {"reasoning_tokens": 5}, "prompt_tokens_details": {"cached_tokens": 3}},
        {"prompt_tokens": None, "completion_tokens": "2", "cached_tokens": None},
    ]
)  # fmt: skip
ANSWERS = st.fixed_dictionaries(
    {
        "content": PIECES,
        "refusal": PIECES,
        "reasoning": PIECES,
        "field": st.sampled_from(["reasoning", "reasoning_content"]),
        "calls": st.lists(st.tuples(st.sampled_from([None, "id"]), PIECES), max_size=2),
        "details": st.lists(PIECES.filter(any), max_size=2),
        "reason": REASONS,
        "native": st.sampled_from([None, "end_turn"]),
        "usage": USAGES,
    }
)


def whole_of(answer: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer["content"]) or None}
    message["refusal"] = "".join(answer["refusal"]) or None if not message["content"] else None
    message[answer["field"]] = "".join(answer["reasoning"]) or None
    if answer["calls"]:
        message["tool_calls"] = [
            {"id": call_id and f"{call_id}{number}", "type": "function",
             "function": {"name": "f", "arguments": "".join(arguments)}}
            for number, (call_id, arguments) in enumerate(answer["calls"])
        ]  # fmt: skip
    if answer["details"]:
        message["reasoning_details"] = [
            {"type": "reasoning.text", "index": number, "text": "".join(pieces)}
            for number, pieces in enumerate(answer["details"])
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer["reason"]}
    if answer["native"]:
        choice["native_finish_reason"] = answer["native"]
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": answer["usage"]}


def deltas_of(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    if any(answer["reasoning"]) or not answer["details"]:
        for piece in answer["reasoning"]:
            yield {answer["field"]: piece}
    for number, pieces in enumerate(answer["details"]):
        for piece in pieces:
            detail = {"type": "reasoning.text", "index": number, "text": piece}
            yield {"reasoning_details": [detail]}
    for piece in answer["content"]:
        yield {"content": piece}
    for piece in answer["refusal"] if not any(answer["content"]) else ():
        yield {"refusal": piece}
    for number, (call_id, arguments) in enumerate(answer["calls"]):
        name = {"name": "f", "arguments": ""}
        yield {"tool_calls": [{"index": number, "id": call_id and f"{call_id}{number}", "function": name}]}
        for piece in arguments:
            yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def stream_of(answer: dict[str, Any]) -> Iterator[ServerSentEvent]:
    def event(choices: list[Any], usage: Any = None) -> ServerSentEvent:
        return ServerSentEvent("", json.dumps({"id": "chatcmpl-1", "model": "m", "choices": choices, "usage": usage}))

    for delta in deltas_of(answer):
        yield event([{"index": 0, "delta": delta, "finish_reason": None}])
    last = {"index": 0, "delta": {}, "finish_reason": answer["reason"]}
    if answer["native"]:
        last["native_finish_reason"] = answer["native"]
    yield event([last])
    yield event([], answer["usage"])
    yield ServerSentEvent("", "[DONE]")


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(ANSWERS)
def test_a_stream_adds_up_to_the_whole_answer(answer: dict[str, Any]) -> None:
    if any(answer["reasoning"]):
        answer = {**answer, "details": []}  # servers that send both send the same text in both
    whole, added = parse(whole_of(answer)), collect(PROVIDER.chunks(stream_of(answer)))
    for word in (
        "content",
        "reasoning_content",
        "tool_calls",
        "finish_reason",
        "native_finish_reason",
        "usage",
        "model",
    ):
        assert getattr(added, word) == getattr(whole, word), word
    assert added.native == whole.native
    assert added.assistant_message == whole.assistant_message


def test_no_piece_waits_for_the_next() -> None:
    events = iter(stream_of({"content": ["a", "b"], "refusal": [], "reasoning": [], "field": "reasoning", "calls": [],
                             "details": [], "reason": "stop", "native": None, "usage": None}))  # fmt: skip
    taken = []

    def counted() -> Iterator[ServerSentEvent]:
        for event in events:
            taken.append(event)
            yield event

    for number, _ in enumerate(PROVIDER.chunks(counted()), start=1):
        assert len(taken) == number


# --- junk ---------------------------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief.", "name": "x"},
        {"role": "user", "content": [
            {"type": "text", "text": "Hi"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
            {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,UklGRg=="}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "native": {"openai": [{"text": "a"}]},
         "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        {"role": "assistant", "content": "Well", "prefix": True},
    ],
    "params": {
        "thinking": {"type": "enabled"}, "max_tokens": 9, "max_completion_tokens": 9, "temperature": 0, "stop": ["x"],
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function"}, "seed": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "reasoning_effort": "low", "chat_template_kwargs": {"a": 1}, "logit_bias": {"1": 1}, "stream_options": {},
    },
}  # fmt: skip
JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "text", [], [None], ["a"], {}, {"a": 1}, [{}], [[]], 10**30, b"x"]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.slow
@settings(max_examples=examples(1000), deadline=None)
@given(
    st.sampled_from(sorted(URLS)),
    st.sampled_from(["gpt-6-luna", "o3", "some-model"]),
    st.lists(
        st.tuples(st.sampled_from([path for path in places(EVERYTHING) if len(path) > 1]), JUNK), min_size=1, max_size=3
    ),
    st.sets(st.sampled_from(sorted(EVERYTHING["params"]))),
    st.sets(st.integers(1, 4)),
)
def test_whatever_is_asked_it_is_built_or_refused(
    who: str, model: str, spoils: list[tuple[tuple[Any, ...], Any]], left_out: set[str], parts_left_out: set[int]
) -> None:
    asked = copy.deepcopy(EVERYTHING)
    for path, junk in spoils:
        inner = asked
        try:
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = copy.deepcopy(junk)
        except (TypeError, KeyError, IndexError):  # another piece of junk stands there already
            continue
    params = {word: value for word, value in asked["params"].items() if word not in left_out}
    with contextlib.suppress(TypeError, KeyError, IndexError):
        for position in sorted(parts_left_out, reverse=True):  # what one server refuses hides the rest
            del asked["messages"][1]["content"][position]
    try:
        messages = normalise_messages(asked["messages"])
    except InputError:
        return
    answer = tried(who, model, messages, **params)
    assert isinstance(answer, dict) or ("\n" not in answer and len(answer) < 500)


@pytest.mark.parametrize(
    ("tier", "told"), [("priority", "priority"), ("flex", "flex"), ("default", None), (None, None)]
)
def test_a_stream_tells_in_its_usage_the_tier_that_it_was_served_in(tier: str | None, told: str | None) -> None:
    data = {
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "service_tier": tier,
    }
    chunks = list(
        OpenAIProvider().chunks(
            iter([ServerSentEvent("message", json.dumps(data)), ServerSentEvent("message", "[DONE]")])
        )
    )
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert usage.get("service_tier") == told
