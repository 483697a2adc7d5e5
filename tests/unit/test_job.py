"""One batch, whatever runs it: what it counts, what it says, and how it ends."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes import Cut, FakeClock, FakeEngine

from flexllm.batch.items import BatchItem
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, Usage
from flexllm.errors import (
    AuthenticationFailed,
    BadRequest,
    CheckpointError,
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    InputError,
    PermissionDenied,
    RateLimited,
    ServerError,
)
from flexllm.health import EndpointHealth

QUIET = ProgressOptions(show=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def options(path: Path | None = None, **more: Any) -> BatchOptions:
    return BatchOptions(output=path, checkpoint=CheckpointOptions(flush_interval=1_000.0), progress=QUIET, **more)


def rows(*conversations: Any, total: int | None = None) -> ListRows:
    return ListRows(iter(conversations) if total is None else list(conversations), "m", {})


def echo(item: BatchItem) -> str:
    assert item.request is not None
    return f"to {item.request.messages[-1]['content']}"


def outputs(path: Path) -> list[str | None]:
    return [json.loads(line)["output"] for line in path.read_bytes().splitlines()]


class HoldingEngine:
    """Gives the first rows one by one; the next come back only once it is stopped, as what is under way does.

    Args:
        error: Raised at the end, as what the input raised is.
    """

    def __init__(self, cancel: CancelToken, *, given: int, held: int, error: BaseException | None = None) -> None:
        self._cancel = cancel
        self._given = given
        self._held = held
        self._error = error

    def run(self, items: Iterable[BatchItem]) -> Generator[list[BatchItem], None, None]:
        items = iter(items)
        for item in islice(items, self._given):
            yield [self._answered(item)]
        under_way = list(islice(items, self._held))
        assert self._cancel.stopped, "nobody stopped it"
        for item in under_way:
            yield [self._answered(item)]
        if self._error is not None:
            raise self._error

    def _answered(self, item: BatchItem) -> BatchItem:
        item.outcome = ChatCompletionResult(echo(item))
        return item


# --- counts


def test_every_row_is_given_once_with_its_answer() -> None:
    job = BatchJob(FakeEngine(echo, group=2), options(), CancelToken())
    items = list(job.run(rows("a", "b", "c")))
    assert [(item.index, item.content) for item in items] == [(0, "to a"), (1, "to b"), (2, "to c")]
    assert job.is_complete


def test_the_summary_counts_what_became_of_the_rows() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
    outcomes: dict[str, Any] = {
        "a": ChatCompletionResult("A", usage, attempts=3, cost=0.25, cost_estimated=0.125),
        "b": ChatCompletionResult("B", usage, cached=True, cost=0.0),
        "c": RateLimited("slow down", status=429, attempts=4),
        "d": ServerError("oops", status=500, attempts=1, request_id="req_7"),
        "e": RateLimited("slow down", status=429, attempts=4),
    }
    clock = FakeClock()

    def answer(item: BatchItem) -> Any:
        clock.advance(0.5)
        assert item.request is not None
        return outcomes[item.request.messages[0]["content"]]

    job = BatchJob(FakeEngine(answer), options(), CancelToken(), clock=clock)
    items = list(job.run(rows(*"abcde", total=5)))
    assert [item.status for item in items] == ["success", "cached", "error", "error", "error"]
    assert job.summary() == {
        "total": 5,
        "success": 2,
        "failed": 3,
        "cached": 1,
        "shared": 0,
        "resumed": 0,
        "retries": 8,
        "hedged": 0,
        "elapsed": 2.5,
        "requests_per_second": 2.0,
        "prompt_tokens": 10,  # those from the cache were bought by another run
        "completion_tokens": 5,
        "total_tokens": 15,
        "cost": 0.25,
        "cost_estimated": 0.125,
        "unpriced": 0,
        "errors_by_class": {"RateLimited": 2, "ServerError": 1},
        "errors": {
            "RateLimited": {
                "count": 2,
                "examples": [
                    {"row": 2, "message": "slow down", "request_id": None},
                    {"row": 4, "message": "slow down", "request_id": None},
                ],
            },
            "ServerError": {"count": 1, "examples": [{"row": 3, "message": "oops", "request_id": "req_7"}]},
        },
        "endpoints": [],
        "changed": 0,
        "complete": True,
        "stopped": None,
    }
    json.dumps(job.summary())


def test_tokens_are_those_of_this_run(path: Path) -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
    for conversations, new in ((["a", "b"], 2), (["a", "b", "c"], 1)):
        job = BatchJob(FakeEngine(lambda item: ChatCompletionResult("x", usage)), options(path), CancelToken())
        list(job.run(rows(*conversations)))
        assert job.summary()["total_tokens"] == 15 * new


def test_a_row_that_cannot_be_asked_is_an_error_and_is_not_sent() -> None:
    engine = FakeEngine(echo)
    job = BatchJob(engine, options(), CancelToken())
    conversations = ["a", [{"role": "nobody", "content": "x"}], "c"]
    items = list(job.run(ListRows(conversations, "m", {}, metadata_list=[1, 2, 3])))
    assert [(item.status, item.metadata) for item in items] == [("success", 1), ("error", 2), ("success", 3)]
    assert isinstance(items[1].error, InputError)
    assert str(items[1].error).startswith("row 1 cannot be asked: message 0 has the role 'nobody'")
    assert len(engine.sold) == 2


def test_half_a_character_costs_its_row_alone(path: Path) -> None:
    job = BatchJob(FakeEngine(echo), options(path), CancelToken())
    assert [item.status for item in job.run(rows("a", "\ud83d", "c"))] == ["success", "error", "success"]
    assert outputs(path) == ["to a", None, "to c"]


def test_a_limit_takes_the_first_rows_and_reads_no_further() -> None:
    read = []

    def conversations() -> Iterator[str]:
        for number in range(100):
            read.append(number)
            yield str(number)

    job = BatchJob(FakeEngine(echo), options(limit=3), CancelToken())
    assert len(list(job.run(ListRows(conversations(), "m", {})))) == 3
    assert len(read) <= 4  # the fourth tells that there are more
    assert job.summary()["total"] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        *({"limit": value} for value in (0, -1)),
        *({"grace": value} for value in (-0.1, "1", float("nan"))),
        *({"max_time": value} for value in (0, 0.0, -1, "60", True, float("nan"))),
        *({"fail_over": value} for value in (0, -0.1, 1.01, 10, "0.1", True, float("nan"))),
    ],
)
def test_a_wrong_option_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        options(**wrong)


def test_a_new_class_of_error_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [RateLimited("slow", status=429), ServerError("oops", status=500), RateLimited("slower", status=429)]
    job = BatchJob(FakeEngine(lambda item: outcomes[item.index]), options(), CancelToken())
    with caplog.at_level(logging.WARNING):
        list(job.run(rows("a", "b", "c")))
    assert caplog.messages == ["first RateLimited, in row 0: slow", "first ServerError, in row 1: oops"]


# --- ending itself


class HeedingEngine:
    """Asks one row after the other and heeds its token, as engines do.

    Args:
        last: Rows that are under way when it is stopped, and come back after that.
    """

    def __init__(self, cancel: CancelToken, answer: Callable[[BatchItem], Any], *, last: int = 0) -> None:
        self._cancel = cancel
        self._answer = answer
        self._last = last
        self.asked: list[int] = []

    def run(self, items: Iterable[BatchItem]) -> Generator[list[BatchItem], None, None]:
        rest = iter(items)
        while not self._cancel.heed() or self._last > 0:
            self._last -= self._cancel.stopped
            item = next(rest, None)
            if item is None:
                return
            if not item.is_settled:
                self.asked.append(item.index)
                outcome = self._answer(item)
                item.outcome = ChatCompletionResult(outcome) if isinstance(outcome, str) else outcome
            yield [item]


WRONG_KEY = AuthenticationFailed("HTTP 401: no such key", status=401, request_id="req_1")


def answers_until(index: int, error: FlexLLMError = WRONG_KEY) -> Callable[[BatchItem], Any]:
    """Answer rows up to an index; from then on all fail."""
    return lambda item: echo(item) if item.index < index else error


def stopping_job(path: Path | None, answer: Callable[[BatchItem], Any], **more: Any) -> tuple[BatchJob, HeedingEngine]:
    cancel = CancelToken()
    engine = HeedingEngine(cancel, answer, last=more.pop("last", 0))
    made = {name: more.pop(name) for name in ("workers", "health", "clock") if name in more}
    return BatchJob(engine, options(path, **more), cancel, **made), engine


def test_a_wrong_key_ends_the_run_after_three_rows(path: Path) -> None:
    job, engine = stopping_job(path, answers_until(2))
    items = list(job.run(rows(*"abcdefgh", total=8)))
    assert engine.asked == [0, 1, 2, 3, 4]
    assert [item.status for item in items] == ["success", "success", "error", "error", "error"]
    assert job.stopped is not None
    assert (job.stopped.reason, job.stopped.error) == ("fatal", WRONG_KEY)
    assert (job.is_complete, job.summary()["complete"], job.summary()["total"]) == (False, False, 8)
    assert job.summary()["stopped"] == str(job.stopped)
    assert str(job.stopped).startswith("stopped with 2 of 8 rows answered: every further row would fail")
    assert str(path) in str(job.stopped)
    assert outputs(path) == ["to a", "to b", None, None, None]


def test_what_is_under_way_when_a_job_ends_itself_is_written_and_given(path: Path) -> None:
    late = {5: "to f", 6: WRONG_KEY}
    job, _ = stopping_job(path, lambda item: late.get(item.index, WRONG_KEY), last=4)
    items = list(job.run(rows(*"abcdefghij", total=10)))
    assert [item.content for item in items] == [None, None, None, None, None, "to f", None]
    assert outputs(path) == [item.content for item in items]
    assert job.stopped is not None
    assert "stopped with 1 of 10 rows answered" in str(job.stopped)


def test_a_job_that_ended_itself_is_gone_on_with(path: Path) -> None:
    job, _ = stopping_job(path, answers_until(2))
    list(job.run(rows(*"abcdefgh", total=8)))
    second, engine = stopping_job(path, echo)
    items = list(second.run(rows(*"abcdefgh", total=8)))
    assert engine.asked == [2, 3, 4, 5, 6, 7]
    assert sorted(item.index for item in items) == list(range(8))
    assert second.stopped is None
    assert outputs(path) == [f"to {letter}" for letter in "abcdefgh"]


def test_rows_that_fail_in_every_run_do_not_keep_the_rest_from_being_asked(path: Path) -> None:
    flagged = PermissionDenied("flagged", status=403)

    def answer(item: BatchItem) -> Any:
        return flagged if item.index < 5 else echo(item)

    job, engine = stopping_job(path, answer)
    list(job.run(rows(*"abcdefgh", total=8)))
    assert engine.asked == [0, 1, 2]
    job, engine = stopping_job(path, answer, fail_over=0.5)
    list(job.run(rows(*"abcdefgh", total=8)))
    assert engine.asked == [0, 1, 2, 3, 4, 5, 6, 7]
    assert job.is_complete


def test_the_user_is_told_once_why_a_job_ended_itself(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job, _ = stopping_job(path, lambda item: WRONG_KEY, last=3)
    with caplog.at_level(logging.WARNING):
        list(job.run(rows(*"abcdefgh", total=8)))
    assert caplog.messages == ["first AuthenticationFailed, in row 0: HTTP 401: no such key", str(job.stopped)]


def test_errors_that_end_the_run_too_late_to_leave_a_row_out_do_not_end_it(path: Path) -> None:
    job, _ = stopping_job(path, lambda item: WRONG_KEY)
    assert len(list(job.run(rows("a", "b", "c", total=3)))) == 3
    assert (job.stopped, job.is_complete) == (None, True)
    job, _ = stopping_job(path, lambda item: WRONG_KEY)
    assert len(list(job.run(rows("a", "b", "c")))) == 3
    assert job.stopped is not None  # nobody knew that there are no more
    job, _ = stopping_job(path, lambda item: WRONG_KEY, last=1)
    assert len(list(job.run(rows("a", "b", "c")))) == 3
    assert (job.stopped, job.is_complete) == (None, True)


def test_a_run_that_took_the_first_rows_only_keeps_what_else_is_in_the_file(path: Path) -> None:
    list(stopping_job(path, echo)[0].run(rows(*"xyz", total=3)))
    job, _ = stopping_job(path, lambda item: WRONG_KEY, limit=3)
    list(job.run(rows(*"abcxyz", total=6)))
    assert job.is_complete
    assert outputs(path) == [None, None, None, "to x", "to y", "to z"]


def test_unreachable_servers_end_a_run_by_the_number_of_its_workers() -> None:
    nobody = ConnectionFailed("connection refused")
    job, engine = stopping_job(None, lambda item: nobody, workers=8)
    list(job.run(rows(*map(str, range(100)), total=100)))
    assert len(engine.asked) == 16
    assert job.stopped is not None
    assert job.stopped.error is nobody


def test_one_endpoint_of_several_does_not_end_a_run_so_soon() -> None:
    pair = (EndpointHealth(place="http://a"), EndpointHealth(place="http://b"))
    job, engine = stopping_job(None, lambda item: WRONG_KEY, health=lambda: pair)
    list(job.run(rows(*map(str, range(100)), total=100)))
    assert len(engine.asked) == 20


def test_too_large_a_share_of_failed_rows_ends_the_run(path: Path) -> None:
    bad = BadRequest("too odd", status=400)
    job, engine = stopping_job(path, lambda item: bad if item.index % 4 == 3 else echo(item), fail_over=0.2)
    list(job.run(rows(*map(str, range(100)), total=100)))
    assert len(engine.asked) == 20
    assert job.stopped is not None
    assert (job.stopped.reason, job.stopped.error) == ("failures", bad)
    assert "5 of 20 rows failed, more than fail_over=0.2 allows; the last: too odd" in str(job.stopped)


def test_when_its_time_is_over_a_job_ends_and_can_be_gone_on_with(path: Path) -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)

    def answer(item: BatchItem) -> str:
        clock.advance(10.0)
        return echo(item)

    job = BatchJob(HeedingEngine(cancel, answer, last=1), options(path, max_time=30), cancel, clock=clock)
    items = list(job.run(rows(*"abcdefgh", total=8)))
    assert [item.content for item in items] == ["to a", "to b", "to c", "to d"]
    assert job.stopped is not None
    assert (job.stopped.reason, job.stopped.error) == ("max_time", None)
    assert str(job.stopped) == (
        f"stopped with 4 of 8 rows answered: max_time=30 seconds are over; run the same again: only rows without an "
        f"answer in {path} are asked"
    )
    second, engine = stopping_job(path, echo, max_time=3600)
    list(second.run(rows(*"abcdefgh", total=8)))
    assert (engine.asked, second.stopped) == ([4, 5, 6, 7], None)


def test_the_time_counts_from_the_making_of_the_job() -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)
    engine = HeedingEngine(cancel, echo)
    job = BatchJob(engine, options(max_time=30.0), cancel, clock=clock)
    clock.advance(30.0)
    assert list(job.run(rows("a", "b", total=2))) == []
    assert engine.asked == []
    assert job.stopped is not None


def test_a_time_that_is_over_with_the_last_row_has_cut_nothing_short(path: Path) -> None:
    clock = FakeClock()
    cancel = CancelToken(clock=clock)

    def answer(item: BatchItem) -> str:
        clock.advance(10.0)
        return echo(item)

    job = BatchJob(HeedingEngine(cancel, answer, last=1), options(path, max_time=20.0), cancel, clock=clock)
    assert len(list(job.run(rows("a", "b", "c", total=3)))) == 3
    assert (cancel.timed_out, job.stopped, job.is_complete) == (True, None, True)


def test_a_caller_who_stops_a_job_is_told_nothing_else() -> None:
    cancel = CancelToken()

    def answer(item: BatchItem) -> FlexLLMError:
        cancel.stop()
        return WRONG_KEY

    job = BatchJob(HeedingEngine(cancel, answer, last=5), options(max_time=3600.0), cancel)
    assert len(list(job.run(rows(*"abcdefgh", total=8)))) == 6
    assert (job.stopped, job.summary()["stopped"], job.is_complete) == (None, None, False)


def test_rows_that_were_not_asked_get_items_that_share_the_error(path: Path) -> None:
    job, _ = stopping_job(path, lambda item: echo(item) if item.index == 1 else WRONG_KEY)
    items = list(job.run(rows(*"abcdefgh", total=8)))
    items.reverse()
    missing = list(job.unasked_items(items))
    assert [item.index for item in missing] == [5, 6, 7]
    assert {(item.status, item.content, item.error is job.stopped) for item in missing} == {("error", None, True)}
    assert list(job.unasked_items([])) != missing


def test_no_item_is_made_up_where_the_length_is_unknown_or_nothing_was_left_out() -> None:
    for given, total in (("abcdefgh", None), ("abc", 3)):
        for limit in (None, 100):
            job, _ = stopping_job(None, lambda item: WRONG_KEY, limit=limit)
            assert list(job.unasked_items(list(job.run(rows(*given, total=total))))) == []


def test_items_for_rows_that_were_not_asked_end_at_the_limit() -> None:
    job, _ = stopping_job(None, lambda item: WRONG_KEY, limit=5)
    items = list(job.run(rows(*"abcdefgh", total=8)))
    assert [item.index for item in job.unasked_items(items)] == [3, 4]


def test_the_summary_tells_how_the_endpoints_did_at_the_end() -> None:
    asked: list[int] = []

    def answer(item: BatchItem) -> str:
        asked.append(item.index)
        return "ok"

    def health() -> tuple[EndpointHealth, ...]:
        return (EndpointHealth(place="http://a", answered=len(asked)),)

    job, _ = stopping_job(None, answer, health=health)
    assert job.summary()["endpoints"] == []
    list(job.run(rows("a", "b")))
    asked.append(99)
    assert job.summary()["endpoints"] == [EndpointHealth(place="http://a", answered=2).as_dict()]
    json.dumps(job.summary())


def test_what_was_learned_of_an_endpoint_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    learned = (EndpointHealth(place="http://a", rate=38.2, learned=41.0),)
    cancel = CancelToken()
    job = BatchJob(HeedingEngine(cancel, echo), BatchOptions(), cancel, health=lambda: learned, clock=FakeClock())
    list(job.run(rows("a", "b", total=2)))
    assert "limit 38.2 req/s" in capsys.readouterr().err


def test_the_log_tells_when_a_run_begins_is_stopped_and_ends(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job, _ = stopping_job(path, lambda item: WRONG_KEY)
    with caplog.at_level(logging.DEBUG, "flexllm.batch.job"):
        list(job.run(rows(*"abcdefgh", total=8)))
    told = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "flexllm.batch.job"]
    assert told[0] == (logging.INFO, f"a batch of 8 rows begins; output: {path}")
    assert (logging.DEBUG, "row 2 failed (request req_1): HTTP 401: no such key") in told
    assert told[-2][0] == told[-1][0] == logging.INFO
    assert told[-2][1].startswith("the batch is stopped: every further row would fail")
    assert told[-1][1].startswith("the batch ends after 0.0 s: 0 rows answered, 3 failed")


# --- leaving early


def test_leaving_the_loop_writes_what_is_under_way(path: Path) -> None:
    cancel = CancelToken()
    job = BatchJob(HoldingEngine(cancel, given=2, held=3), options(path), cancel)
    with closing(job.run(rows(*"abcdefgh"))) as items:  # type: ignore[type-var]
        next(items)
    assert outputs(path) == ["to a", "to b", "to c", "to d", "to e"]
    assert not job.is_complete
    assert (cancel.stopped, cancel.aborted) == (True, False)


def test_leaving_the_loop_without_a_file_breaks_off_what_is_under_way() -> None:
    cancel = CancelToken()
    job = BatchJob(HoldingEngine(cancel, given=2, held=3), options(), cancel)
    with closing(job.run(rows(*"abcdefgh"))) as items:  # type: ignore[type-var]
        next(items)
    assert cancel.aborted


def test_what_is_under_way_is_written_although_the_input_fails_meanwhile(path: Path) -> None:
    cancel = CancelToken()
    job = BatchJob(HoldingEngine(cancel, given=1, held=2, error=ValueError("the input")), options(path), cancel)
    with closing(job.run(rows(*"abcdef"))) as items:  # type: ignore[type-var]
        next(items)
    assert outputs(path) == ["to a", "to b", "to c"]


def test_what_is_under_way_is_written_as_it_comes(path: Path) -> None:
    cancel = CancelToken()
    seen: list[int] = []

    class Watching(HoldingEngine):
        def _answered(self, item: BatchItem) -> BatchItem:
            seen.append(len(outputs(path)))
            return super()._answered(item)

    job = BatchJob(Watching(cancel, given=1, held=3), options(path), cancel)
    with closing(job.run(rows(*"abcdef"))) as items:  # type: ignore[type-var]
        next(items)
    assert seen == [0, 1, 2, 3]


def test_an_interrupt_while_a_row_is_written_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    calls = []

    def interrupted(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        written = pwrite(descriptor, data, offset)
        if len(calls) == 3:  # the lock, the first row, the second
            raise KeyboardInterrupt
        return written

    cancel = CancelToken()
    monkeypatch.setattr(os, "pwrite", interrupted)
    job = BatchJob(HoldingEngine(cancel, given=2, held=2), options(path), cancel)
    with pytest.raises(KeyboardInterrupt):
        list(job.run(rows("a", "a rather long second question", *"cdefgh")))
    assert outputs(path) == ["to a", "to a rather long second question", "to c", "to d"]


@pytest.mark.parametrize("write", [1, 2], ids=["of the lock", "of a row"])
@pytest.mark.parametrize("first", [CancelToken.stop, CancelToken.request_stop])
def test_a_second_interrupt_does_not_wait_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[CancelToken], None], write: int
) -> None:
    cancel = CancelToken()
    pwrite = os.pwrite
    calls = []

    def interrupted(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) < write:
            return pwrite(descriptor, data, offset)
        first(cancel)
        raise KeyboardInterrupt

    job = BatchJob(HoldingEngine(cancel, given=1, held=1), options(path), cancel)
    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(job.run(rows(*"abcdefgh")))
    assert len(calls) == write
    assert outputs(path) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_stopped_job_is_not_put_in_order(path: Path) -> None:
    path.write_text('{"index": 1, "output": "B", "input": "b"}\n')
    cancel = CancelToken()

    def answer(item: BatchItem) -> str:
        cancel.stop()
        return echo(item)

    job = BatchJob(FakeEngine(answer), options(path), cancel)
    list(job.run(rows("a", "b")))
    assert outputs(path) == ["B", "to a"]
    assert job.summary()["complete"] is False


# --- the file


def test_a_job_that_fails_lets_go_of_the_file(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Cut):
            list(BatchJob(FakeEngine(echo, cut_after=0), options(path), CancelToken()).run(rows("a")))
    assert [entry.name for entry in path.parent.iterdir()] == ["out.jsonl"]


def test_a_job_that_is_never_run_lets_go_of_the_file(path: Path) -> None:
    BatchJob(FakeEngine(echo), options(path), CancelToken())
    BatchJob(FakeEngine(echo), options(path), CancelToken()).run(rows("a"))
    assert len(list(BatchJob(FakeEngine(echo), options(path), CancelToken()).run(rows("a")))) == 1


class Disk:
    """Stands for `os.pwrite` on a disk where a file can have `size` bytes at most; None is not limited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size: int | None = None
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.size is None:
            return self._pwrite(descriptor, data, offset)
        if offset >= self.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._pwrite(descriptor, bytes(data)[: self.size - offset], offset)


