"""What the OpenAI dialect refuses, and in which words.

Source: OpenAI's API reference, chat completions; the sentences are those of its live service, as far as they are known.

Two strictnesses: OpenAI's own, and that of any server of the dialect, which also takes what vLLM, Ollama, DeepSeek, Qwen,
OpenRouter and others are known to take. Fields that nobody is known to take are refused by both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from ..checks import (
    Fault,
    Place,
    Shape,
    anything,
    array,
    boolean,
    either,
    integer,
    json_type,
    mapping,
    number,
    rule,
    table,
    tagged,
    text,
)
from ..schemas import strict_fault
from .messages import NAME, TEXT, messages_shape, order_fault
from .models import model_refusal
from .servers import server_refusal

MAX_CHOICES = 128
MAX_TOOLS = 128
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Fields that OpenAI does not have, and who has them. Source: their API references.
FOREIGN_FIELDS = (
    # DeepSeek, Kimi, Z.ai, Doubao
    "thinking", "user_id",
    # Qwen, SiliconFlow
    "enable_thinking", "thinking_budget", "top_k", "repetition_penalty", "enable_search", "search_options",
    "vl_high_resolution_images", "translation_options", "min_p",
    # vLLM
    "chat_template_kwargs", "thinking_token_budget", "include_reasoning", "structured_outputs", "length_penalty",
    "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens", "skip_special_tokens",
    "spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs", "allowed_token_ids", "bad_words",
    "use_beam_search", "priority", "request_id", "cache_salt", "mm_processor_kwargs", "media_io_kwargs", "documents",
    "chat_template", "add_generation_prompt", "continue_final_message", "return_token_ids",
    # OpenRouter
    "reasoning", "models", "provider", "plugins", "session_id", "usage", "transforms", "route", "top_a",
    # Mistral, Groq, Cerebras, MiniMax
    "random_seed", "prompt_mode", "safe_prompt", "reasoning_format", "disable_reasoning", "reasoning_split",
)  # fmt: skip

_FUNCTION: dict[str, Shape] = {"name": NAME, "description": TEXT, "parameters": mapping(anything), "strict": boolean}
_GRAMMAR = table({"definition": TEXT, "syntax": text(allowed=("lark", "regex"))}, required=("definition", "syntax"))
_FORMAT = tagged(
    "type",
    {"text": table({"type": TEXT}), "grammar": table({"type": TEXT, "grammar": _GRAMMAR}, required=("grammar",))},
)
_CUSTOM = table({"name": NAME, "description": TEXT, "format": _FORMAT}, required=("name",))
_NAMED = table({"name": TEXT}, required=("name",))
_ALLOWED_TOOLS = table(
    {"mode": text(allowed=("auto", "required")), "tools": array(mapping(anything), least=1)},
    required=("mode", "tools"),
)
_JSON_SCHEMA = table(
    {"name": NAME, "description": TEXT, "schema": mapping(anything), "strict": boolean}, required=("name",)
)


@cache
def request_shape(is_own: bool) -> Shape:
    """Return the shape of a body, without what holds between its fields."""
    fields = _own_fields(is_own)
    if not is_own:
        fields |= dict.fromkeys(FOREIGN_FIELDS, anything)
        fields |= {"enable_thinking": boolean, "chat_template_kwargs": mapping(anything), "top_k": integer()}
        fields |= {"thinking": table({"type": TEXT}, required=("type",), is_open=True), "thinking_budget": integer(0)}
        fields |= {"reasoning": mapping(anything)}
    return table(fields, required=("model", "messages"))


def _own_fields(is_own: bool) -> dict[str, Shape]:
    penalty, stop = number(-2, 2), text(least=1)
    stream_options: dict[str, Shape] = {"include_usage": boolean, "include_obfuscation": boolean}
    if not is_own:
        stream_options["continuous_usage_stats"] = boolean
    return {
        "model": text(least=1),
        "messages": messages_shape(is_own=is_own),
        "max_completion_tokens": integer(1),
        "max_tokens": integer(1),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "n": integer(1, MAX_CHOICES),
        "stop": either(string=TEXT, array=array(stop, least=1, most=4 if is_own else None)),
        "seed": integer(),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "logit_bias": mapping(number(-100, 100)),
        "logprobs": boolean,
        "top_logprobs": integer(0, 20),
        "response_format": _response_format(is_own),
        "tools": array(_tool(is_own), least=1 if is_own else 0, most=MAX_TOOLS if is_own else None),
        "tool_choice": _tool_choice(is_own),
        "parallel_tool_calls": boolean,
        "stream": boolean,
        "stream_options": table(stream_options),
        "reasoning_effort": text(allowed=EFFORTS) if is_own else text(allowed=(*EFFORTS, "ultra", "default")),
        "verbosity": text(allowed=("low", "medium", "high")),
        "service_tier": text(allowed=("auto", "default", "flex", "scale", "priority", "fast")) if is_own else TEXT,
        "user": TEXT,
        "safety_identifier": text(most=128),
        "metadata": mapping(text(most=512), most=16, key=text(most=64)),
        "store": boolean,
        "prompt_cache_key": TEXT,
        "prompt_cache_options": table({"mode": text(allowed=("implicit", "explicit")), "ttl": text(allowed=("30m",))}),
        "prompt_cache_retention": text(allowed=("in_memory", "24h")),
        "modalities": array(text(allowed=("text", "audio")), least=1),
        "audio": mapping(anything),
        "moderation": mapping(anything),
        "prediction": table({"type": text(allowed=("content",)), "content": anything}, required=("type", "content")),
        "web_search_options": mapping(anything),
        "functions": array(table({**_FUNCTION}, required=("name",)), least=1),
        "function_call": either(string=text(allowed=("none", "auto")), object=_NAMED),
    }


def _tool(is_own: bool) -> Shape:
    function = table(_FUNCTION, required=("name",))
    shapes = {
        "function": table({"type": TEXT, "function": function}, required=("function",)),
        "custom": table({"type": TEXT, "custom": _CUSTOM}, required=("custom",)),
    }
    if not is_own:  # Kimi and Z.ai run some tools themselves
        shapes |= {"builtin_function": anything, "web_search": anything, "retrieval": anything}
    return tagged("type", shapes)


def _tool_choice(is_own: bool) -> Shape:
    names = ("none", "auto", "required") if is_own else ("none", "auto", "required", "any")
    forms = {
        "function": table({"type": TEXT, "function": _NAMED}, required=("function",)),
        "custom": table({"type": TEXT, "custom": _NAMED}, required=("custom",)),
        "allowed_tools": table({"type": TEXT, "allowed_tools": _ALLOWED_TOOLS}, required=("allowed_tools",)),
    }
    return either(string=text(allowed=names), object=tagged("type", forms))


def _response_format(is_own: bool) -> Shape:
    named = table({"type": TEXT, "json_schema": _JSON_SCHEMA}, required=("json_schema",))
    shapes = {"text": table({"type": TEXT}), "json_object": table({"type": TEXT}), "json_schema": named}
    if not is_own:
        shapes["structural_tag"] = anything  # vLLM
        shapes["json_object"] = table({"type": TEXT, "schema": anything})
    return tagged("type", shapes)


# ---------------------------------------------------------------------------------------- what holds between fields


def request_fault(body: Mapping[str, Any], *, is_own: bool) -> Fault | None:
    """Return the first thing that the service would refuse with a 4xx, or None."""
    fault = request_shape(is_own)(body) or order_fault_in(body)
    if fault is None and len(body) > 2:
        fault = _tool_fault(body, is_own) or _format_fault(body) or _fields_fault(body, is_own)
    return fault or (model_refusal(body) if is_own else server_refusal(body))


def order_fault_in(body: Mapping[str, Any]) -> Fault | None:
    """Return what is wrong between the messages."""
    fault = order_fault(body["messages"])
    return None if fault is None else fault.inside("messages")


def tool_name(tool: Mapping[str, Any]) -> str:
    """Return the name of a tool, or of the tool that a call or a choice names; "" for a server's own tool."""
    kind = tool.get("type")
    named = tool.get(kind) if kind in ("function", "custom") else None
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) else ""


def _tool_fault(body: Mapping[str, Any], is_own: bool) -> Fault | None:
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    if not tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None and (is_own or choice not in (None, "none")):
                return rule(f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name)
        return None
    for at, tool in enumerate(tools):
        fault = _function_fault(tool["function"], is_own) if tool["type"] == "function" else None
        if fault is not None:
            return fault.inside("tools", at, "function", "parameters")
    if isinstance(choice, dict) and choice["type"] != "allowed_tools":
        name = tool_name(choice)
        if name not in map(tool_name, tools):
            return rule(f"Invalid value for 'tool_choice': '{name}' not found in 'tools'.", "tool_choice")
    return None


def _function_fault(function: Mapping[str, Any], is_own: bool) -> Fault | None:
    schema = function.get("parameters")
    if schema is None:
        return None
    fault = strict_fault(schema) if function.get("strict") else None
    if fault is None and schema.get("type", None if is_own else "object") != "object":
        fault = rule(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'.")
    if fault is None:
        return None
    sentence = f"Invalid schema for function '{function['name']}': {fault.expected}"
    return rule(sentence, code="invalid_function_parameters")


def _format_fault(body: Mapping[str, Any]) -> Fault | None:
    asked = body.get("response_format")
    if asked is None:
        return None
    if asked["type"] == "json_object" and not re.search("json", _all_text(body["messages"]), re.IGNORECASE):
        sentence = "must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        return rule(f"'messages' {sentence}", "messages")
    if asked["type"] == "json_schema" and asked["json_schema"].get("strict"):
        fault = strict_fault(asked["json_schema"].get("schema"))
        if fault is not None:
            sentence = f"Invalid schema for response_format '{asked['json_schema']['name']}': {fault.expected}"
            return rule(sentence, "response_format", code="invalid_json_schema")
    return None


def _all_text(messages: Sequence[Mapping[str, Any]]) -> str:
    said = [message.get("content") for message in messages]
    parts = [part.get("text") for content in said if isinstance(content, list) for part in content]
    return "\n".join(text for text in [*said, *parts] if isinstance(text, str))


def _fields_fault(body: Mapping[str, Any], is_own: bool) -> Fault | None:
    if body.get("stream_options") is not None and not body.get("stream"):
        return rule("'stream_options' is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        return rule("'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs")
    if is_own and body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        sentence = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        return rule(sentence, "max_tokens", code="invalid_parameter_combination")
    if body.get("continue_final_message") is True and body.get("add_generation_prompt") is True:
        sentence = "Cannot set both 'continue_final_message' and 'add_generation_prompt' to True."
        return rule(sentence, "continue_final_message")
    return None


# ---------------------------------------------------------------------------------------------------- in which words


class Refusal(NamedTuple):
    """What stands in an error body."""

    message: str
    param: str
    code: str


def refusal(fault: Fault) -> Refusal:
    """Say a fault as OpenAI does."""
    param = param_name(fault.place)
    message, code = _WORDS[fault.kind](fault, param)
    return Refusal(message, param, fault.code or code)


def param_name(place: Place) -> str:
    """Return a place as OpenAI writes it: `messages[0].content`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


_JSON_KINDS = {
    "string": "a string",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a decimal",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def _of_type(fault: Fault, param: str) -> tuple[str, str]:
    kinds = [_JSON_KINDS[kind] for kind in fault.expected.split(" or ")]
    expected = kinds[0] if len(kinds) == 1 else f"one of {' or '.join(kinds)}"
    got = _JSON_KINDS[json_type(fault.value)]
    return f"Invalid type for '{param}': expected {expected}, but got {got} instead.", "invalid_type"


def _of_value(fault: Fault, param: str) -> tuple[str, str]:
    allowed = ", ".join(f"'{value}'" for value in fault.allowed)
    shown = str(fault.value)[:40]
    return f"Invalid value for '{param}': '{shown}'. Supported values are: {allowed}.", "invalid_value"


def _of_range(fault: Fault, param: str) -> tuple[str, str]:
    low, high = fault.bounds
    kind = "integer" if fault.expected == "integer" else "decimal"
    if low is not None and fault.value < low:
        side, ending, sign, bound = "below minimum", "below_min_value", ">=", low
    else:
        side, ending, sign, bound = "above maximum", "above_max_value", "<=", high if high is not None else 0
    sentence = f"{kind} {side} value. Expected a value {sign} {bound:g}, but got {str(fault.value)[:40]} instead."
    return f"Invalid '{param}': {sentence}", f"{kind}_{ending}"


def _of_length(fault: Fault, param: str) -> tuple[str, str]:
    low, high = fault.bounds
    kind = fault.expected
    length = len(fault.value)
    article = _JSON_KINDS[kind]
    if high is not None and length > high:
        sentence = f"{kind} too long. Expected {article} with maximum length {high:g}, but got length {length} instead."
        return f"Invalid '{param}': {sentence}", f"{kind}_above_max_length"
    sentence = f"empty {kind}. Expected {article} with minimum length {low:g}, but got length {length} instead."
    return f"Invalid '{param}': {sentence}", f"empty_{kind}"


def _of_pattern(fault: Fault, param: str) -> tuple[str, str]:
    sentence = f"string does not match pattern. Expected a string that matches the pattern '^{fault.expected}$'."
    return f"Invalid '{param}': {sentence}", "invalid_value"


def _of_unknown(fault: Fault, param: str) -> tuple[str, str]:
    is_top = len(fault.place) == 1
    words = f"Unrecognized request argument supplied: {param}" if is_top else f"Unknown parameter: '{param}'."
    return words, "unknown_parameter"


def _of_missing(fault: Fault, param: str) -> tuple[str, str]:
    return f"Missing required parameter: '{param}'.", "missing_required_parameter"


def _of_rule(fault: Fault, param: str) -> tuple[str, str]:
    return fault.expected, "invalid_value"


_WORDS = {
    "missing": _of_missing,
    "unknown": _of_unknown,
    "type": _of_type,
    "value": _of_value,
    "range": _of_range,
    "length": _of_length,
    "pattern": _of_pattern,
    "rule": _of_rule,
}
