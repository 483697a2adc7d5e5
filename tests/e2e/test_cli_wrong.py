"""What the command line says to wrong uses of its options about cost, cache and prices: a sentence, and the right code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexllm.mock import MockServer

ROOT = Path(__file__).parents[2]
USAGE, FAILED, CONFIG, UNREACHED, FILES = 2, 1, 3, 6, 9

BATCH = ("batch", "in.jsonl", "-o", "out.jsonl")

WRONG: list[tuple[tuple[str, ...], int, str]] = [
    # money
    ((*BATCH, "--max-cost", "lots"), USAGE, "argument --max-cost: 'lots' is no amount of US dollars"),
    ((*BATCH, "--max-cost=-1"), USAGE, "argument --max-cost: '-1' is no amount of US dollars"),
    ((*BATCH, "--max-cost", "nan"), USAGE, "'nan' is no amount of US dollars"),
    ((*BATCH, "--max-cost", "inf"), USAGE, "'inf' is no amount of US dollars"),
    ((*BATCH, "--max-cost", "1,5"), USAGE, "'1,5' is no amount of US dollars"),
    ((*BATCH, "--max-cost", ""), USAGE, "'' is no amount of US dollars"),
    ((*BATCH, "--max-cost"), USAGE, "argument --max-cost: expected one argument"),
    ((*BATCH, "--max-costs", "5"), USAGE, "unrecognized arguments: --max-costs (did you mean --max-cost?); "),
    ((*BATCH, "--max-cost", "1"), CONFIG, "no price is known for model 'm'"),
    ((*BATCH, "--max-cost", "1", "--dry-run"), CONFIG, "--price 0.5,1.5 on the command line"),
    ((*BATCH, "--max-requests", "0"), USAGE, "argument --max-requests: '0' is no whole number of at least 1"),
    ((*BATCH, "--max-requests", "1.5"), USAGE, "'1.5' is no whole number"),
    ((*BATCH, "--max-requests=-2"), USAGE, "'-2' is no whole number"),
    ((*BATCH, "--max-total-tokens", "0"), USAGE, "argument --max-total-tokens: '0' is no whole number"),
    ((*BATCH, "--max-total-tokens", "1M"), USAGE, "'1M' is no whole number"),
    # prices
    ((*BATCH, "--price", ""), USAGE, "argument --price: '' is no price; give US dollars per million tokens as IN,OUT"),
    ((*BATCH, "--price", "1"), USAGE, "'1' is no price"),
    ((*BATCH, "--price", "cheap,dear"), USAGE, "'cheap,dear' is no price"),
    ((*BATCH, "--price", "1,2,3,4"), USAGE, "'1,2,3,4' is no price"),
    ((*BATCH, "--price", "1;2"), USAGE, "'1;2' is no price"),
    ((*BATCH, "--price", "1,nan"), USAGE, "'1,nan' is no price"),
    ((*BATCH, "--price=-1,2"), USAGE, "'-1,2' is no price"),
    # dry runs and samples
    ((*BATCH, "--sample", "0", "--yes"), USAGE, "argument --sample: '0' is no whole number of at least 1"),
    ((*BATCH, "--sample=-1", "--yes"), USAGE, "'-1' is no whole number"),
    ((*BATCH, "--sample", "some", "--yes"), USAGE, "'some' is no whole number"),
    ((*BATCH, "--sample", "2"), CONFIG, "there is no terminal to ask at: give --yes"),
    (("batch", "-", "-o", "out.jsonl", "--sample", "2", "--yes"), CONFIG, "it must be a file, not a pipe"),
    ((*BATCH, "--sample", "2", "--dry-run"), USAGE, "argument --dry-run: not allowed with argument --sample"),
    ((*BATCH, "--dry-run=yes"), USAGE, "argument --dry-run: ignored explicit argument 'yes'"),
    (("batch", "none.jsonl", "-o", "out.jsonl", "--dry-run"), FILES, "none.jsonl cannot be read"),
    (("batch", "in.jsonl", "-o", "in.jsonl", "--dry-run"), FILES, "is both input and output"),
    (("batch", "in.jsonl", "-o", "none/out.jsonl", "--dry-run"), FILES, "does not exist"),
    (("batch", "in.jsonl", "-o", "~nobody-of-that-name/out.jsonl", "--dry-run"), FILES, "does not exist"),
    # the cache, equal rows, order
    ((*BATCH, "--cache=yes"), USAGE, "ignored explicit argument 'yes'"),
    ((*BATCH, "--cache-ttl", "soon"), USAGE, "argument --cache-ttl: 'soon' is no time; give seconds, or 30m"),
    ((*BATCH, "--cache-ttl=-1"), USAGE, "'-1' is no time"),
    ((*BATCH, "--cache-dir", ""), CONFIG, "cache_dir='' must be the path of a folder"),
    ((*BATCH, "--cache-dir", "~nobody-of-that-name/cache"), CONFIG, "cache_dir='~nobody-of-that-name/cache' cannot"),
    ((*BATCH, "--share=yes"), USAGE, "ignored explicit argument 'yes'"),
    ((*BATCH, "--order", "random"), USAGE, "argument --order: invalid choice: 'random'"),
    (("cache",), USAGE, "flexllm cache: the following arguments are required: ACTION"),
    (("cache", "empty"), USAGE, "invalid choice: 'empty'"),
    (("cache", "stats", "--cache-ttl", "x"), USAGE, "flexllm cache stats: argument --cache-ttl: 'x' is no time"),
    (("cache", "stats", "--cache-dir", "~nobody-of-that-name/c"), CONFIG, "cannot be found"),
    (("cache", "show", "-n", "0"), USAGE, "'0' is no whole number"),
    (("cache", "show", "0123"), FAILED, "has the key '0123'; flexllm cache show lists the newest"),
    (("cache", "show", ""), FAILED, "has the key ''"),
    (("cache", "prune"), USAGE, "one of the arguments --older-than --max-size --all is required"),
    (("cache", "prune", "--all", "--older-than", "1d"), USAGE, "not allowed with argument --all"),
    (("cache", "prune", "--older-than", "ever"), USAGE, "'ever' is no time"),
    (("cache", "prune", "--max-size", "big"), USAGE, "'big' is no size; give bytes, or 64K, 500M or 2G"),
    (("cache", "export", "--json"), USAGE, "flexllm cache export: unrecognized arguments: --json"),
    # pricing
    (("pricing", "gpt-4oo"), FAILED, "no price is known for model 'gpt-4oo'; the nearest are gpt-4o"),
    (("pricing", "gpt-4o", ""), FAILED, "no price is known for model ''"),
    (("pricing", "--base-url", "http://127.0.0.1:1"), CONFIG, "--base-url says where a model is asked"),
    (("pricing", "gpt-4o", "--base-url", "nowhere"), CONFIG, "--base-url='nowhere' is not a URL"),
    (("pricing", "--update-url", "http://127.0.0.1:1"), CONFIG, "--update-url is the address for --update"),
    (("pricing", "--update", "--update-url", "nowhere"), CONFIG, "--update-url='nowhere' is not a URL"),
    (("pricing", "--update", "--update-url", "http://127.0.0.1:1"), UNREACHED, "nothing listens at http://127.0.0.1:1"),
    (("pricing", "--config", "none.yaml"), CONFIG, "none.yaml does not exist"),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def run(server: MockServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bin" / "flexllm"), *arguments],
        env={**os.environ, "FLEXLLM_BASE_URL": server.base_url, "FLEXLLM_MODEL": "m"},
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=[" ".join(one[0]) for one in WRONG])
def test_a_wrong_use_is_one_sentence_and_costs_nothing(
    server: MockServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"q": "a"}\n{"q": "b"}\n{"q": "c"}\n')
    done = run(server, *arguments)

    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("flexllm")
    assert words in sentence
    assert done.returncode == code
    assert done.stdout == ""
    assert server.stats()["received"] == 0
    assert [one.name for one in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_option_that_was_mistyped_does_not_show_what_follows_it(server: MockServer) -> None:
    done = run(server, "ask", "Hello", "--apikey=sk-secret-1", "--key", "sk-secret-2")

    assert done.returncode == USAGE
    assert done.stderr.startswith("flexllm ask: unrecognized arguments: --apikey --key; ")
    assert "secret" not in done.stderr


# --- what must be nothing but JSON


@pytest.mark.parametrize(
    "arguments",
    [
        (*BATCH, "--json", "--dry-run"),
        (*BATCH, "--json", "--dry-run", "--cache", "--max-cost", "1", "--price", "1,2"),
        (*BATCH, "--json"),
        (*BATCH, "--json", "--price", "1,2", "--max-cost", "0"),
        (*BATCH, "--json", "--sample", "1", "--yes"),
        ("ask", "Hello", "--json"),
        ("cache", "stats", "--json"),
        ("cache", "show", "--json"),
        ("cache", "prune", "--all", "--json"),
        ("pricing", "--json"),
        ("pricing", "gpt-4o", "--json"),
        ("version", "--json"),
    ],
    ids=" ".join,
)
def test_with_json_standard_output_is_json_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"q": "a"}\n{"q": "b"}\n{"q": "c"}\n')
    with MockServer() as server:
        done = run(server, *arguments)

    assert done.returncode in (0, 7)
    json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert not done.stderr.lstrip().startswith("{")
