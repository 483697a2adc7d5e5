"""How an asynchronous caller reaches the synchronous core: each call crosses to a thread once. No logic lives here.

Threads come from the client's own executor. The event loop's default one has six on a machine with two cores, which would
hold sixty-four gathered calls back; it is neither used nor replaced.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from .cancel import CancelToken, under

P = ParamSpec("P")
T = TypeVar("T")


async def call(executor: Executor, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what `asyncio.to_thread` does, on `executor`: the context is copied, the function runs in a thread.

    Cancelling the awaiting task stops the work in its thread and waits for it to end: a batch has then written what it
    was paid for, a single call has dropped its connection. Work that still waits for a thread never begins.
    """
    token = CancelToken()
    with under(token):
        context = contextvars.copy_context()
    work = executor.submit(functools.partial(context.run, function, *args, **kwargs))
    future = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _stopped(work, future, token)
        raise


async def iterate(executor: Executor, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
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

    work = executor.submit(context.run, read)
    future = asyncio.wrap_future(work)
    future.add_done_callback(lambda _done: arrived.put_nowait(_END))
    try:
        while (boxed := await arrived.get()) is not _END:
            room.give()
            yield boxed[0]
        await future
    finally:
        if not future.done():
            room.close()
            await _stopped(work, future, token)


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


async def _stopped(work: Future[Any], future: asyncio.Future[Any], token: CancelToken) -> None:
    """Stop work and wait for its thread, whatever it ends in: the caller is being cancelled and raises that."""
    if work.cancel():  # all threads are busy with other work, which need not be waited for
        return
    token.abort()
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
