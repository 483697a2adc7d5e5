"""What servers say of their limits in the headers of their replies."""

from __future__ import annotations

import math
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexllm.limits.hints import MOST_GOOD_FOR, RateHint, parse_duration, parse_rate_hint

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=timezone.utc).timestamp()
DATE = "Sun, 22 Nov 2026 10:00:00 GMT"

KINDS = ("requests", "tokens", "input-tokens", "output-tokens")


def openai(kind: str, limit: object, remaining: object, reset: object) -> dict[str, str]:
    pairs = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"x-ratelimit-{word}-{kind}": str(value) for word, value in pairs.items() if value is not None}


def anthropic(kind: str, limit: object, remaining: object, reset: object) -> dict[str, str]:
    pairs = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"anthropic-ratelimit-{kind}-{word}": str(value) for word, value in pairs.items() if value is not None}


def hint_of(*headers: dict[str, str]) -> RateHint | None:
    return parse_rate_hint({name: value for one in headers for name, value in one.items()}, NOW)


def sure_hint_of(*headers: dict[str, str]) -> RateHint:
    hint = hint_of(*headers)
    assert hint is not None
    return hint


# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("1s", 1.0),
        ("0s", 0.0),
        ("1.2s", 1.2),
        (".5s", 0.5),
        ("1m12ms", 60.012),
        ("250us", 0.00025),
        ("250\u00b5s", 0.00025),
        ("250\u03bcs", 0.00025),
        ("1ns", 1e-9),
        ("24h", 86400.0),
        (" 6m0s ", 360.0),
        ("30", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "-1s", "1h-2m", "s", "ms", "1 s", "1s 2ms", "1d", "6m0", "1e3", "1_000", "nan", "inf", "+5", "1.2.3s",
     "\u0661s", "5S", "soon", "1" * 101, "1s" * 51],
)  # fmt: skip
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59_999))
def test_any_duration_of_hours_minutes_and_milliseconds_is_read(hours: int, minutes: int, millis: int) -> None:
    expected = hours * 3600 + minutes * 60 + millis / 1000
    assert parse_duration(f"{hours}h{minutes}m{millis / 1000}s") == pytest.approx(expected)
    assert parse_duration(f"{hours}h{minutes}m{millis}ms") == pytest.approx(expected)


