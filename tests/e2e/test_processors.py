"""Tables and folders through Python: a new column, a list in the order of the files, and what one bad row costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pictures import png, write_pictures

from flexllm import (
    BatchResult,
    ConfigError,
    InputError,
    LLMClientPool,
    MllmClient,
    MllmFolderProcessor,
    MllmTableProcessor,
)
from flexllm.mock import MockServer, Reply

QUIET: dict[str, Any] = {"show_progress": False}


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(script=_refuse_bad) as started:
        yield started


def _refuse_bad(request: Any) -> Reply | None:
    return Reply(status=400, body=b'{"error": {"message": "no"}}') if b'"bad"' in request.body else None


@pytest.fixture
def client(server: MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MllmClient]:
    monkeypatch.chdir(tmp_path)
    server.reset()
    with MllmClient("m", server.base_url) as made:
        yield made


@pytest.fixture
def tables(client: MllmClient) -> MllmTableProcessor:
    pytest.importorskip("pandas", reason="pandas is not installed")
    return MllmTableProcessor(client)


@pytest.fixture
def folders(client: MllmClient) -> MllmFolderProcessor:
    return MllmFolderProcessor(client)


def asked(server: MockServer) -> list[Any]:
    """Return what the last message of each request holds, in the order of their texts."""
    contents = [json.loads(request.body)["messages"][-1]["content"] for request in server.requests]
    return sorted(contents, key=str)


def frame(**columns: Any) -> Any:
    import pandas

    return pandas.DataFrame(columns)


# --- tables


def test_each_row_is_asked_and_answered_in_a_new_column(tables: MllmTableProcessor, server: MockServer) -> None:
    given = frame(id=["007", "NA"], q=["one", "two"])
    made = tables.call_dataframe_sync(given, "q", **QUIET)
    assert made.columns.tolist() == ["id", "q", "output", "output_error"]
    assert asked(server) == ["one", "two"]
    for question, answer in zip(made["q"], made["output"], strict=True):
        assert f'"{question}"' in answer
    assert made["output_error"].tolist() == [None, None]
    assert given.columns.tolist() == ["id", "q"]
    named = tables.call_dataframe_sync(made, "q", result_col="again", system_prompt="Be brief.", **QUIET)
    assert named.columns.tolist()[-2:] == ["again", "again_error"]
    assert json.loads(server.requests[-1].body)["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_bad_row_costs_itself_alone(tables: MllmTableProcessor, server: MockServer) -> None:
    import pandas

    questions = [
        "a",
        "bad",
        "",
        None,
        float("nan"),
        pandas.NA,
        42,
        1.5,
        True,
        2**70,
        pandas.Timestamp("2026-03-01"),
        " ",
    ]
    given = pandas.DataFrame({"q": questions}, index=[3] * len(questions), dtype=object)
    made = tables.call_dataframe_sync(given, "q", **QUIET)
    assert asked(server) == sorted(["a", "bad", "42", "1.5", "true", str(2**70), "2026-03-01T00:00:00"])
    failed = [1, 2, 3, 4, 5, 11]
    assert [at for at, answer in enumerate(made["output"]) if answer is None] == failed
    assert [at for at, error in enumerate(made["output_error"]) if error is not None] == failed
    errors = made["output_error"].tolist()
    assert errors[1].startswith("BadRequest: ")
    assert errors[2] == "InputError: row 2 cannot be asked: 'q' is empty in this row"
    assert made.index.tolist() == [3] * len(questions)


def test_a_cell_that_no_text_can_be_made_of_costs_its_row_alone(tables: MllmTableProcessor, server: MockServer) -> None:
    import pandas

    endless: list[Any] = []
    endless.append(endless)
    given = pandas.DataFrame({"q": [endless, pandas.DataFrame({"a": [1]}), "a"]}, dtype=object)
    made = tables.call_dataframe_sync(given, "q", **QUIET)
    assert [error is None for error in made["output_error"]] == [False, True, True]
    assert made["output_error"][0].endswith("'q' cannot be made a text: it is of type list")
    assert "a" in asked(server)


def test_options_of_a_batch_pass_through(tables: MllmTableProcessor, server: MockServer) -> None:
    given = frame(q=["a", "bad"])
    made, summary, report = tables.call_dataframe_sync(
        given, "q", return_usage=True, return_summary=True, return_cost_report=True, temperature=0.5, **QUIET
    )
    assert (made["output"][0].usage["total_tokens"] > 0, made["output"][1]) == (True, None)
    assert (summary["total"], summary["failed"], report.request_count) == (2, 1, 1)
    assert {json.loads(request.body)["temperature"] for request in server.requests} == {0.5}


def test_a_call_goes_on_where_an_earlier_one_was(tables: MllmTableProcessor, server: MockServer) -> None:
    tables.call_dataframe_sync(frame(q=["a", "b"]), "q", output_file="out.jsonl", **QUIET)
    made = tables.call_dataframe_sync(frame(q=["b", "c", "a"], id=[1, 2, 3]), "q", output_file="out.jsonl", **QUIET)
    assert asked(server) == ["a", "b", "c"]
    assert ['"b"' in made["output"][0], '"c"' in made["output"][1], '"a"' in made["output"][2]] == [True] * 3


def test_pictures_lie_beside_the_table(tables: MllmTableProcessor, server: MockServer, tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", "a.png", "sub/b.png")
    (tmp_path / "data" / "no.png").write_text("no picture")
    lines = ["q,photo", "one,a.png", "two,./sub/b.png", "three,", "four,gone.png", "five,no.png"]
    (tmp_path / "data" / "in.csv").write_text("\n".join(lines), encoding="utf-8")
    made = tables.call_table_sync("data/in.csv", "q", "photo", **QUIET)
    assert [answer is None for answer in made["output"]] == [False, False, False, True, True]
    assert "'data/gone.png' (in the working directory" in made["output_error"][3]
    assert "'data/no.png' is not an image" in made["output_error"][4]
    texts = {content if isinstance(content, str) else content[1]["text"] for content in asked(server)}
    assert texts == {"one", "two", "three"}
    server.reset()
    made = tables.call_table_images_sync("data/in.csv", "photo", "What is it?", max_num=3, **QUIET)
    assert [answer is None for answer in made["output"]] == [False, False, True]
    assert made["output_error"][2].endswith("'photo' is empty in this row")
    assert {content[1]["text"] for content in asked(server)} == {"What is it?"}
    assert all(content[0]["image_url"]["url"].startswith("data:image/png;base64,") for content in asked(server))


def test_cells_may_hold_pictures_of_any_kind(tables: MllmTableProcessor, server: MockServer, tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    kinds = [png(1), ["a.png", png(2)], Path("a.png"), {"bytes": png(3), "path": None}, 7, None]
    made = tables.call_dataframe_sync(frame(q=list("abcdef"), photo=kinds), "q", "photo", **QUIET)
    assert [answer is None for answer in made["output"]] == [False, False, False, False, True, False]
    assert made["output_error"][4].startswith("InputError: row 4 cannot be asked: in 'photo', ")
    assert sorted(len(content) for content in asked(server) if not isinstance(content, str)) == [2, 2, 2, 3]


def test_wrong_arguments_are_told_before_anything_is_sent(tables: MllmTableProcessor, server: MockServer) -> None:
    given = frame(q=["a"], photo=["a.png"], output=["x"])
    wrong: list[tuple[type[Exception], str, Any]] = [
        (InputError, "no column 'w'", lambda: tables.call_dataframe_sync(given, "w", **QUIET)),
        (InputError, "did you mean 'photo'", lambda: tables.call_dataframe_sync(given, "q", "photos", **QUIET)),
        (ConfigError, "'output' already", lambda: tables.call_dataframe_sync(given, "q", **QUIET)),
        (ConfigError, "result_col=3", lambda: tables.call_dataframe_sync(given, "q", result_col=3, **QUIET)),
        (ConfigError, "not of type list", lambda: tables.call_dataframe_sync([1], "q", **QUIET)),
        (ConfigError, "text_prompt is empty", lambda: tables.call_table_images_sync("in.csv", "photo", " ", **QUIET)),
        (ConfigError, r"must end in \.jsonl", lambda: tables.call_dataframe_sync(
            given, "q", result_col="r", output_file="out.csv", **QUIET)),
    ]  # fmt: skip
    for kind, said, call in wrong:
        with pytest.raises(kind, match=said):
            call()
    assert asked(server) == []


def test_lists_of_a_parquet_file_are_lists_of_pictures(
    tables: MllmTableProcessor, server: MockServer, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_pictures(tmp_path / "data", "a.png", "b.png")
    given = frame(id=[1, 2, 3], photos=[["a.png", "b.png"], [], None])
    given.to_parquet(tmp_path / "data" / "in.parquet")
    made = tables.call_table_images_sync(tmp_path / "data" / "in.parquet", "photos", "What?", **QUIET)
    assert [answer is None for answer in made["output"]] == [False, True, True]
    assert [error is None or "'photos' is empty" in error for error in made["output_error"]] == [True] * 3
    assert [len(content) for content in asked(server)] == [3]


# --- folders


def test_the_pictures_of_a_folder_are_answered_in_order(
    folders: MllmFolderProcessor, server: MockServer, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "photos", "b.png", "a.png", "sub/c.png", ".hidden.png")
    (tmp_path / "photos" / "no.png").write_text("no picture")
    assert folders.scan_folder_images("photos/") == [
        "photos/a.png",
        "photos/b.png",
        "photos/no.png",
        "photos/sub/c.png",
    ]
    assert folders.scan_folder_images("photos", recursive=False, max_num=1, extensions=["png"]) == ["photos/a.png"]
    found = folders.call_folder_images_sync("photos", "Describe", "Be brief.", **QUIET)
    assert isinstance(found, BatchResult)
    assert [item.metadata for item in found.items] == [
        {"file": "a.png"}, {"file": "b.png"}, {"file": "no.png"}, {"file": "sub/c.png"},
    ]  # fmt: skip
    assert [text is None for text in found] == [False, False, True, False]
    assert "'photos/no.png' is not an image" in str(found.errors[2])
    body = json.loads(server.requests[-1].body)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][1]["content"][1] == {"type": "text", "text": "Describe"}


def test_a_file_that_vanishes_costs_itself_alone_and_is_asked_when_it_is_back(
    folders: MllmFolderProcessor, server: MockServer, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "photos", "a.png", "b.png")
    files = folders.scan_folder_images(tmp_path / "photos")
    data = Path(files[0]).read_bytes()
    Path(files[0]).unlink()
    found = folders.call_image_files_sync(files, "Describe", output_file="out.jsonl", **QUIET)
    assert [text is None for text in found] == [True, False]
    Path(files[0]).write_bytes(data)
    found = folders.call_image_files_sync(files, "Describe", output_file="out.jsonl", **QUIET)
    assert None not in found
    assert len(asked(server)) == 2
    assert [item.metadata["file"] for item in found.items] == files


def test_a_picture_is_known_by_its_path_and_not_by_what_is_in_it(
    folders: MllmFolderProcessor, server: MockServer, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "photos", "a.png")
    folders.call_folder_images_sync("photos", "Describe", output_file="out.jsonl", **QUIET)
    (tmp_path / "photos" / "a.png").write_bytes(png(99))
    folders.call_folder_images_sync("./photos/", "Describe", output_file="out.jsonl", **QUIET)
    assert len(asked(server)) == 1
    folders.call_folder_images_sync("photos", "Count", output_file="out.jsonl", **QUIET)
    assert len(asked(server)) == 2


def test_a_list_may_hold_more_than_paths(folders: MllmFolderProcessor, tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    found = folders.call_image_files_sync([Path("a.png"), png(1), 7, ""], "Describe", **QUIET)
    assert [text is None for text in found] == [False, False, True, True]
    assert [item.metadata["file"] for item in found.items] == ["a.png", None, None, ""]
    assert folders.call_image_files_sync([], "Describe", **QUIET) == []


def test_wrong_arguments_of_folders_are_told(folders: MllmFolderProcessor, server: MockServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong: list[tuple[type[Exception], str, Any]] = [
        (ConfigError, "folder='' must be the path of a folder", lambda: folders.scan_folder_images("")),
        (ConfigError, "folder=5 must be", lambda: folders.call_folder_images_sync(5, "x", **QUIET)),  # type: ignore[arg-type]
        (InputError, "the folder none cannot be read", lambda: folders.call_folder_images_sync("none", "x", **QUIET)),
        (
            InputError,
            "empty is a folder without pictures",
            lambda: folders.call_folder_images_sync("empty", "x", **QUIET),
        ),
        (ConfigError, "text_prompt must be a text", lambda: folders.call_image_files_sync(["a.png"], None, **QUIET)),
        (ConfigError, "image_files must be a list", lambda: folders.call_image_files_sync("a.png", "x", **QUIET)),
    ]
    for kind, said, call in wrong:
        with pytest.raises(kind, match=said):
            call()
    assert asked(server) == []


# --- twins and pools


def test_each_call_can_be_awaited(tables: MllmTableProcessor, folders: MllmFolderProcessor, tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    (tmp_path / "in.csv").write_text("q,photo\none,a.png\n", encoding="utf-8")

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            tables.call_table("in.csv", "q", "photo", **QUIET),
            tables.call_dataframe(tables.load_dataframe("in.csv"), "q", **QUIET),
            tables.call_table_images("in.csv", "photo", "Describe", **QUIET),
            folders.call_folder_images(".", "Describe", **QUIET),
            folders.call_image_files(["a.png"], "Describe", **QUIET),
        )

    *frames, folder, files = asyncio.run(all_of_them())
    assert [one["output_error"].tolist() for one in frames] == [[None]] * 3
    assert list(folder) == list(files) != [None]


def test_a_pool_is_a_client_too(server: MockServer, tables: MllmTableProcessor) -> None:
    with LLMClientPool([{"base_url": server.base_url, "model": "m"}]) as pool:
        made = MllmTableProcessor(pool).call_dataframe_sync(frame(q=["a"]), "q", **QUIET)
    assert made["output_error"].tolist() == [None]
