"""The options that become request parameters, the same for every command that asks."""

from __future__ import annotations

import argparse

from ..language import _, mark
from ..system_errors import reason_of
from .units import count, number, words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..errors import ConfigError

MOST_OF_A_SCHEMA = 1_000_000
"""Bytes. A hundred times what providers take; a file that is larger was not meant."""


def add_system_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that gives the system message."""
    parser.add_argument(
        "-s", "--system", type=words, metavar="TEXT", help=_("what the model should be or do (the system message)")
    )


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that become request parameters."""
    group = parser.add_argument_group(_("request"))
    group.add_argument("--temperature", type=number, metavar="T", help=_("sampling temperature"))
    group.add_argument("--max-tokens", type=count, metavar="N", help=_("tokens of the reply at most"))
    group.add_argument(
        "--thinking", metavar="LEVEL", type=_thinking,
        help=_("how much the model thinks first: false, true, minimal, low, medium, high, xhigh, max, a budget in tokens, "
        "or the provider's own object as JSON. Left out, the server decides"),
    )  # fmt: skip
    group.add_argument(
        "--schema", metavar="FILE",
        help=_("the reply is JSON that fits this JSON schema: a file, or the schema itself, beginning with {. It is checked "
        "if jsonschema is installed (pip install 'flexllm[schema]')"),
    )  # fmt: skip
    group.add_argument(
        "--repair", action="store_true",
        help=_("send a reply that does not fit --schema back to the model once, to be mended"),
    )  # fmt: skip
    group.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", type=_param,
        help=_("any other request parameter; VALUE is JSON, or else a text. Repeatable: --param seed=7"),
    )  # fmt: skip


def request_params(args: argparse.Namespace, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request parameters in their checked form: the configuration's, then those of the command line.

    Raises:
        ConfigError: One of them cannot be used: a schema that is none, an option of the client.
        InputError: The file of the schema cannot be read.
    """
    from ..errors import ConfigError
    from ..request import make_params

    given = {"temperature": args.temperature, "max_tokens": args.max_tokens, "thinking": args.thinking}
    for name, _value in args.param:
        if name in _NO_PARAMETERS:
            raise ConfigError(_(_NO_PARAMETERS[name]))
    params = {**base, **{name: value for name, value in given.items() if value is not None}, **dict(args.param)}
    if args.schema is not None:
        params["response_format"] = _schema(args.schema)
    if args.repair:
        if params.get("response_format") is None:
            raise ConfigError(_("--repair mends replies that do not fit a schema; give the schema with --schema"))
        params["repair"] = True
    return dict(make_params(params))


_NO_PARAMETERS = {
    "model": mark("--param model=... is no request parameter; give the model with -m"),
    "messages": mark("--param messages=... is no request parameter; the question, and --system, are what is sent"),
    "stream": mark(
        "--param stream=... is no request parameter; whether an answer is streamed, the terminal decides, and --no-stream"
    ),
    "self": mark("--param self=... is no request parameter; no provider knows it"),
}
"""What would not reach the server, or break the request."""


def _param(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(_("{text!r} is not NAME=VALUE", text=text))
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


_SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def _thinking(text: str) -> Any:
    """Return what a text means for `thinking`, as `checked_thinking` takes it."""
    import json

    from ..errors import InputError
    from ..providers.thinking import LEVELS, checked_thinking

    word = text.strip().lower()
    try:
        if word in _SWITCHES:
            return _SWITCHES[word]
        if word.startswith("{"):
            return json.loads(text)
        return checked_thinking(int(word) if word.isascii() and word.isdecimal() else word)
    except (InputError, ValueError, RecursionError):
        raise argparse.ArgumentTypeError(
            _(
                "{text!r} is no way to think; give true, false, one of {levels}, a budget in tokens, or the "
                "provider's own object as JSON",
                text=text,
                levels=", ".join(LEVELS),
            )
        ) from None


def _schema(text: str) -> Mapping[str, Any]:
    """Return the `response_format` that --schema names or is."""
    import json

    from ..errors import ConfigError
    from ..schema import as_response_format

    is_file = not text.lstrip().startswith(("{", "["))
    where = f"--schema {text}" if is_file else "--schema"
    written = _read(text) if is_file else text.encode("utf-8", "surrogatepass")
    try:
        schema = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise _not_json(where, error) from None
    if not isinstance(schema, dict):
        raise ConfigError(
            _("{where} is no JSON schema: it must be an object, not {kind}", where=where, kind=_kind(schema))
        )
    try:
        made = as_response_format(schema)
    except ConfigError as error:
        reason = str(error) if "type" in schema else _("it has no 'type'")
        raise ConfigError(_("{where} cannot be used as a JSON schema: {reason}", where=where, reason=reason)) from None
    if made["type"] not in ("json_schema", "json_object"):
        raise ConfigError(_("{where} is no JSON schema: there is no type {type!r}", where=where, type=made["type"]))
    return made


def _not_json(where: str, error: Exception) -> ConfigError:
    from json import JSONDecodeError

    from ..errors import ConfigError

    if isinstance(error, JSONDecodeError):
        return ConfigError(
            _(
                "{where} is not JSON at line {line}, column {column}; give a JSON schema, or a file that holds one",
                where=where, line=error.lineno, column=error.colno,
            )
        )  # fmt: skip
    return ConfigError(_("{where} is not JSON; give a JSON schema, or a file that holds one", where=where))


def _read(path: str) -> bytes:
    import os

    from ..errors import InputError

    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(MOST_OF_A_SCHEMA + 1)
    except OSError as error:
        raise InputError(_("--schema {path} cannot be read: {reason}", path=path, reason=reason_of(error))) from None
    except ValueError:
        raise InputError(
            _("--schema {path!r} cannot be read: it holds a character that no path can", path=path)
        ) from None
    if len(data) > MOST_OF_A_SCHEMA:
        raise InputError(
            _("--schema {path} has more than {limit} bytes; that is no schema", path=path, limit=MOST_OF_A_SCHEMA)
        )
    return data


_KINDS = {list: mark("an array"), str: mark("a text"), bool: mark("true or false")}
_NUMBER = mark("a number")


def _kind(value: object) -> str:
    """Return what a value of JSON is that is no object."""
    kind = _KINDS.get(type(value), _NUMBER)
    return "null" if value is None else _(kind)
