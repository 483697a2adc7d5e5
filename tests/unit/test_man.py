"""The man page: committed, complete, clean. Not byte equality: argparse lays out help differently in each Python."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import flexllm
from flexllm.cli import exits
from flexllm.cli.parser import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "flexllm.1"


def page() -> str:
    """Return the page as a reader sees its words: hyphens plain, fonts and spacing gone."""
    text = PAGE.read_text(encoding="utf-8").replace(r"\-", "-")
    return re.sub(r"\\f[BIRP]|\\[,/]", "", text)


def commands(parser: argparse.ArgumentParser | None = None, under: str = "") -> dict[str, argparse.ArgumentParser]:
    """Return every command by its name, and what stands below it as "cache stats"."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in (parser or build_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found[under + name] = command
                found |= commands(command, f"{under}{name} ")
    return found


def section_of(command: str) -> str:
    """Return the part of the page that tells of a command."""
    _, _, rest = page().partition(f".SS flexllm {command}\n")
    return re.split(r"^\.S[SH]\b", rest, maxsplit=1, flags=re.MULTILINE)[0]


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if not isinstance(action, argparse._SubParsersAction))


def test_every_command_stands_in_the_page() -> None:
    assert len([name for name in commands() if " " not in name]) == len(COMMANDS)
    for command, parser in commands().items():
        assert section_of(command), command
        assert parser.description in section_of(command), f"python setup.py build_manpages: {command} has changed"


def test_every_option_stands_in_the_page_below_its_command() -> None:
    missing = [
        f"{command} {name}"
        for command, parser in commands().items()
        for action in options(parser)
        for name in action.option_strings or [str(action.metavar)]
        if not isinstance(action, argparse._HelpAction)
        and not re.search(rf"(^|[ ,]){re.escape(name)}(?=[ ,=\n])", section_of(command), re.MULTILINE)
    ]

    assert not missing, "python setup.py build_manpages renews the page"


def test_every_option_of_the_page_exists() -> None:
    for command, parser in commands().items():
        told = re.findall(r"^\.TP\n(-.*)$", section_of(command), re.MULTILINE)
        names = {name for line in told for name in re.findall(r"(?:^|, )(--?[a-z-]+)", line)}
        assert names == {name for action in options(parser) for name in action.option_strings} - {"-h", "--help"}


def test_every_exit_code_stands_in_the_page() -> None:
    codes = {number for name, number in vars(exits).items() if name.isupper() and isinstance(number, int)}
    told = re.search(r"^\.SH EXIT STATUS\n(.*?)^\.SH", page(), re.MULTILINE | re.DOTALL)
    assert told is not None
    numbers = [int(number) for line in re.findall(r"^\.B (.*)$", told[1], re.MULTILINE) for number in line.split(", ")]

    assert codes == set(range(10))
    assert numbers == [*range(10), 130, 143]


@pytest.mark.parametrize(
    "section", ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"]
)
def test_the_page_has_the_section(section: str) -> None:
    assert re.search(rf'^\.SH "?{section}"?$', page(), re.MULTILINE)


def test_every_variable_that_is_read_stands_in_the_page() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flexllm").rglob("*.py"))

    for name in {"FLEXLLM_BASE_URL", "FLEXLLM_API_KEY", "FLEXLLM_MODEL", *re.findall(r'"(FLEXLLM_[A-Z]+)"', sources)}:
        assert name in page()


def test_the_page_is_of_this_version() -> None:
    assert f'"flexllm {flexllm.__version__}"' in page().splitlines()[0]


def test_the_page_knows_no_machine() -> None:
    assert str(Path.home()) not in page()
    assert str(ROOT) not in page()


def test_every_command_and_every_option_has_help_in_whole_words() -> None:
    for command, parser in commands().items():
        assert parser.description, command
        assert parser.description.endswith("."), command
        for action in options(parser):
            assert action.help, f"{command} {action.dest}"


def test_every_command_stands_in_the_help_of_the_program_with_a_line_of_its_own() -> None:
    shown = build_parser().format_help()

    for command in [name for name in commands() if " " not in name]:
        assert re.search(rf"^ +{command} +\w", shown, re.MULTILINE)


def test_every_command_stands_in_the_readme_or_the_page() -> None:
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")

    for command in commands():
        assert f"flexllm {command}" in readme or f"flexllm {command}" in page()


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_against_the_page() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(PAGE)], capture_output=True, text=True, timeout=30, check=False
    )
    # argparse-manpage writes the date's hyphens as \-, which mandoc shows as they are, after saying so.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "cannot parse date" not in line]

    assert not complaints


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_against_the_page() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(PAGE)], capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
