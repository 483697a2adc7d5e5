"""What argparse-manpage makes the manual's pages of: flexllm(1), a page for each command, and flexllm-config(5).

`[build_manpages]` in setup.cfg says which page is made by which function of this module: `overview`, `config`, or the name
of a command. What the parsers do not know is written by hand in man/*.inc. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import re

from .parser import build_parser

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_SHOWN = 6
"""Options that a synopsis spells out; where there are more it says [OPTION]..., and the required ones."""

WIDTH = 78
"""Of the lines of text in a page's source, as people edit and compare it; a reader's terminal has its own."""

_SUBSECTION = "§"
"""Before the title of a group of options. argparse-manpage makes a section of each; `tidied` makes it one of OPTIONS."""


class Page(argparse.ArgumentParser):
    """A page as argparse-manpage reads it; it parses nothing.

    Attributes:
        man_short_description: What NAME says behind the dash.
    """

    def __init__(self, name: str, about: str, description: str | None) -> None:
        super().__init__(prog=name, description=description, add_help=False, usage=name)
        self.man_short_description = about
        self._manpage: list[dict[str, str]] = []

    def add_section(self, heading: str, content: str) -> None:
        """Add a section in the language of man pages. `synopsis` goes to its place, others behind the options."""
        self._manpage.append({"heading": heading, "content": content})

    def add_options(self, title: str, description: str | None, actions: Iterable[argparse.Action]) -> None:
        """Add options under a title. They may be in the page already, under another one."""
        group = self.add_argument_group(title, description)
        for action in actions:
            _drop_told_default(action)
            group._group_actions.append(action)


def __getattr__(name: str) -> Callable[[], Page]:
    """Return what makes the page of the command with this name; argparse-manpage takes functions without arguments."""
    if name.startswith("_") or name not in _commands(build_parser()):
        raise AttributeError(f"flexllm has no command {name!r}")
    return lambda: command(name)


def overview() -> Page:
    """Return the page of the program: its own options, and a line for each command."""
    parser = build_parser()
    page = Page("flexllm", "ask large language models from the shell, one question or millions", parser.description)
    start = f"{_bold('flexllm')} {_italic('COMMAND')} [{_italic('OPTION')}]... [{_italic('ARGUMENT')}]..."
    own = [f"{_bold('flexllm')} {_shown(one)}" for one in _own(parser)]
    page.add_section("synopsis", "\n.br\n".join([start, *own]))
    page.add_options("options", None, _own(parser))
    lines = [f".TP\n.BR {_roff(f'flexllm-{name}')} (1)\n{_roff(about)}" for name, about in _abouts(parser).items()]
    page.add_section("commands", "\n".join(lines))
    return page


def config() -> Page:
    """Return the page of the configuration file, of which man/flexllm-config.inc has all that it says."""
    return Page("flexllm-config", "the configuration file of flexllm, and what goes before it", None)


def command(name: str) -> Page:
    """Return the page of a command: its options, group by group, and those of what stands below it."""
    parser = build_parser()
    own = _commands(parser)[name]
    below = {f"flexllm {name} {action}": one for action, one in _commands(own).items()}
    page = Page(f"flexllm-{name}", _abouts(parser)[name], own.description)
    calls = below or {f"flexllm {name}": own}
    page.add_section("synopsis", "\n.br\n".join(_synopsis(call, one) for call, one in calls.items()))
    _add_groups(page, own)
    for call, one in below.items():
        page.add_options(f"{_SUBSECTION}{call}", one.description, _own(one))
    return page


def tidied(page: str) -> str:
    """Return a page as argparse-manpage has written it in good form.

    Groups of options become parts of the section OPTIONS; each sentence begins a line, as roff wants it, and no line is
    long; no text is taken for a command of roff; no word is divided, which may be a URL; the date is one.
    """
    head, _, rest = page.partition("\n")
    head = re.sub(r"(\d{4})\\-(\d\d)\\-(\d\d)", r"\1-\2-\3", head)
    rest = re.sub(rf"^\.SH {_SUBSECTION}(.*)$", _subsection, rest, flags=re.MULTILINE)
    rest = re.sub(r"\n\n+(?=\.[A-Z])", "\n", rest)
    if "\n.SS " in rest and "\n.SH OPTIONS\n" not in rest:
        rest = rest.replace("\n.SS ", "\n.SH OPTIONS\n.SS ", 1)
    return "\n".join([head, ".nr HY 0", ".nh", ".ad l", *_lines(rest.rstrip()), ""])


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a page, those of running text broken anew."""
    in_example, before = False, ""
    for line in text.split("\n"):
        in_example = (in_example or line == ".EX") and line != ".EE"
        if in_example or re.match(r"\.(?:[A-Z]+|br)\b", line):
            yield line
        elif before == ".TP":  # such a line is a heading
            yield _protected(line)
        else:
            for sentence in re.split(r"(?<=[^.]\.) (?=[A-Z])", line):
                yield from map(_protected, _broken(sentence))
        before = line


