"""Files and pipes as people have them: compressed, as tables, as arrays, damaged, or something else altogether."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.inputs import Input, kind_of
from flexllm.errors import InputError

LINES = [b'{"q": "%d"}\n' % number for number in range(300)]
BOM = b"\xef\xbb\xbf"


def opened(data: bytes, kind: str = "jsonl") -> Input:
    return Input(cast(BinaryIO, io.BufferedReader(io.BytesIO(data))), "in", kind)


def rows(data: bytes, kind: str = "jsonl") -> list[Any]:
    """Return the rows; of bad ones what is said of them. The count is held against them."""
    source = opened(data, kind)
    read: list[Any] = []
    for line in source:
        try:
            read.append(source.parse(line.strip()))  # as the reader of rows does it
        except InputError as error:
            read.append(str(error))
    assert opened(data, kind).count() == len(read)
    return read


def refusal(data: bytes, kind: str = "jsonl") -> str:
    """Return why an input is refused before a row of it goes on; counting finds the same."""
    said = []
    for look in (lambda: next(iter(opened(data, kind))), lambda: opened(data, kind).count()):
        with pytest.raises(InputError) as caught:
            look()
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


# --- names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.csv", "csv"),
        ("A.CSV", "csv"),
        ("a.tsv", "tsv"),
        ("a.csv.gz", "csv"),
        ("a.Tsv.GZ", "tsv"),
        ("a.csv.jsonl", "jsonl"),
        ("csv", "jsonl"),
        ("a.gz", "jsonl"),
        ("a.json", "jsonl"),
        ("a.xlsx", "xlsx"),
        ("A.PARQUET", "parquet"),
        (".csv", "jsonl"),
        ("", "jsonl"),
    ],
)
def test_the_name_says_what_a_file_is_written_in(name: str, kind: str) -> None:
    assert kind_of(name) == kind


# --- compressed


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_is_compressed_is_told_by_its_first_bytes(kind: str) -> None:
    data = b'{"q": "a"}\n{"q": "b"}\n' if kind == "jsonl" else b"q\na\nb\n"
    assert rows(gzip.compress(data, mtime=0), kind) == rows(data, kind) == [{"q": "a"}, {"q": "b"}]


def test_several_compressed_files_in_a_row_are_one() -> None:
    assert rows(gzip.compress(b'{"q": "a"}\n', mtime=0) + gzip.compress(b'{"q": "b"}\n')) == [{"q": "a"}, {"q": "b"}]


def test_a_compressed_array_is_an_array() -> None:
    assert rows(gzip.compress(b'\n[{"q": "a"}]', mtime=0)) == [{"q": "a"}]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json"])
def test_a_compressed_file_that_is_cut_is_told(kind: str) -> None:
    whole = gzip.compress(os.urandom(5_000).hex().encode())
    for cut in (whole[: len(whole) // 2], whole[:-1], whole[:12]):
        with pytest.raises(InputError, match="in ends too early: the compressed file is not whole"):
            opened(cut, kind).count()
        with pytest.raises(InputError, match="ends too early"):
            list(opened(cut, kind))


@pytest.mark.parametrize("damage", [b"\xff" * 40, b""])
def test_a_damaged_compressed_file_is_told(damage: bytes) -> None:
    whole = gzip.compress(os.urandom(5_000).hex().encode())
    broken = whole[:1_000] + damage + whole[1_000 + len(damage) :] if damage else whole[:-8] + b"\0" * 8
    with pytest.raises(InputError, match="in is damaged and cannot be decompressed"):
        opened(broken).count()


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_damage_gets_past_as_another_error(place: int, byte: int) -> None:
    whole = bytearray(gzip.compress(b"".join(LINES), mtime=0))
    whole[place % len(whole)] = byte
    try:
        source = opened(bytes(whole))
        read = list(source)
    except InputError:
        return
    assert read == LINES or place % len(whole) < 2  # those by which it is known as compressed


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04rest", "a workbook or a zip archive; save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old workbook"),
        (b"\x28\xb5\x2f\xfdrest", "compressed by zstd"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"BZh91AY", "compressed by bzip2"),
        (gzip.compress(b"PK\x03\x04rest", mtime=0), "a workbook or a zip archive"),
    ],
)
def test_other_kinds_of_files_are_told_as_such(data: bytes, what: str) -> None:
    for kind in ("jsonl", "csv"):
        with pytest.raises(InputError, match=f"in is {what}"):
            opened(data, kind)


# --- JSON


def test_lines_go_on_as_they_stand() -> None:
    data = BOM + b'{"q": "a"}\r\n\n{torn\n{"q": "b"}'
    assert b"".join(opened(data)) == data
    assert opened(data).count() == 4
    assert opened(b"").count() == 0


@pytest.mark.parametrize(
    "text", ['[{"q":"a"},{"q":"b"}]', ' \n[ {"q" :\n"a"}\n,\n{"q": "b"} ]\r\n', '\ufeff[{"q":"a"},{"q":"b"}]']
)
def test_an_array_of_rows_is_an_input(text: str) -> None:
    assert rows(text.encode()) == [{"q": "a"}, {"q": "b"}]


def test_what_is_no_row_in_an_array_is_a_bad_row() -> None:
    assert rows(b'[{"q": "a"}, 7, "b", [1], null]') == [
        {"q": "a"},
        *(f"not a JSON object but {kind}" for kind in ("int", "str", "list", "NoneType")),
    ]


@pytest.mark.parametrize("text", ["[]", " [ \n ] "])
def test_an_empty_array_has_no_rows(text: str) -> None:
    assert rows(text.encode()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"q": "a"} {"q": "b"}]', "Expecting ',' delimiter in line 1, column 13"),
        ('[{"q": "a"}', "Expecting ',' delimiter in line 1, column 12"),
        ('[\n{"q": "a"},\n', "Expecting value in line 3, column 1"),
        ('[{"q": "a"},]', "Expecting value in line 1, column 13"),
        ("[", "Expecting value in line 1, column 2"),
        ("[,]", "Expecting value in line 1, column 2"),
        ('[1, 2]\n{"q": "a"}\n', "Extra data in line 2, column 1"),
        ('[{"q": "a]', "Unterminated string"),
    ],
)
def test_an_array_that_is_none_is_refused_before_its_first_row_goes_on(text: str, reason: str) -> None:
    said = refusal(text.encode())
    assert said.startswith("in begins like a JSON array, and is none: ")
    assert reason in said
    assert said.endswith("nothing was sent")


def test_an_array_that_is_no_text_is_refused() -> None:
    assert refusal(b'[{"q": "\xff"}]') == "in is not UTF-8 at byte 9; nothing was sent"
    assert refusal(b"[" * 100_000) == "in is nested too deeply; nothing was sent"


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python reads numbers of any length")
def test_a_number_that_python_refuses_to_read_is_told() -> None:
    number = b"9" * 5_000
    assert refusal(b"[%s]" % number) == "in holds a number of thousands of digits; nothing was sent"
    assert rows(b'{"q": %s}\n{"q": 1}\n' % number) == [
        "not readable as JSON: it holds a number of thousands of digits",
        {"q": 1},
    ]


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3), max_size=5))
def test_any_array_gives_its_elements(elements: list[Any]) -> None:
    for indent in (None, 2):
        assert rows(json.dumps(elements, indent=indent).encode()) == elements


# --- tables


def test_the_first_line_of_a_table_names_the_fields() -> None:
    assert rows(b"q,id\nWhat?,1\nWhy?,2\n", "csv") == [{"q": "What?", "id": "1"}, {"q": "Why?", "id": "2"}]


def test_cells_in_quotes_hold_anything() -> None:
    data = b'q,id\r\n"a, ""b""\r\nc\n\n d",1\r\n"",2\r\n'
    assert rows(data, "csv") == [{"q": 'a, "b"\r\nc\n\n d', "id": "1"}, {"q": "", "id": "2"}]


@pytest.mark.parametrize("data", [BOM + "q,é\n你好,b\n".encode(), "q,é\r你好,b\r".encode(), "q,é\r\n你好,b".encode()])
def test_tables_of_all_systems_are_read(data: bytes) -> None:
    assert rows(data, "csv") == [{"q": "你好", "é": "b"}]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"q;id\na,b;c\n", "csv"),
        (b"q\tid\na,b\tc\n", "csv"),
        (b"q\tid\na,b\tc\n", "tsv"),
        (b'"q;;;,",id\n"a,b",c\n', "csv"),
    ],
)
def test_columns_are_separated_as_the_first_line_has_it(data: bytes, kind: str) -> None:
    (row,) = rows(data, kind)
    assert list(row.values()) == ["a,b", "c"]
    assert list(row)[1] == "id"


def test_a_single_column_needs_no_separator() -> None:
    assert rows(b"q\nWhat\nWhy\n", "csv") == [{"q": "What"}, {"q": "Why"}]


def test_commas_in_a_tab_separated_table_are_text() -> None:
    assert rows(b"q,x;y\na,b;c\n", "tsv") == [{"q,x;y": "a,b;c"}]


def test_names_of_columns_lose_their_blanks_and_a_missing_one_is_its_number() -> None:
    assert rows(b",q , id,\n0,a,1,\n", "csv") == [{"column_1": "0", "q": "a", "id": "1", "column_4": ""}]


@pytest.mark.parametrize("header", [b"q,id,q", b"q, q", b",column_1"])
def test_a_name_that_stands_twice_is_refused(header: bytes) -> None:
    assert "two columns are named" in refusal(header + b"\na,b,c\n", "csv")


def test_a_ragged_row_is_a_bad_row_and_no_bad_file() -> None:
    assert rows(b"q,id\na,1\nb\nc,2,x\nd,3\n", "csv") == [
        {"q": "a", "id": "1"},
        "1 cell where the first line names 2 columns",
        "3 cells where the first line names 2 columns",
        {"q": "d", "id": "3"},
    ]


def test_blank_lines_are_no_rows() -> None:
    assert rows(b"\n\n \nq,id\n\na,1\n  \n\nb,2\n\n", "csv") == [{"q": "a", "id": "1"}, {"q": "b", "id": "2"}]


def test_a_row_with_stray_quotes_is_a_bad_row() -> None:
    first, bad, last = rows(b'q,id\na,1\n"b" c,2\nd,3\n', "csv")
    assert (first["q"], last["q"]) == ("a", "d")
    assert bad == "not readable as a row of a table: ',' expected after '\"'"


def test_quotes_that_are_never_closed_say_where_they_begin() -> None:
    first, bad = rows(b'\nq,id\na,1\nb,"2\nc,3\nd,4\n', "csv")
    assert first == {"q": "a", "id": "1"}
    assert bad == "the quotes that begin in line 4 are never closed, so that all behind them belongs to one cell"


def test_quotes_within_a_cell_are_text() -> None:
    assert rows(b'q\n5" pipe\n', "csv") == [{"q": '5" pipe'}]


def test_a_row_that_is_not_utf_8_costs_itself_alone() -> None:
    first, bad, last = rows(b"q,id\na,1\n" + "你好,2\n".encode("gbk") + b"c,3\n", "csv")
    assert (first["q"], last["q"]) == ("a", "c")
    assert bad == "not UTF-8; save the table as CSV in UTF-8, or convert it (iconv -f GB18030 -t UTF-8)"


@pytest.mark.parametrize(("encoding", "named"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")])
@pytest.mark.parametrize("header", ["q,id", "问题,id", "id,问题", "一,id"])
def test_utf_16_without_a_mark_is_known_by_its_nulls(header: str, encoding: str, named: str) -> None:
    said = refusal(f"{header}\na,1\n".encode(encoding), "csv")
    assert said == f"in is not UTF-8: convert it to UTF-8 (iconv -f {named} -t UTF-8); nothing was sent"


def test_a_first_line_that_is_not_utf_8_is_refused() -> None:
    assert "iconv -f GB18030 -t UTF-8" in refusal("问题,id\na,1\n".encode("gbk"), "csv")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_is_told_as_such(encoding: str) -> None:
    text = "q\tid\na\t1\n" if encoding == "utf-16" else "\ufeffq\tid\na\t1\n"
    assert "iconv -f UTF-16 -t UTF-8" in refusal(text.encode(encoding), "tsv")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"q,id\n", b"q,id\n\n", BOM])
def test_a_table_without_rows_has_none(data: bytes) -> None:
    assert rows(data, "csv") == []


def test_a_cell_may_be_as_long_as_the_process_allows_and_a_longer_one_costs_its_row() -> None:
    data = f"q,id\n{'x' * 300_000},1\nb,2\n".encode()
    before = csv.field_size_limit(200_000)
    try:
        bad, good = rows(data, "csv")
        assert csv.field_size_limit() == 200_000
    finally:
        csv.field_size_limit(before)
    assert bad == "not readable as a row of a table: field larger than field limit (200000)"
    assert good == {"q": "b", "id": "2"}


_CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(_CELLS, _CELLS)), st.sampled_from(["\r\n", "\n"]), st.sampled_from([",", ";", "\t"]))
def test_any_table_is_read_as_it_was_written(cells: list[tuple[str, str]], end: str, delimiter: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("q", "id"), *cells])
    kept = [dict(zip(("q", "id"), row, strict=True)) for row in cells]
    assert rows(text.getvalue().encode(), "csv") == kept


@given(st.binary())
def test_no_table_gets_past_as_another_error(data: bytes) -> None:
    try:
        rows(b"q,id\n" + data, "csv")
        rows(data, "csv")
    except InputError:
        pass


# --- files and pipes


def test_a_file_is_closed_at_its_end(tmp_path: Path) -> None:
    for name, data in (("a.csv", b"q\na\n"), ("a.gz", gzip.compress(b'{"q": 1}\n', mtime=0)), ("a.json", b"[1]")):
        (tmp_path / name).write_bytes(data)
        for look in (list, Input.count):
            file = open(tmp_path / name, "rb")  # noqa: SIM115
            look(Input(file, name, kind_of(name)))
            assert file.closed


def test_a_file_that_is_refused_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PK\x03\x04")
    file = open(tmp_path / "a", "rb")  # noqa: SIM115
    with pytest.raises(InputError):
        Input(file, "a")
    assert file.closed


def test_a_disk_that_fails_is_told() -> None:
    class Failing(io.RawIOBase):
        def __init__(self, good: bytes) -> None:
            self._good = good

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self._good:
                raise OSError(5, "Input/output error")
            size = len(self._good)
            buffer[:size], self._good = self._good, b""
            return size

    with pytest.raises(InputError, match="in cannot be read: Input/output error"):
        Input(cast(BinaryIO, io.BufferedReader(Failing(b""))), "in")
    source = Input(cast(BinaryIO, io.BufferedReader(Failing(b'{"q": "a"}\n'))), "in")
    lines = iter(source)
    assert next(lines) == b'{"q": "a"}\n'
    with pytest.raises(InputError, match="Input/output error"):
        next(lines)


@pytest.mark.parametrize(
    ("kind", "first", "rest"), [("jsonl", b'{"q": "a"}\n', b'{"q": "b"}\n'), ("csv", b"q\na\n", b"b\n")]
)
def test_a_row_of_a_pipe_goes_on_before_the_next_has_come(kind: str, first: bytes, rest: bytes) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb", buffering=0) as end:
        end.write(first)
        source = Input(pipe, "pipe", kind)
        lines = iter(source)
        assert source.parse(next(lines).strip()) == {"q": "a"}
        end.write(rest)
        assert source.parse(next(lines).strip()) == {"q": "b"}
        end.close()
        assert list(lines) == []


def test_a_compressed_pipe_is_read() -> None:
    reading, writing = os.pipe()
    data = gzip.compress(b"".join(b'{"q": "%d"}\n' % number for number in range(50_000)))

    def write() -> None:
        with open(writing, "wb") as end:
            end.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as pipe:
        assert sum(1 for _ in Input(pipe, "pipe")) == 50_000
    thread.join()
