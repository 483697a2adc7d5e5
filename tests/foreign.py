"""Another language for one test, that of no catalogue: a few texts in it, all others in English."""

from __future__ import annotations

from collections.abc import Mapping
from gettext import NullTranslations

import pytest

from flexllm import language


class Foreign(NullTranslations):
    """A language that has these texts, by the English ones. Of counted texts the one for many is looked up."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self._texts = texts

    def gettext(self, message: str) -> str:
        return self._texts.get(message, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self._texts.get(msgid2, msgid1 if n == 1 else msgid2)


def speak(monkeypatch: pytest.MonkeyPatch, texts: Mapping[str, str] | NullTranslations) -> None:
    """Have the process speak a language until the test ends."""
    spoken = texts if isinstance(texts, NullTranslations) else Foreign(texts)
    monkeypatch.setattr(language, "_catalogue", spoken)
