"""What models cost: values, a dated table as data, and how a model's name finds its row."""

from .values import ModelPrice, Price, Tier, parse_price

__all__ = ["ModelPrice", "Price", "Tier", "parse_price"]
