"""What a run used. Prices come with a later release; until then a report counts tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CostReport:
    """Tokens and, where prices are known, US dollars of a number of requests.

    Attributes:
        total_cost: US dollars; 0.0 as long as no price is known.
        request_count: Requests that were answered.
        model: The model that was asked, "" for several.
    """

    total_cost: float = 0.0
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    request_count: int = 0
    model: str = ""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.total_input_tokens + self.total_output_tokens

    @property
    def avg_cost_per_request(self) -> float:
        """US dollars; 0.0 when there were no requests."""
        return self.total_cost / self.request_count if self.request_count else 0.0

    @property
    def avg_input_tokens(self) -> float:
        """0.0 when there were no requests."""
        return self.total_input_tokens / self.request_count if self.request_count else 0.0

    @property
    def avg_output_tokens(self) -> float:
        """0.0 when there were no requests."""
        return self.total_output_tokens / self.request_count if self.request_count else 0.0

    def summary(self) -> dict[str, Any]:
        """Return the fields and the sum of tokens."""
        return {
            "total_cost": self.total_cost,
            "total_input_tokens": self.total_input_tokens,
            "total_output_tokens": self.total_output_tokens,
            "total_tokens": self.total_tokens,
            "request_count": self.request_count,
            "model": self.model,
        }

    def __str__(self) -> str:
        return (
            f"{self.request_count:,} requests, {self.total_input_tokens:,} input and {self.total_output_tokens:,} output "
            f"tokens{f' ({self.model})' if self.model else ''}"
        )
