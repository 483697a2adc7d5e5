"""What Gemini's generations of models can do, as far as it changes a request: how each is told to think.

Source: Gemini API reference and what several clients report from the live service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...errors import InputError
from ...language import _
from ..thinking import BUDGETS, Thinking, nearest_level

ThinkingConfig = Mapping[str, Any]

LEVELS_OF_THE_API = ("minimal", "low", "medium", "high", "xhigh")
"""All that the API has a name for, whichever model takes them."""
ALL_LEVELS = ("minimal", "low", "medium", "high")
NEWEST_LEVELS = ("low", "medium", "high")

_NEWEST = (4, 0)
_VERSION = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?![\d.])(.*)")
_OLD = re.compile(r"gemini-(pro|pro-vision|ultra|exp-.*)|gemma.*")
_SWITCHED_OFF: ThinkingConfig = {"thinkingBudget": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What models of one kind can do.

    Attributes:
        version: Generation and minor number; None for another maker's model, of which nothing is known.
        levels: The strengths that `thinkingLevel` takes.
        budget: The smallest and the largest `thinkingBudget` in tokens.
        off: Whether a budget of 0 switches thinking off.
        off_on_vertex: The same, where Vertex AI is asked.
    """

    version: tuple[int, int] | None
    levels: tuple[str, ...] = ()
    budget: tuple[int, int] | None = None
    off: bool = False
    off_on_vertex: bool = False

    @property
    def thinks(self) -> bool:
        """Whether thinking can be asked for."""
        return bool(self.version is None or self.levels or self.budget)

    def is_since(self, *version: int) -> bool:
        """Whether this is one of Google's own models, of that version or newer."""
        return self.version is not None and self.version >= version


@lru_cache(maxsize=256)
def find_family(model: str) -> Family:
    """Return what the model of that name can do; a version that is not known yet counts as the newest."""
    name = model.rpartition("/")[2].lower()
    numbered = _VERSION.match(name)
    if numbered:
        return _family((int(numbered[1]), int(numbered[2] or 0)), numbered[3])
    if _OLD.fullmatch(name):
        return Family(version=(1, 0))
    return _family(_NEWEST, "") if name.startswith("gemini-") else Family(version=None)


def _family(version: tuple[int, int], kind: str) -> Family:
    if version < (2, 5):
        return Family(version=version)
    if version < (3, 0):
        if "-image" in kind or "-tts" in kind:
            return Family(version=version)
        if kind.startswith("-pro"):
            return Family(version=version, budget=(128, 32_768))
        return Family(version=version, budget=(1, 24_576), off=True)
    if kind.startswith("-pro") and version == (3, 0):
        return Family(version=version, levels=("low", "high"))
    if kind.startswith("-flash") and version < (3, 7):
        # Several clients report that a budget of 0 works for the first of them; of the later ones nobody says so.
        return Family(version=version, levels=ALL_LEVELS, off=version == (3, 0))
    return Family(
        version=version, levels=NEWEST_LEVELS, off_on_vertex=version == (3, 1) and kind.startswith("-pro-preview")
    )


def thinking_config(thinking: Thinking, model: str, *, on_vertex: bool) -> ThinkingConfig | None:
    """Return what `thinking` is in a model's own words, None if nothing need be sent.

    A strength becomes the nearest one that the model has or, on 2.5, a budget within its range. False on models since
    3 that cannot be switched off becomes their lowest strength: they then think as little as they can. Whatever
    switches thinking on also asks for the thoughts, which come as `reasoning_content`.

    Args:
        thinking: As `checked_thinking` returns it; an object passes unchanged.
        on_vertex: Whether Vertex AI is asked, which differs here and there.

    Raises:
        InputError: The model cannot do it.
    """
    if isinstance(thinking, Mapping):
        return thinking
    family = find_family(model)
    if thinking is False:
        return _off(family, model, on_vertex)
    if not family.thinks:
        raise InputError(
            _(
                "{model} does not think: leave thinking={thinking!r} out, or ask another model",
                model=model,
                thinking=thinking,
            )
        )
    if thinking is True:
        # Models with a budget otherwise think as their maker set them, which is not at all for 2.5 Flash-Lite.
        return {"thinkingBudget": -1, "includeThoughts": True} if family.budget else {"includeThoughts": True}
    if isinstance(thinking, str):
        return {**_strength(thinking, family), "includeThoughts": True}
    return {"thinkingBudget": _checked_budget(thinking, family, model), "includeThoughts": True}


def _off(family: Family, model: str, on_vertex: bool) -> ThinkingConfig | None:
    if not family.thinks:
        return None
    if family.off or family.version is None or (on_vertex and family.off_on_vertex):
        return _SWITCHED_OFF
    if family.levels:
        return {"thinkingLevel": nearest_level("minimal", family.levels).upper()}
    raise InputError(
        _("thinking cannot be switched off for {model}: leave thinking=False out, or ask a Flash model", model=model)
    )


def _strength(level: str, family: Family) -> ThinkingConfig:
    if family.budget:
        least, most = family.budget
        return {"thinkingBudget": max(least, min(most, BUDGETS[level]))}
    return {"thinkingLevel": nearest_level(level, family.levels or LEVELS_OF_THE_API).upper()}


def _checked_budget(budget: int, family: Family, model: str) -> int:
    if family.levels:
        raise InputError(
            _(
                "{model} takes no budget in tokens: give thinking as a strength ({levels})",
                model=model,
                levels=", ".join(family.levels),
            )
        )
    if family.budget:
        least, most = family.budget
        if not least <= budget <= most:
            raise InputError(
                _(
                    "thinking={budget} is beyond what {model} takes: {least} to {most} tokens",
                    budget=budget,
                    model=model,
                    least=least,
                    most=most,
                )
            )
    return budget
