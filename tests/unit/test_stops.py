"""When a batch ends itself: which failures decide, how many of them, and what the user is told."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.progress import Tally
from flexllm.batch.stops import (
    ALIKE_ROWS,
    FEWEST_UNANSWERED,
    FEWEST_UNREACHED,
    SHARE_FROM,
    StopRules,
    Verdict,
    out_of_time,
)
from flexllm.errors import (
    AllEndpointsFailed,
    AuthenticationFailed,
    BadRequest,
    ConnectionFailed,
    ContentFiltered,
    FlexLLMError,
    InputError,
    MalformedResponse,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestError,
    RequestTimeout,
    SchemaMismatch,
    ServerError,
    TlsFailed,
)

ANSWERED = "answered"
CACHED = "cached"
RESUMED = "resumed"
UNREADABLE = InputError("row 0 cannot be asked: it is no object")

WRONG_KEY = AuthenticationFailed("HTTP 401: no such key", status=401, code="invalid_api_key")
BROKEN = ServerError("HTTP 500: oops", status=500)
NOBODY = ConnectionFailed("connection refused")

Outcome = str | FlexLLMError


def judged(
    outcomes: list[Outcome],
    *,
    workers: int = 1,
    endpoints: int = 1,
    fail_over: float | None = None,
    known: int = 0,
) -> tuple[int, Verdict | None]:
    """Count rows as a job does; an earlier run failed on the first `known` of them.

    Returns:
        How many were settled at the first verdict, and the verdict; or all, and None.
    """
    rules, tally = StopRules(workers=workers, endpoints=endpoints, fail_over=fail_over), Tally()
    for number, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, FlexLLMError):
            tally.count_error(outcome, number)
            verdict = rules.failed(outcome, tally, was_asked=outcome is not UNREADABLE, is_new=number > known)
            if verdict is not None:
                return number, verdict
        else:
            tally.success += 1
            tally.cached += outcome == CACHED
            tally.resumed += outcome == RESUMED
    return len(outcomes), None


# --- what every further row would meet


@pytest.mark.parametrize(
    "error",
    [
        WRONG_KEY,
        PermissionDenied("no", status=403),
        QuotaExhausted("no credit", status=429, code="insufficient_quota"),
        QuotaExhausted("no credit", status=402),
        NotFound("no such model", status=404, code="model_not_found"),
        TlsFailed("self-signed"),
        RateLimited("tomorrow", status=429, retry_after=40_000.0),
        AllEndpointsFailed("both", errors=[WRONG_KEY, NotFound("no", status=404)]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_third_of_a_kind_is_fatal(error: FlexLLMError) -> None:
    assert ALIKE_ROWS == 3
    settled, verdict = judged([ANSWERED, error, error, error, error])
    assert settled == 4
    assert verdict is not None
    assert (verdict.reason, verdict.error) == ("fatal", error)
    assert str(error) in verdict.why


def test_an_answer_in_between_begins_a_new_count() -> None:
    assert judged([WRONG_KEY, WRONG_KEY, ANSWERED, WRONG_KEY, WRONG_KEY, ANSWERED] * 20)[1] is None


@pytest.mark.parametrize("nothing_new", [CACHED, RESUMED, UNREADABLE, BROKEN, NOBODY, RequestError("a defect")])
def test_what_no_server_answered_is_no_answer_in_between(nothing_new: Outcome) -> None:
    settled, verdict = judged([WRONG_KEY, nothing_new, WRONG_KEY, nothing_new, WRONG_KEY])
    assert settled == 5
    assert verdict is not None


@pytest.mark.parametrize(
    "judged_row",
    [BadRequest("no", status=400), ContentFiltered("no", status=400), SchemaMismatch("no", content="x")],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_judges_a_row_knows_the_key(judged_row: FlexLLMError) -> None:
    assert judged([WRONG_KEY, WRONG_KEY, judged_row] * 20)[1] is None


@pytest.mark.parametrize(
    "other",
    [
        PermissionDenied("no", status=403, code="invalid_api_key"),
        AuthenticationFailed("no", status=403, code="invalid_api_key"),
        AuthenticationFailed("no", status=401, code="expired"),
        AuthenticationFailed("no", status=401),
    ],
)
def test_errors_are_alike_in_class_status_and_code(other: FlexLLMError) -> None:
    assert judged([WRONG_KEY, other, WRONG_KEY, other])[1] is None
    assert judged([WRONG_KEY, other, WRONG_KEY, other, WRONG_KEY])[0] == 5


def test_a_code_may_be_anything() -> None:
    odd = AuthenticationFailed("no", status=401, code={"reason": ["key"]})  # type: ignore[arg-type]
    assert judged([odd] * 3)[1] is not None


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no", status=400),
        InputError("no such picture"),
        SchemaMismatch("not JSON"),
        RequestError("unexpected KeyError; please report it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_single_rows_never_end_a_run(error: FlexLLMError) -> None:
    assert judged([error] * 1_000)[1] is None


def test_one_bad_endpoint_of_a_pool_does_not_decide() -> None:
    assert judged([*[WRONG_KEY] * 10, ANSWERED] * 20, workers=4, endpoints=2)[1] is None
    settled, verdict = judged([WRONG_KEY] * 100, workers=4, endpoints=2)
    assert settled == FEWEST_UNANSWERED
    assert verdict is not None


def test_a_pool_without_a_good_endpoint_ends_the_run() -> None:
    assert judged([AllEndpointsFailed("both", errors=[WRONG_KEY, WRONG_KEY])] * 9, endpoints=2)[0] == 3


@pytest.mark.parametrize("error", [PermissionDenied("no", status=403), NotFound("no", status=404)])
def test_refusals_that_may_be_a_rows_own_fault_wait_for_all_that_is_under_way(error: FlexLLMError) -> None:
    assert judged([error] * 100, workers=64)[0] == 64
    assert judged([*[error] * 63, ANSWERED] * 20, workers=64)[1] is None
    assert judged([WRONG_KEY] * 100, workers=64)[0] == 3


# --- rows that failed before


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("flagged", status=403),
        NotFound("no such model", status=404),
        RequestTimeout("too long"),
        BROKEN,
        MalformedResponse("half a reply"),
        AllEndpointsFailed("both", errors=[NOBODY, BROKEN]),
        BadRequest("no", status=400),
    ],
    ids=lambda error: type(error).__name__,
)
def test_rows_that_fail_again_do_not_stop_a_run_at_the_same_place(error: FlexLLMError) -> None:
    assert judged([*[error] * 1_000, ANSWERED], known=1_000, fail_over=0.1)[1] is None


@pytest.mark.parametrize(
    ("error", "rows"),
    [(WRONG_KEY, 3), (QuotaExhausted("no credit", status=402), 3), (TlsFailed("expired"), 3), (NOBODY, 10)],
    ids=lambda value: type(value).__name__,
)
def test_what_no_row_can_be_blamed_for_counts_again(error: FlexLLMError, rows: int) -> None:
    assert judged([error] * 1_000, known=1_000)[0] == rows


# --- no server, no answer


@pytest.mark.parametrize(("workers", "rows"), [(1, FEWEST_UNREACHED), (5, 10), (6, 12), (64, 128)])
def test_a_run_that_reaches_nobody_ends(workers: int, rows: int) -> None:
    settled, verdict = judged([NOBODY] * 1_000, workers=workers)
    assert settled == rows
    assert verdict is not None
    assert (verdict.reason, verdict.error) == ("fatal", NOBODY)
    assert verdict.why == f"the first {rows} rows brought no reply at all (connection refused)"


@pytest.mark.parametrize("error", [RequestTimeout("no answer"), AllEndpointsFailed("both", errors=[NOBODY, NOBODY])])
def test_silence_and_a_pool_without_servers_are_nobody_too(error: FlexLLMError) -> None:
    assert judged([error] * 100)[0] == FEWEST_UNREACHED


@pytest.mark.parametrize(
    "sign_of_life", [ANSWERED, BROKEN, RateLimited("slow", status=429), BadRequest("no", status=400)]
)
def test_a_server_that_was_reached_has_longer(sign_of_life: Outcome) -> None:
    settled, verdict = judged([sign_of_life, *[NOBODY] * 1_000])
    counted = isinstance(sign_of_life, FlexLLMError) and not isinstance(sign_of_life, BadRequest)
    assert settled == FEWEST_UNANSWERED + (not counted)
    assert verdict is not None
    assert verdict.why == "the last 20 rows failed without an answer in between (connection refused)"


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        NOBODY,
        RateLimited("slow", status=429),
        MalformedResponse("a page for people"),
        AllEndpointsFailed("both", errors=[NOBODY, BROKEN]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(("workers", "rows"), [(1, FEWEST_UNANSWERED), (5, 20), (6, 24), (64, 256)])
def test_a_server_that_answers_no_more_ends_the_run(error: FlexLLMError, workers: int, rows: int) -> None:
    settled, verdict = judged([ANSWERED, *[error] * 1_000], workers=workers)
    assert settled == rows + 1
    assert verdict is not None
    assert (verdict.reason, verdict.error) == ("fatal", error)


def test_a_server_that_answers_now_and_then_is_kept_on_with() -> None:
    assert judged([*[BROKEN] * (FEWEST_UNANSWERED - 1), ANSWERED] * 20)[1] is None
    assert judged([*[NOBODY] * (FEWEST_UNREACHED - 1), ANSWERED, *[NOBODY] * (FEWEST_UNANSWERED - 1)])[1] is None


# --- the share


def test_a_share_is_looked_at_from_twenty_rows_on() -> None:
    bad = BadRequest("no", status=400)
    settled, verdict = judged([bad] * 100, fail_over=0.5)
    assert settled == SHARE_FROM == 20
    assert verdict is not None
    assert (verdict.reason, verdict.error) == ("failures", bad)
    assert verdict.why == "20 of 20 rows failed, more than fail_over=0.5 allows; the last: no"


@pytest.mark.parametrize(("share", "failures"), [(0.1, 10), (0.29, 29), (0.57, 57), (0.7, 70), (1, 100), (1e-9, 0)])
def test_a_share_must_be_exceeded(share: float, failures: int) -> None:
    bad = BadRequest("no", status=400)
    assert judged([*[ANSWERED] * (100 - failures), *[bad] * failures], fail_over=share)[1] is None
    one_more = judged([*[ANSWERED] * (100 - failures), *[bad] * (failures + 1)], fail_over=share)
    assert (one_more[0], one_more[1] is None) == (101, share == 1)


def test_rows_of_earlier_runs_and_unreadable_ones_are_no_part_of_the_share() -> None:
    bad = BadRequest("no", status=400)
    assert judged([*[RESUMED] * 1_000, *[bad] * 20], fail_over=0.9)[0] == 1_020
    assert judged([UNREADABLE] * 1_000, fail_over=0.1)[1] is None
    assert judged([*[UNREADABLE] * 1_000, *[ANSWERED] * 18, *[bad] * 2], fail_over=0.1)[1] is None
    assert judged([*[UNREADABLE] * 1_000, *[ANSWERED] * 17, *[bad] * 3], fail_over=0.1)[0] == 1_020
    assert judged([*[bad] * 5, *[ANSWERED] * 16, UNREADABLE], fail_over=0.2)[1] is None
    assert judged([*[bad] * 5, *[ANSWERED] * 16, bad], fail_over=0.2)[1] is not None


def test_without_a_share_any_number_may_fail() -> None:
    assert judged([BadRequest("no", status=400)] * 1_000)[1] is None


# --- together

_OUTCOMES: list[Outcome] = [
    ANSWERED,
    CACHED,
    RESUMED,
    UNREADABLE,
    WRONG_KEY,
    BROKEN,
    NOBODY,
    BadRequest("no", status=400),
]


def _expected(outcomes: list[Outcome], fail_over: float | None) -> bool:
    """Whether the last of these rows ends the run, said once more in other words."""
    last_reply = max(
        (at for at, one in enumerate(outcomes) if one == ANSWERED or isinstance(one, BadRequest)), default=-1
    )
    since = outcomes[last_reply + 1 :]
    last, failures = outcomes[-1], [one for one in outcomes if isinstance(one, FlexLLMError) and one is not UNREADABLE]
    if last not in failures:
        return False
    if last is WRONG_KEY and since.count(WRONG_KEY) >= 3:
        return True
    unanswered = sum(since.count(one) for one in (WRONG_KEY, BROKEN, NOBODY))
    was_reached = last_reply >= 0 or WRONG_KEY in outcomes or BROKEN in outcomes
    if last in (WRONG_KEY, BROKEN, NOBODY) and unanswered >= (20 if was_reached else 10):
        return True
    asked = len(failures) + outcomes.count(ANSWERED) + outcomes.count(CACHED)
    return fail_over is not None and asked >= 20 and len(failures) / asked > fail_over


@given(st.lists(st.sampled_from(_OUTCOMES), min_size=1, max_size=80), st.sampled_from([None, 0.25, 0.5]))
def test_any_order_of_outcomes_is_judged_by_the_same_rules(outcomes: list[Outcome], fail_over: float | None) -> None:
    settled, verdict = judged(outcomes, fail_over=fail_over)
    ends = [end for end in range(1, len(outcomes) + 1) if _expected(outcomes[:end], fail_over)]
    assert (settled, verdict is not None) == ((ends[0], True) if ends else (len(outcomes), False))


# --- what is said


def test_the_sentence_says_what_happened_how_far_it_got_and_how_to_go_on() -> None:
    verdict = judged([WRONG_KEY] * 3)[1]
    assert verdict is not None
    told = verdict.as_error(Tally(total=1_000, success=120, failed=3), Path("answers/out.jsonl"))
    assert str(told) == (
        "stopped with 120 of 1,000 rows answered: every further row would fail as the last 3 did (HTTP 401: no such key); "
        "once that is mended, run the same again: only rows without an answer in answers/out.jsonl are asked"
    )
    assert (told.reason, told.error) == ("fatal", WRONG_KEY)


def test_time_that_is_over_needs_no_mending() -> None:
    told = out_of_time(3600.0).as_error(Tally(success=12_345), Path("out.jsonl"))
    assert str(told) == (
        "stopped with 12,345 rows answered: max_time=3600 seconds are over; run the same again: only rows without an "
        "answer in out.jsonl are asked"
    )
    assert (told.reason, told.error) == ("max_time", None)


def test_without_a_file_there_is_nothing_to_go_on_from() -> None:
    told = out_of_time(0.5).as_error(Tally(total=4, success=1), None)
    assert str(told) == "stopped with 1 of 4 rows answered: max_time=0.5 seconds are over"


def test_what_is_told_can_be_pickled() -> None:
    told = Verdict(reason="fatal", why="so", error=WRONG_KEY).as_error(Tally(total=math.inf), None)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(told))
    assert (str(copy), copy.reason, type(copy.error)) == (str(told), "fatal", AuthenticationFailed)
