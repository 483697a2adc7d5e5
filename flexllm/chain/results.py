"""What is left of chains that have ended: small contexts, and the words in which a batch tells of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..batch.items import BatchResultItem
from ..errors import release_frames
from .context import Context, StepResponse, StepResult, without_texts


def slim(context: Context, keep_history: bool) -> Context:
    """Let go of what would only fill memory: bodies of replies, frames of errors, and if it is to be the texts of steps."""
    if context.error is not None:
        release_frames(context.error)
    context.history = list(map(_without_body, context.history))
    if context.final_response is not None and context.history:
        context.final_response = context.history[-1].response
    if not keep_history:
        context.history = without_texts(context.history)
    return context


def _without_body(step: StepResult) -> StepResult:
    """Return a step without its reply's body; that of another one's context stays as it is."""
    if step.response.result.body is None:
        return step
    return replace(step, response=StepResponse(replace(step.response.result, body=None)))


def item_of(context: Context) -> BatchResultItem:
    """Return what became of a chain in the words of a row."""
    final, steps = context.final_response, context.history
    is_cached = bool(steps) and all(step.cached for step in steps)
    return BatchResultItem(
        context.index,
        None if final is None else str(final),
        context.usage,
        "error" if context.error is not None else "cached" if is_cached else "success",
        context.error,
        context.seconds,
        context.metadata,
        None if final is None else final.result,
        bool(steps) and all(step.resumed for step in steps),
    )


def summary_of(contexts: list[Context], steps: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of chains, and under "steps" those of the job, which are given."""
    items = list(map(item_of, contexts))
    failed = sum(context.error is not None for context in contexts)
    return {
        "total": len(contexts),
        "success": len(contexts) - failed,
        "failed": failed,
        "cached": sum(item.status == "cached" for item in items),
        "resumed": sum(item.resumed for item in items),
        "elapsed": steps["elapsed"],
        "cost": steps["cost"],
        "complete": steps["complete"],
        "stopped": steps["stopped"],
        "steps": steps,
    }
