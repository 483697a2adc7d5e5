"""Which provider is asked next, and which is left alone for a while: the states and strategies of a pool.

A provider is ready until it has failed `failure_threshold` times in a row. Then it cools for `recovery_time` seconds, after
which it is due: one caller gets it as a probe, and until that one tells how it went, nobody else does.

    state             a success   a failure                         chosen
    ready             ready       cooling, at the threshold         ready
    cooling           ready       cooling, no longer than it was    no
    cooling and due   ready       cooling and due                   probing
    probing           ready       cooling                           no

A probe whose caller never tells is due again after another `recovery_time`. A success counts also where its request was
sent before the cooling began: what answers is not left alone. A failure with a time of its own (`cool_for`) cools at once.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic

from ..errors import ConfigError
from ..fork import forget_in_child
from ..health import State
from ..language import _
from ..wire import NO_KEY, Target, mask_key
from .members import Member, P, check_amount, is_amount, members_of

STRATEGIES = ("round_robin", "weighted", "random", "fallback", "least_busy")

DEFAULT_FAILURE_THRESHOLD = 3
"""Failures in a row; from the specification of the pool, as is the next."""

DEFAULT_RECOVERY_TIME = 60.0


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One server that a router may choose.

    Attributes:
        base_url: With the version path, kept as written.
        api_key: `repr` masks it.
        weight: Its share relative to the others' where the strategy goes by weight; 0 is asked only if no other can be.
        model: What is asked there, None if each call says it.
        enabled: False leaves it out.
    """

    base_url: str
    api_key: str = NO_KEY
    weight: float = 1.0
    model: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str):
            raise ConfigError(_("api_key must be a text; leave it out where the server asks for none"))
        Target(base_url=self.base_url, api_key=self.api_key)  # refuses what cannot be asked
        check_amount("weight", self.weight)
        if self.model is not None and not (isinstance(self.model, str) and self.model):
            raise ConfigError(_("model={model!r} must be the name of a model, or None", model=self.model))
        if not isinstance(self.enabled, bool):
            raise ConfigError(_("enabled={enabled!r} must be True or False", enabled=self.enabled))

    def __repr__(self) -> str:
        return (
            f"ProviderConfig({self.base_url!r}, api_key={mask_key(self.api_key)!r}, weight={self.weight!r}, "
            f"model={self.model!r}, enabled={self.enabled!r})"
        )


_turn = attrgetter("turn")


