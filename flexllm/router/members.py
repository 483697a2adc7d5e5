"""The members of a router: each a provider and how it does, and the checks of what a router is given."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from ..errors import ConfigError
from ..health import State
from ..language import _


class Weighted(Protocol):
    """What a router can hold. One that also says `enabled=False` is left out."""

    @property
    def weight(self) -> float:
        """Its share relative to the others', 0 or more. Read once, when the router is made."""


P = TypeVar("P", bound=Weighted)


class Member(Generic[P]):
    """One provider and how it does. Mutable: the router's lock guards it."""

    __slots__ = ("failures", "is_probing", "provider", "share", "turn", "until")

    def __init__(self, provider: P, share: float) -> None:
        self.provider = provider
        self.share = share
        self.turn = 0
        self.failures = 0
        self.until: float | None = None
        self.is_probing = False

    def settle(self, until: float | None) -> None:
        """Cool until then, or be ready where that is None; a probe is over."""
        self.is_probing = False
        self.until = until

    def is_open(self, now: float) -> bool:
        """Whether it can be asked: it is ready or due."""
        return self.until is None or now >= self.until

    def returns_in(self, now: float) -> float:
        """Return the seconds until it can be asked."""
        return 0.0 if self.until is None else max(0.0, self.until - now)

    def state(self, now: float) -> State:
        """Return its state; due but not yet tried is cooling."""
        if self.until is None:
            return "ready"
        return "probing" if self.is_probing and now < self.until else "cooling"


def members_of(providers: Iterable[P]) -> list[Member[P]]:
    """Return the members that those providers are which are enabled. Raises ConfigError for what no router can hold."""
    enabled = []
    for position, provider in enumerate(providers or ()):
        if not hasattr(provider, "weight"):
            raise ConfigError(
                _(
                    "providers[{position}] is a {kind}; a router holds ProviderConfig",
                    position=position,
                    kind=type(provider).__name__,
                )
            )
        check_amount(f"providers[{position}].weight", provider.weight)
        if getattr(provider, "enabled", True):
            enabled.append(provider)
    if not enabled:
        raise ConfigError(_("providers holds none that is enabled; give at least one"))
    if len({id(one) for one in enabled}) < len(enabled):
        raise ConfigError(_("providers holds the same object twice; give it a larger weight, or make another one"))
    # As shares of the largest, no sum of weights overflows.
    largest = max(one.weight for one in enabled) or 1.0
    return [Member(one, one.weight / largest) for one in enabled]


def check_amount(name: str, value: object) -> None:
    """Raise ConfigError for what is no number of at least 0."""
    if not is_amount(value):
        raise ConfigError(_("{name}={value!r} must be a number of at least 0", name=name, value=value))


def is_amount(value: object) -> bool:
    """Return whether a value is a finite number of at least 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max
