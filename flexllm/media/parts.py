"""Content parts as callers write them, in OpenAI's canonical form and JSON-able. Nothing is read here, no file and no URL.

What becomes what, `X` being a path, file://, http(s) or data URL, base64, bytes, `pathlib.Path` or an image of Pillow:

- `"text"` in a list of parts: a text part; bytes, `Path` and images there: the part of their kind;
- `{"type": "image_url", "image_url": X}` and `{"type": "image", "image" | "url" | "path" | "data": X}`: `image_url`;
- `{"type": "audio", ...}` likewise: `input_audio`; `{"type": "video", ...}`: `video_url`; `{"type": "file", ...}`: `file`.

Canonical parts and unknown ones stay as they are, apart from bytes, paths and images in them: so Anthropic's `image` with
a `source` and `document`, and Qwen's `video` with a list of frames. Further keys are kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from operator import is_
from typing import Any, NamedTuple, TypeVar

from ..errors import InputError
from ..language import _, mark
from ..words import Words
from . import images
from .sniff import kind_of, mime_of, suffix_of, type_of_name
from .sources import Form, encoded, fitting_type, form_of

Part = dict[str, Any]
M = TypeVar("M")


class Slot(NamedTuple):
    """Where a canonical part holds its source: the kind of medium, and the key within the object named as the type."""

    kind: str
    key: str


SLOTS = {
    "image_url": Slot("image", "url"),
    "input_audio": Slot("audio", "data"),
    "audio_url": Slot("audio", "url"),
    "video_url": Slot("video", "url"),
    "file": Slot("file", "file_data"),
}
"""Canonical parts by type. `audio_url` is vLLM's."""

_CANONICAL = {"image": "image_url", "audio": "input_audio", "video": "video_url", "file": "file"}
"""The part that carries each kind; the keys are the short types."""

_SHORT_KEYS = ("url", "path", "data")
_INNER_KEYS = {"image": ("detail",), "audio": ("format",), "video": (), "file": ("filename", "file_id")}
"""What stands beside the source in the canonical form, rather than beside the type."""

_TYPE_KEYS = frozenset({"mimeType", "mime_type", "media_type"})
"""How others declare the type of a short part; ours is told from the bytes."""


def as_messages(messages: M) -> M:
    """Return messages whose content parts are canonical and JSON-able.

    The same object is returned where no part needs a change, and the caller's objects are never changed. What is not a
    message or a part at all is left for `messages.normalise_messages` to complain about.

    Raises:
        InputError: A part holds something that is no source, or bytes of the wrong kind; it says which part.
    """
    if isinstance(messages, Mapping):
        one: M = _message(messages, 0)
        return one
    if not isinstance(messages, (list, tuple)):
        return messages
    changed: list[Any] | None = None
    for position, message in enumerate(messages):
        if type(message) is dict and type(message.get("content")) is str:
            continue
        new = _message(message, position)
        if new is not message:
            if changed is None:
                changed = list(messages)
            changed[position] = new
    return messages if changed is None else changed  # type: ignore[return-value]


def in_part(message: int, part: int, error: InputError) -> InputError:
    """Return the error of a part, with the place where it stands: numbers from 0."""
    return InputError(_("message {message}, part {part}: {error}", message=message, part=part, error=error))


def _message(message: Any, position: int) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, (list, tuple)):
        return message
    parts = []
    for part_position, part in enumerate(content):
        try:
            parts.append(_part(part))
        except InputError as error:
            raise in_part(position, part_position, error) from error
    if type(content) is list and all(map(is_, parts, content)):
        return message
    return {**message, "content": parts}


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        return _bare(part)
    kind = part.get("type")
    if not isinstance(kind, str):
        return part
    slot = SLOTS.get(kind)
    if slot is not None and kind in part:
        return _with_inner(part, kind, slot, part[kind])
    if kind == "video" and isinstance(part.get("video"), (list, tuple)):
        return _frames(part)
    if kind in _CANONICAL and "source" not in part:
        return _from_short(part, kind)
    return part


