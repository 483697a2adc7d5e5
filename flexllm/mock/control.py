"""What is asked of a running mock server about itself, over HTTP: its counts, and changes of what it does.

Neither counted nor kept among the requests, and never refused for its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import openai
from .ledger import Ledger
from .replies import ReceivedRequest, Reply, Script, dump_json, parse_json
from .scripts import script_of_json

PREFIX = "/mock/"


class Controlled(Protocol):
    """What can be asked of a server. What is wrong is a `ValueError` with one sentence."""

    ledger: Ledger

    def reset(self) -> None:
        """Forget the counts, and begin the seeded sequences again."""

    def set_script(self, script: Script | None) -> None:
        """Begin a script in the place of the one there is."""

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change options."""


def report(server: Controlled, request: ReceivedRequest) -> Reply:
    """Return the answer to a request for a path that begins with `PREFIX`: JSON, or an error body."""
    method, do = _REPORTS.get(request.path, ("", _counts))
    if request.method != method:
        known = ", ".join(f"{method} {path}" for path, (method, _) in _REPORTS.items())
        return openai.failure(405 if method else 404, f"There are only {known}.")
    try:
        return do(server, request)
    except ValueError as error:
        return openai.failure(400, str(error))


def _counts(server: Controlled, request: ReceivedRequest) -> Reply:
    return Reply(body=dump_json(server.ledger.stats()))


def _reset(server: Controlled, request: ReceivedRequest) -> Reply:
    server.reset()
    return Reply(body=b"{}")


def _script(server: Controlled, request: ReceivedRequest) -> Reply:
    server.set_script(script_of_json(_json(request)))
    return Reply(body=b"{}")


def _options(server: Controlled, request: ReceivedRequest) -> Reply:
    changes = _json(request)
    if not isinstance(changes, dict):
        raise ValueError("the options are not an object of names and values")
    server.change(changes)
    return Reply(body=b"{}")


def _json(request: ReceivedRequest) -> object:
    value = parse_json(request.body)
    if value is None:
        raise ValueError(f"the body of POST {request.path} is not JSON")
    return value


_REPORTS: dict[str, tuple[str, Callable[[Controlled, ReceivedRequest], Reply]]] = {
    "/mock/requests": ("GET", _counts),
    "/mock/reset": ("POST", _reset),
    "/mock/script": ("POST", _script),
    "/mock/options": ("POST", _options),
}
