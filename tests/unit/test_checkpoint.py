"""The output file is the truth: what is resumed, what is asked again, what is kept aside, and that nothing paid is lost."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fakes import Cut, FakeEngine
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flexllm.batch.checkpoint import Checkpoint
from flexllm.batch.items import BatchItem, BatchResultItem, RowSource
from flexllm.batch.job import BatchJob
from flexllm.batch.lists import ListRows
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.progress import ProgressOptions
from flexllm.batch.rows import FileRows, RowReader
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult
from flexllm.errors import CheckpointError, ConfigError, RateLimited

Row = str | Mapping[str, Any]
"""A question, or a question `q` with metadata."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@dataclass
class Run:
    """What one run did: the questions that were asked, what it gave and said, and how it ended."""

    asked: list[str] = field(default_factory=list)
    items: list[BatchResultItem] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    was_cut: bool = False


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk; that it is told what to keep is tested with the output file."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Ears(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def question(item: BatchItem) -> str:
    assert item.request is not None
    text: str = item.request.messages[-1]["content"]
    return text


def answer_to(item: BatchItem) -> str:
    return f"answer to {question(item)}"


def file_rows(rows: Sequence[Row | bytes], model: str, params: Mapping[str, Any]) -> FileRows:
    lines = [row if isinstance(row, bytes) else json.dumps(_as_dict(row)).encode() + b"\n" for row in rows]
    return FileRows(RowReader(lines, "in.jsonl", shape="simple"), model, params, len(lines))


def list_rows(rows: Sequence[Row], model: str, params: Mapping[str, Any]) -> ListRows:
    dicts = [_as_dict(row) for row in rows]
    metadata = [{name: value for name, value in row.items() if name != "q"} for row in dicts]
    return ListRows([row["q"] for row in dicts], model, params, metadata)


def _as_dict(row: Any) -> dict[str, Any]:
    return {"q": row} if isinstance(row, str) else dict(row)


def run(
    path: Path,
    rows: Sequence[Row | bytes],
    *,
    answer: Callable[[BatchItem], Any] = answer_to,
    make_rows: Callable[..., RowSource] = file_rows,
    model: str = "m",
    params: Mapping[str, Any] | None = None,
    cut_after: int | None = None,
    group: int = 1,
    limit: int | None = None,
    give_resumed: bool = True,
    **checkpoint: Any,
) -> Run:
    """Run a batch with an engine that answers at once. `cut_after` ends it in the middle, as an error below would."""
    done = Run()
    ears = Ears(done.said)
    options = BatchOptions(
        output=path,
        checkpoint=CheckpointOptions(**{"flush_interval": 1_000.0, **checkpoint}),
        progress=ProgressOptions(show=False),
        limit=limit,
        give_resumed=give_resumed,
    )
    logging.getLogger("flexllm").addHandler(ears)
    try:
        engine = FakeEngine(answer, group=group, cut_after=cut_after)
        job = BatchJob(engine, options, CancelToken())
        try:
            done.items.extend(job.run(make_rows(rows, model, params or {})))
        except Cut:
            done.was_cut = True
        done.asked = [question(item) for item in engine.sold]
        done.summary = job.summary()
    finally:
        logging.getLogger("flexllm").removeHandler(ears)
    return done


def lines(path: Path) -> list[dict[str, Any]]:
    whole, end, rest = path.read_bytes().rpartition(b"\n")
    assert not rest
    return [json.loads(line) for line in whole.split(b"\n")] if end else []


def aside(path: Path) -> Path:
    return path.with_name("out.aside.jsonl")


def outputs(path: Path) -> list[str | None]:
    """Return the answers of a file that is in input order."""
    rows = lines(path)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["output"] for row in rows]


def all_answers(path: Path) -> Counter[str]:
    """Return every answer in the file and in the file beside."""
    rows = [row for file in (path, aside(path)) if file.exists() for row in lines(file)]
    return Counter(row["output"] for row in rows if row.get("status") == "success")


def answers_to(*questions: str) -> list[str]:
    return [f"answer to {question}" for question in questions]


def again(word: str) -> Callable[[BatchItem], str]:
    """Answer with another text than the first run, so that it shows who was asked twice."""
    return lambda item: f"{word} answer to {question(item)}"


def fail(item: BatchItem) -> Exception:
    return RateLimited(f"no answer to {question(item)}", status=429, attempts=4)


def failing(*questions: str) -> Callable[[BatchItem], Any]:
    return lambda item: fail(item) if question(item) in questions else answer_to(item)


both_sources = pytest.mark.parametrize("make_rows", [file_rows, list_rows], ids=["file", "list"])


# --- a run, and the next


