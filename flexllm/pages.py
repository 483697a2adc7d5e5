"""What a notebook shows of an answer and of a batch. Their classes stand on higher floors, and hand themselves in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from .amounts import dollars
from .markup import Html, bad, box, fold, quiet, strong, table, whole

ROWS = 10
LETTERS = 600
"""Of a row's text."""
CLASSES = 5
"""Of errors."""

CALLS = 20
ARGUMENTS = 4_000
"""Letters of the arguments of a call."""


# --- an answer


class Answer(Protocol):
    """What is looked at of a `ChatCompletionResult`."""

    @property
    def content(self) -> str: ...
    @property
    def usage(self) -> Mapping[str, Any] | None: ...
    @property
    def reasoning_content(self) -> str | None: ...
    @property
    def tool_calls(self) -> Sequence[Any] | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def latency(self) -> float | None: ...
    @property
    def cached(self) -> bool: ...
    @property
    def cost(self) -> float | None: ...


def answer_page(answer: Answer) -> Html:
    """Return what is shown of an answer: the text, its thinking folded, its calls of tools, and what it took."""
    parts = []
    if thought := answer.reasoning_content:
        words = f"Thinking ({len(thought):,} {'character' if len(thought) == 1 else 'characters'})"
        parts.append(fold(words, box(thought, rest="they are in reasoning_content")))
    if answer.content:
        parts.append(box(answer.content, rest="they are in content"))
    parts += _calls(answer.tool_calls or ())
    if not answer.content and not answer.tool_calls:
        parts.append(quiet(["The answer is empty."]))
    return whole(*parts, quiet(_took(answer)))


def _calls(calls: Sequence[Any]) -> Iterator[Html]:
    for call in calls[:CALLS]:
        name, arguments = str(call.function.get("name", "")), str(call.function.get("arguments", ""))
        yield box(f"{name}({_shown_arguments(arguments)})", ARGUMENTS, is_code=True, rest="they are in tool_calls")
    if len(calls) > CALLS:
        more = len(calls) - CALLS
        yield quiet([f"and {more:,} more {'call' if more == 1 else 'calls'}"])


def _shown_arguments(arguments: str) -> str:
    """Return JSON with its letters as letters, and not as numbers."""
    if len(arguments) > ARGUMENTS:
        return arguments
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def _took(answer: Answer) -> Iterator[str]:
    if answer.model:
        yield answer.model[:80]
    counts = [(answer.usage or {}).get(name) for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens")]
    asked, told, thought = (count if isinstance(count, int) else 0 for count in counts)
    if asked or told:
        thinking = f" ({thought:,} thinking)" if thought else ""
        yield f"{asked:,} input and {told:,} output tokens{thinking}"
    if answer.cached:
        yield "from the cache"
    elif answer.cost is not None:
        yield dollars(answer.cost)
    if answer.latency is not None and not answer.cached:
        yield f"{answer.latency:,.2f} s"
    if answer.finish_reason not in (None, "stop", "tool_calls"):
        yield f"finish_reason {str(answer.finish_reason)[:40]}"


# --- a batch


class Row(Protocol):
    """What is looked at of a `BatchResultItem`."""

    index: int
    content: str | None
    status: str
    error: Any


def batch_page(items: Sequence[Row], summary: Mapping[str, Any]) -> Html:
    """Return what is shown: counts, and a table of the first rows. A summary may lack anything."""
    rows = [(f"{item.index:,}", _status(item), _output(item)) for item in items[:ROWS]]
    parts = [strong(_headline(summary, len(items))), quiet(_facts(summary))]
    if summary.get("stopped"):
        parts.append(box(f"Stopped: {summary['stopped']}", LETTERS))
    if rows:
        parts.append(table(("row", "status", "output"), rows, {0}, len(items) - len(rows)))
    if summary.get("failed", 0) > sum(item.error is not None for item in items[:ROWS]):
        parts += _errors(summary)
    return whole(*parts)


def _headline(summary: Mapping[str, Any], rows: int) -> str:
    total, answered, failed = summary.get("total", rows), summary.get("success", 0), summary.get("failed", 0)
    told = [f"{answered:,} answered"] if answered else []
    if failed:
        told.append(f"{failed:,} failed")
    if (still := total - answered - failed) > 0 and summary:
        told.append(f"{still:,} not asked")
    return f"{total:,} {'row' if total == 1 else 'rows'}{': ' if told else ''}{', '.join(told)}"


def _facts(summary: Mapping[str, Any]) -> Iterator[str]:
    for name, words in (
        ("cached", "from the cache"),
        ("shared", "shared with an equal row"),
        ("resumed", "from an earlier run"),
    ):
        if summary.get(name):
            yield f"{summary[name]:,} {words}"
    if summary.get("total_tokens"):
        yield f"{summary['total_tokens']:,} tokens"
    if "cost" in summary:
        cost, unpriced = summary["cost"], summary.get("unpriced", 0)
        yield "price unknown" if cost is None else dollars(cost)
        if unpriced and cost is not None:
            yield f"price unknown for {unpriced:,} {'row' if unpriced == 1 else 'rows'}"
    if "elapsed" in summary:
        yield f"{summary['elapsed']:,.1f} s"


def _status(item: Row) -> str:
    return bad(item.status) if item.error is not None else item.status


def _output(item: Row) -> Html:
    if item.error is None:
        return box(item.content or "", LETTERS)
    return box(f"{type(item.error).__name__}: {item.error}", LETTERS)


def _errors(summary: Mapping[str, Any]) -> Iterator[Html]:
    """Yield a table of the classes of error, for those that are not in the first rows."""
    errors = summary.get("errors") or {}
    rows = [
        (
            kind,
            f"{found.get('count', 0):,}",
            f"{example.get('row', 0):,}",
            box(str(example.get("message", "")), LETTERS),
        )
        for kind, found in errors.items()
        for example in (found.get("examples") or [{}])[:1]
    ]
    if rows:
        names = ("error", "rows", "first row", "message")
        yield table(names, rows[:CLASSES], {1, 2}, max(0, len(rows) - CLASSES))
