"""The registry of providers: by name, by what a base URL tells, by the model's name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..chat import ChatCompletionResult, Chunk, ChunkCollector
from ..errors import ConfigError, InputError
from ..language import _
from ..thoughts import split_thoughts
from ..wire import HttpResponse
from . import claude, gemini, openai
from .base import Provider

_PROVIDERS: dict[str, tuple[type[Provider], str]] = {
    "claude": (claude.ClaudeProvider, claude.DEFAULT_BASE_URL),
    "gemini": (gemini.GeminiProvider, gemini.DEFAULT_BASE_URL),
    "openai": (openai.OpenAIProvider, openai.DEFAULT_BASE_URL),
}
"""Name: class and base URL where none is given."""

_HINTS = (
    # DeepSeek's base URL has no path; the others are layers of Gemini and Vertex AI that speak OpenAI's format.
    ("openai", r"api\.deepseek\.com|.*/openai$|.*/endpoints/openapi$"),
    ("claude", r"api\.anthropic\.com(/.*)?|.*/anthropic(/v1)?$"),  # the latter at DeepSeek, Kimi, MiniMax and others
    ("gemini", r"generativelanguage\.googleapis\.com(/.*)?|.*aiplatform\.(googleapis\.com|(us|eu)\.rep\.googleapis\.com)"
     r"(/.*)?|.*/v1beta\d*$|.*/publishers/google$"),
)  # fmt: skip
"""Provider: what host and path of a base URL then are."""

_FAMILIES = (("claude", "claude-"), ("gemini", "gemini-"))
"""Provider: what the names of its models begin with."""


def find_provider(name: str, base_url: str | None, model: str | None = None) -> tuple[Provider, str]:
    """Return the provider of that name and the base URL to ask.

    Args:
        name: "auto", or a name in the registry. "auto" asks the base URL. One that says nothing, because it is not
            given or ends with its host, leaves it to the model's name; every other means OpenAI's format, which most
            servers speak, also about other makers' models.
        base_url: The caller's own; None means the provider's.
        model: The client's model, if it has one.

    Raises:
        ConfigError: There is no provider of that name, or the base URL is no text.
    """
    if base_url is not None and not isinstance(base_url, str):
        raise ConfigError(_("base_url must be a URL, not of type {kind}", kind=type(base_url).__name__))
    found = _PROVIDERS.get(_guess(base_url, model or "") if name == "auto" else name)
    if found is None:
        known = ", ".join(sorted(_PROVIDERS))
        raise ConfigError(_("provider={name!r} is not known; there are: auto, {known}", name=name, known=known))
    provider, default_base_url = found
    return provider(), base_url or default_base_url


def _guess(base_url: str | None, model: str) -> str:
    place = "/"
    if base_url:
        try:
            parts = urlsplit(base_url)
            place = f"{parts.hostname or ''}{parts.path.rstrip('/')}"
        except ValueError:
            place = "/"  # no URL at all; who asks it will say so
    for name, pattern in _HINTS:
        if re.fullmatch(pattern, place):
            return name
    if "/" not in place.rstrip("/"):
        for name, prefix in _FAMILIES:
            if model.startswith(prefix):
                return name
    return "openai"


def thoughts_of(data: ChatCompletionResult | Mapping[str, Any] | str | Iterable[str | Chunk]) -> dict[str, str]:
    """Return `{"thought": ..., "answer": ...}` of a result, a provider's body, a message, a text or a stream's pieces."""
    result = _result_of(data)
    thought, answer = split_thoughts(result.content)
    said = result.reasoning_content or ""
    return {"thought": f"{said}\n\n{thought}" if said and thought else said or thought, "answer": answer}


def _result_of(data: Any) -> ChatCompletionResult:
    if isinstance(data, ChatCompletionResult):
        return data
    if isinstance(data, str):
        return ChatCompletionResult(data)
    if isinstance(data, Mapping):
        body = _body_of(data)
        for kind, _urls in _PROVIDERS.values():
            provider = kind()
            if provider.owns(body):
                return provider.parse(HttpResponse(200, {}, json.dumps(body).encode()))
        raise _no_thoughts(_("{kind} of no provider", kind=type(data).__name__))
    if isinstance(data, (bytes, bytearray)):
        try:
            return _result_of(json.loads(data))
        except ValueError:  # an InputError is one too, and says as much
            raise _no_thoughts(_("body that is no provider's JSON")) from None
    if not isinstance(data, Iterable):
        raise _no_thoughts(type(data).__name__)
    collector = ChunkCollector()
    for piece in data:
        if isinstance(piece, ChatCompletionResult):
            return piece
        if not isinstance(piece, (str, Chunk)):
            raise _no_thoughts(_("{kind} of {piece}", kind=type(data).__name__, piece=type(piece).__name__))
        collector.add(Chunk(content=piece) if isinstance(piece, str) else piece)
    return collector.result()


def _body_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a reply's body as it is, and a single message, or a content of Gemini's, as a body that holds it."""
    if isinstance(data.get("parts"), list):
        return {"candidates": [{"content": data}]}
    return {"choices": [{"message": data}]} if "role" in data and data.get("type") != "message" else data


def _no_thoughts(kind: str) -> InputError:
    return InputError(
        _("thoughts are read from a result, a reply's body, a text or the pieces of a stream, not a {kind}", kind=kind)
    )
