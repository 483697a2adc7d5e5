"""The budget: what may be spent is reserved before a request is sent, and settled when it is known what it took."""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Iterable

from ..cancel import CancelToken
from ..errors import BudgetExceededError, RequestCancelled
from ..fork import forget_in_child
from ..language import _
from ..limits.line import Turn
from .demand import Demand, Expectation
from .options import Limits
from .refusals import explain
from .spend import Spend

SLACK = 1e-9
"""Dollars, or the share of the limit if that is above a dollar, by which sums of floats may be too large."""


class Reservation:
    """One request's share of a budget. Its budget changes it, under its lock.

    Attributes:
        demand: What is known of the request.
        is_held: It is counted as reserved.
        is_decided: It was, or it was refused: what becomes of it is settled.
        amount: What is reserved.
        thread: That entered the budget with it.
        refusal: Why there is none to be had; None as long as that is open. A text: an error would hold, by its traceback,
            the frame that holds this.
    """

    __slots__ = ("amount", "demand", "is_decided", "is_held", "mark", "refusal", "thread", "turn")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.is_held = self.is_decided = False
        self.amount = Spend()
        self.refusal: str | None = None
        self.turn: Turn | None = None
        self.thread: threading.Thread | None = None  # not its id: that of one that ended goes to another
        self.mark: object = None  # the life of its budget in which it was made: a forked child begins another


