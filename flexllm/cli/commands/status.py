"""`flexllm status`: what a batch has done, asked from another shell."""

from __future__ import annotations

import argparse
import os
import time

from ...language import _
from ..exits import DONE, FAILED
from ..output import print_json, print_report

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status",
        help=_("tell what a batch has done so far, from another shell"),
        description=_(
            "Tell what is in the output file of a batch, and whether a run is writing it: rows answered and failed, how fast "
            "it goes and how long it will take, tokens, cost, and the errors with examples. Nothing is locked or changed, so "
            "that a run may go on meanwhile. FILE may also be what --status-file of flexllm batch wrote, which is faster, "
            "and knows how many rows there are in all: of an output file only the run under way tells it."
        ),
        epilog=_(
            "The exit code is 0 if nothing is missing as far as FILE tells, 1 if rows failed, are yet to come, or were left "
            "behind by a run that stopped or was killed, and 9 if FILE is neither of the two."
        ),
    )
    parser.add_argument(
        "file", metavar="FILE", help=_("the output file of a batch, in whatever form, or the status file of one")
    )
    parser.add_argument("--json", action="store_true", help=_("print it as JSON on standard output"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell it."""
    from pathlib import Path

    from ...batch.beside import find_checkpoint
    from ...batch.standing import standing_of
    from ...batch.status import read_status
    from ...batch.status_report import report_of_output, report_of_status

    path, now = Path(os.path.expanduser(args.file)), time.time()
    status = read_status(path)
    if status is None:
        report = report_of_output(standing_of(find_checkpoint(path)), args.file, now)
    else:
        report = report_of_status(status, now)
    if args.json:
        print_json(report.as_dict())
    else:
        print_report(str(report))
    return FAILED if report.complete is False else DONE
