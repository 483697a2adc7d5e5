"""The limits as values, which requests share a gate, and what a forked child does with one."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from fakes import eventually

from flexllm.cancel import CancelToken
from flexllm.errors import ConfigError, RateLimited, RequestCancelled
from flexllm.limits import Gate, Passages, RateLimit, shared_gate

LONG = 60.0
"""Seconds that a broken gate makes a test wait before it fails."""


# --- the value --------------------------------------------------------------------------------------------------------


def test_the_default_is_ten_at_a_time_and_whatever_rate_is_accepted() -> None:
    limit = RateLimit()
    assert (limit.concurrency, limit.adaptive) == (10, True)
    others = ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm", "burst")
    assert [getattr(limit, name) for name in others] == [None] * len(others)


RATES = ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm")


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "5", True, [1]])
@pytest.mark.parametrize("name", RATES)
def test_a_rate_is_a_number_above_0(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        RateLimit(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r} must be above 0")


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
@pytest.mark.parametrize(("name", "called"), [("concurrency", "concurrency_limit"), ("burst", "burst")])
def test_a_count_is_a_whole_number_and_is_called_as_the_user_knows_it(name: str, called: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        RateLimit(**{name: value})
    assert str(caught.value).startswith(f"{called}={value!r} must be a whole number of at least 1")


def test_concurrency_is_always_limited() -> None:
    with pytest.raises(ConfigError, match="concurrency_limit=None"):
        RateLimit(concurrency=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_adaptive_is_true_or_false(value: Any) -> None:
    with pytest.raises(ConfigError, match="adaptive="):
        RateLimit(adaptive=value)


def test_the_floor_may_not_be_above_the_ceiling() -> None:
    assert RateLimit(min_qps=5, max_qps=5).min_qps == 5
    with pytest.raises(ConfigError, match=r"min_qps=6 must not be above max_qps=5"):
        RateLimit(min_qps=6, max_qps=5)


@pytest.mark.parametrize("name", RATES)
def test_tokens_are_counted_where_they_are_limited(name: str) -> None:
    assert RateLimit(**{name: 1}).counts_tokens == name.endswith("tpm")  # type: ignore[arg-type]


def test_limits_are_equal_by_value_and_pickle() -> None:
    limit = RateLimit(max_qps=5, max_tpm=10_000)
    assert limit == RateLimit(max_qps=5.0, max_tpm=10_000)
    assert pickle.loads(pickle.dumps(limit)) == limit


# --- one gate for an account ------------------------------------------------------------------------------------------


def test_the_same_account_and_limits_pass_the_same_gate() -> None:
    gate = shared_gate(("url", "key"), RateLimit(max_qps=5))
    assert shared_gate(("url", "key"), RateLimit(max_qps=5)) is gate
    for account, limit in [
        (("url", "other key"), RateLimit(max_qps=5)),
        (("other url", "key"), RateLimit(max_qps=5)),
        (("url", "key"), RateLimit(max_qps=6)),
    ]:
        assert shared_gate(account, limit) is not gate


def refuse(gate: Gate, seconds: float) -> None:
    with contextlib.suppress(RateLimited), gate.permit():
        raise RateLimited("too many", status=429, retry_after=seconds)


def test_a_refusal_closes_every_gate_of_the_account_and_no_other() -> None:
    one, other = shared_gate("mine", RateLimit(max_qps=5)), shared_gate("mine", RateLimit(concurrency=3))
    stranger = shared_gate("theirs", RateLimit(max_qps=5))
    refuse(one, 300.0)
    assert one.closed_for() == pytest.approx(other.closed_for(), abs=5.0)
    assert other.closed_for() > 200.0
    assert stranger.closed_for() == 0.0
    assert one.learned() is None  # a first refusal is not yet a ceiling
    assert one.traffic is other.traffic is not stranger.traffic


def test_gates_of_an_account_keep_to_their_own_limits() -> None:
    """Each bucket is shared by those gates alone that name the same rate."""
    slow = shared_gate("account", RateLimit(max_qps=1, max_tpm=60))
    same_rate = shared_gate("account", RateLimit(max_qps=1, concurrency=3))
    fast = shared_gate("account", RateLimit(max_qps=7))
    assert slow._requests[0] is same_rate._requests[0]
    assert fast._requests[0] is not slow._requests[0]
    assert (slow.free, same_rate.free) == (10, 3)


def test_gates_and_what_they_learned_go_when_nobody_holds_them() -> None:
    gate = shared_gate("fleeting", RateLimit(max_qps=5))
    refuse(gate, 300.0)
    seen = [weakref.ref(gate), weakref.ref(gate.traffic), weakref.ref(gate._requests[0])]
    del gate
    gc.collect()
    assert [one() for one in seen] == [None, None, None]
    assert shared_gate("fleeting", RateLimit(max_qps=5)).closed_for() == 0.0


def test_a_gate_at_which_nobody_waits_any_more_is_not_kept() -> None:
    gate = shared_gate("waited for", RateLimit(concurrency=1))
    be_waited_for(gate)
    seen = weakref.ref(gate)
    del gate
    gc.collect()
    assert seen() is None


def be_waited_for(gate: Gate) -> None:
    cancel = CancelToken()
    with gate.permit():
        waiter = threading.Thread(target=wait, args=(gate, cancel), daemon=True)
        waiter.start()
        assert eventually(lambda: gate.waiting == 1)
        cancel.stop()
        waiter.join(LONG)


def wait(gate: Gate, cancel: CancelToken | None = None) -> None:
    with contextlib.suppress(RequestCancelled), gate.permit(cancel):
        pass


def test_threads_that_ask_at_the_same_time_get_the_same_gate() -> None:
    found: list[Gate] = []
    ready = threading.Barrier(8)

    def ask() -> None:
        ready.wait(LONG)
        found.append(shared_gate("asked for", RateLimit(max_qps=3)))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


# --- processes --------------------------------------------------------------------------------------------------------


def in_a_child(question: Callable[[], bool]) -> bool:
    """Ask something in a forked child."""
    child = os.fork()
    if not child:
        signal.alarm(10)
        try:
            answer = question()
        except BaseException:
            answer = False
        os._exit(0 if answer else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def fork_while_held(gate: Gate, question: Callable[[], bool]) -> bool:
    """Ask in a child that is forked while another thread of the parent holds the gate's lock."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with gate.traffic.lock:
            is_held.set()
            is_over.wait(LONG)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    is_held.wait(LONG)
    try:
        return in_a_child(question)
    finally:
        is_over.set()
        holder.join(LONG)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_all_permits_and_nobody_waiting() -> None:
    gate, passages, cancel = Gate(RateLimit(concurrency=2)), Passages(), CancelToken()

    def starts_afresh() -> bool:
        with gate.permit(passages=passages), gate.permit():
            return (gate.free, gate.waiting, passages.in_flight) == (0, 0, 1)

    with gate.permit(passages=passages), gate.permit():
        waiter = threading.Thread(target=wait, args=(gate, cancel), daemon=True)
        waiter.start()
        assert eventually(lambda: gate.waiting == 1)
        assert fork_while_held(gate, starts_afresh)
        assert (gate.free, gate.waiting, passages.in_flight) == (0, 1, 1)
        cancel.stop()
        waiter.join(LONG)
    assert (gate.free, passages.in_flight) == (2, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_knows_the_gates_of_its_parent_and_that_they_are_closed() -> None:
    gate = shared_gate("inherited", RateLimit(max_qps=5))
    refuse(gate, 300.0)

    def knows() -> bool:
        same = shared_gate("inherited", RateLimit(max_qps=5))
        return same is gate and same.closed_for() > 200.0

    assert fork_while_held(gate, knows)
