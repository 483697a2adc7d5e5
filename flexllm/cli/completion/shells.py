"""The shells in which completion works: which of them runs us, and where each keeps what it reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ...language import ENGLISH, _
from ...language import language as language_in_use
from . import SHELLS

SCRIPTS = Path(__file__).parents[2] / "data" / "completion"
PROGRAMS = ("flexllm", "xllm")
_PATIENCE = 5.0
"""Seconds for ps, and for a zsh that reads somebody's .zshenv."""
_FARTHEST = 12
"""Parents that are looked at; between a shell and us there may be sudo, env, uv and the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What is installed in a shell, and where.

    Attributes:
        files: Texts of the files that are ours alone, by their paths.
        startup: The shell's own file in which a block is ours, if it needs one.
        block: The lines of it, without the markers.
        restart: What a user types so that the shell that runs finds what is new.
    """

    name: str
    files: dict[Path, str]
    startup: Path | None = None
    block: str = ""
    restart: str

    def script(self) -> str:
        """Return the script that completes."""
        return _script(self.name)


def shell(name: str) -> Shell:
    """Return what there is to know of bash, zsh or fish."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[name]()


def running_shell(parents: Iterable[str] | None = None) -> str | None:
    """Return the nearest parent that is one of the shells, or else that of $SHELL; None if it is another one.

    Args:
        parents: Names of the processes above, the nearest first; None asks the system.
    """
    for name in _parents() if parents is None else parents:
        if name in SHELLS:
            return name
    name = os.path.basename(os.environ.get("SHELL", ""))
    return name if name in SHELLS else None


def _script(name: str) -> str:
    """Return the script of a shell: that of the language in use, where there is one."""
    own = SCRIPTS / script_name(name, language_in_use())
    path = own if own.exists() else SCRIPTS / script_name(name)
    return path.read_text(encoding="utf-8")


def script_name(name: str, language: str = ENGLISH) -> str:
    """Return what the script of a shell is called, such as flexllm.zsh or flexllm.zh_CN.zsh."""
    return f"flexllm.{name}" if language == ENGLISH else f"flexllm.{language}.{name}"


def _bash() -> Shell:
    """One file for each program, where bash-completion looks for them; without it, the block reads the first at once."""
    folder = os.environ.get("BASH_COMPLETION_USER_DIR") or str(_data_home() / "bash-completion")
    files = {Path(folder) / "completions" / program: _script("bash") for program in PROGRAMS}
    place = _quoted(next(iter(files)))
    # bash-completion 2.12 has given its loader another name.
    block = (
        "if ! { declare -F _completion_loader || declare -F _comp_load; } > /dev/null; then\n"
        f"  [ -r {place} ] && . {place}\n"
        "fi\n"
    )
    return Shell(name="bash", files=files, startup=_bash_startup(), block=block, restart="exec bash")


def _bash_startup() -> Path:
    """Return the file that bash reads. Terminals of macOS start login shells, which read the first of three that exists."""
    names = (".bash_profile", ".bash_login", ".profile") if sys.platform == "darwin" else (".bashrc",)
    places = [_home() / name for name in names]
    return next((place for place in places if place.exists()), places[0])


def _zsh() -> Shell:
    """A folder of our own, which the block adds to those where zsh looks; compinit is run if nobody has done it."""
    file = _data_home() / "flexllm" / "zsh" / "_flexllm"
    block = (
        f"fpath=({_quoted(file.parent)} $fpath)\n"
        "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n"
        f"autoload -Uz _flexllm && compdef _flexllm {' '.join(PROGRAMS)}\n"
    )
    startup = _zsh_folder() / ".zshrc"
    return Shell(name="zsh", files={file: _script("zsh")}, startup=startup, block=block, restart="exec zsh")


def _fish() -> Shell:
    """A file for each program, which fish reads when that is completed; that of xllm says that it is as flexllm."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config")
    folder = home / "fish" / "completions"
    script = _script("fish")
    head = "".join(f"{line}\n" for line in script.splitlines() if line.startswith("#"))
    files = {
        folder / "flexllm.fish": script,
        folder / "xllm.fish": f"{head.partition('# AUTO')[0]}complete -c xllm -w flexllm\n",
    }
    return Shell(name="fish", files=files, restart="exec fish")


def _home() -> Path:
    """Return the home folder. Raises ConfigError where there is none."""
    folder = os.path.expanduser("~")
    if not os.path.isabs(folder):  # a user whom the system does not know, without HOME
        raise ConfigError(_("there is no home folder for the files of completion; set HOME"))
    return Path(folder)


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or _home() / ".local" / "share")


def _zsh_folder() -> Path:
    """Return where zsh looks for .zshrc. A .zshenv may say so without telling the programs that zsh starts."""
    folder = os.environ.get("ZDOTDIR", "")
    if not folder and (_home() / ".zshenv").exists():
        folder = _output("zsh", "-c", 'print -r -- "folder=$ZDOTDIR"').rpartition("folder=")[2].strip()
    return Path(folder) if os.path.isabs(folder) else _home()


def _quoted(path: Path) -> str:
    """Return a path as a shell's file names it: below $HOME where it is, so that the file is good in a moved home."""
    import shlex

    try:
        return f'"$HOME"/{shlex.quote(str(path.relative_to(_home())))}'
    except ValueError:
        return shlex.quote(str(path))


def _parents() -> Iterator[str]:
    """Give the names of the processes above, the nearest first, as far as they can be told."""
    number = os.getppid()
    for _step in range(_FARTHEST):
        if number <= 1:
            return
        number, name = _process(number)
        yield os.path.basename(name).lstrip("-")


def _process(number: int) -> tuple[int, str]:
    """Return the parent's number of a process, and its name. Both are empty if nobody knows it."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8", errors="replace") as file:
            head, _end, tail = file.read().rpartition(")")  # the name may have any character in it
        return int(tail.split()[1]), head.partition("(")[2]
    except (OSError, ValueError, IndexError):  # macOS has no /proc
        parent, _blank, name = _output("ps", "-o", "ppid=,comm=", "-p", str(number)).strip().partition(" ")
        return (int(parent), name.strip()) if parent.isdecimal() else (0, "")


def _output(*command: str) -> str:
    """Return what a program says, nothing if it cannot be asked."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
