"""Anthropic's models, as far as requests differ between them.

Source: Anthropic's API reference, and what pydantic-ai and litellm found on the live service.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

EFFORTS = ("low", "medium", "high", "xhigh", "max")
THINKING_TYPES = ("enabled", "adaptive", "disabled", "between_tools")
CREATED_AT = "2026-01-01T00:00:00Z"  # the same for all, so that replies do not depend on the clock

_ID = re.compile(
    r"claude-(?:(?P<line>opus|sonnet|haiku|fable|mythos)-)?(?P<major>\d)(?:[-.](?P<minor>\d)(?!\d))?(?!\d)"
)


class Model(NamedTuple):
    """What a model takes.

    Attributes:
        thinking: The allowed values of `thinking.type`.
        thinks_by_default: What it means that a request does not say.
        efforts: The allowed values of `output_config.effort`; those above high only while thinking is on, if `is_bounded`.
        samples: Whether it takes `temperature`, `top_p` and `top_k`, as far as the version of the API does.
        takes_prefill: Whether the last message may be the assistant's.
        takes_system: Whether `messages` may hold system messages.
        has_schemas: Whether it takes `output_config.format`.
        takes_forced: Whether `tool_choice` may force a tool.
        max_tokens: The most that a request may ask for.
    """

    line: str | None
    thinking: tuple[str, ...] = THINKING_TYPES
    thinks_by_default: bool = False
    efforts: tuple[str, ...] = EFFORTS
    is_bounded: bool = False
    samples: bool = True
    takes_prefill: bool = True
    takes_system: bool = True
    has_schemas: bool = True
    takes_forced: bool = True
    max_tokens: int = 1_000_000


UNKNOWN = Model(None)
"""A model that Anthropic does not have takes everything."""


@lru_cache(maxsize=64)
def model_of(name: str) -> Model:
    """Return what a model takes, by its id, with or without a date."""
    match = _ID.match(name)
    if match is None:
        return UNKNOWN
    line = match["line"] or ""  # claude-3-5-haiku and older name it behind the version
    version = (int(match["major"]), int(match["minor"] or 0))
    return Model(
        line=line or None,
        thinking=_thinking(line, version),
        thinks_by_default=version >= (5, 0),
        efforts=_efforts(line, version),
        is_bounded=version >= (5, 0) and (line, version) != ("sonnet", (5, 0)),
        samples=version < (4, 7),
        takes_prefill=version < (4, 6),
        takes_system=version >= (5, 0) or (line == "opus" and version >= (4, 8)),
        has_schemas=version >= (4, 5) or (line == "opus" and version >= (4, 1)),
        takes_forced=not _refuses_force(line, version),
        max_tokens=128_000 if version >= (4, 6) else 64_000,
    )


def _thinking(line: str, version: tuple[int, int]) -> tuple[str, ...]:
    if version < (4, 6):
        return ("enabled", "disabled")
    if version == (4, 6):
        return ("enabled", "adaptive", "disabled")
    if line in ("fable", "mythos") or (line == "opus" and version >= (5, 5)):
        return ("adaptive",)
    return ("adaptive", "between_tools" if line == "sonnet" and version >= (5, 5) else "disabled")


def _efforts(line: str, version: tuple[int, int]) -> tuple[str, ...]:
    if version < (4, 6):
        return EFFORTS[:3] if (line, version) == ("opus", (4, 5)) else ()
    return ("low", "medium", "high", "max") if version == (4, 6) else EFFORTS


def _refuses_force(line: str, version: tuple[int, int]) -> bool:
    if line in ("fable", "mythos"):
        return version >= (5, 1)
    return line in ("opus", "sonnet") and version >= (5, 5)


def model_info(name: str) -> dict[str, Any]:
    """Return a model as the models list shows it."""
    model = model_of(name)
    thinking = {kind: _supported(kind in model.thinking) for kind in THINKING_TYPES}
    efforts = {effort: _supported(effort in model.efforts) for effort in EFFORTS}
    always, never = ("citations", "image_input", "pdf_input"), ("batch", "code_execution", "context_management")
    capabilities = {
        **{capability: _supported(True) for capability in always},
        **{capability: _supported(False) for capability in never},  # not by a mock
        "server_tools": {"supported": False, "code_execution": _supported(False), "web_search": _supported(False)},
        "structured_outputs": _supported(model.has_schemas),
        "thinking": {"supported": True, "types": thinking},
        "effort": {"supported": bool(model.efforts), **efforts},
    }
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": CREATED_AT,
        "lifecycle": "active",
        "max_input_tokens": 1_000_000,
        "max_tokens": min(model.max_tokens, 128_000),
        "line": model.line,
        "deprecated_at": None,
        "retires_at": None,
        "capabilities": capabilities,
    }


def _supported(value: bool) -> dict[str, bool]:
    return {"supported": value}
