"""Amounts of money as people read them."""

from __future__ import annotations

import math


def dollars(amount: float) -> str:
    """Return an amount of US dollars for people: two digits behind the point from 1 dollar on, four below, and of very
    small ones the first two that are not 0."""
    sign, amount = ("-" if amount < 0 else ""), abs(amount)
    if amount >= 1 or amount == 0:
        return f"{sign}${amount:,.2f}"
    digits = 4 if amount >= 0.001 else min(12, 1 - math.floor(math.log10(amount)))
    return f"{sign}${amount:.{digits}f}"
