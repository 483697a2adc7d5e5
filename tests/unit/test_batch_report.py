"""What `flexllm batch` tells at its end: the command that goes on, which holds no secret."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from flexllm.batch.tally import Tally
from flexllm.cli.batch.report import how_to_go_on, sentence


def command(*words: str) -> str:
    """Return the command line that a user is told to run again."""
    args = argparse.Namespace(argv=["batch", "in.jsonl", *words], input="in.jsonl")
    return how_to_go_on(args, Path("out.jsonl")).splitlines()[-1].removeprefix("  flexllm batch in.jsonl ")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--api-key", "sk-1"], "--api-key KEY"),
        (["--api-key=sk-1"], "--api-key=KEY"),
        (["--api-key", "sk-1", "-c", "4", "--api-key=sk-2"], "--api-key KEY -c 4 --api-key=KEY"),
        (["--api-key", "4", "-c", "4", "--param", "n=4"], "--api-key KEY -c 4 --param n=4"),
        (["--param", 'extra_body={"api_key": "sk-1"}'], "--param extra_body=VALUE"),
        (["--param=extra_body=sk-1"], "--param=extra_body=VALUE"),
        (["--param", "X-Auth-Token=sk-1"], "--param X-Auth-Token=VALUE"),
        (["--param", "client_secret=a=b"], "--param client_secret=VALUE"),
        (["--param", "apikey=sk-1"], "--param apikey=VALUE"),
        (["--param", "max_completion_tokens=9"], "--param max_completion_tokens=9"),
        (["--param", "user=key"], "--param user=key"),
        (["--system", "Be brief? Yes"], "--system 'Be brief? Yes'"),
    ],
)
def test_the_command_that_goes_on_shows_no_secret_and_all_else(words: list[str], shown: str) -> None:
    assert command(*words) == shown


@pytest.mark.parametrize(
    ("total", "retries", "told"),
    [(1, 1, "1 of 1 row answered, 1 retry, 0.5 s; see o"), (3, 2, "1 of 3 rows answered, 2 retries, 0.5 s; see o")],
)
def test_one_is_no_plural(total: int, retries: int, told: str) -> None:
    assert said(total=total, success=1, retries=retries) == told


def test_rows_that_failed_in_an_earlier_run_and_are_left_alone_were_not_answered_by_it() -> None:
    assert said(total=5, success=4, failed=1, resumed=3) == (
        "4 of 5 rows answered, 2 of them by earlier runs, 1 failed, 0.5 s; see o"
    )
    assert said(total=5, success=2, failed=3, resumed=3, errors_by_class={"BadRequest": 2}) == (
        "2 of 5 rows answered, 2 of them by earlier runs, 3 failed (2 BadRequest), 0.5 s; see o"
    )
    assert said(total=1, failed=1, resumed=1) == "0 of 1 row answered, 1 failed, 0.5 s; see o"


def said(**counts: Any) -> str:
    """Return the last sentence of a run."""
    names = ("total", "success", "resumed", "cached", "shared", "failed", "retries", "total_tokens", "errors_by_class")
    summary = {**{name: getattr(Tally(), name) for name in names}, "elapsed": 0.5, "endpoints": [], **counts}
    return sentence(summary, "o", tokens=True, cost=False)
