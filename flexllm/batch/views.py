"""Files that are made from an output file: tables, failed rows, each also compressed. Replaced as a whole, or not at all.

A table of texts is RFC 4180 for `.csv`, with the byte order mark by which spreadsheets know UTF-8; `.tsv` is for other tools,
has tabs and single line feeds instead and no mark. Quotes stand round what holds a separator, a quote or a line's end.
Workbooks and Parquet files have modules of their own, which take their columns and cells from here.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import check_replaceable, remove_leftovers, replace_file
from ..language import _
from ..system_errors import reason_of
from .lines import is_answer, is_failed

OWN_COLUMNS = ("output", "status", "error", "model", "prompt_tokens", "completion_tokens", "cost")
"""The columns behind the fields of the input."""

_OF_A_FAILED_ROW = re.compile(rb'\{"index": \d+, "output": null, "status": "error"')


class LinesView:
    """The lines themselves, one after the other.

    Args:
        path: The file; compressed if its name ends in `.gz`. A symbolic link is followed.
        failed_alone: Only those of rows that have no answer because they failed.
    """

    def __init__(self, path: Path, *, failed_alone: bool = False) -> None:
        self.path = path
        self._failed_alone = failed_alone

    def write(self, lines: Iterable[bytes]) -> None:
        """Write it anew. Raises CheckpointError; what was there is then still there."""
        write_view(self.path, filter(_has_failed, lines) if self._failed_alone else lines)


class TableView:
    """A table: the row's own fields in the order in which they are first seen, then OWN_COLUMNS.

    A field of the input that has the name of one of these is called `input.NAME`. Values that are no texts are JSON,
    nothing is an empty cell, and half a character, which models do send, a question mark.

    Args:
        path: The file, `.csv` or `.tsv`; compressed if its name ends in `.gz`. A symbolic link is followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_csv = not path.name.lower().removesuffix(".gz").endswith(".tsv")

    def write(self, lines: Iterable[bytes]) -> None:
        """Write it anew; the lines are walked over twice. Raises CheckpointError; what was there is then still there."""
        write_view(self.path, self._rows(TableRows(lines)))

    def _rows(self, rows: TableRows) -> Iterator[bytes]:
        separator, end = (",", "\r\n") if self._is_csv else ("\t", "\n")
        special = re.compile(f'[{separator}"\r\n]')

        def encoded(cells: Iterable[str]) -> bytes:
            quoted = (_quoted(cell) if special.search(cell) else cell for cell in cells)
            return (separator.join(quoted) + end).encode("utf-8", "replace")

        mark = b"\xef\xbb\xbf" if self._is_csv else b""
        yield mark + encoded(rows.columns)
        for *cells, cost in rows:
            yield encoded([*map(cell_text, cells), cell_text(_dollars(cost))])


class TableRows:
    """The lines of an output file as rows of a table; they may be walked over again.

    Attributes:
        columns: Their names: those of the fields, in the order in which they are first seen, and OWN_COLUMNS.
        count: How many rows there are.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.count = 0
        self._lines = lines
        fields: dict[str, None] = {}
        for line in lines:
            self.count += 1
            fields.update(dict.fromkeys(_fields_of(json.loads(line))))
        self._fields = list(fields)
        self.columns = [*column_names(fields), *OWN_COLUMNS]

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the cells of each row, as JSON has them; the last is the cost, in US dollars."""
        for line in self._lines:
            row = json.loads(line)
            own = _fields_of(row)
            yield [*map(own.get, self._fields), *_own_values(row)]


def column_names(fields: Iterable[str]) -> list[str]:
    """Return what the columns of an input's fields are called: none like another, and none like one of ours."""
    fields = list(fields)
    taken = {*OWN_COLUMNS, *(name for name in fields if name not in OWN_COLUMNS)}
    names = []
    for name in fields:
        if name in OWN_COLUMNS:
            name = f"input.{name}"
            while name in taken:
                name = f"input.{name}"
            taken.add(name)
        names.append(name)
    return names


def _fields_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = row.get("metadata")
    if isinstance(metadata, dict):
        return metadata
    return {} if metadata is None else {"metadata": metadata}


def _own_values(row: Mapping[str, Any]) -> Iterator[Any]:
    error = row.get("error")
    told = error if isinstance(error, dict) else {"message": error}
    found = row.get("usage") or told.get("usage")
    usage: Mapping[str, Any] = found if isinstance(found, dict) else {}
    yield row.get("output")
    yield row.get("status")
    yield ": ".join(str(told[name]) for name in ("class", "message") if told.get(name)) or None
    yield row.get("model")
    yield usage.get("prompt_tokens")
    yield usage.get("completion_tokens")
    yield row.get("cost", told.get("cost"))


def _dollars(cost: Any) -> Any:
    """Return a cost without an exponent, which not every table program reads."""
    return f"{cost:.12f}".rstrip("0").rstrip(".") if isinstance(cost, float) else cost


def cell_text(value: Any) -> str:
    """Return a cell as a text: JSON, where it is none, and "" for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _has_failed(line: bytes) -> bool:
    """Return whether a line, be it an older one, holds an error."""
    if is_failed(line):
        return True
    if b'"error"' not in line:
        return False
    row = json.loads(line)
    return row.get("status") == "error" and not is_answer(row)


# --- files


def check_view(path: Path, made_from: Path | None = None) -> None:
    """Refuse a name under which no view can be written, or where something else is, before anything is sent.

    What earlier runs left beside it when they were killed is removed.

    Args:
        made_from: The output file of a view that shows all rows; None for one of failed rows.

    Raises:
        CheckpointError: It says why.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        reason = _("the folder {folder} does not exist", folder=real.parent)
        raise CheckpointError(_("{path} cannot be written: {reason}", path=path, reason=reason))
    try:
        is_there = real.exists()
        if is_there and not real.is_file():
            raise CheckpointError(_("{path} is there already and is no regular file; name another one", path=path))
        check_replaceable(real)
        remove_leftovers(real)
        if is_there and made_from is not None and not made_from.exists():
            raise CheckpointError(
                _(
                    "{path} is there already, and {checkpoint}, from which it would be made, is not; nothing was changed: "
                    "name another output file, or move this one away",
                    path=path,
                    checkpoint=made_from.name,
                )
            )
        if is_there and made_from is None and not _holds_failures(real):
            raise CheckpointError(
                _(
                    "{path} is there already and holds something else than failed rows; nothing was changed: name another "
                    "file, or move this one away",
                    path=path,
                )
            )
    except OSError as error:
        raise unwritable(path, error) from error


def _holds_failures(path: Path) -> bool:
    with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
        try:
            start = file.read(64)
        except (OSError, EOFError):
            return False
    return not start or _OF_A_FAILED_ROW.match(start) is not None


def unwritable(path: Path, error: OSError) -> CheckpointError:
    """Return what is raised where a file cannot be written."""
    return CheckpointError(_("{path} cannot be written: {reason}", path=path, reason=reason_of(error)))


def write_view(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file, or make it, compressed if its name ends in `.gz`. Raises CheckpointError; see `replace_file`."""
    real = Path(os.path.realpath(path))
    try:
        replace_file(real, _packed(pieces) if real.name.lower().endswith(".gz") else pieces)
    except OSError as error:
        raise unwritable(path, error) from error


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield them compressed as gzip does: without name and time, so that the same pieces give the same bytes."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
