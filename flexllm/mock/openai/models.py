"""OpenAI's own models, as far as requests differ between them.

Source: OpenAI's API reference; for efforts, what pydantic-ai found on the live service (July to October 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..checks import Fault, rule

# Refused while a model reasons.
SAMPLING = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"
)  # fmt: skip
_LOW_TO_HIGH = ("low", "medium", "high")


class Family(NamedTuple):
    """Models that take the same efforts. `default` is None if they never reason, and "none" if only when asked."""

    efforts: tuple[str, ...]
    default: str | None
    is_chat: bool = True


# The beginning of a model's name -> its family; the first that fits counts.
_FAMILIES = {
    r"gpt-5\.[245]-pro": Family(("medium", "high", "xhigh"), "medium", is_chat=False),
    r"gpt-5\.\d+-chat-latest": Family(("medium",), "medium"),
    r"gpt-5-chat": Family((), None),
    r"gpt-6(\.\d+)?-astra|gpt-6\.[12]-sol": Family((*_LOW_TO_HIGH, "xhigh", "max"), "medium"),
    r"gpt-6": Family(("none", *_LOW_TO_HIGH, "xhigh", "max"), "medium"),
    r"gpt-5\.[56]": Family(("none", *_LOW_TO_HIGH, "xhigh"), "medium"),
    r"gpt-5\.[234]": Family(("none", *_LOW_TO_HIGH, "xhigh"), "none"),
    r"gpt-5\.1": Family(("none", *_LOW_TO_HIGH), "none"),
    r"gpt-5-pro": Family(("high",), "high"),
    r"gpt-5": Family(("minimal", *_LOW_TO_HIGH), "medium"),
    r"o[1-9]": Family(_LOW_TO_HIGH, "medium"),
    r"gpt-[34]|chatgpt-": Family((), None),
}
_COMPILED = tuple((re.compile(pattern), family) for pattern, family in _FAMILIES.items())


def family_of(model: str) -> Family | None:
    """Return the family of a model, or None for a model that OpenAI does not have."""
    return next((family for pattern, family in _COMPILED if pattern.match(model)), None)


def effort_of(body: Mapping[str, Any]) -> str | None:
    """Return how hard a model of OpenAI's is to think: what is asked, or its default; None if it does not."""
    family = family_of(body["model"])
    effort = body.get("reasoning_effort") or (None if family is None else family.default)
    return None if effort == "none" else effort


def model_refusal(body: Mapping[str, Any]) -> Fault | None:
    """Return what this model refuses in a body of right shape, or None; models that OpenAI does not have take all."""
    family = family_of(body["model"])
    if family is None:
        return None
    if not family.is_chat:
        sentence = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
        return rule(sentence, "model", code="model_not_found")
    return _effort_fault(family, body) or (None if family.default is None else _reasoning_fault(body))


def _effort_fault(family: Family, body: Mapping[str, Any]) -> Fault | None:
    effort = body.get("reasoning_effort")
    if effort is None or effort in family.efforts:
        return None
    if not family.efforts:
        return Fault("unknown", place=("reasoning_effort",))
    allowed = ", ".join(f"'{effort}'" for effort in family.efforts)
    sentence = f"'reasoning_effort' does not support '{effort}' with this model. Supported values are: {allowed}."
    return rule(f"Unsupported value: {sentence}", "reasoning_effort", code="unsupported_value")


def _reasoning_fault(body: Mapping[str, Any]) -> Fault | None:
    if body.get("max_tokens") is not None:
        return _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if body.get("stop") is not None and re.match("o3|o4-mini", body["model"]):
        return _unsupported("stop")
    if effort_of(body) is not None:
        for name in SAMPLING:
            if body.get(name) is not None:
                return _unsupported(name)
    return None


def _unsupported(name: str, advice: str = "") -> Fault:
    sentence = f"Unsupported parameter: '{name}' is not supported with this model.{advice}"
    return rule(sentence, name, code="unsupported_parameter")
