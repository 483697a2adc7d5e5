"""What kind of file some bytes are, told from the bytes; names and declarations only refine what bytes cannot say.

Sources: the formats' own specifications, where they give a signature; RFC 9639 (FLAC), RFC 3533 (Ogg), ISO/IEC 14496-12
(the `ftyp` box), ISO/IEC 11172-3 and 13818-7 (the frame headers of MP3 and AAC).
"""

from __future__ import annotations

import codecs
import os

OCTETS = "application/octet-stream"
"""What is said of bytes of which nothing is known."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00\x08\x00\x00\x00", "image/tiff"),
    (b"MM\x00+\x00\x08\x00\x00", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"fLaC\x00", "audio/flac"),
    (b"fLaC\x80", "audio/flac"),
    (b"ID3\x02", "audio/mpeg"),
    (b"ID3\x03", "audio/mpeg"),
    (b"ID3\x04", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
"""Brands of ISO media files that are neither a plain video nor a plain picture."""

_SUFFIXES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "jfif": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "heic": "image/heic",
    "heif": "image/heif",
    "avif": "image/avif",
    "svg": "image/svg+xml",
    "ico": "image/x-icon",
    "jp2": "image/jp2",
    "jxl": "image/jxl",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "aac": "audio/aac",
    "aif": "audio/aiff",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mpg": "video/mpeg",
    "mpeg": "video/mpeg",
    "ogv": "video/ogg",
    "3gp": "video/3gpp",
    "flv": "video/x-flv",
    "wmv": "video/x-ms-asf",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "htm": "text/html",
    "html": "text/html",
    "xml": "text/xml",
    "json": "application/json",
    "rtf": "application/rtf",
    "zip": "application/zip",
    "epub": "application/epub+zip",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
}
"""The standard library's `mimetypes` reads the machine's own tables, which differ from one machine to the next."""

_REFINED = {
    "text/plain": frozenset(
        {"text/markdown", "text/csv", "text/tab-separated-values", "text/html", "text/xml"}
        | {"application/json", "application/rtf", "application/xml", "image/svg+xml"}
    ),
    "application/zip": frozenset(
        {_SUFFIXES["docx"], _SUFFIXES["xlsx"], _SUFFIXES["pptx"], _SUFFIXES["epub"]},
    ),
    "application/x-ole-storage": frozenset({_SUFFIXES["doc"], _SUFFIXES["xls"], _SUFFIXES["ppt"]}),
}
"""What a name or a declaration may make of a type that the bytes show."""

_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def sniff(data: bytes) -> str | None:
    """Return the MIME type that bytes show, None where they show none. The first kilobytes of a file are enough.

    Text is what decodes as UTF-8 and holds no NUL; a character that is cut at the end does not count against it.
    """
    for signature, mime in _SIGNATURES:
        if data.startswith(signature):
            return mime
    return _container(data) or _picture_or_frame(data) or _text(data)


def _container(data: bytes) -> str | None:
    start, form = data[:4], data[8:12]
    if start == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}.get(form)
    if start == b"FORM":
        return {b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}.get(form)
    if start == b"OggS" and data[4:5] == b"\x00":
        return "video/ogg" if b"\x80theora" in data[:256] else "audio/ogg"
    if start == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in data[:64] else "video/x-matroska"
    return _iso_media(data) if data[4:8] == b"ftyp" else None


def _iso_media(data: bytes) -> str:
    size = int.from_bytes(data[:4], "big")
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, len(data), 256), 4))]
    if brands[0] in _BRANDS:
        return _BRANDS[brands[0]]
    if brands[0] in (b"mif1", b"msf1"):  # a picture; which one, the further brands tell
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "image/heif")
    return "video/3gpp" if brands[0][:2] == b"3g" else "video/mp4"


def _picture_or_frame(data: bytes) -> str | None:
    if data[:2] == b"BM" and data[6:10] == bytes(4) and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    if data[1] & 0xF6 == 0xF0:  # all twelve bits of the ADTS sync word, layer 0
        return "audio/aac" if data[2] >> 2 & 15 < 13 else None
    # Layer 3 or 2 with a bit rate and a sampling rate that exist. Not layer 1: it is rare, and FF FE starts UTF-16 text.
    is_frame = version != 1 and layer in (1, 2) and 0 < data[2] >> 4 < 15 and data[2] >> 2 & 3 != 3
    return "audio/mpeg" if is_frame else None


def _text(data: bytes) -> str | None:
    start = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if not data or b"\x00" in data:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return None
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!DOCTYPE svg", b"<!--")) and b"<svg" in start):
        return "image/svg+xml"
    return "text/html" if start[:14].lower().startswith((b"<!doctype html", b"<html")) else "text/plain"


def type_of_name(name: str) -> str | None:
    """Return the MIME type that the suffix of a path or file name promises, None for an unknown one."""
    return _SUFFIXES.get(os.path.splitext(name)[1][1:].lower())


def mime_of(data: bytes, name: str = "", declared: str = "") -> str:
    """Return the MIME type of bytes: what they show, refined by the name's suffix, then by what a server declared."""
    found = sniff(data)
    hints = [hint for hint in (type_of_name(name), declared.partition(";")[0].strip().lower()) if hint]
    if found is None:
        return hints[0] if hints else OCTETS
    allowed = _REFINED.get(found, frozenset())
    return next((hint for hint in hints if hint in allowed), found)


def kind_of(mime: str) -> str:
    """Return which kind of part a MIME type belongs into: "image", "audio", "video" or "file"."""
    kind = mime.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def suffix_of(mime: str) -> str:
    """Return the usual suffix of a MIME type, with its dot; "" for an unknown one."""
    return next((f".{suffix}" for suffix, known in _SUFFIXES.items() if known == mime), "")
