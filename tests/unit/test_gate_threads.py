"""The gate and many threads: order, wake-ups, and no permit that is ever lost, also not by Ctrl-C at any call."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from fakes import FakeClock, eventually
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.cancel import CancelToken
from flexllm.errors import Overloaded, RateLimited, RequestCancelled, RequestTimeout, ServerError
from flexllm.limits import Cost, Gate, Passages, Permit, RateLimit, TokenBucket
from flexllm.limits.line import Turn
from flexllm.limits.traffic import Traffic

LONG = 60.0
"""Seconds that a broken gate makes a test wait before it fails."""


def start(target: Callable[..., object], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def finish(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads), "it waits for ever"


def assert_whole(gate: Gate, *passages: Passages) -> None:
    assert (gate.free, gate.waiting) == (gate.limit.concurrency, 0)
    assert gate._line._again == 0
    assert not gate.traffic.waiting
    assert [one.in_flight for one in passages] == [0] * len(passages)


class Sleeps:
    """How often threads fell asleep at a gate, and so how often they woke up."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, turn: Turn) -> None:
        with self._lock:
            self.count += 1
        turn.sleep()


class Waiter:
    """A thread that waits at a gate, holds its permit until it is told to leave, and tells how it fared."""

    def __init__(self, gate: Gate, served: list[str] | None = None, name: str = "", **options: Any) -> None:
        self.outcome = ""
        self.let_go = threading.Event()
        before = gate.waiting
        self._served, self._name = served, name
        self.thread = start(self._wait, gate, options)
        assert eventually(lambda: gate.waiting == before + 1 or self.outcome)

    def _wait(self, gate: Gate, options: dict[str, Any]) -> None:
        try:
            with gate.permit(**options):
                self.outcome = "served"
                if self._served is not None:
                    self._served.append(self._name)
                self.let_go.wait(LONG)
        except (RequestCancelled, RequestTimeout) as error:
            self.outcome = f"{type(error).__name__} {error.attempts}"

    def ends(self) -> str:
        self.let_go.set()
        finish([self.thread])
        return self.outcome


# --- order ------------------------------------------------------------------------------------------------------------


def test_threads_are_served_as_they_came_and_those_that_come_again_before_others() -> None:
    gate, served = Gate(RateLimit(concurrency=1, adaptive=False)), []  # type: ignore[var-annotated]
    with gate.permit():
        waiters = [Waiter(gate, served, name, again=name > "m") for name in "abxcydz"]
    for name in "xyzabcd":
        assert eventually(lambda name=name: served[-1:] == [name])  # type: ignore[misc]
        next(one for one in waiters if one._name == name).ends()
    assert_whole(gate)


def test_a_newcomer_does_not_overtake() -> None:
    gate, served = Gate(RateLimit(concurrency=1, adaptive=False)), []  # type: ignore[var-annotated]
    with gate.permit():
        waiter = Waiter(gate, served, "waiter")
        waiter.let_go.set()
    with gate.permit():
        served.append("newcomer")
    assert waiter.ends() == "served"
    assert served == ["waiter", "newcomer"]


@pytest.mark.slow
def test_who_comes_again_goes_before_one_who_sleeps_already() -> None:
    clock = FakeClock()
    gate, served = Gate(RateLimit(max_qps=5.0), clock=clock), []  # type: ignore[var-annotated]
    with gate.permit():
        pass
    fresh = Waiter(gate, served, "fresh")
    again = Waiter(gate, served, "again", again=True)
    clock.advance(0.2)
    assert again.ends() == "served"  # its own sleep takes 0.2 s at most
    clock.advance(0.2)
    assert fresh.ends() == "served"
    assert served == ["again", "fresh"]


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_never_more_holders_than_allowed_and_all_at_once_if_they_come(concurrency: int) -> None:
    gate = Gate(RateLimit(concurrency=concurrency, adaptive=False))
    together = threading.Barrier(concurrency)
    lock = threading.Lock()
    holders, most = 0, 0

    def work() -> None:
        nonlocal holders, most
        with gate.permit():
            with lock:
                holders += 1
                most = max(most, holders)
            together.wait(LONG)
            with lock:
                holders -= 1

    finish([start(work) for _ in range(3 * concurrency)])
    assert (most, holders) == (concurrency, 0)
    assert_whole(gate)


