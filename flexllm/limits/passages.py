"""What is known of requests that pass a gate: what they will cost, and what became of them."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import FlexLLMError, Overloaded, RateLimited, RequestCancelled
from ..fork import forget_in_child

LATENCY_WEIGHT = 0.1
"""Of the newest reply in the running mean of latencies."""


class Cost(NamedTuple):
    """Tokens that a request will probably take, or took.

    `estimated` are those of its messages before they were corrected by what earlier replies told.
    """

    input: int
    output: int
    estimated: int = 0

    def of(self, kind: str) -> int:
        """Return the tokens that count for a limit of "input", "output" or "total" tokens."""
        return self.input if kind == "input" else self.output if kind == "output" else self.input + self.output


class Passages:
    """What became of one endpoint's requests. The lock of its gate guards it.

    Attributes:
        latency: Running mean of the seconds that answers took; None before the first.
        last_error: The last failure; None if there was none.
    """

    __slots__ = (
        "__weakref__", "answered", "failed", "hedged", "in_flight", "last_error", "latency", "refused", "sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.in_flight = self.sent = self.answered = self.failed = self.refused = self.hedged = 0
        self.latency: float | None = None
        self.last_error: str | None = None
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self.in_flight = 0

    def note_answer(self, seconds: float) -> None:
        """Count a request that was answered after so many seconds."""
        self.answered += 1
        mean = self.latency
        self.latency = seconds if mean is None else mean + LATENCY_WEIGHT * (seconds - mean)

    def note_failure(self, error: BaseException) -> None:
        """Count a request that failed; one that was stopped, or whose caller went away, did not."""
        if isinstance(error, FlexLLMError) and not isinstance(error, RequestCancelled):
            self.failed += 1
            self.refused += is_refusal(error)
            self.last_error = str(error)


class GateClosed(Exception):
    """The server has closed the gate before a row that can go elsewhere was sent. No error: nobody sees it."""


def is_refusal(error: BaseException) -> bool:
    """Return whether a server refused a request because there are too many of them."""
    if isinstance(error, Overloaded):
        return error.status == 529 or bool(error.retry_after)
    return isinstance(error, RateLimited)
