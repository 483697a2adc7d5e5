"""Whether a reply is what was asked for, in front of any backend: whole, and where a form was asked for, of that form.

A reply to a request with a `response_format` becomes its value. One that is cut or does not fit is kept, refused or asked
for once more, as the policy and the request say; what that second request is stands in `again.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..errors import (
    AllEndpointsFailed,
    BudgetExceededError,
    ConfigError,
    FlexLLMError,
    InputError,
    RejectedReply,
    ReplyTruncated,
    RequestCancelled,
    RequestError,
    SchemaMismatch,
)
from ..health import EndpointHealth
from ..language import _, mark
from ..replies import ReplyPolicy
from ..schema import ResponseFormat, check_format, complaint, parse_reply
from .again import added, better, tokens_of, was_cut, why_cut, with_complaint, with_more_tokens
from .base import Backend

log = logging.getLogger(__name__)

Rejected = TypeVar("Rejected", bound=RejectedReply)

_READ = frozenset({"json_object", "json_schema"})
"""The types of `response_format` whose replies are JSON. Others ("text", a server's own) are left as they are."""

_NO_ANSWER = (RequestError, AllEndpointsFailed, InputError, BudgetExceededError)
"""What a second request may end in while the first reply, which is paid for, still stands."""

_AFTER_RETRY = mark("{mismatch} (after one retry)")
_AFTER_REPAIR = mark("{mismatch} (after one round of repair)")


class StructuredBackend:
    """Fills in `parsed` where a request has a `response_format`, and obeys a `ReplyPolicy`. May be shared by threads.

    Args:
        below: Answers.
        endpoint: The base URL that `below` asks, for errors; None where it is not one.
        policy: What becomes of replies that are cut or do not fit.
    """

    def __init__(self, below: Backend, *, endpoint: str | None = None, policy: ReplyPolicy | None = None) -> None:
        self._below = below
        self._endpoint = endpoint
        self._policy = policy or ReplyPolicy()
        self._keeps_cut = self._policy.on_truncated == "keep"

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer, with its value in `parsed`.

        A reply that calls tools or that the provider's filter cut has no value; it is returned as it is. Where a second
        request was sent, the usage, latency and attempts of the result or the error are those of both.

        Raises:
            ReplyTruncated: The reply was cut, and the policy makes that an error.
            SchemaMismatch: The reply is not what was asked for, in the second request too where there was one.
            ConfigError: The schema cannot be used; nothing was sent.
        """
        wanted = request.params.get("response_format")
        if wanted is not None and not _is_read(wanted):
            wanted = None
        result = self._below.complete(request, cancel)
        is_second = False
        if not self._keeps_cut and was_cut(result):
            result, is_second = self._lengthened(request, result, cancel)
        if wanted is None:
            return result
        try:
            return _parsed(result, wanted)
        except SchemaMismatch as error:
            mismatch = error
        try:
            if isinstance(wanted, ResponseFormat) and wanted.repair and not was_cut(result):
                return self._repaired(request, result, mismatch, cancel)
            if self._policy.on_invalid == "retry" and not is_second:
                return self._retried(request, result, mismatch, cancel)
            if is_second:
                mismatch.args = (_(_AFTER_RETRY, mismatch=mismatch),)
            return self._invalid(mismatch, request, result)
        finally:
            del mismatch  # its traceback holds this frame, and all that is in it

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Yield the pieces, then the whole with its value in `parsed`. A policy of "retry" sends no second request here.

        Raises:
            ConfigError: At once: the schema cannot be used, or repair is asked for. What is handed on cannot be repaired.
            ReplyTruncated, SchemaMismatch: In the place of the whole, when all of the text has been handed on.
        """
        wanted = request.params.get("response_format")
        if wanted is None or not _is_read(wanted):
            if self._policy.on_truncated != "error":
                return self._below.stream(request, cancel)
            return self._stream(request, None, cancel)
        if isinstance(wanted, ResponseFormat) and wanted.repair:
            raise ConfigError(
                _("repair=True cannot be used with a stream: its text is handed on before it can be checked")
            )
        return self._stream(request, wanted, cancel)

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below offers."""
        return self._below.models(cancel)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how the endpoints below do."""
        return self._below.health()

    def close(self) -> None:
        """Close what is below."""
        self._below.close()

    def _stream(
        self, request: ChatRequest, wanted: Mapping[str, Any] | None, cancel: CancelToken | None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        for piece in self._below.stream(request, cancel):
            if isinstance(piece, ChatCompletionResult):
                if self._policy.on_truncated == "error" and was_cut(piece):
                    raise self._cut(request, piece)
                if wanted is not None:
                    try:
                        piece = _parsed(piece, wanted)
                    except SchemaMismatch as error:
                        piece = self._invalid(error, request, piece)
            yield piece

    # --- second requests

    def _lengthened(
        self, request: ChatRequest, first: ChatCompletionResult, cancel: CancelToken | None
    ) -> tuple[ChatCompletionResult, bool]:
        """Return what there is to be had of a cut reply, and whether a second request was sent for it."""
        if self._policy.on_truncated == "error":
            raise self._cut(request, first)
        longer = with_more_tokens(request, first)
        if longer is None:
            return first, False
        log.info("request %s was cut at the token limit; it is sent again with more tokens", first.request_id)
        second = self._try(longer, cancel)
        if isinstance(second, FlexLLMError):
            log.info("request %s keeps its cut answer: with more tokens came %s", first.request_id, second)
            return _with_failed(first, second), True
        return added(first, second, kept=better(first, second)), True

    def _repaired(
        self, request: ChatRequest, first: ChatCompletionResult, mismatch: SchemaMismatch, cancel: CancelToken | None
    ) -> ChatCompletionResult:
        """Return what the model makes of its reply when shown what is wrong.

        The errors of that request are raised, unless it was not to be sent: then it is the mismatch.
        """
        log.info("request %s is sent back for repair: %s", first.request_id, mismatch)
        problem = complaint(first.content, request.params["response_format"])
        try:
            second = self._below.complete(with_complaint(request, first, problem), cancel)
        except (BudgetExceededError, RequestCancelled) as error:  # the first reply came before it, and is paid for
            raise self._told(mismatch, request, _with_failed(first, error)) from error
        except (RequestError, AllEndpointsFailed) as error:
            error.cost += first.cost or 0.0
            error.attempts += first.attempts
            raise
        return self._settled(request, first, second, mismatch, _AFTER_REPAIR)

    def _retried(
        self, request: ChatRequest, first: ChatCompletionResult, mismatch: SchemaMismatch, cancel: CancelToken | None
    ) -> ChatCompletionResult:
        """Return what comes when the same is asked again. Whatever goes wrong then, the mismatch is the error."""
        again = with_more_tokens(request, first) if was_cut(first) else request
        if again is None:
            raise self._told(mismatch, request, first)
        log.info("request %s is sent again: %s", first.request_id, mismatch)
        second = self._try(again, cancel)
        if isinstance(second, FlexLLMError):
            raise self._told(mismatch, request, _with_failed(first, second)) from second
        return self._settled(request, first, second, mismatch, _AFTER_RETRY)

    def _settled(
        self,
        request: ChatRequest,
        first: ChatCompletionResult,
        second: ChatCompletionResult,
        mismatch: SchemaMismatch,
        said: str,
    ) -> ChatCompletionResult:
        """Return the second reply, which is the last, after a first one that does not fit.

        Args:
            said: The text for one that does not fit either.
        """
        both = added(first, second)
        if self._policy.on_truncated == "error" and was_cut(second):
            raise self._told(self._cut(request, second), request, both) from mismatch
        try:
            return _parsed(both, request.params["response_format"])
        except SchemaMismatch as error:
            error.args = (_(said, mismatch=error),)
            return self._invalid(error, request, both, mismatch)

    def _try(self, request: ChatRequest, cancel: CancelToken | None) -> ChatCompletionResult | FlexLLMError:
        try:
            return self._below.complete(request, cancel)
        except _NO_ANSWER as error:  # a stop, too: the first reply came before it
            return error

    # --- errors

    def _cut(self, request: ChatRequest, result: ChatCompletionResult) -> ReplyTruncated:
        error = ReplyTruncated(why_cut(result, tokens=tokens_of(result)), content=result.content)
        return self._told(error, request, result)

    def _invalid(
        self,
        error: SchemaMismatch,
        request: ChatRequest,
        result: ChatCompletionResult,
        cause: BaseException | None = None,
    ) -> ChatCompletionResult:
        """Return a result that does not fit, or raise, as the policy says."""
        if self._policy.on_invalid == "keep":
            return result
        raise self._told(error, request, result) from cause or error.__cause__

    def _told(self, error: Rejected, request: ChatRequest, result: ChatCompletionResult) -> Rejected:
        error.endpoint = result.endpoint or self._endpoint
        error.model = request.model
        error.attempts = result.attempts
        error.request_id = result.request_id
        error.usage = result.usage
        error.cost = result.cost or 0.0
        return error


def _with_failed(first: ChatCompletionResult, second: FlexLLMError) -> ChatCompletionResult:
    """Return the first reply with what a second request took that brought none."""
    if not isinstance(second, (RequestError, AllEndpointsFailed)):
        return first
    cost = first.cost if not second.cost else (first.cost or 0.0) + second.cost
    estimated = first.cost_estimated + second.cost
    return replace(first, attempts=first.attempts + second.attempts, cost=cost, cost_estimated=estimated)


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
        if was_cut(result):
            error.args = (f"{why_cut(result)} ({error})",)
        elif result.finish_reason == "error":
            reason = result.native_finish_reason or "error"
            error.args = (_("the answer broke off: {reason} ({error})", reason=reason, error=error),)
        raise
