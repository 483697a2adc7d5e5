"""Which chain of one run is which chain of another: by what its caller gave, and by its number among equal ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from .context import Context

BYTES = 8


class Identities:
    """Numbers chains, in the order of the input: equal ones differently, and all of them the same in each run."""

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()

    def number(self, context: Context) -> int:
        """Return the number, of 64 bits, of the next chain."""
        digest = _digest(context)
        before = self._seen[digest]
        self._seen[digest] = before + 1
        return int.from_bytes(blake2b(digest, digest_size=BYTES, salt=before.to_bytes(16, "big")).digest(), "big")


def numbers_of(contexts: Iterable[Context]) -> frozenset[int]:
    """Return the numbers of all chains of an input."""
    identities = Identities()
    return frozenset(map(identities.number, contexts))


def _digest(context: Context) -> bytes:
    """Digest query and data. Of what JSON does not know the type alone counts: other things may change with each run."""
    try:
        text = json.dumps([context.query, context.custom_data], sort_keys=True, default=_kind)
    except (TypeError, ValueError, RecursionError):  # keys of several types, rings
        text = str(context.query)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _kind(value: Any) -> str:
    return type(value).__name__
