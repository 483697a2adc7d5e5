"""The face: one client for single, streamed and batch calls, each with a synchronous and an awaitable name.

The synchronous methods do the work; the awaitable ones carry the same call to a thread (`aio`). What a flag changes in the
type of a result happens here, as the last step over one inner method that always returns the same value.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import aio
from .backends import build_backend
from .batch.checkpoint import CheckpointOptions
from .batch.items import BatchResult, BatchResultItem
from .batch.job import BatchJob, BatchOptions
from .batch.lists import ListRows
from .batch.progress import ProgressOptions
from .batch.signals import StopSignals
from .cancel import CancelToken, current
from .chat import ChatCompletionResult, ChatRequest
from .config import load_config, resolve_endpoint
from .cost import CostReport
from .engines.threads import ThreadEngine
from .errors import ConfigError
from .fork import forget_in_child
from .limits import DEFAULT_CONCURRENCY, RateLimit
from .messages import Messages, normalise_messages
from .options import EndpointOptions
from .retry import RetryPolicy
from .transport import Cert, Proxies, TransportOptions, Verify
from .wire import NO_KEY, mask_key

if TYPE_CHECKING:
    import requests

logging.getLogger("flexllm").addHandler(logging.NullHandler())  # silent until the caller wants to hear

SPARE_THREADS = 8
"""Threads of the executor beyond `concurrency_limit`: a batch that is awaited holds one for as long as it runs."""

DEFAULT_GRACE = 10.0
"""Seconds that requests under way may take to finish when a batch is stopped."""


class LLMClient:
    """Asks one endpoint. May be shared by threads; a forked child opens connections of its own.

    Usable as `with LLMClient(...) as client:` and `async with`. No event loop is needed, and none is in the way: every
    `_sync` method works while one is running in the same thread, as in a notebook.

    Args:
        model: The model to ask; without it each call must name one.
        base_url: With the version path, such as "http://localhost:8000/v1"; None means the provider's own.
        api_key: Sent to `base_url` alone; masked wherever it is shown.
        provider: "auto" or "openai".
        cache: Accepted for the response cache of a later release; must be None.
        cost_tracker: Accepted for the cost tracking of a later release; must be None.
        concurrency_limit: Requests under way at the same time.
        max_qps: Requests that start per second, retries included; None is not limited.
        retry_times: Retries after the first attempt: 3 means at most 4 requests.
        retry_delay: Seconds of the first back-off; it doubles with each retry.
        timeout: Seconds for one attempt in all; for a stream, the longest gap between two pieces.
        connect_timeout: Seconds to connect, within `timeout`.
        stream_timeout: Seconds for a whole stream; None is not limited.
        headers: More headers for every request.
        proxies: As requests takes them; None reads the environment, once.
        verify: True, False or the path of a CA bundle; None reads the environment, once.
        cert: A client certificate: a path, or a pair of paths (certificate, key).
        trust_env: Whether proxies and CA bundle are read from the environment.
        session: A `requests.Session` of your own to send through; it is not closed.

    Raises:
        ConfigError: An option is wrong (it is a ValueError too).
    """

    _provider = "auto"

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str = NO_KEY,
        provider: str | None = None,
        *,
        cache: None = None,
        cost_tracker: None = None,
        concurrency_limit: int = DEFAULT_CONCURRENCY,
        max_qps: float | None = None,
        retry_times: int = 3,
        retry_delay: float = 1.0,
        timeout: float = 120.0,
        connect_timeout: float = 10.0,
        stream_timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        proxies: Proxies | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
        trust_env: bool = True,
        session: requests.Session | None = None,
    ) -> None:
        for name, value in (("cache", cache), ("cost_tracker", cost_tracker)):
            if value is not None:
                raise ConfigError(f"{name}={value!r}: this release has no {name}; leave it out")
        self.model = model
        self._options = EndpointOptions(
            provider=provider or self._provider,
            base_url=base_url,
            api_key=api_key or NO_KEY,
            headers=tuple((str(name), str(value)) for name, value in (headers or {}).items()),
            rate_limit=RateLimit(concurrency=concurrency_limit, max_qps=max_qps),
            retry=RetryPolicy(retry_times=retry_times, retry_delay=retry_delay),
            transport=TransportOptions(
                timeout=timeout,
                connect_timeout=connect_timeout,
                stream_timeout=stream_timeout,
                proxies=proxies,
                verify=verify,
                cert=cert,
                trust_env=trust_env,
                connections=concurrency_limit,
            ),
        )
        self._backend = build_backend(self._options, session)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._executor = None  # its threads are the parent's
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        options = self._options
        return (
            f"{type(self).__name__}(model={self.model!r}, base_url={options.base_url!r}, "
            f"api_key={mask_key(options.api_key)!r}, concurrency_limit={options.rate_limit.concurrency})"
        )

    @classmethod
    def from_config(cls, model: str | None = None, path: str | None = None, **options: Any) -> LLMClient:
        """Return a client for a model of the configuration file, or for what the environment names.

        Args:
            model: The id or name of an entry; None means the file's default.
            path: The file, instead of `FLEXLLM_CONFIG` or ~/.flexllm/config.yaml.
            options: Those of the constructor.

        Raises:
            ConfigError: The file is wrong, or names no such model.
        """
        found = resolve_endpoint(load_config(path), model=model)
        return cls(found.model, found.base_url, found.api_key, found.provider, **options)

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
            skip_cache: Accepted for the response cache of a later release; there is none to skip.
            thinking: Goes to the API as it is; None is not sent.
            params: Go to the API unchanged: `temperature`, `max_tokens`, `response_format`, ...

        Raises:
            RequestError: Every attempt failed; its class says how.
            InputError: The messages cannot be sent.
        """
        if thinking is not None:
            params["thinking"] = thinking
        result = self._backend.complete(self._request(messages, model, params), current())
        return result if return_usage or return_raw else result.content

    async def chat_completions(self, messages: Messages, *args: Any, **options: Any) -> str | ChatCompletionResult:
        """Await `chat_completions_sync`."""
        return await aio.call(self._threads(), self.chat_completions_sync, messages, *args, **options)

    # --- stream

    def chat_completions_stream_sync(
        self, messages: Messages, model: str | None = None, *, return_usage: bool = False, **params: Any
    ) -> Iterator[str | ChatCompletionResult]:
        """Yield the pieces of the text as they arrive; with `return_usage`, as the last, the `ChatCompletionResult`.

        Raises:
            RequestError: No attempt got as far as a first piece.
            StreamBroken: The stream ended early; `partial` holds what had arrived.
        """
        request = self._request(messages, model, params)
        return _texts(self._backend.stream(request, current()), return_usage)

    async def chat_completions_stream(
        self, messages: Messages, *args: Any, **options: Any
    ) -> AsyncIterator[str | ChatCompletionResult]:
        """Iterate over `chat_completions_stream_sync` with `async for`."""
        make = partial(self.chat_completions_stream_sync, messages, *args, **options)
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
            return_usage: Give `ChatCompletionResult`s instead of texts.
            track_cost: Show tokens and, where prices are known, the cost.
            flush_interval: Seconds at most until a written row is on the disk and not only in the kernel.
            metadata_list: One value for each row, kept in its line and its `BatchResultItem`.
            params_list: Request parameters for each row, above `**options`.
            save_input: What of the messages a line keeps: True, "last" or False.
            options: `model`; `grace` (seconds that requests under way may take to finish after Ctrl-C or SIGTERM, 10);
                of the output file `save_raw`, `retry_failed` and `on_change` ("rerun", "keep", "fail"). All others go
                to the API unchanged.

        Returns:
            A `BatchResult`: a list of texts, None where a row failed, with `.items`, `.errors` and `.summary`.

        Raises:
            ValueError: An option is wrong, or `metadata_list` or `params_list` has another length.
            CheckpointError: The output file cannot be used.
            KeyboardInterrupt: After Ctrl-C, once everything answered is in the file.
        """
        cancel = self._cancel()
        options.update(
            track_cost=track_cost, flush_interval=flush_interval, save_input=save_input, metadata_list=metadata_list,
            params_list=params_list,
        )  # fmt: skip
        rows, job = self._start(cancel, messages_list, output_file or output_jsonl, show_progress, options)
        with StopSignals(cancel) as signals:
            items = sorted(job.run(rows), key=_index)
        signals.raise_received()
        answers = [item.result if return_usage else item.content for item in items]
        result: BatchResult[Any] = BatchResult(answers, items, job.summary())
        extras: list[Any] = [result.summary] if return_summary else []
        if return_cost_report:
            extras.append(_cost_report(job, self.model))
        return (result, *extras) if extras else result

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
        rest; with an output file, what is under way is finished and written first.
        """
        for name in ("return_summary", "return_cost_report"):
            if options.pop(name, False):
                raise ConfigError(f"{name}=True: an iterator has no end to give it at; use chat_completions_batch_sync")
        options.pop("return_usage", None)  # every item carries it
        rows, job = self._start(self._cancel(), messages_list, output_file or output_jsonl, show_progress, options)
        return job.run(rows)

    async def iter_chat_completions_batch(
        self, messages_list: Iterable[Messages], *args: Any, **options: Any
    ) -> AsyncIterator[BatchResultItem]:
        """Iterate over `iter_chat_completions_batch_sync` with `async for`."""
        make = partial(self.iter_chat_completions_batch_sync, messages_list, *args, **options)
        async with aclosing(aio.iterate(self._threads(), make)) as items:
            async for item in items:
                yield item

    # --- the end

    def close(self) -> None:
        """Close connections and threads. What is under way in other threads ends first."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self._backend.close()

    async def aclose(self) -> None:
        """Close, from asynchronous code."""
        self.close()

    def __enter__(self) -> LLMClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> LLMClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- inside

    def _request(self, messages: Messages, model: str | None, params: Mapping[str, Any]) -> ChatRequest:
        return ChatRequest(normalise_messages(messages), model or self.model or "", params)

    def _threads(self) -> Executor:
        with self._lock:
            if self._executor is None:
                threads = self._options.rate_limit.concurrency + SPARE_THREADS
                self._executor = ThreadPoolExecutor(threads, thread_name_prefix="flexllm-async")
            return self._executor

    def _cancel(self) -> CancelToken:
        outer = current()
        return outer.child() if outer is not None else CancelToken()

    def _start(
        self,
        cancel: CancelToken,
        messages_list: Iterable[Messages],
        output: str | os.PathLike[str] | None,
        show_progress: bool,
        options: dict[str, Any],
    ) -> tuple[ListRows, BatchJob]:
        """Sort the arguments into rows and a job. Nothing is sent, and no file is touched before all is checked."""
        metadata_list, params_list = options.pop("metadata_list", None), options.pop("params_list", None)
        cost = options.pop("track_cost", False)
        grace = options.pop("grace", DEFAULT_GRACE)
        kept = {name: options.pop(name) for name in _CHECKPOINT_OPTIONS if name in options}
        model = options.pop("model", None) or self.model or ""
        if not model and not params_list:
            raise ConfigError("no model is named: give model=... to the client or to this call")
        rows = ListRows(messages_list, model, options, metadata_list, params_list)
        batch_options = BatchOptions(
            output=None if output is None else jsonl_path(output),
            checkpoint=CheckpointOptions(**kept),
            progress=ProgressOptions(show=show_progress, tokens=cost, cost=cost),
            grace=grace,
        )
        return rows, self.batch_job(batch_options, cancel)

    def batch_job(self, options: BatchOptions, cancel: CancelToken) -> BatchJob:
        """Return a job that asks this client's endpoint; its output file, if it has one, is open and locked."""
        workers = self._options.rate_limit.concurrency
        return BatchJob(
            ThreadEngine(self._backend, workers=workers, cancel=cancel, grace=options.grace), options, cancel
        )


class OpenAIClient(LLMClient):
    """Asks a server that speaks OpenAI's chat completions: OpenAI, DeepSeek, Qwen, vLLM, Ollama and many more."""

    _provider = "openai"


_CHECKPOINT_OPTIONS = ("flush_interval", "retry_failed", "on_change", "save_input", "save_raw")


def jsonl_path(name: str | os.PathLike[str]) -> Path:
    """Return an output file's path. Raises ConfigError (a ValueError) if it does not end in .jsonl."""
    path = Path(name).expanduser()
    if path.suffix != ".jsonl":
        raise ConfigError(f"output_file={str(name)!r} must end in .jsonl: one JSON object is written a line")
    return path


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


def _cost_report(job: BatchJob, model: str | None) -> CostReport:
    tally = job.tally
    return CostReport(
        total_input_tokens=tally.prompt_tokens,
        total_output_tokens=tally.completion_tokens,
        request_count=tally.asked - tally.failed,
        model=model or "",
    )