# --- the end of a wait ------------------------------------------------------------------------------------------------


def test_a_stop_ends_the_wait_of_its_own_threads_and_of_no_other() -> None:
    gate = Gate(RateLimit(concurrency=1, adaptive=False))
    mine, other = CancelToken(), CancelToken()
    with gate.permit():
        waiters = [Waiter(gate, cancel=cancel) for cancel in (mine, other, mine, None)]
        mine.stop()
        assert [waiters[0].ends(), waiters[2].ends()] == ["RequestCancelled 0"] * 2
        assert (gate.waiting, waiters[1].outcome, waiters[3].outcome) == (2, "", "")
    assert [waiters[1].ends(), waiters[3].ends()] == ["served"] * 2
    assert mine._listeners == other._listeners == set()
    assert_whole(gate)


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"max_qps": 1e-3}])
def test_a_wait_ends_at_once_whatever_it_waits_for(limits: dict[str, Any]) -> None:
    gate, cancel = Gate(RateLimit(**limits)), CancelToken()
    with gate.permit():
        first, second = Waiter(gate, cancel=cancel), Waiter(gate, cancel=cancel)
        cancel.stop()
        assert first.ends() == second.ends() == "RequestCancelled 0"
    assert_whole(gate)


def test_a_wait_for_a_permit_ends_when_its_time_is_over() -> None:
    gate = Gate(RateLimit(concurrency=1))
    with gate.permit():
        waiters = [Waiter(gate, until=time.monotonic() + seconds) for seconds in (0.05, 0.02)]
        assert [one.ends() for one in waiters] == ["RequestTimeout 0"] * 2
    assert_whole(gate)


def test_a_stop_needs_no_lock_and_so_never_waits_for_one() -> None:
    gate, cancel = Gate(RateLimit(concurrency=1)), CancelToken()
    with gate.permit():
        waiter = Waiter(gate, cancel=cancel)
        with gate.traffic.lock:
            finish([start(cancel.stop)])
        assert waiter.ends() == "RequestCancelled 0"


def test_a_stream_that_the_garbage_collector_closes_under_the_lock_gives_its_permit_back() -> None:
    gate = Gate(RateLimit(concurrency=1))

    def stream() -> Iterator[int]:
        with gate.permit():
            yield 1

    def collected_under_the_lock() -> None:
        pieces = stream()
        next(pieces)
        with gate.traffic.lock:
            pieces.close()  # type: ignore[attr-defined]

    finish([start(collected_under_the_lock)])
    assert_whole(gate)


# --- wake-ups ---------------------------------------------------------------------------------------------------------


def test_a_permit_that_comes_free_wakes_one_thread() -> None:
    sleeps = Sleeps()
    gate = Gate(RateLimit(concurrency=2, adaptive=False), sleep=sleeps)

    def work() -> None:
        for _ in range(20):
            with gate.permit():
                time.sleep(0)

    finish([start(work) for _ in range(20)])
    # Each of 400 passages sleeps when it joins; it wakes as the next in line, and when a permit is free.
    assert sleeps.count <= 3 * 400
    assert_whole(gate)


@pytest.mark.slow
def test_nobody_polls_while_the_rate_holds_everybody_back() -> None:
    sleeps = Sleeps()
    gate = Gate(RateLimit(concurrency=50, max_qps=200), sleep=sleeps)

    def work() -> None:
        for _ in range(4):
            with gate.permit() as permit:
                permit.accept(None)

    finish([start(work) for _ in range(25)])
    assert sleeps.count <= 4 * 100
    assert_whole(gate)


def test_nobody_wakes_while_nothing_happens() -> None:
    sleeps = Sleeps()
    gate = Gate(RateLimit(concurrency=1), sleep=sleeps)
    with gate.permit():
        cancel = CancelToken()
        waiters = [Waiter(gate, cancel=cancel) for _ in range(5)]
        assert eventually(lambda: sleeps.count == 5)
        time.sleep(0.05)
        assert sleeps.count == 5
        cancel.stop()
        finish([one.thread for one in waiters])


