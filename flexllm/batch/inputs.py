"""Where the lines of an input come from: files and pipes of JSON lines, JSON arrays and tables, each also compressed.

Whether it is compressed is told by the first bytes, and so are workbooks and Parquet files; what else is in it, by the name
or by the caller. What a row is, is the business of `rows`; a table gives each of its rows as a JSON object, so that all else
is the same for it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, cast

from ..errors import InputError
from ..json_errors import why_no_json
from ..language import _, mark
from ..system_errors import reason_of
from .parquet import parquet_count, parquet_rows, require_pyarrow
from .rows import parse_json
from .shapes import Row
from .tables import TableRow, parse_cells, table_lines, table_rows
from .workbooks import require_openpyxl, workbook_rows

KINDS = ("jsonl", "json", "csv", "tsv", "xlsx", "parquet")
"""What an input may be written in."""

_TYPED = {"xlsx": require_openpyxl, "parquet": require_pyarrow}
"""Tables whose cells have types, and what asks for the package that reads them."""

_NAMED = {".csv": "csv", ".tsv": "tsv", ".xlsx": "xlsx", ".parquet": "parquet"}

BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"
_WORKBOOK = "xl/workbook.xml"
"""What an archive holds that is a workbook. Source: ECMA-376, part 2, and what all programs write."""

_OTHERS = {
    _ZIP: mark("a workbook or a zip archive; save the sheet as CSV (UTF-8), or unpack it"),
    b"\xd0\xcf\x11\xe0": mark("an old workbook, or one with a password; save the sheet as CSV (UTF-8)"),
    b"\x28\xb5\x2f\xfd": mark("compressed by zstd; unpack it (zstd -d), or pipe it in"),
    b"\xfd7zXZ": mark("compressed by xz; unpack it (xz -d), or pipe it in"),
    b"BZh": mark("compressed by bzip2; unpack it (bzip2 -d), or pipe it in"),
}
"""First bytes of files that people have at hand, and what they are. Source: file(1)'s list of them."""


def kind_of(name: str) -> str:
    """Return what a file of that name is written in: "jsonl" if the name does not say. `.gz` is not looked at."""
    return _NAMED.get(os.path.splitext(name.lower().removesuffix(".gz"))[1], "jsonl")


