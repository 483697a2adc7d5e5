"""The manual: a page for the program, each command and the configuration file; committed, complete, clean."""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import flexllm
from flexllm.batch.status import StatusFile
from flexllm.cli import exits, manual
from flexllm.cli.parser import COMMANDS, build_parser
from flexllm.config import environment
from flexllm.configfile.reader import parse_config
from flexllm.configfile.values import BatchEndpoint, BatchSettings, Config, ModelEntry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "man"
RENEW = "python setup.py build_manpages renews the pages"


@cache
def specified() -> dict[str, dict[str, str]]:
    """Return what setup.cfg says of each page, by the page's name."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for line in settings["build_manpages"]["manpages"].strip().split("\n"):
        path, *options = re.findall(r'(?:"[^"]*"|[^:])+', line)
        found[Path(path).name] = {name: value.strip('"') for name, value in (one.split("=", 1) for one in options)}
    return found


PAGES = tuple(specified())


@cache
def source(name: str) -> str:
    """Return a committed page as it is."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def page(name: str) -> str:
    """Return a committed page as a reader sees its words: hyphens plain, fonts and spacing gone."""
    text = source(name).replace(r"\-", "-").replace(r"\&", "")
    return re.sub(r"\\f[BIRP]|\\[,/]", "", text).replace(r"\e", "\\")


@cache
def section(name: str, heading: str) -> str:
    """Return a section of a page, "" if it has none."""
    found = re.search(rf"^\.SH {re.escape(heading)}\n(.*?)(?=^\.SH |\Z)", page(name), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """Return every command by its name."""
    return below(build_parser())


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: command for action in found for name, command in action.choices.items()}


def every() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each parser that a user can reach, with its page, and the part of its page's options."""
    for command, parser in commands().items():
        name = f"flexllm-{command}.1"
        yield name, section(name, "OPTIONS"), parser
        for action, one in below(parser).items():
            _, _, rest = section(name, "OPTIONS").partition(f".SS flexllm {command} {action}\n")
            yield name, rest.partition("\n.SS ")[0], one


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    apart = (argparse._SubParsersAction, argparse._HelpAction)
    return [one for one in parser._actions if not isinstance(one, apart) and one.help != argparse.SUPPRESS]


def examples(name: str) -> list[str]:
    """Return the blocks that a page shows as they are to be typed."""
    return re.findall(r"^\.EX\n(.*?)^\.EE$", page(name), re.MULTILINE | re.DOTALL)


