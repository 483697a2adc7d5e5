"""The mock's own limits: a bucket of requests, a bucket of tokens, and how many requests may be under way."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from .options import MockOptions
from .replies import Allowance

LIMITING = ("rate_limit", "rate_burst", "token_rate_limit", "concurrency_limit")  # the options that are obeyed here


class TokenBucket:
    """Lets `rate` requests (or tokens) through per second, and `burst` of them at once if it has rested long enough."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def take(self, amount: float = 1) -> bool:
        """Whether so many more may pass now."""
        self._fill()
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def allowance(self) -> Allowance:
        """Return what headers tell: the limit of a minute, and how much of it is used up at the moment.

        A burst smaller than what a minute allows is enforced all the same, as providers enforce a minute's limit over
        shorter times: then more remains than may pass at once, and (limit - remaining) / reset is the rate.
        """
        self._fill()
        used = self._burst - self._tokens
        limit = max(round(self._rate * 60), ceil(self._burst))
        return Allowance(limit, max(0, limit - ceil(round(used, 6))), used / self._rate)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now


class Load:
    """How many chat requests are under way, whatever was reset meanwhile."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Limits:
    """What a server with these options lets through; asked for each chat request, in this order.

    Args:
        load: Counted by others; the request that asks is in it.
    """

    def __init__(self, options: MockOptions, load: Load, clock: Callable[[], float]) -> None:
        rate, tokens = options.rate_limit, options.token_rate_limit
        self._load = load
        self._most = options.concurrency_limit
        self._requests = None if rate is None else TokenBucket(rate, options.rate_burst, clock)
        # A minute's tokens at once: what is larger than that never passes, as at the providers.
        self._tokens = None if tokens is None else TokenBucket(tokens / 60, tokens, clock)
        self.is_any = not (rate is None and tokens is None and self._most is None)

    def refusal(self) -> str | None:
        """Count a request; return why it may not pass, or None. The reason is "" where the usual words say it."""
        if self._most is not None and self._load.count > self._most:
            return f"Too many requests are under way: at most {self._most} may be."
        return "" if self._requests is not None and not self._requests.take() else None

    def token_refusal(self, tokens: int) -> str | None:
        """Count the tokens of a prompt and its answer; return why they may not pass, or None."""
        if self._tokens is None or self._tokens.take(tokens):
            return None
        one = self._tokens.allowance()
        return (
            f"Rate limit reached for tokens per minute: limit {one.limit}, remaining {one.remaining}, asked {tokens}."
        )

    def allowances(self) -> tuple[Allowance | None, Allowance | None]:
        """Return what is left of requests and of tokens; None where there is no limit."""
        requests, tokens = self._requests, self._tokens
        return (
            None if requests is None else requests.allowance(),
            None if tokens is None else tokens.allowance(),
        )
