"""The notebooks of the documentation run as they are, print what is written down, and are the same in both languages."""

from __future__ import annotations

import json
import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ("docs/notebook.ipynb", "docs/en/notebook.ipynb")


def cells(path: str, kind: str = "code") -> list[dict[str, Any]]:
    return [
        cell for cell in json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind
    ]


def code(path: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path)]


def shown(cell: dict[str, Any]) -> str:
    """What a cell prints, and what its last line is shown as."""
    return "".join("".join(one.get("text") or next(iter(one["data"].values()))) for one in cell["outputs"])


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """bin/notebooks, as a module."""
    if find_spec("nbclient") is None or find_spec("ipykernel") is None:
        pytest.skip("nbclient and ipykernel, which run notebooks, are not installed: the extra docs has them")
    path = str(ROOT / "bin" / "notebooks")
    spec = spec_from_loader("notebooks", SourceFileLoader("notebooks", path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    was, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = was
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the kernel's own packages warn of is not ours
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_runs_and_prints_what_is_written_down(program: ModuleType, path: str) -> None:
    import nbformat

    written = nbformat.read(ROOT / path, as_version=4)
    new = program.executed(ROOT / path)  # it fails where a cell does
    assert program.printed(new) == program.printed(written), "bin/notebooks renews it"


def test_both_languages_run_the_same_code() -> None:
    chinese, english = map(code, NOTEBOOKS)
    assert chinese == english
    assert len(chinese) >= 10


def test_each_language_speaks_its_own() -> None:
    chinese, english = ("".join("".join(cell["source"]) for cell in cells(path, "markdown")) for path in NOTEBOOKS)
    assert len(cells(NOTEBOOKS[0], "markdown")) == len(cells(NOTEBOOKS[1], "markdown"))
    assert english.isascii()
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 300


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_await_is_needed_nowhere_but_where_it_is_shown(path: str) -> None:
    assert [source for source in code(path) if "await " in source or "async" in source] == [
        'await client.chat_completions("And a semaphore?")'
    ]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_is_kept_with_its_outputs_in_the_order_of_a_run(path: str) -> None:
    found = cells(path)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    silent = [index for index, cell in enumerate(found) if not cell["outputs"]]
    assert silent == [0, len(found) - 1]  # the server is started, and all is closed
    assert not any(output["output_type"] == "error" for cell in found for output in cell["outputs"])


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_shows_what_it_is_there_for(path: str) -> None:
    text = "\n".join(shown(cell) for cell in cells(path))
    for part in (
        "<summary>Thinking (",
        "<b>100 rows: 100 answered</b>",
        "<b>5 rows: 4 answered, 1 failed</b>",
        "100 resumed]",
        '<th class="number">cost</th>',
        "{'city': '東京', 'height': 333, 'visited': True}",
    ):
        assert part in text


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_the_bar_is_kept_as_one_line(path: str) -> None:
    bars = [
        "".join(output["text"]) for cell in cells(path) for output in cell["outputs"] if output.get("name") == "stderr"
    ]
    assert len(bars) == 2
    for bar in bars:
        assert re.fullmatch(r"100%\|█{10}\| 100/100 \[[^\]]*\]\n", bar)


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_holds_no_traces_of_the_machine_that_ran_it(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert not re.search(r"/(home|root|tmp|Users)/|\d\d:\d\d:\d\dT|T\d\d:\d\d|site-packages", text)
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", text)) <= {"8000"}


# --- what cleans them


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a\nb\n", "a\nb\n"),
        ("\r 0%\r 50%\r100%\n", "100%\n"),
        ("\r 0%\r      \rfirst\n\r 10%\r100%\n", "first\n100%\n"),
        ("done \n", "done\n"),
    ],
)
def test_a_carriage_return_begins_the_line_anew(program: ModuleType, text: str, shown: str) -> None:
    assert program.as_shown(text) == shown


def test_times_and_rates_do_not_count_but_everything_else_does(program: ModuleType) -> None:
    import nbformat.v4 as notebooks

    def printed(text: str) -> list[str]:
        output = notebooks.new_output("stream", name="stderr", text=text)
        cell = notebooks.new_code_cell("1", outputs=[output])
        found: list[str] = program.printed(notebooks.new_notebook(cells=[cell, notebooks.new_markdown_cell("2 s")]))
        return found

    one = printed("100/100 [00:01<00:00, 63.81row/s, 3,502 tokens, 💰 $0.0012] 1.6 s, prices of 2026-11-22")
    assert one == printed("100/100 [01:11<00:?,   1.20s/row, 3,502 tokens, 💰 $0.0012] 12.41 s, prices of 2027-01-01")
    assert one != printed("100/100 [00:01<00:00, 63.81row/s, 3,502 tokens, 💰 $0.0013] 1.6 s, prices of 2026-11-22")
    assert one != printed("99/100 [00:01<00:00, 63.81row/s, 3,502 tokens, 💰 $0.0012] 1.6 s, prices of 2026-11-22")
