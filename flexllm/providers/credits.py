"""What is left of an account's credit: for each service that tells, the requests that ask it and the reader of its replies.

Found by the host of a base URL. Each request goes to the service's own address alone, over https, so that a key never
reaches anybody else. Pure: who sends the requests is the caller's business. Source: the services' API references; for
OpenAI, which documents none, what its dashboard asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ..errors import ApiStatusError, ConfigError, MalformedResponse, NotFound, PermissionDenied, RequestError
from ..language import _, mark
from ..wire import NO_KEY, HttpRequest, HttpResponse, Target
from .base import common_headers, decode_body
from .openai import OpenAIProvider
from .openai.replies import read_error

Json = Mapping[str, Any]

AIML_CREDITS = 2_000_000
"""Of AI/ML API, to the US dollar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What is left of an account or a key. Amounts are in `currency`; None is unknown.

    Attributes:
        provider: The service, by the name that people know.
        remaining: What can still be spent: of the key's own limit or of the account, whichever is less. Below 0 where the
            service lets accounts overdraw.
        limit: What the key may spend, or was granted to the account; None also where the key has no limit of its own.
        used: What the key, or the account, has spent in all.
        used_today, used_month: Since the day, and the month, began in UTC.
        currency: "USD" or "CNY".
        unit: What the service counts in where that is not the currency, as a word for people; amounts are converted.
        is_available: Whether the service says that the account can be used.
        others: What the account holds in further currencies.
    """

    provider: str
    remaining: float | None = None
    limit: float | None = None
    used: float | None = None
    used_today: float | None = None
    used_month: float | None = None
    currency: str = "USD"
    unit: str = ""
    is_available: bool | None = None
    others: tuple[Balance, ...] = ()


Reader = Callable[[Sequence[Json | None], "BalanceService"], Balance]
"""Reads the decoded replies, in the order of the requests; None stands for one that failed and is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceService:
    """A service that tells what is left.

    Attributes:
        provider: Its name.
        urls: What is asked. The first must be answered, the others may fail.
        reader: Makes a balance of the replies.
        console: Where people see it.
        currency: In which the amounts are that name none.
        for_browsers: It answers a person's session; a key is mostly refused.
    """

    provider: str
    urls: tuple[str, ...]
    reader: Reader = field(repr=False)
    console: str
    currency: str = "USD"
    for_browsers: bool = False

    def requests(self, api_key: str) -> tuple[HttpRequest, ...]:
        """Return the requests, to be sent in any order.

        Raises:
            ConfigError: There is no key, or it cannot stand in a header.
        """
        if not api_key or api_key == NO_KEY:
            raise ConfigError(
                _("{provider} tells the balance of a key, and there is none; give api_key", provider=self.provider)
            )
        return tuple(_request(Target(base_url=url, api_key=api_key)) for url in self.urls)

    def read(self, responses: Sequence[HttpResponse]) -> Balance:
        """Read the replies, which stand in the order of the requests; those behind the first may be missing.

        Raises:
            RequestError: The service refused, with the class that its reply stands for; or `MalformedResponse`.
        """
        try:
            answers: list[Json | None] = [self._answer(responses[0])]
            answers += [self._answer_or_none(response) for response in responses[1:]]
            answers += [None] * (len(self.urls) - len(answers))
            balance = self.reader(answers, self)
            if balance.remaining is None and balance.used is None:
                raise MalformedResponse(_("{provider} sent a balance that holds no amount", provider=self.provider))
        except RequestError as error:
            error.endpoint = self.urls[0]
            raise
        return balance

    def _answer(self, response: HttpResponse) -> Json:
        if not 200 <= response.status < 300:
            raise self._refusal(response)
        data = decode_body(response)
        if not isinstance(data, dict):
            raise MalformedResponse(
                _(
                    "{provider} sent a balance that is no object but {kind}",
                    provider=self.provider,
                    kind=type(data).__name__,
                )
            )
        if data.get("error"):
            raise read_error(response.status, response.headers, response.body, data)
        # SiliconFlow and Moonshot say by a code of their own, in a reply of status 200, that something is wrong.
        if data.get("status") is False or str(data.get("code") or 0) not in ("0", "20000"):
            raise read_error(response.status, response.headers, response.body, data)
        return data

    def _answer_or_none(self, response: HttpResponse) -> Json | None:
        try:
            return self._answer(response)
        except RequestError:
            return None  # OpenRouter tells the account's balance to management keys alone

    def _refusal(self, response: HttpResponse) -> ApiStatusError:
        error = OpenAIProvider().error(response)
        is_wrong_key = error.code == "invalid_api_key"
        if self.for_browsers and response.status in (401, 403, 404) and not is_wrong_key:
            said = _(
                "{provider} shows its balance to browsers alone, not to a key; see {console}",
                provider=self.provider,
                console=self.console,
            )
            kind: type[ApiStatusError] = PermissionDenied
        elif response.status == 404:
            said, kind = (
                _(
                    "{provider} has no balance at {urls} any more; see {console}",
                    provider=self.provider,
                    urls=self.urls[0],
                    console=self.console,
                ),
                NotFound,
            )
        else:
            return error
        return kind(
            f"HTTP {response.status}: {said}",
            status=response.status,
            code=error.code,
            body=error.body,
            request_id=error.request_id,
        )


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
            raise ConfigError(why)
    known = dict.fromkeys(service.provider for service in _SERVICES.values())
    raise ConfigError(
        _(
            "nobody knows how to ask {host} for a balance; known are {known}",
            host=host or "this base_url",
            known=", ".join(known),
        )
    )


