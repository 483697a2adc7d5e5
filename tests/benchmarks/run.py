"""What flexllm costs, measured by hand: python tests/benchmarks/run.py WHAT [options].

Each prints a Markdown table with machine, versions and command. Figures of one run are to be compared with each other: the
machine may be shared. No test asserts any of them. Without --url, throughput and memory start the mock server, whose speed
then is the limit; a faster server (nginx with a fixed reply) shows the client's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PROGRAM = [sys.executable, str(ROOT / "bin" / "flexllm")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(BENCHMARKS))
    parser.add_argument("--url", help="a server's base URL on this machine, with the version path")
    parser.add_argument("-n", "--rows", type=int, default=0, help="rows (each benchmark has its own default)")
    parser.add_argument("-c", "--concurrency", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.0, help="the server's delay in seconds, for the efficiency")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.url and not args.url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]")):
        parser.error("--url must be on this machine")
    header()
    BENCHMARKS[args.what](args)


def header() -> None:
    """Print on what and how this is measured."""
    print(f"{os.cpu_count()} processors, {platform.system()} {platform.release()}, "
          f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"command: python {shlex.join(sys.argv)}\n")


def table(names: list[str], rows: list[list[Any]]) -> None:
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def questions(count: int) -> list[str]:
    return [f"p-{i}: classify review {i}: 'the delivery was late but the product is fine'" for i in range(count)]


@contextmanager
def server(url: str | None, options: Sequence[str] = ()) -> Iterator[str]:
    """Give the base URL to ask: the caller's, or that of a mock server in a process of its own."""
    if url:
        yield url
        return
    mock = subprocess.Popen(
        [*PROGRAM, "mock", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert mock.stdout is not None
        yield mock.stdout.readline().strip()
    finally:
        mock.terminate()
        mock.wait()


def throughput(args: argparse.Namespace) -> None:
    """Rows a second of a batch, with and without an output file, and the processor time of one request."""
    from flexllm import LLMClient

    count = args.rows or 4000
    rows = []
    with server(args.url, ["--delay", str(args.delay)]) as url, tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for output in (None, Path(folder) / f"{number}.jsonl"):
                with LLMClient("m", url, concurrency_limit=args.concurrency, retry_times=0) as client:
                    used, started = sum(os.times()[:2]), time.perf_counter()
                    result = client.chat_completions_batch_sync(questions(count), output, show_progress=False)
                    wall, cpu = time.perf_counter() - started, sum(os.times()[:2]) - used
                assert result.summary["success"] == count, result.summary["errors_by_class"]
                ideal = count * args.delay / args.concurrency / wall
                efficiency = f"{ideal:.2f}" if args.delay else ""
                rows.append([number, bool(output), f"{count / wall:,.0f}", f"{cpu / count * 1e6:.0f}", efficiency])
    table(["round", "file", "rows/s", "CPU µs/row", "of the ideal"], rows)


def steps(args: argparse.Namespace) -> None:
    """Microseconds of each step of a request that needs no network."""
    from flexllm.batch.items import BatchItem
    from flexllm.batch.known import KnownRows
    from flexllm.batch.lines import make_key, write_line
    from flexllm.batch.rows import RowReader
    from flexllm.chat import ChatRequest
    from flexllm.digest import digest_messages, digest_settings, digest_source
    from flexllm.http1 import Reply
    from flexllm.limits import Gate, RateLimit
    from flexllm.providers import find_provider
    from flexllm.wire import HttpResponse, Target

    line = json.dumps({"question": questions(1)[0], "id": 7}).encode()
    reader = RowReader([line], "benchmark")
    messages, _ = reader.read(line)
    request = ChatRequest(messages, "m", {"temperature": 0})
    provider, _ = find_provider("openai", None)
    target = Target(base_url="http://127.0.0.1:1/v1", api_key="k")
    body = json.dumps({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 29, "total_tokens": 48},
    }).encode()  # fmt: skip
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    raw += body
    response = HttpResponse(200, {"x-request-id": "r"}, body, 0.1)
    result = provider.parse(response)
    gate, known = Gate(RateLimit(concurrency=4)), KnownRows()
    digest, settings = digest_messages(messages), digest_settings("m", {})
    item = BatchItem(0, request, {"id": 7}, make_key(digest, settings, 0), digest, outcome=result)

    def pass_gate() -> None:
        with gate.permit():
            pass

    timed: dict[str, Callable[[], Any]] = {
        "read a row": lambda: reader.read(line),
        "digest its line": lambda: digest_source(line, reader.reading),
        "digest its messages": lambda: digest_messages(messages),
        "claim it": lambda: known.claim(digest, settings),
        "build the HTTP request": lambda: provider.build(request, target, stream=False),
        "pass the gate": pass_gate,
        "read the HTTP reply": lambda: Reply(lambda: raw).body(),
        "parse it": lambda: provider.parse(response),
        "make its line": lambda: write_line(item, True, False),
    }
    rows = []
    for name, step in timed.items():
        times = []
        for _ in range(args.rounds + 2):
            started = time.perf_counter()
            for _ in range(5000):
                step()
            times.append((time.perf_counter() - started) / 5000 * 1e6)
        rows.append([name, f"{min(times):.2f}", f"{statistics.median(times):.2f}"])
    table(["step", "least µs", "median µs"], rows)


def memory(args: argparse.Namespace) -> None:
    """Peak memory of `flexllm batch` over a million rows from a file."""
    count = args.rows or 1_000_000
    with server(args.url) as url, tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"question": text, "id": i}) + "\n" for i, text in enumerate(questions(count)))
        command = [*PROGRAM, "batch", str(source), "-o", str(output), "-c", str(args.concurrency), "-m", "m", "-q"]
        started = time.perf_counter()
        subprocess.run([*command, "--base-url", url], check=True)
        wall = time.perf_counter() - started
        with open(output, "rb") as file:
            assert sum(1 for _ in file) == count
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    table(["rows", "rows/s", "peak MB (the largest process)"], [[f"{count:,}", f"{count / wall:,.0f}", f"{peak:.0f}"]])


