"""The servers that a command looks at one by one: what flags, environment and file name, or each of a pool's endpoints.

Other than for a question, no model need be named.
"""

from __future__ import annotations

import argparse

from ..language import _
from .common import add_talk_options, add_whom_options, asks_pool, find_endpoint, provider_of
from .units import positive

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from ..config import Config, ResolvedEndpoint

NO_MODEL = ""
"""The model of a server for which nobody named one, as `resolve_endpoint` has it."""


def add_server_options(parser: argparse.ArgumentParser, *, timeout: float) -> None:
    """Add the options that say which server is looked at, and those of `add_talk_options`.

    Args:
        timeout: Seconds for each request, where the user gives none. None is sent twice.
    """
    group = parser.add_argument_group(_("server"))
    add_whom_options(group)
    group.add_argument(
        "--timeout",
        type=positive,
        default=timeout,
        metavar="SECONDS",
        help=_("for each request ({timeout:g})", timeout=timeout),
    )
    add_talk_options(parser)
    parser.set_defaults(total_timeout=None, retry_times=0, retry_delay=None)


def find_servers(args: argparse.Namespace, *, default_first: bool = False) -> tuple[Config, list[ResolvedEndpoint]]:
    """Return the configuration and whom to look at; their `model` is `NO_MODEL` where nobody names one.

    Args:
        default_first: Look at the default model where there is one, and at the pool only if there is none.

    Raises:
        ConfigError: Nobody says whom.
    """
    from ..config import load_config

    config = load_config(args.config)
    if asks_pool(args, config) and not (default_first and config.models):
        return config, _of_pool(config)
    return config, [find_endpoint(args, config, needs_model=False)[1]]


def place_of(server: ResolvedEndpoint) -> str:
    """Return the URL that a server is asked at, for people; without one of its own it is the provider's.

    Raises:
        ConfigError: There is no such provider.
    """
    return provider_of(server)[1]


def shown(text: str) -> str:
    """Return what a server calls something, fit for a terminal: no control characters, no second line."""
    from ..controls import one_line

    return one_line(text)


def _of_pool(config: Config) -> list[ResolvedEndpoint]:
    from ..config import ResolvedEndpoint, resolve_pool

    return [
        ResolvedEndpoint(
            model=entry.model or NO_MODEL,
            base_url=entry.base_url,
            api_key=entry.api_key,
            provider=entry.provider,
            source=f"{config.file}, batch.endpoints[{position}]",
            prices=config.prices if entry.price is None else {**config.prices, entry.model or NO_MODEL: entry.price},
            sources={
                name: config.place(f"batch.endpoints[{position}].{name}")
                for name in ("model", "base_url", "api_key", "provider")
            },
        )
        for position, entry in enumerate(resolve_pool(config))
    ]
