"""How a batch shows what it does: a bar, plain lines, or nothing, behind one face. The only door to tqdm."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from ..controls import without_controls
from ..cost import dollars
from ..health import EndpointHealth
from ..language import _, plural, with_commas
from .tally import Tally as Tally

log = logging.getLogger(__name__)

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 10.0
"""Between two plain lines, where there is no terminal: a log of an hour has 360 of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressOptions:
    """What is shown.

    Attributes:
        show: Anything at all.
        tokens: Token counts.
        cost: The cost, where prices are known.
        also: Who else is told, whatever is shown: a status file, a log.
    """

    show: bool = True
    tokens: bool = False
    cost: bool = False
    also: tuple[Progress, ...] = ()


Health = Callable[[], Sequence[EndpointHealth]]
"""Tells how the endpoints do. It takes locks that requests need too, so it is called only when a line is drawn."""


def no_endpoints() -> Sequence[EndpointHealth]:
    """Stand for an engine of which nothing is known."""
    return ()


class Progress(Protocol):
    """Where a job tells how it goes on. Called by one thread."""

    def begin(self, tally: Tally) -> None:
        """Take note that the run begins, with the output file in its hands; `total` is known, if it ever is."""

    def update(self, tally: Tally) -> None:
        """Take note of the counts; cheap enough to be called for every group of rows."""

    def say(self, text: str) -> None:
        """Tell the user a sentence."""

    def close(self) -> None:
        """Show the last state and end."""


def make_progress(
    options: ProgressOptions,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    health: Health = no_endpoints,
) -> Progress:
    """Return a bar for a terminal or a notebook, plain lines elsewhere, silence if nothing is to be shown."""
    stream = stream if stream is not None else sys.stderr
    shown: Progress = SilentProgress()
    if options.show and stream is not None:
        steady: Any = _SteadyStream(stream)
        shown = (BarProgress if _is_interactive(stream) else PlainProgress)(options, steady, clock, health)
    return SeveralProgresses(shown, *options.also) if options.also else shown


class SeveralProgresses:
    """Tells several the same."""

    def __init__(self, *others: Progress) -> None:
        self._others = others

    def begin(self, tally: Tally) -> None:
        """Let all take note of the beginning."""
        for one in self._others:
            one.begin(tally)

    def update(self, tally: Tally) -> None:
        """Let all take note of the counts."""
        for one in self._others:
            one.update(tally)

    def say(self, text: str) -> None:
        """Let all tell the sentence."""
        for one in self._others:
            one.say(text)

    def close(self) -> None:
        """Let all end."""
        for one in self._others:
            one.close()


class _SteadyStream:
    """A stream whose failure ends no batch: its disk is full, its reader has gone, its terminal was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_plain = not _can_write(stream, SIGN)

    def write(self, text: str) -> int:
        if self._is_plain:
            text = text.replace(SIGN, _("cost"))
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class SilentProgress:
    """Shows nothing; sentences go to the log."""

    def begin(self, tally: Tally) -> None:
        """Do nothing."""

    def update(self, tally: Tally) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Log the sentence."""
        log.warning("%s", text)

    def close(self) -> None:
        """Do nothing."""


class PlainProgress:
    """One line every so often, without control characters."""

    def __init__(self, options: ProgressOptions, stream: TextIO, clock: Callable[[], float], health: Health) -> None:
        self._options = options
        self._health = health
        self._stream = stream
        self._clock = clock
        self._started = self._shown = clock()
        self._tally = Tally()

    def begin(self, tally: Tally) -> None:
        """Show nothing yet: a run that has nothing to do shows nothing at all."""

    def update(self, tally: Tally) -> None:
        """Print a line if the last is old enough."""
        self._tally = tally
        if self._clock() - self._shown >= PLAIN_SECONDS:
            self._print()

    def say(self, text: str) -> None:
        """Print the sentence on a line of its own."""
        print(without_controls(text), file=self._stream, flush=True)

    def close(self) -> None:
        """Print the last state."""
        if self._tally.done:
            self._print()

    def _print(self) -> None:
        self._shown = self._clock()
        tally, elapsed = self._tally, self._shown - self._started
        if tally.total is None:
            done = _("{done:,} done in {seconds:.0f} s", done=tally.done, seconds=elapsed)
        else:
            done = _("{done:,}/{total:,} in {seconds:.0f} s", done=tally.done, total=tally.total, seconds=elapsed)
        details = describe(tally, elapsed, self._options, self._health())
        print(with_commas(filter(None, [done, details])), file=self._stream, flush=True)


