"""Rows that bring pictures along: from what stands in a field to the parts of a message.

Nothing is read here: a message holds the path or the URL, and the picture is read on the way to the provider (`media`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..chat import ChatRequest
from ..digest import digest_source
from ..errors import InputError
from ..language import _
from ..media.parts import as_messages
from ..media.sources import Form, form_of
from ..messages import Message
from .rows import FileRows, RowReader
from .shapes import Row, names_of


def picture_parts(cell: Any, folder: str) -> list[Any]:
    """Return the content parts for the pictures that a cell holds; none for an empty one.

    Args:
        cell: A path, a URL, a data URI or base64, bytes, an image of Pillow, an object that has one of these as `bytes` or
            `path`, as data sets have it, or a list of such.
        folder: Paths are relative to it.

    Raises:
        InputError: It is something else.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    if isinstance(cell, (list, tuple)):
        return [part for one in cell for part in picture_parts(one, folder)]
    if isinstance(cell, Mapping):
        if cell and not {"bytes", "path"} & cell.keys():
            told = _(
                "an object with a picture has it as 'bytes' or as 'path', and this one has {fields}",
                fields=names_of(cell),
            )
            raise InputError(told)
        return picture_parts(cell.get("bytes") or cell.get("path"), folder)
    part = {"type": "image_url", "image_url": _placed(cell, folder)}
    message: dict[str, Any] = {"role": "user", "content": [part]}
    return list(as_messages(message)["content"])


def with_pictures(messages: list[Message], parts: list[Any]) -> list[Message]:
    """Return a conversation with pictures in front of what its last user message says, as providers advise.

    Raises:
        InputError: No message is the user's.
    """
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message["role"] == "user":
            content = message.get("content")
            said = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
            said = [part for part in said if part != {"type": "text", "text": ""}]
            return [*messages[:position], {**message, "content": [*parts, *said]}, *messages[position + 1 :]]
    raise InputError(_("there is no message of the user in this row, to which its picture could belong"))


class PictureRows(FileRows):
    """The rows of an input with, in one of their fields, their pictures.

    Args:
        reader: Reads all else; the field of the pictures stays among the metadata.
        field: The field of the pictures.
        folder: What their paths are relative to.
        needs_picture: A row without one cannot be asked.

    Raises:
        InputError: No row has that field; nothing was sent.
    """

    def __init__(
        self,
        reader: RowReader,
        model: str,
        params: Mapping[str, Any],
        total: int | None = None,
        *,
        field: str,
        folder: str,
        needs_picture: bool,
    ) -> None:
        super().__init__(reader, model, params, total)
        self._field = field
        self._folder = folder
        self._needs_picture = needs_picture
        words = json.dumps([field, folder, needs_picture]).encode()
        self._reading = blake2b(reader.reading + words, digest_size=16).digest()

    def source(self, row: bytes) -> int | None:
        """Return the digest of the line, and of how it and its pictures are read."""
        return digest_source(row, self._reading)

    def read(self, row: bytes) -> tuple[ChatRequest, Row]:
        """Return the request and the metadata of a line."""
        parsed = self._reader.parse(row)
        field = self._field
        if field not in parsed:
            raise InputError(_("no {field!r} in this row, only {fields}", field=field, fields=names_of(parsed)))
        parts = picture_parts(parsed[field], self._folder)
        if self._needs_picture and not parts:
            raise InputError(_("{field!r} is empty in this row", field=field))
        messages, metadata = self._reader.read_row(parsed)
        if parts:
            messages = with_pictures(messages, parts)
        return ChatRequest(messages, self._model, self._params), metadata


def _placed(source: Any, folder: str) -> Any:
    """Return a source whose path, if it is one, leads from the folder."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(source)
        if isinstance(source, str):
            text = text.strip()
            if form_of(text) is not Form.LOCAL or text[:7].lower() == "file://":
                return text
        return Path(os.path.normpath(os.path.join(folder, os.path.expanduser(text))))
    return source
