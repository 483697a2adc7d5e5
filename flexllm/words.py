"""Words that are put into a language late: only if an error says them, or for people and for a model in one language each."""

from __future__ import annotations

from .language import _


class Words:
    """A marked text with values in its places, which is put into a language only when it is said. It does not change.

    `str` gives it to people, in the language in use. Others may stand among the values.
    """

    __slots__ = ("_most", "_text", "_values")

    def __init__(self, text: str, /, *, most: int | None = None, **values: object) -> None:
        """Take a text; of what it says, `most` letters are kept."""
        self._text = text
        self._most = most
        self._values = values

    def __str__(self) -> str:
        return self._cut(_(self._text, **self._values))

    def in_english(self) -> str:
        """Return it in English, whatever the language in use."""
        values = {name: english(one) if isinstance(one, Words) else one for name, one in self._values.items()}
        return self._cut(self._text.format(**values) if values else self._text)

    def _cut(self, said: str) -> str:
        return said if self._most is None else cut(said, self._most)


def english(said: Words | str) -> str:
    """Return words in English; a plain text, such as what a class's own check says, is the same in every language."""
    return said if isinstance(said, str) else said.in_english()


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with its end left out where it is longer."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
