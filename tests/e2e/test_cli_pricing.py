"""`flexllm pricing` as a user drives it: the table, unknown models, and prices that are fetched when asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fakes import unused_port

from flexllm.terminal import width

PROGRAM = (sys.executable, str(Path(__file__).parents[2] / "bin" / "flexllm"))

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence that an error is."""
        (line,) = self.err.splitlines()
        assert line.startswith("flexllm: ")
        assert not line.endswith(".")
        assert self.out == ""
        return line

    @property
    def models(self) -> list[str]:
        """The models of the table that was printed."""
        return [line.split()[0] for line in self.out.splitlines()[1:]]


def pricing(*arguments: str, **variables: str) -> Done:
    done = subprocess.run(
        [*PROGRAM, "pricing", *arguments], env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass
class List:
    """OpenRouter's list, served on this machine."""

    url: str = ""
    status: int = 200
    body: bytes = b""
    asked: list[dict[str, str]] = field(default_factory=list)

    def holds(self, **models: tuple[str, str]) -> None:
        """Have the list hold these models and their prices per token; "__" stands for a slash, "_" for a dash."""
        entries = [
            {"id": name.replace("__", "/").replace("_", "-"), "pricing": {"prompt": prompt, "completion": completion}}
            for name, (prompt, completion) in models.items()
        ]
        self.body = json.dumps({"data": entries}).encode()


@pytest.fixture
def served() -> Iterator[List]:
    found = List()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(found.body)))
            self.send_header("Location", "https://elsewhere.example/")
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1/models"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kept(clean_environment: Path) -> Path:
    """The file that --update writes."""
    return clean_environment / ".flexllm" / "prices.json"


def test_the_whole_table_is_printed_with_its_date() -> None:
    done = pricing()
    assert done.code == 0
    assert len(done.models) == 147
    assert done.out.splitlines()[0].split() == ["model", "provider", "input", "output", "cached", "batch"]
    assert "as of 2026-11-22" in done.err


def test_named_models_are_printed_as_they_are_asked_for(kept: Path) -> None:
    done = pricing("openai/gpt-4o-2024-08-06", "claude-haiku-5.5", "gemini-4-argon", "deepseek-flash", "gpt-4o")
    lines = [line.split(maxsplit=6) for line in done.out.splitlines()[1:]]
    assert lines == [
        ["gpt-4o", "openai", "2.5", "10", "1.25", "1.25/5", "shutdown 2027-01-14"],
        ["claude-haiku-5-5", "anthropic", "0.1", "0.5", "0.01", "0.05/0.25",
         "above 100,000 tokens 0.5/2.5; cache write 0.125"],
        ["gemini-4-argon", "google", "2", "10", "0.1", "1/5", "from 2026-12-01 4/20"],
        ["deepseek-flash", "deepseek", "0.3", "1.2", "0.006", "-", "0.15/0.6 at weekends and outside 01-04, 06-10 UTC"],
    ]  # fmt: skip
    assert not kept.parent.exists()  # nothing was written


def test_json_holds_all_that_is_known() -> None:
    done = pricing("gpt-6-luna", "--json")
    assert json.loads(done.out) == [
        {
            "provider": "openai", "model": "gpt-6-luna", "input": 0.1, "output": 0.5, "cached_input": 0.01,
            "cache_write": 0.125, "batch_input": 0.05, "batch_output": 0.25,
            "tiers": [{"above": 272000, "input": 0.2, "output": 0.75, "cached_input": 0.02}],
            "context_window": 1050000, "max_output": 128000, "source": "litellm, genai-prices", "date": "2026-11-22",
        }
    ]  # fmt: skip
    assert done.err == ""
    assert len(json.loads(pricing("--json").out)) == 147


def test_the_nearest_names_are_sold_at_the_server_that_was_named() -> None:
    groq = "https://api.groq.com/openai/v1"
    assert "nearest" not in pricing("gpt-4o", "--base-url", groq).sentence
    assert "the nearest are openai/gpt-oss-120b" in pricing("openai/gpt-oss-12b", "--base-url", groq).sentence


def test_ones_own_prices_are_shown_and_win(folder: Path) -> None:
    (folder / "own.yaml").write_text(
        "models:\n- {id: mine, name: my-model, base_url: 'http://127.0.0.1:9/v1', price: '0.5,1.5,0.05'}\n"
        "prices: {gpt-4o: '7,8'}\n"
    )
    done = pricing("my-model", "gpt-4o", "--config", "own.yaml")
    assert [line.split() for line in done.out.splitlines()[1:]] == [
        ["my-model", "yours", "0.5", "1.5", "0.05", "-"],
        ["gpt-4o", "yours", "7", "8", "-", "-"],
    ]
    assert "as of" not in done.err
    assert len(pricing("--config", "own.yaml").models) == 149
    assert pricing("my-model").code == 1


def test_a_name_in_wide_letters_moves_no_number(folder: Path) -> None:
    (folder / "own.yaml").write_text("prices: {通义: '0.5,1.5', plain: '7,8'}\n", encoding="utf-8")
    _, wide, plain = pricing("通义", "plain", "--config", "own.yaml").out.splitlines()
    assert width(wide[: wide.index("1.5")]) + len("1.5") == plain.index("8") + len("8")


def test_what_the_file_says_in_vain_is_told_as_other_commands_tell_it(folder: Path) -> None:
    (folder / "own.yaml").write_text("prise: {gpt-4o: '7,8'}\n")
    first, *_ = pricing("gpt-4o", "--config", "own.yaml").err.splitlines()
    assert first == "flexllm: own.yaml, line 1: unknown key 'prise' is ignored; did you mean 'prices'?"


