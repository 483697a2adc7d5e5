"""What a batch has done, as a value: the same fields and sentences, whether its output file or its status file tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..controls import one_line
from ..language import _, mark, with_commas, with_semicolons
from .lock import Holder
from .progress import describe_answered, describe_cost, describe_tokens, duration
from .standing import Standing
from .status import is_running


class Aside(NamedTuple):
    """The file beside an output file, and how many lines of earlier inputs are in it."""

    file: str
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What a batch has done: `str` tells it to people.

    Attributes:
        file: The output file, "-" for standard output.
        state: "running", "died" or, of an output file, "ended"; of a status file else a `status.State`.
        holder: Who is writing, or died over it; None if nobody is.
        complete: Whether every row is answered; None where nothing is known to be missing: of how many rows the input has,
            an output file alone says nothing.
        total: Rows of the input, None if nobody knows; so is `missing`.
        success, failed, cached: Rows; the last of those answered.
        requests_per_second, eta_seconds: How it goes; None where nothing tells.
        prompt_tokens, completion_tokens, total_tokens: What it took.
        cost, unpriced: The same in US dollars, None if no price is known; and how many answers have none.
        errors: For each class of error the `count` of failed rows, and as `examples` the first few of them.
        damaged: Lines of the output file that are none.
        torn: Its last line has no end.
        checkpoint: The JSON lines that were read; None if it was a status file, which alone tells the next four.
        updated, seconds_since_update: When it was written, in UTC, and how long ago that is.
        reason: Why the run stopped or failed, as a sentence.
        exit_code: None while it runs.
    """

    file: str
    state: str
    holder: Holder | None
    complete: bool | None
    total: int | None
    success: int
    failed: int
    missing: int | None
    cached: int
    requests_per_second: float | None
    eta_seconds: float | None
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float | None
    unpriced: int
    errors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    damaged: int = 0
    torn: bool = False
    aside: Aside | None = None
    checkpoint: str | None = None
    updated: str | None = None
    seconds_since_update: float | None = None
    reason: str | None = None
    exit_code: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-able."""
        holder, shown = self.holder, {name: getattr(self, name) for name in _FIELDS}
        if holder is not None:
            names = {"pid": holder.pid, "host": holder.host, "since": holder.since, "alive": holder.is_alive}
            shown["holder"] = names
        shown["aside"] = None if self.aside is None else self.aside._asdict()
        if self.checkpoint is not None:
            for name in ("updated", "seconds_since_update"):
                del shown[name]
        return shown

    def __str__(self) -> str:
        """Return a sentence on each line, without the control characters that a server's message may hold."""
        name = _("standard output") if self.file == "-" else self.file
        lines = [f"{name}: {self._state_words()}", self._rows_words(), *self._pace_words(), *self._taken_words()]
        lines += [_error_words(kind, seen) for kind, seen in self.errors.items()]
        lines += self._damage_words()
        if self.aside is not None:
            file, count = self.aside
            lines.append(_("lines of earlier inputs: {count:,}, in {file}", count=count, file=file))
        if self.reason:
            lines.append(self.reason)
        if self.state == "died":
            lines.append(
                _("Nothing that is in the file is lost: run the same command again, and it asks only the rest")
            )
        return "\n".join(map(one_line, lines))

    def _state_words(self) -> str:
        if self.state == "running":
            return with_semicolons([self._writer_words(), *self._doubt_words()])
        if self.state == "died":
            return self._killed_words()
        ended = _(_STATES[self.state]) if self.state in _STATES else self.state
        if self.exit_code is None:
            return ended
        return _("{ended}, exit code {exit_code}", ended=ended, exit_code=self.exit_code)

    def _writer_words(self) -> str:
        who = self.holder
        if who is None or not who.pid:
            return _("a run is writing it (nobody says which)")
        return _(
            "a run is writing it (process {pid} on {host}, since {since})", pid=who.pid, host=who.host, since=who.since
        )

    def _killed_words(self) -> str:
        who = self.holder
        if who is None or not who.pid:
            return _("the last run was killed before its end")
        return _(
            "the last run was killed before its end (process {pid} on {host}, since {since})",
            pid=who.pid, host=who.host, since=who.since,
        )  # fmt: skip

    def _doubt_words(self) -> Iterator[str]:
        """Say what is to be said of a run on another machine: only how long ago it wrote something tells of it."""
        if self.holder is None or self.holder.is_alive is not None:
            return
        if self.seconds_since_update is None:
            yield _("from here nobody can tell whether it still goes on")
        else:
            silence = duration(self.seconds_since_update)
            yield _(
                "from here nobody can tell whether it still goes on, but it wrote this {silence} ago", silence=silence
            )

    def _rows_words(self) -> str:
        parts = [describe_answered(self.success, self.total)]
        if self.state == "ended":
            parts.append(_("of how many, the file does not tell"))
        if self.cached:
            parts.append(_("{count:,} of them from the cache", count=self.cached))
        if self.failed:
            parts.append(_("{count:,} failed", count=self.failed))
        if self.missing and self.state == "running":
            parts.append(_("{count:,} to come", count=self.missing))
        elif self.missing:
            parts.append(_("{count:,} missing", count=self.missing))
        return with_commas(parts)

    def _pace_words(self) -> Iterator[str]:
        rate, left = self.requests_per_second, self.eta_seconds
        if self.state != "running" or not rate:
            return
        if left is None:
            yield _("{rate:.1f} rows a second", rate=rate)
        else:
            yield _("{rate:.1f} rows a second, about {left} to go", rate=rate, left=duration(left))

    def _taken_words(self) -> Iterator[str]:
        if self.total_tokens:
            paid = describe_cost(self.cost, self.unpriced)
            yield with_commas(filter(None, [describe_tokens(self.total_tokens), paid]))

    def _damage_words(self) -> Iterator[str]:
        if self.damaged:
            yield _(
                "damaged lines: {count:,}; the next run keeps them aside and asks their rows again", count=self.damaged
            )
        if self.torn and self.state != "running":
            yield _("the last line is torn; the next run cuts it off and asks its row again")


