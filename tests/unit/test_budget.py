"""A budget: what is reserved for a request, what is settled, and what becomes of those that do not fit."""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from fakes import LONGEST_WAIT, eventually
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cancel import CancelToken
from flexllm.chat import ChatRequest
from flexllm.cost.budget import Budget, Reservation
from flexllm.cost.demand import FIRST_OUTPUT, Demand, Demands, HighMark
from flexllm.cost.options import Limits
from flexllm.cost.spend import Spend
from flexllm.errors import BudgetExceededError, RequestCancelled
from flexllm.prices import Price, Tier
from flexllm.tokens import estimate_prompt_tokens

A_DOLLAR = Price(input=0.0, output=1e6)
"""For each token of a reply, and nothing for the prompt."""


def dollars(amount: int) -> Demand:
    """A request that may cost so many dollars, and no more."""
    return Demand(prompt=0, most=amount, price=A_DOLLAR)


def budget(limit: float, **more: Any) -> Budget:
    return Budget(Limits(dollars=limit), **more)


class Waiter:
    """A thread that waits for room in a budget, and tells how it fared."""

    def __init__(self, of: Budget, demand: Demand, cancel: CancelToken | None = None) -> None:
        self.reservation = Reservation(demand)
        self.error: BaseException | None = None
        self._budget, self._cancel = of, cancel
        before = of.waiting
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()
        assert eventually(lambda: of.waiting == before + 1 or not self.thread.is_alive())

    def _wait(self) -> None:
        try:
            self._budget.enter(self.reservation, self._cancel)
        except (BudgetExceededError, RequestCancelled) as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self.thread.is_alive()

    def ends(self) -> str:
        self.thread.join(LONGEST_WAIT)
        assert not self.thread.is_alive(), "it waits for ever"
        return "held" if self.reservation.is_held else type(self.error).__name__


def assert_empty(of: Budget) -> None:
    assert (of.reserved, of.waiting) == (Spend(), 0)
    assert not of._waiting
    assert not of._of_thread


# --- reserve and settle -----------------------------------------------------------------------------------------------


def test_what_is_reserved_is_replaced_by_what_it_took() -> None:
    one = budget(10.0)
    reservation = one.reserve(dollars(4))
    assert (one.reserved, one.spent) == (Spend(4.0, 1, 4), Spend())
    one.settle(reservation, Spend(2.5, 3, 7))
    assert (one.reserved, one.spent) == (Spend(), Spend(2.5, 3, 7))


def test_when_nothing_is_reserved_any_more_not_even_the_error_of_floats_is() -> None:
    one = budget(10.0)
    cents = [one.reserve(Demand(most=most, price=Price(input=0.0, output=0.1e6))) for most in (1, 2, 3)]
    assert one.reserved.dollars - 0.1 - 0.2 - 0.3 != 0.0
    for reservation in cents:
        one.settle(reservation, Spend())
    assert one.reserved == Spend()


def test_a_reservation_is_settled_once() -> None:
    one = budget(10.0)
    reservation = one.reserve(dollars(4))
    one.settle(reservation, Spend(2.5, 1, 7))
    one.settle(reservation, Spend(9.0, 1, 7))
    assert (one.reserved, one.spent) == (Spend(), Spend(2.5, 1, 7))


def test_what_fits_exactly_fits_also_when_it_is_the_sum_of_many_floats() -> None:
    one = budget(1.0)
    tenth = Demand(most=1, price=Price(input=0.0, output=0.1e6))
    for _ in range(10):
        one.settle(one.reserve(tenth), Spend(0.1, 1, 1))
    assert functools.reduce(operator.add, [0.1] * 10) != 1.0  # `sum` makes up for it from Python 3.12 on
    assert one.spent.dollars == pytest.approx(1.0)
    assert one.exhausted
    with pytest.raises(BudgetExceededError):
        one.reserve(tenth)


def test_a_limit_of_large_sums_allows_for_the_error_of_large_floats() -> None:
    one = budget(1e7, spent=Spend(1e7 - 0.3 + 1e-4))
    one.settle(one.reserve(Demand(most=3, price=Price(input=0.0, output=0.1e6))), Spend(0.3, 1, 3))
    with pytest.raises(BudgetExceededError):
        one.reserve(Demand(most=3, price=Price(input=0.0, output=0.1e6)))


