"""What a mock server has received: counts, and a log of the requests. Not safe to share between threads."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, TypedDict

from .replies import ReceivedRequest, parse_json

MAX_LOG = 10_000  # requests kept
MAX_LOG_BODIES = 64 * 1024 * 1024  # bytes of bodies kept; the oldest requests go first
MAX_PROMPTS = 200_000  # distinct prompts counted
SECRET_HEADERS = ("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")


class MockStats(TypedDict):
    """What the server has received; the same as `GET /mock/requests`.

    `received` = `answered` (a 200 handed to the kernel whole) + `failed` (anything else, also a cut or a client that
    went away) + those under way. All three count chat requests; `connections` and its kin count every client.
    `truncated` says that a map is full (200,000 prompts) and further prompts are missing from it.
    """

    received: int
    answered: int
    failed: int
    open_connections: int
    peak_connections: int
    connections: int
    peak_in_flight: int
    prompts: dict[str, int]
    answered_prompts: dict[str, int]
    truncated: bool


class Exchange:
    """A request and what became of it: `status` is that of the reply, `is_complete` says that all of it was sent."""

    __slots__ = ("is_chat", "is_complete", "ledger", "prompt", "request", "status")

    def __init__(self, ledger: Ledger, request: ReceivedRequest, prompt: str | None, is_chat: bool) -> None:
        self.ledger = ledger
        self.request = request
        self.prompt = prompt
        self.is_chat = is_chat
        self.status: int | None = None
        self.is_complete = False

    def end(self, is_complete: bool) -> None:
        """Count it as answered or failed."""
        self.is_complete = is_complete
        if self.is_chat:
            self.ledger.end(self)


class Ledger:
    """The counts since the start or the last reset. A reset replaces it; what is under way ends in the old one."""

    def __init__(self, open_connections: int = 0) -> None:
        self.log: deque[Exchange] = deque()
        self._log_bodies = 0
        self._stats = MockStats(
            received=0,
            answered=0,
            failed=0,
            open_connections=open_connections,
            peak_connections=open_connections,
            connections=0,
            peak_in_flight=0,
            prompts={},
            answered_prompts={},
            truncated=False,
        )

    def stats(self) -> MockStats:
        """Return a copy of the counts."""
        prompts, answered_prompts = dict(self._stats["prompts"]), dict(self._stats["answered_prompts"])
        return {**self._stats, "prompts": prompts, "answered_prompts": answered_prompts}

    def connect(self) -> None:
        """Count a client that has come."""
        stats = self._stats
        stats["connections"] += 1
        stats["open_connections"] += 1
        stats["peak_connections"] = max(stats["peak_connections"], stats["open_connections"])

    def disconnect(self) -> None:
        """Count a client that has gone."""
        self._stats["open_connections"] -= 1

    def begin(self, request: ReceivedRequest, prompt: str | None, is_chat: bool) -> Exchange:
        """Count and log a request that has arrived."""
        exchange = Exchange(self, request, prompt, is_chat)
        self.log.append(exchange)
        self._log_bodies += len(request.body)
        while len(self.log) > MAX_LOG or (self._log_bodies > MAX_LOG_BODIES and len(self.log) > 1):
            self._log_bodies -= len(self.log.popleft().request.body)
        if is_chat:
            stats = self._stats
            stats["received"] += 1
            in_flight = stats["received"] - stats["answered"] - stats["failed"]
            stats["peak_in_flight"] = max(stats["peak_in_flight"], in_flight)
            self._count("prompts", prompt)
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Count what became of a chat request."""
        if exchange.is_complete and exchange.status == 200:
            self._stats["answered"] += 1
            self._count("answered_prompts", exchange.prompt)
        else:
            self._stats["failed"] += 1

    def _count(self, which: Literal["prompts", "answered_prompts"], prompt: str | None) -> None:
        counts = self._stats[which]
        if prompt in counts:
            counts[prompt] += 1
        elif prompt is not None and len(counts) < MAX_PROMPTS:
            counts[prompt] = 1
        elif prompt is not None:
            self._stats["truncated"] = True

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log as JSON-able values, oldest first, keys masked."""
        return [_log_line(exchange) for exchange in self.log]


def _log_line(exchange: Exchange) -> dict[str, Any]:
    request = exchange.request
    return {
        "time_unix": request.time_unix,
        "method": request.method,
        "path": request.path,
        "status": exchange.status,
        "complete": exchange.is_complete,
        "prompt": exchange.prompt,
        "headers": {name: _masked(name, value) for name, value in request.headers.items()},
        "body": parse_json(request.body),
    }


def _masked(name: str, value: str) -> str:
    """Hide a key but for its scheme, and its last four characters if it is long enough to spare them."""
    if name not in SECRET_HEADERS:
        return value
    scheme, space, key = value.rpartition(" ")
    return f"{scheme}{space}***{key[-4:] if len(key) > 12 else ''}"
