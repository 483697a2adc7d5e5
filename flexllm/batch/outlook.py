"""What a batch will take, as a value: rows to buy, tokens, dollars and time; and how fast it may go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cost import dollars
from ..language import _
from .progress import short_number
from .seen import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast all endpoints together may be asked. None is not limited.

    Attributes:
        concurrency: Requests under way at the same time.
        requests: A second.
        tokens, input_tokens, output_tokens: A second, of requests and replies together and apart.
    """

    concurrency: int = 1
    requests: float | None = None
    tokens: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a batch will take: `str` tells it to people.

    Attributes:
        rows: Rows of the input.
        done: Of these, answered by earlier runs.
        failed: That are not asked: they cannot be read, or their errors of earlier runs are to stand.
        cached: That the response cache answers.
        shared: That get the answer of an equal row.
        to_buy: All others: requests that are sent.
        changed: Rows that were answered before with another model or other parameters.
        prompt_tokens, completion_tokens: Of what is to be bought.
        cost: US dollars; None where no price is known.
        seconds: None where nothing tells.
        rests_on: For `prompt_tokens`, `completion_tokens`, `cost` and `seconds` a clause for people.
    """

    rows: int
    done: int
    failed: int
    cached: int
    shared: int
    to_buy: int
    changed: int
    prompt_tokens: Range
    completion_tokens: Range
    cost: Range | None
    seconds: float | None
    rests_on: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-able; tokens are whole numbers."""
        counts = ("rows", "done", "failed", "cached", "shared", "to_buy", "changed")
        return {
            **{name: getattr(self, name) for name in counts},
            "prompt_tokens": {name: round(value) for name, value in self.prompt_tokens._asdict().items()},
            "completion_tokens": {name: round(value) for name, value in self.completion_tokens._asdict().items()},
            "cost": None if self.cost is None else self.cost._asdict(),
            "seconds": self.seconds,
            "rests_on": dict(self.rests_on),
        }

    def __str__(self) -> str:
        lines = [self._rows_sentence()]
        if not self.to_buy:
            return lines[0]
        cost = "unknown" if self.cost is None else _shown(self.cost, dollars)
        duration = "unknown" if self.seconds is None else f"about {_duration(self.seconds)}"
        for title, text, name in (
            (_("tokens of the prompts"), _shown(self.prompt_tokens, _tokens), "prompt_tokens"),
            (_("tokens of the answers"), _shown(self.completion_tokens, _tokens), "completion_tokens"),
            ("cost", cost, "cost"),
            ("time", duration, "seconds"),
        ):
            reason = self.rests_on.get(name)
            lines.append(f"  {title:<22} {text}{f' ({reason})' if reason else ''}")
        return "\n".join(lines)

    def _rows_sentence(self) -> str:
        words = (
            (self.done, _("answered by earlier runs")),
            (self.cached, _("in the cache")),
            (self.shared, _("equal to another row")),
            (self.failed, _("that cannot be asked or failed for good")),
            (
                self.to_buy,
                _("to buy")
                if not self.changed
                else _("to buy ({changed:,} were answered with other settings)", changed=self.changed),
            ),
        )
        parts = [f"{count:,} {what}" for count, what in words if count or what.startswith("to buy")]
        return f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}: {', '.join(parts)}"


def _shown(value: Range, show: Callable[[float], str]) -> str:
    low, expected, worst = map(show, value)
    return f"about {expected}" if low == worst else f"about {expected}, {low} to {worst}"


def _tokens(number: float) -> str:
    return short_number(round(number))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"
