"""How help is laid out in a terminal: English as argparse does it, other letters by the cells that they take."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from gettext import NullTranslations
from itertools import pairwise

import pytest
from foreign import speak
from hypothesis import example, given
from hypothesis import strategies as st

from flexllm.cli.breaking import Breaker
from flexllm.cli.layout import Layout
from flexllm.cli.parser import Parser, build_parser
from flexllm.terminal import width

CLOSING = "，。；：、）？！》」…”"
OPENING = "（《「“"


class Wide(NullTranslations):
    """A language in which every English word is a letter of two cells, and no blank stands between two of them."""

    def gettext(self, message: str) -> str:
        """Names of options and of values, and what str.format and argparse put in, stay as they are."""
        words = re.sub(
            r"(?<![\w{%<.:/$~'-])[A-Za-z]{2,}(?![\w}=./:'-])", lambda word: "汉" * (len(word[0]) // 2), message
        )
        return re.sub(r"(?<=汉) (?=汉)", "", words.replace(", ", "，").replace(". ", "。").replace(" (", "（"))

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid2)


@pytest.fixture
def abroad(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line speaks another language than English."""
    speak(monkeypatch, Wide())
    monkeypatch.setenv("COLUMNS", "80")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from parsers(below)


# --- English


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_english_help_is_what_argparse_makes_of_it(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    every = list(parsers(build_parser()))
    ours = [one.format_help() for one in every]
    for one in every:
        assert one.formatter_class is Layout
        one.formatter_class = argparse.HelpFormatter
    assert ours == [one.format_help() for one in every]
    assert len(ours) > 14


NARROW = st.text(st.sampled_from("abcXYZ089 .,;:'\"()[]{}-_/$%é…“”\t\n "), max_size=200)


@given(text=NARROW, columns=st.integers(1, 60), indent=st.sampled_from(["", "  "]))
@example(text="flexllm-config(5) --no-stream, 'a b' well-known...", columns=12, indent="")
@example(text="abc--'def'", columns=5, indent="")
@example(text="abc--)def", columns=5, indent="")
def test_text_without_wide_letters_is_broken_as_textwrap_breaks_it(text: str, columns: int, indent: str) -> None:
    wanted = textwrap.wrap(text, columns + 2, initial_indent=indent, subsequent_indent=indent)
    assert Breaker(columns + 2, indent=indent).wrap(text) == wanted


# --- letters of two cells


@given(count=st.integers(0, 100), columns=st.integers(2, 40))
def test_lines_of_wide_letters_are_as_full_as_can_be(count: int, columns: int) -> None:
    lines = Breaker(columns).wrap("汉" * count)
    assert "".join(lines) == "汉" * count
    assert [len(line) for line in lines[:-1]] == [columns // 2] * len(lines[:-1])


def test_a_blank_ends_a_line_also_in_front_of_a_sign() -> None:
    assert Breaker(4).wrap("汉汉 ：汉") == ["汉汉", "：汉"]
    assert Breaker(4).wrap("汉（ 汉") == ["汉（", "汉"]


def told(words: list[str]) -> str:
    """Join words as a translator does: with a blank between two that are ASCII."""
    text = words[0] if words else ""
    for before, word in pairwise(words):
        text += f" {word}" if before[-1:].isascii() and word[:1].isascii() else word
    return text


CORES = st.sampled_from([*"汉语模型的", "flexllm", "JSON", "429", "--model", "a"])


def words(opening: str, closing: str) -> st.SearchStrategy[list[str]]:
    signs = (st.sampled_from(["", "", "", *some]) for some in (opening, closing))
    return st.lists(st.builds("{1}{0}{2}".format, CORES, *signs), max_size=60)


MOST = 2 + 7 + 2
"""Cells of a word with its signs."""


@given(words=words(OPENING, CLOSING), columns=st.integers(MOST, 60))
@example(words=["用", "--model", "指定（", "JSON）。"], columns=12)
def test_lines_of_mixed_text_fit_and_no_sign_stands_where_it_must_not(words: list[str], columns: int) -> None:
    text = told(words)
    lines = Breaker(columns).wrap(text)
    assert "".join(lines).replace(" ", "") == text.replace(" ", ""), "nothing is lost"
    assert [line for line in lines if width(line) > columns] == []
    assert [line for line in lines[1:] if line[0] in CLOSING] == []
    assert [line for line in lines[:-1] if line[-1] in OPENING] == []
    for word in ("flexllm", "JSON", "429", "--model"):
        assert "\n".join(lines).count(word) == text.count(word), "no word is divided"


@given(words=words("（《「", "，。；：、）？！》」"), columns=st.integers(MOST, 60))
def test_no_line_ends_before_it_must(words: list[str], columns: int) -> None:
    lines = Breaker(columns).wrap(told(words))
    for line, following in pairwise(lines):
        # The shortest that a line may take over: a word, or a letter, with the signs around it.
        first = re.match(rf"[{OPENING}]*(?:[!-~]+|.)[{CLOSING}]*", following)
        assert first is not None
        blank = line[-1].isascii() and following[0].isascii()
        assert width(line) + blank + width(first[0]) > columns


@pytest.mark.usefixtures("abroad")
def test_help_in_a_language_without_blanks_stays_within_the_terminal() -> None:
    for one in parsers(build_parser()):
        lines = one.format_help().splitlines()
        assert [line for line in lines if width(line) > 80] == []
        assert any("汉汉" in line for line in lines)


def test_further_lines_of_the_usage_stand_below_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    speak(monkeypatch, {"usage: ": "用法："})
    parser = Parser(prog="flexllm")
    for number in range(10):
        parser.add_argument(f"--option-{number}", metavar="VALUE")
    first, second, *_rest = parser.format_usage().splitlines()
    assert first.startswith("用法：flexllm [")
    assert second.index("[") == width(first[: first.index("[")])
