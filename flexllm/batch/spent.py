"""What the rows of an output file have taken: a budget is for all runs that write it together."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from ..cost import Spend
from .beside import aside_of
from .lines import encode_line
from .output import cannot_read

LATEST = 256
"""Replies whose lengths are remembered: what a budget looks back at."""


class Earlier(NamedTuple):
    """What earlier runs of an output file tell a budget.

    Attributes:
        spent: On the rows of the file and of the file beside it.
        outputs: Tokens of the latest replies.
    """

    spent: Spend
    outputs: tuple[int, ...]


def earlier_runs(path: Path) -> Earlier:
    """Return what earlier runs of an output file spent, and how long their replies were; nothing if there is no file.

    Rows of which no cost is known count their requests and tokens.

    Raises:
        CheckpointError: It is there, and cannot be read.
    """
    spent = Spend()
    outputs: deque[int] = deque(maxlen=LATEST)
    beside: set[bytes | None] = set()
    for row in _rows(aside_of(path)):
        beside.add(_identity(row))
        spent = spent.plus(spend_of(row))
    for row in _rows(path):
        identity = _identity(row) if beside else None
        if identity is None or identity not in beside:  # an answer that was asked for again stands in both
            spent = spent.plus(spend_of(row))
        usage = row.get("usage")
        if isinstance(usage, dict):
            outputs.append(int(_number(usage.get("completion_tokens"))))
    return Earlier(spent, tuple(outputs))


def spent_in(path: Path) -> Spend:
    """Return what earlier runs spent on the rows of an output file. Errors are those of `earlier_runs`."""
    return earlier_runs(path).spent


def spent_line(rows: Iterable[Mapping[str, Any]]) -> bytes | None:
    """Return a line for the file beside that tells what was spent on failed rows whose own lines are dropped.

    None if nothing was paid: attempts alone are not worth a file.

    Args:
        rows: The decoded lines.
    """
    spent = Spend()
    for row in rows:
        spent = spent.plus(spend_of(row))
    if not (spent.dollars or spent.tokens):
        return None
    return encode_line(
        {
            "status": "spent",
            "note": "on failed rows whose lines are not kept; a budget for the file counts it",
            "cost": round(spent.dollars, 12),
            "attempts": spent.requests,
            "usage": {"total_tokens": spent.tokens},
        }
    )


_OF_THE_INPUT = frozenset({"index", "metadata", "source", "check"})


def _identity(row: dict[str, Any]) -> bytes | None:
    """Return what tells an answer from others, whichever row of an input it is for; None for what is no answer."""
    if row.get("status") not in ("success", "cached"):
        return None
    answer = {name: value for name, value in row.items() if name not in _OF_THE_INPUT}
    return blake2b(json.dumps(answer, sort_keys=True).encode(), digest_size=16).digest()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb", buffering=1 << 18) as file:
            for line in file:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):  # torn, or damaged: the run itself tells of it
                    continue
                if isinstance(row, dict):
                    yield row
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_read(path, error) from error


def spend_of(row: Mapping[str, Any]) -> Spend:
    """Return what a decoded line tells that was spent on its row; answers of the response cache were not bought."""
    if row.get("status") == "cached":
        return Spend()
    error = row.get("error")
    told = error if isinstance(error, dict) else row
    usage, attempts = told.get("usage"), told.get("attempts", 0 if told is error else 1)
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else 0
    # What a hedged request took beside the answer is not told, and is about as much again.
    times = 1 + int(_number(told.get("hedged")))
    return Spend(_number(told.get("cost")), int(_number(attempts)), int(_number(tokens)) * times)


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else 0