class BarProgress:
    """A tqdm bar of plain text: no widget, so a notebook needs nothing installed. It appears with the first row."""

    def __init__(self, options: ProgressOptions, stream: TextIO, clock: Callable[[], float], health: Health) -> None:
        self._options = options
        self._health = health
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._shown = float("-inf")
        self._tally = Tally()
        self._bar: Any = None

    def begin(self, tally: Tally) -> None:
        """Show nothing yet: a run that has nothing to do shows nothing at all."""

    def update(self, tally: Tally) -> None:
        """Redraw the bar if the last drawing is old enough."""
        self._tally = tally
        now = self._clock()
        if now - self._shown >= REDRAW_SECONDS:
            self._shown = now
            self._draw()

    def say(self, text: str) -> None:
        """Print the sentence above the bar."""
        text = without_controls(text)
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def close(self) -> None:
        """Draw the last state and leave it."""
        if self._bar is not None:
            self._draw()
            self._bar.close()

    def _draw(self) -> None:
        tally, elapsed = self._tally, self._clock() - self._started
        if self._bar is None:
            self._bar = self._make_bar(elapsed)
        bar = self._bar
        bar.total = tally.total
        if bar.initial == 0 and tally.resumed:
            bar.initial = tally.resumed  # its rate is that of this run
        bar.n = tally.done
        details = describe(tally, elapsed, self._options, self._health(), rate=False)
        bar.set_postfix_str(details, refresh=False)
        bar.refresh()

    def _make_bar(self, elapsed: float) -> Any:
        from tqdm import tqdm

        bar = tqdm(  # the delay: a bar is not drawn before it has its counts
            total=self._tally.total, unit=_("row"), file=self._stream, leave=True, miniters=1, mininterval=0, delay=1e-9,
            dynamic_ncols=self._stream.isatty(),  # behind a notebook may be the terminal of its server, which is as wide as it is
        )  # fmt: skip
        bar.start_t -= elapsed
        return bar


def describe(
    tally: Tally,
    elapsed: float,
    options: ProgressOptions,
    endpoints: Sequence[EndpointHealth] = (),
    *,
    rate: bool = True,
) -> str:
    """Return the details behind done and total, such as "41.3 req/s, limit 40.0 req/s, 12.3k tokens, 2 retries"."""
    parts = []
    if rate and tally.asked and elapsed > 0:
        parts.append(_("{rate:.1f} req/s", rate=tally.asked / elapsed))
    if learned := describe_endpoints(endpoints):
        parts.append(learned)
    if tally.resumed:
        parts.append(_("{count:,} resumed", count=tally.resumed))
    if tally.cached:
        parts.append(_("{count:,} cached", count=tally.cached))
    if tally.shared:
        parts.append(_("{count:,} shared", count=tally.shared))
    if options.tokens and tally.total_tokens:
        parts.append(describe_tokens(tally.total_tokens))
    if options.cost and (cost := describe_cost(tally.cost, tally.unpriced)):
        parts.append(cost)
    if tally.retries:
        parts.append(describe_retries(tally.retries))
    if tally.failed:
        parts.append(_("{count:,} failed", count=tally.failed))
    return with_commas(parts)


def describe_answered(count: int, total: int | None) -> str:
    """Return how many rows are answered, such as "2 of 3 rows answered"; `total` is None if nobody knows it."""
    if total is None:
        return plural("{count:,} row answered", "{count:,} rows answered", count)
    return plural("{done:,} of {count:,} row answered", "{done:,} of {count:,} rows answered", total, done=count)


def describe_tokens(count: int) -> str:
    """Return a count of tokens, such as "12.3k tokens"."""
    return _("{count} tokens", count=short_number(count))


def describe_retries(count: int) -> str:
    """Return a count of retries, such as "2 retries"."""
    return plural("{count:,} retry", "{count:,} retries", count)


SIGN = "💰"
"""What the user's document shows a cost by; a stream that cannot write it says "cost"."""


def describe_cost(cost: float | None, unpriced: int) -> str:
    """Return what a run has cost, such as "💰 $0.0012"; "" if nothing was bought yet.

    Args:
        cost: US dollars; None if no price is known.
        unpriced: Answers of which nobody knows the price.
    """
    if cost is None:
        return _("{sign} price unknown", sign=SIGN) if unpriced else ""
    if unpriced:
        return plural(
            "{sign} {amount} and {count:,} row of unknown price", "{sign} {amount} and {count:,} rows of unknown price",
            unpriced, sign=SIGN, amount=dollars(cost),
        )  # fmt: skip
    return f"{SIGN} {dollars(cost)}"


def describe_endpoints(endpoints: Sequence[EndpointHealth]) -> str:
    """Return what the endpoints have shown of themselves; "" if they just answer.

    Returns:
        Of one endpoint the rate at which it is asked, once it has refused a higher one; of several, how many are in use,
        unless all are.
    """
    if len(endpoints) == 1:
        (one,) = endpoints
        rate = one.learned if one.rate is None else one.rate
        return "" if one.learned is None else _("limit {rate:.1f} req/s", rate=rate)
    in_use = sum(one.state in _IN_USE for one in endpoints)
    if in_use == len(endpoints):
        return ""
    return _("{in_use} of {count} endpoints", in_use=in_use, count=len(endpoints))


_IN_USE = ("ready", "waiting")


def short_number(number: int) -> str:
    """Return a count as people read it: 950, 12.3k, 4.5M."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1_000:.1f}k" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 67 min, 3 h 20 min, 4.5 days."""
    if seconds < 90:
        return _("{seconds:.0f} s", seconds=seconds)
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{minutes} min", minutes=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return _("{hours} h {minutes} min", hours=hours, minutes=minutes)
    return _("{days:.1f} days", days=seconds / 86400)


def _is_interactive(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal, or a notebook's output, which redraws a line as a terminal does."""
    try:
        return stream.isatty() or type(stream).__module__.startswith("ipykernel")
    except ValueError:  # closed
        return False


def _can_write(stream: TextIO, sign: str) -> bool:
    try:
        sign.encode(getattr(stream, "encoding", None) or "utf-8")
    except (LookupError, UnicodeError):
        return False
    return True
