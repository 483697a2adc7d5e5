"""What all requests of a client, or of a run, have cost together, and the budget that they share."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..chat import ChatCompletionResult, Usage
from ..errors import ConfigError, FlexLLMError, InputError
from ..fork import forget_in_child
from ..language import _
from ..prices import ModelPrice, default_table, price_of, price_unknown
from .bill import charge, count, own_cost
from .budget import Budget
from .counter import CostCounter
from .options import CostTrackerConfig
from .report import CostReport
from .spend import Spend

log = logging.getLogger(__name__)


class CostTracker:
    """Counts what requests cost, warns once, and limits them where its configuration says so. May be shared by threads and
    by clients; a forked child counts on by itself.

    Args:
        config: What is counted and limited; None counts, and limits nothing.
        spent: What earlier runs took: it counts for the limits and the warning, and not in the report.
        outputs: Tokens of their replies: what a request is expected to take that names no limit.
        prices: Finds the price of a model for `record`; None of it where it is unknown. Clients know prices of their own.

    Attributes:
        budget: What is reserved and spent of the limits; None where there are none.
    """

    def __init__(
        self,
        config: CostTrackerConfig | None = None,
        *,
        spent: Spend = Spend(),  # noqa: B008 - it is a value
        outputs: Iterable[int] = (),
        prices: Callable[[str], ModelPrice | None] = price_of,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if config is None:
            config = CostTrackerConfig()
        if not isinstance(config, CostTrackerConfig):
            raise ConfigError(_("config must be a CostTrackerConfig, not of type {kind}", kind=type(config).__name__))
        self.config = config
        self.budget = Budget(config.limits, spent=spent, outputs=outputs) if config.is_limited else None
        self._before = spent.dollars
        self._prices = prices
        self._clock = clock
        self._counter = CostCounter()
        self._was_warned = config.budget_warning is None
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        # Re-entrant, and notes in between, for the garbage collector may close a stream that nobody reads any more, whose
        # cost is then counted by a thread that is just counting.
        self._lock = threading.RLock()
        self._notes: deque[tuple[ChatCompletionResult | FlexLLMError, str]] = deque()
        self._is_counting = False

    @property
    def enabled(self) -> bool:
        """Whether it counts anything."""
        return self.config.enabled

    @property
    def limits_dollars(self) -> bool:
        """Whether there is a budget in dollars, so that prices must be known."""
        return self.config.limits.dollars is not None

    def check_price(self, model: str, price: ModelPrice | None) -> None:
        """See that a budget in dollars can be kept.

        Raises:
            PriceUnknown: It cannot, for `price` is None; the message says how to give one.
        """
        if price is None and self.limits_dollars:
            raise price_unknown(model)

    def record(self, usage: Mapping[str, Any] | None, model: str) -> bool:
        """Count a reply that was asked for by other means. Clients do this by themselves for theirs.

        Args:
            usage: Its token counts, in OpenAI's words; None is ignored.

        Returns:
            True if it was counted, or nothing is counted here (`enabled` is False); False if `usage` is None.

        Raises:
            BudgetExceededError: It was counted, and more is spent than a limit allows.
            PriceUnknown: It was counted, and there is a budget in dollars which it cannot be set against.
        """
        if not self.enabled:
            return True
        if usage is None:
            return False
        if not isinstance(usage, Mapping):
            raise InputError(
                _("usage must be a mapping of token counts, not of type {kind}", kind=type(usage).__name__)
            )
        price, cost = self._prices(model), own_cost(usage)
        estimated = 0.0
        if cost is None and price is not None:
            cost, estimated = charge(usage, price.at(self._clock()), provider=price.provider)
        counted = _normalised(usage)
        self.answered(ChatCompletionResult("", usage=counted, cost=cost, cost_estimated=estimated), model)
        if self.budget is not None:
            self.budget.add(Spend(cost or 0.0, 1, counted.total_tokens))
            if cost is None:
                self.check_price(model, price)
            exceeded = self.budget.exceeded()
            if exceeded is not None:
                raise exceeded
        return True

    def answered(self, result: ChatCompletionResult, model: str) -> None:
        """Count an answer, with its `cost`."""
        self._note(result, model)

    def failed(self, error: FlexLLMError, model: str) -> None:
        """Count a request that failed, with its `cost`."""
        self._note(error, model)

    def get_report(self) -> CostReport:
        """Return what was counted so far."""
        with self._lock:
            return self._counter.report(price_date=default_table().date)

    def reset(self) -> None:
        """Begin to count anew, also against the limits. The warning may come once more."""
        with self._lock:
            self._counter = CostCounter()
            self._before = 0.0
            self._was_warned = self.config.budget_warning is None
            if self.budget is not None:
                self.budget.reset()

    def _note(self, outcome: ChatCompletionResult | FlexLLMError, model: str) -> None:
        self._notes.append((outcome, model))
        warning: float | None = None
        with self._lock:
            if self._is_counting:  # further up in this very thread, which then takes this note too
                return
            self._is_counting = True
            try:
                while self._notes:
                    self._count(*self._notes.popleft())
            finally:
                self._is_counting = False
            if not self._was_warned:
                spent = self._before + (self._counter.cost or 0.0)
                if spent >= (self.config.budget_warning or 0.0):
                    self._was_warned, warning = True, spent
        if warning is not None:
            self._warn(warning)

    def _count(self, outcome: ChatCompletionResult | FlexLLMError, model: str) -> None:
        if isinstance(outcome, ChatCompletionResult):
            self._counter.answered(outcome, model)
        else:
            self._counter.failed(outcome, model)

    def _warn(self, cost: float) -> None:
        threshold, tell = self.config.budget_warning or 0.0, self.config.on_budget_warning
        if tell is None:
            log.warning("$%.4f is spent, which is past the warning threshold of $%.4f", cost, threshold)
            return
        try:
            tell(cost, threshold)
        except Exception:  # the caller's own, in the middle of somebody else's request
            log.exception("on_budget_warning failed; the request goes on")


def _normalised(usage: Mapping[str, Any]) -> Usage:
    """Return token counts of which some may be missing or null."""
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens")) or prompt + completion
    return Usage({**usage, "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total})
