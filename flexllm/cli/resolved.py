"""What `flexllm list --resolve` tells: each value that would hold, and where it comes from."""

from __future__ import annotations

from ..language import _, mark

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from ..config import Config, ResolvedEndpoint

    Settings = dict[str, dict[str, Any]]

_DEFAULT = mark("default")
"""Where a value comes from that nobody gave, as `config.endpoint` calls it too; people read it in their language."""

_OF_THE_COMMAND = {"cache": False, "return_usage": True, "track_cost": True}
"""What `flexllm batch` does where nobody says anything, and the client does not by itself."""

_NAMES = {"concurrency": "concurrency_limit"}
"""What a setting of the file is called as an option of the client."""


def resolve(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return what `flexllm ask` and `flexllm batch` would use with these flags, JSON-able. No command is run.

    Returns:
        "config": the file; "ask" and "batch": for each, "settings" (for each name "value" and "source"), or "problem": why
        it cannot ask. "batch" has "asks_pool", and then "endpoints" too.
    """
    from .common import asks_pool

    found: dict[str, Any] = {"config": _file(args, config), "ask": _ask(args, config)}
    batch: dict[str, Any] = {"asks_pool": asks_pool(args, config), "settings": _batch_settings(args, config)}
    if batch["asks_pool"]:
        batch.update(_pool(config))
    elif "problem" in found["ask"]:
        batch = {"asks_pool": False, "problem": found["ask"]["problem"]}
    return {**found, "batch": batch}


def told(found: Mapping[str, Any]) -> str:
    """Return what `resolve` gave, for people."""
    from .tables import table

    ask, batch, file = found["ask"], found["batch"], found["config"]
    parts = [_file_line(file), "", "flexllm ask", ask.get("problem") or table(_lines(ask["settings"]), "  ")]
    if not batch["asks_pool"]:
        parts += ["", _("flexllm batch asks the same, with these settings:")]
    else:
        parts += [
            "",
            _("flexllm batch asks the endpoints under batch.endpoints of {path} together:", path=file["path"]),
        ]
        parts += [batch.get("problem") or table([_endpoint_line(one) for one in batch["endpoints"]], "  "), ""]
        parts += [_("with these settings:")]
    parts += [table(_lines(batch["settings"]), "  ")] if "settings" in batch else [batch["problem"]]
    return "\n".join(parts)


def _file_line(file: Mapping[str, Any]) -> str:
    source = _shown_source(file["source"])
    if file["exists"]:
        return _("configuration: {path} ({source})", path=file["path"], source=source)
    return _("configuration: {path} ({source}; there is none)", path=file["path"], source=source)


def _shown_source(source: str) -> str:
    return _(_DEFAULT) if source == _DEFAULT else source


def _file(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    import os

    from ..config import DEFAULT_PATH, config_path
    from ..configfile.paths import variable

    named = variable(os.environ, "FLEXLLM_CONFIG")
    source = "--config" if args.config else "FLEXLLM_CONFIG" if named else _DEFAULT
    path = str(config_path(args.config)) if args.config or named else DEFAULT_PATH
    return {"path": path, "source": source, "exists": config.path is not None}


def _ask(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    from ..config import resolve_endpoint
    from ..errors import ConfigError

    try:
        endpoint = resolve_endpoint(
            config, model=args.model, base_url=args.base_url, api_key=args.api_key, provider=args.provider,
            run_commands=False,
        )  # fmt: skip
        return {"settings": {**_endpoint_settings(endpoint, config), **_client_settings(args)}}
    except ConfigError as error:
        return {"problem": str(error)}


def _endpoint_settings(endpoint: ResolvedEndpoint, config: Config) -> Settings:
    from ..wire import mask_key
    from .common import provider_of

    provider, base_url = provider_of(endpoint)
    values = {
        "model": endpoint.model,
        "base_url": base_url,
        "api_key": mask_key(endpoint.api_key),
        "provider": endpoint.provider,
        "system": endpoint.system,
        "user_template": endpoint.user_template,
        **{f"params.{name}": value for name, value in endpoint.params.items()},
    }
    settings = {name: {"value": value, "source": endpoint.sources[name]} for name, value in values.items()}
    if endpoint.provider == "auto":
        settings["provider"]["found"] = provider.name
    entry = next((entry for entry in config.models if entry.id == endpoint.entry_id), None)
    if entry is not None and entry.price is not None:
        place = config.place(f"models[{config.models.index(entry)}].price")
        settings["price"] = {"value": entry.price, "source": place}
    return settings


def _client_settings(args: argparse.Namespace) -> Settings:
    """Return what the flags, or the client's defaults, say of how patiently is asked."""
    names = ("timeout", "total_timeout", "retry_times", "retry_delay")
    settings = {name: _first((getattr(args, name), _flag(name)), (_defaults()[name], _DEFAULT)) for name in names}
    return {**settings, "ca_bundle": _first((args.ca_bundle, "--ca-bundle"), (None, _DEFAULT))}


def _batch_settings(args: argparse.Namespace, config: Config) -> Settings:
    from dataclasses import fields

    settings = {}
    for name in (one.name for one in fields(config.batch) if one.name != "endpoints"):
        default = _OF_THE_COMMAND.get(name, _defaults().get(_NAMES.get(name, name)))
        settings[name] = _first(
            (getattr(args, name, None), _flag(name)),
            (getattr(config.batch, name), config.place(f"batch.{name}")),
            (default, _DEFAULT),
        )
    return settings


def _pool(config: Config) -> dict[str, Any]:
    from dataclasses import asdict

    from ..config import resolve_pool
    from ..errors import ConfigError
    from ..wire import mask_key

    try:
        entries = resolve_pool(config, run_commands=False)
    except ConfigError as error:
        return {"problem": str(error)}
    shown = []
    for position, entry in enumerate(entries):
        own = {name: value for name, value in asdict(entry).items() if value is not None}
        has_command = own.pop("api_key_cmd", None) is not None
        own["api_key"] = None if has_command else mask_key(entry.api_key)
        shown.append({**own, "api_key_cmd": has_command, "source": config.place(f"batch.endpoints[{position}]")})
    return {"endpoints": shown}


def _first(*found: tuple[Any, str]) -> dict[str, Any]:
    """Return the first value that is set, with its source; of several that are not, the last."""
    value, source = next((one for one in found if one[0] is not None), found[-1])
    return {"value": value, "source": source}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _defaults() -> dict[str, Any]:
    import inspect

    from ..client import LLMClient

    return {name: one.default for name, one in inspect.signature(LLMClient).parameters.items()}


def _lines(settings: Settings) -> list[tuple[str, str, str]]:
    return [(name, _shown(one), _shown_source(one["source"])) for name, one in settings.items()]


def _shown(setting: Mapping[str, Any]) -> str:
    import json

    from .tables import shortened

    value = setting["value"]
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shortened(text) + (f" ({setting['found']})" if "found" in setting else "")


def _endpoint_line(endpoint: Mapping[str, Any]) -> tuple[str, str, str, str]:
    key = _("key {key}", key=endpoint["api_key"])
    if endpoint["api_key_cmd"]:
        key = _("key printed by api_key_cmd")
    return (str(endpoint.get("model") or "-"), endpoint["base_url"], key, endpoint["source"])
