"""A backend that is metered: what is reserved before a request is sent, and what is settled and counted after it."""

from __future__ import annotations

import contextlib
import gc
import inspect
import random
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from fakes import LONGEST_WAIT, Answer, FakeBackend, eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.backends.base import Leave
from flexllm.backends.metered import MeteredBackend
from flexllm.backends.structured import StructuredBackend
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk, Usage
from flexllm.cost.budget import Budget
from flexllm.cost.demand import Demand
from flexllm.cost.options import CostTrackerConfig
from flexllm.cost.report import CostReport
from flexllm.cost.spend import Spend
from flexllm.cost.tracker import CostTracker
from flexllm.errors import (
    AllEndpointsFailed,
    BudgetExceededError,
    ConfigError,
    InputError,
    PriceUnknown,
    RequestCancelled,
    ServerError,
    StreamBroken,
)
from flexllm.prices import ModelPrice, Price
from flexllm.replies import ReplyPolicy
from flexllm.tokens import estimate_prompt_tokens

PRICE = ModelPrice(model="some-model", price=Price(input=1.0, output=0.01e6))
"""A cent for each token of a reply, next to nothing for the prompt."""

REQUEST = ChatRequest([{"role": "user", "content": "How much is it?"}], "some-model", {"max_tokens": 10})
PROMPT = estimate_prompt_tokens(REQUEST)


def price_of(model: str) -> ModelPrice | None:
    return PRICE if model == "some-model" else None


def reply(output: int, cost: float | None = None, **more: Any) -> ChatCompletionResult:
    usage = Usage(prompt_tokens=PROMPT, completion_tokens=output, total_tokens=PROMPT + output)
    return ChatCompletionResult("yes", usage=usage, cost=output / 100 if cost is None else cost, **more)


def tracker(**limits: Any) -> CostTracker:
    return CostTracker(CostTrackerConfig(**limits))


def budget_of(one: CostTracker) -> Budget:
    assert one.budget is not None
    return one.budget


def metered(*answers: Answer, trackers: list[CostTracker], **options: Any) -> tuple[MeteredBackend, FakeBackend]:
    below = FakeBackend(*answers)
    return MeteredBackend(below, trackers, options.pop("price_of", price_of), clock=lambda: 0.0, **options), below


def seen(one: CostTracker) -> tuple[Spend, Spend, CostReport]:
    """What is spent, what is reserved, and the report."""
    budget = budget_of(one)
    return Spend(round(budget.spent.dollars, 9), *budget.spent[1:]), budget.reserved, one.get_report()


# --- one request ------------------------------------------------------------------------------------------------------


def test_an_answer_is_settled_at_what_it_cost() -> None:
    one = tracker(budget_limit=1.0)
    during: list[Spend] = []

    def look(request: ChatRequest) -> ChatCompletionResult:
        during.append(budget_of(one).reserved)
        return reply(3, attempts=2)

    backend, _ = metered(look, trackers=[one])
    assert backend.complete(REQUEST).usage == reply(3).usage
    assert during == [Spend(pytest.approx(0.1 + PROMPT / 1e6), 1, PROMPT + 10)]
    spent, reserved, report = seen(one)
    assert (spent, reserved) == (Spend(0.03, 2, PROMPT + 3), Spend())
    assert (report.total_cost, report.request_count, report.model) == (0.03, 1, "some-model")


def test_a_hedged_answer_counts_the_tokens_of_both() -> None:
    one = tracker(max_tokens=10_000)
    metered(reply(3, 0.06, attempts=2, hedged=1), trackers=[one])[0].complete(REQUEST)
    assert seen(one)[0] == Spend(0.06, 2, 2 * (PROMPT + 3))


def test_an_answer_from_a_cache_below_takes_nothing() -> None:
    one = tracker(budget_limit=1.0)
    metered(reply(3, 0.0, cached=True, attempts=0), trackers=[one])[0].complete(REQUEST)
    spent, reserved, report = seen(one)
    assert (spent, reserved, report.cached_requests) == (Spend(), Spend(), 1)


