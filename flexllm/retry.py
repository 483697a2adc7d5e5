"""Whether a failed request is sent again, and when. Decided here and nowhere else."""

from __future__ import annotations

import email.utils
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timezone
from typing import Literal

from .errors import (
    AllEndpointsFailed,
    ApiStatusError,
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    MalformedResponse,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RejectedReply,
    RequestError,
    TlsFailed,
)
from .language import _

RETRYABLE_STATUSES = frozenset({408, 409, 429})
"""And every 5xx. Source: the official SDKs of OpenAI and Anthropic, which agree."""

MAX_BACKOFF = 60.0
"""Seconds at which our own back-off stops growing: a minute is the window of most providers' limits."""

MAX_RETRY_AFTER = 600.0
"""Seconds of a server's wish that we still wait out. Beyond it the row fails and says when to come back."""


DEFAULT_TOTAL = 600.0
"""Seconds: four attempts of the default two minutes each, and their pauses, fit in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and after what pause a request is sent again.

    Attributes:
        retry_times: Retries after the first attempt: 3 means at most 4 requests.
        retry_delay: Seconds of the first back-off; it doubles with each retry, up to a minute.
        total_timeout: Seconds for all attempts together, pauses included, from when the first is sent; None is not
            limited. Of a stream, until its first piece.
    """

    retry_times: int = 3
    retry_delay: float = 1.0
    total_timeout: float | None = DEFAULT_TOTAL

    def __post_init__(self) -> None:
        if not isinstance(self.retry_times, int) or self.retry_times < 0:
            raise ConfigError(
                _("retry_times={retry_times!r} must be a whole number of at least 0", retry_times=self.retry_times)
            )
        if not (isinstance(self.retry_delay, (int, float)) and 0 <= self.retry_delay < math.inf):
            raise ConfigError(
                _("retry_delay={retry_delay!r} must be a number of seconds, 0 or more", retry_delay=self.retry_delay)
            )
        total = self.total_timeout
        if total is not None and not (isinstance(total, (int, float)) and total > 0):
            raise ConfigError(
                _("total_timeout={total!r} must be a number of seconds above 0, or None for no limit", total=total)
            )

    def delay(self, error: RequestError, attempt: int, rng: random.Random) -> float | None:
        """Return the pause before the next attempt, or None if there should be none.

        Args:
            error: What attempt number `attempt` (from 1) ended in.
            rng: Spreads the attempts of many threads apart.

        Returns:
            Seconds. A server's own wish is honoured to the letter, plus up to a tenth so that not everybody comes
            back at once; otherwise between a half and the whole of the exponential back-off.
        """
        if attempt > self.retry_times or not is_retryable(error):
            return None
        wish = error.retry_after if isinstance(error, ApiStatusError) else None
        if wish is not None and wish > 0:
            return None if wish > MAX_RETRY_AFTER else wish + rng.uniform(0.0, min(1.0, wish / 10))
        backoff = min(MAX_BACKOFF, self.retry_delay * 2.0 ** min(attempt - 1, 1000))  # 2.0 ** 1024 overflows
        return backoff * rng.uniform(0.5, 1.0)


Blame = Literal["request", "endpoint", "moment"]
"""What must change before the request can succeed: the request itself, whom it is sent to, or nothing but the time."""


def blame(error: FlexLLMError) -> Blame:
    """Return what a failure is to be blamed on. What is done about it follows from that, here and everywhere.

    "request": asking again anywhere is in vain (a refused or filtered request, a reply that was rejected).
    "endpoint": every further request there meets the same (key, account, URL, model); another endpoint may answer.
    "moment": the same request may succeed when it is sent again.
    """
    if isinstance(error, AllEndpointsFailed):
        return "endpoint" if error.errors and all(blame(one) == "endpoint" for one in error.errors) else "moment"
    if isinstance(error, QuotaExhausted):
        # OpenRouter asks to wait where only requests under way have used the budget up. A 402 without that is final.
        return "moment" if error.status == 402 and error.retry_after else "endpoint"
    if isinstance(error, ApiStatusError):
        if isinstance(error, _ENDPOINT) and error.should_retry is not True:
            return "endpoint"
        if isinstance(error, RateLimited) and (error.retry_after or 0.0) > MAX_RETRY_AFTER:
            return "endpoint"
        is_passing = error.status in RETRYABLE_STATUSES or error.status >= 500
        return "moment" if (is_passing if error.should_retry is None else error.should_retry) else "request"
    if isinstance(error, MalformedResponse):
        return "request" if isinstance(error, RejectedReply) else "moment"
    if isinstance(error, ConnectionFailed):
        return "endpoint" if isinstance(error, TlsFailed) else "moment"
    return "request"


_ENDPOINT = (AuthenticationFailed, PermissionDenied, NotFound)


def is_retryable(error: RequestError) -> bool:
    """Return whether the same request may succeed when it is sent again to the same endpoint."""
    return blame(error) == "moment"


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return how long the server asks to wait, or None if it does not say.

    Args:
        headers: Response headers; names in lower case.
        now: Unix time in seconds, needed when the header is a date.

    Returns:
        Seconds, at least 0.0. A date in the past gives 0.0; what cannot be read counts as not said.

    Source: RFC 9110, section 10.2.3; `retry-after-ms` as sent by OpenAI, which wins over `Retry-After`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text)
        # A date that names no zone (RFC 9110 knows one such form) is GMT; Python would take it for local time.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def parse_should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what `x-should-retry` says, None if it is not there. Source: the official OpenAI and Anthropic SDKs."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").lower())


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
