"""A catalogue that pretends to be Chinese: every text has its letters replaced, so that what stays English was not looked up."""

from __future__ import annotations

import gettext
import re

import pytest

from flexllm import language
from flexllm.language import CHINESE, ENGLISH, activate

LETTER = "字"


def pretended(text: str) -> str:
    """Return a text with each word as a Chinese letter; what stands in braces, and the braces themselves, stay."""
    return "".join(part if part[:1] in "{}" else _WORD.sub(LETTER, part) for part in _PLACE.split(text))


_PLACE = re.compile(r"(\{\{|\}\}|\{[^{}]*\})")
_WORD = re.compile(r"[A-Za-z]+")


class PretendedChinese(gettext.NullTranslations):
    """Has every text."""

    def gettext(self, message: str) -> str:
        """Return a text as it would be in Chinese."""
        return pretended(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Return a text for a number; there is one form."""
        return pretended(msgid2)


def pretend_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a catalogue of Chinese that has every text, for those who activate it, until the end of a test."""
    monkeypatch.setattr(language, "_catalogue", None)  # put back at the end, whatever is activated meanwhile
    monkeypatch.setattr(language, "_read", lambda name: PretendedChinese())


def speak_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have that catalogue in use until the end of a test."""
    pretend_chinese(monkeypatch)
    activate(CHINESE)


def speak_english() -> None:
    """Have English in use again."""
    activate(ENGLISH)
