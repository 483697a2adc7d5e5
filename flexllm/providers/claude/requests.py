"""A chat request, turned into the body of `POST /v1/messages`: OpenAI's parameters in Anthropic's words.

What Anthropic cannot do is refused by name, unless the value asks for nothing (`n=1`, `logprobs=False`). Fields that are
not OpenAI's are taken for Anthropic's own and pass unchanged; where both say the same thing, Anthropic's wins.
Source: Anthropic's API reference, messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...chat import ChatRequest
from ...errors import InputError
from ...language import _, mark
from ..base import refuse_stream
from ..thinking import LEVELS, Thinking, checked_thinking
from .messages import Conversation, system_field
from .models import ClaudeModel, claude_model, thinking_fields
from .parts import Block, is_blank
from .schemas import closed_schema
from .tools import tool_fields

Fields = dict[str, Any]

STRICT_VERSION = "2026-10-21"
"""From this version of the API on sampling parameters, documents of the assistant and citations of the user are refused."""

_REFUSED: dict[str, tuple[Any, str]] = {
    "n": (1, mark("ask once for each answer")),
    "seed": (None, mark("leave it out")),
    "logprobs": (False, mark("leave it out")),
    "top_logprobs": (0, mark("leave it out")),
    "logit_bias": ({}, mark("leave it out")),
    "presence_penalty": (0, mark("leave it out")),
    "frequency_penalty": (0, mark("leave it out")),
    "modalities": (["text"], mark("Claude writes text alone")),
    "audio": (None, mark("Claude writes text alone")),
    "prediction": (None, mark("leave it out")),
    "store": (False, mark("leave it out")),
    "verbosity": ("medium", mark("ask for it in the system message")),
    "functions": ([], mark("give them as tools")),
    "function_call": (None, mark("give tool_choice")),
    "prompt_cache_key": (None, mark("mark what is to be cached with cache_control")),
    "prompt_cache_options": (None, mark("mark what is to be cached with cache_control")),
    "prompt_cache_retention": (None, mark("mark what is to be cached with cache_control")),
    "web_search_options": (None, mark('give the tool {"type": "web_search_20250305", "name": "web_search"}')),
}
"""OpenAI's parameters that Anthropic has nothing for: the value that asks for nothing, and what to do instead."""

_TIERS = {"auto": "auto", "standard_only": "standard_only", "default": "standard_only"}
_NAMED = frozenset({"metadata", "safety_identifier", "user", "stop", "stop_sequences", "service_tier"})
_SAMPLING = ("temperature", "top_p", "top_k")
_JSON_ALONE = "Answer with one JSON object and nothing else: no words around it, no code fence."
_JSON_OF_SCHEMA = (
    "Answer with JSON that matches this JSON schema and nothing else: no words around it, no code fence.\n"
)


class _Asked(NamedTuple):
    """What the parameters come to.

    Attributes:
        max_tokens: The limit of the whole reply.
        thinking: The thinking object; None where nothing is said of it.
        system: The caller's own `system` field.
        instruction: Words that stand for a form of the answer which the model cannot be held to.
    """

    max_tokens: int
    thinking: Mapping[str, Any] | None = None
    system: Any = None
    instruction: str | None = None


def build_body(request: ChatRequest, *, version: str, stream: bool) -> Fields:
    """Return the body of a request.

    Args:
        version: The version of the API that it is sent to.

    Raises:
        InputError: Something cannot be said, or the model named cannot do it.
    """
    fields = {name: value for name, value in request.params.items() if value is not None}
    is_strict = version[:1].isdigit() and version >= STRICT_VERSION
    name = str(fields.pop("model", request.model))
    model = claude_model(name)
    asked = _asked(fields, name, model, is_strict) if fields else _Asked(model.max_tokens)
    conversation = _conversation(request, is_strict)
    if model.is_claude:
        _check_turns(conversation, name, model, asked.thinking)
    body: Fields = {"model": name, "max_tokens": asked.max_tokens}
    if asked.system or conversation.system or asked.instruction:
        system = system_field(asked.system, conversation.system, asked.instruction)
        if system:
            body["system"] = system
    body["messages"] = conversation.turns
    _put_stream(fields, stream)
    body.update(fields)
    return body


def _asked(fields: Fields, name: str, model: ClaudeModel, is_strict: bool) -> _Asked:
    """Read the parameters. What stays in `fields` is Anthropic's, and is sent."""
    _refuse(fields)
    config, thinking = _output_config(fields, name, model)
    max_tokens = _max_tokens(fields, model, thinking)
    _check_sampling(fields, name, model, thinking, is_strict)
    instruction = _response_format(fields, config, model)
    own = {
        "thinking": thinking,
        **tool_fields(fields, name, model, thinking),
        "output_config": config,
        **_names(fields),
    }
    system = fields.pop("system", None)
    fields.update({field: value for field, value in own.items() if value})
    return _Asked(max_tokens, thinking, system, instruction)


