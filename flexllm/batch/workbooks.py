"""The only door to openpyxl, which is optional: workbooks (.xlsx) as inputs, and as views of an output file.

A sheet is read row by row and written row by row, so that none is ever whole in memory. Source of the limits: Microsoft,
"Excel specifications and limits".
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from ..errors import CheckpointError, ConfigError, InputError
from ..language import _
from .cells import extra_missing, plain
from .tables import TableRow, misfit, named_columns
from .views import TableRows, cell_text, unwritable, write_view

MOST_ROWS = 1_048_576
MOST_COLUMNS = 16_384
MOST_LETTERS = 32_767
"""Of one cell, counted in units of UTF-16."""

EXACT = 10**15
"""Whole numbers below this are exact: a spreadsheet keeps fifteen digits."""

BLOCK = 1 << 18

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""A letter in a text, such as _x000D_ for a carriage return. Source: ECMA-376, part 1, 22.9.2.19 (ST_Xstring)."""

_FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Source: XML 1.0, 2.2; half characters are gone before."""


def require_openpyxl(name: str) -> None:
    """Raise ConfigError if openpyxl is not installed; `name` says what needs it."""
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise extra_missing(name, "openpyxl") from None


# --- in


def workbook_rows(file: IO[bytes], name: str, sheet: str | int = 0) -> Iterator[TableRow]:
    """Yield the rows of a sheet as JSON can hold them; the first row that is not blank names the columns.

    Args:
        file: At its beginning, and seekable; it stays open.
        name: What messages call it.
        sheet: Its name, or its number from 0.

    Raises:
        ConfigError: openpyxl is not installed.
        InputError: It is no workbook, has no such sheet, or its first row cannot be names.
    """
    columns, rows = workbook_cells(file, name, sheet)
    for cells in rows:
        if len(cells) > len(columns):
            yield misfit(len(cells), len(columns))
        else:
            values = map(_value, cells)
            yield {column: next(values, None) for column in columns}


def workbook_cells(file: IO[bytes], name: str, sheet: str | int = 0) -> tuple[list[str], Iterator[list[Any]]]:
    """Return the columns of a sheet, and its other rows as openpyxl has them: without blank ones and blank ends.

    Of a formula there is the value that the spreadsheet saved last. Arguments and errors are those of `workbook_rows`.
    """
    rows = _rows(file, name, sheet)
    header = next(rows, [])
    columns = ["" if cell is None else str(plain(_value(cell))) for cell in header]
    return named_columns(columns, name), rows


def _rows(file: IO[bytes], name: str, sheet: str | int) -> Iterator[list[Any]]:
    require_openpyxl(name)
    import openpyxl

    with _explained(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it does not know: styles, validations, print areas
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            found = _sheet(book, name, sheet)
            found.reset_dimensions()  # what programs write there need not be true
            for cells in found.iter_rows(values_only=True):
                cut = _without_blank_end(cells)
                if cut:
                    yield cut
        finally:
            book.close()


def _sheet(book: Any, name: str, sheet: str | int) -> Any:
    sheets = {one.title: one for one in book.worksheets}
    if not sheets:
        raise InputError(_("{name} has no sheet with cells; nothing was sent", name=name))
    if isinstance(sheet, int) and 0 <= sheet < len(sheets):
        return book.worksheets[sheet]
    if sheet in sheets:
        return sheets[str(sheet)]
    titles = ", ".join(map(repr, sheets))
    raise InputError(
        _("{name} has no sheet {sheet!r}, only {titles}; nothing was sent", name=name, sheet=sheet, titles=titles)
    )


def _without_blank_end(cells: tuple[Any, ...]) -> list[Any]:
    end = len(cells)
    while end and (cells[end - 1] is None or cells[end - 1] == ""):
        end -= 1
    return [_unescaped(cell) if isinstance(cell, str) and "_x" in cell else cell for cell in cells[:end]]


def _unescaped(text: str) -> str:
    """Return a text with the letters that the spreadsheet has escaped; half a character stays as it stands."""

    def letter(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return found[0] if 0xD800 <= code < 0xE000 else chr(code)

    return _ESCAPED.sub(letter, text)


def _value(cell: Any) -> Any:
    """Return a cell as JSON can hold it. A workbook has no dates without a time: at midnight, one is meant."""
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return plain(cell)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, ConfigError, OSError):
        raise
    except Exception as error:  # openpyxl raises whatever broken bytes lead it to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(_("{name} cannot be read as a workbook: {reason}", name=name, reason=reason)) from error


# --- out


class WorkbookView:
    """A workbook with one sheet: columns and rows are those of `TableView`, and numbers are numbers.

    A text never becomes a formula. One that is longer than a cell may be is cut, and says so at its end; letters that
    no workbook can hold are question marks; whole numbers of more than fifteen digits are texts, so as to stay exact.

    Args:
        path: The file. A symbolic link is followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, lines: Iterable[bytes]) -> None:
        """Write it anew; the lines are walked over twice. Raises CheckpointError; what was there is then still there."""
        rows = TableRows(lines)
        self._check_size(rows)
        try:
            with TemporaryFile(dir=os.path.dirname(os.path.realpath(self.path))) as made:  # a zip archive wants to seek
                self._book(rows).save(made)
                made.seek(0)
                write_view(self.path, iter(lambda: made.read(BLOCK), b""))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _check_size(self, rows: TableRows) -> None:
        if rows.count >= MOST_ROWS or len(rows.columns) > MOST_COLUMNS:
            raise CheckpointError(
                _(
                    "{path} cannot be written: a sheet holds {most_rows:,} rows and {most_columns:,} columns at most, and "
                    "these are more; name an output that ends in .csv or .parquet",
                    path=self.path,
                    most_rows=MOST_ROWS,
                    most_columns=MOST_COLUMNS,
                )
            )

    def _book(self, rows: TableRows) -> Any:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell

        book = Workbook(write_only=True)
        sheet = book.create_sheet("output")

        def made(value: Any) -> Any:
            value = _written(value)
            if isinstance(value, str):
                value = WriteOnlyCell(sheet, _FORBIDDEN.sub("?", _ESCAPED.sub(r"_x005F\g<0>", value)))
                value.data_type = "s"  # else one that begins with = is a formula
            return value

        try:
            sheet.append(list(map(made, rows.columns)))
            for cells in rows:
                sheet.append(list(map(made, cells)))
        except BaseException:
            sheet.close()  # it holds a file of its own
            raise
        return book


def _written(value: Any) -> Any:
    """Return what stands in a cell for a value of JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) < (math.inf if isinstance(value, float) else EXACT):
        return value
    text = cell_text(value).encode("utf-8", "replace").decode()
    if len(text) <= MOST_LETTERS // 2 or _units(text) <= MOST_LETTERS:
        return text
    end = _(" … (cut here: a cell holds no more; the whole text is in the .jsonl beside this file)")
    return text.encode("utf-16-le")[: 2 * (MOST_LETTERS - _units(end))].decode("utf-16-le", "ignore") + end


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