@both_sources
def test_a_finished_batch_asks_nothing(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b"], make_rows=make_rows)
    before = path.read_bytes()
    second = run(path, ["a", "b"], make_rows=make_rows)
    assert second.asked == []
    assert [item.content for item in second.items] == answers_to("a", "b")
    assert all(item.resumed for item in second.items)
    assert second.summary["resumed"] == second.summary["success"] == 2
    assert path.read_bytes() == before
    assert not aside(path).exists()


@both_sources
def test_a_cut_batch_asks_the_rest(path: Path, make_rows: Any) -> None:
    first = run(path, ["a", "b", "c", "d"], make_rows=make_rows, cut_after=2)
    assert first.was_cut
    second = run(path, ["a", "b", "c", "d"], make_rows=make_rows, answer=again("second"))
    assert second.asked == ["c", "d"]
    assert outputs(path) == [*answers_to("a", "b"), "second answer to c", "second answer to d"]


def test_a_row_is_in_the_file_before_the_next_is_asked(path: Path) -> None:
    sizes = []

    def answer(item: BatchItem) -> str:
        sizes.append(len(lines(path)))
        return answer_to(item)

    run(path, ["a", "b", "c"], answer=answer)
    assert sizes == [0, 1, 2]


def test_a_finished_file_is_in_input_order_whatever_came_first(path: Path) -> None:
    run(path, ["c", "a"])
    run(path, ["a", "b", "c"])
    assert outputs(path) == answers_to("a", "b", "c")


@both_sources
def test_inserted_rows_alone_are_asked(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b"], make_rows=make_rows)
    second = run(path, ["new", "a", "newer", "b", "newest"], make_rows=make_rows)
    assert second.asked == ["new", "newer", "newest"]
    assert outputs(path) == answers_to("new", "a", "newer", "b", "newest")
    assert not aside(path).exists()


@both_sources
def test_deleted_rows_are_kept_aside_and_found_there_again(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b", "c"], make_rows=make_rows)
    second = run(path, ["a", "c"], make_rows=make_rows)
    assert second.asked == []
    assert outputs(path) == answers_to("a", "c")
    assert [row["output"] for row in lines(aside(path))] == answers_to("b")
    assert "1 line that this input does not ask for was kept in out.aside.jsonl" in second.said
    third = run(path, ["b", "c", "a"], make_rows=make_rows)
    assert third.asked == []
    assert [item.content for item in sorted(third.items, key=lambda item: item.index)] == answers_to("b", "c", "a")
    assert outputs(path) == answers_to("b", "c", "a")


@both_sources
def test_an_answer_that_comes_and_goes_is_kept_aside_once(path: Path, make_rows: Any) -> None:
    for _ in range(3):
        run(path, [{"q": "a", "id": 1}, "b"], make_rows=make_rows)
        run(path, ["b"], make_rows=make_rows)
        assert [row["output"] for row in lines(aside(path))] == answers_to("a")
    run(path, [{"q": "a", "id": 2}, "b"], make_rows=make_rows)
    assert run(path, ["b"], make_rows=make_rows).said == []
    assert len(lines(aside(path))) == 1


def test_another_answer_to_the_same_question_is_kept_aside_too(path: Path) -> None:
    run(path, ["a", "b"])
    run(path, ["b"])
    beside = aside(path).read_bytes()
    aside(path).unlink()
    run(path, ["a", "b"], answer=again("second"))
    aside(path).write_bytes(beside)
    run(path, ["b"])
    assert [row["output"] for row in lines(aside(path))] == ["answer to a", "second answer to a"]


@both_sources
def test_reordered_rows_ask_nothing(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b", "c"], make_rows=make_rows)
    second = run(path, ["c", "a", "b"], make_rows=make_rows)
    assert second.asked == []
    assert {item.index: item.content for item in second.items} == dict(enumerate(answers_to("c", "a", "b")))
    assert outputs(path) == answers_to("c", "a", "b")


def test_a_file_whose_lines_follow_the_input_gets_the_right_numbers_too(path: Path) -> None:
    run(path, ["a", "b"])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(second + first)  # as a cut run may leave it
    assert run(path, ["b", "a"]).asked == []
    assert outputs(path) == answers_to("b", "a")


@both_sources
def test_equal_rows_are_asked_each_and_keep_their_numbers(path: Path, make_rows: Any) -> None:
    numbers = iter(range(100))

    def answer(item: BatchItem) -> str:
        return f"{question(item)} {next(numbers)}"

    run(path, ["a", "b", "a", "a"], answer=answer, make_rows=make_rows)
    assert outputs(path) == ["a 0", "b 1", "a 2", "a 3"]
    assert run(path, ["b", "a", "a", "a", "a"], answer=answer, make_rows=make_rows).asked == ["a"]
    assert outputs(path) == ["b 1", "a 0", "a 2", "a 3", "a 4"]
    assert run(path, ["a", "b"], answer=answer, make_rows=make_rows).asked == []
    assert outputs(path) == ["a 0", "b 1"]
    assert run(path, ["a", "a", "a", "b", "a"], answer=answer, make_rows=make_rows).asked == []
    assert outputs(path) == ["a 0", "a 2", "a 3", "b 1", "a 4"]


def test_a_batch_from_a_file_goes_on_with_one_from_python(path: Path) -> None:
    run(path, ["a", {"q": "b", "id": 7}], make_rows=list_rows)
    second = run(path, ["a", {"q": "b", "id": 7}, "c"], make_rows=file_rows)
    assert second.asked == ["c"]
    assert run(path, ["a", {"q": "b", "id": 7}, "c"], make_rows=list_rows).asked == []


@pytest.mark.parametrize("save_input", [True, "last", False])
def test_what_is_saved_of_the_input_does_not_matter(path: Path, save_input: bool | str) -> None:
    run(path, ["a", "b"], cut_after=1, save_input=save_input)
    assert run(path, ["new", "a", "b"], save_input=save_input).asked == ["new", "b"]
    assert outputs(path) == answers_to("new", "a", "b")


def test_rows_that_nobody_asks_to_see_are_counted_all_the_same(path: Path) -> None:
    run(path, ["a", "b"])
    second = run(path, ["a", "b", "c"], give_resumed=False)
    assert [item.content for item in second.items] == answers_to("c")
    assert (second.summary["success"], second.summary["resumed"], second.summary["total"]) == (3, 2, 3)


# --- metadata


@both_sources
def test_metadata_that_changed_in_the_input_land_in_the_row(path: Path, make_rows: Any) -> None:
    run(path, [{"q": "a", "id": 1}, {"q": "b", "id": 2}], make_rows=make_rows)
    second = run(path, [{"q": "a", "id": 1}, {"q": "b", "id": 3}], make_rows=make_rows)
    assert second.asked == []
    assert [item.metadata for item in sorted(second.items, key=lambda item: item.index)] == [{"id": 1}, {"id": 3}]
    assert [row["metadata"] for row in lines(path)] == [{"id": 1}, {"id": 3}]
    assert outputs(path) == answers_to("a", "b")
    assert run(path, [{"q": "a", "id": 1}, {"q": "b", "id": 3}], make_rows=make_rows).asked == []


@both_sources
@pytest.mark.parametrize("give_resumed", [True, False])
def test_equal_rows_that_changed_places_keep_the_metadata_of_the_input(
    path: Path, make_rows: Any, give_resumed: bool
) -> None:
    first, second, third = ({"q": "a", "id": number} for number in (1, 2, 3))
    run(path, [first, second, third], make_rows=make_rows)
    swapped = run(path, [third, first], make_rows=make_rows, give_resumed=give_resumed)
    assert swapped.asked == []
    assert [row["metadata"]["id"] for row in lines(path)] == [3, 1]
    back = run(path, [first, second, third], make_rows=make_rows, give_resumed=give_resumed)
    assert back.asked == []
    assert [row["metadata"]["id"] for row in lines(path)] == [1, 2, 3]


def test_metadata_that_json_does_not_know_are_given_back_as_they_are(path: Path) -> None:
    metadata = (1, {"a", "b"}), None

    def make_rows(*_: Any) -> ListRows:
        return ListRows(["a", "b"], "m", {}, metadata)

    run(path, [], make_rows=make_rows)
    second = run(path, [], make_rows=make_rows)
    assert second.asked == []
    assert {item.index: item.metadata for item in second.items} == dict(enumerate(metadata))


# --- failed rows


def test_failed_rows_are_asked_again(path: Path) -> None:
    first = run(path, ["a", "b", "c"], answer=failing("b"))
    assert [item.status for item in first.items] == ["success", "error", "success"]
    assert outputs(path) == ["answer to a", None, "answer to c"]
    second = run(path, ["a", "b", "c"])
    assert second.asked == ["b"]
    assert outputs(path) == answers_to("a", "b", "c")
    assert not aside(path).exists()  # an error is no answer


@both_sources
def test_failed_rows_are_left_where_that_is_asked(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b"], answer=failing("b"), make_rows=make_rows)
    before = path.read_bytes()
    second = run(path, ["a", "b"], retry_failed=False, make_rows=make_rows)
    assert second.asked == []
    assert isinstance(second.items[1].error, RateLimited)
    assert (second.summary["failed"], second.summary["resumed"]) == (1, 2)
    assert path.read_bytes() == before


def test_a_row_that_fails_again_has_its_newest_error(path: Path) -> None:
    run(path, ["a"], answer=fail)
    run(path, ["a"], answer=lambda item: RateLimited("the second time", status=429))
    assert [row["error"]["message"] for row in lines(path)] == ["the second time"]


@both_sources
def test_failed_rows_alone_are_asked_and_a_plain_run_finishes_the_file(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b", "c"], answer=failing("a", "c"), make_rows=make_rows)
    second = run(path, ["a", "new", "b", "c"], answer=failing("c"), retry_failed="only", make_rows=make_rows)
    assert second.asked == ["a", "c"]
    assert not second.summary["complete"]
    third = run(path, ["a", "new", "b", "c"], answer=again("third"), make_rows=make_rows)
    assert third.asked == ["new", "c"]
    assert outputs(path) == [
        "answer to a", "third answer to new", "answer to b", "third answer to c",
    ]  # fmt: skip


def test_where_no_row_failed_nothing_is_asked_and_that_is_said(path: Path) -> None:
    run(path, ["a"])
    done = run(path, ["a", "new"], retry_failed="only")
    assert done.asked == []
    assert done.said == ["no row of the input failed in an earlier run; nothing was asked"]
    assert outputs(path) == ["answer to a"]


def test_a_row_that_fails_again_without_being_asked_is_told_as_such(path: Path) -> None:
    rows = ["a", b"no row"]
    run(path, rows)
    done = run(path, rows, retry_failed="only")
    assert (done.asked, done.summary["failed"]) == ([], 1)
    assert [sentence.partition(":")[0] for sentence in done.said] == ["first InputError, in row 1"]


def test_failed_rows_alone_are_asked_of_another_model_and_answers_stay(path: Path) -> None:
    run(path, ["a", "b", "b"], answer=failing("b"))
    done = run(path, ["a", "b", "b", "c"], model="stronger", retry_failed="only")
    assert done.asked == ["b", "b"]
    assert done.said == []
    assert all_answers(path) == Counter(answers_to("a", "b", "b"))


def test_a_run_for_failed_rows_that_is_cut_loses_nothing(path: Path) -> None:
    run(path, ["a", "b", "c"], answer=failing("a", "b", "c"))
    assert run(path, ["a", "b", "c"], retry_failed="only", cut_after=1).was_cut
    assert run(path, ["a", "b", "c"], retry_failed="only").asked == ["b", "c"]
    assert outputs(path) == answers_to("a", "b", "c")


def test_failed_rows_alone_need_an_output_file() -> None:
    with pytest.raises(ConfigError, match="name the output file"):
        BatchOptions(checkpoint=CheckpointOptions(retry_failed="only"))


def test_a_row_that_could_not_be_read_is_an_error_each_time(path: Path) -> None:
    rows: list[Row | bytes] = ["a", b"{torn\n", "b"]
    for _ in range(2):
        done = run(path, rows)
        assert [item.status for item in done.items if item.index == 1] == ["error"]
        assert outputs(path) == ["answer to a", None, "answer to b"]
    assert done.asked == []
    assert done.summary["failed"] == 1


def test_a_row_that_failed_with_the_new_model_is_left_where_that_is_asked(path: Path) -> None:
    run(path, ["a"], model="old")
    run(path, ["a"], model="new", answer=fail)
    assert run(path, ["a"], model="new", retry_failed=False).asked == []


# --- what was asked differently


@both_sources
@pytest.mark.parametrize("change", [{"model": "other"}, {"params": {"temperature": 1}}], ids=["model", "parameters"])
def test_rows_that_were_asked_differently_are_asked_again_and_what_was_there_is_kept_aside(
    path: Path, make_rows: Any, change: dict[str, Any]
) -> None:
    run(path, ["a", "b"], make_rows=make_rows, answer=lambda item: ChatCompletionResult("first", model="gpt-x"))
    second = run(path, ["a", "b"], make_rows=make_rows, answer=again("other"), **change)
    assert second.asked == ["a", "b"]
    assert second.summary["changed"] == 2
    said = [sentence for sentence in second.said if "another model or other parameters" in sentence]
    assert len(said) == 1
    assert "'gpt-x'" in said[0]
    assert "asked again" in said[0]
    assert "out.aside.jsonl" in said[0]
    assert outputs(path) == ["other answer to a", "other answer to b"]
    assert [row["output"] for row in lines(aside(path))] == ["first", "first"]
    back = run(path, ["a", "b"], make_rows=make_rows)
    assert back.asked == []
    assert outputs(path) == ["first", "first"]


def test_the_order_of_parameters_is_no_change(path: Path) -> None:
    run(path, ["a"], params={"temperature": 1, "seed": 2})
    assert run(path, ["a"], params={"seed": 2, "temperature": 1}).asked == []


@both_sources
def test_rows_that_were_asked_differently_can_be_kept(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b"], make_rows=make_rows)
    second = run(path, ["b", "a", "c"], make_rows=make_rows, model="other", answer=again("other"), on_change="keep")
    assert second.asked == ["c"]
    assert outputs(path) == ["answer to b", "answer to a", "other answer to c"]
    assert any("they are kept" in sentence for sentence in second.said)
    assert run(path, ["b", "a", "c"], make_rows=make_rows, model="other", on_change="keep").asked == []


@both_sources
def test_rows_that_were_asked_differently_can_stop_the_run(path: Path, make_rows: Any) -> None:
    run(path, ["a", "b"], make_rows=make_rows)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="on_change=rerun or keep"):
        run(path, ["a", "b"], make_rows=make_rows, model="other", on_change="fail")
    assert path.read_bytes() == before
    assert run(path, ["a", "b"], make_rows=make_rows, on_change="fail").asked == []


@pytest.mark.parametrize("on_change", ["rerun", "keep", "fail"])
def test_rows_with_parameters_of_their_own_are_no_change(path: Path, on_change: str) -> None:
    """The same question with several seeds, cut short, in another order: each row has its own answer and no other's."""

    def with_seeds(*seeds: int) -> Any:
        return lambda *_: ListRows(["a"] * len(seeds), "m", {}, params_list=[{"seed": seed} for seed in seeds])

    def answer(item: BatchItem) -> str:
        assert item.request is not None
        return f"seed {item.request.params['seed']}"

    run(path, [], answer=answer, make_rows=with_seeds(1, 2, 3), cut_after=2)
    done = run(path, [], answer=answer, make_rows=with_seeds(4, 3, 2, 1), on_change=on_change)
    assert len(done.asked) == 2
    assert outputs(path) == ["seed 4", "seed 3", "seed 2", "seed 1"]
    assert (done.said, done.summary["changed"]) == ([], 0)


def test_new_rows_are_no_change(path: Path) -> None:
    run(path, ["a"])
    assert run(path, ["a", "b"], on_change="fail").asked == ["b"]


def test_what_the_old_model_answered_in_a_cut_run_is_not_lost(path: Path) -> None:
    run(path, ["a", "b", "c"])
    run(path, ["a", "b", "c"], model="other", answer=again("other"), cut_after=2)
    run(path, ["a", "b", "c"], answer=again("never"))
    assert outputs(path) == answers_to("a", "b", "c")
    assert run(path, ["a", "b", "c"], model="other", answer=again("other")).asked == ["c"]
    assert set(all_answers(path)) == {*answers_to("a", "b", "c"), *(f"other answer to {row}" for row in "abc")}


@pytest.mark.parametrize(
    "option",
    [
        {"on_change": "ask"},
        {"save_input": "first"},
        {"retry_failed": "all"},
        {"flush_interval": -1},
        {"flush_interval": "1"},
    ],
)
def test_an_unknown_option_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        CheckpointOptions(**option)


# --- runs that are not complete remove nothing


def test_a_limited_run_keeps_the_rest(path: Path) -> None:
    run(path, ["a", "b", "c", "d"])
    second = run(path, ["d", "new", "a", "b"], limit=2)
    assert second.asked == ["new"]
    assert not aside(path).exists()
    assert [row["output"] for row in lines(path)][:2] == ["answer to d", "answer to new"]
    assert set(all_answers(path)) == set(answers_to("a", "b", "c", "d", "new"))
    assert run(path, ["d", "new", "a", "b"]).asked == []
    assert outputs(path) == answers_to("d", "new", "a", "b")
    assert [row["output"] for row in lines(aside(path))] == answers_to("c")


def test_a_limit_beyond_the_input_is_no_limit(path: Path) -> None:
    run(path, ["a", "b", "c"])
    run(path, ["c", "a"], limit=2)
    assert outputs(path) == answers_to("c", "a")
    assert [row["output"] for row in lines(aside(path))] == answers_to("b")


def test_limited_runs_grow_into_the_whole(path: Path) -> None:
    rows = list("abcdef")
    for limit in (1, 3, 3, 5, 6):
        run(path, rows, limit=limit)
        assert [row["output"] for row in lines(path)] == answers_to(*rows[:limit])


def test_a_limited_run_with_another_model_keeps_the_rest(path: Path) -> None:
    run(path, ["a", "b", "c"])
    run(path, ["a", "b", "c"], model="other", answer=again("other"), limit=1)
    assert set(all_answers(path)) == {*answers_to("a", "b", "c"), "other answer to a"}
    assert run(path, ["a", "b", "c"], limit=3).asked == []


def test_a_cut_run_removes_nothing(path: Path) -> None:
    run(path, ["a", "b", "c"])
    run(path, ["new", "newer", "a"], cut_after=1)
    assert set(all_answers(path)) == set(answers_to("a", "b", "c", "new"))
    assert not aside(path).exists()


def test_an_input_that_breaks_off_removes_nothing(path: Path) -> None:
    class Broken(Exception):
        pass

    def conversations() -> Any:
        yield "a"
        raise Broken

    run(path, ["a", "b"])
    before = path.read_bytes()
    with pytest.raises(Broken):
        run(path, [], make_rows=lambda *_: ListRows(conversations(), "m", {}))
    assert path.read_bytes().startswith(before)


@both_sources
def test_an_empty_input_removes_nothing(path: Path, make_rows: Any) -> None:
    run(path, ["a"])
    before = path.read_bytes()
    run(path, [], make_rows=lambda *_: ListRows([], "m", {}))
    assert path.read_bytes() == before


# --- torn and damaged lines


def torn_at_every_byte(data: bytes) -> list[int]:
    """Return every length at which only the last line is cut."""
    return list(range(data.rindex(b"\n", 0, -1) + 2, len(data)))


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(path: Path) -> None:
    run(path, ["a", "b"], make_rows=list_rows, save_input=False)
    whole = path.read_bytes()
    for length in torn_at_every_byte(whole):
        path.write_bytes(whole[:length])
        second = run(path, ["a", "b"], make_rows=list_rows, save_input=False)
        only_the_end_is_missing = length == len(whole) - 1
        assert second.asked == ([] if only_the_end_is_missing else ["b"]), length
        assert any("torn" in sentence for sentence in second.said) is not only_the_end_is_missing
        assert outputs(path) == answers_to("a", "b")
        assert not aside(path).exists()


@pytest.mark.parametrize("end", [b"x", "\u1000".encode(), b"\0", b"}"])
def test_a_last_line_that_ends_in_something_else_is_cut_off(path: Path, end: bytes) -> None:
    run(path, ["a", "b"])
    path.write_bytes(path.read_bytes()[:-1] + end)
    assert run(path, ["a", "b"]).asked == ["b"]
    assert outputs(path) == answers_to("a", "b")


def test_a_file_of_one_torn_line_is_gone_on_with(path: Path) -> None:
    run(path, ["a"])
    whole = path.read_bytes()
    for length in (*range(40), *range(40, len(whole), 20), len(whole) - 2):
        path.write_bytes(whole[:length])
        assert run(path, ["a"]).asked == ["a"], length
        assert outputs(path) == answers_to("a")


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0" * 5_000])
def test_zeros_that_a_power_cut_leaves_are_cut_off(path: Path, tail: bytes) -> None:
    run(path, ["a"])
    path.write_bytes(path.read_bytes() + tail)
    assert run(path, ["a", "b"]).asked == ["b"]
    assert outputs(path) == answers_to("a", "b")


def test_a_file_of_zeros_is_gone_on_with(path: Path) -> None:
    path.write_bytes(b"\0" * 100)
    assert run(path, ["a"]).asked == ["a"]
    assert outputs(path) == answers_to("a")


def test_a_torn_line_is_cut_off_before_anything_is_asked(path: Path) -> None:
    run(path, ["a"])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    run(path, ["a", "b"], cut_after=0)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-10] + b"\n",
        lambda line: line[5:],
        lambda line: line[:20] + b"\xff\xfe" + line[22:],
        lambda line: b"\0" * (len(line) - 1) + b"\n",
        lambda line: line[:-1] + b' {"index"\n',
        lambda line: line[:-1] + line,
        lambda line: line[:-1] + "\u3000\n".encode(),  # a blank for people, not for JSON
        lambda line: line.replace(b'"index"', b'"xedni"'),
        lambda line: line.replace(b'"key": "', b'"key": "x'),
        lambda line: line.replace(b'"key": "', b'"key": "0123456789abcdef'),
        lambda line: line.replace(b'"source": "', b'"source": "0123456789abcdef'),
        lambda line: line.replace(b'"source": "', b'"source": "-'),
        lambda line: b'{"index": 1, "status": "success"}\n',
        lambda line: b"[1]\n",
        lambda line: b"7\n",
        lambda line: b"[" * 5_000 + b"\n",
    ],
)
def test_a_damaged_line_is_told_kept_aside_and_its_row_asked_again(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    run(path, ["a", "b", "c"])
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage(second) + third)
    done = run(path, ["a", "b", "c"], answer=again("second"))
    assert done.asked == ["b"]
    assert any("line 2 is damaged" in sentence for sentence in done.said)
    assert outputs(path) == ["answer to a", "second answer to b", "answer to c"]
    (kept,) = lines(aside(path))
    assert (kept["status"], kept["line"]) == ("damaged", 2)
    assert kept["raw"].encode("utf-8", "surrogateescape") == damage(second)
    assert run(path, ["a", "b", "c"]).said == []


def test_a_damaged_line_stays_where_it_is_until_a_run_is_complete(path: Path) -> None:
    run(path, ["a", "b"])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[5:] + second)
    run(path, ["a", "b", "c"], cut_after=1)
    assert path.read_bytes().startswith(first[5:] + second)
    run(path, ["a", "b", "c"], limit=2)
    assert first[5:] in path.read_bytes()
    run(path, ["a", "b", "c"])
    assert outputs(path) == answers_to("a", "b", "c")
    assert [row["raw"] for row in lines(aside(path))] == [first[5:].decode()]


def test_blank_lines_are_nothing(path: Path) -> None:
    run(path, ["a", "b"])
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\n \n"))
    second = run(path, ["a", "b"])
    assert (second.asked, second.said) == ([], [])
    assert outputs(path) == answers_to("a", "b")


def test_a_damaged_file_beside_is_no_hindrance(path: Path) -> None:
    run(path, ["a", "b", "c"])
    run(path, ["a"])
    kept = aside(path).read_bytes().splitlines(keepends=True)
    aside(path).write_bytes(b"\xff\n" + kept[0] + b"\n" + kept[1][:-5])
    assert run(path, ["a", "b", "c"]).asked == ["c"]
    run(path, ["a", "c"])
    assert run(path, ["a", "b", "c"]).asked == []


damages = st.one_of(
    st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4)),
    st.tuples(st.integers(0, 10_000), st.just(0), st.sampled_from([bytes([byte]) for byte in b'0f{}-"\n\0\xff'])),
)


