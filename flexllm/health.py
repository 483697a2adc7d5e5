"""How an endpoint does, as a value: what a pool tells of its endpoints, and a batch of the one it asks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ready", "waiting", "cooling", "probing"]
"""ready: asked whenever there is room. waiting: its gate is closed, as the server asked. cooling: it failed and is left
alone for a while. probing: that while is over, and one request tries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """One endpoint at one moment; the counts are of requests sent since it was made.

    Attributes:
        place: The base URL, without credentials.
        model: What is asked there by default, None if each call says it.
        in_flight: Requests under way.
        sent, answered, failed: Requests; `failed` holds everything that brought no answer, refusals too.
        refused: Requests that the server refused for their rate (429, 529).
        hedged: Requests that were sent a second time because the first took too long.
        latency: Seconds that an answer takes of late, a running mean; None before the first.
        rate: Requests a second at which it is asked now, as learned or as set; None is not limited.
        learned: Requests a second above which the server refused, None if it has not.
        returns_in: Seconds until it is asked again; 0.0 where it is asked now.
        last_error: What the last failure was, None if there was none.
    """

    place: str
    model: str | None = None
    state: State = "ready"
    in_flight: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    hedged: int = 0
    latency: float | None = None
    rate: float | None = None
    learned: float | None = None
    returns_in: float = 0.0
    last_error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return asdict(self)
