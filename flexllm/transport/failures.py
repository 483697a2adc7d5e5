"""Foreign network errors, turned into ours: what happened, where, and what to do."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxySchemeUnsupported

from ..errors import ConfigError, ConnectionFailed, FlexLLMError, RequestTimeout, TlsFailed
from ..http1 import BrokenReply, NothingReceived
from ..language import _
from .options import TransportOptions, place_of

FOREIGN = (OSError, HTTPError, requests.RequestException, ProxySchemeUnsupported, NothingReceived, BrokenReply)
"""OSError holds TimeoutError, ConnectionError and ssl.SSLError."""


def translate(
    error: Exception, url: str, options: TransportOptions, limit: float | None = None, *, begun: bool = False
) -> FlexLLMError:
    """Return a foreign network error as one of ours: what happened, where, and what to do.

    Args:
        limit: Seconds that were allowed, where they were less than the `timeout`: what was left of the row's time.
        begun: It came in the middle of a stream, whose `timeout` is for each gap.
    """
    place = place_of(url)
    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if certificate := caused_by(ssl.SSLCertVerificationError):
        return TlsFailed(
            _(
                "the certificate of {place} was not accepted ({certificate}); if a company's own CA signed it, give its "
                "bundle as verify='/path/to/ca.pem' or in REQUESTS_CA_BUNDLE",
                place=place,
                certificate=certificate,
            ),
            endpoint=place,
        )
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return ConfigError(
            _(
                "the proxy for {place} has a wrong URL ({short}); check proxies= or HTTPS_PROXY",
                place=place,
                short=_short(error),
            )
        )
    if isinstance(error, requests.exceptions.InvalidHeader):  # its text repeats the header, which may be a key
        return ConfigError(
            _("{place} cannot be asked: a header of the session holds a character that it must not", place=place)
        )
    if isinstance(error, ValueError):  # requests' families of wrong URLs
        return ConfigError(_("{place} cannot be asked: {short}", place=place, short=_short(error)))
    if caused_by(requests.exceptions.ConnectTimeout, ConnectTimeoutError):
        seconds, option = _shorter(options.connect_timeout, "connect_timeout", limit)
        return RequestTimeout(
            _(
                "{place} did not take the connection within {seconds} s; check the address and the network, or raise "
                "{option}",
                place=place,
                seconds=seconds,
                option=option,
            ),
            endpoint=place,
        )
    if caused_by(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        happened = _("sent nothing more for") if begun else _("did not complete its reply within")
        seconds, option = _shorter(options.timeout, "timeout", limit)
        return _sent(
            RequestTimeout(
                _(
                    "{place} {happened} {seconds} s; raise {option} if the model needs longer",
                    place=place,
                    happened=happened,
                    seconds=seconds,
                    option=option,
                ),
                endpoint=place,
            )
        )
    if tls := caused_by(ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        return ConnectionFailed(
            _(
                "the TLS connection to {place} failed ({short}); check that the port speaks TLS, and verify= or "
                "REQUESTS_CA_BUNDLE if a company's own CA is in use",
                place=place,
                short=_short(tls),
            ),
            endpoint=place,
        )
    if caused_by(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return ConnectionFailed(
            _("the proxy on the way to {place} failed ({short}); check it", place=place, short=_short(error)),
            endpoint=place,
        )
    if caused_by(socket.gaierror):
        host = urlsplit(url).hostname
        return ConnectionFailed(
            _("the name {host!r} cannot be found; check base_url and the network", host=host), endpoint=place
        )
    if caused_by(ConnectionRefusedError):
        return ConnectionFailed(
            _("nothing listens at {place}; is the server running, is the port right?", place=place), endpoint=place
        )
    if broken := caused_by(BrokenReply):
        return _sent(
            ConnectionFailed(_("the reply of {place} is broken: {broken}", place=place, broken=broken), endpoint=place)
        )
    if caused_by(NothingReceived, ConnectionResetError, BrokenPipeError):
        when = _("before its stream was complete") if begun else _("without a reply")
        return ConnectionFailed(_("{place} closed the connection {when}", place=place, when=when), endpoint=place)
    if any(isinstance(cause, OSError) and cause.errno in _OUT_OF_FILES for cause in causes):
        return ConnectionFailed(
            _(
                "no connection to {place} could be opened: too many open files; lower concurrency_limit or raise "
                "the limit (ulimit -n)",
                place=place,
            ),
            endpoint=place,
        )
    return ConnectionFailed(
        _("the connection to {place} failed: {short}", place=place, short=_short(error)), endpoint=place
    )


def _sent(error: ConnectionFailed) -> ConnectionFailed:
    error.was_sent = True
    return error


def _shorter(seconds: float, option: str, limit: float | None) -> tuple[str, str]:
    """Return for people which time was over, and by which option it is made longer."""
    if limit is not None and limit < seconds:
        seconds, option = limit, "total_timeout"
    return f"{round(seconds, 3):g}", option


_OUT_OF_FILES = (23, 24)  # ENFILE, EMFILE


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it wraps: requests and urllib3 hide causes in `args` and `reason` too.

    Not `__context__`: that may be an error which the caller was handling when it called. And not NewConnectionError,
    which wraps every failure to connect and calls itself a timeout.
    """
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            if not isinstance(one, NewConnectionError):
                yield one
            waiting += [one.__cause__, getattr(one, "reason", None), *one.args]


def _short(error: BaseException) -> str:
    text = re.sub(r"//[^/@\s]*@", "//...@", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
