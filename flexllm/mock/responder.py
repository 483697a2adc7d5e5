"""Which answer a request gets: the script's, a refusal, a fault or failure, the ordinary one, or the counts.

It is asked by one thread, the server's, and keeps the ledger. Sockets are not its matter.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any, NamedTuple

from . import anthropic, gemini, openai
from .control import PREFIX, report
from .faults import Scene, fault_named, parse_shares
from .http import WirePlan, wire_plan
from .ledger import Exchange, Ledger
from .limits import LIMITING, Limits, Load
from .openai import only
from .options import MockOptions, changed
from .replies import REQUEST_ID, Dialect, Ending, ReceivedRequest, Reply, Script
from .scripts import fixed, lookup

logger = logging.getLogger(__name__)

# The last one takes what no other claims; which one that is, is an option.
CLAIMING: tuple[Dialect, ...] = (anthropic, gemini)
OPENAI_DIALECTS: dict[str, Dialect] = {"any": openai, "openai": only}
_REQUEST_ID = REQUEST_ID.encode()


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


class _Asked(NamedTuple):
    """A request as it is seen here. `prompt` is None unless it is a chat request that has one."""

    request: ReceivedRequest
    dialect: Dialect
    is_chat: bool
    prompt: str | None
    request_id: str


class Responder:
    """Answers the requests of one server, and counts them in `ledger`."""

    def __init__(self, options: MockOptions, script: Script | None) -> None:
        self.options = options
        self.ledger = Ledger()
        self._load = Load()
        self._answer_count = 0
        self._limits = Limits(options, self._load, time.monotonic)
        self._shares = parse_shares(options.faults)
        self.set_script(script)
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, and begin the seeded sequences again: of failures, of faults and of delays."""
        self.ledger = Ledger(self.ledger.stats()["open_connections"])
        seed = self.options.seed
        self._failures = random.Random(f"failures {seed}")
        self._faults = random.Random(f"faults {seed}")
        self._delays = random.Random(f"delays {seed}")

    def set_script(self, script: Script | None) -> None:
        """Begin a script in the place of the one there is; raise `ValueError` if something in it is wrong."""
        self._script = lookup(fixed(script))

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change options; raise `ValueError`, and change none, if one is wrong. Seeded sequences go on."""
        former, self.options = self.options, changed(self.options, changes)
        self._shares = parse_shares(self.options.faults)
        if any(getattr(former, name) != getattr(self.options, name) for name in LIMITING):
            self._limits = Limits(self.options, self._load, time.monotonic)

    def answer(self, request: ReceivedRequest) -> tuple[Exchange, WirePlan]:
        """Count a request, and return what is to be sent for it."""
        headers = {"date": _http_date(int(request.time_unix)), "server": "flexllm-mock"}
        if request.path.startswith(PREFIX):  # a test asks about the server: neither counted nor kept
            exchange, reply = Exchange(self.ledger), report(self, request)
        else:
            dialect = dialect_of(request, self.options.openai_dialect)
            is_chat = request.method == "POST" and dialect.is_chat(request.path)
            prompt = dialect.prompt(request) if is_chat else None
            exchange = self._begun(request, dialect, is_chat, prompt)
            self._answer_count += 1
            request_id = f"req_{self.options.seed}_{self._answer_count:08d}"
            reply = _signed(self._guarded_reply(_Asked(request, dialect, is_chat, prompt, request_id)), request_id)
            headers.update(dialect.headers(request_id, reply.delay))
            if is_chat and self.options.rate_headers:
                headers.update(dialect.rate_headers(*self._limits.allowances(), request.time_unix))
        exchange.status = reply.status
        keep_alive = "close" not in request.headers.get("connection", "").lower()
        return exchange, wire_plan(reply, headers, keep_alive=keep_alive, head_only=request.method == "HEAD")

    def _begun(self, request: ReceivedRequest, dialect: Dialect, is_chat: bool, prompt: str | None) -> Exchange:
        if is_chat:
            return self.ledger.begin_chat(request, prompt, dialect.model(request), self._load)
        self.ledger.begin(request)
        return Exchange(self.ledger)

    def _guarded_reply(self, asked: _Asked) -> Reply:
        try:
            scripted = None if self._script is None else self._script(asked.request, asked.prompt)
            if scripted is None:
                return self._unscripted_reply(asked)
            return self._struck(scripted, asked) if isinstance(scripted, str) else self._filled(scripted, asked)
        except Exception as error:  # a script is the caller's code: its fault must not take the connection down
            logger.exception("no reply to %r", asked.request)
            return asked.dialect.failure(500, f"The mock server failed: {error!r}")

    def _filled(self, scripted: Reply, asked: _Asked) -> Reply:
        """Put the ordinary answer into a scripted reply that has none of its own."""
        if scripted.body is not None or scripted.pieces is not None:
            return scripted
        is_failure = scripted.status != 200
        usual = asked.dialect.failure(scripted.status) if is_failure else self._ordinary_reply(asked)
        headers = {**usual.headers, **scripted.headers}
        return replace(scripted, status=usual.status, headers=headers, body=usual.body, pieces=usual.pieces)

    def _struck(self, name: str, asked: _Asked) -> Reply:
        """Return the reply of a fault."""
        fault = fault_named(name)
        self.ledger.strike(name)
        scene = Scene(
            request=asked.request,
            dialect=asked.dialect,
            answer=partial(self._ordinary_reply, asked),
            retry_after=self.options.retry_after,
            hang_seconds=self.options.hang_seconds,
            request_id=asked.request_id,
        )
        return fault(scene)

    def _unscripted_reply(self, asked: _Asked) -> Reply:
        options, dialect = self.options, asked.dialect
        if options.api_key is not None and dialect.key(asked.request) != options.api_key:
            return dialect.unauthorized(asked.request)
        if not asked.is_chat:
            return self._ordinary_reply(asked)
        reason = self._limits.refusal() if self._limits.is_any else None
        if reason is not None:
            return self._failed(dialect, 429, reason)
        reply = self._ordinary_reply(asked)
        if reply.status != 200:
            return reply
        reason = self._limits.token_refusal(reply.tokens) if self._limits.is_any else None
        return self._failed(dialect, 429, reason) if reason is not None else self._perhaps_failed(reply, asked)

    def _perhaps_failed(self, reply: Reply, asked: _Asked) -> Reply:
        """Return a correct reply after its delay, or what chance makes of it."""
        options = self.options
        low, high = options.delay_range
        delay = low if low == high else self._delays.uniform(low, high)
        # Each has a sequence of its own, and the first goes on where a fault strikes.
        is_failure = options.error_rate and self._failures.random() < options.error_rate
        fault = self._drawn_fault() if self._shares else None
        if fault is not None:
            reply = self._struck(fault, asked)
        elif is_failure:
            reply = self._failed(asked.dialect, options.error_status)
        return replace(reply, delay=reply.delay + delay) if delay else reply

    def _drawn_fault(self) -> str | None:
        place = self._faults.random()
        for name, share in self._shares.items():
            place -= share
            if place < 0:
                return name
        return None

    def _ordinary_reply(self, asked: _Asked, ending: Ending | None = None) -> Reply:
        options = self.options
        return asked.dialect.reply(asked.request, options.model_ids, options.token_delay, ending)

    def _failed(self, dialect: Dialect, status: int, message: str | None = None) -> Reply:
        return dialect.failure(status, message, self.options.retry_after if status == 429 else None)
