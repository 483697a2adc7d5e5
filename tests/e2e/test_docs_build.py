"""The documentation is built in both languages without a warning, links to its other language, and holds every public name."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

import flexllm

ROOT = Path(__file__).parents[2]
PO = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES" / "api.po"
PATIENCE = 300.0
"""Seconds until a failing build is given up."""


class Build(NamedTuple):
    """What `bin/docs` has done."""

    folder: Path
    code: int
    told: str


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    for name in ("sphinx", "myst_nb", "furo"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed (the extra docs)")
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin" / "docs"), "--to", str(folder)], capture_output=True, encoding="utf-8",
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Build(folder, done.returncode, done.stdout + done.stderr)


@pytest.fixture
def built(build: Build) -> Path:
    """The folder with the pages of both languages."""
    return build.folder


@pytest.mark.slow
def test_both_languages_are_built_without_a_warning(build: Build) -> None:
    assert "WARNING" not in build.told
    assert build.code == 0, build.told
    assert build.told.splitlines() == [f"{one}: {build.folder / one / 'index.html'}" for one in ("zh_CN", "en")]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "other"), [("en", "zh_CN"), ("zh_CN", "en")])
def test_every_page_is_built_and_links_to_its_other_language(built: Path, language: str, other: str) -> None:
    pages = ROOT / "docs" / ("en" if language == "en" else "")
    sources = [path for path in pages.rglob("*.*") if path.suffix in (".md", ".ipynb")]
    names = [path.relative_to(pages).with_suffix(".html") for path in sources if ".ipynb_checkpoints" not in path.parts]
    names = [name for name in names if language == "en" or name.parts[0] != "en"]

    assert names
    for name in names:
        page = built / language / name
        text = page.read_text(encoding="utf-8")
        link = re.search(r'href="((?:\.\./)+(?:en|zh_CN)/[^"]+)"', text)
        assert link is not None, name
        target = (page.parent / link[1]).resolve()
        assert target.is_relative_to((built / other).resolve()), link[1]
        assert target.exists(), link[1]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_reference_describes_every_public_name(built: Path, language: str) -> None:
    page = (built / language / "api.html").read_text(encoding="utf-8")

    described = set(re.findall(r'id="flexllm\.(\w+)"', page))
    assert described >= set(flexllm.__all__) - {"__version__"}


@pytest.mark.slow
def test_docstrings_come_out_as_they_are_meant(built: Path) -> None:
    page = (built / "en" / "api.html").read_text(encoding="utf-8")

    blocks = [re.sub(r"<[^>]+>", "", block) for block in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    (tree,) = (block for block in blocks if block.startswith("FlexLLMError\n"))
    assert "\n      BadRequest\n" in tree
    assert "`" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL), "a name in backticks is not shown as code"
    assert "&lt;factory&gt;" not in page


@pytest.mark.slow
def test_no_end_of_a_line_shows_as_a_blank_in_chinese(built: Path) -> None:
    for path in (built / "zh_CN").rglob("*.html"):
        text = re.sub(r"<pre>.*?</pre>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert re.search("[\u4e00-\u9fff]\n[\u4e00-\u9fff]|[，。、；：]\n[^<\n]", text) is None, path.name


@pytest.mark.slow
def test_what_sphinx_and_its_theme_put_into_a_chinese_page_is_chinese(built: Path) -> None:
    page = (built / "zh_CN" / "api.html").read_text(encoding="utf-8")

    assert "下一页" in page
    assert "<span>Next</span>" not in page
    assert "</strong> -- " not in page, "two hyphens stand behind the name of a parameter"


@pytest.mark.slow
def test_every_docstring_is_translated(build: Build) -> None:
    """It asks for the build, for where there is no Sphinx, both are skipped."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin" / "docs"), "--check"], capture_output=True, encoding="utf-8",
        timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 of them without a translation" in done.stdout


def test_the_catalogue_of_the_reference_is_readable_and_in_its_place() -> None:
    from babel.messages.pofile import read_po

    with PO.open("rb") as file:
        catalogue = read_po(file)
    assert catalogue.mime_headers
    assert len(catalogue) > 300
