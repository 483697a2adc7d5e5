"""What a client is told about money: its cache, its prices, its trackers, from the forms in which a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..backends import Attempts, Endpoint, model_prices
from ..batch.spent import earlier_runs
from ..cache.key import KeyScope
from ..cache.options import ResponseCacheConfig
from ..cache.store import ResponseCache
from ..cost.options import CostTrackerConfig
from ..cost.tracker import CostTracker
from ..errors import ConfigError
from ..language import _
from ..prices import PriceLike, PriceOptions, parse_price

CacheLike = ResponseCacheConfig | ResponseCache | bool | None


def as_cache(given: CacheLike) -> tuple[ResponseCache | None, bool]:
    """Return the cache that a caller means, None for none, and whether it is the client's to close.

    Args:
        given: True is the default one; a `ResponseCache` may be shared by several clients.
    """
    if given is None or given is False:
        return None, False
    if given is True:
        given = ResponseCacheConfig(enabled=True)
    if isinstance(given, ResponseCache):
        return given, False
    if not isinstance(given, ResponseCacheConfig):
        raise ConfigError(
            _("cache must be made by ResponseCacheConfig(...), not of type {kind}", kind=type(given).__name__)
        )
    return (ResponseCache(given), True) if given.enabled else (None, False)


def as_tracker(
    given: CostTrackerConfig | CostTracker | None, attempts: Attempts, model: str | None
) -> CostTracker | None:
    """Return what counts and limits the cost of all that a client asks; None if nobody does.

    Raises:
        PriceUnknown: There is a budget in dollars, and the model's price is not known.
    """
    if given is None:
        return None
    if isinstance(given, CostTrackerConfig):
        given = CostTracker(given)
    if not isinstance(given, CostTracker):
        raise ConfigError(
            _("cost_tracker must be made by CostTrackerConfig, not of type {kind}", kind=type(given).__name__)
        )
    if not given.enabled:
        return None
    _check_prices(given, attempts, model)
    return given


def run_tracker(
    limits: CostTrackerConfig, output: Path | None, attempts: Attempts, model: str | None
) -> CostTracker | None:
    """Return what limits the cost of one batch; None if nothing does. What earlier runs spent on its output file counts.

    Raises:
        PriceUnknown: There is a budget in dollars, and the model's price is not known.
    """
    if not limits.is_limited:
        return None
    _check_prices(CostTracker(limits), attempts, model)  # before the file is read, which may take a while
    if output is None:
        return CostTracker(limits)
    earlier = earlier_runs(output)
    return CostTracker(limits, spent=earlier.spent, outputs=earlier.outputs)


def _check_prices(tracker: CostTracker, attempts: Attempts, model: str | None) -> None:
    if tracker.limits_dollars:
        for name, price in model_prices(attempts, model or ""):
            if name:
                tracker.check_price(name, price)


def price_options(price: PriceLike | None, prices: Mapping[str, PriceLike] | None) -> PriceOptions:
    """Return the prices that a caller gives, checked."""
    if prices is not None and not isinstance(prices, Mapping):
        raise ConfigError(
            _("prices must be a mapping of models to prices, not of type {kind}", kind=type(prices).__name__)
        )
    named = {name: parse_price(given, f"prices[{name!r}]") for name, given in (prices or {}).items()}
    return PriceOptions(price=None if price is None else parse_price(price), named=named)


def key_scope(endpoints: Sequence[Endpoint], cache: ResponseCache | None) -> KeyScope:
    """Return what all requests of a client have in common that changes their answers."""
    by_endpoint = cache is not None and cache.config.by_endpoint
    return KeyScope(
        provider="|".join(sorted({one.provider_name for one in endpoints})),
        endpoints=tuple(sorted({one.place for one in endpoints})) if by_endpoint else (),
        headers=tuple(sorted({header for one in endpoints for header in one.answering_headers()})),
    )
