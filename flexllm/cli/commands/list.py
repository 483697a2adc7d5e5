"""`flexllm list`: the models of the configuration file, and what would be asked."""

from __future__ import annotations

import argparse

from ...language import _
from ..common import add_endpoint_options, add_talk_options
from ..output import complain, print_data, print_json, talk

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...config import BatchEndpoint, Config, ModelEntry


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "list",
        help=_("list the models of the configuration file"),
        description=_(
            "List the models of the configuration file, the default one marked with a star, and the endpoints that "
            "flexllm batch asks together, if there are any. With --resolve, or with any option that says whom to ask, "
            "tell instead what flexllm ask and flexllm batch would use, and where each value comes from. Keys are "
            "masked, and no api_key_cmd is run."
        ),
        epilog=_("Examples: flexllm list; flexllm list --resolve -m gpt-4"),
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ids", action="store_true", help=_("print the ids of the models alone, one a line"))
    what.add_argument(
        "--resolve", action="store_true", help=_("show the values that would be used, and where each comes from")
    )
    add_endpoint_options(parser)
    add_talk_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the models, or what would be used."""
    if args.ids:
        return _print_ids(args)
    from ...config import load_config
    from ..logs import set_up_logging

    set_up_logging(args)
    config = load_config(args.config)
    if args.resolve or any(getattr(args, name) is not None for name in _WHOM):
        return _print_resolved(args, config)
    if args.json:
        print_json(_as_json(config))
        return 0
    if config.models or config.batch.endpoints:
        print_data("\n".join(_told(config)))
    if not args.quiet:
        _tell_more(config)
    return 0


_WHOM = (
    "model", "base_url", "api_key", "provider", "ca_bundle", "timeout", "total_timeout", "retry_times", "retry_delay",
)  # fmt: skip


def _print_ids(args: argparse.Namespace) -> int:
    """Print ids as fast as it goes: a shell waits for them at each press of Tab."""
    from ...configfile.ids import listed_ids

    if args.log_file is not None:
        from ..logs import set_up_logging

        set_up_logging(args)
    if (option := next((name for name in _WHOM if getattr(args, name) is not None), None)) is not None:
        from ...errors import ConfigError

        raise ConfigError(
            _(
                "--ids prints what the file has, whatever --{option} says; leave one of them out",
                option=option.replace("_", "-"),
            )
        )
    ids = listed_ids(args.config)
    if args.json:
        print_json(ids)
    elif ids:
        print_data("\n".join(ids))
    return 0


def _print_resolved(args: argparse.Namespace, config: Config) -> int:
    from ..exits import CONFIG
    from ..resolved import resolve, told

    found = resolve(args, config)
    if args.json:
        print_json(found)
    elif "problem" in found["ask"] and "problem" in found["batch"]:
        complain(found["ask"]["problem"])
    else:
        print_data(told(found))
    return CONFIG if "problem" in found["ask"] and "problem" in found["batch"] else 0


# --- what the file says


def _told(config: Config) -> Iterator[str]:
    from ..tables import table

    if config.models:
        default = _default_id(config)
        lines = [("", "id", "name" if any(one.name != one.id for one in config.models) else "", "provider", "base_url")]
        for entry in config.models:
            star, name = "*" if entry.id == default else "", entry.name if entry.name != entry.id else ""
            lines.append((star, entry.id, name, entry.provider, entry.base_url or "-"))
        yield table(lines)
    if config.models and config.batch.endpoints:
        yield ""
    if config.batch.endpoints:
        yield _("flexllm batch asks these together, unless -m or --base-url names another:")
        yield table([("model", "base_url", _("limits")), *map(_endpoint_line, config.batch.endpoints)], "  ")


def _endpoint_line(endpoint: BatchEndpoint) -> tuple[str, str, str]:
    names = (
        "concurrency_limit", "max_qps", "min_qps", "max_rpm", "max_tpm", "max_input_tpm", "max_output_tpm", "timeout",
    )  # fmt: skip
    limits = [f"{name} {getattr(endpoint, name):g}" for name in names if getattr(endpoint, name) is not None]
    limits += [] if endpoint.weight == 1.0 else [f"weight {endpoint.weight:g}"]
    return (endpoint.model or "-", endpoint.base_url, ", ".join(limits))


def _tell_more(config: Config) -> None:
    """Say what the list does not show, and how to begin where there is none."""
    from ...config.environment import read_environment
    from ..precedence import what_goes_before

    if config.models:
        if (sentence := what_goes_before(config)) is not None:
            talk(sentence)
    elif (named := read_environment().base_url) is not None:
        talk(
            _(
                "There are no models in {file}; {source} is set, and names the server that is asked.",
                file=config.file,
                source=named.source,
            )
        )
    elif not config.batch.endpoints:
        talk(
            _(
                "There are no models in {file} yet. To begin, run flexllm init, or set FLEXLLM_BASE_URL, "
                "FLEXLLM_API_KEY and FLEXLLM_MODEL.",
                file=config.file,
            )
        )


def _default_id(config: Config) -> str | None:
    """Return the id of the default entry; None if there is none, or one cannot tell."""
    from ...errors import ConfigError

    try:
        entry = config.default_entry()
    except ConfigError as error:
        complain(error)
        return None
    return None if entry is None else entry.id


def _as_json(config: Config) -> dict[str, Any]:
    from dataclasses import asdict

    default = _default_id(config)
    batch = {name: value for name, value in asdict(config.batch).items() if value is not None}
    batch["endpoints"] = [_entry_as_json(entry) for entry in config.batch.endpoints]
    return {
        "path": None if config.path is None else str(config.path),
        "default": default,
        "models": [{**_entry_as_json(entry), "is_default": entry.id == default} for entry in config.models],
        "batch": batch,
        "warnings": list(config.warnings),
    }


def _entry_as_json(entry: ModelEntry | BatchEndpoint) -> dict[str, Any]:
    """Return an entry without its key: what it is like, or the variable that holds it."""
    import re
    from dataclasses import asdict

    from ...wire import NO_KEY, mask_key

    is_variable = re.fullmatch(r"\$\{\w+\}", entry.api_key) is not None
    key = entry.api_key if is_variable else None if entry.api_key == NO_KEY else mask_key(entry.api_key)
    return {**asdict(entry), "api_key": key, "api_key_cmd": entry.api_key_cmd is not None}
