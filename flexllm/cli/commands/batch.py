"""`flexllm batch`: a file of questions, answered, stopped and resumed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from ..common import (
    add_endpoint_options,
    add_request_options,
    add_talk_options,
    asks_pool,
    find_endpoint,
    make_client,
    make_pool,
    request_params,
    set_up_logging,
)
from ..output import print_json, talk

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from ...batch.job import BatchJob
    from ...client import LLMClient
    from ...config import BatchSettings, ResolvedEndpoint

SWITCH_INTERVAL = 0.1
"""Seconds that a thread may keep the interpreter. In a process of our own, hundreds of workers that mostly wait do better
when one that computes is left alone: measured, one tenth to one third more throughput from 256 workers on."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "batch",
        help="answer a file of questions; stopped at any moment, it goes on where it was",
        description=(
            "Ask one question for each line of a JSONL file and write one line for each answer. A line is an object with "
            "'messages', or 'instruction' (and 'input'), or 'q', 'question' or 'prompt' (and 'system'); all other fields "
            "become metadata of the answer. Run again after an interruption, it asks only what has no answer yet."
        ),
        epilog="Example: flexllm batch questions.jsonl -o answers.jsonl -m gpt-4 -c 20",
    )
    parser.add_argument("input", nargs="?", metavar="INPUT", help="the questions; - or a pipe reads standard input")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the answers; a name that ends in .jsonl")
    _add_run_options(parser)
    _add_limit_options(parser)
    _add_resume_options(parser)
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("-n", "--limit", type=int, metavar="N", help="take only the first N rows")
    group.add_argument(
        "--format", default="auto", choices=("auto", "openai_chat", "alpaca", "simple"),
        help="the shape of the rows (auto: found from the first)",
    )  # fmt: skip
    group.add_argument("--system", metavar="TEXT", help="a system message for rows that have none")
    group.add_argument(
        "--grace", type=float, default=10.0, metavar="SECONDS",
        help="how long requests under way may finish after Ctrl-C or SIGTERM; a second signal ends it at once (10)",
    )  # fmt: skip
    group.add_argument(
        "--max-time", type=float, metavar="SECONDS",
        help="for the run: then nothing new is asked, and what is under way has --grace. The same command goes on later",
    )  # fmt: skip
    group.add_argument(
        "--fail-over", type=float, metavar="SHARE", help="stop when more than this share of the rows failed: 0 to 1"
    )
    group.add_argument(
        "--on-truncated", choices=("keep", "error", "retry"),
        help="an answer that was cut at a token limit: keep it, count it as failed, or ask once more with more tokens "
        "(keep)",
    )  # fmt: skip
    group.add_argument(
        "--on-invalid", choices=("keep", "error", "retry"),
        help="an answer that is not of the form that response_format asks for (error)",
    )  # fmt: skip
    group.add_argument(
        "--track-cost",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show the cost, where prices are known",
    )
    group.add_argument(
        "--return-usage", action=argparse.BooleanOptionalAction, default=None, help="show the tokens used"
    )


def _add_limit_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "limits", "Of each endpoint, retries included. They are kept, and may be combined."
    )
    group.add_argument("-c", "--concurrency", type=int, metavar="N", help="requests under way at the same time (10)")
    group.add_argument("--max-qps", type=float, metavar="N", help="requests a second at most")
    group.add_argument("--max-rpm", type=float, metavar="N", help="requests a minute at most")
    group.add_argument("--max-tpm", type=float, metavar="N", help="tokens a minute at most, in and out together")
    group.add_argument("--max-input-tpm", type=float, metavar="N", help="tokens of the requests a minute at most")
    group.add_argument("--max-output-tpm", type=float, metavar="N", help="tokens of the answers a minute at most")
    group.add_argument(
        "--adaptive", action=argparse.BooleanOptionalAction, default=None,
        help="find the rate that the server accepts, from its refusals and what its headers say (on)",
    )  # fmt: skip
    group.add_argument("--min-qps", type=float, metavar="N", help="requests a second that --adaptive never goes below")
    group.add_argument(
        "--hedge", type=float, metavar="QUANTILE",
        help="send a row once more when it takes longer than this share of the others, 0.95 say; the first answer counts",
    )  # fmt: skip


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resume")
    group.add_argument(
        "--retry-failed", action=argparse.BooleanOptionalAction, default=True,
        help="ask rows again that failed in an earlier run",
    )  # fmt: skip
    group.add_argument(
        "--on-change", default="rerun", choices=("rerun", "keep", "fail"),
        help="what to do with rows that were answered with another model or other parameters: ask again, keep the "
        "answer, or stop (rerun)",
    )  # fmt: skip
    group.add_argument(
        "--save-input", default="all", choices=("all", "last", "none"),
        help="what of the messages each answer repeats: all, the last one, none (all)",
    )  # fmt: skip
    group.add_argument("--save-raw", action="store_true", help="keep the server's whole reply in each line")
    group.add_argument(
        "--flush-interval", type=float, default=1.0, metavar="SECONDS",
        help="until an answer is on the disk and not only in the kernel, at most (1)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the batch and tell how it went."""
    from ...batch.checkpoint import CheckpointOptions
    from ...batch.job import BatchOptions
    from ...batch.progress import ProgressOptions
    from ...batch.rows import FileRows, RowReader
    from ...batch.signals import StopSignals
    from ...cancel import CancelToken
    from ...client import jsonl_path
    from ...config import load_config

    set_up_logging(args)
    output = jsonl_path(args.output)
    config = load_config(args.config)
    settings = config.batch
    endpoint = None if asks_pool(args, config) else find_endpoint(args, config)[1]
    source, name, total = _open_input(args.input, args.output)
    client = _client(args, endpoint, settings)
    system = args.system or (endpoint.system if endpoint is not None else None)
    reader = RowReader(source, name, shape=args.format, system=system)
    params = request_params(args, endpoint.params if endpoint is not None else {})
    rows = FileRows(reader, client.model or "", params, total)
    options = BatchOptions(
        output=output,
        checkpoint=CheckpointOptions(
            flush_interval=args.flush_interval,
            retry_failed=args.retry_failed,
            on_change=args.on_change,
            save_input=_SAVE_INPUT[args.save_input],
            save_raw=args.save_raw,
        ),
        progress=ProgressOptions(
            show=not args.quiet,
            tokens=_first(args.return_usage, settings.return_usage, True),
            cost=_first(args.track_cost, settings.track_cost, True),
        ),
        grace=args.grace,
        max_time=_first(args.max_time, settings.max_time),
        fail_over=_first(args.fail_over, settings.fail_over),
        limit=args.limit,
        give_resumed=False,
    )
    cancel = CancelToken()
    sys.setswitchinterval(SWITCH_INTERVAL)
    with client:
        job = client.batch_job(options, cancel)
        with StopSignals(cancel) as signals:
            for _ in job.run(rows):
                pass
    _report(args, job)
    if signals.received is not None:
        talk(_how_to_go_on(args, job))
        return 128 + signals.received
    return _exit_code(job)


def _client(args: argparse.Namespace, endpoint: ResolvedEndpoint | None, settings: BatchSettings) -> LLMClient:
    """Return a client for one endpoint, or for those of the configuration."""
    rates = ("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm", "adaptive")
    options = {name: _first(getattr(args, name), getattr(settings, name)) for name in rates}
    options.update(
        concurrency_limit=_first(args.concurrency, settings.concurrency),
        timeout=settings.timeout,
        total_timeout=settings.total_timeout,
        on_truncated=args.on_truncated,
        on_invalid=args.on_invalid,
        hedge=args.hedge,
    )
    if endpoint is not None:
        return make_client(args, endpoint, **options)
    return make_pool(
        args, settings.endpoints, fallback=settings.fallback, load_balance=settings.load_balance, **options
    )


_SAVE_INPUT: dict[str, bool | str] = {"all": True, "last": "last", "none": False}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _open_input(name: str | None, output: str) -> tuple[BinaryIO, str, int | None]:
    """Return the input, what to call it, and its number of rows, None for a pipe."""
    from ...errors import InputError

    if name in (None, "-"):
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("no input: name a file of questions, or pipe one in")
        # A reader of its own: the interpreter's is locked at exit, while a thread may still wait for a line.
        return open(0, "rb", buffering=1 << 16, closefd=False), "standard input", None
    assert name is not None
    try:
        file = open(name, "rb", buffering=1 << 18)  # noqa: SIM115 (read until the process ends)
        if os.path.exists(output) and os.path.samefile(name, output):
            raise InputError(f"{name} is both input and output; name another output file")
        if not os.path.isfile(name):
            return file, name, None
        return file, name, _count_lines(name)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from None


def _count_lines(name: str) -> int:
    """Return how many lines a file has. Blank ones count, so it may be more than its rows: it is for the progress."""
    count, last = 0, b"\n"
    with open(name, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def _report(args: argparse.Namespace, job: BatchJob) -> None:
    summary = job.summary()
    if args.json:
        print_json({**summary, "output": args.output})
    elif not args.quiet:
        talk(_sentence(summary, args))


def _sentence(summary: dict[str, Any], args: argparse.Namespace) -> str:
    from ...batch.progress import short_number

    parts = [f"{summary['success']:,} of {summary['total']:,} rows answered"]
    if summary["resumed"]:
        parts.append(f"{summary['resumed']:,} of them by earlier runs")
    if summary["failed"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary["errors_by_class"].items())
        parts.append(f"{summary['failed']:,} failed{f' ({kinds})' if kinds else ''}")
    if summary["retries"]:
        parts.append(f"{summary['retries']:,} retries")
    parts.append(f"{summary['elapsed']:.1f} s")
    if summary["total_tokens"]:
        parts.append(f"{short_number(summary['total_tokens'])} tokens")
    for endpoint in summary["endpoints"]:
        if endpoint["learned"] is not None and endpoint["rate"] is not None:
            parts.append(f"{endpoint['place']} accepts about {endpoint['rate']:.1f} requests a second")
        if endpoint["state"] in ("cooling", "probing"):
            parts.append(f"{endpoint['place']} was left alone at the end ({endpoint['last_error']})")
    return f"{', '.join(parts)}; see {args.output}"


def _how_to_go_on(args: argparse.Namespace, job: BatchJob) -> str:
    words = ["flexllm", *args.argv]
    key = args.api_key
    for position, word in enumerate(words):
        if key and f"={word}".endswith(f"={key}"):  # by its value, for argparse takes --api KEY and --api-k=KEY as well
            words[position] = f"{word.removesuffix(key)}KEY"
    piped = args.input in (None, "-")
    hint = "the same input piped into the same command" if piped else "the same command"
    return f"Interrupted; every answer that came is in {args.output}. To go on, {hint}:\n  {shlex.join(words)}"


def _exit_code(job: BatchJob) -> int:
    """Return 0 if every row is answered; else why the run stopped, or what all failures have in common."""
    import flexllm.errors as errors

    from ..exits import AUTHENTICATION, DEADLINE, DONE, FAILED, UNREACHED, exit_code

    tally, stopped = job.tally, job.stopped
    if stopped is not None and stopped.reason == "max_time":
        return DEADLINE
    if stopped is not None and stopped.reason == "fatal" and stopped.error is not None:
        return exit_code(stopped.error)
    if not tally.failed:
        return DONE
    codes = {exit_code(getattr(errors, kind)("")) for kind in tally.errors_by_class}
    return codes.pop() if not tally.success and codes in ({AUTHENTICATION}, {UNREACHED}) else FAILED
