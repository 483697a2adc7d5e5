"""What single models can do by way of thinking, where one server has several kinds: tables by how names begin.

Source: the providers' API references, and what projects report of their live services (July to October 2026). A model of
a known family that is newer than these tables is taken for the newest that is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .dialects import Dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What a model can do by way of thinking.

    Attributes:
        levels: The strengths that it takes, the weakest first; empty where it takes none.
        thinks: Whether it can think at all.
        can_stop: Whether it can be told not to.
        by_default: Whether it thinks unless told otherwise.
        switch: Whether it can be told to think; False where it always does and refuses to be told.
        budget: Whether it takes a budget in tokens.
        in_streams_only: Whether it thinks only where the reply is streamed.
        fixes_sampling: Whether it refuses temperature and the like while it thinks, and `max_tokens` at all.
        takes_stop: Whether it takes stop sequences.
    """

    levels: tuple[str, ...] = ()
    thinks: bool = True
    can_stop: bool = True
    by_default: bool = True
    switch: bool = True
    budget: bool = False
    in_streams_only: bool = False
    fixes_sampling: bool = False
    takes_stop: bool = True


_ALL = ("minimal", "low", "medium", "high", "xhigh", "max")
_TO_HIGH, _TO_XHIGH, _TO_MAX = _ALL[1:4], _ALL[1:5], _ALL[1:6]
_LOW_HIGH_MAX = ("low", "high", "max")

_NEVER = Powers(thinks=False, by_default=False)
_ALWAYS = Powers(can_stop=False, switch=False)


def _openai(*levels: str, can_stop: bool = False, by_default: bool = True, takes_stop: bool = True) -> Powers:
    return Powers(levels=levels, can_stop=can_stop, by_default=by_default, fixes_sampling=True, takes_stop=takes_stop)


OPENAI_MODELS = (
    (r"gpt-oss", Powers(levels=_TO_HIGH)),  # open weights: others serve them
    (r"gpt-5-pro", _openai("high")),
    (r"gpt-5\.\d+-pro", _openai("medium", "high", "xhigh")),
    (r"gpt-5-chat", _NEVER),
    (r"gpt-5\.\d+-chat", _openai("medium")),
    (r"gpt-5(?!\.\d)", _openai("minimal", *_TO_HIGH)),
    (r"gpt-5\.1(?!\d)", _openai(*_TO_HIGH, can_stop=True, by_default=False)),
    (r"gpt-5\.[234](?!\d)", _openai(*_TO_XHIGH, can_stop=True, by_default=False)),
    (r"gpt-5\.", _openai(*_TO_XHIGH, can_stop=True)),
    (r"gpt-6-sol|gpt-([6-9]|\d\d)(\.\d+)?-(luna|terra)", _openai(*_TO_MAX, can_stop=True)),
    (r"gpt-([6-9]|\d\d)(?!\d)", _openai(*_TO_MAX)),
    (r"o3(?!-mini)|o4-mini", _openai(*_TO_HIGH, takes_stop=False)),
    (r"o\d(?!\d)", _openai(*_TO_HIGH)),
    (r"gpt-[34](?!\d)|gpt-35|chatgpt-4|davinci-|babbage-", _NEVER),
)
"""OpenAI's own. Names that are none of these say nothing: deployments at Azure are named as one likes."""