# --- complete ---------------------------------------------------------------------------------------------------------


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert len(commands()) == len(COMMANDS)
    assert set(PAGES) == {"flexllm.1", "flexllm-config.5", *(f"flexllm-{name}.1" for name in commands())}
    assert {path.name for path in FOLDER.glob("*.[1-9]")} == set(PAGES), RENEW
    assert {path.stem for path in FOLDER.glob("*.inc")} == {Path(name).stem for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_what_the_parsers_and_the_sections_make(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manpage = pytest.importorskip("argparse_manpage.manpage")
    monkeypatch.setenv("COLUMNS", "100000")  # as setup.py does
    said: dict[str, Any] = {**specified()[name], "project_name": "flexllm", "version": flexllm.__version__}
    said["include"] = str(ROOT / said["include"])
    made = manual.tidied(str(manpage.Manpage(getattr(manual, said["function"])(), _data=said)))

    assert made.partition("\n")[2] == source(name).partition("\n")[2], RENEW  # the first line has the date


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_its_name_its_day_and_the_version(name: str) -> None:
    stem, _, number = name.rpartition(".")

    found = re.fullmatch(r'\.TH (\S+) "(\d)" "(\S+)" "(.*)" "flexllm manual"', page(name).splitlines()[0])
    assert found is not None
    assert found.groups() == (stem.upper(), number, found[3], f"flexllm {flexllm.__version__}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found[3])
    assert f'"{found[3]}"' in source("flexllm.1").splitlines()[0]
    assert re.fullmatch(rf"{stem} - \w[\w\s,;]+\n", section(name, "NAME"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_what_a_reader_looks_for(name: str) -> None:
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "SEE ALSO"):
        assert section(name, heading).strip(), heading
    if name.endswith(".1"):
        assert section(name, "EXIT STATUS").strip()
    assert examples(name)


def test_the_page_of_the_program_tells_what_holds_for_all_commands() -> None:
    for heading in ("COMMANDS", "FILES", "ENVIRONMENT"):
        assert section("flexllm.1", heading).strip(), heading
    for command in commands():
        assert f"\n.BR flexllm-{command} (1)\n" in section("flexllm.1", "COMMANDS")


def test_every_option_stands_in_its_page_and_no_other_does() -> None:
    seen = 0
    for name, text, parser in every():
        told = {word for line in re.findall(r"^\.TP\n(.*)$", text, re.MULTILINE) for word in re.split(r"[ ,]+", line)}
        if not below(parser):
            told = {word for word in told if word.startswith("-") and not re.fullmatch(r"-?\d.*", word)}
            assert told == {one for action in options(parser) for one in action.option_strings}, name
            seen += 1
    assert seen >= len(COMMANDS)


def test_every_argument_stands_in_its_page() -> None:
    for name, text, parser in every():
        for action in options(parser):
            if not action.option_strings:
                assert f".TP\n{action.metavar}\n" in text, name


def test_every_exit_code_stands_in_the_manual() -> None:
    codes = {number for name, number in vars(exits).items() if name.isupper() and isinstance(number, int)}

    assert codes == set(range(10))
    for name in ("flexllm.1", "flexllm-batch.1"):
        lines = re.findall(r"^\.B (\d.*)$", section(name, "EXIT STATUS"), re.MULTILINE)
        assert [int(number) for line in lines for number in line.split(", ")] == [*range(10), 130, 143], name


def test_every_variable_that_is_read_stands_in_the_manual() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flexllm").rglob("*.py"))
    names = {*environment.KNOWN, *re.findall(r'"((?:FLEXLLM|OPENAI)_[A-Z_]+)"', sources)} - CONSTANTS
    assert len(names) >= 8

    for page_name in ("flexllm.1", "flexllm-config.5"):
        told = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", section(page_name, "ENVIRONMENT")))
        assert not names - told, page_name


CONSTANTS = {"OPENAI_URL"}
"""Written in capitals, and no variables of the environment."""


def told_in_bold(name: str, heading: str) -> set[str]:
    """Return the names that the headings of a section's paragraphs are."""
    lines = re.findall(r"^\.TP\n\.BR? (.*)$", section(name, heading), re.MULTILINE)
    return {word for line in lines for word in re.sub(r'"[^"]*"', " ", line).split()}


def test_every_field_of_an_output_line_stands_in_the_manual() -> None:
    writer = (ROOT / "flexllm" / "batch" / "lines.py").read_text(encoding="utf-8")
    fields_of_lines = {"index", "check", *re.findall(r'\brow\["(\w+)"\] = ', writer)}

    assert told_in_bold("flexllm-batch.1", "OUTPUT LINES") == fields_of_lines
    assert len(fields_of_lines) > 20


def test_every_field_of_a_status_file_stands_in_the_manual(tmp_path: Path) -> None:
    StatusFile(tmp_path / "status.json", {"input": "", "output": "", "model": None})

    fields_of_file = set(json.loads((tmp_path / "status.json").read_text(encoding="utf-8")))
    assert told_in_bold("flexllm-status.1", "STATUS FILE") == fields_of_file


def test_every_command_of_a_chat_stands_in_the_manual() -> None:
    from flexllm.cli.chat.commands import Commands

    chat: Any = None  # nobody is asked
    for name in Commands(chat, (), lambda: chat)._commands:
        assert re.search(rf"(^|\s){re.escape(name)}(?=[\s,])", section("flexllm-chat.1", "COMMANDS OF THE CHAT")), name


# --- the configuration file -------------------------------------------------------------------------------------------

SECTIONS = {"TOP LEVEL": Config, "MODELS": ModelEntry, "BATCH": BatchSettings, "BATCH ENDPOINTS": BatchEndpoint}
"""Of flexllm-config(5), and whose keys they tell."""


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_the_configuration_file_stands_in_its_section_and_no_other_does(heading: str) -> None:
    told = re.findall(r"^\.TP\n\.BR (.*)$", section("flexllm-config.5", heading), re.MULTILINE)
    names = [name for line in told for name in re.sub(r'"[^"]*"', " ", line).split()]

    own = [one.name for one in fields(SECTIONS[heading])]
    if heading == "TOP LEVEL":
        own = ["default", "models", "batch", "prices"]
        assert set(own) <= {one.name for one in fields(Config)}
    assert sorted(names) == sorted(own)


def test_every_part_of_a_price_stands_in_the_manual() -> None:
    from flexllm.prices import Price

    for one in fields(Price):
        assert one.name == "tiers" or re.search(rf"\b{one.name}\b", section("flexllm-config.5", "PRICES"))


def test_the_examples_of_the_configuration_file_are_read_without_a_word() -> None:
    shown = re.findall(r"^\.EX\n(.*?)^\.EE$", section("flexllm-config.5", "EXAMPLES"), re.MULTILINE | re.DOTALL)
    assert len(shown) >= 2
    for text in shown:
        config = parse_config(text.encode(), Path("config.yaml"))
        assert not config.warnings
        assert config.models or config.batch.endpoints


# --- true -------------------------------------------------------------------------------------------------------------


def calls(text: str) -> Iterator[list[str]]:
    """Return the words behind `flexllm`, for each time that a piece of shell calls it."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        call: list[str] | None = None
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>()"):
                if call:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif word.rpartition("/")[2] in ("flexllm", "xllm"):
                call = []


def refused(words: list[str]) -> str | None:
    """Return why a command line is none, None if it is one."""
    if words[0] in build_parser()._option_string_actions or words[-1] == "--help":  # what is told, and no more
        return None
    try:
        build_parser().parse_args(words)
    except SystemExit:
        return f"flexllm {shlex.join(words)}"
    return None


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".1")])
def test_every_example_is_a_command_line_that_is_taken(name: str) -> None:
    found = [words for block in examples(name) for words in calls(block)]

    assert found
    assert not [wrong for words in found if (wrong := refused(words))]
    if name != "flexllm.1":
        assert name[len("flexllm-") : -len(".1")] in {words[0] for words in found}


def test_every_example_of_help_is_a_command_line_that_is_taken() -> None:
    for command, parser in commands().items():
        told = re.match(r"Examples?: (.*)", parser.epilog or "", re.DOTALL)
        for words in calls(told[1]) if told else ():
            assert not refused(words)
            assert words[0] == command


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_another_refers_to_is_there(name: str) -> None:
    named = {f"{stem}.{number}" for stem, number in re.findall(r"\b(flexllm[\w-]*) ?\((\d)\)", page(name))}

    assert named - {name}
    assert not named - set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_knows_no_machine(name: str) -> None:
    assert str(Path.home()) not in page(name) or str(Path.home()) == "/"
    assert str(ROOT) not in page(name)


# --- help, which the pages are made of --------------------------------------------------------------------------------


def test_every_command_and_every_option_has_help_in_whole_words() -> None:
    for name, _, parser in every():
        assert parser.description, name
        assert parser.description.endswith("."), name
        for action in options(parser):
            assert action.help, f"{name} {action.dest}"


def test_every_command_stands_in_the_help_of_the_program_with_a_line_of_its_own() -> None:
    shown = build_parser().format_help()

    for command in commands():
        assert re.search(rf"^ +{command}\s+\w", shown, re.MULTILINE)


def test_the_table_of_the_readme_has_every_command_and_no_other() -> None:
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")

    assert sorted(re.findall(r"^``([\w-]+)``  +\S", readme, re.MULTILINE)) == sorted(commands())


# --- clean ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_against_the_pages() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", *(str(FOLDER / name) for name in PAGES)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_which_man_calls_has_nothing_against_the_pages() -> None:
    for name in PAGES:
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-rLL=78n", "-z", str(FOLDER / name)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), name


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_a_reader_sees_every_word_of_help() -> None:
    shown: dict[str, str] = {}
    for name, _, parser in every():
        if name not in shown:
            made = subprocess.run(
                ["mandoc", "-T", "utf8", "-O", "width=78", str(FOLDER / name)],
                capture_output=True, encoding="utf-8", timeout=60, check=True,
            )  # fmt: skip
            shown[name] = "".join(re.sub(r".\x08", "", made.stdout).split())
        formatter = parser._get_formatter()
        texts = [formatter._expand_help(action) for action in options(parser)]
        for text in [str(parser.description), *texts]:
            wanted = "".join(re.sub(r" \(default: (None|True|False)\)$", "", text).split())  # of Python 3.10 to 3.12
            assert wanted in shown[name], f"{name}: {text}"


# --- how a page is put in form ----------------------------------------------------------------------------------------


def test_a_page_is_put_in_good_form() -> None:
    made = '.TH X "1" "2026\\-01\\-02"\n.SH NAME\nx\n\n.SH §COST OF IT\nIt costs. A lot.\n\n.TP\nx\n.EX\nA. B\n.EE\n'

    assert manual.tidied(made) == (
        '.TH X "1" "2026-01-02"\n.nr HY 0\n.nh\n.ad l\n.SH NAME\nx\n'
        ".SH OPTIONS\n.SS Cost of it\nIt costs.\nA lot.\n.TP\nx\n.EX\nA. B\n.EE\n"
    )


@pytest.mark.parametrize("text", ["'q' is a field", ".jsonl is the end", "...", ".x"])
def test_a_text_that_begins_like_a_command_of_roff_is_shown(text: str) -> None:
    assert manual.tidied(f".TH X\n.TP\n{text}\n").splitlines()[-1] == rf"\&{text}"


def test_a_long_text_is_broken_between_words_alone() -> None:
    words = "word " * 15 + "well-known 'quoted' .dot"

    lines = manual.tidied(f".TH X\n{words}\n.TP\n{words}\n").splitlines()[4:]
    assert lines == [("word " * 15).strip(), r"well-known 'quoted' .dot", ".TP", words]
    lines = manual.tidied(f".TH X\n{'word ' * 15}'quoted'\n").splitlines()[4:]
    assert lines == [("word " * 15).strip(), r"\&'quoted'"]


def test_a_synopsis_spells_out_few_options_and_what_must_be_given() -> None:
    parser = argparse.ArgumentParser(prog="x")
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument("--color", nargs="?", choices=("on", "off"))
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--a-b", action="store_true")
    either.add_argument("--hidden", help=argparse.SUPPRESS)
    either.add_argument("-c", "--see", type=int, metavar="N")

    def shown() -> str:
        return re.sub(r"\\f.", "", manual._synopsis("x y", parser)).replace(r"\-", "-")

    assert shown() == "x y -o FILE [--color [{on,off}]] (--a-b | -c N) [WORD]..."
    for number in range(manual.MOST_SHOWN):
        parser.add_argument(f"--other-{number}")
    assert shown() == "x y [OPTION]... -o FILE (--a-b | -c N) [WORD]..."


def test_a_page_of_no_command_cannot_be_made() -> None:
    with pytest.raises(AttributeError, match="has no command 'nonsense'"):
        manual.nonsense  # noqa: B018
