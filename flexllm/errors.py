"""Every error that flexllm raises, and nothing else: what happened, where, and what to do.

    FlexLLMError
      ConfigError (also ValueError)       the caller's options or configuration file are wrong
      InputError (also ValueError)        messages or an input row cannot be used as they are
      RequestError                        one request failed: .endpoint .model .attempts .request_id
        RequestCancelled                  the caller stopped it; it says nothing about the server
        ConnectionFailed                  nothing, or not the whole reply, came back
          RequestTimeout
          TlsFailed                       the server's certificate is not accepted
        ApiStatusError                    .status .body .code .retry_after
          BadRequest
            ContextTooLong, ContentFiltered
          AuthenticationFailed, PermissionDenied, NotFound
          RateLimited, QuotaExhausted
          ServerError
            Overloaded
        MalformedResponse                 a 2xx that is not what the API promises
          RejectedReply                   ... or not what the caller asked for: .content .usage
            SchemaMismatch                it does not match response_format
            ReplyTruncated                it was cut at a token limit
        StreamBroken                      after the first piece; .partial and .result hold what arrived
      AllEndpointsFailed                  .errors, in the order tried; .attempts
      BatchFailed                         some rows of a batch failed; .errors by index
      BatchStopped                        a batch ended before its input did; .reason .error
      ChainError                          a chain of steps did not come to its end; .step .reason .error .context
      BudgetExceededError                 .current_cost .budget_limit
      UnreadableReply (also ValueError)   a reply's text does not hold the value that is looked for in it
      PriceUnknown (also LookupError)
      CacheError
      CheckpointError                     the output file cannot be read or written
        OutputLocked                      another run is writing it

Whether an error may be retried is decided in `retry.py`; which exit code it means, in `cli/exits.py`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of this

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class FlexLLMError(Exception):
    """The root. The message is a sentence for people; attributes carry the details for programs.

    Subclasses take the message by position and everything else by keyword, which is what lets each of them pickle:
    the default reduction calls the class with `args` (the message) and restores the attributes from `__dict__`.
    """


class ConfigError(FlexLLMError, ValueError):
    """An option, an argument or a configuration file is wrong; nothing was sent."""


class InputError(FlexLLMError, ValueError):
    """Messages or an input row cannot be turned into a request; nothing was sent."""


class RequestError(FlexLLMError):
    """One request failed.

    Attributes:
        endpoint: The base URL that was asked, without credentials; None if unknown.
        model: The model that was asked for.
        attempts: How many times the request was sent, or tried to be.
        request_id: The server's own id of the last attempt, for its support; None if it gave none.
        cost: US dollars that the attempts were probably billed all the same; 0.0 where no price is known.
    """

    cost = 0.0

    def __init__(
        self,
        message: str,
        *,
        endpoint: str | None = None,
        model: str | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.model = model
        self.attempts = attempts
        self.request_id = request_id


class RequestCancelled(RequestError):
    """The caller stopped this request before it was answered."""


class ConnectionFailed(RequestError):
    """No reply, or only a part of one, came back.

    Attributes:
        was_sent: The server had the whole request and was at work on it, or done with it: it may have billed it.
    """

    was_sent = False


class RequestTimeout(ConnectionFailed):
    """The reply did not come, or was not complete, within the time allowed."""


class TlsFailed(ConnectionFailed):
    """The server's certificate was not accepted; trying again does not help."""


class ApiStatusError(RequestError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status, or the status that an error inside a 200 reply names.
        code: The provider's own short code, such as "invalid_api_key"; None if it sent none.
        body: The reply's body as text, cut to a readable length.
        retry_after: Seconds that the server asks to wait; None if it does not say.
        should_retry: The server's own word on retrying (`x-should-retry`); None if it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        body: str = "",
        retry_after: float | None = None,
        should_retry: bool | None = None,
        endpoint: str | None = None,
        model: str | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, model=model, attempts=attempts, request_id=request_id)
        self.status = status
        self.code = code
        self.body = body
        self.retry_after = retry_after
        self.should_retry = should_retry


class BadRequest(ApiStatusError):
    """The server refuses this request as it is (400, 413, 422 and other 4xx)."""


class ContextTooLong(BadRequest):
    """The messages, or messages and reply together, do not fit the model's context."""


class ContentFiltered(BadRequest):
    """The provider's content policy refused the request."""


class AuthenticationFailed(ApiStatusError):
    """The key is missing, wrong or expired (401)."""


class PermissionDenied(ApiStatusError):
    """The key is good but not for this (403)."""


class NotFound(ApiStatusError):
    """No such URL or model (404), or a redirect to another URL."""


class RateLimited(ApiStatusError):
    """Too many requests or tokens for now (429); waiting helps."""


class QuotaExhausted(ApiStatusError):
    """The account has no credit or quota left (402, or a 429 that says so); waiting does not help."""