def test_what_earlier_runs_spent_counts() -> None:
    one = Budget(Limits(dollars=10.0, requests=5, tokens=100), spent=Spend(9.0, 4, 90))
    with pytest.raises(BudgetExceededError):
        one.reserve(dollars(2))
    with pytest.raises(BudgetExceededError):
        one.reserve(Demand(prompt=11, most=0))
    one.settle(one.reserve(dollars(1)), Spend(0.5, 1, 1))
    with pytest.raises(BudgetExceededError, match="5 of 5 requests"):
        one.reserve(Demand(most=0))


def test_a_smaller_request_fits_where_a_larger_one_was_refused() -> None:
    one = budget(10.0, spent=Spend(8.0))
    assert not one.exhausted
    with pytest.raises(BudgetExceededError):
        one.reserve(dollars(3))
    assert one.exhausted
    one.settle(one.reserve(dollars(2)), Spend(2.0, 1, 2))
    assert one.spent.dollars == 10.0


def test_without_a_limit_of_dollars_they_are_counted_and_limit_nothing() -> None:
    one = Budget(Limits(requests=2))
    one.settle(one.reserve(dollars(1_000_000)), Spend(1e6, 1, 10**9))
    one.settle(one.reserve(Demand()), Spend(1e6, 1, 10**9))
    assert (one.spent, one.exhausted) == (Spend(2e6, 2, 2 * 10**9), True)


def test_a_budget_of_nothing_allows_what_is_free_and_nothing_else() -> None:
    one = budget(0.0)
    one.settle(one.reserve(Demand(prompt=100, most=100, price=Price(input=0.0, output=0.0))), Spend(0.0, 1, 200))
    with pytest.raises(BudgetExceededError):
        one.reserve(dollars(1))


def test_reset_begins_to_count_anew_and_keeps_what_is_reserved() -> None:
    one = budget(10.0, spent=Spend(7.0, 3, 30))
    with pytest.raises(BudgetExceededError):
        one.reserve(dollars(4))
    under_way = one.reserve(dollars(2))
    one.reset()
    assert not one.exhausted
    assert (one.spent, one.reserved.dollars) == (Spend(), 2.0)
    one.settle(under_way, Spend(1.0, 1, 1))
    assert one.spent == Spend(1.0, 1, 1)


def test_what_was_spent_besides_is_added_and_may_exceed() -> None:
    one = budget(10.0)
    one.add(Spend(10.0, 1, 5))
    assert one.exceeded() is None
    one.add(Spend(0.5, 1, 5))
    error = one.exceeded()
    assert error is not None
    assert (error.current_cost, error.budget_limit) == (10.5, 10.0)
    assert str(error).startswith("$10.50 of the budget of $10.00 is spent; ")


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_waits_until_something_is_settled() -> None:
    one = budget(10.0)
    under_way = one.reserve(dollars(8))
    waiter = Waiter(one, dollars(3))
    assert waiter.waits
    one.settle(under_way, Spend(7.0, 1, 7))
    assert waiter.ends() == "held"
    assert one.reserved == Spend(3.0, 1, 3)


def test_it_is_refused_only_when_nothing_is_under_way() -> None:
    one = budget(10.0)
    first, second = one.reserve(dollars(4)), one.reserve(dollars(4))
    waiter = Waiter(one, dollars(4))
    one.settle(first, Spend(4.0, 1, 4))
    assert waiter.waits
    one.settle(second, Spend(4.0, 1, 4))
    assert waiter.ends() == "BudgetExceededError"
    assert_empty(one)
    assert one.exhausted


def test_all_that_wait_are_refused_with_the_first_also_those_that_would_fit() -> None:
    one = budget(10.0)
    under_way = one.reserve(dollars(8))
    waiters = [Waiter(one, dollars(amount)) for amount in (9, 1, 5)]
    one.settle(under_way, Spend(8.0, 1, 8))
    assert [one.ends() for one in waiters] == ["BudgetExceededError"] * 3
    assert len({id(waiter.error) for waiter in waiters}) == 3, "one error in several threads gets all their tracebacks"
    assert_empty(one)


