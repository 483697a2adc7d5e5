"""The command line in another language: nothing that it says is left in English, and what it says in Chinese is Chinese.

In one language each text stands between brackets, so that whatever stands outside was not looked up; the other is Chinese.
"""

from __future__ import annotations

import gettext
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE, PROGRAM, Done, Terminal, in_process
from foreign import BRACKETING, bracket_all, outside
from mistakes import CONFIGURED, MISTAKES, Mistake, lay_out, serving

from flexllm import language
from flexllm.cli.commands.init import _models_of
from flexllm.cli.interview import interview
from flexllm.cli.locale import set_language
from flexllm.cli.parser import COMMANDS
from flexllm.mock import MockServer, Reply

pytestmark = pytest.mark.slow

# --- what is no text of flexllm's own

OF_OTHERS = (
    r"HTTP \d+ \([^)]*\): [^⟦；）\n]*",  # what a server answered
    r"Mock answer \w+: you wrote [^\n]*",  # what a model said
    r"expected the node content, but found '<stream end>'",  # PyYAML
    r"\[SSL: \w+\] [a-z ]+ \(_ssl\.c:\d+\)",  # OpenSSL
    r"(?<=: )locked\b",  # a command that prints a key
)
NAMES = {
    *("alpaca", "ask", "auto", "batch", "model", "port", "simple"),  # what is written on a command line or in a file
    *("bash", "exec", "fish", "zsh"),
    *("Anthropic", "Moonshot", "claude", "gemini", "openai"),
    *("adaptive", "cache", "concurrency", "fallback", "provider", "system", "timeout", "true", "false"),
    *("BadRequest", "ServerError", "AuthenticationFailed", "Python"),
}
"""Words that are the same in every language: of programs, settings, models, formats and errors."""

_QUOTED = re.compile(r"""'[^'\n]*'|"[^"\n]*["…]""")
_COMMAND = re.compile(r"\bflexllm(?: [A-Za-z-]+){0,2}(?![\w.:-])|\bflexllm(?: [a-z-]+)?:")
_NAME = re.compile(rf"{_QUOTED.pattern}|{_COMMAND.pattern}|[^\s·]*[\w*][./_:=@<>$*\d-]+[^\s·]*|--?\w+|/\w+|\{{\w+\}}")
_WORD = re.compile(r"(?<!\w)[A-Za-z][a-z]+(?!\w)")
_RUN = re.compile(r"(?:\b[A-Za-z]+ ){2,}[A-Za-z]+\b")


def without(words: tuple[str, ...], text: str) -> str:
    return re.sub("|".join(words), " ", text)


def outside_brackets(text: str) -> list[str]:
    """Return the words that stand outside all brackets, without values and names."""
    return [word for word in _WORD.findall(_NAME.sub(" ", without(OF_OTHERS, outside(text)))) if word not in NAMES]


def english_in_chinese(text: str) -> list[str]:
    """Return runs of three English words and more, outside of quotes."""
    said = without((*OF_OTHERS, _QUOTED.pattern, _COMMAND.pattern, "Admin API Key"), text)
    return _RUN.findall(said)


@dataclass(frozen=True)
class Spoken:
    """A language.

    Attributes:
        left: Returns what of a text is not in it.
        program: The command line as a program of its own, which speaks it.
    """

    name: str
    left: Callable[[str], list[str]]
    program: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


