"""`flexllm models`: what a server offers."""

from __future__ import annotations

import argparse

from ...language import _, plural
from ..common import make_client
from ..exits import common_code
from ..logs import set_up_logging
from ..output import complain, print_data, print_json, talk
from ..servers import add_server_options, find_servers, place_of, shown

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ...config import ResolvedEndpoint

TIMEOUT = 15.0
"""Seconds for each request: a list of models is quickly made."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "models",
        help=_("list the models that a server offers"),
        description=_(
            "Ask a server which models it offers, and print their ids, one a line, in the server's order. Where the "
            "configuration lists endpoints for batch and no other server is named, each of them is asked. 'flexllm list' "
            "shows the models of the configuration instead, and asks nobody."
        ),
        epilog=_("Examples: flexllm models; flexllm models qwen --base-url http://localhost:8000/v1"),
    )
    parser.add_argument(
        "filter", nargs="?", metavar="TEXT", help=_("only the ids that hold this text, in large or small letters")
    )
    add_server_options(parser, timeout=TIMEOUT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask each server, and print what it offers."""
    from ...error_fields import error_fields
    from ...errors import FlexLLMError

    set_up_logging(args)
    _config, servers = find_servers(args)
    errors: list[FlexLLMError] = []
    told: list[dict[str, Any]] = []
    for server in servers:
        about: dict[str, Any] = {"base_url": place_of(server)}
        try:
            about["models"] = _offered(args, server)
        except FlexLLMError as error:
            if len(servers) == 1:
                raise
            errors.append(error)
            about.update(models=[], error=error_fields(error))
            complain(error)
        told.append(about)
        if not args.json and "error" not in about:
            if len(servers) > 1 and not args.quiet:
                talk(f"{about['base_url']}:")
            print_data("\n".join(shown(name) for name in about["models"]))
    if args.json:
        print_json(told)
    return common_code(errors)


def _offered(args: argparse.Namespace, server: ResolvedEndpoint) -> list[str]:
    """Return the ids that the user asks for.

    Raises:
        FlexLLMError: The server does not tell, or there is none.
    """
    from ...errors import FlexLLMError

    with make_client(args, server, user_template=None) as client:
        every = client.model_list()
    if not every:
        raise FlexLLMError(
            _("{place} lists no models; if it is your own, load one there first", place=place_of(server))
        )
    found = [name for name in every if args.filter is None or args.filter.lower() in name.lower()]
    if not found:
        raise FlexLLMError(_none_sentence(place_of(server), args.filter, every))
    return found


def _none_sentence(place: str, wanted: str, every: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wanted, every, n=3, cutoff=0.4)
    model, part = shown(every[0]), wanted[:80]
    if len(every) == 1:
        return _("the only model of {place}, {model}, has no {part!r} in its id", place=place, model=model, part=part)
    if not near:
        return _(
            "none of the {total:,} models of {place} has {part!r} in its id; {model} is one of them",
            total=len(every), place=place, part=part, model=model,
        )  # fmt: skip
    return plural(
        "none of the {total:,} models of {place} has {part!r} in its id; the nearest is {names}",
        "none of the {total:,} models of {place} has {part!r} in its id; the nearest are {names}",
        len(near), total=len(every), place=place, part=part, names=shown(", ".join(near)),
    )  # fmt: skip
