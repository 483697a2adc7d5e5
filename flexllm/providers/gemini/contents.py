"""A conversation in OpenAI's form, turned into Gemini's `contents` and `systemInstruction`.

What Gemini demands of one is kept here: it begins with the user, roles alternate, and the answers of all calls of a turn
stand together right behind it. Source: Gemini API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...language import _
from ...messages import Message
from ..base import MADE_ID
from ..conversation import SYSTEM_ROLES, call_parts, native_of, refuse_unknown_fields, text_of
from .models import find_family
from .parts import Part, is_blank, read_parts

NAME = "gemini"

Content = dict[str, Any]

NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Stands for the signature of a call that Gemini did not make itself, which models since 3 otherwise refuse. It is
"skip_thought_signature_validator" in base64, as Google's own SDK sends it."""
_RESULT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
"""What models since 3 take inside a function's response."""


def read_conversation(messages: Sequence[Message], model: str) -> tuple[list[str], list[Content]]:
    """Return the system texts and the contents of a conversation; the messages are not changed.

    System messages are taken out of the conversation wherever they stand. Neighbours of one role become one content. An
    assistant message without content, such as an answer whose tokens thinking used up, is left out.

    Raises:
        InputError: Saying which message cannot be sent, and why.
    """
    system: list[str] = []
    contents: list[Content] = []
    step: _Step | None = None
    for position, message in enumerate(messages):
        role = message["role"]
        content = message.get("content")
        if len(message) > 2:
            refuse_unknown_fields(message, _("message {position}", position=position), "Gemini")
        if role == "tool":
            if step is None:
                reason = _(
                    "message {position} answers a tool call, but no turn with tool calls is before it",
                    position=position,
                )
                raise InputError(reason)
            step.answer(message, position)
            continue
        if message.get("name"):
            reason = _(
                "message {position} has a name, which Gemini has no place for: put it into the text", position=position
            )
            raise InputError(reason)
        if role in SYSTEM_ROLES:
            text = text_of(content, _("message {position} (role {role!r})", position=position, role=role))
            if text:
                system.append(text)
            continue
        if step is not None:
            _add(contents, "user", step.parts())
            step = None
        if role == "user":
            _add(contents, "user", _user_parts(content, position))
        elif role == "assistant":
            parts, calls = _assistant_parts(messages, position, model)
            if parts:
                _add(contents, "model", parts)
            step = _Step(calls, model) if calls else None
        else:
            reason = _(
                "message {position} has the role {role!r}; answer tool calls with the role 'tool'",
                position=position,
                role=role,
            )
            raise InputError(reason)
    if step is not None:
        _add(contents, "user", step.parts())
    if not contents:
        raise InputError(_("there is only a system message: Gemini needs a user message as well"))
    if contents[0]["role"] != "user":
        raise InputError(_("the conversation begins with the assistant: Gemini needs a user message first"))
    return system, contents


def _add(contents: list[Content], role: str, parts: list[Part]) -> None:
    """Add parts as a content, or to the last one if that is of the same role. The parts themselves are never merged."""
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"].extend(parts)
    else:
        contents.append({"role": role, "parts": parts})


def _user_parts(content: Any, position: int) -> list[Part]:
    if type(content) is str and content:  # nearly always
        return [{"text": content}]
    parts = read_parts(content, _("message {position}", position=position))
    if not parts:
        raise InputError(
            _("message {position} (role 'user') is empty: Gemini takes no turn without content", position=position)
        )
    return parts


# --- the assistant's turns and the answers of tools --------------------------------------------------------------------


class _Call:
    """A call of an assistant turn: the id that its answer names, what Gemini calls it, and the answer once it came."""

    __slots__ = ("answer", "call_id", "more", "name", "sent_id")

    def __init__(self, call_id: str, name: str, sent_id: str) -> None:
        self.call_id = call_id
        self.name = name
        self.sent_id = sent_id
        self.answer: Part | None = None
        self.more: list[Part] = []


class _Step:
    """The calls of one assistant turn, which wait for their answers."""

    def __init__(self, calls: list[_Call], model: str) -> None:
        self._calls = calls
        self._model = model

    def answer(self, message: Message, position: int) -> None:
        """Take in a tool message. It answers the first call of its id that has no answer yet."""
        wanted = str(message.get("tool_call_id") or "")
        for call in self._calls:
            if call.call_id == wanted and call.answer is None:
                break
        else:
            known = ", ".join(repr(call.call_id) for call in self._calls if call.answer is None)
            raise InputError(
                _(
                    "message {position} answers the tool call {wanted!r}, which the turn before it did not make or "
                    "which has its answer; waiting: {known}",
                    position=position,
                    wanted=wanted[:80],
                    known=known[:160] or _("none"),
                )
            )
        text, inside, call.more = _tool_content(
            message.get("content"), self._model, _("message {position}", position=position)
        )
        response: dict[str, Any] = {"id": call.sent_id} if call.sent_id else {}
        response |= {"name": call.name, "response": {"error" if message.get("is_error") else "result": text}}
        if inside:
            response["parts"] = inside
        call.answer = {"functionResponse": response}

    def parts(self) -> list[Part]:
        """Return the answers in the order of the calls; what does not fit into them comes behind."""
        answers: list[Part] = []
        for call in self._calls:
            if call.answer is None:
                raise InputError(
                    _(
                        "the tool call {call_id!r} of {name!r} has no answer: a message of the role "
                        "'tool' must follow before the conversation goes on",
                        call_id=call.call_id[:80],
                        name=call.name[:80],
                    )
                )
            answers.append(call.answer)
        return answers + [part for call in self._calls for part in call.more]


