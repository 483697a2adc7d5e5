"""A request in OpenAI's words, said as its server wants it: history, content parts, parameters.

Everything here is for what differs. A request of plain texts and parameters that every server knows is seen by two quick
looks (`is_plain`, `Dialect.watched`) and goes out as the caller gave it; of others, only what must change is copied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ...errors import InputError
from ...language import _, mark
from ...messages import Message
from ..conversation import NATIVE, SYSTEM_ROLES, native_of, parts_of
from .dialects import SAMPLING, Dialect
from .models import base_name, powers_of
from .parts import adapt_parts
from .thinking import thinking_fields

Payload = dict[str, Any]

_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_EMPTY_WITHOUT = ("tool_calls", "function_call", "audio", "refusal")
"""Fields of an assistant message that may stand without content."""


def is_plain(messages: Sequence[Message], dialect: Dialect) -> bool:
    """Whether every server takes these messages as they are."""
    for message in messages:
        if len(message) != 2 or type(message.get("content")) is not str or message.get("role") not in _PLAIN_ROLES:
            return False
    return not (dialect.one_system and len(messages) > 1 and messages[1]["role"] == "system")


# --- messages ---------------------------------------------------------------------------------------------------------


def adapt_messages(payload: Payload, dialect: Dialect) -> bool:
    """Put into `payload` the messages as the server wants them.

    Returns:
        Whether the last message is to be continued.

    Raises:
        InputError: The server cannot take what a message holds.
    """
    messages = payload["messages"]
    uses_tools = bool(payload.get("tools")) or any(message.get("tool_calls") for message in messages)
    sent: list[Message] | None = None
    for position, message in enumerate(messages):
        changed = _changed(message, position, dialect, uses_tools)
        if changed is not None:
            sent = list(messages) if sent is None else sent
            sent[position] = changed
    if dialect.reasoning_back == "tags" and "glm" in base_name(str(payload["model"])):
        sent = [_thought_aloud(new, given) for new, given in zip(sent or messages, messages, strict=True)]
    continues = bool(messages) and bool(messages[-1].get("prefix"))
    if continues:
        sent = _continued(sent or list(messages), messages[-1], payload, dialect)
    if dialect.one_system:
        sent = _merged_systems(sent or messages) or sent
    if sent is not None:
        payload["messages"] = sent
    return continues


def _changed(message: Message, position: int, dialect: Dialect, uses_tools: bool) -> Message | None:
    """Return a message as the server wants it, None if it is as it wants."""
    role, content = message.get("role"), message.get("content")
    new: Message = {}
    dropped = {NATIVE, "prefix", "is_error"}  # the latter is Anthropic's mark; the text tells it here
    if role == "developer" and not dialect.has_developer:
        new["role"] = "system"
    if isinstance(content, (list, tuple)):
        parts = adapt_parts(content, position, dialect) if content else ""
        if parts is not None:
            new["content"] = parts
    elif content is None and not any(message.get(word) for word in _EMPTY_WITHOUT):
        new["content"] = ""
    if role == "assistant":
        dropped.update(word for word, value in message.items() if value is None and word != "content")
        if not message.get("tool_calls"):
            dropped.add("tool_calls")
        dropped |= dialect.refused_fields
        _history(message, new, dropped, dialect, uses_tools)
    if dialect.short_ids and "tool_call_id" in message:
        short = _short_id(message["tool_call_id"])
        if short != message["tool_call_id"]:
            new["tool_call_id"] = short
    if not new and dropped.isdisjoint(message):
        return None
    return {**{word: value for word, value in message.items() if word not in dropped}, **new}


def _history(message: Message, new: Message, dropped: set[str], dialect: Dialect, uses_tools: bool) -> None:
    """Say what an earlier turn thought and called."""
    calls = message.get("tool_calls")
    if calls:
        said = _calls(calls, dialect)
        if said is not None:
            new["tool_calls"] = said
    details = native_of(message, "openai") if dialect.details_back else None
    if details and "reasoning_details" not in message:
        new["reasoning_details"] = details
    back = dialect.reasoning_back
    reasoning = message.get("reasoning_content")
    if back == "with_tools" and uses_tools and reasoning is None:
        new["reasoning_content"] = ""  # DeepSeek asks for it of every turn of a conversation with tools, be it empty
        return
    if "reasoning_content" not in message:
        return
    if back in ("reasoning", "both") and reasoning and "reasoning" not in message:
        new["reasoning"] = reasoning
    # Without tools DeepSeek reads it in the message that it is to continue alone.
    is_sent = back in ("reasoning_content", "both") or (back == "with_tools" and (uses_tools or message.get("prefix")))
    if not is_sent:
        dropped.add("reasoning_content")


def _thought_aloud(message: Message, given: Message) -> Message:
    """Return a message with what was thought before it between tags, as GLM's templates read it."""
    reasoning, content = given.get("reasoning_content"), message.get("content")
    if not reasoning or message.get("role") != "assistant":
        return message
    thought = f"<think>{reasoning}</think>"
    if isinstance(content, (list, tuple)):
        return {**message, "content": [{"type": "text", "text": thought}, *content]}
    return {**message, "content": f"{thought}{content or ''}"}


def _calls(calls: Any, dialect: Dialect) -> list[Any] | None:
    """Return tool calls as they can be sent, None if they can as they are: arguments are JSON text, never empty."""
    said: list[Any] | None = None
    for position, call in enumerate(calls if isinstance(calls, (list, tuple)) else ()):
        changed: Payload = {}
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            arguments = function.get("arguments")
            if isinstance(arguments, Mapping):
                changed["function"] = {**function, "arguments": _json(arguments, _NO_ARGUMENTS)}
            elif not arguments:
                changed["function"] = {**function, "arguments": "{}"}
        if dialect.short_ids and isinstance(call, Mapping) and _short_id(call.get("id")) != call.get("id"):
            changed["id"] = _short_id(call.get("id"))
        if changed:
            said = list(calls) if said is None else said
            said[position] = {**call, **changed}
    return said


_NO_ARGUMENTS = mark("the arguments of a tool call cannot be written as JSON: {error}")
_NO_SCHEMA = mark("the schema in response_format cannot be written as JSON: {error}")


def _json(value: Any, problem: str) -> str:
    """Return a value as JSON. Raises InputError with a text that has a place for the `error`."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(_(problem, error=error)) from None


def _short_id(given: Any) -> Any:
    """Return an id of nine letters and digits, the same for the same id. Source: Mistral's replies for older models."""
    if not isinstance(given, str) or _SHORT_ID.fullmatch(given):
        return given
    return blake2b(given.encode("utf-8", "replace"), digest_size=5).hexdigest()[:9]


def _continued(sent: list[Message], last: Message, payload: Payload, dialect: Dialect) -> list[Message]:
    """Mark the last message as the beginning of the answer."""
    if last.get("role") != "assistant":
        raise InputError(
            _(
                "prefix stands in a message of the role {role!r}; only an assistant's is continued",
                role=last.get("role"),
            )
        )
    if dialect.prefix is None:
        raise InputError(
            _("{title} has no way to continue an assistant's message; leave `prefix` out", title=dialect.shown)
        )
    if dialect.prefix == "template":
        payload.setdefault("continue_final_message", True)
        payload.setdefault("add_generation_prompt", False)
        return sent
    return [*sent[:-1], {**sent[-1], dialect.prefix: True}]


def _merged_systems(messages: Sequence[Message]) -> list[Message] | None:
    """Return the conversation with its leading system messages as one, None where there are not several.

    Only those that hold text and nothing else are merged.
    """
    leading: list[str] = []
    for message in messages:
        text = _plain_text(message)
        if message.get("role") not in SYSTEM_ROLES or text is None or len(message) != 2:
            break
        leading.append(text)
    if len(leading) < 2:
        return None
    merged = {"role": "system", "content": "\n\n".join(text for text in leading if text)}
    return [merged, *messages[len(leading) :]]


def _plain_text(message: Message) -> str | None:
    parts = list(parts_of(message.get("content")))
    if any(part.get("type") != "text" or len(part) != 2 for part in parts):
        return None
    return "".join(str(part.get("text") or "") for part in parts)


# --- parameters -------------------------------------------------------------------------------------------------------


