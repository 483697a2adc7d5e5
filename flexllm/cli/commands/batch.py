"""`flexllm batch`: a file of questions, answered, stopped and resumed."""

from __future__ import annotations

import argparse
import sys

from ...language import _
from ..batch.input import BatchInput, add_input_options
from ..batch.options import (
    add_cost_options,
    add_limit_options,
    add_pool_options,
    add_resume_options,
    add_run_options,
    batch_client,
    batch_options,
    budget,
    first,
)
from ..batch.output import BatchOutput, add_output_options, why_no_stream
from ..batch.report import answered_before, exit_code_of, how_to_go_on, report, tell_trouble
from ..batch.watch import begin_watching, check_files
from ..common import (
    add_endpoint_options,
    add_talk_options,
    asks_pool,
    find_endpoint,
)
from ..exits import DONE, FAILED, USAGE
from ..logs import set_up_logging
from ..output import ERROR, talk
from ..request_options import add_request_options, request_params

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ...batch.job import BatchJob
    from ...batch.options import BatchOptions
    from ...batch.rows import FileRows
    from ...client import BatchCall, LLMClient
    from ...config import Config, ResolvedEndpoint

SWITCH_INTERVAL = 0.1
"""Seconds that a thread may keep the interpreter. In a process of our own, hundreds of workers that mostly wait do better
when one that computes is left alone: measured, one tenth to one third more throughput from 256 workers on."""

LONGEST_CELL = 1 << 30
"""Characters that a cell of a table may have. The csv module's own 131,072 are few for a document."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "batch",
        usage="flexllm batch [INPUT] -o FILE [OPTION ...]",  # argparse's own has twenty lines
        help=_("answer a file of questions; stopped at any moment, it goes on where it was"),
        description=_(
            "Ask one question for each row of a file and write one line for each answer. A row is a line of JSON, or of a "
            "table: an object with 'messages', or 'instruction' (and 'input'), or 'q', 'question' or 'prompt' (and "
            "'system'), or a request of OpenAI's batch API; all other fields become metadata of the answer. Run again after "
            "an interruption, it asks only what has no answer yet."
        ),
        epilog=_(
            "Examples: flexllm batch questions.jsonl -o answers.jsonl -m gpt-4 -c 20; flexllm batch questions.csv "
            "-o answers.csv --user-template 'Translate into English: {text}'"
        ),
    )
    parser.add_argument("input", nargs="?", metavar="INPUT", help=_("the questions; - or a pipe reads standard input"))
    add_output_options(parser)
    add_input_options(parser)
    add_run_options(parser)
    add_limit_options(parser)
    add_pool_options(parser)
    add_cost_options(parser)
    add_resume_options(parser)
    add_request_options(parser)
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the batch and tell how it went."""
    from ...config import load_config

    if (reason := why_no_stream(args) or _why_no_yes(args)) is not None:
        talk(_("flexllm batch: {reason}; 'flexllm batch --help' tells what there is", reason=reason), level=ERROR)
        return USAGE
    check_files(args)  # before the log file is opened, which might be one of the others
    set_up_logging(args)
    watchers = begin_watching(args)
    output = BatchOutput(args)
    config = load_config(args.config)
    settings = config.batch
    endpoint = None if asks_pool(args, config) else _find_endpoint(args, config)
    source = BatchInput(args, keeps_fields=output.is_table)
    if args.sample is not None:
        _check_sample(args, source)
    options = batch_options(args, settings, output.file, watchers)
    output.check(source)
    with batch_client(args, endpoint, config) as client:
        batch = _Batch(args, client, endpoint, config, source, output)
        _own_the_process()
        if args.dry_run:
            return batch.foretell(options)
        return batch.run(options) if args.sample is None else batch.run_sampled(options)


def _find_endpoint(args: argparse.Namespace, config: Config) -> ResolvedEndpoint:
    """Return whom to ask; without a model where rows may name their own, which the input tells."""
    endpoint = find_endpoint(args, config, needs_model=False)[1]
    is_known = endpoint.base_url is not None or endpoint.provider != "auto"
    # Without either the model's name tells whose server gets the key.
    may_be_named_by_rows = is_known and args.format in ("auto", "openai_batch") and args.user_field is None
    return endpoint if endpoint.model or may_be_named_by_rows else find_endpoint(args, config)[1]


