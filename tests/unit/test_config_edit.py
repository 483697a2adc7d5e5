"""`default` is changed in the text of the file, and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
from pathlib import Path

import pytest
import yaml
from generated import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.config import load_config
from flexllm.configfile import edit
from flexllm.configfile.edit import set_default
from flexllm.errors import ConfigError

MODELS = "models:\n- id: a\n- id: b\n- id: it's\n- id: '12'\n- id: qwen:7b\n- id: '${x}'\n- id: 通义\n- id: 'null'\n"
IDS = ("a", "b", "it's", "12", "qwen:7b", "${x}", "通义", "null")


def edited(tmp_path: Path, text: str | bytes, model_id: str) -> str:
    """Return the file's text after the change; line ends as they are."""
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    set_default(load_config(file, {}), model_id)
    return file.read_bytes().decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("default: a\n", "default: b\n"),
        ("default: a", "default: b"),
        ('default: "a"  # mine\n', 'default: "b"  # mine\n'),
        ("default: 'a' # mine\n", "default: 'b' # mine\n"),
        ("default:    a\n", "default:    b\n"),
        ("default :  a\n", "default :  b\n"),
        ("default:\n", "default: b\n"),
        ("default: # none yet\n", "default: b # none yet\n"),
        ("default: ~\n", "default: b\n"),
        ("default:\n  a\n", "default:\n  b\n"),
        ("default: ${M:-a}\n", "default: b\n"),
        ("default: 12\n", None),
        ("default: |-\n  a\n", "default: b\n"),
        ("'default': a\n", "'default': b\n"),
        ("? default\n: a\n", "? default\n: b\n"),
    ],
)
def test_the_value_is_changed_and_what_stands_around_it_is_kept(tmp_path: Path, before: str, after: str | None) -> None:
    if after is None:  # a file that is wrong is not read, and so not changed
        with pytest.raises(ConfigError, match="default=12 must be a text"):
            edited(tmp_path, before + MODELS, "b")
        return
    rest = MODELS if before.endswith("\n") else ""
    head = "" if rest else MODELS
    assert edited(tmp_path, f"{head}{before}{rest}", "b") == f"{head}{after}{rest}"


@pytest.mark.parametrize(
    ("model_id", "plain", "single", "double"),
    [
        ("b", "b", "'b'", '"b"'),
        ("it's", '"it\'s"', "'it''s'", '"it\'s"'),
        ("12", '"12"', "'12'", '"12"'),
        ("qwen:7b", '"qwen:7b"', "'qwen:7b'", '"qwen:7b"'),
        ("${x}", '"$${x}"', "'$${x}'", '"$${x}"'),
        ("通义", '"通义"', "'通义'", '"通义"'),
        ("null", '"null"', "'null'", '"null"'),
        ("a\u200b😀", '"a\\u200b😀"', '"a\\u200b😀"', '"a\\u200b😀"'),
        ("\U000e0001", '"\\U000e0001"', '"\\U000e0001"', '"\\U000e0001"'),
    ],
)
def test_an_id_gets_the_quotes_that_stood_there_or_those_it_needs(
    tmp_path: Path, model_id: str, plain: str, single: str, double: str
) -> None:
    for old, new in (("a", plain), ("'a'", single), ('"a"', double)):
        assert edited(tmp_path, f"default: {old}\n{MODELS}", model_id) == f"default: {new}\n{MODELS}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MODELS, "default: b\n" + MODELS),
        ("---\n" + MODELS, "---\ndefault: b\n" + MODELS),
        ("# My file\n\n" + MODELS, "# My file\n\ndefault: b\n" + MODELS),
        ("# My file\n" + MODELS, "# My file\ndefault: b\n" + MODELS),
        ("# My file\n\n# the models\n# of mine\n" + MODELS, "# My file\n\ndefault: b\n# the models\n# of mine\n" + MODELS),
        ("%YAML 1.1\n---\n# models\n" + MODELS, "%YAML 1.1\n---\ndefault: b\n# models\n" + MODELS),
        ("batch: {cache: true}\n" + MODELS, "default: b\nbatch: {cache: true}\n" + MODELS),
        ("{models: [{id: a}, {id: b}]}", '{default: "b", models: [{id: a}, {id: b}]}'),
        ('{"models": [{"id": "a"}, {"id": "b"}]}\n', '{"default": "b", "models": [{"id": "a"}, {"id": "b"}]}\n'),
        ("--- {models: [{id: a}, {id: b}]}\n", '--- {default: "b", models: [{id: a}, {id: b}]}\n'),
        ("  models:\n  - id: a\n  - id: b\n", "  default: b\n  models:\n  - id: a\n  - id: b\n"),
        ("\ufeff" + MODELS, None),
    ],
)  # fmt: skip
def test_a_missing_default_is_put_before_the_first_key(tmp_path: Path, text: str, expected: str | None) -> None:
    if expected is None:  # YAML allows the mark at the beginning alone
        expected = "\ufeffdefault: b\n" + text[1:]
    assert edited(tmp_path, text, "b") == expected


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    text = "# mine\n\n# models\nmodels:\n- id: a\n- id: b\n".replace("\n", "\r\n")
    once = edited(tmp_path, text, "b")
    assert once == text.replace("# models", "default: b\r\n# models")
    assert edited(tmp_path, once, "a") == once.replace("default: b", "default: a")


