"""The other route: through `session.send`, with everything that a session brings."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from ..cancel import CancelToken
from ..errors import ConfigError
from ..language import _
from ..wire import NO_KEY, HttpRequest
from .direct import render_head
from .options import RECEIVE_BYTES, Cert, Departed, HttpStream, StreamDeadline, TransportOptions, Verify, place_of


class SessionRoute:
    """Goes through `session.send`, with everything that the session brings: proxies, adapters, auth, hooks."""

    def __init__(self, session: requests.Session, settings: Mapping[str, Any], options: TransportOptions) -> None:
        self._session = session
        self._settings = dict(settings)
        self._options = options

    def send(
        self, request: HttpRequest, deadline: float, cancel: CancelToken | None, departed: Departed | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        # What is given up below must not be read on for longer than this.
        gap = max(0.001, min(self._options.timeout, deadline - time.monotonic()))

        def whole() -> tuple[int, Mapping[str, str], bytes]:
            with self._send(request, gap, departed) as response:
                pieces = _raw_pieces(response, StreamDeadline(deadline, None), cancel)
                return response.status_code, _lower(response.headers), b"".join(pieces)

        return within(deadline, cancel, whole, lambda done: None)

    def stream(
        self, request: HttpRequest, deadline: StreamDeadline, cancel: CancelToken | None, departed: Departed | None
    ) -> HttpStream:
        started = time.monotonic()
        gap = self._options.timeout
        if deadline.at is not None:
            gap = max(0.001, min(gap, deadline.at - started))
        response = within(started + gap, cancel, lambda: self._send(request, gap, departed), lambda late: late.close())
        return _SessionStream(response, deadline, cancel, self._options.timeout)

    def close(self) -> None:
        pass  # the session's owner closes it

    def _send(self, request: HttpRequest, gap: float, departed: Departed | None) -> requests.Response:
        render_head(request)  # for its checks: requests would repeat a wrong header, which may be a key
        headers = dict(request.headers)
        brings_auth = self._session.auth or "Authorization" in self._session.headers
        if brings_auth and headers.get("Authorization") == f"Bearer {NO_KEY}":
            del headers["Authorization"]
        prepared = self._session.prepare_request(
            requests.Request(request.method, request.url, headers=headers, data=request.body)
        )
        if departed is not None:
            departed()
        return self._session.send(
            prepared,
            timeout=(min(self._options.connect_timeout, gap), gap),
            allow_redirects=False,
            **self._settings,
        )


class _SessionStream:
    def __init__(
        self, response: requests.Response, deadline: StreamDeadline, cancel: CancelToken | None, gap: float
    ) -> None:
        self._response = response
        self._deadline = deadline
        self._cancel = cancel
        self._gap = gap
        self.status = response.status_code
        self.headers: Mapping[str, str] = _lower(response.headers)
        if cancel is not None:
            cancel.hold(self._break_off)

    def pieces(self) -> Iterator[bytes]:
        return _raw_pieces(self._response, self._deadline, self._cancel)

    def lift_limit(self) -> None:
        self._deadline.lift()
        gap = self._gap
        if self._deadline.at is not None:
            gap = max(0.001, min(gap, self._deadline.at - time.monotonic()))
        # The socket has been given the time until the first piece as its limit. A connection that ends with this reply
        # has let go of it, and an adapter's own may have none: there that time stays the limit of a gap.
        with contextlib.suppress(AttributeError, OSError):
            connection: Any = self._response.raw.connection
            connection.sock.settimeout(gap)

    def close(self) -> None:
        if self._cancel is not None:
            self._cancel.release(self._break_off)
        self._response.close()

    def _break_off(self) -> None:
        # Since urllib3 2.3. What is older, or an adapter's own, ends with its next piece or its time limit.
        with contextlib.suppress(Exception):
            self._response.raw.shutdown()


def _raw_pieces(
    response: requests.Response, deadline: StreamDeadline, cancel: CancelToken | None = None
) -> Iterator[bytes]:
    """Yield the body as it arrives. `read1` hands on what is there; `iter_content` may wait to fill a piece."""
    raw = response.raw
    if isinstance(raw, urllib3.HTTPResponse) and hasattr(raw, "read1"):
        pieces = iter(lambda: raw.read1(RECEIVE_BYTES, decode_content=True) or b"", b"")
    else:
        pieces = response.iter_content(1)
    try:
        for piece in pieces:
            yield piece
            if deadline.at is not None and time.monotonic() >= deadline.at:
                raise TimeoutError
            if cancel is not None and cancel.aborted:
                raise ConnectionAbortedError
    except ValueError as error:  # what a TLS socket says that is shut down while it is read
        if cancel is not None and cancel.aborted:
            raise ConnectionAbortedError from error
        raise


T = TypeVar("T")


def within(deadline: float, cancel: CancelToken | None, work: Callable[[], T], too_late: Callable[[T], None]) -> T:
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
        result, error = None, TimeoutError()
    except BaseException:  # an interrupt from the keyboard
        given_up.set()
        raise
    finally:
        if cancel is not None:
            cancel.release(wake)
    if error is not None:
        given_up.set()
        with contextlib.suppress(queue.Empty):  # it may have come at the last moment, before it saw that it is too late
            late, _ = outcome.get_nowait()
            if late is not None:
                too_late(late)
        raise error
    return result  # type: ignore[return-value]


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in headers.items()}


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy that requests would choose for a URL, None if none."""
    return requests.utils.select_proxy(url, dict(proxies))


def check_settings(url: str, proxy: str | None, verify: Verify | None, cert: Cert | None) -> None:
    """Refuse what requests would turn into an error of its own kind for each request anew."""
    if proxy:
        try:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            place = place_of(url)
            raise ConfigError(_("the proxy for {place} has a wrong URL; check proxies= or HTTPS_PROXY", place=place))
    if url.startswith("https:"):
        certs = (cert,) if isinstance(cert, str) else cert or ()
        for name, path in (("verify", verify), *(("cert", path) for path in certs)):
            if path and not isinstance(path, bool) and not os.path.exists(path):
                raise ConfigError(
                    _("{name}={path!r} does not exist; REQUESTS_CA_BUNDLE may name it, too", name=name, path=path)
                )
