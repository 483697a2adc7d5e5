"""Code blocks in an answer: the fences of Markdown, read as CommonMark has them, and as models write them."""

from __future__ import annotations

import re

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = re.compile(r"([ \t]*)(`{3,}(?!.*`)|~{3,}).*")


def first_code_block(answer: str) -> str | None:
    """Return the code of the first block that holds any, without its fences; None if there is none.

    A block that is not closed ends with the answer: it was cut. Thinking in front of the answer does not count.
    """
    from ..thoughts import split_thoughts

    return next((code for code in _blocks(split_thoughts(answer).answer) if code.strip()), None)


def _blocks(text: str) -> Iterator[str]:
    """Yield the code of each block.

    Fences may stand farther in than CommonMark allows, as models write them in lists; as much is taken off each line.
    """
    # Not splitlines, which also splits where code may have a character of its own.
    lines = iter(text.replace("\r\n", "\n").removesuffix("\n").split("\n"))
    for line in lines:
        opening = _OPENING.fullmatch(line)
        if opening is None:
            continue
        indent, fence = len(opening[1]), opening[2]
        closing = re.compile(rf"[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
        code = []
        for inner in lines:
            if closing.fullmatch(inner):
                break
            blanks = len(inner) - len(inner.lstrip(" \t"))
            code.append(inner[min(indent, blanks) :])
        yield "\n".join(code)
