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

from flexllm.batch.checkpoint import CheckpointOptions
from flexllm.batch.items import BatchItem
from flexllm.batch.job import BatchJob, BatchOptions
from flexllm.batch.lists import ListRows
from flexllm.batch.progress import ProgressOptions
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, Usage
from flexllm.errors import CheckpointError, ConfigError, InputError, RateLimited, ServerError

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
        "a": ChatCompletionResult("A", usage, attempts=3),
        "b": ChatCompletionResult("B", usage, cached=True),
        "c": RateLimited("slow down", status=429, attempts=4),
        "d": ServerError("oops", status=500, attempts=1),
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
        "resumed": 0,
        "retries": 8,
        "elapsed": 2.5,
        "requests_per_second": 2.0,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": 30,
        "errors_by_class": {"RateLimited": 2, "ServerError": 1},
        "changed": 0,
        "complete": True,
    }


def test_tokens_are_those_of_this_run(path: Path) -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
    for conversations, new in ((["a", "b"], 2), (["a", "b", "c"], 1)):
        job = BatchJob(FakeEngine(lambda item: ChatCompletionResult("x", usage)), options(path), CancelToken())
        list(job.run(rows(*conversations)))
        assert job.summary()["total_tokens"] == 15 * new


def test_a_row_that_cannot_be_asked_is_an_error_and_is_not_sent() -> None:
    engine = FakeEngine(echo)
    job = BatchJob(engine, options(), CancelToken())
    items = list(job.run(rows("a", [{"role": "nobody", "content": "x"}], "c")))
    assert [item.status for item in items] == ["success", "error", "success"]
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
    "wrong", [{"limit": 0}, {"limit": -1}, {"grace": -0.1}, {"grace": "1"}, {"grace": float("nan")}]
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


@pytest.mark.parametrize("first", [CancelToken.stop, CancelToken.request_stop])
def test_a_second_interrupt_does_not_wait_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[CancelToken], None]
) -> None:
    cancel = CancelToken()

    def interrupted(descriptor: int, data: bytes, offset: int) -> int:
        first(cancel)
        raise KeyboardInterrupt

    job = BatchJob(HoldingEngine(cancel, given=1, held=1), options(path), cancel)
    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(job.run(rows(*"abcdefgh")))
    assert outputs(path) == []


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
