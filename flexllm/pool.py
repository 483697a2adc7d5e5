"""Several endpoints as one client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .client.base import BaseClient
from .client.llm import LLMClient
from .options import EndpointConfig


class LLMClientPool(LLMClient):
    """Asks several endpoints as if they were one: `LLMClient(endpoints=[...])` under its own name.

    Each attempt goes to the endpoint that the strategy names, among those that are well and have room. A batch feeds all
    of them from one queue, so that a fast one takes more rows. A row that fails on one endpoint goes on to another that
    has not failed it, within `retry_times` retries over all of them, or one attempt at each if there are more endpoints
    than that. An endpoint that fails `failure_threshold` times in a row is left alone for `recovery_time`, then one
    request tries it; one that refuses the key, the account or the model is left alone for an hour. A 429 closes it for as
    long as it asks. While none can be asked, requests wait for the first to return, within `total_timeout`.

    Args:
        endpoints: Of `EndpointConfig`, or dictionaries of their fields.
        clients: Clients whose endpoints are asked, instead or besides; they stay open when the pool is closed.
        load_balance: "round_robin", "weighted" (by chance and `weight`), "random", "fallback" (always the first that is
            well) or "least_busy" (by latency and free places).
        fallback: Whether a row that failed on one endpoint goes on to another.
        options: Those of `LLMClient`. `concurrency_limit` and the rates are for each endpoint that has none of its own;
            `total_concurrency_limit` and `total_max_qps` are for all together.

    Raises:
        ConfigError: Neither endpoints nor clients are given, or an option is wrong (it is a ValueError too).
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointConfig | Mapping[str, Any]] | None = None,
        clients: Sequence[BaseClient] | None = None,
        load_balance: str = "round_robin",
        fallback: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            endpoints=endpoints or (), clients=clients, load_balance=load_balance, fallback=fallback, **options
        )
