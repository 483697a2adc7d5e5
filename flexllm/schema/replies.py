"""From the text of a reply to the value that it stands for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import SchemaMismatch
from ..language import mark
from ..thoughts import split_thoughts
from ..words import Words
from .formats import ResponseFormat, wanted_schema
from .kinds import kind_of
from .mismatch import Mismatch, json_path, show
from .validation import validate

FENCE = "```"


def parse_reply(text: str, response_format: Mapping[str, Any]) -> Any:
    """Return the value of a reply: an object of the class that was asked for, or the decoded JSON.

    Blanks around the JSON, one Markdown fence, and thinking between tags (`<think>`) in front are tolerated. A class
    checks its reply by itself, so that it says the same with and without jsonschema; fields that have a default may be
    absent.

    Args:
        response_format: A `ResponseFormat`, or a plain dictionary in OpenAI's form.

    Raises:
        SchemaMismatch: Saying where the reply differs, and how; its `content` is the text.
        ConfigError: The schema itself cannot be used (`check_format` says so before anything is sent).
    """
    try:
        return _value(text, response_format)
    except _Unfit as unfit:
        raise SchemaMismatch(str(unfit.problem), content=text) from unfit.__cause__


def complaint(text: str, response_format: Mapping[str, Any]) -> str:
    """Return in English, for the model that is to mend it, what is wrong with a reply that `parse_reply` refuses."""
    try:
        _value(text, response_format)
    except _Unfit as unfit:
        return unfit.problem.in_english()
    return "the reply does not match the schema"  # a class's own check, which found it wrong before, does not any more


class _Unfit(Exception):
    """A text is not what was asked for."""

    def __init__(self, problem: Words) -> None:
        super().__init__(problem)
        self.problem = problem


def _value(text: str, response_format: Mapping[str, Any]) -> Any:
    """Return the value of a reply. Raises _Unfit."""
    written = _without_fence(text)
    try:
        try:
            return _read(written, response_format)
        except _NotJson:
            thought, answer = split_thoughts(text)
            if not thought:
                raise
            written = _without_fence(answer)
            return _read(written, response_format)
    except _NotJson as error:
        not_json = Words(mark("the reply is not JSON: {reason}"), reason=error.reason)
        raise _Unfit(not_json if written else _EMPTY) from None
    except Mismatch as error:
        where, problem = json_path(error.path), error.problem
        misfit = Words(mark("the reply does not match the schema at {path}: {problem}"), path=where, problem=problem)
        raise _Unfit(misfit) from error.__cause__
    except RecursionError:
        raise _Unfit(_TOO_DEEP) from None


_EMPTY = Words(mark("the reply is empty, where JSON was asked for"))
_TOO_DEEP = Words(mark("the reply is nested too deeply to be read"))


def _read(written: str, response_format: Mapping[str, Any]) -> Any:
    value = _decode(written)
    if isinstance(response_format, ResponseFormat) and response_format.kind is not None:
        return kind_of(response_format.kind).read(value, written)
    schema = wanted_schema(response_format)
    if schema is not None:
        validate(value, schema)
    return value


class _NotJson(Exception):
    """A text is not JSON."""

    def __init__(self, reason: Words | str) -> None:
        super().__init__(reason)
        self.reason = reason


def _without_fence(text: str) -> str:
    text = text.strip()
    if len(text) > 2 * len(FENCE) and text.startswith(FENCE) and text.endswith(FENCE):
        text = text[len(FENCE) : -len(FENCE)]
        text = text[4:] if text[:4].lower() == "json" else text
    return text.strip()


def _decode(written: str) -> Any:
    try:
        return _decoder.decode(written)
    except json.JSONDecodeError as error:
        near = written[max(0, error.pos - 20) : error.pos + 40]
        reason = Words(error.msg)  # which stands in the catalogue: see `json_errors`
        place = mark("{reason} at line {line}, column {column}, near {text}")
        raise _NotJson(
            Words(place, reason=reason, line=error.lineno, column=error.colno, text=show(near, 70))
        ) from None
    except ValueError as error:  # a number of more digits than Python reads
        raise _NotJson(str(error)) from None


def _refuse(name: str) -> NoReturn:
    raise _NotJson(Words(mark("{number} is no number of JSON's"), number=name))


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:20])


_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
