"""Price lists as files: JSON with one model a line, which a person can read and a diff can show.

    {"date": "2026-11-22", "unit": "US dollars per million tokens", "about": "...", "models": [
    {"provider": "openai", "model": "gpt-4o", "input": 2.5, "output": 10, "cached_input": 1.25, ...},
    ...
    ]}

A line holds the fields of a `Price`, and what is known of the model besides: `tiers`, `changes` (each with the day `from`
which it holds, at 00:00 UTC), `peak_hours` and `off_peak`, what other sources say (`disputed`), `shutdown` and more. What a
line does not say is not known. Fields that are not known here are left alone: a newer release may have written them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..language import _
from .values import ModelPrice, Price, Tier

UNIT = "US dollars per million tokens"

_PRICES = tuple(one.name for one in fields(Price) if one.name != "tiers")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """One line of a list: what a model costs at one provider, and what else is known of it.

    Attributes:
        disputed: What other sources say instead: their names and prices.
        context_window: Tokens, None if not known. Some providers count the reply inside it.
        max_output: Tokens of a reply, None if not known.
        shutdown: The announced day, as YYYY-MM-DD, which may have passed; "" for none.
        note: For people; "" for none.
    """

    price: ModelPrice
    disputed: tuple[tuple[str, Price], ...] = ()
    context_window: int | None = None
    max_output: int | None = None
    shutdown: str = ""
    note: str = ""

    @property
    def model(self) -> str:
        """The model's name at its provider."""
        return self.price.model

    @property
    def provider(self) -> str:
        """Whose price it is."""
        return self.price.provider

    def as_dict(self) -> dict[str, Any]:
        """Return the line as it stands in a file."""
        price = self.price
        line: dict[str, Any] = {"provider": price.provider, "model": price.model, **_price_fields(price.price)}
        if price.changes:
            line["changes"] = [{"from": day_of(since), **_price_fields(changed)} for since, changed in price.changes]
        if price.off_peak is not None:
            line["peak_hours"] = [list(hours) for hours in price.peak_hours]
            line["off_peak"] = _price_fields(price.off_peak)
        if price.uncertain:
            line["uncertain"] = True
        if self.disputed:
            line["disputed"] = [{"source": source, **_price_fields(other)} for source, other in self.disputed]
        for name in ("note", "context_window", "max_output", "shutdown"):
            if getattr(self, name):
                line[name] = getattr(self, name)
        if price.source:
            line["source"] = price.source
        return line


class PriceList(NamedTuple):
    """A file's content: the day, as YYYY-MM-DD, on which the prices were looked up, and its lines."""

    date: str
    rows: tuple[PriceRow, ...]


def read_list(text: str | bytes) -> PriceList:
    """Return what a file says.

    Raises:
        ConfigError: It is no price list, or one of its lines is wrong; the message says which.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(_("it is no JSON: {error}", error=error)) from None
    if not isinstance(data, dict) or not isinstance(data.get("models"), list):
        raise ConfigError(_("it is no list of prices: it has no 'models'"))
    date = _text(data, "date")
    unix_of(date)  # for its check
    return PriceList(date, tuple(_checked_row(number, line, date) for number, line in enumerate(data["models"], 1)))


def write_list(prices: PriceList, about: str) -> str:
    """Return a file's text, which `read_list` reads."""
    head = {"date": prices.date, "unit": UNIT, "about": about}
    lines = [json.dumps(row.as_dict(), ensure_ascii=False) for row in prices.rows]
    first = "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items())
    return "".join(["{\n", first, '"models": [\n', ",\n".join(lines), "\n]\n}\n"])


def unix_of(day: object) -> float:
    """Return the Unix time at which a day, given as YYYY-MM-DD, begins in UTC.

    Raises:
        ConfigError: It is no such day.
    """
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(_("{day!r} is no day of the form YYYY-MM-DD", day=day)) from None


def day_of(unix_time: float) -> str:
    """Return the day in UTC, as YYYY-MM-DD."""
    return datetime.fromtimestamp(unix_time, timezone.utc).strftime("%Y-%m-%d")


def _price_fields(price: Price) -> dict[str, Any]:
    line = {name: getattr(price, name) for name in _PRICES if getattr(price, name) is not None}
    if not price.request:
        del line["request"]
    if price.tiers:
        line["tiers"] = [
            {name: getattr(tier, name) for name in _TIERS if getattr(tier, name) is not None} for tier in price.tiers
        ]
    return line


_TIERS = tuple(one.name for one in fields(Tier))


def _checked_row(number: int, line: object, date: str) -> PriceRow:
    if not isinstance(line, dict):
        raise ConfigError(_("model {number} of the list is no JSON object", number=number))
    try:
        return _row(line, date)
    except ConfigError as error:
        reason = _(
            "model {number} of the list ({model!r}): {error}", number=number, model=line.get("model"), error=error
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # a list where an object should be, and so on
        reason = _(
            "model {number} of the list ({model!r}) is damaged: {error!r}",
            number=number, model=line.get("model"), error=error,
        )  # fmt: skip
    raise ConfigError(reason)


def _row(line: Mapping[str, Any], date: str) -> PriceRow:
    changes = tuple((unix_of(one["from"]), _price(one)) for one in line.get("changes", ()))
    if list(changes) != sorted(changes, key=lambda change: change[0]):
        raise ConfigError(_("its changes are not in the order of their dates"))
    price = ModelPrice(
        model=_text(line, "model") or _missing("model"),
        provider=_text(line, "provider"),
        price=_price(line),
        changes=changes,
        off_peak=_price(line["off_peak"]) if "off_peak" in line else None,
        peak_hours=tuple(_hours(pair) for pair in line.get("peak_hours", ())),
        date=date,
        source=_text(line, "source"),
        uncertain=bool(line.get("uncertain", False)),
    )
    return PriceRow(
        price=price,
        disputed=tuple((_text(one, "source"), _price(one)) for one in line.get("disputed", ())),
        context_window=_count(line, "context_window"),
        max_output=_count(line, "max_output"),
        shutdown=_text(line, "shutdown"),
        note=_text(line, "note"),
    )


def _price(line: Mapping[str, Any]) -> Price:
    for name in ("input", "output"):
        if name not in line:
            _missing(name)
    price = Price(**{name: line[name] for name in _PRICES if name in line})
    return replace(price, tiers=_tiers(line["tiers"])) if line.get("tiers") else price


def _tiers(lines: Iterable[Mapping[str, Any]]) -> tuple[Tier, ...]:
    tiers: list[Tier] = []
    for line in lines:
        above = _count(line, "above")
        if above is None or (tiers and above <= tiers[-1].above):
            raise ConfigError(_("its tiers do not rise"))
        price = _price({name: line[name] for name in _TIERS if name != "above" and name in line})
        tiers.append(Tier(above=above, input=price.input, output=price.output, cached_input=price.cached_input))
    return tuple(tiers)


def _hours(pair: Any) -> tuple[int, int]:
    start, end = pair
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= 24):
        raise ConfigError(_("{pair!r} are no hours of a day", pair=pair))
    return start, end


def _count(line: Mapping[str, Any], name: str) -> int | None:
    value = line.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise ConfigError(_("{name}={value!r} must be a whole number above 0", name=name, value=value))
    return value


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name, "")
    if not isinstance(value, str):
        raise ConfigError(_("{name}={value!r} must be a text", name=name, value=value))
    return value


def _missing(name: str) -> str:
    raise ConfigError(_("{name} is missing", name=name))
