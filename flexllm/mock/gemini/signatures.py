"""Thought signatures: what a model sends with a function call or a text, and demands back unchanged.

The mock's own are deterministic, so that it knows them again without keeping any.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .protojson import base64_bytes

# The bytes that Google documents for turns which no model has signed. As plain text in JSON they are also valid
# base64, in the URL-safe alphabet, of 24 other bytes: clients send either.
DUMMY = b"skip_thought_signature_validator"
_ACCEPTED = (DUMMY, base64_bytes(DUMMY.decode()))
_SALT_LENGTH = 8  # bytes
_CANONICAL_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def call_signature(digest: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Return the signature of a function call. `digest`: of the request that it answers, in hexadecimal."""
    return _signature(digest, _subject(name, arguments))


def text_signature(digest: str) -> str:
    """Return the signature of a text. It holds for any text, for a stream sends it apart from the words."""
    return _signature(digest, "text")


def is_call_signature(signature: str, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a part may come back with this signature: the mock's own for that very call, or the dummy."""
    return _is_genuine(signature, _subject(name, arguments))


def is_text_signature(signature: str) -> bool:
    """Whether a part other than a call may come back with this signature."""
    return _is_genuine(signature, "text")


def _subject(name: str, arguments: Mapping[str, Any]) -> str:
    return f"call {name} {_CANONICAL_ENCODER.encode(arguments)}"


def _signature(digest: str, subject: str) -> str:
    salt = bytes.fromhex(digest)[:_SALT_LENGTH]
    return base64.b64encode(salt + _seal(salt, subject)).decode()


def _is_genuine(signature: str, subject: str) -> bool:
    data = base64_bytes(signature)
    salt, seal = data[:_SALT_LENGTH], data[_SALT_LENGTH:]
    return data in _ACCEPTED or seal == _seal(salt, subject)


def _seal(salt: bytes, subject: str) -> bytes:
    return hashlib.blake2b(subject.encode(errors="surrogatepass"), salt=salt, digest_size=25).digest()
