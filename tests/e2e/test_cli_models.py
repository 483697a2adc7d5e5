"""`flexllm models`: what real servers list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import at, in_process, run
from fakes import READ, ScriptedServer, http_reply, unused_port

from flexllm.mock import MockServer

KEY = "sk-right-key-0123456789"
FAILED, USAGE, CONFIG, AUTHENTICATION, UNREACHED = 1, 2, 3, 4, 6
MODELS = ("mock-model", "Qwen/Qwen3-8B", "qwen-plus")

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(models=MODELS[1:]) as server:
        yield server


def test_the_ids_are_printed_one_a_line_in_the_servers_order(server: MockServer) -> None:
    done = run("models", env=at(server))
    assert (done.code, done.out, done.err) == (0, "mock-model\nQwen/Qwen3-8B\nqwen-plus\n", "")


def test_no_model_need_be_named(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "models", "--base-url", server.base_url)
    assert (done.code, tuple(done.out.split())) == (0, MODELS)


@pytest.mark.parametrize(("text", "found"), [("qwen", MODELS[1:]), ("QWEN3", MODELS[1:2]), ("-", MODELS)])
def test_a_text_picks_the_ids_that_hold_it(server: MockServer, capsys: Any, text: str, found: tuple[str, ...]) -> None:
    done = in_process(capsys, "models", "--base-url", server.base_url, "--", text)
    assert (done.code, tuple(done.out.split())) == (0, found)


def test_where_nothing_is_like_the_text_the_nearest_is_named(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "models", "qwen-pluss", "--base-url", server.base_url)
    assert f"none of the 3 models of {server.base_url} has 'qwen-pluss' in its id; the nearest is qwen-plus" in (
        done.sentence
    )
    assert done.code == FAILED


def test_as_json_each_server_has_its_list(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "models", "--base-url", server.base_url, "--json")
    assert done.data == [{"base_url": server.base_url, "models": list(MODELS)}]


def test_each_endpoint_of_a_pool_is_asked_and_one_that_fails_does_not_hide_the_others(
    server: MockServer, tmp_path: Path, capsys: Any
) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}/v1"
    file = tmp_path / "pool.yaml"
    file.write_text(f"batch: {{endpoints: [{{base_url: '{nobody}'}}, {{base_url: '{server.base_url}'}}]}}\n")
    done = in_process(capsys, "models", "--config", str(file))
    assert tuple(done.out.split()) == MODELS
    assert done.err.splitlines() == [
        f"flexllm: nothing listens at {nobody.removesuffix('/v1')}; is the server running, is the port right?",
        f"{server.base_url}:",
    ]
    assert done.code == UNREACHED
    told = in_process(capsys, "models", "--config", str(file), "--json").data
    assert [one["models"] for one in told] == [[], list(MODELS)]
    assert told[0]["error"]["class"] == "ConnectionFailed"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--api-key", "sk-wrong-key-0123456789"), AUTHENTICATION, "HTTP 401"),
        (("--provider", "nobody"), CONFIG, "provider='nobody' is not known"),
        (("--base-url", "no-url"), CONFIG, "is not a URL that can be asked"),
        (("--base-url", ""), CONFIG, "base_url is given but empty"),
        (("--timeout", "0"), USAGE, "'0' is no number above 0"),
        (("--config", "none.yaml"), CONFIG, "none.yaml does not exist"),
        (("--ca-bundle", "none.pem", "--base-url", "https://127.0.0.1:1/v1"), CONFIG, "none.pem"),
    ],
)
def test_what_goes_wrong_is_one_sentence(capsys: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    with MockServer(api_key=KEY) as server:
        done = in_process(capsys, "models", "--base-url", server.base_url, *arguments)
    assert said in done.sentence
    assert KEY not in done.err
    assert done.code == code


def test_with_no_configuration_it_says_how_to_begin(capsys: Any) -> None:
    assert "flexllm init" in in_process(capsys, "models").sentence


def test_ids_cannot_write_on_the_terminal(capsys: Any) -> None:
    reply = http_reply(b'{"data": [{"id": "a\\u001b[2J\\nb"}]}')
    with ScriptedServer([READ, reply]) as server:
        done = in_process(capsys, "models", "--base-url", f"{server.url}/v1")
    assert done.out == "a\\x1b[2J b\n"


def test_a_server_without_models_says_so(capsys: Any) -> None:
    with ScriptedServer([READ, http_reply(b'{"data": []}')]) as server:
        done = in_process(capsys, "models", "--base-url", f"{server.url}/v1")
    assert "lists no models" in done.sentence
    assert done.code == FAILED
