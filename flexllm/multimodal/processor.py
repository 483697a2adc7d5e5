"""What the processors have in common: their client, rows that cannot be asked, and the thread of an awaited call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from .. import aio
from ..client.llm import LLMClient
from ..errors import ConfigError, InputError
from ..language import _

P = ParamSpec("P")
T = TypeVar("T")


class Processor:
    """Asks by a client, which stays open and the caller's own.

    Args:
        client: `MllmClient`, `LLMClient`, a provider's own or a pool.

    Raises:
        ConfigError: It is none.
    """

    def __init__(self, client: LLMClient) -> None:
        if not isinstance(client, LLMClient):
            raise ConfigError(
                _(
                    "{processor} needs a client, such as MllmClient(model=..., base_url=...), not one of type {kind}",
                    processor=type(self).__name__,
                    kind=type(client).__name__,
                )
            )
        self._client = client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r})"

    async def _awaited(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a synchronous method returns. Reading files counts as its work, so that the event loop waits for none.

        On a thread of its own: the batch's workers are the client's matter.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="flexllm-processor") as thread:
            return await aio.call(thread, function, *args, **kwargs)


class Refused(Mapping[str, Any]):
    """A conversation that cannot be asked: whoever looks into it is told why, so that its row fails, and no other."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getitem__(self, name: str) -> Any:
        raise InputError(self._reason)

    def __iter__(self) -> Iterator[str]:
        raise InputError(self._reason)

    def __len__(self) -> int:
        return 1


Conversation = list[dict[str, Any]] | Refused


def conversation(text: str, pictures: list[Any], system_prompt: str | None) -> Conversation:
    """Return a question about pictures, which stand in front of it."""
    content = [*pictures, {"type": "text", "text": text}] if text else pictures
    asked = {"role": "user", "content": content if pictures else text}
    return [asked] if system_prompt is None else [{"role": "system", "content": system_prompt}, asked]


def check_text(name: str, text: object) -> None:
    """Raise ConfigError if a prompt is no text, or an empty one."""
    if not isinstance(text, str):
        raise ConfigError(_("{name} must be a text, not of type {kind}", name=name, kind=type(text).__name__))
    if not text.strip():
        raise ConfigError(_("{name} is empty; say what is asked", name=name))


def check_count(name: str, count: object) -> None:
    """Raise ConfigError if a limit is neither None nor a whole number from 0."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise ConfigError(_("{name}={count!r} must be a whole number, or None for all", name=name, count=count))
