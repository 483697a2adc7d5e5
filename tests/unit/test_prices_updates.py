"""OpenRouter's list of models: how it is read, and what it changes in the table."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import MalformedResponse
from flexllm.prices import ModelPrice, Price, PriceList, PriceRow, PriceTable, Tier
from flexllm.prices.rows import read_list, unix_of, write_list
from flexllm.prices.table import bundled_list
from flexllm.prices.updates import merge, read_models

OWN = bundled_list()
DAY = "2026-12-24"
OPENROUTER = "https://openrouter.ai/api/v1"

LUNA: dict[str, Any] = {
    "id": "openai/gpt-6-luna", "canonical_slug": "openai/gpt-6-luna-2026", "name": "OpenAI: GPT-6 Luna",
    "created": 1795000000, "context_length": 1050000, "hugging_face_id": None, "expiration_date": None,
    "architecture": {"modality": "text+image->text", "input_modalities": ["text", "image", "file"]},
    "pricing": {
        "prompt": "0.0000001", "completion": "0.0000005", "request": "0", "image": "0", "web_search": "0.01",
        "internal_reasoning": "0", "input_cache_read": "0.00000001", "input_cache_write": "0.000000125",
        "overrides": [{"min_prompt_tokens": 272000, "prompt": "0.0000002", "completion": "0.00000075"}],
    },
    "top_provider": {"context_length": 1050000, "max_completion_tokens": 128000, "is_moderated": True},
}  # fmt: skip
"""As OpenRouter's API reference shows it."""


def entry(model: str, prompt: Any = "0.000001", completion: Any = "0.000002", **pricing: Any) -> dict[str, Any]:
    return {"id": model, "pricing": {"prompt": prompt, "completion": completion, **pricing}}


def body(*entries: Any) -> bytes:
    return json.dumps({"data": entries}).encode()


def read_one(given: Any) -> PriceRow:
    (row,) = read_models(body(given), DAY).rows
    return row


def after(*entries: dict[str, Any], own: PriceList = OWN, date: str = DAY) -> PriceTable:
    """Return the table once these entries were fetched."""
    fetched = read_models(body(*entries), date)
    return PriceTable(merge(own, fetched), date)


def costs(table: PriceTable, model: str, base_url: str | None = None) -> tuple[float, float] | None:
    found = table.find(model, base_url)
    return (found.price.input, found.price.output) if found else None


# --- reading ----------------------------------------------------------------------------------------------------------


def test_prices_per_token_become_prices_per_million() -> None:
    row = read_one(LUNA)
    assert row.price == ModelPrice(
        model="openai/gpt-6-luna",
        provider="openrouter",
        price=Price(
            input=0.1,
            output=0.5,
            cached_input=0.01,
            cache_write=0.125,
            tiers=(Tier(above=272_000, input=0.2, output=0.75),),
        ),
        date=DAY,
        source="OpenRouter's list of models",
    )
    assert (row.context_window, row.max_output) == (1_050_000, 128_000)


def test_prices_of_requests_sounds_and_long_caches_are_read() -> None:
    price = read_one(
        entry("a/b", request="0.005", audio="0.00004", audio_output="0.00008", input_cache_write_1h="0.000002")
    ).price.price
    assert (price.request, price.audio_input, price.audio_output, price.cache_write_1h) == (0.005, 40, 80, 2)


def test_a_free_model_costs_nothing_and_says_so() -> None:
    assert read_one(entry("a/b:free", "0", "0")).price.price == Price(input=0, output=0)


def test_zero_for_a_cached_token_means_not_known() -> None:
    price = read_one(entry("a/b", input_cache_read="0", input_cache_write="0", audio="0")).price.price
    assert (price.cached_input, price.cache_write, price.audio_input) == (None, None, None)


@pytest.mark.parametrize(
    "bad",
    [
        entry("openrouter/auto", "-1", "-1"),
        entry("a/b", "-0.000001"),
        entry("a/b", "cheap"),
        entry("a/b", ""),
        entry("a/b", None),
        entry("a/b", True),
        entry("a/b", "NaN"),
        entry("a/b", "Infinity"),
        entry("a/b", "1e999999999999999999999"),
        entry("a/b", completion="1e400"),
        entry("a/b", ["1"]),
        entry("a/b", {}),
        entry("a/b", request="-1"),
        entry("a/b", overrides=[{"min_prompt_tokens": 5}]),
        entry("a/b", overrides=[{"min_prompt_tokens": 5, "prompt": "-1", "completion": "1"}]),
        entry(""),
        {"id": "a/b"},
        {"id": "a/b", "pricing": None},
        {"id": "a/b", "pricing": {}},
        {"id": "a/b", "pricing": {"prompt": "1"}},
        {"id": 5, "pricing": {"prompt": "1", "completion": "1"}},
        {"pricing": {"prompt": "1", "completion": "1"}},
        None, 5, "text", [],
    ],
)  # fmt: skip
def test_what_has_no_price_that_can_be_told_is_left_out(bad: Any) -> None:
    assert [row.model for row in read_models(body(bad, LUNA, bad), DAY).rows] == ["openai/gpt-6-luna"]


