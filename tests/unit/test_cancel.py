"""The cancel token: soft stop, hard abort, and what is registered with it."""

from __future__ import annotations

import contextvars
import threading
from functools import partial

import pytest
from fakes import FakeClock

from flexllm.cancel import CancelToken, current, under


def test_a_new_token_lets_everything_go_on() -> None:
    token = CancelToken()
    assert (token.stopped, token.aborted, token.stopped_for()) == (False, False, 0.0)
    assert token.wait(0.0) is False


def test_stop_is_not_abort() -> None:
    token = CancelToken()
    token.stop()
    assert (token.stopped, token.aborted) == (True, False)


def test_abort_also_stops() -> None:
    token = CancelToken()
    token.abort()
    assert (token.stopped, token.aborted) == (True, True)


def test_a_wait_ends_at_once_after_stop() -> None:
    token = CancelToken()
    token.stop()
    assert token.wait(60.0) is True


def test_a_wait_in_another_thread_is_woken_by_stop() -> None:
    token = CancelToken()
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(token.wait(60.0)))
    waiter.start()
    token.stop()
    waiter.join(10.0)
    assert woken == [True]


def test_the_time_since_stop_counts_from_the_first_call() -> None:
    clock = FakeClock()
    token = CancelToken(clock=clock)
    clock.advance(5.0)
    token.stop()
    clock.advance(2.0)
    token.stop()
    token.abort()
    clock.advance(1.0)
    assert token.stopped_for() == 3.0


def test_a_stop_that_ctrl_c_cuts_short_is_done_again_by_the_abort_that_follows() -> None:
    token = CancelToken()
    heard: list[int] = []

    def listener(number: int) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise KeyboardInterrupt

    for number in range(3):
        token.on_stop(partial(listener, number))
    with pytest.raises(KeyboardInterrupt):
        token.stop()
    assert (token.stopped, len(heard)) == (True, 1)
    token.abort()
    assert set(heard) == {0, 1, 2}


def test_listeners_hear_of_stop_once() -> None:
    token = CancelToken()
    heard: list[str] = []
    token.on_stop(lambda: heard.append("a"))
    token.stop()
    token.stop()
    token.abort()
    assert heard == ["a"]


def test_a_listener_that_comes_after_stop_is_called_at_once() -> None:
    token = CancelToken()
    token.stop()
    heard: list[str] = []
    token.on_stop(lambda: heard.append("late"))
    assert heard == ["late"]


def test_a_listener_taken_back_hears_nothing() -> None:
    token = CancelToken()
    heard: list[str] = []

    def listener() -> None:
        heard.append("no")

    token.on_stop(listener)
    token.off_stop(listener)
    token.off_stop(listener)
    token.stop()
    assert heard == []


def test_listeners_may_take_themselves_back_while_they_are_called() -> None:
    token = CancelToken()
    heard: list[int] = []

    def listen(number: int) -> None:
        def listener() -> None:
            token.off_stop(listener)
            heard.append(number)

        token.on_stop(listener)

    for number in range(5):
        listen(number)
    token.stop()
    assert sorted(heard) == [0, 1, 2, 3, 4]


def test_breakers_are_called_by_abort_and_not_by_stop() -> None:
    token = CancelToken()
    broken: list[str] = []
    token.hold(lambda: broken.append("connection"))
    token.stop()
    assert broken == []
    token.abort()
    assert broken == ["connection"]


def test_a_breaker_that_comes_after_abort_is_called_at_once() -> None:
    token = CancelToken()
    token.abort()
    broken: list[str] = []
    token.hold(lambda: broken.append("late"))
    assert broken == ["late"]


def test_a_breaker_that_was_released_is_left_alone() -> None:
    token = CancelToken()
    broken: list[str] = []

    def breaker() -> None:
        broken.append("no")

    token.hold(breaker)
    token.release(breaker)
    token.release(breaker)
    token.abort()
    assert broken == []


def test_breakers_see_a_token_that_is_stopped_and_aborted() -> None:
    token = CancelToken()
    seen: list[tuple[bool, bool]] = []
    token.hold(lambda: seen.append((token.stopped, token.aborted)))
    token.abort()
    assert seen == [(True, True)]


def test_the_current_token_holds_inside_the_block_only() -> None:
    outer, inner = CancelToken(), CancelToken()
    assert current() is None
    with under(outer):
        with under(inner):
            assert current() is inner
        assert current() is outer
    assert current() is None


def test_the_current_token_is_put_back_after_an_error() -> None:
    try:
        with under(CancelToken()):
            raise KeyError
    except KeyError:
        pass
    assert current() is None


def test_the_current_token_travels_with_a_copied_context_and_not_into_a_bare_thread() -> None:
    token = CancelToken()
    seen: list[CancelToken | None] = []
    with under(token):
        copied = contextvars.copy_context()
    for target in (lambda: seen.append(copied.run(current)), lambda: seen.append(current())):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert seen == [token, None]


def test_a_request_to_stop_wakes_and_does_not_stop_by_itself() -> None:
    token = CancelToken()
    woken: list[str] = []

    def waker() -> None:
        woken.append("early")

    token.on_request(waker)
    token.on_request(lambda: woken.append("second"))
    token.off_request(waker)
    token.request_stop()
    token.on_request(lambda: woken.append("late"))
    assert woken == ["second", "late"]
    assert (token.stop_requested, token.stopped) == (True, False)


# --- a time for the whole


def test_a_token_without_a_time_goes_on_for_ever() -> None:
    clock = FakeClock()
    token = CancelToken(clock=clock)
    clock.advance(1e9)
    assert (token.heed(), token.time_left(), token.timed_out) == (False, None, False)


def test_a_token_heeds_its_time() -> None:
    clock, heard = FakeClock(), []
    token = CancelToken(clock=clock)
    token.on_stop(lambda: heard.append(True))
    token.stop_after(60.0)
    clock.advance(59.0)
    assert (token.heed(), token.time_left(), token.timed_out, heard) == (False, 1.0, False, [])
    clock.advance(1.0)
    assert (token.heed(), token.stopped, token.timed_out, heard) == (True, True, True, [True])
    clock.advance(5.0)
    assert (token.time_left(), token.stopped_for()) == (0.0, 5.0)


def test_a_time_that_is_over_after_a_stop_was_not_its_reason() -> None:
    clock = FakeClock()
    token = CancelToken(clock=clock)
    token.stop_after(60.0)
    token.stop()
    clock.advance(100.0)
    assert (token.heed(), token.timed_out) == (True, False)


def test_a_token_heeds_a_signal_handler() -> None:
    token = CancelToken()
    token.request_stop()
    assert token.stopped is False
    assert (token.heed(), token.stopped, token.timed_out) == (True, True, False)


def test_the_time_of_a_token_stops_its_children() -> None:
    clock = FakeClock()
    token = CancelToken(clock=clock)
    child = token.child()
    token.stop_after(1.0)
    clock.advance(1.0)
    token.heed()
    assert (child.stopped, child.aborted) == (True, False)
