"""Rows as OpenAI's Batch API has them, each with settings of its own, as the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..chat import ChatRequest
from ..errors import InputError
from ..language import _
from ..request import make_params
from .rows import FileRows, RowReader
from .shapes import Row


class OwnSettingsRows(FileRows):
    """Rows of the shape openai_batch: each may have a model and parameters of its own.

    Args:
        reader: Of that shape.
        model: For rows that name none; "" makes such a row an error, where the rows' own models are asked.
        params: For rows that say nothing else.
        flags: Parameters that go before those of the rows.
        keeps_model: The rows' own models are not asked.
    """

    is_uniform = False

    def __init__(
        self,
        reader: RowReader,
        model: str,
        params: Mapping[str, Any],
        total: int | None = None,
        *,
        flags: Mapping[str, Any],
        keeps_model: bool,
    ) -> None:
        super().__init__(reader, model, params, total)
        self._flags = make_params(flags)
        self._keeps_model = keeps_model
        self._last: tuple[Row, Mapping[str, Any]] = ({}, _over(self._params, self._flags))

    def source(self, row: bytes) -> int | None:
        """Return None: what a line asks for depends on more than the settings that all rows have in common."""

    def read(self, row: bytes) -> tuple[ChatRequest, Row]:
        """Return the request and the metadata of a line.

        Raises:
            InputError: It is no such row, or nothing names its model.
            ConfigError: A parameter of its body is none.
        """
        parsed = self._reader.parse(row)
        messages, metadata = self._reader.read_row(parsed)
        body = parsed["body"]
        own = {name: value for name, value in body.items() if name not in _NO_PARAMETERS}
        model = self._model if self._keeps_model else self._model_of(body)
        last, params = self._last
        if own != last:  # the same object for rows that are asked alike: it is digested once
            params = _over(_over(self._params, make_params(own)), self._flags)
            self._last = (own, params)
        return ChatRequest(messages, model, params), metadata

    def _model_of(self, body: Row) -> str:
        model = body.get("model")
        if model is None:
            if not self._model:
                raise InputError(_("no 'model' in the 'body' of this row, and none is set for rows that name none"))
            return self._model
        if not isinstance(model, str) or not model:
            raise InputError(_("'model' in 'body' must be a name, not {model!r:.40}", model=model))
        return model


def names_model(row: Row) -> bool | None:
    """Return whether a row names its model, None if it is no such row."""
    body = row.get("body")
    return body.get("model") is not None if isinstance(body, dict) else None


_NO_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options"})
"""What a body has besides parameters. How an answer travels is the engine's business."""


_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


def _over(params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with others over them. A limit of the answer goes before one that has another name."""
    if not _LIMITS.isdisjoint(given):
        params = {name: params[name] for name in params if name not in _LIMITS}
    return {**params, **given}
