"""Structured output in front of any backend: replies become values, and one that does not fit may be corrected once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk, Usage
from ..errors import ConfigError, SchemaMismatch
from ..messages import Message
from ..schema import ResponseFormat, check_format, parse_reply
from .base import Backend

_READ = frozenset({"json_object", "json_schema"})
"""The types of `response_format` whose replies are JSON. Others ("text", a server's own) are left as they are."""


class StructuredBackend:
    """Fills in `parsed` where a request has a `response_format`. May be shared by threads.

    Args:
        below: Answers.
        endpoint: The base URL that `below` asks, for errors; None where it is not one.
    """

    def __init__(self, below: Backend, *, endpoint: str | None = None) -> None:
        self._below = below
        self._endpoint = endpoint

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer, with its value in `parsed`.

        A reply that calls tools or that the provider's filter cut has no value; it is returned as it is. With the repair
        round the result's usage, latency and attempts are those of both requests.

        Raises:
            SchemaMismatch: The reply is not what was asked for, in the repair round too where there was one.
            ConfigError: The schema cannot be used; nothing was sent.
        """
        wanted = request.params.get("response_format")
        if wanted is None or not _is_read(wanted):
            return self._below.complete(request, cancel)
        first = self._below.complete(request, cancel)
        try:
            return _parsed(first, wanted)
        except SchemaMismatch as error:
            mismatch = error
        if not (isinstance(wanted, ResponseFormat) and wanted.repair) or first.finish_reason == "length":
            raise self._told(mismatch, request, first)
        again = _added(first, self._below.complete(_repair_request(request, first, mismatch), cancel))
        try:
            return _parsed(again, wanted)
        except SchemaMismatch as error:
            error.args = (f"{error} (after one round of repair)",)
            raise self._told(error, request, again) from mismatch

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces, then the whole with its value in `parsed`.

        Raises:
            ConfigError: At once: the schema cannot be used, or repair is asked for. What is handed on cannot be repaired.
            SchemaMismatch: In the place of the whole, when all of the text has been handed on.
        """
        wanted = request.params.get("response_format")
        if wanted is None or not _is_read(wanted):
            return self._below.stream(request, cancel)
        if isinstance(wanted, ResponseFormat) and wanted.repair:
            raise ConfigError(
                "repair=True cannot be used with a stream: its text is handed on before it can be checked"
            )
        return self._stream(request, wanted, cancel)

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below offers."""
        return self._below.models(cancel)

    def close(self) -> None:
        """Close what is below."""
        self._below.close()

    def _stream(
        self, request: ChatRequest, wanted: Mapping[str, Any], cancel: CancelToken | None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        for piece in self._below.stream(request, cancel):
            if isinstance(piece, ChatCompletionResult):
                try:
                    piece = _parsed(piece, wanted)
                except SchemaMismatch as error:
                    raise self._told(error, request, piece) from error.__cause__
            yield piece

    def _told(self, error: SchemaMismatch, request: ChatRequest, result: ChatCompletionResult) -> SchemaMismatch:
        error.endpoint = self._endpoint
        error.model = request.model
        error.attempts = result.attempts
        error.request_id = result.request_id
        error.usage = result.usage
        return error


def _is_read(wanted: Any) -> bool:
    """Return whether replies are to be read. Raises ConfigError for a plain dictionary with a useless schema."""
    if not isinstance(wanted, Mapping) or wanted.get("type") not in _READ:
        return False
    if not isinstance(wanted, ResponseFormat):  # from a file, say; a ResponseFormat was checked when it was made
        check_format(wanted)
    return True


def _parsed(result: ChatCompletionResult, wanted: Mapping[str, Any]) -> ChatCompletionResult:
    if result.tool_calls or result.finish_reason == "content_filter":
        return result
    try:
        return replace(result, parsed=parse_reply(result.content, wanted))
    except SchemaMismatch as error:
        if result.finish_reason == "length":
            error.args = (f"the answer was cut at the token limit; raise max_tokens ({error})",)
        elif result.finish_reason == "error":
            error.args = (f"the answer broke off: {result.native_finish_reason or 'error'} ({error})",)
        raise


def _repair_request(request: ChatRequest, result: ChatCompletionResult, mismatch: SchemaMismatch) -> ChatRequest:
    complaint: Message = {
        "role": "user",
        "content": f"That cannot be used: {mismatch}. Reply with the corrected JSON alone, without any other text.",
    }
    return replace(request, messages=[*request.messages, result.assistant_message, complaint])


def _added(first: ChatCompletionResult, second: ChatCompletionResult) -> ChatCompletionResult:
    """Return the second result, with what both of them took. A reply from the cache was paid for when it was made."""
    paid = [one.usage for one in (first, second) if not one.cached]
    usage = _sum(*paid) if len(paid) == 2 else paid[0] if paid else second.usage
    return replace(
        second,
        usage=Usage(usage) if usage is not None else None,
        latency=_sum(first.latency, second.latency),
        attempts=first.attempts + second.attempts,
        cached=first.cached and second.cached,
    )


def _sum(first: Any, second: Any) -> Any:
    """Return two counts, or two mappings of counts, added up; of anything else the second, or the one that is there."""
    if first is None or second is None:
        return first if second is None else second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {name: _sum(first.get(name), second.get(name)) for name in {**first, **second}}
    if _is_count(first) and _is_count(second):
        return first + second
    return second


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
