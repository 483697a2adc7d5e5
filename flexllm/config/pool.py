"""The endpoints that a batch asks together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..configfile.values import BatchEndpoint, Config
from .environment import read_environment
from .keys import base_url_of, key_of, text_of, with_openai_key


def resolve_pool(
    config: Config,
    entries: Sequence[BatchEndpoint] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    run_commands: bool = True,
) -> tuple[BatchEndpoint, ...]:
    """Return the endpoints under `batch` as they are asked: variables replaced, keys printed by their commands.

    Args:
        entries: Some of those endpoints; or all of them in the file's order, with changes of the caller's; None means as
            they are.
        run_commands: False leaves `api_key_cmd` as it is.

    Raises:
        ConfigError: A variable is not set, a command fails, or what they say cannot be used; the message names the place.
    """
    environment = read_environment(environ)
    made = []
    positions = {id(entry): position for position, entry in enumerate(config.batch.endpoints)}
    for position, entry in enumerate(config.batch.endpoints if entries is None else entries):
        where = f"batch.endpoints[{positions.get(id(entry), position)}]"
        model = entry.model and text_of(config, f"{where}.model", entry.model, environ)
        url = base_url_of(config, where, entry, environ)
        key = key_of(config, where, entry, environ, run=run_commands)
        url, key = with_openai_key(url, key, entry.provider, model or "", environment)
        command = None if run_commands else entry.api_key_cmd
        made.append(replace(entry, base_url=url or entry.base_url, api_key=key.value, api_key_cmd=command, model=model))
    return tuple(made)
