"""Which failed requests are sent again, and after what pause."""

from __future__ import annotations

import email.utils
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import (
    AllEndpointsFailed,
    ApiStatusError,
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    ContentFiltered,
    ContextTooLong,
    FlexLLMError,
    InputError,
    MalformedResponse,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ReplyTruncated,
    RequestCancelled,
    RequestError,
    RequestTimeout,
    SchemaMismatch,
    ServerError,
    StreamBroken,
    TlsFailed,
)
from flexllm.retry import (
    MAX_BACKOFF,
    MAX_RETRY_AFTER,
    RetryPolicy,
    blame,
    is_retryable,
    parse_retry_after,
    parse_should_retry,
)

NOW = 1_795_300_000.0


def dated(seconds: float) -> str:
    return email.utils.formatdate(NOW + seconds, usegmt=True)


# --- Retry-After ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": " 20 "}, 20.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "1e2"}, 100.0),
        ({"retry-after": dated(30)}, 30.0),
        ({"retry-after": dated(-30)}, 0.0),
        ({"retry-after": dated(0)}, 0.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "-0.1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "6m0s"}, None),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "0.5"}, 0.0005),
        ({"retry-after-ms": "250", "retry-after": "20"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "20"}, 0.0),
        ({"retry-after-ms": "garbage", "retry-after": "20"}, 20.0),
        ({"retry-after-ms": "-1", "retry-after": "20"}, 20.0),
        ({"retry-after-ms": "inf", "retry-after": "20"}, 20.0),
        ({"retry-after-ms": dated(5)}, None),
    ],
)
def test_what_the_server_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set here")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_date_means_gmt_in_all_three_forms_wherever_we_are(zone: str) -> None:
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TZ", zone)
            time.tzset()
            # The three forms of RFC 9110, section 5.6.7, of the same moment.
            for form in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
                assert parse_retry_after({"retry-after": form}, 784111777.0 - 30.0) == 30.0
    finally:
        time.tzset()


@given(st.text())
def test_no_header_whatever_it_holds_is_an_error(text: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        seconds = parse_retry_after({name: text}, NOW)
        assert seconds is None or 0.0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("text", "said"), [("true", True), ("True", True), ("false", False), ("FALSE", False), ("", None), ("yes", None)]
)
def test_the_servers_own_word_on_retrying_is_read(text: str, said: bool | None) -> None:
    assert parse_should_retry({"x-should-retry": text}) is said


def test_a_server_without_a_word_on_retrying_says_nothing() -> None:
    assert parse_should_retry({}) is None


# --- what is sent again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 520, 529, 599])
def test_these_statuses_may_go_away(status: int) -> None:
    assert is_retryable(ApiStatusError("x", status=status))


@pytest.mark.parametrize("status", [0, 304, 400, 401, 402, 403, 404, 405, 410, 413, 415, 418, 422, 451, 499])
def test_these_statuses_do_not_go_away(status: int) -> None:
    assert not is_retryable(ApiStatusError("x", status=status))


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (ConnectionFailed("x"), True),
        (RequestTimeout("x"), True),
        (TlsFailed("x"), False),
        (MalformedResponse("x"), True),
        (SchemaMismatch("x"), False),
        (StreamBroken("x"), False),
        (RequestCancelled("x"), False),
        (RequestError("x"), False),
        (RateLimited("x", status=429), True),
        (QuotaExhausted("x", status=429), False),
        (QuotaExhausted("x", status=402), False),
        (QuotaExhausted("x", status=402, retry_after=2.0), True),
        (QuotaExhausted("x", status=429, retry_after=2.0), False),
        (Overloaded("x", status=529), True),
        (ServerError("x", status=500), True),
        (AuthenticationFailed("x", status=401), False),
        (BadRequest("x", status=400), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_kind_of_failure_is_sent_again_or_not(error: RequestError, retryable: bool) -> None:
    assert is_retryable(error) is retryable


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500])
@pytest.mark.parametrize("word", [True, False])
def test_the_servers_own_word_beats_the_status(status: int, word: bool) -> None:
    assert is_retryable(ApiStatusError("x", status=status, should_retry=word)) is word


