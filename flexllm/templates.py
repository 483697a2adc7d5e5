"""What is put around a user's words before they are asked: a text with the places where they go. Pure.

A place is a name in braces: `{content}` for the words themselves, any other name for a field of the row that is asked.
Braces around anything but a name are the caller's own, as in JSON; `{{` and `}}` around a name keep it as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, InputError
from .language import _
from .messages import Message

CONTENT = "content"
"""The place of the user's own words."""

_PLACE = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")


@dataclass(frozen=True, slots=True)
class UserTemplate:
    """A template for user messages.

    Attributes:
        text: With at least one place.

    Raises:
        ConfigError: There is no place in it: every request would be the same.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise ConfigError(_("user_template must be a text, not of type {kind}", kind=type(self.text).__name__))
        if not self.names:
            raise ConfigError(
                _("user_template has no place for what is asked: write {content}, or {name} for a field of the rows")
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its places, each once, in order."""
        found = (matched[2] for matched in _PLACE.finditer(self.text))
        return tuple(dict.fromkeys(name for name in found if name))

    @property
    def needs_fields(self) -> bool:
        """Whether it has places that only the fields of a row can fill."""
        return any(name != CONTENT for name in self.names)

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text with its places filled: texts as they are, everything else as JSON.

        Raises:
            InputError: There is no value for a place; the message names it.
        """

        def value(matched: re.Match[str]) -> str:
            kept, name = matched.groups()
            if kept:
                return f"{{{kept}}}"
            if name not in values:
                raise InputError(_("the template has a place {{{name}}}, and there is no such field", name=name))
            return _as_text(values[name])

        return _PLACE.sub(value, self.text)

    def around(self, messages: list[Message]) -> list[Message]:
        """Return a conversation with the template put around the text of each user message.

        Of a message in parts, around its first text. What has no text stays as it is. The messages are not changed.

        Raises:
            InputError: The template has places for fields of rows.
        """
        return [self._around(message) if message["role"] == "user" else message for message in messages]

    def _around(self, message: Message) -> Message:
        content = message.get("content")
        if isinstance(content, str):
            return {**message, "content": self.fill({CONTENT: content})}
        parts = content if isinstance(content, (list, tuple)) else ()
        for position, part in enumerate(parts):
            if isinstance(part, str):
                filled: Any = self.fill({CONTENT: part})
            elif part.get("type") == "text" and isinstance(part.get("text"), str):
                filled = {**part, "text": self.fill({CONTENT: part["text"]})}
            else:
                continue
            return {**message, "content": [*parts[:position], filled, *parts[position + 1 :]]}
        return message


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