def test_a_model_that_several_sell_has_a_line_for_each_unless_the_server_is_named() -> None:
    assert pricing("openai/gpt-oss-120b").models == ["openai/gpt-oss-120b"] * 2
    done = pricing("openai/gpt-oss-120b", "--base-url", "https://api.groq.com/openai/v1")
    assert [line.split()[1] for line in done.out.splitlines()[1:]] == ["groq"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gtp-4o"], ["model 'gtp-4o'", "gpt-4o", "--update"]),
        (["gpt-4o", "nothing-like-it-at-all"], ["'nothing-like-it-at-all'"]),
        (["gpt-4p", "o9"], ["models 'gpt-4p', 'o9'"]),
        (["gpt-4o", "--base-url", "https://api.groq.com/openai/v1"], ["'gpt-4o' at https://api.groq.com"]),
        (["x" * 5000], ["no price is known"]),
        (["--json", "gpt-4o", "whatever"], ["'whatever'"]),
    ],
)
def test_an_unknown_model_is_one_sentence_with_the_nearest_names(arguments: list[str], said: list[str]) -> None:
    done = pricing(*arguments)
    assert done.code == 1
    assert len(done.sentence) < 400
    for words in said:
        assert words in done.sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--update-url", "http://127.0.0.1/"], "--update"),
        (["--base-url", "http://127.0.0.1/"], "name the model"),
        (["gpt-4o", "--base-url", "nonsense"], "--base-url='nonsense' is not a URL"),
        (["gpt-4o", "--base-url", ""], "--base-url='' is not a URL"),
        (["--update", "--update-url", "nonsense"], "--update-url='nonsense'"),
        (["--update", "--update-url", "file:///etc/passwd"], "--update-url"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: list[str], said: str, kept: Path) -> None:
    done = pricing(*arguments)
    assert done.code == 3
    assert said in done.sentence
    assert not kept.exists()


def test_nothing_is_fetched_unasked(served: List) -> None:
    pricing("gpt-4o", FLEXLLM_BASE_URL=served.url, HTTPS_PROXY=served.url, HTTP_PROXY=served.url)
    assert served.asked == []


def test_an_update_is_fetched_once_kept_and_counts_from_then_on(served: List, kept: Path) -> None:
    served.holds(openai__gpt_99=("0.000003", "0.000004"), someone__model=("0", "0"), openrouter__auto=("-1", "-1"))
    assert pricing("gpt-99").code == 1
    done = pricing("--update", "--update-url", served.url, OPENAI_API_KEY="sk-secret", OPENROUTER_API_KEY="sk-secret")
    assert (done.code, done.err) == (0, "")
    assert "prices of 2 models" in done.out
    (asked,) = served.asked
    assert asked["path"] == "/api/v1/models"
    assert "secret" not in str(asked)
    assert "authorization" not in asked
    assert [line.split()[:4] for line in pricing("gpt-99").out.splitlines()[1:]] == [["gpt-99", "openai", "3", "4"]]
    assert "someone/model" in pricing().models
    assert len(served.asked) == 1
    assert kept.stat().st_mode & 0o077 == 0
    assert [path.name for path in kept.parent.iterdir()] == ["prices.json"]
    assert sum(line.startswith('{"provider"') for line in kept.read_text().splitlines()) == 2


def test_an_update_can_show_a_model_at_once_or_tell_as_json(served: List) -> None:
    served.holds(openai__gpt_99=("0.000003", "0.000004"))
    assert pricing("--update", "--update-url", served.url, "gpt-99").models == ["gpt-99"]
    told = json.loads(pricing("--update", "--update-url", served.url, "--json").out)
    assert told["path"] == "~/.flexllm/prices.json"
    assert (told["models"], told["changed"]) == (1, [])


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"", "HTTP 500"),
        (404, b"<html>", "HTTP 404"),
        (301, b"", "HTTP 301"),
        (200, b"<html>", "no JSON"),
        (200, b'{"data": []}', "no price"),
    ],
)
def test_an_update_that_fails_leaves_the_prices_as_they_were(
    served: List, kept: Path, status: int, body: bytes, said: str
) -> None:
    served.holds(openai__gpt_99=("0.000003", "0.000004"))
    assert pricing("--update", "--update-url", served.url).code == 0
    before = kept.read_bytes()
    served.status, served.body = status, body
    done = pricing("--update", "--update-url", served.url)
    assert done.code == 1
    assert said in done.sentence
    assert kept.read_bytes() == before
    assert pricing("gpt-99").code == 0


def test_a_server_that_is_not_there_is_an_exit_code_of_its_own(kept: Path) -> None:
    done = pricing("--update", "--update-url", f"http://127.0.0.1:{unused_port()}/models")
    assert done.code == 6
    assert "127.0.0.1" in done.sentence
    assert not kept.exists()


def test_a_damaged_file_costs_one_warning_and_is_written_anew(served: List, kept: Path) -> None:
    kept.parent.mkdir()
    kept.write_text("{damaged")
    done = pricing("gpt-4o")
    assert (done.code, done.models) == (0, ["gpt-4o"])
    assert done.err.count("~/.flexllm/prices.json") == 1
    served.holds(openai__gpt_99=("0.000003", "0.000004"))
    assert pricing("--update", "--update-url", served.url).err == ""
    assert pricing("gpt-99").code == 0


def test_a_folder_that_cannot_be_written_is_told(served: List, kept: Path) -> None:
    served.holds(openai__gpt_99=("0.000003", "0.000004"))
    kept.parent.write_text("a file where the folder should be")
    done = pricing("--update", "--update-url", served.url)
    assert done.code == 9
    assert ".flexllm" in done.sentence
