"""The only code that touches the network, and the only door to requests and urllib3.

Two routes lead out. The direct one takes a connection from the pool behind the session's adapter, sends head and body at
once and reads the reply with `http1`. Whatever is unusual (a caller's own session, a proxy) goes through `session.send`.
Both keep the same deadlines and raise the same errors; a test compares them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from .cancel import Breaker, CancelToken
from .errors import ConfigError, ConnectionFailed, FlexLLMError, RequestCancelled, RequestTimeout, TlsFailed
from .fork import forget_in_child
from .http1 import BrokenReply, NothingReceived, Reply
from .wire import NO_KEY, HttpRequest, HttpResponse

Proxies = Mapping[str, str]
Verify = bool | str
Cert = str | tuple[str, str]

RECEIVE_BYTES = 65_536
"""Asked of the socket at a time; a usual reply fits into one."""

FRESH_SECONDS = 1.0
"""A pooled connection idle for less is used without asking whether the server has closed it in the meantime."""

REARM_SECONDS = 0.05
"""A socket keeps its time limit while it is off by less: setting it costs two system calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """How requests travel.

    Attributes:
        timeout: Seconds for one attempt, connecting included; for a stream, the longest gap between pieces.
        connect_timeout: Seconds to connect, TLS included, within `timeout`.
        stream_timeout: Seconds for a whole stream; None is not limited.
        proxies: As requests takes them; None reads the environment (`HTTPS_PROXY`, `NO_PROXY`, ...), once.
        verify: True, False or the path of a CA bundle; None reads the environment (`REQUESTS_CA_BUNDLE`), once.
        cert: Client certificate: a path, or a pair of paths (certificate, key).
        trust_env: Whether the environment is read at all.
        connections: Idle connections kept for each host.
    """

    timeout: float = 120.0
    connect_timeout: float = 10.0
    stream_timeout: float | None = None
    proxies: Proxies | None = None
    verify: Verify | None = None
    cert: Cert | None = None
    trust_env: bool = True
    connections: int = 10

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "stream_timeout"):
            value = getattr(self, name)
            if value is None and name == "stream_timeout":
                continue
            if not isinstance(value, (int, float)) or not 0 < value < threading.TIMEOUT_MAX:
                raise ConfigError(f"{name}={value!r} must be a number of seconds above 0")


class HttpStream(Protocol):
    """A reply whose body is read piece by piece."""

    status: int
    headers: Mapping[str, str]

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""

    def close(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""


class Transport:
    """Sends requests and reads replies, with pooled connections that live as long as it does.

    May be shared by threads, and survives a fork: the child starts with connections of its own.

    Args:
        options: Time limits, proxies, certificates.
        session: A session of the caller's own; it is used as it is and not closed.
    """

    def __init__(self, options: TransportOptions, session: requests.Session | None = None) -> None:
        self._options = options
        self._own = session is None
        self._session = session if session is not None else _new_session(options)
        self._routes: dict[str, _Route] = {}
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._routes = {}
        if self._own:
            self._session = _new_session(self._options)
        else:
            self._session.close()  # its pools forget the parent's connections; it can still be used

    def send(self, request: HttpRequest, cancel: CancelToken | None = None) -> HttpResponse:
        """Send a request and return the complete reply, whatever its status.

        Raises:
            RequestTimeout: No complete reply within `timeout` seconds.
            ConnectionFailed: No reply, or a broken one.
            RequestCancelled: `cancel` was aborted meanwhile.
        """
        started = time.monotonic()
        try:
            route = self._routes.get(request.url) or self._route(request.url)
            status, headers, body = route.send(request, started + self._options.timeout, cancel)
        except _FOREIGN as error:
            raise self._translated(error, request, cancel) from error
        return HttpResponse(status, headers, body, time.monotonic() - started)

    @contextlib.contextmanager
    def stream(self, request: HttpRequest, cancel: CancelToken | None = None) -> Iterator[HttpStream]:
        """Send a request and hand out the reply as soon as its head is there.

        Raises:
            As `send` does, also while the pieces are read inside the block; `timeout` bounds each gap.
        """
        total = self._options.stream_timeout
        try:
            route = self._routes.get(request.url) or self._route(request.url)
            reply = route.stream(request, time.monotonic() + total if total else None, cancel)
            try:
                yield reply
            finally:
                reply.close()
        except _FOREIGN as error:
            raise self._translated(error, request, cancel) from error

    def close(self) -> None:
        """Close idle connections. The transport can still be used and then opens new ones."""
        with self._lock:
            self._routes = {}
        if self._own:
            self._session.close()

    def _route(self, url: str) -> _Route:
        """Decide once for each URL how it is reached; environment and certificates are read here and never again."""
        with self._lock:
            options = self._options
            self._session.trust_env = options.trust_env if self._own else self._session.trust_env
            settings = self._session.merge_environment_settings(
                url, dict(options.proxies or {}), True, options.verify, options.cert
            )
            if self._own:
                self._session.trust_env = False
            adapter = self._session.get_adapter(url)
            if self._own and isinstance(adapter, _DirectAdapter) and not _proxy_for(url, settings["proxies"]):
                pool = adapter.direct_pool(url, settings["verify"], settings["cert"])
                route: _Route = _DirectRoute(pool, options)
            else:
                route = _SessionRoute(self._session, settings, options)
            self._routes[url] = route
            return route

    def _translated(self, error: Exception, request: HttpRequest, cancel: CancelToken | None) -> FlexLLMError:
        if cancel is not None and cancel.aborted:
            return RequestCancelled("stopped while its reply was awaited")
        return translate(error, request.url, self._options)


class _Route(Protocol):
    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None
    ) -> tuple[int, Mapping[str, str], bytes]: ...

    def stream(self, request: HttpRequest, deadline: float | None, cancel: CancelToken | None) -> HttpStream: ...