class Input:
    """A file or pipe that is open, and read once.

    Args:
        file: At its beginning.
        name: What messages call it.
        kind: One of KINDS; "jsonl" is an array too if it begins like one.
        sheet: Of a workbook, the name of the sheet, or its number from 0.

    Attributes:
        kind: One of KINDS, as the first bytes have it.
        parse: From one of the lines to its row.

    Raises:
        InputError: It is of a kind that is not known here, or cannot be read.
        ConfigError: A package that is needed to read it is not installed.
    """

    def __init__(self, file: BinaryIO, name: str, kind: str = "jsonl", *, sheet: str | int = 0) -> None:
        self.kind = kind
        self._name = name
        self._sheet = sheet
        self._packed = file
        self._file: IO[bytes] = file
        try:
            self._open()
        except BaseException:  # Ctrl-C too: nobody else can close it
            self.close()
            raise

    def close(self) -> None:
        """Close the file. Who reads it to its end, or counts, has done so."""
        self._file.close()
        self._packed.close()  # the former leaves it open

    def __iter__(self) -> Iterator[bytes]:
        """Yield its rows as lines of JSON, and lines that `parse` explains; then close it.

        Raises:
            InputError: It cannot be read any further.
        """
        with contextlib.closing(self), self._reading():
            yield from self._lines()

    def count(self) -> int:
        """Return how many rows there are, by reading it to its end. Blank lines among JSON lines count too.

        Raises:
            InputError: It cannot be read, or is no array, or no table.
        """
        with contextlib.closing(self), self._reading():
            if self.kind == "jsonl":
                return _count_lines(self._file)
            if self.kind == "parquet":
                return parquet_count(self._file, self._name)
            return sum(1 for _ in (self._rows() if self._is_table else self._elements()))

    @property
    def parse(self) -> Callable[[bytes], Row]:
        """From one of its lines to the row; raises InputError where it is none."""
        return parse_cells if self._is_table else parse_json

    @property
    def _is_table(self) -> bool:
        return self.kind not in ("jsonl", "json")

    def _open(self) -> None:
        start = self._start()
        is_compressed = start.startswith(_GZIP)
        if is_compressed:
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._file, mode="rb"))
            start = self._start()
        if start.startswith(_PARQUET):
            self.kind = "parquet"
        elif start.startswith(_ZIP) and self._is_workbook():
            self.kind = "xlsx"
        else:
            self._refuse_others(start)
        if self.kind in _TYPED:
            _TYPED[self.kind](self._name)
            self._check_seekable(is_compressed)
        elif self.kind == "jsonl" and start.removeprefix(_BOM).lstrip().startswith(b"["):
            self.kind = "json"

    def _refuse_others(self, start: bytes) -> None:
        for magic, what in _OTHERS.items():
            if start.startswith(magic):
                raise InputError(_("{name} is {what}; nothing was sent", name=self._name, what=_(what)))
        if self.kind == "xlsx":
            raise InputError(_("{name} is no workbook (.xlsx); nothing was sent", name=self._name))
        if self.kind == "parquet":
            raise InputError(_("{name} is no Parquet file; nothing was sent", name=self._name))

    def _is_workbook(self) -> bool:
        """Return whether an archive is a workbook; of one that cannot be looked into, whether it is called so."""
        if not self._packed.seekable() or self._file is not self._packed:
            return self.kind == "xlsx"
        try:
            with zipfile.ZipFile(self._packed) as archive:
                return _WORKBOOK in archive.namelist()
        except zipfile.BadZipFile:
            return self.kind == "xlsx"
        finally:
            self._packed.seek(0)

    def _check_seekable(self, is_compressed: bool) -> None:
        """Refuse what can be read from its beginning to its end alone."""
        if is_compressed:
            raise InputError(_("{name} is compressed by gzip once more; unpack it first (gunzip)", name=self._name))
        if not self._file.seekable():
            raise InputError(
                _("{name} is a pipe, and a workbook or a Parquet file has to be a file; name it", name=self._name)
            )

    def _start(self) -> bytes:
        """Return the first bytes, as many as have come: a pipe may have but few."""
        with self._reading():
            return cast("io.BufferedReader", self._file).peek(64)[:64]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what goes wrong with the file into InputError."""
        try:
            yield
        except EOFError:
            raise InputError(_("{name} ends too early: the compressed file is not whole", name=self._name)) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            reason = _("{name} is damaged and cannot be decompressed ({error})", name=self._name, error=error)
            raise InputError(reason) from error
        except OSError as error:
            reason = _("{name} cannot be read: {reason}", name=self._name, reason=reason_of(error))
            raise InputError(reason) from error

    def _lines(self) -> Iterator[bytes]:
        if self.kind == "jsonl":
            return iter(self._file)
        return table_lines(self._rows()) if self._is_table else self._elements()

    def _rows(self) -> Iterator[TableRow]:
        if self.kind == "xlsx":
            return workbook_rows(self._file, self._name, self._sheet)
        if self.kind == "parquet":
            return parquet_rows(self._file, self._name)
        return table_rows(self._file, self._name, "\t" if self.kind == "tsv" else None)

    def _elements(self) -> Iterator[bytes]:
        """Yield the elements of an array as they stand. It is looked at whole before the first one goes on."""
        data, name = self._file.read(), self._name
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = _("{name} is not UTF-8 at byte {place}; nothing was sent", name=name, place=error.start + 1)
            raise InputError(reason) from None
        try:
            yield from [text[start:end].encode() for start, end in _spans(text)]
        except json.JSONDecodeError as error:
            reason = _(
                "{name} begins like a JSON array, and is none: {error} in line {line}, column {column}; nothing was sent",
                name=name,
                error=why_no_json(error),
                line=error.lineno,
                column=error.colno,
            )
            raise InputError(reason) from None
        except RecursionError:
            raise InputError(_("{name} is nested too deeply; nothing was sent", name=name)) from None
        except ValueError:
            raise InputError(_("{name} holds a number of thousands of digits; nothing was sent", name=name)) from None


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the elements of an array begin and end. Raises json.JSONDecodeError where it is none."""
    position = _behind_blanks(text, _behind_blanks(text, 0) + 1)  # its bracket
    if not text.startswith("]", position):
        while True:
            end = _decode(text, position)[1]
            yield position, end
            position = _behind_blanks(text, end)
            if not text.startswith(",", position):
                break
            position = _behind_blanks(text, position + 1)
        if not text.startswith("]", position):
            raise json.JSONDecodeError(mark("Expecting ',' delimiter"), text, position)
    end = _behind_blanks(text, position + 1)
    if end != len(text):
        raise json.JSONDecodeError(mark("Extra data"), text, end)


def _behind_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return position if found is None else found.end()


def _count_lines(file: IO[bytes]) -> int:
    count, last = 0, b"\n"
    while block := file.read(BLOCK):
        count += block.count(b"\n")
        last = block[-1:]
    return count + (last != b"\n")


_BLANKS = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode
