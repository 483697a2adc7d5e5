"""The paths of the Gemini dialect: the developer API's and Vertex AI's. Source: Google's API reference."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

_MODEL = r"(?P<model>[^/:]+)(?::(?P<action>\w+))?"
_PROJECT = r"projects/[^/]+/locations/[^/]+/"
_DEVELOPER = re.compile(rf"/(?P<version>v1|v1beta)/(?:models|(?:models|tunedModels)/{_MODEL})")
_VERTEX = re.compile(rf"/(?P<version>v1|v1beta1)/(?P<project>{_PROJECT})?publishers/google/models(?:/{_MODEL})?")
_ENDPOINT = re.compile(rf"/(?P<version>v1|v1beta1)/(?P<project>{_PROJECT})endpoints/{_MODEL}")  # of a tuned model


class Route(NamedTuple):
    """What a path asks for. `model` and `action` are "" where it has none."""

    is_vertex: bool
    version: str
    has_project: bool
    model: str
    action: str

    @property
    def surface(self) -> str:
        """Which of the request tables holds."""
        if self.is_vertex:
            return "vertex"
        return "developer" if self.version == "v1beta" else "developer_v1"


@lru_cache(maxsize=256)
def route_of(path: str) -> Route | None:
    """Return what a path asks for; None if it is not Google's."""
    path = unquote(path)
    match = _DEVELOPER.fullmatch(path)
    if match is not None:
        return Route(False, match["version"], False, match["model"] or "", match["action"] or "")
    match = _VERTEX.fullmatch(path) or _ENDPOINT.fullmatch(path)
    if match is None:
        return None
    return Route(True, match["version"], bool(match["project"]), match["model"] or "", match["action"] or "")
