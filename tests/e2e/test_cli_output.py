"""Where `flexllm batch` puts its answers: tables, compressed files, standard output, failed rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, PROGRAM, ROOT, at, in_process, in_shell, rows_of, run, write_questions, write_rows
from fakes import eventually

from flexllm.mock import MockServer, Reply

pytestmark = pytest.mark.slow
DONE, FAILED, USAGE, CONFIG, FILES = 0, 1, 2, 3, 9


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> MockServer:
    """A server that commands in this process ask too."""
    for name, value in at(server).items():
        monkeypatch.setenv(name, value)
    return server


def received(server: MockServer) -> int:
    count: int = server.stats()["received"]
    return count


def table(name: str) -> list[dict[str, str]]:
    raw = Path(name).read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if ".tsv" in name else ","))


def refuse_bad(request: Any) -> Reply | None:
    return Reply(status=400, body=b'{"error": {"message": "no"}}') if b"bad" in request.body else None


# --- tables


def test_a_table_is_answered_by_a_table_and_goes_on(here: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.csv").write_text('id,q,output\n1,"one, ""two""",x\n2,"three\nfour",\n3,五,y\n', encoding="utf-8")
    first = in_process(capsys, "batch", "in.csv", "-o", "out.csv", "-q", "-n", "2")
    assert (first.code, first.err) == (DONE, "")
    assert [row["id"] for row in table("out.csv")] == ["1", "2"]

    assert in_process(capsys, "batch", "in.csv", "-o", "out.csv", "-q").code == DONE
    rows = table("out.csv")
    assert [(row["id"], row["q"], row["input.output"], row["status"]) for row in rows] == [
        ("1", 'one, "two"', "x", "success"), ("2", "three\nfour", "", "success"), ("3", "五", "y", "success"),
    ]  # fmt: skip
    assert "五" in rows[2]["output"]
    assert received(here) == 3
    assert sorted(os.listdir()) == ["in.csv", "out.csv", "out.csv.jsonl"]


@pytest.mark.parametrize("name", ["out.tsv.gz", "out.jsonl.gz"])
def test_what_ends_in_gz_is_compressed(here: MockServer, capsys: pytest.CaptureFixture[str], name: str) -> None:
    write_questions(Path("in.jsonl"), 3)
    assert in_process(capsys, "batch", "in.jsonl", "-o", name, "-q").code == DONE
    if "tsv" in name:
        assert [row["q"] for row in table(name)] == [f"question {number}" for number in range(3)]
    else:
        assert gzip.decompress(Path(name).read_bytes()) == Path(f"{name}.jsonl").read_bytes()


