"""The face of whatever answers one request: an endpoint, several of them, a cache in front."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..health import EndpointHealth


class Backend(Protocol):
    """Answers one request at a time for each thread; may be shared by threads. Backends stack."""

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer. Raises RequestError when there is none, RequestCancelled when `cancel` is stopped."""

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces of the answer as they arrive, then, as the last, the whole."""

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return the ids of the models that can be asked here."""

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how each endpoint that is asked here does."""

    def close(self) -> None:
        """Close connections."""


class Leave(Protocol):
    """Asked before a request that is under way is sent once more: a budget may not allow it. From any thread."""

    def again(self, lost: float) -> bool:
        """Return whether it may be sent again, after an attempt that was billed `lost` US dollars for nothing."""

    def beside(self) -> bool:
        """Return whether it may be sent a second time while the first is under way, where both may be billed."""


class RepeatingBackend(Backend, Protocol):
    """A backend that may send a request more than once."""

    def complete(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> ChatCompletionResult:
        """Return the answer; `leave` is asked before each further attempt, None allows them."""

    def stream(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield pieces, then the whole; `leave` as in `complete`."""
