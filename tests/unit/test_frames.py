"""Tables of files as data frames: what stands in them, exactly, and what is said of those that are none."""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm import ConfigError, InputError, LLMClient, MllmFolderProcessor, MllmTableProcessor
from flexllm.multimodal.frames import cells_of, check_column, check_frame, check_new_column, with_columns

pandas = pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture(scope="module")
def tables() -> MllmTableProcessor:
    return MllmTableProcessor(LLMClient("m", "http://127.0.0.1:9/v1"))


def cells(frame: Any) -> list[list[Any]]:
    return [cells_of(frame, column) for column in frame.columns]


# --- texts


@pytest.mark.parametrize("name", ["in.csv", "in.TSV", "in.csv.gz"])
def test_cells_of_a_text_table_are_texts_as_they_stand(tables: MllmTableProcessor, tmp_path: Path, name: str) -> None:
    lines = ["id,q,n", "007,NA,1.10", f"{2**70},,", '"a\n",null,"b""c"']
    text = "\r\n".join(lines).replace(",", "\t" if "TSV" in name else ",")
    data = ("\ufeff" + text).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    frame = tables.load_dataframe(tmp_path / name)
    assert list(frame.columns) == ["id", "q", "n"]
    assert frame.to_numpy().tolist() == [["007", "NA", "1.10"], [str(2**70), "", ""], ["a\n", "null", 'b"c']]
    assert len(tables.load_dataframe(tmp_path / name, max_num=2)) == 2
    assert tables.load_dataframe(str(tmp_path / name), max_num=0).columns.tolist() == ["id", "q", "n"]


