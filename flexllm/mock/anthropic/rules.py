"""What holds between the fields and the messages of a request to Anthropic.

Asked of bodies of the right shape. Source: Anthropic's API reference: messages, tool use, thinking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..checks import Fault, Place, rule
from ..schemas import open_object
from .models import Model, model_of
from .requests import SAMPLING, SERVER_BLOCKS, VERSIONS, request_shape
from .signatures import is_signed

MAX_CACHE_MARKS = 4
MIN_TOP_P_OF_THINKING = 0.95


class Turn(NamedTuple):
    """Consecutive messages of one role, as the service reads them: one after the other. Each block with its place."""

    role: str
    blocks: list[tuple[Place, Mapping[str, Any]]]


def request_fault(body: Any, version: str, *, is_count: bool) -> Fault | None:
    """Return the first thing that the service would refuse with a 400, or None."""
    fault = request_shape(version, is_count)(body)
    if fault is not None:
        return fault
    model = model_of(body["model"])
    turns = turns_of(body["messages"])
    return (
        _messages_fault(body, turns, model, version)
        or _tools_fault(body, model)
        or _thinking_fault(body, turns, model)
        or _fields_fault(body, model)
    )


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Return the turns of the conversation; system messages belong to none."""
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if not turns or turns[-1].role != message["role"]:
            turns.append(Turn(message["role"], []))
        content = message["content"]
        if isinstance(content, str):
            turns[-1].blocks.append((("messages", at, "content"), {"type": "text", "text": content}))
        else:
            turns[-1].blocks.extend(
                (("messages", at, "content", number), block) for number, block in enumerate(content)
            )
    return turns


# ---------------------------------------------------------------------------------------------------- messages


def _messages_fault(body: Mapping[str, Any], turns: Sequence[Turn], model: Model, version: str) -> Fault | None:
    messages = body["messages"]
    fault = _content_fault(messages, model) or _text_fault(body.get("system"), ("system",))
    if fault is not None:
        return fault
    if not turns or turns[0].role != "user":
        return rule('first message must use the "user" role', "messages")
    for turn in turns:
        for place, block in turn.blocks:
            fault = _block_fault(turn.role, block, version)
            if fault is not None:
                return fault.inside(*place)
    fault = _pairs_fault(turns)
    if fault is None and turns[-1].role == "assistant":
        fault = _prefill_fault(body, turns, model)
    return fault


def _content_fault(messages: Sequence[Mapping[str, Any]], model: Model) -> Fault | None:
    last = len(messages) - 1
    for at, message in enumerate(messages):
        if message["role"] == "system" and not model.takes_system:
            return Fault("value", "string", "system", ("messages", at, "role"), ("user", "assistant"))
        content = message["content"]
        if not content and not (at == last and message["role"] == "assistant"):
            sentence = "all messages must have non-empty content except for the optional final assistant message"
            return rule(sentence, "messages", at, "content")
        fault = _text_fault(content, ("messages", at, "content"))
        if fault is not None:
            return fault
    return None


def _text_fault(content: Any, place: Place) -> Fault | None:
    """Return the first text without words, also inside of tool results."""
    if isinstance(content, str) and content and not content.isspace():
        return None
    if isinstance(content, str):
        return rule("text content blocks must contain non-whitespace text", *place) if content else None
    for at, block in enumerate(content or ()):
        if block["type"] == "text" and not block["text"].strip():
            words = "contain non-whitespace text" if block["text"] else "be non-empty"
            return rule(f"text content blocks must {words}", *place, at, "text")
        if block["type"] == "tool_result":
            fault = _text_fault(block.get("content"), (*place, at, "content"))
            if fault is not None:
                return fault
    return None


def _block_fault(role: str, block: Mapping[str, Any], version: str) -> Fault | None:
    kind = block["type"]
    if version != VERSIONS[0]:
        if role == "assistant" and kind == "document":
            return rule("`document` blocks are not permitted in assistant messages", "type")
        if role == "user" and kind == "text" and block.get("citations"):
            return Fault("unknown", place=("text", "citations"))
    if kind == "thinking" and not is_signed(block["thinking"], block["signature"]):
        return rule("Invalid `signature` in `thinking` block")
    return None


