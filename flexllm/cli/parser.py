"""The whole parser, from the standard library alone: `--help` is instant, and a build machine can make the man page."""

from __future__ import annotations

import argparse

from .. import __version__
from .commands import ask, batch, cache, mock, pricing, version

COMMANDS = (ask, batch, cache, mock, pricing, version)
"""In the order in which help lists them; each has `add_parser(subparsers)` and `run(args)`."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `flexllm` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="flexllm",
        description=(
            "Ask large language models from the shell: one question, or a file of millions that can be stopped at any "
            "moment and goes on where it was. Also installed as xllm."
        ),
        epilog="flexllm COMMAND --help tells more about a command. See flexllm(1) for files, environment and exit codes.",
    )
    parser.add_argument("--version", action="version", version=f"flexllm {__version__}")
    subparsers = parser.add_subparsers(
        prog="flexllm", title="commands", dest="command", metavar="COMMAND", required=True
    )
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
