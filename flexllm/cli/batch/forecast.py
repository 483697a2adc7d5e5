"""`flexllm batch --dry-run` and `--sample`: what a run will take, and whether it is to go on."""

from __future__ import annotations

import argparse
import sys

from ...language import _
from ..output import is_terminal, print_data, print_json, talk

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from ...batch.options import BatchOptions
    from ...batch.outlook import Forecast


def tell_forecast(args: argparse.Namespace, forecast: Forecast, options: BatchOptions, max_cost: float | None) -> None:
    """Print what a dry run found out."""
    left = _left(forecast, options, max_cost)
    if args.json:
        print_json({**forecast.as_dict(), **({} if left is None else {"budget_left": left}), "output": args.output})
        return
    print_data(str(forecast))
    if left is not None and forecast.cost is not None and forecast.to_buy:
        print_data(_budget_sentence(forecast.cost.expected, forecast.cost.worst, left))


def _left(forecast: Forecast, options: BatchOptions, max_cost: float | None) -> float | None:
    """Return what earlier runs of the output file left of a budget, in US dollars; None without one."""
    from ...batch.spent import spent_in

    if max_cost is None:
        return None
    return max_cost if options.output is None else max(max_cost - spent_in(options.output).dollars, 0.0)


def _budget_sentence(expected: float, worst: float, left: float) -> str:
    from ...cost import dollars

    if not left:
        return _("Nothing is left of the budget: give a larger --max-cost.")
    amount = dollars(left)
    if expected > left:
        return _(
            "The {amount} that are left of the budget will probably not do: the run stops when they are spent.",
            amount=amount,
        )
    if worst > left:
        return _("The {amount} that are left of the budget will probably do, but not at worst.", amount=amount)
    return _("The {amount} that are left of the budget will do.", amount=amount)


def check_can_ask(args: argparse.Namespace) -> None:
    """Refuse a sample after which nobody could be asked whether to go on, before anything is sent.

    Raises:
        ConfigError: There is no terminal, and no --yes.
    """
    from ...errors import ConfigError

    if not args.yes and not is_terminal(sys.stdin, sys.stderr):
        reason = _(
            "--sample asks whether to go on, and there is no terminal to ask at: give --yes to go on in any case, or ask the "
            "first rows with -n and then look at --dry-run"
        )
        raise ConfigError(reason)


def wants_the_rest(args: argparse.Namespace, forecast: Forecast) -> bool:
    """Tell what the rest will take, and return whether it is to be asked."""
    from ..interview import YES

    if not forecast.to_buy:
        return True
    if not (args.quiet and args.yes):
        talk(str(forecast))
    if args.yes:
        return True
    _forget_typed()
    try:
        talk(_("Go on? [y/N] "), end="")
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        talk("")  # what is said of it gets a line of its own
        raise
    if not answer.endswith("\n"):  # nobody is there any more: what follows begins a line
        talk("")
    return answer.strip().lower() in YES


def _forget_typed() -> None:
    """Drop what was typed before the question stood there: it was no answer to it."""
    import contextlib
    import termios

    with contextlib.suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
