"""What an output file has in it, for those who look on while a run writes it, or after one died."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch import standing
from flexllm.batch.items import BatchItem
from flexllm.batch.lines import make_key, write_line
from flexllm.batch.lock import OutputLock
from flexllm.batch.standing import Standing, standing_of
from flexllm.chat import ChatCompletionResult, ChatRequest, Usage
from flexllm.errors import BadRequest, CheckpointError, InputError, RateLimited


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def line(index: int, outcome: Any = None, *, metadata: Any = None, raw: bool = False) -> bytes:
    """Return a line as a run writes it; without an outcome an answer of 10 and 5 tokens."""
    if outcome is None:
        outcome = answer()
    request = ChatRequest([{"role": "user", "content": f"question {index}"}], "m", {})
    return write_line(BatchItem(index, request, metadata, make_key(index, 7, 0), index, outcome=outcome), True, raw)


def answer(**more: Any) -> ChatCompletionResult:
    fields = {"usage": Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15), "finish_reason": "stop", **more}
    return ChatCompletionResult("text", **fields)


def found(path: Path, *lines: bytes) -> Standing:
    path.write_bytes(b"".join(lines))
    return standing_of(path)


def test_answers_are_counted_with_their_tokens_and_cost(path: Path) -> None:
    seen = found(path, line(0, answer(cost=0.25, latency=0.1)), line(1, answer(cost=0.5)), line(2))
    assert (seen.answered, seen.failed, seen.unpriced, seen.cost) == (3, 0, 1, 0.75)
    assert (seen.prompt_tokens, seen.completion_tokens) == (30, 15)
    assert (seen.is_running, seen.has_died, seen.total, seen.missing, seen.is_torn) == (False, False, None, None, False)


def test_errors_are_counted_by_class_with_examples(path: Path) -> None:
    slow = RateLimited("slow down", status=429, request_id="req_9")
    seen = found(path, line(0), line(1, BadRequest("no", status=400)), *(line(index, slow) for index in range(2, 7)))
    assert (seen.answered, seen.failed) == (1, 6)
    assert {kind: one["count"] for kind, one in seen.errors.items()} == {"BadRequest": 1, "RateLimited": 5}
    assert seen.errors["RateLimited"]["examples"][0] == {"row": 2, "message": "slow down", "request_id": "req_9"}
    assert len(seen.errors["RateLimited"]["examples"]) == 3


def test_a_row_that_failed_and_was_answered_later_counts_once(path: Path) -> None:
    seen = found(path, line(0, RateLimited("slow down", status=429)), line(1), line(0), line(0))
    assert (seen.answered, seen.failed, seen.errors) == (2, 0, {})


def test_a_row_that_failed_twice_counts_once(path: Path) -> None:
    seen = found(path, line(0, RateLimited("first", status=429)), line(0, RateLimited("second", status=429)))
    assert seen.failed == 1
    assert seen.errors["RateLimited"]["examples"] == [{"row": 0, "message": "second", "request_id": None}]


def test_of_a_row_that_could_not_be_asked_it_is_told_that_it_was_not(path: Path) -> None:
    refused = write_line(BatchItem(4, outcome=InputError("row 4 cannot be asked: no JSON")), True, False)
    seen = found(path, line(0), refused, line(5, InputError("half a character")))
    first, second = seen.errors["InputError"]["examples"]
    assert first == {"row": 4, "message": "row 4 cannot be asked: no JSON", "request_id": None, "asked": False}
    assert second == {"row": 5, "message": "half a character", "request_id": None}


def test_what_failed_attempts_cost_counts(path: Path) -> None:
    error = BadRequest("no", status=400)
    error.cost = 0.125
    assert found(path, line(0, error)).cost == 0.125


def test_answers_of_the_cache_cost_nothing(path: Path) -> None:
    seen = found(path, line(0, answer(cached=True)), line(1))
    assert (seen.answered, seen.cached, seen.prompt_tokens, seen.unpriced) == (2, 1, 10, 1)


def test_a_torn_last_line_is_no_damage(path: Path) -> None:
    seen = found(path, line(0), line(1)[:40])
    assert (seen.answered, seen.is_torn, seen.damaged) == (1, True, 0)


def test_a_whole_last_line_without_its_end_counts_once_beside_damage(path: Path) -> None:
    old = b'{"index": 1, "output": "a", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}'  # without a key
    seen = found(path, line(0), b"what is this\n", old)
    assert (seen.answered, seen.damaged, seen.is_torn, seen.prompt_tokens, seen.unpriced) == (2, 1, True, 20, 2)
    assert found(path, line(0), b"what is this\n", old[:-9]).damaged == 1
    assert found(path, line(0), b"what is this\n", b"  ").damaged == 1


def test_damaged_lines_are_counted(path: Path) -> None:
    seen = found(path, line(0), b"what is this\n", b"\n", line(1))
    assert (seen.answered, seen.damaged) == (2, 1)


def test_another_file_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no output file of a batch"):
        found(path, b'{"q": "a question"}\n')


def test_an_empty_file_has_no_rows(path: Path) -> None:
    assert (found(path).answered, found(path).failed) == (0, 0)


def test_lines_of_older_files_count_one_by_one(path: Path) -> None:
    rows = ({"index": index, "output": "a", "input": "q"} for index in range(3))
    failed = {"index": 3, "output": None, "status": "error", "error": "timed out"}
    seen = found(path, *(json.dumps(row).encode() + b"\n" for row in (*rows, failed)))
    assert (seen.answered, seen.failed) == (3, 1)
    assert seen.errors["RequestError"]["examples"] == [{"row": 3, "message": "timed out", "request_id": None}]


def test_the_file_beside_is_told_of(path: Path) -> None:
    path.with_name("out.aside.jsonl").write_bytes(line(7) + line(8))
    seen = found(path, line(0))
    assert (seen.answered, seen.aside, seen.aside_lines) == (1, path.with_name("out.aside.jsonl"), 2)


def test_a_run_under_way_tells_its_rate_and_what_is_left(path: Path) -> None:
    earlier = line(0) + line(1)
    path.write_bytes(earlier)
    lock = OutputLock(path)
    try:
        lock.sign(total=10, start=len(earlier))
        seen = found(path, earlier, line(2), line(3, BadRequest("no", status=400)))
    finally:
        lock.release()
    assert seen.is_running
    assert seen.holder is not None
    assert (seen.holder.pid, seen.total, seen.missing, seen.recent) == (os.getpid(), 10, 6, 2)
    assert seen.holder.since_unix is not None
    assert seen.rate(seen.holder.since_unix + 4.0) == pytest.approx(0.5)
    assert seen.eta(seen.holder.since_unix + 4.0) == pytest.approx(12.0)


def test_looking_takes_no_lock_and_leaves_no_trace(path: Path) -> None:
    path.write_bytes(line(0))
    before = path.stat()
    standing_of(path)
    assert [one.name for one in path.parent.iterdir()] == ["out.jsonl"]
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_run_that_was_killed_is_seen_by_its_lock(path: Path) -> None:
    path.write_bytes(line(0))
    lock = OutputLock(path)
    lock.sign(total=5)
    left = path.with_name("out.jsonl.lock").read_text()
    lock.release()
    path.with_name("out.jsonl.lock").write_text(json.dumps({**json.loads(left), "pid": 2**30}))
    seen = standing_of(path)
    assert (seen.has_died, seen.is_running, seen.total, seen.missing) == (True, False, 5, 4)


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(path: Path) -> None:
    path.write_bytes(b"")
    lock = OutputLock(path)
    signature = json.loads(path.with_name("out.jsonl.lock").read_text())
    lock.release()
    if signature["born"] is None:
        pytest.skip("this system does not tell when a process began")
    path.with_name("out.jsonl.lock").write_text(json.dumps({**signature, "born": signature["born"] - 1}))
    assert standing_of(path).has_died


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"pid": "x"}', '{"pid": 1, "host": "elsewhere", "since": "then"}']
)
def test_a_lock_that_tells_little_may_be_held(path: Path, content: str) -> None:
    path.write_bytes(line(0))
    path.with_name("out.jsonl.lock").write_text(content)
    seen = standing_of(path)
    assert seen.holder is not None
    assert (seen.holder.is_alive, seen.is_running, seen.has_died) == (None, True, False)


_USAGES = st.sampled_from(
    [None, Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3), Usage(prompt_tokens=4, completion_tokens=0)]
)
_TEXTS = st.sampled_from(
    ["", "stop", 'a "quoted" one', ', "usage": {"prompt_tokens": 5', "日本", "\\", ', "status": "cached", ']
)
_METADATA = st.recursive(
    st.one_of(st.none(), st.integers(), _TEXTS),
    lambda inner: st.dictionaries(st.sampled_from(["a", "usage", "prompt_tokens", "status"]), inner, max_size=3),
    max_leaves=4,
)


_BODY = b'{"usage": {"prompt_tokens": 9}}'


@given(
    st.lists(
        st.builds(
            lambda metadata, raw, **fields: (metadata, raw, fields),
            _METADATA,
            st.booleans(),
            usage=_USAGES,
            finish_reason=st.one_of(st.none(), _TEXTS),
            model=st.one_of(st.none(), _TEXTS),
            latency=st.one_of(st.none(), st.floats(0, 1e6)),
            cost=st.one_of(st.none(), st.floats(0, 1e3)),
            attempts=st.integers(1, 3),
            cached=st.booleans(),
            reasoning_content=st.one_of(st.none(), _TEXTS),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_quick_way_of_reading_a_line_finds_what_decoding_finds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, bool, dict[str, Any]]]
) -> None:
    path = tmp_path_factory.mktemp("standing") / "out.jsonl"
    lines = [
        line(index, ChatCompletionResult("text", body=_BODY, **fields), metadata=metadata, raw=raw)
        for index, (metadata, raw, fields) in enumerate(rows)
    ]  # fmt: skip
    quick = found(path, *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standing, "_quick", lambda line: None)
        slow = standing_of(path)
    assert quick == slow


def test_a_usage_among_the_metadata_is_not_taken_for_the_answers_own(path: Path) -> None:
    seen = found(path, line(0, metadata={"a": 1, "usage": {"prompt_tokens": 900, "completion_tokens": 900}}))
    assert (seen.prompt_tokens, seen.completion_tokens) == (10, 5)


def test_an_ordinary_line_is_read_the_quick_way() -> None:
    assert standing._quick(line(0, answer(cost=0.1, latency=0.25, model="m", request_id="r"))) is not None
