"""The options of an endpoint, composed of the values of the rooms that obey them, and how a pool's user gives them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import ConfigError
from .language import _
from .limits import RateLimit
from .media.options import MediaOptions
from .prices import PriceLike, PriceOptions, parse_price
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
        prices: The caller's own.
    """

    provider: str = "auto"
    model: str | None = None
    base_url: str | None = None
    api_key: str = NO_KEY
    headers: Headers = field(default=(), repr=False)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    transport: TransportOptions = field(default_factory=TransportOptions)
    media: MediaOptions = field(default_factory=MediaOptions)
    prices: PriceOptions = field(default_factory=PriceOptions)

    def __repr__(self) -> str:
        return f"EndpointOptions({self.provider}, {self.base_url}, api_key={mask_key(self.api_key)!r})"


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One endpoint of a pool. What is None is as the pool has it for all.

    Attributes:
        base_url: With the version path; None means the provider's own.
        api_key: Goes to `base_url` and nowhere else. `repr` masks it.
        model: The name of the model there.
        provider: "auto", "openai", "gemini" or "claude".
        weight: Its share, where the pool goes by weights.
        concurrency_limit: Requests under way there at the same time.
        max_qps, min_qps, max_rpm, max_tpm, max_input_tpm, max_output_tpm, burst, adaptive: As in `LLMClient`.
        timeout: Seconds for one attempt.
        headers: More headers for every request there.
        price: What its model costs there: "IN,OUT[,CACHED]" in US dollars per million tokens, a mapping or a `Price`.
    """

    base_url: str | None
    api_key: str = NO_KEY
    model: str | None = None
    provider: str = "auto"
    weight: float = 1.0
    concurrency_limit: int | None = None
    max_qps: float | None = None
    min_qps: float | None = None
    max_rpm: float | None = None
    max_tpm: float | None = None
    max_input_tpm: float | None = None
    max_output_tpm: float | None = None
    burst: int | None = None
    adaptive: bool | None = None
    timeout: float | None = None
    headers: Mapping[str, str] | None = field(default=None, hash=False)
    price: PriceLike | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.model is not None and not isinstance(self.model, str):
            raise ConfigError(_("model={model!r} of an endpoint must be the name of a model", model=self.model))
        is_weight = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not is_weight or not 0 <= self.weight < float("inf"):
            raise ConfigError(_("weight={weight!r} of an endpoint must be a number of at least 0", weight=self.weight))
        if self.headers is not None and not isinstance(self.headers, Mapping):
            raise ConfigError(_("headers of an endpoint must be a mapping of names to values"))
        if self.price is not None:
            parse_price(self.price)

    def __repr__(self) -> str:
        return f"EndpointConfig(base_url={self.base_url!r}, api_key={mask_key(self.api_key)!r}, model={self.model!r})"

    def over(self, options: EndpointOptions) -> EndpointOptions:
        """Return a pool's options for all, with what this endpoint has of its own."""
        own = {name: getattr(self, name) for name in _RATES if getattr(self, name) is not None}
        if self.concurrency_limit is not None:
            own["concurrency"] = self.concurrency_limit
        rate_limit = replace(options.rate_limit, **own)
        transport = replace(options.transport, connections=rate_limit.concurrency)
        if self.timeout is not None:
            transport = replace(transport, timeout=self.timeout)
        prices = options.prices
        if self.price is not None:
            prices = PriceOptions(price=parse_price(self.price))  # nearer than what is for all
        headers = as_headers(self.headers)
        own_names = {name.lower() for name, _value in headers}
        return replace(
            options,
            provider=self.provider or "auto",
            model=self.model or options.model,
            base_url=self.base_url,
            api_key=self.api_key or NO_KEY,
            headers=(*(one for one in options.headers if one[0].lower() not in own_names), *headers),
            rate_limit=rate_limit,
            transport=transport,
            prices=prices,
        )


_RATES = ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm", "burst", "adaptive")


def as_headers(headers: Mapping[str, str] | None) -> Headers:
    """Return headers as a request carries them."""
    return tuple((str(name), str(value)) for name, value in (headers or {}).items())


def as_endpoint_config(given: Any, where: str) -> EndpointConfig:
    """Return one entry of `endpoints`. Raises ConfigError, which names `where` it stands, if it is none."""
    if isinstance(given, EndpointConfig):
        return given
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise ConfigError(
            _("{where} must be an EndpointConfig or a dictionary, not of type {kind}", where=where, kind=kind)
        )
    known = [one.name for one in fields(EndpointConfig)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            if near:
                raise ConfigError(
                    _("{where} has no option {name!r}; did you mean {near!r}?", where=where, name=name, near=near[0])
                )
            raise ConfigError(_("{where} has no option {name!r}", where=where, name=name))
    if not given.get("base_url") and given.get("provider") in (None, "auto"):
        raise ConfigError(
            _("{where} has no base_url: give the server to ask, or the provider whose own it is", where=where)
        )
    try:
        return EndpointConfig(**{"base_url": None, **given})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
