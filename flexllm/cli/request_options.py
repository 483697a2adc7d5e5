"""The options that become request parameters, the same for every command that asks."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that become request parameters."""
    group = parser.add_argument_group("request")
    group.add_argument("--temperature", type=float, metavar="T", help="sampling temperature")
    group.add_argument("--max-tokens", type=int, metavar="N", help="tokens of the reply at most")
    group.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", type=_param,
        help="any other request parameter; VALUE is JSON, or else a text. Repeatable: --param seed=7",
    )  # fmt: skip


def request_params(args: argparse.Namespace, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request parameters: the configuration's, then those of the command line."""
    params = dict(base)
    for name in ("temperature", "max_tokens"):
        value = getattr(args, name)
        if value is not None:
            params[name] = value
    return {**params, **dict(args.param)}


def _param(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
