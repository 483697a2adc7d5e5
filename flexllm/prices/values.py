"""The price of a model as a value: what each kind of token costs, and from when on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import ConfigError
from ..language import _, mark

_DAY = 86_400
_MONDAY = 4 * _DAY  # the first one of Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a whole request costs whose prompt has more than `above` tokens, cached ones included. None: not known."""

    above: int
    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the tokens of one model cost at one moment, in US dollars per million.

    Attributes:
        input, output: Tokens of the request and of the reply, thinking included.
        cached_input: Those of the request that the provider had in its cache; None: as `input`.
        cache_write: Those that it put there; None: as `input`.
        cache_write_1h: Those that it put there for an hour; None: as `cache_write`.
        audio_input, audio_output: Tokens of sound; None: not known.
        batch_input, batch_output: In the provider's own batch API; None: not known.
        request: For each request, besides its tokens, in dollars.
        tiers: Long prompts, by rising `above`.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    batch_input: float | None = None
    batch_output: float | None = None
    request: float = 0.0
    tiers: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name != "tiers":
                _check(one.name, getattr(self, one.name), optional=one.default is None)

    def for_prompt(self, tokens: int) -> Price:
        """Return the price of a request whose prompt has so many tokens.

        A tier of which no price for cached tokens is known sells them at the same share of `input` as the one below.
        """
        if not self.tiers or tokens <= self.tiers[0].above:
            return self
        price = self
        for tier in self.tiers:
            if tokens > tier.above:
                cached = tier.cached_input
                if cached is None and price.cached_input is not None:
                    cached = price.cached_input * (tier.input / price.input) if price.input else price.cached_input
                price = replace(price, input=tier.input, output=tier.output, cached_input=cached, tiers=())
        return price


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """The price of a model through time.

    Attributes:
        model: The name in the table, or what the user called it.
        provider: Whose price it is, such as "openai"; "" for the user's own.
        price: Until the first change.
        changes: Unix times, rising, and the price from then on.
        off_peak: The price outside `peak_hours`, None if it is the same all day.
        peak_hours: Pairs of hours (from, to) in UTC, on weekdays, in which `price` holds.
        date: The day, as YYYY-MM-DD, on which the price was looked up; "" for the user's own.
        source: Where it comes from, for people.
        uncertain: It is known from one unconfirmed source.
    """

    model: str
    price: Price
    provider: str = ""
    changes: tuple[tuple[float, Price], ...] = ()
    off_peak: Price | None = None
    peak_hours: tuple[tuple[int, int], ...] = ()
    date: str = ""
    source: str = ""
    uncertain: bool = False

    def at(self, unix_time: float) -> Price:
        """Return the price at a moment."""
        if self.off_peak is not None and not self._is_peak(unix_time):
            return self.off_peak
        price = self.price
        for since, changed in self.changes:
            if unix_time >= since:
                price = changed
        return price

    def _is_peak(self, unix_time: float) -> bool:
        if (unix_time - _MONDAY) // _DAY % 7 >= 5:
            return False
        hour = unix_time % _DAY / 3600
        return any(start <= hour < end for start, end in self.peak_hours)


def dearest(prices: Sequence[ModelPrice]) -> ModelPrice:
    """Return the most that a model may cost where any of several prices may hold: for each kind of token the highest.

    Where they differ it is that of all their times together, too.
    """
    first = prices[0]
    if all(price == first for price in prices):
        return first
    every = [
        one for price in prices for one in (price.price, price.off_peak, *(new for _, new in price.changes)) if one
    ]
    highest = {
        name: max(_or_input(one, name) for one in every) for name in ("input", "output", "cached_input", "cache_write")
    }
    bounds = sorted({tier.above for one in every for tier in one.tiers})
    tiers = tuple(
        Tier(
            above=above,
            input=max(one.for_prompt(above + 1).input for one in every),
            output=max(one.for_prompt(above + 1).output for one in every),
        )
        for above in bounds
    )
    return ModelPrice(
        model=first.model,
        provider=first.provider if all(price.provider == first.provider for price in prices) else "",
        price=Price(**highest, request=max(one.request for one in every), tiers=tiers),
        date=first.date,
        uncertain=any(price.uncertain for price in prices),
    )


def _or_input(price: Price, name: str) -> float:
    value: float | None = getattr(price, name)
    return price.input if value is None else value


PriceLike = Price | str | Mapping[str, Any]


def parse_price(given: PriceLike, where: str = "price") -> Price:
    """Return a price as a caller gives it: a `Price`, "IN,OUT[,CACHED]" or a mapping of its fields.

    All in US dollars per million tokens.

    Raises:
        ConfigError: It is none; the message names `where` it stands.
    """
    if isinstance(given, Price):
        return given
    try:
        if isinstance(given, str):
            return _from_text(given)
        if isinstance(given, Mapping):
            return _from_mapping(given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    raise ConfigError(_("{where}={given!r} is no price; {forms}", where=where, given=given, forms=_(_FORMS)))


_FORMS = mark(
    "give US dollars per million tokens as 'IN,OUT' or 'IN,OUT,CACHED', 0.5,1.5 say, or a mapping with input and output"
)


def _from_text(text: str) -> Price:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise ConfigError(_("{text!r} is no price; {forms}", text=text, forms=_(_FORMS)))
    return Price(input=numbers[0], output=numbers[1], cached_input=numbers[2] if len(numbers) == 3 else None)


def _from_mapping(given: Mapping[str, Any]) -> Price:
    known = [one.name for one in fields(Price) if one.name != "tiers"]
    for name in given:
        if name not in known:
            raise ConfigError(_("a price has no {name!r}; it has {known}", name=name, known=", ".join(known)))
    for name in ("input", "output"):
        if name not in given:
            raise ConfigError(_("{name} is missing; {forms}", name=name, forms=_(_FORMS)))
    return Price(**given)


def _check(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ConfigError(
            _("{name}={value!r} of a price must be US dollars per million tokens, 0 or more", name=name, value=value)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOptions:
    """The prices that a caller gives himself.

    Attributes:
        price: Of whatever model is asked; None for none.
        named: By the model's name; they win over `price`.
    """

    price: Price | None = None
    named: Mapping[str, Price] = field(default_factory=dict)
