"""What a batch will take, as a value: rows to buy, tokens, dollars and time; and how fast it may go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cost import dollars
from ..language import _, plural, with_commas
from ..terminal import padded, width
from .progress import duration, short_number
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
        lines += self._table(
            ("prompt_tokens", _("tokens of the prompts"), _shown(self.prompt_tokens, _tokens)),
            ("completion_tokens", _("tokens of the answers"), _shown(self.completion_tokens, _tokens)),
            ("cost", _("cost"), _("unknown") if self.cost is None else _shown(self.cost, dollars)),
            ("seconds", _("time"), _("unknown") if self.seconds is None else _about(_duration(self.seconds))),
        )
        return "\n".join(lines)

    def _table(self, *lines: tuple[str, str, str]) -> Iterator[str]:
        """Yield lines with names, titles and values as text; titles take the same room, and reasons stand behind."""
        column = max(width(title) for _name, title, _text in lines) + 2
        for name, title, text in lines:
            reason = self.rests_on.get(name)
            told = _("{amount} ({reason})", amount=text, reason=reason) if reason else text
            yield f"  {padded(title, column)}{told}"

    def _rows_sentence(self) -> str:
        known = (
            (self.done, _("{count:,} answered by earlier runs", count=self.done)),
            (self.cached, _("{count:,} in the cache", count=self.cached)),
            (self.shared, _("{count:,} equal to another row", count=self.shared)),
            (self.failed, _("{count:,} that cannot be asked or failed for good", count=self.failed)),
        )
        parts = [text for count, text in known if count] + [self._to_buy_words()]
        return plural("{count:,} row: {parts}", "{count:,} rows: {parts}", self.rows, parts=with_commas(parts))

    def _to_buy_words(self) -> str:
        count, changed = self.to_buy, self.changed
        if not changed:
            return _("{count:,} to buy", count=count)
        return _("{count:,} to buy ({changed:,} were answered with other settings)", count=count, changed=changed)


def _shown(value: Range, show: Callable[[float], str]) -> str:
    low, expected, worst = map(show, value)
    if low == worst:
        return _about(expected)
    return _("about {expected}, {low} to {worst}", expected=expected, low=low, worst=worst)


def _about(shown: str) -> str:
    return _("about {shown}", shown=shown)


def _tokens(number: float) -> str:
    return short_number(round(number))


def _duration(seconds: float) -> str:
    return duration(max(seconds, 1))
