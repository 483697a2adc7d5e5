"""`flexllm batch` that ends by itself, keeps to limits and asks several endpoints: exit codes, sentences, the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import unused_port

from flexllm.mock import MockServer, Reply

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, str(ROOT / "bin" / "flexllm"))
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask_rows(count: int) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({"q": f"question {index}"}) + "\n" for index in range(count)))


def batch(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {"FLEXLLM_BASE_URL": url, "FLEXLLM_MODEL": "mock-model"} if url else {}
    done = subprocess.run(
        [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", *arguments],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def lines(name: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def answered() -> int:
    return sum(line["status"] == "success" for line in lines())


def test_a_wrong_key_stops_the_run_after_a_few_rows_and_is_told_once(server: MockServer) -> None:
    server.close()
    with MockServer(api_key="the right one") as strict:
        ask_rows(500)
        done = batch("-c", "2", url=strict.base_url)

        assert done.returncode == 4
        assert "stopped with 0 of 500 rows answered" in done.stderr
        assert "check the API key" in done.stderr
        assert strict.stats()["received"] < 20


def test_an_account_that_runs_dry_keeps_what_was_answered_and_goes_on_later() -> None:
    ask_rows(60)
    count = 0

    def dries_up(request: Any) -> Reply | None:
        nonlocal count
        count += 1
        body = json.dumps({"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}})
        return Reply(status=429, body=body.encode()) if count > 30 else None

    with MockServer(script=dries_up) as dry:
        done = batch("-c", "1", url=dry.base_url)

        assert done.returncode == 1
        assert "stopped with 30 of 60 rows answered" in done.stderr
        assert answered() == 30
    with MockServer() as paid:
        assert batch(url=paid.base_url).returncode == 0
        assert paid.stats()["received"] == 30
    assert answered() == 60


def test_a_server_that_is_not_there_stops_the_run() -> None:
    ask_rows(500)
    done = batch("--retry-delay", "0", url=f"http://127.0.0.1:{unused_port()}/v1")

    assert done.returncode == 6
    assert "nothing listens at" in done.stderr
    assert len(lines()) < 100


def test_the_share_of_failed_rows_at_which_a_run_stops() -> None:
    ask_rows(400)
    with MockServer(error_rate=0.5, error_status=400) as half:
        done = batch("--fail-over", "0.2", "-c", "4", url=half.base_url)

        assert done.returncode == 1
        assert "more than fail_over=0.2 allows" in done.stderr
        assert half.stats()["received"] < 100


def test_the_time_of_a_run_ends_it_also_against_a_server_that_drips(server: MockServer) -> None:
    ask_rows(3)
    server.close()
    with MockServer(script=lambda request: Reply(drip=0.5)) as drips:
        done = batch("--max-time", "1", "--grace", "0.5", url=drips.base_url)

    assert done.returncode == 8
    assert "max_time=1 seconds are over" in done.stderr


def test_a_run_that_ran_out_of_time_is_gone_on_with(server: MockServer) -> None:
    ask_rows(40)
    server.close()
    with MockServer(delay=0.2) as slow:
        first = batch("--max-time", "1.5", "-c", "2", url=slow.base_url)
        bought = answered()

        assert first.returncode == 8
        assert 0 < bought < 40
        assert batch("-c", "40", url=slow.base_url).returncode == 0
        assert slow.stats()["answered"] == 40
    assert answered() == 40


def test_the_summary_tells_the_errors_with_examples_and_how_the_endpoint_does(server: MockServer) -> None:
    ask_rows(5)
    server.close()
    with MockServer(script=[Reply(status=400)]) as failing:
        done = batch("--json", "-c", "1", url=failing.base_url)

    assert done.returncode == 1
    summary = json.loads(done.stdout)
    [example] = summary["errors"]["BadRequest"]["examples"]
    assert (summary["errors"]["BadRequest"]["count"], example["row"]) == (1, 0)
    assert "HTTP 400" in example["message"]
    [endpoint] = summary["endpoints"]
    assert (endpoint["place"], endpoint["sent"], endpoint["answered"]) == (failing.base_url, 5, 4)
    assert summary["stopped"] is None


def test_the_rate_that_a_server_accepts_is_found_and_told(server: MockServer) -> None:
    ask_rows(40)
    server.close()
    with MockServer(rate_limit=10, retry_after=0.2) as limited:  # few enough for a slow machine to beat
        done = batch("--json", "-c", "20", url=limited.base_url)
        refused = limited.stats()["failed"]

    assert done.returncode == 0, done.stderr
    [endpoint] = json.loads(done.stdout)["endpoints"]
    assert endpoint["refused"] == refused > 0
    assert 0 < endpoint["rate"] < 20


def test_endpoints_of_the_configuration_are_asked_as_one_and_a_dead_one_costs_no_row(server: MockServer) -> None:
    ask_rows(60)
    with MockServer(delay=0.01) as other:
        Path("config.yaml").write_text(json.dumps({"batch": {
            "fallback": True,
            "endpoints": [
                {"base_url": f"http://127.0.0.1:{unused_port()}/v1", "model": "mock-model"},
                {"base_url": server.base_url, "model": "mock-model", "concurrency_limit": 4, "max_qps": 500},
                {"base_url": other.base_url, "model": "mock-model", "concurrency_limit": 4},
            ],
        }}))  # fmt: skip
        done = batch("--config", "config.yaml")

        assert done.returncode == 0, done.stderr
        assert answered() == 60
        assert server.stats()["answered"] + other.stats()["answered"] == 60
        assert min(server.stats()["answered"], other.stats()["answered"]) > 0


def test_a_model_on_the_command_line_beats_the_endpoints_of_the_configuration(server: MockServer) -> None:
    ask_rows(3)
    with MockServer() as listed:
        Path("config.yaml").write_text(json.dumps({
            "models": [{"id": "mine", "name": "mock-model", "base_url": server.base_url}],
            "batch": {"endpoints": [{"base_url": listed.base_url, "model": "mock-model"}]},
        }))  # fmt: skip
        assert batch("--config", "config.yaml", "-m", "mine").returncode == 0
        assert (server.stats()["answered"], listed.stats()["answered"]) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--max-time", "0"), 3, "max_time=0"),
        (("--fail-over", "2"), 2, "--fail-over: '2' is no share"),
        (("--hedge", "95"), 2, "--hedge: '95' is no quantile"),
        (("--max-tpm", "0"), 2, "--max-tpm: '0' is no number above 0"),
        (("--min-qps", "5", "--max-qps", "2"), 3, "min_qps=5"),
        (("--total-timeout", "-1"), 2, "--total-timeout: '-1' is no number above 0"),
    ],
)
def test_a_wrong_limit_is_one_sentence_and_nothing_is_sent(
    server: MockServer, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ask_rows(3)
    done = batch(*arguments, url=server.base_url)

    assert done.returncode == code
    [sentence] = done.stderr.splitlines()
    assert said in sentence
    assert server.stats()["received"] == 0
