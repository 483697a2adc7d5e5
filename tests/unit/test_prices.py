"""The table of prices: what its file says, what it holds at a moment and at a server, and what is not known."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import threading
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flexllm
from flexllm.errors import ConfigError, FlexLLMError, PriceUnknown
from flexllm.prices import (
    ModelPrice,
    Price,
    PriceList,
    PriceOptions,
    PriceRow,
    PriceTable,
    Tier,
    dearest,
    default_table,
    load_table,
    price_of,
    price_unknown,
)
from flexllm.prices.fetched import fetched_list, keep_list
from flexllm.prices.names import key_of
from flexllm.prices.rows import UNIT, day_of, read_list, unix_of, write_list
from flexllm.prices.table import bundled_list

FILE = Path(flexllm.__file__).parent / "data" / "prices.json"

FIGURES = [
    # model, input, output, cached input, cache write, for an hour, batch input, batch output
    ("gpt-6.2-astra", 8, 40, 0.4, None, None, 4, 20),
    ("gpt-6.1-sol", 2, 10, 0.1, 2.5, None, 1, 5),
    ("gpt-6-luna", 0.1, 0.5, 0.01, 0.125, None, 0.05, 0.25),
    ("gpt-5.6-terra", 2, 12, 0.2, 2.5, None, 1, 6),
    ("gpt-5.5-pro", 30, 180, None, None, None, 15, 90),
    ("gpt-5.3-codex", 1.75, 14, 0.175, None, None, None, None),
    ("gpt-5-nano", 0.05, 0.4, 0.005, None, None, 0.025, 0.2),
    ("gpt-4.1-mini", 0.4, 1.6, 0.1, None, None, 0.2, 0.8),
    ("gpt-4o", 2.5, 10, 1.25, None, None, 1.25, 5),
    ("gpt-4o-mini", 0.15, 0.6, 0.075, None, None, 0.075, 0.3),
    ("gpt-3.5-turbo", 0.5, 1.5, None, None, None, 0.25, 0.75),
    ("o4-mini", 1.1, 4.4, 0.275, None, None, 0.55, 2.2),
    ("claude-fable-5-2", 8, 40, 0.2, 10, 16, 4, 20),
    ("claude-opus-4-1", 15, 75, 1.5, 18.75, 30, None, None),
    ("claude-sonnet-4-5", 3, 15, 0.3, 3.75, 6, 1.5, 7.5),
    ("claude-haiku-5-5", 0.1, 0.5, 0.01, 0.125, 0.2, 0.05, 0.25),
    ("gemini-3.5-flash", 1.5, 9, 0.15, None, None, 0.75, 4.5),
    ("gemini-2.0-flash-lite", 0.075, 0.3, None, None, None, None, None),
    ("deepseek-chat", 0.28, 0.42, 0.028, None, None, None, None),
    ("grok-4.7", 2, 6, 0.5, None, None, 1.6, 4.8),
    ("grok-4.6", 2, 6, 0.5, None, None, None, None),
    ("mistral-large-4", 0.7, 2.1, 0.07, None, None, 0.35, 1.05),
    ("devstral-medium-latest", 0.4, 2, 0.04, None, None, None, None),
    ("kimi-k3", 3, 15, 0.3, 3, 6, None, None),
    ("kimi-k2.6", 0.95, 4, 0.16, None, None, None, None),
    ("glm-4.5-air", 0.2, 1.1, 0.03, None, None, None, None),
    ("MiniMax-M2.7", 0.3, 1.2, 0.06, 0.375, None, None, None),
    ("qwen3.7-max", 2.5, 7.5, 0.5, 3.125, None, None, None),
    ("qwen-turbo", 0.05, 0.2, None, None, None, None, None),
    ("llama-3.3-70b-versatile", 0.59, 0.79, None, None, None, None, None),
    ("openai/gpt-oss-20b", 0.075, 0.3, 0.0375, None, None, 0.0375, 0.15),
    ("deepseek-ai/DeepSeek-V4-Pro-0813", 1.32, 3.96, 0.13, None, None, None, None),
    ("command-r7b", 0.0375, 0.15, None, None, None, None, None),
    ("sonar-deep-research", 2, 8, None, None, None, None, None),
    ("muse-spark-1.3", 1.25, 4.25, 0.15, None, None, None, None),
    ("doubao-seed-2-1-lite-260915", 0.115, 0.388126, 0.023, None, None, None, None),
]
"""Read from the list of 2026-11-22 by hand."""


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return load_table(None)


def row(table: PriceTable, model: str) -> PriceRow:
    (found,) = table.find_rows(model)
    return found


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


# --- what the package brings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figures", FIGURES, ids=[figures[0] for figures in FIGURES])
def test_the_table_holds_the_published_prices(
    table: PriceTable, figures: tuple[str, float, float, float | None]
) -> None:
    model, *expected = figures
    price = row(table, model).price.price
    found = [price.input, price.output, price.cached_input, price.cache_write, price.cache_write_1h]
    assert [*found, price.batch_input, price.batch_output] == expected
    assert (price.audio_input, price.audio_output, price.request) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("model", "tiers"),
    [
        ("gpt-6-astra", [(272_000, 20, 75, 2)]),
        ("gpt-5.4-pro", [(272_000, 60, 270, None)]),
        ("claude-haiku-5-5", [(100_000, 0.5, 2.5, 0.05)]),
        ("gemini-2.5-pro", [(200_000, 2.5, 15, 0.25)]),
        ("grok-4.5", [(200_000, 4, 12, 0.6)]),
        ("MiniMax-M3", [(512_000, 0.6, 2.4, 0.12)]),
        ("qwen3.5-plus", [(256_000, 0.5, 3, None)]),
        ("qwen3-max", [(32_000, 2.4, 12, None), (128_000, 3, 15, None)]),
        ("qwen3-coder-plus", [(32_000, 1.8, 9, 0.18), (128_000, 3, 15, None), (256_000, 6, 60, None)]),
        ("qwen3-coder-flash", [(32_000, 0.5, 2.5, 0.12), (128_000, 0.8, 4, None), (256_000, 1.6, 9.6, None)]),
        ("qwen3-vl-plus", [(32_000, 0.3, 2.4, None), (128_000, 0.6, 4.8, None)]),
        ("gpt-4o", []),
        ("gpt-5.4-mini", []),
    ],
)
def test_long_prompts_have_their_tiers(
    table: PriceTable, model: str, tiers: list[tuple[int, float, float, float]]
) -> None:
    expected = tuple(Tier(above=above, input=i, output=o, cached_input=cached) for above, i, o, cached in tiers)
    assert row(table, model).price.price.tiers == expected


@pytest.mark.parametrize(
    ("model", "moment", "figures"),
    [
        ("gemini-4-argon", "2026-11-30T23:59:59", (2, 10, 0.1, 1, 5)),
        ("gemini-4-argon", "2026-12-01T00:00:00", (4, 20, 0.2, 2, 10)),
        ("gemini-3.8-flash", "2026-12-31T23:59:59", (0.75, 3.75, 0.075, 0.375, 1.875)),
        ("gemini-3.8-flash", "2027-01-01T00:00:00", (1.5, 7.5, 0.15, 0.75, 3.75)),
        ("gemini-3.7-flash", "2027-01-01T00:00:00", (1.5, 7.5, 0.15, 0.75, 3.75)),
        ("gemini-3.6-flash", "2030-06-01T00:00:00", (1.5, 7.5, 0.15, 0.75, 3.75)),
        ("gemini-3.5-flash", "2030-06-01T00:00:00", (1.5, 9, 0.15, 0.75, 4.5)),
    ],
)
def test_announced_changes_hold_from_their_day_on(
    table: PriceTable, model: str, moment: str, figures: tuple[float, ...]
) -> None:
    found = table.find(model)
    assert found is not None
    price = found.at(unix(moment))
    assert (price.input, price.output, price.cached_input, price.batch_input, price.batch_output) == figures


@pytest.mark.parametrize(
    ("moment", "is_peak"),
    [
        ("2026-11-23T00:59:59", False),  # a Monday
        ("2026-11-23T01:00:00", True),
        ("2026-11-23T03:59:59", True),
        ("2026-11-23T04:00:00", False),
        ("2026-11-23T06:00:00", True),
        ("2026-11-23T10:00:00", False),
        ("2026-11-27T09:59:59", True),  # a Friday
        ("2026-11-28T02:00:00", False),
        ("2026-11-29T07:00:00", False),
    ],
)
def test_deepseek_costs_half_outside_its_peak_hours(table: PriceTable, moment: str, is_peak: bool) -> None:
    for model, peak, off_peak in (
        ("deepseek-flash", (0.3, 1.2, 0.006), (0.15, 0.6, 0.003)),
        ("deepseek-v4-flash", (0.3, 1.2, 0.006), (0.15, 0.6, 0.003)),
        ("deepseek-v4-pro", (1.32, 3.96, 0.044), (0.66, 1.98, 0.022)),
    ):
        found = table.find(model)
        assert found is not None
        price = found.at(unix(moment))
        assert (price.input, price.output, price.cached_input) == (peak if is_peak else off_peak)


def test_what_one_source_alone_says_is_marked(table: PriceTable) -> None:
    uncertain = {one.model for one in table if one.price.uncertain}
    assert uncertain == {"gpt-6.2-astra", "gpt-6.2-sol", "deepseek-chat", "deepseek-reasoner"}
    assert "litellm project announcement" in row(table, "gpt-6.2-astra").note
    other = Price(input=0.135, output=0.55, cached_input=0.035)
    assert row(table, "deepseek-reasoner").disputed == (("genai-prices", other),)


def test_the_table_knows_windows_limits_and_shutdowns(table: PriceTable) -> None:
    found = [(one.context_window, one.max_output, one.shutdown) for one in (row(table, m) for m in LIMITS)]
    assert found == list(LIMITS.values())


LIMITS = {
    "gpt-6-luna": (1_050_000, 128_000, ""),
    "gpt-5": (400_000, 128_000, "2026-12-11"),
    "gpt-4.1-nano": (1_047_576, 32_768, "2026-10-23"),
    "claude-sonnet-4-5": (200_000, 64_000, "2026-11-30"),
    "claude-fable-5-2": (1_000_000, None, ""),
    "deepseek-chat": (131_072, 8_192, "2026-07-24"),
    "kimi-k2.5": (262_144, 262_144, "2026-08-31"),
    "command-a": (None, None, ""),
}


def test_the_table_is_whole_dated_and_without_doubles(table: PriceTable) -> None:
    assert (len(table), table.date) == (147, "2026-11-22")
    assert Counter(one.provider for one in table) == {
        "openai": 37, "anthropic": 16, "google": 15, "dashscope": 15, "mistral": 11, "zai": 8, "moonshot": 6, "xai": 6,
        "together": 6, "deepseek": 5, "groq": 5, "minimax": 5, "cohere": 4, "perplexity": 4, "meta": 2, "volcengine": 2,
    }  # fmt: skip
    assert Counter((one.provider, key_of(one.model)) for one in table).most_common(1)[0][1] == 1
    assert {one.price.date for one in table} == {"2026-11-22"}
    assert all(one.price.source for one in table)
    assert Counter(bool(one.price.price.tiers) for one in table)[True] == 32


def test_every_price_of_the_table_is_plausible(table: PriceTable) -> None:
    for one in table:
        price = one.price.price
        assert 0 < price.input <= price.output <= 200, one.model
        for cheaper in (price.cached_input, price.batch_input, *(tier.cached_input for tier in price.tiers)):
            assert cheaper is None or 0 < cheaper < max(price.input, *(tier.input for tier in price.tiers), 0), (
                one.model
            )
        assert price.cache_write is None or price.cache_write >= price.input, one.model
        assert all(tier.input > price.input for tier in price.tiers), one.model


def test_every_row_is_found_by_its_own_name(table: PriceTable) -> None:
    for one in table:
        assert one in table.find_rows(one.model)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_has_one_model_a_line_as_it_is_written_again() -> None:
    text = FILE.read_text(encoding="utf-8")
    about = json.loads(text)["about"]
    assert text == write_list(read_list(text), about)
    assert sum(line.startswith('{"provider"') for line in text.splitlines()) == 147
    assert json.loads(text)["unit"] == UNIT


amounts = st.one_of(st.integers(0, 1000), st.floats(0, 1e6, allow_nan=False))
optional = st.one_of(st.none(), amounts)
tiers = st.dictionaries(st.integers(1, 10**7), st.tuples(amounts, amounts, optional), max_size=3).map(
    lambda steps: tuple(
        Tier(above=above, input=i, output=o, cached_input=cached) for above, (i, o, cached) in sorted(steps.items())
    )
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
prices = st.builds(
    Price, input=amounts, output=amounts, cached_input=optional, cache_write=optional, cache_write_1h=optional,
    audio_input=optional, audio_output=optional, batch_input=optional, batch_output=optional, request=amounts, tiers=tiers,
)  # fmt: skip
days = st.dates(datetime(2000, 1, 1).date(), datetime(2100, 1, 1).date()).map(str)
changes = st.dictionaries(days.map(unix_of), prices, max_size=3).map(lambda found: tuple(sorted(found.items())))
rows = st.builds(
    PriceRow,
    price=st.builds(
        ModelPrice, model=names, provider=names, price=prices, changes=changes, source=names, uncertain=st.booleans(),
        date=st.just("2026-01-02"),
    ),
    disputed=st.lists(st.tuples(names, prices), max_size=2).map(tuple),
    context_window=st.one_of(st.none(), st.integers(1)),
    max_output=st.one_of(st.none(), st.integers(1)),
    shutdown=st.one_of(st.just(""), days),
    note=st.one_of(st.just(""), names),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(rows, max_size=4).map(tuple))
def test_a_list_that_is_written_reads_back_equal(written: tuple[PriceRow, ...]) -> None:
    prices = PriceList("2026-01-02", written)
    assert read_list(write_list(prices, "for a test")) == prices


def test_peak_hours_read_back_equal(table: PriceTable) -> None:
    prices = PriceList(table.date, tuple(table))
    assert read_list(write_list(prices, "")) == prices


def one_line(**fields: object) -> str:
    line = {"provider": "p", "model": "m", "input": 1, "output": 2, **fields}
    return json.dumps({"date": "2026-01-02", "models": [{k: v for k, v in line.items() if v != "absent"}]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no 'models'"),
        ('{"date": "2026-01-02"}', "no 'models'"),
        ('{"models": []}', "no day"),
        ('{"date": "2026-13-02", "models": []}', "no day"),
        ('{"date": 5, "models": []}', "date=5"),
        ('{"date": "2026-01-02", "models": [5]}', "model 1 of the list is no JSON object"),
        (one_line(input=-1), "model 1 of the list ('m'): input=-1"),
        (one_line(input="1"), "input='1'"),
        (one_line(output=None), "output=None"),
        (one_line(output="absent"), "output is missing"),
        (one_line(model="absent"), "model is missing"),
        (one_line(model=5), "model=5"),
        (one_line(output=float("nan")), "output=nan"),
        (one_line(output=float("inf")), "output=inf"),
        (one_line(cached_input=True), "cached_input=True"),
        (one_line(tiers=[{"input": 1, "output": 2}]), "tiers do not rise"),
        (one_line(tiers=[{"above": 5, "input": 1, "output": 2}, {"above": 5, "input": 1, "output": 2}]), "do not rise"),
        (one_line(tiers=[{"above": 5, "input": -1, "output": 2}]), "input=-1"),
        (one_line(tiers=5), "is damaged"),
        (one_line(changes=[{"input": 1, "output": 2}]), "is damaged: KeyError('from')"),
        (one_line(changes=[{"from": "soon", "input": 1, "output": 2}]), "'soon' is no day"),
        (
            one_line(changes=[{"from": day, "input": 1, "output": 2} for day in ("2027-01-01", "2026-01-01")]),
            "not in the order",
        ),
        (one_line(off_peak={"input": 1, "output": 1}, peak_hours=[[4, 1]]), "no hours of a day"),
        (one_line(off_peak={"input": 1, "output": 1}, peak_hours=[[4]]), "is damaged"),
        (one_line(context_window=0), "context_window=0"),
        (one_line(max_output=1.5), "max_output=1.5"),
    ],
)
def test_a_damaged_list_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        read_list(text)
    assert not str(caught.value).endswith(".")


def test_fields_of_a_newer_release_are_left_alone() -> None:
    (found,) = read_list(one_line(by_the_minute=3)).rows
    assert (found.price.price.input, found.model) == (1, "m")


def test_a_list_with_bytes_that_are_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="no JSON"):
        read_list(b"\xff\xfe\x00{")


def test_days_are_those_of_utc() -> None:
    assert unix_of("2026-12-01") == 1_796_083_200
    assert day_of(1_796_083_200) == "2026-12-01"
    assert day_of(1_796_083_199) == "2026-11-30"


# --- fetched prices beside it -----------------------------------------------------------------------------------------


def fetched(tmp_path: Path, *lines: dict[str, object], date: str = "2026-12-24") -> str:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"date": date, "models": lines}), encoding="utf-8")
    return str(path)


def test_fetched_prices_count_when_the_table_is_loaded(tmp_path: Path) -> None:
    path = fetched(tmp_path, {"provider": "openrouter", "model": "openai/gpt-9", "input": 7, "output": 8})
    table = load_table(path)
    found = table.find("gpt-9")
    assert found is not None
    assert (found.price.input, found.date, found.provider) == (7, "2026-12-24", "openai")
    assert table.date == "2026-12-24"
    assert len(table) == 149  # at OpenAI, and at OpenRouter
    assert load_table(None).find("gpt-9") is None


@pytest.mark.parametrize("content", ["", "{}", '{"date": "2026-12-24", "models": [{"model": "gpt-4o", "input": -1}]}'])
def test_a_damaged_fetched_file_costs_one_warning(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        table = load_table(str(path))
    assert len(table) == 147
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "flexllm pricing --update" in caplog.text


def test_a_fetched_file_that_is_a_folder_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(load_table(str(tmp_path))) == 147
    assert len(caplog.records) == 1


def test_a_file_that_is_not_there_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fetched_list(str(tmp_path / "nothing.json")) is None
    assert fetched_list("~nobody-at-all/prices.json") is None
    assert caplog.records == []


def test_what_was_fetched_is_kept_whole_and_private_to_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "prices.json"
    prices = PriceList("2026-12-24", bundled_list().rows[:3])
    keep_list(prices, "for a test", str(path))
    keep_list(prices, "for a test", str(path))
    assert [one.name for one in path.parent.iterdir()] == ["prices.json"]
    found = fetched_list(str(path))
    assert found is not None
    assert [one.model for one in found.rows] == [one.model for one in prices.rows]


def test_keeping_follows_a_link_and_leaves_it_there(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "prices.json"
    target.parent.mkdir()
    link = tmp_path / "prices.json"
    link.symlink_to(target)
    keep_list(PriceList("2026-12-24", bundled_list().rows[:1]), "", str(link))
    assert link.is_symlink()
    assert target.read_text().startswith("{")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prices.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep_list(PriceList("2026-12-24", bundled_list().rows), "", str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- price_of ---------------------------------------------------------------------------------------------------------


def test_the_default_table_is_loaded_once_by_whichever_thread_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from flexllm.prices import table as room

    monkeypatch.setattr(room, "_default", room._Default())
    loads = []
    load = room.load_table
    monkeypatch.setattr(room, "load_table", lambda: (loads.append(1), load(None))[1])
    gate = threading.Barrier(8)
    found: list[PriceTable] = []

    def ask() -> None:
        gate.wait()
        found.append(default_table())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
    assert len(loads) == 1


def test_own_prices_win_by_name_then_for_all_then_the_table() -> None:
    mine, other = Price(input=1, output=2), Price(input=3, output=4)
    own = PriceOptions(price=other, named={"gpt-4o": mine})

    def costs(model: str, own: PriceOptions | None) -> Price | None:
        found = price_of(model, None, own)
        return found.price if found else None

    assert costs("gpt-4o", own) == mine
    assert costs("whatever", own) == other
    assert costs("whatever", PriceOptions(named={"gpt-4o": mine})) is None
    table_price = costs("gpt-4o-mini", PriceOptions(named={"gpt-4o": mine}))
    assert table_price is not None
    assert table_price.input == 0.15
    assert costs("gpt-4o", PriceOptions()) == costs("gpt-4o", None)


def test_a_price_of_zero_of_ones_own_is_a_price() -> None:
    found = price_of("local-model", "http://localhost:8000/v1", PriceOptions(price=Price(input=0, output=0)))
    assert found is not None
    assert (found.model, found.price.input, found.date, found.provider) == ("local-model", 0, "", "")


@pytest.mark.parametrize(
    "model", ["", " ", "gpt", "my-model", "x" * 100_000, "gpt-4o\n", "gpt-4o\0", "模型", None, 5, b"gpt-4o", ["gpt-4o"]]
)
def test_what_is_not_in_the_table_has_no_price(model: object) -> None:
    assert price_of(model) is None  # type: ignore[arg-type]
    assert default_table().find_rows(model) == ()  # type: ignore[arg-type]


def test_the_error_for_an_unknown_price_says_how_to_give_one() -> None:
    error = price_unknown("my-model")
    assert isinstance(error, (PriceUnknown, LookupError))
    assert isinstance(error, FlexLLMError)
    for way in ("'my-model'", "price=", "--price ", "configuration", "flexllm pricing --update", "per million"):
        assert way in str(error)
    assert not str(error).endswith(".")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(price_unknown("x" * 10_000))) < 500


def test_the_nearest_names_are_those_that_look_alike(table: PriceTable) -> None:
    assert table.nearest("gtp-4o")[0] == "gpt-4o"
    assert table.nearest("Claude-Sonnet-4.7") != []
    assert table.nearest("zzz") == []
    assert len(table.nearest("gpt-" * 1000)) <= 3


# --- where any of several prices may hold -----------------------------------------------------------------------------


def test_the_dearest_of_equal_prices_is_that_price_through_all_its_time() -> None:
    price = ModelPrice(model="m", price=Price(input=1, output=2), changes=((9.0, Price(input=3, output=4)),))
    assert dearest([price, price]) is price


def test_the_dearest_of_several_is_the_highest_of_each_kind_at_any_time() -> None:
    one = ModelPrice(model="m", provider="a", price=Price(input=10, output=1, cached_input=1, cache_write=12))
    two = ModelPrice(
        model="m",
        provider="b",
        price=Price(input=1, output=8, tiers=(Tier(above=100, input=20, output=9),)),
        changes=((5.0, Price(input=2, output=11, request=0.5)),),
        off_peak=Price(input=0.5, output=4),
    )
    price = dearest([one, two]).at(0.0)
    assert (price.input, price.output, price.cached_input, price.cache_write, price.request) == (10, 11, 2, 12, 0.5)
    long = price.for_prompt(101)
    assert (long.input, long.output) == (20, 11)
