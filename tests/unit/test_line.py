"""The line of waiting threads, and the sleep of one of them."""

from __future__ import annotations

import math
import threading

import pytest

from flexllm.limits.line import Line, Turn

LONG = 60.0
"""Seconds that a broken line makes a test wait before it fails."""


def order(line: Line) -> list[Turn]:
    served = []
    while line:
        served.append(line.first)
        line.leave(line.first)
    return served


def test_turns_are_served_as_they_came() -> None:
    line, turns = Line(), [Turn() for _ in range(5)]
    for turn in turns:
        line.join(turn)
    assert (len(line), order(line)) == (5, turns)


def test_again_comes_before_the_others_and_in_order_among_themselves() -> None:
    line = Line()
    fresh, again = [Turn() for _ in range(3)], [Turn(again=True) for _ in range(3)]
    for one, other in zip(fresh, again, strict=True):
        line.join(one)
        line.join(other)
    assert order(line) == again + fresh


def test_who_leaves_from_the_middle_disturbs_no_order() -> None:
    line = Line()
    turns = [Turn(again=True), Turn(again=True), Turn(), Turn()]
    for turn in turns:
        line.join(turn)
    line.leave(turns[0])
    line.leave(turns[2])
    late = Turn(again=True)
    line.join(late)
    assert turns[0] not in line
    assert order(line) == [turns[1], late, turns[3]]


def test_waking_the_first_of_an_empty_line_does_nothing() -> None:
    Line().wake_first()


def sleeps(turn: Turn) -> bool:
    """Whether the next sleep of a turn would last."""
    sleeper = threading.Thread(target=turn.sleep, daemon=True)
    sleeper.start()
    sleeper.join(0.02)
    if not sleeper.is_alive():
        return False
    turn.wake()
    sleeper.join(LONG)
    assert not sleeper.is_alive()
    return True


def ends(turn: Turn) -> bool:
    """Whether the next sleep of a turn ends without anybody's doing."""
    sleeper = threading.Thread(target=turn.sleep, daemon=True)
    sleeper.start()
    sleeper.join(LONG)
    return not sleeper.is_alive()


def test_a_wake_ends_a_sleep_that_was_prepared_and_has_not_begun() -> None:
    turn = Turn()
    turn.prepare(math.inf)
    turn.wake()
    assert ends(turn)


def test_a_wake_ends_one_sleep_and_not_the_next() -> None:
    turn = Turn()
    for _ in range(2):
        turn.prepare(math.inf)
        turn.wake()
        turn.wake()  # twice is not too often
    turn.prepare(math.inf)
    assert sleeps(turn)


def test_a_wake_of_who_is_awake_is_forgotten_by_the_next_sleep() -> None:
    turn = Turn()
    turn.wake()
    turn.prepare(math.inf)
    assert sleeps(turn)


def test_a_sleep_ends_by_itself_when_its_time_is_over() -> None:
    turn = Turn()
    for _ in range(3):
        turn.prepare(0.001)
        turn.sleep()


def test_a_longer_sleep_than_the_machine_knows_is_none_too_long() -> None:
    turn = Turn()
    turn.prepare(1e300)
    assert sleeps(turn)


@pytest.mark.parametrize("prepared", [False, True])
def test_a_stop_ends_this_sleep_and_every_later_one(prepared: bool) -> None:
    turn = Turn()
    if prepared:
        turn.prepare(math.inf)
    turn.stop()
    for _ in range(3):
        assert turn.is_over
        turn.prepare(math.inf)
        assert ends(turn)


def test_a_stop_reaches_who_sleeps() -> None:
    turn = Turn()
    turn.prepare(math.inf)
    sleeper = threading.Thread(target=turn.sleep, daemon=True)
    sleeper.start()
    turn.stop()
    sleeper.join(LONG)
    assert not sleeper.is_alive()
