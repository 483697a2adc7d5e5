"""What lets others watch a batch that nobody sits before: the status file, the log, and a clean end by any signal."""

from __future__ import annotations

import argparse
import os

from ...language import _, plural, with_commas
from ..logs import heed_signals, on_end, record

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from ...batch.progress import Progress
    from ...batch.tally import Tally

LOG_SECONDS = 60.0
"""Between two lines of counts in a log file: a run of a night has some five hundred."""


def add_watch_options(parser: argparse._ActionsContainer) -> None:
    """Add the option that names a status file."""
    parser.add_argument(
        "--status-file", metavar="FILE",
        help=_("keep a JSON file of what the run has done so far: never half written, at most once a second, and at the end "
        "with the exit code. flexllm status FILE shows it"),
    )  # fmt: skip


def begin_watching(args: argparse.Namespace) -> tuple[Progress, ...]:
    """Open what is to tell of the run, and return who must be told of its progress.

    From here on SIGTERM and SIGHUP end the command so that the status file and the log learn of it.

    Raises:
        CheckpointError: The status file cannot be written, or is something else.
        InputError: It is none.
    """
    from pathlib import Path

    heed_signals(args)
    told: list[Progress] = []
    if args.log_file is not None:
        told.append(_LogProgress(is_quiet=args.quiet))
    if args.status_file is not None and not args.dry_run:
        from ...batch.status import StatusFile
        from ...errors import InputError

        if args.status_file in ("", "-"):
            raise InputError(
                _("--status-file {name!r} names no file; give one, or leave it out", name=args.status_file)
            )
        # No command line: it may hold keys, and whoever supervises the run may show this file to others.
        facts = {"input": _place(args.input), "output": _place(args.output), "model": args.model}
        status_file = StatusFile(Path(os.path.expanduser(args.status_file)), facts)
        on_end(args, status_file.end)
        told.append(status_file)
    return tuple(told)


def _place(name: str | None) -> str:
    """Return a file as any process can find it; - is a standard stream."""
    return "-" if name in (None, "-") else os.path.abspath(os.path.expanduser(name))


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
        from ...batch.progress import ProgressOptions, describe

        self._shown = self._clock()
        tally = self._tally
        if tally is not None:
            details = describe(tally, self._shown - self._began, ProgressOptions(tokens=True, cost=True))
            record(with_commas(filter(None, [_counts(tally), details])))


def _counts(tally: Tally) -> str:
    if tally.total is None:
        return plural("{count:,} row", "{count:,} rows", tally.done)
    return plural("{done:,}/{count:,} row", "{done:,}/{count:,} rows", tally.total, done=tally.done)


_WARNING = 30  # as `logging` numbers it


def check_files(args: argparse.Namespace) -> None:
    """Refuse a log or status file that is another file of the run: it would spoil it. Nothing is opened.

    Raises:
        InputError: It is one.
    """
    from pathlib import Path

    from ...batch.beside import files_of
    from ...errors import InputError

    seen: dict[str, str] = {}
    for option in ("INPUT", "--config", "--output", "--errors", "--status-file", "--log-file"):
        name = getattr(args, option.strip("-").lower().replace("-", "_"), None)
        if name in (None, "", "-"):
            continue
        real = os.path.realpath(os.path.expanduser(name))
        other = seen.setdefault(real, option)
        if other != option and option in ("--status-file", "--log-file"):
            told = _(
                "{option} {name} is the file of {other} already; name another one",
                option=option,
                name=name,
                other=other,
            )
            raise InputError(told)
        if option == "--output":
            for beside in files_of(Path(os.path.expanduser(name))):
                seen.setdefault(os.path.realpath(beside), option)