@pytest.mark.parametrize("same_gate", [True, False])
def test_a_correction_wakes_who_sleeps_for_tokens_that_were_not_used(same_gate: bool) -> None:
    """Also at another gate of the account that keeps to the same limit."""
    traffic = Traffic()
    gate = Gate(RateLimit(max_tpm=60), traffic=traffic)
    other = gate if same_gate else Gate(RateLimit(max_tpm=60, concurrency=3), traffic=traffic)
    with gate.permit(cost=Cost(1_000_000, 0)) as permit:
        waiter = Waiter(other, cost=Cost(1, 0))
        permit.accept({"prompt_tokens": 0, "completion_tokens": 0})
    assert waiter.ends() == "served"
    assert_whole(other)


def test_a_rate_that_rises_wakes_who_sleeps_for_the_old_one() -> None:
    clock = FakeClock()
    gate = Gate(RateLimit(), clock=clock)
    slow = {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "60s",
    }
    with gate.permit() as permit:
        permit.hear(slow)
        permit.accept(None)
    clock.advance(30.0)
    with gate.permit() as permit:  # a minute apart, it says; the clock does not move by itself
        permit.accept(None)
        waiter = Waiter(gate)
        clock.advance(1.0)
        permit.hear({**slow, "x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": "3000"})
    assert waiter.ends() == "served"


@pytest.mark.slow
def test_a_closure_holds_back_who_is_asleep_already() -> None:
    clock = FakeClock()
    gate = Gate(RateLimit(concurrency=2, max_qps=50), clock=clock)
    with contextlib.suppress(RateLimited), gate.permit():
        waiter = Waiter(gate)  # for 20 ms
        raise RateLimited("too many", status=429, retry_after=0.3)
    clock.advance(0.1)
    time.sleep(0.05)
    assert (waiter.outcome, gate.waiting) == ("", 1)
    clock.advance(0.2)
    assert waiter.ends() == "served"


# --- no permit is lost ------------------------------------------------------------------------------------------------


