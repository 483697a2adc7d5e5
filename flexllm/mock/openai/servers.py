"""What single servers of the OpenAI dialect do differently, known by the names of their models.

Source: DeepSeek's and Kimi's API references, and what pydantic-ai found on the live services.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..checks import Fault, rule

# DeepSeek's own names: whoever else serves its models calls them otherwise.
_DEEPSEEK = re.compile("deepseek-(flash|v4-pro|chat|reasoner)")
_KIMI = re.compile("kimi-")

# What switches thinking on or off somewhere in the dialect.
SWITCHES = {"reasoning_effort", "enable_thinking", "chat_template_kwargs", "thinking", "reasoning"}


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether a request switches thinking on, in any of the dialect's ways; one way off is off.

    Where it says nothing, DeepSeek's models think, and others do not.
    """
    if SWITCHES.isdisjoint(body):
        return _DEEPSEEK.fullmatch(body["model"]) is not None
    wishes: list[object] = [body.get("enable_thinking")]
    efforts = [body.get("reasoning_effort")]
    kwargs, thinking, reasoning = (body.get(name) for name in ("chat_template_kwargs", "thinking", "reasoning"))
    if isinstance(kwargs, dict):
        wishes += [kwargs.get("enable_thinking"), kwargs.get("thinking")]
    if isinstance(thinking, dict):
        wishes.append(thinking.get("type") not in ("disabled", "none"))
    if isinstance(reasoning, dict):
        wishes.append(reasoning.get("enabled") is not False)
        efforts.append(reasoning.get("effort"))
    wishes += [effort != "none" for effort in efforts if effort is not None]
    return any(wish is True for wish in wishes) and False not in wishes


def server_refusal(body: Mapping[str, Any]) -> Fault | None:
    """Return what the server of this model refuses in a body of right shape, or None."""
    if _DEEPSEEK.fullmatch(body["model"]):
        return _deepseek_fault(body)
    if _KIMI.match(body["model"]) and body.get("tool_choice") == "required":
        return rule("tool_choice 'required' is not supported by this model.", "tool_choice")
    if body["model"].startswith("kimi-k3") and body.get("reasoning_effort") not in (None, "low", "high", "max"):
        return rule("reasoning_effort must be low, high or max for this model.", "reasoning_effort")
    return None


def _deepseek_fault(body: Mapping[str, Any]) -> Fault | None:
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return rule("This response_format type is unavailable now", "response_format", code="invalid_request_error")
    if not thinks(body):
        return None
    if body.get("tool_choice") not in (None, "auto", "none"):
        return rule("Thinking mode does not support this tool_choice", "tool_choice", code="invalid_request_error")
    uses_tools = any(message.get("tool_calls") for message in body["messages"])
    for at, message in enumerate(body["messages"]):
        if uses_tools and message["role"] == "assistant" and message.get("reasoning_content") is None:
            sentence = "The `reasoning_content` in the thinking mode must be passed back to the API."
            return rule(sentence, "messages", at, "reasoning_content", code="invalid_request_error")
    return None
