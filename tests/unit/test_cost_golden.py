"""Replies as the providers send them, through their own reader to the bill, against a calculation by hand.

The prices are those of the providers' price lists of November 2026, in dollars per million tokens, and stand here as
literals; each expected cost is written out from the numbers of the body.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest

from flexllm.chat import ChatCompletionResult, ChatRequest, collect
from flexllm.cost.bill import bill
from flexllm.prices import ModelPrice, Price, Tier
from flexllm.providers import find_provider
from flexllm.sse import ServerSentEvent
from flexllm.wire import HttpResponse

M = 1e-6  # prices are per million


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


NOW = unix("2026-11-22T12:00:00")  # a Sunday
PEAK = unix("2026-11-23T07:30:00")  # a Monday, in the second peak
OFF_PEAK = unix("2026-11-23T12:00:00")

GPT_6_LUNA = ModelPrice(
    model="gpt-6-luna",
    provider="openai",
    price=Price(
        input=0.1, cached_input=0.01, cache_write=0.125, output=0.5, batch_input=0.05, batch_output=0.25,
        tiers=(Tier(above=272_000, input=0.2, cached_input=0.02, output=0.75),),
    ),
)  # fmt: skip
GPT_6_SOL = ModelPrice(
    model="gpt-6-sol",
    provider="openai",
    price=Price(
        input=2, cached_input=0.2, cache_write=2.5, output=10, batch_input=1, batch_output=5,
        tiers=(Tier(above=272_000, input=4, cached_input=0.4, output=15),),
    ),
)  # fmt: skip
GPT_4O = ModelPrice(model="gpt-4o", provider="openai", price=Price(input=2.5, cached_input=1.25, output=10))
SONNET = ModelPrice(
    model="claude-sonnet-5-5",
    provider="anthropic",
    price=Price(input=2, cached_input=0.1, cache_write=2.5, cache_write_1h=4, output=10, batch_input=1, batch_output=5),
)
HAIKU = ModelPrice(
    model="claude-haiku-5-5",
    provider="anthropic",
    price=Price(
        input=0.1, cached_input=0.01, cache_write=0.125, cache_write_1h=0.2, output=0.5,
        batch_input=0.05, batch_output=0.25, tiers=(Tier(above=100_000, input=0.5, cached_input=0.05, output=2.5),),
    ),
)  # fmt: skip
GEMINI_FLASH = ModelPrice(
    model="gemini-3.8-flash",
    provider="google",
    price=Price(input=0.75, cached_input=0.075, output=3.75, batch_input=0.375, batch_output=1.875),
    changes=((unix("2027-01-01T00:00:00"), Price(input=1.5, cached_input=0.15, output=7.5)),),
)
GEMINI_PRO = ModelPrice(
    model="gemini-2.5-pro",
    provider="google",
    price=Price(
        input=1.25, cached_input=0.125, output=10, tiers=(Tier(above=200_000, input=2.5, cached_input=0.25, output=15),)
    ),
)
DEEPSEEK_PRO = ModelPrice(
    model="deepseek-v4-pro",
    provider="deepseek",
    price=Price(input=1.32, cached_input=0.044, output=3.96),
    off_peak=Price(input=0.66, cached_input=0.022, output=1.98),
    peak_hours=((1, 4), (6, 10)),
)
QWEN_CODER = ModelPrice(
    model="qwen3-coder-plus",
    provider="dashscope",
    price=Price(
        input=1, cached_input=0.1, output=5,
        tiers=(
            Tier(above=32_000, input=1.8, cached_input=0.18, output=9),
            Tier(above=128_000, input=3, cached_input=0.3, output=15),
            Tier(above=256_000, input=6, cached_input=0.6, output=60),
        ),
    ),
)  # fmt: skip
GROK = ModelPrice(
    model="grok-4.7",
    provider="xai",
    price=Price(
        input=2, cached_input=0.5, output=6, batch_input=1.6, batch_output=4.8,
        tiers=(Tier(above=200_000, input=4, cached_input=1, output=12),),
    ),
)  # fmt: skip
KIMI = ModelPrice(
    model="kimi-k3",
    provider="moonshot",
    price=Price(input=3, cached_input=0.3, cache_write=3, cache_write_1h=6, output=15),
)


def openai(usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chat completion of OpenAI's format."""
    message = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-abc", "object": "chat.completion", "created": 1_795_300_000, "model": "some-model",
        "choices": [choice], "usage": usage, "system_fingerprint": "fp_1", **more,
    }  # fmt: skip


