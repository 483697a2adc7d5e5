"""Several endpoints as one: who is asked next, who is left alone for a while, and who waits for whom.

Whether an endpoint is well is the router's matter, which applications may use by itself; how many requests it may have
under way, and who waits for a place, is this room's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..cancel import CancelToken
from ..errors import AllEndpointsFailed, FlexLLMError, RequestCancelled, RequestError
from ..fork import forget_in_child
from ..health import EndpointHealth
from ..language import _, mark, with_semicolons
from ..limits import Gate, RateLimit, is_refusal
from ..limits.line import Line, Turn
from ..retry import blame
from ..router import ProviderRouter
from .choice import PoolOptions
from .endpoint import Endpoint
from .reasons import absence, cools_for, failure, short_reason, shown_seconds
from .wish import Wish

log = logging.getLogger(__name__)

HELD_UP = 1.0
"""Seconds that a row waits in the line of a gate at most, by what its rates let through. It cannot go elsewhere from there;
the less it waits there, the fewer are on their way, and their media may have to be read first."""


class Balancer:
    """Chooses among several endpoints. May be shared by threads; those that wait are served in order.

    Args:
        endpoints: At least one.
        router: Holds their health; made of the same endpoints.
        options: The strategy is the router's.
        sleep: Sleeps for `Turn.seconds` at most, and less if the turn is woken.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        options: PoolOptions,
        *,
        router: ProviderRouter[Endpoint] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[Turn], object] = Turn.sleep,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.options = options
        self.router = router or ProviderRouter(
            endpoints,
            options.load_balance,
            failure_threshold=options.failure_threshold,
            recovery_time=options.recovery_time,
            load=self._load,
            clock=clock,
        )
        self._takes_first = options.load_balance == "fallback"
        self._most = options.total_concurrency_limit or sum(one.gate.limit.concurrency for one in endpoints)
        self._pace = None
        if options.total_max_qps is not None:
            # It holds nobody back but by the rate: places are counted here.
            limit = RateLimit(concurrency=1_000_000, max_qps=options.total_max_qps, adaptive=False)
            self._pace = Gate(limit, clock=clock, sleep=sleep)
        self._errors: dict[Endpoint, RequestError] = {}  # the last failure of each that was not well since
        self._clock, self._sleep = clock, sleep
        self._after_fork_in_child()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._given_back: deque[Endpoint] = deque()  # places that nobody has counted as free yet
        self._line = Line()
        self._waiting: dict[Turn, Wish] = {}
        self._taken = dict.fromkeys(self.endpoints, 0)
        self._taken_in_all = 0

    @property
    def attempts_at_least(self) -> int:
        """One at each endpoint, where rows may go on to others."""
        return len(self.endpoints) if self.options.fallback else 1

    def take(
        self, failed: Sequence[Endpoint], cancel: CancelToken | None, until: float | None, distribute: bool = True
    ) -> Endpoint:
        """Return whom to ask now; see `Choice.take`. While all cool, the first to return is waited for."""
        spreads = distribute and not self._takes_first
        patience = None if until is None else until - self._clock()
        while True:
            now = self._clock()
            if patience is not None and not failed:
                until = now + patience  # its time has not begun, however long it has waited for the rate
            endpoint = self._place(Wish(failed, until, now, spreads), cancel)
            if self._pace is None:
                return endpoint
            try:
                with self._pace.permit(cancel, again=bool(failed), until=until if failed else None):
                    pass
            except BaseException:  # the end of the wait, or Ctrl-C: the place is free again
                self._give_back(endpoint)
                raise
            if self._may_return_in(endpoint) <= 0.0:
                return endpoint
            self._give_back(endpoint)  # it has failed other rows while this one waited for the rate

    def _place(self, wish: Wish, cancel: CancelToken | None) -> Endpoint:
        turn: Turn | None = None
        try:
            with self._lock:
                endpoint = None if self._line else self._choose(wish)
                if endpoint is not None:
                    wish.given = self._reserve(endpoint)
                    return endpoint
                turn = Turn(again=bool(wish.failed))
                self._waiting[turn] = wish
                self._line.join(turn)
                if self._line.first is not turn:
                    self._serve()  # those before it may wait for an endpoint that it does not need
            return self._stand_in_line(turn, wish, cancel)
        except BaseException:  # the end of the wait, also by Ctrl-C: nobody else may lose his place by it
            self._abandon(turn, wish)
            raise
        finally:
            if self._given_back:
                self._settle()

    def _give_back(self, endpoint: Endpoint) -> None:
        self.give(endpoint, RequestCancelled("not sent", attempts=0))

    def give(self, endpoint: Endpoint, error: BaseException | None) -> None:
        """Take note of how an attempt ended, and let in who waits for a place."""
        try:
            self._mark(endpoint, error)
        finally:
            self._given_back.append(endpoint)
            self._settle()

    def _settle(self) -> None:
        """Free the places that were given back; whoever holds the lock does it when he has released it.

        It never waits: the garbage collector may close a stream that nobody reads any more, and so give its place back, in
        a thread that holds this lock, or another that its holder waits for.
        """
        lock: Any = self._lock
        while self._given_back and not lock._is_owned():  # as threading.Condition asks locks
            try:
                if not lock.acquire(blocking=False):
                    return
                if self._given_back:
                    self._free(self._given_back[0])
            finally:
                if lock._is_owned():  # also where Ctrl-C came at once
                    lock.release()

    def has_other(self, failed: Sequence[Endpoint], until: float | None) -> bool:
        """Return whether an endpoint that has not failed the row can be asked now, or by `until`."""
        if not self.options.fallback:
            return False
        patience = 0.0 if until is None else max(0.0, until - self._clock())
        return any(self._returns_in(one) <= patience for one in self.endpoints if one not in failed)

    def spare(self, busy: Endpoint) -> Endpoint | None:
        """Return, and reserve, another endpoint that is well; the same one if it is the only one.

        One with room if there is any. In a batch there is none, for each row under way has a place: then the second request
        waits in a gate for the next, unless the places of all endpoints together are limited.
        """
        with self._lock:
            is_full = self._taken_in_all >= self._most
            if is_full and self.options.total_concurrency_limit is not None:
                return None
            others = [one for one in self.endpoints if one is not busy] or [busy]
            ready = [one for one in others if self._is_ready(one) and not self._is_slow(one)]
            with_room = [] if is_full else [one for one in ready if self._has_room(one)]
            found = self.router.choose(lambda one: one in (with_room or ready))
            if found is not None:
                self._reserve(found)
        self._settle()
        return found

    def verdict(self, failed: Sequence[Endpoint], errors: Sequence[RequestError], attempts: int) -> FlexLLMError:
        """Return the last error where it decides, or was the only endpoint's; else all of them as one."""
        last, latest = errors[-1], dict(zip(failed, errors, strict=True))
        is_alone = len(self.endpoints) == 1 or not self.options.fallback
        if blame(last) == "request" or (len(latest) == 1 and is_alone):
            return last
        said = [f"{one.place}: {short_reason(error, one.place)}" for one, error in latest.items()]
        said += [self._absence(one) for one in self.endpoints if one not in latest and self._returns_in(one)]
        why = failure(len(latest), len(self.endpoints), attempts, said)
        return AllEndpointsFailed(why, errors=errors, attempts=attempts)

    def health(self) -> tuple[EndpointHealth, ...]:
        """Return how each endpoint does."""
        return tuple(one.health(self.router.state(one), self.router.returns_in(one)) for one in self.endpoints)

    # --- health

    def _mark(self, endpoint: Endpoint, error: BaseException | None) -> None:
        router = self.router
        if error is None:
            if self._is_refused(endpoint):
                return  # an answer to what was sent before the key, or the account, was refused proves nothing
            if router.mark_success(endpoint):
                log.warning("%s answers again", endpoint.place)
            if self._errors:
                self._errors.pop(endpoint, None)
        elif not isinstance(error, RequestError) or not error.attempts or isinstance(error, RequestCancelled):
            router.release_probe(endpoint)
        elif (kind := blame(error)) == "request":  # it answered, and is well
            router.mark_success(endpoint)
        else:
            self._errors[endpoint] = error
            if is_refusal(error) and kind == "moment":  # which closes its gate, and is no failure
                router.release_probe(endpoint)
            else:
                was = router.state(endpoint)
                if router.mark_failed(endpoint, cool_for=cools_for(error) if kind == "endpoint" else None):
                    # Those that were on their way when it began to cool meet the same, and tell nothing new.
                    level = logging.DEBUG if was == "cooling" else logging.WARNING
                    seconds = shown_seconds(router.returns_in(endpoint))
                    log.log(level, mark("%s is left alone for %s s: %s"), endpoint.place, seconds, error)

    def _is_refused(self, endpoint: Endpoint) -> bool:
        error = self._errors.get(endpoint) if self._errors else None
        return error is not None and blame(error) == "endpoint" and self.router.state(endpoint) == "cooling"

    def _load(self, endpoint: Endpoint) -> float:
        """Return how long a new request would take there, by its latency and the places that are taken."""
        return (self._taken[endpoint] + 1) / endpoint.gate.limit.concurrency * (endpoint.passages.latency or 0.001)

    def _returns_in(self, endpoint: Endpoint) -> float:
        return max(self.router.returns_in(endpoint), endpoint.gate.closed_for())

    def _may_return_in(self, endpoint: Endpoint) -> float:
        """The same, but 0.0 for one that is being tried: the answer to that may come at any moment."""
        return endpoint.gate.closed_for() if self.router.state(endpoint) == "probing" else self._returns_in(endpoint)

    def _opens_in(self, endpoint: Endpoint) -> float:
        """Return the seconds until it can be asked, as far as that is a matter of time alone."""
        return max(self._returns_in(endpoint), self._held_up_for(endpoint) if self._has_places(endpoint) else 0.0)

    # --- under the lock

    def _has_places(self, endpoint: Endpoint) -> bool:
        return self._taken[endpoint] < endpoint.gate.limit.concurrency

    def _has_room(self, endpoint: Endpoint) -> bool:
        return self._has_places(endpoint) and self._held_up_for(endpoint) <= 0.0

    def _held_up_for(self, endpoint: Endpoint) -> float:
        """Return the seconds until its gate is no reason to wait here, or to go elsewhere."""
        ahead = max(0, self._taken[endpoint] - endpoint.passages.in_flight)
        return max(endpoint.gate.closed_for(), endpoint.gate.passes_in(ahead) - HELD_UP)

    def _choose(self, wish: Wish) -> Endpoint | None:
        """Return whom a row may be sent to at once, None if it has to wait."""
        if self._taken_in_all >= self._most:
            return None
        wanted = self._wanted(wish)
        if wish.spreads:
            return self.router.choose(lambda one: one in wanted and self._has_room(one))
        # Its place is waited for here and not in its gate: should it fail meanwhile, the row can still go elsewhere.
        if self._takes_first or not self._is_ready(wish.choice):
            wish.choice = self.router.choose(
                lambda one: one in wanted and ((self._is_ready(one) and not self._is_slow(one)) or self._has_room(one))
            )
        return wish.choice if wish.choice is not None and self._has_room(wish.choice) else None

    def _is_ready(self, endpoint: Endpoint | None) -> bool:
        return endpoint is not None and self.router.state(endpoint) == "ready" and not endpoint.gate.closed_for()

    def _is_slow(self, endpoint: Endpoint) -> bool:
        """Return whether what it refused has taught so low a rate that waiting for it is worse than going elsewhere."""
        return endpoint.gate.learned() is not None and endpoint.gate.passes_in(0) > HELD_UP

    def _wanted(self, wish: Wish) -> Sequence[Endpoint]:
        """Return the endpoints to which a row may go: those that have not failed it, if any of them is well."""
        if not wish.failed:
            return self.endpoints
        if not self.options.fallback:
            return wish.failed[-1:]
        fresh = [one for one in self.endpoints if one not in wish.failed]
        if any(self._returns_in(one) <= 0.0 for one in fresh):
            return fresh
        return self.endpoints

    def _free(self, endpoint: Endpoint) -> None:
        self._taken[endpoint] -= 1
        self._taken_in_all -= 1
        self._given_back.popleft()
        if self._line:
            self._serve()
            if self._line and self._has_places(endpoint):
                self._line.wake_first()  # nobody could use the place: it may have to wait for another moment now

    def _reserve(self, endpoint: Endpoint) -> Endpoint:
        self._taken[endpoint] += 1
        self._taken_in_all += 1
        return endpoint

    def _serve(self) -> None:
        """Give places to those that wait, in their order, as far as there are any for them."""
        if not any(self._has_room(one) for one in self.endpoints):
            return
        first = self._line.first
        for turn in self._line:
            if self._taken_in_all >= self._most:
                break
            wish = self._waiting[turn]
            endpoint = self._choose(wish)
            if endpoint is not None:
                wish.given = self._reserve(endpoint)
                self._leave(turn)
                turn.wake()
            elif wish.spreads and not wish.failed:
                break  # it would take any, and so would all behind it
        if self._line and self._line.first is not first:
            self._line.first.wake()  # whoever is first keeps an eye on the clock

    def _leave(self, turn: Turn) -> None:
        self._line.leave(turn)
        del self._waiting[turn]

    # --- in line

    def _stand_in_line(self, turn: Turn, wish: Wish, cancel: CancelToken | None) -> Endpoint:
        try:
            if cancel is not None:
                cancel.on_stop(turn.stop)
            while (endpoint := self._look(turn, wish)) is None:
                self._settle()
                self._sleep(turn)
            return endpoint
        finally:
            if cancel is not None:
                cancel.off_stop(turn.stop)

    def _abandon(self, turn: Turn | None, wish: Wish) -> None:
        """Undo whatever was done for a row that does not wait any longer."""
        with self._lock:
            if turn is not None:
                self._waiting.pop(turn, None)
                if turn in self._line:
                    self._line.leave(turn)
            if wish.given is not None:
                given, wish.given = wish.given, None
                self._taken[given] -= 1
                self._taken_in_all -= 1
                self.router.release_probe(given)
            if self._line:
                self._serve()
                self._line.wake_first()

    def _look(self, turn: Turn, wish: Wish) -> Endpoint | None:
        """Return what somebody gave this turn; else say how long it is to sleep, and return None."""
        with self._lock:
            if wish.given is None and turn.is_over:
                raise RequestCancelled(_("stopped while waiting for its turn; it was not sent"), attempts=0)
            is_first = wish.given is None and self._line.first is turn
            if is_first:
                self._serve()
            if wish.given is not None:
                return wish.given
            now = self._clock()
            soonest = min(self._may_return_in(one) for one in self._wanted(wish))
            patience = wish.patience(now, is_for_room=soonest <= 0.0)
            if patience <= 0.0 or soonest > patience:
                raise self._out_of_service(patience)
            returns = [seconds for one in self.endpoints if (seconds := self._opens_in(one)) > 0.0]
            turn.prepare(min([patience, *returns]) if is_first else patience)
            return None

    def _out_of_service(self, patience: float) -> AllEndpointsFailed:
        reasons = with_semicolons(self._absence(one) for one in self.endpoints)
        seconds = max(0.0, patience)
        why = _("no endpoint can be asked within {seconds:.0f} s: {reasons}", seconds=seconds, reasons=reasons)
        return AllEndpointsFailed(why, errors=list(self._errors.values()), attempts=0)

    def _absence(self, endpoint: Endpoint) -> str:
        """Return why an endpoint cannot be asked, for people."""
        return absence(endpoint.place, self._returns_in(endpoint), self._errors.get(endpoint))
