"""Workbooks: read as a spreadsheet shows them, written so that nothing becomes a formula, and never half."""

from __future__ import annotations

import datetime
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch import workbooks
from flexllm.batch.inputs import Input, kind_of
from flexllm.batch.views import OWN_COLUMNS
from flexllm.batch.workbooks import MOST_LETTERS, WorkbookView
from flexllm.errors import CheckpointError, ConfigError, InputError

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")

Rows = list[list[Any]]


def book(*rows: list[Any], **sheets: Rows) -> bytes:
    """Return a workbook; rows are those of its first sheet."""
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    for name, more in sheets.items():
        sheet = made.create_sheet(name)
        for row in more:
            sheet.append(row)
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def opened(data: bytes, sheet: str | int = 0, kind: str = "xlsx") -> Input:
    return Input(io.BufferedReader(io.BytesIO(data)), "in", kind, sheet=sheet)  # type: ignore[arg-type]


def rows(data: bytes, sheet: str | int = 0) -> list[Any]:
    """Return the rows; of bad ones what is said of them. The count is held against them."""
    source = opened(data, sheet)
    read: list[Any] = []
    for line in source:
        try:
            read.append(source.parse(line))
        except InputError as error:
            read.append(str(error))
    assert opened(data, sheet).count() == len(read)
    return read


def refusal(data: bytes, sheet: str | int = 0) -> str:
    with pytest.raises(InputError) as caught:
        list(opened(data, sheet))
    return str(caught.value)


# --- in


def test_the_name_says_what_it_is_and_so_do_the_first_bytes() -> None:
    assert kind_of("A.XLSX") == "xlsx"
    assert opened(book(["q"]), kind="csv").kind == "xlsx"


def test_cells_keep_their_types() -> None:
    at = datetime.datetime(2026, 3, 1, 12, 30)
    data = book(["id", "q", "day", "at", "yes", "x"], [1, "a", datetime.datetime(2026, 3, 1), at, True, 0.5])
    assert rows(data) == [{"id": 1, "q": "a", "day": "2026-03-01", "at": "2026-03-01T12:30:00", "yes": True, "x": 0.5}]


def test_blank_rows_and_blank_ends_are_nothing() -> None:
    data = book([], ["q", None, "id"], ["a", None, None, None], [], [None, "", None], ["b", 2, 3])
    assert rows(data) == [{"q": "a", "column_2": None, "id": None}, {"q": "b", "column_2": 2, "id": 3}]


def test_a_cell_beside_the_columns_costs_its_row() -> None:
    assert rows(book(["q"], ["a", "note"], ["b"])) == ["2 cells where the first line names 1 column", {"q": "b"}]


def test_letters_that_a_spreadsheet_has_escaped_are_meant() -> None:
    data = book(["a_x000D_\nb"], ["one_x000D_\ntwo"], ["_x005F_x000D_"], ["_xD800_ _x00_"])
    assert [row["a\r\nb"] for row in rows(data)] == ["one\r\ntwo", "_x000D_", "_xD800_ _x00_"]


def test_a_sheet_is_chosen_by_name_or_number() -> None:
    data = book(["q"], ["a"], two=[["q"], ["b"]])
    assert rows(data, "two") == rows(data, 1) == [{"q": "b"}]
    assert refusal(data, "three") == "in has no sheet 'three', only 'Sheet', 'two'; nothing was sent"
    assert refusal(data, 2).startswith("in has no sheet 2")


def test_what_a_program_writes_of_the_size_of_a_sheet_is_not_believed() -> None:
    source, changed = zipfile.ZipFile(io.BytesIO(book(["q", "id"], ["a", 1], ["b", 2]))), io.BytesIO()
    with zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'ref="A1:B3"', b'ref="A1"'))
    assert rows(changed.getvalue()) == [{"q": "a", "id": 1}, {"q": "b", "id": 2}]


def test_two_columns_of_one_name_are_refused() -> None:
    assert refusal(book(["q", "q"], [1, 2])) == "in: two columns are named 'q'; rename one of them, nothing was sent"


def test_an_empty_sheet_has_no_rows() -> None:
    assert rows(book()) == rows(book(["q"])) == []


