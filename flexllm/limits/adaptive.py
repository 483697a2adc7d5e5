"""The rate that a server accepts, learned from what it accepts and what it refuses.

A state machine without clock, lock or thread of its own: the gate that owns it brings the times and holds the lock.

          refused in the first second       +--------+  refused   +------+  quiet for long   +-------+
          +-------------------------------> | SEARCH | ---------> | HOLD | ----------------> | PROBE |
          |                                 +--------+            +------+ <---------------- +-------+
      +------+              refused later                          ^  ^ |       refused          |
  --> | OPEN | ----------------------------------------------------+  +-+                        |
      +------+                                                     refused                       |
          ^            so much is accepted that there is no limit any more (from SEARCH too)     |
          +--------------------------------------------------------------------------------------+

OPEN    Nothing was refused, or it is long past. Each acceptance raises the pace; some thirty make it infinite.
SEARCH  Nothing is known but a guess, made of what was accepted before the first refusal. The pace doubles with every
        second of accepted traffic, until it is refused.
HOLD    There is a ceiling: a pace that was refused. The pace returns to just below it, and comes nearer while all is quiet.
PROBE   The pace creeps up to the ceiling and, if the server lets it, beyond, the faster the further. A refusal near the
        old ceiling makes the next quiet time twice as long; one far above it is a new ceiling.

But for that first guess, a refusal lowers the pace to just below the one that was refused. The sooner it comes after the
last one, the deeper the fall, down to half. All refusals of requests that were sent before a fall belong to that fall:
they are one episode. One that comes in HOLD after seconds of acceptances is bad luck: the ceiling stays where it was
met, and the distance from it grows a little.

Growth is counted in accepted traffic: a request stands for the time that it had to itself at the pace at which it was
sent. So an idle client learns nothing, and a slow server slows the learning down.
"""

from __future__ import annotations

import math
from enum import Enum

OPENING_RATE = 150.0
"""Requests a second before the first reply. A server that answers after half a second gets 75 requests before it can
refuse; one that answers at once delays the thirty acceptances that set us free by 1/150 s * 5, a thirtieth of a second."""

OPENING_GROWTH = 1.25
"""By how much an acceptance raises the opening rate: 30 of them reach `FREE_ABOVE`."""

FREE_ABOVE = 100_000.0
"""Requests a second that no client in Python sends: whoever is allowed so many is not limited."""

MIN_RATE = 0.05
"""Requests a second below which nothing falls: three a minute, the smallest limit that providers sell."""

FIRST_GUESS = 2.0
"""Requests a second after a first refusal with next to nothing accepted. Four doublings away from 40 a second."""

DOUBLING_STEPS = 4.0
"""Acceptances that a doubling takes at least, so that below four requests a second one of them does not decide."""

MARGIN = 0.03
"""How far below the ceiling is safe: requests spaced by 25 ms reach a server up to half a millisecond too early."""

WIDER_MARGIN = 0.045
"""The same below a ceiling that was not found by a careful probe: met at a run, or by bad luck."""

WIDEST_MARGIN = 0.2
"""Each refusal that comes soon doubles the margin up to this: a bucket that was full shows a ceiling that is too high."""

SOON = 5.0
"""Seconds of accepted traffic: a refusal after fewer is not bad luck."""

STRAY_FALL, STRAY_PATIENCE = 0.015, 25.0
"""The fall after bad luck, which is all that a pace can have that was accepted for seconds: a request that was held up on
its way comes too close to the next. Its pause costs more than the fall, so it is made good only in so many seconds: where
strays go on the distance grows, until they come no more often than that."""

DEEPEST_FALL = 0.5
"""The fall if nothing was accepted since the last one."""

SOFTENING = 8.0
"""How fast falls become shallow: after one second of accepted traffic a fall is 1/9 of the deepest one."""

FEW, ENOUGH = 20.0, 150.0
"""Requests that prove little, whatever the pace, and requests after which a refusal may be bad luck: with less than one in
a hundred and fifty, there is next to nothing to win by going slower."""

