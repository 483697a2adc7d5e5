"""Downloads of media that messages name: bounded in bytes and in time, over connections that are guarded.

No keys, cookies of earlier downloads, client certificates or client headers are sent.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

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
from .guard import Guard, GuardedAdapter, shown_url
from .options import RECEIVE_BYTES, TransportOptions
from .session import check_settings, proxy_for, within

MAX_REDIRECTS = 5

_HEADERS = {"User-Agent": "flexllm", "Accept": "*/*", "Accept-Encoding": "identity"}

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_RETRYABLE = frozenset({408, 425, 429})
"""And every 5xx: the same URL may be readable later."""


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
    guard = Guard(allow_private)
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


class _Work:
    """One download, on a thread of its own."""

    def __init__(self, url: str, max_bytes: int, deadline: float, options: TransportOptions, guard: Guard) -> None:
        self.url = url
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._options = options
        self._guard = guard

    def run(self) -> tuple[bytes, str]:
        """Follow the redirects, and return body and Content-Type."""
        with requests.Session() as session:
            session.headers.clear()
            adapter = GuardedAdapter(self._guard)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            for _hop in range(MAX_REDIRECTS + 1):
                with self._ask(session) as response:
                    place = session.get_redirect_target(response) if response.status_code in _REDIRECTS else None
                    if place is None:
                        return self._body(response), response.headers.get("Content-Type", "")
                    self.url = _joined(self.url, place)
        reason = _(
            "{url} is redirected again, after {count} redirects; give the last URL",
            url=shown_url(self.url), count=MAX_REDIRECTS,
        )  # fmt: skip
        raise InputError(reason)

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
        status, url, most = response.status_code, shown_url(self.url), self._max_bytes
        if status in _RETRYABLE or status >= 500:
            reason = _("{url} could not be downloaded: its server answered {status}", url=url, status=status)
            raise ConnectionFailed(reason, attempts=0)
        if not 200 <= status < 300:
            raise InputError(_("{url} cannot be downloaded: its server answered {status}", url=url, status=status))
        size = response.headers.get("Content-Length", "")
        if size.isdecimal() and int(size) > most:
            raise InputError(
                _("{name} has {size} bytes, more than max_bytes={max_bytes}", name=url, size=size, max_bytes=most)
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
            url = shown_url(self.url)
            raise InputError(
                _("{url} is sent in the coding {coding!r}, which was not asked for", url=url, coding=coding[:40])
            )
        try:
            plain = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, self._max_bytes + 1)
        except zlib.error as error:
            reason = _("{url} came with a broken body: {error}", url=shown_url(self.url), error=error)
            raise ConnectionFailed(reason, attempts=0) from error
        if len(plain) > self._max_bytes:
            self._complain_of_size()
        return plain

    def _complain_of_size(self) -> None:
        url = shown_url(self.url)
        raise InputError(_("{place} has more bytes than max_bytes={max_bytes}", place=url, max_bytes=self._max_bytes))


def _joined(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        reason = _("{url} cannot be downloaded: its server redirects to what is no URL", url=shown_url(url))
        raise InputError(reason) from error


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        shown = shown_url(url)
        raise InputError(_("{url} is no URL that can be downloaded: http or https and a host are needed", url=shown))


def _translated(error: Exception, url: str, timeout: float, options: TransportOptions) -> FlexLLMError:
    ours = translate(error, url, options)
    if isinstance(ours, RequestTimeout):
        reason = _(
            "{url} was not downloaded within {seconds:g} s; raise download_timeout", url=shown_url(url), seconds=timeout
        )
        return RequestTimeout(reason, attempts=0)
    if isinstance(error, ValueError) and isinstance(ours, ConfigError) and not _is_of_proxy(error):
        return InputError(_("{url} is no URL that can be downloaded", url=shown_url(url)))
    ours.args = (_("{url} could not be downloaded: {error}", url=shown_url(url), error=ours),)
    if isinstance(ours, RequestError):
        ours.endpoint, ours.attempts = None, 0
    return ours


def _is_of_proxy(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.InvalidProxyURL)
