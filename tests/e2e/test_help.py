"""The way into the program: help that is instant and complete, and a sentence for each way to miss it."""

from __future__ import annotations

import argparse
import json
import sys

import pytest
from command_line import ROOT, in_shell, run

from flexllm.cli.main import main
from flexllm.cli.parser import COMMANDS, build_parser


def commands(parser: argparse.ArgumentParser | None = None, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command, and of what stands below it; () is the program itself."""
    found = [above]
    for action in (parser or build_parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [words for name, below in action.choices.items() for words in commands(below, (*above, name))]
    return found


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Return the exit code of a command line that is refused or asks for help, and what it says."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return (end.value.code, *capsys.readouterr())


# --- help

LOADED = """
import contextlib, io, json, sys
sys.path.insert(0, {root!r})
before = set(sys.modules)  # those of the environment's own .pth files
from flexllm.cli.main import main
for words in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main([*words, "--help"])
        except SystemExit as end:
            assert not end.code, words
    assert out.getvalue().startswith(" ".join(["usage: flexllm", *words])), words
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_help_of_every_command_loads_no_third_party_module() -> None:
    code = LOADED.format(root=str(ROOT), commands=commands())
    done = run(program=(sys.executable, "-c", code))

    assert (done.code, done.err) == (0, "")
    loaded = {name.partition(".")[0] for name in json.loads(done.out)}
    assert "flexllm" in loaded
    assert loaded - set(sys.stdlib_module_names) == {"flexllm"}
    # Nor what takes the standard library long.
    assert not loaded & {
        "asyncio",
        "concurrent",
        "email",
        "http",
        "logging",
        "multiprocessing",
        "sqlite3",
        "ssl",
        "urllib",
    }


def test_help_names_every_command_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "--help")

    assert (code, err) == (0, "")
    assert len({words[0] for words in commands() if words}) == len(COMMANDS)
    for words in commands():
        if len(words) == 1:
            assert f"\n    {words[0]} " in out


def test_help_fits_a_terminal_of_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in commands():
        _, out, _ = ended(capsys, *words, "--help")
        assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (("help",), ("--help",)),
        (("help", "batch"), ("batch", "--help")),
        (("help", "cache", "prune"), ("cache", "prune", "--help")),
        (("help", "--help"), ("--help",)),
        (("batch", "-h"), ("batch", "--help")),
    ],
)
def test_help_can_be_asked_for_in_other_words(
    short: tuple[str, ...], long: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ended(capsys, *short)

    assert asked == ended(capsys, *long)
    assert (asked[0], asked[2]) == (0, "")


def test_nothing_at_all_is_answered_with_help_on_standard_error() -> None:
    done = run()

    assert (done.code, done.out) == (2, "")
    assert done.err == run("--help").out


def test_help_into_a_pipe_that_closes_says_nothing_else() -> None:
    done = in_shell('"$@" batch --help | head -1', env={})

    assert (done.out.splitlines()[0][:20], done.err) == ("usage: flexllm batch", "")


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["btach"], "flexllm: there is no command 'btach' (did you mean batch?); 'flexllm --help' tells what there is"),
        (["setmodel"], "flexllm: there is no command 'setmodel' (did you mean set-model?); 'flexllm --help' tells"),
        (["xyz"], "flexllm: there is no command 'xyz'; 'flexllm --help' tells what there is"),
        ([""], "flexllm: there is no command ''; 'flexllm --help' tells what there is"),
        (["BATCH"], "flexllm: there is no command 'BATCH' (did you mean batch?)"),
        (["help", "bacth"], "flexllm: there is no command 'bacth' (did you mean batch?)"),
        (["--verson"], "flexllm: unrecognized arguments: --verson (did you mean --version?); 'flexllm --help' tells"),
        (
            ["--model", "m", "ask"],
            "flexllm: unrecognized arguments: --model (the options of a command stand behind it)",
        ),
        (["--api-key=sk-secret", "ask"], "flexllm: unrecognized arguments: --api-key (the options"),
        (["-q", "ask", "Hello"], "flexllm: unrecognized arguments: -q (the options of a command stand behind it); "),
        (["cache", "prnue"], "flexllm cache: argument ACTION: invalid choice: 'prnue' (did you mean prune?)"),
        (
            ["cache", "x"],
            "flexllm cache: argument ACTION: invalid choice: 'x' (choose from stats, show, prune, export)",
        ),
        (["cache"], "flexllm cache: the following arguments are required: ACTION"),
        (
            ["cache", "show", "--limt", "3"],
            "flexllm cache show: unrecognized arguments: --limt (did you mean --limit?)",
        ),
        (["ask", "Hello", "--modle=gpt-4"], "flexllm ask: unrecognized arguments: --modle (did you mean --model?)"),
        (["ask", "Hello", "--api-kye", "sk-secret"], "flexllm ask: unrecognized arguments: --api-kye (did you mean"),
        (["ask", "one", "two"], "flexllm ask: unrecognized arguments: two; 'flexllm ask --help'"),
        (["ask", "one", "two\nlines"], r"flexllm ask: unrecognized arguments: 'two\nlines'; "),
        (["--", "ask"], "flexllm: unrecognized arguments: -- (the options of a command stand behind it); "),
        (["ask", "-m"], "flexllm ask: argument -m/--model: expected one argument"),
        (["mock", "--port", "http"], "flexllm mock: argument -p/--port: 'http' is no whole number of at least 0"),
        (
            ["batch", "in.jsonl", "-o", "out.jsonl", "--order", "prefixed"],
            "flexllm batch: argument --order: invalid choice: 'prefixed' (did you mean prefix?)",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_sentence_with_what_is_nearest(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(capsys, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith(sentence)
    assert err.endswith("tells what there is\n")
    assert err.count("\n") == 1
    assert "sk-secret" not in err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["ask", "Hello", "--temp=0"], "--temperature"), (["cache", "prune", "--old", "1d", "--all"], "--older-than"),
     (["--vers"], "--version"), (["ver"], "version")],
)  # fmt: skip
def test_nothing_is_abbreviated(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, *arguments)

    assert (code, out) == (2, "")
    assert f" (did you mean {meant}?); " in err
