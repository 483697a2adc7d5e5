"""What is known of earlier runs: the digest table against a dictionary, and claims against what they should find."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.known import NOWHERE, DigestTable, KnownRows

A, B, C = (number << 64 | number for number in (11, 22, 33))
MODEL, OTHER_MODEL = 7, 8

words = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(0, 2**12).map(lambda bits: bits << 20))
"""Few values, so that digests meet again, and values whose low bits are equal, so that different ones collide."""


def answered(*places_by_occurrence: int, digest: int = A, settings: int = MODEL) -> KnownRows:
    known = KnownRows()
    for occurrence, place in enumerate(places_by_occurrence):
        known.add(digest, settings, occurrence, place, True)
    return known


# --- the table


@given(st.lists(st.tuples(words, words), max_size=300), st.lists(st.tuples(words, words), max_size=20))
def test_a_table_numbers_digests_like_a_dictionary(
    digests: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    table = DigestTable()
    numbers: dict[tuple[int, int], int] = {}
    for digest in digests:
        assert table.find(*digest) == numbers.get(digest, -1)
        assert table.add(*digest) == numbers.setdefault(digest, len(numbers))
    assert len(table) == len(numbers)
    assert [table.digest(number) for number in range(len(table))] == list(numbers)
    assert [table.find(*digest) for digest in others] == [numbers.get(digest, -1) for digest in others]


def test_a_table_keeps_its_numbers_while_it_grows() -> None:
    table = DigestTable()
    digests = [(at, at * 2**51 % 2**64) for at in range(1_000)]  # all with the same low bits
    assert [table.add(*digest) for digest in digests] == list(range(1_000))
    assert [table.find(*digest) for digest in digests] == list(range(1_000))


# --- claims


def test_what_no_file_holds_is_nowhere() -> None:
    assert KnownRows().claim(A, MODEL)[:4] == (0, NOWHERE, False, NOWHERE)


def test_an_answer_is_found_by_messages_and_settings() -> None:
    known = answered(100)
    assert known.claim(A, MODEL)[:3] == (0, 100, True)
    assert known.claim(B, MODEL).place == NOWHERE


def test_equal_rows_keep_their_numbers() -> None:
    known = answered(100, 200)
    assert [known.claim(A, MODEL)[:3] for _ in range(3)] == [(0, 100, True), (1, 200, True), (2, NOWHERE, False)]


def test_equal_rows_are_numbered_although_none_is_known() -> None:
    known = KnownRows()
    assert [known.claim(A, MODEL).occurrence for _ in range(3)] == [0, 1, 2]


def test_rows_are_found_in_any_order() -> None:
    known = KnownRows()
    for place, digest in enumerate((A, B, C)):
        known.add(digest, MODEL, 0, place, True)
    assert [known.claim(digest, MODEL).place for digest in (C, A, B)] == [2, 0, 1]


def test_an_answer_supersedes_an_error_whichever_comes_first() -> None:
    for lines in (((10, False), (20, True)), ((20, True), (10, False))):
        known = KnownRows()
        for place, success in lines:
            known.add(A, MODEL, 0, place, success)
        assert known.claim(A, MODEL)[1:3] == (20, True)
        assert list(known.unclaimed()) == []


def test_a_later_error_supersedes_an_earlier_one() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 10, False)
    known.add(A, MODEL, 0, 20, False)
    assert known.claim(A, MODEL)[1:3] == (20, False)


def test_a_second_answer_to_the_same_key_is_an_extra() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 10, True)
    known.add(A, MODEL, 0, 20, True)
    assert known.claim(A, MODEL).place == 10
    assert list(known.unclaimed()) == [20]


def test_unclaimed_are_the_answers_that_nobody_asked_for() -> None:
    known = answered(100, 200)
    known.add(B, MODEL, 0, 300, True)
    known.add(C, MODEL, 0, 400, False)
    known.claim(A, MODEL)
    assert sorted(known.unclaimed()) == [200, 300]


# --- lines of input


def test_a_row_is_claimed_by_its_input_line() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, True, source=C)
    claim = known.claim_source(C, MODEL)
    assert claim is not None
    assert claim[:3] == (0, 100, True)
    assert known.claim_source(B, MODEL) is None


def test_lines_and_messages_are_counted_together() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, True, source=C)
    known.add(A, MODEL, 1, 200, True, source=C)
    claims = [known.claim_source(C, MODEL), known.claim(A, MODEL), known.claim_source(C, MODEL)]
    assert [claim and claim[:3] for claim in claims] == [(0, 100, True), (1, 200, True), (2, NOWHERE, False)]


def test_the_line_of_a_later_equal_row_finds_the_first_answer_when_it_is_asked_first() -> None:
    known = KnownRows()
    known.add(A, MODEL, 1, 200, True, source=C)
    known.add(A, MODEL, 0, 100, True, source=B)
    claim = known.claim_source(C, MODEL)
    assert claim is not None
    assert (claim.occurrence, claim.place) == (0, 100)


def test_a_claim_tells_whether_the_line_was_written_for_the_same_input_line() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, True, source=B)
    known.add(A, MODEL, 1, 200, True, source=C)
    claims = [known.claim_source(source, MODEL) for source in (C, C, B)]
    assert [claim and claim.is_own_line for claim in claims] == [False, True, False]


def test_an_answer_brings_its_own_input_line() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, False, source=B)
    known.add(A, MODEL, 0, 200, True, source=C)
    claim = known.claim_source(C, MODEL)
    assert claim is not None
    assert (claim.place, claim.is_own_line) == (200, True)


def test_a_line_that_failed_is_known_by_its_source_too() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, False, source=C)
    claim = known.claim_source(C, MODEL)
    assert claim is not None
    assert claim[1:3] == (100, False)


def test_a_line_asked_with_other_settings_is_told_as_changed() -> None:
    known = KnownRows()
    known.add(A, MODEL, 0, 100, True, source=C)
    claim = known.claim_source(C, OTHER_MODEL)
    assert claim is not None
    assert claim.place == NOWHERE
    assert known.place(claim.changed) == 100


# --- changed settings


def test_an_answer_with_other_settings_is_told_but_not_taken() -> None:
    known = answered(100)
    claim = known.claim(A, OTHER_MODEL)
    assert (claim.place, claim.success) == (NOWHERE, False)
    assert known.place(claim.changed) == 100
    assert list(known.unclaimed()) == [100]


def test_a_kept_answer_is_claimed() -> None:
    known = answered(100)
    kept = known.keep(known.claim(A, OTHER_MODEL).changed)
    assert (kept.place, kept.success) == (100, True)
    assert list(known.unclaimed()) == []


def test_a_kept_answer_is_kept_once() -> None:
    known = answered(100)
    known.keep(known.claim(A, OTHER_MODEL).changed)
    assert known.claim(A, OTHER_MODEL).changed == NOWHERE


def test_equal_rows_with_other_settings_are_told_number_by_number() -> None:
    known = answered(100, 200)
    claims = [known.claim(A, OTHER_MODEL) for _ in range(3)]
    assert [claim.changed for claim in claims].count(NOWHERE) == 1
    assert [known.place(claim.changed) for claim in claims[:2]] == [100, 200]


def test_nothing_is_changed_where_all_settings_are_those_of_this_run() -> None:
    assert answered(100).claim(B, MODEL).changed == NOWHERE


def test_every_row_may_have_settings_of_its_own() -> None:
    known = KnownRows()
    many = 66_000  # more than sixteen bits count
    for number in range(many):
        known.add(A, number, 0, number * 2, True)
    for number in (0, 65_535, 65_536, many - 1):
        assert known.claim(A, number).place == number * 2


# --- lines without a key


def test_a_line_without_a_key_answers_whatever_the_settings() -> None:
    known = KnownRows()
    known.add_unkeyed(A, 100, True)
    assert known.claim(A, MODEL)[:3] == (0, 100, True)
    assert list(known.unclaimed()) == []


def test_lines_without_a_key_are_numbered_as_they_come() -> None:
    known = KnownRows()
    known.add_unkeyed(A, 100, True)
    known.add_unkeyed(A, 200, True)
    assert [known.claim(A, MODEL).place for _ in range(3)] == [100, 200, NOWHERE]


def test_a_line_without_a_key_that_failed_is_no_answer() -> None:
    known = KnownRows()
    known.add_unkeyed(A, 100, False)
    assert known.claim(A, MODEL).success is False


def test_a_keyed_answer_goes_before_one_without_a_key() -> None:
    known = answered(200)
    known.add_unkeyed(A, 100, True)
    assert known.claim(A, MODEL).place == 200
    assert list(known.unclaimed()) == [100]


# --- all together

rows = st.tuples(st.sampled_from([A, B, C]), st.sampled_from([MODEL, OTHER_MODEL]))


@given(st.lists(st.tuples(rows, st.integers(0, 2), st.booleans()), max_size=30), st.lists(rows, max_size=30))
def test_claims_find_what_a_dictionary_finds(
    lines: list[tuple[tuple[int, int], int, bool]], asked: list[tuple[int, int]]
) -> None:
    known, places = KnownRows(), {}
    for at, ((digest, settings), occurrence, success) in enumerate(lines):
        known.add(digest, settings, occurrence, at * 2, success)
        if success:
            places.setdefault((digest, settings, occurrence), at * 2)
    times: Counter[tuple[int, int]] = Counter()
    for digest, settings in asked:
        claim = known.claim(digest, settings)
        expected = places.pop((digest, settings, times[digest, settings]), NOWHERE)
        assert (claim.occurrence, claim.place if claim.success else NOWHERE) == (times[digest, settings], expected)
        if claim.changed != NOWHERE:
            assert known.place(claim.changed) in places.values()
        times[digest, settings] += 1
    every_answer = {at * 2 for at, (_, _, success) in enumerate(lines) if success}
    assert set(places.values()) <= set(known.unclaimed()) <= every_answer
