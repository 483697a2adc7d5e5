"""Batches that nobody sits before: no terminal, an empty home, a minimal environment, overlapping starts, deadlines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, PROGRAM, at, in_shell, rows_of, run, write_questions
from fakes import eventually, unused_port

from flexllm.batch.lock import OutputLock
from flexllm.cli.main import main
from flexllm.mock import MockServer

pytestmark = pytest.mark.slow

BATCH = ("batch", "in.jsonl", "-o", "out.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def slow_server() -> Iterator[MockServer]:
    with MockServer(delay=0.1) as server:
        yield server


def start(server: MockServer, *options: str, home: Path, arguments: tuple[str, ...] = BATCH) -> subprocess.Popen[bytes]:
    """Start a batch as cron does: a session of its own, nothing on standard input, hardly any environment."""
    return subprocess.Popen(
        [*PROGRAM, *arguments, *options], start_new_session=True, stdin=subprocess.DEVNULL,
        env=at(server, HOME=str(home), PATH="/usr/bin:/bin"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def by_name(server: MockServer) -> tuple[str, ...]:
    return ("--base-url", server.base_url, "-m", "mock-model", "--api-key", "sk-secret-of-the-night")


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit code and what was said, in which there may be nothing that only a terminal understands."""
    out, err = process.communicate(timeout=PATIENCE)
    assert not [byte for byte in out + err if (byte < 32 and byte != 10) or byte == 127], err
    assert b"Traceback" not in err
    return process.returncode, err.decode()


def lines(name: str) -> int:
    return Path(name).read_bytes().count(b"\n") if Path(name).exists() else 0


