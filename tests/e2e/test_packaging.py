"""What a build makes of the checkout: an isolated wheel, a source distribution, and a wheel from that.

Needs the package index, as every installation does; where there is none, the tests are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import BytesParser
from pathlib import Path

import pytest

import flexllm

ROOT = Path(__file__).parents[2]
# Taken while this module is imported, before the tests' own environment hides how the index is reached.
ENVIRONMENT = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
PATIENCE = 300.0
"""Seconds until a build that hangs is given up."""

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command in a folder; the user's home is an empty one beside it."""
    home = folder.with_name(f"{folder.name}-home")
    home.mkdir(exist_ok=True)
    at_home = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env={**ENVIRONMENT, **at_home, **variables},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def build(*command: str | Path, folder: Path, **variables: str) -> None:
    done = run(*command, folder=folder, **variables)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what builds the package, for the builds that are not isolated."""
    folder = tmp_path_factory.mktemp("tools")
    requirements = ("setuptools >= 77", "argparse-manpage >= 4.6")
    done = run("-m", "pip", "install", "-q", "--target", folder, *requirements, folder=folder)
    if done.returncode:
        pytest.skip(f"setuptools cannot be had from the package index: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that belong to the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository: a source distribution
        unwanted = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=unwanted, dirs_exist_ok=True)
        return folder
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def before(checkout: Path) -> dict[str, bytes]:
    """What the copy holds before anything is built."""
    return contents(checkout)


@pytest.fixture(scope="module")
def wheel(
    checkout: Path, before: dict[str, bytes], tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> zipfile.ZipFile:
    """The wheel of an isolated build in the copy, which is then as a user's checkout after `pip install .`."""
    folder = tmp_path_factory.mktemp("wheel")
    build("-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ".", folder=checkout)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def source(checkout: Path, tools: Path, wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the copy."""
    folder = tmp_path_factory.mktemp("source")
    build("setup.py", "-q", "sdist", "-d", folder, folder=checkout, PYTHONPATH=str(tools))
    return next(folder.glob("*.tar.gz"))


def test_the_wheel_holds_the_manual_as_it_is_committed(wheel: zipfile.ZipFile, checkout: Path) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in (checkout / "man").glob("*.[1-9]")}
    pages["xllm.1"] = pages["flexllm.1"]
    folder = f"flexllm-{flexllm.__version__}.data/data/share/man/"
    installed = {name for name in wheel.namelist() if name.startswith(folder)}

    assert {"flexllm.1", "flexllm-batch.1", "flexllm-config.5"} <= set(pages)
    assert installed == {f"{folder}man{name[-1]}/{name}" for name in pages}
    for name, text in pages.items():
        assert wheel.read(f"{folder}man{name[-1]}/{name}").decode() == text, name


