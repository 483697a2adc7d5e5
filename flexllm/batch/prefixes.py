"""An order in which rows that begin alike are asked one after the other, so that the provider's own cache serves them.

Providers keep the beginnings of prompts for some minutes and sell what they have kept at a tenth to a half of the price:
OpenAI from 1,024 tokens on, Anthropic from 512 to 4,096 depending on the model. What is under way at the same time is
not kept yet, so the first row of each group goes alone. Source: OpenAI's guide to prompt caching and Anthropic's API
reference.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from ..cancel import CancelToken
from ..chat import ChatRequest
from ..digest import canonical_json
from ..errors import InputError
from .items import BatchItem

STRETCH = 4096
"""Bytes of a conversation's beginning in which rows of a group agree: about 1,024 tokens of English."""


class PrefixOrder:
    """Puts one run's rows in order. The reader's thread draws them through `items`, the caller's thread calls `settle`.

    It holds all rows that are not settled in memory.

    Args:
        cancel: Ends the waiting for a first row that does not come back.
    """

    def __init__(self, cancel: CancelToken | None = None) -> None:
        self._cancel = cancel or CancelToken()
        self._changed = threading.Condition()
        self._held: dict[int, list[BatchItem]] = {}  # by the index of the first row, the rest of its group
        self._released: deque[BatchItem] = deque()

    def items(self, items: Iterable[BatchItem]) -> Generator[BatchItem, None, None]:
        """Yield settled rows at once; then, when all are read, group after group, each behind its first row's answer.

        While the answer to one is awaited, the first rows of the next groups follow, and rows that begin like no other.

        Args:
            items: They must not wait for answers, since none is asked for before the last is read. What spares requests
                (`Reuse`) stands before this: a row that need not be asked warms no cache, and every first row must come
                back by itself.
        """
        self._cancel.on_stop(self._wake)
        try:
            groups: dict[bytes | int, list[BatchItem]] = {}
            for item in items:
                if item.is_settled or item.request is None:
                    yield item
                else:
                    groups.setdefault(_beginning(item.request) or item.index, []).append(item)
                if self._cancel.stopped:
                    return
            yield from self._in_order(groups)
        finally:
            self._cancel.off_stop(self._wake)

    def settle(self, item: BatchItem) -> None:
        """Let the group of a row go, whatever became of the row, if it was its first."""
        if item.index in self._held:
            with self._changed:
                self._released.extend(self._held.pop(item.index))
                self._changed.notify_all()

    def _in_order(self, groups: dict[bytes | int, list[BatchItem]]) -> Iterator[BatchItem]:
        waiting = deque(groups.values())
        groups.clear()
        while (item := self._next(waiting)) is not None:
            yield item

    def _next(self, waiting: deque[list[BatchItem]]) -> BatchItem | None:
        """Return the next row, after waiting for it; None when there is none, and when it is cancelled."""
        with self._changed:
            while not self._cancel.stopped:
                if self._released:
                    return self._released.popleft()
                if waiting:
                    first, *rest = waiting.popleft()
                    if rest:
                        self._held[first.index] = rest  # before it can come back
                    return first
                if not self._held:
                    return None
                self._changed.wait()
            return None

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _beginning(request: ChatRequest) -> bytes | None:
    """Return what stands for the first stretch of a request, as it is laid before the model; None if it is shorter.

    The model counts, and what comes before the conversation: tools, and a system prompt that is a parameter. What a part
    other than a text holds counts whole.
    """
    hashed = blake2b(canonical_json(request.model), digest_size=16)
    left = STRETCH
    try:
        for piece in _pieces(request):
            hashed.update(piece[:left])
            left -= len(piece)
            if left <= 0:
                return hashed.digest()
    except (InputError, RecursionError):  # whoever is asked says what is wrong with it
        pass
    return None


_BEFORE = ("tools", "system", "systemInstruction", "system_instruction")
"""Parameters that providers lay before the messages. Source: the API references of OpenAI, Anthropic and Google."""


def _pieces(request: ChatRequest) -> Iterator[bytes]:
    for name in _BEFORE:
        if request.params.get(name):
            yield canonical_json([name, request.params[name]])
    for message in request.messages:
        yield f"\0{message.get('role')}\0".encode("utf-8", "surrogatepass")
        content = message.get("content")
        for part in content if isinstance(content, (list, tuple)) else (content,):
            yield _piece(part)


def _piece(part: Any) -> bytes:
    text = part.get("text") if isinstance(part, Mapping) else part
    if isinstance(text, str):
        return text[:STRETCH].encode("utf-8", "surrogatepass")
    if part is None:
        return b""
    written = canonical_json(part)
    # A picture that begins like another is another: its digest goes first.
    return blake2b(written, digest_size=16).digest() + written
