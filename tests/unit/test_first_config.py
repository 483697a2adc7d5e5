"""The file that `flexllm init` writes: what stands in it, and how it comes to the disk."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flexllm.cli import first_config
from flexllm.cli.first_config import (
    EXAMPLE,
    SERVICES,
    FirstModel,
    Service,
    check_place,
    config_text,
    literal_key,
    write_config,
)
from flexllm.config import BatchEndpoint, BatchSettings, Config, ModelEntry, load_config, resolve_endpoint
from flexllm.errors import ConfigError
from flexllm.prices import PriceOptions, price_of
from flexllm.providers import find_provider


def loaded(path: Path, text: str, **environ: str) -> Config:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return load_config(path, environ)


def all_on(text: str) -> str:
    """Turn every setting on that the file has in comments, as the file says how."""
    return re.sub(r"^( *)#(?=[^ #\n])", r"\1", text, flags=re.MULTILINE)


# --- what stands in it ------------------------------------------------------------------------------------------------


def test_the_example_loads_without_a_warning_and_names_a_model(tmp_path: Path) -> None:
    config = loaded(tmp_path / "c.yaml", config_text(EXAMPLE))
    assert config.warnings == ()
    found = resolve_endpoint(config, environ={"OPENAI_API_KEY": "sk-from-the-environment"})
    assert (found.model, found.base_url) == ("gpt-6-luna", "https://api.openai.com/v1")
    assert found.api_key == "sk-from-the-environment"


def test_without_the_variable_the_example_says_which_one_is_missing(tmp_path: Path) -> None:
    config = loaded(tmp_path / "c.yaml", config_text(EXAMPLE))
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        resolve_endpoint(config, environ={})


def test_every_setting_can_be_turned_on(tmp_path: Path) -> None:
    config = loaded(tmp_path / "c.yaml", all_on(config_text(EXAMPLE)))
    assert config.warnings == ()
    assert [entry.id for entry in config.models] == ["gpt-6-luna", "local-ollama", "deepseek"]
    assert len(config.batch.endpoints) == 2
    assert config.prices


def settings_of(text: str) -> set[str]:
    return set(re.findall(r"^ *(?:- )?([a-z_]+):", all_on(text), re.MULTILINE))


@pytest.mark.parametrize("kind", [ModelEntry, BatchSettings, BatchEndpoint])
def test_every_setting_that_there_is_stands_in_the_file(kind: Any) -> None:
    assert {one.name for one in fields(kind)} - settings_of(config_text(EXAMPLE)) == set()


def in_chinese(model: FirstModel) -> str:
    """The file as somebody gets it whose language is Chinese."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_config, "language", lambda: "zh_CN")
        return config_text(model)


def without_remarks(text: str) -> list[str]:
    """The lines of the file, also those of settings that are off, but not what is said of them."""
    return [line for line in text.splitlines() if line and not re.match(" *# ", line)]


def test_in_chinese_the_file_says_the_same_in_chinese(tmp_path: Path) -> None:
    english, chinese = config_text(EXAMPLE), in_chinese(EXAMPLE)
    assert loaded(tmp_path / "c.yaml", chinese) == loaded(tmp_path / "c.yaml", english)
    assert loaded(tmp_path / "c.yaml", all_on(chinese)) == loaded(tmp_path / "c.yaml", all_on(english))
    assert without_remarks(chinese) == without_remarks(english), "in one order, each setting on or off as in the other"
    remarks = re.findall(r"^ *# .*", chinese, re.MULTILINE)
    assert [line for line in remarks if not re.search("[\u4e00-\u9fff]", line)] == []
    assert "<" not in chinese


@pytest.mark.parametrize(
    ("key", "said"), [("EMPTY", "不需要 API Key"), ("${NAME}", "${NAME} 表示取环境变量"), ("sk-1", "只有你自己能读取")]
)
def test_in_chinese_the_comment_above_the_key_fits_it_too(key: str, said: str) -> None:
    text = in_chinese(FirstModel(name="m", provider="openai", base_url="http://h/v1", api_key=key))
    assert said in text[: text.index("api_key: ")].splitlines()[-2]


def test_what_is_on_from_the_beginning_is_little(tmp_path: Path) -> None:
    config = loaded(tmp_path / "c.yaml", config_text(EXAMPLE))
    assert len(config.models) == 1
    assert config.batch == BatchSettings(concurrency=10)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@example(name='a "b" \\ c: #d', key='"\\#$')
