"""What a store keeps in memory, as texts: the newest answers, and those that are not on disk yet.

Texts, not results: what a caller does to the answer that it got must not reach the next one who asks.
"""

from __future__ import annotations

from cachetools import LRUCache

UNIT = 8192
"""Characters that count as one answer; a longer one counts as several, so that memory stays bounded."""

MOST_WAITING = 1 << 28
"""Characters that may wait for a disk that does not keep up. What does not fit is not kept."""


class Front:
    """Answers by their key. Not for several threads at once: the store holds its lock.

    Args:
        size: How many answers of usual length are kept besides those that wait; 0 for none.
    """

    def __init__(self, size: int) -> None:
        self._kept: LRUCache[str, str] = LRUCache(max(size, 1), getsizeof=_weight)
        self._size = size
        self._waiting: dict[str, str] = {}
        self._characters = 0

    @property
    def waiting(self) -> int:
        """How many answers are not on disk yet."""
        return len(self._waiting)

    def find(self, key: str) -> str | None:
        """Return the text of an answer, None if it is not here."""
        text = self._waiting.get(key)
        # `in` before `[]`: it is much the quicker of the two, and mostly says no.
        return self._kept[key] if text is None and key in self._kept else text

    def keep(self, key: str, text: str) -> None:
        """Keep an answer that is on disk."""
        if _weight(text) <= self._size:
            self._kept[key] = text
        else:
            self._kept.pop(key, None)  # an older one is not to be found any more

    def wait(self, key: str, text: str) -> None:
        """Keep an answer, and remember that it is to be written."""
        self.keep(key, text)
        self._characters -= len(self._waiting.pop(key, ""))  # an older one is not to be found, or written, any more
        if self._characters + len(text) <= MOST_WAITING:
            self._characters += len(text)
            self._waiting[key] = text

    def batch(self, most: int) -> list[tuple[str, str]]:
        """Return the first answers that wait; they go on waiting until `written`."""
        return [pair for pair, _ in zip(self._waiting.items(), range(most), strict=False)]

    def written(self, batch: list[tuple[str, str]]) -> None:
        """Let those go that were written, unless another one waits under the same key by now."""
        for key, text in batch:
            if self._waiting.get(key) is text:
                del self._waiting[key]
                self._characters -= len(text)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._waiting.clear()
        self._characters = 0


def _weight(text: str) -> int:
    return 1 + len(text) // UNIT
