"""Tries a server out step by step: does it list its models, and does it answer? What failed, and what to do, is `advice`'s.

Imported when a command runs, not when the parser is made.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..chat import ChatCompletionResult, Chunk
from ..config.endpoint import DEFAULT
from ..error_fields import error_fields
from ..errors import ConfigError, ConnectionFailed, FlexLLMError, RequestTimeout
from ..language import _
from ..wire import NO_KEY, mask_key

if TYPE_CHECKING:
    from ..client import LLMClient
    from ..config import ResolvedEndpoint

QUESTION = "Say hello, in one word."

MOST_NAMED = 5
"""Models of a list that are named."""


@dataclass(slots=True, kw_only=True)
class Checkup:
    """What was found out about one server. Times are in seconds; None is unknown, or was not tried.

    Attributes:
        place: Its base URL, also where that is the provider's own.
        format: The wire format that is spoken with it.
        model: What is asked; "" as long as nobody named one.
        listed: The ids that it lists.
        list_error: Why it lists none. That alone is no failure.
        first: Until the first token of the answer.
        total: Until its last.
        error: What went wrong.
        better_url: Where it does list models, if not at `place`.
    """

    server: ResolvedEndpoint
    place: str
    format: str
    model: str
    listed: list[str] | None = None
    list_seconds: float | None = None
    list_error: FlexLLMError | None = None
    first: float | None = None
    total: float | None = None
    result: ChatCompletionResult | None = None
    error: FlexLLMError | None = None
    better_url: str | None = None
    advice: list[str] = field(default_factory=list)

    @property
    def has_model(self) -> bool | None:
        """Whether the model that is asked is among those that are listed."""
        return None if self.listed is None or not self.model else self.model in self.listed

    def look_up_models(self, client: LLMClient) -> None:
        """Take the list of models. A server that cannot be reached at all is an `error`."""
        started = time.perf_counter()
        try:
            self.listed = client.model_list()
        except FlexLLMError as error:
            self.list_error = error
            if isinstance(error, ConnectionFailed) and not isinstance(error, RequestTimeout):
                self.error = error
        self.list_seconds = time.perf_counter() - started
        if not self.model and self.listed is not None and len(self.listed) == 1:
            self.model = self.listed[0]

    def ask(self, client: LLMClient) -> None:
        """Ask a short question, streamed."""
        if not self.model:
            self.error = self._unnamed()
            return
        started = time.perf_counter()
        try:
            for piece in client.stream_chunks_sync(QUESTION, model=self.model):
                if isinstance(piece, ChatCompletionResult):
                    self.result = piece
                elif self.first is None and _says_something(piece):
                    self.first = time.perf_counter() - started
        except FlexLLMError as error:
            self.error = error
        self.total = time.perf_counter() - started

    def source(self, name: str) -> str | None:
        """Return where "model", "base_url" or "api_key" comes from, for people; None if nobody gave it."""
        found = self.server.sources.get(name, self.server.source)
        return None if found == DEFAULT else found

    def nearest(self) -> Sequence[str]:
        """Return the ids of the list that are most like the model that is asked."""
        return difflib.get_close_matches(self.model, self.listed or (), n=3)

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-able; no key is shown."""
        result, listed = self.result, self.listed
        question = None
        if self.total is not None:
            question = {
                "first_token_seconds": _rounded(self.first),
                "seconds": _rounded(self.total),
                "answer": None if result is None else result.content,
                "model": None if result is None else result.model,
                "usage": None if result is None else result.usage,
                "cost": None if result is None else result.cost,
            }
        return {
            "ok": self.error is None,
            "base_url": self.place,
            "format": self.format,
            "model": self.model or None,
            "api_key": None if self.server.api_key == NO_KEY else mask_key(self.server.api_key),
            "sources": {name: self.source(name) for name in ("base_url", "model", "api_key")},
            "models": {
                "seconds": _rounded(self.list_seconds),
                "ids": listed,
                "has_model": self.has_model,
                "error": None if self.list_error is None else error_fields(self.list_error),
            },
            "question": question,
            "error": None if self.error is None else error_fields(self.error),
            "advice": self.advice,
        }

    def _unnamed(self) -> ConfigError:
        if not self.listed:
            return ConfigError(_("nobody says which model is to be asked: give -m NAME"))
        models = ", ".join(self.listed[:MOST_NAMED])
        return ConfigError(
            _(
                "nobody says which model is to be asked: give -m with one of those at {place}: {models}",
                place=self.place,
                models=models,
            )
        )


def other_urls(place: str) -> list[str]:
    """Return where a server in OpenAI's format may really be, if not at a base URL as it was given."""
    for end in ("/chat/completions", "/completions", "/models"):
        if place.endswith(end):
            return [place.removesuffix(end)]
    return [] if place.endswith("/v1") else [f"{place}/v1", f"{place}/api/v1"]


def _says_something(piece: Chunk) -> bool:
    return bool(piece.content or piece.reasoning_content or piece.tool_calls)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
