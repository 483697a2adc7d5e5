"""Where log lines go: to standard error, and with --log-file to a file that takes down everything that is said.

The file is for runs that nobody watches: it holds what standard error was told, what --quiet kept from it, and how the
command ended. Lines are appended, each with its time, its level and the process, so that runs which overlap can be told
apart. Never a key: what is logged are the same sentences as on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from ..language import _

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from .log_file import LogFile

_log_files: list[LogFile] = []


def add_log_options(parser: argparse._ActionsContainer) -> None:
    """Add the option that names a log file."""
    parser.add_argument(
        "--log-file", metavar="FILE",
        help=_("append everything that is said to this file too, also what --quiet keeps back; each line with its time, "
        "level and process"),
    )  # fmt: skip


def set_up_logging(args: argparse.Namespace) -> None:
    """Send log lines to standard error: warnings, or with --verbose everything that may matter, or errors alone.

    With --log-file they go there too, from INFO on.

    Raises:
        OSError: The log file cannot be written.
        InputError: It is none.
    """
    import logging

    from ..controls import one_line
    from .log_file import Worded

    class Clean(Worded):
        """Control characters, which a server may have sent, never reach a terminal or a log."""

        def format(self, record: logging.LogRecord) -> str:
            return "\n".join(map(one_line, super().format(record).splitlines()))

    level = logging.INFO if args.verbose else logging.ERROR if args.quiet else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(Clean("flexllm: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    if getattr(args, "log_file", None) is not None:
        _keep_log_file(args, level)


def _keep_log_file(args: argparse.Namespace, level: int) -> None:
    import logging

    log_file, root = _open_log_file(args.log_file), logging.getLogger()
    _log_files.append(log_file)
    root.addHandler(log_file)
    before = root.level
    root.setLevel(min(logging.INFO, level))
    for noisy in ("urllib3", "requests", "asyncio"):  # other people's chatter stays where it was
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))

    def end(code: int, sentence: str | None) -> None:
        told = _("flexllm {command} ends with exit code {code}", command=args.command, code=code)
        record(told, logging.ERROR if code else logging.INFO)
        _log_files.remove(log_file)
        root.removeHandler(log_file)
        root.setLevel(before)
        log_file.close()

    on_end(args, end)
    heed_signals(args)
    record(_("flexllm {command} begins", command=args.command))


def heed_signals(args: argparse.Namespace) -> None:
    """Have SIGTERM and SIGHUP end the command as an interrupt does, so that those whom `on_end` knows learn of it."""
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


def record(text: str, level: int = 20) -> None:
    """Take down what was said to the user elsewhere, if there is a log file.

    Args:
        level: As `logging` numbers them; 20 is INFO.
    """
    if _log_files:
        import logging

        for log_file in _log_files:
            log_file.handle(logging.LogRecord("flexllm", level, "", 0, text, None, None))


def record_traceback(error: BaseException) -> None:
    """Take down where an error that nobody foresaw came from, if there is a log file."""
    if _log_files:
        import traceback

        record("".join(traceback.format_exception(error)), 40)


def on_end(args: argparse.Namespace, told: Callable[[int, str | None], None]) -> None:
    """Have `told` called when the command ends, with its exit code, and its error as a sentence or None."""
    args.at_end = [*getattr(args, "at_end", ()), told]


def tell_end(args: argparse.Namespace, code: int, sentence: str | None) -> None:
    """Call what `on_end` was given: the last first. That one fails is no reason to leave the others out."""
    for told in reversed(getattr(args, "at_end", ())):
        with contextlib.suppress(OSError):
            told(code, sentence)
    args.at_end = []


def _open_log_file(name: str) -> LogFile:
    from ..errors import InputError
    from ..system_errors import reason_of
    from .log_file import LogFile

    if name in ("", "-"):  # an empty variable of a script; and everything is said on standard error anyway
        raise InputError(_("--log-file {name!r} names no file; give one, or leave it out", name=name))
    try:
        return LogFile(os.path.expanduser(name))
    except OSError as error:
        told = _(
            "the log file {name} cannot be written: {reason}; name another one", name=name, reason=reason_of(error)
        )
        raise OSError(error.errno, told) from error
