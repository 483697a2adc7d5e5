"""`flexllm set-model`: another default model in the configuration file."""

from __future__ import annotations

import argparse

from ...language import _
from ..common import add_config_option
from ..units import words

TYPE_CHECKING = False  # see errors.py

if TYPE_CHECKING:
    from typing import Any

    from ...config import Config


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "set-model",
        help=_("choose the default model"),
        description=_(
            "Make a model of the configuration file the default one. Only the value of 'default' is changed: comments, "
            "order and quotes of the file stay as they are."
        ),
        epilog=_("Example: flexllm set-model gpt-4"),
    )
    parser.add_argument("model", type=words, metavar="ID", help=_("the id of the model, as 'flexllm list' shows it"))
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help=_("print the old and the new default as JSON"))
    parser.set_defaults(run=run, verbose=False, quiet=False)


def run(args: argparse.Namespace) -> int:
    """Change the file."""
    from ...config import load_config
    from ...configfile.edit import set_default
    from ..logs import set_up_logging
    from ..output import print_json, talk
    from ..precedence import what_goes_before

    set_up_logging(args)
    config = load_config(args.config)
    model_id, before = _id_of(config, args.model), config.default
    is_new = before != model_id
    if is_new:
        set_default(config, model_id)
    if args.json:
        print_json({"default": model_id, "previous": before, "path": str(config.path)})
    elif not is_new:
        talk(_("The default model of {file} is {model!r} already.", file=config.file, model=model_id))
    elif before is None:
        talk(_("The default model of {file} is now {model!r}.", file=config.file, model=model_id))
    else:
        talk(
            _(
                "The default model of {file} is now {model!r}; it was {previous!r}.",
                file=config.file,
                model=model_id,
                previous=before,
            )
        )
    if (sentence := what_goes_before(config)) is not None:
        talk(sentence)
    return 0


def _id_of(config: Config, name: str) -> str:
    """Return the id of the entry that is meant by its id or name.

    Raises:
        ConfigError: There is none.
    """
    from ...configfile.values import ids_of
    from ...errors import ConfigError

    if config.path is None:
        raise ConfigError(_("there is no {file}; 'flexllm init' writes one", file=config.file))
    if not config.models:
        raise ConfigError(_("{file} lists no models, so that none of them can be the default", file=config.file))
    entry = config.find(name)
    if entry is None:
        raise ConfigError(
            _(
                "{file} has no model {name!r}; it has {ids}",
                file=config.file,
                name=name,
                ids=ids_of(config.models, name),
            )
        )
    return entry.id
