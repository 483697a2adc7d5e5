"""What a batch says of itself in another language: with a catalogue that has every text, no English word is left."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from foreign import speak_chinese, speak_english

from flexllm.batch.beside import find_checkpoint
from flexllm.batch.forecast import make_forecast
from flexllm.batch.items import BatchResult, BatchResultItem
from flexllm.batch.lists import ListRows
from flexllm.batch.lock import Holder, OutputLock
from flexllm.batch.options import BatchOptions, CheckpointOptions
from flexllm.batch.outlook import Forecast, Pace
from flexllm.batch.output import OutputFile, OutputView
from flexllm.batch.progress import ProgressOptions, Tally, describe, describe_cost, duration, make_progress
from flexllm.batch.rows import RowReader
from flexllm.batch.seen import Range
from flexllm.batch.spent import spent_in, spent_line
from flexllm.batch.status import StatusFile
from flexllm.batch.status_report import Aside, StatusReport
from flexllm.batch.stops import Verdict, out_of_time
from flexllm.cli.batch.report import how_to_go_on, sentence
from flexllm.errors import BadRequest, BatchFailed, CheckpointError, ConfigError, InputError, OutputLocked
from flexllm.health import EndpointHealth
from flexllm.prices import ModelPrice, Price
from flexllm.terminal import width


@pytest.fixture(autouse=True)
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_chinese(monkeypatch)


def english_in(text: object, *names: str) -> list[str]:
    """Return the English words in a text, apart from names."""
    left = str(text)
    for name in sorted(names, key=len, reverse=True):
        left = left.replace(name, "")
    return re.findall(r"[A-Za-z]{2,}", left)


def tally(**counts: Any) -> Tally:
    return Tally(**{"total": 2_000, "success": 900, "failed": 3, "cached": 4, "shared": 5, "resumed": 6, "retries": 7,
                    "prompt_tokens": 20_000, "completion_tokens": 10, "cost": 0.5, "unpriced": 8, **counts})  # fmt: skip


LEARNED = EndpointHealth(place="http://a", learned=40.0, rate=40.0, state="cooling", last_error="Overloaded")


# --- while it runs


@pytest.mark.parametrize("endpoints", [(LEARNED,), (LEARNED, EndpointHealth(place="http://b"))])
@pytest.mark.parametrize("cost", [None, 0.5])
def test_the_details_of_progress(endpoints: tuple[EndpointHealth, ...], cost: float | None) -> None:
    told = describe(tally(cost=cost), 10.0, ProgressOptions(tokens=True, cost=True), endpoints)

    assert len(told.split(", ")) == 9
    assert english_in(told) == []


@pytest.mark.parametrize("total", [None, 2_000])
def test_a_line_of_progress_also_where_a_stream_has_no_coin(total: int | None) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="gb2312")
    progress = make_progress(ProgressOptions(cost=True), stream, lambda: 0.0)
    progress.update(tally(total=total))
    progress.close()
    stream.seek(0)

    assert english_in(stream.read()) == []


@pytest.mark.parametrize("seconds", [3.0, 600.0, 10_000.0, 1e6])
def test_a_time(seconds: float) -> None:
    assert english_in(duration(seconds)) == []


def test_a_bar_counts_rows() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    progress = make_progress(ProgressOptions(), screen)
    progress.update(tally(success=2, failed=0, total=4, resumed=0))
    progress.close()

    drawn = screen.getvalue()
    assert "2/4" in drawn
    assert "row" not in drawn


# --- at the end


SUMMARY: dict[str, Any] = {
    "total": 9, "success": 5, "resumed": 2, "cached": 1, "shared": 1, "failed": 2, "retries": 1, "total_tokens": 90_000,
    "errors_by_class": {"BadRequest": 2}, "elapsed": 1.5, "cost": 0.5, "unpriced": 1,
    "endpoints": [LEARNED.as_dict()],
}  # fmt: skip


def test_the_last_sentence() -> None:
    told = sentence(SUMMARY, "OUT", tokens=True, cost=True)

    assert english_in(told, "BadRequest", "http://a", "Overloaded", "OUT") == []
    assert "OUT" in told


@pytest.mark.parametrize("source", ["IN", None])
def test_how_to_go_on_after_an_interrupt(source: str | None) -> None:
    import argparse

    args = argparse.Namespace(argv=["batch", "IN"], input=source)

    assert english_in(how_to_go_on(args, Path("OUT")), "flexllm batch", "IN", "OUT") == []
    assert english_in(how_to_go_on(args, None)) == []


@pytest.mark.parametrize("total", [None, 9])
@pytest.mark.parametrize("output", [None, Path("OUT")])
@pytest.mark.parametrize("verdict", [("budget", None), ("fatal", BadRequest("TOLD")), ("max_time", None)])
def test_why_a_run_stopped(total: int | None, output: Path | None, verdict: Any) -> None:
    reason, error = verdict
    told = Verdict(reason=reason, why="WHY", error=error).as_error(tally(total=total), output)

    assert english_in(told, "WHY", "OUT") == []
    assert english_in(out_of_time(5.0).why) == []


def test_the_failures_of_a_list() -> None:
    failed = BatchResultItem(1, status="error", error=BadRequest("TOLD"))

    with pytest.raises(BatchFailed) as caught:
        BatchResult([None], [failed], {}).raise_for_errors()
    assert english_in(caught.value, "TOLD") == []


# --- flexllm status


@pytest.mark.parametrize("state", ["running", "died", "ended", "done", "stopped", "interrupted", "failed"])
@pytest.mark.parametrize("pid", [None, 7])
@pytest.mark.parametrize("left", [None, 60.0])
def test_what_a_batch_has_done(state: str, pid: int | None, left: float | None) -> None:
    examples = [{"row": 3, "message": "TOLD", "request_id": None}]
    report = StatusReport(
        file="-", state=state, holder=Holder(pid=pid, host="HOST", since="2026"), complete=None, total=None, success=3,
        failed=2, missing=4, cached=1, requests_per_second=2.0, eta_seconds=left, prompt_tokens=5, completion_tokens=6,
        total_tokens=11, cost=0.5, unpriced=2, errors={"BadRequest": {"count": 1, "examples": examples}, "X": {"count": 1}},
        damaged=2, torn=True, aside=Aside("ASIDE", 3), seconds_since_update=left, exit_code=pid,
    )  # fmt: skip

    assert english_in(report, "HOST", "TOLD", "BadRequest", "ASIDE") == []


def test_a_row_that_could_not_be_asked_is_named_once_in_any_language() -> None:
    counted = Tally()
    counted.count_error(InputError("row 3 cannot be asked: TOLD"), 3, was_asked=False)
    [example] = counted.errors()["InputError"]["examples"]

    assert example == {"row": 3, "message": "row 3 cannot be asked: TOLD", "request_id": None, "asked": False}


# --- a forecast


def forecast(**changed: Any) -> Forecast:
    values: dict[str, Any] = {
        "rows": 9, "done": 1, "failed": 1, "cached": 1, "shared": 1, "to_buy": 5, "changed": 2,
        "prompt_tokens": Range(1.0, 2.0, 3.0), "completion_tokens": Range(1.0, 1.0, 1.0), "cost": Range(0.5, 1.0, 2.0),
        "seconds": 60.0,
    }  # fmt: skip
    return Forecast(**{**values, **changed})


@pytest.mark.parametrize("changed", [{}, {"cost": None, "seconds": None, "changed": 0}])
def test_what_a_batch_will_take(changed: Any) -> None:
    assert english_in(forecast(**changed)) == []


def test_the_columns_of_a_forecast_begin_below_each_other() -> None:
    lines = str(forecast()).splitlines()[1:]
    starts = {width(line[: re.search(r"  (?=\S+ \S*[\d$])", line[2:]).end() + 2]) for line in lines}  # type: ignore[union-attr]

    assert len(lines) == 4
    assert len(starts) == 1


@pytest.mark.parametrize(
    "pace", [Pace(), Pace(requests=1.0), Pace(tokens=1.0), Pace(input_tokens=1.0), Pace(output_tokens=1.0)]
)
@pytest.mark.parametrize("params", [{}, {"max_tokens": 5}])
@pytest.mark.parametrize("prices", [[None], [], "one"])
def test_what_a_forecast_rests_on(pace: Pace, params: dict[str, Any], prices: Any) -> None:
    known = [ModelPrice(model="", price=Price(input=1.0, output=2.0), uncertain=True)] if prices == "one" else prices
    rows = ListRows(["a", "b"], "MODEL", params)
    rests_on = make_forecast(rows, BatchOptions(), pace=pace, prices=lambda model: known).rests_on

    assert english_in(" ".join(rests_on.values()), "max_tokens") == []


# --- what goes wrong


@pytest.mark.parametrize(
    "make",
    [
        lambda path: OutputFile(path / "none" / "OUT.jsonl", 1.0),
        lambda path: OutputFile(path, 1.0),
        lambda path: spent_in(path),
        lambda path: OutputView(Path("/dev/null")),
        lambda path: OutputView(path / ("A" * 300)),
        lambda path: find_checkpoint(path),
        lambda path: find_checkpoint(path / "OUT.aside.jsonl"),
        lambda path: find_checkpoint(path / "OUT"),
        lambda path: OutputLock(path / "none" / "OUT"),
        lambda path: StatusFile(path, {}),
        lambda path: StatusFile(path / "none" / "OUT", {}),
        lambda path: CheckpointOptions(on_change="X"),
        lambda path: CheckpointOptions(retry_failed="X"),
        lambda path: CheckpointOptions(save_input="X"),
        lambda path: CheckpointOptions(flush_interval=-1.0),
        lambda path: BatchOptions(order="X"),
        lambda path: BatchOptions(fail_over=2.0),
        lambda path: BatchOptions(max_time=-1.0),
        lambda path: RowReader([], "IN"),
        lambda path: RowReader([b"5"], "IN"),
        lambda path: RowReader([b'{"a": 1}'], "IN"),
        lambda path: ListRows("a", "MODEL", {}),
        lambda path: ListRows(["a"], "MODEL", {}, metadata_list=[1, 2]),
        lambda path: ListRows(["a"], "MODEL", {}, params_list=[5]),  # type: ignore[list-item]
    ],
)
def test_an_error(make: Any, tmp_path: Path) -> None:
    with pytest.raises((CheckpointError, ConfigError, InputError)) as caught:
        make(tmp_path)
    names = (
        str(tmp_path), "none", "OUT", ".jsonl.lock", ".aside.jsonl", ".jsonl", ".lock", "A" * 300, "IN", "'X'", "dev/null",
        "True", "None", "False", "on_change", "retry_failed", "save_input", "flush_interval", "order", "fail_over", "max_time",
        "rerun", "keep", "fail", "input", "prefix", "only", "int", "messages_list", "metadata_list", "params_list", "out",
    )  # fmt: skip
    assert english_in(caught.value, *names) == []


def test_who_holds_a_lock(tmp_path: Path) -> None:
    lock = OutputLock(tmp_path / "OUT")
    try:
        with pytest.raises(OutputLocked) as signed:
            OutputLock(tmp_path / "OUT")
        (tmp_path / "OUT.lock").write_text("")
        with pytest.raises(OutputLocked) as unsigned:
            OutputLock(tmp_path / "OUT")
    finally:
        lock.release()
    import socket

    assert english_in(signed.value, str(tmp_path), "OUT", socket.gethostname()) == []
    assert english_in(unsigned.value, str(tmp_path), "OUT") == []


# --- what programs read


def test_what_stands_in_a_file_for_programs_is_the_same_in_every_language() -> None:
    row = {"status": "error", "error": {"cost": 1.0, "attempts": 1}}
    said = spent_line([row])
    speak_english()

    assert said == spent_line([row])


def test_python_keeps_english_unless_somebody_asks() -> None:
    speak_english()

    assert describe_cost(0.5, 2) == "💰 $0.5000 and 2 rows of unknown price"
