"""`flexllm chat` as a person drives it at a terminal, and as a script does through a pipe."""

from __future__ import annotations

import json
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, Done, Terminal, at, in_shell, run
from fakes import unused_port

from flexllm.mock import MockServer, Reply

pytestmark = pytest.mark.slow

CTRL_C, CTRL_D, CTRL_Z, UP = "\x03", "\x04", "\x1a", "\x1b[A"
QUICK = ("--retry-times", "0")
WITHOUT_READLINE = (
    sys.executable,
    "-c",
    "import sys; sys.modules['readline'] = None; from flexllm.cli.main import main; sys.exit(main(sys.argv[1:]))",
)


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(server: MockServer, number: int = -1) -> list[tuple[str, str]]:
    """Return the messages of a request."""
    return [(message["role"], message["content"]) for message in server.requests[number].json()["messages"]]


def chunk(text: str) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def leave(terminal: Terminal) -> int:
    """Type Ctrl-D at the next prompt, before which it would not be the editor's; return the exit code."""
    terminal.expect("> ")
    terminal.type(CTRL_D)
    return terminal.end()


ENDLESS = Reply(pieces=((0.0, chunk("The beginning ")), (600.0, chunk("and the end"))))


def write_config(*entries: dict[str, Any]) -> None:
    path = Path.home() / ".flexllm" / "config.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_text(json.dumps({"default": entries[0]["id"], "models": entries}))  # which is YAML
    path.chmod(0o600)


# --- at a terminal


def test_a_person_talks_until_he_has_enough(server: MockServer) -> None:
    with Terminal("chat", "Hello", "-s", "Be brief.", "--temperature", "0", env=at(server)) as terminal:
        terminal.expect(f"This is mock-model at {server.base_url}.")
        terminal.expect('you wrote "Hello". There is little to add.')
        terminal.expect("\r\n\r\n> ")
        terminal.line("Größe 大?")
        terminal.expect('you wrote "Größe 大?"')
        terminal.expect("\r\n\r\n> ")
        terminal.line("/cost")
        terminal.expect("2 requests")
        assert leave(terminal) == 0

    assert said(server, 0) == [("system", "Be brief."), ("user", "Hello")]
    first, second = (request.json() for request in server.requests)
    assert (first["stream"], first["temperature"], second["temperature"]) == (True, 0, 0)
    assert [role for role, _ in said(server)] == ["system", "user", "assistant", "user"]
    assert said(server)[3] == ("user", "Größe 大?")


def test_ctrl_c_ends_the_answer_and_not_the_chat() -> None:
    with MockServer(script=[ENDLESS]) as server, Terminal("chat", "Tell me", env=at(server)) as terminal:
        terminal.expect("The beginning ")
        terminal.press(CTRL_C, "[Cut off; what came is kept. /undo forgets it, /retry asks again.]")
        terminal.expect("> ")
        terminal.line("go on")
        terminal.expect('you wrote "go on"')
        for word in ("never", "mind"):
            terminal.expect("> ")
            terminal.type(word)
            terminal.expect(word)
            terminal.press(CTRL_C, "\n")
        terminal.expect("> ")
        terminal.line("again")
        terminal.expect('you wrote "again"')
        terminal.expect("> ")
        terminal.press(CTRL_C, "\n")
        terminal.press(CTRL_C, "[Ctrl-D or /exit ends the chat.]")
        terminal.expect("> ")
        terminal.line("/exit")
        assert terminal.end() == 0

        assert said(server, 1) == [
            ("user", "Tell me"),
            ("assistant", "The beginning \n[The answer was cut off here.]"),
            ("user", "go on"),
        ]
        assert said(server)[-1] == ("user", "again")
        assert len(server.requests) == 3


def test_a_request_that_fails_is_told_and_the_chat_goes_on() -> None:
    with MockServer(script=[Reply(status=401)]) as server, Terminal("chat", env=at(server)) as terminal:
        terminal.expect("> ")
        terminal.line("one")
        terminal.expect("flexllm: ")
        terminal.expect("[The question is taken back; /retry asks it again.]")
        terminal.expect("> ")
        terminal.line("/retry")
        terminal.expect('you wrote "one"')
        assert leave(terminal) == 0
        assert said(server) == [("user", "one")]


def test_several_lines_are_one_message(server: MockServer) -> None:
    with Terminal("chat", "-q", env=at(server)) as terminal:
        terminal.expect("> ")
        terminal.line("one \\")
        terminal.expect("... ")
        terminal.line("two")
        terminal.expect('you wrote "one two"')
        terminal.expect("> ")
        terminal.line('"""')
        terminal.expect("... ")
        terminal.line("/exit")
        terminal.expect("... ")
        terminal.line('"""')
        terminal.expect('you wrote "/exit"')
        terminal.expect("> ")
        terminal.type("\x1b[200~pasted\rlines\x1b[201~")
        terminal.expect("lines")
        terminal.type("\r")
        terminal.expect('you wrote "pasted lines"')
        assert leave(terminal) == 0

    assert [text for role, text in said(server) if role == "user"] == ["one \ntwo", "/exit", "pasted\nlines"]


