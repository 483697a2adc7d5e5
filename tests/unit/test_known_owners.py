"""Rows that have owners: each gets again what was bought for it, and what nobody will come for is free."""

from __future__ import annotations

import random
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.known import NOWHERE, Claim, KnownRows, Owner

A, B = (number << 64 | number for number in (11, 22))
MODEL, OTHER_MODEL = 7, 8


class File:
    """An output file with only what matters of its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, int, int, bool, int | None]] = []

    def known(self) -> KnownRows:
        known = KnownRows()
        for place, (digest, settings, occurrence, success, source) in enumerate(self.lines):
            known.add(digest, settings, occurrence, place, success, source)
        return known

    def write(self, claim: Claim, digest: int = A, settings: int = MODEL, success: bool = True) -> int:
        self.lines.append((digest, settings, claim.occurrence, success, claim.source))
        return len(self.lines) - 1


def owner(number: int, expected: Collection[int] = range(100)) -> Owner:
    return Owner(number, lambda one: one in expected)


def test_each_owner_gets_its_own_answer_whoever_comes_first() -> None:
    file, known = File(), KnownRows()
    places = {number: file.write(known.claim_own(owner(number), A, MODEL)) for number in range(5)}
    assert [line[2] for line in file.lines] == [0, 1, 2, 3, 4]

    known = file.known()
    for number in (3, 0, 4, 1, 2):
        assert known.claim_own(owner(number), A, MODEL)[1:3] == (places[number], True)
    assert list(known.unclaimed()) == []


def test_who_comes_first_does_not_take_what_another_one_will_come_for() -> None:
    file, known = File(), KnownRows()
    place = file.write(known.claim_own(owner(1), A, MODEL))
    known = file.known()
    new = known.claim_own(owner(2), A, MODEL)

    assert (new.place, new.occurrence) == (NOWHERE, 1)
    assert known.claim_own(owner(1), A, MODEL).place == place


def test_what_was_bought_for_nobody_who_will_come_is_free() -> None:
    file, known = File(), KnownRows()
    file.write(known.claim_own(owner(1), A, MODEL))
    file.lines.append((A, MODEL, 1, True, None))  # of a run without owners
    known = file.known()

    assert known.claim_own(owner(2, expected=[2, 3]), A, MODEL).place == 0
    assert known.claim_own(owner(3, expected=[2, 3]), A, MODEL).place == 1
    assert known.claim_own(owner(4, expected=[2, 3, 4]), A, MODEL).place == NOWHERE


def test_an_owner_that_asks_twice_for_the_same_has_two_answers() -> None:
    file, known = File(), KnownRows()
    places = [file.write(known.claim_own(owner(1), A, MODEL)) for _time in range(3)]
    known = file.known()

    assert [known.claim_own(owner(1), A, MODEL).place for _time in range(3)] == places
    assert known.claim_own(owner(1), A, MODEL).place == NOWHERE


def test_other_messages_and_other_settings_are_other_rows() -> None:
    file, known = File(), KnownRows()
    file.write(known.claim_own(owner(1), A, MODEL))
    known = file.known()

    assert known.claim_own(owner(1), B, MODEL).place == NOWHERE
    assert known.claim_own(owner(1), A, OTHER_MODEL).place == NOWHERE
    assert known.claim_own(owner(1), A, MODEL).place == 0


def test_a_row_that_failed_is_found_again_and_its_answer_beats_it() -> None:
    file, known = File(), KnownRows()
    failed = file.write(known.claim_own(owner(1), A, MODEL), success=False)
    known = file.known()
    claim = known.claim_own(owner(1), A, MODEL)
    assert claim[1:3] == (failed, False)

    answer = file.write(claim)
    assert file.known().claim_own(owner(1), A, MODEL)[1:3] == (answer, True)


def test_an_answer_for_one_is_not_anothers_whose_failed_row_had_the_same_number() -> None:
    file, known = File(), KnownRows()
    failed = file.write(known.claim_own(owner(1), A, MODEL), success=False)
    claim = file.known().claim_own(owner(2), A, MODEL)
    assert (claim.place, claim.occurrence) == (NOWHERE, 0)
    answer = file.write(claim)

    known = file.known()
    assert known.claim_own(owner(1), A, MODEL)[1:3] == (NOWHERE, False)
    assert known.claim_own(owner(2), A, MODEL)[1:3] == (answer, True)
    assert failed == 0


def test_rows_without_owners_take_what_is_there() -> None:
    file, known = File(), KnownRows()
    for number in range(2):
        file.write(known.claim_own(owner(number), A, MODEL))
    known = file.known()

    assert [known.claim(A, MODEL).place for _time in range(3)] == [0, 1, NOWHERE]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([A, B]), st.booleans()), max_size=30), st.randoms())
def test_nothing_is_bought_twice_in_whatever_order_owners_come(
    rows: list[tuple[int, int, bool]], rng: random.Random
) -> None:
    """A run that is cut off anywhere, then all rows in another order: each owner's own rows keep their own order."""
    file, known, bought = File(), KnownRows(), 0
    for number, digest, is_answered in rows:
        claim = known.claim_own(owner(number), digest, MODEL)
        assert claim.place == NOWHERE
        if is_answered:
            file.write(claim, digest)
            bought += 1
    again = list(rows)
    rng.shuffle(again)
    known = file.known()
    claims = [known.claim_own(owner(number), digest, MODEL) for number, digest, _ in again]
    places = [claim.place for claim in claims if claim.place != NOWHERE]

    assert len(places) == len(set(places)) == bought
    assert list(known.unclaimed()) == []
    for (number, digest, _), claim in zip(again, claims, strict=True):
        if claim.place != NOWHERE:
            assert file.lines[claim.place][4] == claim.source
            assert file.lines[claim.place][0] == digest
            assert claim.source is not None
            assert claim.source >> 64 == number
    occurrences = [
        (digest, claim.occurrence)
        for (_, digest, _), claim in zip(again, claims, strict=True)
        if claim.place == NOWHERE
    ]
    assert len(occurrences) == len(set(occurrences))
    assert not set(occurrences) & {(line[0], line[2]) for line in file.lines}
