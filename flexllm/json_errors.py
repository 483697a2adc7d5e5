"""What the standard library says of a text that is no JSON, in the language in use."""

from __future__ import annotations

from .language import _, mark

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from json import JSONDecodeError

_REASONS = {
    mark("Expecting value"),
    mark("Expecting ',' delimiter"),
    mark("Expecting ':' delimiter"),
    mark("Expecting property name enclosed in double quotes"),
    mark("Extra data"),
    mark("Illegal trailing comma before end of array"),
    mark("Illegal trailing comma before end of object"),
    mark("Invalid \\escape"),
    mark("Invalid \\uXXXX escape"),
    mark("Invalid control character at"),
    mark("Unterminated string starting at"),
}
"""In English as `json` words them, in Python 3.10 and later."""


def why_no_json(error: JSONDecodeError) -> str:
    """Return why a text is no JSON, without the place, such as "Expecting value"."""
    told = error.msg.partition(": ")[0]  # behind it some versions show the letter
    return _(told) if told in _REASONS else error.msg
