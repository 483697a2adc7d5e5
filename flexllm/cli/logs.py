"""Where log lines go: standard error."""

from __future__ import annotations

import argparse
import sys


def set_up_logging(args: argparse.Namespace) -> None:
    """Send log lines to standard error: warnings, or with --verbose everything that may matter, or errors alone."""
    import logging

    level = logging.INFO if args.verbose else logging.ERROR if args.quiet else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="flexllm: %(message)s")