def _put_stream(given: Fields, stream: bool) -> None:
    given.pop("stream_options", None)  # usage always comes
    if not stream:
        refuse_stream(given)
        given.pop("stream", None)
    else:
        given["stream"] = True


def _refuse(given: Fields) -> None:
    """Refuse what Anthropic has no word for, and take out what asks for nothing."""
    for field in [field for field in given if field in _REFUSED]:
        neutral, instead = _REFUSED[field]
        if given.pop(field) != neutral:
            raise InputError(
                _("{field} is nothing that Claude can be asked for: {instead}", field=field, instead=_(instead))
            )
    if "messages" in given:
        raise InputError(_("messages are given twice: as the conversation and as a parameter"))


# --- thinking and length ----------------------------------------------------------------------------------------------


def _output_config(given: Fields, name: str, model: ClaudeModel) -> tuple[Fields, Mapping[str, Any] | None]:
    """Return the output configuration as far as it is the caller's own or tells the effort, and the thinking object."""
    config = given.pop("output_config", None) or {}
    if not isinstance(config, Mapping):
        raise InputError(_("output_config must be an object, not {kind}", kind=type(config).__name__))
    config = dict(config)
    if "thinking" not in given and "reasoning_effort" not in given:
        return config, None
    own_effort = config.get("effort")
    if isinstance(given.get("thinking"), str) and own_effort is not None:
        raise InputError(_("thinking and output_config.effort both say how hard to think: give one of them"))
    wanted = _wanted_thinking(given)
    thinking, effort = thinking_fields(name, model, wanted)
    if wanted is False and model.weak_when_off and own_effort in ("xhigh", "max"):
        raise InputError(
            _("{name} takes no effort above 'high' while thinking is off: lower output_config.effort", name=name)
        )
    if effort is not None and own_effort is None:
        config["effort"] = effort
    return config, thinking


def _wanted_thinking(given: Fields) -> Thinking | None:
    wanted = checked_thinking(given.pop("thinking", None))
    word = given.pop("reasoning_effort", None)
    if word is None:
        return wanted
    if wanted is not None:
        raise InputError(_("thinking and reasoning_effort both say how hard to think: give one of them"))
    if not isinstance(word, str) or word.strip().lower() not in (*LEVELS, "none"):
        raise InputError(
            _(
                "reasoning_effort={word!r} is not understood; give one of none, {levels}",
                word=word,
                levels=", ".join(LEVELS),
            )
        )
    return checked_thinking(word)


def _is_on(thinking: Mapping[str, Any] | None) -> bool:
    return thinking is not None and thinking.get("type") in ("enabled", "adaptive")


def _has_budget(thinking: Mapping[str, Any] | None) -> bool:
    return thinking is not None and thinking.get("type") == "enabled"


def _max_tokens(given: Fields, model: ClaudeModel, thinking: Mapping[str, Any] | None) -> int:
    """Return the limit of the whole reply, thinking included."""
    other = given.pop("max_completion_tokens", None)
    limit = given.pop("max_tokens", other)
    budget = thinking.get("budget_tokens") if thinking is not None and _has_budget(thinking) else 0
    budget = budget if isinstance(budget, int) else 0
    if limit is None:
        limit = model.max_tokens + budget
        if model.most_tokens is not None:
            limit = min(limit, model.most_tokens)
    elif isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InputError(_("max_tokens={limit!r} must be a whole number of tokens", limit=limit))
    if model.is_claude and budget and limit <= budget:
        raise InputError(
            _(
                "max_tokens={limit} leaves no room for an answer: thinking alone may take {budget} tokens of it; raise "
                "max_tokens, or let it think less",
                limit=limit,
                budget=budget,
            )
        )
    return limit


# --- sampling ---------------------------------------------------------------------------------------------------------


def _check_sampling(
    given: Fields, name: str, model: ClaudeModel, thinking: Mapping[str, Any] | None, is_strict: bool
) -> None:
    """Refuse temperature and the like where they are; 1, which changes nothing, falls away instead."""
    for field in _SAMPLING:
        if field not in given:
            continue
        value = given[field]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(_("{field}={value!r} must be a number", field=field, value=value))
        if is_strict or not model.takes_sampling:
            if field == "top_k" or value != 1:
                who = _("anthropic-version {version} and later", version=STRICT_VERSION) if is_strict else name
                raise InputError(_("{field} is not taken by {who}: leave it out", field=field, who=who))
            del given[field]
        elif model.is_claude:
            _check_number(field, value, _is_on(thinking))


def _check_number(field: str, value: float, thinks: bool) -> None:
    if field == "temperature" and not 0 <= value <= 1:
        raise InputError(_("temperature={value} is out of range: Claude takes 0 to 1", value=value))
    if thinks and (
        (field == "temperature" and value != 1) or field == "top_k" or (field == "top_p" and not 0.95 <= value <= 1)
    ):
        raise InputError(
            _(
                "{field}={value} does not go with thinking, which takes temperature 1, top_p from 0.95 and no top_k: leave "
                "it out, or switch thinking off",
                field=field,
                value=value,
            )
        )