def _with_inner(part: Mapping[str, Any], kind: str, slot: Slot, inner: Any) -> Any:
    """Return a part of a canonical type, whose object may be a bare source or lack its key."""
    if not isinstance(inner, Mapping):
        if inner is None:
            return part
        return {**part, kind: _inner(slot.kind, slot.key, inner)}
    source = inner.get(slot.key)
    if source is None and kind in _CANONICAL:  # {"type": "file", "file": {"path": ...}}
        return _from_short(part, kind)
    if source is None or type(source) is str:
        return part
    named = _inner(slot.kind, slot.key, source)
    return {**part, kind: {**named, **inner, slot.key: named[slot.key]}}


def _frames(part: Mapping[str, Any]) -> Any:
    frames = [_text(frame, "image") for frame in part["video"]]
    if type(part["video"]) is list and all(map(is_, frames, part["video"])):
        return part
    return {**part, "video": frames}


def _from_short(part: Mapping[str, Any], kind: str) -> Any:
    held = part.get(kind)
    fields = dict(part)
    if isinstance(held, Mapping):  # {"type": "image", "image": {"url": ...}}
        fields = {**{name: value for name, value in part.items() if name != kind}, **held}
    name = next((name for name in (kind, *_SHORT_KEYS) if fields.get(name) is not None), None)
    if name is None:
        return part
    canonical = _CANONICAL[kind]
    slot = SLOTS[canonical]
    source = fields.pop(name)
    own = {key: fields.pop(key) for key in _INNER_KEYS[kind] if key in fields}
    rest = {key: value for key, value in fields.items() if key not in ("type", kind) and key not in _TYPE_KEYS}
    return {"type": canonical, canonical: {**_inner(kind, slot.key, source), **own}, **rest}


def _bare(thing: Any) -> Any:
    """Return the part for something that stands among the parts by itself; what is no medium is left as it is."""
    if isinstance(thing, (bytes, bytearray, memoryview)):
        kind = kind_of(mime_of(bytes(thing)))
    elif isinstance(thing, os.PathLike):
        kind = kind_of(type_of_name(os.fsdecode(thing)) or "")
    elif images.is_image(thing):
        kind = "image"
    else:
        return thing
    canonical = _CANONICAL[kind]
    return {"type": canonical, canonical: _inner(kind, SLOTS[canonical].key, thing)}


def _inner(kind: str, key: str, source: Any) -> Part:
    text = _text(source, kind)
    inner: Part = {key: text}
    if kind == "file" and not isinstance(source, (str, os.PathLike)):
        inner["filename"] = f"file{suffix_of(text[5 : text.index(';')])}"  # which OpenAI asks for; a path has its own
    return inner


def _text(source: Any, kind: str) -> str:
    """Return a source as text."""
    if isinstance(source, str):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return encoded(data, fitting_type(data, kind, _THE_BYTES))
    if isinstance(source, os.PathLike):
        path = os.fsdecode(source)
        # A path that looks like something else says that it is one: "./" holds a dot, as no base64 does.
        return path if form_of(path) is Form.LOCAL else f"/.{path}" if os.path.isabs(path) else f"./{path}"
    if images.is_image(source):
        data, mime = images.encode(source)
        return encoded(data, fitting_type(data, kind, _THE_IMAGE, declared=mime))
    raise InputError(_(_NO_SOURCE[kind], kind=type(source).__name__))


_THE_BYTES = Words(mark("the bytes object"))
_THE_IMAGE = Words(mark("the image"))

_NO_SOURCE = {
    "image": mark("the image is given as {kind}; a path, URL, data URI, bytes or an image of Pillow is needed"),
    "audio": mark("the audio is given as {kind}; a path, URL, data URI or bytes are needed"),
    "video": mark("the video is given as {kind}; a path, URL, data URI or bytes are needed"),
    "file": mark("the file is given as {kind}; a path, URL, data URI or bytes are needed"),
}
"""What is said of a source of each kind that is none."""
