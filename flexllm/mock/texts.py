"""The words that every dialect's answers are made of: reply and thought, cut in pieces and counted in tokens.

All of it follows from the request alone, so that an answer is the same on every machine. Nothing here knows a dialect.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

CHARACTERS_PER_TOKEN = 4  # English prose; a rough estimate on purpose
PIECE_OF_JSON = 12  # characters; a small object still comes in several pieces

_CANONICAL_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_THREE_WORDS = re.compile(r"\s*(?:\S+\s*){1,3}")


def digest(body: Mapping[str, Any], without: Collection[str]) -> str:
    """Return 32 hexadecimal digits of what is asked; the layout of the JSON does not count.

    Args:
        body: A parsed request.
        without: Top-level fields that do not count: how the answer is to be sent and where it is to end. So a stream
            carries the text of the whole answer, and a short limit gives its beginning.
    """
    asked = {name: value for name, value in body.items() if name not in without}
    return hashlib.blake2b(_CANONICAL_ENCODER.encode(asked).encode(), digest_size=16).hexdigest()


def reply_text(digest: str, asked: str) -> str:
    """Return an answer: a number made from `digest` and the first words of what was asked."""
    number = hashlib.blake2b(digest.encode(), digest_size=6).hexdigest()
    return f'Mock answer {number}: you wrote "{_first_words(asked)}". There is little to add.'


def thought_text(digest: str, asked: str) -> str:
    """Return what a model thinks before its answer."""
    number = hashlib.blake2b(f"thought {digest}".encode(), digest_size=4).hexdigest()
    return f'Mock thought {number}: the user wrote "{_first_words(asked)}", so a short answer will do.'


def _first_words(asked: str) -> str:
    return " ".join(word[:24] for word in asked.split(None, 10)[:10])


def token_estimate(text: str) -> int:
    """Return about how many tokens a text has: a quarter of its characters, rounded up."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def pieces(text: str) -> list[str]:
    """Cut a text after every third word; joined, the pieces are the text. Text without a word is one piece."""
    return _THREE_WORDS.findall(text) or ([text] if text else [])


def json_pieces(text: str) -> list[str]:
    """Cut JSON after every few characters, as streams of tool arguments do; joined, the pieces are the text."""
    return [text[at : at + PIECE_OF_JSON] for at in range(0, len(text), PIECE_OF_JSON)]


def named_in(asked: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that a text contains as a word, in the order of their first appearance."""
    found: dict[str, int] = {}
    for name in names:
        match = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", asked)
        if match is not None:
            found[name] = match.start()
    return sorted(found, key=found.__getitem__)


def cut_at(text: str, stops: Collection[str]) -> tuple[str, str | None]:
    """Return the text before the first stop sequence that occurs in it, and that sequence; or all of it, and None."""
    if not stops:
        return text, None
    ends = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not ends:
        return text, None
    end, stop = min(ends)
    return text[:end], stop