def claude(usage: dict[str, Any]) -> dict[str, Any]:
    """A message of Anthropic's."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5",
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def gemini(usage: dict[str, Any]) -> dict[str, Any]:
    """A response of Gemini's."""
    parts = [{"text": "Hm.", "thought": True}, {"text": "Hi"}]
    return {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": usage, "modelVersion": "gemini-3.8-flash", "responseId": "abc",
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A reply, and the dollars that it costs; `estimated` is what of them nothing bears out."""

    provider: str
    body: dict[str, Any]
    price: ModelPrice | None
    dollars: float
    now: float = NOW
    estimated: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)
    batch: bool = False


PLAIN = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}

CASES = {
    "openai: fresh, cached, written, thinking inside the completion": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 5_120, "completion_tokens": 845, "total_tokens": 5_965,
                "prompt_tokens_details": {"cached_tokens": 2_048, "cache_write_tokens": 1_024, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 640, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
                },
            },
            service_tier="default",
        ),
        GPT_6_LUNA,
        2_048 * 0.1 * M + 2_048 * 0.01 * M + 1_024 * 0.125 * M + 845 * 0.5 * M,
    ),
    "openai: details that are null": Case(
        "openai",
        openai({**PLAIN, "prompt_tokens_details": None, "completion_tokens_details": None}, service_tier=None),
        GPT_4O,
        1000 * 2.5 * M + 200 * 10 * M,
    ),
    "openai: a prompt of exactly the threshold is no long one": Case(
        "openai",
        openai({"prompt_tokens": 272_000, "completion_tokens": 1_000, "total_tokens": 273_000}),
        GPT_6_SOL,
        272_000 * 2 * M + 1_000 * 10 * M,
    ),
    "openai: a long prompt makes all of it dearer, and cached tokens count towards its length": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 272_001, "completion_tokens": 1_000, "total_tokens": 273_001,
                "prompt_tokens_details": {"cached_tokens": 200_000, "cache_write_tokens": 2_000},
            }
        ),
        GPT_6_SOL,
        70_001 * 4 * M + 200_000 * 0.4 * M + 2_000 * (1.25 * 4) * M + 1_000 * 15 * M,
    ),
    "openai: flex is half of everything": Case(
        "openai",
        openai({**PLAIN, "prompt_tokens_details": {"cached_tokens": 400}}, service_tier="flex"),
        GPT_6_SOL,
        (600 * 2 * M + 400 * 0.2 * M + 200 * 10 * M) / 2,
        params={"service_tier": "auto"},
    ),
    "openai: priority is about twice the price": Case(
        "openai", openai(PLAIN, service_tier="priority"), GPT_6_SOL,
        2 * (1000 * 2 * M + 200 * 10 * M), estimated=2 * (1000 * 2 * M + 200 * 10 * M),
    ),
    "openai: asked for priority, served as usual": Case(
        "openai", openai(PLAIN, service_tier="default"), GPT_6_SOL,
        1000 * 2 * M + 200 * 10 * M, params={"service_tier": "priority"},
    ),
    "openai: sound, at the price of text as none of its own is known": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 500, "completion_tokens": 300, "total_tokens": 800,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 400, "text_tokens": 100},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 250, "text_tokens": 50},
            }
        ),
        GPT_4O,
        500 * 2.5 * M + 300 * 10 * M,
        estimated=400 * 2.5 * M + 250 * 10 * M,
    ),
    "openai: its batch API is half the price": Case(
        "openai",
        openai({**PLAIN, "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 100}}),
        GPT_6_SOL,
        500 * 1 * M + 400 * 0.1 * M + 100 * 1.25 * M + 200 * 5 * M,
        batch=True,
    ),
    "openai: a long prompt in its batch API": Case(
        "openai",
        openai({"prompt_tokens": 300_000, "completion_tokens": 1_000, "total_tokens": 301_000}),
        GPT_6_SOL,
        300_000 * 2 * M + 1_000 * 7.5 * M,
        batch=True,
    ),
    "claude: written for five minutes and for an hour, read, thinking inside the output": Case(
        "claude",
        claude(
            {
                "input_tokens": 12, "cache_creation_input_tokens": 3_000, "cache_read_input_tokens": 5_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 2_000},
                "output_tokens": 80, "output_tokens_details": {"thinking_tokens": 50},
                "service_tier": "standard", "speed": "standard", "inference_geo": "global",
                "server_tool_use": {"web_search_requests": 0},
            }
        ),
        SONNET,
        12 * 2 * M + 5_000 * 0.1 * M + 1_000 * 2.5 * M + 2_000 * 4 * M + 80 * 10 * M,
    ),
    "claude: nulls where there was no cache": Case(
        "claude",
        claude(
            {
                "input_tokens": 2_095, "cache_creation_input_tokens": None, "cache_read_input_tokens": None,
                "cache_creation": None, "output_tokens": 503, "output_tokens_details": None, "service_tier": None,
                "speed": None, "inference_geo": None, "server_tool_use": None,
            }
        ),
        SONNET,
        2_095 * 2 * M + 503 * 10 * M,
    ),
    "claude: the batch halves the cache's prices too": Case(
        "claude",
        claude(
            {
                "input_tokens": 100, "cache_creation_input_tokens": 3_000, "cache_read_input_tokens": 5_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 2_000},
                "output_tokens": 80, "service_tier": "batch",
            }
        ),
        SONNET,
        (100 * 2 * M + 5_000 * 0.1 * M + 1_000 * 2.5 * M + 2_000 * 4 * M + 80 * 10 * M) / 2,
    ),
    "claude: fast, and in the US alone": Case(
        "claude",
        claude({"input_tokens": 100, "output_tokens": 80, "speed": "fast", "inference_geo": "us"}),
        SONNET,
        (100 * 2 * M + 80 * 10 * M) * 2 * 1.1,
    ),
    "claude: a long prompt is one by all three of its counts": Case(
        "claude",
        claude(
            {
                "input_tokens": 1_000, "cache_creation_input_tokens": 20_000, "cache_read_input_tokens": 90_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 20_000, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 100,
            }
        ),
        HAIKU,
        1_000 * 0.5 * M + 90_000 * 0.05 * M + 20_000 * (1.25 * 0.5) * M + 100 * 2.5 * M,
    ),
    "claude: searches of the web": Case(
        "claude",
        claude({"input_tokens": 100, "output_tokens": 80, "server_tool_use": {"web_search_requests": 3}}),
        SONNET,
        100 * 2 * M + 80 * 10 * M + 3 * 0.01,
        estimated=0.03,
    ),
    "gemini: thoughts beside the candidates, cached inside the prompt, what tools brought in": Case(
        "gemini",
        gemini(
            {
                "promptTokenCount": 1_000, "cachedContentTokenCount": 400, "candidatesTokenCount": 20,
                "thoughtsTokenCount": 300, "toolUsePromptTokenCount": 50, "totalTokenCount": 1_370,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1_000}],
                "candidatesTokensDetails": [], "cacheTokensDetails": [], "trafficType": "ON_DEMAND",
            }
        ),
        GEMINI_FLASH,
        650 * 0.75 * M + 400 * 0.075 * M + 320 * 3.75 * M,
    ),
    "gemini: the price of the new year": Case(
        "gemini",
        gemini({"promptTokenCount": 1_000, "candidatesTokenCount": 20, "totalTokenCount": 1_020}),
        GEMINI_FLASH,
        1_000 * 1.5 * M + 20 * 7.5 * M,
        now=unix("2027-01-01T00:00:00"),
    ),
    "gemini: the last second of the old year": Case(
        "gemini",
        gemini({"promptTokenCount": 1_000, "candidatesTokenCount": 20, "totalTokenCount": 1_020}),
        GEMINI_FLASH,
        1_000 * 0.75 * M + 20 * 3.75 * M,
        now=unix("2026-12-31T23:59:59"),
    ),
    "gemini: a long prompt": Case(
        "gemini",
        gemini(
            {
                "promptTokenCount": 250_000, "cachedContentTokenCount": 150_000, "candidatesTokenCount": 1_000,
                "thoughtsTokenCount": 2_000, "totalTokenCount": 253_000,
            }
        ),
        GEMINI_PRO,
        100_000 * 2.5 * M + 150_000 * 0.25 * M + 3_000 * 15 * M,
    ),
    "gemini: flex that was asked for, of which the reply says nothing": Case(
        "gemini",
        gemini({"promptTokenCount": 1_000, "candidatesTokenCount": 20, "totalTokenCount": 1_020}),
        GEMINI_FLASH,
        (1_000 * 0.75 * M + 20 * 3.75 * M) / 2,
        params={"service_tier": "flex"},
    ),
    "gemini: Vertex AI's word for priority": Case(
        "gemini",
        gemini(
            {
                "promptTokenCount": 1_000, "candidatesTokenCount": 20, "totalTokenCount": 1_020,
                "trafficType": "ON_DEMAND_PRIORITY",
            }
        ),
        GEMINI_FLASH,
        (1_000 * 0.75 * M + 20 * 3.75 * M) * 1.8,
    ),
    "gemini: sound, some of it from the cache": Case(
        "gemini",
        gemini(
            {
                "promptTokenCount": 1_000, "cachedContentTokenCount": 400, "candidatesTokenCount": 20,
                "totalTokenCount": 1_020,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 200}, {"modality": "AUDIO", "tokenCount": 800},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 400}],
            }
        ),
        GEMINI_FLASH,
        600 * 0.75 * M + 400 * 0.075 * M + 20 * 3.75 * M,
        estimated=400 * 0.75 * M,
    ),
    "deepseek: hits and misses at the peak": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 3_000, "completion_tokens": 700, "total_tokens": 3_700,
                "prompt_cache_hit_tokens": 2_560, "prompt_cache_miss_tokens": 440,
                "completion_tokens_details": {"reasoning_tokens": 500},
            }
        ),
        DEEPSEEK_PRO,
        440 * 1.32 * M + 2_560 * 0.044 * M + 700 * 3.96 * M,
        now=PEAK,
    ),
    "deepseek: the same off the peak": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 3_000, "completion_tokens": 700, "total_tokens": 3_700,
                "prompt_tokens_details": {"cached_tokens": 2_560},
                "prompt_cache_hit_tokens": 2_560, "prompt_cache_miss_tokens": 440,
            }
        ),
        DEEPSEEK_PRO,
        440 * 0.66 * M + 2_560 * 0.022 * M + 700 * 1.98 * M,
        now=OFF_PEAK,
    ),
    "deepseek: the peak's hours on a Sunday": Case(
        "openai", openai(PLAIN), DEEPSEEK_PRO,
        1000 * 0.66 * M + 200 * 1.98 * M, now=unix("2026-11-22T07:30:00"),
    ),
    "qwen: the lowest step": Case(
        "openai",
        openai({**PLAIN, "prompt_tokens_details": {"cached_tokens": 512, "text_tokens": 1000}}),
        QWEN_CODER,
        488 * 1 * M + 512 * 0.1 * M + 200 * 5 * M,
    ),
    "qwen: a step in the middle": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 100_000, "completion_tokens": 900, "total_tokens": 100_900,
                "prompt_tokens_details": {"cached_tokens": 64_000},
                "completion_tokens_details": {"reasoning_tokens": 400, "text_tokens": 500},
            }
        ),
        QWEN_CODER,
        36_000 * 1.8 * M + 64_000 * 0.18 * M + 900 * 9 * M,
    ),
    "qwen: the highest step": Case(
        "openai",
        openai({"prompt_tokens": 256_001, "completion_tokens": 900, "total_tokens": 256_901}),
        QWEN_CODER,
        256_001 * 6 * M + 900 * 60 * M,
    ),
    "openrouter: its own word, whatever the table says": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.00095, "is_byok": False,
                "cost_details": {
                    "upstream_inference_cost": 0.0009, "upstream_inference_prompt_cost": 0.0008,
                    "upstream_inference_completions_cost": 0.0001,
                },
                "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            provider="OpenAI",
        ),
        GPT_6_SOL,
        0.00095,
    ),
    "openrouter: with a key of the user's own its fee and what the provider takes": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 194, "completion_tokens": 2, "total_tokens": 196, "cost": 0.00005, "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.001},
            }
        ),
        None,
        0.00105,
    ),
    "openrouter: a free model": Case("openai", openai({**PLAIN, "cost": 0}), None, 0.0),
    "xai: reasoning outside the completion": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0},
                "num_sources_used": 0,
            }
        ),
        GROK,
        26 * 2 * M + 6 * 0.5 * M + 103 * 6 * M,
    ),
    "xai: its batch API is a fifth cheaper": Case(
        "openai",
        openai({**PLAIN, "prompt_tokens_details": {"cached_tokens": 400}}),
        GROK,
        600 * 1.6 * M + 400 * (0.5 * 0.8) * M + 200 * 4.8 * M,
        batch=True,
    ),
    "kimi: cached tokens at the top of the usage": Case(
        "openai",
        openai({"prompt_tokens": 1_800, "completion_tokens": 120, "total_tokens": 1_920, "cached_tokens": 1_536}),
        KIMI,
        264 * 3 * M + 1_536 * 0.3 * M + 120 * 15 * M,
    ),
    "perplexity: its own word is an object": Case(
        "openai",
        openai(
            {
                "prompt_tokens": 14, "completion_tokens": 245, "total_tokens": 259, "search_context_size": "low",
                "cost": {
                    "input_tokens_cost": 0.000014, "output_tokens_cost": 0.000245, "request_cost": 0.005,
                    "total_cost": 0.005259,
                },
            }
        ),
        ModelPrice(model="sonar", provider="perplexity", price=Price(input=1, output=1)),
        0.005259,
    ),
    "groq: flex costs what it always does": Case(
        "openai", openai(PLAIN, service_tier="flex"),
        ModelPrice(model="llama-3.1-8b-instant", provider="groq", price=Price(input=0.05, output=0.08)),
        1000 * 0.05 * M + 200 * 0.08 * M,
    ),
}  # fmt: skip


def read(provider: str, body: dict[str, Any]) -> ChatCompletionResult:
    found, _ = find_provider(provider, None)
    return found.parse(HttpResponse(200, {"content-type": "application/json"}, json.dumps(body).encode()))


@pytest.mark.parametrize("name", CASES)
def test_a_reply_costs_what_a_calculation_by_hand_says(name: str) -> None:
    case = CASES[name]
    result = read(case.provider, case.body)
    request = ChatRequest([{"role": "user", "content": "Hello"}], "some-model", case.params)
    cost, estimated = bill(result, request, case.price, case.now, batch=case.batch)
    assert cost == pytest.approx(case.dollars, rel=0, abs=1e-9)
    assert estimated == pytest.approx(case.estimated, rel=0, abs=1e-9)


def events(*bodies: tuple[str, dict[str, Any]]) -> Any:
    return iter([ServerSentEvent(name, json.dumps(body)) for name, body in bodies])


def test_a_stream_of_claude_costs_what_the_whole_message_does() -> None:
    provider, _ = find_provider("claude", None)
    start = {
        "input_tokens": 12, "cache_creation_input_tokens": 3_000, "cache_read_input_tokens": 5_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 2_000},
        "output_tokens": 1, "service_tier": "standard",
    }  # fmt: skip
    pieces = events(
        ("message_start", {"type": "message_start", "message": {**claude(start), "content": []}}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 80}}),
        ("message_stop", {"type": "message_stop"}),
    )  # fmt: skip
    result = collect(provider.chunks(pieces))
    request = ChatRequest([{"role": "user", "content": "Hello"}], "claude-sonnet-5-5", {})
    expected = 12 * 2 * M + 5_000 * 0.1 * M + 1_000 * 2.5 * M + 2_000 * 4 * M + 80 * 10 * M
    assert bill(result, request, SONNET, NOW).cost == pytest.approx(expected, rel=0, abs=1e-9)


def test_a_stream_of_openais_costs_what_its_last_piece_counts() -> None:
    provider, _ = find_provider("openai", None)
    usage = {
        "prompt_tokens": 5_120, "completion_tokens": 845, "total_tokens": 5_965,
        "prompt_tokens_details": {"cached_tokens": 2_048, "cache_write_tokens": 1_024},
    }  # fmt: skip
    head = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6-luna"}
    pieces = events(
        ("message", {**head, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}),
        ("message", {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        ("message", {**head, "choices": [], "usage": usage}),
    )
    result = collect(provider.chunks(iter([*pieces, ServerSentEvent("message", "[DONE]")])))
    request = ChatRequest([{"role": "user", "content": "Hello"}], "gpt-6-luna", {})
    expected = 2_048 * 0.1 * M + 2_048 * 0.01 * M + 1_024 * 0.125 * M + 845 * 0.5 * M
    assert bill(result, request, GPT_6_LUNA, NOW).cost == pytest.approx(expected, rel=0, abs=1e-9)
