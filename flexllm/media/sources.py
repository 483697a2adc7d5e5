"""Where a medium is, told from its text alone: a data URI, an http(s) URL, a path, or base64 itself.

The rule, first match first:

1. `data:` starts a data URI; `http://` and `https://` a URL; `file://` a local file; any other `scheme://` is left to
   the provider (`gs://`, `fileid://`).
2. Base64 is what is made of its letters alone (so it holds no dot, and a path with a suffix is never taken for it), in
   fours, and either ends in "=", or is longer than any path can be, or begins like a file of a known kind.
3. Everything else is a path.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from urllib.parse import unquote, unquote_to_bytes

from ..errors import InputError
from ..language import _, mark
from ..words import Words
from .sniff import kind_of, mime_of, sniff

LONGEST_PATH = 4096
"""Characters: the kernel's PATH_MAX."""

HEAD_LETTERS = 4096
"""Letters of base64 that are decoded to tell a type; a multiple of four."""

_LETTERS = re.compile(r"[A-Za-z0-9+/]+(={0,2})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,30})://")  # bounded: megabytes of base64 are looked at too
_PLAIN_HEAD = re.compile(r"data:(?:[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)?(?:;[^;,]*)*;base64,")

_AUDIO_IN = {
    "video/mp4": "audio/mp4",
    "video/quicktime": "audio/mp4",
    "video/webm": "audio/webm",
    "video/x-matroska": "audio/webm",
    "video/ogg": "audio/ogg",
    "video/3gpp": "audio/3gpp",
}
"""Containers that may hold sound alone, which their first bytes do not tell."""

THE_DATA_URI = Words(mark("the data URI"))
THE_BASE64 = Words(mark("the base64 data"))

_OF_ANOTHER_KIND = {
    "image": mark("{name} is not an image: its bytes are {mime}"),
    "audio": mark("{name} is not audio: its bytes are {mime}"),
    "video": mark("{name} is not a video: its bytes are {mime}"),
}
_OF_NO_KIND = {
    "image": mark("{name} is not an image: its bytes are of no known image format"),
    "audio": mark("{name} is not audio: its bytes are of no known audio format"),
    "video": mark("{name} is not a video: its bytes are of no known video format"),
}


class Form(enum.Enum):
    """What a source's text is."""

    DATA_URI = enum.auto()
    REMOTE = enum.auto()
    LOCAL = enum.auto()
    BASE64 = enum.auto()
    OTHER_SCHEME = enum.auto()


def form_of(source: str) -> Form:
    """Return what a source is; see the rule above."""
    scheme = _SCHEME.match(source)
    if scheme:
        name = scheme[1].lower()
        if name in ("http", "https"):
            return Form.REMOTE
        return Form.LOCAL if name == "file" else Form.OTHER_SCHEME
    if source[:5].lower() == "data:":
        return Form.DATA_URI
    if not may_be_base64(source):
        return Form.LOCAL
    if len(source) > LONGEST_PATH or source.endswith("="):
        return Form.BASE64
    found = sniff(_decoded(source[:HEAD_LETTERS]))
    return Form.BASE64 if found and not found.startswith("text/") else Form.LOCAL


def may_be_base64(source: str) -> bool:
    """Return whether a text is made as base64 is. Of a long one, only the start is looked at."""
    if len(source) % 4 or not source:
        return False
    if len(source) <= LONGEST_PATH:
        return _LETTERS.fullmatch(source) is not None
    return _LETTERS.fullmatch(source, 0, LONGEST_PATH) is not None


def shown(source: str) -> str:
    """Return a source as an error may show it: no payload, no credentials, and not too long."""
    return str(named(source))


def named(source: str) -> Words | str:
    """Return the same, for an error that may come: not in a language yet."""
    form = form_of(source)
    if form is Form.DATA_URI:
        return THE_DATA_URI
    if form is Form.BASE64:
        return THE_BASE64
    if form in (Form.REMOTE, Form.OTHER_SCHEME):
        source = re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", source, maxsplit=1)[0])
    return repr(source if len(source) <= 200 else f"{source[:197]}...")


