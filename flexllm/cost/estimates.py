"""What requests will cost, before they are sent: from counts of tokens, or from the conversations themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError
from ..language import _
from ..messages import Messages
from ..prices import ModelPrice, Price, PriceLike, PriceOptions, parse_price, price_of, price_unknown
from ..tokens import DEFAULT_MODEL, FIRST_COMPLETION, count_each, total

_PER = 1_000_000.0
"""Tokens that a price is for."""

_MOST_TOKENS = 1e15
"""Beyond all that was ever sent; larger numbers would not fit into a float."""


def estimate_cost(
    input_tokens: float,
    output_tokens: float = 0,
    model: str = DEFAULT_MODEL,
    *,
    price: PriceLike | None = None,
    base_url: str | None = None,
    now: float | None = None,
) -> float:
    """Return what one request costs in US dollars: nothing of it cached, and not as part of a provider's batch.

    Args:
        input_tokens, output_tokens: Of this request and its reply. Some models have a higher price for long prompts, which
            is why the tokens of several requests together may give too much.
        price: In place of the table's: a `Price`, "IN,OUT[,CACHED]" or a mapping, in US dollars per million tokens.
        base_url: The server's, where several sell the model.
        now: Unix time in seconds, for prices that change; None is this moment.

    Raises:
        PriceUnknown: Neither is a price given nor is one known for this model; a `LookupError`, too.
        ConfigError: `price` is none, or a number of tokens is none.
    """
    asked, answered = _tokens("input_tokens", input_tokens), _tokens("output_tokens", output_tokens)
    return _cost(_price(model, price, base_url, now), asked, answered)


def estimate_batch_cost(
    messages_list: Messages | Iterable[Messages],
    model: str = DEFAULT_MODEL,
    expected_output_tokens: float = FIRST_COMPLETION,
    *,
    price: PriceLike | None = None,
    base_url: str | None = None,
    now: float | None = None,
) -> dict[str, Any]:
    """Return what a batch of conversations will cost, each of them sent once.

    Args:
        messages_list: As `count_messages_tokens` takes it: a list of conversations, or a single one.
        expected_output_tokens: Of each reply.
        price, base_url, now: As in `estimate_cost`.

    Returns:
        A JSON-able dict with `count` (conversations), `input_tokens` and `output_tokens` (of all together; the former is a
        `TokenCount`, which says whether it is an estimate itself), `estimated_cost_usd` and `model`.

    Raises:
        PriceUnknown, ConfigError: As from `estimate_cost`, before anything is counted.
        InputError: A conversation cannot be used; the message says which.
    """
    answered = _tokens("expected_output_tokens", expected_output_tokens)
    known = _price(model, price, base_url, now)
    counts = count_each(messages_list, model)
    return {
        "count": len(counts),
        "input_tokens": total(counts),
        "output_tokens": math.ceil(answered * len(counts)),
        "estimated_cost_usd": math.fsum(_cost(known, tokens, answered) for tokens in counts),
        "model": model,
    }


def _price(model: str, given: PriceLike | None, base_url: str | None, now: float | None) -> Price:
    own = None if given is None else PriceOptions(price=parse_price(given))
    known: ModelPrice | None = price_of(model, base_url, own)
    if known is None:
        raise price_unknown(model)
    return known.at(time.time() if now is None else now)


def _cost(price: Price, asked: float, answered: float) -> float:
    price = price.for_prompt(math.ceil(asked))
    return (asked * price.input + answered * price.output) / _PER + price.request


def _tokens(name: str, value: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _MOST_TOKENS:
        raise ConfigError(_("{name}={value!r} must be a number of tokens, 0 or more", name=name, value=value))
    return value
