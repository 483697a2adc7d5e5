"""What a mock server has received: counts, and the requests themselves. Not safe to share between threads."""

from __future__ import annotations

from collections import deque
from typing import Literal, TypedDict

from .replies import ReceivedRequest

MAX_KEPT = 10_000  # requests kept
MAX_KEPT_BYTES = 64 * 1024 * 1024  # of their bodies; the oldest requests go first
MAX_PROMPTS = 200_000  # distinct prompts counted


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
    """A request under way. `status` is that of its reply."""

    def __init__(self, ledger: Ledger, prompt: str | None, is_chat: bool) -> None:
        self._ledger = ledger
        self._prompt = prompt
        self._is_chat = is_chat
        self.status = 0

    def end(self, is_complete: bool) -> None:
        """Count a chat request as answered, if all of a 200 was sent, or as failed."""
        if self._is_chat:
            self._ledger.end(self._prompt, is_answered=is_complete and self.status == 200)


class Ledger:
    """The counts since the start or the last reset. A reset replaces it; what is under way ends in the old one."""

    def __init__(self, open_connections: int = 0) -> None:
        self.requests: deque[ReceivedRequest] = deque()
        self._kept_bytes = 0
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
        """Keep a request that has arrived, and count it if it asks for a completion."""
        self.requests.append(request)
        self._kept_bytes += len(request.body)
        while len(self.requests) > MAX_KEPT or (self._kept_bytes > MAX_KEPT_BYTES and len(self.requests) > 1):
            self._kept_bytes -= len(self.requests.popleft().body)
        if is_chat:
            stats = self._stats
            stats["received"] += 1
            in_flight = stats["received"] - stats["answered"] - stats["failed"]
            stats["peak_in_flight"] = max(stats["peak_in_flight"], in_flight)
            self._count("prompts", prompt)
        return Exchange(self, prompt, is_chat)

    def end(self, prompt: str | None, is_answered: bool) -> None:
        """Count what became of a chat request."""
        if is_answered:
            self._stats["answered"] += 1
            self._count("answered_prompts", prompt)
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
