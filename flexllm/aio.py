"""How an asynchronous caller reaches the synchronous core: each call crosses to a thread once. No logic lives here.

Threads come from the client's own executor. The event loop's default one has six on a machine with two cores, which would
hold sixty-four gathered calls back; it is neither used nor replaced.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

from .cancel import CancelToken, under

P = ParamSpec("P")
T = TypeVar("T")


async def call(executor: Executor, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what `asyncio.to_thread` does, on `executor`: the context is copied, the function runs in a thread.

    Cancelling the awaiting task stops the work in its thread and waits for it to end: a batch has then written what it
    was paid for, a single call has dropped its connection.
    """
    loop = asyncio.get_running_loop()
    token = CancelToken()
    with under(token):
        context = contextvars.copy_context()
    future = loop.run_in_executor(executor, functools.partial(context.run, function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        token.abort()
        await _ended(future)
        raise


async def iterate(executor: Executor, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Yield what a synchronous iterator yields, which is made and read in one thread of `executor`.

    At most a few values are read ahead of the caller. Leaving the loop early closes the iterator in its thread.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    token = CancelToken()
    with under(token):
        context = contextvars.copy_context()
    room = _Room(READ_AHEAD)

    def read() -> None:
        iterator = make()
        try:
            for value in iterator:
                loop.call_soon_threadsafe(arrived.put_nowait, (value,))
                if not room.take():
                    break
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    future = loop.run_in_executor(executor, context.run, read)
    future.add_done_callback(lambda _: arrived.put_nowait(_END))
    try:
        while (boxed := await arrived.get()) is not _END:
            room.give()
            yield boxed[0]
        await future
    finally:
        if not future.done():
            token.abort()
            room.close()
            await _ended(future)


READ_AHEAD = 64
_END: Any = object()


class _Room:
    """Counts free places between the reading thread and the loop. `close` lets the reader go, for good."""

    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)
        self._closed = False

    def take(self) -> bool:
        self._places.acquire()
        return not self._closed

    def give(self) -> None:
        self._places.release()

    def close(self) -> None:
        self._closed = True
        self._places.release()


async def _ended(future: asyncio.Future[Any]) -> None:
    """Wait for the thread to end, whatever it ended in: the caller is being cancelled and raises that."""
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
