"""Foreign network errors, turned into ours: what happened, where, and what to do."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxySchemeUnsupported

from ..errors import ConfigError, ConnectionFailed, FlexLLMError, RequestTimeout, TlsFailed
from ..http1 import BrokenReply, NothingReceived
from ..language import _
from ..system_errors import reason_of
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
    failure = _Failure(error, url, options, limit, begun)
    return next(filter(None, (explain(failure) for explain in _EXPLANATIONS)), None) or _unknown(failure)


def late_stream(place: str, first: float | None, whole: float | None) -> RequestTimeout:
    """Return what it means that a stream took too long.

    Args:
        first: Seconds that it had for its first piece, if that is what did not come; None if it was not complete.
        whole: Seconds that it had for all of it.
    """
    if first is not None:
        reason = _(
            "the stream of {place} brought nothing within {seconds:g} s; raise total_timeout if the model needs longer",
            place=place, seconds=round(first, 3),
        )  # fmt: skip
    else:
        reason = _(
            "the stream of {place} was not complete within {seconds:g} s; raise stream_timeout if the model needs longer",
            place=place, seconds=whole or 0.0,
        )  # fmt: skip
    return RequestTimeout(reason, endpoint=place)


class _Failure:
    """A foreign error, and what is known of the request that it ended. The arguments are those of `translate`."""

    def __init__(self, error: Exception, url: str, options: TransportOptions, limit: float | None, begun: bool) -> None:
        self.error, self.url, self.options, self.limit, self.begun = error, url, options, limit, begun
        self.place = place_of(url)
        self.causes = list(_causes(error))

    def cause(self, *kinds: type[BaseException]) -> BaseException | None:
        """Return the first of the error and what it wraps that is of one of these kinds."""
        return next((cause for cause in self.causes if isinstance(cause, kinds)), None)

    def time_over(self, seconds: float, option: str) -> tuple[str, str]:
        """Return for people which time was over, and by which option it is made longer."""
        if self.limit is not None and self.limit < seconds:
            seconds, option = self.limit, "total_timeout"
        return f"{round(seconds, 3):g}", option


def _certificate(failure: _Failure) -> FlexLLMError | None:
    certificate, place = failure.cause(ssl.SSLCertVerificationError), failure.place
    if certificate is None:
        return None
    reason = _(
        "the certificate of {place} was not accepted ({reason}); if a company's own CA signed it, give its bundle as "
        "verify='/path/to/ca.pem' or in REQUESTS_CA_BUNDLE",
        place=place, reason=certificate,
    )  # fmt: skip
    return TlsFailed(reason, endpoint=place)


def _settings(failure: _Failure) -> FlexLLMError | None:
    error, place = failure.error, failure.place
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        reason = _short(error)
        return ConfigError(
            _(
                "the proxy for {place} has a wrong URL ({reason}); check proxies= or HTTPS_PROXY",
                place=place,
                reason=reason,
            )
        )
    if isinstance(error, requests.exceptions.InvalidHeader):  # its text repeats the header, which may be a key
        return ConfigError(
            _("{place} cannot be asked: a header of the session holds a character that it must not", place=place)
        )
    if isinstance(error, ValueError):  # requests' families of wrong URLs
        return ConfigError(_("{place} cannot be asked: {reason}", place=place, reason=_short(error)))
    return None


def _timeout(failure: _Failure) -> FlexLLMError | None:
    place, options = failure.place, failure.options
    if failure.cause(requests.exceptions.ConnectTimeout, ConnectTimeoutError):
        seconds, option = failure.time_over(options.connect_timeout, "connect_timeout")
        reason = _(
            "{place} did not take the connection within {seconds} s; check the address and the network, or raise {option}",
            place=place, seconds=seconds, option=option,
        )  # fmt: skip
        return RequestTimeout(reason, endpoint=place)
    if not failure.cause(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return None
    seconds, option = failure.time_over(options.timeout, "timeout")
    if failure.begun:
        reason = _(
            "{place} sent nothing more for {seconds} s; raise {option} if the model needs longer",
            place=place, seconds=seconds, option=option,
        )  # fmt: skip
    else:
        reason = _(
            "{place} did not complete its reply within {seconds} s; raise {option} if the model needs longer",
            place=place, seconds=seconds, option=option,
        )  # fmt: skip
    return _sent(RequestTimeout(reason, endpoint=place))


def _tls(failure: _Failure) -> FlexLLMError | None:
    error, place = failure.cause(ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError), failure.place
    if error is None:
        return None
    reason = _(
        "the TLS connection to {place} failed ({reason}); check that the port speaks TLS, and verify= or "
        "REQUESTS_CA_BUNDLE if a company's own CA is in use",
        place=place, reason=_short(error),
    )  # fmt: skip
    return ConnectionFailed(reason, endpoint=place)


def _way(failure: _Failure) -> FlexLLMError | None:
    """Say that the server was not reached."""
    place = failure.place
    if failure.cause(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        reason = _(
            "the proxy on the way to {place} failed ({reason}); check it", place=place, reason=_short(failure.error)
        )
    elif failure.cause(socket.gaierror):
        host = urlsplit(failure.url).hostname
        reason = _("the name {host!r} cannot be found; check base_url and the network", host=host)
    elif failure.cause(ConnectionRefusedError):
        reason = _("nothing listens at {place}; is the server running, is the port right?", place=place)
    else:
        return None
    return ConnectionFailed(reason, endpoint=place)


def _reply(failure: _Failure) -> FlexLLMError | None:
    """Say that the reply did not come, or is none."""
    place = failure.place
    if broken := failure.cause(BrokenReply):
        reason = _("the reply of {place} is broken: {reason}", place=place, reason=broken)
        return _sent(ConnectionFailed(reason, endpoint=place))
    if not failure.cause(NothingReceived, ConnectionResetError, BrokenPipeError):
        return None
    if failure.begun:
        reason = _("{place} closed the connection before its stream was complete", place=place)
    else:
        reason = _("{place} closed the connection without a reply", place=place)
    return ConnectionFailed(reason, endpoint=place)


def _files(failure: _Failure) -> FlexLLMError | None:
    if not any(isinstance(cause, OSError) and cause.errno in _OUT_OF_FILES for cause in failure.causes):
        return None
    reason = _(
        "no connection to {place} could be opened: too many open files; lower concurrency_limit or raise the limit "
        "(ulimit -n)",
        place=failure.place,
    )
    return ConnectionFailed(reason, endpoint=failure.place)


def _unknown(failure: _Failure) -> FlexLLMError:
    of_system = (cause for cause in failure.causes if isinstance(cause, OSError) and cause.strerror)
    system = next(of_system, None)
    why = reason_of(system) if system is not None else _short(failure.error)
    reason = _("the connection to {place} failed: {reason}", place=failure.place, reason=why)
    return ConnectionFailed(reason, endpoint=failure.place)


_EXPLANATIONS: tuple[Callable[[_Failure], FlexLLMError | None], ...] = (
    _certificate,
    _settings,
    _timeout,
    _tls,
    _way,
    _reply,
    _files,
)
"""In this order: an error that wraps others may fit several, and the first tells most."""

_OUT_OF_FILES = (errno.ENFILE, errno.EMFILE)


def _sent(error: ConnectionFailed) -> ConnectionFailed:
    error.was_sent = True
    return error


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
