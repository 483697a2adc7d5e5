"""Batches that are killed, interrupted, locked out and starved of disk: real processes, a real server that counts.

`FLEXLLM_KILLS` (6) and `FLEXLLM_ROWS_FILE` (300 rows made from tests/data/gsm8k-100.jsonl) set the scale of the first two.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, str(ROOT / "bin" / "flexllm"))
QUESTIONS = ROOT / "tests" / "data" / "gsm8k-100.jsonl"
KILLS = int(os.environ.get("FLEXLLM_KILLS", "6"))  # read here: no test sees the environment of whoever runs it
ROWS_FILE = os.environ.get("FLEXLLM_ROWS_FILE")
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

Row = dict[str, Any]

pytestmark = pytest.mark.slow


# --- the server


class Mock:
    """`flexllm mock` in a process of its own."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [*PROGRAM, "mock", "-p", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()

    def __enter__(self) -> Mock:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.base_url.removesuffix('/v1')}/mock/requests", timeout=PATIENCE) as reply:
            stats: dict[str, Any] = json.load(reply)
        return stats

    def tell(self, what: str, value: Any) -> None:
        """Change its options, or give it a script."""
        url = f"{self.base_url.removesuffix('/v1')}/mock/{what}"
        with urllib.request.urlopen(url, data=json.dumps(value).encode(), timeout=PATIENCE) as reply:
            assert reply.status == 200

    def stats_at_rest(self) -> dict[str, Any]:
        """Return the counts once all that a dead client had sent is dealt with."""
        stats: dict[str, Any] = {}

        def is_at_rest() -> bool:
            stats.update(self.stats())
            return stats["received"] == stats["answered"] + stats["failed"] and stats["open_connections"] <= 1

        assert eventually(is_at_rest)
        return stats


# --- the batch


