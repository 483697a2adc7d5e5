"""The gate and its token bucket: exact on a fake clock, and without a lost permit among many threads."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

import flexllm.limits.gate
from flexllm.cancel import CancelToken
from flexllm.errors import ConfigError, RequestCancelled
from flexllm.limits import Gate, RateLimit, TokenBucket

LONG = 10.0
"""Seconds that a broken gate makes a test wait before it fails."""


def start(target: Callable[..., object], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def until(claim: Callable[[], bool]) -> None:
    """Wait until another thread has got that far."""
    pause = threading.Event()
    for _ in range(5000):
        if claim():
            return
        pause.wait(0.002)
    raise AssertionError("the other thread did not get that far")


def waiting(gate: Gate) -> int:
    return len(gate._waiting)


def free(gate: Gate) -> int:
    """How many permits can be had without waiting; they are given back."""
    stopped = CancelToken()
    stopped.stop()
    held = 0
    with contextlib.suppress(RequestCancelled):
        while held < 1000:
            gate.acquire(stopped)
            held += 1
    for _ in range(held):
        gate.release()
    return held


# --- the value --------------------------------------------------------------------------------------------------------


def test_the_default_is_ten_at_a_time_and_no_rate() -> None:
    assert (RateLimit().concurrency, RateLimit().max_qps, RateLimit().burst) == (10, None, 1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"concurrency": 0}, "concurrency_limit=0"),
        ({"concurrency": -1}, "concurrency_limit=-1"),
        ({"concurrency": 2.5}, "concurrency_limit=2.5"),
        ({"concurrency": None}, "concurrency_limit=None"),
        ({"concurrency": "8"}, "concurrency_limit='8'"),
        ({"max_qps": 0}, "max_qps=0"),
        ({"max_qps": -1.0}, "max_qps=-1.0"),
        ({"max_qps": float("nan")}, "max_qps=nan"),
        ({"max_qps": "5"}, "max_qps='5'"),
        ({"burst": 0}, "burst=0"),
        ({"burst": 1.5}, "burst=1.5"),
    ],
)
def test_a_wrong_limit_is_refused_by_the_name_the_user_knows(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        RateLimit(**options)


# --- the bucket -------------------------------------------------------------------------------------------------------


def test_requests_start_at_exact_distances() -> None:
    bucket = TokenBucket(4.0, 1)
    assert [bucket.reserve(100.0) for _ in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_a_pause_earns_no_more_than_one_start_without_burst() -> None:
    bucket = TokenBucket(4.0, 1)
    bucket.reserve(0.0)
    assert [bucket.reserve(100.0) for _ in range(3)] == [0.0, 0.25, 0.5]


def test_a_burst_starts_at_once_and_then_comes_the_rate() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.reserve(0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_a_burst_fills_up_again_one_interval_at_a_time() -> None:
    bucket = TokenBucket(2.0, 3)
    for _ in range(3):
        bucket.reserve(0.0)
    assert [bucket.reserve(1.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_late_caller_pays_nothing_for_the_time_that_passed() -> None:
    bucket = TokenBucket(1.0, 1)
    assert [bucket.reserve(now) for now in (0.0, 0.4, 5.0, 5.9)] == pytest.approx([0.0, 0.6, 0.0, 0.1])


@given(
    st.floats(0.1, 1000.0),
    st.integers(1, 20),
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
)
def test_no_window_of_time_holds_more_starts_than_rate_and_burst_allow(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, starts = 0.0, []
    for gap in gaps:
        now += gap / rate
        delay = bucket.reserve(now)
        assert delay >= 0.0
        starts.append(now + delay)
    assert starts == sorted(starts)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + (starts[last] - starts[first]) * rate + 1e-6
    # And nobody waits without need: who had to wait starts exactly when the rate allows it.
    for index, begun in enumerate(starts):
        if index >= burst:
            assert begun <= max(starts[index - burst] + burst / rate, sum(gaps[: index + 1]) / rate) + 1e-6


# --- the gate and the rate --------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(flexllm.limits.gate.time, "sleep", clock.sleep)
    return clock


def test_a_gate_spaces_the_starts_of_one_thread(clock: FakeClock) -> None:
    gate = Gate(RateLimit(max_qps=10.0), clock=clock)
    starts = []
    for _ in range(4):
        with gate.permit():
            starts.append(clock.now - 1000.0)
            clock.advance(0.02)
    assert starts == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_gate_without_a_rate_never_sleeps(clock: FakeClock) -> None:
    gate = Gate(RateLimit(concurrency=1), clock=clock)
    for _ in range(10):
        with gate.permit():
            pass
    assert clock.sleeps == []


def test_a_retry_pays_like_a_first_attempt(clock: FakeClock) -> None:
    gate = Gate(RateLimit(max_qps=1.0), clock=clock)
    for _ in range(3):
        with contextlib.suppress(KeyError), gate.permit():
            raise KeyError
    assert clock.sleeps == pytest.approx([1.0, 1.0])


def test_stopping_while_the_rate_makes_it_wait_gives_the_permit_back() -> None:
    clock = FakeClock()
    gate = Gate(RateLimit(concurrency=1, max_qps=0.001), clock=clock)
    with gate.permit():
        pass
    token = CancelToken()
    token.stop()
    with pytest.raises(RequestCancelled) as caught, gate.permit(token):
        raise AssertionError("it was let through")
    assert caught.value.attempts == 0
    clock.advance(5000.0)
    with gate.permit(token):
        pass


def test_an_interrupt_while_the_rate_makes_it_wait_gives_the_permit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    gate = Gate(RateLimit(concurrency=1, max_qps=1.0), clock=FakeClock())
    with gate.permit():
        pass
    monkeypatch.setattr(flexllm.limits.gate.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), gate.permit():
        raise AssertionError("it was let through")
    assert gate._free == 1


# --- the gate and many threads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_never_more_holders_than_allowed(concurrency: int) -> None:
    gate = Gate(RateLimit(concurrency=concurrency))
    lock = threading.Lock()
    holders, most, passages = 0, 0, 0

    def work() -> None:
        nonlocal holders, most, passages
        for _ in range(20):
            with gate.permit():
                with lock:
                    holders += 1
                    most = max(most, holders)
                os.sched_yield() if hasattr(os, "sched_yield") else None
                with lock:
                    holders -= 1
                    passages += 1

    for thread in [start(work) for _ in range(24)]:
        thread.join(LONG)
    assert (passages, holders) == (24 * 20, 0)
    assert most <= concurrency
    assert free(gate) == concurrency


def test_all_permits_can_be_held_at_the_same_time() -> None:
    gate = Gate(RateLimit(concurrency=8))
    together = threading.Barrier(8)

    def work() -> None:
        with gate.permit():
            together.wait(LONG)

    threads = [start(work) for _ in range(8)]
    for thread in threads:
        thread.join(LONG)
    assert not together.broken


def test_waiting_threads_are_served_in_the_order_of_their_coming() -> None:
    gate = Gate(RateLimit(concurrency=1))
    served: list[int] = []

    def work(number: int) -> None:
        with gate.permit():
            served.append(number)

    gate.acquire()
    threads = []
    for number in range(10):
        threads.append(start(work, number))
        until(lambda number=number: waiting(gate) == number + 1)  # type: ignore[misc]
    gate.release()
    for thread in threads:
        thread.join(LONG)
    assert served == list(range(10))


def test_a_newcomer_does_not_overtake_a_waiting_thread() -> None:
    gate = Gate(RateLimit(concurrency=1))
    served: list[str] = []

    def work() -> None:
        with gate.permit():
            served.append("waiter")

    gate.acquire()
    thread = start(work)
    until(lambda: waiting(gate) == 1)
    gate.release()
    with gate.permit():
        served.append("newcomer")
    thread.join(LONG)
    assert served == ["waiter", "newcomer"]


def test_an_error_inside_the_block_gives_the_permit_back() -> None:
    gate = Gate(RateLimit(concurrency=1))
    with pytest.raises(KeyError), gate.permit():
        raise KeyError
    assert free(gate) == 1


def wait_for_permit(gate: Gate, token: CancelToken | None, outcome: list[str]) -> None:
    try:
        with gate.permit(token):
            outcome.append("served")
    except RequestCancelled as error:
        outcome.append(f"cancelled {error.attempts}")


def test_stop_ends_the_wait_of_its_own_threads_and_of_no_other() -> None:
    gate = Gate(RateLimit(concurrency=1))
    mine, other = CancelToken(), CancelToken()
    outcome: dict[str, list[str]] = {"first": [], "second": [], "other": [], "none": []}
    gate.acquire()
    threads = []
    for number, (name, token) in enumerate({"first": mine, "other": other, "second": mine, "none": None}.items()):
        threads.append(start(wait_for_permit, gate, token, outcome[name]))
        until(lambda number=number: waiting(gate) == number + 1)  # type: ignore[misc]
    mine.stop()
    until(lambda: bool(outcome["first"] and outcome["second"]))
    assert (outcome["first"], outcome["second"]) == (["cancelled 0"], ["cancelled 0"])
    assert (outcome["other"], outcome["none"]) == ([], [])
    gate.release()
    for thread in threads:
        thread.join(LONG)
    assert (outcome["other"], outcome["none"]) == (["served"], ["served"])
    assert free(gate) == 1


def test_a_stopped_token_does_not_wait_at_all() -> None:
    gate = Gate(RateLimit(concurrency=1))
    token = CancelToken()
    token.stop()
    gate.acquire()
    with pytest.raises(RequestCancelled):
        gate.acquire(token)
    gate.release()
    assert free(gate) == 1


def test_a_token_keeps_nothing_of_a_gate_after_the_wait() -> None:
    gate = Gate(RateLimit(concurrency=1))
    token = CancelToken()
    outcome: list[str] = []
    gate.acquire()
    thread = start(wait_for_permit, gate, token, outcome)
    until(lambda: waiting(gate) == 1)
    gate.release()
    thread.join(LONG)
    assert outcome == ["served"]
    assert token._listeners == set()


def test_a_thread_that_is_refused_knows_it_however_soon_it_runs() -> None:
    class Turn:
        """A turn that lets its holder go on and run to its end before `release` returns."""

        def __init__(self) -> None:
            self._let_go = threading.Event()
            self.over = threading.Event()

        def acquire(self) -> None:
            self._let_go.wait(LONG)

        def release(self) -> None:
            self._let_go.set()
            self.over.wait(0.1)

    gate = Gate(RateLimit(concurrency=1))
    token = CancelToken()
    turn: Any = Turn()
    outcome: list[str] = []

    def wait() -> None:
        try:
            gate._await(turn, token)
            outcome.append("served")
        except RequestCancelled:
            outcome.append("refused")
        turn.over.set()

    gate.acquire()
    gate._waiting.append(turn)
    thread = start(wait)
    until(lambda: bool(token._listeners))
    token.stop()
    thread.join(LONG)
    assert outcome == ["refused"]


def test_no_permit_is_lost_when_release_and_stop_race() -> None:
    gate = Gate(RateLimit(concurrency=2))
    random_pause = random.Random(7)
    for _ in range(60):
        token = CancelToken()
        outcome: list[str] = []
        gate.acquire()
        gate.acquire()
        threads = [start(wait_for_permit, gate, token, outcome) for _ in range(3)]
        until(lambda: waiting(gate) == 3)
        stopper = start(token.stop)
        if random_pause.random() < 0.5:
            os.sched_yield() if hasattr(os, "sched_yield") else None
        gate.release()
        gate.release()
        for thread in [*threads, stopper]:
            thread.join(LONG)
        assert len(outcome) == 3
        assert (gate._free, waiting(gate)) == (2, 0)


def test_no_permit_is_lost_among_threads_that_come_go_and_stop() -> None:
    gate = Gate(RateLimit(concurrency=3))
    outcome: list[str] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(20):
            token = CancelToken()
            if choose.random() < 0.5:
                stopper = start(token.stop)
                wait_for_permit(gate, token, outcome)
                stopper.join(LONG)
            else:
                wait_for_permit(gate, token if choose.random() < 0.5 else None, outcome)

    for thread in [start(work, seed) for seed in range(8)]:
        thread.join(LONG)
    assert len(outcome) == 160
    assert (gate._free, waiting(gate)) == (3, 0)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal sent to this very thread")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_leaves_the_queue_and_loses_no_permit() -> None:
    gate = Gate(RateLimit(concurrency=1))
    main = threading.get_ident()

    def interrupt() -> None:
        until(lambda: waiting(gate) == 1)
        signal.pthread_kill(main, signal.SIGINT)

    for token in (None, CancelToken()):
        gate.acquire()
        interrupter = start(interrupt)
        with pytest.raises(KeyboardInterrupt):
            gate.acquire(token)
        interrupter.join(LONG)
        assert waiting(gate) == 0
        gate.release()
        assert gate._free == 1
        assert token is None or token._listeners == set()


def test_an_interrupt_that_meets_a_refusal_or_a_permit_on_its_way_counts_neither_twice() -> None:
    class Interrupted:
        """A turn whose holder is interrupted just after somebody let it go on."""

        def __init__(self, before: Callable[[], object]) -> None:
            self._before = before

        def acquire(self) -> None:
            self._before()
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    for let_go in ("stop", "release", "nobody"):
        gate = Gate(RateLimit(concurrency=1))
        gate.acquire()
        token = CancelToken()
        acts: dict[str, Callable[[], object]] = {"stop": token.stop, "release": gate.release, "nobody": lambda: None}
        turn: Any = Interrupted(acts[let_go])
        gate._waiting.append(turn)
        with pytest.raises(KeyboardInterrupt):
            gate._await(turn, token)
        if let_go != "release":
            gate.release()
        assert (gate._free, waiting(gate)) == (1, 0), let_go


# --- the gate and processes -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def forked() -> Iterator[Callable[[Callable[[], bool]], bool]]:
    """Give a function that asks something in a forked child and returns its answer."""

    def ask(question: Callable[[], bool]) -> bool:
        child = os.fork()
        if not child:
            signal.alarm(10)
            os._exit(0 if question() else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    yield ask


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_all_permits_and_nobody_waiting() -> None:
    gate = Gate(RateLimit(concurrency=2))
    gate.acquire()
    gate.acquire()
    thread = start(gate.acquire)
    until(lambda: waiting(gate) == 1)

    def all_free() -> bool:
        gate.acquire()
        gate.acquire()
        gate.release()
        return (gate._free, waiting(gate)) == (1, 0)

    with forked() as ask, gate._lock:  # as another thread of the parent may hold it
        assert ask(all_free)
    for _ in range(3):
        gate.release()
    thread.join(LONG)
    assert gate._free == 2
