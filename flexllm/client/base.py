"""What every client is made of: its options, the backend that they make, and what must be closed in the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .. import aio
from ..backends import (
    Attempts,
    Backend,
    CachedBackend,
    Endpoint,
    HedgePolicy,
    PoolOptions,
    build_attempts,
    build_backend,
    build_choice,
    build_endpoint,
)
from ..cache.key import RequestKeys, cache_key
from ..cache.values import KeptAnswers
from ..cancel import CancelToken, current
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..config import load_config, resolve_endpoint
from ..cost import CostReport
from ..cost.options import CostTrackerConfig
from ..cost.tracker import CostTracker
from ..errors import ConfigError
from ..fork import forget_in_child
from ..language import _
from ..limits import DEFAULT_CONCURRENCY, RateLimit
from ..media.options import MediaOptions
from ..messages import Messages
from ..options import EndpointConfig, EndpointOptions, as_headers
from ..prices import PriceLike
from ..providers import thoughts_of
from ..providers.credits import Balance
from ..replies import OnReply, ReplyPolicy
from ..request import make_request, request_defaults
from ..retry import DEFAULT_TOTAL, RetryPolicy
from ..router import DEFAULT_FAILURE_THRESHOLD, DEFAULT_RECOVERY_TIME
from ..transport import Cert, Proxies, TransportOptions, Verify
from ..wire import NO_KEY, Headers, mask_key
from .members import pool_endpoints, pool_model
from .spending import CacheLike, as_cache, as_tracker, key_scope, price_options

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
        cache: CacheLike = None,
        cost_tracker: CostTrackerConfig | CostTracker | None = None,
        concurrency_limit: int = DEFAULT_CONCURRENCY,
        max_qps: float | None = None,
        min_qps: float | None = None,
        max_rpm: float | None = None,
        max_tpm: float | None = None,
        max_input_tpm: float | None = None,
        max_output_tpm: float | None = None,
        burst: int | None = None,
        adaptive: bool = True,
        retry_times: int = 3,
        retry_delay: float = 1.0,
        timeout: float = 120.0,
        total_timeout: float | None = DEFAULT_TOTAL,
        connect_timeout: float = 10.0,
        stream_timeout: float | None = None,
        on_truncated: OnReply = "keep",
        on_invalid: OnReply = "error",
        hedge: float | HedgePolicy | None = None,
        headers: Mapping[str, str] | None = None,
        proxies: Proxies | None = None,
        verify: Verify | None = None,
        cert: Cert | None = None,
        trust_env: bool = True,
        session: requests.Session | None = None,
        auth: Callable[[], Headers | Mapping[str, str]] | None = None,
        media: MediaOptions | None = None,
        system: str | None = None,
        user_template: str | None = None,
        params: Mapping[str, Any] | None = None,
        price: PriceLike | None = None,
        prices: Mapping[str, PriceLike] | None = None,
        endpoints: Sequence[EndpointConfig | Mapping[str, Any]] | None = None,
        clients: Sequence[BaseClient] | None = None,
        load_balance: str = "round_robin",
        fallback: bool = True,
        failure_threshold: int = DEFAULT_FAILURE_THRESHOLD,
        recovery_time: float = DEFAULT_RECOVERY_TIME,
        total_concurrency_limit: int | None = None,
        total_max_qps: float | None = None,
    ) -> None:
        _check_types(model, headers, auth, media)
        if self._provider != "auto" and provider not in (None, "auto", self._provider):
            raise ConfigError(
                _(
                    "provider={provider!r} is not what {kind} asks; use LLMClient",
                    provider=provider,
                    kind=type(self).__name__,
                )
            )
        self._options = EndpointOptions(
            provider=self._provider if provider in (None, "", "auto") else provider,
            model=model,
            base_url=base_url,
            api_key=api_key or NO_KEY,
            headers=as_headers(headers),
            rate_limit=RateLimit(
                concurrency=concurrency_limit, max_qps=max_qps, min_qps=min_qps, max_rpm=max_rpm, max_tpm=max_tpm,
                max_input_tpm=max_input_tpm, max_output_tpm=max_output_tpm, burst=burst, adaptive=adaptive,
            ),
            transport=TransportOptions(
                timeout=timeout, connect_timeout=connect_timeout, stream_timeout=stream_timeout, proxies=proxies,
                verify=verify, cert=cert, trust_env=trust_env, connections=concurrency_limit,
            ),
            media=media or MediaOptions(), prices=price_options(price, prices),
        )  # fmt: skip
        pool = PoolOptions(
            load_balance=load_balance, fallback=fallback, failure_threshold=failure_threshold,
            recovery_time=recovery_time, total_concurrency_limit=total_concurrency_limit, total_max_qps=total_max_qps,
        )  # fmt: skip
        self._pool: PoolOptions | None = None
        self._endpoints: Sequence[Endpoint]
        if endpoints is None and clients is None:
            _check_alone(pool)
            self._endpoints = (build_endpoint(self._options, session=session, authorise=auth, model=model),)
            self.model = model
        else:
            if auth is not None:
                raise ConfigError(
                    _("auth belongs to one endpoint; make a client with it, and the pool of clients=[...]")
                )
            self._pool = pool
            self._endpoints = pool_endpoints(self._options, endpoints, clients, session)
            self.model = pool_model(self._endpoints, model)
        self._build_attempts = partial(
            build_attempts,
            build_choice(self._endpoints, self._pool),
            retry=RetryPolicy(retry_times=retry_times, retry_delay=retry_delay, total_timeout=total_timeout),
            hedge=_hedge_policy(hedge),
            model=self.model,
        )
        self._attempts = self._build_attempts()
        self._defaults = request_defaults(system, user_template, params)
        self._replies = ReplyPolicy(on_truncated=on_truncated, on_invalid=on_invalid)
        self._tracker = as_tracker(cost_tracker, self._attempts, self.model)
        self._uncached = self._backend = self._stack(self._attempts)
        self._cache, self._owns_cache = as_cache(cache)
        self._keys = RequestKeys(key_scope(self._endpoints, self._cache), self._options.media)
        if self._cache is not None:
            self._backend = CachedBackend(self._uncached, KeptAnswers(self._cache), self._keys)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._executor = None  # its threads are the parent's
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        options, pool = self._options, self._pool
        if pool is not None:
            return (
                f"{type(self).__name__}(endpoints={len(self._endpoints)}, load_balance={pool.load_balance!r}, "
                f"fallback={pool.fallback})"
            )
        return (
            f"{type(self).__name__}(model={self.model!r}, base_url={options.base_url!r}, "
            f"api_key={mask_key(options.api_key)!r}, concurrency_limit={options.rate_limit.concurrency})"
        )

    @classmethod
    def from_config(cls: type[Self], model: str | None = None, path: str | None = None, **options: Any) -> Self:
        """Return a client for a model of the configuration file, or for what the environment names.

        What the entry says of `system`, `user_template` and `params` holds for each request that says nothing else.

        Args:
            model: The id or name of an entry, or a model of the server that the environment names; None means what the
                environment says (`FLEXLLM_MODEL`), else the file's default.
            path: The file, instead of `FLEXLLM_CONFIG` or ~/.flexllm/config.yaml.
            options: Those of the constructor.

        Raises:
            ConfigError: The file is wrong, names no such model, or one of a provider that is not this client's; its entry
                asks for a variable that is not set, or for a command (`api_key_cmd`) that fails; or its template has
                places that only the rows of an input file can fill.
        """
        found = resolve_endpoint(load_config(path), model=model)
        if cls._provider == "auto":
            options["provider"] = found.provider
        elif found.provider not in ("auto", cls._provider):
            raise ConfigError(
                _(
                    "{source} is of provider {provider!r}, which {kind} does not ask; use LLMClient",
                    source=found.source,
                    provider=found.provider,
                    kind=cls.__name__,
                )
            )
        options = found.client_options(options)
        return cls(model=found.model, base_url=found.base_url, api_key=found.api_key, **options)

    def model_list(self) -> list[str]:
        """Return the ids of the models that the server offers, in its order.

        Raises:
            RequestError: Every attempt failed; its class says how.
        """
        return self._backend.models(current())

    def credits(self) -> Balance:
        """Return what is left of the account that this client asks with: amounts in `currency`, None where it is unknown.

        OpenRouter, SiliconFlow, DeepSeek, AI/ML API, Moonshot and, for keys of resellers, OpenAI tell it.

        Raises:
            ConfigError: The service has no such request, for the reason that it says; or this is a pool.
            RequestError: It did not answer, or refused.
        """
        if len(self._endpoints) != 1:
            raise ConfigError(_("a pool asks several accounts; make a client for the one whose balance you want"))
        return self._endpoints[0].balance(current())

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

    @property
    def stats(self) -> dict[str, Any]:
        """How the endpoints do, JSON-able, as `num_endpoints` and `endpoints` with the counts, state and latency of each."""
        health = [one.as_dict() for one in self._backend.health()]
        how = {"load_balance": self._pool.load_balance, "fallback": self._pool.fallback} if self._pool else {}
        return {"num_endpoints": len(health), **how, "endpoints": health}

    @property
    def cost_report(self) -> CostReport:
        """What all calls of this client have cost. Without a `cost_tracker` nothing is counted."""
        return CostReport(model=self.model or "") if self._tracker is None else self._tracker.get_report()

    def cache_key(self, messages: Messages, model: str | None = None, **params: Any) -> str:
        """Return what the response cache knows the answer to a request of this client by."""
        return cache_key(self._keys.digest(self._request(messages, model, params)), 0)

    # --- the end

    def close(self) -> None:
        """Close idle connections, and threads that have nothing to do. What is under way goes on to its end."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self._backend.close()
        if self._cache is not None and self._owns_cache:
            self._cache.close()

    async def aclose(self) -> None:
        """Close, from asynchronous code: on a thread of its own, for a cache writes what it has not written yet."""
        with ThreadPoolExecutor(1, thread_name_prefix="flexllm-close") as thread:
            await aio.call(thread, self.close)

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
        return make_request(messages, model or self.model or "", params, self._defaults)

    def _threads(self) -> Executor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._workers() + SPARE_THREADS, thread_name_prefix="flexllm-async")
            return self._executor

    def _workers(self) -> int:
        """Return how many requests may be under way at the same time."""
        workers = sum(one.gate.limit.concurrency for one in self._endpoints)
        most = self._pool.total_concurrency_limit if self._pool is not None else None
        return workers if most is None else min(workers, most)

    def _answering(self, skip_cache: bool, *, with_body: bool = False) -> Backend:
        """Return what answers one call."""
        if skip_cache or self._cache is None:
            return self._uncached
        if not with_body:
            return self._backend
        return CachedBackend(self._uncached, KeptAnswers(self._cache, with_body=True), self._keys)

    def _stack(self, attempts: Attempts, *more: CostTracker) -> Backend:
        """Return what answers, below the cache: attempts that this client's tracker counts, and `more` of a run's own."""
        trackers = [one for one in (self._tracker, *more) if one is not None]
        return build_backend(attempts, replies=self._replies, trackers=trackers)

    def _cancel(self) -> CancelToken:
        outer = current()
        return outer.child() if outer is not None else CancelToken()