RETURN_TIME = 2.0
"""Seconds in which the pace makes good two thirds of a fall: a stray refusal costs no more than its own pause."""

FIRST_QUIET, LONGEST_QUIET = 60.0, 120.0
"""Seconds of accepted traffic before the ceiling is tried. A failed try costs a pause of about a second, one part in
sixty at first; a limit that was raised is still found within a minute or two."""

SHAKEN, SHORT_QUIET = 0.1, 10.0
"""A margin, and the quiet time once refusals that came soon have widened it so far: after several falls in a row, a busy
machine that let requests bunch is as likely as a lower limit, and the ceiling is worth an early try."""

PROBE_GROWTH = 0.02
"""The share by which a probe rises in a second, and at most with one request: it crosses the margin in 2 seconds."""

PROBE_ACCELERATION = 0.5
"""The share by which a probe rises in a second for each time that it is above the old ceiling: from there to four times
as much takes ten seconds."""

PASSED = 1.1
"""A probe that gets so many times above the ceiling has shown that it is no longer there."""

LONG_CLOSURE = 5.0
"""Seconds that a server closes for only if it counts by windows (Retry-After is the rest of one). What it accepts over
closed and open time together is then its limit."""

WINDOW, WINDOW_COUNT = 1.0, 8
"""Seconds, and acceptances, that a measurement of the accepted rate covers at least."""

QUIET_TRAFFIC = 5.0
"""Accepted requests a second below which a lone refusal must not be felt."""


class _Phase(Enum):
    OPEN = "open"
    SEARCH = "search"
    HOLD = "hold"
    PROBE = "probe"


