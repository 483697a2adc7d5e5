"""What a client does for many requests at once: the job that asks them, and what it will take before it does.

The face with its flags is `llm`; here are the methods that always return the same value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..backends import Attempts, PoolOptions, model_prices
from ..batch.forecast import make_forecast
from ..batch.items import RowSource
from ..batch.job import BatchJob
from ..batch.lists import ListRows
from ..batch.options import BatchOptions, CheckpointOptions
from ..batch.outlook import Forecast, Pace
from ..batch.progress import ProgressOptions
from ..batch.reuse import Reuse
from ..batch.sinks import Sink, View
from ..cache.store import ResponseCache
from ..cancel import CancelToken
from ..cost.options import CostTrackerConfig
from ..engines.threads import ThreadEngine
from ..errors import ConfigError
from ..language import _
from ..limits import RateLimit
from ..messages import Messages
from ..prices import price_unknown
from .base import BaseClient
from .spending import run_tracker


class BatchCall(NamedTuple):
    """How one batch is asked, besides its options.

    Attributes:
        budget: For the job and the earlier runs of its output file; None is not limited.
        distribute: Rows go where there is room, instead of where a pool's strategy says.
        skip_cache: Neither look answers up nor keep them.
        model: Asked instead of the client's own.
        total_timeout: Seconds for all attempts at a row, instead of the client's own.
    """

    budget: CostTrackerConfig | None = None
    distribute: bool = True
    skip_cache: bool = False
    model: str | None = None
    total_timeout: float | None = None


class OpenBatch(NamedTuple):
    """A job that is ready to run, for a caller whose rows are no list.

    Attributes:
        conversations: Reads rows of a conversation, metadata and parameters, above those of the call.
        workers: Requests that the job has under way at the same time, at most.
    """

    job: BatchJob
    cancel: CancelToken
    conversations: ListRows
    workers: int


USUAL_CALL = BatchCall()


class BatchClient(BaseClient):
    """A client with jobs."""

    def forecast_batch_sync(
        self,
        messages_list: Iterable[Messages],
        output_file: str | os.PathLike[str] | None = None,
        output_jsonl: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Forecast:
        """Return what `chat_completions_batch_sync` with the same arguments will take: rows to buy, tokens, dollars, time.

        Nothing is sent, written or locked; the input is read to its end. `print` shows it to people.

        Raises:
            PriceUnknown: `max_cost` is given, and nobody knows what the model costs.
            ValueError: An option is wrong, or a list beside the conversations has another length.
        """
        for name in _OF_RESULTS:
            options.pop(name, None)
        rows, batch_options, call = self._sorted(messages_list, output_file or output_jsonl, False, options)
        return self.batch_forecast(rows, batch_options, call)

    def open_batch(
        self,
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
        *,
        total_timeout: float | None = None,
    ) -> OpenBatch:
        """Return a job with the options of `chat_completions_batch_sync`, and what its rows are read with."""
        cancel = self._cancel()
        rows, batch_options, call = self._sorted((), output, show_progress, options)
        job = self.batch_job(batch_options, cancel, call._replace(total_timeout=total_timeout))
        return OpenBatch(job, cancel, rows, self._workers())

    def _start(
        self,
        cancel: CancelToken,
        messages_list: Iterable[Messages],
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
    ) -> tuple[ListRows, BatchJob]:
        """Return the rows and the job that arguments mean. No file is touched before all is checked."""
        rows, batch_options, call = self._sorted(messages_list, output, show_progress, options)
        return rows, self.batch_job(batch_options, cancel, call)

    def _sorted(
        self,
        messages_list: Iterable[Messages],
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
    ) -> tuple[ListRows, BatchOptions, BatchCall]:
        """Sort arguments into rows and options; what is left are parameters of the requests."""
        metadata_list, params_list = options.pop("metadata_list", None), options.pop("params_list", None)
        cost = options.pop("track_cost", False)
        limits = {name: options.pop(name) for name in _RUN_OPTIONS if name in options}
        kept = {name: options.pop(name) for name in _CHECKPOINT_OPTIONS if name in options}
        budget = CostTrackerConfig(
            budget_limit=options.pop("max_cost", None),
            max_requests=options.pop("max_requests", None),
            max_tokens=options.pop("max_total_tokens", None),
        )
        distribute, skip_cache = options.pop("distribute", True), options.pop("skip_cache", False)
        model = options.pop("model", None) or self.model or ""
        if not model and not params_list:
            raise ConfigError(_("no model is named: give model=... to the client or to this call"))
        rows = ListRows(messages_list, model, options, metadata_list, params_list, self._defaults)
        batch_options = BatchOptions(
            output=None if output is None else jsonl_path(output),
            checkpoint=CheckpointOptions(**kept),
            progress=ProgressOptions(show=show_progress, tokens=cost, cost=cost),
            **limits,
        )
        return rows, batch_options, BatchCall(budget, distribute, skip_cache, model)

    def batch_job(
        self,
        options: BatchOptions,
        cancel: CancelToken,
        call: BatchCall = USUAL_CALL,
        *,
        sinks: Sequence[Sink] = (),
        views: Sequence[View] = (),
    ) -> BatchJob:
        """Return a job that asks this client's endpoints; its output file, if it has one, is open and locked.

        Raises:
            PriceUnknown: There is a budget in dollars, and nobody knows what the model costs.
        """
        workers = self._workers()
        attempts = self._attempts_of(call)
        limit = None
        if call.budget is not None:
            model = call.model or self.model or ""
            limit = run_tracker(call.budget, options.output, attempts, model)
        backend = self._uncached
        if limit is not None:
            backend = self._stack(attempts, limit)
        elif attempts is not self._attempts:
            backend = self._stack(attempts)
        engine = ThreadEngine(backend, workers=workers, cancel=cancel, grace=options.grace)
        reuse = self._reuse(options, None if call.skip_cache else self._cache, cancel)
        return BatchJob(
            engine, options, cancel, workers=workers, health=self._backend.health, reuse=reuse, sinks=sinks, views=views
        )

    def batch_forecast(
        self, rows: RowSource, options: BatchOptions, call: BatchCall = USUAL_CALL, *, sampled: int = 0
    ) -> Forecast:
        """Return what a job with the same rows and options would take. Nothing is sent, written or locked.

        Args:
            sampled: Answers in the output file that were bought as a sample.

        Raises:
            PriceUnknown: There is a budget in dollars, and nobody knows what the model costs.
        """
        if call.budget is not None and call.budget.budget_limit is not None:
            for name, price in model_prices(self._attempts, call.model or self.model or ""):
                if name and price is None:  # without one, rows have their own
                    raise price_unknown(name)
        cache = None if call.skip_cache or self._cache is None or not self._cache.exists else self._cache
        pace = pace_of([one.gate.limit for one in self._endpoints], self._workers(), self._pool)
        return make_forecast(
            rows,
            options,
            reuse=self._reuse(options, cache, None),
            prices=lambda model: [price for _name, price in model_prices(self._attempts, model)],
            pace=pace,
            sampled=sampled,
        )

    def _attempts_of(self, call: BatchCall) -> Attempts:
        if call.total_timeout is not None:
            retry = replace(self._attempts.retry, total_timeout=call.total_timeout)
            return self._build_attempts(retry=retry, distribute=call.distribute)
        return self._attempts if call.distribute else self._build_attempts(distribute=False)

    def _reuse(self, options: BatchOptions, cache: ResponseCache | None, cancel: CancelToken | None) -> Reuse:
        return Reuse(self._keys, cache, share=options.share, with_body=options.checkpoint.save_raw, cancel=cancel)


def pace_of(limits: Sequence[RateLimit], workers: int, pool: PoolOptions | None) -> Pace:
    """Return how fast endpoints with these limits may be asked together."""
    requests = _together([_least(one.max_qps, _per_second(one.max_rpm)) for one in limits])
    return Pace(
        concurrency=workers,
        requests=requests if pool is None else _least(requests, pool.total_max_qps),
        tokens=_together([_per_second(one.max_tpm) for one in limits]),
        input_tokens=_together([_per_second(one.max_input_tpm) for one in limits]),
        output_tokens=_together([_per_second(one.max_output_tpm) for one in limits]),
    )


def _per_second(a_minute: float | None) -> float | None:
    return None if a_minute is None else a_minute / 60.0


def _least(*rates: float | None) -> float | None:
    return min((rate for rate in rates if rate is not None), default=None)


def _together(rates: Sequence[float | None]) -> float | None:
    """Return the sum of the endpoints' limits, None if one of them has none."""
    known = [rate for rate in rates if rate is not None]
    return sum(known) if len(known) == len(rates) else None


_OF_RESULTS = ("show_progress", "return_summary", "return_cost_report", "return_usage")
"""Arguments of a batch that change what it shows and returns, and not what it takes."""

_RUN_OPTIONS = ("grace", "max_time", "fail_over", "share", "order")
_CHECKPOINT_OPTIONS = ("flush_interval", "retry_failed", "on_change", "save_input", "save_raw")


def jsonl_path(name: str | os.PathLike[str]) -> Path:
    """Return an output file's path. Raises ConfigError (a ValueError) if it does not end in .jsonl."""
    path = Path(os.path.expanduser(name))  # not Path.expanduser, which raises where there is no such home
    if path.suffix != ".jsonl":
        raise ConfigError(
            _("output_file={name!r} must end in .jsonl: one JSON object is written a line", name=str(name))
        )
    return path
