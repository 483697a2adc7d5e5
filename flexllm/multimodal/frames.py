"""The only door to pandas, which is optional: tables of files as data frames, and what stands in the cells of one.

Text tables are read as `flexllm batch` reads them: every cell is the text that it is, "007" and "NA" too, and an empty one is
an empty text. Workbooks and Parquet files know types, and keep them.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

from ..batch.cells import extra_missing, is_nothing
from ..batch.inputs import Input, kind_of
from ..batch.parquet import parquet_frame
from ..batch.shapes import names_of
from ..batch.tables import misfit
from ..batch.workbooks import workbook_cells
from ..errors import ConfigError, InputError
from ..language import _
from ..system_errors import reason_of

if TYPE_CHECKING:
    from pandas import DataFrame as DataFrame  # for others too
else:
    DataFrame = Any


LONGEST_CELL = 1 << 30
"""Characters; the csv module's own 131,072 are few for a document."""

EXACT = 1 << 53
"""Whole numbers up to this one are exact as numbers with a point too, which pandas makes of them where some are missing."""


def require_pandas(name: str) -> None:
    """Raise ConfigError if pandas is not installed; `name` says what needs it."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise extra_missing(name, "pandas") from None


def load_frame(path: str, sheet_name: str | int, max_num: int | None) -> DataFrame:
    """Return the table of a file, or its first rows.

    Args:
        sheet_name: Of a workbook: the name of the sheet, or its number from 0.

    Raises:
        ConfigError: A package that reads it is not installed.
        InputError: It cannot be read, is no table or holds no rows; or a row of it does not fit.
    """
    require_pandas(path)
    import pandas

    try:
        with open(path, "rb", buffering=1 << 18) as file:
            source = Input(file, path, kind_of(path))
            if source.kind == "parquet":
                return parquet_frame(file, path, max_num)
            with _long_cells():
                columns, rows = _cells(source, file, path, sheet_name)
                fitting = list(islice(_fitting(columns, rows, path), max_num))
    except OSError as error:
        raise InputError(_("{name} cannot be read: {reason}", name=path, reason=reason_of(error))) from None
    cells = zip(*fitting, strict=True) if fitting else ([] for _unused in columns)
    return pandas.DataFrame({name: _series(list(values)) for name, values in zip(columns, cells, strict=True)})


def _series(values: list[Any]) -> Any:
    """Return cells as a column of the type that they have in common; of objects, where a number would lose digits by it."""
    import pandas

    series = pandas.Series(values, dtype=object)
    whole = [value for value in values if type(value) is int]
    has_floats = any(isinstance(value, float) for value in values)
    if len(whole) < len(values) and whole and (not has_floats or max(map(abs, whole)) > EXACT):
        return series
    return series.infer_objects()


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Let a cell hold a document while a table is read, and leave the csv module as the program has it otherwise."""
    usual = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _cells(source: Input, file: BinaryIO, name: str, sheet_name: str | int) -> tuple[list[str], Iterator[list[Any]]]:
    if source.kind == "xlsx":
        return workbook_cells(file, name, sheet_name)
    if source.kind in ("csv", "tsv"):
        return _text_cells(source, name)
    raise InputError(_("{name} is no table: its name must end in .csv, .tsv, .xlsx or .parquet", name=name))


def _text_cells(source: Input, name: str) -> tuple[list[str], Iterator[list[Any]]]:
    rows = _parsed(source, name)
    first = next(rows, None)
    if first is None:
        raise InputError(_("{name} holds no rows; nothing was sent", name=name))
    return list(first), (list(row.values()) for row in chain([first], rows))


def _parsed(source: Input, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(source):
        try:
            yield source.parse(line)
        except InputError as error:
            raise InputError(_("{name}, row {number}: {error}", name=name, number=number, error=error)) from None


def _fitting(columns: list[str], rows: Iterable[list[Any]], name: str) -> Iterator[list[Any]]:
    """Yield rows that have a cell for each column, which those of workbooks need not have."""
    for number, cells in enumerate(rows):
        if len(cells) > len(columns):
            reason = misfit(len(cells), len(columns))
            raise InputError(_("{name}, row {number}: {error}", name=name, number=number, error=reason))
        yield [*cells, *[None] * (len(columns) - len(cells))]


# --- what stands in one


def check_frame(frame: Any) -> None:
    """Raise ConfigError if something is no data frame of pandas, or there is no pandas."""
    require_pandas("call_dataframe")
    import pandas

    if not isinstance(frame, pandas.DataFrame):
        raise ConfigError(_("df must be a data frame of pandas, not of type {kind}", kind=type(frame).__name__))


def check_column(frame: DataFrame, column: Any) -> None:
    """Raise InputError if a frame has no such column, or several; ConfigError if that can be the name of none."""
    if not isinstance(column, Hashable):
        raise ConfigError(
            _("a column is named by one value, such as a text, not by one of type {kind}", kind=type(column).__name__)
        )
    labels = list(frame.columns)
    count = labels.count(column)
    if count == 1:
        return
    if count:
        raise InputError(
            _("the table has {count} columns named {column!r}; rename all but one", count=count, column=column)
        )
    texts = [label for label in labels if isinstance(label, str)]
    near = difflib.get_close_matches(str(column), texts, n=1)
    if near:
        raise InputError(_("the table has no column {column!r}; did you mean {near!r}?", column=column, near=near[0]))
    fields = names_of(dict.fromkeys(labels))
    raise InputError(_("the table has no column {column!r}, only {fields}", column=column, fields=fields))


def check_new_column(frame: DataFrame, column: Any) -> None:
    """Raise ConfigError if a frame has a column already that is to be added."""
    if column in list(frame.columns.get_level_values(0)):  # of several levels, the first is what the column is set by
        raise ConfigError(
            _(
                "the table has a column {column!r} already, which is not overwritten; give another result_col",
                column=column,
            )
        )


def cells_of(frame: DataFrame, column: Any) -> list[Any]:
    """Return the cells of a column: None for what is missing, and a list for an array, as pandas reads lists from files."""
    return [_cell(cell) for cell in frame[column].tolist()]


def _cell(cell: Any) -> Any:
    if getattr(cell, "shape", ()) != () and callable(getattr(cell, "tolist", None)):
        return cell.tolist()
    return None if is_nothing(cell) else cell


def with_columns(frame: DataFrame, added: dict[Any, list[Any]]) -> DataFrame:
    """Return a frame with columns behind its own, and its index; the frame itself is not changed."""
    import pandas

    made = frame.copy(deep=False)
    for column, values in added.items():
        made[column] = pandas.Series(values, index=made.index, dtype=object)  # None stays None
    return made
