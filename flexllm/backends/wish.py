"""What a row that waits for an endpoint needs, and how long it may wait."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .endpoint import Endpoint


class Wish:
    """What a row that waits needs, and what it was given.

    Attributes:
        failed: The endpoints that have failed it.
        spreads: It goes where there is room.
        choice: The endpoint that the strategy names for it, where rows do not go where there is room.
    """

    __slots__ = ("_total", "_until", "choice", "failed", "given", "spreads")

    def __init__(self, failed: Sequence[Endpoint], until: float | None, now: float, spreads: bool) -> None:
        self.failed = failed
        self.spreads = spreads
        self.choice: Endpoint | None = None
        self.given: Endpoint | None = None
        self._until = until
        self._total = math.inf if until is None else until - now

    def patience(self, now: float, *, is_for_room: bool) -> float:
        """Return how long it may still wait.

        Args:
            is_for_room: Some endpoint is well and full. Waiting for that does not count for a row that was never sent:
                its time has not begun, however many are before it.
        """
        if self._until is None:
            return math.inf
        if is_for_room and not self.failed:
            self._until = now + self._total
        return self._until - now
