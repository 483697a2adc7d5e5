"""The Tab key in a real bash, zsh and fish, as `flexllm --install-completion` leaves them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import ROOT, Done, Terminal, run
from foreign import pretend_chinese

from flexllm.cli.completion.generation import generated
from flexllm.language import CHINESE

PROMPT = "ready> "
STARTUP = {
    "bash": (".bashrc", f"PS1='{PROMPT}'\n"),
    "zsh": (".zshrc", f"PROMPT='{PROMPT}'\n"),
    "fish": (".config/fish/config.fish", f"set fish_greeting\nfunction fish_prompt; echo -n '{PROMPT}'; end\n"),
}
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
CONFIG = """\
default: gpt-4
models:
  - {id: gpt-4, base_url: "http://localhost:1/v1"}
  - {id: "qwen2:7b", base_url: "http://localhost:1/v1"}
  - {id: org/large, base_url: "http://localhost:1/v1"}
  - {id: two words, base_url: "http://localhost:1/v1"}
"""
# Tells what it was called with, so that a test sees what the shell has made of the line; but completion is the real one.
PROGRAM = """\
#!/bin/sh
[ "$1" = list ] && exec {program} "$@"
case $1 in --*-completion) exec {program} "$@" ;; esac
echo; printf '<%s>' "$@"; echo '<end>'
"""


class Place:
    """A home with a configuration, and a folder with files to complete."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.home, self.files, self.bin = (folder / name for name in ("home", "files", "bin"))
        for one in (self.home / ".flexllm", self.files / "answers", self.bin):
            one.mkdir(parents=True)
        (self.home / ".flexllm" / "config.yaml").write_text(CONFIG)
        (self.files / "other.yaml").write_text(CONFIG.replace("gpt-4", "other-model"))
        (self.files / "my questions.jsonl").write_text("")
        startup, text = STARTUP[shell]
        (self.home / startup).parent.mkdir(parents=True, exist_ok=True)
        (self.home / startup).write_text(text)
        # Without it, a fish that is new to a home begins to read all manual pages of the machine, and goes on for minutes.
        (self.home / ".local" / "share" / "fish" / "generated_completions").mkdir(parents=True)
        program = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'bin' / 'flexllm'))}"
        for name in ("flexllm", "xllm"):
            (self.bin / name).write_text(PROGRAM.format(program=program))
            (self.bin / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        home = str(self.home)
        paths = {"XDG_DATA_HOME": f"{home}/.local/share", "XDG_CONFIG_HOME": f"{home}/.config", "ZDOTDIR": home}
        return {"HOME": home, "PATH": f"{self.bin}:{os.environ['PATH']}", "SHELL": "/bin/sh", **paths}

    def install(self, shell: str) -> Done:
        """Install from within the shell, which is to be found out. Something follows, or the shell would be replaced."""
        return run("-c", "flexllm --install-completion; true", env=self.env, program=(shell,))

    def terminal(self, shell: str) -> Terminal:
        # The shell's folder is that of the files; a path in the line is one of its own.
        line = f"cd {shlex.quote(str(self.files))} && exec {shell} -i"
        return Terminal(env=self.env, program=("sh", "-c", line), size=(40, 150))


class Person:
    """Types at the prompt of a shell."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        terminal.expect(PROMPT)

    def arguments(self, typed: str) -> list[str]:
        """Type a line, in which Tab is a key, and the return key; return what the program was called with."""
        self._terminal.line(typed)
        shown = self._terminal.expect("<end>")
        self._terminal.expect(PROMPT)
        return shown.rpartition("\n<")[2].removesuffix("><end>").split("><")


def _installed(folder: Path, shell: str) -> Place:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    place = Place(folder, shell)
    done = place.install(shell)
    assert (done.code, done.out) == (0, "")
    assert f"To undo it: flexllm --uninstall-completion {shell}" in done.err
    return place


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def person(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    place = _installed(tmp_path_factory.mktemp(request.param), request.param)
    with place.terminal(request.param) as terminal:
        yield Person(terminal)


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        pytest.param("flexllm ba\t", ["batch"], id="a command"),
        pytest.param("xllm ba\t", ["batch"], id="a command of xllm"),
        pytest.param("flexllm cache pr\t--ol\t 7d", ["cache", "prune", "--older-than", "7d"], id="a command below"),
        pytest.param("flexllm ask Hello --temp\t 0", ["ask", "Hello", "--temperature", "0"], id="an option"),
        pytest.param("flexllm batch --order p\t", ["batch", "--order", "prefix"], id="a choice"),
        pytest.param("flexllm batch --order=p\t", ["batch", "--order=prefix"], id="a choice behind ="),
        pytest.param("flexllm ask --provider cl\t", ["ask", "--provider", "claude"], id="a provider"),
        pytest.param("xllm batch my\t", ["batch", "my questions.jsonl"], id="a file with a space"),
        pytest.param("flexllm batch --config=ot\t", ["batch", "--config=other.yaml"], id="a file behind ="),
        pytest.param("flexllm batch --cache-dir an\tx", ["batch", "--cache-dir", "answers/x"], id="a folder"),
        pytest.param("flexllm ask -m g\tHello", ["ask", "-m", "gpt-4", "Hello"], id="a model"),
        pytest.param("xllm ask --model=or\t", ["ask", "--model=org/large"], id="a model behind ="),
        pytest.param("flexllm chat -m qwen2:\t", ["chat", "-m", "qwen2:7b"], id="a model with a colon"),
        pytest.param("flexllm chat -m 'qwen2:\t", ["chat", "-m", "qwen2:7b"], id="a model with a colon in quotes"),
        pytest.param("flexllm set-model q\t", ["set-model", "qwen2:7b"], id="a model to be the default"),
        pytest.param("flexllm set-model tw\t", ["set-model", "two words"], id="a model with a space"),
        pytest.param("flexllm set-model 'tw\t", ["set-model", "two words"], id="a model with a space in quotes"),
        pytest.param(
            "flexllm ask --config other.yaml -m o\tt\t", ["ask", "--config", "other.yaml", "-m", "other-model"],
            id="a model of another configuration",
        ),
        pytest.param(
            "flexllm ask --config=other.yaml --model ot\t", ["ask", "--config=other.yaml", "--model", "other-model"],
            id="a model of another configuration behind =",
        ),
    ],
)  # fmt: skip
def test_tab_completes(person: Person, typed: str, arguments: list[str]) -> None:
    assert person.arguments(typed) == arguments


def test_tab_completes_by_a_path_to_the_program(person: Person) -> None:
    """The model comes from the program that the line names."""
    assert person.arguments("../bin/flexllm ask -m g\tHello") == ["ask", "-m", "gpt-4", "Hello"]


def test_no_configuration_leaves_the_line_as_it_is(person: Person) -> None:
    assert person.arguments("flexllm ask --config none.yaml -m g\t") == ["ask", "--config", "none.yaml", "-m", "g"]


@pytest.mark.skipif(not BASH_COMPLETION.exists(), reason="bash-completion is not installed")
def test_bash_completion_finds_the_script_where_it_is_used(tmp_path: Path) -> None:
    place = _installed(tmp_path, "bash")
    startup = place.home / ".bashrc"
    startup.write_text(f". {BASH_COMPLETION}\n{startup.read_text()}")

    with place.terminal("bash") as terminal:
        person = Person(terminal)
        # It is bash-completion that reads the script, when it is first needed.
        assert person.arguments("complete -p flexllm &> /dev/null; printf '\\n<%s><en''d>\\n' $?") == ["1"]
        assert person.arguments("flexllm ba\t") == ["batch"]
        assert person.arguments("xllm ask -m q\t") == ["ask", "-m", "qwen2:7b"]


def test_zsh_that_has_set_up_completion_already_takes_ours_too(tmp_path: Path) -> None:
    place = _installed(tmp_path, "zsh")
    startup = place.home / ".zshrc"
    startup.write_text(f"autoload -Uz compinit && compinit -i\n{startup.read_text()}")

    with place.terminal("zsh") as terminal:
        assert Person(terminal).arguments("xllm ask -m q\t") == ["ask", "-m", "qwen2:7b"]


def test_zsh_is_asked_where_its_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    place = Place(tmp_path, "zsh")
    (place.home / ".zshenv").write_text("ZDOTDIR=$HOME/.zsh\n")
    monkeypatch.delenv("ZDOTDIR", raising=False)

    done = run("--install-completion", "zsh", env={"HOME": str(place.home)})

    assert done.code == 0
    assert (place.home / ".zsh" / ".zshrc").exists()


@pytest.mark.parametrize(
    ("shell", "lines"),
    [
        ("bash", 'eval "$(flexllm --show-completion bash)"'),
        ("zsh", 'autoload -Uz compinit && compinit -i; eval "$(flexllm --show-completion zsh)"'),
        ("fish", "flexllm --show-completion fish | source"),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_the_script_can_be_read_at_each_start_instead(shell: str, lines: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    place = Place(tmp_path, shell)
    with (place.home / STARTUP[shell][0]).open("a") as file:
        file.write(f"{lines}\n")

    with place.terminal(shell) as terminal:
        assert Person(terminal).arguments("xllm ask -m q\t") == ["ask", "-m", "qwen2:7b"]


@pytest.mark.parametrize(("shell", "reads"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_a_shell_can_read_its_chinese_script(
    shell: str, reads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("shtab")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    pretend_chinese(monkeypatch)
    script = tmp_path / f"flexllm.{shell}"
    script.write_text(generated(shell, CHINESE), encoding="utf-8")

    done = subprocess.run([shell, reads, str(script)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
