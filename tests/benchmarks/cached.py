"""What the response cache gives and costs, by hand: python tests/benchmarks/cached.py WHAT [options].

`warm`: rows a second of a batch that the disk answers, each round in a fresh process. `front`: rows a second of a batch
that must be asked, without a cache, with one that is looked into alone, and with one that is filled too, interleaved: read
the ratios of a round, not its figures. Without --url the mock server answers, whose speed then is the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import ROOT, header, questions, server, table

SWITCH_INTERVAL = 0.1
"""As the command line's own process has it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("warm", "front", "one"))
    parser.add_argument("--url", help="a server's base URL on this machine, with the version path")
    parser.add_argument("-n", "--rows", type=int, default=20_000)
    parser.add_argument("-c", "--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="for `one`: where the cache is")
    parser.add_argument("--mode", default="none", help="for `one`: none, fill, look or warm")
    args = parser.parse_args()
    if args.url and not args.url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]")):
        parser.error("--url must be on this machine")
    if args.what == "one":
        one(args)
        return
    header()
    with server(args.url) as url, tempfile.TemporaryDirectory() as folder:
        (warm if args.what == "warm" else front)(args, url, Path(folder))


def warm(args: argparse.Namespace, url: str, folder: Path) -> None:
    """Fill a cache in one process, then answer from it in others."""
    child(args, url, folder / "cache", "fill")
    rows = []
    for number in range(args.rounds):
        found = child(args, "http://127.0.0.1:9/v1", folder / "cache", "warm")
        rows.append([number, f"{args.rows / found['wall']:,.0f}", f"{found['cpu'] / args.rows * 1e6:.0f}"])
    table(["round", "rows/s", "CPU µs/row"], rows)


def front(args: argparse.Namespace, url: str, folder: Path) -> None:
    """Ask the same rows with and without a cold cache in front."""
    rates: dict[str, list[float]] = {"none": [], "look": [], "fill": []}
    for number in range(args.rounds):
        for mode in sorted(rates, key=lambda mode: (hash((mode, number)), mode)):
            found = child(args, url, folder / f"{mode}-{number}", mode)
            rates[mode].append(args.rows / found["wall"])
    rows = [
        [number, *(f"{rates[mode][number]:,.0f}" for mode in rates),
         f"{rates['look'][number] / rates['none'][number]:.3f}", f"{rates['fill'][number] / rates['none'][number]:.3f}"]
        for number in range(args.rounds)
    ]  # fmt: skip
    medians = {mode: statistics.median(found) for mode, found in rates.items()}
    rows.append(["median", *(f"{medians[mode]:,.0f}" for mode in rates),
                 f"{medians['look'] / medians['none']:.3f}", f"{medians['fill'] / medians['none']:.3f}"])  # fmt: skip
    table(["round", "no cache, rows/s", "looked into", "and filled", "look / none", "fill / none"], rows)


def child(args: argparse.Namespace, url: str, folder: Path, mode: str) -> dict[str, Any]:
    command = [
        sys.executable, __file__, "one", "--url", url, "-n", str(args.rows), "-c", str(args.concurrency),
        "--mode", mode, "--folder", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


def one(args: argparse.Namespace) -> None:
    """Run one batch and print its seconds, as JSON."""
    from flexllm import LLMClient, ResponseCacheConfig
    from flexllm.cache.values import KeptAnswers

    cache = None if args.mode == "none" else ResponseCacheConfig(enabled=True, ttl=0, cache_dir=args.folder)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with LLMClient("m", args.url, concurrency_limit=args.concurrency, retry_times=0, cache=cache) as client:
        if args.mode == "look":
            KeptAnswers.keep = lambda *given: None  # type: ignore[method-assign]
        used, started = sum(os.times()[:2]), time.perf_counter()
        result = client.chat_completions_batch_sync(questions(args.rows), show_progress=False)
        wall, cpu = time.perf_counter() - started, sum(os.times()[:2]) - used
    assert result.summary["success"] == args.rows, result.summary["errors_by_class"]
    assert result.summary["cached"] == (args.rows if args.mode == "warm" else 0), result.summary["cached"]
    print(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