_FIELDS = tuple(StatusReport.__dataclass_fields__)
_STATES = {
    "ended": mark("no run is writing it"),
    "done": mark("the run is done"),
    "stopped": mark("the run stopped before the end of its input"),
    "interrupted": mark("the run was interrupted"),
    "failed": mark("the run failed"),
}


def report_of_output(standing: Standing, name: str, now: float) -> StatusReport:
    """Return what an output file tells.

    Args:
        name: What the user calls the file.
        now: Unix time in seconds.
    """
    holder, aside = standing.holder, standing.aside
    state = "ended" if holder is None else "died" if standing.has_died else "running"
    lacks = state != "ended" or standing.failed or standing.damaged or standing.is_torn
    return StatusReport(
        file=name,
        state=state,
        holder=holder,
        complete=False if lacks else None,
        total=standing.total,
        success=standing.answered,
        failed=standing.failed,
        missing=standing.missing,
        cached=standing.cached,
        requests_per_second=_rounded(standing.rate(now), 3),
        eta_seconds=_rounded(standing.eta(now), 1),
        prompt_tokens=standing.prompt_tokens,
        completion_tokens=standing.completion_tokens,
        total_tokens=standing.prompt_tokens + standing.completion_tokens,
        cost=standing.cost,
        unpriced=standing.unpriced,
        errors=standing.errors,
        damaged=standing.damaged,
        torn=standing.is_torn,
        aside=None if aside is None else Aside(str(aside), standing.aside_lines),
        checkpoint=str(standing.path),
    )


def report_of_status(status: Mapping[str, Any], now: float) -> StatusReport:
    """Return what a status file tells, of which any field may be missing, or be what another program wrote there.

    Args:
        status: As `read_status` returns it.
        now: Unix time in seconds.
    """
    state, is_alive = str(status["state"]), is_running(status)
    if state == "running" and is_alive is False:
        state = "died"
    going = state == "running"
    success, failed = _whole(status.get("success")), _whole(status.get("failed"))
    total = None if _number(status.get("total")) is None else _whole(status.get("total"))
    missing = None if total is None else max(0, total - success - failed)
    reason, code, updated = status.get("stopped") or status.get("error"), status.get("exit_code"), status.get("updated")
    return StatusReport(
        file=str(status["output"]),
        state=state,
        holder=_holder(status, is_alive) if going else None,
        complete=state == "done" and not failed and not missing,
        total=total,
        success=success,
        failed=failed,
        missing=missing,
        cached=_whole(status.get("cached")),
        requests_per_second=_number(status.get("requests_per_second")),
        eta_seconds=_number(status.get("eta_seconds")) if going else None,
        prompt_tokens=_whole(status.get("prompt_tokens")),
        completion_tokens=_whole(status.get("completion_tokens")),
        total_tokens=_whole(status.get("total_tokens")),
        cost=_number(status.get("cost")),
        unpriced=_whole(status.get("unpriced")),
        errors=_errors(status.get("errors")),
        updated=updated if isinstance(updated, str) else None,
        seconds_since_update=_since(_number(status.get("updated_unix")), now),
        reason=str(reason) if reason else None,
        exit_code=None if _number(code) is None else _whole(code),
    )


def _holder(status: Mapping[str, Any], is_alive: bool | None) -> Holder:
    return Holder(
        pid=_whole(status.get("pid")) or None,
        host=str(status.get("host") or ""),
        since=str(status.get("started") or ""),
        is_alive=is_alive,
    )


def _error_words(kind: str, seen: Mapping[str, Any]) -> str:
    count, example = seen.get("count", 0), next(iter(seen.get("examples") or ()), None)
    if not example:
        return _("{count:,} failed with {kind}", count=count, kind=kind)
    return _("{count:,} failed with {kind}: {example}", count=count, kind=kind, example=_example_words(example))


def _example_words(example: Mapping[str, Any]) -> str:
    message = str(example.get("message"))
    if example.get("asked") is False:  # then it names its row
        return message
    return _("row {row}: {message}", row=example.get("row"), message=message)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST else 0


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST else None


_MOST = 1 << 63
"""No count and no moment is larger, and JSON has integers that no float can hold."""


def _errors(value: Any) -> dict[str, dict[str, Any]]:
    """Return the errors by class, as far as they are such: for each its `count`, and its `examples`."""
    found = {}
    for kind, seen in value.items() if isinstance(value, dict) else ():
        if isinstance(seen, dict):
            examples = seen.get("examples")
            kept = [one for one in examples if isinstance(one, dict)] if isinstance(examples, list) else []
            found[kind] = {"count": _whole(seen.get("count")), "examples": kept}
    return found


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(max(0.0, now - moment), 1)