def test_what_others_share_with_the_default_stays_theirs(tmp_path: Path) -> None:
    text = "models:\n- id: &x a\n- {id: b, name: *x}\ndefault: *x\nbatch: {}\n"
    assert edited(tmp_path, text, "b") == text.replace("default: *x", "default: b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default: !!str a\nmodels: [{id: a}, {id: b}]\n", "default: b\nmodels: [{id: a}, {id: b}]\n"),
        (
            "x: &x {default: a}\n<<: *x\nmodels: [{id: b}]\n",
            "default: b\nx: &x {default: a}\n<<: *x\nmodels: [{id: b}]\n",
        ),
    ],
)
def test_rare_ways_to_write_it(tmp_path: Path, text: str, expected: str) -> None:
    assert edited(tmp_path, text, "b") == expected


@pytest.mark.parametrize(
    "text",
    [
        b"default: &x a\nmodels:\n- id: *x\n- id: b\n",  # the model's id would go with it
        b"\xff\xfe" + "models: [{id: a}, {id: b}]\n".encode("utf-16-le"),
    ],
)
def test_what_is_not_safe_to_edit_is_left_as_it_is_with_what_to_do(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(
        ConfigError, match=r"not safe to edit, and is as it was; write this line yourself: default: b\Z"
    ):
        edited(tmp_path, text, "b")
    assert (tmp_path / "config.yaml").read_bytes() == text


COMMENT = st.sampled_from(["", "", "# a comment\n", "\n", "# default: no\n"])
SECTION = st.sampled_from(
    [
        "batch:\n  cache: true  # x\n",
        "unknown: [1, 2]\n",
        "prices:\n  m: 1,2\n",
        "notes: |\n  default: a\n  more\n",
        "'quoted key': 'default: a'\n",
        "batch: {concurrency: 3}\n",
    ]
)
DEFAULT = st.sampled_from(
    ["", "default: a\n", 'default: "a" # x\n', "default: 'a'\n", "default:\n", "default: >-\n  a\n"]
)
MODEL_LIST = st.sampled_from(
    [
        "models:\n  - id: a\n    system: |\n      default: a\n  - id: b\n",
        "models: [{id: a}, {id: b}]\n",
        "models:\n- name: a\n- id: b\n",
    ]
)  # fmt: skip


@settings(max_examples=examples(40))
@given(
    st.tuples(
        st.permutations([0, 1, 2]), SECTION, DEFAULT, MODEL_LIST, st.tuples(COMMENT, COMMENT, COMMENT, COMMENT),
        st.booleans(), st.booleans(),
    )
)  # fmt: skip
def test_of_any_file_one_line_is_changed_at_most(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[list[int], str, str, str, tuple[str, ...], bool, bool],
) -> None:
    order, *sections, comments, windows, no_end = drawn
    text = "".join(f"{comments[place]}{sections[number]}" for place, number in enumerate(order)) + comments[3]
    text = text.removesuffix("\n") if no_end else text
    text = text.replace("\n", "\r\n") if windows else text
    result = edited(tmp_path_factory.getbasetemp(), text, "b")
    old, new = yaml.safe_load(text), yaml.safe_load(result)
    assert {**old, "default": "b"} == new
    lines = [one for one in difflib.ndiff(text.splitlines(), result.splitlines()) if one[0] in "+-"]
    assert len([one for one in lines if one[0] == "+"]) == 1
    assert len([one for one in lines if one[0] == "-"]) <= (2 if ">-" in text else 1)
    assert [one for one in text.splitlines() if "#" in one and "default" not in one] == [
        one for one in result.splitlines() if "#" in one and "default" not in one
    ]
    assert result.endswith("\n") or not text.endswith("\n")
    assert "\n" not in (result.replace("\r\n", "") if windows else "")


@pytest.mark.parametrize(
    "wrong", ["default: b\nmodels: [{id: b}]\n", "default: b\n" + MODELS + "new: 1\n", MODELS, "["]
)
def test_a_text_that_says_anything_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(edit, "_with_default", lambda *_: wrong)
    with pytest.raises(ConfigError, match="not safe to edit"):
        edited(tmp_path, MODELS, "b")
    assert (tmp_path / "config.yaml").read_text() == MODELS


@given(
    st.text(alphabet="defaultab: \n'\"{}[],-#&*|>?!~%é", max_size=24),
    st.text(alphabet="defaultab: \n'\"{}[],-#&*|>?!~%é", max_size=24),
    st.sampled_from(["default: a\n", "default: &x a\n", "{default: a, ", "? default\n: a\n", ""]),
)
def test_any_file_that_can_be_read_is_edited_well_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str, default: str
) -> None:
    end = "}" if default.startswith("{") else ""
    text = f"{before}{default}models: [{{id: a}}, {{id: b}}]{end}{after}"
    with contextlib.suppress(ConfigError, yaml.YAMLError):  # the latter for keys that are no words
        result = edited(tmp_path_factory.getbasetemp(), text, "b")
        assert {**yaml.safe_load(text), "default": "b"} == yaml.safe_load(result)


def test_mode_and_link_are_kept_and_nothing_is_left_beside(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file = tmp_path / "real" / "mine.yaml"
    file.write_text("default: a\n" + MODELS)
    file.chmod(0o640)
    link = tmp_path / "config.yaml"
    link.symlink_to("real/mine.yaml")
    set_default(load_config(link, {}), "b")
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.read_text() == "default: b\n" + MODELS
    assert sorted(os.listdir(tmp_path / "real")) == ["mine.yaml"]
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "real"]


def test_a_file_that_cannot_be_replaced_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("default: a\n" + MODELS)
    config = load_config(file, {})

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"config\.yaml cannot be changed: No space left on device"):
        set_default(config, "b")
    assert file.read_text() == "default: a\n" + MODELS
    assert os.listdir(tmp_path) == ["config.yaml"]
