"""The environment: FLEXLLM_* before OPENAI_*, both before the file; and no key at another source's server."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from generated import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flexllm.config import (
    BatchEndpoint,
    BatchSettings,
    Config,
    ModelEntry,
    load_config,
    names_server,
    resolve_endpoint,
    resolve_pool,
)
from flexllm.config.environment import KNOWN, read_environment
from flexllm.config.keys import _OTHERS_MODELS
from flexllm.errors import ConfigError
from flexllm.providers import find_provider

OPENAI = "https://api.openai.com/v1"
A = ModelEntry(id="a", name="model-a", base_url="http://file-a/v1", api_key="file-a", provider="claude")
FREE = ModelEntry(id="free", name="model-free", base_url="http://file-free/v1")
AT_OPENAI = ModelEntry(id="at-openai", name="gpt", base_url=OPENAI)
AT_OPENAI_WITH_KEY = ModelEntry(id="own", name="gpt-own", base_url=OPENAI, api_key="file-own")
BARE = ModelEntry(id="bare", name="gpt-bare")
CLAUDE = ModelEntry(id="claude", name="claude-sonnet-5-5")
FILE = Config(models=(A, FREE, AT_OPENAI, AT_OPENAI_WITH_KEY, BARE, CLAUDE), default="a")
NOTHING = Config()

URL = {"FLEXLLM_BASE_URL": "http://env/v1"}
KEY = {"FLEXLLM_API_KEY": "env"}
MODEL = {"FLEXLLM_MODEL": "env-model"}
O_URL = {"OPENAI_BASE_URL": "http://openai-url/v1"}
O_KEY = {"OPENAI_API_KEY": "openai"}
O_MODEL = {"OPENAI_MODEL": "openai-model"}
M = {"model": "m"}


def found(config: Config, flags: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str | None, str, str]:
    resolved = resolve_endpoint(config, **flags, environ=environ)
    return resolved.base_url, resolved.api_key, resolved.model


@pytest.mark.parametrize(
    ("config", "flags", "environ", "expected"),
    [
        # OPENAI_* name a server as FLEXLLM_* do, below them.
        (NOTHING, {}, {**O_URL, **O_KEY, **O_MODEL}, ("http://openai-url/v1", "openai", "openai-model")),
        (NOTHING, M, O_URL, ("http://openai-url/v1", "EMPTY", "m")),
        (NOTHING, {}, {**O_URL, **O_KEY, **O_MODEL, **MODEL}, ("http://openai-url/v1", "openai", "env-model")),
        (NOTHING, {}, {**URL, **O_URL, **O_KEY, **O_MODEL}, ("http://env/v1", "EMPTY", "openai-model")),
        (NOTHING, {}, {**URL, **KEY, **O_URL, **O_KEY, **MODEL}, ("http://env/v1", "env", "env-model")),
        (FILE, M, {**O_URL, **O_KEY}, ("http://openai-url/v1", "openai", "m")),
        (FILE, {}, {**O_URL, **O_KEY, **O_MODEL}, ("http://openai-url/v1", "openai", "openai-model")),
        (FILE, {"model": "a"}, {**O_URL, **O_KEY, **O_MODEL}, ("http://file-a/v1", "file-a", "model-a")),
        # A key alone names OpenAI's own server, where nothing else names one.
        (NOTHING, M, O_KEY, (OPENAI, "openai", "m")),
        (NOTHING, {}, {**O_KEY, **O_MODEL}, (OPENAI, "openai", "openai-model")),
        (NOTHING, M, {**KEY, **O_KEY}, (None, "env", "m")),
        (NOTHING, {**M, "api_key": "flag"}, O_KEY, (None, "flag", "m")),
        (FILE, {}, O_KEY, ("http://file-a/v1", "file-a", "model-a")),
        # OPENAI_API_KEY is used where the server is its own and nobody else gives a key.
        (FILE, {"model": "at-openai"}, O_KEY, (OPENAI, "openai", "gpt")),
        (FILE, {"model": "own"}, O_KEY, (OPENAI, "file-own", "gpt-own")),
        (FILE, {"model": "bare"}, O_KEY, (OPENAI, "openai", "gpt-bare")),
        (FILE, {"model": "claude"}, O_KEY, (None, "EMPTY", "claude-sonnet-5-5")),
        (FILE, {"model": "free"}, O_KEY, ("http://file-free/v1", "EMPTY", "model-free")),
        (FILE, {"model": "at-openai"}, {**O_KEY, **O_URL}, (OPENAI, "EMPTY", "gpt")),
        (FILE, {"model": "bare"}, {**O_KEY, **O_URL}, (None, "EMPTY", "gpt-bare")),
        (FILE, {"model": "free"}, {**O_KEY, "OPENAI_BASE_URL": "http://FILE-FREE:80/v1/"},
         ("http://file-free/v1", "openai", "model-free")),
        (FILE, {"model": "free"}, {**O_KEY, "OPENAI_BASE_URL": "http://file-free/v2"},
         ("http://file-free/v1", "EMPTY", "model-free")),
        (NOTHING, {**M, "base_url": OPENAI}, O_KEY, (OPENAI, "openai", "m")),
        (NOTHING, {**M, "base_url": OPENAI, "api_key": "flag"}, O_KEY, (OPENAI, "flag", "m")),
        (NOTHING, M, {**O_KEY, "FLEXLLM_BASE_URL": OPENAI}, (OPENAI, "openai", "m")),
        (NOTHING, {**M, "base_url": "http://api.openai.com/v1"}, O_KEY, ("http://api.openai.com/v1", "EMPTY", "m")),
        (NOTHING, {**M, "base_url": "https://api.openai.com.evil.com/v1"}, O_KEY,
         ("https://api.openai.com.evil.com/v1", "EMPTY", "m")),
        (NOTHING, {**M, "base_url": "https://api.openai.com:444/v1"}, O_KEY,
         ("https://api.openai.com:444/v1", "EMPTY", "m")),
        (NOTHING, {**M, "base_url": "https://eu.api.openai.com/v1"}, O_KEY,
         ("https://eu.api.openai.com/v1", "EMPTY", "m")),
        # OPENAI_MODEL is for every program: it chooses an entry, or does no harm.
        (FILE, {}, {"OPENAI_MODEL": "free"}, ("http://file-free/v1", "EMPTY", "model-free")),
        (FILE, {}, O_MODEL, ("http://file-a/v1", "file-a", "model-a")),
        (FILE, {"base_url": "http://flag/v1"}, O_MODEL, ("http://flag/v1", "EMPTY", "openai-model")),
        (FILE, {}, {"OPENAI_MODEL": "free", "FLEXLLM_MODEL": "a"}, ("http://file-a/v1", "file-a", "model-a")),
    ],
)  # fmt: skip
def test_openai_variables_stand_below_our_own(
    config: Config, flags: Mapping[str, str], environ: Mapping[str, str], expected: tuple[str | None, str, str]
) -> None:
    assert found(config, flags, environ) == expected


@pytest.mark.parametrize(
    ("flags", "environ", "provider"),
    [
        (M, {**URL, "FLEXLLM_PROVIDER": "claude"}, "claude"),
        (M, {**O_URL, "FLEXLLM_PROVIDER": "claude"}, "claude"),
        (M, {**KEY, "FLEXLLM_PROVIDER": "gemini"}, "gemini"),
        ({**M, "api_key": "flag"}, {"FLEXLLM_PROVIDER": "gemini"}, "gemini"),
        ({**M, "provider": "openai"}, {**URL, "FLEXLLM_PROVIDER": "claude"}, "openai"),
        ({**M, "base_url": "http://flag/v1"}, {"FLEXLLM_PROVIDER": "claude"}, "auto"),
    ],
)
def test_the_provider_of_the_environment_is_that_of_its_server(
    flags: Mapping[str, str], environ: Mapping[str, str], provider: str
) -> None:
    assert resolve_endpoint(NOTHING, **flags, environ=environ).provider == provider


@pytest.mark.parametrize(
    ("url", "is_openai"),
    [
        ("https://api.openai.com", True),
        ("HTTPS://API.OpenAI.com:443/v1/", True),
        ("https://api.openai.com@evil.com/v1", False),
        ("https://evil.com/api.openai.com", False),
        ("https://evil.com#https://api.openai.com", False),
        ("https://api.openai.com.", False),
        ("https://api.openai.com:99999/v1", False),
        ("ftp://api.openai.com/v1", False),
        ("http://[::1", False),
        ("api.openai.com", False),
        ("", False),
    ],
)
def test_what_only_looks_like_openai_gets_no_key(url: str, is_openai: bool) -> None:
    found = read_environment(O_KEY).key_for(url)
    assert (found and found.value) == ("openai" if is_openai else None)


def test_a_key_of_openai_alone_names_no_server_of_another_provider() -> None:
    with pytest.raises(ConfigError, match="no server is configured"):
        resolve_endpoint(NOTHING, model="m", environ={**O_KEY, "FLEXLLM_PROVIDER": "claude"})
    with pytest.raises(ConfigError, match="no server is configured"):
        resolve_endpoint(NOTHING, model="m", provider="gemini", environ=O_KEY)


def test_the_provider_of_an_entry_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_endpoint(FILE, environ={"FLEXLLM_PROVIDER": "gemini"}).provider == "claude"
    assert re.search("FLEXLLM_PROVIDER is ignored: model a has its own provider in the file", caplog.text)


def test_a_key_of_ours_beside_the_url_of_openai_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert found(NOTHING, M, {**O_URL, **KEY}) == ("http://openai-url/v1", "EMPTY", "m")
    assert caplog.messages == ["FLEXLLM_API_KEY is ignored: it is for the server of FLEXLLM_BASE_URL, which is not set"]


@pytest.mark.parametrize("model", ["gpt-6-luna", "o7", "qwen", "claude-sonnet-5-5", "gemini-4-pro", "Claude-x"])
def test_openai_is_asked_for_the_models_that_the_registry_asks_it_for(model: str) -> None:
    asked = find_provider("auto", None, model)[1]
    assert model.startswith(_OTHERS_MODELS) is (asked != OPENAI)
    assert found(Config(models=(ModelEntry(id="x", name=model),)), {}, O_KEY)[1] == (
        "openai" if asked == OPENAI else "EMPTY"
    )


def test_the_endpoints_of_a_batch_get_the_key_of_openai_at_openai_alone() -> None:
    endpoints = (
        BatchEndpoint(base_url=OPENAI),
        BatchEndpoint(base_url=OPENAI, api_key="own"),
        BatchEndpoint(base_url="http://other/v1"),
    )
    config = Config(batch=BatchSettings(endpoints=endpoints))
    assert [one.api_key for one in resolve_pool(config, environ=O_KEY)] == ["openai", "own", "EMPTY"]
    assert [one.api_key for one in resolve_pool(config, environ={**O_KEY, "OPENAI_BASE_URL": "http://other/v1"})] == [
        "EMPTY", "own", "openai",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({}, False), (URL, True), (KEY, True), (MODEL, True), (O_URL, True), (O_KEY, False), (O_MODEL, False),
     ({"FLEXLLM_BASE_URL": " "}, False), ({"FLEXLLM_PROVIDER": "claude"}, False)],
)  # fmt: skip
def test_the_environment_takes_a_batch_away_from_the_pool_when_it_names_whom_to_ask(
    environ: Mapping[str, str], expected: bool
) -> None:
    assert names_server(environ) is expected


def test_a_mistyped_variable_is_a_warning_with_the_nearest_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    known = dict.fromkeys((*KNOWN, "FLEXLLM_LANG", "FLEXLL", "OPENAI_MODLE"), "x")
    load_config(file, {**known, "FLEXLLM_MODLE": "gpt", "FLEXLLM_APIKEY": "sk-secret"})
    assert caplog.messages == [
        "the environment variable FLEXLLM_APIKEY is not known and ignored; did you mean FLEXLLM_API_KEY?",
        "the environment variable FLEXLLM_MODLE is not known and ignored; did you mean FLEXLLM_MODEL?",
    ]


def test_no_repr_shows_a_key() -> None:
    assert "secret" not in repr(read_environment({"FLEXLLM_API_KEY": "secret", "OPENAI_API_KEY": "secret"}))


# ------------------------------------------------------------------------------------------------ where from


def test_every_value_tells_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models:\n- id: a\n  name: model-a\n  base_url: http://a/v1\n  api_key: ${KEY}\n  system: hi\n"
        "  params:\n    n: 1\n    stop: [x]\n- &b\n  id: b\n  provider: claude\n"
    )
    config = load_config(file, {})
    assert resolve_endpoint(config, model="a", provider="openai", environ={"KEY": "k"}).sources == {
        "model": f"{file}, line 3",
        "base_url": f"{file}, line 4",
        "api_key": f"{file}, line 5",
        "provider": "--provider",
        "system": f"{file}, line 6",
        "user_template": "default",
        "params.n": f"{file}, line 8",
        "params.stop": f"{file}, line 9",
    }
    sources = resolve_endpoint(config, model="b", environ={}).sources
    assert (sources["model"], sources["provider"]) == (f"{file}, line 11", f"{file}, line 12")
    assert (sources["base_url"], sources["api_key"]) == ("default", "default")


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({"model": "m", "base_url": "http://x", "api_key": "k"}, {}, "--model --base-url --api-key default"),
        (M, {**URL, **KEY, "FLEXLLM_PROVIDER": "openai"},
         "--model FLEXLLM_BASE_URL FLEXLLM_API_KEY FLEXLLM_PROVIDER"),
        ({}, {**O_URL, **O_KEY, **O_MODEL}, "OPENAI_MODEL OPENAI_BASE_URL OPENAI_API_KEY default"),
        ({}, {**KEY, **MODEL}, "FLEXLLM_MODEL default FLEXLLM_API_KEY default"),
        ({**M, "base_url": OPENAI}, O_KEY, "--model --base-url OPENAI_API_KEY default"),
    ],
)  # fmt: skip
def test_flags_and_variables_are_named_as_sources(
    flags: Mapping[str, str], environ: Mapping[str, str], expected: str
) -> None:
    sources = resolve_endpoint(NOTHING, **flags, environ=environ).sources
    assert " ".join(sources[name] for name in ("model", "base_url", "api_key", "provider")) == expected


# ------------------------------------------------------------------------------------------------ the property

OWN_KEYS = {"http://flag/v1": "flag", "http://env/v1": "env", "http://file-a/v1": "file-a"}

ANY_CONFIG = st.builds(
    lambda models, default: Config(models=tuple(models), default=default),
    st.lists(st.sampled_from(FILE.models), unique_by=lambda entry: entry.id),
    st.sampled_from([None, "a", "free", "bare", "nobody", "${D:-at-openai}"]),
)
ANY_FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["a", "free", "at-openai", "own", "bare", "claude", "model-a", "m"]),
        "base_url": st.sampled_from(["http://flag/v1", OPENAI, "http://openai-url/v1"]),
        "api_key": st.just("flag"),
        "provider": st.sampled_from(["openai", "claude", "auto"]),
    },
)
ANY_ENVIRON = st.fixed_dictionaries(
    {},
    optional={
        "FLEXLLM_BASE_URL": st.sampled_from(["http://env/v1", OPENAI]),
        "FLEXLLM_API_KEY": st.just("env"),
        "FLEXLLM_MODEL": st.sampled_from(["a", "free", "env-model"]),
        "FLEXLLM_PROVIDER": st.sampled_from(["openai", "claude"]),
        "OPENAI_BASE_URL": st.sampled_from(["http://openai-url/v1", "http://file-free/v1", OPENAI]),
        "OPENAI_API_KEY": st.just("openai"),
        "OPENAI_MODEL": st.sampled_from(["bare", "openai-model"]),
    },
)


def allowed_keys(
    flags: Mapping[str, str], environ: Mapping[str, str], url: str | None, entry: ModelEntry | None
) -> set[str]:
    """Which keys may go to a URL, by the sources that name it: written down by another rule than the code's."""
    keys = {"EMPTY"}
    if "base_url" in flags:
        keys |= {flags.get("api_key", "EMPTY")}
    elif entry is not None:
        # The one exception: a key on the command line for an entry that the command line names.
        keys |= {entry.api_key} | ({flags["api_key"]} if "api_key" in flags and "model" in flags else set())
    elif "FLEXLLM_BASE_URL" in environ:
        keys |= {environ.get("FLEXLLM_API_KEY", "EMPTY")}
    elif "OPENAI_BASE_URL" not in environ:
        keys |= {flags.get("api_key", "EMPTY"), environ.get("FLEXLLM_API_KEY", "EMPTY")}
    openai_place = environ.get("OPENAI_BASE_URL")
    is_openai = url == openai_place if openai_place else urlsplit(url or "").netloc == "api.openai.com"
    if is_openai:
        keys.add(environ.get("OPENAI_API_KEY", "EMPTY"))
    return keys