def status(name: str = "status.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(name).read_text())
    return found


def test_a_nightly_job_that_overlaps_and_is_ended_at_its_deadline_is_finished_by_the_next(
    slow_server: MockServer, folder: Path, clean_environment: Path
) -> None:
    write_questions(folder / "in.jsonl", 40)
    watched = ("--status-file", "status.json", "--log-file", "run.log", "-c", "2", *by_name(slow_server))
    first = start(slow_server, *watched, home=clean_environment)
    assert eventually(lambda: lines("out.jsonl") >= 6)
    slow_server.change(delay=2.0)  # so that it is not done before the second has started

    code, said = ended(start(slow_server, *watched, "-q", home=clean_environment))
    assert code == 5
    [sentence] = said.splitlines()
    assert f"is being written by process {first.pid} on" in sentence
    assert (status()["state"], status()["pid"]) == ("running", first.pid)

    first.send_signal(signal.SIGTERM)
    code, said = ended(first)
    bought = lines("out.jsonl")
    assert code == 143
    assert "To go on, the same command" in said
    assert 6 <= bought < 40
    assert (status()["state"], status()["exit_code"], status()["success"]) == ("interrupted", 143, bought)

    slow_server.change(delay=0.0)
    code, said = ended(start(slow_server, *watched, "-q", home=clean_environment))
    assert (code, said) == (0, "")
    assert (status()["state"], status()["total"], status()["success"]) == ("done", 40, 40)
    assert [row["index"] for row in rows_of("out.jsonl")] == list(range(40))
    assert set(slow_server.stats()["prompts"].values()) == {1}
    log = Path("run.log").read_text()
    assert [line.split("exit code ")[1] for line in log.splitlines() if "ends with exit code" in line] == [
        "5",
        "143",
        "0",
    ]
    assert "sk-secret-of-the-night" not in Path("status.json").read_text() + log
    assert (status()["input"], status()["model"]) == (str(folder / "in.jsonl"), "mock-model")
    assert "40 of 40 rows answered" in log  # whatever --quiet keeps from standard error
    assert "secret" not in log + Path("status.json").read_text()
    assert sorted(one.name for one in folder.iterdir()) == ["in.jsonl", "out.jsonl", "run.log", "status.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_a_run_as_cleanly(
    slow_server: MockServer, folder: Path, clean_environment: Path, number: signal.Signals
) -> None:
    write_questions(folder / "in.jsonl", 1_000)
    process = start(slow_server, "-c", "2", home=clean_environment)
    assert eventually(lambda: lines("out.jsonl") >= 2)
    process.send_signal(number)
    code, said = ended(process)
    assert code == 128 + number
    assert "every answer that came is in out.jsonl" in said
    assert lines("out.jsonl") == slow_server.stats()["answered"]
    assert not Path("out.jsonl.lock").exists()


def test_a_second_sigterm_is_obeyed_at_once(folder: Path, clean_environment: Path) -> None:
    write_questions(folder / "in.jsonl", 4)
    with MockServer(script=["hang"] * 9) as server:
        process = start(server, "--status-file", "status.json", "--grace", "10m", home=clean_environment)
        assert eventually(lambda: server.stats()["received"] >= 4)
        process.terminate()
        assert not eventually(lambda: process.poll() is not None, 0.3)
        process.terminate()
        if not eventually(lambda: process.poll() is not None, 5.0):
            process.terminate()  # the same signal twice before the first is heard is one signal
        code, _ = ended(process)
    assert code == 143
    assert (status()["state"], status()["exit_code"]) == ("interrupted", 143)


def test_a_signal_before_the_first_row_is_told_too(folder: Path, clean_environment: Path) -> None:
    os.mkfifo(folder / "in.jsonl")  # nobody writes it
    with MockServer() as server:
        process = start(server, "--status-file", "status.json", "--log-file", "run.log", home=clean_environment)
        assert eventually(lambda: Path("status.json").exists())
        process.terminate()
        code, said = ended(process)
    assert (code, said) == (143, "flexllm: ended by SIGTERM\n")
    assert (status()["state"], status()["exit_code"]) == ("interrupted", 143)
    assert Path("run.log").read_text().endswith("flexllm batch ends with exit code 143\n")


def test_a_question_that_is_ended_at_its_deadline_leaves_word_in_the_log(clean_environment: Path) -> None:
    with MockServer(script=["hang"] * 9) as server:
        process = start(server, "--log-file", "run.log", home=clean_environment, arguments=("ask", "Hello"))
        assert eventually(lambda: server.stats()["received"] >= 1)
        process.terminate()
        assert ended(process) == (143, "flexllm: ended by SIGTERM\n")
    assert Path("run.log").read_text().endswith("flexllm ask ends with exit code 143\n")


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_a_run_that_cannot_talk_goes_on(folder: Path, stderr: str) -> None:
    if "full" in stderr and not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    write_questions(folder / "in.jsonl", 3)
    with MockServer(script=["bad_request"]) as server:
        in_shell(f'"$@" {stderr}', *BATCH, env=at(server))
        assert server.stats()["answered"] == 2
    assert lines("out.jsonl") == 3


def test_what_a_server_sends_to_a_terminal_stays_out_of_the_talk(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 1)

    def rude(request: Any) -> Any:
        from flexllm.mock import Reply

        return Reply(status=400, body=json.dumps({"error": {"message": "\x1b[31mno\x07\rgo\x9b"}}).encode())

    with MockServer(script=rude) as server:
        done = run(*BATCH, "--log-file", "run.log", "--status-file", "status.json", env=at(server))
        asked = run("ask", "Hello", env=at(server))
    shown = [run("status", name) for name in ("out.jsonl", "status.json")]
    assert {one.code for one in (done, asked, *shown)} == {1}
    for text in (done.err, asked.err, Path("run.log").read_text(), *(one.out for one in shown)):
        assert "\\x1b[31mno\\x07" in text
        assert not [sign for sign in text if (sign < " " and sign != "\n") or "\x7f" <= sign < "\xa0"]


# --- every exit code


_BOTH = {"done", "stopped"}
CODES: list[tuple[int, dict[str, Any], tuple[str, ...], str]] = [
    (0, {}, (), ""),
    (1, {"script": ["bad_request"]}, (), ""),
    (3, {}, ("--user-template", "hello"), "has no place"),
    (4, {"api_key": "the right one"}, (), ""),
    (5, {}, ("-o", "locked.jsonl"), "is being written by"),
    (6, {}, ("--base-url", "URL", "--retry-times", "0", "--retry-delay", "0"), ""),
    (7, {}, ("--max-requests", "1", "-c", "1"), ""),
    (8, {"delay": 0.2}, ("--max-time", "0.3", "-c", "1", "--grace", "0"), ""),
    (9, {}, ("-o", "none/out.jsonl"), "does not exist"),
]


@pytest.mark.parametrize(("code", "server", "arguments", "error"), CODES, ids=[str(one[0]) for one in CODES])
def test_every_end_has_its_code_which_the_status_file_tells_too(
    folder: Path, code: int, server: dict[str, Any], arguments: tuple[str, ...], error: str
) -> None:
    write_questions(folder / "in.jsonl", 4)
    lock = OutputLock(folder / "locked.jsonl")
    arguments = tuple(f"http://127.0.0.1:{unused_port()}/v1" if one == "URL" else one for one in arguments)
    try:
        with MockServer(**server) as mock:
            done = run(*BATCH, "-q", "--status-file", "status.json", *arguments, env=at(mock))
    finally:
        lock.release()
    assert (done.code, done.out, status()["exit_code"]) == (code, "", code)
    assert error in (status()["error"] or "")
    # A wrong key stops a run of so few rows just before its end, or just after it.
    states = {"failed"} if error else {0: {"done"}, 1: {"done"}, 7: {"stopped"}, 8: {"stopped"}}.get(code, _BOTH)
    assert status()["state"] in states
    assert bool(status()["stopped"]) is (status()["state"] == "stopped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--log-file", "out.jsonl"), "--log-file out.jsonl is the file of --output already"),
        (("--status-file", "out.jsonl.lock"), "--status-file out.jsonl.lock is the file of --output already"),
        (("--log-file", "out.aside.jsonl"), "--log-file out.aside.jsonl is the file of --output already"),
        (("--log-file", "in.jsonl"), "--log-file in.jsonl is the file of INPUT already"),
        (("--log-file", "bad.jsonl", "--errors", "bad.jsonl"), "--log-file bad.jsonl is the file of --errors already"),
        (("--log-file", "my.yaml", "--config", "my.yaml"), "--log-file my.yaml is the file of --config already"),
        (("--errors", "out.aside.jsonl"), "--errors out.aside.jsonl is a file that the answers go to"),
        (("--status-file", "my.yaml"), "the status file my.yaml is there already and holds something else"),
        (("--status-file", "./in.jsonl"), "--status-file ./in.jsonl is the file of INPUT already"),
        (("--status-file", "x", "--log-file", "x"), "--log-file x is the file of --status-file already"),
        (("--log-file", "none/run.log"), "the log file none/run.log cannot be written: No such file"),
        (("--status-file", "-"), "--status-file '-' names no file"),
        (("--log-file", "-"), "--log-file '-' names no file"),
        (("--log-file", ""), "--log-file '' names no file"),
        (("--status-file", "none/status.json"), "the status file none/status.json cannot be written"),
        (("--status-file", "."), "the status file . is there already and is no file"),
    ],
)
def test_a_log_or_status_file_that_cannot_be_is_told_before_anything_is_sent(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    write_questions(folder / "in.jsonl", 1)
    Path("my.yaml").write_text("models: []\n")
    before = {one: one.read_bytes() for one in folder.iterdir()}
    with MockServer() as server:
        for name, value in at(server).items():
            monkeypatch.setenv(name, value)
        assert main([*BATCH, *arguments]) == 9
        assert server.stats()["received"] == 0
    [sentence] = capfd.readouterr().err.splitlines()
    assert sentence.startswith("flexllm: ")
    assert words in sentence
    assert {one: one.read_bytes() for one in before} == before
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(("option", "value"), [("--max-time", "soon"), ("--grace", "1y"), ("--max-time", "-5")])
def test_a_wrong_time_is_a_wrong_use(option: str, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*BATCH, f"{option}={value}"])
    assert caught.value.code == 2
    assert f"argument {option}: '{value}' is no time" in capfd.readouterr().err
