"""Which reply a request gets, and the mock's rate limit. No socket."""

from __future__ import annotations

from fakes import FakeClock

from flexllm.mock import openai
from flexllm.mock.responder import TokenBucket, dialect_of


def test_a_burst_of_one_never_lets_two_through_at_once() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=16, burst=1, clock=clock)
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.advance(1)  # a rest saves up no more than the burst
    assert [bucket.take(), bucket.take()] == [True, False]


def test_a_bucket_keeps_its_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=16, burst=4, clock=clock)
    passed = 0
    for _ in range(640):  # ten seconds, asked four times as often as allowed
        clock.advance(1 / 64)
        passed += bucket.take()
    assert 160 <= passed <= 164


def test_a_path_of_no_dialect_is_answered_in_that_of_openai() -> None:
    assert dialect_of("/") is openai