@pytest.mark.parametrize("usage", [None, Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)])
def test_an_answer_that_the_server_did_not_count_is_estimated(usage: Usage | None) -> None:
    one = tracker(max_tokens=10_000)
    answer = ChatCompletionResult("x" * 36, usage=usage, reasoning_content="ß" * 2, cost=0.5)
    metered(answer, trackers=[one])[0].complete(REQUEST)
    assert seen(one)[0] == Spend(0.5, 1, PROMPT + 10)


def test_an_answer_without_a_cost_is_billed_here_where_there_is_a_budget_in_dollars() -> None:
    one = tracker(budget_limit=1.0)
    answer = ChatCompletionResult("yes", usage=reply(5).usage)
    metered(answer, trackers=[one])[0].complete(REQUEST)
    assert seen(one)[0] == Spend(round(0.05 + PROMPT / 1e6, 9), 1, PROMPT + 5)


def test_what_does_not_fit_is_not_sent() -> None:
    one = tracker(budget_limit=0.15)
    backend, below = metered(reply(9), trackers=[one])
    backend.complete(REQUEST)
    with pytest.raises(BudgetExceededError) as caught:
        backend.complete(REQUEST)
    assert len(below.requests) == 1
    assert (caught.value.current_cost, caught.value.budget_limit) == (0.09, 0.15)
    assert seen(one)[:2] == (Spend(0.09, 1, PROMPT + 9), Spend())
    assert one.get_report().failed_requests == 0


def test_an_unknown_price_is_refused_before_anything_is_sent_where_dollars_are_limited() -> None:
    one = tracker(budget_limit=1.0)
    backend, below = metered(trackers=[one])
    unknown = ChatRequest(REQUEST.messages, "nobody-knows-me")
    with pytest.raises(PriceUnknown, match="nobody-knows-me"):
        backend.complete(unknown)
    with pytest.raises(PriceUnknown):
        next(iter(backend.stream(unknown)))
    assert (below.requests, seen(one)[:2]) == ([], (Spend(), Spend()))


def test_an_unknown_price_is_no_matter_where_dollars_are_not_limited() -> None:
    one, other = tracker(max_requests=5, max_tokens=10_000), tracker()
    answer = ChatCompletionResult("yes", usage=reply(5).usage)
    metered(answer, trackers=[one, other])[0].complete(ChatRequest(REQUEST.messages, "nobody-knows-me"))
    assert seen(one)[0] == Spend(0.0, 1, PROMPT + 5)
    assert other.get_report().unpriced_requests == 1


def test_a_price_is_looked_for_once_for_each_model() -> None:
    asked: list[str] = []

    def find(model: str) -> ModelPrice | None:
        asked.append(model)
        return price_of(model)

    backend, _ = metered(reply(1), trackers=[tracker(budget_limit=1.0)], price_of=find)
    for _ in range(3):
        backend.complete(REQUEST)
        with contextlib.suppress(PriceUnknown):
            backend.complete(ChatRequest(REQUEST.messages, "nobody-knows-me"))
    assert asked == ["some-model", "nobody-knows-me"]


def test_a_tracker_that_is_off_or_given_twice_counts_nothing_or_once() -> None:
    off, one = tracker(enabled=False, max_requests=1), tracker(max_requests=5)
    backend, _ = metered(reply(1), trackers=[off, one, one])
    backend.complete(REQUEST)
    backend.complete(REQUEST)
    assert off.get_report().request_count == 0
    assert (budget_of(one).spent.requests, one.get_report().request_count) == (2, 2)


def test_the_rest_of_the_face_is_that_of_the_backend_below() -> None:
    backend, below = metered(trackers=[tracker()])
    assert (backend.models(), backend.health()) == (["some-model"], below.health())
    backend.close()
    assert below.closed


# --- several trackers -------------------------------------------------------------------------------------------------


