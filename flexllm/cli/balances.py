"""What is left of an account, as people read it."""

from __future__ import annotations

from ..language import _, mark
from .servers import place_of

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..config import ResolvedEndpoint
    from ..providers.credits import Balance

_SIGNS = {"USD": "$", "CNY": "¥"}

_AMOUNTS = (
    ("remaining", mark("Remaining: {amount}"), 2),
    ("limit", mark("Limit: {amount}"), 2),
    ("used", mark("Used: {amount}"), 2),
    ("used_today", mark("Used today: {amount}"), 4),
    ("used_month", mark("Used this month: {amount}"), 2),
)
"""Fields of a balance, how they are told, and with how many digits behind the point."""


def money(amount: float, currency: str, digits: int = 2) -> str:
    """Return an amount with the sign of its currency: $96.63, -¥0.50, 3.00 EUR; below a cent with four digits."""
    if 0 < abs(amount) < 0.01:
        digits = max(digits, 4)
    sign = "-" if amount < 0 and round(amount, digits) else ""
    number = f"{abs(amount):,.{digits}f}"
    return f"{sign}{_SIGNS[currency]}{number}" if currency in _SIGNS else f"{sign}{number} {currency}"


def balance_text(balance: Balance, server: ResolvedEndpoint) -> str:
    """Return a balance as a block of lines, with whose it is on top. What the service sent cannot steer a terminal."""
    from ..controls import one_line
    from ..wire import mask_key

    name = server.entry_id or server.model
    head = [
        _("{service} account balance", service=balance.provider),
        *([_("Model: {name}", name=name)] if name else []),
        _("API Key: {key}", key=mask_key(server.api_key)),
        "-" * 40,
    ]
    return "\n".join(map(one_line, [*head, *(f"  {line}" for line in _told(balance))]))


def _told(balance: Balance) -> Iterator[str]:
    for field, text, digits in _AMOUNTS:
        amount = getattr(balance, field)
        if amount is not None:
            yield _(text, amount=money(amount, balance.currency, digits))
    for other in balance.others:
        if other.remaining is not None:
            amount = money(other.remaining, other.currency)
            yield _("Remaining in {currency}: {amount}", currency=other.currency, amount=amount)
    if balance.unit:
        yield _("Counted in: {unit}", unit=balance.unit)
    if balance.is_available is False:
        yield _("Available: no, the service takes no requests until the account is topped up")


def balance_data(balance: Balance, server: ResolvedEndpoint) -> dict[str, Any]:
    """Return the same as JSON-able values; None is unknown."""
    from dataclasses import asdict

    from ..wire import mask_key

    whose = {"model": server.entry_id or server.model or None, "base_url": place_of(server)}
    return {**whose, "api_key": mask_key(server.api_key), **asdict(balance)}
