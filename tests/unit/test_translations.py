"""The Chinese catalogue: complete, fresh, compiled, and with the same places for values as the English texts."""

from __future__ import annotations

import gettext
import importlib.machinery
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from types import ModuleType

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

from flexllm.language import CHINESE, ENGLISH, activate, language, mark, plural
from flexllm.language import _ as worded

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "flexllm" / "data" / "locale" / "zh_CN" / "LC_MESSAGES"

WITHOUT_CHINESE = {
    "%(heading)s:": "the heading is Chinese",
    "%s": "what is said stands in it",
    "the data URI": "called so in Chinese too",
    "Base URL [{default}]:": "called so in Chinese too",
    "key {key}": "API Key",
    "{names} and {name}": "a sign is enough",
    ", ": "a sign",
    "; ": "a sign",
}
"""Texts that have no word in them, or only words that are the same in Chinese: why."""

_SAME_IN_CHINESE = re.compile(
    r"(?i)\b(api key|provider|token|tokens|data uri|url|base_url|s|qps|http|json|id|yaml|shell)\b"
)


@cache
def program() -> ModuleType:
    """Return bin/translations as a module."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader = importlib.machinery.SourceFileLoader("translations", str(ROOT / "bin" / "translations"))
        spec = importlib.util.spec_from_loader("translations", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@cache
def messages() -> tuple[Message, ...]:
    with (FOLDER / "flexllm.po").open("rb") as file:
        return tuple(program().texts(read_po(file, locale="zh_CN")))


def english(message: Message) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def chinese(message: Message) -> str:
    return message.string if isinstance(message.string, str) else message.string[0]


def test_the_catalogue_holds_every_text_of_the_program_and_no_other() -> None:
    with (FOLDER / "flexllm.po").open("rb") as file:
        old = read_po(file, locale="zh_CN")
    wanted = {message.id for message in program().texts(program().renewed(old))}

    assert len(wanted) > 1500
    assert {message.id for message in messages()} == wanted, "bin/translations renews it"


def test_no_text_is_untranslated_or_in_doubt() -> None:
    assert [message.id for message in messages() if not chinese(message) or message.fuzzy] == []


def test_what_is_compiled_is_what_is_written() -> None:
    with (FOLDER / "flexllm.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)

    for message in messages():
        first = english(message)
        shown = compiled.gettext(*first) if len(first) == 1 else compiled.ngettext(*first, 2)
        assert shown == chinese(message)


def places(text: str) -> Counter[tuple[str, ...]]:
    """Return the places for values in a text, with how they are written; its braces where it is no form."""
    try:
        found = [(name, spec or "", form or "") for _, name, spec, form in Formatter().parse(text) if name is not None]
    except ValueError:  # a text without values, in which a brace is a letter
        found = [(brace, "", "") for brace in re.findall("[{}]", text)]
    return Counter(found)


def wrong_places(message: Message) -> Iterator[str]:
    for text in english(message)[-1:]:
        if "{" in text and places(text) != places(chinese(message)):
            yield "other braces"
        if re.findall(r"%[.\d]*[a-z]", text) != re.findall(r"%[.\d]*[a-z]", chinese(message)):  # filled in their order
            yield "other places of %"
        if set(re.findall(r"%\(\w+\)\w", text)) != set(re.findall(r"%\(\w+\)\w", chinese(message))):
            yield "other names of %"
        if text.count("\n") != chinese(message).count("\n"):
            yield "other lines"


def test_a_translation_has_the_same_places_for_values() -> None:
    assert [(wrong, message.id) for message in messages() for wrong in wrong_places(message)] == []


def test_a_translation_is_chinese() -> None:
    def words(text: str) -> str:
        """Return a text without what stays as it is: values, options, names of code, what is quoted."""
        text = re.sub(r"\{[^}]*\}|%\(\w+\)s|'[^']*'|\"[^\"]*\"|--?[\w-]+|\b\w*[_./=]\w*\b|\$\w+", "", text)
        return _SAME_IN_CHINESE.sub("", text)

    left = [
        message.id
        for message in messages()
        if not re.search("[\u4e00-\u9fff]", chinese(message))
        and re.search("[A-Za-z]{2}", words(english(message)[0]))
        and english(message)[0] not in WITHOUT_CHINESE
    ]
    assert left == []


def test_a_translation_uses_chinese_signs_between_chinese_words() -> None:
    half_width = re.compile("[\u4e00-\u9fff][,;!?](?!\\w)|[\u4e00-\u9fff]\\.(?=$|\\s)")

    assert [chinese(message) for message in messages() if half_width.search(chinese(message))] == []


@pytest.fixture
def in_chinese() -> Iterator[None]:
    activate(CHINESE)
    yield
    activate(ENGLISH)


@pytest.mark.usefixtures("in_chinese")
def test_the_program_speaks_what_the_catalogue_says() -> None:
    assert language() == CHINESE
    assert worded(mark("standard output is closed")) == "标准输出已关闭"
    assert plural("{count:,} row", "{count:,} rows", 1200).startswith("1,200 ")