@pytest.mark.parametrize(
    ("odd", "is_uncertain"),
    [
        ({"overrides": [{"utc_start": 0, "utc_end": 8, "prompt": "0.1", "completion": "0.1"}]}, True),
        ({"overrides": [{"min_prompt_tokens": 9, "utc_days": [1], "prompt": "0.1", "completion": "0.1"}]}, True),
        ({"overrides": [None]}, True),
        ({"discount": 0.1}, True),
        ({"discount": 0, "overrides": []}, False),
        ({"overrides": None}, False),
        ({"overrides": "x"}, False),
        ({"some_new_key": "1"}, False),
    ],
)
def test_rules_that_cannot_be_expressed_make_a_price_uncertain(odd: dict[str, Any], is_uncertain: bool) -> None:
    row = read_one(entry("a/b", **odd))
    assert row.price.uncertain is is_uncertain
    assert row.price.price.tiers == ()


def test_tiers_rise_whatever_their_order_is() -> None:
    steps = [{"min_prompt_tokens": above, "prompt": "1", "completion": "1"} for above in (300, 100, 200)]
    assert [tier.above for tier in read_one(entry("a/b", overrides=steps)).price.price.tiers] == [100, 200, 300]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b"[]", "no 'data'"),
        (b"{}", "no 'data'"),
        (b'{"data": {}}', "no 'data'"),
        (b'{"data": []}', "no price"),
        (body(entry("a/b", "-1", "-1")), "no price"),
    ],
)
def test_what_is_no_list_of_models_is_refused(answer: bytes, said: str) -> None:
    with pytest.raises(MalformedResponse, match=re.escape(said)):
        read_models(answer, DAY)


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["0", "-1", "1e-6"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
keys = ("prompt", "completion", "request", "input_cache_read", "overrides", "discount", "audio")
entries = st.fixed_dictionaries(
    {"id": values, "pricing": st.one_of(values, st.fixed_dictionaries({}, optional=dict.fromkeys(keys, values)))},
    optional={"context_length": values, "top_provider": values},
)


@pytest.mark.slow
@given(st.lists(st.one_of(values, entries), max_size=4))
def test_no_list_however_odd_breaks_the_reading_or_what_is_kept_of_it(odd: list[Any]) -> None:
    prices = read_models(json.dumps({"data": [*odd, LUNA]}), DAY)
    assert read_list(write_list(prices, "")) == prices
    assert len(PriceTable(merge(OWN, prices), DAY)) >= 148


# --- laid over the table ----------------------------------------------------------------------------------------------


def test_a_newer_price_of_a_maker_replaces_the_tables() -> None:
    table = after(entry("openai/gpt-4o", "0.000009", "0.00003"))
    assert costs(table, "gpt-4o-2024-08-06") == (9, 30)
    found = table.find("gpt-4o")
    assert found is not None
    assert (found.provider, found.date, found.price.batch_input) == ("openai", DAY, None)
    (row,) = table.find_rows("gpt-4o")
    assert (row.context_window, row.shutdown) == (128_000, "2027-01-14")  # what it does not tell stays


@pytest.mark.parametrize("date", ["2026-11-22", "2026-11-21", "2020-01-01"])
def test_an_older_price_changes_nothing_that_the_table_knows(date: str) -> None:
    table = after(entry("openai/gpt-4o", "0.000009", "0.00003"), entry("openai/gpt-9"), date=date)
    assert costs(table, "gpt-4o") == (2.5, 10)
    assert costs(table, "gpt-9") == (1, 2)


def test_a_price_that_agrees_leaves_the_row_which_knows_more() -> None:
    table = after(entry("openai/gpt-4o", "0.0000025", "0.00001"))
    found = table.find("gpt-4o")
    assert found is not None
    assert (found.price.cached_input, found.price.batch_input, found.date) == (1.25, 1.25, "2026-11-22")


def test_dots_and_dashes_are_the_same_model() -> None:
    table = after(entry("anthropic/claude-sonnet-4.5", "0.000009", "0.00003"))
    assert costs(table, "claude-sonnet-4-5") == costs(table, "claude-sonnet-4.5") == (9, 30)
    assert len(table) == 148


@pytest.mark.parametrize(
    ("date", "prompt", "completion", "later"),
    [
        ("2026-11-30", "0.000002", "0.00001", (4, 20)),  # before the change, as the table says
        ("2026-12-02", "0.000004", "0.00002", (4, 20)),  # after it, as announced
        ("2026-12-02", "0.000002", "0.00001", (2, 10)),  # after it, but it did not come
        ("2026-11-30", "0.000003", "0.00001", (4, 20)),  # another price until it comes
    ],
)
def test_announced_changes_are_compared_on_the_day(
    date: str, prompt: str, completion: str, later: tuple[float, float]
) -> None:
    found = after(entry("google/gemini-4-argon", prompt, completion), date=date).find("gemini-4-argon")
    assert found is not None
    today, then = found.at(unix_of(date)), found.at(unix_of("2026-12-05"))
    assert f"{today.input:g}" == f"{float(prompt) * 1e6:g}"
    assert (then.input, then.output) == later


@pytest.mark.parametrize(("prompt", "completion"), [("0.0000003", "0.0000012"), ("0.00000015", "0.0000006")])
def test_an_hourly_price_agrees_with_either_hour(prompt: str, completion: str) -> None:
    hourly = ModelPrice(
        model="gpt-9",
        provider="openai",
        price=Price(input=0.3, output=1.2),
        off_peak=Price(input=0.15, output=0.6),
        peak_hours=((1, 4),),
    )
    own = PriceList(OWN.date, (PriceRow(price=hourly),))
    assert after(entry("openai/gpt-9", prompt, completion), own=own).find("gpt-9") == hourly
    assert costs(after(entry("openai/gpt-9", prompt, "0.1"), own=own), "gpt-9") == (float(prompt) * 1e6, 1e5)


def test_what_others_sell_for_less_does_not_touch_the_makers_price() -> None:
    table = after(entry("deepseek/deepseek-v4-pro", "0.0000001", "0.0000002"))
    assert costs(table, "deepseek-v4-pro", "https://api.deepseek.com") == (1.32, 3.96)
    assert costs(table, "deepseek/deepseek-v4-pro", OPENROUTER) == (0.1, 0.2)


def test_a_new_model_is_known_under_its_makers_name() -> None:
    table = after(entry("openai/gpt-9"), entry("deepseek/deepseek-v9"))
    for model, url, is_certain in (
        ("gpt-9", "https://api.openai.com/v1", True),
        ("openai/gpt-9-2027-01-01", None, True),
        ("deepseek-v9", "https://api.deepseek.com", False),  # others may sell it there for less
        ("deepseek/deepseek-v9", OPENROUTER, True),
    ):
        found = table.find(model, url)
        assert found is not None
        assert found.uncertain is not is_certain, model


def test_open_models_of_a_maker_are_priced_where_they_were_seen_alone() -> None:
    table = after(entry("openai/gpt-oss-120b", "0.00000001", "0.00000002"), entry("someone/model"))
    assert costs(table, "openai/gpt-oss-120b", OPENROUTER) == (0.01, 0.02)
    assert costs(table, "openai/gpt-oss-120b", "https://api.groq.com/openai/v1") == (0.15, 0.6)
    assert costs(table, "someone/model", OPENROUTER) == (1, 2)
    assert costs(table, "someone/model", "https://llm.example.com/v1") is None
    assert costs(table, "someone/model") == (1, 2)
    assert costs(table, "model") is None


def test_variants_and_aliases_are_models_of_openrouter_alone() -> None:
    table = after(entry("openai/gpt-4o:free", "0", "0"), entry("~openai/gpt-latest"), entry("openai/gpt-4o:extended"))
    assert costs(table, "openai/gpt-4o:free", OPENROUTER) == (0, 0)
    assert costs(table, "gpt-4o:free", "https://api.openai.com/v1") is None
    assert costs(table, "gpt-4o") == (2.5, 10)
    assert costs(table, "~openai/gpt-latest", OPENROUTER) == (1, 2)
    assert costs(table, "gpt-latest") is None


def test_asked_at_openrouter_its_own_price_comes_first() -> None:
    table = after(LUNA, entry("anthropic/claude-opus-5.5", "0.000005", "0.00002"))
    found = table.find("openai/gpt-6-luna", OPENROUTER)
    assert found is not None
    assert (found.provider, found.uncertain) == ("openrouter", False)
    elsewhere = table.find("openai/gpt-6-luna")
    assert elsewhere is not None
    assert elsewhere.provider == "openai"


def test_merging_loses_no_row_of_the_table() -> None:
    merged = merge(OWN, read_models(body(LUNA, entry("openai/gpt-4o", "0.1", "0.1"), entry("x/y")), DAY))
    assert [(row.provider, row.model) for row in merged[:147]] == [(row.provider, row.model) for row in OWN.rows]