def _pairs_fault(turns: Sequence[Turn]) -> Fault | None:
    """Each use of a tool is answered in the next turn, first thing there, and once; no result comes unasked."""
    known: set[str] = set()
    asked: dict[str, Place] = {}
    for turn in turns:
        if turn.role == "user":
            fault = _results_fault(turn, asked)
            if fault is not None:
                return fault
            asked = {}
            continue
        for place, block in turn.blocks:
            if block["type"] == "tool_use":
                if block["id"] in known:
                    return rule("`tool_use` ids must be unique", *place, "id")
                known.add(block["id"])
                asked[block["id"]] = place
    return _unanswered(asked) if asked else None


def _results_fault(turn: Turn, asked: Mapping[str, Place]) -> Fault | None:
    waiting = dict(asked)
    other: Place | None = None
    for place, block in turn.blocks:
        if block["type"] != "tool_result":
            other = other or place
            continue
        call_id = block["tool_use_id"]
        if call_id not in asked:
            return rule(
                f"unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` block must have a "
                "corresponding `tool_use` block in the previous message.",
                *place,
            )
        if call_id not in waiting:
            sentence = "each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
            return rule(f"{sentence}{call_id}", *place)
        if other is not None:
            return rule("`tool_result` blocks must come first in the message that follows `tool_use`", *place)
        del waiting[call_id]
    return _unanswered(waiting) if waiting else None


def _unanswered(asked: Mapping[str, Place]) -> Fault:
    sentence = (
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(asked)}. Each `tool_use` "
        "block must have a corresponding `tool_result` block in the next message."
    )
    return rule(sentence, *next(iter(asked.values())))