def resume(args: argparse.Namespace) -> None:
    """Time to find out that every row is answered, against `json.loads` over every line of output and input."""
    from hashlib import blake2b

    from flexllm.batch.lines import encode_line, make_key
    from flexllm.digest import digest_messages, digest_settings, digest_source

    count = args.rows or 500_000
    shipped = (ROOT / "tests" / "data" / "gsm8k-100.jsonl").read_text(encoding="utf-8")
    words = [json.loads(line) for line in shipped.splitlines()]
    reading, settings = blake2b(b"simple\0", digest_size=16).digest(), digest_settings("m", {})
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        with open(source, "wb") as asked, open(output, "wb") as answered:
            for i in range(count):
                word = words[i % len(words)]
                question, answer = f"{word['question']} ({i})", word["answer"]
                line = json.dumps({"question": question, "answer": answer}, ensure_ascii=False).encode()
                messages = [{"role": "user", "content": question}]
                asked.write(line + b"\n")
                row = {
                    "index": i, "output": answer, "status": "success", "input": messages, "metadata": {"answer": answer},
                    "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
                    "finish_reason": "stop", "model": "m", "request_id": f"req-{i}", "latency": 0.1234,
                    "key": make_key(digest_messages(messages), settings, 0),
                    "source": f"{digest_source(line, reading):032x}",
                }  # fmt: skip
                answered.write(encode_line(row))
        rows = []
        for number in range(args.rounds):
            started = time.perf_counter()
            for path in (output, source):
                with open(path, "rb") as file:
                    for line in file:
                        json.loads(line)
            plain = time.perf_counter() - started
            started = time.perf_counter()
            command = [*PROGRAM, "batch", str(source), "-o", str(output), "-m", "m", "-q"]
            subprocess.run([*command, "--base-url", "http://127.0.0.1:9/v1", "--retry-times", "0"], check=True)
            ours = time.perf_counter() - started
            rows.append([number, f"{plain:.2f}", f"{ours:.2f}", f"{ours / plain:.2f}"])
    table(["round", "json.loads s", "resume s", "ratio"], rows)


