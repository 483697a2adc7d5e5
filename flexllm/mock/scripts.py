"""Scripts: which reply, fault or nothing the caller of a mock server has put down for a request; also as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from .faults import fault_named
from .options import MAX_AMOUNT
from .replies import ReceivedRequest, Reply, Script, Scripted

Lookup = Callable[[ReceivedRequest, "str | None"], Scripted]
"""What is put down for a request and its prompt; None as a prompt: it is no chat request, or has none."""

Fixed = Callable[[ReceivedRequest], Scripted] | tuple[Scripted, ...] | dict[str, "tuple[Scripted, ...] | Scripted"]
"""A script that has been checked and can be read several times."""

ALLOWED = "a list of replies, fault names and nulls, or an object of such lists by a piece of the prompt"


def fixed(script: Script | None) -> Fixed:
    """Return a script as it is kept; raise `ValueError` if something in it is neither reply nor fault nor None.

    Answers of a function are looked at when they are given.
    """
    if script is None:
        return ()
    if callable(script):
        return script
    if isinstance(script, Mapping):
        return {_piece(piece): _entry(entry) for piece, entry in script.items()}
    if isinstance(script, (str, Reply)) or not isinstance(script, Iterable):
        raise ValueError(f"script is {script!r}; allowed: a function, a list, or lists by a piece of the prompt")
    return tuple(_checked(one) for one in script)


def _piece(piece: object) -> str:
    if not isinstance(piece, str):
        raise ValueError(f"script has {piece!r} as a piece of a prompt; allowed: texts")
    return piece


def _entry(entry: object) -> tuple[Scripted, ...] | Scripted:
    """Return what is put down for a piece: in turn if it is a list, otherwise the same for every request."""
    if isinstance(entry, (str, Reply)) or not isinstance(entry, Iterable):
        return _checked(entry)
    return tuple(_checked(one) for one in entry)


def _checked(one: object) -> Scripted:
    if one is None or isinstance(one, Reply):
        return one
    if not isinstance(one, str):
        raise ValueError(f"script has {one!r}; allowed: replies, names of faults, and None")
    fault_named(one)
    return one


def lookup(script: Fixed) -> Lookup | None:
    """Return a script from its beginning; None if it has nothing."""
    if callable(script):
        function = script
        return lambda request, prompt: function(request)
    if isinstance(script, tuple):
        replies = iter(script)
        return (lambda request, prompt: next(replies, None)) if script else None
    return _by_piece(script) if script else None


def _by_piece(script: Mapping[str, tuple[Scripted, ...] | Scripted]) -> Lookup:
    # The longest first: "row 12" is meant, not "row 1", where both are pieces of the prompt.
    entries = [(piece, _in_turn(script[piece])) for piece in sorted(script, key=len, reverse=True)]

    def find(request: ReceivedRequest, prompt: str | None) -> Scripted:
        if prompt is not None:
            for piece, following in entries:
                if piece in prompt:
                    return following()
        return None

    return find


def _in_turn(entry: tuple[Scripted, ...] | Scripted) -> Callable[[], Scripted]:
    if not isinstance(entry, tuple):
        return lambda: entry
    replies = iter(entry)
    return lambda: next(replies, None)


# ---------------------------------------------------------------------------------------------------- JSON


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_AMOUNT


_Kind = tuple[str, Callable[[object], bool]]
_TEXT: _Kind = ("a text", lambda value: isinstance(value, str))
_FLAG: _Kind = ("true or false", lambda value: isinstance(value, bool))
_NUMBER: _Kind = ("a number", _is_number)
_WHOLE: _Kind = ("a whole number", lambda value: isinstance(value, int) and _is_number(value))
_KINDS: dict[str, _Kind] = {
    "status": _WHOLE,
    "delay": _NUMBER,
    "drip": _NUMBER,
    "drip_head": _FLAG,
    "cut": _TEXT,
    "cut_at": _WHOLE,
    "reset": _FLAG,
    "close": _FLAG,
    "framing": _TEXT,
    "gzip": _FLAG,
}
_NAMES = [one.name for one in fields(Reply) if one.name != "tokens"]


def script_of_json(value: object) -> Script:
    """Return a script that came as JSON; raise `ValueError`, with one sentence, if it is none.

    A reply is an object with the fields of `Reply`: its body is a text, or an object or list that is sent as JSON; its
    pieces are pairs of seconds and text. null stands for a field that is not given.
    """
    if isinstance(value, list):
        return [_one_of_json(one) for one in value]
    if isinstance(value, dict):
        return {
            piece: [_one_of_json(one) for one in entry] if isinstance(entry, list) else _one_of_json(entry)
            for piece, entry in value.items()
        }
    raise ValueError(f"the script is not {ALLOWED}")


def _one_of_json(value: object) -> Scripted:
    if isinstance(value, dict):
        return _reply_of_json(value)
    if value is None or isinstance(value, str):
        return _checked(value)
    raise ValueError(f"the script has {json.dumps(value)[:60]}; allowed: an object that is a reply, a fault name, null")


def _reply_of_json(given: Mapping[str, Any]) -> Reply:
    unknown = next((name for name in given if name not in _NAMES), None)
    if unknown is not None:
        raise ValueError(f"a reply has no field {unknown[:60]!r}; there are: {', '.join(_NAMES)}")
    return Reply(**{name: _field_of_json(name, value) for name, value in given.items() if value is not None})


def _field_of_json(name: str, value: Any) -> Any:
    if name == "body":
        return (value if isinstance(value, str) else json.dumps(value)).encode(errors="backslashreplace")
    if name == "headers":
        if isinstance(value, dict) and all(isinstance(one, str) for one in value.values()):
            return value
        raise ValueError("the field 'headers' of a reply is not an object of texts")
    if name == "pieces":
        return _pieces_of_json(value)
    allowed, is_allowed = _KINDS[name]
    if not is_allowed(value):
        raise ValueError(f"the field {name!r} of a reply is {json.dumps(value)[:60]}; allowed: {allowed}")
    return value


def _pieces_of_json(value: object) -> tuple[tuple[float, bytes], ...]:
    pairs: list[Any] = value if isinstance(value, list) else [value]
    if not all(_is_piece(pair) for pair in pairs):
        raise ValueError("the field 'pieces' of a reply is not a list of pairs [seconds, text]")
    return tuple((pause, text.encode(errors="backslashreplace")) for pause, text in pairs)


def _is_piece(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
        return False
    return _is_number(pair[0]) and pair[0] >= 0
