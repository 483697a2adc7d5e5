"""Small pictures, each another one, made by hand: no test needs Pillow for them."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path


def png(seed: int, side: int = 4) -> bytes:
    """Return a PNG file of coloured noise. Source of the form: the PNG specification, sections 5 and 11."""
    rng = random.Random(seed)
    lines = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_pictures(folder: Path, *names: str) -> None:
    """Put a picture of its own under each name into a folder."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(seed))