BRACKETS = Spoken("brackets", outside_brackets, BRACKETING)
CHINESE = Spoken("Chinese", english_in_chinese, PROGRAM)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The addresses that command lines name in braces."""
    with serving() as addresses:
        yield addresses


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


@pytest.fixture(params=[BRACKETS, CHINESE], ids=str)
def spoken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spoken]:
    """The language in use."""
    monkeypatch.setenv("FLEXLLM_LANG", "zh")
    monkeypatch.setenv("LANGUAGE", "zh_CN")  # put back at the end, whatever is set meanwhile
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(language, "_catalogue", None)
    monkeypatch.setattr(logging.root, "handlers", [])  # so that each command sets up its own
    if request.param is BRACKETS:
        bracket_all(monkeypatch)
    yield request.param
    gettext.textdomain("messages")


def tell(capsys: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: str | None = None) -> Done:
    """Run a command in this process, with its log lines."""
    logging.root.handlers.clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
    return in_process(capsys, *arguments)


# --- in this process


@pytest.mark.parametrize("wrong", MISTAKES, ids=str)
def test_a_mistake_is_told_in_the_language_in_use(
    wrong: Mistake, spoken: Spoken, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    env = {"FLEXLLM_BASE_URL": servers[wrong.server], "FLEXLLM_MODEL": "mock-model"} if wrong.server else {}
    for name, value in {**env, **wrong.env}.items():
        monkeypatch.setenv(name, value)
    done = tell(capsys, monkeypatch, *(part.format(**servers) for part in wrong.args), stdin=wrong.stdin)
    assert done.code == wrong.code
    assert set(spoken.left(done.err)) <= set(wrong.args)
    assert re.search("[⟦\u4e00-\u9fff]", done.err)


@pytest.mark.parametrize("command", ["", *(one.__name__.rpartition(".")[2].replace("_", "-") for one in COMMANDS)])
def test_help_is_in_the_language_in_use(
    command: str, spoken: Spoken, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked = [[command, one] for one in ("stats", "show", "prune", "export")] if command == "cache" else [[command]]
    for words in asked:
        done = tell(capsys, monkeypatch, *filter(None, words), "--help")
        assert done.code == 0
        assert spoken.left(help_without_names(done.out)) == []


def help_without_names(text: str) -> str:
    """Return help without its usage, in which there is nothing but names; nor the commands that it lists."""
    said = text.partition("\n\n")[2]
    return re.sub(r"(?m)^ +[a-z-]+(?=  |$)|\{[a-z_,]+\}", "", said)


GOOD = """\
ask hello --no-stream -v --base-url {flaky} -m mock-model --retry-delay 0.01
ask hello --no-stream -v --log-file log.txt --show-thinking
ask hello --json
batch in.jsonl -o good.jsonl -v --cache --cache-dir kept --price 1,2 --status-file status.json --log-file log.txt
batch in.jsonl -o good.jsonl
batch in.jsonl -o good.csv --max-requests 2 --errors errors.jsonl
batch in.jsonl -o dry.jsonl --dry-run --price 1,2
batch in.jsonl -o sample.jsonl --sample 1 -y --price 1,2
batch in.jsonl -o bad.jsonl --base-url {flaky} -m mock-model --retry-times 0
batch in.jsonl -o bad.jsonl --base-url {strict} -m mock-model --api-key wrong
batch in.jsonl -o other.jsonl -v -c 2 --max-qps 1000 --adaptive
batch in.jsonl -o other.jsonl -v --temperature 0.5 --on-change keep
batch in.jsonl -o other.jsonl -v --temperature 0.5
status good.jsonl
status bad.jsonl
status status.json
status good.csv
list --config config.yaml
list --config config.yaml -v
list --resolve --config config.yaml
list --resolve
set-model other --config config.yaml
set-model other --config config.yaml
set-model mine --config config.yaml
models
models mock
pricing gpt-4o mock-model
pricing
test
test --base-url {strict} -m mock-model --api-key wrong
test --base-url {down} -m mock-model
test --base-url {good}/chat -m mock-model
init --example --config new.yaml
init --example --config new.yaml --force
cache stats --cache-dir kept
cache show --cache-dir kept
cache show --cache-dir kept -n 1
cache export --cache-dir kept
cache prune --cache-dir kept --older-than 1d
cache prune --cache-dir kept --all
cache stats --cache-dir kept
cache show --cache-dir kept
version
--version
--install-completion bash
--install-completion bash
--install-completion zsh
--install-completion fish
--uninstall-completion
--uninstall-completion
--uninstall-completion bash
"""
"""Command lines that go well, or tell how a server does; they run one after the other, in one folder."""


def test_what_commands_say_is_in_the_language_in_use(
    spoken: Spoken, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    left = {}
    faults = [Reply(status=500), None, Reply(status=400), Reply(status=500)]
    monkeypatch.setenv("FLEXLLM_BASE_URL", servers["good"])
    monkeypatch.setenv("FLEXLLM_MODEL", "mock-model")
    with MockServer(script=faults) as flaky:
        for line in GOOD.splitlines():
            done = tell(capsys, monkeypatch, *line.format(flaky=flaky.base_url, **servers).split())
            data = "" if "--json" in line or "export" in line or line == "pricing" else done.out
            known = re.findall(r"\w+", f"{line} {CONFIGURED.decode()}")
            left[line] = [word for word in (*spoken.left(data), *spoken.left(done.err)) if word not in known]
    left["log.txt"] = spoken.left(without((r"(?m)^\S+Z [A-Z]+ \d+ ",), Path("log.txt").read_text()))
    assert [(line, words) for line, words in left.items() if words] == []


# --- encodings


@pytest.mark.parametrize(
    ("encoding", "speaks_chinese"),
    [("gb18030", True), ("gbk", True), ("latin-1", False), ("ascii", False), ("big5", False), ("shift_jis", False)],
)
def test_no_question_mark_stands_for_a_letter_in_any_encoding(
    encoding: str, speaks_chinese: bool, servers: dict[str, str], folder: Path
) -> None:
    asked = f"--base-url {servers['good']} -m mock-model"
    told = ""
    for line in (
        f"batch in.jsonl -o out.jsonl {asked}",
        "status out.jsonl",
        f"test {asked}",
        "status none.jsonl",
        "status -h",
    ):
        env = {**os.environ, "FLEXLLM_LANG": "zh", "PYTHONIOENCODING": encoding}
        done = subprocess.run([*PROGRAM, *line.split()], env=env, capture_output=True, timeout=PATIENCE, check=False)
        told += (done.stdout + done.stderr).decode(encoding)
    assert "?" not in told
    assert "Traceback" not in told
    assert bool(re.search("[\u4e00-\u9fff]", told)) == speaks_chinese
    assert ("费用 价格未知" if speaks_chinese else "cost price unknown") in told or "💰" in told


# --- on a terminal


def test_what_a_chat_says_is_in_the_language_in_use(spoken: Spoken, servers: dict[str, str]) -> None:
    lines = (
        "/help", "/cost", "hello", "/cost", "/system Kurz.", "/system", "/system -", "/model", "/model other", "/model mime",
        "/save", "/save saved.json", "/save in.jsonl", "/save! none/s.json", "/load", "/load saved.json", "/load none.json",
        "/retry", "/undo", "/undo", "/undo", "/retry", "/clear", "/hlep", "/zzz", "//slash",
    )  # fmt: skip
    env = {"FLEXLLM_BASE_URL": servers["good"], "FLEXLLM_MODEL": "mock-model", "FLEXLLM_CONFIG": "config.yaml"}
    with Terminal("chat", "--no-stream", env=env, program=spoken.program, size=(60, 250)) as terminal:
        for line in lines:
            terminal.expect("> ")
            terminal.line(line)
        terminal.expect("> ")
        terminal.press("\x03", "> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    told = "".join(line for line in shown(terminal) if line.lstrip("> ").rstrip() not in lines)
    assert [word for word in spoken.left(told) if word not in TYPED] == []


TYPED = ("Kurz", "commanded", "help", "hello", "hlep", "mime", "mine", "mock", "other", "slash", "zzz")
"""What the person in front of the terminal typed, and what the configuration has."""


class Person:
    """Gives answers, and takes down what was said to him."""

    def __init__(self, *answers: str) -> None:
        self._answers = iter(answers)
        self.told: list[str] = []

    def tell(self, text: str) -> None:
        self.told.append(text)

    def ask(self, question: str) -> str:
        self.told.append(question)
        return next(self._answers)

    ask_secret = ask


def test_what_init_asks_is_in_the_language_in_use(spoken: Spoken) -> None:
    set_language()
    with MockServer(models=tuple(f"model-{number}" for number in range(20)), api_key="sk-right-key") as server:
        person = Person(
            "99", "10", "nonsense", "", "y", server.base_url, "sk-wrong-key", "", "sk-right-key", "zzz", "model", "model-7",
        )  # fmt: skip
        found = interview(person, _models_of, {})
    assert found.name == "model-7"
    assert [word for word in spoken.left("\n".join(person.told)) if word != "zzz"] == []


def test_what_a_batch_shows_is_in_the_language_in_use(spoken: Spoken) -> None:
    with MockServer(delay=0.05) as server:
        env = {"FLEXLLM_BASE_URL": server.base_url, "FLEXLLM_MODEL": "mock-model"}
        batch = ("batch", "in.jsonl", "-o", "out.jsonl", "-c", "1", "--price", "1,2", "--sample", "1")
        with Terminal(*batch, env=env, program=spoken.program, size=(60, 250)) as terminal:
            terminal.expect("[y/N] ")
            terminal.line("是")
            assert terminal.end() == 0
        assert len(server.requests) == 3
        assert spoken.left("".join(shown(terminal))) == []
        server.change(delay=60.0)
        batch = ("batch", "in.jsonl", "-o", "again.jsonl", "-c", "1", "--grace", "0")
        with Terminal(*batch, env=env, program=spoken.program, size=(60, 250)) as terminal:
            while len(server.requests) < 4:
                terminal.expect("")
            terminal.press("\x03", "--grace 0")
            assert terminal.end() == 130
    assert spoken.left("".join(shown(terminal))) == []


def shown(terminal: Terminal) -> list[str]:
    """Return the lines that a terminal showed; one that was written over counts each time."""
    return [f"{line}\n" for line in re.split(r"[\r\n]+", terminal.text)]
