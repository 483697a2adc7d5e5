"""What tests put in the place of clocks, backends and servers. Fakes, not mocks: each obeys the face it stands for."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from flexllm.backends.base import Leave
from flexllm.batch.items import BatchItem
from flexllm.cancel import CancelToken
from flexllm.chat import ChatCompletionResult, ChatRequest, Chunk
from flexllm.health import EndpointHealth

LONGEST_WAIT = 60.0
"""Seconds that a server or a thread waits for an event, or for a client of a failing test: many, for a busy machine."""


class FakeClock:
    """A clock that only `sleep` and `advance` move.

    Attributes:
        now: Seconds.
        sleeps: What was slept, in order.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


class WatchClock(FakeClock):
    """A clock whose waits end when `advance` passes their time, and which tells when the watcher sleeps again."""

    def __init__(self) -> None:
        super().__init__()
        self._state = threading.Condition()
        self._sleeper: tuple[threading.Condition, float] | None = None
        self._last_read: dict[int, float] = {}
        self.waits: list[float] = []

    def __call__(self) -> float:
        with self._state:
            self._last_read[threading.get_ident()] = self.now
            return self.now

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        with self._state:
            # From when this thread last looked: what was advanced since then would else be waited for once more.
            until = self._last_read.pop(threading.get_ident(), self.now) + seconds
            self.waits.append(seconds)
            if until <= self.now:
                return False
            self._sleeper = (condition, until)
            self._state.notify_all()
        assert condition.wait(LONGEST_WAIT), "nobody moved the clock"
        with self._state:
            self._sleeper = None
        return self.now < until

    def advance(self, seconds: float) -> None:
        """Move on, and wake the watcher if its time has come."""
        with self._state:
            self.now += seconds
            sleeper = self._sleeper
        if sleeper is not None and sleeper[1] <= self.now:
            with sleeper[0]:
                sleeper[0].notify_all()

    def until_asleep(self) -> None:
        """Wait until the watcher has seen what there is, and sleeps until a time that has not come."""
        seen = 0
        while True:
            with self._state:
                assert self._state.wait_for(lambda seen=seen: self._sleeps() and len(self.waits) > seen, LONGEST_WAIT)
                assert self._sleeper is not None
                condition, seen = self._sleeper[0], len(self.waits)
            with condition:  # which is free only while the watcher waits
                if condition._waiters:  # type: ignore[attr-defined]  # or it was woken, and has not come to it yet
                    return

    def _sleeps(self) -> bool:
        return self._sleeper is not None and self._sleeper[1] > self.now


Answer = str | ChatCompletionResult | Exception | Callable[[ChatRequest], "Answer"]


class FakeBackend:
    """Gives the answers it was made with, in order, the last one for ever. Keeps what it was asked.

    Args:
        answers: A text, a result, an error to raise, or a function of the request that gives one of these.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers) or ["ok"]
        self._lock = threading.Lock()
        self.requests: list[ChatRequest] = []
        self.closed = False

    def complete(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> ChatCompletionResult:
        with self._lock:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            self.requests.append(request)
        while callable(answer) and not isinstance(answer, Exception):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return ChatCompletionResult(answer) if isinstance(answer, str) else answer

    def stream(
        self, request: ChatRequest, cancel: CancelToken | None = None, leave: Leave | None = None
    ) -> Iterator[Chunk | ChatCompletionResult]:
        result = self.complete(request, cancel)
        yield Chunk(content=result.content)
        yield result

    def models(self, cancel: CancelToken | None = None) -> list[str]:
        return ["some-model"]

    def health(self) -> tuple[EndpointHealth, ...]:
        return (EndpointHealth(place="http://fake", sent=len(self.requests)),)

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Sleep:
    """Wait for so many seconds, or until the server is closed."""

    seconds: float


class Mark:
    """A step that needs no more than its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


READ = Mark("READ")
"""Read one whole request (head, and a body as Content-Length says)."""
READ_HEAD = Mark("READ_HEAD")
"""Read a request's head and leave the body unread."""
CLOSE = Mark("CLOSE")
"""Close the connection in order (FIN)."""
RESET = Mark("RESET")
"""Break the connection off (RST)."""

Step = bytes | Sleep | threading.Event | Mark | Callable[[socket.socket], object]
"""Bytes to send, a pause, an event to wait for, a mark, or a function of the connection."""


