"""The direct route: a connection from the pool behind the session's adapter, and our own exchange on its socket."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError

from ..cancel import Breaker, CancelToken
from ..errors import ConfigError
from ..http1 import BrokenReply, NothingReceived, Reply
from ..language import _
from ..wire import HttpRequest
from .options import REARM_SECONDS, RECEIVE_BYTES, Cert, Departed, HttpStream, StreamDeadline, TransportOptions, Verify

FRESH_SECONDS = 1.0
"""A pooled connection idle for less is used without asking whether the server has closed it in the meantime."""

DRAIN_SECONDS = 0.02
DRAIN_BYTES = 4096
"""How long and how far a stream is read on after its reader has left: the end of a body that says "[DONE]" may still be
on its way, and without it the connection could not be used again."""


class _IdleStack(queue.LifoQueue):  # type: ignore[type-arg]  # not subscriptable before Python 3.11... at run time
    """urllib3's pool of idle connections on a deque: no lock is taken where hundreds of threads take and give."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._items: deque[Any] = deque()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:  # urllib3 fills a new pool with None; an empty stack says the same
            if len(self._items) >= self.maxsize:
                raise queue.Full
            self._items.append(item)

    def qsize(self) -> int:
        return len(self._items)


class _Lendable:
    """What the direct route needs of a pool: a connection to use, and a place to put it back."""

    QueueCls = _IdleStack

    def lend(
        self: Any, fresh: bool, connect_timeout: float, timeout: float, deadline: float | None
    ) -> tuple[_Connection, bool]:
        """Return a connected connection whose socket has the time limit `timeout`, and whether it was used before."""
        while not fresh:
            try:
                connection = self.pool.get(block=False)
            except (queue.Empty, AttributeError):
                break
            if time.monotonic() - connection.idle_since < FRESH_SECONDS or connection.is_connected:
                return connection, True
            connection.close()
        connection = self._new_conn()
        if deadline is not None:
            connect_timeout = max(0.001, min(connect_timeout, deadline - time.monotonic()))
        connection.timeout = connect_timeout
        try:
            connection.connect()
        except TimeoutError as error:  # of the TLS handshake; urllib3 gives that of connecting a class of its own
            connection.close()
            raise ConnectTimeoutError(f"no TLS handshake within {connect_timeout:g} s") from error
        except BaseException:  # Ctrl-C too: nobody else can close it
            connection.close()
            raise
        _set_time_limit(connection.sock, timeout)
        return connection, False

    def give_back(self: Any, connection: _Connection) -> None:
        connection.idle_since = time.monotonic()
        self._put_conn(connection)


class _Connection(Protocol):
    sock: Any
    idle_since: float
    timeout: Any

    def connect(self) -> None: ...

    def close(self) -> None: ...


class _HttpConnection(HTTPConnection):
    idle_since = 0.0


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    idle_since = 0.0