class Budget:
    """What may be spent, and what is. May be shared by threads; a forked child counts on by itself.

    Whoever does not fit beside what others have reserved waits for them to settle, in the order of coming. When nothing is
    reserved any more and the first in line still does not fit, it is refused, and all that wait behind it: so what is
    spent is above the limit by no more than what requests took beyond what they said they would, and below it by less
    than one request. Nobody waits for himself: where all that is reserved is for streams of threads that wait here, which
    do not read on meanwhile, these are refused.

    Args:
        limits: What may not be exceeded.
        spent: What counts already, such as what earlier runs took.
        outputs: Tokens of earlier replies, from which the length of the next is told.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        spent: Spend = Spend(),  # noqa: B008 - it is a value
        outputs: Iterable[int] = (),
    ) -> None:
        self.limits = limits
        self._slack = SLACK * max(1.0, limits.dollars or 0.0)
        self._dollars, self._requests, self._tokens = spent
        self._expectation = Expectation()
        self._expectation.learn(outputs)
        self._was_refused = False
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        # Re-entrant, for the garbage collector may close a stream that nobody reads any more, which settles what it took,
        # in a thread that holds the lock. Hence what is changed in `_settle` is changed without a call in between.
        self._lock = threading.RLock()
        self._life = object()
        self._line: deque[Reservation] = deque()
        self._in_flight = 0
        self._of_thread: defaultdict[threading.Thread | None, int] = defaultdict(int)  # of these
        self._waiting: dict[threading.Thread | None, None] = {}  # the threads in line
        self._again = 0  # requests that may be sent besides the first of each in flight
        self._held_dollars, self._held_tokens = 0.0, 0
        self._is_looking = self._has_changed = False

    @property
    def spent(self) -> Spend:
        """What was settled, and what counted before."""
        with self._lock:
            return Spend(self._dollars, self._requests, self._tokens)

    @property
    def reserved(self) -> Spend:
        """What is reserved for requests under way."""
        with self._lock:
            return self._held()

    @property
    def waiting(self) -> int:
        """How many threads stand in line."""
        return len(self._line)

    @property
    def exhausted(self) -> bool:
        """Whether a request was refused, or what is spent has reached a limit."""
        with self._lock:
            return self._was_refused or not self._has_room_for(Spend(2 * self._slack, 1, 1), beside=Spend())

    def reserve(self, demand: Demand, cancel: CancelToken | None = None) -> Reservation:
        """Return what `settle` must be given once the request has come back. Waits as long as it takes; see `enter`."""
        reservation = Reservation(demand)
        self.enter(reservation, cancel)
        return reservation

    def enter(self, reservation: Reservation, cancel: CancelToken | None = None) -> None:
        """Reserve what a request may take, and wait until there is room for it. If this raises, nothing is reserved.

        Raises:
            BudgetExceededError: There will be no room.
            RequestCancelled: `cancel` was stopped meanwhile; `attempts` is 0, for nothing was sent.
        """
        reservation.mark, reservation.thread = self._life, threading.current_thread()
        try:
            with self._lock:
                self._waiting[reservation.thread] = None
                self._line.append(reservation)
                self._look()
                if not reservation.is_decided:
                    reservation.turn = Turn()
                    reservation.turn.prepare(math.inf)
            if reservation.turn is not None:
                self._wait(reservation, reservation.turn, cancel)
            if reservation.refusal is not None:
                raise self._error(reservation.refusal)
        except BaseException:  # Ctrl-C may come at any point of this, and of what is done about it
            try:
                self._abandon(reservation)
            except BaseException:
                self._abandon(reservation)
                raise
            raise

    def extend(self, reservation: Reservation, lost: float | None = None) -> bool:
        """Reserve for a request to be sent once more, if there is room for it at once. Return whether there was.

        Nobody waits here: whoever did would hold what others wait for.

        Args:
            lost: US dollars that its last attempt was billed for nothing, as far as that is known. None: it may be billed
                as much again.
        """
        with self._lock:
            if not reservation.is_held or reservation.mark is not self._life:
                return False
            more = self._expectation.expect(reservation.demand) if lost is None else Spend(lost, 1, 0)
            if not self._has_room_for(more):
                return False
            total = reservation.amount.plus(more)
            dollars, requests, tokens = more
            # No call among these, as in `_settle`.
            reservation.amount = total
            self._again += requests
            self._held_dollars += dollars
            self._held_tokens += tokens
            return True

    def settle(
        self, reservation: Reservation, actual: Spend, *, output: int | None = None, prompt: int | None = None
    ) -> None:
        """Count what a request took in the place of what was reserved for it. The second time it does nothing.

        Args:
            actual: All of it; `Spend()` for a request that was not sent.
            output: Tokens of its reply, from which is learned what the next may take; None if none came.
            prompt: Tokens of its messages as the server counted them; None if it did not.
        """
        try:
            self._settle(reservation, actual, output, prompt)
        except BaseException:
            self._settle(reservation, actual, None, None)  # Ctrl-C came before it was done
            raise

    def add(self, actual: Spend) -> None:
        """Count what was spent without a reservation."""
        dollars, requests, tokens = actual
        with self._lock:
            self._dollars += dollars
            self._requests += requests
            self._tokens += tokens
            self._look()

    def reset(self) -> None:
        """Begin to count anew. What is reserved stays so."""
        with self._lock:
            self._dollars, self._requests, self._tokens = 0.0, 0, 0
            self._was_refused = False
            self._look()

    def exceeded(self) -> BudgetExceededError | None:
        """Return the error to raise if more is spent than a limit allows, None if all is well."""
        with self._lock:
            return None if self._has_room_for(Spend(), beside=Spend()) else self._error(self._refusal(Spend()))

    # --- inside

    def _wait(self, reservation: Reservation, turn: Turn, cancel: CancelToken | None) -> None:
        try:
            if cancel is not None:
                cancel.on_stop(turn.stop)
            while not (reservation.is_decided or turn.is_over):
                turn.sleep()
        finally:
            if cancel is not None:
                cancel.off_stop(turn.stop)
        if turn.is_over:
            raise RequestCancelled(_("stopped while waiting for room in the budget; it was not sent"), attempts=0)

    def _abandon(self, reservation: Reservation) -> None:
        """Undo whatever was done for a reservation, so that nobody else waits for it in vain."""
        with self._lock:
            if reservation in self._line:
                self._line.remove(reservation)
            self._waiting.pop(reservation.thread, None)
            self._settle(reservation, Spend(), None, None)

    def _settle(self, reservation: Reservation, actual: Spend, output: int | None, prompt: int | None) -> None:
        with self._lock:
            if reservation.is_held and reservation.mark is self._life:
                dollars, requests, tokens = actual
                held, held_requests, held_tokens = reservation.amount
                # No call among these, hence neither Ctrl-C nor the garbage collector.
                reservation.is_held = False
                self._in_flight -= 1
                self._again -= held_requests - 1
                self._of_thread[reservation.thread] -= 1
                if not self._of_thread[reservation.thread]:
                    del self._of_thread[reservation.thread]
                self._held_dollars = self._held_dollars - held if self._in_flight else 0.0  # sums of floats go astray
                self._held_tokens -= held_tokens
                self._dollars += dollars
                self._requests += requests
                self._tokens += tokens
                if output is not None:
                    self._expectation.seen(reservation.demand, output, prompt)
            self._look()

    # --- under the lock

    def _look(self) -> None:
        """Decide about those in line, from the first on, as far as that can be done now."""
        self._has_changed = True
        if self._is_looking:  # further up in this very thread, which then looks again
            return
        self._is_looking = True
        try:
            while self._has_changed:
                self._has_changed = False
                while self._line and self._decide(self._line[0]):
                    pass
        finally:
            self._is_looking = False

    def _decide(self, first: Reservation) -> bool:
        """Let the first in line in, or refuse it and all behind it. Return False if it has to wait."""
        if not first.is_decided:  # else Ctrl-C came before it was woken and taken out, perhaps
            # As it is before the rest is looked at: what is settled meanwhile makes it look again.
            nobody_settles = self._of_thread.keys() <= self._waiting.keys()
            amount = self._expectation.expect(first.demand)
            if self._has_room_for(amount) or (nobody_settles and self._may_scout(first.demand)):
                self._admit(first, amount)
            elif nobody_settles:
                self._refuse(amount)
            if not first.is_decided:
                return False
        if first.turn is not None:
            first.turn.wake()
        self._waiting.pop(first.thread, None)
        self._line.popleft()
        return True

    def _refuse(self, amount: Spend) -> None:
        """Refuse all in line; or, where threads in line have requests under way, those alone: they can go on with them."""
        self._was_refused = True
        for reservation in self._line:
            if not self._in_flight or reservation.thread in self._of_thread:
                reservation.refusal = self._refusal(amount)
                reservation.is_decided = True
                if reservation.turn is not None:
                    reservation.turn.wake()

    def _admit(self, reservation: Reservation, amount: Spend) -> None:
        dollars, _, tokens = reservation.amount = amount
        # No call among these, as in `_settle`.
        reservation.is_held = reservation.is_decided = True
        self._in_flight += 1
        self._of_thread[reservation.thread] += 1
        self._held_dollars += dollars
        self._held_tokens += tokens

    def _may_scout(self, demand: Demand) -> bool:
        """Return whether a request may go alone to find out how long replies are: only its prompt is known to fit."""
        is_guess = demand.most is None and not self._expectation.has_seen
        return is_guess and self._has_room_for(self._expectation.least(demand))

    def _has_room_for(self, amount: Spend, beside: Spend | None = None) -> bool:
        """Return whether an amount fits beside what is spent and, unless something else is given, reserved."""
        limits = self.limits
        dollars, requests, tokens = beside or self._held()
        return (
            (limits.dollars is None or self._dollars + dollars + amount.dollars <= limits.dollars + self._slack)
            and (limits.requests is None or self._requests + requests + amount.requests <= limits.requests)
            and (limits.tokens is None or self._tokens + tokens + amount.tokens <= limits.tokens)
        )

    def _held(self) -> Spend:
        return Spend(self._held_dollars, self._in_flight + self._again, self._held_tokens)

    def _refusal(self, amount: Spend) -> str:
        spent = Spend(self._dollars, self._requests, self._tokens)
        return explain(self.limits, spent, amount, self._held())

    def _error(self, refusal: str) -> BudgetExceededError:
        return BudgetExceededError(refusal, current_cost=self._dollars, budget_limit=self.limits.dollars or 0.0)
