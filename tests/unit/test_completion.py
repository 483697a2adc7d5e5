"""Completion: the committed scripts against the parser, and what installing them does to somebody's files."""

from __future__ import annotations

import argparse
import os
import re
import stat
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from foreign import LETTER, pretend_chinese, speak_chinese
from hypothesis import given
from hypothesis import strategies as some

from flexllm.cli.completion import SHELLS
from flexllm.cli.completion.generation import PROVIDERS, _brief, generated, scripts, takes_model, write_scripts
from flexllm.cli.completion.installation import BEGIN, END, with_block, without_block
from flexllm.cli.completion.shells import SCRIPTS, running_shell
from flexllm.cli.completion.shells import shell as shell_of
from flexllm.cli.main import main
from flexllm.cli.parser import build_parser
from flexllm.errors import ConfigError
from flexllm.providers import find_provider

RENEW = "python setup.py build_completions renews the scripts"


def commands(parser: argparse.ArgumentParser | None = None, under: str = "") -> dict[str, argparse.ArgumentParser]:
    """Return every parser by what is typed to reach it, such as "cache stats"; the program's own is ""."""
    parser = parser or build_parser()
    found = {under.strip(): parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= commands(below, f"{under}{name} ")
    return found


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {
        name for action in parser._actions if action.help != argparse.SUPPRESS for name in action.option_strings
    }  # fmt: skip


def script(shell: str) -> str:
    return (SCRIPTS / f"flexllm.{shell}").read_text(encoding="utf-8")


def words(command: str) -> str:
    """Return how shtab names a command in bash and zsh."""
    return re.sub(r"\W", "_", " ".join(["_shtab_flexllm", *command.split()]))


# --- the scripts and the parser


def told_in_bash() -> dict[str, set[str]]:
    found = re.findall(r"^(_shtab_flexllm\w*)_option_strings=\((.*)\)$", script("bash"), re.MULTILINE)
    return {name: set(told.split()) for name, told in found}


def told_in_zsh() -> dict[str, set[str]]:
    found = re.findall(r"^(_shtab_flexllm\w*)_options=\(\n(.*?)^\)$", script("zsh"), re.MULTILINE | re.DOTALL)
    specs = {name: [line.partition("[")[0] for line in told.splitlines()] for name, told in found}
    return {name: set(re.findall(r"(?<![\w(])--?[a-z][\w-]*", " ".join(told))) for name, told in specs.items()}


def told_in_fish() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in script("fish").splitlines():
        at = re.match(r"complete -c flexllm -n '?_shtab_flexllm_using(?: (\w[\w -]*)')?((?: -[ls] \S+)*)", line)
        if at:
            names = {f"{'--' if kind == 'l' else '-'}{name}" for kind, name in re.findall(r"-([ls]) (\S+)", at[2])}
            found.setdefault(words(at[1] or ""), set()).update(names)
    return found


@pytest.mark.parametrize("told", [told_in_bash, told_in_zsh, told_in_fish])
def test_a_script_has_every_option_of_every_command_and_no_other(told: object) -> None:
    assert callable(told)

    assert told() == {words(command): options(parser) for command, parser in commands().items()}, RENEW


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command(shell: str) -> None:
    for command in filter(None, commands()):
        *above, name = command.split()
        if shell == "bash":
            [told] = re.findall(rf"^{words(' '.join(above))}_subparsers=\((.*)\)$", script("bash"), re.MULTILINE)
            assert name in told.split(), RENEW
        elif shell == "zsh":
            assert re.search(rf"^    {name}:", script("zsh"), re.MULTILINE), RENEW
        else:
            assert re.search(rf" -a {name} -d ", script("fish")), RENEW


def needs_the_same_shtab() -> None:
    try:
        here = version("shtab")
    except PackageNotFoundError:
        pytest.skip("shtab is not installed")
    if f"shtab {here}," not in script("bash"):
        pytest.skip(f"the scripts were made by another shtab than {here}")


def test_the_scripts_are_what_shtab_makes_of_the_parser_in_each_language_now() -> None:
    needs_the_same_shtab()
    fresh = scripts()

    assert {path.name for path in SCRIPTS.glob("flexllm.*")} == set(fresh), RENEW
    for name, text in fresh.items():
        assert (SCRIPTS / name).read_text(encoding="utf-8") == text, f"{name}: {RENEW}"


def test_chinese_scripts_say_in_chinese_what_the_english_ones_say(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_the_same_shtab()
    pretend_chinese(monkeypatch)
    fresh = scripts()

    assert set(fresh) == {"flexllm.bash", "flexllm.zsh", "flexllm.zh_CN.zsh", "flexllm.fish", "flexllm.zh_CN.fish"}
    for shell in ("zsh", "fish"):
        english, chinese = fresh[f"flexllm.{shell}"], fresh[f"flexllm.zh_CN.{shell}"]
        assert english == generated(shell)
        assert english.isascii()
        assert len(chinese.splitlines()) == len(english.splitlines())
        assert [told for told in described(shell, chinese) if re.search("[a-z]{2}", told) and LETTER not in told] == []
        assert len(described(shell, chinese)) > 200


def described(shell: str, text: str) -> list[str]:
    """Return all descriptions in a script."""
    if shell == "fish":
        return re.findall(r" -d '((?:[^'\\]|\\.)*)'", text)
    told = re.findall(r"^  .*?\[(.*)\](?=[:\"]).*$", text, re.MULTILINE)
    return told + re.findall(r"^    [a-z-]+:'(.*)'$", text, re.MULTILINE) + re.findall("_describe '(.*)'", text)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("how many; more is faster", "how many"),
        ("one sentence. Another one", "one sentence"),
        ("e.g. this", "e.g. this"),
        ("a thing (of two kinds; see there)", "a thing"),
        ("同时发送的请求数；越多越快", "同时发送的请求数"),
        ("一句话。另一句话", "一句话"),
        ("某物（分两种；见下文）", "某物"),
        ("某物（两种）", "某物（两种）"),
        ("一个值：见手册", "一个值"),
    ],
)
def test_what_stands_beside_an_option_is_the_beginning_of_its_help(told: str, shown: str) -> None:
    assert _brief(told) == shown