def test_tab_completes_and_up_fetches_what_was_typed_in_the_last_chat(server: MockServer, folder: Path) -> None:
    write_config({"id": "one", "base_url": server.base_url}, {"id": "two-too", "base_url": server.base_url})
    with Terminal("chat") as terminal:
        terminal.expect("> ")
        terminal.type("/mod\ttw\t")
        terminal.expect("/model two-too")
        terminal.type("\r")
        terminal.expect(f"The model is two-too at {server.base_url}.")
        terminal.expect("> ")
        terminal.line("typed")
        terminal.expect('you wrote "typed"')
        terminal.expect("> ")
        terminal.type("/sa\tch.json\r")
        terminal.expect("Saved 2 messages to ch.json.")
        terminal.expect("> ")
        terminal.type("/load c\t\r")
        terminal.expect("Loaded 2 messages from ch.json.")
        assert leave(terminal) == 0
    history = Path.home() / ".flexllm" / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == stat.S_IMODE((folder / "ch.json").stat().st_mode) == 0o600
    assert server.requests[0].json()["model"] == "two-too"

    kept = history.read_bytes()
    with Terminal("chat", "-q") as terminal:
        terminal.expect("> ")
        terminal.type(UP * 3)
        terminal.expect("typed")
        terminal.type("\r")
        terminal.expect('you wrote "typed"')
        assert leave(terminal) == 0
    assert history.read_bytes() == kept + b'"typed"\n'


def test_a_locale_without_a_character_does_not_end_a_chat(server: MockServer) -> None:
    history = Path.home() / ".flexllm" / "chat_history"
    history.parent.mkdir()
    history.write_text('"\\u5927"\n')
    with Terminal("chat", env=at(server, LC_ALL="C")) as terminal:
        terminal.expect("> ")
        terminal.line("Größe")
        terminal.expect('you wrote "Größe"')
        terminal.line("你好")
        terminal.expect('you wrote "你好"')
        terminal.line("日\x7f")  # one of its three bytes is gone
        terminal.expect("flexllm: that line is not in the terminal's encoding; it is left out")
        assert leave(terminal) == 0
    assert len(server.requests) == 2


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_gives_the_line_back(server: MockServer) -> None:
    shell = ("bash", "--norc", "--noprofile", "-i")
    with Terminal(env=at(server, PS1="shell: ", HISTFILE=""), program=shell) as terminal:
        terminal.expect("shell: ")
        terminal.line(f"{sys.executable} {ROOT / 'bin' / 'flexllm'} chat")
        terminal.expect("> ")
        terminal.type("half a 大")
        terminal.expect("大")
        terminal.press(CTRL_Z, "Stopped")
        terminal.expect("shell: ")
        terminal.line("fg")
        terminal.expect("> half a 大")
        terminal.type(" line\x1b[D\x1b[D!\r")
        terminal.expect('you wrote "half a 大 li!ne"')
        terminal.expect("> ")
        terminal.type(CTRL_D)
        terminal.expect("shell: ")


def test_a_chat_that_is_ended_from_outside_gives_the_terminal_back_and_says_so(
    server: MockServer, tmp_path: Path
) -> None:
    log = tmp_path / "chat.log"
    with Terminal("chat", "--log-file", str(log), env=at(server)) as terminal:
        terminal.expect("> ")
        terminal.type("half a li")
        terminal.expect("half a li")
        terminal.until_heard(lambda: terminal.signal(signal.SIGTERM), "flexllm: ended by SIGTERM")
        assert terminal.end() == 143
        assert terminal.echoes
    assert log.read_text().splitlines()[-1].endswith("flexllm chat ends with exit code 143")


def test_without_a_history_nothing_of_the_chat_is_kept(server: MockServer) -> None:
    with Terminal("chat", "--no-history", env=at(server)) as terminal:
        terminal.expect("> ")
        terminal.line("a secret")
        terminal.expect('you wrote "a secret"')
        assert leave(terminal) == 0
    assert list(Path.home().iterdir()) == []


