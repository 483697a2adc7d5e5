"""Clients of one provider each, with the words in which its users know it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..vertex import google_credentials, vertex_base_url
from ..wire import NO_KEY
from .llm import LLMClient


class OpenAIClient(LLMClient):
    """Asks a server that speaks OpenAI's chat completions: OpenAI, DeepSeek, Qwen, vLLM, Ollama and many more."""

    _provider = "openai"


class ClaudeClient(LLMClient):
    """Asks Anthropic's Messages API.

    Args:
        api_key: A key, or an OAuth token ("sk-ant-oat...").
        model: Such as "claude-sonnet-5-5"; without it each call must name one.
        base_url: None means Anthropic's own.
        api_version: The `anthropic-version` of each request; None means "2023-06-01", which lets the models that take
            sampling parameters have them.
        headers: More headers for every request, such as `anthropic-beta`.
        options: Those of `LLMClient`.
    """

    _provider = "claude"

    def __init__(
        self,
        *,
        api_key: str = NO_KEY,
        model: str | None = None,
        base_url: str | None = None,
        api_version: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        given = dict(headers or {})
        if api_version is not None:
            given["anthropic-version"] = api_version
        super().__init__(model=model, base_url=base_url, api_key=api_key, headers=given, **options)


class GeminiClient(LLMClient):
    """Asks Gemini: with a key through Google's developer API, or with Google credentials through Vertex AI.

    Args:
        api_key: A key of the developer API; with `use_vertex_ai` and no project, of Vertex AI in express mode.
        model: None leaves it to each call.
        base_url: None means Google's own.
        use_vertex_ai: Ask Vertex AI. Needs the extra `vertex` (google-auth), but for express mode.
        project_id: The project that pays; None means that of the credentials, or of GOOGLE_CLOUD_PROJECT.
        location: A region, "global", "us" or "eu".
        credentials: Of google-auth; or the path or the content of a credentials file; None means the application-default
            credentials.
        options: Those of `LLMClient`.

    Raises:
        ConfigError: No key, or no credentials, can be had.
    """

    _provider = "gemini"

    def __init__(
        self,
        *,
        api_key: str = NO_KEY,
        model: str | None = "gemini-2.5-flash",
        base_url: str | None = None,
        use_vertex_ai: bool = False,
        project_id: str | None = None,
        location: str | None = None,
        credentials: Any = None,
        **options: Any,
    ) -> None:
        if not use_vertex_ai:
            if project_id is not None or credentials is not None:
                raise ConfigError("project_id and credentials are for Vertex AI; give use_vertex_ai=True with them")
        elif api_key and api_key != NO_KEY:
            if project_id is not None or credentials is not None:
                raise ConfigError(
                    "Vertex AI is asked with an api_key, or with project_id and credentials, not with both"
                )
            base_url = base_url or vertex_base_url(None, "global")
        else:
            known = google_credentials(credentials, project_id=project_id)
            options["auth"] = known.headers
            place = location or os.environ.get("GOOGLE_CLOUD_LOCATION") or DEFAULT_LOCATION
            base_url = base_url or vertex_base_url(known.project, place)
        super().__init__(model=model, base_url=base_url, api_key=api_key, **options)


DEFAULT_LOCATION = "us-central1"
"""Where Vertex AI is asked if nobody says where. New models are often at "global" alone."""
