"""What a request may take, before it is sent: what it says of itself, and what the replies to others took."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..chat import ChatRequest
from ..prices.values import Price
from ..tokens import PromptEstimate, estimate_prompt_tokens, max_tokens_of, replies_of
from .spend import Spend
from .tiers import asked_tier, factor_of

FIRST_OUTPUT = 4096
"""Tokens of a reply that are reserved before any reply came, where the request names no limit: what most servers stop at
by themselves, or near it."""

HIGH_SHARE = 0.95
"""Of the replies that came, those that are not longer than what is reserved for the next; one in twenty is."""

WINDOW = 256
"""The latest replies, by which the next is judged: enough to know their twentieth part, and few enough to forget."""


class Demand(NamedTuple):
    """What is known of a request before it is sent.

    Attributes:
        prompt: Tokens of its messages, as estimated.
        most: Tokens that each reply may have at most; None if it names no limit.
        price: What its tokens cost now; None where dollars do not matter.
        factor: What the service tier that it asks for makes of the price.
        replies: Answers that it asks for.
    """

    prompt: int = 0
    most: int | None = None
    price: Price | None = None
    factor: float = 1.0
    replies: int = 1


class Demands:
    """Tells what requests may take. May be shared by threads: what it remembers is replaced as a whole."""

    def __init__(self) -> None:
        self._settings: tuple[Mapping[str, Any] | None, str, int | None, float, int] = (None, "", None, 1.0, 1)

    def of(self, request: ChatRequest, price: Price | None, provider: str = "") -> Demand:
        """Return what is known of a request.

        Args:
            price: What its tokens cost now; None where dollars do not matter.
            provider: Whose price it is, as `ModelPrice` has it.
        """
        params, whose, most, factor, replies = self._settings
        if params is not request.params or whose != provider:  # else those of the row before, as in most batches
            params = request.params
            factor, _ = factor_of(params, provider, asked_tier(request))
            most, replies = max_tokens_of(params), replies_of(params)
            self._settings = params, provider, most, factor, replies
        return Demand(estimate_prompt_tokens(request), most, price, factor, replies)


class Expectation:
    """Learns from replies what the next requests will take. Not locked: whoever shares it has a lock.

    Attributes:
        has_seen: A reply has come, so that the length of the next is no guess any more.
    """

    def __init__(self) -> None:
        self.has_seen = False
        self._prompts = PromptEstimate()
        self._outputs = HighMark(HIGH_SHARE, WINDOW)

    def expect(self, demand: Demand) -> Spend:
        """Return what a request takes if its reply is as long as it may be; where it names no limit, a long one."""
        most = demand.most
        if most is None:
            most = math.ceil(self._outputs.value) if self.has_seen else FIRST_OUTPUT
        return self._spend(demand, most * demand.replies)

    def least(self, demand: Demand) -> Spend:
        """Return what a request takes if its reply is empty."""
        return self._spend(demand, 0)

    def seen(self, demand: Demand, output: int, prompt: int | None = None) -> None:
        """Take in what a reply took.

        Args:
            output: Its tokens, of all answers together.
            prompt: Tokens of the messages as the server counted them; None if it did not.
        """
        if output > 0:
            self._outputs.seen(output / demand.replies)
            self.has_seen = True
        if prompt is not None:
            self._prompts.seen(demand.prompt, prompt)

    def learn(self, outputs: Iterable[int]) -> None:
        """Take in how many tokens replies of earlier runs had, one answer each."""
        for output in outputs:
            if output > 0:
                self._outputs.seen(output)
                self.has_seen = True

    def _spend(self, demand: Demand, output: int) -> Spend:
        prompt = math.ceil(demand.prompt * self._prompts.ratio)
        dollars = 0.0
        if demand.price is not None:
            price = demand.price.for_prompt(prompt)
            # Providers may write a prompt to their cache without being asked to, which is the dearest that it can be.
            dearest = max(1.0, (demand.price.cache_write or 0.0) / demand.price.input if demand.price.input else 0.0)
            dollars = (prompt * price.input * dearest + output * price.output) * demand.factor / 1e6 + price.request
        return Spend(dollars, 1, prompt + output)


class HighMark:
    """The value that a share of the latest ones does not exceed. Not locked.

    Args:
        share: Such as 0.95; of few values it is the highest.
        window: How many of the latest count.
    """

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._window = window
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    @property
    def value(self) -> float:
        """The mark; 0.0 before the first value."""
        known = self._sorted
        return known[math.ceil(self._share * len(known)) - 1] if known else 0.0

    def seen(self, value: float) -> None:
        """Take in a value; the oldest goes when there are too many."""
        self._latest.append(value)
        insort(self._sorted, value)
        if len(self._latest) > self._window:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