@pytest.mark.slow
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_a_text_holds_it_is_read(
    tables: MllmTableProcessor, tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    assert tables.load_dataframe(path).to_numpy().tolist() == rows


def test_a_cell_may_hold_a_document(tables: MllmTableProcessor, tmp_path: Path) -> None:
    before = csv.field_size_limit(usual := 131_072)
    try:
        (tmp_path / "in.csv").write_text(f"q\n{'x' * (usual + 1)}\n", encoding="utf-8")
        assert len(tables.load_dataframe(tmp_path / "in.csv")["q"][0]) == usual + 1
        assert csv.field_size_limit() == usual
    finally:
        csv.field_size_limit(before)


# --- types


def test_a_workbook_keeps_types_and_loses_no_digit(tables: MllmTableProcessor, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["id", "big", "x", "q"], [1, 2**49, 0.5, "NA"], [2, None, 2], [], [3, 2**49 + 1, None, "b"]):
        book.active.append(row)
    second = book.create_sheet("second")
    second.append(["q"])
    second.append(["a"])
    book.save(tmp_path / "in.xlsx")
    frame = tables.load_dataframe(tmp_path / "in.xlsx")
    assert [str(kind) for kind in frame.dtypes[:3]] == ["int64", "object", "float64"]
    assert cells(frame) == [[1, 2, 3], [2**49, None, 2**49 + 1], [0.5, 2.0, None], ["NA", None, "b"]]
    for sheet in ("second", 1):
        assert cells(tables.load_dataframe(tmp_path / "in.xlsx", sheet)) == [["a"]]
    with pytest.raises(InputError, match="has no sheet 'third', only 'Sheet', 'second'"):
        tables.load_dataframe(tmp_path / "in.xlsx", "third")
    with pytest.raises(ConfigError, match="sheet_name=None must be the name of a sheet"):
        tables.load_dataframe(tmp_path / "in.xlsx", None)  # type: ignore[arg-type]


def test_a_parquet_file_keeps_types_index_and_digits(tables: MllmTableProcessor, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "q": ["a", None],
            "big": pandas.array([2**60 + 1, None], dtype="Int64"),
            "at": pandas.to_datetime(["2026-03-01", None]),
        },
        index=pandas.Index([7, 9], name="row"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    read = tables.load_dataframe(tmp_path / "in.parquet")
    assert cells(read) == [["a", None], [2**60 + 1, None], [pandas.Timestamp("2026-03-01"), None]]
    assert (read.index.tolist(), read.index.name) == ([7, 9], "row")
    assert tables.load_dataframe(tmp_path / "in.parquet", max_num=1).index.tolist() == [7]


# --- what is none


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("none.csv", None, "none.csv cannot be read: No such file or directory"),
        ("folder.csv", b"", "folder.csv cannot be read: Is a directory"),
        ("in.csv", b"", "in.csv holds no rows; nothing was sent"),
        ("in.csv", b"q\n", "in.csv holds no rows; nothing was sent"),
        ("in.csv", "q\né\n".encode("latin1"), "in.csv, row 0: not UTF-8; save the table as CSV in UTF-8"),
        ("in.csv", "é\na\n".encode("utf-16"), "in.csv is not UTF-8: convert it to UTF-8 (iconv -f UTF-16"),
        ("in.csv", b"q\na\nb,c\n", "in.csv, row 1: 2 cells where the first line names 1 column"),
        ("in.csv", b"q,q\na,b\n", "in.csv: two columns are named 'q'"),
        ("in.txt", b"q\n", "in.txt is no table: its name must end in .csv, .tsv, .xlsx or .parquet"),
        ("in.xlsx", b"q\n", "in.xlsx is no workbook (.xlsx)"),
        ("in.xls", b"\xd0\xcf\x11\xe0", "in.xls is an old workbook, or one with a password"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    tables: MllmTableProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes | None,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "folder.csv":
        Path(name).mkdir()
    elif data is not None:
        Path(name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        tables.load_dataframe(name)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("max_num", [-1, True, 1.5, "2"])
def test_a_limit_that_is_none_is_refused(tables: MllmTableProcessor, max_num: Any) -> None:
    with pytest.raises(ConfigError, match="max_num="):
        tables.load_dataframe("in.csv", max_num=max_num)


def test_without_pandas_there_is_one_sentence(tables: MllmTableProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas.DataFrame({"q": ["a"]})
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError) as caught:
        tables.load_dataframe("in.csv")
    assert str(caught.value) == "in.csv needs pandas; install it with pip install 'flexllm[table]'"
    with pytest.raises(ConfigError, match=r"call_dataframe needs pandas"):
        tables.call_dataframe_sync(frame, "q")


# --- columns


def test_a_column_that_is_missing_is_told_with_the_nearest() -> None:
    frame = pandas.DataFrame([[1, 2, 3, 4]], columns=["question", "a", "a", 5])
    check_column(frame, "question")
    check_column(frame, 5)
    for column, said in (
        ("qestion", "the table has no column 'qestion'; did you mean 'question'?"),
        ("zzz", "the table has no column 'zzz', only 'question', 'a', 5"),
        (6, "the table has no column 6, only 'question', 'a', 5"),
        ("a", "the table has 2 columns named 'a'; rename all but one"),
    ):
        with pytest.raises(InputError) as caught:
            check_column(frame, column)
        assert str(caught.value) == said


def test_a_column_that_is_there_is_not_overwritten() -> None:
    with pytest.raises(ConfigError, match="a column 'a' already, which is not overwritten; give another result_col"):
        check_new_column(pandas.DataFrame({"a": [1]}), "a")


@pytest.mark.parametrize("column", [["question"], pandas.Series(["a", "b"]), pandas.Index(["a", "b"]).to_numpy()])
def test_what_cannot_be_a_name_is_no_column(column: Any) -> None:
    with pytest.raises(ConfigError, match="a column is named by one value, such as a text, not by one of type "):
        check_column(pandas.DataFrame({"question": ["a"]}), column)


def test_a_column_of_several_levels_is_not_overwritten() -> None:
    for below in ("", "x"):
        frame = pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("q", "x"), ("output", below)]))
        with pytest.raises(ConfigError, match="a column 'output' already"):
            check_new_column(frame, "output")


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="df must be a data frame of pandas, not of type dict"):
        check_frame({"q": ["a"]})


@pytest.mark.parametrize("index", [[3, 3, 1], ["x", "y", "z"], [None, 1.5, "a"]])
def test_new_columns_keep_any_index_and_the_frame_as_it_was(index: list[Any]) -> None:
    frame = pandas.DataFrame({"a": [1, 2, 3]}, index=index)
    made = with_columns(frame, {"b": ["x", None, "z"]})
    assert made["b"].tolist() == ["x", None, "z"]
    assert made.index.equals(frame.index)
    assert frame.columns.tolist() == ["a"]


@pytest.mark.parametrize("processor", [MllmTableProcessor, MllmFolderProcessor])
def test_a_processor_needs_a_client(processor: Any) -> None:
    with pytest.raises(ConfigError, match=f"{processor.__name__} needs a client, such as MllmClient"):
        processor("http://127.0.0.1:9/v1")
    assert repr(processor(LLMClient("m", "http://127.0.0.1:9/v1"))).startswith(f"{processor.__name__}(LLMClient(")
