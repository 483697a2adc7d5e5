"""What a cost tracker watches, as a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import ConfigError
from ..language import _

OnWarning = Callable[[float, float], object]
"""Told the US dollars that are spent, and the threshold that they have reached."""


class Limits(NamedTuple):
    """The most that may be spent; None, wherever it stands, is not limited.

    Attributes:
        dollars: US dollars.
        requests: Requests that are sent.
        tokens: Of prompts and replies together.
    """

    dollars: float | None = None
    requests: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CostTrackerConfig:
    """What a cost tracker counts, and what may not be exceeded. None, wherever it may stand, means not limited.

    Attributes:
        enabled: Whether anything is counted or limited at all.
        budget_limit: US dollars. A request that might exceed them is not sent.
        budget_warning: US dollars from which on `on_budget_warning` is called, once.
        on_budget_warning: Called with the dollars that are spent and `budget_warning`, by the thread that noticed; it must
            be quick. None logs a warning instead.
        max_requests: Requests in all, those included that are sent again.
        max_tokens: Tokens in all, of prompts and replies together; not to be confused with the `max_tokens` of one reply.
    """

    enabled: bool = True
    budget_limit: float | None = None
    budget_warning: float | None = None
    on_budget_warning: OnWarning | None = None
    max_requests: int | None = field(default=None, kw_only=True)
    max_tokens: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise ConfigError(_("enabled={enabled!r} of a cost tracker must be True or False", enabled=self.enabled))
        _check_amount("budget_limit", self.budget_limit)
        _check_amount("budget_warning", self.budget_warning)
        _check_count("max_requests", self.max_requests)
        _check_count("max_tokens", self.max_tokens)
        self._check_warning()

    def _check_warning(self) -> None:
        warned, warning, limit = self.on_budget_warning, self.budget_warning, self.budget_limit
        if warned is not None and not callable(warned):
            raise ConfigError(
                _("on_budget_warning={warned!r} must be a function of the cost and the threshold", warned=warned)
            )
        if warned is not None and warning is None:
            raise ConfigError(
                _("on_budget_warning is never called without budget_warning; give the dollars it is to be at")
            )
        if limit is not None and warning is not None and warning > limit:
            reason = _(
                "budget_warning={warning!r} is above budget_limit={limit!r}, so that it would never come",
                warning=warning, limit=limit,
            )  # fmt: skip
            raise ConfigError(reason)

    @classmethod
    def disabled(cls) -> CostTrackerConfig:
        """Return one that counts nothing."""
        return cls(enabled=False)

    @classmethod
    def tracking_only(cls) -> CostTrackerConfig:
        """Return one that counts, and limits nothing."""
        return cls(enabled=True)

    @classmethod
    def with_budget(
        cls, limit: float, warning: float | None = None, on_warning: OnWarning | None = None
    ) -> CostTrackerConfig:
        """Return one that spends no more than `limit` US dollars.

        Args:
            warning: US dollars from which on `on_warning` is called, once.
            on_warning: Told the dollars that are spent, and `warning`.
        """
        if limit is None:
            raise ConfigError(_("limit=None is no budget; give US dollars, or use CostTrackerConfig.tracking_only()"))
        return cls(enabled=True, budget_limit=limit, budget_warning=warning, on_budget_warning=on_warning)

    @property
    def limits(self) -> Limits:
        """What may not be exceeded."""
        return Limits(self.budget_limit, self.max_requests, self.max_tokens) if self.enabled else Limits()

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that may not be exceeded."""
        return self.limits != Limits()


def _check_amount(name: str, value: object) -> None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf):
        return
    raise ConfigError(_("{name}={value!r} must be US dollars, 0 or more, or None for no limit", name=name, value=value))


def _check_count(name: str, value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    reason = _(
        "{name}={value!r} of a cost tracker must be a whole number of at least 1, or None for no limit",
        name=name, value=value,
    )  # fmt: skip
    raise ConfigError(reason)
