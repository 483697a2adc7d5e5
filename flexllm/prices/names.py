"""What the names of models mean: which row of a price list a name may stand for. Pure, and never a guess.

A name is read as it is; in lower case, with dots between digits as dashes ("claude-sonnet-4.5"); without the prefix that
says whose model it is ("openai/", "models/", "publishers/google/models/", "us.anthropic."); and without a suffix that
marks a version of the same model: a date ("-20251001", "-2026-04-23", "@20250929"), "-latest", Bedrock's "-v1:0". What is
left must be a row's name, whole. Every other suffix may be another model, or another price: "gpt-4o-mini", "gpt-5.5",
":free", ":online", "-preview", "-audio-preview".

Sources: the providers' lists of models; OpenRouter's, Vertex AI's and Bedrock's reference on model ids.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 200
"""Letters; no model has so long a name."""

VENDORS: dict[str, str] = {
    "alibaba": "dashscope",
    "anthropic": "anthropic",
    "azure": "openai",
    "bytedance-seed": "volcengine",
    "cohere": "cohere",
    "dashscope": "dashscope",
    "deepseek": "deepseek",
    "gemini": "google",
    "google": "google",
    "groq": "groq",
    "meta": "meta",
    "minimax": "minimax",
    "mistral": "mistral",
    "mistralai": "mistral",
    "models": "google",
    "moonshot": "moonshot",
    "moonshotai": "moonshot",
    "openai": "openai",
    "perplexity": "perplexity",
    "qwen": "dashscope",
    "together": "together",
    "together_ai": "together",
    "volcengine": "volcengine",
    "x-ai": "xai",
    "xai": "xai",
    "z-ai": "zai",
    "zai": "zai",
}
"""Whose price it is, by what stands before the slash. Sources: OpenRouter's and LiteLLM's ids, Gemini's `models/`."""

_ORGANISATIONS = frozenset({"google", "minimax", "mistralai", "moonshotai", "openai", "qwen"})
"""Those of `VENDORS` that are organisations at Hugging Face too, whose open models anybody may serve at a price of his own.
Hugging Face writes its names with capitals ("moonshotai/Kimi-K3"), the others in lower case."""

_PRICED_APART = frozenset({"gpt-4o-2024-05-13"})
"""Dated models that cost something else than their family. Source: OpenAI's price list."""

_DATE = r"20[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_DASHED_DATE = r"20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_SUFFIXED = re.compile(rf"(.+?)(?:-(?:{_DATE}|{_DASHED_DATE})|@{_DATE}|-latest|(?:-{_DATE})?-v[0-9]+:[0-9]+)")
_PUBLISHED = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?publishers/(google|anthropic|mistralai)/models/(.+)")
_AT_BEDROCK = re.compile(
    r"(?:(?:us|eu|apac|jp|au|ca|us-gov|global)\.)?anthropic\.(claude-.+?)(?:-v[0-9]+(?::[0-9]+)?)?"
)


class Reading(NamedTuple):
    """One way to read a name: the key of the row it then means, and whose it must be; None for anybody's."""

    key: str
    vendor: str | None


def key_of(name: str) -> str:
    """Return what two names share that differ in capitals, or in dots and dashes between digits, alone."""
    return re.sub(r"(?<=[0-9])\.(?=[0-9])", "-", name.lower())


def is_name(model: object) -> bool:
    """Return whether something can be the name of a model in a list of prices at all."""
    return isinstance(model, str) and 0 < len(model) <= LONGEST and model.isascii()


def readings(model: str) -> list[Reading]:
    """Return the ways to read a name, the nearest first."""
    found = _with_and_without_suffix(model, None)
    if prefixed := _split_prefix(model):
        vendor, name = prefixed
        found += _with_and_without_suffix(name, vendor)
    return found


def _with_and_without_suffix(name: str, vendor: str | None) -> list[Reading]:
    found = [Reading(key_of(name), vendor)]
    suffixed = _SUFFIXED.fullmatch(name.lower())
    if suffixed and name.lower() not in _PRICED_APART:
        found.append(Reading(key_of(suffixed[1]), vendor))
    return found


def _split_prefix(model: str) -> tuple[str, str] | None:
    """Return whose model it is, and its name there; None if the name does not say."""
    if published := _PUBLISHED.fullmatch(model):
        return VENDORS[published[1]], published[2]
    if at_bedrock := _AT_BEDROCK.fullmatch(model):
        return "anthropic", at_bedrock[1]
    prefix, slash, name = model.partition("/")
    vendor = VENDORS.get(prefix.lower())
    is_open = prefix.lower() in _ORGANISATIONS and name != name.lower()
    return (vendor, name) if slash and vendor and name and not is_open else None
