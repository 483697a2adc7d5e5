"""The shape of Anthropic's requests, and in which words one is refused.

Source: Anthropic's API reference, messages; the sentences are those of its live service, as far as they are known.

What holds between the fields and between the messages is in `rules`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ..checks import (
    Fault,
    Place,
    Shape,
    anything,
    array,
    boolean,
    either,
    integer,
    mapping,
    number,
    rule,
    ruled,
    table,
    tagged,
    text,
)

VERSIONS = ("2023-06-01", "2026-10-21")
SAMPLING = ("temperature", "top_p", "top_k")
MIN_BUDGET = 1024  # tokens
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
# Tools that Anthropic runs or knows itself begin with one of these; their dates are many, and are not checked.
SERVER_TOOLS = (
    "bash_", "text_editor_", "code_execution_", "web_search_", "web_fetch_", "memory_", "computer_", "browser_",
    "tool_search_tool_",
)  # fmt: skip
# Blocks of an answer in which such tools were used; they come back in the history.
SERVER_BLOCKS = (
    "server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result",
    "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result",
    "container_upload",
)  # fmt: skip

TEXT = text()
TOOL_NAME = text(pattern="[a-zA-Z0-9_-]{1,128}")
CALL_ID = text(pattern="[a-zA-Z0-9_-]+")
CACHE_CONTROL = table({"type": text(allowed=("ephemeral",)), "ttl": text(allowed=("5m", "1h"))}, required=("type",))


def _base64(value: Any) -> Fault | None:
    fault = text(least=1)(value)
    if fault is not None:
        return fault
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return rule("Invalid base64 data")
    return None


def _object(fields: Mapping[str, Shape], *required: str, is_cacheable: bool = False) -> Shape:
    """Return the shape of a tagged object; its `type` is always there."""
    cache_control: dict[str, Shape] = {"cache_control": CACHE_CONTROL} if is_cacheable else {}
    return table({"type": TEXT, **cache_control, **fields}, required=required)


def _union(shapes: Mapping[str, Shape]) -> Shape:
    return tagged("type", shapes, is_in_place=True)


def _base64_source(media_types: tuple[str, ...]) -> Shape:
    return _object({"media_type": text(allowed=media_types), "data": _base64}, "media_type", "data")


_URL_SOURCE = _object({"url": text(least=1)}, "url")
_FILE_SOURCE = _object({"file_id": text(least=1)}, "file_id")
_CITATIONS = table({"enabled": boolean})
_TEXT_BLOCK = _object({"text": TEXT, "citations": array(anything)}, "text", is_cacheable=True)
_TEXT_ALONE = _union({"text": _TEXT_BLOCK})
_IMAGE_BLOCK = _object(
    {
        "source": _union({"base64": _base64_source(IMAGE_TYPES), "url": _URL_SOURCE, "file": _FILE_SOURCE}),
        "transformations": table({"oversized_image": text(allowed=("downsize", "error"))}),
    },
    "source",
    is_cacheable=True,
)
_PLAIN_SOURCE = _object({"media_type": text(allowed=("text/plain",)), "data": TEXT}, "media_type", "data")
_CONTENT = either(string=TEXT, array=array(_union({"text": _TEXT_BLOCK, "image": _IMAGE_BLOCK})))
_DOCUMENT_SOURCE = _union(
    {
        "base64": _base64_source(("application/pdf",)),
        "text": _PLAIN_SOURCE,
        "url": _URL_SOURCE,
        "file": _FILE_SOURCE,
        "content": _object({"content": _CONTENT}, "content"),
    }
)
_DOCUMENT_BLOCK = _object(
    {"source": _DOCUMENT_SOURCE, "title": TEXT, "context": TEXT, "citations": _CITATIONS}, "source", is_cacheable=True
)
_SEARCH_RESULT = _object(
    {"source": TEXT, "title": TEXT, "content": array(_TEXT_ALONE), "citations": _CITATIONS},
    "source", "title", "content",
    is_cacheable=True,
)  # fmt: skip
_OF_RESULTS = {
    "text": _TEXT_BLOCK,
    "image": _IMAGE_BLOCK,
    "document": _DOCUMENT_BLOCK,
    "search_result": _SEARCH_RESULT,
    "tool_reference": mapping(anything),
    "browser_state": mapping(anything),
}
_TOOL_RESULT = _object(
    {
        "tool_use_id": CALL_ID,
        "content": either(string=TEXT, array=array(_union(_OF_RESULTS))),
        "is_error": boolean,
        "toolset_name": TEXT,
    },
    "tool_use_id",
    is_cacheable=True,
)
_TOOL_USE = _object(
    {"id": CALL_ID, "name": TOOL_NAME, "input": mapping(anything), "caller": mapping(anything), "toolset_name": TEXT},
    "id", "name", "input",
    is_cacheable=True,
)  # fmt: skip
_SHARED_BLOCKS: dict[str, Shape] = {
    "text": _TEXT_BLOCK,
    "document": _DOCUMENT_BLOCK,
    **dict.fromkeys(SERVER_BLOCKS, mapping(anything)),
}
_USER_BLOCKS = {
    **_SHARED_BLOCKS,
    "image": _IMAGE_BLOCK,
    "search_result": _SEARCH_RESULT,
    "tool_result": _TOOL_RESULT,
}
_ASSISTANT_BLOCKS = {
    **_SHARED_BLOCKS,
    "thinking": _object({"thinking": TEXT, "signature": TEXT}, "thinking", "signature"),
    "redacted_thinking": _object({"data": text(least=1)}, "data"),
    "tool_use": _TOOL_USE,
}
_MESSAGES = array(
    tagged(
        "role",
        {
            role: table(
                {"role": TEXT, "content": either(string=TEXT, array=array(_union(blocks)))}, required=("content",)
            )
            for role, blocks in (
                ("user", _USER_BLOCKS),
                ("assistant", _ASSISTANT_BLOCKS),
                ("system", {"text": _TEXT_BLOCK}),
            )
        },
    ),
    least=1,
)


def _no_alternatives(schema: Any) -> Fault | None:
    for name in ("oneOf", "allOf", "anyOf"):
        if name in schema:
            return rule("input_schema does not support oneOf, allOf, or anyOf at the top level")
    return None


_CUSTOM_TOOL = _object(
    {
        "name": TOOL_NAME,
        "description": TEXT,
        "input_schema": ruled(
            table({"type": text(allowed=("object",))}, required=("type",), is_open=True), _no_alternatives
        ),
        "strict": boolean,
        "allowed_callers": array(TEXT),
        "defer_loading": boolean,
        "eager_input_streaming": boolean,
        "input_examples": array(mapping(anything)),
    },
    "name", "input_schema",
    is_cacheable=True,
)  # fmt: skip


def _tool(value: Any) -> Fault | None:
    """A tool without `type` is the caller's own."""
    kind = value.get("type") if type(value) is dict else None
    if type(kind) is str and kind.startswith(SERVER_TOOLS):
        return None
    if kind not in (None, "custom"):
        return Fault("value", "string", kind, ("type",), allowed=("custom", *(f"{name}*" for name in SERVER_TOOLS)))
    fault = _CUSTOM_TOOL(value)
    return None if fault is None else fault.inside("custom")


