"""What a chain's functions see, and what is left of it in the end: the question, the steps so far and the caller's own data."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any

from ..chat import ChatCompletionResult, Usage
from ..error_fields import error_fields
from ..errors import ChainError, ConfigError
from ..language import _
from ..messages import Message


class StepResponse(str):
    """The model's answer to a step: a text like any other, which has the fields of the `ChatCompletionResult` too.

    `response.usage`, `response.tool_calls`, `response.reasoning_content` and so on are those of `response.result`. The text
    is "" where the model only called tools.
    """

    result: ChatCompletionResult

    def __new__(cls, result: ChatCompletionResult) -> StepResponse:
        """Return a text that knows its result."""
        made = super().__new__(cls, result.content)
        made.result = result
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "result":  # copying and pickling ask for these before there is a result
            raise AttributeError(name)
        return getattr(self.result, name)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.result,)


@dataclass(slots=True, kw_only=True)
class StepResult:
    """One answered step of a chain.

    Attributes:
        step_name: The step.
        messages: What was asked, as a list of messages.
        response: The answer.
        usage: Token counts, None if unknown.
        cost: US dollars, of all attempts; None where no price is known.
        seconds: What the answering attempt took; None if unknown.
        cached: The answer came from the response cache, or was that of an equal row.
        resumed: An earlier run had bought it; it was read from the output file.
    """

    step_name: str
    messages: Sequence[Message]
    response: StepResponse
    usage: Usage | None = None
    cost: float | None = None
    seconds: float | None = None
    cached: bool = False
    resumed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the step as JSON-able fields; the response is its text."""
        return {**self.figures(), "messages": list(self.messages), "response": str(self.response)}

    def figures(self) -> dict[str, Any]:
        """Return the step's name and numbers, without its texts."""
        return {
            "step_name": self.step_name,
            "usage": self.usage,
            "cost": self.cost,
            "seconds": self.seconds,
            "cached": self.cached,
            "resumed": self.resumed,
        }


@dataclass(slots=True)
class Context:
    """What one chain knows. Its steps' functions read it, and write to `custom_data`.

    Attributes:
        query: What the chain is about, as the caller gave it.
        history: The answered steps, in order.
        custom_data: The caller's own data, by name. What functions write here is made again when a chain is resumed: they
            are called once more in the same order with the same answers.
        final_response: The last step's answer, once the chain has come to its end; None before, and if it did not.
        index: The chain's number in its batch, from 0.
        metadata: What `metadata_list` gave for the chain.
        error: Why it did not come to its end; None if it did, and while it is under way.
    """

    query: str = ""
    history: list[StepResult] = field(default_factory=list)
    custom_data: dict[str, Any] = field(default_factory=dict)
    final_response: StepResponse | None = None
    index: int = 0
    metadata: Any = None
    error: ChainError | None = None

    def get_response_by_step(self, step_name: str) -> StepResponse | None:
        """Return the latest answer to a step, None if it has none so far."""
        found = (one.response for one in reversed(self.history) if one.step_name == step_name)
        return next(found, None)

    def get_last_response(self) -> StepResponse | None:
        """Return the answer to the last step, None before the first."""
        return self.history[-1].response if self.history else None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the latest answer to the step of this name; else what `custom_data` has under it; else `default`."""
        response = self.get_response_by_step(name)
        return self.custom_data.get(name, default) if response is None else response

    @property
    def usage(self) -> Usage:
        """The tokens of all steps together."""
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        known = [one.usage for one in self.history if one.usage is not None]
        return Usage({name: sum(usage.get(name, 0) for usage in known) for name in names})

    @property
    def cost(self) -> float | None:
        """US dollars of all steps together; None where the price of one is not known."""
        costs = [one.cost for one in self.history]
        return None if None in costs else sum(filter(None, costs))

    @property
    def seconds(self) -> float:
        """What the answers to all steps took together, as far as it is known."""
        return sum(one.seconds or 0.0 for one in self.history)

    def get_execution_summary(self) -> dict[str, Any]:
        """Return, JSON-able, how the chain went: its `status` ("success", "error" or "running"), its steps and their sums.

        `path` has the names of the steps in order, `steps` the figures of each: `usage`, `cost`, `seconds`, `cached`,
        `resumed`. `error` has the fields of an output row's error, or is None.
        """
        is_over = self.final_response is not None
        return {
            "index": self.index,
            "query": self.query,
            "status": "error" if self.error is not None else "success" if is_over else "running",
            "path": [one.step_name for one in self.history],
            "total_steps": len(self.history),
            "seconds": round(self.seconds, 4),
            **self.usage,
            "cost": self.cost,
            "cached_steps": sum(one.cached for one in self.history),
            "resumed_steps": sum(one.resumed for one in self.history),
            "error": None if self.error is None else {**error_fields(self.error), "step": self.error.step},
            "steps": [one.figures() for one in self.history],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything; it is JSON-able if `query`, `custom_data` and `metadata` are."""
        return {
            **self.get_execution_summary(),
            "steps": [one.as_dict() for one in self.history],
            "custom_data": dict(self.custom_data),
            "metadata": self.metadata,
            "final_response": None if self.final_response is None else str(self.final_response),
        }


