"""What `flexllm status` tells: the same fields and sentences for an output file and for a status file."""

from __future__ import annotations

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..batch.standing import Standing


def of_output(standing: Standing, name: str, now: float) -> dict[str, Any]:
    """Return what an output file tells. `complete` is None where nothing is known to be missing: of how many rows the
    input has, the file alone says nothing.

    Args:
        name: What the user calls the file.
        now: Unix time in seconds.
    """
    holder = standing.holder
    state = "ended" if holder is None else "died" if standing.has_died else "running"
    lacks = state != "ended" or standing.failed or standing.damaged or standing.is_torn
    return {
        "file": name,
        "state": state,
        "holder": None if holder is None else _holder(holder.pid, holder.host, holder.since, holder.is_alive),
        "complete": False if lacks else None,
        "total": standing.total,
        "success": standing.answered,
        "failed": standing.failed,
        "missing": standing.missing,
        "cached": standing.cached,
        "requests_per_second": _rounded(standing.rate(now), 3),
        "eta_seconds": _rounded(standing.eta(now), 1),
        "prompt_tokens": standing.prompt_tokens,
        "completion_tokens": standing.completion_tokens,
        "total_tokens": standing.prompt_tokens + standing.completion_tokens,
        "cost": standing.cost,
        "unpriced": standing.unpriced,
        "errors": standing.errors,
        "damaged": standing.damaged,
        "torn": standing.is_torn,
        "aside": None if standing.aside is None else {"file": str(standing.aside), "lines": standing.aside_lines},
        "checkpoint": str(standing.path),
        "reason": None,
        "exit_code": None,
    }


def of_status_file(status: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return what a status file tells, of which any field may be missing, or be what another program wrote there."""
    from ..batch.status import is_running

    state, is_alive = str(status["state"]), is_running(status)
    if state == "running" and is_alive is False:
        state = "died"
    success, failed = _whole(status.get("success")), _whole(status.get("failed"))
    total = None if _number(status.get("total")) is None else _whole(status.get("total"))
    missing = None if total is None else max(0, total - success - failed)
    tokens = {name: _whole(status.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    going = state == "running"
    return {
        "file": status["output"],
        "state": state,
        "holder": _holder(status.get("pid"), status.get("host"), status.get("started"), is_alive) if going else None,
        "complete": state == "done" and not failed,
        "total": total,
        "success": success,
        "failed": failed,
        "missing": missing,
        "cached": _whole(status.get("cached")),
        "requests_per_second": _number(status.get("requests_per_second")),
        "eta_seconds": _number(status.get("eta_seconds")) if going else None,
        **tokens,
        "cost": _number(status.get("cost")),
        "unpriced": _whole(status.get("unpriced")),
        "errors": _errors(status.get("errors")),
        "damaged": 0,
        "torn": False,
        "aside": None,
        "checkpoint": None,
        "updated": status.get("updated"),
        "seconds_since_update": _since(status.get("updated_unix"), now),
        "reason": status.get("stopped") or status.get("error"),
        "exit_code": status.get("exit_code"),
    }


def text_of(report: Mapping[str, Any]) -> str:
    """Return it for people: a sentence on each line, without the control characters that a server's message may hold."""
    from ..batch.progress import describe_cost, short_number
    from ..controls import one_line

    name = "standard output" if report["file"] == "-" else report["file"]
    lines = [f"{name}: {_state(report)}", _rows(report)]
    if report["state"] == "running":
        lines += _speed(report)
    if report["total_tokens"]:
        lines.append(f"{short_number(report['total_tokens'])} tokens")
        if paid := describe_cost(report["cost"], report["unpriced"]):
            lines[-1] += f", {paid}"
    for kind, seen in report["errors"].items():
        example = next(iter(seen.get("examples") or ()), None)
        shown = f": row {example.get('row')}: {example.get('message')}" if example else ""
        lines.append(f"{seen.get('count', 0):,} failed with {kind}{shown}")
    if report["damaged"]:
        count = report["damaged"]
        lines.append(f"damaged lines: {count:,}; the next run keeps them aside and asks their rows again")
    if report["torn"] and report["state"] != "running":
        lines.append("the last line is torn; the next run cuts it off and asks its row again")
    if report["aside"]:
        aside = report["aside"]
        lines.append(f"lines of earlier inputs: {aside['lines']:,}, in {aside['file']}")
    if report["reason"]:
        lines.append(str(report["reason"]))
    if report["state"] == "died":
        lines.append("Nothing that is in the file is lost: run the same command again, and it asks only the rest")
    return "\n".join(map(one_line, lines))


def _state(report: Mapping[str, Any]) -> str:
    state, holder = report["state"], report["holder"]
    who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}" if holder and holder["pid"] else ""
    if state == "running":
        return f"a run is writing it ({who or 'nobody says which'}){_doubt(report)}"
    if state == "died":
        return f"the last run was killed before its end{f' ({who})' if who else ''}"
    words = {
        "ended": "no run is writing it",
        "done": "the run is done",
        "stopped": "the run stopped before the end of its input",
        "interrupted": "the run was interrupted",
        "failed": "the run failed",
    }
    code = report["exit_code"]
    return f"{words.get(state, state)}{f', exit code {code}' if code is not None else ''}"


def _doubt(report: Mapping[str, Any]) -> str:
    """Return what is to be said of a run on another machine: only how long ago it wrote something tells of it."""
    holder, silence = report["holder"], report.get("seconds_since_update")
    if not holder or holder["alive"] is not None:
        return ""
    if silence is None:
        return "; from here nobody can tell whether it still goes on"
    return f"; from here nobody can tell whether it still goes on, but it wrote this {_duration(silence)} ago"


def _rows(report: Mapping[str, Any]) -> str:
    of = "" if report["total"] is None else f" of {report['total']:,}"
    rows = "row" if (report["success"] if report["total"] is None else report["total"]) == 1 else "rows"
    parts = [f"{report['success']:,}{of} {rows} answered"]
    if report["state"] == "ended":
        parts.append("of how many, the file does not tell")
    if report["cached"]:
        parts.append(f"{report['cached']:,} of them from the cache")
    if report["failed"]:
        parts.append(f"{report['failed']:,} failed")
    if report["missing"]:
        parts.append(
            f"{report['missing']:,} to come" if report["state"] == "running" else f"{report['missing']:,} missing"
        )
    return ", ".join(parts)


def _speed(report: Mapping[str, Any]) -> list[str]:
    rate, eta = report["requests_per_second"], report["eta_seconds"]
    if not rate:
        return []
    ending = "" if eta is None else f", about {_duration(eta)} to go"
    return [f"{rate:.1f} rows a second{ending}"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _holder(pid: Any, host: Any, since: Any, alive: bool | None) -> dict[str, Any]:
    return {"pid": pid, "host": host, "since": since, "alive": alive}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _errors(value: Any) -> dict[str, dict[str, Any]]:
    """Return the errors by class, as far as they are such: for each its `count`, and its `examples`."""
    found = {}
    for kind, seen in value.items() if isinstance(value, dict) else ():
        if isinstance(seen, dict):
            examples = seen.get("examples")
            kept = [one for one in examples if isinstance(one, dict)] if isinstance(examples, list) else []
            found[kind] = {"count": _whole(seen.get("count")), "examples": kept}
    return found


def _since(moment: Any, now: float) -> float | None:
    return None if _number(moment) is None else round(max(0.0, now - moment), 1)