def test_no_word_of_the_server_makes_an_empty_account_worth_a_retry() -> None:
    assert not is_retryable(QuotaExhausted("x", status=429, should_retry=True, retry_after=1.0))


# --- what is to blame -------------------------------------------------------------------------------------------------

BLAMES: list[tuple[FlexLLMError, str]] = [
    (AuthenticationFailed("x", status=401), "endpoint"),
    (QuotaExhausted("x", status=402), "endpoint"),
    (QuotaExhausted("x", status=429), "endpoint"),
    (QuotaExhausted("x", status=402, retry_after=2.0), "moment"),
    (PermissionDenied("x", status=403), "endpoint"),
    (NotFound("x", status=404), "endpoint"),
    (NotFound("x", status=404, should_retry=True), "moment"),
    (NotFound("x", status=404, should_retry=False), "endpoint"),
    (NotFound("x", status=308), "endpoint"),
    (TlsFailed("x"), "endpoint"),
    (RateLimited("x", status=429), "moment"),
    (RateLimited("x", status=429, retry_after=MAX_RETRY_AFTER), "moment"),
    (RateLimited("x", status=429, retry_after=MAX_RETRY_AFTER + 1.0), "endpoint"),
    (Overloaded("x", status=529), "moment"),
    (ServerError("x", status=500), "moment"),
    (ServerError("x", status=500, should_retry=False), "request"),
    (ConnectionFailed("x"), "moment"),
    (RequestTimeout("x"), "moment"),
    (MalformedResponse("x"), "moment"),
    (BadRequest("x", status=400), "request"),
    (ContextTooLong("x", status=400), "request"),
    (ContentFiltered("x", status=400), "request"),
    (SchemaMismatch("x"), "request"),
    (ReplyTruncated("x"), "request"),
    (StreamBroken("x"), "request"),
    (InputError("x"), "request"),
    (ConfigError("x"), "request"),
    (AllEndpointsFailed("x"), "moment"),
    (AllEndpointsFailed("x", errors=[AuthenticationFailed("x", status=401), TlsFailed("x")]), "endpoint"),
    (AllEndpointsFailed("x", errors=[AuthenticationFailed("x", status=401), ServerError("x", status=500)]), "moment"),
]


@pytest.mark.parametrize(("error", "to_blame"), BLAMES, ids=[repr(error) for error, _ in BLAMES])
def test_each_failure_is_blamed_on_what_must_change(error: FlexLLMError, to_blame: str) -> None:
    assert blame(error) == to_blame


# --- and when ---------------------------------------------------------------------------------------------------------


