"""The words of the mock: a request as it came, a reply as it is to be sent, and what is asked of a dialect.

What a dialect answers is in its own module, how a reply becomes bytes in `http`, which reply a request gets in
`responder`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

Step = tuple[float, bytes]
"""Seconds to wait, then bytes to send."""


def check_fields(value: object, **checks: tuple[bool, str]) -> None:
    """Raise `ValueError` for the first field that is not as it must be; a check is (is allowed, what is allowed)."""
    for name, (is_allowed, allowed) in checks.items():
        if not is_allowed:
            raise ValueError(f"{name} is {getattr(value, name)!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReceivedRequest:
    """One request as it arrived.

    Attributes:
        path: As sent, still percent-encoded, without the query.
        headers: Names in lower case; a repeated header is joined with ", ".
        time: Monotonic seconds at which the body was complete. `time_unix` is the same moment as Unix time.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    time: float = 0.0
    time_unix: float = 0.0

    def json(self) -> Any:
        """Return the parsed body; raise `ValueError` if it is not JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        # Neither headers nor query: both may hold a key.
        return f"ReceivedRequest({self.method} {self.path}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply, and what goes wrong while it is sent.

    Attributes:
        status: 200 to 599.
        headers: Added to the usual ones; a name given here, in any case, replaces the usual value.
        body: None, with `pieces` None as well, stands for the ordinary answer: the completion if the status is 200,
            the dialect's error body otherwise. So `Reply(status=503)` and `Reply(cut="body")` are enough.
        pieces: Instead of `body`: the body in steps of (seconds to wait before, bytes). Each becomes one chunk.
        delay: Seconds before the head.
        drip: Seconds before every single byte of the body, and of the head if `drip_head`.
        cut: Drop the connection before any byte, in the middle of the head, or in the middle of the body or stream.
        cut_at: How many bytes of that part are sent before the cut, chunk framing included; None means half.
        reset: A cut sends RST instead of FIN.
        close: Close after the reply without announcing it, which leaves the client with a stale connection.
        framing: Content-Length, chunks, or neither: the body then ends where the connection ends. None means chunks for
            `pieces` and Content-Length for `body`.
        gzip: Send the body compressed, whether or not the client asked for it.
        tokens: How many tokens prompt and answer have, as a limit of tokens counts them.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    pieces: tuple[Step, ...] | None = None
    delay: float = 0.0
    drip: float = 0.0
    drip_head: bool = False
    cut: Literal["start", "head", "body"] | None = None
    cut_at: int | None = None
    reset: bool = False
    close: bool = False
    framing: Literal["length", "chunked", "close"] | None = None
    gzip: bool = False
    tokens: int = 0

    def __post_init__(self) -> None:
        is_plain = self.status == 200 and self.delay == self.drip == 0 and (self.body is None or self.pieces is None)
        if is_plain and self.cut is None and self.cut_at is None and self.framing is None:
            return  # as nearly every reply is: the checks one by one cost more than the rest of it
        check_fields(
            self,
            status=(200 <= self.status <= 599, "200 to 599"),
            body=(self.body is None or self.pieces is None, "None if there are pieces"),
            delay=(self.delay >= 0, "seconds, at least 0"),
            drip=(self.drip >= 0, "seconds per byte, at least 0"),
            cut=(self.cut in (None, "start", "head", "body"), "None, 'start', 'head', 'body'"),
            cut_at=(self.cut_at is None or self.cut_at >= 0, "None, or bytes, at least 0"),
            framing=(self.framing in (None, "length", "chunked", "close"), "None, 'length', 'chunked', 'close'"),
        )


Scripted = Reply | str | None
"""A reply of the caller's choice, or the name of a fault; None stands for the ordinary reply."""

Script = (
    Callable[[ReceivedRequest], Scripted] | Iterable[Scripted] | Mapping[str, Iterable[Scripted] | Reply | str | None]
)
"""What a server answers: found by a function, one after the other, or by a piece of the prompt."""

Ending = Literal["length", "refusal"]
"""How an answer may end that would have ended well: cut by a limit, or refused by the model or a filter."""

Refusal = Literal["quota", "unauthorized", "not_found", "bad_request", "context_too_long"]
"""An error of which each provider has words of its own, beyond those of its status."""


class Allowance(NamedTuple):
    """What a limit allows, as rate-limit headers tell it.

    Attributes:
        limit: Requests or tokens per minute.
        remaining: How many of them are left.
        reset: Seconds until all of them are there again.
    """

    limit: int
    remaining: int
    reset: float


REQUEST_ID = "{request-id}"
"""Stands in the body of an error for the id that the reply will carry in its headers."""


class Dialect(Protocol):
    """What is asked of a dialect. A module with these functions is one; `openai` is the first."""

    def claims(self, request: ReceivedRequest) -> bool:
        """Whether a request, of any method and path, is in this dialect."""

    def is_chat(self, path: str) -> bool:
        """Whether a POST there asks for a completion."""

    def key(self, request: ReceivedRequest) -> str | None:
        """Return the key that a request carries."""

    def unauthorized(self, request: ReceivedRequest) -> Reply:
        """Return the refusal of a request whose key is wrong or missing."""

    def prompt(self, request: ReceivedRequest) -> str | None:
        """Return the text of the last user message, or None if there is none."""

    def model(self, request: ReceivedRequest) -> str | None:
        """Return the name of the model that a request asks for, or None if there is none."""

    def reply(
        self, request: ReceivedRequest, models: Sequence[str], token_delay: float, ending: Ending | None = None
    ) -> Reply:
        """Return the ordinary reply: completion, stream, model list or 4xx.

        Args:
            models: Those listed.
            token_delay: Seconds between the pieces of a stream.
            ending: How an answer ends all the same; None leaves it to the request.
        """

    def failure(self, status: int, message: str | None = None, retry_after: float | None = None) -> Reply:
        """Return a reply with the dialect's error body.

        Args:
            message: None means the usual one of that status.
            retry_after: Seconds, where and how the provider says them; None says nothing.
        """

    def refused(self, kind: Refusal, request: ReceivedRequest) -> Reply:
        """Return an error in the provider's own words, whatever is right or wrong about the request."""

    def overload(self) -> Reply:
        """Return how a request that is not streamed hears of an overload that came late: inside a 200 if it can."""

    def broken(self, pieces: Sequence[Step], is_begun: bool, request_id: str) -> Sequence[Step]:
        """Return a stream that an overload ends: before the first text, or if `is_begun` in the middle of it."""

    def rate_headers(self, requests: Allowance | None, tokens: Allowance | None, now_unix: float) -> Mapping[str, str]:
        """Return the headers that tell what the limits allow; none of a limit that is None."""

    def headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        """Return the headers that every reply carries. `seconds`: what the answer took to make."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # built once: json.loads with options builds one per call
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1)  # a dialect reads the same body for its prompt and for the reply
def parse_json(body: bytes) -> object:
    """Return the parsed body, not to be changed, or None if it is not JSON. NaN and Infinity are not."""
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        return None


def dump_json(value: object) -> bytes:
    """Return compact UTF-8 JSON, escaped only where UTF-8 cannot hold the text."""
    # Only half a character, a lone surrogate, is replaced, and what it becomes is what JSON writes for it.
    return _ENCODER.encode(value).encode(errors="backslashreplace")
