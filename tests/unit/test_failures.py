"""Foreign network errors as ours: the reason is the system's, and the time that was over is named with its option."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable

import pytest
import requests
import urllib3
from foreign import speak_chinese
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from flexllm.errors import ConfigError, ConnectionFailed, RequestTimeout
from flexllm.http1 import BrokenReply, NothingReceived
from flexllm.transport import TransportOptions
from flexllm.transport.failures import late_stream, translate

URL = "http://user:secret@example.org:8000/v1/chat/completions"
PLACE = "http://example.org:8000"
OPTIONS = TransportOptions(timeout=30.0, connect_timeout=5.0)


def unreachable() -> OSError:
    return OSError(errno.ENETUNREACH, "Network is unreachable")


def wrapped(error: OSError) -> requests.ConnectionError:
    """As requests and urllib3 wrap what the system says when a connection cannot be made."""
    try:
        raise NewConnectionError(None, f"Failed to establish a new connection: {error}") from error  # type: ignore[arg-type]
    except NewConnectionError as new:
        try:
            raise urllib3.exceptions.MaxRetryError(None, URL, new) from new  # type: ignore[arg-type]
        except urllib3.exceptions.MaxRetryError as exhausted:
            return requests.ConnectionError(exhausted)


@pytest.mark.parametrize("wrap", [lambda error: error, wrapped], ids=["bare", "wrapped"])
def test_an_error_of_the_system_is_told_in_its_own_words_alone(wrap: Callable[[OSError], Exception]) -> None:
    ours = translate(wrap(unreachable()), URL, OPTIONS)
    assert type(ours) is ConnectionFailed
    assert str(ours) == f"the connection to {PLACE} failed: Network is unreachable"


def test_the_systems_words_are_translated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_chinese(monkeypatch)
    assert str(translate(unreachable(), URL, OPTIONS)) == f"字 字 字 {PLACE} 字: 字 字 字"


def test_an_error_that_is_not_the_systems_is_told_shortly_and_without_credentials() -> None:
    ours = translate(urllib3.exceptions.HTTPError(f"no way\nto {URL} " + "x" * 300), URL, OPTIONS)
    assert str(ours).startswith(f"the connection to {PLACE} failed: no way to http://...@example.org:8000/v1")
    assert "secret" not in str(ours)
    assert str(ours).endswith("x...")


@pytest.mark.parametrize(
    ("error", "limit", "begun", "said"),
    [
        (TimeoutError(), None, False, "did not complete its reply within 30 s; raise timeout if the model needs longer"),
        (TimeoutError(), 2.5, False, "did not complete its reply within 2.5 s; raise total_timeout if the model needs longer"),
        (TimeoutError(), None, True, "sent nothing more for 30 s; raise timeout if the model needs longer"),
        (
            ConnectTimeoutError(), None, False,
            "did not take the connection within 5 s; check the address and the network, or raise connect_timeout",
        ),
        (
            ConnectTimeoutError(), 1.0, False,
            "did not take the connection within 1 s; check the address and the network, or raise total_timeout",
        ),
    ],
)  # fmt: skip
def test_a_time_that_is_over_is_told_with_its_option(
    error: Exception, limit: float | None, begun: bool, said: str
) -> None:
    ours = translate(error, URL, OPTIONS, limit, begun=begun)
    assert isinstance(ours, RequestTimeout)
    assert str(ours) == f"{PLACE} {said}"
    assert ours.was_sent is (type(error) is TimeoutError)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NothingReceived(), f"{PLACE} closed the connection without a reply"),
        (ConnectionResetError(errno.ECONNRESET, "x"), f"{PLACE} closed the connection without a reply"),
        (BrokenReply("it is odd"), f"the reply of {PLACE} is broken: it is odd"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            f"nothing listens at {PLACE}; is the server running, is the port right?",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "x"),
            "the name 'example.org' cannot be found; check base_url and the network",
        ),
        (requests.exceptions.ProxyError("no"), f"the proxy on the way to {PLACE} failed (no); check it"),
        (
            ssl.SSLError(1, "[SSL] wrong version number"),
            f"the TLS connection to {PLACE} failed ([SSL] wrong version number); check that the port speaks TLS, and "
            "verify= or REQUESTS_CA_BUNDLE if a company's own CA is in use",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            f"no connection to {PLACE} could be opened: too many open files; lower concurrency_limit or raise the limit "
            "(ulimit -n)",
        ),
    ],
)
def test_a_connection_that_failed_says_why_and_what_to_do(error: Exception, said: str) -> None:
    ours = translate(error, URL, OPTIONS)
    assert isinstance(ours, ConnectionFailed)
    assert str(ours) == said


def test_a_stream_that_is_closed_was_not_complete() -> None:
    said = str(translate(NothingReceived(), URL, OPTIONS, begun=True))
    assert said == f"{PLACE} closed the connection before its stream was complete"


def test_a_wrong_url_is_the_callers_error() -> None:
    ours = translate(requests.exceptions.InvalidURL("no host"), URL, OPTIONS)
    assert isinstance(ours, ConfigError)
    assert str(ours) == f"{PLACE} cannot be asked: no host"


def test_a_late_stream_says_what_was_late() -> None:
    first, whole = late_stream(PLACE, 0.12345, 60.0), late_stream(PLACE, None, 60.0)
    assert [str(first), str(whole)] == [
        f"the stream of {PLACE} brought nothing within 0.123 s; raise total_timeout if the model needs longer",
        f"the stream of {PLACE} was not complete within 60 s; raise stream_timeout if the model needs longer",
    ]
    assert first.endpoint == whole.endpoint == PLACE