def test_what_is_installed_and_shown_is_in_the_language_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "scripts"
    folder.mkdir()
    for name in ("flexllm.bash", "flexllm.zsh", "flexllm.fish"):
        (folder / name).write_text(script(name.rpartition(".")[2]), encoding="utf-8")
    chinese = script("zsh").replace("ask one question", "问一个问题")
    (folder / "flexllm.zh_CN.zsh").write_text(chinese, encoding="utf-8")
    monkeypatch.setattr("flexllm.cli.completion.shells.SCRIPTS", folder)

    assert shell_of("zsh").script() == script("zsh")
    speak_chinese(monkeypatch)
    assert shell_of("zsh").script() == chinese
    assert list(shell_of("zsh").files.values()) == [chinese]
    for other in ("bash", "fish"):  # of which there is none in Chinese
        assert shell_of(other).script() == script(other)


def test_old_scripts_are_removed_when_they_are_renewed(tmp_path: Path) -> None:
    needs_the_same_shtab()
    for name in ("flexllm.zh_CN.csh", "extra.bash"):
        (tmp_path / name).write_text("")

    written = {path.name for path in write_scripts(tmp_path)}
    assert {"flexllm.bash", "flexllm.zsh", "flexllm.fish"} <= written
    assert {path.name for path in tmp_path.iterdir()} == {*written, "extra.bash"}


def test_each_argument_completes_what_it_takes() -> None:
    found = re.findall(r"^(_shtab_flexllm\w*)_COMPGEN=(.*)$", script("bash"), re.MULTILINE)
    completed = dict(found)
    assert {"_flexllm_paths", "_flexllm_folders", "_flexllm_models"} <= set(completed.values())
    for command, parser in commands().items():
        positionals = [one for one in parser._actions if not one.option_strings]
        for action in parser._actions:
            keys = [f"{words(command)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}" for name in action.option_strings]
            if not action.option_strings:
                keys = [f"{words(command)}_pos_{positionals.index(action)}"]
            for key in keys:
                assert (completed.get(key) == "_flexllm_models") == takes_model(action, parser.prog), key
                if action.metavar in ("FILE", "INPUT", "OUTPUT"):
                    assert completed.get(key) == "_flexllm_paths", key
                if action.metavar == "DIR":
                    assert completed.get(key) == "_flexllm_folders", key


