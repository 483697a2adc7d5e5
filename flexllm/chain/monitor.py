"""Who is told how chains go on: a function of events, or an object with a method for some of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ConfigError, FlexLLMError
from ..language import _, mark
from .context import Context, StepResult

log = logging.getLogger("flexllm.chain")

EventKind = Literal[
    "chain_start", "step_start", "step_end", "step_error", "step_timeout", "chain_end", "chain_error", "chain_timeout"
]
EVENTS: tuple[str, ...] = get_args(EventKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEvent:
    """Something that happened to a chain.

    Attributes:
        kind: "chain_start"; "step_start" (its request is made), then "step_end", "step_error" or, where no answer came in
            time, "step_timeout"; and at last "chain_end", "chain_error" or, where the chain's time was over,
            "chain_timeout". A chain that is left where it is because the whole run stops has no last event.
        context: The chain, which goes on: to be read only while the monitor is called.
        step_name: The step; None where the chain as a whole is meant.
        result: What the step brought, for "step_end"; its `resumed` tells that an earlier run had bought it.
        error: Why a step or chain failed.
    """

    kind: EventKind
    context: Context
    step_name: str | None = None
    result: StepResult | None = None
    error: FlexLLMError | None = None


Monitor = Callable[[ChainEvent], object]
"""Told of each event, in the threads in which step functions run. What it raises is logged, and changes nothing."""


class LoggingMonitor:
    """Logs each event, failures as warnings, under "flexllm.chain".

    Args:
        level: Of what is no failure.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        self._level = level

    def __call__(self, event: ChainEvent) -> None:
        """Log the event."""
        index, step = event.context.index, "" if event.step_name is None else f" {event.step_name!r}"
        if event.error is not None:
            log.warning("chain %d: %s%s: %s", index, event.kind, step, event.error)
        elif event.result is not None and event.result.seconds is not None:
            log.log(self._level, mark("chain %d: %s%s in %.2f s"), index, event.kind, step, event.result.seconds)
        else:
            log.log(self._level, mark("chain %d: %s%s"), index, event.kind, step)


def as_monitor(given: object) -> Monitor:
    """Return what is told of events.

    Args:
        given: A function of a `ChainEvent`; an object with methods such as `on_step_end(event)`, one for each kind that it
            wants to be told of; or None.

    Raises:
        ConfigError: It is none of these.
    """
    methods: dict[str, Any] = {}
    if given is not None and not callable(given):
        methods = {
            kind: getattr(given, f"on_{kind}") for kind in EVENTS if callable(getattr(given, f"on_{kind}", None))
        }
        if not methods:
            raise ConfigError(
                _(
                    "monitor must be a function of an event, or have methods such as on_step_end(event); it is of type {kind}",
                    kind=type(given).__name__,
                )
            )

    def tell(event: ChainEvent) -> None:
        monitor = given if callable(given) else methods.get(event.kind)
        if monitor is None:
            return
        try:
            monitor(event)
        except Exception as error:  # the caller's own: a row is not lost because somebody who looks on stumbles
            log.warning("the monitor failed at %s: %s: %s", event.kind, type(error).__name__, error, exc_info=True)

    return tell
