"""Where the lines of an input come from: files and pipes of JSON lines, JSON arrays and tables, each also compressed.

Whether it is compressed is told by the first bytes, what is in it by the name, or by the caller. What a row is, is the
business of `rows`; a table gives each of its rows as a JSON object, so that all else is the same for it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, cast

from ..errors import InputError
from ..language import _, mark
from .rows import parse_json
from .shapes import Row
from .tables import TableRow, parse_table, table_lines, table_rows

KINDS = ("jsonl", "json", "csv", "tsv")
"""What an input may be written in."""

BLOCK = 1 << 18
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": mark("a workbook or a zip archive; save the sheet as CSV (UTF-8), or unpack it"),
    b"\xd0\xcf\x11\xe0": mark("an old workbook; save the sheet as CSV (UTF-8)"),
    b"PAR1": mark("a Parquet file; convert it to JSON lines"),
    b"\x28\xb5\x2f\xfd": mark("compressed by zstd; unpack it (zstd -d), or pipe it in"),
    b"\xfd7zXZ": mark("compressed by xz; unpack it (xz -d), or pipe it in"),
    b"BZh": mark("compressed by bzip2; unpack it (bzip2 -d), or pipe it in"),
}
"""First bytes of files that people have at hand, and what they are. Source: file(1)'s list of them."""


def kind_of(name: str) -> str:
    """Return what a file of that name is written in: "jsonl" if the name does not say. `.gz` is not looked at."""
    stem = name.lower().removesuffix(".gz")
    return next((kind for kind in ("csv", "tsv") if stem.endswith(f".{kind}")), "jsonl")


class Input:
    """A file or pipe that is open, and read once.

    Args:
        file: At its beginning.
        name: What messages call it.
        kind: One of KINDS; "jsonl" is an array too if it begins like one.

    Attributes:
        kind: One of KINDS.
        parse: From one of the lines to its row.

    Raises:
        InputError: It is of a kind that is not known here, or cannot be read.
    """

    def __init__(self, file: BinaryIO, name: str, kind: str = "jsonl") -> None:
        self.kind = kind
        self._name = name
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
            return sum(1 for _ in (self._rows() if self._is_table else self._elements()))

    @property
    def parse(self) -> Callable[[bytes], Row]:
        """From one of its lines to the row; raises InputError where it is none."""
        return parse_table if self._is_table else parse_json

    @property
    def _is_table(self) -> bool:
        return self.kind in ("csv", "tsv")

    def _open(self) -> None:
        start = self._start()
        if start.startswith(_GZIP):
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._file, mode="rb"))
            start = self._start()
        for magic, what in _OTHERS.items():
            if start.startswith(magic):
                raise InputError(_("{name} is {what}; nothing was sent", name=self._name, what=what))
        if self.kind == "jsonl" and start.removeprefix(_BOM).lstrip().startswith(b"["):
            self.kind = "json"

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
            raise InputError(
                _("{name} is damaged and cannot be decompressed ({error})", name=self._name, error=error)
            ) from error
        except OSError as error:
            raise InputError(
                _("{name} cannot be read: {strerror}", name=self._name, strerror=error.strerror or error)
            ) from error

    def _lines(self) -> Iterator[bytes]:
        if self.kind == "jsonl":
            return iter(self._file)
        return table_lines(self._rows()) if self._is_table else self._elements()

    def _rows(self) -> Iterator[TableRow]:
        return table_rows(self._file, self._name, "\t" if self.kind == "tsv" else None)

    def _elements(self) -> Iterator[bytes]:
        """Yield the elements of an array as they stand. It is looked at whole before the first one goes on."""
        data = self._file.read()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                _("{name} is not UTF-8 at byte {start}; nothing was sent", name=self._name, start=error.start + 1)
            ) from None
        try:
            yield from [text[start:end].encode() for start, end in _spans(text)]
        except json.JSONDecodeError as error:
            raise InputError(
                _(
                    "{name} begins like a JSON array, and is none: {msg} in line {lineno}, column "
                    "{colno}; nothing was sent",
                    name=self._name,
                    msg=error.msg,
                    lineno=error.lineno,
                    colno=error.colno,
                )
            ) from None
        except RecursionError:
            raise InputError(_("{name} is nested too deeply; nothing was sent", name=self._name)) from None
        except ValueError:
            raise InputError(
                _("{name} holds a number of thousands of digits; nothing was sent", name=self._name)
            ) from None


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
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
    end = _behind_blanks(text, position + 1)
    if end != len(text):
        raise json.JSONDecodeError(_("Extra data"), text, end)


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