def _own_the_process() -> None:
    """Set what holds for the whole process, and is no business of a library."""
    import csv

    sys.setswitchinterval(SWITCH_INTERVAL)
    csv.field_size_limit(LONGEST_CELL)


def _why_no_yes(args: argparse.Namespace) -> str | None:
    return _("-y answers what --sample asks; give that too, or neither") if args.yes and args.sample is None else None


def _check_sample(args: argparse.Namespace, source: BatchInput) -> None:
    """Refuse a sample that cannot be followed by the rest."""
    from ...errors import ConfigError
    from ..batch.forecast import check_can_ask

    if source.is_pipe:
        raise ConfigError(_("--sample reads the input more than once, so that it must be a file, not a pipe"))
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
        config: Config,
        source: BatchInput,
        output: BatchOutput,
    ) -> None:
        self._args = args
        self._client = client
        self._config = config
        self._settings = config.batch
        self._endpoint = endpoint
        self._source = source
        self._output = output
        self._params = request_params(args, endpoint.params if endpoint is not None else {})

    def _rows(self) -> FileRows:
        """Return the rows of the input, anew at each call."""
        rows = self._source.rows(self._endpoint, self._client.model or "", self._params)
        if rows.is_uniform and self._endpoint is not None and not self._endpoint.model:
            find_endpoint(self._args, self._config)  # says what is missing
        return rows

    def foretell(self, options: BatchOptions) -> int:
        """Tell what a run would take."""
        from ..batch.forecast import tell_forecast

        forecast = self._client.batch_forecast(self._rows(), options, self._call())
        tell_forecast(self._args, forecast, options, budget(self._args, self._settings).budget_limit)
        return DONE

    def run(self, options: BatchOptions) -> int:
        """Ask all rows."""
        job, signal = self._run_job(options)
        report(self._args, job, options)
        return self._end(job, signal)

    def run_sampled(self, options: BatchOptions) -> int:
        """Ask some rows, tell what the rest will take, and ask that too if it is to be."""
        from dataclasses import replace

        from ..batch.forecast import wants_the_rest

        args = self._args
        job, signal = self._run_job(replace(options, sample=args.sample))
        if signal is not None or job.stopped is not None or job.is_complete:
            report(args, job, options)
            return self._end(job, signal)
        if not args.quiet and not args.json:
            report(args, job, options)
        sampled = job.tally.success - answered_before(job.summary())
        forecast = self._client.batch_forecast(self._rows(), options, self._call(), sampled=sampled)
        if not wants_the_rest(args, forecast):
            if args.json:
                report(args, job, options, forecast)
            talk(_("The answers of the sample are in {output}; they are not asked again.", output=args.output))
            return FAILED
        if options.max_time is not None:
            options = replace(options, max_time=max(options.max_time - job.summary()["elapsed"], _INSTANT))
        sample, (job, signal) = job, self._run_job(options)
        report(args, job, options, forecast, sample)
        return self._end(job, signal)

    def _run_job(self, options: BatchOptions) -> tuple[BatchJob, int | None]:
        """Run a job to its end; return it, and the signal that ended it, None if none did."""
        from ...batch.signals import StopSignals
        from ...cancel import CancelToken

        cancel, output, rows = CancelToken(), self._output, self._rows()
        sinks, views = output.sinks(options.checkpoint), output.views()
        job = self._client.batch_job(options, cancel, self._call(), sinks=sinks, views=views)
        with StopSignals(cancel) as signals:
            for _item in job.run(rows):
                pass
        return job, signals.received

    def _call(self) -> BatchCall:
        from ...client import BatchCall

        return BatchCall(budget=budget(self._args, self._settings), distribute=first(self._args.distribute, True))

    def _end(self, job: BatchJob, signal: int | None) -> int:
        if signal is None:
            tell_trouble(self._args, job)
            return exit_code_of(job)
        talk(how_to_go_on(self._args, self._output.file))
        return 128 + signal
