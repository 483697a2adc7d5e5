"""What the environment says of whom to ask: flexllm's own variables, and below them those that OpenAI's clients read.

Source of the names OPENAI_BASE_URL, OPENAI_API_KEY: OpenAI's SDK for Python.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from ..configfile.paths import variable

OPENAI_URL = "https://api.openai.com/v1"
"""Where OpenAI's clients ask if nobody says where."""

KNOWN = (
    "FLEXLLM_BASE_URL",
    "FLEXLLM_API_KEY",
    "FLEXLLM_MODEL",
    "FLEXLLM_PROVIDER",
    "FLEXLLM_CONFIG",
    "FLEXLLM_LANG",  # read by flexllm.language
)
"""Every variable of flexllm's own."""

_log = logging.getLogger(__name__)


class Named(NamedTuple):
    """A value, and what people call the place that it comes from."""

    value: str
    source: str

    def __repr__(self) -> str:
        return f"Named(source={self.source!r})"  # the value may be a key


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the variables say; None means not set, or not by itself.

    Attributes:
        base_url: A server.
        api_key: Its key; without `base_url` that of the provider's own server.
        model: FLEXLLM_MODEL.
        provider: FLEXLLM_PROVIDER: of that server.
        openai_key: OPENAI_API_KEY. It is for the place that `key_for` knows, and no other.
        openai_url: OPENAI_BASE_URL.
        openai_model: OPENAI_MODEL, which yields to `model`.
        lost_key: FLEXLLM_API_KEY where `base_url` is OPENAI_BASE_URL, so that it belongs to no server.
    """

    base_url: Named | None = None
    api_key: Named | None = None
    model: Named | None = None
    provider: Named | None = None
    openai_key: Named | None = None
    openai_url: Named | None = None
    openai_model: Named | None = None
    lost_key: Named | None = None

    def key_for(self, base_url: str | None) -> Named | None:
        """Return OPENAI_API_KEY if it is for that URL, else None."""
        return self.openai_key if base_url is not None and self._is_openai(base_url) else None

    def _is_openai(self, base_url: str) -> bool:
        asked = _place(base_url)
        if self.openai_url is not None:
            return asked is not None and asked == _place(self.openai_url.value)
        return asked is not None and asked[:3] == ("https", "api.openai.com", 443)


def read_environment(environ: Mapping[str, str] = os.environ) -> Environment:
    """Return what the variables say of whom to ask. Blank ones count as not set."""

    def read(name: str) -> Named | None:
        value = variable(environ, name)
        return None if value is None else Named(value, name)

    own_url, openai_url, openai_key = read("FLEXLLM_BASE_URL"), read("OPENAI_BASE_URL"), read("OPENAI_API_KEY")
    # A URL and its key come from one source: FLEXLLM_API_KEY is not for the server of OPENAI_BASE_URL.
    of_openai = own_url is None and openai_url is not None
    own_key = read("FLEXLLM_API_KEY")
    return Environment(
        base_url=own_url or openai_url,
        api_key=openai_key if of_openai else own_key,
        model=read("FLEXLLM_MODEL"),
        provider=read("FLEXLLM_PROVIDER"),
        openai_key=openai_key,
        openai_url=openai_url,
        openai_model=read("OPENAI_MODEL"),
        lost_key=own_key if of_openai else None,
    )


def names_server(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment names whom to ask, so that the pool of the configuration file is not meant."""
    names = ("FLEXLLM_BASE_URL", "FLEXLLM_API_KEY", "FLEXLLM_MODEL", "OPENAI_BASE_URL")
    return any(variable(environ, name) for name in names)


def warn_of_unknown(environ: Mapping[str, str] = os.environ) -> None:
    """Log a warning for each variable that begins like ours and is none: it was mistyped."""
    for name in sorted(environ):
        if name.startswith("FLEXLLM_") and name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.0)[0]
            _log.warning("the environment variable %s is not known and ignored; did you mean %s?", name, near)


def _place(url: str) -> tuple[str, str, int, str] | None:
    """Return scheme, host, port and path of a URL, so that two that mean the same are equal; None if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))
