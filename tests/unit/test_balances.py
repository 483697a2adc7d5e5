"""How a balance is laid out for people, and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from foreign import speak

from flexllm.cli.balances import balance_data, balance_text, money
from flexllm.config import ResolvedEndpoint
from flexllm.providers.credits import Balance

KEY = "sk-or-v1-cef5a7deadbeefdeadbeefdeadbeefdeadbeef8559"

SERVER = ResolvedEndpoint(
    model="x-ai/grok-4.1-fast",
    entry_id="grok-4.1-fast",
    base_url="https://openrouter.ai/api/v1",
    api_key=KEY,
    source="a file",
)
BALANCE = Balance(
    provider="OpenRouter", remaining=96.63, limit=150.0, used=53.37, used_today=3.3637, used_month=53.36
)  # fmt: skip


def test_a_balance_is_laid_out_as_the_users_document_has_it() -> None:
    assert balance_text(BALANCE, SERVER) == (
        "OpenRouter account balance\n"
        "Model: grok-4.1-fast\n"
        "API Key: sk-or-v1-cef5a7...8559\n"
        "----------------------------------------\n"
        "  Remaining: $96.63\n"
        "  Limit: $150.00\n"
        "  Used: $53.37\n"
        "  Used today: $3.3637\n"
        "  Used this month: $53.36"
    )


def test_in_another_language_it_can_be_laid_out_as_the_users_document_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "{service} account balance": "{service} 账户余额",
        "Model: {name}": "模型配置: {name}",
        "Remaining: {amount}": "剩余额度: {amount}",
        "Limit: {amount}": "总额度上限: {amount}",
        "Used: {amount}": "已使用: {amount}",
        "Used today: {amount}": "今日消费: {amount}",
        "Used this month: {amount}": "本月消费: {amount}",
    }
    speak(monkeypatch, texts)
    assert balance_text(BALANCE, SERVER) == (
        "OpenRouter 账户余额\n"
        "模型配置: grok-4.1-fast\n"
        "API Key: sk-or-v1-cef5a7...8559\n"
        "----------------------------------------\n"
        "  剩余额度: $96.63\n"
        "  总额度上限: $150.00\n"
        "  已使用: $53.37\n"
        "  今日消费: $3.3637\n"
        "  本月消费: $53.36"
    )


def test_what_is_not_known_has_no_line() -> None:
    text = balance_text(Balance(provider="SiliconFlow", remaining=88.88, currency="CNY"), SERVER)
    assert text.splitlines()[3:] == ["-" * 40, "  Remaining: ¥88.88"]


def test_a_server_for_which_no_model_is_named_has_no_line_for_one() -> None:
    text = balance_text(BALANCE, replace(SERVER, model="", entry_id=None))
    assert text.splitlines()[:2] == ["OpenRouter account balance", "API Key: sk-or-v1-cef5a7...8559"]


def test_what_a_service_calls_its_money_cannot_steer_a_terminal() -> None:
    text = balance_text(Balance(provider="DeepSeek", remaining=1.0, currency="\x1b[31m\nX", unit="\x9b\r"), SERVER)
    assert text.splitlines()[4:] == ["  Remaining: 1.00 \\x1b[31m X", "  Counted in: \\x9b\\x0d"]


def test_other_currencies_units_and_a_blocked_account_are_told() -> None:
    dollars = Balance(provider="DeepSeek", remaining=3.5)
    balance = Balance(
        provider="DeepSeek", remaining=-0.5, currency="CNY", others=(dollars,), unit="beads", is_available=False
    )
    assert balance_text(balance, SERVER).splitlines()[4:] == [
        "  Remaining: -¥0.50",
        "  Remaining in USD: $3.50",
        "  Counted in: beads",
        "  Available: no, the service takes no requests until the account is topped up",
    ]


@pytest.mark.parametrize(
    ("amount", "currency", "digits", "said"),
    [
        (0, "USD", 2, "$0.00"),
        (-0.0, "USD", 2, "$0.00"),
        (1234567.891, "USD", 2, "$1,234,567.89"),
        (-12.345, "CNY", 2, "-¥12.35"),
        (0.0042, "USD", 2, "$0.0042"),
        (-0.0042, "USD", 2, "-$0.0042"),
        (0.00001, "USD", 2, "$0.0000"),
        (-0.00001, "USD", 2, "$0.0000"),
        (3.3637, "USD", 4, "$3.3637"),
        (3, "EUR", 2, "3.00 EUR"),
        (-3, "EUR", 2, "-3.00 EUR"),
    ],
)
def test_amounts_have_the_sign_of_their_currency(amount: float, currency: str, digits: int, said: str) -> None:
    assert money(amount, currency, digits) == said


def test_as_json_the_key_is_masked_too() -> None:
    text = json.dumps(balance_data(BALANCE, SERVER))
    assert KEY not in text
    assert json.loads(text) == {
        "model": "grok-4.1-fast", "base_url": "https://openrouter.ai/api/v1", "api_key": "sk-or-v1-cef5a7...8559",
        "provider": "OpenRouter", "remaining": 96.63, "limit": 150.0, "used": 53.37, "used_today": 3.3637,
        "used_month": 53.36, "currency": "USD", "unit": "", "is_available": None, "others": [],
    }  # fmt: skip