_TABLES: dict[str, tuple[tuple[str, Powers], ...]] = {
    "openai": OPENAI_MODELS,
    "azure": OPENAI_MODELS,
    "moonshot": (
        (r".*thinking", _ALWAYS),
        (r"kimi-k2\.\d", Powers()),
        (r"kimi-k2|moonshot-v1", _NEVER),
        (r"kimi-", Powers(levels=_LOW_HIGH_MAX, can_stop=False, switch=False)),
    ),
    "zai": (
        (r"glm-z1|.*thinking", _ALWAYS),
        (r"glm-5\.2(?!\d)", Powers(levels=_LOW_HIGH_MAX)),
        (r"glm-4\.[5-9]|glm-5(\.1)?(?![.\d])", Powers()),
        (r"glm-[34]", _NEVER),
        (r"glm-", Powers(levels=_LOW_HIGH_MAX, can_stop=False)),
    ),
    "xai": (
        (r".*non-reasoning|grok-(beta|[12]|3(?!-mini))", _NEVER),
        (r"grok-(3-mini|code)", _ALWAYS),
        (r"grok-4[.-][34](?!\d)", Powers(levels=_TO_HIGH)),
        (r"grok-4[.-][56](?!\d)", Powers(levels=_TO_HIGH, can_stop=False)),
        (r"grok-4(?![.-][7-9](?!\d))", _ALWAYS),
        (r"grok-", Powers(levels=_TO_XHIGH, can_stop=False)),
    ),
    "mistral": (
        (r"magistral", Powers(can_stop=False)),
        (r"", Powers(levels=("high",), by_default=False)),
    ),
    "dashscope": (
        (r"qwq|qvq", Powers(can_stop=False, budget=True, in_streams_only=True)),
        (r".*-thinking", Powers(can_stop=False, budget=True)),
        (r"qwen3-\d+(\.\d+)?b(-a\d+b)?$", Powers(budget=True, in_streams_only=True)),
        (r"", Powers(budget=True)),
    ),
    "siliconflow": (
        (r"qwq|.*-thinking|deepseek-r1", Powers(can_stop=False, budget=True)),
        (r"deepseek-v([4-9]|\d\d)|glm-([5-9]|\d\d)", Powers(levels=("high", "max"), budget=True)),
        (r"", Powers(budget=True)),
    ),
    "perplexity": (
        (r".*deep-research", Powers(levels=_TO_HIGH, can_stop=False)),
        (r".*reasoning", _ALWAYS),
        (r"sonar", _NEVER),
    ),
    "minimax": ((r"minimax-m|codex-minimax", _ALWAYS), (r"minimax-text|abab", _NEVER), (r"", _ALWAYS)),
    "gemini": (
        (r"gemini-(1|2\.0)", _NEVER),
        (r"gemini-2\.5-flash", Powers(levels=_ALL[:4])),
        (r"gemini-", Powers(levels=_ALL[:4], can_stop=False)),
    ),
    "anthropic": ((r"", Powers(budget=True, by_default=False)),),
}
"""By dialect: what a name begins with, and what such a model can do. The first that fits is it."""


def base_name(model: str) -> str:
    """Return a model's name in lower case, without the maker in front and without what fine-tuning puts around."""
    name = model.rpartition("/")[2].lower()
    return name[3:].partition(":")[0] if name.startswith("ft:") else name


def _found(table: tuple[tuple[str, Powers], ...], model: str) -> Powers | None:
    name = base_name(model)
    return next((powers for pattern, powers in table if re.match(pattern, name)), None)


@lru_cache(maxsize=1024)
def powers_of(dialect: Dialect, model: str) -> Powers:
    """Return what a model can do at a server; where nothing is known of it, all that the server has words for."""
    known = _found(_TABLES.get(dialect.name, ()), model)
    return known or Powers(levels=dialect.levels, budget=dialect.budgets is not None)


@lru_cache(maxsize=1024)
def openai_powers(model: str) -> Powers | None:
    """Return what one of OpenAI's own models can do, None if it is another's: gateways serve both."""
    if base_name(model).startswith("gpt-oss"):
        return None
    return _found(OPENAI_MODELS, model)


@lru_cache(maxsize=1024)
def is_closed(model: str) -> bool:
    """Whether a model runs at its maker's alone, so that any other server is a gateway to it."""
    return re.match(r"(gpt-(?!oss)|chatgpt-|o\d(?!\w)|claude-|gemini-)", base_name(model)) is not None