def test_each_model_is_asked_at_its_own_server_with_its_own_key(server: MockServer) -> None:
    with MockServer() as other:
        write_config(
            {"id": "one", "base_url": server.base_url, "api_key": "sk-one", "system": "You are one."},
            {"id": "two", "base_url": other.base_url, "api_key": "sk-two", "user_template": "Translate: {content}"},
        )
        with Terminal("chat", "-q") as terminal:
            for line, shown in (
                ("a", 'you wrote "a"'), ("/model two", "The model is two at"), ("b", 'you wrote "Translate: b"'),
                ("/model three", "none of the configuration"), ("c", 'you wrote "Translate: c"'),
            ):  # fmt: skip
                terminal.expect("> ")
                terminal.line(line)
                terminal.expect(shown)
            assert leave(terminal) == 0

        assert said(server, 0) == [("system", "You are one."), ("user", "a")]
        assert [role for role, _ in said(other, 0)] == [
            "user",
            "assistant",
            "user",
        ]  # the system message was the entry's
        assert said(other, 0)[0] == ("user", "Translate: a")
        assert [request.json()["model"] for request in other.requests] == ["two", "three"]
        assert server.requests[0].headers["authorization"] == "Bearer sk-one"
        assert {request.headers["authorization"] for request in other.requests} == {"Bearer sk-two"}


def test_what_a_model_says_cannot_steer_the_terminal() -> None:
    evil = "a\x1b]0;title\x07b\x1b[2Jc\x9bd\x08e\r\nf\tg"
    script = [Reply(pieces=((0.0, chunk(evil)), (0.0, b"data: [DONE]\n\n")))]
    with MockServer(script=script) as server, Terminal("chat", "Hi", "-q", env=at(server)) as terminal:
        terminal.expect(r"a\x1b]0;title\x07b\x1b[2Jc\x9bd\x08e")
        assert leave(terminal) == 0


def test_without_readline_a_chat_works_all_the_same(server: MockServer) -> None:
    with Terminal("chat", env=at(server, PYTHONPATH=str(ROOT)), program=WITHOUT_READLINE) as terminal:
        terminal.expect("> ")
        terminal.line("plain")
        terminal.expect('you wrote "plain"')
        terminal.expect("> ")
        terminal.type("x")
        terminal.press(CTRL_C, "\n")
        assert leave(terminal) == 0


def test_with_its_answers_in_a_pipe_a_chat_still_has_a_prompt(server: MockServer, folder: Path) -> None:
    script = ("sh", "-c", '"$@" > answers', "sh", sys.executable, str(ROOT / "bin" / "flexllm"))
    with Terminal("chat", env=at(server), program=script) as terminal:
        terminal.expect("> ")
        terminal.line("one")
        terminal.expect("> ")
        terminal.line("/help")
        terminal.expect("/exit")
        assert leave(terminal) == 0
    assert "little to add" not in terminal.text
    [answer] = (folder / "answers").read_text().splitlines()
    assert 'you wrote "one"' in answer
    assert "stream" not in server.requests[0].json()


# --- through a pipe


def test_each_line_of_a_pipe_is_a_question(server: MockServer) -> None:
    done = run("chat", "first", env=at(server), stdin="\ufeffsecond\n\n  \n/help\n")

    assert (done.code, done.err) == (0, "")
    assert [line.split('"')[1] for line in done.out.splitlines()] == ["first", "second", "/help"]
    assert len(said(server)) == 5
    assert not (Path.home() / ".flexllm").exists()


def test_with_json_each_answer_is_a_line(server: MockServer) -> None:
    done = run("chat", "--json", env=at(server), stdin="a\nb\n")
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert ["a" in answer["content"] for answer in answers] == [True, True]
    assert answers[0]["usage"]["total_tokens"] > 0


def test_the_first_request_that_fails_ends_a_chat_through_a_pipe() -> None:
    with MockServer(script=[None, Reply(status=401)]) as server:
        done = run("chat", env=at(server), stdin="a\nb\nc\n")
        assert (done.code, done.out.count("\n"), len(server.requests)) == (4, 1, 2)
    assert len(done.err.splitlines()) == 1

    nowhere = {"FLEXLLM_BASE_URL": f"http://127.0.0.1:{unused_port()}/v1", "FLEXLLM_MODEL": "m"}
    assert run("chat", *QUICK, env=nowhere, stdin="a\n").code == 6


def test_a_chat_without_any_question_says_so(server: MockServer) -> None:
    done = run("chat", env=at(server))
    assert done.code == 9
    assert "nothing is asked" in done.sentence
    assert in_shell('"$@" <&-', "chat", env=at(server)).code == 9
    assert in_shell('"$@" <&-', "chat", "Hi", env=at(server)).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-m", "m"), 3, "no server is configured"),
        (("--base-url", "http://127.0.0.1:1/v1"), 3, "which model"),
        (("--config", "none.yaml"), 3, "none.yaml"),
        (("--schema", "none.json", "--base-url", "http://127.0.0.1:1/v1", "-m", "m"), 9, "none.json cannot be read"),
    ],
)
def test_what_is_wrong_from_the_start_is_told_before_anything_is_read(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = run("chat", *arguments, stdin="a\n")
    assert done.code == code
    assert words in done.sentence


def test_a_full_disk_ends_a_chat(server: MockServer) -> None:
    done = in_shell('"$@" > /dev/full', "chat", "Hi", env=at(server))
    assert done == Done(9, "", "flexllm: standard output cannot be written: No space left on device\n")