def test_a_small_request_does_not_overtake_a_large_one() -> None:
    one = budget(10.0)
    under_way = one.reserve(dollars(5))
    large, small = Waiter(one, dollars(8)), Waiter(one, dollars(1))
    assert (large.waits, small.waits, one.waiting) == (True, True, 2)
    one.settle(under_way, Spend(1.0, 1, 1))
    assert (large.ends(), small.ends()) == ("held", "held")


def test_one_settlement_lets_in_as_many_as_fit_and_no_more() -> None:
    one = budget(10.0)
    under_way = one.reserve(dollars(10))
    waiters = [Waiter(one, dollars(3)) for _ in range(4)]
    one.settle(under_way, Spend(1.0, 1, 1))
    assert [one.ends() for one in waiters[:3]] == ["held"] * 3
    assert (waiters[3].waits, one.reserved.dollars) == (True, 9.0)
    one.settle(waiters[0].reservation, Spend(0.0, 1, 0))
    assert waiters[3].ends() == "held"


def test_a_stop_ends_the_wait_of_its_own_threads_and_lets_others_in() -> None:
    one, mine, other = budget(10.0), CancelToken(), CancelToken()
    under_way = one.reserve(dollars(5))
    large, small = Waiter(one, dollars(9), mine), Waiter(one, dollars(4), other)
    mine.stop()
    assert (large.ends(), small.ends()) == ("RequestCancelled", "held")
    assert isinstance(large.error, RequestCancelled)
    assert large.error.attempts == 0
    assert mine._listeners == other._listeners == set()
    one.settle(under_way, Spend())
    one.settle(small.reservation, Spend())
    assert_empty(one)


def test_a_stop_before_it_comes_to_wait_ends_it_at_once() -> None:
    one, cancel = budget(10.0), CancelToken()
    under_way = one.reserve(dollars(8))
    cancel.stop()
    assert Waiter(one, dollars(8), cancel).ends() == "RequestCancelled"
    one.settle(under_way, Spend())
    assert_empty(one)


def test_a_stop_needs_no_lock() -> None:
    one, cancel = budget(10.0), CancelToken()
    one.reserve(dollars(8))
    waiter = Waiter(one, dollars(8), cancel)
    with one._lock:
        stopper = threading.Thread(target=cancel.stop, daemon=True)
        stopper.start()
        stopper.join(LONGEST_WAIT)
        assert not stopper.is_alive()
    assert waiter.ends() == "RequestCancelled"


def test_who_is_let_in_and_stopped_at_once_gives_it_back() -> None:
    one, cancel = budget(10.0), CancelToken()
    under_way = one.reserve(dollars(8))
    waiter = Waiter(one, dollars(8), cancel)
    with one._lock:  # it is let in and stopped before it can look
        one.settle(under_way, Spend(1.0, 1, 1))
        cancel.stop()
    assert waiter.ends() == "RequestCancelled"
    assert_empty(one)
    assert one.spent == Spend(1.0, 1, 1)


def test_who_would_wait_for_himself_is_refused() -> None:
    """As in the middle of a stream, which is not read on as long as its thread waits."""
    one = budget(10.0)
    stream = one.reserve(dollars(8))
    with pytest.raises(BudgetExceededError) as caught:
        one.reserve(dollars(3))
    assert str(caught.value).startswith(
        "$0.00 of the budget of $10.00 is spent, $8.00 is reserved, and the next request"
    )
    one.settle(stream, Spend(1.0, 1, 1))
    one.settle(one.reserve(dollars(3)), Spend())
    assert_empty(one)


def test_those_who_wait_for_each_other_are_refused_and_who_only_waits_is_not() -> None:
    one = budget(10.0)
    mine, together, all_wait = one.reserve(dollars(4)), threading.Barrier(2), threading.Event()
    refused: list[BudgetExceededError] = []

    def stream() -> None:
        theirs = one.reserve(dollars(4))
        together.wait(LONGEST_WAIT)
        all_wait.wait(LONGEST_WAIT)
        try:
            one.reserve(dollars(3))
        except BudgetExceededError as error:
            refused.append(error)
        one.settle(theirs, Spend())

    thread = threading.Thread(target=stream, daemon=True)
    thread.start()
    together.wait(LONGEST_WAIT)
    innocent = Waiter(one, dollars(9))
    all_wait.set()
    assert eventually(lambda: one.waiting == 2)
    with pytest.raises(BudgetExceededError):
        one.reserve(dollars(3))
    thread.join(LONGEST_WAIT)
    assert (len(refused), innocent.waits) == (1, True)
    one.settle(mine, Spend(1.0, 1, 1))
    assert innocent.ends() == "held"
    assert one.waiting == 0