def _broken(sentence: str) -> list[str]:
    from textwrap import wrap

    return wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]


def _protected(line: str) -> str:
    """Return a line of text so that roff takes it for no command."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _subsection(match: re.Match[str]) -> str:
    title = match[1].lower()
    return f".SS {title if title.startswith('flexllm') else title[:1].upper() + title[1:]}"


def _add_groups(page: Page, parser: argparse.ArgumentParser) -> None:
    """Add the arguments and the options that have no title of their own together, then the other groups."""
    own = _own(parser)
    positionals, optionals, *others = parser._action_groups
    untitled = [*positionals._group_actions, *optionals._group_actions]
    page.add_options("options", None, [one for one in untitled if one in own])
    for group in others:
        shown = [one for one in group._group_actions if one in own]
        page.add_options(f"{_SUBSECTION}{group.title}", group.description, shown)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return what stands below a parser, by name."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: one for action in found for name, one in action.choices.items()}


def _abouts(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the one line that help tells of each command."""
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {one.dest: one.help or "" for action in found for one in action._choices_actions}


def _own(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments and options of a parser, without --help, commands, and what help hides."""
    apart = (argparse._HelpAction, argparse._SubParsersAction)
    return [one for one in parser._actions if not isinstance(one, apart) and one.help != argparse.SUPPRESS]


def _drop_told_default(action: argparse.Action) -> None:
    """Take away what Python 3.10 to 3.12 put behind the help of an option that has a --no- twin."""
    if isinstance(action, argparse.BooleanOptionalAction) and action.help:
        action.help = action.help.removesuffix(" (default: %(default)s)")


def _synopsis(call: str, parser: argparse.ArgumentParser) -> str:
    """Return how a command is called. What excludes each other stands together."""
    actions = _own(parser)
    groups = [(one.required, one._group_actions) for one in parser._mutually_exclusive_groups]
    alternatives = [(required, [one for one in group if one in actions]) for required, group in groups]
    alone = [one for one in actions if not any(one in group for _, group in alternatives)]
    options: list[tuple[bool, list[argparse.Action]]] = [(one.required, [one]) for one in alone if one.option_strings]
    options += alternatives
    words = [_bold(call)]
    if sum(len(group) for _, group in options) > MOST_SHOWN:
        words.append(f"[{_italic('OPTION')}]...")
        options = [(required, group) for required, group in options if required]
    words += [_choice(group, required=required) for required, group in options]
    words += [_argument(one) for one in alone if not one.option_strings]
    return " ".join(words)


def _choice(group: list[argparse.Action], *, required: bool) -> str:
    shown = " | ".join(_shown(one) for one in group)
    if not required:
        return f"[{shown}]"
    return shown if len(group) == 1 else f"({shown})"


def _shown(option: argparse.Action) -> str:
    """Return an option by its shortest name, with what it takes."""
    shown = _bold(min(option.option_strings, key=len))
    if option.nargs == "?":
        shown = f"{shown} [{_italic(_metavar(option))}]"
    elif option.nargs != 0:
        shown = f"{shown} {_italic(_metavar(option))}"
    return shown


def _argument(argument: argparse.Action) -> str:
    shown = _italic(_metavar(argument))
    if argument.nargs in ("?", "*"):
        shown = f"[{shown}]"
    return f"{shown}..." if argument.nargs in ("*", "+") else shown


def _metavar(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest)


def _bold(text: str) -> str:
    return rf"\fB{_roff(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{_roff(text)}\fR"


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", r"\-")