@given(st.text(max_size=30) | st.text("0123456789.hmsunµ-+e ", max_size=150))
def test_any_text_is_a_finite_duration_or_none(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or 0 <= seconds < math.inf


# --- rates ------------------------------------------------------------------------------------------------------------


def test_a_reply_without_such_headers_tells_nothing() -> None:
    assert parse_rate_hint({}, NOW) is None
    assert parse_rate_hint({"content-type": "application/json", "retry-after": "5", "date": DATE}, NOW) is None


def test_a_bucket_tells_at_what_pace_it_is_refilled() -> None:
    hint = sure_hint_of(openai("requests", 500, 100, "48s"))
    assert hint.requests_per_second == pytest.approx(500 / 60)
    assert (hint.tokens_per_second, hint.wait, hint.good_for) == (None, None, 48.0)


def test_a_window_tells_what_is_left_of_it() -> None:
    hint = sure_hint_of(openai("requests", 500, 450, "50s"))
    assert hint == RateHint(requests_per_second=9.0, good_for=50.0)


@given(limit=st.integers(2, 10**6), share=st.floats(0.0, 1.0, exclude_max=True), period=st.floats(0.1, 86400))
def test_nobody_is_held_below_what_either_kind_of_server_allows(limit: int, share: float, period: float) -> None:
    remaining = min(int(limit * share), limit - 1)
    refill_in = (limit - remaining) * period / limit
    of_bucket = hint_of(openai("requests", limit, remaining, f"{refill_in:.9f}s"))
    assert of_bucket is not None
    assert (of_bucket.requests_per_second or 0) >= limit / period * 0.999
    window_ends_in = period * share + 0.001
    of_window = hint_of(openai("requests", limit, remaining, f"{window_ends_in:.9f}s"))
    assert of_window is not None
    assert (of_window.requests_per_second or 0) >= remaining / window_ends_in * 0.999


def test_a_bucket_that_is_asked_as_fast_as_it_says_settles_at_its_own_rate() -> None:
    # A bucket of 500 requests a minute, and a client that always takes the hint at its word, ten times a second.
    limit, left, sent = 500.0, 499.0, 0.0
    for tick in range(6000):
        left = min(limit, left + limit / 600)
        hint = hint_of(openai("requests", 500, int(left), f"{(limit - left) * 60 / limit:.6f}s"))
        going = 1.0 if hint is None or hint.requests_per_second is None else hint.requests_per_second / 10
        going = min(going, left)
        left -= going
        sent += going if tick >= 3000 else 0.0
    assert sent / 300 == pytest.approx(500 / 60, rel=0.02)


def test_a_limit_that_nothing_was_taken_of_does_not_bind() -> None:
    assert hint_of(openai("requests", 500, 500, "1s")) is None
    assert hint_of(openai("requests", 500, 501, "1s")) is None
    assert hint_of(openai("requests", 500, 100, "0s")) is None


def test_an_allowance_of_a_day_is_not_spread_over_the_day() -> None:
    # Groq: 14,400 requests a day; one comes back every six seconds.
    fresh = sure_hint_of(openai("requests", 14_400, 14_000, "40m"))
    assert fresh.requests_per_second == pytest.approx(14_000 / 60)
    assert fresh.good_for == 60.0
    as_told = sure_hint_of(openai("requests", 14_400, 14_000, "86.4s"))
    assert as_told.requests_per_second == pytest.approx(14_000 / 60)
    half = sure_hint_of(openai("requests", 14_400, 7_200, "12h0m0s"))
    assert half.requests_per_second == pytest.approx(120.0)
    at_its_end = sure_hint_of(openai("requests", 14_400, 2, "23h59m48s"))
    assert at_its_end.requests_per_second == pytest.approx(1 / 6, rel=0.01)


def test_tokens_have_a_rate_of_their_own() -> None:
    hint = sure_hint_of(openai("requests", 500, 400, "10s"), openai("tokens", 30_000, 15_000, "30s"))
    assert hint == RateHint(requests_per_second=40.0, tokens_per_second=500.0, good_for=30.0)


def test_anthropics_points_in_time_are_read() -> None:
    hint = sure_hint_of(anthropic("requests", 50, 20, "2026-11-22T10:00:30Z"))
    assert hint == RateHint(requests_per_second=1.0, good_for=30.0)


@pytest.mark.parametrize(
    "reset",
    ["2026-11-22T10:00:30Z", "2026-11-22t10:00:30z", "2026-11-22 10:00:30Z", "2026-11-22T10:00:30.000000000Z",
     "2026-11-22T12:00:30+02:00", "2026-11-22T04:30:30-05:30", "30", "30s", "1795341630", "1795341630000"],
)  # fmt: skip
def test_a_reset_may_be_told_in_any_of_these_forms(reset: str) -> None:
    assert int(NOW) == 1795341600
    assert hint_of(anthropic("requests", 50, 20, reset)) == RateHint(requests_per_second=1.0, good_for=30.0)
    assert hint_of(openai("requests", 50, 20, reset)) == RateHint(requests_per_second=1.0, good_for=30.0)


@pytest.mark.parametrize(
    "reset",
    ["2026-13-22T10:00:30Z", "2026-11-22T10:00:60Z", "2026-11-22T25:00:30Z", "0000-11-22T10:00:30Z", "2026-11-22",
     "2026-11-22T10:00:30", "2026-11-22T09:59:59Z", "1795341599", "1795341599999", "", "never"],
)  # fmt: skip
def test_a_reset_that_is_over_or_cannot_be_read_tells_nothing(reset: str) -> None:
    assert hint_of(anthropic("requests", 50, 20, reset)) is None


def test_the_tightest_limit_on_tokens_counts() -> None:
    reset = "2026-11-22T10:00:30Z"
    hint = sure_hint_of(
        anthropic("tokens", 90_000, 45_000, reset),
        anthropic("input-tokens", 80_000, 40_000, reset),
        anthropic("output-tokens", 10_000, 4_000, reset),
    )
    assert hint == RateHint(tokens_per_second=200.0, good_for=30.0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_limit_is_read_where_it_is_the_only_one(kind: str) -> None:
    hint = sure_hint_of(anthropic(kind, 50, 20, "2026-11-22T10:00:30Z"))
    assert (hint.requests_per_second, hint.tokens_per_second) == ((1.0, None) if kind == "requests" else (None, 1.0))
    assert (hint_of(openai(kind, 50, 20, "30s")) == hint) is (kind in ("requests", "tokens"))


def test_parts_of_a_second_count() -> None:
    assert sure_hint_of(anthropic("requests", 50, 0, "2026-11-22T10:00:00.25Z")).wait == pytest.approx(0.25)


def test_the_servers_own_clock_is_what_its_points_in_time_are_held_against() -> None:
    headers = {**anthropic("requests", 50, 20, "2026-11-22T10:00:30Z"), "date": DATE}
    for clock_is_wrong_by in (-900.0, 900.0):
        hint = parse_rate_hint(headers, NOW + clock_is_wrong_by)
        assert hint == RateHint(requests_per_second=1.0, good_for=30.0)
    assert parse_rate_hint({**headers, "date": "yesterday"}, NOW) == hint


def test_openrouters_names_and_milliseconds_are_read() -> None:
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795341640000"}
    assert hint_of(headers) == RateHint(requests_per_second=0.5, wait=40.0, good_for=40.0)


# --- what is used up --------------------------------------------------------------------------------------------------


def test_a_limit_that_is_used_up_tells_how_long_to_wait() -> None:
    hint = sure_hint_of(openai("requests", 60, 0, "12s"), openai("tokens", 30_000, 15_000, "30s"))
    assert (hint.wait, hint.requests_per_second, hint.good_for) == (12.0, 5.0, 30.0)
    assert sure_hint_of(openai("tokens", 30_000, 0, "20s")).wait == 20.0
    assert sure_hint_of(openai("requests", 60, 1, "12s")).wait is None


def test_the_longest_wait_counts() -> None:
    assert sure_hint_of(openai("requests", 60, 0, "12s"), openai("tokens", 900, 0, "20s")).wait == 20.0


def test_no_wait_and_no_hint_is_longer_than_a_minute() -> None:
    hint = sure_hint_of(openai("requests", 14_400, 0, "24h"))
    assert (hint.wait, hint.good_for) == (MOST_GOOD_FOR, MOST_GOOD_FOR)


def test_without_its_limit_what_is_used_up_is_still_waited_for() -> None:
    assert hint_of(openai("requests", None, 0, "12s")) == RateHint(wait=12.0, good_for=12.0)
    assert hint_of(openai("requests", None, 5, "12s")) is None


# --- what makes no sense ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [(-1, -1, "0"), (0, 0, "10s"), (-1, 0, "10s"), (100, -1, "10s"), (100, 50, "-10"), (100, 50, None), ("", "", ""),
     ("many", 0, "10s"), ("100, 200", 0, "10s"), ("nan", 0, "10s"), ("inf", 5, "10s"), (100, "1e999", "10s")],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_ignored(limit: object, remaining: object, reset: object) -> None:
    assert hint_of(openai("requests", limit, remaining, reset)) is None
    whole = openai("tokens", 900, 450, "10s")
    assert hint_of(openai("requests", limit, remaining, reset), whole) == hint_of(whole)


def test_limits_of_something_else_are_not_read() -> None:
    reset = "2026-11-22T10:00:30Z"
    assert hint_of(openai("tokens_usage_based", 900, 0, "10s")) is None
    assert hint_of(anthropic("unified", 900, 0, "1795341640"), anthropic("priority-input-tokens", 9, 0, reset)) is None


_TEXTS = st.one_of(
    st.text(max_size=40),
    st.integers(-2, 10**20).map(str),
    st.floats().map(str),
    st.text("0123456789", min_size=90, max_size=310),
    st.floats(0, 1e6).map(lambda seconds: f"{seconds:.9f}s"),
    st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    st.sampled_from(
        ["0s", "6m0s", "9999-12-31T23:59:59-99:99", "0001-01-01T00:00:00+23:59", "1ns", "0." + "0" * 90 + "1"]
    ),
)
_NAMES = st.sampled_from(
    [
        *(f"x-ratelimit-{word}-{kind}" for word in ("limit", "remaining", "reset") for kind in KINDS[:2]),
        *(f"x-ratelimit-{word}" for word in ("limit", "remaining", "reset")),
        *(f"anthropic-ratelimit-{kind}-{word}" for word in ("limit", "remaining", "reset") for kind in KINDS),
        "date",
    ]
)


@given(st.dictionaries(_NAMES, _TEXTS), st.floats(0, 1e11))
@example({f"x-ratelimit-{word}": "9" * 100 for word in ("limit", "remaining", "reset")}, NOW)
@example({"x-ratelimit-limit": "9" * 100, "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1ns"}, NOW)
def test_any_headers_give_finite_numbers_above_0_or_nothing(headers: dict[str, str], now: float) -> None:
    hint = parse_rate_hint(headers, now)
    if hint is not None:
        numbers = (hint.requests_per_second, hint.tokens_per_second, hint.wait)
        assert any(number is not None for number in numbers)
        assert all(0 < number < math.inf for number in numbers if number is not None)
        assert 0 < hint.good_for <= MOST_GOOD_FOR
        assert hint.wait is None or hint.wait <= MOST_GOOD_FOR