def test_every_tracker_has_its_share_and_one_that_refuses_leaves_nothing_in_the_others() -> None:
    rich, poor = tracker(budget_limit=100.0), tracker(budget_limit=0.15)
    backend, below = metered(reply(9), trackers=[rich, poor])
    backend.complete(REQUEST)
    with pytest.raises(BudgetExceededError):
        backend.complete(REQUEST)
    assert len(below.requests) == 1
    assert seen(rich)[:2] == seen(poor)[:2] == (Spend(0.09, 1, PROMPT + 9), Spend())


def test_two_clients_that_name_the_same_trackers_in_another_order_do_not_block_each_other() -> None:
    one, other = tracker(max_requests=1000), tracker(max_requests=1000)
    assert metered(trackers=[one, other])[0].budgets == metered(trackers=[other, one])[0].budgets


# --- failures ---------------------------------------------------------------------------------------------------------


def costing(error: Exception, cost: float) -> Exception:
    error.cost = cost  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "spent", "failed"),
    [
        (ServerError("x", status=500, attempts=4), Spend(0.0, 4, 0), 1),
        (costing(ServerError("x", status=500, attempts=4), 0.2), Spend(0.2, 4, PROMPT), 1),
        (costing(AllEndpointsFailed("x", attempts=3), 0.3), Spend(0.3, 3, PROMPT), 1),
        (RequestCancelled("x", attempts=0), Spend(), 0),
        (costing(RequestCancelled("x", attempts=1), 0.1), Spend(0.1, 1, PROMPT), 1),
        (InputError("x"), Spend(), 0),
        (ConfigError("x"), Spend(), 0),
    ],
)
def test_a_failure_is_settled_at_what_it_was_billed(error: Exception, spent: Spend, failed: int) -> None:
    one = tracker(budget_limit=1.0)
    with pytest.raises(type(error)) as caught:
        metered(error, trackers=[one])[0].complete(REQUEST)
    assert caught.value is error
    assert seen(one)[:2] == (spent, Spend())
    report = one.get_report()
    assert (report.failed_requests, report.total_cost) == (failed, spent.dollars)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), KeyError("a defect")])
def test_what_is_interrupted_on_the_wire_is_counted_with_its_prompt(error: BaseException) -> None:
    one = tracker(budget_limit=1.0)

    def interrupt(request: ChatRequest) -> Answer:
        raise error

    with pytest.raises(type(error)):
        metered(interrupt, trackers=[one])[0].complete(REQUEST)
    assert seen(one)[:2] == (Spend(PROMPT / 1e6, 1, PROMPT), Spend())


def test_a_stop_while_it_waits_for_room_sends_nothing() -> None:
    one, cancel = tracker(budget_limit=0.15), CancelToken()
    held = threading.Event()

    def hold(request: ChatRequest) -> ChatCompletionResult:
        held.wait(LONGEST_WAIT)
        return reply(1)

    backend, below = metered(hold, trackers=[one])
    first = threading.Thread(target=backend.complete, args=(REQUEST,), daemon=True)
    first.start()
    assert eventually(lambda: len(below.requests) == 1)
    errors: list[RequestCancelled] = []

    def wait() -> None:
        try:
            backend.complete(REQUEST, cancel)
        except RequestCancelled as error:
            errors.append(error)

    second = threading.Thread(target=wait, daemon=True)
    second.start()
    assert eventually(lambda: budget_of(one).waiting == 1)
    cancel.stop()
    second.join(LONGEST_WAIT)
    held.set()
    first.join(LONGEST_WAIT)
    assert ([error.attempts for error in errors], len(below.requests)) == ([0], 1)
    assert seen(one)[:2] == (Spend(0.01, 1, PROMPT + 1), Spend())
    assert one.get_report().failed_requests == 0


