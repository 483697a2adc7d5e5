"""The mock's own limits, what headers tell of them, and the figures of the ledger. No socket, no real clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from flexllm.mock import MockOptions, ReceivedRequest, anthropic, gemini, openai
from flexllm.mock.hints import duration_text, first_half, seconds_text
from flexllm.mock.ledger import MAX_MODELS, Exchange, Ledger
from flexllm.mock.limits import Limits, Load, TokenBucket
from flexllm.mock.replies import Allowance
from flexllm.mock.responder import Responder, ordinary_reply

CHAT = "/v1/chat/completions"


def chat(prompt: str = "hello", path: str = CHAT, **fields: Any) -> ReceivedRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
    headers = {"anthropic-version": "2023-06-01"}
    return ReceivedRequest(method="POST", path=path, headers=headers, body=json.dumps(body).encode(), time_unix=1e9)


def head_and_error(responder: Responder, request: ReceivedRequest) -> tuple[int, dict[str, str], Any]:
    exchange, plan = responder.answer(request)
    exchange.end(is_complete=True)
    head, _, body = b"".join(data for _, data in plan.steps).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return exchange.status, headers, json.loads(body).get("error")


# ---------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.0001, "1ms"),
        (0.999, "999ms"),
        (1, "1s"),
        (1.2, "1.2s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (62.345, "1m2.345s"),
        (360, "6m0s"),
        (3723.5, "1h2m3.5s"),
        (3600, "1h0m0s"),
        (90_000, "25h0m0s"),
    ],
)
def test_a_duration_is_written_as_go_does(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(seconds=st.floats(0, 1e7))
def test_a_duration_is_rounded_up_by_less_than_a_millisecond(seconds: float) -> None:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    total, number = 0.0, ""
    text = duration_text(seconds)
    at = 0
    while at < len(text):
        if text[at].isdigit() or text[at] == ".":
            number += text[at]
            at += 1
            continue
        unit = "ms" if text.startswith("ms", at) else text[at]
        total += float(number) * units[unit]
        number, at = "", at + len(unit)
    assert seconds - 1e-6 <= total <= seconds + 0.001 + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0"), (1, "1"), (2.5, "2.5"), (0.05, "0.05"), (10.0, "10"), (3.6e6, "3600000")]
)
def test_seconds_are_plain_numbers(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_half_of_a_stream_is_found_by_what_it_says() -> None:
    steps = [(0.0, data) for data in (b"start", b"a1", b"a2", b"a3", b"b", b"end")]
    assert first_half(steps, b"a") == steps[:2]  # "start" has an a, too
    assert first_half(steps, b"x", b"b") == steps[:5]
    assert first_half(steps, b"x") == steps[:1]


# ---------------------------------------------------------------------------------------------------- buckets


def test_a_bucket_tells_what_is_left_of_a_minute() -> None:
    clock = FakeClock()
    bucket = TokenBucket(rate=2, burst=120, clock=clock)
    assert bucket.allowance() == (120, 120, 0)
    for _ in range(3):
        bucket.take()
    assert bucket.allowance() == (120, 117, 1.5)
    clock.advance(0.25)
    assert bucket.allowance() == (120, 117, 1.25)
    clock.advance(9)
    assert bucket.allowance() == (120, 120, 0)


def test_what_is_told_of_a_short_burst_still_gives_the_rate() -> None:
    bucket = TokenBucket(rate=40, burst=1, clock=FakeClock())
    assert bucket.take()
    assert not bucket.take()
    limit, remaining, reset = bucket.allowance()
    assert (limit, remaining, reset) == (2400, 2399, 1 / 40)
    assert (limit - remaining) / reset == 40


def test_requests_and_tokens_are_counted_apart() -> None:
    clock = FakeClock()
    limits = Limits(MockOptions(rate_limit=1, rate_burst=2, token_rate_limit=600), Load(), clock)
    assert limits.refusal() is None
    assert limits.token_refusal(500) is None
    assert limits.refusal() is None
    assert "limit 600, remaining 100, asked 101" in (limits.token_refusal(101) or "")
    assert limits.token_refusal(100) is None
    assert limits.refusal() == ""
    clock.advance(1)  # a sixtieth of the minute's tokens is back
    assert limits.refusal() is None
    assert limits.token_refusal(11) is not None
    assert limits.token_refusal(10) is None
    requests, tokens = limits.allowances()
    assert requests == (60, 58, 2.0)
    assert tokens == Allowance(600, 0, 60.0)


def test_what_is_larger_than_a_minute_never_passes() -> None:
    clock = FakeClock()
    limits = Limits(MockOptions(token_rate_limit=100), Load(), clock)
    clock.advance(3600)
    assert limits.token_refusal(101) is not None
    assert limits.token_refusal(100) is None


def test_no_limit_tells_nothing() -> None:
    limits = Limits(MockOptions(), Load(), FakeClock())
    assert (limits.is_any, limits.allowances()) == (False, (None, None))


# ---------------------------------------------------------------------------------------------------- on the wire


def test_tokens_above_the_limit_are_a_429_in_every_dialect() -> None:
    messages = chat(path="/v1/messages", max_tokens=100)
    content = ReceivedRequest(
        method="POST",
        path="/v1beta/models/gemini-2.0-flash:generateContent",
        body=json.dumps({"contents": [{"parts": [{"text": "hello"}]}]}).encode(),
    )
    for request in (chat(), chat(stream=True), messages, content):
        tokens = ordinary_reply(request).tokens
        responder = Responder(MockOptions(token_rate_limit=tokens, retry_after=2), None)
        assert responder.answer(request)[0].status == 200
        status, headers, error = head_and_error(responder, request)
        assert status == 429
        assert f"tokens per minute: limit {tokens}, remaining " in error["message"]
        assert headers.get("retry-after", "2") == "2"


def test_tokens_are_those_of_the_usage() -> None:
    spent = json.loads(openai.reply(chat(), (), 0.0).body or b"")["usage"]["total_tokens"]
    assert openai.reply(chat(), (), 0.0).tokens == openai.reply(chat(stream=True), (), 0.0).tokens == spent
    responder = Responder(MockOptions(token_rate_limit=spent * 2), None)
    assert [responder.answer(chat())[0].status for _ in range(3)] == [200, 200, 429]


def test_more_requests_under_way_than_allowed_are_a_429() -> None:
    responder = Responder(MockOptions(concurrency_limit=2), None)
    first, second = responder.answer(chat())[0], responder.answer(chat())[0]
    status, headers, error = head_and_error(responder, chat())
    assert (status, headers["retry-after"]) == (429, "1")
    assert "at most 2 may be" in error["message"]
    responder.reset()  # what is under way stays so
    assert head_and_error(responder, chat())[0] == 429
    first.end(is_complete=False)
    third = responder.answer(chat())[0]
    assert third.status == 200
    assert responder.answer(ReceivedRequest(method="GET", path="/v1/models"))[0].status == 200
    for exchange in (second, third):
        exchange.end(is_complete=True)


def test_rate_headers_tell_of_every_limit_there_is() -> None:
    options = MockOptions(rate_limit=0.5, rate_burst=30, token_rate_limit=6000, rate_headers=True)
    spent = openai.reply(chat(), (), 0.0).tokens
    _, headers, _ = head_and_error(Responder(options, None), chat())
    assert headers["x-ratelimit-limit-requests"] == "30"
    assert headers["x-ratelimit-remaining-requests"] == "29"
    assert headers["x-ratelimit-limit-tokens"] == "6000"
    assert headers["x-ratelimit-remaining-tokens"] == str(6000 - spent)
    for name in ("requests", "tokens"):
        assert headers[f"x-ratelimit-reset-{name}"].endswith("s")
    _, headers, _ = head_and_error(Responder(options, None), chat(path="/v1/messages", max_tokens=100))
    told = {name: value for name, value in headers.items() if name.startswith("anthropic-ratelimit-")}
    assert told["anthropic-ratelimit-requests-limit"] == "30"
    assert told["anthropic-ratelimit-requests-remaining"] == "29"
    assert told["anthropic-ratelimit-requests-reset"] == "2001-09-09T01:46:42Z"
    assert told["anthropic-ratelimit-tokens-remaining"] == "6000"  # in round thousands
    assert len(told) == 6


def test_rate_headers_come_with_refusals_and_only_if_asked_for() -> None:
    responder = Responder(MockOptions(rate_limit=0.01, rate_headers=True), None)
    responder.answer(chat())
    status, headers, _ = head_and_error(responder, chat())
    assert (status, "x-ratelimit-reset-requests" in headers) == (429, True)
    assert "x-ratelimit-limit-tokens" not in headers
    _, headers, _ = head_and_error(Responder(MockOptions(rate_limit=5), None), chat())
    assert [name for name in headers if "ratelimit" in name] == []
    assert gemini.rate_headers(Allowance(1, 1, 0.0), None, 0.0) == {}
    assert anthropic.rate_headers(None, None, 0.0) == openai.rate_headers(None, None, 0.0) == {}


@pytest.mark.parametrize("faulty", [None, "rate_limited"])
def test_a_429_without_a_hint_has_none(faulty: str | None) -> None:
    script = None if faulty is None else [None, faulty]
    responder = Responder(MockOptions(rate_limit=0.01, retry_after=None), script)
    responder.answer(chat())
    status, headers, _ = head_and_error(responder, chat())
    assert status == 429
    assert [name for name in headers if "retry" in name or "ratelimit" in name] == []


# ---------------------------------------------------------------------------------------------------- the ledger


def arrive(ledger: Ledger, time: float, model: str | None = "m") -> Exchange:
    request = ReceivedRequest(method="POST", path=CHAT, time=time, time_unix=1e9 + time)
    return ledger.begin_chat(request, "p", model, Load())


def test_the_ledger_tells_when_requests_came_and_how_fast() -> None:
    ledger = Ledger()
    stats = ledger.stats()
    assert (stats["first_at"], stats["last_at"], stats["rate"], stats["peak_per_second"]) == (None, None, None, 0)
    arrive(ledger, 5)
    stats = ledger.stats()
    assert (stats["first_at"], stats["last_at"], stats["rate"], stats["peak_per_second"]) == (1e9 + 5, 1e9 + 5, None, 1)
    for time in (5.5, 5.75, 7):
        arrive(ledger, time)
    stats = ledger.stats()
    assert (stats["first_at"], stats["last_at"], stats["rate"]) == (1e9 + 5, 1e9 + 7, 1.5)
    assert stats["peak_per_second"] == 3


def test_requests_at_one_moment_have_no_rate() -> None:
    ledger = Ledger()
    arrive(ledger, 5)
    arrive(ledger, 5)
    assert ledger.stats()["rate"] is None


def test_requests_a_second_apart_are_not_in_the_same_second() -> None:
    ledger = Ledger()
    for at in range(50):
        arrive(ledger, at / 8)
    assert ledger.stats()["peak_per_second"] == 8


@given(st.lists(st.integers(0, 4096), min_size=1, max_size=60))
def test_the_peak_is_that_of_every_window_of_a_second(ticks: list[int]) -> None:
    times = sorted(number / 1024 for number in ticks)
    ledger = Ledger()
    for time in times:
        arrive(ledger, time)
    windows = [sum(start <= time < start + 1 for time in times) for start in times]
    assert ledger.stats()["peak_per_second"] == max(windows)


def test_statuses_and_models_are_counted_by_name() -> None:
    ledger = Ledger()
    for status, model, has_head in ((200, "a", True), (200, "b", True), (503, "a", True), (200, None, False)):
        exchange = arrive(ledger, 1, model)
        exchange.status = status
        exchange.end(is_complete=has_head, has_head=has_head)
    stats = ledger.stats()
    assert stats["statuses"] == {"200": 2, "503": 1}
    assert stats["models"] == {"a": 2, "b": 1}
    assert (stats["answered"], stats["failed"]) == (2, 2)


def test_the_names_of_models_are_bounded() -> None:
    ledger = Ledger()
    for at in range(MAX_MODELS + 1):
        arrive(ledger, 1, f"m{at}")
    arrive(ledger, 1, "m0")
    stats = ledger.stats()
    assert (len(stats["models"]), stats["models"]["m0"], stats["truncated"]) == (MAX_MODELS, 2, True)


def test_the_counts_that_were_given_out_do_not_change() -> None:
    ledger = Ledger()
    before = ledger.stats()
    arrive(ledger, 1).end(is_complete=True)
    assert before == Ledger().stats()


def test_models_are_those_that_were_asked_for() -> None:
    responder = Responder(MockOptions(), None)
    responder.answer(chat())
    responder.answer(chat(path="/v1/messages", max_tokens=5, model="claude"))
    content = json.dumps({"contents": [{"parts": [{"text": "hello"}]}]}).encode()
    path = "/v1beta/models/gemini%2D3:generateContent"
    responder.answer(ReceivedRequest(method="POST", path=path, body=content))
    for odd in (b"{", b"[]", b'{"model": 3}', b'{"model": null}'):
        responder.answer(ReceivedRequest(method="POST", path=CHAT, body=odd))
    responder.answer(ReceivedRequest(method="GET", path="/v1/models"))
    assert responder.ledger.stats()["models"] == {"m": 1, "claude": 1, "gemini-3": 1}
