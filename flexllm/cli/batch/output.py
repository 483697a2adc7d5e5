"""Where `flexllm batch` writes: the output file, what is made from it, and standard output."""

from __future__ import annotations

import argparse
import os

from ...language import _

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ...batch.options import CheckpointOptions
    from ...batch.sinks import Sink, View
    from .input import BatchInput

KINDS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".xlsx", ".parquet")
"""What the name of an output file ends in, in any case of letters; only the first is written as rows finish."""


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the answers go."""
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE",
        help=_("the answers: a name that ends in .jsonl, .csv or .tsv, or in one of these and .gz, or in .xlsx or .parquet; "
        "- writes JSON lines to standard output as they come, and cannot be resumed"),
    )  # fmt: skip
    parser.add_argument(
        "--errors", metavar="FILE",
        help=_("write the lines of the rows that failed to this file too, anew at the end of each run; it is empty if none "
        "did"),
    )  # fmt: skip


class BatchOutput:
    """Where the answers go.

    Args:
        args: With `output`, `errors` and the options that do not go together with standard output.

    Attributes:
        name: As it was given.
        is_stream: It is standard output: nothing is kept.
        is_table: Each row of it has all fields of its input row.
        file: The output file that rows are written to as they finish, and resumed from; None if it is standard output.
        view: The file that is made from it at the end of a run; None where the output file is all.
        errors: The file of failed rows, None for none.

    Raises:
        ConfigError: The name does not say what to write, or the package that writes it is not installed.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from pathlib import Path

        from ...batch.beside import checkpoint_of
        from ...errors import ConfigError

        self.name: str = args.output
        self.is_stream = self.name == "-"
        path = Path(os.path.expanduser(self.name))  # not Path.expanduser, which raises where there is no such home
        kind = next((kind for kind in KINDS if len(path.name) > len(kind) and path.name.lower().endswith(kind)), None)
        if kind is None and not self.is_stream:
            raise ConfigError(
                _(
                    "the output file {name!r} must end in .jsonl, .csv or .tsv, or in one of these and .gz, or in .xlsx or "
                    ".parquet; - writes JSON lines to standard output",
                    name=self.name,
                )
            )
        self.is_table = kind is not None and not kind.startswith(".jsonl")
        self._kind = kind
        self._require_package()
        self.file: Path | None = None
        if not self.is_stream:
            self.file = checkpoint_of(path)
        self.view = None if self.is_stream or path == self.file else path
        if args.errors in ("", "-"):
            raise ConfigError(_("--errors needs the name of a file"))
        self.errors = None if args.errors is None else Path(os.path.expanduser(args.errors))

    def _require_package(self) -> None:
        if self._kind == ".xlsx":
            from ...batch.workbooks import require_openpyxl

            require_openpyxl(self.name)
        elif self._kind == ".parquet":
            from ...batch.parquet import require_pyarrow

            require_pyarrow(self.name)

    def check(self, source: BatchInput) -> None:
        """Refuse files that cannot be written, or that hold something else, before anything is sent.

        Raises:
            InputError: One of them is the input, or they are the same.
            CheckpointError: One of them cannot be written.
            OSError: Standard output is closed.
        """
        from ...batch.beside import files_of
        from ...batch.views import check_view
        from ...errors import InputError
        from ..output import standard_output

        if self.is_stream:
            standard_output()
        for path in filter(None, (self.file, self.view, self.errors)):
            source.refuse_as_output(path)
        if self.view is not None:
            check_view(self.view, self.file)
        if self.errors is not None:
            ours = () if self.file is None else map(os.path.realpath, files_of(self.view or self.file))
            if os.path.realpath(self.errors) in ours:
                raise InputError(
                    _("--errors {errors} is a file that the answers go to; name another one", errors=self.errors)
                )
            check_view(self.errors)

    def sinks(self, options: CheckpointOptions) -> tuple[Sink, ...]:
        """Return what takes the rows as they finish, besides the output file."""
        from ...batch.sinks import FailureSink, LineSink
        from ...batch.views import LinesView
        from ..output import print_bytes

        if not self.is_stream:
            return ()
        save_input, save_raw = options.save_input, options.save_raw
        stream = LineSink(print_bytes, save_input=save_input, save_raw=save_raw)
        if self.errors is None:
            return (stream,)
        return stream, FailureSink(LinesView(self.errors), save_input=save_input, save_raw=save_raw)

    def views(self) -> tuple[View, ...]:
        """Return what is made from the output file."""
        from ...batch.parquet import ParquetView
        from ...batch.views import LinesView, TableView
        from ...batch.workbooks import WorkbookView

        found: list[View] = []
        if self.view is not None:
            made: dict[str | None, Callable[[Path], View]] = {".xlsx": WorkbookView, ".parquet": ParquetView}
            found.append(made.get(self._kind, TableView if self.is_table else LinesView)(self.view))
        if self.errors is not None and not self.is_stream:
            found.append(LinesView(self.errors, failed_alone=True))
        return tuple(found)


def why_no_stream(args: argparse.Namespace) -> str | None:
    """Return what does not go together with an output that is standard output; None if all does."""
    if args.output != "-":
        return None
    if args.json and not args.dry_run:
        return _(
            "-o - writes the answers to standard output, where --json would put the summary: leave one of them out"
        )
    if args.sample is not None:
        return _("--sample needs an output file: the rest of the rows is asked by a second run, which goes on with it")
    resumes = {
        "--retry-failed": args.retry_failed is True,
        "--no-retry-failed": args.retry_failed is False,
        "--on-change": args.on_change is not None,
        "--flush-interval": args.flush_interval is not None,
    }
    for option in (option for option, is_given in resumes.items() if is_given):
        return _("{option} needs an output file, which runs go on with: name it instead of -o -", option=option)
    return None
