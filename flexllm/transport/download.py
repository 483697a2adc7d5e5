"""Downloads of media that messages name: bounded in bytes and in time, and kept away from addresses that are private.

A message may come from anybody, so its URLs must not make this machine ask its own network. What counts is the address
that a connection really leads to: it is looked at after connecting and before a byte is sent, at each redirect anew, so
that a name which changes its address between two look-ups (DNS rebinding) gains nothing. Behind a proxy that address is
the proxy's; then the name is looked up here instead, which is the best that can be done: a name that only the proxy knows
is let through.

No keys, cookies of earlier downloads, client certificates or client headers are sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError

from ..cancel import CancelToken
from ..errors import (
    ConfigError,
    ConnectionFailed,
    FlexLLMError,
    InputError,
    RequestCancelled,
    RequestError,
    RequestTimeout,
)
from ..language import _
from .failures import FOREIGN, translate
from .options import RECEIVE_BYTES, TransportOptions, place_of
from .session import check_settings, proxy_for, within

MAX_REDIRECTS = 5

_HEADERS = {"User-Agent": "flexllm", "Accept": "*/*", "Accept-Encoding": "identity"}

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_RETRYABLE = frozenset({408, 425, 429})
"""And every 5xx: the same URL may be readable later."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses whose last four bytes are an IPv4 address, which a gateway asks instead. Source: RFC 6052."""


def download(
    url: str,
    *,
    max_bytes: int,
    timeout: float,
    allow_private: bool = False,
    options: TransportOptions | None = None,
    cancel: CancelToken | None = None,
) -> tuple[bytes, str]:
    """Return the bytes at an http(s) URL, and the Content-Type that the server gave them ("" if none).

    Args:
        url: Up to five redirects are followed from there.
        max_bytes: The most that is read.
        timeout: Seconds for everything: name look-up, redirects, the last byte.
        allow_private: Whether addresses that are not public may be asked.
        options: Proxies, `verify` and `trust_env`; its time limits are not used.
        cancel: Breaks the download off.

    Raises:
        InputError: The URL is wrong, leads to a private address, to nothing (404) or to too much.
        RequestTimeout: It took too long.
        ConnectionFailed: The server could not be reached or failed (5xx), or its reply broke off; it may work later. Its
            `attempts`, like those of a RequestTimeout, are 0: no model was asked.
        RequestCancelled: `cancel` was aborted meanwhile.
    """
    options = options or TransportOptions()
    guard = _Guard(allow_private)
    deadline = time.monotonic() + timeout
    work = _Work(url, max_bytes, deadline, options, guard)
    try:
        return within(deadline, cancel, work.run, lambda late: None)
    except FOREIGN as error:
        if cancel is not None and cancel.aborted:
            raise RequestCancelled(_("stopped while a medium was downloaded"), attempts=0) from error
        raise _translated(error, work.url, timeout, options) from error
    finally:
        guard.break_off()


def is_public(address: str) -> bool:
    """Return whether an IP address, as text, is one of the public internet, also where it wraps an IPv4 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped or ip in _NAT64:  # reserved in themselves, which says nothing of where they lead
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
        if ip.is_site_local or ip.sixtofour or ip.teredo:  # tunnels to any IPv4 address; out of use (RFC 7526)
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)


class _Guard:
    """Looks at each connection of one download before it is used, and can break it off from another thread."""

    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private
        self.url = ""
        self._handles: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_over = False

    def admit(self, connect: Callable[[], socket.socket]) -> socket.socket:
        """Connect, and return the socket if it leads to where we may go."""
        try:
            sock = connect()
        except NameResolutionError as error:
            raise _name_error(self.url, error.__cause__ or error) from error
        try:
            self.check(str(sock.getpeername()[0]))
            self._hold(sock)
        except BaseException:  # Ctrl-C too: nobody else can close it
            sock.close()
            raise
        return sock

    def check(self, address: str) -> None:
        """Raise InputError for an address that may not be asked."""
        if not self.allow_private and not is_public(address):
            raise InputError(
                _(
                    "{shown} leads to {address}, which is no public address; set allow_private=True if it may be asked",
                    shown=_shown(self.url),
                    address=address,
                )
            )

    def check_name(self, url: str) -> None:
        """Look a URL's host up and check all its addresses: before connecting, and instead of it behind a proxy."""
        parts = urlsplit(url)
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return  # connecting will tell what is wrong, or the proxy knows the name
        for *_family, place in found:
            self.check(str(place[0]))

    def _hold(self, sock: socket.socket) -> None:
        # A handle of its own: TLS takes the socket over, and a reply may outlive its connection object.
        handle = sock.dup()
        with self._lock:
            self._handles.append(handle)
            if self._is_over:
                raise TimeoutError

    def break_off(self) -> None:
        """End every connection. What is opened later ends at once."""
        with self._lock:
            self._is_over = True
            handles, self._handles = self._handles, []
        for handle in handles:
            with contextlib.suppress(OSError):  # it is closed by the other side
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()


class _HttpConnection(HTTPConnection):
    guard: _Guard

    def _new_conn(self) -> socket.socket:
        return self.guard.admit(super()._new_conn)


class _HttpsConnection(HTTPSConnection):
    guard: _Guard

    def _new_conn(self) -> socket.socket:  # TLS begins on what this returns
        return self.guard.admit(super()._new_conn)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection
    guard: _Guard

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        connection.guard = self.guard  # type: ignore[attr-defined]
        return connection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
    guard: _Guard

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        connection.guard = self.guard  # type: ignore[attr-defined]
        return connection


class _Adapter(requests.adapters.HTTPAdapter):
    """Gives the guard to its pools. A connection without one cannot be opened at all, except to a proxy."""

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.guard = self._guard  # type: ignore[attr-defined]
        return pool


