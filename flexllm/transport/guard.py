"""Connections that are looked at before a byte is sent: whether they lead to an address that may be asked.

A message may come from anybody, so its URLs must not make this machine ask its own network. What counts is the address
that a connection really leads to: it is looked at after connecting and before a byte is sent, at each redirect anew, so
that a name which changes its address between two look-ups (DNS rebinding) gains nothing. Behind a proxy that address is
the proxy's; then the name is looked up here instead, which is the best that can be done: a name that only the proxy knows
is let through.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError

from ..errors import ConnectionFailed, FlexLLMError, InputError
from ..language import _
from .options import place_of

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses whose last four bytes are an IPv4 address, which a gateway asks instead. Source: RFC 6052."""


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


class Guard:
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
            reason = _(
                "{url} leads to {address}, which is no public address; set allow_private=True if it may be asked",
                url=shown_url(self.url), address=address,
            )  # fmt: skip
            raise InputError(reason)

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
    guard: Guard

    def _new_conn(self) -> socket.socket:
        return self.guard.admit(super()._new_conn)


class _HttpsConnection(_HttpConnection, HTTPSConnection):
    """Begins TLS on what `_new_conn` returns."""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection
    guard: Guard

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        connection.guard = self.guard  # type: ignore[attr-defined]
        return connection


class _HttpsPool(_HttpPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """Gives the guard to its pools. A connection without one cannot be opened at all, except to a proxy."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.guard = self._guard  # type: ignore[attr-defined]
        return pool


def _name_error(url: str, error: BaseException) -> FlexLLMError:
    """Return what it means that a host's name cannot be looked up."""
    host = urlsplit(url).hostname
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        reason = _(
            "the name {host!r} in {url} cannot be looked up for now; check the network", host=host, url=shown_url(url)
        )
        return ConnectionFailed(reason, attempts=0)
    return InputError(_("the name {host!r} in {url} cannot be found", host=host, url=shown_url(url)))


def shown_url(url: str) -> str:
    """Return a URL for people: without credentials, query and fragment, and not too long."""
    try:
        text = place_of(url) + urlsplit(url).path
    except ValueError:
        text = url.partition("?")[0].rpartition("@")[2]
    return repr(text if len(text) <= 200 else f"{text[:197]}...")
