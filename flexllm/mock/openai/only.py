"""The OpenAI dialect as OpenAI itself speaks it: other servers' fields are refused, and reasoning is not shown.

Source: OpenAI's API reference, chat completions.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..replies import Ending, ReceivedRequest, Reply
from . import (
    broken,
    claims,
    failure,
    headers,
    is_chat,
    key,
    model,
    overload,
    prompt,
    rate_headers,
    refused,
    reply_of,
    unauthorized,
)

__all__ = [
    "broken",
    "claims",
    "failure",
    "headers",
    "is_chat",
    "key",
    "model",
    "overload",
    "prompt",
    "rate_headers",
    "refused",
    "reply",
    "unauthorized",
]


def reply(request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None = None) -> Reply:
    """Return the completion or its stream, the model list, or the 4xx that OpenAI would give."""
    return reply_of(request, models, token_delay, ending, is_own=True)
