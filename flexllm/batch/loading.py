"""What earlier runs left, taken in when an output file is opened: which rows are answered, where, and what is damaged.

A line of our own making is known by its check and not decoded; any other is decoded, and taken for what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..digest import digest_messages
from ..errors import CheckpointError, InputError
from ..language import _, plural
from ..messages import normalise_messages
from .known import KnownRows
from .lines import is_answer, read_checked, read_key, read_source
from .output import OutputFile, OutputView, cannot_read

_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True)
class Found:
    """What is in an output file and in the file beside it.

    A place is twice the offset of a line, and one more in the file beside.

    Attributes:
        known: The rows that have a line, by what they ask.
        by_index: The places of answered rows that hold neither key nor input, by their index.
        damaged: Lines of the output file that are none: their number, from 1, and their offset.
        lines: How many lines the output file has, apart from a torn one.
        in_order: Each of them stands where its index says.
    """

    known: KnownRows = field(default_factory=KnownRows)
    by_index: dict[int, int] = field(default_factory=dict)
    damaged: list[tuple[int, int]] = field(default_factory=list)
    lines: int = 0
    in_order: bool = True


def load(
    path: Path, output: OutputFile | OutputView, aside: Path, say: Callable[[str], None], *, finds_failures: bool
) -> Found:
    """Take in an output file and the file beside it. A last line without its end is closed, or cut off if it is torn.

    Args:
        path: What the user calls the output file.
        say: Told what the user should know, one sentence at a time.
        finds_failures: Rows that failed are looked for, too.

    Raises:
        CheckpointError: It is no output file, or cannot be read. Nothing was changed.
    """
    loading = _Loading(path, output, say)
    loading.found.known.finds_failures = finds_failures
    loading.take_in_output()
    if aside.exists():
        loading.take_in_aside(aside)
    return loading.found


class _Loading:
    """Takes in lines, one by one."""

    def __init__(self, path: Path, output: OutputFile | OutputView, say: Callable[[str], None]) -> None:
        self.found = Found()
        self._path = path
        self._output = output
        self._say = say

    def take_in_output(self) -> None:
        """Take in the output file, and say what is wrong with it."""
        found = self.found
        offset = good = 0
        line = b""
        for number, line in enumerate(self._output.lines(), 1):
            if self._take_in(line, offset * 2):
                good += 1
            elif line.isspace():
                found.in_order = False
            else:
                found.damaged.append((number, offset))
            offset += len(line)
            found.lines = number
        if found.damaged:
            self._check_ours(good, line)
        if line and not line.endswith(b"\n"):
            self._mend_last(line, offset)
        self._tell()

    def _tell(self) -> None:
        path = self._path
        for number, _offset in self.found.damaged:
            told = _(
                "{path}, line {number} is damaged; it is kept aside and its row is asked again",
                path=path,
                number=number,
            )
            self._say(told)
        if self.found.by_index:
            told = plural(
                "{path}: {count} row holds neither key nor input; it is taken by its index, which is right only if the input "
                "is the same and in the same order",
                "{path}: {count} rows hold neither key nor input; they are taken by their index, which is right only if the "
                "input is the same and in the same order",
                len(self.found.by_index), path=path,
            )  # fmt: skip
            self._say(told)

    def take_in_aside(self, aside: Path) -> None:
        """Take in the file beside the output file."""
        offset = 0
        try:
            with open(aside, "rb", buffering=1 << 18) as file:
                for line in file:
                    self._take_in(line, offset * 2 + 1)
                    offset += len(line)
        except OSError as error:
            raise cannot_read(aside, error) from error

    def _take_in(self, line: bytes, place: int) -> bool:
        """Remember what a line answers. Return False if it is no line of an output file."""
        checked = read_checked(line)
        if checked is not None:
            success, digest, settings, occurrence, source = checked
            found = self.found
            if success or not place & 1:
                found.known.add(digest, settings, occurrence, place, success, source)
            if not line.startswith(b'{"index": %d,' % found.lines) and not place & 1:
                found.in_order = False
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
                number = read_source(source) if source else None
                self.found.known.add(digest, settings, occurrence, place, success, number)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        if index != self.found.lines and not place & 1:
            self.found.in_order = False
        return True

    def _take_in_older(self, row: dict[str, Any], index: int, place: int, success: bool) -> None:
        if type(index) is not int:
            raise TypeError(f"index is {index!r}")
        found, messages = self.found, row.get("input")
        if isinstance(messages, (list, str)) and messages:
            try:
                found.known.add_unkeyed(digest_messages(normalise_messages(messages)), place, success)
                return
            except InputError:
                pass  # another tool's idea of an input
        if success and not place & 1:
            if index in found.by_index:
                found.known.add_extra(place, found.by_index[index])
            else:
                found.by_index[index] = place

    def _check_ours(self, good: int, last: bytes) -> None:
        damaged = self.found.damaged
        torn_alone = len(damaged) == 1 and not last.endswith(b"\n") and b'{"index": '.startswith(last[:10])
        if not good and not torn_alone and last.strip(b"\0"):
            told = _(
                "{path} is there already and is no output file of a batch (line {number} has no index and output); nothing "
                "was changed: name another output file, or move this one away",
                path=self._path, number=damaged[0][0],
            )  # fmt: skip
            raise CheckpointError(told)

    def _mend_last(self, line: bytes, end: int) -> None:
        """Close the last line if only its end is missing; cut it off if it is torn."""
        found, start = self.found, end - len(line)
        if found.damaged and found.damaged[-1][1] == start:
            found.damaged.pop()
            found.lines -= 1
            self._output.truncate(start)
            self._say(_("{path}: the last line was torn and is cut off; its row is asked again", path=self._path))
        else:
            self._output.append(b"\n")
