"""OpenRouter's public list of models as prices, and how it is laid over the list that came with the package. Pure.

Nothing here fetches anything: `flexllm pricing --update` does, when it is asked to.

Source: OpenRouter's API reference, GET /api/v1/models. Its prices are texts, in US dollars per token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from ..errors import ConfigError, MalformedResponse
from ..language import _
from .names import VENDORS, key_of
from .rows import PriceList, PriceRow, unix_of
from .sellers import OPENROUTER, sells_alone
from .values import ModelPrice, Price, Tier

MODELS_URL = "https://openrouter.ai/api/v1/models"
SOURCE = "OpenRouter's list of models"

_OPTIONAL = {
    "cached_input": "input_cache_read",
    "cache_write": "input_cache_write",
    "cache_write_1h": "input_cache_write_1h",
    "audio_input": "audio",
    "audio_output": "audio_output",
}
"""Field of a `Price`: OpenRouter's name for it."""

_CLOSE = 1e-9
"""Share by which two prices may differ that are the same."""


def read_models(body: bytes | str, date: str) -> PriceList:
    """Return the prices in OpenRouter's list, as OpenRouter's own: rows named as they are there, "openai/gpt-4o" say.

    Left out is what has no price that could be told beforehand ("-1": a router that chooses among models), and what cannot
    be read.

    Args:
        date: The day on which the list was fetched, as YYYY-MM-DD.

    Raises:
        MalformedResponse: It is no such list, or no price in it can be read.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedResponse(_("the list of models is no JSON; is this the address of OpenRouter's list?")) from None
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise MalformedResponse(_("the list of models has no 'data'; is this the address of OpenRouter's list?"))
    found = {row.model: row for row in (_row(entry, date) for entry in entries) if row is not None}
    if not found:
        raise MalformedResponse(_("the list of models holds no price that can be read"))
    return PriceList(date, tuple(found[model] for model in sorted(found)))


def merge(own: PriceList, fetched: PriceList) -> tuple[PriceRow, ...]:
    """Return the rows of the package's list as the fetched one changes them, and OpenRouter's own behind them.

    A maker's row is replaced where OpenRouter's price for the model is newer and differs, and nobody but the maker runs the
    model; where input and output agree it stays, because it knows more. A model that the package does not know is taken as
    its maker's; as uncertain, if others may sell it to OpenRouter for less.
    """
    known = {(row.provider, key_of(row.model)): row for row in own.rows}
    is_newer = fetched.date > own.date
    for row in fetched.rows:
        vendor, _slash, name = row.model.partition("/")
        provider = VENDORS.get(vendor)
        if provider is None or not name or ":" in name:  # "~" marks an alias, ":" a variant
            continue
        place = (provider, key_of(name))
        alone = sells_alone(provider, name)
        if place not in known:
            known[place] = _as_makers(row, provider, name, uncertain=row.price.uncertain or not alone)
        elif is_newer and alone and not _agree(known[place].price, row.price):
            known[place] = _replaced(known[place], row)
    return (*known.values(), *fetched.rows)


def _as_makers(row: PriceRow, provider: str, name: str, *, uncertain: bool) -> PriceRow:
    return replace(row, price=replace(row.price, provider=provider, model=name, uncertain=uncertain))


def _replaced(old: PriceRow, row: PriceRow) -> PriceRow:
    since = unix_of(row.price.date)
    coming = tuple(change for change in old.price.changes if change[0] > since)
    price = replace(row.price, provider=old.provider, model=old.model, changes=coming)
    return replace(old, price=price, disputed=(), note="")


def _agree(own: ModelPrice, fetched: ModelPrice) -> bool:
    """Return whether input and output cost the same in both, at any hour of the day on which the second was fetched."""
    prices = (own.price, own.off_peak) if own.off_peak is not None else (own.at(unix_of(fetched.date)),)
    other = fetched.price
    return any(
        math.isclose(price.input, other.input, rel_tol=_CLOSE)
        and math.isclose(price.output, other.output, rel_tol=_CLOSE)
        for price in prices
    )


def _row(entry: object, date: str) -> PriceRow | None:
    """Return one model's row, None if it has no price or none that can be read."""
    if not isinstance(entry, Mapping):
        return None
    name, pricing = entry.get("id"), entry.get("pricing")
    if not isinstance(name, str) or not name or not isinstance(pricing, Mapping):
        return None
    try:
        price, uncertain = _price(pricing)
    except (ConfigError, InvalidOperation, OverflowError, TypeError, ValueError):
        return None
    top = entry.get("top_provider")
    return PriceRow(
        price=ModelPrice(
            model=name, provider=OPENROUTER, price=price, date=date, source=SOURCE, uncertain=uncertain
        ),
        context_window=_count(entry.get("context_length")),
        max_output=_count(top.get("max_completion_tokens")) if isinstance(top, Mapping) else None,
    )  # fmt: skip


def _price(pricing: Mapping[str, Any]) -> tuple[Price, bool]:
    """Return a model's price, and whether it is uncertain: it has rules that are not expressed here.

    OpenRouter writes "0" for what a model does not have. A cached token that is free beside others that are not would be
    new, so it is taken as not known.
    """
    given = {name: _per_million(pricing[theirs]) for name, theirs in _OPTIONAL.items() if pricing.get(theirs)}
    tiers, uncertain = _tiers(pricing.get("overrides"))
    price = Price(
        input=_per_million(pricing["prompt"]) if "prompt" in pricing else _absent(),
        output=_per_million(pricing["completion"]) if "completion" in pricing else _absent(),
        request=float(Decimal(pricing.get("request") or 0)),
        tiers=tiers,
        **{name: value for name, value in given.items() if value},
    )
    return price, uncertain or bool(float(pricing.get("discount") or 0))


def _tiers(overrides: object) -> tuple[tuple[Tier, ...], bool]:
    """Return what long prompts cost, and whether there are other rules, such as hours of the day."""
    found: dict[int, Tier] = {}
    others = False
    for one in overrides if isinstance(overrides, Iterable) and not isinstance(overrides, (str, Mapping)) else ():
        above = _count(one.get("min_prompt_tokens")) if isinstance(one, Mapping) else None
        if above is None or any(name.startswith("utc_") for name in one):
            others = True
            continue
        cached = one.get("input_cache_read")
        price = Price(
            input=_per_million(one["prompt"]) if "prompt" in one else _absent(),
            output=_per_million(one["completion"]) if "completion" in one else _absent(),
            cached_input=_per_million(cached) or None if cached else None,
        )
        found[above] = Tier(above=above, input=price.input, output=price.output, cached_input=price.cached_input)
    return tuple(found[above] for above in sorted(found)), others


def _per_million(given: Any) -> float:
    """Return dollars per million tokens; `Price` refuses what is negative, which stands for "it depends"."""
    return float(Decimal(str(given)) * 1_000_000)


def _absent() -> float:
    raise ValueError("a price is not given")


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
