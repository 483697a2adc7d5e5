"""The command line as a user drives it: a subprocess, its streams, its exit code, and what the server received."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import (
    PATIENCE,
    PROGRAM,
    ROOT,
    Done,
    Terminal,
    at,
    in_shell,
    rows_of,
    run,
    write_questions,
    write_rows,
)
from fakes import eventually, unused_port

import flexllm
from flexllm.cli.main import main
from flexllm.mock import MockServer, Reply

KEY = "sk-a-very-secret-key-of-forty-characters"
pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_terminal(*arguments: str, env: dict[str, str]) -> Terminal:
    """Run a command to its end on a terminal; return the terminal."""
    with Terminal(*arguments, env=env) as terminal:
        terminal.end()
    return terminal


def write_config(text: str) -> None:
    """Write the configuration file of the user, whose home is an empty folder of the test."""
    path = Path.home() / ".flexllm" / "config.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")


def messages_of(server: MockServer, number: int = 0) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in server.requests[number].json()["messages"]]


# --- ask


def test_ask_prints_the_answer_and_nothing_else(server: MockServer) -> None:
    done = run("ask", "What is 1 + 1?", env=at(server))

    assert done.code == 0
    assert done.out.count("\n") == 1
    assert "What is 1 + 1?" in done.out
    assert done.err == ""
    assert messages_of(server) == [("user", "What is 1 + 1?")]
    assert "stream" not in server.requests[0].json()


def test_ask_takes_what_is_piped_in_as_the_question(server: MockServer) -> None:
    assert run("ask", env=at(server), stdin="Wie heißt du?\n").code == 0

    assert messages_of(server) == [("user", "Wie heißt du?")]


def test_ask_puts_what_is_piped_in_behind_the_question(server: MockServer) -> None:
    assert run("ask", "Sum this up", env=at(server), stdin="a long text\nof two lines\n").code == 0

    assert messages_of(server) == [("user", "Sum this up\n\na long text\nof two lines")]


def test_ask_sends_a_system_message_and_parameters(server: MockServer) -> None:
    arguments = ("ask", "Hello", "-s", "Be brief", "--temperature", "0", "--max-tokens", "9")
    params = ("--param", "seed=7", "--param", 'stop=["x"]', "--param", "user=me", "--param", "top_p=0.5")
    assert run(*arguments, *params, env=at(server)).code == 0

    body = server.requests[0].json()
    assert messages_of(server) == [("system", "Be brief"), ("user", "Hello")]
    del body["messages"], body["model"]
    assert body == {"temperature": 0, "max_tokens": 9, "seed": 7, "stop": ["x"], "user": "me", "top_p": 0.5}


def test_ask_gives_json(server: MockServer) -> None:
    done = run("ask", "Hello", "--json", env=at(server))

    answer = json.loads(done.out)
    assert "Hello" in answer["content"]
    assert answer["usage"]["total_tokens"] > 0
    assert (answer["cost"], answer["endpoint"]) == (None, server.base_url)
    assert (answer["finish_reason"], answer["model"], answer["tool_calls"]) == ("stop", "mock-model", None)
    assert done.err == ""


@pytest.mark.parametrize(
    ("model", "path"),
    [("claude-haiku-4-5", "/v1/messages"), ("gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent")],
)
def test_ask_speaks_the_format_of_the_models_provider(server: MockServer, model: str, path: str) -> None:
    env = {"FLEXLLM_BASE_URL": server.url, "FLEXLLM_API_KEY": KEY, "FLEXLLM_MODEL": model}
    done = run("ask", "Say hello", "--param", "thinking=1024", env=env)
    assert (done.code, done.err) == (0, "")
    assert "Say hello" in done.out
    assert server.requests[-1].path == path


def test_ask_without_the_key_that_a_provider_needs_says_so(server: MockServer) -> None:
    env = {"FLEXLLM_BASE_URL": server.url, "FLEXLLM_MODEL": "m"}
    done = run("ask", "Hi", "--provider", "claude", env=env)
    assert done.code == 3
    assert "api_key is missing" in done.sentence
    assert server.requests == []


def test_ask_streams_on_a_terminal() -> None:
    with MockServer(token_delay=0.05) as server:
        seen = on_terminal("ask", "Hello", env=at(server))

    assert seen.code == 0
    assert server.requests[0].json()["stream"] is True
    assert '"Hello"' in seen.text
    assert seen.text.endswith("\r\n")
    assert seen.times[-1] - seen.times[0] > 0.1  # piece by piece


def test_what_is_said_of_a_stream_that_breaks_has_a_line_of_its_own() -> None:
    piece = b'data: {"choices": [{"index": 0, "delta": {"content": "The answer"}}]}\n\n'
    with MockServer(script=[Reply(pieces=((0.0, piece),)), Reply(status=401)]) as server:
        broken = on_terminal("ask", "Hello", env=at(server))
        refused = on_terminal("ask", "Hello", env=at(server))

    assert (broken.code, refused.code) == (1, 4)
    assert broken.text.startswith("The answer\r\nflexllm: the stream ended early")
    assert refused.text.startswith("flexllm: ")


def test_ask_on_a_terminal_waits_for_the_whole_if_told_so(server: MockServer) -> None:
    seen = on_terminal("ask", "Hello", "--no-stream", env=at(server))

    assert seen.code == 0
    assert '"Hello"' in seen.text
    assert "stream" not in server.requests[0].json()


def test_ask_prints_half_a_character_as_a_question_mark() -> None:
    body = b'{"choices": [{"message": {"content": "half: \\ud83d."}, "finish_reason": "stop"}]}'
    with MockServer(script=[Reply(body=body)]) as server:
        assert run("ask", "Hello", env=at(server)) == Done(0, "half: ?.\n", "")


def test_ask_prints_what_a_narrow_locale_can_show() -> None:
    body = '{"choices": [{"message": {"content": "größer 大"}, "finish_reason": "stop"}]}'.encode()
    with MockServer(script=[Reply(body=body)]) as server:
        assert run("ask", "Hello", env=at(server, PYTHONIOENCODING="ascii")) == Done(0, "gr??er ?\n", "")


@pytest.mark.parametrize(("encoding", "text"), [("ascii", "größer 大 👋"), ("utf-8", "half: \ud83d.")])
def test_json_loses_no_letter_wherever_it_goes(encoding: str, text: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    with MockServer(script=[Reply(body=body)]) as server:
        done = run("ask", "Hello", "--json", env=at(server, PYTHONIOENCODING=encoding))
    assert ascii(done.data["content"]) == ascii(text)  # a report of a failure could not hold half a character


@pytest.mark.parametrize(
    ("argument", "env", "asked"),
    [
        ("Größe 大".encode(), {"LC_ALL": "C", "PYTHONUTF8": "0"}, "Größe 大"),
        ("café".encode("latin-1"), {}, "caf�"),  # as from a pipe
    ],
)
def test_an_argument_is_read_as_utf_8_whatever_the_locale(argument: bytes, env: dict[str, str], asked: str) -> None:
    with MockServer() as server:
        done = run("ask", os.fsdecode(argument), "-s", os.fsdecode(argument), env=at(server, **env))
        assert (done.code, done.err) == (0, "")
        assert [one["content"] for one in server.requests[0].json()["messages"]] == [asked, asked]


def test_texts_for_a_batch_are_read_as_utf_8_whatever_the_locale(folder: Path) -> None:
    write_rows(folder / "in.jsonl", [{"Größe": "大"}])
    texts = ["--system", "Größe", "--user-field", "Größe", "--user-template", "大: {content}"]
    with MockServer() as server:
        done = run("batch", "in.jsonl", "-o", "out.jsonl", *texts, env=at(server, LC_ALL="C", PYTHONUTF8="0"))
        assert done.code == 0, done.err
        assert [one["content"] for one in server.requests[0].json()["messages"]] == ["Größe", "大: 大"]


def test_verbose_tells_about_retries() -> None:
    with MockServer(script=[Reply(status=500)]) as server:
        done = run("ask", "Hello", "-v", "--retry-delay", "0", env=at(server))

    assert done.code == 0
    assert re.match(r"flexllm: attempt 1 at http://127\.0\.0\.1:\d+/v1 failed", done.err)


# --- batch


def test_batch_answers_a_file(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 5)
    done = run("batch", "in.jsonl", "-o", "out.jsonl", env=at(server))

    assert done.code == 0
    assert done.out == ""
    rows = rows_of("out.jsonl")
    assert [(row["index"], row["status"], row["metadata"]) for row in rows] == [
        (number, "success", {"id": number}) for number in range(5)
    ]
    assert all(f'"question {row["index"]}"' in row["output"] for row in rows)
    assert rows[0]["input"] == [{"role": "user", "content": "question 0"}]
    assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_batch_run_again_asks_nothing_again(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 5)
    run("batch", "in.jsonl", "-o", "out.jsonl", "-n", "2", env=at(server))
    assert server.stats()["received"] == 2
    assert [row["index"] for row in rows_of("out.jsonl")] == [0, 1]

    done = run("batch", "in.jsonl", "-o", "out.jsonl", env=at(server))
    assert "5 of 5 rows answered, 2 of them by earlier runs" in done.err
    run("batch", "in.jsonl", "-o", "out.jsonl", env=at(server))
    assert server.stats()["prompts"] == {f"question {number}": 1 for number in range(5)}


@pytest.mark.parametrize("arguments", [("-",), ()], ids=["-", "pipe"])
def test_batch_reads_standard_input(server: MockServer, arguments: tuple[str, ...]) -> None:
    rows = '\ufeff{"q": "eins"}\r\n\r\n{"q": "zwei"}\r\n'
    done = run("batch", *arguments, "-o", "out.jsonl", env=at(server), stdin=rows)

    assert done.code == 0
    assert set(server.stats()["prompts"]) == {"eins", "zwei"}
    assert [row["index"] for row in rows_of("out.jsonl")] == [0, 1]


@pytest.mark.parametrize(
    ("row", "messages", "metadata"),
    [
        (
            {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.7, "id": "001"},
            [("user", "Hi")],
            {"temperature": 0.7, "id": "001"},
        ),
        ({"instruction": "翻译", "input": "Hello", "output": "你好"}, [("user", "翻译\n\nHello")], {"output": "你好"}),
        ({"q": "什么是AI?", "system": "你是专家"}, [("system", "你是专家"), ("user", "什么是AI?")], {}),
        ({"question": "Why?", "level": 3}, [("user", "Why?")], {"level": 3}),
        ({"prompt": "Go on:"}, [("user", "Go on:")], {}),
    ],
    ids=["openai_chat", "alpaca", "q", "question", "prompt"],
)
def test_batch_knows_the_shapes_of_rows(
    server: MockServer, folder: Path, row: dict[str, Any], messages: list[tuple[str, str]], metadata: dict[str, Any]
) -> None:
    write_rows(folder / "in.jsonl", row)
    assert run("batch", "in.jsonl", "-o", "out.jsonl", env=at(server)).code == 0

    assert messages_of(server) == messages
    assert (rows_of("out.jsonl")[0].get("metadata") or {}) == metadata
    assert set(server.requests[0].json()) == {"model", "messages"}  # metadata are not sent


def test_batch_gives_its_summary_as_json(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)
    done = run("batch", "in.jsonl", "-o", "out.jsonl", "--json", env=at(server))

    summary = json.loads(done.out)
    expected = {"total": 3, "success": 3, "failed": 0, "cached": 0, "resumed": 0, "output": "out.jsonl"}
    assert {name: summary[name] for name in expected} == expected
    assert summary["elapsed"] >= 0
    assert summary["total_tokens"] > 0


def test_batch_writes_plain_lines_where_there_is_no_terminal(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)
    done = run("batch", "in.jsonl", "-o", "out.jsonl", env=at(server))

    assert "\r" not in done.err
    assert "\x1b" not in done.err
    last_of_progress, sentence = done.err.splitlines()
    assert re.fullmatch(r"3/3 in \d+ s, [\d.]+ req/s, \d+ tokens, 💰 price unknown", last_of_progress)
    assert re.fullmatch(r"3 of 3 rows answered, [\d.]+ s, \d+ tokens, 💰 price unknown; see out\.jsonl", sentence)


def test_batch_draws_a_bar_on_a_terminal(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)
    seen = on_terminal("batch", "in.jsonl", "-o", "out.jsonl", env=at(server))

    assert seen.code == 0
    assert "100%|" in seen.text
    assert "3/3" in seen.text
    assert re.search(r"\d+ tokens", seen.text)
    assert re.search(r"\r[^\r\n]*3/3", seen.text)
    assert "3 of 3 rows answered" in seen.text


def test_batch_is_silent_if_told_so(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)

    assert run("batch", "in.jsonl", "-o", "out.jsonl", "--quiet", env=at(server)) == Done(0, "", "")
    assert len(rows_of("out.jsonl")) == 3


def test_batch_adds_a_system_message_where_a_row_has_none(server: MockServer, folder: Path) -> None:
    write_rows(folder / "in.jsonl", {"q": "one", "system": "its own"}, {"q": "two"})
    run("batch", "in.jsonl", "-o", "out.jsonl", "--system", "for all", "-c", "1", env=at(server))

    assert messages_of(server, 0) == [("system", "its own"), ("user", "one")]
    assert messages_of(server, 1) == [("system", "for all"), ("user", "two")]


def test_batch_sends_parameters_with_every_row(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 2)
    run("batch", "in.jsonl", "-o", "out.jsonl", "--param", "seed=7", "--temperature", "0.5", env=at(server))

    assert [(body["seed"], body["temperature"]) for body in (r.json() for r in server.requests)] == [(7, 0.5)] * 2


@pytest.mark.parametrize(("value", "kept"), [("all", 2), ("last", 1), ("none", 0)])
def test_batch_keeps_as_much_of_the_input_as_is_asked_for(
    server: MockServer, folder: Path, value: str, kept: int
) -> None:
    write_rows(folder / "in.jsonl", {"q": "one", "system": "Be brief"})
    run("batch", "in.jsonl", "-o", "out.jsonl", "--save-input", value, env=at(server))

    kept_input = rows_of("out.jsonl")[0].get("input") or []
    assert len([kept_input] if isinstance(kept_input, dict) else kept_input) == kept
    run("batch", "in.jsonl", "-o", "out.jsonl", "--save-input", value, env=at(server))
    assert server.stats()["received"] == 1


def test_batch_takes_its_settings_from_the_file(folder: Path) -> None:
    with MockServer(delay=0.8) as server:  # long enough for the last of those that are let through
        write_config(
            f"models: [{{id: m, base_url: '{server.base_url}', params: {{seed: 7}}, system: Be brief}}]\n"
            "batch: {concurrency: 3, return_usage: false, timeout: 30}\n"
        )
        write_questions(folder / "in.jsonl", 6)
        done = run("batch", "in.jsonl", "-o", "out.jsonl")
        assert done.code == 0
        assert server.stats()["peak_in_flight"] == 3
        assert server.requests[0].json()["seed"] == 7
        assert messages_of(server)[0] == ("system", "Be brief")
        assert "tokens" not in done.err

        server.reset()
        run("batch", "in.jsonl", "-o", "other.jsonl", "-c", "5")
        assert server.stats()["peak_in_flight"] == 5  # a flag goes before the file


def test_batch_obeys_the_timeout_of_the_file(folder: Path) -> None:
    with MockServer(delay=90.0) as server:
        write_config(f"models: [{{id: m, base_url: '{server.base_url}'}}]\nbatch: {{timeout: 0.2}}\n")
        write_questions(folder / "in.jsonl", 1)
        started = time.monotonic()
        done = run("batch", "in.jsonl", "-o", "out.jsonl", "--retry-times", "0")

    assert done.code == 6
    assert time.monotonic() - started < 45.0
    assert rows_of("out.jsonl")[0]["error"]["class"] == "RequestTimeout"


# --- whom to ask, and with which key


@contextmanager
def two_servers() -> Iterator[tuple[MockServer, MockServer]]:
    """Two servers, each of which takes its own key alone, and a file that names both."""
    with MockServer(api_key="sk-of-the-first-entry") as first, MockServer(api_key="sk-of-the-second-entry") as second:
        write_config(
            "default: one\nmodels:\n"
            f"  - {{id: one, name: m-1, base_url: '{first.base_url}', api_key: sk-of-the-first-entry}}\n"
            f"  - {{id: two, name: m-2, base_url: '{second.base_url}', api_key: sk-of-the-second-entry}}\n"
        )
        yield first, second


def keys_and_models(server: MockServer) -> list[tuple[str, str]]:
    return [(request.headers["authorization"], request.json()["model"]) for request in server.requests]


def test_every_entry_of_the_file_is_asked_with_its_own_key() -> None:
    with two_servers() as (first, second):
        assert run("ask", "Hello").code == 0
        assert run("ask", "Hello", "-m", "two").code == 0
        assert run("ask", "Hello", "-m", "m-2").code == 0  # by the server's name for it
        assert keys_and_models(first) == [("Bearer sk-of-the-first-entry", "m-1")]
        assert keys_and_models(second) == [("Bearer sk-of-the-second-entry", "m-2")] * 2


def test_a_key_from_the_environment_is_never_sent_to_a_url_of_the_file(folder: Path) -> None:
    env = {"FLEXLLM_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    with two_servers() as (first, second):
        write_questions(folder / "in.jsonl", 2)
        assert run("ask", "Hello", env=env).code == 0
        assert run("ask", "Hello", "-m", "two", env=env).code == 0
        assert run("batch", "in.jsonl", "-o", "out.jsonl", env={**env, "FLEXLLM_MODEL": "two"}).code == 0
        elsewhere = {**env, "FLEXLLM_BASE_URL": f"http://127.0.0.1:{unused_port()}/v1"}
        assert run("ask", "Hello", "-m", "two", env=elsewhere).code == 0  # an entry's name goes before the environment
        received = [*first.requests, *second.requests]
        assert len(received) == 5
        assert not any(KEY in repr(request.headers) for request in received)


def test_a_key_from_the_file_or_the_environment_is_never_sent_to_another_url() -> None:
    with MockServer() as other, two_servers() as (first, second):
        run("ask", "Hello", "--base-url", other.base_url, "-m", "two", env={"FLEXLLM_API_KEY": KEY})
        run("ask", "Hello", "--base-url", other.base_url, env=at(first, FLEXLLM_API_KEY=KEY))
        run("ask", "Hello", env=at(other))
        assert [key for key, _ in keys_and_models(other)] == ["Bearer EMPTY"] * 3
        assert not first.requests
        assert not second.requests


def test_the_command_line_goes_before_the_environment_before_the_file() -> None:
    with MockServer() as flag, MockServer() as variable, two_servers() as (first, _):
        env = at(variable, FLEXLLM_API_KEY="sk-of-the-environment", FLEXLLM_MODEL="m-env")
        arguments = ("--base-url", flag.base_url, "--api-key", "sk-of-the-command-line")
        run("ask", "Hello", *arguments, "-m", "m-flag", env=env)
        run("ask", "Hello", *arguments, env=env)
        run("ask", "Hello", env=env)
        run("ask", "Hello", "-m", "m-flag", env=env)
        run("ask", "Hello")
        assert keys_and_models(flag) == [
            ("Bearer sk-of-the-command-line", "m-flag"),
            ("Bearer sk-of-the-command-line", "m-env"),
        ]
        assert keys_and_models(variable) == [
            ("Bearer sk-of-the-environment", "m-env"),
            ("Bearer sk-of-the-environment", "m-flag"),
        ]
        assert keys_and_models(first) == [("Bearer sk-of-the-first-entry", "m-1")]


def test_another_configuration_file_can_be_named(server: MockServer, folder: Path) -> None:
    (folder / "mine.yaml").write_text(f"models: [{{id: m, base_url: '{server.base_url}'}}]\n")

    assert run("ask", "Hello", "--config", "mine.yaml").code == 0
    assert run("ask", "Hello", env={"FLEXLLM_CONFIG": "mine.yaml"}).code == 0


# --- exit codes and sentences


def failing(status: int) -> MockServer:
    return MockServer(error_rate=1.0, error_status=status)


QUICK = ("--retry-times", "0")


@pytest.mark.parametrize(("status", "code"), [(400, 1), (404, 1), (429, 1), (500, 1), (401, 4), (403, 4)])
def test_ask_says_why_the_request_failed(status: int, code: int) -> None:
    with failing(status) as server:
        done = run("ask", "Hello", *QUICK, env=at(server))

    assert done.code == code
    assert f"HTTP {status}" in done.sentence


def test_ask_on_a_terminal_says_why_the_request_failed() -> None:
    with failing(401) as server:
        seen = on_terminal("ask", "Hello", *QUICK, env=at(server))

    assert seen.code == 4
    assert re.fullmatch(r"flexllm: http:[^\n]* HTTP 401 [^\n]*\r\n", seen.text)


@pytest.mark.parametrize(("status", "code"), [(400, 1), (500, 1), (401, 4)])
def test_batch_exits_with_what_all_failures_have_in_common(folder: Path, status: int, code: int) -> None:
    write_questions(folder / "in.jsonl", 3)
    with failing(status) as server:
        done = run("batch", "in.jsonl", "-o", "out.jsonl", *QUICK, env=at(server))

    assert done.code == code
    assert "0 of 3 rows answered, 3 failed" in done.err
    assert {row["error"]["status_code"] for row in rows_of("out.jsonl")} == {status}


def test_batch_exits_with_1_if_some_rows_failed(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)
    with MockServer(script=[Reply(status=401)]) as server:
        done = run("batch", "in.jsonl", "-o", "out.jsonl", *QUICK, env=at(server))

    assert done.code == 1
    assert "2 of 3 rows answered, 1 failed (1 AuthenticationFailed)" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("ask", "Hello", "--bogus"),
        ("ask", "Hello", "--param", "no-value"),
        ("ask", "Hello", "--timeout", "soon"),
        ("ask", "Hello", "--timeout", "-1"),
        ("batch", "in.jsonl"),
        ("batch", "in.jsonl", "-o", "out.jsonl", "--on-change", "whatever"),
        ("batch", "in.jsonl", "-o", "out.jsonl", "-n", "0"),
        ("batch", "in.jsonl", "-o", "out.jsonl", "-c", "0"),
        ("mock", "--delay", "long"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)

    assert done.code == 2
    assert done.out == ""
    [sentence] = done.err.splitlines()
    command = "flexllm" if arguments == ("bogus",) else f"flexllm {arguments[0]}"
    assert sentence.startswith(f"{command}: ")
    assert sentence.endswith(f"; '{command} --help' tells what there is")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("ask", "Hello", "--base-url", "localhost:8000", "-m", "m"), "base_url"),
        (("ask", "Hello", "--base-url", "http://localhost:1/v1"), "model"),
        (("ask", "Hello", "--base-url", "http://localhost:1/v1", "-m", "m", "--provider", "nobody"), "provider"),
        (("ask", "Hello", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("batch", "in.jsonl", "-o", "out.txt"), "out.txt"),
        (("mock", "--error-rate", "2"), "--error-rate is 2.0"),
        (("mock", "--host", "127.0.0.1", "-p", "70000"), "port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_wrong_configuration_exits_with_3(folder: Path, arguments: tuple[str, ...], word: str) -> None:
    write_questions(folder / "in.jsonl", 1)
    done = run(*arguments)

    assert done.code == 3
    assert word in done.sentence
    assert not list(folder.glob("o*"))


def test_without_any_configuration_it_says_what_to_do() -> None:
    done = run("ask", "Hello")

    assert done.code == 3
    for word in ("--base-url", "FLEXLLM_BASE_URL", "~/.flexllm/config.yaml"):
        assert word in done.sentence


def test_where_nothing_listens_ask_exits_with_6() -> None:
    done = run("ask", "Hello", "--base-url", f"http://127.0.0.1:{unused_port()}/v1", "-m", "m", *QUICK)

    assert done.code == 6
    assert "nothing listens" in done.sentence


def test_where_nothing_listens_batch_exits_with_6(folder: Path) -> None:
    write_questions(folder / "in.jsonl", 2)
    arguments = ("--base-url", f"http://127.0.0.1:{unused_port()}/v1", "-m", "m", *QUICK)
    done = run("batch", "in.jsonl", "-o", "out.jsonl", *arguments)

    assert done.code == 6
    assert "nothing listens" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("ask",), "nothing is asked"),
        (("ask", "  "), "nothing is asked"),
        (("batch", "missing.jsonl", "-o", "out.jsonl"), "missing.jsonl"),
        (("batch", ".", "-o", "out.jsonl"), "is a folder without pictures"),
        (("batch", "empty.jsonl", "-o", "out.jsonl"), "no rows"),
        (("batch", "-", "-o", "out.jsonl"), "standard input holds no rows"),
        (("batch", "odd.jsonl", "-o", "out.jsonl"), "no row can be understood"),
        (("batch", "in.jsonl", "-o", "in.jsonl"), "both input and output"),
        (("batch", "in.jsonl", "-o", "no-folder/out.jsonl"), "no-folder"),
        (("batch", "in.jsonl", "-o", "folder.jsonl"), "folder.jsonl"),
        (("batch", "in.jsonl", "-o", "foreign.jsonl"), "no output file of a batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_input_or_output_that_cannot_be_used_exits_with_9(
    server: MockServer, folder: Path, arguments: tuple[str, ...], word: str
) -> None:
    write_questions(folder / "in.jsonl", 1)
    (folder / "empty.jsonl").write_text("\n\n")
    (folder / "odd.jsonl").write_text('{"text": "?"}\nnot json\n')
    (folder / "foreign.jsonl").write_text('{"somebody": "else"}\n')
    (folder / "folder.jsonl").mkdir()
    done = run(*arguments, env=at(server))

    assert done.code == 9
    assert word in done.sentence
    assert server.stats()["received"] == 0
    assert not (folder / "out.jsonl").exists()
    assert (folder / "foreign.jsonl").read_text() == '{"somebody": "else"}\n'


def test_a_wrong_key_never_shows_up(folder: Path) -> None:
    """Not even if the server repeats it."""
    write_questions(folder / "in.jsonl", 2)
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}).encode()
    with MockServer(script=lambda request: Reply(status=401, body=body)) as server:
        arguments = ("--api-key", KEY, "--base-url", server.base_url, "-m", "m", "-v", *QUICK)
        done = [
            run("ask", "Hello", *arguments),
            run("batch", "in.jsonl", "-o", "out.jsonl", *arguments),
            run("batch", "in.jsonl", "-o", "again.jsonl", "--json", *arguments),
        ]

    assert [one.code for one in done] == [4, 4, 4]
    written = "".join(path.read_text() for path in folder.iterdir())
    assert KEY not in "".join(one.out + one.err for one in done) + written
    assert "sk-a-very-secre...ters" in done[0].sentence


@pytest.mark.parametrize("option", [("--api-key", KEY), (f"--api-key={KEY}",)])
def test_the_command_that_goes_on_does_not_show_the_key(folder: Path, option: tuple[str, ...]) -> None:
    write_questions(folder / "in.jsonl", 1)
    with MockServer(delay=60.0) as server:
        process = subprocess.Popen(
            [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", "--grace", "0", "--base-url", server.base_url, "-m", "m",
             *option, "--param", f"user={KEY[:9]}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert eventually(lambda: server.stats()["received"] == 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    assert out == ""
    assert KEY not in err
    how_to_go_on = err.splitlines()[-1]
    assert how_to_go_on.startswith("  flexllm batch in.jsonl -o out.jsonl --grace 0")
    assert f"KEY --param user={KEY[:9]}" in how_to_go_on


# --- streams that are closed, full or broken


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """The end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("arguments", [("ask", "Hello"), ("ask", "Hello", "--json"), ("version",)], ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_quietly(
    server: MockServer, broken_pipe: int, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*PROGRAM, *arguments], env={**os.environ, **at(server)}, stdin=subprocess.DEVNULL, stdout=broken_pipe,
        stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (1, "")


def test_head_takes_the_first_byte(server: MockServer) -> None:
    assert in_shell('"$@" | head -c1', "ask", "Hello", env=at(server)) == Done(0, "M", "")


def test_a_batch_whose_talk_nobody_hears_is_done_all_the_same(
    server: MockServer, folder: Path, broken_pipe: int
) -> None:
    write_questions(folder / "in.jsonl", 20)
    done = subprocess.run(
        [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl"], env={**os.environ, **at(server)},
        stdin=subprocess.DEVNULL, stdout=broken_pipe, stderr=broken_pipe, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert [row["status"] for row in rows_of("out.jsonl")] == ["success"] * 20


def test_a_batch_outlives_its_terminal(folder: Path) -> None:
    """Started in a terminal and left running (disown, nohup), the bar has no place to be drawn any more."""
    write_questions(folder / "in.jsonl", 40)
    with MockServer(delay=0.05) as server:
        terminal, its_end = pty.openpty()
        process = subprocess.Popen(
            [*PROGRAM, "batch", "in.jsonl", "-o", "out.jsonl", "-c", "4"], env={**os.environ, **at(server)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=its_end,
        )  # fmt: skip
        os.close(its_end)
        assert eventually(lambda: server.stats()["received"] >= 4)
        os.close(terminal)
        out, _ = process.communicate(timeout=PATIENCE)

    assert (process.returncode, out) == (0, b"")
    assert [row["status"] for row in rows_of("out.jsonl")] == ["success"] * 40


def test_a_closed_standard_output_is_told_before_anything_is_paid_for(server: MockServer) -> None:
    done = in_shell('"$@" >&-', "ask", "Hello", env=at(server))

    assert (done.code, done.sentence) == (9, "flexllm: standard output is closed")
    assert server.stats()["received"] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_standard_output_is_told(server: MockServer) -> None:
    done = in_shell('"$@" >/dev/full', "ask", "Hello", env=at(server))

    assert done.code == 9
    assert "standard output cannot be written: No space left" in done.sentence


def test_a_batch_needs_none_of_the_three_streams(server: MockServer, folder: Path) -> None:
    write_questions(folder / "in.jsonl", 3)

    assert in_shell('"$@" <&- >&- 2>&-', "batch", "in.jsonl", "-o", "out.jsonl", env=at(server)) == Done(0, "", "")
    assert len(rows_of("out.jsonl")) == 3


def test_ask_needs_neither_standard_input_nor_standard_error(server: MockServer) -> None:
    done = in_shell('"$@" <&- 2>&-', "ask", "Hello", env=at(server))

    assert done.code == 0
    assert '"Hello"' in done.out


# --- mock


@contextmanager
def mock_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `flexllm mock` and the base URL that it printed."""
    process = subprocess.Popen(
        [*PROGRAM, "mock", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def is_serving(process: subprocess.Popen[str]) -> bool:
    """Whether the process heeds its signals by now; where that cannot be seen, give it time."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(0.5)
        return True
    caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_mock_prints_its_base_url_and_ends_when_told(number: signal.Signals) -> None:
    with mock_process("-p", "0") as (process, base_url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", base_url)
        assert run("ask", "Hello", "--base-url", base_url, "-m", "mock-model").code == 0
        assert eventually(lambda: is_serving(process))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert out == ""
    assert re.fullmatch(r"Try it: flexllm ask .* Ctrl-C ends it\.\n", err)


def test_mock_obeys_its_options() -> None:
    options = ("--require-key", "sk-right", "--model", "mine", "--delay", "0.01-0.02")
    with mock_process("-p", "0", *options) as (_, base_url):
        at_mock = ("--base-url", base_url, *QUICK)
        assert run("ask", "Hello", *at_mock, "-m", "mine", "--api-key", "sk-wrong").code == 4
        assert run("ask", "Hello", *at_mock, "-m", "mine", "--api-key", "sk-right").code == 0
        request = urllib.request.Request(f"{base_url}/models", headers={"Authorization": "Bearer sk-right"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            assert [model["id"] for model in json.load(reply)["data"]] == ["mine"]


def test_mock_says_that_its_port_is_taken(server: MockServer) -> None:
    done = run("mock", "-p", str(server.port))

    assert done.code == 3
    assert done.sentence == (
        f"flexllm: cannot listen on 127.0.0.1:{server.port}: Address already in use; --port 0 takes a free one"
    )


@pytest.mark.parametrize("host", ["192.0.2.7", "nobody.invalid"])  # for documentation, and never to be found
def test_mock_says_that_its_address_is_elsewhere(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mock", "--host", host]) == 3
    assert capsys.readouterr().err.endswith("; --host must be an address of this machine\n")


# --- version, help, and the ways in


def test_version_says_which() -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert run("version") == Done(0, f"flexllm {flexllm.__version__} (Python {python})\n", "")
    assert run("--version") == Done(0, f"flexllm {flexllm.__version__}\n", "")
    assert json.loads(run("version", "--json").out) == {"flexllm": flexllm.__version__, "python": python}


@pytest.mark.parametrize("command", ["ask", "batch", "mock", "version"])
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: flexllm {command}")


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("version", program=(sys.executable, "-m", "flexllm"), env={"PYTHONPATH": str(ROOT)})

    assert done.code == 0
    assert flexllm.__version__ in done.out
    assert run("bogus", program=(sys.executable, "-m", "flexllm"), env={"PYTHONPATH": str(ROOT)}).code == 2


def test_flexllm_and_xllm_are_the_same_program() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    scripts = dict(
        re.split(r"\s*=\s*", line.strip())
        for line in settings["options.entry_points"]["console_scripts"].strip().splitlines()
    )

    assert scripts == dict.fromkeys(("flexllm", "xllm"), "flexllm.cli.main:main")
    module, _, name = scripts["xllm"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_an_interrupt_before_the_command_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flexllm.cli.main.build_parser", interrupted)

    assert main(["version"]) == 130
    assert capsys.readouterr().err == "flexllm: interrupted\n"
