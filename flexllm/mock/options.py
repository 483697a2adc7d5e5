"""The options of a mock server and what is allowed for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .replies import check_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class MockOptions:
    """How a mock server answers.

    Attributes:
        port: 0 picks a free one.
        delay: Seconds before a completion or an injected failure; a pair is a seeded, uniform choice between the two.
        error_rate: Share of the correct chat requests, 0 to 1, answered with `error_status` instead. Which ones, in
            the order of arrival, depends on `seed` alone.
        rate_limit: Chat requests per second; above it a 429. None means not limited.
        rate_burst: How many requests the limit lets through at once, at the start or after a pause.
        retry_after: Seconds, sent as Retry-After with every unscripted 429.
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
    rate_limit: float | None = None
    rate_burst: int = 1
    retry_after: float = 1
    seed: int = 0
    model: str = "mock-model"
    models: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    token_delay: float = 0.0
    openai_dialect: Literal["any", "openai"] = "any"

    def __post_init__(self) -> None:
        pair = self.delay_range
        is_delay = len(pair) == 2 and all(isinstance(end, (int, float)) for end in pair) and 0 <= pair[0] <= pair[1]
        is_names = isinstance(self.models, tuple) and all(isinstance(name, str) and name for name in self.models)
        check_fields(
            self,
            port=(0 <= self.port <= 65535, "0 to 65535"),
            delay=(is_delay, "seconds, at least 0, or a tuple (low, high) of them"),
            error_rate=(0 <= self.error_rate <= 1, "0 to 1"),
            error_status=(400 <= self.error_status <= 599, "400 to 599"),
            rate_limit=(self.rate_limit is None or self.rate_limit > 0, "None, or more than 0 per second"),
            rate_burst=(self.rate_burst >= 1, "at least 1"),
            retry_after=(self.retry_after >= 0, "seconds, at least 0"),
            model=(bool(self.model), "a name"),
            models=(is_names, "a tuple of names"),
            api_key=(self.api_key != "", "None, or a key"),
            token_delay=(self.token_delay >= 0, "seconds, at least 0"),
            openai_dialect=(self.openai_dialect in ("any", "openai"), "'any', 'openai'"),
        )

    @property
    def delay_range(self) -> tuple[float, float]:
        """The shortest and the longest delay in seconds."""
        return self.delay if isinstance(self.delay, tuple) else (self.delay, self.delay)

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Every model listed, each once."""
        return tuple(dict.fromkeys((self.model, *self.models)))
