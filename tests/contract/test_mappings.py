"""What is the same for all providers, line by line: finish reasons, token counts, errors, the switch for thinking, streams.

The tables here are written from the providers' documentation, apart from the payloads, as a second opinion.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flexllm.chat import ChatRequest, Chunk
from flexllm.errors import FlexLLMError, InputError
from flexllm.providers import find_provider
from flexllm.retry import RetryPolicy
from flexllm.sse import ServerSentEvent
from flexllm.wire import HttpResponse, Target

TEXT = "Yes."


def reply_body(provider: str, reason: str | None, calls: bool = False) -> dict[str, Any]:
    """The smallest reply with a finish reason."""
    if provider == "openai":
        message: dict[str, Any] = {"role": "assistant", "content": TEXT}
        if calls:
            message["tool_calls"] = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    if provider == "claude":
        blocks: list[Any] = [{"type": "text", "text": TEXT}]
        if calls:
            blocks.append({"type": "tool_use", "id": "c", "name": "f", "input": {}})
        return {"type": "message", "role": "assistant", "content": blocks, "stop_reason": reason}
    parts: list[Any] = [{"text": TEXT}]
    if calls:
        parts.append({"functionCall": {"name": "f", "args": {}}})
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason}]}


def parse(provider: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    return find_provider(provider, None)[0].parse(HttpResponse(200, headers or {}, json.dumps(body).encode()))


# --- finish reasons ---------------------------------------------------------------------------------------------------

FINISH = {
    "openai": {
        "stop": "stop eos end_turn",
        "length": "length max_tokens model_length model_context_window_exceeded",
        "tool_calls": "tool_calls function_call tool_use",
        "content_filter": "content_filter sensitive",
        "error": "error insufficient_system_resource network_error",
        "brand_new": "brand_new",
    },
    "claude": {
        "stop": "end_turn stop_sequence pause_turn",
        "length": "max_tokens model_context_window_exceeded",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "brand_new": "brand_new",
    },
    "gemini": {
        "stop": "STOP",
        "length": "MAX_TOKENS CONTINUATION",
        "content_filter": "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY MODEL_ARMOR",
        "error": "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE "
        "MALFORMED_RESPONSE LANGUAGE OTHER",
        "BRAND_NEW": "BRAND_NEW",
    },
}
REASONS = [
    (provider, native, common)
    for provider, table in FINISH.items()
    for common, natives in table.items()
    for native in natives.split()
]


@pytest.mark.parametrize(("provider", "native", "common"), REASONS)
def test_a_finish_reason_is_said_in_the_common_word_and_kept_in_its_own(
    provider: str, native: str, common: str
) -> None:
    result = parse(provider, reply_body(provider, native, calls=common == "tool_calls"))
    assert (result.finish_reason, result.native_finish_reason) == (common, native)


@pytest.mark.parametrize(("provider", "native"), [("openai", "stop"), ("claude", "end_turn"), ("gemini", "STOP")])
def test_tool_calls_are_the_finish_reason_whatever_the_server_says(provider: str, native: str) -> None:
    result = parse(provider, reply_body(provider, native, calls=True))
    assert (result.finish_reason, result.native_finish_reason) == ("tool_calls", native)
    assert [call.function for call in result.tool_calls] == [{"name": "f", "arguments": "{}"}]
    assert result.tool_calls[0].id


def test_a_blocked_prompt_of_gemini_and_a_refusal_of_openai_are_filtered_content() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    assert parse("gemini", blocked).finish_reason == "content_filter"
    refused = {
        "choices": [{"message": {"role": "assistant", "content": None, "refusal": "No."}, "finish_reason": "stop"}]
    }
    assert parse("openai", refused).finish_reason == "content_filter"


# --- token counts -----------------------------------------------------------------------------------------------------

COUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
USAGE = {
    "openai": (
        "openai",
        {
            "prompt_tokens": 120, "completion_tokens": 45, "total_tokens": 165,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        (120, 45, 165, 100, 7, 30),
    ),
    "DeepSeek": (
        "openai",
        {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55, "prompt_cache_hit_tokens": 40,
         "prompt_cache_miss_tokens": 10},
        (50, 5, 55, 40, 0, 0),
    ),
    "Kimi": (
        "openai",
        {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55, "cached_tokens": 20},
        (50, 5, 55, 20, 0, 0),
    ),
    "xAI: reasoning stands outside": (
        "openai",
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35,
         "completion_tokens_details": {"reasoning_tokens": 20}},
        (10, 25, 35, 0, 0, 20),
    ),
    "details null": (
        "openai",
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": None,
         "completion_tokens_details": None},
        (10, 5, 15, 0, 0, 0),
    ),
    "Anthropic: cached input is not in input_tokens": (
        "claude",
        {"input_tokens": 12, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 5000, "output_tokens": 80,
         "output_tokens_details": {"thinking_tokens": 50}},
        (6012, 80, 6092, 5000, 1000, 50),
    ),
    "Anthropic, nulls": (
        "claude",
        {"input_tokens": 12, "cache_creation_input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 8},
        (12, 8, 20, 0, 0, 0),
    ),
    "Gemini: thoughts stand outside of candidates": (
        "gemini",
        {"promptTokenCount": 100, "cachedContentTokenCount": 40, "candidatesTokenCount": 20, "thoughtsTokenCount": 300,
         "toolUsePromptTokenCount": 0, "totalTokenCount": 420},
        (100, 320, 420, 40, 0, 300),
    ),
    "Gemini: prompts of its tools": (
        "gemini",
        {"promptTokenCount": 100, "candidatesTokenCount": 20, "toolUsePromptTokenCount": 30, "totalTokenCount": 150},
        (130, 20, 150, 0, 0, 0),
    ),
    "Gemini: nothing but the prompt": ("gemini", {"promptTokenCount": 9}, (9, 0, 9, 0, 0, 0)),
}  # fmt: skip
FIELD = {"openai": "usage", "claude": "usage", "gemini": "usageMetadata"}
DONE = {"openai": "stop", "claude": "end_turn", "gemini": "STOP"}


@pytest.mark.parametrize("name", USAGE)
def test_tokens_are_counted_alike(name: str) -> None:
    provider, native, counts = USAGE[name]
    usage = parse(provider, {**reply_body(provider, DONE[provider]), FIELD[provider]: native}).usage
    assert tuple(getattr(usage, count) for count in COUNTS) == counts
    assert json.loads(json.dumps(usage))["total_tokens"] == counts[2]


@pytest.mark.parametrize("provider", FIELD)
@pytest.mark.parametrize("odd", [None, -5, "7", 7.0, "many", True, [], 1e400])
def test_odd_numbers_are_counts_all_the_same(provider: str, odd: Any) -> None:
    names = {
        "openai": ("prompt_tokens", "completion_tokens", "total_tokens"),
        "claude": ("input_tokens", "output_tokens", "cache_read_input_tokens"),
        "gemini": ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    }[provider]
    body = {**reply_body(provider, DONE[provider]), FIELD[provider]: dict.fromkeys(names, odd)}
    usage = parse(provider, body).usage
    assert usage is not None
    assert all(isinstance(getattr(usage, count), int) and getattr(usage, count) >= 0 for count in COUNTS)


# --- errors -----------------------------------------------------------------------------------------------------------


def openai_error(message: str = "no", code: Any = None, kind: str = "invalid_request_error", **more: Any) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def claude_error(kind: str, message: str = "no") -> Any:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def gemini_error(status: str, message: str = "no", *details: Any) -> Any:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
PER_MINUTE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}

ERRORS: list[tuple[str, int, Any, str, bool]] = [
    # provider, status, body, class, whether asking again may help
    ("openai", 401, openai_error(code="invalid_api_key"), "AuthenticationFailed", False),
    ("openai", 403, openai_error(), "PermissionDenied", False),
    ("openai", 402, openai_error(), "QuotaExhausted", False),
    ("openai", 429, openai_error(code="insufficient_quota"), "QuotaExhausted", False),
    ("openai", 429, openai_error(kind="exceeded_current_quota_error"), "QuotaExhausted", False),
    ("openai", 429, openai_error(code="1113"), "QuotaExhausted", False),
    ("openai", 400, openai_error(code="Arrearage"), "QuotaExhausted", False),
    ("openai", 429, openai_error(code="rate_limit_exceeded"), "RateLimited", True),
    ("openai", 429, openai_error(code="Throttling.RateQuota"), "RateLimited", True),
    ("openai", 429, openai_error(code="1302"), "RateLimited", True),
    ("openai", 503, openai_error(code="server_is_overloaded"), "Overloaded", True),
    ("openai", 529, openai_error(), "Overloaded", True),
    ("openai", 500, openai_error(code="server_error"), "ServerError", True),
    ("openai", 502, openai_error(), "ServerError", True),
    ("openai", 500, openai_error("The model is currently overloaded"), "Overloaded", True),
    ("openai", 502, openai_error("We are over capacity"), "Overloaded", True),
    ("openai", 504, openai_error(), "ServerError", True),
    ("openai", 400, openai_error(code="context_length_exceeded"), "ContextTooLong", False),
    ("openai", 400, openai_error("This model's maximum context length is 8192 tokens"), "ContextTooLong", False),
    ("openai", 400, openai_error("Please reduce the length of the messages"), "ContextTooLong", False),
    ("openai", 400, openai_error(), "BadRequest", False),
    ("openai", 404, openai_error(code="model_not_found"), "NotFound", False),
    ("openai", 400, openai_error(code="model_not_found"), "NotFound", False),
    ("openai", 413, openai_error(), "BadRequest", False),
    ("openai", 422, openai_error(), "BadRequest", False),
    ("openai", 400, openai_error(code="content_policy_violation"), "ContentFiltered", False),
    ("openai", 400, openai_error(code="data_inspection_failed"), "ContentFiltered", False),
    ("openai", 403, openai_error(metadata={"reasons": ["x"], "flagged_input": "y"}), "ContentFiltered", False),
    ("claude", 400, claude_error("invalid_request_error"), "BadRequest", False),
    ("claude", 400, claude_error("invalid_request_error", "prompt is too long: 9 > 8"), "ContextTooLong", False),
    ("claude", 400, claude_error("invalid_request_error", "Your credit balance is too low"), "QuotaExhausted", False),
    ("claude", 401, claude_error("authentication_error"), "AuthenticationFailed", False),
    ("claude", 402, claude_error("billing_error"), "QuotaExhausted", False),
    ("claude", 403, claude_error("permission_error"), "PermissionDenied", False),
    ("claude", 404, claude_error("not_found_error"), "NotFound", False),
    ("claude", 409, claude_error("conflict_error"), "BadRequest", True),
    ("claude", 413, claude_error("request_too_large"), "BadRequest", False),
    ("claude", 429, claude_error("rate_limit_error"), "RateLimited", True),
    ("claude", 500, claude_error("api_error"), "ServerError", True),
    ("claude", 504, claude_error("timeout_error"), "ServerError", True),
    ("claude", 529, claude_error("overloaded_error"), "Overloaded", True),
    ("gemini", 400, gemini_error("INVALID_ARGUMENT"), "BadRequest", False),
    ("gemini", 400, gemini_error("FAILED_PRECONDITION"), "BadRequest", False),
    ("gemini", 400, gemini_error("INVALID_ARGUMENT", "API key not valid", BAD_KEY), "AuthenticationFailed", False),
    (
        "gemini",
        400,
        gemini_error("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        "ContextTooLong",
        False,
    ),
    ("gemini", 401, gemini_error("UNAUTHENTICATED"), "AuthenticationFailed", False),
    ("gemini", 403, gemini_error("PERMISSION_DENIED"), "PermissionDenied", False),
    ("gemini", 404, gemini_error("NOT_FOUND"), "NotFound", False),
    ("gemini", 429, gemini_error("RESOURCE_EXHAUSTED", "no", PER_MINUTE, RETRY), "RateLimited", True),
    ("gemini", 429, gemini_error("RESOURCE_EXHAUSTED"), "RateLimited", True),
    ("gemini", 429, gemini_error("RESOURCE_EXHAUSTED", "no", PER_DAY, RETRY), "QuotaExhausted", False),
    ("gemini", 500, gemini_error("INTERNAL"), "ServerError", True),
    ("gemini", 503, gemini_error("UNAVAILABLE"), "Overloaded", True),
    ("gemini", 504, gemini_error("DEADLINE_EXCEEDED"), "ServerError", True),
]


@pytest.mark.parametrize(("provider", "status", "body", "kind", "again"), ERRORS)
def test_an_error_has_its_class_and_is_asked_again_or_not(
    provider: str, status: int, body: Any, kind: str, again: bool
) -> None:
    for sent in (body, [body]) if provider == "gemini" else (body,):
        error = find_provider(provider, None)[0].error(HttpResponse(status, {}, json.dumps(sent).encode()))
        assert (type(error).__name__, error.status) == (kind, status)
        assert (RetryPolicy(retry_times=3).delay(error, 1, random.Random(1)) is not None) == again


@pytest.mark.parametrize(
    ("said", "seconds"), [("22s", 22.0), ("10.689924287s", 10.689924287), ("0s", 0.0), ("x", None)]
)
def test_geminis_retry_info_is_the_time_to_wait(said: str, seconds: float | None) -> None:
    body = gemini_error("RESOURCE_EXHAUSTED", "no", PER_MINUTE, {**RETRY, "retryDelay": said})
    error = find_provider("gemini", None)[0].error(HttpResponse(429, {}, json.dumps(body).encode()))
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("provider", "headers", "request_id"),
    [
        ("openai", {"x-request-id": "a"}, "a"),
        ("openai", {"x-siliconcloud-trace-id": "b"}, "b"),
        ("openai", {"x-generation-id": "c"}, "c"),
        ("claude", {"request-id": "d", "x-request-id": "other"}, "d"),
        ("gemini", {"x-request-id": "e"}, "e"),
        ("openai", {}, None),
    ],
)
def test_the_id_of_a_request_is_in_the_header_that_the_provider_uses(
    provider: str, headers: dict[str, str], request_id: str | None
) -> None:
    assert parse(provider, reply_body(provider, DONE[provider]), headers).request_id == request_id
    failed = find_provider(provider, None)[0].error(HttpResponse(500, headers, b"{}"))
    assert failed.request_id == request_id


# --- one switch for thinking --------------------------------------------------------------------------------------------

REFUSED = "refused"
OMIT: dict[str, Any] = {}
OPENAI = "https://api.openai.com/v1"
DEEPSEEK = "https://api.deepseek.com"
QWEN = "https://dashscope.aliyuncs.com/compatible-mode/v1"
SILICONFLOW = "https://api.siliconflow.cn/v1"
VLLM = "http://gpu.example:8000/v1"
OLLAMA = "http://localhost:11434/v1"
OPENROUTER = "https://openrouter.ai/api/v1"
ZAI = "https://api.z.ai/api/paas/v4"
CLAUDE = "https://api.anthropic.com"
GEMINI = "https://generativelanguage.googleapis.com"


def generation(**config: Any) -> dict[str, Any]:
    return {"generationConfig": {"thinkingConfig": config}}


ADAPTIVE = {"thinking": {"type": "adaptive"}}
THINKING: list[tuple[str, str, Any, Any]] = [
    (OPENAI, "gpt-6-luna", False, {"reasoning_effort": "none"}),
    (OPENAI, "gpt-6-luna", True, OMIT),
    (OPENAI, "gpt-6-luna", "low", {"reasoning_effort": "low"}),
    (OPENAI, "gpt-6-luna", "minimal", {"reasoning_effort": "low"}),
    (OPENAI, "gpt-6-luna", 2048, REFUSED),
    (OPENAI, "gpt-6-astra", False, REFUSED),
    (OPENAI, "gpt-5", "minimal", {"reasoning_effort": "minimal"}),
    (OPENAI, "gpt-5", False, REFUSED),
    (OPENAI, "o3", "minimal", {"reasoning_effort": "low"}),
    (OPENAI, "gpt-4o", False, OMIT),
    (OPENAI, "gpt-4o", True, REFUSED),
    (OPENAI, "gpt-4o", "high", REFUSED),
    (DEEPSEEK, "deepseek-flash", False, {"thinking": {"type": "disabled"}}),
    (DEEPSEEK, "deepseek-flash", True, {"thinking": {"type": "enabled"}}),
    (DEEPSEEK, "deepseek-flash", "low", {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
    (DEEPSEEK, "deepseek-flash", "medium", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
    (DEEPSEEK, "deepseek-flash", 2048, REFUSED),
    (QWEN, "qwen3.5-plus", False, {"enable_thinking": False}),
    (QWEN, "qwen3.5-plus", True, {"enable_thinking": True}),
    (QWEN, "qwen3.5-plus", 2048, {"enable_thinking": True, "thinking_budget": 2048}),
    (SILICONFLOW, "deepseek-ai/DeepSeek-V4", False, {"enable_thinking": False}),
    (SILICONFLOW, "deepseek-ai/DeepSeek-V4", 2048, {"enable_thinking": True, "thinking_budget": 2048}),
    (SILICONFLOW, "deepseek-ai/DeepSeek-V4", "low", {"enable_thinking": True, "reasoning_effort": "high"}),
    (VLLM, "Qwen/Qwen3-30B-A3B", False, {"chat_template_kwargs": {"enable_thinking": False}}),
    (VLLM, "Qwen/Qwen3-30B-A3B", True, {"chat_template_kwargs": {"enable_thinking": True}}),
    (VLLM, "deepseek-ai/DeepSeek-V3.1", True, {"chat_template_kwargs": {"thinking": True}}),
    (OLLAMA, "qwen3:4b", False, {"reasoning_effort": "none"}),
    (OLLAMA, "qwen3:4b", True, OMIT),
    (OLLAMA, "qwen3:4b", "minimal", {"reasoning_effort": "low"}),
    (OLLAMA, "qwen3:4b", "high", {"reasoning_effort": "high"}),
    (OPENROUTER, "z-ai/glm-5", True, {"reasoning": {"enabled": True}}),
    (OPENROUTER, "z-ai/glm-5", "minimal", {"reasoning": {"effort": "minimal"}}),
    (OPENROUTER, "z-ai/glm-5", 2000, {"reasoning": {"max_tokens": 2000}}),
    (ZAI, "glm-5", False, {"thinking": {"type": "disabled"}}),
    (ZAI, "glm-5", True, {"thinking": {"type": "enabled"}}),
    (CLAUDE, "claude-haiku-4-5", 2048, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    (CLAUDE, "claude-haiku-4-5", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    (CLAUDE, "claude-haiku-4-5", "minimal", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    (CLAUDE, "claude-haiku-4-5", 1023, REFUSED),
    (CLAUDE, "claude-sonnet-4-6", True, ADAPTIVE),
    (CLAUDE, "claude-sonnet-4-6", "minimal", {**ADAPTIVE, "output_config": {"effort": "low"}}),
    (CLAUDE, "claude-sonnet-4-6", "xhigh", {**ADAPTIVE, "output_config": {"effort": "max"}}),
    (CLAUDE, "claude-sonnet-4-6", 2048, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    (CLAUDE, "claude-opus-4-7", 2048, REFUSED),
    (CLAUDE, "claude-opus-4-7", "xhigh", {**ADAPTIVE, "output_config": {"effort": "xhigh"}}),
    (CLAUDE, "claude-sonnet-5", False, {"thinking": {"type": "disabled"}}),
    (CLAUDE, "claude-sonnet-5-5", False, {"thinking": {"type": "between_tools"}}),
    (CLAUDE, "claude-opus-5-5", False, REFUSED),
    (CLAUDE, "claude-fable-5-2", False, REFUSED),
    (CLAUDE, "claude-fable-5-2", "high", {**ADAPTIVE, "output_config": {"effort": "high"}}),
    (GEMINI, "gemini-2.5-flash", False, generation(thinkingBudget=0)),
    (GEMINI, "gemini-2.5-flash", True, generation(thinkingBudget=-1, includeThoughts=True)),
    (GEMINI, "gemini-2.5-flash", "low", generation(thinkingBudget=2048, includeThoughts=True)),
    (GEMINI, "gemini-2.5-flash", 512, generation(thinkingBudget=512, includeThoughts=True)),
    (GEMINI, "gemini-2.5-flash", 24577, REFUSED),
    (GEMINI, "gemini-2.5-pro", False, REFUSED),
    (GEMINI, "gemini-2.5-pro", 64, REFUSED),
    (GEMINI, "gemini-3-flash-preview", False, generation(thinkingBudget=0)),
    (GEMINI, "gemini-3.8-flash", "minimal", generation(thinkingLevel="LOW", includeThoughts=True)),
    (GEMINI, "gemini-3.8-flash", "high", generation(thinkingLevel="HIGH", includeThoughts=True)),
    (GEMINI, "gemini-3.8-flash", 2048, REFUSED),
    (GEMINI, "gemini-3-pro-preview", "medium", generation(thinkingLevel="HIGH", includeThoughts=True)),
    (GEMINI, "gemini-2.0-flash", True, REFUSED),
    (GEMINI, "gemini-2.0-flash", False, OMIT),
]


def built(base_url: str, model: str, **params: Any) -> dict[str, Any]:
    provider, url = find_provider("auto", base_url, model)
    request = ChatRequest([{"role": "user", "content": "Hi"}], model, params)
    body: dict[str, Any] = json.loads(
        provider.build(request, Target(base_url=url, api_key="sk-any"), stream=False).body
    )
    return body


@pytest.mark.parametrize(("base_url", "model", "thinking", "said"), THINKING)
def test_the_switch_for_thinking(base_url: str, model: str, thinking: Any, said: Any) -> None:
    if said == REFUSED:
        with pytest.raises(InputError, match="thinking"):
            built(base_url, model, thinking=thinking)
        return
    plain, asked = built(base_url, model), built(base_url, model, thinking=thinking)
    limits = ("max_tokens", "max_completion_tokens")  # a budget may need a higher one
    added = {name: value for name, value in asked.items() if plain.get(name) != value and name not in limits}
    assert added == said


@pytest.mark.parametrize(("base_url", "model"), [(one[0], one[1]) for one in THINKING])
def test_nothing_is_said_of_thinking_where_nothing_is_asked(base_url: str, model: str) -> None:
    assert built(base_url, model, thinking=None) == built(base_url, model)
    text = json.dumps(built(base_url, model)).lower()
    assert "think" not in text
    assert "reason" not in text
    assert "effort" not in text


@pytest.mark.parametrize(
    ("base_url", "model", "field", "value"),
    [
        (DEEPSEEK, "deepseek-flash", "thinking", {"type": "enabled"}),
        (OPENROUTER, "z-ai/glm-5", "reasoning", {"effort": "low", "exclude": True}),
        (CLAUDE, "claude-sonnet-4-6", "thinking", {"type": "adaptive", "display": "omitted"}),
    ],
)
def test_the_providers_own_object_passes_as_it_is(base_url: str, model: str, field: str, value: Any) -> None:
    assert built(base_url, model, thinking=value)[field] == value


def test_geminis_own_object_passes_as_it_is() -> None:
    own = {"thinkingLevel": "LOW"}
    assert built(GEMINI, "gemini-3.8-flash", thinking=own)["generationConfig"]["thinkingConfig"] == own


# --- streams ------------------------------------------------------------------------------------------------------------


def chunks(provider: str, *events: Any) -> list[Chunk]:
    made = [
        ServerSentEvent(
            event["type"] if provider == "claude" else "", event if isinstance(event, str) else json.dumps(event)
        )
        for event in events
    ]
    return list(find_provider(provider, None)[0].chunks(iter(made)))


def openai_piece(finish: str | None = None, **delta: Any) -> Any:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def gemini_piece(finish: str | None = None, **part: Any) -> Any:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}} if part else {}
    return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}]}


def claude_start(index: int, **block: Any) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": block}


def claude_delta(index: int, **delta: Any) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": delta}


STARTED = {
    "type": "message_start",
    "message": {"id": "m", "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}},
}
ENDED = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
         {"type": "message_stop"}]  # fmt: skip
STREAMS = {
    "openai": [
        openai_piece(role="assistant", content=""),
        openai_piece(reasoning_content="Hm."),
        openai_piece(content="Ye"),
        openai_piece(content="s."),
        openai_piece("stop"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}},
        "[DONE]",
    ],
    "claude": [
        STARTED,
        claude_start(0, type="thinking", thinking="", signature=""),
        claude_delta(0, type="thinking_delta", thinking="Hm."),
        claude_delta(0, type="signature_delta", signature="c2ln"),
        {"type": "content_block_stop", "index": 0},
        claude_start(1, type="text", text=""),
        {"type": "ping"},
        claude_delta(1, type="text_delta", text="Ye"),
        claude_delta(1, type="text_delta", text="s."),
        {"type": "content_block_stop", "index": 1},
        *ENDED,
    ],
    "gemini": [
        gemini_piece(text="Hm.", thought=True),
        gemini_piece(text="Ye"),
        {**gemini_piece("STOP", text="s."), "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2,
                                                              "thoughtsTokenCount": 7, "totalTokenCount": 14}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("provider", STREAMS)
def test_text_thinking_finish_and_usage_come_as_pieces(provider: str) -> None:
    found = chunks(provider, *STREAMS[provider])
    assert [chunk.reasoning_content for chunk in found if chunk.reasoning_content] == ["Hm."]
    assert [chunk.content for chunk in found if chunk.content] == ["Ye", "s."]
    assert [chunk.finish_reason for chunk in found if chunk.finish_reason] == ["stop"]
    usage = [chunk.usage for chunk in found if chunk.usage][-1]
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 9, 14)


CALLS = {
    "openai": [
        openai_piece(
            tool_calls=[{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
        ),
        openai_piece(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        openai_piece(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        openai_piece("tool_calls"),
        "[DONE]",
    ],
    "claude": [
        STARTED,
        claude_start(0, type="tool_use", id="c", name="f", input={}),
        claude_delta(0, type="input_json_delta", partial_json='{"a":'),
        claude_delta(0, type="input_json_delta", partial_json="1}"),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ],
    "gemini": [gemini_piece("STOP", functionCall={"id": "c", "name": "f", "args": {"a": 1}})],
}


@pytest.mark.parametrize("provider", CALLS)
def test_tool_calls_come_as_pieces(provider: str) -> None:
    deltas = [delta for chunk in chunks(provider, *CALLS[provider]) for delta in chunk.tool_calls]
    assert {delta.index for delta in deltas} == {0}
    assert [delta.id for delta in deltas if delta.id] == ["c"]
    assert [delta.name for delta in deltas if delta.name] == ["f"]
    assert json.loads("".join(delta.arguments for delta in deltas)) == {"a": 1}


@pytest.mark.parametrize(
    ("provider", "event", "kind"),
    [
        ("openai", {"error": {"message": "busy", "type": "server_error", "code": 503}}, "Overloaded"),
        ("openai", {"error": {"message": "busy", "type": "server_error"}}, "ServerError"),
        ("claude", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "Overloaded"),
        ("claude", {"type": "error", "error": {"type": "api_error", "message": "busy"}}, "ServerError"),
        ("gemini", {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}, "Overloaded"),
    ],
)
def test_an_error_in_a_stream_is_typed_and_may_be_asked_again(provider: str, event: Any, kind: str) -> None:
    for before in ([], STREAMS[provider][:3]):
        with pytest.raises(FlexLLMError) as caught:
            chunks(provider, *before, event)
        assert type(caught.value).__name__ == kind
        assert RetryPolicy(retry_times=3).delay(caught.value, 1, random.Random(1)) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", STREAMS)
def test_a_stream_without_its_end_mark_is_an_error(provider: str) -> None:
    cut = {"openai": 4, "claude": 10, "gemini": 2}[provider]
    with pytest.raises(FlexLLMError, match="ended without its end mark"):
        chunks(provider, *STREAMS[provider][:cut])


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_events_and_blocks_that_nobody_knows_yet_are_read_over(provider: str) -> None:
    unknown = {"claude": {"type": "brand_new", "x": 1}, "gemini": {"brandNew": 1}}[provider]
    plain = chunks(provider, *STREAMS[provider])
    mixed = [event for known in STREAMS[provider] for event in (unknown, known)]
    text = "".join(chunk.content for chunk in chunks(provider, *mixed))
    assert text == "".join(chunk.content for chunk in plain) == "Yes."
