"""The names of what lies beside an output file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexllm.batch.beside import aside_of, checkpoint_of, files_of, find_checkpoint, lock_of
from flexllm.errors import CheckpointError


@pytest.mark.parametrize(
    ("output", "checkpoint", "aside"),
    [
        ("a.jsonl", "a.jsonl", "a.aside.jsonl"),
        ("a.csv", "a.csv.jsonl", "a.csv.aside.jsonl"),
        ("a.jsonl.gz", "a.jsonl.gz.jsonl", "a.jsonl.gz.aside.jsonl"),
        ("A.JSONL", "A.JSONL.jsonl", "A.JSONL.aside.jsonl"),
    ],
)
def test_each_form_of_output_has_its_names(tmp_path: Path, output: str, checkpoint: str, aside: str) -> None:
    found = checkpoint_of(tmp_path / output)
    assert (found.name, aside_of(found).name, lock_of(found).name) == (checkpoint, aside, f"{checkpoint}.lock")
    all_names = {output, checkpoint, aside, f"{checkpoint}.lock"}
    assert sorted(one.name for one in files_of(tmp_path / output)) == sorted(all_names)


def test_the_lock_lies_beside_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.jsonl").symlink_to("real/b.jsonl")
    assert lock_of(tmp_path / "a.jsonl") == tmp_path / "real" / "b.jsonl.lock"
    assert aside_of(tmp_path / "a.jsonl") == tmp_path / "a.aside.jsonl"


@pytest.mark.parametrize("asked", ["a.csv", "a.csv.jsonl", "a.csv.jsonl.lock", "a.csv.lock"])
def test_a_checkpoint_is_found_by_any_of_its_names(tmp_path: Path, asked: str) -> None:
    (tmp_path / "a.csv.jsonl").touch()
    assert find_checkpoint(tmp_path / asked) == tmp_path / "a.csv.jsonl"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("folder", "is a folder"),
        ("a.aside.jsonl", r"ask for that one: flexllm status .*/a\.jsonl"),
        ("notes.txt", r"is no output file of a batch: .* \(notes\.txt\.jsonl\)"),
        ("none.csv", "does not exist"),
    ],
)
def test_where_there_is_none_it_says_what_is_there(tmp_path: Path, asked: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=words):
        find_checkpoint(tmp_path / asked)
