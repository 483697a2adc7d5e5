"""Google credentials: found in a file, a mapping, the environment or the caller's hands. The only door to google-auth.

google-auth is imported when credentials are made, not before.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from ..errors import ConfigError
from ..language import _
from ..system_errors import reason_of

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The scope that Vertex AI asks for. Source: Google's Vertex AI reference."""

TOKEN_TIMEOUT = 30.0
"""Seconds for each request to the token server, which is small and usually answered within one; google-auth's own default
of 120 would hold up every thread."""

_SECRET_STARTS = ("{", "-----BEGIN", "ya29.", "AIza")  # the text of a key file, a private key, a token, an API key


class Foreign(Protocol):
    """What is used of google-auth's credentials. `expiry` is UTC without a zone; None means that it never comes."""

    token: str | bytes | None
    expiry: datetime | None

    def refresh(self, request: Any) -> None: ...


class Found(NamedTuple):
    """Credentials, and the project that they name; None if they name none."""

    credentials: Foreign
    project: str | None


def found_credentials(credentials: object) -> Found:
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
    scoped = google().auth.credentials.with_scopes_if_required(credentials, [SCOPE])
    return Found(scoped, project if isinstance(project, str) else None)


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
        reason = reason_of(error) if isinstance(error, OSError) else _("it is not a JSON file")
        raise ConfigError(
            _("the credentials file {place!r} cannot be read: {reason}", place=place, reason=reason)
        ) from error


def _from_content(content: object, place: str) -> Found:
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
    oauth2 = google().oauth2
    try:
        if kind == "service_account":
            identity = oauth2.service_account.Credentials.from_service_account_info(content, scopes=[SCOPE])
        else:
            identity = oauth2.credentials.Credentials.from_authorized_user_info(content)
        identity = identity.with_quota_project_from_environment()
    except Exception as error:  # google-auth and cryptography raise many kinds for what can stand in such a file
        raise ConfigError(_("{place} is not valid: {reason}", place=place, reason=short(error))) from error
    project = content.get("project_id")
    return Found(identity, project if isinstance(project, str) else None)


def default_credentials() -> Found:
    """Look for application-default credentials, which may take some seconds.

    Raises:
        ConfigError: There are none that can be used.
    """
    auth, request = google().auth, google_request()
    try:
        return Found(*auth.default(scopes=[SCOPE], request=request))
    except (auth.exceptions.TransportError, auth.exceptions.RefreshError):
        raise  # from workload identity, which asks for its project
    except Exception as error:  # of many kinds, for what can stand in a file
        raise ConfigError(
            _(
                "no Google credentials can be used ({reason}); run `gcloud auth application-default login`, set "
                "GOOGLE_APPLICATION_CREDENTIALS to a key file, or give credentials=",
                reason=short(error),
            )
        ) from error
    finally:
        request.session.close()


def google() -> Any:
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


def google_request() -> Any:
    """Return google-auth's own transport with our time limit. A new one each time: an hour lies between two of them."""
    request = google().auth.transport.requests.Request()
    timed: Any = functools.partial(request, timeout=TOKEN_TIMEOUT)
    timed.session = request.session  # which google-auth, and we, look for
    return timed


def short(error: BaseException) -> str:
    """Return an error's words, and those of what it holds, but not the server's reply that google-auth puts behind."""
    said = [str(one) for one in error.args[:2] if isinstance(one, (str, Exception))]
    text = " ".join((str(error) if isinstance(error, OSError) else ": ".join(said)).split())
    return (text if len(text) <= 300 else f"{text[:300]}...").rstrip(".") or type(error).__name__