# --- the direct route -------------------------------------------------------------------------------------------------


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

    def lend(self: Any, fresh: bool, connect_timeout: float, timeout: float) -> tuple[_Connection, bool]:
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
        connection.timeout = connect_timeout
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(timeout)
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


class _DirectAdapter(requests.adapters.HTTPAdapter):
    """The adapter of our own sessions: its pools lend connections out."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def direct_pool(self, url: str, verify: Verify, cert: Cert | None) -> Any:
        prepared = requests.Request("POST", url).prepare()
        pool = self.get_connection_with_tls_context(prepared, verify, cert=cert)
        self.cert_verify(pool, url, verify, cert)
        return pool


def _new_session(options: TransportOptions) -> requests.Session:
    session = requests.Session()
    adapter = _DirectAdapter(pool_connections=64, pool_maxsize=max(options.connections, 10), max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _DirectRoute:
    """Speaks HTTP/1.1 on a pooled connection's socket."""

    def __init__(self, pool: Any, options: TransportOptions) -> None:
        self._pool = pool
        self._options = options
        self._heads: dict[tuple[Any, ...], bytes] = {}

    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        exchange = self._open(request, deadline, None, cancel)
        try:
            reply = exchange.reply
            body = reply.body()
            return reply.status, reply.headers, body
        finally:
            exchange.close()

    def stream(self, request: HttpRequest, deadline: float | None, cancel: CancelToken | None) -> HttpStream:
        return self._open(request, deadline, self._options.timeout, cancel)

    def _open(
        self, request: HttpRequest, deadline: float | None, gap: float | None, cancel: CancelToken | None
    ) -> _Exchange:
        """Send the request and read the reply's head.

        A connection that was used before may have been closed by the server while it lay idle. If it fails before a
        byte of a reply has come, the request is sent once more, on a new connection.
        """
        fresh = False
        while True:
            limit = self._options.timeout
            connect_limit = self._options.connect_timeout
            if fresh and deadline is not None:
                connect_limit = max(0.001, min(connect_limit, deadline - time.monotonic()))
            connection, used = self._pool.lend(fresh, min(connect_limit, limit), limit)
            exchange = _Exchange(self._pool, connection, limit, deadline, gap, cancel)
            try:
                exchange.start(self._head(request), request.body)
                return exchange
            except (NothingReceived, ConnectionError):
                exchange.close()
                if not used or exchange.received or (cancel is not None and cancel.aborted):
                    raise
                fresh = True
            except BaseException:
                exchange.close()
                raise

    def _head(self, request: HttpRequest) -> bytes:
        known = (request.method, request.url, request.headers)
        head = self._heads.get(known)
        if head is None:
            head = _render_head(request)
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
        "_pool",
        "_sock",
        "headers",
        "received",
        "reply",
        "status",
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
        self.received = False

    def start(self, head: bytes, body: bytes) -> None:
        """Send head and body, and read the reply's head."""
        if self._cancel is not None:
            self._breaker = self._break_off
            self._cancel.hold(self._breaker)
        try:
            self._sock.sendall(head + body)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse a large body before it has read it: its reply may be waiting for us.
            with contextlib.suppress(OSError, NothingReceived, BrokenReply):
                self.reply = Reply(self._receive)
                self.status, self.headers = self.reply.status, self.reply.headers
                return
            raise
        self.reply = Reply(self._receive)
        self.status, self.headers = self.reply.status, self.reply.headers

    def _receive(self) -> bytes:
        gap, deadline = self._gap, self._deadline
        remaining = self._full if gap is None else gap
        if deadline is not None:
            remaining = min(remaining, deadline - time.monotonic())
            if remaining <= 0:
                raise TimeoutError
        if not -REARM_SECONDS < self._limit - remaining < REARM_SECONDS:
            self._sock.settimeout(remaining)
            self._limit = remaining
        data: bytes = self._sock.recv(RECEIVE_BYTES)
        if data:
            self.received = True
        return data

    def pieces(self) -> Iterator[bytes]:
        return self.reply.pieces()

    def close(self) -> None:
        connection = self._connection
        if connection is None:
            return
        self._connection = None  # type: ignore[assignment]
        if self._cancel is not None and self._breaker is not None:
            self._cancel.release(self._breaker)
        reply = getattr(self, "reply", None)
        if reply is not None and reply.reusable and not (self._cancel is not None and self._cancel.aborted):
            if self._limit != self._full:
                self._sock.settimeout(self._full)
            self._pool.give_back(connection)
        else:
            connection.close()

    def _break_off(self) -> None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: it takes the TLS layer away from under the thread that is reading.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


