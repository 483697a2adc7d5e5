"""The only code that touches the network, and the only door to requests and urllib3.

Two routes lead out. The direct one takes a connection from the pool behind the session's adapter, sends head and body
at once and reads the reply with `http1`. Whatever is unusual (a caller's own session, a proxy) goes through
`session.send`. Both keep the same deadlines and raise the same errors; a test compares them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from ..cancel import CancelToken
from ..errors import FlexLLMError, RequestCancelled, RequestTimeout
from ..fork import forget_in_child
from ..language import _
from ..wire import HttpRequest, HttpResponse
from .direct import DirectAdapter, DirectRoute, new_session
from .failures import FOREIGN, late_stream, translate
from .files import allow_connections
from .options import (
    REARM_SECONDS,
    Cert,
    Departed,
    HttpStream,
    Proxies,
    Route,
    StreamDeadline,
    TransportOptions,
    Verify,
    place_of,
)
from .session import SessionRoute, check_settings, proxy_for

__all__ = [
    "Cert",
    "HttpStream",
    "Proxies",
    "Transport",
    "TransportOptions",
    "Verify",
    "allow_connections",
    "translate",
]


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
        self._session = session if session is not None else new_session(options)
        self._routes: dict[str, Route] = {}
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._routes = {}
        if self._own:
            self._session = new_session(self._options)
        else:
            self._session.close()  # its pools forget the parent's connections; it can still be used

    @property
    def timeout(self) -> float:
        """Seconds for one attempt; for a stream, the longest gap between pieces."""
        return self._options.timeout

    def send(
        self,
        request: HttpRequest,
        cancel: CancelToken | None = None,
        seconds: float | None = None,
        departed: Departed | None = None,
    ) -> HttpResponse:
        """Send a request and return the complete reply, whatever its status.

        Args:
            seconds: How long it may take, if that is less than `timeout`.
            departed: Called when the request is on the wire.

        Raises:
            RequestTimeout: No complete reply within `timeout` seconds, or `seconds`.
            ConnectionFailed: No reply, or a broken one.
            RequestCancelled: `cancel` was aborted meanwhile.
        """
        started = time.monotonic()
        limit = self._options.timeout
        if seconds is not None and seconds < limit:
            limit = seconds
        try:
            route = self._routes.get(request.url) or self._route(request.url)
            status, headers, body = route.send(request, started + limit, cancel, departed)
        except FOREIGN as error:
            raise self._translated(error, request, cancel, limit) from error
        return HttpResponse(status, headers, body, time.monotonic() - started)

    @contextlib.contextmanager
    def stream(
        self,
        request: HttpRequest,
        cancel: CancelToken | None = None,
        seconds: float | None = None,
        departed: Departed | None = None,
    ) -> Iterator[HttpStream]:
        """Send a request and hand out the reply as soon as its head is there.

        Args:
            seconds: How long it may take until `lift_limit` is called on the reply; None is not limited.

        Raises:
            As `send` does, also while the pieces are read inside the block; `timeout` bounds each gap.
        """
        total = self._options.stream_timeout
        started = time.monotonic()
        deadline = StreamDeadline(started + total if total else None, None if seconds is None else started + seconds)
        begun = False
        try:
            route = self._routes.get(request.url) or self._route(request.url)
            reply = route.stream(request, deadline, cancel, departed)
            begun = True
            try:
                yield reply
            finally:
                reply.close()
        except FOREIGN as error:
            ours = self._translated(error, request, cancel, self._options.timeout, begun=begun)
            late = deadline.passed(time.monotonic() + REARM_SECONDS)
            if late and isinstance(ours, RequestTimeout):
                ours = late_stream(place_of(request.url), seconds if late == "first piece" else None, total)
            raise ours from error

    def close(self) -> None:
        """Close idle connections. The transport can still be used and then opens new ones."""
        with self._lock:
            routes, self._routes = self._routes, {}
        if self._own:
            self._session.close()  # forgets its pools, and leaves the closing to the garbage collector
            for route in routes.values():
                route.close()

    def _route(self, url: str) -> Route:
        """Return the way to a URL. It is the same for every URL of a server, and is found once."""
        place = place_of(url)
        with self._lock:
            route = self._routes[place] = self._routes[url] = self._routes.get(place) or self._new_route(url)
        return route

    def _new_route(self, url: str) -> Route:
        """Decide how a server is reached; environment and certificates are read here and never again."""
        options = self._options
        self._session.trust_env = options.trust_env if self._own else self._session.trust_env
        settings: Mapping[str, Any] = self._session.merge_environment_settings(
            url, dict(options.proxies or {}), True, options.verify, options.cert
        )
        if self._own:
            self._session.trust_env = False
        proxy = proxy_for(url, settings["proxies"])
        check_settings(url, proxy, settings["verify"], settings["cert"])
        adapter = self._session.get_adapter(url)
        if self._own and isinstance(adapter, DirectAdapter) and not proxy:
            return DirectRoute(adapter.direct_pool(url, settings["verify"], settings["cert"]), options)
        return SessionRoute(self._session, settings, options)

    def _translated(
        self, error: Exception, request: HttpRequest, cancel: CancelToken | None, limit: float, *, begun: bool = False
    ) -> FlexLLMError:
        if cancel is not None and cancel.aborted:
            return RequestCancelled(_("stopped while its reply was awaited"))
        return translate(error, request.url, self._options, limit, begun=begun)
