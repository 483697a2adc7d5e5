"""`flexllm cache`, and `flexllm batch --cache`, as a user drives them: what is told, what is kept, what is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexllm.cache import ResponseCache, ResponseCacheConfig
from flexllm.chat import ChatCompletionResult, ToolCall, Usage
from flexllm.mock import MockServer

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, str(ROOT / "bin" / "flexllm"))
PATIENCE = 60.0
"""Seconds until a failing test gives up."""

DAY = 86_400.0

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, env: dict[str, str] | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PROGRAM, *arguments], env={**os.environ, **(env or {})}, input=text, capture_output=True, encoding="utf-8",
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def batch(server: MockServer, *arguments: str, output: str = "out.jsonl") -> subprocess.CompletedProcess[str]:
    env = {"FLEXLLM_BASE_URL": server.base_url, "FLEXLLM_MODEL": "mock-model"}
    return run("batch", "in.jsonl", "-o", output, *arguments, env=env)


def ask_rows(*questions: str) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({"q": question}) + "\n" for question in questions))


def statuses(name: str) -> list[str]:
    return [json.loads(line)["status"] for line in Path(name).read_text().splitlines()]


def fill(name: str, *answers: tuple[str, float, ChatCompletionResult]) -> None:
    """Put answers into a cache: key, age in seconds, answer."""
    for key, age, answer in answers:
        with ResponseCache(ResponseCacheConfig(cache_dir=name), clock=lambda age=age: time.time() - age) as cache:
            cache.put(key, answer, with_body=True)


def answer(text: str, model: str = "gpt-x", **more: Any) -> ChatCompletionResult:
    usage = Usage(prompt_tokens=3, completion_tokens=5, total_tokens=8)
    return ChatCompletionResult(text, usage, model=model, finish_reason="stop", **more)


def keys(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["key"] for line in done.stdout.splitlines()]


# --- batch --cache


def test_batch_takes_answers_from_the_cache_and_says_so(server: MockServer) -> None:
    ask_rows("a", "b")
    assert batch(server, "--cache", output="first.jsonl").returncode == 0
    done = batch(server, "--cache", output="second.jsonl")

    assert done.returncode == 0
    assert "2 from the cache" in done.stderr
    assert statuses("second.jsonl") == ["cached", "cached"]
    assert server.stats()["received"] == 2
    assert (Path.home() / ".cache/flexllm/llm_response").is_dir()


def test_without_the_option_nothing_is_kept(server: MockServer) -> None:
    ask_rows("a")
    batch(server, output="first.jsonl")
    batch(server, output="second.jsonl")

    assert server.stats()["received"] == 2
    assert not (Path.home() / ".cache").exists()


def test_the_configuration_turns_the_cache_on_and_the_command_line_off(server: MockServer) -> None:
    ask_rows("a")
    Path("config.yaml").write_text("batch:\n  cache: true\n")
    for output in ("1.jsonl", "2.jsonl"):
        assert batch(server, "--config", "config.yaml", output=output).returncode == 0
    assert server.stats()["received"] == 1

    assert batch(server, "--config", "config.yaml", "--no-cache", output="3.jsonl").returncode == 0
    assert server.stats()["received"] == 2
    assert statuses("3.jsonl") == ["success"]


def test_the_folder_and_the_age_can_be_named(server: MockServer, folder: Path) -> None:
    ask_rows("a")
    batch(server, "--cache-dir", "mine", output="1.jsonl")
    assert (folder / "mine").is_dir()
    batch(server, "--cache-dir", "mine", "--cache-ttl", "1h", output="2.jsonl")
    assert statuses("2.jsonl") == ["cached"]

    batch(server, "--cache-dir", "mine", "--cache-ttl", "0.001s", output="3.jsonl")
    assert statuses("3.jsonl") == ["success"]
    assert not (Path.home() / ".cache").exists()


def test_equal_rows_are_asked_once_if_told_so(server: MockServer) -> None:
    ask_rows(*["a", "b"] * 20)
    done = batch(server, "--share")

    assert done.returncode == 0
    assert server.stats()["received"] == 2
    assert "38 like another row" in done.stderr
    assert len(statuses("out.jsonl")) == 40


def test_at_temperature_0_equal_rows_are_shared_unless_told_otherwise(server: MockServer) -> None:
    ask_rows(*["a"] * 5)
    batch(server, "--temperature", "0", output="1.jsonl")
    assert server.stats()["received"] == 1
    batch(server, "--temperature", "0", "--no-share", output="2.jsonl")
    assert server.stats()["received"] == 6


@pytest.mark.parametrize("text", ["soon", "-3", "1y", "", "1e3"])
def test_a_time_that_is_none_is_refused(server: MockServer, text: str) -> None:
    ask_rows("a")
    done = batch(server, f"--cache-ttl={text}")

    assert done.returncode == 2
    assert "is no time; give seconds, or 30m, 12h, 7d or 2w" in done.stderr


# --- stats


def test_stats_of_a_cache_that_is_not_there_make_none(folder: Path) -> None:
    done = run("cache", "stats", "--cache-dir", "none")

    assert done.returncode == 0
    assert ": 0 answers, 0 bytes" in done.stdout
    assert json.loads(run("cache", "stats", "--cache-dir", "none", "--json").stdout)["entries"] == 0
    assert list(folder.iterdir()) == []


def test_stats_tell_how_many_answers_of_which_models_and_how_old() -> None:
    fill("c", ("a-0", 0, answer("x")), ("b-0", 3 * DAY, answer("y")), ("c-0", 0, answer("z", "gpt-y")))

    done = run("cache", "stats", "--cache-dir", "c")
    assert done.returncode == 0
    first, *rest = done.stdout.splitlines()
    assert first.startswith("c/")
    assert ": 3 answers, " in first
    assert "  1 of them too old to be used" in rest
    assert "          2  gpt-x" in rest
    assert "          1  gpt-y" in rest
    told = json.loads(run("cache", "stats", "--cache-dir", "c", "--cache-ttl", "7d", "--json").stdout)
    assert (told["entries"], told["expired"], told["models"]) == (3, 0, {"gpt-x": 2, "gpt-y": 1})


# --- show


def test_show_lists_the_newest() -> None:
    fill("c", *((f"{number}-0", 0, answer(f"answer\n number {number} " + "long " * 40)) for number in range(12)))

    done = run("cache", "show", "--cache-dir", "c")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"{number}-0" for number in range(11, 1, -1)]
    assert "  gpt-x  5 tokens  answer number 11 long long" in lines[0]
    assert lines[0].endswith("…")
    assert len(run("cache", "show", "-n", "3", "--cache-dir", "c").stdout.splitlines()) == 3
    assert [one["key"] for one in json.loads(run("cache", "show", "-n", "1", "--json", "--cache-dir", "c").stdout)] == [
        "11-0"
    ]


def test_show_of_an_empty_cache_says_so() -> None:
    done = run("cache", "show", "--cache-dir", "none")

    assert (done.returncode, done.stdout) == (0, "")
    assert "no answers in none" in done.stderr
    assert json.loads(run("cache", "show", "--json", "--cache-dir", "none").stdout) == []


def test_show_tells_one_answer_also_an_old_one_by_the_beginning_of_its_key() -> None:
    calls = [ToolCall("call_1", "function", {"name": "f", "arguments": "{}"})]
    fill(
        "c",
        ("abc-0", 9 * DAY, answer("the whole\ntext 你好", reasoning_content="hm", tool_calls=calls, body=b'{"id": 1}')),
        ("abd-0", 0, answer("another")),
    )

    done = run("cache", "show", "abc", "--cache-dir", "c")
    assert done.returncode == 0
    head, _, text = done.stdout.partition("\n\n")
    assert text == "the whole\ntext 你好\n"
    assert "key: abc-0\n" in head
    assert "reasoning_content: hm" in head
    told = json.loads(run("cache", "show", "abc-0", "--json", "--cache-dir", "c").stdout)
    assert (told["content"], told["body"], told["model"]) == ("the whole\ntext 你好", '{"id": 1}', "gpt-x")
    assert told["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("key", "sentence"), [("ab", "2 answers have keys that begin with 'ab'"), ("x", "has the key 'x'")]
)
def test_show_says_what_is_wrong_with_a_key(key: str, sentence: str) -> None:
    fill("c", ("abc-0", 0, answer("a")), ("abd-0", 0, answer("b")))

    done = run("cache", "show", key, "--cache-dir", "c")
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_whole_key_names_its_answer_also_where_others_begin_so() -> None:
    fill("c", ("abc-1", 0, answer("second")), ("abc", 0, answer("first")), ("abc-2", 0, answer("third")))

    assert json.loads(run("cache", "show", "abc", "--json", "--cache-dir", "c").stdout)["content"] == "first"


def test_half_a_character_harms_nobody() -> None:
    fill("c", ("a-0", 0, answer("half \ud83d")))

    assert "half ?" in run("cache", "show", "--cache-dir", "c").stdout
    assert "half ?" in run("cache", "show", "a-0", "--cache-dir", "c").stdout
    assert json.loads(run("cache", "export", "--cache-dir", "c").stdout)["content"] == "half \ud83d"


# --- prune


def test_prune_removes_what_is_too_old() -> None:
    fill("c", ("old-0", 8 * DAY, answer("x")), ("new-0", 6 * DAY, answer("y")))

    done = run("cache", "prune", "--older-than", "7d", "--cache-dir", "c")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("1 answer removed from c/")
    assert keys(run("cache", "export", "--cache-dir", "c")) == ["new-0"]


def test_prune_removes_everything_if_told_so() -> None:
    fill("c", ("a-0", 0, answer("x")), ("b-0", 0, answer("y")))

    told = json.loads(run("cache", "prune", "--all", "--json", "--cache-dir", "c").stdout)
    assert (told["removed"], told["entries"]) == (2, 0)


def test_prune_makes_the_file_as_small_as_told() -> None:
    fill("c", *((f"{number}-0", 100 - number, answer("x" * 20_000)) for number in range(20)))

    told = json.loads(run("cache", "prune", "--max-size", "200K", "--json", "--cache-dir", "c").stdout)
    assert told["bytes"] <= 200 * 1024
    left = keys(run("cache", "export", "--cache-dir", "c"))
    assert 0 < len(left) < 20
    assert left[-1] == "19-0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of the arguments --older-than --max-size --all is required"),
        (("--all", "--older-than", "1d"), "not allowed with"),
        (("--older-than", "never"), "is no time"),
        (("--max-size", "big"), "is no size"),
        (("--max-size", "-1"), "is no size"),
    ],
)
def test_prune_wants_to_know_what(arguments: tuple[str, ...], words: str) -> None:
    fill("c", ("a-0", 9 * DAY, answer("x")))

    done = run("cache", "prune", *(f"{one}" for one in arguments), "--cache-dir", "c")
    assert done.returncode == 2
    assert words in done.stderr or "expected one argument" in done.stderr
    assert keys(run("cache", "export", "--cache-dir", "c")) == ["a-0"]


# --- export


def test_export_prints_every_answer_the_oldest_first(server: MockServer) -> None:
    ask_rows("a", "b", "c")
    batch(server, "--cache-dir", "c", "-c", "1")
    done = run("cache", "export", "--cache-dir", "c")

    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    outputs = [json.loads(line)["output"] for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["content"] for row in rows] == outputs
    assert all(row["usage"]["total_tokens"] > 0 and row["model"] == "mock-model" for row in rows)
    assert all(abs(row["at"] - time.time()) < 600 for row in rows)


def test_an_export_of_nothing_says_so() -> None:
    done = run("cache", "export", "--cache-dir", "mistyped")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "There are no answers in mistyped.\n")


def test_a_reader_that_has_gone_ends_an_export_quietly() -> None:
    fill("c", *((f"{number}-0", 0, answer("x" * 5_000)) for number in range(100)))
    command = [*PROGRAM, "cache", "export", "--cache-dir", "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("count", [1, 100])
def test_an_export_that_cannot_be_written_says_so(count: int) -> None:
    fill("c", *((f"{number}-0", 0, answer("x" * 500)) for number in range(count)))
    with open("/dev/full", "w") as full:
        command = [*PROGRAM, "cache", "export", "--cache-dir", "c"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, encoding="utf-8", check=False)

    assert done.returncode == 9
    assert done.stderr == "flexllm: standard output cannot be written: No space left on device\n"


# --- what is none


@pytest.mark.parametrize("action", [("stats",), ("show",), ("prune", "--all"), ("export",)], ids=" ".join)
def test_a_folder_that_is_a_file_is_told_in_a_sentence(action: tuple[str, ...]) -> None:
    Path("c").write_text("a diary")
    done = run("cache", *action, "--cache-dir", "c")

    assert Path("c").read_text() == "a diary"
    assert (done.returncode, done.stdout, done.stderr) == (
        3,
        "",
        "flexllm: the response cache cannot be in c, which is no folder\n",
    )


def test_a_damaged_file_is_put_aside_with_one_warning(folder: Path) -> None:
    fill("c", ("a-0", 0, answer("x")))
    for one in (folder / "c").iterdir():
        one.write_bytes(b"no database at all" * 100)

    done = run("cache", "stats", "--cache-dir", "c")
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "damaged" in done.stderr


def test_the_command_without_an_action_says_what_there_is() -> None:
    done = run("cache")

    assert done.returncode == 2
    assert "ACTION" in done.stderr
    help_text = run("cache", "--help").stdout
    assert all(action in help_text for action in ("stats", "show", "prune", "export"))
