"""How many tokens a text, a conversation or a request has: estimated, corrected, or counted by a tokenizer at hand."""

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

__all__ = [
    "AUDIO_TOKENS",
    "BYTES_PER_JSON_TOKEN",
    "BYTES_PER_TOKEN",
    "FILE_TOKENS",
    "FIRST_COMPLETION",
    "FRAME_TOKENS",
    "IMAGE_TOKENS",
    "LOW_IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "REPLY_TOKENS",
    "TOOL_TOKENS",
    "VIDEO_TOKENS",
    "OutputEstimate",
    "PromptEstimate",
    "estimate_prompt_tokens",
    "max_tokens_of",
]
