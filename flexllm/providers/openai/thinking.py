"""The one switch for thinking, as servers that speak OpenAI's chat completions say it: a way of saying it for each kind.

Which server speaks which way is in `dialects`, what its models can in `models`. A wish that cannot be met is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...errors import InputError
from ...language import _
from ..base import count
from ..thinking import BUDGETS, checked_thinking, nearest_level
from .dialects import Dialect
from .models import Powers, base_name, openai_powers, powers_of

NATIVE_WORDS = (
    "reasoning_effort",
    "reasoning",
    "enable_thinking",
    "thinking_budget",
    "thinking_token_budget",
    "disable_reasoning",
    "prompt_mode",
)
"""Fields by which one server or another is told to think; beside `thinking` they would say it twice."""


class Wish(NamedTuple):
    """A wish that the model can meet: off, on, or on with a strength or a budget that it takes."""

    on: bool
    level: str | None
    budget: int | None
    model: str
    powers: Powers
    params: Mapping[str, Any]


def thinking_fields(
    thinking: Any, dialect: Dialect, model: str, params: Mapping[str, Any], *, stream: bool
) -> dict[str, Any]:
    """Return the fields of a request that say what a caller gave as `thinking`.

    Args:
        params: The caller's parameters, without `thinking`.

    Raises:
        InputError: The server has no way to say it, the model cannot do it, or the caller has said it natively too.
    """
    value = checked_thinking(thinking)
    if value is None:
        return {}
    _check_said_once(value, dialect, params)
    if isinstance(value, Mapping):
        return _as_object(value, dialect, model)
    powers, way = powers_of(dialect, model), dialect.thinking
    if way == "template":  # a gateway to OpenAI's own models
        own = openai_powers(model)
        powers, way = (own, "effort") if own else (powers, way)
    wish = _wish(value, dialect, model, powers, params)
    if wish is None:
        return {}
    if wish.on and powers.in_streams_only and not stream:
        raise InputError(
            _(
                "{model} thinks at {title} only while it streams; use the call that streams, or thinking=False",
                model=model,
                title=dialect.shown,
            )
        )
    return _WAYS[way](wish)


def _check_said_once(value: Any, dialect: Dialect, params: Mapping[str, Any]) -> None:
    words: tuple[str, ...] = NATIVE_WORDS
    if isinstance(value, Mapping):  # an object may have its strength beside it, but not beside OpenRouter's
        words = () if dialect.thinking_field == "thinking" else ("reasoning", "reasoning_effort")
    for word in words:
        if params.get(word) is not None:
            raise InputError(_("thinking and {word} are both given; say it by one of them", word=word))


def _as_object(value: Mapping[str, Any], dialect: Dialect, model: str) -> dict[str, Any]:
    if dialect.thinking_field is None:
        native = {"enable": _("enable_thinking and thinking_budget"), "split": "reasoning_split"}
        words = native.get(dialect.thinking, "reasoning_effort")
        raise InputError(
            _(
                "{title} takes no object for thinking ({model}); give {words} instead",
                title=dialect.shown,
                model=model,
                words=words,
            )
        )
    return {dialect.thinking_field: value}


def _wish(value: Any, dialect: Dialect, model: str, powers: Powers, params: Mapping[str, Any]) -> Wish | None:
    """Return the wish as the model can meet it, None if there is nothing to be said."""

    def refused(reason: str) -> InputError:
        return InputError(
            _(
                "thinking={value!r} is not possible with {model} at {title}: {reason}",
                value=value,
                model=model,
                title=dialect.shown,
                reason=reason,
            )
        )

    if value is False:
        if powers.thinks and not powers.can_stop:
            if not powers.levels:
                raise refused(_("it always thinks"))
            raise refused(_("it always thinks; its weakest strength is {level!r}", level=powers.levels[0]))
        return Wish(False, None, None, model, powers, params) if powers.thinks else None
    if not powers.thinks:
        raise refused(_("it does not think; leave thinking out"))
    level = budget = None
    if isinstance(value, str):
        if powers.levels:
            level = nearest_level(value, powers.levels)
        elif powers.budget and dialect.budgets:
            budget = min(BUDGETS[value], dialect.budgets[1])
        else:
            raise refused(_("it has no strengths; give True, or leave thinking out"))
    elif value is True:
        budget = BUDGETS["medium"] if dialect.thinking == "budget" else None
    else:
        budget = value
        if not (powers.budget and dialect.budgets):
            if not powers.levels:
                raise refused(_("it takes no budget; give True"))
            raise refused(_("it takes no budget; give a strength ({levels})", levels=", ".join(powers.levels)))
        least, most = dialect.budgets
        if not least <= budget <= most:
            raise refused(_("a budget is {least} to {most} tokens", least=least, most=most))
    if budget is not None and dialect.budget_in_limit:
        limit = params.get("max_completion_tokens") or params.get("max_tokens")
        if limit is not None and budget >= count(limit):
            raise refused(
                _(
                    "{budget} tokens of thinking leave nothing of max_tokens={limit} for the answer",
                    budget=budget,
                    limit=limit,
                )
            )
    return Wish(True, level, budget, model, powers, params)


def _effort(wish: Wish) -> dict[str, Any]:
    if not wish.on:
        return {"reasoning_effort": "none"}
    if wish.level:
        return {"reasoning_effort": wish.level}
    levels = wish.powers.levels
    if wish.powers.by_default or not levels:
        return {}
    return {"reasoning_effort": "medium" if "medium" in levels else levels[0]}


def _mistral(wish: Wish) -> dict[str, Any]:
    """Magistral, which always thinks, is given the words for it; newer models take a strength."""
    return _effort(wish) if wish.powers.levels else {"prompt_mode": "reasoning"}


def _type(wish: Wish) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if wish.powers.switch:
        fields["thinking"] = {"type": "enabled" if wish.on else "disabled"}
    if wish.level:
        fields["reasoning_effort"] = wish.level
    return fields


def _enable(wish: Wish) -> dict[str, Any]:
    fields: dict[str, Any] = {"enable_thinking": wish.on}
    if wish.level:
        fields["reasoning_effort"] = wish.level
    if wish.budget:
        fields["thinking_budget"] = wish.budget
    return fields


def _template(wish: Wish) -> dict[str, Any]:
    """Chat templates differ: DeepSeek-V3.1's and Granite's switch is `thinking`, everybody else's `enable_thinking`.

    A strength or a budget turns most of them on by itself; those that are off by default are switched on too.
    """
    name = base_name(wish.model)
    says_thinking = "deepseek-v3.1" in name or "granite" in name
    is_off = says_thinking or "gemma-4" in name or "gemma4" in name
    fields: dict[str, Any] = {}
    if wish.level:
        known = wish.powers.levels if "gpt-oss" not in name else ("low", "medium", "high")
        fields["reasoning_effort"] = nearest_level(wish.level, known)
    if wish.budget:
        fields["thinking_token_budget"] = wish.budget
    if not fields or is_off:
        fields["chat_template_kwargs"] = _with_switch(
            wish.params.get("chat_template_kwargs"), "thinking" if says_thinking else "enable_thinking", wish.on
        )
    return fields


def _with_switch(given: Any, word: str, on: bool) -> dict[str, Any]:
    if given is None:
        return {word: on}
    if not isinstance(given, Mapping):
        raise InputError(_("chat_template_kwargs must be an object, not {kind}", kind=type(given).__name__))
    if given.get(word) is not None:
        raise InputError(
            _("thinking and chat_template_kwargs[{word!r}] are both given; say it by one of them", word=word)
        )
    return {**given, word: on}


def _reasoning(wish: Wish) -> dict[str, Any]:
    if wish.level:
        return {"reasoning": {"effort": wish.level}}
    if wish.budget:
        return {"reasoning": {"max_tokens": wish.budget}}
    return {"reasoning": {"enabled": wish.on}}


def _toggle(wish: Wish) -> dict[str, Any]:
    return {"reasoning_effort": wish.level} if wish.level else {"reasoning": {"enabled": wish.on}}


def _disable(wish: Wish) -> dict[str, Any]:
    return _effort(wish) if wish.on else {"disable_reasoning": True}


def _split(wish: Wish) -> dict[str, Any]:
    """MiniMax always thinks; it can be asked to keep that apart from the answer."""
    return {"reasoning_split": True}


def _budget(wish: Wish) -> dict[str, Any]:
    if not wish.on:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled", "budget_tokens": wish.budget}}


_WAYS: dict[str, Callable[[Wish], dict[str, Any]]] = {
    "effort": _effort,
    "mistral": _mistral,
    "type": _type,
    "enable": _enable,
    "template": _template,
    "reasoning": _reasoning,
    "toggle": _toggle,
    "disable": _disable,
    "split": _split,
    "budget": _budget,
}
