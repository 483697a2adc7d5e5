"""Access tokens from Google credentials, one renewal at a time for all threads."""

from __future__ import annotations

import logging
import math
import os
import re
import ssl
import threading
import time
from collections.abc import Callable
from datetime import timezone
from typing import NamedTuple, NoReturn

from ..errors import AuthenticationFailed, ConfigError, ConnectionFailed, RequestError, TlsFailed
from ..fork import forget_in_child
from ..language import _
from ..wire import Headers
from .google import Foreign, Found, default_credentials, found_credentials, google, google_request, short

log = logging.getLogger(__name__)

REFRESH_MARGIN = 300.0
"""Seconds before its end at which a token (it lives about an hour) is renewed. Google's metadata server gives out the old
one until five minutes before its end, so asking earlier is in vain; asking later leaves less time for a second try."""

RENEW_PAUSE = 60.0
"""Seconds after a failed early renewal until the next: four more tries within the margin, and one line in the log each."""

_TOKEN = re.compile(r"[\x21-\x7e]+")


def google_credentials(
    credentials: object | None, *, project_id: str | None, clock: Callable[[], float] = time.time
) -> GoogleCredentials:
    """Return what makes the headers of requests to Vertex AI. Asks nothing over the network yet.

    Args:
        credentials: None for application-default credentials, which are looked for when they are first needed; a
            google-auth credentials object; or the path or the content (a mapping) of a JSON file of type
            "service_account" or "authorized_user".
        project_id: The project if it is given; None or "" leaves it to the credentials.
        clock: Unix time in seconds.

    Raises:
        ConfigError: google-auth is not installed, or the credentials cannot be used.
    """
    if project_id is not None and not isinstance(project_id, str):
        raise ConfigError(_("project_id={project_id!r} must be a text or None", project_id=project_id))
    google()
    found = None if credentials is None else found_credentials(credentials)
    return GoogleCredentials(found, project_id=project_id, clock=clock)


class _Token(NamedTuple):
    """Ready headers, and until when (Unix time) they are good without a thought, and good at all."""

    headers: Headers
    renew_at: float
    expires_at: float


