"""Kept answers as those see them who ask: fit for the request, with the value that its `response_format` asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..chat import ChatCompletionResult, ChatRequest
from ..errors import SchemaMismatch
from ..schema import parse_reply
from .codec import is_storable
from .store import ResponseCache

log = logging.getLogger(__name__)

_JSON = ("json_object", "json_schema")


def wants_json(request: ChatRequest) -> bool:
    """Return whether a request asks for an answer in JSON, whose value `parsed` then is."""
    wanted = request.params.get("response_format")
    return isinstance(wanted, Mapping) and wanted.get("type") in _JSON


def with_value(result: ChatCompletionResult, request: ChatRequest) -> ChatCompletionResult | None:
    """Return a kept answer with its value in `parsed`; None if it is not, or no more, what the request asks for."""
    if not wants_json(request) or result.tool_calls:
        return result
    try:
        return replace(result, parsed=parse_reply(result.content, request.params["response_format"]))
    except SchemaMismatch:
        return None
    except (
        Exception
    ) as error:  # a class's own checks may raise anything; the row is asked, and whoever answers it tells
        log.debug("a kept answer cannot be made what was asked for: %s", error)
        return None


class KeptAnswers:
    """A cache as those who ask see it: answers that fit the request, and the rule of which are kept.

    Args:
        cache: Shared with others.
        with_body: Answers are wanted with the untouched body; what is kept without one does not fit.
    """

    def __init__(self, cache: ResponseCache, *, with_body: bool = False) -> None:
        self._cache = cache
        self._with_body = with_body

    def find(self, key: str, request: ChatRequest) -> ChatCompletionResult | None:
        """Return the answer to a request, None if there is none that fits."""
        found = self._cache.get(key, with_body=self._with_body)
        return None if found is None else self._fitting(found, request)

    def find_many(self, wanted: Sequence[tuple[str, ChatRequest]]) -> list[ChatCompletionResult | None]:
        """Return the answers to many requests, in their order, after one look at the disk."""
        found = self._cache.get_many([key for key, _ in wanted], with_body=self._with_body)
        if not found:
            return [None] * len(wanted)
        return [self._fitting(found[key], request) if key in found else None for key, request in wanted]

    def keep(self, key: str, request: ChatRequest, result: ChatCompletionResult) -> None:
        """Keep a fresh answer if it may be kept."""
        config = self._cache.config
        if is_storable(result, wants_json(request), incomplete=config.store_incomplete):
            self._cache.put(key, result, with_body=self._with_body or config.store_raw)

    def flush(self) -> None:
        """Write what is not on disk yet."""
        self._cache.flush()

    def _fitting(self, found: ChatCompletionResult, request: ChatRequest) -> ChatCompletionResult | None:
        if self._with_body and found.body is None:
            return None
        return with_value(found, request)
