"""`flexllm version`."""

from __future__ import annotations

import argparse
from typing import Any

from ... import __version__


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "version",
        help="show the version",
        description="Show the version of flexllm and of the Python that runs it.",
    )
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the version."""
    import platform

    from ..output import print_data, print_json

    if args.json:
        print_json({"flexllm": __version__, "python": platform.python_version()})
    else:
        print_data(f"flexllm {__version__} (Python {platform.python_version()})")
    return 0
