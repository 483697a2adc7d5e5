"""Chains as their caller sees them: steps are added once, then one chain is run, or a batch of them.

The synchronous methods do the work; the awaitable ones carry the same call to a thread (`aio`).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any

from .. import aio
from ..batch.items import BatchResult
from ..batch.options import ONLY
from ..batch.signals import StopSignals
from ..client.batches import OpenBatch
from ..client.llm import LLMClient
from ..errors import BatchStopped, ChainError, ConfigError
from ..language import _
from ..prices.table import default_table
from .context import Context
from .monitor import as_monitor
from .results import item_of, slim, summary_of
from .rows import ChainRows, check_chains, walkable
from .run import MOST_STEPS, ChainLimits
from .steps import Step, StepGraph, as_steps

SPARE = 4
"""Chains under way for each request that may be: some of them wait for their functions, and the engine reads ahead."""


class ChainOfThoughtClient:
    """Runs chains of steps: each step asks the model something that its function makes of the answers before it.

    The functions of steps run in a thread of this client's own, one at a time; while one runs, requests go on. They must
    give the same again for the same context, as they are called anew when a batch that was killed is resumed.

    Args:
        client: Asks: an `LLMClient`, an `LLMClientPool` or any other. It stays open, and its limits, cache, retries and
            budget hold for every step.
        openai_client: The same, under another name.
        max_steps: Steps of one chain; one that goes round ends with an error after so many.
        step_timeout: Seconds for the request of a step with all its attempts; None: `total_timeout` of the client.
        chain_timeout: Seconds from a chain's beginning after which no further step of it begins; what an earlier run did
            takes no time. None is not limited.
        function_threads: Threads in which functions of steps run. More than one where they wait, for a search or a
            database; they must then be fit for it. The context of a chain is in one thread at a time.
        monitor: Told how chains and steps begin and end: a function of a `ChainEvent`, or an object with methods such as
            `on_step_end(event)`. What it raises is logged, and changes nothing.

    Raises:
        ConfigError: One of them cannot be used (it is a ValueError too).
    """

    def __init__(
        self,
        client: LLMClient | None = None,
        *,
        openai_client: LLMClient | None = None,
        max_steps: int = MOST_STEPS,
        step_timeout: float | None = None,
        chain_timeout: float | None = None,
        function_threads: int = 1,
        monitor: object = None,
    ) -> None:
        if client is not None and openai_client is not None:
            raise ConfigError(_("client and openai_client are two names for one thing; give one of them"))
        given = openai_client if client is None else client
        if not isinstance(given, LLMClient):
            raise ConfigError(
                _(
                    "client must be an LLMClient, a pool or another client, not of type {kind}",
                    kind=type(given).__name__,
                )
            )
        self._client = given
        self._graph = StepGraph()
        self._tell = as_monitor(monitor)
        self._limits = ChainLimits(
            max_steps=max_steps,
            step_timeout=step_timeout,
            chain_timeout=chain_timeout,
            function_threads=function_threads,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r}, steps={self.step_names})"

    @property
    def step_names(self) -> list[str]:
        """The names of all steps, in the order in which they were added."""
        return [step.name for step in self._graph]

    def add_step(self, step: Step) -> None:
        """Add a step.

        Raises:
            ConfigError: It is none, or another step has its name.
        """
        self._graph.add(step)

    def add_steps(self, steps: Iterable[Step]) -> None:
        """Add several steps, in any order: each chooses its next one by name. Errors are those of `add_step`."""
        for step in as_steps(steps):
            self._graph.add(step)

    def create_linear_chain(self, steps: Iterable[Step], name: str | None = None) -> str:
        """Add steps that follow on one another, and return what starts them.

        Args:
            steps: `LinearStep`s, and among them `Step`s, which go where their own function says.
            name: Of the chain, to start it by instead of the name of its first step.

        Raises:
            ConfigError: There are none, or a name is in use already.
        """
        return self._graph.link(as_steps(steps), name)

    # --- one chain

    def execute_chain_sync(
        self,
        initial_step_name: str | None = None,
        initial_context: Context | str | None = None,
        output_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Context:
        """Run one chain to its end and return its context: a new one, `initial_context` stays as it is.

        Args:
            initial_step_name: A step or a linear chain; None is the step that was added first.
            initial_context: A `Context`, a text (its query) or None.
            output_file: A name that ends in .jsonl: steps that it has are not asked again.
            options: Those of `execute_chains_batch_sync` that do not change its result.

        Raises:
            ChainError: The chain did not come to its end. Its `step`, `reason` and `error` tell why; its `context` has the
                steps that were answered.
        """
        output_file = output_file or options.pop("output_jsonl", None)
        show_progress = options.pop("show_progress", False)
        if output_file is None and "max_time" not in options:
            options.setdefault("grace", 0.0)  # after Ctrl-C nobody will see the answer that is under way
        _batch, found = self._all(initial_step_name, [initial_context], output_file, show_progress, options, _as_it_is)
        if not found:  # an asynchronous caller has been cancelled, and sees that alone
            raise ChainError(_("the chain was cancelled"), reason="stopped")
        context, error = found[0], found[0].error
        if error is None:
            return context
        inner, message = error.error, str(error)
        if isinstance(inner, BatchStopped) and inner.error is not None:
            inner = inner.error  # without the count of rows, of which there is no talk here
            message = _("step {name!r}: {error}", name=error.step, error=inner)
        failure = ChainError(message, step=error.step, reason=error.reason, error=inner, context=context)
        raise failure from error.__cause__ or inner

    async def execute_chain(self, *args: Any, **options: Any) -> Context:
        """Await `execute_chain_sync`."""
        return await aio.call(self._client._threads(), self.execute_chain_sync, *args, **options)

    # --- many

    def execute_chains_batch_sync(
        self,
        initial_step_name: str | None = None,
        contexts: Iterable[Any] = (),
        output_file: str | os.PathLike[str] | None = None,
        output_jsonl: str | os.PathLike[str] | None = None,
        show_progress: bool = True,
        return_summary: bool = False,
        return_cost_report: bool = False,
        metadata_list: Sequence[Any] | None = None,
        keep_history: bool = True,
        **options: Any,
    ) -> Any:
        """Run many chains and return their contexts, in input order.

        It is a batch whose rows are steps: with an output file each answer is on disk as soon as it is there, and the same
        call again goes on where the last one ended, chain by chain and step by step, however it ended. A chain that fails
        neither raises nor stops the others: its context has the `error`. At the end the file has the steps chain after
        chain, and `metadata` in each line names `chain`, `ordinal` and `step`.

        Args:
            initial_step_name: A step or a linear chain; None is the step that was added first.
            contexts: For each chain a `Context`, a text (its query) or a mapping of `query` and `custom_data`. They stay
                as they are. Not a list but a generator is read as chains begin, and must not wait.
            output_file: A name that ends in .jsonl.
            output_jsonl: The same, under its older name.
            show_progress: As for `chat_completions_batch_sync`; it counts steps.
            return_summary: Return `(results, summary)`.
            return_cost_report: Return `(results, cost_report)`; with `return_summary`, `(results, summary, cost_report)`.
            metadata_list: One value for each chain, kept in the lines of its steps.
            keep_history: False drops messages and answers of the steps but the last answer, to spare memory.
            options: Those of `chat_completions_batch_sync`, but for `params_list`, `return_usage`, `order="prefix"`,
                `retry_failed="only"` and `on_change`: a step that asks otherwise than before is another row, and asked.
                `max_cost` and the other limits are for all steps of all chains. All others are parameters of each request,
                below the step's own `model_params`.

        Returns:
            A `BatchResult` of `Context`s; its `errors` are `ChainError`s by the chain's index. Its `summary` counts
            chains, and steps under "steps".

        Raises:
            ValueError: An option is wrong, or there is no such step.
            CheckpointError: The output file cannot be used.
            PriceUnknown: There is a budget in dollars, and nobody knows what the model costs.
            KeyboardInterrupt: After Ctrl-C, once everything answered is in the file.
        """
        options["metadata_list"] = metadata_list
        small = partial(slim, keep_history=keep_history)
        batch, found = self._all(
            initial_step_name, contexts, output_file or output_jsonl, show_progress, options, small
        )
        result = BatchResult(found, list(map(item_of, found)), summary_of(found, batch.job.summary()))
        extras: list[Any] = [result.summary] if return_summary else []
        if return_cost_report:
            extras.append(batch.job.costs.report(self._client.model or "", price_date=default_table().date))
        return (result, *extras) if extras else result

    async def execute_chains_batch(self, *args: Any, **options: Any) -> Any:
        """Await `execute_chains_batch_sync`. Cancelling stops it cleanly: what is under way is finished and written."""
        return await aio.call(self._client._threads(), self.execute_chains_batch_sync, *args, **options)

    def iter_chains_batch_sync(
        self,
        initial_step_name: str | None = None,
        contexts: Iterable[Any] = (),
        output_file: str | os.PathLike[str] | None = None,
        output_jsonl: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Iterator[Context]:
        """Yield the context of each chain as it ends; few are in memory at any time, and the input may be endless.

        Arguments are those of `execute_chains_batch_sync` that do not change its result. Leaving the loop stops the rest.

        Raises:
            BatchStopped: At the end, if the run stopped by itself because steps failed. At `max_time`, or when the budget
                is spent, it just ends.
        """
        batch, rows = self._start(initial_step_name, contexts, output_file or output_jsonl, show_progress, options)
        return _until_stopped(batch, rows)

    async def iter_chains_batch(self, *args: Any, **options: Any) -> AsyncIterator[Context]:
        """Iterate over `iter_chains_batch_sync` with `async for`."""
        make = partial(self.iter_chains_batch_sync, *args, **options)
        async with aclosing(aio.iterate(self._client._threads(), make)) as contexts:
            async for context in contexts:
                yield context

    # --- inside

    def _all(
        self,
        initial: str | None,
        contexts: Iterable[Any],
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
        ended: Callable[[Context], Context],
    ) -> tuple[OpenBatch, list[Context]]:
        """Run chains to their end; return them in input order, also those that the run left where they were.

        Args:
            ended: Makes of each what is kept of it.
        """
        batch, rows = self._start(initial, contexts, output, show_progress, options)
        with StopSignals(batch.cancel) as signals:
            found = [ended(context) for context in _as_they_end(batch, rows)]
        signals.raise_received()
        if batch.job.stopped is not None:
            found += map(ended, rows.left(batch.job.stopped))
        return batch, sorted(found, key=_index)

    def _start(
        self,
        initial: str | None,
        contexts: Iterable[Any],
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
    ) -> tuple[OpenBatch, ChainRows]:
        """Return a job and its rows. No file is touched before all is checked."""
        graph = self._graph.copy()
        first = graph.start(initial)
        metadata_list = options.pop("metadata_list", None)
        contexts = walkable(contexts)
        check_chains(contexts, metadata_list)
        _check_options(options)
        if not (options.get("model") or self._client.model) and all("model" in step.model_params for step in graph):
            options["model"] = graph[first].model_params["model"]  # which no step is asked for but its own
        batch = self._client.open_batch(output, show_progress, options, total_timeout=self._limits.step_timeout)
        rows = ChainRows(
            graph,
            first,
            contexts,
            batch.conversations,
            limits=self._limits,
            tell=self._tell,
            cancel=batch.cancel,
            most_open=SPARE * (batch.workers + 1),
            metadata_list=metadata_list,
        )
        return batch, rows


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options of a batch that mean nothing for chains, or would never come to an end."""
    if options.get("order", "input") != "input":
        raise ConfigError(
            _(
                "order={order!r} needs all rows before the first is asked; a chain's come one by one",
                order=options["order"],
            )
        )
    if options.get("retry_failed") == ONLY:
        raise ConfigError(_("retry_failed='only' leaves new rows out, and so the steps behind those that failed"))
    if options.get("on_change", "rerun") in ("keep", "fail"):
        raise ConfigError(
            _(
                "on_change={choice!r} is not for chains: a step that asks otherwise than before is another row",
                choice=options["on_change"],
            )
        )
    if options.get("params_list") is not None:
        raise ConfigError(_("params_list is for conversations; give each Step its model_params"))
    for name in ("return_usage", "return_raw"):
        if options.pop(name, False):
            raise ConfigError(_("{name}: each step's response in the history has all fields of a result", name=name))
    for name in _TO_THE_CLIENT:
        if name in options:  # else it would be sent to the server
            raise ConfigError(_("{name} is no parameter of a request: give it to ChainOfThoughtClient", name=name))
    if "keep_history" in options:
        raise ConfigError(_("keep_history is for execute_chains_batch; this call does not take it"))


_TO_THE_CLIENT = ("max_steps", "step_timeout", "chain_timeout", "function_threads", "monitor")


def _as_they_end(batch: OpenBatch, rows: ChainRows) -> Iterator[Context]:
    try:
        with closing(batch.job.run(rows)) as items:
            for item in items:
                rows.take(item)
                yield from rows.ended()
    finally:
        rows.close()
    yield from rows.ended()


def _until_stopped(batch: OpenBatch, rows: ChainRows) -> Iterator[Context]:
    for context in _as_they_end(batch, rows):
        yield slim(context, keep_history=True)
    stopped = batch.job.stopped
    if stopped is not None and stopped.reason not in ("max_time", "budget"):
        raise stopped


def _as_it_is(context: Context) -> Context:
    return context


def _index(context: Context) -> int:
    return context.index