def test_who_was_stopped_while_waiting_goes_on_with_his_stream_so_that_others_wait_for_it() -> None:
    one, cancel = budget(10.0), CancelToken()
    stream = one.reserve(dollars(8))
    blocker = Waiter(one, dollars(2))  # another thread's, else nobody need wait
    assert blocker.ends() == "held"
    cancel.stop()
    with pytest.raises(RequestCancelled):
        one.reserve(dollars(3), cancel)
    one.settle(blocker.reservation, Spend())
    waiter = Waiter(one, dollars(3))
    assert waiter.waits
    one.settle(stream, Spend(1.0, 1, 1))
    assert waiter.ends() == "held"
    one.settle(waiter.reservation, Spend())
    assert_empty(one)


def test_a_thread_is_not_taken_for_one_that_ended() -> None:
    """The system gives its id to the next."""
    one = budget(10.0)
    for _ in range(20):
        gone = Waiter(one, dollars(8))
        assert gone.ends() == "held"
        waiter = Waiter(one, dollars(8))
        assert waiter.waits
        one.settle(gone.reservation, Spend())
        assert waiter.ends() == "held"
        one.settle(waiter.reservation, Spend())


# --- what a request may take ------------------------------------------------------------------------------------------


def test_the_limit_of_a_reply_is_reserved_whatever_others_took() -> None:
    one = budget(100.0)
    one.settle(one.reserve(dollars(50)), Spend(1.0, 1, 1), output=1)
    assert one.reserve(dollars(50)).amount == Spend(50.0, 1, 50)


def test_a_reply_without_a_limit_is_expected_to_be_long_and_then_as_the_long_ones_were() -> None:
    one, demand = Budget(Limits(tokens=10**9)), Demand(prompt=10)
    first = one.reserve(demand)
    assert first.amount.tokens == 10 + FIRST_OUTPUT
    for length in range(1, 101):
        one.settle(one.reserve(demand), Spend(0.0, 1, 10 + length), output=length, prompt=10)
    assert one.reserve(demand).amount.tokens == 10 + 95


def test_who_waits_is_judged_by_what_is_known_when_it_is_his_turn() -> None:
    one, demand = Budget(Limits(tokens=5_000)), Demand(prompt=10)
    first = one.reserve(demand)
    second, third = Waiter(one, demand), Waiter(one, demand)
    one.settle(first, Spend(0.0, 1, 110), output=100, prompt=10)
    assert (second.ends(), third.ends()) == ("held", "held")
    assert one.reserved.tokens == 2 * 110


def test_where_nothing_is_known_and_little_is_left_one_request_goes_alone_to_find_out() -> None:
    one, demand = Budget(Limits(tokens=1_000)), Demand(prompt=10)
    scout = one.reserve(demand)
    others = [Waiter(one, demand) for _ in range(3)]
    assert all(other.waits for other in others)
    one.settle(scout, Spend(0.0, 1, 60), output=50, prompt=10)
    assert [other.ends() for other in others] == ["held"] * 3


def test_a_scout_whose_reply_tells_nothing_is_followed_by_another() -> None:
    one, demand = Budget(Limits(tokens=1_000)), Demand(prompt=10)
    scout = one.reserve(demand)
    second, third = Waiter(one, demand), Waiter(one, demand)
    one.settle(scout, Spend(0.0, 1, 0))
    assert (second.ends(), third.waits) == ("held", True)
    one.settle(second.reservation, Spend(0.0, 1, 0))
    assert third.ends() == "held"


@pytest.mark.parametrize("demand", [Demand(prompt=1_001), Demand(prompt=10, most=4_000)])
def test_no_scout_goes_whose_prompt_does_not_fit_or_who_says_how_long_his_reply_may_be(demand: Demand) -> None:
    with pytest.raises(BudgetExceededError):
        Budget(Limits(tokens=1_000)).reserve(demand)