_PARALLEL: dict[str, Shape] = {"disable_parallel_tool_use": boolean}
_TOOL_CHOICE = _union(
    {
        "auto": _object(_PARALLEL),
        "any": _object(_PARALLEL),
        "tool": _object({"name": text(least=1), **_PARALLEL}, "name"),
        "none": _object({}),
    }
)
_BINDING = table({"prefix_mismatch_behavior": text(allowed=("error", "drop_block"))})
_DISPLAY: dict[str, Shape] = {"display": text(allowed=("summarized", "omitted")), "block_binding": _BINDING}
_THINKING = _union(
    {
        "enabled": _object({"budget_tokens": integer(MIN_BUDGET), **_DISPLAY}, "budget_tokens"),
        "adaptive": _object(_DISPLAY),
        "disabled": _object({}),
        "between_tools": _object({}),
    }
)
_FORMAT = _union({"json_schema": _object({"schema": mapping(anything)}, "schema")})
_SYSTEM = either(string=TEXT, array=array(_TEXT_ALONE))
_COUNTED: dict[str, Shape] = {
    "model": text(least=1, most=256),
    "messages": _MESSAGES,
    "system": _SYSTEM,
    "tools": array(_tool),
    "tool_choice": _TOOL_CHOICE,
    "thinking": _THINKING,
    "output_config": table({"effort": text(allowed=("low", "medium", "high", "xhigh", "max")), "format": _FORMAT}),
    "cache_control": CACHE_CONTROL,
    "speed": text(allowed=("standard", "fast")),
}
_SENT: dict[str, Shape] = {
    **_COUNTED,
    "max_tokens": integer(0),  # 0 only warms the cache
    "stop_sequences": array(text(least=1)),
    "stream": boolean,
    "metadata": table({"user_id": text(most=256)}),
    "service_tier": text(allowed=("auto", "standard_only")),
    "inference_geo": TEXT,
    "container": either(string=TEXT, object=mapping(anything)),
    "diagnostics": mapping(anything),
}
_SAMPLED: dict[str, Shape] = {"temperature": number(0, 1), "top_p": number(0, 1), "top_k": integer(0)}


