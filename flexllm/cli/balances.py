"""What is left of an account, as people read it."""

from __future__ import annotations

from ..language import _
from .servers import place_of

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ..config import ResolvedEndpoint
    from ..providers.credits import Balance

_SIGNS = {"USD": "$", "CNY": "¥"}


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

    lines = [_("{provider} account balance", provider=balance.provider)]
    name = server.entry_id or server.model
    if name:
        lines.append(f"Model: {name}")
    lines += [f"API Key: {mask_key(server.api_key)}", "-" * 40]
    for label, amount, digits in (
        ("Remaining", balance.remaining, 2),
        ("Limit", balance.limit, 2),
        ("Used", balance.used, 2),
        (_("Used today"), balance.used_today, 4),
        (_("Used this month"), balance.used_month, 2),
    ):
        if amount is not None:
            lines.append(f"  {label}: {money(amount, balance.currency, digits)}")
    for other in balance.others:
        if other.remaining is not None:
            lines.append(
                _(
                    "  Remaining in {currency}: {money}",
                    currency=other.currency,
                    money=money(other.remaining, other.currency),
                )
            )
    if balance.unit:
        lines.append(_("  Counted in: {unit}", unit=balance.unit))
    if balance.is_available is False:
        lines.append(_("  Available: no, the service takes no requests until the account is topped up"))
    return "\n".join(map(one_line, lines))


def balance_data(balance: Balance, server: ResolvedEndpoint) -> dict[str, Any]:
    """Return the same as JSON-able values; None is unknown."""
    from dataclasses import asdict

    from ..wire import mask_key

    whose = {"model": server.entry_id or server.model or None, "base_url": place_of(server)}
    return {**whose, "api_key": mask_key(server.api_key), **asdict(balance)}