def _hedge_policy(hedge: float | HedgePolicy | None) -> HedgePolicy | None:
    if hedge is None or isinstance(hedge, HedgePolicy):
        return hedge
    if isinstance(hedge, bool) or not isinstance(hedge, (int, float)) or not 0 < hedge < 1:
        raise ConfigError(
            _("hedge={hedge!r} must be a quantile between 0 and 1, such as 0.95, or a HedgePolicy", hedge=hedge)
        )
    return HedgePolicy(quantile=hedge)


def _check_types(model: object, headers: object, auth: object, media: object) -> None:
    """Refuse arguments that no room below looks at as they are given."""
    if model is not None and not isinstance(model, str):
        raise ConfigError(_("model={model!r} must be the name of a model", model=model))
    if media is not None and not isinstance(media, MediaOptions):
        raise ConfigError(_("media must be made by MediaOptions(...), not of type {kind}", kind=type(media).__name__))
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigError(
            _("headers must be a mapping of names to values, not of type {kind}", kind=type(headers).__name__)
        )
    if auth is not None and not callable(auth):
        raise ConfigError(_("auth must be a function that gives headers, not of type {kind}", kind=type(auth).__name__))


def _check_alone(pool: PoolOptions) -> None:
    """Refuse what only several endpoints can obey."""
    for name in ("total_concurrency_limit", "total_max_qps"):
        if getattr(pool, name) is not None:
            one = "concurrency_limit" if name == "total_concurrency_limit" else "max_qps"
            raise ConfigError(
                _("{name} is for several endpoints together; for one give {option}", name=name, option=one)
            )
