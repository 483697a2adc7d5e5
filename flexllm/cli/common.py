"""What several commands share: options of the endpoint, and the way from arguments and configuration to a client."""

from __future__ import annotations

import argparse

from ..language import _
from .logs import add_log_options
from .units import number, positive, whole, words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..client import LLMClient
    from ..config import BatchEndpoint, Config, ResolvedEndpoint
    from ..providers.base import Provider


def add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say whom to ask, and how patiently."""
    group = parser.add_argument_group(_("endpoint"))
    add_whom_options(group)
    group.add_argument("--timeout", type=positive, metavar="SECONDS", help=_("for one attempt in all (120)"))
    group.add_argument(
        "--total-timeout",
        type=positive,
        metavar="SECONDS",
        help=_("for all attempts of a request together, with pauses (600)"),
    )
    group.add_argument("--retry-times", type=whole, metavar="N", help=_("attempts after the first that failed (3)"))
    group.add_argument(
        "--retry-delay", type=number, metavar="SECONDS", help=_("first pause before another attempt (1)")
    )


def add_whom_options(group: argparse._ActionsContainer) -> None:
    """Add the options that say whom to ask, and no more."""
    group.add_argument(
        "-m", "--model", type=words, metavar="NAME",
        help=_("a model of the configuration file, with that entry's own URL and key; or the name of a model at --base-url"),
    )  # fmt: skip
    group.add_argument(
        "--base-url", metavar="URL", help=_("the server to ask, with the version path: http://host:8000/v1")
    )
    group.add_argument(
        "--api-key", metavar="KEY",
        help=_("the key for it. Other users of the machine can see it while the command runs; the environment or the "
        "configuration file keeps it to yourself"),
    )  # fmt: skip
    group.add_argument(
        "--provider", metavar="NAME", help=_("the wire format: auto (the default), openai, gemini or claude")
    )
    add_config_option(group)
    group.add_argument(
        "--ca-bundle", metavar="FILE", help=_("accept servers whose certificate this CA bundle vouches for")
    )


def add_config_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that names another configuration file."""
    parser.add_argument("--config", metavar="FILE", help=_("the configuration file instead of ~/.flexllm/config.yaml"))


def add_talk_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how much is told, and in what form."""
    group = parser.add_argument_group(_("output"))
    group.add_argument("--json", action="store_true", help=_("print data as JSON on standard output"))
    group.add_argument("-q", "--quiet", action="store_true", help=_("tell nothing but errors"))
    group.add_argument("-v", "--verbose", action="store_true", help=_("tell about every retry on standard error"))
    add_log_options(group)


def find_endpoint(
    args: argparse.Namespace, config: Config | None = None, *, needs_model: bool = True
) -> tuple[Config, ResolvedEndpoint]:
    """Return the configuration, and the endpoint that flags, environment and file name together."""
    from ..config import load_config, resolve_endpoint

    config = config or load_config(args.config)
    endpoint = resolve_endpoint(
        config, model=args.model, base_url=args.base_url, api_key=args.api_key, provider=args.provider,
        needs_model=needs_model,
    )  # fmt: skip
    return config, endpoint


def asks_pool(args: argparse.Namespace, config: Config) -> bool:
    """Return whether the endpoints under `batch` are asked: the file lists some, and nobody names another one."""
    from ..config import names_server

    named = (args.model, args.base_url, args.api_key, args.provider)
    return bool(config.batch.endpoints) and all(one is None for one in named) and not names_server()


def provider_of(endpoint: ResolvedEndpoint) -> tuple[Provider, str]:
    """Return who translates for an endpoint, and the URL that is asked.

    Raises:
        ConfigError: There is no such provider; the message names the place that says so.
    """
    place = endpoint.sources.get("provider", endpoint.source)
    return _provider_at(place, endpoint.provider, endpoint.base_url, endpoint.model)


def _provider_at(place: str, name: str, base_url: str | None, model: str | None) -> tuple[Provider, str]:
    from ..errors import ConfigError
    from ..providers import find_provider

    try:
        return find_provider(name, base_url, model)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def make_client(args: argparse.Namespace, endpoint: ResolvedEndpoint, **options: Any) -> LLMClient:
    """Return a client for the endpoint; `options` and flags that are None keep the client's defaults.

    What the endpoint says of `system`, `user_template` and `params` is the client's too, but for what `options` name:
    None there means that the caller sees to it himself.

    Raises:
        ConfigError: Its template has places that only the rows of a batch can fill, and `options` do not name it; or there
            is no such provider.
    """
    from ..client import LLMClient

    options = _client_options(args, endpoint.client_options(options))
    provider_of(endpoint)  # says where it is named, which the client does not know
    return LLMClient(endpoint.model, endpoint.base_url, endpoint.api_key, endpoint.provider, **options)


def make_pool(
    args: argparse.Namespace, endpoints: Sequence[BatchEndpoint], config: Config | None = None, **options: Any
) -> LLMClient:
    """Return a client for the endpoints of a configuration file; `options` are as in `make_client`.

    Args:
        endpoints: As the file has them: variables are replaced and commands run here.
        config: What they are from, so that messages name file and line.

    Raises:
        ConfigError: One of them cannot be asked.
    """
    from dataclasses import fields

    from ..client import LLMClient
    from ..config import Config, resolve_pool
    from ..options import EndpointConfig

    config = config or Config()
    entries = resolve_pool(config, endpoints)
    for position, entry in enumerate(entries):
        _provider_at(config.place(f"batch.endpoints[{position}].provider"), entry.provider, entry.base_url, entry.model)
    names = [one.name for one in fields(EndpointConfig)]
    configs = [
        EndpointConfig(**{name: getattr(entry, name) for name in names if hasattr(entry, name)}) for entry in entries
    ]
    return LLMClient(endpoints=configs, **_client_options(args, options))


def _client_options(args: argparse.Namespace, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set, by the command line or else by the caller."""
    import os

    from ..errors import ConfigError

    if args.ca_bundle is not None and not os.path.exists(args.ca_bundle):
        raise ConfigError(_("--ca-bundle {path!r} does not exist; name a file of certificates", path=args.ca_bundle))
    flags = {
        "timeout": args.timeout,
        "total_timeout": args.total_timeout,
        "retry_times": args.retry_times,
        "retry_delay": args.retry_delay,
        "verify": args.ca_bundle,
    }
    given = {**options, **{name: value for name, value in flags.items() if value is not None}}
    return {name: value for name, value in given.items() if value is not None}