@given(st.lists(damages, min_size=1, max_size=4))
@settings(max_examples=examples(40))
def test_whatever_happens_to_a_file_the_whole_lines_are_resumed(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("damage") / "out.jsonl"
    rows = list("abcd")
    run(path, rows)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for at, removed, added in changes:
        at %= len(damaged) or 1
        damaged[at : at + removed] = added
    path.write_bytes(damaged)
    intact = set(whole.splitlines()) & set(bytes(damaged).split(b"\n"))
    try:
        done = run(path, rows)
    except CheckpointError:
        assert not intact
        assert path.read_bytes() == damaged
    else:
        assert {json.loads(line)["output"][-1] for line in intact}.isdisjoint(done.asked)
        assert len(outputs(path)) == 4


# --- files that are not ours, and files beside that cannot be used


@pytest.mark.parametrize(
    "content",
    [
        b'{"question": "What is it?"}\n{"question": "Another"}\n',
        b"name,age\nAnna,7\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"plain text without an end",
        b"[1, 2]\n",
        b'{"index": "zero", "output": "a"}\n',
        b"{}",
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no output file of a batch \(line 1 .*nothing was changed"):
        run(path, ["a"])
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["out.jsonl"]


def test_a_file_beside_that_cannot_be_read_is_told(path: Path) -> None:
    run(path, ["a"])
    before = path.read_bytes()
    aside(path).mkdir()
    with pytest.raises(CheckpointError, match=r"out\.aside\.jsonl"):
        run(path, ["a", "b"])
    assert path.read_bytes() == before
    aside(path).rmdir()
    assert run(path, ["a", "b"]).asked == ["b"]


def test_the_name_of_the_file_beside_follows_the_output(tmp_path: Path) -> None:
    path = tmp_path / "my.results.jsonl"
    run(path, ["a", "b"])
    run(path, ["a"])
    assert {entry.name for entry in tmp_path.iterdir()} == {"my.results.jsonl", "my.results.aside.jsonl"}


# --- older files


def older(path: Path, *rows: Mapping[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_lines_with_index_and_input_resume_by_their_content(path: Path) -> None:
    older(
        path,
        {"index": 1, "output": "B", "status": "success", "input": [{"role": "user", "content": "b"}]},
        {"index": 0, "output": "A", "status": "success", "input": "a"},
        {"index": 2, "output": None, "status": "error", "input": "c", "error": "a text"},
    )
    done = run(path, ["c", "b", "a", "new"])
    assert done.asked == ["c", "new"]
    assert outputs(path) == ["answer to c", "B", "A", "answer to new"]
    assert run(path, ["c", "b", "a", "new"]).asked == []


def test_older_lines_resume_whatever_the_model(path: Path) -> None:
    older(path, {"index": 0, "output": "A", "status": "success", "input": "a"})
    assert run(path, ["a"], model="any", on_change="fail").asked == []


def test_older_lines_that_nobody_asks_for_are_kept_aside(path: Path) -> None:
    older(path, *({"index": at, "output": text.upper(), "input": text} for at, text in enumerate("abb")))
    run(path, ["b"])
    assert outputs(path) == ["B"]
    assert sorted(row["output"] for row in lines(aside(path))) == ["A", "B"]
    assert run(path, ["b", "a", "b"]).asked == []


def test_lines_without_input_resume_by_index_with_a_warning(path: Path) -> None:
    older(
        path,
        {"index": 0, "output": "A", "status": "success"},
        {"index": 2, "output": "C", "status": "success"},
        {"index": 1, "output": None, "status": "error"},
    )
    done = run(path, ["a", "b", "c"])
    assert done.asked == ["b"]
    assert any("2 rows" in sentence and "by their index" in sentence for sentence in done.said)
    assert outputs(path) == ["A", "answer to b", "C"]


def test_lines_without_input_that_no_row_takes_are_kept(path: Path) -> None:
    older(path, *({"index": at, "output": text} for at, text in enumerate("ABCD")))
    run(path, ["a", "b"])
    assert outputs(path) == ["A", "B"]
    assert [row["output"] for row in lines(aside(path))] == ["C", "D"]


def test_a_second_answer_with_the_same_index_is_kept(path: Path) -> None:
    older(path, {"index": 0, "output": "A"}, {"index": 0, "output": "A again"})
    run(path, ["a"])
    assert len(lines(path)) == 1
    assert {row["output"] for file in (path, aside(path)) for row in lines(file)} == {"A", "A again"}


def test_a_row_that_is_known_by_content_does_not_take_one_by_index(path: Path) -> None:
    run(path, ["a"])
    path.write_bytes(path.read_bytes() + b'{"index": 1, "output": "B"}\n')
    assert run(path, ["b", "a"]).asked == ["b"]
    assert outputs(path) == answers_to("b", "a")
    assert [row["output"] for row in lines(aside(path))] == ["B"]


# --- a kill at any moment


Files = dict[str, bytes]


def record_states(folder: Path, sold: list[str], states: list[tuple[Files, int]]) -> Any:
    """Return a trace function that notes each state in which a `kill -9` would leave the folder, and what was sold."""
    before: list[object] = []

    def note_change() -> None:
        now = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(folder))
        if now != before:
            before[:] = now
            states.append(({entry.name: entry.read_bytes() for entry in folder.iterdir()}, len(sold)))

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "flexllm/batch/" not in frame.f_code.co_filename:
            return None
        note_change()
        return trace

    return trace


def test_a_kill_at_any_moment_loses_nothing(path: Path) -> None:
    rows = ["c", "b", "a", "d"]
    run(path, ["a", "gone", "b"])
    path.write_bytes(path.read_bytes() + b"damaged\n")
    sold: list[str] = []
    states: list[tuple[Files, int]] = []

    def sell(item: BatchItem) -> str:
        sold.append(question(item))
        return f"new answer to {question(item)}"

    sys.settrace(record_states(path.parent, sold, states))
    try:
        run(path, rows, answer=sell)
    finally:
        sys.settrace(None)
    assert {"out.jsonl.lock", "out.jsonl.tmp", "out.aside.jsonl"} <= {name for files, _ in states for name in files}
    for files, sold_by_then in states:
        for entry in path.parent.iterdir():
            entry.unlink()
        for name, content in files.items():
            path.with_name(name).write_bytes(content)
        there = all_answers_of_whole_lines(path)
        assert there >= set(answers_to("a", "gone", "b"))
        new = {text for text in there if text.startswith("new")}
        assert sold_by_then - len(new) in (0, 1)  # at most the one that was on its way to the file
        done = run(path, rows, answer=again("new"))
        assert done.asked == [row for row in "cd" if f"new answer to {row}" not in new]
        assert outputs(path) == ["new answer to c", "answer to b", "answer to a", "new answer to d"]
        assert {row.get("output") or row["raw"] for row in lines(aside(path))} == {"answer to gone", "damaged\n"}
        assert {entry.name for entry in path.parent.iterdir()} == {"out.jsonl", "out.aside.jsonl"}


def all_answers_of_whole_lines(path: Path) -> set[str]:
    answers = set()
    for file in (path, aside(path)):
        for line in file.read_bytes().split(b"\n")[:-1] if file.exists() else ():
            if line.startswith(b"{"):
                answers.add(json.loads(line).get("output") or "")
    return answers


# --- any sequence of runs

QUESTIONS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=6)


def edited(rows: list[tuple[str, int]], edit: str | list[tuple[str, int]]) -> list[tuple[str, int]]:
    if not isinstance(edit, str):
        return edit
    edits = {
        "none": rows,
        "reverse": rows[::-1],
        "drop first": rows[1:],
        "drop last": rows[:-1],
        "append": [*rows, *rows],
    }
    return edits[edit][:8] or rows


class AnySequenceOfRuns(RuleBasedStateMachine):
    """Edits, cuts, changes of model: no answer that was ever in the file is lost, none is bought a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.purchases = 0
        self.model = "m"
        self.rows: list[tuple[str, int]] = []
        self.written: dict[tuple[str, str, int], set[str]] = {}

    @initialize(rows=QUESTIONS)
    def begin(self, rows: list[tuple[str, int]]) -> None:
        self.folder = _folders()
        self.path = self.folder / "out.jsonl"
        self.rows = rows

    @rule(
        edit=st.sampled_from(["none", "none", "reverse", "drop first", "drop last", "append"]) | QUESTIONS,
        model=st.sampled_from(["m", "m", "other"]),
        cut_after=st.sampled_from([None, None, None, 0, 1, 3]),
        group=st.integers(1, 3),
        limit=st.sampled_from([None, None, None, 1, 3, 5]),
        on_change=st.sampled_from(["rerun", "rerun", "keep"]),
        failing=st.sampled_from([set(), set(), set(), {0}, {2}]),
        make_rows=st.sampled_from([file_rows, list_rows]),
        give_resumed=st.booleans(),
    )
    def edit_and_run(
        self,
        edit: str | list[tuple[str, int]],
        model: str,
        cut_after: int | None,
        group: int,
        limit: int | None,
        on_change: str,
        failing: set[int],
        make_rows: Any,
        give_resumed: bool,
    ) -> None:
        self.model = model
        self.rows = edited(self.rows, edit)
        known = set(self.written)

        def sell(item: BatchItem) -> Any:
            if item.index in failing:
                return fail(item)
            self.purchases += 1
            assert self._key(item.index) not in known
            return f"{self.purchases}"

        done = run(
            self.path, [{"q": text, "id": number} for text, number in self.rows], answer=sell, make_rows=make_rows,
            model=self.model, cut_after=cut_after, group=group, limit=limit, on_change=on_change, give_resumed=give_resumed,
        )  # fmt: skip
        kept = self._note_what_is_written()
        if not done.was_cut:
            self._check_complete_file(limit, on_change, kept)

    def _key(self, index: int) -> tuple[str, str, int]:
        texts = [text for text, _ in self.rows]
        return texts[index], self.model, texts[:index].count(texts[index])

    def _note_what_is_written(self) -> list[dict[str, Any]]:
        rows = lines(self.path)
        for row in rows:
            if row["status"] == "success":
                digest, setting, occurrence = row["key"].split("-")
                text = row["input"][-1]["content"]
                model = self._models.setdefault(setting, self.model)
                self.written.setdefault((text, model, int(occurrence)), set()).add(row["output"])
        return rows

    @property
    def _models(self) -> dict[str, str]:
        """The model of each settings digest, as learned from the first line that was written with it."""
        return self.__dict__.setdefault("models", {})

    def _check_complete_file(self, limit: int | None, on_change: str, rows: list[dict[str, Any]]) -> None:
        count = len(self.rows) if limit is None else min(limit, len(self.rows))
        assert [row["index"] for row in rows[:count]] == list(range(count))
        for index, row in enumerate(rows[:count]):
            text, number = self.rows[index]
            assert row["input"][-1]["content"] == text
            assert row["metadata"] == {"id": number}
            if row["status"] == "success" and on_change == "rerun":
                assert row["output"] in self.written[self._key(index)]
        if count == len(self.rows):
            assert len(rows) == count

    @invariant()
    def nothing_is_lost(self) -> None:
        if self.written:
            there = set(all_answers(self.path))
            assert {text for texts in self.written.values() for text in texts} <= there


_factory: pytest.TempPathFactory


def _folders() -> Path:
    return _factory.mktemp("runs")


@pytest.fixture(autouse=True, scope="module")
def _any_sequence_has_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _factory
    _factory = tmp_path_factory


TestAnySequenceOfRuns = AnySequenceOfRuns.TestCase
TestAnySequenceOfRuns.settings = settings(max_examples=25, stateful_step_count=8)
TestAnySequenceOfRuns = pytest.mark.slow(TestAnySequenceOfRuns)


def test_a_refused_output_is_not_locked_afterwards(path: Path) -> None:
    path.write_bytes(b"plain text\n")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no output file of a batch"):
            Checkpoint(path, CheckpointOptions(), lambda _: None)
