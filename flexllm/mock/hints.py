"""What the dialects share when they tell of limits and break off: seconds as text, and where a stream breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .replies import Step


def seconds_text(seconds: float) -> str:
    """Return seconds as a plain decimal number without an exponent: "2", "0.5"."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".")


def duration_text(seconds: float) -> str:
    """Return seconds as Go writes a duration, rounded up to milliseconds: "0s", "12ms", "1.2s", "6m0s", "1h0m3.5s"."""
    whole, milliseconds = divmod(math.ceil(round(seconds * 1000, 6)), 1000)
    if whole == 0:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    larger = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{larger}{seconds_text(whole + milliseconds / 1000)}s"


def first_half(pieces: Sequence[Step], *marks: bytes) -> list[Step]:
    """Return a stream up to the middle of what it says: of those pieces that hold the first mark that any of them does."""
    for mark in marks:
        said = [at for at, (_, data) in enumerate(pieces) if mark in data]
        if said:
            return list(pieces[: said[(len(said) - 1) // 2] + 1])
    return list(pieces[:1])
