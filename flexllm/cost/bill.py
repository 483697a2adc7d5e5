"""What one reply costs: its tokens, of each kind, at their prices. Functions of values.

How the providers count and charge: OpenAI's, Anthropic's, Google's, DeepSeek's, xAI's and OpenRouter's pricing pages and
API references.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..chat import ChatCompletionResult, ChatRequest
from ..errors import ApiStatusError, ConfigError, InputError, RejectedReply, RequestError, StreamBroken, TlsFailed
from ..prices import ModelPrice, Price
from ..tokens import BYTES_PER_JSON_TOKEN, BYTES_PER_TOKEN, estimate_prompt_tokens
from .tiers import ORDINARY, ServiceTier, asked_tier, factor_of, tier_in, told_tier

WEB_SEARCH = 0.01
"""US dollars for a search of Anthropic's own tool, which stand in no table of models."""

_MOST_TOKENS = 1_000_000_000
"""Larger counts are a server's error, and might not fit into a float."""

_PER = 1_000_000.0
"""Tokens that a price is for."""


class Bill(NamedTuple):
    """What was paid for one reply.

    Attributes:
        cost: US dollars; None where no price is known.
        estimated: The part of it that nothing bears out: tokens that the server did not count, a rate that is likely but
            not known.
    """

    cost: float | None
    estimated: float


def charge(usage: Mapping[str, Any], price: Price, *, provider: str = "", batch: bool = False) -> Bill:
    """Return what counted tokens cost.

    Args:
        usage: As results hold it, or as OpenAI sends it: `prompt_tokens` with those read from a cache and written to one,
            `completion_tokens` with the thinking, and the provider's own fields beside them. Nulls are 0, as is what is
            negative.
        price: At that moment.
        provider: Whose price it is, as `ModelPrice` has it: service tiers are not the same everywhere.
        batch: It came from the provider's batch API, even if the usage does not say so.
    """
    return Bill(*_charge(usage, price, provider, ServiceTier("batch") if batch else told_tier(usage) or ORDINARY))


def bill(
    result: ChatCompletionResult, request: ChatRequest, price: ModelPrice | None, now: float, *, batch: bool = False
) -> Bill:
    """Return what a reply costs, by itself: not what was sent before it or beside it.

    The server's own word on the cost wins, also where no price is known. Tokens that the server did not count, or counted
    as none, are estimated from the request and the reply.

    Args:
        price: None if none is known.
        now: Unix time in seconds: prices change, some with the hour.
        batch: The reply came from the provider's batch API.
    """
    if result.cached:
        return Bill(0.0, 0.0)
    usage: Mapping[str, Any] = result.usage or {}
    own = own_cost(usage)
    if own is not None:
        return Bill(own, 0.0)
    if price is None:
        return Bill(None, 0.0)
    tier = ServiceTier("batch") if batch else told_tier(usage) or tier_in(result.body, usage) or asked_tier(request)
    return Bill(*_filled(usage, request, result, price.at(now), price.provider, tier))


def lost(
    request: ChatRequest,
    broken: BaseException | ChatCompletionResult | None,
    price: ModelPrice | None,
    now: float,
) -> float:
    """Return what an attempt that was sent and broke off was probably billed, in US dollars: an estimate.

    That is its prompt and what had arrived of the reply. An error that the server answered with is not billed; whether a
    request was sent at all the caller knows better than its error, except for one that says `attempts=0`.

    Args:
        broken: The error that it ended in, or what had arrived; None if neither is known.
        price: None if none is known: 0.0, unless the server told its own.
        now: Unix time in seconds.
    """
    if isinstance(broken, BaseException) and not _was_billed(broken):
        return 0.0
    reply = (broken.result or broken.partial) if isinstance(broken, StreamBroken) else broken
    usage = _usage_of(reply)
    own = own_cost(usage)
    if own is not None:
        return own
    if price is None:
        return 0.0
    if not isinstance(broken, RejectedReply):  # a rejected one is whole
        usage = {**usage, "completion_tokens": max(count(usage.get("completion_tokens")), _reply_tokens(reply))}
    tier = told_tier(usage) or asked_tier(request)
    return _filled(usage, request, reply, price.at(now), price.provider, tier)[0]


