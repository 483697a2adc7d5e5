"""The file that `flexllm pricing --update` writes: prices that were fetched after the package was made."""

from __future__ import annotations

import logging
import os

from ..errors import ConfigError
from ..files import replace_file
from ..language import _
from ..system_errors import reason_of
from .rows import PriceList, read_list, write_list

FETCHED_PATH = "~/.flexllm/prices.json"
"""Not expanded, so that help and man page are the same on every machine."""

_log = logging.getLogger(__name__)


def fetched_list(path: str = FETCHED_PATH) -> PriceList | None:
    """Return what was fetched, None if nothing was. A file that cannot be read costs a warning, and counts as none."""
    place = os.path.expanduser(path)
    if place.startswith("~"):  # there is no home
        return None
    try:
        with open(place, "rb") as file:
            return read_list(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ConfigError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else error
        _log.warning("fetched prices in %s are left out: %s; 'flexllm pricing --update' writes them anew", path, reason)
        return None


def keep_list(prices: PriceList, about: str, path: str = FETCHED_PATH) -> None:
    """Write what was fetched; whoever reads meanwhile finds the old file or the new one, whole.

    Raises:
        ConfigError: There is no home folder to write it to.
        OSError: It could not be written. The file is as it was.
    """
    place = os.path.realpath(os.path.expanduser(path))
    if os.path.expanduser(path).startswith("~"):
        raise ConfigError(_("there is no home folder for {path}; set HOME", path=path))
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    replace_file(place, (write_list(prices, about).encode(),), mode=0o600)
