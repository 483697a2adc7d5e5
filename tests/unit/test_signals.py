"""Ctrl-C, SIGTERM and SIGHUP while a batch runs: the first asks, the second is obeyed at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from flexllm.batch.signals import StopSignals, Terminated, raise_terminated
from flexllm.cancel import CancelToken

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in ALL]
    yield
    assert [signal.getsignal(number) for number in ALL] == before
    for number, handler in zip(ALL, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL)
def test_the_first_signal_asks_for_a_stop_and_raises_nothing(number: signal.Signals) -> None:
    cancel = CancelToken()
    with StopSignals(cancel) as signals:
        signal.raise_signal(number)
        assert signals.received == number
    assert cancel.stop_requested
    assert not cancel.stopped  # a handler must take no lock; who is woken stops


def test_whoever_waits_is_woken() -> None:
    cancel, woken = CancelToken(), []
    cancel.on_request(lambda: woken.append(True))
    with StopSignals(cancel):
        signal.raise_signal(signal.SIGINT)
    assert woken == [True]


def test_without_a_signal_nothing_happens() -> None:
    cancel = CancelToken()
    with StopSignals(cancel) as signals:
        pass
    assert signals.received is None
    signals.raise_received()
    assert not cancel.stop_requested


@pytest.mark.parametrize("first", ALL)
def test_the_second_ctrl_c_is_obeyed_at_once(first: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals(CancelToken()) as signals:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was not obeyed")
    assert signals.received == signal.SIGINT


def test_the_second_sigterm_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, object]] = []
    with StopSignals(CancelToken()):
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr("os.kill", lambda process, number: sent.append((number, signal.getsignal(number))))
        signal.raise_signal(signal.SIGTERM)
    assert sent == [(signal.SIGTERM, signal.SIG_DFL)]


def test_what_was_received_is_done_later() -> None:
    with StopSignals(CancelToken()) as signals:
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.raise_received()


def test_a_received_sigterm_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    with StopSignals(CancelToken()) as signals:
        signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr("os.kill", lambda process, number: sent.append(number))
    signals.raise_received()
    assert sent == [signal.SIGTERM]


def test_handlers_of_the_caller_are_left_alone() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        cancel = CancelToken()
        with StopSignals(cancel) as signals:
            signal.raise_signal(signal.SIGTERM)
        assert (heard, signals.received, cancel.stop_requested) == ([signal.SIGTERM], None, False)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    try:
        with StopSignals(CancelToken()) as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_off_the_main_thread_nothing_is_touched() -> None:
    seen = []

    def enter() -> None:
        with StopSignals(CancelToken()):
            seen.append([signal.getsignal(number) for number in ALL])

    before = [signal.getsignal(number) for number in ALL]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_batch_in_a_batch_leaves_the_signals_to_the_outer_one() -> None:
    outer, inner = CancelToken(), CancelToken()
    with StopSignals(outer) as outer_signals, StopSignals(inner) as inner_signals:
        signal.raise_signal(signal.SIGINT)
    assert (outer_signals.received, inner_signals.received) == (signal.SIGINT, None)


def test_a_handler_that_raises_gives_way_for_as_long_as_the_batch_runs() -> None:
    before = signal.signal(signal.SIGHUP, raise_terminated)
    try:
        with StopSignals(CancelToken()) as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.received == signal.SIGHUP
        with pytest.raises(Terminated) as caught:
            signal.raise_signal(signal.SIGHUP)
        assert caught.value.signal == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_raises_where_that_is_how_the_process_ends() -> None:
    before = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        with pytest.raises(Terminated), StopSignals(CancelToken()):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the second signal was not obeyed")
    finally:
        signal.signal(signal.SIGTERM, before)