def test_an_interrupted_run_leaves_a_table_of_what_was_answered_and_the_next_finishes_it(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 40)
    with MockServer(delay=0.5) as server:
        arguments = ("batch", "in.jsonl", "-o", "out.csv", "-c", "4", "--errors", "bad.jsonl")
        process = subprocess.Popen(
            [*PROGRAM, *arguments], env={**os.environ, **at(server)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        output = folder / "out.csv.jsonl"
        assert eventually(lambda: output.exists() and output.read_bytes().count(b"\n") >= 8)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (143, "")
        assert "every answer that came is in out.csv.jsonl" in err
        kept = [f"{row['metadata']['id']}" for row in rows_of(output)]
        assert [row["id"] for row in table("out.csv")] == sorted(kept, key=int)
        assert (folder / "bad.jsonl").read_bytes() == b""

        server.change(delay=0.0)
        assert run(*arguments, "-q", env=at(server)).code == DONE
        assert received(server) == 40
    assert [row["id"] for row in table("out.csv")] == [str(number) for number in range(40)]


def test_a_killed_run_has_no_table_and_the_next_makes_it_without_asking_again(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 12)
    with MockServer(delay=0.5) as server:
        arguments = ("batch", "in.jsonl", "-o", "out.csv", "-c", "2", "-q")
        process = subprocess.Popen([*PROGRAM, *arguments], env={**os.environ, **at(server)}, stdin=subprocess.DEVNULL)
        output = folder / "out.csv.jsonl"
        assert eventually(lambda: output.exists() and output.read_bytes().count(b"\n") >= 4)
        process.kill()
        process.wait(PATIENCE)
        assert not (folder / "out.csv").exists()
        kept = output.read_bytes().count(b"\n")
        assert eventually(lambda: server.stats()["open_connections"] == 0)  # all that was sent has come
        asked = received(server)
        server.change(delay=0.0)
        assert run(*arguments, env=at(server)).code == DONE
        assert received(server) - asked == 12 - kept
    assert len(table("out.csv")) == 12


# --- standard output


@pytest.mark.parametrize("dies_over", ["out.csv", "bad.jsonl", "status.json"])
def test_what_a_run_leaves_that_is_killed_while_it_replaces_a_file_is_gone_after_the_next(
    server: MockServer, folder: Path, dies_over: str
) -> None:
    write_questions(folder / "in.jsonl", 3)
    (folder / "out.csv.jsonl").touch()  # so that there is something to make a table from
    (folder / "out.csv").touch()
    command = ("batch", "in.jsonl", "-o", "out.csv", "--errors", "bad.jsonl", "--status-file", "status.json", "-q")
    code = (
        "import os, signal, sys\n"
        "rename = os.replace\n"
        "def killed(source, target, *more, **options):\n"
        "    if os.path.basename(target) == sys.argv[1]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    rename(source, target, *more, **options)\n"
        "os.replace = killed\n"
        "from flexllm.cli.main import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    program = (sys.executable, "-c", code, dies_over)
    assert run(*command, env={**at(server), "PYTHONPATH": str(ROOT)}, program=program).code == -signal.SIGKILL
    assert [one.name for one in folder.glob(".*")] != []
    assert run(*command, env=at(server)).code == DONE
    assert sorted(one.name for one in folder.iterdir()) == [
        "bad.jsonl", "in.jsonl", "out.csv", "out.csv.jsonl", "status.json",
    ]  # fmt: skip
    assert len(table("out.csv")) == received(server) == 3


def test_rows_go_to_standard_output_as_they_finish(here: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 5)
    done = run("batch", "in.jsonl", "-o", "-")
    assert done.code == DONE
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(row["metadata"]["id"] for row in rows) == list(range(5))
    assert "5 of 5 rows answered" in done.err
    assert "see" not in done.err
    assert os.listdir() == ["in.jsonl"]


def test_a_reader_that_has_seen_enough_ends_the_run_quietly(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 2_000)
    with MockServer(delay=0.02) as server:
        script = '"$@" 2>err | head -n 1; exit "${PIPESTATUS[0]}"'
        done = run(
            "batch",
            "in.jsonl",
            "-o",
            "-",
            "-q",
            "-c",
            "2",
            env=at(server),
            program=("bash", "-c", script, "sh", *PROGRAM),
        )
        assert received(server) < 1_000
    assert (done.code, len(done.out.splitlines())) == (FAILED, 1)
    assert Path("err").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_standard_output_that_is_full_or_closed_is_told(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)
    full = in_shell('"$@" >/dev/full', "batch", "in.jsonl", "-o", "-", "-q", env=at(server))
    assert (full.code, full.sentence) == (FILES, "flexllm: standard output cannot be written: No space left on device")
    before = received(server)
    closed = in_shell('"$@" >&-', "batch", "in.jsonl", "-o", "-", "-q", env=at(server))
    assert (closed.code, closed.sentence) == (FILES, "flexllm: standard output is closed")
    assert received(server) == before


def test_what_is_under_way_at_ctrl_c_still_reaches_standard_output(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 500)
    with MockServer(delay=0.3) as server:
        process = subprocess.Popen(
            [*PROGRAM, "batch", "in.jsonl", "-o", "-", "-c", "5"], env={**os.environ, **at(server)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert eventually(lambda: received(server) >= 5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert len(out.splitlines()) == received(server)
    assert err.splitlines()[-1] == (
        "Interrupted; the answers that came are on standard output. Nothing was kept to go on from"
    )


# --- failed rows


def test_failed_rows_have_a_file_and_are_asked_again_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(folder / "in.jsonl", {"q": "bad 0"}, {"q": "good 1"}, {"q": "bad 2"})
    options = ("-o", "out.jsonl", "--errors", "bad.jsonl", "-q")
    with MockServer(script=refuse_bad) as server:
        for name, value in at(server).items():
            monkeypatch.setenv(name, value)
        assert in_process(capsys, "batch", "in.jsonl", *options).code == FAILED
        lines = (folder / "out.jsonl").read_bytes().splitlines(keepends=True)
        assert (folder / "bad.jsonl").read_bytes() == lines[0] + lines[2]
        assert in_process(capsys, "batch", "in.jsonl", *options, "--no-retry-failed").code == FAILED
        assert (folder / "bad.jsonl").read_bytes() == lines[0] + lines[2]
        assert received(server) == 3

    write_rows(folder / "in.jsonl", {"q": "bad 0"}, {"q": "good 1"}, {"q": "bad 2"}, {"q": "new"})
    with MockServer() as server:
        for name, value in at(server).items():
            monkeypatch.setenv(name, value)
        dry = in_process(capsys, "batch", "in.jsonl", "-o", "out.jsonl", "--retry-failed", "--dry-run", "--json")
        assert dry.data["to_buy"] == 2
        assert in_process(capsys, "batch", "in.jsonl", *options, "--retry-failed").code == DONE
        assert (received(server), (folder / "bad.jsonl").read_bytes()) == (2, b"")
        again = in_process(capsys, "batch", "in.jsonl", "-o", "out.jsonl", "--retry-failed")
        assert (again.code, received(server)) == (DONE, 2)
        assert again.err.startswith("no row of the input failed in an earlier run; nothing was asked\n")
        assert in_process(capsys, "batch", "in.jsonl", *options).code == DONE
        assert received(server) == 3
    assert [row["status"] for row in rows_of("out.jsonl")] == ["success"] * 4


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("-o - --json", USAGE, "leave one of them out"),
        ("-o - --retry-failed", USAGE, "name it instead of -o -"),
        ("-o - --sample 1 --yes", USAGE, "--sample needs an output file"),
        ("-o out.txt", CONFIG, "must end in .jsonl, .csv or .tsv"),
        ("-o mine.csv", FILES, "mine.csv is there already, and mine.csv.jsonl"),
        ("-o folder.csv", FILES, "folder.csv is there already and is no regular file"),
        ("-o none/out.csv", FILES, "does not exist"),
        ("-o out.jsonl --errors mine.csv", FILES, "holds something else than failed rows"),
        ("-o out.jsonl --errors in.jsonl", FILES, "is both input and output"),
        ("-o out.jsonl --errors out.jsonl", FILES, "is a file that the answers go to"),
        ("-o out.csv --errors out.csv", FILES, "is a file that the answers go to"),
        ("-o out.jsonl --errors none/bad.jsonl", FILES, "does not exist"),
        ("-o out.jsonl --errors -", CONFIG, "--errors needs the name of a file"),
        ("-o out.jsonl --load-balance random", CONFIG, "--load-balance is for several endpoints"),
        ("-o out.jsonl --no-distribute", CONFIG, "--distribute is for several endpoints"),
        ("-o out.jsonl --burst 0", USAGE, "--burst: '0' is no whole number"),
    ],
)
def test_a_wrong_output_is_one_sentence_and_nothing_is_sent(
    here: MockServer, folder: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, sentence: str
) -> None:
    write_questions(folder / "in.jsonl", 2)
    (folder / "mine.csv").write_text("mine")
    (folder / "folder.csv").mkdir()
    done = in_process(capsys, "batch", "in.jsonl", *words.split())
    assert (done.code, received(here)) == (code, 0)
    assert sentence in done.sentence
    assert sorted(os.listdir()) == ["folder.csv", "in.jsonl", "mine.csv"]
    assert (folder / "mine.csv").read_text() == "mine"


# --- rows with a model and parameters of their own


def test_requests_of_a_batch_file_are_asked_as_they_stand_and_go_on(
    here: MockServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(
        folder / "in.jsonl",
        *(
            {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": f"model-{number % 2}", "seed": number, "messages": [{"role": "user", "content": "?"}]}}
            for number in range(4)
        ),
    )  # fmt: skip
    dry = in_process(capsys, "batch", "in.jsonl", "-o", "out.csv", "--dry-run", "--json", "--price", "1,2")
    assert dry.data["rests_on"]["cost"] == "at the prices of 2 models"
    assert in_process(capsys, "batch", "in.jsonl", "-o", "out.csv", "-q", "-n", "2").code == DONE
    assert in_process(capsys, "batch", "in.jsonl", "-o", "out.csv", "-q").code == DONE
    assert received(here) == 4
    assert [(row["custom_id"], row["model"]) for row in table("out.csv")] == [
        ("r0", "model-0"), ("r1", "model-1"), ("r2", "model-0"), ("r3", "model-1"),
    ]  # fmt: skip
    assert len(rows_of("out.csv.jsonl")) == 4


# --- several endpoints


def test_options_for_several_endpoints_are_heeded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_questions(folder / "in.jsonl", 6)
    with MockServer() as one, MockServer() as other:
        endpoints = "".join(f"    - {{base_url: {url}, model: m}}\n" for url in (one.base_url, other.base_url))
        (folder / "config.yaml").write_text(f"batch:\n  endpoints:\n{endpoints}")
        options = (
            "--config",
            "config.yaml",
            "-q",
            "--no-distribute",
            "--load-balance",
            "fallback",
            "--total-max-qps",
            "900",
        )
        done = in_process(
            capsys, "batch", "in.jsonl", "-o", "out.jsonl", *options, "--recovery-time", "5s", "--no-fallback"
        )
        assert done.code == DONE
        assert (received(one), received(other)) == (6, 0)
