"""Which answer a request gets: the script's, a refusal, an injected failure, the ordinary one, or the counts.

It is asked by one thread, the server's, and keeps the ledger. Sockets are not its matter.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache

from . import anthropic, gemini, openai
from .http import WirePlan, wire_plan
from .ledger import Exchange, Ledger
from .openai import only
from .options import MockOptions
from .replies import REQUEST_ID, Dialect, ReceivedRequest, Reply, Script, dump_json

logger = logging.getLogger(__name__)

# The last one takes what no other claims; which one that is, is an option.
CLAIMING: tuple[Dialect, ...] = (anthropic, gemini)
OPENAI_DIALECTS: dict[str, Dialect] = {"any": openai, "openai": only}
_REQUEST_ID = REQUEST_ID.encode()
REPORTS = {"/mock/requests": "GET", "/mock/reset": "POST"}


def dialect_of(request: ReceivedRequest, openai_dialect: str = "any") -> Dialect:
    """Return the dialect that claims a request; OpenAI's, of the given strictness, for any other."""
    if not openai.is_chat(request.path):  # the most frequent path of all, and nobody else's
        for dialect in CLAIMING:
            if dialect.claims(request):
                return dialect
    return OPENAI_DIALECTS[openai_dialect]


def ordinary_reply(
    request: ReceivedRequest, *, models: Sequence[str] = (), token_delay: float = 0.0, openai_dialect: str = "any"
) -> Reply:
    """Return the reply that a server without a script gives; a script may change it and send that instead."""
    return dialect_of(request, openai_dialect).reply(request, models, token_delay)


def _signed(reply: Reply, request_id: str) -> Reply:
    """Put the id into the body of an error that has a place for it."""
    if reply.status == 200 or reply.body is None or _REQUEST_ID not in reply.body:
        return reply
    return replace(reply, body=reply.body.replace(_REQUEST_ID, request_id.encode()))


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


class TokenBucket:
    """Lets `rate` requests through per second, and `burst` of them at once if it has rested long enough."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Whether one more request may pass now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Responder:
    """Answers the requests of one server, and counts them in `ledger`."""

    def __init__(self, options: MockOptions, script: Script | None) -> None:
        self._options = options
        replies = iter(() if script is None or callable(script) else tuple(script))
        self._script = script if callable(script) else lambda _: next(replies, None)
        rate = options.rate_limit
        self._bucket = None if rate is None else TokenBucket(rate, options.rate_burst, time.monotonic)
        self._answer_count = 0
        self.ledger = Ledger()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, and begin the seeded sequences again: of failures, and apart from them, delays."""
        self.ledger = Ledger(self.ledger.stats()["open_connections"])
        self._failures = random.Random(f"failures {self._options.seed}")
        self._delays = random.Random(f"delays {self._options.seed}")

    def answer(self, request: ReceivedRequest) -> tuple[Exchange, WirePlan]:
        """Count a request, and return what is to be sent for it."""
        headers = {"date": _http_date(int(request.time_unix)), "server": "flexllm-mock"}
        if request.path.startswith("/mock/"):  # a test asks about the server: neither counted nor kept
            exchange, reply = Exchange(self.ledger, None, is_chat=False), self._report(request)
        else:
            dialect = dialect_of(request, self._options.openai_dialect)
            is_chat = request.method == "POST" and dialect.is_chat(request.path)
            exchange = self.ledger.begin(request, dialect.prompt(request) if is_chat else None, is_chat)
            self._answer_count += 1
            request_id = f"req_{self._options.seed}_{self._answer_count:08d}"
            reply = _signed(self._guarded_reply(request, dialect, is_chat), request_id)
            headers.update(dialect.headers(request_id, reply.delay))
        exchange.status = reply.status
        keep_alive = "close" not in request.headers.get("connection", "").lower()
        return exchange, wire_plan(reply, headers, keep_alive=keep_alive, head_only=request.method == "HEAD")

    def _report(self, request: ReceivedRequest) -> Reply:
        if request.method != REPORTS.get(request.path):
            known = " and ".join(f"{method} {path}" for path, method in REPORTS.items())
            return openai.failure(405 if request.path in REPORTS else 404, f"There are only {known}.")
        if request.path == "/mock/requests":
            return Reply(body=dump_json(self.ledger.stats()))
        self.reset()
        return Reply(body=b"{}")

    def _guarded_reply(self, request: ReceivedRequest, dialect: Dialect, is_chat: bool) -> Reply:
        try:
            scripted = self._script(request)
            if scripted is not None:
                return self._filled(scripted, request, dialect)
            return self._unscripted_reply(request, dialect, is_chat)
        except Exception as error:  # a script is the caller's code: its fault must not take the connection down
            logger.exception("no reply to %r", request)
            return dialect.failure(500, f"The mock server failed: {error!r}")

    def _filled(self, scripted: Reply, request: ReceivedRequest, dialect: Dialect) -> Reply:
        """Put the ordinary answer into a scripted reply that has none of its own."""
        if scripted.body is not None or scripted.pieces is not None:
            return scripted
        is_failure = scripted.status != 200
        usual = dialect.failure(scripted.status) if is_failure else self._ordinary_reply(request, dialect)
        headers = {**usual.headers, **scripted.headers}
        return replace(scripted, status=usual.status, headers=headers, body=usual.body, pieces=usual.pieces)

    def _unscripted_reply(self, request: ReceivedRequest, dialect: Dialect, is_chat: bool) -> Reply:
        options = self._options
        if options.api_key is not None and dialect.key(request) != options.api_key:
            return dialect.unauthorized(request)
        if is_chat and self._bucket is not None and not self._bucket.take():
            return self._failed(dialect, 429)
        reply = self._ordinary_reply(request, dialect)
        if not is_chat or reply.status != 200:
            return reply
        low, high = options.delay_range
        delay = low if low == high else self._delays.uniform(low, high)
        if options.error_rate and self._failures.random() < options.error_rate:
            reply = self._failed(dialect, options.error_status)
        return replace(reply, delay=delay) if delay else reply

    def _ordinary_reply(self, request: ReceivedRequest, dialect: Dialect) -> Reply:
        return dialect.reply(request, self._options.model_ids, self._options.token_delay)

    def _failed(self, dialect: Dialect, status: int) -> Reply:
        failure = dialect.failure(status)
        return replace(failure, headers={"retry-after": f"{self._options.retry_after:g}"}) if status == 429 else failure
