"""The one switch for thinking, as far as it is the same for every provider: what may be given, and which strength is near.

How a provider says it on the wire, and which model can do what, is in the provider's own file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..language import _

LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Strengths, from the weakest to the strongest."""

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 10_000, "high": 16_384, "xhigh": 32_768, "max": 32_768}
"""Tokens that stand for a strength where a model takes only a budget. A choice, not a fact: pydantic-ai makes the same."""

Thinking = bool | str | int | Mapping[str, Any]


def checked_thinking(value: Any) -> Thinking | None:
    """Return what a caller gave as `thinking`: None, a bool, one of `LEVELS`, a budget in tokens, or an object.

    "none" and 0 are False; a level may be in any case.

    Raises:
        InputError: It is something else.
    """
    if value is None or isinstance(value, (bool, Mapping)):
        return value
    if isinstance(value, int) and value >= 0:
        return value or False
    if isinstance(value, str):
        level = value.strip().lower()
        if level in LEVELS:
            return level
        if level == "none":
            return False
    raise InputError(
        _(
            "thinking={value!r} is not understood; give True, False, a strength ({levels}), a budget in tokens, "
            "or the provider's own object",
            value=value,
            levels=", ".join(LEVELS),
        )
    )


def nearest_level(wanted: str, known: Sequence[str]) -> str:
    """Return the strength itself if a model has it, else the next stronger that it has, else its strongest.

    Stronger before weaker, because servers that map strengths themselves do so (DeepSeek, Ollama, SiliconFlow).
    """
    stronger = [level for level in LEVELS[LEVELS.index(wanted) :] if level in known]
    return stronger[0] if stronger else max(known, key=LEVELS.index)
