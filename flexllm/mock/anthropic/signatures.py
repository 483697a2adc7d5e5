"""The signatures of thinking blocks: a block that comes back changed is found out."""

from __future__ import annotations

import base64
import binascii
import hashlib

_KEY = b"flexllm mock"


def sign(shown: str, digest: str) -> str:
    """Return the signature of a thinking block.

    Args:
        shown: The block's text; empty if the thought is not shown.
        digest: Of the request, so that blocks without text have signatures of their own.
    """
    seed = digest[:16]
    mac = hashlib.blake2b(f"{seed} {shown}".encode(errors="surrogatepass"), key=_KEY, digest_size=24).hexdigest()
    return base64.b64encode(f"mock {seed} {mac}".encode()).decode()


def is_signed(shown: str, signature: str) -> bool:
    """Whether this mock has made a block with this text and this signature."""
    try:
        words = base64.b64decode(signature, validate=True).decode("ascii").split(" ")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return False
    return len(words) == 3 and sign(shown, words[1]) == signature
