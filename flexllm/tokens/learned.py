"""Numbers of tokens that say whether they are estimates, and what servers' own counts teach about estimates."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..chat import ChatRequest
from ..fork import forget_in_child
from .estimate import PromptEstimate, estimate_prompt_tokens


class TokenCount(int):
    """A number of tokens: an int that says whether it is an estimate. What is calculated with it is a plain int.

    Attributes:
        is_estimate: No tokenizer, or not a tokenizer alone, counted it.
    """

    is_estimate: bool

    def __new__(cls, tokens: int, is_estimate: bool = False) -> TokenCount:
        """Return `tokens` with a word on where they come from."""
        made = super().__new__(cls, tokens)
        made.is_estimate = is_estimate
        return made


def total(counts: Iterable[TokenCount]) -> TokenCount:
    """Return the sum, which is an estimate if any of them is."""
    known = list(counts)
    return TokenCount(sum(known), any(count.is_estimate for count in known))


class Corrections:
    """What servers really counted, by model, for prompts that were estimated: it corrects the estimates that follow.

    May be shared by threads.
    """

    MOST_MODELS = 256
    """Models that are remembered; beyond that the one first heard of is forgotten."""

    ENOUGH, EVERY = 64, 16
    """After so many replies of a model `learn` looks at one in so many: the estimate takes longer than the learning."""

    def __init__(self) -> None:
        self._models: dict[str, PromptEstimate] = {}
        self._replies: dict[str, Iterator[int]] = {}
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def seen(self, model: str, estimated: int, actual: int) -> None:
        """Take in what a server counted for a prompt that was estimated, before correction, at `estimated`."""
        with self._lock:
            known = self._models.get(model)
            if known is None:
                if len(self._models) >= self.MOST_MODELS:
                    oldest = next(iter(self._models))
                    del self._models[oldest]
                    self._replies.pop(oldest, None)
                known = self._models[model] = PromptEstimate()
            known.seen(estimated, actual)

    def learn(self, request: ChatRequest, usage: Mapping[str, Any] | None) -> None:
        """Take in the usage of a reply to a request, as sent: of every reply at first, later of some. Never raises."""
        actual = usage.get("prompt_tokens") if usage is not None else None
        if not isinstance(actual, int) or actual <= 0:
            return
        replies = self._replies.get(request.model)
        if replies is None:
            replies = self._replies[request.model] = itertools.count()
        number = next(replies)
        if number < self.ENOUGH or number % self.EVERY == 0:
            self.seen(request.model, estimate_prompt_tokens(request), actual)

    def expect(self, model: str, estimated: int) -> int:
        """Return an estimate, corrected by what is known of this model; 0 stays 0."""
        known = self._models.get(model)
        return known.expect(estimated) if known is not None and estimated > 0 else estimated


corrections = Corrections()
"""Of this process: every client's replies teach it, every count reads it."""
