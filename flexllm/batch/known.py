"""What an input asks and what earlier runs answered, for millions of rows: keys and places in arrays of numbers.

A row's key has three parts: a digest of its messages, a digest of its settings (model and parameters), and its occurrence
number among the equal rows of its input. The full key stays in the file; here it is 128 bits in an open-addressing table,
about 40 bytes a row in all, where a dictionary of Python objects would take 250.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_OCCURRENCE_STEP = 0x9E37_79B9_7F4A_7C15  # odd, so that different numbers give different products
_SUCCESS, _CLAIMED = 1, 2

NOWHERE = -1
"""The place of a row that no file holds."""


class DigestTable:
    """Numbers 128-bit digests in the order in which they come: 0, 1, 2, ..."""

    __slots__ = ("_high", "_low", "_mask", "_room", "_slots")

    def __init__(self) -> None:
        self._high = array("Q")
        self._low = array("Q")
        self._resize(1 << 10)

    def __len__(self) -> int:
        return len(self._high)

    def find(self, high: int, low: int) -> int:
        """Return the digest's number, -1 if it has none."""
        slots, mask = self._slots, self._mask
        slot = low & mask
        while number := slots[slot]:
            if self._low[number - 1] == low and self._high[number - 1] == high:
                return number - 1
            slot = (slot + 1) & mask
        return -1

    def add(self, high: int, low: int) -> int:
        """Return the digest's number; a new one is len(table) - 1 after the call."""
        slots, mask = self._slots, self._mask
        slot = low & mask
        while number := slots[slot]:
            if self._low[number - 1] == low and self._high[number - 1] == high:
                return number - 1
            slot = (slot + 1) & mask
        self._high.append(high)
        self._low.append(low)
        number = len(self._high)
        slots[slot] = number
        if number > self._room:
            self._resize((mask + 1) * 2)
        return number - 1

    def digest(self, number: int) -> tuple[int, int]:
        """Return the digest with that number."""
        return self._high[number], self._low[number]

    def _resize(self, size: int) -> None:
        self._slots = slots = array("I", bytes(4 * size))
        self._mask = mask = size - 1
        self._room = size * 5 // 8
        for number, low in enumerate(self._low, 1):
            slot = low & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number


class Claim(NamedTuple):
    """What is known of a row that the input asks for.

    Attributes:
        occurrence: The row's number among equal rows of the input.
        place: Where its line is, NOWHERE if it must be asked.
        success: Whether that line holds an answer.
        changed: Where an equal row that was asked with other settings is; NOWHERE if there is none.
        is_own_line: The line at `place` was written for the very same input line, so that its metadata stand too.
        failed_before: An earlier run asked it in vain, and it must be asked again.
        source: What names the row as its owner's in its line; None where it has no owner.
    """

    occurrence: int
    place: int
    success: bool
    changed: int = NOWHERE
    is_own_line: bool = False
    failed_before: bool = False
    source: int | None = None


class Owner(NamedTuple):
    """Who claims a row.

    Attributes:
        number: Of 64 bits.
        is_expected: Tells of a number whether its owner may claim rows in this run.
    """

    number: int
    is_expected: Callable[[int], bool]


