"""Why an endpoint of a pool is not asked, for people, and for how long it is left alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ApiStatusError, RequestError
from ..language import _, plural, with_semicolons
from ..retry import MAX_RETRY_AFTER

LONG_COOLING = 3600.0
"""Seconds for which an endpoint is left alone that refuses the key, the account or the model: somebody has to mend it."""


def cools_for(error: RequestError) -> float:
    """Return for how many seconds an endpoint is left alone that will answer nobody."""
    wish = error.retry_after if isinstance(error, ApiStatusError) else None
    return wish if wish is not None and wish > MAX_RETRY_AFTER else LONG_COOLING


def absence(place: str, seconds: float, error: RequestError | None) -> str:
    """Return why an endpoint cannot be asked.

    Args:
        seconds: Until it can be; 0.0 if all its places are taken.
        error: Its last failure.
    """
    if seconds:
        said = _("{place} is left alone for {seconds} s", place=place, seconds=shown_seconds(seconds))
    else:
        said = _("{place} is busy", place=place)
    return said if error is None else f"{said} ({short_reason(error, place)})"


def failure(failed: int, endpoints: int, attempts: int, reasons: Sequence[str]) -> str:
    """Return why a row has no answer.

    Args:
        failed: How many of the endpoints were asked in vain.
        reasons: Of each, and of those that could not be asked.
    """
    told = with_semicolons(reasons)
    if failed == endpoints:
        return plural(
            "all {endpoints} endpoints failed, after {count} attempt: {reasons}",
            "all {endpoints} endpoints failed, after {count} attempts: {reasons}",
            attempts, endpoints=endpoints, reasons=told,
        )  # fmt: skip
    return plural(
        "{failed} of {endpoints} endpoints failed, after {count} attempt: {reasons}",
        "{failed} of {endpoints} endpoints failed, after {count} attempts: {reasons}",
        attempts, failed=failed, endpoints=endpoints, reasons=told,
    )  # fmt: skip


def short_reason(error: RequestError, place: str) -> str:
    """Return what an error says, without its place, and no longer than a line or two."""
    text = str(error).removeprefix(f"{place}: ")
    return text if len(text) <= 200 else f"{text[:199]}…"


def shown_seconds(seconds: float) -> str:
    """Return seconds as people read them: 0.3, 2.5, 60."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