@cache
def request_shape(version: str, is_count: bool) -> Shape:
    """Return the shape of a body: of a message, or of one whose tokens are only counted."""
    if is_count:
        return table(_COUNTED, required=("model", "messages"))
    sampled = _SAMPLED if version == VERSIONS[0] else {}
    return table({**_SENT, **sampled}, required=("model", "max_tokens", "messages"))


# ---------------------------------------------------------------------------------------------------- in which words


def refusal(fault: Fault) -> str:
    """Say a fault as Anthropic does: the place, then what should be there."""
    sentence = _WORDS[fault.kind](fault)
    return f"{place_name(fault.place)}: {sentence}" if fault.place else sentence


def place_name(place: Place) -> str:
    """Return a place as Anthropic writes it: `messages.0.content`."""
    return ".".join(map(str, place))


_JSON_KINDS = {
    "string": "a valid string",
    "boolean": "a valid boolean",
    "integer": "a valid integer",
    "number": "a valid number",
    "array": "a valid array",
    "object": "an object",
}


def _of_type(fault: Fault) -> str:
    return f"Input should be {' or '.join(_JSON_KINDS[kind] for kind in fault.expected.split(' or '))}"


def _of_value(fault: Fault) -> str:
    *others, last = (f"'{value}'" for value in fault.allowed)
    return f"Input should be {', '.join(others)} or {last}" if others else f"Input should be {last}"


def _of_range(fault: Fault) -> str:
    low, high = fault.bounds
    if low is not None and fault.value < low:
        return f"Input should be greater than or equal to {low:g}"
    return f"Input should be less than or equal to {high:g}"


def _of_length(fault: Fault) -> str:
    low, high = fault.bounds
    is_long = high is not None and len(fault.value) > high
    amount = f"at most {high:g}" if is_long else f"at least {low:g}"
    if fault.expected == "string":
        return f"String should have {amount} character{'' if amount.endswith(' 1') else 's'}"
    items = "item" if amount.endswith(" 1") else "items"
    return f"List should have {amount} {items} after validation, not {len(fault.value)}"


_WORDS: Mapping[str, Callable[[Fault], str]] = {
    "missing": lambda fault: "Field required",
    "unknown": lambda fault: "Extra inputs are not permitted",
    "type": _of_type,
    "value": _of_value,
    "range": _of_range,
    "length": _of_length,
    "pattern": lambda fault: f"String should match pattern '^{fault.expected}$'",
    "rule": lambda fault: fault.expected,
}
