"""The options of an endpoint, composed of the values of the rooms that obey them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .limits import RateLimit
from .media.options import MediaOptions
from .retry import RetryPolicy
from .transport import TransportOptions
from .wire import NO_KEY, Headers, mask_key


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """Everything that makes one endpoint.

    Attributes:
        provider: "auto" or a name in the registry of providers.
        model: What "auto" goes by where there is no base URL.
        base_url: None means the provider's own.
        api_key: Goes to `base_url` and nowhere else. `repr` masks it.
        headers: More headers for every request.
    """

    provider: str = "auto"
    model: str | None = None
    base_url: str | None = None
    api_key: str = NO_KEY
    headers: Headers = field(default=(), repr=False)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    transport: TransportOptions = field(default_factory=TransportOptions)
    media: MediaOptions = field(default_factory=MediaOptions)

    def __repr__(self) -> str:
        return f"EndpointOptions({self.provider}, {self.base_url}, api_key={mask_key(self.api_key)!r})"