def _prefill_fault(body: Mapping[str, Any], turns: Sequence[Turn], model: Model) -> Fault | None:
    blocks = [block for _, block in turns[-1].blocks]
    if any(block["type"] in SERVER_BLOCKS for block in blocks):  # a turn that Anthropic paused and is to take up again
        return None
    if not model.takes_prefill:
        sentence = (
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
        return rule(sentence, "messages")
    if thinks(body):
        return rule("a final assistant message cannot be continued when thinking is enabled", "messages")
    if blocks and blocks[-1]["type"] == "text" and blocks[-1]["text"] != blocks[-1]["text"].rstrip():
        return rule("final assistant content cannot end with trailing whitespace", "messages")
    return None


# ---------------------------------------------------------------------------------------------------- tools


def _tools_fault(body: Mapping[str, Any], model: Model) -> Fault | None:
    tools, choice = body.get("tools") or (), body.get("tool_choice")
    names: set[str] = set()
    for at, tool in enumerate(tools):
        name = tool.get("name")
        if isinstance(name, str):  # some of Anthropic's tools have none
            if name in names:
                return rule("Tool names must be unique.", "tools")
            names.add(name)
        if tool.get("strict") and is_own_tool(tool):
            fault = _closed_fault(tool["input_schema"], ("tools", at, "custom", "input_schema"))
            if fault is not None:
                return fault
    return None if choice is None else _choice_fault(body, choice, names, model)


def is_own_tool(tool: Mapping[str, Any]) -> bool:
    """Whether a tool is the caller's, and not one that Anthropic runs or knows."""
    return tool.get("type") in (None, "custom")


def _choice_fault(body: Mapping[str, Any], choice: Mapping[str, Any], names: set[str], model: Model) -> Fault | None:
    if not names and choice["type"] != "none":
        return rule("tool_choice may only be specified while providing `tools`.", "tool_choice")
    if choice["type"] not in ("any", "tool"):
        return None
    if choice["type"] == "tool" and choice["name"] not in names:
        return rule(f"Tool '{choice['name']}' not found in provided tools", "tool_choice", "name")
    if not model.takes_forced:
        return rule("tool_choice that forces tool use is not supported by this model.", "tool_choice", "type")
    if (body.get("thinking") or {}).get("type") == "enabled":
        return rule("Thinking may not be enabled when tool_choice forces tool use.", "tool_choice", "type")
    return None


def _closed_fault(schema: object, place: Place) -> Fault | None:
    where = open_object(schema)
    if where is None:
        return None
    sentence = "For 'object' type, 'additionalProperties' must be explicitly set to false"
    return rule(sentence, *place, *where)


# ---------------------------------------------------------------------------------------------------- thinking


def thinks(body: Mapping[str, Any]) -> bool:
    """Whether the model thinks first: as the request says or, if it says nothing, as the model does by itself."""
    thinking = body.get("thinking")
    if thinking is None:
        return model_of(body["model"]).thinks_by_default
    return thinking["type"] in ("enabled", "adaptive")


def _thinking_fault(body: Mapping[str, Any], turns: Sequence[Turn], model: Model) -> Fault | None:
    thinking = body.get("thinking")
    if thinking is None:
        return None
    kind = thinking["type"]
    if kind not in model.thinking:
        advice = 'Use "thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
        hint = f" {advice}" if kind == "enabled" else ""
        return rule(f'"thinking.type.{kind}" is not supported for this model.{hint}', "thinking", "type")
    if kind != "enabled":
        return None
    if "max_tokens" in body and thinking["budget_tokens"] >= body["max_tokens"]:
        sentence = "`max_tokens` must be greater than `thinking.budget_tokens`."
        return rule(sentence, "thinking", "enabled", "budget_tokens")
    return _replay_fault(turns)


def _replay_fault(turns: Sequence[Turn]) -> Fault | None:
    """With thinking enabled, the assistant's turn of an open tool loop begins with what it thought."""
    if len(turns) < 2 or not any(block["type"] == "tool_result" for _, block in turns[-1].blocks):
        return None
    place, first = turns[-2].blocks[0]
    if first["type"] in ("thinking", "redacted_thinking"):
        return None
    sentence = (
        f"Expected `thinking` or `redacted_thinking`, but found `{first['type']}`. When `thinking` is enabled, a final "
        "`assistant` message must start with a thinking block (preceding the lastmost set of `tool_use` and "
        "`tool_result` blocks)."
    )
    return rule(sentence, *place, "type")


# ---------------------------------------------------------------------------------------------------- other fields


def _fields_fault(body: Mapping[str, Any], model: Model) -> Fault | None:
    if body.get("max_tokens", 0) > model.max_tokens:
        sentence = (
            f"{body['max_tokens']} > {model.max_tokens}, which is the maximum allowed number of output tokens for "
            f"{body['model']}"
        )
        return rule(sentence, "max_tokens")
    return _output_fault(body, model) or _sampling_fault(body, model) or _cache_fault(body)


def _output_fault(body: Mapping[str, Any], model: Model) -> Fault | None:
    config = body.get("output_config") or {}
    effort, wanted = config.get("effort"), config.get("format")
    if effort is not None and effort not in model.efforts:
        if not model.efforts:
            return rule("This model does not support the effort parameter.", "output_config", "effort")
        return Fault("value", "string", effort, ("output_config", "effort"), model.efforts)
    if effort in ("xhigh", "max") and model.is_bounded and not thinks(body):
        sentence = "effort above 'high' is not supported for this model while thinking is off."
        return rule(sentence, "output_config", "effort")
    if wanted is None:
        return None
    if not model.has_schemas:
        return rule("This model does not support structured outputs.", "output_config", "format")
    return _closed_fault(wanted["schema"], ("output_config", "format", "schema"))


def _sampling_fault(body: Mapping[str, Any], model: Model) -> Fault | None:
    given = [name for name in SAMPLING if body.get(name) is not None]
    if given and not model.samples:
        return rule(f"`{given[0]}` is not supported by this model.", given[0])
    if not given or not thinks(body):
        return None
    if body.get("temperature") not in (None, 1):
        return rule("`temperature` may only be set to 1 when thinking is enabled.", "temperature")
    if body.get("top_k") is not None:
        return rule("`top_k` must be unset when thinking is enabled.", "top_k")
    if (body.get("top_p") or MIN_TOP_P_OF_THINKING) < MIN_TOP_P_OF_THINKING:
        return rule("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.", "top_p")
    return None


def _cache_fault(body: Mapping[str, Any]) -> Fault | None:
    count = sum(1 for _ in _cache_marks(body))
    if count <= MAX_CACHE_MARKS:
        return None
    sentence = f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {count}."
    return rule(sentence)


def _cache_marks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield everything that is marked for the cache."""
    contents = [body.get("system"), body.get("tools"), *(message["content"] for message in body["messages"])]
    waiting = [item for content in contents if isinstance(content, list) for item in content]
    waiting.append(body)
    while waiting:
        item = waiting.pop()
        if item.get("cache_control") is not None:
            yield item
        if item.get("type") == "tool_result" and isinstance(item.get("content"), list):
            waiting.extend(item["content"])
