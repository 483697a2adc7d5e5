"""What answers that are there already tell of those to come: how long they are, what they take, and how sure that is.

Sums of many rows are what is asked for, so their uncertainty is that of a mean. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..cost.bill import charge
from ..prices import Price
from ..tokens import FIRST_COMPLETION

FEWEST = 5
"""Answers from which on their spread says something; of fewer, half and twice their mean are taken."""

SURE = 2.0
"""Standard errors to both sides: 19 of 20 times the sum lies between."""

TAIL = 0.95
"""The share of answers that are no longer than the worst that is reckoned with, where no limit is set."""

WORST_COMPLETION = 4096
"""Tokens of a reply at worst, before any was seen and where no limit is set."""

LEAST_COMPLETION = 32
"""Tokens of a reply at least, before any was seen: a sentence."""

PROMPT_ERROR = 0.25
"""By how much an estimate of prompts may be wrong before any was counted; about a fifth on prose (`tokens.estimate`)."""


class Range(NamedTuple):
    """A number that is not known yet: what it will be at least, probably, and at worst."""

    low: float
    expected: float
    worst: float

    def times(self, factor: float) -> Range:
        """Return each of the three, multiplied."""
        return Range(self.low * factor, self.expected * factor, self.worst * factor)

    def plus(self, other: Range) -> Range:
        """Return the sum of two that rise and fall together."""
        return Range(self.low + other.low, self.expected + other.expected, self.worst + other.worst)


class Seen:
    """Collects answers. Not locked: one thread reads."""

    def __init__(self) -> None:
        self._completions: list[int] = []
        self._prompts: list[tuple[int, int]] = []  # estimated, counted
        self._seconds: list[float] = []
        self._usages: list[Mapping[str, Any]] = []

    def __len__(self) -> int:
        return len(self._completions)

    def add(self, usage: object, *, estimated: int | None = None, latency: object = None) -> bool:
        """Take in an answer, and return whether it tells anything.

        Args:
            usage: As a reply or a line of an output file has it; whatever is no count is left out.
            estimated: What its prompt was estimated at; None if nobody knows.
            latency: Seconds that it took; None, or no number, if nobody knows.
        """
        if isinstance(latency, (int, float)) and not isinstance(latency, bool) and 0 < latency < math.inf:
            self._seconds.append(latency)
        if not isinstance(usage, Mapping):
            return False
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if completion is None or not (prompt or completion):  # a server that does not count sends zeros
            return False
        self._completions.append(completion)
        if prompt and estimated:
            self._prompts.append((estimated, prompt))
        if prompt:
            self._usages.append(usage)
        return True

    @property
    def corrects_prompts(self) -> bool:
        """Whether servers counted prompts whose estimates are known."""
        return bool(self._prompts)

    @property
    def latency(self) -> float | None:
        """Seconds that an answer takes, in the mean; None if nobody knows."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    def prompt_factor(self, rows: int) -> Range:
        """Return by what the sum of the estimates of so many prompts is to be multiplied."""
        if not self._prompts:
            return Range(1 - PROMPT_ERROR, 1.0, 1 + PROMPT_ERROR)
        estimated, counted = (float(sum(side)) for side in zip(*self._prompts, strict=True))
        ratio = counted / estimated
        spread = _spread([actual - ratio * guess for guess, actual in self._prompts], 0.0)
        if spread is None:
            return Range(ratio / (1 + PROMPT_ERROR), ratio, ratio * (1 + PROMPT_ERROR))
        error = spread * _of_the_mean(len(self._prompts), rows) * len(self._prompts) / estimated
        return Range(max(ratio - error, 0.0), ratio, ratio + error)

    def completion(self, rows: int) -> Range:
        """Return the tokens of a reply, in the mean of so many, where no limit is set."""
        seen = self._completions
        if not seen:
            return Range(LEAST_COMPLETION, FIRST_COMPLETION, WORST_COMPLETION)
        mean = sum(seen) / len(seen)
        spread = _spread(seen, mean)
        error = mean if spread is None else spread * _of_the_mean(len(seen), rows)
        low = mean / 2 if spread is None else max(mean - error, min(seen))
        return Range(low, mean, max(mean + error, _quantile(seen, TAIL)))

    def cost_factor(self, price: Price, provider: str) -> float:
        """Return by what the price of the tokens is to be multiplied for all that is not plain.

        That is: prompts from the provider's cache or put there, sound, tiers of service.
        """
        plain = paid = 0.0
        for usage in self._usages:
            bill = charge(usage, price, provider=provider).cost
            if bill is not None:
                paid += bill
                plain += plain_cost(price, usage["prompt_tokens"], usage["completion_tokens"]) + price.request
        return paid / plain if plain else 1.0


def plain_cost(price: Price, prompt: float, completion: float) -> float:
    """Return US dollars for the tokens of one request, all at the price of the usual kind."""
    at = price.for_prompt(math.ceil(prompt))
    return (prompt * at.input + completion * at.output) / 1e6


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _spread(values: Sequence[float], mean: float) -> float | None:
    """Return the standard deviation around a mean, None of too few values."""
    if len(values) < FEWEST:
        return None
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _of_the_mean(seen: int, rows: int) -> float:
    """Return what a deviation is multiplied by: the mean that was seen may be off, and so may be that of the rows."""
    return SURE * math.sqrt(1 / seen + 1 / max(rows, 1))


def _quantile(values: Sequence[int], share: float) -> int:
    return sorted(values)[math.ceil(share * len(values)) - 1]
