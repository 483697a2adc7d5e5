"""Thinking that a model writes into its answer, between tags, told apart from the answer; pure.

Servers without a reasoning parser hand it on like that. Only what stands at the very beginning is thinking: tags further
on belong to the answer, where somebody may have asked for them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_OPEN = re.compile(r"\s*(?:<(think|thinking|thought|reasoning)>|◁think▷)", re.IGNORECASE)
_OPEN_ANYWHERE = re.compile(r"<think>|◁think▷", re.IGNORECASE)
_CLOSE_ALONE = re.compile(r"</think>|◁/think▷", re.IGNORECASE)
_CODE = re.compile(r"```|`")


class Thoughts(NamedTuple):
    """What a model thought and what it answered; "" where there is none."""

    thought: str
    answer: str


def split_thoughts(text: str) -> Thoughts:
    """Tell inline thinking from the answer; blanks and line ends around both are left out if there is thinking.

    Several blocks at the beginning are one thought. A block that is not closed is all there is: the answer was cut off
    before it began. A closing tag without an opening one, outside of code, ends a thought that began with the text: many
    chat templates write the opening tag themselves.
    """
    thoughts = []
    rest = text
    while opening := _OPEN.match(rest):
        closing = re.compile(f"</{opening[1]}>" if opening[1] else "◁/think▷", re.IGNORECASE)
        found = closing.search(rest, opening.end())
        if found is None:
            thoughts.append(rest[opening.end() :].strip())
            rest = ""
            break
        thoughts.append(rest[opening.end() : found.start()].strip())
        rest = rest[found.end() :]
    if not thoughts:
        closing_alone = _CLOSE_ALONE.search(text)
        if closing_alone is None:
            return Thoughts("", text)
        before = text[: closing_alone.start()]
        if _OPEN_ANYWHERE.search(before) or len(_CODE.findall(before)) % 2:
            return Thoughts("", text)
        thoughts, rest = [before.strip()], text[closing_alone.end() :]
    return Thoughts("\n\n".join(filter(None, thoughts)), rest.strip())
