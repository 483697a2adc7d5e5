"""The sockets of the mock: one event loop in one background thread, its connections, and the server's life.

Thousands of connections cost no thread each. All state belongs to the loop's thread: other threads ask through the
loop, so a reply that a client has seen is also counted.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Any, TypeVar

from . import openai
from .http import BadHttp, RequestReader, WirePlan, wire_plan
from .ledger import Exchange, MockStats
from .options import MockOptions
from .replies import ReceivedRequest, Script, Step
from .responder import Responder
from .scripts import fixed

logger = logging.getLogger(__name__)

BACKLOG = 4096  # connections that wait to be accepted; the kernel caps it at net.core.somaxconn
CLOSE_TIMEOUT = 10.0  # seconds that close() and questions to the loop wait for its thread

T = TypeVar("T")


class _Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other, in order; further ones wait in the reader's buffer."""

    def __init__(self, responder: Responder, connections: set[_Connection]) -> None:
        self._responder = responder
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader()
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None  # the one under way, with its plan and what is left of it
        self._plan: WirePlan
        self._steps: deque[Step] = deque()
        self._is_begun = False  # whether anything of it has been sent
        self._timer: asyncio.TimerHandle | None = None
        self._may_write = True
        self._is_refused = False  # the client is told so; what it still sends is thrown away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # With a high-water mark of 0, "not paused" means that the kernel has taken every byte.
        transport.set_write_buffer_limits(high=0)
        self._connections.add(self)
        self._responder.ledger.connect()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.end(self._is_handed_over(), has_head=self._plan.has_head and self._is_begun)
            self._exchange = None
        self._connections.discard(self)
        self._responder.ledger.disconnect()

    def abort(self) -> None:
        self._transport.abort()

    def _is_handed_over(self) -> bool:
        """Whether the kernel has all of a reply under way: it waits for its end, and nothing else is left of it."""
        is_waiting = self._timer is not None  # otherwise the last write may have failed
        return is_waiting and not self._plan.is_cut and not any(data for _, data in self._steps)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._reader.buffer += data
        if self._exchange is None:
            self._advance()

    # No eof_received: a client that has closed its half has left, as far as can be told, and the transport closes.
    # To send it the reply under way would count an answer that nobody reads, after a timeout say.

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        if self._exchange is not None and self._timer is None:
            self._go_on()

    def _advance(self) -> None:
        """Answer what has arrived, until a reply takes time or the next request is not all there."""
        while self._exchange is None and not self._transport.is_closing():
            try:
                request = self._reader.take()
            except BadHttp as problem:
                self._refuse(problem)
                return
            if request is None:
                return
            self._exchange, self._plan = self._responder.answer(request)
            self._steps.extend(self._plan.steps)
            self._is_begun = False
            self._play()

    def _go_on(self) -> None:
        """Take up again what had to wait: for its time, or for the kernel."""
        self._timer = None
        self._play()
        self._advance()

    def _play(self) -> None:
        """Send steps until one has to wait."""
        steps, transport = self._steps, self._transport
        while steps and self._may_write:
            pause, data = steps.popleft()
            if pause > 0:
                steps.appendleft((0.0, data))
                self._timer = self._loop.call_later(pause, self._go_on)
                return
            transport.write(data)
            self._is_begun = True
            if transport.is_closing():  # the client is gone; connection_lost follows and counts
                return
        if not steps and self._may_write:
            self._finish()

    def _finish(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(not self._plan.is_cut, has_head=self._plan.has_head)
        if self._plan.ending == "reset":
            client = self._transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends RST
            self._transport.abort()
        elif self._plan.ending == "close":
            self._transport.close()

    def _refuse(self, problem: BadHttp) -> None:
        """Answer, and say no more, but read on till the client leaves: closing on unread data destroys the answer."""
        self._is_refused = True
        self._reader.buffer.clear()
        reply = openai.failure(problem.status, problem.message)
        for _, data in wire_plan(reply, {}, keep_alive=False).steps:
            self._transport.write(data)
        self._transport.write_eof()


class MockServer:
    """An LLM server that invents its answers, for tests and measurements.

    A context manager; `start` and `close` do the same by hand, `serve_forever` serves in the foreground. The
    methods may be called from any thread.

    Args:
        script: What is answered instead. Replies or names of faults (see `faults.FAULTS`): from a function of the
            request, called in the server's thread, so it must not block; from a list, one element per request; or by
            a piece of the prompt, of which the longest counts: from a list, one element per chat request with it, or
            always the same one. None as an element or an answer, and the end of a list, mean the ordinary reply. Key,
            limits, injected failures and `delay` do not touch what a script has put down.
        host, port, options: Those of `MockOptions`.

    Over HTTP, as with a server in another process: `GET /mock/requests` gives `stats`, `POST /mock/reset` is `reset`,
    `POST /mock/script` is `set_script` with a list or an object, in which a reply is an object too, and
    `POST /mock/options` is `change`. What is wrong there gets a 400.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, script: Script | None = None, **options: Any) -> None:
        self._options = MockOptions(host=host, port=port, **options)
        self._script = fixed(script)
        self._responder: Responder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._port = port
        self._stop: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> MockServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def options(self) -> MockOptions:
        """The options in force. A new start begins with those that were given first."""
        return self._options if self._responder is None else self._responder.options

    @property
    def port(self) -> int:
        """The port listened on; before the start, the one asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The root, without a slash at the end, which is what Anthropic's and Google's clients call their base URL.

        A server on every address is named by its loopback one.
        """
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.host, self.options.host)
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client calls its base URL."""
        return f"{self.url}/v1"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The last 10,000 requests (fewer if their bodies exceed 64 MiB), oldest first, without /mock/ ones."""
        return self._ask(lambda responder: list(responder.ledger.requests))

    def stats(self) -> MockStats:
        """Return the counts. Every reply that a client has seen whole is in them."""
        return self._ask(lambda responder: responder.ledger.stats())

    def reset(self) -> None:
        """Forget counts and requests, and begin the seeded failures and delays again. A script goes on."""
        self._ask(Responder.reset)

    def set_script(self, script: Script | None) -> None:
        """Begin a script in the place of the one there is; raise `ValueError` if something in it is wrong."""
        checked = fixed(script)
        self._ask(lambda responder: responder.set_script(checked))

    def change(self, **options: Any) -> None:
        """Change options while the server runs (see `options.CHANGEABLE`); raise `ValueError` if one is wrong."""
        self._ask(lambda responder: responder.change(options))

    def _ask(self, question: Callable[[Responder], T]) -> T:
        """Answer a question in the thread that owns the state: behind whatever that thread is doing."""
        responder, loop, thread = self._responder, self._loop, self._thread
        if responder is None or loop is None:
            raise RuntimeError("the mock server has not been started")
        if thread is None or thread is threading.current_thread():
            return question(responder)

        async def answer() -> T:
            return question(responder)

        return asyncio.run_coroutine_threadsafe(answer(), loop).result(CLOSE_TIMEOUT)

    def start(self) -> None:
        """Listen, and serve in a background thread. Does nothing if that is so already; raises `OSError` if the
        address cannot be had."""
        if self._thread is not None:
            return
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        listener = socket.create_server((self.options.host, self.options.port), family=family, backlog=BACKLOG)
        self._port = listener.getsockname()[1]
        self._responder = Responder(self._options, self._script)
        self._loop = asyncio.new_event_loop()
        self._stop = queue.SimpleQueue()
        started: Future[None] = Future()
        arguments = (self._loop, listener, self._responder, started)
        self._thread = threading.Thread(target=_serve, args=arguments, name=f"mock-server-{self._port}", daemon=True)
        self._thread.start()
        started.result(CLOSE_TIMEOUT)

    def close(self) -> None:
        """Stop: drop every connection, free the port, end the thread. The counts stay readable."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(CLOSE_TIMEOUT)
        self._stop.put(None)

    def serve_forever(self) -> None:
        """Start if need be, and wait for SIGINT, SIGTERM or `close`; then stop.

        Signals are heeded if this is called in the main thread; their former handlers are put back at the end. The
        soft limit of open files is raised as far as the system allows, for the process has become a server.
        """
        _raise_file_limit()
        self.start()
        # SimpleQueue, and no Event: its put may be called from a signal handler that interrupts its get.
        stop = self._stop

        def end(number: int, frame: FrameType | None) -> None:
            stop.put(None)

        is_main = threading.current_thread() is threading.main_thread()
        former = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
        try:
            stop.get()
        finally:
            self.close()
            for number, handler in former.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _serve(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, responder: Responder, started: Future[None]
) -> None:
    """The background thread."""
    connections: set[_Connection] = set()
    server = loop.run_until_complete(
        loop.create_server(lambda: _Connection(responder, connections), sock=listener, backlog=BACKLOG)
    )
    loop.call_soon(started.set_result, None)
    loop.run_forever()
    server.close()
    for connection in tuple(connections):
        connection.abort()
    for _ in range(2):  # what the aborted connections call back, and what that calls in turn
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have: each connection is one."""
    try:
        import resource  # not on Windows, where there is no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS calls its limit infinite and refuses to set it
        logger.debug("the soft limit of open files stays at %s", soft)
