"""Which row of the table the name of a model means, at which server; and which names mean none."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexllm.prices import ModelPrice, Price, PriceRow, PriceTable, load_table, price_of
from flexllm.prices.names import key_of, readings
from flexllm.prices.sellers import offers, sells_alone

TABLE = load_table(None)

OPENAI = "https://api.openai.com/v1"
GROQ = "https://api.groq.com/openai/v1"
TOGETHER = "https://api.together.xyz/v1"
GATEWAY = "https://llm.example.com/v1"
LOCAL = "http://127.0.0.1:8000/v1"


def means(model: str, base_url: str | None = None) -> str | None:
    """Return the row that a name means, as "provider:model"."""
    found = TABLE.find(model, base_url)
    return f"{found.provider}:{found.model}" if found else None


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("gpt-4o", "openai:gpt-4o"),
        ("GPT-4o", "openai:gpt-4o"),
        ("openai/gpt-4o", "openai:gpt-4o"),
        ("OpenAI/gpt-4o", "openai:gpt-4o"),
        ("azure/gpt-4o", "openai:gpt-4o"),
        ("gpt-4o-2024-08-06", "openai:gpt-4o"),
        ("openai/gpt-4o-2024-08-06", "openai:gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "openai:gpt-4o-mini"),
        ("gpt-5.5-2026-04-23", "openai:gpt-5.5"),
        ("gpt-5-2025-08-07", "openai:gpt-5"),
        ("gpt-4-turbo-2024-04-09", "openai:gpt-4-turbo"),
        ("gpt-4.1", "openai:gpt-4.1"),
        ("gpt-4-1", "openai:gpt-4.1"),
        ("o3-2025-04-16", "openai:o3"),
        ("gpt-6.2-sol-latest", "openai:gpt-6.2-sol"),
        ("claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("claude-sonnet-4.5", "anthropic:claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4.5", "anthropic:claude-sonnet-4-5"),
        ("claude-haiku-4-5-20251001", "anthropic:claude-haiku-4-5"),
        ("claude-sonnet-4-5@20250929", "anthropic:claude-sonnet-4-5"),
        ("claude-opus-4-6-latest", "anthropic:claude-opus-4-6"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic:claude-haiku-4-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic:claude-sonnet-4-5"),
        ("global.anthropic.claude-opus-4-6-v1", "anthropic:claude-opus-4-6"),
        ("publishers/anthropic/models/claude-sonnet-4-5@20250929", "anthropic:claude-sonnet-4-5"),
        ("gemini-2.5-pro", "google:gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "google:gemini-2.5-pro"),
        ("google/gemini-2.5-pro", "google:gemini-2.5-pro"),
        ("publishers/google/models/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("projects/p/locations/us-east1/publishers/google/models/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("gemini-3.1-pro-preview", "google:gemini-3.1-pro-preview"),
        ("deepseek/deepseek-v4-flash", "deepseek:deepseek-v4-flash"),
        ("x-ai/grok-4.7", "xai:grok-4.7"),
        ("grok-4-20", "xai:grok-4.20"),
        ("mistralai/mistral-medium-3.5", "mistral:mistral-medium-3-5"),
        ("mistral-medium-latest", "mistral:mistral-medium-latest"),
        ("moonshotai/kimi-k3", "moonshot:kimi-k3"),
        ("z-ai/glm-5.3", "zai:glm-5.3"),
        ("minimax-m2.5", "minimax:MiniMax-M2.5"),
        ("MiniMax-M2.5", "minimax:MiniMax-M2.5"),
        ("qwen/qwen3-max", "dashscope:qwen3-max"),
        ("qwen-plus-2025-07-28", "dashscope:qwen-plus"),
        ("groq/llama-3.3-70b-versatile", "groq:llama-3.3-70b-versatile"),
        ("moonshotai/Kimi-K3", "together:moonshotai/Kimi-K3"),
        ("doubao-seed-2.1-pro-260915", "volcengine:doubao-seed-2-1-pro-260915"),
        ("sonar", "perplexity:sonar"),
    ],
)
def test_a_documented_form_of_a_name_finds_its_row(model: str, row: str) -> None:
    assert means(model) == row


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13",  # OpenAI asks twice as much for it
        "my-gpt-4o", "gpt-4oo", "gpt-4o-", "-gpt-4o", "gpt-4o ", "gpt 4o", "gpt-4o\n", "gpt-4o/", "/gpt-4o", "gpt",
        "claude", "gpt-4o-audio-preview", "gpt-4o-realtime-preview", "gpt-4o-search-preview-2025-03-11",
        "gpt-4o-transcribe", "gpt-4-32k", "gpt-4-0613", "gpt-4-vision-preview", "gpt-3.5-turbo-16k", "gpt-5-codex",
        "gpt-5-chat-latest", "gpt-5.3", "gpt-5-5-mini", "gpt-5.5-mini", "gpt-6", "gpt-4.5", "gpt-4.1-pico",
        "o1-mini", "o1-preview-2024-09-12", "o3-deep-research", "chatgpt-4o-latest", "gpt-oss-120b",
        "ft:gpt-4o:org::id", "ft:gpt-4o-2024-08-06:org:name:id", "gpt-4o:ft-org", "gpt-4o:free",
        "openai/gpt-4o:online", "claude-sonnet-4-5:thinking", "openai/gpt-4o:nitro", "gpt-4o:latest",
        "anthropic/gpt-4o", "google/gpt-4o", "someone/gpt-4o", "openai/openai/gpt-4o",
        "models/models/gemini-2.5-pro", "gpt-4o@latest", "gpt-4o-2024-13-06", "gpt-4o-20240832",
        "gpt-4o-20240806-20240806", "gpt-4o-latest-latest", "gpt-4o-v1", "claude-sonnet-4",
        "claude-sonnet-4-20250514", "claude-4.5-sonnet", "claude-opus-5-5-fast", "claude-3-5-sonnet-latest",
        "gemini-2.5", "gemini-2.5-flash-preview", "gemini-2.5-flash-image", "gemini-2.5-flash-preview-09-2025",
        "gemini-pro", "gemini-3.1-pro", "gemini-2.5-flash-001", "grok-4", "grok-4.2", "deepseek-v4",
        "deepseek-v4-flash-thinking", "MiniMaxAI/MiniMax-M2", "mistralai/Mistral-Medium-3-5", "Qwen/Qwen3-Max",
        "qwen3-max:8b", "kimi-k2", "glm-4", "glm-4.5", "\uff47pt-4o", "gpt-4o\u200b", "\u212aimi-k3",
        "gpt-4o-2024-08-0\u0666",
    ],
)  # fmt: skip
def test_a_name_that_is_no_documented_form_has_no_price(model: str) -> None:
    assert means(model) is None
    assert means(model, OPENAI) is None


DOCUMENTED = re.compile(r"-(20\d{2}-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])|latest)|@20\d{6}|(-20\d{6})?-v\d+:\d+")
NAMES = sorted({row.model for row in TABLE})
KEYS = {key_of(name) for name in NAMES}
LETTERS = string.ascii_lowercase + string.digits + "-.:@/_"


@given(st.sampled_from(NAMES), st.text(LETTERS, min_size=1, max_size=12))
@example("gpt-4", "o")
@example("gpt-5", ".5")
@example("gpt-5", "-mini")
@example("gpt-4o", ":free")
@example("o3", "-20251")
def test_no_suffix_matches_that_is_not_documented(name: str, suffix: str) -> None:
    asked = name + suffix
    found = TABLE.find(asked)
    if found is None:
        return
    if key_of(found.model) == key_of(asked):
        return  # a row of its own: "gpt-4" and "o"
    rest = asked[len(found.model) :] if key_of(asked).startswith(key_of(found.model)) else ""
    assert DOCUMENTED.fullmatch(rest), (asked, found.model)


@given(st.sampled_from(NAMES), st.text(LETTERS, min_size=1, max_size=12))
@example("gpt-4o", "openai/")
@example("gpt-4o", "ft:")
def test_no_prefix_matches_that_is_not_documented(name: str, prefix: str) -> None:
    asked = prefix + name
    found = TABLE.find(asked)
    if found is not None and key_of(found.model) != key_of(asked):
        vendor, slash, rest = asked.partition("/")
        assert slash
        assert readings(asked)[-1].vendor == found.provider
        assert key_of(rest).startswith(key_of(found.model)) or asked.startswith("anthropic.")


@given(st.text(max_size=40))
def test_any_text_at_all_can_be_asked_for(model: str) -> None:
    found = TABLE.find(model)
    assert found is None or isinstance(found, ModelPrice)


@given(st.sampled_from(NAMES))
def test_capitals_make_no_difference_to_a_rows_own_name(name: str) -> None:
    assert TABLE.find_rows(name.upper()) != ()
    assert set(TABLE.find_rows(name)) <= set(TABLE.find_rows(name.upper()))


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "base_url", "row"),
    [
        ("gpt-4o", OPENAI, "openai:gpt-4o"),
        ("gpt-4o", "https://eu.api.openai.com/v1", "openai:gpt-4o"),
        ("gpt-4o", "https://API.OpenAI.com./v1", "openai:gpt-4o"),
        ("gpt-4o", "https://mine.openai.azure.com/openai/v1", "openai:gpt-4o"),
        ("gpt-4o", GATEWAY, "openai:gpt-4o"),
        ("gpt-4o", LOCAL, "openai:gpt-4o"),
        ("gpt-4o", "http://[::1]:8000/v1", "openai:gpt-4o"),
        ("gpt-4o", GROQ, None),
        ("gpt-4o", "https://api.deepseek.com", None),
        ("gpt-4o", "https://api.siliconflow.cn/v1", None),
        ("deepseek-v4-flash", "https://api.siliconflow.com/v1", None),
        ("deepseek-v4-flash", "https://api.deepseek.com/anthropic", "deepseek:deepseek-v4-flash"),
        ("gpt-4o", "https://api.aimlapi.com/v1", None),
        ("gpt-4o", "https://api.openai.com.example.com/v1", "openai:gpt-4o"),  # a gateway like any other
        ("openai/gpt-oss-120b", GROQ, "groq:openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", TOGETHER, "together:openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", None, "groq or together:openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", GATEWAY, None),
        ("openai/gpt-oss-20b", None, "groq:openai/gpt-oss-20b"),
        ("openai/gpt-oss-20b", TOGETHER, None),
        ("openai/gpt-oss-20b", LOCAL, None),
        ("groq/llama-3.1-8b-instant", GATEWAY, "groq:llama-3.1-8b-instant"),
        ("llama-3.1-8b-instant", GATEWAY, None),
        ("moonshotai/Kimi-K3", TOGETHER, "together:moonshotai/Kimi-K3"),
        ("moonshotai/Kimi-K3", LOCAL, None),
        ("kimi-k3", "https://api.moonshot.ai/v1", "moonshot:kimi-k3"),
        ("claude-sonnet-4-5@20250929", "https://us-east5-aiplatform.googleapis.com/v1/x", "anthropic:claude-sonnet-4-5"),
        ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai", "google:gemini-2.5-pro"),
        ("gemini-2.5-pro", "https://aiplatform.eu.rep.googleapis.com/v1", "google:gemini-2.5-pro"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1",
         "anthropic:claude-sonnet-4-5"),
        ("qwen-plus", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope:qwen-plus"),
        ("gpt-4o", "", "openai:gpt-4o"),
        ("gpt-4o", "no url", "openai:gpt-4o"),
        ("gpt-4o", "http://[", "openai:gpt-4o"),
    ],
)  # fmt: skip
def test_the_server_chooses_whose_price_holds(model: str, base_url: str | None, row: str | None) -> None:
    assert means(model, base_url) == row


def test_where_sellers_differ_in_details_only_what_they_share_is_known() -> None:
    found = TABLE.find("openai/gpt-oss-120b")
    assert found is not None
    assert found.price == Price(input=0.15, output=0.6)
    assert [row.provider for row in TABLE.find_rows("openai/gpt-oss-120b")] == ["groq", "together"]


@pytest.mark.parametrize(
    "other",
    [
        Price(input=1, output=3),
        Price(input=2, output=2),
        Price(input=1, output=2, request=0.01),
    ],
)
def test_where_sellers_differ_in_price_none_is_known(other: Price) -> None:
    rows = [
        PriceRow(price=ModelPrice(model="m", provider=provider, price=price))
        for provider, price in (("groq", Price(input=1, output=2)), ("together", other))
    ]
    table = PriceTable(rows, "2026-01-02")
    assert table.find("m") is None
    assert len(table.find_rows("m")) == 2
    found = table.find("m", TOGETHER)
    assert found is not None
    assert found.price == other


def test_of_two_names_that_are_alike_the_exact_one_is_meant() -> None:
    rows = [
        PriceRow(price=ModelPrice(model=model, provider="openrouter", price=Price(input=amount, output=amount)))
        for model, amount in (("x/m-4-1", 1), ("x/m-4.1", 2))
    ]
    table = PriceTable(rows, "2026-01-02")
    for model, amount in (("x/m-4-1", 1), ("x/m-4.1", 2)):
        found = table.find(model)
        assert found is not None
        assert found.price.input == amount
    assert table.find("X/M-4.1") is None


def test_where_sellers_differ_in_time_none_is_known() -> None:
    price = Price(input=1, output=2)
    later = ((100.0, Price(input=2, output=4)),)
    rows = [
        PriceRow(price=ModelPrice(model="m", provider="groq", price=price)),
        PriceRow(price=ModelPrice(model="m", provider="together", price=price, changes=later)),
    ]
    assert PriceTable(rows, "2026-01-02").find("m") is None


@pytest.mark.parametrize(
    ("model", "base_url", "is_certain"),
    [
        ("qwen-plus", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", True),
        ("qwen-plus", "https://dashscope.aliyuncs.com/compatible-mode/v1", False),  # China's prices are other ones
        ("glm-5.3", "https://api.z.ai/api/paas/v4", True),
        ("glm-5.3", "https://open.bigmodel.cn/api/paas/v4", False),
        ("kimi-k3", "https://api.moonshot.cn/v1", False),
        ("deepseek/deepseek-v4-flash", "https://openrouter.ai/api/v1", False),
        ("gpt-6.2-sol", OPENAI, False),
        ("gpt-6.1-sol", OPENAI, True),
    ],
)
def test_a_price_that_may_be_another_there_says_so(model: str, base_url: str, is_certain: bool) -> None:
    found = TABLE.find(model, base_url)
    assert found is not None
    assert found.uncertain is not is_certain


def test_a_price_is_remembered_and_stays_the_same_object() -> None:
    url = "https://dashscope.aliyuncs.com/compatible-mode/v1"
    assert TABLE.find("qwen-plus", url) is TABLE.find("qwen-plus", url)


def test_a_host_is_known_by_its_end_at_a_dot() -> None:
    gateway = offers(GATEWAY)
    assert offers("https://notgroq.com/v1") == gateway
    assert offers("https://groq.com.evil.example/v1") == gateway
    assert offers("https://evil.example/api.groq.com") == gateway
    assert offers("https://api.groq.com@evil.example/") == gateway
    assert offers("https://x.api.groq.com/v1") == offers("https://API.GROQ.com./v1") == offers(GROQ) != gateway


def test_open_models_are_sold_by_anybody() -> None:
    assert sells_alone("openai", "gpt-4o")
    assert not sells_alone("openai", "gpt-oss-120b")
    assert not sells_alone("google", "gemma-4-27b")
    assert not sells_alone("deepseek", "deepseek-v4-flash")


@pytest.mark.parametrize(
    ("model", "base_url", "is_sure"),
    [
        ("gpt-4o", GATEWAY, True),
        ("claude-sonnet-4-5", GATEWAY, True),
        ("glm-4.6", GATEWAY, False),
        ("glm-4.6", "https://api.z.ai/api/paas/v4", True),
        ("glm-4.6", None, True),
        ("command-r", "http://localhost:11434/v1", False),
        ("command-r", "https://api.cohere.com/compatibility/v1", True),
    ],
)
def test_a_model_that_others_can_run_may_cost_something_else_at_a_server_that_nobody_knows(
    model: str, base_url: str | None, is_sure: bool
) -> None:
    price = price_of(model, base_url)
    assert price is not None
    assert price.uncertain is not is_sure
