"""Parquet files: read one row group after the other, written with a type for each column."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch import parquet
from flexllm.batch.inputs import Input, kind_of
from flexllm.batch.parquet import ParquetView
from flexllm.batch.views import OWN_COLUMNS
from flexllm.errors import CheckpointError, ConfigError, InputError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def table(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def opened(data: bytes, kind: str = "parquet") -> Input:
    return Input(io.BufferedReader(io.BytesIO(data)), "in", kind)  # type: ignore[arg-type]


def rows(data: bytes) -> list[Any]:
    source = opened(data)
    read = [source.parse(line) for line in source]
    assert opened(data).count() == len(read)
    return read


# --- in


def test_the_first_bytes_say_what_it_is() -> None:
    assert kind_of("a.Parquet") == "parquet"
    assert opened(table({"q": ["a"]}), "jsonl").kind == "parquet"


def test_cells_keep_their_types() -> None:
    data = table({
        "q": ["a", None], "big": [2**63 - 1, None], "x": [0.5, float("nan")], "yes": [True, None],
        "day": [datetime.date(2026, 3, 1), None], "at": [datetime.datetime(2026, 3, 1, 12), None],
        "price": [decimal.Decimal("1.10"), None], "raw": [b"\xff", None], "tags": [["a", None], None],
        "messages": [[{"role": "user", "content": "hi"}], None],
    })  # fmt: skip
    assert rows(data) == [
        {"q": "a", "big": 2**63 - 1, "x": 0.5, "yes": True, "day": "2026-03-01", "at": "2026-03-01T12:00:00",
         "price": "1.10", "raw": "/w==", "tags": ["a", None], "messages": [{"role": "user", "content": "hi"}]},
        dict.fromkeys(["q", "big", "x", "yes", "day", "at", "price", "raw", "tags", "messages"]),
    ]  # fmt: skip


def test_rows_of_several_groups_come_in_order() -> None:
    data = table({"q": [str(number) for number in range(2_500)]}, row_group_size=700)
    assert [row["q"] for row in rows(data)] == [str(number) for number in range(2_500)]


def test_only_a_few_rows_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table({"q": [str(number) for number in range(5_000)]})
    sizes: list[int] = []
    walk = pq.ParquetFile.iter_batches

    def seen(self: Any, **options: Any) -> Any:
        for batch in walk(self, **options):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", seen)
    lines = iter(opened(data))
    next(lines)
    assert sizes == [1_000]


def test_fewer_rows_are_in_memory_where_each_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BYTES_READ", 10_000)
    data = table({"q": [str(number) * 1_000 for number in range(60)]})
    sizes: list[int] = []
    walk = pq.ParquetFile.iter_batches

    def noted(self: Any, batch_size: int) -> Any:
        sizes.append(batch_size)
        return walk(self, batch_size=batch_size)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    assert [row["q"][0] for row in rows(data)] == [str(number)[0] for number in range(60)]
    assert 1 <= sizes[0] < 60


def test_two_columns_of_one_name_are_refused() -> None:
    file = io.BytesIO()
    pq.write_table(pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["q", "q"]), file)
    with pytest.raises(InputError, match="two columns are named 'q'"):
        list(opened(file.getvalue()))


@given(st.integers(0, 5_000), st.binary(min_size=1, max_size=20))
def test_no_damage_gets_past_as_another_error(place: int, damage: bytes) -> None:
    place %= len(WHOLE)
    for data in (WHOLE[:place] + damage + WHOLE[place + len(damage) :], WHOLE[:place]):
        for look in (list, Input.count):
            try:
                look(opened(data))  # type: ignore[operator]
            except InputError:
                continue


WHOLE = table({"q": ["question"] * 50, "id": list(range(50))})


def test_what_is_none_is_told() -> None:
    with pytest.raises(InputError, match="in is no Parquet file; nothing was sent"):
        opened(b"q\na\n")
    with pytest.raises(InputError, match="in cannot be read as a Parquet file: "):
        list(opened(b"PAR1rest"))


def test_without_the_package_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError) as caught:
        opened(WHOLE)
    assert str(caught.value) == "in needs pyarrow; install it with pip install 'flexllm[table]'"


# --- out


def lines_of(*metadata: dict[str, Any], **fields: Any) -> list[bytes]:
    row = {"output": "a", "status": "success", **fields}
    return [json.dumps({"index": at, **row, "metadata": one}).encode() + b"\n" for at, one in enumerate(metadata)]


def written(path: Path, lines: list[bytes]) -> Any:
    ParquetView(path).write(lines)
    return pq.read_table(path)


@pytest.mark.parametrize(
    ("cells", "kind", "read"),
    [
        ([1, None, -(2**63)], "int64", [1, None, -(2**63)]),
        ([2**64 - 1, 0], "uint64", [2**64 - 1, 0]),
        ([2**64, 0], "string", ["18446744073709551616", "0"]),
        ([2**63, -1], "string", ["9223372036854775808", "-1"]),
        ([1, 0.5], "double", [1.0, 0.5]),
        ([2**53 + 1, 0.5], "string", ["9007199254740993", "0.5"]),
        ([True, None], "bool", [True, None]),
        ([True, 1], "string", ["true", "1"]),
        (["a", ""], "string", ["a", ""]),
        (["a", 1, ["é"], {"b": None}], "string", ["a", "1", '["é"]', '{"b": null}']),
        ([None, None], "string", [None, None]),
        (["\ud83d"], "string", ["?"]),
    ],
)
def test_a_column_has_the_type_that_all_its_cells_have(
    tmp_path: Path, cells: list[Any], kind: str, read: list[Any]
) -> None:
    found = written(tmp_path / "out.parquet", lines_of(*({"x": cell} for cell in cells)))
    assert str(found.schema.field("x").type) == kind
    assert found["x"].to_pylist() == read


def test_the_columns_of_ours_have_types_of_their_own(tmp_path: Path) -> None:
    found = written(tmp_path / "out.parquet", lines_of({"output": 1}))
    assert found.column_names == ["input.output", *OWN_COLUMNS]
    assert [str(field.type) for field in found.schema][-3:] == ["int64", "int64", "double"]
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    found = written(tmp_path / "out.parquet", lines_of({}, usage=usage, cost=0.25))
    assert found.to_pylist()[0] | {"cost": 0.25, "prompt_tokens": 3, "completion_tokens": 4} == found.to_pylist()[0]


def test_more_rows_than_a_group_holds_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_WRITTEN", 3)
    found = written(tmp_path / "out.parquet", lines_of(*({"id": number} for number in range(8))))
    assert found["id"].to_pylist() == list(range(8))
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_a_group_of_long_texts_or_many_columns_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "LETTERS_WRITTEN", 1_500)
    rows = [{"id": number, "x": "x" * (100 if number < 4 else 0)} for number in range(8)]
    found = written(tmp_path / "out.parquet", lines_of(*rows))
    assert found["id"].to_pylist() == list(range(8))
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 2


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    assert written(tmp_path / "out.parquet", []).column_names == list(OWN_COLUMNS)


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | st.booleans() | st.integers() | st.text()), max_size=5)
)
def test_whatever_cells_hold_they_are_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.parquet"
    for row, read in zip(cells, written(path, lines_of(*cells)).to_pylist(), strict=True):
        for name, cell in row.items():
            assert read[name] in (cell, json.dumps(cell)) or "\ufffd" in str(cell) or "?" in str(read[name])


def test_a_place_where_none_can_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"out\.parquet cannot be written: No such file or directory"):
        ParquetView(tmp_path / "none" / "out.parquet").write(lines_of({}))
