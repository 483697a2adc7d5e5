"""One chain on its way: calls the functions of its steps, takes in answers, and says what is to be asked next.

It asks nobody: whoever holds it sends the requests. Not for several threads at the same time.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..batch.items import BatchResultItem
from ..chat import ChatCompletionResult
from ..errors import ChainError, ConfigError, FlexLLMError, RequestTimeout
from ..language import _
from ..messages import Message, Messages
from .context import Context, StepResponse, StepResult
from .monitor import ChainEvent, EventKind, Monitor
from .steps import Step, StepGraph

log = logging.getLogger(__name__)

MOST_STEPS = 50
"""Steps of a chain: no chain that somebody thought out is as long, and one that goes round costs no more than these."""

MOST_SAID = 1_000
"""Letters of what an error of the caller's says; some show all that they were given."""

LAST_SHOWN = 4
"""Names of steps that are told of a chain that goes round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLimits:
    """What a chain may take.

    Attributes:
        max_steps: Steps of one chain.
        step_timeout: Seconds for the request of a step with all its attempts; None: the client's `total_timeout`.
        chain_timeout: Seconds from a chain's beginning in this run after which no further step of it begins; None is not
            limited.
        function_threads: Threads in which the functions of steps run.
    """

    max_steps: int = MOST_STEPS
    step_timeout: float | None = None
    chain_timeout: float | None = None
    function_threads: int = 1

    def __post_init__(self) -> None:
        for name in ("max_steps", "function_threads"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ConfigError(_("{name}={count!r} must be a whole number of at least 1", name=name, count=count))
        for name in ("step_timeout", "chain_timeout"):
            seconds = getattr(self, name)
            is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
            if seconds is not None and not (is_number and seconds > 0):
                raise ConfigError(
                    _(
                        "{name}={seconds!r} must be a number of seconds above 0, or None for no limit",
                        name=name,
                        seconds=seconds,
                    )
                )


@dataclass(slots=True)
class Turn:
    """What a chain does next: it asks a step, or fails.

    Attributes:
        step_name: None if the chain ended before a step was found.
        ordinal: The step's number in its chain, from 0.
        messages: What is asked, as the step's function gave it; once the row is read, as a list of messages.
        error: Why there is nothing to ask.
        refused: Why what the function gave cannot be asked, once somebody has tried.
    """

    run: ChainRun
    ordinal: int
    step_name: str | None = None
    params: Any = None
    messages: Messages = ""
    error: ChainError | None = None
    refused: FlexLLMError | None = None


class ChainRun:
    """One chain, once.

    Args:
        graph: Its steps.
        first: The name of the step that it begins with, which is there.
        context: Its own, which is filled.
        tell: Told of what happens.

    Attributes:
        index: The chain's number in its batch, whatever a function makes of the context.
    """

    def __init__(
        self,
        graph: StepGraph,
        first: str,
        context: Context,
        limits: ChainLimits,
        tell: Monitor,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.context = context
        self.index = context.index
        self._graph = graph
        self._first = first
        self._limits = limits
        self._tell = tell
        self._clock = clock
        self._ends_at: float | None = None
        self._path: list[str] = []

    def begin(self) -> Turn:
        """Return the first turn."""
        if self._limits.chain_timeout is not None:
            self._ends_at = self._clock() + self._limits.chain_timeout
        self._event("chain_start")
        return self._turn(self._first)

    def record(self, turn: Turn, item: BatchResultItem) -> ChatCompletionResult | None:
        """Take in what became of a turn. Return the answer, None if the chain is at its end with that."""
        if turn.error is not None:  # which was told when it was found
            return None
        if item.result is None:
            self._not_answered(turn, turn.refused or item.error)
            return None
        result = item.result
        step = StepResult(
            step_name=turn.step_name or "",
            messages=_as_list(turn.messages),
            response=StepResponse(result),
            usage=result.usage,
            cost=result.cost,
            seconds=result.latency,
            cached=result.cached,
            resumed=item.resumed,
        )
        self.context.history.append(step)
        self._event("step_end", turn.step_name, result=step)
        return result

    def follow(self, turn: Turn, *, goes_on: bool = True) -> Turn | None:
        """Return the turn after one that was answered, None if the chain has come to its end.

        Args:
            goes_on: False begins no further step: None then may also be a chain that is left where it is.
        """
        step = self._graph[turn.step_name or ""]
        response = self.context.history[-1].response
        following = self._graph.follower(step.name)
        if step.get_next_step_fn is not None:
            try:
                given: Any = step.get_next_step_fn(response, self.context)
                following = _checked_name(given)
            except BaseException as error:  # the caller's own: also `sys.exit` ends its chain, and no other
                return self._stumbled(step, "get_next_step_fn", error)
        if following is None:
            self.context.final_response = response
            self._event("chain_end")
            return None
        return self._turn(following) if goes_on else None

    def stop(self, error: FlexLLMError) -> None:
        """End a chain that is under way because the run has stopped."""
        name = self._path[-1] if self._path else None
        self.context.error = ChainError(str(error), step=name, reason="stopped", error=error)

    def _turn(self, name: str) -> Turn:
        """Return the turn of a step."""
        limits, ordinal, name = self._limits, len(self._path), self._graph.resolve(name)
        if name not in self._graph:
            problem = self._graph.no_such_step(name)
            return self._failed(
                _("after step {name!r}: {problem}", name=self._path[-1], problem=problem), "unknown_step"
            )
        if ordinal >= limits.max_steps:
            last = ", ".join(self._path[-LAST_SHOWN:])
            return self._failed(
                _(
                    "the chain has not ended after {count} steps (max_steps); the last were {last}",
                    count=limits.max_steps,
                    last=last,
                ),
                "max_steps",
            )
        if self._ends_at is not None and self._clock() >= self._ends_at:
            return self._failed(
                _(
                    "the time of the chain is over: {seconds:g} s (chain_timeout); step {name!r} was not begun",
                    seconds=limits.chain_timeout,
                    name=name,
                ),
                "timeout",
            )
        self._path.append(name)
        step = self._graph[name]
        self._event("step_start", name)
        try:
            messages = step.prepare_messages_fn(self.context)
            _refuse_coroutine(messages)
        except BaseException as error:  # as above
            return self._stumbled(step, "prepare_messages_fn", error)
        return Turn(self, ordinal, name, step.model_params or None, messages)

    # --- failures

    def _not_answered(self, turn: Turn, error: FlexLLMError | None) -> None:
        reason = "function" if turn.refused is not None else "request"
        message = _("step {name!r}: {error}", name=turn.step_name, error=error)
        self.context.error = failure = ChainError(message, step=turn.step_name, reason=reason, error=error)
        kind: EventKind = "step_timeout" if isinstance(error, RequestTimeout) else "step_error"
        self._event(kind, turn.step_name, error=error)
        self._event("chain_error", turn.step_name, error=failure)

    def _stumbled(self, step: Step, function: str, error: BaseException) -> Turn:
        """Return the turn that stands for a step of which a function failed."""
        log.debug("step %r of chain %d: %s failed", step.name, self.context.index, function, exc_info=error)
        values = {"name": step.name, "function": function, "error": words_of(error), "kind": type(error).__name__}
        if isinstance(error, _Asynchronous):
            message = _(
                "step {name!r}: {function} is asynchronous; it is called in a thread of its own, so make it a plain function",
                **values,
            )
        elif isinstance(error, _NoName):
            message = _(
                "step {name!r}: {function} must give the name of a step, or None to end the chain, not something of type "
                "{given}",
                **values,
                given=error,
            )
        else:
            message = _("step {name!r}: {function} raised {kind}: {error}{place}", **values, place=_place_of(error))
        is_begun = function == "prepare_messages_fn"  # else the step is answered, and has its row
        turn = self._failed(message, "function", step.name, len(self._path) - is_begun)
        assert turn.error is not None
        turn.error.__cause__ = error
        return turn

    def _failed(
        self,
        message: str,
        reason: Literal["function", "unknown_step", "max_steps", "timeout"],
        name: str | None = None,
        ordinal: int | None = None,
    ) -> Turn:
        """Return the turn that stands for a chain that cannot go on: in the place of the next step, if of no other."""
        name = name or (self._path[-1] if self._path else None)
        ordinal = len(self._path) if ordinal is None else ordinal
        failure = ChainError(message, step=name, reason=reason)
        self.context.error = failure
        if reason == "function":
            self._event("step_error", name, error=failure)
        self._event("chain_timeout" if reason == "timeout" else "chain_error", name, error=failure)
        return Turn(self, ordinal, name, error=failure)

    def _event(
        self,
        kind: EventKind,
        step_name: str | None = None,
        result: StepResult | None = None,
        error: FlexLLMError | None = None,
    ) -> None:
        self._tell(ChainEvent(kind=kind, context=self.context, step_name=step_name, result=result, error=error))


class _Asynchronous(Exception):
    """A function gave a coroutine."""


class _NoName(Exception):
    """A function should have named a step; the message is the type of what it gave."""


def _checked_name(given: Any) -> str | None:
    _refuse_coroutine(given)
    if given is None or isinstance(given, str):
        return given
    raise _NoName(type(given).__name__)


def _refuse_coroutine(given: Any) -> None:
    if inspect.iscoroutine(given):
        given.close()  # else Python warns that nobody awaited it
        raise _Asynchronous


def words_of(error: BaseException) -> str:
    """Return what an error of the caller's says, or its beginning; "" where asking it fails."""
    try:
        said = str(error)
    except Exception:  # his own method
        return ""
    return said if len(said) <= MOST_SAID else f"{said[:MOST_SAID]}..."


def _place_of(error: BaseException) -> str:
    """Return where in the caller's function an error arose, as a piece in brackets; "" if it was not in there."""
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) < 2:
        return ""
    return f" ({os.path.basename(frames[1].filename)}, {frames[1].name}, {frames[1].lineno})"


def _as_list(messages: Messages) -> list[Message]:
    """Return messages that keep nothing alive but their texts."""
    return [_plain(one) for one in messages if isinstance(one, dict)] if isinstance(messages, (list, tuple)) else []


def _plain(value: Any) -> Any:
    if isinstance(value, StepResponse):
        return str(value)
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    return list(map(_plain, value)) if type(value) is list else value
