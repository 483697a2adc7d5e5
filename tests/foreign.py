"""Other languages for a test, those of no catalogue: a few texts in one, all in another, and all between brackets.

A program of its own speaks between brackets with `BRACKETING`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from gettext import NullTranslations
from pathlib import Path

import pytest

from flexllm import language
from flexllm.language import CHINESE, ENGLISH, activate

LETTER = "字"
OPENING, CLOSING = "⟦", "⟧"

BRACKETING = (
    sys.executable,
    "-c",
    f"import sys; sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}; "
    "import foreign; foreign.bracket_all(); from flexllm.cli.main import main; sys.exit(main(sys.argv[1:]))",
)
"""The command line as a program, which speaks between brackets where it is asked for Chinese."""

_PLACE = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|%%|%(?:\(\w+\))?[\d.]*[sdrf])")
_WORD = re.compile(r"[A-Za-z]+")


class Foreign(NullTranslations):
    """A language that has these texts, by the English ones. Of counted texts the one for many is looked up."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self._texts = texts

    def gettext(self, message: str) -> str:
        return self._texts.get(message, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self._texts.get(msgid2, msgid1 if n == 1 else msgid2)


class Made(NullTranslations):
    """A language that has every text: what it makes of the English one. There is one form for all numbers."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make

    def gettext(self, message: str) -> str:
        return self._make(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self._make(msgid2)


def pretended(text: str) -> str:
    """Return a text with each word as a Chinese letter; what is a place for a value stays."""
    return "".join(part if _PLACE.fullmatch(part) else _WORD.sub(LETTER, part) for part in _PLACE.split(text))


def bracketed(text: str) -> str:
    """Return a text with what is said in it between brackets. Values stand outside, so that what is glued in shows."""
    parts = _PLACE.split(text)
    return "".join(part if not part or _is_place(part) else f"{OPENING}{part}{CLOSING}" for part in parts)


def outside(text: str) -> str:
    """Return what of a text stands outside all brackets: each bracketed part is a blank of its own."""
    while (shorter := re.sub(f"{OPENING}[^{OPENING}{CLOSING}]*{CLOSING}", " \0 ", text)) != text:
        text = shorter
    return text.replace("\0", "·")


def _is_place(part: str) -> bool:
    return _PLACE.fullmatch(part) is not None and part not in ("{{", "}}", "%%")


def speak(monkeypatch: pytest.MonkeyPatch, texts: Mapping[str, str] | NullTranslations) -> None:
    """Have the process speak a language until the test ends."""
    spoken = texts if isinstance(texts, NullTranslations) else Foreign(texts)
    monkeypatch.setattr(language, "_catalogue", spoken)


def pretend_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a catalogue of Chinese that has every text, for those who activate it, until the end of a test."""
    monkeypatch.setattr(language, "_catalogue", None)  # put back at the end, whatever is activated meanwhile
    monkeypatch.setattr(language, "_read", lambda name: Made(pretended))


def speak_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have that catalogue in use until the end of a test."""
    pretend_chinese(monkeypatch)
    activate(CHINESE)


def speak_english() -> None:
    """Have English in use again."""
    activate(ENGLISH)


def bracket_all(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Have a catalogue of Chinese that brackets every text, also those of argparse: until the end of a test, or for good."""
    put = setattr if monkeypatch is None else monkeypatch.setattr
    put(language, "_catalogue", None)
    put(language, "_read", lambda name: Made(bracketed))
    put(argparse, "_", lambda text: text and bracketed(text))  # it may have no text
    put(argparse, "ngettext", lambda one, many, n: bracketed(many))
