"""What a tracker counts, when it warns, and what it limits."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import pytest
from fakes import LONGEST_WAIT

from flexllm.chat import ChatCompletionResult, Usage
from flexllm.cost.demand import Demand
from flexllm.cost.options import CostTrackerConfig, Limits
from flexllm.cost.spend import Spend
from flexllm.cost.tracker import CostTracker
from flexllm.errors import BudgetExceededError, ConfigError, InputError, PriceUnknown, ServerError
from flexllm.prices import ModelPrice, Price

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}
"""At the price below, $0.003."""


def prices(model: str) -> ModelPrice | None:
    """A price that changes at 500."""
    if model != "some-model":
        return None
    price = Price(input=2.0, output=10.0)
    return ModelPrice(model=model, price=price, changes=((500.0, Price(input=4.0, output=20.0)),))


def tracker(*args: Any, now: float = 0.0, spent: Spend | None = None, **config: Any) -> CostTracker:
    return CostTracker(CostTrackerConfig(*args, **config), spent=spent or Spend(), prices=prices, clock=lambda: now)


# --- its configuration ------------------------------------------------------------------------------------------------


def test_a_configuration_is_made_in_three_ways() -> None:
    assert CostTrackerConfig.disabled() == CostTrackerConfig(enabled=False)
    assert CostTrackerConfig.tracking_only() == CostTrackerConfig(True, None, None, None) == CostTrackerConfig()
    told = CostTrackerConfig.with_budget(5.0, 4.0, print)
    assert told == CostTrackerConfig(True, 5.0, 4.0, print)
    assert told == CostTrackerConfig.with_budget(limit=5.0, warning=4.0, on_warning=print)


def test_what_is_limited() -> None:
    assert not CostTrackerConfig.tracking_only().is_limited
    assert not CostTrackerConfig(budget_warning=1.0).is_limited
    assert CostTrackerConfig(budget_limit=0.0).limits == Limits(dollars=0.0)
    assert CostTrackerConfig(max_requests=3, max_tokens=5).limits == Limits(requests=3, tokens=5)
    assert not CostTrackerConfig(enabled=False, budget_limit=1.0).is_limited
    assert all(
        CostTrackerConfig(**one).is_limited for one in ({"budget_limit": 0}, {"max_requests": 1}, {"max_tokens": 1})
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"enabled": 1}, "enabled=1"),
        ({"budget_limit": -0.01}, "budget_limit=-0.01"),
        ({"budget_limit": "5"}, "budget_limit='5'"),
        ({"budget_limit": True}, "budget_limit=True"),
        ({"budget_limit": float("nan")}, "budget_limit=nan"),
        ({"budget_limit": float("inf")}, "budget_limit=inf"),
        ({"budget_warning": -1}, "budget_warning=-1"),
        ({"budget_limit": 1.0, "budget_warning": 2.0}, "would never come"),
        ({"on_budget_warning": print}, "without budget_warning"),
        ({"budget_warning": 1.0, "on_budget_warning": "print"}, "on_budget_warning='print'"),
        ({"max_requests": 0}, "max_requests=0"),
        ({"max_requests": 1.5}, "max_requests=1.5"),
        ({"max_tokens": -5}, "max_tokens=-5"),
        ({"max_tokens": True}, "max_tokens=True"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CostTrackerConfig(**options)
    assert told in str(caught.value)


def test_a_budget_of_none_is_none() -> None:
    with pytest.raises(ConfigError, match="tracking_only"):
        CostTrackerConfig.with_budget(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="CostTrackerConfig, not of type float"):
        CostTracker(5.0)  # type: ignore[arg-type]


# --- recording --------------------------------------------------------------------------------------------------------


def test_what_is_recorded_stands_in_the_report() -> None:
    one = tracker()
    assert one.enabled
    assert one.record(USAGE, "some-model") is True
    assert one.record({"prompt_tokens": 500, "completion_tokens": None}, "some-model") is True
    report = one.get_report()
    assert report.total_cost == pytest.approx(0.003 + 0.001, abs=1e-12)
    assert (report.total_input_tokens, report.total_output_tokens, report.request_count) == (1_500, 100, 2)
    assert report.model == "some-model"


def test_the_price_is_that_of_the_moment() -> None:
    one = tracker(now=500.0)
    one.record(USAGE, "some-model")
    assert one.get_report().total_cost == pytest.approx(0.006, abs=1e-12)


def test_the_servers_own_word_on_the_cost_wins() -> None:
    one = tracker()
    one.record({**USAGE, "cost": 0.5}, "nobody-knows-me")
    assert one.get_report().total_cost == 0.5


def test_no_usage_is_ignored_and_a_disabled_tracker_takes_everything() -> None:
    one = tracker()
    assert one.record(None, "some-model") is False
    assert one.get_report().request_count == 0
    off = tracker(enabled=False, budget_limit=0.0, max_requests=1)
    assert not off.enabled
    assert [off.record(USAGE, "nobody-knows-me") for _ in range(3)] == [True] * 3
    assert off.get_report().request_count == 0


@pytest.mark.parametrize("usage", [[1, 2], "1000", 3.5])
def test_what_is_no_usage_is_refused(usage: Any) -> None:
    with pytest.raises(InputError, match="usage must be a mapping"):
        tracker().record(usage, "some-model")


def test_an_unknown_price_is_counted_as_unknown_and_costs_nothing_known() -> None:
    one = tracker(max_requests=5)
    assert one.record(USAGE, "nobody-knows-me") is True
    report = one.get_report()
    assert (report.request_count, report.unpriced_requests, report.total_tokens) == (1, 1, 1_100)


def test_an_unknown_price_is_refused_by_a_budget_in_dollars() -> None:
    one = tracker(budget_limit=1.0)
    with pytest.raises(PriceUnknown, match="nobody-knows-me"):
        one.check_price("nobody-knows-me", None)
    one.check_price("some-model", prices("some-model"))
    tracker(max_tokens=5).check_price("nobody-knows-me", None)
    with pytest.raises(PriceUnknown):
        one.record(USAGE, "nobody-knows-me")
    assert one.get_report().request_count == 1, "it was bought all the same"


def test_more_than_the_budget_is_recorded_and_told() -> None:
    one = tracker(budget_limit=0.006)
    assert one.record(USAGE, "some-model")
    assert one.record(USAGE, "some-model"), "exactly as much is within it"
    with pytest.raises(BudgetExceededError) as caught:
        one.record(USAGE, "some-model")
    assert caught.value.current_cost == pytest.approx(0.009)
    assert caught.value.budget_limit == 0.006
    assert one.get_report().request_count == 3


@pytest.mark.parametrize("limits", [{"max_requests": 1}, {"max_tokens": 2_000}])
def test_other_limits_are_told_too(limits: dict[str, int]) -> None:
    one = tracker(**limits)
    assert one.record(USAGE, "nobody-knows-me")
    with pytest.raises(BudgetExceededError, match=r"2 of 1 requests are sent;|2,200 of 2,000 tokens are used;"):
        one.record(USAGE, "nobody-knows-me")


def test_earlier_runs_count_for_the_budget_and_not_in_the_report() -> None:
    one = tracker(budget_limit=1.0, spent=Spend(0.999, 5, 50))
    with pytest.raises(BudgetExceededError) as caught:
        one.record(USAGE, "some-model")
    assert caught.value.current_cost == pytest.approx(1.002)
    assert one.get_report().total_cost == pytest.approx(0.003)


def test_without_limits_there_is_no_budget() -> None:
    assert tracker().budget is None
    assert tracker(budget_warning=1.0).budget is None
    assert tracker(max_tokens=5).budget is not None


def test_reset_begins_anew() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(True, 0.007, 0.006, lambda *told: warnings.append(told))
    for _ in range(2):
        one.record(USAGE, "some-model")
        one.record(USAGE, "some-model")
        one.reset()
        assert one.get_report().request_count == 0
        assert one.budget is not None
        assert one.budget.spent == Spend()
    assert warnings == [(0.006, 0.006)] * 2


def test_answers_and_failures_of_a_client_are_counted() -> None:
    one = tracker()
    one.answered(ChatCompletionResult("yes", usage=Usage(USAGE), cost=0.5, attempts=2), "some-model")
    broken = ServerError("it broke off", status=500)
    broken.cost = 0.25
    one.failed(broken, "some-model")
    report = one.get_report()
    assert (report.total_cost, report.request_count, report.failed_requests) == (0.75, 1, 1)


def test_reset_forgets_what_earlier_runs_spent() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(True, 0.01, 0.006, lambda *told: warnings.append(told), spent=Spend(0.009))
    one.reset()
    one.record(USAGE, "some-model")
    assert warnings == []


# --- the warning ------------------------------------------------------------------------------------------------------


def test_the_warning_comes_once_when_its_threshold_is_reached() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(budget_warning=0.006, on_budget_warning=lambda *told: warnings.append(told))
    one.record(USAGE, "some-model")
    assert warnings == []
    for _ in range(3):
        one.record(USAGE, "some-model")
    assert warnings == [(pytest.approx(0.006), 0.006)]


def test_the_warning_comes_before_the_error_where_one_reply_passes_both() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(True, 0.002, 0.001, lambda *told: warnings.append(told))
    with pytest.raises(BudgetExceededError):
        one.record(USAGE, "some-model")
    assert len(warnings) == 1


def test_what_earlier_runs_spent_counts_for_the_warning() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(True, 2.0, 1.0, lambda *told: warnings.append(told), spent=Spend(0.998))
    one.record(USAGE, "some-model")
    assert warnings == [(pytest.approx(1.001), 1.0)]


def test_without_a_function_the_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tracker(budget_warning=0.001).record(USAGE, "some-model")
    assert [one.getMessage() for one in caplog.records] == [
        "$0.0030 is spent, which is past the warning threshold of $0.0010"
    ]


def test_an_error_of_the_warnings_function_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(cost: float, threshold: float) -> None:
        raise ValueError("no mail server")

    one = tracker(budget_warning=0.001, on_budget_warning=fail)
    assert one.record(USAGE, "some-model") is True
    assert [(record.levelno, record.exc_info is not None) for record in caplog.records] == [(logging.ERROR, True)]


def test_the_warnings_function_holds_no_lock() -> None:
    reports: list[Any] = []

    def ask_elsewhere(cost: float, threshold: float) -> None:
        def ask() -> None:
            reports.append(one.get_report())
            one.record(USAGE, "some-model")

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(LONGEST_WAIT)
        assert not thread.is_alive()

    one = tracker(budget_warning=0.001, on_budget_warning=ask_elsewhere, budget_limit=1.0)
    one.record(USAGE, "some-model")
    assert reports[0].request_count == 1
    assert one.get_report().request_count == 2


@pytest.mark.slow
def test_of_many_threads_one_warns_and_all_are_counted() -> None:
    warnings: list[tuple[float, float]] = []
    one = tracker(budget_warning=0.3, on_budget_warning=lambda *told: warnings.append(told), max_tokens=10**9)

    def work() -> None:
        for _ in range(50):
            one.record(USAGE, "some-model")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_WAIT)
    report = one.get_report()
    assert (report.request_count, report.total_tokens) == (400, 440_000)
    assert report.total_cost == pytest.approx(1.2)
    assert len(warnings) == 1
    assert one.budget is not None
    assert one.budget.spent.tokens == 440_000


# --- garbage and forks ------------------------------------------------------------------------------------------------


def test_what_the_garbage_collector_counts_in_the_middle_of_counting_is_counted() -> None:
    one = tracker(budget_warning=0.002, on_budget_warning=lambda *told: warnings.append(told))
    warnings: list[tuple[float, float]] = []
    answered = one._counter.answered
    result = ChatCompletionResult("", usage=Usage(USAGE), cost=0.001)

    def collecting(counted: ChatCompletionResult, model: str) -> None:
        one._counter.answered = answered  # type: ignore[method-assign]
        one.answered(result, "some-model")
        assert one._counter.cost is None, "not within the other"
        answered(counted, model)

    one._counter.answered = collecting  # type: ignore[method-assign]
    one.answered(result, "some-model")
    assert one.get_report().request_count == 2
    assert warnings == [(0.002, 0.002)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_on_though_the_parent_was_counting() -> None:
    one = tracker(budget_limit=1.0)
    one.record(USAGE, "some-model")
    assert one.budget is not None
    one.budget.reserve(Demand())
    with one._lock:
        one._is_counting = True  # as another thread of the parent's would leave it
        child = os.fork()
        if not child:
            signal.alarm(10)
            try:
                one.record(USAGE, "some-model")
            finally:  # also with an error: a child that goes on would run the other tests
                os._exit(40 + one.get_report().request_count)
        one._is_counting = False
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert one.get_report().request_count == 1
