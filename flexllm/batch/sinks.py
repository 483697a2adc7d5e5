"""Where a job's rows go besides its output file: as they finish, to sinks; at the end of a run, in order, to views."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import CheckpointError, FlexLLMError
from ..language import _
from .checkpoint import Checkpoint
from .items import BatchItem
from .lines import write_line
from .views import LinesView

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes rows as they finish, in completion order, on the job's thread."""

    def take(self, items: Sequence[BatchItem]) -> None:
        """Take settled rows; those of earlier runs have no outcome. Raises OSError if the run is to end."""

    def close(self) -> None:
        """The run has ended, however. Raises CheckpointError if what was taken cannot be kept."""


class View(Protocol):
    """A file that is made from the output file at the end of each run, whole or not at all."""

    def write(self, lines: Iterable[bytes]) -> None:
        """Write it anew from the lines of the output file, which may be walked over more than once.

        Raises:
            CheckpointError: It could not be done; what was there is still there.
        """


class Outlets:
    """All the sinks and views of one run."""

    def __init__(self, sinks: Sequence[Sink], views: Sequence[View]) -> None:
        self._sinks = self._open = tuple(sinks)
        self._views = tuple(views)

    @property
    def are_open(self) -> bool:
        """Whether somebody takes rows."""
        return bool(self._open)

    def take(self, items: Sequence[BatchItem]) -> None:
        """Hand rows to all sinks. Once one has raised OSError, none gets any more."""
        if self._open:
            sinks, self._open = self._open, ()
            for sink in sinks:
                sink.take(items)
            self._open = sinks

    def end(self, checkpoint: Checkpoint | None, *, has_failed: bool) -> None:
        """Close the sinks, and write the views of an output file that is still held.

        Args:
            has_failed: An error ends the run already: then what fails here is logged.

        Raises:
            CheckpointError: The first that one of them raised; the others were closed and written all the same.
        """
        ends: list[Callable[[], None]] = [sink.close for sink in self._sinks]
        saved_in = None
        if checkpoint is not None and self._views:
            saved_in = checkpoint.path
            lines = checkpoint.settled()
            ends += [partial(view.write, lines) for view in self._views]
        first: CheckpointError | None = None
        for end in ends:
            try:
                end()
            except (CheckpointError, ValueError) as error:  # the latter if somebody else changes the output file
                told = _told(error, saved_in)
                if has_failed:
                    log.warning("%s", told)
                first = first or told
        if first is not None and not has_failed:
            raise first


def _told(error: Exception, saved_in: Path | None) -> CheckpointError:
    """Return what is raised where a sink or a view fails: with what is lost by it, which is nothing."""
    if saved_in is None:
        return CheckpointError(str(error))
    return CheckpointError(
        _(
            "{error}; every answer that was saved is in {path}, and the same command makes the file anew",
            error=error,
            path=saved_in,
        )
    )


class LineSink:
    """Hands the lines of rows on, as the output file would have them.

    Args:
        write: Takes whole lines.
        save_input, save_raw: What the lines hold; see `CheckpointOptions`.
    """

    def __init__(
        self, write: Callable[[bytes], object], *, save_input: bool | str = True, save_raw: bool = False
    ) -> None:
        self._write = write
        self._save_input = save_input
        self._save_raw = save_raw

    def take(self, items: Sequence[BatchItem]) -> None:
        """Hand on their lines, in one piece."""
        lines = [write_line(item, self._save_input, self._save_raw) for item in items if item.outcome is not None]
        if lines:
            self._write(b"".join(lines))

    def close(self) -> None:
        """Do nothing: each piece is on its way already."""


class FailureSink:
    """Keeps the lines of failed rows, where there is no output file to take them from, and writes them at the end.

    They are held in memory until then: a run of which most rows fail stops by itself.
    """

    def __init__(self, view: LinesView, *, save_input: bool | str = True, save_raw: bool = False) -> None:
        self._view = view
        self._lines: list[bytes] = []
        self._sink = LineSink(self._lines.append, save_input=save_input, save_raw=save_raw)

    def take(self, items: Sequence[BatchItem]) -> None:
        """Keep the lines of those that failed."""
        self._sink.take([item for item in items if isinstance(item.outcome, FlexLLMError)])

    def close(self) -> None:
        """Write them, all in one."""
        self._view.write(self._lines)
