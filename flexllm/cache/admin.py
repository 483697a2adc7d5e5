"""Looking after the file of answers: what is in it, what is to go, and all of it one by one.

A file that is not there yet is not made for that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..chat import ChatCompletionResult
from ..errors import CacheError
from .codec import decode
from .connection import TABLE
from .file import AnswerFile

PAGE = 256
"""Entries that are read at once when all are read."""

_log = logging.getLogger(__name__)

_AT = "CAST(substr(value, 7, 24) AS REAL)"  # behind {"at":
_MODEL = """substr(value, instr(value, ',"model":') + 9, instr(value, ',"content":') - instr(value, ',"model":') - 9)"""
_SIZE = "length(CAST(value AS BLOB)) + length(key)"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answer of the cache: its key, when it was made (Unix time in seconds), and the answer, with its body."""

    key: str
    at: float
    result: ChatCompletionResult


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is in a cache.

    Attributes:
        path: The file.
        entries: How many answers it holds.
        expired: How many of them are too old to be used.
        bytes: Its size, with its log.
        oldest: When the oldest answer was made, Unix time in seconds; None where there is none.
        newest: The same of the newest.
        models: How many answers each model gave, the most first; "" is a server that does not name its model.
    """

    path: Path
    entries: int = 0
    expired: int = 0
    bytes: int = 0
    oldest: float | None = None
    newest: float | None = None
    models: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the same, JSON-able."""
        return {
            "path": str(self.path),
            "entries": self.entries,
            "expired": self.expired,
            "bytes": self.bytes,
            "oldest": self.oldest,
            "newest": self.newest,
            "models": dict(self.models),
        }


def stats(file: AnswerFile, ttl: float, now: float) -> CacheStats:
    """Return what is in the file. Raises CacheError if it cannot be read."""
    if not file.exists:
        return CacheStats(file.path)
    expired = f"sum(abs(? - {_AT}) >= ?)" if ttl else "0"
    rows = file.demand(
        f'SELECT {_MODEL} AS model, count(*), min({_AT}), max({_AT}), {expired} FROM "{TABLE}" GROUP BY model '
        "ORDER BY count(*) DESC, model",
        (now, ttl) if ttl else (),
    )
    models: dict[str, int] = {}
    for name, count, *_ in rows:
        model = _model(name)
        models[model] = models.get(model, 0) + count
    return CacheStats(
        path=file.path,
        entries=sum(models.values()),
        expired=sum(int(row[4] or 0) for row in rows),
        bytes=_size_on_disk(file.path),
        oldest=min((row[2] for row in rows), default=None),
        newest=max((row[3] for row in rows), default=None),
        models=models,
    )


def prune(file: AnswerFile, *, before: float | None, everything: bool, max_bytes: int | None) -> int:
    """Remove answers, and make the file as small as what is left; see `ResponseCache.prune`.

    Args:
        before: Remove those that were made before this time, in Unix seconds, or have no readable time.

    Raises:
        CacheError: The file cannot be used.
    """
    if not file.exists:
        return 0
    removed = 0
    if everything:
        removed += _delete(file, "1 = ?", 1)
    if before is not None:
        removed += _delete(file, f"NOT {_AT} >= ?", before)
    if removed:
        _shrink(file)
    if max_bytes is not None and not everything:
        removed += _fit(file, max_bytes)
    return removed


def entries(file: AnswerFile, *, newest_first: bool) -> Iterator[CacheEntry]:
    """Yield the answers as they were written; damaged ones are left out. Raises CacheError if the file cannot be read."""
    sign, order = ("<", "DESC") if newest_first else (">", "ASC")
    statement = f'SELECT rowid, key, value FROM "{TABLE}" WHERE rowid {sign} ? ORDER BY rowid {order} LIMIT {PAGE}'
    last = (1 << 63) - 1 if newest_first else -(1 << 63)
    while file.exists:
        rows = file.demand(statement, (last,))
        for _, key, value in rows:
            try:
                entry = json.loads(bytes(value).decode())
                yield CacheEntry(bytes(key).decode(), float(entry["at"]), decode(entry))
            except (CacheError, ValueError, TypeError, KeyError, RecursionError):
                continue
        if len(rows) < PAGE:
            return
        last = rows[-1][0]


def _fit(file: AnswerFile, max_bytes: int) -> int:
    """Remove the oldest until the file fits, or is empty. What the file needs besides its entries is guessed, thus the
    loop; the last resort is to remove all."""
    file.demand("PRAGMA wal_checkpoint(TRUNCATE)")  # what stands in the log and in the file is no answer twice
    removed = 0
    for share in (1.0, 0.95, 0.8, 0.5, 0.0):
        size = _size_on_disk(file.path)
        if size <= max_bytes:
            break
        content = file.demand(f'SELECT sum({_SIZE}) FROM "{TABLE}"')[0][0]
        if not content:
            break
        room = content * share * max_bytes / size
        newest_first = f"sum({_SIZE}) OVER (ORDER BY {_AT} DESC, rowid DESC)"
        removed += _delete(
            file,
            f'rowid IN (SELECT id FROM (SELECT rowid AS id, {newest_first} AS so_far FROM "{TABLE}") WHERE so_far > ?)',
            room,
        )
        if not _shrink(file):
            break
    return removed


def _delete(file: AnswerFile, which: str, value: float) -> int:
    before = file.demand(f'SELECT count(*) FROM "{TABLE}"')[0][0]
    file.demand(f'DELETE FROM "{TABLE}" WHERE {which}', (value,))
    return max(0, int(before - file.demand(f'SELECT count(*) FROM "{TABLE}"')[0][0]))


def _shrink(file: AnswerFile) -> bool:
    """Give the room of what is gone back to the disk: the file without its gaps, then the log into the file.

    Return False where that cannot be, as on a full disk: new answers will fill the gaps.
    """
    try:
        file.demand("VACUUM")
        file.demand("PRAGMA wal_checkpoint(TRUNCATE)")
    except CacheError as error:
        _log.warning("answers were removed, but the file is as large as before: %s", error)
        return False
    return True


def _size_on_disk(path: Path) -> int:
    size = 0
    for one in (path, path.with_name(f"{path.name}-wal")):
        try:
            size += one.stat().st_size
        except OSError:
            continue
    return size


def _model(name: Any) -> str:
    try:
        model = json.loads(bytes(name).decode())
    except (TypeError, ValueError):
        return ""
    return model if isinstance(model, str) else ""
