"""The table of prices: which price a model has at a server, and what to do where none is known.

The list came with the package, is dated, and may be laid over with what `flexllm pricing --update` has fetched. A model
that is in neither has no price here: never 0, and never that of a model with a similar name.
"""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import lru_cache

from ..errors import ConfigError, PriceUnknown
from ..fork import forget_in_child
from ..language import _
from .fetched import FETCHED_PATH, fetched_list
from .names import LONGEST, is_name, key_of, readings
from .rows import PriceList, PriceRow, read_list
from .sellers import offers
from .updates import merge
from .values import ModelPrice, Price, PriceOptions

_REMEMBERED = 4096
"""Pairs of a model and a server whose price is looked up once."""


class PriceTable:
    """Prices of many models. May be shared by threads.

    Attributes:
        date: The day, as YYYY-MM-DD, as of which the prices hold; each of them has its own, too.
    """

    def __init__(self, rows: Iterable[PriceRow], date: str) -> None:
        self.date = date
        self._rows = tuple(rows)
        self._by_key: dict[str, list[PriceRow]] = {}
        for row in self._rows:
            self._by_key.setdefault(key_of(row.model), []).append(row)
        self._remembered = lru_cache(_REMEMBERED)(self._find)

    def __iter__(self) -> Iterator[PriceRow]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, model: str, base_url: str | None = None) -> ModelPrice | None:
        """Return what a model costs at a server, None if that is not known.

        Args:
            model: As the server is asked for it; also "openai/gpt-4o", "gpt-4o-2024-08-06", "models/gemini-2.5-pro".
            base_url: The server's; None asks for the model's price wherever it is sold. Where it is sold by several who
                do not agree, that is not known.
        """
        return self._remembered(model, base_url) if is_name(model) else None

    def find_rows(self, model: str, base_url: str | None = None) -> tuple[PriceRow, ...]:
        """Return all rows that a name may mean at a server: several, where several providers sell the model."""
        return self._search(model, base_url)[0] if is_name(model) else ()

    def nearest(self, model: str) -> list[str]:
        """Return at most three names in the table that look like this one."""
        names = {key_of(row.model): row.model for row in self._rows}
        return [names[key] for key in get_close_matches(key_of(model[:LONGEST]), names, n=3)]

    def _find(self, model: str, base_url: str | None) -> ModelPrice | None:
        rows, is_certain = self._search(model, base_url)
        if not rows:
            return None
        price = rows[0].price if len(rows) == 1 else _common([row.price for row in rows])
        return price if price is None or is_certain else replace(price, uncertain=True)

    def _search(self, model: str, base_url: str | None) -> tuple[tuple[PriceRow, ...], bool]:
        """Return the rows that a name means, and whether their prices are those of this very server."""
        meanings = readings(model)
        for offer in offers(base_url):
            for key, vendor in meanings:
                rows = [
                    row
                    for row in self._by_key.get(key, ())
                    if vendor in (None, row.provider) and offer.holds(row.provider, vendor)
                ]
                if rows:
                    is_sure = all(offer.is_sure(row.provider, row.model) for row in rows)
                    return tuple([row for row in rows if row.model == model] or rows), is_sure
        return (), True


def _common(prices: Sequence[ModelPrice]) -> ModelPrice | None:
    """Return what several providers agree on; None if that is less than the prices of input and output, at all times."""
    first = prices[0]
    for price in prices[1:]:
        same = all(getattr(price, name) == getattr(first, name) for name in ("changes", "off_peak", "peak_hours"))
        if not same or not _same_tokens(first.price, price.price):
            return None
    shared = {
        name: getattr(first.price, name)
        for name in _OPTIONAL
        if all(getattr(price.price, name) == getattr(first.price, name) for price in prices)
    }
    base = first.price
    common = Price(input=base.input, output=base.output, request=base.request, tiers=base.tiers, **shared)
    return replace(
        first,
        price=common,
        provider=" or ".join(price.provider for price in prices),
        uncertain=any(price.uncertain for price in prices),
    )


_OPTIONAL = tuple(one.name for one in fields(Price) if one.default is None)


def _same_tokens(one: Price, other: Price) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("input", "output", "request", "tiers"))


# --- the table that everybody uses ------------------------------------------------------------------------------------


def bundled_list() -> PriceList:
    """Return the list that came with the package."""
    data = pkgutil.get_data(__name__.partition(".")[0], "data/prices.json")
    if data is None:
        raise ConfigError(_("the package's list of prices is missing; install flexllm again"))
    return read_list(data)


def load_table(fetched: str | None = FETCHED_PATH) -> PriceTable:
    """Return a new table: the package's list, and what the file `fetched` holds, if it is there; None reads none.

    A file that cannot be read costs a warning, and is left out.
    """
    own = bundled_list()
    more = fetched_list(fetched) if fetched is not None else None
    if more is None:
        return PriceTable(own.rows, own.date)
    return PriceTable(merge(own, more), max(own.date, more.date))


class _Default:
    """Holds the table once it is loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table: PriceTable | None = None
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def table(self) -> PriceTable:
        if self._table is None:
            with self._lock:
                if self._table is None:
                    self._table = load_table()
        return self._table


_default = _Default()


def default_table() -> PriceTable:
    """Return the table that everybody uses, which is loaded when it is first asked for, once."""
    return _default.table()


def price_of(model: str, base_url: str | None = None, own: PriceOptions | None = None) -> ModelPrice | None:
    """Return what a model costs at a server, None if that is not known.

    Args:
        base_url: The server's; None asks for the model's price wherever it is sold.
        own: The caller's own prices, which win: first by the model's name, then for every model.
    """
    if own is not None:
        price = own.named.get(model, own.price)
        if price is not None:
            return ModelPrice(model=model, price=price)
    return default_table().find(model, base_url)


def price_unknown(model: str) -> PriceUnknown:
    """Return the error for a model without a price, which says how to give one."""
    shown = model if isinstance(model, str) and len(model) <= _SHOWN else f"{str(model)[:_SHOWN]}..."
    reason = _(
        "no price is known for model {model!r}; give it in US dollars per million tokens, as price='0.5,1.5' to the "
        "client, --price 0.5,1.5 on the command line or 'price: 0.5,1.5' in the configuration file, or look for it with "
        "'flexllm pricing --update'",
        model=shown,
    )
    return PriceUnknown(reason)


_SHOWN = 80
"""Letters of a model's name in a message."""
