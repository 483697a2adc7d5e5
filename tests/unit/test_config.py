"""The configuration: what a file may say, and which source decides whom to ask."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flexllm.config import (
    DEFAULT_PATH,
    BatchEndpoint,
    BatchSettings,
    Config,
    ModelEntry,
    ResolvedEndpoint,
    config_path,
    load_config,
    resolve_endpoint,
)
from flexllm.errors import ConfigError

SECRET = "sk-0123456789abcdefghijklmnopqrstuvwxyz-0123456789"

DOCUMENTED = """\
# 默认模型
default: "gpt-4"
models:
  - id: gpt-4
    name: gpt-4
    provider: openai
    base_url: https://api.openai.com/v1
    api_key: your-api-key
  - id: local-ollama
    name: local-ollama
    provider: openai
    base_url: http://localhost:11434/v1
    api_key: EMPTY
batch:
  concurrency: 10       # 并发数
  max_qps: 100
  timeout: 120
  cache: false
  return_usage: true
  track_cost: true
  endpoints:
    - base_url: http://fast-api.com/v1
      api_key: key1
      model: qwen
      concurrency_limit: 50
      max_qps: 500
    - base_url: http://slow-api.com/v1
      api_key: key2
      model: qwen
      concurrency_limit: 5
      max_qps: 50
  fallback: true
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without a configuration file, and no variable of the machine's."""
    for name in list(os.environ):
        if name.startswith("FLEXLLM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def load(tmp_path: Path, text: str | bytes) -> Config:
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    file.chmod(0o600)
    return load_config(file, {})


def complaint(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ prices


def test_prices_are_read_by_the_names_of_models(tmp_path: Path) -> None:
    text = "prices:\n  a: 0.5,1.5\n  b/c:latest: {input: 1, output: 2, cached_input: 0.1}\n  4: 1,2\n  nothing:\n"
    assert load(tmp_path, text).prices == {
        "a": "0.5,1.5",
        "b/c:latest": {"input": 1, "output": 2, "cached_input": 0.1},
        "4": "1,2",
    }


@pytest.mark.parametrize(
    "price",
    ["cheap", "1", "[1, 2]", "-1,2", "{input: 1}", "{input: 1, output: -2}", "{input: 1, output: 2, cached: 3}"],
)
def test_of_many_prices_the_one_that_is_wrong_is_named_with_its_line(tmp_path: Path, price: str) -> None:
    said = complaint(tmp_path, f"prices:\n  a: 1,2\n  b: {price}\n  c: 3,4\n")
    assert re.search(
        r"config\.yaml, line 3, prices\['b'\]: price\S* must be US dollars per million tokens, such as", said
    )


@pytest.mark.parametrize("prices", ["3", "[a]", "a", "{[1]: '1,2'}"])
def test_prices_that_are_no_mapping_are_refused_with_their_line(tmp_path: Path, prices: str) -> None:
    said = complaint(tmp_path, f"default: a\nmodels: [{{id: a}}]\nprices: {prices}\n")
    assert "config.yaml, line 3, prices must be a mapping of models to prices, such as 'my-model: 0.5,1.5'" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models:\n  - id: a\n    price: dear", "line 3, models[0]: price='dear' must be US dollars"),
        (
            "batch:\n  endpoints:\n    - base_url: http://a\n      price: 1",
            "line 4, batch.endpoints[0]: price=1 must be",
        ),
        ("batch:\n  max_cost: 0", "line 2, batch: max_cost=0 must be a number above 0"),
        ("batch:\n  max_cost: yes", "line 2, batch: max_cost=True must be a number above 0"),
        ("batch:\n  max_cost: .inf", "line 2, batch: max_cost=inf must be a number above 0"),
        ("batch:\n  max_cost: $5", "line 2, batch: max_cost='$5' must be a number above 0"),
        ("batch:\n  cache: 1", "line 2, batch: cache=1 must be true or false"),
        ("batch:\n  track_cost: 'true'", "line 2, batch: track_cost='true' must be true or false"),
        ("batch:\n  return_usage: [true]", "line 2, batch: return_usage must be true or false"),
    ],
)
def test_what_is_wrong_about_costs_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in complaint(tmp_path, text)


# ------------------------------------------------------------------------------------------------ finding the file


def test_a_missing_default_file_is_an_empty_configuration() -> None:
    assert load_config(None, {}) == Config()


