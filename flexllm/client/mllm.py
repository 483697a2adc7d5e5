"""The older face for conversations with pictures; every client takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import aio
from ..messages import Messages
from .llm import LLMClient


class MllmClient(LLMClient):
    """Asks about pictures, sounds, videos and files; made and used like `LLMClient`."""

    def call_llm_sync(self, messages_list: Iterable[Messages], show_progress: bool = True, **options: Any) -> list[Any]:
        """Return the text of the answer to each conversation, None where it failed.

        Args:
            messages_list: Conversations. A part of their content may hold a picture as a path, a URL, a data URI, bytes
                or a PIL image: `{"type": "image_url", "image_url": {"url": "cat.png"}}`.
            options: Those of `chat_completions_batch_sync`.
        """
        return list(self.chat_completions_batch_sync(messages_list, show_progress=show_progress, **options))

    async def call_llm(self, messages_list: Iterable[Messages], *args: Any, **options: Any) -> list[Any]:
        """Await `call_llm_sync`."""
        return await aio.call(self._threads(), self.call_llm_sync, messages_list, *args, **options)
