"""What `flexllm batch` tells at its end: the command that goes on, which holds no secret."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from flexllm.cli.batch.report import how_to_go_on


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
