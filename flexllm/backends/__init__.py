"""From options to the backend that obeys them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..cost.tracker import CostTracker
from ..errors import ConfigError
from ..language import _
from ..limits import shared_gate
from ..media.load import MediaStore
from ..options import EndpointOptions
from ..prices import ModelPrice, dearest
from ..providers import find_provider
from ..providers.base import Provider
from ..replies import ReplyPolicy
from ..retry import RetryPolicy
from ..transport import Transport
from ..wire import KEY_HEADERS, NO_KEY, Target
from .attempts import Attempts
from .balanced import Balancer
from .base import Backend
from .cached import CachedBackend
from .choice import Choice, OneEndpoint, PoolOptions
from .endpoint import Authorise, Endpoint
from .hedge import HedgePolicy
from .metered import MeteredBackend
from .structured import StructuredBackend

if TYPE_CHECKING:
    import requests

__all__ = [
    "Attempts",
    "Backend",
    "CachedBackend",
    "Endpoint",
    "HedgePolicy",
    "PoolOptions",
    "build_attempts",
    "build_backend",
    "build_choice",
    "build_endpoint",
    "highest_price",
    "model_prices",
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
        prices=options.prices,
    )


def build_choice(endpoints: Sequence[Endpoint], pool: PoolOptions | None) -> Choice:
    """Return what chooses among endpoints, as `pool` says; None asks the only one."""
    return OneEndpoint(endpoints[0]) if pool is None else Balancer(endpoints, pool)


def build_attempts(
    choice: Choice,
    retry: RetryPolicy,
    *,
    hedge: HedgePolicy | None = None,
    model: str | None = None,
    distribute: bool = True,
) -> Attempts:
    """Return the attempts at one endpoint or at several.

    Args:
        model: What stands for an endpoint's own model in requests to a pool.
        distribute: Rows go where there is room, instead of where the strategy says.
    """
    return Attempts(choice, retry, model=model, hedge=hedge, distribute=distribute)


def build_backend(
    attempts: Attempts, *, replies: ReplyPolicy | None = None, trackers: Sequence[CostTracker] = ()
) -> Backend:
    """Return what answers: the attempts, metered where their cost is counted or limited, below what checks replies."""
    endpoints = attempts.choice.endpoints
    place = endpoints[0].place if len(endpoints) == 1 else None
    below: Backend = attempts
    if trackers:
        below = MeteredBackend(attempts, trackers, partial(highest_price, attempts))
    return StructuredBackend(below, endpoint=place, policy=replies)


def model_prices(attempts: Attempts, model: str) -> list[tuple[str, ModelPrice | None]]:
    """Return, for each endpoint, what it is asked for when a request names `model`, and the price; None is unknown."""
    found = []
    for endpoint in attempts.choice.endpoints:
        is_own = endpoint.model is not None and attempts.is_own_model(model)
        name = endpoint.model or model if is_own else model
        found.append((name, endpoint.price_of(name)))
    return found


def highest_price(attempts: Attempts, model: str) -> ModelPrice | None:
    """Return the most that a model may cost at any of the endpoints, None if that is unknown at one of them."""
    prices = [price for _, price in model_prices(attempts, model)]
    known = [price for price in prices if price is not None]
    return dearest(known) if len(known) == len(prices) else None


def _check_key(provider: Provider, target: Target) -> None:
    has_key = target.api_key not in ("", NO_KEY) or any(name.lower() in KEY_HEADERS for name, _value in target.headers)
    if provider.needs_key and not has_key:
        reason = _(
            "api_key is missing: {provider} cannot be asked without one; give api_key=..., or on the command line --api-key",
            provider=provider.name,
        )
        raise ConfigError(reason)
