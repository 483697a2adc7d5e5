"""Why an endpoint of a pool is not asked, for people, and for how long it is left alone."""

from __future__ import annotations

from ..errors import ApiStatusError, RequestError
from ..language import _
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
    when = _("is left alone for {shown_seconds} s", shown_seconds=shown_seconds(seconds)) if seconds else _("is busy")
    return f"{place} {when}{f' ({short_reason(error, place)})' if error is not None else ''}"


def short_reason(error: RequestError, place: str) -> str:
    """Return what an error says, without its place, and no longer than a line or two."""
    text = str(error).removeprefix(f"{place}: ")
    return text if len(text) <= 200 else f"{text[:199]}…"


def shown_seconds(seconds: float) -> str:
    """Return seconds as people read them: 0.3, 2.5, 60."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