@example(name="$${x}", key="$${y}$$$${z}")
@example(name="a\u0085b\u2028c", key="'")
@given(name=texts.filter(str.strip), key=keys)
def test_whatever_name_and_key_come_back_as_they_were_given(
    tmp_path_factory: pytest.TempPathFactory, name: str, key: str
) -> None:
    model = FirstModel(name=name, provider="openai", base_url="https://h/${x}", api_key=literal_key(key))
    config = loaded(tmp_path_factory.getbasetemp() / "any.yaml", config_text(model))
    found = resolve_endpoint(config, environ={})
    assert (found.model, found.base_url, found.api_key) == (name, "https://h/${x}", key)
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("key", "said"),
    [("EMPTY", "asks for no key"), ("${NAME}", "this file holds none"), ("sk-1", "Only you can read this file")],
)
def test_the_comment_above_the_key_fits_it(key: str, said: str) -> None:
    text = config_text(FirstModel(name="m", provider="openai", base_url="http://h/v1", api_key=key))
    assert said in text[: text.index("api_key: ")].splitlines()[-2]


def test_a_first_model_does_not_show_its_key() -> None:
    assert "sk-1" not in repr(FirstModel(name="m", provider="openai", base_url="http://h", api_key="sk-1"))


@pytest.mark.parametrize("service", [one for one in SERVICES if one.base_url], ids=lambda one: one.title)
def test_a_service_is_asked_in_the_format_that_its_url_tells(service: Service) -> None:
    assert find_provider("auto", service.base_url)[0].name == service.provider


@pytest.mark.parametrize("service", [one for one in SERVICES if one.model], ids=lambda one: one.title)
def test_a_model_that_is_proposed_has_a_price(service: Service) -> None:
    assert service.model is not None
    assert price_of(service.model, service.base_url, PriceOptions()) is not None


# --- how it comes to the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "config.yaml"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("no_umask")
def test_file_and_folder_are_their_owners_alone(place: Path) -> None:
    assert write_config(place, "text", force=False) is None
    assert (place.read_text(), mode(place), mode(place.parent)) == ("text", 0o600, 0o700)


@pytest.mark.usefixtures("no_umask")
def test_a_file_that_is_there_is_left_alone_or_kept(place: Path) -> None:
    write_config(place, "old", force=False)
    place.chmod(0o644)
    with pytest.raises(
        ConfigError, match=r"config\.yaml is there already: edit it, or give --force .* config\.yaml\.bak"
    ):
        write_config(place, "new", force=False)
    assert place.read_text() == "old"
    kept = write_config(place, "new", force=True)
    assert kept == place.with_name("config.yaml.bak")
    assert (place.read_text(), mode(place)) == ("new", 0o600)
    assert (kept.read_text(), mode(kept)) == ("old", 0o600)
    assert sorted(one.name for one in place.parent.iterdir()) == ["config.yaml", "config.yaml.bak"]


def test_force_needs_no_file_to_be_there(place: Path) -> None:
    assert write_config(place, "new", force=True) is None
    assert place.read_text() == "new"


def test_a_symbolic_link_stays_one(tmp_path: Path, place: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    place.parent.mkdir()
    place.symlink_to(real)
    write_config(place, "first", force=False)  # it led nowhere yet
    with pytest.raises(ConfigError, match="is there already"):
        write_config(place, "second", force=False)
    write_config(place, "second", force=True)
    assert place.is_symlink()
    assert (real.read_text(), (tmp_path / "dotfiles.yaml.bak").read_text()) == ("second", "first")


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(place, "old", force=False)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(first_config.os, "fsync", full)
    with pytest.raises(OSError, match=r"config\.yaml cannot be written: No space left on device"):
        write_config(place, "new", force=True)
    assert [one.name for one in place.parent.iterdir()] == ["config.yaml"]
    assert place.read_text() == "old"


def test_what_was_begun_and_failed_is_taken_away(place: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_config(place, "\ud800", force=False)
    with pytest.raises(OSError, match="cannot be written"):
        write_config(place / "below" / "it", "text", force=False)
    assert not place.exists()


def test_places_where_nothing_can_be_written_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "there.yaml"
    file.write_text("x")
    check_place(tmp_path / "new" / "c.yaml", force=False)
    check_place(file, force=True)
    with pytest.raises(ConfigError, match="is there already"):
        check_place(file, force=False)
    with pytest.raises(ConfigError, match="is no file"):
        check_place(tmp_path, force=True)
    with pytest.raises(FileNotFoundError) as caught:
        check_place(tmp_path / "no" / "such" / "c.yaml", force=False)
    assert "its folder does not exist" in str(caught.value.strerror)


def test_a_place_that_cannot_even_be_looked_at_is_told_as_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat_of = os.stat

    def closed(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:  # root may look everywhere
        if str(path).startswith(f"{tmp_path}/folder/"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat_of(path, *args, **kwargs)

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(first_config.os, "access", lambda path, how: path != tmp_path / "folder")
    monkeypatch.setattr(first_config.os, "stat", closed)
    with pytest.raises(PermissionError) as caught:
        check_place(tmp_path / "folder" / "c.yaml", force=False)
    assert str(caught.value.strerror).endswith("folder/c.yaml cannot be written: Permission denied")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_config.os, "access", lambda path, how: path != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError) as caught:
        check_place(tmp_path / "folder" / "c.yaml", force=False)
    assert str(caught.value.strerror).endswith("folder/c.yaml cannot be written: Permission denied")
