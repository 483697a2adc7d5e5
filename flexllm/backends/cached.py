"""A response cache in front of whatever answers: looked up first, filled with what was bought."""

from __future__ import annotations

from collections.abc import Iterator

from ..cache.codec import is_storable
from ..cache.key import RequestKeys, cache_key
from ..cache.store import ResponseCache
from ..cache.values import wants_json, with_value
from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, as_chunk
from ..errors import InputError
from ..health import EndpointHealth
from .base import Backend


class CachedBackend:
    """Answers from the cache where it can. Equal requests get the same answer. May be shared by threads.

    Args:
        below: Answers what the cache does not know; only what it accepts is kept.
        cache: Shared with others.
        keys: Name requests.
        with_body: Answers are wanted with the untouched body; what is kept without one is asked again.
    """

    def __init__(self, below: Backend, cache: ResponseCache, keys: RequestKeys, *, with_body: bool = False) -> None:
        self._below = below
        self._cache = cache
        self._keys = keys
        self._with_body = with_body

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer; its `cached` says where it is from. Raises what is raised below."""
        key = self._key(request)
        found = self._find(key, request)
        if found is not None:
            return found
        result = self._below.complete(request, cancel)
        self._keep(key, request, result)
        return result

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces, then the whole; an answer from the cache is one piece. A broken stream is not kept."""
        key = self._key(request)
        found = self._find(key, request)
        if found is not None:
            yield as_chunk(found)
            yield found
            return
        for piece in self._below.stream(request, cancel):
            if isinstance(piece, ChatCompletionResult):
                self._keep(key, request, piece)
            yield piece

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below offers."""
        return self._below.models(cancel)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how the endpoints below do."""
        return self._below.health()

    def close(self) -> None:
        """Close what is below, and write what the cache has not written yet."""
        self._cache.flush()
        self._below.close()

    def _key(self, request: ChatRequest) -> str:
        try:
            return cache_key(self._keys.digest(request), 0)
        except InputError:  # below it is told what is wrong with the request
            return ""

    def _find(self, key: str, request: ChatRequest) -> ChatCompletionResult | None:
        found = self._cache.get(key, with_body=self._with_body) if key else None
        if found is None or (self._with_body and found.body is None):
            return None
        return with_value(found, request)

    def _keep(self, key: str, request: ChatRequest, result: ChatCompletionResult) -> None:
        config = self._cache.config
        if key and is_storable(result, wants_json(request), incomplete=config.store_incomplete):
            self._cache.put(key, result, with_body=self._with_body or config.store_raw)