class Repeating(FakeBackend):
    """Asks whether it may send what it is asked again, and again, and keeps what it is told."""

    def __init__(self, *lost: float | None) -> None:
        super().__init__()
        self._lost = lost
        self.allowed: list[bool] = []

    def complete(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> ChatCompletionResult:
        assert leave is not None
        self.allowed = [leave.beside() if lost is None else leave.again(lost) for lost in self._lost]
        return reply(1, attempts=1 + sum(self.allowed))


@pytest.mark.parametrize(
    ("limits", "lost", "allowed"),
    [
        ({"max_requests": 2}, (0.0, 0.0), [True, False]),
        ({"max_requests": 2}, (None, 0.0), [True, False]),
        ({"budget_limit": 0.35}, (0.2, 0.2, 0.01), [True, False, True]),
        ({"budget_limit": 0.25}, (None, None), [True, False]),
        ({"max_tokens": 3 * PROMPT + 25}, (None, None), [True, False]),
    ],
)
def test_every_budget_has_a_say_in_what_is_sent_once_more(
    limits: dict[str, Any], lost: tuple[float | None, ...], allowed: list[bool]
) -> None:
    wide, narrow = tracker(max_requests=100), tracker(**limits)
    below = Repeating(*lost)
    MeteredBackend(below, [wide, narrow], price_of, clock=lambda: 0.0).complete(REQUEST)
    assert below.allowed == allowed
    assert seen(narrow)[:2] == (Spend(0.01, 1 + sum(allowed), PROMPT + 1), Spend())
    assert budget_of(wide).reserved == Spend()


def test_a_second_request_for_one_row_is_reserved_and_settled_by_itself() -> None:
    one = tracker(budget_limit=1.0)
    backend, below = metered(reply(10, finish_reason="length"), reply(15), trackers=[one])
    StructuredBackend(backend, policy=ReplyPolicy(on_truncated="retry")).complete(REQUEST)
    assert [request.params["max_tokens"] for request in below.requests] == [10, 20]
    assert seen(one)[:2] == (Spend(0.25, 2, 2 * PROMPT + 25), Spend())


def test_a_second_request_that_does_not_fit_leaves_the_first_answer() -> None:
    one = tracker(budget_limit=0.25)
    backend, below = metered(reply(10, finish_reason="length"), trackers=[one])
    result = StructuredBackend(backend, policy=ReplyPolicy(on_truncated="retry")).complete(REQUEST)
    assert (result.finish_reason, len(below.requests)) == ("length", 1)
    assert seen(one)[:2] == (Spend(0.1, 1, PROMPT + 10), Spend())


# --- streams ----------------------------------------------------------------------------------------------------------


class Streaming(FakeBackend):
    """Gives pieces, then whatever it was made with: a whole answer, an error or nothing."""

    def __init__(self, *end: ChatCompletionResult | BaseException, usage: Usage | None = None) -> None:
        super().__init__()
        self._end = end
        self._usage = usage
        self.closed_streams = 0

    def stream(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        try:
            yield Chunk(content="four", usage=self._usage)
            yield Chunk(content="four" * 4)
            for end in self._end:
                if isinstance(end, BaseException):
                    raise end
                yield end
        finally:
            self.closed_streams += 1


def streamed(below: Streaming, one: CostTracker) -> Iterator[Chunk | ChatCompletionResult]:
    return MeteredBackend(below, [one], price_of, clock=lambda: 0.0).stream(REQUEST)


ARRIVED = Spend(round(0.05 + PROMPT / 1e6, 9), 1, PROMPT + 5)
"""20 bytes of a reply."""


def test_a_stream_is_settled_when_its_whole_has_come_before_that_is_handed_on() -> None:
    one = tracker(budget_limit=1.0)
    pieces = streamed(Streaming(reply(3)), one)
    assert budget_of(one).reserved == Spend(), "nothing happens before the first piece is asked for"
    next(pieces)
    assert budget_of(one).reserved.requests == 1
    next(pieces)
    assert isinstance(next(pieces), ChatCompletionResult)
    assert seen(one)[:2] == (Spend(0.03, 1, PROMPT + 3), Spend())
    pieces.close()  # type: ignore[attr-defined]
    assert seen(one)[0] == Spend(0.03, 1, PROMPT + 3)
    assert one.get_report().request_count == 1


def test_a_stream_that_is_read_to_its_end_is_counted_once() -> None:
    one = tracker(budget_limit=1.0)
    assert len(list(streamed(Streaming(reply(3)), one))) == 3
    assert seen(one)[:2] == (Spend(0.03, 1, PROMPT + 3), Spend())
    assert one.get_report().request_count == 1


def test_what_arrived_of_a_stream_that_is_left_counts() -> None:
    one, below = tracker(budget_limit=1.0), Streaming(reply(3))
    pieces = streamed(below, one)
    assert [next(pieces).content, next(pieces).content] == ["four", "four" * 4]
    pieces.close()  # type: ignore[attr-defined]
    assert below.closed_streams == 1
    assert seen(one)[:2] == (ARRIVED, Spend())
    report = one.get_report()
    assert (report.request_count, report.failed_requests) == (1, 0)
    assert report.estimated_cost == pytest.approx(ARRIVED.dollars)


def test_a_stream_that_is_forgotten_is_settled_by_the_garbage_collector() -> None:
    one = tracker(budget_limit=1.0)
    pieces = streamed(Streaming(reply(3)), one)
    next(pieces)
    ring: list[Any] = [pieces]
    ring.append(ring)
    del pieces, ring
    gc.collect()
    assert budget_of(one).reserved == Spend()
    assert budget_of(one).spent.requests == 1


def test_what_a_stream_said_of_its_usage_before_it_was_left_is_believed() -> None:
    one = tracker(budget_limit=1.0)
    pieces = streamed(Streaming(usage=reply(2).usage), one)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    spent, _, report = seen(one)
    assert spent == Spend(round(0.02 + PROMPT / 1e6, 9), 1, PROMPT + 2)
    assert report.total_output_tokens == 2


def test_a_stream_that_breaks_is_settled_at_what_it_was_billed() -> None:
    one = tracker(budget_limit=1.0)
    arrived = ChatCompletionResult("x" * 20)
    error = costing(StreamBroken("x", partial="x" * 20, result=arrived, attempts=1), 0.07)
    with pytest.raises(StreamBroken):
        list(streamed(Streaming(error), one))
    assert seen(one)[:2] == (Spend(0.07, 1, PROMPT + 5), Spend())
    assert (one.get_report().failed_requests, one.get_report().total_cost) == (1, 0.07)


def test_a_stream_that_is_interrupted_counts_what_arrived() -> None:
    one = tracker(budget_limit=1.0)
    with pytest.raises(KeyboardInterrupt):
        list(streamed(Streaming(KeyboardInterrupt()), one))
    assert seen(one)[:2] == (ARRIVED, Spend())
    assert one.get_report().failed_requests == 1


def test_a_stream_without_a_whole_counts_what_arrived() -> None:
    one = tracker(budget_limit=1.0)
    assert len(list(streamed(Streaming(), one))) == 2
    assert seen(one)[:2] == (ARRIVED, Spend())


def test_a_stream_that_does_not_fit_is_not_sent() -> None:
    one, below = tracker(budget_limit=0.05), Streaming(reply(3))
    with pytest.raises(BudgetExceededError):
        next(streamed(below, one))
    assert below.closed_streams == 0


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


class CtrlC:
    """Raises KeyboardInterrupt at the n-th point in the backend, the budget or the tracker at which Python looks for
    signals: the beginning of a Python function and the return of one in C."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._files = {sys.modules[one.__module__].__file__ for one in (MeteredBackend, Budget, CostTracker)}

    def __enter__(self) -> CtrlC:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    @property
    def struck(self) -> bool:
        return self._left < 0

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        if sys.version_info < (3, 11) and event == "call" and frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # what is raised there ends a generator without its `finally`, as no signal does
        if frame.f_code.co_filename in self._files and event in ("call", "c_return"):
            self._left -= 1
            if self._left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("answer", [reply(3), ServerError("x", status=500)])
def test_ctrl_c_at_any_call_leaves_nothing_reserved(answer: Answer, is_streamed: bool) -> None:
    for at in range(1000):
        first, second = tracker(budget_limit=1.0), tracker(max_tokens=1000)
        backend, _ = metered(answer, trackers=[first, second])
        with CtrlC(at) as ctrl_c, contextlib.suppress(KeyboardInterrupt, ServerError):
            if is_streamed:
                list(backend.stream(REQUEST))
            else:
                backend.complete(REQUEST)
        for one in (first, second):
            assert (budget_of(one).reserved, budget_of(one).waiting) == (Spend(), 0), f"at point {at}"
            assert budget_of(one).spent.requests <= 1
            budget_of(one).settle(budget_of(one).reserve(Demand()), Spend())
            one.failed(ServerError("x", status=500), "some-model")
            assert not one._notes
        if not ctrl_c.struck:
            break
    assert 30 < at < 999


# --- many threads -----------------------------------------------------------------------------------------------------


def in_threads(work: Callable[[int], object], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONGEST_WAIT)
    assert not any(thread.is_alive() for thread in threads), "it waits for ever"


@pytest.mark.slow
def test_a_dollar_among_64_threads_is_spent_to_within_one_row() -> None:
    """Rows that may cost 2 cents by their `max_tokens`, and cost anything up to that."""
    one, chance, lock = tracker(budget_limit=1.0), random.Random(7), threading.Lock()
    request = ChatRequest(REQUEST.messages, "some-model", {"max_tokens": 200})
    price = ModelPrice(model="some-model", price=Price(input=0.0, output=100.0))

    def answer(asked: ChatRequest) -> ChatCompletionResult:
        with lock:
            output = chance.randint(1, 200)
        return reply(output, output / 10_000)

    backend, below = metered(answer, trackers=[one], price_of=lambda model: price)
    refused: list[int] = []

    def work(number: int) -> None:
        try:
            while True:
                backend.complete(request)
        except BudgetExceededError:
            refused.append(number)

    in_threads(work, 64)
    report = one.get_report()
    assert 0.98 < report.total_cost <= 1.0 + 1e-9
    assert (len(refused), report.request_count) == (64, len(below.requests))
    assert report.total_cost == pytest.approx(budget_of(one).spent.dollars)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 10**9), st.integers(1, 12), st.booleans())
def test_costs_are_whole_whatever_threads_meet(seed: int, threads: int, by_tokens: bool) -> None:
    """Answers, failures, streams that are left, stops: what was billed is what is counted, and nobody waits for ever."""
    first = tracker(budget_limit=0.6)
    second = tracker(max_tokens=40 * (PROMPT + 5)) if by_tokens else tracker(max_requests=40)
    chances = threading.local()
    billed: list[float] = []

    def answer(request: ChatRequest) -> Answer:
        chance: random.Random = chances.one
        cost = chance.randint(0, 10) / 100
        billed.append(cost)
        if chance.random() < 0.2:
            return costing(ServerError("x", status=500), cost)
        return reply(round(cost * 100), cost)

    backend, _ = metered(answer, trackers=[first, second])
    wanted = [FakeBackend.stream, FakeBackend.complete]

    def work(number: int) -> None:
        chance = chances.one = random.Random(seed + number)
        for _ in range(12):
            cancel = CancelToken()
            if chance.random() < 0.3:
                threading.Thread(target=cancel.stop, daemon=True).start()
            with contextlib.suppress(ServerError, RequestCancelled, BudgetExceededError):
                if chance.choice(wanted) is FakeBackend.stream:
                    list(backend.stream(REQUEST, cancel))
                else:
                    backend.complete(REQUEST, cancel)

    in_threads(work, threads)
    for one in (first, second):
        assert (budget_of(one).reserved, budget_of(one).waiting) == (Spend(), 0)
        assert budget_of(one).spent.dollars == pytest.approx(sum(billed))
        assert one.get_report().total_cost == pytest.approx(sum(billed))
    assert budget_of(first).spent.dollars <= 0.6 + 1e-9
    assert by_tokens or budget_of(second).spent.requests <= 40