def adapt_params(payload: Payload, dialect: Dialect, *, stream: bool) -> None:
    """Put into `payload` the parameters as the server and the model want them.

    Raises:
        InputError: They ask for what the server or the model cannot do.
    """
    thinking = payload.pop("thinking", None)
    model = str(payload["model"])
    payload.update(thinking_fields(thinking, dialect, model, payload, stream=stream))
    for word, its_own in dialect.renamed.items():
        _rename(payload, word, its_own)
    if dialect.checks_models:
        _check_openai(payload, dialect, model)
    for word, neutral in dialect.refused_words.items():
        _refuse(payload, word, neutral, _("{title} has no {word}", title=dialect.shown, word=word))
    if dialect.forced_tools and payload.get("tool_choice") is not None:
        _adapt_tool_choice(payload, dialect, model)
    if not dialect.json_schema:
        _tell_schema(payload)


def _refuse(payload: Payload, word: str, neutral: tuple[object, ...], reason: str) -> None:
    """Drop a parameter that asks for nothing; refuse one that asks."""
    if word not in payload:
        return
    value = payload[word]
    if value is not None and not any(value == one for one in neutral):
        raise InputError(_("{reason}; leave {word}={value} out", reason=reason, word=word, value=str(value)[:40]))
    del payload[word]


def _rename(payload: Payload, word: str, its_own: str) -> None:
    """Say a parameter by the server's own word; where both are given, that wins."""
    if word in payload:
        value = payload.pop(word)
        if payload.get(its_own) is None and value is not None:
            payload[its_own] = value


_NOT_THINKING = mark("{model} takes no {word} while it thinks")
_NOT_WHILE_THINKING = mark("{model} takes no {word} while it thinks, or give thinking=False")


def _check_openai(payload: Payload, dialect: Dialect, model: str) -> None:
    """Refuse what OpenAI's models refuse while they think. Source: OpenAI's API reference and its replies."""
    powers = powers_of(dialect, model)
    if powers.fixes_sampling:
        _rename(payload, "max_tokens", "max_completion_tokens")
    effort = payload.get("reasoning_effort")
    if not powers.takes_stop:
        _refuse(payload, "stop", ([],), _("{model} takes no stop sequences", model=model))
    if powers.fixes_sampling and (powers.by_default if effort is None else effort != "none"):
        text = _NOT_WHILE_THINKING if powers.can_stop else _NOT_THINKING
        for word, neutral in SAMPLING.items():
            _refuse(payload, word, neutral, _(text, model=model, word=word))


def _adapt_tool_choice(payload: Payload, dialect: Dialect, model: str) -> None:
    choice, way = payload["tool_choice"], dialect.forced_tools
    is_forced = choice == "required" or isinstance(choice, Mapping)
    if way == "any":
        payload["tool_choice"] = "any" if choice == "required" else choice
    elif way == "by_name" and choice == "required":
        raise InputError(
            _("{title} does not take tool_choice='required'; ask for the call in the messages", title=dialect.shown)
        )
    elif way == "without_thinking" and is_forced:
        thinking = payload.get("thinking")
        if not (isinstance(thinking, Mapping) and thinking.get("type") == "disabled"):
            raise InputError(
                _("{model} cannot be forced to call a tool while it thinks; give thinking=False", model=model)
            )
    elif way == "refused":
        if choice == "none":  # it would be ignored: without tools none is called
            payload.pop("tools", None)
        elif choice != "auto":
            raise InputError(_("{title} cannot be forced to call a tool; leave tool_choice out", title=dialect.shown))
        del payload["tool_choice"]


def _tell_schema(payload: Payload) -> None:
    """Ask for JSON, and put the schema into the system message, where the server does not hold a reply to one."""
    wanted = payload.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, Mapping) else None
    if not isinstance(schema, Mapping):
        raise InputError(_("response_format of type json_schema holds no schema"))
    text = _json(schema, _NO_SCHEMA)
    told = f"Answer with one JSON object that matches this JSON schema, and with nothing else:\n{text}"
    payload["response_format"] = {"type": "json_object"}
    messages = list(payload["messages"])
    if not messages or messages[0].get("role") != "system":
        payload["messages"] = [{"role": "system", "content": told}, *messages]
        return
    first, *others = messages
    content = first.get("content")
    joined: Any = f"{content}\n\n{told}" if isinstance(content, str) and content else told
    if isinstance(content, (list, tuple)):
        joined = [*content, {"type": "text", "text": told}]
    payload["messages"] = [{**first, "content": joined}, *others]