def test_no_scout_goes_once_the_length_of_replies_is_known() -> None:
    one = Budget(Limits(tokens=1_000))
    one.settle(one.reserve(Demand(prompt=10)), Spend(0.0, 1, 800), output=790, prompt=10)
    with pytest.raises(BudgetExceededError):
        one.reserve(Demand(prompt=10))


def test_prompts_are_reserved_as_the_server_counts_them() -> None:
    one = Budget(Limits(tokens=10**6))
    one.settle(one.reserve(Demand(prompt=100, most=0)), Spend(0.0, 1, 150), output=0, prompt=150)
    assert one.reserve(Demand(prompt=1_000, most=0)).amount.tokens == 1_500


def test_a_request_for_several_answers_takes_as_many() -> None:
    one = Budget(Limits(tokens=10**6))
    assert one.reserve(Demand(prompt=10, most=100, replies=3)).amount.tokens == 310
    assert one.reserve(Demand(prompt=10, replies=2)).amount.tokens == 10 + 2 * FIRST_OUTPUT
    one.settle(one.reserve(Demand(prompt=10, replies=2)), Spend(), output=80, prompt=10)
    assert one.reserve(Demand(prompt=10, replies=3)).amount.tokens == 10 + 3 * 40


PRICE = Price(input=2.0, output=10.0, request=0.001, tiers=(Tier(above=100, input=4.0, output=20.0),))


@pytest.mark.parametrize(
    ("demand", "cost"),
    [
        (Demand(100, 50, PRICE), (100 * 2 + 50 * 10) / 1e6 + 0.001),
        (Demand(101, 50, PRICE), (101 * 4 + 50 * 20) / 1e6 + 0.001),
        (Demand(100, 50, PRICE, factor=2.0), 2 * (100 * 2 + 50 * 10) / 1e6 + 0.001),
        (Demand(100, 0, Price(input=2.0, output=10.0, cache_write=2.5)), 250e-6),
        (Demand(200, 0, Price(input=2.0, output=1.0, cache_write=2.5, tiers=PRICE.tiers)), 200 * 5e-6),
        (Demand(100, 0, Price(input=2.0, output=10.0, cache_write=1.0, cached_input=0.2)), 200e-6),
        (Demand(100, 10, Price(input=0.0, output=10.0, cache_write=1.0)), 100e-6),
    ],
)
def test_the_dearest_that_a_request_may_be_is_reserved(demand: Demand, cost: float) -> None:
    assert budget(1.0).reserve(demand).amount.dollars == pytest.approx(cost, abs=1e-15)


def request(**params: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": "How much is it?"}], "some-model", params)


def test_what_is_known_of_a_request() -> None:
    prompt = estimate_prompt_tokens(request())
    demands = Demands()
    for _ in range(2):
        assert demands.of(request(), None) == Demand(prompt)
        asked = request(max_completion_tokens=7, n=3, service_tier="flex")
        assert demands.of(asked, PRICE, "openai") == Demand(prompt, 7, PRICE, 0.5, 3)
        assert demands.of(asked, PRICE, "groq") == Demand(prompt, 7, PRICE, 1.0, 3)
        native = request(generationConfig={"candidateCount": 2, "maxOutputTokens": 9})
        assert demands.of(native, PRICE) == Demand(prompt, 9, PRICE, 1.0, 2)


@pytest.mark.parametrize("n", [0, 1, -1, True, None, "3", 2.0, [2]])
def test_what_is_no_number_of_answers_means_one(n: Any) -> None:
    assert Demands().of(request(n=n), None).replies == 1


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(1, 30), st.sampled_from([0.5, 0.95, 1.0]))
def test_the_high_mark_is_that_of_the_latest_values_sorted(values: list[int], window: int, share: float) -> None:
    mark = HighMark(share, window)
    for value in values:
        mark.seen(value)
    latest = sorted(values[-window:])
    assert mark.value == latest[math.ceil(share * len(latest)) - 1]
    assert sum(value <= mark.value for value in latest) >= share * len(latest)