def encoded(data: bytes, mime: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def decoded(uri: str) -> tuple[bytes, str]:
    """Return the bytes and the declared MIME type ("" if none) of a data URI. Raises InputError if it is none."""
    mime, payload = _split(uri)
    return decode_base64(payload, THE_DATA_URI), mime


def decode_base64(payload: str, name: Words | str) -> bytes:
    """Return what base64 stands for; raises InputError, which says `name`, if it is not base64."""
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(_("{name} is not base64: it holds other letters, or is cut off", name=name)) from None


def checked_uri(uri: str, kind: str, max_bytes: int) -> str:
    """Return a data URI as providers read it: a MIME type, base64 without blanks, and for an image the true type.

    A data URI that is so already is returned as the same object; of it no more than the head is read.

    Raises:
        InputError: It is not a data URI, is empty or too big, or is not of this kind.
    """
    plain = uri if _is_plain(uri) else "data:{};base64,{}".format(*_split(uri))
    declared, start = uri_mime(plain), plain.index(",") + 1
    check_size((len(plain) - start) * 3 // 4 - plain[-2:].count("="), max_bytes, THE_DATA_URI)
    head = decode_base64(plain[start : start + HEAD_LETTERS], THE_DATA_URI)
    mime = declared or mime_of(head)
    if kind == "image" and not (declared.startswith("image/") and sniff(head) is None):  # a format that we do not know
        mime = fitting_type(head, kind, THE_DATA_URI, declared=declared)
    return plain if mime == declared else f"data:{mime};base64,{plain[start:]}"


def uri_mime(uri: str) -> str:
    """Return the MIME type that a data URI of ours declares."""
    return uri[5 : uri.index(";")]


def uri_payload(uri: str) -> str:
    """Return the base64 of a data URI of ours."""
    return uri[uri.index(",") + 1 :]


def fitting_type(data: bytes, kind: str, name: Words | str, *, suffix_of: str = "", declared: str = "") -> str:
    """Return the MIME type of bytes, which must be of a kind.

    Args:
        data: All bytes, or the head of them.
        kind: One of `options.KINDS`; every type is a "file".
        name: Names them in errors.
        suffix_of: A path or file name, whose suffix tells what the bytes do not.
        declared: What a server or a data URI says they are.

    Raises:
        InputError: They are empty, or of another kind.
    """
    if not data:
        raise InputError(_("{name} is empty", name=name))
    mime = mime_of(data, suffix_of, declared)
    if kind == "file":
        return mime
    if kind == "audio":
        mime = _AUDIO_IN.get(mime, mime)
    found = sniff(data)
    if kind_of(mime) != kind or (kind == "image" and found is None):
        raise InputError(_((_OF_ANOTHER_KIND if found else _OF_NO_KIND)[kind], name=name, mime=mime))
    return mime


def check_size(size: int, max_bytes: int, name: Words | str) -> None:
    """Raise InputError if something is too big."""
    if size > max_bytes:
        raise InputError(
            _("{name} has {size} bytes, more than max_bytes={max_bytes}", name=name, size=size, max_bytes=max_bytes)
        )


def _is_plain(uri: str) -> bool:
    """Return whether a data URI needs no mending, as far as head and tail show: most are megabytes of good base64."""
    head = _PLAIN_HEAD.match(uri)
    if head is None:
        return False
    length = len(uri) - head.end()
    sample = uri[head.end() : head.end() + HEAD_LETTERS] + uri[-16:]
    return length > 0 and length % 4 == 0 and not any(letter in sample for letter in "% \t\r\n")


def _split(uri: str) -> tuple[str, str]:
    """Return the declared MIME type, "" if none, and the payload in base64 without blanks."""
    meta, comma, payload = uri.partition(",")
    if not comma or meta[:5].lower() != "data:":
        raise InputError(_("the data URI is not complete: 'data:<type>;base64,<data>' is needed"))
    mime, *parameters = (word.strip().lower() for word in meta[5:].split(";"))
    if "base64" not in parameters:
        payload = base64.b64encode(unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))).decode("ascii")
    elif "%" in payload:
        payload = unquote(payload)
    if any(blank in payload for blank in " \t\r\n"):
        payload = "".join(payload.split())
    if not payload:
        raise InputError(_("the data URI is empty"))
    payload += "=" * (-len(payload) % 4)
    return mime, payload


def _decoded(letters: str) -> bytes:
    try:
        return base64.b64decode(letters)
    except (binascii.Error, ValueError):
        return b""