def troubled(gate: Gate, passages: Passages, seed: int, passed: list[float]) -> None:
    """Pass a gate many times, with stops, time limits, failures, refusals and replies of all kinds in between."""
    chance = random.Random(seed)
    for _ in range(12):
        cancel = CancelToken() if chance.random() < 0.6 else None
        stopper = start(cancel.stop) if cancel is not None and chance.random() < 0.5 else None
        until = time.monotonic() + chance.uniform(0.0, 0.004) if chance.random() < 0.3 else None
        failure = chance.choice(
            [
                None,
                None,
                None,
                KeyError("ours"),
                ServerError("x", status=500),
                RateLimited("x", status=429, retry_after=0.002),
                Overloaded("x", status=529, retry_after=0.001),
                KeyboardInterrupt(),
            ]
        )
        with (
            contextlib.suppress(
                RequestCancelled, RequestTimeout, KeyError, ServerError, RateLimited, KeyboardInterrupt
            ),
            gate.permit(
                cancel, again=chance.random() < 0.3, until=until, passages=passages, cost=Cost(chance.randrange(200), 9)
            ) as permit,
        ):
            passed.append(permit.sent_at)
            if failure is not None:
                raise failure
            permit.accept({"prompt_tokens": chance.randrange(200), "completion_tokens": 9, "total_tokens": 99})
        if stopper is not None:
            stopper.join(LONG)
        assert cancel is None or cancel._listeners == set()


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.integers(0, 10**9),
    st.integers(1, 4),
    st.none() | st.sampled_from([300.0, 2000.0]),
    st.none() | st.just(3_000_000.0),
    st.booleans(),
)
def test_no_permit_is_lost_among_threads_that_come_stop_and_fail(
    seed: int, concurrency: int, max_qps: float | None, max_tpm: float | None, is_shared: bool
) -> None:
    traffic = Traffic()
    limits: dict[str, Any] = {"max_qps": max_qps, "max_tpm": max_tpm, "min_qps": max_qps or 2000.0}
    gates = [Gate(RateLimit(concurrency=concurrency, **limits), traffic=traffic)]
    gates.append(Gate(RateLimit(concurrency=concurrency + 1, **limits), traffic=traffic) if is_shared else gates[0])
    passages = [Passages(), Passages()]
    passed: list[float] = []
    finish([start(troubled, gates[n % 2], passages[n % 2], seed + n, passed) for n in range(8)])
    for gate in gates:
        assert_whole(gate, *passages)
    assert sum(one.sent for one in passages) == len(passed)


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(0, 10**9), st.sampled_from([150.0, 400.0, 1000.0]), st.integers(1, 12))
def test_many_threads_on_one_bucket_never_beat_its_rate(seed: int, max_qps: float, threads: int) -> None:
    gate = Gate(RateLimit(concurrency=8, max_qps=max_qps, adaptive=False))
    passed: list[float] = []

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(60 // threads):
            with gate.permit() as permit:
                passed.append(permit.sent_at)
                time.sleep(chance.choice([0.0, 0.0, 0.001, 0.01]))

    finish([start(work, number) for number in range(threads)])
    assert_never_faster(sorted(passed), max_qps)
    assert_whole(gate)


def assert_never_faster(starts: list[float], max_qps: float) -> None:
    """Assert that every stretch of time holds what the rate allows, with the default burst, and no more."""
    made_up = max(0.5 / max_qps, 0.010 - 0.5 / max_qps)
    for number, begin in enumerate(starts):
        for later in range(number + 1, len(starts)):
            assert later - number <= max_qps * (starts[later] - begin + made_up) + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("max_qps", [100.0, 500.0])
def test_500_requests_of_real_threads_never_beat_the_rate(max_qps: float) -> None:
    gate = Gate(RateLimit(concurrency=32, max_qps=max_qps, adaptive=False))
    starts: list[float] = []

    def work() -> None:
        while len(starts) < 500:
            with gate.permit() as permit:
                starts.append(permit.sent_at)

    finish([start(work) for _ in range(16)])
    starts.sort()
    assert_never_faster(starts, max_qps)
    assert (len(starts) - 1) / (starts[-1] - starts[0]) <= max_qps * 1.005
    allowed = round(max_qps) + (1 if max_qps == 100.0 else 5)
    for begin, beyond in zip(starts, starts[allowed:], strict=False):
        assert beyond > begin + 1.0 - 1e-6


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal sent to this very thread")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"max_qps": 1e-3}])
def test_an_interrupt_ends_the_wait_and_the_next_in_line_is_served(limits: dict[str, Any]) -> None:
    clock = FakeClock()
    gate, main = Gate(RateLimit(**limits), clock=clock), threading.get_ident()
    holder = gate.permit().__enter__()
    behind: list[Waiter] = []

    def interrupt() -> None:
        assert eventually(lambda: gate.waiting == 1)
        behind.append(Waiter(gate))
        clock.advance(5000.0)
        signal.pthread_kill(main, signal.SIGINT)

    interrupter, cancel = start(interrupt), CancelToken()
    with pytest.raises(KeyboardInterrupt):
        gate.permit(cancel).__enter__()
    finish([interrupter])
    holder.__exit__(None, None, None)
    assert behind[0].ends() == "served"
    assert cancel._listeners == set()
    assert_whole(gate)


def test_who_is_interrupted_just_after_he_was_let_in_wakes_who_came_meanwhile() -> None:
    gate = Gate(RateLimit(concurrency=1, adaptive=False))
    permit = gate.permit().__enter__()
    waiter = Waiter(gate)
    gate._abandon(None, permit)
    assert waiter.ends() == "served"
    assert_whole(gate)


class CtrlC:
    """Raises KeyboardInterrupt at the n-th point within the limits' own modules at which Python looks for signals.

    Those points are the beginning of a Python function and the return of one in C. The one at the beginning of `__exit__`
    itself is left out: there no `with` block of Python's gives anything back.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        self._files = {sys.modules[one.__module__].__file__ for one in (Gate, Turn, Traffic, TokenBucket, Passages)}

    def __enter__(self) -> CtrlC:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    @property
    def struck(self) -> bool:
        return self._left < 0

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename not in self._files or event not in ("call", "c_return"):
            return
        if event == "call" and code.co_name == "__exit__":
            return
        self._left -= 1
        if self._left < 0:
            sys.setprofile(None)
            raise KeyboardInterrupt


Scene = Callable[[Gate, Passages], None]


def pass_at_once(gate: Gate, passages: Passages) -> None:
    with gate.permit(passages=passages, cost=Cost(10, 10)) as permit:
        permit.hear({"x-ratelimit-limit-requests": "9", "x-ratelimit-remaining-requests": "8"})
        permit.accept({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})


def wait_for_the_rate(gate: Gate, passages: Passages) -> None:
    pass_at_once(gate, passages)
    with gate.permit(CancelToken(), passages=passages, cost=Cost(10, 10), again=True):
        pass


def be_refused(gate: Gate, passages: Passages) -> None:
    with contextlib.suppress(RateLimited), gate.permit(passages=passages):
        raise RateLimited("x", status=429)
    pass_at_once(gate, passages)


def be_stopped(gate: Gate, passages: Passages) -> None:
    pass_at_once(gate, passages)
    cancel = CancelToken()
    cancel.stop()
    with contextlib.suppress(RequestCancelled), gate.permit(cancel, passages=passages):
        pass


@pytest.mark.parametrize("scene", [pass_at_once, wait_for_the_rate, be_refused, be_stopped])
def test_ctrl_c_at_any_call_loses_no_permit_and_blocks_nobody(scene: Scene) -> None:
    points = 0
    for at in range(1000):
        clock = FakeClock()

        def sleep(turn: Turn, clock: FakeClock = clock) -> None:
            assert turn.seconds < math.inf, "nobody would ever wake it"
            clock.sleep(max(turn.seconds, 1e-9))

        gate, passages = Gate(RateLimit(concurrency=1, max_qps=2, max_tpm=600), clock=clock, sleep=sleep), Passages()
        with CtrlC(at) as ctrl_c, contextlib.suppress(KeyboardInterrupt):
            scene(gate, passages)
        if not ctrl_c.struck:
            break
        points += 1
        assert (gate.free, gate.waiting, gate._line._again, passages.in_flight) == (1, 0, 0, 0), f"at point {at}"
        with gate.permit(passages=passages):
            pass
        assert_whole(gate, passages)
    assert points > 15


def test_a_permit_in_a_line_is_not_left_behind_by_ctrl_c_in_front_of_it() -> None:
    """Whoever is interrupted, at whatever point, the thread behind him is let in."""
    for at in range(200):
        gate = Gate(RateLimit(concurrency=1, adaptive=False))
        holder: Permit = gate.permit().__enter__()
        behind: list[Waiter] = []

        def sleep(turn: Turn, gate: Gate = gate, holder: Permit = holder, behind: list[Waiter] = behind) -> None:
            if threading.current_thread() is threading.main_thread():
                profile = sys.getprofile()
                sys.setprofile(None)
                behind.append(Waiter(gate))
                holder.__exit__(None, None, None)
                sys.setprofile(profile)
            turn.sleep()

        gate._sleep = sleep
        with CtrlC(at) as ctrl_c, contextlib.suppress(KeyboardInterrupt), gate.permit():
            pass
        if holder.is_held:
            holder.__exit__(None, None, None)
        for one in behind:
            assert one.ends() == "served", f"at point {at}"
        assert_whole(gate)
        if not ctrl_c.struck:
            break
    assert at > 10


def test_a_line_that_nothing_holds_up_any_more_is_not_joined() -> None:
    gate = Gate(RateLimit(concurrency=4, adaptive=False))
    gate.traffic.closed_until = time.monotonic() + 1e6
    sleeper = start(lambda: gate.permit().__enter__())
    assert eventually(lambda: gate.waiting == 1)
    gate.traffic.closed_until = -math.inf  # and nobody has told the sleeper

    with gate.permit(until=time.monotonic() + LONG) as permit:
        assert permit.is_held
        assert gate.waiting == 1
    sleeper.join(LONG)
    assert gate.waiting == 0  # told by the one who left


def test_a_line_that_a_rate_holds_up_is_joined() -> None:
    clock = FakeClock()
    gate = Gate(RateLimit(concurrency=4, max_qps=20, adaptive=False), clock=clock)
    with gate.permit():
        pass
    first = start(lambda: gate.permit().__enter__())
    assert eventually(lambda: gate.waiting == 1)
    second = start(lambda: gate.permit().__enter__())

    assert eventually(lambda: gate.waiting == 2)
    assert eventually(lambda: clock.advance(0.05) or gate.waiting == 0)
    finish([first, second])
