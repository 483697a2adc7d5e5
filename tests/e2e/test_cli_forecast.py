"""`flexllm batch` that tells what it will take, asks before it goes on, and keeps to a budget, as a user drives it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

from flexllm.mock import MockServer, Reply

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, str(ROOT / "bin" / "flexllm"))
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Runs a command for which Ctrl-C and Ctrl-D on its terminal mean something."""

PRICE = ("--price", "2,10")

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


def environment(server: MockServer) -> dict[str, str]:
    return {**os.environ, "FLEXLLM_BASE_URL": server.base_url, "FLEXLLM_MODEL": "mock-model", "TERM": "xterm"}


def batch(server: MockServer, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a batch; with `text` as its input through a pipe."""
    source = "in.jsonl" if text is None else "-"
    done = subprocess.run(
        [*PROGRAM, "batch", source, "-o", "out.jsonl", *arguments],
        env=environment(server), input=text or "", capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def batch_on_terminal(server: MockServer, answer: bytes, *arguments: str, early: bytes = b"") -> tuple[int, str]:
    """Run a batch on a terminal; when it asks whether to go on, type `answer`. Return its exit code and what it showed.

    Args:
        early: Typed at the beginning.
    """
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("4H", 24, 200, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", *arguments],
        env=environment(server), stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True,
    )  # fmt: skip
    os.close(its_end)
    os.write(terminal, early)
    seen, typed = b"", False
    try:
        while select.select([terminal], [], [], PATIENCE)[0]:
            try:
                piece = os.read(terminal, 65_536)
            except OSError:  # how Linux says that the other end is closed
                break
            seen += piece
            if not typed and b"Go on? [y/N]" in seen:
                os.write(terminal, answer)
                typed = True
        code = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    text = seen.decode()
    assert "Traceback" not in text
    return code, text


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def sent(server: MockServer) -> int:
    received: int = server.stats()["received"]
    return received


# --- --dry-run


def test_a_dry_run_sends_and_writes_nothing(server: MockServer, folder: Path) -> None:
    ask_rows(20)
    done = batch(
        server, "--dry-run", "--cache", *PRICE, "--max-tokens", "100",
        "--status-file", "status.json", "--errors", "bad.jsonl",
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "20 rows: 20 to buy"
    assert "no answers seen yet: a guess; at worst 100 each" in done.stdout
    assert "$0.0204" in done.stdout  # twenty answers of a hundred tokens, and what is asked
    assert [one.name for one in folder.iterdir()] == ["in.jsonl"]
    assert list(Path.home().rglob("*")) == []
    assert sent(server) == 0


def test_a_dry_run_tells_what_the_run_then_takes(server: MockServer) -> None:
    ask_rows(60)
    assert batch(server, "-n", "20", *PRICE).returncode == 0
    foretold = json.loads(batch(server, "--dry-run", "--json", *PRICE).stdout)

    assert (foretold["rows"], foretold["done"], foretold["to_buy"]) == (60, 20, 40)
    assert foretold["rests_on"]["completion_tokens"] == "20 answers in out.jsonl"
    before = sum(row["cost"] for row in rows())
    assert batch(server, *PRICE).returncode == 0
    bought = sum(row["cost"] for row in rows()) - before
    assert foretold["cost"]["expected"] == pytest.approx(bought, rel=0.1)
    assert foretold["cost"]["low"] <= foretold["cost"]["expected"] <= foretold["cost"]["worst"]
    assert foretold["seconds"] > 0
    assert sent(server) == 60


def test_a_dry_run_knows_what_is_in_the_cache_and_what_is_shared(server: MockServer) -> None:
    ask_rows(10)
    batch(server, "--cache")
    Path("out.jsonl").unlink()
    Path("in.jsonl").write_text(Path("in.jsonl").read_text() + '{"q": "new"}\n' * 3)

    foretold = json.loads(batch(server, "--dry-run", "--json", "--cache", "--share").stdout)
    assert (foretold["cached"], foretold["shared"], foretold["to_buy"]) == (10, 2, 1)
    assert "10 answers in the cache" in foretold["rests_on"]["completion_tokens"]
    assert json.loads(batch(server, "--dry-run", "--json").stdout)["to_buy"] == 13
    assert sent(server) == 10


def test_a_dry_run_reads_a_pipe(server: MockServer) -> None:
    done = batch(server, "--dry-run", text='{"q": "a"}\n{"q": "b"}\n')

    assert done.returncode == 0
    assert done.stdout.startswith("2 rows: 2 to buy\n")


def test_a_dry_run_may_look_while_a_batch_is_running(folder: Path) -> None:
    with MockServer(delay=PATIENCE) as server:
        ask_rows(3)
        command = [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", "-q"]
        with subprocess.Popen(command, env=environment(server), stdin=subprocess.DEVNULL) as running:
            try:
                assert eventually((folder / "out.jsonl.lock").exists, PATIENCE)
                assert batch(server, "--dry-run").stdout.startswith("3 rows: 3 to buy\n")
                assert batch(server).returncode == 5
            finally:
                running.kill()


def test_a_price_that_nobody_knows_is_unknown_and_no_budget_can_be_kept(server: MockServer) -> None:
    ask_rows(2)
    done = batch(server, "--dry-run")
    assert "cost                   unknown (the price is unknown)" in done.stdout

    for more in ((), ("--dry-run",)):
        refused = batch(server, "--max-cost", "1", *more)
        assert refused.returncode == 3
        assert "mock-model" in refused.stderr
        assert "--price" in refused.stderr
    assert sent(server) == 0


@pytest.mark.parametrize(
    ("budget", "words"), [("1", "will do."), ("0.012", "but not at worst"), ("0.003", "will probably not do")]
)
def test_a_dry_run_says_whether_the_budget_will_do(server: MockServer, budget: str, words: str) -> None:
    ask_rows(30)
    batch(server, "-n", "3", *PRICE, "--max-tokens", "60")
    spent = sum(row["cost"] for row in rows())

    arguments = ("--dry-run", *PRICE, "--max-tokens", "60", "--max-cost", budget)
    assert words in batch(server, *arguments).stdout.splitlines()[-1]
    told = json.loads(batch(server, *arguments, "--json").stdout)
    assert told["budget_left"] == pytest.approx(float(budget) - spent)
    assert told["done"] == 3


def test_a_dry_run_says_that_nothing_is_left_of_the_budget(server: MockServer) -> None:
    ask_rows(3)
    batch(server, "-n", "1", *PRICE)
    done = batch(server, *PRICE, "--dry-run", "--max-cost", "0.000001")

    assert done.stdout.splitlines()[-1] == "Nothing is left of the budget: give a larger --max-cost."


# --- --sample


def test_a_sample_is_asked_first_and_the_rest_on_yes(server: MockServer) -> None:
    ask_rows(100)
    code, seen = batch_on_terminal(server, b"y\n", "--sample", "10", *PRICE)

    assert code == 0
    assert "10 of 100 rows answered" in seen
    assert "100 rows: 10 answered by earlier runs, 90 to buy" in seen
    assert "10 sampled answers" in seen
    assert "100 of 100 rows answered, 10 of them by earlier runs" in seen
    assert sent(server) == 100
    assert [row["index"] for row in rows()] == list(range(100))


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"nonsense\n", b"\x04"], ids=["no", "enter", "nonsense", "end"])
def test_everything_but_yes_leaves_it_at_the_sample(server: MockServer, answer: bytes) -> None:
    ask_rows(40)
    code, seen = batch_on_terminal(server, answer, "--sample", "4")

    assert code == 1
    assert "The answers of the sample are in out.jsonl" in seen
    assert sent(server) == 4
    assert sorted(row["index"] for row in rows()) == [5, 15, 25, 35]


def test_what_is_typed_before_the_question_is_no_answer_to_it(server: MockServer) -> None:
    ask_rows(40)
    code, _ = batch_on_terminal(server, b"n\n", "--sample", "4", early=b"y\n")

    assert code == 1
    assert sent(server) == 4


def test_ctrl_c_at_the_question_ends_it(server: MockServer) -> None:
    ask_rows(40)
    code, seen = batch_on_terminal(server, b"\x03", "--sample", "4")

    assert code == 130
    assert seen.splitlines()[-1] == "flexllm: interrupted"
    assert sent(server) == 4


def test_a_sample_needs_no_terminal_with_yes(server: MockServer) -> None:
    ask_rows(40)
    done = batch(server, "--sample", "4", "--yes", "--json", *PRICE)

    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert (told["success"], told["resumed"], told["forecast"]["to_buy"]) == (40, 4, 36)
    assert told["sample"]["success"] == 4
    assert told["sample"]["cost"] + told["cost"] == pytest.approx(sum(row["cost"] for row in rows()))
    assert "Go on?" not in done.stderr
    assert sent(server) == 40


def test_a_sample_after_which_nobody_can_be_asked_is_refused_before_anything_is_sent(
    server: MockServer, folder: Path
) -> None:
    ask_rows(40)
    done = batch(server, "--sample", "4")

    assert done.returncode == 3
    assert "no terminal to ask at: give --yes" in done.stderr
    assert not (folder / "out.jsonl").exists()
    assert sent(server) == 0


def test_a_sample_of_a_pipe_is_refused(server: MockServer, folder: Path) -> None:
    done = batch(server, "--sample", "4", "--yes", text='{"q": "a"}\n')

    assert done.returncode == 3
    assert "it must be a file, not a pipe" in done.stderr
    assert not (folder / "out.jsonl").exists()


def test_a_sample_of_more_than_there_is_is_the_whole(server: MockServer) -> None:
    ask_rows(3)
    done = batch(server, "--sample", "10", "--yes")

    assert done.returncode == 0
    assert "Go on?" not in done.stderr
    assert sent(server) == 3
    assert [row["index"] for row in rows()] == [0, 1, 2]


def test_rows_that_failed_before_and_are_left_alone_take_nothing_from_a_sample(server: MockServer) -> None:
    ask_rows(40)
    server.set_script([Reply(status=400)] * 3)
    assert batch(server, "-n", "3").returncode == 1
    done = batch(server, "--sample", "4", "--yes", "--no-retry-failed", *PRICE)

    assert "4 sampled answers" in done.stderr
    assert "37 of 40 rows answered, 4 of them by earlier runs, 3 failed" in done.stderr


def test_where_nothing_is_left_to_buy_nobody_is_asked(server: MockServer) -> None:
    ask_rows(40)
    batch(server, "--cache")
    Path("out.jsonl").unlink()
    code, seen = batch_on_terminal(server, b"n\n", "--sample", "2", "--cache")

    assert code == 0
    assert "Go on?" not in seen
    assert sent(server) == 40
    assert len(rows()) == 40


def test_a_sample_that_stops_by_itself_is_not_followed_by_the_rest() -> None:
    with MockServer(api_key="another") as server:
        ask_rows(100)
        done = batch(server, "--sample", "50", "--yes")

        assert done.returncode == 4
        assert done.stderr.count("stopped with 0 of") == 1
        assert sent(server) < 50


def test_a_sample_that_is_interrupted_is_not_followed_by_the_rest() -> None:
    with MockServer(delay=PATIENCE) as server:
        ask_rows(100)
        command = [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", "--sample", "50", "--yes", "--grace", "0"]
        with subprocess.Popen(
            command, env=environment(server), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
        ) as process:
            try:
                assert eventually(lambda: sent(server) >= 1, PATIENCE)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()

        assert process.returncode == 130
        assert told.count("Interrupted;") == 1
        assert "to buy" not in told
        assert sent(server) <= 10


def test_a_dry_run_and_a_sample_exclude_each_other(server: MockServer) -> None:
    ask_rows(3)
    done = batch(server, "--dry-run", "--sample", "1")

    assert done.returncode == 2
    assert "not allowed with" in done.stderr


# --- budgets


def test_a_budget_ends_the_run_with_its_own_exit_code_and_more_of_it_goes_on(server: MockServer) -> None:
    ask_rows(50)
    done = batch(server, *PRICE, "--max-tokens", "50", "--max-cost", "0.004", "-c", "4")

    assert done.returncode == 7
    assert "--max-cost" in done.stderr
    assert 0 < len(rows()) < 50
    assert sum(row["cost"] for row in rows()) <= 0.004
    again = batch(server, *PRICE, "--max-tokens", "50", "--max-cost", "0.004")
    assert again.returncode == 7  # what the first run took counts
    assert batch(server, *PRICE, "--max-tokens", "50", "--max-cost", "1").returncode == 0
    assert len(rows()) == 50
    assert sent(server) == 50


@pytest.mark.parametrize("option", ["--max-requests", "--max-total-tokens"])
def test_requests_and_tokens_can_be_limited_without_a_price(server: MockServer, option: str) -> None:
    ask_rows(50)
    most = 7 if option == "--max-requests" else 400
    done = batch(server, option, str(most), "--max-tokens", "30")

    assert done.returncode == 7
    total = len(rows()) if option == "--max-requests" else sum(row["usage"]["total_tokens"] for row in rows())
    assert 0 < total <= most
    assert sent(server) == len(rows())


def test_the_configuration_may_set_the_budget(server: MockServer) -> None:
    ask_rows(50)
    Path("config.yaml").write_text("batch:\n  max_cost: 0.002\n")
    assert batch(server, "--config", "config.yaml", *PRICE, "--max-tokens", "50").returncode == 7
    assert batch(server, "--config", "config.yaml", *PRICE, "--max-cost", "1").returncode == 0


POOL = """
batch:
  endpoints:
    - base_url: {url}
      model: mock-model
      {price}
prices:
  mock-model: 4,4
"""


@pytest.mark.parametrize(
    ("text", "arguments", "price"),
    [
        (
            "default: m\nmodels:\n  - {{id: m, name: mock-model, base_url: '{url}', price: '1,1'}}\n",
            (),
            "$1 in, $1 out",
        ),
        ("prices:\n  mock-model: 3,3\n", ("--base-url", "{url}", "-m", "mock-model"), "$3 in, $3 out"),
        (POOL.format(url="{url}", price=""), (), "$4 in, $4 out"),
        (POOL.format(url="{url}", price="price: 5,5"), (), "$5 in, $5 out"),
    ],
    ids=["entry", "named", "named in a pool", "endpoint"],
)
def test_prices_of_the_configuration_hold_unless_the_command_line_has_one(
    server: MockServer, text: str, arguments: tuple[str, ...], price: str
) -> None:
    ask_rows(2)
    Path("config.yaml").write_text(text.format(url=server.base_url))
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEXLLM_")}

    def dry_run(*more: str) -> str:
        given = [one.format(url=server.base_url) for one in arguments]
        command = [
            *PROGRAM,
            "batch",
            "in.jsonl",
            "-o",
            "out.jsonl",
            "--config",
            "config.yaml",
            "--dry-run",
            *given,
            *more,
        ]
        return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=True).stdout

    assert price in dry_run()
    assert "$7 in, $8 out" in dry_run("--price", "7,8")


def test_the_summary_tells_tokens_and_cost_unless_told_not_to(server: MockServer) -> None:
    ask_rows(2)
    told = batch(server, *PRICE).stderr.splitlines()
    assert "tokens, 💰 $0." in told[-1]

    Path("out.jsonl").unlink()
    assert "💰" not in batch(server, *PRICE, "--no-track-cost").stderr
    Path("out.jsonl").unlink()
    assert "tokens" not in batch(server, *PRICE, "--no-return-usage").stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_where_the_sign_of_money_cannot_be_written_a_word_stands_for_it(server: MockServer, encoding: str) -> None:
    ask_rows(2)
    done = subprocess.run(
        [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", *PRICE],
        env={**environment(server), "PYTHONIOENCODING": encoding}, capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip

    progress, summary = done.stderr.decode(encoding).splitlines()
    for line in (progress, summary):
        assert "tokens, cost $0.00" in line
        assert "?" not in line
