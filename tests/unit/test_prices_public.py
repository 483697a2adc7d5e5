"""`MODEL_PRICING`: a read-only mapping, in dollars per token."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import pytest

import flexllm
from flexllm.prices import load_table
from flexllm.prices.public import MODEL_PRICING, ModelPricing

TABLE = load_table(None)
SUNDAY = 1_795_305_600.0
"""2026-11-22, the day of the list."""


def made(now: float = SUNDAY) -> ModelPricing:
    """Return the package's own prices at a moment."""
    return ModelPricing(lambda: TABLE, lambda: now)


def test_prices_are_dollars_per_token() -> None:
    assert made()["gpt-4o"] == {
        "input": 2.5e-06, "output": 1e-05, "cached_input": 1.25e-06, "batch_input": 1.25e-06, "batch_output": 5e-06,
    }  # fmt: skip
    assert made()["qwen-max"] == {"input": 1.6e-06, "output": 6.4e-06}


def test_it_is_a_mapping_that_cannot_be_written() -> None:
    pricing = made()
    assert isinstance(pricing, Mapping)
    assert not isinstance(pricing, MutableMapping)
    with pytest.raises(TypeError):
        pricing["gpt-4o"] = {}  # type: ignore[index]
    pricing["gpt-4o"]["input"] = 0.0  # a copy
    assert pricing["gpt-4o"]["input"] == 2.5e-06


def test_an_unknown_model_is_a_missing_key() -> None:
    pricing = made()
    assert "gpt-4o-2024-08-06" not in pricing  # exact names alone
    assert pricing.get("no-such-model") is None
    with pytest.raises(KeyError):
        pricing["no-such-model"]


def test_all_models_are_there_once_and_json_able() -> None:
    pricing = made()
    assert len(pricing) == len(list(pricing)) == 146  # one is sold by two
    assert pricing["openai/gpt-oss-120b"]["cached_input"] == 7.5e-08
    assert json.loads(json.dumps(dict(pricing)))["gpt-4o"]["output"] == 1e-05
    assert all(math.isfinite(price) and price > 0 for prices in pricing.values() for price in prices.values())
    assert "2026-11-22" in repr(pricing)


def test_announced_changes_hold_from_their_day_on() -> None:
    assert made()["gemini-4-argon"]["input"] == 2e-06
    assert made(1_796_083_200.0)["gemini-4-argon"]["input"] == 4e-06


def test_the_hour_of_the_day_makes_no_difference() -> None:
    assert made()["deepseek-v4-flash"]["input"] == 3e-07  # although it is a Sunday


def test_nothing_is_read_before_it_is_looked_into() -> None:
    code = (
        "from flexllm.prices import table\n"
        "from flexllm.prices.public import MODEL_PRICING\n"
        "assert table._default._table is None\n"
        "assert MODEL_PRICING['gpt-4o']['input'] == 2.5e-06\n"
        "assert table._default._table is not None\n"
    )
    folder = Path(flexllm.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_public_one_is_such_a_mapping() -> None:
    assert isinstance(MODEL_PRICING, ModelPricing)
