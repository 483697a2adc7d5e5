"""Reads the configuration file: the only door to PyYAML, opened when a file is read. Every message names the line."""

from __future__ import annotations

import difflib
import logging
import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..prices import PriceLike
from ..wire import NO_KEY
from .checks import CHECKS, checked_pair
from .paths import config_path, shown_path, variable
from .values import BatchEndpoint, BatchSettings, Config, ModelEntry

_NULL = "tag:yaml.org,2002:null"
_log = logging.getLogger(__name__)


def load_config(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check the configuration file. A missing default file is an empty configuration.

    Raises:
        ConfigError: The file that the argument or FLEXLLM_CONFIG names is missing, or the file is unreadable or wrong;
            the message says where, and what is allowed.
    """
    file = config_path(path, environ)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if not path and not variable(environ, "FLEXLLM_CONFIG"):
            return Config()
        named_by = "" if path else " (named by FLEXLLM_CONFIG)"
        raise ConfigError(
            f"{shown_path(file)}{named_by} does not exist; correct the name, or write that file"
        ) from None
    except OSError as error:
        raise ConfigError(f"{shown_path(file)} cannot be read: {error.strerror or error}") from error
    config = _parse(data, file)
    for warning in config.warnings:
        _log.warning("%s", warning)
    return config


def _parse(data: bytes, path: Path) -> Config:
    """Return the file's bytes as a value. PyYAML's own error texts quote the file, and so its keys: they stay here."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice in a mapping, where PyYAML would silently drop the first one."""

        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key in (key for key, _ in node.value if key.id == "scalar"):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here again", problem_mark=key.start_mark)
                seen.add(key.value)
            return node

    file = shown_path(path)
    try:
        loader = Loader(data)
        root = loader.get_single_node()
        if root is None or root.tag == _NULL:
            return Config(path=path)
        return _Reader(loader, file).config(root, path)
    except yaml.reader.ReaderError as error:
        line = data.count(b"\n", 0, error.position) + 1
        raise ConfigError(f"{file}, line {line} is not UTF-8 text: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = re.sub("'[^']{17,}'", "'...'", str(error.problem or error.context))  # *key and !key are YAML signs
        raise ConfigError(f"{file}, line {line} is not YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply") from None


class _Reader:
    """Reads the file section by section from its YAML nodes, which know their lines."""

    def __init__(self, loader: Any, file: str) -> None:
        self._loader = loader
        self._file = file
        self._warnings: list[str] = []

    def config(self, root: Any, path: Path) -> Config:
        found = self._section(root, "", ("default", "models", "batch", "prices"))
        models: dict[str, ModelEntry] = {}
        for where, node in self._items(found.get("models"), "models"):
            values = self._section(node, where, _names(ModelEntry))
            names = [values[key] for key in ("id", "name") if key in values]
            if not names:
                raise ConfigError(f"{self._place(node, where)} needs an id or a name")
            if names[0] in models:
                raise ConfigError(f"{self._place(node, where)}: id={names[0]!r} is the id of an earlier model too")
            models[names[0]] = ModelEntry(**{**values, "id": names[0], "name": names[-1]})
        batch = self._section(found["batch"], "batch", _names(BatchSettings)) if "batch" in found else {}
        batch["endpoints"] = tuple(
            self._endpoint(node, where) for where, node in self._items(batch.get("endpoints"), "batch.endpoints")
        )
        default = found.get("default")
        if default is not None and not any(default in (entry.id, entry.name) for entry in models.values()):
            # No error yet: who names a model or a server needs no default, and `set-model` must be able to mend it.
            self._warnings.append(f"{self._file}: default={default!r} is the id or name of no model")
        return Config(
            default=default,
            models=tuple(models.values()),
            batch=BatchSettings(**batch),
            prices=self._prices(found["prices"]) if "prices" in found else {},
            path=path,
            warnings=tuple(self._warnings),
        )

    def _endpoint(self, node: Any, where: str) -> BatchEndpoint:
        values = self._section(node, where, _names(BatchEndpoint))
        if "base_url" not in values:
            raise ConfigError(f"{self._place(node, where)} needs a base_url")
        return BatchEndpoint(**values)

    def _prices(self, node: Any) -> dict[str, PriceLike]:
        """Return the prices of models by their names, each checked where it stands."""
        if node.id != "mapping" or any(key.id != "scalar" for key, _ in node.value):
            raise ConfigError(
                f"{self._place(node, 'prices')} must be a mapping of models to prices, such as 'my-model: 0.5,1.5'"
            )
        self._loader.flatten_mapping(node)
        return {
            key.value: self._value("price", value, self._place(key, f"prices[{key.value!r}]"))
            for key, value in node.value
            if value.tag != _NULL
        }

    def _section(self, node: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
        """Return what a mapping sets: values checked, sections and lists as nodes. An empty value sets nothing."""
        if node.id != "mapping":
            raise ConfigError(f"{self._place(node, where)} must be a mapping (lines of 'key: value')")
        self._loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, value in node.value:
            name, place = str(key.value), self._place(key, where)
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
                self._warnings.append(f"{place}: unknown key {reprlib.repr(name)} is ignored; {hint}")
            elif value.tag == _NULL:
                found.pop(name, None)  # what a merge key (<<) brought
            else:
                found[name] = self._value(name, value, place) if name in CHECKS else value
        return found

    def _value(self, name: str, node: Any, place: str) -> Any:
        test, wanted = CHECKS[name]
        try:
            value = self._loader.construct_object(node, deep=True)
        except (ValueError, LookupError, AttributeError) as error:  # PyYAML's own, as for the date 2024-13-45
            raise ConfigError(f"{place}: {name} cannot be read; it must be {wanted}") from error
        if name == "api_key" and value == "":
            return NO_KEY
        if not test(value):
            # No key is shown, and no list or mapping: an entry in the wrong place would show its key.
            shown = f"={reprlib.repr(value)}" if node.id == "scalar" and name != "api_key" else ""
            raise ConfigError(f"{place}: {name}{shown} must be {wanted}")
        if name == "base_url":
            return checked_pair(value, NO_KEY, place)[0]
        return checked_pair(None, value, place)[1] if name == "api_key" else value

    def _items(self, node: Any, where: str) -> list[tuple[str, Any]]:
        if node is None:
            return []
        if node.id != "sequence":
            raise ConfigError(f"{self._place(node, where)} must be a list (each entry begins with '- ')")
        return [(f"{where}[{position}]", item) for position, item in enumerate(node.value)]

    def _place(self, node: Any, where: str) -> str:
        return f"{self._file}, line {node.start_mark.line + 1}{', ' if where else ''}{where}"


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in fields(kind)]
