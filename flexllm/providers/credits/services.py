"""Who tells a balance and who does not, found by the host of a base URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ...errors import ConfigError
from ...language import _, mark
from .balance import BalanceService
from .readers import read_aiml, read_deepseek, read_moonshot, read_openai, read_openrouter, read_siliconflow


def find_service(base_url: str) -> BalanceService:
    """Return the service that tells the balance of the account behind a base URL.

    Raises:
        ConfigError: There is none; the message says why, and where to look instead.
    """
    host = _host(base_url)
    for domain, service in _SERVICES.items():
        if _is_within(host, domain):
            return service
    for domain, why in _WITHOUT.items():
        if _is_within(host, domain):
            raise ConfigError(_(why.text, provider=why.provider, console=why.console))
    known = ", ".join(dict.fromkeys(service.provider for service in _SERVICES.values()))
    if not host:
        raise ConfigError(_("nobody knows how to ask this base_url for a balance; known are {known}", known=known))
    raise ConfigError(_("nobody knows how to ask {host} for a balance; known are {known}", host=host, known=known))


def _host(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        return (parts.hostname or "").rstrip(".") if parts.scheme in ("http", "https") else ""
    except (ValueError, AttributeError, TypeError):
        return ""


def _is_within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _siliconflow(domain: str, currency: str) -> BalanceService:
    return BalanceService(
        provider="SiliconFlow",
        urls=(f"https://api.{domain}/v1/user/info",),
        reader=read_siliconflow,
        console=f"https://cloud.{domain}",
        currency=currency,
    )


def _moonshot(domain: str, currency: str) -> BalanceService:
    return BalanceService(
        provider="Moonshot",
        urls=(f"https://api.{domain}/v1/users/me/balance",),
        reader=read_moonshot,
        console=f"https://platform.{domain}",
        currency=currency,
    )


_SERVICES = {
    "openrouter.ai": BalanceService(
        provider="OpenRouter",
        urls=("https://openrouter.ai/api/v1/key", "https://openrouter.ai/api/v1/credits"),
        reader=read_openrouter,
        console="https://openrouter.ai/settings/credits",
    ),
    "siliconflow.cn": _siliconflow("siliconflow.cn", "CNY"),
    "siliconflow.com": _siliconflow("siliconflow.com", "USD"),
    "deepseek.com": BalanceService(
        provider="DeepSeek",
        urls=("https://api.deepseek.com/user/balance",),
        reader=read_deepseek,
        console="https://platform.deepseek.com",
        currency="CNY",
    ),
    "moonshot.ai": _moonshot("moonshot.ai", "USD"),
    "moonshot.cn": _moonshot("moonshot.cn", "CNY"),
    "aimlapi.com": BalanceService(
        provider="AI/ML API",
        urls=("https://billing.aimlapi.com/v1/billing/balance",),
        reader=read_aiml,
        console="https://aimlapi.com/app",
    ),
    # A regional host, such as eu.api.openai.com, has the same accounts.
    "api.openai.com": BalanceService(
        provider="OpenAI",
        urls=("https://api.openai.com/v1/dashboard/billing/credit_grants",),
        reader=read_openai,
        console="https://platform.openai.com/settings/organization/billing",
        for_browsers=True,
    ),
}
"""By domain; hosts below it count as well."""


class _Silent(NamedTuple):
    """A service that tells no balance: where people see it, and a text that says why."""

    provider: str
    console: str
    text: str = mark("{provider} has no public request that tells a balance; see {console}")


_NOT_DOCUMENTED = mark("{provider} has no documented request that tells a balance; see {console}")

_WITHOUT = {
    "anthropic.com": _Silent(
        "Anthropic",
        "https://console.anthropic.com",
        mark(
            "{provider} tells no balance to a normal key: its Admin API, which needs an admin key (sk-ant-admin...), tells "
            "what was spent; see {console}"
        ),
    ),
    "x.ai": _Silent(
        "xAI",
        "https://console.x.ai",
        mark("{provider} tells a balance only to a management key, which is another than the API key; see {console}"),
    ),
    "together.xyz": _Silent("Together AI", "https://api.together.ai"),
    "together.ai": _Silent("Together AI", "https://api.together.ai"),
    "groq.com": _Silent("Groq", "https://console.groq.com"),
    "mistral.ai": _Silent("Mistral", "https://console.mistral.ai"),
    "googleapis.com": _Silent("Google", "https://console.cloud.google.com/billing"),
    "fireworks.ai": _Silent("Fireworks", "https://app.fireworks.ai"),
    "cerebras.ai": _Silent("Cerebras", "https://cloud.cerebras.ai"),
    "cohere.com": _Silent("Cohere", "https://dashboard.cohere.com"),
    "cohere.ai": _Silent("Cohere", "https://dashboard.cohere.com"),
    "perplexity.ai": _Silent("Perplexity", "https://www.perplexity.ai/settings/api"),
    "aliyuncs.com": _Silent(
        "DashScope",
        "https://bailian.console.aliyun.com",
        mark(
            "{provider} tells no balance to an API key: Alibaba Cloud's billing API needs an access key of the account; see "
            "{console}"
        ),
    ),
    "z.ai": _Silent("Z.ai", "https://z.ai", _NOT_DOCUMENTED),
    "bigmodel.cn": _Silent("Zhipu", "https://bigmodel.cn", _NOT_DOCUMENTED),
}
"""By domain: why there is nothing to ask, and where people look."""
