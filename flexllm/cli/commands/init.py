"""`flexllm init`: the first configuration file."""

from __future__ import annotations

import argparse
import sys

from ...language import _
from ..output import is_terminal, talk

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

TIMEOUT = 10.0
"""Seconds for a list of models: somebody is waiting in front of it."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "init",
        help=_("write the configuration file"),
        description=_(
            "Write ~/.flexllm/config.yaml, or the file that --config or FLEXLLM_CONFIG names. On a terminal it asks whom "
            "you want to ask, with which key and for which model; the server is asked for its list of models. Elsewhere, "
            "or with --example, it writes an example to be edited, in which every setting is explained. Only you can read "
            "the file. A file that is there already is left alone."
        ),
        epilog=_("Examples: flexllm init; flexllm init --example --config ./flexllm.yaml"),
    )
    parser.add_argument(
        "--example", action="store_true", help=_("ask nothing, and write an example also where there is a terminal")
    )
    parser.add_argument(
        "--force", action="store_true", help=_("replace the file that is there, and keep it with .bak behind its name")
    )
    parser.add_argument("--config", metavar="FILE", help=_("the file to write instead of ~/.flexllm/config.yaml"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, where there is somebody to be asked, and write the file."""
    from ...config import config_path
    from ..first_config import EXAMPLE, check_place, config_text
    from ..precedence import what_goes_before

    path = config_path(args.config)
    check_place(path, force=args.force)
    if args.example or not is_terminal(sys.stdin, sys.stderr):
        _write(args, path, config_text(EXAMPLE))
        talk(_("Put in whom you want to ask, then try it with: {command}", command=_command(args, "test")))
    else:
        _write(args, path, config_text(_ask(path)))
        talk(
            _(
                'Try it with: {test_command}; ask with: {ask_command} "Hello"',
                test_command=_command(args, "test"),
                ask_command=_command(args, "ask"),
            )
        )
    if (sentence := what_goes_before()) is not None:
        talk(sentence)
    return 0


def _write(args: argparse.Namespace, path: Path, text: str) -> None:
    from ...configfile.paths import shown_path
    from ..first_config import write_config

    kept = write_config(path, text, force=args.force)
    talk(_("Written: {path}, which only you can read.", path=shown_path(path)))
    if kept is not None:
        talk(_("The one that was there is {path} now.", path=shown_path(kept)))


def _command(args: argparse.Namespace, name: str) -> str:
    """Return a command that reads the file, as one types it."""
    import shlex

    return f"flexllm {name}" + (f" --config {shlex.quote(args.config)}" if args.config else "")


def _ask(path: Path) -> Any:
    """Return the model that the person at the terminal wants.

    Raises:
        FlexLLMError: The person has gone.
    """
    import os

    from ...configfile.paths import shown_path
    from ...errors import FlexLLMError
    from ..interview import interview

    talk(_("This writes {path}. Ctrl-C ends it at any time, and nothing is written.", path=shown_path(path)) + "\n")
    try:
        return interview(_Terminal(), _models_of, os.environ)
    except KeyboardInterrupt:
        talk("")  # what is said of it gets a line of its own
        raise
    except EOFError:
        talk("")
        raise FlexLLMError(_("the answers ended before the last question; nothing was written")) from None


def _models_of(base_url: str, api_key: str, provider: str) -> list[str]:
    from ...client import LLMClient

    with LLMClient(None, base_url, api_key, provider, timeout=TIMEOUT, retry_times=0) as client:
        return client.model_list()


class _Terminal:
    """The person in front of the terminal."""

    def tell(self, text: str) -> None:
        talk(text)

    def ask(self, question: str) -> str:
        talk(question, end="")
        line = sys.stdin.readline()
        if not line.endswith("\n"):
            raise EOFError
        return line.strip()

    def ask_secret(self, question: str) -> str:
        import getpass

        return getpass.getpass(question)
