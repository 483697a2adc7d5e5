"""Batches of chains that are killed and gone on with: real processes, and a server that counts what it sold.

`FLEXLLM_CHAIN_KILLS` (10) sets how often.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

from flexllm.mock import MockServer, ReceivedRequest, Reply

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("FLEXLLM_CHAIN_KILLS", "10"))  # read here: no test sees the environment of whoever runs it
CHAINS, STEPS, WORKERS = 200, 3, 16
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

PROGRAM = f"""
import sys
from flexllm import ChainOfThoughtClient, LinearStep, LLMClient

def plan(context):
    return f"plan {{context.query}}"

def solve(context):
    shared = sys.argv[3] == "shared"  # all chains ask for the same here, and go on differently
    return "solve the riddle" if shared else f"solve {{context.query}} by {{context.get('plan')}}"

def check(context):
    context.custom_data["seen"] = [str(one.response) for one in context.history]
    return f"check {{context.query}}: {{' and '.join(context.custom_data['seen'])}}"

with LLMClient("m", sys.argv[1], concurrency_limit={WORKERS}, retry_times=0) as client:
    chains = ChainOfThoughtClient(client)
    chains.create_linear_chain([LinearStep("plan", plan), LinearStep("solve", solve), LinearStep("check", check)])
    queries = [f"no. {{number}}" for number in range({CHAINS})]
    results = chains.execute_chains_batch_sync("plan", queries, sys.argv[2], show_progress=False)
    print(len(results), len(results.errors))
"""

pytestmark = pytest.mark.slow


class Seller:
    """Answers with a number that it gives only once, so that a step which is bought again changes all that follow.

    Attributes:
        left: How many it still answers; further requests are left hanging. None answers all.
        sold: How often each prompt was answered.
        delay: Seconds that answers take, up to six times this.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.sold: Counter[str] = Counter()
        self.delay = 0.0
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, request: ReceivedRequest) -> Reply | str:
        prompt: str = request.json()["messages"][-1]["content"]
        with self._lock:
            if self.left is not None:
                if not self.left:
                    return "hang"
                self.left -= 1
            self.sold[" ".join(prompt.split()[:3]).rstrip(":")] += 1
            number = next(self._numbers)
        return Reply(body=completion(f"answer {number}"), delay=number % 7 * self.delay)


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }).encode()  # fmt: skip


class Chains:
    """The program, in processes of its own, over one output file."""

    def __init__(self, server: MockServer, folder: Path, mode: str) -> None:
        self.output = folder / "out.jsonl"
        self._command = [sys.executable, "-c", PROGRAM, server.base_url, str(self.output), mode]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self) -> str:
        said, errors = self.start().communicate(timeout=PATIENCE)
        assert errors == ""
        return said

    def count(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def kill_at(self, lines: int, rng: random.Random) -> None:
        """Start it, and `kill -9` it once so many lines are in its file."""
        process = self.start()
        try:
            assert eventually(lambda: self.count() >= lines or process.poll() is not None, PATIENCE)
            time.sleep(rng.uniform(0.0, 0.02))
        finally:
            process.kill()
            _said, errors = process.communicate()
        assert (process.returncode, errors) == (-signal.SIGKILL, "")

    def rows(self) -> list[dict[str, Any]]:
        """Return the whole lines."""
        content = self.output.read_bytes() if self.output.exists() else b""
        return [json.loads(line) for line in content.split(b"\n")[:-1]]


@pytest.fixture
def seller() -> Seller:
    return Seller()


@pytest.fixture
def server(seller: Seller) -> Iterator[MockServer]:
    with MockServer(script=seller) as server:
        yield server


def at_rest(server: MockServer) -> None:
    """Wait until all that a dead client had sent is dealt with."""

    def is_at_rest() -> bool:
        stats = server.stats()
        return bool(stats["received"] == stats["answered"] + stats["failed"] and not stats["open_connections"])

    assert eventually(is_at_rest)


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Every step of every chain stands there once, chain after chain, each made of the answers before it in its chain."""
    steps = ("plan", "solve", "check")
    names = [(row["metadata"]["chain"], row["metadata"]["ordinal"], row["metadata"]["step"]) for row in rows]
    assert names == [(chain, at, step) for chain in range(CHAINS) for at, step in enumerate(steps)]
    assert [row["index"] for row in rows] == list(range(CHAINS * STEPS))
    for first in range(0, len(rows), STEPS):
        plan, solve, check = rows[first : first + STEPS]
        assert check["input"][-1]["content"].endswith(f": {plan['output']} and {solve['output']}")


@pytest.mark.parametrize("mode", ["own", "shared"])
def test_each_step_of_each_chain_is_bought_once_however_often_the_batch_is_killed(
    tmp_path: Path, seller: Seller, server: MockServer, mode: str
) -> None:
    """All that was sold is in the file at each kill, for the server lets what goes beyond that wait."""
    rng, everything = random.Random(7), CHAINS * STEPS
    chains = Chains(server, tmp_path, mode)
    kills = sorted(rng.sample(range(1, everything), KILLS))
    for lines in kills:
        seller.left = lines - chains.count()
        chains.kill_at(lines, rng)
        at_rest(server)
        assert chains.count() == lines
    seller.left = None
    assert chains.run() == f"{CHAINS} 0\n"

    solved = {"solve the riddle": CHAINS} if mode == "shared" else {f"solve no. {one}": 1 for one in range(CHAINS)}
    others = {f"{step} no. {one}": 1 for step in ("plan", "check") for one in range(CHAINS)}
    assert seller.sold == {**solved, **others}
    assert server.stats()["answered"] == everything
    check_rows(chains.rows())
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]
    print(
        f"\n{CHAINS} chains of {STEPS} steps, killed with {kills} lines in the file: {server.stats()['answered']} sold"
    )


def test_a_kill_at_any_moment_costs_what_was_under_way_and_nothing_else(
    tmp_path: Path, seller: Seller, server: MockServer
) -> None:
    rng, everything = random.Random(8), CHAINS * STEPS
    seller.delay = 0.005
    chains = Chains(server, tmp_path, "own")
    kept: list[tuple[set[str], dict[str, int]]] = []
    for lines in sorted(rng.sample(range(1, everything - 150), KILLS)):
        if chains.count() < lines:
            chains.kill_at(lines, rng)
        at_rest(server)
        there = {row["input"][-1]["content"] for row in chains.rows()}
        kept.append((there, server.stats()["prompts"]))
    assert chains.run() == f"{CHAINS} 0\n"

    sent = server.stats()["prompts"]
    assert {prompt for there, then in kept for prompt in there if sent[prompt] != then[prompt]} == set()
    assert everything <= server.stats()["received"] <= everything + len(kept) * WORKERS
    check_rows(chains.rows())
    with contextlib.suppress(FileNotFoundError):  # answers whose line was torn off by a kill leave nothing behind
        assert (tmp_path / "out.aside.jsonl").read_text() == ""
    print(f"\n{server.stats()['received'] - everything} requests were under way at {len(kept)} kills, and sent again")