def own_cost(usage: Mapping[str, Any]) -> float | None:
    """Return what a server itself says that a reply costs, in US dollars; None if it says nothing.

    OpenRouter gives a number: what it takes from the account, to which, with a key of the user's own, comes what the
    provider takes. Perplexity gives an object.
    """
    if "cost" not in usage:
        return None
    cost = usage["cost"]
    if isinstance(cost, Mapping):
        return _dollars(cost.get("total_cost"))
    dollars = _dollars(cost)
    if dollars is not None and usage.get("is_byok") is True:
        dollars += _dollars(_inner(usage, "cost_details", "upstream_inference_cost")) or 0.0
    return dollars


# --- tokens at their prices -------------------------------------------------------------------------------------------


def _charge(usage: Mapping[str, Any], base: Price, provider: str, tier: ServiceTier) -> tuple[float, float]:
    """Return the cost, and what of it is estimated."""
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    cached, written = _cache_tokens(usage, "cached_tokens"), _cache_tokens(usage, "cache_write_tokens")
    fresh = max(0, prompt - cached - written)
    price = base.for_prompt(prompt) if base.tiers else base

    asked = fresh * price.input
    if cached:
        asked += cached * (price.input if price.cached_input is None else price.cached_input)
    if written:
        asked += _write_cost(usage, written, base, price)
    answered = completion * price.output
    guessed = 0.0
    heard, spoken = _audio_tokens(usage)
    if heard:
        asked, guess = _with_audio(asked, min(heard, fresh), price.input, price.audio_input)
        guessed += guess
    if spoken:
        answered, guess = _with_audio(answered, min(spoken, completion), price.output, price.audio_output)
        guessed += guess

    is_sure = True
    if tier.word == "batch":
        asked, answered, is_sure = _in_batch(asked, answered, base)
    factor, is_known = factor_of(usage, provider, tier)
    dollars = (asked + answered) * factor / _PER
    estimated = min(guessed * factor / _PER, dollars) if is_sure and is_known else dollars
    if "server_tool_use" in usage:
        searches = WEB_SEARCH * count(_inner(usage, "server_tool_use", "web_search_requests"))
        return dollars + searches + base.request, estimated + searches
    return dollars + base.request, estimated


def _cache_tokens(usage: Mapping[str, Any], name: str) -> int:
    """Return a count where results have it, or else where OpenAI has it: callers hand on what its own client gave them."""
    return count(usage[name] if name in usage else _inner(usage, "prompt_tokens_details", name))


def _write_cost(usage: Mapping[str, Any], written: int, base: Price, price: Price) -> float:
    """Return what writing to the provider's cache costs, for a few minutes and for an hour; per million tokens.

    It is a multiple of the input's price, and so grows with that in a long prompt.
    """
    hour = min(written, count(_inner(usage, "cache_creation", "ephemeral_1h_input_tokens")))
    short = base.input if base.cache_write is None else base.cache_write
    long = short if base.cache_write_1h is None else base.cache_write_1h
    if price is not base and base.input:
        short, long = short * price.input / base.input, long * price.input / base.input
    return (written - hour) * short + hour * long


def _with_audio(cost: float, tokens: int, rate: float, audio_rate: float | None) -> tuple[float, float]:
    """Return the cost where so many of the tokens are sound, and what of it is a guess: sound at the price of text."""
    if audio_rate is None:
        return cost, tokens * rate
    return cost + tokens * (audio_rate - rate), 0.0


def _in_batch(asked: float, answered: float, base: Price) -> tuple[float, float, bool]:
    """Return both at the share of the batch, tokens of a cache included, and whether that share is known."""
    if base.batch_input is None or base.batch_output is None:
        return asked, answered, False
    if base.input:
        asked *= base.batch_input / base.input
    if base.output:
        answered *= base.batch_output / base.output
    return asked, answered, True


