"""Reads the configuration file section by section and checks it. Every message names the line."""

from __future__ import annotations

import difflib
import logging
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..language import _, with_commas
from ..prices import PriceLike
from ..wire import NO_KEY
from .checks import CHECKS, checked_pair
from .nodes import NULL, compose, read_file, yaml_errors
from .paths import shown_path
from .places import has_variables
from .values import BatchEndpoint, BatchSettings, Config, ModelEntry

_log = logging.getLogger(__name__)


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration file. A missing default file is an empty configuration.

    Raises:
        ConfigError: The file that the argument or FLEXLLM_CONFIG names is missing, or the file is unreadable or wrong;
            the message says where, and what is allowed.
    """
    file, data, is_open = read_file(path, environ)
    if data is None:
        return Config()
    config = parse_config(data, file)
    entries: list[ModelEntry | BatchEndpoint] = [*config.models, *config.batch.endpoints]
    if is_open and any(_has_key(entry) for entry in entries):
        warning = _(
            "{file} holds a key and is open to other users of this machine; run: chmod 600 {file}", file=config.file
        )
        config = replace(config, warnings=(*config.warnings, warning))
    for warning in config.warnings:
        _log.warning("%s", warning)
    return config


def parse_config(data: bytes, path: Path) -> Config:
    """Return what the bytes of a configuration file say. Raises ConfigError, as `load_config` does."""
    with yaml_errors(data, path):
        loader, root = compose(data)
        return Config(path=path) if root is None else _Reader(loader, shown_path(path)).config(root, path)


def _has_key(entry: ModelEntry | BatchEndpoint) -> bool:
    return entry.api_key != NO_KEY and not has_variables(entry.api_key)


class _Reader:
    """Reads the file section by section from its YAML nodes, which know their lines."""

    def __init__(self, loader: Any, file: str) -> None:
        self._loader = loader
        self._file = file
        self._warnings: list[str] = []
        self._lines: dict[str, int] = {}

    def config(self, root: Any, path: Path) -> Config:
        found = self._section(root, "", ("default", "models", "batch", "prices"))
        models: dict[str, ModelEntry] = {}
        for where, node in self._items(found.get("models"), "models"):
            values = self._section(node, where, _names(ModelEntry))
            names = [values[key] for key in ("id", "name") if key in values]
            if not names:
                raise ConfigError(_("{place} needs an id or a name", place=self._place(node, where)))
            if names[0] in models:
                place = self._place(node, where)
                raise ConfigError(_("{place}: id={id!r} is the id of an earlier model too", place=place, id=names[0]))
            models[names[0]] = ModelEntry(**{**values, "id": names[0], "name": names[-1]})
        batch = self._section(found["batch"], "batch", _names(BatchSettings)) if "batch" in found else {}
        batch["endpoints"] = tuple(
            self._endpoint(node, where) for where, node in self._items(batch.get("endpoints"), "batch.endpoints")
        )
        default = found.get("default")
        known = {name for entry in models.values() for name in (entry.id, entry.name)}
        if default is not None and default not in known and not has_variables(default):
            # No error yet: who names a model or a server needs no default, and `set-model` must be able to mend it.
            self._warnings.append(
                _("{file}: default={default!r} is the id or name of no model", file=self._file, default=default)
            )
        return Config(
            default=default,
            models=tuple(models.values()),
            batch=BatchSettings(**batch),
            prices=self._prices(found["prices"]) if "prices" in found else {},
            path=path,
            warnings=tuple(self._warnings),
            lines=self._lines,
        )

    def _endpoint(self, node: Any, where: str) -> BatchEndpoint:
        values = self._section(node, where, _names(BatchEndpoint))
        if "base_url" not in values:
            raise ConfigError(_("{place} needs a base_url", place=self._place(node, where)))
        return BatchEndpoint(**values)

    def _prices(self, node: Any) -> dict[str, PriceLike]:
        """Return the prices of models by their names, each checked where it stands."""
        if node.id != "mapping" or any(key.id != "scalar" for key, _value in node.value):
            raise ConfigError(
                _(
                    "{place} must be a mapping of models to prices, such as 'my-model: 0.5,1.5'",
                    place=self._place(node, "prices"),
                )
            )
        self._loader.flatten_mapping(node)
        return {
            key.value: self._value("price", value, self._place(key, f"prices[{key.value!r}]"))
            for key, value in node.value
            if value.tag != NULL
        }

    def _section(self, node: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
        """Return what a mapping sets: values checked, sections and lists as nodes. An empty value sets nothing."""
        if node.id != "mapping":
            raise ConfigError(_("{place} must be a mapping (lines of 'key: value')", place=self._place(node, where)))
        self._loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        self._lines[where] = node.start_mark.line + 1
        for key, value in node.value:
            name, place = str(key.value), self._place(key, where)
            if name not in known:
                self._warnings.append(_unknown_key(place, name, known))
            elif value.tag == NULL:
                found.pop(name, None)  # what a merge key (<<) brought
            else:
                found[name] = self._value(name, value, place) if name in CHECKS else value
                self._note_lines(f"{where}.{name}" if where else name, key, value)
        if "api_key" in found and "api_key_cmd" in found:
            raise ConfigError(
                _("{place} has both api_key and api_key_cmd; leave one of them out", place=self._place(node, where))
            )
        return found

    def _note_lines(self, path: str, key: Any, value: Any) -> None:
        self._lines[path] = key.start_mark.line + 1
        if path.endswith(".params"):
            self._lines.update({f"{path}.{name.value}": name.start_mark.line + 1 for name, _value in value.value})

    def _value(self, name: str, node: Any, place: str) -> Any:
        test, wanted = CHECKS[name]
        try:
            value = self._loader.construct_object(node, deep=True)
        except (ValueError, LookupError, AttributeError) as error:  # PyYAML's own, as for the date 2024-13-45
            raise ConfigError(
                _("{place}: {name} cannot be read; it must be {wanted}", place=place, name=name, wanted=_(wanted))
            ) from error
        if name == "api_key" and value == "":
            return NO_KEY
        if not test(value):
            # No key is shown, and no list or mapping: an entry in the wrong place would show its key.
            if node.id == "scalar" and not name.startswith("api_key"):
                name = f"{name}={reprlib.repr(value)}"
            raise ConfigError(_("{place}: {name} must be {wanted}", place=place, name=name, wanted=_(wanted)))
        if name == "api_key_cmd":
            return tuple(value) if isinstance(value, list) else value
        if name in ("base_url", "api_key") and has_variables(value):
            return value  # what it is shows when it is used
        if name == "base_url":
            return checked_pair(value, NO_KEY, place)[0]
        return checked_pair(None, value, place)[1] if name == "api_key" else value

    def _items(self, node: Any, where: str) -> list[tuple[str, Any]]:
        if node is None:
            return []
        if node.id != "sequence":
            raise ConfigError(_("{place} must be a list (each entry begins with '- ')", place=self._place(node, where)))
        return [(f"{where}[{position}]", item) for position, item in enumerate(node.value)]

    def _place(self, node: Any, where: str) -> str:
        place = _("{file}, line {line}", file=self._file, line=node.start_mark.line + 1)
        return with_commas([place, where] if where else [place])


def _unknown_key(place: str, name: str, known: Sequence[str]) -> str:
    shown, near = reprlib.repr(name), difflib.get_close_matches(name, known, n=1)
    if near:
        return _(
            "{place}: unknown key {name} is ignored; did you mean {near!r}?", place=place, name=shown, near=near[0]
        )
    return _(
        "{place}: unknown key {name} is ignored; known here: {known}", place=place, name=shown, known=", ".join(known)
    )


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in fields(kind)]
