"""The output file is the truth: what it holds is not asked again, and a paid answer leaves it for the file beside or never.

One thread claims rows (the one that reads the input), one writes (the one that takes results). Answers that this run's
input does not ask for go to NAME.aside.jsonl when the run is complete, and are found there when they are asked for again.
"""

from __future__ import annotations

import json
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..language import _, plural, with_semicolons
from .beside import aside_of
from .items import BatchItem
from .known import NOWHERE, Claim, Owner
from .lines import (
    encode_line,
    is_failed,
    is_same_answer,
    read_key,
    with_index,
    write_line,
)
from .loading import load
from .options import ONLY, CheckpointOptions
from .output import LineReader, OutputFile, OutputView, append_beside
from .settled import SettledLines
from .spent import spent_line


class Checkpoint:
    """An output file, open for one run.

    Args:
        path: The output file, with the suffix .jsonl.
        options: How to write and resume.
        say: Told what the user should know, one sentence at a time.
        output: How the file is held; None opens it for writing and locks it. With an `OutputView` what earlier runs left
            can be claimed and read, and nothing is written or mended.

    Attributes:
        changed: How many rows were answered before with another model or other parameters.
        asks_failed_alone: Only rows that failed in earlier runs are asked.
        notices_changes: Look for them. Not where each row has parameters of its own: a row that is asked differently
            there is another row.

    Raises:
        OutputLocked: Another run is writing it.
        CheckpointError: It cannot be used; nothing was changed.
    """

    def __init__(
        self, path: Path, options: CheckpointOptions, say: Callable[[str], None], output: OutputView | None = None
    ) -> None:
        self.path = path
        self.aside_path = aside_of(path)
        self.changed = 0
        self.notices_changes = True
        self._options = options
        self._say = say
        self.asks_failed_alone = options.retry_failed == ONLY
        self._places = array("q")
        self._is_finished = False
        self._aside = LineReader(self.aside_path)
        self._output: OutputFile | OutputView = output or OutputFile(path, options.flush_interval)
        try:
            found = load(path, self._output, self.aside_path, say, finds_failures=self.asks_failed_alone)
        except BaseException:  # Ctrl-C too: it is locked, and nobody else can let go of it
            self._output.close()
            raise
        self._known = found.known
        self._by_index = found.by_index
        self._damaged = found.damaged
        self._lines = found.lines
        self._in_order = found.in_order

    def announce(self, total: int | None) -> None:
        """Let the lock tell who looks at the file what this run is about: how many rows, if that is known."""
        self._output.announce(total)

    # --- what this run asks: called by the thread that reads the input, once for each row, in order

    def claim_source(self, source: int, settings: int) -> Claim | None:
        """Claim the row of an input line that an earlier run saw as it stands; None if none did.

        Returns:
            A claim whose `place` is NOWHERE if the row must be asked.
        """
        claim = self._known.claim_source(source, settings)
        return None if claim is None else self._decided(claim)

    def claim(self, digest: int, settings: int, owner: Owner | None = None) -> Claim:
        """Claim the row with these messages and settings."""
        if owner is not None:
            return self._decided(self._known.claim_own(owner, digest, settings))
        claim = self._known.claim(digest, settings)
        if claim.place == NOWHERE and self._by_index:
            place = self._by_index.pop(len(self._places), NOWHERE)
            claim = Claim(claim.occurrence, place, place != NOWHERE)
        return self._decided(claim)

    def equal(self, key: str, index: int) -> dict[str, Any] | None:
        """Return the line, decoded, that settles a row which asks for the same as another one, None if there is none.

        Args:
            key: Of the row that asks.
            index: Of a row of this run that asked for the same; -1 looks among the answers of earlier runs.
        """
        if index >= 0:
            place = self._places[index]
        else:
            digest, settings, _occurrence = read_key(key)
            place = self._known.answer(digest, settings)
        return None if place == NOWHERE else self.read(place)

    def claim_nothing(self) -> None:
        """Count a row that cannot be asked at all."""
        self._places.append(NOWHERE)

    def _decided(self, claim: Claim) -> Claim:
        if claim.changed != NOWHERE and self.asks_failed_alone:
            claim = Claim(claim.occurrence, NOWHERE, False)  # answered, and left alone
        elif claim.changed != NOWHERE and self.notices_changes:
            claim = self._decided_change(claim)
        elif claim.place != NOWHERE and not claim.success and self._options.retry_failed:
            claim = claim._replace(place=NOWHERE, failed_before=True)
        self._places.append(claim.place)
        return claim

    def _decided_change(self, claim: Claim) -> Claim:
        self.changed += 1
        if self.changed == 1:
            self._tell_first_change(self.read(self._known.place(claim.changed)).get("model"))
        if self._options.on_change == "keep":
            return self._known.keep(claim.changed)
        return Claim(claim.occurrence, NOWHERE, False)

    def _tell_first_change(self, was: object) -> None:
        """Say what is done with rows that were asked otherwise, by the model `was`; or refuse to do it."""
        found = _(
            "{path} holds answers to the same messages with another model or other parameters (model {was!r})",
            path=self.path, was=was,
        )  # fmt: skip
        if self._options.on_change == "fail":
            choice = _(
                "they are as they were. Choose what to do with them: on_change=rerun or keep (on the command line --on-change)"
            )
            raise CheckpointError(with_semicolons([found, choice]))
        if self._options.on_change == "keep":
            done = _("they are kept")
        else:
            done = _("such rows are asked again, and what was there goes to {name}", name=self.aside_path.name)
        self._say(with_semicolons([found, done]))

    # --- what this run answers: called by the thread that takes the results

    def write(self, items: Sequence[BatchItem]) -> None:
        """Write settled items, in one go. When this returns they are in the kernel.

        Raises:
            CheckpointError: They could not be written; the file is as it was before.
        """
        save_input, save_raw = self._options.save_input, self._options.save_raw
        lines = [write_line(item, save_input, save_raw) for item in items]
        offset = self._output.append(b"".join(lines))
        for item, line in zip(items, lines, strict=True):
            self._places[item.index] = offset * 2
            offset += len(line)
        self._lines += len(lines)

    def resume(self, item: BatchItem) -> dict[str, Any]:
        """Return the line that answers a claimed row, decoded.

        A line from the file beside, or one whose metadata are no longer those of the input, is written anew.
        """
        row = self.read(item.place)
        if item.place & 1 or (item.request is not None and row.get("metadata") != item.metadata):
            row["index"] = item.index
            if item.request is not None:
                row["metadata"] = item.metadata
            if item.source is not None:
                row["source"] = f"{item.source:032x}"
            else:  # that of another input line, with other metadata
                row.pop("source", None)
            self._places[item.index] = self._output.append(encode_line(row)) * 2
            self._lines += 1
        return row

    def read(self, place: int) -> dict[str, Any]:
        """Return the decoded line at a place."""
        try:
            row = json.loads(self._line(place))
        except ValueError:
            row = None
        if not isinstance(row, dict):
            told = _("{path} was changed by someone else while it was in use; nothing is lost", path=self.path)
            raise CheckpointError(told)
        return row

    def _line(self, place: int) -> bytes:
        if not place & 1:
            return self._output.line_at(place >> 1)
        return self._aside.line_at(place >> 1)

    # --- the end

    def finish(self, *, limited: bool, order: Iterable[int] | None = None) -> None:
        """Put the file in input order, one line a row. Only for a run in which every row was settled.

        Args:
            limited: The run took only the first rows of its input: all other lines stay, behind them.
            order: The indices of all rows in another order to put it in, None for that of the input.

        Raises:
            CheckpointError: It could not be done; every answer is still in the file.
        """
        if order is not None:
            self._places = array("q", map(self._places.__getitem__, order))
        if limited:
            self._output.replace(self._first_rows_then_the_rest())
        elif not self._is_in_order():
            spent = spent_line(self._superseded())
            if spent is not None:
                append_beside(self.aside_path, (spent,))
            put_aside = self._set_aside()
            if put_aside:
                told = plural(
                    "{count} line that this input does not ask for was kept in {name}",
                    "{count} lines that this input does not ask for were kept in {name}",
                    put_aside, name=self.aside_path.name,
                )  # fmt: skip
                self._say(told)
            self._output.replace(self._rows())
        self._is_finished = True

    def settled(self) -> SettledLines:
        """Return the lines that answer the rows of the input as far as it was answered, in its order."""
        if self._is_finished:
            return SettledLines.in_order(self._output.lines, len(self._places))
        unasked = (place for place in chain(list(self._by_index.values()), self._known.unasked()) if not place & 1)
        return SettledLines.at(self._line, self._places, unasked)

    def close(self) -> None:
        """Sync, close, unlock. May be called twice."""
        self._aside.close()
        self._output.close()

    def _is_in_order(self) -> bool:
        places = self._places
        ascending = all(map(operator.lt, places, islice(places, 1, None)))
        return self._in_order and ascending and self._lines == len(places) and not self._damaged

    def _rows(self) -> Iterator[bytes]:
        for index, place in enumerate(self._places):
            try:
                yield with_index(self._line(place), index)
            except ValueError as error:
                told = _(
                    "{path} was changed by someone else while it was in use (row {index} is not where it was); it was left "
                    "as it is",
                    path=self.path, index=index,
                )  # fmt: skip
                raise CheckpointError(told) from error

    def _first_rows_then_the_rest(self) -> Iterator[bytes]:
        yield from self._rows()
        placed = set(self._places)
        offset = 0
        for line in self._output.lines():
            if offset * 2 not in placed:
                yield line
            offset += len(line)

    def _superseded(self) -> Iterator[dict[str, Any]]:
        """Yield the decoded lines of failed rows that were asked again, or that this input does not ask for."""
        if self._lines == len(self._places):
            return
        placed = set(self._places)
        offset = 0
        for line in self._output.lines():
            if offset * 2 not in placed and is_failed(line):
                yield json.loads(line)
            offset += len(line)

    def _set_aside(self) -> int:
        """Append what this input does not ask for, and is not there yet, to the file beside; return how many lines."""
        there = {first: place for first, place in self._known.extras() if place & 1}
        # What an earlier run wrote anew, for other metadata, before it was cut off.
        there.update((place, first) for first, place in self._known.extras() if not place & 1)
        unclaimed = chain(self._known.unclaimed(), self._by_index.values())
        places = [
            place
            for place in unclaimed
            if not place & 1 and (place not in there or not is_same_answer(self.read(place), self.read(there[place])))
        ]
        if not places and not self._damaged:
            return 0
        damaged = (
            {
                "status": "damaged",
                "line": number,
                "raw": self._output.line_at(offset).decode("utf-8", "surrogateescape"),
            }
            for number, offset in self._damaged
        )
        return append_beside(self.aside_path, chain(map(self._line, places), map(encode_line, damaged)))
