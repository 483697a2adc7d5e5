"""What an attempt knows of the row that it is for: how often it was sent, until when it may be, how it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChunkCollector
from ..errors import RequestTimeout
from ..language import _
from ..messages import Message


class Turn:
    """One row on its way through its attempts. One thread changes it.

    Attributes:
        cancel: Stops it.
        number: Of the attempt under way, from 1, over all endpoints; 0 before the first.
        may_leave: It need not wait where the server lets nobody pass: there are others to ask.
        until: When the row's time is over, on the monotonic clock; None before it is first sent, and if not limited.
        inlined: The messages as an endpoint wants them, by endpoint, so that media are read once.
        has_begun: The first piece of a stream has been handed on.
        request_id: The server's id of the stream under way.
        collector: What has arrived of it.
        on_sent: Called when an attempt has passed the gate.
        shares: How many endpoints have not failed the row yet, where it may go on to another.
        backoff: Seconds for which a refusal closes the gate where the server names none.
    """

    # Defaults stand in the class: most rows are answered at once, and set hardly any of them.
    number = 0
    may_leave = False
    until: float | None = None
    inlined: dict[Any, Sequence[Message]] | None = None
    has_begun = False
    request_id: str | None = None
    collector: ChunkCollector | None = None
    on_sent: Callable[[], None] | None = None
    shares = 1
    backoff = 1.0
    _started = 0.0

    def __init__(
        self, cancel: CancelToken | None, total: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cancel = cancel
        self._total = total
        self._clock = clock

    def seconds_left(self) -> float | None:
        """Return how long the attempt that starts now may take; None is not limited. The first starts the row's time.

        Raises:
            RequestTimeout: The row's time is over; nothing was sent.
        """
        left = self._total
        if left is not None:
            now = self._clock()
            if self.until is None:
                self.until = now + left
            else:
                left = self.until - now
                if left <= 0.0:
                    raise RequestTimeout(_("its time was over before it was sent"), attempts=0)
        if self.on_sent is not None:
            self.on_sent()
        return left

    def seconds_to_first_piece(self, timeout: float) -> float | None:
        """Return how long a stream that starts now may take to its first piece.

        The endpoints that have not failed the row share what is left of its time, so that one from which bytes drip
        without end does not use it up; but each has `timeout` seconds.
        """
        left = self.seconds_left()
        return left if left is None or self.shares == 1 else min(left, max(timeout, left / self.shares))

    def begin_stream(self) -> ChunkCollector:
        """Return what adds up the pieces of a new attempt."""
        self.collector = ChunkCollector()
        self.request_id = None
        self._started = self._clock()
        return self.collector

    def arrived(self) -> ChatCompletionResult:
        """Return what has arrived of the stream."""
        assert self.collector is not None
        return self.collector.result(
            latency=self._clock() - self._started, request_id=self.request_id, attempts=self.number
        )

    def beside(self, cancel: CancelToken) -> Turn:
        """Return the turn of a second request of the same attempt, for another thread."""
        turn = Turn(cancel, self._total, self._clock)
        turn.number, turn.until = self.number, self.until
        turn.inlined = None if self.inlined is None else dict(self.inlined)
        return turn
