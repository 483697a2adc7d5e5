"""Hedging: who is sent once more, which answer counts, what is broken off, and that nothing stays behind.

Time is a fake clock's; the threads are real and meet at events.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import random
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import WatchClock

from flexllm.backends import hedge
from flexllm.backends.hedge import IDLE_SECONDS, Hedged, Hedging, Leg
from flexllm.cancel import CancelToken
from flexllm.errors import ConnectionFailed, Overloaded, RequestCancelled, RequestError, RequestTimeout, ServerError
from flexllm.limits.slowness import HedgePolicy

LONG = 60.0
"""Seconds that nothing takes unless a test fails."""


class Bench:
    """A hedging under a fake clock, and requests to run on it."""

    def __init__(self, **options: Any) -> None:
        self.clock = WatchClock()
        self.hedging = Hedging(HedgePolicy(**{"at_most": 1.0, **options}), clock=self.clock, wait=self.clock.wait)

    def quick(self, seconds: float = 1.0) -> Callable[[Leg], str]:
        """A request that is answered after so many seconds, if nobody else answers meanwhile."""

        def ask(leg: Leg) -> str:
            leg.sent()
            self.clock.advance(seconds)
            return "quick"

        return ask

    def warm(self, count: int = 20, seconds: float = 1.0) -> None:
        """Have seen `count` replies that took so long each."""
        for _ in range(count):
            self.run(self.quick(seconds))

    def run(
        self,
        first: Callable[[Leg], str],
        second: Callable[[Leg], str] | None = None,
        cancel: CancelToken | None = None,
    ) -> Hedged[str]:
        return self.hedging.run(first, lambda: second, cancel)

    def hanging(self, leg: Leg) -> str:
        """A request that gets no answer: two seconds pass, and it waits until it is broken off."""
        leg.sent()
        self.clock.advance(2.0)
        return broken_off(leg)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.hedging.close()


complaints: list[str] = []
"""What should not have happened in a second's thread, where an assertion counts as a request that failed."""


def broken_off(leg: CancelToken) -> str:
    """Wait as a transport does: until the token's breaker is called."""
    gone = threading.Event()
    leg.hold(gone.set)
    if not gone.wait(LONG):
        complaints.append("nobody broke it off")
    leg.release(gone.set)
    raise RequestCancelled("stopped while its reply was awaited")


def answering(leg: Leg) -> str:
    leg.sent()
    return "second"


def never(leg: Leg) -> str:
    complaints.append("this should not be asked")
    return "never"


def threads(name: str = "flexllm-hedge") -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    for thread in threads():
        thread.join(LONG)
    assert threads() == []
    found = complaints.copy()
    complaints.clear()
    assert found == []


def join_seconds() -> None:
    """Wait until every second has ended."""
    for thread in threads():
        if "watcher" not in thread.name:
            thread.join(LONG)


def test_a_request_that_answers_in_time_is_run_alone(bench: Bench) -> None:
    bench.warm()
    asked: list[threading.Thread] = []

    def ask(leg: Leg) -> str:
        asked.append(threading.current_thread())
        leg.sent()
        bench.clock.advance(0.9)
        return "first"

    hedged = bench.run(ask, never)
    assert asked == [threading.current_thread()]
    assert hedged == Hedged(answer="first", latency=pytest.approx(0.9), winner="first", requests=1, failed=None)


def test_no_thread_is_started_before_anything_can_be_slow(bench: Bench) -> None:
    bench.warm(19)
    assert threads() == []
    assert bench.hedging.patience is None
    bench.warm(1)
    assert bench.hedging.patience == 1.0


def test_nothing_is_hedged_before_enough_replies_were_seen(bench: Bench) -> None:
    bench.warm(19)
    assert bench.run(bench.quick(500.0), never).requests == 1


def test_a_request_sent_before_enough_replies_were_seen_is_hedged_once_they_were(bench: Bench) -> None:
    bench.warm(19)

    def first(leg: Leg) -> str:
        leg.sent()
        bench.warm(1)
        bench.clock.advance(1.0)
        return broken_off(leg)

    assert bench.run(first, answering).winner == "second"


