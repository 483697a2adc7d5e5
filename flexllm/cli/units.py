"""Durations and sizes as people write them on the command line."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER = r"(\d+(?:\.\d+)?)"


def duration(text: str) -> float:
    """Return the seconds of "90", "90s", "30m", "12h", "7d" or "2w"; for argparse."""
    matched = re.fullmatch(rf"{_NUMBER}([smhdw]?)", text.strip(), re.ASCII)
    if matched is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds, or 30m, 12h, 7d or 2w")
    return float(matched[1]) * _SECONDS[matched[2]]


def size(text: str) -> int:
    """Return the bytes of "1000", "64K", "500M", "2G" or "1T", in powers of 1024; for argparse."""
    matched = re.fullmatch(rf"{_NUMBER}([kmgt]?)b?", text.strip().lower(), re.ASCII)
    if matched is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give bytes, or 64K, 500M or 2G")
    return int(float(matched[1]) * _BYTES[matched[2]])


def shown_size(count: int) -> str:
    """Return bytes as people read them: 950 bytes, 12.3 KiB, 4.5 MiB."""
    if count < 1024:
        return f"{count} bytes"
    number = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"
