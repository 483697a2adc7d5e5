"""The whole parser, from the standard library alone: `--help` is instant, and a build machine can make the man page."""

from __future__ import annotations

import argparse

from .. import __version__
from .commands import ask, batch, cache, mock, pricing, version

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any, NoReturn

COMMANDS = (ask, batch, cache, mock, pricing, version)
"""In the order in which help lists them; each has `add_parser(subparsers)` and `run(args)`."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, which the usage of a command with fifty options would bury."""

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        self._refuse(self.prog, message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the arguments. Those that nobody knows are the command's to complain of, not the program's."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = (self.prog, found.command, getattr(found, "action", None))
            # Of options their names alone: what follows one that was mistyped may be a key.
            shown = [word.partition("=")[0] for word in unknown if word.startswith("-")] or unknown
            self._refuse(" ".join(filter(None, names)), f"unrecognized arguments: {' '.join(shown)}")
        return found

    def _refuse(self, command: str, message: str) -> NoReturn:
        self.exit(2, f"{command}: {message}; '{command} --help' tells what there is\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `flexllm` with all its commands."""
    parser = Parser(
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
