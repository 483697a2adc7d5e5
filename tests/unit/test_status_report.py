"""What a batch has done, as a value: from an output file and from a status file, as JSON and for people."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest
from generated import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flexllm.batch.lock import Holder
from flexllm.batch.standing import Standing
from flexllm.batch.status_report import StatusReport, report_of_output, report_of_status

NOW = 1_800_000_000.0
OF_A_STATUS_FILE = {"updated", "seconds_since_update"}


def of_output(**fields: Any) -> StatusReport:
    return report_of_output(Standing(Path("out.jsonl"), **fields), "out.csv", NOW)


def of_status(**fields: Any) -> StatusReport:
    known = {
        "version": 1,
        "state": "running",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "output": "/d/out.jsonl",
    }
    return report_of_status({**known, **fields}, NOW)


def test_both_kinds_of_file_have_the_same_fields_but_for_when_a_status_file_was_written() -> None:
    output, status = of_output().as_dict(), of_status().as_dict()
    assert set(status) - set(output) == OF_A_STATUS_FILE
    assert [name for name in status if name not in OF_A_STATUS_FILE] == list(output)
    assert (output["checkpoint"], status["checkpoint"]) == ("out.jsonl", None)


def test_its_json_is_plain_data() -> None:
    holder = Holder(pid=7, host="h", since="2026-01-31 03:00:00", since_unix=NOW - 10, total=9, start=0, is_alive=True)
    report = of_output(holder=holder, answered=4, recent=4, aside=Path("out.aside.jsonl"), aside_lines=2)
    found = json.loads(json.dumps(report.as_dict()))
    assert found["holder"] == {"pid": 7, "host": "h", "since": "2026-01-31 03:00:00", "alive": True}
    assert found["aside"] == {"file": "out.aside.jsonl", "lines": 2}
    assert (found["file"], found["state"], found["complete"], found["missing"]) == ("out.csv", "running", False, 5)
    assert (found["requests_per_second"], found["eta_seconds"]) == (0.4, 12.5)


def test_it_is_a_value() -> None:
    report = of_status(updated_unix=NOW - 5)
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.state = "done"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "complete"),
    [
        ({"answered": 3}, None),  # of how many, nobody knows
        ({"answered": 3, "failed": 1}, False),
        ({"answered": 3, "damaged": 1}, False),
        ({"answered": 3, "is_torn": True}, False),
        ({"answered": 3, "holder": Holder(total=3)}, False),
    ],
)
def test_an_output_file_knows_what_is_missing_but_not_that_nothing_is(fields: Any, complete: bool | None) -> None:
    assert of_output(**fields).complete is complete


@pytest.mark.parametrize(
    ("fields", "complete"),
    [
        ({"state": "done"}, True),
        ({"state": "done", "failed": 1}, False),
        ({"state": "done", "total": 3, "success": 3}, True),
        ({"state": "done", "total": 3, "success": 2}, False),  # --retry-failed leaves new rows out
        ({"state": "stopped"}, False),
        ({"state": "running"}, False),
    ],
)
def test_a_status_file_knows_whether_all_is_done(fields: Any, complete: bool) -> None:
    assert of_status(**fields).complete is complete


def test_a_process_that_is_gone_died_over_its_status_file() -> None:
    report = of_status(pid=2**30, total=3, success=1)
    assert (report.state, report.holder, report.missing) == ("died", None, 2)
    assert str(report).splitlines() == [
        "/d/out.jsonl: the last run was killed before its end",
        "1 of 3 rows answered, 2 missing",
        "Nothing that is in the file is lost: run the same command again, and it asks only the rest",
    ]


def test_each_sentence_is_one_line_without_what_steers_a_terminal() -> None:
    seen = {"BadRequest": {"count": 2, "examples": [{"row": 4, "message": "no\n\x1b[31mred"}]}}
    first, _, last = str(of_status(state="stopped", exit_code=7, errors=seen)).splitlines()
    assert first == "/d/out.jsonl: the run stopped before the end of its input, exit code 7"
    assert last == "2 failed with BadRequest: row 4: no \\x1b[31mred"


def test_a_row_is_named_once() -> None:
    example = {"row": 2, "message": "row 2 cannot be asked: not JSON", "asked": False}
    seen = {"InputError": {"count": 1, "examples": [example]}}
    assert str(of_status(errors=seen)).endswith("1 failed with InputError: row 2 cannot be asked: not JSON")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from([
    "state", "pid", "host", "born", "started", "total", "success", "failed", "cached", "requests_per_second", "eta_seconds",
    "total_tokens", "cost", "unpriced", "errors", "updated", "updated_unix", "stopped", "error", "exit_code", "output",
])  # fmt: skip


@settings(max_examples=examples(60))
@given(st.dictionaries(NAMES, ANYTHING, max_size=8))
@example({"total_tokens": 10**400, "pid": 10**400, "success": -(10**400)})
@example({"updated_unix": 10**400, "eta_seconds": float("inf"), "cost": float("nan")})
def test_whatever_another_program_wrote_is_told_as_far_as_it_says_something(fields: dict[str, Any]) -> None:
    report = of_status(**fields)
    json.dumps(report.as_dict(), allow_nan=False)
    assert len(str(report).splitlines()) >= 2
