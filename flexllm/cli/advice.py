"""What somebody can do whose server does not answer, by what went wrong; in full sentences.

Imported when a command runs, not when the parser is made.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import (
    ApiStatusError,
    AuthenticationFailed,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    MalformedResponse,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestTimeout,
    ServerError,
    StreamBroken,
    TlsFailed,
)
from ..language import _, mark, plural
from ..wire import NO_KEY, mask_key

if TYPE_CHECKING:
    from .checkup import Checkup

PREFIXES = (
    ("sk-or-v1-", "OpenRouter", "openrouter.ai"),
    ("sk-ant-", "Anthropic", "anthropic.com"),
    ("sk-proj-", "OpenAI", "openai.com"),
    ("sk-svcacct-", "OpenAI", "openai.com"),
    ("gsk_", "Groq", "groq.com"),
    ("xai-", "xAI", "x.ai"),
    ("AIza", "Google", "googleapis.com"),
    ("pplx-", "Perplexity", "perplexity.ai"),
    ("csk-", "Cerebras", "cerebras.ai"),
    ("fw_", "Fireworks", "fireworks.ai"),
)
"""How a service's keys begin, and its domain. Source: the services' documentation."""

_LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_OLLAMA_PORT = 11434


def advice(found: Checkup) -> list[str]:
    """Return what to do about what went wrong; nothing if all is well."""
    error = found.error
    if error is None:
        return []
    if isinstance(error, ConfigError):
        return _of_config(found)
    if isinstance(error, ConnectionFailed):
        return _of_connection(found, error)
    if isinstance(error, (AuthenticationFailed, PermissionDenied)):
        return _of_key(found, error)
    if isinstance(error, (NotFound, MalformedResponse)):
        return _of_path(found, error)
    for kind, sentences in _BY_CLASS:
        if isinstance(error, kind):
            return [_(sentence) for sentence in sentences]
    return [_("Run it again with --verbose, and look at the server's own log.")]


_BY_CLASS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (
        QuotaExhausted,
        (
            mark("The server and the key are right: the account has nothing left. Top it up where you got the key."),
            mark("'flexllm credits' tells what is left, at the services that tell it."),
        ),
    ),
    (
        RateLimited,
        (
            mark("The server and the key are right: it has too many requests for now. Wait a minute and try again."),
            mark("If nothing else uses this key, the plan of the account may allow none: look at its limits."),
        ),
    ),
    (
        BadRequest,
        (
            mark("The server is reached, and it refuses the question as it was put."),
            mark(
                "Look at the entry's 'params' and 'system' in the configuration file, if it has them, and at --provider."
            ),
        ),
    ),
    (
        ServerError,
        (
            mark("The server is reached, and it has trouble of its own. Try again in a few minutes."),
            mark("If it is your own server, look at its log; if not, at the service's page about its state."),
        ),
    ),
    (
        StreamBroken,
        (
            mark(
                "The answer began and broke off: try again; a proxy between here and the server may cut long replies."
            ),
            mark("'flexllm ask --no-stream' asks for the answer in one piece."),
        ),
    ),
    (ApiStatusError, (mark("Look up this status in the documentation of the server."),)),
)
"""By class of the error; the first that fits counts."""


def _of_config(found: Checkup) -> list[str]:
    if found.listed:
        return [_("'flexllm models' lists all that this server offers.")]
    return [_("'flexllm init' writes a configuration, and 'flexllm list' shows what it says.")]


def _of_connection(found: Checkup, error: ConnectionFailed) -> list[str]:
    parts = urlsplit(found.place)
    is_local = parts.hostname in _LOCAL
    if isinstance(error, RequestTimeout):
        return [
            _(
                "The server takes long: it may be loading the model, or have much to do. Give it more time with --timeout 120."
            ),
            _("If it never answers, a firewall may be in the way; where a proxy is needed, HTTPS_PROXY names it."),
        ]
    if isinstance(error, TlsFailed):
        return [
            _(
                "If a company's own authority signed the certificate, name its bundle with --ca-bundle FILE, or in "
                "REQUESTS_CA_BUNDLE."
            ),
            _("If the clock of this machine is wrong, set it: certificates are good for a time."),
        ]
    if _is_caused_by(error, ssl.SSLError):
        return [_("The port seems not to speak TLS: try http:// instead of https:// ({place}).", place=found.place)]
    if _is_caused_by(error, socket.gaierror):
        return [
            _host_sentence(parts.hostname or "", found.source("base_url")),
            _("Check that this machine is on the network; where a proxy is needed, HTTPS_PROXY names it."),
        ]
    if _is_caused_by(error, ConnectionRefusedError):
        return _of_nobody(is_local, parts.port)
    sentences = [_("Check the address and the port, and any proxy or firewall on the way.")]
    if parts.scheme == "http":
        sentences.append(_("If the server speaks TLS, write https:// in base_url."))
    return sentences


def _host_sentence(host: str, source: str | None) -> str:
    if source is None:
        return _("Check how {host} is written.", host=host)
    return _("Check how {host} is written ({source}).", host=host, source=source)


def _of_nobody(is_local: bool, port: int | None) -> list[str]:
    """Return what to do where nothing listens."""
    if not is_local:
        return [_("Check the port in base_url, and that the server is running and listens to other machines.")]
    if port == _OLLAMA_PORT:
        start = _("Start the server, with 'ollama serve' for example, and check its port.")
    else:
        start = _("Start the server, with 'vllm serve MODEL' or 'ollama serve' for example, and check its port.")
    return [
        start,
        _("'flexllm mock' starts one that needs no model, to try everything on."),
    ]


def _of_key(found: Checkup, error: ApiStatusError) -> list[str]:
    key = found.server.api_key
    if key == NO_KEY:
        return [
            _(
                "No key was given. Put it as api_key into the configuration file ('flexllm init' does), or into "
                "FLEXLLM_API_KEY together with FLEXLLM_BASE_URL."
            )
        ]
    host = urlsplit(found.place).hostname or ""
    sentences = [_key_sentence(mask_key(key), found.source("api_key"))]
    for prefix, service, domain in PREFIXES:
        if key.startswith(prefix) and host not in _LOCAL and not (host == domain or host.endswith(f".{domain}")):
            sentences.append(_("It looks like a key of {service}, and was sent to {host}.", service=service, host=host))
            break
    if isinstance(error, PermissionDenied):
        sentences.append(
            _("The server knows the key, but it may not do this: look at what project, model and country it is for.")
        )
    else:
        sentences.append(_("Check that it is whole and has not expired; make a new one where you got it, if need be."))
    return sentences


def _key_sentence(key: str, source: str | None) -> str:
    if source is None:
        return _("The key that was sent is {key}.", key=key)
    return _("The key that was sent is {key} ({source}).", key=key, source=source)


def _of_path(found: Checkup, error: NotFound | MalformedResponse) -> list[str]:
    if found.better_url:
        return [_("It answers at {url}: give that as base_url.", url=found.better_url)]
    if found.listed is not None and isinstance(error, NotFound):
        return [_missing_model_sentence(found.model, found.nearest())]
    sentences = [_("Check base_url: what answers there is not a language model's interface.")]
    if not found.place.endswith("/v1") and found.format == "openai":
        sentences.append(_("The version path may be missing: most base URLs end with /v1."))
    sentences.append(_("It was asked in the {format} format; --provider chooses another one.", format=found.format))
    return sentences


def _missing_model_sentence(model: str, nearest: Sequence[str]) -> str:
    if not nearest:
        return _("The server does not have {model}; 'flexllm models' lists what it has.", model=model)
    return plural(
        "The server does not have {model}; the nearest that it lists is {names}.",
        "The server does not have {model}; the nearest that it lists are {names}.",
        len(nearest), model=model, names=", ".join(nearest),
    )  # fmt: skip


def _is_caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    return any(isinstance(one, kind) for one in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was made of: libraries keep causes in `reason` and `args` as well."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
