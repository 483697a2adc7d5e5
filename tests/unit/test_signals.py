"""Ctrl-C and SIGTERM while a batch runs: the first asks, the second is obeyed at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from flexllm.batch.signals import StopSignals
from flexllm.cancel import CancelToken

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in BOTH]
    yield
    assert [signal.getsignal(number) for number in BOTH] == before
    for number, handler in zip(BOTH, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
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


@pytest.mark.parametrize("first", BOTH)
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
            seen.append([signal.getsignal(number) for number in BOTH])

    before = [signal.getsignal(number) for number in BOTH]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_batch_in_a_batch_leaves_the_signals_to_the_outer_one() -> None:
    outer, inner = CancelToken(), CancelToken()
    with StopSignals(outer) as outer_signals, StopSignals(inner) as inner_signals:
        signal.raise_signal(signal.SIGINT)
    assert (outer_signals.received, inner_signals.received) == (signal.SIGINT, None)