def _audio_tokens(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many tokens of the prompt, not read from a cache, and of the reply are sound."""
    if "promptTokenCount" in usage:  # Gemini's
        heard = _of_sound(usage.get("promptTokensDetails")) - _of_sound(usage.get("cacheTokensDetails"))
        return max(0, heard), _of_sound(usage.get("candidatesTokensDetails"))
    heard = count(_inner(usage, "prompt_tokens_details", "audio_tokens"))
    return heard, count(_inner(usage, "completion_tokens_details", "audio_tokens"))


def _of_sound(details: Any) -> int:
    entries = details if isinstance(details, list) else ()
    return sum(
        count(entry.get("tokenCount"))
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("modality") == "AUDIO"
    )


# --- what was not counted ---------------------------------------------------------------------------------------------


def _usage_of(broken: object) -> Mapping[str, Any]:
    """Return what the server counted of a reply that broke off, or was rejected."""
    usage = broken.usage if isinstance(broken, (ChatCompletionResult, RejectedReply)) else None
    return usage or {}


def _reply_tokens(reply: object) -> int:
    """Return about how many tokens a reply has: a result, the error that it ended in, its text, or nothing."""
    if isinstance(reply, (str, RejectedReply)):
        return _tokens(reply if isinstance(reply, str) else reply.content)
    if not isinstance(reply, ChatCompletionResult):
        return 0
    tokens = _tokens(reply.content) + _tokens(reply.reasoning_content or "")
    for call in reply.tool_calls or ():
        said = f"{call.function.get('name')}{call.function.get('arguments')}"
        tokens += math.ceil(_size(said) / BYTES_PER_JSON_TOKEN)
    return tokens


def _filled(
    usage: Mapping[str, Any], request: ChatRequest, reply: object, price: Price, provider: str, tier: ServiceTier
) -> tuple[float, float]:
    """Return as `_charge` does what a reply costs whose usage may be missing, or be zeros: some servers do not count."""
    told, told_estimated = _charge(usage, price, provider, tier)
    missing = {}
    if not count(usage.get("prompt_tokens")):
        missing["prompt_tokens"] = estimate_prompt_tokens(request)
    if not count(usage.get("completion_tokens")):
        missing["completion_tokens"] = _reply_tokens(reply)
    if not any(missing.values()):
        return told, told_estimated
    cost, estimated = _charge({**usage, **missing}, price, provider, tier)
    return cost, max(estimated, cost - told + told_estimated) if usage else cost


def _was_billed(error: BaseException) -> bool:
    """Return whether an attempt that ended so may have been billed."""
    if isinstance(error, RequestError) and error.attempts == 0:
        return False
    return not isinstance(error, (ApiStatusError, TlsFailed, ConfigError, InputError))


def _tokens(text: str) -> int:
    return math.ceil(_size(text) / BYTES_PER_TOKEN)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# --- numbers as they come ---------------------------------------------------------------------------------------------


def count(number: Any) -> int:
    """Return a token count that may be missing, null, negative, a float, a text or absurd; 0 if it is none."""
    if type(number) is not int:
        if number is None:
            return 0
        try:
            number = int(float(number))
        except (TypeError, ValueError, OverflowError):
            return 0
    return min(number, _MOST_TOKENS) if number > 0 else 0


def _dollars(amount: Any) -> float | None:
    """Return an amount of money that a server names, None if it is none."""
    if isinstance(amount, bool):
        return None
    try:
        dollars = float(amount)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, dollars) if math.isfinite(dollars) else None


def _inner(usage: Mapping[str, Any], outer: str, name: str) -> Any:
    """Return a field of an object inside the usage, None where there is none."""
    details = usage.get(outer)
    return details.get(name) if isinstance(details, Mapping) else None
