"""The output file is the truth: what it holds is not asked again, and a paid answer leaves it for the file beside or never.

One thread claims rows (the one that reads the input), one writes (the one that takes results). Answers that this run's
input does not ask for go to NAME.aside.jsonl when the run is complete, and are found there when they are asked for again.
"""

from __future__ import annotations

import json
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..digest import digest_messages
from ..errors import CheckpointError, InputError
from ..language import _
from ..messages import normalise_messages
from .beside import aside_of
from .items import BatchItem
from .known import NOWHERE, Claim, KnownRows
from .lines import (
    encode_line,
    is_answer,
    is_failed,
    is_same_answer,
    read_checked,
    read_key,
    read_source,
    with_index,
    write_line,
)
from .options import ONLY, CheckpointOptions
from .output import LineReader, OutputFile, OutputView, append_beside
from .settled import SettledLines
from .spent import spent_line

_decode = json.JSONDecoder().raw_decode


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
        self._known = KnownRows()
        self.asks_failed_alone = self._known.finds_failures = options.retry_failed == ONLY
        self._by_index: dict[int, int] = {}
        self._places = array("q")
        self._damaged: list[tuple[int, int]] = []  # line number, offset
        self._lines = 0
        self._in_order, self._is_finished = True, False
        self._aside = LineReader(self.aside_path)
        self._output: OutputFile | OutputView = output or OutputFile(path, options.flush_interval)
        try:
            self._load()
        except BaseException:  # Ctrl-C too: it is locked, and nobody else can let go of it
            self._output.close()
            raise

    # --- what earlier runs left

    def _load(self) -> None:
        offset = good = 0
        line = b""
        for number, line in enumerate(self._output.lines(), 1):
            if self._take_in(line, offset * 2):
                good += 1
            elif line.isspace():
                self._in_order = False
            else:
                self._damaged.append((number, offset))
            offset += len(line)
            self._lines = number
        if self._damaged:
            self._check_ours(good, line)
        if line and not line.endswith(b"\n"):
            self._mend_last(line, offset)
        for number, _text in self._damaged:
            self._say(
                _(
                    "{path}, line {number} is damaged; it is kept aside and its row is asked again",
                    path=self.path,
                    number=number,
                )
            )
        if self._by_index:
            self._say(
                _(
                    "{path}: {count} rows hold neither key nor input; they are taken by their index, "
                    "which is right only if the input is the same and in the same order",
                    path=self.path,
                    count=len(self._by_index),
                )
            )
        if self.aside_path.exists():
            self._load_aside()

    def _load_aside(self) -> None:
        offset = 0
        try:
            with open(self.aside_path, "rb", buffering=1 << 18) as file:
                for line in file:
                    self._take_in(line, offset * 2 + 1)
                    offset += len(line)
        except OSError as error:
            raise CheckpointError(
                _("{aside_path} cannot be read: {strerror}", aside_path=self.aside_path, strerror=error.strerror)
            ) from error

    def _take_in(self, line: bytes, place: int) -> bool:
        """Remember what a line answers. Return False if it is no line of an output file."""
        checked = read_checked(line)
        if checked is not None:
            success, digest, settings, occurrence, source = checked
            if success or not place & 1:
                self._known.add(digest, settings, occurrence, place, success, source)
            if not line.startswith(b'{"index": %d,' % self._lines) and not place & 1:
                self._in_order = False
            return True
        return self._take_in_decoded(line, place)

    def _take_in_decoded(self, line: bytes, place: int) -> bool:
        try:
            text = line.decode()
            row, end = _decode(text)
            if text[end:].strip(" \t\r\n"):
                return False
            key = row.get("key")
            index, success = row["index"], is_answer(row)
            if key is None:
                self._take_in_older(row, index, place, success)
            elif success or not place & 1:
                digest, settings, occurrence = read_key(key)
                source = row.get("source")
                self._known.add(digest, settings, occurrence, place, success, read_source(source) if source else None)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        if index != self._lines and not place & 1:
            self._in_order = False
        return True

    def _take_in_older(self, row: dict[str, Any], index: int, place: int, success: bool) -> None:
        if type(index) is not int:
            raise TypeError(_("index is {index!r}", index=index))
        messages = row.get("input")
        if isinstance(messages, (list, str)) and messages:
            try:
                self._known.add_unkeyed(digest_messages(normalise_messages(messages)), place, success)
                return
            except InputError:
                pass  # another tool's idea of an input
        if success and not place & 1:
            if index in self._by_index:
                self._known.add_extra(place, self._by_index[index])
            else:
                self._by_index[index] = place

    def _check_ours(self, good: int, last: bytes) -> None:
        torn_alone = len(self._damaged) == 1 and not last.endswith(b"\n") and b'{"index": '.startswith(last[:10])
        if not good and not torn_alone and not last.strip(b"\0") == b"":
            raise CheckpointError(
                _(
                    "{path} is there already and is no output file of a batch (line {damaged} has no "
                    "index and output); nothing was changed: name another output file, or move this one away",
                    path=self.path,
                    damaged=self._damaged[0][0],
                )
            )

    def _mend_last(self, line: bytes, end: int) -> None:
        """Close the last line if only its end is missing; cut it off if it is torn."""
        start = end - len(line)
        if self._damaged and self._damaged[-1][1] == start:
            self._damaged.pop()
            self._lines -= 1
            self._output.truncate(start)
            self._say(_("{path}: the last line was torn and is cut off; its row is asked again", path=self.path))
        else:
            self._output.append(b"\n")

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

    def claim(self, digest: int, settings: int) -> Claim:
        """Claim the row with these messages and settings."""
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
            digest, settings, _ = read_key(key)
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
            claim = Claim(claim.occurrence, NOWHERE, False, failed_before=True)
        self._places.append(claim.place)
        return claim

    def _decided_change(self, claim: Claim) -> Claim:
        self.changed += 1
        on_change = self._options.on_change
        if self.changed == 1:
            was = self.read(self._known.place(claim.changed)).get("model")
            found = _(
                "{path} holds answers to the same messages with another model or other parameters (model {was!r})",
                path=self.path,
                was=was,
            )
            if on_change == "fail":
                raise CheckpointError(
                    _(
                        "{found}; they are as they were. Choose what to do with them: on_change=rerun or keep (on the "
                        "command line --on-change)",
                        found=found,
                    )
                )
            aside = _("such rows are asked again, and what was there goes to {name}", name=self.aside_path.name)
            self._say(f"{found}; {'they are kept' if on_change == 'keep' else aside}")
        return self._known.keep(claim.changed) if on_change == "keep" else Claim(claim.occurrence, NOWHERE, False)

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
            raise CheckpointError(
                _("{path} was changed by someone else while it was in use; nothing is lost", path=self.path)
            )
        return row

    def _line(self, place: int) -> bytes:
        if not place & 1:
            return self._output.line_at(place >> 1)
        return self._aside.line_at(place >> 1)

    # --- the end

    def finish(self, *, limited: bool) -> None:
        """Put the file in input order, one line a row. Only for a run in which every row was settled.

        Args:
            limited: The run took only the first rows of its input: all other lines stay, behind them.

        Raises:
            CheckpointError: It could not be done; every answer is still in the file.
        """
        if limited:
            self._output.replace(self._first_rows_then_the_rest())
        elif not self._is_in_order():
            spent = spent_line(self._superseded())
            if spent is not None:
                append_beside(self.aside_path, (spent,))
            put_aside = self._set_aside()
            if put_aside:
                self._say(
                    _(
                        "{put_aside} lines that this input does not ask for were kept in {name}",
                        put_aside=put_aside,
                        name=self.aside_path.name,
                    )
                )
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
                raise CheckpointError(
                    _(
                        "{path} was changed by someone else while it was in use (row {index} is not where it was); it "
                        "was left as it is",
                        path=self.path,
                        index=index,
                    )
                ) from error

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