@pytest.fixture(scope="module")
def installation(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the package, as `pip install` leaves it, but without the packages that it asks for."""
    folder = tmp_path_factory.mktemp("installation") / "environment"
    build("-m", "venv", "--without-pip", folder, folder=folder.parent)
    python = folder / "bin" / "python"
    build("-m", "pip", "--python", python, "install", "-q", "--no-deps", str(wheel.filename), folder=folder.parent)
    return folder


def installed_program(installation: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the environment's folder of programs on the PATH, and nothing that says where manuals are."""
    environment = {
        name: value for name, value in ENVIRONMENT.items() if name not in ("MANPATH", "PYTHONPATH", "MANPAGER")
    }
    environment |= {
        "PATH": f"{installation / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MANWIDTH": "80",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        command, env=environment, cwd=installation, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("program", ["flexllm", "xllm"])
def test_an_installed_program_tells_of_itself_before_what_it_needs_is_there(installation: Path, program: str) -> None:
    done = installed_program(installation, program, "--version")
    assert (done.returncode, done.stdout) == (0, f"flexllm {flexllm.__version__}\n")

    done = installed_program(installation, program, "batch", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--retry-failed" in done.stdout


def test_an_installed_program_writes_the_first_configuration_before_what_it_needs_is_there(
    installation: Path, tmp_path: Path
) -> None:
    done = installed_program(installation, "flexllm", "init", "--example", "--config", str(tmp_path / "c.yaml"))

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "c.yaml").read_text(encoding="utf-8").startswith("# The configuration of flexllm.")


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
@pytest.mark.parametrize("page", ["flexllm", "xllm", "flexllm-batch", "flexllm-config"])
def test_man_finds_the_pages_where_pip_put_them(installation: Path, page: str) -> None:
    number = "5" if page == "flexllm-config" else "1"

    done = installed_program(installation, "man", "-w", page)
    if "minimized" in done.stdout + done.stderr:
        pytest.skip("the man of this machine shows nothing")
    assert done.stdout.strip() == str(installation / "share" / "man" / f"man{number}" / f"{page}.{number}"), done.stderr
    done = installed_program(installation, "man", "-P", "cat", page)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{'flexllm' if page == 'xllm' else page} - " in done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile, checkout: Path) -> None:
    package = checkout / "flexllm"
    data = [package / "py.typed", *(path for path in (package / "data").rglob("*") if path.is_file())]
    data = [path for path in data if path.suffix != ".po"]  # what people read of it is compiled
    wanted = {str(path.relative_to(checkout)) for path in (*package.rglob("*.py"), *data)}
    names = {name for name in wheel.namelist() if ".data/" not in name and ".dist-info/" not in name}

    assert {"flexllm/data/prices.json", "flexllm/data/first_config.yaml"} <= names
    assert names == wanted


def test_the_wheel_brings_both_programs(wheel: zipfile.ZipFile) -> None:
    scripts = ConfigParser()
    scripts.read_string(wheel.read(f"flexllm-{flexllm.__version__}.dist-info/entry_points.txt").decode())

    assert dict(scripts["console_scripts"]) == dict.fromkeys(("flexllm", "xllm"), "flexllm.cli.main:main")


def test_the_wheel_asks_for_the_agreed_packages_alone(wheel: zipfile.ZipFile) -> None:
    metadata = BytesParser().parsebytes(wheel.read(f"flexllm-{flexllm.__version__}.dist-info/METADATA"))
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    agreed = ["PyYAML", "cachetools", "requests", "sqlitedict", "tqdm", "urllib3"]
    assert sorted(line.split(">")[0].strip() for line in required) == agreed
    assert "all" in metadata.get_all("Provides-Extra", [])
    assert (metadata["Version"], metadata["Requires-Python"]) == (flexllm.__version__, ">=3.10")


def test_a_build_leaves_the_checkout_as_it_was(
    wheel: zipfile.ZipFile, checkout: Path, before: dict[str, bytes]
) -> None:
    after = contents(checkout)

    assert {name: after.get(name) for name in before} == before
    ignored = ("build/", "flexllm.egg-info/")  # by .gitignore
    assert not [name for name in after if name not in before and not name.startswith(ignored)]


def test_the_source_distribution_is_complete(source: Path, before: dict[str, bytes]) -> None:
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    for needed in ("setup.py", "pyproject.toml", "LICENSE", "CHANGES.rst", "tests/conftest.py", "tests/fakes.py"):
        assert needed in names
    assert {name for name in before if name.startswith(("flexllm/", "man/", "bin/"))} <= names
    assert not [name for name in names if name.startswith("build/") or "__pycache__" in name]


def test_a_wheel_from_the_source_distribution_is_the_same(
    source: Path, wheel: zipfile.ZipFile, tools: Path, tmp_path: Path
) -> None:
    build(
        "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source,
        folder=tmp_path, PYTHONPATH=str(tools),
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as other:
        assert sorted(other.namelist()) == sorted(wheel.namelist())
        for name in wheel.namelist():
            if name.endswith((".py", ".1", ".5", "entry_points.txt")):
                assert other.read(name) == wheel.read(name), name
