"""What a mock server has received: counts, and the requests themselves. Not safe to share between threads."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, TypedDict

from .limits import Load
from .replies import ReceivedRequest

MAX_KEPT = 10_000  # requests kept
MAX_KEPT_BYTES = 64 * 1024 * 1024  # of their bodies; the oldest requests go first
MAX_PROMPTS = 200_000  # distinct prompts counted
MAX_MODELS = 1_000  # distinct models counted
MAX_ARRIVALS = 100_000  # requests in a second that are told apart


class MockStats(TypedDict):
    """What the server has received; the same as `GET /mock/requests`.

    `received` = `answered` (a 200 handed to the kernel whole) + `failed` (anything else, also a cut or a client that
    went away) + those under way. All three count chat requests; `connections` and its kin count every client.

    `prompts`, `answered_prompts` and `models` count chat requests by what they ask, `statuses` the replies to them by
    status, as soon as they end: one without a head, such as that of a client left hanging, is in none. `faults` counts
    faults by name, of a script too. `truncated` says that a map is full (200,000 prompts, 1,000 models) and further
    names are missing from it.

    `first_at` and `last_at` are the Unix seconds at which the first and the last chat request were complete, None before
    the first. `rate` is (N - 1) / (last - first), in requests per second; None with fewer than two. `peak_per_second` is
    the largest number of chat requests in any second.
    """

    received: int
    answered: int
    failed: int
    open_connections: int
    peak_connections: int
    connections: int
    peak_in_flight: int
    first_at: float | None
    last_at: float | None
    rate: float | None
    peak_per_second: int
    statuses: dict[str, int]
    faults: dict[str, int]
    models: dict[str, int]
    prompts: dict[str, int]
    answered_prompts: dict[str, int]
    truncated: bool


_Map = Literal["statuses", "faults", "models", "prompts", "answered_prompts"]
_MAPS: tuple[_Map, ...] = ("statuses", "faults", "models", "prompts", "answered_prompts")


class Exchange:
    """A request under way. `status` is that of its reply. `load` is what a chat request is part of meanwhile."""

    __slots__ = ("_ledger", "_load", "_prompt", "status")

    def __init__(self, ledger: Ledger, prompt: str | None = None, load: Load | None = None) -> None:
        self._ledger = ledger
        self._prompt = prompt
        self._load = load
        self.status = 0
        if load is not None:
            load.count += 1

    def end(self, is_complete: bool, has_head: bool = True) -> None:
        """Count a chat request as answered, if all of a 200 was sent, or as failed.

        Args:
            has_head: Whether the status was sent at all.
        """
        if self._load is not None:
            self._load.count -= 1
            self._ledger.end(self._prompt, self.status if has_head else None, is_complete)


class Ledger:
    """The counts since the start or the last reset. A reset replaces it; what is under way ends in the old one."""

    def __init__(self, open_connections: int = 0) -> None:
        self.requests: deque[ReceivedRequest] = deque()
        self._kept_bytes = 0
        self._arrivals: deque[float] = deque(maxlen=MAX_ARRIVALS)  # of the last second, monotonic
        self._first_chat: ReceivedRequest | None = None
        self._last_chat: ReceivedRequest | None = None
        self._stats = MockStats(
            received=0,
            answered=0,
            failed=0,
            open_connections=open_connections,
            peak_connections=open_connections,
            connections=0,
            peak_in_flight=0,
            first_at=None,
            last_at=None,
            rate=None,
            peak_per_second=0,
            statuses={},
            faults={},
            models={},
            prompts={},
            answered_prompts={},
            truncated=False,
        )

    def stats(self) -> MockStats:
        """Return a copy of the counts."""
        stats: MockStats = {**self._stats}
        for which in _MAPS:
            stats[which] = dict(stats[which])
        first, last = self._first_chat, self._last_chat
        if first is not None and last is not None:
            stats["first_at"], stats["last_at"] = first.time_unix, last.time_unix
            if last.time > first.time:
                stats["rate"] = (stats["received"] - 1) / (last.time - first.time)
        return stats

    def connect(self) -> None:
        """Count a client that has come."""
        stats = self._stats
        stats["connections"] += 1
        stats["open_connections"] += 1
        stats["peak_connections"] = max(stats["peak_connections"], stats["open_connections"])

    def disconnect(self) -> None:
        """Count a client that has gone."""
        self._stats["open_connections"] -= 1

    def begin(self, request: ReceivedRequest) -> None:
        """Keep a request that has arrived."""
        self.requests.append(request)
        self._kept_bytes += len(request.body)
        while len(self.requests) > MAX_KEPT or (self._kept_bytes > MAX_KEPT_BYTES and len(self.requests) > 1):
            self._kept_bytes -= len(self.requests.popleft().body)

    def begin_chat(self, request: ReceivedRequest, prompt: str | None, model: str | None, load: Load) -> Exchange:
        """Keep a request that asks for a completion, and count it."""
        self.begin(request)
        stats, arrivals, now = self._stats, self._arrivals, request.time
        stats["received"] += 1
        in_flight = stats["received"] - stats["answered"] - stats["failed"]
        if in_flight > stats["peak_in_flight"]:
            stats["peak_in_flight"] = in_flight
        self._last_chat = request
        if self._first_chat is None:
            self._first_chat = request
        arrivals.append(now)
        while arrivals[0] <= now - 1:
            arrivals.popleft()
        if len(arrivals) > stats["peak_per_second"]:
            stats["peak_per_second"] = len(arrivals)
        self._count("prompts", prompt, MAX_PROMPTS)
        self._count("models", model, MAX_MODELS)
        return Exchange(self, prompt, load)

    def strike(self, fault: str) -> None:
        """Count a fault."""
        self._count("faults", fault)

    def end(self, prompt: str | None, status: int | None, is_complete: bool) -> None:
        """Count what became of a chat request. `status`: None if none was sent."""
        if is_complete and status == 200:
            self._stats["answered"] += 1
            self._count("answered_prompts", prompt, MAX_PROMPTS)
        else:
            self._stats["failed"] += 1
        if status is not None:
            self._count("statuses", str(status))

    def _count(self, which: _Map, name: str | None, most: float = math.inf) -> None:
        counts = self._stats[which]
        if name in counts:
            counts[name] += 1
        elif name is not None and len(counts) < most:
            counts[name] = 1
        elif name is not None:
            self._stats["truncated"] = True