class Most(random.Random):
    """Always the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Least(random.Random):
    """Always the lower end."""

    def uniform(self, a: float, b: float) -> float:
        return a


def delay(policy: RetryPolicy, error: RequestError, attempt: int, rng: random.Random | None = None) -> float | None:
    return policy.delay(error, attempt, rng or Most())


def test_the_number_of_retries_is_kept() -> None:
    policy = RetryPolicy(retry_times=3, retry_delay=1.0)
    delays = [delay(policy, ConnectionFailed("x"), attempt) for attempt in (1, 2, 3, 4, 5)]
    assert delays == [1.0, 2.0, 4.0, None, None]


def test_no_retries_means_one_attempt() -> None:
    assert delay(RetryPolicy(retry_times=0), ConnectionFailed("x"), 1) is None


def test_what_may_not_be_sent_again_has_no_delay() -> None:
    assert delay(RetryPolicy(), BadRequest("x", status=400, retry_after=1.0), 1) is None


def test_the_back_off_doubles_up_to_a_minute() -> None:
    policy = RetryPolicy(retry_times=10_000, retry_delay=1.0)
    assert [delay(policy, ServerError("x", status=500), attempt) for attempt in range(1, 9)] == [
        *(1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        *(60.0, 60.0),
    ]
    assert delay(policy, ServerError("x", status=500), 9_999) == MAX_BACKOFF == 60.0


def test_the_back_off_is_at_least_a_half() -> None:
    policy = RetryPolicy(retry_times=2, retry_delay=3.0)
    assert [delay(policy, ConnectionFailed("x"), attempt, Least()) for attempt in (1, 2)] == [1.5, 3.0]


def test_a_delay_of_zero_is_a_delay() -> None:
    assert delay(RetryPolicy(retry_delay=0.0), ConnectionFailed("x"), 1) == 0.0


@pytest.mark.parametrize(
    ("wish", "least", "most"),
    [(0.25, 0.25, 0.275), (5.0, 5.0, 5.5), (20.0, 20.0, 21.0), (MAX_RETRY_AFTER, 600.0, 601.0)],
)
def test_a_servers_wish_is_kept_to_the_letter_plus_a_little(wish: float, least: float, most: float) -> None:
    error = RateLimited("x", status=429, retry_after=wish)
    assert delay(RetryPolicy(retry_delay=100.0), error, 1, Least()) == least
    assert delay(RetryPolicy(retry_delay=100.0), error, 1, Most()) == pytest.approx(most)


@pytest.mark.parametrize("wish", [0.0, None])
def test_a_wish_of_zero_means_our_own_back_off(wish: float | None) -> None:
    assert delay(RetryPolicy(retry_delay=2.0), RateLimited("x", status=429, retry_after=wish), 1) == 2.0


def test_a_wish_beyond_what_is_waited_for_ends_the_request() -> None:
    error = RateLimited("x", status=429, retry_after=MAX_RETRY_AFTER + 0.1, should_retry=True)
    assert delay(RetryPolicy(), error, 1) is None


def test_a_wish_is_kept_on_any_status_that_is_sent_again() -> None:
    assert delay(RetryPolicy(), Overloaded("x", status=503, retry_after=7.0), 1, Least()) == 7.0


@given(
    st.floats(0.0, 1e6),
    st.integers(0, 50),
    st.integers(1, 60),
    st.none() | st.floats(0.0, 1e4),
    st.integers(),
)
def test_every_delay_keeps_its_bounds(first: float, times: int, attempt: int, wish: float | None, seed: int) -> None:
    error = RateLimited("x", status=429, retry_after=wish)
    chosen = RetryPolicy(retry_times=times, retry_delay=first).delay(error, attempt, random.Random(seed))
    if attempt > times or (wish or 0.0) > MAX_RETRY_AFTER:
        assert chosen is None
    elif wish:
        assert chosen is not None
        assert wish <= chosen <= wish + min(1.0, wish / 10) + 1e-9
    else:
        full = min(MAX_BACKOFF, first * 2.0 ** (attempt - 1))
        assert chosen is not None
        assert full / 2 <= chosen <= full


# --- the value --------------------------------------------------------------------------------------------------------


def test_the_default_is_three_retries_that_start_at_a_second() -> None:
    assert (RetryPolicy().retry_times, RetryPolicy().retry_delay) == (3, 1.0)


def test_all_attempts_of_a_row_have_ten_minutes_unless_another_time_is_given() -> None:
    assert RetryPolicy().total_timeout == 600.0
    assert RetryPolicy(total_timeout=None).total_timeout is None
    assert RetryPolicy(total_timeout=1).total_timeout == 1


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"retry_times": -1}, "retry_times=-1"),
        ({"retry_times": 1.5}, "retry_times=1.5"),
        ({"retry_times": None}, "retry_times=None"),
        ({"retry_delay": -0.1}, "retry_delay=-0.1"),
        ({"retry_delay": float("inf")}, "retry_delay=inf"),
        ({"retry_delay": float("nan")}, "retry_delay=nan"),
        ({"retry_delay": "1"}, "retry_delay='1'"),
        ({"retry_delay": None}, "retry_delay=None"),
        ({"total_timeout": 0}, "total_timeout=0"),
        ({"total_timeout": -1.0}, "total_timeout=-1.0"),
        ({"total_timeout": float("nan")}, "total_timeout=nan"),
        ({"total_timeout": "60"}, "total_timeout='60'"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        RetryPolicy(**options)