class _HttpPool(_Lendable, urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(_Lendable, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class DirectAdapter(requests.adapters.HTTPAdapter):
    """The adapter of our own sessions: its pools lend connections out."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def direct_pool(self, url: str, verify: Verify, cert: Cert | None) -> Any:
        prepared = requests.Request("POST", url).prepare()
        pool = self.get_connection_with_tls_context(prepared, verify, cert=cert)
        self.cert_verify(pool, url, verify, cert)  # type: ignore[no-untyped-call]
        return pool


def new_session(options: TransportOptions) -> requests.Session:
    """Return a session of our own, whose adapter lends its connections out."""
    session = requests.Session()
    adapter = DirectAdapter(pool_connections=64, pool_maxsize=max(options.connections, 10), max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class DirectRoute:
    """Speaks HTTP/1.1 on a pooled connection's socket."""

    def __init__(self, pool: Any, options: TransportOptions) -> None:
        self._pool = pool
        self._options = options
        self._heads: dict[tuple[Any, ...], bytes] = {}

    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None, departed: Departed | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        exchange = self._open(request, deadline, None, cancel, departed)
        try:
            reply = exchange.reply
            body = reply.body()
            return reply.status, reply.headers, body
        finally:
            exchange.close()

    def stream(
        self, request: HttpRequest, deadline: StreamDeadline, cancel: CancelToken | None, departed: Departed | None
    ) -> HttpStream:
        exchange = self._open(request, deadline.at, self._options.timeout, cancel, departed)
        exchange.stream_deadline = deadline
        return exchange

    def close(self) -> None:
        self._pool.close()

    def _open(
        self,
        request: HttpRequest,
        deadline: float | None,
        gap: float | None,
        cancel: CancelToken | None,
        departed: Departed | None,
    ) -> _Exchange:
        """Send the request and read the reply's head.

        A connection that was used before may have been closed by the server while it lay idle. If it fails before a
        byte of a reply has come, the request is sent once more, on a new connection.
        """
        fresh = False
        while True:
            limit = self._options.timeout
            connect_limit = min(self._options.connect_timeout, limit)
            connection, used = self._pool.lend(fresh, connect_limit, limit, deadline)
            exchange = _Exchange(self._pool, connection, limit, deadline, gap, cancel)
            try:
                exchange.start(self._head(request), request.body, departed)
                return exchange
            except (NothingReceived, ConnectionError):
                exchange.close()
                if not used or exchange.received or (cancel is not None and cancel.aborted):
                    raise
                fresh = True
            except BaseException:  # Ctrl-C too: half an answer may be on its way, so that no other request may follow
                exchange.close()
                raise

    def _head(self, request: HttpRequest) -> bytes:
        known = (request.method, request.url, request.headers)
        head = self._heads.get(known)
        if head is None:
            head = render_head(request)
            if len(self._heads) < 64:
                self._heads[known] = head
        return b"%sContent-Length: %d\r\n\r\n" % (head, len(request.body))


class _Exchange:
    """One request and its reply on one connection. Also what a stream hands out."""

    __slots__ = (
        "_breaker",
        "_cancel",
        "_connection",
        "_deadline",
        "_full",
        "_gap",
        "_limit",
        "_pieces",
        "_pool",
        "_sock",
        "received",
        "reply",
        "stream_deadline",
    )

    def __init__(
        self,
        pool: Any,
        connection: _Connection,
        limit: float,
        deadline: float | None,
        gap: float | None,
        cancel: CancelToken | None,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._sock = connection.sock
        self._full = self._limit = limit
        self._deadline = deadline
        self._gap = gap
        self._cancel = cancel
        self._breaker: Breaker | None = None
        self._pieces: Iterator[bytes] | None = None
        self.stream_deadline: StreamDeadline | None = None
        self.received = False
        self.reply: Any = None  # a Reply from `start` to `close`

    @property
    def status(self) -> int:
        status: int = self.reply.status
        return status

    @property
    def headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self.reply.headers
        return headers

    def start(self, head: bytes, body: bytes, departed: Departed | None) -> None:
        """Send head and body, and read the reply's head."""
        if self._cancel is not None:
            self._breaker = self._break_off
            self._cancel.hold(self._breaker)
        data = head + body
        try:
            sent = self._sock.send(data)
            if sent < len(data):
                self._send_rest(memoryview(data)[sent:])
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse a large body before it has read it: its reply may be waiting for us.
            with contextlib.suppress(OSError, NothingReceived, BrokenReply):
                self.reply = Reply(self._receive)
                return
            raise
        except BlockingIOError:
            raise TimeoutError from None
        if departed is not None:
            departed()
        self.reply = Reply(self._receive)

    def _send_rest(self, data: memoryview) -> None:
        """Send what did not fit into the kernel's buffer. The time limit is for all of it, not for each part."""
        by = time.monotonic() + (self._full if self._gap is None else self._gap)
        if self._deadline is not None:
            by = min(by, self._deadline)
        while data:
            self._limit = by - time.monotonic()
            if self._limit <= 0:
                raise TimeoutError
            _set_time_limit(self._sock, self._limit)
            data = data[self._sock.send(data) :]

    def _receive(self) -> bytes:
        gap, deadline = self._gap, self._deadline
        remaining = self._full if gap is None else gap
        if deadline is not None:
            remaining = min(remaining, deadline - time.monotonic())
            if remaining <= 0:
                raise TimeoutError
        if not -REARM_SECONDS < self._limit - remaining < REARM_SECONDS:
            _set_time_limit(self._sock, remaining)
            self._limit = remaining
        try:
            data: bytes = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:  # see _set_time_limit
            raise TimeoutError from None
        if data:
            self.received = True
        return data

    def pieces(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] = self.reply.pieces()
        self._pieces = pieces
        return pieces

    def lift_limit(self) -> None:
        if self.stream_deadline is not None:
            self.stream_deadline.lift()
            self._deadline = self.stream_deadline.at

    def _drain(self, pieces: Iterator[bytes]) -> None:
        self._gap, self._deadline = None, time.monotonic() + DRAIN_SECONDS
        left = DRAIN_BYTES
        with contextlib.suppress(OSError, BrokenReply):
            while left > 0 and (piece := next(pieces, b"")):
                left -= len(piece)

    def close(self) -> None:
        connection = self._connection
        if connection is None:
            return
        self._connection = None  # type: ignore[assignment]
        if self._cancel is not None and self._breaker is not None:
            self._cancel.release(self._breaker)
        reply, pieces = self.reply, self._pieces
        self.reply = self._pieces = None  # which read through us: without the ring all are freed now
        if pieces is not None and not reply.reusable:
            self._drain(pieces)
        if reply is not None and reply.reusable and not (self._cancel is not None and self._cancel.aborted):
            if self._limit != self._full:
                _set_time_limit(self._sock, self._full)
            self._pool.give_back(connection)
        else:
            connection.close()

    def _break_off(self) -> None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: it takes the TLS layer away from under the thread that is reading.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


def render_head(request: HttpRequest) -> bytes:
    """Return the head of a request up to its last header. Raises ConfigError for headers that HTTP cannot carry."""
    parts = urlsplit(request.url)
    path = parts.path or "/"
    path = f"{path}?{parts.query}" if parts.query else path
    host = parts.netloc.rpartition("@")[2]
    lines = [f"{request.method} {path} HTTP/1.1"]
    if all(name.lower() != "host" for name, _ in request.headers):
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    text = "\r\n".join(lines) + "\r\n"
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ConfigError(_("a header holds a line end; headers must be single lines"))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ConfigError(
            _("a header holds a character that HTTP cannot carry; use Latin-1 or percent-encoding")
        ) from None


def _set_time_limit(sock: socket.socket, seconds: float) -> None:
    """Have each send and receive fail after so many seconds without progress.

    A plain socket is given the limit in the kernel and stays blocking: Python's own way asks `poll` before every call,
    which costs a system call and a hand-over of the interpreter lock each time. When the kernel's limit has passed it
    says "would block". A TLS socket needs Python's way, and so does Windows, whose kernel wants another form.
    """
    if type(sock) is not socket.socket or os.name != "posix":
        sock.settimeout(seconds)
        return
    whole, fraction = divmod(max(seconds, 0.001), 1.0)
    limit = struct.pack("ll", int(whole), int(fraction * 1e6))  # a struct timeval
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