def _assistant_parts(messages: Sequence[Message], position: int, model: str) -> tuple[list[Part], list[_Call]]:
    message = messages[position]
    given = message.get("tool_calls") or ()
    if not isinstance(given, (list, tuple)):
        raise InputError(
            _(
                "message {position} has tool_calls that are not a list but {kind}",
                position=position,
                kind=type(given).__name__,
            )
        )
    if message.get("function_call"):
        raise InputError(_("message {position} has a function_call: give tool_calls instead", position=position))
    if message.get("prefix"):
        raise InputError(
            _("message {position} is a prefix: Gemini cannot be made to go on with a begun answer", position=position)
        )
    needs_signature = find_family(model).is_since(3) and _is_current(messages, position)
    native = native_of(message, NAME)
    if native:
        calls = _native_calls(native, given, position)
        return _replayed(native, needs_signature), calls
    parts = read_parts(message.get("content"), _("message {position}", position=position))
    if not parts and isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append({"text": message["refusal"]})
    calls = []
    for call in given:
        call_id, name, arguments = call_parts(call)
        sent_id = "" if call_id.startswith(MADE_ID) else call_id
        made: dict[str, Any] = {"id": sent_id} if sent_id else {}
        made |= {"name": name, "args": arguments}
        part: dict[str, Any] = {"functionCall": made}
        if not calls and needs_signature:
            part["thoughtSignature"] = NO_SIGNATURE
        parts.append(part)
        calls.append(_Call(call_id, name, sent_id))
    return parts, calls


def _is_current(messages: Sequence[Message], position: int) -> bool:
    """Whether a message belongs to the turn that goes on: no user message is behind it."""
    return all(message["role"] != "user" for message in messages[position + 1 :])


def _replayed(native: list[Any], needs_signature: bool) -> list[Part]:
    """Return parts that Gemini once gave unchanged, but for what it gives and does not take back.

    That is an empty text without a signature, which often ends a stream; and, where a signature is demanded, a first call
    without one, which an older model made.
    """
    parts = [part for part in native if not is_blank(part)]
    for number, part in enumerate(parts):
        if isinstance(part, Mapping) and part.get("functionCall"):
            if needs_signature and not part.get("thoughtSignature"):
                parts[number] = {**part, "thoughtSignature": NO_SIGNATURE}
            break
    return parts


def _native_calls(native: list[Any], given: Any, position: int) -> list[_Call]:
    """Return the calls in parts that Gemini once gave; their answers name the ids of the message's `tool_calls`."""
    made = [part["functionCall"] for part in native if isinstance(part, Mapping) and part.get("functionCall")]
    ids = [str(call.get("id") or "") for call in given if isinstance(call, Mapping)]
    if ids and len(ids) != len(made):
        raise InputError(
            _(
                "message {position} has {listed} tool calls, but {given} in what Gemini gave: take its 'native' out of a "
                "message that was changed",
                position=position,
                listed=len(ids),
                given=len(made),
            )
        )
    calls = []
    for number, call in enumerate(made):
        if not isinstance(call, Mapping):
            raise InputError(_("message {position} holds a functionCall that is not an object", position=position))
        sent_id = str(call.get("id") or "")
        calls.append(_Call(ids[number] if ids else sent_id, str(call.get("name") or ""), sent_id))
    return calls


def _tool_content(content: Any, model: str, where: str) -> tuple[str, list[Part], list[Part]]:
    """Return a tool's answer: its text, the media that go into it, and those that the model takes only beside it.

    The text stays a text, JSON or not: as an object its numbers would all become floating-point.
    """
    if isinstance(content, str):
        return content, [], []
    texts: list[str] = []
    inside: list[Part] = []
    beside: list[Part] = []
    takes_media = find_family(model).is_since(3)
    for part in read_parts(content, where):
        inline = part.get("inlineData")
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif takes_media and isinstance(inline, Mapping) and inline.get("mimeType") in _RESULT_TYPES:
            inside.append(part)
        else:
            beside.append(part)
    return "".join(texts), inside, beside
