"""Strings as they are written in Python and in JSON, read without a compiler: nothing of a reply is ever executed."""

from __future__ import annotations

import json
import re
import unicodedata

_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|N\{([^{}]{1,100})\}|(\r\n|[\s\S]))"
)
_PLAIN = {
    "\n": "", "\r": "", "\r\n": "", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f", "n": "\n",
    "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_PREFIXES = ("", "r", "b", "u", "br", "rb")


def python_string(written: str) -> str | bytes:
    """Return the value of a string or bytes literal.

    Raises:
        ValueError: It is none, or its escapes are one letter in two halves, which JSON writes and means as one.
    """
    value = _python_value(written)
    if isinstance(value, str) and _PAIR.search(value):
        raise ValueError
    return value


def json_string(written: str) -> str | bytes:
    """Return the value of a string as JSON reads it, line ends and all; or else as Python does.

    Raises:
        ValueError: It is neither.
    """
    if written[0] == '"' and not written.startswith('""'):
        try:
            return str(json.loads(written, strict=False))
        except ValueError:
            pass
    value = _python_value(written)
    return _PAIR.sub(_joined, value) if isinstance(value, str) else value


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _python_value(written: str) -> str | bytes:
    begins = min(place for place in (written.find("'"), written.find('"')) if place >= 0)
    prefix, quote = written[:begins].lower(), written[begins]
    if prefix not in _PREFIXES:
        raise ValueError
    width = 3 if len(written) >= begins + 6 and written.startswith(quote * 3, begins) else 1
    inner = written[begins + width : -width].replace("\r\n", "\n") if width == 3 else written[begins + width : -width]
    if "b" in prefix and not inner.isascii():
        raise ValueError
    if "r" not in prefix and "\\" in inner:
        is_text = "b" not in prefix
        inner = _ESCAPE.sub(lambda match: _escaped(match, is_text), inner)
    return inner.encode("latin-1") if "b" in prefix else inner


def _escaped(match: re.Match[str], is_text: bool) -> str:
    octal, pair, four, eight, name, other = match.groups()
    if octal is not None and int(octal, 8) < 256:
        return chr(int(octal, 8))
    if digits := pair or ((four or eight) if is_text else None):
        return chr(int(digits, 16))  # a ValueError beyond Unicode
    if name is not None and is_text:
        try:
            return unicodedata.lookup(name)
        except KeyError:
            raise ValueError from None
    if other in _PLAIN:
        return _PLAIN[other]
    if other is None or other in "xuUN":
        raise ValueError
    return "/" if other == "/" else match[0]  # JSON's own; Python keeps any other as it is, with a warning
