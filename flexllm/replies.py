"""What is done with a reply that came whole and is paid for, but is not what was asked for: cut short, or of another form.

The value alone stands here, where options can take it in; `backends.structured` obeys it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .errors import ConfigError
from .language import _

OnReply = Literal["keep", "error", "retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPolicy:
    """What becomes of replies that are cut or do not fit. A row is asked once more at most, whichever of them it was.

    Attributes:
        on_truncated: A reply that ends at a token limit (`finish_reason` "length"), one that is all thinking and one whose
            tool calls are cut too. "keep": it is the result. "error": `ReplyTruncated`. "retry": it is asked once more with
            twice the tokens, and what is there then is the result: the second reply, cut or not; the first where the second
            request failed or brought nothing. `finish_reason` tells.
        on_invalid: A reply that does not match `response_format`. "keep": it is the result, without `parsed`. "error":
            `SchemaMismatch`. "retry": the same is asked once more, with twice the tokens if the reply was cut, and
            `SchemaMismatch` if that does not match either. A request with `repair=True` has its round of repair instead.

    A cut reply to a request with a `response_format` is first of all a cut one. A stream has been handed on before its end
    is known, and is never asked again: under "retry" a cut one is kept, and one that does not match is an error.
    """

    on_truncated: OnReply = "keep"
    on_invalid: OnReply = "error"

    def __post_init__(self) -> None:
        for name in ("on_truncated", "on_invalid"):
            value, allowed = getattr(self, name), get_args(OnReply)
            if value not in allowed:
                known = ", ".join(map(repr, allowed))
                raise ConfigError(_("{name}={value!r} must be one of {known}", name=name, value=value, known=known))
