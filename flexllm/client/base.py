"""What every client is made of: its options, the backend that they make, and what must be closed in the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..backends import build_backend
from ..cancel import CancelToken, current
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..config import load_config, resolve_endpoint
from ..errors import ConfigError
from ..fork import forget_in_child
from ..limits import DEFAULT_CONCURRENCY, RateLimit
from ..media.options import MediaOptions
from ..messages import Messages
from ..options import EndpointOptions
from ..providers import thoughts_of
from ..request import make_request
from ..retry import RetryPolicy
from ..transport import Cert, Proxies, TransportOptions, Verify
from ..wire import NO_KEY, Headers, mask_key

if TYPE_CHECKING:
    import requests

logging.getLogger("flexllm").addHandler(logging.NullHandler())  # silent until the caller wants to hear

SPARE_THREADS = 8
"""Threads of the executor beyond `concurrency_limit`: a batch that is awaited holds one for as long as it runs."""

Self = TypeVar("Self", bound="BaseClient")


class BaseClient:
    """What `LLMClient` is made of but for its calls. Its docstring tells the options."""

    _provider = "auto"

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str = NO_KEY,
        provider: str | None = "auto",
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
        auth: Callable[[], Headers | Mapping[str, str]] | None = None,
        media: MediaOptions | None = None,
    ) -> None:
        for name, value in (("cache", cache), ("cost_tracker", cost_tracker)):
            if value is not None:
                raise ConfigError(f"{name}={value!r}: this release has no {name}; leave it out")
        if self._provider != "auto" and provider not in (None, "auto", self._provider):
            raise ConfigError(f"provider={provider!r} is not what {type(self).__name__} asks; use LLMClient")
        if model is not None and not isinstance(model, str):
            raise ConfigError(f"model={model!r} must be the name of a model")
        if media is not None and not isinstance(media, MediaOptions):
            raise ConfigError("media must be made by MediaOptions(...), not of type " + type(media).__name__)
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigError("headers must be a mapping of names to values, not of type " + type(headers).__name__)
        if auth is not None and not callable(auth):
            raise ConfigError("auth must be a function that gives headers, not of type " + type(auth).__name__)
        self.model = model
        self._options = EndpointOptions(
            provider=self._provider if provider in (None, "", "auto") else provider,
            model=model,
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
            media=media or MediaOptions(),
        )
        self._backend = build_backend(self._options, session=session, authorise=auth)
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
    def from_config(cls: type[Self], model: str | None = None, path: str | None = None, **options: Any) -> Self:
        """Return a client for a model of the configuration file, or for what the environment names.

        Args:
            model: The id or name of an entry; None means the file's default.
            path: The file, instead of `FLEXLLM_CONFIG` or ~/.flexllm/config.yaml.
            options: Those of the constructor.

        Raises:
            ConfigError: The file is wrong, names no such model, or one of a provider that is not this client's.
        """
        found = resolve_endpoint(load_config(path), model=model)
        if cls._provider == "auto":
            options["provider"] = found.provider
        elif found.provider not in ("auto", cls._provider):
            raise ConfigError(
                f"{found.source} is of provider {found.provider!r}, which {cls.__name__} does not ask; use LLMClient"
            )
        return cls(model=found.model, base_url=found.base_url, api_key=found.api_key, **options)

    def model_list(self) -> list[str]:
        """Return the ids of the models that the server offers, in its order.

        Raises:
            RequestError: Every attempt failed; its class says how.
        """
        return self._backend.models(current())

    @staticmethod
    def parse_thoughts(
        data: ChatCompletionResult | Mapping[str, Any] | str | Iterable[str | Chunk],
    ) -> dict[str, str]:
        """Return `{"thought": ..., "answer": ...}`, empty texts where there is none.

        Args:
            data: A result; a reply's body as its provider sent it (`result.raw`), whichever provider that is; a text; or
                the pieces of a stream. Thinking between tags (`<think>`) at the beginning of the text counts too.
        """
        return thoughts_of(data)

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

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- inside

    def _request(self, messages: Messages, model: str | None, params: Mapping[str, Any]) -> ChatRequest:
        return make_request(messages, model or self.model or "", params)

    def _threads(self) -> Executor:
        with self._lock:
            if self._executor is None:
                threads = self._options.rate_limit.concurrency + SPARE_THREADS
                self._executor = ThreadPoolExecutor(threads, thread_name_prefix="flexllm-async")
            return self._executor

    def _cancel(self) -> CancelToken:
        outer = current()
        return outer.child() if outer is not None else CancelToken()