def test_a_full_disk_stops_the_job_and_tells_what_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, cancel = Disk(monkeypatch), CancelToken()
    job = BatchJob(HoldingEngine(cancel, given=2, held=2), options(path), cancel)
    items = job.run(rows(*"abcdefgh"))
    next(items)
    disk.size = 0
    with pytest.raises(CheckpointError, match="No space left on device; 3 answers could not be saved"):
        next(items)
    assert outputs(path) == ["to a"]
    assert cancel.stopped


def test_what_fits_on_a_full_disk_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, cancel = Disk(monkeypatch), CancelToken()
    job = BatchJob(FakeEngine(echo, group=8), options(path), cancel)
    disk.size = 1_000  # of some 2,000 bytes
    with pytest.raises(CheckpointError, match="No space left"):
        list(job.run(rows(*"abcdefgh")))
    saved = outputs(path)
    assert 2 <= len(saved) < 8
    assert saved == ["to a", "to b", "to c", "to d", "to e", "to f"][: len(saved)]


def test_a_disk_that_has_room_again_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, cancel = Disk(monkeypatch), CancelToken()

    class Freeing(HoldingEngine):
        def _answered(self, item: BatchItem) -> BatchItem:
            disk.size = None if item.index > 1 else disk.size
            return super()._answered(item)

    job = BatchJob(Freeing(cancel, given=2, held=2), options(path), cancel)
    items = job.run(rows(*"abcdefgh"))
    next(items)
    disk.size = 0
    with pytest.raises(CheckpointError, match="No space left"):
        next(items)
    assert outputs(path) == ["to a", "to b", "to c", "to d"]
    assert len(list(BatchJob(FakeEngine(echo), options(path), CancelToken()).run(rows(*"abcdefgh")))) == 8


def test_what_the_input_raises_comes_after_its_rows_were_written(path: Path) -> None:
    job = BatchJob(FakeEngine(echo), options(path), CancelToken())
    with pytest.raises(ConfigError, match="metadata_list has 1 entries"):
        list(job.run(ListRows(iter("abc"), "m", {}, metadata_list=[1])))
    assert outputs(path) == ["to a"]
