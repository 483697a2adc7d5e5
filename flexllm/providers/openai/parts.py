"""Pictures, sounds, videos and files in a message, said as a server that speaks OpenAI's chat completions wants them.

Paths have become data URIs by then, and what the server does not fetch itself has been downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...language import _
from ..conversation import split_data_uri
from .dialects import Dialect

_URL = re.compile(r"data:|[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)
_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "": "wav"}
"""The `format` of a sound, by the second half of its MIME type; others are named alike."""


def adapt_parts(parts: Sequence[Any], position: int, dialect: Dialect) -> list[Any] | None:
    """Return a message's content parts as its server wants them, None if they are. Types that are not known pass.

    Args:
        position: The message's, for errors.

    Raises:
        InputError: The server does not take a part, or a part is not whole.
    """
    sent: list[Any] | None = None
    for number, part in enumerate(parts):
        changed = {"type": "text", "text": part} if isinstance(part, str) else _part(part, position, dialect)
        if changed is not part:
            sent = list(parts) if sent is None else sent
            sent[number] = changed
    return sent


def _part(part: Mapping[str, Any], position: int, dialect: Dialect) -> Mapping[str, Any]:
    kind = part.get("type")
    if not isinstance(kind, str):
        return part
    if kind in dialect.refused_parts:
        reason = _(
            "message {position}: {title} takes no part of type {kind!r}; {instead}",
            position=position,
            title=dialect.shown,
            kind=kind,
            instead=_(dialect.refused_parts[kind]),
        )
        raise InputError(reason)
    if kind == "audio_url" and not dialect.audio_urls:
        return _with_sound(_as_input_audio(part), _place(position, kind), dialect)
    if kind in ("image_url", "video_url", "audio_url"):
        return _with_url(part, kind, _place(position, kind), dialect)
    if kind == "input_audio":
        return _with_sound(part, _place(position, kind), dialect)
    if kind == "file" and "file" in dialect.media.inline_remote:
        file = part.get("file")
        data = file.get("file_data") if isinstance(file, Mapping) else None
        if isinstance(data, str) and data.startswith(("http://", "https://")):
            raise InputError(
                _(
                    "message {position}, file: {title} fetches no file by its URL; give it as a data URI",
                    position=position,
                    title=dialect.shown,
                )
            )
    return part


def _place(position: int, kind: str) -> str:
    return _("message {position}, {kind}", position=position, kind=kind)


def _with_url(part: Mapping[str, Any], kind: str, where: str, dialect: Dialect) -> Mapping[str, Any]:
    given = part.get(kind)
    url = given.get("url") if isinstance(given, Mapping) else given
    if url is None:
        raise InputError(_("{where} has no url; give a URL or a data URI", where=where))
    if not isinstance(url, str) or not _URL.match(url):
        raise InputError(_("{where}: {url!r} is neither a URL nor a data URI", where=where, url=str(url)[:40]))
    if kind == "image_url" and "image" in dialect.media.inline_remote and url.startswith(("http://", "https://")):
        raise InputError(
            _("{where}: {title} fetches no picture by its URL; give it as a data URI", where=where, title=dialect.shown)
        )
    return part if isinstance(given, Mapping) else {**part, kind: {"url": url}}


def _as_input_audio(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say a sound that stands as a URL the way most servers take it; its format is in the data URI."""
    given = part.get("audio_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    uri = split_data_uri(url) if isinstance(url, str) else None
    kind = uri[0].partition("/")[2] if uri else ""
    others = {word: value for word, value in part.items() if word != "audio_url"}
    return {**others, "type": "input_audio", "input_audio": {"data": url, "format": _FORMATS.get(kind, kind)}}


def _with_sound(part: Mapping[str, Any], where: str, dialect: Dialect) -> Mapping[str, Any]:
    """Say a sound's data as the server wants it: bare base64, or for Qwen a URI."""
    given = part.get("input_audio")
    data = given.get("data") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(data, str) or not data:
        raise InputError(_("{where}: an object with data and format is needed", where=where))
    uri = split_data_uri(data)
    if dialect.media.audio_as_uri:
        if uri or data.startswith(("data:", "http://", "https://", "oss://")):
            return part
        return {**part, "input_audio": {**given, "data": f"data:;base64,{data}"}}
    if uri:
        return {**part, "input_audio": {**given, "data": uri[1]}}
    if ":" in data[:8]:
        raise InputError(
            _("{where}: {title} wants the sound itself, in base64, not a URL", where=where, title=dialect.shown)
        )
    return part
