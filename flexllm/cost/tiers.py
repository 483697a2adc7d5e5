"""What a service tier makes of a price, and which one a reply was served in. Functions of values.

Sources: the pricing pages of OpenAI, Anthropic, Google and Groq; Vertex AI's API reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..chat import ChatRequest

FAST = 2.0
"""What Anthropic's `speed: "fast"` makes of a price."""

US_ONLY = 1.1
"""What Anthropic's `inference_geo: "us"` makes of a price."""

TIERS = {
    ("openai", "flex"): 0.5,
    ("google", "flex"): 0.5,
    ("google", "priority"): 1.8,
    ("groq", "flex"): 1.0,
}
"""What service tiers make of a price, by whose it is, as far as that is sure."""

LIKELY_TIERS = {"flex": 0.5, "priority": 2.0, "fast": 2.0}
"""The same where it is not: OpenAI's priority is 2 to 2.5 times the price, and of other providers little is known."""

_ORDINARY = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "unspecified", "batch"})
"""Words of tiers that change nothing; the batch has prices of its own."""

_NAMES = ("service_tier", "serviceTier")

_TRAFFIC = {
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND": "",
    "TRAFFIC_TYPE_UNSPECIFIED": "",
}
"""Vertex AI's words for tiers. The others, which are paid otherwise, are unknown here."""


class ServiceTier(NamedTuple):
    """A service tier: its word in small letters, "" for the ordinary one, and whether the server said that it was this."""

    word: str = ""
    is_told: bool = True


ORDINARY = ServiceTier()


def factor_of(usage: Mapping[str, Any], provider: str, tier: ServiceTier) -> tuple[float, bool]:
    """Return what a tier makes of the price, and whether that is known.

    Args:
        usage: Names what Anthropic charges more for beside the tier.
        provider: Whose price it is, as `ModelPrice` has it; "" for one that the user gave.
    """
    factor = 1.0
    if usage.get("speed") == "fast":
        factor *= FAST
    if usage.get("inference_geo") == "us":
        factor *= US_ONLY
    if tier.word in _ORDINARY:
        return factor, True
    # One that was asked for may have been another in the end; but flex is refused where there is none.
    is_known = tier.is_told or tier.word == "flex"
    known = TIERS.get((provider, tier.word))
    if known is not None:
        return factor * known, is_known
    # Anthropic's priority is a capacity that is paid in advance.
    return factor if provider == "anthropic" else factor * LIKELY_TIERS.get(tier.word, 1.0), False


def told_tier(usage: Mapping[str, Any]) -> ServiceTier | None:
    """Return the tier that the usage names."""
    for name in _NAMES:
        word = usage.get(name)
        if isinstance(word, str):
            return _told(word.lower())
    traffic = usage.get("trafficType")
    return _told(_TRAFFIC.get(traffic, traffic)) if isinstance(traffic, str) else None


def _told(word: str) -> ServiceTier:
    return ORDINARY if word in _ORDINARY and word != "batch" else ServiceTier(word)


_NAMED = re.compile(rb'"service_tier"\s*:\s*"([a-z_]{1,20})"')


def tier_in(body: bytes | None, usage: Mapping[str, Any]) -> ServiceTier | None:
    """Return the tier that OpenAI's replies name beside the usage.

    It is searched for, from the end, where it stands: decoding the body once more would take longer than all else here.
    Nothing else can be met: a text in which it stands has its quotes escaped, and the arguments of tools are texts; with
    Gemini they are not.
    """
    if body is None or "promptTokenCount" in usage:
        return None
    place = body.rfind(b'"service_tier"')
    found = _NAMED.match(body, place) if place >= 0 else None
    return _told(found[1].decode()) if found else None


def asked_tier(request: ChatRequest) -> ServiceTier:
    """Return the tier that was asked for."""
    for name in _NAMES if request.params else ():
        word = request.params.get(name)
        if isinstance(word, str):
            return ServiceTier(word.lower(), is_told=False)
    return ORDINARY
