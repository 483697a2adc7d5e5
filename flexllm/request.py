"""From what a caller writes to the one form of a request that the rest of the house reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .chat import ChatRequest
from .errors import ConfigError
from .language import _, mark
from .media.parts import as_messages
from .messages import Messages, normalise_messages
from .schema import as_response_format
from .templates import CONTENT, UserTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDefaults:
    """What holds for each request that says nothing else.

    Attributes:
        system: A system message for conversations that have none; None puts none.
        user_template: Put around the text of each user message; None leaves them as they are.
        params: Request parameters, as in `make_params`; those of a request go before them.

    Raises:
        ConfigError: The template has places that only the rows of an input file can fill.
    """

    system: str | None = None
    user_template: UserTemplate | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.user_template is not None and self.user_template.needs_fields:
            others = ", ".join(f"{{{name}}}" for name in self.user_template.names if name != CONTENT)
            raise ConfigError(
                _(
                    "user_template has {fields}, which only the fields of rows can fill (flexllm batch); here {{content}} "
                    "alone can be used",
                    fields=others,
                )
            )


def request_defaults(
    system: str | None, user_template: str | None, params: Mapping[str, Any] | None
) -> RequestDefaults | None:
    """Return what a caller's own words mean, None if he says nothing.

    Raises:
        ConfigError: One of them cannot be used.
    """
    if system is None and user_template is None and not params:
        return None
    if system is not None and not isinstance(system, str):
        raise ConfigError(_("system must be a text, not of type {kind}", kind=type(system).__name__))
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(
            _("params must be a mapping of request parameters, not of type {kind}", kind=type(params).__name__)
        )
    template = None if user_template is None else UserTemplate(user_template)
    return RequestDefaults(system=system, user_template=template, params=make_params(params or {}))


def make_request(
    messages: Messages, model: str, params: Mapping[str, Any], defaults: RequestDefaults | None = None
) -> ChatRequest:
    """Return a checked request; the caller's objects are not changed.

    Args:
        messages: A text, one message, or a list of messages; pictures and other media in any form.
        params: As in `make_params`.
        defaults: What holds where messages and params say nothing.

    Raises:
        InputError: The messages cannot be used as they are.
        ConfigError: A parameter cannot.
    """
    if defaults is None:
        return ChatRequest(normalise_messages(as_messages(messages)), model, make_params(params))
    conversation = normalise_messages(as_messages(messages), defaults.system)
    if defaults.user_template is not None:
        conversation = defaults.user_template.around(conversation)
    return ChatRequest(conversation, model, make_params({**defaults.params, **params} if defaults.params else params))


def make_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return request parameters in their checked form: the same object where there is nothing to do.

    Args:
        params: `response_format` may be a class; `repair` beside it asks for a second round if the reply does not match.
            `extra_body`, as OpenAI's SDK has it, is an object of further parameters.

    Raises:
        ConfigError: One of them is an option of the client or of another call, or cannot be used.
    """
    if _NOT_SENT.isdisjoint(params):
        return params
    made = dict(params)
    for name, instead in _NO_PARAMETERS.items():
        if made.pop(name, None) is not None:
            raise ConfigError(_("{name} is no parameter of a request: {instead}", name=name, instead=_(instead)))
    made.pop("skip_cache", None)
    body = made.pop("extra_body", None)
    if body is not None and not isinstance(body, Mapping):
        raise ConfigError(_("extra_body must be an object, not {kind}", kind=type(body).__name__))
    made.update(body or {})
    wanted, repair = made.pop("response_format", None), bool(made.pop("repair", False))
    if wanted is not None:
        made["response_format"] = as_response_format(wanted, repair)
    elif repair:
        raise ConfigError(_("repair=True mends replies that do not match a response_format; give one, or leave it out"))
    return made


_TO_THE_CLIENT = mark("give it to the client, or to the command line as an option of its own")
_OF_A_BATCH = mark(
    "it is for a whole batch: give it to chat_completions_batch, or to the command line as an option of its own"
)
_OF_OTHER_CALLS = mark("this call does not take it")
_NO_PARAMETERS = {
    **dict.fromkeys(
        ("api_key", "base_url", "provider", "timeout", "connect_timeout", "stream_timeout", "total_timeout",
         "retry_times", "retry_delay", "concurrency_limit", "max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm",
         "max_output_tpm", "adaptive", "hedge", "on_truncated", "on_invalid", "cache", "cost_tracker", "price", "prices"),
        _TO_THE_CLIENT,
    ),
    **dict.fromkeys(
        ("fail_over", "max_time", "max_cost", "max_requests", "max_total_tokens", "share", "order", "sample"), _OF_A_BATCH
    ),
    "extra_headers": mark("give headers to the client"),
    "extra_query": mark("nothing can be put behind the URL"),
    **dict.fromkeys(
        ("return_raw", "return_usage", "return_summary", "return_cost_report", "output_file", "output_jsonl",
         "show_progress", "metadata_list", "params_list"),
        _OF_OTHER_CALLS,
    ),
}  # fmt: skip
"""Words that mean something elsewhere. Sent to a server they would be ignored, and nobody would know."""

_NOT_SENT = frozenset({"response_format", "repair", "extra_body", "skip_cache", *_NO_PARAMETERS})
