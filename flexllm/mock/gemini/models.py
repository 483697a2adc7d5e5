"""What the mock knows of Gemini's models: whether and how each thinks, and how lists describe them.

Source: Google's guides on thinking and on thought signatures, and what users of the live service report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

MOST_BUDGET = 32768  # tokens; where a family names no bound of its own, that of 2.5 Pro, the highest one
DEFAULT_PAGE = 50
MOST_PER_PAGE = 1000
_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_VERSION = re.compile(r"gemini-(?P<major>[0-9]+)(?:\.(?P<minor>[0-9]+))?(?:-(?P<kind>.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How the models of a family think and call functions.

    Attributes:
        thinks: Whether a request that says nothing of it is thought about.
        takes_config: Whether a `thinkingConfig` is allowed at all.
        levels: The `thinkingLevel`s allowed.
        budgets: The lowest and highest `thinkingBudget` above zero.
        may_be_off: Whether a `thinkingBudget` of 0 switches thinking off; elsewhere it is refused.
        signs: Whether it is of generation 3 or later: function calls carry ids and signatures, and the signatures are
            demanded back.
        is_early: Whether it is of generation 2 or before: functions cannot be combined with built-in tools or with JSON
            output, nor can their responses carry media.
    """

    thinks: bool = False
    takes_config: bool = True
    levels: tuple[str, ...] = ()
    budgets: tuple[int, int] | None = None
    may_be_off: bool = False
    signs: bool = False
    is_early: bool = False


_WITHOUT = Family(takes_config=False, is_early=True)
_PRO_25 = Family(thinks=True, budgets=(128, 32768), is_early=True)
_FLASH_25 = Family(thinks=True, budgets=(1, 24576), may_be_off=True, is_early=True)
_FLASH_LITE_25 = replace(_FLASH_25, thinks=False)
_GENERATION_3 = Family(thinks=True, levels=_LEVELS, budgets=(1, MOST_BUDGET), signs=True)
_NEVER_MINIMAL = replace(_GENERATION_3, levels=_LEVELS[1:])
# A model of another house, or of the mock's own invention: whatever is asked of it.
_UNKNOWN = Family(levels=(*_LEVELS, "XHIGH"), budgets=(1, MOST_BUDGET), may_be_off=True)

# By the beginning of the name; the first that fits counts.
_NAMED = (
    ("gemini-3-flash", replace(_GENERATION_3, may_be_off=True)),
    ("gemini-3-pro", replace(_GENERATION_3, levels=("LOW", "HIGH"))),
    ("gemini-3.1-pro", _NEVER_MINIMAL),  # may be off on Vertex AI, see family()
    ("gemini-3.7-flash", _NEVER_MINIMAL),
    ("gemini-3.8-flash", _NEVER_MINIMAL),
    ("gemini-4-argon", _NEVER_MINIMAL),
    ("gemini-4-carbon", _NEVER_MINIMAL),
    ("gemini-2.5-flash-lite", _FLASH_LITE_25),
    ("gemini-2.5-flash", _FLASH_25),
    ("gemini-2.5-pro", _PRO_25),
    ("gemma", _WITHOUT),
)


@lru_cache(maxsize=256)
def family(model: str, is_vertex: bool = False) -> Family:
    """Return the family of a model. `is_vertex`: as Vertex AI serves it, which differs for one model."""
    if is_vertex and model.startswith("gemini-3.1-pro"):
        return replace(_NEVER_MINIMAL, may_be_off=True)
    version = _VERSION.fullmatch(model)
    if version is not None and int(version["major"]) < 3 and _makes_media(version["kind"] or ""):
        return _WITHOUT
    for beginning, known in _NAMED:
        if model.startswith(beginning):
            return known
    if version is None:
        return _UNKNOWN
    if int(version["major"]) >= 3:
        return _GENERATION_3
    return _FLASH_25 if (version["major"], version["minor"]) == ("2", "5") else _WITHOUT


def _makes_media(kind: str) -> bool:
    return "image" in kind or "tts" in kind


def is_thinking(model_family: Family, config: Mapping[str, Any]) -> bool:
    """Whether a request is thought about. The least level, MINIMAL, stands for no thoughts worth counting."""
    if not model_family.takes_config:
        return False
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and level != "THINKING_LEVEL_UNSPECIFIED":
        return bool(level != "MINIMAL")
    if budget is not None:
        return bool(budget != 0)
    return model_family.thinks or (model_family is _UNKNOWN and bool(config.get("includeThoughts")))


# Messages in Google's words, each with the field it is about.
def thinking_faults(model_family: Family, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield field, below `thinking_config`, and reason of what a family does not allow in a `thinkingConfig`."""
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if not model_family.takes_config:
        yield "", "Thinking is not enabled for this model."
    if level is not None and budget is not None:
        yield "thinking_budget", "You can only set one of thinking budget and thinking level."
    if level is not None and level not in (*model_family.levels, "THINKING_LEVEL_UNSPECIFIED"):
        if not model_family.levels:
            yield "thinking_level", "Thinking level is not supported for this model."
        reason = f"Thinking level {level} is not supported for this model. Please retry with other thinking level."
        yield "thinking_level", reason
    if budget is not None and model_family.budgets is not None:
        low, high = model_family.budgets
        if budget == 0 and not model_family.may_be_off:
            yield "thinking_budget", "Budget 0 is invalid. This model only works in thinking mode."
        if budget not in (0, -1) and not low <= budget <= high:
            reason = f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}."
            yield "thinking_budget", reason


# ---------------------------------------------------------------------------------------------------- lists


def model_card(model: str) -> dict[str, Any]:
    """Return how the developer API describes a model."""
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model.replace("-", " ").title(),
        "description": f"The mock's {model}",
        "inputTokenLimit": 1048576,
        "outputTokenLimit": 65536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1,
        "maxTemperature": 2,
        "topP": 0.95,
        "topK": 64,
        "thinking": family(model).takes_config,
    }


def publisher_card(model: str) -> dict[str, Any]:
    """Return how Vertex AI describes a model."""
    return {
        "name": f"publishers/google/models/{model}",
        "versionId": "default",
        "openSourceCategory": "PROPRIETARY",
        "launchStage": "GA",
    }


def page(
    models: Sequence[str], name: str, card: Callable[[str], Mapping[str, Any]], size: int, token: str
) -> dict[str, Any] | None:
    """Return one page of a list, under `name`, or None if the token is not one that a page has given.

    Args:
        size: How many at most; 0 means the default, and there is a limit.
        token: "" for the first page, else the `nextPageToken` of the page before.
    """
    if token and not token.removeprefix("page-").isdecimal():
        return None
    start = int(token.removeprefix("page-")) if token else 0
    if token and not 0 < start < len(models):
        return None
    end = start + min(size or DEFAULT_PAGE, MOST_PER_PAGE)
    listed: dict[str, Any] = {name: [card(model) for model in models[start:end]]}
    return {**listed, "nextPageToken": f"page-{end}"} if end < len(models) else listed
