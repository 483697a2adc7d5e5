"""From options to the backend that obeys them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..limits import shared_gate
from ..media.load import MediaStore
from ..options import EndpointOptions
from ..providers import find_provider
from ..providers.base import Provider
from ..replies import ReplyPolicy
from ..retry import RetryPolicy
from ..transport import Transport
from ..wire import KEY_HEADERS, NO_KEY, Target
from .attempts import Attempts
from .balanced import Balancer
from .base import Backend
from .choice import Choice, OneEndpoint, PoolOptions
from .endpoint import Authorise, Endpoint
from .hedge import HedgePolicy
from .structured import StructuredBackend

if TYPE_CHECKING:
    import requests

__all__ = [
    "Attempts",
    "Backend",
    "Endpoint",
    "HedgePolicy",
    "PoolOptions",
    "build_backend",
    "build_choice",
    "build_endpoint",
]


def build_endpoint(
    options: EndpointOptions,
    *,
    session: requests.Session | None = None,
    authorise: Authorise | None = None,
    model: str | None = None,
    weight: float = 1.0,
    media: MediaStore | None = None,
) -> Endpoint:
    """Return what asks one endpoint, through the gate of everything in this process that asks it with this key.

    Args:
        session: A session of the caller's own to send through.
        authorise: Gives headers for each attempt, instead of a key.
        model: Asked here instead of the pool's own.
        media: Shared by the endpoints of a pool, so that each medium is read once; None makes one.

    Raises:
        ConfigError: The provider is not known, or cannot be asked without a key and is given none.
    """
    provider, base_url = find_provider(options.provider, options.base_url, options.model)
    target = Target(base_url=base_url, api_key=options.api_key, headers=options.headers)
    if authorise is None:
        _check_key(provider, target)
    keys = tuple(value for name, value in target.headers if name.lower() in KEY_HEADERS)
    # An object that cannot be hashed is alive, and its id its own, as long as the endpoint that holds it and the gate.
    who = authorise if isinstance(authorise, Hashable) else id(authorise)
    return Endpoint(
        provider,
        target,
        Transport(options.transport, session),
        shared_gate((target.base_url, target.api_key, keys, who), options.rate_limit),
        media or MediaStore(options.media, options.transport),
        model=model,
        weight=weight,
        authorise=authorise,
    )


def build_choice(endpoints: Sequence[Endpoint], pool: PoolOptions | None) -> Choice:
    """Return what chooses among endpoints, as `pool` says; None asks the only one."""
    return OneEndpoint(endpoints[0]) if pool is None else Balancer(endpoints, pool)


def build_backend(
    choice: Choice,
    retry: RetryPolicy,
    *,
    replies: ReplyPolicy | None = None,
    hedge: HedgePolicy | None = None,
    model: str | None = None,
    distribute: bool = True,
) -> Backend:
    """Return what answers: the attempts at one endpoint or at several, below what checks answers.

    Args:
        model: What stands for an endpoint's own model in requests to a pool.
        distribute: Rows go where there is room, instead of where the strategy says.
    """
    attempts = Attempts(choice, retry, model=model, hedge=hedge, distribute=distribute)
    place = choice.endpoints[0].place if len(choice.endpoints) == 1 else None
    return StructuredBackend(attempts, endpoint=place, policy=replies)


def _check_key(provider: Provider, target: Target) -> None:
    has_key = target.api_key not in ("", NO_KEY) or any(name.lower() in KEY_HEADERS for name, _ in target.headers)
    if provider.needs_key and not has_key:
        raise ConfigError(
            f"api_key is missing: {provider.name} cannot be asked without one; give api_key=..., or on the command line "
            "--api-key"
        )
