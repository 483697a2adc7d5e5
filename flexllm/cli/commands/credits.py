"""`flexllm credits`: what is left of the account behind a key."""

from __future__ import annotations

import argparse

from ...language import _
from ..balances import balance_data, balance_text
from ..common import make_client
from ..exits import common_code
from ..logs import set_up_logging
from ..output import complain, print_data, print_json
from ..servers import add_server_options, find_servers

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ...config import ResolvedEndpoint
    from ...errors import FlexLLMError
    from ...providers.credits import Balance

TIMEOUT = 15.0
"""Seconds for each request."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "credits",
        help=_("tell what is left of the account behind an API key"),
        description=_(
            "Ask the service behind the default model, or another one, what is left of the account. It is known by its "
            "base URL. OpenRouter, SiliconFlow, DeepSeek, AI/ML API and Moonshot tell it; OpenAI mostly tells it to "
            "browsers alone. The key goes to the service's own address and nowhere else. For services that cannot be "
            "asked it says why, and where to look instead."
        ),
        epilog=_("Example: flexllm credits -m grok-4"),
    )
    add_server_options(parser, timeout=TIMEOUT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, and print what is left."""
    set_up_logging(args)
    _config, servers = find_servers(args, default_first=True)
    if len(servers) == 1:
        balance = _ask(args, servers[0])
        if args.json:
            print_json(balance_data(balance, servers[0]))
        else:
            print_data(balance_text(balance, servers[0]))
        return 0
    return _tell_all(args, servers)


def _ask(args: argparse.Namespace, server: ResolvedEndpoint) -> Balance:
    from ...providers.credits import find_service
    from ..servers import place_of

    find_service(place_of(server))  # says why not, also where a client would first ask for a key
    with make_client(args, server, user_template=None) as client:
        return client.credits()


def _tell_all(args: argparse.Namespace, servers: list[ResolvedEndpoint]) -> int:
    """Tell the balance of each endpoint of a pool; accounts that several share are asked once."""
    from ...errors import FlexLLMError

    errors: list[FlexLLMError] = []
    told: list[dict[str, Any]] = []
    accounts: dict[tuple[str | None, str], ResolvedEndpoint] = {}
    for server in servers:
        accounts.setdefault((server.base_url, server.api_key), server)
    for number, server in enumerate(accounts.values()):
        try:
            balance = _ask(args, server)
        except FlexLLMError as error:
            errors.append(error)
            complain(error)
            continue
        if args.json:
            told.append(balance_data(balance, server))
        else:
            print_data(f"{chr(10) if number else ''}{balance_text(balance, server)}")
    if args.json:
        print_json(told)
    return common_code(errors)
