"""From options to the backend that obeys them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..limits import Gate
from ..media.load import MediaStore
from ..options import EndpointOptions
from ..providers import find_provider
from ..providers.base import Provider
from ..transport import Transport
from ..wire import KEY_HEADERS, NO_KEY, Headers, Target
from .base import Backend
from .endpoint import Endpoint
from .media import MediaBackend
from .structured import StructuredBackend

if TYPE_CHECKING:
    import requests

__all__ = ["Backend", "Endpoint", "build_backend"]


def build_backend(
    options: EndpointOptions,
    *,
    session: requests.Session | None = None,
    authorise: Callable[[], Headers | Mapping[str, str]] | None = None,
) -> Backend:
    """Return the backend for one endpoint: what answers, below what fetches media, below what checks answers.

    Args:
        session: A session of the caller's own to send through.
        authorise: Gives headers for each attempt, instead of a key.

    Raises:
        ConfigError: The provider is not known, or cannot be asked without a key and is given none.
    """
    provider, base_url = find_provider(options.provider, options.base_url, options.model)
    target = Target(base_url=base_url, api_key=options.api_key, headers=options.headers)
    if authorise is None:
        _check_key(provider, target)
    endpoint = Endpoint(
        provider,
        target,
        Transport(options.transport, session),
        Gate(options.rate_limit),
        options.retry,
        authorise=authorise,
    )
    media = MediaStore(options.media, options.transport)
    return StructuredBackend(MediaBackend(endpoint, media, provider.media(target)), endpoint=endpoint.place)


def _check_key(provider: Provider, target: Target) -> None:
    has_key = target.api_key not in ("", NO_KEY) or any(name.lower() in KEY_HEADERS for name, _ in target.headers)
    if provider.needs_key and not has_key:
        raise ConfigError(
            f"api_key is missing: {provider.name} cannot be asked without one; give api_key=..., or on the command line "
            "--api-key"
        )