class _Work:
    """One download, on a thread of its own."""

    def __init__(self, url: str, max_bytes: int, deadline: float, options: TransportOptions, guard: _Guard) -> None:
        self.url = url
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._options = options
        self._guard = guard

    def run(self) -> tuple[bytes, str]:
        """Follow the redirects, and return body and Content-Type."""
        with requests.Session() as session:
            session.headers.clear()
            adapter = _Adapter(self._guard)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            for _hop in range(MAX_REDIRECTS + 1):
                with self._ask(session) as response:
                    place = session.get_redirect_target(response) if response.status_code in _REDIRECTS else None
                    if place is None:
                        return self._body(response), response.headers.get("Content-Type", "")
                    self.url = _joined(self.url, place)
        raise InputError(
            _(
                "{shown} is redirected again, after {max_redirects} redirects; give the last URL",
                shown=_shown(self.url),
                max_redirects=MAX_REDIRECTS,
            )
        )

    def _ask(self, session: requests.Session) -> requests.Response:
        options = self._options
        self._guard.url = self.url
        _check_url(self.url)
        session.trust_env = options.trust_env
        settings: dict[str, Any] = {
            **session.merge_environment_settings(self.url, dict(options.proxies or {}), True, options.verify, None)
        }
        session.trust_env = False  # or it would look for a password in ~/.netrc
        proxy = proxy_for(self.url, settings["proxies"])
        check_settings(self.url, proxy, settings["verify"], None)
        request = session.prepare_request(requests.Request("GET", self.url, headers=_HEADERS))
        if not self._guard.allow_private:
            self._guard.check_name(request.url or self.url)
        left = max(0.001, self._deadline - time.monotonic())
        # Not session.send: of a reply that redirects, it reads the whole body, however long that is, and keeps cookies.
        return session.get_adapter(self.url).send(request, timeout=left, **settings)

    def _body(self, response: requests.Response) -> bytes:
        status, place = response.status_code, _shown(self.url)
        if status in _RETRYABLE or status >= 500:
            raise ConnectionFailed(
                _("{place} could not be downloaded: its server answered {status}", place=place, status=status),
                attempts=0,
            )
        if not 200 <= status < 300:
            raise InputError(
                _("{place} cannot be downloaded: its server answered {status}", place=place, status=status)
            )
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise InputError(
                _(
                    "{place} has {length} bytes, more than max_bytes={max_bytes}",
                    place=place,
                    length=length,
                    max_bytes=self._max_bytes,
                )
            )
        return self._decoded(b"".join(self._pieces(response)), response.headers.get("Content-Encoding", ""))

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        raw, size = response.raw, 0
        read = getattr(raw, "read1", raw.read)  # hands on what is there; not in the oldest urllib3 that we take
        while piece := read(RECEIVE_BYTES, decode_content=False):
            size += len(piece)
            if size > self._max_bytes:
                self._complain_of_size()
            if time.monotonic() >= self._deadline:
                raise TimeoutError
            yield piece

    def _decoded(self, body: bytes, coding: str) -> bytes:
        """Undo a coding that was not asked for, never beyond the size limit."""
        coding = coding.strip().lower()
        if coding in ("", "identity"):
            return body
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise InputError(
                _(
                    "{shown} is sent in the coding {coding!r}, which was not asked for",
                    shown=_shown(self.url),
                    coding=coding[:40],
                )
            )
        try:
            plain = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, self._max_bytes + 1)
        except zlib.error as error:
            raise ConnectionFailed(
                _("{shown} came with a broken body: {error}", shown=_shown(self.url), error=error), attempts=0
            ) from error
        if len(plain) > self._max_bytes:
            self._complain_of_size()
        return plain

    def _complain_of_size(self) -> None:
        raise InputError(
            _("{shown} has more bytes than max_bytes={max_bytes}", shown=_shown(self.url), max_bytes=self._max_bytes)
        )


def _joined(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        raise InputError(
            _("{shown} cannot be downloaded: its server redirects to what is no URL", shown=_shown(url))
        ) from error


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputError(
            _("{shown} is no URL that can be downloaded: http or https and a host are needed", shown=_shown(url))
        )


def _name_error(url: str, error: BaseException) -> FlexLLMError:
    """Return what it means that a host's name cannot be looked up."""
    host = urlsplit(url).hostname
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return ConnectionFailed(
            _(
                "the name {host!r} in {shown} cannot be looked up for now; check the network",
                host=host,
                shown=_shown(url),
            ),
            attempts=0,
        )
    return InputError(_("the name {host!r} in {shown} cannot be found", host=host, shown=_shown(url)))


def _translated(error: Exception, url: str, timeout: float, options: TransportOptions) -> FlexLLMError:
    ours = translate(error, url, options)
    if isinstance(ours, RequestTimeout):
        return RequestTimeout(
            _(
                "{shown} was not downloaded within {timeout:g} s; raise download_timeout",
                shown=_shown(url),
                timeout=timeout,
            ),
            attempts=0,
        )
    if isinstance(error, ValueError) and isinstance(ours, ConfigError) and not _is_of_proxy(error):
        return InputError(_("{shown} is no URL that can be downloaded", shown=_shown(url)))
    ours.args = (_("{shown} could not be downloaded: {ours}", shown=_shown(url), ours=ours),)
    if isinstance(ours, RequestError):
        ours.endpoint, ours.attempts = None, 0
    return ours


def _is_of_proxy(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.InvalidProxyURL)


def _shown(url: str) -> str:
    """Return a URL for people: without credentials, query and fragment, and not too long."""
    try:
        text = place_of(url) + urlsplit(url).path
    except ValueError:
        text = url.partition("?")[0].rpartition("@")[2]
    return repr(text if len(text) <= 200 else f"{text[:197]}...")
