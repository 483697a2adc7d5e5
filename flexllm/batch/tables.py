"""Tables, as spreadsheets export them, turned into lines of JSON: the first line names the fields, each other is a row.

A line is an object (of texts, where the table is one of texts) or, for a row that does not fit, a text that says why. Source
of the form of a text: RFC 4180, and what Excel, LibreOffice and pandas write.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, cast

from ..errors import InputError
from ..language import _, plural
from .shapes import Cells, Row

DELIMITERS = ",;\t"
"""Spreadsheets separate columns by what their country does not need as a decimal mark."""

TableRow = Row | str
"""A row, or why it is none."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def table_rows(file: IO[bytes], name: str, delimiter: str | None = None) -> Iterator[TableRow]:
    """Yield the rows of a table. One with a cell that is longer than `csv.field_size_limit()` is none.

    Args:
        name: What messages call the file.
        delimiter: Between the columns; None finds it from the first line.

    Raises:
        InputError: The first line cannot be names of fields; nothing was yielded.
    """
    # What is no UTF-8 stands as half characters, so that it costs its own row and not the whole file.
    text = io.TextIOWrapper(cast("io.BufferedReader", file), "utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = _Lines(text)
        _check_encoding(lines.first, name)
        rows = csv.reader(lines, delimiter=delimiter or _delimiter_of(lines.first), strict=True)
        yield from _rows(rows, lines, _columns(rows, name))
    finally:
        with contextlib.suppress(ValueError):  # who did not read it to its end may have closed it
            text.detach()  # the file is the caller's


def _rows(rows: Iterator[list[str]], lines: _Lines, columns: list[str]) -> Iterator[TableRow]:
    while True:
        start = lines.count
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _problem(error, lines, start)
            continue
        if len(cells) == len(columns):
            yield dict(zip(columns, cells, strict=True))
        elif any(map(str.strip, cells)):  # else a blank line
            yield misfit(len(cells), len(columns))


def misfit(cells: int, columns: int) -> str:
    """Return what is said of a row that has more or fewer cells than the table has columns."""
    found = plural("{count} cell", "{count} cells", cells)
    named = plural("{count} column", "{count} columns", columns)
    return _("{cells} where the first line names {columns}", cells=found, columns=named)


def table_lines(rows: Iterator[TableRow]) -> Iterator[bytes]:
    """Yield rows as lines of JSON; what is no row as a text, which `parse_table` explains."""
    for row in rows:
        try:
            yield _encode(row).encode()
        except UnicodeEncodeError:
            yield _encode(
                _("not UTF-8; save the table as CSV in UTF-8, or convert it (iconv -f GB18030 -t UTF-8)")
            ).encode()


def parse_table(line: bytes) -> Row:
    """Return the row that a line of `table_lines` is. Raises InputError, saying why, if it is none."""
    row = json.loads(line)
    if isinstance(row, str):
        raise InputError(row)
    parsed: Row = row
    return parsed


def parse_cells(line: bytes) -> Row:
    """Return the row that a line of `table_lines` is, as one of cells. Raises as `parse_table` does."""
    return Cells(parse_table(line))


class _Lines:
    """The lines of a table, counted: csv's own `line_num` stands still where a row fails.

    Attributes:
        first: The first that is not blank, "" if there is none; it is yielded first.
        count: How many have been yielded, with the blank ones before.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.count = 0
        self.is_at_end = False
        self.first = ""
        self._lines = lines
        for line in lines:
            if line.strip():
                self.first = line
                self._lines = chain([line], lines)
                break
            self.count += 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.is_at_end = True
            raise
        self.count += 1
        return line


def _columns(rows: Iterator[list[str]], name: str) -> list[str]:
    try:
        return named_columns(next(rows, []), name)
    except csv.Error as error:
        reason = _("the first line cannot be read as names of columns: {error}; nothing was sent", error=error)
        raise InputError(f"{name}: {reason}") from None


def named_columns(cells: Iterable[str], name: str) -> list[str]:
    """Return the names of the columns; one without a name is called by its number, as `column_1`.

    Raises:
        InputError: Two have the same; `name` is what messages call the table.
    """
    columns = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
    known: set[str] = set()
    for column in columns:
        if column in known:
            reason = _("two columns are named {column!r}; rename one of them, nothing was sent", column=column)
            raise InputError(f"{name}: {reason}")
        known.add(column)
    return columns


def _check_encoding(first: str, name: str) -> None:
    encoding = _utf_16(first)
    if encoding is None:
        try:
            first.encode()
        except UnicodeEncodeError:
            advice = _("save the table as CSV in UTF-8, or convert it (iconv -f GB18030 -t UTF-8)")
        else:
            return
    else:
        advice = _("convert it to UTF-8 (iconv -f {encoding} -t UTF-8)", encoding=encoding)
    raise InputError(_("{name} is not UTF-8: {advice}; nothing was sent", name=name, advice=advice))


def _utf_16(first: str) -> str | None:
    """Return what iconv calls the kind of UTF-16 that a line is in, which was read as UTF-8; None if it is in none.

    Without a mark it is known by the nulls beside its separators and Latin letters: names of columns hold none.
    """
    if first.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        return "UTF-16"
    if "\0" not in first:
        return None
    units = first.encode("utf-8", "surrogateescape")
    return "UTF-16LE" if units[1::2].count(0) >= units[::2].count(0) else "UTF-16BE"


def _delimiter_of(first: str) -> str:
    """Return what separates the names of the columns: of several, what is there most often outside of quotes."""
    bare = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def _problem(error: csv.Error, lines: _Lines, start: int) -> str:
    if lines.is_at_end:
        return _(
            "the quotes that begin in line {line} are never closed, so that all behind them belongs to one cell",
            line=start + 1,
        )
    return _("not readable as a row of a table: {error}", error=error)