def test_the_default_file_is_found_in_the_home_directory(home: Path) -> None:
    (home / ".flexllm").mkdir(parents=True)
    (home / ".flexllm/config.yaml").write_text("models: [{id: a}]")
    config = load_config(None, {})
    assert config.path == home / ".flexllm/config.yaml"
    assert resolve_endpoint(config, environ={}).source == f"{DEFAULT_PATH}, models[0]"


@pytest.mark.parametrize(
    ("path", "variable", "expected"),
    [
        ("argument.yaml", "variable.yaml", "argument.yaml"),
        (None, " variable.yaml ", "variable.yaml"),
        (None, "  ", "~/.flexllm/config.yaml"),
        ("~/mine.yaml", "", "~/mine.yaml"),
    ],
)
def test_the_argument_comes_before_the_variable_before_the_default(
    path: str | None, variable: str, expected: str
) -> None:
    assert config_path(path, {"FLEXLLM_CONFIG": variable}) == Path(expected).expanduser()


def test_a_missing_file_that_is_named_is_an_error(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match=r"missing\.yaml does not exist"):
        load_config(missing, {})
    with pytest.raises(ConfigError, match=r"missing\.yaml \(named by FLEXLLM_CONFIG\) does not exist"):
        load_config(None, {"FLEXLLM_CONFIG": missing})


@pytest.mark.parametrize("name", ["", " "])
def test_a_file_without_a_name_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="its name is empty; give one, or leave it out"):
        load_config(name, {})


def test_a_name_that_no_file_can_have_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        load_config("a\0b", {})


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})


# ------------------------------------------------------------------------------------------------ what a file says


