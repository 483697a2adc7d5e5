"""A request that is sent beside an attempt, and what a row was billed besides its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ..chat import ChatCompletionResult, ChatRequest
from ..errors import RequestError
from .choice import Choice
from .endpoint import Endpoint
from .hedge import Leg
from .turn import Turn


class Second:
    """A request that is sent beside an attempt. The thread that sends it changes it.

    Attributes:
        endpoint: That is asked.
        leg: By which it is broken off; None before it begins.
        ended: The error that it ended in; None as long as it has not, or if it was answered.
    """

    __slots__ = ("ended", "endpoint", "leg")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.leg: Leg | None = None
        self.ended: BaseException | None = None

    @property
    def was_sent(self) -> bool:
        """Whether it passed the gate."""
        return self.leg is not None and self.leg.sent_at is not None

    def ask(self, choice: Choice, request: ChatRequest, model: str, turn: Turn, leg: Leg) -> ChatCompletionResult:
        """Return the answer, and give the endpoint back.

        Args:
            request: As this endpoint is asked.
            model: That the row names, for errors.
            turn: Of this request alone.
        """
        self.leg, turn.on_sent = leg, leg.sent
        ended: BaseException | None = None
        try:
            return self.endpoint.complete(request, turn)
        except BaseException as error:
            ended = error
            if isinstance(error, RequestError):
                self.endpoint.told(error, model, turn.number)
            raise
        finally:
            self.ended = ended
            choice.give(self.endpoint, ended)


class CutOff(NamedTuple):
    """A request that was cut off, for the other one of two was quicker: where, and what was asked there."""

    endpoint: Endpoint
    request: ChatRequest


def summed(
    result: ChatCompletionResult, requests: int, spent: float, cut_off: Sequence[CutOff]
) -> ChatCompletionResult:
    """Return the answer with what all requests of its row took.

    Args:
        requests: All that were sent.
        spent: US dollars that those were probably billed which broke off by themselves.
        cut_off: Each would have taken about the tokens that the answer took, at the price of its endpoint.
    """
    cost, beside = result.cost, spent
    if cost is not None:
        beside += sum(endpoint.cost_like(request, result) for endpoint, request in cut_off)
        cost += beside
    return replace(
        result,
        attempts=requests,
        hedged=len(cut_off),
        cost=cost,
        cost_estimated=result.cost_estimated + (beside if cost is not None else 0.0),
    )