class AdaptiveRate:
    """Finds how many requests a second a server accepts. Not locked: its gate is.

    All times are monotonic seconds of one clock; all rates are requests a second.

    Attributes:
        rate: What may start now; `math.inf` is not limited. Never 0, never above a live hint.
        learned: The ceiling: the pace that the server refused last. None if it refused none but at the very start, or has
            since let us so far above it that nothing limits us any more.
        refusals: How many requests were refused.
    """

    def __init__(self) -> None:
        self.rate = OPENING_RATE
        self.learned: float | None = None
        self.refusals = 0
        self._own = OPENING_RATE  # the rate without hints
        self._phase = _Phase.OPEN
        self._fell_at = -math.inf
        self._resumed = -math.inf  # when the first request accepted since the fall was sent
        self._proofs = 0  # acceptances since the fall
        self._margin = MARGIN
        self._quiet = 0.0
        self._shaken = 0.0  # the distance that strays taught
        self._was_calm = False  # the last fall came after a long time without one
        self._patience = FIRST_QUIET
        self._hint, self._hint_until = math.inf, -math.inf
        self._meter = _Meter()

    def accepted(self, now: float, sent_at: float, pace: float) -> None:
        """Note that a request was accepted.

        Args:
            now: When the reply came.
            sent_at: When the request passed the gate.
            pace: The rate in force when it did.
        """
        if sent_at <= self._fell_at:
            self._accepted_late(now)
            return
        meter = self._meter
        meter.count += 1
        if now >= meter.roll_at:
            meter.roll(now)
        if self.rate == math.inf:
            return
        if self._phase is _Phase.OPEN:
            self._own *= OPENING_GROWTH
            if self._own > FREE_ABOVE:
                self._own = math.inf
        else:
            self._proofs += 1
            if self._proofs == 1:
                self._resume(now, sent_at)
            self._grow(now, sent_at, max(pace, MIN_RATE))
        self._apply(now)

    def refused(self, now: float, sent_at: float, pace: float) -> None:
        """Note that a request was refused for its rate; the arguments are those of `accepted`."""
        self.refusals += 1
        if sent_at <= self._fell_at:
            return
        measured, settled = self._meter.rate(now), self._meter.settled(sent_at)
        if self._phase is _Phase.OPEN and not settled:
            self._own = min(max(measured, FIRST_GUESS), max(pace, MIN_RATE))
            self._phase = _Phase.SEARCH
        else:
            self._fall(sent_at, self._tried(pace, measured, settled), measured if settled else math.inf)
            self._meter = _Meter()
        self._fell_at = now
        self._proofs = 0
        self._quiet = 0.0
        self._apply(now)

    def hint(self, now: float, rate: float, until: float) -> None:
        """Note what the server says it allows, good until `until`; it replaces an earlier hint.

        A hint caps the rate. One above the learned ceiling makes the way back up twice as fast.
        """
        if math.isnan(rate):
            return
        self._hint, self._hint_until = max(rate, MIN_RATE), until
        self._apply(now)

    def at(self, now: float) -> float:
        """Return the rate at `now`: `rate`, unless its hint has run out since the last reply."""
        if self.rate != self._own:
            self._apply(now)
        return self.rate

    def _apply(self, now: float) -> None:
        self.rate = min(self._own, self._hint) if now < self._hint_until else self._own

    def _resume(self, now: float, sent_at: float) -> None:
        """Start to measure afresh: what came before the fall, and the pause after it, say nothing of the pace since."""
        self._resumed = sent_at
        self._meter.restart(now)

    def _accepted_late(self, now: float) -> None:
        """Mend the first guess with what the server had still accepted before it; after a later fall the meter is empty."""
        if not self._proofs:
            self._meter.count += 1
            self._own = max(self._own, self._meter.rate(now))
            self._apply(now)

    def _grow(self, now: float, sent_at: float, pace: float) -> None:
        step = min(1.0 / pace, 1.0)
        if self.learned is not None and now < self._hint_until and self._hint > self.learned:
            step *= 2
        own = self._own
        own += self._way_back(step) if self._phase is _Phase.HOLD else own * self._climb(own, step)
        if self._meter.settled(sent_at):
            own = min(own, _headroom(self._meter.rate(now)))
        self._own = max(own, self._own)
        if self._own > FREE_ABOVE:
            self._own, self.learned, self._phase = math.inf, None, _Phase.OPEN
            self._margin, self._patience = MARGIN, FIRST_QUIET

    def _way_back(self, step: float) -> float:
        """Return how much nearer to the ceiling a request brings the pace; after a quiet time, go over to probing."""
        assert self.learned is not None
        self._quiet += step
        nervous = max(0.0, 1 - self._quiet / self._patience)
        if not nervous:
            self._phase = _Phase.PROBE
        self._shaken = max(self._shaken - STRAY_FALL * step / STRAY_PATIENCE, 0.0)
        calm = min(self._margin, max(WIDER_MARGIN, self._shaken))
        target = self.learned * (1 - calm - (self._margin - calm) * nervous)
        return max(0.0, target - self._own) * min(step / RETURN_TIME, 1 / DOUBLING_STEPS)

    def _climb(self, rate: float, step: float) -> float:
        """Return the share by which a request raises `rate` while searching or probing."""
        if self.learned is None or self._phase is _Phase.SEARCH:
            return float(2 ** min(step, 1 / DOUBLING_STEPS)) - 1
        beyond = PROBE_ACCELERATION * (rate / self.learned - 1)
        if beyond > PROBE_GROWTH:
            return min(beyond * step, 1 / DOUBLING_STEPS)
        return PROBE_GROWTH * step

    def _tried(self, pace: float, measured: float, settled: bool) -> float:
        """Return the pace that a refusal speaks of: the one in force, if there was traffic enough to try it.

        In a climb that is the middle between the pace that was refused and the last one before it.
        """
        if pace == math.inf:
            return max(measured, FIRST_GUESS)
        pace = max(pace, MIN_RATE)
        if settled:
            pace = min(pace, _headroom(measured))
        if self._phase in (_Phase.SEARCH, _Phase.PROBE):
            pace /= math.sqrt(1 + self._climb(pace, min(1.0 / pace, 1.0)))
        return pace

    def _fall(self, sent_at: float, pace: float, measured: float) -> None:
        """Fall below `pace`, which was refused and is the new ceiling. `measured` is inf if it is not yet known."""
        proofs = math.inf if self._phase is _Phase.OPEN else self._proofs
        if self._is_stray(pace, proofs):
            return
        self._learn_from(pace, soon=proofs < SOON * pace)
        quiet = proofs >= QUIET_TRAFFIC and measured < min(QUIET_TRAFFIC, pace / 2)
        if not quiet and FEW <= proofs < math.inf and self._resumed - self._fell_at > LONG_CLOSURE:
            pace = min(pace, math.sqrt(pace * proofs / (sent_at - self._fell_at)))
        depth = max(self._margin, DEEPEST_FALL / (1 + SOFTENING * proofs / max(pace, FEW)))
        own = pace * (1 - depth)
        if quiet:
            own = max(own, min(pace, measured + 1))
        self._own = max(own, MIN_RATE)
        self.learned = max(pace, MIN_RATE)
        self._phase = _Phase.HOLD

    def _is_stray(self, pace: float, proofs: float) -> bool:
        """Return whether a refusal is bad luck, and yield a little if it is: the ceiling stays where it was met."""
        was_calm, self._was_calm = self._was_calm, proofs >= max(SOON * pace, ENOUGH)
        if self._phase is not _Phase.HOLD or self.learned is None or pace > self.learned:
            return False
        if not (self._was_calm or (was_calm and proofs >= FEW)) or self._resumed - self._fell_at > LONG_CLOSURE:
            return False
        self._shaken = min(max(self._shaken, 1 - pace / self.learned) + STRAY_FALL, WIDEST_MARGIN)
        self._margin = max(self._margin, self._shaken)
        self._own = max(min(pace, self.learned * (1 - self._shaken)), MIN_RATE)
        return True

    def _learn_from(self, pace: float, *, soon: bool) -> None:
        """Set how near the ceiling the pace may come, and how long it stays there before it tries the ceiling."""
        if self._phase is not _Phase.PROBE or self.learned is None:
            self._margin = min(2 * self._margin, WIDEST_MARGIN) if soon else WIDER_MARGIN
            if soon and self._margin > SHAKEN:
                self._patience = min(self._patience, SHORT_QUIET)
            return
        self._margin = max(MARGIN, self._shaken)
        is_news = pace > self.learned * PASSED or self._patience < FIRST_QUIET
        self._patience = FIRST_QUIET if is_news else min(2 * self._patience, LONGEST_QUIET)


