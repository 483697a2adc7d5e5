"""The face: clients for single, streamed and batch calls."""

from .llm import LLMClient, jsonl_path
from .mllm import MllmClient
from .providers import ClaudeClient, GeminiClient, OpenAIClient

__all__ = ["ClaudeClient", "GeminiClient", "LLMClient", "MllmClient", "OpenAIClient", "jsonl_path"]
