"""The only door to pyarrow, which is optional: Parquet files as inputs, as views of an output file, and as data frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from ..errors import ConfigError, InputError
from ..language import _
from .cells import extra_missing, plain
from .tables import TableRow, named_columns
from .views import TableRows, cell_text, unwritable, write_view

ROWS_READ = 1_000
"""Rows that are in memory at the same time, where a row group has more."""

ROWS_WRITTEN = 10_000
"""Rows of one group of a file that is written, at most."""

LETTERS_WRITTEN = 1 << 25
"""Letters after which such a group ends earlier, so that one of long texts or of many columns fits into memory too."""

LETTERS_OF_A_CELL = 64
"""What a cell takes however short it is, counted in letters."""

BYTES_READ = 1 << 25
"""Bytes that the rows which are in memory at the same time have about, where each of them has many."""

BLOCK = 1 << 18


def require_pyarrow(name: str) -> None:
    """Raise ConfigError if pyarrow is not installed; `name` says what needs it."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise extra_missing(name, "pyarrow") from None


# --- in


def parquet_rows(file: IO[bytes], name: str) -> Iterator[TableRow]:
    """Yield the rows of a file as JSON can hold them, one row group after the other.

    Args:
        file: Seekable; it stays open.
        name: What messages call it.

    Raises:
        ConfigError: pyarrow is not installed.
        InputError: It is no Parquet file, is damaged, or two of its columns have the same name.
    """
    with _explained(name):
        opened = _opened(file, name)
        columns = named_columns(opened.schema_arrow.names, name)
        for batch in opened.iter_batches(batch_size=_rows_at_once(opened.metadata)):
            values = [column.to_pylist() for column in batch.columns]
            for cells in zip(*values, strict=True):
                yield dict(zip(columns, map(plain, cells), strict=True))


def parquet_count(file: IO[bytes], name: str) -> int:
    """Return how many rows a file has, without reading them. Arguments and errors are those of `parquet_rows`."""
    with _explained(name):
        count: int = _opened(file, name).metadata.num_rows
        return count


def parquet_frame(file: IO[bytes], name: str, max_num: int | None = None) -> Any:
    """Return a file, or its first rows, as a data frame of pandas; whole numbers stay whole where some are missing.

    Arguments and errors are those of `parquet_rows`; pandas must be there.
    """
    with _explained(name):
        opened = _opened(file, name)
        import pyarrow

        batches = opened.iter_batches(batch_size=ROWS_READ)
        if max_num is not None:
            batches = islice(batches, -(-max_num // ROWS_READ))
        table = pyarrow.Table.from_batches(batches, schema=opened.schema_arrow)
        return table.slice(0, max_num).to_pandas(integer_object_nulls=True)


def _rows_at_once(metadata: Any) -> int:
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(ROWS_READ, BYTES_READ * rows // max(size, 1)))


def _opened(file: IO[bytes], name: str) -> Any:
    require_pyarrow(name)
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(file)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, ConfigError, OSError):
        raise
    except Exception as error:  # pyarrow raises what broken bytes lead it to, not all of one family
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(_("{name} cannot be read as a Parquet file: {reason}", name=name, reason=reason)) from error


# --- out


class ParquetView:
    """A Parquet file: columns and rows are those of `TableView`, each column of the one type that all its cells have.

    Booleans, whole numbers, numbers and texts; a column of several of these, or of lists and objects, is one of texts, which
    are JSON where they are no texts.

    Args:
        path: The file. A symbolic link is followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, lines: Iterable[bytes]) -> None:
        """Write it anew; the lines are walked over three times. Raises CheckpointError; what was there is still there."""
        rows = TableRows(lines)
        try:
            with TemporaryFile(dir=os.path.dirname(os.path.realpath(self.path))) as made:
                self._write(rows, made)
                made.seek(0)
                write_view(self.path, iter(lambda: made.read(BLOCK), b""))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _write(self, rows: TableRows, file: IO[bytes]) -> None:
        import pyarrow
        import pyarrow.parquet

        kinds = [_Kind(_EMPTY.get(name, "string")) for name in rows.columns]
        for cells in rows:
            for kind, cell in zip(kinds, cells, strict=True):
                kind.see(cell)
        types, take = zip(*(kind.settled() for kind in kinds), strict=True)
        names = map(_text, rows.columns)
        schema = pyarrow.schema([(name, pyarrow.type_for_alias(one)) for name, one in zip(names, types, strict=True)])
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for group in _groups(rows):
                columns = zip(*group, strict=True)
                arrays = [
                    pyarrow.array([None if cell is None else made(cell) for cell in column], one.type)
                    for column, made, one in zip(columns, take, schema, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _groups(rows: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    """Yield rows as they stand together in a file: all are in memory, and so are the columns that are made of them."""
    group: list[list[Any]] = []
    letters = 0
    for cells in rows:
        group.append(cells)
        letters += LETTERS_OF_A_CELL * len(cells) + sum(len(cell) for cell in cells if isinstance(cell, str))
        if len(group) >= ROWS_WRITTEN or letters >= LETTERS_WRITTEN:
            yield group
            group, letters = [], 0
    if group:
        yield group


_EMPTY = {"prompt_tokens": "int64", "completion_tokens": "int64", "cost": "float64"}
"""Types of columns of ours in which nothing stands."""


class _Kind:
    """What the cells of one column have in common."""

    def __init__(self, empty: str) -> None:
        self._empty = empty
        self._seen: set[type] = set()
        self._least = self._most = 0

    def see(self, cell: Any) -> None:
        if cell is not None:
            self._seen.add(type(cell))
            if type(cell) is int:
                self._least, self._most = min(self._least, cell), max(self._most, cell)

    def settled(self) -> tuple[str, Callable[[Any], Any]]:
        """Return the name of the column's type, and what makes a cell of it."""
        seen = self._seen
        if not seen:
            return self._empty, _text
        if seen == {bool}:
            return "bool", bool
        if seen == {int} and self._least >= -(1 << 63):
            if self._most < 1 << 63:
                return "int64", int
            if self._least >= 0 and self._most < 1 << 64:
                return "uint64", int
        is_exact = max(-self._least, self._most) <= 1 << 53
        if seen <= {int, float} and float in seen and is_exact:
            return "float64", float
        return "string", _text


def _text(cell: Any) -> str:
    return cell_text(cell).encode("utf-8", "replace").decode()
