"""From what a caller writes to the one form of a request that the rest of the house reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .chat import ChatRequest
from .errors import ConfigError
from .media.parts import as_messages
from .messages import Messages, normalise_messages
from .schema import as_response_format


def make_request(messages: Messages, model: str, params: Mapping[str, Any]) -> ChatRequest:
    """Return a checked request; the caller's objects are not changed.

    Args:
        messages: A text, one message, or a list of messages; pictures and other media in any form.
        params: As in `make_params`.

    Raises:
        InputError: The messages cannot be used as they are.
        ConfigError: A parameter cannot.
    """
    return ChatRequest(normalise_messages(as_messages(messages)), model, make_params(params))


def make_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return request parameters in their checked form: the same object where there is nothing to do.

    Args:
        params: `response_format` may be a class; `repair` beside it asks for a second round if the reply does not match.
    """
    if params.get("response_format") is None:
        if params.get("repair"):
            raise ConfigError(
                "repair=True mends replies that do not match a response_format; give one, or leave it out"
            )
        if "repair" not in params and "response_format" not in params:
            return params
        return {name: value for name, value in params.items() if name not in ("repair", "response_format")}
    made = dict(params)
    made["response_format"] = as_response_format(made["response_format"], bool(made.pop("repair", False)))
    return made
