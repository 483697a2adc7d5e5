"""`MODEL_PRICING`: the table of prices as a plain mapping, in dollars per token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from decimal import Decimal

from .rows import PriceRow
from .sellers import OPENROUTER
from .table import PriceTable, default_table
from .values import Price

_PER_TOKEN = tuple(one.name for one in fields(Price) if one.name not in ("tiers", "request"))


class ModelPricing(Mapping[str, dict[str, float]]):
    """What models cost, by their ids, in US dollars per token and as it is now.

    Each is a mapping with `input`, `output`, `cached_input` and others; what is not known is left out. Read-only, and loaded
    when it is first looked into. Names are those of the table, exactly. Long prompts and hours of the day, at which some
    models cost less, are left to `price_of`. A model that several providers sell has the price of the first.
    """

    def __init__(self, table: Callable[[], PriceTable] = default_table, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock
        self._rows: dict[str, PriceRow] | None = None

    def __getitem__(self, model: str) -> dict[str, float]:
        price = replace(self._loaded()[model].price, off_peak=None).at(self._clock())
        known = ((name, getattr(price, name)) for name in _PER_TOKEN)
        return {name: _per_token(value) for name, value in known if value is not None}

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __contains__(self, model: object) -> bool:
        return model in self._loaded()

    def __repr__(self) -> str:
        return f"<prices of {len(self)} models in US dollars per token, as of {self._table().date}>"

    def _loaded(self) -> dict[str, PriceRow]:
        if self._rows is None:
            rows: dict[str, PriceRow] = {}
            for row in self._table():
                if row.provider != OPENROUTER:
                    rows.setdefault(row.model, row)
            self._rows = rows
        return self._rows


def _per_token(per_million: float) -> float:
    return float(Decimal(repr(per_million)).scaleb(-6))  # 1.6 / 1e6 would be 1.6000000000000001e-06


MODEL_PRICING = ModelPricing()
"""The prices of all models that are known, in US dollars per token."""
