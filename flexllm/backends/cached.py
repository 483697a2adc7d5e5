"""A response cache in front of whatever answers: looked up first, filled with what was bought."""

from __future__ import annotations

from collections.abc import Iterator

from ..cache.key import RequestKeys, cache_key
from ..cache.values import KeptAnswers
from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, as_chunk
from ..errors import InputError
from ..health import EndpointHealth
from .base import Backend


class CachedBackend:
    """Answers from the cache where it can. Equal requests get the same answer. May be shared by threads.

    Args:
        below: Answers what is not known; only what it accepts is kept.
        kept: Finds and keeps answers.
        keys: Name requests.
    """

    def __init__(self, below: Backend, kept: KeptAnswers, keys: RequestKeys) -> None:
        self._below = below
        self._kept = kept
        self._keys = keys

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer; its `cached` says where it is from. Raises what is raised below."""
        key = self._key(request)
        found = self._kept.find(key, request) if key else None
        if found is not None:
            return found
        result = self._below.complete(request, cancel)
        if key:
            self._kept.keep(key, request, result)
        return result

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces, then the whole; an answer from the cache is one piece. A broken stream is not kept."""
        key = self._key(request)
        found = self._kept.find(key, request) if key else None
        if found is not None:
            yield as_chunk(found)
            yield found
            return
        for piece in self._below.stream(request, cancel):
            if key and isinstance(piece, ChatCompletionResult):
                self._kept.keep(key, request, piece)
            yield piece

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below offers."""
        return self._below.models(cancel)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how the endpoints below do."""
        return self._below.health()

    def close(self) -> None:
        """Close what is below, and write what the cache has not written yet."""
        self._kept.flush()
        self._below.close()

    def _key(self, request: ChatRequest) -> str:
        try:
            return cache_key(self._keys.digest(request), 0)
        except InputError:  # below it is told what is wrong with the request
            return ""
