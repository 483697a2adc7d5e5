"""What chains are made of: steps, and which of them follows on which."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..language import _
from ..messages import Messages
from ..request import make_params
from .context import Context, StepResponse

PrepareMessages = Callable[[Context], Messages]
NextStep = Callable[[StepResponse, Context], "str | None"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain. Its functions must give the same again for the same context: a resumed chain calls them anew.

    Attributes:
        name: Names the step; no two steps of a client have the same.
        prepare_messages_fn: Gives what is asked, of the context: a text, a message or a list of messages.
        get_next_step_fn: Gives the name of the next step (or of a linear chain, for its first one), of this step's answer
            and the context; None ends the chain. The answer is a text with the fields of a `ChatCompletionResult`. Without
            this function the chain ends here, or goes on to the step behind this one in `create_linear_chain`.
        model_params: Parameters of the request, as in `chat_completions`; `model` too.

    Raises:
        ConfigError: One of them cannot be used.
    """

    name: str
    prepare_messages_fn: PrepareMessages
    get_next_step_fn: NextStep | None = None
    model_params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(_("name={name!r} must be a text: it names the step", name=self.name))
        for what in ("prepare_messages_fn", "get_next_step_fn"):
            function = getattr(self, what)
            if not callable(function) and (function is not None or what == "prepare_messages_fn"):
                raise ConfigError(
                    _(
                        "step {name!r}: {what} must be a function, not of type {kind}",
                        name=self.name,
                        what=what,
                        kind=type(function).__name__,
                    )
                )
        object.__setattr__(self, "model_params", self._checked_params())

    def _checked_params(self) -> Mapping[str, Any]:
        params = self.model_params
        if params is not None and not isinstance(params, Mapping):
            raise ConfigError(
                _(
                    "step {name!r}: model_params must be a mapping of request parameters, not of type {kind}",
                    name=self.name,
                    kind=type(params).__name__,
                )
            )
        try:
            return make_params(dict(params or {}))
        except ConfigError as error:
            raise ConfigError(_("step {name!r}: {error}", name=self.name, error=error)) from None


class LinearStep(Step):
    """A step that chooses no next one: in `create_linear_chain` the chain goes on to the one behind it, else it ends.

    Args:
        name, prepare_messages_fn, model_params: As in `Step`.
    """

    __slots__ = ()

    def __init__(
        self, name: str, prepare_messages_fn: PrepareMessages, model_params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(name, prepare_messages_fn, None, model_params or {})


class StepGraph:
    """Steps by name, and what follows on those that do not choose for themselves."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._followers: dict[str, str | None] = {}
        self._chains: dict[str, str] = {}

    def __iter__(self) -> Any:
        return iter(self._steps.values())

    def __contains__(self, name: object) -> bool:
        return name in self._steps

    def __getitem__(self, name: str) -> Step:
        return self._steps[name]

    def copy(self) -> StepGraph:
        """Return one of its own for a run."""
        made = StepGraph()
        made._steps, made._followers, made._chains = dict(self._steps), dict(self._followers), dict(self._chains)
        return made

    def add(self, step: Step) -> None:
        """Take in a step. Raises ConfigError if it is none, or another one has its name."""
        if not isinstance(step, Step):
            raise ConfigError(_("a step must be a Step or a LinearStep, not of type {kind}", kind=type(step).__name__))
        if self._steps.get(step.name, step) is not step or step.name in self._chains:
            raise ConfigError(
                _("there is a step or chain {name!r} already; each needs a name of its own", name=step.name)
            )
        self._steps[step.name] = step

    def link(self, steps: Sequence[Step], name: str | None) -> str:
        """Take in steps that follow on each other; return what starts them: the first one's name, or their own."""
        if not steps:
            raise ConfigError(_("a chain needs at least one step"))
        if name is not None and (name in self._steps or name in self._chains):
            raise ConfigError(_("there is a step or chain {name!r} already; each needs a name of its own", name=name))
        trial = self.copy()  # all of them, or none
        for step in steps:
            trial.add(step)
        for step, follower in zip(steps, [*(one.name for one in steps[1:]), None], strict=True):
            if step.get_next_step_fn is not None:
                continue
            if trial._followers.get(step.name, follower) != follower:
                raise ConfigError(
                    _(
                        "step {name!r} stands in two linear chains, with another step behind it in each; give it "
                        "get_next_step_fn, or make two steps of it",
                        name=step.name,
                    )
                )
            trial._followers[step.name] = follower
        if name is not None:
            trial._chains[name] = steps[0].name
        self._steps, self._followers, self._chains = trial._steps, trial._followers, trial._chains
        return name or steps[0].name

    def start(self, name: str | None) -> str:
        """Return the name of the step at which a chain begins.

        Args:
            name: Of a step or of a linear chain; None is the step that was added first.

        Raises:
            ConfigError: There is no such step.
        """
        if name is None:
            if not self._steps:
                raise ConfigError(_("there is no step yet; add some with add_step or create_linear_chain"))
            return next(iter(self._steps))
        if not isinstance(name, str):
            raise ConfigError(
                _("initial_step_name must be the name of a step, not of type {kind}", kind=type(name).__name__)
            )
        found = self.resolve(name)
        if found not in self._steps:
            raise ConfigError(self.no_such_step(name))
        return found

    def resolve(self, name: str) -> str:
        """Return the name of the step that a name stands for: that of a linear chain for its first one."""
        return self._chains.get(name, name)

    def follower(self, name: str) -> str | None:
        """Return the step behind one that does not choose, None if the chain ends there."""
        return self._followers.get(name)

    def no_such_step(self, name: str) -> str:
        """Return the sentence for a name that no step has."""
        known = ", ".join(map(repr, self._steps)) or "-"
        near = difflib.get_close_matches(name, self._steps, n=1)
        if near:
            return _(
                "there is no step {name!r}; did you mean {near!r}? There are: {known}",
                name=name,
                near=near[0],
                known=known,
            )
        return _("there is no step {name!r}; there are: {known}", name=name, known=known)

    def length_from(self, name: str) -> int | None:
        """Return how many steps a chain from here on has, None if one of them chooses, or they go round."""
        length, at = 0, name
        while length <= len(self._steps) and self._steps[at].get_next_step_fn is None:
            length += 1
            following = self._followers.get(at)
            if following is None:
                return length
            at = following
        return None


def as_steps(given: Iterable[Step]) -> list[Step]:
    """Return steps as a list. Raises ConfigError if the caller gives one step, or no list."""
    if isinstance(given, (str, bytes, Step)) or not isinstance(given, Iterable):
        raise ConfigError(_("steps must be a list of steps, not of type {kind}", kind=type(given).__name__))
    return list(given)
