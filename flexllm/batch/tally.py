"""The counts of a run, as they grow: what progress shows, summaries tell and rules look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..cost.counter import CostCounter
from ..errors import AllEndpointsFailed, FlexLLMError

EXAMPLES = 3
"""Failed rows of each class of error that are kept to be shown."""


@dataclass(slots=True)
class Tally:
    """The counts of a run so far. The job's thread alone writes them.

    Attributes:
        cached: Rows that the response cache answered.
        shared: Rows that got the answer of an equal row of the same run.
        cost: US dollars; None as long as no price is known.
        unpriced: Answered rows of which nobody knows the price.
        is_complete: Every row of the input is settled; known at the end of the run.
        stopped: Why the run ended itself before its input did, as a sentence; None if it did not.
    """

    total: int | None = None
    success: int = 0
    failed: int = 0
    cached: int = 0
    shared: int = 0
    resumed: int = 0
    retries: int = 0
    hedged: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    unpriced: int = 0
    is_complete: bool = False
    stopped: str | None = None
    errors_by_class: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict, repr=False)

    @property
    def done(self) -> int:
        """Rows that are settled, by this run or an earlier one."""
        return self.success + self.failed

    @property
    def asked(self) -> int:
        """Rows that this run settled itself."""
        return self.done - self.resumed

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def count_cost(self, costs: CostCounter) -> None:
        """Take over what the run has taken so far."""
        self.prompt_tokens, self.completion_tokens = costs.input_tokens, costs.output_tokens
        self.cost, self.unpriced = costs.cost, costs.unpriced

    def count_error(self, error: FlexLLMError, index: int, *, was_asked: bool = True) -> bool:
        """Count a row that failed in this run. Return whether it is the first of its class.

        Args:
            was_asked: Not for a row that could not be asked at all, whose message names it.
        """
        self.failed += 1
        self.retries += max(0, getattr(error, "attempts", 1) - 1)
        kind = type(error).__name__
        seen = self.errors_by_class.get(kind, 0)
        self.errors_by_class[kind] = seen + 1
        if seen < EXAMPLES:
            last = error.errors[-1] if isinstance(error, AllEndpointsFailed) and error.errors else error
            request_id = getattr(last, "request_id", None)
            example = example_of(index, str(error), request_id, was_asked=was_asked)
            self.examples.setdefault(kind, []).append(example)
        return not seen

    def errors(self) -> dict[str, dict[str, Any]]:
        """Return, for each class of error, the `count` of failed rows and, as `examples`, the first few of them.

        An example is as `example_of` makes it.
        """
        return {
            kind: {"count": count, "examples": self.examples.get(kind, [])}
            for kind, count in self.errors_by_class.items()
        }


def example_of(index: Any, message: Any, request_id: Any, *, was_asked: bool) -> dict[str, Any]:
    """Return a failed row as it is shown, JSON-able.

    It has the row's index as `row`, the error's `message` and the server's `request_id`, or None. Of a row that could not
    be asked at all also `asked`, which is False: its message names it.
    """
    example = {"row": index, "message": message, "request_id": request_id}
    return example if was_asked else {**example, "asked": False}
