"""`flexllm pricing`: what models cost."""

from __future__ import annotations

import argparse

from ...language import _, mark, plural, with_semicolons
from ..common import add_config_option
from ..units import nearest_are

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ...prices import Price, PriceList, PriceRow, PriceTable

FETCH_SECONDS = 60.0
"""For the whole list of models, which has a few megabytes."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pricing",
        help=_("show what models cost"),
        description=_(
            "Show what models cost, in US dollars per million tokens. The prices came with the package and are dated; "
            "with --update they are compared with OpenRouter's public list, and what is newer there counts from then on. "
            "Nothing is ever fetched without --update. A model that is not known has no price: give one in the "
            "configuration file, which is shown too, or with --price where it is asked."
        ),
        epilog=_("Example: flexllm pricing gpt-4o claude-sonnet-4-5"),
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=_("the models to show; without any, all are shown"))
    parser.add_argument("--base-url", metavar="URL", help=_("what they cost at this server"))
    parser.add_argument(
        "--update",
        action="store_true",
        help=_(
            "fetch OpenRouter's public list of models into ~/.flexllm/prices.json; no key is needed, and none is sent"
        ),
    )
    parser.add_argument(
        "--update-url",
        metavar="URL",
        help=_("another address of that list, such as a mirror of your own, for --update"),
    )
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help=_("print the prices as JSON"))
    parser.set_defaults(run=run, verbose=False, quiet=False)


def run(args: argparse.Namespace) -> int:
    """Print prices, or fetch them."""
    from ...errors import ConfigError
    from ...prices import load_table
    from ..logs import set_up_logging
    from ..output import talk

    set_up_logging(args)
    if args.update_url is not None and not args.update:
        raise ConfigError(_("--update-url is the address for --update; give both"))
    if args.base_url is not None and not args.models:
        raise ConfigError(_("--base-url says where a model is asked; name the model too"))
    if args.base_url is not None:
        _check_url(args.base_url, "--base-url")
    if args.update:
        told = _update(args.update_url)
        if not args.models:
            _print_update(told, as_json=args.json)
            return 0
    own = _own_rows(args.config)
    table = load_table()
    rows = _rows_of(own, table, args.models, args.base_url) if args.models else [*own.values(), *table]
    if args.json:
        from ..output import print_json

        print_json([{**row.as_dict(), "date": row.price.date} for row in rows])
    else:
        _print_rows(rows)
        dates = sorted({row.price.date for row in rows} - {""})
        if dates:
            talk(_("In US dollars per million tokens, as of {dates}.", dates=", ".join(dates)))
        else:
            talk(_("In US dollars per million tokens."))
    return 0


def _check_url(url: str, option: str) -> None:
    """Refuse what cannot be asked. Raises ConfigError."""
    from ...errors import ConfigError
    from ...wire import Target

    try:
        Target(base_url=url)
    except ConfigError:
        import re

        reason = _(
            "{option}={url} is not a URL that can be asked: it must start with http:// or https:// and name a host, without "
            "a user name, blanks, '?', '#' and letters beyond ASCII",
            option=option,
            url=re.sub(r"//[^/]*@", "//...@", repr(url)),
        )
        raise ConfigError(reason) from None


_YOURS = mark("yours")
"""The provider of prices that the configuration file gives; people read it in their language."""


def _own_rows(path: str | None) -> dict[str, PriceRow]:
    """Return what the configuration file says of prices, by the model's name."""
    from ...config import load_config
    from ...prices import ModelPrice, PriceRow, parse_price

    config = load_config(path)
    given = {entry.name: entry.price for entry in config.models if entry.price is not None}
    source = "the configuration file"
    return {
        model: PriceRow(price=ModelPrice(model=model, provider=_YOURS, price=parse_price(price), source=source))
        for model, price in {**config.prices, **given}.items()
    }


def _rows_of(
    own: Mapping[str, PriceRow], table: PriceTable, models: Iterable[str], base_url: str | None
) -> list[PriceRow]:
    """Return the rows of the models, each once; the user's own come before the table's.

    Raises:
        FlexLLMError: One has none.
    """
    found: dict[tuple[str, str], PriceRow] = {}
    unknown: list[str] = []
    for model in models:
        rows = (own[model],) if model in own else table.find_rows(model, base_url)
        found.update({(row.provider, row.model): row for row in rows})
        unknown += [] if rows else [model]
    if unknown:
        from ...errors import FlexLLMError

        raise FlexLLMError(_unknown_sentence(table, unknown, base_url))
    return list(found.values())


def _unknown_sentence(table: PriceTable, unknown: Sequence[str], base_url: str | None) -> str:
    near = list(dict.fromkeys(name for model in unknown for name in table.nearest(model)))
    near = [name for name in near if table.find_rows(name, base_url)]
    names = ", ".join(repr(model[:80]) for model in unknown)
    if base_url:
        told = plural(
            "no price is known for model {names} at {url}", "no price is known for models {names} at {url}", len(unknown),
            names=names, url=base_url,
        )  # fmt: skip
    else:
        told = plural(
            "no price is known for model {names}", "no price is known for models {names}", len(unknown), names=names
        )
    hints = [nearest_are(near)] if near else []
    return with_semicolons([told, *hints, _("'flexllm pricing --update' fetches newer prices")])


