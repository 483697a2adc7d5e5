"""The rows of a batch that is called from Python: conversations with, beside them, metadata and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

from ..chat import ChatRequest
from ..errors import ConfigError
from ..language import _
from ..messages import Messages
from ..request import RequestDefaults, make_params, make_request
from .items import Owners


class ListRows:
    """Conversations as `RowSource`; any iterable, read once.

    Args:
        conversations: Each a text, a message or a list of messages.
        params: Request parameters for all rows.
        metadata_list: One value for each row.
        params_list: More request parameters for each row; they win.
        defaults: What holds where the others say nothing.

    Raises:
        ConfigError: A list beside the conversations has another length (found while reading, if theirs is unknown), or
            is none, or has entries that are no parameters.
    """

    settings = 0  # rows without a source are known by their content alone
    owners: Owners | None = None

    def __init__(
        self,
        conversations: Iterable[Messages],
        model: str,
        params: Mapping[str, Any],
        metadata_list: Sequence[Any] | None = None,
        params_list: Sequence[Mapping[str, Any]] | None = None,
        defaults: RequestDefaults | None = None,
    ) -> None:
        if isinstance(conversations, (str, Mapping)):
            raise ConfigError(_("messages_list must be a list of conversations, not one conversation"))
        self.total = len(conversations) if isinstance(conversations, Sized) else None
        self.is_uniform = params_list is None
        self.never_waits = isinstance(conversations, (list, tuple))
        self._conversations = conversations
        self._model = model
        self._defaults = None
        if defaults is not None:  # its parameters are put below those of the call once, not for each row
            params = {**defaults.params, **params}
            self._defaults = replace(defaults, params={})
        self._params = make_params(params)
        self._beside = {"metadata_list": metadata_list, "params_list": params_list}
        for name, values in self._beside.items():
            if values is None:
                continue
            if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sized):
                raise _no_list(name, values)
            if self.total is not None and len(values) != self.total:
                raise _wrong_length(name, len(values), self.total)
        for position, entry in enumerate(() if params_list is None else params_list):
            if entry is not None and not isinstance(entry, Mapping):
                raise _no_params(position, entry)

    def __iter__(self) -> Iterator[tuple[Messages, Any, Mapping[str, Any] | None]]:
        metadata, params = self._beside["metadata_list"], self._beside["params_list"]
        count = 0
        for conversation in self._conversations:
            yield conversation, self._value("metadata_list", metadata, count), self._value("params_list", params, count)
            count += 1
        for name, values in self._beside.items():
            if values is not None and len(values) != count:
                raise _wrong_length(name, len(values), count)

    def source(self, row: Any) -> None:
        """Return None: a value in memory has no form of its own."""

    def read(self, row: tuple[Messages, Any, Mapping[str, Any] | None]) -> tuple[ChatRequest, Any]:
        """Return the request and the metadata of a row."""
        messages, metadata, params = row
        merged = {**self._params, **params} if params else self._params
        model = self._model
        if params and "model" in merged:
            merged = dict(merged)
            model = merged.pop("model")
        return make_request(messages, model, merged, self._defaults), metadata

    def metadata_of(self, row: tuple[Messages, Any, Mapping[str, Any] | None]) -> Any:
        """Return what stands beside a conversation."""
        return row[1]

    def _value(self, name: str, values: Sequence[Any] | None, position: int) -> Any:
        if values is None:
            return None
        if position >= len(values):
            reason = _(
                "{name} has {count} entries, but there are more rows; one for each row is needed",
                name=name,
                count=len(values),
            )
            raise ConfigError(reason)
        return values[position]


def _no_list(name: str, found: object) -> ConfigError:
    kind = type(found).__name__
    return ConfigError(_("{name} must be a list with an entry for each row, not of type {kind}", name=name, kind=kind))


def _no_params(position: int, found: object) -> ConfigError:
    reason = _(
        "params_list[{position}] must be a mapping of request parameters, not of type {kind}",
        position=position, kind=type(found).__name__,
    )  # fmt: skip
    return ConfigError(reason)


def _wrong_length(name: str, count: int, rows: int) -> ConfigError:
    reason = _(
        "{name} has {count} entries for {rows} rows; one for each row is needed", name=name, count=count, rows=rows
    )
    return ConfigError(reason)
