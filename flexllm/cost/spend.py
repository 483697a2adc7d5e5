"""What is spent, as a value that can be added up: dollars, requests and tokens."""

from __future__ import annotations

from typing import NamedTuple


class Spend(NamedTuple):
    """What something took, or may take.

    Attributes:
        dollars: US dollars.
        requests: Requests that were sent.
        tokens: Of prompts and replies together.
    """

    dollars: float = 0.0
    requests: int = 0
    tokens: int = 0

    def plus(self, other: Spend) -> Spend:
        """Return both together."""
        return Spend(self.dollars + other.dollars, self.requests + other.requests, self.tokens + other.tokens)

    def minus(self, other: Spend) -> Spend:
        """Return what is left when `other` is taken away."""
        return Spend(self.dollars - other.dollars, self.requests - other.requests, self.tokens - other.tokens)
