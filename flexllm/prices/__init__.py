"""What models cost: values, a dated table as data, and how a model's name finds its row."""

from .rows import PriceList, PriceRow
from .table import PriceTable, default_table, load_table, price_of, price_unknown
from .values import ModelPrice, Price, PriceLike, PriceOptions, Tier, dearest, parse_price

__all__ = [
    "ModelPrice",
    "Price",
    "PriceLike",
    "PriceList",
    "PriceOptions",
    "PriceRow",
    "PriceTable",
    "Tier",
    "dearest",
    "default_table",
    "load_table",
    "parse_price",
    "price_of",
    "price_unknown",
]
