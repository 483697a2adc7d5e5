"""What a reply costs, and what one costs that broke off: prices of every kind, odd usages, and what is only estimated."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.chat import ChatCompletionResult, ChatRequest, ToolCall, Usage
from flexllm.cost.bill import Bill, bill, charge, lost
from flexllm.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    MalformedResponse,
    Overloaded,
    RateLimited,
    RequestCancelled,
    RequestError,
    RequestTimeout,
    SchemaMismatch,
    ServerError,
    StreamBroken,
    TlsFailed,
)
from flexllm.prices import ModelPrice, Price, Tier
from flexllm.tokens import estimate_prompt_tokens

PRICE = Price(input=1.0, output=2.0)  # a million tokens in, a million out: 3 dollars
MODEL = ModelPrice(model="some-model", price=PRICE)
REQUEST = ChatRequest([{"role": "user", "content": "x" * 400}], "some-model", {})
PROMPT = estimate_prompt_tokens(REQUEST)
"""107 tokens: a hundred of the text and a few around it."""


def usage(prompt: Any = 0, completion: Any = 0, **more: Any) -> Usage:
    return Usage({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0, **more})


def answer(content: str = "", counted: Usage | None = None, **more: Any) -> ChatCompletionResult:
    return ChatCompletionResult(content, counted, **more)


def asked(**params: Any) -> ChatRequest:
    return ChatRequest(REQUEST.messages, "some-model", params)


def dollars(tokens_in: float, tokens_out: float = 0.0) -> float:
    return pytest.approx((tokens_in * PRICE.input + tokens_out * PRICE.output) / 1e6, rel=0, abs=1e-12)


# --- each kind of token at its price ----------------------------------------------------------------------------------


def test_input_and_output_have_their_own_price() -> None:
    assert charge(usage(1_000_000, 1_000_000), PRICE) == Bill(3.0, 0.0)
    assert charge(usage(10, 0), PRICE) == Bill(dollars(10), 0.0)
    assert charge(usage(0, 10), PRICE) == Bill(dollars(0, 10), 0.0)
    assert charge({}, PRICE) == Bill(0.0, 0.0)


@pytest.mark.parametrize("kind", ["cached_tokens", "cache_write_tokens"])
def test_tokens_of_a_cache_cost_as_input_where_no_price_says_otherwise(kind: str) -> None:
    assert charge(usage(100, 0, **{kind: 60}), PRICE).cost == dollars(100)


def test_what_openai_counts_of_a_cache_counts_as_it_sends_it() -> None:
    price = Price(input=1, output=2, cached_input=0.1, cache_write=1.25)
    counted = usage(100, 0, prompt_tokens_details={"cached_tokens": 50, "cache_write_tokens": 20})
    assert charge(counted, price).cost == dollars(30 + 5 + 25)
    assert charge({**counted, "cached_tokens": 10, "cache_write_tokens": 0}, price).cost == dollars(90 + 1)


def test_a_price_of_zero_is_a_price() -> None:
    free = Price(input=1, output=2, cached_input=0.0, cache_write=0.0)
    assert charge(usage(100, 0, cached_tokens=60, cache_write_tokens=30), free).cost == dollars(10)


def test_writing_for_an_hour_costs_as_writing_where_only_that_price_is_known() -> None:
    price = Price(input=1, output=2, cache_write=3)
    counted = usage(100, 0, cache_write_tokens=50, cache_creation={"ephemeral_1h_input_tokens": 20})
    assert charge(counted, price).cost == dollars(50 + 3 * 50)


def test_no_more_is_written_for_an_hour_than_is_written() -> None:
    price = Price(input=1, output=2, cache_write=3, cache_write_1h=5)
    counted = usage(100, 0, cache_write_tokens=50, cache_creation={"ephemeral_1h_input_tokens": 80})
    assert charge(counted, price).cost == dollars(50 + 5 * 50)


def test_a_server_that_counts_cached_tokens_beside_the_prompt_gets_no_negative_rest() -> None:
    price = Price(input=1, output=2, cached_input=0.5)
    assert charge(usage(100, 0, cached_tokens=400), price).cost == dollars(200)


def test_sound_has_its_own_price_where_one_is_known() -> None:
    price = Price(input=1, output=2, audio_input=10, audio_output=20)
    counted = usage(100, 50, prompt_tokens_details={"audio_tokens": 40}, completion_tokens_details={"audio_tokens": 30})
    assert charge(counted, price) == Bill(dollars(60 + 40 * 10, 20 + 30 * 10), 0.0)


def test_sound_is_no_more_than_what_is_neither_cached_nor_written() -> None:
    price = Price(input=1, output=2, audio_input=10, cached_input=0)
    counted = usage(100, 0, cached_tokens=90, prompt_tokens_details={"audio_tokens": 100})
    assert charge(counted, price).cost == dollars(10 * 10)


def test_more_sound_in_the_cache_than_in_the_prompt_is_none() -> None:
    heard, cached = [{"modality": "AUDIO", "tokenCount": 5}], [{"modality": "AUDIO", "tokenCount": 50}]
    counted = usage(100, 0, promptTokenCount=100, promptTokensDetails=heard, cacheTokensDetails=cached)
    assert charge(counted, Price(input=1, output=2, audio_input=10)) == Bill(dollars(100), 0.0)


def test_a_price_for_each_request_is_added() -> None:
    assert charge(usage(100, 0), Price(input=1, output=2, request=0.005)).cost == dollars(5_000 + 100)


def test_the_highest_step_below_the_prompt_holds_for_all_of_it() -> None:
    price = Price(input=1, output=2, tiers=(Tier(above=100, input=10, output=20), Tier(above=200, input=5, output=6)))
    assert charge(usage(100, 1), price).cost == dollars(100, 1)
    assert charge(usage(101, 1), price).cost == dollars(1010, 10)
    assert charge(usage(200, 1), price).cost == dollars(2000, 10)
    assert charge(usage(201, 1), price).cost == dollars(5 * 201, 3)


def test_what_is_written_to_a_cache_grows_with_the_price_of_a_long_prompt() -> None:
    price = Price(input=1, output=2, cache_write=1.25, tiers=(Tier(above=100, input=2, output=3),))
    assert charge(usage(200, 0, cache_write_tokens=100), price).cost == dollars(100 * 2 + 100 * 2.5)


# --- batches and service tiers ----------------------------------------------------------------------------------------

BATCHED = Price(input=1, output=2, cached_input=0.1, batch_input=0.5, batch_output=1.5)


def test_a_batch_has_prices_of_its_own_and_cached_tokens_their_share() -> None:
    counted = usage(100, 10, cached_tokens=50)
    expected = Bill(pytest.approx((50 * 0.5 + 50 * 0.05 + 10 * 1.5) / 1e6), 0.0)
    assert charge(counted, BATCHED, batch=True) == expected
    assert charge(usage(100, 10, cached_tokens=50, service_tier="batch"), BATCHED) == expected


def test_a_batch_without_a_known_price_is_at_the_usual_one_and_an_estimate() -> None:
    cost, estimated = charge(usage(100, 10), PRICE, batch=True)
    assert cost == estimated == dollars(100, 10)


def test_sound_in_a_batch_is_estimated_at_no_more_than_it_costs() -> None:
    counted = usage(100, 0, prompt_tokens_details={"audio_tokens": 100})
    cost, estimated = charge(counted, BATCHED, batch=True)
    assert cost == estimated == dollars(50)


@pytest.mark.parametrize("word", ["default", "standard", "auto", "on_demand", "", None, 7, "Standard"])
def test_ordinary_tiers_change_nothing(word: Any) -> None:
    assert charge(usage(100, 10, service_tier=word), PRICE, provider="openai") == Bill(dollars(100, 10), 0.0)


@pytest.mark.parametrize(
    ("provider", "word", "factor", "is_sure"),
    [
        ("openai", "flex", 0.5, True),
        ("openai", "FLEX", 0.5, True),
        ("openai", "priority", 2.0, False),
        ("google", "flex", 0.5, True),
        ("google", "priority", 1.8, True),
        ("anthropic", "priority", 1.0, False),
        ("groq", "flex", 1.0, True),
        ("", "flex", 0.5, False),
        ("", "priority", 2.0, False),
        ("openai", "a tier of next year", 1.0, False),
    ],
)
def test_a_tier_is_worth_what_its_provider_takes_for_it(provider: str, word: str, factor: float, is_sure: bool) -> None:
    cost, estimated = charge(usage(100, 10, service_tier=word), PRICE, provider=provider)
    assert cost == dollars(100 * factor, 10 * factor)
    assert estimated == (0.0 if is_sure else cost)


def body(**more: Any) -> bytes:
    return json.dumps({"choices": [], "usage": {}, **more}, indent=1).encode()


OPENAI = ModelPrice(model="m", price=PRICE, provider="openai")


def test_the_tier_that_stands_beside_the_usage_is_found() -> None:
    result = answer("Hi", usage(100, 10), body=body(service_tier="flex"))
    assert bill(result, asked(), OPENAI, 0.0) == Bill(dollars(50, 5), 0.0)


def test_the_tier_of_the_reply_wins_over_that_of_the_request() -> None:
    result = answer("Hi", usage(100, 10), body=body(service_tier="default"))
    assert bill(result, asked(service_tier="flex"), OPENAI, 0.0) == Bill(dollars(100, 10), 0.0)


def test_what_a_text_says_of_tiers_is_no_tier() -> None:
    said = body(choices=[{"message": {"content": '{"service_tier": "flex"}', "refusal": '"service_tier":"flex"'}}])
    assert bill(answer("Hi", usage(100, 10), body=said), asked(), OPENAI, 0.0).cost == dollars(100, 10)


def test_the_tier_is_found_behind_a_text_that_speaks_of_tiers() -> None:
    said = body(choices=[{"message": {"content": '"service_tier": "flex"'}}], service_tier="default")
    assert bill(answer("Hi", usage(100, 10), body=said), asked(), OPENAI, 0.0).cost == dollars(100, 10)


def test_what_a_tool_of_gemini_is_called_with_is_no_tier() -> None:
    said = body(candidates=[{"functionCall": {"args": {"service_tier": "flex"}}}])
    counted = usage(100, 10, promptTokenCount=100)
    assert bill(answer("", counted, body=said), asked(), OPENAI, 0.0).cost == dollars(100, 10)


def test_a_tier_of_which_the_reply_says_nothing_is_the_one_asked_for() -> None:
    result = answer("Hi", usage(100, 10))  # as a stream's is
    assert bill(result, asked(service_tier="flex"), OPENAI, 0.0) == Bill(dollars(50, 5), 0.0)
    google = ModelPrice(model="m", price=PRICE, provider="google")
    cost, estimated = bill(result, asked(serviceTier="priority"), google, 0.0)
    assert cost == estimated == dollars(180, 18)  # it may have been served as usual


# --- whose word counts ------------------------------------------------------------------------------------------------


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    assert bill(answer("Hi", usage(100, 10)), REQUEST, None, 0.0) == Bill(None, 0.0)
    assert bill(answer("Hi"), REQUEST, None, 0.0) == Bill(None, 0.0)


def test_an_answer_from_the_cache_costs_nothing_whatever_it_once_cost() -> None:
    for price in (MODEL, None):
        assert bill(answer("Hi", usage(100, 10, cost=5.0), cached=True), REQUEST, price, 0.0) == Bill(0.0, 0.0)


@pytest.mark.parametrize("price", [MODEL, None])
def test_the_servers_own_word_wins(price: ModelPrice | None) -> None:
    assert bill(answer("Hi", usage(100, 10, cost=0.25)), REQUEST, price, 0.0) == Bill(0.25, 0.0)
    assert bill(answer("Hi", usage(100, 10, cost="0.25")), REQUEST, price, 0.0) == Bill(0.25, 0.0)
    assert bill(answer("Hi", usage(100, 10, cost=0)), REQUEST, price, 0.0) == Bill(0.0, 0.0)


@pytest.mark.parametrize("cost", [None, True, "much", [], {}, {"total_cost": None}, math.nan, math.inf, 10**400])
def test_a_word_that_is_no_amount_does_not_count(cost: Any) -> None:
    assert bill(answer("Hi", usage(100, 10, cost=cost)), REQUEST, MODEL, 0.0) == Bill(dollars(100, 10), 0.0)


def test_the_price_is_that_of_the_moment() -> None:
    price = ModelPrice(model="m", price=PRICE, changes=((1000.0, Price(input=10, output=20)),))
    assert bill(answer("Hi", usage(100, 10)), REQUEST, price, 999.0).cost == dollars(100, 10)
    assert bill(answer("Hi", usage(100, 10)), REQUEST, price, 1000.0).cost == dollars(1000, 100)


# --- what was not counted ---------------------------------------------------------------------------------------------


def test_without_usage_all_of_it_is_estimated_from_request_and_reply() -> None:
    cost, estimated = bill(answer("y" * 40), REQUEST, MODEL, 0.0)
    assert cost == estimated == dollars(PROMPT, 10)


def test_without_usage_a_price_for_each_request_is_part_of_the_estimate() -> None:
    price = ModelPrice(model="m", price=Price(input=1, output=2, request=0.5))
    cost, estimated = bill(answer("y" * 40), REQUEST, price, 0.0)
    assert cost == estimated == dollars(500_000 + PROMPT, 10)


def test_thinking_and_calls_of_tools_count_as_reply() -> None:
    calls = [ToolCall("call_1", "function", {"name": "look", "arguments": '{"up": 12345}'})]
    quiet, _ = bill(answer(""), REQUEST, MODEL, 0.0)
    loud, _ = bill(answer("", reasoning_content="t" * 40, tool_calls=calls), REQUEST, MODEL, 0.0)
    assert quiet == dollars(PROMPT)
    assert loud == dollars(PROMPT, 10 + 6)  # 17 letters of name and arguments, 3.3 of which are a token


def test_a_text_is_measured_in_bytes_of_utf_8_half_characters_included() -> None:
    assert bill(answer("今天天气"), REQUEST, MODEL, 0.0).cost == dollars(PROMPT, 3)
    assert bill(answer("\ud83d" * 4), REQUEST, MODEL, 0.0).cost == dollars(PROMPT, 3)


def test_counts_of_zero_are_those_of_a_server_that_does_not_count() -> None:
    cost, estimated = bill(answer("y" * 40, usage(0, 0)), REQUEST, MODEL, 0.0)
    assert cost == estimated == dollars(PROMPT, 10)


def test_only_the_count_that_is_missing_is_estimated() -> None:
    assert bill(answer("y" * 40, usage(50, 0)), REQUEST, MODEL, 0.0) == Bill(dollars(50, 10), dollars(0, 10))
    assert bill(answer("y" * 40, usage(0, 50)), REQUEST, MODEL, 0.0) == Bill(dollars(PROMPT, 50), dollars(PROMPT))


def test_an_empty_reply_of_no_tokens_is_not_estimated() -> None:
    assert bill(answer("", usage(50, 0)), REQUEST, MODEL, 0.0) == Bill(dollars(50), 0.0)


# --- odd numbers ------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.integers(10**300, 10**310),
    st.floats(),
    st.sampled_from(["12", "12.5", "-3", "", "many", "1e400", [], {}, [1], {"a": 1}]),
)
DETAILS = st.one_of(
    NUMBERS,
    st.dictionaries(
        st.sampled_from(["audio_tokens", "ephemeral_1h_input_tokens", "web_search_requests", "total_cost"]), NUMBERS
    ),
    st.lists(st.one_of(NUMBERS, st.fixed_dictionaries({"modality": st.just("AUDIO"), "tokenCount": NUMBERS}))),
)
FIELDS = [
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens",
    "cost", "promptTokenCount", "is_byok",
]  # fmt: skip
OBJECTS = [
    "prompt_tokens_details", "completion_tokens_details", "cache_creation", "server_tool_use", "promptTokensDetails",
    "candidatesTokensDetails", "cacheTokensDetails", "cost_details", "cost",
]  # fmt: skip
WORDS = ["service_tier", "serviceTier", "trafficType", "speed", "inference_geo"]
ODD_USAGES = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    st.dictionaries(st.sampled_from(FIELDS), NUMBERS),
    st.dictionaries(st.sampled_from(OBJECTS), DETAILS),
    st.dictionaries(st.sampled_from(WORDS), st.one_of(NUMBERS, st.sampled_from(["flex", "batch", "fast", "us", "x"]))),
)
RATES = st.floats(0, 1000, allow_subnormal=False)
PRICES = st.builds(
    Price,
    input=RATES,
    output=RATES,
    cached_input=st.none() | RATES,
    cache_write=st.none() | RATES,
    cache_write_1h=st.none() | RATES,
    audio_input=st.none() | RATES,
    audio_output=st.none() | RATES,
    batch_input=st.none() | RATES,
    batch_output=st.none() | RATES,
    request=RATES,
)


@pytest.mark.slow
@given(counted=ODD_USAGES, price=PRICES, provider=st.sampled_from(["", "openai", "google", "anthropic"]))
def test_no_usage_however_odd_fails_or_makes_a_cost_that_is_none(
    counted: dict[str, Any], price: Price, provider: str
) -> None:
    for cost, estimated in (
        charge(counted, price, provider=provider),
        bill(answer("Hi", Usage(counted)), REQUEST, ModelPrice(model="m", price=price, provider=provider), 0.0),
    ):
        assert cost is not None
        assert 0 <= cost < math.inf
        assert 0 <= estimated <= cost * (1 + 1e-9)
    partial = answer("Hi", Usage(counted))
    assert 0 <= lost(REQUEST, partial, ModelPrice(model="m", price=price), 0.0) < math.inf


@pytest.mark.parametrize("number", [None, -5, "x", [], {}, math.nan, math.inf, "1e400"])
def test_what_is_no_count_is_zero(number: Any) -> None:
    assert charge(usage(number, number, cached_tokens=number, cache_write_tokens=number), PRICE).cost == 0.0


@pytest.mark.parametrize("number", [12, 12.0, "12", 12.9, "12.9"])
def test_counts_come_as_texts_and_floats_too(number: Any) -> None:
    assert charge(usage(number, 0), PRICE).cost == dollars(12)


COUNTS = st.integers(0, 10**6)


@given(first=st.tuples(*[COUNTS] * 4), second=st.tuples(*[COUNTS] * 4), price=PRICES)
def test_two_replies_cost_what_their_tokens_together_do(
    first: tuple[int, ...], second: tuple[int, ...], price: Price
) -> None:
    def cost(fresh: int, cached: int, written: int, out: int) -> float:
        counted = usage(fresh + cached + written, out, cached_tokens=cached, cache_write_tokens=written)
        found = charge(counted, price).cost
        assert found is not None
        return found - price.request

    together = (a + b for a, b in zip(first, second, strict=True))
    assert cost(*first) + cost(*second) == pytest.approx(cost(*together), rel=1e-9, abs=1e-9)


# --- what broke off ---------------------------------------------------------------------------------------------------


def test_what_broke_off_is_billed_for_its_prompt() -> None:
    for error in (RequestTimeout("t"), ConnectionFailed("c"), MalformedResponse("m"), RequestCancelled("s"), None):
        assert lost(REQUEST, error, MODEL, 0.0) == dollars(PROMPT)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("no", status=401),
        RateLimited("slow", status=429),
        ServerError("oops", status=500),
        Overloaded("full", status=529),
        TlsFailed("no"),
        ConfigError("no"),
        RequestCancelled("not sent", attempts=0),
        RequestTimeout("not sent", attempts=0),
    ],
)
def test_what_the_server_refused_or_never_got_is_not_billed(error: BaseException) -> None:
    assert lost(REQUEST, error, MODEL, 0.0) == 0.0


def test_what_had_arrived_of_a_stream_is_billed_too() -> None:
    broken = StreamBroken("cut", partial="y" * 40, result=answer("y" * 40, reasoning_content="t" * 20))
    assert lost(REQUEST, broken, MODEL, 0.0) == dollars(PROMPT, 15)
    assert lost(REQUEST, StreamBroken("cut", partial="y" * 40), MODEL, 0.0) == dollars(PROMPT, 10)
    assert lost(REQUEST, answer("y" * 40), MODEL, 0.0) == dollars(PROMPT, 10)


def test_the_first_count_of_a_stream_is_no_count_of_what_came_after_it() -> None:
    # Anthropic's first event counts the prompt, and one token of the reply.
    arrived = answer("y" * 400, usage(1_000, 1, cached_tokens=500))
    price = ModelPrice(model="m", price=Price(input=1, output=2, cached_input=0.1))
    assert lost(REQUEST, arrived, price, 0.0) == dollars(500 + 50, 100)


def test_a_count_beyond_what_arrived_stands() -> None:
    assert lost(REQUEST, answer("y" * 40, usage(50, 70)), MODEL, 0.0) == dollars(50, 70)


def test_a_rejected_reply_is_paid_for_as_it_was_counted() -> None:
    rejected = SchemaMismatch("no JSON", content="y" * 4000, usage=usage(50, 7))
    assert lost(REQUEST, rejected, MODEL, 0.0) == dollars(50, 7)
    assert lost(REQUEST, SchemaMismatch("no JSON", content="y" * 40), MODEL, 0.0) == dollars(PROMPT, 10)


def test_without_a_price_nothing_is_known_to_be_lost_but_what_the_server_says() -> None:
    assert lost(REQUEST, RequestTimeout("t"), None, 0.0) == 0.0
    assert lost(REQUEST, SchemaMismatch("no", usage=usage(5, 5, cost=0.5)), None, 0.0) == 0.5


def test_what_broke_off_is_billed_by_the_tier_that_was_asked_for() -> None:
    assert lost(asked(service_tier="flex"), RequestTimeout("t"), OPENAI, 0.0) == dollars(PROMPT / 2)


def test_an_error_of_no_known_family_counts_as_sent() -> None:
    assert lost(REQUEST, RequestError("?"), MODEL, 0.0) == dollars(PROMPT)
    assert lost(REQUEST, GeneratorExit(), MODEL, 0.0) == dollars(PROMPT)
