"""What a run has cost, row after row: answers, cached ones, failures that were billed, and by whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.chat import ChatCompletionResult, Usage
from flexllm.cost import CostCounter, CostLine, Spend
from flexllm.errors import (
    AllEndpointsFailed,
    FlexLLMError,
    InputError,
    RateLimited,
    ReplyTruncated,
    RequestTimeout,
    SchemaMismatch,
)

HERE, THERE = "https://here.example/v1", "https://there.example/v1"


def usage(prompt: int, completion: int, **more: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, **more)


def answer(counted: Usage | None = None, **more: Any) -> ChatCompletionResult:
    return ChatCompletionResult("Hi", counted, **more)


def costing(error: FlexLLMError, cost: float) -> Any:
    error.cost = cost  # type: ignore[attr-defined]
    return error


def test_a_new_counter_knows_of_nothing() -> None:
    counter = CostCounter()
    assert counter.spend == Spend(0.0, 0, 0)
    assert (counter.cost, counter.is_priced, counter.unpriced, counter.estimated) == (None, False, 0, 0.0)
    report = counter.report()
    assert (report.total_cost, report.request_count, report.by_model, report.by_endpoint) == (0.0, 0, {}, {})


def test_answers_add_up_by_model_and_endpoint() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(100, 10), cost=0.5, cost_estimated=0.1, endpoint=HERE), "a")
    counter.answered(answer(usage(200, 20), cost=0.25, endpoint=THERE), "a")
    counter.answered(answer(usage(1, 2), cost=1.0, endpoint=HERE), "b")
    assert counter.spend == Spend(1.75, 3, 333)
    assert (counter.cost, counter.input_tokens, counter.output_tokens, counter.estimated) == (1.75, 301, 32, 0.1)
    report = counter.report()
    assert report.by_model == {"a": CostLine(0.75, 2, 300, 30), "b": CostLine(1.0, 1, 1, 2)}
    assert report.by_endpoint == {HERE: CostLine(1.5, 2, 101, 12), THERE: CostLine(0.25, 1, 200, 20)}
    assert (report.total_cost, report.estimated_cost, report.request_count) == (1.75, 0.1, 3)
    assert (report.total_input_tokens, report.total_output_tokens) == (301, 32)


def test_tokens_of_every_kind_are_counted() -> None:
    counter = CostCounter()
    for _ in range(2):
        counter.answered(answer(usage(100, 10, cached_tokens=60, cache_write_tokens=30, reasoning_tokens=7)), "a")
    report = counter.report()
    assert (report.cached_tokens, report.cache_write_tokens, report.reasoning_tokens) == (120, 60, 14)


def test_an_answer_from_the_cache_buys_nothing() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(100, 10), cached=True, cost=0.0, attempts=0, endpoint=HERE), "a")
    assert counter.spend == Spend(0.0, 0, 0)
    assert not counter.is_priced  # which says nothing of the model's price
    report = counter.report()
    assert (report.cached_requests, report.request_count, report.total_tokens) == (1, 0, 0)
    assert (report.by_model, report.by_endpoint) == ({}, {})


def test_an_unknown_price_is_counted_and_is_not_zero() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(100, 10), cost=None, endpoint=HERE), "mine")
    assert (counter.cost, counter.is_priced, counter.unpriced) == (None, False, 1)
    report = counter.report()
    assert report.unpriced_requests == 1
    assert report.by_model == {"mine": CostLine(None, 1, 100, 10, 1)}


def test_a_price_of_nothing_is_known() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(100, 10), cost=0.0), "free")
    assert (counter.cost, counter.is_priced, counter.unpriced) == (0.0, True, 0)
    assert counter.report().by_model == {"free": CostLine(0.0, 1, 100, 10)}


def test_one_line_may_be_priced_in_part() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(1, 1), cost=0.5), "a")
    counter.answered(answer(usage(1, 1), cost=None), "a")
    assert counter.report().by_model == {"a": CostLine(0.5, 2, 2, 2, 1)}
    assert counter.cost == 0.5


def test_retries_and_hedged_requests_are_requests_and_hedged_ones_took_tokens_again() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(100, 10, cached_tokens=5), cost=0.3, attempts=4, hedged=2), "a")
    assert counter.spend == Spend(0.3, 4, 330)
    report = counter.report()
    assert (report.request_count, report.cached_tokens) == (1, 15)
    assert report.by_model == {"a": CostLine(0.3, 1, 300, 30)}


@pytest.mark.parametrize("counted", [None, Usage()])
def test_an_answer_without_usage_is_an_answer(counted: Usage | None) -> None:
    counter = CostCounter()
    counter.answered(answer(counted, cost=0.5, cost_estimated=0.5), "a")
    assert counter.spend == Spend(0.5, 1, 0)
    assert counter.report().request_count == 1


def test_an_answer_of_an_unknown_endpoint_makes_no_line_of_its_own() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(1, 1), cost=0.5, endpoint=None), "a")
    assert counter.report().by_endpoint == {}


def test_odd_counts_of_a_file_do_no_harm() -> None:
    counter = CostCounter()
    counter.answered(answer(Usage(prompt_tokens=None, completion_tokens="12", cached_tokens=-3)), "a")
    assert (counter.input_tokens, counter.output_tokens, counter.report().cached_tokens) == (0, 12, 0)


def test_a_failure_costs_what_its_attempts_were_billed() -> None:
    counter = CostCounter()
    counter.failed(costing(RequestTimeout("late", endpoint=HERE, attempts=3), 0.25), "a")
    assert counter.spend == Spend(0.25, 3, 0)
    assert (counter.cost, counter.is_priced, counter.estimated) == (0.25, True, 0.25)
    report = counter.report()
    assert (report.failed_requests, report.request_count, report.total_cost) == (1, 0, 0.25)
    assert report.by_model == {"a": CostLine(0.25, 0, 0, 0)}
    assert report.by_endpoint == {HERE: CostLine(0.25, 0, 0, 0)}


def test_a_failure_that_was_not_billed_makes_no_line() -> None:
    counter = CostCounter()
    counter.failed(RateLimited("slow", status=429, attempts=2, endpoint=HERE), "a")
    counter.failed(InputError("no request at all"), "a")
    assert counter.spend == Spend(0.0, 2, 0)
    assert not counter.is_priced
    report = counter.report()
    assert (report.failed_requests, report.by_model, report.by_endpoint) == (2, {}, {})


def test_a_rejected_reply_is_bought_with_its_tokens_and_no_estimate() -> None:
    counter = CostCounter()
    error = SchemaMismatch("no JSON", content="Hi", usage=usage(100, 10, reasoning_tokens=3), endpoint=HERE)
    counter.failed(costing(error, 0.5), "a")
    assert counter.spend == Spend(0.5, 1, 110)
    assert counter.estimated == 0.0
    report = counter.report()
    assert (report.failed_requests, report.reasoning_tokens) == (1, 3)
    assert report.by_endpoint == {HERE: CostLine(0.5, 0, 100, 10)}


def test_of_a_pool_each_rejected_reply_counts_and_the_rest_of_the_cost_is_an_estimate() -> None:
    counter = CostCounter()
    errors = [
        costing(ReplyTruncated("cut", usage=usage(100, 10)), 0.25),
        costing(RequestTimeout("late"), 0.125),
        ReplyTruncated("cut", usage=None),
    ]
    counter.failed(costing(AllEndpointsFailed("all", errors=errors, attempts=3), 0.375), "a")
    assert counter.spend == Spend(0.375, 3, 110)
    assert counter.estimated == 0.125
    assert counter.report().by_model == {"a": CostLine(0.375, 0, 100, 10)}


def test_a_report_names_the_model_if_there_is_one_alone() -> None:
    counter = CostCounter()
    counter.answered(answer(cost=0.5), "a")
    assert counter.report().model == "a"
    assert counter.report("called so").model == "called so"
    counter.answered(answer(cost=0.5), "b")
    assert counter.report().model == ""


def test_a_report_stays_as_it_was_while_the_counter_goes_on() -> None:
    counter = CostCounter()
    counter.answered(answer(usage(1, 1), cost=0.5), "a")
    report = counter.report(price_date="2026-11-22")
    counter.answered(answer(usage(1, 1), cost=0.5), "a")
    assert (report.total_cost, report.by_model) == (0.5, {"a": CostLine(0.5, 1, 1, 1)})
    assert report.price_date == "2026-11-22"


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([HERE, THERE]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.none() | st.integers(0, 1000),
        st.sampled_from(["answered", "cached", "failed", "rejected"]),
    )
)


@given(ROWS)
def test_the_lines_add_up_to_the_whole(rows: list[tuple[str, str, int, int, int | None, str]]) -> None:
    counter = CostCounter()
    for model, endpoint, prompt, completion, cost, kind in rows:
        counted = usage(prompt, completion)
        if kind == "failed":
            counter.failed(costing(RequestTimeout("t", endpoint=endpoint), cost or 0), model)
        elif kind == "rejected":
            counter.failed(costing(SchemaMismatch("s", usage=counted, endpoint=endpoint), cost or 0), model)
        else:
            known = 0.0 if kind == "cached" else cost
            counter.answered(answer(counted, cost=known, cached=kind == "cached", endpoint=endpoint), model)
    report = counter.report()
    for lines in (report.by_model.values(), report.by_endpoint.values()):
        assert sum(line.cost or 0 for line in lines) == report.total_cost == counter.spend.dollars
        assert sum(line.requests for line in lines) == report.request_count
        assert sum(line.input_tokens for line in lines) == report.total_input_tokens
        assert sum(line.output_tokens for line in lines) == report.total_output_tokens
        assert sum(line.unpriced_requests for line in lines) == report.unpriced_requests == counter.unpriced
    assert report.request_count + report.cached_requests + report.failed_requests == len(rows)
    assert counter.spend.tokens == report.total_tokens