# --- the form of the answer -------------------------------------------------------------------------------------------


def _response_format(given: Fields, config: Fields, model: ClaudeModel) -> str | None:
    """Put a schema into the output configuration; return the instruction that stands for it where a model takes none.

    An instruction, and not the forced tool of older days: a forced tool does not go with thinking.
    """
    wanted = given.pop("response_format", None)
    if wanted is None or config.get("format"):
        return None
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _JSON_ALONE
    described = wanted.get("json_schema") if kind == "json_schema" else None
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if not isinstance(described, Mapping) or not isinstance(schema, Mapping):
        raise InputError(
            _(
                "response_format is not understood: give {'type': 'json_schema', 'json_schema': {'name': ..., 'schema': "
                "{...}}}, {'type': 'json_object'} or {'type': 'text'}"
            )
        )
    if described.get("description"):
        schema = {"description": described["description"], **schema}
    if not model.takes_schema:
        return _JSON_OF_SCHEMA + _as_text(schema)
    config["format"] = {"type": "json_schema", "schema": closed_schema(schema, "response_format")}
    return None


def _as_text(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            _("the JSON schema of response_format cannot be written as JSON: {error}", error=error)
        ) from None


# --- everything else --------------------------------------------------------------------------------------------------


def _names(given: Fields) -> Fields:
    """Return the fields that Anthropic has under other names: the user, stop sequences, the service tier."""
    if given.keys().isdisjoint(_NAMED):
        return {}
    fields: Fields = {}
    metadata = given.pop("metadata", None) or {}
    if not isinstance(metadata, Mapping) or metadata.keys() - {"user_id"}:
        raise InputError(_("metadata can hold a user_id alone: Anthropic keeps nothing else with a request"))
    safety, user = given.pop("safety_identifier", None), given.pop("user", None)
    user_id = metadata.get("user_id") or user or safety
    fields["metadata"] = {"user_id": user_id} if user_id else None
    stops = _stops(given.pop("stop", None))
    fields["stop_sequences"] = given.pop("stop_sequences", None) or stops
    tier = given.pop("service_tier", None)
    if tier is not None and (not isinstance(tier, str) or tier not in _TIERS):
        raise InputError(
            _(
                "service_tier={tier!r} is none of Anthropic's: give 'auto' or 'standard_only'; what is fast is speed='fast'",
                tier=tier,
            )
        )
    fields["service_tier"] = _TIERS.get(tier) if tier is not None else None
    return fields


def _stops(stop: Any) -> list[str]:
    """Return the texts at which the answer ends; an empty one, which Anthropic refuses, ends nothing."""
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, (list, tuple)) or not all(isinstance(text, str) for text in stops):
        raise InputError(_("stop must be a text or a list of texts"))
    return [text for text in stops if text]


def _conversation(request: ChatRequest, is_strict: bool) -> Conversation:
    conversation = Conversation()
    for position, message in enumerate(request.messages):
        conversation.add(message, position)
    conversation.end()
    if is_strict:
        for turn in conversation.turns:
            if not isinstance(turn["content"], str):
                _check_strict(turn["role"], turn["content"])
    return conversation


def _check_strict(role: str, blocks: Sequence[Block]) -> None:
    for block in blocks:
        if role == "assistant" and block.get("type") == "document":
            raise InputError(
                _("anthropic-version {version} takes no document in an assistant's message", version=STRICT_VERSION)
            )
        if role == "user" and block.get("type") == "text" and block.get("citations"):
            raise InputError(
                _("anthropic-version {version} takes no citations in a user's text", version=STRICT_VERSION)
            )


def _check_turns(conversation: Conversation, name: str, model: ClaudeModel, thinking: Mapping[str, Any] | None) -> None:
    """Refuse a last turn that the model takes not at all, or not with this thinking.

    Blanks at the end of an answer's beginning are refused too: cut off without a word, it would be another text.
    """
    begun = conversation.prefill()
    if begun and not model.takes_prefill:
        raise InputError(
            _(
                "the last message is the assistant's, but {name} does not go on with a text that is begun: end with one of "
                "role 'user'",
                name=name,
            )
        )
    if _has_budget(thinking):
        if begun and begun[0].get("type") == "text":
            raise InputError(
                _("the last message is the assistant's, which does not go with thinking: switch one of them off")
            )
        if conversation.has_thoughtless_calls():
            raise InputError(
                _(
                    "a budget for thinking wants the thoughts of the turn whose tools are answered: send that turn as "
                    "result.assistant_message gives it, or switch thinking off until the tools are done"
                )
            )
    text = begun[-1].get("text") if begun else None
    if isinstance(text, str) and not is_blank(text) and text[-1].isspace():
        raise InputError(
            _(
                "the last message, which begins the answer, ends with a blank or a line end: Anthropic refuses that; cut it off"
            )
        )
