"""What the rows of an output file have taken, each once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flexllm.batch.spent import spent_in, spent_line
from flexllm.cost import Spend
from flexllm.errors import CheckpointError


def line(index: int, key: str = "k", **fields: Any) -> str:
    row = {"index": index, "output": "yes", "status": "success", "usage": {"total_tokens": 15}, "cost": 0.5, "key": key}
    return json.dumps({**row, **fields}) + "\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_answers_and_billed_errors_count_and_cached_ones_do_not(tmp_path: Path) -> None:
    error = {"type": "SchemaMismatch", "cost": 0.25, "attempts": 2, "usage": {"total_tokens": 7}}
    path = write(
        tmp_path / "out.jsonl",
        line(0),
        line(1, status="cached", cost=0.0),
        line(2, status="error", output=None, error=error),
        line(3, cost=None, attempts=3),
        "torn",
    )

    assert spent_in(path) == Spend(0.75, 1 + 2 + 3, 15 + 7 + 15)


def test_a_file_that_is_not_there_has_taken_nothing_and_one_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    assert spent_in(tmp_path / "none.jsonl") == Spend()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        spent_in(tmp_path / "folder.jsonl")


def test_an_answer_that_came_back_from_the_file_beside_was_paid_for_once(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", line(4, metadata={"of": "another row"}), line(5, key="new"))
    write(tmp_path / "out.aside.jsonl", line(0, source="00"), line(1, key="other"))

    assert spent_in(path) == Spend(1.5, 3, 45)


def test_errors_that_are_alike_are_as_many_errors(tmp_path: Path) -> None:
    failed = line(0, status="error", output=None, error={"cost": 0.25, "attempts": 1})
    path = write(tmp_path / "out.jsonl", failed, failed)
    write(tmp_path / "out.aside.jsonl", failed)

    assert spent_in(path).dollars == 0.75


def test_a_hedged_answer_took_the_tokens_of_both_requests(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", line(0, attempts=2, hedged=1))

    assert spent_in(path) == Spend(0.5, 2, 30)


def test_what_failed_rows_took_whose_lines_are_dropped_is_one_line_in_the_file_beside(tmp_path: Path) -> None:
    paid = {"error": {"cost": 0.25, "attempts": 2, "usage": {"total_tokens": 7}}, "status": "error"}
    assert spent_line([{"status": "error", "error": {"attempts": 3}}]) is None
    told = spent_line([paid, {"status": "error", "error": {"attempts": 3}}, paid])
    assert told is not None
    path = write(tmp_path / "out.jsonl", line(0))
    (tmp_path / "out.aside.jsonl").write_bytes(told)

    assert spent_in(path) == Spend(1.0, 1 + 7, 15 + 14)
