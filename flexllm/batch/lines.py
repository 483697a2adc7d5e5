"""One line of an output file: how a settled row is written, and what is read back from it. Pure.

    {"index": 0, "output": "...", "status": "success", "input": [...], "metadata": {...}, "usage": {...},
     "finish_reason": "stop", "model": "...", "request_id": "...", "latency": 0.21, "key": "...", "source": "..."}

A failed row has `"status": "error"`, `"output": null` and an `error` object. `key` names what was asked: a digest of the
messages, one of model and parameters, and the occurrence number among equal rows. `source` names the input line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..chat import ChatCompletionResult, ToolCall, Usage
from ..errors import error_fields, error_from_fields
from .items import BatchItem, BatchResultItem, result_item

SAVE_INPUT = (True, "last", False)
"""What of the messages a line holds: all, the last one, none."""

_INDEX = re.compile(rb'\{"index": (\d+)(?=[,}])')
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


def is_answer(row: Mapping[str, Any]) -> bool:
    """Return whether a decoded line holds an answer. Raises KeyError if it is no line of an output file."""
    output, status = row["output"], row.get("status")
    return status == "success" or status == "cached" or (status is None and output is not None)


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
    if result.attempts != 1:
        row["attempts"] = result.attempts
    if result.reasoning_content is not None:
        row["reasoning_content"] = result.reasoning_content
    if result.tool_calls:
        row["tool_calls"] = [call.as_dict() for call in result.tool_calls]
    if save_raw:
        row["raw"] = result.raw


def encode_line(row: Mapping[str, Any]) -> bytes:
    """Return a decoded line as bytes again."""
    try:
        return _write(row).encode() + b"\n"
    except Exception:  # half a character, or metadata: the caller's own objects, whose __str__ may raise anything
        return _encode_odd(row)


def _encode_odd(row: Mapping[str, Any]) -> bytes:
    try:
        return _write_ascii(row).encode() + b"\n"
    except Exception:  # as above
        return _write_ascii({**row, "metadata": _as_text(row.get("metadata"))}).encode() + b"\n"


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
        tool_calls=[ToolCall(call["id"], call["type"], call["function"]) for call in calls] if calls else None,
        finish_reason=row.get("finish_reason"),
        model=row.get("model"),
        request_id=row.get("request_id"),
        latency=row.get("latency"),
        cached=row.get("status") == "cached",
        body=json.dumps(row["raw"]).encode() if row.get("raw") is not None else None,
        attempts=row.get("attempts", 1),
    )
    return result_item(index, result, row.get("metadata"), resumed=True)


def with_index(line: bytes, index: int) -> bytes:
    """Return a line with its index set; only the number changes where the line is of our own making."""
    matched = _INDEX.match(line)
    if matched is None:
        return encode_line({**json.loads(line), "index": index})
    return line if int(matched[1]) == index else b'{"index": %d%s' % (index, line[matched.end() :])
