"""`flexllm init`: on a terminal, where it asks, and elsewhere, where it writes an example."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PROGRAM, Terminal, at, in_process, run

from flexllm.config import load_config
from flexllm.mock import MockServer

KEY = "sk-right-key-0123456789"
FAILED, CONFIG, FILES, INTERRUPTED = 1, 3, 9, 130

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(models=("a-model", "b-model"), api_key=KEY) as server:
        yield server


@pytest.fixture
def file(clean_environment: Path) -> Path:
    return clean_environment / ".flexllm" / "config.yaml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- on a terminal ----------------------------------------------------------------------------------------------------


def test_a_newcomer_is_asked_and_can_then_test_and_ask(server: MockServer, file: Path, capsys: Any) -> None:
    with Terminal("init") as terminal:
        terminal.expect("This writes ~/.flexllm/config.yaml.")
        terminal.expect("10  another server")
        terminal.expect("A number [1]: ")
        terminal.line("10")
        terminal.expect("Base URL (such as http://host:8000/v1): ")
        terminal.line(server.base_url)
        terminal.expect("API key: Enter if the server asks for none.")
        terminal.expect("then holds no key.)")
        terminal.expect("\nAPI key: ")
        terminal.line("sk-wrong-key-0123456789")
        terminal.expect("HTTP 401")
        terminal.expect("Give another key? [Y/n] ")
        terminal.line("")
        terminal.expect("then holds no key.)")
        terminal.expect("\nAPI key: ")
        terminal.line(KEY)
        terminal.expect("The server has 3 models:")
        terminal.expect("2  a-model")
        terminal.expect("Model: a number, a name, or a part of one to look for it: ")
        terminal.line("2")
        terminal.expect("Written: ~/.flexllm/config.yaml, which only you can read.")
        terminal.expect("Try it with: flexllm test")
        assert terminal.end() == 0
        assert "sk-" not in terminal.raw, "a key was shown"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    done = in_process(capsys, "test")
    assert (done.code, done.err) == (0, "")
    assert "a-model is among them" in done.out
    assert run("ask", "Hello").code == 0


def test_a_key_that_is_in_the_environment_is_named_in_the_file(file: Path) -> None:
    env = {"OPENAI_API_KEY": KEY, "HTTPS_PROXY": "http://127.0.0.1:1"}  # OpenAI itself is not asked by a test
    with Terminal("init", env=env) as terminal:
        terminal.expect("A number [1]: ")
        terminal.line("")
        terminal.expect("Base URL [https://api.openai.com/v1]: ")
        terminal.line("")
        terminal.expect("OPENAI_API_KEY is set here. Use it by that name, so that the file holds no key? [Y/n] ")
        terminal.line("y")
        terminal.expect("The list of models is not to be had")
        terminal.expect("Give another base URL? [y/N] ")
        terminal.line("")
        terminal.expect("Model [gpt-6-luna]: ")
        terminal.line("")
        assert terminal.end() == 0
    assert 'api_key: "${OPENAI_API_KEY}"' in file.read_text()
    assert KEY not in file.read_text()


def test_ctrl_c_writes_nothing_and_leaves_a_terminal_that_shows_what_is_typed(file: Path) -> None:
    with Terminal("-c", 'trap : INT; "$@" init; stty -a', "sh", *PROGRAM, program=("sh",)) as terminal:
        terminal.expect("A number [1]: ")
        terminal.line("9")
        terminal.expect("Base URL")
        terminal.line("")
        terminal.expect("then holds no key.)")
        terminal.expect("\nAPI key: ")
        terminal.press("\x03", "flexllm: interrupted")
        assert " echo " in terminal.expect("echoe")
    assert not file.parent.exists()


@pytest.mark.parametrize("typed", ["\x03", "\x04"])
def test_who_goes_leaves_no_file_behind(file: Path, typed: str) -> None:
    with Terminal("init") as terminal:
        terminal.expect("A number [1]: ")
        terminal.press(typed, "\nflexllm: ")
        assert terminal.end() == (INTERRUPTED if typed == "\x03" else FAILED)
    assert not file.parent.exists()


def test_a_file_that_is_there_is_refused_before_anything_is_asked(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("models: []\n")
    with Terminal("init") as terminal:
        terminal.expect("flexllm: ~/.flexllm/config.yaml is there already: edit it, or give --force")
        assert terminal.end() == CONFIG
        assert "Whom" not in terminal.text
    assert file.read_text() == "models: []\n"


# --- where nobody can be asked ----------------------------------------------------------------------------------------


def test_without_a_terminal_an_example_is_written_that_loads(file: Path, capsys: Any) -> None:
    done = in_process(capsys, "init")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == [
        "Written: ~/.flexllm/config.yaml, which only you can read.",
        "Put in whom you want to ask, then try it with: flexllm test",
    ]
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    config = load_config()
    assert (config.default, config.warnings) == ("gpt-6-luna", ())


@pytest.mark.parametrize("variables", [{"FLEXLLM_LANG": "zh"}, {"LANG": "zh_CN.UTF-8"}])
def test_who_reads_chinese_gets_an_example_with_chinese_comments(file: Path, variables: dict[str, str]) -> None:
    done = run("init", "--example", env=variables)
    assert (done.code, done.out) == (0, "")
    assert file.read_text(encoding="utf-8").startswith("# flexllm 的配置文件。")
    assert load_config().default == "gpt-6-luna"


def test_what_to_type_next_names_the_file_that_was_written(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "my own.yaml"
    done = in_process(capsys, "init", "--example", "--config", str(path))
    assert done.err.splitlines()[-1].endswith(f"flexllm test --config '{path}'")
    assert path.exists()


def test_a_variable_that_goes_before_the_file_is_pointed_out(server: MockServer, capsys: Any, file: Path) -> None:
    done = run("init", env=at(server))
    assert [line.partition(":")[0] for line in done.err.splitlines()[-2:]] == [
        "Put in whom you want to ask, then try it with",
        "FLEXLLM_BASE_URL is set, and goes before the file",
    ]


def test_the_environment_names_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FLEXLLM_CONFIG", str(tmp_path / "named.yaml"))
    assert in_process(capsys, "init").code == 0
    assert (tmp_path / "named.yaml").exists()


def test_a_second_time_it_refuses_and_with_force_it_keeps_the_old_one(file: Path, capsys: Any) -> None:
    in_process(capsys, "init")
    file.write_text("models: []\n")
    done = in_process(capsys, "init")
    assert (
        "is there already: edit it, or give --force to write a new one and keep it as config.yaml.bak" in done.sentence
    )
    assert done.code == CONFIG
    assert file.read_text() == "models: []\n"
    done = in_process(capsys, "init", "--force")
    assert "The one that was there is ~/.flexllm/config.yaml.bak now." in done.err.splitlines()
    assert file.with_name("config.yaml.bak").read_text() == "models: []\n"
    assert load_config().default == "gpt-6-luna"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--config", "."), CONFIG, "is no file; name another one with --config"),
        (("--config", "no/such/folder/c.yaml"), FILES, "cannot be written: its folder does not exist"),
        (("--config", "/dev/null"), CONFIG, "/dev/null is no file"),
        (("--config", "/proc/c.yaml"), FILES, "/proc/c.yaml cannot be written"),
        (("--force", "--config", "/dev/null"), CONFIG, "/dev/null is no file"),
        (("--config",), 2, "expected one argument"),
        (("more",), 2, "unrecognized arguments: more"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process(capsys, "init", *arguments)
    assert said in done.sentence
    assert done.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_no_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = in_process(capsys, "init")
    assert "~/.flexllm/config.yaml cannot be written" in done.sentence
    assert done.code == FILES
