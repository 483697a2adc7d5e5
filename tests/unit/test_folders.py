"""Folders as inputs: which files in them are pictures, in which order, and what is left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.batch.folders import FolderInput, image_files
from flexllm.errors import ConfigError, InputError


def put(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def test_pictures_come_in_the_order_of_their_names_from_all_folders(tmp_path: Path) -> None:
    folder = put(
        tmp_path, "b.png", "a/z.jpeg", "a/b/c.WEBP", "10.jpg", "9.jpg", "notes.txt", "drawn.svg", "none", "x.mp4"
    )
    assert image_files(folder) == ["10.jpg", "9.jpg", "a/b/c.WEBP", "a/z.jpeg", "b.png"]
    assert image_files(folder, recursive=False) == ["10.jpg", "9.jpg", "b.png"]


def test_hidden_ones_are_left_out_also_behind_a_hidden_folder(tmp_path: Path) -> None:
    folder = put(tmp_path / ".hidden itself", ".a.png", ".thumbs/b.png", "c/.d/e.png", "f.png")
    assert image_files(folder) == ["f.png"]


def test_links_to_files_count_and_linked_folders_are_not_entered(tmp_path: Path) -> None:
    folder = put(tmp_path / "in", "a.png")
    put(tmp_path / "out", "b.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "out" / "b.png")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert image_files(folder) == ["a.png", "c.png"]
    (tmp_path / "link").symlink_to(folder)
    assert image_files(str(tmp_path / "link")) == ["a.png", "c.png"], "what is named is entered"


def test_a_folder_or_pipe_that_is_called_like_a_picture_is_none(tmp_path: Path) -> None:
    put(tmp_path, "album.png/a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert image_files(str(tmp_path)) == ["album.png/a.png"]


@pytest.mark.parametrize("extensions", [["jpg"], [".JPG", "none"], "jpg", (" .jpg ",)])
def test_suffixes_may_be_chosen(tmp_path: Path, extensions: Any) -> None:
    assert image_files(put(tmp_path, "a.png", "b.JPG", "c.jpg"), extensions=extensions) == ["b.JPG", "c.jpg"]


@pytest.mark.parametrize("extensions", [[], "", ["."], [3]])
def test_suffixes_that_are_none_are_refused(tmp_path: Path, extensions: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be suffixes of files, such as \['jpg', 'png'\]"):
        image_files(str(tmp_path), extensions=extensions)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*none cannot be read: No such file or directory"):
        image_files(str(tmp_path / "none"))
    put(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub").chmod(0)
    if not os.access(tmp_path / "sub", os.R_OK):  # root may read all
        with pytest.raises(InputError, match=r"the folder .*sub cannot be read: Permission denied"):
            image_files(str(tmp_path))
    (tmp_path / "sub").chmod(0o700)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder without pictures; nothing was sent"):
        FolderInput(put(tmp_path, "notes.txt"))


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
)


@pytest.mark.slow
@given(st.sets(NAMES.filter(lambda name: not name.startswith(".")), min_size=1, max_size=5))
def test_whatever_a_file_is_called_its_row_names_it(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    folder = tmp_path_factory.mktemp("generated")
    put(folder, *(f"{name}.png" for name in names))
    source = FolderInput(str(folder))
    assert source.count() == len(names)
    for _walk in range(2):
        assert [source.parse(line) for line in source] == [
            {"file": f"{name}.png"} for name in sorted(names, key=lambda n: f"{n}.png")
        ]


def test_a_name_that_is_no_text_costs_its_row_alone(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    source = FolderInput(str(tmp_path))
    first, second = source
    assert source.parse(first) == {"file": "a.png"}
    with pytest.raises(InputError, match=r"the name of the file 'b\\udcff\.png' is not UTF-8; rename it"):
        source.parse(second)