def test_the_second_answers_first_and_the_first_is_broken_off(bench: Bench) -> None:
    bench.warm()
    legs: list[Leg] = []

    def first(leg: Leg) -> str:
        legs.append(leg)
        return bench.hanging(leg)

    def second(leg: Leg) -> str:
        legs.append(leg)
        leg.sent()
        bench.clock.advance(0.25)
        return "second"

    hedged = bench.run(first, second)
    assert hedged == Hedged(answer="second", latency=0.25, winner="second", requests=2, failed=None)
    assert [leg.aborted for leg in legs] == [True, False]


def test_the_first_answers_first_and_the_second_is_broken_off(bench: Bench) -> None:
    bench.warm()
    under_way, ended = threading.Event(), threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert under_way.wait(LONG)
        return "first"

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        try:
            return broken_off(leg)
        finally:
            ended.set()

    hedged = bench.run(first, second)
    assert hedged == Hedged(answer="first", latency=2.0, winner="first", requests=2, failed=None)
    assert ended.wait(LONG)


def test_a_first_that_answers_although_it_was_broken_off_comes_too_late(bench: Bench) -> None:
    bench.warm()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert leg.wait(LONG)
        return "first"

    hedged = bench.run(first, answering)
    assert (hedged.answer, hedged.winner, hedged.requests) == ("second", "second", 2)


def test_a_second_that_answers_although_it_was_broken_off_comes_too_late(bench: Bench) -> None:
    bench.warm()
    under_way = threading.Event()
    legs: list[Leg] = []

    def first(leg: Leg) -> str:
        legs.append(leg)
        leg.sent()
        bench.clock.advance(2.0)
        assert under_way.wait(LONG)
        return "first"

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        assert leg.wait(LONG)
        return "second"

    assert bench.run(first, second).answer == "first"
    join_seconds()
    assert not legs[0].aborted


def test_one_that_was_cut_off_counts_also_if_others_have_become_slower_meanwhile(bench: Bench) -> None:
    bench.warm(20)

    def second(leg: Leg) -> str:
        bench.hedging._slowness.patience = math.inf
        return answering(leg)

    for _ in range(2):  # so many new ones make for a new quantile
        bench.hedging._slowness.patience = 1.0
        assert bench.run(bench.hanging, second).winner == "second"
    assert bench.hedging.patience is not None


def test_a_request_is_slow_only_when_it_takes_longer_than_the_quantile(bench: Bench) -> None:
    for seconds in range(1, 101):
        bench.warm(1, float(seconds))
    patience = bench.hedging.patience
    assert patience is not None
    assert 90.0 <= patience <= 96.0
    asked = threading.Event()

    def second(leg: Leg) -> str:
        asked.set()
        return answering(leg)

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.until_asleep()
        bench.clock.advance(patience - 0.5)
        bench.clock.until_asleep()
        assert not asked.is_set()
        bench.clock.advance(0.5)
        return broken_off(leg)

    assert bench.run(first, second).winner == "second"


def test_time_at_the_gate_is_not_time_that_a_server_takes(bench: Bench) -> None:
    bench.warm()

    def first(leg: Leg) -> str:
        bench.clock.advance(100.0)
        leg.sent()
        bench.clock.advance(0.5)
        leg.sent()  # the first time counts
        return "first"

    hedged = bench.run(first, never)
    assert (hedged.requests, hedged.latency) == (1, 0.5)
    assert bench.hedging.patience == 1.0


def test_a_second_too_is_sent_once(bench: Bench) -> None:
    leg = Leg(bench.clock)
    leg.sent()
    bench.clock.advance(1.0)
    leg.sent()
    assert leg.took() == 1.0


def test_a_request_that_was_never_sent_teaches_nothing_and_is_not_hedged(bench: Bench) -> None:
    def first(leg: Leg) -> str:
        bench.clock.advance(100.0)
        return "from elsewhere"

    for _ in range(30):
        bench.run(first, never)
    assert bench.hedging.patience is None


def test_an_error_before_it_is_slow_is_simply_raised(bench: Bench) -> None:
    bench.warm()
    error = ServerError("no", status=500, body="")

    def first(leg: Leg) -> str:
        leg.sent()
        raise error

    with pytest.raises(ServerError) as caught:
        bench.run(first, never)
    assert caught.value is error
    assert error.__context__ is None


def test_quick_errors_teach_nothing_about_how_long_replies_take(bench: Bench) -> None:
    def first(leg: Leg) -> str:
        leg.sent()
        raise Overloaded("no", status=529, body="")

    for _ in range(30):
        with pytest.raises(Overloaded):
            bench.run(first, never)
    assert bench.hedging.patience is None


def failing_late(bench: Bench, error: Exception, other: threading.Event) -> Callable[[Leg], str]:
    """A first that is slow, and fails once the second has come as far as `other`."""

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert other.wait(LONG)
        raise error

    return first


def test_a_second_that_fails_leaves_the_first_its_time(bench: Bench) -> None:
    bench.warm()
    error = ConnectionFailed("refused")
    failed = threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert failed.wait(LONG)
        join_seconds()
        return "first"

    def second(leg: Leg) -> str:
        leg.sent()
        failed.set()
        raise error

    hedged = bench.run(first, second)
    assert (hedged.answer, hedged.requests, hedged.failed) == ("first", 2, error)
    assert error.__traceback__ is None


def test_the_second_counts_if_the_first_fails_meanwhile(bench: Bench) -> None:
    bench.warm()
    error = RequestTimeout("too late")
    under_way, go_on = threading.Event(), threading.Event()

    class Watched(CancelToken):
        def hold(self, breaker: Callable[[], object]) -> None:
            super().hold(breaker)
            if under_way.is_set() and threading.current_thread() is threading.main_thread():
                go_on.set()  # the caller waits for the second now

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        assert go_on.wait(LONG)
        return "second"

    hedged = bench.run(failing_late(bench, error, under_way), second, Watched())
    assert (hedged.answer, hedged.winner, hedged.requests, hedged.failed) == ("second", "second", 2, error)


def test_if_both_fail_the_first_ones_error_is_raised_with_the_seconds_as_context(bench: Bench) -> None:
    bench.warm()
    errors: list[RequestError] = [RequestTimeout("too late"), ConnectionFailed("refused")]
    under_way = threading.Event()

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        raise errors[1]

    with pytest.raises(RequestTimeout) as caught:
        bench.run(failing_late(bench, errors[0], under_way), second)
    assert caught.value is errors[0]
    assert caught.value.__context__ is errors[1]


def test_the_same_error_from_both_is_no_context_of_itself(bench: Bench) -> None:
    bench.warm()
    error = RequestTimeout("too late")
    under_way = threading.Event()

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        raise error

    with pytest.raises(RequestTimeout) as caught:
        bench.run(failing_late(bench, error, under_way), second)
    assert caught.value.__context__ is None


def test_a_defect_in_the_second_is_told_and_costs_nothing_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.warm()
    under_way = threading.Event()

    def second(leg: Leg) -> str:
        under_way.set()
        raise KeyError("a defect")

    with pytest.raises(RequestTimeout):
        bench.run(failing_late(bench, RequestTimeout("too late"), under_way), second)
    assert "unexpected KeyError" in caplog.text


def test_a_defect_in_the_choice_of_the_second_is_no_better(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.warm()
    under_way = threading.Event()

    def choose() -> None:
        under_way.set()
        raise KeyError("a defect")

    with pytest.raises(RequestTimeout):
        bench.hedging.run(failing_late(bench, RequestTimeout("too late"), under_way), choose)
    assert "unexpected KeyError" in caplog.text


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(), ValueError("a defect")])
def test_an_interrupt_or_a_defect_goes_on_and_breaks_the_second_off(bench: Bench, interruption: BaseException) -> None:
    bench.warm()
    under_way = threading.Event()

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        return broken_off(leg)

    with pytest.raises(type(interruption)) as caught:
        bench.run(failing_late(bench, interruption, under_way), second)  # type: ignore[arg-type]
    assert caught.value is interruption


def test_an_interrupt_while_the_second_is_awaited_breaks_it_off(bench: Bench) -> None:
    bench.warm()
    under_way = threading.Event()

    class Interrupting(CancelToken):
        def hold(self, breaker: Callable[[], object]) -> None:
            super().hold(breaker)
            if under_way.is_set():
                signal.raise_signal(signal.SIGINT)

    def second(leg: Leg) -> str:
        leg.sent()
        under_way.set()
        return broken_off(leg)

    with pytest.raises(KeyboardInterrupt):
        bench.run(failing_late(bench, RequestTimeout("too late"), under_way), second, Interrupting())


def test_an_abort_from_outside_reaches_both(bench: Bench) -> None:
    bench.warm()
    cancel = CancelToken()
    legs: list[Leg] = []

    def second(leg: Leg) -> str:
        legs.append(leg)
        leg.sent()
        leg.hold(lambda: None)
        cancel.abort()
        return broken_off(leg)

    def first(leg: Leg) -> str:
        legs.append(leg)
        return bench.hanging(leg)

    with pytest.raises(RequestCancelled):
        bench.run(first, second, cancel)
    assert [(leg.stopped, leg.aborted) for leg in legs] == [(True, True)] * 2


def test_a_stop_from_outside_is_soft_for_both(bench: Bench) -> None:
    bench.warm()
    cancel = CancelToken()
    seen: list[tuple[bool, bool]] = []
    stopped = threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert stopped.wait(LONG)
        seen.append((leg.stopped, leg.aborted))
        return "first"

    def second(leg: Leg) -> str:
        leg.sent()
        cancel.stop()
        seen.append((leg.stopped, leg.aborted))
        stopped.set()
        return broken_off(leg)

    assert bench.run(first, second, cancel).answer == "first"
    assert seen == [(True, False)] * 2


def test_an_abort_ends_the_wait_for_a_second_that_cannot_be_broken_off(bench: Bench) -> None:
    bench.warm()
    under_way, go_on = threading.Event(), threading.Event()

    class Aborting(CancelToken):
        def hold(self, breaker: Callable[[], object]) -> None:
            super().hold(breaker)
            if under_way.is_set():
                self.abort()

    def second(leg: Leg) -> str:
        under_way.set()
        assert go_on.wait(LONG)
        return "too late"

    try:
        with pytest.raises(RequestTimeout):
            bench.run(failing_late(bench, RequestTimeout("slow"), under_way), second, Aborting())
    finally:
        go_on.set()


def test_nothing_new_starts_once_it_is_stopped(bench: Bench) -> None:
    bench.warm()
    cancel = CancelToken()

    def first(leg: Leg) -> str:
        leg.sent()
        cancel.stop()
        bench.clock.advance(2.0)
        join_seconds()
        bench.clock.until_asleep()
        return "first"

    assert bench.run(first, never, cancel).requests == 1


def test_a_token_that_is_aborted_already_reaches_the_first(bench: Bench) -> None:
    cancel = CancelToken()
    cancel.abort()
    with pytest.raises(RequestCancelled):
        bench.run(broken_off, never, cancel)


def test_nothing_stays_registered_with_the_callers_token(bench: Bench) -> None:
    bench.warm()
    cancel = CancelToken()
    under_way = threading.Event()

    def second(leg: Leg) -> str:
        under_way.set()
        raise ConnectionFailed("no")

    bench.run(bench.quick(0.5), never, cancel)
    bench.run(bench.hanging, answering, cancel)
    with pytest.raises(RequestTimeout):
        bench.run(failing_late(bench, RequestTimeout("slow"), under_way), second, cancel)
    assert (cancel._breakers, cancel._listeners) == (set(), set())


def test_nobody_to_ask_costs_no_credit_and_leaves_the_first_alone() -> None:
    bench = Bench(at_most=0.25, at_least=4)
    bench.warm(4)  # one hedge is earned
    chosen = threading.Semaphore(0)

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(20.0)
        assert chosen.acquire(timeout=LONG), "the credit is gone"
        join_seconds()
        return "first"

    def choose() -> None:
        chosen.release()

    try:
        for _ in range(3):
            hedged = bench.hedging.run(first, choose)
            assert (hedged.answer, hedged.requests, hedged.failed) == ("first", 1, None)
    finally:
        bench.hedging.close()


def test_a_second_that_still_waited_for_its_permit_was_not_sent(bench: Bench) -> None:
    bench.warm()
    under_way = threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(2.0)
        assert under_way.wait(LONG)
        return "first"

    def second(leg: Leg) -> str:
        under_way.set()
        assert leg.wait(LONG), "the gate should have been left"
        raise RequestCancelled("stopped at the gate", attempts=0)

    assert bench.run(first, second).requests == 1


def test_only_so_many_are_hedged_as_the_budget_allows() -> None:
    bench = Bench(at_most=0.25)
    try:
        bench.warm(20)  # five hedges are earned
        won = [bench.run(bench.hanging, answering).winner for _ in range(5)]
        assert won == ["second"] * 5  # and one and a quarter more by these
        assert bench.run(bench.hanging, answering).winner == "second"

        def first(leg: Leg) -> str:
            leg.sent()
            bench.clock.advance(5.0)
            bench.clock.until_asleep()
            return "first"

        assert bench.run(first, never).requests == 1
    finally:
        bench.hedging.close()


def test_the_oldest_slow_one_is_hedged_as_soon_as_the_budget_allows() -> None:
    bench = Bench(at_most=0.25, at_least=4)
    try:
        bench.warm(4)
        assert bench.run(bench.hanging, answering).winner == "second"
        ready = threading.Event()

        def first(leg: Leg) -> str:
            leg.sent()
            bench.clock.advance(5.0)
            bench.clock.until_asleep()
            ready.set()
            return broken_off(leg)

        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(bench.run, first, answering)
            assert ready.wait(LONG)
            assert not slow.done()
            bench.warm(2, 0.0)
            assert not slow.done()
            bench.warm(1, 0.0)
            assert slow.result(LONG).winner == "second"
    finally:
        bench.hedging.close()


@pytest.mark.slow
def test_the_share_of_slow_ones_stays_when_the_slow_are_cut_off() -> None:
    bench = Bench(quantile=0.9)
    rng = random.Random(5)
    bench.warm(20)
    won = hedged = 0
    for _ in range(2000):
        won_by_second, was_hedged = race_with_chance(bench, rng)
        won += won_by_second
        hedged += was_hedged
    bench.hedging.close()
    assert 0.08 < hedged / 2000 < 0.13
    assert won > 20
    assert bench.hedging.patience == pytest.approx(4.6, abs=0.5)  # -ln(0.1) * 2


def race_with_chance(bench: Bench, rng: random.Random) -> tuple[bool, bool]:
    """Run a row whose first and second take as long as chance has it. Return whether the second won, and was sent."""
    seconds, others = rng.expovariate(0.5), rng.expovariate(0.5)
    patience = bench.hedging.patience
    assert patience is not None
    under_way = threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        if seconds < patience:
            bench.clock.advance(seconds)
            return "first"
        bench.clock.until_asleep()
        bench.clock.advance(patience + 1e-6)  # a sum of floats may be a little less
        assert under_way.wait(LONG)
        if seconds > patience + others:
            return broken_off(leg)
        bench.clock.advance(seconds - patience)
        return "first"

    def second(leg: Leg) -> str:
        leg.sent()
        if seconds > patience + others:
            bench.clock.advance(others)
            under_way.set()
            return "second"
        under_way.set()
        return broken_off(leg)

    hedged = bench.run(first, second)
    return hedged.winner == "second", hedged.requests == 2


def test_only_so_many_seconds_are_under_way_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hedge, "MOST_THREADS", 2)
    bench.warm()
    sent, go_on = threading.Barrier(6), threading.Event()
    begun = threading.Semaphore(0)
    count = []

    def first(leg: Leg) -> str:
        leg.sent()
        sent.wait(LONG)
        return broken_off(leg)

    def second(leg: Leg) -> str:
        leg.sent()
        count.append(sum("watcher" not in thread.name for thread in threads()))
        begun.release()
        assert go_on.wait(LONG)
        return "second"

    with ThreadPoolExecutor(5) as pool:
        rows = [pool.submit(bench.run, first, second) for _ in range(5)]
        sent.wait(LONG)
        bench.clock.advance(2.0)
        assert begun.acquire(timeout=LONG)
        assert begun.acquire(timeout=LONG)
        bench.clock.until_asleep()
        assert not begun.acquire(blocking=False)
        go_on.set()
        assert [row.result(LONG).winner for row in rows] == ["second"] * 5
    assert len(count) == 5


def test_a_second_that_ends_makes_room_for_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hedge, "MOST_THREADS", 1)
    bench.warm()
    both_sent, go_on = threading.Barrier(3), threading.Event()
    failed = threading.Event()

    def first(leg: Leg) -> str:
        leg.sent()
        both_sent.wait(LONG)
        return broken_off(leg) if not go_on.wait(LONG) else "first"

    def second(leg: Leg) -> str:
        leg.sent()
        if failed.is_set():
            go_on.set()
            return "second"
        bench.clock.until_asleep()  # it has found the other one slow, and no room for it
        failed.set()
        raise ConnectionFailed("refused")

    with ThreadPoolExecutor(2) as pool:
        rows = [pool.submit(bench.run, first, second) for _ in range(2)]
        both_sent.wait(LONG)
        bench.clock.advance(2.0)
        assert [row.result(LONG).requests for row in rows] == [2, 2]


def test_a_watcher_is_not_woken_for_every_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.warm(20)
    woken: list[threading.Condition] = []

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.until_asleep()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Condition, "notify_all", lambda condition: woken.append(condition))
            for _ in range(100):
                bench.run(bench.quick(0.001), never)
        return "first"

    bench.run(first, never)
    assert woken == []


def test_an_idle_watcher_ends_and_comes_back_when_it_is_needed(bench: Bench) -> None:
    bench.warm(20)
    bench.run(bench.quick(0.5))
    for _ in range(3):
        join_seconds()
        (watcher,) = threads()
        bench.clock.until_asleep()
        bench.clock.advance(1.0)  # the last request would have been slow now
        bench.clock.until_asleep()
        bench.clock.advance(IDLE_SECONDS)
        watcher.join(LONG)
        assert threads() == []
        assert bench.run(bench.hanging, answering).winner == "second"


def test_close_ends_the_watcher_and_a_later_request_starts_it_anew(bench: Bench) -> None:
    bench.warm()
    for _ in range(3):
        assert bench.run(bench.hanging, answering).winner == "second"
        bench.hedging.close()
        assert threads("flexllm-hedge-watcher") == []
    bench.hedging.close()


def test_close_while_the_watcher_waits_for_a_row_is_no_different(bench: Bench) -> None:
    bench.warm()

    def first(leg: Leg) -> str:
        leg.sent()
        bench.clock.advance(0.5)
        bench.clock.until_asleep()
        bench.hedging.close()
        assert bench.run(bench.hanging, answering).winner == "second"
        return "first"

    assert bench.run(first).requests == 1


def test_close_while_a_row_is_under_way_lets_it_come_to_its_end(bench: Bench) -> None:
    bench.warm()

    def second(leg: Leg) -> str:
        leg.sent()
        bench.hedging.close()
        return "second"

    assert bench.run(bench.hanging, second).answer == "second"


def test_where_no_thread_can_be_started_requests_are_answered_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        bench.warm()
        assert bench.run(bench.quick(50.0), never).answer == "quick"
        assert "no thread can be started" in caplog.text
    assert bench.run(bench.hanging, answering).winner == "second"


