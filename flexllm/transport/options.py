"""How requests travel, as values, and the two faces that the routes show: one complete reply, or one piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from ..cancel import CancelToken
from ..errors import ConfigError
from ..language import _
from ..wire import HttpRequest

Proxies = Mapping[str, str]
Verify = bool | str
Cert = str | tuple[str, str]

Departed = Callable[[], None]
"""Called when a request has been handed to the kernel, or in a foreign session just before: must be quick."""

RECEIVE_BYTES = 65_536
"""Asked of the socket at a time; a usual reply fits into one."""

REARM_SECONDS = 0.05
"""A socket keeps its time limit while it is off by less: setting it costs two system calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """How requests travel.

    Attributes:
        timeout: Seconds for one attempt, connecting included; for a stream, the longest gap between pieces.
        connect_timeout: Seconds to connect, TLS included, within `timeout`.
        stream_timeout: Seconds for a whole stream; None is not limited.
        proxies: As requests takes them; None reads the environment (`HTTPS_PROXY`, `NO_PROXY`, ...), once.
        verify: True, False or the path of a CA bundle; None reads the environment (`REQUESTS_CA_BUNDLE`), once.
        cert: Client certificate: a path, or a pair of paths (certificate, key).
        trust_env: Whether the environment is read at all.
        connections: Idle connections kept for each host.
    """

    timeout: float = 120.0
    connect_timeout: float = 10.0
    stream_timeout: float | None = None
    proxies: Proxies | None = field(default=None, repr=False)  # they may hold a password
    verify: Verify | None = None
    cert: Cert | None = None
    trust_env: bool = True
    connections: int = 10

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "stream_timeout"):
            value = getattr(self, name)
            if value is None and name == "stream_timeout":
                continue
            if not isinstance(value, (int, float)) or not 0 < value < threading.TIMEOUT_MAX:
                raise ConfigError(_("{name}={value!r} must be a number of seconds above 0", name=name, value=value))


class StreamDeadline:
    """When a stream must be complete, and when its first piece must have come; on the monotonic clock, None is never."""

    __slots__ = ("at", "complete", "first")

    def __init__(self, complete: float | None, first: float | None) -> None:
        self.complete = complete
        self.first = first
        self.at = complete if first is None else first if complete is None else min(first, complete)

    def lift(self) -> None:
        """Forget the one for the first piece."""
        self.first, self.at = None, self.complete

    def passed(self, now: float) -> str:
        """Return which of them has passed: "stream", "first piece", or "" for none."""
        if self.first is not None and now >= self.first:
            return "first piece"
        return "stream" if self.complete is not None and now >= self.complete else ""


class HttpStream(Protocol):
    """A reply whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""

    def lift_limit(self) -> None:
        """Say that the first piece has come: what was allowed until then is no limit any more."""

    def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""


class Route(Protocol):
    """A way to one URL. Raises what the libraries raise; `failures.translate` knows what that means."""

    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None, departed: Departed | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and the whole body, or raise by the deadline (on the monotonic clock)."""

    def stream(
        self, request: HttpRequest, deadline: StreamDeadline, cancel: CancelToken | None, departed: Departed | None
    ) -> HttpStream:
        """Return the reply as soon as its head is there."""

    def close(self) -> None:
        """Close what lies idle."""


def place_of(url: str) -> str:
    """Return the part of a URL that messages name: scheme, host and port, and no credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
