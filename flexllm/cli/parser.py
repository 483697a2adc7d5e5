"""The whole parser, from the standard library alone: `--help` is instant, and a build machine can make the man page."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from ..language import _
from .commands import ask, batch, cache, chat, credits, init, mock, models, pricing, set_model, status, test, version
from .commands import list as list_
from .completion import options as completion
from .layout import Layout

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn

COMMANDS = (ask, chat, batch, status, list_, set_model, models, credits, pricing, test, init, mock, cache, version)
"""In the order in which help lists them; each has `add_parser(subparsers)` and `run(args)`."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, which the usage of a command with fifty options would bury.

    An option is written whole: an abbreviation that a script uses would mean two things as soon as another option begins
    like that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", Layout)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        self._refuse(self.prog, message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the arguments. Those that nobody knows are the command's to complain of, not the program's.

        `help COMMAND` is `COMMAND --help`, and nothing at all is a question for help as well.
        """
        words = list(sys.argv[1:] if args is None else args)
        if not words:
            self.exit(2, self.format_help())
        if words[0] == "help":
            words = [*(word for word in words[1:] if word not in ("-h", "--help")), "--help"]
        self._check_first(words[0])
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self._refuse_unknown(found, unknown)
        return self._finished(found)

    def _check_first(self, word: str) -> None:
        """Refuse an option that is not the program's own, before what follows it is taken for the command."""
        name = word.partition("=")[0]
        if name.startswith("-") and name not in self._option_string_actions:
            nearest = _nearest(name, self._option_string_actions)
            if nearest is None:
                self._refuse(
                    self.prog,
                    _("unrecognized arguments: {words} (the options of a command stand behind it)", words=name),
                )
            self._refuse(self.prog, _unrecognized(name, nearest))

    def _finished(self, found: argparse.Namespace) -> argparse.Namespace:
        """Return the arguments with what runs them, which is completion where there is no command."""
        asked = completion.option_of(found)
        if asked is None and found.command is None:
            self.error(_("the following arguments are required: COMMAND"))
        if asked is not None:
            if found.command is not None:
                self.error(_("{option} goes without a command", option=asked))
            found.run = completion.run
        return found

    def _refuse_unknown(self, found: argparse.Namespace, unknown: Sequence[str]) -> NoReturn:
        names = [found.command, getattr(found, "action", None)] if found.command else []
        parser = _below(self, names)
        # Of options their names alone: what follows one that was mistyped may be a key.
        shown = [word.partition("=")[0] for word in unknown if word.startswith("-")] or unknown
        known = [name for action in parser._actions for name in action.option_strings]
        nearest = _nearest(shown[0], known) if len(shown) == 1 and shown[0].startswith("--") else None
        told = " ".join(word if word.isprintable() else repr(word) for word in shown)
        self._refuse(" ".join(filter(None, [self.prog, *names])), _unrecognized(told, nearest))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of the choices, in the same words in every version of Python."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        nearest = _nearest(str(value), choices)
        if isinstance(action, argparse._SubParsersAction) and action.dest == "command":
            self.error(_no_command(value, nearest))
        if nearest is None:
            reason = _("invalid choice: {word!r} (choose from {choices})", word=value, choices=", ".join(choices))
        else:
            reason = _("invalid choice: {word!r} (did you mean {nearest}?)", word=value, nearest=nearest)
        raise argparse.ArgumentError(action, reason)

    def _refuse(self, command: str, message: str) -> NoReturn:
        told = _("{command}: {message}; '{command} --help' tells what there is", command=command, message=message)
        self.exit(2, f"{told}\n")


def _unrecognized(words: str, nearest: str | None) -> str:
    if nearest is None:
        return _("unrecognized arguments: {words}", words=words)
    return _("unrecognized arguments: {words} (did you mean {nearest}?)", words=words, nearest=nearest)


def _no_command(word: object, nearest: str | None) -> str:
    if nearest is None:
        return _("there is no command {word!r}", word=word)
    return _("there is no command {word!r} (did you mean {nearest}?)", word=word, nearest=nearest)


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one that may be meant by a word, None if none is like it."""
    from difflib import get_close_matches

    names, word = list(known), word.lower()
    begun = [name for name in names if word and name.startswith(word)]
    found = begun if len(begun) == 1 else get_close_matches(word, names, n=1, cutoff=0.7)
    return found[0] if found else None


def _below(parser: argparse.ArgumentParser, names: Iterable[str | None]) -> argparse.ArgumentParser:
    """Return the parser of a command, or of what stands below it."""
    for name in names:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and name in action.choices:
                parser = action.choices[name]
                break
    return parser


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `flexllm` with all its commands."""
    parser = Parser(
        prog="flexllm",
        description=_(
            "Ask large language models from the shell: one question, or a file of millions that can be stopped at any moment "
            "and goes on where it was. Also installed as xllm."
        ),
        epilog=_(
            "flexllm COMMAND --help, or flexllm help COMMAND, tells more about a command. See flexllm(1) for files, "
            "environment and exit codes."
        ),
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"flexllm {__version__}",
        help=_("show program's version number and exit"),
    )
    completion.add_options(parser)
    subparsers = parser.add_subparsers(prog="flexllm", title=_("commands"), dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