def startup(args: argparse.Namespace) -> None:
    """Seconds of short commands, each in turn so that a change of the machine's pace hits all alike."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "flexllm version": [*PROGRAM, "version"],
        "flexllm --help": [*PROGRAM, "--help"],
        "import flexllm": [sys.executable, "-c", "import flexllm"],
        "import flexllm.client": [sys.executable, "-c", "import flexllm.client"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(max(10, args.rounds)):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            times[name].append(time.perf_counter() - started)
    rows = [[name, f"{min(t) * 1e3:.0f}", f"{statistics.median(t) * 1e3:.0f}"] for name, t in times.items()]
    table(["command", "least ms", "median ms"], rows)


def first_piece(args: argparse.Namespace) -> None:
    """Milliseconds from sending a request to the first piece of text, beside a bare socket that reads the same stream.

    The server pauses between pieces, so that a reader who waits for more than one shows. Readers take turns.
    """
    from flexllm import LLMClient

    count = args.rows or 200
    rows = []
    with server(args.url, ["--token-delay", "0.02"]) as url:
        for provider in ("openai", "claude", "gemini"):
            root = url.removesuffix("/v1")
            client = LLMClient("mock-model", url if provider == "openai" else root, "sk-any", provider, retry_times=0)
            bare = _BareReader(client, root)
            times: dict[str, list[float]] = {"socket": [], "flexllm": []}
            with client:
                for number in range(count + 5):
                    question = f"p-{number}: tell a story of at least thirty words about number {number}"
                    for name, first in (("socket", bare.first), ("flexllm", partial(_first_of_client, client))):
                        seconds = first(question)
                        if number >= 5:  # connections are open then, and everything is imported
                            times[name].append(seconds * 1e3)
            bare.close()
            medians = {name: statistics.median(found) for name, found in times.items()}
            rows.append([provider, *(f"{medians[name]:.2f}" for name in times),
                         f"{medians['flexllm'] - medians['socket']:.2f}"])  # fmt: skip
    table(["provider", "socket ms (median)", "flexllm ms (median)", "difference ms"], rows)


def _first_of_client(client: Any, question: str) -> float:
    started = time.perf_counter()
    pieces = client.chat_completions_stream_sync(question, max_tokens=200)
    next(pieces)
    seconds = time.perf_counter() - started
    for _ in pieces:
        pass
    return seconds


class _BareReader:
    """Sends the client's own request over a socket and waits for the bytes of the first text."""

    def __init__(self, client: Any, root: str) -> None:
        from urllib.parse import urlsplit

        from flexllm.providers import find_provider
        from flexllm.wire import Target

        options = client._options
        self._provider = find_provider(options.provider, options.base_url)[0]
        self._target = Target(base_url=options.base_url, api_key=options.api_key)
        parts = urlsplit(root)
        self._sock = socket.create_connection((parts.hostname or "", parts.port or 80))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def first(self, question: str) -> float:
        from flexllm.chat import ChatRequest
        from flexllm.transport.direct import render_head

        request = ChatRequest([{"role": "user", "content": question}], "mock-model", {"max_tokens": 200})
        http = self._provider.build(request, self._target, stream=True)
        data = render_head(http) + b"Content-Length: %d\r\n\r\n" % len(http.body) + http.body
        received = b""
        started = time.perf_counter()
        self._sock.sendall(data)
        while b"Mock" not in received:  # with which every answer of the mock server begins
            received += self._sock.recv(65536)
        seconds = time.perf_counter() - started
        while not received.endswith(b"0\r\n\r\n"):
            received += self._sock.recv(65536)
        return seconds

    def close(self) -> None:
        self._sock.close()


BENCHMARKS = {
    "first-piece": first_piece,
    "throughput": throughput,
    "steps": steps,
    "memory": memory,
    "resume": resume,
    "startup": startup,
}

if __name__ == "__main__":
    main()
