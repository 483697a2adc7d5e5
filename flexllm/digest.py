"""One canonical form of a request, and short digests of it that are the same on every run and machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from .errors import InputError
from .language import _

MESSAGES_BYTES = 16
SETTINGS_BYTES = 8

_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def canonical_json(value: Any) -> bytes:
    """Return `value` as JSON with sorted keys and no blanks, in UTF-8.

    Raises:
        InputError: It is not JSON-able, or a text holds half a character.
    """
    try:
        return _canonical(value).encode()
    except UnicodeEncodeError:
        raise InputError(_("a text holds half a character (a lone surrogate); repair the input")) from None
    except RecursionError:
        raise InputError(_("the request cannot be written as JSON: it is nested too deeply")) from None
    except (TypeError, ValueError) as error:
        raise InputError(_("the request cannot be written as JSON: {error}", error=error)) from None


def digest_messages(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return a number of 128 bits that names a conversation."""
    return _number(canonical_json(messages), MESSAGES_BYTES)


def digest_settings(model: str, params: Mapping[str, Any]) -> int:
    """Return a number of 64 bits that names what is asked of the model besides the conversation."""
    return _number(canonical_json({"model": model, "params": params}), SETTINGS_BYTES)


def digest_source(line: bytes, reading: bytes) -> int:
    """Return a number of 128 bits that names an input line as it stands, and how it is read.

    Args:
        reading: At most 16 bytes that differ where the same line would give another request.
    """
    return int.from_bytes(blake2b(line, digest_size=MESSAGES_BYTES, salt=reading).digest(), "big")


def _number(data: bytes, size: int) -> int:
    return int.from_bytes(blake2b(data, digest_size=size).digest(), "big")