def _host(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        return (parts.hostname or "").rstrip(".") if parts.scheme in ("http", "https") else ""
    except (ValueError, AttributeError, TypeError):
        return ""


def _is_within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _request(target: Target) -> HttpRequest:
    headers = tuple(pair for pair in common_headers(stream=False) if pair[0] != "Content-Type")
    return HttpRequest("GET", target.base_url, (("Authorization", f"Bearer {target.api_key}"), *headers), b"")


# --- readers ----------------------------------------------------------------------------------------------------------


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


def _read_openrouter(answers: Sequence[Json | None], service: BalanceService) -> Balance:
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


def _read_deepseek(answers: Sequence[Json | None], service: BalanceService) -> Balance:
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


def _read_siliconflow(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    remaining = _amount(_inner(answers[0]), "totalBalance")
    return Balance(provider=service.provider, remaining=remaining, currency=service.currency)


def _read_moonshot(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    remaining = _amount(_inner(answers[0]), "available_balance")
    return Balance(
        provider=service.provider,
        remaining=remaining,
        currency=service.currency,
        is_available=None if remaining is None else remaining > 0,
    )


def _read_aiml(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    held = _amount(answers[0] or {}, "balance")
    return Balance(
        provider=service.provider,
        remaining=None if held is None else held / AIML_CREDITS,
        currency=service.currency,
        unit=_("credits, {aiml_credits:,} to the dollar", aiml_credits=AIML_CREDITS),
    )


def _read_openai(answers: Sequence[Json | None], service: BalanceService) -> Balance:
    answer = answers[0] or {}
    limit, used, remaining = (_amount(answer, f"total_{name}") for name in ("granted", "used", "available"))
    if remaining is None:
        remaining = _difference(limit, used)
    return Balance(provider=service.provider, remaining=remaining, limit=limit, used=used, currency=service.currency)


# --- who tells, and who does not --------------------------------------------------------------------------------------


def _siliconflow(domain: str, currency: str) -> BalanceService:
    return BalanceService(
        provider="SiliconFlow",
        urls=(f"https://api.{domain}/v1/user/info",),
        reader=_read_siliconflow,
        console=f"https://cloud.{domain}",
        currency=currency,
    )


def _moonshot(domain: str, currency: str) -> BalanceService:
    return BalanceService(
        provider="Moonshot",
        urls=(f"https://api.{domain}/v1/users/me/balance",),
        reader=_read_moonshot,
        console=f"https://platform.{domain}",
        currency=currency,
    )


_SERVICES = {
    "openrouter.ai": BalanceService(
        provider="OpenRouter",
        urls=("https://openrouter.ai/api/v1/key", "https://openrouter.ai/api/v1/credits"),
        reader=_read_openrouter,
        console="https://openrouter.ai/settings/credits",
    ),
    "siliconflow.cn": _siliconflow("siliconflow.cn", "CNY"),
    "siliconflow.com": _siliconflow("siliconflow.com", "USD"),
    "deepseek.com": BalanceService(
        provider="DeepSeek",
        urls=("https://api.deepseek.com/user/balance",),
        reader=_read_deepseek,
        console="https://platform.deepseek.com",
        currency="CNY",
    ),
    "moonshot.ai": _moonshot("moonshot.ai", "USD"),
    "moonshot.cn": _moonshot("moonshot.cn", "CNY"),
    "aimlapi.com": BalanceService(
        provider="AI/ML API",
        urls=("https://billing.aimlapi.com/v1/billing/balance",),
        reader=_read_aiml,
        console="https://aimlapi.com/app",
    ),
    # A regional host, such as eu.api.openai.com, has the same accounts.
    "api.openai.com": BalanceService(
        provider="OpenAI",
        urls=("https://api.openai.com/v1/dashboard/billing/credit_grants",),
        reader=_read_openai,
        console="https://platform.openai.com/settings/organization/billing",
        for_browsers=True,
    ),
}
"""By domain; hosts below it count as well."""


def _none(provider: str, console: str, why: str = "has no public request that tells a balance") -> str:
    return f"{provider} {why}; see {console}"


_GOOGLE = _none("Google", "https://console.cloud.google.com/billing")
_ZHIPU = mark("has no documented request that tells a balance")

_WITHOUT = {
    "anthropic.com": _none(
        "Anthropic",
        "https://console.anthropic.com",
        mark(
            "tells no balance to a normal key: its Admin API, which needs an admin key (sk-ant-admin...), tells what was spent"
        ),
    ),
    "x.ai": _none(
        "xAI",
        "https://console.x.ai",
        mark("tells a balance only to a management key, which is another than the API key"),
    ),
    "together.xyz": _none("Together AI", "https://api.together.ai"),
    "together.ai": _none("Together AI", "https://api.together.ai"),
    "groq.com": _none("Groq", "https://console.groq.com"),
    "mistral.ai": _none("Mistral", "https://console.mistral.ai"),
    "googleapis.com": _GOOGLE,
    "fireworks.ai": _none("Fireworks", "https://app.fireworks.ai"),
    "cerebras.ai": _none("Cerebras", "https://cloud.cerebras.ai"),
    "cohere.com": _none("Cohere", "https://dashboard.cohere.com"),
    "cohere.ai": _none("Cohere", "https://dashboard.cohere.com"),
    "perplexity.ai": _none("Perplexity", "https://www.perplexity.ai/settings/api"),
    "aliyuncs.com": _none(
        "DashScope",
        "https://bailian.console.aliyun.com",
        mark("tells no balance to an API key: Alibaba Cloud's billing API needs an access key of the account"),
    ),
    "z.ai": _none("Z.ai", "https://z.ai", _ZHIPU),
    "bigmodel.cn": _none("Zhipu", "https://bigmodel.cn", _ZHIPU),
}
"""By domain: why there is nothing to ask, and where people look."""
