"""The programs of the checkout: they can be started, tell what they do, and need no newer Python than the package."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("docs", "flexllm", "notebooks", "quickstart", "test", "translations")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_executable_by_any_python_3(name: str) -> None:
    path = ROOT / "bin" / name

    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_compiles_on_the_oldest_python_and_has_a_docstring(name: str) -> None:
    tree = ast.parse((ROOT / "bin" / name).read_text(encoding="utf-8"), feature_version=(3, 10))

    assert ast.get_docstring(tree)


def test_there_is_no_other_program() -> None:
    assert sorted(path.name for path in (ROOT / "bin").iterdir() if path.is_file()) == list(PROGRAMS)


def test_continuous_integration_calls_what_a_developer_types() -> None:
    path = ROOT / ".ci" / "run"

    assert os.access(path, os.X_OK)
    assert "bin/test" in path.read_text(encoding="utf-8")


def test_the_questions_of_the_quickstart_are_there() -> None:
    lines = (ROOT / "tests" / "data" / "gsm8k-100.jsonl").read_text(encoding="utf-8").splitlines()

    assert len(lines) == 100