# --- what people are told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "spent", "demand", "message"),
    [
        (
            Limits(dollars=1.0),
            Spend(0.987132, 5, 100),
            Demand(most=1, price=Price(input=0.0, output=0.02e6)),
            "$0.987132 of the budget of $1.00 is spent, and the next request, which may cost $0.02, was not sent; raise "
            "the limit with budget_limit, max_cost or --max-cost to go on",
        ),
        (
            Limits(dollars=1.0, requests=1_000),
            Spend(0.5, 1_000, 100),
            Demand(most=1, price=A_DOLLAR),
            "1,000 of 1,000 requests are sent, and the next request was not sent; raise the limit with max_requests or "
            "--max-requests to go on",
        ),
        (
            Limits(tokens=100_000),
            Spend(0.0, 1_000, 98_112),
            Demand(prompt=200, most=4_000),
            "98,112 of 100,000 tokens are used, and the next request, which may take 4,200, was not sent; raise the limit "
            "with max_tokens of CostTrackerConfig, max_total_tokens or --max-total-tokens to go on",
        ),
    ],
)
def test_a_refusal_says_what_is_spent_of_what_and_how_to_go_on(
    limits: Limits, spent: Spend, demand: Demand, message: str
) -> None:
    with pytest.raises(BudgetExceededError) as caught:
        Budget(limits, spent=spent).reserve(demand)
    assert str(caught.value) == message
    assert (caught.value.current_cost, caught.value.budget_limit) == (spent.dollars, limits.dollars or 0.0)


# --- garbage, Ctrl-C, forks -------------------------------------------------------------------------------------------


def test_a_refusal_leaves_nothing_for_the_garbage_collector() -> None:
    one, refused = budget(1.0), 0
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            try:
                one.reserve(dollars(2))
            except BudgetExceededError:
                refused += 1
        assert (refused, gc.collect()) == (3, 0)
    finally:
        gc.enable()


@pytest.mark.parametrize("point", ["expect", "room"])
def test_what_the_garbage_collector_settles_in_the_middle_of_a_decision_counts_in_it(point: str) -> None:
    """It may close a stream that nobody reads any more in a thread that is just deciding about others."""
    one = budget(20.0)
    forgotten = one.reserve(dollars(18))
    owner, name = (one._expectation, "expect") if point == "expect" else (one, "_has_room_for")
    decide = getattr(owner, name)

    def collecting(*told: Any) -> Any:
        delattr(owner, name)
        decided = decide(*told)
        one.settle(forgotten, Spend(1.0, 1, 1))
        return decided

    setattr(owner, name, collecting)
    assert Waiter(one, dollars(9)).ends() == "held"
    assert (one.spent, one.reserved, one.waiting) == (Spend(1.0, 1, 1), Spend(9.0, 1, 9), 0)


