"""Words, counts, amounts, prices, durations and sizes as people write them on the command line; for argparse."""

from __future__ import annotations

import argparse
import math
import re

from ..language import _, plural

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..prices import Price

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER = r"(\d+(?:\.\d+)?)"


def words(text: str) -> str:
    """Return an argument read as UTF-8, whatever the locale made of it. What is no UTF-8 is taken too, as from a pipe."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def count(text: str) -> int:
    """Return the whole number, of at least 1, that `text` is."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(_("{text!r} is no whole number of at least 1", text=text))
    return int(text)


def whole(text: str) -> int:
    """Return the whole number, of at least 0, that `text` is."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(_("{text!r} is no whole number of at least 0", text=text))
    return int(text)


def number(text: str) -> float:
    """Return the number, of at least 0 and finite, that `text` is."""
    value = _float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(_("{text!r} is no number of at least 0", text=text))
    return value


def positive(text: str) -> float:
    """Return the number, above 0 and finite, that `text` is."""
    value = _float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(_("{text!r} is no number above 0", text=text))
    return value


def share(text: str) -> float:
    """Return the part of a whole, above 0 and up to 1, that `text` is."""
    value = _float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            _("{text!r} is no share: give a number above 0 and up to 1, 0.1 say", text=text)
        )
    return value


def quantile(text: str) -> float:
    """Return the part of a whole, between 0 and 1, that `text` is."""
    value = _float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            _("{text!r} is no quantile: give a number between 0 and 1, 0.95 say", text=text)
        )
    return value


def amount(text: str) -> float:
    """Return the US dollars of "5", "0.5" or "$5"."""
    dollars = _float(text.strip().removeprefix("$"))
    if not 0 <= dollars < math.inf:
        raise argparse.ArgumentTypeError(
            _("{text!r} is no amount of US dollars; give a number such as 5 or 0.5", text=text)
        )
    return dollars


def price(text: str) -> Price:
    """Return the price that "IN,OUT" or "IN,OUT,CACHED" is, in US dollars per million tokens."""
    from ..errors import ConfigError
    from ..prices import parse_price

    try:
        return parse_price(text)
    except ConfigError:
        raise argparse.ArgumentTypeError(
            _(
                "{text!r} is no price; give US dollars per million tokens as IN,OUT or IN,OUT,CACHED, 0.5,1.5 say",
                text=text,
            )
        ) from None


def duration(text: str) -> float:
    """Return the seconds of "90", "90s", "30m", "12h", "7d" or "2w"."""
    matched = re.fullmatch(rf"{_NUMBER}([smhdw]?)", text.strip(), re.ASCII)
    if matched is None:
        raise argparse.ArgumentTypeError(_("{text!r} is no time; give seconds, or 30m, 12h, 7d or 2w", text=text))
    return float(matched[1]) * _SECONDS[matched[2]]


def size(text: str) -> int:
    """Return the bytes of "1000", "64K", "500M", "2G" or "1T", in powers of 1024."""
    matched = re.fullmatch(rf"{_NUMBER}([kmgt]?)b?", text.strip().lower(), re.ASCII)
    if matched is None:
        raise argparse.ArgumentTypeError(_("{text!r} is no size; give bytes, or 64K, 500M or 2G", text=text))
    return int(float(matched[1]) * _BYTES[matched[2]])


def nearest_are(names: Sequence[str]) -> str:
    """Return which names are the nearest, as a clause that stands alone: "the nearest are a, b"."""
    return plural("the nearest is {names}", "the nearest are {names}", len(names), names=", ".join(names))


def shown_size(count: int) -> str:
    """Return bytes as people read them: 950 bytes, 12.3 KiB, 4.5 MiB."""
    if count < 1024:
        return plural("{count} byte", "{count} bytes", count)
    number = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"


def _float(text: str) -> float:
    """Return a number; what is none is nan, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan
