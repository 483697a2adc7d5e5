"""Local threads as an engine: order, reading ahead, stopping, and what one bad row costs."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from fakes import FakeBackend, FakeClock, eventually

from flexllm.batch.items import BatchItem
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest
from flexllm.engines.threads import ThreadEngine
from flexllm.errors import ConfigError, ConnectionFailed, InputError, RequestCancelled, RequestError, ServerError

LONG = 60.0
"""Seconds that nothing takes unless a test fails."""


def item(index: int) -> BatchItem:
    return BatchItem(index, ChatRequest([{"role": "user", "content": str(index)}], "m"))


def items(count: int) -> list[BatchItem]:
    return [item(index) for index in range(count)]


def number(request: ChatRequest) -> int:
    return int(request.messages[0]["content"])


def engine(backend: Any, workers: int, cancel: CancelToken | None = None, **options: Any) -> ThreadEngine:
    return ThreadEngine(backend, workers=workers, cancel=cancel or CancelToken(), **options)


def flat(groups: Iterator[list[BatchItem]]) -> list[BatchItem]:
    return [each for group in groups for each in group]


def indices(groups: Iterator[list[BatchItem]]) -> list[int]:
    return [each.index for each in flat(groups)]


class WaitingBackend(FakeBackend):
    """Asks a function what to answer and lets it see the token, as a real backend's transport does."""

    def __init__(self, answer: Callable[[int, CancelToken], str]) -> None:
        super().__init__()
        self._answer = answer

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        super().complete(request)
        assert cancel is not None
        return ChatCompletionResult(self._answer(number(request), cancel))


def until_aborted(cancel: CancelToken) -> None:
    """Wait as an exchange on the wire does: until it is broken off."""
    aborted = threading.Event()
    cancel.hold(aborted.set)
    assert aborted.wait(LONG)
    raise RequestCancelled("broken off")


def threads_since(before: list[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before]


# --- order and width


def test_every_row_comes_back_with_its_own_answer() -> None:
    run = flat(engine(FakeBackend(lambda request: f"to {number(request)}"), 8).run(items(300)))
    answers = {each.index: each.outcome.content for each in run if isinstance(each.outcome, ChatCompletionResult)}
    assert answers == {index: f"to {index}" for index in range(300)}
    assert len(run) == 300


def test_rows_come_back_as_they_finish() -> None:
    second_came = threading.Event()

    def answer(request: ChatRequest) -> str:
        if number(request) == 0:
            assert second_came.wait(LONG)
        return "ok"

    order = []
    for group in engine(FakeBackend(answer), 2).run(items(2)):
        order += [each.index for each in group]
        second_came.set()
    assert order == [1, 0]


def test_one_slow_row_does_not_hold_the_others() -> None:
    others_came = threading.Event()

    def answer(request: ChatRequest) -> str:
        if number(request) == 0:
            assert others_came.wait(LONG)
        return "ok"

    order: list[int] = []
    for group in engine(FakeBackend(answer), 3).run(items(1_000)):
        order += [each.index for each in group]
        if len(order) == 999:
            others_came.set()
    assert order[-1] == 0


def test_as_many_are_under_way_as_there_are_workers_and_no_more() -> None:
    together = threading.Barrier(7)
    lock, under_way, peak = threading.Lock(), 0, 0

    def answer(request: ChatRequest) -> str:
        nonlocal under_way, peak
        with lock:
            under_way += 1
            peak = max(peak, under_way)
        together.wait(LONG)
        with lock:
            under_way -= 1
        return "ok"

    assert len(flat(engine(FakeBackend(answer), 7).run(items(70)))) == 70
    assert peak == 7


def test_few_rows_start_few_threads() -> None:
    before = threading.enumerate()
    started = set()

    def answer(request: ChatRequest) -> str:
        started.update(threads_since(before))
        return "ok"

    assert len(flat(engine(FakeBackend(answer), 500).run(items(3)))) == 3
    assert len(started) <= 4  # and the reader


def test_no_row_at_all_is_no_trouble() -> None:
    assert flat(engine(FakeBackend(), 4).run([])) == []


def test_rows_that_are_settled_pass_through() -> None:
    backend = FakeBackend()
    bad, known = BatchItem(0, outcome=InputError("bad")), BatchItem(1, place=0)
    came = flat(engine(backend, 2).run([bad, known, item(2)]))
    assert sorted(each.index for each in came) == [0, 1, 2]
    assert len(backend.requests) == 1


def test_threads_end_with_the_run() -> None:
    before = threading.enumerate()
    flat(engine(FakeBackend(), 8).run(items(50)))
    for thread in threads_since(before):
        thread.join(LONG)
    assert threads_since(before) == []


# --- reading ahead


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_the_input_is_read_a_little_ahead(workers: int) -> None:
    read = itertools.count(1)
    newest = taken = ahead = 0

    def endless() -> Iterator[BatchItem]:
        nonlocal newest
        for index in itertools.count():
            newest = next(read)
            yield item(index)

    run = engine(FakeBackend(), workers).run(endless())
    for group in run:
        ahead = max(ahead, newest - taken)
        taken += len(group)
        if taken > 3_000:
            break
    run.close()
    assert ahead <= 4 * workers + 4


def test_settled_rows_are_read_a_little_ahead_too() -> None:
    newest = taken = ahead = 0

    def endless() -> Iterator[BatchItem]:
        nonlocal newest
        for newest in itertools.count(1):
            yield BatchItem(newest, place=0)

    run = engine(FakeBackend(), 4).run(endless())
    for group in run:
        ahead = max(ahead, newest - taken)
        taken += len(group)
        if taken > 3_000:
            break
    run.close()
    assert ahead <= 4 * 4 + 4


def test_an_input_that_waits_does_not_hold_what_is_answered() -> None:
    first_came = threading.Event()

    def slow_input() -> Iterator[BatchItem]:
        yield item(0)
        assert first_came.wait(LONG)
        yield item(1)

    order = []
    for group in engine(FakeBackend(), 2).run(slow_input()):
        order += [each.index for each in group]
        first_came.set()
    assert order == [0, 1]


@pytest.mark.parametrize("error", [ValueError("the input"), KeyboardInterrupt(), SystemExit(3)])
def test_what_the_input_raises_comes_after_what_is_under_way(error: BaseException) -> None:
    failed = threading.Event()

    def failing() -> Iterator[BatchItem]:
        yield from items(3)
        failed.set()
        raise error

    def answer(request: ChatRequest) -> str:
        assert failed.wait(LONG)
        return "ok"

    came: list[int] = []
    with pytest.raises(type(error)) as caught:
        for group in engine(FakeBackend(answer), 3).run(failing()):
            came += [each.index for each in group]
    assert sorted(came) == [0, 1, 2]
    assert caught.value is error


# --- rows that fail


def test_a_failed_row_is_a_row_like_the_others() -> None:
    def answer(request: ChatRequest) -> Any:
        return ServerError("oops", status=500) if number(request) == 1 else "ok"

    came = sorted(flat(engine(FakeBackend(answer), 2).run(items(3))), key=lambda each: each.index)
    assert [type(each.outcome) for each in came] == [ChatCompletionResult, ServerError, ChatCompletionResult]


def test_a_defect_below_costs_one_row_and_is_told() -> None:
    def answer(request: ChatRequest) -> Any:
        return ZeroDivisionError("division by zero") if number(request) == 1 else "ok"

    came = sorted(flat(engine(FakeBackend(answer), 2).run(items(30))), key=lambda each: each.index)
    assert [each.index for each in came if isinstance(each.outcome, RequestError)] == [1]
    assert "ZeroDivisionError: division by zero" in str(came[1].outcome)


def test_a_callers_own_code_that_exits_in_a_worker_costs_one_row_and_no_standstill() -> None:
    def answer(request: ChatRequest) -> Any:
        if number(request) == 1:
            sys.exit(3)
        return "ok"

    came = sorted(flat(engine(FakeBackend(answer), 1).run(items(3))), key=lambda each: each.index)
    assert "unexpected SystemExit: 3" in str(came[1].outcome)
    assert [isinstance(each.outcome, ChatCompletionResult) for each in came] == [True, False, True]


def test_a_failed_row_keeps_no_traceback_alive() -> None:
    def answer(request: ChatRequest) -> Any:
        error = ConnectionFailed("nobody there")
        error.__cause__ = OSError("low")
        return error

    (failed,) = flat(engine(FakeBackend(answer), 1).run(items(1)))
    assert isinstance(failed.outcome, ConnectionFailed)
    assert failed.outcome.__traceback__ is failed.outcome.__cause__ is failed.outcome.__context__ is None


# --- stopping


def test_after_a_stop_what_is_under_way_comes_back_and_nothing_new_is_asked() -> None:
    cancel = CancelToken()
    together = threading.Barrier(4)

    def answer(request: ChatRequest) -> str:
        together.wait(LONG)
        cancel.stop()
        threading.Event().wait(0.02)  # it takes a while yet
        return "ok"

    backend = FakeBackend(answer)
    came = indices(engine(backend, 4, cancel).run(item(index) for index in itertools.count()))
    assert sorted(came) == [0, 1, 2, 3]
    assert len(backend.requests) == 4


def test_a_stop_before_the_start_asks_nothing() -> None:
    cancel = CancelToken()
    cancel.stop()
    backend = FakeBackend()
    assert indices(engine(backend, 4, cancel).run(items(100))) == []
    assert backend.requests == []


def test_a_stop_does_not_wait_for_the_input() -> None:
    cancel, left = CancelToken(), threading.Event()

    def stuck_input() -> Iterator[BatchItem]:
        yield item(0)
        left.wait(LONG)

    came = []
    for group in engine(FakeBackend(), 2, cancel).run(stuck_input()):
        came += [each.index for each in group]
        cancel.stop()
    left.set()
    assert came == [0]


def test_a_request_to_stop_from_a_signal_handler_is_heeded_while_it_waits() -> None:
    cancel, together = CancelToken(), threading.Barrier(2)

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        cancel.request_stop()
        assert cancel.wait(LONG)
        return "ok"

    assert sorted(indices(engine(WaitingBackend(answer), 2, cancel).run(items(100)))) == [0, 1]


def test_when_the_grace_is_over_the_rest_is_broken_off() -> None:
    cancel = CancelToken()
    together = threading.Barrier(3)

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        if number == 0:
            cancel.stop()
            return "ok"
        until_aborted(cancel)
        return "never"

    assert indices(engine(WaitingBackend(answer), 3, cancel, grace=0.01).run(items(10))) == [0]
    assert cancel.aborted


def test_an_answer_that_comes_while_others_are_broken_off_is_not_lost() -> None:
    cancel = CancelToken()
    together, broken_off = threading.Barrier(2), threading.Event()

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        cancel.stop()
        if number == 0:
            try:
                until_aborted(cancel)
            finally:
                broken_off.set()
        assert broken_off.wait(LONG)
        threading.Event().wait(0.05)  # until the other has come back
        return "just in time"

    assert indices(engine(WaitingBackend(answer), 2, cancel, grace=0.0).run(items(3))) == [1]


def test_a_grace_may_be_endless() -> None:
    cancel = CancelToken()

    def answer(number: int, cancel: CancelToken) -> str:
        cancel.stop()
        threading.Event().wait(0.01)
        return "ok"

    assert indices(engine(WaitingBackend(answer), 1, cancel, grace=float("inf")).run(items(5))) == [0]


def test_exchanges_that_do_not_end_when_they_are_broken_off_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexllm.engines.threads.ABORT_SECONDS", 0.01)
    cancel, over = CancelToken(), threading.Event()

    def answer(number: int, cancel: CancelToken) -> str:
        cancel.stop()
        over.wait(LONG)
        return "too late"

    assert indices(engine(WaitingBackend(answer), 1, cancel, grace=0.0).run(items(5))) == []
    over.set()


# --- a time for the whole


def test_when_the_time_is_over_nothing_new_is_asked_and_what_is_under_way_comes_back() -> None:
    clock = FakeClock()
    cancel, together = CancelToken(clock=clock), threading.Barrier(3, lambda: clock.advance(60.0))
    cancel.stop_after(60.0)

    def answer(number: int, cancel: CancelToken) -> str:
        if number >= 3:
            together.wait(LONG)
        return "ok"

    backend = WaitingBackend(answer)
    came = indices(engine(backend, 3, cancel).run(item(index) for index in itertools.count()))
    assert sorted(came) == [0, 1, 2, 3, 4, 5]
    assert len(backend.requests) == 6
    assert (cancel.timed_out, cancel.aborted) == (True, False)


def test_a_time_is_over_also_where_no_result_comes() -> None:
    clock = FakeClock()
    cancel, together = CancelToken(clock=clock), threading.Barrier(3, lambda: clock.advance(60.0))
    cancel.stop_after(0.01)

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        assert cancel.wait(LONG)  # as in a back-off, or at the gate
        return "just in time"

    came = flat(engine(WaitingBackend(answer), 3, cancel).run(items(100)))
    assert sorted(each.index for each in came) == [0, 1, 2]
    assert all(isinstance(each.outcome, ChatCompletionResult) for each in came)
    assert cancel.timed_out


def test_a_time_is_over_also_where_the_input_waits() -> None:
    clock, left = FakeClock(), threading.Event()
    cancel = CancelToken(clock=clock)
    cancel.stop_after(0.01)

    def stuck_input() -> Iterator[BatchItem]:
        yield item(0)
        assert left.wait(LONG)

    came = []
    for group in engine(FakeBackend(), 2, cancel).run(stuck_input()):
        came += [each.index for each in group]
        clock.advance(60.0)
    left.set()
    assert (came, cancel.timed_out) == ([0], True)


def test_what_hangs_when_the_time_and_the_grace_are_over_is_broken_off() -> None:
    clock = FakeClock()
    cancel, together = CancelToken(clock=clock), threading.Barrier(3, lambda: clock.advance(60.0))
    cancel.stop_after(0.01)

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        if number:
            until_aborted(cancel)
        return "ok"

    assert indices(engine(WaitingBackend(answer), 3, cancel, grace=0.01).run(items(10))) == [0]
    assert (cancel.timed_out, cancel.aborted) == (True, True)


def test_a_time_is_over_also_while_nobody_takes_the_results() -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)
    cancel.stop_after(60.0)
    taken = threading.Event()

    def answer(number: int, _: CancelToken) -> str:
        if number == 1:
            assert taken.wait(LONG)
            clock.advance(60.0)
        return "ok"

    backend = WaitingBackend(answer)
    run = engine(backend, 1, cancel).run(items(100))
    assert [each.index for each in next(run)] == [0]
    taken.set()
    assert eventually(lambda: cancel.stopped)  # by a worker
    assert indices(run) == [1]
    assert len(backend.requests) == 2


def test_a_time_that_is_not_over_ends_nothing() -> None:
    for seconds in (LONG, float("inf")):
        cancel = CancelToken()
        cancel.stop_after(seconds)
        assert sorted(indices(engine(FakeBackend(), 3, cancel).run(items(50)))) == list(range(50))
        assert not cancel.stopped


# --- closing


def test_closing_cancels_what_has_not_started() -> None:
    before = threading.enumerate()
    backend = FakeBackend()
    run = engine(backend, 2).run(item(index) for index in itertools.count())
    next(run)
    run.close()
    asked = len(backend.requests)
    for thread in threads_since(before):
        thread.join(LONG)
    assert threads_since(before) == []
    assert len(backend.requests) <= asked + 2  # those that were under way


def test_closing_breaks_off_what_is_under_way() -> None:
    before = threading.enumerate()

    def answer(number: int, cancel: CancelToken) -> str:
        if number:
            until_aborted(cancel)
        return "ok"

    run = engine(WaitingBackend(answer), 3).run(items(50))
    next(run)
    run.close()
    for thread in threads_since(before):
        thread.join(LONG)
    assert threads_since(before) == []


def interrupt_when_it_waits() -> None:
    """Send Ctrl-C to the main thread, at a time when it does nothing but wait for results."""
    main = threading.main_thread().ident
    assert main is not None
    assert eventually(lambda: sys._current_frames()[main].f_code.co_name == "gather")
    threading.Event().wait(0.02)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_while_it_waits_lets_what_is_under_way_finish() -> None:
    together = threading.Barrier(3)

    def answer(number: int, cancel: CancelToken) -> str:
        together.wait(LONG)
        if number == 0:
            interrupt_when_it_waits()
        assert cancel.wait(LONG)
        return "ok"

    came: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        for group in engine(WaitingBackend(answer), 3).run(items(100)):
            came += [each.index for each in group]
    assert sorted(came) == [0, 1, 2]


def test_a_second_interrupt_does_not_wait() -> None:
    def answer(number: int, cancel: CancelToken) -> str:
        interrupt_when_it_waits()
        assert cancel.wait(LONG)
        interrupt_when_it_waits()
        until_aborted(cancel)
        return "never"

    with pytest.raises(KeyboardInterrupt):
        flat(engine(WaitingBackend(answer), 1).run(items(100)))


def test_an_interrupt_anywhere_in_the_engine_loses_nothing_that_was_answered() -> None:
    """Once for each line of the engine that the caller's thread executes, when it is executed for the third time."""
    executed: Counter[int] = Counter()

    def run_once(at_line: Callable[[int], None]) -> tuple[list[int], list[int]]:
        answered: list[int] = []

        def answer(number: int, _: CancelToken) -> str:
            answered.append(number)
            return "ok"

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if not frame.f_code.co_filename.endswith("engines/threads.py") or frame.f_code.co_name == "close":
                return None
            if event == "line":
                at_line(frame.f_lineno)
            return trace

        came: list[int] = []
        run = engine(WaitingBackend(answer), 3).run(items(100))
        sys.settrace(trace)
        try:
            for group in run:
                came += [each.index for each in group]
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
            run.close()
        return came, answered

    run_once(lambda line: executed.update([line]))
    for line in [line for line, times in executed.items() if times > 5]:
        times = 0

        def interrupt(executed_line: int, line: int = line) -> None:
            nonlocal times
            times += executed_line == line
            if times == 3 and executed_line == line:
                raise KeyboardInterrupt

        came, answered = run_once(interrupt)
        assert sorted(came) == sorted(answered), line


# --- limits of the machine


def test_fewer_threads_than_wanted_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, 0

    def limited(thread: threading.Thread) -> None:
        nonlocal started
        if "worker" in thread.name:
            if started == 2:
                raise RuntimeError("can't start new thread")
            started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert sorted(indices(engine(FakeBackend(), 50).run(items(200)))) == list(range(200))


def test_no_thread_at_all_is_an_error_and_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if "worker" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(ConfigError, match="no thread can be started"):
        flat(engine(FakeBackend(), 50).run(items(20)))


@pytest.mark.slow
def test_a_signal_that_wakes_nobody_is_obeyed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that comes while the main thread falls asleep: here another thread takes it."""
    monkeypatch.setattr("flexllm.engines.threads.WAKE_SECONDS", 0.05)
    cancel = CancelToken()

    def answer(number: int, cancel: CancelToken) -> str:
        if number == 0:
            threading.Event().wait(0.2)  # until the main thread sleeps
            os.kill(os.getpid(), signal.SIGUSR1)
        until_aborted(cancel)
        return ""

    ready = threading.Event()
    listener = threading.Thread(target=ready.wait, args=(LONG,), daemon=True)
    listener.start()  # takes what the main thread does not
    before = signal.signal(signal.SIGUSR1, lambda number, frame: cancel.request_stop())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        assert indices(engine(WaitingBackend(answer), 2, cancel, grace=0.0).run(items(3))) == []
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR1, before)
        ready.set()
    assert cancel.stop_requested
