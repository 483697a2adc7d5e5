"""`flexllm list` and `flexllm set-model`, in the test's own process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flexllm.cli.main import main
from flexllm.cli.tables import shortened, table
from flexllm.terminal import width

KEY = "sk-0123456789abcdefghijklmnopqrstuvwxyz-0123456789"

CONFIG = f"""\
# mine
default: gpt-4
models:
  - id: gpt-4
    provider: openai
    base_url: https://api.openai.com/v1
    api_key: {KEY}
  - id: 通义
    name: qwen-max
    base_url: http://${{HOST}}/v1
    api_key: ${{QWEN_KEY}}
    params: {{temperature: 0.5}}
    system: Be
      brief.
  - id: store
    api_key_cmd: touch ran; echo key
"""

POOL = """\
batch:
  concurrency: 7
  endpoints:
    - {base_url: http://fast/v1, api_key: '${FAST}', model: qwen, concurrency_limit: 50, max_qps: 500}
    - {base_url: http://slow/v1, api_key_cmd: touch ran, weight: 0.5}
"""


@pytest.fixture(autouse=True)
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the configuration, which is the working directory too."""
    folder = clean_environment / ".flexllm"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(text: str) -> None:
    Path("config.yaml").write_text(text, encoding="utf-8")
    Path("config.yaml").chmod(0o600)


class Told:
    """What a command printed, and how it ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = main(arguments)
        self.out, self.err = capsys.readouterr()
        assert KEY not in self.out + self.err
        assert not Path("ran").exists(), "it has run a command"

    @property
    def data(self) -> Any:
        return json.loads(self.out)


# --- list


def test_list_shows_the_models_and_marks_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG)
    told = Told(capsys, "list")
    assert told.out == (
        "   id     name      provider  base_url\n"
        "*  gpt-4            openai    https://api.openai.com/v1\n"
        "   通义   qwen-max  auto      http://${HOST}/v1\n"
        "   store            auto      -\n"
    )
    assert (told.code, told.err) == (0, "")


def test_list_shows_the_endpoints_that_a_batch_asks(capsys: pytest.CaptureFixture[str]) -> None:
    write(POOL)
    assert Told(capsys, "list").out == (
        "flexllm batch asks these together, unless -m or --base-url names another:\n"
        "  model  base_url        limits\n"
        "  qwen   http://fast/v1  concurrency_limit 50, max_qps 500\n"
        "  -      http://slow/v1  weight 0.5\n"
    )
    write(CONFIG + POOL)
    assert len(Told(capsys, "list").out.splitlines()) == 9


def test_list_says_how_to_begin_where_there_is_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(capsys, "list")
    assert (told.code, told.out) == (0, "")
    assert told.err.startswith("There are no models in ~/.flexllm/config.yaml yet. To begin, run flexllm init, or set")
    assert Told(capsys, "list", "--json").data["models"] == []
    assert Told(capsys, "list", "-q").err == ""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://x")
    assert "OPENAI_BASE_URL is set, and names the server that is asked" in Told(capsys, "list").err


def test_list_says_that_the_environment_goes_before_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(CONFIG)
    monkeypatch.setenv("FLEXLLM_BASE_URL", "http://x")
    assert Told(capsys, "list").err.startswith("FLEXLLM_BASE_URL is set, and goes before the file: its server is asked")


@pytest.mark.parametrize(
    ("variable", "value", "is_told"),
    [
        ("FLEXLLM_MODEL", "通义", True),
        ("OPENAI_MODEL", "通义", True),
        ("OPENAI_MODEL", "qwen-max", True),
        ("OPENAI_MODEL", "gpt-of-another-program", False),
        ("FLEXLLM_MODEL", "  ", False),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("set-model", "gpt-4")])
def test_a_variable_that_chooses_another_model_than_the_default_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...], variable: str, value: str, is_told: bool,
) -> None:  # fmt: skip
    write(CONFIG)
    for name in ("HOST", "QWEN_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv(variable, value)
    said = f"{variable} is set, and goes before the default of the file." in Told(capsys, *command).err
    assert said == is_told
    asked = Told(capsys, "list", "--resolve", "--json").data["ask"]["settings"]["model"]
    assert (asked["value"] == "qwen-max") == is_told


def test_list_as_json_holds_everything_but_keys(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    write(CONFIG + POOL)
    data = Told(capsys, "list", "--json").data
    assert (data["path"], data["default"], data["warnings"]) == (str(home / "config.yaml"), "gpt-4", [])
    assert [(one["id"], one["api_key"], one["api_key_cmd"], one["is_default"]) for one in data["models"]] == [
        ("gpt-4", "sk-0123456789ab...6789", False, True),
        ("通义", "${QWEN_KEY}", False, False),
        ("store", None, True, False),
    ]
    assert data["models"][1]["params"] == {"temperature": 0.5}
    assert [(one["api_key"], one["api_key_cmd"]) for one in data["batch"]["endpoints"]] == [
        ("${FAST}", False), (None, True),
    ]  # fmt: skip
    assert data["batch"]["concurrency"] == 7


def test_a_default_value_of_a_variable_is_masked_like_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    write("models: [{id: a, api_key: '${K:-0123456789-a-key-all-the-same}'}]")
    assert Told(capsys, "list", "--json").data["models"][0]["api_key"] == "${K:...ame}"


def test_a_default_that_cannot_be_told_is_no_reason_to_show_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    write("default: ${LOST}\nmodels: [{id: a}]")
    told = Told(capsys, "list")
    assert "config.yaml, line 1: default asks for the environment variable LOST" in told.err
    assert told.out.splitlines()[1].split() == ["a", "auto", "-"]


# --- list --ids


def test_ids_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG + POOL)
    assert Told(capsys, "list", "--ids").out == "gpt-4\n通义\nstore\n"
    assert Told(capsys, "list", "--ids", "--json").data == ["gpt-4", "通义", "store"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("models:\n", []),
        ("models: 3\n", []),
        ("- a\n", []),
        ("models: [3, [a], {id: a, base_url: 7}, {name: b}, {id: , name: c}, {id: [x]}, {base_url: x}]", ["a", "b", "c"]),
        ("models: [&x {id: a}, {<<: *x, id: b}, {<<: *x}]", ["a", "b"]),
        ("modls: [{id: a}]\nmodels: [{id: b, api_key: 3}]\n[1]: 2\n".replace("[1]: 2", "? [1]\n: 2"), ["b"]),
    ],
)  # fmt: skip
def test_ids_are_all_that_is_looked_at(capsys: pytest.CaptureFixture[str], text: str, ids: list[str]) -> None:
    write(text)
    told = Told(capsys, "list", "--ids")
    assert (told.code, told.out.split(), told.err) == (0, ids, "")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 5_000, "- " * 5_000, "{a: " * 5_000, "? " * 5_000])
def test_a_file_that_is_nested_without_end_is_an_error(capsys: pytest.CaptureFixture[str], text: str) -> None:
    write(text)
    told = Told(capsys, "list", "--ids")
    assert (told.code, told.out, told.err.count("\n")) == (3, "", 1)
    assert "config.yaml is nested too deeply" in told.err


def test_ids_of_another_file_or_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Told(capsys, "list", "--ids").out, Told(capsys, "list", "--ids").code) == ("", 0)
    Path("other.yaml").write_text("models: [{id: x}]")
    assert Told(capsys, "list", "--ids", "--config", "other.yaml").out == "x\n"
    monkeypatch.setenv("FLEXLLM_CONFIG", "other.yaml")
    assert Told(capsys, "list", "--ids").out == "x\n"
    told = Told(capsys, "list", "--ids", "--config", "lost.yaml")
    assert (told.code, told.out, told.err.count("\n")) == (3, "", 1)
    Path("other.yaml").write_text("models: [")
    told = Told(capsys, "list", "--ids")
    assert (told.code, told.out) == (3, "")
    assert re.search(r"other\.yaml, line \d is not YAML", told.err)


def test_ids_obey_a_log_file_and_refuse_what_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG)
    assert Told(capsys, "list", "--ids", "--log-file", "run.log").code == 0
    assert "flexllm list ends with exit code 0" in Path("run.log").read_text()
    for option in ("--model", "--base-url", "--timeout"):
        told = Told(capsys, "list", "--ids", option, "5")
        assert (told.code, told.out) == (3, "")
        assert f"whatever {option} says" in told.err


@pytest.mark.parametrize("options", [("--resolve",), ("-m", "none"), ()])
def test_what_is_wrong_is_an_error_in_the_log_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FLEXLLM_MODEL", "none")
    Path("other.yaml").write_text("default: ${UNSET_BY_ALL}\nmodels: [{id: x}, {id: y}]")
    told = Told(capsys, "list", *options, "--config", "other.yaml", "--log-file", "run.log")
    [sentence] = [line.removeprefix("flexllm: ") for line in told.err.splitlines() if line.startswith("flexllm: ")]
    assert [line for line in Path("run.log").read_text().splitlines() if sentence in line and " ERROR " in line]


# --- list --resolve


def settings(part: dict[str, Any], *names: str) -> list[tuple[Any, str]]:
    return [(part["settings"][name]["value"], part["settings"][name]["source"]) for name in names]


def test_resolve_tells_each_value_and_its_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(CONFIG)
    monkeypatch.setenv("HOST", "h")
    monkeypatch.setenv("QWEN_KEY", KEY)
    data = Told(capsys, "list", "--resolve", "-m", "通义", "--timeout", "5", "--json").data
    file = "~/.flexllm/config.yaml, line"
    assert settings(data["ask"], "model", "base_url", "api_key", "provider", "params.temperature", "timeout") == [
        ("qwen-max", f"{file} 9"),
        ("http://h/v1", f"{file} 10"),
        ("sk-0123456789ab...6789", f"{file} 11"),
        ("auto", "default"),
        (0.5, f"{file} 12"),
        (5.0, "--timeout"),
    ]
    assert data["ask"]["settings"]["provider"]["found"] == "openai"
    assert data["config"] == {"path": "~/.flexllm/config.yaml", "source": "default", "exists": True}
    assert data["batch"]["asks_pool"] is False
    assert settings(data["batch"], "concurrency", "timeout", "cache") == [
        (10, "default"), (5.0, "--timeout"), (False, "default"),
    ]  # fmt: skip


def test_resolve_for_people_shows_three_columns(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG)
    lines = Told(capsys, "list", "--resolve").out.splitlines()
    assert lines[:3] == ["configuration: ~/.flexllm/config.yaml (default)", "", "flexllm ask"]
    assert re.fullmatch(r"  model +gpt-4 +~/.flexllm/config.yaml, line 4", lines[3])
    assert re.fullmatch(r"  api_key +sk-0123456789ab\.\.\.6789 +~/.flexllm/config.yaml, line 7", lines[5])
    assert "flexllm batch asks the same, with these settings:" in lines
    assert any(re.fullmatch(r"  max_cost +- +default", line) for line in lines)


def test_an_option_that_says_whom_to_ask_resolves_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG)
    out = Told(capsys, "list", "--base-url", "http://x/v1", "-m", "m").out
    assert re.search(r"model +m +--model\n +base_url +http://x/v1 +--base-url\n +api_key +EMPTY +default\n", out)


def test_resolve_says_that_a_command_would_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG + POOL)
    out = Told(capsys, "list", "--resolve", "-m", "store").out
    assert re.search(r"api_key +EMPTY +~/.flexllm/config.yaml, line 16, printed by api_key_cmd, which is run when", out)


def test_resolve_tells_whether_a_batch_asks_the_pool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(CONFIG + POOL)
    monkeypatch.setenv("FAST", KEY)
    data = Told(capsys, "list", "--resolve", "--json").data
    assert data["batch"]["asks_pool"] is True
    assert [(one["base_url"], one["api_key"], one["api_key_cmd"]) for one in data["batch"]["endpoints"]] == [
        ("http://fast/v1", "sk-0123456789ab...6789", False),
        ("http://slow/v1", None, True),
    ]
    out = Told(capsys, "list", "--resolve").out
    assert "flexllm batch asks the endpoints under batch.endpoints of ~/.flexllm/config.yaml together:\n" in out
    assert "http://slow/v1  key printed by api_key_cmd" in out
    assert re.search(r"concurrency +7 +~/.flexllm/config.yaml, line 18\n", out)
    assert Told(capsys, "list", "-m", "gpt-4", "--json").data["batch"]["asks_pool"] is False
    monkeypatch.setenv("FLEXLLM_MODEL", "gpt-4")
    assert Told(capsys, "list", "--resolve", "--json").data["batch"]["asks_pool"] is False


def test_resolve_tells_what_is_wrong_where_it_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    write(POOL.replace("'${FAST}'", "k"))
    told = Told(capsys, "list", "--resolve")  # ask can ask nobody, a batch can
    assert told.code == 0
    assert "flexllm ask\nno server is configured" in told.out
    write(POOL)
    told = Told(capsys, "list", "--resolve", "--json")
    assert told.code == 3
    assert "line 4: api_key asks for the environment variable FAST" in told.data["batch"]["problem"]
    told = Told(capsys, "list", "--resolve")
    assert (told.code, told.out) == (3, "")
    assert told.err.startswith("flexllm: no server is configured")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "gpt-5"), "no model 'gpt-5'; it has 'gpt-4'"),
        (("-m", ""), "model is given but empty"),
        (("-m", "m", "--base-url", "x"), "--base-url: base_url='x' is not a URL"),
        (("--provider", "nobody", "-m", "m", "--base-url", "http://x"), "provider='nobody' is not known"),
        (("--api-key", KEY), "an API key is given without the server"),
        (("-m", "通义"), "base_url asks for the environment variable HOST"),
        (("--config", "lost.yaml"), "lost.yaml does not exist"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    write(CONFIG)
    told = Told(capsys, "list", "--resolve", *arguments)
    assert (told.code, told.out, told.err.count("\n")) == (3, "", 1)
    assert said in told.err


# --- set-model


def test_set_model_changes_the_default_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    write(CONFIG)
    told = Told(capsys, "set-model", "通义")
    assert (told.code, told.out) == (0, "")
    assert told.err == "The default model of ~/.flexllm/config.yaml is now '通义'; it was 'gpt-4'.\n"
    assert Path("config.yaml").read_text(encoding="utf-8") == CONFIG.replace("default: gpt-4", 'default: "通义"')
    told = Told(capsys, "set-model", "qwen-max")  # by its name
    assert told.err == "The default model of ~/.flexllm/config.yaml is '通义' already.\n"
    assert Told(capsys, "set-model", "store", "--json").data == {
        "default": "store", "previous": "通义", "path": str(Path("config.yaml").absolute()),
    }  # fmt: skip
    assert Told(capsys, "list").out.splitlines()[3].startswith("*  store")


def test_set_model_says_what_goes_before(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("models: [{id: a}]")
    monkeypatch.setenv("FLEXLLM_MODEL", "b")
    assert Told(capsys, "set-model", "a").err == (
        "The default model of ~/.flexllm/config.yaml is now 'a'.\n"
        "FLEXLLM_MODEL is set, and goes before the default of the file.\n"
    )


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (CONFIG, "gpt4", "config.yaml has no model 'gpt4'; it has 'gpt-4', "),
        (CONFIG, "", "config.yaml has no model ''; it has"),
        ("batch: {}", "a", "config.yaml lists no models, so that none of them can be the default"),
        (None, "a", "there is no ~/.flexllm/config.yaml; 'flexllm init' writes one"),
        ("models: [", "a", "config.yaml, line 1 is not YAML"),
        ("models: [{id: x, name: a}, {id: y, name: a}]", "a", "several models are named 'a'; choose one by its id"),
    ],
)
def test_set_model_changes_nothing_where_it_cannot(
    capsys: pytest.CaptureFixture[str], text: str | None, name: str, said: str
) -> None:
    if text is not None:
        write(text)
    told = Told(capsys, "set-model", name)
    assert (told.code, told.out, told.err.count("\n")) == (3, "", 1)
    assert said in told.err
    assert text is None or Path("config.yaml").read_text(encoding="utf-8") == text


def test_set_model_mends_a_default_that_names_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write("default: gone\nmodels: [{id: a}]\n")
    assert Told(capsys, "set-model", "a").code == 0
    assert Path("config.yaml").read_text() == "default: a\nmodels: [{id: a}]\n"


# --- tables


def test_wide_letters_take_two_columns() -> None:
    assert (width("ab"), width("通义"), width("é"), width("e\u0301")) == (2, 4, 1, 1)
    assert table([("a", "", "x"), ("通", "", "y")]) == "a   x\n通  y"
    assert table([]) == ""


def test_numbers_stand_below_each_other_at_the_right() -> None:
    assert table([("通", "1", "n"), ("ab", "10.5", "")], right=[1]) == "通     1  n\nab  10.5"


def test_long_texts_are_cut_to_one_line() -> None:
    assert shortened("a\n  b\tc") == "a b c"
    assert shortened("x" * 61) == "x" * 59 + "…"
    assert shortened("通" * 30) == "通" * 30
    assert shortened("通" * 31) == "通" * 29 + "…", "what stays is measured in columns of the terminal"
    assert shortened("e\u0301" * 60) == "e\u0301" * 60


@pytest.mark.parametrize(
    ("text", "arguments", "place"),
    [
        ("models:\n- id: a\n  provider: opnai\n", ("test",), "~/.flexllm/config.yaml, line 3: "),
        ("models:\n- id: a\n  provider: opnai\n", ("models",), "~/.flexllm/config.yaml, line 3: "),
        ("models:\n- id: a\n", ("test", "--provider", "opnai", "--base-url", "http://127.0.0.1:9/v1"), "--provider: "),
        (
            "batch:\n  endpoints:\n  - base_url: http://127.0.0.1:9\n    provider: opnai\n",
            ("batch", "config.yaml", "-o", "out.jsonl"),
            "~/.flexllm/config.yaml, line 4: ",
        ),
    ],
)
def test_a_provider_that_there_is_not_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str], text: str, arguments: tuple[str, ...], place: str
) -> None:
    write(text)
    told = Told(capsys, *arguments)
    assert (told.code, told.err) == (
        3,
        f"flexllm: {place}provider='opnai' is not known; there are: auto, claude, gemini, openai\n",
    )
