"""What holds for every test: a clean environment, and `from fakes import ...` in whatever way pytest imports tests."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from generated import examples

# Generated tests give the same answer every time. `.hypothesis` holds its character tables alone.
hypothesis.settings.register_profile("house", derandomize=True, database=None, deadline=None, max_examples=examples(60))
hypothesis.settings.load_profile("house")

# What a shell or nohup starts in the background ignores these, and so do its children; here they are to be felt as in a
# terminal.
for _number_of_signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number_of_signal) is signal.SIG_IGN:
        signal.signal(_number_of_signal, _handler)

_LEAKING = re.compile(
    r"FLEXLLM_.*|OPENAI_.*|ANTHROPIC_.*|GOOGLE_.*|GCLOUD_.*|CLOUDSDK_.*|.*_API_KEY|.*_PROXY|REQUESTS_CA_BUNDLE"
    r"|CURL_CA_BUNDLE|SSL_CERT_(FILE|DIR)|NETRC|PYTHONUNBUFFERED|LANG|LANGUAGE|LC_.*",
    re.IGNORECASE,
)


class _Homes:
    """Empty folders: the same one again as long as nobody puts anything into it, for making thousands takes a while."""

    def __init__(self, folder: Path) -> None:
        self._numbered = (folder / str(number) for number in itertools.count())
        self._new()

    def _new(self) -> None:
        self._last = next(self._numbered)
        self._last.mkdir()

    def empty(self) -> Path:
        if not self._last.is_dir() or os.listdir(self._last):
            self._new()
        return self._last


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> _Homes:
    return _Homes(tmp_path_factory.mktemp("homes"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, _homes: _Homes) -> Path:
    """No key, proxy, certificate or language of the machine reaches a test, and none of its files: HOME is empty."""
    for name in [name for name in os.environ if _LEAKING.fullmatch(name)]:
        monkeypatch.delenv(name)
    home = _homes.empty()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    return home


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many examples of the READMEs and of docs/ ran, by language."""
    passed = terminalreporter.stats.get("passed", ())
    ran = Counter(value for report in passed for name, value in report.user_properties if name == "example")
    if ran:
        terminalreporter.write_line(
            f"examples that ran as printed: {', '.join(f'{n} {name}' for name, n in ran.items())}"
        )
