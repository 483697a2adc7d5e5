"""What a pool is made of: endpoints as its user gives them, or those of clients that exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..backends import Endpoint, build_endpoint
from ..errors import ConfigError
from ..language import _
from ..media.load import MediaStore
from ..options import EndpointConfig, EndpointOptions, as_endpoint_config
from ..wire import NO_KEY

if TYPE_CHECKING:
    import requests


class HasEndpoints(Protocol):
    """A client, as far as a pool knows it."""

    @property
    def model(self) -> str | None: ...

    @property
    def _endpoints(self) -> Sequence[Endpoint]: ...


def pool_endpoints(
    options: EndpointOptions,
    endpoints: Sequence[EndpointConfig | Mapping[str, Any]] | None,
    clients: Sequence[HasEndpoints] | None,
    session: requests.Session | None,
) -> tuple[Endpoint, ...]:
    """Return the endpoints of a pool. They read each medium once for all.

    Args:
        options: What holds for all endpoints that have nothing of their own.
        clients: Their endpoints are lent: the pool does not close them.

    Raises:
        ConfigError: There are none, or one of them cannot be made; the message names it.
    """
    for name, entries in (("endpoints", endpoints), ("clients", clients)):
        if entries is not None and (isinstance(entries, (str, bytes)) or not isinstance(entries, Sequence)):
            raise ConfigError(_("{name} must be a list, not of type {kind}", name=name, kind=type(entries).__name__))
    if not endpoints and not clients:
        raise ConfigError(_("a pool needs endpoints=[...] or clients=[...] with at least one entry"))
    if options.base_url is not None or options.api_key != NO_KEY:
        raise ConfigError(_("base_url and api_key belong to one endpoint; give them in its entry of endpoints"))
    media = MediaStore(options.media, options.transport)
    made = []
    for position, given in enumerate(endpoints or ()):
        where = f"endpoints[{position}]"
        config = as_endpoint_config(given, where)
        try:
            made.append(
                build_endpoint(
                    config.over(options),
                    session=session,
                    model=config.model or options.model,
                    weight=config.weight,
                    media=media,
                )
            )
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    for position, client in enumerate(clients or ()):
        found = getattr(client, "_endpoints", None)
        if not found:
            kind = type(client).__name__
            raise ConfigError(
                _("clients[{position}] must be a client, not of type {kind}", position=position, kind=kind)
            )
        made += [one.lent(one.model or client.model) for one in found]
    return tuple(made)


def pool_model(endpoints: Sequence[Endpoint], model: str | None) -> str | None:
    """Return what stands for "each endpoint's own model" in a pool's requests, None if some endpoint has none.

    It is their model's name where they have the same. Else it holds all of them, in an order of its own, so that an output
    file knows its rows again when the endpoints are listed in another order.
    """
    names = {one.model for one in endpoints}
    if None in names:
        return model
    return "|".join(sorted(name for name in names if name))
