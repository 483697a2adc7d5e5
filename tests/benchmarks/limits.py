"""What the limits keep, and what a pool makes of its endpoints: python tests/benchmarks/limits.py WHAT [options].

    precision   500 requests at max_qps=100, and at 500: the rate that the server saw, and the most in any one second
    adaptive    a batch without any limit set against a server that allows so many requests a second and refuses the rest
    pool        three servers of 50, 200 and 800 ms: rows a second against the sum of what each can do
    outage      the same, with one of them killed in mid-run and started again: rows lost, and its share afterwards
    gate        rows a second at no delay with limits set out of reach, against none

The servers run in processes of their own, and what is printed is what they counted. Figures are to be compared within one
run; no test asserts them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from run import PROGRAM, header, questions, server, table

from flexllm import LLMClient, LLMClientPool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(BENCHMARKS))
    parser.add_argument("-n", "--rows", type=int, default=0, help="rows (each benchmark has its own default)")
    parser.add_argument("-c", "--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the adaptive run, and of the outage")
    parser.add_argument(
        "--allowed", type=float, default=40.0, help="requests a second that the adaptive run is allowed"
    )
    parser.add_argument("--delay", type=float, default=0.0, help="the server's delay in the adaptive run, in seconds")
    parser.add_argument("--url", help="a server's base URL on this machine, for the gate")
    args = parser.parse_args()
    header()
    BENCHMARKS[args.what](args)


def counts(url: str) -> dict[str, Any]:
    """Return what a mock server has counted."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/mock/requests") as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def precision(args: argparse.Namespace) -> None:
    count = args.rows or 500
    rows = []
    for wanted in (100, 500):
        for number in range(args.rounds):
            with server(None) as url, LLMClient("m", url, concurrency_limit=args.concurrency, max_qps=wanted) as client:
                result = client.chat_completions_batch_sync(questions(count), show_progress=False)
                assert result.summary["success"] == count, result.summary["errors_by_class"]
                seen = counts(url)
            rows.append([wanted, number, seen["received"], f"{seen['rate']:.2f}", seen["peak_per_second"]])
    table(["max_qps", "round", "requests", "(N − 1) / (last − first)", "most in one second"], rows)


def adaptive(args: argparse.Namespace) -> None:
    rows = []
    for number in range(args.rounds):
        options = ["--rate-limit", str(args.allowed), "--retry-after", "1", "--delay", str(args.delay)]
        with server(None, options) as url:
            early: list[dict[str, Any]] = []
            timer = threading.Timer(10.0, lambda url=url, early=early: early.append(counts(url)))
            timer.start()
            started = time.monotonic()
            with LLMClient("m", url, concurrency_limit=args.concurrency, adaptive=True) as client:
                result = client.chat_completions_batch_sync(
                    (str(index) for index in range(10**9)), show_progress=False, max_time=args.seconds, grace=0.0
                )
                learned = client.stats["endpoints"][0]
            elapsed = time.monotonic() - started
            timer.join()
            late = counts(url)
        accepted = (late["answered"] - early[0]["answered"]) / (elapsed - 10.0)
        refused = late["statuses"].get("429", 0)
        rows.append([
            number, f"{accepted:.2f}", f"{accepted / args.allowed:.3f}", late["received"], refused,
            f"{refused / late['received']:.2%}", result.summary["failed"], f"{learned['rate'] or 0:.1f}",
        ])  # fmt: skip
    table(
        [
            "round",
            "accepted/s after 10 s",
            "of the allowed",
            "sent",
            "refused",
            "share",
            "rows lost",
            "rate at the end",
        ],
        rows,
    )


@contextmanager
def three_servers(delays: Sequence[float]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server(None, ["--delay", str(delay)])) for delay in delays]


