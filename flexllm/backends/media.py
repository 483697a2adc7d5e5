"""Media on their way to one provider: files and downloads are put inline before the backend below is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..cancel import CancelToken
from ..chat import ChatCompletionResult, ChatRequest, Chunk
from ..media.inline import has_parts, inline_messages
from ..media.load import MediaStore
from ..media.options import MediaWants
from .base import Backend


class MediaBackend:
    """Hands requests on with every medium as the provider wants it. May be shared by threads.

    It stands above the retry loop and the gate of its endpoint: a medium is read once for all attempts, and a download
    takes no permit.

    Args:
        below: Answers.
        media: Reads and keeps; shared by all endpoints of a client.
        wants: What the provider below wants.
    """

    def __init__(self, below: Backend, media: MediaStore, wants: MediaWants) -> None:
        self._below = below
        self._media = media
        self._wants = wants

    def complete(self, request: ChatRequest, cancel: CancelToken | None = None) -> ChatCompletionResult:
        """Return the answer from below. Raises InputError, and what a download raises, for media too."""
        return self._below.complete(self._inlined(request, cancel), cancel)

    def stream(self, request: ChatRequest, cancel: CancelToken | None = None) -> Iterator[Chunk | ChatCompletionResult]:
        """Return the pieces from below. Media are read, and may fail, before the first is asked for."""
        return self._below.stream(self._inlined(request, cancel), cancel)

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        """Return what the backend below says."""
        return self._below.models(cancel)

    def close(self) -> None:
        """Close the backend below."""
        self._below.close()

    def _inlined(self, request: ChatRequest, cancel: CancelToken | None) -> ChatRequest:
        if not has_parts(request.messages):
            return request
        messages = inline_messages(request.messages, self._media, self._wants, cancel)
        return request if messages is request.messages else replace(request, messages=messages)