class KnownRows:
    """Rows of earlier runs, and how often this run's input has asked for each. Not locked: one thread claims.

    Attributes:
        finds_failures: Tell of a row that nobody has a line of whether it failed with other settings.
    """

    def __init__(self) -> None:
        self._entries = DigestTable()
        self._places = array("q")
        self._asked = array("I")
        self._state = bytearray()
        self._settings_of = array("I")
        self._settings: list[int] = []  # digests; few, unless each row has parameters of its own
        self._settings_numbers: dict[int, int] = {}
        self._sources = DigestTable()
        self._source_entries = array("I")
        self._source_lines = array("I")  # 1 + the entry of the source's own line, 0 for none
        self._source_claimed = bytearray()  # whether its owner has claimed it; as long as need be
        self._source_of = array("I")  # 1 + the number of the source of the line at an entry's place, 0 for none
        self._by_messages: DigestTable | None = None
        self._by_messages_entries = array("I")
        self._unkeyed: dict[int, int] = {}
        self._known_settings: set[int] = set()
        self._repeated: dict[tuple[int, int], int] = {}  # where an answer to a later one of equal rows is
        self._extras = array("q")
        self._extra_to = array("q")
        self.finds_failures = False
        self._failed: DigestTable | None = None

    # --- earlier runs

    def add(
        self, digest: int, settings: int, occurrence: int, place: int, success: bool, source: int | None = None
    ) -> None:
        """Take in a line of an earlier run. An answer beats an error, and the first answer the others.

        Args:
            source: Digest of the input line that asked for it: the same line will ask for the same again.
        """
        number = self._settings_number(settings)
        self._known_settings.add(number)
        entry = self._add(digest, number, occurrence, place, success)
        if source is None:
            return
        source_number = self._sources.add(source >> 64, source & _MASK)
        if source_number == len(self._source_entries):
            self._source_entries.append(self._entry(digest, number, 0) if occurrence else entry)
            self._source_lines.append(0)
        if self._places[entry] == place:
            self._source_of[entry] = source_number + 1
            self._source_lines[source_number] = entry + 1

    def add_unkeyed(self, digest: int, place: int, success: bool) -> None:
        """Take in a line of which only the messages are known, as older files have it: any settings will do."""
        number = self._settings_number(_ANY_SETTINGS)
        first = self._entry(digest, number, 0)
        occurrence = self._unkeyed.get(first, 0)
        self._unkeyed[first] = occurrence + 1
        self._add(digest, number, occurrence, place, success)

    def _add(self, digest: int, settings: int, occurrence: int, place: int, success: bool) -> int:
        entry = self._entry(digest, settings, occurrence)
        if success and occurrence:
            self._repeated.setdefault((digest, self._settings[settings]), place)
        if self._state[entry] & _SUCCESS:
            if success:
                self.add_extra(place, self._places[entry])
        elif success or self._places[entry] == NOWHERE:
            self._places[entry] = place
            self._state[entry] = _SUCCESS if success else 0
        elif place >= 0:
            self._places[entry] = place  # a newer error
        return entry

    def add_extra(self, place: int, first: int) -> None:
        """Take in the place of an answer to what the line at `first` answers already."""
        self._extras.append(place)
        self._extra_to.append(first)

    # --- this run

    def claim_source(self, source: int, settings: int) -> Claim | None:
        """Claim the row that an input line asks for, if an earlier run saw the very same line; else None."""
        number = self._sources.find(source >> 64, source & _MASK)
        if number < 0:
            return None
        entry = self._source_entries[number]
        if self._asked[entry] or self._state[entry] != _SUCCESS or self._settings[self._settings_of[entry]] != settings:
            return self._claim(self._messages_digest(entry), settings, number + 1)
        self._asked[entry] = 1  # the usual case: asked for the first time, and answered with these settings
        self._state[entry] = _SUCCESS | _CLAIMED
        return Claim(0, self._places[entry], True, NOWHERE, self._source_of[entry] == number + 1)

    def claim(self, digest: int, settings: int) -> Claim:
        """Claim the row with these messages and settings: the first call gives occurrence 0, the next 1, ..."""
        return self._claim(digest, settings, 0)

    def _claim(self, digest: int, settings: int, source_mark: int) -> Claim:
        number = self._settings_number(settings)
        entry = self._entry(digest, number, 0)
        occurrence = self._asked[entry]
        self._asked[entry] = occurrence + 1
        if occurrence:
            entry = self._entry(digest, number, occurrence)
        state = self._state[entry]
        if not state & _SUCCESS:
            unkeyed = self._find(digest, _ANY_SETTINGS, occurrence)
            if unkeyed >= 0 and self._state[unkeyed] & _SUCCESS and not self._state[unkeyed] & _CLAIMED:
                entry, state = unkeyed, self._state[unkeyed]
        if self._places[entry] == NOWHERE and len(self._known_settings) > (number in self._known_settings):
            other = self._find_with_other_settings(digest, number, occurrence)
            if other != NOWHERE:
                return Claim(occurrence, self._places[entry], False, other)
        if self.finds_failures and self._places[entry] == NOWHERE and self._has_failed(digest, occurrence):
            return Claim(occurrence, NOWHERE, False, failed_before=True)
        if self._places[entry] != NOWHERE:
            self._state[entry] = state | _CLAIMED
        is_own_line = source_mark > 0 and self._source_of[entry] == source_mark
        return Claim(occurrence, self._places[entry], bool(state & _SUCCESS), NOWHERE, is_own_line)

    def claim_own(self, owner: Owner, digest: int, settings: int) -> Claim:
        """Claim the row with these messages and settings for its owner.

        He gets the answer that was bought for him; else one whose owner will not come, or that never had one.
        """
        number = self._settings_number(settings)
        first = self._entry(digest, number, 0)
        source, source_number = self._own_source(owner.number, digest, settings, first)
        line = self._source_lines[source_number] - 1
        if line >= 0 and self._source_of[line] != source_number + 1:
            line = -1  # it had failed, and another's answer has its key
        if line >= 0 and self._state[line] == _SUCCESS:
            return self._claimed_by_owner(line, 0, source)
        failed = NOWHERE if line < 0 else self._places[line]
        while True:
            occurrence = self._asked[first]
            self._asked[first] = occurrence + 1
            entry = self._entry(digest, number, occurrence)
            state = self._state[entry]
            if not state & _SUCCESS:
                return Claim(occurrence, failed, False, source=source)
            if not state & _CLAIMED and not self._is_reserved(entry, owner):
                return self._claimed_by_owner(entry, occurrence, source)

    def _own_source(self, owner: int, digest: int, settings: int, first: int) -> tuple[int, int]:
        """Return what names this row, the next of those with which its owner asks for the same, and that one's number."""
        row = digest.to_bytes(16, "big") + settings.to_bytes(8, "big")
        time = 0
        while True:
            key = owner.to_bytes(8, "big") + time.to_bytes(8, "big")
            low = int.from_bytes(blake2b(row, digest_size=8, key=key).digest(), "big")
            number = self._sources.add(owner, low)
            if number == len(self._source_entries):
                self._source_entries.append(first)
                self._source_lines.append(0)
            self._source_claimed.extend(bytes(max(0, number + 1 - len(self._source_claimed))))
            if not self._source_claimed[number]:
                self._source_claimed[number] = 1
                return owner << 64 | low, number
            time += 1

    def _is_reserved(self, entry: int, owner: Owner) -> bool:
        """Return whether the line of an entry is for somebody who may yet claim it."""
        number = self._source_of[entry]
        return number > 0 and owner.is_expected(self._sources.digest(number - 1)[0])

    def _claimed_by_owner(self, entry: int, occurrence: int, source: int) -> Claim:
        self._state[entry] |= _CLAIMED
        return Claim(occurrence, self._places[entry], True, source=source)

    def keep(self, changed: int) -> Claim:
        """Claim the row that `Claim.changed` named, although it was asked with other settings."""
        self._state[changed] |= _CLAIMED
        return Claim(0, self._places[changed], True)

    def answer(self, digest: int, settings: int) -> int:
        """Return where an answer to these messages with these settings is, whichever row it was for; NOWHERE if none is."""
        entry = self._find(digest, settings, 0)
        if entry >= 0 and self._state[entry] & _SUCCESS:
            return self._places[entry]
        return self._repeated.get((digest, settings), NOWHERE)

    def place(self, entry: int) -> int:
        """Return where the line is that `Claim.changed` names."""
        return self._places[entry]

    def unclaimed(self) -> Iterator[int]:
        """Yield the places of the answers that this run's input did not ask for."""
        yield from self.unasked()
        yield from self._extras

    def unasked(self) -> Iterator[int]:
        """Yield the places of the answers that this run's input has not asked for so far, one for each key."""
        for entry, state in enumerate(self._state):
            if state & _SUCCESS and not state & _CLAIMED:
                yield self._places[entry]

    def extras(self) -> Iterator[tuple[int, int]]:
        """Yield, for each answer beyond the first to the same key, the place of the first, and its own."""
        return zip(self._extra_to, self._extras, strict=True)

    # --- entries

    def _entry(self, digest: int, settings: int, occurrence: int) -> int:
        mixed_in = self._settings[settings]
        # Into both halves: the table looks rows up by the lower one, and a prompt may be asked with many settings.
        entry = self._entries.add(
            (digest >> 64) ^ mixed_in, (digest & _MASK) ^ mixed_in ^ (occurrence * _OCCURRENCE_STEP & _MASK)
        )
        if entry == len(self._places):
            self._places.append(NOWHERE)
            self._asked.append(0)
            self._state.append(0)
            self._settings_of.append(settings)
            self._source_of.append(0)
        return entry

    def _find(self, digest: int, settings: int, occurrence: int) -> int:
        if settings not in self._settings_numbers:
            return -1
        return self._entries.find(
            (digest >> 64) ^ settings, (digest & _MASK) ^ settings ^ (occurrence * _OCCURRENCE_STEP & _MASK)
        )

    def _settings_number(self, settings: int) -> int:
        number = self._settings_numbers.get(settings)
        if number is None:
            number = self._settings_numbers[settings] = len(self._settings)
            self._settings.append(settings)
        return number

    def _messages_digest(self, entry: int) -> int:
        """Return the digest of an entry's messages, with its occurrence number still mixed in."""
        high, low = self._entries.digest(entry)
        mixed_in = self._settings[self._settings_of[entry]]
        return (high ^ mixed_in) << 64 | low ^ mixed_in

    def _find_with_other_settings(self, digest: int, settings: int, occurrence: int) -> int:
        """Return an answered, unclaimed entry for the same messages. The table for it is made when first needed."""
        if self._by_messages is None:
            self._by_messages = DigestTable()
            for entry, state in enumerate(self._state):
                if state & _SUCCESS:
                    value = self._messages_digest(entry)
                    if self._by_messages.add(value >> 64, value & _MASK) == len(self._by_messages_entries):
                        self._by_messages_entries.append(entry)
        number = self._by_messages.find(digest >> 64, (digest & _MASK) ^ (occurrence * _OCCURRENCE_STEP & _MASK))
        if number < 0:
            return NOWHERE
        entry = self._by_messages_entries[number]
        return NOWHERE if self._settings_of[entry] == settings or self._state[entry] & _CLAIMED else entry

    def _has_failed(self, digest: int, occurrence: int) -> bool:
        """Return whether a row with these messages failed, with whatever settings."""
        if self._failed is None:
            self._failed = DigestTable()
            for entry, state in enumerate(self._state):
                if not state & _SUCCESS and self._places[entry] != NOWHERE:
                    value = self._messages_digest(entry)
                    self._failed.add(value >> 64, value & _MASK)
        return self._failed.find(digest >> 64, (digest & _MASK) ^ (occurrence * _OCCURRENCE_STEP & _MASK)) >= 0


_ANY_SETTINGS = 0x5DEE_CE66_D1CE_4E5B
"""Stands for the settings of lines that do not tell theirs."""
