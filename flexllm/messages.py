"""What callers may write as messages, turned into the one form that the rest of the house reads.

The form is a list of dictionaries as OpenAI's chat API takes them. Content parts and unknown fields pass unchanged:
what a provider makes of them is the provider's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InputError
from .language import _

Message = dict[str, Any]
Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A text (one user message), one message, or a conversation."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def normalise_messages(messages: Messages, system: str | None = None) -> list[Message]:
    """Return a conversation as a list of checked messages; the caller's objects are not changed.

    Args:
        messages: A text, one message, or a sequence of messages.
        system: Put in front as a system message where the conversation has none.

    Raises:
        InputError: Saying which message is wrong, and how.
    """
    if isinstance(messages, str):
        conversation: list[Any] = [{"role": "user", "content": messages}]
    elif isinstance(messages, Mapping):
        conversation = [messages]
    elif isinstance(messages, (list, tuple)):
        conversation = list(messages)
    else:
        raise InputError(
            _("messages must be a text, a message or a list of messages, not {kind}", kind=_kind(messages))
        )
    if not conversation:
        raise InputError(_("messages are empty: at least one message is needed"))
    has_system = False
    for position, message in enumerate(conversation):
        # The common case costs one type check and two look-ups; everything else explains itself in _check.
        if (
            type(message) is not dict
            or message.get("role") not in ("user", "assistant", "system")
            or type(message.get("content")) is not str
        ):
            conversation[position] = message = _check(message, position)
        if message["role"] in ("system", "developer"):
            has_system = True
    if system is not None and not has_system:
        conversation.insert(0, {"role": "system", "content": system})
    return conversation


def _check(message: Any, position: int) -> Message:
    where = _("message {position}", position=position)
    if not isinstance(message, Mapping):
        raise InputError(
            _("{where} must be an object with 'role' and 'content', not {kind}", where=where, kind=_kind(message))
        )
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise InputError(_("{where} has the role {role!r}; known are {known}", where=where, role=role, known=known))
    content = message.get("content")
    if content is None:
        if role != "assistant":
            raise InputError(_("{where} (role {role!r}) has no content", where=where, role=role))
    elif isinstance(content, (list, tuple)):
        for part_position, part in enumerate(content):
            if not isinstance(part, (Mapping, str)):
                raise InputError(
                    _(
                        "{where}, part {part} must be an object or a text, not {kind}",
                        where=where,
                        part=part_position,
                        kind=_kind(part),
                    )
                )
    elif not isinstance(content, str):
        kind = _kind(content)
        raise InputError(
            _("{where} has content of type {kind}; a text or a list of parts is needed", where=where, kind=kind)
        )
    return dict(message)


def _kind(thing: object) -> str:
    return _("nothing (null)") if thing is None else type(thing).__name__
