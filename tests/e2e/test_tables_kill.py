"""A table of 5,000 rows and a folder of 200 pictures through the command line: killed several times, and gone on with.

What is in the checkpoint at a kill is not asked again; what was under way then has to be, for nobody heard the answers.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, PROGRAM, ROOT, at, rows_of
from fakes import eventually
from pictures import write_pictures

from flexllm.mock import MockServer

pytestmark = pytest.mark.slow
KILLS = 4
WORKERS = 32


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as started:
        yield started


def start(folder: Path, server: MockServer, *arguments: str) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "batch", *arguments, "-q", "-c", str(WORKERS)]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **at(server)}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def run(folder: Path, server: MockServer, *arguments: str) -> None:
    process = start(folder, server, *arguments)
    said = process.communicate(timeout=PATIENCE)[1]
    assert (process.returncode, said) == (0, b"")


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a checkpoint that a kill left whole."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def killed_and_gone_on_with(
    folder: Path, server: MockServer, rows: int, asked: Callable[[], Counter[str]], name_of: Callable[[dict[str, str]], str],
    *arguments: str,
) -> int:  # fmt: skip
    """Kill a run KILLS times and let the last one end; return how many requests were sent more than once.

    Args:
        asked: How often each thing was asked, as the server has counted.
        name_of: From the metadata of a row to what the server calls it.
    """
    rng, output = random.Random(7), folder / "out.csv"
    checkpoint = folder / "out.csv.jsonl"
    answered: dict[str, int] = {}
    for kill in range(KILLS):
        there = lines_in(checkpoint)
        enough = there + rng.randint(1, (rows - WORKERS * KILLS - there) // (KILLS - kill))
        # What comes behind these hangs, so that the run cannot end before the kill, however late that comes.
        server.set_script([*[None] * (enough - there + WORKERS), *["hang"] * 2 * WORKERS])
        process = start(folder, server, *arguments)
        assert eventually(lambda: lines_in(checkpoint) >= enough or process.poll() is not None)  # noqa: B023
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not output.exists(), "a table is made at the end of a run, whole"
        assert eventually(lambda: server.stats()["open_connections"] == 0)
        counts = asked()
        done = {name_of(row["metadata"]) for row in whole_rows(checkpoint)}
        for name in done:
            assert answered.setdefault(name, counts[name]) == counts[name], "an answer that is kept was asked for again"
    server.set_script(None)
    run(folder, server, *arguments)
    counts = asked()
    assert {name: counts[name] for name in answered} == answered
    assert len(counts) == rows
    assert max(counts.values()) <= 1 + KILLS
    again = sum(counts.values()) - rows
    assert again <= KILLS * 3 * WORKERS, "only what was under way at a kill"
    run(folder, server, *arguments)
    assert asked() == counts, "all is answered: nothing more is asked"
    return again


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_of_5000_rows_is_killed_and_ends_as_if_it_had_not_been(tmp_path: Path, server: MockServer) -> None:
    rows = [(f"{number:05}", f'What is {number}, "said" in\r\nwords?', "é;") for number in range(5_000)]
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        with open(tmp_path / name / "data.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "question", "note"), *rows])
    questions = {number: question for number, question, _note in rows}
    arguments = ("data.csv", "--user-field", "question", "-o", "out.csv")
    again = killed_and_gone_on_with(
        tmp_path / "killed", server, 5_000, lambda: Counter(server.stats()["prompts"]), lambda row: questions[row["id"]],
        *arguments,
    )  # fmt: skip
    server.reset()
    run(tmp_path / "whole", server, *arguments)
    assert set(server.stats()["prompts"].values()) == {1}
    made = tmp_path / "killed" / "out.csv"
    assert made.read_bytes() == (tmp_path / "whole" / "out.csv").read_bytes()
    assert [(row["id"], row["question"], row["note"]) for row in table(made)] == rows
    assert {row["status"] for row in table(made)} == {"success"}
    print(f"\n5,000 rows, {KILLS} kills: {again} of them under way at a kill and asked again, none that was answered")


def test_a_folder_of_200_pictures_is_killed_and_ends_as_if_it_had_not_been(tmp_path: Path, server: MockServer) -> None:
    names = [f"{number % 7}/{number:03}.png" for number in range(200)]
    for name in ("killed", "whole"):
        write_pictures(tmp_path / name / "photos", *names)
    arguments = ("photos/", "--prompt", "Describe this picture", "-o", "out.csv")
    data = {name: (tmp_path / "whole" / "photos" / name).read_bytes() for name in names}

    def asked() -> Counter[str]:
        """Count what came by the pictures in it."""
        return Counter(
            _digest(request.json()["messages"][0]["content"][0]["image_url"]["url"]) for request in server.requests
        )

    digests = {name: _digest(_uri(data[name])) for name in names}
    assert len(set(digests.values())) == 200
    again = killed_and_gone_on_with(
        tmp_path / "killed", server, 200, asked, lambda row: digests[row["file"]], *arguments
    )
    server.reset()
    run(tmp_path / "whole", server, *arguments)
    assert set(asked().values()) == {1}
    made = tmp_path / "killed" / "out.csv"
    assert made.read_bytes() == (tmp_path / "whole" / "out.csv").read_bytes()
    assert [row["file"] for row in table(made)] == sorted(names)
    assert {row["status"] for row in table(made)} == {"success"}
    for row in rows_of(tmp_path / "killed" / "out.csv.jsonl"):
        assert row["input"][0]["content"][0]["image_url"]["url"] == f"photos/{row['metadata']['file']}"
    print(f"\n200 pictures, {KILLS} kills: {again} of them under way at a kill and asked again, none that was answered")


SCRIPT = """
import sys
from flexllm import MllmClient, MllmTableProcessor
with MllmClient("m", sys.argv[1], concurrency_limit=16) as client:
    frame = MllmTableProcessor(client).call_table_sync(
        "data.csv", "question", output_file="out.jsonl", show_progress=False
    )
frame.to_csv("out.csv", index=False)
"""


def test_a_table_asked_from_python_is_killed_and_goes_on(tmp_path: Path, server: MockServer) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    rows = [(f"{number:03}", f"question {number}") for number in range(300)]
    with open(tmp_path / "data.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "question"), *rows])
    command = (sys.executable, "-c", SCRIPT, server.base_url)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    server.set_script([*[None] * 150, *["hang"] * 32])
    process = subprocess.Popen(command, cwd=tmp_path, env=env)
    assert eventually(lambda: lines_in(tmp_path / "out.jsonl") >= 100 or process.poll() is not None)
    process.kill()
    process.wait(PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert eventually(lambda: server.stats()["open_connections"] == 0)
    kept, counts = whole_rows(tmp_path / "out.jsonl"), server.stats()["prompts"]
    server.set_script(None)
    assert subprocess.run(command, cwd=tmp_path, env=env, timeout=PATIENCE, check=False).returncode == 0
    after = server.stats()["prompts"]
    assert {row["input"][-1]["content"] for row in kept if after[row["input"][-1]["content"]] != 1} == set()
    assert (len(after), len(counts) < 300) == (300, True)
    found = table(tmp_path / "out.csv")
    assert [(row["id"], row["question"]) for row in found] == rows
    assert all(f'"{row["question"]}"' in row["output"] and row["output_error"] == "" for row in found)


def _uri(data: bytes) -> str:
    from base64 import b64encode

    return f"data:image/png;base64,{b64encode(data).decode()}"


def _digest(uri: str) -> str:
    return sha256(uri.encode()).hexdigest()