class _Renewal:
    """A renewal under way. `done` is set last; neither headers nor an error then means that it was interrupted."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.headers: Headers | None = None
        self.error: Exception | None = None


class GoogleCredentials:
    """Gives the headers that identify the caller to Vertex AI, with a token that is good. May be shared by threads.

    Made by `google_credentials`. A token is renewed by one thread at a time, `REFRESH_MARGIN` before its end; the others
    go on with the old one as long as it is good, and wait for that one renewal if it is not.
    """

    def __init__(self, found: Found | None, *, project_id: str | None, clock: Callable[[], float]) -> None:
        self._found = found
        self._project_id = project_id
        self._clock = clock
        self._token: _Token | None = None
        self._renewal: _Renewal | None = None
        self._lock = threading.Lock()
        forget_in_child(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._renewal = None  # its thread is not here

    def __repr__(self) -> str:
        kind = "application default" if self._found is None else type(self._found.credentials).__name__
        return f"GoogleCredentials({kind}, project_id={self._project_id!r})"

    @property
    def project(self) -> str:
        """The project that is asked: the given one, or that of the credentials, or that of GOOGLE_CLOUD_PROJECT.

        Application-default credentials let the environment go before, as they do everywhere at Google; where it is
        silent they may have to be looked for, which can take some seconds.
        """
        named = os.environ.get("GOOGLE_CLOUD_PROJECT")
        if self._project_id:
            return self._project_id
        if self._found is None and named:
            return named
        try:
            project = self._identity().project or named
        except Exception as error:  # some kinds of credentials ask the network for it, and anything may come of that
            _fail(error)
        if not project:
            raise ConfigError(
                _(
                    "Vertex AI must be told whose project pays: give project_id=, or set GOOGLE_CLOUD_PROJECT; these "
                    "credentials name none"
                )
            )
        return project

    def headers(self) -> Headers:
        """Return `Authorization`, and `x-goog-user-project` where the credentials have a quota project.

        Raises:
            ConfigError: No application-default credentials are found.
            ConnectionFailed: The token server cannot be reached, or asks to be tried again.
            AuthenticationFailed: It refuses the credentials.
        """
        token = self._token
        if token is not None and self._clock() < token.renew_at:
            return token.headers
        return self._renewed()

    def _renewed(self) -> Headers:
        mine = _Renewal()
        try:
            while True:
                with self._lock:
                    token, now = self._token, self._clock()
                    if token is not None and now < token.renew_at:
                        return token.headers
                    renewal = self._renewal = self._renewal or mine
                if renewal is mine:
                    return self._renew(mine, token)
                if token is not None and now < token.expires_at:
                    return token.headers
                renewal.done.wait()
                if renewal.headers is not None:
                    return renewal.headers
                if renewal.error is not None:
                    _fail(renewal.error)
        finally:  # also where Ctrl-C comes in between: nobody may wait for a renewal that nobody makes
            with self._lock:
                if self._renewal is mine:
                    self._renewal = None
            mine.done.set()

    def _renew(self, renewal: _Renewal, old: _Token | None) -> Headers:
        try:
            self._token = token = self._ask()
            renewal.headers = token.headers
        except Exception as error:  # credentials may be of the caller's own making, and waiting threads must be told
            now = self._clock()
            if old is None or now >= old.expires_at:
                renewal.error = error
                _fail(error)
            self._token = old._replace(renew_at=min(now + RENEW_PAUSE, old.expires_at))
            renewal.headers = old.headers
            log.warning(
                "the access token for Vertex AI could not be renewed (%s); it is good for another %.0f s, and the next "
                "try comes within %.0f s",
                short(error),
                old.expires_at - now,
                RENEW_PAUSE,
            )
        return renewal.headers

    def _ask(self) -> _Token:
        """Return a token: the one that the credentials hold if it is fresh (its owner may use them too), or a new one."""
        credentials = self._identity().credentials
        expires_at = _expires_at(credentials)
        if not credentials.token or expires_at - REFRESH_MARGIN <= self._clock():
            request = google_request()
            try:
                credentials.refresh(request)
            finally:
                request.session.close()
            expires_at = _expires_at(credentials)
        now = self._clock()
        # Half of what is left, where that is little: a server may give the same token again, or short-lived ones.
        renew_at = max(expires_at - REFRESH_MARGIN, now + (expires_at - now) / 2)
        return _Token(_headers(credentials), renew_at, expires_at)

    def _identity(self) -> Found:
        # Without a lock: to find the same credentials twice does no harm, to look for them may take seconds.
        found = self._found
        if found is None:
            found = self._found = default_credentials()
        return found


def _expires_at(credentials: Foreign) -> float:
    expiry = credentials.expiry
    if expiry is None:
        return math.inf
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=timezone.utc)).timestamp()


def _headers(credentials: Foreign) -> Headers:
    token = credentials.token
    text = token.decode("ascii", "replace") if isinstance(token, bytes) else token
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise ValueError(_("it gave no token that a header can carry"))
    headers = (("Authorization", f"Bearer {text}"),)
    quota_project = getattr(credentials, "quota_project_id", None)
    return (*headers, ("x-goog-user-project", quota_project)) if isinstance(quota_project, str) else headers


def _fail(error: Exception) -> NoReturn:
    """Raise one of our errors for a foreign one. Each thread gets its own: whoever catches an error may write on it."""
    raise ConfigError(str(error)) if isinstance(error, ConfigError) else _as_request_error(error) from error


def _as_request_error(error: Exception) -> RequestError:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    if certificate := next((one for one in causes if isinstance(one, ssl.SSLCertVerificationError)), None):
        return TlsFailed(
            _(
                "the certificate of Google's token server was not accepted ({certificate}); if a company's own CA signed "
                "it, name its bundle in REQUESTS_CA_BUNDLE",
                certificate=certificate,
            )
        )
    unreached = isinstance(error, (google().auth.exceptions.TransportError, ConnectionError, TimeoutError))
    if unreached or getattr(error, "retryable", False) is True:
        return ConnectionFailed(
            _("Google's token server gave no access token for Vertex AI: {reason}", reason=short(error))
        )
    return AuthenticationFailed(
        _(
            "Google gives no access token for these credentials ({reason}); run `gcloud auth application-default "
            "login` again, or check the service account's key and this machine's clock",
            reason=short(error),
        )
    )
