"""The shapes that the rows of an input may have: what of a row is asked, and which of its fields that takes. Pure.

| shape        | known by                     | the request                                                    |
|--------------|------------------------------|----------------------------------------------------------------|
| openai_chat  | `messages`                   | the messages                                                   |
| openai_batch | `body`, `custom_id` or `url` | the messages of the body, with its model and its parameters    |
| alpaca       | `instruction`                | instruction and `input`; `system` if there                     |
| simple       | `q`, `question` or `prompt`  | the question; `system` if there                                |

A caller may name the field of the question himself, or give a template that makes it from the fields of the row: then no
shape is looked for. Source of openai_batch: OpenAI's Batch API, the input file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError
from ..language import _
from ..messages import Message
from ..templates import CONTENT, UserTemplate

FORMATS = ("auto", "openai_chat", "openai_batch", "alpaca", "simple")
QUESTION_FIELDS = ("q", "question", "prompt")
SYSTEM_FIELD = "system"
NAMES_SHOWN = 8
"""Fields of a row that a message lists."""

Row = dict[str, Any]
Shape = Callable[[Row], tuple[Any, tuple[str, ...]]]
"""From a row to what is asked (a text, or messages) and the fields that this takes."""


class Cells(Row):
    """A row of a table. What is asked of it are words: a number reads as JSON has it, and nothing is no question."""


class Fields(NamedTuple):
    """Fields that the caller names; None where he names none."""

    user: str | None = None
    system: str | None = None


def shape_of(row: Row) -> str | None:
    """Return the shape that a row's fields tell, None if they tell none."""
    if "messages" in row:
        return "openai_chat"
    if isinstance(row.get("body"), dict) and ("custom_id" in row or "url" in row):
        return "openai_batch"
    if "instruction" in row:
        return "alpaca"
    return "simple" if any(name in row for name in QUESTION_FIELDS) else None


def reads_system(shape: str) -> bool:
    """Return whether the `system` field of such rows is a system message without anybody naming it."""
    return shape not in ("openai_chat", "openai_batch")


def named_shape(shape: str) -> Shape:
    """Return how rows of one of the FORMATS but "auto" are read."""
    return _SHAPES[shape]


def field_shape(field: str) -> Shape:
    """Return how rows are read whose question is in that field."""
    used = (field,)

    def read(row: Row) -> tuple[str, tuple[str, ...]]:
        if field not in row:
            raise InputError(_("no {field!r} in this row, only {fields}", field=field, fields=names_of(row)))
        return _as_text(row, field), used

    return read


def template_shape(template: UserTemplate) -> Shape:
    """Return how rows are read whose question a template without {content} makes from their fields."""
    used = template.names

    def read(row: Row) -> tuple[str, tuple[str, ...]]:
        check_places(template, row)
        return template.fill(_words_of(row)), used

    return read


def text_of(row: Row, field: str, shape: str) -> str:
    """Return the text in a field. Raises InputError if there is none."""
    if field not in row:
        raise InputError(_("no {field!r} in this row; the file was read as {shape}", field=field, shape=shape))
    return _as_text(row, field)


def names_of(row: Mapping[str, Any]) -> str:
    """Return the names of a row's fields for people."""
    if not row:
        return _("none")
    names, more = ", ".join(map(repr, list(row)[:NAMES_SHOWN])), len(row) - NAMES_SHOWN
    return _("{names} and {count} more", names=names, count=more) if more > 0 else names


def check_places(template: UserTemplate, row: Mapping[str, Any]) -> None:
    """Raise InputError if a row has no field for one of the places, apart from {content}."""
    for name in template.names:
        if name != CONTENT and name not in row:
            raise InputError(
                _(
                    "the template has {{{name}}}, and this row has no such field, only {fields}",
                    name=name,
                    fields=names_of(row),
                )
            )


def last_question(messages: list[Message]) -> str | None:
    """Return the text of the last user message, None if there is none."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            texts = (part if isinstance(part, str) else part.get("text") for part in content or ())
            return "\n".join(text for text in texts if isinstance(text, str)) or None
    return None


@dataclass(frozen=True, slots=True)
class RowTemplate(UserTemplate):
    """A template whose other places are filled with the fields of one row."""

    row: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check nothing: the template was checked once, and there is one of these for each row."""

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text with its places filled; the given values go before the row's."""
        return UserTemplate.fill(self, {**_words_of(self.row), **values})


@dataclass(frozen=True, slots=True)
class Prompt(UserTemplate):
    """What is asked of each row, word for word: all that differs from row to row stands beside it, such as a picture."""

    def __post_init__(self) -> None:
        """Check nothing: it needs no place."""

    @property
    def names(self) -> tuple[str, ...]:
        """None: braces in it are its own."""
        return ()

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the text as it is."""
        return self.text


def _openai_chat(row: Row) -> tuple[Any, tuple[str, ...]]:
    if "messages" not in row:
        raise InputError(_("no 'messages' in this row; the file was read as openai_chat"))
    return _checked_list(row["messages"], "'messages'"), ("messages",)


def _openai_batch(row: Row) -> tuple[Any, tuple[str, ...]]:
    body, url = row.get("body"), row.get("url")
    if body is None:
        raise InputError(_("no 'body' in this row; the file was read as openai_batch"))
    if not isinstance(body, dict):
        kind = type(body).__name__
        raise InputError(_("'body' must be an object, not {kind}; the file was read as openai_batch", kind=kind))
    # Azure's and Zhipu's paths begin otherwise.
    if url is not None and not (isinstance(url, str) and url.endswith("/chat/completions")):
        raise InputError(_("'url' is {url!r}; only /v1/chat/completions can be asked", url=url))
    if "messages" not in body:
        raise InputError(_("no 'messages' in the 'body' of this row"))
    return _checked_list(body["messages"], "'messages' in 'body'"), ("method", "url", "body")


def _checked_list(messages: Any, where: str) -> list[Any]:
    if not isinstance(messages, list):
        raise InputError(_("{where} must be a list, not {kind}", where=where, kind=type(messages).__name__))
    return messages


def _alpaca(row: Row) -> tuple[str, tuple[str, ...]]:
    instruction = text_of(row, "instruction", "alpaca")
    extra = _words(row.get("input")) if isinstance(row, Cells) else row.get("input")
    if extra is not None and not isinstance(extra, str):
        raise InputError(_("'input' must be a text, not {kind}", kind=type(extra).__name__))
    return f"{instruction}\n\n{extra}" if extra else instruction, ("instruction", "input")


def _simple(row: Row) -> tuple[str, tuple[str, ...]]:
    for field in QUESTION_FIELDS:
        if field in row:
            return _as_text(row, field), (field,)
    return text_of(row, "question", "simple"), ()


def _as_text(row: Row, field: str) -> str:
    value = row[field]
    if isinstance(row, Cells):
        text = _words(value)
        if not text.strip():
            raise InputError(_("{field!r} is empty in this row", field=field))
        return text
    if not isinstance(value, str):
        raise InputError(_("{field!r} must be a text, not {kind}", field=field, kind=type(value).__name__))
    return value


def _words_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: _words(row[name]) for name in row} if isinstance(row, Cells) else row


def _words(cell: Any) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


_SHAPES: dict[str, Shape] = {
    "openai_chat": _openai_chat,
    "openai_batch": _openai_batch,
    "alpaca": _alpaca,
    "simple": _simple,
}