@pytest.mark.slow
@settings(max_examples=examples(600))
@example(config=FILE, flags={"model": "claude"}, environ=dict(O_KEY))
@example(config=FILE, flags={"model": "bare", "provider": "claude"}, environ=dict(O_KEY))
@given(config=ANY_CONFIG, flags=ANY_FLAGS, environ=ANY_ENVIRON)
def test_a_key_never_goes_to_a_url_of_another_source(
    config: Config, flags: dict[str, str], environ: dict[str, str]
) -> None:
    try:
        resolved = resolve_endpoint(config, **flags, environ=environ)
    except ConfigError:
        return
    entry = next((entry for entry in config.models if entry.id == resolved.entry_id), None)
    key = resolved.api_key
    assert key in allowed_keys(flags, environ, resolved.base_url, entry)
    if resolved.base_url in OWN_KEYS and entry is None:
        assert key in ("EMPTY", OWN_KEYS[resolved.base_url])
    if key == "openai":
        assert resolved.sources["api_key"] == "OPENAI_API_KEY"
        assert resolved.base_url is not None
    if resolved.base_url is None and key != "EMPTY" and entry is not None and "api_key" not in flags:
        assert resolved.provider == entry.provider


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(config=ANY_CONFIG, flags=ANY_FLAGS, environ=ANY_ENVIRON)
def test_flags_go_before_the_environment_and_that_before_the_file(
    config: Config, flags: dict[str, str], environ: dict[str, str]
) -> None:
    try:
        resolved = resolve_endpoint(config, **flags, environ=environ)
    except ConfigError:
        return
    for name, value in flags.items():
        if name == "model" and resolved.entry_id is not None:
            entry = config.find(value)
            assert entry is not None
            assert entry.id == resolved.entry_id
        else:
            assert getattr(resolved, name) == value
    named = [environ[name] for name in ("FLEXLLM_BASE_URL", "OPENAI_BASE_URL") if name in environ]
    if named and "base_url" not in flags and not (flags.get("model") and config.find(flags["model"])):
        assert resolved.base_url == named[0]


def test_the_search_tells_no_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        resolve_endpoint(FILE, environ={"FLEXLLM_API_KEY": "sk-secret", "OPENAI_API_KEY": "sk-secret"})
    assert "sk-secret" not in caplog.text