def test_where_the_second_gets_no_thread_the_firsts_error_is_raised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.warm()
    real = threading.Thread.start
    tried = threading.Event()

    def start(self: threading.Thread) -> None:
        if self.name == "flexllm-hedge":
            tried.set()
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RequestTimeout):
        bench.run(failing_late(bench, RequestTimeout("slow"), tried), never)
    assert "no thread can be started" in caplog.text


def test_what_a_row_held_is_free_as_soon_as_it_is_answered(bench: Bench) -> None:
    """Without rings, which only the garbage collector would find."""

    class Answer:
        pass

    def ask(leg: Leg) -> Answer:
        leg.sent()
        legs.append(weakref.ref(leg))
        return Answer()

    legs: list[weakref.ref[Leg]] = []
    gc.disable()
    try:
        cancel = CancelToken()
        answer = weakref.ref(bench.hedging.run(ask, lambda: None, cancel).answer)
        assert answer() is None
        assert [leg() for leg in legs] == [None]
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_hedges_with_a_watcher_of_its_own(bench: Bench) -> None:
    bench.warm()
    bench.run(bench.quick(0.5))
    bench.clock.until_asleep()
    bench.hedging._lock.acquire()  # as another thread may hold it
    child = os.fork()
    if child:
        bench.hedging._lock.release()
    else:
        signal.alarm(int(LONG))
        code = 1
        with contextlib.suppress(BaseException):
            bench.clock.__init__()  # type: ignore[misc]
            code = 0 if bench.run(bench.hanging, answering).winner == "second" else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bench.run(bench.hanging, answering).winner == "second"


@pytest.mark.slow
def test_many_threads_get_one_answer_each_and_nothing_stays_behind() -> None:
    """With the real clock: what answers when is left to chance, and whatever happens must be one of the right ends."""
    hedging = Hedging(HedgePolicy(quantile=0.5, at_least=5, at_most=1.0))
    workers, rows = 24, 60
    cancels = [CancelToken() for _ in range(workers)]
    ended = {"first": 0, "second": 0, "failed": 0, "cancelled": 0}
    lock = threading.Lock()
    open_legs: set[int] = set()

    def request(name: str, number: int, rng: random.Random) -> Callable[[Leg], tuple[str, int]]:
        seconds, fate = rng.choice([0.0, 0.002, 0.015, 0.03]), rng.random()

        def ask(leg: Leg) -> tuple[str, int]:
            gone = threading.Event()
            with lock:
                open_legs.add(id(leg))
            leg.sent()
            leg.hold(gone.set)
            try:
                if gone.wait(seconds):
                    raise RequestCancelled("broken off")
                if fate < 0.2:
                    raise ServerError("no", status=500, body="")
                return name, number
            finally:
                leg.release(gone.set)
                with lock:
                    open_legs.discard(id(leg))

        return ask

    def work(worker: int) -> None:
        rng = random.Random(worker)
        for row in range(rows):
            number = worker * rows + row
            other = request("second", number, random.Random(number)) if rng.random() < 0.9 else None
            try:
                hedged = hedging.run(request("first", number, rng), lambda other=other: other, cancels[worker])
                assert hedged.answer == (hedged.winner, number)
                assert hedged.requests in (1, 2)
                end = hedged.winner
            except ServerError:
                end = "failed"
            except RequestCancelled:
                assert cancels[worker].aborted
                end = "cancelled"
            with lock:
                ended[end] += 1
            if worker % 4 == 0 and row == rows // 2:
                cancels[worker].abort()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, worker) for worker in range(workers)]:
            done.result(60.0)
    hedging.close()
    for thread in threads():
        thread.join(LONG)
    assert sum(ended.values()) == workers * rows
    assert all(ended.values()), ended
    assert (open_legs, hedging._under_way, hedging._threads) == (set(), {}, 0)
    assert all((cancel._breakers, cancel._listeners) == (set(), set()) for cancel in cancels)
