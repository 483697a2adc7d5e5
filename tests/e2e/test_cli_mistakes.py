"""What a user can do wrong: each mistake is one sentence on standard error, has its exit code, and shows no traceback."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import PATIENCE, PROGRAM, in_shell, run
from mistakes import CONFIG, CONFIGURED, FILES, KEY, LOCKED, MISTAKES, UNREACHED, Mistake, lay_out, serving

from flexllm.mock import MockServer

BATCH = ("batch", "in.jsonl", "-o", "out.jsonl")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The addresses that the table names in braces."""
    with serving() as addresses:
        yield addresses


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


@pytest.mark.parametrize("wrong", MISTAKES, ids=str)
def test_a_mistake_is_one_sentence_with_its_exit_code(wrong: Mistake, servers: dict[str, str], folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    env = {"FLEXLLM_BASE_URL": servers[wrong.server], "FLEXLLM_MODEL": "mock-model"} if wrong.server else {}
    done = run(*(part.format(**servers) for part in wrong.args), env={**env, **wrong.env}, stdin=wrong.stdin)
    assert wrong.says in done.sentence
    assert done.code == wrong.code
    assert KEY not in done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_quiet_run_that_fails_says_why(servers: dict[str, str], folder: Path) -> None:
    """Cron mails what is said; a run that ends well says nothing."""
    ask = (*BATCH, "-q", "-m", "mock-model", "--retry-times", "0", "--base-url")
    done = run(*ask, servers["down"])
    assert "0 of 3 rows answered, 3 failed (3 ConnectionFailed)" in done.sentence
    assert "the first error: nothing listens at" in done.sentence
    assert done.code == UNREACHED
    done = run(*ask, servers["good"])
    assert (done.code, done.out, done.err) == (0, "", "")


# --- what only a shell can do


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('"$@" | head -1', "list --config config.yaml"),
        ('"$@" | head -1', "pricing"),
        ('"$@" | true', "batch in.jsonl -o -"),
        ('"$@" | true', "ask hello"),
        ('"$@" 2>&1 | true', "batch in.jsonl -o out.jsonl"),
    ],
)
def test_a_reader_that_has_seen_enough_is_no_error(line: str, command: str, servers: dict[str, str]) -> None:
    done = in_shell(line, *command.split(), env={"FLEXLLM_BASE_URL": servers["good"], "FLEXLLM_MODEL": "mock-model"})
    assert "Broken pipe" not in done.err
    assert "Exception" not in done.err


@pytest.mark.parametrize("command", ["list --config config.yaml", "ask hello", "batch in.jsonl -o -", "version"])
@pytest.mark.parametrize(("target", "says"), [(">/dev/full", "No space left"), (">&-", "standard output is closed")])
def test_a_full_or_closed_standard_output_is_one_sentence(
    target: str, says: str, command: str, servers: dict[str, str]
) -> None:
    env = {"FLEXLLM_BASE_URL": servers["good"], "FLEXLLM_MODEL": "mock-model"}
    done = in_shell(f'"$@" -q {target}' if command != "version" else f'"$@" {target}', *command.split(), env=env)
    assert says in done.sentence
    assert done.code == FILES


def test_two_runs_of_one_output_file(servers: dict[str, str], folder: Path) -> None:
    with MockServer(delay=30.0) as slow:
        env = {**os.environ, "FLEXLLM_BASE_URL": slow.base_url, "FLEXLLM_MODEL": "mock-model"}
        first = subprocess.Popen([*PROGRAM, *BATCH], env=env, stderr=subprocess.DEVNULL)
        try:
            while not (folder / "out.jsonl.lock").exists() or not slow.requests:
                assert first.poll() is None
            done = run(*BATCH, env=env)
        finally:
            first.kill()
            first.wait(PATIENCE)
    assert f"out.jsonl is being written by process {first.pid} on " in done.sentence
    assert done.code == LOCKED


@pytest.mark.parametrize(
    ("path", "mode", "command", "code"),
    [
        ("in.jsonl", 0o000, "batch in.jsonl -o out.jsonl", FILES),
        ("folder", 0o500, "batch in.jsonl -o folder/out.jsonl", FILES),
        ("config.yaml", 0o000, "ask hello --config config.yaml", CONFIG),
        ("folder", 0o500, "init --config folder/config.yaml", FILES),
        ("folder", 0o500, "set-model other --config folder/config.yaml", FILES),
        ("folder", 0o500, "batch in.jsonl -o out.jsonl --log-file folder/log", FILES),
        ("folder", 0o500, "batch in.jsonl -o out.jsonl --status-file folder/status.json", FILES),
        ("in.jsonl", 0o000, "ask hello -f in.jsonl", FILES),
        ("in.jsonl", 0o000, "status in.jsonl", FILES),
    ],
)
def test_what_may_not_be_read_or_written(
    path: str, mode: int, command: str, code: int, servers: dict[str, str], folder: Path
) -> None:
    if command.startswith("set-model"):
        (folder / path / "config.yaml").write_bytes(CONFIGURED)
        (folder / path / "config.yaml").chmod(0o600)
    (folder / path).chmod(mode)
    env = {**os.environ, "FLEXLLM_BASE_URL": servers["good"], "FLEXLLM_MODEL": "mock-model"}
    try:
        done = subprocess.run(
            [*PROGRAM, *command.split()], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False, preexec_fn=_obey_modes,
        )  # fmt: skip
    finally:
        (folder / path).chmod(0o700)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Permission denied" in done.stderr
    assert done.stderr.startswith("flexllm: ")
    assert done.returncode == code


def _obey_modes() -> None:
    """Give up root's right to read and write everything, where it is root who tests."""
    if os.geteuid() == 0:
        process = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            process.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
