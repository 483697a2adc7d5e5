"""From the text of a reply to the value that it stands for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from ..errors import SchemaMismatch
from ..language import _
from ..thoughts import split_thoughts
from .formats import ResponseFormat, wanted_schema
from .kinds import kind_of
from .mismatch import Mismatch, show
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
        problem = (
            _("the reply is not JSON: {error}", error=error)
            if written
            else _("the reply is empty, where JSON was asked for")
        )
        raise SchemaMismatch(problem, content=text) from None
    except Mismatch as error:
        problem = _("the reply does not match the schema {error}", error=error)
        raise SchemaMismatch(problem, content=text) from error.__cause__
    except RecursionError:
        raise SchemaMismatch(_("the reply is nested too deeply to be read"), content=text) from None


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
        raise _NotJson(
            _(
                "{msg} at line {lineno}, column {colno}, near {show}",
                msg=error.msg,
                lineno=error.lineno,
                colno=error.colno,
                show=show(near, 70),
            )
        ) from None
    except ValueError as error:  # a number that Python does not read
        raise _NotJson(str(error)) from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(_("{name} is no number of JSON's", name=name))


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:20])


_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
