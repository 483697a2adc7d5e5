"""From options to the backend that obeys them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..limits import Gate
from ..options import EndpointOptions
from ..providers import find_provider
from ..transport import Transport
from ..wire import Target
from .base import Backend
from .endpoint import Endpoint

if TYPE_CHECKING:
    import requests

__all__ = ["Backend", "Endpoint", "build_backend"]


def build_backend(options: EndpointOptions, session: requests.Session | None = None) -> Backend:
    """Return the backend for one endpoint.

    Args:
        session: A session of the caller's own to send through.
    """
    provider, base_url = find_provider(options.provider, options.base_url)
    return Endpoint(
        provider,
        Target(base_url=base_url, api_key=options.api_key, headers=options.headers),
        Transport(options.transport, session),
        Gate(options.rate_limit),
        options.retry,
    )
