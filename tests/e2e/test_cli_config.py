"""The configuration at work: whom a command asks, with which key, and what it says of a careless file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Done, rows_of, run, write_questions

from flexllm.mock import MockServer

pytestmark = pytest.mark.slow

KEY = "sk-the-only-key-that-is-accepted"


@pytest.fixture
def strict() -> Iterator[MockServer]:
    """A server that takes one key alone."""
    with MockServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(text: str, mode: int = 0o600) -> None:
    folder = Path.home() / ".flexllm"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    (folder / "config.yaml").chmod(mode)


def keys_of(server: MockServer) -> set[str | None]:
    return {request.headers.get("authorization") for request in server.requests}


def succeeded(done: Done) -> bool:
    return (done.code, done.err) == (0, "")


def test_no_key_needs_to_be_in_the_file(strict: MockServer, folder: Path) -> None:
    (folder / "key").write_text(f"{KEY}\nand more\n")
    write_config(
        f"models:\n  - {{id: variable, base_url: '{strict.base_url}', api_key: '${{MY_KEY}}'}}\n"
        f"  - {{id: command, base_url: '{strict.base_url}', api_key_cmd: cat key}}\n",
        mode=0o644,
    )
    assert succeeded(run("ask", "Hello", "-m", "variable", env={"MY_KEY": KEY}))
    assert succeeded(run("ask", "Hello", "-m", "command"))

    lost = run("ask", "Hello", "-m", "variable")
    assert lost.code == 3
    assert "config.yaml, line 2: api_key asks for the environment variable MY_KEY" in lost.sentence
    (folder / "key").unlink()
    failed = run("ask", "Hello", "-m", "command")
    assert failed.code == 3
    assert "config.yaml, line 3: api_key_cmd ended with exit code 1: " in failed.sentence
    assert keys_of(strict) == {f"Bearer {KEY}"}


def test_the_variables_of_openai_name_a_server_and_its_key(strict: MockServer) -> None:
    env = {"OPENAI_BASE_URL": strict.base_url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "m"}
    assert succeeded(run("ask", "Hello", env=env))
    with MockServer() as other:
        assert succeeded(run("ask", "Hello", env={**env, "FLEXLLM_BASE_URL": other.base_url}))
        assert keys_of(other) == {"Bearer EMPTY"}
    assert keys_of(strict) == {f"Bearer {KEY}"}
    assert strict.requests[0].json()["model"] == "m"


def test_a_careless_file_and_a_mistyped_variable_are_told_of_once(strict: MockServer) -> None:
    write_config(f"models: [{{id: m, base_url: '{strict.base_url}', api_key: {KEY}}}]\n", mode=0o644)
    done = run("ask", "Hello", env={"FLEXLLM_MODLE": "x"})

    assert done.code == 0
    assert done.err.splitlines() == [
        "flexllm: the environment variable FLEXLLM_MODLE is not known and ignored; did you mean FLEXLLM_MODEL?",
        "flexllm: ~/.flexllm/config.yaml holds a key and is open to other users of this machine; run: chmod 600 "
        "~/.flexllm/config.yaml",
    ]


def test_the_pool_of_a_batch_gets_keys_from_variables_and_from_a_command_that_runs_once(
    strict: MockServer, folder: Path
) -> None:
    write_config(
        "batch:\n  endpoints:\n"
        f"    - &a {{base_url: '${{FIRST}}', api_key_cmd: 'cat >> runs; echo run >> runs; echo {KEY}', model: m}}\n"
        "    - *a\n"
        "    - {base_url: '${FIRST}', api_key: '${MY_KEY}', model: '${MODEL:-m}'}\n"
    )
    write_questions(folder / "in.jsonl", 12)
    rows = (folder / "in.jsonl").read_text()
    done = run("batch", "-o", "out.jsonl", env={"FIRST": strict.base_url, "MY_KEY": KEY}, stdin=rows)

    assert done.code == 0, done.err
    assert [row["status"] for row in rows_of("out.jsonl")] == ["success"] * 12  # the command has not eaten them
    assert keys_of(strict) == {f"Bearer {KEY}"}
    assert (folder / "runs").read_text() == "run\n"

    lost = run("batch", "in.jsonl", "-o", "other.jsonl", env={"FIRST": strict.base_url})
    assert lost.code == 3
    assert "asks for the environment variable MY_KEY" in lost.sentence
    assert not Path("other.jsonl").exists()


def test_a_template_for_rows_is_refused_by_ask(strict: MockServer) -> None:
    write_config(f"models: [{{id: m, base_url: '{strict.base_url}', user_template: 'In {{lang}}: {{content}}'}}]\n")
    done = run("ask", "Hello")

    assert done.code == 3
    assert (
        "config.yaml, line 1: user_template has {lang}, which only the rows of flexllm batch can fill" in done.sentence
    )
    assert not strict.requests
