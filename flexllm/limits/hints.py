"""What a server says of its limits in the headers of every reply, read as rates. Pure: the clock is an argument.

How long to wait after a refusal (`Retry-After`) is another matter, which `retry` reads. Sources: the API references of
OpenAI, Anthropic, Groq, Azure and OpenRouter on rate limits.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Literal, NamedTuple

HEAR_EVERY = 0.05
"""Seconds: of replies that come closer than that, one is searched for hints; the search costs a tenth of a request."""

MOST_GOOD_FOR = 60.0
"""Seconds that a hint is believed, and that it makes anybody wait: the window of most limits. Each reply brings the next
hint, and where the window is a day nobody should stand still on the word of one header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateHint:
    """What a server allows, going by one reply. At least one of the three is not None; all numbers are above 0.

    Attributes:
        requests_per_second: What may be sent for as long as the hint holds; None if nothing binds.
        tokens_per_second: The same for tokens, of the tightest limit on them.
        wait: Seconds until a limit that is used up is whole again; None if none is. Where the server refills bit by bit
            (OpenAI, Anthropic) something gets through sooner, at the pace of the rates.
        good_for: Seconds for which all of this holds, at most a minute.
    """

    requests_per_second: float | None = None
    tokens_per_second: float | None = None
    wait: float | None = None
    good_for: float


class _Family(NamedTuple):
    """The names of the three headers that tell of one limit."""

    of: Literal["requests", "tokens"]
    limit: str
    remaining: str
    reset: str


class _Window(NamedTuple):
    """One limit as it stands: how much a second may be sent (None if any), what is left, and seconds to its reset."""

    rate: float | None
    remaining: float
    reset: float


def _rate(limit: float, remaining: float, reset: float) -> float | None:
    """Return how much a second may be sent until the reset, or for as long as a hint is believed; None if any.

    Two kinds of server send the same three headers. One refills a bucket all the time, which is full at the reset:
    `limit - remaining` come back until then, and that pace can be kept up. The other counts in fixed windows: what
    remains is all until the reset. Which it is does not show, so the larger of both paces is taken: it never holds
    anybody below what is allowed, and what is too much for a moment ends in less remaining, which corrects it.
    What remains is spread over a minute at most: a day's allowance is not to be spread over the day.
    """
    if remaining >= limit:
        return None
    return max(remaining / min(reset, MOST_GOOD_FOR), (limit - remaining) / reset)


