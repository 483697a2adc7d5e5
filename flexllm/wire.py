"""What crosses the network, as values: a request to send, a reply that came, and whom to ask.

Providers make and read these; the transport carries them. Nobody here opens a socket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError
from .language import _

Headers = tuple[tuple[str, str], ...]
"""Request headers in order. A tuple, so that the transport can remember the bytes of a head it has seen before."""

NO_KEY = "EMPTY"
"""The key that servers without keys are conventionally given."""

KEY_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key"})
"""Request headers, in lower case, that hold a key or a token."""


def mask_key(key: str) -> str:
    """Return a key fit for people's eyes: enough of both ends to recognise a long one, nothing of a short one."""
    if key == NO_KEY or not key:
        return key
    shown = 15 if len(key) >= 40 else 4 if len(key) >= 16 else 0
    return f"{key[:shown]}...{key[-4:]}" if shown else "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to ask: a base URL, the key that belongs to it, and headers that every request carries.

    Attributes:
        base_url: With the version path, without a trailing slash, such as "https://api.openai.com/v1".
        api_key: Sent only to this base URL. `repr` masks it.
        headers: More headers, in order; they replace a provider's own of the same name.
    """

    base_url: str
    api_key: str = NO_KEY
    headers: Headers = ()

    def __post_init__(self) -> None:
        parts = _split(self.base_url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            shown = re.sub(r"//[^/]*@", "//...@", repr(self.base_url))
            raise ConfigError(
                _(
                    "base_url={shown} is not a URL that can be asked: it must start with http:// or https:// and name a "
                    "host, such as 'https://api.openai.com/v1', without blanks and letters beyond ASCII",
                    shown=shown,
                )
            )
        if parts.username or parts.password:
            raise ConfigError(_("base_url holds a user name or password; give the key as api_key instead"))
        if "?" in self.base_url or "#" in self.base_url:  # paths are put behind it; what it holds may be a key
            raise ConfigError(
                _("base_url holds a query or a fragment ('?' or '#'), behind which no path can stand: cut it off")
            )
        if not isinstance(self.api_key, str) or not _PRINTABLE.fullmatch(self.api_key):
            raise ConfigError(
                _(
                    "api_key holds a character that an HTTP header cannot carry (a blank, a line end or a letter beyond "
                    "ASCII); check how it was copied"
                )
            )
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Target(base_url={self.base_url!r}, api_key={mask_key(self.api_key)!r}, headers=<{names}>)"


def _split(url: str) -> SplitResult | None:
    """Return a URL's parts, None if it cannot stand in a request as it is."""
    # urlsplit drops line ends and tabs without a word, but they would stand in the head of a request.
    if not isinstance(url, str) or not _PRINTABLE.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _port = parts.port  # looked at for its range alone
    except ValueError:
        return None
    return parts


_PRINTABLE = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it will be sent. `headers` hold no Content-Length: the transport knows the body."""

    method: str
    url: str
    headers: Headers
    body: bytes = field(repr=False)

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.url}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One complete reply.

    Attributes:
        status: The HTTP status code.
        headers: Names in lower case; repeated headers joined with ", ".
        body: Decoded (no Content-Encoding left).
        elapsed: Seconds from the start of sending to the last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float = 0.0

    def __repr__(self) -> str:
        return f"HttpResponse({self.status}, {len(self.body)} bytes, {self.elapsed:.3f} s)"