class ServerError(ApiStatusError):
    """The server failed (5xx)."""


class Overloaded(ServerError):
    """The server has too much to do (503, 529)."""


class MalformedResponse(RequestError):
    """The server said 2xx, but what it sent is not what its API promises."""


class RejectedReply(MalformedResponse):
    """The reply came whole, and is paid for, but is not what the caller asked for.

    Attributes:
        content: The reply's text, which may still be of use.
        usage: Its token counts, with those of a second request where there was one; None if the server sent none.
    """

    def __init__(
        self,
        message: str,
        *,
        content: str = "",
        usage: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
        model: str | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, model=model, attempts=attempts, request_id=request_id)
        self.content = content
        self.usage = usage


class SchemaMismatch(RejectedReply):
    """The reply does not match the schema that the caller asked for."""


class ReplyTruncated(RejectedReply):
    """The reply was cut at a token limit, and the caller wants whole ones alone."""


class StreamBroken(RequestError):
    """A stream ended early, after its first piece had been handed on.

    Attributes:
        partial: The text that had arrived.
        result: All that had arrived, as a `ChatCompletionResult`: reasoning, tool calls and usage too; None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        partial: str = "",
        result: Any = None,
        endpoint: str | None = None,
        model: str | None = None,
        attempts: int = 1,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, model=model, attempts=attempts, request_id=request_id)
        self.partial = partial
        self.result = result


class AllEndpointsFailed(FlexLLMError):
    """Every endpoint of a pool failed this request.

    Attributes:
        errors: The error of each attempt, in the order tried.
        attempts: How many times the request was sent, or tried to be, at all of them together.
        cost: US dollars that these were probably billed all the same.
    """

    cost = 0.0

    def __init__(self, message: str, *, errors: Sequence[RequestError] = (), attempts: int = 1) -> None:
        super().__init__(message)
        self.errors = list(errors)
        self.attempts = attempts


class BatchFailed(FlexLLMError):
    """Some rows of a batch failed; raised only by `BatchResult.raise_for_errors`.

    Attributes:
        errors: The error of each failed row, by the row's index.
    """

    def __init__(self, message: str, *, errors: Mapping[int, FlexLLMError] | None = None) -> None:
        super().__init__(message)
        self.errors = dict(errors or {})


class BatchStopped(FlexLLMError):
    """A batch ended before its input did; every answer that came is kept, and the rows that were not asked may be yet.

    Attributes:
        reason: "fatal" (an error that every further row would meet), "failures" (too large a share of the rows failed),
            "budget" or "max_time".
        error: The error that decided, None if none did.
    """

    def __init__(self, message: str, *, reason: str = "fatal", error: FlexLLMError | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.error = error


class ChainError(FlexLLMError):
    """A chain of steps did not come to its end. What was answered before stands in the context.

    Attributes:
        step: The name of the step at which it ended; None if unknown.
        reason: "request" (the step was not answered), "function" (one of its functions failed, or gave something else than
            it should), "unknown_step", "max_steps", "timeout" (of the chain) or "stopped" (with the run).
        error: Why the step was not answered, or why the run stopped; None where no error of ours decided.
        context: The `Context` as far as it came; None in the results of a batch, where it holds this error.
    """

    def __init__(
        self,
        message: str,
        *,
        step: str | None = None,
        reason: str = "function",
        error: FlexLLMError | None = None,
        context: Any = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.reason = reason
        self.error = error
        self.context = context


class BudgetExceededError(FlexLLMError):
    """A budget (of dollars, requests or tokens) is spent, or has no room for the next request, which was not sent.

    Attributes:
        current_cost: US dollars that are spent.
        budget_limit: US dollars that may be; 0.0 where dollars are not limited.
    """

    def __init__(self, message: str, *, current_cost: float = 0.0, budget_limit: float = 0.0) -> None:
        super().__init__(message)
        self.current_cost = current_cost
        self.budget_limit = budget_limit


class UnreadableReply(FlexLLMError, ValueError):
    """The text of a reply holds no value that can be read."""


class PriceUnknown(FlexLLMError, LookupError):
    """No price is known for this model; the message says how to give one."""


class CacheError(FlexLLMError):
    """The response cache cannot be used."""


class CheckpointError(FlexLLMError):
    """The output file cannot be read, written or put in order. What it held is still there."""


class OutputLocked(CheckpointError):
    """Another run is writing this output file."""


def release_frames(error: BaseException) -> None:
    """Let go of what an error that is kept, and not raised, would hold in memory: its traceback, and whatever caused it.

    A traceback holds every frame, and so the request and the reply; with a million failed rows that is the memory. And
    frames mostly hold the error in return: such rings stay until the garbage collector finds them.
    """
    for one in (error, *error.errors) if isinstance(error, AllEndpointsFailed) else (error,):
        one.__cause__ = one.__context__ = one.__traceback__ = None
