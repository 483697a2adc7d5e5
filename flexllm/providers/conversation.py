"""What several providers need to read a conversation in OpenAI's form: its parts, its tool calls, its data URIs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..language import _
from ..messages import Message

SYSTEM_ROLES = ("system", "developer")
NATIVE = "native"
"""The field of an assistant message that holds what providers demand back unchanged, by their names."""


_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", NATIVE, "prefix", "is_error", "cache_control",
        "reasoning_content", "reasoning", "reasoning_details", "refusal", "annotations", "audio", "function_call",
    }
)  # fmt: skip
"""What a message may hold: fields that are said, or that replies of other providers bring along and nobody needs back."""


def refuse_unknown_fields(message: Message, where: str, who: str) -> None:
    """Raise InputError if a message holds something that would be dropped without a word."""
    for field in message.keys() - _FIELDS:
        if message[field] not in (None, "", [], {}, False):
            reason = _(
                "{where} has a field {field!r}, which {provider} has no place for; leave it out",
                where=where, field=field, provider=who,
            )  # fmt: skip
            raise InputError(reason)


def native_of(message: Message, name: str) -> list[Any] | None:
    """Return what a provider once gave to be sent back with this message; None if it gave nothing."""
    native = message.get(NATIVE)
    items = native.get(name) if isinstance(native, Mapping) else None
    return list(items) if isinstance(items, Sequence) and not isinstance(items, str) and items else None


def parts_of(content: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a message's content; a text is one part, nothing is none."""
    if isinstance(content, str):
        content = (content,)
    for part in content or ():
        yield {"type": "text", "text": part} if isinstance(part, str) else part


def text_of(content: Any, what: str) -> str:
    """Return content that must be text alone.

    Args:
        what: Whose content it is, for the error.

    Raises:
        InputError: It has a part that is no text.
    """
    if isinstance(content, str):
        return content
    texts = []
    for part in parts_of(content):
        if part.get("type") != "text":
            kind = part.get("type")
            raise InputError(_("{what} can hold text alone, not a part of type {kind!r}", what=what, kind=kind))
        texts.append(str(part.get("text") or ""))
    return "".join(texts)


def call_parts(call: Any) -> tuple[str, str, Any]:
    """Return id, name and arguments (decoded) of a tool call in an assistant message.

    Raises:
        InputError: It is none, or its arguments are no JSON object.
    """
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise InputError(_("a tool call needs a function with a name: {call}", call=str(call)[:80]))
    given = function.get("arguments")
    arguments: Any = given
    if given is None or isinstance(given, str):
        try:
            arguments = json.loads(given) if given and given.strip() else {}
        except ValueError:
            reason = _(
                "the arguments of the tool call {name!r} are not JSON: {arguments!r}",
                name=function["name"], arguments=str(given)[:80],
            )  # fmt: skip
            raise InputError(reason) from None
    if not isinstance(arguments, Mapping):
        raise InputError(_("the arguments of the tool call {name!r} must be a JSON object", name=function["name"]))
    return str(call.get("id") or ""), str(function["name"]), arguments


def split_data_uri(uri: str) -> tuple[str, str] | None:
    """Return the MIME type and the base64 text of a data URI, None if it is something else."""
    if not uri.startswith("data:"):
        return None
    head, comma, data = uri[5:].partition(",")
    mime, *options = head.split(";")
    return (mime or "text/plain", data) if comma and "base64" in options else None
