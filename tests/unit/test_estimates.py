"""What requests will cost, before they are sent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.cost import estimates
from flexllm.cost.estimates import estimate_batch_cost, estimate_cost
from flexllm.errors import ConfigError, InputError, PriceUnknown
from flexllm.prices import ModelPrice, Price, Tier
from flexllm.tokens import FIRST_COMPLETION, Corrections, TokenCount, count, count_messages_tokens
from flexllm.tokens.count import Encodings

QUESTION = [{"role": "user", "content": "What is a token bucket?"}]
TIERED = Price(input=1.0, output=10.0, tiers=(Tier(above=1000, input=2.0, output=20.0),))


@pytest.fixture(autouse=True)
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tokens are estimated, whatever this machine has."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setattr(count, "_encodings", Encodings())
    monkeypatch.setattr(count, "corrections", Corrections())


# --- one request ------------------------------------------------------------------------------------------------------


def test_tokens_cost_what_the_table_says_in_dollars_per_million() -> None:
    assert estimate_cost(1_000_000, 100_000) == pytest.approx(2.5 + 1.0, abs=1e-12)  # gpt-4o: 2.50 and 10.00
    assert estimate_cost(1000, 500, "gpt-4o-mini") == pytest.approx((1000 * 0.15 + 500 * 0.6) / 1e6, abs=1e-12)
    assert estimate_cost(1000, model="openai/gpt-4o-2024-08-06") == pytest.approx(0.0025, abs=1e-12)
    assert estimate_cost(0) == 0.0


def test_a_long_prompt_has_its_own_price() -> None:
    assert estimate_cost(1000, 100, price=TIERED) == pytest.approx(0.001 + 0.001, abs=1e-12)
    assert estimate_cost(1001, 100, price=TIERED) == pytest.approx(0.002002 + 0.002, abs=1e-12)


def test_each_request_may_have_a_price_besides_its_tokens() -> None:
    assert estimate_cost(0, 0, "mine", price={"input": 1, "output": 2, "request": 0.005}) == 0.005


def test_the_price_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def price_of(*_: Any) -> ModelPrice:
        return ModelPrice(model="m", price=Price(input=1, output=0), changes=((1000.0, Price(input=2, output=0)),))

    monkeypatch.setattr(estimates, "price_of", price_of)
    assert estimate_cost(1_000_000, now=999.0) == 1.0
    assert estimate_cost(1_000_000, now=1000.0) == 2.0
    assert estimate_cost(1_000_000) == 2.0, "that was in 1970"
    assert estimate_batch_cost(["x"], now=1000.0)["estimated_cost_usd"] == pytest.approx(
        2 * estimate_batch_cost(["x"], now=0.0)["estimated_cost_usd"]
    )


@pytest.mark.parametrize("model", ["no-such-model", "gpt-4o-but-mine", "ft:gpt-4o:me", "", None, 5])
def test_an_unknown_model_is_unknown_and_the_error_says_how_to_give_a_price(model: Any) -> None:
    for ask in (lambda: estimate_cost(10, 10, model), lambda: estimate_batch_cost([QUESTION], model)):
        with pytest.raises(
            LookupError, match=r"give it in US dollars per million tokens, as price='0\.5,1\.5'"
        ) as caught:
            ask()
        assert type(caught.value) is PriceUnknown


@pytest.mark.parametrize("price", ["0.5,1.5", {"input": 0.5, "output": 1.5}, Price(input=0.5, output=1.5)])
@pytest.mark.parametrize("model", ["no-such-model", "gpt-4o"])
def test_a_price_can_be_given_in_each_form(price: Any, model: str) -> None:
    assert estimate_cost(2000, 1000, model, price=price) == pytest.approx(0.0025, abs=1e-12)


def test_a_wrong_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="price: 'cheap' is no price"):
        estimate_cost(1, price="cheap")


def test_the_server_chooses_among_those_who_sell_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def price_of(model: str, base_url: str | None, own: object) -> ModelPrice | None:
        return ModelPrice(model=model, price=Price(input=3, output=0)) if base_url == "https://here" else None

    monkeypatch.setattr(estimates, "price_of", price_of)
    assert estimate_cost(1_000_000, 0, "llama", base_url="https://here") == 3.0
    assert estimate_batch_cost(["x"], "llama", 0, base_url="https://here")["estimated_cost_usd"] > 0
    with pytest.raises(PriceUnknown):
        estimate_cost(1_000_000, 0, "llama", base_url="https://there")


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, 10**400, True, None, "12", [1]])
def test_what_is_no_number_of_tokens_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"^input_tokens=.* must be a number of tokens, 0 or more"):
        estimate_cost(wrong)
    with pytest.raises(ConfigError, match=r"^output_tokens="):
        estimate_cost(1, wrong)
    with pytest.raises(ConfigError, match=r"^expected_output_tokens="):
        estimate_batch_cost([QUESTION], expected_output_tokens=wrong)


# --- a batch ----------------------------------------------------------------------------------------------------------


def test_a_batch_costs_its_prompts_and_the_replies_that_are_expected() -> None:
    messages = [QUESTION, QUESTION, "Why?"]
    tokens = count_messages_tokens(messages)
    estimate = estimate_batch_cost(messages, "gpt-4o", 100)
    assert estimate == {
        "count": 3,
        "input_tokens": tokens,
        "output_tokens": 300,
        "estimated_cost_usd": pytest.approx((tokens * 2.5 + 300 * 10) / 1e6, abs=1e-12),
        "model": "gpt-4o",
    }
    assert isinstance(estimate["input_tokens"], TokenCount)
    assert estimate["input_tokens"].is_estimate
    assert json.loads(json.dumps(estimate))["input_tokens"] == tokens


def test_a_single_conversation_and_none_are_batches_too() -> None:
    assert estimate_batch_cost(QUESTION)["count"] == 1
    assert estimate_batch_cost("Why?")["output_tokens"] == FIRST_COMPLETION
    nothing = {"count": 0, "input_tokens": 0, "output_tokens": 0, "estimated_cost_usd": 0.0, "model": "gpt-4o"}
    assert estimate_batch_cost([]) == nothing


def test_long_prompts_are_priced_one_by_one() -> None:
    short, long = "x" * 2000, "x" * 8000  # about 500 tokens, and 2,000
    both = estimate_batch_cost([short, long], "mine", 0, price=TIERED)["estimated_cost_usd"]
    expected = count_messages_tokens(short) * 1.0 + count_messages_tokens(long) * 2.0
    assert both == pytest.approx(expected / 1e6, abs=1e-12)


def test_a_request_of_a_batch_has_its_price_each() -> None:
    price = {"input": 0, "output": 0, "request": 0.01}
    assert estimate_batch_cost(["a", "b", "c"], "mine", price=price)["estimated_cost_usd"] == pytest.approx(0.03)


def test_tokens_are_counted_for_the_model_that_is_named() -> None:
    count.corrections.seen("mine", 100, 200)
    doubled = estimate_batch_cost(["x" * 4000], "mine", price=TIERED)["input_tokens"]
    assert doubled == 2 * estimate_batch_cost(["x" * 4000], "other", price=TIERED)["input_tokens"]


def test_nothing_is_counted_for_a_model_without_a_price() -> None:
    with pytest.raises(PriceUnknown):
        estimate_batch_cost((pytest.fail("was read") for _ in range(1)), "no-such-model")


def test_a_conversation_that_cannot_be_used_is_named() -> None:
    with pytest.raises(InputError, match="conversation 1: messages must be"):
        estimate_batch_cost([QUESTION, 5])  # type: ignore[list-item]


@given(st.lists(st.text(max_size=40), max_size=20), st.integers(0, 10_000))
def test_a_batch_costs_the_sum_of_its_requests(texts: list[str], answered: int) -> None:
    batch = estimate_batch_cost(texts, "mine", answered, price=TIERED)
    single = [estimate_cost(count_messages_tokens(text), answered, "mine", price=TIERED) for text in texts]
    assert batch["estimated_cost_usd"] == pytest.approx(math.fsum(single), abs=1e-12)
