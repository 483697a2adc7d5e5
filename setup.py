"""Metadata and settings are in setup.cfg; here is only how the man pages are made and installed.

The pages are made from the parsers, which need the standard library alone, so an isolated build can make them. A build
writes them below build/ and leaves those in man/, which are committed, as they are: `python setup.py build_manpages` renews
those.
"""

import calendar
import os
import re
import shutil
import sys
import time
from pathlib import Path

from build_manpages import build_manpages
from setuptools import Command, setup
from setuptools.command.build_py import build_py
from setuptools.command.install import install

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not put the project there, and the parser is in it

from flexllm.cli.manual import tidied  # noqa: E402 (found by the line above)

# The pages' date is that of the newest release, not of the build, and no line is broken where roff must not have it.
DATES = re.findall(r"^\S+ \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGES.rst").read_text(encoding="utf-8"), re.MULTILINE)
DATE = time.strptime(
    DATES[0] if DATES else "2026-11-22", "%Y-%m-%d"
)  # before the first release: the project's first day
os.environ.setdefault("SOURCE_DATE_EPOCH", str(calendar.timegm(DATE)))
os.environ["COLUMNS"] = "100000"

PAGES = Path("build") / "man"


class BuildManPages(build_manpages):
    """Makes the pages, and puts them in good form."""

    def run(self):
        super().run()
        for page in map(Path, self.manpages_data):
            page.write_text(tidied(page.read_text(encoding="utf-8")), encoding="utf-8")


class BuildCompletions(Command):
    """Renews the scripts of the Tab key in flexllm/data/completion, which are committed. Needs shtab."""

    user_options = []  # noqa: RUF012 (setuptools wants a list)

    def initialize_options(self):
        pass

    def finalize_options(self):
        pass

    def run(self):
        from flexllm.cli.completion.generation import write_scripts

        for path in write_scripts():
            self.announce(f"writing {path.relative_to(ROOT)}", level=2)


class BuildPy(build_py):
    """Makes the pages below build/ before the package is built; not for an editable install, which has none."""

    def run(self):
        if not self.editable_mode:
            command = self.get_finalized_command("build_manpages")
            command.manpages_data = {str(PAGES / Path(p).name): data for p, data in command.manpages_data.items()}
            shutil.rmtree(PAGES, ignore_errors=True)  # what an earlier build made may have no command any more
            PAGES.mkdir(parents=True)
            command.run()
        super().run()


class Install(install):
    """Installs the pages where `man` finds them; that of the program under its second name too."""

    def run(self):
        super().run()
        for page in sorted(PAGES.glob("*.[1-9]")):
            folder = Path(self.install_data, "share", "man", f"man{page.suffix[1:]}")
            folder.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(page), str(folder))
            if page.name == "flexllm.1":
                self.copy_file(str(page), str(folder / "xllm.1"))


setup(
    cmdclass={
        "build_completions": BuildCompletions,
        "build_manpages": BuildManPages,
        "build_py": BuildPy,
        "install": Install,
    }
)