class ScriptedServer:
    """A TCP server on loopback that says exactly what the test tells it to, whether that is HTTP or not.

    Each connection gets the next conversation; connections beyond the last get the last again. Where a conversation ends
    without `CLOSE`, the connection stays open until the client or the server's `close` ends it.

    Attributes:
        connections: How many were accepted.
        received: The raw bytes of each connection, in the order of acceptance.
        requests: The raw requests of all connections, in the order in which they were complete.
    """

    def __init__(self, *conversations: Sequence[Step], tls: ssl.SSLContext | None = None) -> None:
        self._conversations = conversations or ([],)
        self._tls = tls
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.received: list[bytearray] = []
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        """Its base URL, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close everything and wait for the threads."""
        self._closing.set()
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LONGEST_WAIT)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as real servers do: each step leaves at once
            conversation = self._conversations[min(self.connections, len(self._conversations) - 1)]
            self.connections += 1
            self.received.append(bytearray())
            self._open.add(sock)
            self._start(self._converse, sock, conversation, self.received[-1])

    def _converse(self, sock: socket.socket, conversation: Sequence[Step], received: bytearray) -> None:
        with contextlib.suppress(OSError):  # the client's going away ends a conversation
            sock.settimeout(LONGEST_WAIT)
            if self._tls is not None:
                self._open.discard(sock)
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.add(sock)
            reader = _Reader(sock, received)
            for step in conversation:
                self._perform(step, sock, reader)
            reader.drain()
        self._open.discard(sock)
        sock.close()

    def _perform(self, step: Step, sock: socket.socket, reader: _Reader) -> None:
        if isinstance(step, bytes):
            sock.sendall(step)
        elif isinstance(step, Sleep):
            self._closing.wait(step.seconds)
        elif isinstance(step, threading.Event):
            step.wait(LONGEST_WAIT)
        elif step is READ or step is READ_HEAD:
            self.requests.append(reader.request(with_body=step is READ))
        elif step is CLOSE:
            sock.close()
            raise ConnectionAbortedError
        elif step is RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            raise ConnectionAbortedError
        else:
            assert callable(step)
            step(sock)


class _Reader:
    def __init__(self, sock: socket.socket, received: bytearray) -> None:
        self._sock = sock
        self._received = received
        self._used = 0

    def request(self, with_body: bool) -> bytes:
        while (end := self._received.find(b"\r\n\r\n", self._used)) < 0:
            self._more()
        head = bytes(self._received[self._used : end + 4])
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        whole = len(head) + (length if with_body else 0)
        while len(self._received) < self._used + whole:
            self._more()
        request = bytes(self._received[self._used : self._used + whole])
        self._used += whole
        return request

    def drain(self) -> None:
        while True:
            self._more()

    def _more(self) -> None:
        piece = self._sock.recv(65_536)
        if not piece:
            raise ConnectionAbortedError
        self._received += piece


def http_reply(
    body: bytes = b"{}", *headers: str, status: str = "200 OK", version: str = "HTTP/1.1", framed: bool = True
) -> bytes:
    """Return a reply's bytes. Content-Length is added unless `framed` is False."""
    lines = [f"{version} {status}", *headers, *([f"Content-Length: {len(body)}"] if framed else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return pieces in the chunked transfer coding, one chunk each."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def unused_port() -> int:
    """Return a port on loopback at which nothing listens, nor will: this process keeps it, so that nobody else gets it."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    sock.detach()  # left open, without anybody to close it
    return port


@contextlib.contextmanager
def held_port(port: int) -> Iterator[None]:
    """Keep a port from everybody who takes any free one; nothing listens at it until a server of the test does."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        yield


class Cut(Exception):
    """A run that ends in the middle."""


class FakeEngine:
    """Answers rows one after the other in the caller's thread; knows no stop but the one that it was made with.

    Args:
        answer: Gives a text, a result or an error for an item.
        group: Rows in a group.
        cut_after: Raises `Cut` when asked for one more answer than this; the group it is in is not given.

    Attributes:
        sold: The items that were answered, errors included.
    """

    def __init__(self, answer: Callable[[BatchItem], Any], *, group: int = 1, cut_after: int | None = None) -> None:
        self._answer = answer
        self._group = group
        self._cut_after = cut_after
        self.sold: list[BatchItem] = []

    def run(self, items: Iterable[BatchItem]) -> Generator[list[BatchItem], None, None]:
        group: list[BatchItem] = []
        for item in items:
            if not item.is_settled:
                if len(self.sold) == self._cut_after:
                    raise Cut
                outcome = self._answer(item)
                item.outcome = ChatCompletionResult(outcome) if isinstance(outcome, str) else outcome
                self.sold.append(item)
            group.append(item)
            if len(group) == self._group:
                yield group
                group = []
        if group:
            yield group


def eventually(claim: Callable[[], object], patience: float = LONGEST_WAIT) -> bool:
    """Wait until a claim about another thread or process holds; return whether it ever did."""
    deadline = time.monotonic() + patience
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
