"""The base URLs of Vertex AI. Source: Google's Vertex AI reference."""

from __future__ import annotations

import re

from ..errors import ConfigError
from ..language import _

MULTI_REGIONS = ("us", "eu")

_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")  # an id, a number, or "example.com:id"
_LOCATION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?")  # it begins a host's name, of at most 63 letters
_VERSION = re.compile(r"v[0-9][a-z0-9]*")


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
    _check("version", version, _VERSION, _("'v1' or 'v1beta1'"))
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
