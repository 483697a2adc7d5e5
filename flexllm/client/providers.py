"""Clients of one provider each, with the words in which its users know it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..language import _
from ..vertex import google_credentials, vertex_base_url
from ..wire import NO_KEY
from .llm import LLMClient


class OpenAIClient(LLMClient):
    """Asks a server that speaks OpenAI's chat completions: OpenAI, DeepSeek, Qwen, vLLM, Ollama and many more.

    Made and used like `LLMClient`.
    """

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
        model: None leaves it to each call; "gemini-2.5-flash" if it is not given.
        base_url: None means Google's own. With `use_vertex_ai`, what Vertex AI's paths (`/v1/projects/...`) are put behind,
            or of them what it does not hold yet.
        use_vertex_ai: Ask Vertex AI. Needs the extra `vertex` (google-auth), but for express mode.
        project_id: The project that pays; None means that of the credentials, or of GOOGLE_CLOUD_PROJECT.
        location: A region, "global", "us" or "eu"; None means that of GOOGLE_CLOUD_LOCATION, or "us-central1". Of Vertex
            AI with credentials alone: the developer API and express mode have none.
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
        given = {"project_id": project_id, "location": location, "credentials": credentials}
        of_vertex = _listed([name for name, value in given.items() if value is not None])
        if not use_vertex_ai:
            if of_vertex:
                raise ConfigError(
                    _(
                        "{options} can be given for Vertex AI alone; give use_vertex_ai=True, or leave it out",
                        options=of_vertex,
                    )
                )
        elif api_key and api_key != NO_KEY:
            if of_vertex:
                raise ConfigError(
                    _(
                        "Vertex AI is asked with an api_key (express mode), or with project_id, location and credentials, not "
                        "with both; leave api_key or {options} out",
                        options=of_vertex,
                    )
                )
            base_url = _behind(base_url, vertex_base_url(None, "global"))
        else:
            known = google_credentials(credentials, project_id=project_id)
            options["auth"] = known.headers
            place = location or os.environ.get("GOOGLE_CLOUD_LOCATION") or DEFAULT_LOCATION
            base_url = _behind(base_url, vertex_base_url(known.project, place))
        super().__init__(model=model, base_url=base_url, api_key=api_key, **options)


def _listed(names: Sequence[str]) -> str:
    """Return names one after another for people; "" for none."""
    listed = "".join(names[:1])
    for name in names[1:]:
        listed = _("{names} and {name}", names=listed, name=name)
    return listed


DEFAULT_LOCATION = "us-central1"
"""Where Vertex AI is asked if nobody says where. New models are often at "global" alone."""

_VERSION_PATH = re.compile(r"/v\d[a-z0-9]*$")


def _behind(base_url: str | None, own: str) -> str:
    """Return where Vertex AI is asked at a base URL of the caller's own, such as a proxy's; `own` is Google's."""
    if not base_url:
        return own
    if "/publishers/" in base_url:
        return base_url
    base_url = base_url.rstrip("/")
    if "/projects/" in base_url:
        return f"{base_url}/publishers/google"
    version, _slash, rest = urlsplit(own).path.lstrip("/").partition("/")
    return f"{base_url}/{rest}" if _VERSION_PATH.search(base_url) else f"{base_url}/{version}/{rest}"