def test_the_documented_file_is_read_as_documented(tmp_path: Path) -> None:
    config = load(tmp_path, DOCUMENTED)
    assert config == Config(
        default="gpt-4",
        models=(
            ModelEntry(
                id="gpt-4",
                name="gpt-4",
                provider="openai",
                base_url="https://api.openai.com/v1",
                api_key="your-api-key",
            ),
            ModelEntry(id="local-ollama", name="local-ollama", provider="openai", base_url="http://localhost:11434/v1"),
        ),
        batch=BatchSettings(
            concurrency=10,
            max_qps=100,
            timeout=120,
            cache=False,
            return_usage=True,
            track_cost=True,
            endpoints=(
                BatchEndpoint(
                    base_url="http://fast-api.com/v1", api_key="key1", model="qwen", concurrency_limit=50, max_qps=500
                ),
                BatchEndpoint(
                    base_url="http://slow-api.com/v1", api_key="key2", model="qwen", concurrency_limit=5, max_qps=50
                ),
            ),
            fallback=True,
        ),
        path=tmp_path / "config.yaml",
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff", "models:\nbatch:\ndefault:\n", "models: []"])
def test_a_file_that_says_nothing_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Config(path=tmp_path / "config.yaml")


def test_an_entry_carries_its_prompts_and_parameters(tmp_path: Path) -> None:
    text = "models: [{id: a, system: Be brief., user_template: '{content}!', params: {temperature: 0.2, stop: [x]}}]"
    (entry,) = load(tmp_path, text).models
    assert (entry.system, entry.user_template) == ("Be brief.", "{content}!")
    assert entry.params == {"temperature": 0.2, "stop": ["x"]}


def test_id_and_name_stand_in_for_each_other(tmp_path: Path) -> None:
    config = load(tmp_path, "models: [{id: a}, {name: b}, {id: c, name: d}]")
    assert [(entry.id, entry.name) for entry in config.models] == [("a", "a"), ("b", "b"), ("c", "d")]


def test_an_empty_value_counts_as_not_set(tmp_path: Path) -> None:
    config = load(tmp_path, "models: [{id: a, base_url: , api_key: '', params: }]\nbatch: {timeout: , endpoints: }")
    assert config.models == (ModelEntry(id="a", name="a"),)
    assert config.batch == BatchSettings()


def test_yes_and_no_are_booleans(tmp_path: Path) -> None:
    assert load(tmp_path, "batch: {cache: yes, fallback: no}").batch == BatchSettings(cache=True, fallback=False)


def test_merge_keys_share_what_entries_have_in_common(tmp_path: Path) -> None:
    text = """\
models:
- &a {id: a, base_url: http://a/v1, api_key: k}
- {<<: *a, id: b}
- {<<: *a, id: c, api_key: own}
- {<<: *a, id: d, api_key: }
"""
    config = load(tmp_path, text)
    assert [(entry.id, entry.base_url, entry.api_key) for entry in config.models] == [
        ("a", "http://a/v1", "k"),
        ("b", "http://a/v1", "k"),
        ("c", "http://a/v1", "own"),
        ("d", "http://a/v1", "EMPTY"),
    ]


def test_a_default_that_names_no_model_is_a_warning_until_it_is_needed(tmp_path: Path) -> None:
    config = load(tmp_path, "default: gpt4\nmodels: [{id: gpt-4}, {id: qwen}]")
    assert "default='gpt4' is the id or name of no model" in config.warnings[0]
    assert resolve_endpoint(config, model="qwen", environ={}).model == "qwen"
    with pytest.raises(ConfigError, match="no model 'gpt4', its own default; it has 'gpt-4', 'qwen'"):
        resolve_endpoint(config, environ={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modls: []", "line 1: unknown key 'modls' is ignored; did you mean 'models'?"),
        ("models:\n- id: a\n  base-url: x", "line 3, models[0]: unknown key 'base-url' is ignored; did you mean"),
        ("batch:\n  concurency: 3", "line 2, batch: unknown key 'concurency' is ignored; did you mean 'concurrency'?"),
        ("batch: {endpoints: [{base_url: 'http://a', wait: 3}]}", "batch.endpoints[0]: unknown key 'wait' is ignored"),
        ("zzz: 1", "unknown key 'zzz' is ignored; known here: default, models, batch"),
        ("5: 1", "unknown key '5'"),
        ("true: 1", "unknown key 'true'"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_a_warning_that_names_the_nearest_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, expected: str
) -> None:
    with caplog.at_level(logging.WARNING, "flexllm.configfile"):
        config = load(tmp_path, text)
    assert len(config.warnings) == 1
    assert expected in config.warnings[0]
    assert caplog.messages == list(config.warnings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default: 4", "line 1: default=4 must be a text"),
        ("- a", "line 1 must be a mapping"),
        ("just words", "line 1 must be a mapping"),
        ("\nmodels: 3", "line 2, models must be a list"),
        ("models: {a: {}}", "line 1, models must be a list"),
        ("models:\n- a", "line 2, models[0] must be a mapping"),
        ("models:\n- base_url: http://a", "line 2, models[0] needs an id or a name"),
        ("models:\n- id: a\n- id: b\n- id: a", "line 4, models[2]: id='a' is the id of an earlier model too"),
        ("models:\n- id: a\n  name: 4.5", "line 3, models[0]: name=4.5 must be a text"),
        ("models:\n- id: a\n  name: ' '", "line 3, models[0]: name=' ' must be a text that is not empty"),
        ("models:\n- id: a\n  base_url: api.a.com", "line 3, models[0]: base_url='api.a.com' is not a URL"),
        ("models:\n- id: a\n  base_url: 'http://[::1'", "line 3, models[0]: "),
        ("models:\n- id: a\n  params: 3", "line 3, models[0]: params=3 must be a mapping"),
        ("models:\n- id: a\n  params: [3]", "line 3, models[0]: params must be a mapping"),
        ("models:\n- id: a\n  params: {1: 2}", "line 3, models[0]: params must be a mapping"),
        ("models:\n- id: a\n  params: {day: 2024-01-01}", "line 3, models[0]: params must be a mapping of request"),
        ("models:\n- id: a\n  params: {top_p: .nan}", "params must be a mapping of request parameters that JSON can"),
        ("models:\n- id: 2024-13-45", "line 2, models[0]: id cannot be read; it must be a text"),
        ("batch: 3", "line 1, batch must be a mapping"),
        ("batch:\n  concurrency: 0", "line 2, batch: concurrency=0 must be a whole number of at least 1"),
        ("batch:\n  concurrency: 1.5", "line 2, batch: concurrency=1.5 must be a whole number of at least 1"),
        ("batch:\n  concurrency: yes", "line 2, batch: concurrency=True must be a whole number of at least 1"),
        ("batch:\n  max_qps: 0", "line 2, batch: max_qps=0 must be a number above 0"),
        ("batch:\n  max_qps: .inf", "line 2, batch: max_qps=inf must be a number above 0"),
        ("batch:\n  timeout: .nan", "line 2, batch: timeout=nan must be a number above 0"),
        ("batch:\n  timeout: 2 min", "line 2, batch: timeout='2 min' must be a number above 0"),
        ("batch:\n  timeout: true", "line 2, batch: timeout=True must be a number above 0"),
        ("batch:\n  cache: 1", "line 2, batch: cache=1 must be true or false"),
        ("batch:\n  fallback: 'no'", "line 2, batch: fallback='no' must be true or false"),
        ("batch:\n  fail_over: 1.5", "line 2, batch: fail_over=1.5 must be a share above 0 and up to 1, such as 0.1"),
        ("batch:\n  fail_over: true", "line 2, batch: fail_over=True must be a share"),
        ("batch:\n  load_balance: rond_robin", "line 2, batch: load_balance='rond_robin' must be one of round_robin, wei"),
        ("batch:\n  load_balance: [random]", "line 2, batch: load_balance must be one of round_robin"),
        ("batch:\n  endpoints: 3", "line 2, batch.endpoints must be a list"),
        ("batch:\n  endpoints:\n  - model: a", "line 3, batch.endpoints[0] needs a base_url"),
        ("batch:\n  endpoints:\n  - {base_url: http://a, weight: -1}", "line 3, batch.endpoints[0]: weight=-1 must"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    message = complaint(tmp_path, text)
    assert message.startswith(f"{tmp_path}/config.yaml, line ")
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default: a\nmodels: [", "line 2 is not YAML: expected the node content, but found '<stream end>'"),
        ("default: a\n\tmodels: b", "line 2 is not YAML: found character '\\t' that cannot start any token"),
        ("a: b: c", "line 1 is not YAML: mapping values are not allowed here"),
        ("default: a\n---\ndefault: b", "line 2 is not YAML: but found another document"),
        ("default: *gone", "line 1 is not YAML: found undefined alias 'gone'"),
        ("default: !!python/name:os.system", "line 1 is not YAML: could not determine a constructor"),
        ("models: []\nmodels: [{id: a}]", "line 2 is not YAML: 'models' stands here again"),
        ("models: [{id: a, params: {x: 1, x: 2}}]", "line 1 is not YAML: 'x' stands here again"),
        (b"default: a\nsystem: \xff", "line 2 is not UTF-8 text"),
        ("a: 1\nb: \x00", "line 2 has a character that YAML does not allow"),
        ("[" * 1000, "is nested too deeply"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in complaint(tmp_path, text)


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}&*<!|'\"# \n\t0._=,?~%é", max_size=40) | st.binary(max_size=40))
def test_any_bytes_are_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    with contextlib.suppress(ConfigError):
        load(tmp_path_factory.getbasetemp(), text)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "http://a", SECRET]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["default", "models", "batch", "endpoints", "id", "name", "base_url", "api_key", "params"]
                ),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: value if isinstance(value, dict) else {"models": value})
)
def test_any_content_is_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    with contextlib.suppress(ConfigError):
        load(tmp_path_factory.getbasetemp(), yaml.safe_dump(content))


# ------------------------------------------------------------------------------------------------ keys stay hidden


@pytest.mark.parametrize(
    "text",
    [
        f"models:\n- id: a\n  api_key: {SECRET} and more",
        f"models:\n- id: a\n  api_key: [{SECRET}]",
        "models:\n- id: a\n  api_key: 50123456789",
        f"models: {{a: {{api_key: {SECRET}}}}}",
        f"models:\n- id: a\n  params: [{{api_key: {SECRET}}}]",
        f"models:\n- id: {{api_key: {SECRET}}}",
        f"models:\n- id: a\n  api_key: {SECRET}: b",
        f"models:\n- id: a\n  api_key: *{SECRET}",
        f"models:\n- id: a\n  api_key: !{SECRET} b",
        f"models:\n- id: !!set {{{SECRET}: }}",
        f"models:\n- id: a\n  base_url: http://user:{SECRET}@host/v1",
    ],
)
def test_no_message_shows_a_key(tmp_path: Path, text: str) -> None:
    message = complaint(tmp_path, text)
    assert "0123456789" not in message


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    text = f"models: [{{id: a, api_key: {SECRET}}}]\nbatch: {{endpoints: [{{base_url: http://a, api_key: {SECRET}}}]}}"
    config = load(tmp_path, text)
    shown = repr(config) + repr(resolve_endpoint(config, environ={}))
    assert config.models[0].api_key == SECRET
    assert SECRET not in shown
    assert shown.count("api_key='sk-0123456789ab...6789'") == 3


def test_values_pickle(tmp_path: Path) -> None:
    config = load(tmp_path, DOCUMENTED)
    assert pickle.loads(pickle.dumps(config)) == config
    endpoint = resolve_endpoint(config, environ={})
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


# ------------------------------------------------------------------------------------------------ whom to ask

A = ModelEntry(
    id="a",
    name="model-a",
    provider="openai",
    base_url="http://file-a/v1",
    api_key="file-a",
    system="s",
    params={"n": 1},
)
B = ModelEntry(id="b", name="model-b", base_url="http://file-b/v1", api_key="file-b")
BARE = ModelEntry(id="bare", name="model-bare", provider="claude", api_key="file-bare")

NOTHING = Config()
ONE = Config(models=(A,))
TWO = Config(models=(A, B))
TWO_DEFAULT = Config(models=(A, B), default="model-b")

URL = {"FLEXLLM_BASE_URL": "http://env/v1"}
KEY = {"FLEXLLM_API_KEY": "env"}
MODEL = {"FLEXLLM_MODEL": "env-model"}
PAIR = {**URL, **KEY}
FLAG_URL = {"base_url": "http://flag/v1"}
FLAG_KEY = {"api_key": "flag"}

FROM_A = ("http://file-a/v1", "file-a", "model-a")
FROM_B = ("http://file-b/v1", "file-b", "model-b")


@pytest.mark.parametrize(
    ("config", "flags", "environ", "expected"),
    [
        # A URL on the command line: no key of another source, a model name of any.
        (NOTHING, {**FLAG_URL, "model": "m"}, {}, ("http://flag/v1", "EMPTY", "m")),
        (NOTHING, {**FLAG_URL, **FLAG_KEY, "model": "m"}, {}, ("http://flag/v1", "flag", "m")),
        (TWO_DEFAULT, {**FLAG_URL, "model": "a"}, {**PAIR, **MODEL}, ("http://flag/v1", "EMPTY", "a")),
        (TWO_DEFAULT, FLAG_URL, {**PAIR, **MODEL}, ("http://flag/v1", "EMPTY", "env-model")),
        (TWO_DEFAULT, FLAG_URL, PAIR, ("http://flag/v1", "EMPTY", "model-b")),
        (ONE, {**FLAG_URL, **FLAG_KEY}, KEY, ("http://flag/v1", "flag", "model-a")),
        # An entry by -m: its own pair, whatever the environment says.
        (TWO, {"model": "a"}, {}, FROM_A),
        (TWO, {"model": "model-a"}, {}, FROM_A),
        (TWO, {"model": "a"}, {**PAIR, **MODEL}, FROM_A),
        (TWO_DEFAULT, {"model": "a"}, KEY, FROM_A),
        (TWO, {"model": "a", **FLAG_KEY}, PAIR, ("http://file-a/v1", "flag", "model-a")),
        # Another model by -m.
        (TWO, {"model": "m"}, {**PAIR, **MODEL}, ("http://env/v1", "env", "m")),
        (TWO, {"model": "m"}, URL, ("http://env/v1", "EMPTY", "m")),
        (NOTHING, {"model": "m"}, KEY, (None, "env", "m")),
        (NOTHING, {"model": "m", **FLAG_KEY}, {}, (None, "flag", "m")),
        (NOTHING, {"model": "m", **FLAG_KEY}, KEY, (None, "flag", "m")),
        # No -m.
        (TWO_DEFAULT, {}, {**PAIR, **MODEL}, ("http://env/v1", "env", "env-model")),
        (TWO_DEFAULT, {}, {**URL, "FLEXLLM_MODEL": "a"}, ("http://env/v1", "EMPTY", "a")),
        (TWO_DEFAULT, {}, {"FLEXLLM_MODEL": "a"}, FROM_A),
        (TWO_DEFAULT, {}, {**KEY, "FLEXLLM_MODEL": "a"}, FROM_A),
        (NOTHING, {}, {**KEY, **MODEL}, (None, "env", "env-model")),
        (NOTHING, FLAG_KEY, MODEL, (None, "flag", "env-model")),
        # The file alone.
        (ONE, {}, {}, FROM_A),
        (ONE, {}, KEY, FROM_A),
        (TWO_DEFAULT, {}, {}, FROM_B),
        (Config(models=(A, B), default="a"), {}, {}, FROM_A),
        # Blanks around a variable, and a blank one.
        (NOTHING, {}, {"FLEXLLM_BASE_URL": " http://env/v1/\n", "FLEXLLM_API_KEY": "env\r\n", "FLEXLLM_MODEL": " m "},
         ("http://env/v1", "env", "m")),
        (ONE, {}, {"FLEXLLM_BASE_URL": " ", "FLEXLLM_API_KEY": "", "FLEXLLM_MODEL": "\n"}, FROM_A),
    ],
)  # fmt: skip
def test_url_key_and_model_come_from(
    config: Config, flags: dict[str, str], environ: Mapping[str, str], expected: tuple[str | None, str, str]
) -> None:
    found = resolve_endpoint(config, **flags, environ=environ)
    assert (found.base_url, found.api_key, found.model) == expected


@pytest.mark.parametrize(
    ("config", "flags", "environ", "expected"),
    [
        (NOTHING, {}, {}, "no server is configured: .*--base-url.*FLEXLLM_BASE_URL.*FLEXLLM_MODEL.*~/.flexllm/config"),
        (NOTHING, {"model": "m"}, MODEL, "no server is configured"),
        (NOTHING, FLAG_URL, {}, "the command line says whom to ask, but not for which model; .*-m.*FLEXLLM_MODEL"),
        (TWO, FLAG_URL, {}, "not for which model"),
        (TWO_DEFAULT, {}, PAIR, "the environment says whom to ask, but not for which model; .*-m.*FLEXLLM_MODEL"),
        (NOTHING, {}, KEY, "the environment says whom to ask, but not for which model"),
        (NOTHING, FLAG_KEY, {}, "the command line says whom to ask, but not for which model"),
        (TWO_DEFAULT, {"model": "model-bb"}, KEY, "no model 'model-bb'; it has 'b', 'a': choose one with -m, or"),
        (TWO_DEFAULT, {}, MODEL, "no model 'env-model'; it has 'a', 'b'"),
        (TWO, {}, {}, "several models and no default; it has 'a', 'b'"),
        # A key on the command line for a server that the command line does not name.
        (NOTHING, {**FLAG_KEY, "model": "m"}, URL, "an API key is given without the server.*--base-url too$"),
        (ONE, FLAG_KEY, {}, "an API key is given without the server.*--base-url too, or -m with an entry of .*: 'a'$"),
        (ONE, FLAG_KEY, {"FLEXLLM_MODEL": "a"}, "an API key is given without the server"),
        (ONE, {**FLAG_KEY, "model": "m"}, {}, "an API key is given without the server"),
        # Values that cannot be.
        (ONE, {"model": ""}, {}, "model is given but empty"),
        (ONE, {"base_url": " "}, {}, "base_url is given but empty"),
        (ONE, {"model": "a", "api_key": ""}, {}, "api_key is given but empty"),
        (NOTHING, {"base_url": "flag/v1", "model": "m"}, {}, "--base-url: base_url='flag/v1' is not a URL"),
        (NOTHING, {**FLAG_URL, "api_key": "k y", "model": "m"}, {}, "--api-key: api_key holds a character"),
        (ONE, {"api_key": "k y", "model": "a"}, {}, "--api-key: api_key holds a character"),
        (NOTHING, {}, {"FLEXLLM_BASE_URL": "env/v1", **MODEL}, "FLEXLLM_BASE_URL: base_url='env/v1' is not a URL"),
        (NOTHING, {}, {"FLEXLLM_API_KEY": "k y", **MODEL}, "FLEXLLM_API_KEY: api_key holds a character"),
    ],
)  # fmt: skip
def test_what_leaves_open_whom_to_ask_is_refused_with_what_to_do(
    config: Config, flags: dict[str, str], environ: Mapping[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        resolve_endpoint(config, **flags, environ=environ)


def test_an_entry_brings_its_provider_prompt_and_parameters() -> None:
    config = Config(models=(B, A), path=Path("/etc/flexllm.yaml"))
    assert resolve_endpoint(config, model="a", environ=PAIR) == ResolvedEndpoint(
        model="model-a",
        base_url="http://file-a/v1",
        api_key="file-a",
        provider="openai",
        system="s",
        params={"n": 1},
        entry_id="a",
        source="/etc/flexllm.yaml, models[1]",
    )


def test_another_server_gets_nothing_of_an_entry_but_the_model_name() -> None:
    assert resolve_endpoint(ONE, **FLAG_URL, environ={}) == ResolvedEndpoint(
        model="model-a", base_url="http://flag/v1", source="the command line"
    )


def test_the_source_is_named() -> None:
    assert resolve_endpoint(ONE, model="m", environ=URL).source == "the environment"
    assert resolve_endpoint(NOTHING, model="m", **FLAG_KEY, environ=KEY).source == "the command line"
    found = resolve_endpoint(ONE, model="a", **FLAG_KEY, environ={})
    assert found.source == "~/.flexllm/config.yaml, models[0], with the key of the command line"


def test_the_provider_of_the_command_line_wins() -> None:
    assert resolve_endpoint(ONE, provider="claude", environ={}).provider == "claude"
    assert resolve_endpoint(NOTHING, model="m", provider="claude", environ=PAIR).provider == "claude"
    assert resolve_endpoint(NOTHING, model="m", environ=PAIR).provider == "auto"


def test_another_provider_does_not_get_the_key_of_an_entry_without_url() -> None:
    config = Config(models=(BARE,))
    with pytest.raises(ConfigError, match="its key belongs to provider 'claude'"):
        resolve_endpoint(config, provider="gemini", environ={})
    assert resolve_endpoint(config, provider="claude", environ={}).api_key == "file-bare"
    assert resolve_endpoint(config, model="bare", provider="gemini", **FLAG_KEY, environ={}).api_key == "flag"


def test_an_id_comes_before_a_name_and_a_name_of_several_is_refused() -> None:
    config = Config(models=(ModelEntry(id="x", name="a"), ModelEntry(id="a", name="q"), ModelEntry(id="y", name="q")))
    assert config.find("a") is config.models[1]
    assert config.find("nobody") is None
    with pytest.raises(ConfigError, match="several models are named 'q'; choose one by its id: 'a', 'y'"):
        resolve_endpoint(config, model="q", environ={})


def test_a_lone_key_in_the_environment_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flexllm.configfile"):
        resolve_endpoint(ONE, environ=KEY)
    assert len(caplog.messages) == 1
    assert "FLEXLLM_API_KEY is ignored" in caplog.messages[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "flexllm.configfile"):
        resolve_endpoint(ONE, environ={})
        resolve_endpoint(ONE, model="a", environ=PAIR)
        resolve_endpoint(ONE, model="m", environ=PAIR)
    assert not caplog.messages


def test_importing_the_module_loads_the_standard_library_alone() -> None:
    code = (
        "import sys, flexllm.config; print([name for name in ('yaml', 'requests', 'argparse') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("config", "flags", "environ", "expected"),
    [
        (NOTHING, FLAG_URL, {}, ""),
        (TWO, FLAG_URL, {}, ""),
        (TWO_DEFAULT, {}, PAIR, ""),
        (NOTHING, {}, KEY, ""),
        (Config(models=(A, B), default="${UNSET}"), FLAG_URL, {}, ""),
        (TWO_DEFAULT, FLAG_URL, {}, "model-b"),
        (NOTHING, FLAG_URL, MODEL, "env-model"),
        (ONE, {}, {}, "model-a"),
    ],
)
def test_a_server_may_be_asked_for_which_nobody_names_a_model(
    config: Config, flags: dict[str, str], environ: Mapping[str, str], expected: str
) -> None:
    assert resolve_endpoint(config, **flags, environ=environ, needs_model=False).model == expected


@pytest.mark.parametrize(
    ("config", "flags", "environ", "expected"),
    [
        (NOTHING, {}, {}, "no server is configured"),
        (TWO, {}, {}, "several models and no default; it has 'a', 'b'"),
        (TWO_DEFAULT, {}, MODEL, "no model 'env-model'"),
        (ONE, {"model": ""}, {}, "model is given but empty"),
    ],
)
def test_whom_to_ask_must_be_said_all_the_same(
    config: Config, flags: dict[str, str], environ: Mapping[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        resolve_endpoint(config, **flags, environ=environ, needs_model=False)
