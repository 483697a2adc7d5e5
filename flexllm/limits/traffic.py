"""What all requests to one endpoint with one key have in common: what was sent, and what the server said of it."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from ..fork import forget_in_child
from .adaptive import AdaptiveRate
from .bucket import TokenBucket
from .hints import RateHint

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 60.0
"""Seconds for which a refusal closes the gates where the server names none; they double while refusals go on."""


class Traffic:
    """The state that the gates of one endpoint and key share. Not locked by itself: its gates take `lock`.

    Attributes:
        lock: Guards this, and every gate in front of it. Re-entrant, for the garbage collector may close a stream that
            nobody reads any more, which gives its permit back, in a thread that holds the lock.
        closed_until: Nothing is sent before; on the gates' clock.
        learned: The adaptive rate.
        sent_at: When the learned rate let a request start last.
        next_at: When it lets the next start, as it was then.
        hear_from: Only what a request from then on brings back is searched for hints.
        mean_tokens: Running mean of what a request takes; 0.0 before the first.
        waiting: Of each gate at which somebody waits, what wakes the first if it may go sooner than it thinks.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.learned = AdaptiveRate()
        self.closed_until = self.sent_at = self.next_at = self.hear_from = -math.inf
        self.waiting: set[Callable[[float], object]] = set()
        self._refused_at = -math.inf
        self._refusals_in_a_row = 0
        self._buckets: weakref.WeakValueDictionary[Hashable, TokenBucket] = weakref.WeakValueDictionary()
        self.mean_tokens = 0.0
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        self.waiting = set()

    def bucket(self, kind: str, rate: float, burst: int | None = None) -> TokenBucket:
        """Return the bucket of that kind and rate: the same for every gate that keeps to it."""
        found = self._buckets.get((kind, rate, burst))
        if found is None:
            found = self._buckets[kind, rate, burst] = TokenBucket(rate, burst)
        return found

    def accept(self, sent_at: float, usage: Mapping[str, Any] | None) -> None:
        """Take note of a request that was answered; what it says of the rate, `learned` is told apart from this."""
        if self._refusals_in_a_row and sent_at > self._refused_at:  # else it was sent before they began
            self._refusals_in_a_row = 0
        if usage:
            tokens = usage.get("total_tokens") or 0
            self.mean_tokens += (tokens - self.mean_tokens) * (0.1 if self.mean_tokens else 1.0)

    def refuse(
        self, now: float, sent_at: float, pace: float, wish: float | None, backoff: float = FIRST_BACKOFF
    ) -> None:
        """Take note of a request that was refused for its rate, and let nothing pass for a while.

        Args:
            wish: Seconds that the server asks to wait; None or 0 if it does not say. Then the first refusal of those
                that were on their way closes the gates, and the others tell nothing new.
            backoff: Seconds for that; they double while refusals go on.
        """
        self.learned.refused(now, sent_at, pace)
        if sent_at > self._refused_at:
            self._refused_at = now
            self._refusals_in_a_row += 1
            wish = wish or min(LAST_BACKOFF, backoff * 2.0 ** min(self._refusals_in_a_row - 1, 10))
        if wish:
            self.closed_until = max(self.closed_until, now + wish)

    def hint(self, now: float, hint: RateHint) -> None:
        """Take note of what the server says of its limits in a reply."""
        rate = hint.requests_per_second or math.inf
        if hint.tokens_per_second and self.mean_tokens:
            rate = min(rate, hint.tokens_per_second / self.mean_tokens)
        if rate < math.inf:
            self.learned.hint(now, rate, now + hint.good_for)