# --- as text ----------------------------------------------------------------------------------------------------------


def _print_rows(rows: Iterable[PriceRow]) -> None:
    from ..output import print_data
    from ..tables import table

    lines = [(_("model"), _("provider"), _("input"), _("output"), _("cached"), _("batch"), "")]
    print_data(table([*lines, *map(_line, rows)], right=range(2, 6)))


def _line(row: PriceRow) -> tuple[str, str, str, str, str, str, str]:
    price = row.price.price
    cached = "-" if price.cached_input is None else _dollars(price.cached_input)
    batch = "-"
    if price.batch_input is not None and price.batch_output is not None:
        batch = f"{_dollars(price.batch_input)}/{_dollars(price.batch_output)}"
    provider = _(_YOURS) if row.provider == _YOURS else row.provider
    return (
        row.model, provider, _dollars(price.input), _dollars(price.output), cached, batch, with_semicolons(_notes(row)),
    )  # fmt: skip


def _notes(row: PriceRow) -> list[str]:
    """Return what a table has no column for."""
    from ...prices.rows import day_of

    price = row.price
    notes = [
        _(
            "above {tokens:,} tokens {prices}",
            tokens=tier.above,
            prices=f"{_dollars(tier.input)}/{_dollars(tier.output)}",
        )
        for tier in price.price.tiers
    ]
    if price.price.cache_write is not None:
        notes.append(_("cache write {dollars}", dollars=_dollars(price.price.cache_write)))
    notes += [_("from {date} {prices}", date=day_of(since), prices=_pair(changed)) for since, changed in price.changes]
    if price.off_peak is not None:
        hours = ", ".join(f"{start:02}-{end:02}" for start, end in price.peak_hours)
        notes.append(_("{prices} at weekends and outside {hours} UTC", prices=_pair(price.off_peak), hours=hours))
    if row.shutdown:
        notes.append(_("shutdown {date}", date=row.shutdown))
    if price.uncertain:
        notes.append(_("uncertain"))
    return notes


def _pair(price: Price) -> str:
    return f"{_dollars(price.input)}/{_dollars(price.output)}"


def _dollars(value: float) -> str:
    return f"{value:.10g}"


# --- update -----------------------------------------------------------------------------------------------------------


def _update(url: str | None) -> PriceList:
    """Fetch the list and keep it.

    Raises:
        FlexLLMError: It could not be fetched, or is no such list. What was there before is as it was.
        OSError: It could not be written.
    """
    import time

    from ...prices.fetched import keep_list
    from ...prices.rows import day_of
    from ...prices.updates import MODELS_URL, SOURCE, read_models

    body = _fetch(url or MODELS_URL)
    prices = read_models(body, day_of(time.time()))
    keep_list(prices, f"Written by flexllm pricing --update. Source: {SOURCE}.")
    return prices


def _fetch(url: str) -> bytes:
    from ...errors import ApiStatusError
    from ...transport import Transport, TransportOptions
    from ...wire import HttpRequest

    _check_url(url, "--update-url")
    transport = Transport(TransportOptions(timeout=FETCH_SECONDS))
    try:
        response = transport.send(
            HttpRequest("GET", url, (("User-Agent", "flexllm"), ("Accept", "application/json")), b"")
        )
    finally:
        transport.close()
    if response.status != 200:
        raise ApiStatusError(
            _("{url} answered with HTTP {status}; the prices are as they were", url=url, status=response.status),
            status=response.status,
        )
    return response.body


def _print_update(prices: PriceList, *, as_json: bool) -> None:
    from ...prices.fetched import FETCHED_PATH
    from ...prices.table import bundled_list, load_table
    from ..output import print_data, print_json

    own = {(row.provider, row.model): row.price.price for row in bundled_list().rows}
    now = {(row.provider, row.model): row.price.price for row in load_table()}
    changed = sorted(model for (provider, model), price in now.items() if own.get((provider, model), price) != price)
    if as_json:
        print_json({"path": FETCHED_PATH, "date": prices.date, "models": len(prices.rows), "changed": changed})
        return
    print_data(
        plural(
            "{path}: prices of {count:,} model as of {date}", "{path}: prices of {count:,} models as of {date}",
            len(prices.rows), path=FETCHED_PATH, date=prices.date,
        )
    )  # fmt: skip
    date = bundled_list().date
    if changed:
        models = ", ".join(changed)
        print_data(
            _("prices that came with the package ({date}): replaced by newer ones: {models}", date=date, models=models)
        )
    else:
        print_data(_("prices that came with the package ({date}): all still good", date=date))