def _render_head(request: HttpRequest) -> bytes:
    parts = urlsplit(request.url)
    path = parts.path or "/"
    path = f"{path}?{parts.query}" if parts.query else path
    host = parts.netloc.rpartition("@")[2]
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    text = "\r\n".join(lines) + "\r\n"
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ConfigError("a header holds a line end; headers must be single lines")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ConfigError(
            "a header holds a character that HTTP cannot carry; use Latin-1 or percent-encoding"
        ) from None


# --- through session.send ---------------------------------------------------------------------------------------------


class _SessionRoute:
    """Goes through `session.send`, with everything that the session brings: proxies, adapters, auth, hooks."""

    def __init__(self, session: requests.Session, settings: Mapping[str, Any], options: TransportOptions) -> None:
        self._session = session
        self._settings = dict(settings)
        self._options = options

    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        def whole() -> tuple[int, Mapping[str, str], bytes]:
            with self._send(request) as response:
                return response.status_code, _lower(response.headers), b"".join(_raw_pieces(response, deadline))

        return _within(deadline, cancel, whole, lambda done: None)

    def stream(self, request: HttpRequest, deadline: float | None, cancel: CancelToken | None) -> HttpStream:
        by = min(deadline or threading.TIMEOUT_MAX, time.monotonic() + self._options.timeout)
        response = _within(by, cancel, lambda: self._send(request), lambda late: late.close())
        return _SessionStream(response, deadline)

    def _send(self, request: HttpRequest) -> requests.Response:
        headers = dict(request.headers)
        brings_auth = self._session.auth or "Authorization" in self._session.headers
        if brings_auth and headers.get("Authorization") == f"Bearer {NO_KEY}":
            del headers["Authorization"]
        prepared = self._session.prepare_request(
            requests.Request(request.method, request.url, headers=headers, data=request.body)
        )
        return self._session.send(
            prepared,
            timeout=(min(self._options.connect_timeout, self._options.timeout), self._options.timeout),
            allow_redirects=False,
            **self._settings,
        )


class _SessionStream:
    def __init__(self, response: requests.Response, deadline: float | None) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status_code
        self.headers = _lower(response.headers)

    def pieces(self) -> Iterator[bytes]:
        return _raw_pieces(self._response, self._deadline)

    def close(self) -> None:
        self._response.close()


def _raw_pieces(response: requests.Response, deadline: float | None) -> Iterator[bytes]:
    """Yield the body as it arrives. `read1` hands on what is there; `iter_content` may wait to fill a piece."""
    read1 = getattr(response.raw, "read1", None)
    pieces = iter(lambda: read1(RECEIVE_BYTES, decode_content=True), b"") if read1 else response.iter_content(1)
    for piece in pieces:
        yield piece
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError


T = TypeVar("T")


