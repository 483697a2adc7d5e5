"""The options of a mock server and what is allowed for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .faults import parse_shares
from .replies import check_fields

MAX_AMOUNT = 1e12  # seconds or requests: enough for all that is meant, and nothing that a clock cannot add


@dataclass(frozen=True, slots=True, kw_only=True)
class MockOptions:
    """How a mock server answers.

    Attributes:
        port: 0 picks a free one.
        delay: Seconds before a completion or an injected failure; a pair is a seeded, uniform choice between the two.
        error_rate: Share of the correct chat requests, 0 to 1, answered with `error_status` instead. Which ones, in
            the order of arrival, depends on `seed` alone.
        faults: Share of the correct chat requests that each fault strikes, together at most 1: a mapping, or a text
            such as "rate_limited:0.1,hang:0.02". Names: see `faults.FAULTS`. Which ones depends on `seed` alone.
        rate_limit: Chat requests per second; above it a 429. None means not limited.
        rate_burst: How many requests the limit lets through at once, at the start or after a pause.
        token_rate_limit: Tokens per minute, of prompts (estimated) and answers; above it a 429. A minute's tokens may
            pass at once, and a request with more of them never does. None means not limited.
        concurrency_limit: How many chat requests may be under way; above it a 429. None means not limited.
        rate_headers: Whether every chat reply tells in its headers what `rate_limit` and `token_rate_limit` still
            allow, as its dialect does; Gemini's has no such headers.
        retry_after: Seconds that every unscripted 429 asks to wait, and the fault `rate_limited`: in Retry-After, or
            in Gemini's RetryInfo. None: they give no hint at all.
        hang_seconds: How long the fault `hang` holds a client that does not leave.
        model: The first id that /v1/models lists; `models` are further ones. Requests may name any model.
        api_key: If given, any other key is a 401. None means not checked.
        token_delay: Seconds between streamed pieces.
        openai_dialect: How strict the OpenAI dialect is. "any": like a server that takes what vLLM, Ollama, DeepSeek,
            Qwen and others are known to take besides OpenAI's own fields. "openai": like OpenAI itself, which takes
            nothing else, differs between its models, and does not show reasoning.
    """

    host: str = "127.0.0.1"
    port: int = 0
    delay: float | tuple[float, float] = 0.0
    error_rate: float = 0.0
    error_status: int = 500
    faults: Mapping[str, float] | str = field(default_factory=dict)
    rate_limit: float | None = None
    rate_burst: int = 1
    token_rate_limit: float | None = None
    concurrency_limit: int | None = None
    rate_headers: bool = False
    retry_after: float | None = 1
    hang_seconds: float = 600.0
    seed: int = 0
    model: str = "mock-model"
    models: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    token_delay: float = 0.0
    openai_dialect: Literal["any", "openai"] = "any"

    def __post_init__(self) -> None:
        pair = self.delay_range
        is_delay = len(pair) == 2 and all(_is_amount(end) for end in pair) and pair[0] <= pair[1]
        is_names = isinstance(self.models, tuple) and all(isinstance(name, str) and name for name in self.models)
        is_key = self.api_key is None or (isinstance(self.api_key, str) and self.api_key != "")
        limit = "None, or more than 0 per"
        check_fields(
            self,
            port=(_is_whole(self.port, 0, 65535), "0 to 65535"),
            delay=(is_delay, "seconds, at least 0, or a tuple (low, high) of them"),
            error_rate=(_is_amount(self.error_rate) and self.error_rate <= 1, "0 to 1"),
            error_status=(_is_whole(self.error_status, 400, 599), "400 to 599"),
            rate_limit=(_is_limit(self.rate_limit), f"{limit} second"),
            rate_burst=(_is_whole(self.rate_burst, 1), "at least 1"),
            token_rate_limit=(_is_limit(self.token_rate_limit), f"{limit} minute"),
            concurrency_limit=(
                self.concurrency_limit is None or _is_whole(self.concurrency_limit, 1),
                "None, 1 or more",
            ),
            rate_headers=(isinstance(self.rate_headers, bool), "True, False"),
            retry_after=(self.retry_after is None or _is_amount(self.retry_after), "None, or seconds, at least 0"),
            hang_seconds=(_is_amount(self.hang_seconds), "seconds, at least 0"),
            model=(isinstance(self.model, str) and bool(self.model), "a name"),
            models=(is_names, "a tuple of names"),
            token_delay=(_is_amount(self.token_delay), "seconds, at least 0"),
            openai_dialect=(self.openai_dialect in ("any", "openai"), "'any', 'openai'"),
        )
        if not is_key:  # not with its value, as above: it might be a real one
            raise ValueError("api_key is not a key; allowed: None, or a text that is not empty")
        parse_shares(self.faults)

    @property
    def delay_range(self) -> tuple[float, float]:
        """The shortest and the longest delay in seconds."""
        return self.delay if isinstance(self.delay, tuple) else (self.delay, self.delay)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Every model listed, each once."""
        return tuple(dict.fromkeys((self.model, *self.models)))


CHANGEABLE = (
    "delay",
    "error_rate",
    "error_status",
    "faults",
    "rate_limit",
    "rate_burst",
    "token_rate_limit",
    "concurrency_limit",
    "rate_headers",
    "retry_after",
    "hang_seconds",
    "api_key",
    "token_delay",
)
"""The options that may change while a server runs."""


def changed(options: MockOptions, changes: Mapping[str, Any]) -> MockOptions:
    """Return options with some of them changed; raise `ValueError` for one that is wrong or cannot change.

    A delay may be a list of two, as JSON has it.
    """
    for name in changes:
        if name not in CHANGEABLE:
            raise ValueError(f"{name[:60]!r} is no option that can change; there are: {', '.join(CHANGEABLE)}")
    delay = changes.get("delay")
    return replace(options, **{**changes, "delay": tuple(delay)} if isinstance(delay, list) else changes)


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= MAX_AMOUNT


def _is_limit(value: object) -> bool:
    return value is None or (_is_amount(value) and value != 0)


def _is_whole(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
