"""What is left of an account, as a value, and a service that tells it: the requests that ask it, its refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ApiStatusError, ConfigError, MalformedResponse, NotFound, PermissionDenied, RequestError
from ...language import _
from ...wire import NO_KEY, HttpRequest, HttpResponse, Target
from ..base import common_headers, decode_body
from ..openai import OpenAIProvider
from ..openai.replies import read_error

Json = Mapping[str, Any]


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
            kind = type(data).__name__
            raise MalformedResponse(
                _("{provider} sent a balance that is no object but {kind}", provider=self.provider, kind=kind)
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
            kind: type[ApiStatusError] = PermissionDenied
            said = _(
                "{provider} shows its balance to browsers alone, not to a key; see {console}",
                provider=self.provider,
                console=self.console,
            )
        elif response.status == 404:
            kind = NotFound
            said = _(
                "{provider} has no balance at {url} any more; see {console}",
                provider=self.provider,
                url=self.urls[0],
                console=self.console,
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


def _request(target: Target) -> HttpRequest:
    headers = tuple(pair for pair in common_headers(stream=False) if pair[0] != "Content-Type")
    return HttpRequest("GET", target.base_url, (("Authorization", f"Bearer {target.api_key}"), *headers), b"")