class CtrlC:
    """Raises KeyboardInterrupt at the n-th point within the budget at which Python looks for signals: the beginning of a
    Python function and the return of one in C."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __enter__(self) -> CtrlC:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    @property
    def struck(self) -> bool:
        return self._left < 0

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename == sys.modules[Budget.__module__].__file__ and event in ("call", "c_return"):
            self._left -= 1
            if self._left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


Scene = Callable[[Budget, Reservation], None]


def go_and_come_back(one: Budget, reservation: Reservation) -> None:
    one.enter(reservation)
    one.settle(reservation, Spend(1.0, 1, 1), output=1, prompt=1)


def be_refused(one: Budget, reservation: Reservation) -> None:
    one.add(Spend(5.0))
    with contextlib.suppress(BudgetExceededError):
        one.enter(reservation)
    one.reset()


def be_stopped(one: Budget, reservation: Reservation) -> None:
    cancel = CancelToken()
    cancel.stop()
    with contextlib.suppress(RequestCancelled):
        one.enter(reservation, cancel)


@pytest.mark.parametrize("scene", [go_and_come_back, be_refused, be_stopped])
def test_ctrl_c_at_any_call_leaves_nothing_reserved_and_nobody_behind(scene: Scene) -> None:
    for at in range(500):
        one, reservation = budget(10.0), Reservation(dollars(9))
        blocker = Waiter(one, dollars(5)) if scene is be_stopped else None  # so that it has to wait
        with CtrlC(at) as ctrl_c, contextlib.suppress(KeyboardInterrupt):
            scene(one, reservation)
        one.settle(reservation, Spend(1.0, 1, 1))  # as whoever is interrupted does
        if blocker is not None:
            one.settle(blocker.reservation, Spend())
        one.reset()
        assert_empty(one)
        one.settle(one.reserve(dollars(10)), Spend())
        if not ctrl_c.struck:
            break
    assert 10 < at < 499


def test_who_waits_is_let_in_though_ctrl_c_hits_the_one_who_settles() -> None:
    for at in range(500):
        one = budget(10.0)
        under_way = one.reserve(dollars(9))
        waiters = [Waiter(one, dollars(4)) for _ in range(2)]
        with CtrlC(at) as ctrl_c, contextlib.suppress(KeyboardInterrupt):
            one.settle(under_way, Spend(1.0, 1, 1))
        if at == 0:  # before it began
            one.settle(under_way, Spend(1.0, 1, 1))
        assert [waiter.ends() for waiter in waiters] == ["held", "held"], f"at point {at}"
        for waiter in waiters:
            one.settle(waiter.reservation, Spend(1.0, 1, 1))
        assert_empty(one)
        assert one.spent == Spend(3.0, 3, 3)
        if not ctrl_c.struck:
            break
    assert 10 < at < 499


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal sent to this very thread")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_wait_and_the_next_in_line_is_let_in() -> None:
    one, main, cancel = budget(10.0), threading.get_ident(), CancelToken()
    assert Waiter(one, dollars(5)).ends() == "held"
    behind: list[Waiter] = []

    def interrupt() -> None:
        assert eventually(lambda: one.waiting == 1)
        behind.append(Waiter(one, dollars(4)))
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        one.reserve(dollars(9), cancel)
    interrupter.join(LONGEST_WAIT)
    assert behind[0].ends() == "held"
    assert cancel._listeners == set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_on_by_itself_and_waits_for_nothing_of_the_parents() -> None:
    one = budget(10.0, spent=Spend(2.0))
    under_way = one.reserve(dollars(8))
    waiter = Waiter(one, dollars(3))
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with one._lock:
            locked.set()
            done.wait(LONGEST_WAIT)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert locked.wait(LONGEST_WAIT)
    child = os.fork()
    if not child:
        signal.alarm(10)
        try:
            one.settle(under_way, Spend(8.0, 1, 8))  # the parent's
            one.settle(one.reserve(dollars(7)), Spend(7.0, 1, 7))
        finally:  # also with an error: a child that goes on would run the other tests
            os._exit(42 if (one.spent, one.reserved, one.waiting) == (Spend(9.0, 1, 7), Spend(), 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    done.set()
    holder.join(LONGEST_WAIT)
    assert waiter.waits
    one.settle(under_way, Spend(1.0, 1, 1))
    assert waiter.ends() == "held"


# --- what is sent once more -------------------------------------------------------------------------------------------


def test_room_for_another_attempt_is_there_or_not_and_nobody_waits_for_it() -> None:
    of = Budget(Limits(requests=3))
    first, second = of.reserve(Demand()), of.reserve(Demand())
    assert of.extend(first, 0.0)
    assert not of.extend(second, 0.0)
    assert of.reserved.requests == 3
    of.settle(first, Spend(0.0, 1, 0))
    assert of.reserved.requests == 1
    assert of.extend(second, 0.0)
    of.settle(second, Spend(0.0, 2, 0))
    assert (of.spent.requests, of.reserved) == (3, Spend())


def test_what_an_attempt_was_billed_for_nothing_needs_room_beside_the_next() -> None:
    of = budget(3.0)
    one = of.reserve(dollars(2))
    assert of.extend(one, 1.0)
    assert not of.extend(one, 0.5)
    assert of.reserved == Spend(3.0, 2, 2)
    of.settle(one, Spend(3.0, 2, 2))
    assert (of.spent, of.reserved) == (Spend(3.0, 2, 2), Spend())


def test_a_second_request_beside_the_first_needs_room_for_as_much_again() -> None:
    of = budget(3.0)
    one = of.reserve(dollars(2))
    assert not of.extend(one)
    of.settle(one, Spend())
    assert not of.extend(one, 0.0), "it is settled"
    one = of.reserve(dollars(1))
    assert of.extend(one)
    assert of.reserved == Spend(2.0, 2, 2)
