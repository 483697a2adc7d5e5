"""`flexllm test`: what it tells of servers that work, and of those that do not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Terminal, at, in_process, run
from fakes import CLOSE, READ, RESET, ScriptedServer, http_reply, unused_port
from foreign import speak

from flexllm.mock import MockServer

KEY = "sk-right-key-0123456789"
FAILED, CONFIG, AUTHENTICATION, UNREACHED = 1, 3, 4, 6

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(models=("a-model", "b-model"), api_key=KEY) as server:
        yield server


def tried(capsys: Any, base_url: str, *arguments: str, key: str = KEY) -> Any:
    return in_process(capsys, "test", "--base-url", base_url, "-m", "mock-model", "--api-key", key, *arguments)


def told(done: Any) -> str:
    """What somebody reads who has only the streams: nothing of the key."""
    assert KEY not in done.out + done.err
    return " ".join((done.out + done.err).split())


# --- servers that work ------------------------------------------------------------------------------------------------


def test_each_step_is_told_with_whom_it_is_tried_and_where_that_comes_from(server: MockServer) -> None:
    done = run("test", env=at(server, FLEXLLM_API_KEY=KEY))
    lines = done.out.splitlines()
    assert lines[:3] == [
        f"Server:  {server.base_url} (openai format), from FLEXLLM_BASE_URL",
        "Model:   mock-model, from FLEXLLM_MODEL",
        "API key: sk-r...6789, from FLEXLLM_API_KEY",
    ]
    assert lines[4].startswith("1. The list of models: 3 models in 0.")
    assert lines[4].endswith(" s: mock-model, a-model, b-model. mock-model is among them.")
    assert lines[5].startswith("2. A short question, streamed: first token after 0.")
    assert "complete after 0." in lines[5]
    assert "tokens. It said: Mock answer" in lines[5]
    assert lines[-1] == "Everything works."
    assert (done.code, done.err) == (0, "")
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/chat/completions"]


def test_with_whom_it_is_tried_stands_below_each_other_in_a_language_with_wide_letters_too(
    server: MockServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexllm.cli.main.set_language", lambda: None)
    speak(monkeypatch, {"Server:": "服务器:", "Model:": "模型:", "{setting}, from {source}": "{setting}（{source}）"})
    lines = tried(capsys, server.base_url).out.splitlines()
    assert lines[:3] == [
        f"服务器:  {server.base_url} (openai format)（--base-url）",
        "模型:    mock-model（--model）",
        "API key: sk-r...6789（--api-key）",
    ]


def test_of_a_long_list_the_first_models_are_named(capsys: Any) -> None:
    with MockServer(models=tuple(f"model-{number}" for number in range(7))) as server:
        done = tried(capsys, server.base_url)
    assert ": mock-model, model-0, model-1, model-2, model-3 and 3 more. mock-model is among them." in told(done)


def test_on_a_terminal_the_same_is_told(server: MockServer) -> None:
    with Terminal("test", env=at(server, FLEXLLM_API_KEY=KEY)) as terminal:
        terminal.expect("1. The list of models: 3 models")
        terminal.expect("2. A short question, streamed: first token")
        terminal.expect("Everything works.")
        assert terminal.end() == 0


def test_a_model_that_is_not_listed_is_said_to_be_missing_from_the_list(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "test", "--base-url", server.base_url, "--api-key", KEY, "-m", "a-modell")
    assert "a-modell is not among them; the nearest are a-model" in told(done)
    assert done.code == 0  # the mock answers for every model


def test_the_parameters_and_the_system_message_of_an_entry_are_tried_too(
    server: MockServer, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        f"models: [{{id: mine, name: mock-model, base_url: '{server.base_url}', api_key: {KEY}, system: Be brief, "
        "user_template: '{title}: {content}', params: {temperature: 0.5}}]\n"
    )
    file.chmod(0o600)
    done = in_process(capsys, "test", "--config", str(file))
    assert done.code == 0
    body = server.requests[-1].json()
    assert (body["temperature"], body["messages"][0]) == (0.5, {"role": "system", "content": "Be brief"})
    assert body["messages"][1]["content"] == "Say hello, in one word."


def test_the_only_model_of_a_server_need_not_be_named(capsys: Any) -> None:
    with MockServer(model="only-one") as server:
        done = in_process(capsys, "test", "--base-url", server.base_url)
    assert "Model: not named" in told(done)
    assert "only-one is among them" in told(done)
    assert done.code == 0


def test_a_server_without_a_list_of_models_works_all_the_same(capsys: Any) -> None:
    missing = http_reply(b'{"error": {"message": "no such page"}}', "Content-Type: application/json", status="404 X")
    answer = http_reply(
        b'{"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}',
        "Content-Type: application/json",
    )
    with ScriptedServer([READ, missing, READ, answer]) as server:
        done = tried(capsys, f"{server.url}/v1")
    assert "1. The list of models: not to be had (HTTP 404)." in told(done)
    assert "It said: hello" in told(done)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("provider", ["claude", "gemini"])
def test_other_formats_are_tried_as_well(server: MockServer, capsys: Any, provider: str) -> None:
    done = tried(capsys, server.url, "--provider", provider)
    assert f"({provider} format)" in done.out
    assert "mock-model is among them" in told(done)
    assert done.code == 0


# --- servers that do not ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        ("unauthorized", AUTHENTICATION, "Check that it is whole and has not expired"),
        ("forbidden", AUTHENTICATION, "The server knows the key, but it may not do this"),
        ("quota", FAILED, "the account has nothing left"),
        ("rate_limited", FAILED, "it has too many requests for now"),
        ("server_error", FAILED, "it has trouble of its own"),
        ("overloaded", FAILED, "it has trouble of its own"),
        ("bad_request", FAILED, "it refuses the question as it was put"),
        ("not_found", FAILED, "The server does not have mock-model"),
        ("html", FAILED, "what answers there is not a language model's interface"),
        ("reset", FAILED, "The answer began and broke off"),
        ("broken_stream", FAILED, "The answer began and broke off"),
    ],
)
def test_what_the_server_says_no_to_is_told_with_what_to_do(
    server: MockServer, capsys: Any, faults: str, code: int, said: str
) -> None:
    server.change(faults={faults: 1.0})
    done = tried(capsys, server.base_url)
    assert said in told(done)
    assert "2. A short question, streamed: failed after 0." in done.out
    assert "What to do:\n  - " in done.out
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("flexllm: ")
    assert done.code == code
    assert len(server.requests) == 2, "nothing is tried twice"


def test_a_wrong_key_is_shown_masked_with_where_it_comes_from(server: MockServer, capsys: Any) -> None:
    done = tried(capsys, server.base_url, key="sk-or-v1-wrong-key-of-somebody")
    assert "The key that was sent is sk-o...body (--api-key)." in done.out
    assert "sk-or-v1-wrong" not in told(done)
    assert done.code == AUTHENTICATION


def test_a_missing_key_is_said_to_be_missing(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "test", "--base-url", server.base_url, "-m", "mock-model")
    assert "API key: none" in done.out
    assert "No key was given." in done.out
    assert done.code == AUTHENTICATION


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_a_path_that_says_too_much_is_put_right(server: MockServer, capsys: Any, path: str) -> None:
    done = tried(capsys, f"{server.url}{path}")
    assert f"It answers at {server.base_url}: give that as base_url." in told(done)
    assert done.code == FAILED


def test_a_missing_version_path_is_found(capsys: Any) -> None:
    page = http_reply(b"<html><title>Welcome</title></html>", "Content-Type: text/html")
    listed = http_reply(b'{"data": [{"id": "m"}]}', "Content-Type: application/json")
    with ScriptedServer([READ, page, READ, page], [READ, listed]) as server:
        done = tried(capsys, server.url)
        assert [request.split()[1] for request in server.requests] == [
            b"/models", b"/chat/completions", b"/v1/models",
        ]  # fmt: skip
    assert f"It answers at {server.url}/v1: give that as base_url." in told(done)


def test_where_the_models_are_listed_no_other_path_is_tried(server: MockServer, capsys: Any) -> None:
    server.change(faults={"not_found": 1.0})
    assert "The server does not have mock-model" in told(tried(capsys, server.url))
    assert len(server.requests) == 2


def test_a_page_for_people_is_no_server_of_this_kind(capsys: Any) -> None:
    page = http_reply(b"<html><title>Welcome</title></html>", "Content-Type: text/html")
    with ScriptedServer([READ, page, READ, page]) as server:
        done = tried(capsys, f"{server.url}/v1")
    assert "Check base_url: what answers there is not a language model's interface." in done.out
    assert done.code == FAILED


def test_a_server_that_is_not_there_is_not_asked_twice(capsys: Any) -> None:
    done = tried(capsys, f"http://127.0.0.1:{unused_port()}/v1")
    assert "1. The list of models: failed.\n" in done.out
    assert "2. A short question" not in done.out
    assert "'flexllm mock' starts one" in done.out
    assert done.code == UNREACHED


def test_a_name_that_does_not_exist_is_asked_to_be_checked(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a name server that is far may take its time
    done = tried(capsys, "http://nobody.invalid/v1")
    assert "Check how nobody.invalid is written (--base-url)." in done.out
    assert done.code == UNREACHED


@pytest.mark.parametrize(("steps", "said"), [([CLOSE], "closed the connection"), ([READ, RESET], "closed the")])
def test_a_server_that_hangs_up_is_told(capsys: Any, steps: list[Any], said: str) -> None:
    with ScriptedServer(steps) as server:
        done = tried(capsys, f"{server.url}/v1")
    assert said in done.err
    assert "write https:// in base_url" in told(done)
    assert done.code == UNREACHED


def test_a_port_that_speaks_no_tls_is_pointed_out(server: MockServer, capsys: Any) -> None:
    done = tried(capsys, server.base_url.replace("http:", "https:"))
    assert "try http:// instead of https://" in told(done)
    assert done.code == UNREACHED


def test_a_certificate_that_nobody_vouches_for_is_pointed_out(tls: ssl.SSLContext, capsys: Any) -> None:
    with ScriptedServer([READ], tls=tls) as server:
        done = tried(capsys, f"{server.url}/v1")
    assert "name its bundle with --ca-bundle FILE" in told(done)
    assert done.code == UNREACHED


def test_a_server_that_takes_long_is_waited_for_as_long_as_the_user_says(capsys: Any) -> None:
    with ScriptedServer([READ]) as server:
        done = tried(capsys, f"{server.url}/v1", "--timeout", "0.1")
    assert "Give it more time with --timeout 120." in done.out
    assert done.code == UNREACHED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--provider", "nobody"), "provider='nobody' is not known"),
        (("--base-url", "no-url"), "is not a URL that can be asked"),
        (("--timeout", "1e99"), "timeout=1e+99 must be a number of seconds above 0"),
        (("--config", "none.yaml"), "none.yaml does not exist"),
        (("--provider", "claude", "--api-key", "EMPTY"), "claude cannot be asked without one"),
        (("-m", ""), "model is given but empty"),
        (("--api-key", "sk 1"), "a character that an HTTP header cannot carry"),
    ],
)
def test_what_is_wrong_before_anything_is_sent_is_one_sentence(
    server: MockServer, capsys: Any, arguments: tuple[str, ...], said: str
) -> None:
    done = tried(capsys, server.base_url, *arguments)
    assert said in done.sentence
    assert (done.code, server.requests) == (CONFIG, [])


def test_a_model_that_nobody_names_is_asked_for_with_those_that_there_are(server: MockServer, capsys: Any) -> None:
    done = in_process(capsys, "test", "--base-url", server.base_url, "--api-key", KEY)
    assert f"give -m with one of those at {server.base_url}: mock-model, a-model, b-model" in done.err
    assert done.code == CONFIG


def test_with_no_configuration_it_says_how_to_begin(capsys: Any) -> None:
    done = in_process(capsys, "test")
    assert "flexllm init" in done.sentence
    assert done.code == CONFIG


# --- pools, and programs that ask -------------------------------------------------------------------------------------


def pool(folder: Path, *urls: str) -> str:
    file = folder / "pool.yaml"
    entries = "".join(f"    - {{base_url: '{url}', api_key: {KEY}, model: mock-model}}\n" for url in urls)
    file.write_text(f"batch:\n  endpoints:\n{entries}")
    file.chmod(0o600)
    return str(file)


def test_each_endpoint_of_a_pool_has_its_line_and_all_must_work(
    server: MockServer, tmp_path: Path, capsys: Any
) -> None:
    nobody = f"http://127.0.0.1:{unused_port()}/v1"
    done = in_process(capsys, "test", "--config", pool(tmp_path, server.base_url, nobody))
    lines = done.out.splitlines()
    assert lines[0].startswith(f"1. {server.base_url} (mock-model): first token after 0.")
    assert lines[1] == f"2. {nobody} (mock-model): failed."
    assert lines[-1] == "1 of 2 endpoints work."
    assert done.err.startswith("flexllm: nothing listens at ")
    assert done.code == UNREACHED
    done = in_process(capsys, "test", "--config", pool(tmp_path, server.base_url, server.base_url))
    assert (done.code, done.err, done.out.splitlines()[-1]) == (0, "", "2 of 2 endpoints work.")


def test_a_model_that_is_named_is_tried_instead_of_the_pool(server: MockServer, tmp_path: Path, capsys: Any) -> None:
    file = pool(tmp_path, f"http://127.0.0.1:{unused_port()}/v1")
    done = tried(capsys, server.base_url, "--config", file)
    assert done.code == 0


def test_endpoints_that_fail_in_different_ways_have_the_code_of_a_failure(
    server: MockServer, tmp_path: Path, capsys: Any
) -> None:
    server.change(faults={"unauthorized": 1.0})
    file = pool(tmp_path, server.base_url, f"http://127.0.0.1:{unused_port()}/v1")
    assert in_process(capsys, "test", "--config", file, "-q").code == FAILED


def test_as_json_all_that_was_found_out_is_data(server: MockServer, capsys: Any) -> None:
    done = tried(capsys, server.base_url, "--json")
    found = done.data["servers"][0]
    assert done.data["ok"] is found["ok"] is True
    assert found["models"]["ids"] == ["mock-model", "a-model", "b-model"]
    assert 0 < found["question"]["first_token_seconds"] <= found["question"]["seconds"]
    assert found["question"]["usage"]["completion_tokens"] > 0
    assert found["sources"]["api_key"] == "--api-key"
    told(done)
    server.change(faults={"unauthorized": 1.0})
    done = tried(capsys, server.base_url, "--json")
    assert done.data["ok"] is False
    assert done.data["servers"][0]["error"]["class"] == "AuthenticationFailed"
    assert done.data["servers"][0]["advice"]
    assert (done.code, len(done.err.splitlines())) == (AUTHENTICATION, 1)


def test_quiet_says_nothing_but_what_went_wrong(server: MockServer, capsys: Any) -> None:
    assert tried(capsys, server.base_url, "-q") == tried(capsys, server.base_url, "--quiet")
    done = tried(capsys, server.base_url, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    server.change(faults={"quota": 1.0})
    assert "HTTP" in tried(capsys, server.base_url, "-q").sentence


def test_ctrl_c_ends_it_at_once_on_a_line_of_its_own() -> None:
    with ScriptedServer([READ]) as server, Terminal("test", "--base-url", f"{server.url}/v1", "-m", "m") as terminal:
        terminal.expect("1. The list of models: ")
        terminal.press("\x03", "\nflexllm: interrupted")
        assert terminal.end() == 130
