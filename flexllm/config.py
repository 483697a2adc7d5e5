"""Which endpoint and which model: from the configuration file, the environment and what the caller says.

A base URL and its key travel together from one source: a key from one place is never sent to a server that another place
names. Which providers exist is the registry's business.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .configfile import (
    DEFAULT_PATH,
    BatchEndpoint,
    BatchSettings,
    Config,
    Masked,
    ModelEntry,
    checked_pair,
    config_path,
    ids_of,
    load_config,
    shown_path,
    variable,
)
from .errors import ConfigError
from .prices import PriceLike
from .wire import NO_KEY

__all__ = [
    "DEFAULT_PATH",
    "BatchEndpoint",
    "BatchSettings",
    "Config",
    "ModelEntry",
    "ResolvedEndpoint",
    "config_path",
    "load_config",
    "resolve_endpoint",
]

_COMMAND_LINE = "the command line"
_ENVIRONMENT = "the environment"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResolvedEndpoint(Masked):
    """Whom to ask, and for what.

    Attributes:
        model: The server's name of the model.
        base_url: None means the provider's own.
        api_key: From the same source as `base_url`.
        entry_id: The entry of the file that was chosen; None if it was none.
        source: Where `base_url` and `api_key` come from, for people.
        prices: What the file says of models by name; of this one, what its own entry says.
    """

    model: str
    base_url: str | None
    api_key: str = NO_KEY
    provider: str = "auto"
    system: str | None = None
    user_template: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    entry_id: str | None = None
    source: str
    prices: Mapping[str, PriceLike] = field(default_factory=dict)


def resolve_endpoint(
    config: Config,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    provider: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ResolvedEndpoint:
    """Choose whom to ask: what the caller says before the environment, before the file, before the default.

    Model names may cross from one source to another, keys never do. The one exception is explicit: `api_key` together
    with the `model` of an entry replaces that entry's key.

    Args:
        model: An entry's id or name, or the name of a model at another server. None, here and below: not given.

    Raises:
        ConfigError: The sources leave open whom to ask, or do not fit together; the message says what to do.
    """
    for name, given in (("model", model), ("base_url", base_url), ("api_key", api_key), ("provider", provider)):
        if given is not None and not given.strip():
            raise ConfigError(f"{name} is given but empty; give a value or leave it out")
    env_url, env_key, env_model = (variable(environ, f"FLEXLLM_{name}") for name in ("BASE_URL", "API_KEY", "MODEL"))
    asked = model or env_model
    if base_url is not None:
        if asked is None and (default := config.default_entry()):
            asked = default.name
        return _outside_file(config, asked, base_url, api_key, provider, _COMMAND_LINE)
    entry = config.find(model) if model is not None else None
    if entry is None and api_key is not None and (env_url is not None or config.models):
        entries = (
            f", or -m with an entry of {_file_of(config)}: {ids_of(config.models, asked)}" if config.models else ""
        )
        raise ConfigError(f"an API key is given without the server that it belongs to; give --base-url too{entries}")
    if entry is None and env_url is not None:
        return _outside_file(config, asked, env_url, env_key, provider, _ENVIRONMENT)
    if entry is None and not config.models:
        if api_key is None and env_key is None:
            raise ConfigError(
                "no server is configured: give --base-url (and --api-key, -m), or set FLEXLLM_BASE_URL, "
                f"FLEXLLM_API_KEY and FLEXLLM_MODEL, or list models in {_file_of(config)} ('flexllm init' writes one)"
            )
        return _outside_file(
            config, asked, None, api_key or env_key, provider, _COMMAND_LINE if api_key else _ENVIRONMENT
        )
    if entry is None:
        entry = _listed_entry(config, asked)
    if api_key is None and env_key is not None and env_url is None:
        _log.warning(
            "FLEXLLM_API_KEY is ignored: model %s has its own key in the file, and FLEXLLM_BASE_URL is not set",
            entry.id,
        )
    return _from_file(config, entry, api_key, provider)


def _outside_file(
    config: Config, model: str | None, base_url: str | None, api_key: str | None, provider: str | None, source: str
) -> ResolvedEndpoint:
    if model is None:
        raise ConfigError(f"{source} says whom to ask, but not for which model; give -m NAME or set FLEXLLM_MODEL")
    url, key = checked_pair(base_url, api_key or NO_KEY, source)
    return ResolvedEndpoint(
        model=model, base_url=url, api_key=key, provider=provider or "auto", source=source, prices=config.prices
    )


def _from_file(config: Config, entry: ModelEntry, api_key: str | None, provider: str | None) -> ResolvedEndpoint:
    source = f"{_file_of(config)}, models[{config.models.index(entry)}]"
    key = entry.api_key
    if api_key is not None:
        key = checked_pair(None, api_key, _COMMAND_LINE)[1]
    elif entry.base_url is None and provider not in (None, entry.provider):
        # Without a URL the provider stands for it: another one would get a key that was not meant for it.
        raise ConfigError(
            f"{source} has no base_url and its key belongs to provider {entry.provider!r}; to ask "
            f"provider {provider!r} give its key with --api-key, or an entry of its own"
        )
    return ResolvedEndpoint(
        model=entry.name,
        base_url=entry.base_url,
        api_key=key,
        provider=provider or entry.provider,
        system=entry.system,
        user_template=entry.user_template,
        params=entry.params,
        prices=config.prices if entry.price is None else {**config.prices, entry.name: entry.price},
        entry_id=entry.id,
        source=source if api_key is None else f"{source}, with the key of {_COMMAND_LINE}",
    )


def _listed_entry(config: Config, asked: str | None) -> ModelEntry:
    """Return the entry with that id or name, or the default one if `asked` is None."""
    entry = config.default_entry() if asked is None else config.find(asked)
    if entry is not None:
        return entry
    problem = "several models and no default"
    if asked or config.default:
        problem = f"no model {asked!r}" if asked else f"no model {config.default!r}, its own default"
    raise ConfigError(
        f"{_file_of(config)} has {problem}; it has {ids_of(config.models, asked or config.default)}: choose one with -m, "
        "or give --base-url to ask another server"
    )


def _file_of(config: Config) -> str:
    return DEFAULT_PATH if config.path is None else shown_path(config.path)
