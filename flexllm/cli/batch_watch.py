"""What lets others watch a batch that nobody sits before: the status file, the log, and a clean end by any signal."""

from __future__ import annotations

import argparse
import os
import re

from .logs import on_end, record

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..batch.progress import Progress
    from ..batch.tally import Tally

LOG_SECONDS = 60.0
"""Between two lines of counts in a log file: a run of a night has some five hundred."""


def add_watch_options(parser: argparse._ActionsContainer) -> None:
    """Add the option that names a status file."""
    parser.add_argument(
        "--status-file", metavar="FILE",
        help="keep a JSON file of what the run has done so far: never half written, at most once a second, and at the end "
        "with the exit code. flexllm status FILE shows it",
    )  # fmt: skip


def begin_watching(args: argparse.Namespace) -> tuple[Progress, ...]:
    """Open what is to tell of the run, and return who must be told of its progress.

    From here on SIGTERM and SIGHUP end the command so that the status file and the log learn of it.

    Raises:
        CheckpointError: The status file cannot be written.
        InputError: Two of the files are the same.
    """
    from pathlib import Path

    _check_files(args)
    _heed_signals(args)
    told: list[Progress] = []
    if args.log_file is not None:
        told.append(_LogProgress(is_quiet=args.quiet))
    if args.status_file is not None:
        from ..batch.status import StatusFile

        output = args.output
        where = output if output == "-" else os.path.abspath(os.path.expanduser(output))
        facts = {"command": " ".join(masked_words(args)), "output": where}
        status_file = StatusFile(Path(os.path.expanduser(args.status_file)), facts)
        on_end(args, status_file.end)
        told.append(status_file)
    return tuple(told)


def masked_words(args: argparse.Namespace) -> list[str]:
    """Return the command line, word by word and quoted for a shell, without the key, in whatever way it was given."""
    import shlex

    words = ["flexllm", *args.argv]
    key = getattr(args, "api_key", None)
    for position, word in enumerate(words):
        if key and f"={word}".endswith(f"={key}"):  # by its value, for argparse takes --api-key=KEY as well
            words[position] = f"{word.removesuffix(key)}KEY"
        words[position] = _USER_INFO.sub(r"\1***@", words[position])
    return [shlex.quote(word) for word in words]


_USER_INFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s]+@", re.IGNORECASE)


class _LogProgress:
    """Tells the log file what the user sees: sentences, and the counts now and then."""

    def __init__(self, *, is_quiet: bool) -> None:
        import time

        self._is_quiet = is_quiet  # then the library logs its sentences itself
        self._clock = time.monotonic
        self._began = self._shown = self._clock()
        self._tally: Tally | None = None

    def begin(self, tally: Tally) -> None:
        """Take note of the counts."""
        self._tally = tally
        self._began = self._shown = self._clock()

    def update(self, tally: Tally) -> None:
        """Write a line if the last is old enough."""
        if self._clock() - self._shown >= LOG_SECONDS:
            self.close()

    def say(self, text: str) -> None:
        """Write the sentence."""
        if not self._is_quiet:
            record(text, _WARNING)

    def close(self) -> None:
        """Write the counts."""
        from ..batch.progress import ProgressOptions, describe

        self._shown = self._clock()
        tally = self._tally
        if tally is not None:
            of = "" if tally.total is None else f"/{tally.total:,}"
            details = describe(tally, self._shown - self._began, ProgressOptions(tokens=True, cost=True))
            record(f"{tally.done:,}{of} rows{f', {details}' if details else ''}")


_WARNING = 30  # as `logging` numbers it


def _heed_signals(args: argparse.Namespace) -> None:
    import signal
    import threading

    from ..batch.signals import raise_terminated

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup SIGHUP is ignored, and stays so
            signal.signal(number, raise_terminated)
            on_end(args, _back_to_default(number))


def _back_to_default(number: int) -> Callable[[int, str | None], None]:
    import signal

    def put_back(code: int, sentence: str | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    return put_back


def _check_files(args: argparse.Namespace) -> None:
    """Refuse a log or status file that is another file of the run: it would spoil it."""
    from ..errors import InputError

    seen: dict[str, str] = {}
    for option in ("INPUT", "--output", "--errors", "--status-file", "--log-file"):
        name = getattr(args, option.strip("-").lower().replace("-", "_"), None)
        if name in (None, "", "-"):
            continue
        real = os.path.realpath(os.path.expanduser(name))
        other = seen.setdefault(real, option)
        if other != option and option in ("--status-file", "--log-file"):
            raise InputError(f"{option} {name} is the file of {other} already; name another one")
        if option == "--output":
            seen.update({f"{real}{suffix}": option for suffix in (".jsonl", ".lock", ".jsonl.lock")})
