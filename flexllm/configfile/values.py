"""What a configuration file says, as values. `reader` makes and checks them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..language import _, with_commas
from ..prices import PriceLike
from ..wire import NO_KEY, mask_key
from .paths import DEFAULT_PATH, shown_path
from .places import expand, expand_if_set, has_variables


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

    `name`, `base_url` and `api_key` stand as the file has them: `resolve_endpoint` replaces their `${VARIABLES}`.

    Attributes:
        id: What the user calls it; unique in the file.
        name: What the server calls it.
        base_url: None means the provider's own.
        api_key: Goes to `base_url` and nowhere else.
        api_key_cmd: A command that prints the key instead: a text for the shell, or the words of a command.
        params: Default request parameters, JSON-able.
        price: What it costs, as `parse_price` takes it; None leaves it to the table of prices.
    """

    id: str
    name: str
    provider: str = "auto"
    base_url: str | None = None
    api_key: str = NO_KEY
    api_key_cmd: str | tuple[str, ...] | None = None
    system: str | None = None
    user_template: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    price: PriceLike | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BatchEndpoint(Masked):
    """One entry under `batch.endpoints`; None means not set. `model`, `base_url` and keys are as in `ModelEntry`."""

    base_url: str
    api_key: str = NO_KEY
    api_key_cmd: str | tuple[str, ...] | None = None
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
        warnings: Sentences about what the file says in vain, or to too many people; they were logged too.
        lines: Where each key stands, such as "models[0].api_key", for `place`.
    """

    default: str | None = None
    models: tuple[ModelEntry, ...] = ()
    batch: BatchSettings = field(default_factory=BatchSettings)
    prices: Mapping[str, PriceLike] = field(default_factory=dict)
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def file(self) -> str:
        """The file's name for people, that of the default one if there is none."""
        return DEFAULT_PATH if self.path is None else shown_path(self.path)

    def place(self, key: str) -> str:
        """Return where a key stands, for people: the file and the line, or what the key is if the line is not known."""
        line = self.lines.get(key)
        if line is None:
            return with_commas([self.file, key])
        return _("{file}, line {line}", file=self.file, line=line)

    def find(self, name: str, environ: Mapping[str, str] = os.environ) -> ModelEntry | None:
        """Return the entry with this id, else the one with this name, else None.

        Raises:
            ConfigError: Several entries have the name, and it is nobody's id: their keys and servers may differ.
        """
        found = [entry for entry in self.models if entry.id == name]
        found = found or [entry for entry in self.models if expand_if_set(entry.name, environ) == name]
        if len(found) > 1:
            raise ConfigError(
                _("several models are named {name!r}; choose one by its id: {ids}", name=name, ids=ids_of(found))
            )
        return found[0] if found else None

    def default_name(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """Return the id or name that `default` says, None without it.

        Raises:
            ConfigError: It asks for a variable that is not set.
        """
        if self.default is None or not has_variables(self.default):
            return self.default
        return expand(self.default, environ, f"{self.place('default')}: default")

    def default_entry(self, environ: Mapping[str, str] = os.environ) -> ModelEntry | None:
        """Return the entry that `default` names, or without `default` the only one; None if that names none.

        Raises:
            ConfigError: It asks for a variable that is not set, or several entries have that name.
        """
        name = self.default_name(environ)
        if name is not None:
            return self.find(name, environ)
        return self.models[0] if len(self.models) == 1 else None


def ids_of(entries: Sequence[ModelEntry], nearest_to: str | None = None) -> str:
    """Return the entries' ids for people, the nearest to a name first."""

    def nearness(entry: ModelEntry) -> float:
        return max(difflib.SequenceMatcher(None, nearest_to or "", text).ratio() for text in (entry.id, entry.name))

    return ", ".join(repr(entry.id) for entry in sorted(entries, key=nearness, reverse=True))
