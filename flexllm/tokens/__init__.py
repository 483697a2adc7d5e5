"""How many tokens a text, a conversation or a request has: estimated, corrected, or counted by a tokenizer at hand."""

from .count import DEFAULT_MODEL, count_each, count_messages_tokens, count_tokens
from .estimate import (
    AUDIO_TOKENS,
    BYTES_PER_JSON_TOKEN,
    BYTES_PER_TOKEN,
    FILE_TOKENS,
    FIRST_COMPLETION,
    FRAME_TOKENS,
    IMAGE_TOKENS,
    LOW_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    TOOL_TOKENS,
    VIDEO_TOKENS,
    OutputEstimate,
    PromptEstimate,
    estimate_prompt_tokens,
    max_tokens_of,
)
from .learned import Corrections, TokenCount, corrections, total

__all__ = [
    "AUDIO_TOKENS",
    "BYTES_PER_JSON_TOKEN",
    "BYTES_PER_TOKEN",
    "DEFAULT_MODEL",
    "FILE_TOKENS",
    "FIRST_COMPLETION",
    "FRAME_TOKENS",
    "IMAGE_TOKENS",
    "LOW_IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "REPLY_TOKENS",
    "TOOL_TOKENS",
    "VIDEO_TOKENS",
    "Corrections",
    "OutputEstimate",
    "PromptEstimate",
    "TokenCount",
    "corrections",
    "count_each",
    "count_messages_tokens",
    "count_tokens",
    "estimate_prompt_tokens",
    "max_tokens_of",
    "total",
]
