"""What Gemini answers, read: candidates and their parts, token counts, the events of a stream, errors.

Source: Gemini and Vertex AI API references, Google's SDK.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from ...chat import Chunk, ToolCall, ToolCallDelta, Usage
from ...errors import ApiStatusError, AuthenticationFailed, ContextTooLong, QuotaExhausted
from ..base import count, made_id, make_usage
from ..status import status_error

Part = dict[str, Any]

FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "MALFORMED_RESPONSE": "error",
    "LANGUAGE": "error",
    "OTHER": "error",
    "NO_IMAGE": "error",
    "IMAGE_OTHER": "error",
}

STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The HTTP status of an error that only says its own word. Source: google.rpc.Code."""

_DELAY = re.compile(r"(\d{1,9}(\.\d*)?)s")


def text_or_none(value: Any) -> str | None:
    """Return a text that is not empty, None for all else."""
    return value if isinstance(value, str) and value else None


def candidate_of(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first candidate; in a stream the others come in between."""
    candidates = data.get("candidates")
    if isinstance(candidates, list):
        for candidate in candidates:
            if isinstance(candidate, dict) and not candidate.get("index"):
                return candidate
    return None


def candidate_parts(candidate: Mapping[str, Any] | None) -> list[Part]:
    """Return a candidate's parts; it may lack them, for one where thinking used up all tokens."""
    content = candidate.get("content") if candidate else None
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def finish_of(data: Mapping[str, Any], candidate: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Return the finish reason in the common word and in Gemini's own; a blocked prompt has a block reason instead."""
    if candidate is None:
        feedback = data.get("promptFeedback")
        blocked = text_or_none(feedback.get("blockReason")) if isinstance(feedback, dict) else None
        return ("content_filter" if blocked else None), blocked
    native = text_or_none(candidate.get("finishReason"))
    return (FINISH_REASONS.get(native, native) if native else None), native


_TOLD = frozenset({"text", "thought", "functionCall"})


class Read(NamedTuple):
    """What parts say in the common words, and whether they hold more than these can say."""

    content: str
    reasoning: str
    calls: list[ToolCall]
    is_special: bool


def read_parts(parts: list[Part], response_id: str | None, first_call: int = 0) -> Read:
    """Read parts.

    Args:
        response_id: What the ids of calls are made from where the server gave none.
        first_call: The number of calls before these.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    is_special = False
    for part in parts:
        text = part.get("text")
        if isinstance(text, str):
            (thoughts if part.get("thought") else texts).append(text)
            if len(part) == 1:
                continue
        call = part.get("functionCall")
        if isinstance(call, dict):
            calls.append(_tool_call(call, response_id, first_call + len(calls)))
        is_special = is_special or any(value for key, value in part.items() if key not in _TOLD)
    return Read("".join(texts), "".join(thoughts), calls, is_special)


def _tool_call(call: Mapping[str, Any], response_id: str | None, position: int) -> ToolCall:
    name = str(call.get("name") or "")
    arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
    call_id = str(call.get("id") or "") or made_id(response_id or f"{name} {arguments}", position)
    return ToolCall(call_id, "function", {"name": name, "arguments": arguments})


def usage_of(usage: Any) -> Usage | None:
    """Return token counts. Gemini counts thoughts beside the reply, and what tools brought in beside the prompt."""
    if not isinstance(usage, dict):
        return None
    thoughts = usage.get("thoughtsTokenCount")
    return make_usage(
        usage,
        prompt=count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
        completion=count(usage.get("candidatesTokenCount")) + count(thoughts),
        total=count(usage.get("totalTokenCount")),
        cached=usage.get("cachedContentTokenCount"),
        reasoning=thoughts,
    )


class StreamReader:
    """Reads one stream, and remembers of it what later pieces and the end need.

    Attributes:
        is_finished: A finish reason, or the reason of a block, has come.
    """

    def __init__(self) -> None:
        self.is_finished = False
        self._calls = 0
        self._open_call: _OpenCall | None = None
        self._is_special = False
        self._parts: list[Part] = []
        self._texts: list[str] = []  # of the last part, if it may still grow

    def chunk(self, data: Mapping[str, Any]) -> Chunk:
        """Read one event."""
        candidate = candidate_of(data)
        finish, native_finish = finish_of(data, candidate)
        parts = candidate_parts(candidate)
        if any("functionCall" in part for part in parts):
            parts = [whole for part in parts if (whole := self._whole(part)) is not None]
        response_id = text_or_none(data.get("responseId"))
        read = read_parts(parts, response_id, self._calls)
        for part in parts:
            self._keep(part)
        deltas = tuple(
            ToolCallDelta(number, call.id, call.function["name"], call.function["arguments"])
            for number, call in enumerate(read.calls, self._calls)
        )
        self._calls += len(deltas)
        self._is_special = self._is_special or read.is_special
        self.is_finished = self.is_finished or finish is not None
        return Chunk(
            read.content,
            read.reasoning,
            deltas,
            "tool_calls" if self._calls and finish == "stop" else finish,
            usage_of(data.get("usageMetadata")),
            text_or_none(data.get("modelVersion")),
            native_finish,
            request_id=response_id,
        )

    def native(self) -> list[Part] | None:
        """Return the parts if they must be sent back unchanged. Pieces of a text that nothing was said of are joined."""
        self._close_text()
        return self._parts if self._is_special else None

    def _whole(self, part: Part) -> Part | None:
        """Return a part, None if it is a piece of a call that goes on. Vertex AI sends such if it is asked for them."""
        call = part.get("functionCall")
        if not isinstance(call, dict):
            return part
        if self._open_call is None:
            if not call.get("willContinue") and not call.get("partialArgs"):
                return part
            self._open_call = _OpenCall(part, call)
        if self._open_call.add(part, call):
            return None
        whole, self._open_call = self._open_call.part, None
        return whole

    def _keep(self, part: Part) -> None:
        text = part.get("text")
        if not isinstance(text, str) or not part.keys() <= {"text", "thought"}:
            self._close_text()
            self._parts.append(part)
        elif self._texts and self._parts[-1].get("thought") == part.get("thought"):
            self._texts.append(text)
        else:
            self._close_text()
            self._parts.append(part)
            self._texts = [text]

    def _close_text(self) -> None:
        if self._texts:
            self._parts[-1]["text"] = "".join(self._texts)
            self._texts = []


_STEP = re.compile(r"\.([^.\[\]]+)|\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\d{1,6})\]")


class _OpenCall:
    """A call whose arguments come in pieces; `part` is the whole once `add` says that no more will come."""

    def __init__(self, part: Part, call: Mapping[str, Any]) -> None:
        self._args: dict[str, Any] = dict(call["args"]) if isinstance(call.get("args"), dict) else {}
        known = {key: call[key] for key in ("id", "name") if call.get(key)}
        self.part: Part = {**part, "functionCall": {**known, "args": self._args}}

    def add(self, part: Part, call: Mapping[str, Any]) -> bool:
        """Take in the next piece, with what stands beside its call; return whether another one is to come."""
        self.part.update({key: value for key, value in part.items() if key != "functionCall"})
        pieces = call.get("partialArgs")
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                self._put(piece)
        return bool(call.get("willContinue"))

    def _put(self, piece: Mapping[str, Any]) -> None:
        """Put a value where its JSON path points, such as "$.foo.bar[0]"; a text that is there already grows."""
        value = next((piece[kind] for kind in ("stringValue", "numberValue", "boolValue") if kind in piece), None)
        steps = [
            int(step[4]) if step[4] else next(name for name in step.groups() if name is not None)
            for step in _STEP.finditer(str(piece.get("jsonPath")))
        ]
        place: Any = self._args
        for step, following in zip_longest(steps, steps[1:]):
            fits = isinstance(place, dict) if isinstance(step, str) else isinstance(place, list) and step <= len(place)
            if not fits:
                return
            if isinstance(place, list) and step == len(place):
                place.append(None)
            there = place.get(step) if isinstance(place, dict) else place[step]
            if following is None:
                place[step] = there + value if isinstance(there, str) and isinstance(value, str) else value
            else:
                if not isinstance(there, (dict, list)):
                    place[step] = there = {} if isinstance(following, str) else []
                place = there


# --- errors ------------------------------------------------------------------------------------------------------------


def reply_error(status: int, body: bytes | str, data: Any, request_id: str | None) -> ApiStatusError:
    """Read an error body. A wrong key is a 400 that says so in its details; a day's quota is used up until tomorrow."""
    if isinstance(data, list) and data:
        data = data[0]
    inner = data.get("error") if isinstance(data, dict) else None
    source: Mapping[str, Any] = inner if isinstance(inner, dict) else data if isinstance(data, dict) else {}
    message = text_or_none(inner) or text_or_none(source.get("message"))
    code = text_or_none(source.get("status")) or text_or_none(source.get("code"))
    number = source.get("code")
    if 200 <= status < 300:
        status = number if isinstance(number, int) and 400 <= number < 600 else STATUSES.get(code or "", status)
    if message is None:
        message = body[:500] if isinstance(body, str) else body[:500].decode("utf-8", "replace")
    family: type[ApiStatusError] | None = None
    reason, delay, is_daily = _details(source.get("details"))
    if reason == "API_KEY_INVALID":
        code, family = reason, AuthenticationFailed
    elif is_daily and status == 429:
        family, delay = QuotaExhausted, None
    elif status == 400 and "input token count" in message:  # Vertex AI puts the rest of the sentence otherwise
        family = ContextTooLong
    return status_error(
        status, body, message=message, code=code, request_id=request_id, family=family, retry_after=delay
    )


def _details(details: Any) -> tuple[str | None, float | None, bool]:
    """Return the reason that an error's details give, how long to wait, and whether the quota of a day is used up."""
    reason: str | None = None
    delay: float | None = None
    is_daily = False
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        kind = str(detail.get("@type")).rpartition(".")[2]
        if kind == "ErrorInfo":
            reason = reason or text_or_none(detail.get("reason"))
        elif kind == "RetryInfo":
            said = _DELAY.fullmatch(str(detail.get("retryDelay")))
            delay = float(said[1]) if said else delay
        elif kind == "QuotaFailure":
            violations = detail.get("violations")
            for violation in violations if isinstance(violations, list) else ():
                is_daily = is_daily or (isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")))
    return reason, delay, is_daily
