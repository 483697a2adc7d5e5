"""Errors as fields of JSON, and back: how an output line keeps them, and how a program is told of them."""

from __future__ import annotations

from .errors import AllEndpointsFailed, ApiStatusError, FlexLLMError, RejectedReply, RequestError

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def error_fields(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON-able fields, as an output row stores it.

    Returns:
        `class` (the error's class name) and `message`; for a failed request also `attempts` and, where known,
        `status_code`, `code`, `request_id` and `cost`; for a rejected reply, which is paid for,
        `content` and `usage`.
    """
    fields: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error, ApiStatusError):
        fields["status_code"] = error.status
        if error.code is not None:
            fields["code"] = error.code
    if isinstance(error, RequestError):
        fields["request_id"] = error.request_id
        fields["attempts"] = error.attempts
    if isinstance(error, AllEndpointsFailed):
        fields["attempts"] = error.attempts
    if isinstance(error, (RequestError, AllEndpointsFailed)) and error.cost:
        fields["cost"] = round(error.cost, 10)
    if isinstance(error, RejectedReply):
        if error.content:
            fields["content"] = error.content
        if error.usage is not None:
            fields["usage"] = error.usage
    return fields


def error_from_fields(fields: Mapping[str, Any]) -> FlexLLMError:
    """Rebuild an error from what `error_fields` gave; an unknown class becomes the nearest root."""
    known = {kind.__name__: kind for kind in _every_class(FlexLLMError)}
    kind = known.get(str(fields.get("class")), RequestError)
    error = kind(str(fields.get("message", "")))
    for stored, attribute in (
        ("status_code", "status"),
        ("code", "code"),
        ("request_id", "request_id"),
        ("attempts", "attempts"),
        ("content", "content"),
        ("usage", "usage"),
        ("cost", "cost"),
    ):
        if stored in fields and hasattr(error, attribute):
            setattr(error, attribute, fields[stored])
    return error


def _every_class(root: type[FlexLLMError]) -> list[type[FlexLLMError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _every_class(child))]