class _Meter:
    """Measures the accepted rate over the last one or two windows."""

    __slots__ = ("_since", "_started", "_was_count", "_was_since", "count", "roll_at")

    def __init__(self) -> None:
        self.count = 0
        self.roll_at = -math.inf
        self._started = self._since = self._was_since = math.inf
        self._was_count = 0

    def restart(self, now: float) -> None:
        """Forget all but the acceptance of this moment."""
        self.count = 1
        self.roll_at = now + WINDOW
        self._started = self._since = self._was_since = now
        self._was_count = 0

    def roll(self, now: float) -> None:
        """Begin a new window, if the current one holds enough."""
        if self._since == math.inf:
            self.restart(now)
        elif self.count >= WINDOW_COUNT:
            self._was_since, self._was_count = self._since, self.count
            self._since, self.count = now, 0
            self.roll_at = now + WINDOW

    def settled(self, sent_at: float) -> bool:
        """Whether replies had been measured for a whole window when the request of `sent_at` was sent.

        Not whether it is one by now: where replies take seconds, they come sparsely at first.
        """
        return sent_at - self._started >= WINDOW

    def rate(self, now: float) -> float:
        """Return acceptances a second; 0.0 before the first, too small while not settled."""
        if self._since == math.inf:
            return 0.0
        return (self._was_count + self.count) / max(now - self._was_since, WINDOW)


def _headroom(measured: float) -> float:
    """Return the pace up to which traffic of `measured` requests a second proves anything."""
    return max(2 * measured, measured + 2)
