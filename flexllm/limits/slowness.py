"""What counts as a slow request, and how many slow ones may be sent once more. Pure: no clock, no lock, no thread."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from ..errors import ConfigError
from ..language import _

WINDOW = 512
"""Latencies that are remembered: enough for a quantile of 0.99, few enough to follow a server through the day."""

SHORTEST = 0.01
"""Seconds within which no request is slow: sooner, a thread's start takes what could be won."""

FRESH = 1 / 16
"""Share of the window that must be new before the quantile is taken again: sorting then costs a request about 1 µs."""

SOONER = 0.9
"""Part to which the quantile must have fallen to be worth waking a thread that sleeps until an older, later time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """When a request is sent a second time.

    Attributes:
        quantile: A request is slow when it takes longer than this share of its peers: 0.95 is the slowest twentieth.
        at_least: Replies that must have been seen before; until then nothing counts as slow.
        at_most: Share of all requests that may be sent a second time, in the long run. A server that has become slow
            altogether is not asked twice for everything.
    """

    quantile: float = 0.95
    at_least: int = 20
    at_most: float = 0.1

    def __post_init__(self) -> None:
        if not (isinstance(self.quantile, (int, float)) and 0 < self.quantile < 1):
            raise ConfigError(
                _("quantile={quantile!r} of hedging must be between 0 and 1, such as 0.95", quantile=self.quantile)
            )
        if not (isinstance(self.at_least, int) and 1 <= self.at_least <= WINDOW):
            given = self.at_least
            raise ConfigError(
                _("at_least={given!r} of hedging must be a whole number from 1 to {most}", given=given, most=WINDOW)
            )
        if not (isinstance(self.at_most, (int, float)) and 0 < self.at_most <= 1):
            raise ConfigError(
                _("at_most={at_most!r} of hedging must be a share above 0 and at most 1", at_most=self.at_most)
            )


class Slowness:
    """Learns from the times that requests take which are slow, and keeps the budget for second ones. Not locked.

    Attributes:
        patience: Seconds after which a request is slow; infinite while too few replies are known.
    """

    def __init__(self, policy: HedgePolicy) -> None:
        self.patience = math.inf
        self._policy = policy
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._fresh = 0
        self._credit = 0.0
        # What is saved in a long good time must not pay for a flood in a bad one.
        self._most_credit = max(1.0, policy.at_most * WINDOW)

    @property
    def has_credit(self) -> bool:
        """Whether one more request may be sent a second time now."""
        return self._credit >= 1.0

    def earn(self) -> None:
        """Count a request that was sent."""
        self._credit = min(self._most_credit, self._credit + self._policy.at_most)

    def spend(self) -> None:
        """Count a request that is sent a second time."""
        self._credit -= 1.0

    def refund(self) -> None:
        """Take back a `spend`: nothing was sent."""
        self._credit += 1.0

    def learn(self, took: float) -> bool:
        """Remember how long a request took, in seconds. Return whether requests are slow much sooner from now on."""
        latencies = self._latencies
        latencies.append(took)
        self._fresh += 1
        count = len(latencies)
        if count < self._policy.at_least or self._fresh < count * FRESH:
            return False
        self._fresh = 0
        before = self.patience
        self.patience = max(SHORTEST, sorted(latencies)[math.ceil(self._policy.quantile * count) - 1])
        return self.patience < before * SOONER
