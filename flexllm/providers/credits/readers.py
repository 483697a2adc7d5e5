"""Reads what services answer about an account. Sources: their API references; for OpenAI, which has none, its dashboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...language import _
from .balance import Balance, BalanceService, Json

AIML_CREDITS = 2_000_000
"""Of AI/ML API, to the US dollar."""


def _amount(holder: Json, name: str) -> float | None:
    """Return an amount, which some services send as text; None for everything that is none."""
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _inner(answer: Json | None) -> Json:
    data = answer.get("data") if answer is not None else None
    return data if isinstance(data, dict) else {}


def _least(*amounts: float | None) -> float | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _difference(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else whole - part


def read_openrouter(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read OpenRouter's: what its key may still spend, or its account has, whichever is less."""
    key, account = _inner(answers[0]), _inner(answers[1])
    limit, used, of_key = (_amount(key, name) for name in ("limit", "usage", "limit_remaining"))
    if of_key is None and not key.get("limit_reset"):  # a limit that is renewed says nothing of what was used in all
        of_key = _difference(limit, used)
    of_account = _difference(_amount(account, "total_credits"), _amount(account, "total_usage"))
    return Balance(
        provider=service.provider,
        remaining=_least(of_key, of_account),
        limit=limit,
        used=used,
        used_today=_amount(key, "usage_daily"),
        used_month=_amount(key, "usage_monthly"),
        currency=service.currency,
    )


def read_deepseek(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read DeepSeek's: an account in one or two currencies."""
    answer = answers[0] or {}
    is_available = answer.get("is_available")
    listed = answer.get("balance_infos")
    found = []
    for held in listed if isinstance(listed, list) else ():
        amount = _amount(held, "total_balance") if isinstance(held, dict) else None
        if amount is not None:
            found.append(
                Balance(
                    provider=service.provider,
                    remaining=amount,
                    currency=str(held.get("currency") or service.currency),
                    is_available=is_available if isinstance(is_available, bool) else None,
                )
            )
    if not found:
        return Balance(provider=service.provider)
    found.sort(key=lambda one: not one.remaining)  # an account in one currency is listed with 0.00 in the other
    first, *others = found
    return replace(first, others=tuple(others))


def read_siliconflow(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read SiliconFlow's: one amount."""
    remaining = _amount(_inner(answers[0]), "totalBalance")
    return Balance(provider=service.provider, remaining=remaining, currency=service.currency)


def read_moonshot(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read Moonshot's: one amount, which says whether the account can be used."""
    remaining = _amount(_inner(answers[0]), "available_balance")
    return Balance(
        provider=service.provider,
        remaining=remaining,
        currency=service.currency,
        is_available=None if remaining is None else remaining > 0,
    )


def read_aiml(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read AI/ML API's: its own credits, turned into dollars."""
    held = _amount(answers[0] or {}, "balance")
    return Balance(
        provider=service.provider,
        remaining=None if held is None else held / AIML_CREDITS,
        currency=service.currency,
        unit=_("credits, {rate:,} to the dollar", rate=AIML_CREDITS),
    )


def read_openai(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    """Read OpenAI's: what was granted and what is left of it."""
    answer = answers[0] or {}
    limit, used, remaining = (_amount(answer, f"total_{name}") for name in ("granted", "used", "available"))
    if remaining is None:
        remaining = _difference(limit, used)
    return Balance(provider=service.provider, remaining=remaining, limit=limit, used=used, currency=service.currency)
