"""The face: clients for single, streamed and batch calls."""

from .batches import Ways, jsonl_path
from .llm import LLMClient
from .mllm import MllmClient
from .providers import ClaudeClient, GeminiClient, OpenAIClient

__all__ = ["ClaudeClient", "GeminiClient", "LLMClient", "MllmClient", "OpenAIClient", "Ways", "jsonl_path"]
