"""What each key of the file may hold. A name means the same in every section."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from ..language import mark
from ..prices import parse_price
from ..router import STRATEGIES
from ..templates import UserTemplate
from ..wire import Target


def checked_pair(base_url: str | None, api_key: str, where: str) -> tuple[str | None, str]:
    """Return a base URL and its key as a `Target` has them. Raises ConfigError, with `where` in front."""
    try:
        target = Target(base_url=base_url or "http://localhost", api_key=api_key)
    except ValueError as error:  # not only ours: urlsplit has its own, for half an IPv6 address
        raise ConfigError(f"{where}: {error}") from error
    return base_url and target.base_url, target.api_key


def _is_json_object(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_price(value: Any) -> bool:
    try:
        parse_price(value)
    except ConfigError:
        return False
    return True


def _is_template(value: Any) -> bool:
    try:
        UserTemplate(value)
    except ConfigError:
        return False
    return True


def _is_command(value: Any) -> bool:
    words = value if isinstance(value, list) else [value]
    return bool(words) and all(isinstance(word, str) and "\0" not in word for word in words) and bool(words[0].strip())


_Check = tuple[Callable[[Any], bool], str]
_TEXT: _Check = (
    lambda value: isinstance(value, str) and bool(value.strip()),
    mark("a text that is not empty; put it in quotes, or leave the key out"),
)
_WHOLE: _Check = (lambda value: type(value) is int and value >= 1, mark("a whole number of at least 1"))
_NUMBER: _Check = (lambda value: type(value) in (int, float) and 0 < value < math.inf, mark("a number above 0"))
_SHARE: _Check = (
    lambda value: type(value) in (int, float) and 0 < value <= 1,
    mark("a share above 0 and up to 1, such as 0.1"),
)
_STRATEGY: _Check = (
    lambda value: value in STRATEGIES,
    mark("one of round_robin, weighted, random, fallback, least_busy"),
)
_TRUTH: _Check = (lambda value: isinstance(value, bool), mark("true or false"))
_PARAMS: _Check = (
    _is_json_object,
    mark("a mapping of request parameters that JSON can carry, such as 'temperature: 0.2'"),
)

_PRICE: _Check = (
    _is_price,
    mark(
        "US dollars per million tokens, such as '0.5,1.5' or '0.5,1.5,0.05' (in, out, cached), or a mapping of 'input', "
        "'output' and others to them"
    ),
)

_COMMAND: _Check = (
    _is_command,
    mark(
        "a command that prints the key: a text for the shell, such as 'pass show openai', or the words of it as a list"
    ),
)
_TEMPLATE: _Check = (
    _is_template,
    mark("a text with {content}, where the question goes, or {name} for a field of the rows; put it in quotes"),
)

CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("default", "id", "name", "model", "provider", "base_url", "api_key"), _TEXT),
    "api_key_cmd": _COMMAND,
    "system": _TEXT,
    "user_template": _TEMPLATE,
    **dict.fromkeys(("concurrency", "concurrency_limit"), _WHOLE),
    **dict.fromkeys(("max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm"), _NUMBER),
    **dict.fromkeys(("timeout", "total_timeout", "max_time", "max_cost", "weight"), _NUMBER),
    "fail_over": _SHARE,
    **dict.fromkeys(("cache", "return_usage", "track_cost", "fallback", "adaptive"), _TRUTH),
    "load_balance": _STRATEGY,
    "params": _PARAMS,
    "price": _PRICE,
}
"""By key: what holds of its value, and how people are told."""