def test_every_command_that_asks_completes_its_model() -> None:
    asking = [
        name for name, parser in commands().items() if any(takes_model(one, parser.prog) for one in parser._actions)
    ]

    assert {"ask", "chat", "batch", "set-model"} <= set(asking)


def test_every_provider_is_completed_and_no_other() -> None:
    with pytest.raises(ConfigError, match=f"there are: {', '.join(PROVIDERS)}$"):
        find_provider("none", None)


# --- the block in somebody's file

PATH = Path("/home/ann/.bashrc")
TEXTS = some.lists(
    some.one_of(some.binary(max_size=20), some.sampled_from([b"export A=1", b"# >>> conda >>>", b"\r", b"\xff", b""]))
).map(b"\n".join)


@given(TEXTS)
def test_a_block_goes_in_and_out_without_a_trace(text: bytes) -> None:
    inside = with_block(text, b". completion\n", PATH)

    assert inside.startswith(text)
    assert b"\n. completion\n" in inside
    assert with_block(inside, b". completion\n", PATH) == inside
    assert without_block(inside, PATH) == text + (b"\n" if text and not text.endswith(b"\n") else b"")


@given(TEXTS, TEXTS)
def test_a_block_is_renewed_where_it_is(before: bytes, behind: bytes) -> None:
    head = with_block(before, b"old\nlines\n", PATH)

    assert with_block(head + behind, b"new\n", PATH) == with_block(before, b"new\n", PATH) + behind


# --- installing


@pytest.fixture
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ZDOTDIR", "XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(name, raising=False)
    return clean_environment


STARTUP = {"bash": ".bashrc", "zsh": ".zshrc"}
FILES = {
    "bash": {f".local/share/bash-completion/completions/{name}" for name in ("flexllm", "xllm")},
    "zsh": {".local/share/flexllm/zsh/_flexllm"},
    "fish": {f".config/fish/completions/{name}.fish" for name in ("flexllm", "xllm")},
}


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("shell", SHELLS)
def test_installing_writes_its_files_and_removing_leaves_nothing_of_them(
    shell: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["--install-completion", shell]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"To undo it: flexllm --uninstall-completion {shell}\n" in err
    assert set(files(home)) == FILES[shell] | ({STARTUP[shell]} if shell in STARTUP else set())
    for name in files(home):
        assert str(home / name) in err
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o644

    assert main(["--uninstall-completion"]) == 0
    assert files(home) == ({STARTUP[shell]: b""} if shell in STARTUP else {})
    assert main(["--uninstall-completion", shell]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"Completion is not installed in {shell}."
    assert main(["--uninstall-completion"]) == 0
    assert capsys.readouterr().err == "Completion is not installed in bash, zsh or fish.\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_installing_again_changes_nothing_and_says_so(
    shell: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--install-completion", shell])
    once = files(home)
    times = {name: (home / name).stat().st_mtime_ns for name in once}
    capsys.readouterr()

    assert main(["--install-completion", shell]) == 0
    assert capsys.readouterr().err.startswith(f"Completion in {shell} is installed, and up to date.\n")
    assert files(home) == once
    assert {name: (home / name).stat().st_mtime_ns for name in once} == times


def test_an_upgrade_renews_the_script(home: Path) -> None:
    main(["--install-completion", "zsh"])
    place = home / ".local/share/flexllm/zsh/_flexllm"
    place.write_text(f"{place.read_text()[:400]}\nold\n")

    assert main(["--install-completion", "zsh"]) == 0
    assert place.read_text() == script("zsh")


def test_a_linked_startup_file_stays_a_link_with_its_mode_and_all_its_bytes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    kept = home / "dotfiles" / "bashrc"
    kept.parent.mkdir()
    kept.write_bytes(b"export A=\xff\r\nno newline")
    kept.chmod(0o600)
    (home / ".bashrc").symlink_to(Path("dotfiles") / "bashrc")

    assert main(["--install-completion", "bash"]) == 0
    assert (home / ".bashrc").is_symlink()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_bytes().startswith(b"export A=\xff\r\nno newline\n" + BEGIN)
    assert main(["--uninstall-completion", "bash"]) == 0
    assert kept.read_bytes() == b"export A=\xff\r\nno newline\n"
    assert os.listdir(kept.parent) == ["bashrc"]


@pytest.mark.parametrize("text", [BEGIN, END, BEGIN + b"\n" + BEGIN + b"\n" + END, (BEGIN + b"\n" + END + b"\n") * 2])
@pytest.mark.parametrize("option", ["--install-completion", "--uninstall-completion"])
def test_damaged_marks_are_left_to_their_owner(
    text: bytes, option: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".zshrc").write_bytes(b"one\n" + text + b"\ntwo\n")
    before = files(home)

    assert main([option, "zsh"]) == 9
    sentence = f"flexllm: {home}/.zshrc has marks of flexllm that are no pair; take the lines from '# >>> flexllm"
    assert capsys.readouterr().err.startswith(sentence)
    assert files(home) == before


def test_a_file_of_somebody_else_is_neither_overwritten_nor_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home / ".config/fish/completions/flexllm.fish"
    place.parent.mkdir(parents=True)
    place.write_text("complete -c flexllm -a mine\n")

    assert main(["--install-completion", "fish"]) == 9
    assert capsys.readouterr().err == (
        f"flexllm: {place} was not written by this program; move it away, and run the same again\n"
    )
    assert main(["--uninstall-completion", "fish"]) == 0
    assert files(home) == {".config/fish/completions/flexllm.fish": b"complete -c flexllm -a mine\n"}


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".config").write_text("")

    assert main(["--install-completion", "fish"]) == 9
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"flexllm: {home}/.config/fish/completions")


