"""The configuration file as a value, and the only door to PyYAML, opened when a file is read.

What the file says is checked here, with the line in every message; which server is asked is decided in `config.py`.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .prices import PriceLike, parse_price
from .wire import NO_KEY, Target, mask_key

DEFAULT_PATH = "~/.flexllm/config.yaml"
"""As the user's document has it. Not expanded, so that help and man page are the same on every machine."""

_NULL = "tag:yaml.org,2002:null"
_log = logging.getLogger(__name__)


class Masked:
    """Gives a dataclass a `repr` that shows no key."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        shown["api_key"] = mask_key(shown["api_key"])
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelEntry(Masked):
    """One entry under `models`. `load_config` has checked it.

    Attributes:
        id: What the user calls it; unique in the file.
        name: What the server calls it.
        base_url: None means the provider's own.
        api_key: Goes to `base_url` and nowhere else.
        params: Default request parameters, JSON-able.
        price: What it costs, as `parse_price` takes it; None leaves it to the table of prices.
    """

    id: str
    name: str
    provider: str = "auto"
    base_url: str | None = None
    api_key: str = NO_KEY
    system: str | None = None
    user_template: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    price: PriceLike | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchEndpoint(Masked):
    """One entry under `batch.endpoints`; None means not set."""

    base_url: str
    api_key: str = NO_KEY
    model: str | None = None
    provider: str = "auto"
    weight: float = 1.0
    concurrency_limit: int | None = None
    max_qps: float | None = None
    min_qps: float | None = None
    max_rpm: float | None = None
    max_tpm: float | None = None
    max_input_tpm: float | None = None
    max_output_tpm: float | None = None
    adaptive: bool | None = None
    timeout: float | None = None
    price: PriceLike | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """What stands under `batch`; None means not set. Times are in seconds; what they limit, `LLMClient` tells."""

    concurrency: int | None = None
    max_qps: float | None = None
    min_qps: float | None = None
    max_rpm: float | None = None
    max_tpm: float | None = None
    max_input_tpm: float | None = None
    max_output_tpm: float | None = None
    adaptive: bool | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    max_time: float | None = None
    fail_over: float | None = None
    max_cost: float | None = None
    cache: bool | None = None
    return_usage: bool | None = None
    track_cost: bool | None = None
    endpoints: tuple[BatchEndpoint, ...] = ()
    fallback: bool | None = None
    load_balance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration file as a value; the empty one if there is no file.

    Attributes:
        default: What the file says under `default`, an entry's id or name; None if it does not.
        prices: By the name of a model, as `parse_price` takes them.
        path: The file that was read; None if there is none.
        warnings: Sentences about what the file says in vain; they were logged too.
    """

    default: str | None = None
    models: tuple[ModelEntry, ...] = ()
    batch: BatchSettings = field(default_factory=BatchSettings)
    prices: Mapping[str, PriceLike] = field(default_factory=dict)
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    def find(self, name: str) -> ModelEntry | None:
        """Return the entry with this id, else the one with this name, else None.

        Raises:
            ConfigError: Several entries have the name, and it is nobody's id: their keys and servers may differ.
        """
        found = [entry for entry in self.models if entry.id == name] or [e for e in self.models if e.name == name]
        if len(found) > 1:
            raise ConfigError(f"several models are named {name!r}; choose one by its id: {ids_of(found)}")
        return found[0] if found else None

    def default_entry(self) -> ModelEntry | None:
        """Return the entry that `default` names, or without `default` the only one; None if that names none."""
        if self.default is not None:
            return self.find(self.default)
        return self.models[0] if len(self.models) == 1 else None


def config_path(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the file to read: the argument, else FLEXLLM_CONFIG, else the default. It need not exist."""
    # Not Path.expanduser, which raises for a user without a home directory.
    return Path(os.path.expanduser(path or variable(environ, "FLEXLLM_CONFIG") or DEFAULT_PATH))


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


def checked_pair(base_url: str | None, api_key: str, where: str) -> tuple[str | None, str]:
    """Return a base URL and its key as a `Target` has them. Raises ConfigError, with `where` in front."""
    try:
        target = Target(base_url=base_url or "http://localhost", api_key=api_key)
    except ValueError as error:  # not only ours: urlsplit has its own, for half an IPv6 address
        raise ConfigError(f"{where}: {error}") from error
    return base_url and target.base_url, target.api_key


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return an environment variable; blank means not set."""
    return environ.get(name, "").strip() or None


def ids_of(entries: Sequence[ModelEntry], nearest_to: str | None = None) -> str:
    """Return the entries' ids for people, the nearest to a name first."""

    def nearness(entry: ModelEntry) -> float:
        return max(difflib.SequenceMatcher(None, nearest_to or "", text).ratio() for text in (entry.id, entry.name))

    return ", ".join(repr(entry.id) for entry in sorted(entries, key=nearness, reverse=True))


def shown_path(path: Path) -> str:
    """Return a path for people: `~` for the home directory."""
    home = os.path.join(os.path.expanduser("~"), "")
    return f"~/{str(path)[len(home) :]}" if str(path).startswith(home) else str(path)


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
                found[name] = self._value(name, value, place) if name in _CHECKS else value
        return found

    def _value(self, name: str, node: Any, place: str) -> Any:
        test, wanted = _CHECKS[name]
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


def _is_json_object(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_price(value: Any) -> bool:
    try:
        parse_price(value)
    except ConfigError:
        return False
    return True


_Check = tuple[Callable[[Any], bool], str]
_TEXT: _Check = (
    lambda value: isinstance(value, str) and bool(value.strip()),
    "a text that is not empty; put it in quotes, or leave the key out",
)
_WHOLE: _Check = (lambda value: type(value) is int and value >= 1, "a whole number of at least 1")
_NUMBER: _Check = (lambda value: type(value) in (int, float) and 0 < value < math.inf, "a number above 0")
_TRUTH: _Check = (lambda value: isinstance(value, bool), "true or false")
_PARAMS: _Check = (_is_json_object, "a mapping of request parameters that JSON can carry, such as 'temperature: 0.2'")

_PRICE: _Check = (
    _is_price,
    "US dollars per million tokens, such as '0.5,1.5' or '0.5,1.5,0.05' (in, out, cached), or a mapping of 'input', "
    "'output' and others to them",
)

_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("default", "id", "name", "model", "provider", "base_url", "api_key"), _TEXT),
    **dict.fromkeys(("system", "user_template"), _TEXT),
    **dict.fromkeys(("concurrency", "concurrency_limit"), _WHOLE),
    **dict.fromkeys(("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm"), _NUMBER),
    **dict.fromkeys(("timeout", "total_timeout", "max_time", "fail_over", "max_cost", "weight"), _NUMBER),
    **dict.fromkeys(("cache", "return_usage", "track_cost", "fallback", "adaptive"), _TRUTH),
    "load_balance": _TEXT,
    "params": _PARAMS,
    "price": _PRICE,
}
"""By key: a name means the same in every section."""
