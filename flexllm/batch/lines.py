"""One line of an output file: how a settled row is written, and what is read back from it. Pure.

    {"index": 0, "output": "...", "status": "success", "input": [...], "metadata": {...}, "usage": {...},
     "finish_reason": "stop", "model": "...", "request_id": "...", "latency": 0.21, "cost": 0.000123, "key": "...",
     "source": "...", "check": "..."}

`cost` is in US dollars, and is there where it is known. Behind these come, where there is such a thing, `attempts`,
`hedged`, `reasoning_content`, `native_finish_reason` (where it is another word), `tool_calls` and, with them, `native`:
what the provider demands back when the conversation goes on. A failed row has `"status": "error"`, `"output": null` and an
`error` object, which has the `cost` of attempts that were billed all the same. `key` names what was asked: a digest of the
messages, one of model and parameters, and the occurrence number among equal rows. `source` names the input line. `check`
is the CRC-32 of the bytes before it: a line that bears it out needs no decoding when a run is resumed, which halves the
time; one that does not (somebody edited it, or the disk lied) is decoded and taken for what it is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

from ..chat import ChatCompletionResult, ToolCall, Usage
from ..error_fields import error_fields, error_from_fields
from .items import BatchItem, BatchResultItem, result_item

SAVE_INPUT = (True, "last", False)
"""What of the messages a line holds: all, the last one, none."""

_INDEX = re.compile(rb'\{"index": (\d+)(?=[,}])')
_KEY_AT_END = re.compile(rb', "key": "([0-9a-f]{32})-([0-9a-f]{16})-(\d+)"(?:, "source": "([0-9a-f]{32})")?\Z')
_FAILED = b', "output": null, "status": "error"'
_CHECK = b', "check": "'
_CHECK_BYTES = len(b', "check": "00000000"}\n')
_write = json.JSONEncoder(ensure_ascii=False, default=str).encode
_write_ascii = json.JSONEncoder(ensure_ascii=True, default=str).encode


def make_key(digest: int, settings: int, occurrence: int) -> str:
    """Return the key that stands in a line."""
    return f"{digest:032x}-{settings:016x}-{occurrence}"


def read_key(key: str) -> tuple[int, int, int]:
    """Return the digest, the settings and the occurrence number of a key. Raises ValueError if it is none."""
    if key[32:33] != "-" or key[49:50] != "-":
        raise ValueError(f"key is {key!r}")
    digest, settings = int(key[:32], 16), int(key[33:49], 16)
    if digest < 0 or settings < 0:
        raise ValueError(f"key is {key!r}")
    return digest, settings, int(key[50:])


def read_source(source: str) -> int:
    """Return the digest of an input line. Raises ValueError if it is none."""
    digest = int(source, 16)
    if digest >> 128:  # too long, or negative
        raise ValueError(f"source is {source!r}")
    return digest


def read_checked(line: bytes) -> tuple[bool, int, int, int, int | None] | None:
    """Return what resuming needs of a line of our own making that is as it was written; None of any other.

    Returns:
        Whether it holds an answer; the three parts of its key; its source, None if it has none.
    """
    body = line[:-_CHECK_BYTES]
    if line[-_CHECK_BYTES:] != b'%s%08x"}\n' % (_CHECK, zlib.crc32(body)):
        return None
    matched = _KEY_AT_END.search(body, len(body) - 160)
    if matched is None:
        return None
    digest, settings, occurrence, source = matched.groups()
    success = not is_failed(body)
    return success, int(digest, 16), int(settings, 16), int(occurrence), int(source, 16) if source else None


def is_answer(row: Mapping[str, Any]) -> bool:
    """Return whether a decoded line holds an answer. Raises KeyError if it is no line of an output file."""
    output, status = row["output"], row.get("status")
    return status == "success" or status == "cached" or (status is None and output is not None)


def is_same_answer(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two decoded lines hold the same answer, be it for another row of the input."""
    rows = ({name: one[name] for name in one if name not in _OF_THE_INPUT} for one in (row, other))
    return next(rows) == next(rows)


_OF_THE_INPUT = frozenset({"index", "metadata", "source", "check"})


def index_of(line: bytes) -> int | None:
    """Return the index of a line of our own making, None for any other."""
    matched = _INDEX.match(line)
    return None if matched is None else int(matched[1])


def is_failed(line: bytes) -> bool:
    """Return whether a line of our own making holds an error."""
    return line.find(_FAILED, 0, 64) >= 0


