"""One part of a message in OpenAI's form, turned into the part of Gemini's that says the same.

Source: Gemini API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InputError
from ...language import _
from ..conversation import parts_of, split_data_uri

Part = Mapping[str, Any]

FILES_API = "https://generativelanguage.googleapis.com/"
READ_URLS = (
    "gs://",
    "https://www.youtube.com/",
    "https://youtube.com/",
    "https://m.youtube.com/",
    "https://youtu.be/",
    f"{FILES_API}v1/files/",
    f"{FILES_API}v1beta/files/",
)
"""Starts of URLs that Gemini reads itself: Google's cloud storage, YouTube, its own files."""
_URL = re.compile(r"(https?|gs)://.", re.IGNORECASE)

_AUDIO_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*")

_SUFFIX_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "heic": "image/heic",
    "heif": "image/heif", "gif": "image/gif",
    "mp4": "video/mp4", "mpeg": "video/mpeg", "mpg": "video/mpg", "mov": "video/quicktime", "avi": "video/x-msvideo",
    "webm": "video/webm", "wmv": "video/x-ms-wmv", "3gp": "video/3gpp", "flv": "video/x-flv", "mkv": "video/x-matroska",
    "wav": "audio/wav", "mp3": "audio/mp3", "aac": "audio/aac", "flac": "audio/flac", "ogg": "audio/ogg",
    "aiff": "audio/aiff", "m4a": "audio/m4a",
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "html": "text/html", "csv": "text/csv",
    "json": "application/json", "xml": "text/xml",
}  # fmt: skip
"""Not the standard library's table: that one depends on the files of the machine it runs on."""

_MODIFIERS = {
    "videoMetadata": "videoMetadata",
    "video_metadata": "videoMetadata",
    "mediaResolution": "mediaResolution",
    "media_resolution": "mediaResolution",
}
"""Gemini's own fields that a caller may put beside an OpenAI part."""

_NATIVE_PARTS = frozenset(
    {"text", "inlineData", "inline_data", "fileData", "file_data", "functionCall", "function_call", "functionResponse",
     "function_response", "executableCode", "executable_code", "codeExecutionResult", "code_execution_result",
     "toolCall", "tool_call", "toolResponse", "tool_response"}
)  # fmt: skip


def read_parts(content: Any, where: str) -> list[Part]:
    """Return content parts in Gemini's form, without empty texts. Gemini's own parts pass unchanged."""
    read: list[Part] = []
    for part in parts_of(content):
        kind = part.get("type")
        if kind is None:
            if _NATIVE_PARTS.isdisjoint(part):
                raise InputError(_("{where} has a part without a type: {part}", where=where, part=str(dict(part))[:80]))
            if not is_blank(part):
                read.append(part)
            continue
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is None:
            raise InputError(
                _(
                    "{where} has a part of type {kind!r}, which Gemini has no place for",
                    where=where,
                    kind=str(kind)[:40],
                )
            )
        made = reader(part, where)
        if made is None:
            continue
        modifiers = {_MODIFIERS[key]: value for key, value in part.items() if key in _MODIFIERS and value is not None}
        if part.get("fps") is not None:  # Qwen's word
            modifiers.setdefault("videoMetadata", {"fps": part["fps"]})
        read.append({**made, **modifiers} if modifiers else made)
    return read


def is_blank(part: Any) -> bool:
    """Whether a part is an empty text, and says nothing else."""
    return isinstance(part, Mapping) and part.get("text") == "" and part.keys() <= {"text", "thought"}


def _text(part: Part, where: str) -> Part | None:
    text = part.get(part["type"])
    if text is not None and not isinstance(text, str):
        raise InputError(_("{where} has a part of type {kind!r} that holds no text", where=where, kind=part["type"]))
    return {"text": text} if text else None


def _url_part(part: Part, where: str) -> Part:
    """Read a part whose URL stands in the field named as its type; a bare URL in place of the object is one, too.

    The `detail` of a picture is a hint about cost that Gemini has no word for in every model; its own is
    `mediaResolution`, beside the URL.
    """
    kind = part["type"]
    given = part.get(kind)
    return _media(given.get("url") if isinstance(given, Mapping) else given, kind, where)


def _media(url: Any, kind: str, where: str) -> Part:
    if isinstance(url, str):
        if url.startswith("data:"):
            pair = split_data_uri(url)
            if pair is None:
                raise InputError(
                    _("{where} has a part of type {kind!r} with a data URI that is not base64", where=where, kind=kind)
                )
            if kind != "file" and pair[0].startswith("text/"):  # what a data URI is that does not name its type
                raise InputError(
                    _(
                        "{where} has a part of type {kind!r} with a data URI that names no medium: give its type",
                        where=where,
                        kind=kind,
                    )
                )
            return {"inlineData": {"mimeType": pair[0], "data": pair[1]}}
        if _URL.match(url):
            mime = _SUFFIX_TYPES.get(url.partition("?")[0].partition("#")[0].rpartition(".")[2].lower())
            return {"fileData": {"mimeType": mime, "fileUri": url} if mime else {"fileUri": url}}
    shown = repr(url[:40]) if isinstance(url, str) else type(url).__name__
    raise InputError(
        _(
            "{where} has a part of type {kind!r} that needs a data URI or a URL, not {shown}",
            where=where,
            kind=kind,
            shown=shown,
        )
    )


def _audio(part: Part, where: str) -> Part:
    given = part.get("input_audio")
    data = given.get("data") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(data, str) or not data:
        raise InputError(_("{where} has a part of type 'input_audio' without data", where=where))
    data = data.removeprefix("data:;base64,")  # as Qwen's servers want it
    if data.startswith("data:") or _URL.match(data):
        return _media(data, "input_audio", where)
    kind = given.get("format")
    if not isinstance(kind, str) or not _AUDIO_TYPE.fullmatch(kind.lower()):
        raise InputError(
            _("{where} has a part of type 'input_audio' without a format, such as 'wav' or 'mp3'", where=where)
        )
    return {"inlineData": {"mimeType": f"audio/{kind.lower()}", "data": data}}


def _file(part: Part, where: str) -> Part:
    given = part.get("file")
    if not isinstance(given, Mapping):
        raise InputError(_("{where} has a part of type 'file' without a file", where=where))
    if given.get("file_data") is not None:
        return _media(given["file_data"], "file", where)
    file_id = given.get("file_id")
    if isinstance(file_id, str):
        if file_id.startswith("files/"):
            return {"fileData": {"fileUri": f"{FILES_API}v1beta/{file_id}"}}
        if file_id.startswith(READ_URLS):
            return _media(file_id, "file", where)
    raise InputError(
        _("{where} has a file that Gemini cannot find: give file_data, or a file_id such as 'files/abc'", where=where)
    )


_READERS: dict[str, Callable[[Part, str], Part | None]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _url_part,
    "audio_url": _url_part,
    "video_url": _url_part,
    "input_audio": _audio,
    "file": _file,
}
