"""What the READMEs are, and what they name; that their examples run is shown by test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = ("README.rst", "README.zh.rst")


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_is_short(readme: str) -> None:
    assert len((ROOT / readme).read_text(encoding="utf-8").splitlines()) < 200


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
