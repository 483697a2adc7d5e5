"""Files behind a question: texts in a frame with their names, pictures and other media as parts of the message.

What is which, the bytes tell. Whether a provider takes a medium is its own matter; it says so before anything is sent.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re

from ..language import _, mark
from ..system_errors import reason_of

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, BinaryIO, NoReturn

STANDARD_INPUT = "standard input"
"""What it is called to the model; to people in their language."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class Attachments:
    """What goes along with one question.

    Args:
        most: Bytes that one file may have; None is what media may have.

    Attributes:
        texts: Pairs of a name and a text, in the order in which they were added.
        parts: Media, as content parts.
    """

    def __init__(self, most: int | None = None) -> None:
        from ..media.options import MAX_BYTES

        self.texts: list[tuple[str, str]] = []
        self.parts: list[dict[str, Any]] = []
        self._most = MAX_BYTES if most is None else most

    def add(self, source: str, stdin: BinaryIO | None = None) -> None:
        """Take in what -f names: a path, "-" for standard input, or the URL of a medium.

        Raises:
            InputError: It cannot be read, or is neither text nor a medium.
        """
        if source == "-":
            self._take(None, self._limited(stdin, None), None)
        elif _URL.match(source) and not source.lower().startswith("file://"):
            self.parts.append(_part_of_url(source))
        else:
            path = _path_of(source)
            self._take(source, self._read(path), path)

    def add_piped(self, stdin: BinaryIO) -> str:
        """Take in what is piped beside a question, and return it if it is a text, else "".

        A pipe has no name and no promised encoding: what is not quite UTF-8 is read all the same.
        """
        from ..media.sniff import sniff

        data = self._limited(stdin, None, may_be_empty=True)
        has_nul = b"\x00" in data
        if data.startswith(_UTF_16) and (has_nul or len(data) % 2 == 0):
            return _decoded(data, None).strip()
        if not data or _is_text(data) or (not has_nul and sniff(data) is None):
            return data.decode("utf-8-sig", "replace").strip()
        self._take(None, data, None)
        return ""

    def content(self, question: str) -> str | list[dict[str, Any]]:
        """Return the content of the user's message: the question, and what was added.

        Media stand in front of the text, as providers advise; texts behind the question.
        """
        text = "\n\n".join(filter(None, [question, *_framed(self.texts)]))
        if not self.parts:
            return text
        return [*self.parts, {"type": "text", "text": text}] if text else list(self.parts)

    # --- inside

    def _read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return self._limited(file, path)
        except OSError as error:
            _refuse(path, error)

    def _limited(self, stream: BinaryIO | None, name: str | None, *, may_be_empty: bool = False) -> bytes:
        """Return all bytes of a stream. It may be a pipe or a device, whose size nobody knows beforehand.

        Args:
            name: None is standard input, here and below.
        """
        from ..errors import InputError

        if stream is None:
            raise InputError(_("standard input is closed; there is nothing to read"))
        data = stream.read(self._most + 1)
        if len(data) > self._most:
            raise InputError(_("{name} has more than {limit} bytes; attach less", name=_shown(name), limit=self._most))
        if not data and not may_be_empty:
            raise InputError(_("{name} is empty", name=_shown(name)))
        return data

    def _take(self, name: str | None, data: bytes, path: str | None) -> None:
        """Add a file. `path` is None where the bytes cannot be read again."""
        from pathlib import Path

        from ..errors import InputError
        from ..media.sniff import OCTETS, kind_of, mime_of, suffix_of

        named = (name or STANDARD_INPUT).encode("utf-8", "replace").decode()  # names of files need not be text
        if _is_text(data):
            self.texts.append((named, _decoded(data, name)))
            return
        mime = mime_of(data, named)
        if mime == OCTETS or mime.startswith("text/") or mime == "application/json":
            if b"\x00" not in data:
                _decoded(data, name)  # which says where it is no text
            raise InputError(
                _("{name} is neither text nor a picture, sound, video or document of a known format", name=_shown(name))
            )
        kind = kind_of(mime)
        # By its path where it has one: the name's suffix tells what the bytes of some formats do not.
        source = Path(path) if path is not None and os.path.isfile(path) else data
        part: dict[str, Any] = {"type": kind, kind: source}
        if kind == "file":
            part["filename"] = os.path.basename(named) if path is not None else f"file{suffix_of(mime)}"
        self.parts.append(part)


def _is_text(data: bytes) -> bool:
    """Return whether bytes are text: an SVG picture too, which nobody takes as a picture."""
    from ..media.sniff import sniff

    if data.startswith(_UTF_16):
        return True
    return (found := sniff(data)) is not None and (found.startswith("text/") or found == "image/svg+xml")


def _decoded(data: bytes, name: str | None) -> str:
    from ..errors import InputError

    is_utf_16 = data.startswith(_UTF_16)
    try:
        return data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        reason = _DAMAGED if is_utf_16 else _NOT_UTF_8
        raise InputError(_(reason, name=_shown(name), position=error.start + 1)) from None


_DAMAGED = mark("{name} is damaged UTF-16 (byte {position}); convert it first, with iconv -f LATIN1 -t UTF-8 say")
_NOT_UTF_8 = mark(
    "{name} is text, but not UTF-8 (byte {position}); convert it first, with iconv -f LATIN1 -t UTF-8 say"
)


def _framed(texts: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Yield texts between tags that no line of any of them holds."""
    from html import escape

    texts = list(texts)
    tag = "file"
    while any(f"</{tag}>" in text for _name, text in texts):
        tag += "_"
    for name, text in texts:
        end = "" if text.endswith("\n") else "\n"
        yield f'<{tag} name="{escape(name)}">\n{text}{end}</{tag}>'


def _part_of_url(url: str) -> dict[str, Any]:
    """Return the part for a medium that is given by URL; what it is, its name must say."""
    from ..errors import InputError
    from ..media.sniff import kind_of, type_of_name
    from ..media.sources import shown

    path = re.split(r"[?#]", url, maxsplit=1)[0]
    mime = type_of_name(path)
    if mime is None or mime.startswith("text/") or mime in ("application/json", "image/svg+xml"):
        raise InputError(
            _(
                "{url} does not end like a picture, sound, video or document; fetch it first: "
                "curl -s URL | flexllm ask QUESTION -f -",
                url=shown(url),
            )
        )
    kind = kind_of(mime)
    return {"type": kind, kind: url}


def _path_of(source: str) -> str:
    from ..media.files import path_of

    return path_of(source)


def _refuse(path: str, error: OSError) -> NoReturn:
    from ..errors import InputError

    if error.errno == errno.ENOENT:
        raise InputError(_("the file {name} does not exist", name=_shown(path))) from None
    if error.errno == errno.EISDIR:
        reason = _("it is a folder; name the files in it one by one, each with -f")
    else:
        reason = reason_of(error) or type(error).__name__
    raise InputError(_("the file {name} cannot be read: {reason}", name=_shown(path), reason=reason)) from None


def _shown(name: str | None) -> str:
    """Return a name for people."""
    if name is None:
        return _("standard input")
    return repr(name if len(name) <= 200 else f"{name[:197]}...")


def piped_in(files: Sequence[str] = ()) -> BinaryIO | None:
    """Return standard input if something may be piped in: it is no terminal, is open, and none of `files` (-f) is it."""
    import sys

    if sys.stdin is None or "-" in files or sys.stdin.isatty():
        return None
    stream = sys.stdin.buffer
    with contextlib.suppress(OSError, ValueError):  # not every stream is a file
        os.set_blocking(stream.fileno(), True)  # else a pipe of some parents gives as much as it has, and no more
    return stream