def write_line(item: BatchItem, save_input: bool | str, save_raw: bool) -> bytes:
    """Return a settled item as a line.

    A paid answer is written whatever it holds: half a character (which models do send) is escaped, metadata that JSON
    does not know become text.
    """
    outcome = item.outcome
    row: dict[str, Any] = {"index": item.index, "output": None, "status": "error"}
    if isinstance(outcome, ChatCompletionResult):
        row["output"] = outcome.content
        row["status"] = "cached" if outcome.cached else "success"
    if save_input and item.request is not None:
        messages = item.request.messages
        row["input"] = messages if save_input is True else messages[-1:]
    row["metadata"] = item.metadata
    if isinstance(outcome, ChatCompletionResult):
        _add_result(row, outcome, save_raw)
    elif outcome is not None:
        row["error"] = error_fields(outcome)
    if item.key:
        row["key"] = item.key
    if item.source is not None:
        row["source"] = f"{item.source:032x}"
    return encode_line(row)


def _add_result(row: dict[str, Any], result: ChatCompletionResult, save_raw: bool) -> None:
    row["usage"] = result.usage
    row["finish_reason"] = result.finish_reason
    row["model"] = result.model
    row["request_id"] = result.request_id
    row["latency"] = None if result.latency is None else round(result.latency, 4)
    if result.cost is not None:
        row["cost"] = round(result.cost, 12)
    if result.attempts != 1:
        row["attempts"] = result.attempts
    if result.hedged:
        row["hedged"] = result.hedged
    if result.reasoning_content is not None:
        row["reasoning_content"] = result.reasoning_content
    if result.native_finish_reason not in (None, result.finish_reason):
        row["native_finish_reason"] = result.native_finish_reason
    if result.tool_calls:
        row["tool_calls"] = [call.as_dict() for call in result.tool_calls]
        if result.native:
            row["native"] = dict(result.native)
    if save_raw:
        row["raw"] = result.raw


def encode_line(row: Mapping[str, Any]) -> bytes:
    """Return a decoded line as bytes again, with its check."""
    if "check" in row:
        row = {name: row[name] for name in row if name != "check"}
    try:
        return _with_check(_write(row).encode()[:-1])
    except Exception:  # half a character, or metadata: the caller's own objects, whose __str__ may raise anything
        return _with_check(_encode_odd(row)[:-1])


def _with_check(body: bytes) -> bytes:
    return b'%s%s%08x"}\n' % (body, _CHECK, zlib.crc32(body))


def _encode_odd(row: Mapping[str, Any]) -> bytes:
    try:
        return _write_ascii(row).encode()
    except Exception:  # as above
        return _write_ascii({**row, "metadata": _as_text(row.get("metadata"))}).encode()


def _as_text(metadata: Any) -> str:
    try:
        return repr(metadata)
    except Exception:  # as above
        return f"<{type(metadata).__name__}>"


def read_item(row: Mapping[str, Any], index: int) -> BatchResultItem:
    """Rebuild what the user sees from a decoded line of an earlier run."""
    if row.get("status") == "error":
        fields = row.get("error")
        fields = fields if isinstance(fields, dict) else {"message": str(fields or "")}  # older files have a text
        return result_item(index, error_from_fields(fields), row.get("metadata"), resumed=True)
    usage = row.get("usage")
    calls = row.get("tool_calls")
    result = ChatCompletionResult(
        content=row.get("output") or "",
        usage=Usage(usage) if isinstance(usage, dict) else None,
        reasoning_content=row.get("reasoning_content"),
        tool_calls=[_read_call(call) for call in calls] if calls else None,
        finish_reason=row.get("finish_reason"),
        model=row.get("model"),
        request_id=row.get("request_id"),
        latency=row.get("latency"),
        cached=row.get("status") == "cached",
        body=json.dumps(row["raw"]).encode() if row.get("raw") is not None else None,
        attempts=row.get("attempts", 1),
        hedged=row.get("hedged", 0),
        cost=row.get("cost"),
        native_finish_reason=row.get("native_finish_reason") or row.get("finish_reason"),
        native=row.get("native"),
    )
    return result_item(index, result, row.get("metadata"), resumed=True)


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    custom = call.get("custom")
    if isinstance(custom, dict):
        return ToolCall(call["id"], call["type"], {"name": custom.get("name"), "arguments": custom.get("input")})
    return ToolCall(call["id"], call["type"], call["function"])


def with_index(line: bytes, index: int) -> bytes:
    """Return a line with its index set; only the number changes where the line is of our own making."""
    matched = _INDEX.match(line)
    if matched is None:
        return encode_line({**json.loads(line), "index": index})
    if int(matched[1]) == index:
        return line
    changed = b'{"index": %d%s' % (index, line[matched.end() :])
    has_check = changed[-_CHECK_BYTES : 12 - _CHECK_BYTES] == _CHECK
    return _with_check(changed[:-_CHECK_BYTES]) if has_check else changed
