"""What is told to start afresh in a forked child."""

from __future__ import annotations

import gc
import os
import signal

import pytest

from flexllm.fork import forget_in_child

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class Thing:
    def __init__(self) -> None:
        self.renewed = 0
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self.renewed += 1


def exit_code(*things: Thing) -> int:
    """How often these things were renewed in a child, added up."""
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(sum(thing.renewed for thing in things))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_starts_afresh_and_the_parent_does_not() -> None:
    one, other = Thing(), Thing()
    assert exit_code(one, other) == 2
    assert (one.renewed, other.renewed) == (0, 0)


def test_a_thing_that_is_gone_is_not_kept_for_it() -> None:
    renewed: list[int] = []

    class Telling(Thing):
        def _after_fork_in_child(self) -> None:
            renewed.append(1)

    Telling()
    gc.collect()
    child = os.fork()
    if not child:
        os._exit(len(renewed))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
