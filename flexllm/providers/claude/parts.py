"""One part of a message in OpenAI's form, turned into the content block of Anthropic's that says the same.

Blocks that already are Anthropic's (an image with its source, a document, a tool result, thinking, ...) pass unchanged.
Two things are only hints and fall away: the `detail` of a picture, which Claude always sees whole, and the name of a
picture's file. Source: Anthropic's API reference, content blocks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ...language import _
from ..conversation import parts_of, split_data_uri

Block = dict[str, Any]

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
CACHE_CONTROL = "cache_control"


def blocks_of(content: Any, where: str) -> list[Block]:
    """Return the content of a user's message or of a tool's result as blocks; texts of blanks alone are left out.

    Args:
        content: A text, parts, or None.
        where: Whose content it is, for errors.

    Raises:
        InputError: A part cannot be said in Anthropic's words.
    """
    blocks = [_block(part, where) for part in parts_of(content)]
    return [block for block in blocks if block is not None]


def assistant_blocks_of(content: Any, where: str) -> list[Block]:
    """Return the blocks of an assistant message's content, which holds text, or Anthropic's own blocks.

    Raises:
        InputError: It holds a medium.
    """
    blocks = []
    for part in parts_of(content):
        kind = part.get("type")
        if kind == "refusal":
            part, kind = {"type": "text", "text": part.get("refusal")}, "text"
        if isinstance(kind, str) and (kind in _TRANSLATED or kind in _UNKNOWN_MEDIA):
            raise InputError(
                _(
                    "{where} is the assistant's and can hold text alone, not a part of type {kind!r}",
                    where=where,
                    kind=kind,
                )
            )
        block = _block(part, where)
        if block is not None:
            blocks.append(block)
    return blocks


def is_blank(text: str) -> bool:
    """Whether a text is empty or blanks alone: Anthropic takes no such block."""
    return not text or text.isspace()


def text_block(part: Mapping[str, Any], where: str) -> Block | None:
    """Return a text part as it is, with all its fields; None if there is no text in it.

    Raises:
        InputError: Its text is something else, or it is empty and marked for the cache.
    """
    text = part.get("text")
    if not isinstance(text, str):
        raise InputError(
            _("{where} has a text part whose text is of type {kind}", where=where, kind=type(text).__name__)
        )
    if is_blank(text):
        if part.get(CACHE_CONTROL):
            raise InputError(
                _("{where} has an empty text with cache_control: put that on a part with text", where=where)
            )
        return None
    return part if type(part) is dict else dict(part)


def _block(part: Mapping[str, Any], where: str) -> Block | None:
    kind = part.get("type")
    if kind == "text":
        return text_block(part, where)
    if not isinstance(kind, str) or not kind:
        raise InputError(_("{where} has a part without a type", where=where))
    if kind in _UNKNOWN_MEDIA:
        raise InputError(
            _(
                "{where} has a part of type {kind!r}: Claude takes text, pictures and documents, no sound or video",
                where=where,
                kind=kind,
            )
        )
    translate = _TRANSLATED.get(kind)
    if translate is None:
        return _native(part, kind, where)
    block = translate(part.get(kind), where)
    if part.get(CACHE_CONTROL):
        block[CACHE_CONTROL] = part[CACHE_CONTROL]
    return block


def _native(part: Mapping[str, Any], kind: str, where: str) -> Block:
    if kind in ("image", "document") and not isinstance(part.get("source"), Mapping):
        raise InputError(
            _(
                "{where} has a part of type {kind!r} without a source; OpenAI's types are 'image_url' and 'file'",
                where=where,
                kind=kind,
            )
        )
    return part if type(part) is dict else dict(part)


def _image(image: Any, where: str) -> Block:
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise InputError(_("{where} has an image_url without a URL", where=where))
    if _is_remote(url):
        return {"type": "image", "source": {"type": "url", "url": url}}
    data = split_data_uri(url)
    if data is None:
        raise InputError(
            _(
                "{where} has a picture that is neither a data URI in base64 nor an http(s) URL: {url!r}",
                where=where,
                url=url[:40],
            )
        )
    return _inline_image(*data, where)


def _inline_image(mime: str, data: str, where: str) -> Block:
    mime = mime.lower()
    mime = "image/jpeg" if mime == "image/jpg" else mime
    if mime not in IMAGE_TYPES:
        raise InputError(
            _(
                "{where} has a picture of type {mime!r}: Claude takes JPEG, PNG, GIF and WebP; convert it",
                where=where,
                mime=mime[:40],
            )
        )
    return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}


def _file(file: Any, where: str) -> Block:
    if not isinstance(file, Mapping):
        raise InputError(_("{where} has a file part that is no object with file_data or file_id", where=where))
    if file.get("file_id"):
        return _document(file, {"type": "file", "file_id": file["file_id"]})
    given = file.get("file_data")
    if not isinstance(given, str):
        raise InputError(_("{where} has a file without file_data and file_id", where=where))
    if _is_remote(given):
        return _document(file, {"type": "url", "url": given})
    data = split_data_uri(given)
    if data is None:
        raise InputError(
            _(
                "{where} has a file that is neither a data URI in base64 nor an http(s) URL: {given!r}",
                where=where,
                given=given[:40],
            )
        )
    mime = data[0].lower()
    if mime == "application/pdf":
        return _document(file, {"type": "base64", "media_type": mime, "data": data[1]})
    if mime.startswith("text/"):
        return _document(file, {"type": "text", "media_type": "text/plain", "data": _decoded(data[1], where)})
    if mime.startswith("image/"):
        return _inline_image(*data, where)
    raise InputError(
        _(
            "{where} has a file of type {mime!r}: Claude takes PDF, text and pictures; give its text instead",
            where=where,
            mime=mime[:40],
        )
    )


def _document(file: Mapping[str, Any], source: Block) -> Block:
    title = file.get("filename")
    block: Block = {"type": "document", "source": source}
    return {**block, "title": title} if title else block


def _decoded(data: str, where: str) -> str:
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InputError(_("{where} has a text file that is not base64 of UTF-8", where=where)) from None
    if is_blank(text):
        raise InputError(_("{where} has a text file that is empty", where=where))
    return text


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


_TRANSLATED: dict[str, Callable[[Any, str], Block]] = {"image_url": _image, "file": _file}
_UNKNOWN_MEDIA = frozenset({"input_audio", "audio_url", "audio", "video_url", "video", "input_video"})
"""What Anthropic has no block for."""
