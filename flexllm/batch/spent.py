"""What the rows of an output file have taken: a budget is for all runs that write it together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..cost import Spend
from ..errors import CheckpointError


def spent_in(path: Path) -> Spend:
    """Return what was spent on the rows of an output file and of the file beside it; nothing if there is none.

    Rows of which no cost is known count their requests and tokens.

    Raises:
        CheckpointError: It is there, and cannot be read.
    """
    spent = Spend()
    for one in (path, path.with_name(f"{path.name.removesuffix('.jsonl')}.aside.jsonl")):
        for row in _rows(one):
            spent = spent.plus(_spend(row))
    return spent


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb", buffering=1 << 18) as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:  # torn, or damaged: the run itself tells of it
                    continue
                if isinstance(row, dict):
                    yield row
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _spend(row: dict[str, Any]) -> Spend:
    if row.get("status") == "cached":
        return Spend()
    error = row.get("error")
    told = error if isinstance(error, dict) else row
    usage, attempts = told.get("usage"), told.get("attempts", 0 if told is error else 1)
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else 0
    return Spend(_number(told.get("cost")), int(_number(attempts)), int(_number(tokens)))


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else 0
