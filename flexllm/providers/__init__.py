"""The registry of providers: by name, and by what a base URL tells."""

from __future__ import annotations

from ..errors import ConfigError
from . import openai
from .base import Provider

_PROVIDERS: dict[str, tuple[type[Provider], str]] = {
    "openai": (openai.OpenAIProvider, openai.DEFAULT_BASE_URL),
}
"""Name: class and base URL where none is given."""


def find_provider(name: str, base_url: str | None) -> tuple[Provider, str]:
    """Return the provider of that name and the base URL to ask.

    Args:
        name: "auto", or a name in the registry. "auto" means OpenAI's format, which most servers speak.
        base_url: The caller's own; None means the provider's.

    Raises:
        ConfigError: There is no provider of that name.
    """
    found = _PROVIDERS.get("openai" if name == "auto" else name)
    if found is None:
        raise ConfigError(f"provider={name!r} is not known; there are: auto, {', '.join(sorted(_PROVIDERS))}")
    provider, default_base_url = found
    return provider(), base_url or default_base_url
