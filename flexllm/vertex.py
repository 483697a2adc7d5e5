"""Vertex AI's own needs: its base URLs, and access tokens from Google credentials, one renewal at a time for all threads.

The only door to google-auth, which is imported when credentials are made. What is sent with a token is `wire.py`'s and
the provider's matter.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, NoReturn, Protocol

from .errors import AuthenticationFailed, ConfigError, ConnectionFailed, RequestError, TlsFailed
from .fork import forget_in_child
from .language import _
from .wire import Headers

log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The scope that Vertex AI asks for. Source: Google's Vertex AI reference."""

REFRESH_MARGIN = 300.0
"""Seconds before its end at which a token (it lives about an hour) is renewed. Google's metadata server gives out the old
one until five minutes before its end, so asking earlier is in vain; asking later leaves less time for a second try."""

RENEW_PAUSE = 60.0
"""Seconds after a failed early renewal until the next: four more tries within the margin, and one line in the log each."""

TOKEN_TIMEOUT = 30.0
"""Seconds for each request to the token server, which is small and usually answered within one; google-auth's own default
of 120 would hold up every thread."""

MULTI_REGIONS = ("us", "eu")

_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")  # an id, a number, or "example.com:id"
_LOCATION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")  # it begins a host's name, of at most 63 letters
_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SECRET_STARTS = ("{", "-----BEGIN", "ya29.", "AIza")  # the text of a key file, a private key, a token, an API key


def vertex_base_url(project: str | None, location: str, version: str = "v1") -> str:
    """Return the base URL of Google's models on Vertex AI, to which `/models/...` is added.

    Args:
        project: Id or number; None is express mode, which goes by an API key and has no location.
        location: A region such as "us-central1", a multi-region ("us", "eu"), or "global".
        version: "v1" or "v1beta1".

    Raises:
        ConfigError: One of them cannot stand in a URL.

    Source: Google's Vertex AI reference.
    """
    _check("version", version, _VERSION, "'v1' or 'v1beta1'")
    if project is None:
        return f"https://aiplatform.googleapis.com/{version}/publishers/google"
    _check("project_id", project, _PROJECT, _("a project's id or number, such as 'my-project-123'"))
    _check("location", location, _LOCATION, _("a region such as 'us-central1', or 'us', 'eu' or 'global'"))
    if location == "global":
        host = "aiplatform.googleapis.com"
    elif location in MULTI_REGIONS:
        host = f"aiplatform.{location}.rep.googleapis.com"
    else:
        host = f"{location}-aiplatform.googleapis.com"
    return f"https://{host}/{version}/projects/{project}/locations/{location}/publishers/google"


def _check(name: str, value: object, allowed: re.Pattern[str], description: str) -> None:
    if not isinstance(value, str) or not allowed.fullmatch(value):
        raise ConfigError(_("{name}={value!r} must be {description}", name=name, value=value, description=description))


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
    _google()
    found = None if credentials is None else _found(credentials)
    return GoogleCredentials(found, project_id=project_id, clock=clock)


class _Foreign(Protocol):
    """What is used of google-auth's credentials. `expiry` is UTC without a zone; None means that it never comes."""

    token: str | bytes | None
    expiry: datetime | None

    def refresh(self, request: Any) -> None: ...


class _Found(NamedTuple):
    credentials: _Foreign
    project: str | None


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

    def __init__(self, found: _Found | None, *, project_id: str | None, clock: Callable[[], float]) -> None:
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
        kind = _("application default") if self._found is None else type(self._found.credentials).__name__
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
                _short(error),
                old.expires_at - now,
                RENEW_PAUSE,
            )
        return renewal.headers

    def _ask(self) -> _Token:
        """Return a token: the one that the credentials hold if it is fresh (its owner may use them too), or a new one."""
        credentials = self._identity().credentials
        expires_at = _expires_at(credentials)
        if not credentials.token or expires_at - REFRESH_MARGIN <= self._clock():
            request = _google_request()
            try:
                credentials.refresh(request)
            finally:
                request.session.close()
            expires_at = _expires_at(credentials)
        now = self._clock()
        # Half of what is left, where that is little: a server may give the same token again, or short-lived ones.
        renew_at = max(expires_at - REFRESH_MARGIN, now + (expires_at - now) / 2)
        return _Token(_headers(credentials), renew_at, expires_at)

    def _identity(self) -> _Found:
        # Without a lock: to find the same credentials twice does no harm, to look for them may take seconds.
        found = self._found
        if found is None:
            found = self._found = _default_credentials()
        return found


