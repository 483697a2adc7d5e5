"""`flexllm version`."""

from __future__ import annotations

import argparse
import sys

from ... import __version__
from ...language import _

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "version",
        help=_("show the version"),
        description=_("Show the version of flexllm and of the Python that runs it."),
    )
    parser.add_argument("--json", action="store_true", help=_("print them as JSON"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the version."""
    from ..output import print_data, print_json

    python = ".".join(map(str, sys.version_info[:3]))
    if args.json:
        print_json({"flexllm": __version__, "python": python})
    else:
        print_data(f"flexllm {__version__} (Python {python})")
    return 0
