"""One passage through a gate: what the request is, and what became of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from ..cancel import CancelToken
from .bucket import MANY
from .hints import HEAR_EVERY, RateHint, parse_rate_hint
from .options import RateLimit
from .passages import Cost, Passages
from .traffic import FIRST_BACKOFF, Traffic


class Passable(Protocol):
    """A gate, as its permits know it."""

    limit: RateLimit
    traffic: Traffic
    ceiling: float

    def enter(self, permit: Permit) -> None:
        """Let it in, sooner or later."""

    def leave(self, permit: Permit, error: BaseException | None) -> None:
        """Take it back, and note what became of its request."""

    def space(self, permit: Permit) -> None:
        """Note that its request is on the wire."""


class Permit:
    """One passage through a gate. A class, not a generator: it stands on the way of every request.

    Attributes:
        may_leave: Waiting for it ends with `GateClosed` when the server closes the gate.
        sent_at: When it was let in, on the gate's clock.
        pace: Requests a second that were let in then; `math.inf` if not limited.
        is_accepted: The server took the request, and answered.
        hint: What the reply's headers say of the server's limits.
        usage: Tokens that it took.
    """

    __slots__ = (
        "again", "backoff", "cancel", "cost", "gate", "hint", "is_accepted", "is_held", "may_leave", "pace", "passages",
        "sent_at", "until", "usage",
    )  # fmt: skip

    def __init__(
        self,
        gate: Passable,
        cancel: CancelToken | None,
        cost: Cost | None,
        again: bool,
        until: float | None,
        passages: Passages | None,
        backoff: float = FIRST_BACKOFF,
        may_leave: bool = False,
    ) -> None:
        self.gate = gate
        self.may_leave = may_leave
        self.cancel = cancel
        self.cost = cost
        self.again = again
        self.until = until
        self.passages = passages
        self.backoff = backoff
        self.is_held = self.is_accepted = False
        self.sent_at = 0.0
        self.pace = math.inf
        self.hint: RateHint | None = None
        self.usage: Mapping[str, Any] | None = None

    def hear(self, headers: Mapping[str, str], status: int = 200) -> None:
        """Take note of a reply's headers, names in lower case."""
        traffic = self.gate.traffic
        if self.gate.limit.adaptive and (self.sent_at >= traffic.hear_from or status != 200):
            traffic.hear_from = self.sent_at + HEAR_EVERY
            self.hint = parse_rate_hint(headers, time.time())

    @property
    def departure(self) -> Callable[[], None] | None:
        """What to call when the request is on the wire; None if nobody needs to know."""
        return self._depart if self.pace < min(self.gate.ceiling, MANY) else None

    def _depart(self) -> None:
        self.gate.space(self)

    def accept(self, usage: Mapping[str, Any] | None) -> None:
        """Say that the request was answered, and what it took. Leaving the block without it says that it was not."""
        self.is_accepted = True
        self.usage = usage

    def __enter__(self) -> Permit:
        self.gate.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.gate.leave(self, error)
        except BaseException:
            if self.is_held:  # Ctrl-C came before it was given back
                self.gate.leave(self, error)
            raise
