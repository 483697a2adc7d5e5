"""Messages in which media stand inline: every path, and every URL that the provider cannot take, read by the store.

Takes the canonical parts that `parts` makes. What the provider takes as it is stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any
from urllib.parse import unquote, urlsplit

from ..cancel import CancelToken
from ..errors import InputError
from ..language import _, mark
from ..messages import Message
from ..words import Words
from .files import path_of
from .load import MediaStore
from .options import MediaWants
from .parts import SLOTS, in_part
from .sniff import sniff
from .sources import (
    HEAD_LETTERS,
    THE_BASE64,
    Form,
    check_size,
    decode_base64,
    form_of,
    may_be_base64,
    uri_mime,
    uri_payload,
)

_FORMATS = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/aiff": "aiff",
    "audio/webm": "webm",
    "audio/amr": "amr",
    "audio/3gpp": "3gp",
}
"""The `format` of an `input_audio` part by MIME type. Source: OpenAI's API reference for wav and mp3."""

_TYPES = {name: mime for mime, name in _FORMATS.items()}

_THE_AUDIO = Words(mark("the audio"))


def has_parts(messages: Sequence[Message]) -> bool:
    """Return whether any message has a list of parts: the one question that a plain conversation costs."""
    for message in messages:  # noqa: SIM110  # a loop, not any(): for two messages it is twice as fast
        if type(message.get("content")) is list:
            return True
    return False


def inline_messages(
    messages: Sequence[Message], store: MediaStore, wants: MediaWants, cancel: CancelToken | None = None
) -> Sequence[Message]:
    """Return messages with their media as the provider wants them; the same object where nothing is to be done.

    Raises:
        InputError: A medium cannot be used; it says in which message and part.
        RequestTimeout, ConnectionFailed: A download failed in a way that may pass.
        RequestCancelled: `cancel` was stopped.
    """
    reader = _Reader(store, wants, cancel)
    changed: list[Message] | None = None
    for position, message in enumerate(messages):
        content = message.get("content")
        if type(content) is not list:
            continue
        parts = []
        for part_position, part in enumerate(content):
            try:
                parts.append(reader.part(part))
            except InputError as error:
                raise in_part(position, part_position, error) from error
        if not all(map(is_, parts, content)):
            changed = changed or list(messages)
            changed[position] = {**message, "content": parts}
    return messages if changed is None else changed


class _Reader:
    """Goes through the parts of one request."""

    def __init__(self, store: MediaStore, wants: MediaWants, cancel: CancelToken | None) -> None:
        self._store = store
        self._wants = wants
        self._cancel = cancel

    def part(self, part: Any) -> Any:
        """Return a part with its medium inline, the same object if it is so already."""
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "video" and isinstance(part.get("video"), list):
            return self._with_frames(part)
        slot = SLOTS.get(kind) if isinstance(kind, str) else None
        inner = part[kind] if slot is not None and isinstance(part.get(kind), Mapping) else None
        if slot is None or inner is None:
            return part
        source = inner.get(slot.key)
        if not isinstance(source, str) or not source:
            return part
        if kind == "input_audio":
            new = self._audio(inner, source)
        elif kind == "file":
            new = self._file(inner, source)
        else:
            text = self._inlined(source, slot.kind)
            new = inner if text is source else {**inner, slot.key: text}
        return part if new is inner else {**part, kind: new}

    def _with_frames(self, part: Mapping[str, Any]) -> Any:
        old = part["video"]
        frames = [self._inlined(frame, "image") if isinstance(frame, str) and frame else frame for frame in old]
        return part if all(map(is_, frames, old)) else {**part, "video": frames}

    def _audio(self, inner: Mapping[str, Any], source: str) -> Mapping[str, Any]:
        form, stated = form_of(source), inner.get("format")
        if form is Form.BASE64 or self._is_native_base64(form, source):
            check_size(len(source) * 3 // 4, self._store.options.max_bytes, THE_BASE64)
            name = stated if isinstance(stated, str) and stated else _format(_sniffed(source), None)
            data = f"data:{_TYPES.get(name, f'audio/{name}')};base64,{source}" if self._wants.audio_as_uri else source
        else:
            uri = self._inlined(source, "audio")
            if uri[:5] != "data:":
                return inner
            name = _format(_sniffed(uri, uri.index(",") + 1), uri_mime(uri))
            data = uri if self._wants.audio_as_uri else uri_payload(uri)
        return inner if data is source and name == stated else {**inner, "data": data, "format": name}

    def _file(self, inner: Mapping[str, Any], source: str) -> Mapping[str, Any]:
        form = form_of(source)
        if self._is_native_base64(form, source):
            source, form = f"data:;base64,{source}", Form.DATA_URI
        uri = self._inlined(source, "file")
        if uri is inner["file_data"]:
            return inner
        new = {**inner, "file_data": uri}
        if form in (Form.LOCAL, Form.REMOTE) and not new.get("filename"):
            new["filename"] = _filename(source, form)
        return new

    def _is_native_base64(self, form: Form, source: str) -> bool:
        """Whether what could be a path is base64, where base64 is what the field is for: there is no such file."""
        return form is Form.LOCAL and may_be_base64(source) and not self._store.is_local_file(source)

    def _inlined(self, source: str, kind: str) -> str:
        """Return a source as a data URI, or itself where the provider takes it."""
        form, wants = form_of(source), self._wants
        if form is Form.OTHER_SCHEME:
            return source
        if form is Form.REMOTE and (kind not in wants.inline_remote or source.startswith(wants.takes_urls)):
            return source
        return self._store.data_uri(source, kind, image_types=wants.image_types, cancel=self._cancel)


def _sniffed(text: str, start: int = 0) -> str | None:
    return sniff(decode_base64(text[start : start + HEAD_LETTERS], _THE_AUDIO))


def _format(found: str | None, mime: str | None) -> str:
    """Return the `format` of audio, from its bytes and else from what a data URI declares."""
    from_bytes = {"video/mp4": "audio/mp4", "video/webm": "audio/webm"}.get(found or "", found)
    name = _FORMATS.get(from_bytes or "") or _FORMATS.get(mime or "")
    if name is None and (mime or "").startswith("audio/"):
        name = (mime or "").partition("/")[2]
    if name is None:
        raise InputError(_("the audio is of no known format; say which as 'format' beside its 'data'"))
    return name


def _filename(source: str, form: Form) -> str:
    path = unquote(urlsplit(source).path) if form is Form.REMOTE else path_of(source)
    return os.path.basename(path) or "file"
