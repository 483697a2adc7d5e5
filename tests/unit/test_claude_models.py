"""What each Claude model can do: one row for each line of Anthropic's table, and names in every dress."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flexllm.chat import ChatRequest
from flexllm.errors import InputError
from flexllm.providers.claude import ClaudeProvider
from flexllm.providers.claude.models import ClaudeModel, claude_model
from flexllm.wire import Target

TARGET = Target(base_url="https://api.anthropic.com", api_key="k")


def build(model: str, **params: Any) -> dict[str, Any]:
    request = ChatRequest([{"role": "user", "content": "Hi"}], model, params)
    body: dict[str, Any] = json.loads(ClaudeProvider().build(request, TARGET, stream=False).body)
    return body


def said(model: str, thinking: Any) -> Any:
    """What is sent for a thinking switch: its type, its budget and the effort, or the error."""
    try:
        body = build(model, thinking=thinking)
    except InputError as error:
        return "cannot" if "cannot" in str(error) else "no budget" if "no budget" in str(error) else str(error)
    switch = body.get("thinking", {})
    effort = body.get("output_config", {}).get("effort")
    return tuple(word for word in (switch.get("type"), switch.get("budget_tokens"), effort) if word is not None)


NEVER = dict.fromkeys((True, "minimal", "high", "xhigh", "max", 4000), "cannot") | {False: ()}
BUDGETS = {
    True: ("enabled", 10_000),
    "minimal": ("enabled", 1024),
    "low": ("enabled", 2048),
    "medium": ("enabled", 10_000),
    "high": ("enabled", 16_384),
    "xhigh": ("enabled", 32_768),
    "max": ("enabled", 32_768),
    4000: ("enabled", 4000),
    False: (),
}
ADAPTIVE = {
    True: ("adaptive",),
    "minimal": ("adaptive", "low"),
    "low": ("adaptive", "low"),
    "medium": ("adaptive", "medium"),
    "high": ("adaptive", "high"),
    "max": ("adaptive", "max"),
}
OF_4_6 = {**ADAPTIVE, "xhigh": ("adaptive", "max"), 4000: ("enabled", 4000), False: ("disabled",)}
OF_4_7 = {**ADAPTIVE, "xhigh": ("adaptive", "xhigh"), 4000: "no budget", False: ("disabled",)}
BETWEEN = {**OF_4_7, False: ("between_tools",)}
ALWAYS = {**OF_4_7, False: "cannot"}

TABLE: dict[str, dict[Any, Any]] = {
    "claude-instant-1.2": NEVER,
    "claude-2.1": NEVER,
    "claude-3-haiku-20240307": NEVER,
    "claude-3-5-sonnet-latest": NEVER,
    "claude-3-7-sonnet-20250219": BUDGETS,
    "claude-sonnet-4-0": BUDGETS,
    # 32 000 tokens are the most that it can write, of which an answer needs some.
    "claude-opus-4-1": {**BUDGETS, "xhigh": ("enabled", 27_904), "max": ("enabled", 27_904)},
    "claude-haiku-4-5": BUDGETS,
    "claude-sonnet-4-5": BUDGETS,
    "claude-opus-4-5": BUDGETS,
    "claude-opus-4-6": OF_4_6,
    "claude-sonnet-4-6": OF_4_6,
    "claude-opus-4-7": OF_4_7,
    "claude-opus-4-8": OF_4_7,
    "claude-sonnet-5": OF_4_7,
    "claude-opus-5": OF_4_7,
    "claude-haiku-5-5": OF_4_7,
    "claude-sonnet-5-5": BETWEEN,
    "claude-opus-5-5": ALWAYS,
    "claude-fable-5": ALWAYS,
    "claude-fable-5-2": ALWAYS,
    "claude-mythos-5": ALWAYS,
    "claude-mythos-5-1": ALWAYS,
    # Models to come are taken for the newest of their line.
    "claude-sonnet-7": BETWEEN,
    "claude-haiku-6": OF_4_7,
    "claude-opus-6-1": ALWAYS,
    "claude-saga-6": ALWAYS,
    "claude-sonnet-latest": BETWEEN,
    # Other makers' models.
    "deepseek-chat": {**BUDGETS, 500: ("enabled", 500), False: ("disabled",)},
}


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [(model, thinking, row) for model, rows in TABLE.items() for thinking, row in rows.items()],
)
def test_the_switch_for_thinking_is_said_as_the_model_wants_it(model: str, thinking: Any, expected: Any) -> None:
    assert said(model, thinking) == expected


@pytest.mark.parametrize("model", TABLE)
def test_nothing_is_said_of_thinking_where_nothing_is_asked(model: str) -> None:
    assert build(model).keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("model", "strong"),
    [("claude-sonnet-5", True), ("claude-opus-5", False), ("claude-haiku-5-5", False), ("claude-sonnet-5-5", False)],
)
def test_an_effort_above_high_goes_with_thinking_off_on_some_models_alone(model: str, strong: bool) -> None:
    assert build(model, thinking=False, output_config={"effort": "high"})["output_config"] == {"effort": "high"}
    for effort in ("xhigh", "max"):
        if strong:
            assert build(model, thinking=False, output_config={"effort": effort})["output_config"] == {"effort": effort}
        else:
            with pytest.raises(InputError, match="no effort above 'high'"):
                build(model, thinking=False, output_config={"effort": effort})


def traits(model: ClaudeModel) -> str:
    names = {
        "sampling": model.takes_sampling,
        "prefill": model.takes_prefill,
        "schema": model.takes_schema,
        "forced": model.takes_forced_tools,
    }
    return " ".join(name for name, has in names.items() if has)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-3-opus-20240229", "sampling prefill forced"),
        ("claude-3-7-sonnet-latest", "sampling prefill forced"),
        ("claude-opus-4-20250514", "sampling prefill forced"),
        ("claude-opus-4-1-20250805", "sampling prefill schema forced"),
        ("claude-sonnet-4-1", "sampling prefill forced"),
        ("claude-haiku-4-5", "sampling prefill schema forced"),
        ("claude-sonnet-4-6", "sampling schema forced"),
        ("claude-opus-4-7", "schema forced"),
        ("claude-opus-5", "schema forced"),
        ("claude-sonnet-5", "schema forced"),
        ("claude-fable-5", "schema forced"),
        ("claude-haiku-5-5", "schema forced"),
        ("claude-fable-5-1", "schema"),
        ("claude-mythos-5-2", "schema"),
        ("claude-opus-5-5", "schema"),
        ("claude-sonnet-5-5", "schema"),
        ("gpt-6", "sampling prefill forced"),
    ],
)
def test_a_models_name_tells_what_it_takes(name: str, expected: str) -> None:
    assert traits(claude_model(name)) == expected


@pytest.mark.parametrize(
    ("dressed", "plain"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4-5"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("claude-opus-4-8@20260101", "claude-opus-4-8"),
        ("models/Claude-Sonnet-5-5", "claude-sonnet-5-5"),
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("claude-sonnet-5@20260601", "claude-sonnet-5"),
        ("anthropic.claude-v2:1", "claude-2.1"),
        ("claude-instant-v1", "claude-instant-1.2"),
        ("claude-opus-4-6[1m]", "claude-opus-4-6"),
        ("openrouter/anthropic/claude-sonnet-4.6:beta", "claude-sonnet-4-6"),
    ],
)
def test_prefixes_and_dates_do_not_hide_a_model(dressed: str, plain: str) -> None:
    assert claude_model(dressed) == claude_model(plain)


@pytest.mark.parametrize("model", ["claude", "claude-", "claude-mythos-preview", "my-claude-finetune"])
def test_a_claude_of_no_known_name_is_taken_for_the_newest(model: str) -> None:
    assert claude_model(model) == claude_model("claude-opus-99")


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("claude-haiku-4-5", {}, 16_384),
        ("claude-haiku-4-5", {"thinking": 2000}, 18_384),
        ("claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 3000}}, 19_384),
        ("claude-haiku-4-5", {"thinking": {"type": "enabled"}}, 16_384),
        ("claude-opus-5-5", {"thinking": "max"}, 16_384),
        ("claude-3-5-haiku-20241022", {}, 4096),
        ("claude-3-7-sonnet-20250219", {"thinking": 2000}, 6096),
        ("claude-2.1", {}, 4096),
        ("deepseek-chat", {}, 16_384),
        ("claude-opus-5-5", {"max_tokens": 128_000}, 128_000),
    ],
)
def test_max_tokens_is_always_sent(model: str, params: dict[str, Any], expected: int) -> None:
    assert build(model, **params)["max_tokens"] == expected
