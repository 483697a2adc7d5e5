"""The options of `flexllm batch` beside those of the library: none is missing without a reason."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import pytest

from flexllm import LLMClient
from flexllm.cli.batch.output import BatchOutput, why_no_stream
from flexllm.cli.parser import build_parser
from flexllm.client.batches import _CHECKPOINT_OPTIONS, _RUN_OPTIONS
from flexllm.errors import ConfigError

OTHERWISE_CALLED = {
    "output_file": "--output",
    "output_jsonl": "--output",
    "show_progress": "--quiet",
    "return_summary": "--json",
    "return_cost_report": "--json",
    "concurrency_limit": "--concurrency",
    "total_concurrency_limit": "--total-concurrency",
    "verify": "--ca-bundle",
    "skip_cache": "--no-cache",
    "messages_list": "--format",  # and the input itself
    "metadata_list": "--format",  # the other fields of each row
    "params_list": "--format",  # openai_batch
    "options": "--param",
    "params": "--param",
    "endpoints": "--config",
    "cost_tracker": "--max-cost",
    "cache": "--cache",
}
"""What is another word on the command line, where a word of Python would not do."""

NOT_THERE = {
    "self": "is no option",
    "headers": "may hold keys, which other users of the machine would see in the list of processes",
    "proxies": "are what HTTPS_PROXY and its like say",
    "cert": "is what a session of one's own is for; nobody has asked for it on the command line",
    "trust_env": "a variable can be unset for one command",
    "session": "is a Python object",
    "auth": "is a Python function",
    "media": "is a Python object; its limits hold",
    "stream_timeout": "a batch does not stream",
    "clients": "are Python objects",
    "prices": "stand in the configuration file; --price is for one model",
}


def options_of_the_command() -> dict[str, argparse.Action]:
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: action for action in commands.choices["batch"]._actions for name in action.option_strings}


def options_of_the_library() -> set[str]:
    named = inspect.signature(LLMClient.__init__).parameters.keys()
    of_a_batch = inspect.signature(LLMClient.chat_completions_batch_sync).parameters.keys()
    more = ("model", "max_cost", "max_requests", "max_total_tokens", "distribute", "skip_cache")
    return {*named, *of_a_batch, *_RUN_OPTIONS, *_CHECKPOINT_OPTIONS, *more}


def test_every_option_of_the_library_is_on_the_command_line_or_has_a_reason_not_to_be() -> None:
    there = options_of_the_command()
    missing = {
        name
        for name in options_of_the_library() - NOT_THERE.keys()
        if OTHERWISE_CALLED.get(name, f"--{name.replace('_', '-')}") not in there
    }
    assert missing == set()


def test_no_reason_is_given_for_what_is_there_or_for_what_nobody_has() -> None:
    there, known = options_of_the_command(), options_of_the_library()
    assert {name for name in NOT_THERE if f"--{name.replace('_', '-')}" in there} == set()
    assert (NOT_THERE.keys() | OTHERWISE_CALLED.keys()) - known == set()


def arguments(*words: str) -> Any:
    return build_parser().parse_args(["batch", "in.jsonl", *words])


@pytest.mark.parametrize(
    ("name", "file", "view", "is_table"),
    [
        ("out.jsonl", "out.jsonl", None, False),
        ("out.csv", "out.csv.jsonl", "out.csv", True),
        ("out.tsv", "out.tsv.jsonl", "out.tsv", True),
        ("OUT.CSV.GZ", "OUT.CSV.GZ.jsonl", "OUT.CSV.GZ", True),
        ("out.jsonl.gz", "out.jsonl.gz.jsonl", "out.jsonl.gz", False),
        ("out.JSONL", "out.JSONL.jsonl", "out.JSONL", False),
        ("-", None, None, False),
    ],
)
def test_the_name_of_the_output_says_what_is_written(
    name: str, file: str | None, view: str | None, is_table: bool
) -> None:
    output = BatchOutput(arguments("-o", name))
    found = [None if path is None else str(path) for path in (output.file, output.view)]
    assert (found, output.is_table, output.is_stream) == ([file, view], is_table, name == "-")


@pytest.mark.parametrize(
    "name", ["out", "out.json", "out.txt", ".csv", ".jsonl", "out.gz", "out.csv.zip", "", "folder/"]
)
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.jsonl, \.csv or \.tsv"):
        BatchOutput(arguments("-o", name))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--json",), "--json"),
        (("--sample", "3"), "--sample needs an output file"),
        (("--retry-failed",), "--retry-failed needs an output file"),
        (("--no-retry-failed",), "--no-retry-failed needs an output file"),
        (("--on-change", "rerun"), "--on-change needs an output file"),
        (("--flush-interval", "1"), "--flush-interval needs an output file"),
    ],
)
def test_standard_output_is_no_place_to_go_on_from(words: tuple[str, ...], reason: str) -> None:
    assert reason in (why_no_stream(arguments("-o", "-", *words)) or "")
    assert why_no_stream(arguments("-o", "out.jsonl", *words)) is None


def test_a_dry_run_writes_no_answers_so_that_its_json_is_alone() -> None:
    assert why_no_stream(arguments("-o", "-", "--json", "--dry-run")) is None
