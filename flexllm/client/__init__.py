"""The face: clients for single, streamed and batch calls."""

from .batches import BatchCall, jsonl_path
from .llm import LLMClient
from .mllm import MllmClient
from .providers import ClaudeClient, GeminiClient, OpenAIClient

__all__ = ["BatchCall", "ClaudeClient", "GeminiClient", "LLMClient", "MllmClient", "OpenAIClient", "jsonl_path"]