def pool(args: argparse.Namespace) -> None:
    delays, places = (0.05, 0.2, 0.8), min(args.concurrency, 16)
    capacity = sum(places / delay for delay in delays)
    rows = []
    for strategy in ("round_robin", "least_busy", "random"):
        with three_servers(delays) as urls:
            endpoints = [{"base_url": url, "model": "m"} for url in urls]
            with LLMClientPool(endpoints, load_balance=strategy, concurrency_limit=places) as client:
                client.chat_completions_batch_sync(questions(200), show_progress=False)  # the pools of connections fill
                times = []
                started = time.perf_counter()
                before = [counts(url)["answered"] for url in urls]
                for _ in client.iter_chat_completions_batch_sync(questions(args.rows or int(capacity * 20))):
                    times.append(time.perf_counter() - started)
                shares = [counts(url)["answered"] - count for url, count in zip(urls, before, strict=True)]
        # The last 800 ms of a run are those of rows that nobody can hurry: the rate is that of the time before.
        until = times[-1] - 1.0
        rate = sum(one <= until for one in times) / until
        rows.append([strategy, f"{rate:.1f}", f"{capacity:.1f}", f"{rate / capacity:.3f}", shares])
    table(["strategy", "rows/s", "sum of the capacities", "ratio", "rows of each"], rows)


def outage(args: argparse.Namespace) -> None:
    delays, places = (0.05, 0.2, 0.8), min(args.concurrency, 16)
    seconds = args.seconds
    with three_servers(delays[1:]) as urls:
        quick, url = _start(delays[0])
        port = url.rsplit(":", 1)[1].removesuffix("/v1")
        endpoints = [{"base_url": one, "model": "m"} for one in (url, *urls)]
        marks: list[tuple[str, float, int]] = []
        with LLMClientPool(endpoints, concurrency_limit=places, recovery_time=2.0) as client:

            def act() -> None:
                nonlocal quick
                for name, share in (("killed", 0.3), ("started again", 0.5), ("at the end", 0.95)):
                    time.sleep(max(0.0, began + seconds * share - time.monotonic()))
                    marks.append((name, time.monotonic() - began, client.stats["endpoints"][0]["answered"]))
                    if name == "killed":
                        quick.kill()
                        quick.wait()
                    elif name == "started again":
                        quick, _ = _start(delays[0], port)

            began = time.monotonic()
            actor = threading.Thread(target=act)
            actor.start()
            count = int(seconds * sum(places / delay for delay in delays) * 1.2)  # more than can be done: time ends it
            result = client.chat_completions_batch_sync(
                questions(count), show_progress=False, max_time=seconds, grace=5.0
            )
            actor.join()
            health = client.stats["endpoints"][0]
        quick.kill()
        quick.wait()
    lost = sum(item.error is not None and "stopped" not in str(item.error) for item in result.items)
    before = marks[0][2] / marks[0][1]
    after = (marks[2][2] - marks[1][2]) / (marks[2][1] - marks[1][1] - 2.0)
    table(
        [
            "rows answered",
            "rows lost",
            "its rows/s before",
            "after (less the time until it is tried)",
            "state at the end",
        ],
        [[result.summary["success"], lost, f"{before:.1f}", f"{after:.1f}", health["state"]]],
    )


def _start(delay: float, port: str = "0") -> tuple[subprocess.Popen[str], str]:
    mock = subprocess.Popen(
        [*PROGRAM, "mock", "--port", port, "--delay", str(delay)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert mock.stdout is not None
    return mock, mock.stdout.readline().strip()


def gate(args: argparse.Namespace) -> None:
    far = {"max_qps": 1e6, "max_rpm": 6e7}
    kinds: dict[str, dict[str, Any]] = {
        "none": {"adaptive": False},
        "adaptive": {},
        "requests": far,
        "requests and tokens": {**far, "max_tpm": 1e12},
    }
    count = args.rows or 6000
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    with server(args.url) as url:
        for _ in range(args.rounds):
            for name, options in (*kinds.items(), ("none", kinds["none"])):  # what it is held against, twice
                with LLMClient("m", url, concurrency_limit=args.concurrency, **options) as client:
                    started = time.perf_counter()
                    result = client.chat_completions_batch_sync(questions(count), show_progress=False)
                    rates[name].append(count / (time.perf_counter() - started))
                assert result.summary["success"] == count, result.summary["errors_by_class"]
    none = statistics.median(rates["none"])
    table(
        ["limits", "rows/s, each round", "median", "of that without"],
        [
            [name, " ".join(f"{rate:,.0f}" for rate in found), f"{statistics.median(found):,.0f}",
             f"{statistics.median(found) / none:.3f}"]
            for name, found in rates.items()
        ],
    )  # fmt: skip


BENCHMARKS = {"precision": precision, "adaptive": adaptive, "pool": pool, "outage": outage, "gate": gate}

if __name__ == "__main__":
    sys.exit(main())