def as_context(given: object, index: int, metadata: Any = None) -> Context:
    """Return a context of its own for a chain, from what the caller gives; his own is not changed.

    Dictionaries, lists and sets in `custom_data` are copied, other objects are shared: they may be large, or know no copy.

    Args:
        given: A `Context`, a text (the query), a mapping of a context's `query`, `custom_data` and `metadata`, or None.

    Raises:
        ConfigError: It is none of these.
    """
    if isinstance(given, Mapping):
        given = _from_mapping(given, index)
    elif given is None or isinstance(given, str):
        given = Context(given or "")
    if not isinstance(given, Context):
        raise ConfigError(
            _(
                "chain {index} must be given as a Context, a text or a mapping of query and custom_data, not of type {kind}",
                index=index,
                kind=type(given).__name__,
            )
        )
    if not isinstance(given.custom_data, (Mapping, NoneType)):
        raise ConfigError(
            _(
                "the custom_data of chain {index} must be a mapping of names to values, not of type {kind}",
                index=index,
                kind=type(given.custom_data).__name__,
            )
        )
    copies: dict[int, Any] = {}
    return replace(
        given,
        history=list(given.history or ()),
        custom_data={name: _copied(value, copies) for name, value in (given.custom_data or {}).items()},
        final_response=None,
        index=index,
        metadata=given.metadata if metadata is None else metadata,
        error=None,
    )


_GIVEN = ("query", "custom_data", "metadata")


def _from_mapping(given: Mapping[str, Any], index: int) -> Context:
    unknown = [name for name in given if name not in _GIVEN]
    if unknown:
        raise ConfigError(
            _(
                "chain {index} has {name!r}, which is not known; there are: {known}",
                index=index, name=unknown[0], known=", ".join(_GIVEN),
            )
        )  # fmt: skip
    return Context(**given)


def without_texts(history: Iterable[StepResult]) -> list[StepResult]:
    """Return steps with their names and figures alone."""
    return [replace(one, messages=(), response=StepResponse(ChatCompletionResult(""))) for one in history]


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """Return a copy of a collection and of those in it, any other value itself.

    Args:
        copies: By the identity of what was copied: what holds itself is copied once.
    """
    if id(value) in copies:
        return copies[id(value)]
    kind = type(value)
    if kind in _MAPPINGS:
        made = copies[id(value)] = copy.copy(value)
        for name in made:
            made[name] = _copied(made[name], copies)
        return made
    if kind is list:
        made = copies[id(value)] = []
        made.extend(_copied(one, copies) for one in value)
        return made
    return kind(_copied(one, copies) for one in value) if kind in (set, tuple) else value


_MAPPINGS = (dict, defaultdict, OrderedDict, Counter)