def test_a_startup_file_that_cannot_be_written_is_named_and_nothing_else_is_written(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    startup = home / ".zshrc"
    startup.symlink_to("/proc/self/none")  # where not even root can make a file

    assert main(["--install-completion", "zsh"]) == 9
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"flexllm: {startup} cannot be written: ")
    assert "--show-completion" in sentence
    assert [path.name for path in home.iterdir()] == [".zshrc"]


def test_the_folders_that_the_environment_names_are_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("ZDOTDIR", str(home / "z"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data it's"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    for shell in SHELLS:
        assert main(["--install-completion", shell]) == 0

    assert set(files(home)) == {
        "z/.zshrc", ".bashrc", "data it's/flexllm/zsh/_flexllm", "data it's/bash-completion/completions/flexllm",
        "data it's/bash-completion/completions/xllm", "config/fish/completions/flexllm.fish",
        "config/fish/completions/xllm.fish",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("there", "chosen"),
    [((), ".bash_profile"), ((".profile",), ".profile"), ((".profile", ".bash_login"), ".bash_login")],
)
def test_on_macos_the_file_that_bash_reads_at_login_is_the_one(
    there: tuple[str, ...], chosen: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new .bash_profile would keep bash from reading the .profile that somebody has."""
    monkeypatch.setattr("sys.platform", "darwin")
    for name in there:
        (home / name).write_text("export A=1\n")

    assert main(["--install-completion", "bash"]) == 0
    assert [name for name, text in files(home).items() if BEGIN in text] == [chosen]


def test_without_a_home_it_says_so(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "nowhere")

    assert main(["--install-completion", "bash"]) == 3
    assert capsys.readouterr().err == "flexllm: there is no home folder for the files of completion; set HOME\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_shown_on_standard_output(shell: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show-completion", shell]) == 0
    assert capsys.readouterr() == (script(shell), "")
    assert files(home) == {}


# --- which shell


@pytest.mark.parametrize(
    ("parents", "variable", "found"),
    [
        (["fish", "bash"], "/bin/zsh", "fish"),
        (["uv", "sudo", "zsh", "tmux"], "/bin/bash", "zsh"),
        (["make", "sh", "systemd"], "/usr/local/bin/fish", "fish"),
        (["cron"], "/bin/dash", None),
        ([], "", None),
    ],
)
def test_the_shell_is_the_nearest_parent_or_else_that_of_the_environment(
    parents: list[str], variable: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", variable)

    assert running_shell(parents) == found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--install-completion", "tcsh"],
            "flexllm: argument --install-completion: invalid choice: 'tcsh' (choose from",
        ),
        (
            ["--install-completion", "bahs"],
            "flexllm: argument --install-completion: invalid choice: 'bahs' (did you mean",
        ),
        (["--install-completion", "--show-completion"], "not allowed with argument"),
        (["--install-completion", "bash", "ask", "Hello"], "flexllm: --install-completion goes without a command; "),
    ],
)
def test_a_wrong_request_for_completion_is_refused(
    arguments: list[str], sentence: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert files(home) == {}
