"""`flexllm batch`: a file of questions, answered, stopped and resumed."""

from __future__ import annotations

import argparse
import os
import sys

from ..batch_options import (
    add_cost_options,
    add_limit_options,
    add_resume_options,
    add_run_options,
    batch_client,
    batch_options,
    budget,
)
from ..batch_report import exit_code_of, how_to_go_on, report
from ..common import (
    add_endpoint_options,
    add_talk_options,
    asks_pool,
    find_endpoint,
)
from ..exits import DONE, FAILED
from ..logs import set_up_logging
from ..output import talk
from ..request_options import add_request_options, request_params

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from ...batch.job import BatchJob
    from ...batch.options import BatchOptions
    from ...batch.rows import FileRows
    from ...client import BatchCall, LLMClient
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
    add_run_options(parser)
    add_limit_options(parser)
    add_cost_options(parser)
    add_resume_options(parser)
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the batch and tell how it went."""
    from ...client import jsonl_path
    from ...config import load_config

    set_up_logging(args)
    output = jsonl_path(args.output)
    config = load_config(args.config)
    settings = config.batch
    endpoint = None if asks_pool(args, config) else find_endpoint(args, config)[1]
    if args.sample is not None:
        _check_sample(args)
    options = batch_options(args, settings, output)
    source = _open_input(args.input, args.output)
    with batch_client(args, endpoint, config) as client:
        batch = _Batch(args, client, endpoint, settings)
        rows = batch.rows(*source)
        if args.dry_run:
            return batch.foretell(rows, options)
        sys.setswitchinterval(SWITCH_INTERVAL)
        return batch.run(rows, options) if args.sample is None else batch.run_sampled(rows, options)


def _check_sample(args: argparse.Namespace) -> None:
    """Refuse a sample that cannot be followed by the rest."""
    from ...errors import ConfigError
    from ..batch_forecast import check_can_ask

    if args.input in (None, "-") or not os.path.isfile(args.input):
        raise ConfigError("--sample reads the input more than once, so that it must be a file, not a pipe")
    check_can_ask(args)


_INSTANT = 1e-3
"""Seconds that are left of --max-time, where a sample has taken all of it."""


class _Batch:
    """What the command has been told, and the client that is to do it."""

    def __init__(
        self,
        args: argparse.Namespace,
        client: LLMClient,
        endpoint: ResolvedEndpoint | None,
        settings: BatchSettings,
    ) -> None:
        self._args = args
        self._client = client
        self._settings = settings
        self._system = args.system or (endpoint.system if endpoint is not None else None)
        self._params = request_params(args, endpoint.params if endpoint is not None else {})

    def rows(self, source: BinaryIO, name: str, total: int | None) -> FileRows:
        """Return the rows of an input."""
        from ...batch.rows import FileRows, RowReader

        reader = RowReader(source, name, shape=self._args.format, system=self._system)
        return FileRows(reader, self._client.model or "", self._params, total)

    def foretell(self, rows: FileRows, options: BatchOptions) -> int:
        """Tell what a run would take."""
        from ..batch_forecast import tell_forecast

        forecast = self._client.batch_forecast(rows, options, self._call())
        tell_forecast(self._args, forecast, options, budget(self._args, self._settings).budget_limit)
        return DONE

    def run(self, rows: FileRows, options: BatchOptions) -> int:
        """Ask all rows."""
        job, signal = self._run_job(rows, options)
        report(self._args, job, options)
        return self._end(job, signal)

    def run_sampled(self, rows: FileRows, options: BatchOptions) -> int:
        """Ask some rows, tell what the rest will take, and ask that too if it is to be."""
        from dataclasses import replace

        from ..batch_forecast import wants_the_rest

        args = self._args
        job, signal = self._run_job(rows, replace(options, sample=args.sample))
        if signal is not None or job.stopped is not None or job.is_complete:
            report(args, job, options)
            return self._end(job, signal)
        if not args.quiet and not args.json:
            report(args, job, options)
        sampled = job.tally.success - job.tally.resumed
        forecast = self._client.batch_forecast(self._rows_again(), options, self._call(), sampled=sampled)
        if not wants_the_rest(args, forecast):
            if args.json:
                report(args, job, options, forecast)
            talk(f"The answers of the sample are in {args.output}; they are not asked again.")
            return FAILED
        if options.max_time is not None:
            options = replace(options, max_time=max(options.max_time - job.summary()["elapsed"], _INSTANT))
        sample, (job, signal) = job, self._run_job(self._rows_again(), options)
        report(args, job, options, forecast, sample)
        return self._end(job, signal)

    def _rows_again(self) -> FileRows:
        return self.rows(*_open_input(self._args.input, self._args.output))

    def _run_job(self, rows: FileRows, options: BatchOptions) -> tuple[BatchJob, int | None]:
        """Run a job to its end; return it, and the signal that ended it, None if none did."""
        from ...batch.signals import StopSignals
        from ...cancel import CancelToken

        cancel = CancelToken()
        job = self._client.batch_job(options, cancel, self._call())
        with StopSignals(cancel) as signals:
            for _ in job.run(rows):
                pass
        return job, signals.received

    def _call(self) -> BatchCall:
        from ...client import BatchCall

        return BatchCall(budget=budget(self._args, self._settings))

    def _end(self, job: BatchJob, signal: int | None) -> int:
        if signal is None:
            return exit_code_of(job)
        talk(how_to_go_on(self._args))
        return 128 + signal


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