class ProviderRouter(Generic[P]):
    """Chooses a provider for each request and remembers who failed; what a pool chooses its endpoints by.

    May be shared by threads. Providers are told apart by identity, so that two equal ones stay two.

    Args:
        providers: Whatever has a `weight`, in the order of preference; those with `enabled=False` are left out.
        strategy: "round_robin" takes each in turn, "weighted" goes by chance and weight, "random" by chance alone,
            "fallback" takes the first that can be asked, "least_busy" the one with the smallest `load / weight`, but one
            that is due before all: its old load tells nothing.
        failure_threshold: Failures in a row after which a provider cools.
        recovery_time: Seconds that it then cools.
        load: How busy a provider is, for "least_busy": such as the requests under way, and one, times the seconds that
            an answer takes of late. Called without the router's lock.
        clock: Seconds that only go up.
        rng: What chance goes by.

    Raises:
        ConfigError: An argument is wrong, or no provider is enabled. Every method: it does not hold that provider.
    """

    def __init__(
        self,
        providers: Iterable[P],
        strategy: str = "round_robin",
        failure_threshold: int = DEFAULT_FAILURE_THRESHOLD,
        recovery_time: float = DEFAULT_RECOVERY_TIME,
        *,
        load: Callable[[P], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        _check_options(strategy, failure_threshold, recovery_time)
        if strategy == "least_busy" and load is None:
            raise ConfigError(_("strategy='least_busy' needs load, a function that tells how busy a provider is"))
        self._strategy = strategy
        self._failure_threshold = failure_threshold
        self._recovery_time = float(recovery_time)
        self._load = load if strategy == "least_busy" else None
        self._clock = clock
        self._rng = rng or random.Random()
        self._reseeds = rng is None
        self._members = members_of(providers)
        # Ids stay unique: the members keep the providers alive.
        self._by_id = {id(member.provider): member for member in self._members}
        self._turn = 0
        # Re-entrant, for the garbage collector may close a stream that was a probe in a thread that holds the lock.
        self._lock = threading.RLock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        if self._reseeds:  # else all children would choose alike
            self._rng.seed()
        for member in self._members:
            if member.is_probing:  # the parent does
                member.settle(self._clock())

    def __repr__(self) -> str:
        return f"ProviderRouter(providers={len(self._members)}, strategy={self._strategy!r})"

    def get_next(self) -> P:
        """Return the provider to ask now; where none can be, the one that is due back first, still cooling."""
        loads = self._loads(self._members)
        with self._lock:
            member = self._take(self._members, loads)
            if member is None:
                member = min(self._members, key=lambda one: (one.until or 0.0, one.turn))
                self._give_turn(member)
        return member.provider

    def choose(self, among: Callable[[P], bool] | None = None) -> P | None:
        """Return the provider to ask now, or None if none of them can be.

        Args:
            among: Whether a provider is one of those to choose from; None takes all. Called without the router's lock.
        """
        members = self._among(among)
        loads = self._loads(members)
        with self._lock:
            member = self._take(members, loads)
        return None if member is None else member.provider

    def mark_success(self, provider: P) -> bool:
        """Tell that a request was answered; return whether that made the provider ready again."""
        member = self._member(provider)
        if not member.failures:  # the way of nearly every request: no lock for it. Who cools has failed.
            return False
        with self._lock:
            returns = member.until is not None
            member.settle(None)
            member.failures = 0  # last: an interrupt in between leaves no member that cools without a failure
        return returns

    def mark_failed(self, provider: P, *, cool_for: float | None = None) -> bool:
        """Tell that a request failed; return whether that made the provider cool, or cool for longer.

        Args:
            cool_for: Seconds that it cools from now on, whatever the threshold; None goes by the threshold and
                `recovery_time`. A time that ends before the provider is due anyhow changes nothing.
        """
        member = self._member(provider)
        if cool_for is not None:
            check_amount("cool_for", cool_for)
        with self._lock:
            member.failures += 1
            until = self._cools_until(member, cool_for)
            if until is not None:
                member.settle(until)
        return until is not None

    def release_probe(self, provider: P) -> None:
        """Tell that a request ended without a verdict (it was cancelled): if it was the probe, the next one may be.

        Nothing happens where the provider is not probing. Where it is, but the probe was another's request, one probe
        more is sent at worst.
        """
        member = self._member(provider)
        if member.is_probing:
            with self._lock:
                if member.is_probing:
                    member.settle(self._clock())

    def get_all_healthy(self) -> list[P]:
        """Return the providers that can be asked now, ready or due, in the order given."""
        with self._lock:
            now = self._clock()
            return [member.provider for member in self._members if member.is_open(now)]

    def state(self, provider: P) -> State:
        """Return a provider's state; one that is due but not yet tried counts as cooling."""
        member = self._member(provider)
        with self._lock:
            return member.state(self._clock())

    def returns_in(self, provider: P) -> float:
        """Return the seconds until this one can be asked, 0.0 if it can now.

        For one that is probing these are the seconds until its probe is given up; its verdict may come sooner.
        """
        member = self._member(provider)
        with self._lock:
            return member.returns_in(self._clock())

    def next_return(self, among: Callable[[P], bool] | None = None) -> float | None:
        """Return the least `returns_in` of those (`among` as in `choose`) that cool or probe, None if all are ready."""
        members = self._among(among)
        with self._lock:
            now = self._clock()
            return min((member.returns_in(now) for member in members if member.until is not None), default=None)

    @property
    def stats(self) -> dict[str, Any]:
        """How the providers do, JSON-able and without keys.

        `total`, `healthy` (how many can be asked now), `strategy`, and `providers`, a list in the order given of
        `base_url`, `model` (None where a provider has none), `weight`, `state`, `failures` (in a row), `returns_in`.
        """
        with self._lock:
            now = self._clock()
            return {
                "total": len(self._members),
                "healthy": sum(member.is_open(now) for member in self._members),
                "strategy": self._strategy,
                "providers": [
                    {
                        "base_url": getattr(member.provider, "base_url", None),
                        "model": getattr(member.provider, "model", None),
                        "weight": member.provider.weight,
                        "state": member.state(now),
                        "failures": member.failures,
                        "returns_in": member.returns_in(now),
                    }
                    for member in self._members
                ],
            }

    def _member(self, provider: P) -> Member[P]:
        try:
            return self._by_id[id(provider)]
        except KeyError:
            raise ConfigError(
                _(
                    "this router does not hold that {kind}; give the very object that it was made with",
                    kind=type(provider).__name__,
                )
            ) from None

    def _among(self, among: Callable[[P], bool] | None) -> Sequence[Member[P]]:
        return self._members if among is None else [one for one in self._members if among(one.provider)]

    def _loads(self, members: Sequence[Member[P]]) -> Mapping[Member[P], float] | None:
        if self._load is None:
            return None
        # Before the lock is taken: a foreign function may take locks of its own.
        return {one: self._load(one.provider) / one.share if one.share else math.inf for one in members}

    def _take(self, members: Sequence[Member[P]], loads: Mapping[Member[P], float] | None) -> Member[P] | None:
        """Choose one of those that are ready or due; one that is due becomes a probe. Under the lock."""
        now = self._clock()
        able = [one for one in members if one.is_open(now)]
        if not able:
            return None
        member = able[0] if len(able) == 1 else self._prefer(able, loads)
        self._give_turn(member)
        if member.until is not None:
            member.is_probing = True
            member.until = now + self._recovery_time
        return member

    def _prefer(self, able: list[Member[P]], loads: Mapping[Member[P], float] | None) -> Member[P]:
        if self._strategy == "round_robin":
            # Who waits longest, not the next position: where some are left out, their neighbours get no more than others.
            return min(able, key=_turn)
        if self._strategy == "weighted" and (weighty := [one for one in able if one.share]):
            return self._rng.choices(weighty, [one.share for one in weighty])[0]
        if self._strategy in ("weighted", "random"):
            return self._rng.choice(able)
        if loads is not None:
            due = [one for one in able if one.until is not None]
            return min(due, key=_turn) if due else min(able, key=lambda one: (loads[one], one.turn))
        return able[0]  # fallback

    def _give_turn(self, member: Member[P]) -> None:
        self._turn += 1
        member.turn = self._turn

    def _cools_until(self, member: Member[P], cool_for: float | None) -> float | None:
        """Return until when a member that has just failed cools, None if it stays as it is. Under the lock."""
        cools = None if member.is_probing else member.until
        if cool_for is not None:
            until = self._clock() + cool_for
            return until if cools is None or until > cools else None
        # While it cools, the failures of requests that were sent before are no news.
        is_enough = member.is_probing or member.failures >= self._failure_threshold
        return self._clock() + self._recovery_time if is_enough and cools is None else None


def create_router_from_urls(
    urls: Iterable[str], api_key: str = NO_KEY, strategy: str = "round_robin"
) -> ProviderRouter[ProviderConfig]:
    """Return a router over servers that share a key; a URL that is given twice is two providers.

    Raises:
        ConfigError: A URL, the key or the strategy is wrong, or there is no URL.
    """
    if isinstance(urls, (str, bytes)) or not isinstance(urls, Iterable):
        raise ConfigError(_("urls must be a list of base URLs, also where it is only one"))
    return ProviderRouter([ProviderConfig(url, api_key) for url in urls], strategy)


def _check_options(strategy: object, failure_threshold: object, recovery_time: object) -> None:
    if strategy not in STRATEGIES:
        raise ConfigError(
            _(
                "strategy={strategy!r} is not known; it can be {known}",
                strategy=strategy,
                known=", ".join(STRATEGIES),
            )
        )
    if not (is_amount(failure_threshold) and isinstance(failure_threshold, int) and failure_threshold >= 1):
        raise ConfigError(
            _(
                "failure_threshold={failure_threshold!r} must be a whole number of at least 1",
                failure_threshold=failure_threshold,
            )
        )
    check_amount("recovery_time", recovery_time)
