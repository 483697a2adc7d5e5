"""Metadata and settings are in setup.cfg; here is only how the man page is made and installed.

The page is made from the parser, which needs the standard library alone, so an isolated build can make it. A build
writes it below build/ and leaves the one in man/, which is committed, as it is: `python setup.py build_manpages` renews
that one.
"""

import calendar
import os
import re
import sys
import time
from pathlib import Path

from build_manpages import build_manpages
from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.install import install

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not put the project there, and the parser is in it

# The page's date is that of the newest release, not of the build, and its lines are broken in the same places everywhere.
DATES = re.findall(r"^\S+ \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGES.rst").read_text(encoding="utf-8"), re.MULTILINE)
DATE = time.strptime(
    DATES[0] if DATES else "2026-11-22", "%Y-%m-%d"
)  # before the first release: the project's first day
os.environ.setdefault("SOURCE_DATE_EPOCH", str(calendar.timegm(DATE)))
os.environ["COLUMNS"] = "80"

PAGES = Path("build") / "man"


class BuildPy(build_py):
    """Makes the page below build/ before the package is built; not for an editable install, which has none."""

    def run(self):
        if not self.editable_mode:
            command = self.get_finalized_command("build_manpages")
            command.manpages_data = {str(PAGES / Path(p).name): data for p, data in command.manpages_data.items()}
            PAGES.mkdir(parents=True, exist_ok=True)
            command.run()
        super().run()


class Install(install):
    """Installs the page where `man` finds it."""

    def run(self):
        super().run()
        folder = Path(self.install_data, "share", "man", "man1")
        folder.mkdir(parents=True, exist_ok=True)
        for page in PAGES.glob("*.1"):
            self.copy_file(str(page), str(folder))


setup(cmdclass={"build_manpages": build_manpages, "build_py": BuildPy, "install": Install})
