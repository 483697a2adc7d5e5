"""The faults that real providers show, by name: what is sent in place of an answer, or becomes of it on the way.

Each is the same every time, and in the words of the dialect that is spoken. What a dialect's words are, it says itself;
who is struck is for the responder to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from .replies import Allowance, Dialect, Ending, ReceivedRequest, Refusal, Reply, Step

DRIP_SECONDS = 0.5  # per byte: the shortest answer takes minutes, and no pause is long enough to look like an end
SLOW_CLOSE_SECONDS = 5.0
EXHAUSTED_LIMIT = 60  # requests a minute, as the headers of `rate_limited` tell it
PAGE = {"content-type": "text/html; charset=utf-8"}
BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>\n"


class Scene(NamedTuple):
    """What a fault needs to know.

    Attributes:
        answer: Returns the reply that would be sent: with None as it is, else with an answer that ends in this way.
        retry_after: Seconds that a refusal for going too fast asks to wait; None: it gives no hint at all.
        hang_seconds: How long `hang` holds a client that does not leave.
        request_id: That of the reply.
    """

    request: ReceivedRequest
    dialect: Dialect
    answer: Callable[[Ending | None], Reply]
    retry_after: float | None
    hang_seconds: float
    request_id: str

    @property
    def usual(self) -> Reply:
        """The reply without the fault."""
        return self.answer(None)


Fault = Callable[[Scene], Reply]


def _status(status: int) -> Fault:
    return lambda scene: scene.dialect.failure(status)


def _own(kind: Refusal) -> Fault:
    return lambda scene: scene.dialect.refused(kind, scene.request)


def _ended(ending: Ending) -> Fault:
    return lambda scene: scene.answer(ending)


def _rate_limited(scene: Scene) -> Reply:
    wait = scene.retry_after
    reply = scene.dialect.failure(429, retry_after=wait)
    if wait is None:
        return reply
    exhausted = Allowance(EXHAUSTED_LIMIT, 0, wait)
    told = scene.dialect.rate_headers(exhausted, None, scene.request.time_unix)
    return replace(reply, headers={**told, **reply.headers})


def _broken(is_begun: bool) -> Fault:
    def fault(scene: Scene) -> Reply:
        usual = scene.usual
        if usual.pieces is None:
            return scene.dialect.overload()
        return replace(usual, pieces=tuple(scene.dialect.broken(usual.pieces, is_begun, scene.request_id)))

    return fault


def _hang(scene: Scene) -> Reply:
    return Reply(delay=scene.hang_seconds, body=b"", cut="start")


def _drip(scene: Scene) -> Reply:
    return replace(scene.usual, drip=DRIP_SECONDS)


def _reset(scene: Scene) -> Reply:
    return replace(scene.usual, cut="body", reset=True)


def _truncated(scene: Scene) -> Reply:
    usual = scene.usual
    if usual.pieces is None:
        body = usual.body or b""
        return replace(usual, body=body[: len(body) // 2])
    return replace(usual, pieces=tuple(_half(usual.pieces)))


def _half(pieces: tuple[Step, ...]) -> Iterator[Step]:
    """Yield half of a stream's pieces, and half of the one in the middle: its end is that of the body all the same."""
    middle = (len(pieces) - 1) // 2
    yield from pieces[:middle]
    pause, data = pieces[middle]
    yield pause, data[: len(data) // 2]


def _slow_close(scene: Scene) -> Reply:
    usual = scene.usual
    sent = usual.body or b"" if usual.pieces is None else b"".join(data for _, data in usual.pieces)
    return replace(usual, body=None, pieces=((0.0, sent), (SLOW_CLOSE_SECONDS, b"")), framing="close")


FAULTS: Mapping[str, Fault] = {
    "rate_limited": _rate_limited,
    "quota": _own("quota"),
    "unauthorized": _own("unauthorized"),
    "payment": _status(402),
    "forbidden": _status(403),
    "not_found": _own("not_found"),
    "bad_request": _own("bad_request"),
    "context_too_long": _own("context_too_long"),
    "server_error": _status(500),
    "bad_gateway": lambda scene: Reply(status=502, headers=PAGE, body=BAD_GATEWAY),
    "unavailable": _status(503),
    "overloaded": _status(529),
    "overloaded_stream": _broken(is_begun=False),
    "broken_stream": _broken(is_begun=True),
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "truncated_json": _truncated,
    "html": lambda scene: Reply(headers=PAGE, body=LOGIN),
    "empty": lambda scene: Reply(body=b""),
    "refusal": _ended("refusal"),
    "length": _ended("length"),
    "slow_close": _slow_close,
}
"""Every fault by its name. Errors have the body of the dialect.

rate_limited       a 429 with the hints of its dialect
quota              the account is at its end, as each provider says it: a 429, at Anthropic a 400
unauthorized       a wrong key: a 401, at Google a 400
payment            a 402
forbidden          a 403
not_found          a 404 for an unknown model
bad_request        a 400
context_too_long   a 400 for too many tokens
server_error       a 500
bad_gateway        a 502 with a proxy's page
unavailable        a 503
overloaded         a 529
overloaded_stream  a 200 whose stream an overload ends before the first text; who does not stream gets an error inside
                   a 200 in OpenAI's format, from Anthropic a 529, from Google a 503
broken_stream      the same in the middle of the text
hang               not a byte, for as long as `hang_seconds`; then the connection ends
drip               an answer of which one byte of the body comes every half second
reset              RST in the middle of the body
truncated_json     a 200 with half a body, which calls itself whole
html               a 200 with a page
empty              a 200 with nothing
refusal            an answer that the model refuses or a filter takes away
length             an answer that a limit cuts
slow_close         an answer without a length, which has come when its connection closes seconds later
"""


def fault_named(name: str) -> Fault:
    """Return a fault; raise `ValueError`, with every name there is, for another name."""
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name[:60]!r}; there are: {', '.join(FAULTS)}")
    return FAULTS[name]


def parse_shares(given: object) -> dict[str, float]:
    """Return the share of requests that each fault strikes, from a mapping or a text such as "rate_limited:0.1,hang:0.02".

    Raises `ValueError` if a name is unknown or repeated, or a share is none, or all of them are more than 1.
    """
    pairs = _pairs(given) if isinstance(given, str) else list(given.items()) if isinstance(given, Mapping) else None
    if pairs is None:
        raise ValueError(f"faults is {given!r}; allowed: a mapping or a text such as 'rate_limited:0.1,hang:0.02'")
    shares: dict[str, float] = {}
    for name, share in pairs:
        fault_named(name if isinstance(name, str) else repr(name))
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"the share of the fault {name!r} is {share!r}; allowed: 0 to 1")
        if name in shares:
            raise ValueError(f"the fault {name!r} is given twice")
        shares[name] = float(share)
    if sum(shares.values()) > 1 + 1e-9:  # nine times a ninth is more than 1
        raise ValueError(f"the shares of the faults are {sum(shares.values()):g} together; allowed: at most 1")
    return shares


def _pairs(text: str) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, share = part.partition(":")
        try:
            pairs.append((name.strip(), float(share)))
        except ValueError:
            raise ValueError(f"{part[:60]!r} is not a fault and its share, such as 'hang:0.02'") from None
    return pairs