class Batch:
    """`flexllm batch` in a process of its own, over files in one folder."""

    def __init__(self, folder: Path, mock: Mock, *options: str) -> None:
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.aside = folder / "out.aside.jsonl"
        self.arguments = [str(self.input), "-o", str(self.output), "--base-url", mock.base_url, "-m", "m", *options]

    def write_input(self, rows: list[Row]) -> None:
        self.input.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, "batch", *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip

    def run(self, **options: Any) -> tuple[int, str]:
        """Run to the end and return the exit code and what was said."""
        return ended(self.start(**options))

    def count(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    @contextmanager
    def under_way(self, rows: int = 20, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Run until so many rows are in the file; kill what is left of it at the end."""
        process = self.start(**options)
        try:
            assert eventually(lambda: self.count() >= rows)
            yield process
        finally:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said
    return process.returncode, said


def read_rows(path: Path) -> list[Row]:
    """Return the whole lines of an output file, also of one that is being written or was torn."""
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def read_aside(path: Path) -> list[Row]:
    """Return the whole lines of a file beside. A kill tears one that is still in the output, and is appended again."""
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def prompt(row: Row) -> str:
    text: str = row["input"][-1]["content"]
    return text


def answers(*rows: Row) -> set[tuple[str, str]]:
    """Return what was bought: question and answer."""
    return {(prompt(row), row["output"]) for row in rows if row["status"] == "success"}


def some_rows(count: int) -> list[Row]:
    """Return rows with real questions, all different."""
    known = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    rows = [{**known[at % len(known)], "id": at} for at in range(count)]
    return [{**row, "question": f"{row['question']} (no. {row['id']})"} for row in rows]


def all_rows() -> list[Row]:
    if ROWS_FILE is None:
        return some_rows(300)
    lines = Path(ROWS_FILE).read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "id": at} for at, line in enumerate(lines)]


def kill_at_random(batch: Batch, rng: random.Random, rows_by_then: int, mock: Mock | None = None) -> bool:
    """Start a batch and `kill -9` it: soon, or when so many rows are in the file; return whether it came to that.

    Args:
        mock: Answers few rows more than those, so that the batch cannot end before the kill, however late that comes.
    """
    if mock is not None:
        mock.tell("script", [None] * (rows_by_then - batch.count() + 10) + ["hang"] * 20)
    process = batch.start()
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0.0, 0.4))  # while it starts, or reads what is there
    else:
        eventually(lambda: batch.count() >= rows_by_then or process.poll() is not None, PATIENCE)
        time.sleep(rng.uniform(0.0, 0.02))
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.fixture
def mock() -> Iterator[Mock]:
    with Mock("--delay", "0.01-0.06") as mock:
        yield mock


def test_what_is_in_the_file_at_a_kill_is_never_sent_again(tmp_path: Path, mock: Mock) -> None:
    rng, rows = random.Random(20), all_rows()
    batch = Batch(tmp_path, mock, "-c", "16")
    batch.write_input(rows)
    kept: list[tuple[set[str], dict[str, int]]] = []
    for kill in range(KILLS):
        there = batch.count()
        last_of_this_round = there + (len(rows) - 20 - there) // (KILLS - kill)
        assert kill_at_random(batch, rng, rng.randint(there + 1, max(there + 1, last_of_this_round)), mock)
        sent: dict[str, int] = mock.stats_at_rest()["prompts"]
        kept.append(({question for question, _ in answers(*read_rows(batch.output))}, sent))
    mock.tell("script", [])
    code, said = batch.run()
    assert code == 0, said
    assert [row["status"] for row in read_rows(batch.output)] == ["success"] * len(rows)
    assert [row["index"] for row in read_rows(batch.output)] == list(range(len(rows)))
    assert [prompt(row) for row in read_rows(batch.output)] == [row["question"] for row in rows]
    assert [row["metadata"]["id"] for row in read_rows(batch.output)] == [row["id"] for row in rows]
    assert not batch.aside.exists()
    stats = mock.stats_at_rest()
    assert not stats["truncated"]
    sent_again = {
        question for there, sent in kept for question in there if stats["prompts"][question] != sent[question]
    }
    assert sent_again == set()
    print(
        f"\n{len(rows)} rows, {KILLS} kills with {[len(there) for there, _ in kept]} rows in the file: {stats['received']} "
        f"requests sent, {stats['received'] - len(rows)} of them under way at a kill, {len(sent_again)} sent again"
    )


def test_no_answer_is_lost_while_the_input_changes_between_kills(tmp_path: Path, mock: Mock) -> None:
    rng, everything = random.Random(4), all_rows()
    batch = Batch(tmp_path, mock, "-c", "16")
    seen: set[tuple[str, str]] = set()
    sent_by_then: dict[str, int] = {}  # how often a question had been sent when its answer was first seen
    sizes = []
    for _ in range(KILLS):
        rows = rng.sample(everything, rng.randint(len(everything) // 3, len(everything)))
        batch.write_input(rows)
        sizes.append(len(rows))
        if rng.random() < 0.3:
            assert batch.run()[0] == 0
        else:
            there = batch.count()
            kill_at_random(batch, rng, rng.randint(there + 1, max(there + 1, len(rows))))
        sent: dict[str, int] = mock.stats_at_rest()["prompts"]
        seen |= answers(*read_rows(batch.output))
        sent_by_then = {question: sent[question] for question, _ in seen} | sent_by_then
        assert seen <= answers(*read_rows(batch.output), *read_aside(batch.aside))
    rng.shuffle(everything)
    batch.write_input(everything)
    code, said = batch.run()
    assert code == 0, said
    assert [prompt(row) for row in read_rows(batch.output)] == [row["question"] for row in everything]
    assert [row["metadata"]["id"] for row in read_rows(batch.output)] == [row["id"] for row in everything]
    assert seen <= answers(*read_rows(batch.output))
    sent = mock.stats_at_rest()["prompts"]
    sent_again = {question for question, times in sent_by_then.items() if sent[question] != times}
    assert sent_again == set()
    print(f"\ninputs of {sizes} rows, in any order: {len(seen)} answers seen, none lost, {len(sent_again)} sent again")


# --- interrupts


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupt_leaves_every_answer_in_the_file_and_says_how_to_go_on(
    tmp_path: Path, mock: Mock, number: signal.Signals, code: int
) -> None:
    batch = Batch(tmp_path, mock, "-c", "16")
    batch.write_input(some_rows(300))
    mock.tell("options", {"delay": 0.4})  # the signal is to come long before the end
    with batch.under_way() as process:
        process.send_signal(number)
        returned, said = ended(process)
    assert returned == code
    stats = mock.stats_at_rest()
    assert {question for question, _ in answers(*read_rows(batch.output))} == set(stats["answered_prompts"])
    assert stats["failed"] == 0
    assert stats["received"] < 300
    command = said.splitlines()[-1].strip()
    assert command.startswith(f"flexllm batch {batch.input} -o {batch.output} ")
    assert f"every answer that came is in {batch.output}" in said
    mock.tell("options", {"delay": 0})
    code, said = ended(
        subprocess.Popen(
            f"{PROGRAM[0]} {PROGRAM[1]} {command.removeprefix('flexllm ')}", shell=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
    )  # fmt: skip
    assert code == 0, said
    assert set(mock.stats()["prompts"].values()) == {1}
    assert len(read_rows(batch.output)) == 300


def test_an_interrupt_does_not_wait_for_a_pipe_that_stays_open(tmp_path: Path, mock: Mock) -> None:
    batch = Batch(tmp_path, mock, "-c", "4")
    process = subprocess.Popen(
        [*PROGRAM, "batch", "-", *batch.arguments[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("".join(json.dumps(row) + "\n" for row in some_rows(30)))
    process.stdin.flush()
    assert eventually(lambda: batch.count() == 30)  # although the pipe goes on
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143
    _, said = process.communicate()
    assert "the same input piped into the same command" in said
    assert len(answers(*read_rows(batch.output))) == mock.stats()["answered"] == 30


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with Mock("--delay", "30") as mock:
        batch = Batch(tmp_path, mock, "-c", "4", "--grace", "60")
        batch.write_input(some_rows(10))
        with batch.under_way(rows=0) as process:
            assert eventually(lambda: mock.stats()["received"] == 4)
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            assert process.poll() is None
            started = time.monotonic()
            process.send_signal(second)
            if second == signal.SIGINT and not eventually(lambda: process.poll() is not None, 5.0):
                process.send_signal(second)  # the same signal twice before the first is heard is one signal
            code, _ = ended(process)
            assert time.monotonic() - started < 30.0
        assert code in ((130,) if second == signal.SIGINT else (143, -signal.SIGTERM))


def test_what_takes_longer_than_the_grace_is_broken_off(tmp_path: Path) -> None:
    with Mock("--delay", "30") as mock:
        batch = Batch(tmp_path, mock, "-c", "4", "--grace", "0.2")
        batch.write_input(some_rows(10))
        with batch.under_way(rows=0) as process:
            assert eventually(lambda: mock.stats()["received"] == 4)
            process.send_signal(signal.SIGTERM)
            code, _ = ended(process)
        assert code == 143
        assert mock.stats_at_rest()["answered"] == 0
        assert read_rows(batch.output) == []


# --- one at a time


def test_a_second_process_on_the_same_output_is_refused_by_name(tmp_path: Path, mock: Mock) -> None:
    batch = Batch(tmp_path, mock, "-c", "4")
    batch.write_input(some_rows(300))
    mock.tell("options", {"delay": 0.5})  # the first is not to end before the second has started
    with batch.under_way(rows=4) as process:
        code, said = batch.run()
        sent = mock.stats()["received"]
        assert code == 5
        assert len(said.splitlines()) == 1
        assert f"is being written by process {process.pid} on " in said
        assert eventually(lambda: mock.stats()["received"] > sent)  # the first goes on
        process.kill()
    mock.stats_at_rest()
    mock.tell("options", {"delay": 0})
    code, said = batch.run()
    assert code == 0, said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


# --- many workers


def test_two_thousand_workers(tmp_path: Path) -> None:
    with Mock("--delay", "0.5") as mock:
        mock.tell("script", [None] * 2_000 + ["hang"] * 2_000)
        batch = Batch(tmp_path, mock, "-c", "2000", "--grace", "0", "--timeout", "600", "--total-timeout", "600")
        batch.write_input(some_rows(4_000))
        with batch.under_way(rows=0) as process:
            assert eventually(lambda: batch.count() == 2_000 and mock.stats()["received"] == 4_000, 2 * PATIENCE)
            process.send_signal(signal.SIGTERM)
            code, _ = ended(process)
        assert code == 143
        stats = mock.stats_at_rest()
        assert (stats["answered"], stats["failed"], stats["peak_in_flight"]) == (2_000, 2_000, 2_000)
        code, said = batch.run()
        assert code == 0, said
        stats = mock.stats_at_rest()
    assert (stats["received"], stats["answered"]) == (6_000, 4_000)
    assert len(answers(*read_rows(batch.output))) == 4_000


def test_too_few_open_files_are_told_before_anything_is_sent(tmp_path: Path, mock: Mock) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    batch = Batch(tmp_path, mock, "-c", "2000")
    batch.write_input(some_rows(10))
    code, said = batch.run(preexec_fn=limit)
    assert code == 3
    assert "open files" in said
    assert "256" in said
    assert len(said.splitlines()) == 1
    assert mock.stats()["received"] == 0


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path, mock: Mock) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    batch = Batch(tmp_path, mock, "-c", "200")
    batch.write_input(some_rows(300))
    code, said = batch.run(preexec_fn=limit)
    assert code == 0, said


# --- a full disk


def files_of_at_most(size: int) -> Callable[[], None]:
    """Return what a child does before it runs, so that none of its files can grow beyond `size`: a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_ends_the_batch_and_damages_nothing(tmp_path: Path, mock: Mock) -> None:
    batch = Batch(tmp_path, mock, "-c", "8")
    batch.write_input(some_rows(30))
    assert batch.run()[0] == 0
    before = batch.output.read_bytes()
    batch.write_input(some_rows(300))
    code, said = batch.run(preexec_fn=files_of_at_most(len(before) + 10_000))
    assert code == 9
    assert f"{batch.output} cannot be written: File too large" in said
    assert "answers could not be saved" in said
    after = batch.output.read_bytes()
    assert after.startswith(before)
    assert len(after) > len(before)
    assert after.endswith(b"\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    known = answers(*read_rows(batch.output))
    sent = mock.stats_at_rest()["prompts"]
    code, said = batch.run()
    assert code == 0, said
    assert len(answers(*read_rows(batch.output))) == 300
    now = mock.stats()["prompts"]
    assert all(now[question] == sent[question] for question, _ in known)


def test_a_disk_that_is_full_when_the_file_is_put_in_order_damages_nothing(tmp_path: Path, mock: Mock) -> None:
    rows = some_rows(40)
    batch = Batch(tmp_path, mock, "-c", "8")
    batch.write_input(rows)
    assert batch.run()[0] == 0
    before = batch.output.read_bytes()
    batch.write_input(rows[::-1])
    code, said = batch.run(preexec_fn=files_of_at_most(len(before) - 1))
    assert code == 9
    assert "cannot be put in order (every answer is still in it)" in said
    assert batch.output.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    code, said = batch.run()
    assert code == 0, said
    assert Counter(mock.stats()["prompts"].values()) == {1: 40}