_REQUESTS = _Family(
    "requests", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"
)
_TOKENS = _Family("tokens", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
_PLAIN = _Family("requests", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
"""OpenRouter's."""


def _anthropic(of: Literal["requests", "tokens"], name: str) -> _Family:
    return _Family(of, *(f"anthropic-ratelimit-{name}-{word}" for word in ("limit", "remaining", "reset")))


_FAMILIES = (
    _REQUESTS,
    _TOKENS,
    _PLAIN,
    _anthropic("requests", "requests"),
    _anthropic("tokens", "tokens"),
    _anthropic("tokens", "input-tokens"),
    _anthropic("tokens", "output-tokens"),
)
"""Not read: OpenAI's `*-tokens_usage_based`, and Anthropic's `priority-*` and `unified-*`, which limit something else."""

_OF_OPENAI, _OF_OPENAI_TOKENS, _OF_OPENROUTER, *_OF_ANTHROPIC = (family.remaining for family in _FAMILIES)
_OF_ANTHROPIC_REQUESTS, _OF_ANTHROPIC_TOKENS, _OF_ANTHROPIC_INPUT, _OF_ANTHROPIC_OUTPUT = _OF_ANTHROPIC


def parse_rate_hint(headers: Mapping[str, str], now_unix: float) -> RateHint | None:
    """Return what a reply tells of its server's limits, None if it tells nothing that binds. Never raises.

    Args:
        headers: Response headers; names in lower case.
        now_unix: Unix time in seconds; used for resets that are points in time where the reply has no `Date`, which is
            of the same clock as they are.
    """
    # Runs for every reply, and most servers send none of these: plain look-ups, no loop.
    if not (
        _OF_OPENAI in headers
        or _OF_ANTHROPIC_REQUESTS in headers
        or _OF_OPENAI_TOKENS in headers
        or _OF_ANTHROPIC_TOKENS in headers
        or _OF_ANTHROPIC_INPUT in headers
        or _OF_ANTHROPIC_OUTPUT in headers
        or _OF_OPENROUTER in headers
    ):
        return None
    found: dict[str, list[_Window]] = {"requests": [], "tokens": []}
    for family in _FAMILIES:
        if family.remaining in headers:
            window = _read(family, headers, now_unix)
            if window is not None:
                found[family.of].append(window)
    return _hint(found["requests"], found["tokens"])


def _hint(requests: list[_Window], tokens: list[_Window]) -> RateHint | None:
    binding = [window for window in (*requests, *tokens) if window.rate is not None or window.remaining == 0]
    if not binding:
        return None
    waits = [window.reset for window in binding if window.remaining == 0]
    return RateHint(
        requests_per_second=_tightest(requests),
        tokens_per_second=_tightest(tokens),
        wait=min(max(waits), MOST_GOOD_FOR) if waits else None,
        good_for=min(max(window.reset for window in binding), MOST_GOOD_FOR),
    )


def _tightest(windows: Iterable[_Window]) -> float | None:
    return min([window.rate for window in windows if window.rate is not None], default=None)


def _read(family: _Family, headers: Mapping[str, str], now_unix: float) -> _Window | None:
    """Return one limit, None where its headers are not whole or make no sense (Azure sends -1 and 0)."""
    remaining = _number(headers[family.remaining])
    reset = _seconds_until(headers.get(family.reset, ""), headers, now_unix)
    if remaining is None or not reset:
        return None
    if family.limit not in headers:
        return _Window(None, remaining, reset)
    limit = _number(headers[family.limit])
    return _Window(_rate(limit, remaining, reset), remaining, reset) if limit else None


def _seconds_until(text: str, headers: Mapping[str, str], now_unix: float) -> float | None:
    """Return the seconds until a reset; None if it is over, or cannot be read."""
    seconds = parse_duration(text)
    if seconds is None:
        moment = _moment(text)
    elif seconds >= _LEAST_EPOCH:
        moment = seconds / 1000.0 if seconds >= _LEAST_EPOCH_MS else seconds
    else:
        return seconds
    if moment is None:
        return None
    # The server's own clock: with ours, a few minutes wrong, a minute's limit would seem one of an hour.
    sent_at = _date(headers.get("date", ""))
    left = moment - (now_unix if sent_at is None else sent_at)
    return left if left > 0 else None


_LEAST_EPOCH = 1e9
"""Larger numbers are no seconds to wait (30 years) but a Unix time (since 2001) ..."""
_LEAST_EPOCH_MS = 1e11
"""... and from here on one in milliseconds (since 1973), as OpenRouter has it; in seconds it would be the year 5138."""


# --- texts ------------------------------------------------------------------------------------------------------------

_LONGEST = 100
"""Characters of a header's value that are worth a look; a number or a time has fewer. No such number is too large for a
float."""

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
"""Both letters that look like a Greek mu are written."""
_STEP = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|µs|μs|ns|h|m|s)")  # "ms" before "m"
_RFC_3339 = re.compile(
    r"\s*([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))\s*"
)


def parse_duration(text: str) -> float | None:
    """Return a duration in seconds, None if it is none, as a negative number or any other text.

    Args:
        text: As Go writes it ("6m0s", "12ms", "1h2m3.5s"), or a plain number of seconds, as Azure does.
    """
    seconds = _number(text)
    if seconds is not None or len(text) > _LONGEST:
        return seconds
    text, total, position = text.strip(), 0.0, 0
    while step := _STEP.match(text, position):
        total += float(step[1]) * _UNITS[step[2]]
        position = step.end()
    return total if text and position == len(text) else None


def _number(text: str) -> float | None:
    """Return a plain decimal number, which is never below 0; None if it is none."""
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    return float(found[1]) if found else None


@lru_cache(maxsize=64)  # the limits of one reply often end together, and those of many
def _moment(text: str) -> float | None:
    """Return the Unix time of a date and time as RFC 3339 has it ("2026-11-22T10:00:00Z"), None if it is none."""
    # datetime.fromisoformat reads neither "Z" nor such fractions before Python 3.11.
    found = _RFC_3339.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(found[number]) for number in range(1, 7))
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    ahead = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0)).total_seconds()
    return moment.timestamp() + float(found[7] or 0) - (ahead if found[8] == "+" else -ahead)


@lru_cache(maxsize=16)  # many replies come within one second
def _date(text: str) -> float | None:
    """Return the Unix time of a `Date` header, None if it is none."""
    try:
        date = email.utils.parsedate_to_datetime(text[:_LONGEST])
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