def _found(credentials: object) -> _Found:
    """Return given credentials as google-auth's, with the scope they need and the project they name."""
    if isinstance(credentials, (str, os.PathLike)):
        return _from_content(*_read(credentials))
    if isinstance(credentials, Mapping):
        return _from_content(dict(credentials), "credentials")
    if isinstance(credentials, type) or not callable(getattr(credentials, "refresh", None)):
        raise ConfigError(
            _(
                "credentials= must be a google-auth credentials object, a path, a mapping or None, not a value of type "
                "{kind}",
                kind=type(credentials).__name__,
            )
        )
    project = getattr(credentials, "project_id", None)
    scoped = _google().auth.credentials.with_scopes_if_required(credentials, [SCOPE])
    return _Found(scoped, project if isinstance(project, str) else None)


def _read(path: str | os.PathLike[Any]) -> tuple[object, str]:
    """Return the content of a credentials file, and how messages call it."""
    place = os.fsdecode(path)
    if place.lstrip().startswith(_SECRET_STARTS):
        raise ConfigError(
            _(
                "credentials= holds a secret where a path is expected; give a key file's path, or its content as a mapping"
            )
        )
    try:
        with open(os.path.expanduser(place), encoding="utf-8-sig") as file:
            return json.load(file), _("the credentials file {place!r}", place=place)
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError, as is what is no JSON or no UTF-8
        reason = error.strerror if isinstance(error, OSError) else _("it is not a JSON file")
        raise ConfigError(
            _("the credentials file {place!r} cannot be read: {reason}", place=place, reason=reason)
        ) from error


def _from_content(content: object, place: str) -> _Found:
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(content, dict) or kind not in ("service_account", "authorized_user"):
        # Other kinds may name programs to run and hosts to ask: google-auth warns of taking them from anywhere.
        raise ConfigError(
            _(
                "{place} must be a JSON object of type 'service_account' or 'authorized_user', not {kind!r}; for other "
                "types set GOOGLE_APPLICATION_CREDENTIALS and leave credentials= out",
                place=place,
                kind=kind,
            )
        )
    oauth2 = _google().oauth2
    try:
        if kind == "service_account":
            identity = oauth2.service_account.Credentials.from_service_account_info(content, scopes=[SCOPE])
        else:
            identity = oauth2.credentials.Credentials.from_authorized_user_info(content)
        identity = identity.with_quota_project_from_environment()
    except Exception as error:  # google-auth and cryptography raise many kinds for what can stand in such a file
        raise ConfigError(_("{place} is not valid: {short}", place=place, short=_short(error))) from error
    project = content.get("project_id")
    return _Found(identity, project if isinstance(project, str) else None)


def _default_credentials() -> _Found:
    auth, request = _google().auth, _google_request()
    try:
        return _Found(*auth.default(scopes=[SCOPE], request=request))
    except (auth.exceptions.TransportError, auth.exceptions.RefreshError):
        raise  # from workload identity, which asks for its project
    except Exception as error:  # of many kinds, for what can stand in a file
        raise ConfigError(
            _(
                "no Google credentials can be used ({short}); run `gcloud auth application-default login`, set "
                "GOOGLE_APPLICATION_CREDENTIALS to a key file, or give credentials=",
                short=_short(error),
            )
        ) from error
    finally:
        request.session.close()


def _google() -> Any:
    """Return google-auth's package, with the modules that are used here. Any: most of them are not typed."""
    try:
        import google.auth.credentials
        import google.auth.exceptions
        import google.auth.transport.requests
        import google.oauth2.credentials
        import google.oauth2.service_account
    except ImportError as error:
        raise ConfigError(
            _(
                'Vertex AI needs the package google-auth ({error}); run: pip install "flexllm[vertex]", or give api_key= '
                "alone for express mode",
                error=error,
            )
        ) from error
    return google


def _google_request() -> Any:
    """Return google-auth's own transport with our time limit. A new one each time: an hour lies between two of them."""
    request = _google().auth.transport.requests.Request()
    timed: Any = functools.partial(request, timeout=TOKEN_TIMEOUT)
    timed.session = request.session  # which google-auth, and we, look for
    return timed


def _expires_at(credentials: _Foreign) -> float:
    expiry = credentials.expiry
    if expiry is None:
        return math.inf
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=timezone.utc)).timestamp()


def _headers(credentials: _Foreign) -> Headers:
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
    unreached = isinstance(error, (_google().auth.exceptions.TransportError, ConnectionError, TimeoutError))
    if unreached or getattr(error, "retryable", False) is True:
        return ConnectionFailed(
            _("Google's token server gave no access token for Vertex AI: {short}", short=_short(error))
        )
    return AuthenticationFailed(
        _(
            "Google gives no access token for these credentials ({short}); run `gcloud auth application-default "
            "login` again, or check the service account's key and this machine's clock",
            short=_short(error),
        )
    )


def _short(error: BaseException) -> str:
    """Return an error's words, and those of what it holds, but not the server's reply that google-auth puts behind."""
    said = [str(one) for one in error.args[:2] if isinstance(one, (str, Exception))]
    text = " ".join((str(error) if isinstance(error, OSError) else ": ".join(said)).split())
    return (text if len(text) <= 300 else f"{text[:300]}...").rstrip(".") or type(error).__name__
