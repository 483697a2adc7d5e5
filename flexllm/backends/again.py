"""A second request for one row: what it asks, and what the two together are and took. Functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from ..chat import ChatCompletionResult, ChatRequest, Usage
from ..language import _, plural
from ..messages import Message

_LIMITS = ("max_tokens", "max_completion_tokens", "maxOutputTokens", "max_output_tokens")
"""The names under which the providers take the most tokens of a reply: OpenAI's, and Gemini's in both spellings."""

_CONFIGS = ("generationConfig", "generation_config")
"""The objects in which Gemini takes them too."""

_CONTEXT_FULL = frozenset({"model_context_window_exceeded", "model_length"})
"""Native finish reasons that say "length" of the model's context, which no limit of the caller's can make longer.
Source: the API references of Anthropic and Mistral."""


def was_cut(result: ChatCompletionResult) -> bool:
    """Return whether a reply ended at a token limit."""
    return result.finish_reason == "length"


def why_cut(result: ChatCompletionResult, *, tokens: int | None = None) -> str:
    """Return for people what cut a reply and what to do.

    Args:
        tokens: How many it had; None leaves that unsaid.
    """
    if tokens:
        return _why_cut_after(tokens, result)
    if result.native_finish_reason in _CONTEXT_FULL:
        return _("the answer was cut where the model's context ends; shorten the messages")
    if _only_thinks(result):
        return _("thinking reached the token limit, before any answer; raise max_tokens, or let it think less")
    return _("the answer was cut at the token limit; raise max_tokens")


def _why_cut_after(tokens: int, result: ChatCompletionResult) -> str:
    if result.native_finish_reason in _CONTEXT_FULL:
        return plural(
            "the answer was cut where the model's context ends after {count} token; shorten the messages",
            "the answer was cut where the model's context ends after {count} tokens; shorten the messages",
            tokens,
        )
    if _only_thinks(result):
        return plural(
            "thinking reached the token limit after {count} token, before any answer; raise max_tokens, or let it think "
            "less",
            "thinking reached the token limit after {count} tokens, before any answer; raise max_tokens, or let it think "
            "less",
            tokens,
        )
    return plural(
        "the answer was cut at the token limit after {count} token; raise max_tokens",
        "the answer was cut at the token limit after {count} tokens; raise max_tokens",
        tokens,
    )


def tokens_of(result: ChatCompletionResult) -> int | None:
    """Return the number of tokens of a reply, thinking included; None if the server did not tell."""
    count = result.usage.get("completion_tokens") if result.usage is not None else None
    return int(count) if _is_count(count) and count > 0 else None


def with_more_tokens(request: ChatRequest, result: ChatCompletionResult) -> ChatRequest | None:
    """Return the request with twice the tokens for its reply, None where there is no use in asking that.

    A limit of the caller's is doubled, under each of the names it is given by, so that the one that counts stays the one.
    Where there is none it was the provider's own, or the server's, which the reply's length tells.
    """
    if result.native_finish_reason in _CONTEXT_FULL:
        return None
    raised = _doubled(request.params)
    for name in _CONFIGS:
        config = request.params.get(name)
        if isinstance(config, Mapping) and (inside := _doubled(config)):
            raised[name] = {**config, **inside}
    if not raised:
        tokens = tokens_of(result)
        if tokens is None:
            return None
        raised["max_tokens"] = 2 * tokens
    return replace(request, params={**request.params, **raised})


def with_complaint(request: ChatRequest, result: ChatCompletionResult, problem: str) -> ChatRequest:
    """Return the conversation with the reply and what is wrong with it.

    Args:
        problem: In English, as all that is said to a model.
    """
    if result.finish_reason == "error":
        problem = f"the answer broke off: {result.native_finish_reason or 'error'} ({problem})"
    complaint: Message = {
        "role": "user",
        "content": f"That cannot be used: {problem}. Reply with the corrected JSON alone, without any other text.",
    }
    return replace(request, messages=[*request.messages, result.assistant_message, complaint])


def better(first: ChatCompletionResult, second: ChatCompletionResult) -> ChatCompletionResult:
    """Return, of a cut reply and the one with more tokens, the one to keep: the second unless it came to less."""
    is_worse = second.finish_reason in ("content_filter", "error")
    return first if is_worse or (_says_anything(first) and not _says_anything(second)) else second


def added(
    first: ChatCompletionResult, second: ChatCompletionResult, *, kept: ChatCompletionResult | None = None
) -> ChatCompletionResult:
    """Return the one that is kept, which is the second if nothing is said, with what both of them took.

    A reply from the cache was paid for when it was made.
    """
    kept = kept or second
    paid = [one.usage for one in (first, second) if not one.cached]
    usage = _sum(*paid) if len(paid) == 2 else paid[0] if paid else kept.usage
    return replace(
        kept,
        usage=Usage(usage) if usage is not None else None,
        latency=_sum(first.latency, second.latency),
        attempts=first.attempts + second.attempts,
        hedged=first.hedged + second.hedged,
        cached=first.cached and second.cached,
        cost=_sum(first.cost, second.cost),
        cost_estimated=first.cost_estimated + second.cost_estimated,
    )


def _only_thinks(result: ChatCompletionResult) -> bool:
    usage = result.usage
    has_thought = bool(result.reasoning_content or (usage is not None and usage.get("reasoning_tokens")))
    return has_thought and not _says_anything(result)


def _says_anything(result: ChatCompletionResult) -> bool:
    return bool(result.tool_calls or result.content.strip())


def _doubled(params: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: params.get(name) for name in _LIMITS}
    return {name: 2 * limit for name, limit in given.items() if _is_count(limit) and limit > 0}


def _sum(first: Any, second: Any) -> Any:
    """Return two counts, or two mappings of counts, added up; of anything else the second, or the one that is there."""
    if first is None or second is None:
        return first if second is None else second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {name: _sum(first.get(name), second.get(name)) for name in {**first, **second}}
    if _is_count(first) and _is_count(second):
        return first + second
    return second


def _is_count(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
