"""What the READMEs print runs as printed."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flexllm.mock import MockServer

ROOT = Path(__file__).parents[2]
READMES = ("README.rst", "README.zh.rst")
PATIENCE = 60.0
"""Seconds until a failing test gives up."""


def blocks(readme: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?:    .*)?\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES)
def test_the_python_of_a_readme_runs_as_printed(readme: str, tmp_path: Path) -> None:
    found, printed = blocks(readme, "python"), ""
    assert found
    for block in found:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert "Traceback" not in done.stderr
        printed += done.stdout
    assert "Mock answer" in printed
    rows = [json.loads(line) for line in (tmp_path / "sums.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["success", "success"]


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES)
def test_the_shell_of_a_readme_runs_as_printed(readme: str, tmp_path: Path) -> None:
    found = blocks(readme, "bash")
    assert found
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "flexllm"  # of the Python that runs the tests, as an installed one would be
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "bin" / "flexllm"}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    questions = (ROOT / "tests" / "data" / "gsm8k-100.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "questions.jsonl").write_text("".join(questions[:30]), encoding="utf-8")

    for block in found:
        with MockServer() as server:
            done = subprocess.run(
                ["sh", "-e", "-c", block], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=PATIENCE, check=False,
                env={
                    **os.environ,
                    "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                    "FLEXLLM_BASE_URL": server.base_url,
                    "FLEXLLM_API_KEY": "sk-any",
                    "FLEXLLM_MODEL": "mock-model",
                },
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "Mock answer" in done.stdout
            assert server.stats()["received"] == 1 + 30  # the second batch asks nothing again
        assert "30 of 30 rows answered, 30 of them by earlier runs" in done.stderr


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.rst").read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_is_plain_restructured_text(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")

    assert "\t" not in text
    for title, line in re.findall(r"^([^\n]+)\n((?:=|-|~){3,})$", text, re.MULTILINE):
        assert len(line) >= len(title)


@pytest.mark.parametrize("readme", READMES)
def test_a_file_that_a_readme_names_exists(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")

    named = set(re.findall(r"(?:bin|tests|man|docs)/[\w./-]*\w|\b[A-Z]+\.rst\b", text))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