def _within(deadline: float, cancel: CancelToken | None, work: Callable[[], T], too_late: Callable[[T], None]) -> T:
    """Do `work` on a thread of its own and give up on it at the deadline: requests has no time limit for a whole reply.

    What is given up ends when the server does; its result, if one comes, is handed to `too_late`.
    """
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    given_up = threading.Event()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # handed to the caller below, whatever it is
            outcome.put((None, error))
            return
        outcome.put((result, None))
        if given_up.is_set():
            too_late(result)

    def wake() -> None:
        outcome.put((None, TimeoutError()))

    if cancel is not None:
        cancel.hold(wake)
    threading.Thread(target=run, name="flexllm-session", daemon=True).start()
    try:
        result, error = outcome.get(timeout=max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
    except queue.Empty:
        given_up.set()
        raise TimeoutError from None
    finally:
        if cancel is not None:
            cancel.release(wake)
    if error is not None:
        given_up.set()
        raise error
    return result  # type: ignore[return-value]


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    return requests.utils.select_proxy(url, dict(proxies))


# --- errors -----------------------------------------------------------------------------------------------------------

_FOREIGN = (OSError, HTTPError, requests.RequestException, NothingReceived, BrokenReply)
"""OSError holds TimeoutError, ConnectionError and ssl.SSLError."""


def translate(error: Exception, url: str, options: TransportOptions) -> FlexLLMError:
    """Return a foreign network error as one of ours: what happened, where, and what to do."""
    parts = urlsplit(url)
    host = parts.hostname or url
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if certificate := caused_by(ssl.SSLCertVerificationError):
        return TlsFailed(
            f"the certificate of {place} was not accepted ({certificate}); if a company's own CA signed it, give its "
            "bundle as verify='/path/to/ca.pem' or in REQUESTS_CA_BUNDLE",
            endpoint=place,
        )
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return ConfigError(f"the proxy for {place} has a wrong URL ({error}); check proxies= or HTTPS_PROXY")
    if isinstance(error, ValueError):  # requests' families of wrong URLs and headers
        return ConfigError(f"{place} cannot be asked: {error}")
    if caused_by(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return RequestTimeout(
            f"{place} did not take the connection within {options.connect_timeout:g} s; check the address and the "
            "network, or raise connect_timeout",
            endpoint=place,
        )
    if caused_by(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return RequestTimeout(
            f"{place} did not complete its reply within {options.timeout:g} s; raise timeout if the model needs longer",
            endpoint=place,
        )
    if tls := caused_by(ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        return ConnectionFailed(
            f"the TLS connection to {place} failed ({_short(tls)}); check that the port speaks TLS, and verify= or "
            "REQUESTS_CA_BUNDLE if a company's own CA is in use",
            endpoint=place,
        )
    if caused_by(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return ConnectionFailed(f"the proxy on the way to {place} failed ({_short(error)}); check it", endpoint=place)
    if caused_by(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return ConnectionFailed(f"the name {host!r} cannot be found; check base_url and the network", endpoint=place)
    if caused_by(ConnectionRefusedError):
        return ConnectionFailed(
            f"nothing listens at {place}; is the server running, is the port right?", endpoint=place
        )
    if broken := caused_by(BrokenReply):
        return ConnectionFailed(f"the reply of {place} is broken: {broken}", endpoint=place)
    if caused_by(NothingReceived, ConnectionResetError, BrokenPipeError):
        return ConnectionFailed(f"{place} closed the connection without a reply", endpoint=place)
    if isinstance(error, OSError) and error.errno in _OUT_OF_FILES:
        return ConnectionFailed(
            f"no connection to {place} could be opened: too many open files; lower concurrency_limit or raise "
            "the limit (ulimit -n)",
            endpoint=place,
        )
    return ConnectionFailed(f"the connection to {place} failed: {_short(error)}", endpoint=place)


_OUT_OF_FILES = (23, 24)  # ENFILE, EMFILE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it wraps: requests and urllib3 hide causes in `args` and `reason` too."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


# --- open files -------------------------------------------------------------------------------------------------------


def allow_connections(connections: int) -> None:
    """Raise this process's soft limit of open files where so many connections need it.

    Raises:
        ConfigError: The hard limit is too low; the message says which and what to do.
    """
    try:
        import resource  # not on every platform
    except ImportError:
        return
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY,) or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"concurrency_limit={connections} needs about {needed} open files, but the hard limit of this process is "
            f"{hard}: lower concurrency_limit to {max(1, hard - SPARE_FILES)}, or raise the limit (ulimit -Hn, "
            "LimitNOFILE= of a systemd unit, /etc/security/limits.conf)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


SPARE_FILES = 64
"""Open files besides connections: input, output, logs, libraries, and what the caller has open."""
