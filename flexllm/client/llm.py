"""One client for single, streamed and batch calls, each with a synchronous and an awaitable name.

The synchronous methods do the work; the awaitable ones carry the same call to a thread (`aio`). What a flag changes in the
type of a result happens here, as the last step over one inner method that always returns the same value.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from .. import aio
from ..batch.items import BatchResult, BatchResultItem
from ..batch.job import BatchJob
from ..batch.lists import ListRows
from ..batch.outlook import Forecast
from ..batch.signals import StopSignals
from ..cancel import current
from ..chat import ChatCompletionResult, Chunk
from ..errors import ConfigError
from ..language import _
from ..messages import Messages
from ..prices.table import default_table
from .batches import BatchClient


class LLMClient(BatchClient):
    """Asks one endpoint, or several as one. May be shared by threads; a forked child opens connections of its own.

    Usable as `with LLMClient(...) as client:` and `async with`. No event loop is needed, and none is in the way: every
    `_sync` method works while one is running in the same thread, as in a notebook.

    Args:
        model: The model to ask; without it each call must name one.
        base_url: With the version path, such as "http://localhost:8000/v1"; None means the provider's own.
        api_key: Sent to `base_url` alone; masked wherever it is shown.
        provider: "auto", "openai", "gemini" or "claude". "auto" goes by the base URL: known hosts and paths; a URL that
            tells nothing, because it is missing or ends with its host, leaves it to the model's name; every other means
            OpenAI's format, which gateways speak for other makers' models too.
        cache: `ResponseCacheConfig(enabled=True)` (or True): equal requests are answered from the disk. A request that is
            repeated within a batch is another sample, unless its temperature is 0. Several clients may be given one
            `ResponseCache`.
        cost_tracker: `CostTrackerConfig`: counts what all calls of this client cost, and with a budget refuses what
            would exceed it (`BudgetExceededError`); `client.cost_report` tells. Several clients may be given one
            `CostTracker`.
        concurrency_limit: Requests under way at the same time.
        max_qps: Requests that start per second, retries included; None is not limited. This and the other limits hold
            for everything in the process that asks the same endpoint with the same key and limits.
        max_rpm: Requests that start per minute, spread evenly over it.
        max_tpm: Tokens per minute, of requests and replies together; `max_input_tpm` and `max_output_tpm` apart. They are
            estimated when a request is sent, and put right by what the reply says.
        burst: Requests that may start at once after a pause, where a rate is set; None is one.
        adaptive: Find the rate that the server accepts, from its refusals (429) and from what its headers say: never above
            `max_qps`, never below `min_qps`. A server that refuses nothing is not held back.
        retry_times: Retries after the first attempt: 3 means at most 4 requests.
        retry_delay: Seconds of the first back-off; it doubles with each retry.
        timeout: Seconds for one attempt in all; for a stream, the longest gap between two pieces.
        total_timeout: Seconds for all attempts together, pauses included, from when the first is sent; of a stream, until
            its first piece. None is not limited.
        connect_timeout: Seconds to connect, within `timeout`.
        stream_timeout: Seconds for a whole stream; None is not limited.
        on_truncated: What becomes of a reply that was cut at a token limit: "keep" it, make it an "error"
            (`ReplyTruncated`), or "retry" once with more tokens.
        on_invalid: The same for a reply that does not match `response_format`: "error" (`SchemaMismatch`), "keep", "retry".
        hedge: Send a request once more, to another endpoint if there is one, when it takes longer than this share of its
            peers: 0.95 for the slowest twentieth. The first answer counts. None never does.
        headers: More headers for every request.
        proxies: As requests takes them; None reads the environment, once.
        verify: True, False or the path of a CA bundle; None reads the environment, once.
        cert: A client certificate: a path, or a pair of paths (certificate, key).
        trust_env: Whether proxies and CA bundle are read from the environment.
        session: A `requests.Session` of your own to send through; it is not closed.
        auth: Gives, for each attempt anew, headers that say who is asking, as a mapping or as pairs of name and value: for
            servers that know their callers by short-lived tokens. May be called by several threads at the same time.
        system: A system message for conversations that have none.
        user_template: Put around the text of each user message, with `{content}` where the text goes.
        params: Request parameters for each request that does not set them itself.
        price: What the model costs: "IN,OUT[,CACHED]" in US dollars per million tokens, a mapping or a `Price`. None takes
            it from the table that comes along; `prices` has them by the model's name.
        media: How pictures and other media are read, downloaded and made smaller.
        endpoints: Several endpoints to be asked as one; with them `clients`, `load_balance`, `fallback`,
            `failure_threshold`, `recovery_time`, `total_concurrency_limit` and `total_max_qps`, as in `LLMClientPool`.

    Raises:
        ConfigError: An option is wrong (it is a ValueError too).
    """

    # --- one

    def chat_completions_sync(
        self,
        messages: Messages,
        model: str | None = None,
        return_raw: bool = False,
        return_usage: bool = False,
        skip_cache: bool = False,
        thinking: Any = None,
        **params: Any,
    ) -> str | ChatCompletionResult:
        """Return the answer to a conversation: its text, or with `return_usage` or `return_raw` the whole result.

        Args:
            messages: A text, one message, or a list of messages.
            model: Instead of the client's.
            skip_cache: Neither look the answer up in the cache nor keep it there.
            thinking: None leaves it to the server; False, True, a strength ("minimal", "low", "medium", "high"), a budget
                in tokens, or the provider's own object.
            params: In OpenAI's words for every provider: `temperature`, `max_tokens`, `tools`, ... The provider's native
                fields pass unchanged. Of several answers (`n`) the first counts; all are in the result's `raw`, none but
                the first in a stream. `response_format` is OpenAI's object, a JSON schema, a dataclass or a pydantic
                model; the result's `parsed` is then what it describes (a JSON schema is checked where jsonschema is
                installed, the extra `schema`; without it a reply need only be JSON). `repair=True` sends a reply that
                does not match back once, to be mended.

        Raises:
            RequestError: Every attempt failed; its class says how. SchemaMismatch: the reply is not what
                `response_format` asks for.
            InputError: The messages or parameters cannot be sent to this provider.
            BudgetExceededError: The budget of `cost_tracker` has no room for the request; it was not sent.
        """
        if thinking is not None:
            params["thinking"] = thinking
        backend = self._answering(skip_cache, with_body=return_raw)
        result = backend.complete(self._request(messages, model, params), current())
        return result if return_usage or return_raw else result.content

    async def chat_completions(self, messages: Messages, *args: Any, **options: Any) -> str | ChatCompletionResult:
        """Await `chat_completions_sync`."""
        return await aio.call(self._threads(), self.chat_completions_sync, messages, *args, **options)

    # --- stream

    def chat_completions_stream_sync(
        self, messages: Messages, model: str | None = None, *, return_usage: bool = False, **params: Any
    ) -> Iterator[str | ChatCompletionResult]:
        """Yield the pieces of the text as they arrive; with `return_usage`, as the last, the `ChatCompletionResult`.

        `timeout` is the longest gap between two pieces; the client's `stream_timeout` is for the whole.

        Raises:
            RequestError: No attempt got as far as a first piece.
            StreamBroken: The stream ended early; `partial` and `result` hold what had arrived.
        """
        return _texts(self.stream_chunks_sync(messages, model, **params), return_usage)

    async def chat_completions_stream(
        self, messages: Messages, *args: Any, **options: Any
    ) -> AsyncIterator[str | ChatCompletionResult]:
        """Iterate over `chat_completions_stream_sync` with `async for`."""
        make = partial(self.chat_completions_stream_sync, messages, *args, **options)
        async with aclosing(aio.iterate(self._threads(), make)) as pieces:
            async for piece in pieces:
                yield piece

    def stream_chunks_sync(
        self, messages: Messages, model: str | None = None, skip_cache: bool = False, **params: Any
    ) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield a `Chunk` for each piece (text, thinking, tool calls, usage), then, as the last, the whole result.

        Arguments and errors are those of `chat_completions_stream_sync`.
        """
        return self._answering(skip_cache).stream(self._request(messages, model, params), current())

    async def stream_chunks(
        self, messages: Messages, *args: Any, **options: Any
    ) -> AsyncIterator[Chunk | ChatCompletionResult]:
        """Iterate over `stream_chunks_sync` with `async for`."""
        make = partial(self.stream_chunks_sync, messages, *args, **options)
        async with aclosing(aio.iterate(self._threads(), make)) as pieces:
            async for piece in pieces:
                yield piece

    # --- many

    def chat_completions_batch_sync(
        self,
        messages_list: Iterable[Messages],
        output_file: str | os.PathLike[str] | None = None,
        output_jsonl: str | os.PathLike[str] | None = None,
        show_progress: bool = True,
        return_summary: bool = False,
        return_cost_report: bool = False,
        return_usage: bool = False,
        track_cost: bool = False,
        flush_interval: float = 1.0,
        metadata_list: Sequence[Any] | None = None,
        params_list: Sequence[Mapping[str, Any]] | None = None,
        save_input: bool | str = True,
        **options: Any,
    ) -> Any:
        """Return the answers to many conversations, in input order.

        With an output file each answer is on disk as soon as it is there; the same call again goes on where the last one
        ended, however it ended. One row's failure neither raises nor stops the others.

        Args:
            messages_list: Conversations; read lazily, on a thread of its own.
            output_file: A name that ends in .jsonl.
            output_jsonl: The same, under its older name.
            show_progress: A bar on a terminal and in a notebook, a line every so often elsewhere.
            return_summary: Return `(results, summary)`.
            return_cost_report: Return `(results, cost_report)`; with `return_summary`, `(results, summary, cost_report)`.
            return_usage: Give each answer as a `ChatCompletionResult` instead of its text.
            track_cost: Show tokens and, where prices are known, the cost.
            flush_interval: Seconds at most until a written row is on the disk and not only in the kernel.
            metadata_list: One value for each row, kept in its line and its `BatchResultItem`.
            params_list: Request parameters for each row, above `**options`.
            save_input: What of the messages a line keeps: True, "last" or False.
            options: `model`; `skip_cache`; `share` (True: equal rows are asked once, and all get the answer; None, the
                default: those with a temperature of 0); `order` ("prefix": rows that begin alike after one another, so
                that the provider's own cache of prompts serves them; the whole input is read first); `max_cost` (US
                dollars), `max_requests` and `max_total_tokens`, at which the run stops, for all runs of the output file
                together; `max_time` (seconds for the run; then nothing new is asked); `fail_over` (the share of failed
                rows at which the run stops, from 20 rows on); `grace` (seconds that requests under way may take to finish
                then, and after Ctrl-C or SIGTERM, 10); `distribute` (of a pool: rows go where there is room, True; False
                keeps to `load_balance` for each row); of the output file `save_raw`, `retry_failed` (True, False or
                "only": no new rows) and `on_change` ("rerun", "keep", "fail"). All others are parameters of the request,
                as in `chat_completions_sync`.

        The run stops by itself at errors that every further row would meet (a wrong key or URL, an unknown model, an
        account without credit), after a few of them. What was answered is kept; `summary["stopped"]` says why, and the
        rows that were not asked have `BatchStopped` as their error.

        Returns:
            A `BatchResult`: a list of texts, None where a row failed, with `.items`, `.errors` and `.summary`.

        Raises:
            ValueError: An option is wrong, or `metadata_list` or `params_list` has another length.
            CheckpointError: The output file cannot be used.
            PriceUnknown: There is a budget in dollars, and nobody knows what the model costs.
            KeyboardInterrupt: After Ctrl-C, once everything answered is in the file.
        """
        cancel = self._cancel()
        options.update(
            track_cost=track_cost, flush_interval=flush_interval, save_input=save_input, metadata_list=metadata_list,
            params_list=params_list,
        )  # fmt: skip
        rows, job = self._start(cancel, messages_list, output_file or output_jsonl, show_progress, options)
        with StopSignals(cancel) as signals:
            items = list(job.run(rows))
        signals.raise_received()
        items += (replace(item, metadata=_at(metadata_list, item.index)) for item in job.unasked_items(items))
        items.sort(key=_index)
        answers = [item.result if return_usage else item.content for item in items]
        result: BatchResult[Any] = BatchResult(answers, items, job.summary())
        extras: list[Any] = [result.summary] if return_summary else []
        if return_cost_report:
            extras.append(job.costs.report(self.model or "", price_date=default_table().date))
        return (result, *extras) if extras else result

    async def forecast_batch(self, messages_list: Iterable[Messages], *args: Any, **options: Any) -> Forecast:
        """Await `forecast_batch_sync`."""
        return await aio.call(self._threads(), self.forecast_batch_sync, messages_list, *args, **options)

    async def chat_completions_batch(self, messages_list: Iterable[Messages], *args: Any, **options: Any) -> Any:
        """Await `chat_completions_batch_sync`. Cancelling stops it cleanly: what is under way is finished and written."""
        return await aio.call(self._threads(), self.chat_completions_batch_sync, messages_list, *args, **options)

    # --- many, as they finish

    def iter_chat_completions_batch_sync(
        self,
        messages_list: Iterable[Messages],
        output_file: str | os.PathLike[str] | None = None,
        output_jsonl: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> Iterator[BatchResultItem]:
        """Yield a `BatchResultItem` for each row as it finishes; the input may be an endless generator.

        Arguments are those of `chat_completions_batch_sync` that do not change its result. The input is read on a thread
        of its own, a small multiple of `concurrency_limit` ahead of what has been taken here. Leaving the loop stops the
        rest; with an output file, what is under way is finished and written first. Where equal rows are shared, and there
        is neither file nor cache, about half a kilobyte is kept for each distinct row.

        Raises:
            BatchStopped: At the end, if the run stopped by itself because rows failed. At `max_time`, or when the budget
                is spent, it just ends.
        """
        for name in ("return_summary", "return_cost_report"):
            if options.pop(name, False):
                raise ConfigError(
                    _("{name}=True: an iterator has no end to give it at; use chat_completions_batch_sync", name=name)
                )
        options.pop("return_usage", None)  # every item carries it
        rows, job = self._start(self._cancel(), messages_list, output_file or output_jsonl, show_progress, options)
        return _until_stopped(job, rows)

    async def iter_chat_completions_batch(
        self, messages_list: Iterable[Messages], *args: Any, **options: Any
    ) -> AsyncIterator[BatchResultItem]:
        """Iterate over `iter_chat_completions_batch_sync` with `async for`."""
        make = partial(self.iter_chat_completions_batch_sync, messages_list, *args, **options)
        async with aclosing(aio.iterate(self._threads(), make)) as items:
            async for item in items:
                yield item


def _at(values: Sequence[Any] | None, index: int) -> Any:
    return None if values is None else values[index]


def _until_stopped(job: BatchJob, rows: ListRows) -> Iterator[BatchResultItem]:
    yield from job.run(rows)
    if job.stopped is not None and job.stopped.reason not in ("max_time", "budget"):
        raise job.stopped


def _index(item: BatchResultItem) -> int:
    return item.index


def _texts(pieces: Iterator[Any], return_usage: bool) -> Iterator[str | ChatCompletionResult]:
    """Keep the text of each piece; the last piece of a backend's stream is the whole result."""
    for piece in pieces:
        if isinstance(piece, ChatCompletionResult):
            if return_usage:
                yield piece
        elif piece.content:
            yield piece.content
