"""A token bucket that hands out starting times. No clock, no lock: its gate has both."""

from __future__ import annotations

LATE_SECONDS = 0.010
"""By how much threads wake up late on a busy machine, and what is made up for: 500 requests a second are 2 ms apart."""

MANY = 2.0 / LATE_SECONDS
"""Requests a second from which on a learned rate makes up for late wake-ups, as a set one does: threads wake up late by
more than the distance of such requests, and servers that take so many let some of them come together. Below, each request
keeps its distance from the one before: a strict server refuses what comes a moment early."""


class TokenBucket:
    """Lets `rate` units pass a second: requests, or tokens of them.

    Instead of counting tokens it keeps the time at which everything taken so far is paid for (the generic cell rate
    algorithm): no thread refills it, and nobody polls. Whoever comes when all is paid for may pass, however many units he
    takes; the next waits until those are paid for too. So nothing is too large to pass, and what is large passes alone.

    Args:
        rate: Units a second.
        burst: Units that may pass at once after a pause; None means 1, and that whoever waited and woke late does not
            make the others late.
    """

    def __init__(self, rate: float, burst: int | None = None) -> None:
        self.interval = 1.0 / rate
        self._tolerance = self.interval * ((burst or 1) - 1)
        # With half an interval no second holds more than `rate` (rounded up) + 1 units; in fast buckets LATE_SECONDS of
        # them.
        self._make_up = max(self.interval / 2, LATE_SECONDS - self.interval / 2) if burst is None else self.interval / 2
        self._paid_at = float("-inf")

    def wait(self, now: float) -> float:
        """Return the seconds until the next may pass; not above 0.0 if it may pass now."""
        return self._paid_at - self._tolerance - now

    def wait_behind(self, now: float, units: float) -> float:
        """Return the same for who comes after others that will take so many units."""
        return max(self._paid_at, now) + units * self.interval - self._tolerance - now

    def take(self, now: float, units: float = 1.0, *, since: float | None = None) -> None:
        """Let units pass.

        Args:
            since: From when on their holder would have taken them; what it woke too late is made up for. None means now.
        """
        earliest = now if since is None else max(since, now - self._make_up)
        self._paid_at = max(self._paid_at, earliest) + units * self.interval

    def correct(self, units: float) -> None:
        """Take more units, or give some back (below 0), for what has passed already."""
        self._paid_at += units * self.interval
