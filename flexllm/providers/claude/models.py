"""What each Claude model can do, as its name tells, and how the one switch for thinking is said to it.

Source: Anthropic's API reference (thinking, effort, structured outputs, tool use); pydantic-ai's profiles, which were
checked against the live service. Where both are silent on a model to come, it is taken for the newest of its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ...errors import InputError
from ...language import _
from ..thinking import BUDGETS, Thinking, nearest_level

MAX_TOKENS = 16_384
"""What `max_tokens`, which Anthropic demands, is where the caller sets none: enough for a long answer, and below what
Anthropic's own SDK lets pass without a stream (21 333). Every model from Claude 3.7 on can write that much."""
MAX_TOKENS_OF_CLAUDE_3 = 4096
"""The same for Claude 3 and older, whose first models can write no more."""
LEAST_BUDGET = 1024
"""Tokens below which Anthropic takes no budget for thinking."""

LEAST_ANSWER = 4096
"""Tokens that a strength of thinking leaves to the answer."""

_LEVELS = ("low", "medium", "high", "xhigh", "max")
_NEW_NAME = re.compile(r"claude-(?P<line>[a-z]+)-(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?")
_OLD_NAME = re.compile(r"claude-v?(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?(?:-(?P<line>[a-z]+))?")
_NEWEST = (99, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeModel:
    """What may be asked of a model.

    The defaults are those of a model of another maker behind this wire format, of which nothing is known and to which
    nothing is refused.

    Attributes:
        is_claude: Whether it is one of Anthropic's own.
        thinks: Whether it can think.
        takes_budget: Whether thinking may be given a budget in tokens.
        levels: The strengths of thinking ("effort"); empty where only a budget tells how much.
        off: The `thinking` object that switches thinking off, None where nothing needs to be sent.
        can_be_off: Whether there is a way to switch it off.
        weak_when_off: Whether the efforts above "high" are refused while thinking is off.
        takes_sampling: Whether temperature, top_p and top_k are taken.
        takes_prefill: Whether the last message may be the beginning of the answer.
        takes_schema: Whether a JSON schema can be enforced.
        takes_forced_tools: Whether the use of a tool may be demanded.
        max_tokens: What is sent where the caller sets no limit.
        most_tokens: The most that it can write, thinking included; None where nobody says.
    """

    is_claude: bool = False
    thinks: bool = True
    takes_budget: bool = True
    levels: tuple[str, ...] = ()
    off: str | None = "disabled"
    can_be_off: bool = True
    weak_when_off: bool = False
    takes_sampling: bool = True
    takes_prefill: bool = True
    takes_schema: bool = False
    takes_forced_tools: bool = True
    max_tokens: int = MAX_TOKENS
    most_tokens: int | None = None


_OTHER_MAKER = ClaudeModel()
_WITHOUT_THOUGHT = ClaudeModel(is_claude=True, thinks=False, off=None, max_tokens=MAX_TOKENS_OF_CLAUDE_3)
_UP_TO_4_5 = ClaudeModel(is_claude=True, off=None, most_tokens=64_000)
_4_6 = ClaudeModel(
    is_claude=True, levels=("low", "medium", "high", "max"), takes_prefill=False, takes_schema=True, most_tokens=128_000
)
_4_7 = replace(_4_6, levels=_LEVELS, takes_budget=False, takes_sampling=False)
_5 = _4_7
_5_WEAK_WHEN_OFF = replace(_5, weak_when_off=True)
_SONNET_5_5 = replace(_5, off="between_tools", weak_when_off=True, takes_forced_tools=False)
_ALWAYS_THINKING = replace(_5, off=None, can_be_off=False)


@lru_cache(maxsize=256)
def claude_model(name: str) -> ClaudeModel:
    """Return what a model can do. Prefixes of gateways and dates in its name do not matter."""
    name = name.lower()
    at = name.find("claude")
    if at < 0:
        return _OTHER_MAKER
    found = _NEW_NAME.match(name, at) or _OLD_NAME.match(name, at)
    if found is None:
        return _WITHOUT_THOUGHT if name.startswith("claude-instant", at) else _described(_line(name, at), _NEWEST)
    line, major, minor = found["line"] or "", int(found["major"]), int(found["minor"] or 0)
    return _WITHOUT_THOUGHT if line == "instant" else _described(line, (major, minor))


def _line(name: str, at: int) -> str:
    return name[at:].split("-")[1] if "-" in name[at:] else ""


def _described(line: str, generation: tuple[int, int]) -> ClaudeModel:
    if generation < (3, 7):
        return _WITHOUT_THOUGHT
    if generation < (4, 0):
        return replace(_UP_TO_4_5, max_tokens=MAX_TOKENS_OF_CLAUDE_3)
    if generation < (4, 6):
        return replace(
            _UP_TO_4_5,
            takes_schema=generation == (4, 5) or (line, generation) == ("opus", (4, 1)),
            most_tokens=32_000 if line == "opus" and generation < (4, 5) else 64_000,
        )
    if generation < (4, 7):
        return _4_6
    if generation < (5, 0):
        return _4_7
    if line == "sonnet":
        return _SONNET_5_5 if generation >= (5, 5) else _5
    if line == "haiku":
        return _5_WEAK_WHEN_OFF
    if line == "opus" and generation < (5, 5):
        return _5_WEAK_WHEN_OFF
    return replace(_ALWAYS_THINKING, takes_forced_tools=generation < (5, 1))


def thinking_fields(
    name: str, model: ClaudeModel, wanted: Thinking | None
) -> tuple[Mapping[str, Any] | None, str | None]:
    """Return the `thinking` object and the effort that say what is wanted; None for what is not sent.

    A strength is an effort where a model has those, else a budget (Opus 4.5, which has both, is given the budget: effort
    would shorten its answer too). True is thinking with the model's own strength, or a medium budget.

    Args:
        name: The model's, for errors.
        model: What it can do.
        wanted: As `checked_thinking` gives it; an object is Anthropic's own and passes unchanged.

    Raises:
        InputError: The model cannot do that.
    """
    if wanted is None or isinstance(wanted, Mapping):
        return wanted, None
    if wanted is False:
        if not model.can_be_off:
            raise InputError(
                _(
                    "thinking cannot be switched off on {name}: leave it out, or name a strength such as 'low'",
                    name=name,
                )
            )
        return ({"type": model.off} if model.off else None), None
    if not model.thinks:
        raise InputError(_("{name} cannot think: leave thinking out, or ask a newer model", name=name))
    if wanted is not True and isinstance(wanted, int):
        return _budget(name, model, wanted), None
    if model.levels:
        return {"type": "adaptive"}, None if wanted is True else nearest_level(str(wanted), model.levels)
    budget = BUDGETS["medium" if wanted is True else str(wanted)]
    if model.most_tokens is not None:
        budget = min(budget, model.most_tokens - LEAST_ANSWER)
    return {"type": "enabled", "budget_tokens": budget}, None


def _budget(name: str, model: ClaudeModel, tokens: int) -> Mapping[str, Any]:
    if not model.takes_budget:
        raise InputError(
            _(
                "{name} takes no budget for thinking (thinking={tokens}): give a strength, one of {levels}",
                name=name,
                tokens=tokens,
                levels=", ".join(model.levels),
            )
        )
    if tokens < LEAST_BUDGET and model.is_claude:
        raise InputError(
            _(
                "thinking={tokens} is too small a budget: Anthropic takes {least} tokens or more",
                tokens=tokens,
                least=LEAST_BUDGET,
            )
        )
    return {"type": "enabled", "budget_tokens": tokens}
