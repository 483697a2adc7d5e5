"""Replies taken apart: the code in them, and the values. Nothing is ever executed, and no reply takes long to read.

Thinking that a model writes in front of its answer, between tags, does not count.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError, UnreadableReply
from ..language import _
from ..thoughts import split_thoughts
from .braces import bare_objects
from .fences import UNKNOWN, Block, code_blocks
from .values import NotReadable, read_value

__all__ = ["Block", "code_blocks", "extract_code_snippets", "parse_to_code", "parse_to_obj"]


def extract_code_snippets(text: str, strict: bool = True) -> list[dict[str, str]]:
    """Return the code blocks of a reply, in order.

    A block that is not closed counts as well: the reply was cut. One that holds nothing but blanks does not.

    Args:
        strict: Only what stands between fences. False also finds objects in the prose, `{...}`, and lists that begin with
            one, `[{...}, ...]`: the outermost that are balanced, strings taken into account. They need not be JSON.

    Returns:
        A dict for each, with `language` and `code`. The language is as the fence names it, in small letters, and "unknown"
        where it names none. The code is byte for byte what stands between the fences.

    Raises:
        ConfigError: `text` is no text, as where a row of a batch failed.
    """
    answer = _answer(text)
    blocks = list(code_blocks(answer))
    if strict:
        return [{"language": block.language, "code": block.code} for block in blocks]
    found, place = [], 0
    for block in blocks:
        found += _bare(answer, place, block.start)
        found.append({"language": block.language, "code": block.code})
        place = block.end
    return found + _bare(answer, place, len(answer))


def parse_to_code(text: str) -> str | None:
    """Return the code of the last block of a reply, None if it has none. See `extract_code_snippets`."""
    snippets = extract_code_snippets(text)
    return snippets[-1]["code"] if snippets else None


def parse_to_obj(text: str) -> Any:
    """Return the value that a reply holds.

    It is read from the last code block; without any, from the whole reply, or else from the last object in its prose,
    `{...}`, or list of objects, `[{...}, ...]`, that can be read. It may be JSON, a Python literal, or JSON with trailing
    commas and comments; the first of these that it is counts.

    Raises:
        UnreadableReply: It is none of these. It is a ValueError.
        ConfigError: `text` is no text, as where a row of a batch failed. It is a ValueError too.
    """
    answer = _answer(text)
    if not answer.strip():
        raise UnreadableReply(_("the reply is empty, where a value is looked for"))
    blocks = list(code_blocks(answer))
    if blocks:
        return _read_block(blocks[-1])
    try:
        return read_value(_trimmed(answer))
    except NotReadable:
        pass
    for start, end in reversed(list(bare_objects(answer, 0, len(answer)))):
        try:
            return read_value(answer[start:end])
        except NotReadable:
            continue
    raise UnreadableReply(
        _("the reply holds neither JSON nor a Python literal: no code block, and no object in its prose")
    )


def _read_block(block: Block) -> Any:
    code = _trimmed(block.code)
    try:
        return read_value(code)
    except NotReadable as error:
        if not block.is_closed:
            problem = _(
                "the last code block of the reply is not closed, and what there is of it is neither JSON nor a Python literal"
            )
            raise UnreadableReply(problem) from None
        place = block.code.index(code) + error.place
        problem = _(
            "the last code block of the reply is neither JSON nor a Python literal; it makes no sense at its line {line}, "
            "column {column}",
            line=block.code.count("\n", 0, place) + 1,
            column=place - block.code.rfind("\n", 0, place),
        )
        raise UnreadableReply(problem) from None


def _answer(text: str) -> str:
    if not isinstance(text, str):
        raise ConfigError(
            _("text={kind} is no text; the text of a result is in its `content`", kind=type(text).__name__)
        )
    return split_thoughts(text).answer


def _trimmed(text: str) -> str:
    return text.strip("\ufeff \t\r\n")


def _bare(text: str, start: int, end: int) -> list[dict[str, str]]:
    return [{"language": UNKNOWN, "code": text[one:other]} for one, other in bare_objects(text, start, end)]
