"""The lines of an output file that answer the rows of an input so far, in its order: what views are made of."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

from .known import NOWHERE
from .lines import index_of, is_failed, with_index


class SettledLines:
    """Lines of an output file; may be walked over more than once, while the file is held and nobody writes it.

    Args:
        walk: Begins a walk.
    """

    def __init__(self, walk: Callable[[], Iterator[bytes]]) -> None:
        self._walk = walk

    def __iter__(self) -> Iterator[bytes]:
        return self._walk()

    @classmethod
    def in_order(cls, lines: Callable[[], Iterator[bytes]], rows: int) -> SettledLines:
        """Return the lines of a file that is in order: one for each of `rows` rows, behind them answers to others.

        What is behind them and was for one of these rows is left out: it was asked otherwise, or had other metadata.
        """

        def walk() -> Iterator[bytes]:
            for number, line in enumerate(lines()):
                if number < rows or (not is_failed(line) and (index_of(line) or 0) >= rows):
                    yield line

        return cls(walk)

    @classmethod
    def at(cls, line_at: Callable[[int], bytes], places: array[int], unasked: Iterable[int]) -> SettledLines:
        """Return the lines of a file whose rows are where they were written.

        Args:
            line_at: Reads the line at a place.
            places: Of the rows that the run came to, NOWHERE for those that are open.
            unasked: Where answers are to rows that the run did not come to. One for a row that has its line already is
                left out.
        """
        others = list(unasked)

        def walk() -> Iterator[bytes]:
            for index, place in enumerate(places):
                if place != NOWHERE:
                    yield with_index(line_at(place), index)
            numbered = ((index_of(line_at(place)), place) for place in others)
            for index, place in sorted((index, place) for index, place in numbered if index is not None):
                if index >= len(places) or places[index] == NOWHERE:
                    yield line_at(place)

        return cls(walk)
