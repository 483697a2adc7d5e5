"""The program's options for completion, which take the place of a command, and what runs them."""

from __future__ import annotations

import argparse

from ...language import _, mark
from . import SHELLS

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from .shells import Shell

_OPTIONS = {
    "--install-completion": mark(
        "set up the Tab key in this shell, or in the one that is named (bash, zsh or fish): it completes commands, options, "
        "files and the models of the configuration file, for flexllm and for xllm. Repeat it after an upgrade"
    ),
    "--uninstall-completion": mark("take it away again, everywhere or from the shell that is named"),
    "--show-completion": mark("print the script that does it, for this shell or the one that is named"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, which take the place of a command."""
    group = parser.add_mutually_exclusive_group()
    for name, told in _OPTIONS.items():
        group.add_argument(name, nargs="?", const=True, choices=SHELLS, metavar="SHELL", help=_(told))


def option_of(args: argparse.Namespace) -> str | None:
    """Return which of the options is given, None if none is."""
    return next((name for name in _OPTIONS if getattr(args, _attribute(name)) is not None), None)


def run(args: argparse.Namespace) -> int:
    """Install, remove or print what completes."""
    option = option_of(args) or ""
    named = getattr(args, _attribute(option))
    shells = _shells(None if named is True else named, everywhere=option == "--uninstall-completion")
    if not shells:
        from ..exits import USAGE
        from ..output import ERROR, talk

        told = _(
            "flexllm: the shell that runs this is none of bash, zsh and fish; name the one you mean: {option} bash",
            option=option,
        )
        talk(told, level=ERROR)
        return USAGE
    _DO[option](shells)
    return 0


def _shells(name: str | None, *, everywhere: bool) -> list[Shell]:
    """Return the shells that are meant; none if nobody can tell."""
    from .shells import running_shell, shell

    if name is None and everywhere:
        return [shell(one) for one in SHELLS]
    name = name or running_shell()
    return [shell(name)] if name else []


def _install(shells: list[Shell]) -> None:
    from ..output import talk
    from .installation import install

    for shell in shells:
        done = install(shell)
        talk("\n".join(done) if done else _("Completion in {name} is installed, and up to date.", name=shell.name))
        works = _(
            "It works in each {name} that is started from now on: {restart} does it here.",
            name=shell.name,
            restart=shell.restart,
        )
        talk(works)
        talk(_("To undo it: flexllm --uninstall-completion {name}", name=shell.name))


def _uninstall(shells: list[Shell]) -> None:
    from ..output import talk
    from .installation import uninstall

    found = False
    for shell in shells:  # each is told at once: the next may have a file that is left to its owner
        done = uninstall(shell)
        found = found or bool(done)
        if done:
            talk("\n".join(done))
    if not found:
        talk(_nothing_there([shell.name for shell in shells]))


def _show(shells: list[Shell]) -> None:
    from ..output import print_data

    for shell in shells:
        print_data(shell.script(), end="")


def _nothing_there(names: list[str]) -> str:
    *others, last = names
    if not others:
        return _("Completion is not installed in {name}.", name=last)
    return _("Completion is not installed in {names} or {last}.", names=", ".join(others), last=last)


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


_DO = {"--install-completion": _install, "--uninstall-completion": _uninstall, "--show-completion": _show}
