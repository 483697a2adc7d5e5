"""What an output file has in it, counted by reading it once: for those who look on from outside.

Nothing is locked or written, and a run that writes the file goes on undisturbed. Where a row stands in it more than once
(it failed and was asked again), the answer counts.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..language import _
from .beside import aside_of
from .lines import is_answer
from .lock import Holder, lock_holder
from .output import OutputView, cannot_read
from .tally import EXAMPLES, example_of

_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True)
class Standing:
    """What was found.

    Attributes:
        path: The output file: JSON lines.
        holder: Who holds its lock, or held it when he died; None if nobody does.
        answered: Rows that have an answer.
        failed: Rows that have an error instead.
        cached: Of those answered, from the response cache.
        recent: Lines that the run which holds the lock has written.
        damaged: Lines that are no lines of an output file; the next run asks their rows again.
        is_torn: The last line has no end. It was being written when somebody looked, or when its writer died.
        prompt_tokens, completion_tokens, cost: Of all lines, also of those that were asked again. US dollars; None where no
            line tells a price.
        unpriced: Answers without a price.
        errors: For each class of error the `count` of failed rows, and as `examples` the first few of them.
        aside: The file beside, with answers that the last input did not ask for; None if there is none.
        aside_lines: How many lines it has.
    """

    path: Path
    holder: Holder | None = None
    answered: int = 0
    failed: int = 0
    cached: int = 0
    recent: int = 0
    damaged: int = 0
    is_torn: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    unpriced: int = 0
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    aside: Path | None = None
    aside_lines: int = 0

    @property
    def is_running(self) -> bool:
        """Whether a run is writing the file, as far as can be seen from here."""
        return self.holder is not None and self.holder.is_alive is not False

    @property
    def has_died(self) -> bool:
        """Whether the last run was killed: its lock is there, and it is not."""
        return self.holder is not None and self.holder.is_alive is False

    @property
    def total(self) -> int | None:
        """Rows of the input, as the lock tells; None if nobody does."""
        return None if self.holder is None else self.holder.total

    @property
    def missing(self) -> int | None:
        """Rows of the input that are not in the file; None if nobody knows how many it has."""
        return None if self.total is None else max(0, self.total - self.answered - self.failed)

    def rate(self, now: float) -> float | None:
        """Return the rows a second that the run under way has settled, None if there is none.

        Args:
            now: Unix time in seconds.
        """
        holder = self.holder
        if holder is None or not self.is_running or holder.since_unix is None or now <= holder.since_unix:
            return None
        return self.recent / (now - holder.since_unix)

    def eta(self, now: float) -> float | None:
        """Return the seconds until the run under way is through, None if nothing tells."""
        rate = self.rate(now)
        return self.missing / rate if rate and self.missing is not None else None


def standing_of(path: Path) -> Standing:
    """Return what an output file has in it.

    Raises:
        CheckpointError: It cannot be read, or is something else.
    """
    standing = Standing(path, lock_holder(path))
    view = OutputView(path)
    try:
        _Count(standing).read(view)
    except OSError as error:
        raise cannot_read(path, error) from error
    finally:
        view.close()
    aside = aside_of(path)
    try:
        with open(aside, "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                standing.aside_lines += block.count(b"\n")
        standing.aside = aside
    except OSError:  # there is none
        pass
    return standing


class _Count:
    """Counts the lines of a file."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        # A key as the 64 bits of its hash: a million rows take 70 MB, where the keys themselves would take 200.
        self._answered: set[int] = set()
        self._failed: dict[int, tuple[str, dict[str, Any]]] = {}
        self._unkeyed = 0

    def read(self, view: OutputView) -> None:
        """Count all lines."""
        standing = self._standing
        start = standing.holder.start if standing.holder is not None else None
        offset, line, is_damaged = 0, b"", False
        for line in view.lines():
            is_damaged = not self._take_in(line) and not line.isspace()
            if is_damaged:
                standing.damaged += 1
            elif start is not None and offset >= start:
                standing.recent += 1
            offset += len(line)
        standing.is_torn = bool(line) and not line.endswith(b"\n")
        if standing.is_torn and is_damaged:
            standing.damaged -= 1
        self._finish()
        if standing.damaged and not standing.answered + standing.failed:
            raise CheckpointError(
                _("{path} is no output file of a batch: no line of it has an index and an output", path=standing.path)
            )

    def _take_in(self, line: bytes) -> bool:
        quick = _quick(line)
        if quick is not None:
            self._take_in_answer(quick)
            return True
        try:
            text = line.decode()
            row, end = _decode(text)
            if text[end:].strip(" \t\r\n"):
                return False
            self._take_in_row(row)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        return True

    def _take_in_answer(self, found: re.Match[bytes]) -> None:
        """Take in an answer of our own making that nothing unusual befell, by the end of its line."""
        standing = self._standing
        prompt, completion, cost, key, *_rest = found.groups()
        standing.prompt_tokens += int(prompt)
        standing.completion_tokens += int(completion)
        if cost is None:
            standing.unpriced += 1
        else:
            standing.cost = (standing.cost or 0.0) + float(cost)
        self._answered.add(hash(key))

    def _take_in_row(self, row: Mapping[str, Any]) -> None:
        answered, index, key = is_answer(row), row["index"], row.get("key")
        if isinstance(key, str):
            name = hash(key.encode())
        else:
            self._unkeyed += 1
            name = -self._unkeyed  # each such line is a row of its own, as far as can be seen
        error = row.get("error")
        fields = error if isinstance(error, dict) else {"message": str(error or "")}
        if answered:
            self._answered.add(name)
            self._standing.cached += row.get("status") == "cached"
        else:
            message, request_id = fields.get("message"), fields.get("request_id")
            was_asked = key is not None or fields is not error  # a tool that writes no keys has a text as error
            example = example_of(index, message, request_id, was_asked=was_asked)
            self._failed[name] = str(fields.get("class") or "RequestError"), example
        self._pay(row if answered else fields, answered=answered and row.get("status") != "cached")

    def _pay(self, told: Mapping[str, Any], *, answered: bool) -> None:
        standing = self._standing
        usage, cost = told.get("usage"), told.get("cost")
        if told.get("status") == "cached":
            return
        if isinstance(usage, dict):
            standing.prompt_tokens += _count(usage.get("prompt_tokens"))
            standing.completion_tokens += _count(usage.get("completion_tokens"))
        if isinstance(cost, (int, float)) and not isinstance(cost, bool):
            standing.cost = (standing.cost or 0.0) + cost
        else:
            standing.unpriced += answered

    def _finish(self) -> None:
        standing = self._standing
        standing.answered = len(self._answered)
        for name, (kind, example) in self._failed.items():
            if name in self._answered:
                continue
            standing.failed += 1
            seen = standing.errors.setdefault(kind, {"count": 0, "examples": []})
            seen["count"] += 1
            if len(seen["examples"]) < EXAMPLES:
                seen["examples"].append(example)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _quick(line: bytes) -> re.Match[bytes] | None:
    """Return what matters of an answer's line, where it is of our own making, as it was written, and without rarer fields.

    That halves the time. A quote within a text is escaped, so that what is looked for are
    names of fields, and the last `usage` is the answer's own; where a field of the metadata might be mistaken for one, the
    line is decoded.
    """
    start = line.rfind(_USAGE)
    if start < 0 or b', "status": "cached", ' in line:
        return None
    found = _QUICK.match(line, start)
    if found is None or zlib.crc32(line[: found.start(5)]) != int(found[6], 16):
        return None
    return found


_TEXT = rb'(?:null|"[^"\\]*")'
_USAGE = b', "usage": {"prompt_tokens": '
_QUICK = re.compile(
    _USAGE + rb'(\d+), "completion_tokens": (\d+)[^\\]*?\}, "finish_reason": '
    + _TEXT + rb', "model": ' + _TEXT + rb', "request_id": ' + _TEXT
    + rb', "latency": (?:null|[\d.e-]+)(?:, "cost": ([\d.e-]+))?(?:, "attempts": \d+)?'
    rb', "key": "([0-9a-f-]+)"(?:, "source": "[0-9a-f]+")?(, "check": ")([0-9a-f]{8})"\}\n\Z'
)  # fmt: skip