def archive(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, data in files.items():
            target.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"q\na\n", "in is no workbook (.xlsx); nothing was sent"),
        (archive(readme=b"no"), "in is a workbook or a zip archive; save the sheet as CSV (UTF-8), or unpack it"),
        (b"\xd0\xcf\x11\xe0", "in is an old workbook, or one with a password; save the sheet as CSV (UTF-8)"),
    ],
)
def test_what_is_none_is_told(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        opened(data)
    assert str(caught.value).startswith(said)


@given(st.integers(0, 5_000), st.binary(min_size=1, max_size=20))
def test_no_damage_gets_past_as_another_error(place: int, damage: bytes) -> None:
    whole = BOOK[: place % len(BOOK)] + damage + BOOK[place % len(BOOK) + len(damage) :]
    for data in (whole, BOOK[: place % len(BOOK)]):
        try:
            list(opened(data))
        except InputError:
            continue


BOOK = book(["q", "id"], *([f"question {number}", number] for number in range(20)))


def test_without_the_package_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    data = book(["q"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ConfigError) as caught:
        opened(data)
    assert str(caught.value) == "in needs openpyxl; install it with pip install 'flexllm[table]'"


# --- out


def line(output: Any, **metadata: Any) -> bytes:
    return json.dumps({"index": 0, "output": output, "status": "success", "metadata": metadata}).encode() + b"\n"


def written(path: Path, *lines: bytes) -> Rows:
    WorkbookView(path).write(list(lines))
    found = openpyxl.load_workbook(path)
    cells = [list(row) for row in found.active.iter_rows()]
    assert {cell.data_type for row in cells for cell in row} <= {"s", "n", "b"}, "no formula, no error"
    return [[cell.value for cell in row] for row in cells]


def test_numbers_are_numbers_and_texts_are_texts(tmp_path: Path) -> None:
    table = written(
        tmp_path / "out.xlsx",
        line("=1+1", id=7, x=0.5, yes=True, no=None, cost="#N/A", tags=["é"]),
        line("+cmd|' /C calc'!A0", id=10**15, x=float("inf")),
    )
    assert table == [
        ["id", "x", "yes", "no", "input.cost", "tags", *OWN_COLUMNS],
        [7, 0.5, True, None, "#N/A", '["é"]', "=1+1", "success", *[None] * 5],
        ["1000000000000000", "Infinity", *[None] * 4, "+cmd|' /C calc'!A0", "success", *[None] * 5],
    ]


def test_a_text_that_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    table = written(
        tmp_path / "out.xlsx", line("x" * MOST_LETTERS), line("😀" * MOST_LETTERS), line("y" * (MOST_LETTERS + 1))
    )
    texts = [row[table[0].index("output")] for row in table[1:]]
    assert texts[0] == "x" * MOST_LETTERS
    for text, letter in ((texts[1], "😀"), (texts[2], "y")):
        assert text.startswith(letter * 1_000)
        assert text.endswith("(cut here: a cell holds no more; the whole text is in the .jsonl beside this file)")
        assert len(text.encode("utf-16-le")) // 2 in (MOST_LETTERS, MOST_LETTERS - 1)


def test_what_no_workbook_can_hold_becomes_a_question_mark(tmp_path: Path) -> None:
    table = written(tmp_path / "out.xlsx", line("a\x00\x0b\x1fb\tc\nd \ud83d"))
    assert table[1][0] == "a???b\tc\nd ?"


@pytest.mark.parametrize("letter", ["\ufffe", "\uffff"])
def test_a_letter_that_xml_forbids_leaves_the_workbook_readable(tmp_path: Path, letter: str) -> None:
    assert written(tmp_path / "out.xlsx", line(f"a{letter}b"))[1][0] == "a?b"


def test_a_text_like_an_escape_is_read_back_as_it_was(tmp_path: Path) -> None:
    WorkbookView(tmp_path / "out.xlsx").write([line("_x000D_ and _x005f_ and x0041_", id="_x0041_")])
    (row,) = rows((tmp_path / "out.xlsx").read_bytes())
    assert (row["output"], row["id"]) == ("_x000D_ and _x005f_ and x0041_", "_x0041_")


ODD = st.text(
    st.one_of(st.sampled_from("=+-@#\"' \t\n_x"), st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
)


@pytest.mark.slow
@given(st.lists(ODD, min_size=1, max_size=4))
def test_whatever_a_text_holds_it_is_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.xlsx"
    WorkbookView(path).write([line(text, id=1) for text in texts])
    assert [row["output"] or "" for row in rows(path.read_bytes())] == texts


@pytest.mark.parametrize(("name", "most"), [("MOST_ROWS", 2), ("MOST_COLUMNS", 7)])
def test_more_than_a_sheet_holds_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(workbooks, name, most)
    path = tmp_path / "out.xlsx"
    path.write_text("as it was")
    with pytest.raises(CheckpointError, match=r"and these are more; name an output that ends in \.csv or \.parquet"):
        WorkbookView(path).write([line("a", id=1), line("b", id=2)])
    assert path.read_text() == "as it was"


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"out\.xlsx cannot be written: No such file or directory"):
        WorkbookView(tmp_path / "none" / "out.xlsx").write([line("a")])
    path = tmp_path / "out.xlsx"
    path.write_text("as it was")

    def lines() -> Any:
        yield line("a")
        raise RuntimeError

    class Twice:
        walks = 0

        def __iter__(self) -> Any:
            self.walks += 1
            return iter([line("a")]) if self.walks == 1 else lines()

    with pytest.raises(RuntimeError):
        WorkbookView(path).write(Twice())
    assert path.read_text() == "as it was"
    assert [one.name for one in tmp_path.iterdir()] == ["out.xlsx"]
