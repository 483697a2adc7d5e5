"""A budget and many threads: never more than the limit, never much less, nobody left waiting."""

from __future__ import annotations

import contextlib
import math
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fakes import LONGEST_WAIT, eventually
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.cancel import CancelToken
from flexllm.cost.budget import Budget, Reservation
from flexllm.cost.demand import Demand
from flexllm.cost.options import Limits
from flexllm.cost.spend import Spend
from flexllm.errors import BudgetExceededError, RequestCancelled
from flexllm.limits.line import Turn
from flexllm.prices import Price

CENT = Price(input=0.0, output=0.01e6)
"""For each token of a reply."""


def start(target: Callable[..., object], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def finish(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(2 * LONGEST_WAIT)
    assert not any(thread.is_alive() for thread in threads), "it waits for ever"


def assert_empty(budget: Budget) -> None:
    assert (budget.reserved, budget.waiting) == (Spend(), 0)
    assert (budget._is_looking, dict(budget._waiting), dict(budget._of_thread)) == (False, {}, {})


class Watch:
    """The most that was spent and reserved together, as seen whenever something was let in or settled."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.most = 0.0

    def look(self) -> None:
        with self._budget._lock:
            self.most = max(self.most, self._budget.spent.dollars + self._budget.reserved.dollars)


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(st.integers(0, 10**9), st.integers(1, 16), st.integers(1, 20), st.integers(0, 300))
def test_rows_of_many_threads_never_spend_more_than_the_limit_and_stop_within_one_row_of_it(
    seed: int, threads: int, worst: int, limit: int
) -> None:
    budget = Budget(Limits(dollars=limit / 100))
    watch = Watch(budget)
    refused: list[Spend] = []

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        while True:
            most = chance.randint(1, worst)
            try:
                reservation = budget.reserve(Demand(most=most, price=CENT))
            except BudgetExceededError:
                refused.append(budget.spent)
                return
            watch.look()
            took = chance.randint(0, most) or most  # never nothing for ever
            budget.settle(reservation, Spend(took / 100, 1, took))

    finish([start(work, number) for number in range(threads)])
    assert_empty(budget)
    assert len(refused) == threads
    spent = budget.spent
    assert watch.most <= limit / 100 + 1e-6
    assert limit / 100 - worst / 100 < spent.dollars + 1e-6 <= limit / 100 + 2e-6
    assert spent.tokens == round(100 * spent.dollars)


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(st.integers(0, 10**9), st.integers(1, 12), st.integers(1, 100))
def test_the_number_of_requests_is_met_exactly(seed: int, threads: int, limit: int) -> None:
    budget = Budget(Limits(requests=limit))
    sent: list[int] = []

    def work(number: int) -> None:
        with contextlib.suppress(BudgetExceededError):
            while True:
                reservation = budget.reserve(Demand())
                sent.append(number)
                budget.settle(reservation, Spend(0.0, 1, 7))

    finish([start(work, number) for number in range(threads)])
    assert len(sent) == limit
    assert budget.spent.requests == limit


def troubled(budget: Budget, seed: int) -> None:
    """Go through a budget many times, with stops, failures and wrong estimates in between."""
    chance = random.Random(seed)
    for _ in range(15):
        cancel = CancelToken() if chance.random() < 0.7 else None
        stopper = start(cancel.stop) if cancel is not None and chance.random() < 0.6 else None
        demand = Demand(prompt=chance.randint(0, 3), most=chance.choice([None, 0, 1, 5, 9]), price=CENT)
        with contextlib.suppress(BudgetExceededError, RequestCancelled, KeyError):
            reservation = budget.reserve(demand, cancel)
            took = Spend()
            try:
                if chance.random() < 0.3:
                    raise KeyError("the request failed")
                took = Spend(chance.choice([0.0, 0.02, 0.12]), 1, chance.randrange(9))
            finally:
                budget.settle(reservation, took, output=chance.choice([None, 0, 3]), prompt=chance.choice([None, 2]))
        if stopper is not None:
            stopper.join(LONGEST_WAIT)
        assert cancel is None or cancel._listeners == set()


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(st.integers(0, 10**9), st.integers(2, 10), st.sampled_from([0.05, 0.2, 5.0]), st.none() | st.integers(5, 60))
def test_nobody_waits_for_ever_among_threads_that_come_stop_and_fail(
    seed: int, threads: int, limit: float, requests: int | None
) -> None:
    budget = Budget(Limits(dollars=limit, requests=requests))
    finish([start(troubled, budget, seed + number) for number in range(threads)])
    assert_empty(budget)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 10**9))
def test_two_budgets_in_one_order_do_not_block_each_other(seed: int) -> None:
    first, second = Budget(Limits(dollars=0.3)), Budget(Limits(tokens=25))

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        with contextlib.suppress(BudgetExceededError):
            for _ in range(10):
                demand = Demand(most=chance.randint(1, 9), price=CENT)
                outer = first.reserve(demand)
                try:
                    inner = second.reserve(demand)
                    second.settle(inner, Spend(0.0, 1, chance.randint(0, 2)))
                finally:
                    first.settle(outer, Spend(0.0, 1, 0))

    finish([start(work, number) for number in range(8)])
    assert_empty(first)
    assert_empty(second)


@pytest.mark.parametrize("threads", [2, 12])
def test_threads_are_let_in_as_they_came(threads: int) -> None:
    budget = Budget(Limits(dollars=0.1))
    holder = budget.reserve(Demand(most=10, price=CENT))
    served: list[int] = []

    def wait(number: int) -> None:
        reservation = budget.reserve(Demand(most=10, price=CENT))  # one at a time
        served.append(number)
        budget.settle(reservation, Spend())

    waiters = []
    for number in range(threads):
        waiters.append(start(wait, number))
        assert eventually(lambda number=number: budget.waiting == number + 1)  # type: ignore[misc]
    budget.settle(holder, Spend())
    finish(waiters)
    assert served == list(range(threads))


def test_nobody_polls_and_a_settlement_wakes_those_alone_that_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    sleep = Turn.sleep

    def counted(turn: Turn) -> None:
        sleeps.append(turn.seconds)
        sleep(turn)

    monkeypatch.setattr(Turn, "sleep", counted)
    budget = Budget(Limits(dollars=0.1))
    reservations = [Reservation(Demand(most=10, price=CENT)) for _ in range(9)]
    budget.enter(reservations[0])
    waiters = []
    for number, reservation in enumerate(reservations[1:], 1):
        waiters.append(start(budget.enter, reservation))
        assert eventually(lambda number=number: len(sleeps) == number)  # type: ignore[misc]
    for number in range(8):
        budget.settle(reservations[number], Spend())
        waiters[number].join(LONGEST_WAIT)
        assert reservations[number + 1].is_held
    assert sleeps == [math.inf] * 8


def test_threads_that_switch_at_every_chance_lose_nothing() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        budget = Budget(Limits(dollars=3.0))

        def work() -> None:
            for _ in range(50):
                reservation = budget.reserve(Demand(most=100, price=CENT))
                budget.settle(reservation, Spend(0.0, 1, 3), output=3, prompt=1)

        finish([start(work) for _ in range(8)])
    finally:
        sys.setswitchinterval(before)
    assert_empty(budget)
    assert budget.spent == Spend(0.0, 400, 1200)
